"""Objects of a plane that is too large to be looked at whole: found window by window, joined across their borders.

Every pixel of an object gets its key: one more than the place, in reading order, of the first pixel of its object in
the plane. All windows that see an object from end to end give it the same key, so there is nothing to join. Objects
that reach farther than a window sees are *open*: each window knows a piece of them, and pieces on both sides of a
border are joined afterwards. Numbered in the order of their first pixels, objects have the very ids that
``core.postprocess.segment`` gives on the whole plane.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.postprocess import SPLIT_DEPTH, split_at_necks
from napari_cellenhance.core.tiling import Region

__all__ = ["CONTEXT_PX", "Joiner", "ObjectOptions", "Objects", "Pieces", "find_pieces"]

CONTEXT_PX = 256
"""What a window sees around its block: objects up to this size are seen from end to end, wherever they lie."""
_OPEN = np.uint64(1 << 63)

Keys = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectOptions:
    """How a mask becomes objects.

    Parameters
    ----------
    split_touching : bool
        Cut touching objects at their necks.
    min_size_px : int
        Smaller objects are dropped.
    fills_holes : bool
        Holes smaller than the smallest object are filled first, as ``core.postprocess.label_mask`` does.
    has_diagonals : bool
        Pixels that touch at a corner hang together.
    """

    split_touching: bool = True
    min_size_px: int = 30
    fills_holes: bool = False
    has_diagonals: bool = True

    def __post_init__(self) -> None:
        if self.min_size_px < 0:
            raise ParameterError(f"minimum size is {self.min_size_px} px; expected 0 or more")
        if self.split_touching and not self.has_diagonals:
            raise ParameterError("objects that hang together by edges only are not cut; expected diagonals too")

    @property
    def context_px(self) -> int:
        """What has to be known around a block."""
        return CONTEXT_PX + (self.min_size_px if self.fills_holes else 0)


@dataclass(frozen=True, slots=True)
class Pieces:
    """Objects of a block.

    Parameters
    ----------
    keys : ndarray of uint64, shape of the block
        0 is ground; the highest bit marks pieces of open objects.
    below, right : ndarray of uint64
        How the block goes on on the line of pixels below it, and to its right; empty at the rim of the plane.
    """

    keys: Keys
    below: Keys
    right: Keys


def find_pieces(
    mask: NDArray[np.bool_], window: Region, core: Region, shape: tuple[int, int], options: ObjectOptions
) -> Pieces:
    """Find the objects of a block.

    Parameters
    ----------
    mask : ndarray of bool
        Of ``window``.
    window : Region
        ``core`` and ``options.context_px`` around it, as far as the plane goes.
    core : Region
        The block.
    shape : tuple of int
        Height and width of the plane.
    options : ObjectOptions
    """
    from scipy.ndimage import label

    is_object = np.asarray(mask, np.bool_)
    if options.fills_holes:
        is_object = _filled(is_object, options.min_size_px)
    seen = core.grown(CONTEXT_PX, shape)
    is_object = is_object[seen.inside(window).slices]
    inner = core.inside(seen).slices
    labels, n = label(is_object, structure=_structure(options))
    # What does not reach into the block is no matter of it.
    is_here = np.zeros(n + 1, np.bool_)
    is_here[labels[inner]] = True
    is_here[0] = False
    labels = np.where(is_here[labels], labels, 0)
    is_open = np.zeros(n + 1, np.bool_)
    for line in _cut_lines(labels, seen, shape):
        is_open[line] = True
    is_open[0] = False
    pieces, in_open = labels, is_open[labels]
    if options.split_touching and labels.any():
        pieces = split_at_necks(labels > 0, labels, SPLIT_DEPTH)
    keys = _keys_by_first_pixel(np.where(in_open, 0, pieces), seen, shape)
    parts = np.where(in_open, pieces, 0)
    own = _keys_by_first_pixel(parts[inner], core, shape)
    own[own > 0] |= _OPEN
    key_of = np.zeros(int(pieces.max(initial=0)) + 1, np.uint64)
    key_of[parts[inner]] = own
    key_of[0] = 0
    keys = np.where(in_open, key_of[parts], keys)
    inside = core.inside(seen)
    return Pieces(
        keys[inner],
        keys[inside.y1 : inside.y1 + 1, inside.x0 : inside.x1].reshape(-1),
        keys[inside.y0 : inside.y1, inside.x1 : inside.x1 + 1].reshape(-1),
    )


def _filled(is_object: NDArray[np.bool_], min_size_px: int) -> NDArray[np.bool_]:
    from scipy.ndimage import label

    holes, n_holes = label(~is_object)
    is_small = np.bincount(holes.ravel(), minlength=n_holes + 1) < min_size_px
    is_small[0] = False
    return np.asarray(is_object | is_small[holes], np.bool_)


def _structure(options: ObjectOptions) -> NDArray[np.bool_]:
    from scipy.ndimage import generate_binary_structure

    return np.asarray(generate_binary_structure(2, 2 if options.has_diagonals else 1), np.bool_)


def _cut_lines(labels: NDArray[Any], seen: Region, shape: tuple[int, int]) -> list[NDArray[Any]]:
    """Outermost lines of a window behind which the plane goes on."""
    found = []
    if seen.y0 > 0:
        found.append(labels[0])
    if seen.y1 < shape[0]:
        found.append(labels[-1])
    if seen.x0 > 0:
        found.append(labels[:, 0])
    if seen.x1 < shape[1]:
        found.append(labels[:, -1])
    return found


def _keys_by_first_pixel(labels: NDArray[Any], at: Region, shape: tuple[int, int]) -> Keys:
    """Each label replaced by one more than the place of its first pixel in the plane."""
    ids, first, number = np.unique(labels, return_index=True, return_inverse=True)
    rows, columns = np.unravel_index(first, labels.shape)
    keys = ((rows.astype(np.uint64) + np.uint64(at.y0)) * np.uint64(shape[1])) + columns.astype(np.uint64)
    keys += np.uint64(at.x0 + 1)
    keys[ids == 0] = 0
    return np.asarray(keys[number.reshape(labels.shape)], np.uint64)


@dataclass(frozen=True, slots=True)
class Objects:
    """Objects of a plane, all borders crossed.

    Parameters
    ----------
    keys : ndarray of uint64, increasing
        All keys of the blocks.
    ids : ndarray of uint32
        Number of the object of each; 0 where it was dropped.
    n : int
        Objects, numbered 1…n in reading order of their first pixels.
    n_joined : int
        Objects that were put together of open pieces.
    """

    keys: Keys
    ids: NDArray[np.uint32]
    n: int
    n_joined: int = 0

    def number(self, block: Keys, last: int = 0) -> NDArray[np.uint32]:
        """Ids for the keys of a block, beginning after ``last``."""
        if not len(self.keys):
            return np.zeros(block.shape, np.uint32)
        place = np.searchsorted(self.keys, block).clip(max=len(self.keys) - 1)
        ids = np.where(self.keys[place] == block, self.ids[place], 0).astype(np.uint32)
        return np.where(ids > 0, ids + np.uint32(last), 0).astype(np.uint32)


@dataclass
class Joiner:
    """Gathers blocks of a plane, row by row, and joins what crosses their borders.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the plane.
    options : ObjectOptions
        Of :func:`find_pieces`.

    Notes
    -----
    Without cuts, all that touches across a border is one object: exactly what labels of the whole plane say. With
    cuts, objects that a window saw from end to end are known already, and were cut as on the whole plane. Of open ones
    both windows know the first line of pixels behind the border: pieces that share more than half of the longer one's
    part of it are the same object. The union over all pairs is SciPy's ``connected_components``.
    """

    shape: tuple[int, int]
    options: ObjectOptions
    _keys: list[Keys] = field(default_factory=list)
    _sizes: list[NDArray[np.int64]] = field(default_factory=list)
    _first: list[NDArray[np.uint64]] = field(default_factory=list)
    _pairs: list[NDArray[np.uint64]] = field(default_factory=list)
    _rows: tuple[Keys, Keys] | None = None
    """Above the row of blocks in hand: the last line of pixels, and how the blocks there continue it."""
    _next_rows: tuple[Keys, Keys] | None = None
    _left: tuple[Keys, Keys] | None = None

    def add(self, core: Region, found: Pieces) -> None:
        """The next block, in reading order."""
        block = found.keys
        keys, first, sizes = np.unique(block, return_index=True, return_counts=True)
        is_object = keys > 0
        rows, columns = np.unravel_index(first[is_object], block.shape)
        places = (rows.astype(np.uint64) + np.uint64(core.y0)) * np.uint64(self.shape[1]) + columns.astype(np.uint64)
        self._keys.append(keys[is_object])
        self._sizes.append(sizes[is_object].astype(np.int64))
        self._first.append(places + np.uint64(core.x0))
        if core.x0 == 0:
            width = self.shape[1]
            self._rows, self._next_rows = self._next_rows, (np.zeros(width, np.uint64), np.zeros(width, np.uint64))
            self._left = None
        if self._rows is not None:
            # One pixel more at each side: corners touch, too.
            x0, x1 = max(0, core.x0 - 1), min(self.shape[1], core.x1 + 1)
            here = np.zeros(x1 - x0, np.uint64)
            here[core.x0 - x0 : core.x1 - x0] = block[0]
            self._touch(self._rows[0][x0:x1], self._rows[1][x0:x1], here)
        if self._left is not None:
            self._touch(*self._left, block[:, 0])
        assert self._next_rows is not None  # a row of blocks begins at its left end
        self._next_rows[0][core.x0 : core.x1] = block[-1]
        if len(found.below):
            self._next_rows[1][core.x0 : core.x1] = found.below
        self._left = (block[:, -1].copy(), found.right) if len(found.right) else None

    def _touch(self, before: Keys, continued: Keys, here: Keys) -> None:
        """The last line of pixels before a border, how it is continued there, and the first line behind it."""
        if self.options.split_touching:
            self._pairs.append(_same_by_overlap(continued, here))
            return
        beside = [(before, here)]
        if self.options.has_diagonals:
            beside += [(before[:-1], here[1:]), (before[1:], here[:-1])]
        for a, b in beside:
            is_pair = (a > 0) & (b > 0) & (a != b)
            self._pairs.append(np.unique(np.stack([a[is_pair], b[is_pair]]), axis=1))

    def objects(self) -> Objects:
        """All objects of the plane, numbered."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        if not self._keys:
            return Objects(np.zeros(0, np.uint64), np.zeros(0, np.uint32), 0)
        keys, number = np.unique(np.concatenate(self._keys), return_inverse=True)
        n_keys = len(keys)
        pairs = np.concatenate([np.zeros((2, 0), np.uint64), *self._pairs], axis=1)
        # What a window cut off beyond its block may be no piece of any other one.
        pairs = pairs[:, np.isin(pairs, keys).all(axis=0)]
        a, b = (np.searchsorted(keys, line) for line in pairs)
        graph = coo_array((np.ones(len(a), np.bool_), (a, b)), shape=(n_keys, n_keys))
        n_objects, of_key = connected_components(graph, directed=False)
        of_part = of_key[number]
        sizes = np.bincount(of_part, np.concatenate(self._sizes), minlength=n_objects)
        first = np.full(n_objects, np.iinfo(np.uint64).max, np.uint64)
        np.minimum.at(first, of_part, np.concatenate(self._first))
        kept = np.flatnonzero(sizes >= max(1, self.options.min_size_px))
        ids = np.zeros(n_objects, np.uint32)
        ids[kept[np.argsort(first[kept])]] = np.arange(1, len(kept) + 1, dtype=np.uint32)
        n_keys_of = np.bincount(of_key, minlength=n_objects)
        return Objects(keys, ids[of_key], len(kept), int((n_keys_of[kept] > 1).sum()))


def _same_by_overlap(one: Keys, other: Keys) -> NDArray[np.uint64]:
    """Pairs of keys, (2, n), that two windows give to the same object on a line of pixels that both see."""
    is_pair = (one > 0) & (other > 0) & (one != other)
    if not is_pair.any():
        return np.zeros((2, 0), np.uint64)
    pairs, n_shared = np.unique(np.stack([one[is_pair], other[is_pair]]), axis=1, return_counts=True)
    longest = np.maximum(_length_of(one, pairs[0]), _length_of(other, pairs[1]))
    return np.asarray(pairs[:, 2 * n_shared > longest], np.uint64)


def _length_of(line: Keys, keys: Keys) -> NDArray[np.int64]:
    known, counts = np.unique(line, return_counts=True)
    return np.asarray(counts[np.searchsorted(known, keys)], np.int64)
