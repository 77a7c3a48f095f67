"""Crops of objects changed at random, and laid into a layer so that they may overlap in part, never wholly.

References
----------
.. [1] Javer & Rittscher, arXiv 1909.00691, 2019, section 3.2: changes of crops, partial overlaps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError

__all__ = ["Change", "OverlapRule", "Part", "place", "window_on"]

Pixels = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """An object ready to be laid into a layer.

    Parameters
    ----------
    pixels : ndarray of shape (C, Y, X), float32
        Scaled to [0, 1]; outside the object the value of nothing: 0, or 1 where layers are multiplied.
    mask : ndarray of shape (Y, X), bool
    """

    pixels: Pixels
    mask: Mask


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is done to a crop, with every value drawn.

    Parameters
    ----------
    offset : float
        Subtracted from the object first.
    gain : float
        Factor; where layers are multiplied, the exponent.
    degrees : float
        Turn, the canvas grows as needed.
    flips : (bool, bool)
        Along Y and X.
    zoom : float
    is_product : bool
        Layers are multiplied.
    """

    offset: float = 0.0
    gain: float = 1.0
    degrees: float = 0.0
    flips: tuple[bool, bool] = (False, False)
    zoom: float = 1.0
    is_product: bool = False

    def of(self, part: Part, limit_px: int) -> Part:
        """Changed copy, at most ``limit_px`` wide and high (its middle), within [0, 1]."""
        null = np.float32(1.0 if self.is_product else 0.0)
        if self.is_product:
            pixels = np.clip(part.pixels, 0, 1) ** np.float32(self.gain)
        else:
            pixels = (part.pixels - np.float32(self.offset)) * np.float32(self.gain)
        pixels = np.where(part.mask, pixels, null)
        pixels, mask = _turned(pixels, part.mask, self.degrees, self.zoom, float(null))
        steps = tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)
        rows, columns = (_middle(n, limit_px) for n in mask.shape)
        pixels, mask = pixels[(slice(None), *steps)], mask[steps]
        return Part(np.clip(pixels[:, rows, columns], 0, 1).astype(np.float32), mask[rows, columns])


def _turned(
    pixels: Pixels, mask: Mask, degrees: float, zoom: float, null: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Turn and resize by bilinear interpolation; the canvas holds the whole crop, null beyond it."""
    from scipy.ndimage import affine_transform

    if degrees == 0 and zoom == 1:
        return pixels, mask
    height, width = mask.shape
    angle = np.deg2rad(degrees)
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    sides = (
        max(1, int(np.ceil(zoom * (height * abs(cos) + width * abs(sin)) - 1e-6))),
        max(1, int(np.ceil(zoom * (height * abs(sin) + width * abs(cos)) - 1e-6))),
    )
    matrix = np.array([[cos, sin], [-sin, cos]]) / zoom
    middle_in = (np.array([height, width]) - 1) / 2
    offset = middle_in - matrix @ ((np.array(sides) - 1) / 2)

    def moved(plane: NDArray[np.float32], outside: float) -> NDArray[np.float32]:
        found: NDArray[np.float32] = affine_transform(
            plane, matrix, offset, sides, np.float32, order=1, mode="grid-constant", cval=outside
        )
        return found

    turned = moved(mask.astype(np.float32), 0.0) > 0.5
    return np.stack([moved(plane, null) for plane in pixels]), turned


def _middle(size: int, limit: int) -> slice:
    start = max(0, (size - limit) // 2)
    return slice(start, start + min(size, limit))


class OverlapRule:
    """Remembers the objects of a scene, and refuses those that would hide, or be hidden, too much.

    Parameters
    ----------
    shape : tuple of int
        Of the scene, (Y, X).
    max_overlap : float
        Largest share of an object's own pixels that may be covered: of the new one by all earlier ones together, and of
        each earlier one by the new one. 1 allows anything.

    Raises
    ------
    ParameterError
        Not within 0…1.

    Notes
    -----
    Counted on pixels of objects. The published code compares the bounding box of the new crop instead, and lets the
    second image of a pair avoid the objects of the first; see ``docs/semantic_filter.md``.
    """

    def __init__(self, shape: tuple[int, int], max_overlap: float) -> None:
        if not 0 <= max_overlap <= 1:
            raise ParameterError(f"the largest overlap is {max_overlap}; expected a share, 0 to 1")
        self._shape, self._max_overlap = shape, max_overlap
        self._covered = np.zeros(shape, np.bool_)
        self._placed: list[tuple[tuple[slice, slice], Mask]] = []

    def copy(self) -> OverlapRule:
        """A rule that knows the same objects, and forgets nothing when this one learns more."""
        other = OverlapRule(self._shape, self._max_overlap)
        other._covered = self._covered.copy()
        other._placed = list(self._placed)
        return other

    def accepts(self, mask: Mask, at: tuple[int, int]) -> bool:
        """Whether an object may lie with its upper left corner there; False where nothing of it is in the scene."""
        on, of = window_on(mask.shape, at, self._shape)
        shown = mask[of]
        n_shown = int(shown.sum())
        if n_shown == 0:
            return False
        if int((shown & self._covered[on]).sum()) > self._max_overlap * n_shown:
            return False
        return all(
            _n_common(on, shown, place, earlier) <= self._max_overlap * int(earlier.sum())
            for place, earlier in self._placed
        )

    def add(self, mask: Mask, at: tuple[int, int]) -> None:
        """Remember an object."""
        on, of = window_on(mask.shape, at, self._shape)
        self._covered[on] |= mask[of]
        self._placed.append((on, mask[of].copy()))


def _n_common(here: tuple[slice, slice], mask: Mask, there: tuple[slice, slice], other: Mask) -> int:
    """Pixels that two masks, lying in two windows of a scene, have in common."""
    own, others = [], []
    for a, b in zip(here, there, strict=True):
        low, high = max(a.start, b.start), min(a.stop, b.stop)
        if low >= high:
            return 0
        own.append(slice(low - a.start, high - a.start))
        others.append(slice(low - b.start, high - b.start))
    return int((mask[tuple(own)] & other[tuple(others)]).sum())


def window_on(
    size: tuple[int, ...], at: tuple[int, int], shape: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where a crop of ``size`` lies in a scene, and which part of the crop that is; both may be empty."""
    on, of = [], []
    for n, start, limit in zip(size, at, shape, strict=True):
        low, high = min(max(0, start), limit), max(0, min(limit, start + n))
        high = max(low, high)
        on.append(slice(low, high))
        of.append(slice(low - start, high - start))
    return (on[0], on[1]), (of[0], of[1])


def place(shape: tuple[int, int], size: tuple[int, ...], outside: float, rng: np.random.Generator) -> tuple[int, int]:
    """Draw the upper left corner of a crop, of which a share may lie outside the scene.

    Parameters
    ----------
    shape, size : tuple of int
        Of the scene and of the crop, (Y, X).
    outside : float
        Largest share of each side that may be cut off.
    """
    corner = []
    for n, limit in zip(size, shape, strict=True):
        beyond = int(outside * n)
        low, high = -beyond, max(-beyond, limit - n + beyond)
        corner.append(int(rng.integers(low, high + 1)))
    return corner[0], corner[1]
