"""Train a denoiser on noisy images alone (Noise2Void, N2V2, structN2V): images in, a model with card and curves out."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from napari_cellenhance.core.blind_spots import STRUCTURES, Structure
from napari_cellenhance.core.errors import ParameterError
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
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, never_cancelled, no_progress
from napari_cellenhance.workflows.train_estimate import TrainEstimate
from napari_cellenhance.workflows.train_progress import TrainResult

if TYPE_CHECKING:
    from napari_cellenhance.core.training import FitState
    from napari_cellenhance.zoo.cards import ModelCard

__all__ = [
    "Glimpse",
    "N2VRequest",
    "N2VResult",
    "NoisyLayer",
    "ViewedWindow",
    "checkpoint_of",
    "estimate",
    "remembered",
    "run",
]

_REMEMBERED = (
    *LOOP_FIELDS, "variant", "n_dims", "is_joint", "has_classes", "statistics", "depth", "width", "kernel_px",
    "patch_px", "percent", "radius_px", "structure", "reach_px", "schedule",
)  # fmt: skip
"""Fields that a folder keeps beside its checkpoint: all that matter but the images."""
LEARNING_RATE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class N2VRequest(LoopRequest):
    """One training of a denoiser.

    Parameters
    ----------
    data : path, or tuple of NoisyLayer
        An image file, a folder of them, a JSON list of sources, or images in memory.
    data_root : path, optional
        What the paths in the JSON are relative to; default: its folder.
    axes : str
        Of the files; empty: as in each file.
    channels : "all", "grey" or tuple of int
        Of the files; layers say their own.
    variant : "n2v" or "n2v2"
        N2V2 has no checkerboards: blurred pools, no skip at full resolution, medians in the blind spots.
    n_dims : 2 or 3
        Learn from planes or from volumes.
    is_joint : bool
        One network that looks at all channels; else one for each channel, trained side by side.
    has_classes : bool
        Keep three outputs for the classes of a segmentation that goes on from these weights.
    statistics : "stored" or "image"
        Grey values of the training images, for images of the same kind; or of each image itself, for a network that
        is to be used on images of many kinds.
    depth, width, kernel_px : int
        Of the U-Net.
    patch_px : int
        Side of a patch.
    percent, radius_px : float, int
        Share of blind spots in percent, and radius of the window that their replacements come from.
    structure : "none", "horizontal", "vertical", "cross" or "square"
        What of the noise is shared by neighbours (structN2V), reaching ``reach_px`` to either side.
    schedule : "cosine", "constant" or "plateau"
        Of the learning rate.
    recipe_options : dict
        Further fields of ``core.recipes.n2v.N2VTraining``; ``noise`` as fields of ``core.noise.NoiseRange``.
    """

    data: str | os.PathLike[str] | tuple[NoisyLayer, ...]
    data_root: str | os.PathLike[str] | None = None
    axes: str = ""
    channels: Literal["all", "grey"] | tuple[int, ...] = "all"
    model_id: str = "n2v-custom"
    title: str = "Denoiser (own training)"
    variant: Literal["n2v", "n2v2"] = "n2v2"
    n_dims: Literal[2, 3] = 2
    is_joint: bool = False
    has_classes: bool = False
    statistics: Literal["stored", "image"] = "stored"
    depth: int = 2
    width: int = 32
    kernel_px: int = 3
    patch_px: int = 64
    percent: float = 2.0
    radius_px: int = 5
    structure: Structure = "none"
    reach_px: int = 0
    schedule: Literal["cosine", "constant", "plateau"] = "cosine"
    n_steps: int = 1500
    batch_size: int = 16
    validate_every: int = 100
    average: float = 0.99

    def __post_init__(self) -> None:
        LoopRequest.__post_init__(self)
        if self.variant not in ("n2v", "n2v2"):
            raise ParameterError(f"variant is {self.variant!r}; expected 'n2v' or 'n2v2'")
        if self.n_dims not in (2, 3):
            raise ParameterError(f"{self.n_dims} dimensions; expected 2 (planes) or 3 (volumes)")
        if self.structure not in STRUCTURES:
            raise ParameterError(f"structure is {self.structure!r}; expected one of {', '.join(STRUCTURES)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class N2VResult(TrainResult):
    """Where everything is, and how the training ended.

    ``best_total`` is the squared error at blind spots that were kept aside, in units of the variance of the images:
    what is left of it in a good denoiser is the noise itself.
    """


def remembered(request: N2VRequest) -> N2VRequest:
    """Request that goes on from the checkpoint of its folder, with the settings that were used there.

    Raises
    ------
    ParameterError
        The folder keeps no settings that can be read.
    """
    return replace(request, **recall(request.out, _REMEMBERED), resume=True)


def estimate(request: N2VRequest) -> TrainEstimate:
    """Measure some updates and one validation with the images and settings of ``request``; nothing is stored.

    Raises
    ------
    ImageError, AxesError, ParameterError
        As :func:`run`.
    """
    from napari_cellenhance.workflows._train_n2v_setup import prepare

    with threads(request.n_threads):
        step_s, validation_s = pace(prepare(replace(request, n_steps=max(1, request.n_steps))).recipe)
    return TrainEstimate(step_s=step_s, validation_s=validation_s, n_dry_run=0)


def run(
    request: N2VRequest,
    *,
    on_progress: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
    is_discarded: IsCancelled = never_cancelled,
    look: Look = lambda: None,
    on_glimpse: OnGlimpse = lambda glimpse: None,
) -> N2VResult:
    """Train, and leave weights, card, ``history.csv`` and ``history.png`` in ``request.out``.

    A cancel keeps the best weights so far. Nothing half-written stays; an earlier good model of the same name is
    replaced only by a finished validation, never by a run that failed, was discarded, or learned nothing.

    Parameters
    ----------
    on_progress : callable
        Called after every update with a ``TrainProgress``.
    is_discarded : callable
        Asked after every update; when true the training ends and publishes nothing. Its checkpoint stays.
    look : callable
        Asked between updates, every few seconds: the window to show, or None. Its ``plane`` has the shape
        (C, [Z,] Y, X), in its own grey values.
    on_glimpse : callable
        Called with that window, denoised, in grey values.

    Raises
    ------
    ImageError, AxesError
        No contrast, an image that is too small, other channels; a file that cannot be read.
    ParameterError
        Settings out of range; a checkpoint of other settings or other images.
    TrainingError
        The loss is not a number before anything was learned.
    """
    from napari_cellenhance.workflows._train_n2v_record import publish
    from napari_cellenhance.workflows._train_n2v_setup import N2VSetup, prepare

    def publish_it(setup: N2VSetup, ended: FitState, stopped: str) -> tuple[ModelCard, dict[str, Any]]:
        return publish(setup, ended, stopped), {}

    watch = Watch(
        on_progress=on_progress, is_cancelled=is_cancelled, is_discarded=is_discarded, look=look, on_glimpse=on_glimpse
    )  # fmt: skip
    return run_course(request, watch, _REMEMBERED, N2VResult, prepare=prepare, publish=publish_it)
