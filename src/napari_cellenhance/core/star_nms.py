"""From maps of probability and distance to one star per object: candidates, then non-maximum suppression.

References
----------
.. [1] Schmidt et al., MICCAI 2018 (StarDist). Overlap is the intersection over the smaller area, as in its code; the
   paper only names non-maximum suppression.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import MissingExtraError, ParameterError
from napari_cellenhance.core.star_shapes import Stars, are_inside

__all__ = ["MAX_OVERLAP", "Engine", "Suppression", "candidates", "chosen_engine", "suppress", "without_border"]

MAX_OVERLAP = 0.4
"""Two stars that share more than this part of the smaller one's area are the same object."""

_MAX_TESTS = 1 << 20
_N_POINTS = 400
"""Of a star, by which what it shares with others is measured: to 1 or 2 % of its area."""
_SIMILAR = 4.0
"""Stars smaller than another by this factor are measured by their own points."""

Engine = Literal["auto", "numpy", "stardist"]

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Suppression:
    """What is left, and who computed it.

    Parameters
    ----------
    stars : Stars
        One per object, the most probable first.
    engine : "numpy" or "stardist"
        The two measure shared areas differently: overlaps close to the limit may be decided either way.
    """

    stars: Stars
    engine: Literal["numpy", "stardist"]


def candidates(
    probabilities: NDArray[np.floating],
    distances: NDArray[np.floating],
    *,
    threshold: float,
    grid: int = 1,
    origin: tuple[int, int] = (0, 0),
) -> Stars:
    """Stars of all samples that are more probable than a threshold.

    Parameters
    ----------
    probabilities : ndarray of shape (Y, X)
        At every ``grid``-th pixel.
    distances : ndarray of shape (n_rays, Y, X)
        In pixels.
    threshold : float
        0 to 1; a sample must be above.
    grid : int
        Pixels from one sample to the next.
    origin : tuple of int
        Row and column, in pixels, of the first sample.

    Raises
    ------
    ParameterError
        Shapes that do not fit, a threshold or grid out of range, or values that are no numbers.
    """
    if probabilities.ndim != 2 or distances.ndim != 3 or distances.shape[1:] != probabilities.shape:
        raise ParameterError(
            f"probabilities have shape {probabilities.shape}, distances {distances.shape}; "
            "expected (Y, X) and (n_rays, Y, X)"
        )
    check_threshold(threshold)
    if grid < 1:
        raise ParameterError(f"the grid is {grid} px; expected 1 px or more")
    if not np.isfinite(probabilities).all():
        raise ParameterError("probabilities contain NaN or infinite values; train anew")
    rows, columns = np.nonzero(probabilities > threshold)
    centres = np.stack([rows, columns], axis=1) * grid + np.asarray(origin)
    return Stars.of(centres, distances[:, rows, columns].T, probabilities[rows, columns])


def check_threshold(threshold: float) -> None:
    """Refuse what is no probability with ``ParameterError``."""
    if not 0 <= threshold <= 1:
        raise ParameterError(f"the threshold of the probability is {threshold}; expected 0 to 1")


def without_border(stars: Stars, shape: tuple[int, int], border: int, grid: int = 1) -> Stars:
    """Leave out stars whose centre is one of the outermost samples of a plane.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the plane, in pixels.
    border : int
        Samples on each side. The published code leaves out 2, which may lose small objects at the edge; 0 keeps all.
    grid : int
        Pixels from one sample to the next.

    Raises
    ------
    ParameterError
        A negative border.
    """
    if border < 0:
        raise ParameterError(f"a border of {border} samples is not possible; expected 0 or more")
    last = (np.asarray(shape) - 1) // grid * grid
    is_kept = ((stars.centres >= border * grid) & (stars.centres <= last - border * grid)).all(axis=1)
    return stars.take(np.asarray(is_kept))


def suppress(
    stars: Stars,
    *,
    max_overlap: float = MAX_OVERLAP,
    engine: Engine = "auto",
    checkpoint: Callable[[], None] = lambda: None,
) -> Suppression:
    """Keep the most probable star of each object.

    In the order of falling probability each star removes all later ones that share more than ``max_overlap`` of the
    smaller area (not of the union) with it. Those that remain above a higher threshold of the probability are therefore
    the same as if only the candidates above it had been given.

    Parameters
    ----------
    stars : Stars
        In any order. Of equally probable ones the upper comes first, then the left one, then the one whose first ray
        that differs is shorter.
    max_overlap : float
        0 to 1.
    engine : "auto", "numpy" or "stardist"
        "stardist" is the compiled code of the package of that name, where it is installed; "auto" takes it there.
    checkpoint : callable
        Called now and then by the engine "numpy"; raises to stop. A network that has learned little gives very many
        candidates.

    Raises
    ------
    ParameterError
        An overlap out of range or an unknown engine.
    MissingExtraError
        "stardist" is asked for and not installed.
    """
    if not 0 <= max_overlap <= 1:
        raise ParameterError(f"the largest overlap is {max_overlap}; expected 0 to 1, usually {MAX_OVERLAP}")
    used = chosen_engine(engine)
    ordered = stars.take(_order(stars))
    if not len(ordered):
        return Suppression(ordered, used)
    if used == "stardist":
        return Suppression(ordered.take(_by_stardist(ordered, max_overlap)), used)
    return Suppression(ordered.take(_by_numpy(ordered, max_overlap, checkpoint)), used)


def chosen_engine(engine: Engine = "auto") -> Literal["numpy", "stardist"]:
    """What a choice means on this computer.

    Raises
    ------
    ParameterError
        An unknown engine.
    MissingExtraError
        "stardist" is asked for and not installed.
    """
    if engine not in ("auto", "numpy", "stardist"):
        raise ParameterError(f"engine is {engine!r}; expected 'auto', 'numpy' or 'stardist'")
    if engine == "numpy":
        return "numpy"
    is_there = _has_stardist()
    if engine == "stardist" and not is_there:
        raise MissingExtraError(
            "the package stardist is not installed, or does not start; run "
            'pip install "napari-cellenhance[stardist]", or choose the engine "numpy"'
        )
    return "stardist" if is_there else "numpy"


@functools.cache
def _has_stardist() -> bool:
    try:
        from stardist.nms import non_maximum_suppression_inds
    except ImportError as error:
        _LOGGER.debug("the package stardist cannot be used: %s", error)
        return False
    return callable(non_maximum_suppression_inds)


def _by_stardist(ordered: Stars, max_overlap: float) -> NDArray[np.bool_]:
    from stardist.nms import non_maximum_suppression_inds

    kept = non_maximum_suppression_inds(
        ordered.distances, ordered.centres, scores=ordered.probabilities, thresh=max_overlap, verbose=0
    )
    return cast("NDArray[np.bool_]", np.asarray(kept, np.bool_))


def _order(stars: Stars) -> NDArray[np.intp]:
    y, x = stars.centres.T
    order = np.lexsort((x, y, -stars.probabilities))
    keys = np.stack([stars.probabilities[order], y[order], x[order]])
    if len(order) > 1 and (keys[:, 1:] == keys[:, :-1]).all(axis=0).any():
        order = np.lexsort((*stars.distances.T[::-1], x, y, -stars.probabilities))
    return order


def _by_numpy(ordered: Stars, max_overlap: float, checkpoint: Callable[[], None]) -> NDArray[np.bool_]:
    from scipy.spatial import cKDTree

    reach, areas = ordered.distances.max(axis=1), ordered.areas
    inscribed = ordered.distances.min(axis=1) * np.cos(np.pi / ordered.distances.shape[1])
    tree = cKDTree(ordered.centres)
    is_kept = np.ones(len(ordered), np.bool_)
    for i in range(len(ordered)):
        if not is_kept[i]:
            continue
        checkpoint()
        near = np.asarray(tree.query_ball_point(ordered.centres[i], reach[i] + reach[i:].max()), np.intp)
        near = near[(near > i) & is_kept[near]]
        gap = np.hypot(*(ordered.centres[near] - ordered.centres[i]).T)
        is_near = gap < reach[near] + reach[i]
        near, gap = near[is_near], gap[is_near]
        if not len(near):
            continue
        limit = max_overlap * np.minimum(areas[near], areas[i])
        # What the inscribed circles share is enough for most, and costs nothing.
        is_same = _lens(inscribed[i], inscribed[near], gap) > limit
        is_kept[near[is_same]] = False
        near, limit = near[~is_same], limit[~is_same]
        is_kept[near[_shared_areas(ordered, areas, i, near) > limit]] = False
    return is_kept


def _shared_areas(stars: Stars, areas: NDArray[np.float64], i: int, others: NDArray[np.intp]) -> NDArray[np.float64]:
    """Area that star ``i`` shares with each of the others, in px², by points on a lattice as fine as they need."""
    shared = np.zeros(len(others))
    is_small = areas[others] < areas[i] / _SIMILAR
    if not is_small.all():
        points, cell = _lattice(stars, areas, i)
        similar = np.flatnonzero(~is_small)
        n = max(1, _MAX_TESTS // max(1, len(points)))
        for start in range(0, len(similar), n):
            part = similar[start : start + n]
            shared[part] = are_inside(points, stars.take(others[part])).sum(axis=1) * cell
    one = stars.take(np.array([i]))
    for k in np.flatnonzero(is_small):
        points, cell = _lattice(stars, areas, int(others[k]))
        shared[k] = are_inside(points, one).sum() * cell
    return shared


def _lattice(stars: Stars, areas: NDArray[np.float64], i: int) -> tuple[NDArray[np.float32], float]:
    """About ``_N_POINTS`` evenly spaced points of a star, its centre among them, and the area of each in px²."""
    star = stars.take(np.array([i]))
    step = float(np.sqrt(areas[i] / _N_POINTS))
    polygon = (star.polygons[0] - star.centres[0][:, None]) / step
    first, last = np.ceil(polygon.min(axis=1)), np.floor(polygon.max(axis=1))
    rows, columns = (np.arange(a, b + 1) * step for a, b in zip(first, last, strict=True))
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2) + star.centres[0]
    points = grid.astype(np.float32)
    points = points[are_inside(points, star)[0]]
    return points, float(areas[i] / max(1, len(points)))


def _lens(first: float, second: NDArray[np.float64], gap: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area that a circle shares with others; radii of 0 and less give 0."""
    r, s = np.full_like(second, max(first, 0.0)), np.maximum(second, 0.0)
    least = np.minimum(r, s)
    is_inside, is_apart = gap <= np.abs(r - s), gap >= r + s
    is_between = ~is_inside & ~is_apart
    area = np.where(is_inside, np.pi * least**2, 0.0)
    r, s, d = r[is_between], s[is_between], gap[is_between]
    angle = np.arccos(((d**2 + r**2 - s**2) / (2 * d * r)).clip(-1, 1))
    other = np.arccos(((d**2 + s**2 - r**2) / (2 * d * s)).clip(-1, 1))
    kite = 0.5 * np.sqrt(((-d + r + s) * (d + r - s) * (d - r + s) * (d + r + s)).clip(0))
    area[is_between] = r**2 * angle + s**2 * other - kite
    return np.asarray(area, np.float64)
