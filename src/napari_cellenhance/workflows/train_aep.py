"""Train AEP + AWEL on painted labels: images with paint in, a segmenting model with its card and curves out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_cellenhance.core.errors import ParameterError, TrainingError
from napari_cellenhance.core.recipes.protocol import Region
from napari_cellenhance.workflows._settings_file import CHECKPOINT, recall, remember
from napari_cellenhance.workflows.painted_layers import PaintedLayer
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress
from napari_cellenhance.workflows.train_progress import Report, TrainResult

if TYPE_CHECKING:
    from napari_cellenhance.core.recipes.aep_segmenter import Segmentation
    from napari_cellenhance.core.training import FitState
    from napari_cellenhance.workflows._train_aep_setup import AEPSetup

__all__ = [
    "AEPRequest",
    "AEPResult",
    "Glimpse",
    "PaintedLayer",
    "ViewedWindow",
    "checkpoint_of",
    "remembered",
    "run",
]

_REMEMBERED = (
    "network", "ensemble", "source", "translation", "filters_per_class", "init_from", "n_steps", "batch_size",
    "crop_px", "learning_rate", "validate_every", "patience", "average", "keep", "seed", "precision", "recipe_options",
)  # fmt: skip
"""Fields that a folder keeps beside its checkpoint: all that matter but the images and the paint."""
FROM_SCRATCH_RATE = 1e-3
FINE_TUNING_RATE = 1e-4
GLIMPSE_EVERY_S = 4.0
_GLIMPSE_SHARE = 0.2
"""Largest share of the time that showing the state of things may take."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ViewedWindow:
    """What somebody looks at while a training runs.

    Parameters
    ----------
    plane : ndarray of shape (Y, X)
        In its own dtype; normalised here as in training.
    region : Region
        Window of the plane; the rest is its context.
    key : object
        Handed back with the glimpse, so that it finds its place.
    """

    plane: Any
    region: Region
    key: Any = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Glimpse:
    """The window segmented by the network as it is now."""

    segmentation: Segmentation
    window: ViewedWindow
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AEPRequest:
    """One training of AEP, or of a plain network to compare it with.

    Parameters
    ----------
    data : path, or tuple of PaintedLayer
        JSON list of labelled sources, a folder of images with labels beside them, or images in memory.
    data_root : path, optional
        What the paths in the JSON are relative to; default: its folder.
    out : path
        Folder for the weights, the card, the curves and the checkpoint; made if missing.
    class_names, class_colors : mapping of int to str
        Label value → name, and → ``#rrggbb``; values without one get "background", "class 2", …
    init_from : str, optional
        Id of a segmenting model to start from; every layer of the same shape is taken over. Default: random weights.
    network : "aep", "light" or "unet"
        "light" is Network 2 alone, "unet" a plain U-Net.
    ensemble, source, translation, filters_per_class
        See ``core.models.aep.AEP``.
    n_steps : int
        Updates; 0 derives them from ``time_limit_s``.
    time_limit_s : float
        Used where ``n_steps`` is 0: as many updates as fit, measured on the first ones.
    learning_rate : float
        Of Adam. 0: ``FROM_SCRATCH_RATE`` from random weights, ``FINE_TUNING_RATE`` from a model, which a larger one
        makes forget faster than a few strokes can teach.
    stop_after : int
        End at this update of the ``n_steps`` that the learning rate is scheduled for; 0 runs them all.
    recipe_options : dict
        Further fields of ``core.recipes.aep.AEPTraining``.
    """

    data: str | os.PathLike[str] | tuple[PaintedLayer, ...]
    out: str | os.PathLike[str]
    data_root: str | os.PathLike[str] | None = None
    model_id: str = "aep-custom"
    title: str = "AEP (own training)"
    class_names: Mapping[int, str] = field(default_factory=dict)
    class_colors: Mapping[int, str] = field(default_factory=dict)
    init_from: str | None = None
    network: Literal["aep", "light", "unet"] = "aep"
    ensemble: Literal["none", "fixed", "auto"] = "auto"
    source: Literal["penultimate", "logits", "softmax", "argmax"] = "penultimate"
    translation: Literal["code", "paper"] = "code"
    filters_per_class: int = 1
    n_steps: int = 600
    time_limit_s: float = 0.0
    stop_after: int = 0
    batch_size: int = 4
    crop_px: int = 256
    learning_rate: float = 0.0
    validate_every: int = 50
    patience: int = 0
    average: float = 0.0
    keep: Literal["best", "last"] = "best"
    seed: int = 0
    device: str = "cpu"
    precision: str = "auto"
    n_threads: int = 0
    """Threads to compute with; 0 takes what torch takes."""
    resume: bool = False
    install: bool = True
    """Also store the model in the user's models folder, so that every list of models shows it."""
    recipe_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.network not in ("aep", "light", "unet"):
            raise ParameterError(f"network is {self.network!r}; expected 'aep', 'light' or 'unet'")
        if self.n_threads < 0:
            raise ParameterError(f"{self.n_threads} threads were asked for; expected 0 (as torch likes) or more")
        if not 0 <= self.learning_rate < 1:
            raise ParameterError(f"learning rate is {self.learning_rate}; expected 0 (automatic) or a small number")
        if self.n_steps < 0 or self.time_limit_s < 0 or (self.n_steps == 0 and self.time_limit_s == 0):
            raise ParameterError(
                f"{self.n_steps} updates in {self.time_limit_s:g} s; give a number of updates, or 0 and a time"
            )


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


OnGlimpse = Callable[[Glimpse], None]
Look = Callable[[], ViewedWindow | None]


def checkpoint_of(out: str | os.PathLike[str]) -> Path:
    """Checkpoint of a training whose folder is ``out``; it may not be there."""
    return Path(out) / CHECKPOINT


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
    import torch

    n_threads = torch.get_num_threads()
    torch.set_num_threads(request.n_threads or n_threads)
    try:
        return _run(request, on_progress, is_cancelled, is_discarded, look, on_glimpse)
    finally:
        torch.set_num_threads(n_threads)


def _run(
    request: AEPRequest,
    on_progress: OnProgress,
    is_cancelled: IsCancelled,
    is_discarded: IsCancelled,
    look: Look,
    on_glimpse: OnGlimpse,
) -> AEPResult:
    from napari_cellenhance.core.training import FitState, fit
    from napari_cellenhance.workflows._checkpoint import read_checkpoint, write_checkpoint, write_history
    from napari_cellenhance.workflows._train_aep_record import publish
    from napari_cellenhance.workflows._train_aep_setup import prepare

    def is_ended() -> bool:
        return is_cancelled() or is_discarded()

    out = Path(request.out)
    on_progress(Progress(n_done=0, n_total=request.n_steps, message="Reading the images"))
    setup = prepare(request)
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = checkpoint_of(out)
    state = read_checkpoint(checkpoint, setup.identity)[0] if request.resume else FitState()
    remember(request.out, setup.request, _REMEMBERED)
    n_steps = setup.fit_settings.n_steps
    report = Report(n_steps, on_progress, state)
    showing = _Showing(setup, look, on_glimpse)
    showing.show(state.step)

    def on_step(state: FitState, row: dict[str, float]) -> None:
        report.step(state, row)
        showing.show(state.step)

    def on_checkpoint(state: FitState) -> None:
        write_checkpoint(checkpoint, state, setup.identity, {})
        write_history(out, state)

    result = fit(
        setup.recipe, setup.fit_settings, state=state, on_step=on_step, on_checkpoint=on_checkpoint,
        is_cancelled=lambda: is_ended() or 0 < request.stop_after <= state.step,
    )  # fmt: skip
    ended = result.state
    if not ended.best:
        raise TrainingError(
            "the loss became something that is no number before the first validation, so there is no model to keep; "
            "use a tenth of the learning rate, and look for broken images"
        )
    known = AEPResult(
        model_id=request.model_id, weights=None, card=None, history=out / "history.csv", stopped="discarded",
        best_step=ended.best_step, best_total=ended.best_total, values=setup.recipe.values, mean_iou=_best_iou(ended),
        held_out=setup.recipe.held_out.how, weights_of_branches=setup.weights_of_branches(),
    )  # fmt: skip
    if is_discarded():
        return known
    card = publish(setup, ended, result.stopped)
    return replace(known, weights=out / card.file.name, card=out / f"{card.id}.json", stopped=result.stopped)


def _best_iou(state: FitState) -> float:
    rows = [row for row in state.history if "val_mean_iou" in row]
    found = [row["val_mean_iou"] for row in rows if row["step"] == state.best_step]
    return found[-1] if found else float("nan")


class _Showing:
    """Segments what somebody looks at, now and then, with the network as it is."""

    def __init__(self, setup: AEPSetup, look: Look, on_glimpse: OnGlimpse) -> None:
        self._setup = setup
        self._look = look
        self._on_glimpse = on_glimpse
        self._next = 0.0

    def show(self, step: int) -> None:
        """Show the window if it is time to; leaves the network in the mode it was in."""
        if time.monotonic() < self._next:
            return
        window = self._look()
        if window is None:
            return
        begun = time.monotonic()
        segmentation = self._setup.segment(window.plane, window.region)
        self._on_glimpse(Glimpse(segmentation=segmentation, window=window, step=step))
        took = time.monotonic() - begun
        self._next = time.monotonic() + max(GLIMPSE_EVERY_S, took / _GLIMPSE_SHARE)
