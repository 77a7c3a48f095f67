"""How noisy each grey value of one image is, estimated from the image itself.

References
----------
.. [1] Foi et al., IEEE Trans. Image Process. 17, 2008: variance = gain · signal + floor for a photon-counting camera.
.. [2] Immerkær, Comput. Vis. Image Underst. 64, 1996: two crossed second differences leave mostly noise of an image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError

__all__ = ["MIN_SIDE_PX", "NoiseModel", "estimate_noise"]

MIN_SIDE_PX = 32
"""Shortest side of a plane whose noise is estimated by grey value."""
_N_BINS = 16
_MIN_BIN_PX = 200
_FLAT_SHARE = 0.5
_NORMAL_MEDIAN = 0.6744897501960817
"""Median of |x| for a normal x of σ 1."""
_ROUNDING_VAR = 1 / 12


@dataclass(frozen=True, slots=True)
class NoiseModel:
    """Variance of the noise as a straight line of the signal ([1]_).

    Parameters
    ----------
    gain : float
        Grey values per photon, 0 or more; 0: noise that does not depend on the signal.
    floor : float
        Variance at ``dark``, in grey values²; more than 0.
    dark, bright : float
        Signals between which it was measured; beyond them the variance stays.
    """

    gain: float
    floor: float
    dark: float
    bright: float

    def variance(self, signal: NDArray[np.floating]) -> NDArray[np.float64]:
        """Variance of the noise at each signal, in grey values²."""
        inside = np.clip(np.asarray(signal, np.float64), self.dark, self.bright)
        return np.asarray(self.gain * (inside - self.dark) + self.floor, np.float64)

    @property
    def sigma(self) -> float:
        """Standard deviation in the dark."""
        return float(np.sqrt(self.floor))


def estimate_noise(plane: NDArray[np.generic]) -> NoiseModel:
    """Fit the noise of a plane of shape (Y, X), finite, sides of 32 px or more.

    Notes
    -----
    Crossed second differences ([2]_) divided by 6 have the variance of the noise wherever the image is smooth. For each
    of 16 ranges of the local mean, their median size over the flattest half of the pixels gives one variance, and a
    line with slope and intercept of 0 or more is fitted to them. The noise must be independent from pixel to pixel;
    fine texture counts as noise, and of correlated noise too little is seen.

    Raises
    ------
    ImageError
        Another shape, or a plane that is too small.
    """
    from scipy.ndimage import convolve, gaussian_filter, gaussian_gradient_magnitude

    image = np.asarray(plane, np.float64)
    if image.ndim != 2 or min(image.shape) < MIN_SIDE_PX:
        raise ImageError(
            f"the noise of an image of shape {image.shape} cannot be told by grey value; expected a plane of "
            f"{MIN_SIDE_PX} px or more"
        )
    size = np.abs(convolve(image, np.outer([1.0, -2.0, 1.0], [1.0, -2.0, 1.0]), mode="reflect")) / 6.0
    signal = gaussian_filter(image, 2.0)
    edge = gaussian_gradient_magnitude(image, 2.0)
    least = _ROUNDING_VAR if np.asarray(plane).dtype.kind in "ui" else _least_variance(image)
    low, high = (float(v) for v in np.percentile(signal, [0.5, 99.5]))
    means, variances, weights = _by_signal(signal, size, edge, np.linspace(low, high, _N_BINS + 1))
    if not len(means):
        return NoiseModel(0.0, max(least, float(np.median(size) / _NORMAL_MEDIAN) ** 2), low, high)
    return _line(means, variances, weights, least, low, high)


def _least_variance(image: NDArray[np.float64]) -> float:
    """Below it an image of real numbers counts as free of noise: rounding of its range."""
    return max(float(np.ptp(image)) * 1e-5, 1e-30) ** 2


def _by_signal(
    signal: NDArray[np.float64], size: NDArray[np.float64], edge: NDArray[np.float64], edges: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean signal, variance of the noise and number of pixels of each range of signals with enough pixels."""
    where = np.digitize(signal.ravel(), edges)
    found = []
    for number in range(1, len(edges)):
        chosen = np.flatnonzero(where == number)
        if chosen.size < _MIN_BIN_PX:
            continue
        slope = edge.ravel()[chosen]
        flat = chosen[slope <= np.quantile(slope, _FLAT_SHARE)]
        sigma = float(np.median(size.ravel()[flat])) / _NORMAL_MEDIAN
        found.append((float(signal.ravel()[flat].mean()), sigma**2, float(flat.size)))
    means, variances, weights = np.asarray(found, np.float64).reshape(-1, 3).T
    return means, variances, weights


def _line(
    means: NDArray[np.float64], variances: NDArray[np.float64], weights: NDArray[np.float64],
    least: float, low: float, high: float,
) -> NoiseModel:  # fmt: skip
    from scipy.optimize import nnls

    variances = np.maximum(variances, least)
    # The error of a variance grows with it: relative residuals, weighted by the root of the number of pixels.
    scale = np.sqrt(weights) / variances
    design = np.stack([means - low, np.ones_like(means)], axis=1) * scale[:, None]
    (gain, floor), _ = nnls(design, variances * scale)
    return NoiseModel(float(gain), max(float(floor), least), low, high)
