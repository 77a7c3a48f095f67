"""Points from CSV files."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError

__all__ = ["read_points"]

_AXES = ("t", "z", "y", "x")


def read_points(path: str | os.PathLike[str]) -> NDArray[np.float64]:
    """Read coordinates in pixels, as napari and ``cellenhance enhance --points`` write them, or under letters.

    Parameters
    ----------
    path : path
        CSV with the columns axis-0, axis-1, …, or y and x (t and z before them where there are any); other columns are
        passed over.

    Returns
    -------
    ndarray of shape (N, ndim)
        Row and column come last. Of shape (0, 2) for a file without lines.

    Raises
    ------
    ImageError
        No such columns, or a coordinate that is no number.
    OSError
        It cannot be opened.
    """
    source = Path(path)
    try:
        with source.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns, rows = list(reader.fieldnames or ()), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ImageError(f"{source} is no table of points ({error}); expected CSV") from error
    numbered = [name for name in (f"axis-{i}" for i in range(len(columns))) if name in columns]
    wanted = numbered if len(numbered) >= 2 else [name for name in _AXES if name in columns]
    if wanted[-2:] != ["y", "x"] and len(numbered) < 2:
        raise ImageError(
            f"{source} has the columns {', '.join(columns) or 'of no name'}; expected y and x, or axis-0 and axis-1"
        )
    try:
        points = np.array([[float(row[name]) for name in wanted] for row in rows], np.float64)
    except (TypeError, ValueError) as error:
        raise ImageError(f"{source} has a point that is no number ({error}); repair the line") from error
    if not np.isfinite(points).all():
        raise ImageError(f"{source} has a point that is NaN or infinite; repair the line")
    return points.reshape(-1, len(wanted))
