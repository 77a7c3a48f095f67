"""Questions about paint: counts, problems, objects as classes, single planes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_cellenhance.workflows.paint import copied, display_range, look_at_paint, plane_of, to_classes
from napari_cellenhance.workflows.painted_layers import PaintedLayer


def layer(image: Any, labels: Any, **options: Any) -> PaintedLayer:
    axes = options.pop("axes", "YX")
    return PaintedLayer(name="cells", image=image, axes=axes, labels=labels, **options)


@pytest.fixture
def image(rng: np.random.Generator) -> Any:
    return rng.random((8, 10))


def painted(*values: int) -> Any:
    labels = np.zeros((8, 10), np.uint8)
    labels.ravel()[: len(values)] = values
    return labels


def test_paint_is_counted_over_all_layers(image: Any) -> None:
    look = look_at_paint([layer(image, painted(1, 1, 2)), layer(image, painted(2, 5))])
    assert look.counts == {1: 2, 2: 2, 5: 1} and not look.problem


def test_objects_count_as_classes(image: Any) -> None:
    assert look_at_paint([layer(image, painted(1, 7, 9), painted_as="instances")]).counts == {1: 1, 2: 2}
    with_border = look_at_paint([layer(image, painted(1, 7, 9), painted_as="instances", has_border=True)])
    assert with_border.counts == {3: 3}, "the line of contact, and background that touches"


def test_problems_are_told_and_the_rest_still_counts(image: Any) -> None:
    look = look_at_paint([layer(image, np.ones((3, 3), int)), layer(image, painted(1))])
    assert "shape (3, 3)" in look.problem and look.counts == {1: 1}
    stack = np.stack([image, np.full((8, 10), 3.0)])
    labels = np.stack([painted(1), painted()])
    assert not look_at_paint([layer(stack, labels, axes="ZYX")]).problem, "a flat plane without paint harms nobody"
    labels = np.stack([painted(1), painted(2)])
    look = look_at_paint([layer(stack, labels, axes="ZYX")])
    assert "one single grey value" in look.problem and look.counts == {1: 1, 2: 1}


def test_only_painted_planes_are_read(image: Any) -> None:
    dask = pytest.importorskip("dask.array")
    read = []

    def block(block_id: Any = None) -> Any:
        read.append(block_id[0])
        return image[np.newaxis]

    stack = dask.map_blocks(block, chunks=((1, 1, 1), (8,), (10,)), dtype=image.dtype, meta=image[np.newaxis])
    look_at_paint([layer(stack, np.stack([painted(), painted(1), painted()]), axes="ZYX")])
    assert read == [1]


def test_objects_become_classes_plane_by_plane() -> None:
    ids = np.array([[[0, 1, 5, 5, 9]], [[2, 0, 1, 0, 0]]])
    assert to_classes(ids).tolist() == [[[0, 1, 2, 2, 2]], [[2, 0, 1, 0, 0]]]
    assert to_classes(ids, has_border=True).tolist() == [[[0, 3, 2, 3, 3]], [[2, 0, 1, 0, 0]]]


def test_a_copy_is_not_painted_on(image: Any) -> None:
    labels = painted(1)
    own = copied(layer(image, labels))
    labels[:] = 4
    assert own.labels.max() == 1


def test_one_plane_is_read_whatever_the_axes(rng: np.random.Generator) -> None:
    image = rng.random((2, 3, 4, 8, 10))  # T C Z Y X
    assert np.array_equal(plane_of(image, "TCZYX", (1,), t=1, z=2), image[1, 1, 2])
    assert np.array_equal(plane_of(image[0, 0, 0].T, "XY", "grey"), image[0, 0, 0])
    assert plane_of(image[0, :, 0], "CYX", "grey").shape == (8, 10)


def test_display_ranges_are_never_empty() -> None:
    values = np.linspace(0.5, 1.0, 1000)
    low, high = display_range(np.append(values, 90.0))
    assert 0.5 <= low < 0.51 and 0.99 < high < 1.1
    assert display_range(np.full(9, 3.0)) == (3.0, 4.0) and display_range(np.array([np.nan])) == (0.0, 1.0)
    sparse = np.zeros(10_000)
    sparse[3] = 7.0
    assert display_range(sparse) == (0.0, 7.0)
