"""Random changes of training crops: contrast, noise, haze, geometry.

References
----------
.. [1] Lim et al., "NU-Net", 2023, Sec. 3: gamma, logarithmic and sigmoid contrast in random order.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["augment_contrast", "degrade", "dihedral", "dim"]

Image = NDArray[np.float32]
Scalar = TypeVar("Scalar", bound=np.generic)

MIN_RANGE = 16.0 / 255.0
N_REDRAWS = 10


def dihedral(image: NDArray[Scalar], index: int) -> NDArray[Scalar]:
    """One of the eight symmetries of the square: ``index % 4`` quarter turns, then a flip for ``index >= 4``."""
    turned = np.rot90(image, index % 4)
    return turned[:, ::-1] if index >= 4 else turned


def augment_contrast(image: Image, rng: np.random.Generator) -> Image:
    """Gamma, logarithmic and sigmoid contrast in random order ([1]_).

    Parameters
    ----------
    image : ndarray of shape (Y, X), float32 in [0, 1]

    Returns
    -------
    ndarray of shape (Y, X), float32 in [0, 1]
        With a range of at least 16/255; otherwise redrawn up to 10 times, and after that the input itself.

    Notes
    -----
    Gamma exponent U(0.5, 2), log gain U(0.8, 1), sigmoid gain U(3, 8) and cutoff U(0.25, 0.75).
    """
    for _ in range(N_REDRAWS):
        out = image
        for kind in rng.permutation(3):
            if kind == 0:
                out = out ** rng.uniform(0.5, 2.0)
            elif kind == 1:
                out = rng.uniform(0.8, 1.0) * np.log2(1.0 + out)
            else:
                out = 1.0 / (1.0 + np.exp(rng.uniform(3.0, 8.0) * (rng.uniform(0.25, 0.75) - out)))
        if float(out.max() - out.min()) >= MIN_RANGE:
            return np.asarray(out, dtype=np.float32)
    return image


def degrade(image: Image, rng: np.random.Generator) -> Image:
    """Haze, blur, shot noise and read noise, each with some probability: a poor acquisition of ``image``.

    Parameters
    ----------
    image : ndarray of shape (Y, X), float32 in [0, 1]

    Returns
    -------
    ndarray of shape (Y, X), float32
        In [0, 1] before the read noise, then unclipped.

    Notes
    -----
    Haze: smooth random field of amplitude U(0, 0.5) with p 0.4. Gaussian blur σ U(0.3, 1.5) px with p 0.3.
    Poisson noise at a peak of 10^U(0, 2.5) photons with p 0.6. Gaussian noise of σ 10^U(-2, -0.35) with p 0.6.
    """
    from scipy.ndimage import gaussian_filter, zoom

    out = image.astype(np.float64)
    if rng.random() < 0.4:
        coarse = rng.random((4, 4))
        factors = (image.shape[0] / 4, image.shape[1] / 4)
        field = zoom(coarse, factors, order=3, mode="nearest", grid_mode=True)
        out = np.clip(out + rng.uniform(0.0, 0.5) * np.clip(field, 0, 1), 0, None)
        out /= max(out.max(), 1e-6)
    if rng.random() < 0.3:
        out = gaussian_filter(out, rng.uniform(0.3, 1.5))
    if rng.random() < 0.6:
        photons = 10 ** rng.uniform(0.0, 2.5)
        out = rng.poisson(out * photons) / photons
    if rng.random() < 0.6:
        out = out + rng.normal(0.0, 10 ** rng.uniform(-2.0, -0.35), out.shape)
    return out.astype(np.float32)


def dim(image: Image, rng: np.random.Generator) -> Image:
    """Show a crop at a fraction of its range: a weak part of an image whose strong parts lie elsewhere.

    Parameters
    ----------
    image : ndarray of shape (Y, X), float32, about [0, 1]

    Returns
    -------
    ndarray of shape (Y, X), float32
        Gain log-uniform in 0.15…1, on a pedestal uniform in 0…min(0.4, 1 - gain).
    """
    gain = float(np.exp(rng.uniform(np.log(0.15), 0.0)))
    out: Image = (rng.uniform(0.0, min(0.4, 1.0 - gain)) + gain * image).astype(np.float32)
    return out
