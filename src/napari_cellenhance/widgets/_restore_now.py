"""Restore the chosen images with a model that there is, at once; with the layers that are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtWidgets import QCheckBox, QLabel, QVBoxLayout, QWidget

from napari_cellenhance.widgets._forms import new_form
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._layers import LayerView, pixel_sizes
from napari_cellenhance.widgets._learning_run import Chosen
from napari_cellenhance.widgets._model_now import ModelNow, Work
from napari_cellenhance.widgets._restore_doubt import DoubtSlider
from napari_cellenhance.widgets._restore_results import DOUBT, OUTPUTS, RESIDUAL, restored_layers, restored_sentence
from napari_cellenhance.widgets._results import quoted
from napari_cellenhance.widgets._settings import PluginSettings, read_settings
from napari_cellenhance.widgets._status import alarm
from napari_cellenhance.widgets._training_time import count_box
from napari_cellenhance.workflows import restore_layers as workflow
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress
from napari_cellenhance.workflows.restore import MAX_REPEATS, RestoreRequest, list_restorers
from napari_cellenhance.workflows.restore_layers import RestoredLayer
from napari_cellenhance.zoo.cards import ModelCard

__all__ = ["RestoreNow", "request_for"]

_NO_MODEL = (
    "There is no restoration yet. Teach one under “2 Teach”: a few good images are enough, they are made poor for it."
)
_REPEATS_WARNING = (
    "Applied again to its own result it is sharper, but noise of dark areas may become structure that is not there, "
    "and the uncertainty is that of the last time alone."
)
_BOXES = {
    "restored": ("Restored image", "In the grey values of the original."),
    "uncertainty": (
        "Uncertainty", "How far off each grey value may be: half of the errors are below 0.69 of it."
    ),
    "residual": (
        "Residual (input − restored)", "What was taken away or added. Structures in it were changed, not just noise."
    ),
    "doubt": ("“Do not trust” (Labels)", "Marks pixels that the network guessed; the slider says from when on."),
}  # fmt: skip


def request_for(
    view: LayerView, axes: str, channels: Any, model_id: str, settings: PluginSettings, repeats: int = 1
) -> RestoreRequest:
    """Turn a layer into a request."""
    return RestoreRequest(
        image=view.levels[0],
        axes=axes,
        model_id=model_id,
        channels=channels,
        repeats=repeats,
        device=settings.device,
        source_name=view.name,
        pixel_size_um=pixel_sizes([float(step) for step in view.geometry.scale], view.geometry.units, axes),
        earlier=view.made,
        cache_folder=settings.cache_folder,
    )


class RestoreNow(ModelNow):
    """The page that uses restorations."""

    verb, no_model = "Restore", _NO_MODEL

    def more_parts(self) -> Sequence[QWidget]:
        """Repeats, and which layers to make."""
        self.badge.switch.setToolTip("Show what is on screen restored, as a layer that follows camera and sliders.")
        self.repeats = count_box(1, MAX_REPEATS, 1, "Repeats", "How often the network is applied to its own result.")
        self.repeats_note = QLabel(alarm(_REPEATS_WARNING))
        self.repeats_note.setWordWrap(True)
        self.repeats_note.setVisible(False)
        self.boxes = {}
        for name in OUTPUTS:
            title, tip = _BOXES[name]
            self.boxes[name] = QCheckBox(title)
            self.boxes[name].setToolTip(tip)
            self.boxes[name].setChecked(name != RESIDUAL)
        self.doubt = DoubtSlider(self.viewer)
        self.repeats.valueChanged.connect(self._on_repeats)
        for box in self.boxes.values():
            box.toggled.connect(self._on_box)
        part = QWidget()
        rows = new_form(part)
        rows.addRow("Repeats", self.repeats)
        rows.addRow(self.repeats_note)
        layers = QVBoxLayout()
        layers.addWidget(QLabel("New layers:"))
        for box in self.boxes.values():
            layers.addWidget(box)
        layers.addWidget(self.doubt)
        rows.addRow(layers)
        return (part,)

    def list_cards(self) -> Sequence[ModelCard]:
        """Restorations."""
        return list_restorers()

    def about_text(self, card: ModelCard) -> str:
        """What it is, and how right its uncertainty was."""
        return " ".join(text for text in (card.summary, workflow.calibration_sentence(card)) if text)

    def misfit(self, card: ModelCard, form: Any) -> str:
        """Why a model cannot be used on an image; empty if it can."""
        return workflow.misfit(card, str(form.layer.name), form.image.axes_text, form.view().shape)

    def problem(self) -> str:
        """Why nothing can be restored; empty if it can."""
        return super().problem() or ("" if self.wanted() else "Check at least one of the new layers.")

    def wanted(self) -> tuple[str, ...]:
        """Layers to make."""
        return tuple(name for name, box in self.boxes.items() if box.isChecked())

    @guarded
    def _on_repeats(self) -> None:
        self.repeats_note.setVisible(self.repeats.value() > 1)

    @guarded
    def _on_box(self) -> None:
        self.doubt.setVisible(self.boxes[DOUBT].isChecked())
        self.show_state()

    def work(self, card: ModelCard, chosen: Chosen) -> Work:
        """Restore the chosen images."""
        return self.work_with(chosen, card.id, read_settings())

    def work_with(self, chosen: Chosen, model_id: str, settings: PluginSettings) -> Work:
        """The call that restores images with a model, as the page says."""
        repeats, wants_residual, share = self.repeats.value(), RESIDUAL in self.wanted(), self.doubt.chosen_share
        requests = [request_for(*part, model_id, settings, repeats) for part in chosen.parts()]

        def work(on_progress: OnProgress, is_cancelled: IsCancelled) -> list[RestoredLayer]:
            return workflow.restore_layers(
                requests, wants_residual=wants_residual, share=share, on_progress=on_progress, is_cancelled=is_cancelled
            )

        return work

    def add_results(self, chosen: Chosen, found: list[RestoredLayer]) -> str:
        """Add the layers, and say which."""
        added = []
        layers = self.viewer.layers
        active = layers.selection.active
        kept, gone = chosen.still_there(self.viewer, found)
        wanted = self.wanted()
        for one, i in kept:
            for data, kwargs, kind in restored_layers(one, *chosen.parts()[i], wanted):
                layer = getattr(self.viewer, f"add_{kind}")(data, **kwargs)
                added.append(str(layer.name))
                if kind == "labels":
                    self.doubt.follow(layer, one)
        if active in layers:
            layers.selection.active = active
        if gone and not added:
            return f"{quoted(gone)} was removed meanwhile; nothing was added."
        sentence = restored_sentence(found, added, len(chosen.views))
        return f"{sentence} {quoted(gone)} was removed meanwhile." if gone else sentence

    def close_down(self) -> None:
        """End everything, and let go of the viewer."""
        self.doubt.close_down()
        super().close_down()

    def abandon(self) -> None:
        """End the threads without touching anything of Qt."""
        self.doubt.abandon()
        super().abandon()
