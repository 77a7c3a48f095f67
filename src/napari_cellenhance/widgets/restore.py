"""The dock “Restore”: bring poor images back with a network that learned from clean ones, and see where it guesses."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from napari_cellenhance.widgets._checked_layers import CheckedLayers
from napari_cellenhance.widgets._docking import RESTORE
from napari_cellenhance.widgets._learning_dock import LearningDock, settings_of_networks
from napari_cellenhance.widgets._learning_run import Chosen
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

    from napari_cellenhance.zoo.cards import ModelCard

__all__ = ["RestorePanel"]


class RestorePanel(LearningDock):
    """Dock panel. It holds widgets, at most one training, and the uncertainty that its slider needs.

    Parameters
    ----------
    viewer : ViewerModel
    """

    now: RestoreNow
    none_checked = "Check the poor images under “1 Restore” and press “Restore now”."
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
        self.lay_out(
            "Images to restore", ("1 Restore", self.now), ("2 Teach", self.settings), ("3 Progress", self.view)
        )
        self.connect_parts(self.settings.look.abandon)
        self.on_images()

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

    def cards(self) -> Sequence[ModelCard]:
        """Models of the kind that the dock uses and makes."""
        return list_restorers()

    def card_sentence(self, card: ModelCard) -> str:
        """Say what a new model can do, from its card."""
        return calibration_sentence(card)

    def close_parts(self) -> None:
        """Close what only this dock has."""
        self.settings.close_down()
