"""Training images from folders, archives and indexed multi-page files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.io.datasets import read_sources


def _write_index(folder: Path) -> None:
    rng = np.random.default_rng(0)
    with tifffile.TiffWriter(folder / "images.tif") as images, tifffile.TiffWriter(folder / "labels.tif") as labels:
        for side in (40, 50):
            images.write(rng.integers(0, 255, (side, side, 3), dtype=np.uint8), photometric="rgb")
            lab = np.zeros((side, side), np.uint16)
            lab[5:15, 5:15] = 1
            labels.write(lab, photometric="minisblack")
    rows = [
        {"images": "images.tif", "labels": "labels.tif", "page": i, "shape": [s, s], "type": t, "split": "train"}
        for i, (s, t) in enumerate(((40, "a"), (50, "b")))
    ]
    (folder / "index.json").write_text(json.dumps(rows), encoding="utf-8")


def test_index_filters_by_column_and_size_and_measures_diameters(tmp_path: Path) -> None:
    _write_index(tmp_path)
    spec = {
        "sources": [
            {"name": "all", "index": "index.json"}, {"name": "large", "index": "index.json", "min_side_px": 45},
            {"name": "first", "index": "index.json", "pages": [0]},
        ]
    }  # fmt: skip
    (tmp_path / "sources.json").write_text(json.dumps(spec), encoding="utf-8")
    every, large, first = read_sources(tmp_path / "sources.json")
    assert [i.shape for i in every.images] == [(40, 40), (50, 50)]
    assert [i.shape for i in large.images] == [(50, 50)] and [i.shape for i in first.images] == [(40, 40)]
    assert every.diameters_px[0] == pytest.approx(2 * np.sqrt(100 / np.pi))
    assert every.images[0].dtype == np.float32 and 0 <= every.images[0].min() <= every.images[0].max() <= 1
    assert every.labels[0] is not None and every.labels[0].max() == 1


def test_archive_takes_the_listed_planes_and_inverts_dark_objects(tmp_path: Path) -> None:
    stack = np.arange(2 * 3 * 16 * 16, dtype=np.uint16).reshape(2, 3, 16, 16)
    np.savez(tmp_path / "a.npz", cells=stack)
    entry = {
        "name": "n",
        "npz": "a.npz",
        "key": "cells",
        "planes": [[0, 1], [1, 2]],
        "object_diameter_px": 9,
        "weight": 0.5,
    }
    dark = {**entry, "objects_are_dark": True}
    (tmp_path / "s.json").write_text(json.dumps({"sources": [entry, dark]}), encoding="utf-8")
    bright, inverted = read_sources(tmp_path / "s.json", data_root=tmp_path)
    assert len(bright.images) == 2 and bright.diameters_px == [9.0, 9.0] and bright.weight == 0.5
    np.testing.assert_allclose(bright.images[0] + inverted.images[0], 1.0, atol=1e-6)


def test_a_folder_of_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tifffile.imwrite(tmp_path / "b.tif", rng.integers(0, 99, (3, 20, 30), dtype=np.uint16), photometric="minisblack")
    tifffile.imwrite(tmp_path / "a.tif", rng.integers(0, 99, (20, 30), dtype=np.uint8))
    (source,) = read_sources(tmp_path, object_diameter_px=12.0)
    assert len(source.images) == 4 and set(source.diameters_px) == {12.0}


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="holds no TIFF or PNG"):
        read_sources(tmp_path)
    (tmp_path / "bad.json").write_text("{", encoding="utf-8")
    with pytest.raises(ImageError, match="neither a folder"):
        read_sources(tmp_path / "bad.json")
    for entry, error, text in (
        ({"name": "x", "colour": 1}, ParameterError, "unknown settings"),
        ({"name": "x"}, ParameterError, "none of"),
        ({"name": "x", "npz": "missing.npz", "key": "k"}, ImageError, "no readable array"),
        ({"name": "x", "index": "missing.json"}, ImageError, "could not be read"),
    ):
        (tmp_path / "s.json").write_text(json.dumps({"sources": [entry]}), encoding="utf-8")
        with pytest.raises(error, match=text):
            read_sources(tmp_path / "s.json")
