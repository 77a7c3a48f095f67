"""CSV with its record, and text for the clipboard."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from napari_cellenhance.core.errors import ImageError, ParameterError, TargetExistsError, WriteError
from napari_cellenhance.io.tables import read_column, table_text, write_table

ROWS = [
    {"layer": 'raw, "day 1"', "contrast ratio": 5.0, "floor": False},
    {"layer": "=evil()", "contrast ratio": float("nan"), "floor": None},
]


def test_a_table_reads_back_and_has_its_record(tmp_path: Path) -> None:
    files = write_table(tmp_path / "table.csv", ROWS, {"layers": {"raw": [2, 3]}})
    assert [file.name for file in files] == ["table.csv", "table.csv.json"]
    with files[0].open(newline="", encoding="utf-8") as stream:
        first, second = csv.DictReader(stream)
    assert first == {"layer": 'raw, "day 1"', "contrast ratio": "5.0", "floor": "False"}
    assert second == {"layer": "'=evil()", "contrast ratio": "", "floor": ""}
    assert json.loads(files[1].read_text()) == {"layers": {"raw": [2, 3]}}


def test_without_a_record_there_is_one_file(tmp_path: Path) -> None:
    assert len(write_table(tmp_path / "table.csv", ROWS)) == len(list(tmp_path.iterdir())) == 1


def test_existing_files_are_kept_unless_asked(tmp_path: Path) -> None:
    target = tmp_path / "table.csv"
    target.write_text("earlier")
    with pytest.raises(TargetExistsError):
        write_table(target, ROWS, overwrite=False)
    assert target.read_text() == "earlier"
    with pytest.raises(WriteError, match="could not be written"):
        write_table(tmp_path / "nowhere" / "table.csv", ROWS)


def test_rows_must_be_alike(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="no rows"):
        table_text([])
    with pytest.raises(ParameterError, match="different columns"):
        write_table(tmp_path / "t.csv", [{"a": 1}, {"b": 1}])
    assert not list(tmp_path.iterdir())


def test_clipboard_text_has_tabs() -> None:
    assert table_text(ROWS).splitlines()[0] == "layer\tcontrast ratio\tfloor"


def test_a_column_is_read_without_means_and_gaps(tmp_path: Path) -> None:
    path, _ = write_table(
        tmp_path / "t.csv",
        [{"image": "a", "n": 3}, {"image": "b", "n": None}, {"image": "c", "n": 5.5}, {"image": "mean", "n": 4.25}],
        {},
    )
    assert read_column(path, "n", leave_out=("mean",)) == ([3.0, 5.5], ["b"])
    with pytest.raises(ParameterError, match="there are image, n"):
        read_column(path, "f1")
    with pytest.raises(ImageError, match="expected numbers"):
        read_column(path, "image")
    path.write_bytes(b"\xff\xfe,\x00")
    with pytest.raises(ImageError, match="no table"):
        read_column(path, "n")
