"""Small questions about painted layers: what is painted, what stands in the way, objects as classes, one plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.axes import check_axes, select_channels, to_canonical
from napari_cellenhance.core.errors import CellEnhanceError
from napari_cellenhance.core.normalize import sanitize
from napari_cellenhance.core.painted import from_instances
from napari_cellenhance.workflows.painted_layers import PaintedLayer, classes_of
from napari_cellenhance.workflows.train_layers import fitting_labels

_SHOWN_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaintLook:
    """What is painted on some layers.

    Parameters
    ----------
    counts : mapping of int to int
        Painted pixels of each class, over all layers; objects count as class 2.
    problem : str
        Why these layers cannot be learned from; empty if nothing but paint may be missing.
    """

    counts: Mapping[int, int]
    problem: str = ""


def look_at_paint(layers: Sequence[PaintedLayer]) -> PaintLook:
    """Count the paint and look for what makes learning impossible; reads images only where there is paint.

    Parameters
    ----------
    layers : sequence of PaintedLayer
        Never written to; labels may change meanwhile.
    """
    counts: dict[int, int] = {}
    problem = ""
    for layer in layers:
        try:
            found, flat = _look_at(layer)
        except CellEnhanceError as error:
            problem = problem or str(error)
            continue
        for value, number in found.items():
            counts[value] = counts.get(value, 0) + number
        problem = problem or flat
    return PaintLook(counts=dict(sorted(counts.items())), problem=problem)


def _look_at(layer: PaintedLayer) -> tuple[dict[int, int], str]:
    axes = check_axes(layer.axes, np.shape(layer.image))
    labels = fitting_labels(layer, axes)
    chosen, _ = select_channels(to_canonical(layer.image, axes), axes, layer.channels)
    counts: dict[int, int] = {}
    problem = ""
    for t, z in np.ndindex(*(int(n) for n in labels.shape[:2])):
        ids = np.asarray(labels[t, z])
        if not ids.any():
            continue
        classes = classes_of(ids, layer)
        for value, number in zip(*np.unique(classes[classes != 0], return_counts=True), strict=True):
            counts[int(value)] = counts.get(int(value), 0) + int(number)
        plane, _ = sanitize(np.asarray(chosen[t, 0, z]))
        if plane.min() == plane.max():
            problem = (
                f"“{layer.name}” has one single grey value where you painted, so there is nothing to learn; paint on "
                "another plane or image."
            )
    return counts, problem


def to_classes(labels: Any, *, has_border: bool = False) -> NDArray[np.uint16]:
    """Painted objects (0 not painted, 1 background, each object a number from 2) as classes.

    Parameters
    ----------
    labels : array-like of int, shape (…, Y, X)
        Not modified.
    has_border : bool
        See :func:`~napari_cellenhance.core.painted.from_instances`.

    Returns
    -------
    ndarray of uint16, same shape
        0 not painted, 1 background, 2 object, 3 border.
    """
    ids = np.asarray(labels)
    planes = ids.reshape(-1, *ids.shape[-2:])
    classes = [from_instances(plane, has_border=has_border, is_complete=False) for plane in planes]
    return np.stack(classes).reshape(ids.shape).astype(np.uint16)


def copied(layer: PaintedLayer) -> PaintedLayer:
    """The same layer with labels of its own, so that painting can go on."""
    return replace(layer, labels=np.array(layer.labels))


def plane_of(image: Any, axes: str, channels: Any, *, t: int = 0, z: int = 0) -> NDArray[Any]:
    """One grey plane of an image, in memory; of a lazy image only that plane is read.

    Parameters
    ----------
    image : array-like
    axes : str
        One letter per dimension.
    channels : "grey" or tuple of one int
    t, z : int
        Frame and slice.

    Returns
    -------
    ndarray of shape (Y, X)
        In its own dtype, or float32 where channels were averaged.
    """
    checked = check_axes(axes, np.shape(image))
    chosen, _ = select_channels(to_canonical(image, checked), checked, channels)
    return np.asarray(chosen[t, 0, z])


def display_range(values: NDArray[Any]) -> tuple[float, float]:
    """Grey values to show as black and white: nearly the smallest and the largest; never equal."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(finite, _SHOWN_PERCENTILES))
    if high > low:
        return low, high
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if high > low else (low, low + 1.0)
