"""The training dock: choose images and what to learn from, watch the curves, and use the new filter at once."""

from __future__ import annotations

from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QTabWidget, QVBoxLayout, QWidget

from napari_cellenhance.widgets._commands import DOCK_TITLE
from napari_cellenhance.widgets._dock_panel import DockPanel
from napari_cellenhance.widgets._docking import ENHANCE, TRAIN, open_panel
from napari_cellenhance.widgets._filter_picker import refill_all
from napari_cellenhance.widgets._forms import boxed, scrolled
from napari_cellenhance.widgets._guard import error_sentence, guarded
from napari_cellenhance.widgets._settings import read_settings, write_setting
from napari_cellenhance.widgets._status import StatusFoot
from napari_cellenhance.widgets._train_goal import TrainGoal, model_id_of
from napari_cellenhance.widgets._train_images import TrainImages
from napari_cellenhance.widgets._train_run import TrainRun, build_train_request, ended_sentence, folder_of, tunable
from napari_cellenhance.widgets._train_view import TrainView
from napari_cellenhance.widgets._worker import Job, Outcome, start_job
from napari_cellenhance.workflows.catalog import list_filters
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress
from napari_cellenhance.workflows.train import TrainRequest, TrainResult, checkpoint_of, remembered
from napari_cellenhance.workflows.train_estimate import TrainEstimate, duration_text, estimate
from napari_cellenhance.zoo.manifest import list_models

if TYPE_CHECKING:
    import napari.components

__all__ = ["TrainPanel"]

_MIN_WIDTH_PX = 365  # the title of the dock fits
_LOOK_EVERY_MS = 250


class TrainPanel(DockPanel):
    """Dock panel. It holds widgets and at most one job; no pixels but those of a training that can be resumed.

    Parameters
    ----------
    viewer : ViewerModel
    """

    def __init__(self, viewer: napari.components.ViewerModel) -> None:
        super().__init__(viewer, TRAIN)
        self._job: Job | None = None
        self._run: TrainRun | None = None
        self._last: TrainRun | None = None
        self._made: str = ""
        self._measured: tuple[tuple[Any, ...], TrainEstimate] | None = None
        self.images = TrainImages(viewer)
        self.goal = TrainGoal(viewer, tunable(list_models()), read_settings().perception)
        self.view = TrainView()
        self.foot = StatusFoot()
        self.stop = QPushButton("Stop, keep best")
        self.resume = QPushButton("Resume")
        self.try_now = QPushButton("Try it now")
        self.setMinimumWidth(_MIN_WIDTH_PX)
        # Reports of the thread are thinned out, and a picture comes between them: look by the clock as well.
        self._clock = QTimer(self)
        self._clock.setInterval(_LOOK_EVERY_MS)
        self._clock.timeout.connect(self._show_news)
        self._word_buttons()
        self._lay_out()
        self._connect()
        self._on_changed()

    # --- layout -------------------------------------------------------------------------

    def _word_buttons(self) -> None:
        self.foot.device.setVisible(False)
        self.foot.run.setText("Train")
        self.foot.run.setToolTip("Start; you can go on working in napari meanwhile.")
        self.foot.cancel.setToolTip("End without a new filter. What was learned so far stays on disk for “Resume”.")
        self.stop.setToolTip("End after the present update, and add the best filter so far to the list.")
        self.resume.setToolTip("Go on where the training of this name ended, with the very same images and settings.")
        self.try_now.setToolTip("Open “Enhance cells” with the new filter and the live preview.")
        self.try_now.setVisible(False)

    def _lay_out(self) -> None:
        setup = QWidget()
        column = QVBoxLayout(setup)
        column.setContentsMargins(0, 0, 0, 0)
        for title, part in (("Images", self.images), ("Training", self.goal)):
            column.addWidget(boxed(title, part))
        column.addStretch(1)
        self.tabs = QTabWidget()
        self.tabs.addTab(scrolled(setup), "Set up")
        self.tabs.addTab(scrolled(self.view), "Progress")
        more = QHBoxLayout()
        for button in (self.stop, self.resume, self.try_now):
            more.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addWidget(self.tabs, 1)
        layout.addWidget(self.foot)
        layout.addLayout(more)

    def _connect(self) -> None:
        self.images.changed.connect(self._on_changed)
        self.goal.changed.connect(self._on_changed)
        self.goal.perception_chosen.connect(self._remember_perception)
        self.goal.estimate_wanted.connect(self.estimate)
        self.foot.run_clicked.connect(self.train)
        self.foot.cancel_clicked.connect(self._on_cancel)
        self.stop.clicked.connect(self._on_stop)
        self.resume.clicked.connect(self.resume_training)
        self.try_now.clicked.connect(self._on_try)
        # When the whole window goes, only Qt knows; by then no method of this panel may be called.
        self.destroyed.connect(partial(_let_go, self._gone))

    # --- what the panel says ------------------------------------------------------------

    def problem(self) -> str:
        """Why training is not possible; empty when it is."""
        if problem := self.images.problem():
            return problem
        return self.goal.problem(has_labels=any(form.labels.layer() is not None for form in self.images.forms()))

    def request(self) -> TrainRequest:
        """What the panel says, with copies of the painted labels."""
        goal = self.goal.goal()
        layers = tuple(form.train_layer(with_labels=goal.teach != "images") for form in self.images.forms())
        return build_train_request(layers, goal, _project_ids())

    def _pace(self) -> tuple[Any, ...]:
        """What the time of one update depends on."""
        goal = self.goal.goal()
        return goal.teach, goal.perception, goal.batch_size, goal.crop_px, goal.init_from

    # --- slots --------------------------------------------------------------------------

    @guarded
    def _on_changed(self) -> None:
        if self._gone.is_set():
            return
        forms = self.images.forms()
        self.images.set_taught(self.goal.goal().teach != "images")
        self.goal.suggest_name(str(forms[0].layer.name) if forms else "")
        problem = self.problem()
        is_free = self._job is None
        self.foot.run.setEnabled(is_free and not problem)
        self.goal.estimate.setEnabled(is_free and not problem)
        self.stop.setEnabled(self._run is not None and not self._run.is_stopping)
        self.resume.setEnabled(is_free and (self._resumable() is not None or (not problem and self._has_checkpoint())))
        if is_free:
            self.foot.show_hint(problem)
        self._show_time()

    def _resumable(self) -> TrainRun | None:
        """Training of this session that ended early and still has the name in the form."""
        return self._last if self._last is not None and self._has_checkpoint() and self._is_last_named() else None

    def _is_last_named(self) -> bool:
        return self._last is not None and self._last.request.model_id == self._model_id()

    def _model_id(self) -> str:
        return model_id_of(self.goal.goal().title, _project_ids())

    def _has_checkpoint(self) -> bool:
        return checkpoint_of(folder_of(self._model_id())).is_file()

    def _show_time(self) -> None:
        if self._measured is None:
            self.goal.show_time("")
            return
        pace, measured = self._measured
        if pace != self._pace():
            self.goal.show_time("Settings changed; measure again.")
            return
        goal = self.goal.goal()
        total = duration_text(measured.total_s(goal.n_steps, goal.validate_every))
        self.goal.show_time(f"about {total} ({measured.step_s:.2g} s per update)")

    @guarded
    def _remember_perception(self, perception: str) -> None:
        write_setting("perception", perception)

    @guarded
    def estimate(self) -> None:
        """Measure a few updates in the worker."""
        if problem := self.problem():
            self.foot.show_error(problem)
            return
        request, pace = self.request(), self._pace()

        def work(on_progress: OnProgress, is_cancelled: IsCancelled) -> TrainEstimate | None:
            return estimate(
                request, on_progress=on_progress, is_cancelled=lambda: is_cancelled() or self._gone.is_set()
            )

        self._begin("Estimate the time of a training", work, partial(self._on_estimated, pace))

    @guarded
    def _on_estimated(self, pace: tuple[Any, ...], outcome: Outcome) -> None:
        if not self._settle(outcome):
            return
        if outcome.value is not None:
            self._measured = pace, outcome.value
        self._show_time()

    @guarded
    def train(self) -> None:
        """Start a training with what the panel says; at most one at a time."""
        if problem := self.problem():
            self.foot.show_error(problem)
            return
        self._train(TrainRun(self.request(), self._gone))

    @guarded
    def resume_training(self) -> None:
        """Go on from the checkpoint; of this session with the very same arrays, else with what the panel says."""
        earlier = self._resumable()
        self._train(TrainRun(remembered(self.request()), self._gone) if earlier is None else earlier.resumed())

    def _train(self, run: TrainRun) -> None:
        title = run.request.title
        self._begin(f"Train {title}", run, partial(self._on_ended, run))
        self._run = self._last = run
        self._made = ""
        self.try_now.setVisible(False)
        self.view.start(is_tuning=run.request.init_from is not None)
        self._clock.start()
        self.tabs.setCurrentIndex(1)
        self._on_changed()

    def _begin(self, title: str, work: Any, on_ended: Any) -> None:
        self._job = start_job(title, work, on_progress=self._on_progress, on_ended=on_ended, lane="training")
        self.foot.run.setEnabled(False)
        self.goal.estimate.setEnabled(False)
        self.resume.setEnabled(False)
        self.foot.set_running(is_running=True)
        self.foot.show_info("")

    @guarded
    def _on_progress(self, progress: Progress) -> None:
        if self._gone.is_set():
            return
        self.foot.show_progress(progress)
        self._show_news()

    @guarded
    def _show_news(self) -> None:
        if self._run is None or self._gone.is_set():
            self._clock.stop()
            return
        rows, picture, best_step = self._run.news.take()
        self.view.add(rows, best_step)
        if picture is not None:
            self.view.add_picture(*picture)

    @guarded
    def _on_stop(self) -> None:
        if self._run is not None:
            self._run.stop()
            self.stop.setEnabled(False)
            self.foot.show_info("Stopping after this update; the best filter so far is kept.")

    @guarded
    def _on_cancel(self) -> None:
        if self._job is not None:
            self._job.cancel()
            self.foot.set_cancelling()

    def _settle(self, outcome: Outcome) -> bool:
        """Put away what belongs to a run; False where nothing more may be shown."""
        self._job = None
        if self._gone.is_set():
            return False
        self._show_news()
        self._run = None
        self.foot.set_running(is_running=False)
        self._on_changed()
        if outcome.error is not None:
            self.foot.show_error(error_sentence(outcome.error))
        return outcome.error is None

    @guarded
    def _on_ended(self, run: TrainRun, outcome: Outcome) -> None:
        if not self._settle(outcome) or outcome.value is None:
            return
        result: TrainResult = outcome.value
        if result.stopped == "diverged":
            self.view.judge(is_diverged=True)
        self.foot.show_info(ended_sentence(result, run.request.title))
        if result.card is not None:
            self._made = result.model_id
            refill_all(list_filters())
            self.goal.set_models(tunable(list_models()))
            self.try_now.setVisible(True)
        self._on_changed()

    @guarded
    def _on_try(self) -> None:
        """Open the Enhance dock on the first training image with the new filter, and switch its preview on."""
        forms = self.images.forms()
        if not hasattr(self._viewer, "window") or not self._made:
            return
        panel = open_panel(self._viewer, ENHANCE, DOCK_TITLE)
        panel.filters.refill(list_filters())
        panel.filters.choose(self._made)
        if forms:
            panel.select(forms[0].layer)
        panel.badge.switch.setChecked(True)

    # --- showing ------------------------------------------------------------------------

    def show_error(self, message: str) -> None:
        """Show a sentence in the message area."""
        self.foot.show_error(message)

    def select(self, layer: Any) -> None:
        """Check a layer from outside (menu commands)."""
        self.images.check(layer)

    # --- the end ------------------------------------------------------------------------

    def let_go(self) -> None:
        """Release the viewer and everything that listens to it."""
        self.images.release()
        self.goal.release()


def _project_ids() -> set[str]:
    """Ids that a training must not take."""
    return {card.id for card in list_models() if card.file.url is not None}


def _let_go(gone: Event, *_: Any) -> None:
    gone.set()
