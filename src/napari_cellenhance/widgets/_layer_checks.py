"""A list of layers with check marks; it is filled from outside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QListWidget, QListWidgetItem, QWidget

__all__ = ["LayerChecks"]


class LayerChecks(QListWidget):
    """Tick some of several layers. ``itemChanged`` comes when a person, or :meth:`tick`, ticks one.

    Parameters
    ----------
    name, tip : str
        For screen readers, and the tooltip.
    n_rows : int
        Height in lines; more layers scroll.
    """

    def __init__(self, name: str, tip: str, n_rows: int, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._layers: list[Any] = []
        self._seen: list[Any] = []
        self._ticked_before: list[Any] = []
        self.setAccessibleName(name)
        self.setToolTip(tip)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFixedHeight(n_rows * self.fontMetrics().height() + 16)

    @property
    def layers(self) -> list[Any]:
        """Layers that are listed."""
        return list(self._layers)

    def fill(self, layers: Sequence[Any], wants_new: Callable[[Any], bool], kept: Sequence[Any] | None = None) -> None:
        """List these layers; what was ticked stays so.

        Parameters
        ----------
        layers : sequence of layers
        wants_new : callable
            Whether to tick a layer that was not listed before.
        kept : sequence of layers, optional
            Layers that may be listed again, and are then ticked or not as before. Default: the listed ones.
        """
        ticked = [*self.ticked(), *(layer for layer in self._ticked_before if layer not in self._layers)]
        was_blocked = self.blockSignals(True)
        self.clear()
        self._layers = list(layers)
        for layer in self._layers:
            item = QListWidgetItem(str(layer.name), self)
            item.setToolTip(str(layer.name))
            item.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsUserCheckable | Qt.ItemFlag.ItemIsSelectable)
            is_ticked = layer in ticked or (layer not in self._seen and wants_new(layer))
            item.setCheckState(Qt.CheckState.Checked if is_ticked else Qt.CheckState.Unchecked)
        self.blockSignals(was_blocked)
        alive = self._layers if kept is None else kept
        self._seen = [
            layer
            for layer in (*self._layers, *(each for each in self._seen if each not in self._layers))
            if layer in alive
        ]
        self._ticked_before = [layer for layer in ticked if layer in alive]

    def ticked(self) -> list[Any]:
        """Layers that are ticked, in the order of the list."""
        return [layer for row, layer in enumerate(self._layers) if self._row(row).checkState() == Qt.CheckState.Checked]

    def tick(self, layer: Any, is_ticked: bool = True) -> None:
        """Tick a listed layer from outside."""
        state = Qt.CheckState.Checked if is_ticked else Qt.CheckState.Unchecked
        self._row(self._layers.index(layer)).setCheckState(state)

    def hide_layer(self, hidden: Any) -> None:
        """Show all layers but one; None shows all."""
        for row, layer in enumerate(self._layers):
            self._row(row).setHidden(layer is hidden)

    def _row(self, row: int) -> QListWidgetItem:
        item = self.item(row)
        assert item is not None  # there is one row per layer
        return item
