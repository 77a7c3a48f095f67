"""Take the chosen images apart with a model that there is, into the layers that are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtWidgets import QCheckBox, QLabel, QVBoxLayout, QWidget

from napari_cellenhance.core.postprocess import CleanOptions
from napari_cellenhance.widgets._fold import Fold
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._keep_candidates import KeepCandidates
from napari_cellenhance.widgets._keep_objects import Followed, KeepObjects
from napari_cellenhance.widgets._keep_results import BOXES, LABELS, OUTPUTS, kept_layers, kept_sentence
from napari_cellenhance.widgets._layers import LayerView, pixel_sizes
from napari_cellenhance.widgets._learning_run import Chosen
from napari_cellenhance.widgets._model_now import ModelNow, Work
from napari_cellenhance.widgets._results import quoted
from napari_cellenhance.widgets._settings import PluginSettings, read_settings
from napari_cellenhance.workflows import separate_layers as workflow
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress
from napari_cellenhance.workflows.separate import SeparateRequest, is_of_movies, list_separators
from napari_cellenhance.workflows.separate_layers import SeparatedLayer
from napari_cellenhance.zoo.cards import ModelCard

__all__ = ["KeepNow", "request_for"]

_NO_MODEL = (
    "There is no filter yet. Teach one under “2 Teach”: from a folder of small pictures (crops) of what to keep and of "
    "what not, or from a movie, to tell what moves from what stands still."
)
_BOXES: dict[str, tuple[str, str, str, bool]] = {
    "target": ("Kept objects", "What moves", "In the grey values of the original.", True),
    "remainder": (
        "Everything else (image − kept)", "Background (what stands still)",
        "Both layers together are the image; hidden to begin with.", True,
    ),
    "background": ("Ground", "", "What the model holds for the ground.", False),
    "unwanted": ("Unwanted objects", "", "What the model holds for the objects to remove.", False),
    LABELS: ("Objects (Labels)", "Objects in each frame (Labels)", "To count and measure them.", True),
    BOXES: ("Boxes (Shapes)", "Boxes (Shapes)", "A rectangle around every object.", False),
}  # fmt: skip
"""Title for crops, title for movies (empty: not there), tip, whether it is checked to begin with."""


def request_for(
    view: LayerView, axes: str, channels: Any, model_id: str, settings: PluginSettings, objects: CleanOptions | None
) -> SeparateRequest:
    """Turn a layer into a request; without ``objects`` none are looked for."""
    return SeparateRequest(
        image=view.levels[0],
        axes=axes,
        model_id=model_id,
        channels=channels,
        has_objects=objects is not None,
        objects=objects,
        device=settings.device,
        source_name=view.name,
        pixel_size_um=pixel_sizes([float(step) for step in view.geometry.scale], view.geometry.units, axes),
        earlier=view.made,
        cache_folder=settings.cache_folder,
    )


class KeepNow(ModelNow):
    """The page that uses semantic filters.

    Parameters
    ----------
    viewer : ViewerModel
    about
        All else that ``ModelNow`` is told.
    """

    verb, no_model = "Separate", _NO_MODEL

    def __init__(self, viewer: Any, *about: Any) -> None:
        super().__init__(viewer, *about)
        self.candidates = KeepCandidates(self.viewer, lambda: self.objects.followed)
        tip = "Go through objects that were found and that your points or labels do not have yet."
        self.candidates_fold = Fold("Objects nobody annotated", tip, self.candidates)
        layout = self.layout()
        assert isinstance(layout, QVBoxLayout)
        layout.insertWidget(layout.indexOf(self.foot) + 1, self.candidates_fold)
        self.objects.updated.connect(self.candidates.refresh)

    def more_parts(self) -> Sequence[QWidget]:
        """Which layers to make, and how objects are found."""
        self.badge.switch.setToolTip("Show what is on screen filtered, as a layer that follows camera and sliders.")
        self.boxes: dict[str, QCheckBox] = {}
        part = QWidget()
        layers = QVBoxLayout(part)
        layers.setContentsMargins(0, 0, 0, 0)
        layers.addWidget(QLabel("New layers:"))
        for name in OUTPUTS:
            title, _, tip, is_on = _BOXES[name]
            self.boxes[name] = QCheckBox(title)
            self.boxes[name].setToolTip(tip)
            self.boxes[name].setChecked(is_on)
            layers.addWidget(self.boxes[name])
        self.objects = KeepObjects(self.viewer)
        tip = "Labels and boxes that are there follow at once; the network is not run again."
        self.objects_fold = Fold("How objects are found (live)", tip, self.objects)
        layers.addWidget(self.objects_fold)
        for box in self.boxes.values():
            box.toggled.connect(self._on_box)
        return (part,)

    # --- models -------------------------------------------------------------------------

    def list_cards(self) -> Sequence[ModelCard]:
        """Semantic filters."""
        return list_separators()

    def about_text(self, card: ModelCard) -> str:
        """What it is, and how well it did."""
        self._show_kind(card)
        return " ".join(text for text in (card.summary, workflow.scores_sentence(card)) if text)

    def is_previewed(self, card: ModelCard) -> bool:
        """Models of several channels are not."""
        return workflow.n_channels_of(card) == 1

    def _show_kind(self, card: ModelCard) -> None:
        """Name the layers as they are for what the model learned from."""
        is_movie = is_of_movies(card)
        self.objects.show_kind(is_movie=is_movie)
        for name, (of_crops, of_movies, _, _) in _BOXES.items():
            self.boxes[name].setText(of_movies if is_movie and of_movies else of_crops)
        for name in ("background", "unwanted"):
            self.boxes[name].setVisible(workflow.is_apart(card))

    def misfit(self, card: ModelCard, form: Any) -> str:
        """Why a model cannot be used on an image; empty if it can."""
        return workflow.misfit(
            card, str(form.layer.name), form.image.axes_text, form.view().shape, form.channels(),
            has_objects=self.wants_objects(),
        )  # fmt: skip

    # --- what is wanted -----------------------------------------------------------------

    def wanted(self) -> tuple[str, ...]:
        """Layers to make."""
        return tuple(name for name, box in self.boxes.items() if box.isChecked() and not box.isHidden())

    def wants_objects(self) -> bool:
        """Whether objects are looked for."""
        return LABELS in self.wanted() or BOXES in self.wanted()

    def problem(self) -> str:
        """Why nothing can be taken apart; empty if it can."""
        return super().problem() or ("" if self.wanted() else "Check at least one of the new layers.")

    @guarded
    def _on_box(self) -> None:
        self.objects_fold.setVisible(self.wants_objects())
        self.show_state()

    # --- a run --------------------------------------------------------------------------

    def work(self, card: ModelCard, chosen: Chosen) -> Work:
        """Take the chosen images apart."""
        return self.work_with(chosen, card.id, read_settings(), is_movie=is_of_movies(card))

    def work_with(self, chosen: Chosen, model_id: str, settings: PluginSettings, *, is_movie: bool) -> Work:
        """The call that takes images apart with a model, as the page says."""
        objects = self.objects.options(is_movie=is_movie) if self.wants_objects() else None
        requests = [request_for(*part, model_id, settings, objects) for part in chosen.parts()]

        def work(on_progress: OnProgress, is_cancelled: IsCancelled) -> list[SeparatedLayer]:
            return workflow.separate_layers(requests, on_progress=on_progress, is_cancelled=is_cancelled)

        return work

    def add_results(self, chosen: Chosen, found: list[SeparatedLayer]) -> str:
        """Add the layers, and say which."""
        added: list[str] = []
        layers = self.viewer.layers
        active = layers.selection.active
        kept, gone = chosen.still_there(self.viewer, found)
        for one, i in kept:
            added += self._add(one, *chosen.parts()[i])
        if active in layers:
            layers.selection.active = active
        if gone and not added:
            return f"{quoted(gone)} was removed meanwhile; nothing was added."
        sentence = kept_sentence(found, added, len(chosen.views))
        return f"{sentence} {quoted(gone)} was removed meanwhile." if gone else sentence

    def _add(self, one: SeparatedLayer, view: LayerView, axes: str, channels: Any) -> list[str]:
        wanted = self.wanted()
        objects = one.found_objects()
        layers, place = kept_layers(one, objects, view, axes, workflow.channels_for(one.card, channels), wanted)
        made: dict[str, Any] = {}
        for output, (data, kwargs, kind) in layers:
            made[output] = getattr(self.viewer, f"add_{kind}")(data, **kwargs)
        if objects is not None and (LABELS in made or BOXES in made):
            self.objects.follow(Followed(one, objects, place, made.get(LABELS), made.get(BOXES)))
        return [str(layer.name) for layer in made.values()]

    def close_down(self) -> None:
        """End everything, and let go of the viewer."""
        self.objects.close_down()
        self.candidates.release()
        super().close_down()

    def abandon(self) -> None:
        """End the threads without touching anything of Qt."""
        self.objects.abandon()
        super().abandon()
