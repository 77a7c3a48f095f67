"""The dock “Denoise”: take the noise away at once with a model, or let one learn from the noisy image alone."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QVBoxLayout

from napari_cellenhance.widgets._checked_layers import CheckedLayers
from napari_cellenhance.widgets._denoise_layer_form import DenoiseLayerForm
from napari_cellenhance.widgets._denoise_now import DenoiseNow
from napari_cellenhance.widgets._denoise_run import DenoiseRun, build_n2v_request, taken_ids
from napari_cellenhance.widgets._denoise_settings import DenoiseSettings
from napari_cellenhance.widgets._denoise_view import DenoiseView
from napari_cellenhance.widgets._docking import DENOISE
from napari_cellenhance.widgets._forms import boxed
from napari_cellenhance.widgets._guard import error_sentence, guarded
from napari_cellenhance.widgets._learning_dock import LearningDock, settings_of_networks
from napari_cellenhance.widgets._learning_run import Chosen
from napari_cellenhance.widgets._model_now import ModelNow
from napari_cellenhance.widgets._train_goal import model_id_of
from napari_cellenhance.widgets._worker import LatestOnly, Outcome
from napari_cellenhance.workflows import train_n2v
from napari_cellenhance.workflows.denoise import list_denoisers
from napari_cellenhance.workflows.denoise_layers import general_start, learned_from, learning_problem, look_at_noise
from napari_cellenhance.workflows.noisy_images import portion_of
from napari_cellenhance.workflows.train_n2v import N2VRequest

if TYPE_CHECKING:
    import napari.components

__all__ = ["DenoisePanel"]

_DENOISE, _TRAIN, _PROGRESS = range(3)


class DenoisePanel(LearningDock):
    """Dock panel. It holds widgets and at most one training; no pixels but those of one that can be resumed.

    Parameters
    ----------
    viewer : ViewerModel
    """

    skip_text = "Skip denoising"

    def __init__(self, viewer: napari.components.ViewerModel) -> None:
        super().__init__(viewer, DENOISE)
        self._looks = LatestOnly()
        self._looked = 0
        self.images = CheckedLayers(
            viewer, partial(DenoiseLayerForm, viewer), name="Images to denoise", purpose="denoise"
        )
        self.images.list.setToolTip("Image layers to denoise or to learn from. They are only read.")
        self.now = DenoiseNow(viewer, self.images.forms, self.images.current_form, self.images.problem)
        self.settings = DenoiseSettings(list_denoisers())
        self.view = DenoiseView()
        self.foot.run.setText("Train on these images")
        self.foot.run.setToolTip("Learn from the noisy images alone; you can go on working in napari meanwhile.")
        self._lay_out()
        self._connect()
        self._on_images()

    # --- layout -------------------------------------------------------------------------

    def _lay_out(self) -> None:
        self.add_pages(("1 Denoise", self.now), ("2 Train", self.settings), ("3 Progress", self.view))
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
        self.now.models_changed.connect(self.on_models)
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
        return build_n2v_request(self._noisy(), self.settings.goal(), settings_of_networks().device)

    def new_run(self) -> DenoiseRun:
        """A training with what the panel says."""
        return DenoiseRun(self.request(), self._gone, Chosen(self.images.forms()), settings_of_networks())

    def model_id(self) -> str:
        """Id of the model that a training would make."""
        return model_id_of(self.settings.goal().title, taken_ids())

    def _noisy(self) -> tuple[Any, ...]:
        return tuple(form.noisy_layer() for form in self.images.forms())

    def pace(self) -> tuple[Any, ...]:
        """What the time of one update depends on."""
        goal = self.settings.goal()
        n_channels = 0 if self.images.problem() else self._n_channels()
        return goal.variant, goal.n_dims, goal.is_joint, goal.patch_px, goal.structure, goal.reach_px, n_channels

    def measure_pace(self) -> Any:
        """Make the call that measures some updates."""
        return partial(train_n2v.estimate, self.request())

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
        self.settings.duration.show_replaced(is_replaced=self.model_id() in {card.id for card in cards})
        problem = self.problem()
        self.settings.sees.setText("" if problem else learned_from(self._noisy(), goal.n_dims))
        self.settings.estimate.setEnabled(self._job is None and not problem)
        self.settings.look.setEnabled(is_readable)
        self.show_time()
        self.show_buttons(problem)
        self.now.show_state()

    @guarded
    def on_models(self) -> None:
        """Show the new list of models."""
        self.settings.set_models(list_denoisers())
        super().on_models()

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

    def let_go(self) -> None:
        """Release the viewer and everything that listens to it."""
        self._clock.stop()
        self._looks.close()
        self.now.close_down()
        self.learning.remove()
        self.images.release()


def _let_go(now: ModelNow, looks: LatestOnly, *_: Any) -> None:
    now.abandon()
    looks.close()
