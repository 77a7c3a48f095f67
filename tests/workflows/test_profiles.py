"""Profiles of images that lie in one world, and what is made of them."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from napari_cellenhance.core.errors import ImageError, ParameterError, TargetExistsError
from napari_cellenhance.io.images import write
from napari_cellenhance.workflows import profile_tables as tables
from napari_cellenhance.workflows._measured import MeasuredImage
from napari_cellenhance.workflows.profiles import (
    ProfiledImage,
    ProfileRequest,
    ProfileResult,
    measure_profiles,
    placed,
    read_profiled,
)

RAMP = np.add.outer(10.0 * np.arange(20), np.arange(30.0))


def image(name: str, pixels: Any, scale: Any = (1, 1), translate: Any = (0, 0), **more: Any) -> ProfiledImage:
    axes = more.pop("axes", "YX")
    measured = MeasuredImage(name=name, image=pixels, axes=axes, **more)
    return ProfiledImage(image=measured, to_px=placed(scale, translate))


def bumps(centres: Any, sigma: float, shape: tuple[int, int] = (40, 100), pixel: float = 1.0) -> NDArray[np.float64]:
    """Vertical stripes at the given columns, in world units; rows are alike."""
    x = pixel * np.arange(shape[1])
    row = sum(np.exp(-((x - c) ** 2) / (2 * sigma**2)) for c in centres)
    return np.asarray(np.tile(row, (shape[0], 1)))


def measured(*images: ProfiledImage, line: Any = ((5, 2), (5, 20)), **more: Any) -> ProfileResult:
    return measure_profiles(ProfileRequest(images=images, line=line, **more))


# --- reading ----------------------------------------------------------------------------------


def test_layers_of_other_pixels_and_places_line_up() -> None:
    fine = bumps((20, 61), 3, (80, 200), 0.5)
    coarse = bumps((20, 61), 3)
    cut = coarse[3:, 7:]
    found = measured(
        image("fine", fine, (0.5, 0.5)), image("coarse", coarse), image("cut", cut, translate=(3, 7)),
        line=((10, 0), (10, 90)), um_per_unit=0.2,
    )  # fmt: skip
    assert len(found.distance_px) == 181, "one place for each pixel of the finest image"
    assert found.pixel_um == pytest.approx(0.1) and found.distance[-1] == pytest.approx(18) and found.unit == "µm"
    positions = [[peak.position_px for peak in each.peaks] for each in found.profiles]
    assert positions[0] == pytest.approx([40, 122], abs=0.1)
    assert positions[1] == pytest.approx(positions[0], abs=0.5) and positions[2] == pytest.approx(positions[1])
    by_name = {each.name: each.values for each in found.profiles}
    assert np.isnan(by_name["cut"][:13]).all() and by_name["cut"][14:] == pytest.approx(by_name["coarse"][14:])
    assert found.notes == ("“cut” has values on 93 % of the line.",)


def test_width_is_in_pixels_of_the_finest_image() -> None:
    plane = np.zeros((20, 30))
    plane[10] = 9.0
    (one,) = measured(image("a", plane, (0.5, 0.5)), line=((5, 2), (5, 10)), width_px=3).profiles
    assert one.values == pytest.approx(np.full(17, 3.0))


def test_a_turned_image_is_read_where_it_lies() -> None:
    turned = RAMP.T  # rows of the layer run along x of the world
    to_px = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    there = ProfiledImage(image=MeasuredImage(name="turned", image=turned, axes="YX"), to_px=to_px)
    first, second = measured(image("straight", RAMP), there, line=((2, 3), (9, 20))).profiles
    assert second.values == pytest.approx(first.values)


def test_of_a_stack_one_plane_is_read_and_of_colours_their_luminance() -> None:
    stack = np.stack([RAMP, RAMP + 100, RAMP + 200])
    (one,) = measured(image("z", stack, axes="ZYX", at=(0, 0, 2))).profiles
    assert one.values[0] == 252
    with pytest.raises(ParameterError, match=r"3 planes.*from Z 0 to Z 2"):
        measured(image("z", stack, axes="ZYX"))
    grey = np.repeat(np.arange(30, dtype=np.uint8)[np.newaxis, :, np.newaxis], 20, axis=0).repeat(3, axis=2)
    found = measured(image("rgb", grey, axes="YXS"))
    (colour,) = found.profiles
    assert found.notes == ("Of “rgb” the luminance of its colours was read.",)
    assert colour.values == pytest.approx(np.arange(2, 21), abs=1e-4)


def test_of_a_lazy_image_only_the_surroundings_are_read() -> None:
    import dask.array as da

    asked: list[Any] = []

    def tell(block: NDArray[Any], block_info: Any = None) -> NDArray[Any]:
        if block_info:
            asked.append(block_info[0]["chunk-location"])
        return block

    lazy = da.from_array(np.tile(RAMP, (10, 10)), chunks=(20, 30)).map_blocks(tell, dtype=float, meta=np.zeros((0, 0)))
    (one,) = measured(image("lazy", lazy), line=((45, 65), (45, 80))).profiles
    assert one.values == pytest.approx(np.tile(RAMP, (10, 10))[45, 65:81])
    assert set(asked) == {(2, 2)}


def test_the_line_must_touch_an_image() -> None:
    with pytest.raises(ImageError, match="outside of “a”, “b”"):
        measured(image("a", RAMP), image("b", RAMP), line=((50, 50), (60, 60)))
    found = measured(image("a", RAMP), image("far", RAMP, translate=(100, 100)), reference="a")
    assert found.notes == ("The line does not touch “far”: it lies elsewhere, or has no values there.",)
    assert found.profiles[1].comparison is not None and np.isnan(found.profiles[1].comparison.mae)
    apart = measured(
        image("a", RAMP), image("b", RAMP, translate=(0, 40)), line=((5, 2), (5, 60)), reference="a"
    )  # fmt: skip
    assert "no place of the line in common" in apart.notes[-1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": ()}, "no image"),
        ({"reference": "c"}, "none of a, b"),
        ({"images": (image("a", RAMP), image("a", RAMP))}, "two images are called “a”"),
        ({"um_per_unit": 0.0}, "µm"),
    ],
)
def test_requests_that_make_no_sense_are_refused(change: dict[str, Any], words: str) -> None:
    request = ProfileRequest(images=(image("a", RAMP), image("b", RAMP)), line=((0, 0), (1, 1)))
    with pytest.raises(ParameterError, match=words):
        dataclasses.replace(request, **change)
    with pytest.raises(ParameterError, match="not 0"):
        placed((0, 1))


def test_it_can_be_stopped_between_images() -> None:
    n_asked = iter(range(9))
    request = ProfileRequest(images=(image("a", RAMP), image("b", RAMP)), line=((5, 2), (5, 20)), reference="b")
    found = measure_profiles(request, is_cancelled=lambda: next(n_asked) > 0)
    assert not found.is_complete and [each.name for each in found.profiles] == ["a"]


# --- tables -----------------------------------------------------------------------------------


@pytest.fixture
def restored() -> ProfileResult:
    truth, blurred = 100 * bumps((30, 60), 3), 40 * bumps((31, 61), 4.5) + 7
    return measured(
        image("blurred", blurred), image("truth", truth), line=((5, 0), (5, 99)), reference="truth", um_per_unit=0.5
    )


def test_peaks_are_compared_with_those_of_the_reference(restored: ProfileResult) -> None:
    rows = tables.peak_rows(restored)
    assert [(row["image"], row["peak"], row["reference_peak"]) for row in rows] == [
        ("blurred", 1, 1), ("blurred", 2, 2), ("truth", 1, None), ("truth", 2, None),
    ]  # fmt: skip
    assert rows[0]["shift_px"] == pytest.approx(1, abs=0.02) and rows[0]["shift_um"] == pytest.approx(0.5, abs=0.01)
    assert rows[0]["width_ratio"] == pytest.approx(1.5, rel=0.02)
    assert rows[2]["position_um"] == pytest.approx(15) and np.isnan(rows[2]["shift_px"])
    first, second = tables.comparison_rows(restored)
    assert (first["n_matched"], first["n_reference"]) == (2, 2) and second["n_matched"] is None
    assert first["abs_shift_um"] == pytest.approx(0.5, abs=0.01)
    text = tables.to_markdown(restored)
    assert "| image | peaks | FWHM (µm) | matched | shift (µm) |" in text and "| truth | 2 | 3.5" in text


def test_normalised_columns_stand_beside_those_as_stored(restored: ProfileResult) -> None:
    plain, fitted = tables.to_rows(restored), tables.to_rows(restored, "fit")
    assert list(plain[0]) == ["distance_px", "distance_um", "blurred", "truth"] and len(plain) == 100
    assert plain[30]["distance_um"] == 15 and plain[30]["truth"] == pytest.approx(100, abs=0.1)
    assert list(fitted[0])[4:] == [
        "blurred, grey value, fitted to “truth”", "truth, grey value, fitted to “truth”",
    ]  # fmt: skip
    assert fitted[30]["truth, grey value, fitted to “truth”"] == pytest.approx(plain[30]["truth"])
    with pytest.raises(ParameterError, match="another name"):
        tables.to_rows(measured(image("distance_px", RAMP)))


def test_tables_record_and_figure_are_files(restored: ProfileResult, tmp_path: Path) -> None:
    files = tables.save(restored, tmp_path / "line.csv", "range")
    assert [file.name for file in files] == ["line.csv", "line.csv.json", "line_peaks.csv"]
    with open(files[0], encoding="utf-8", newline="") as stream:
        assert float(list(csv.DictReader(stream))[30]["blurred, darkest 0 to brightest 1"]) > 0.95
    record = json.loads(files[1].read_text(encoding="utf-8"))
    assert record["line_yx"] == [[5, 0], [5, 99]] and record["pixel_um"] == 0.5 and record["normalization"] == "range"
    assert record["compared"]["blurred"]["n_matched"] == 2
    picture = tables.save_figure(restored, tmp_path / "line.png")
    with Image.open(picture) as drawn:
        assert drawn.format == "PNG" and drawn.width > 1.5 * drawn.height
    (tmp_path / "other_peaks.csv").write_text("mine", encoding="utf-8")
    with pytest.raises(TargetExistsError):
        tables.save(restored, tmp_path / "other.csv", overwrite=False)
    assert not (tmp_path / "other.csv").exists()
    with pytest.raises(TargetExistsError):
        tables.save_figure(restored, picture, overwrite=False)
    with pytest.raises(ParameterError, match=r"\.csv"):
        tables.save(restored, tmp_path / "line.txt")
    with pytest.raises(ParameterError, match=r"\.png"):
        tables.save_figure(restored, tmp_path / "line.jpg")


# --- files ------------------------------------------------------------------------------------


def test_files_bring_their_pixel_sizes(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", RAMP.astype(np.float32), "YX", pixel_size_um={"Y": 0.5, "X": 0.5})
    write(tmp_path / "b.tif", RAMP.astype(np.float32), "YX")
    (tmp_path / "deep").mkdir()
    write(tmp_path / "deep" / "b.tif", RAMP[:9].astype(np.float32), "YX")
    images, unit, notes = read_profiled([tmp_path / "a.tif", tmp_path / "b.tif"])
    assert [each.name for each in images] == ["a.tif", "b.tif"] and unit == 1.0
    assert [each.pixel for each in images] == pytest.approx([0.5, 0.5])
    assert len(notes) == 1 and "b.tif does not tell its pixel size" in notes[0]
    with pytest.raises(ImageError, match="save it with one"):
        read_profiled([tmp_path / "a.tif", tmp_path / "deep" / "b.tif"])
    images, unit, notes = read_profiled([tmp_path / "b.tif", tmp_path / "deep" / "b.tif"])
    assert unit is None and not notes and images[1].name.endswith("deep/b.tif") and images[1].pixel == 1
