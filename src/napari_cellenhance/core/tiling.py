"""Windows of a plane: cut it into tiles with a halo, put the cores back together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError

__all__ = ["Region", "Tile", "merge", "pad_to_multiple", "padded_index", "split"]

ScalarT = TypeVar("ScalarT", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Region:
    """Half-open window ``[y0, y1) × [x0, x1)`` of a plane, in pixels of that plane."""

    y0: int
    y1: int
    x0: int
    x1: int

    @classmethod
    def whole(cls, plane: NDArray[Any]) -> Region:
        """Region covering all of a plane of shape (Y, X)."""
        return cls(0, int(plane.shape[0]), 0, int(plane.shape[1]))

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, in pixels."""
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index for a plane of shape (Y, X)."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def grown(self, halo_px: int, shape: tuple[int, ...]) -> Region:
        """Region with ``halo_px`` of context on every side, clamped to a plane of ``shape``.

        >>> Region(0, 4, 10, 20).grown(3, (100, 22))
        Region(y0=0, y1=7, x0=7, x1=22)
        """
        return Region(
            max(0, self.y0 - halo_px),
            min(int(shape[-2]), self.y1 + halo_px),
            max(0, self.x0 - halo_px),
            min(int(shape[-1]), self.x1 + halo_px),
        )

    def inside(self, outer: Region) -> Region:
        """Return the same window in the coordinates of ``outer``, which contains it.

        >>> Region(5, 8, 10, 20).inside(Region(2, 11, 7, 22))
        Region(y0=3, y1=6, x0=3, x1=13)
        """
        return Region(self.y0 - outer.y0, self.y1 - outer.y0, self.x0 - outer.x0, self.x1 - outer.x0)


@dataclass(frozen=True, slots=True)
class Tile:
    """One piece of work: ``outer`` is read, only ``core`` is written.

    Parameters
    ----------
    core : Region
        The cores of all tiles cover the plane exactly once.
    outer : Region
        ``core`` and its halo, clamped to the plane.
    """

    core: Region
    outer: Region

    @property
    def core_in_outer(self) -> Region:
        """The core in the coordinates of an array that covers ``outer``."""
        return self.core.inside(self.outer)


def split(shape: tuple[int, ...], tile_px: int, halo_px: int, multiple: int = 1) -> list[Tile]:
    """Cut a plane into tiles, row by row.

    Parameters
    ----------
    shape : tuple of int
        Shape of the plane; the last two entries are its height and width, in pixels.
    tile_px : int
        Side of a core, in pixels; rounded up to ``multiple``, and a tile larger than the plane is
        clamped to it.
    halo_px : int
        Context around each core, in pixels; rounded up to ``multiple``.
    multiple : int
        Origins of cores and of outer windows are multiples of it, so that a network which
        halves the image d times (``multiple = 2**d``) samples the same grid in every tile.

    Returns
    -------
    list of Tile
        Empty for a plane without pixels.

    Raises
    ------
    ParameterError
        ``tile_px`` or ``multiple`` below 1, ``halo_px`` below 0.

    Examples
    --------
    >>> [tile.core.slices for tile in split((3, 5), tile_px=4, halo_px=1)]
    [(slice(0, 3, None), slice(0, 4, None)), (slice(0, 3, None), slice(4, 5, None))]
    """
    if tile_px < 1 or multiple < 1 or halo_px < 0:
        raise ParameterError(
            f"tiles of {tile_px} px with a halo of {halo_px} px on a grid of {multiple} px are not possible; "
            "expected a tile and a grid of at least 1 px and a halo of at least 0 px"
        )
    height, width = int(shape[-2]), int(shape[-1])
    side, halo = _round_up(tile_px, multiple), _round_up(halo_px, multiple)
    tiles = []
    for y0 in range(0, height, side):
        for x0 in range(0, width, side):
            core = Region(y0, min(y0 + side, height), x0, min(x0 + side, width))
            tiles.append(Tile(core, core.grown(halo, (height, width))))
    return tiles


def merge(
    pieces: Iterable[tuple[Tile, NDArray[ScalarT]]], shape: tuple[int, int], dtype: type[ScalarT]
) -> NDArray[ScalarT]:
    """Put processed tiles back together; the inverse of :func:`split`.

    Parameters
    ----------
    pieces : iterable of (Tile, ndarray)
        Each array covers the ``outer`` window of its tile; only the core is used.
    shape : tuple of int
        Height and width of the plane.
    dtype : type
        Of the result.

    Returns
    -------
    ndarray of shape ``shape``
        Pixels of no tile are 0.

    Raises
    ------
    ParameterError
        An array that does not have the shape of its tile.
    """
    plane = np.zeros(shape, dtype)
    for tile, piece in pieces:
        if piece.shape != tile.outer.shape:
            raise ParameterError(f"a piece has shape {piece.shape}; expected that of its tile, {tile.outer.shape}")
        plane[tile.core.slices] = piece[tile.core_in_outer.slices]
    return plane


def pad_to_multiple(plane: NDArray[ScalarT], multiple: int) -> tuple[NDArray[ScalarT], tuple[slice, slice]]:
    """Pad height and width to the next multiple; crop the result back, never resize it.

    Split evenly with the extra pixel at the end; by reflection, or by repeating the edge where
    a side is not longer than the pad.

    Parameters
    ----------
    plane : ndarray of shape (..., Y, X)
        Not modified.
    multiple : int
        At least 1.

    Returns
    -------
    padded : ndarray
        A new array even where nothing had to be added.
    crop : tuple of two slices
        ``padded[(..., *crop)]`` is the plane.

    Raises
    ------
    ParameterError
        ``multiple`` below 1, or a plane without pixels.
    """
    if multiple < 1:
        raise ParameterError(f"multiple is {multiple}; expected 1 or more")
    if plane.ndim < 2 or 0 in plane.shape[-2:]:
        raise ParameterError(f"a plane of shape {plane.shape} cannot be padded; expected at least one row and column")
    padded, crop = plane.copy(), []
    for axis in (-2, -1):
        size = int(plane.shape[axis])
        missing = _round_up(size, multiple) - size
        before, after = missing // 2, missing - missing // 2
        widths = [(0, 0)] * plane.ndim
        widths[axis] = (before, after)
        padded = np.pad(padded, widths, mode="reflect" if size > after else "edge")
        crop.append(slice(before, before + size))
    return padded, (crop[0], crop[1])


def padded_index(size: int, multiple: int, least_px: int = 1) -> tuple[NDArray[np.intp], int]:
    """Which pixel each one of a padded side is, so that padding needs no copy of the plane.

    Parameters
    ----------
    size : int
        Pixels along a side.
    multiple : int
        The padded side is a multiple of it.
    least_px : int
        The padded side is at least so long.

    Returns
    -------
    index : ndarray of shape (padded size,)
        As :func:`pad_to_multiple` pads: evenly, by reflection, or by repeating the edge of a short side.
    before : int
        Pixels that were added at the beginning.

    Examples
    --------
    >>> padded_index(5, 4)
    (array([1, 0, 1, 2, 3, 4, 3, 2]), 1)
    """
    target = max(least_px, _round_up(size, multiple))
    before = (target - size) // 2
    after = target - size - before
    mode = "reflect" if size > after else "edge"
    return np.pad(np.arange(size), (before, after), mode=mode), before  # type: ignore[call-overload,no-any-return,unused-ignore]


def _round_up(size: int, multiple: int) -> int:
    return -(-int(size) // multiple) * multiple
