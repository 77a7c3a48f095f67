"""Segmenting with a trained model: planes, outputs, objects, windows, cancelling, files; and the model as a filter."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_cellenhance.core.errors import ModelNotFoundError, ParameterError
from napari_cellenhance.core.models.aep import AEP
from napari_cellenhance.core.recipes.protocol import Region
from napari_cellenhance.io.images import read, write
from napari_cellenhance.workflows import enhance, segment_files, segment_model
from napari_cellenhance.workflows.catalog import describe, list_filters
from napari_cellenhance.workflows.painted_layers import normalised
from napari_cellenhance.workflows.requests import EnhanceRequest
from napari_cellenhance.workflows.segment_model import (
    OUTPUTS,
    InstanceOptions,
    SegmentModelRequest,
    list_segmenters,
    open_segmenter,
)
from napari_cellenhance.zoo.weights import save_user_model


@pytest.fixture
def model(cells: Any) -> str:
    """A model with random weights, balanced so that it finds every class somewhere in the cells."""
    torch.manual_seed(4)
    module = AEP(3).eval()
    x = torch.from_numpy(normalised(cells.image))[None, None]
    with torch.no_grad():
        branches = module(x).branches[0]
        module.first.out.bias -= branches[0].mean(dim=(1, 2))
        module.second.out.bias -= module(x).branches[0, 1:].mean(dim=(0, 2, 3))
    card = {
        "id": "toy", "title": "Toy", "summary": "For tests.", "version": "1.0.0", "recipe": "aep",
        "architecture": module.architecture, "license": "BSD-3-Clause",
        "normalization": {"name": "percentile", "parameters": {"lo": 0.1, "hi": 99.9, "clip": True}},
        "strength": {"minimum": 0.0, "default": 1.0, "maximum": 1.0},
        "classes": [
            {"value": 1, "name": "ground", "filter": 1}, {"value": 2, "name": "cell", "filter": 2},
            {"value": 5, "name": "edge", "filter": 2},
        ],
    }  # fmt: skip
    save_user_model(module.state_dict(), card)
    return "toy"


@pytest.fixture
def request_(cells: Any, model: str) -> SegmentModelRequest:
    return SegmentModelRequest(image=cells.image, axes="YX", model_id=model, precision="float32", device="cpu")


def test_all_outputs_have_the_place_of_the_image(request_: SegmentModelRequest, cells: Any) -> None:
    result = segment_model.run(replace(request_, outputs=frozenset(OUTPUTS)))
    shape = cells.image.shape
    assert result.classes.shape == shape and set(np.unique(result.classes)) <= {1, 2, 5}
    assert len(np.unique(result.classes)) > 1, "the toy must tell something apart"
    assert result.instances is not None and result.instances.shape == shape
    assert {name: each.shape for name, each in result.maps.items()} == {
        "probabilities": (3, *shape), "translated": (3, *shape), "filters": (3, *shape), "branches": (4, *shape)
    }  # fmt: skip
    assert result.maps["probabilities"].sum(axis=0) == pytest.approx(np.ones(shape), abs=1e-5)
    assert result.names["probabilities"] == ("ground", "cell", "edge")
    assert result.names["translated"] == ("filter 1", "filter 2 (ground)", "filter 3 (cell, edge)")
    assert result.names["branches"][0] == "image"
    assert result.provenance["model"] == "toy" and result.provenance["step"] == "segment"
    json.dumps(result.provenance, allow_nan=False)


def test_only_what_was_asked_for_is_kept(request_: SegmentModelRequest) -> None:
    result = segment_model.run(request_)
    assert result.instances is None and result.maps == {} and result.names == {}


def test_each_plane_of_a_stack_is_the_plane_alone(request_: SegmentModelRequest, cells: Any) -> None:
    alone = segment_model.run(request_).classes
    stack = np.stack([cells.image, cells.image // 3, cells.image[::-1]])
    result = segment_model.run(replace(request_, image=stack, axes="TYX", outputs=frozenset({"probabilities"})))
    assert result.axes == "TYX" and result.maps["probabilities"].shape == (3, *stack.shape)
    assert np.array_equal(result.classes[0], alone)
    assert (result.classes[1] == alone).mean() > 0.99, "each plane has its own contrast"
    pooled = segment_model.run(replace(request_, image=stack, axes="TYX", statistics="stack"))
    assert not np.array_equal(pooled.classes[1], result.classes[1])


def test_a_window_equals_the_same_window_of_the_whole(request_: SegmentModelRequest) -> None:
    whole = segment_model.run(request_).classes
    part = segment_model.run(replace(request_, region=Region(11, 61, 23, 90), tile_px=24)).classes
    assert (part == whole[11:61, 23:90]).mean() > 0.999


def test_objects_are_numbered_along_all_planes(request_: SegmentModelRequest, cells: Any) -> None:
    stack = np.stack([cells.image, cells.image])
    one = segment_model.run(replace(request_, outputs=frozenset({"instances"})))
    two = segment_model.run(replace(request_, image=stack, axes="ZYX", outputs=frozenset({"instances"})))
    assert one.instances is not None and two.instances is not None
    n = int(one.instances.max())
    assert n > 0 and int(two.instances.max()) == 2 * n
    assert np.array_equal(two.instances[1] > 0, two.instances[0] > 0) and two.instances[1].max() > n
    big = replace(request_, outputs=frozenset({"instances"}), instances=InstanceOptions(min_size_px=10**6))
    assert not np.asarray(segment_model.run(big).instances).any()
    with pytest.raises(ParameterError, match="no class 4"):
        segment_model.run(
            replace(request_, outputs=frozenset({"instances"}), instances=InstanceOptions(object_value=4))
        )


def test_a_cancel_keeps_what_is_done(request_: SegmentModelRequest, cells: Any) -> None:
    stack = np.stack([cells.image] * 3)
    n_asked = 0

    def is_cancelled() -> bool:
        nonlocal n_asked
        n_asked += 1
        return n_asked > 3

    result = segment_model.run(replace(request_, image=stack, axes="ZYX"), is_cancelled=is_cancelled)
    assert not result.is_complete and result.provenance["is_complete"] is False
    assert result.classes[0].all() and not result.classes[2].any()


def test_flat_planes_and_bad_pixels(request_: SegmentModelRequest, cells: Any) -> None:
    flat = segment_model.run(replace(request_, image=np.ones((40, 40))))
    assert not flat.classes.any() and "single grey value" in flat.warnings[0]
    bad = cells.image.astype(np.float32)
    bad[5, 5] = np.nan
    assert segment_model.run(replace(request_, image=bad)).classes.all()


def test_memory_shortage_halves_the_tiles(request_: SegmentModelRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_segmenter("toy", "cpu", "float32")
    right = segment_model.apply(request_, opened)
    segment = type(opened.segmenter).segment

    def scarce(self: Any, plane: Any, *, tile_px: int, **rest: Any) -> Any:
        if tile_px > 128:
            raise MemoryError
        return segment(self, plane, tile_px=tile_px, **rest)

    monkeypatch.setattr(type(opened.segmenter), "segment", scarce)
    result = segment_model.apply(request_, opened)
    assert np.array_equal(result.classes, right.classes) and result.provenance["tile_px"] == 128
    assert "Memory ran out" in result.warnings[0]


def test_unknown_models_and_outputs_are_refused(request_: SegmentModelRequest) -> None:
    with pytest.raises(ModelNotFoundError, match="toy"):
        open_segmenter("nunet")
    with pytest.raises(ParameterError, match="no output 'depth'"):
        replace(request_, outputs=frozenset({"depth"}))
    assert "toy" in [card.id for card in list_segmenters()]


def test_the_record_names_the_earlier_step(request_: SegmentModelRequest) -> None:
    assert segment_model.run(request_).provenance["earlier"] is None
    chain = {"step": "denoise", "model": "clean", "earlier": {"filter": "dog"}}
    assert segment_model.run(replace(request_, earlier=chain)).provenance["earlier"] == chain


# --- the model as a filter ------------------------------------------------------------------


def test_the_learned_filter_enhances(request_: SegmentModelRequest, cells: Any) -> None:
    info = describe("toy").info
    assert info.group == "AEP" and info.strength.maximum == 1 and "toy" in {one.id for one in list_filters()}
    job = EnhanceRequest(image=cells.image, axes="YX", filter_id="toy", precision="float32", device="cpu")
    full, none = enhance.run(job), enhance.run(replace(job, strength=0.0))
    assert np.array_equal(none.image, cells.image)
    maps = segment_model.run(replace(request_, outputs=frozenset({"translated"}))).maps["translated"]
    assert full.image == pytest.approx((maps[2] - 0.5) / 0.5, abs=1e-4), "the filter of the first class of objects"
    half = enhance.run(replace(job, strength=0.5)).image
    weak = enhance.run(replace(job, strength=1e-6)).image
    assert half == pytest.approx((full.image + weak) / 2, abs=1e-4)
    tiled = enhance.run(replace(job, tile_px=32)).image
    assert tiled == pytest.approx(full.image, abs=1e-5)


# --- files ----------------------------------------------------------------------------------


def test_files_are_segmented_and_say_how(request_: SegmentModelRequest, cells: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.tif", cells.image, "YX", dtype="keep", pixel_size_um={"Y": 0.5, "X": 0.5})
    (tmp_path / "broken.tif").write_bytes(b"no image")
    settings = replace(request_, image=None, axes="", outputs=frozenset({"probabilities"}))
    job = segment_files.SegmentFilesRequest(
        source=tmp_path, target=tmp_path / "out", instances=tmp_path / "objects", settings=settings
    )
    result = segment_files.run(job)
    assert [outcome.is_done for outcome in result.outcomes] == [True, True, False]
    classes = read(tmp_path / "out" / "a.ome.tif")
    assert np.array_equal(classes.image, segment_model.run(request_).classes)
    assert classes.provenance is not None and classes.provenance["model"] == "toy"
    assert classes.pixel_size_um == {"Y": 0.5, "X": 0.5}
    maps = read(tmp_path / "out" / "a_probabilities.ome.tif")
    assert maps.axes == "CYX" and maps.channel_names == ("ground", "cell", "edge")
    assert (tmp_path / "objects" / "b_labels.ome.tif").is_file()
    again = segment_files.run(job)
    assert "exists already" in again.outcomes[0].error
