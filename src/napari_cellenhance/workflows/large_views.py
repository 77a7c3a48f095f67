"""What there is of a large result, to be looked at by region: finished, or while it is still being written.

The coarse levels of an unfinished result are not there yet. They are made of the blocks that are, by the same means as
at the end, so that what is seen early is what stays.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.pyramid import halve

if TYPE_CHECKING:
    from napari_cellenhance.io.ome_zarr import ZarrImage

__all__ = ["GrowingPyramid", "LevelView", "axes_of_store", "growing_levels", "stored_levels"]

_CACHE_BYTES = 64 * 2**20
_NEW_CHUNKS = 64
"""How many blocks that were never looked at are read at one time; the rest waits for the next look."""

Read = Callable[[tuple[slice, ...]], NDArray[Any]]


class LevelView:
    """A level of a store with its dimensions in another order; reads only what is indexed.

    Parameters
    ----------
    read : callable
        Slices without steps, one for each dimension of the store → pixels.
    shape : sequence of int
        Of the store.
    dtype : dtype
    order : sequence of int or None
        For each dimension the one of the store that it is; None for a new one of length 1. Those of the store that are
        left out must have length 1.
    """

    def __init__(self, read: Read, shape: Sequence[int], dtype: Any, order: Sequence[int | None]) -> None:
        self._read, self._stored_shape, self._order = read, tuple(shape), tuple(order)
        self.shape = tuple(1 if place is None else self._stored_shape[place] for place in self._order)
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.ndim = len(self.shape)
        self.size = int(np.prod(self.shape))

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Pixels in memory, as of a numpy array with whole numbers and slices."""
        parts = _spread(index, self.ndim)
        wanted = [slice(0, n) for n in self._stored_shape]
        after: list[int | slice] = []
        for part, place, n in zip(parts, self._order, self.shape, strict=True):
            start, stop, step = (range(n)[part], range(n)[part] + 1, None) if _is_number(part) else part.indices(n)
            if step is not None and step < 0:
                start, stop = 0, n
            if place is not None:
                wanted[place] = slice(start, max(start, stop))
            after.append(0 if step is None else part if step < 0 else slice(None, None, step))
        pixels = self._read(tuple(wanted))
        kept = [place for place in self._order if place is not None]
        left_out = tuple(place for place in range(len(self._stored_shape)) if place not in kept)
        pixels = np.squeeze(pixels, axis=left_out)
        pixels = pixels.transpose([sorted(kept).index(place) for place in kept])
        added = tuple(i for i, place in enumerate(self._order) if place is None)
        return np.expand_dims(pixels, added)[tuple(after)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All of it, for whoever asks for all."""
        return np.asarray(self[(slice(None),) * self.ndim], dtype=dtype)


def _is_number(part: Any) -> bool:
    return not isinstance(part, slice)


def _spread(index: Any, ndim: int) -> list[Any]:
    """One number or slice for each dimension."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if Ellipsis in parts:
        at = parts.index(Ellipsis)
        parts[at : at + 1] = [slice(None)] * (ndim - len(parts) + 1)
    return parts + [slice(None)] * (ndim - len(parts))


class GrowingPyramid:
    """Levels of a store that is being written.

    Parameters
    ----------
    store : ZarrImage
        Of which only the full image is filled.
    """

    def __init__(self, store: ZarrImage) -> None:
        self.store = store
        self._full = store.levels[0]
        self._chunk = tuple(int(n) for n in self._full.chunks[-2:])
        self._seen: OrderedDict[tuple[int, ...], NDArray[Any]] = OrderedDict()
        self._n_bytes = 0
        self._lock = threading.Lock()

    def read(self, level: int, place: tuple[slice, ...]) -> NDArray[Any]:
        """Pixels of a level as far as they are there; 0 elsewhere."""
        if level == 0:
            return np.asarray(self._full[place])
        found = np.zeros([part.stop - part.start for part in place], self._full.dtype)
        rows, columns = place[-2:]
        height, width = (side >> level for side in self._chunk)
        n_new = 0
        if height == 0 or width == 0:  # chunks that are less than one pixel there
            return found
        for leading in np.ndindex(*found.shape[:-2]):
            first = tuple(i + part.start for i, part in zip(leading, place[:-2], strict=True))
            for y in range(rows.start // height, -(-rows.stop // height)):
                for x in range(columns.start // width, -(-columns.stop // width)):
                    piece, is_new = self._piece(level, (*first, y, x), n_new < _NEW_CHUNKS)
                    n_new += is_new
                    if piece is not None:
                        _lay(found[leading], piece, y * height - rows.start, x * width - columns.start)
        return found

    def _piece(self, level: int, chunk: tuple[int, ...], may_read: bool) -> tuple[NDArray[Any] | None, bool]:
        """A chunk of the full image at a coarse level, and whether it had to be read; None where it is not there."""
        key = (level, *chunk)
        with self._lock:
            if key in self._seen:
                self._seen.move_to_end(key)
                return self._seen[key], False
        if not may_read or not self._is_there(chunk):
            return None, False
        y, x = (slice(i * n, (i + 1) * n) for i, n in zip(chunk[-2:], self._chunk, strict=True))
        piece = np.asarray(self._full[(*chunk[:-2], y, x)])
        for _ in range(level):
            piece = halve(piece)
        with self._lock:
            self._seen[key] = piece
            self._n_bytes += piece.nbytes
            while self._n_bytes > _CACHE_BYTES:
                self._n_bytes -= self._seen.popitem(last=False)[1].nbytes
        return piece, True

    def _is_there(self, chunk: tuple[int, ...]) -> bool:
        path: Path = self.store.folder / self._full.path / self._full.metadata.encode_chunk_key(chunk)
        return path.exists()


def _lay(plane: NDArray[Any], piece: NDArray[Any], y: int, x: int) -> None:
    """Lay a piece onto a plane at a corner that may be outside."""
    top, left = max(0, y), max(0, x)
    bottom, right = min(plane.shape[0], y + piece.shape[0]), min(plane.shape[1], x + piece.shape[1])
    if top < bottom and left < right:
        plane[top:bottom, left:right] = piece[top - y : bottom - y, left - x : right - x]


def axes_of_store(store: ZarrImage) -> str:
    """Letters of ``TCZYX``, as the arrays of OME-Zarr 0.5 name their dimensions."""
    return "".join(str(name).upper() for name in store.levels[0].metadata.dimension_names)


def growing_levels(store: ZarrImage, order: Sequence[int | None]) -> list[LevelView]:
    """Levels of a result that is being written, see :class:`LevelView`; look at them again to see more."""
    pyramid = GrowingPyramid(store)

    def reader(level: int) -> Read:
        return lambda place: pyramid.read(level, place)

    return [LevelView(reader(n), array.shape, array.dtype, order) for n, array in enumerate(store.levels)]


def stored_levels(folder: str | os.PathLike[str], order: Sequence[int | None] | None = None) -> list[LevelView]:
    """Levels of a finished OME-Zarr, see :class:`LevelView`; in the order of the store where none is given.

    Raises
    ------
    ImageError
        There is none, or it is not finished.
    """
    from napari_cellenhance.io.ome_zarr import open_store

    levels = open_store(Path(folder)).levels
    places = range(levels[0].ndim) if order is None else order
    return [LevelView(level.__getitem__, level.shape, level.dtype, tuple(places)) for level in levels]
