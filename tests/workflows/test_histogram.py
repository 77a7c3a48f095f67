"""Histograms of layers: whole images, parts, stacks, the table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.workflows.histogram import HistogramRequest, count, to_rows
from napari_cellenhance.workflows.measure import MeasuredImage


def image(name: str, pixels: Any, axes: str = "YX", **more: Any) -> MeasuredImage:
    return MeasuredImage(name=name, image=pixels, axes=axes, **more)


def test_objects_and_ground_add_up_to_all(cells: Any) -> None:
    layers = (image("raw", cells.image),)
    mask = image("mask", cells.labels)
    (everything,) = count(HistogramRequest(images=layers)).curves
    objects, ground = count(HistogramRequest(images=layers, where="both", mask=mask)).curves
    assert (objects.where, ground.where) == ("objects", "ground")
    assert objects.histogram.n_pixels == int((cells.labels > 0).sum())
    assert (objects.histogram.counts + ground.histogram.counts == everything.histogram.counts).all()
    (only,) = count(HistogramRequest(images=layers, where="ground", mask=mask)).curves
    assert (only.histogram.counts == ground.histogram.counts).all()


def test_objects_are_brighter_than_ground_in_the_distribution(cells: Any) -> None:
    objects, ground = count(
        HistogramRequest(images=(image("raw", cells.image),), where="both", mask=image("mask", cells.labels))
    ).curves
    assert (objects.histogram.cumulative <= ground.histogram.cumulative + 1e-9).mean() > 0.95


def test_a_stack_is_counted_as_a_whole_or_by_one_plane(cells: Any) -> None:
    stack = np.stack([cells.image, cells.image + 1000])
    (whole,) = count(HistogramRequest(images=(image("s", stack, "ZYX"),))).curves
    (one,) = count(HistogramRequest(images=(image("s", stack, "ZYX", at=(0, 0, 1)),))).curves
    assert whole.histogram.n_pixels == 2 * one.histogram.n_pixels == stack.size
    assert one.histogram.edges[0] > 1000


def test_images_of_different_size_can_be_drawn_together(cells: Any) -> None:
    curves = count(HistogramRequest(images=(image("a", cells.image), image("b", cells.image[:40] / 5000.0)))).curves
    assert [curve.layer for curve in curves] == ["a", "b"]
    assert curves[1].histogram.edges[-1] <= 1.0


def test_luminance_of_whole_numbers_has_fine_bins() -> None:
    colour = np.random.default_rng(0).integers(0, 9, (30, 30, 3)).astype(np.uint8)
    (curve,) = count(HistogramRequest(images=(image("c", colour, "YXS"),))).curves
    assert len(curve.histogram.counts) == 256
    assert curve.histogram.n_pixels == 900


def test_what_is_missing_is_said(cells: Any) -> None:
    with pytest.raises(ParameterError, match="need a mask"):
        HistogramRequest(images=(image("a", cells.image),), where="objects")
    with pytest.raises(ParameterError, match="no image"):
        HistogramRequest(images=())
    with pytest.raises(ParameterError, match="bins"):
        HistogramRequest(images=(image("a", cells.image),), n_bins=1)
    with pytest.raises(ParameterError, match="where"):
        HistogramRequest(images=(image("a", cells.image),), where="x")  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="same planes"):
        count(HistogramRequest(images=(image("a", cells.image),), where="both", mask=image("m", cells.labels[:5])))


def test_rows_hold_every_bin(cells: Any) -> None:
    result = count(HistogramRequest(images=(image("a", cells.image),), n_bins=8))
    rows = to_rows(result)
    assert len(rows) == len(result.curves[0].histogram.counts)
    assert sum(row["count"] for row in rows) == cells.image.size
    assert rows[-1]["cumulative_share"] == pytest.approx(1.0)
    assert rows[0]["to"] == rows[1]["from"]


def test_cancel_leaves_out_the_images_that_follow(cells: Any) -> None:
    asked = iter([False, True])
    result = count(
        HistogramRequest(images=(image("a", cells.image), image("b", cells.image))),
        is_cancelled=lambda: next(asked),
    )
    assert [curve.layer for curve in result.curves] == ["a"]
    assert not result.is_complete
