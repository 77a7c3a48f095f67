"""A large result looked at by region, finished or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_cellenhance.core.pyramid import level_shapes
from napari_cellenhance.io.ome_zarr import ZarrImage, create_store
from napari_cellenhance.workflows import large_views
from napari_cellenhance.workflows.large_views import (
    GrowingPyramid,
    LevelView,
    axes_of_store,
    growing_levels,
    stored_levels,
)


@pytest.fixture
def image(rng: np.random.Generator) -> NDArray[np.float32]:
    return rng.random((2, 70, 100), np.float32)


def store_of(folder: Path, image: NDArray[Any]) -> ZarrImage:
    return create_store(
        folder, level_shapes(image.shape, 32), "CYX", dtype=image.dtype, chunk_px=32, name="cells"
    )  # fmt: skip


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, None, 0, 1)])
@pytest.mark.parametrize(
    "index", [(0,), (..., slice(3, 40, 2)), (slice(None), -1), (slice(None, None, -1),), (slice(9, 4),), ()]
)
def test_a_level_is_indexed_like_an_array(image: NDArray[np.float32], order: Any, index: Any) -> None:
    view = LevelView(lambda place: image[place], image.shape, image.dtype, order)
    axes = [place for place in order if place is not None]
    expected = image.transpose(axes)
    if None in order:
        expected = np.expand_dims(expected, order.index(None))
    assert view.shape == expected.shape and view.ndim == expected.ndim
    np.testing.assert_array_equal(view[index], expected[index])
    np.testing.assert_array_equal(np.asarray(view), expected)


def test_blocks_are_seen_at_all_levels_as_soon_as_they_are_there(tmp_path: Path, image: NDArray[np.float32]) -> None:
    store = store_of(tmp_path / "a.zarr", image)
    levels = growing_levels(store, (0, 1, 2))
    assert axes_of_store(store) == "CYX" and [level.shape for level in levels] == [
        (2, 70, 100),
        (2, 35, 50),
        (2, 18, 25),
    ]
    assert not np.asarray(levels[2]).any()
    store.write(0, (1, 32, 64), image[1:, 32:64, 64:])
    first = np.asarray(levels[1])
    assert first[1, 16:32, 32:].all() and not first[0].any() and not first[1, :16].any()
    store.write(0, (0, 0, 0), image[:1])
    store.write(0, (1, 0, 0), image[1:])
    coarse = image.astype(np.float64)[:, :, :].reshape(2, 35, 2, 50, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(np.asarray(levels[1]), coarse, rtol=1e-6)
    np.testing.assert_array_equal(levels[1][1, 3:20, 5:31], np.asarray(levels[1])[1, 3:20, 5:31])


def test_one_look_reads_a_few_blocks_and_keeps_a_few(
    tmp_path: Path, image: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(tmp_path / "a.zarr", image)
    for c in (0, 1):
        store.write(0, (c, 0, 0), image[c : c + 1])
    monkeypatch.setattr(large_views, "_NEW_CHUNKS", 5)
    pyramid = GrowingPyramid(store)
    everything = (slice(0, 2), slice(0, 35), slice(0, 50))
    shares = [float(np.mean(pyramid.read(1, everything) > 0)) for _ in range(6)]
    assert 0 < shares[0] < shares[1] < shares[4] == shares[5] == 1.0
    monkeypatch.setattr(large_views, "_CACHE_BYTES", 16 * 16 * 4)
    again = GrowingPyramid(store)
    again.read(1, everything)
    assert 0 < sum(piece.nbytes for piece in again._seen.values()) <= 16 * 16 * 4


def test_a_finished_result_in_the_order_of_its_source(tmp_path: Path, image: NDArray[np.float32]) -> None:
    store = store_of(tmp_path / "a.zarr", image)
    for c in (0, 1):
        store.write(0, (c, 0, 0), image[c : c + 1])
    store.finish({})
    np.testing.assert_array_equal(
        np.asarray(stored_levels(tmp_path / "a.zarr", (1, 2, 0))[0]), np.moveaxis(image, 0, -1)
    )
    assert [level.shape for level in stored_levels(tmp_path / "a.zarr")] == [(2, 70, 100), (2, 35, 50), (2, 18, 25)]
