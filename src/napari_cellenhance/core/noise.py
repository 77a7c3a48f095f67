"""Noise of a camera at a stated number of photons.

References
----------
.. [1] Foi et al., IEEE Trans. Image Process. 17, 2008 (Poisson-Gaussian noise).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError

__all__ = ["poisson_gaussian"]


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
