"""The writer: what napari hands over comes back from the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_cellenhance.io.images import read, read_provenance
from napari_cellenhance.widgets._export import layer_axes, write_ome_tiff


def save(layer: Any, path: Path) -> list[str]:
    data, meta, _ = layer.as_layer_data_tuple()
    return write_ome_tiff(str(path), data, meta)


def test_axes_pixel_size_and_recipe_come_back(tmp_path: Path) -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(
        np.random.default_rng(0).random((3, 8, 9)).astype(np.float32),
        scale=(2, 0.5, 0.25),
        units=("um", "um", "um"),
        metadata={"cellenhance": {"filter": "nunet", "axes_out": "ZYX", "strength": 8.0}},
    )
    (written,) = save(layer, tmp_path / "a.ome.tif")
    file = read(written)
    np.testing.assert_array_equal(file.image, layer.data)
    assert file.axes == "ZYX"
    assert file.pixel_size_um == pytest.approx({"Z": 2, "Y": 0.5, "X": 0.25})
    assert (read_provenance(written) or {})["filter"] == "nunet"


def test_axes_of_a_layer_of_another_origin_come_from_its_labels() -> None:
    assert layer_axes((3, 8, 9), {"axis_labels": ("time", "y", "x")}) == "TYX"
    assert layer_axes((8, 9, 3), {"rgb": True, "axis_labels": ("y", "x")}) == "YXS"
    stale = {"metadata": {"cellenhance": {"axes_out": "YX"}}, "axis_labels": ("z", "y", "x")}
    assert layer_axes((1, 8, 9), stale) == "ZYX"


def test_multiscale_layers_write_their_full_resolution(tmp_path: Path) -> None:
    viewer = ViewerModel()
    levels = [np.ones((64, 64), np.uint16), np.ones((32, 32), np.uint16)]
    (written,) = save(viewer.add_image(levels, multiscale=True), tmp_path / "m.tif")
    assert read(written).image.shape == (64, 64)


def test_an_existing_file_is_replaced_only_by_a_good_one(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    viewer = ViewerModel()
    save(viewer.add_image(np.ones((8, 9), np.uint8)), path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="real"):
        write_ome_tiff(str(path), np.ones((8, 9), complex), {"axis_labels": ("y", "x")})
    assert path.read_bytes() == before
