"""One image to restore, or to learn from: its axes and channels. Colour images are refused."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QWidget

from napari_cellenhance.widgets._denoise_layer_form import DenoiseLayerForm

__all__ = ["RestoreLayerForm", "rgb_problem"]


def rgb_problem(layer: Any) -> str:
    """Why a layer of colours cannot be used; empty for any other."""
    if not layer.rgb:
        return ""
    return (
        f"“{layer.name}” is a colour image (RGB). A restoration works on grey values: right-click the layer, “Split "
        "RGB”, and choose one of the three."
    )


class RestoreLayerForm(DenoiseLayerForm):
    """Form of one image layer.

    Parameters
    ----------
    viewer : ViewerModel
    layer : Image
        Only read.
    """

    def __init__(self, viewer: Any, layer: Any, parent: QWidget | None = None) -> None:
        super().__init__(viewer, layer, parent)
        self.note.setVisible(False)
        self.image.setVisible(not layer.rgb)

    def problem(self) -> str:
        """Why this layer cannot be used; empty if it can."""
        return rgb_problem(self.layer) or super().problem()
