"""Ways to take two kinds of objects apart: semantic filter, threshold, dictionaries of patches, supervised U-Net.

Every way learns from the same crops, chooses its settings on images made of them, and gives a layer and labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.crops import CropSet
from napari_cellenhance.core.instances import match_instances, overlaps
from napari_cellenhance.core.metrics import f1
from napari_cellenhance.core.postprocess import CleanOptions, clean_labels
from napari_cellenhance.core.synthetic_pairs import SceneSettings
from napari_cellenhance.workflows._evaluate_semantic_data import TOP, Plane
from napari_cellenhance.workflows._evaluate_semantic_scenes import Mixture

if TYPE_CHECKING:
    from napari_cellenhance.core.device import DeviceChoice
    from napari_cellenhance.workflows.evaluate_semantic import EvaluateSemanticRequest

__all__ = ["METHODS", "NOT_APPLICABLE", "Lesson", "Made", "Objects", "Way", "open_way", "tuned"]

METHODS: Final[Mapping[str, str]] = {
    "image": "the image itself, threshold",
    "threshold": "threshold and size",
    "nmf": "NMF of patches",
    "unet": "supervised U-Net",
    "semantic": "semantic filter",
}
NOT_APPLICABLE: Final[Mapping[str, str]] = {
    "ICA": "does not apply: it needs at least as many channels as there are layers, and here is one"
}
_FACTORS = (0.5, 0.75, 1.0)
_OPENINGS = (0, 2)
_SIZES = (0.25, 0.5)
"""Least sizes of an object that are tried, as shares of the median area of the target."""
_THRESHOLDS = (0.3, 0.5, 0.7)
"""Of the probability of an object, for the U-Net."""
_PATCH_PX, _STRIDE_PX, _RANK = 12, 3, 24
_MAX_PATCHES = 2000
_LEARN_ITERATIONS, _USE_ITERATIONS = 120, 60


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lesson:
    """What a way learns from.

    Parameters
    ----------
    crops : CropSet
        For the semantic filter.
    scene : SceneSettings
        How it puts images together.
    learn : list of Mixture
        Images with labels for the U-Net, with layers for the dictionaries.
    tune : list of Mixture
        Images to choose settings on, of all degrees of overlap.
    """

    crops: CropSet
    scene: SceneSettings
    learn: list[Mixture]
    tune: list[Mixture]


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """The wanted layer as it was recovered, and its objects."""

    layer: Plane
    labels: NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """How objects are found in a layer; larger ones than ``max_size_px`` are dropped, 0: none."""

    clean: CleanOptions
    max_size_px: int = 0

    def of(self, layer: Plane) -> NDArray[np.integer[Any]]:
        """Label the objects of a layer."""
        return _sifted(clean_labels(layer, self.clean), self.clean.min_size_px, self.max_size_px)

    @property
    def words(self) -> str:
        """For a table."""
        size = f"{self.clean.min_size_px}–{self.max_size_px}" if self.max_size_px else f"≥ {self.clean.min_size_px}"
        return f"Otsu × {self.clean.threshold_factor:g}, {self.clean.n_openings} openings, {size} px"


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """A way that has learned: what it does with an image, and the settings it chose."""

    apply: Callable[[Plane], Made]
    setting: str


def open_way(
    method: str, lesson: Lesson, request: EvaluateSemanticRequest, seed: int, choice: DeviceChoice,
    *, on_step: Callable[[int], None] = lambda step: None, is_cancelled: Callable[[], bool] = lambda: False,
) -> Way | None:  # fmt: skip
    """Learn, and choose settings; None after a cancel."""
    if method == "unet":
        return _unet(lesson, request, seed, choice, on_step, is_cancelled)
    if method == "semantic":
        filtered = _semantic(lesson, request, seed, on_step, is_cancelled)
        return None if filtered is None else _with_objects(filtered, lesson.tune)
    if method == "nmf":
        return _with_objects(_nmf(lesson.learn, seed), lesson.tune)
    if method == "image":
        return _with_objects(lambda image: image, lesson.tune, has_size=False)
    objects = tuned([one.image for one in lesson.tune], [one.labels for one in lesson.tune], has_largest=True)
    return Way(lambda image: _masked(image, objects.of(image)), objects.words)


def _with_objects(filtered: Callable[[Plane], Plane], tune: Sequence[Mixture], *, has_size: bool = True) -> Way:
    """A way that makes a layer; its objects are found with the settings that suit other images best."""
    objects = tuned([filtered(one.image) for one in tune], [one.labels for one in tune], has_size=has_size)

    def apply(image: Plane) -> Made:
        layer = filtered(image)
        return Made(layer, objects.of(layer))

    return Way(apply, objects.words)


def _masked(image: Plane, labels: NDArray[np.integer[Any]]) -> Made:
    """The layer of those who only have labels: the image above its ground where objects are."""
    ground = np.float32(np.median(image[labels == 0])) if (labels == 0).any() else np.float32(0)
    return Made(np.where(labels > 0, image - ground, 0).astype(np.float32), labels)


def tuned(
    layers: Sequence[Plane], truths: Sequence[NDArray[np.integer[Any]]], *, has_size: bool = True,
    has_largest: bool = False,
) -> Objects:  # fmt: skip
    """Settings with the best F1 (IoU ≥ 0.5) on some layers; the first of equals.

    Parameters
    ----------
    has_size : bool
        Try least sizes; else everything from 9 px is an object.
    has_largest : bool
        Try a largest size, too: twice the area of the largest object of the truth.
    """
    areas = _areas(truths)
    sizes = _least_sizes(areas) if has_size else [9]
    largest = [0, int(2 * areas.max(initial=1))] if has_largest else [0]
    best, score = Objects(clean=CleanOptions(n_openings=0, min_size_px=sizes[0])), -1.0
    for factor, n, size, most in product(_FACTORS, _OPENINGS, sizes, largest):
        one = Objects(clean=CleanOptions(threshold_factor=factor, n_openings=n, min_size_px=size), max_size_px=most)
        found = _f1([one.of(layer) for layer in layers], truths)
        if found > score:
            best, score = one, found
    return best


def _areas(truths: Sequence[NDArray[np.integer[Any]]]) -> NDArray[np.int64]:
    """Pixels of every object."""
    areas = np.concatenate([np.bincount(truth.ravel())[1:] for truth in truths])
    return np.asarray(areas[areas > 0], np.int64)


def _least_sizes(areas: NDArray[np.int64]) -> list[int]:
    typical = float(np.median(areas)) if areas.size else 36.0
    return [round(share * typical) for share in _SIZES]


def _sifted(labels: NDArray[np.integer[Any]], least: int, most: int = 0) -> NDArray[np.integer[Any]]:
    """Labels without objects that are too small, or too large (0: no limit)."""
    sizes = np.bincount(labels.ravel())[labels]
    is_out = (sizes < least) | ((sizes > most) if most else False)
    return np.where(is_out, 0, labels).astype(labels.dtype)


def _f1(found: Sequence[NDArray[Any]], truths: Sequence[NDArray[Any]]) -> float:
    counts = np.zeros(3, int)
    for labels, truth in zip(found, truths, strict=True):
        matches = match_instances(overlaps(truth, labels))
        counts += (matches.tp, matches.fp, matches.fn)
    return f1(int(counts[0]), int(counts[1]), int(counts[2]))


# --- networks --------------------------------------------------------------------------------


def _semantic(
    lesson: Lesson, request: EvaluateSemanticRequest, seed: int, on_step: Callable[[int], None],
    is_cancelled: Callable[[], bool],
) -> Callable[[Plane], Plane] | None:  # fmt: skip
    """The filter as ``train semantic`` makes it, of these crops."""
    from napari_cellenhance.core.recipes.separator import Separator
    from napari_cellenhance.core.training import fit
    from napari_cellenhance.workflows._train_semantic_setup import prepare
    from napari_cellenhance.workflows.train_semantic import SemanticRequest

    setup = prepare(
        SemanticRequest(
            data=lesson.crops, out="", scene=lesson.scene, scaling="fixed", low=0.0, high=TOP, width=request.width,
            n_steps=request.n_steps, batch_size=request.batch_size, learning_rate=request.learning_rate, seed=seed,
            validate_every=request.validate_every, device=request.device, precision=request.precision,
        )
    )  # fmt: skip
    fitted = fit(
        setup.recipe, setup.fit_settings, on_step=lambda state, row: on_step(state.step), is_cancelled=is_cancelled
    )
    if fitted.stopped == "cancelled":
        return None
    separator = Separator(setup.module.eval(), setup.choice)
    return lambda image: np.float32(TOP) * separator.separate((image / np.float32(TOP))[None])[0]


def _unet(
    lesson: Lesson, request: EvaluateSemanticRequest, seed: int, choice: DeviceChoice, on_step: Callable[[int], None],
    is_cancelled: Callable[[], bool],
) -> Way | None:  # fmt: skip
    """Three classes (ground, object, border) learned from images and labels; a fifth of them chooses the weights."""
    from napari_cellenhance.core.recipes.voidseg import VoidSegRecipe, VoidSegTraining
    from napari_cellenhance.core.recipes.voidseg_segmenter import VoidSegmenter
    from napari_cellenhance.core.three_classes import ObjectImage, objects_of
    from napari_cellenhance.core.training import FitSettings, fit
    from napari_cellenhance.workflows._train_voidseg_setup import new_unet

    images = [
        ObjectImage.complete((one.image / np.float32(TOP)).astype(np.float32), one.labels, f"image {i}")
        for i, one in enumerate(lesson.learn)
    ]
    n_aside = max(1, len(images) // 5)
    network = new_unet(seed=seed, depth=3, width=max(2, 2 * request.width // 3)).to(choice.torch_device)
    training = VoidSegTraining(crop_px=request.patch_px, batch_size=request.batch_size)
    recipe = VoidSegRecipe(network, images[n_aside:], training, validation=images[:n_aside], choice=choice, seed=seed)
    settings = FitSettings(
        n_steps=request.n_steps, learning_rate=request.learning_rate, weight_decay=0.0,
        n_warmup=min(20, request.n_steps), validate_every=min(request.validate_every, request.n_steps), seed=seed,
    )  # fmt: skip
    fitted = fit(recipe, settings, on_step=lambda state, row: on_step(state.step), is_cancelled=is_cancelled)
    if fitted.stopped == "cancelled":
        return None
    segmenter = VoidSegmenter(network, choice)

    def probabilities(image: Plane) -> Any:
        return segmenter.probabilities((image / np.float32(TOP)).astype(np.float32))

    truths = [one.labels for one in lesson.tune]
    known = [probabilities(one.image) for one in lesson.tune]
    scores = {
        (threshold, least): _f1([_sifted(objects_of(one, threshold), least) for one in known], truths)
        for threshold, least in product(_THRESHOLDS, _least_sizes(_areas(truths)))
    }
    threshold, least = max(scores, key=lambda key: scores[key])
    return Way(
        lambda image: _masked(image, _sifted(objects_of(probabilities(image), threshold), least)),
        f"probability {threshold:g}, ≥ {least} px",
    )


# --- dictionaries of patches -----------------------------------------------------------------


def _nmf(learn: Sequence[Mixture], seed: int) -> Callable[[Plane], Plane]:
    """One dictionary for the wanted layer and one for the rest; what a patch owes to each shares out the image.

    A single channel cannot be unmixed blindly, but patches of it can: the dictionaries are learned from the layers of
    images to learn from (Lee & Seung 2001, multiplicative updates of the squared error).
    """
    rng = np.random.default_rng([seed, 0xD1C7])
    dictionaries = []
    for layer in ("target", "remainder"):
        patches = np.concatenate([_patches(getattr(one, layer))[0] for one in learn])
        patches = np.clip(patches[patches.max(axis=1) > 1e-3], 0, None)
        patches = patches[rng.permutation(len(patches))[:_MAX_PATCHES]]
        dictionaries.append(_learned(patches.T.astype(np.float64), rng))
    whole = np.concatenate(dictionaries, axis=1)
    n_wanted = dictionaries[0].shape[1]

    def apply(image: Plane) -> Plane:
        patches, corners = _patches(image)
        weights = _weights(whole, np.clip(patches, 0, None).T.astype(np.float64), np.random.default_rng(seed))
        wanted, all_of_it = whole[:, :n_wanted] @ weights[:n_wanted], whole @ weights
        shares = (wanted / np.maximum(all_of_it, 1e-9)).T.reshape(-1, _PATCH_PX, _PATCH_PX)
        total, count = np.zeros(image.shape), np.zeros(image.shape)
        for (y, x), share in zip(corners, shares, strict=True):
            total[y : y + _PATCH_PX, x : x + _PATCH_PX] += share
            count[y : y + _PATCH_PX, x : x + _PATCH_PX] += 1
        return (image * total / count).astype(np.float32)

    return apply


def _patches(plane: Plane) -> tuple[Plane, list[tuple[int, int]]]:
    """Patches (N, 12·12) that cover a plane, and their corners."""
    starts = [[*range(0, n - _PATCH_PX, _STRIDE_PX), n - _PATCH_PX] for n in plane.shape]
    corners = [(y, x) for y in starts[0] for x in starts[1]]
    patches = [plane[y : y + _PATCH_PX, x : x + _PATCH_PX].ravel() for y, x in corners]
    return np.stack(patches).astype(np.float32), corners


def _learned(patches: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Dictionary (pixels, atoms) of patches (pixels, N)."""
    atoms = rng.uniform(0.1, 1, (len(patches), _RANK))
    weights = rng.uniform(0.1, 1, (_RANK, patches.shape[1]))
    for _ in range(_LEARN_ITERATIONS):
        weights *= (atoms.T @ patches) / (atoms.T @ atoms @ weights + 1e-9)
        atoms *= (patches @ weights.T) / (atoms @ (weights @ weights.T) + 1e-9)
        norms = np.linalg.norm(atoms, axis=0) + 1e-9
        atoms, weights = atoms / norms, weights * norms[:, None]
    return atoms


def _weights(atoms: NDArray[np.float64], patches: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    weights = rng.uniform(0.1, 1, (atoms.shape[1], patches.shape[1]))
    given, gram = atoms.T @ patches, atoms.T @ atoms
    for _ in range(_USE_ITERATIONS):
        weights *= given / (gram @ weights + 1e-9)
    return weights
