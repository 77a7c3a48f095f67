"""A finished pyramid of blocks as one tiled OME-TIFF, tile by tile: no plane is ever held."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_cellenhance.core.errors import WriteError
from napari_cellenhance.io import _ome
from napari_cellenhance.io._tiff import BIGTIFF_FROM_BYTES, end_of_pixels
from napari_cellenhance.io.ome_zarr import ZarrImage
from napari_cellenhance.io.safe_write import atomic_path

__all__ = ["write_tiled"]

_TILE_PX = 512
_STEP_PX = 16
"""Sides of TIFF tiles are multiples of it."""


def write_tiled(
    target: str | os.PathLike[str],
    stored: ZarrImage,
    axes: str,
    *,
    name: str,
    pixel_size_um: Mapping[str, float],
    channel_names: Sequence[str],
    provenance: Mapping[str, Any],
    overwrite: bool = False,
) -> Path:
    """Write all levels of a store into a tiled OME-TIFF with a pyramid in SubIFDs; a BigTIFF from 4 GB on.

    Parameters
    ----------
    target : path
        There as a whole or not at all.
    stored : ZarrImage
        Full image first.
    axes : str
        Letters of its dimensions in the order ``TCZYX``.
    name : str
        Of the image.
    pixel_size_um : mapping
        Axis letter → µm (``T``: s).
    channel_names : sequence of str
        One per channel, or empty.
    provenance : mapping
        How it was made.
    overwrite : bool
        Replace a file that is there.

    Raises
    ------
    TargetExistsError, WriteError
        As for :func:`napari_cellenhance.io.safe_write.atomic_path`; or the file does not hold what was given.
    """
    levels = stored.levels
    n_bytes = sum(_tiled_bytes(level.shape, level.dtype) for level in levels)
    metadata = _ome.metadata_for(
        axes, axes, name=name, pixel_size_um=pixel_size_um, channel_names=channel_names, provenance=provenance,
        description="Written by napari-cellenhance.", mapping="as computed",
    )  # fmt: skip
    # Large, and guarded by the lock of the run: what was cut off must not stay beside it for ever.
    with atomic_path(target, overwrite=overwrite, name=f".{Path(target).name}.part") as temporary:
        with tifffile.TiffWriter(temporary, ome=True, bigtiff=n_bytes >= BIGTIFF_FROM_BYTES) as tiff:
            for number in range(len(levels)):
                shape = tuple(int(n) for n in levels[number].shape)
                kind: dict[str, Any] = {"subifds": len(levels) - 1} if number == 0 else {"subfiletype": 1}
                tiff.write(
                    _tiles(stored, number),
                    shape=shape, dtype=levels[number].dtype, tile=(_side(shape),) * 2, photometric="minisblack",
                    metadata=metadata if number == 0 else None, **kind,
                )  # fmt: skip
        if not _is_whole(temporary, levels[0].shape):
            raise WriteError(f"{target} was not written completely (the disk may be full); run the same again")
    return Path(target)


def _tiles(stored: ZarrImage, number: int) -> Iterator[NDArray[Any]]:
    """All tiles of a level, plane by plane, row by row; filled up with zeros at the ends."""
    level = stored.levels[number]
    *others, height, width = level.shape
    side = _side(level.shape)
    for leading in np.ndindex(*others):
        for y in range(0, height, side):
            for x in range(0, width, side):
                place = [*(slice(n, n + 1) for n in leading), slice(y, y + side), slice(x, x + side)]
                pixels = stored.read(number, place)
                tile = np.zeros((side, side), level.dtype)
                n_rows, n_columns = pixels.shape[-2:]
                tile[:n_rows, :n_columns] = pixels.reshape(n_rows, n_columns)
                yield tile


def _side(shape: Sequence[int]) -> int:
    """Of a tile: not larger than the image needs.

    >>> _side((3, 2000, 30)), _side((40, 30))
    (512, 48)
    """
    return min(_TILE_PX, -(-max(shape[-2:]) // _STEP_PX) * _STEP_PX)


def _tiled_bytes(shape: Sequence[int], dtype: np.dtype[Any]) -> int:
    *others, height, width = shape
    side = _side(shape)
    n_tiles = -(-height // side) * -(-width // side)
    return int(np.prod(others, dtype=np.int64)) * n_tiles * side * side * dtype.itemsize


def _is_whole(path: Path, shape: Sequence[int]) -> bool:
    with tifffile.TiffFile(path) as tif:
        series = tif.series[0]
        n_bytes = path.stat().st_size
        return series.size == np.prod(shape, dtype=np.int64) and all(
            end_of_pixels(level) <= n_bytes for level in series.levels
        )
