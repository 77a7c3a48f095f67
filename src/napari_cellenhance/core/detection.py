"""Blobs against annotated points: who is paired with whom, how a threshold changes the score, how large they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.metrics import PointMatches, match_points
from napari_cellenhance.core.postprocess import laplacian_of_gaussian

__all__ = ["SweepCurve", "blob_radii", "pair_points", "sweep_thresholds"]

_RADIUS_FACTORS = np.geomspace(0.6, 1.7, 9)
_NO_PAIR = -1


def pair_points(found: ArrayLike, wanted: ArrayLike, radius: float) -> NDArray[np.int64]:
    """Say for every point found which point wanted it stands for.

    Parameters
    ----------
    found : array-like of shape (N, ndim)
    wanted : array-like of shape (M, ndim)
        In pixels.
    radius : float
        Pairs farther apart are no match; in pixels.

    Returns
    -------
    ndarray of int64, shape (N,)
        Row of ``wanted``, or −1: a point found in vain. Each row occurs at most once. The number of
        pairs is that of :func:`napari_cellenhance.core.metrics.match_points`: as many as possible,
        then as close as possible (Kuhn-Munkres within groups of points in reach of each other).

    Raises
    ------
    ParameterError
        A negative or non-finite radius, or points of different dimensions.

    Examples
    --------
    >>> pair_points([[0, 0], [0, 3], [9, 9]], [[0, 2], [0, -2]], radius=2.5).tolist()
    [1, 0, -1]
    """
    from scipy.optimize import linear_sum_assignment

    match_points(found, wanted, radius)  # the same checks, and the same sentences
    p, g = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    partner = np.full(len(p), _NO_PAIR, np.int64)
    for p_ids, g_ids in _groups(p, g, float(radius)):
        distance = np.linalg.norm(p[p_ids][:, None] - g[g_ids][None], axis=-1)
        # A pair is worth 1 less at most 1/2 over all pairs together: more pairs always win.
        worth = 1.0 - distance / (max(float(radius), 1e-12) * 2 * min(distance.shape))
        worth[distance > radius] = 0.0
        rows, columns = linear_sum_assignment(worth, maximize=True)
        is_pair = worth[rows, columns] > 0
        partner[p_ids[rows[is_pair]]] = g_ids[columns[is_pair]]
    return partner


def _groups(
    p: NDArray[np.float64], g: NDArray[np.float64], radius: float
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Points that reach each other, directly or over others; only groups with points of both kinds."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import KDTree

    if not (p.size and g.size):
        return []
    near = KDTree(p).query_ball_point(g, radius)
    rows = np.repeat(np.arange(len(g)), [len(hits) for hits in near])
    columns = np.array([hit for hits in near for hit in hits], np.int64)
    n = len(g) + len(p)
    _, group = connected_components(
        coo_array((np.ones(columns.size), (rows, columns + len(g))), shape=(n, n)), directed=False
    )
    members: dict[int, tuple[set[int], set[int]]] = {}
    for row, column in zip(rows, columns, strict=True):
        found, wanted = members.setdefault(int(group[row]), (set(), set()))
        found.add(int(column))
        wanted.add(int(row))
    return [(np.array(sorted(a), np.int64), np.array(sorted(b), np.int64)) for a, b in members.values()]


@dataclass(frozen=True, slots=True)
class SweepCurve:
    """Scores of a detector over its threshold.

    Parameters
    ----------
    thresholds : ndarray of shape (N,)
        Rising.
    f1, precision, recall : ndarray of shape (N,)
        Over all planes together.
    best : int
        Index of the best F1; in the middle where several thresholds in a row are equally good.
    """

    thresholds: NDArray[np.float64]
    f1: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    best: int

    @property
    def best_threshold(self) -> float:
        """Threshold of the best F1."""
        return float(self.thresholds[self.best])

    @property
    def best_f1(self) -> float:
        """Best F1."""
        return float(self.f1[self.best])


def sweep_thresholds(
    points: Sequence[NDArray[np.float64]],
    responses: Sequence[NDArray[np.float64]],
    wanted: Sequence[NDArray[np.float64]],
    radius: float,
    thresholds: ArrayLike,
) -> SweepCurve:
    """Score a detector for every threshold, with the counts of all planes added up.

    Parameters
    ----------
    points : sequence of ndarray of shape (N, 2)
        Candidates of each plane.
    responses : sequence of ndarray of shape (N,)
        A candidate counts as found where its response is at least the threshold.
    wanted : sequence of ndarray of shape (M, 2)
        Annotated points of each plane.
    radius : float
        Largest distance of a match; pixels.
    thresholds : array-like of shape (K,)

    Raises
    ------
    ParameterError
        No threshold, numbers of planes that differ, or a radius that is no number ≥ 0.

    References
    ----------
    .. [1] Lim et al., "NU-Net", 2023, Fig. 5 and Table 3: the threshold is optimised for every condition.
    """
    levels = np.sort(np.asarray(thresholds, np.float64).ravel())
    if not levels.size:
        raise ParameterError("there is no threshold to try; give at least one")
    if not len(points) == len(responses) == len(wanted):
        raise ParameterError(
            f"candidates of {len(points)} planes, responses of {len(responses)}, annotated points of {len(wanted)}; "
            "expected the same number"
        )
    counts = np.zeros((levels.size, 3), np.int64)
    for here, response, truth in zip(points, responses, wanted, strict=True):
        known: dict[int, PointMatches] = {}  # thresholds that leave the same candidates score alike
        for i, level in enumerate(levels):
            is_found = response >= level
            n = int(is_found.sum())
            if n not in known:
                known[n] = match_points(here[is_found], truth, radius)
            counts[i] += (known[n].tp, known[n].fp, known[n].fn)
    scores = [PointMatches(*(int(c) for c in row)) for row in counts]
    f1 = np.array([score.f1 for score in scores])
    return SweepCurve(
        levels,
        f1,
        np.array([score.precision for score in scores]),
        np.array([score.recall for score in scores]),
        _middle_of_first_plateau(f1),
    )


def _middle_of_first_plateau(f1: NDArray[np.float64]) -> int:
    """A threshold at the edge of the best range would fail on the next image."""
    first = int(f1.argmax())
    is_best = f1[first:] == f1[first]
    length = int(is_best.argmin()) if not is_best.all() else len(is_best)
    return first + (length - 1) // 2


def blob_radii(plane: NDArray[np.float32], points: NDArray[np.float64], radius_px: float) -> NDArray[np.float64]:
    """Radius of each blob: where its Laplacian-of-Gaussian response is strongest among 0.6…1.7 of ``radius_px``.

    Parameters
    ----------
    plane : ndarray of shape (Y, X)
    points : ndarray of shape (N, 2)
        Row and column, in pixels.
    radius_px : float

    Returns
    -------
    ndarray of shape (N,)
        √2·σ, in pixels (Lindeberg 1998).

    Raises
    ------
    ImageError
        Not a plane.
    ParameterError
        A radius that is not positive.
    """
    if not (np.isfinite(radius_px) and radius_px > 0):
        raise ParameterError(f"the radius is {radius_px} px; expected more than 0")
    pixels = np.asarray(plane, np.float32)
    if pixels.ndim != 2:
        raise ImageError(f"blobs are measured plane by plane; got an image of shape {pixels.shape}")
    if not len(points):
        return np.zeros(0)
    at = tuple(np.round(points).astype(int).T)
    radii = radius_px * _RADIUS_FACTORS
    responses = np.stack([laplacian_of_gaussian(pixels, float(r / np.sqrt(2.0)))[at] for r in radii])
    return np.asarray(radii[responses.argmax(axis=0)], np.float64)
