"""A training on strokes in the worker: what goes in, what comes out, and what it looks at meanwhile."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace

from napari_cellenhance.core.errors import CellEnhanceError
from napari_cellenhance.widgets._teach_classes import ClassLook
from napari_cellenhance.widgets._teach_place import Window
from napari_cellenhance.widgets._teach_settings import TeachGoal
from napari_cellenhance.widgets._train_goal import model_id_of
from napari_cellenhance.widgets._training_run import TrainingRun, ended_how, folder_of, threads_beside_window
from napari_cellenhance.workflows import train_aep
from napari_cellenhance.workflows.paint import plane_of
from napari_cellenhance.workflows.painted_layers import PaintedLayer
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress
from napari_cellenhance.workflows.train_aep import AEPRequest, AEPResult, Glimpse, ViewedWindow, remembered
from napari_cellenhance.zoo.manifest import list_models

__all__ = ["Prepare", "TeachRun", "build_aep_request", "ended_sentence", "score_sentence", "taken_ids"]

_FIELDS = (
    "init_from", "title", "n_steps", "time_limit_s", "network", "ensemble", "source", "translation",
    "filters_per_class", "dropout", "crop_px", "batch_size", "learning_rate", "seed",
)  # fmt: skip
Prepare = Callable[[tuple[PaintedLayer, ...]], tuple[PaintedLayer, ...]]
_EVERY_SHARE = 8
_LARGEST_EVERY = 50


def taken_ids() -> set[str]:
    """Ids that a training must not take: models of the project, and models of the user that do not segment."""
    return {card.id for card in list_models() if card.file.url is not None or card.recipe != "aep"}


def build_aep_request(
    layers: tuple[PaintedLayer, ...], goal: TeachGoal, looks: Mapping[int, ClassLook], device: str = "auto"
) -> AEPRequest:
    """Turn the panel into a request.

    Parameters
    ----------
    layers : tuple of PaintedLayer
        With labels that nobody paints on any more.
    goal : TeachGoal
    looks : mapping of int to ClassLook
    device : str
        As in ``core.device.choose_device``.
    """
    model_id = model_id_of(goal.title, taken_ids())
    return AEPRequest(
        data=layers,
        out=folder_of(model_id),
        model_id=model_id,
        class_names={value: look.name for value, look in looks.items()},
        class_colors={value: look.color for value, look in looks.items()},
        validate_every=max(1, min(_LARGEST_EVERY, goal.n_steps // _EVERY_SHARE)),
        device=device,
        n_threads=threads_beside_window(os.cpu_count() or 1),
        **{name: getattr(goal, name) for name in _FIELDS},
    )


class TeachRun(TrainingRun[AEPRequest, Glimpse]):
    """The call that the worker makes. ``stop`` keeps the best model so far; the worker's cancel keeps the checkpoint.

    Parameters
    ----------
    request : AEPRequest
    gone : Event
        Set when the dock goes, however it goes: ends the training at its checkpoint.
    prepare : callable, optional
        Called in the thread with the painted layers; gives those to learn from.
    """

    def __init__(self, request: AEPRequest, gone: threading.Event, prepare: Prepare | None = None) -> None:
        super().__init__(request, gone)
        self.is_prepared = prepare is not None
        self._prepare = prepare

    def resumed(self) -> TeachRun:
        """The same training, to go on from its checkpoint.

        Raises
        ------
        ParameterError
            Its settings cannot be read.
        """
        run = TeachRun(remembered(self.request), self._gone, self._prepare)
        run.is_prepared = self.is_prepared
        return run

    def _look(self) -> ViewedWindow | None:
        """Read the plane on screen; called in the thread."""
        window: Window | None = self.looked_at()
        if window is None:
            return None
        t, z = window.plane
        try:
            plane = plane_of(window.view.levels[0], window.axes, window.channels, t=t, z=z)
            return ViewedWindow(plane=plane, region=window.region, key=window)
        except CellEnhanceError:
            return None  # nothing of the image is on screen, or its axes are being corrected

    def __call__(self, on_progress: OnProgress, is_cancelled: IsCancelled) -> AEPResult:
        """Train; called in the thread."""
        if self._prepare is not None and isinstance(self.request.data, tuple):
            on_progress(Progress(n_done=0, n_total=0, message="Asking the instant answer"))
            self.request = replace(self.request, data=self._prepare(self.request.data))
            self._prepare = None  # a resumed training learns from the very same pixels
        return train_aep.run(
            self.request,
            on_progress=self.told(on_progress),
            is_cancelled=self._stop.is_set,
            is_discarded=self.is_discarded_by(is_cancelled),
            look=self._look,
            on_glimpse=self.keep_seen,
        )


def score_sentence(held_out: str, *, is_answer_learned: bool = False) -> str:
    """Say what the score is.

    >>> score_sentence("blocks")
    'Scored on paint that was kept aside (overlap, IoU; 1 is perfect).'
    """
    if held_out == "none":
        return (
            "Too little paint to keep some aside: this score is of the paint it learned from. Paint more to trust it."
        )
    what = {"images": "painted images", "blocks": "paint"}.get(held_out, "paint")
    if is_answer_learned:
        return f"Scored on {what} that was kept aside, pixels of the instant answer among it: so it is no full test."
    return f"Scored on {what} that was kept aside (overlap, IoU; 1 is perfect)."


def ended_sentence(result: AEPResult, title: str) -> str:
    """Say how a training ended and what there is now."""
    if result.stopped == "discarded":
        return "Cancelled; no model was added or changed. “Resume” goes on from here."
    how = ended_how(result.stopped)
    return f"{how}: “{title}” is ready (best at update {result.best_step}). Use it under “4 Segment”."
