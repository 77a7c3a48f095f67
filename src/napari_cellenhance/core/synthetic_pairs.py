"""Pairs of synthetic images put together from crops: the wanted layer is the same in both, all else is drawn anew.

A network that has to predict the second image from the first can know only what both share, and so learns to return the
wanted layer (and the median of the rest).

References
----------
.. [1] Javer & Rittscher, "Semantic filtering through deep source separation on microscopy images", arXiv 1909.00691,
   2019: the sum of layers, section 3; the presets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.crops import Background, CropSet, ObjectCrop
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.normalize import Normalizer, percentiles
from napari_cellenhance.core.placed_crops import Change, OverlapRule, Part, place, window_on

__all__ = [
    "PRESETS", "Kind", "Preset", "Scaling", "Scene", "SceneMaker", "ScenePair", "SceneSettings", "fill_null", "preset",
    "ranged", "scaling_of", "whites_of",
]  # fmt: skip

Pixels = NDArray[np.float32]
Range = tuple[float, float]
Counts = tuple[int, int]
Kind = Literal["p99", "fixed", "fixed_log"]
_N_ATTEMPTS = 3
_FLAT = 0.1
"""An object whose brightness varies by less than this share of it has no ground in it that could be subtracted."""
_SAMPLE_PX = 2_000_000
"""Pixels that percentiles of a whole crop set are estimated from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """How grey values become the range of the network.

    Parameters
    ----------
    kind : "p99", "fixed" or "fixed_log"
        x / P99 of its own image; (x − low) / (high − low); or the logarithm between low and high, in which layers are
        still added before the logarithm.
    low, high : float
        What becomes 0 and 1. ``low`` above ``high`` is the complement: dark objects become bright.

    Raises
    ------
    ParameterError
        Unknown kind, no range, or a logarithm of negative values.
    """

    kind: Kind = "p99"
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ParameterError(f"scaling is {self.kind!r}; expected one of {', '.join(get_args(Kind))}")
        if not (np.isfinite([self.low, self.high]).all() and self.low != self.high):
            raise ParameterError(
                f"grey values {self.low} and {self.high} make no range; expected two different numbers"
            )
        if self.kind == "fixed_log" and not 0 <= self.low < self.high:
            raise ParameterError(f"the logarithm needs a range with 0 ≤ low < high; got {self.low:g} and {self.high:g}")

    @property
    def is_log(self) -> bool:
        """Layers are added first, and the logarithm is taken of the sum."""
        return self.kind == "fixed_log"

    @property
    def parameters(self) -> dict[str, float]:
        """Settings of the normaliser of the same name, for a model card."""
        return {} if self.kind == "p99" else {"low": self.low, "high": self.high}

    def linear(self, pixels: NDArray[Any], white: float) -> Pixels:
        """Grey values → values that can be added; ``white``, the P99 of their image, counts for "p99" only."""
        low, high = {"p99": (0.0, white), "fixed": (self.low, self.high), "fixed_log": (0.0, self.high)}[self.kind]
        return Normalizer("fixed", {"low": low, "high": high}).normalize(pixels)

    def final(self, layer: Pixels) -> Pixels:
        """A sum of layers → what the network sees: within [0, 1], on a logarithmic scale where that was chosen."""
        clipped = np.clip(layer, 0, 1).astype(np.float32)
        if not self.is_log:
            return clipped
        normalizer = Normalizer("fixed_log", {"low": self.low, "high": self.high})
        return normalizer.normalize(clipped.astype(np.float64) * self.high)


def scaling_of(
    crops: CropSet, *, kind: Kind | None = None, is_complement: bool = False, low: float | None = None,
    high: float | None = None,
) -> Scaling:  # fmt: skip
    """Scaling that suits a crop set.

    Parameters
    ----------
    kind : "p99", "fixed" or "fixed_log", optional
        Default: a range where one is given, for the complement and for colours; else P99 of each image.
    is_complement : bool
    low, high : float or None
        Range of grey values; None: 0 (1 for a logarithm) and 255 where all values are whole numbers of 8 bits, else the
        percentiles 0.1 and 99.9 of all pixels.

    Raises
    ------
    ImageError
        No pixel, or no contrast.
    ParameterError
        A complement without a range.
    """
    is_ranged = is_complement or crops.is_colour or not (low is None and high is None)
    kind = kind or ("fixed" if is_ranged else "p99")
    if is_complement and kind != "fixed":
        raise ParameterError(f"the complement needs a range of grey values, and excludes {kind!r}; choose 'fixed'")
    if kind == "p99":
        return Scaling()
    values = _values_of(crops)
    found_low, found_high = percentiles(values, (0.1, 99.9))
    if float(values.min()) >= 0 and 1 < float(values.max()) <= 255 and bool((values == np.rint(values)).all()):
        found_low, found_high = (1.0 if kind == "fixed_log" else 0.0), 255.0
    least = max(0.0, found_low) if kind == "fixed_log" else found_low
    return ranged(kind, least if low is None else low, found_high if high is None else high, is_complement)


def ranged(kind: Kind, low: float, high: float, is_complement: bool) -> Scaling:
    """Scaling between two grey values; ``ImageError`` where they are not in order."""
    if not high > low:
        raise ImageError(f"there is no contrast between the grey values {low:g} and {high:g}; give another range")
    ends = (high, low) if is_complement else (low, high)
    return Scaling(kind=kind, low=ends[0], high=ends[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneSettings:
    """How synthetic images are put together; every interval is drawn from evenly, but for gains on a log scale.

    Parameters
    ----------
    size_px : int
        Side of an image, a multiple of 32.
    n_target, n_unwanted : (int, int)
        Objects of each kind, least and most; None for ``n_unwanted``: as many as of the target.
    gain : (float, float)
        Factor of an object's brightness; log-uniform where the scale is logarithmic, and the exponent where layers are
        multiplied.
    zoom : (float, float)
    outside : float
        Share of a crop that may lie outside the image.
    max_overlap : float
        See ``core.placed_crops.OverlapRule``. Complete overlaps are harmful; 0.9 and less is sound.
    is_turning : bool
        Turn and flip crops and backgrounds.
    is_product : bool
        Layers are multiplied instead of added, and nothing is 1: colours of transmitted light.
    is_taken_apart : bool
        The network returns target, background and unwanted layer side by side, and learns them from the layers.
    follows_tracks : bool
        Where the same cell is there at the next time point, the second image shows it as it is then.
    """

    size_px: int = 128
    n_target: Counts = (2, 6)
    n_unwanted: Counts | None = None
    gain: Range = (0.5, 1.5)
    zoom: Range = (0.75, 1.3)
    outside: float = 0.5
    max_overlap: float = 0.9
    is_turning: bool = True
    is_product: bool = False
    is_taken_apart: bool = False
    follows_tracks: bool = False

    def __post_init__(self) -> None:
        if self.size_px < 32 or self.size_px % 32:
            raise ParameterError(f"synthetic images of {self.size_px} px; expected a multiple of 32")
        for name, counts in (("n_target", self.n_target), ("n_unwanted", self.n_unwanted or (0, 0))):
            if not 0 <= counts[0] <= counts[1]:
                raise ParameterError(f"{name} is {counts}; expected least and most, 0 or more")
        for name, ends in (("gain", self.gain), ("zoom", self.zoom)):
            if not 0 < ends[0] <= ends[1] < np.inf:
                raise ParameterError(f"{name} is {ends}; expected two positive numbers in order")
        if not (0 <= self.outside < 1 and 0 <= self.max_overlap <= 1):
            raise ParameterError(f"outside is {self.outside}, max_overlap {self.max_overlap}; expected shares, 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Settings that belong together.

    Parameters
    ----------
    scene : SceneSettings
    scaling : Scaling or None
        None: what suits the crops, see :func:`scaling_of`.
    batch_size, n_steps : int
    learning_rate : float
    """

    scene: SceneSettings
    scaling: Scaling | None = None
    batch_size: int = 8
    learning_rate: float = 3e-4
    n_steps: int = 1500


_SAMPLES_PER_EPOCH = 20_480
PRESETS: Final[Mapping[str, Preset]] = {
    "dock": Preset(scene=SceneSettings()),
    "co-culture": Preset(
        scene=SceneSettings(size_px=256, n_target=(3, 8)), scaling=Scaling(), batch_size=32, learning_rate=3.2e-4,
        n_steps=51 * _SAMPLES_PER_EPOCH // 32,
    ),
    "astrocytes": Preset(
        scene=SceneSettings(
            size_px=256, n_target=(1, 5), n_unwanted=(1, 3), gain=(0.9, 1.1), zoom=(0.9, 1.1), outside=0.1,
            max_overlap=0.5,
        ),
        scaling=Scaling(kind="fixed", low=255.0, high=0.0), batch_size=32, learning_rate=3.2e-4,
        n_steps=101 * _SAMPLES_PER_EPOCH // 32,
    ),
    "microglia": Preset(
        scene=SceneSettings(
            size_px=512, n_target=(1, 5), n_unwanted=(3, 6), gain=(0.05, 10.0), zoom=(0.9, 1.1), max_overlap=1.0
        ),
        scaling=Scaling(kind="fixed_log", low=5.0, high=40_000.0), batch_size=12, learning_rate=1.2e-4,
        n_steps=500 * _SAMPLES_PER_EPOCH // 12,
    ),
}  # fmt: skip
"""One for a first model in minutes, and the three of the paper with their full length."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """A synthetic image and what it is made of, all (C, Y, X), float32 in [0, 1], as the network sees them.

    Parameters
    ----------
    image : ndarray
        Sum (or product) of the layers.
    target, unwanted, background : ndarray
        Each layer by itself; on a logarithmic scale they do not add up any more.
    labels : ndarray of shape (Y, X), uint16
        Objects of the target, 1, 2, …; where two overlap, the later one.
    """

    image: Pixels
    target: Pixels
    unwanted: Pixels
    background: Pixels
    labels: NDArray[np.uint16]

    @property
    def layers(self) -> Pixels:
        """Target, background, unwanted layer, side by side: what a network that takes images apart returns."""
        return np.concatenate([self.target, self.background, self.unwanted])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScenePair:
    """Two images with the same wanted layer."""

    first: Scene
    second: Scene


def fill_null(pixels: Pixels, mask: NDArray[np.bool_], quartiles: Range, rng: np.random.Generator) -> Pixels:
    """A copy of (C, Y, X) in which all that objects left empty has one constant, drawn between two quartiles."""
    filled = pixels.copy()
    filled[:, mask] = np.float32(rng.uniform(*quartiles))
    return filled


class SceneMaker:
    """Draws pairs of scenes.

    Parameters
    ----------
    crops : CropSet
        At least one crop of the target.
    settings : SceneSettings
    scaling : Scaling

    Raises
    ------
    ImageError
        No crop of the target.
    ParameterError
        Layers to be multiplied on a logarithmic scale.
    """

    def __init__(self, crops: CropSet, settings: SceneSettings, scaling: Scaling) -> None:
        if not crops.target:
            raise ImageError("there is no crop of the kind to keep; mark some objects of it first")
        if settings.is_product and scaling.is_log:
            raise ParameterError("layers that are multiplied need no logarithmic scale; choose one of the two")
        self.settings, self.scaling = settings, scaling
        self.n_channels = crops.n_channels
        self._null = np.float32(1.0 if settings.is_product else 0.0)
        white = whites_of(crops) if scaling.kind == "p99" else dict.fromkeys(crops.sources, 1.0)
        self._target = [self._crop(one, white[one.source]) for one in crops.target]
        self._unwanted = [self._crop(one, white[one.source]) for one in crops.unwanted]
        self._next = _next_frames(crops.target) if settings.follows_tracks else {}
        self._backgrounds = [self._ground(one, white[one.source]) for one in crops.backgrounds]

    def draw(self, rng: np.random.Generator) -> ScenePair:
        """One pair."""
        s = self.settings
        n_target = int(rng.integers(s.n_target[0], s.n_target[1] + 1))
        rule = OverlapRule((s.size_px, s.size_px), s.max_overlap)
        first_target, second_target, labels = self._target_layers(n_target, rule, rng)
        scenes = []
        for target in (first_target, second_target):
            unwanted = self._unwanted_layer(n_target, rule.copy(), rng)
            scenes.append(self._scene(target, unwanted, self._background(rng), labels))
        return ScenePair(first=scenes[0], second=scenes[1])

    def _scene(self, target: Pixels, unwanted: Pixels, background: Pixels, labels: NDArray[np.uint16]) -> Scene:
        whole = target * unwanted * background if self.settings.is_product else target + unwanted + background
        final = self.scaling.final
        return Scene(
            image=final(whole), target=final(target), unwanted=final(unwanted), background=final(background),
            labels=labels,
        )  # fmt: skip

    def _target_layers(
        self, n: int, rule: OverlapRule, rng: np.random.Generator
    ) -> tuple[Pixels, Pixels, NDArray[np.uint16]]:
        first, second = self._empty(), self._empty()
        labels = np.zeros(first.shape[1:], np.uint16)
        for number in range(1, n + 1):
            index = int(rng.integers(len(self._target)))
            laid = self._lay(first, self._target[index], rule, rng)
            if laid is None:
                continue
            change, part, at = laid
            on, of = window_on(part.mask.shape, at, (first.shape[1], first.shape[2]))
            labels[on][part.mask[of]] = number
            later = self._next.get(index)
            if later is not None:
                part, at = self._as_later(change, part, at, later)
            self._merge(second, part, at)
        return first, second, labels

    def _as_later(self, change: Change, part: Part, at: tuple[int, int], later: int) -> tuple[Part, tuple[int, int]]:
        """The same cell at the next time point, changed alike, with its middle where it was."""
        other = change.of(self._target[later].part, self.settings.size_px)
        corner = tuple(a + (n - m) // 2 for a, n, m in zip(at, part.mask.shape, other.mask.shape, strict=True))
        return other, (corner[0], corner[1])

    def _unwanted_layer(self, n_target: int, rule: OverlapRule, rng: np.random.Generator) -> Pixels:
        layer, counts = self._empty(), self.settings.n_unwanted
        n = n_target if counts is None else int(rng.integers(counts[0], counts[1] + 1))
        for _ in range(n if self._unwanted else 0):
            self._lay(layer, self._unwanted[int(rng.integers(len(self._unwanted)))], rule, rng)
        return layer

    def _lay(
        self, layer: Pixels, crop: _Crop, rule: OverlapRule, rng: np.random.Generator
    ) -> tuple[Change, Part, tuple[int, int]] | None:
        """Change a crop and lay it where it may lie; None where no place was found in three attempts."""
        change = self._change(crop, rng)
        part = change.of(crop.part, self.settings.size_px)
        for _ in range(_N_ATTEMPTS):
            at = place((layer.shape[1], layer.shape[2]), part.mask.shape, self.settings.outside, rng)
            if rule.accepts(part.mask, at):
                rule.add(part.mask, at)
                self._merge(layer, part, at)
                return change, part, at
        return None

    def _merge(self, layer: Pixels, part: Part, at: tuple[int, int]) -> None:
        on, of = window_on(part.mask.shape, at, (layer.shape[1], layer.shape[2]))
        if self.settings.is_product:
            layer[(slice(None), *on)] *= part.pixels[(slice(None), *of)]
        else:
            layer[(slice(None), *on)] += part.pixels[(slice(None), *of)]

    def _change(self, crop: _Crop, rng: np.random.Generator) -> Change:
        s = self.settings
        low, high = s.gain
        gain = float(np.exp(rng.uniform(np.log(low), np.log(high)))) if self.scaling.is_log else rng.uniform(low, high)
        offset, zoom = float(rng.uniform(*crop.dark)), float(rng.uniform(*s.zoom))
        degrees, flips = float(rng.uniform(0, 90)), rng.random(2) < 0.5
        if not s.is_turning:
            degrees, flips = 0.0, np.zeros(2, bool)
        return Change(
            offset=offset, gain=gain, degrees=degrees, flips=(bool(flips[0]), bool(flips[1])), zoom=zoom,
            is_product=s.is_product,
        )  # fmt: skip

    def _background(self, rng: np.random.Generator) -> Pixels:
        """A window of a background, its gaps filled, turned and flipped; nothing where there is none."""
        from scipy.ndimage import rotate

        if not self._backgrounds:
            return self._empty()
        ground = self._backgrounds[int(rng.integers(len(self._backgrounds)))]
        size = self.settings.size_px
        y, x = (int(rng.integers(n - size + 1)) for n in ground.part.mask.shape)
        window = (slice(y, y + size), slice(x, x + size))
        patch = fill_null(ground.part.pixels[(slice(None), *window)], ground.part.mask[window], ground.quartiles, rng)
        if not self.settings.is_turning:
            return patch
        degrees = float(rng.uniform(0, 90))
        turned = rotate(patch, degrees, axes=(1, 2), reshape=False, order=1, mode="mirror")
        steps = [slice(None, None, -1 if flip else 1) for flip in rng.random(2) < 0.5]
        return np.ascontiguousarray(turned[:, steps[0], steps[1]], np.float32)

    def _empty(self) -> Pixels:
        return np.full((self.n_channels, self.settings.size_px, self.settings.size_px), self._null, np.float32)

    def _crop(self, crop: ObjectCrop, white: float) -> _Crop:
        scaled = self.scaling.linear(crop.pixels, white)
        planes = scaled[None] if scaled.ndim == 2 else np.moveaxis(scaled, 2, 0)
        p0, p10, p90 = percentiles(planes[:, crop.mask], (0, 10, 90))
        if p90 - p10 < _FLAT * p90:
            p0 = p10 = 0.0  # nothing would be left of an even object
        pixels = np.where(crop.mask, planes, self._null).astype(np.float32)
        return _Crop(Part(pixels, crop.mask), (max(0.0, p0), max(0.0, p10)))

    def _ground(self, background: Background, white: float) -> _Ground:
        scaled = self.scaling.linear(background.pixels, white)
        planes = scaled[None] if scaled.ndim == 2 else np.moveaxis(scaled, 2, 0)
        p25, p75 = percentiles(planes[:, ~background.mask], (25, 75))
        widths = [(0, max(0, self.settings.size_px - n)) for n in background.mask.shape]
        return _Ground(
            Part(np.pad(planes, [(0, 0), *widths], mode="symmetric"), np.pad(background.mask, widths, "symmetric")),
            (p25, p75),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Crop:
    """A scaled crop, and between which of its darkest values an offset is drawn."""

    part: Part
    dark: Range


@dataclass(frozen=True, slots=True, eq=False)
class _Ground:
    """A scaled background at least as large as a scene, and its quartiles."""

    part: Part
    quartiles: Range


def whites_of(crops: CropSet) -> dict[str, float]:
    """99th percentile of every image: as stored, or estimated from its background and its crops, or from all images."""
    whites = dict(crops.white)
    missing = [name for name in crops.sources if name not in whites]
    for name in missing:
        values = _values_of(crops.of_sources({name}))
        whites[name] = percentiles(values, (99.0,))[0]
        if not whites[name] > 0:
            raise ImageError(f"the crops of {name!r} have no positive grey values; choose a range of grey values")
    return whites


def _values_of(crops: CropSet) -> NDArray[np.float32]:
    """Grey values of all that is not null."""
    parts = [one.pixels[one.mask].ravel() for one in (*crops.target, *crops.unwanted)]
    parts += [one.pixels[~one.mask].ravel() for one in crops.backgrounds]
    if not parts:
        raise ImageError("there are neither crops nor backgrounds to learn from")
    values = np.concatenate(parts)
    return values[:: -(-values.size // _SAMPLE_PX)]


def _next_frames(crops: Sequence[ObjectCrop]) -> dict[int, int]:
    """Crop of a track → crop of the same cell one frame later."""
    at = {(one.source, one.track, one.frame): i for i, one in enumerate(crops) if one.track is not None}
    later = {i: (one.source, one.track, one.frame + 1) for i, one in enumerate(crops) if one.track is not None}
    return {i: at[key] for i, key in later.items() if key in at}


def preset(name: str) -> Preset:
    """Look up a preset; ``ParameterError`` for one there is not."""
    if name not in PRESETS:
        raise ParameterError(f"there is no preset {name!r}; expected one of {', '.join(PRESETS)}")
    return PRESETS[name]
