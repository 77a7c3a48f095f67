"""The training dock: choose images and what to learn from, watch the curves, and use the new filter at once."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from napari_cellenhance.widgets._commands import DOCK_TITLE
from napari_cellenhance.widgets._docking import ENHANCE, TRAIN, open_panel
from napari_cellenhance.widgets._filter_picker import refill_all
from napari_cellenhance.widgets._forms import boxed, new_tabs, scrolled
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._settings import read_settings, write_setting
from napari_cellenhance.widgets._train_goal import TrainGoal, model_id_of
from napari_cellenhance.widgets._train_images import TrainImages
from napari_cellenhance.widgets._train_run import TrainRun, build_train_request, ended_sentence, tunable
from napari_cellenhance.widgets._train_view import TrainView
from napari_cellenhance.widgets._training_dock import TrainingDock
from napari_cellenhance.widgets._worker import Outcome
from napari_cellenhance.workflows.catalog import list_filters
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress
from napari_cellenhance.workflows.train import TrainRequest, TrainResult, remembered
from napari_cellenhance.workflows.train_estimate import TrainEstimate, duration_text, estimate
from napari_cellenhance.zoo.manifest import list_models

if TYPE_CHECKING:
    import napari.components

__all__ = ["TrainPanel"]


class TrainPanel(TrainingDock):
    """Dock panel. It holds widgets and at most one job; no pixels but those of a training that can be resumed.

    Parameters
    ----------
    viewer : ViewerModel
    """

    def __init__(self, viewer: napari.components.ViewerModel) -> None:
        super().__init__(viewer, TRAIN)
        self._made: str = ""
        self._measured: tuple[tuple[Any, ...], TrainEstimate] | None = None
        self.images = TrainImages(viewer)
        self.goal = TrainGoal(viewer, tunable(list_models()), read_settings().perception)
        self.view = TrainView()
        self.try_now = QPushButton("Try it now")
        self._word_buttons()
        self._lay_out()
        self._connect()
        self._on_changed()

    # --- layout -------------------------------------------------------------------------

    def _word_buttons(self) -> None:
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
        self.tabs = new_tabs()
        self.tabs.addTab(scrolled(setup), "Set up")
        self.tabs.addTab(scrolled(self.view), "Progress")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addWidget(self.tabs, 1)
        layout.addWidget(self.training_foot(self.try_now))

    def _connect(self) -> None:
        self.images.changed.connect(self._on_changed)
        self.goal.changed.connect(self._on_changed)
        self.goal.perception_chosen.connect(self._remember_perception)
        self.goal.estimate_wanted.connect(self.estimate)
        self.try_now.clicked.connect(self._on_try)

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
        self.goal.estimate.setEnabled(self._job is None and not problem)
        self.show_buttons(problem)
        self._show_time()

    def show_state(self) -> None:
        """Show again what can be pressed."""
        self._on_changed()

    def model_id(self) -> str:
        """Id of the filter that a training would make."""
        return model_id_of(self.goal.goal().title, _project_ids())

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

        self.begin("Estimate the time of a training", work, partial(self._on_estimated, pace))

    @guarded
    def _on_estimated(self, pace: tuple[Any, ...], outcome: Outcome) -> None:
        if self.settle(outcome) and outcome.value is not None:
            self._measured = pace, outcome.value
            self._show_time()

    def new_run(self) -> TrainRun:
        """A training with what the panel says."""
        return TrainRun(self.request(), self._gone)

    def run_from_disk(self) -> TrainRun:
        """A training that goes on from a checkpoint of an earlier session, with the settings used there."""
        return TrainRun(remembered(self.request()), self._gone)

    def show_started(self, run: TrainRun) -> None:
        """Get ready to show a training."""
        self._made = ""
        self.try_now.setVisible(False)
        self.view.start(is_tuning=run.request.init_from is not None)
        self.tabs.setCurrentIndex(1)

    def show_news(self, run: TrainRun) -> None:
        """Let the curves grow, and show the newest picture."""
        rows, picture, best_step = run.news.take()
        self.view.add(rows, best_step)
        if picture is not None:
            self.view.add_picture(*picture)

    def show_ended(self, run: TrainRun, outcome: Outcome) -> None:
        """Offer the new filter."""
        result: TrainResult | None = outcome.value
        if result is None:
            return
        if result.stopped == "diverged":
            self.view.judge(is_diverged=True)
        if result.card is not None:
            self._made = result.model_id
            refill_all(list_filters())
            self.goal.set_models(tunable(list_models()))
            self.try_now.setVisible(True)
        self._on_changed()
        self.foot.show_info(ended_sentence(result, run.request.title))

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
