"""A combo box of the viewer's Labels layers, with a first entry for none."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QSizePolicy, QWidget

from napari_cellenhance.widgets._guard import guarded

__all__ = ["LabelsPicker", "labels_array", "labels_layers"]


def labels_layers(viewer: Any) -> list[Any]:
    """Labels layers, the topmost first."""
    from napari.layers import Labels

    return [layer for layer in reversed(list(viewer.layers)) if isinstance(layer, Labels)]


def labels_array(layer: Any) -> Any:
    """Pixels of a Labels layer at full resolution; lazy where they are."""
    return layer.data[0] if layer.multiscale else layer.data


class LabelsPicker(QComboBox):
    """Choose a Labels layer or none. ``picked`` comes when the choice changes, not on renames.

    Parameters
    ----------
    viewer : ViewerModel
    none_text : str
        Title of the first entry.
    """

    picked = Signal(object)

    def __init__(self, viewer: Any, none_text: str, name: str, tip: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._layers: list[Any] = []
        self._last: Any = None
        self._none_text = none_text
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(10)
        self.setAccessibleName(name)
        self.setToolTip(tip)
        for event in self._events():
            event.connect(self.refill)
        self.currentIndexChanged.connect(self._tell)
        self.refill()

    def _events(self) -> tuple[Any, ...]:
        events = self._viewer.layers.events
        return (events.inserted, events.removed, events.reordered)

    def show_error(self, message: str) -> None:
        """Show the reason in place of the tooltip."""
        self.setToolTip(message)

    def set_none_text(self, text: str) -> None:
        """Rename the first entry."""
        self._none_text = text
        self.setItemText(0, text)

    def layer(self) -> Any:
        """The chosen layer, or None."""
        index = self.currentIndex() - 1
        return self._layers[index] if 0 <= index < len(self._layers) else None

    def choose(self, layer: Any) -> None:
        """Choose ``layer`` if it is listed, else none."""
        self.setCurrentIndex(self._layers.index(layer) + 1 if layer in self._layers else 0)

    @guarded
    def refill(self) -> None:
        """Read the layer list again; keep the chosen layer if it is still there."""
        chosen = self.layer()
        for layer in self._layers:
            layer.events.name.disconnect(self._rename)
        self._layers = labels_layers(self._viewer)
        for layer in self._layers:
            layer.events.name.connect(self._rename)
        was_blocked = self.blockSignals(True)
        self.clear()
        self.addItems([self._none_text, *(str(layer.name) for layer in self._layers)])
        self.setCurrentIndex(self._layers.index(chosen) + 1 if chosen in self._layers else 0)
        self.blockSignals(was_blocked)
        self._tell()

    @guarded
    def _rename(self) -> None:
        for index, layer in enumerate(self._layers, start=1):
            self.setItemText(index, str(layer.name))

    @guarded
    def _tell(self) -> None:
        layer = self.layer()
        if layer is not self._last:
            self._last = layer
            self.picked.emit(layer)

    def release(self) -> None:
        """Stop following the viewer."""
        for event in self._events():
            event.disconnect(self.refill)
        for layer in self._layers:
            layer.events.name.disconnect(self._rename)
        self._layers = []
