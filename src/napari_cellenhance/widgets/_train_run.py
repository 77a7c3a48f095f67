"""A training in the worker: what goes in, and what comes out of the thread while it runs."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.widgets._labels_picker import labels_array
from napari_cellenhance.widgets._train_goal import Goal, model_id_of
from napari_cellenhance.workflows import train
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress
from napari_cellenhance.workflows.train import TrainLayer, TrainProgress, TrainRequest, TrainResult
from napari_cellenhance.zoo.folders import user_models_dir
from napari_cellenhance.zoo.manifest import ModelCard

__all__ = ["News", "TrainRun", "build_train_request", "ended_sentence", "folder_of", "tunable"]

Picture = tuple[NDArray[np.float32], NDArray[np.float32], int]
"""Before, after, and the update after which it was made."""


def folder_of(model_id: str) -> Path:
    """Where checkpoint, curves and weights of a training are kept: beside the user's models."""
    return user_models_dir() / "trainings" / model_id


def threads_beside_window(n_cores: int) -> int:
    """Threads for a training beside a window that is in use: all cores but one.

    >>> [threads_beside_window(n) for n in (1, 2, 4, 16)]
    [1, 1, 3, 15]
    """
    return max(1, n_cores - 1)


def build_train_request(layers: tuple[TrainLayer, ...], goal: Goal, own_ids: set[str]) -> TrainRequest:
    """Turn the panel into a request; labels of a mask bank are copied.

    Parameters
    ----------
    own_ids : set of str
        Ids of the project's own models, which a training must not take.
    """
    model_id = model_id_of(goal.title, own_ids)
    return TrainRequest(
        data=layers,
        out=folder_of(model_id),
        perception=goal.perception,
        teach=goal.teach,
        masks=None if goal.masks is None else (np.array(labels_array(goal.masks)),),
        model_id=model_id,
        title=goal.title,
        init_from=goal.init_from,
        strength=goal.strength,
        n_steps=goal.n_steps,
        learning_rate=goal.learning_rate,
        validate_every=goal.validate_every,
        batch_size=goal.batch_size,
        crop_px=goal.crop_px,
        seed=goal.seed,
        n_threads=threads_beside_window(os.cpu_count() or 1),
    )


@dataclass
class News:
    """What the thread has to tell since the window last looked; filled there, emptied here."""

    rows: list[Mapping[str, float]] = field(default_factory=list)
    picture: Picture | None = None
    best_step: int = 0
    _step: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, progress: Progress) -> None:
        """Keep the rows of a report."""
        if isinstance(progress, TrainProgress):
            with self._lock:
                self.rows += progress.rows
                self.best_step = progress.best_step
                self._step = progress.n_done

    def add_picture(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> None:
        """Keep the latest picture."""
        with self._lock:
            self.picture = before, after, self._step

    def take(self) -> tuple[list[Mapping[str, float]], Picture | None, int]:
        """Hand over all that is new."""
        with self._lock:
            rows, picture = self.rows, self.picture
            self.rows, self.picture = [], None
            return rows, picture, self.best_step


class TrainRun:
    """The call that the worker makes. ``stop`` keeps the best filter so far; the worker's cancel keeps the checkpoint.

    Parameters
    ----------
    request : TrainRequest
    gone : Event
        Set when the dock goes, however it goes: ends the training at its checkpoint.
    """

    def __init__(self, request: TrainRequest, gone: threading.Event) -> None:
        self.request = request
        self.news = News()
        self._gone = gone
        self._stop = threading.Event()

    def stop(self) -> None:
        """Ask to end after the present update and to keep the best filter so far."""
        self._stop.set()

    @property
    def is_stopping(self) -> bool:
        """Whether somebody asked to stop."""
        return self._stop.is_set()

    def resumed(self) -> TrainRun:
        """The same training, to go on from its checkpoint."""
        return TrainRun(replace(self.request, resume=True), self._gone)

    def __call__(self, on_progress: OnProgress, is_cancelled: IsCancelled) -> TrainResult:
        """Train; called in the thread."""

        def tell(progress: Progress) -> None:
            self.news.add(progress)
            on_progress(progress)

        return train.run(
            self.request,
            on_progress=tell,
            is_cancelled=self._stop.is_set,
            is_discarded=lambda: is_cancelled() or self._gone.is_set(),
            on_picture=self.news.add_picture,
        )


def ended_sentence(result: TrainResult, title: str) -> str:
    """Say how a training ended and what there is now."""
    if result.stopped == "discarded":
        return "Cancelled; no filter was added. “Resume” goes on from here."
    how = {
        "finished": "Done",
        "cancelled": "Stopped",
        "early": "Ended early, since nothing improved",
        "diverged": "Ended, since the loss broke",
    }.get(result.stopped, "Ended")
    return f"{how}: “{title}” is in the list of filters (best at update {result.best_step})."


def tunable(cards: tuple[ModelCard, ...]) -> list[ModelCard]:
    """Models that a training can start from."""
    return [card for card in cards if card.architecture.get("name") == "nunet"]
