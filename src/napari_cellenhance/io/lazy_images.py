"""Open images without reading them: OME-Zarr, and TIFF by region."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.io.images import TIFF_MAGIC

__all__ = ["LazyImage", "LazyPixels", "is_zarr", "open_lazily"]

_ZARR_FILES = ("zarr.json", ".zgroup", ".zarray", ".zattrs")


class LazyPixels:
    """An array on disk, its dimensions in another order; reads only what is indexed.

    Parameters
    ----------
    stored : array-like
        With ``shape`` and ``dtype``; indexed by whole numbers and slices.
    order : sequence of int or None
        Dimension of ``stored`` that each dimension is; those that are left out have length 1.
    convert : callable, optional
        What to do with the pixels that were read.
    """

    def __init__(
        self,
        stored: Any,
        order: Sequence[int] | None = None,
        convert: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
    ) -> None:
        self._stored, self._convert = stored, convert
        self._order = tuple(range(len(stored.shape)) if order is None else order)
        self.shape = tuple(int(stored.shape[i]) for i in self._order)
        self.dtype: np.dtype[Any] = np.dtype(stored.dtype)
        self.ndim = len(self.shape)
        self.size = math.prod(self.shape)

    def __getitem__(self, index: int | slice | tuple[int | slice, ...]) -> NDArray[Any]:
        """Pixels in memory; a number or slice for each dimension, those that are left out at the end are whole."""
        index = index if isinstance(index, tuple) else (index,)
        index = (*index, *[slice(None)] * (self.ndim - len(index)))
        asked: list[int | slice] = [0] * len(self._stored.shape)
        for place, part in zip(self._order, index, strict=True):
            asked[place] = part
        pixels = _in_memory(self._stored, tuple(asked))
        kept = [place for place, part in zip(self._order, index, strict=True) if isinstance(part, slice)]
        pixels = pixels.transpose([sorted(kept).index(place) for place in kept])
        return pixels if self._convert is None else self._convert(pixels)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All of it in memory."""
        return self[()].astype(self.dtype if dtype is None else dtype, copy=False)


def _in_memory(stored: Any, index: tuple[int | slice, ...]) -> NDArray[Any]:
    """Pixels of their own; of a mapped file no page stays, or the program would grow to the size of the file."""
    if not isinstance(stored, np.memmap):
        return np.asarray(stored[index])
    pixels = np.array(stored[index], subok=False)
    mapped = stored._mmap  # type: ignore[attr-defined]
    if hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
    return pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class LazyImage:
    """An image of which only the description was read.

    Parameters
    ----------
    levels : tuple of LazyPixels
        The full image, and smaller copies of it where the file holds some.
    axes : str
        One letter of ``TCZYXS`` per dimension; empty where the file does not tell.
    pixel_size_um : dict
        Axis letter → size of a pixel of the full image in µm (``T``: s).
    channel_names, notes, provenance
        As in ``io.images.ImageFile``.
    identity : dict
        What of the file can be compared cheaply to see whether it is still the same.
    """

    levels: tuple[LazyPixels, ...]
    axes: str
    pixel_size_um: dict[str, float] = field(default_factory=dict)
    channel_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    provenance: dict[str, Any] | None = None
    identity: dict[str, Any] = field(default_factory=dict)


def is_zarr(path: str | os.PathLike[str]) -> bool:
    """Whether a folder is a Zarr store."""
    return any((Path(path) / name).is_file() for name in _ZARR_FILES)


@contextmanager
def open_lazily(path: str | os.PathLike[str]) -> Iterator[LazyImage]:
    """Open an OME-Zarr folder (0.4, 0.5) or a TIFF file; close it when the block ends.

    Raises
    ------
    ParameterError
        No such file or folder.
    ImageError
        Neither of them, damaged, or not finished.
    OSError
        No permission.
    """
    source = Path(path)
    if not source.exists():
        raise ParameterError(f"there is no {source}; expected an OME-Zarr folder or a TIFF file, check the path")
    if source.is_dir():
        from napari_cellenhance.io.ome_zarr import open_store

        yield open_store(source)
        return
    with open(source, "rb") as stream:
        magic = stream.read(4)
    if magic not in TIFF_MAGIC:
        raise ImageError(f"{source} can only be read as a whole; expected an OME-Zarr folder or a TIFF file")
    from napari_cellenhance.io._tiff import open_tiff

    with open_tiff(source) as fields:
        levels = tuple(LazyPixels(*level) for level in fields.pop("levels"))
        status = source.stat()
        yield LazyImage(levels=levels, identity={"bytes": status.st_size, "changed": status.st_mtime_ns}, **fields)
