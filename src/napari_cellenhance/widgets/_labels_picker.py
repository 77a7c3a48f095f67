"""A combo box of the viewer's Labels layers, with a first entry for none."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QWidget

from napari_cellenhance.widgets._viewer_combo import ViewerCombo

__all__ = ["LabelsPicker", "labels_array", "labels_layers"]


def labels_layers(viewer: Any) -> list[Any]:
    """Labels layers, the topmost first."""
    from napari.layers import Labels

    return [layer for layer in reversed(list(viewer.layers)) if isinstance(layer, Labels)]


def labels_array(layer: Any) -> Any:
    """Pixels of a Labels layer at full resolution; lazy where they are."""
    return layer.data[0] if layer.multiscale else layer.data


class LabelsPicker(ViewerCombo):
    """Choose a Labels layer or none.

    Parameters
    ----------
    viewer : ViewerModel
    none_text : str
        Title of the first entry.
    name, tip : str
    """

    def __init__(self, viewer: Any, none_text: str, name: str, tip: str, parent: QWidget | None = None) -> None:
        super().__init__(viewer, labels_layers, name=name, tip=tip, first=none_text, parent=parent)
