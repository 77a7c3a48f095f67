"""Resolution of an image by Fourier ring correlation: up to which fineness two halves of it show the same.

References
----------
.. [1] Saxton & Baumeister, J. Microsc. 127, 1982; van Heel, Ultramicroscopy 21, 1987: the correlation.
.. [2] Nieuwenhuizen et al., Nat. Methods 10, 2013: the fixed threshold 1/7.
.. [3] Koho et al., "Fourier ring correlation simplifies image restoration in fluorescence microscopy", Nat. Commun.
   10, 3103 (2019): one image split into two pairs of images, pixel by pixel as on a checkerboard.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_cellenhance.core.errors import ImageError

__all__ = ["MIN_SIDE_PX", "THRESHOLD", "RingCorrelation", "one_image", "two_images"]

FloatArray = NDArray[np.float64]

THRESHOLD = 1 / 7
"""Correlation below which fineness counts as noise ([2]_)."""
MIN_SIDE_PX = 32
"""Shortest side of the images that are correlated: of less, rings hold too few pixels."""
_SMOOTHED_RINGS = 5
_FIRST_RING = 3
"""Smaller rings hold a dozen pixels, and what the window leaves of the mean."""


@dataclass(frozen=True, slots=True)
class RingCorrelation:
    """Correlation of two images ring by ring of their Fourier transforms.

    Parameters
    ----------
    frequencies : ndarray of shape (N,)
        Rising; cycles per pixel of the image that was measured.
    correlation : ndarray of shape (N,)
        −1…1.
    limit : float
        The finest frequency that can be told, in cycles per pixel: 0.5, or 0.25 of a single image.
    """

    frequencies: FloatArray
    correlation: FloatArray
    limit: float

    @property
    def smoothed(self) -> FloatArray:
        """The correlation averaged over five rings, so that a single one below the threshold is no end."""
        padded = np.pad(self.correlation, _SMOOTHED_RINGS // 2, mode="edge")
        return np.convolve(padded, np.full(_SMOOTHED_RINGS, 1 / _SMOOTHED_RINGS), mode="valid")

    @property
    def cutoff(self) -> float:
        """Frequency where the correlation first falls below 1/7; ``limit`` if it never does, NaN if it starts there."""
        below = np.flatnonzero(self.smoothed < THRESHOLD)
        if not below.size:
            return self.limit
        # Averaging carries the end of a steep curve further: it is read off the curve itself.
        start = max(0, int(below[0]) - _SMOOTHED_RINGS + 1)
        ring = start + int(np.argmax(self.correlation[start:] < THRESHOLD))
        if ring == 0:
            return float("nan")
        before, here = self.correlation[ring - 1], self.correlation[ring]
        share = float(np.clip((before - THRESHOLD) / (before - here), 0.0, 1.0)) if before > here else 0.0
        step = self.frequencies[ring] - self.frequencies[ring - 1]
        return float(self.frequencies[ring - 1] + share * step)

    @property
    def resolution_px(self) -> float:
        """Finest period that the two have in common, in pixels; NaN where they have nothing in common."""
        return 1.0 / self.cutoff

    @property
    def is_at_limit(self) -> bool:
        """Whether the image is as fine as can be told: the resolution is :attr:`resolution_px` or better."""
        return not bool((self.smoothed < THRESHOLD).any())


def two_images(first: ArrayLike, second: ArrayLike) -> RingCorrelation:
    """Correlate two images of one field that were taken one after the other, with noise of their own ([1]_).

    Parameters
    ----------
    first, second : array-like of shape (Y, X)
        Real, finite; square pixels. Means are taken off, and a Hann window avoids what the edges would add.

    Raises
    ------
    ImageError
        Other shapes, a side below 32 px, pixels that are no numbers, or a constant image.

    Examples
    --------
    >>> ramp = np.random.default_rng(0).normal(size=(64, 64))
    >>> two_images(ramp, ramp).is_at_limit
    True
    """
    planes = _plane(first), _plane(second)
    if planes[0].shape != planes[1].shape:
        raise ImageError(f"the images have shapes {planes[0].shape} and {planes[1].shape}; expected the same field")
    frequencies, correlation = _rings(*planes, (0.0, 0.0))
    return RingCorrelation(frequencies, correlation, 0.5)


def one_image(image: ArrayLike) -> RingCorrelation:
    """Correlate the halves of a single image ([3]_).

    Parameters
    ----------
    image : array-like of shape (Y, X)
        Real, finite; square pixels; sides of 64 px or more.

    Raises
    ------
    ImageError
        As for :func:`two_images`.

    Notes
    -----
    Every second pixel of every second row makes one of four images; those on one diagonal of each 2×2 block are
    compared, then those on the other, and the two curves are averaged, as in [3]_. The two of a pair lie one pixel
    diagonally from each other, which lowers their correlation at high frequencies; [3]_ corrects the resolution by a
    curve that was measured on images. Here the shift is undone in the Fourier transform, which is exact up to the
    limit of the four images, 0.25 cycles per pixel. Finer structure folds back and cannot be told.

    The noise of neighbouring pixels must be independent. In an image that was filtered, denoised, enlarged or
    compressed it is not: then the halves agree on the noise too, and the number says how smooth the image is, not how
    much of the specimen it shows.
    """
    plane = _plane(image, 2 * MIN_SIDE_PX)
    even = plane[: plane.shape[0] // 2 * 2, : plane.shape[1] // 2 * 2]
    frequencies, main = _rings(even[::2, ::2], even[1::2, 1::2], (0.5, 0.5))
    _, other = _rings(even[::2, 1::2], even[1::2, ::2], (0.5, -0.5))
    return RingCorrelation(frequencies / 2, (main + other) / 2, 0.25)


def _plane(image: ArrayLike, least: int = MIN_SIDE_PX) -> FloatArray:
    plane = np.asarray(image, np.float64)
    if plane.ndim != 2 or min(plane.shape) < least:
        raise ImageError(
            f"an image of shape {plane.shape} is too small for rings; expected a plane of {least} px or more"
        )
    if not np.isfinite(plane).all():
        raise ImageError("the image contains NaN or infinite values; fill them first")
    if plane.min() == plane.max():
        raise ImageError("the image is constant: there is nothing to resolve; choose another one")
    return plane


def _rings(first: FloatArray, second: FloatArray, shift: tuple[float, float]) -> tuple[FloatArray, FloatArray]:
    """Frequencies in cycles per pixel, and correlation; ``second`` shows what lies ``shift`` (y, x) further."""
    height, width = first.shape
    window = np.outer(np.hanning(height), np.hanning(width))
    a, b = (np.fft.rfft2((plane - plane.mean()) * window) for plane in (first, second))
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    b = b * np.exp(-2j * np.pi * (fy * shift[0] + fx * shift[1]))
    n = min(height, width)
    ring = np.rint(np.hypot(fy, fx) * n).astype(np.intp).ravel()
    # Half of the transform is stored: what is not on its edge stands for two.
    weight = np.full(a.shape, 2.0)
    weight[:, 0] = 1.0
    if width % 2 == 0:
        weight[:, -1] = 1.0

    def total(values: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(ring, (values * weight).ravel())[_FIRST_RING : n // 2 + 1], np.float64)

    power = np.sqrt(total(np.abs(a) ** 2) * total(np.abs(b) ** 2))
    shared = total((a * b.conj()).real)
    correlation = np.divide(shared, power, out=np.zeros_like(power), where=power > 0)
    return np.arange(_FIRST_RING, n // 2 + 1) / n, correlation
