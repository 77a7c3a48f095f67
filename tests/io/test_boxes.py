"""Boxes as napari writes them, and as four sides."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.io.boxes import read_boxes


def table(folder: Path, text: str) -> Path:
    path = folder / "boxes.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_shapes_of_napari(tmp_path: Path) -> None:
    rectangle = "".join(f"0,rectangle,{i},{y},{x}\n" for i, (y, x) in enumerate([(1, 2), (1, 9), (5, 9), (5, 2)]))
    triangle = "".join(f"1,polygon,{i},{y},{x}\n" for i, (y, x) in enumerate([(0, 0), (4, 3), (2, 8)]))
    boxes = read_boxes(table(tmp_path, "index,shape-type,vertex-index,axis-0,axis-1\n" + rectangle + triangle))
    assert boxes.tolist() == [[[1, 2], [5, 9]], [[0, 0], [4, 8]]]


def test_shapes_of_a_movie(tmp_path: Path) -> None:
    lines = "".join(f"0,rectangle,{i},3,{y},{x}\n" for i, (y, x) in enumerate([(1, 2), (1, 9), (5, 9), (5, 2)]))
    boxes = read_boxes(table(tmp_path, "index,shape-type,vertex-index,axis-0,axis-1,axis-2\n" + lines))
    assert boxes.tolist() == [[[3, 1, 2], [3, 5, 9]]]


def test_four_sides_are_whole_pixels(tmp_path: Path) -> None:
    boxes = read_boxes(table(tmp_path, "name,y0,x0,y1,x1\nworm,1,2,5,9\n"))
    assert boxes.tolist() == [[[0.5, 1.5], [4.5, 8.5]]]


def test_no_lines(tmp_path: Path) -> None:
    assert read_boxes(table(tmp_path, "y0,x0,y1,x1\n")).shape == (0, 2, 2)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("y,x\n1,2\n", "expected index, axis-0"),
        ("", "of no name"),
        ("y0,x0,y1,x1\n1,2,a,4\n", "repair the line"),
        ("y0,x0,y1,x1\n1,2,1,4\n", "no area"),
        ("axis-0,axis-1\n1,2\n", "repair the line"),
    ],
)
def test_tables_that_hold_no_boxes(tmp_path: Path, text: str, match: str) -> None:
    with pytest.raises(ImageError, match=match):
        read_boxes(table(tmp_path, text))
