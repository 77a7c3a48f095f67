"""Filters that learned, on images larger than memory: block by block, and never a plane at once."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_cellenhance.core.tiling import Region
from napari_cellenhance.io.ome_zarr import create_store, open_store
from napari_cellenhance.workflows import catalog, enhance, large_images
from napari_cellenhance.workflows.large_images import LargeRequest
from napari_cellenhance.workflows.requests import EnhanceRequest

LEARNED = ("nunet", "n2v2-fluorescence", "care-nuclei", "aep-nuclei")


def as_zarr(folder: Path, image: NDArray[Any], axes: str) -> Path:
    store = create_store(folder, [image.shape], axes, dtype=image.dtype, chunk_px=64, name="cells")
    store.levels[0][...] = image
    store.finish({})
    return folder


@pytest.mark.parametrize("filter_id", LEARNED)
def test_a_region_copies_no_plane(filter_id: str) -> None:
    """Working arrays of a small region do not grow with the plane (numpy's; torch sees the region alone)."""
    enhancer = catalog.open_enhancer(filter_id, "cpu", "float32", memory_limit_mb=200).enhancer
    side = 2500
    plane = np.random.default_rng(0).random((side, side), np.float32)
    # What statistics a network measures over the plane is told apart: those that are stored cost nothing.
    calibration = None if filter_id == "n2v2-fluorescence" else enhancer.calibrate([plane[:64, :64]], lambda: None)
    tracemalloc.start()
    try:
        if calibration is None:
            calibration = enhancer.calibrate([plane], lambda: None)
        enhancer.encode(plane, Region(1000, 1040, 1000, 1040), calibration)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < side * side  # a mask of a byte per pixel would be as much, a copy four times as much


@pytest.mark.parametrize("filter_id", LEARNED)
def test_blocks_are_those_of_the_plane_in_memory(tmp_path: Path, cells: Any, filter_id: str) -> None:
    image = np.asarray(cells.image)[:200, :170]
    source = as_zarr(tmp_path / "n.zarr", image, "YX")
    how: dict[str, Any] = {"filter_id": filter_id, "device": "cpu", "precision": "float32"}
    asked = EnhanceRequest(image=None, axes="", tile_px=64, memory_limit_mb=0, **how)  # planes lie in a file
    large_images.run(LargeRequest(source=source, target=tmp_path / "out.zarr", settings=asked, chunk_px=64))
    found = open_store(tmp_path / "out.zarr").levels[0][:, :]
    expected = enhance.run(EnhanceRequest(image=image, axes="YX", **how)).image
    np.testing.assert_allclose(found, expected, atol=1e-4)
