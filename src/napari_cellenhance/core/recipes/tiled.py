"""Planes and volumes of any size through a network that sees so far and no farther, in tiles that do not show."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.core.recipes.protocol import Checkpoint
from napari_cellenhance.core.tiling import Region

__all__ = ["TILE_PLANES", "TILE_PX", "BeforeAfter", "TileGrid", "padded"]

TILE_PX = 512
TILE_PLANES = 32

Pixels = NDArray[np.float32]
Slices = tuple[slice, ...]


class TileGrid:
    """Tiles with the context that a network needs, beginning on the grid of its pools.

    Parameters
    ----------
    n_dims : 2 or 3
    radius_px : int
        How far a pixel of the result sees.
    grid_px : int
        Sides of an input are multiples of this.
    """

    def __init__(self, n_dims: int, radius_px: int, grid_px: int) -> None:
        self.n_dims, self.grid_px = n_dims, grid_px
        self.halo_px = -(-radius_px // grid_px) * grid_px

    def run(
        self,
        image: Pixels,
        apply: Callable[[Pixels], Pixels],
        n_out: int,
        *,
        region: Region | None = None,
        tile_px: int = TILE_PX,
        tile_planes: int = TILE_PLANES,
        on_tile: Callable[[], None] = lambda: None,
        checkpoint: Checkpoint = lambda: None,
    ) -> Pixels:
        """Apply a network to an image, or to a window of its planes with the rest as context.

        Parameters
        ----------
        image : ndarray of shape (C, [Z,] Y, X)
        apply : callable
            Tile with context (C, …), of any size → (``n_out``, …) of the same size.
        n_out : int
            Channels of the result.
        region : Region or None
        tile_px, tile_planes : int
            Sides of a tile without its context.
        on_tile : callable
            Called after each tile.
        checkpoint : callable
            Called before each tile; raises to stop.

        Returns
        -------
        ndarray of float32, shape (``n_out``, [Z,] Y, X)

        Raises
        ------
        ImageError
            Values that are no numbers, in what is looked at.
        """
        spatial = window_of(image.shape[1:], region)
        result = np.empty((n_out, *(s.stop - s.start for s in spatial)), np.float32)
        for core, outer in self._tiles(spatial, image.shape[1:], self._sides(tile_px, tile_planes)):
            checkpoint()
            found = apply(_finite(image[(slice(None), *outer)]))
            at = tuple(slice(c.start - o.start, c.stop - o.start) for c, o in zip(core, outer, strict=True))
            to = tuple(slice(c.start - s.start, c.stop - s.start) for c, s in zip(core, spatial, strict=True))
            result[(slice(None), *to)] = found[(slice(None), *at)]
            on_tile()
        return result

    def n_tiles(
        self, shape: Sequence[int], tile_px: int = TILE_PX, tile_planes: int = TILE_PLANES, region: Region | None = None
    ) -> int:
        """Tiles of an image with spatial sides ``shape``, or of a window of it."""
        return sum(1 for _ in self._tiles(window_of(shape, region), shape, self._sides(tile_px, tile_planes)))

    def _sides(self, tile_px: int, tile_planes: int) -> tuple[int, ...]:
        return (*[tile_planes] * (self.n_dims - 2), tile_px, tile_px)

    def _tiles(self, window: Slices, shape: Sequence[int], sides: Sequence[int]) -> Iterator[tuple[Slices, Slices]]:
        """Cores that cover the window, and what each has to see; both begin on the grid where they are cut."""
        grid, halo = self.grid_px, self.halo_px
        axes = []
        for w, size, side in zip(window, shape, sides, strict=True):
            step = max(grid, side // grid * grid)
            cuts = sorted({w.start, w.stop, *range(w.start // grid * grid + step, w.stop, step)})
            spans = []
            for low, high in itertools.pairwise(cuts):
                start = max(0, (low - halo) // grid * grid)
                spans.append((slice(low, high), slice(start, min(size, high + halo))))
            axes.append(spans)
        for chosen in itertools.product(*axes):
            yield tuple(core for core, _ in chosen), tuple(outer for _, outer in chosen)


def _finite(part: Pixels) -> Pixels:
    """A tile, checked: a look at the whole image would bring all of it into memory, and for each region again."""
    if not np.isfinite(part).all():
        raise ImageError("the image has values that are no numbers; replace them first")
    return part


def window_of(shape: Sequence[int], region: Region | None) -> Slices:
    """All of an image with spatial sides ``shape``, or a window of its planes."""
    window = region or Region(0, int(shape[-2]), 0, int(shape[-1]))
    return (*(slice(0, int(n)) for n in shape[:-2]), *window.slices)


def padded(part: Pixels, grid_px: int) -> tuple[Pixels, Slices]:
    """Pad every side of (C, …) by reflection to the next multiple, at the end; and what crops the result back."""
    sides = part.shape[1:]
    result = part
    for axis, size in enumerate(sides, start=1):
        more = -size % grid_px
        if more:
            widths = [(0, more) if a == axis else (0, 0) for a in range(part.ndim)]
            result = np.pad(result, widths, mode="reflect" if size > more else "edge")
    return np.ascontiguousarray(result), (slice(None), *(slice(0, n) for n in sides))


class BeforeAfter:
    """A region before and after, both float32; the strength s blends: (1 − s)·x + s·f(x)."""

    __slots__ = ("after", "before")

    def __init__(self, before: Pixels, after: Pixels) -> None:
        self.before, self.after = before, after

    def blended(self, strength: float) -> Pixels:
        """Blend; strengths above 1 count as 1."""
        share = np.float32(min(1.0, max(0.0, strength)))
        return np.asarray((1 - share) * self.before + share * self.after, np.float32)
