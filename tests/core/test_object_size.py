"""Object diameters, from labels and from grey values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.core.object_size import median_diameter, suggest_diameter


def discs(radius: float, n: int = 256, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:n, :n].astype(float)
    labels = np.zeros((n, n), np.int64)
    pitch = round(4 * radius)
    k = 0
    for cy in range(pitch // 2, n - pitch // 2, pitch):
        for cx in range(pitch // 2, n - pitch // 2, pitch):
            k += 1
            labels[np.hypot(y - cy, x - cx) <= radius] = 1000 * k
    return labels, (labels > 0) * 100.0 + rng.normal(0, 10, labels.shape)


@pytest.mark.parametrize("radius", [5.0, 8.0, 15.0])
def test_the_diameter_of_discs_is_found(radius: float) -> None:
    labels, image = discs(radius)
    assert median_diameter(labels) == pytest.approx(2 * radius, rel=0.05)
    assert suggest_diameter(image) == pytest.approx(2 * radius, rel=0.15)
    assert suggest_diameter(100 - image, objects_are_dark=True) == pytest.approx(2 * radius, rel=0.15)


def test_ids_may_be_sparse_and_large() -> None:
    labels = np.zeros((30, 30), np.int64)
    labels[3:9, 3:9] = 2**40
    assert median_diameter(labels) == pytest.approx(2 * (36 / np.pi) ** 0.5)


def test_nothing_painted_is_no_diameter() -> None:
    assert median_diameter(np.zeros((9, 9), int)) is None


@pytest.mark.parametrize("plane", [np.zeros((64, 64)), np.eye(9), np.zeros((2, 20, 20))])
def test_a_plane_that_says_nothing_is_refused(plane: Any) -> None:
    with pytest.raises(ImageError, match="type the diameter"):
        suggest_diameter(plane)
