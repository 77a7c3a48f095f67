"""Objects measured a window at a time are those measured on the whole plane."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_cellenhance.core.errors import ImageError, MissingExtraError, ParameterError, TargetExistsError
from napari_cellenhance.core.postprocess import segment
from napari_cellenhance.io import tables
from napari_cellenhance.io.ome_zarr import create_store
from napari_cellenhance.workflows import large_tables
from napari_cellenhance.workflows._measured import MeasuredImage
from napari_cellenhance.workflows.large_tables import LargeTableRequest
from napari_cellenhance.workflows.object_tables import measure_objects

SIZES = {"Y": 0.5, "X": 0.25}


@pytest.fixture(autouse=True)
def _small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_tables, "_BLOCK_PX", 40)
    monkeypatch.setattr(large_tables, "_CONTEXT_PX", 12)


def as_zarr(folder: Path, image: NDArray[Any], axes: str) -> Path:
    store = create_store(
        folder, [image.shape], axes, dtype=image.dtype, chunk_px=64, name="e", pixel_size_um=SIZES
    )  # fmt: skip
    store.levels[0][...] = image
    store.finish({})
    return folder


@pytest.fixture
def labels() -> NDArray[np.uint32]:
    """Objects of all sizes: within a block, across borders, beyond a window, and a bar through everything."""
    smooth = gaussian_filter(np.random.default_rng(3).normal(size=(150, 130)), 4)
    mask = smooth > np.quantile(smooth, 0.7)
    mask[:, 60:64] = True
    return np.stack([segment(mask, "manual", 0.5, False, 5), np.zeros(mask.shape, np.uint32)])


@pytest.fixture
def raw() -> NDArray[np.uint16]:
    return np.random.default_rng(4).integers(0, 4000, (2, 2, 150, 130), dtype=np.uint16)


def test_rows_are_those_of_the_plane_in_memory(
    tmp_path: Path, labels: NDArray[np.uint32], raw: NDArray[np.uint16]
) -> None:
    one = as_zarr(tmp_path / "l.zarr", labels, "ZYX")
    two = as_zarr(tmp_path / "raw.zarr", raw, "CZYX")
    request = LargeTableRequest(labels=one, images={"raw": two, "same": one}, target=tmp_path / "t.csv")
    result = large_tables.run(request)
    columns, rows = measure_objects(
        MeasuredImage(name="l", image=labels, axes="ZYX"),
        [MeasuredImage(name="raw", image=raw, axes="CZYX"), MeasuredImage(name="same", image=labels, axes="ZYX")],
        SIZES,
    )
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as stream:
        found = list(csv.DictReader(stream))
    assert (len(found), result.n_objects) == (len(rows), len(rows)) and tuple(found[0]) == columns
    for row, expected in zip(found, sorted(rows, key=lambda one: int(one["label"])), strict=True):
        np.testing.assert_allclose([float(row[n]) for n in columns], [expected[n] for n in columns], rtol=1e-9)


def test_what_is_too_large_is_told(tmp_path: Path, labels: NDArray[np.uint32], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_tables, "_LARGEST_PX", 100)
    one = as_zarr(tmp_path / "l.zarr", labels, "ZYX")
    result = large_tables.run(LargeTableRequest(labels=one, target=tmp_path / "t.csv"))
    assert "too large" in result.warnings[0] and 0 < result.n_objects < labels.max()


def test_a_table_is_whole_or_not_there(
    tmp_path: Path, labels: NDArray[np.uint32], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = as_zarr(tmp_path / "l.zarr", labels, "ZYX")
    request = LargeTableRequest(labels=one, target=tmp_path / "t.csv")
    assert not large_tables.run(request, is_cancelled=lambda: True).is_complete
    assert not (tmp_path / "t.csv").exists()
    large_tables.run(request)
    with pytest.raises(TargetExistsError):
        large_tables.run(request)
    kept: list[Any] = []
    monkeypatch.setattr(tables, "check_parquet", lambda: None)
    monkeypatch.setattr(tables, "write_parquet", lambda path, rows, **more: kept.extend(rows))
    large_tables.run(LargeTableRequest(labels=one, target=tmp_path / "t.parquet"))
    assert len(kept) == labels.max()

    def missing() -> None:
        raise MissingExtraError("pyarrow")

    monkeypatch.setattr(tables, "check_parquet", missing)
    with pytest.raises(MissingExtraError):
        large_tables.run(LargeTableRequest(labels=one, target=tmp_path / "u.parquet"))


def test_what_does_not_fit_is_said(tmp_path: Path, labels: NDArray[np.uint32], raw: NDArray[np.uint16]) -> None:
    one = as_zarr(tmp_path / "l.zarr", labels, "ZYX")
    other = as_zarr(tmp_path / "o.zarr", raw[0, :, :50], "ZYX")
    grey = as_zarr(tmp_path / "g.zarr", raw[0].astype(np.float32), "ZYX")
    with pytest.raises(ImageError, match="the same planes"):
        large_tables.run(LargeTableRequest(labels=one, images={"raw": other}, target=tmp_path / "t.csv"))
    with pytest.raises(ImageError, match="whole numbers"):
        large_tables.run(LargeTableRequest(labels=grey, target=tmp_path / "t.csv"))
    with pytest.raises(ParameterError, match=r"\.csv or \.parquet"):
        LargeTableRequest(labels=one, target=tmp_path / "t.xlsx")
