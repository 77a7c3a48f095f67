"""Objects as stars: the distance from a point to the object's border along rays at fixed angles.

Ray k points at the angle 2πk/n, from +x (along a row) towards +y (down the columns): its end is
(row + d·sin, column + d·cos).

References
----------
.. [1] Schmidt et al., MICCAI 2018 (StarDist): the representation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError

__all__ = ["IGNORED", "N_RAYS", "StarTargets", "Stars", "are_inside", "render", "star_targets", "window_of"]

IGNORED = -1
"""Label of pixels that nobody has labelled."""
N_RAYS = 32
MIN_DISTANCE_PX = 1e-3
"""Shorter rays, and negative ones that a network may give, count as this long."""

_OUTSIDE = -2
_CHUNK_PX = 1 << 15
_EDGE = -1e-9
"""Of the cross product; pixels on the outline are inside."""
_MAX_ROUNDING_PX = 2**0.5 + 1e-6
"""Two rounded places on a ray are at most this much further apart than the places themselves."""


@dataclass(frozen=True, slots=True)
class StarTargets:
    """What a network should predict.

    Parameters
    ----------
    distances : ndarray of float32, shape (n_rays, Y / grid, X / grid)
        In pixels of the label image whatever the grid; 0 where there is no object.
    probabilities : ndarray of float32, shape (Y / grid, X / grid)
        Distance to the object's border over the object's own maximum; 0 where there is no object.
    mask : ndarray of bool, shape (Y / grid, X / grid)
        Where the other two are known.
    """

    distances: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    mask: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Stars:
    """Objects, or candidates for them.

    Parameters
    ----------
    centres : ndarray of float, shape (n, 2)
        Row and column, in pixels.
    distances : ndarray of float, shape (n, n_rays)
        In pixels; at least ``MIN_DISTANCE_PX``, see :meth:`of`.
    probabilities : ndarray of float, shape (n,)
    """

    centres: NDArray[np.float64]
    distances: NDArray[np.float64]
    probabilities: NDArray[np.float64]

    @classmethod
    def of(cls, centres: ArrayLike, distances: ArrayLike, probabilities: ArrayLike | None = None) -> Stars:
        """Check and convert; without probabilities all are 1.

        Raises
        ------
        ParameterError
            Shapes that do not fit, fewer than 3 rays, or values that are no numbers.
        """
        points, rays = np.asarray(centres, np.float64), np.asarray(distances, np.float64)
        known = np.ones(len(points)) if probabilities is None else np.asarray(probabilities, np.float64)
        n = len(points)
        if points.shape != (n, 2) or rays.ndim != 2 or len(rays) != n or rays.shape[1] < 3 or known.shape != (n,):
            raise ParameterError(
                f"centres have shape {points.shape}, distances {rays.shape}, probabilities {known.shape}; "
                "expected (n, 2), (n, 3 or more rays) and (n,)"
            )
        if not (np.isfinite(points).all() and np.isfinite(rays).all() and np.isfinite(known).all()):
            raise ParameterError("centres, distances or probabilities contain NaN or infinite values; train anew")
        return cls(points, np.maximum(rays, MIN_DISTANCE_PX), known)

    def __len__(self) -> int:
        return len(self.centres)

    def take(self, index: NDArray[Any]) -> Stars:
        """Some of them, by index or mask."""
        return Stars(self.centres[index], self.distances[index], self.probabilities[index])

    @property
    def polygons(self) -> NDArray[np.float64]:
        """Ends of the rays, rows then columns, shape (n, 2, n_rays).

        >>> Stars.of([[5, 5]], [[2, 2, 2, 2]]).polygons.round().astype(int).tolist()
        [[[5, 7, 5, 3], [7, 5, 3, 5]]]
        """
        sines, cosines = _directions(self.distances.shape[1])
        ends = np.stack([self.distances * sines, self.distances * cosines], axis=1)
        return np.asarray(self.centres[:, :, None] + ends, np.float64)

    @property
    def areas(self) -> NDArray[np.float64]:
        """Of the polygons, in px², shape (n,)."""
        twice = (self.distances * np.roll(self.distances, -1, axis=1)).sum(axis=1)
        return np.asarray(0.5 * np.sin(2 * np.pi / self.distances.shape[1]) * twice, np.float64)


def star_targets(
    labels: ArrayLike, n_rays: int = N_RAYS, grid: int = 1, ignore: NDArray[np.bool_] | None = None
) -> StarTargets:
    """Distances and probabilities of labelled objects, at every ``grid``-th row and column.

    Parameters
    ----------
    labels : array-like of int, shape (Y, X)
        0 is ground, positive ids are objects (in any order, with gaps), ``IGNORED`` is unknown. Not modified.
    n_rays : int
        3 or more.
    grid : int
        1 or more. Objects that no sampled pixel hits leave no trace.
    ignore : ndarray of bool, shape (Y, X), optional
        Further pixels that are unknown; the objects there still end the rays of others.

    Raises
    ------
    ImageError
        Labels that are no plane of integers from -1 on, without pixels, or a mask of another shape.
    ParameterError
        ``n_rays`` or ``grid`` out of range.

    Notes
    -----
    A ray goes on in steps of 1 px until the pixel hit (rounded) has another label, is unknown or lies outside the
    image; then 1 - 0.5 / max(|sin|, |cos|) is taken back, so that it ends at the pixel's edge. For probabilities the
    edge of the image is no border, as in the published code: an object that is cut there is most probable near the cut.

    Steps that cannot leave the object, by the distance to its border, are not tried one by one; that changes no result.

    Examples
    --------
    >>> star_targets([[0, 0, 0], [0, 7, 0], [0, 0, 0]], n_rays=4).distances[:, 1, 1].tolist()
    [0.5, 0.5, 0.5, 0.5]
    """
    found = _checked(labels, ignore)
    if n_rays < 3 or grid < 1:
        raise ParameterError(f"{n_rays} rays on a grid of {grid} px; expected 3 rays or more and 1 px or more")
    depth, probabilities = _depth_and_probabilities(found)
    sampled = (slice(None, None, grid), slice(None, None, grid))
    is_known = found != IGNORED if ignore is None else (found != IGNORED) & ~ignore
    return StarTargets(
        _distances(found, depth, n_rays, grid),
        np.ascontiguousarray(probabilities[sampled]),
        np.ascontiguousarray(is_known[sampled]),
    )


def are_inside(points: NDArray[Any], stars: Stars) -> NDArray[np.bool_]:
    """Which points lie in which star; those on the outline do.

    Parameters
    ----------
    points : ndarray of float32 or float64, shape (p, 2)
        Row and column, in pixels; the test is computed in their precision.
    stars : Stars

    Returns
    -------
    ndarray of bool, shape (n, p)
    """
    n_rays, kind = stars.distances.shape[1], points.dtype
    y = points[None, :, 0] - stars.centres[:, 0, None].astype(kind)
    x = points[None, :, 1] - stars.centres[:, 1, None].astype(kind)
    # The angle says between which two rays a point lies, so one edge decides.
    sector = np.floor(np.arctan2(y, x) * kind.type(n_rays / (2 * np.pi))).astype(np.int32) % n_rays
    sector += (np.arange(len(stars), dtype=np.int32) * n_rays)[:, None]
    sines, cosines = _directions(n_rays)
    end_y, end_x = stars.distances * sines, stars.distances * cosines
    along_y, along_x = np.roll(end_y, -1, axis=1) - end_y, np.roll(end_x, -1, axis=1) - end_x
    side = np.take(along_x.astype(kind), sector) * y
    side -= np.take(along_y.astype(kind), sector) * x
    side += np.take((along_y * end_x - along_x * end_y).astype(kind), sector)
    return np.asarray(side >= _EDGE)


def window_of(star: Stars, shape: tuple[int, int]) -> tuple[int, int, NDArray[np.bool_]]:
    """Pixels of one star: the row and column of the first pixel of a window around it, and a mask of that window.

    Parameters
    ----------
    star : Stars
        A single one.
    shape : tuple of int
        Size of the plane; the window is cut to it and may then be empty.
    """
    polygon = star.polygons[0]
    first = np.floor(polygon.min(axis=1)).astype(int).clip(0)
    last = np.minimum(np.ceil(polygon.max(axis=1)).astype(int) + 1, shape)
    rows, columns = np.arange(first[0], last[0]), np.arange(first[1], last[1])
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.float64)
    return int(first[0]), int(first[1]), are_inside(grid, star)[0].reshape(len(rows), len(columns))


def render(stars: Stars, shape: tuple[int, int]) -> NDArray[np.uint32]:
    """Draw stars in the order of increasing probability, so that the most probable one is on top.

    Parameters
    ----------
    stars : Stars
        Of equal ones the first is on top.
    shape : tuple of int
        Height and width of the result.

    Returns
    -------
    ndarray of uint32, shape (Y, X)
        Star i has the label i + 1; one that is covered, or outside the plane, has no pixel.
    """
    labels = np.zeros(shape, np.uint32)
    for i in np.argsort(-stars.probabilities, kind="stable")[::-1]:
        y, x, mask = window_of(stars.take(np.array([i])), shape)
        labels[y : y + mask.shape[0], x : x + mask.shape[1]][mask] = i + 1
    return labels


def _directions(n_rays: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    angles = 2 * np.pi * np.arange(n_rays) / n_rays
    return np.sin(angles), np.cos(angles)


def _checked(labels: ArrayLike, ignore: NDArray[np.bool_] | None) -> NDArray[np.int64]:
    array = np.asarray(labels)
    if array.ndim != 2 or array.size == 0 or array.dtype.kind not in "iub":
        raise ImageError(
            f"labels have shape {array.shape} and type {array.dtype}; expected a plane (Y, X) of whole numbers"
        )
    found = array.astype(np.int64)
    if int(found.min()) < IGNORED:
        raise ImageError(f"labels go down to {found.min()}; expected objects from 1 on, 0 for ground, -1 for unknown")
    if ignore is not None and ignore.shape != found.shape:
        raise ImageError(f"the mask of unknown pixels has shape {ignore.shape}, the labels {found.shape}")
    return found


def _depth_and_probabilities(labels: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Distance to the nearest pixel that is not of the object or outside the image; probabilities."""
    from scipy.ndimage import distance_transform_edt, find_objects

    height, width = labels.shape
    depth = np.zeros(labels.shape, np.float32)
    probabilities = np.zeros(labels.shape, np.float32)
    _, index = np.unique(labels.clip(0), return_inverse=True)
    # A ground value is first only where there is ground (or unknown); without it the first object comes first.
    numbered = index.reshape(labels.shape) + (0 if (labels <= 0).any() else 1)
    for number, box in enumerate(find_objects(numbered), start=1):
        grown = tuple(
            slice(max(0, side.start - 1), min(n, side.stop + 1)) for side, n in zip(box, labels.shape, strict=True)
        )
        mask = numbered[grown] == number
        distance = (
            distance_transform_edt(mask) if not mask.all() else distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        )
        depth[grown][mask] = distance[mask]
        probabilities[grown][mask] = distance[mask] / distance[mask].max()
    rows, columns = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
    to_edge_y, to_edge_x = np.minimum(rows + 1, height - rows), np.minimum(columns + 1, width - columns)
    return np.minimum(depth, np.minimum(to_edge_y[:, None], to_edge_x[None, :])), probabilities


def _distances(labels: NDArray[np.int64], depth: NDArray[np.float32], n_rays: int, grid: int) -> NDArray[np.float32]:
    """Lengths of all rays, shape (n_rays, Y / grid, X / grid)."""
    sampled = labels[::grid, ::grid]
    result = np.zeros((n_rays, *sampled.shape), np.float32)
    rows, columns = np.nonzero(sampled > 0)
    padded = np.pad(labels, 1, constant_values=_OUTSIDE)
    jumps = np.pad(np.maximum(1, np.ceil(depth - _MAX_ROUNDING_PX)).astype(np.int32), 1, constant_values=1)
    pitch = padded.shape[1]
    sines, cosines = _directions(n_rays)
    steps = np.arange(sum(labels.shape) + 2)
    # Flat offset of the pixel that ray k hits after t steps; centres are whole pixels, so it is the same for all.
    offsets = (
        np.floor(steps[None] * sines[:, None] + 0.5) * pitch + np.floor(steps[None] * cosines[:, None] + 0.5)
    ).astype(np.int32)
    correction = 0.5 / np.maximum(np.abs(sines), np.abs(cosines)) - 1.0
    for start in range(0, len(rows), _CHUNK_PX):
        part = slice(start, start + _CHUNK_PX)
        y, x = rows[part], columns[part]
        origin = ((y * grid + 1) * pitch + x * grid + 1).astype(np.int32)
        n_steps = _trace(padded.ravel(), jumps.ravel(), origin, offsets)
        result[:, y, x] = n_steps + correction[:, None]
    return result


def _trace(
    labels: NDArray[np.int64], jumps: NDArray[np.int32], origin: NDArray[np.int32], offsets: NDArray[np.int32]
) -> NDArray[np.int32]:
    """Steps until each ray from each origin first hits another label, shape (n_rays, n)."""
    n_rays, n_steps_max = offsets.shape
    n = len(origin)
    steps = np.zeros(n_rays * n, np.int32)
    active = np.arange(n_rays * n, dtype=np.int32)
    start = np.tile(origin, n_rays)
    ray = np.repeat(np.arange(n_rays, dtype=np.int32) * n_steps_max, n)
    own = labels[start]
    at, flat_offsets = start, offsets.ravel()
    taken = np.zeros(n_rays * n, np.int32)
    while len(active):
        taken = taken + jumps[at]
        at = start + flat_offsets[ray + taken]
        is_same = labels[at] == own
        steps[active[~is_same]] = taken[~is_same]
        active, start, ray, own, at, taken = (array[is_same] for array in (active, start, ray, own, at, taken))
    return steps.reshape(n_rays, n)
