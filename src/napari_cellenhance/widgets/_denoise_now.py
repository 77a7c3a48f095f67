"""Denoise the chosen images with a model that there is, at once; with a live preview."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtWidgets import QCheckBox, QVBoxLayout, QWidget

from napari_cellenhance.widgets._denoise_results import denoised_layer, done_sentence
from napari_cellenhance.widgets._fold import Fold
from napari_cellenhance.widgets._layers import LayerView, pixel_sizes
from napari_cellenhance.widgets._learning_run import Chosen
from napari_cellenhance.widgets._model_now import ModelNow, Work
from napari_cellenhance.widgets._results import quoted
from napari_cellenhance.widgets._settings import PluginSettings, read_settings
from napari_cellenhance.workflows import denoise_layers as workflow
from napari_cellenhance.workflows.denoise import DEFAULT_DENOISER, DenoiseRequest, list_denoisers
from napari_cellenhance.workflows.denoise_layers import DenoisedLayer
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress
from napari_cellenhance.zoo.cards import ModelCard

__all__ = ["DenoiseNow", "request_for", "shown_sentence"]

_NO_MODEL = "There is no denoiser yet: train one under “2 Train”; it learns from the noisy image alone."


def request_for(
    view: LayerView, axes: str, channels: Any, model_id: str, settings: PluginSettings, symmetries: Any = 1
) -> DenoiseRequest:
    """Turn a layer into a request."""
    return DenoiseRequest(
        image=view.levels[0],
        axes=axes,
        model_id=model_id,
        channels=channels,
        symmetries=symmetries,
        device=settings.device,
        source_name=view.name,
        pixel_size_um=pixel_sizes([float(step) for step in view.geometry.scale], view.geometry.units, axes),
        earlier=view.made,
        cache_folder=settings.cache_folder,
    )


class DenoiseNow(ModelNow):
    """The section that uses denoisers."""

    verb, no_model, first_choice = "Denoise", _NO_MODEL, DEFAULT_DENOISER

    def more_parts(self) -> Sequence[QWidget]:
        """Finer settings."""
        self.badge.switch.setToolTip("Show what is on screen denoised, as a layer that follows camera and sliders.")
        self.symmetries = QCheckBox("Average over eight turned versions")
        self.symmetries.setToolTip("A little better, and eight times slower.")
        finer = QWidget()
        column = QVBoxLayout(finer)
        column.setContentsMargins(12, 0, 0, 0)
        column.addWidget(self.symmetries)
        return (Fold("More settings", "Finer settings.", finer),)

    def list_cards(self) -> Sequence[ModelCard]:
        """Denoisers."""
        return list_denoisers()

    def is_previewed(self, card: ModelCard) -> bool:
        """Models of planes and of one channel."""
        return super().is_previewed(card) and workflow.n_channels_of(card) == 1

    def misfit(self, card: ModelCard, form: Any) -> str:
        """Why a denoiser cannot be used on an image; empty if it can."""
        return workflow.misfit(card, str(form.layer.name), form.image.axes_text, form.view().shape, form.channels())

    def work(self, card: ModelCard, chosen: Chosen) -> Work:
        """Denoise the chosen images."""
        symmetries = 8 if self.symmetries.isChecked() else 1
        requests = [request_for(*part, card.id, read_settings(), symmetries) for part in chosen.parts()]

        def work(on_progress: OnProgress, is_cancelled: IsCancelled) -> list[DenoisedLayer]:
            return workflow.denoise_layers(requests, on_progress=on_progress, is_cancelled=is_cancelled)

        return work

    def add_results(self, chosen: Chosen, found: list[DenoisedLayer]) -> str:
        """Add the denoised layers."""
        return shown_sentence(self.viewer, chosen, found)


def shown_sentence(viewer: Any, chosen: Chosen, found: list[DenoisedLayer]) -> str:
    """Add the results, and say what was added."""
    added = []
    active = viewer.layers.selection.active
    kept, gone = chosen.still_there(viewer, found)
    for one, i in kept:
        data, kwargs, _ = denoised_layer(one, *chosen.parts()[i])
        added.append(str(viewer.add_image(data, **kwargs).name))
    if active in viewer.layers:
        viewer.layers.selection.active = active
    if gone and not added:
        return f"{quoted(gone)} was removed meanwhile; nothing was added."
    sentence = done_sentence(found, added, len(chosen.views))
    return f"{sentence} {quoted(gone)} was removed meanwhile." if gone else sentence
