"""A combo box of the viewer's image layers."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QWidget

from napari_cellenhance.widgets._layers import is_preview
from napari_cellenhance.widgets._viewer_combo import ViewerCombo

__all__ = ["LayerPicker", "image_layers"]


def image_layers(viewer: Any) -> list[Any]:
    """Image layers that can be enhanced, the topmost first; our own preview is none of them."""
    from napari.layers import Image

    return [layer for layer in reversed(list(viewer.layers)) if isinstance(layer, Image) and not is_preview(layer)]


class LayerPicker(ViewerCombo):
    """Choose an image layer; the selected one to begin with.

    Parameters
    ----------
    viewer : ViewerModel
    """

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(
            viewer,
            image_layers,
            name="Image layer",
            tip="The image layer to enhance. It is only read; results are new layers.",
            parent=parent,
        )
        active = viewer.layers.selection.active
        if active is not None:
            self.choose(active)
