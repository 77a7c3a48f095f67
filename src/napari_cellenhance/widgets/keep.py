"""The dock “Keep only…”: keep one kind of object of an image, or tell what moves from what stands still."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from napari_cellenhance.widgets._checked_layers import CheckedLayers
from napari_cellenhance.widgets._docking import KEEP
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._keep_layer_form import KeepLayerForm
from napari_cellenhance.widgets._keep_now import KeepNow
from napari_cellenhance.widgets._keep_run import KeepRun, build_semantic_request, keep_id
from napari_cellenhance.widgets._keep_settings import KeepSettings
from napari_cellenhance.widgets._keep_view import KeepView
from napari_cellenhance.widgets._learning_dock import LearningDock, settings_of_networks
from napari_cellenhance.widgets._learning_run import Chosen, LearningRun
from napari_cellenhance.workflows import train_semantic
from napari_cellenhance.workflows.separate import list_separators
from napari_cellenhance.workflows.separate_layers import scores_sentence
from napari_cellenhance.workflows.train_semantic import SemanticRequest

if TYPE_CHECKING:
    import napari.components

    from napari_cellenhance.zoo.cards import ModelCard

__all__ = ["KeepPanel"]

_TEACH = 1


class KeepPanel(LearningDock):
    """Dock panel. It holds widgets, at most one training, and the results whose objects follow its sliders.

    Parameters
    ----------
    viewer : ViewerModel
    """

    now: KeepNow
    view: KeepView
    none_checked = "Check images under “1 Separate” and press “Separate now”."
    skip_text = "Skip separating"

    def __init__(self, viewer: napari.components.ViewerModel) -> None:
        super().__init__(viewer, KEEP)
        self.images = CheckedLayers(
            viewer, partial(KeepLayerForm, viewer), name="Images to take apart", purpose="take apart"
        )
        self.images.list.setToolTip("Check the image layers to take apart. They are only read.")
        self.now = KeepNow(viewer, self.images.forms, self.images.current_form, self.images.problem)
        self.settings = KeepSettings(viewer, list_separators())
        self.view = KeepView()
        self.foot.run.setText("Teach")
        self.foot.run.setToolTip("Learn from the crops or the movie; you can go on working in napari meanwhile.")
        self.lay_out(
            "Images to take apart", ("1 Separate", self.now), ("2 Teach", self.settings), ("3 Progress", self.view)
        )
        self.connect_parts(self.settings.abandon)
        self.on_images()

    @guarded
    def on_tab(self, index: int) -> None:
        """Show what belongs to a page, and what is learned from."""
        super().on_tab(index)
        if index == _TEACH:
            self.settings.part.refresh()

    # --- what the panel says ------------------------------------------------------------

    def problem(self) -> str:
        """Why training is not possible; empty when it is."""
        return str(self.settings.problem())

    def request(self) -> SemanticRequest:
        """What the panel says."""
        return build_semantic_request(
            self.settings.part.fields(), self.settings.goal(), settings_of_networks().device
        )  # fmt: skip

    def new_run(self) -> KeepRun:
        """A training with what the panel says; a movie is taken apart at its end, else the checked images."""
        request, settings, is_movie = self.request(), settings_of_networks(), self.settings.is_movie
        if is_movie:
            for form in self.settings.movie.movies.forms():
                self.images.check(form.layer)
        learned = {id(form.layer) for form in self.settings.movie.movies.forms()} if is_movie else set()
        forms = [form for form in self.images.forms() if not form.problem()]
        chosen = Chosen([form for form in forms if not is_movie or id(form.layer) in learned])
        work = self.now.work_with(chosen, request.model_id, settings, is_movie=is_movie)
        return KeepRun(request, self._gone, chosen, settings, work)

    def model_id(self) -> str:
        """Id of the model that a training would make."""
        return keep_id(self.settings.goal().title)

    def pace(self) -> tuple[Any, ...]:
        """What the time of one update depends on."""
        goal = self.settings.goal()
        size = goal.patch_px if self.settings.is_movie else self.settings.crops.scenes.image_px.value()
        return self.settings.is_movie, size, goal.batch_size, self.settings.crops.apart.isChecked()

    def measure_pace(self) -> Any:
        """Make the call that measures some updates."""
        return partial(train_semantic.estimate, self.request())

    def cards(self) -> Sequence[ModelCard]:
        """Models of the kind that the dock uses and makes."""
        return list_separators()

    def card_sentence(self, card: ModelCard) -> str:
        """Say what a new model can do, from its card."""
        return scores_sentence(card)

    def show_started(self, run: LearningRun[SemanticRequest]) -> None:
        """Get ready to show a training."""
        self.view.show_kind(is_movie=run.request.learns_from_movie)
        super().show_started(run)

    def close_parts(self) -> None:
        """Close what only this dock has."""
        self.settings.close_down()
