"""Mixtures for the evaluation of the semantic filter: what is learned from, what is tested on, and the scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.crops import CropSet, ObjectCrop
from napari_cellenhance.core.folds import nested_subsets
from napari_cellenhance.core.instances import match_instances, overlaps
from napari_cellenhance.core.localisation import HitTally
from napari_cellenhance.core.metrics import PointMatches, scale_invariant_psnr
from napari_cellenhance.core.postprocess import centroids
from napari_cellenhance.core.synthetic_pairs import Scaling, SceneMaker, SceneSettings
from napari_cellenhance.workflows._evaluate_semantic_data import TOP, Channels, Kinds, Plane
from napari_cellenhance.workflows._evaluate_semantic_methods import Lesson, Way
from napari_cellenhance.workflows._evaluate_semantic_scenes import (
    LEVELS,
    Composer,
    Mixture,
    channel_mixtures,
    channel_patches,
)

if TYPE_CHECKING:
    from napari_cellenhance.workflows.evaluate_semantic import EvaluateSemanticRequest

__all__ = [
    "OF_CHANNELS",
    "lesson_of_channels",
    "lesson_of_kinds",
    "score_mixtures",
    "tests_of_channels",
    "tests_of_kinds",
]

OF_CHANNELS: Final = {"unrelated": "unrelated fields", "same": "same field"}
_GAIN, _ZOOM, _CHANNEL_GAIN = (0.6, 1.2), (0.9, 1.1), (0.7, 1.3)


def lesson_of_kinds(kinds: Kinds, request: EvaluateSemanticRequest, n_crops: int, seed: int) -> Lesson:
    """So many crops of each kind, drawn by the seed and nested for rising numbers, and images made of them."""
    crops = CropSet(
        target=_some(kinds.train.target, n_crops, seed), unwanted=_some(kinds.train.unwanted, n_crops, seed),
        backgrounds=kinds.train.backgrounds,
    )  # fmt: skip
    scene = _scene(kinds, request)
    maker = SceneMaker(crops, scene, Scaling(kind="fixed", low=0.0, high=TOP))
    rng = np.random.default_rng([seed, 0x1EA2])
    learn = []
    for _ in range(request.n_learn):
        drawn = maker.draw(rng).first
        target = np.float32(TOP) * drawn.target[0]
        learn.append(
            Mixture(
                target=target, remainder=np.float32(TOP) * drawn.image[0] - target,
                labels=drawn.labels.astype(np.int32), level="",
            )
        )  # fmt: skip
    composer = Composer(crops, scene, request.scene_px)
    tune = [composer.draw(level, rng) for level in LEVELS for _ in range(request.n_tune)]
    return Lesson(crops=crops, scene=scene, learn=learn, tune=tune)


def tests_of_kinds(kinds: Kinds, request: EvaluateSemanticRequest) -> list[Mixture]:
    """Images of objects of other source images, the same for all methods, seeds and numbers of crops."""
    composer = Composer(kinds.test, _scene(kinds, request), request.scene_px)
    rng = np.random.default_rng([request.split_seed, 0x7E57])
    return [composer.draw(level, rng) for level in LEVELS for _ in range(request.n_test)]


def _scene(kinds: Kinds, request: EvaluateSemanticRequest) -> SceneSettings:
    return SceneSettings(
        size_px=request.patch_px, n_target=kinds.spec.n_target, n_unwanted=kinds.spec.n_unwanted, gain=_GAIN,
        zoom=_ZOOM,
    )  # fmt: skip


def _some(crops: Sequence[ObjectCrop], n: int, seed: int) -> tuple[ObjectCrop, ...]:
    """``n`` of them, or all where there are fewer."""
    (chosen,) = nested_subsets(len(crops), (min(n, len(crops)),), seed=seed)
    return tuple(crops[i] for i in chosen)


def lesson_of_channels(channels: Channels, request: EvaluateSemanticRequest) -> Lesson:
    """Patches of both channels by themselves, never of one field together: as of two separate stains."""
    scene = SceneSettings(
        size_px=request.patch_px, n_target=(1, 1), n_unwanted=(1, 1), gain=_CHANNEL_GAIN, zoom=(1.0, 1.0),
        outside=0.0, max_overlap=1.0, is_turning=False,
    )  # fmt: skip
    learn, tune = (
        channel_mixtures(channels, channels.train, size_px, is_shuffled=True, level="unrelated")
        for size_px in (request.patch_px, request.scene_px)
    )
    order = np.random.default_rng([request.split_seed, 0xC4A]).permutation(len(learn))[: request.n_learn]
    return Lesson(
        crops=channel_patches(channels.train, request.patch_px), scene=scene, learn=[learn[i] for i in order],
        tune=tune[: len(LEVELS) * request.n_tune],
    )  # fmt: skip


def tests_of_channels(channels: Channels, request: EvaluateSemanticRequest) -> list[Mixture]:
    """Sums of both channels of planes that were not learned from: of one field, and of unrelated ones."""
    found = []
    for level in OF_CHANNELS:
        made = channel_mixtures(
            channels, channels.test, request.scene_px, is_shuffled=level == "unrelated", level=level
        )
        found += made[: request.n_test]
    return found


# --- scores ----------------------------------------------------------------------------------


def score_mixtures(way: Way, mixtures: Sequence[Mixture]) -> tuple[list[dict[str, Any]], dict[str, NDArray[Any]]]:
    """Scores by degree of overlap, and the first image of each to show.

    Returns
    -------
    list of dict
        ``level``; means over images of ``psnr`` (dB, after the best affine fit, relative to the range of the true
        layer) and ``correlation`` of the wanted layer, ``psnr_rest`` and ``correlation_rest`` of all else;
        ``precision``, ``recall``, ``f1`` of objects with an IoU of 0.5 or more, all images together, and
        ``f1_points``: the middle of an object lies on one that was found.
    dict of str to ndarray
    """
    rows, example = [], dict[str, NDArray[Any]]()
    for level in dict.fromkeys(one.level for one in mixtures):
        layers: dict[str, list[float]] = {}
        counts, hits = np.zeros(3, int), HitTally()
        for one in (mixture for mixture in mixtures if mixture.level == level):
            image = one.image
            made = way.apply(image)
            for ending, truth, found in (("", one.target, made.layer), ("_rest", one.remainder, image - made.layer)):
                layers.setdefault(f"psnr{ending}", []).append(
                    scale_invariant_psnr(found, truth, max(1e-6, float(np.ptp(truth))))
                )
                layers.setdefault(f"correlation{ending}", []).append(_correlation(found, truth))
            matches = match_instances(overlaps(one.labels, made.labels))
            counts += (matches.tp, matches.fp, matches.fn)
            hits.add(centroids(one.labels), made.labels)
            if f"{level}/image" not in example:
                shown = {
                    "image": image, "target": one.target, "layer": made.layer,
                    "found": np.asarray(made.labels, np.int32), "labels": one.labels,
                }  # fmt: skip
                example |= {f"{level}/{name}": plane for name, plane in shown.items()}
        objects = PointMatches(int(counts[0]), int(counts[1]), int(counts[2]))
        rows.append(
            {"level": level} | {name: float(np.mean(values)) for name, values in layers.items()}
            | {"precision": objects.precision, "recall": objects.recall, "f1": objects.f1, "f1_points": hits.matches.f1}
        )  # fmt: skip
    return rows, example


def _correlation(found: Plane, truth: Plane) -> float:
    return float(np.corrcoef(found.ravel(), truth.ravel())[0, 1]) if found.std() > 0 and truth.std() > 0 else 0.0
