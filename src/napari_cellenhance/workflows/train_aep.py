"""Train AEP + AWEL on painted labels: images with paint in, a segmenting model with its card and curves out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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
    run_course,
)
from napari_cellenhance.workflows.painted_layers import PaintedLayer
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, never_cancelled, no_progress
from napari_cellenhance.workflows.train_progress import TrainResult

if TYPE_CHECKING:
    from napari_cellenhance.core.models.segmentation_baseline import SegmentationNetwork
    from napari_cellenhance.core.training import FitState
    from napari_cellenhance.zoo.cards import ModelCard

__all__ = [
    "AEPRequest",
    "AEPResult",
    "Glimpse",
    "PaintedLayer",
    "ViewedWindow",
    "checkpoint_of",
    "dropout_of",
    "remembered",
    "run",
]

_REMEMBERED = (
    *LOOP_FIELDS, "network", "ensemble", "source", "translation", "filters_per_class", "dropout", "crop_px",
)  # fmt: skip
"""Fields that a folder keeps beside its checkpoint: all that matter but the images and the paint."""
FROM_SCRATCH_RATE = 1e-3
FINE_TUNING_RATE = 1e-4
DROPOUT = 0.1
"""From random weights. The paper's 0.5 costs 3 points of IoU after 500 updates (docs/aep.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AEPRequest(LoopRequest):
    """One training of AEP, or of a plain network to compare it with.

    Parameters
    ----------
    data : path, or tuple of PaintedLayer
        JSON list of labelled sources, a folder of images with labels beside them, or images in memory.
    data_root : path, optional
        What the paths in the JSON are relative to; default: its folder.
    class_names, class_colors : mapping of int to str
        Label value → name, and → ``#rrggbb``; values without one get "background", "class 2", …
    init_from : str, optional
        Id of a segmenting model to start from; every layer of the same shape is taken over. Default: random weights.
    network : "aep", "light" or "unet"
        "light" is Network 2 alone, "unet" a plain U-Net.
    ensemble, source, translation, filters_per_class
        See ``core.models.aep.AEP``.
    dropout : float, optional
        Probability, in training only; 0.5 is published. Default: ``DROPOUT`` from random weights, and that of the
        model to start from, which a smaller one lets forget faster.
    learning_rate : float
        0: ``FROM_SCRATCH_RATE`` from random weights, ``FINE_TUNING_RATE`` from a model, which a larger one makes
        forget faster than a few strokes can teach.
    recipe_options : dict
        Further fields of ``core.recipes.aep.AEPTraining``.
    """

    data: str | os.PathLike[str] | tuple[PaintedLayer, ...]
    data_root: str | os.PathLike[str] | None = None
    model_id: str = "aep-custom"
    title: str = "AEP (own training)"
    class_names: Mapping[int, str] = field(default_factory=dict)
    class_colors: Mapping[int, str] = field(default_factory=dict)
    network: Literal["aep", "light", "unet"] = "aep"
    ensemble: Literal["none", "fixed", "auto"] = "auto"
    source: Literal["penultimate", "logits", "softmax", "argmax"] = "penultimate"
    translation: Literal["code", "paper"] = "code"
    filters_per_class: int = 1
    dropout: float | None = None
    crop_px: int = 256

    def __post_init__(self) -> None:
        LoopRequest.__post_init__(self)
        if self.network not in ("aep", "light", "unet"):
            raise ParameterError(f"network is {self.network!r}; expected 'aep', 'light' or 'unet'")


@dataclass(frozen=True, slots=True, kw_only=True)
class AEPResult(TrainResult):
    """Where everything is, how the training ended, and how good the model is.

    Parameters
    ----------
    values : tuple of int
        Label value of each class.
    mean_iou : float
        Of the weights that were kept, on the paint that was kept aside; NaN before the first validation.
    held_out : "images", "blocks" or "none"
        With "none" there was too little paint to keep some aside, and ``mean_iou`` is of the paint that was learned.
    weights_of_branches : mapping of str to float
        Weight of each branch in the ensemble.
    """

    values: tuple[int, ...]
    mean_iou: float
    held_out: Literal["images", "blocks", "none"]
    weights_of_branches: Mapping[str, float]


def dropout_of(wanted: float | None, start: SegmentationNetwork | None) -> float:
    """Dropout of a training: what was asked for, else that of the network it starts from, else ``DROPOUT``."""
    if wanted is not None:
        return wanted
    return DROPOUT if start is None else start.dropout


def remembered(request: AEPRequest) -> AEPRequest:
    """Request that goes on from the checkpoint of its folder, with the settings that were used there.

    Images, paint and names are those of ``request``; if they differ, :func:`run` refuses.

    Raises
    ------
    ParameterError
        The folder keeps no settings that can be read.
    """
    return replace(request, **recall(request.out, _REMEMBERED), resume=True)


def run(
    request: AEPRequest,
    *,
    on_progress: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
    is_discarded: IsCancelled = never_cancelled,
    look: Look = lambda: None,
    on_glimpse: OnGlimpse = lambda glimpse: None,
) -> AEPResult:
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
        Asked between updates, every few seconds: the window to show, or None.
    on_glimpse : callable
        Called with that window, segmented.

    Raises
    ------
    ImageError
        No paint, one class only, too little paint, labels of another shape, a constant image; a source that cannot be
        read.
    ParameterError
        Settings out of range; a checkpoint of other settings or other paint.
    TrainingError
        The loss is not a number before anything was learned.
    """
    from napari_cellenhance.workflows._train_aep_record import publish
    from napari_cellenhance.workflows._train_aep_setup import AEPSetup, prepare

    def known(setup: AEPSetup, ended: FitState) -> dict[str, Any]:
        return {
            "values": setup.recipe.values, "mean_iou": _best_iou(ended), "held_out": setup.recipe.held_out.how,
            "weights_of_branches": setup.weights_of_branches(),
        }  # fmt: skip

    def publish_it(setup: AEPSetup, ended: FitState, stopped: str) -> tuple[ModelCard, dict[str, Any]]:
        return publish(setup, ended, stopped), {}

    watch = Watch(
        on_progress=on_progress, is_cancelled=is_cancelled, is_discarded=is_discarded, look=look, on_glimpse=on_glimpse
    )  # fmt: skip
    return run_course(request, watch, _REMEMBERED, AEPResult, prepare=prepare, publish=publish_it, known=known)


def _best_iou(state: FitState) -> float:
    rows = [row for row in state.history if "val_mean_iou" in row]
    found = [row["val_mean_iou"] for row in rows if row["step"] == state.best_step]
    return found[-1] if found else float("nan")
