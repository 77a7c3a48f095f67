"""The dock “Keep only…”: keep one kind of object of an image, or tell what moves from what stands still."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QVBoxLayout

from napari_cellenhance.widgets._checked_layers import CheckedLayers
from napari_cellenhance.widgets._docking import KEEP
from napari_cellenhance.widgets._forms import boxed
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._keep_layer_form import KeepLayerForm
from napari_cellenhance.widgets._keep_now import KeepNow
from napari_cellenhance.widgets._keep_run import KeepRun, build_semantic_request, keep_id
from napari_cellenhance.widgets._keep_settings import KeepSettings
from napari_cellenhance.widgets._keep_view import KeepView
from napari_cellenhance.widgets._learning_dock import LearningDock, settings_of_networks
from napari_cellenhance.widgets._learning_run import Chosen, LearningRun, Trained
from napari_cellenhance.workflows import train_semantic
from napari_cellenhance.workflows.separate import list_separators
from napari_cellenhance.workflows.separate_layers import scores_sentence
from napari_cellenhance.workflows.train_semantic import SemanticRequest

if TYPE_CHECKING:
    import napari.components

__all__ = ["KeepPanel"]

_SEPARATE, _TEACH, _PROGRESS = range(3)
_NONE_CHECKED = "Check images under “1 Separate” and press “Separate now”."


class KeepPanel(LearningDock):
    """Dock panel. It holds widgets, at most one training, and the results whose objects follow its sliders.

    Parameters
    ----------
    viewer : ViewerModel
    """

    now: KeepNow
    view: KeepView
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
        self._lay_out()
        self._connect()
        self._on_images()

    def _lay_out(self) -> None:
        self.add_pages(("1 Separate", self.now), ("2 Teach", self.settings), ("3 Progress", self.view))
        self._images_box = boxed("Images to take apart", self.images)
        self._below = self.training_foot()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addWidget(self._images_box)
        layout.addWidget(self.tabs, 1)
        layout.addWidget(self._below)
        self._on_tab(_SEPARATE)

    def _connect(self) -> None:
        self.images.changed.connect(self._on_images)
        self.settings.changed.connect(self.show_state)
        self.settings.estimate_wanted.connect(self.estimate)
        self.now.models_changed.connect(self.on_models)
        self.tabs.currentChanged.connect(self._on_tab)
        self.destroyed.connect(partial(_let_go, self.now, self.settings))

    @guarded
    def _on_tab(self, index: int) -> None:
        self._below.setVisible(index != _SEPARATE)
        self._images_box.setVisible(index == _SEPARATE)
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
        self.settings.duration.show_replaced(is_replaced=self.model_id() in {card.id for card in list_separators()})
        self.settings.estimate.setEnabled(self._job is None and not problem)
        self.show_time()
        self.show_buttons(problem)
        self.now.show_state()

    def show_started(self, run: LearningRun[SemanticRequest]) -> None:
        """Get ready to show a training."""
        self.view.show_kind(is_movie=run.request.learns_from_movie)
        super().show_started(run)

    @guarded
    def on_models(self) -> None:
        """Show the new list of models."""
        self.settings.set_models(list_separators())
        super().on_models()

    def used_sentence(self, run: LearningRun[SemanticRequest], trained: Trained) -> str:
        """Add the new layers, and say how well it does."""
        card = next((card for card in list_separators() if card.id == trained.result.model_id), None)
        known = "" if card is None else scores_sentence(card)
        used = super().used_sentence(run, trained) if run.chosen.layers else _NONE_CHECKED
        return f"{known} {used}".strip()

    def let_go(self) -> None:
        """Release the viewer and everything that listens to it."""
        self._clock.stop()
        self.now.close_down()
        self.settings.close_down()
        self.learning.remove()
        self.images.release()


def _let_go(now: KeepNow, settings: KeepSettings, *_: Any) -> None:
    now.abandon()
    settings.abandon()
