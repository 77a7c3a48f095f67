"""Axes, sizes, names, provenance and pixels survive the trip to disk and back."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_cellenhance.core.errors import AxesError, ImageError, ParameterError, TargetExistsError, WriteError
from napari_cellenhance.io import _tiff
from napari_cellenhance.io.images import read, read_provenance, write

LENGTHS = {"T": 2, "C": 3, "Z": 4, "Y": 5, "X": 6, "S": 3}
SUBSETS = ["".join(letters) for n in range(4) for letters in itertools.permutations("TCZ", n)]


def pixels(axes: str, rng: np.random.Generator, **lengths: int) -> np.ndarray:
    shape = [{**LENGTHS, **lengths}[letter] for letter in axes]
    return rng.random(shape, dtype=np.float32)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.mark.parametrize("suffix", ["YX", "YXS"])
@pytest.mark.parametrize("leading", SUBSETS)
def test_every_order_of_every_subset_round_trips(
    tmp_path: Path, rng: np.random.Generator, leading: str, suffix: str
) -> None:
    axes = leading + suffix
    for ones in ("", "T", "C", "Z", "TCZ", "TCZYX"):
        # The house knows channels or colours, not both; a single channel beside colours is fine.
        image = pixels(axes, rng, **dict.fromkeys(ones + ("C" if "S" in axes else ""), 1))
        back = read(write(tmp_path / "a.ome.tif", image, axes, overwrite=True))
        assert back.axes == axes
        assert back.notes == ()
        np.testing.assert_array_equal(back.image, image, strict=True)


@pytest.mark.parametrize("axes", ["XY", "YXZ", "YXC", "XYZTC", "SYX", "YSX", "ZSYX", "CYXZT"])
def test_yx_anywhere_is_stored_last_and_restored(tmp_path: Path, rng: np.random.Generator, axes: str) -> None:
    image = pixels(axes, rng)
    path = write(tmp_path / "a.tif", image, axes)
    np.testing.assert_array_equal(read(path).image, image, strict=True)
    assert read(path).axes == axes
    stored = "".join(letter for letter in axes if letter in "TCZ") + "YX" + ("S" if "S" in axes else "")
    with tifffile.TiffFile(path) as tif:
        assert tif.series[0].axes == stored, "what other programs see"


def test_the_file_is_ome_for_other_programs(tmp_path: Path, rng: np.random.Generator) -> None:
    image = pixels("TCZYX", rng)
    path = write(tmp_path / "a.ome.tif", image, "TCZYX", pixel_size_um={"Z": 2.0, "Y": 0.3, "X": 0.25, "T": 30.0})
    with tifffile.TiffFile(path) as tif:
        assert tif.is_ome
        xml = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
    assert (xml["PhysicalSizeX"], xml["PhysicalSizeXUnit"]) == (0.25, "µm")
    assert (xml["PhysicalSizeZ"], xml["TimeIncrement"], xml["TimeIncrementUnit"]) == (2.0, 30.0, "s")
    assert [xml[f"Size{letter}"] for letter in "TCZYX"] == [2, 3, 4, 5, 6]


def test_sizes_names_and_provenance_round_trip(tmp_path: Path, rng: np.random.Generator) -> None:
    sizes = {"Z": 2.0, "Y": 0.3, "X": 1 / 3, "T": 0.5}
    names = ["DAPI", "α-tubulin <568>", 'a "quoted" & {braced}']
    recipe = {"model": "nunet", "strength": np.float32(8), "axes": ("Y", "X"), "score": math.nan, "µ": "{…}<&>\n"}
    path = write(
        tmp_path / "a.tif", pixels("TCZYX", rng), "TCZYX", pixel_size_um=sizes, channel_names=names, provenance=recipe
    )
    back = read(path)
    assert back.pixel_size_um == sizes
    assert list(back.channel_names) == names
    expected = {"model": "nunet", "strength": 8.0, "axes": ["Y", "X"], "score": None, "µ": "{…}<&>\n"}
    assert back.provenance == read_provenance(path) == expected
    assert "values unchanged" in back.description


def test_sizes_that_ome_cannot_hold(tmp_path: Path, rng: np.random.Generator) -> None:
    path = write(
        tmp_path / "a.tif", pixels("ZYX", rng), "ZYX", pixel_size_um={"Z": 0, "Y": -0.5, "X": math.nan, "C": 3}
    )
    assert read(path).pixel_size_um == {"Y": 0.5}


def test_characters_that_xml_cannot_hold(tmp_path: Path, rng: np.random.Generator) -> None:
    path = write(tmp_path / "a.tif", pixels("CYX", rng, C=2), "CYX", channel_names=["a\x00b", "c\x0bd\ud800"])
    assert read(path).channel_names == ("a\ufffdb", "c\ufffdd\ufffd")


def test_no_provenance_is_none(tmp_path: Path, rng: np.random.Generator) -> None:
    assert read_provenance(write(tmp_path / "a.tif", pixels("YX", rng), "YX")) is None
    tifffile.imwrite(tmp_path / "plain.tif", np.zeros((4, 4), np.uint8))
    assert read_provenance(tmp_path / "plain.tif") is None
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "plain.png")
    assert read_provenance(tmp_path / "plain.png") is None


def test_small_tiff_is_classic_and_a_large_one_is_bigtiff(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = pixels("ZYX", rng)
    with tifffile.TiffFile(write(tmp_path / "small.tif", image, "ZYX")) as tif:
        assert not tif.is_bigtiff
    assert 4 * 10**9 < _tiff.BIGTIFF_FROM_BYTES < 2**32
    monkeypatch.setattr(_tiff, "BIGTIFF_FROM_BYTES", image.nbytes)
    path = write(tmp_path / "large.tif", image, "ZYX")
    with tifffile.TiffFile(path) as tif:
        assert tif.is_bigtiff
    np.testing.assert_array_equal(read(path).image, image)


def test_rgba_and_uint8(tmp_path: Path, rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (3, 5, 6, 4), dtype=np.uint8)
    path = write(tmp_path / "a.tif", image, "ZYXS", dtype="uint8")
    np.testing.assert_array_equal(read(path).image, image, strict=True)
    with tifffile.TiffFile(path) as tif:
        assert tif.pages.first.photometric == tifffile.PHOTOMETRIC.RGB
        assert tif.pages.first.extrasamples == (tifffile.EXTRASAMPLE.UNASSALPHA,)


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 5, 5), (4, 4, 3)])
def test_grey_stacks_that_look_like_colours_stay_grey(tmp_path: Path, shape: tuple[int, ...]) -> None:
    image = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    path = write(tmp_path / "a.tif", image, "ZYX", dtype="uint8")
    with tifffile.TiffFile(path) as tif:
        assert tif.pages.first.photometric == tifffile.PHOTOMETRIC.MINISBLACK
    np.testing.assert_array_equal(read(path).image, image, strict=True)


def test_strided_big_endian_and_read_only_input(tmp_path: Path, rng: np.random.Generator) -> None:
    image = rng.random((6, 10)).astype(">f4")[::-1, ::2]
    image.flags.writeable = False
    back = read(write(tmp_path / "a.tif", image, "YX")).image
    np.testing.assert_array_equal(back, image)
    assert back.dtype == np.float32


@pytest.mark.parametrize("name", ["Zell Bilder µm 细胞.ome.tif", "a b.TIF", "a.tiff", "ä.png"])
def test_names_with_unicode_spaces_and_capitals(tmp_path: Path, name: str) -> None:
    image = np.arange(30, dtype=np.uint8).reshape(5, 6)
    folder = tmp_path / "Ordner für Bilder"
    folder.mkdir()
    path = write(folder / name, image, "YX", dtype="uint8")
    np.testing.assert_array_equal(read(path).image, image)


# --- files of other programs ---------------------------------------------------------------


def test_plain_tiff(tmp_path: Path) -> None:
    image = np.arange(30, dtype=np.uint16).reshape(5, 6)
    tifffile.imwrite(tmp_path / "a.tif", image, metadata=None, resolution=(72, 72), resolutionunit="inch")
    back = read(tmp_path / "a.tif")
    assert (back.axes, back.pixel_size_um, back.notes) == ("YX", {}, ())
    np.testing.assert_array_equal(back.image, image, strict=True)


def test_plain_stack_is_taken_as_z_and_says_so(tmp_path: Path) -> None:
    image = np.arange(2 * 3 * 5 * 6, dtype=np.uint8).reshape(2, 3, 5, 6)
    tifffile.imwrite(tmp_path / "a.tif", image[0], photometric="minisblack")
    back = read(tmp_path / "a.tif")
    assert back.axes == "ZYX"
    assert "axis 1 (length 3)" in back.notes[0]
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="minisblack")
    assert read(tmp_path / "a.tif").axes == "ZTYX"


@pytest.mark.parametrize("unit", ["micron", "um", "\\u00B5m", "nm", "mm"])
def test_imagej_hyperstack(tmp_path: Path, unit: str) -> None:
    image = np.arange(2 * 4 * 3 * 5 * 6, dtype=np.uint16).reshape(2, 4, 3, 5, 6)
    metadata = {"axes": "TZCYX", "spacing": 2.0, "unit": unit, "finterval": 15.0}
    tifffile.imwrite(tmp_path / "a.tif", image, imagej=True, resolution=(4.0, 2.0), metadata=metadata)
    back = read(tmp_path / "a.tif")
    factor = {"nm": 1e-3, "mm": 1e3}.get(unit, 1.0)
    assert back.axes == "TZCYX"
    assert back.pixel_size_um == pytest.approx({"X": 0.25 * factor, "Y": 0.5 * factor, "Z": 2.0 * factor, "T": 15.0})
    np.testing.assert_array_equal(back.image, image, strict=True)


def test_imagej_without_a_unit_has_no_size(tmp_path: Path) -> None:
    image = np.zeros((3, 5, 6), np.uint8)
    metadata = {"axes": "ZYX", "spacing": 2.0, "unit": "pixel"}
    tifffile.imwrite(tmp_path / "a.tif", image, imagej=True, resolution=(1.0, 1.0), metadata=metadata)
    assert read(tmp_path / "a.tif").pixel_size_um == {}


@pytest.mark.parametrize(("unit", "factor"), [("nm", 1e-3), ("µm", 1.0), ("mm", 1e3), ("pixel", None)])
def test_units_of_other_ome_files(tmp_path: Path, unit: str, factor: float | None) -> None:
    metadata = {"axes": "ZYX", "PhysicalSizeX": 80.0, "PhysicalSizeXUnit": unit, "TimeIncrement": 5.0}
    tifffile.imwrite(tmp_path / "a.ome.tif", np.zeros((3, 5, 6), np.uint8), metadata=metadata, photometric="minisblack")
    back = read(tmp_path / "a.ome.tif")
    assert back.axes == "ZYX"
    assert back.pixel_size_um == ({} if factor is None else pytest.approx({"X": 80.0 * factor}))


def test_first_image_of_several_and_full_size_of_a_pyramid(tmp_path: Path) -> None:
    image = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    with tifffile.TiffWriter(tmp_path / "pyramid.ome.tif", ome=True) as writer:
        writer.write(image, subifds=1, metadata={"axes": "YX"})
        writer.write(image[::2, ::2], subfiletype=1)
    np.testing.assert_array_equal(read(tmp_path / "pyramid.ome.tif").image, image, strict=True)
    with tifffile.TiffWriter(tmp_path / "two.ome.tif", ome=True) as writer:
        writer.write(image, metadata={"axes": "YX"})
        writer.write(image[:32], metadata={"axes": "YX"})
    back = read(tmp_path / "two.ome.tif")
    np.testing.assert_array_equal(back.image, image, strict=True)
    assert back.notes == ("The file holds 2 images; the first one was read.",)


def test_planar_colours_and_separate_samples(tmp_path: Path) -> None:
    planar = np.arange(3 * 5 * 6, dtype=np.uint8).reshape(3, 5, 6)
    tifffile.imwrite(tmp_path / "a.tif", planar, photometric="rgb", planarconfig="separate")
    back = read(tmp_path / "a.tif")
    assert back.axes == "YXS"
    np.testing.assert_array_equal(back.image, np.moveaxis(planar, 0, -1))
    two = np.arange(5 * 6 * 2, dtype=np.uint8).reshape(5, 6, 2)
    tifffile.imwrite(tmp_path / "b.tif", two, photometric="minisblack", planarconfig="contig")
    assert read(tmp_path / "b.tif").axes == "YXC"


def test_white_is_zero(tmp_path: Path) -> None:
    image = np.arange(30, dtype=np.uint8).reshape(5, 6)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="miniswhite")
    back = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(back.image, 255 - image, strict=True)
    assert "inverted" in back.notes[0]


def test_an_ome_file_edited_elsewhere_falls_back_to_its_own_axes(tmp_path: Path, rng: np.random.Generator) -> None:
    image = pixels("YXZ", rng)
    path = write(tmp_path / "a.tif", image, "YXZ")
    with tifffile.TiffFile(path) as tif:
        xml = tif.ome_metadata
    tifffile.tiffcomment(path, xml.replace('<M K="axes">YXZ</M>', '<M K="axes">YX</M>').encode())
    assert read(path).axes == "ZYX"
    np.testing.assert_array_equal(read(path).image, np.moveaxis(image, -1, 0))


# --- damaged and foreign files -------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"II", b"GIF89a...", b"<html>", bytes(100)])
def test_neither_tiff_nor_png(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tif").write_bytes(content)
    for action in (read, read_provenance):
        with pytest.raises(ImageError, match="neither a TIFF nor a PNG"):
            action(tmp_path / "a.tif")


def test_no_such_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.tif")
    with pytest.raises(OSError, match=r"directory|Permission"):
        read(tmp_path)


@pytest.mark.parametrize("kind", ["ome", "imagej", "plain", "deflate", "png"])
def test_cut_and_flipped_files_never_give_a_wrong_shape_or_a_strange_error(tmp_path: Path, kind: str) -> None:
    image = np.random.default_rng(5).integers(0, 255, (3, 16, 17), dtype=np.uint8)
    path = tmp_path / f"a.{'png' if kind == 'png' else 'tif'}"
    if kind == "ome":
        write(path, image, "ZYX", dtype="uint8")
    elif kind == "png":
        write(path, image[0], "YX", dtype="uint8")
    else:
        options: dict[str, Any] = {"imagej": {"imagej": True}, "deflate": {"compression": "zlib"}}.get(kind, {})
        tifffile.imwrite(path, image, photometric="minisblack", **options)
    good = path.read_bytes()
    cuts = [good[:n] for n in (4, 8, 20, len(good) // 3, len(good) // 2, len(good) - 400, len(good) - 5)]
    rng = np.random.default_rng(6)
    flips = [
        _flipped(good, int(at), int(bit))
        for at, bit in zip(rng.integers(4, 700, 60), rng.integers(0, 8, 60), strict=True)
    ]
    n_refused = 0
    for data in cuts + flips:
        path.write_bytes(data)
        try:
            back = read(path)
        except (ImageError, OSError):
            n_refused += 1
        else:
            assert back.image.size > 0
            assert len(back.axes) == back.image.ndim
    assert n_refused >= 5


def _flipped(data: bytes, at: int, bit: int) -> bytes:
    changed = bytearray(data)
    changed[at % len(data)] ^= 1 << bit
    return bytes(changed)


def test_a_file_without_its_last_pixels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.ones((40, 50), np.uint16))
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(ImageError, match="is cut off: it has"):
        read(path)


def test_a_compression_without_decoder_names_the_package(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.ones((16, 16), np.uint8), compression="zlib")
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tif.pages.first.tags["Compression"].overwrite(50001)  # WebP
    with pytest.raises(ImageError, match="pip install imagecodecs"):
        read(path)


# --- writing: refusals and faults ----------------------------------------------------------


def test_an_existing_file_is_kept_unless_overwriting(tmp_path: Path) -> None:
    for name in ("a.tif", "a.png"):
        one, two = np.full((4, 5), 1, np.uint8), np.full((4, 5), 2, np.uint8)
        path = write(tmp_path / name, one, "YX", dtype="uint8")
        with pytest.raises(TargetExistsError, match="exists already"):
            write(path, two, "YX", dtype="uint8")
        np.testing.assert_array_equal(read(path).image, one)
        write(path, two, "YX", dtype="uint8", overwrite=True)
        np.testing.assert_array_equal(read(path).image, two)


def _write_half_then_fail(real: Any, error: Exception) -> Any:
    def writer(file: Any, *args: Any, **options: Any) -> None:
        real(file, *args, **options)
        path = Path(file)
        path.write_bytes(path.read_bytes()[:100])
        raise error

    return writer


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError("4096 requested and 0 written")])
def test_a_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    old = np.full((4, 5), 1, np.uint8)
    path = write(tmp_path / "a.tif", old, "YX", dtype="uint8")
    with monkeypatch.context() as patch:
        patch.setattr(tifffile, "imwrite", _write_half_then_fail(tifffile.imwrite, error))
        with pytest.raises(WriteError, match=r"disk is full|0 written") as caught:
            write(path, old + 1, "YX", dtype="uint8", overwrite=True)
    assert "Nothing was changed" in str(caught.value)
    np.testing.assert_array_equal(read(path).image, old)
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


@pytest.mark.parametrize("n_lost", [10, 500, 4000, 9000])
def test_a_writer_that_stops_early_without_saying_so_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_lost: int
) -> None:
    real = tifffile.imwrite

    def silent(file: Any, *args: Any, **options: Any) -> None:
        real(file, *args, **options)
        path = Path(file)
        path.write_bytes(path.read_bytes()[:-n_lost])

    monkeypatch.setattr(tifffile, "imwrite", silent)
    with pytest.raises(WriteError, match="not written completely"):
        write(tmp_path / "a.tif", np.ones((40, 50), np.float32), "YX", provenance={"long": "x" * 600})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("image", "axes", "options", "kind", "words"),
    [
        (np.zeros((4, 5)), "ZYX", {}, AxesError, "3 dimensions"),
        (np.zeros((4, 5)), "YY", {}, AxesError, "more than once"),
        (np.zeros((4, 5)), "YQ", {}, AxesError, "contain Q"),
        (np.zeros((4, 5)), "ZY", {}, AxesError, "lack Y or X"),
        (np.zeros((2, 4, 5, 3)), "CYXS", {}, AxesError, "at once"),
        (np.zeros((4, 5, 2)), "YXS", {}, ImageError, "length 2; expected 3"),
        (np.zeros((0, 5)), "YX", {}, ImageError, "empty"),
        (np.zeros((4, 5), complex), "YX", {}, ImageError, "complex"),
        (np.full((4, 5), None), "YX", {}, ImageError, "object"),
        (np.zeros((4, 5)), "YX", {"dtype": "uint12"}, ParameterError, "uint12"),
        (np.zeros((2, 4, 5)), "CYX", {"channel_names": ["one"]}, ParameterError, "1 channel names for 2 channels"),
    ],
)
def test_what_cannot_be_written_is_refused_before_touching_the_disk(
    tmp_path: Path, image: np.ndarray, axes: str, options: dict[str, Any], kind: Any, words: str
) -> None:
    with pytest.raises(kind, match=words):
        write(tmp_path / "a.tif", image, axes, **options)
    assert list(tmp_path.iterdir()) == []


def test_unknown_suffix_missing_folder_and_long_name(tmp_path: Path) -> None:
    image = np.zeros((4, 5), np.uint8)
    with pytest.raises(ParameterError, match="ending in"):
        write(tmp_path / "a.jpg", image, "YX")
    with pytest.raises(WriteError, match="does not exist"):
        write(tmp_path / "no" / "a.tif", image, "YX")
    (tmp_path / "folder.tif").mkdir()
    with pytest.raises(WriteError, match="is a folder"):
        write(tmp_path / "folder.tif", image, "YX", overwrite=True)
    with pytest.raises(WriteError, match="too long"):
        write(tmp_path / f"{'x' * 300}.tif", image, "YX")
    (tmp_path / "file").write_text("x")
    with pytest.raises(WriteError, match=r"is not a folder|does not exist"):
        write(tmp_path / "file" / "a.tif", image, "YX")


# --- PNG -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_png_round_trip(tmp_path: Path, rng: np.random.Generator, dtype: type) -> None:
    image = rng.integers(0, np.iinfo(dtype).max, (5, 6), dtype=dtype, endpoint=True)
    sizes = {"Y": 0.5, "X": 0.25}
    path = write(tmp_path / "a.png", image, "YX", pixel_size_um=sizes, provenance={"model": "µ-net", "w": 8.0})
    back = read(path)
    assert (back.axes, back.pixel_size_um, back.notes) == ("YX", sizes, ())
    assert back.provenance == read_provenance(path) == {"model": "µ-net", "w": 8.0}
    assert "values unchanged" in back.description
    np.testing.assert_array_equal(back.image, image, strict=True)


@pytest.mark.parametrize("n_samples", [3, 4])
def test_colour_png_round_trip(tmp_path: Path, rng: np.random.Generator, n_samples: int) -> None:
    image = rng.integers(0, 256, (5, 6, n_samples), dtype=np.uint8)
    back = read(write(tmp_path / "a.png", image, "YXS"))
    assert back.axes == "YXS"
    np.testing.assert_array_equal(back.image, image, strict=True)


def test_floats_become_8_bits_in_png_with_a_stated_mapping(tmp_path: Path) -> None:
    image = np.array([[0.0, 0.5, 1.0], [-1.0, 2.0, np.nan]], np.float32)
    back = read(write(tmp_path / "a.png", image, "YX"))
    assert back.image.tolist() == [[0, 128, 255], [0, 255, 0]]
    assert back.image.dtype == np.uint8
    assert "0…1 stored as 0…255" in back.description
    assert read(write(tmp_path / "b.png", image, "YX", dtype="uint16")).image.tolist()[0] == [0, 32768, 65535]


def test_png_of_masks_labels_and_length_one_axes(tmp_path: Path) -> None:
    mask = np.array([[True, False]])
    assert read(write(tmp_path / "m.png", mask, "YX")).image.tolist() == [[255, 0]]
    labels = np.array([[0, 300]], np.uint32)
    assert read(write(tmp_path / "l.png", labels, "YX", dtype="keep")).image.tolist() == [[0, 300]]
    assert read(write(tmp_path / "z.png", labels[None], "ZYX", dtype="keep")).axes == "YX"
    np.testing.assert_array_equal(read(write(tmp_path / "t.png", labels, "XY", dtype="keep")).image, labels.T)


@pytest.mark.parametrize(
    ("image", "axes", "dtype", "words"),
    [
        (np.zeros((2, 4, 5)), "ZYX", "uint8", "one plane"),
        (np.zeros((4, 5)), "YX", "keep", "no floating-point"),
        (np.zeros((4, 5, 3), np.uint16), "YXS", "keep", "grey images only"),
        (np.full((4, 5), 70_000, np.uint32), "YX", "keep", "70000"),
        (np.full((4, 5), -1, np.int16), "YX", "keep", "-1"),
    ],
)
def test_what_png_cannot_hold(tmp_path: Path, image: np.ndarray, axes: str, dtype: Any, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        write(tmp_path / "a.png", image, axes, dtype=dtype)
    assert list(tmp_path.iterdir()) == []


def test_png_of_other_programs(tmp_path: Path, rng: np.random.Generator) -> None:
    grey = rng.integers(0, 256, (5, 6), dtype=np.uint8)
    Image.fromarray(np.stack([grey, grey], -1)).save(tmp_path / "la.png")
    back = read(tmp_path / "la.png")
    np.testing.assert_array_equal(back.image, grey, strict=True)
    assert "transparency" in back.notes[0]
    Image.fromarray(grey).convert("P").save(tmp_path / "p.png")
    assert read(tmp_path / "p.png").axes == "YXS"
    Image.fromarray(grey > 100).save(tmp_path / "one.png")
    np.testing.assert_array_equal(read(tmp_path / "one.png").image, grey > 100, strict=True)


def test_16_bit_colour_png_says_that_depth_is_lost(tmp_path: Path) -> None:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes([200, 0] * 3 * 4) for _ in range(2))
    header = struct.pack(">IIBBBBB", 4, 2, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(data)
    back = read(tmp_path / "a.png")
    assert back.image.dtype == np.uint8
    assert set(back.image.ravel()) == {200}
    assert "16 bits per colour" in back.notes[0]
