"""Segmentation before and after: labels, average precision, SEG."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.workflows.measure import MeasuredImage
from napari_cellenhance.workflows.requests import SegmentOptions
from napari_cellenhance.workflows.segment import SegmentRequest, segment_layers, to_rows


def image(name: str, pixels: Any, axes: str = "YX", **more: Any) -> MeasuredImage:
    return MeasuredImage(name=name, image=pixels, axes=axes, **more)


def test_a_clean_image_scores_better_than_a_noisy_one(cells: Any, rng: np.random.Generator) -> None:
    noisy = cells.image + rng.normal(0, 500, cells.image.shape)
    poor, good = segment_layers(
        SegmentRequest(
            images=(image("noisy", noisy), image("clean", (cells.labels > 0) * 0.9)), truth=image("t", cells.labels)
        )
    ).segmentations
    assert good.average_precision == good.seg == 1.0
    assert good.n_objects == len(cells.centres)
    assert ((good.labels > 0) == (cells.labels > 0)).all()
    assert poor.average_precision < 0.9
    assert poor.seg < 0.9


def test_counts_of_planes_are_added_up(cells: Any) -> None:
    """A plane of six found objects and a plane of six missed ones: 6 of 12, not a mean of planes with weights."""
    disc = (cells.labels > 0) * 0.9
    first_missing = np.where(cells.labels == 1, 0, disc)
    result = segment_layers(
        SegmentRequest(
            images=(image("s", np.stack([disc, first_missing]), "ZYX"),),
            truth=image("t", np.stack([cells.labels, cells.labels]), "ZYX"),
        )
    )
    (found,) = result.segmentations
    n = len(cells.centres)
    assert found.average_precision == pytest.approx((2 * n - 1) / (2 * n))
    assert found.seg == pytest.approx((2 * n - 1) / (2 * n))
    assert found.labels.shape == (2, *cells.labels.shape)
    assert len(np.unique(found.labels)) - 1 == found.n_objects == 2 * n - 1, "ids are unique over planes"


def test_one_plane_leaves_the_others_empty(cells: Any) -> None:
    stack = np.stack([(cells.labels > 0) * 0.9] * 2)
    (found,) = segment_layers(SegmentRequest(images=(image("s", stack, "TYX", at=(1, 0, 0)),))).segmentations
    assert found.labels[0].max() == 0
    assert found.labels[1].max() == len(cells.centres)
    assert np.isnan(found.average_precision)


def test_options_are_used(cells: Any) -> None:
    options = SegmentOptions(min_size_px=10_000)
    (found,) = segment_layers(SegmentRequest(images=(image("c", cells.image),), options=options)).segmentations
    assert found.n_objects == 0


def test_what_does_not_fit_is_refused(cells: Any) -> None:
    with pytest.raises(ParameterError, match="no image"):
        SegmentRequest(images=())
    with pytest.raises(ImageError, match="same planes"):
        segment_layers(SegmentRequest(images=(image("c", cells.image),), truth=image("t", cells.labels[:9])))
    with pytest.raises(ImageError, match="whole numbers"):
        segment_layers(SegmentRequest(images=(image("c", cells.image),), truth=image("t", cells.labels / 2)))


def test_cancel_keeps_whole_images_only(cells: Any) -> None:
    asked = iter([False, True])
    result = segment_layers(
        SegmentRequest(images=(image("a", cells.image), image("b", cells.image))), is_cancelled=lambda: next(asked)
    )
    assert [each.layer for each in result.segmentations] == ["a"]
    assert not result.is_complete


def test_rows_and_record(cells: Any) -> None:
    result = segment_layers(SegmentRequest(images=(image("a", cells.image),), truth=image("t", cells.labels)))
    (row,) = to_rows(result.segmentations)
    assert row["layer"] == "a" and 0 <= row["ap_50"] <= 1
    assert result.record["labels"]["name"] == "t"
    assert result.record["segment"]["method"] == "otsu"
