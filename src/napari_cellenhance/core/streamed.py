"""Statistics of images that do not fit into memory, block by block and exact.

Order statistics come from counts: values are mapped to unsigned integers of the same order, and
counted by their upper 16 bits; then only those whose upper bits are the wanted ones by their next
16 bits, and so on. One walk over the image for 8- and 16-bit pixels, two for 32-bit ones, four for
64-bit ones, and the result is the very value that sorting would give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.core.normalize import (
    NO_NUMBERS,
    Normalizer,
    choose_settings,
    percentiles_by_rank,
    wide_float,
)  # fmt: skip

__all__ = ["Blocks", "Counted", "fit_streamed"]

Blocks = Callable[[], Iterable[NDArray[Any]]]
"""Starts a new walk over the image: arrays of any shape and one dtype that cover it once."""

_BITS = 16


class Counted:
    """An image counted once: how many numbers it holds, and the value at any rank.

    Parameters
    ----------
    blocks : callable
        NaN and infinities are left out.

    Raises
    ------
    ImageError
        No finite number among the pixels, or pixels that are not real numbers.
    """

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._dtype = np.dtype(np.uint8)
        self.n = self.n_bad = 0
        top = np.zeros(1 << _BITS, np.int64)
        for block in blocks():
            finite = _finite(block)
            self._dtype = finite.dtype
            self.n += finite.size
            self.n_bad += block.size - finite.size
            keys = _ordered_keys(finite)
            top += _histogram(keys >> keys.dtype.type(_shift(keys.dtype, 0)))
        if self.n == 0:
            raise ImageError(NO_NUMBERS)
        self._top = top

    def values_at(self, ranks: Sequence[int]) -> dict[int, float]:
        """Values at ranks counted from 0, as sorting all of them would give."""
        found = {rank: _bin_of(self._top, rank) for rank in ranks}
        key_dtype = _key_dtype(self._dtype)
        for level in range(1, _n_levels(key_dtype)):
            counts = self._count_below({prefix for prefix, _ in found.values()}, level)
            for rank, (prefix, left) in found.items():
                digit, rest = _bin_of(counts[prefix], left)
                found[rank] = (prefix << _BITS | digit, rest)
        keys = np.array([prefix for prefix, _ in found.values()], key_dtype)
        return dict(zip(found, map(float, _values_of(keys, self._dtype)), strict=True))

    def percentiles(self, q: Sequence[float]) -> tuple[float, ...]:
        """As :func:`napari_cellenhance.core.normalize.percentiles`, to the last bit."""
        return percentiles_by_rank(self.n, q, self.values_at)

    def mean_and_std(self) -> tuple[float, float]:
        """In float64, block by block: the last digits may differ from those of one sum."""
        low, high = self.values_at((0, self.n - 1)).values() if self.n > 1 else (self.values_at((0,))[0],) * 2
        if low == high:
            return low, 0.0
        largest = max(abs(low), abs(high))
        scale = largest if largest > 1e100 or largest < 1e-100 else 1.0
        mean = sum(float((_finite(block).astype(np.float64) / scale).sum()) for block in self._blocks()) / self.n
        squares = (float(((_finite(block).astype(np.float64) / scale - mean) ** 2).sum()) for block in self._blocks())
        return mean * scale, float(np.sqrt(sum(squares) / self.n)) * scale

    def _count_below(self, prefixes: set[int], level: int) -> dict[int, NDArray[np.int64]]:
        """Counts of the next 16 bits, for each of some values of the bits above them."""
        counts = {prefix: np.zeros(1 << _BITS, np.int64) for prefix in prefixes}
        for block in self._blocks():
            keys = _ordered_keys(_finite(block))
            upper = keys >> keys.dtype.type(_shift(keys.dtype, level - 1))
            for prefix in prefixes:
                chosen = keys[upper == keys.dtype.type(prefix)] >> keys.dtype.type(_shift(keys.dtype, level))
                counts[prefix] += _histogram(chosen & keys.dtype.type((1 << _BITS) - 1))
        return counts


def fit_streamed(name: str, counted: Counted, **settings: float | bool) -> Normalizer:
    """Measure a normaliser on an image that does not fit into memory.

    Parameters
    ----------
    name : str
        See :class:`napari_cellenhance.core.normalize.Normalizer`.
    counted : Counted
    **settings
        As for :func:`napari_cellenhance.core.normalize.fit_normalizer`, whose result this is: to the last bit, but
        for ``meanstd``, where sums are taken in another order.

    Raises
    ------
    ParameterError
        Unknown name or setting.
    """
    chosen = choose_settings(name, settings)
    return Normalizer(name, chosen | _measure(name, counted, chosen))


def _measure(name: str, counted: Counted, settings: Mapping[str, float]) -> dict[str, float]:
    match name:
        case "percentile":
            p_low, p_high = counted.percentiles((settings["lo"], settings["hi"]))
            return {"p_low": p_low, "p_high": p_high}
        case "p99":
            return {"p99": counted.percentiles((99.0,))[0]}
        case "minmax" | "log":
            low, high = counted.percentiles((0.0, 100.0))
            return {"low": low, "high": high} if name == "minmax" else {"a": max(low, 0.0), "b": max(high, 0.0)}
        case "meanstd":
            mean, std = counted.mean_and_std()
            return {"mean": mean, "std": std}
        case _:
            return {}


def _finite(block: NDArray[Any]) -> NDArray[Any]:
    """All finite values of a block, flat, in a native dtype."""
    if block.dtype.kind not in "buif":
        raise ImageError(f"pixels are of type {block.dtype}; expected integers or real numbers")
    values = block.ravel()
    if values.dtype.kind == "f":
        values = values.astype(wide_float(values.dtype), copy=False)
        values = values[np.isfinite(values)]
    elif values.dtype.kind == "b":
        values = values.astype(np.uint8)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _histogram(digits: NDArray[Any]) -> NDArray[np.int64]:
    return np.bincount(digits.astype(np.intp), minlength=1 << _BITS)


def _key_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(f"u{max(2, dtype.itemsize)}")


def _n_levels(key_dtype: np.dtype[Any]) -> int:
    return key_dtype.itemsize * 8 // _BITS


def _shift(key_dtype: np.dtype[Any], level: int) -> int:
    return key_dtype.itemsize * 8 - _BITS * (level + 1)


def _ordered_keys(values: NDArray[Any]) -> NDArray[Any]:
    """Unsigned integers, of 16 bits at least, in the order of the values."""
    dtype = values.dtype
    if dtype.itemsize == 1:
        return (values.astype(np.int16) + (128 if dtype.kind == "i" else 0)).astype(np.uint16)
    bits: NDArray[Any] = np.ascontiguousarray(values).view(_key_dtype(dtype))
    if dtype.kind == "u":
        return bits
    sign = bits.dtype.type(1 << (dtype.itemsize * 8 - 1))
    if dtype.kind == "i":
        flipped: NDArray[Any] = bits ^ sign
        return flipped
    # Sign and magnitude: the larger the bits of a negative number, the smaller it is.
    return np.where(bits & sign, ~bits, bits | sign)


def _values_of(keys: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Inverse of :func:`_ordered_keys`."""
    if dtype.itemsize == 1:
        return keys.astype(np.int16) - (128 if dtype.kind == "i" else 0)
    if dtype.kind == "u":
        return keys
    sign = keys.dtype.type(1 << (dtype.itemsize * 8 - 1))
    if dtype.kind == "i":
        flipped: NDArray[Any] = keys ^ sign
        return flipped.view(dtype)
    return np.where(keys & sign, keys ^ sign, ~keys).view(dtype)


def _bin_of(counts: NDArray[np.int64], rank: int) -> tuple[int, int]:
    """Bin that holds a rank, and the rank inside it."""
    ends = np.cumsum(counts)
    place = int(np.searchsorted(ends, rank, side="right"))
    return place, rank - (int(ends[place - 1]) if place else 0)
