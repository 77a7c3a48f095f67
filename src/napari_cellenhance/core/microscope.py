"""A microscope on paper: clean images become what a poorer exposure of the same sample would have looked like.

The order is fixed: clean target, blur by the point spread function, shot noise, read noise, intensity factor,
saturation. Every value that is drawn is returned, and the same generator draws the same values.

References
----------
.. [1] Born & Wolf, Principles of Optics, 7th ed., Sec. 8.8: intensity near the focus of a lens.
.. [2] Zhang, Zerubia & Olivo-Marin, Appl. Opt. 46, 2007: Gaussian approximations of the widefield PSF.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.noise import CameraNoise
from napari_cellenhance.core.normalize import fit_normalizer

__all__ = [
    "LEVELS",
    "Exposure",
    "Level",
    "Optics",
    "Preparation",
    "blurred_by",
    "clean_target",
    "expose",
    "exposures",
    "levels_from",
    "measured_psf",
    "point_spread",
]  # fmt: skip

Image = NDArray[np.float32]
PsfKind = Literal["gaussian", "airy", "none"]

_AIRY_RADII = 4.0
"""Half-width of a sampled Airy pattern, in radii of its first dark ring."""
_AXIAL_ZEROS = 2.0
"""Half-depth of a sampled pattern, in distances of its first axial zero."""
_GAUSSIAN_SIGMAS = 4.0
_MAX_SIDE_PX = 257


@dataclass(frozen=True, slots=True, kw_only=True)
class Optics:
    """The objective, and how the camera samples its image.

    Parameters
    ----------
    kind : "gaussian", "airy" or "none"
        Shape of the point spread function; "none" does not blur.
    na : float
        Numerical aperture.
    wavelength_um : float
        Of the emitted light, in µm.
    pixel_um : float
        Side of a pixel in the sample, in µm; 0 leaves it to the image.
    step_um : float
        Distance of planes, in µm; used for volumes only; 0 leaves it to the image.
    refractive_index : float
        Of the immersion; used for volumes only.
    """

    kind: PsfKind = "gaussian"
    na: float = 1.2
    wavelength_um: float = 0.543
    pixel_um: float = 0.0
    step_um: float = 0.0
    refractive_index: float = 1.33

    def __post_init__(self) -> None:
        if self.kind not in get_args(PsfKind):
            raise ParameterError(f"the PSF is {self.kind!r}; expected 'gaussian', 'airy' or 'none'")
        if not (self.na > 0 and self.wavelength_um > 0 and self.refractive_index > 0):
            raise ParameterError(
                f"NA {self.na}, wavelength {self.wavelength_um} µm, refractive index {self.refractive_index}; expected "
                "more than 0 each"
            )
        if not (self.pixel_um >= 0 and self.step_um >= 0):
            raise ParameterError(
                f"pixels of {self.pixel_um} µm, planes {self.step_um} µm apart; expected 0 (as in the image) or more"
            )
        if self.wavelength_um > 20:
            raise ParameterError(f"the wavelength is {self.wavelength_um} µm; expected micrometres, such as 0.52")


def point_spread(optics: Optics, n_dims: Literal[2, 3] = 2) -> NDArray[np.float64]:
    """Point spread function of an objective, sampled at the pixels of the camera.

    Parameters
    ----------
    optics : Optics
        With the size of its pixels, and for volumes the distance of planes.
    n_dims : 2 or 3
        2: in focus.

    Returns
    -------
    ndarray of float64, shape ([Z,] Y, X)
        Odd sides, largest in the middle, sum 1.

    Raises
    ------
    ParameterError
        No size of the pixels, or a pattern wider than 257 px.

    Notes
    -----
    "airy": in focus [2·J₁(v)/v]² with v = 2π·NA·r/λ; out of focus |∫₀¹ J₀(v·ρ)·exp(−i·u·ρ²/2)·ρ dρ|² with
    u = 2π·NA²·z/(λ·n) [1]_. "gaussian": σ = 0.21·λ/NA in the plane, 2√6·n·λ/(2π·NA²) along the axis [2]_.

    Examples
    --------
    >>> float(point_spread(Optics(pixel_um=0.1)).sum().round(12))
    1.0
    """
    if optics.kind == "none":
        return np.ones((1,) * n_dims)
    if not optics.pixel_um or (n_dims == 3 and not optics.step_um):
        what = "pixels" if not optics.pixel_um else "steps between planes"
        raise ParameterError(f"the size of the {what} is not known; state it in micrometres, or choose no blur")
    psf = _gaussian(optics, n_dims) if optics.kind == "gaussian" else _airy(optics, n_dims)
    total: NDArray[np.float64] = psf / psf.sum()
    return total


def _line(reach_um: float, step_um: float) -> NDArray[np.float64]:
    """Distances from the middle, in µm, at least up to the reach."""
    n = int(np.ceil(reach_um / step_um))
    if 2 * n + 1 > _MAX_SIDE_PX:
        raise ParameterError(
            f"the blur reaches over {2 * n + 1} px, more than {_MAX_SIDE_PX}; check wavelength, NA and pixel size, all "
            "lengths in micrometres"
        )
    return np.asarray(np.arange(-n, n + 1) * step_um, np.float64)


def _gaussian(optics: Optics, n_dims: int) -> NDArray[np.float64]:
    sigma = 0.21 * optics.wavelength_um / optics.na
    line = np.exp(-0.5 * (_line(_GAUSSIAN_SIGMAS * sigma, optics.pixel_um) / sigma) ** 2)
    plane: NDArray[np.float64] = line[:, None] * line
    if n_dims == 2:
        return plane
    axial = 2 * np.sqrt(6) * optics.refractive_index * optics.wavelength_um / (2 * np.pi * optics.na**2)
    depth = np.exp(-0.5 * (_line(_GAUSSIAN_SIGMAS * axial, optics.step_um) / axial) ** 2)
    return np.asarray(depth[:, None, None] * plane)


def _airy(optics: Optics, n_dims: int) -> NDArray[np.float64]:
    from scipy.special import j0, j1

    line = _line(_AIRY_RADII * 0.61 * optics.wavelength_um / optics.na, optics.pixel_um)
    v = 2 * np.pi * optics.na / optics.wavelength_um * np.hypot(line[:, None], line)
    if n_dims == 2:
        safe = np.where(v == 0, 1.0, v)
        return np.asarray(np.where(v == 0, 1.0, (2 * j1(safe) / safe) ** 2))
    reach = _AXIAL_ZEROS * 2 * optics.refractive_index * optics.wavelength_um / optics.na**2
    u = 2 * np.pi * optics.na**2 / (optics.wavelength_um * optics.refractive_index) * _line(reach, optics.step_um)
    nodes, weights = np.polynomial.legendre.leggauss(64)
    rho, weights = (nodes + 1) / 2, weights / 2
    radii, where = np.unique(v.round(9), return_inverse=True)
    rings = j0(radii[:, None] * rho) * (weights * rho)
    field = np.exp(-0.5j * u[:, None] * rho**2) @ rings.T
    return np.asarray(np.abs(field)[:, where.reshape(v.shape)] ** 2)


def measured_psf(image: NDArray[Any], n_dims: Literal[2, 3] = 2) -> NDArray[np.float64]:
    """Make an image of a point (a bead) a point spread function.

    Parameters
    ----------
    image : ndarray of shape ([Z,] Y, X)
        The point in the middle. The median of the outermost pixels counts as ground and is subtracted.

    Returns
    -------
    ndarray of float64
        Odd sides (an even one loses its last pixels), sum 1, nowhere negative.

    Raises
    ------
    ImageError
        Other dimensions, nothing brighter than the ground, or values that are no numbers.
    """
    psf = np.asarray(image, np.float64)
    if psf.ndim != n_dims or 0 in psf.shape:
        raise ImageError(f"the image of the point has the shape {psf.shape}; expected {n_dims} dimensions")
    psf = psf[tuple(slice(0, n - (1 - n % 2)) for n in psf.shape)]
    if not np.isfinite(psf).all():
        raise ImageError("the image of the point has values that are no numbers")
    is_edge = np.ones(psf.shape, bool)
    is_edge[tuple(slice(1, -1) for _ in psf.shape)] = False
    if psf.size > 1:
        psf = np.maximum(psf - np.median(psf[is_edge]), 0.0)
    if not psf.sum() > 0:
        raise ImageError(
            "the image of the point has nothing brighter than its edge; crop it with the point in the middle"
        )
    return np.asarray(psf / psf.sum())


def blurred_by(image: NDArray[np.floating[Any]], psf: NDArray[np.float64]) -> Image:
    """Convolve with a point spread function; the image is reflected at its edges.

    Parameters
    ----------
    image : ndarray of shape ([Z,] Y, X)
    psf : ndarray of as many dimensions, odd sides

    Returns
    -------
    ndarray of float32, same shape
    """
    from scipy.signal import fftconvolve

    if psf.ndim != image.ndim or any(n % 2 == 0 for n in psf.shape):
        raise ParameterError(
            f"a point spread function of shape {psf.shape} does not fit an image of shape {image.shape}; expected as "
            "many dimensions, and odd sides"
        )
    if psf.size == 1:
        return np.asarray(image * psf.reshape(-1)[0], np.float32)
    padded = np.pad(np.asarray(image, np.float64), [(n // 2, n // 2) for n in psf.shape], mode="symmetric")
    return np.asarray(fftconvolve(padded, psf, mode="valid"), np.float32)


# --- the clean target -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """How a clean image becomes a target.

    Parameters
    ----------
    lo, hi : float
        Percentiles that become 0 and 1; what lies beyond is cut off.
    radius_px : float
        Of a minimum filter in the plane that removes bright specks of noise; 0 (off), or 0.5 to 4, well below the
        size of the structures, which it makes thinner.
    is_opening : bool
        Follow it by a maximum filter of the same radius, which gives structures their width back.
    """

    lo: float = 0.1
    hi: float = 99.9
    radius_px: float = 0.0
    is_opening: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.lo < self.hi <= 100:
            raise ParameterError(f"percentiles are {self.lo} and {self.hi}; expected 0 ≤ lo < hi ≤ 100")
        if not 0 <= self.radius_px <= 10:
            raise ParameterError(f"the minimum filter has a radius of {self.radius_px} px; expected 0 (off) to 10")


def clean_target(image: NDArray[Any], preparation: Preparation) -> Image:
    """Contrast stretched to [0, 1], then the minimum filter.

    Parameters
    ----------
    image : ndarray of shape ([Z,] Y, X)
        Not modified.

    Raises
    ------
    ImageError
        No contrast.

    Notes
    -----
    The window holds pixels with x² + y² ≤ r² + 1, so that r = 0.5 is a pixel with its four neighbours and r = 1 a
    square of 3×3. In volumes it lies within a plane.
    """
    from scipy.ndimage import maximum_filter, minimum_filter

    normalizer = fit_normalizer("percentile", image, lo=preparation.lo, hi=preparation.hi, clip=True)
    normalizer = fit_normalizer("minmax", image) if normalizer.is_flat else normalizer
    if normalizer.is_flat:
        raise ImageError("the clean image has one single grey value; leave it out")
    target = normalizer.normalize(image)
    if preparation.radius_px > 0:
        window = _window(preparation.radius_px)
        window = window.reshape((1,) * (target.ndim - 2) + window.shape)
        target = minimum_filter(target, footprint=window, mode="reflect")
        if preparation.is_opening:
            target = maximum_filter(target, footprint=window, mode="reflect")
    return np.asarray(target, np.float32)


def _window(radius_px: float) -> NDArray[np.bool_]:
    n = int(np.sqrt(radius_px**2 + 1))
    y, x = np.mgrid[-n : n + 1, -n : n + 1]
    return np.asarray(x**2 + y**2 <= radius_px**2 + 1)


# --- levels and exposures -------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Intervals that the values of one exposure are drawn from.

    Parameters
    ----------
    photons : (float, float)
        That an intensity of 1 stands for, drawn on a logarithmic scale; infinite: no shot noise.
    sigma, amplitude : (float, float)
        Read noise has the standard deviation σ · amplitude.
    gain : (float, float)
        Intensity factor; below 1 the image is under-, above 1 over-exposed.
    saturation : float
        Brightest value that the camera can tell; infinite: any.
    blur : (float, float)
        Standard deviation of a Gaussian that blurs on top of the point spread function, in px: a poorer objective, or
        a sample out of focus; 0: none.
    """

    name: str
    photons: tuple[float, float] = (20.0, 200.0)
    sigma: tuple[float, float] = (0.04, 0.08)
    amplitude: tuple[float, float] = (0.75, 1.0)
    gain: tuple[float, float] = (0.4, 1.0)
    saturation: float = 1.0
    blur: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        for what, (low, high), least in (
            ("photons", self.photons, 1e-9), ("sigma", self.sigma, 0.0), ("amplitude", self.amplitude, 0.0),
            ("gain", self.gain, 1e-9), ("blur", self.blur, 0.0),
        ):  # fmt: skip
            if not least <= low <= high or (np.isinf(high) and (what != "photons" or np.isfinite(low))):
                raise ParameterError(
                    f"{what} of the level {self.name!r} goes from {low} to {high}; expected two numbers in order, "
                    + ("more than 0" if least else "0 or more")
                )
        if not self.saturation > 0:
            raise ParameterError(f"saturation of the level {self.name!r} is {self.saturation}; expected more than 0")


LEVELS = (
    Level(name="mild", sigma=(0.02, 0.04), amplitude=(0.5, 1.0), gain=(0.6, 1.2)),
    Level(name="medium", sigma=(0.04, 0.08), amplitude=(0.75, 1.0), gain=(0.4, 1.0)),
    Level(name="strong", sigma=(0.08, 0.12), amplitude=(0.75, 1.0), gain=(0.2, 0.8)),
)
"""Three sets of shifted intervals; each clean image is exposed once by each. The published ones are not known."""


def levels_from(entries: Sequence[Mapping[str, Any]]) -> tuple[Level, ...]:
    """Levels as they stand in JSON: fields of :class:`Level`, intervals as lists; null for infinite.

    Raises
    ------
    ParameterError
        None, unknown fields, or two of one name.
    """
    try:
        levels = tuple(Level(**{str(k): _interval(k, v) for k, v in entry.items()}) for entry in entries)
    except (TypeError, ValueError, AttributeError) as error:
        if isinstance(error, ParameterError):
            raise
        raise ParameterError(f"the levels cannot be read ({error}); expected a list of fields of a level") from error
    names = [level.name for level in levels]
    if not levels or len(set(names)) < len(names):
        raise ParameterError(f"the levels are called {names}; expected one or more, of different names")
    return levels


def _interval(field: str, value: Any) -> Any:
    if field == "name":
        return str(value)
    if isinstance(value, (list, tuple)):
        low, high = (np.inf if one is None else float(one) for one in value)
        return low, high
    if field == "saturation":
        return np.inf if value is None else float(value)
    both = np.inf if value is None else float(value)
    return both, both


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """What was drawn for one exposure; ``seed`` draws it again."""

    level: str
    photons: float
    sigma: float
    amplitude: float
    gain: float
    saturation: float
    seed: tuple[int, ...]
    blur: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; infinite values become None."""
        return {k: None if isinstance(v, float) and np.isinf(v) else v for k, v in asdict(self).items()}


def expose(target: Image, psf: NDArray[np.float64], level: Level, seed: Sequence[int]) -> tuple[Image, Exposure]:
    """One poor exposure of a clean image.

    Parameters
    ----------
    target : ndarray of shape ([Z,] Y, X)
        In [0, 1]; not modified.
    psf : ndarray
        Of as many dimensions, sum 1.
    seed : sequence of int
        Of the generator that draws values and noise.

    Returns
    -------
    image : ndarray of float32, same shape
        Below 0 where read noise brings it there, cut off at the saturation.
    exposure : Exposure
    """
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(list(seed))
    drawn = Exposure(
        level=level.name, photons=_log_uniform(level.photons, rng), sigma=float(rng.uniform(*level.sigma)),
        amplitude=float(rng.uniform(*level.amplitude)), gain=float(rng.uniform(*level.gain)),
        saturation=level.saturation, seed=tuple(int(n) for n in seed),
        blur=float(rng.uniform(*level.blur)) if level.blur[1] else 0.0,  # without blur, noise stays as it was
    )  # fmt: skip
    blurred = np.maximum(blurred_by(target, psf), np.float32(0))  # rounding of the Fourier transform
    if drawn.blur:
        blurred = gaussian_filter(blurred, drawn.blur, mode="reflect")
    noisy = CameraNoise(drawn.photons, drawn.sigma * drawn.amplitude).add(blurred, rng)
    return np.minimum(noisy * np.float32(drawn.gain), np.float32(drawn.saturation)), drawn


def _log_uniform(interval: tuple[float, float], rng: np.random.Generator) -> float:
    share = rng.random()  # drawn in any case, so that the other values stay what they are
    if np.isinf(interval[0]):
        return float("inf")
    low, high = np.log(interval)
    return float(np.exp(low + share * (high - low)))


def exposures(
    target: Image, psf: NDArray[np.float64], levels: Sequence[Level] = LEVELS, *, seed: int = 0, index: int = 0
) -> list[tuple[Image, Exposure]]:
    """One exposure for each level; that of image ``index`` does not depend on what else is made."""
    return [expose(target, psf, level, (seed, index, i)) for i, level in enumerate(levels)]
