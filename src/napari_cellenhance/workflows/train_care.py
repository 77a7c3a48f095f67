"""Train a restoration (CARE) on pairs: made from clean images, or real ones; a model with card and curves out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

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
from napari_cellenhance.workflows.care_pairs import PairedLayers
from napari_cellenhance.workflows.noisy_images import NoisyLayer
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress
from napari_cellenhance.workflows.synthesize import Synthesis
from napari_cellenhance.workflows.train_estimate import TrainEstimate
from napari_cellenhance.workflows.train_progress import TrainResult

if TYPE_CHECKING:
    from napari_cellenhance.core.training import FitState
    from napari_cellenhance.zoo.cards import ModelCard

__all__ = [
    "CareRequest",
    "CareResult",
    "Glimpse",
    "NoisyLayer",
    "PairedLayers",
    "Synthesis",
    "ViewedWindow",
    "checkpoint_of",
    "estimate",
    "remembered",
    "run",
]

_REMEMBERED = (
    *LOOP_FIELDS, "n_dims", "depth", "width", "kernel_px", "loss", "patch_px", "n_patches", "threshold", "percentiles",
    "lo", "hi", "clean_scale", "validation_fraction", "schedule", "synthesis_record",
)  # fmt: skip
"""Fields that a folder keeps beside its checkpoint: all that matter but the images."""
LEARNING_RATE = 4e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class CareRequest(LoopRequest):
    """One training of a restoration.

    Parameters
    ----------
    data : path, or tuple of NoisyLayer or PairedLayers
        Clean images: a file, a folder, a JSON list of sources, or images in memory. Or pairs, see ``is_paired``.
    is_paired : bool
        ``data`` is a folder with the folders ``noisy`` and ``clean``, or a JSON list of pairs. Pairs in memory say so
        themselves.
    data_root : path, optional
        What the paths in the JSON are relative to; default: its folder.
    axes : str
        Of the files; empty: as in each file.
    channels : "all", "grey" or tuple of int
        Of the files; each channel is an image of its own.
    synthesis : Synthesis
        How poor images are made of clean ones; unused where there are pairs.
    n_dims : 2 or 3
        Learn from planes or from volumes.
    depth, width, kernel_px : int
        Of the U-Net; a kernel of 0 is 5 px for planes and 3 px for volumes, as published.
    loss : "laplace", "mae" or "mse"
        Likelihood, with an uncertainty for every pixel; or a plain error, without.
    patch_px, n_patches, threshold, percentiles, lo, hi, clean_scale, validation_fraction
        Of ``core.recipes.care.CareTraining``.
    schedule : "plateau", "cosine" or "constant"
        Of the learning rate.
    recipe_options : dict
        Further fields of ``core.recipes.care.CareTraining``.
    """

    data: str | os.PathLike[str] | tuple[NoisyLayer, ...] | tuple[PairedLayers, ...]
    is_paired: bool = False
    data_root: str | os.PathLike[str] | None = None
    axes: str = ""
    channels: Literal["all", "grey"] | tuple[int, ...] = "all"
    synthesis: Synthesis = field(default_factory=Synthesis)
    model_id: str = "care-custom"
    title: str = "Restoration (own training)"
    n_dims: Literal[2, 3] = 2
    depth: int = 2
    width: int = 32
    kernel_px: int = 0
    loss: Literal["laplace", "mae", "mse"] = "laplace"
    patch_px: int = 64
    n_patches: int = 0
    threshold: float = 0.4
    percentiles: Literal["drawn", "fixed"] = "drawn"
    lo: float = 2.0
    hi: float = 99.8
    clean_scale: Literal["poor", "own"] = "poor"
    validation_fraction: float = 0.2
    schedule: Literal["plateau", "cosine", "constant"] = "plateau"
    n_steps: int = 1000
    batch_size: int = 16
    validate_every: int = 50

    def __post_init__(self) -> None:
        LoopRequest.__post_init__(self)
        if self.n_dims not in (2, 3):
            raise ParameterError(f"{self.n_dims} dimensions; expected 2 (planes) or 3 (volumes)")

    @property
    def synthesis_record(self) -> dict[str, Any]:
        """The synthesis, ready for JSON."""
        return self.synthesis.to_dict()


@dataclass(frozen=True, slots=True, kw_only=True)
class CareResult(TrainResult):
    """Where everything is, and how the training ended.

    Parameters
    ----------
    exposures : Path or None
        Log of every value that was drawn for pairs made from clean images.
    scores : mapping
        On images that were kept aside: ``mae`` and ``mae_of_input`` in normalised units, ``within_half`` (share of
        pixels whose error is within σ·ln 2, after calibration) and ``within_half_before``.
    left_out : tuple of str
        Names of pairs whose images have nothing in common.
    """

    exposures: Path | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


def remembered(request: CareRequest) -> CareRequest:
    """Request that goes on from the checkpoint of its folder, with the settings that were used there.

    Raises
    ------
    ParameterError
        The folder keeps no settings that can be read.
    """
    known = recall(request.out, _REMEMBERED)
    synthesis = Synthesis.from_dict(known.pop("synthesis_record"))
    return replace(request, **known, synthesis=synthesis, resume=True)


def estimate(request: CareRequest) -> TrainEstimate:
    """Measure some updates and one validation with the images and settings of ``request``; nothing is stored.

    Raises
    ------
    ImageError, AxesError, ParameterError
        As :func:`run`.
    """
    from napari_cellenhance.workflows._train_care_setup import prepare

    with threads(request.n_threads):
        step_s, validation_s = pace(prepare(replace(request, n_steps=max(1, request.n_steps))).recipe)
    return TrainEstimate(step_s=step_s, validation_s=validation_s, n_dry_run=0)


def run(
    request: CareRequest,
    *,
    on_progress: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
    is_discarded: IsCancelled = never_cancelled,
    look: Look = lambda: None,
    on_glimpse: OnGlimpse = lambda glimpse: None,
) -> CareResult:
    """Train, and leave weights, card, ``history.csv`` and ``history.png`` in ``request.out``; ``exposures.json`` too.

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
        Called with that window, restored, in grey values.

    Raises
    ------
    ImageError, AxesError
        No contrast, an image that is too small; a file that cannot be read; pairs that do not fit each other.
    ParameterError
        Settings out of range; a checkpoint of other settings or other images.
    TrainingError
        The loss is not a number before anything was learned.
    """
    from napari_cellenhance.workflows._train_care_record import measure, publish, write_exposures
    from napari_cellenhance.workflows._train_care_setup import CareSetup, prepare

    def known(setup: CareSetup, ended: FitState) -> dict[str, Any]:
        return {"exposures": write_exposures(setup), "left_out": setup.recipe.left_out}

    def publish_it(setup: CareSetup, ended: FitState, stopped: str) -> tuple[ModelCard, dict[str, Any]]:
        what = "Measuring on images that were kept aside"
        on_progress(Progress(n_done=ended.step, n_total=ended.step, message=what))
        scores = measure(setup)
        return publish(setup, ended, stopped, scores), {"scores": scores}

    watch = Watch(
        on_progress=on_progress, is_cancelled=is_cancelled, is_discarded=is_discarded, look=look, on_glimpse=on_glimpse
    )  # fmt: skip
    return run_course(request, watch, _REMEMBERED, CareResult, prepare=prepare, publish=publish_it, known=known)
