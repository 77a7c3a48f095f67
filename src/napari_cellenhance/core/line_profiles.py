"""Grey values along a line: read from a plane, made comparable, their peaks, and two profiles against each other."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError

__all__ = [
    "PERCENTILES",
    "PROMINENCE",
    "Comparison",
    "Normalization",
    "Peak",
    "Places",
    "compare",
    "distances_um",
    "find_peaks",
    "fit_to",
    "match_peaks",
    "normalized",
    "places_along",
    "profile",
    "values_at",
]

FloatArray = NDArray[np.float64]
Normalization = Literal["none", "range", "percentiles", "fit"]
"""As stored; darkest 0 and brightest 1; percentiles 5 and 95 as 0 and 1; fitted to the reference."""

PERCENTILES = (5.0, 95.0)
PROMINENCE = 0.2
"""Default of the least rise of a peak, as a share of the range of its profile: noise makes many smaller ones."""
MAX_PLACES = 1 << 24


@dataclass(frozen=True, slots=True)
class Places:
    """Where a profile is read.

    Parameters
    ----------
    distance_px : ndarray of shape (N,)
        Along the line, in px, from 0 at its first point.
    yx : ndarray of shape (N, W, 2)
        Row and column of the W places across the line, whose mean is taken; the middle one (of an odd number) lies on
        the line. Integers are centres of pixels.
    """

    distance_px: FloatArray
    yx: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """One peak of a profile.

    Parameters
    ----------
    position_px : float
        Along the line; between samples it is the top of a parabola through the highest three.
    height : float
        Grey value of the highest sample.
    prominence : float
        How far it rises above the higher of the two valleys beside it, in grey values.
    fwhm_px : float
        Width at half of its prominence: full width at half maximum above the valley.
    """

    position_px: float
    height: float
    prominence: float
    fwhm_px: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A profile against a reference; NaN where it cannot be told.

    Parameters
    ----------
    n_matched : int
        Peaks that have a partner in the reference.
    n_reference : int
        Peaks of the reference.
    mean_shift_px, mean_abs_shift_px : float
        Position less that of the partner, averaged with and without its sign; positive is further along the line.
    width_ratio : float
        Median of width over width of the partner; above 1 the peaks are broader.
    correlation : float
        Pearson's, from −1 to 1.
    mae : float
        Mean absolute error after the best affine fit, in grey values of the reference.
    """

    n_matched: int
    n_reference: int
    mean_shift_px: float
    mean_abs_shift_px: float
    width_ratio: float
    correlation: float
    mae: float


# --- reading --------------------------------------------------------------------------------


def places_along(points: ArrayLike, width_px: int = 1, step_px: float = 1.0) -> Places:
    """Places along a line or path, evenly spaced within each of its stretches.

    Parameters
    ----------
    points : array-like of shape (P, 2)
        Row and column of two or more points, in px.
    width_px : int
        Places across the line, 1 px apart.
    step_px : float
        Largest distance of neighbours along the line. With 1 the places of a straight line are those of
        :func:`skimage.measure.profile_line`.

    Raises
    ------
    ParameterError
        Fewer than two different points, or a width or step outside its range.

    Examples
    --------
    >>> places_along([(0, 0), (0, 3)]).distance_px.tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    corners = np.asarray(points, np.float64)
    if corners.ndim != 2 or corners.shape[1:] != (2,) or not np.isfinite(corners).all():
        raise ParameterError(f"the line has points of shape {corners.shape}; expected rows of (row, column), finite")
    if int(width_px) != width_px or not 1 <= width_px <= 1000:
        raise ParameterError(f"the width is {width_px} px; expected a whole number from 1 to 1000")
    if not 0 < step_px < np.inf:
        raise ParameterError(f"the step is {step_px} px; expected more than 0")
    across = np.arange(int(width_px)) - (int(width_px) - 1) / 2
    rows: list[FloatArray] = []
    distances: list[FloatArray] = []
    begin = 0.0
    for first, last in itertools.pairwise(corners):
        length = float(np.hypot(*(last - first)))
        if length == 0:  # a double click leaves the same point twice
            continue
        n_steps = max(1, int(np.ceil(length / step_px - 1e-9)))
        if n_steps * len(across) > MAX_PLACES:
            raise ParameterError(f"the line is {length:.6g} px long and too long to read; draw a shorter one")
        shares = np.linspace(0.0, 1.0, n_steps + 1)[1 if rows else 0 :]  # a corner is read once
        normal = np.array([first[1] - last[1], last[0] - first[0]]) / length
        on_line = first + shares[:, np.newaxis] * (last - first)
        rows.append(on_line[:, np.newaxis] + across[np.newaxis, :, np.newaxis] * normal)
        distances.append(begin + shares * length)
        begin += length
    if not rows:
        raise ParameterError("the line has no length; draw it from one point to another")
    return Places(np.concatenate(distances), np.concatenate(rows))


def values_at(plane: ArrayLike, yx: FloatArray) -> FloatArray:
    """Grey values between pixels by bilinear interpolation, averaged across the line.

    Parameters
    ----------
    plane : array-like of shape (Y, X)
        Real or integer; NaN stands for no value.
    yx : ndarray of shape (N, W, 2)
        See :class:`Places`.

    Returns
    -------
    ndarray of float64, shape (N,)
        NaN where the line lies outside of the image. Of the places beside it, those inside count.

    Raises
    ------
    ImageError
        Not a plane, or complex numbers.
    """
    from scipy.ndimage import map_coordinates

    pixels = np.asarray(plane)
    if pixels.ndim != 2 or 0 in pixels.shape or pixels.dtype.kind not in "buif":
        raise ImageError(
            f"got pixels of shape {pixels.shape} and type {pixels.dtype}; expected one plane of grey values"
        )
    places = np.moveaxis(yx, -1, 0)
    is_good = np.isfinite(pixels)
    known = np.where(is_good, pixels, 0).astype(np.float64)
    values = np.asarray(map_coordinates(known, places, order=1, mode="nearest"), np.float64)
    if not is_good.all():  # a neighbour without a value spoils what lies between, but not a place right beside it
        share = map_coordinates(is_good.astype(np.float64), places, order=1, mode="nearest")
        values[share < 1 - 1e-9] = np.nan
    values[~_is_inside(yx, pixels.shape)] = np.nan
    n_values = np.isfinite(values).sum(axis=1)
    sums = np.where(np.isfinite(values), values, 0.0).sum(axis=1)
    is_there = _is_inside(yx.mean(axis=1), pixels.shape) & (n_values > 0)
    return np.where(is_there, sums / np.maximum(n_values, 1), np.nan)


def _is_inside(yx: FloatArray, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Within the area of a pixel, which reaches half a pixel around its centre."""
    return np.asarray(((yx >= -0.5) & (yx <= np.array(shape) - 0.5)).all(axis=-1))


def profile(plane: ArrayLike, points: ArrayLike, width_px: int = 1) -> tuple[FloatArray, FloatArray]:
    """Distances along a line, in px, and the grey values there; see :func:`places_along` and :func:`values_at`.

    Parameters
    ----------
    plane : array-like of shape (Y, X)
    points : array-like of shape (P, 2)
        Row and column of two or more points.
    width_px : int

    Returns
    -------
    (ndarray of shape (N,), ndarray of shape (N,))

    Examples
    --------
    >>> distances, values = profile([[0, 1, 2], [4, 5, 6], [8, 9, 10]], [(1, 0), (1, 2)], width_px=3)
    >>> values.tolist()
    [4.0, 5.0, 6.0]
    """
    places = places_along(points, width_px)
    return places.distance_px, values_at(plane, places.yx)


def distances_um(distance_px: FloatArray, pixel_size_um: float | None) -> FloatArray:
    """Distances in µm; NaN where the size of a pixel is not known.

    >>> distances_um(np.array([0.0, 2.0]), 0.5).tolist()
    [0.0, 1.0]
    """
    return distance_px * (np.nan if pixel_size_um is None else pixel_size_um)


# --- making profiles comparable ---------------------------------------------------------------


def normalized(values: FloatArray, how: Normalization, reference: FloatArray | None = None) -> FloatArray:
    """Bring a profile to a scale on which it can be laid over others.

    Parameters
    ----------
    values : ndarray of shape (N,)
        NaN stays.
    how : "none", "range", "percentiles" or "fit"
        As stored; smallest value 0 and largest 1; percentiles 5 and 95 of the profile as 0 and 1, which single noisy
        samples do not move; scaled and shifted to lie as close to ``reference`` as can be.
    reference : ndarray of shape (N,), optional
        For ``fit``.

    Returns
    -------
    ndarray of shape (N,)
        Of a constant profile zeros, for ``range`` and ``percentiles``.

    Raises
    ------
    ParameterError
        An unknown way, or ``fit`` without a reference.

    Examples
    --------
    >>> normalized(np.array([10.0, 20.0, np.nan, 30.0]), "range").tolist()
    [0.0, 0.5, nan, 1.0]
    """
    if how not in get_args(Normalization):
        raise ParameterError(f"the grey axis is {how!r}; expected one of {', '.join(get_args(Normalization))}")
    if how == "fit":
        if reference is None:
            raise ParameterError("fitting profiles to a reference needs one; choose a reference")
        return fit_to(values, reference)
    finite = values[np.isfinite(values)]
    if how == "none" or not finite.size:
        return values.copy()
    low, high = np.percentile(finite, (0.0, 100.0) if how == "range" else PERCENTILES)
    return np.asarray((values - low) / (high - low) if high > low else values - low)


def fit_to(values: FloatArray, reference: FloatArray) -> FloatArray:
    """Scale and shift a profile for the least squared error against a reference, where both have values.

    A constant profile becomes the mean of the reference. An inverted one is inverted.
    """
    is_both = np.isfinite(values) & np.isfinite(reference)
    if not is_both.any():
        return np.full(values.shape, np.nan)
    x, y = values[is_both], reference[is_both]
    centred = x - x.mean()
    variance = float((centred**2).sum())
    slope = float((centred * (y - y.mean())).sum()) / variance if variance > 0 else 0.0
    return np.asarray(slope * (values - x.mean()) + y.mean())


# --- peaks ------------------------------------------------------------------------------------


def find_peaks(distance_px: FloatArray, values: FloatArray, prominence: float = PROMINENCE) -> tuple[Peak, ...]:
    """Find the peaks of a profile, from its beginning to its end.

    Parameters
    ----------
    distance_px, values : ndarray of shape (N,)
        NaN parts the profile; a value at an end of it is no peak, for what comes after is not known.
    prominence : float
        Least rise above the valleys beside a peak, as a share of the range of the profile, in (0, 1].

    Raises
    ------
    ParameterError
        A prominence outside (0, 1], or rows of different length.

    Notes
    -----
    :func:`scipy.signal.find_peaks` and :func:`scipy.signal.peak_widths`.

    Examples
    --------
    >>> (peak,) = find_peaks(np.arange(7.0), np.array([0.0, 0.0, 2.0, 4.0, 2.0, 0.0, 0.0]))
    >>> peak.position_px, peak.height, peak.fwhm_px
    (3.0, 4.0, 2.0)
    """
    from scipy import signal

    if not 0 < prominence <= 1:
        raise ParameterError(f"the least prominence is {prominence}; expected a share of the range, above 0 up to 1")
    if distance_px.shape != values.shape or values.ndim != 1:
        raise ParameterError(f"distances of shape {distance_px.shape} and values of shape {values.shape}; expected one")
    is_there = np.isfinite(values)
    if not is_there.any():
        return ()
    least = prominence * float(values[is_there].max() - values[is_there].min())
    if least == 0:
        return ()
    peaks: list[Peak] = []
    for run in np.split(np.arange(len(values)), np.flatnonzero(np.diff(is_there)) + 1):
        if not is_there[run[0]]:
            continue
        here = values[run]
        tops, facts = signal.find_peaks(here, prominence=least, plateau_size=1)
        widths = signal.peak_widths(here, tops, 0.5, (facts["prominences"], facts["left_bases"], facts["right_bases"]))
        for i, top in enumerate(tops):
            ends = [_place(distance_px[run], float(widths[side][i])) for side in (2, 3)]
            middle = (facts["left_edges"][i] + facts["right_edges"][i]) / 2
            at = middle if facts["plateau_sizes"][i] > 1 else top + _vertex(here[top - 1 : top + 2])
            peaks.append(
                Peak(
                    position_px=_place(distance_px[run], float(at)),
                    height=float(here[top]),
                    prominence=float(facts["prominences"][i]),
                    fwhm_px=ends[1] - ends[0],
                )
            )
    return tuple(peaks)


def _place(distance_px: FloatArray, index: float) -> float:
    return float(np.interp(index, np.arange(len(distance_px)), distance_px))


def _vertex(three: NDArray[Any]) -> float:
    """Top of the parabola through three neighbours, of which the middle one is the highest."""
    before, top, after = (float(v) for v in three)
    return 0.5 * (before - after) / (before - 2 * top + after)


def match_peaks(peaks: Sequence[Peak], reference: Sequence[Peak]) -> tuple[int | None, ...]:
    """Number of the partner in the reference of each peak; None without one.

    Peaks pair one to one, the closest first, if they are no further apart than the partner is wide.
    """
    partners: list[int | None] = [None] * len(peaks)
    near = sorted(
        (abs(peak.position_px - other.position_px), i, j)
        for i, peak in enumerate(peaks)
        for j, other in enumerate(reference)
        if abs(peak.position_px - other.position_px) <= other.fwhm_px
    )
    for _, i, j in near:
        if partners[i] is None and j not in partners:
            partners[i] = j
    return tuple(partners)


def compare(
    values: FloatArray, peaks: Sequence[Peak], reference: FloatArray, reference_peaks: Sequence[Peak]
) -> Comparison:
    """Compare a profile with a reference that was read at the same places.

    Parameters
    ----------
    values, reference : ndarray of shape (N,)
        Places where one of them has no value do not count.
    peaks, reference_peaks : sequence of Peak
        Of both, from :func:`find_peaks`.

    Raises
    ------
    ParameterError
        Rows of different length.
    """
    if values.shape != reference.shape:
        raise ParameterError(f"profiles of shape {values.shape} and {reference.shape}; read both at the same places")
    pairs = [
        (peaks[i], reference_peaks[j])
        for i, j in enumerate(match_peaks(peaks, reference_peaks))
        if j is not None
    ]  # fmt: skip
    shifts = np.array([peak.position_px - other.position_px for peak, other in pairs])
    ratios = [peak.fwhm_px / other.fwhm_px for peak, other in pairs]
    is_both = np.isfinite(values) & np.isfinite(reference)
    x, y = values[is_both], reference[is_both]
    spread = float(x.std() * y.std()) if x.size else 0.0
    return Comparison(
        n_matched=len(pairs),
        n_reference=len(reference_peaks),
        mean_shift_px=float(shifts.mean()) if pairs else np.nan,
        mean_abs_shift_px=float(np.abs(shifts).mean()) if pairs else np.nan,
        width_ratio=float(np.median(ratios)) if pairs else np.nan,
        correlation=float(((x - x.mean()) * (y - y.mean())).mean()) / spread if spread > 0 else np.nan,
        mae=float(np.abs(fit_to(x, y) - y).mean()) if x.size else np.nan,
    )
