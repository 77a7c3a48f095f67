"""The semantic filter's training recipe: pairs that share only what is wanted → a network that returns it.

References
----------
.. [1] Javer & Rittscher, "Semantic filtering through deep source separation on microscopy images", arXiv 1909.00691,
   2019: pairs from crops, pairs of frames, absolute error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_cellenhance.core.crops import CropSet
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.frame_pairs import FramePairs, Polarity, covered, temporal_median
from napari_cellenhance.core.instances import match_instances, overlaps
from napari_cellenhance.core.losses.regression import RegressionLoss, regression_loss
from napari_cellenhance.core.metrics import f1, scale_invariant_psnr
from napari_cellenhance.core.models.semantic_unet import SemanticUNet
from napari_cellenhance.core.postprocess import CleanOptions, clean_labels
from napari_cellenhance.core.recipes.care import split_groups
from napari_cellenhance.core.synthetic_pairs import Scaling, Scene, SceneMaker, SceneSettings

__all__ = [
    "CropPairs", "Movie", "MoviePairs", "SemanticRecipe", "SemanticTraining", "TrainingPairs", "split_crops",
]  # fmt: skip

Pixels = NDArray[np.float32]
_SALT = 0x5EF1
_SMALLEST_PX = 9
_ONE_OBJECT = CleanOptions(n_openings=0, min_size_px=_SMALLEST_PX)
"""How validation finds objects in small synthetic images: Otsu, watershed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SemanticTraining:
    """Settings of the recipe; those of the loop are ``core.training.FitSettings``.

    Parameters
    ----------
    loss : "l1", "smooth_l1" or "smooth_l1_beta1"
        Median, median, or mean of what may be; see ``core.losses.regression``.
    batch_size : int
        Pairs per update.
    validation_fraction : float
        Share of the images (of a movie: of the movies, or of the frames of a single one) that is kept aside.
    n_validation : int
        Pairs of the validation, drawn once.
    """

    loss: RegressionLoss = "l1"
    batch_size: int = 8
    validation_fraction: float = 0.2
    n_validation: int = 16

    def __post_init__(self) -> None:
        if self.loss not in get_args(RegressionLoss):
            raise ParameterError(f"loss is {self.loss!r}; expected one of {', '.join(get_args(RegressionLoss))}")
        if min(self.batch_size, self.n_validation) < 1:
            raise ParameterError(
                f"batch {self.batch_size}, {self.n_validation} for validation; expected 1 or more each"
            )
        if not 0 < self.validation_fraction <= 0.5:
            raise ParameterError(f"validation_fraction is {self.validation_fraction}; expected more than 0, to 0.5")


class TrainingPairs(Protocol):
    """Where pairs come from: crops, or a movie."""

    n_in: int
    n_out: int
    patch_px: int
    is_split_inside: bool
    aside_names: tuple[str, ...]

    def draw(self, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
        """One pair (``n_in``, Y, X), (``n_out``, Y, X)."""
        ...

    def validation(self) -> list[tuple[Pixels, Pixels]]:
        """Pairs that never change, of what was kept aside."""
        ...

    def scores(self, outputs: Pixels) -> dict[str, float]:
        """What the network made of the first members of :meth:`validation`, against what is known of the truth."""
        ...


# --- from crops ------------------------------------------------------------------------------


def split_crops(crops: CropSet, fraction: float, seed: int) -> tuple[CropSet, CropSet, bool]:
    """Crops to learn from, crops to validate on, and whether whole images were kept aside.

    Where the crops of the target come from a single image, or whole images would leave one side without a kind of
    crop, a share of the crops is kept aside instead, and the backgrounds serve both sides.

    Raises
    ------
    ImageError
        Fewer than two crops of the target.
    """
    if len(crops.target) < 2:
        raise ImageError(
            f"{len(crops.target)} crop of the kind to keep is too little: one learns, another one validates; mark more"
        )
    for attempt in range(8):
        aside = split_groups([one.source for one in crops.target], fraction, seed + 1000 * attempt)
        learned, kept = crops.of_sources(set(crops.sources) - aside), crops.of_sources(aside)
        if aside and _is_sound(learned, crops) and _is_sound(kept, crops):
            return learned, kept, True
    rng = np.random.default_rng([_SALT, seed])
    of_target, of_unwanted = (_some_aside(len(part), fraction, rng) for part in (crops.target, crops.unwanted))
    parts = [
        CropSet(
            target=tuple(one for one, is_kept in zip(crops.target, of_target, strict=True) if is_kept == is_aside),
            unwanted=tuple(one for one, is_kept in zip(crops.unwanted, of_unwanted, strict=True) if is_kept == is_aside)
            or crops.unwanted,
            backgrounds=crops.backgrounds, white=crops.white,
        )
        for is_aside in (False, True)
    ]  # fmt: skip
    return parts[0], parts[1], False


def _is_sound(part: CropSet, whole: CropSet) -> bool:
    """A part has of everything that the whole has."""
    return (
        bool(part.target)
        and bool(part.unwanted) == bool(whole.unwanted)
        and bool(part.backgrounds) == bool(whole.backgrounds)
    )


def _some_aside(n: int, fraction: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    is_aside = np.zeros(n, bool)
    is_aside[rng.permutation(n)[: min(n - 1, max(1, round(fraction * n)))]] = n > 1
    return is_aside


class CropPairs:
    """Synthetic pairs from crops; whole images are kept aside.

    Parameters
    ----------
    crops : CropSet
    scene : SceneSettings
    scaling : Scaling
    training : SemanticTraining
    seed : int

    Raises
    ------
    ImageError
        Too few crops of the target.
    """

    def __init__(
        self, crops: CropSet, scene: SceneSettings, scaling: Scaling, training: SemanticTraining, seed: int
    ) -> None:
        learned, kept, is_by_source = split_crops(crops, training.validation_fraction, seed)
        self.learned, self.kept = learned, kept
        self.is_split_inside = not is_by_source
        self.aside_names = kept.sources if is_by_source else ()
        self.patch_px = scene.size_px
        self.scene, self.scaling = scene, scaling
        self._maker = SceneMaker(learned, scene, scaling)
        self.n_in = self._maker.n_channels
        self.n_out = 3 * self.n_in if scene.is_taken_apart else self.n_in
        maker = SceneMaker(kept, scene, scaling)
        rng = np.random.default_rng([_SALT, seed, 1])
        self.aside = [maker.draw(rng) for _ in range(training.n_validation)]

    def draw(self, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
        """An image, and another one with the same wanted layer (or its own layers)."""
        pair = self._maker.draw(rng)
        return pair.first.image, self._wanted(pair.first, pair.second)

    def validation(self) -> list[tuple[Pixels, Pixels]]:
        """The same of crops that were kept aside."""
        return [(pair.first.image, self._wanted(pair.first, pair.second)) for pair in self.aside]

    def _wanted(self, first: Scene, second: Scene) -> Pixels:
        return first.layers if self.scene.is_taken_apart else second.image

    def scores(self, outputs: Pixels) -> dict[str, float]:
        """How well the wanted layer comes out.

        Returns
        -------
        dict of str to float
            ``correlation`` with the wanted layer; ``psnr_db`` after the best affine fit, relative to the range [0, 1];
            ``f1`` of the objects found in it by Otsu and watershed (IoU 0.5 or more), all images together;
            ``leak``: mean of what is left of unwanted objects, as a share of their brightness.
        """
        correlations, psnrs, leaks = [], [], []
        counts = np.zeros(3, int)
        for found, pair in zip(outputs[:, : self.n_in], self.aside, strict=True):
            scene = pair.first
            if scene.target.std() > 0:
                centred = found.std() > 0
                correlations.append(np.corrcoef(found.ravel(), scene.target.ravel())[0, 1] if centred else 0.0)
                psnrs.append(scale_invariant_psnr(found, scene.target, 1.0))
            null = 1.0 if self.scene.is_product else 0.0
            alone = (np.abs(scene.unwanted - null) > 0.05) & (scene.labels == 0)
            if alone.any():
                ground = float(np.median(found[:, scene.labels == 0]))
                leaks.append(float(np.mean(found[alone] - ground) / np.mean(scene.unwanted[alone] - null)))
            plane = found.mean(axis=0) * (-1 if self.scene.is_product else 1)
            matches = match_instances(overlaps(scene.labels, clean_labels(plane, _ONE_OBJECT)))
            counts += (matches.tp, matches.fp, matches.fn)
        return {
            "correlation": _mean(correlations), "psnr_db": _mean(psnrs), "leak": _mean(leaks),
            "f1": f1(int(counts[0]), int(counts[1]), int(counts[2])),
        }  # fmt: skip


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0


# --- from movies -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Movie:
    """Frames of a scene that stands still but for its objects.

    Parameters
    ----------
    frames : ndarray of shape (T, C, Y, X), float32
        As the network sees them.
    group : str
        Movies of one group learn, or validate, together.
    """

    frames: Pixels
    group: str
    name: str = "movie"


class MoviePairs:
    """Pairs of frames; whole movies are kept aside, or the last frames of the only one.

    Parameters
    ----------
    movies : sequence of Movie
    lag : int
        Frames between the members of a pair.
    patch_px : int
    polarity : "dark", "bright" or "both"
        Of what moves, as the network sees it.
    training : SemanticTraining
    seed : int

    Raises
    ------
    ImageError
        Movies too short or too small.
    """

    def __init__(
        self,
        movies: Sequence[Movie],
        lag: int,
        patch_px: int,
        polarity: Polarity,
        training: SemanticTraining,
        seed: int,
    ) -> None:
        aside = split_groups([movie.group for movie in movies], training.validation_fraction, seed)
        self.is_split_inside = not aside
        if aside:
            learned = [movie.frames for movie in movies if movie.group not in aside]
            kept = [movie for movie in movies if movie.group in aside]
            held = [movie.frames for movie in kept]
        else:
            kept = list(movies)
            cuts = [_cut(movie, lag, training.validation_fraction) for movie in movies]
            learned = [movie.frames[:cut] for movie, cut in zip(movies, cuts, strict=True)]
            held = [movie.frames[cut:] for movie, cut in zip(movies, cuts, strict=True)]
        self.aside_names = tuple(sorted(aside))
        self.kept, self.held, self.polarity = kept, held, polarity
        self._pairs = FramePairs(learned, lag, patch_px)
        pairs = FramePairs(held, lag, self._pairs.patch_px)
        self.patch_px = pairs.patch_px
        self.n_in = self.n_out = int(movies[0].frames.shape[1])
        rng = np.random.default_rng([_SALT, seed, 1])
        self._spots = [pairs.spot(rng) for _ in range(training.n_validation)]
        self._validation, self._medians, self._covered = [], [], []
        for spot in self._spots:
            frames = held[spot.movie]
            self._validation.append((pairs.cut(frames[spot.frames[0]], spot), pairs.cut(frames[spot.frames[1]], spot)))
            whole = pairs.cut(kept[spot.movie].frames, spot)
            self._medians.append(temporal_median(whole))
            self._covered.append(covered(whole.mean(axis=1), polarity)[len(whole) - len(frames) + spot.frames[0]])

    def draw(self, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
        """Two frames at one place."""
        return self._pairs.draw(rng)

    def validation(self) -> list[tuple[Pixels, Pixels]]:
        """The same of frames that were kept aside."""
        return self._validation

    def scores(self, outputs: Pixels) -> dict[str, float]:
        """How much of what moves is left, judged by the temporal median of the whole movie.

        Returns
        -------
        dict of str to float
            ``ghost``: mean of (output − median) under objects, as a share of the same of the frame: 0 where they are
            gone, 1 where they are as before. ``scene_error``: mean |output − median| elsewhere, in the range of the
            network.
        """
        medians, is_covered = np.stack(self._medians), np.stack(self._covered)
        frames = np.stack([first for first, _ in self._validation])
        where = np.broadcast_to(is_covered[:, None], frames.shape)
        depth = float((frames - medians)[where].mean()) if where.any() else 0.0
        left = float((outputs - medians)[where].mean()) if where.any() else 0.0
        elsewhere = float(np.abs(outputs - medians)[~where].mean()) if not where.all() else 0.0
        return {"ghost": left / depth if depth else 0.0, "scene_error": elsewhere}


def _cut(movie: Movie, lag: int, fraction: float) -> int:
    """First frame that is kept aside; both parts hold at least one pair."""
    n = len(movie.frames)
    n_aside = max(lag + 1, round(fraction * n))
    if n - n_aside <= lag:
        raise ImageError(
            f"“{movie.name}” has {n} frames; with a lag of {lag} at least {2 * lag + 2} are needed, to learn and to "
            "validate"
        )
    return n - n_aside


# --- the recipe ------------------------------------------------------------------------------


class SemanticRecipe:
    """Binds pairs and network behind ``core.training.TrainableRecipe``.

    Parameters
    ----------
    module : SemanticUNet
        Trained in place, on the device where it is.
    pairs : TrainingPairs
    settings : SemanticTraining
    use_bf16 : bool
        bf16 autocast; the loss stays in float32.

    Raises
    ------
    ParameterError
        A network of other channels than the pairs.
    """

    def __init__(
        self, module: SemanticUNet, pairs: TrainingPairs, settings: SemanticTraining, *, use_bf16: bool = False
    ) -> None:
        if (module.n_in, module.n_out) != (pairs.n_in, pairs.n_out):
            raise ParameterError(
                f"the network takes {module.n_in} channels to {module.n_out}, the images {pairs.n_in} to "
                f"{pairs.n_out}; choose another network"
            )
        self.network = module.to_channels_last()
        self.module: nn.Module = self.network
        self.pairs, self.settings, self.use_bf16 = pairs, settings, use_bf16
        self._validation = pairs.validation()

    def loss(self, rng: np.random.Generator, step: int) -> dict[str, Tensor]:
        """One batch: ``total``, and the absolute error ``mae`` where that is not the loss."""
        drawn = [self.pairs.draw(rng) for _ in range(self.settings.batch_size)]
        found, target = self._forward(drawn)
        return self._losses(found, target)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The same over pairs of what was kept aside, and the scores of the pairs' own kind."""
        was_training = self.module.training
        self.module.eval()
        totals: dict[str, float] = {}
        outputs = []
        for start in range(0, len(self._validation), self.settings.batch_size):
            batch = self._validation[start : start + self.settings.batch_size]
            found, target = self._forward(batch)
            for name, value in self._losses(found, target).items():
                totals[name] = totals.get(name, 0.0) + float(value) * len(batch)
            outputs.append(found.cpu().numpy())
        self.module.train(was_training)
        means = {name: value / len(self._validation) for name, value in totals.items()}
        return means | self.pairs.scores(np.concatenate(outputs))

    def _forward(self, pairs: Sequence[tuple[Pixels, Pixels]]) -> tuple[Tensor, Tensor]:
        device = next(self.module.parameters()).device
        given, target = (torch.from_numpy(np.stack([pair[i] for pair in pairs])).to(device) for i in (0, 1))
        given = given.to(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.use_bf16):
            found = self.module(given)
        return found.float(), target

    def _losses(self, found: Tensor, target: Tensor) -> dict[str, Tensor]:
        losses = {"total": regression_loss(self.settings.loss, found, target)}
        if self.settings.loss != "l1":
            losses["mae"] = (found.detach() - target).abs().mean()
        return losses
