"""Images made poor on purpose, with the settings that were published for AEP + AWEL.

References
----------
.. [1] Kato & Hotta, Sci. Rep., 2024 (AEP + AWEL): pseudo low quality, on grey values of 0…255.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError

__all__ = ["AS_ACQUIRED", "BLUR_KERNEL_PX", "CONTRAST_SHIFT", "DEGRADATIONS", "NOISE_SIGMA", "blurred", "degraded",
           "kernel_sigma"]  # fmt: skip

AS_ACQUIRED = "as acquired"
NOISE_SIGMA = 100.0
"""Standard deviation of the noise, in grey values of 0…255."""
CONTRAST_SHIFT = -100.0
"""Added to every pixel, in grey values of 0…255; the dark ones are lost."""
BLUR_KERNEL_PX = 5
"""Side of the Gaussian kernel."""

_TOP = 255.0
_TOLERANCE = 1e-3

Grey = NDArray[np.float64]


def kernel_sigma(kernel_px: int) -> float:
    """Standard deviation that OpenCV gives a Gaussian kernel of this side: 0.3·((k − 1)/2 − 1) + 0.8, in pixels.

    Raises
    ------
    ParameterError
        A side that is even or below 1.

    Examples
    --------
    >>> round(kernel_sigma(5), 6)
    1.1
    """
    if kernel_px < 1 or kernel_px % 2 == 0:
        raise ParameterError(f"kernel is {kernel_px} px; expected an odd number of 1 or more")
    return 0.3 * ((kernel_px - 1) * 0.5 - 1) + 0.8


def blurred(image: NDArray[Any], kernel_px: int) -> Grey:
    """Gaussian that is cut off at a kernel of ``kernel_px`` × ``kernel_px``, as OpenCV's with a σ of 0.

    Parameters
    ----------
    image : ndarray of shape (Y, X)
        Mirrored at its edges, the edge itself not repeated.
    kernel_px : int
        Odd; see :func:`kernel_sigma`.
    """
    from scipy.ndimage import gaussian_filter

    sigma, radius = kernel_sigma(kernel_px), kernel_px // 2
    return np.asarray(gaussian_filter(np.asarray(image, np.float64), sigma, mode="mirror", radius=radius), np.float64)


def _noisy(grey: Grey, rng: np.random.Generator) -> Grey:
    return grey + rng.normal(0.0, NOISE_SIGMA, grey.shape)


def _darkened(grey: Grey, rng: np.random.Generator) -> Grey:
    return grey + CONTRAST_SHIFT


def _blurred(grey: Grey, rng: np.random.Generator) -> Grey:
    return blurred(grey, BLUR_KERNEL_PX)


def _unchanged(grey: Grey, rng: np.random.Generator) -> Grey:
    return grey


DEGRADATIONS: Mapping[str, Callable[[Grey, np.random.Generator], Grey]] = {
    AS_ACQUIRED: _unchanged,
    "noise": _noisy,
    "contrast": _darkened,
    "blur": _blurred,
}
"""Name → what it does to grey values of 0…255, before they are clipped."""


def degraded(image: NDArray[Any], name: str, rng: np.random.Generator) -> NDArray[Any]:
    """Degrade a plane as published ([1]_) and clip it to its range.

    Parameters
    ----------
    image : ndarray of shape (Y, X)
        Of uint8, 0…255; or of any float, in [0, 1], which stands for 0…255.
    name : str
        One of :data:`DEGRADATIONS`: "noise" adds N(0, 100²), "contrast" adds −100, "blur" is a Gaussian of kernel 5
        (σ = 1.1 px), "as acquired" changes nothing.
    rng : numpy.random.Generator
        Of the noise.

    Returns
    -------
    ndarray of shape (Y, X)
        A new array: uint8, rounded, for uint8; float32 in [0, 1], not rounded to 256 values, for floats.

    Raises
    ------
    ImageError
        Another type, no plane, values that are outside [0, 1] or no numbers.
    ParameterError
        No degradation of that name.

    Notes
    -----
    The paper calls the contrast a Gaussian noise of mean −100 and no variance, and does not tell whether it clips; what
    leaves 0…255 is cut off here, after each degradation.
    """
    if name not in DEGRADATIONS:
        raise ParameterError(f"there is no degradation called {name!r}; expected one of {', '.join(DEGRADATIONS)}")
    is_8_bit = image.dtype == np.uint8
    grey = _grey_of(image, 1.0 if is_8_bit else _TOP)
    changed = np.clip(DEGRADATIONS[name](grey, rng), 0.0, _TOP)
    return np.rint(changed).astype(np.uint8) if is_8_bit else (changed / _TOP).astype(np.float32)


def _grey_of(image: NDArray[Any], factor: float) -> Grey:
    if image.ndim != 2 or image.size == 0:
        raise ImageError(f"an image of shape {image.shape} cannot be degraded; expected one plane (Y, X)")
    if image.dtype != np.uint8 and not np.issubdtype(image.dtype, np.floating):
        raise ImageError(f"the image is of type {image.dtype}; expected 8 bit, or floats from 0 to 1")
    grey = np.asarray(image, np.float64) * factor
    low, high = float(grey.min()), float(grey.max())
    if not (low >= -_TOLERANCE * _TOP and high <= (1 + _TOLERANCE) * _TOP):
        raise ImageError("the image has values outside 0…1, or none that are numbers; normalise it to 0…1 first")
    return grey
