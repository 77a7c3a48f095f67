"""Planes of a canonical TCZYX image: read one, make it ready for a filter, put it back."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.axes import select_channels, to_canonical
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.normalize import Normalizer, fit_normalizer, sanitize
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.workflows.catalog import FilterSpec
from napari_cellenhance.workflows.requests import EnhanceRequest

__all__ = ["POOLED_PX", "PlaneIndex", "PreparedPlane", "all_planes", "fit", "open_image", "pooled_planes", "prepare"]

PlaneIndex = tuple[int, int, int]
"""Position (t, c, z) of a plane in a canonical image."""

POOLED_PX = 1 << 26
"""Statistics of a stack are pooled over evenly spaced planes of at most this many pixels together."""


@dataclass(frozen=True, slots=True)
class OpenedImage:
    """The image of a request, canonical and with its channels chosen; still lazy where it was."""

    pixels: Any
    axes: str
    """Axes of the result."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, C, Z, Y, X)."""
        return tuple(int(n) for n in self.pixels.shape)

    def read(self, index: PlaneIndex, window: tuple[slice, slice] = (slice(None), slice(None))) -> NDArray[Any]:
        """One plane of shape (Y, X), or a window of it, in memory, in its own dtype; masked pixels become NaN."""
        plane = self.pixels[(*index, *window)]
        if isinstance(plane, np.ma.MaskedArray):
            return np.asarray(np.ma.filled(plane.astype(np.float64), np.nan))
        return np.asarray(plane)


def open_image(request: EnhanceRequest) -> OpenedImage:
    """Check the axes and choose the channels; reads no pixel.

    Raises
    ------
    AxesError
        Axes that do not fit the shape.
    ImageError
        No pixels, or complex numbers.
    ParameterError
        A region outside the planes.
    """
    lengths = getattr(request.image, "shape", ())
    if any(isinstance(n, float) and math.isnan(n) for n in lengths):
        raise ImageError("the size of the image is not known before it is computed; call compute_chunk_sizes() first")
    if 0 in lengths:
        raise ImageError(f"the image has shape {tuple(lengths)} and thus no pixels; choose another layer")
    chosen, axes_out = select_channels(to_canonical(request.image, request.axes), request.axes, request.channels)
    if np.dtype(chosen.dtype).kind not in "buif":
        raise ImageError(f"pixels are of type {chosen.dtype}; expected integers or real numbers")
    opened = OpenedImage(chosen, axes_out)
    _check_region(request.region, opened.shape)
    return opened


def _check_region(region: Region | None, shape: Sequence[int]) -> None:
    if region is None:
        return
    height, width = shape[-2:]
    if not (0 <= region.y0 < region.y1 <= height and 0 <= region.x0 < region.x1 <= width):
        raise ParameterError(
            f"region y {region.y0}…{region.y1}, x {region.x0}…{region.x1} does not lie in a plane of "
            f"{height}×{width} px"
        )


def all_planes(image: OpenedImage) -> Iterator[PlaneIndex]:
    """Every plane, channel by channel."""
    n_t, n_c, n_z = image.shape[:3]
    for c, t, z in itertools.product(range(n_c), range(n_t), range(n_z)):
        yield (t, c, z)


def pooled_planes(image: OpenedImage, channel: int) -> list[PlaneIndex]:
    """Planes of a channel that stand for its whole stack: all, or evenly spaced ones of a large stack."""
    n_t, _, n_z, height, width = image.shape
    stack = [(t, channel, z) for t, z in itertools.product(range(n_t), range(n_z))]
    n = min(len(stack), max(1, POOLED_PX // (height * width)))
    return [stack[i] for i in np.linspace(0, len(stack) - 1, n).round().astype(int)]


@dataclass(frozen=True, slots=True)
class PreparedPlane:
    """A plane as the filter sees it.

    Parameters
    ----------
    base : ndarray of shape (Y, X)
        float32, normalised, bright objects; non-finite pixels filled.
    bad : ndarray of bool or None
        Pixels that were not finite.
    """

    base: NDArray[np.float32]
    bad: NDArray[np.bool_] | None

    @property
    def n_bad(self) -> int:
        """Number of pixels that were not finite."""
        return 0 if self.bad is None else int(self.bad.sum())


def fit(spec: FilterSpec, planes: NDArray[Any] | Sequence[NDArray[Any]]) -> Normalizer:
    """Measure the normaliser that the filter's card asks for, on whole planes.

    Objects smaller than what percentiles leave out (a few bright spots on an even ground) would make
    the range zero; then smallest and largest value take their place.
    """
    normalizer = fit_normalizer(spec.normalizer, planes, **dict(spec.normalizer_settings))
    return fit_normalizer("minmax", planes) if normalizer.is_flat else normalizer


def prepare(raw: NDArray[Any], normalizer: Normalizer, objects_are_dark: bool) -> PreparedPlane:
    """Fill non-finite pixels, normalise, and invert where the objects are dark."""
    filled, n_bad = sanitize(raw)
    base = normalizer.normalize(filled)
    if objects_are_dark:
        base = 1.0 - base
    return PreparedPlane(np.ascontiguousarray(base, np.float32), ~np.isfinite(raw) if n_bad else None)
