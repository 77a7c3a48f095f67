"""Images find their labels, masks and points by name; what is not chosen is not read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.io.labelled import Selection, read_labelled

PLANE = np.arange(48, dtype=np.uint8).reshape(6, 8)
LABELS = np.zeros((6, 8), np.uint16)
LABELS[1:3, 1:3] = 4
LABELS[4:6, 5:8] = 9


def _write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, array)


def test_labels_masks_and_points_stand_beside_their_image(tmp_path: Path) -> None:
    for name in "abcd":
        _write(tmp_path / f"{name}.tif", PLANE)
    _write(tmp_path / "a_labels.tif", LABELS)
    _write(tmp_path / "b_mask.tif", (LABELS > 0).astype(np.uint8) * 255)
    (tmp_path / "c_points.csv").write_text("index,axis-0,axis-1\n0,1.5,1.5\n1,4.5,6\n", encoding="utf-8")
    a, b, c = read_labelled(tmp_path, object_diameter_px=7.0)
    assert [image.name for image in (a, b, c)] == ["a.tif", "b.tif", "c.tif"], "d has no truth"
    assert a.labels is not None and a.mask is not None and a.points is not None
    np.testing.assert_allclose(a.points, [[1.5, 1.5], [4.5, 6.0]])
    assert b.labels is None and b.points is None and b.mask is not None
    np.testing.assert_array_equal(b.mask, LABELS > 0)
    assert c.mask is None and c.points is not None
    np.testing.assert_allclose(c.points, a.points)
    assert c.diameter_px == 7.0 and c.source == tmp_path.name
    np.testing.assert_allclose(a.image, PLANE / 255.0, rtol=1e-6)


def test_sister_folders(tmp_path: Path) -> None:
    _write(tmp_path / "images" / "x.tif", PLANE)
    _write(tmp_path / "labels" / "x.tif", LABELS)
    _write(tmp_path / "images" / "y.tif", PLANE)
    (tmp_path / "points").mkdir()
    (tmp_path / "points" / "y.csv").write_text("y,x\n2,3\n", encoding="utf-8")
    x, y = read_labelled(tmp_path)
    assert x.labels is not None
    assert x.diameter_px == pytest.approx((2 * np.sqrt(4 / np.pi) + 2 * np.sqrt(6 / np.pi)) / 2)
    assert y.points is not None and y.points.tolist() == [[2.0, 3.0]]


def test_dark_objects_become_bright_and_colours_grey(tmp_path: Path) -> None:
    colour = np.zeros((6, 8, 3), np.uint8)
    colour[..., 1] = 255
    tifffile.imwrite(tmp_path / "c.tif", colour, photometric="rgb")
    _write(tmp_path / "c_labels.tif", LABELS)
    (image,) = read_labelled(tmp_path, objects_are_dark=True)
    np.testing.assert_allclose(image.image, 1 - 0.7154, atol=1e-4)


def test_a_list_of_sources_reads_only_what_is_chosen(tmp_path: Path) -> None:
    rows = [
        {"images": "i.tif", "labels": "l.tif", "page": 0, "shape": [6, 8], "split": "test"},
        {"images": "missing.tif", "labels": "missing.tif", "page": 0, "shape": [6, 8], "split": "train"},
    ]
    _write(tmp_path / "i.tif", PLANE)
    _write(tmp_path / "l.tif", LABELS)
    np.savez(tmp_path / "a.npz", x=np.stack([PLANE] * 3), m=np.stack([LABELS > 0] * 3), test=[0, 2])
    (tmp_path / "index.json").write_text(json.dumps(rows), encoding="utf-8")
    sources = [
        {"name": "cells", "index": "index.json", "where": {"split": "test"}},
        {"name": "membranes", "npz": "a.npz", "key": "x", "masks": "m", "planes": "test", "objects_are_dark": True},
    ]
    spec = tmp_path / "d.json"
    spec.write_text(json.dumps({"sources": sources}), encoding="utf-8")
    images = read_labelled(spec)
    assert [(image.source, image.name) for image in images] == [
        ("cells", "0"), ("membranes", "plane 0"), ("membranes", "plane 2"),
    ]  # fmt: skip
    assert images[1].labels is None and images[1].mask is not None
    np.testing.assert_allclose(images[1].image, 1 - PLANE / 255, rtol=1e-5)


def test_a_selection_is_seeded_and_keeps_to_its_limits() -> None:
    sizes = [1_000_000] * 10
    assert Selection().of(sizes) == list(range(10))
    first = Selection(max_images=4, seed=3).of(sizes)
    assert len(first) == 4 and first == sorted(first)
    assert first == Selection(max_images=4, seed=3).of(sizes)
    assert first != Selection(max_images=4, seed=4).of(sizes)
    assert len(Selection(max_megapixels=2.5).of(sizes)) == 2
    assert len(Selection(max_megapixels=0.1).of(sizes)) == 1, "one image is always read"


def test_what_does_not_fit_gets_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="holds no image with labels"):
        read_labelled(tmp_path)
    with pytest.raises(ImageError, match="neither a folder"):
        read_labelled(tmp_path / "missing.json")
    _write(tmp_path / "a.tif", PLANE)
    _write(tmp_path / "a_labels.tif", LABELS[:4])
    with pytest.raises(ImageError, match="its truth"):
        read_labelled(tmp_path)
    (tmp_path / "a_labels.tif").unlink()
    (tmp_path / "a_points.csv").write_text("row,column\n1,2\n", encoding="utf-8")
    with pytest.raises(ImageError, match="expected y and x"):
        read_labelled(tmp_path)
    spec = tmp_path / "d.json"
    spec.write_text(json.dumps({"sources": [{"name": "n", "colour": 1}]}), encoding="utf-8")
    with pytest.raises(ParameterError, match="unknown settings"):
        read_labelled(spec)
    spec.write_text(json.dumps({"sources": [{"name": "n"}]}), encoding="utf-8")
    with pytest.raises(ParameterError, match="none of"):
        read_labelled(spec)
