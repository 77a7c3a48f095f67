"""Boxes from CSV files."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError

__all__ = ["read_boxes"]

_SIDES = ("y0", "x0", "y1", "x1")


def read_boxes(path: str | os.PathLike[str]) -> NDArray[np.float64]:
    """Read boxes as napari writes a Shapes layer, or as four sides.

    Parameters
    ----------
    path : path
        CSV with the columns index, axis-0, axis-1, … (a line for each corner; of other shapes the bounding box
        counts), or y0, x0, y1, x1 in whole pixels, half open. Other columns are passed over.

    Returns
    -------
    ndarray of shape (N, 2, ndim)
        Upper left and lower right corner in the coordinates of napari, in which pixels reach half a pixel beyond their
        centres; row and column come last. Of shape (0, 2, 2) for a file without lines.

    Raises
    ------
    ImageError
        No such columns, a coordinate that is no number, or a box without an area.
    OSError
        It cannot be opened.
    """
    source = Path(path)
    try:
        with source.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns, rows = list(reader.fieldnames or ()), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ImageError(f"{source} is no table of boxes ({error}); expected CSV") from error
    axes = [name for name in (f"axis-{i}" for i in range(len(columns))) if name in columns]
    if len(axes) < 2 and not set(_SIDES) <= set(columns):
        raise ImageError(
            f"{source} has the columns {', '.join(columns) or 'of no name'}; expected index, axis-0, axis-1 (a Shapes "
            "layer), or y0, x0, y1, x1"
        )
    try:
        boxes = _of_corners(rows, axes) if len(axes) >= 2 else _of_sides(rows)
    except (TypeError, ValueError, KeyError) as error:
        raise ImageError(f"{source} has a box that is none ({error}); repair the line") from error
    if not np.isfinite(boxes).all() or (boxes[:, 1, -2:] <= boxes[:, 0, -2:]).any():
        raise ImageError(f"{source} has a box that is not finite or has no area; repair the line")
    return boxes


def _of_corners(rows: list[dict[str, str]], axes: list[str]) -> NDArray[np.float64]:
    shapes: dict[str, list[list[float]]] = {}
    for row in rows:
        shapes.setdefault(row["index"], []).append([float(row[name]) for name in axes])
    corners = [np.array(shape) for shape in shapes.values()]
    return np.array([(shape.min(axis=0), shape.max(axis=0)) for shape in corners]).reshape(-1, 2, len(axes))


def _of_sides(rows: list[dict[str, str]]) -> NDArray[np.float64]:
    sides = np.array([[float(row[name]) for name in _SIDES] for row in rows], np.float64)
    return sides.reshape(-1, 2, 2) - 0.5
