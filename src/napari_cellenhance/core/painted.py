"""Painted labels: what their numbers mean, whether they suffice, and how other labels become painted ones.

One convention everywhere: 0 is not painted and ignored by every loss, 1 is background, 2 and above are classes
(or objects, before :func:`from_instances`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError

__all__ = [
    "BACKGROUND",
    "IGNORED",
    "MIN_CLASS_PX",
    "NOT_PAINTED",
    "PaintedImage",
    "balanced_weights",
    "check_values",
    "count_painted",
    "from_instances",
    "painted_values",
    "to_targets",
]

NOT_PAINTED = 0
BACKGROUND = 1
OBJECT = 2
BORDER = 3

IGNORED = -1
"""Target of a pixel that is not painted; classes are numbered from 0."""

MIN_CLASS_PX = 12
"""Painted pixels that a class needs, over all images: about one short stroke."""

Labels = NDArray[np.int32]

_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class PaintedImage:
    """A plane and what is painted on it; both are copied, so that painting can go on.

    Parameters
    ----------
    image : ndarray of shape (Y, X)
        Normalised to [0, 1]; kept as float32.
    labels : ndarray of int, shape (Y, X)
        0 not painted, 1 background, 2 and above classes; kept as int32.
    name : str
        For messages.

    Raises
    ------
    ImageError
        Not a grey plane, shapes that differ, a constant image, values outside [0, 1] or not finite, labels that
        are negative or not whole numbers.
    """

    image: NDArray[np.float32]
    labels: Labels
    name: str = "image"

    def __post_init__(self) -> None:
        image, labels = np.asarray(self.image), np.asarray(self.labels)
        _check_plane(image, self.name)
        _check_labels(labels, image.shape, self.name)
        object.__setattr__(self, "image", np.array(image, np.float32).clip(0.0, 1.0))
        object.__setattr__(self, "labels", np.array(labels, np.int32))

    @property
    def painted_share(self) -> float:
        """Painted pixels over all pixels, 0…1."""
        return float((self.labels != NOT_PAINTED).mean())

    def with_labels(self, labels: NDArray[np.integer[Any]]) -> PaintedImage:
        """The same plane, painted otherwise."""
        return PaintedImage(self.image, labels.astype(np.int32), self.name)


def painted_values(images: Sequence[PaintedImage]) -> tuple[int, ...]:
    """Classes that are painted, as label values in increasing order.

    Raises
    ------
    ImageError
        Nothing is painted, one class only, or a class with fewer than ``MIN_CLASS_PX`` pixels in all images.
    """
    counts: dict[int, int] = {}
    for painted in images:
        values, numbers = np.unique(painted.labels[painted.labels != NOT_PAINTED], return_counts=True)
        for value, number in zip(values, numbers, strict=True):
            counts[int(value)] = counts.get(int(value), 0) + int(number)
    if not counts:
        raise ImageError("nothing is painted yet; paint background with label 1 and each class with 2, 3, …")
    if len(counts) == 1:
        (only,) = counts
        raise ImageError(f"only {_title(only)} is painted; paint at least two classes, background (label 1) is one")
    for value, number in sorted(counts.items()):
        if number < MIN_CLASS_PX:
            raise ImageError(
                f"{_title(value)} has only {number} painted pixels; paint at least {MIN_CLASS_PX}, in longer strokes"
            )
    return tuple(sorted(counts))


def check_values(values: Sequence[int]) -> tuple[int, ...]:
    """Label values of a model's classes: two or more, increasing, from 1.

    Raises
    ------
    ParameterError
        Anything else.
    """
    found = tuple(int(value) for value in values)
    if len(found) < 2 or found[0] < BACKGROUND or any(b <= a for a, b in pairwise(found)):
        raise ParameterError(f"label values of the classes are {found}; expected at least two, increasing, from 1")
    return found


def to_targets(labels: NDArray[np.integer[Any]], values: Sequence[int]) -> NDArray[np.int64]:
    """Class of each pixel, for a loss.

    Parameters
    ----------
    labels : ndarray of int
        Painted labels.
    values : sequence of int
        Label value of each class, increasing.

    Returns
    -------
    ndarray of int64, same shape
        Position in ``values``; ``IGNORED`` where nothing is painted.

    Raises
    ------
    ImageError
        A painted value that is none of ``values``.

    Examples
    --------
    >>> to_targets(np.array([0, 1, 5, 2]), (1, 2, 5))
    array([-1,  0,  2,  1])
    """
    known = np.asarray(values)
    is_painted = labels != NOT_PAINTED
    unknown = np.setdiff1d(np.unique(labels[is_painted]), known)
    if unknown.size:
        raise ImageError(
            f"label {int(unknown[0])} is painted, but the model has the classes {tuple(int(v) for v in known)}; "
            "repaint it as one of them, or train a new model"
        )
    return np.where(is_painted, np.searchsorted(known, labels), IGNORED).astype(np.int64)


def count_painted(images: Sequence[PaintedImage], values: Sequence[int]) -> NDArray[np.int64]:
    """Painted pixels of each class over all images, shape (C,)."""
    counts = [[np.count_nonzero(painted.labels == value) for value in values] for painted in images]
    per_image: NDArray[np.int64] = np.asarray(counts, np.int64).reshape(-1, len(values))
    return np.asarray(per_image.sum(axis=0), np.int64)


def balanced_weights(counts: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
    """Weights n / (C·n_c) that give every painted class the same say; their mean over the painted pixels is 1.

    A class without paint gets 0.

    >>> balanced_weights(np.array([30, 10, 0]))
    array([0.6666667, 2.       , 0.       ], dtype=float32)
    """
    numbers = np.asarray(counts, np.float64)
    n_painted_classes = max(1, int(np.count_nonzero(numbers)))
    weights = np.zeros(numbers.shape)
    np.divide(float(numbers.sum()), n_painted_classes * numbers, out=weights, where=numbers > 0)
    return weights.astype(np.float32)


def from_instances(
    instances: NDArray[Any],
    *,
    is_complete: bool = True,
    has_border: bool = False,
    is_shell_background: bool = False,
) -> Labels:
    """Classes from labelled objects: 1 background, 2 object, and 3 border if asked for.

    Parameters
    ----------
    instances : ndarray of int, shape (Y, X)
        With ``is_complete`` 0 is background and each object has an id of 1 or more; otherwise these are painted
        objects: 0 not painted, 1 background, objects from 2.
    has_border : bool
        Make background pixels that touch an object, and object pixels that touch another object, a class of their
        own ([1]_). Pixels touch by an edge, not by a corner. Only painted pixels make borders.
    is_shell_background : bool
        With painted objects: not painted pixels that touch an object count as background.

    Returns
    -------
    ndarray of int32, shape (Y, X)

    Raises
    ------
    ImageError
        Labels that are negative, no whole numbers or no plane.

    References
    ----------
    .. [1] VoidSeg (ISBI 2020), the three classes: isolated objects keep all their pixels, touching ones lose the line
       of contact on both sides.

    Examples
    --------
    >>> from_instances(np.array([[0, 0, 4, 4, 7, 7]]), has_border=True)
    array([[1, 3, 2, 3, 3, 2]], dtype=int32)
    """
    ids = np.asarray(instances)
    _check_labels(ids, ids.shape, "labels")
    ids = ids.astype(np.int64) + 1 if is_complete else ids.astype(np.int64)
    objects, (touches_object, touches_other) = ids > BACKGROUND, _contacts(ids)
    if is_shell_background:
        ids = np.where((ids == NOT_PAINTED) & touches_object, BACKGROUND, ids)
    classes = np.where(objects, OBJECT, ids)
    if has_border:
        is_border = ((ids == BACKGROUND) & touches_object) | (objects & touches_other)
        classes = np.where(is_border, BORDER, classes)
    return classes.astype(np.int32)


def _contacts(ids: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Pixels with an object on one of four sides; object pixels with another object there."""
    object_near, other_near = np.zeros(ids.shape, np.bool_), np.zeros(ids.shape, np.bool_)
    for axis in (0, 1):
        own, next_ = [slice(None)] * 2, [slice(None)] * 2
        own[axis], next_[axis] = slice(None, -1), slice(1, None)
        for here, there in ((tuple(own), tuple(next_)), (tuple(next_), tuple(own))):
            is_object = ids[there] > BACKGROUND
            object_near[here] |= is_object
            other_near[here] |= is_object & (ids[here] > BACKGROUND) & (ids[here] != ids[there])
    return object_near, other_near


def _title(value: int) -> str:
    return "background (label 1)" if value == BACKGROUND else f"label {value}"


def _check_plane(image: NDArray[Any], name: str) -> None:
    if image.ndim == 3 and image.shape[-1] in (3, 4):
        raise ImageError(f"{name} is a colour image of shape {image.shape}; choose one channel or make it grey first")
    if image.ndim != 2 or image.size == 0:
        raise ImageError(f"{name} has shape {image.shape}; expected a plane (Y, X), choose one slice of a stack")
    if not np.isfinite(image).all():
        raise ImageError(f"{name} has pixels that are no numbers (NaN or infinite); replace them first")
    low, high = float(image.min()), float(image.max())
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        raise ImageError(f"{name} has values from {low:.4g} to {high:.4g}; normalise it to 0…1 first")
    if low == high:
        raise ImageError(f"{name} is constant: there is nothing to learn from it; choose another plane")


def _check_labels(labels: NDArray[Any], shape: tuple[int, ...], name: str) -> None:
    if labels.shape != shape:
        raise ImageError(
            f"the labels of {name} have shape {labels.shape}, the image {shape}; "
            "paint on a labels layer of the same shape"
        )
    if labels.ndim != 2:
        raise ImageError(f"{name} have shape {labels.shape}; expected a plane (Y, X), choose one slice of a stack")
    if labels.dtype != np.bool_ and not np.issubdtype(labels.dtype, np.integer):
        raise ImageError(
            f"the labels of {name} are of type {labels.dtype}; expected whole numbers, as in a labels layer"
        )
    if labels.size and int(labels.min()) < 0:
        raise ImageError(f"the labels of {name} have negative values; expected 0 (not painted), 1 (background), 2, …")
