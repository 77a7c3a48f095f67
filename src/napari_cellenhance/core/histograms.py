"""How often each grey value occurs: bins that suit the pixels, counts over planes, cumulative shares."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError

__all__ = ["Histogram", "bin_edges", "counted", "value_range"]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of grey values.

    Parameters
    ----------
    edges : ndarray of shape (n + 1,)
        Rising; in the image's own grey values.
    counts : ndarray of int64, shape (n,)
        Pixels from one edge up to, not including, the next; the last bin has both its edges.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]

    @property
    def n_pixels(self) -> int:
        """Pixels counted."""
        return int(self.counts.sum())

    @property
    def shares(self) -> NDArray[np.float64]:
        """Share of the pixels in each bin, adding up to 1; zeros where nothing was counted."""
        return np.asarray(self.counts / max(1, self.n_pixels), np.float64)

    @property
    def cumulative(self) -> NDArray[np.float64]:
        """Share of the pixels up to the upper edge of each bin; the last is 1 where anything was counted."""
        return np.asarray(np.cumsum(self.counts) / max(1, self.n_pixels), np.float64)

    @property
    def positions(self) -> NDArray[np.float64]:
        """The edges moved so that the first is 0 and the last 1: to compare images of different ranges."""
        low, high = self.edges[0], self.edges[-1]
        return np.asarray((self.edges - low) / (high - low), np.float64)


def value_range(planes: Iterable[NDArray[Any]]) -> tuple[float, float]:
    """Smallest and largest finite value of all planes.

    Raises
    ------
    ImageError
        No finite value.
    """
    low, high = np.inf, -np.inf
    for plane in planes:
        values = np.asarray(plane)
        if values.dtype.kind == "f":
            values = values[np.isfinite(values)]
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    if low > high:
        raise ImageError("the image contains no numbers; choose another layer")
    return low, high


def bin_edges(low: float, high: float, *, is_integer: bool, n_bins: int = 256) -> NDArray[np.float64]:
    """Edges of at most ``n_bins`` bins that hold every value from ``low`` to ``high``.

    Bins of whole numbers hold equally many of them each: otherwise the picture is a comb of teeth and gaps that
    are not in the image.

    Raises
    ------
    ParameterError
        Fewer than one bin, or a range that is no range.

    Examples
    --------
    >>> bin_edges(0, 3, is_integer=True).tolist()
    [-0.5, 0.5, 1.5, 2.5, 3.5]
    >>> bin_edges(0.0, 1.0, is_integer=False, n_bins=2).tolist()
    [0.0, 0.5, 1.0]
    """
    if n_bins < 1 or not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise ParameterError(f"{n_bins} bins from {low} to {high}; expected at least one, from low to high")
    if is_integer:
        width = int(np.ceil((high - low + 1) / n_bins))
        n = int(np.ceil((high - low + 1) / width))
        return np.asarray(low - 0.5 + width * np.arange(n + 1), np.float64)
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        pad = 0.5 * abs(low) or 0.5
        low, high = low - pad, high + pad
    return np.linspace(low, high, n_bins + 1)


def counted(values: Iterable[NDArray[Any]], edges: NDArray[np.float64]) -> Histogram:
    """Count the finite values of all arrays; reads one array at a time.

    Parameters
    ----------
    values : iterable of ndarray
        Any shapes. Values outside the edges are not counted.
    edges : ndarray of shape (n + 1,)
    """
    counts = np.zeros(len(edges) - 1, np.int64)
    for part in values:
        flat = np.asarray(part).ravel()
        if flat.dtype.kind == "f":
            flat = flat[np.isfinite(flat)]
        counts += np.histogram(flat, edges)[0]
    return Histogram(np.asarray(edges, np.float64), counts)
