"""Figures of an evaluation of segmentations as PNG files: pictures in a table, and curves over time."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.io.safe_write import atomic_path

__all__ = ["Curve", "Picture", "curves_png", "mosaic_png", "pictures_png"]

_DPI = 110
_MAX_SIDE_PX = 512


@dataclass(frozen=True, slots=True)
class Picture:
    """One cell of a table of pictures.

    Parameters
    ----------
    title : str
    plane : ndarray of shape (Y, X), (Y, X, 3) or None
        Colours are in 0…1. None leaves the cell empty.
    n_classes : int
        0: grey values, from black at the smallest to white at the largest. Else classes 1…n, in colours.
    limits : tuple of float or None
        Grey values of black and white instead.
    """

    title: str
    plane: NDArray[Any] | None
    n_classes: int = 0
    limits: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """Values over time, and how far they scatter; NaN is left out."""

    x: Sequence[float]
    mean: Sequence[float]
    sd: Sequence[float]


def pictures_png(path: str | os.PathLike[str], rows: Mapping[str, Sequence[Picture]]) -> None:
    """Draw a table of pictures.

    Parameters
    ----------
    path : path
    rows : mapping
        Name of the row → its pictures, as many in each row. Sides beyond 512 px are shown with fewer pixels.
    """
    n_columns = max(len(row) for row in rows.values())
    figure = _figure(2.2 * n_columns + 0.3, 2.4 * len(rows))
    for axes, (name, row) in zip(figure.subplots(len(rows), n_columns, squeeze=False), rows.items(), strict=True):
        for axis, picture in zip(axes, row, strict=False):
            axis.set_title(picture.title, fontsize=8)
            axis.set_xticks([])
            axis.set_yticks([])
            if picture.plane is None:
                axis.set_axis_off()
            else:
                axis.imshow(picture.plane[_thinned(picture.plane)], interpolation="nearest", **_look(picture))
        axes[0].set_ylabel(name, fontsize=9)
    _write(figure, path)


def mosaic_png(path: str | os.PathLike[str], rows: Mapping[str, Sequence[Picture]], n_columns: int) -> None:
    """Draw many small pictures, such as crops, in squares of one size; quicker than :func:`pictures_png`.

    Parameters
    ----------
    path : path
    rows : mapping
        Name of the row → its pictures, at most ``n_columns``.
    n_columns : int
    """
    figure = _figure(1.25 * n_columns + 1.2, 1.42 * len(rows))
    axis = figure.add_subplot()
    for number, (name, row) in enumerate(rows.items()):
        axis.text(-0.06, number + 0.5, name, fontsize=9, ha="right", va="center")
        for column, picture in enumerate(row):
            axis.text(column + 0.5, number + 0.06, picture.title, fontsize=6, ha="center", va="center")
            if picture.plane is not None:
                extent = (column + 0.03, column + 0.97, number + 0.98, number + 0.12)
                plane = picture.plane[_thinned(picture.plane)]
                axis.imshow(plane, interpolation="nearest", aspect="auto", extent=extent, **_look(picture))
    axis.set_xlim(-1.0, n_columns)
    axis.set_ylim(len(rows), 0)
    axis.set_axis_off()
    _write(figure, path)


def curves_png(
    path: str | os.PathLike[str], panels: Mapping[str, Mapping[str, Mapping[str, Curve]]], *, x_label: str, y_label: str
) -> None:
    """Draw curves with their scatter over a logarithmic axis.

    Parameters
    ----------
    path : path
    panels : mapping
        Row of the figure → column → name of the curve → curve. The same name has the same colour everywhere.
    x_label, y_label : str
    """
    n_columns = max(len(row) for row in panels.values())
    figure = _figure(3.6 * n_columns, 2.9 * len(panels))
    names = list(dict.fromkeys(name for row in panels.values() for here in row.values() for name in here))
    for axes, (row_name, row) in zip(
        figure.subplots(len(panels), n_columns, squeeze=False), panels.items(), strict=True
    ):
        for axis, (column_name, curves) in zip(axes, row.items(), strict=False):
            for name, curve in curves.items():
                look = {"color": f"C{names.index(name) % 10}", "label": name}
                axis.errorbar(curve.x, curve.mean, curve.sd, fmt="o-", ms=3, lw=1.2, capsize=2, **look)
            axis.set_xscale("log")
            axis.set_ylim(0, 1.02)
            axis.set_title(f"{row_name}, {column_name}", fontsize=8)
            axis.set_xlabel(x_label)
            axis.set_ylabel(y_label)
        axes[0].legend(fontsize=6)
    _write(figure, path)


def _figure(width: float, height: float) -> Any:
    # The object interface leaves the state of pyplot, which napari or a notebook may use, alone.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _write(figure: Any, path: str | os.PathLike[str]) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DPI)


def _thinned(plane: NDArray[Any]) -> tuple[slice, slice]:
    step = max(1, -(-max(plane.shape) // _MAX_SIDE_PX))
    return slice(None, None, step), slice(None, None, step)


def _look(picture: Picture) -> dict[str, Any]:
    if picture.n_classes:
        return {"cmap": "viridis", "vmin": 1, "vmax": max(2, picture.n_classes)}
    assert picture.plane is not None
    low, high = picture.limits or (float(np.min(picture.plane)), float(np.max(picture.plane)))
    return {"cmap": "gray", "vmin": low, "vmax": high}
