"""Movies for the evaluation of the semantic filter: the network learned from frames against the temporal median."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.frame_pairs import foreground, temporal_median
from napari_cellenhance.core.instances import overlaps
from napari_cellenhance.core.localisation import BoxTally
from napari_cellenhance.core.postprocess import CleanOptions, clean_labels
from napari_cellenhance.workflows._evaluate_semantic_data import TOP, Plane, Stage
from napari_cellenhance.workflows._evaluate_semantic_scenes import SyntheticMovie, make_movie
from napari_cellenhance.workflows.noisy_images import NoisyLayer
from napari_cellenhance.workflows.separate import MOVING

if TYPE_CHECKING:
    from napari_cellenhance.workflows.evaluate_semantic import EvaluateSemanticRequest

__all__ = ["MOVIE_METHODS", "make_movies", "of_file", "scene_finder", "score_movies"]

MOVIE_METHODS: Final = {
    "median": "temporal median of the movie",
    "semantic": "semantic filter, learned from other movies",
    "own": "semantic filter, learned from these movies, too",
}
_DEPTHS = (0.05, 0.1, 0.15, 0.2, 0.3)
_SIZES_PX = (9, 25, 50)

Scenes = Callable[[Plane], Plane]
"""Frames (T, Y, X) → the scene without what moves, for each of them."""


def make_movies(stage: Stage, request: EvaluateSemanticRequest) -> tuple[list[SyntheticMovie], list[SyntheticMovie]]:
    """Movies to learn from, and movies of other objects in other scenes to test on."""
    made = []
    for number, ((scenes, crops), n) in enumerate(
        ((stage.train, request.n_train_movies), (stage.test, request.n_test_movies))
    ):
        rng = np.random.default_rng([request.split_seed, 0xF11, number])
        made.append([make_movie(scenes, crops, stage.spec, request.scene_px, request.n_frames, rng) for _ in range(n)])
    return made[0], made[1]


def scene_finder(
    method: str, train: Sequence[SyntheticMovie], test: Sequence[SyntheticMovie], request: EvaluateSemanticRequest,
    seed: int, *, on_step: Callable[[int], None], is_cancelled: Callable[[], bool],
) -> Scenes | None:  # fmt: skip
    """What a method makes of frames; None after a cancel.

    The median needs no training. "own" learns from the movies to test on as well, as one does in use: no labels are
    needed for it.
    """
    if method == "median":
        return lambda frames: np.repeat(temporal_median(frames)[None], len(frames), axis=0)
    seen = (*train, *test) if method == "own" else train
    layers = tuple(NoisyLayer(name=f"movie {i}", image=one.frames, axes="TYX") for i, one in enumerate(seen))
    return _learned(layers, request, seed, on_step, is_cancelled, low=0.0, high=TOP, polarity="bright")


def of_file(
    path: str, request: EvaluateSemanticRequest, *, on_step: Callable[[int], None], is_cancelled: Callable[[], bool]
) -> dict[str, NDArray[Any]] | None:
    """Learn from a real movie, and show a frame, the median, the scene and what moves; None after a cancel."""
    from napari_cellenhance.io.images import read
    from napari_cellenhance.workflows._train_semantic_setup import read_movies
    from napari_cellenhance.workflows.train_semantic import SemanticRequest

    file = read(path)
    layer = NoisyLayer(name=Path(path).name, image=file.image, axes=request.movie_axes or file.axes, channels="grey")
    frames = read_movies(SemanticRequest(data=(layer,), out="", lag=request.lag))[0].frames[:, 0]
    find = _learned((layer,), request, request.seeds[0], on_step, is_cancelled)
    if find is None:
        return None
    middle = len(frames) // 2
    scene = find(frames[middle : middle + 1])[0]
    return {
        "frame": frames[middle], "median": temporal_median(frames), "scene": scene,
        "moving": foreground(frames[middle], scene, "both"),
    }  # fmt: skip


def _learned(
    layers: tuple[NoisyLayer, ...], request: EvaluateSemanticRequest, seed: int, on_step: Callable[[int], None],
    is_cancelled: Callable[[], bool], **settings: Any,
) -> Scenes | None:  # fmt: skip
    from napari_cellenhance.core.recipes.separator import Separator
    from napari_cellenhance.core.training import fit
    from napari_cellenhance.workflows._train_semantic_setup import prepare
    from napari_cellenhance.workflows.separate import normalizer_for
    from napari_cellenhance.workflows.train_semantic import SemanticRequest

    setup = prepare(
        SemanticRequest(
            data=layers, out="", lag=request.lag, patch_px=request.patch_px, scaling="fixed", width=request.width,
            n_steps=request.n_steps, batch_size=request.batch_size, learning_rate=request.learning_rate, seed=seed,
            validate_every=request.validate_every, device=request.device, precision=request.precision, **settings,
        )
    )  # fmt: skip
    fitted = fit(
        setup.recipe, setup.fit_settings, on_step=lambda state, row: on_step(state.step), is_cancelled=is_cancelled
    )
    if fitted.stopped == "cancelled":
        return None
    separator = Separator(setup.module.eval(), setup.choice)

    def find(frames: Plane) -> Plane:
        normalizer = normalizer_for(setup.scaling.kind, setup.scaling.parameters, frames)
        scaled = normalizer.normalize(frames)
        return np.stack([normalizer.denormalize(separator.separate(frame[None])[0]) for frame in scaled])

    return find


# --- scores ----------------------------------------------------------------------------------


@dataclass(slots=True)
class _Sums:
    """Sums over pixels under objects: what is left of them in the scene that was found, and what they were."""

    left: float = 0.0
    depth: float = 0.0

    @property
    def share(self) -> float:
        return self.left / self.depth if self.depth else float("nan")


def score_movies(
    find: Scenes, train: Sequence[SyntheticMovie], test: Sequence[SyntheticMovie]
) -> tuple[dict[str, float], str, dict[str, NDArray[Any]]]:
    """Scores of the movies to test on, the settings that suit those to learn from best, and an example.

    Returns
    -------
    dict, str, dict
        ``precision``, ``recall``, ``f1`` by boxes (IoU > 0.5) and ``iou`` of all pixels; ``recall_still``: share of the
        objects that never move of which a single found object has an IoU of 0.5 or more, and ``recall_moving``;
        ``bias_moving``, ``bias_still``: what is left of objects in the scene, as a share of their brightness;
        ``scene_error``: mean |found − true| of the scene where no object is.
    """
    options = _tuned(find, train)
    tally, moving, still = BoxTally(), _Sums(), _Sums()
    hits = {True: [0, 0], False: [0, 0]}
    errors: list[float] = []
    example: dict[str, NDArray[Any]] = {}
    for movie in sorted(test, key=lambda one: not one.still):
        scenes = find(movie.frames)
        for frame, scene, labels in zip(movie.frames, scenes, movie.labels, strict=True):
            found = clean_labels(foreground(frame, scene, "bright"), options)
            tally.add(labels, found)
            shared = overlaps(labels, found)
            numbers = np.unique(labels[labels > 0])
            best = shared.iou.max(axis=1, initial=0.0)
            is_still = np.isin(labels, movie.still)
            for number, share in zip(numbers, best, strict=True):
                counts = hits[int(number) in movie.still]
                counts[0] += int(share >= 0.5)
                counts[1] += 1
            for sums, where in ((still, is_still), (moving, (labels > 0) & ~is_still)):
                sums.left += float((scene - movie.scene)[where].sum())
                sums.depth += float((frame - movie.scene)[where].sum())
            errors.append(float(np.abs(scene - movie.scene)[labels == 0].mean()))
            if not example:
                example = {
                    "frame": frame, "truth": movie.scene, "scene": scene, "found": found.astype(np.int32),
                    "labels": labels, "still": is_still,
                }  # fmt: skip
    matches = tally.matches
    scores = {
        "precision": matches.precision, "recall": matches.recall, "f1": matches.f1, "iou": tally.iou,
        "recall_moving": _share(hits[False]), "recall_still": _share(hits[True]), "bias_moving": moving.share,
        "bias_still": still.share, "scene_error": float(np.mean(errors)),
    }  # fmt: skip
    words = f"from {options.threshold_value:g} × P99 above the scene, ≥ {options.min_size_px} px"
    return scores, words, example


def _share(counts: Sequence[int]) -> float:
    return counts[0] / counts[1] if counts[1] else float("nan")


def _tuned(find: Scenes, movies: Sequence[SyntheticMovie]) -> CleanOptions:
    """Least depth and size with the best F1 by boxes on some movies; the first of equals."""
    known = [(foreground(movie.frames, find(movie.frames), "bright"), movie.labels) for movie in movies[:6]]
    best, score = MOVING, -1.0
    for depth, size in product(_DEPTHS, _SIZES_PX):
        options, tally = replace(MOVING, threshold_value=depth, min_size_px=size), BoxTally()
        for signals, labels in known:
            for signal, truth in zip(signals, labels, strict=True):
                tally.add(truth, clean_labels(signal, options))
        if tally.matches.f1 > score:
            best, score = options, tally.matches.f1
    return best
