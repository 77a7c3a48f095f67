"""Points from the tables that napari, this program and spreadsheets write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.io.points import read_points


def stored(folder: Path, text: str) -> Path:
    path = folder / "points.csv"
    path.write_text(text, encoding="utf-8-sig")
    return path


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("index,axis-0,axis-1,radius_px\n0,1.5,2,9\n1,3,4,9\n", [[1.5, 2], [3, 4]]),
        ("axis-0,axis-1,axis-2\n7,1,2\n", [[7, 1, 2]]),
        ("x,y,name\n2,1,a\n", [[1, 2]]),
        ("z,x,y\n5,2,1\n", [[5, 1, 2]]),
    ],
)
def test_coordinates_end_with_row_and_column(tmp_path: Path, text: str, points: list[list[float]]) -> None:
    np.testing.assert_array_equal(read_points(stored(tmp_path, text)), points)


def test_a_table_without_lines_has_no_points(tmp_path: Path) -> None:
    assert read_points(stored(tmp_path, "axis-0,axis-1\n")).shape == (0, 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "has the columns a, b; expected y and x"),
        ("", "of no name"),
        ("y,z\n1,2\n", "expected y and x"),
        ("y,x\n1,two\n", "no number"),
        ("y,x\n1\n", "no number"),
        ("y,x\n1,nan\n", "NaN or infinite"),
    ],
)
def test_what_is_no_table_of_points_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        read_points(stored(tmp_path, text))


def test_a_picture_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "picture.csv"
    path.write_bytes(b"\x89PNG\r\n\xff\xfe\x00")
    with pytest.raises(ImageError, match="no table of points"):
        read_points(path)
