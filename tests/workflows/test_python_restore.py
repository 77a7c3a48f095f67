"""Restoring and training a restoration from Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import napari_cellenhance
from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.microscope import Optics
from napari_cellenhance.workflows import restore as restoring
from napari_cellenhance.workflows.restore import RestoreRequest
from napari_cellenhance.workflows.synthesize import Synthesis
from napari_cellenhance.zoo.manifest import read_user_card

SMALL: Any = {
    "n_steps": 4, "batch_size": 2, "patch_px": 16, "width": 4, "kernel_px": 3, "validate_every": 2,
    "precision": "float32", "recipe_options": {"n_validation": 3},
}  # fmt: skip


def _image(seed: int) -> np.ndarray:
    image = gaussian_filter(np.random.default_rng(seed).random((32, 36)), 2)
    scaled: np.ndarray = 100 + 1000 * (image - image.min()) / np.ptp(image)
    return scaled.astype(np.uint16)


def test_clean_arrays_train_a_model_that_restores_with_its_uncertainty(tmp_path: Path) -> None:
    clean = [_image(i) for i in range(3)]
    synthesis = Synthesis(optics=Optics(kind="none"))
    name = napari_cellenhance.train_care(clean, tmp_path, model_id="mine", synthesis=synthesis, **SMALL)
    assert name == "mine" and (tmp_path / "exposures.json").is_file()
    image, uncertainty = napari_cellenhance.restore(clean[0], name)
    assert uncertainty is not None and image.shape == uncertainty.shape == (32, 36) and uncertainty.min() > 0
    by_workflow = restoring.run(RestoreRequest(image=clean[0], axes="YX", model_id=name))
    np.testing.assert_array_equal(image, by_workflow.image)
    with pytest.warns(UserWarning, match="applied 2 times"):
        napari_cellenhance.restore(clean[0], name, repeats=2)


def test_real_pairs_are_used_as_they_are(tmp_path: Path) -> None:
    clean = [_image(i) for i in range(3)]
    poor = [image // 2 for image in clean]
    napari_cellenhance.train_care(clean, tmp_path, poor=poor, install=False, loss="mae", **SMALL)
    assert not (tmp_path / "exposures.json").exists(), "nothing is made up where pairs are given"
    _, uncertainty = napari_cellenhance.restore(poor[0], str(tmp_path / "care-custom.json"))
    assert uncertainty is None, "a plain error knows no uncertainty"
    card = read_user_card(tmp_path / "care-custom.json")
    assert card.training["recipe"]["clean_scale"] == "poor"  # type: ignore[index,call-overload]
    napari_cellenhance.train_care(clean, tmp_path, poor=poor, install=False, clean_scale="own", **SMALL)
    assert read_user_card(tmp_path / "care-custom.json").training["recipe"]["clean_scale"] == "own"  # type: ignore[index,call-overload]
    with pytest.raises(ParameterError, match="2 poor and 3 clean"):
        napari_cellenhance.train_care(clean, tmp_path, poor=poor[:2], **SMALL)
