"""Noise of a camera at a stated number of photons.

References
----------
.. [1] Foi et al., IEEE Trans. Image Process. 17, 2008 (Poisson-Gaussian noise).
.. [2] Immerkær, Comput. Vis. Image Underst. 64, 1996 (estimating the noise of an image).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError

__all__ = ["NO_NOISE", "CameraNoise", "NoiseRange", "estimate_sigma", "gaussian", "poisson_gaussian"]


def poisson_gaussian(
    image: NDArray[np.floating], photons: float, read_sigma: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Shot noise and read noise ([1]_): Poisson(photons · x) / photons + N(0, σ²).

    Parameters
    ----------
    image : ndarray of any shape
        Not negative; a value of 1 stands for ``photons`` photons.
    photons : float
        More than 0; the fewer, the noisier.
    read_sigma : float
        Standard deviation σ of the read noise, 0 or more, in the units of the image.
    rng : Generator

    Returns
    -------
    ndarray of float32, same shape
        Not clipped: around 0 it is negative half of the time.

    Raises
    ------
    ImageError
        Negative or non-finite pixels.
    ParameterError
        Noise settings out of their range.
    """
    if not (np.isfinite(photons) and photons > 0 and np.isfinite(read_sigma) and read_sigma >= 0):
        raise ParameterError(
            f"noise of {photons} photons and a read noise of {read_sigma}; expected more than 0 photons, 0 or more"
        )
    x = np.asarray(image, np.float64)
    if not np.isfinite(x).all() or x.min(initial=0.0) < 0:
        raise ImageError("shot noise needs finite values of 0 or more; normalise the image first")
    noisy = rng.poisson(x * photons) / photons + rng.normal(0.0, 1.0, x.shape) * read_sigma
    return noisy.astype(np.float32)


def gaussian(image: NDArray[np.generic], sigma: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Add Gaussian noise of a standard deviation σ in grey values, without clipping (the experiments of VoidSeg).

    Raises
    ------
    ParameterError
        σ negative or no number.
    """
    if not (np.isfinite(sigma) and sigma >= 0):
        raise ParameterError(f"the noise has a standard deviation of {sigma}; expected 0 or more grey values")
    return (np.asarray(image, np.float64) + rng.normal(0.0, 1.0, np.shape(image)) * sigma).astype(np.float32)


def estimate_sigma(plane: NDArray[np.generic]) -> float:
    """Standard deviation of the white noise of a plane of shape (Y, X), 3 px a side or more ([2]_).

    Notes
    -----
    What two crossed second differences leave of an image is mostly noise; σ = √(π/2) · mean |x * K| / 6. Fine texture
    counts as noise.

    Raises
    ------
    ImageError
        A plane that is too small.
    """
    from scipy.ndimage import convolve

    image = np.asarray(plane, np.float64)
    if image.ndim != 2 or min(image.shape) < 3:
        raise ImageError(
            f"the noise of an image of shape {image.shape} cannot be told; expected a plane of 3 px or more"
        )
    kernel = np.outer([1.0, -2.0, 1.0], [1.0, -2.0, 1.0])
    inner = convolve(image, kernel)[1:-1, 1:-1]
    return float(np.sqrt(np.pi / 2) * np.abs(inner).mean() / 6.0)


@dataclass(frozen=True, slots=True)
class CameraNoise:
    """Noise of one exposure: shot noise at ``photons`` for a value of 1 (infinite: none), and read noise."""

    photons: float = float("inf")
    read_sigma: float = 0.0

    def add(self, image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        """A noisy copy; what lies below 0 counts as dark. Without any noise the image itself."""
        if not np.isfinite(self.photons):
            return gaussian(image, self.read_sigma, rng) if self.read_sigma else image
        return poisson_gaussian(np.maximum(image, 0.0), self.photons, self.read_sigma, rng)

    def std_with(self, mean: NDArray[np.float32], std: NDArray[np.float32]) -> NDArray[np.float32]:
        """Standard deviation of an image of this mean and standard deviation once the noise is added."""
        shot = np.maximum(mean, 0.0) / self.photons
        return np.sqrt(std**2 + shot + self.read_sigma**2).astype(np.float32)


NO_NOISE = CameraNoise()


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseRange:
    """Noise drawn anew for every patch.

    Parameters
    ----------
    photons : (float, float)
        Range of the photons that a value of 1 stands for, drawn on a logarithmic scale.
    read_sigma : (float, float)
        Range of the read noise, drawn on a logarithmic scale.
    share : float
        Of the patches that get noise at all; half of them shot and read noise, a quarter each only one of both.
    """

    photons: tuple[float, float] = (2.0, 200.0)
    read_sigma: tuple[float, float] = (0.01, 0.3)
    share: float = 1.0

    def __post_init__(self) -> None:
        for low, high in (self.photons, self.read_sigma):
            if not 0 < low <= high < float("inf"):
                raise ParameterError(f"the noise ranges from {low} to {high}; expected 0 < low ≤ high")
        if not 0 <= self.share <= 1:
            raise ParameterError(f"a share of {self.share} of the patches gets noise; expected 0 to 1")

    def draw(self, rng: np.random.Generator) -> CameraNoise:
        """Noise of one patch."""
        kind, is_noisy = rng.random(), rng.random() < self.share
        photons = float(np.exp(rng.uniform(*np.log(self.photons))))
        sigma = float(np.exp(rng.uniform(*np.log(self.read_sigma))))
        if not is_noisy:
            return NO_NOISE
        if kind < 0.25:
            return CameraNoise(photons, 0.0)
        return CameraNoise(float("inf") if kind < 0.5 else photons, sigma)
