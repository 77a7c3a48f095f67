"""Train a semantic filter: on crops of two kinds of objects, or on a movie; a model with card and curves out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_cellenhance.core.crops import CropSet
from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.frame_pairs import BackgroundCheck
from napari_cellenhance.core.synthetic_pairs import SceneSettings, preset
from napari_cellenhance.workflows._settings_file import recall
from napari_cellenhance.workflows._train_loop import (
    LOOP_FIELDS,
    Glimpse,
    Look,
    LoopRequest,
    OnGlimpse,
    ViewedWindow,
    Watch,
    checkpoint_of,
    pace,
    run_course,
    threads,
)
from napari_cellenhance.workflows.noisy_images import NoisyLayer
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress
from napari_cellenhance.workflows.train_estimate import TrainEstimate
from napari_cellenhance.workflows.train_progress import TrainResult

if TYPE_CHECKING:
    from napari_cellenhance.core.training import FitState
    from napari_cellenhance.workflows._train_semantic_setup import SemanticSetup
    from napari_cellenhance.zoo.cards import ModelCard

__all__ = [
    "CropSet", "Glimpse", "NoisyLayer", "SemanticRequest", "SemanticResult", "ViewedWindow", "check_movie",
    "checkpoint_of", "estimate", "of_preset", "remembered", "run",
]  # fmt: skip

_REMEMBERED = (
    *LOOP_FIELDS, "is_movie", "is_swapped", "preset", "scene_record", "scaling", "low", "high", "is_complement", "lag",
    "polarity", "patch_px", "width", "loss", "validation_fraction", "n_validation", "schedule",
)  # fmt: skip
"""Fields that a folder keeps beside its checkpoint: all that matter but the images."""
_DOCK = preset("dock")


@dataclass(frozen=True, slots=True, kw_only=True)
class SemanticRequest(LoopRequest):
    """One training of a semantic filter.

    Parameters
    ----------
    data : path, CropSet, or tuple of NoisyLayer
        Folder of crops, or crops in memory: the filter keeps one kind of object. A file or layers with a T axis: it
        removes what moves.
    is_movie : bool
        ``data`` is a path of movies; layers in memory always are.
    axes : str
        Of the files of movies; empty: as in each file.
    channels : "all", "grey" or tuple of int
        Of the files of movies. All channels together go through the network.
    is_swapped : bool
        Keep what the crops call unwanted, and remove the target.
    preset : str
        Where the settings of synthetic images and their scale come from; see ``core.synthetic_pairs.PRESETS``.
    scene : SceneSettings, optional
        Instead of those of the preset.
    scaling : "auto", "p99", "fixed" or "log"
        How grey values become the range of the network: each image by its 99th percentile, a range for all images, or
        the logarithm within a range. "auto": as the preset says, or what suits the images.
    low, high : float or None
        The range; None: as the preset says, or measured on the images.
    is_complement : bool
        Dark objects on a bright ground, as in bright field: turned over.
    lag : int
        Of movies: frames between the two of a pair.
    polarity : "auto", "dark", "bright" or "both"
        Of what moves.
    patch_px : int
        Of movies: side of a patch, a multiple of 32. Crops make images of the size in ``scene``.
    width : int
        Maps of the network; 48 as published.
    loss : "l1", "smooth_l1" or "smooth_l1_beta1"
        See ``core.losses.regression``.
    validation_fraction, n_validation
        Of ``core.recipes.semantic.SemanticTraining``.
    schedule : "plateau", "cosine" or "constant"
        Of the learning rate.
    recipe_options : dict
        Further fields of ``core.synthetic_pairs.SceneSettings``, changed from those of the preset.
    """

    data: str | os.PathLike[str] | CropSet | tuple[NoisyLayer, ...]
    is_movie: bool = False
    axes: str = ""
    channels: Literal["all", "grey"] | tuple[int, ...] = "grey"
    model_id: str = "semantic-custom"
    title: str = "Keep only… (own training)"
    is_swapped: bool = False
    preset: str = "dock"
    scene: SceneSettings | None = None
    scaling: Literal["auto", "p99", "fixed", "log"] = "auto"
    low: float | None = None
    high: float | None = None
    is_complement: bool = False
    lag: int = 1
    polarity: Literal["auto", "dark", "bright", "both"] = "auto"
    patch_px: int = 128
    width: int = 48
    loss: Literal["l1", "smooth_l1", "smooth_l1_beta1"] = "l1"
    validation_fraction: float = 0.2
    n_validation: int = 16
    schedule: Literal["plateau", "cosine", "constant"] = "cosine"
    n_steps: int = _DOCK.n_steps
    batch_size: int = _DOCK.batch_size
    validate_every: int = 100

    def __post_init__(self) -> None:
        LoopRequest.__post_init__(self)
        if self.scaling not in ("auto", "p99", "fixed", "log"):
            raise ParameterError(f"scaling is {self.scaling!r}; expected 'auto', 'p99', 'fixed' or 'log'")
        if self.polarity not in ("auto", "dark", "bright", "both"):
            raise ParameterError(f"polarity is {self.polarity!r}; expected 'auto', 'dark', 'bright' or 'both'")
        if self.lag < 1 or self.patch_px < 32 or self.width < 1:
            raise ParameterError(
                f"lag {self.lag}, patches of {self.patch_px} px, {self.width} maps; expected 1 frame, 32 px and 1 map "
                "or more"
            )
        preset(self.preset)

    @property
    def learns_from_movie(self) -> bool:
        """Whether pairs are frames of a movie."""
        return self.is_movie or isinstance(self.data, tuple)

    @property
    def scene_record(self) -> dict[str, Any] | None:
        """The settings of synthetic images that were given, ready for JSON."""
        return None if self.scene is None else asdict(self.scene)


@dataclass(frozen=True, slots=True, kw_only=True)
class SemanticResult(TrainResult):
    """Where everything is, and how the training ended.

    Parameters
    ----------
    scores : mapping
        On images that were kept aside. From crops: ``correlation`` and ``psnr_db`` of the wanted layer, ``f1`` of its
        objects, ``leak`` of unwanted ones, and each of the images before the filter (``of_input_…``). From movies:
        ``ghost``, ``scene_error``.
    warnings : tuple of str
        About the movie, or about how images were kept aside.
    """

    scores: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def of_preset(name: str, **fields: Any) -> SemanticRequest:
    """Request with the updates, batch and learning rate that a preset was published with, unless ``fields`` say else.

    Raises
    ------
    ParameterError
        No such preset; settings out of range.
    """
    chosen = preset(name)
    known = {"n_steps": chosen.n_steps, "batch_size": chosen.batch_size, "learning_rate": chosen.learning_rate}
    return SemanticRequest(**(known | {"preset": name} | fields))


def remembered(request: SemanticRequest) -> SemanticRequest:
    """Request that goes on from the checkpoint of its folder, with the settings that were used there.

    Raises
    ------
    ParameterError
        The folder keeps no settings that can be read.
    """
    known = recall(request.out, _REMEMBERED)
    stored: dict[str, Any] | None = known.pop("scene_record")
    scene = None
    if stored is not None:
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
        scene = SceneSettings(**fields)
    return replace(request, **known, scene=scene, resume=True)


def check_movie(request: SemanticRequest, max_px: int = 500_000) -> list[tuple[str, BackgroundCheck]]:
    """For each movie (by name) whether it can teach what stands still; nothing is trained or stored.

    Parameters
    ----------
    max_px : int
        Of a frame; of larger ones every second, third, … pixel is looked at.

    Raises
    ------
    ImageError, AxesError, ParameterError
        As :func:`run`.
    """
    from napari_cellenhance.workflows._train_semantic_setup import judged, read_movies

    return [(movie.name, judged(movie, request, max_px)) for movie in read_movies(request)]


def estimate(request: SemanticRequest) -> TrainEstimate:
    """Measure some updates and one validation with the images and settings of ``request``; nothing is stored.

    Raises
    ------
    ImageError, AxesError, ParameterError
        As :func:`run`.
    """
    from napari_cellenhance.workflows._train_semantic_setup import prepare

    with threads(request.n_threads):
        step_s, validation_s = pace(prepare(replace(request, n_steps=max(1, request.n_steps))).recipe)
    return TrainEstimate(step_s=step_s, validation_s=validation_s, n_dry_run=0)


def run(
    request: SemanticRequest,
    *,
    on_progress: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
    is_discarded: IsCancelled = never_cancelled,
    look: Look = lambda: None,
    on_glimpse: OnGlimpse = lambda glimpse: None,
) -> SemanticResult:
    """Train, and leave weights, card, curves and a picture in ``request.out``.

    The picture is ``pairs.png`` (synthetic pairs) or ``median.png`` (temporal median, and where it is not clean).
    A cancel keeps the best weights so far. Nothing half-written stays; an earlier good model of the same name is
    replaced only by a finished validation, never by a run that failed, was discarded, or learned nothing.

    Parameters
    ----------
    on_progress : callable
        Called after every update with a ``TrainProgress``.
    is_discarded : callable
        Asked after every update; when true the training ends and publishes nothing. Its checkpoint stays.
    look : callable
        Asked between updates, every few seconds: the window to show, or None. Its ``plane`` has the shape (C, Y, X), in
        its own grey values.
    on_glimpse : callable
        Called with that window, filtered, in grey values.

    Raises
    ------
    ImageError, AxesError
        Too few crops, no contrast; a movie too short; a file that cannot be read.
    ParameterError
        Settings out of range; a checkpoint of other settings or other images.
    TrainingError
        The loss is not a number before anything was learned.
    """
    from napari_cellenhance.workflows._train_semantic_record import measure, publish, write_picture
    from napari_cellenhance.workflows._train_semantic_setup import prepare

    def prepare_it(asked: SemanticRequest) -> SemanticSetup:
        setup = prepare(asked)
        for sentence in setup.warnings:
            on_progress(Progress(n_done=0, n_total=setup.request.n_steps, message=sentence))
        Path(asked.out).mkdir(parents=True, exist_ok=True)
        write_picture(setup)
        return setup

    def known(setup: SemanticSetup, ended: FitState) -> dict[str, Any]:
        return {"warnings": setup.warnings}

    def publish_it(setup: SemanticSetup, ended: FitState, stopped: str) -> tuple[ModelCard, dict[str, Any]]:
        what = "Measuring on images that were kept aside"
        on_progress(Progress(n_done=ended.step, n_total=ended.step, message=what))
        scores = measure(setup)
        return publish(setup, ended, stopped, scores), {"scores": scores}

    watch = Watch(
        on_progress=on_progress, is_cancelled=is_cancelled, is_discarded=is_discarded, look=look, on_glimpse=on_glimpse
    )
    return run_course(request, watch, _REMEMBERED, SemanticResult, prepare=prepare_it, publish=publish_it, known=known)
