"""The arithmetic of the classical filters: one window in, its response out.

Every function takes a float32 window of shape (Y, X), treats what lies outside as a repetition
of the edge, returns float32 of the same shape and never writes into its argument. A response
depends on the window within the reach given by :mod:`~napari_cellenhance.core.recipes.classical`
and on nothing else, so that windows of a plane can be filtered one by one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.postprocess import GAUSSIAN_SPAN, gaussian_derivative, laplacian_of_gaussian

__all__ = [
    "DOG_RATIO",
    "bilateral",
    "difference_of_gaussians",
    "gamma_curve",
    "gaussian",
    "hessian_norm",
    "laplacian_of_gaussian",
    "log_curve",
    "median",
    "reach",
    "sobel_magnitude",
    "stretch",
    "vesselness",
]

Window = NDArray[np.float32]

DOG_RATIO = 1.6
"""Wider over narrower σ of the difference of Gaussians, closest to the LoG (Marr & Hildreth 1980)."""
BILATERAL_SPAN = 3.0
BILATERAL_SIGMA_VALUE = 0.1
"""Grey values apart by more than about this share of the range do not mix."""
FRANGI_BETA = 0.5


def reach(sigma: float, span: float = GAUSSIAN_SPAN) -> int:
    """Radius of a Gaussian's kernel, in pixels; that of ``scipy.ndimage``."""
    return int(span * sigma + 0.5)


# --- curves: every pixel by itself ------------------------------------------------------


def stretch(window: Window, low: float, high: float) -> Window:
    """Bring ``low`` to 0 and ``high`` to 1; a range of zero becomes a step."""
    return _clipped((window - np.float32(low)) / np.float32(max(high - low, 1e-6)))


def log_curve(window: Window, gain: float) -> Window:
    """Logarithmic look-up table ln(1 + g·x) / ln(1 + g), for x in [0, 1].

    For ``gain = 255`` the curve ln(1+x)/ln(1+x_max) of an 8-bit image. The limit of no gain is x.
    """
    return _clipped(np.log1p(np.float32(gain) * _clipped(window)) / np.float32(np.log1p(gain)))


def gamma_curve(window: Window, exponent: float) -> Window:
    """Power law x^γ, for x in [0, 1]."""
    return _clipped(_clipped(window) ** np.float32(exponent))


# --- smoothing --------------------------------------------------------------------------


def gaussian(window: Window, sigma: float) -> Window:
    """Gaussian of standard deviation ``sigma``, in pixels."""
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(window, sigma, mode="nearest", truncate=GAUSSIAN_SPAN), np.float32)


def median(window: Window, radius: int) -> Window:
    """Median of a square of side 2·``radius`` + 1, in pixels."""
    from scipy.ndimage import median_filter

    return np.asarray(median_filter(window, size=2 * radius + 1, mode="nearest"), np.float32)


def bilateral(window: Window, sigma: float) -> Window:
    """Bilateral filter: a Gaussian that does not mix grey values across edges.

    Parameters
    ----------
    window : ndarray of shape (Y, X)
        Values in about [0, 1].
    sigma : float
        Standard deviation in space, in pixels; that of grey values is 0.1.

    Notes
    -----
    Tomasi & Manduchi, ICCV 1998, eqs. 3-5, in the exact form. Each pair of pixels is visited once,
    its weight serving both.
    """
    radius = reach(sigma, BILATERAL_SPAN)
    height, width = window.shape
    total = np.ones_like(window)
    change = np.zeros_like(window)
    padded = np.pad(window, radius, mode="edge")
    for dy, dx in _disc_offsets(radius):
        difference = padded[radius + dy : radius + dy + height, radius + dx : radius + dx + width] - window
        space = np.float32(-(dy * dy + dx * dx) / (2.0 * sigma * sigma))
        weight = np.exp(space - difference * difference * np.float32(0.5 / BILATERAL_SIGMA_VALUE**2))
        total += weight
        change += weight * difference
    return window + change / total


def _disc_offsets(radius: int) -> list[tuple[int, int]]:
    steps = range(-radius, radius + 1)
    return [(dy, dx) for dy in steps for dx in steps if 0 < dy * dy + dx * dx <= radius * radius]


# --- blobs, edges, ridges ---------------------------------------------------------------


def difference_of_gaussians(window: Window, sigma: float) -> Window:
    """G_σ − G_1.6σ: bright spots become positive; as ``skimage.filters.difference_of_gaussians``."""
    return gaussian(window, sigma) - gaussian(window, DOG_RATIO * sigma)


def sobel_magnitude(window: Window, sigma: float) -> Window:
    """Length of the Sobel gradient of the smoothed window."""
    from scipy.ndimage import sobel

    smooth = gaussian(window, sigma)
    slope_y, slope_x = (sobel(smooth, axis=axis, mode="nearest") for axis in (0, 1))
    return np.asarray(np.hypot(slope_y, slope_x), np.float32)


def hessian_norm(window: Window, sigma: float) -> Window:
    """Frobenius norm of the scale-normalised Hessian, S of Frangi et al. eq. 12."""
    small, large = _hessian_eigenvalues(window, sigma)
    return np.hypot(small, large)


def vesselness(window: Window, sigma: float, norm_scale: float) -> Window:
    """Vesselness of bright ridges at one scale.

    Parameters
    ----------
    window : ndarray of shape (Y, X)
    sigma : float
        Half the width of the ridges, about; in pixels.
    norm_scale : float
        c of the paper: half the largest Hessian norm of the whole image.

    Notes
    -----
    Frangi et al., MICCAI 1998, eq. 15 with β = 0.5.
    """
    small, large = _hessian_eigenvalues(window, sigma)
    norm = np.hypot(small, large)
    safe = np.where(large < 0, large, np.float32(-1))
    blobness = small / safe
    with np.errstate(under="ignore"):
        value = np.exp(blobness**2 * np.float32(-0.5 / FRANGI_BETA**2)) * -np.expm1(
            norm**2 * np.float32(-0.5 / max(norm_scale, 1e-12) ** 2)
        )
    return np.where(large < 0, value, np.float32(0)).astype(np.float32)


def _hessian_eigenvalues(window: Window, sigma: float) -> tuple[Window, Window]:
    """Eigenvalues of σ²·Hessian, the one of smaller magnitude first."""
    scale = np.float32(sigma * sigma)
    yy, xx, yx = (scale * gaussian_derivative(window, sigma, order) for order in ((2, 0), (0, 2), (1, 1)))
    half_trace, distance = (yy + xx) / 2, np.hypot((yy - xx) / 2, yx)
    low, high = half_trace - distance, half_trace + distance
    is_low_smaller = np.abs(low) < np.abs(high)
    return np.where(is_low_smaller, low, high), np.where(is_low_smaller, high, low)


def _clipped(window: Window) -> Window:
    return np.clip(window, np.float32(0), np.float32(1)).astype(np.float32, copy=False)
