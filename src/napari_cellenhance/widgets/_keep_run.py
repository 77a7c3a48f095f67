"""A training of a semantic filter in the worker: what goes in, and what comes out."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from napari_cellenhance.widgets._denoise_run import taken_ids
from napari_cellenhance.widgets._keep_settings import KeepGoal
from napari_cellenhance.widgets._learning_run import Chosen, LearningRun, updates_between_checks
from napari_cellenhance.widgets._model_now import Work
from napari_cellenhance.widgets._settings import PluginSettings
from napari_cellenhance.widgets._teach_place import Window
from napari_cellenhance.widgets._train_goal import model_id_of
from napari_cellenhance.widgets._training_run import folder_of, threads_beside_window
from napari_cellenhance.workflows import train_semantic
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress
from napari_cellenhance.workflows.semantic_data import channels_taught
from napari_cellenhance.workflows.train_semantic import SemanticRequest, remembered

__all__ = ["KeepRun", "build_semantic_request", "keep_id"]

_FIELDS = (
    "init_from", "title", "n_steps", "time_limit_s", "batch_size", "patch_px", "loss", "learning_rate", "seed",
)  # fmt: skip
_LARGEST_EVERY = 50
_QUICK_S, _QUICK_PAIRS = 60.0, 8
"""Up to this time limit fewer pairs are checked, lest half of the time goes into that."""


def keep_id(title: str) -> str:
    """Id of a model of this name."""
    return model_id_of(title, taken_ids("semantic"))


def build_semantic_request(fields: dict[str, Any], goal: KeepGoal, device: str = "auto") -> SemanticRequest:
    """Turn the panel into a request; ``fields`` say what is learned from."""
    model_id = keep_id(goal.title)
    is_quick = 0 < goal.time_limit_s <= _QUICK_S
    known: dict[str, Any] = {"n_validation": _QUICK_PAIRS} if is_quick else {}
    return SemanticRequest(
        out=folder_of(model_id),
        model_id=model_id,
        validate_every=updates_between_checks(goal.n_steps, _LARGEST_EVERY),
        device=device,
        n_threads=threads_beside_window(os.cpu_count() or 1),
        **{name: getattr(goal, name) for name in _FIELDS},
        **known,
        **fields,
    )


class KeepRun(LearningRun[SemanticRequest]):
    """The call that the worker makes; at the end the chosen images are taken apart with the new model.

    Parameters
    ----------
    request : SemanticRequest
    gone : Event
    chosen : Chosen
        Images to take apart, as they were.
    settings : PluginSettings
    work : callable
        Takes them apart with the model of the request.
    """

    n_dims = 2
    _n_channels = 0

    def __init__(
        self, request: SemanticRequest, gone: threading.Event, chosen: Chosen, settings: PluginSettings, work: Work
    ) -> None:
        super().__init__(request, gone, chosen, settings)
        self._work = work

    def resumed(self) -> KeepRun:
        """The same training, to go on from its checkpoint.

        Raises
        ------
        ParameterError
            Its settings cannot be read.
        """
        return KeepRun(remembered(self.request), self._gone, self.chosen, self.settings, self._work)

    def train(self, **callbacks: Any) -> train_semantic.SemanticResult:
        """Train."""
        self._n_channels = channels_taught(self.request)
        return train_semantic.run(self.request, **callbacks)

    def _look(self) -> Any:
        """Read what is on screen; nothing where its channels do not fit what is learned."""
        window = self.looked_at()
        if window is not None and self._n_channels > 1 and window.channels == "grey":
            self.look_at(replace(window, channels="all"))
        seen = super()._look()
        return seen if seen is None or self._n_channels in (1, len(seen.plane)) else None

    def limits_of(self, _image: NDArray[Any], window: Window) -> tuple[float, float]:
        """Those of the image: what is kept, and a scene that stands still, are on its grey scale."""
        return window.view.contrast_limits

    def use(self, _model_id: str, on_progress: OnProgress, is_cancelled: IsCancelled) -> list[Any]:
        """Take the images apart."""
        return self._work(on_progress, is_cancelled)
