"""A list of image layers with check marks, and the form of the one that is highlighted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QLabel, QListWidget, QListWidgetItem, QSizePolicy, QStackedWidget, QVBoxLayout, QWidget

from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._layer_picker import image_layers
from napari_cellenhance.widgets._status import alarm

__all__ = ["CheckedLayers"]

_N_ROWS = 4


class CheckedLayers(QWidget):
    """Choose one or more image layers; each has a form of its own, made when it is first checked.

    Parameters
    ----------
    viewer : ViewerModel
    make_form : callable
        Layer → its form: a QWidget with ``layer``, the signal ``changed``, ``problem()`` and ``close_down()``.
    name : str
        For screen readers.
    purpose : str
        What the layers are for: "train on".
    checks_first : bool
        Whether the first image that opens while the list is empty is checked.
    """

    changed = Signal()

    def __init__(
        self,
        viewer: Any,
        make_form: Callable[[Any], Any],
        *,
        name: str,
        purpose: str,
        checks_first: bool = True,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._checks_first = False  # until it is made
        self._viewer = viewer
        self._make_form = make_form
        self._purpose = purpose
        self._layers: list[Any] = []
        self._forms: dict[int, Any] = {}
        self._problem = QLabel()
        self._problem.setWordWrap(True)
        self._problem.setVisible(False)
        self.list = QListWidget()
        self.list.setAccessibleName(name)
        self.list.setToolTip("Check the image layers to learn from. They are only read. Click one to see its settings.")
        self.list.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.title = QLabel()
        self.title.setWordWrap(True)
        self.stack = QStackedWidget()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for part in (self.list, self._problem, self.title, self.stack):
            layout.addWidget(part)
        for event in self._events():
            event.connect(self.refill)
        self.list.itemChanged.connect(self._on_checked)
        self.list.currentRowChanged.connect(self._show_form)
        self.refill()
        active = viewer.layers.selection.active
        self.check(active if active in self._layers else self._layers[0] if self._layers else None)
        self._checks_first = checks_first

    def _events(self) -> tuple[Any, ...]:
        events = self._viewer.layers.events
        return (events.inserted, events.removed, events.reordered)

    # --- what is chosen -----------------------------------------------------------------

    def forms(self) -> list[Any]:
        """Forms of the checked layers, in the order of the list."""
        return [self._forms[id(layer)] for row, layer in enumerate(self._layers) if self._is_checked(row)]

    def current_form(self) -> Any:
        """Form of the highlighted layer, or of the first one that is checked; None without any."""
        row = self.list.currentRow()
        layer = self._layers[row] if 0 <= row < len(self._layers) and self._is_checked(row) else None
        forms = self.forms()
        return next((form for form in forms if form.layer is layer), forms[0] if forms else None)

    def check(self, layer: Any, *, is_checked: bool = True) -> None:
        """Check a layer and show its form."""
        if layer in self._layers:
            row = self._layers.index(layer)
            self._item(row).setCheckState(Qt.CheckState.Checked if is_checked else Qt.CheckState.Unchecked)
            self.list.setCurrentRow(row)

    def problem(self) -> str:
        """Why training on these layers is not possible; empty when it is."""
        forms = self.forms()
        if not self._layers:
            return f"Open an image (File ▸ Open Sample ▸ CellEnhance has some) to {self._purpose} it."
        if not forms:
            return f"Check at least one image layer to {self._purpose}."
        return next((problem for form in forms if (problem := form.problem())), "")

    def _item(self, row: int) -> QListWidgetItem:
        item = self.list.item(row)
        assert item is not None  # there is one row per layer
        return item

    def _is_checked(self, row: int) -> bool:
        return bool(self._item(row).checkState() == Qt.CheckState.Checked)

    # --- following the viewer -----------------------------------------------------------

    def show_error(self, message: str) -> None:
        """Show a sentence under the list."""
        self._problem.setText(alarm(message))
        self._problem.setVisible(bool(message))

    @guarded
    def refill(self) -> None:
        """Read the layer list again; check marks and forms of layers that are still there stay."""
        checked = {id(layer) for row, layer in enumerate(self._layers) if self._is_checked(row)}
        row = self.list.currentRow()
        current = self._layers[row] if 0 <= row < len(self._layers) else None
        was_empty = not self._layers
        for layer in self._layers:
            layer.events.name.disconnect(self._rename)
        self._layers = image_layers(self._viewer)
        for layer in self._layers:
            layer.events.name.connect(self._rename)
        known = {id(layer) for layer in self._layers}
        for key in [key for key in self._forms if key not in known]:
            self._drop(key)
        was_blocked = self.list.blockSignals(True)
        self.list.clear()
        for layer in self._layers:
            item = QListWidgetItem(str(layer.name), self.list)
            item.setFlags(Qt.ItemFlag.ItemIsUserCheckable | Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable)
            item.setCheckState(Qt.CheckState.Checked if id(layer) in checked else Qt.CheckState.Unchecked)
        self.list.setCurrentRow(self._layers.index(current) if current in self._layers else -1)
        self.list.blockSignals(was_blocked)
        self._fit_height()
        self._show_form()
        if was_empty and self._layers and self._checks_first:
            self.check(self._layers[0])
        self.changed.emit()

    def _fit_height(self) -> None:
        rows = min(_N_ROWS, max(2, len(self._layers)))
        line = max(self.list.sizeHintForRow(0), self.list.fontMetrics().height() + 4)
        self.list.setFixedHeight(rows * line + 2 * self.list.frameWidth() + 4)

    @guarded
    def _rename(self) -> None:
        was_blocked = self.list.blockSignals(True)
        for row, layer in enumerate(self._layers):
            self._item(row).setText(str(layer.name))
        self.list.blockSignals(was_blocked)
        self._show_form()

    @guarded
    def _on_checked(self, item: QListWidgetItem) -> None:
        row = self.list.row(item)
        if self._is_checked(row):
            layer = self._layers[row]
            if id(layer) not in self._forms:
                form = self._make_form(layer)
                form.changed.connect(self._tell)
                self._forms[id(layer)] = form
                self.stack.addWidget(form)
            self.list.setCurrentRow(row)
        self._show_form()
        self.changed.emit()

    def _tell(self) -> None:
        self.changed.emit()

    @guarded
    def _show_form(self) -> None:
        row = self.list.currentRow()
        layer = self._layers[row] if 0 <= row < len(self._layers) else None
        form = None if layer is None or not self._is_checked(row) else self._forms.get(id(layer))
        self.stack.setVisible(form is not None)
        self.title.setVisible(form is not None and len(self.forms()) > 1)
        if form is not None and layer is not None:
            self.stack.setCurrentWidget(form)
            self.title.setText(f"Settings of “{layer.name}”")

    def _drop(self, key: int) -> None:
        form = self._forms.pop(key)
        form.close_down()
        self.stack.removeWidget(form)
        form.deleteLater()

    def release(self) -> None:
        """Stop following the viewer, and end all threads."""
        for event in self._events():
            event.disconnect(self.refill)
        for layer in self._layers:
            layer.events.name.disconnect(self._rename)
        for form in self._forms.values():
            form.close_down()
        self._layers = []
