"""The base of the combo boxes that list layers of the viewer and follow it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QSizePolicy, QWidget

from napari_cellenhance.widgets._guard import guarded

__all__ = ["ViewerCombo"]

_MIN_LETTERS = 12


class ViewerCombo(QComboBox):
    """Choose one of the viewer's layers; adding, renaming, reordering and removing them is followed.

    ``picked`` comes with the layer, or None, when another one is chosen; not on renames.

    Parameters
    ----------
    viewer : ViewerModel
    list_layers : callable
        Viewer → layers to list, in the order of the list.
    name : str
        For screen readers.
    tip : str
    first : str, optional
        Title of an entry before the layers that stands for none. Without one, the first layer is chosen to begin with.
    """

    picked = Signal(object)

    def __init__(
        self,
        viewer: Any,
        list_layers: Callable[[Any], list[Any]],
        *,
        name: str,
        tip: str,
        first: str | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._list_layers = list_layers
        self._first = [] if first is None else [first]
        self._layers: list[Any] = []
        self._last: Any = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(_MIN_LETTERS)
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

    def set_first(self, text: str) -> None:
        """Rename the entry that stands for none."""
        self._first = [text]
        self.setItemText(0, text)

    def layer(self) -> Any:
        """The chosen layer, or None."""
        index = self.currentIndex() - len(self._first)
        return self._layers[index] if 0 <= index < len(self._layers) else None

    def choose(self, layer: Any) -> None:
        """Choose ``layer`` if it is listed; else none, where there is an entry for it."""
        if layer in self._layers:
            self.setCurrentIndex(self._row_of(layer))
        elif self._first:
            self.setCurrentIndex(0)

    def _row_of(self, layer: Any) -> int:
        return len(self._first) + self._layers.index(layer)

    @guarded
    def refill(self) -> None:
        """Read the layer list again; keep the chosen layer if it is still there."""
        chosen = self.layer()
        self._unfollow_names()
        self._layers = self._list_layers(self._viewer)
        for layer in self._layers:
            layer.events.name.connect(self._rename)
        was_blocked = self.blockSignals(True)
        self.clear()
        self.addItems([*self._first, *(str(layer.name) for layer in self._layers)])
        self.setCurrentIndex(self._row_of(chosen) if chosen in self._layers else min(0, self.count() - 1))
        self.blockSignals(was_blocked)
        self._tell()

    @guarded
    def _rename(self) -> None:
        for index, layer in enumerate(self._layers, start=len(self._first)):
            self.setItemText(index, str(layer.name))

    @guarded
    def _tell(self) -> None:
        layer = self.layer()
        # Docks get layers behind a proxy that is made anew each time: equal, never identical.
        is_same = layer is None if self._last is None else layer is not None and layer == self._last
        if not is_same:
            self._last = layer
            self.picked.emit(layer)

    def _unfollow_names(self) -> None:
        for layer in self._layers:
            layer.events.name.disconnect(self._rename)

    def release(self) -> None:
        """Stop following the viewer."""
        for event in self._events():
            event.disconnect(self.refill)
        self._unfollow_names()
        self._layers = []
