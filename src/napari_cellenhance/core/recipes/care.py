"""CARE's training recipe: patches of poor and clean images → Laplace likelihood of the clean value of every pixel.

References
----------
.. [1] Weigert et al., Nat. Methods 15, 2018 (CARE): network, likelihood, patches, Adam 4e-4 halved on a plateau.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_cellenhance.core.affine_fit import PairMoments
from napari_cellenhance.core.augment import dihedral
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.losses.laplace import laplace_nll
from napari_cellenhance.core.models.csb_unet import CSBUNet
from napari_cellenhance.core.normalize import fit_normalizer
from napari_cellenhance.core.paired_patches import DRAWN_HIGH, DRAWN_LOW, PatchPlaces, PercentileCurve

__all__ = [
    "CarePair",
    "CareRecipe",
    "CareTraining",
    "CleanScale",
    "Loss",
    "calibration_of",
    "split_groups",
    "within_half",
]

_LOG = logging.getLogger(__name__)
Loss = Literal["laplace", "mae", "mse"]
CleanScale = Literal["poor", "own"]
Pixels = NDArray[np.float32]
_SALT = 0xCA2E
_LN2 = math.log(2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CareTraining:
    """Settings of the recipe; those of the loop are ``core.training.FitSettings``.

    Parameters
    ----------
    loss : "laplace", "mae" or "mse"
        Likelihood of a Laplace distribution, for a network with two heads; or an error, for one with a single head.
    patch_px : int
        Side of a patch; as much of it as the image has, down to a multiple of the network's grid. Those of the paper,
        16 and 32, are smaller than what a pixel sees.
    patch_depth : int
        Planes of a patch of a volume.
    n_patches : int
        Places in each image, drawn once; 0 draws new places for every update.
    batch_size : int
        Patches per update.
    threshold : float
        Only patches with something brighter, near their middle, than this share of the brightest; 0: any patch.
    percentiles : "drawn" or "fixed"
        Ranks that bring a pair to the range of the network: drawn for each patch within 1–3 and 99.5–99.9, the same for
        both members, or always ``lo`` and ``hi``.
    lo, hi : float
        Ranks of the validation, and of images that are restored.
    clean_scale : "poor" or "own"
        What the clean image is normalised by: the percentiles of the poor image, to whose grey values it is brought by
        least squares, so that nothing has to be guessed of the gain between the two; pairs that have nothing in common
        are left out. Or its own percentiles, as published.
    has_symmetries : bool
        Turn and flip patches, eight ways.
    validation_fraction : float
        Share of the images that is kept aside, whole images with all their exposures; of a single one, its last rows.
    n_validation : int
        Patches of the validation.
    scale_power : float
        Of ``core.losses.laplace.laplace_nll``, 0 to 1; 0 is the published likelihood. Validations are without it.
    """

    loss: Loss = "laplace"
    patch_px: int = 64
    patch_depth: int = 16
    n_patches: int = 0
    batch_size: int = 16
    threshold: float = 0.4
    percentiles: Literal["drawn", "fixed"] = "drawn"
    lo: float = 2.0
    hi: float = 99.8
    clean_scale: CleanScale = "poor"
    has_symmetries: bool = True
    validation_fraction: float = 0.2
    n_validation: int = 64
    scale_power: float = 0.0

    def __post_init__(self) -> None:
        if self.loss not in get_args(Loss) or self.percentiles not in ("drawn", "fixed"):
            raise ParameterError(
                f"loss {self.loss!r}, percentiles {self.percentiles!r}; expected 'laplace', 'mae' or 'mse', and "
                "'drawn' or 'fixed'"
            )
        if self.clean_scale not in get_args(CleanScale):
            raise ParameterError(f"clean_scale is {self.clean_scale!r}; expected 'poor' or 'own'")
        if min(self.patch_px, self.patch_depth, self.batch_size, self.n_validation) < 1 or self.n_patches < 0:
            raise ParameterError(
                f"patches of {self.patch_px} px and {self.patch_depth} planes, {self.n_patches} per image, batch "
                f"{self.batch_size}, {self.n_validation} for validation; expected 1 or more each"
            )
        if not 0 < self.validation_fraction <= 0.5:
            raise ParameterError(f"validation_fraction is {self.validation_fraction}; expected more than 0, to 0.5")
        if not 0 <= self.scale_power <= 1:
            raise ParameterError(f"scale_power is {self.scale_power}; expected 0 (the likelihood) to 1")
        if not 0 <= self.lo < self.hi <= 100:
            raise ParameterError(f"percentiles are {self.lo} and {self.hi}; expected 0 ≤ lo < hi ≤ 100")


@dataclass(frozen=True, slots=True, eq=False)
class CarePair:
    """A poor and a clean image of the same place.

    Parameters
    ----------
    poor, clean : ndarray of shape ([Z,] Y, X), float32
        In their own grey values, finite.
    group : str
        Pairs of one group show the same sample: all of them learn, or all of them validate.
    weight : float
        How often it is drawn, in relation to its size.
    """

    poor: Pixels
    clean: Pixels
    group: str
    name: str = "image"
    weight: float = 1.0


def split_groups(groups: Sequence[str], fraction: float, seed: int) -> set[str]:
    """Groups to keep aside: a share of them, at least one, never all; none of a single group.

    Examples
    --------
    >>> len(split_groups(["a", "a", "b", "c", "d", "e"], 0.2, seed=0))
    1
    """
    names = sorted(set(groups))
    if len(names) < 2:
        return set()
    n = min(len(names) - 1, max(1, round(fraction * len(names))))
    chosen = np.random.default_rng([_SALT, seed]).choice(len(names), n, replace=False)
    return {names[int(i)] for i in chosen}


def within_half(error: NDArray[np.floating], scale: NDArray[np.floating]) -> float:
    """Share of pixels whose absolute error is at most σ·ln 2; 0.5 where the scale is right."""
    return float((np.abs(error) <= scale * _LN2).mean())


def calibration_of(error: NDArray[np.floating], scale: NDArray[np.floating]) -> float:
    """Factor of the scale that makes :func:`within_half` one half: median of |error| / (σ·ln 2).

    Examples
    --------
    >>> round(calibration_of(np.array([1.0, 2.0, 3.0]), np.ones(3)) * float(np.log(2)), 6)
    2.0
    """
    return float(np.median(np.abs(error) / (scale * _LN2)))


class CareRecipe:
    """Binds pairs and network behind ``core.training.TrainableRecipe``.

    Parameters
    ----------
    module : CSBUNet
        Of one channel, with two heads where the loss is a likelihood; trained in place, on the device where it is.
    pairs : sequence of CarePair
    settings : CareTraining
    seed : int
        Of the split, of fixed places, and of the patches of the validation.
    use_bf16 : bool
        bf16 autocast; the loss stays in float32.

    Attributes
    ----------
    kept_aside : list of CarePair
        Validation images, whole, or the last rows of the only one.
    is_split_in_space : bool
        There was one image only.
    left_out : tuple of str
        Names of pairs whose members have nothing in common, such as planes beside the sample; none with the scale
        ``own``.

    Raises
    ------
    ImageError
        No pair; one of different sizes, other dimensions, too small, or of one single grey value; half of the pairs
        have nothing in common.
    ParameterError
        A network that does not fit the loss.
    """

    def __init__(
        self,
        module: CSBUNet,
        pairs: Sequence[CarePair],
        settings: CareTraining,
        *,
        seed: int = 0,
        use_bf16: bool = False,
    ) -> None:
        if not pairs:
            raise ImageError("no pair of images was given to learn from; choose at least one")
        if module.is_probabilistic != (settings.loss == "laplace"):
            heads = "two heads" if settings.loss == "laplace" else "one head"
            raise ParameterError(f"the loss {settings.loss!r} needs a network with {heads}")
        self.network = module.to_channels_last()
        self.module: nn.Module = self.network
        self.settings, self.use_bf16 = settings, use_bf16
        for pair in pairs:
            _check(pair, module)
        self.left_out: tuple[str, ...] = ()
        if settings.clean_scale == "poor":
            pairs, self.left_out = _with_something_in_common(pairs)
        aside = split_groups([pair.group for pair in pairs], settings.validation_fraction, seed)
        self.is_split_in_space = not aside
        if aside:
            learned = [_Source(pair, pair, settings) for pair in pairs if pair.group not in aside]
            kept = [_Source(pair, pair, settings) for pair in pairs if pair.group in aside]
        else:
            parts = [_cut(pair, settings.validation_fraction, module.settings.grid_px) for pair in pairs]
            learned = [_Source(first, pair, settings) for (first, _), pair in zip(parts, pairs, strict=True)]
            kept = [_Source(last, pair, settings) for (_, last), pair in zip(parts, pairs, strict=True)]
        self.kept_aside = [source.part for source in kept]
        self._normalised_aside = [source.normalised() for source in kept]
        self._known_places: dict[int, PatchPlaces] = {}
        self._sources = [_Placed(source, self._places(source), settings, seed, i) for i, source in enumerate(learned)]
        areas = np.array([source.part.weight * float(source.part.clean.size) for source in learned])
        self._chances = areas / areas.sum()
        self._validation = self._make_validation(kept, seed)

    @property
    def n_eligible(self) -> int:
        """Places that patches are drawn from, in all images together."""
        return sum(source.n_places for source in self._sources)

    @property
    def normalised_aside(self) -> list[tuple[Pixels, Pixels]]:
        """Validation images, poor and clean, as the network sees images that are restored."""
        return self._normalised_aside

    def loss(self, rng: np.random.Generator, step: int) -> dict[str, Tensor]:
        """One batch: ``total``, and absolute (``mae``) and squared error (``mse``) of the mean."""
        drawn = [self._draw(rng) for _ in range(self.settings.batch_size)]
        return self._losses(*_batch(drawn))

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The same over patches that were kept aside, and ``mae_of_input``: absolute error of the poor patches.

        Of a likelihood also ``within_half``: share within σ·ln 2.
        """
        was_training = self.module.training
        self.module.eval()
        totals: dict[str, float] = {}
        n = 0
        for poor, clean in self._validation:
            losses = self._losses(poor, clean, is_validation=True)
            losses["mae_of_input"] = (poor - clean).abs().mean()
            for name, value in losses.items():
                totals[name] = totals.get(name, 0.0) + float(value) * len(poor)
            n += len(poor)
        self.module.train(was_training)
        return {name: value / n for name, value in totals.items()}

    def random_patch(self, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
        """One patch of the training, poor and clean, as the network sees it."""
        return self._draw(rng)

    def _places(self, source: _Source) -> PatchPlaces:
        s, grid = self.settings, self.network.settings.grid_px
        shape = source.part.clean.shape
        wanted = (s.patch_depth, s.patch_px, s.patch_px)[-len(shape) :]
        sides = [max(grid, min(want, size) // grid * grid) for want, size in zip(wanted, shape, strict=True)]
        key = id(source.part.clean)  # exposures of one sample share their clean image, and so its places
        if key not in self._known_places:
            self._known_places[key] = PatchPlaces(source.own_clean(), sides, s.threshold)
        return self._known_places[key]

    def _draw(self, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
        source = self._sources[int(rng.choice(len(self._sources), p=self._chances))]
        window = source.window(rng)
        ranks = (self.settings.lo, self.settings.hi)
        if self.settings.percentiles == "drawn":
            ranks = (float(rng.uniform(*DRAWN_LOW)), float(rng.uniform(*DRAWN_HIGH)))
        poor, clean = source.source.patch(window, ranks)
        if not self.settings.has_symmetries:
            return poor, clean
        symmetry = int(rng.integers(8))
        return _turned(poor, symmetry), _turned(clean, symmetry)

    def _losses(self, poor: Tensor, clean: Tensor, *, is_validation: bool = False) -> dict[str, Tensor]:
        device = next(self.module.parameters()).device
        poor, clean = poor.to(device), clean.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.use_bf16):
            found = self.module(poor)
        found = found.float()
        error = found[:, :1] - clean
        mae, mse = error.abs().mean(), (error**2).mean()
        if self.settings.loss != "laplace":
            total = mae if self.settings.loss == "mae" else mse
            return {"total": total, "mae": mae.detach(), "mse": mse.detach()}
        scale = found[:, 1:]
        power = 0.0 if is_validation else self.settings.scale_power
        losses = {"total": laplace_nll(found[:, :1], scale, clean, power), "mae": mae.detach(), "mse": mse.detach()}
        if is_validation:
            losses["within_half"] = (error.abs() <= scale * _LN2).float().mean()
        return losses

    def _make_validation(self, kept: Sequence[_Source], seed: int) -> list[tuple[Tensor, Tensor]]:
        """Patches that never change, as many of each image."""
        s = self.settings
        rng = np.random.default_rng([_SALT, seed, 1])
        n = s.n_validation
        of_all = np.arange(n) % len(kept) if n >= len(kept) else np.linspace(0, len(kept) - 1, n).round().astype(int)
        found: dict[tuple[int, ...], list[tuple[Pixels, Pixels]]] = {}
        for i in of_all:
            source = kept[int(i)]
            patch = source.patch(self._places(source).draw(rng), (s.lo, s.hi))
            found.setdefault(patch[0].shape, []).append(patch)
        n = s.batch_size
        return [_batch(same[i : i + n]) for same in found.values() for i in range(0, len(same), n)]


class _Source:
    """A pair, or a part of one, with the percentiles of the whole."""

    def __init__(self, part: CarePair, whole: CarePair, settings: CareTraining) -> None:
        self.part = part
        self._settings = settings
        self._ranges: list[tuple[float, float]] = []
        self._curves: list[PercentileCurve | None] = []
        for image in (whole.poor, whole.clean):
            normalizer = fit_normalizer("percentile", image, lo=settings.lo, hi=settings.hi)
            normalizer = fit_normalizer("minmax", image) if normalizer.is_flat else normalizer
            if normalizer.is_flat:
                raise ImageError(f"“{whole.name}” has one single grey value; leave the pair out")
            ends = tuple(normalizer.parameters[key] for key in _ENDS[normalizer.name])
            self._ranges.append((ends[0], ends[1]))
            self._curves.append(PercentileCurve.of(image) if settings.percentiles == "drawn" else None)

        self._own = self._ranges[1]
        if settings.clean_scale == "poor":
            slope, offset = _fit(whole)
            self._ranges[1] = tuple((end - offset) / slope for end in self._ranges[0])  # type: ignore[assignment]
            of_poor = self._curves[0]
            if of_poor is not None:
                self._curves[1] = PercentileCurve((of_poor.low - offset) / slope, (of_poor.high - offset) / slope)

    def own_clean(self) -> Pixels:
        """The clean image by its own percentiles: its ground is about 0."""
        low, high = self._own
        return np.asarray((self.part.clean.astype(np.float64) - low) / (high - low), np.float32)

    def normalised(self) -> tuple[Pixels, Pixels]:
        """Both members by the ranks of images that are restored."""
        return self.patch((slice(None),) * self.part.clean.ndim, (self._settings.lo, self._settings.hi))

    def patch(self, window: tuple[slice, ...], ranks: tuple[float, float]) -> tuple[Pixels, Pixels]:
        """A window of both members, normalised."""
        found = []
        for image, known, curve in zip((self.part.poor, self.part.clean), self._ranges, self._curves, strict=True):
            low, high = known
            if curve is not None and ranks != (self._settings.lo, self._settings.hi):
                drawn = curve.at(*ranks)
                low, high = drawn if drawn[1] > drawn[0] else known
            found.append(np.asarray((image[window].astype(np.float64) - low) / (high - low), np.float32))
        return found[0], found[1]


def _fit(pair: CarePair) -> tuple[float, float]:
    """Slope and offset that bring the clean image to the grey values of the poor one."""
    moments = PairMoments()
    moments.add(pair.clean, pair.poor)
    return moments.slope, moments.offset


def _with_something_in_common(pairs: Sequence[CarePair]) -> tuple[list[CarePair], tuple[str, ...]]:
    """Pairs whose poor image is brighter where the clean one is, and the names of the others.

    A few others are planes beside the sample; many are pairs that were put together wrongly.
    """
    found: list[CarePair] = []
    left_out: list[str] = []
    for pair in pairs:
        is_flat = min(float(np.ptp(pair.poor)), float(np.ptp(pair.clean))) == 0  # of which more can be said later
        if is_flat or _fit(pair)[0] > 0:
            found.append(pair)
        else:
            left_out.append(pair.name)
    if 2 * len(left_out) >= len(pairs):
        raise ImageError(
            f"in {len(left_out)} of {len(pairs)} pairs, such as “{left_out[0]}”, the images have nothing in common: "
            "where the clean one is bright, the poor one is not; check that they show the same place, in the same order"
        )
    if left_out:
        _LOG.warning("Left out, as their images have nothing in common: %s", ", ".join(left_out))
    return found, tuple(left_out)


_ENDS = {"percentile": ("p_low", "p_high"), "minmax": ("low", "high")}


class _Placed:
    """A source, and where its patches lie: any eligible place, or some that were drawn once."""

    def __init__(self, source: _Source, places: PatchPlaces, settings: CareTraining, seed: int, index: int) -> None:
        self.source = source
        self._places = places
        rng = np.random.default_rng([_SALT, seed, 2, index])
        self._fixed = [places.draw(rng) for _ in range(settings.n_patches)]

    @property
    def n_places(self) -> int:
        """Places to choose from."""
        return len(self._fixed) or self._places.n_eligible

    def window(self, rng: np.random.Generator) -> tuple[slice, ...]:
        """One of them."""
        return self._fixed[int(rng.integers(len(self._fixed)))] if self._fixed else self._places.draw(rng)


def _check(pair: CarePair, module: CSBUNet) -> None:
    if pair.poor.shape != pair.clean.shape or pair.clean.ndim != module.settings.n_dims:
        raise ImageError(
            f"“{pair.name}” has the shapes {pair.poor.shape} and {pair.clean.shape}; expected the same, of "
            f"{module.settings.n_dims} dimensions"
        )
    if min(pair.clean.shape) < module.settings.grid_px:
        sides = " × ".join(map(str, pair.clean.shape))
        raise ImageError(f"“{pair.name}” is {sides} px; the network needs {module.settings.grid_px} px along each axis")
    if not (np.isfinite(pair.poor).all() and np.isfinite(pair.clean).all()):
        raise ImageError(f"“{pair.name}” has values that are no numbers; replace them first")


def _cut(pair: CarePair, fraction: float, grid_px: int) -> tuple[CarePair, CarePair]:
    """Rows to learn from, and the last ones to validate on."""
    height = pair.clean.shape[-2]
    n = max(grid_px, round(fraction * height))
    if height - n < grid_px:
        raise ImageError(
            f"“{pair.name}” has {height} rows, too few to keep some aside; give more images, or larger ones"
        )

    def rows(part: slice) -> CarePair:
        window = (..., part, slice(None))
        return CarePair(pair.poor[window], pair.clean[window], pair.group, pair.name, pair.weight)

    return rows(slice(0, height - n)), rows(slice(height - n, height))


def _turned(image: Pixels, symmetry: int) -> Pixels:
    """Symmetry of the plane, of every plane of a volume."""
    if image.ndim == 2:
        return dihedral(image, symmetry)
    return np.stack([dihedral(plane, symmetry) for plane in image])


def _batch(patches: Sequence[tuple[Pixels, Pixels]]) -> tuple[Tensor, Tensor]:
    """Two batches (N, 1, …); where patches differ in size, cut to what all have."""
    least = np.array([poor.shape for poor, _ in patches]).min(axis=0)
    window = tuple(slice(0, int(n)) for n in least)
    poor, clean = (np.stack([pair[i][window] for pair in patches])[:, None] for i in (0, 1))
    return torch.from_numpy(np.ascontiguousarray(poor)), torch.from_numpy(np.ascontiguousarray(clean))
