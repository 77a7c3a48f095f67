"""A training of a restoration in the worker: what goes in, and what comes out."""

from __future__ import annotations

import os
import threading
from typing import Any

from napari_cellenhance.widgets._denoise_run import taken_ids
from napari_cellenhance.widgets._learning_run import Chosen, LearningRun, updates_between_checks
from napari_cellenhance.widgets._model_now import Work
from napari_cellenhance.widgets._restore_settings import RestoreGoal
from napari_cellenhance.widgets._settings import PluginSettings
from napari_cellenhance.widgets._train_goal import model_id_of
from napari_cellenhance.widgets._training_run import folder_of, threads_beside_window
from napari_cellenhance.workflows import train_care
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress
from napari_cellenhance.workflows.synthesize import Synthesis
from napari_cellenhance.workflows.train_care import CareRequest, remembered

__all__ = ["RestoreRun", "build_care_request", "restore_id"]

_FIELDS = (
    "init_from",
    "clean_scale",
    "title",
    "n_steps",
    "time_limit_s",
    "n_dims",
    "patch_px",
    "learning_rate",
    "seed",
)
_LARGEST_EVERY = 50
_QUICK_S, _QUICK_PATCHES = 60.0, 32
"""Up to this time limit fewer patches are checked, lest half of the time goes into that."""


def restore_id(title: str) -> str:
    """Id of a model of this name."""
    return model_id_of(title, taken_ids("care"))


def build_care_request(
    data: Any, goal: RestoreGoal, synthesis: Synthesis, *, is_paired: bool, device: str = "auto"
) -> CareRequest:
    """Turn the panel into a request."""
    model_id = restore_id(goal.title)
    is_quick = 0 < goal.time_limit_s <= _QUICK_S
    return CareRequest(
        data=data,
        is_paired=is_paired,
        synthesis=synthesis,
        out=folder_of(model_id),
        model_id=model_id,
        validate_every=updates_between_checks(goal.n_steps, _LARGEST_EVERY),
        device=device,
        recipe_options={"n_validation": _QUICK_PATCHES} if is_quick else {},
        n_threads=threads_beside_window(os.cpu_count() or 1),
        **{name: getattr(goal, name) for name in _FIELDS},
    )


class RestoreRun(LearningRun[CareRequest]):
    """The call that the worker makes; at the end the chosen images are restored with the new model.

    Parameters
    ----------
    request : CareRequest
    gone : Event
    chosen : Chosen
        Images to restore, as they were.
    settings : PluginSettings
    work : callable
        Restores them with the model of the request.
    """

    def __init__(
        self, request: CareRequest, gone: threading.Event, chosen: Chosen, settings: PluginSettings, work: Work
    ) -> None:
        super().__init__(request, gone, chosen, settings)
        self._work = work

    def resumed(self) -> RestoreRun:
        """The same training, to go on from its checkpoint.

        Raises
        ------
        ParameterError
            Its settings cannot be read.
        """
        return RestoreRun(remembered(self.request), self._gone, self.chosen, self.settings, self._work)

    def train(self, **callbacks: Any) -> train_care.CareResult:
        """Train."""
        return train_care.run(self.request, **callbacks)

    def use(self, _model_id: str, on_progress: OnProgress, is_cancelled: IsCancelled) -> list[Any]:
        """Restore."""
        return self._work(on_progress, is_cancelled)
