"""Blocks of a large image: made with what was measured of their plane, in this process or in one of many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.pyramid import halve
from napari_cellenhance.core.recipes.protocol import Checkpoint
from napari_cellenhance.core.tiling import Region, split
from napari_cellenhance.workflows import _large_source, _planes, catalog
from napari_cellenhance.workflows._engine import Engine
from napari_cellenhance.workflows._grey_filter import GreyFilter, is_grey
from napari_cellenhance.workflows._large_source import LargeSource, Measured, PlaneStore
from napari_cellenhance.workflows._planes import PlaneIndex
from napari_cellenhance.workflows._segment_filter import is_segmenting
from napari_cellenhance.workflows.requests import EnhanceRequest
from napari_cellenhance.workflows.strength_maps import strength_of

if TYPE_CHECKING:
    from napari_cellenhance.io.ome_zarr import ZarrImage

__all__ = ["PYRAMID_PX", "STACK", "BlockStore", "PlaneMaker"]

PYRAMID_PX = 1024
STACK = -1
"""Stands for time and plane where a whole stack is meant."""

Make = Callable[[Region], NDArray[Any]]
Guard = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class BlockStore:
    """The store of the result as planes cut into blocks.

    Parameters
    ----------
    store : ZarrImage
    axes : str
        Letters of its dimensions.
    block_px, chunk_px : int
        Sides of a block of the full image, and of a chunk.
    dtype : str or None
        Pixel type that was asked for.
    is_exact : bool
        Of classes and ids, which no mean makes sense of: the pyramid takes one of 4 pixels, and nothing is scaled.
    """

    store: ZarrImage
    axes: str
    block_px: int
    chunk_px: int
    dtype: Literal["float32", "uint8", "uint16", "same"] | None
    is_exact: bool = False

    def regions(self, level: int) -> list[Region]:
        """Blocks of a plane, row by row; each is made of whole chunks."""
        side = max(self.chunk_px, PYRAMID_PX // self.chunk_px * self.chunk_px) if level else self.block_px
        return [tile.core for tile in split(self.store.levels[level].shape[-2:], side, 0)]

    def keep(self, level: int, index: PlaneIndex, region: Region, image: NDArray[Any]) -> None:
        """Write a block; it is on the disk when this returns.

        Raises
        ------
        OSError
            Disk full, say.
        """
        leading, image = self._leading(index), image if level else self._in_type(image)
        self.store.write(level, [*leading, region.y0, region.x0], image.reshape(*[1] * len(leading), *image.shape))

    def _in_type(self, image: NDArray[Any]) -> NDArray[Any]:
        """A block of the full image as it is stored."""
        from napari_cellenhance.io.pixels import convert
        from napari_cellenhance.workflows._file_results import as_dtype

        if self.dtype == "same":
            return as_dtype(image, self.store.levels[0].dtype)
        if self.dtype is None:
            return image
        return image.astype(self.dtype) if self.is_exact else convert(image, self.dtype)[0]

    def halved(self, level: int, index: PlaneIndex, region: Region) -> NDArray[Any]:
        """Block of a level, from the one below it."""
        height, width = self.store.levels[level - 1].shape[-2:]
        below = Region(2 * region.y0, min(2 * region.y1, height), 2 * region.x0, min(2 * region.x1, width))
        pixels = self.read(level - 1, index, below)
        return pixels[::2, ::2] if self.is_exact else halve(pixels)

    def read(self, level: int, index: PlaneIndex, region: Region) -> NDArray[Any]:
        """A window of a plane, (Y, X)."""
        place = [slice(n, n + 1) for n in self._leading(index)]
        return self.store.read(level, [*place, *region.slices]).reshape(region.shape)

    def _leading(self, index: PlaneIndex) -> list[int]:
        return [n for letter, n in zip("TCZ", index, strict=True) if letter in self.axes]


@dataclass(frozen=True, slots=True)
class PlaneMaker:
    """Makes blocks of the full image.

    Parameters
    ----------
    settings : EnhanceRequest
    spec : FilterSpec
    source : LargeSource
    engine : Engine or None
        None where the strength is 0 and the pixels are copied.
    planes : PlaneStore
        Room for normalised planes.
    block_px : int
        Tiles are not larger.
    checkpoint : callable
        Asked before each tile and each window.
    guard : callable
        Gives a context in which room on the disk is asked for, to translate what goes wrong.
    """

    settings: EnhanceRequest
    spec: catalog.FilterSpec
    source: LargeSource
    engine: Engine | None
    planes: PlaneStore
    block_px: int
    checkpoint: Checkpoint
    guard: Guard

    @contextmanager
    def stack(self, channel: int, measured: Measured) -> Iterator[Any]:
        """Calibration on planes that stand for a stack; None where they are flat, or nothing is computed."""
        if self.engine is None or measured.normalizer.is_flat:
            yield None
            return
        pooled = self.pooled(channel)
        # Until the end: some filters look at the planes again while they render.
        with self._room(len(pooled)) as bases:
            for index, base in zip(pooled, bases, strict=True):
                self._fill(index, base, measured)
            yield self.engine.attempt(lambda opened, _: opened.enhancer.calibrate(bases, self.checkpoint))

    def pooled(self, channel: int) -> list[PlaneIndex]:
        """Planes that stand for the stack of a channel."""
        return _planes.pooled_planes(_planes.OpenedImage(self.source, self.source.axes_out), channel)

    @contextmanager
    def plane(self, index: PlaneIndex, measured: Measured | None, calibration: Any = None) -> Iterator[Make]:
        """Open a plane: what makes its blocks, until the ``with`` block ends.

        Parameters
        ----------
        index : (t, c, z)
        measured : Measured or None
            Needed where something is computed.
        calibration : object
            Of a stack; None calibrates on this plane.
        """
        engine = self.engine
        grey = GreyFilter.of(self.spec.info.id) if is_grey(self.spec.info.id) else None
        if engine is None or measured is None:
            yield lambda region: self.source.read(index, region)
        elif measured.normalizer.is_flat:
            yield partial(self._flat, grey, index)
        else:
            with self._room(1) as (base,):
                is_even = self._fill(index, base, measured)
                if is_even and grey is not None and grey.keeps_even(self.settings.statistics):
                    yield partial(self._flat, grey, index)
                    return
                if calibration is None:
                    calibration = engine.attempt(lambda opened, _: opened.enhancer.calibrate([base], self.checkpoint))
                yield lambda region: self._render(engine, index, base, measured, calibration, region)

    def _flat(self, grey: GreyFilter | None, index: PlaneIndex, region: Region) -> NDArray[np.float32]:
        """Region of a plane in which there is nothing to see."""
        return np.zeros(region.shape, np.float32) if grey is None else grey.untouched(self.source.read(index, region))

    def _render(
        self,
        engine: Engine,
        index: PlaneIndex,
        base: NDArray[np.float32],
        measured: Measured,
        calibration: Any,
        region: Region,
    ) -> NDArray[np.float32]:
        from napari_cellenhance.core.inference import Rendering, enhance_plane

        rendering = Rendering(strength_of(self.settings, self.spec), self.spec.identity_below)
        image = engine.attempt(
            lambda opened, tile_px: enhance_plane(
                opened.enhancer, base, calibration, rendering,
                region=region, tile_px=min(tile_px, self.block_px), checkpoint=self.checkpoint,
            ).image
        )  # fmt: skip
        if is_grey(self.spec.info.id):
            image = GreyFilter.of(self.spec.info.id).in_grey(image, measured.normalizer)
        if measured.n_bad and not is_segmenting(self.spec.info.id):
            image[self.source.bad(index, region)] = np.nan
        self.planes.let_go()
        return image

    def _fill(self, index: PlaneIndex, base: NDArray[np.float32], measured: Measured) -> bool:
        """Write the normalised plane; True where it has one single value."""
        low, high = np.inf, -np.inf
        for tile in split(base.shape, _large_source.READ_PX, 0):
            self.checkpoint()
            part = self.source.base(index, tile.core, measured)
            base[tile.core.slices] = part
            low, high = min(low, float(part.min())), max(high, float(part.max()))
            self.planes.let_go()
        return low == high

    @contextmanager
    def _room(self, n_planes: int) -> Iterator[list[NDArray[np.float32]]]:
        height, width = self.source.shape[-2:]
        room = self.planes.planes((height, width), n_planes)
        with self.guard():
            planes = room.__enter__()
        try:
            yield planes
        finally:
            room.__exit__(None, None, None)
