"""Scores of finders for each setting, and the choice of a setting."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.core.object_scores import (
    SPLITS,
    Split,
    best_setting,
    f1_at_one_scale,
    f1_over_scales,
    segmentation_scores,
)
from napari_cellenhance.core.postprocess import centroids


@pytest.fixture
def labels() -> NDArray[np.int64]:
    """Two that touch, one alone, one small."""
    yy, xx = np.mgrid[:90, :90]
    labels = np.zeros((90, 90), np.int64)
    for number, (y, x, r) in enumerate(((25, 25, 10), (25, 44, 10), (65, 30, 10), (65, 70, 10)), start=1):
        labels[(yy - y) ** 2 + (xx - x) ** 2 <= r * r] = number
    return labels


def test_f1_falls_where_the_threshold_is_too_low_or_too_high(labels: NDArray[np.int64]) -> None:
    image = (labels > 0) + np.random.default_rng(0).normal(0, 0.35, labels.shape)
    for score in (f1_at_one_scale, f1_over_scales):
        low, fine, high = score(image.astype(np.float32), centroids(labels), 20.0, (0.02, 0.4, 2.0))
        assert fine == pytest.approx(1.0)
        assert low < 1
        assert high == 0


def test_cutting_touching_objects_raises_the_precision(labels: NDArray[np.int64]) -> None:
    splits = (Split(0.0, 0.05), Split(0.1, 0.05))
    precision, terms = segmentation_scores((labels > 0).astype(np.float32), labels, 20.0, splits)
    # The touching pair counts for the one of it that is just more than half of both, and the other is missed.
    assert precision[0] == pytest.approx(3 / 4)
    assert precision[1] == pytest.approx(1.0)
    assert terms[1].mean() > terms[0].mean()
    assert all(len(t) == 4 for t in terms)


def test_specks_are_dropped_by_the_smallest_size(labels: NDArray[np.int64]) -> None:
    image = (labels > 0).astype(np.float32)
    image[85:88, 85:88] = 1
    precision, _ = segmentation_scores(image, labels, 20.0, (Split(0.1, 0.0), Split(0.1, 0.05)))
    assert precision[0] == pytest.approx(4 / 5)
    assert precision[1] == pytest.approx(1.0)


def test_settings_cover_leaving_and_cutting() -> None:
    assert {split.depth > 0 for split in SPLITS} == {True, False}
    assert Split(0.1, 0.5).min_size_px(20.0) == pytest.approx(0.5 * np.pi * 100)


def test_the_best_setting_is_the_middle_of_the_best_ones() -> None:
    assert best_setting(np.array([[0.1, 0.9, 0.9, 0.9, 0.2]])) == 2
    assert best_setting(np.array([[0.5, 0.1], [0.1, 0.7]])) == 1
    assert best_setting(np.array([[0.3, 0.3]])) == 0
    with pytest.raises(ImageError, match="no image"):
        best_setting(np.zeros((0, 3)))
