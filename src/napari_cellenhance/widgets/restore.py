"""The dock “Restore”: bring poor images back with a network that learned from clean ones, and see where it guesses."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QVBoxLayout

from napari_cellenhance.widgets._checked_layers import CheckedLayers
from napari_cellenhance.widgets._docking import RESTORE
from napari_cellenhance.widgets._forms import boxed
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._learning_dock import LearningDock, settings_of_networks
from napari_cellenhance.widgets._learning_run import Chosen, LearningRun, Trained
from napari_cellenhance.widgets._restore_layer_form import RestoreLayerForm
from napari_cellenhance.widgets._restore_now import RestoreNow
from napari_cellenhance.widgets._restore_run import RestoreRun, build_care_request, restore_id
from napari_cellenhance.widgets._restore_settings import RestoreSettings
from napari_cellenhance.widgets._restore_view import RestoreView
from napari_cellenhance.workflows import train_care
from napari_cellenhance.workflows.restore import list_restorers
from napari_cellenhance.workflows.restore_layers import calibration_sentence
from napari_cellenhance.workflows.train_care import CareRequest

if TYPE_CHECKING:
    import napari.components

__all__ = ["RestorePanel"]

_RESTORE, _TEACH, _PROGRESS = range(3)
_NONE_CHECKED = "Check the poor images under “1 Restore” and press “Restore now”."


class RestorePanel(LearningDock):
    """Dock panel. It holds widgets, at most one training, and the uncertainty that its slider needs.

    Parameters
    ----------
    viewer : ViewerModel
    """

    now: RestoreNow
    skip_text = "Skip restoring"

    def __init__(self, viewer: napari.components.ViewerModel) -> None:
        super().__init__(viewer, RESTORE)
        self.images = CheckedLayers(
            viewer, partial(RestoreLayerForm, viewer), name="Images to restore", purpose="restore"
        )
        self.images.list.setToolTip("Check the image layers to restore. They are only read.")
        self.now = RestoreNow(viewer, self.images.forms, self.images.current_form, self.images.problem)
        self.settings = RestoreSettings(viewer, list_restorers())
        self.view = RestoreView()
        self.foot.run.setText("Teach")
        self.foot.run.setToolTip("Learn from the clean images, or pairs; you can go on working in napari meanwhile.")
        self._lay_out()
        self._connect()
        self._on_images()

    def _lay_out(self) -> None:
        self.add_pages(("1 Restore", self.now), ("2 Teach", self.settings), ("3 Progress", self.view))
        self._images_box = boxed("Images to restore", self.images)
        self._below = self.training_foot()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addWidget(self._images_box)
        layout.addWidget(self.tabs, 1)
        layout.addWidget(self._below)
        self._on_tab(_RESTORE)

    def _connect(self) -> None:
        self.images.changed.connect(self._on_images)
        self.settings.changed.connect(self.show_state)
        self.settings.estimate_wanted.connect(self.estimate)
        self.now.models_changed.connect(self.on_models)
        self.tabs.currentChanged.connect(self._on_tab)
        self.destroyed.connect(partial(_let_go, self.now, self.settings))

    @guarded
    def _on_tab(self, index: int) -> None:
        self._below.setVisible(index != _RESTORE)
        self._images_box.setVisible(index == _RESTORE)

    # --- what the panel says ------------------------------------------------------------

    def problem(self) -> str:
        """Why training is not possible; empty when it is."""
        return str(self.settings.problem())

    def request(self) -> CareRequest:
        """What the panel says."""
        data = self.settings.data
        return build_care_request(
            data.data(), self.settings.goal(), self.settings.synthesis(),
            is_paired=not data.is_made_poor, device=settings_of_networks().device,
        )  # fmt: skip

    def new_run(self) -> RestoreRun:
        """A training with what the panel says; images that it learns from are not restored at its end."""
        request, settings = self.request(), settings_of_networks()
        learned = (
            {id(form.layer) for form in self.settings.data.clean.forms()} if self.settings.data.is_made_poor else ()
        )
        forms = [form for form in self.images.forms() if not form.problem() and id(form.layer) not in learned]
        chosen = Chosen(forms)
        return RestoreRun(request, self._gone, chosen, settings, self.now.work_with(chosen, request.model_id, settings))

    def model_id(self) -> str:
        """Id of the model that a training would make."""
        return restore_id(self.settings.goal().title)

    def pace(self) -> tuple[Any, ...]:
        """What the time of one update depends on."""
        goal = self.settings.goal()
        return goal.n_dims, goal.patch_px

    def measure_pace(self) -> Any:
        """Make the call that measures some updates."""
        return partial(train_care.estimate, self.request())

    # --- slots --------------------------------------------------------------------------

    @guarded
    def _on_images(self) -> None:
        if not self._gone.is_set():
            self.show_state()

    @guarded
    def show_state(self) -> None:
        """Show again what is chosen, what that means, and what can be pressed."""
        if self._gone.is_set():
            return
        problem = self.problem()
        self.settings.duration.show_replaced(is_replaced=self.model_id() in {card.id for card in list_restorers()})
        self.settings.estimate.setEnabled(self._job is None and not problem)
        self.show_time()
        self.show_buttons(problem)
        self.now.show_state()

    @guarded
    def on_models(self) -> None:
        """Show the new list of models."""
        self.settings.set_models(list_restorers())
        super().on_models()

    def used_sentence(self, run: LearningRun[CareRequest], trained: Trained) -> str:
        """Add the restored images, and say how right the uncertainty is."""
        card = next((card for card in list_restorers() if card.id == trained.result.model_id), None)
        known = "" if card is None else calibration_sentence(card)
        used = super().used_sentence(run, trained) if run.chosen.layers else _NONE_CHECKED
        return f"{known} {used}".strip()

    def let_go(self) -> None:
        """Release the viewer and everything that listens to it."""
        self._clock.stop()
        self.now.close_down()
        self.settings.close_down()
        self.learning.remove()
        self.images.release()


def _let_go(now: RestoreNow, settings: RestoreSettings, *_: Any) -> None:
    now.abandon()
    settings.look.abandon()
