"""The dock “Denoise”: take the noise away at once with a model, or let one learn from the noisy image alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from napari_cellenhance.widgets._checked_layers import CheckedLayers
from napari_cellenhance.widgets._denoise_layer_form import DenoiseLayerForm
from napari_cellenhance.widgets._denoise_now import DenoiseNow
from napari_cellenhance.widgets._denoise_run import DenoiseRun, build_n2v_request, taken_ids
from napari_cellenhance.widgets._denoise_settings import DenoiseSettings
from napari_cellenhance.widgets._denoise_view import DenoiseView
from napari_cellenhance.widgets._docking import DENOISE
from napari_cellenhance.widgets._guard import error_sentence, guarded
from napari_cellenhance.widgets._learning_dock import LearningDock, settings_of_networks
from napari_cellenhance.widgets._learning_run import Chosen
from napari_cellenhance.widgets._train_goal import model_id_of
from napari_cellenhance.widgets._worker import LatestOnly, Outcome
from napari_cellenhance.workflows import train_n2v
from napari_cellenhance.workflows.denoise import list_denoisers
from napari_cellenhance.workflows.denoise_layers import general_start, learned_from, learning_problem, look_at_noise
from napari_cellenhance.workflows.noisy_images import portion_of
from napari_cellenhance.workflows.train_n2v import N2VRequest

if TYPE_CHECKING:
    import napari.components

    from napari_cellenhance.zoo.cards import ModelCard

__all__ = ["DenoisePanel"]


class DenoisePanel(LearningDock):
    """Dock panel. It holds widgets and at most one training; no pixels but those of one that can be resumed.

    Parameters
    ----------
    viewer : ViewerModel
    """

    skip_text = "Skip denoising"
    image_pages = (0, 1)

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
        self.lay_out("Images", ("1 Denoise", self.now), ("2 Train", self.settings), ("3 Progress", self.view))
        self.connect_parts(self._looks.close)
        self.settings.noise_wanted.connect(self.look_at_noise)
        self._looks.delivered.connect(self._on_looked)
        self.on_images()

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

    def cards(self) -> Sequence[ModelCard]:
        """Models of the kind that the dock uses and makes."""
        return list_denoisers()

    def show_choices(self) -> None:
        """Offer channels, and what a training may start from."""
        is_readable = not self.images.problem()
        n_channels = self._n_channels() if is_readable else 1
        self.settings.show_channels(n_channels)
        start = general_start(self.request(), self.cards(), n_channels) if is_readable else None
        self.settings.show_general(start)

    def show_more(self, problem: str) -> None:
        """Show how much a training sees."""
        self.settings.sees.setText("" if problem else learned_from(self._noisy(), self.settings.goal().n_dims))
        self.settings.look.setEnabled(not self.images.problem())

    # --- slots --------------------------------------------------------------------------

    @guarded
    def on_images(self) -> None:
        """Other images, or other settings of one: they give the model its name."""
        if self._gone.is_set():
            return
        forms = self.images.forms()
        self.settings.suggest_name(str(forms[0].layer.name) if forms else "")
        super().on_images()

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

    def close_parts(self) -> None:
        """Close what only this dock has."""
        self._looks.close()
