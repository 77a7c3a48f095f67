"""Which image layers to train on, and what is known of each."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QWidget

from napari_cellenhance.widgets._checked_layers import CheckedLayers
from napari_cellenhance.widgets._train_layer_form import TrainLayerForm

__all__ = ["TrainImages"]


class TrainImages(CheckedLayers):
    """Image layers to train a filter on.

    Parameters
    ----------
    viewer : ViewerModel
    """

    _is_taught = True

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(viewer, self._new_form, name="Image layers to train on", purpose="train on", parent=parent)

    def _new_form(self, layer: Any) -> TrainLayerForm:
        form = TrainLayerForm(self._viewer, layer)
        form.set_taught(self._is_taught)
        return form

    def set_taught(self, is_taught: bool) -> None:
        """Say whether painted objects teach the filter, or only give the object size."""
        self._is_taught = is_taught
        for form in self._forms.values():
            form.set_taught(is_taught)
