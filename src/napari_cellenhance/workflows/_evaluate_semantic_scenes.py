"""Images whose layers are known exactly: two kinds of objects at three degrees of overlap, two channels, and movies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.crops import CropSet, ObjectCrop
from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.core.placed_crops import Change, OverlapRule, Part, place, window_on
from napari_cellenhance.core.postprocess import CleanOptions, clean_labels
from napari_cellenhance.core.synthetic_pairs import SceneSettings, fill_null
from napari_cellenhance.workflows._evaluate_semantic_data import Channels, MovieSpec, Plane, grounds_of

__all__ = [
    "LEVELS", "PURE", "Composer", "Mixture", "SyntheticMovie", "channel_mixtures", "channel_patches", "make_movie",
    "windows_of",
]  # fmt: skip

LEVELS: Final[Mapping[str, tuple[float, float]]] = {"none": (0.0, 0.0), "partial": (0.1, 0.5), "heavy": (0.5, 0.9)}
"""Degree → least and largest share of an object that another one covers."""
PURE: Final = CleanOptions(n_openings=1, min_size_px=40)
"""Objects of a channel by itself, that those of the mixture are compared with."""
_ATTEMPTS = 80
_N_WINDOWS = 8
_GAIN, _ZOOM = (0.6, 1.2), (0.9, 1.1)
_NOISE = 0.02
"""Standard deviation of the noise of a movie, in 99th percentiles of its scene."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mixture:
    """An image and what it is the sum of; all (Y, X), float32, in 99th percentiles.

    Parameters
    ----------
    target, remainder : ndarray
        Wanted layer without any ground; all else.
    labels : ndarray of int
        Objects of the target: 1, 2, …
    level : str
        Degree of overlap.
    """

    target: Plane
    remainder: Plane
    labels: NDArray[np.int32]
    level: str

    @property
    def image(self) -> Plane:
        """The sum; nothing is cut off."""
        return self.target + self.remainder


class Composer:
    """Lays crops of two kinds on real grounds.

    Parameters
    ----------
    crops : CropSet
        In 99th percentiles; from every crop the brightness of the ground of its image is subtracted.
    settings : SceneSettings
        Numbers of objects, gains, sizes.
    size_px : int
        Side of an image.

    Raises
    ------
    ImageError
        No crop of one kind, or no ground.
    """

    def __init__(self, crops: CropSet, settings: SceneSettings, size_px: int) -> None:
        if not crops.target or not crops.unwanted or not crops.backgrounds:
            raise ImageError("both kinds of crops, and grounds, are needed to put images together")
        self._settings, self._size_px = settings, size_px
        level = grounds_of(crops)
        self._target = [_part(one, level[one.source]) for one in crops.target]
        self._unwanted = [_part(one, level[one.source]) for one in crops.unwanted]
        self._grounds = [
            (np.pad(one.pixels, widths, "symmetric"), np.pad(one.mask, widths, "symmetric"))
            for one in crops.backgrounds
            for widths in [[(0, max(0, size_px - n)) for n in one.mask.shape]]
        ]

    def draw(self, level: str, rng: np.random.Generator) -> Mixture:
        """One image with objects of both kinds that overlap to the degree asked for; those of a kind do not."""
        least, largest = LEVELS[level]
        s, shape = self._settings, (self._size_px, self._size_px)
        target, other = np.zeros(shape, np.float32), self._ground(rng)
        labels = np.zeros(shape, np.int32)
        of_target, of_other = OverlapRule(shape, 0.0), OverlapRule(shape, 0.0)
        n = int(rng.integers(max(1, s.n_target[0]), s.n_target[1] + 1))
        for number in range(1, n + 1):
            found = self._placed(self._target, of_target, rng)
            if found is not None:
                _lay(target, found)
                _mark(labels, found, number)
        low, high = s.n_unwanted or s.n_target
        for number in _shuffled(labels, rng) if largest else []:
            found = self._overlapping(labels, number, of_other, (least, largest), rng)
            if found is not None:
                _lay(other, found)
        free = of_target.copy()
        for _ in range(int(rng.integers(max(1, low), high + 1))):
            found = self._placed(self._unwanted, of_other, rng, free)
            if found is not None:
                _lay(other, found)
        return Mixture(target=target, remainder=other, labels=labels, level=level)

    def _placed(
        self, parts: Sequence[Part], rule: OverlapRule, rng: np.random.Generator, other: OverlapRule | None = None
    ) -> tuple[Part, tuple[int, int]] | None:
        part, shape = self._changed(parts, rng), (self._size_px, self._size_px)
        for _ in range(_ATTEMPTS):
            at = place(shape, part.mask.shape, 0.2, rng)
            if rule.accepts(part.mask, at) and (other is None or other.accepts(part.mask, at)):
                rule.add(part.mask, at)
                return part, at
        return None

    def _overlapping(
        self, labels: NDArray[np.int32], number: int, rule: OverlapRule, share: tuple[float, float],
        rng: np.random.Generator,
    ) -> tuple[Part, tuple[int, int]] | None:  # fmt: skip
        """An unwanted object on one of the target; the share counts for the smaller of the two."""
        where = np.argwhere(labels == number)
        for _ in range(_ATTEMPTS):
            part = self._changed(self._unwanted, rng)
            middle = where[int(rng.integers(len(where)))] + rng.integers(-8, 9, 2)
            at = tuple(int(m - n // 2) for m, n in zip(middle, part.mask.shape, strict=True))
            corner = (at[0], at[1])
            on, of = window_on(part.mask.shape, corner, labels.shape)
            below, mask = labels[on], part.mask[of]
            if not mask.any() or (below[mask] > 0).sum() != (below[mask] == number).sum():
                continue  # it would touch another one
            common = int((below[mask] == number).sum())
            found = common / min(int(mask.sum()), len(where))
            if share[0] < found <= share[1] and rule.accepts(part.mask, corner):
                rule.add(part.mask, corner)
                return part, corner
        return None

    def _changed(self, parts: Sequence[Part], rng: np.random.Generator) -> Part:
        flips = rng.random(2) < 0.5
        change = Change(
            gain=float(rng.uniform(*self._settings.gain)) / 2, degrees=float(rng.uniform(0, 90)),
            flips=(bool(flips[0]), bool(flips[1])), zoom=float(rng.uniform(*self._settings.zoom)),
        )  # fmt: skip
        made = change.of(parts[int(rng.integers(len(parts)))], self._size_px)
        return replace(made, pixels=2 * made.pixels)  # a change keeps within 0…1; two 99th percentiles are enough

    def _ground(self, rng: np.random.Generator) -> Plane:
        pixels, mask = self._grounds[int(rng.integers(len(self._grounds)))]
        windows = []
        for _ in range(_N_WINDOWS):
            y, x = (int(rng.integers(n - self._size_px + 1)) for n in mask.shape)
            windows.append((slice(y, y + self._size_px), slice(x, x + self._size_px)))
        window = min(windows, key=lambda one: int(mask[one].sum()))  # the least gaps to be filled
        quartiles = np.percentile(pixels[~mask], (25, 75))
        filled = fill_null(pixels[window][None], mask[window], (float(quartiles[0]), float(quartiles[1])), rng)
        return np.asarray(filled[0], np.float32)


def _part(crop: ObjectCrop, ground: float) -> Part:
    pixels = np.where(crop.mask, np.clip(crop.pixels - ground, 0, None), 0).astype(np.float32)
    return Part(pixels[None], crop.mask)


def _lay(layer: Plane, found: tuple[Part, tuple[int, int]]) -> None:
    part, at = found
    on, of = window_on(part.mask.shape, at, layer.shape)
    layer[on] += part.pixels[0][of]


def _mark(labels: NDArray[np.int32], found: tuple[Part, tuple[int, int]], number: int) -> None:
    part, at = found
    on, of = window_on(part.mask.shape, at, labels.shape)
    labels[on][part.mask[of]] = number


def _shuffled(labels: NDArray[np.int32], rng: np.random.Generator) -> list[int]:
    numbers = np.unique(labels)
    return [int(n) for n in rng.permutation(numbers[numbers > 0])]


# --- two channels ----------------------------------------------------------------------------


def channel_patches(planes: Sequence[tuple[Plane, Plane]], size_px: int) -> CropSet:
    """Patches of both channels as crops that fill an image, in all eight positions."""
    parts: tuple[list[ObjectCrop], list[ObjectCrop]] = ([], [])
    for i, pair in enumerate(planes):
        for plane, crops in zip(pair, parts, strict=True):
            for window in windows_of(plane.shape, size_px):
                y, x = window[0].start, window[1].start
                for turn in range(8):
                    patch = np.rot90(plane[window], turn % 4)
                    pixels = np.ascontiguousarray(patch.T if turn > 3 else patch)
                    mask = np.ones(pixels.shape, np.bool_)
                    box = (y, x, y + size_px, x + size_px)
                    crops.append(ObjectCrop(pixels=pixels, mask=mask, source=f"plane {i}", box=box))
    return CropSet(target=tuple(parts[0]), unwanted=tuple(parts[1]))


def channel_mixtures(
    channels: Channels, part: Sequence[tuple[Plane, Plane]], size_px: int, *, is_shuffled: bool, level: str
) -> list[Mixture]:
    """Windows of the sum of two channels: of one field, or with the other channel turned by 90°, as of other fields."""
    found = []
    for wanted, unwanted in part:
        numbers = clean_labels(wanted, PURE).astype(np.int32)
        for window in windows_of(wanted.shape, size_px):
            other = unwanted[window]
            other = np.ascontiguousarray(np.rot90(other)) if is_shuffled else other.copy()
            labels = _renumbered(numbers[window])
            if labels.any():
                found.append(Mixture(target=wanted[window].copy(), remainder=other, labels=labels, level=level))
    if not found:
        raise ImageError(f"no object was found in the wanted channel of {channels.spec.name!r}; choose another one")
    return found


def _renumbered(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Numbers 1, 2, … of what is in a window."""
    values, dense = np.unique(np.concatenate([[0], labels.ravel()]), return_inverse=True)
    return np.asarray(dense[1:].reshape(labels.shape), np.int32) if len(values) > 1 else np.zeros_like(labels)


def windows_of(shape: tuple[int, ...], size_px: int) -> list[tuple[slice, slice]]:
    """Windows beside one another that fit a plane."""
    return [
        (slice(y, y + size_px), slice(x, x + size_px))
        for y in range(0, shape[0] - size_px + 1, size_px)
        for x in range(0, shape[1] - size_px + 1, size_px)
    ]


# --- movies ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SyntheticMovie:
    """Objects that move through a real scene, in 99th percentiles of the scene.

    Parameters
    ----------
    frames : ndarray of shape (T, Y, X), float32
        With noise.
    scene : ndarray of shape (Y, X), float32
        Without objects, without noise of its own.
    labels : ndarray of int, shape (T, Y, X)
        Objects; the same number in all frames.
    still : tuple of int
        Numbers of those that never move.
    """

    frames: Plane
    scene: Plane
    labels: NDArray[np.int32]
    still: tuple[int, ...]


def make_movie(
    scenes: Sequence[Plane], crops: CropSet, spec: MovieSpec, size_px: int, n_frames: int, rng: np.random.Generator
) -> SyntheticMovie:
    """Lay objects on a window of a scene; in every frame each moves on in a direction drawn anew, or never does.

    Objects are added to the scene and never overlap one another.
    """
    scene = scenes[int(rng.integers(len(scenes)))]
    if min(scene.shape) < size_px:
        raise ImageError(f"a scene of {scene.shape} px is smaller than frames of {size_px} px; choose smaller ones")
    y, x = (int(rng.integers(n - size_px + 1)) for n in scene.shape)
    ground = scene[y : y + size_px, x : x + size_px].copy()
    level = grounds_of(crops)
    chosen = SceneSettings(size_px=32, gain=_GAIN, zoom=_ZOOM)
    n_still, n_moving = (int(rng.integers(low, high + 1)) for low, high in (spec.n_still, spec.n_moving))
    parts = []
    for _ in range(n_still + n_moving):
        crop = crops.target[int(rng.integers(len(crops.target)))]
        change = Change(
            gain=float(rng.uniform(*chosen.gain)) / 2, degrees=float(rng.uniform(0, 90)),
            zoom=float(rng.uniform(*chosen.zoom)),
        )  # fmt: skip
        made = change.of(_part(crop, level[crop.source]), size_px)
        parts.append(replace(made, pixels=2 * made.pixels))
    at: list[tuple[int, int] | None] = [None] * len(parts)
    frames = np.repeat(ground[None], n_frames, axis=0)
    labels = np.zeros(frames.shape, np.int32)
    for t in range(n_frames):
        rule = OverlapRule(ground.shape, 0.0)
        for i, part in enumerate(parts):
            is_still = i < n_still
            at[i] = _next(part, at[i], ground.shape, rule, (0.0, 0.0) if is_still else spec.step_px, rng)
            corner = at[i]
            if corner is not None:
                rule.add(part.mask, corner)
                _lay(frames[t], (part, corner))
                _mark(labels[t], (part, corner), i + 1)
    noisy = (frames + rng.normal(0, _NOISE, frames.shape)).astype(np.float32)
    return SyntheticMovie(frames=noisy, scene=ground, labels=labels, still=tuple(range(1, n_still + 1)))


def _next(
    part: Part, at: tuple[int, int] | None, shape: tuple[int, int], rule: OverlapRule, step_px: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[int, int] | None:  # fmt: skip
    """Where an object is in the next frame; None where there is no room."""
    if at is not None and step_px[1] == 0:
        return at
    for _ in range(_ATTEMPTS):
        if at is None:
            corner = place(shape, part.mask.shape, 0.0, rng)
        else:
            angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(*step_px)
            y, x = round(at[0] + length * np.sin(angle)), round(at[1] + length * np.cos(angle))
            corner = (int(y), int(x))
            if not all(0 <= c <= n - m for c, n, m in zip(corner, shape, part.mask.shape, strict=True)):
                continue
        if rule.accepts(part.mask, corner):
            return corner
    return None
