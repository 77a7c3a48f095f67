"""A training in the worker: how it is stopped, and what goes between its thread and the window."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress
from napari_cellenhance.workflows.train_progress import TrainProgress
from napari_cellenhance.zoo.folders import user_models_dir

__all__ = ["News", "TrainingRun", "ended_how", "folder_of", "threads_beside_window"]

Request = TypeVar("Request")
Seen = TypeVar("Seen")
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


def ended_how(stopped: str) -> str:
    """Say how a training ended.

    >>> ended_how("cancelled")
    'Stopped'
    """
    return {
        "finished": "Done",
        "cancelled": "Stopped",
        "early": "Ended early, since nothing improved",
        "diverged": "Ended, since the loss broke",
    }.get(stopped, "Ended")


class TrainingRun(ABC, Generic[Request, Seen]):
    """The call that the worker makes. ``stop`` keeps the best model so far; the worker's cancel keeps the checkpoint.

    Parameters
    ----------
    request : request of a training
        With ``model_id`` and ``title``.
    gone : Event
        Set when the dock goes, however it goes: ends the training at its checkpoint.
    """

    def __init__(self, request: Request, gone: threading.Event) -> None:
        self.request = request
        self.news = News()
        self._gone = gone
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._window: Any = None
        self._seen: Seen | None = None

    def stop(self) -> None:
        """Ask to end after the present update and to keep the best model so far."""
        self._stop.set()

    @property
    def is_stopping(self) -> bool:
        """Whether somebody asked to stop."""
        return self._stop.is_set()

    @abstractmethod
    def resumed(self) -> TrainingRun[Request, Seen]:
        """The same training, to go on from its checkpoint."""

    @abstractmethod
    def __call__(self, on_progress: OnProgress, is_cancelled: IsCancelled) -> Any:
        """Train; called in the thread."""

    # --- between the window and the thread ------------------------------------------------

    def look_at(self, window: Any) -> None:
        """Say what is on screen, or None; called by the window."""
        with self._lock:
            self._window = window

    def looked_at(self) -> Any:
        """What is on screen; called in the thread."""
        with self._lock:
            return self._window

    def take_seen(self) -> Seen | None:
        """Hand over the newest picture, once; called by the window."""
        with self._lock:
            seen, self._seen = self._seen, None
            return seen

    def keep_seen(self, seen: Seen) -> None:
        """Keep a picture for the window; called in the thread."""
        with self._lock:
            self._seen = seen

    def told(self, on_progress: OnProgress) -> OnProgress:
        """The same callable, with the rows of the history kept for the curves."""

        def tell(progress: Progress) -> None:
            self.news.add(progress)
            on_progress(progress)

        return tell

    def is_discarded_by(self, is_cancelled: IsCancelled) -> IsCancelled:
        """Whether the training ends without a model: a cancel, or the end of the dock."""
        return lambda: is_cancelled() or self._gone.is_set()
