"""What kind of image is this? A few numbers that tell one kind from another, and whether there is anything in it.

References
----------
.. [1] Immerkær, Comput. Vis. Image Underst. 64, 1996: the noise of an image.
.. [2] Field, J. Opt. Soc. Am. A 4, 1987: spectra of natural images fall as a power of the frequency.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.noise import estimate_sigma

__all__ = ["MIN_SIDE_PX", "TRAITS", "WINDOW_PX", "Outside", "is_empty", "middle", "outside", "ranges_of", "ranges_over",
           "saturated_share", "traits_of"]  # fmt: skip

MIN_SIDE_PX = 64
"""Shortest side of an image that anything is said of."""
WINDOW_PX = 512
"""Side of the middle that is looked at: a larger image takes no longer."""

TRAITS: dict[str, str] = {
    "size_px": "size of structures (px)",
    "noise": "noise, as a share of the contrast",
    "slope": "slope of the power spectrum",
    "skew": "skewness of the grey values",
    "ground": "share of ground",
    "levels": "grey levels within the contrast",
}
_LO, _HI = 2.0, 99.8
_GROUND_SHARE = 0.2
_BAND = (0.02, 0.25)
_ON_LOG_SCALE = ("size_px", "noise", "levels")
_KEPT = (1.0, 99.0)
_MARGIN = 0.15
_LEAST_NOISE = 1e-4
"""Of images without any, so that it has a logarithm."""
_LEAST = 5
"""Windows below which nothing is said."""
_FEW_PLANES = 3
_MAX_WINDOWS = 60
_MAX_PER_PLANE = 5
_MISSED = 0.01
"""Share of further images that a predicted range may miss."""
_EMPTY_SCALES_PX = (1.5, 4.0)
_BACKGROUND_PX = 24.0
_EMPTY_CHANCE = 0.001

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Outside:
    """A trait outside of the range of the training images."""

    trait: str
    value: float
    low: float
    high: float

    @property
    def is_above(self) -> bool:
        """Whether it is too large, not too small."""
        return self.value > self.high


def middle(plane: NDArray[np.generic], side: int = WINDOW_PX) -> NDArray[np.generic]:
    """The middle of a plane, at most ``side`` px high and wide."""
    starts = [max(0, (n - side) // 2) for n in plane.shape]
    return plane[tuple(slice(start, start + side) for start in starts)]


def traits_of(plane: NDArray[np.generic]) -> dict[str, float]:
    """Numbers that tell one kind of image from another.

    Parameters
    ----------
    plane : ndarray of shape (Y, X)
        Finite, objects bright, in its own grey values; its middle of 512 px is looked at.

    Returns
    -------
    dict of str to float
        Keys of :data:`TRAITS`; ``levels`` of whole numbers only. Empty for a plane that is flat or below 64 px.

    Notes
    -----
    ``size_px``: shift at which the autocorrelation has fallen to a half, about 0.4 diameters of round objects;
    ``noise``: σ of [1]_ over the contrast (percentiles 2 to 99.8); ``slope``: of log power over log frequency from
    0.02 to 0.25 cycles per pixel ([2]_), less the power of the noise; ``skew``: (P95 + P5 − 2·P50) / (P95 − P5);
    ``ground``: share of pixels in the lowest fifth of the contrast; ``levels``: the contrast in grey values.
    """
    part = middle(np.asarray(plane))
    image = np.asarray(part, np.float64)
    if image.ndim != 2 or min(image.shape) < MIN_SIDE_PX:
        return {}
    low, high, p5, p50, p95 = (float(v) for v in np.percentile(image, [_LO, _HI, 5, 50, 95]))
    contrast = high - low
    if contrast <= 0:
        return {}
    sigma = estimate_sigma(image)
    power = _power(image)
    found = {
        "size_px": _half_width(power, sigma**2),
        "noise": max(sigma / contrast, _LEAST_NOISE),
        "slope": _slope(power, sigma**2),
        "skew": (p95 + p5 - 2 * p50) / (p95 - p5) if p95 > p5 else 0.0,
        "ground": float((image < low + _GROUND_SHARE * contrast).mean()),
    }
    return found | ({"levels": contrast} if part.dtype.kind in "ui" else {})


def _power(image: FloatArray) -> FloatArray:
    """Power of each frequency, per pixel: white noise of variance v has v everywhere."""
    return np.asarray(np.abs(np.fft.fft2(image - image.mean())) ** 2 / image.size, np.float64)


def _half_width(power: FloatArray, noise: float) -> float:
    """Shift in px at which the autocorrelation of the image without its white noise is a half; linear between px."""
    correlation = np.fft.ifft2(np.maximum(power - noise, 0.0)).real
    if correlation[0, 0] <= 0:
        return 0.5
    widths = []
    for line in (correlation[: len(correlation) // 2, 0], correlation[0, : correlation.shape[1] // 2]):
        share = line / correlation[0, 0]
        below = np.flatnonzero(share < 0.5)
        if not below.size:
            widths.append(float(len(line)))
            continue
        n = int(below[0])
        widths.append(n - 1 + float((share[n - 1] - 0.5) / (share[n - 1] - share[n])))
    return float(np.mean(widths))


def _slope(power: FloatArray, noise: float) -> float:
    fy, fx = (np.fft.fftfreq(n) for n in power.shape)
    frequency = np.hypot(fy[:, None], fx[None, :])
    edges = np.geomspace(*_BAND, 11)
    ring = np.digitize(frequency.ravel(), edges)
    n = np.bincount(ring, minlength=len(edges) + 1)[1 : len(edges)]
    mean = np.bincount(ring, power.ravel(), len(edges) + 1)[1 : len(edges)] / np.maximum(n, 1)
    is_there = n > 0
    height = np.log(np.maximum(mean - noise, 1e-3 * mean.max() * 1e-3 + 1e-300))[is_there]
    return float(np.polyfit(np.log(np.sqrt(edges[1:] * edges[:-1]))[is_there], height, 1)[0])


# --- ranges ---------------------------------------------------------------------------------------


def ranges_of(found: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Range of each trait over training images: percentiles 1 and 99; of traits that most of them have.

    >>> ranges_of([{"noise": 0.1}, {"noise": 0.3}])["noise"]
    (0.102, 0.298)
    """
    ranges = {}
    for trait in TRAITS:
        values = [each[trait] for each in found if trait in each]
        if values and 2 * len(values) > len(found):
            low, high = np.percentile(values, _KEPT)
            ranges[trait] = (round(float(low), 4), round(float(high), 4))
    return ranges


def ranges_over(planes: Sequence[NDArray[np.generic]]) -> dict[str, tuple[float, float]]:
    """Range of each trait that is to be expected of further images, from the images that a network learns from.

    Parameters
    ----------
    planes : sequence of ndarray of shape (Y, X)
        Finite, as the network will be given them; not modified. At most 60 windows of them are looked at: the middle
        of each plane, of few planes the corners too, half a plane high and wide.

    Returns
    -------
    dict of str to (float, float)
        Empty for planes below 64 px, flat ones, and fewer than five windows.

    Notes
    -----
    As :func:`ranges_of`; and as few images show a part of what there is, the range reaches at least to
    mean ± t·s·√(1 + 1/n), which misses 1 % of further values of a normal law; t of Student's law with n − 1 degrees of
    freedom, sizes, noise and levels on a logarithmic scale. Windows of one or two images differ less than images do:
    there s is doubled.
    """
    found = [traits for window in _windows(planes) if (traits := traits_of(window))]
    if len(found) < _LEAST:
        return {}
    ranges = ranges_of(found)
    wider = 2.0 if len(planes) < _FEW_PLANES else 1.0
    for trait, (low, high) in ranges.items():
        least, most = _predicted([each[trait] for each in found if trait in each], trait in _ON_LOG_SCALE, wider)
        floor = _LEAST_NOISE if trait in _ON_LOG_SCALE else -np.inf
        ranges[trait] = (float(max(floor, round(min(low, least), 4))), float(round(max(high, most), 4)))
    return ranges


def _windows(planes: Sequence[NDArray[np.generic]]) -> Iterator[NDArray[np.generic]]:
    n_used = min(len(planes), _MAX_WINDOWS)
    n_each = max(1, min(_MAX_PER_PLANE, _MAX_WINDOWS // max(1, n_used)))
    for i in np.linspace(0, len(planes) - 1, n_used).round().astype(int):
        plane = _as_stored(np.asarray(planes[i]))
        if n_each == 1:
            yield middle(plane)
            continue
        sides = [min(WINDOW_PX, max(MIN_SIDE_PX, n // 2)) for n in plane.shape]
        ends = [n - side for n, side in zip(plane.shape, sides, strict=True)]
        for y, x in [(0.5, 0.5), (0.0, 0.0), (1.0, 1.0), (0.0, 1.0), (1.0, 0.0)][:n_each]:
            top, left = (max(0, int(share * end)) for share, end in zip((y, x), ends, strict=True))
            yield plane[top : top + sides[0], left : left + sides[1]]


def _as_stored(plane: NDArray[np.generic]) -> NDArray[np.generic]:
    """Whole numbers as such again: grey levels are counted in them only."""
    if plane.dtype.kind != "f" or float(np.ptp(plane)) < 2 or float(np.abs(plane).max()) >= 2**31:
        return plane
    whole = np.rint(plane)
    return whole.astype(np.int64) if np.array_equal(whole, plane) else plane


def _predicted(values: Sequence[float], is_on_log_scale: bool, wider: float) -> tuple[float, float]:
    from scipy.special import stdtrit  # scipy.stats takes a second to import

    given = np.log(values) if is_on_log_scale else np.asarray(values)
    n = len(given)
    reach = wider * float(-stdtrit(n - 1, _MISSED / 2)) * float(np.std(given, ddof=1)) * np.sqrt(1 + 1 / n)
    low, high = (float(np.mean(given)) + sign * reach for sign in (-1, 1))
    return (float(np.exp(low)), float(np.exp(high))) if is_on_log_scale else (low, high)


def outside(found: Mapping[str, float], ranges: Mapping[str, tuple[float, float]]) -> list[Outside]:
    """Traits outside of their range.

    The range is widened at both ends by 15 % of it; on a logarithmic scale for sizes, noise and levels, there by 30 %
    of the value at least. More grey levels than in the training are none: a network sees normalised values.
    """
    strange = []
    for trait, value in found.items():
        if trait not in ranges:
            continue
        low, high = ranges[trait]
        if trait in _ON_LOG_SCALE:
            margin = max((high / low) ** _MARGIN, 1.3)
            least, most = low / margin, high * margin
        else:
            margin = max(_MARGIN * (high - low), 0.05)
            least, most = low - margin, high + margin
        if value < least or (value > most and trait != "levels"):
            strange.append(Outside(trait, float(value), low, high))
    return strange


# --- nothing there, or too much ---------------------------------------------------------------------


def saturated_share(plane: NDArray[np.generic]) -> float:
    """Share of pixels at the largest value, where many pile up there; 0 where they do not.

    Notes
    -----
    Clipped light piles up at one value: the largest one counts if it is at least four times as frequent as each of the
    16 steps below it, in 0.05 % of the pixels or more. Masks and images of few levels are no photographs: 0.
    """
    image = middle(np.asarray(plane))
    top = image.max()
    n_top = int((image == top).sum())
    if image.dtype.kind == "b" or n_top < 5e-4 * image.size:
        return 0.0
    step = 1.0 if image.dtype.kind in "ui" else float(np.ptp(image)) / 255
    near = np.asarray(image, np.float64)[(image < top) & (np.asarray(image, np.float64) >= float(top) - 16 * step)]
    if np.ptp(image) <= 16 * step or n_top > 0.5 * image.size:
        return 0.0
    counts = np.bincount(np.minimum(((float(top) - near) / step).astype(int), 16), minlength=17)
    return n_top / image.size if n_top >= 4 * max(1, int(counts.max())) else 0.0


def is_empty(plane: NDArray[np.generic]) -> bool:
    """Whether a plane holds nothing but noise, and perhaps an uneven illumination.

    Parameters
    ----------
    plane : ndarray of shape (Y, X)
        Finite, sides of 64 px or more; else False. Its middle of 512 px is looked at.

    Notes
    -----
    A cubic surface, and what varies over more than 24 px, is taken off. White noise of the standard deviation of [1]_,
    smoothed with σ s, has the standard deviation σ/(2·√π·s); no pixel may exceed what 99.9 % of such images keep to,
    at 1.5 and 4 px, nor the smoothed image vary by more than a quarter more. Noise that is correlated between pixels
    counts as structure. Smoothed by cosine transforms: convolutions as wide as that take five times as long.
    """
    from scipy.fft import dctn, idctn
    from scipy.special import ndtri  # scipy.stats takes a second to import

    image = np.asarray(middle(np.asarray(plane)), np.float64)
    if image.ndim != 2 or min(image.shape) < MIN_SIDE_PX:
        return False
    sigma = estimate_sigma(image)
    if sigma <= 0:
        return False
    waves = dctn(image - _illumination(image))
    waves *= 1.0 - _smoothing(image.shape, _BACKGROUND_PX)
    for scale in _EMPTY_SCALES_PX:
        expected = sigma / (2 * np.sqrt(np.pi) * scale)
        edge = round(2 * scale)  # mirrored pixels count twice there
        size = idctn(waves * _smoothing(image.shape, scale))[edge:-edge, edge:-edge] / expected
        limit = float(-ndtri(_EMPTY_CHANCE / 2 / max(1.0, image.size / (np.pi * scale**2))))
        if float(np.abs(size).max()) > limit or float(size.std()) > 1.25:
            return False
    return True


def _smoothing(shape: tuple[int, ...], sigma_px: float) -> FloatArray:
    """What a Gaussian leaves of each wave of a cosine transform of type II, whose edges are mirrored."""
    rows, columns = (np.exp(-0.5 * (sigma_px * np.pi * np.arange(n) / n) ** 2) for n in shape)
    return np.asarray(rows[:, None] * columns[None, :], np.float64)


def _illumination(image: FloatArray) -> FloatArray:
    """Cubic surface nearest to a plane, fitted to every fourth pixel of every fourth row."""
    y, x = (np.linspace(-1, 1, n)[:, None] ** np.arange(4) for n in image.shape)
    powers = [(i, j) for i in range(4) for j in range(4 - i)]
    terms = np.stack([np.outer(y[::4, i], x[::4, j]).ravel() for i, j in powers])
    factors = np.zeros((4, 4))
    factors[tuple(np.transpose(powers))] = np.linalg.solve(terms @ terms.T, terms @ image[::4, ::4].ravel())
    return np.asarray(y @ factors @ x.T, np.float64)
