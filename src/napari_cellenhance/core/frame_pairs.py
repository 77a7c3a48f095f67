"""Pairs of frames of a scene that stands still but for its objects; and whether such a movie can be learned from.

A network that predicts a frame from another one learns what both have in common: the scene without what moves. That
holds where an object covers a pixel in less than half of the frames, and where it has moved on between the two.

References
----------
.. [1] Javer & Rittscher, "Semantic filtering through deep source separation on microscopy images", arXiv 1909.00691,
   2019: frame pairs, and the temporal median as what they teach.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError

__all__ = [
    "BackgroundCheck", "FramePairs", "Polarity", "Spot", "check_background", "covered", "foreground",
    "suggest_polarity", "temporal_median",
]  # fmt: skip

Pixels = NDArray[np.float32]
Scalar = TypeVar("Scalar", bound=np.generic)
Polarity = Literal["dark", "bright", "both"]

MAX_FRAMES = 48
"""Frames that the check looks at, evenly chosen."""
_EDGE_RANK = 90.0
"""Percentile over time that stands for the uncovered scene, on the side away from the objects."""
_EDGE_SIGMAS = 1.28
"""By how many standard deviations of the noise that percentile lies beyond the mean."""
_FOUND_SIGMAS = 3.5
_LEAST_DEPTH = 10 / 255
"""An object differs from the scene by this share of its range, at least: the published threshold."""
_TO_SIGMA = 1.4826 / np.sqrt(2)
"""Median of the absolute difference of two Gaussian values → their standard deviation."""
_NOISE_PX = 15
_UNCLEAN_SHARE = 0.5
"""Share of frames from which on the median is the object, not the scene."""
_TOLERATED = 0.002
"""Share of pixels whose median may be wrong before that is worth a warning."""
_TOLERATED_STAY = 0.5


def temporal_median(frames: Pixels) -> Pixels:
    """Median over time of (T, …): the scene without what moves, where nothing stays for half of the time."""
    return np.median(frames, axis=0).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BackgroundCheck:
    """Whether a movie can teach what stands still.

    Parameters
    ----------
    median : ndarray of shape (Y, X), float32
        Temporal median of the frames looked at, to show: it must be clean.
    coverage : ndarray of shape (Y, X), float32
        Share of the frames in which an object covers the pixel.
    polarity : "dark", "bright" or "both"
    noise : float
        Standard deviation of the noise of a typical pixel, in grey values.
    share_covered : float
        Of all pixels of all frames.
    share_unclean : float
        Of the pixels: covered in half of the frames or more, so that their median shows the object.
    share_staying : float
        Of what is covered in a frame, how much is covered ``lag`` frames later, too, beyond what chance makes of it.
    lag : int
    advised_lag : int
        Least lag at which no more than half stays; 0 where there is none.
    warnings : tuple of str
        Sentences; empty where all is well.
    """

    median: Pixels
    coverage: Pixels
    polarity: Polarity
    noise: float
    share_covered: float
    share_unclean: float
    share_staying: float
    lag: int
    advised_lag: int
    warnings: tuple[str, ...] = ()


def check_background(frames: Pixels, lag: int = 1, polarity: Polarity | None = None) -> BackgroundCheck:
    """Estimate for how many pixels the temporal median is not the scene, and whether objects move on within the lag.

    Parameters
    ----------
    frames : ndarray of shape (T, Y, X), float32
        In grey values, finite; 3 frames or more.
    lag : int
    polarity : "dark", "bright" or "both", optional
        Objects darker or brighter than the scene; default: :func:`suggest_polarity`.

    Raises
    ------
    ImageError
        Fewer than 3 frames, or another shape.
    ParameterError
        A lag that the movie does not have; unknown polarity.

    Notes
    -----
    The estimator, for dark objects: the uncovered scene is the 90th percentile over time of a pixel, 1.28 σ of noise
    above its mean; a pixel is covered in a frame where it lies 3.5 σ below that mean, or 10/255 of the range of the
    scene if that is more. For dark *and* bright objects the temporal median stands for the scene instead. σ of a pixel
    is 1.4826 · median over time of |difference of successive frames| / √2, averaged over 15×15 pixels. Frames are first
    brought to one median brightness.

    Its limits: an object that never moves, or that leaves a pixel free in less than a tenth of the frames, *is* the
    scene; where objects are dark and bright, so is what covers a pixel in most frames; objects less contrasted than the
    noise are not seen; light that flickers in parts of the image, drift of the stage and focus look like objects; where
    pixels change in more than half of the frames, σ is too large.
    """
    if frames.ndim != 3 or len(frames) < 3:
        raise ImageError(f"a movie of shape {frames.shape} cannot be judged; expected at least 3 frames, (T, Y, X)")
    if not 1 <= lag < len(frames):
        raise ParameterError(f"the lag is {lag} frames, of {len(frames)}; expected 1 to {len(frames) - 1}")
    if polarity is not None and polarity not in get_args(Polarity):
        raise ParameterError(f"polarity is {polarity!r}; expected one of {', '.join(get_args(Polarity))}")
    chosen = _levelled(frames[np.unique(np.linspace(0, len(frames) - 1, MAX_FRAMES).round().astype(int))])
    kind = polarity or suggest_polarity(frames)
    noise = _noise_of(_levelled(frames[:MAX_FRAMES]))
    is_covered = _covered(chosen, kind, noise)
    coverage = is_covered.mean(axis=0, dtype=np.float32)
    staying = {step: _staying(frames, step, kind, noise, chosen) for step in _lags(lag, len(frames))}
    known = BackgroundCheck(
        median=temporal_median(chosen), coverage=coverage, polarity=kind, noise=float(np.median(noise)),
        share_covered=float(coverage.mean()), share_unclean=float((coverage >= _UNCLEAN_SHARE).mean()),
        share_staying=staying[lag], lag=lag,
        advised_lag=min((step for step, share in staying.items() if share <= _TOLERATED_STAY), default=0),
    )  # fmt: skip
    return replace(known, warnings=_sentences(known, len(frames)))


def suggest_polarity(frames: Pixels) -> Polarity:
    """Tell from the tail of the differences from the temporal median whether what moves is dark or bright."""
    chosen = _levelled(frames[np.unique(np.linspace(0, len(frames) - 1, MAX_FRAMES).round().astype(int))])
    difference = (chosen - temporal_median(chosen)).ravel()
    sigma = max(1.4826 * float(np.median(np.abs(difference))), 1e-9)
    far = difference[np.abs(difference) > 3 * sigma]
    if not far.size:
        return "both"
    dark = float(-far[far < 0].sum())
    share = dark / max(dark + float(far[far > 0].sum()), 1e-12)
    return "dark" if share > 2 / 3 else "bright" if share < 1 / 3 else "both"


def covered(frames: Pixels, polarity: Polarity) -> NDArray[np.bool_]:
    """Where objects are in each frame of (T, Y, X); see :func:`check_background` for the rule and its limits."""
    levelled = _levelled(frames)
    return _covered(levelled, polarity, _noise_of(levelled))


def _covered(frames: Pixels, polarity: Polarity, noise: Pixels) -> NDArray[np.bool_]:
    if polarity == "both":
        scene, signed = temporal_median(frames), np.abs(frames - temporal_median(frames))
        expected = np.zeros(frames.shape[1:], np.float32)
    else:
        signed = frames if polarity == "bright" else -frames  # objects are bright now
        scene = (np.percentile(signed, 100 - _EDGE_RANK, axis=0) + _EDGE_SIGMAS * noise).astype(np.float32)
        expected = scene
    low, high = np.percentile(scene, (1, 99))
    depth = np.maximum(_FOUND_SIGMAS * noise, max(_LEAST_DEPTH * float(high - low), 1e-9)).astype(np.float32)
    return np.asarray(signed > expected + depth, np.bool_)


def foreground(image: NDArray[np.floating], background: NDArray[np.floating], polarity: Polarity) -> Pixels:
    """What moves: background − image for dark objects, image − background for bright ones, else the distance.

    Negative values are noise, and stay: cutting them off would make a mean out of noise.
    """
    difference = np.asarray(background - image, np.float32)
    return {"dark": difference, "bright": -difference, "both": np.abs(difference)}[polarity]


def _levelled(frames: Pixels) -> Pixels:
    """Frames with the median brightness of all: lamps drift."""
    medians = np.median(frames.reshape(len(frames), -1), axis=1)
    return (frames - (medians - np.median(medians)).reshape(-1, 1, 1)).astype(np.float32)


def _noise_of(frames: Pixels) -> Pixels:
    """Standard deviation of each pixel (Y, X) from frame to frame, robust against what moves, evened out in space.

    At least half a step of the grey values: between two of them nothing can be told.
    """
    from scipy.ndimage import uniform_filter

    steps = np.abs(np.diff(frames, axis=0))
    sigma = uniform_filter(_TO_SIGMA * np.median(steps, axis=0), _NOISE_PX, mode="nearest")
    sample = frames[0].ravel()[:100_000]
    gaps = np.diff(np.unique(sample))
    least = 0.5 * float(np.median(gaps)) if gaps.size and sample.size > 4 * gaps.size else 0.0
    return np.asarray(np.maximum(sigma, least), np.float32)


def _lags(lag: int, n_frames: int) -> list[int]:
    powers = [2**i for i in range(12) if 2**i <= (n_frames - 1) // 2]
    return sorted({lag, *powers})


def _staying(frames: Pixels, lag: int, polarity: Polarity, noise: Pixels, chosen: Pixels) -> float:
    """Share of what is covered that is still covered a lag later, less what chance would give, 0 to 1."""
    starts = np.unique(np.linspace(0, len(frames) - 1 - lag, 12).round().astype(int))
    both = np.concatenate([frames[starts], frames[starts + lag]])
    # The scene is known from the frames looked at; these here are only judged.
    n = len(both)
    is_covered = _covered(_levelled(np.concatenate([both, chosen])), polarity, noise)[:n]
    before, after = is_covered[: n // 2], is_covered[n // 2 :]
    share = float(before.mean())
    if share == 0:
        return 0.0
    stays = float((before & after).mean()) / share
    chance = float(after.mean())
    return float(np.clip((stays - chance) / max(1e-6, 1 - chance), 0, 1))


def _sentences(check: BackgroundCheck, n_frames: int) -> tuple[str, ...]:
    found = []
    if check.share_covered == 0:
        found.append(
            "Nothing seems to move in this movie; there is nothing to learn unless objects are as dim as the noise."
        )
    elif check.polarity == "both":
        found.append(
            "Whether objects are darker or brighter than the scene cannot be told from the movie. Say which: only then "
            "can objects be found that stay for most of the time."
        )
    if check.share_unclean > _TOLERATED:
        found.append(
            f"In {100 * check.share_unclean:.1f} % of the image an object is there in half of the frames or more: the "
            "network will take it for the scene. Use more frames, a longer movie, or look at the median image."
        )
    if check.share_staying > _TOLERATED_STAY:
        advice = (
            f"A lag of {check.advised_lag} frames would do." if check.advised_lag
            else "No lag within this movie would do; use a longer one."
        )  # fmt: skip
        noun = "frame" if check.lag == 1 else "frames"
        found.append(
            f"After {check.lag} {noun}, {100 * check.share_staying:.0f} % of what is covered by objects is covered "
            f"still, so that the network learns to keep them. {advice}"
        )
    if n_frames < 5:
        found.append(f"With {n_frames} frames this can hardly be judged.")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in a movie, and the two frames of a pair in their order."""

    movie: int
    frames: tuple[int, int]
    corner: tuple[int, int]
    flips: tuple[bool, bool]


class FramePairs:
    """Draws pairs of patches of one place at two times.

    Parameters
    ----------
    movies : sequence of ndarray of shape (T, C, Y, X), float32
        As the network sees them.
    lag : int
        Frames between the members of a pair.
    patch_px : int
        Side of a patch, a multiple of 32; as much of it as every movie has.
    is_flipping : bool
        Flip patches along Y and X.

    Raises
    ------
    ImageError
        A movie without two frames a lag apart, or smaller than 32 px; no movie.
    """

    def __init__(self, movies: Sequence[Pixels], lag: int, patch_px: int, *, is_flipping: bool = True) -> None:
        if not movies:
            raise ImageError("no movie was given to learn from; choose at least one")
        for movie in movies:
            if movie.ndim != 4 or len(movie) <= lag or lag < 1:
                raise ImageError(
                    f"a movie of shape {movie.shape} has no two frames {lag} apart; choose a longer one, or another lag"
                )
        least = min(min(movie.shape[2:]) for movie in movies)
        self.patch_px = min(patch_px, least) // 32 * 32
        if self.patch_px < 32:
            raise ImageError(f"the frames are {least} px along one side; the network needs 32 px")
        self._movies, self._lag, self._is_flipping = list(movies), lag, is_flipping
        sizes = np.array([(len(movie) - lag) * movie.shape[2] * movie.shape[3] for movie in movies], float)
        self._chances = sizes / sizes.sum()

    def draw(self, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
        """Two patches (C, Y, X) of the same place, in random order, flipped alike."""
        spot = self.spot(rng)
        first, second = (self.cut(self._movies[spot.movie][t], spot) for t in spot.frames)
        return first, second

    def spot(self, rng: np.random.Generator) -> Spot:
        """Where and when a pair is."""
        index = int(rng.choice(len(self._movies), p=self._chances))
        movie = self._movies[index]
        t = int(rng.integers(len(movie) - self._lag))
        y, x = (int(rng.integers(n - self.patch_px + 1)) for n in movie.shape[2:])
        frames = (t, t + self._lag) if rng.random() < 0.5 else (t + self._lag, t)
        flips = rng.random(2) < (0.5 if self._is_flipping else 0)
        return Spot(index, frames, (y, x), (bool(flips[0]), bool(flips[1])))

    def cut(self, plane: NDArray[Scalar], spot: Spot) -> NDArray[Scalar]:
        """The patch of a plane (…, Y, X) at a spot; a copy."""
        y, x = spot.corner
        patch = plane[..., y : y + self.patch_px, x : x + self.patch_px]
        steps = [slice(None, None, -1 if flip else 1) for flip in spot.flips]
        return np.ascontiguousarray(patch[..., steps[0], steps[1]])
