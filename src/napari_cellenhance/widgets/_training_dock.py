"""What docks with a training share: start, stop, discard, resume, and what the thread tells the window."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_cellenhance.widgets._dock_panel import DockPanel
from napari_cellenhance.widgets._guard import error_sentence, guarded
from napari_cellenhance.widgets._status import StatusFoot
from napari_cellenhance.widgets._training_run import folder_of
from napari_cellenhance.widgets._worker import Job, Outcome, start_job
from napari_cellenhance.workflows._settings_file import CHECKPOINT
from napari_cellenhance.workflows.progress import Progress

__all__ = ["TrainingDock"]

_LOOK_EVERY_MS = 250
_STOP, _STOP_TIP = "Stop, keep best", "End after the present update, and keep the best model so far."


class TrainingDock(DockPanel):
    """A dock that trains models, one at a time.

    Parameters
    ----------
    viewer : ViewerModel
    name : str
        Object name, one of ``_docking.PANELS``.
    """

    def __init__(self, viewer: Any, name: str) -> None:
        super().__init__(viewer, name)
        self._job: Job | None = None
        self._run: Any = None
        self._last: Any = None
        self._finished: set[str] = set()
        self.foot = StatusFoot()
        self.foot.device.setVisible(False)
        self.foot.run.setText("Train")
        self.stop = QPushButton(_STOP)
        self.stop.setToolTip(_STOP_TIP)
        self.resume = QPushButton("Resume")
        self.resume.setToolTip("Go on where the training of this name ended, with the same images and settings.")
        # Reports of the thread are thinned out: look by the clock as well.
        self._clock = QTimer(self)
        self._clock.setInterval(_LOOK_EVERY_MS)
        self._clock.timeout.connect(self._on_clock)
        self.foot.run_clicked.connect(self.train)
        self.foot.cancel_clicked.connect(self._on_cancel)
        self.stop.clicked.connect(self._on_stop)
        self.resume.clicked.connect(self.resume_training)
        # When the whole window goes, only Qt knows; by then no method of this panel may be called.
        self.destroyed.connect(partial(_let_go, self._gone))

    # --- for the docks ------------------------------------------------------------------

    def problem(self) -> str:
        """Why training is not possible; empty when it is."""
        raise NotImplementedError

    def new_run(self) -> Any:
        """A training with what the dock says."""
        raise NotImplementedError

    def run_from_disk(self) -> Any:
        """A training that goes on from a checkpoint of an earlier session.

        Raises
        ------
        ParameterError
            Its settings cannot be read.
        """
        return self.new_run().resumed()

    def model_id(self) -> str:
        """Id of the model that a training would make."""
        raise NotImplementedError

    def show_started(self, run: Any) -> None:
        """Get ready to show a training."""

    def show_news(self, run: Any) -> None:
        """Show what a training told since the last look."""

    def show_ended(self, run: Any, outcome: Outcome) -> None:
        """Show what a training left."""

    def stopping_sentence(self, _run: Any) -> str:
        """Say that Stop was heard."""
        return "Stopping after this update; the best model so far is kept."

    def show_state(self) -> None:
        """Show again what can be pressed."""

    # --- layout -------------------------------------------------------------------------

    def training_foot(self, *more_buttons: QPushButton) -> QWidget:
        """Run strip of the training, with its buttons, and others beside them."""
        strip = QWidget()
        column = QVBoxLayout(strip)
        column.setContentsMargins(0, 0, 0, 0)
        more = QHBoxLayout()
        for button in (self.stop, self.resume, *more_buttons):
            more.addWidget(button)
        column.addWidget(self.foot)
        column.addLayout(more)
        return strip

    def show_buttons(self, problem: str) -> None:
        """Enable what can be pressed; ``problem`` is why Train is not."""
        is_free = self._job is None
        self.foot.run.setEnabled(is_free and not problem)
        self.stop.setEnabled(self._run is not None and not self._run.is_stopping)
        self.resume.setEnabled(is_free and (self._resumable() is not None or (not problem and self._has_checkpoint())))
        if is_free:
            self.foot.show_hint(problem)

    def _has_checkpoint(self) -> bool:
        """Whether a training of that name can go on."""
        model_id = self.model_id()
        return model_id not in self._finished and (folder_of(model_id) / CHECKPOINT).is_file()

    def _resumable(self) -> Any:
        """Training of this session that still has the name in the form."""
        is_named = self._last is not None and self._last.request.model_id == self.model_id()
        return self._last if is_named and self._has_checkpoint() else None

    # --- a training ---------------------------------------------------------------------

    @guarded
    def train(self) -> None:
        """Start a training with what the dock says; at most one at a time."""
        if problem := self.problem():
            self.foot.show_error(problem)
            return
        self._train(self.new_run())

    @guarded
    def resume_training(self) -> None:
        """Go on from the checkpoint; of this session with the very same arrays, else with what the dock says."""
        earlier = self._resumable()
        self._train(self.run_from_disk() if earlier is None else earlier.resumed())

    def _train(self, run: Any) -> None:
        self.begin(f"Train {run.request.title}", run, partial(self._on_ended, run))
        self._run = self._last = run
        self._finished.discard(run.request.model_id)
        self.show_started(run)
        self._clock.start()
        self.show_state()

    def begin(self, title: str, work: Any, on_ended: Any) -> None:
        """Give the worker something to do in the lane of trainings."""
        self._job = start_job(title, work, on_progress=self._on_progress, on_ended=on_ended, lane="training")
        self.foot.set_running(is_running=True)
        self.foot.show_info("")
        self.show_state()

    @guarded
    def _on_progress(self, progress: Progress) -> None:
        if not self._gone.is_set():
            self.foot.show_progress(progress)
            self._on_clock()

    @guarded
    def _on_clock(self) -> None:
        if self._run is None or self._gone.is_set():
            self._clock.stop()
            return
        self.show_news(self._run)

    @guarded
    def _on_stop(self) -> None:
        if self._run is not None:
            self._run.stop()
            self.stop.setEnabled(False)
            self.foot.show_info(self.stopping_sentence(self._run))

    def settle(self, outcome: Outcome) -> bool:
        """Put away what belongs to a job; False where nothing more may be shown."""
        self._job = None
        if self._gone.is_set():
            return False
        self._on_clock()
        self._run = None
        self.stop.setText(_STOP)
        self.stop.setToolTip(_STOP_TIP)
        self.foot.set_running(is_running=False)
        self.show_state()
        if outcome.error is not None:
            self.foot.show_error(error_sentence(outcome.error))
        return True

    @guarded
    def _on_ended(self, run: Any, outcome: Outcome) -> None:
        if self.settle(outcome):
            self.show_ended(run, outcome)

    def show_error(self, message: str) -> None:
        """Show a sentence in the message area."""
        self.foot.show_error(message)


def _let_go(gone: threading.Event, *_: Any) -> None:
    gone.set()
