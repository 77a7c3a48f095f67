"""Images on disk, and a NU-Net under its real name where the manifest holds none yet."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

AWKWARD_FOLDER = "Zellen, naïve 細胞"
"""Blanks, a comma and letters beyond ASCII."""


@pytest.fixture
def nunet_id(_own_folders: None) -> str:
    """Id of a NU-Net that can run: the project's, else one with random weights."""
    from napari_cellenhance.workflows.requests import DEFAULT_FILTER
    from napari_cellenhance.zoo.cache import find_local
    from napari_cellenhance.zoo.manifest import list_models

    if any(card.id == DEFAULT_FILTER and find_local(card.file) is not None for card in list_models()):
        return DEFAULT_FILTER
    import torch

    from napari_cellenhance.core.models.nunet import NUNet
    from napari_cellenhance.zoo.weights import save_user_model

    torch.manual_seed(0)
    knots = [1.0, 5.5, 10.0]
    card = {
        "id": "nunet", "title": "NU-Net (random weights)", "summary": "For tests.", "version": "0.0.1",
        "recipe": "nunet",
        "architecture": {"name": "nunet", "conditioning": "head", "knots": knots, "output": "sigmoid"},
        "normalization": {"name": "percentile", "parameters": {"lo": 0.1, "hi": 99.9}},
        "strength": {"default": 5.0, "maximum": 10.0, "knots": knots, "identity_below": 1.0},
        "license": "BSD-3-Clause", "object_diameter_px": 20.0,
    }  # fmt: skip
    network = NUNet(conditioning="head", knots=tuple(knots), output="sigmoid")
    return save_user_model(network.state_dict(), card, folder=Path(os.environ["CELLENHANCE_MODELS"])).id


@pytest.fixture
def picture(cells: Any) -> NDArray[np.uint16]:
    """Bright discs on an uneven, noisy ground; shape (96, 112)."""
    image: NDArray[np.uint16] = cells.image
    return image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder with an awkward name."""
    place = tmp_path / AWKWARD_FOLDER
    place.mkdir()
    return place


@pytest.fixture
def terminal() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``cellenhance`` as a program of its own."""

    def run(*words: Any, code: str = "from napari_cellenhance.cli import main; main()") -> Any:
        environment = os.environ | {"PYTHONUTF8": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
        command = [sys.executable, "-c", code, *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=environment, timeout=120)

    return run
