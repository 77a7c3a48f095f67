"""Learning and segmenting from Python: the same as the workflows, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_cellenhance
from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.workflows import segment_model
from napari_cellenhance.workflows.segment_model import InstanceOptions, SegmentModelRequest
from napari_cellenhance.zoo.manifest import find_model

SMALL = {"n_steps": 3, "batch_size": 2, "crop_px": 32, "validate_every": 3, "precision": "float32"}


@pytest.fixture
def strokes(cells: Any) -> np.ndarray:
    labels = np.where(cells.labels > 0, 2, 1)
    labels[1::3] = 0
    return labels


def test_what_is_trained_segments_as_the_workflow_does(cells: Any, strokes: np.ndarray, tmp_path: Path) -> None:
    name = napari_cellenhance.train_aep(
        [cells.image], [strokes], tmp_path, model_id="mine", class_names={2: "cell"}, **SMALL
    )
    assert name == "mine" and find_model(name).classes[1].name == "cell"
    plain: Any = {"device": "cpu", "precision": "float32"}
    classes = napari_cellenhance.segment(cells.image, name, **plain)
    wanted = segment_model.run(
        SegmentModelRequest(
            image=cells.image, axes="YX", model_id=name, outputs=frozenset({"instances", "translated"}), **plain
        )
    )
    assert classes.dtype == np.int32 and np.array_equal(classes, wanted.classes)
    objects = napari_cellenhance.segment(cells.image, name, output="instances", **plain)
    assert objects.dtype == np.uint32 and np.array_equal(objects, wanted.instances)
    translated = napari_cellenhance.segment(cells.image, name, output="translated", **plain)
    assert np.array_equal(translated, wanted.maps["translated"])
    none = napari_cellenhance.segment(
        cells.image, name, output="instances", instances=InstanceOptions(min_size_px=10**6), **plain
    )
    assert not none.any()


def test_what_the_workflow_remarks_becomes_a_warning(cells: Any, strokes: np.ndarray, tmp_path: Path) -> None:
    napari_cellenhance.train_aep(cells.image, strokes, tmp_path, model_id="mine", **SMALL)
    with pytest.warns(UserWarning, match="single grey value"):
        napari_cellenhance.segment(np.ones((40, 40)), "mine")


def test_images_and_labels_belong_together(cells: Any, strokes: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="1 label images were given for 2 images"):
        napari_cellenhance.train_aep([cells.image] * 2, [strokes], tmp_path)


def test_few_labels_and_a_denoiser_make_a_model_of_objects(cells: Any, tmp_path: Path) -> None:
    few: Any = {"n_steps": 2, "batch_size": 2, "validate_every": 2, "width": 4, "precision": "float32"}
    denoiser = napari_cellenhance.train_n2v(
        cells.image, tmp_path / "n2v", model_id="quiet", patch_px=16, recipe_options={"n_validation": 2}, **few
    )
    common: Any = {"crop_px": 32, "depth": 1, **few}
    name = napari_cellenhance.train_voidseg(
        cells.image, cells.labels, tmp_path / "seg", denoiser=denoiser, model_id="mine", **common
    )
    card = find_model(name)
    assert card.training["scheme"] == "sequential" and card.training["denoiser"]["id"] == "quiet"
    objects = napari_cellenhance.segment(cells.image, name, output="instances", device="cpu", precision="float32")
    assert objects.dtype == np.uint32 and objects.shape == cells.image.shape
    strokes = np.where(cells.labels > 0, cells.labels + 1, 1)
    plain = napari_cellenhance.train_voidseg(
        cells.image, strokes, tmp_path / "plain", painted_as="strokes", model_id="plain", **common
    )
    assert find_model(plain).training["scheme"] == "baseline"
    with pytest.raises(ParameterError, match="baseline takes none"):
        napari_cellenhance.train_voidseg(
            cells.image, cells.labels, tmp_path / "no", denoiser=denoiser, scheme="baseline", **common
        )
