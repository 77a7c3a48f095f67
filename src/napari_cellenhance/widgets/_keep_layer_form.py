"""One image to take apart, or a movie to learn from: its axes and channels."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QWidget

from napari_cellenhance.widgets._denoise_layer_form import DenoiseLayerForm

__all__ = ["KeepLayerForm"]

_RGB_NOTE = "A colour image: its grey is used, or all colours together by a model that was taught with colours."


class KeepLayerForm(DenoiseLayerForm):
    """Form of one image layer.

    Parameters
    ----------
    viewer : ViewerModel
    layer : Image
        Only read.
    """

    def __init__(self, viewer: Any, layer: Any, parent: QWidget | None = None) -> None:
        super().__init__(viewer, layer, parent)
        self.note.setText(_RGB_NOTE)
