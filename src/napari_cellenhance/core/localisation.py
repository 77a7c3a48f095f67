"""Whether objects were found where they are: points in labels, boxes on boxes; and whether two conditions differ.

References
----------
.. [1] Javer & Rittscher 2019, arXiv 1909.00691: a point inside a predicted label is a hit (co-culture); boxes that
   overlap by more than half, matched by the Hungarian method (worms); Z-factor and p-values of plates.
.. [2] Zhang et al., J. Biomol. Screen. 4, 1999: the Z-factor.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.metrics import PointMatches

__all__ = [
    "BoxTally", "Comparison", "HitTally", "box_iou", "boxes_of", "compare", "match_boxes", "match_points_in_labels",
    "z_factor",
]  # fmt: skip


# --- points in labels -------------------------------------------------------------------------


def match_points_in_labels(labels: ArrayLike, points: ArrayLike) -> PointMatches:
    """Count labels hit by annotated points ([1]_).

    Parameters
    ----------
    labels : array-like of int, shape (Y, X)
        0 is ground.
    points : array-like of shape (N, 2)
        Row and column in pixels.

    Returns
    -------
    PointMatches
        Every label counts once: found for one point on it, and further points on it are missed, as are those on the
        ground or outside the image. Labels without a point are found in vain.

    Raises
    ------
    ImageError
        Labels that are no plane of whole numbers, or points of another shape.

    Examples
    --------
    >>> match_points_in_labels([[1, 1, 0, 2, 0, 3]], [(0, 0), (0, 1), (0, 3), (0, 4)])
    PointMatches(tp=2, fp=1, fn=2)
    """
    ids, where = np.asarray(labels), np.asarray(points, np.float64)
    where = where.reshape(-1, 2) if not where.size else where
    if ids.ndim != 2 or ids.dtype.kind not in "bui":
        raise ImageError(f"labels have shape {ids.shape} and type {ids.dtype}; expected a plane of whole numbers")
    if where.ndim != 2 or where.shape[1] != 2 or not np.isfinite(where).all():
        raise ImageError(f"points have shape {where.shape}; expected finite (N, 2), row and column")
    at = np.rint(where).astype(np.int64)
    is_inside = ((at >= 0) & (at < ids.shape)).all(axis=1)
    hit = np.unique(ids[tuple(at[is_inside].T)])
    tp = int((hit > 0).sum())
    n_labels = int((np.unique(ids) > 0).sum())
    return PointMatches(tp, n_labels - tp, len(where) - tp)


@dataclass(slots=True)
class HitTally:
    """Labels found against annotated points, added up over planes: :func:`match_points_in_labels`."""

    n_planes: int = 0
    matches: PointMatches = field(default_factory=lambda: PointMatches(0, 0, 0))

    def add(self, points: ArrayLike, labels: ArrayLike) -> None:
        """Add a plane.

        Raises
        ------
        ImageError
            As for :func:`match_points_in_labels`.
        """
        self.matches = _sum(self.matches, match_points_in_labels(labels, points))
        self.n_planes += 1

    def merge(self, other: Self) -> None:
        """Add what another tally counted."""
        self.matches = _sum(self.matches, other.matches)
        self.n_planes += other.n_planes


def _sum(first: PointMatches, second: PointMatches) -> PointMatches:
    return PointMatches(first.tp + second.tp, first.fp + second.fp, first.fn + second.fn)


# --- boxes ------------------------------------------------------------------------------------


def boxes_of(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Corners of shapes, (N, K, 2), or of :func:`~napari_cellenhance.core.postprocess.label_boxes` → y0, x0, y1, x1.

    >>> boxes_of(np.array([[[-0.5, 0.5], [-0.5, 2.5], [0.5, 2.5], [0.5, 0.5]]])).tolist()
    [[-0.5, 0.5, 0.5, 2.5]]
    """
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).reshape(-1, 4)


def box_iou(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union of every pair of boxes.

    Parameters
    ----------
    first, second : array-like of shape (N, 4) and (M, 4)
        y0, x0, y1, x1, with y0 < y1 and x0 < x1.

    Returns
    -------
    ndarray of shape (N, M)

    Raises
    ------
    ImageError
        Other shapes, boxes without an area, or numbers that are none.

    Examples
    --------
    >>> box_iou([(0, 0, 10, 10)], [(0, 5, 10, 15), (20, 20, 30, 30)]).round(4).tolist()
    [[0.3333, 0.0]]
    """
    a, b = _boxes(first), _boxes(second)
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    area_a, area_b = (np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (a, b))
    return np.asarray(shared / (area_a[:, None] + area_b[None, :] - shared), np.float64)


def match_boxes(found: ArrayLike, wanted: ArrayLike, min_iou: float = 0.5) -> PointMatches:
    """Match boxes one to one: as many pairs as possible that overlap by more than ``min_iou`` ([1]_).

    Parameters
    ----------
    found, wanted : array-like of shape (N, 4) and (M, 4)
        y0, x0, y1, x1.
    min_iou : float
        From 0 to less than 1; equal is no match.

    Raises
    ------
    ImageError
        Boxes of another shape or without an area.
    ParameterError
        A threshold outside its range.

    Examples
    --------
    >>> match_boxes([(0, 0, 10, 10), (50, 50, 60, 60)], [(0, 2, 10, 12)])
    PointMatches(tp=1, fp=1, fn=0)
    """
    from scipy.optimize import linear_sum_assignment

    if not 0 <= min_iou < 1:
        raise ParameterError(f"the least overlap of boxes is {min_iou}; expected 0 or more and less than 1")
    iou = box_iou(found, wanted)
    n_found, n_wanted = iou.shape
    if not iou.size:
        return PointMatches(0, n_found, n_wanted)
    is_match = iou > min_iou
    # One pair more is always worth more than all overlaps together.
    chosen = linear_sum_assignment(is_match + iou / (2 * min(iou.shape)), maximize=True)
    tp = int(is_match[chosen].sum())
    return PointMatches(tp, n_found - tp, n_wanted - tp)


def _boxes(given: ArrayLike) -> NDArray[np.float64]:
    boxes = np.asarray(given, np.float64)
    boxes = boxes.reshape(-1, 4) if not boxes.size else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all():
        raise ImageError(f"boxes have shape {boxes.shape}; expected finite (N, 4) with y0, x0, y1, x1")
    if (boxes[:, 2:] <= boxes[:, :2]).any():
        raise ImageError("a box has no area; expected y0 below y1 and x0 below x1")
    return boxes


@dataclass(slots=True)
class BoxTally:
    """Boxes around labelled objects against boxes around those wanted, and all their pixels together.

    Parameters
    ----------
    min_iou : float
        Boxes match where they overlap by more.
    """

    min_iou: float = 0.5
    n_planes: int = 0
    matches: PointMatches = field(default_factory=lambda: PointMatches(0, 0, 0))
    _shared: int = 0
    _either: int = 0

    def add(self, truth: NDArray[np.integer[Any]], found: NDArray[np.integer[Any]]) -> None:
        """Add a plane of labels; 0 is ground.

        Raises
        ------
        ImageError
            Shapes that differ, or no plane.
        """
        from napari_cellenhance.core.postprocess import label_boxes

        if truth.shape != found.shape:
            raise ImageError(
                f"the labels wanted have shape {truth.shape}, those found {found.shape}; expected the same"
            )
        wanted, boxes = (boxes_of(label_boxes(labels)) for labels in (truth, found))
        self.matches = _sum(self.matches, match_boxes(boxes, wanted, self.min_iou))
        self._shared += int(((truth > 0) & (found > 0)).sum())
        self._either += int(((truth > 0) | (found > 0)).sum())
        self.n_planes += 1

    def merge(self, other: Self) -> None:
        """Add what another tally with the same threshold counted."""
        self.matches = _sum(self.matches, other.matches)
        self._shared, self._either = self._shared + other._shared, self._either + other._either
        self.n_planes += other.n_planes

    @property
    def iou(self) -> float:
        """Overlap of all objects together with all that was found; 1 where both are empty."""
        return self._shared / self._either if self._either else 1.0


# --- two conditions ---------------------------------------------------------------------------


def z_factor(first: ArrayLike, second: ArrayLike) -> float:
    """How well two conditions are told apart: 1 − 3(σ₁ + σ₂) / |μ₁ − μ₂| ([2]_), with n − 1 in the deviations.

    Returns
    -------
    float
        At most 1; from 0.5 a screen is called excellent, below 0 the conditions overlap. −∞ where the means agree.

    Raises
    ------
    ParameterError
        Fewer than two values of a condition, or values that are no numbers.

    Examples
    --------
    >>> round(z_factor([9, 10, 11], [29, 30, 31]), 6)
    0.7
    """
    a, b = _samples(first, second)
    apart = abs(float(a.mean()) - float(b.mean()))
    spread = 3 * (float(a.std(ddof=1)) + float(b.std(ddof=1)))
    return 1 - spread / apart if apart else float("-inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two conditions side by side.

    Parameters
    ----------
    n, mean, sd : tuple of two
        Number of values, mean and standard deviation (n − 1) of each.
    z_factor : float
    mann_whitney_p : float
        Two-sided; ranks only, so that the distribution does not matter.
    welch_p : float
        Two-sided t-test for unequal variances; for values that are about normal. NaN where nothing varies.
    """

    n: tuple[int, int]
    mean: tuple[float, float]
    sd: tuple[float, float]
    z_factor: float
    mann_whitney_p: float
    welch_p: float


def compare(first: ArrayLike, second: ArrayLike) -> Comparison:
    """Compare the values of two conditions, such as counts for each well.

    Raises
    ------
    ParameterError
        Fewer than two values of a condition, or values that are no numbers.

    Examples
    --------
    >>> result = compare([1, 2, 3, 4], [11, 12, 13, 14])
    >>> round(result.mann_whitney_p, 4), result.welch_p < 1e-3
    (0.0286, True)
    """
    from scipy.stats import mannwhitneyu, ttest_ind

    a, b = _samples(first, second)
    does_vary = a.std() > 0 or b.std() > 0
    return Comparison(
        n=(len(a), len(b)),
        mean=(float(a.mean()), float(b.mean())),
        sd=(float(a.std(ddof=1)), float(b.std(ddof=1))),
        z_factor=z_factor(a, b),
        mann_whitney_p=float(mannwhitneyu(a, b).pvalue),
        welch_p=float(ttest_ind(a, b, equal_var=False).pvalue) if does_vary else float("nan"),
    )


def _samples(first: ArrayLike, second: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = (np.asarray(values, np.float64).ravel() for values in (first, second))
    if min(len(a), len(b)) < 2:
        raise ParameterError(f"the conditions have {len(a)} and {len(b)} values; expected at least two of each")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ParameterError("a condition has values that are no numbers; leave those images out")
    return a, b
