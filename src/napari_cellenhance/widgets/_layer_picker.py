"""A combo box of the viewer's image layers that follows adding, renaming, reordering and removing."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QSizePolicy, QWidget

from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._layers import is_preview

__all__ = ["LayerPicker", "image_layers"]


def image_layers(viewer: Any) -> list[Any]:
    """Image layers that can be enhanced, the topmost first; our own preview is none of them."""
    from napari.layers import Image

    return [layer for layer in reversed(list(viewer.layers)) if isinstance(layer, Image) and not is_preview(layer)]


class LayerPicker(QComboBox):
    """Choose an image layer. ``picked`` comes when another layer (or none) is chosen, not on renames."""

    picked = Signal(object)

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._layers: list[Any] = []
        self._last: Any = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        self.setToolTip("The image layer to enhance. It is only read; results are new layers.")
        self.setAccessibleName("Image layer")
        for event in self._events():
            event.connect(self.refill)
        self.currentIndexChanged.connect(self._tell)
        self.refill()
        active = viewer.layers.selection.active
        if active is not None:
            self.choose(active)

    def _events(self) -> tuple[Any, ...]:
        events = self._viewer.layers.events
        return (events.inserted, events.removed, events.reordered)

    def show_error(self, message: str) -> None:
        """Show the reason in place of the tooltip."""
        self.setToolTip(message)

    def layer(self) -> Any:
        """The chosen layer, or None."""
        index = self.currentIndex()
        return self._layers[index] if 0 <= index < len(self._layers) else None

    def choose(self, layer: Any) -> None:
        """Choose ``layer`` if it is listed."""
        if layer in self._layers:
            self.setCurrentIndex(self._layers.index(layer))

    @guarded
    def refill(self) -> None:
        """Read the layer list again; keep the chosen layer if it is still there."""
        chosen = self.layer()
        for layer in self._layers:
            layer.events.name.disconnect(self._rename)
        self._layers = image_layers(self._viewer)
        for layer in self._layers:
            layer.events.name.connect(self._rename)
        was_blocked = self.blockSignals(True)
        self.clear()
        self.addItems([str(layer.name) for layer in self._layers])
        self.setCurrentIndex(self._layers.index(chosen) if chosen in self._layers else min(0, len(self._layers) - 1))
        self.blockSignals(was_blocked)
        self._tell()

    @guarded
    def _rename(self) -> None:
        for index, layer in enumerate(self._layers):
            self.setItemText(index, str(layer.name))

    @guarded
    def _tell(self) -> None:
        layer = self.layer()
        if layer is None and self._last is None:
            return
        if layer is None or self._last is None or layer != self._last:
            self._last = layer
            self.picked.emit(layer)

    def release(self) -> None:
        """Stop following the viewer."""
        for event in self._events():
            event.disconnect(self.refill)
        for layer in self._layers:
            layer.events.name.disconnect(self._rename)
        self._layers = []
