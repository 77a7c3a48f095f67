"""Images opened without being read: OME-Zarr of both versions, and TIFF by region."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.io.images import read, write
from napari_cellenhance.io.lazy_images import LazyPixels, is_zarr, open_lazily
from napari_cellenhance.io.ome_zarr import create_store, open_store, reopen_store

SIZES = {"T": 2.0, "Z": 0.5, "Y": 0.25, "X": 0.2}


@pytest.fixture
def volume(rng: np.random.Generator) -> NDArray[np.uint16]:
    return rng.integers(0, 4000, (2, 3, 40, 37), dtype=np.uint16)


def make(folder: Path, image: NDArray[Any], axes: str, **settings: Any) -> Any:
    store = create_store(
        folder,
        [image.shape, (*image.shape[:-2], 20, 19)],
        axes,
        dtype=image.dtype,
        chunk_px=16,
        name="cells",
        **settings,
    )
    store.levels[0][...] = image
    return store


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_store_tells_what_was_given(
    tmp_path: Path, volume: NDArray[np.uint16], version: Literal["0.4", "0.5"]
) -> None:
    folder = tmp_path / "cells.ome.zarr"
    store = make(folder, volume, "CZYX", version=version, pixel_size_um=SIZES, channel_names=("DNA", "Actin"))
    store.finish({"filter": "gamma", "values": np.float32(2.5)})
    assert is_zarr(folder)
    with open_lazily(folder) as image:
        assert image.axes == "CZYX"
        assert image.pixel_size_um == {"Z": 0.5, "Y": 0.25, "X": 0.2}
        assert image.channel_names == ("DNA", "Actin")
        assert image.provenance == {"filter": "gamma", "values": 2.5}
        assert [level.shape for level in image.levels] == [(2, 3, 40, 37), (2, 3, 20, 19)]
        np.testing.assert_array_equal(image.levels[0][1, 2, 3:20, :], volume[1, 2, 3:20])


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_metadata_follow_the_specification(
    tmp_path: Path, volume: NDArray[np.uint16], version: Literal["0.4", "0.5"]
) -> None:
    folder = tmp_path / "cells.ome.zarr"
    make(folder, volume, "CZYX", version=version, pixel_size_um=SIZES, channel_names=("DNA", "Actin"))
    group = zarr.open_group(folder, mode="r")
    told = group.attrs["ome"] if version == "0.5" else group.attrs
    (multiscale,) = told["multiscales"]
    assert group.metadata.zarr_format == (3 if version == "0.5" else 2)
    assert (told if version == "0.5" else multiscale)["version"] == version
    assert [axis["type"] for axis in multiscale["axes"]] == ["channel", "space", "space", "space"]
    assert multiscale["axes"][2] == {"name": "y", "type": "space", "unit": "micrometer"}
    half = multiscale["datasets"][1]["coordinateTransformations"]
    assert half == [
        {"type": "scale", "scale": [1.0, 0.5, 0.5, 0.4]},
        {"type": "translation", "translation": [0.0, 0.0, 0.125, 0.1]},
    ]
    assert [channel["label"] for channel in told["omero"]["channels"]] == ["DNA", "Actin"]
    separator = "c/0/0/0/0" if version == "0.5" else "0/0/0/0"
    assert (folder / "0" / separator).is_file()


def test_an_unfinished_store_is_not_taken_for_a_finished_one(tmp_path: Path, volume: NDArray[np.uint16]) -> None:
    folder = tmp_path / "cells.ome.zarr"
    make(folder, volume, "CZYX")
    with pytest.raises(ImageError, match="not finished"):
        open_store(folder)
    reopen_store(folder).finish({})
    assert open_store(folder).axes == "CZYX"


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    expected = r"there is no .*plate\.ome\.zarr; expected an OME-Zarr folder"
    with pytest.raises(ParameterError, match=expected), open_lazily(tmp_path / "plate.ome.zarr"):
        pass


def test_blocks_are_written_where_they_belong(tmp_path: Path) -> None:
    store = make(tmp_path / "a.zarr", np.zeros((2, 40, 37), np.float32), "CYX")
    block = np.ones((1, 24, 21), np.float32)
    store.write(0, (1, 16, 16), block)
    found = store.read(0, (slice(0, 2), slice(None), slice(None)))
    np.testing.assert_array_equal(found[1, 16:, 16:], block[0])
    assert found.sum() == block.sum()


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_stores_of_other_programs(tmp_path: Path, version: Literal["0.4", "0.5"]) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3 if version == "0.5" else 2)
    group.create_array("s0", shape=(4, 5), dtype="uint8", chunks=(2, 2))
    steps = [{"type": "scale", "scale": [2.0, 3.0]}]
    multiscale: dict[str, Any] = {
        "axes": [{"name": name, "type": "space", "unit": "nanometer"} for name in "yx"],
        "datasets": [{"path": "s0", "coordinateTransformations": steps}], "coordinateTransformations": steps,
    }  # fmt: skip
    told = {"multiscales": [multiscale]}
    group.attrs.update({"ome": {"version": version, **told}} if version == "0.5" else told)
    image = open_store(tmp_path / "a.zarr")
    assert image.axes == "YX"
    assert image.pixel_size_um == pytest.approx({"Y": 0.004, "X": 0.009})


def test_what_is_no_image_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(ImageError, match="not a readable Zarr store"):
        open_store(tmp_path / "empty.zarr")
    group = zarr.open_group(tmp_path / "group.zarr", mode="w")
    with pytest.raises(ImageError, match="no multiscales"):
        open_store(tmp_path / "group.zarr")
    group.attrs["ome"] = {"version": "0.5", "plate": {}}
    with pytest.raises(ImageError, match="a plate of many images"):
        open_store(tmp_path / "group.zarr")
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": [{"name": "y"}], "datasets": [{"path": "0"}]}]}
    with pytest.raises(ImageError, match="missing or damaged"):
        open_store(tmp_path / "group.zarr")
    zarr.create_array(tmp_path / "plain.zarr", shape=(3, 4), dtype="uint8")
    assert open_store(tmp_path / "plain.zarr").axes == ""


def test_settings_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="in this order"):
        create_store(tmp_path / "a.zarr", [(4, 4)], "XY", dtype="uint8", chunk_px=4, name="a")
    with pytest.raises(ParameterError, match=r"0\.4 or 0\.5"):
        create_store(tmp_path / "a.zarr", [(4, 4)], "YX", dtype="uint8", chunk_px=4, name="a", version="1")  # type: ignore[arg-type]


# --- TIFF --------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", ["CZYX", "ZYXC", "TCYX"])
def test_our_tiff_by_region(tmp_path: Path, volume: NDArray[np.uint16], axes: str) -> None:
    path = write(tmp_path / "a.ome.tif", volume, axes, pixel_size_um=SIZES, dtype="keep")
    whole = read(path)
    with open_lazily(path) as image:
        assert (image.axes, image.pixel_size_um) == (whole.axes, whole.pixel_size_um)
        assert image.levels[0].shape == whole.image.shape
        np.testing.assert_array_equal(image.levels[0][1, 2, 3:9, 1], whole.image[1, 2, 3:9, 1])
        np.testing.assert_array_equal(image.levels[0][:, 0:2, 4, :], whole.image[:, 0:2, 4, :])


@pytest.mark.parametrize(
    "settings",
    [
        {"tile": (16, 16), "compression": "zlib"},
        {"rowsperstrip": 7, "compression": "zlib"},
        {},
        {"byteorder": ">"},
        {"photometric": "miniswhite"},
    ],
)
def test_tiffs_of_other_programs_by_region(
    tmp_path: Path, volume: NDArray[np.uint16], settings: dict[str, Any]
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, volume[0], **{"photometric": "minisblack", **settings})
    whole = read(path)
    with open_lazily(path) as image:
        assert (image.axes, image.notes) == (whole.axes, whole.notes)
        np.testing.assert_array_equal(image.levels[0][2, 5:30, 8:20], whole.image[2, 5:30, 8:20])


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="resident pages are told by Linux alone")
def test_no_page_of_a_tiff_that_was_read_stays_in_memory(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 9999, (2048, 512)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "plain.tif", image)
    with open_lazily(tmp_path / "plain.tif") as lazy:
        read = [lazy.levels[0][start : start + 256] for start in range(0, 2048, 256)]
        mapped = Path("/proc/self/smaps").read_text(encoding="utf-8").split("plain.tif")[1:]
        assert mapped, "the file is no longer mapped; measure in another way"
        assert sum(int(part.split("Rss:")[1].split()[0]) for part in mapped) == 0  # kB; 2048 of them otherwise
        np.testing.assert_array_equal(np.concatenate(read), image)
        with (tmp_path / "plain.tif").open("r+b") as file:  # pixels of their own: what becomes of the file is no matter
            file.write(bytes((tmp_path / "plain.tif").stat().st_size))
        np.testing.assert_array_equal(np.concatenate(read), image)


def test_an_error_of_the_reader_is_not_one_of_the_file(tmp_path: Path, volume: NDArray[np.uint16]) -> None:
    path = write(tmp_path / "a.tif", volume, "CZYX", dtype="keep")
    with pytest.raises(ParameterError, match="mine"), open_lazily(path):
        raise ParameterError("mine")


def test_a_png_can_only_be_read_as_a_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", np.zeros((4, 4), np.uint8), "YX", dtype="uint8")
    with pytest.raises(ImageError, match="only be read as a whole"), open_lazily(path):
        pass


def test_dimensions_in_another_order() -> None:
    stored = np.arange(24).reshape(2, 1, 3, 4)
    seen = LazyPixels(stored, (3, 0, 2), lambda pixels: -pixels)
    assert (seen.shape, seen.ndim, seen.size) == ((4, 2, 3), 3, 24)
    np.testing.assert_array_equal(seen[1:3, 1, :], -stored[1, 0].T[1:3])


def test_what_is_left_out_at_the_end_is_whole(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 9, (3, 4, 5))
    lazy = LazyPixels(pixels)
    np.testing.assert_array_equal(lazy[1], pixels[1])
    np.testing.assert_array_equal(lazy[0:2, 3], pixels[0:2, 3])
    np.testing.assert_array_equal(np.asarray(lazy, np.float32), pixels.astype(np.float32))
