"""What can be known of a training image before anybody types: contrast and object size, with the reason. No Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.axes import check_axes, select_channels, to_canonical
from napari_cellenhance.core.errors import CellEnhanceError
from napari_cellenhance.core.normalize import sanitize
from napari_cellenhance.core.object_size import median_diameter, suggest_diameter
from napari_cellenhance.widgets._image_form import DarkSuggestion, suggest_dark
from napari_cellenhance.widgets._layers import LayerView

__all__ = ["Guess", "guess_image", "sample_window"]

_WINDOW_PX = 512
_N_PLANES = 8


@dataclass(frozen=True, slots=True)
class Guess:
    """Suggested contrast and object diameter; the diameter is None where there is nothing to go by."""

    dark: DarkSuggestion
    diameter_px: float | None
    reason: str


def sample_window(view: LayerView, axes: str) -> NDArray[np.float32]:
    """Read the middle 512 px of the plane on screen at full resolution, in grey. Call it in a thread."""
    axes = check_axes(axes, view.shape)
    picks: list[slice] = []
    for axis, letter in enumerate(axes):
        n = view.shape[axis]
        if letter in "YX":
            start = max(0, (n - _WINDOW_PX) // 2)
            picks.append(slice(start, start + _WINDOW_PX))
        elif letter in "CS":
            picks.append(slice(None))
        else:
            picks.append(slice(view.index[axis], view.index[axis] + 1))
    grey = to_canonical(np.asarray(view.levels[0][tuple(picks)]), axes)
    if set(axes) & set("CS"):
        grey, _ = select_channels(grey, axes, "grey")
    plane, _ = sanitize(np.asarray(grey)[0, 0, 0])
    return np.asarray(plane, np.float32)


def guess_image(view: LayerView, axes: str, is_dark: bool | None, labels: Any, labels_name: str) -> Guess:
    """Suggest contrast and object diameter. Call it in a thread: it reads pixels.

    Parameters
    ----------
    is_dark : bool or None
        What the user said about the contrast; None asks for a suggestion.
    labels : array-like of int, or None
        Objects to measure; none painted falls back to the image.
    """
    dark = suggest_dark(view, axes)
    if labels is not None:
        ids = np.asarray(labels)
        planes = ids.reshape(-1, *ids.shape[-2:])
        painted = [plane for plane in planes if plane.any()]
        steps = max(1, len(painted) // _N_PLANES)
        sizes = [size for plane in painted[::steps] if (size := median_diameter(plane)) is not None]
        if sizes:
            return Guess(dark, float(np.median(sizes)), f"Median of the objects on “{labels_name}”.")
    try:
        size = suggest_diameter(
            sample_window(view, axes), objects_are_dark=dark.is_dark if is_dark is None else is_dark
        )
    except CellEnhanceError:
        return Guess(dark, None, "No object size could be suggested; please type it, or choose a Labels layer.")
    return Guess(dark, size, "Suggested from the image; correct it if it is far off.")
