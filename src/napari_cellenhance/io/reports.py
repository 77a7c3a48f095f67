"""Small files about a run: JSON records and before/after pictures."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.io.json_ready import json_ready
from napari_cellenhance.io.safe_write import atomic_path

__all__ = ["before_after_png", "write_json"]

_LARGEST_SIDE_PX = 1200
_DPI = 120


def write_json(path: str | os.PathLike[str], data: Any, *, overwrite: bool = True) -> Path:
    """Write ``data`` as readable JSON; the file appears whole or not at all.

    Parameters
    ----------
    path : str or path-like
        Its folder must exist.
    data : object
        See :func:`napari_cellenhance.io.json_ready.json_ready`; NaN becomes null.
    overwrite : bool
        Allow replacing an existing file.

    Raises
    ------
    TypeError
        Something in ``data`` has no JSON form.
    TargetExistsError, WriteError
        As for :func:`napari_cellenhance.io.safe_write.atomic_path`.
    """
    target = Path(path)
    text = json.dumps(json_ready(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic_path(target, overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return target


def before_after_png(
    path: str | os.PathLike[str],
    before: NDArray[Any],
    after: NDArray[Any],
    titles: tuple[str, str] = ("before", "after"),
    *,
    overwrite: bool = True,
) -> Path:
    """Draw two planes beside each other, each stretched from its darkest to its brightest pixel.

    Parameters
    ----------
    path : str or path-like
        Ends in ``.png``.
    before, after : ndarray of shape (Y, X) or (Y, X, S)
        The same Y and X. Sides beyond 1200 px are shown with fewer pixels.
    titles : (str, str)
    overwrite : bool
        Allow replacing an existing file.

    Raises
    ------
    ImageError
        Not two planes of the same size.
    TargetExistsError, WriteError
        As for :func:`napari_cellenhance.io.safe_write.atomic_path`.
    """
    if before.shape[:2] != after.shape[:2] or before.ndim not in (2, 3) or after.ndim not in (2, 3):
        raise ImageError(f"got planes of shape {before.shape} and {after.shape}; expected two of the same size")
    # The object interface leaves the state of pyplot, which napari or a notebook may use, alone.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = before.shape[:2]
    figure = Figure(figsize=(10.0, min(20.0, max(2.0, 5.0 * height / width)) + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, plane, title in zip(figure.subplots(1, 2), (before, after), titles, strict=True):
        axes.imshow(_displayed(plane), cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
        axes.set_title(title)
        axes.set_axis_off()
    target = Path(path)
    with atomic_path(target, overwrite=overwrite) as temporary:
        figure.savefig(temporary, dpi=_DPI, format="png")
    return target


def _displayed(plane: NDArray[Any]) -> NDArray[np.float32]:
    step = max(1, -(-max(plane.shape[:2]) // _LARGEST_SIDE_PX))
    shown = np.nan_to_num(plane[::step, ::step].astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(shown.min()), float(shown.max())
    stretched = (shown - low) / (high - low) if high > low else np.zeros_like(shown)
    return stretched.astype(np.float32)
