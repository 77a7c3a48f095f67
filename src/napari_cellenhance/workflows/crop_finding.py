"""Objects of one layer looked at before they go into a library: numbered pixels, classes in paint, plain sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.axes import from_canonical, to_canonical
from napari_cellenhance.core.crop_library import CropClass, CropLibrary
from napari_cellenhance.core.focus import FocusThresholds
from napari_cellenhance.core.painted import BACKGROUND, NOT_PAINTED
from napari_cellenhance.workflows import crops
from napari_cellenhance.workflows.crops import CropLayer, CropRequest, CropResult, place_of
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, never_cancelled, no_progress

__all__ = [
    "CLASS_WORDS", "MAX_VALUES", "FoundCrops", "Role", "advice", "as_paint", "counted", "find", "found_sentence",
    "left_out", "paint_target", "resorted", "values_of",
]  # fmt: skip

Role = Literal["target", "unwanted", "background"]
CLASS_WORDS: Mapping[CropClass, str] = {"target": "wanted", "unwanted": "not wanted", "discarded": "thrown out"}
"""What people read."""
MAX_VALUES = 12
"""Of paint with more classes than these nobody means classes."""
MAX_NUMBERED_PX = 1 << 27
"""Over more pixels objects are not drawn: 0.5 GB."""
_PAINTED: Mapping[Role, int] = {"background": BACKGROUND, "target": BACKGROUND + 1, "unwanted": BACKGROUND + 2}
_LARGEST_VALUE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoundCrops:
    """What was found in one layer.

    Parameters
    ----------
    result : CropResult
    numbers : ndarray of int32 or None
        Position in the library plus 1 at every pixel of an object, 0 elsewhere; dimensions as ``axes``. None where the
        layer is too large for that.
    axes : str
        Those of the layer without C and S.
    is_flat : bool
        All pixels of the layer are equal.
    """

    result: CropResult
    numbers: NDArray[np.int32] | None
    axes: str
    is_flat: bool = False

    @property
    def collection(self) -> CropLibrary:
        """All objects."""
        return self.result.collection


def find(
    request: CropRequest, *, on_progress: OnProgress = no_progress, is_cancelled: IsCancelled = never_cancelled
) -> FoundCrops:
    """Cut objects out of one layer, and draw where they are.

    Raises
    ------
    AxesError, ImageError, ParameterError
        As for :func:`napari_cellenhance.workflows.crops.run`.
    """
    (layer,) = request.layers
    result = crops.run(request, on_progress=on_progress, is_cancelled=is_cancelled)
    axes = "".join(letter for letter in layer.axes if letter not in "CS")
    is_flat = result.is_complete and not result.collection.objects and _is_flat(layer)
    return FoundCrops(result=result, numbers=_numbered(result.collection, layer, axes), axes=axes, is_flat=is_flat)


def resorted(found: FoundCrops, thresholds: FocusThresholds) -> FoundCrops:
    """Sort the same objects by other thresholds of the focus score.

    Raises
    ------
    ParameterError
        As for :func:`napari_cellenhance.workflows.crops.resorted`.
    """
    return replace(found, result=crops.resorted(found.result, thresholds))


def _is_flat(layer: CropLayer) -> bool:
    canonical = to_canonical(layer.image, layer.axes)
    lows, highs = [], []
    for t in range(canonical.shape[0]):
        plane = np.asarray(canonical[t])
        lows.append(plane.min())
        highs.append(plane.max())
    return bool(min(lows) == max(highs))


def _numbered(library: CropLibrary, layer: CropLayer, axes: str) -> NDArray[np.int32] | None:
    sizes = dict(zip(layer.axes, (int(n) for n in np.shape(layer.image)), strict=True))
    n_t, n_z = (1, 1) if layer.at is not None else (sizes.get("T", 1), sizes.get("Z", 1))
    shape = (n_t, 1, n_z, sizes["Y"], sizes["X"])
    if np.prod(shape, dtype=np.float64) > MAX_NUMBERED_PX:
        return None
    numbers = np.zeros(shape, np.int32)
    for number, one in enumerate(library.objects, 1):
        crop = one.crop
        y0, x0, y1, x1 = crop.box
        t, z = (0, 0) if layer.at is not None else (crop.frame, place_of(crop.source)[1] if n_z > 1 else 0)
        numbers[t, 0, z, y0:y1, x0:x1][crop.mask] = number
    return np.ascontiguousarray(from_canonical(numbers, axes))


# --- classes in paint -------------------------------------------------------------------------


def values_of(labels: Any) -> tuple[int, ...]:
    """Values of a Labels layer but 0, rising; at most one more than :data:`MAX_VALUES`.

    >>> values_of(np.array([[0, 3], [1, 3]]))
    (1, 3)
    """
    ids = np.asarray(labels).ravel()
    if not ids.size or int(ids.max()) <= 0:
        return ()
    is_small = int(ids.min()) >= 0 and int(ids.max()) <= _LARGEST_VALUE
    found = np.flatnonzero(np.bincount(ids)) if is_small else np.unique(ids)
    return tuple(int(value) for value in found[found > 0][: MAX_VALUES + 1])


def as_paint(labels: Any, roles: Mapping[int, Role]) -> NDArray[np.int32]:
    """Give values of a Labels layer the meaning that painted classes have here; others count as not painted.

    Parameters
    ----------
    labels : array-like of int
    roles : mapping of int to "target", "unwanted" or "background"

    Returns
    -------
    ndarray of int32
        0 not painted, 1 background, 2 wanted, 3 not wanted.
    """
    ids = np.asarray(labels)
    paint = np.full(ids.shape, NOT_PAINTED, np.int32)
    for value, role in roles.items():
        paint[ids == value] = _PAINTED[role]
    return paint


def paint_target() -> tuple[str, ...]:
    """What :func:`as_paint` makes of wanted objects, as ``CropOptions.target``."""
    return (str(_PAINTED["target"]),)


# --- sentences --------------------------------------------------------------------------------


def counted(library: CropLibrary) -> str:
    """Say how many objects of each class there are.

    >>> counted(CropLibrary())
    '0 wanted, 0 not wanted, 0 thrown out'
    """
    return ", ".join(f"{n} {CLASS_WORDS[kind]}" for kind, n in library.counts().items())


def left_out(library: CropLibrary) -> str:
    """Say why objects were thrown out; empty where none was."""
    return ", ".join(f"{reason}: {n}" for reason, n in library.discarded_because().items())


def found_sentence(found: FoundCrops, name: str) -> str:
    """Say what was found in a layer, and what to do where that is nothing."""
    library = found.collection
    notes = " ".join(library.notes)
    start = "" if found.result.is_complete else "Cancelled before the last plane. "
    if found.is_flat:
        return f"All pixels of “{name}” are equal: there is nothing to find. Choose another image or channel."
    if not library.objects:
        text = f"No object was found in “{name}”. Try another threshold or source, or whether objects are dark."
        return f"{start}{text} {notes}".strip()
    counts = library.counts()
    if not counts["target"] and not counts["unwanted"]:
        text = f"All {len(library.objects)} objects were thrown out ({left_out(library)}); change the limits."
        return f"{start}{text} {notes}".strip()
    return f"{start}Found: {counted(library)}. {notes}".strip()


def advice(library: CropLibrary) -> str:
    """Say what a library still needs before a filter can learn from it; empty when it needs nothing."""
    counts = library.counts()
    if not library.objects:
        return "The library is empty. Find objects on the first page, or open a library."
    if not counts["target"]:
        return "Nothing is wanted yet: move what the filter shall keep to “Wanted”."
    if not counts["unwanted"]:
        return (
            "One class only: a filter also needs objects that it shall remove. Add some, or move some to “Not wanted”."
        )
    if not library.backgrounds:
        return "No background: filters learn better from images that show some ground between their objects."
    return ""
