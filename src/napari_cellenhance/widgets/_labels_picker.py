"""A combo box of the viewer's Labels layers, with a first entry for none."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QWidget

from napari_cellenhance.widgets._viewer_combo import ViewerCombo

__all__ = ["LabelsPicker", "labels_array", "labels_layers", "paint_events"]


def labels_layers(viewer: Any) -> list[Any]:
    """Labels layers, the topmost first."""
    from napari.layers import Labels

    return [layer for layer in reversed(list(viewer.layers)) if isinstance(layer, Labels)]


def labels_array(layer: Any) -> Any:
    """Pixels of a Labels layer at full resolution; lazy where they are."""
    return layer.data[0] if layer.multiscale else layer.data


def paint_events(layer: Any) -> tuple[Any, ...]:
    """Events of a Labels layer that tell that its pixels changed; none without a layer, fewer in an older napari."""
    if layer is None:
        return ()
    names = ("data", "paint", "labels_update")
    return tuple(getattr(layer.events, name) for name in names if hasattr(layer.events, name))


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
