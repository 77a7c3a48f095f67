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

__all__ = ["Guess", "Painted", "guess_image", "measure_painted", "sample_window", "unpainted_warning"]

_WINDOW_PX = 512
_N_PLANES = 8
_FEW = 10
_LITTLE = 0.5


@dataclass(frozen=True, slots=True)
class Guess:
    """Suggested contrast and object diameter; the diameter is None where there is nothing to go by."""

    dark: DarkSuggestion
    diameter_px: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Painted:
    """What is painted on the planes of a Labels layer that hold anything.

    Parameters
    ----------
    n_objects : float
        Different numbers on such a plane, on average; 0 where nothing is painted at all.
    box_share : float
        Share of such a plane, on average, that the box around all painted objects takes, from 0 to 1.
    """

    n_objects: float = 0.0
    box_share: float = 0.0

    @property
    def is_little(self) -> bool:
        """Whether there may well be objects that are not painted: few are, or only a part of the plane has some."""
        return 0 < self.n_objects < _FEW or 0 < self.box_share < _LITTLE


def measure_painted(labels: Any) -> Painted:
    """Count the objects and measure the box around them. Call it in a thread: it reads the pixels.

    Parameters
    ----------
    labels : array-like of int of shape (…, Y, X)

    Examples
    --------
    >>> measure_painted([[0, 0, 0, 0], [0, 1, 2, 0]])
    Painted(n_objects=2.0, box_share=0.25)
    """
    ids = np.asarray(labels)
    counts: list[int] = []
    shares: list[float] = []
    for plane in ids.reshape(-1, *ids.shape[-2:]):
        rows, columns = (np.nonzero(plane.any(axis=axis))[0] for axis in (1, 0))
        if len(rows):
            box = plane[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            counts.append(len(np.unique(box[box != 0])))
            shares.append(box.size / plane.size)
    return Painted(float(np.mean(counts)), float(np.mean(shares))) if counts else Painted()


def unpainted_warning(painted: Painted, *, is_plane: bool) -> str:
    """Say what is taught where little or nothing is painted; empty where enough is.

    Parameters
    ----------
    painted : Painted
    is_plane : bool
        Whether all objects of the whole plane are said to be painted, not only those in the box around them.

    Examples
    --------
    >>> unpainted_warning(Painted(n_objects=50, box_share=0.9), is_plane=True)
    ''
    """
    if not painted.n_objects:
        return "Nothing is painted in this layer yet: paint cells, with a number of its own for every one."
    if not is_plane or not painted.is_little:
        return ""
    many = round(painted.n_objects)
    one = "Only 1 object is painted (every object needs a number of its own)"
    found = one if many == 1 else f"Only {many} objects are painted"
    if painted.n_objects >= _FEW:
        found = f"Objects are painted in {painted.box_share:.0%} of the plane only"
    return (
        f"{found}: everything else is taught as ground, cells included. Paint all cells, or choose “the box around "
        "what is painted”."
    )


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
