"""Objects by three classes, ground, inside and border: their images, their threshold, and how good it is.

References
----------
.. [1] Prakash et al., "Leveraging self-supervised denoising for image segmentation" (VoidSeg), ISBI 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.instances import match_instances, overlaps
from napari_cellenhance.core.painted import BACKGROUND, BORDER, NOT_PAINTED, OBJECT, PaintedImage, from_instances

__all__ = [
    "THRESHOLDS",
    "VALUES",
    "ObjectImage",
    "ThresholdSearch",
    "average_precision",
    "best_threshold",
    "objects_of",
    "unit_range",
]

VALUES = (1, 2, 3)
"""Label values of the classes: ground, inside, border."""

THRESHOLDS: tuple[float, ...] = tuple(round(0.05 * k, 2) for k in range(2, 21))
"""Probabilities that are tried, 0.10, 0.15 … 1.00 ([1]_); the last one never finds anything."""

_MIDDLE = 0.5


@dataclass(frozen=True, slots=True)
class ObjectImage:
    """A plane and its objects, each painted with a number of its own; both are copied.

    Parameters
    ----------
    image : ndarray of shape (Y, X)
        Finite, about [0, 1]; kept as float32.
    objects : ndarray of int, shape (Y, X)
        0 not painted, 1 background, objects from 2; kept as int32.
    name : str
        For messages.
    is_shell_background : bool
        What is not painted but touches an object counts as background.
    borders : ndarray of bool, shape (Y, X), or None
        Pixels that were painted as border themselves; borders beside painted objects come on top.

    Raises
    ------
    ImageError
        No plane, one single grey value, values that are no numbers; labels of another shape, that are negative or no
        whole numbers.
    """

    image: NDArray[np.float32]
    objects: NDArray[np.int32]
    name: str = "image"
    is_shell_background: bool = False
    borders: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        image = np.array(self.image, np.float32)
        checked = PaintedImage(unit_range(image), self.objects, self.name)
        object.__setattr__(self, "image", image)
        object.__setattr__(self, "objects", checked.labels)

    @classmethod
    def complete(
        cls, image: NDArray[np.float32], objects: NDArray[np.integer[Any]], name: str = "image"
    ) -> ObjectImage:
        """From a label image where 0 is background and every object is there, with a number from 1."""
        return cls(image, np.asarray(objects).astype(np.int32) + 1, name)

    @classmethod
    def of_classes(
        cls, image: NDArray[np.float32], labels: NDArray[np.integer[Any]], name: str = "image"
    ) -> ObjectImage:
        """From painted classes: connected parts of class 2 are the objects, 3 is border, above is not painted."""
        from scipy.ndimage import label

        painted = np.asarray(labels)
        numbers = np.asarray(label(painted == OBJECT)[0], np.int32)
        objects = np.where(numbers > 0, numbers + 1, painted == BACKGROUND).astype(np.int32)
        return cls(image, objects, name, borders=painted == BORDER)

    def with_image(self, image: NDArray[np.float32]) -> ObjectImage:
        """The same objects on another picture, such as a denoised one."""
        return replace(self, image=image)

    def only(self, is_kept: NDArray[np.bool_]) -> ObjectImage:
        """The same with less paint."""
        borders = None if self.borders is None else self.borders & is_kept
        return replace(self, objects=np.where(is_kept, self.objects, NOT_PAINTED), borders=borders)

    @property
    def labels(self) -> NDArray[np.int32]:
        """Classes: 1 ground, 2 inside, 3 border, 0 not painted; shape (Y, X)."""
        classes = from_instances(
            self.objects, is_complete=False, has_border=True, is_shell_background=self.is_shell_background
        )
        return classes if self.borders is None else np.where(self.borders, BORDER, classes).astype(np.int32)

    @property
    def plain(self) -> NDArray[np.int32]:
        """1 ground or border, 2 object, 0 not painted; shape (Y, X)."""
        plain = np.minimum(self.objects, OBJECT)
        return plain if self.borders is None else np.where(self.borders, BACKGROUND, plain).astype(np.int32)


def unit_range(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Smallest and largest value to 0 and 1; what has no contrast, or no numbers, stays as it is."""
    low, high = (float(image.min()), float(image.max())) if image.size else (0.0, 0.0)
    return np.asarray((image - low) / (high - low), np.float32) if low < high < np.inf else image


def objects_of(
    probabilities: NDArray[np.float32], threshold: float, *, grow_px: int = 0, min_size_px: int = 0
) -> NDArray[np.uint32]:
    """Number what hangs together by edges where the inside is more probable than the threshold ([1]_).

    Parameters
    ----------
    probabilities : ndarray of shape (3, Y, X)
        Of ground, inside, border.
    threshold : float
        0 to 1; strictly more is needed, so 1 finds nothing.
    grow_px : int
        Grow objects so far into pixels whose most probable class is the border, never over another object: what
        touched was cut apart by a line that belongs to the objects.
    min_size_px : int
        Smaller objects are dropped, before they grow.

    Returns
    -------
    ndarray of uint32, shape (Y, X)
        0 is ground.

    Raises
    ------
    ImageError
        Other than three classes.
    ParameterError
        A threshold outside 0…1, or a negative size.
    """
    from scipy.ndimage import label

    if probabilities.ndim != 3 or len(probabilities) != len(VALUES):
        raise ImageError(f"probabilities have shape {probabilities.shape}; expected (3, Y, X)")
    if not 0 <= threshold <= 1 or grow_px < 0 or min_size_px < 0:
        raise ParameterError(
            f"threshold {threshold}, growth {grow_px} px, smallest object {min_size_px} px; expected 0 to 1, and 0 px "
            "or more"
        )
    numbers = np.asarray(label(probabilities[1] > threshold)[0], np.uint32)
    if min_size_px > 1:
        sizes = np.bincount(numbers.ravel())
        sizes[0] = min_size_px
        is_kept = sizes >= min_size_px
        renumbered = np.where(is_kept, np.cumsum(is_kept) - 1, 0).astype(np.uint32)
        numbers = renumbered[numbers]
    if grow_px:
        numbers = _grown(numbers, probabilities.argmax(axis=0) == 2, grow_px)
    return numbers


def _grown(numbers: NDArray[np.uint32], is_free: NDArray[np.bool_], n_px: int) -> NDArray[np.uint32]:
    """Objects grown into free pixels within a distance; each pixel goes to the nearest one."""
    from scipy.ndimage import distance_transform_edt

    if not numbers.any():
        return numbers
    distances, nearest = distance_transform_edt(numbers == 0, return_indices=True)
    taken = is_free & (numbers == 0) & (distances <= n_px)
    return np.where(taken, numbers[tuple(nearest)], numbers).astype(np.uint32)


def average_precision(found: NDArray[np.integer[Any]], objects: NDArray[np.integer[Any]]) -> float:
    """AP = TP / (TP + FP + FN) at an IoU of 0.5, within what is painted.

    Parameters
    ----------
    found : ndarray of int, shape (Y, X)
        0 is ground. What lies outside of the paint is not counted.
    objects : ndarray of int, shape (Y, X)
        Wanted, painted: 0 not painted, 1 background, objects from 2.

    Returns
    -------
    float
        1 where nothing is wanted and nothing found.

    Notes
    -----
    An overlap of exactly one half counts as a match, see :func:`~napari_cellenhance.core.instances.match_instances`.
    """
    wanted = np.where(objects > BACKGROUND, objects, 0)
    seen = np.where(objects != NOT_PAINTED, found, 0)
    return match_instances(overlaps(wanted, seen)).average_precision


@dataclass(frozen=True, slots=True)
class ThresholdSearch:
    """What was tried, and what was chosen.

    Parameters
    ----------
    thresholds, scores : tuple of float
        Mean AP over the images at each.
    """

    thresholds: tuple[float, ...]
    scores: tuple[float, ...]

    @property
    def threshold(self) -> float:
        """The one with the highest score; of equal ones that nearest to 0.5, and of two as near the lower."""
        best = max(self.scores)
        equal = [t for t, score in zip(self.thresholds, self.scores, strict=True) if score == best]
        return min(equal, key=lambda t: (round(abs(t - _MIDDLE), 9), t))

    @property
    def score(self) -> float:
        """Mean AP there."""
        return max(self.scores)


def best_threshold(
    probabilities: Sequence[NDArray[np.float32]],
    objects: Sequence[NDArray[np.integer[Any]]],
    thresholds: Sequence[float] = THRESHOLDS,
) -> ThresholdSearch:
    """Try every threshold on images whose objects are known.

    Parameters
    ----------
    probabilities : sequence of ndarray of shape (3, Y, X)
    objects : sequence of ndarray of int, shape (Y, X)
        Painted, see :func:`average_precision`.
    thresholds : sequence of float

    Raises
    ------
    ParameterError
        No image, no threshold, or numbers of both that differ.
    """
    if not thresholds or not probabilities or len(probabilities) != len(objects):
        raise ParameterError(
            f"{len(thresholds)} thresholds, {len(probabilities)} predictions and {len(objects)} label images were "
            "given; expected at least one, and as many labels as predictions"
        )
    scores = [
        float(np.mean([average_precision(objects_of(p, t), o) for p, o in zip(probabilities, objects, strict=True)]))
        for t in thresholds
    ]
    return ThresholdSearch(tuple(thresholds), tuple(scores))
