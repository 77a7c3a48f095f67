"""Denoising and learning to from Python: the same as the workflows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import napari_cellenhance
from napari_cellenhance.core.errors import ChecksumError
from napari_cellenhance.workflows import denoise
from napari_cellenhance.workflows.denoise import DenoiseRequest, open_denoiser
from napari_cellenhance.zoo.manifest import find_model

SMALL = {
    "n_steps": 3, "batch_size": 2, "patch_px": 16, "width": 4, "validate_every": 3, "precision": "float32",
    "recipe_options": {"n_validation": 2},
}  # fmt: skip


def test_what_is_trained_denoises_as_the_workflow_does(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).normal(100, 9, (2, 32, 36)).astype(np.float32)
    name = napari_cellenhance.train_n2v(list(stack), tmp_path, model_id="mine", variant="n2v", **SMALL)
    assert name == "mine" and find_model(name).training["variant"] == "n2v"
    found = napari_cellenhance.denoise(stack, name, axes="ZYX", device="cpu", precision="float32")
    wanted = denoise.run(DenoiseRequest(image=stack, axes="ZYX", model_id=name, device="cpu", precision="float32"))
    assert np.array_equal(found, wanted.image)
    by_card = napari_cellenhance.denoise(
        stack, str(tmp_path / "mine.json"), axes="ZYX", device="cpu", precision="float32"
    )
    assert np.array_equal(by_card, found)
    stack[0, 0, 0] = np.nan
    with pytest.warns(UserWarning, match="no numbers"):
        napari_cellenhance.denoise(stack, name, axes="ZYX", device="cpu")


def test_a_card_without_its_weights_is_refused(tmp_path: Path) -> None:
    napari_cellenhance.train_n2v(np.random.default_rng(0).random((32, 32)), tmp_path, install=False, **SMALL)
    weights = next(path for path in tmp_path.glob("n2v-custom-*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-4] + b"oops")
    with pytest.raises(ChecksumError, match="keep the two files of a training together"):
        open_denoiser(str(tmp_path / "n2v-custom.json"))
