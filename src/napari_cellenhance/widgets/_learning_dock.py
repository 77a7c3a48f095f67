"""What docks share that learn from images, show a picture while they do, and use what was learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_cellenhance.core.errors import CellEnhanceError
from napari_cellenhance.widgets._checked_layers import CheckedLayers
from napari_cellenhance.widgets._denoise_results import LearningImage
from napari_cellenhance.widgets._filter_picker import refill_all
from napari_cellenhance.widgets._forms import boxed, new_tabs, scrolled
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._learning_run import LearningRun, Seen, Trained, ended_sentence
from napari_cellenhance.widgets._model_now import ModelNow
from napari_cellenhance.widgets._settings import PluginSettings, read_settings
from napari_cellenhance.widgets._teach_place import Window
from napari_cellenhance.widgets._training_dock import TrainingDock
from napari_cellenhance.widgets._training_time import time_text
from napari_cellenhance.widgets._training_view import TrainingView
from napari_cellenhance.widgets._worker import Outcome
from napari_cellenhance.workflows.catalog import list_filters
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress
from napari_cellenhance.workflows.train_estimate import TrainEstimate

if TYPE_CHECKING:
    from napari_cellenhance.zoo.cards import ModelCard

__all__ = ["LearningDock", "settings_of_networks"]

_SKIP_TIP = "The model is ready. End without the new layers; the first page makes them later."


class LearningDock(TrainingDock):
    """A dock with three pages: use a model, train one, watch that.

    Parameters
    ----------
    viewer : ViewerModel
    name : str
        Object name, one of ``_docking.PANELS``.

    Attributes
    ----------
    images : CheckedLayers
        Images to work on.
    now : ModelNow
    settings : QWidget
        With ``goal()``, ``problem()``, ``set_models(cards)``, the signals ``changed`` and ``estimate_wanted``, the
        button ``estimate``, ``duration``, and the label ``expected``.
    view : TrainingView
    learning : LearningImage
    """

    images: CheckedLayers
    now: ModelNow
    settings: Any
    view: TrainingView
    skip_text = "Skip"
    none_checked = ""
    """What to do with a new model where no image was checked."""
    image_pages: tuple[int, ...] = (0,)
    """Pages that show the list of images; the first page never shows the buttons of a training."""

    def __init__(self, viewer: Any, name: str) -> None:
        super().__init__(viewer, name)
        self._measured: tuple[tuple[Any, ...], TrainEstimate] | None = None
        self.learning = LearningImage(viewer)
        self.tabs = new_tabs()
        self.foot.cancel_word = "Discard"
        self.foot.cancel.setText("Discard")
        self.foot.cancel.setToolTip("End without a new model. What was learned stays on disk for “Resume”.")

    # --- for the docks ------------------------------------------------------------------

    def pace(self) -> tuple[Any, ...]:
        """What the time of one update depends on."""
        raise NotImplementedError

    def measure_pace(self) -> Any:
        """Make the call that measures some updates."""
        raise NotImplementedError

    def cards(self) -> Sequence[ModelCard]:
        """Models of the kind that the dock uses and makes."""
        raise NotImplementedError

    def show_choices(self) -> None:
        """Offer what suits the images, before anything is judged; begins :meth:`show_state`."""

    def show_more(self, problem: str) -> None:
        """Show what only this dock has; part of :meth:`show_state`."""

    def card_sentence(self, card: ModelCard) -> str:
        """Say what a new model can do, from its card."""
        return ""

    def close_parts(self) -> None:
        """Close what only this dock has; part of :meth:`let_go`."""

    def lay_out(self, title: str, *pages: tuple[str, QWidget]) -> None:
        """Put the images above the pages and the buttons below; ``title`` stands over the images."""
        self._add_pages(*pages)
        self._images_box = boxed(title, self.images)
        self._below = self.training_foot()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addWidget(self._images_box)
        layout.addWidget(self.tabs, 1)
        layout.addWidget(self._below)
        self.on_tab(0)

    def connect_parts(self, *abandons: Callable[[], None]) -> None:
        """Listen to the parts; ``abandons`` end the threads of a dock that was destroyed without being closed."""
        self.images.changed.connect(self.on_images)
        self.settings.changed.connect(self.show_state)
        self.settings.estimate_wanted.connect(self.estimate)
        self.now.models_changed.connect(self.on_models)
        self.tabs.currentChanged.connect(self.on_tab)
        self.destroyed.connect(partial(_abandon, (self.now.abandon, *abandons)))

    def _add_pages(self, *pages: tuple[str, QWidget]) -> None:
        """Fill the tabs; the last page is that of the training, which grows with the dock."""
        for i, (title, part) in enumerate(pages):
            page = QWidget()
            column = QVBoxLayout(page)
            column.setContentsMargins(4, 4, 4, 4)
            column.addWidget(part)
            if i < len(pages) - 1:
                column.addStretch(1)
            self.tabs.addTab(scrolled(page), title)

    # --- slots --------------------------------------------------------------------------

    @guarded
    def on_tab(self, index: int) -> None:
        """Show what belongs to a page."""
        self._below.setVisible(index != 0)
        self._images_box.setVisible(index in self.image_pages)

    @guarded
    def on_images(self) -> None:
        """Other images, or other settings of one."""
        if not self._gone.is_set():
            self.show_state()

    @guarded
    def show_state(self) -> None:
        """Show again what is chosen, what that means, and what can be pressed."""
        if self._gone.is_set():
            return
        self.show_choices()
        problem = self.problem()
        self.settings.duration.show_replaced(is_replaced=self.model_id() in {card.id for card in self.cards()})
        self.settings.estimate.setEnabled(self._job is None and not problem)
        self.show_more(problem)
        self.show_time()
        self.show_buttons(problem)
        self.now.show_state()

    @guarded
    def on_models(self) -> None:
        """Show the new list of models."""
        self.settings.set_models(self.cards())
        refill_all(list_filters())

    # --- how long -----------------------------------------------------------------------

    def show_time(self) -> None:
        """Say how long it takes, if that was measured."""
        goal = self.settings.goal()
        text = ""
        if self._measured is not None:
            pace, measured = self._measured
            is_known = pace == self.pace()
            text = (
                time_text(measured, goal.n_steps, goal.time_limit_s) if is_known else "Settings changed; measure again."
            )
        self.settings.expected.setText(text)

    @guarded
    def estimate(self) -> None:
        """Measure a few updates in the worker."""
        if problem := self.problem():
            self.foot.show_error(problem)
            return
        measure, pace = self.measure_pace(), self.pace()

        def work(on_progress: OnProgress, _is_cancelled: IsCancelled) -> TrainEstimate:
            on_progress(Progress(n_done=0, n_total=0, message="Measuring a few updates"))
            measured: TrainEstimate = measure()
            return measured

        self.begin("Estimate the time of a training", work, partial(self._on_estimated, pace))

    @guarded
    def _on_estimated(self, pace: tuple[Any, ...], outcome: Outcome) -> None:
        if self.settle(outcome) and outcome.value is not None:
            self._measured = pace, outcome.value
            self.show_time()

    # --- a training ---------------------------------------------------------------------

    def show_started(self, run: LearningRun[Any]) -> None:
        """Get ready to show a training."""
        self.now.badge.switch.setChecked(False)  # two pictures over each other say nothing
        self.learning.remove()
        run.look_at(self._window())
        self.view.start()
        self.tabs.setCurrentIndex(self.tabs.count() - 1)

    def _window(self) -> Window | None:
        """What is on screen of the highlighted image."""
        form = self.images.current_form()
        try:
            return None if form is None or form.problem() else form.seen()
        except CellEnhanceError:
            return None

    def show_news(self, run: LearningRun[Any]) -> None:
        """Let the curves grow, and show the newest picture."""
        run.look_at(self._window())
        if run.is_using:  # the model is there: nothing is left to discard
            self.learning.remove()
            self.foot.cancel.setEnabled(False)
            self.stop.setText(self.skip_text)
            self.stop.setToolTip(_SKIP_TIP)
            self.stop.setEnabled(not run.is_stopping)
        rows, _, best_step = run.news.take()
        self.view.add(rows, best_step)
        if (seen := run.take_seen()) is not None and not run.is_using:
            self._show_seen(seen)

    def _show_seen(self, seen: Seen) -> None:
        """Lay the picture of the moment over its image, if that is still there."""
        source = seen.window.view.levels[0]
        above = next((f.layer for f in self.images.forms() if f.view().levels[0] is source), None)
        if above is not None:
            self.learning.show(seen.image, seen.limits, seen.window, seen.region, above)
        else:
            self.learning.remove()

    def stopping_sentence(self, run: LearningRun[Any]) -> str:
        """Say that Stop, or Skip, was heard."""
        return "The model is ready; the rest is skipped." if run.is_using else super().stopping_sentence(run)

    def show_ended(self, run: LearningRun[Any], outcome: Outcome) -> None:
        """Offer the new model, and add what it made of the images."""
        self.learning.remove()
        trained: Trained | None = outcome.value
        if trained is None:
            return
        result = trained.result
        self.view.finish(is_broken=result.stopped == "diverged")
        sentence = ended_sentence(result, run.request.title, is_late=run.is_late)
        if result.card is not None:
            if result.stopped == "finished":
                self._finished.add(result.model_id)
            self.on_models()
            self.now.refill(result.model_id)
            sentence = f"{sentence} {trained.problem or self.used_sentence(run, trained)}"
        self.foot.show_info(sentence)

    def used_sentence(self, run: LearningRun[Any], trained: Trained) -> str:
        """Add what the new model made of the images, and say so."""
        card = next((card for card in self.cards() if card.id == trained.result.model_id), None)
        known = "" if card is None else self.card_sentence(card)
        used = self.now.add_results(run.chosen, trained.found) if run.chosen.layers else self.none_checked
        return f"{known} {used}".strip()

    # --- from outside -------------------------------------------------------------------

    def select(self, layer: Any) -> None:
        """Check a layer from outside (menu commands)."""
        self.images.check(layer)

    def let_go(self) -> None:
        """Release the viewer and everything that listens to it."""
        self._clock.stop()
        self.close_parts()
        self.now.close_down()
        self.learning.remove()
        self.images.release()


def _abandon(calls: Sequence[Callable[[], None]], *_: Any) -> None:
    for call in calls:
        call()


def settings_of_networks() -> PluginSettings:
    """Preferences, with a device for networks that run on all but OpenVINO."""
    settings = read_settings()
    return (
        PluginSettings(device="cpu", cache_folder=settings.cache_folder) if settings.device == "openvino" else settings
    )
