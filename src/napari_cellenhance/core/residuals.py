"""Does what a filter took away look like noise? A test of the residual, image − result, for structure.

References
----------
.. [1] Worsley et al., J. Cereb. Blood Flow Metab. 12, 1992: the largest value of a smoothed map decides, so that a
   false alarm is counted once for each image, not for each pixel.
.. [2] Nichols & Holmes, Hum. Brain Mapp. 15, 2002: its null from permutations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.affine_fit import PairMoments
from napari_cellenhance.core.doubt import GUARD_SHARE, contrast_of
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.noise_model import NoiseModel, estimate_noise

__all__ = ["FALSE_ALARMS", "Fit", "Region", "ResidualCheck", "check_residual", "fit_result"]

FloatArray = NDArray[np.float64]
Fit = Literal["affine", "monotone"]

FALSE_ALARMS = 0.01
"""Chance that pure noise raises a flag somewhere in an image."""
_SCALE_PX = 3.0
"""σ of the window over which residuals are averaged: objects of 6 px and more."""
_N_PERMUTATIONS = 30
_N_STRATA = 8
_N_FIT_BINS = 64
_MIN_REGION_PX = 12
_TEXTURE_RATIO = 2.0
"""Variance over that of the noise model from which a texture is flagged: the model itself may be wrong by a third."""
_EULER = 0.5772156649015329


@dataclass(frozen=True, slots=True)
class Region:
    """A connected place that was flagged: its centre (y, x), area in px, and what it is."""

    y: float
    x: float
    area_px: int
    kind: Literal["removed", "added", "texture"]


@dataclass(frozen=True, slots=True)
class ResidualCheck:
    """What a residual says.

    Parameters
    ----------
    residual : ndarray of float32, shape (Y, X)
        Image − fitted result, in grey values of the image.
    flags : ndarray of uint8, shape (Y, X)
        1 where the image holds more light than the result (removed), 2 less (added), 3 where only the fine texture
        differs; else 0.
    p : float
        Chance that noise alone would give a local mean as large as the largest one found.
    regions : tuple of Region
        By area, the largest first.
    variance_ratio : float
        Median over the image of the local variance of the residual over that of the noise; about 1 for a good denoiser.
    autocorrelation : float
        Mean correlation of neighbours (1 px, rows and columns) of the residual; about 0 for one.
    correlation : float
        Of the residual with the fine structure of the result (result − its smoothed self).
    noise : NoiseModel
        Of the image.
    """

    residual: NDArray[np.float32]
    flags: NDArray[np.uint8]
    p: float
    regions: tuple[Region, ...]
    variance_ratio: float
    autocorrelation: float
    correlation: float
    noise: NoiseModel

    @property
    def is_flagged(self) -> bool:
        """Whether any place was flagged."""
        return bool(self.regions)

    def count(self, kind: str) -> int:
        """Number of regions of one kind."""
        return sum(region.kind == kind for region in self.regions)


def fit_result(image: FloatArray, result: FloatArray, fit: Fit) -> FloatArray:
    """Bring a result to the grey values of its image: by a straight line, or by a rising curve of 64 steps."""
    if fit == "affine":
        moments = PairMoments()
        moments.add(result, image)
        return moments.slope * result + moments.offset
    if fit != "monotone":
        raise ParameterError(f"the fit is {fit!r}; expected affine or monotone")
    from scipy.optimize import isotonic_regression

    edges = np.unique(np.quantile(result, np.linspace(0, 1, _N_FIT_BINS + 1)))
    if len(edges) < 3:
        return np.full(image.shape, float(image.mean()))
    where = np.clip(np.searchsorted(edges, result.ravel(), side="right") - 1, 0, len(edges) - 2)
    n = np.bincount(where, minlength=len(edges) - 1).astype(np.float64)
    filled = n > 0
    x = np.bincount(where, result.ravel(), len(edges) - 1)[filled] / n[filled]
    y = np.bincount(where, image.ravel(), len(edges) - 1)[filled] / n[filled]
    rising = isotonic_regression(y, weights=n[filled]).x
    return np.asarray(np.interp(result, x, rising), np.float64)


def check_residual(
    image: NDArray[np.generic],
    result: NDArray[np.generic],
    *,
    fit: Fit = "affine",
    share: float = GUARD_SHARE,
    noise: NoiseModel | None = None,
    seed: int = 0,
) -> ResidualCheck:
    """Look for structure in image − result.

    Parameters
    ----------
    image, result : ndarray of shape (Y, X)
        Finite, sides of 32 px or more.
    fit : "affine" or "monotone"
        Of the result to the image; monotone for filters that change contrast.
    share : float
        Share of the contrast of the image (percentiles 2 to 99.8) that a difference must exceed to be flagged.
    noise : NoiseModel, optional
        Of the image; default: estimated from it.
    seed : int
        Of the permutations.

    Raises
    ------
    ImageError
        Shapes that differ, or a plane that is too small.

    Notes
    -----
    The residual is divided by the standard deviation of the noise at each fitted grey value, and averaged over a
    Gaussian window of σ 3 px. Null: residuals of alike brightness could stand anywhere. 30 permutations of them within
    8 ranges of brightness give the largest absolute average that noise reaches ([1]_, [2]_), as a Gumbel distribution
    fitted by its moments; flagged are places beyond its 99 % point *and* beyond ``share`` of the contrast. So noise
    alone raises a flag in at most one image of a hundred, where it is independent from pixel to pixel.

    Texture: the local variance of the residual exceeds twice that of the noise model, beyond what 99.99 % of χ² allow,
    and its excess, as a standard deviation, beyond ``share`` of the contrast.
    """
    from scipy.ndimage import gaussian_filter

    x, y = np.asarray(result, np.float64), np.asarray(image, np.float64)
    if x.shape != y.shape:
        raise ImageError(f"the image has the shape {y.shape} and its result {x.shape}; expected the same")
    noise = noise or estimate_noise(np.asarray(image))
    contrast = float(contrast_of(y.astype(np.float32)).max())
    fitted = fit_result(y, x, fit)
    residual = y - fitted
    sigma = np.sqrt(noise.variance(fitted))
    z = residual / sigma
    mean = gaussian_filter(z, _SCALE_PX)
    limit, p = _largest_by_chance(z, fitted, mean, np.random.default_rng(seed))
    shift = gaussian_filter(residual, _SCALE_PX)
    is_shifted = (np.abs(mean) > limit) & (np.abs(shift) > share * contrast)
    ratio, is_textured = _texture(residual, shift, sigma, share * contrast)
    flags = np.where(is_shifted, np.where(shift > 0, 1, 2), np.where(is_textured, 3, 0)).astype(np.uint8)
    flags, regions = _regions(flags)
    fine = fitted - gaussian_filter(fitted, _SCALE_PX)
    return ResidualCheck(
        residual=residual.astype(np.float32), flags=flags, p=p, regions=regions,
        variance_ratio=float(np.median(ratio)), autocorrelation=_neighbours(z),
        correlation=_correlation(residual, fine), noise=noise,
    )  # fmt: skip


def _largest_by_chance(
    z: FloatArray, brightness: FloatArray, mean: FloatArray, rng: np.random.Generator
) -> tuple[float, float]:
    """Largest local mean that noise reaches in all but 1 % of images, and the chance of the one found."""
    from scipy.ndimage import gaussian_filter

    steps = np.quantile(brightness, np.linspace(0, 1, _N_STRATA + 1)[1:-1])
    strata = np.searchsorted(steps, brightness.ravel())
    members = [np.flatnonzero(strata == number) for number in range(_N_STRATA)]
    largest = []
    # What is far outside of the noise is what is looked for; it shall not widen the null.
    values = np.clip(z.ravel() - z.mean(), -6.0, 6.0)
    for _ in range(_N_PERMUTATIONS):
        mixed = np.empty_like(values)
        for each in members:
            mixed[each] = values[rng.permutation(each)]
        largest.append(np.abs(gaussian_filter(mixed.reshape(z.shape), _SCALE_PX)).max())
    beta = max(float(np.std(largest, ddof=1)) * np.sqrt(6.0) / np.pi, 1e-12)
    mode = float(np.mean(largest)) - _EULER * beta
    limit = mode - beta * np.log(-np.log1p(-FALSE_ALARMS))
    p = -np.expm1(-np.exp(-(float(np.abs(mean).max()) - mode) / beta))
    return float(limit), float(p)


def _texture(
    residual: FloatArray, shift: FloatArray, sigma: FloatArray, least: float
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Local variance over that of the noise, and where it is too large."""
    from scipy.ndimage import gaussian_filter

    variance = gaussian_filter((residual - shift) ** 2, _SCALE_PX)
    expected = gaussian_filter(sigma**2, _SCALE_PX)
    ratio = variance / expected
    n_seen = 4 * np.pi * _SCALE_PX**2
    by_chance = 1 + 3.7 * np.sqrt(2 / n_seen)
    is_large = np.sqrt(np.maximum(variance - expected, 0.0)) > least
    return ratio, (ratio > max(_TEXTURE_RATIO, by_chance)) & is_large


def _regions(flags: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], tuple[Region, ...]]:
    """Connected places of 12 px and more, and the flags without the smaller ones."""
    from scipy.ndimage import center_of_mass, label

    kept = np.zeros_like(flags)
    found: list[Region] = []
    kinds: tuple[Literal["removed", "added", "texture"], ...] = ("removed", "added", "texture")
    for value, kind in enumerate(kinds, start=1):
        labels, n = label(flags == value)
        areas = np.bincount(labels.ravel(), minlength=n + 1)
        large = [number for number in range(1, n + 1) if areas[number] >= _MIN_REGION_PX]
        for number, (cy, cx) in zip(large, center_of_mass(labels > 0, labels, large), strict=True):
            found.append(Region(float(cy), float(cx), int(areas[number]), kind))
        kept[np.isin(labels, large)] = value
    return kept, tuple(sorted(found, key=lambda region: -region.area_px))


def _neighbours(z: FloatArray) -> float:
    centred = np.clip(z - z.mean(), -6, 6)
    power = float((centred**2).mean()) or 1.0
    along = (centred[:, 1:] * centred[:, :-1]).mean(), (centred[1:] * centred[:-1]).mean()
    return float(np.mean(along)) / power


def _correlation(a: FloatArray, b: FloatArray) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum() / scale) if scale > 0 else 0.0
