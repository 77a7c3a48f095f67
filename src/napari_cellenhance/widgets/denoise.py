"""The dock “Denoise”: take the noise away at once with a model, or let one learn from the noisy image alone."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QTabWidget, QVBoxLayout, QWidget

from napari_cellenhance.core.errors import CellEnhanceError
from napari_cellenhance.widgets._checked_layers import CheckedLayers
from napari_cellenhance.widgets._denoise_layer_form import DenoiseLayerForm
from napari_cellenhance.widgets._denoise_now import Chosen, DenoiseNow, shown_sentence
from napari_cellenhance.widgets._denoise_results import LearningImage
from napari_cellenhance.widgets._denoise_run import (
    DenoiseRun,
    Seen,
    Trained,
    build_n2v_request,
    ended_sentence,
    taken_ids,
)
from napari_cellenhance.widgets._denoise_settings import DenoiseSettings, time_text
from napari_cellenhance.widgets._denoise_view import DenoiseView
from napari_cellenhance.widgets._docking import DENOISE
from napari_cellenhance.widgets._filter_picker import refill_all
from napari_cellenhance.widgets._forms import boxed, scrolled
from napari_cellenhance.widgets._guard import error_sentence, guarded
from napari_cellenhance.widgets._settings import PluginSettings, read_settings
from napari_cellenhance.widgets._teach_place import Window
from napari_cellenhance.widgets._train_goal import model_id_of
from napari_cellenhance.widgets._training_dock import TrainingDock
from napari_cellenhance.widgets._worker import LatestOnly, Outcome
from napari_cellenhance.workflows import train_n2v
from napari_cellenhance.workflows.catalog import list_filters
from napari_cellenhance.workflows.denoise import list_denoisers
from napari_cellenhance.workflows.denoise_layers import general_start, learned_from, learning_problem, look_at_noise
from napari_cellenhance.workflows.noisy_images import portion_of
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress
from napari_cellenhance.workflows.train_estimate import TrainEstimate
from napari_cellenhance.workflows.train_n2v import N2VRequest

if TYPE_CHECKING:
    import napari.components

__all__ = ["DenoisePanel"]

_MIN_WIDTH_PX = 365
_DENOISE, _TRAIN, _PROGRESS = range(3)
_SKIP = "Skip denoising"
_SKIP_TIP = "The model is ready. End without the denoised layers; “Denoise now” makes them later."


class DenoisePanel(TrainingDock):
    """Dock panel. It holds widgets and at most one training; no pixels but those of one that can be resumed.

    Parameters
    ----------
    viewer : ViewerModel
    """

    def __init__(self, viewer: napari.components.ViewerModel) -> None:
        super().__init__(viewer, DENOISE)
        self._measured: tuple[tuple[Any, ...], TrainEstimate] | None = None
        self._looks = LatestOnly()
        self._looked = 0
        self.images = CheckedLayers(
            viewer, partial(DenoiseLayerForm, viewer), name="Images to denoise", purpose="denoise"
        )
        self.images.list.setToolTip("Image layers to denoise or to learn from. They are only read.")
        self.now = DenoiseNow(viewer, self.images.forms, self.images.current_form, self.images.problem)
        self.settings = DenoiseSettings(list_denoisers())
        self.view = DenoiseView()
        self.learning = LearningImage(viewer)
        self.setMinimumWidth(_MIN_WIDTH_PX)
        self.foot.run.setText("Train on these images")
        self.foot.run.setToolTip("Learn from the noisy images alone; you can go on working in napari meanwhile.")
        self.foot.cancel_word = "Discard"
        self.foot.cancel.setText("Discard")
        self.foot.cancel.setToolTip("End without a new model. What was learned stays on disk for “Resume”.")
        self._lay_out()
        self._connect()
        self._on_images()

    # --- layout -------------------------------------------------------------------------

    def _lay_out(self) -> None:
        self.tabs = QTabWidget()
        pages: tuple[tuple[str, QWidget], ...] = (
            ("1 Denoise", self.now), ("2 Train", self.settings), ("3 Progress", self.view),
        )  # fmt: skip
        for title, part in pages:
            page = QWidget()
            column = QVBoxLayout(page)
            column.setContentsMargins(4, 4, 4, 4)
            column.addWidget(part)
            if part is not self.view:
                column.addStretch(1)
            self.tabs.addTab(scrolled(page), title)
        self._images_box = boxed("Images", self.images)
        self._below = self.training_foot()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addWidget(self._images_box)
        layout.addWidget(self.tabs, 1)
        layout.addWidget(self._below)
        self._on_tab(_DENOISE)

    def _connect(self) -> None:
        self.images.changed.connect(self._on_images)
        self.settings.changed.connect(self.show_state)
        self.settings.noise_wanted.connect(self.look_at_noise)
        self.settings.estimate_wanted.connect(self.estimate)
        self.now.models_changed.connect(self._on_models)
        self.tabs.currentChanged.connect(self._on_tab)
        self._looks.delivered.connect(self._on_looked)
        self.destroyed.connect(partial(_let_go, self.now, self._looks))

    @guarded
    def _on_tab(self, index: int) -> None:
        self._below.setVisible(index != _DENOISE)
        self._images_box.setVisible(index != _PROGRESS)

    # --- what the panel says ------------------------------------------------------------

    def problem(self) -> str:
        """Why training is not possible; empty when it is."""
        if problem := self.images.problem():
            return problem
        goal = self.settings.goal()
        return learning_problem(self._noisy(), goal.n_dims) or self.settings.problem()

    def request(self) -> N2VRequest:
        """What the panel says."""
        return build_n2v_request(self._noisy(), self.settings.goal(), _settings().device)

    def new_run(self) -> DenoiseRun:
        """A training with what the panel says."""
        return DenoiseRun(self.request(), self._gone, Chosen(self.images.forms()), _settings())

    def model_id(self) -> str:
        """Id of the model that a training would make."""
        return model_id_of(self.settings.goal().title, taken_ids())

    def _noisy(self) -> tuple[Any, ...]:
        return tuple(form.noisy_layer() for form in self.images.forms())

    def _pace(self) -> tuple[Any, ...]:
        """What the time of one update depends on."""
        goal = self.settings.goal()
        n_channels = 0 if self.images.problem() else self._n_channels()
        return goal.variant, goal.n_dims, goal.is_joint, goal.patch_px, goal.structure, goal.reach_px, n_channels

    def _n_channels(self) -> int:
        return portion_of(self._noisy()[0]).n_channels

    # --- slots --------------------------------------------------------------------------

    @guarded
    def _on_images(self) -> None:
        if self._gone.is_set():
            return
        forms = self.images.forms()
        self.settings.suggest_name(str(forms[0].layer.name) if forms else "")
        self.show_state()

    @guarded
    def show_state(self) -> None:
        """Show again what is chosen, what that means, and what can be pressed."""
        if self._gone.is_set():
            return
        goal, is_readable = self.settings.goal(), not self.images.problem()
        n_channels = self._n_channels() if is_readable else 1
        self.settings.show_channels(n_channels)
        cards = list_denoisers()
        self.settings.show_general(general_start(self.request(), cards, n_channels) if is_readable else None)
        self.settings.show_replaced(is_replaced=self.model_id() in {card.id for card in cards})
        problem = self.problem()
        self.settings.sees.setText("" if problem else learned_from(self._noisy(), goal.n_dims))
        self.settings.estimate.setEnabled(self._job is None and not problem)
        self.settings.look.setEnabled(is_readable)
        self._show_time()
        self.show_buttons(problem)
        self.now.show_state()

    def _show_time(self) -> None:
        goal = self.settings.goal()
        text = ""
        if self._measured is not None:
            pace, measured = self._measured
            is_known = pace == self._pace()
            text = (
                time_text(measured, goal.n_steps, goal.time_limit_s) if is_known else "Settings changed; measure again."
            )
        self.settings.expected.setText(text)

    @guarded
    def _on_models(self) -> None:
        """The list of models has changed."""
        self.settings.set_models(list_denoisers())
        refill_all(list_filters())

    @guarded
    def look_at_noise(self) -> None:
        """Measure the noise of the plane on screen, in a thread."""
        form = self.images.current_form()
        if form is None or form.problem():
            self.settings.show_error(self.images.problem())
            return
        t, z = form.seen().plane
        self._looked = self._looks.submit(partial(look_at_noise, form.noisy_layer(), t=t, z=z))

    @guarded
    def _on_looked(self, ticket: int, outcome: Outcome) -> None:
        if ticket != self._looked or self._gone.is_set():
            return
        if outcome.error is not None:
            self.settings.show_error(error_sentence(outcome.error))
        else:
            self.settings.show_noise(outcome.value)

    @guarded
    def estimate(self) -> None:
        """Measure a few updates in the worker."""
        if problem := self.problem():
            self.foot.show_error(problem)
            return
        request, pace = self.request(), self._pace()

        def work(on_progress: OnProgress, _is_cancelled: IsCancelled) -> TrainEstimate:
            on_progress(Progress(n_done=0, n_total=0, message="Measuring a few updates"))
            return train_n2v.estimate(request)

        self.begin("Estimate the time of a training", work, partial(self._on_estimated, pace))

    @guarded
    def _on_estimated(self, pace: tuple[Any, ...], outcome: Outcome) -> None:
        if self.settle(outcome) and outcome.value is not None:
            self._measured = pace, outcome.value
            self._show_time()

    # --- a training ---------------------------------------------------------------------

    def show_started(self, run: DenoiseRun) -> None:
        """Get ready to show a training."""
        self.now.badge.switch.setChecked(False)  # two pictures over each other say nothing
        self.learning.remove()
        run.look_at(self._window())
        self.view.start()
        self.tabs.setCurrentIndex(_PROGRESS)

    def _window(self) -> Window | None:
        """What is on screen of the highlighted image."""
        form = self.images.current_form()
        try:
            return None if form is None or form.problem() else form.seen()
        except CellEnhanceError:
            return None

    def show_news(self, run: DenoiseRun) -> None:
        """Let the curves grow, and show the newest picture."""
        run.look_at(self._window())
        if run.is_denoising:  # the model is there: nothing is left to discard
            self.learning.remove()
            self.foot.cancel.setEnabled(False)
            self.stop.setText(_SKIP)
            self.stop.setToolTip(_SKIP_TIP)
            self.stop.setEnabled(not run.is_stopping)
        rows, _, best_step = run.news.take()
        self.view.add(rows, best_step)
        if (seen := run.take_seen()) is not None and not run.is_denoising:
            self._show_seen(seen)

    def _show_seen(self, seen: Seen) -> None:
        """Lay the picture of the moment over its image, if that is still there."""
        source = seen.window.view.levels[0]
        above = next((f.layer for f in self.images.forms() if f.view().levels[0] is source), None)
        if above is not None:
            self.learning.show(seen.image, seen.limits, seen.window, seen.region, above)
        else:
            self.learning.remove()

    def stopping_sentence(self, run: DenoiseRun) -> str:
        """Say that Stop, or Skip, was heard."""
        return "The model is ready; the rest is skipped." if run.is_denoising else super().stopping_sentence(run)

    def show_ended(self, run: DenoiseRun, outcome: Outcome) -> None:
        """Offer the new model, and add the trained images, denoised."""
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
            self._on_models()
            self.now.refill(result.model_id)
            more = trained.problem or shown_sentence(self._viewer, run.chosen, trained.denoised)
            sentence = f"{sentence} {more}"
        self.foot.show_info(sentence)

    # --- from outside -------------------------------------------------------------------

    def select(self, layer: Any) -> None:
        """Check a layer from outside (menu commands)."""
        self.images.check(layer)

    def let_go(self) -> None:
        """Release the viewer and everything that listens to it."""
        self._clock.stop()
        self._looks.close()
        self.now.close_down()
        self.learning.remove()
        self.images.release()


def _settings() -> PluginSettings:
    """Preferences, with a device for networks that run on all but OpenVINO."""
    settings = read_settings()
    return (
        PluginSettings(device="cpu", cache_folder=settings.cache_folder) if settings.device == "openvino" else settings
    )


def _let_go(now: DenoiseNow, looks: LatestOnly, *_: Any) -> None:
    now.abandon()
    looks.close()
