"""Crops as a folder: what was written is read, and what a person changes in a file manager counts."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_cellenhance.core.crop_library import CropClass, CropLibrary, FoundObject
from napari_cellenhance.core.crops import Background, CropSet, ObjectCrop
from napari_cellenhance.core.errors import ImageError, ParameterError, TargetExistsError, WriteError
from napari_cellenhance.io import crop_folders
from napari_cellenhance.io.crop_folders import is_crop_folder, read_crops, read_library, write_crops
from napari_cellenhance.io.images import write


def crop(value: float, at: tuple[int, int] = (3, 5), **more: Any) -> ObjectCrop:
    mask = np.ones((6, 8), bool)
    mask[0, :3] = False
    pixels = np.where(mask, np.float32(value), np.float32(0))
    pixels[2, 2] = 0  # black, but part of the object
    y, x = at
    return ObjectCrop(pixels=pixels, mask=mask, source="cells 1.tif", box=(y, x, y + 6, x + 8), **more)


def background(shape: tuple[int, int] = (20, 30)) -> Background:
    mask = np.zeros(shape, bool)
    mask[3:9, 5:13] = True
    return Background(pixels=np.where(mask, 0, 7).astype(np.float32), mask=mask, source="cells 1.tif")


def found(kind: CropClass, value: float, **more: Any) -> FoundObject:
    reason = "touches the border" if kind == "discarded" else ""
    return FoundObject(crop=crop(value, **more), kind=kind, reason=reason, score=value / 1000)


@pytest.fixture
def library() -> CropLibrary:
    return CropLibrary(
        objects=(
            found("target", 200.25),
            found("target", 90, at=(10, 12), track=4, frame=2),
            found("unwanted", 40),
            found("discarded", 20),
        ),
        backgrounds=(background(),),
        white={"cells 1.tif": 221.5},
    )


@pytest.fixture
def folder(tmp_path: Path, library: CropLibrary) -> Path:
    return write_crops(tmp_path / "crops", library, {"way": "labels"})


def files(folder: Path, kind: str) -> list[Path]:
    return sorted((folder / kind).iterdir())


def test_what_was_written_is_read(folder: Path, library: CropLibrary) -> None:
    again = read_library(folder)
    assert [one.kind for one in again.objects] == ["target", "target", "unwanted", "discarded"]
    for one, other in zip(again.objects, library.objects, strict=True):
        assert np.array_equal(one.crop.pixels, other.crop.pixels) and one.crop.pixels.dtype == np.float32
        assert np.array_equal(one.crop.mask, other.crop.mask)
        for name in ("source", "box", "track", "frame"):
            assert getattr(one.crop, name) == getattr(other.crop, name)
        assert (one.score, one.reason) == (other.score, other.reason)
    assert again.white == {"cells 1.tif": 221.5} and not again.notes
    (ground,) = again.backgrounds
    assert np.array_equal(ground.pixels, background().pixels) and np.array_equal(ground.mask, background().mask)
    assert ground.source == "cells 1.tif"


def test_the_training_gets_what_was_kept(folder: Path) -> None:
    crops = read_crops(folder)
    assert (len(crops.target), len(crops.unwanted), len(crops.backgrounds)) == (2, 1, 1)
    assert crops.white == {"cells 1.tif": 221.5}


def test_the_table_reads_like_a_report(folder: Path) -> None:
    with (folder / "crops.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["class"] for row in rows] == ["target", "target", "unwanted", "discarded"]
    assert rows[1]["track"] == "4" and rows[1]["frame"] == "2" and rows[0]["track"] == ""
    assert rows[3]["reason"] == "touches the border" and rows[0]["area_px"] == "45"
    assert all((folder / row["class"] / row["file"]).is_file() for row in rows)
    record = json.loads((folder / "crops.csv.json").read_text(encoding="utf-8"))
    assert record["way"] == "labels" and record["white"] == {"cells 1.tif": 221.5}


def test_other_programs_see_nan_outside_the_object(folder: Path) -> None:
    pixels = tifffile.imread(files(folder, "target")[0])
    assert pixels.dtype == np.float32 and np.isnan(pixels[0, :3]).all() and np.isnan(pixels).sum() == 3


def test_a_file_that_is_moved_changes_its_class(folder: Path) -> None:
    moved = files(folder, "target")[0]
    moved.rename(folder / "unwanted" / moved.name)
    thrown = files(folder, "target")[0]
    thrown.rename(folder / "discarded" / thrown.name)
    again = read_library(folder)
    assert again.counts() == {"target": 0, "unwanted": 2, "discarded": 2}
    assert {one.reason for one in again.of("unwanted")} == {""}
    assert sorted(one.reason for one in again.of("discarded")) == ["moved by hand", "touches the border"]
    assert any("files were moved" in note and moved.name in note for note in again.notes)
    with pytest.raises(ParameterError, match="kind to keep"):
        read_crops(folder)


def test_a_file_that_is_deleted_is_left_out(folder: Path) -> None:
    gone = files(folder, "unwanted")[0]
    gone.unlink()
    again = read_library(folder)
    assert not again.of("unwanted") and any("files are gone" in note and gone.name in note for note in again.notes)


def test_without_the_table_the_files_tell(folder: Path) -> None:
    (folder / "crops.csv").unlink()
    (folder / "crops.csv.json").unlink()
    again = read_library(folder)
    assert again.objects[1].crop.track == 4 and again.objects[1].crop.box == (10, 12, 16, 20)
    assert again.white == {} and len(again.notes) == 2


def test_a_crop_saved_by_another_program_keeps_its_line(folder: Path) -> None:
    path = files(folder, "target")[1]
    pixels = tifffile.imread(path)
    pixels[5] = np.nan  # trimmed with an eraser
    tifffile.imwrite(path, pixels)
    one = read_library(folder).objects[1]
    assert (one.crop.track, one.crop.frame, one.crop.box) == (4, 2, (10, 12, 16, 20))
    assert not one.crop.mask[5].any()


def test_a_crop_of_another_program_is_an_image_of_its_own(folder: Path) -> None:
    pixels = np.full((5, 4), np.nan, np.float32)
    pixels[1:4, 1:3] = 9
    tifffile.imwrite(folder / "unwanted" / "mine.tif", pixels)
    again = read_library(folder)
    (mine,) = (one for one in again.of("unwanted") if one.crop.source == "mine.tif")
    assert mine.crop.area_px == 6 and np.isnan(mine.score)
    assert any("mine.tif" in note for note in again.notes)


def test_files_that_are_no_crops_are_told(folder: Path) -> None:
    (folder / "target" / "notes.txt").write_text("blurred?", encoding="utf-8")
    (folder / "target" / ".DS_Store").write_bytes(b"\0")
    (note,) = read_library(folder).notes
    assert "notes.txt" in note and "DS_Store" not in note


@pytest.mark.parametrize(
    ("pixels", "match"),
    [
        (np.ones((5, 5), np.float32), "where its object ends"),
        (np.full((5, 5), np.nan, np.float32), "has no pixel of an object"),
        (np.ones((2, 5, 5, 5), np.float32), "expected one plane"),
    ],
)
def test_a_foreign_image_is_refused(folder: Path, pixels: np.ndarray, match: str) -> None:
    tifffile.imwrite(folder / "target" / "foreign.tif", pixels)
    with pytest.raises(ImageError, match=match) as error:
        read_library(folder)
    assert "foreign.tif" in str(error.value)


def test_a_broken_file_is_named(folder: Path) -> None:
    path = files(folder, "target")[0]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ImageError, match="Delete the file, or write the library again") as error:
        read_crops(folder)
    assert path.name in str(error.value)


def test_a_spoilt_table_is_named(folder: Path) -> None:
    (folder / "crops.csv").write_bytes(b"\xff\xfe\x00file")
    with pytest.raises(ImageError, match=r"crops\.csv is no table"):
        read_library(folder)


def test_a_spoilt_record_is_named(folder: Path) -> None:
    (folder / "crops.csv.json").write_text("[1", encoding="utf-8")
    with pytest.raises(ImageError, match="damaged"):
        read_library(folder)


def test_no_library(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="no folder"):
        read_crops(tmp_path / "nowhere")
    with pytest.raises(ParameterError, match="no library of crops"):
        read_crops(tmp_path)
    assert not is_crop_folder(tmp_path)


def test_crops_that_are_there_are_replaced_only_if_asked(folder: Path, library: CropLibrary) -> None:
    with pytest.raises(TargetExistsError, match="holds crops already"):
        write_crops(folder, library)
    write_crops(folder, library.moved([2], "target"), overwrite=True)
    assert read_library(folder).counts() == {"target": 3, "unwanted": 0, "discarded": 1}
    assert [path.name for path in folder.parent.iterdir()] == ["crops"]


def test_a_folder_with_other_things_is_never_touched(tmp_path: Path, library: CropLibrary) -> None:
    (tmp_path / "thesis.docx").write_text("all of it", encoding="utf-8")
    with pytest.raises(TargetExistsError, match=r"thesis\.docx"):
        write_crops(tmp_path, library, overwrite=True)
    with pytest.raises(TargetExistsError, match="is a file"):
        write_crops(tmp_path / "thesis.docx", library, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.docx"]


def test_a_failure_leaves_what_was_there(folder: Path, library: CropLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    n_written = 0

    def full(*args: Any, **settings: Any) -> Path:
        nonlocal n_written
        n_written += 1
        if n_written == 3:
            raise OSError(28, "No space left on device")
        return write(*args, **settings)

    monkeypatch.setattr(crop_folders, "write", full)
    with pytest.raises(WriteError, match="Nothing was changed"):
        write_crops(folder, library, overwrite=True)
    assert read_library(folder).counts() == {"target": 2, "unwanted": 1, "discarded": 1}
    assert [path.name for path in folder.parent.iterdir()] == ["crops"]


def test_nothing_to_write(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="no crop to write"):
        write_crops(tmp_path / "crops", CropLibrary())
    assert not (tmp_path / "crops").exists()


def test_colours(tmp_path: Path) -> None:
    mask = np.ones((6, 8), bool)
    mask[0, 0] = False
    pixels = np.random.default_rng(0).random((6, 8, 3), np.float32) * mask[..., None]
    colour = ObjectCrop(pixels=pixels.astype(np.float32), mask=mask, source="he/slide.png", box=(0, 0, 6, 8))
    write_crops(tmp_path / "crops", CropSet(target=(colour,)))
    (again,) = read_crops(tmp_path / "crops").target
    assert np.array_equal(again.pixels, pixels) and np.array_equal(again.mask, mask) and again.source == "he/slide.png"


def test_names_of_sources_make_names_of_files(tmp_path: Path) -> None:
    one = ObjectCrop(
        pixels=np.ones((2, 2), np.float32), mask=np.ones((2, 2), bool), source="a/b:c?.ome.tif", box=(0, 0, 2, 2)
    )
    write_crops(tmp_path / "crops", CropSet(target=(one,)))
    assert [path.name for path in files(tmp_path / "crops", "target")] == ["00001_a_b_c__y0_x0.tif"]
    assert read_crops(tmp_path / "crops").target[0].source == "a/b:c?.ome.tif"
