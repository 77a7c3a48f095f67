"""A NU-Net with seeded random weights in the user's models folder, and pictures for it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_cellenhance.core.models.nunet import NUNet

KNOTS = (0.0, 5.0, 10.0)


def seeded_network() -> NUNet:
    """Strength-conditioned network whose output spans much of the grey scale, as a trained one does."""
    torch.manual_seed(3)
    net = NUNet(conditioning="head", knots=KNOTS, output="sigmoid").eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if parameter.dim() < 4:
                parameter.add_(0.1 * torch.randn_like(parameter))
            elif name == "head.weight":
                parameter.mul_(40.0 * torch.tensor([0.5, 1.0, 1.6]).reshape(3, 1, 1, 1))
    return net


@pytest.fixture
def seeded_model() -> str:
    """Store the network as a model of the user; its id."""
    from napari_cellenhance.zoo.weights import save_user_model

    card = {
        "id": "seeded",
        "title": "Seeded",
        "summary": "Random weights for tests.",
        "version": "1.0",
        "recipe": "nunet",
        "architecture": {"name": "nunet", "conditioning": "head", "knots": list(KNOTS), "output": "sigmoid"},
        "normalization": {"name": "percentile", "parameters": {"lo": 0.1, "hi": 99.9, "clip": True}},
        "strength": {"default": 6.0, "maximum": 10.0, "knots": list(KNOTS), "identity_below": 2.0},
        "license": "CC0-1.0",
        "citation": "Nobody 2026",
        "object_diameter_px": 20,
    }
    return save_user_model(seeded_network().state_dict(), card).id


@pytest.fixture
def stack() -> Callable[..., NDArray[np.uint16]]:
    """Maker of blob pictures of any shape; planes differ in brightness and content."""

    def make(*shape: int, seed: int = 0) -> NDArray[np.uint16]:
        rng = np.random.default_rng(seed)
        planes = np.empty((int(np.prod(shape[:-2], dtype=int)), *shape[-2:]))
        y, x = np.mgrid[: shape[-2], : shape[-1]]
        for i, plane in enumerate(planes):
            plane[:] = 100 + x + rng.normal(0, 10, plane.shape)
            for _ in range(12):
                cy, cx, r = rng.uniform(0, shape[-2]), rng.uniform(0, shape[-1]), rng.uniform(3, 8)
                plane += (300 + 80 * i) * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * r**2))
        return planes.clip(0, 65535).astype(np.uint16).reshape(shape)

    return make
