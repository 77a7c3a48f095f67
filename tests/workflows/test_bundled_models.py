"""The shipped weights on the shipped pictures: precision, tiles and preview hold for what users really run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import napari_cellenhance
from napari_cellenhance.core.metrics import auroc
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.io import images
from napari_cellenhance.workflows import catalog, enhance, requests, segment_model
from napari_cellenhance.workflows.preview import PreviewRequest, PreviewSession
from napari_cellenhance.workflows.requests import EnhanceRequest
from napari_cellenhance.workflows.segment_model import SegmentModelRequest
from napari_cellenhance.zoo.manifest import ClassCard, load_manifest

STEP = 1.0 / 255.0
BUNDLED = [card.id for card in load_manifest().models if card.bundled and card.recipe == "nunet"]
SEGMENTERS = [card.id for card in load_manifest().models if card.bundled and card.recipe == "aep"]
SAMPLES = Path(napari_cellenhance.__file__).parent / "samples"


def plane(name: str) -> NDArray[np.float32]:
    """Middle of the first channel, or of the mean colour, of a sample picture; at most 200 px wide."""
    file = images.read(SAMPLES / f"{name}.tif")
    image = np.asarray(file.image, np.float32)
    if "S" in file.axes:
        image = image.mean(axis=file.axes.index("S"))
    while image.ndim > 2:
        image = image[0]
    y, x = ((n - min(n, 200)) // 2 for n in image.shape)
    return image[y : y + 200, x : x + 184]


def request(model: str, image: NDArray[np.float32], precision: str, **changes: object) -> EnhanceRequest:
    base = EnhanceRequest(image=image, axes="YX", filter_id=model, device="cpu", strength=8.0)
    return dataclasses.replace(base, precision=precision, **changes)  # type: ignore[arg-type]


def test_the_better_model_is_offered_first_and_says_what_it_is() -> None:
    assert BUNDLED == ["nunet-guided", "nunet"]
    assert BUNDLED[0] == requests.DEFAULT_FILTER == catalog.list_filters()[0].id
    assert "taught by outlined objects" in catalog.describe("nunet-guided").info.summary
    assert "Self-supervised" in catalog.describe("nunet").info.summary


@pytest.mark.parametrize("model", BUNDLED)
def test_the_scores_on_the_card_are_above_the_raw_image_under_noise(model: str) -> None:
    card = next(card for card in load_manifest().models if card.id == model)
    rows: list[dict[str, Any]] = [row for row in card.scores["rows"] if row["quality"] == "medium noise"]
    assert {row["filter_id"] for row in rows} == {"raw", model}
    for source in {row["source"] for row in rows}:
        here = [row for row in rows if row["source"] == source]
        raw = next(row for row in here if row["filter_id"] == "raw")
        for row in here:
            assert row["otsu_iou"] >= raw["otsu_iou"] and row["auroc"] >= raw["auroc"], (source, row["strength"])


@pytest.mark.parametrize("model", BUNDLED)
@pytest.mark.parametrize(("name", "dark"), [("nuclei", False), ("histology", True), ("ht29", False)])
def test_bf16_stays_within_two_grey_values_of_fp32(model: str, name: str, dark: bool) -> None:
    image = plane(name)
    exact = enhance.run(request(model, image, "float32", objects_are_dark=dark)).image
    quick = enhance.run(request(model, image, "bfloat16", objects_are_dark=dark)).image
    assert exact.std() > 0.05  # there is something to see
    assert np.abs(quick - exact).max() <= 2 * STEP
    assert np.abs(quick - exact).max() > 0  # bf16 was really used


@pytest.mark.parametrize("model", BUNDLED)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_preview_and_tiles_equal_the_run(model: str, precision: str) -> None:
    image, window = plane("nuclei"), Region(30, 151, 40, 184)
    whole = enhance.run(request(model, image, precision)).image
    tiled = enhance.run(request(model, image, precision, tile_px=96)).image
    shown = PreviewSession().update(PreviewRequest(enhance=request(model, image, precision, region=window)))
    assert np.abs(tiled - whole).max() <= STEP
    assert np.abs(shown.image - whole[window.slices]).max() <= STEP


@pytest.mark.parametrize("model", BUNDLED)
def test_the_slider_is_continuous(model: str) -> None:
    spec = catalog.describe(model)
    image = plane("nuclei")
    opened = catalog.open_enhancer(model, "cpu", "float32")
    stops = sorted({0.01, spec.identity_below, *spec.info.strength.knots} - {0.0})
    for stop in stops:
        near = [
            enhance.apply(request(model, image, "float32", strength=strength), opened).image
            for strength in (max(stop - 0.01, 1e-3), stop)
        ]
        assert np.abs(near[0] - near[1]).max() < 5 * STEP


@pytest.mark.parametrize("model", SEGMENTERS)
def test_segmenters_say_how_good_they_are_and_what_they_were_taught(model: str) -> None:
    card = next(card for card in load_manifest().models if card.id == model)
    assert card.scores["test"] and 0 < float(str(card.scores["mean_iou"])) < 1
    assert "Command: cellenhance train aep" in str(card.training["notes"])
    assert all(one.filter is not None for one in card.classes)


def test_the_nuclei_of_the_sample_are_found() -> None:
    from scipy.ndimage import gaussian_filter
    from skimage.filters import threshold_otsu

    image = plane("nuclei")
    request_ = SegmentModelRequest(
        image=image, axes="YX", model_id="aep-nuclei", outputs=frozenset({"instances", "translated"}), device="cpu"
    )
    result = segment_model.run(request_)
    smooth = gaussian_filter(np.log(image + 1), 1)
    bright = smooth > threshold_otsu(smooth)
    found = result.classes == 2
    assert (found & bright).sum() / found.sum() > 0.9, "what it calls nucleus is bright"
    assert 5 <= int(np.asarray(result.instances).max()) <= 60
    shown = next(one.filter for one in describe_classes("aep-nuclei") if one.value == 2)
    translated = result.maps["translated"][shown or 0]
    assert auroc(translated, found) > 0.9, "the enhanced image shows nuclei bright"


def describe_classes(model: str) -> tuple[ClassCard, ...]:
    return next(card.classes for card in load_manifest().models if card.id == model)
