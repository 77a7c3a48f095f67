"""Labelled objects found against labelled objects wanted: average precision and SEG.

References
----------
.. [1] Caicedo et al., Nat. Methods 16, 2019 (BBBC038: precision at a threshold of the overlap).
.. [2] Maška et al., Bioinformatics 30, 2014 (Cell Tracking Challenge: SEG).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.metrics import PointMatches

__all__ = ["InstanceMatches", "Overlaps", "match_instances", "overlaps", "seg", "seg_terms"]


@dataclass(frozen=True, slots=True)
class Overlaps:
    """Pixels that objects share.

    Parameters
    ----------
    shared : ndarray of shape (n wanted, n found)
        Pixels common to each pair.
    truth_sizes : ndarray of shape (n wanted,)
    found_sizes : ndarray of shape (n found,)
        In pixels.
    """

    shared: NDArray[np.int64]
    truth_sizes: NDArray[np.int64]
    found_sizes: NDArray[np.int64]

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each pair, shape (n wanted, n found)."""
        union = self.truth_sizes[:, None] + self.found_sizes[None, :] - self.shared
        return np.asarray(self.shared / np.maximum(union, 1), np.float64)

    def without_small(self, min_size_px: float) -> Overlaps:
        """The same without the found objects of fewer pixels."""
        is_kept = self.found_sizes >= min_size_px
        return Overlaps(self.shared[:, is_kept], self.truth_sizes, self.found_sizes[is_kept])


def overlaps(truth: ArrayLike, found: ArrayLike) -> Overlaps:
    """Count the pixels that each object wanted shares with each object found.

    Parameters
    ----------
    truth, found : array-like of int, same shape
        0 is ground; the ids of the objects need not be consecutive.

    Raises
    ------
    ImageError
        Shapes that differ, or negative ids.
    """
    a, b = np.asarray(truth), np.asarray(found)
    if a.shape != b.shape:
        raise ImageError(f"the labels wanted have shape {a.shape}, those found {b.shape}; expected the same")
    if min(int(a.min(initial=0)), int(b.min(initial=0))) < 0:
        raise ImageError("labels contain negative ids; expected 0 for the ground and positive ids for objects")
    a_ids, a_index = np.unique(a.ravel(), return_inverse=True)
    b_ids, b_index = np.unique(b.ravel(), return_inverse=True)
    pairs = np.bincount(a_index.ravel() * len(b_ids) + b_index.ravel(), minlength=len(a_ids) * len(b_ids))
    table = pairs.reshape(len(a_ids), len(b_ids)).astype(np.int64)
    rows, columns = a_ids > 0, b_ids > 0
    return Overlaps(table[rows][:, columns], table.sum(axis=1)[rows], table.sum(axis=0)[columns])


@dataclass(frozen=True, slots=True)
class InstanceMatches:
    """Counts of a one-to-one matching of objects found with objects wanted."""

    tp: int
    fp: int
    fn: int

    @property
    def average_precision(self) -> float:
        """TP / (TP + FP + FN), as in [1]_; 1 where nothing is wanted and nothing found."""
        total = self.tp + self.fp + self.fn
        return self.tp / total if total else 1.0

    @property
    def precision(self) -> float:
        """Share of the objects found that are right; 1 where none were found and none wanted."""
        return PointMatches(self.tp, self.fp, self.fn).precision

    @property
    def recall(self) -> float:
        """Share of the objects wanted that were found; 1 where none were wanted and none found."""
        return PointMatches(self.tp, self.fp, self.fn).recall

    @property
    def f1(self) -> float:
        """F1 = 2 TP / (2 TP + FP + FN); 1 where nothing is wanted and nothing found."""
        return PointMatches(self.tp, self.fp, self.fn).f1


def match_instances(shared: Overlaps, min_iou: float = 0.5) -> InstanceMatches:
    """Match objects one to one: as many pairs as possible of at least this overlap.

    Parameters
    ----------
    shared : Overlaps
        From :func:`overlaps`.
    min_iou : float
        Least intersection over union of a pair, above 0 and at most 1; equal counts as a match.

    Raises
    ------
    ParameterError
        A threshold outside its range.

    Notes
    -----
    Optimal assignment (Kuhn-Munkres) on [IoU ≥ t] + IoU / (2·min(n, m)).

    Examples
    --------
    >>> match_instances(overlaps([1, 1, 0, 2], [1, 1, 0, 0])).average_precision
    0.5
    """
    if not 0 < min_iou <= 1:
        raise ParameterError(f"the least overlap is {min_iou}; expected more than 0 and at most 1")
    from scipy.optimize import linear_sum_assignment

    iou = shared.iou
    n_wanted, n_found = iou.shape
    if not (n_wanted and n_found):
        return InstanceMatches(0, n_found, n_wanted)
    is_match = iou >= min_iou
    # Rows and columns without a pair cannot match; the assignment is cubic in the rest.
    rows, columns = is_match.any(axis=1), is_match.any(axis=0)
    part, part_match = iou[rows][:, columns], is_match[rows][:, columns]
    chosen = linear_sum_assignment(part_match + part / (2 * min(n_wanted, n_found)), maximize=True)
    tp = int(part_match[chosen].sum())
    return InstanceMatches(tp, n_found - tp, n_wanted - tp)


def seg_terms(shared: Overlaps) -> NDArray[np.float64]:
    """Jaccard index of every object wanted with the one found object that covers more than half of it, else 0.

    Returns
    -------
    ndarray of shape (n wanted,)
        Their mean over all objects of a data set is SEG ([2]_). Objects found in vain cost nothing.
    """
    covers = 2 * shared.shared > shared.truth_sizes[:, None]
    terms: NDArray[np.float64] = np.where(covers, shared.iou, 0.0).sum(axis=1)
    return terms


def seg(truth: ArrayLike, found: ArrayLike) -> float:
    """SEG of one image: the mean of :func:`seg_terms`; NaN where nothing is wanted.

    >>> seg([1, 1, 0, 2], [3, 3, 3, 0])
    0.3333333333333333
    """
    terms = seg_terms(overlaps(truth, found))
    return float(terms.mean()) if terms.size else float("nan")
