"""Strength by region: a Labels layer whose labels have strengths, or an image of strengths."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QScrollArea,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_cellenhance.core.recipes.protocol import StrengthInfo
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._labels_picker import paint_events
from napari_cellenhance.widgets._layers import is_preview
from napari_cellenhance.workflows.requests import StrengthMap

__all__ = ["MAX_ROWS", "StrengthRegions", "frozen_values", "label_ids", "map_layers"]

MAX_ROWS = 30
"""More labels than this are not listed; they follow the slider."""
_DELAY_MS = 150
_NONE = "None (as the slider)"


def map_layers(viewer: Any) -> list[Any]:
    """Layers that can hold strengths, the topmost first: Labels, and grey images of real numbers."""
    from napari.layers import Image, Labels

    def fits(layer: Any) -> bool:
        if isinstance(layer, Labels):
            return True
        return (
            isinstance(layer, Image) and not layer.rgb and not is_preview(layer) and np.dtype(layer.dtype).kind == "f"
        )

    return [layer for layer in reversed(list(viewer.layers)) if fits(layer)]


def label_ids(values: Any) -> list[int]:
    """Labels that occur, ascending, without the ground; empty for arrays that are not in memory."""
    if not isinstance(values, np.ndarray):
        return []
    return [int(label) for label in np.unique(values) if label != 0]


def frozen_values(layer: Any) -> Any:
    """Pixels of a layer at full resolution, copied if they can be painted; lazy arrays stay lazy."""
    values = layer.data[0] if layer.multiscale else layer.data
    return np.array(values) if isinstance(values, np.ndarray) else values


class StrengthRegions(QWidget):
    """Choose the layer, and the strength of each label; ``changed`` comes for either, and after painting."""

    changed = Signal()

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._layers: list[Any] = []
        self._layer: Any = None
        self._info = StrengthInfo(label="Strength", help="", default=0.0, maximum=10.0)
        self._slider = 0.0
        self._table: dict[int, float] = {}
        self._made: StrengthMap | None = None
        self._is_labels = False
        self._values: Any = None
        self.rows: dict[int, QDoubleSpinBox] = {}
        self._row_of: dict[int, QWidget] = {}
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DELAY_MS)
        self._timer.timeout.connect(self._reread)
        self._lay_out()
        for event in self._events():
            event.connect(self.refill)
        self.layer_combo.currentIndexChanged.connect(self._on_picked)
        self.edges.valueChanged.connect(self._on_value)
        self.refill()

    def _lay_out(self) -> None:
        self.layer_combo = QComboBox()
        self.layer_combo.setToolTip(
            "A Labels layer: paint regions, then give each label its strength. "
            "Or a grey image of real numbers: it holds the strengths themselves (NaN follows the slider)."
        )
        self.layer_combo.setAccessibleName("Layer with strengths")
        self.layer_combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.layer_combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.layer_combo.setMinimumContentsLength(10)
        self.edges = QSpinBox()
        self.edges.setRange(0, 200)
        self.edges.setSingleStep(4)
        self.edges.setSuffix(" px")
        self.edges.setSpecialValueText("sharp")
        self.edges.setToolTip("Width over which neighbouring regions fade into each other.")
        self.edges.setAccessibleName("Soft edges")
        self.note = QLabel()
        self.note.setWordWrap(True)
        holder = QWidget()
        self._rows = QFormLayout(holder)
        self._rows.setContentsMargins(0, 0, 0, 0)
        self.table = QScrollArea()
        self.table.setWidget(holder)
        self.table.setWidgetResizable(True)
        self.table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        form.addRow("Layer", self.layer_combo)
        form.addRow("Edges", self.edges)
        self._form = form
        layout = QVBoxLayout(self)
        layout.setContentsMargins(16, 0, 0, 4)
        layout.addLayout(form)
        layout.addWidget(self.note)
        layout.addWidget(self.table)

    def _events(self) -> tuple[Any, ...]:
        events = self._viewer.layers.events
        return (events.inserted, events.removed, events.reordered)

    def show_error(self, message: str) -> None:
        """Show a sentence in place of the note."""
        self.note.setText(message)

    # --- what it says -------------------------------------------------------------------

    def strength_map(self) -> StrengthMap | None:
        """Map of the chosen layer, the same object until something changes; None where there is none."""
        if self._layer is None:
            return None
        if self._made is None:
            self._made = StrengthMap(
                values=self._values,
                label_strengths=dict(self._table) if self._is_labels else None,
                edge_px=self.edges.value(),
                name=str(self._layer.name),
            )
        return self._made

    def set_strength(self, info: StrengthInfo, value: float) -> None:
        """Take over the range of the slider, and the strength that a new label begins with."""
        self._slider = value
        if info is self._info:
            return
        self._info = info
        for box in self.rows.values():
            box.setMaximum(info.maximum)

    def choose(self, layer: Any) -> None:
        """Choose a layer if it is listed; None for none."""
        self.layer_combo.setCurrentIndex(0 if layer is None else 1 + self._layers.index(layer))

    # --- following the viewer -----------------------------------------------------------

    @guarded
    def refill(self) -> None:
        """Read the layer list again; keep the chosen layer if it is still there."""
        self._layers = map_layers(self._viewer)
        was_blocked = self.layer_combo.blockSignals(True)
        self.layer_combo.clear()
        self.layer_combo.addItems([_NONE, *(str(layer.name) for layer in self._layers)])
        # Docks get layers behind a proxy that is made anew each time: equal, never identical.
        keep = self._layers.index(self._layer) if self._layer is not None and self._layer in self._layers else -1
        self.layer_combo.setCurrentIndex(keep + 1)
        self.layer_combo.blockSignals(was_blocked)
        if keep < 0:
            self._on_picked()

    @guarded
    def _on_picked(self) -> None:
        index = self.layer_combo.currentIndex() - 1
        layer = self._layers[index] if index >= 0 else None
        if layer is not None and self._layer is not None and layer == self._layer:
            return
        had_one = self._layer is not None
        self._follow(layer)
        if layer is None:
            self._show_rows([])
            self.note.setText("")
            if had_one:
                self.changed.emit()
        else:
            self._reread()
        self._show_parts()

    def _show_parts(self) -> None:
        has_layer = self._layer is not None
        self._form.setRowVisible(self.edges, has_layer)
        self.note.setVisible(has_layer)
        self.table.setVisible(bool(self.rows))

    def _follow(self, layer: Any) -> None:
        for event in self._paint_events():
            event.disconnect(self._on_painted)
        self._layer = layer
        self._made = None
        self._table = {}
        for event in self._paint_events():
            event.connect(self._on_painted)

    def _paint_events(self) -> tuple[Any, ...]:
        return paint_events(self._layer)

    @guarded
    def _on_painted(self) -> None:
        if not self._timer.isActive():
            self._timer.start()

    @guarded
    def _reread(self) -> None:
        """Take a copy of what is painted now, and list its labels."""
        if self._layer is None:
            return
        from napari.layers import Labels

        self._made = None
        self._is_labels = isinstance(self._layer, Labels)
        self._values = frozen_values(self._layer)
        ids = label_ids(self._values) if self._is_labels else []
        self._show_rows(ids[:MAX_ROWS])
        if not self._is_labels:
            self.note.setText(f"Its values are the strengths, from 0 to {self._info.maximum:g}.")
        elif not ids:
            self.note.setText("Nothing is painted yet: paint regions in this layer, one label for each strength.")
        elif len(ids) > MAX_ROWS:
            self.note.setText(f"{len(ids)} labels; the first {MAX_ROWS} are listed, the others follow the slider.")
        else:
            self.note.setText("Strength of each label; what is not painted follows the slider.")
        self._show_parts()
        self.changed.emit()

    # --- the list of labels -------------------------------------------------------------

    def _show_rows(self, ids: list[int]) -> None:
        for label in [label for label in self.rows if label not in ids]:
            self._rows.removeRow(self._row_of.pop(label))
            del self.rows[label]
            self._table.pop(label, None)
        for label in ids:
            if label not in self.rows:
                self._add_row(label)
        height = sum(box.sizeHint().height() + 6 for box in list(self.rows.values())[:5]) + 8
        self.table.setFixedHeight(height)

    def _add_row(self, label: int) -> None:
        box = QDoubleSpinBox()
        box.setRange(0.0, self._info.maximum)
        box.setSingleStep(0.5)
        box.setKeyboardTracking(False)
        box.setValue(self._slider)
        box.setToolTip(f"Strength where label {label} is painted; 0 shows the image itself.")
        box.setAccessibleName(f"Strength of label {label}")
        swatch = QLabel()
        swatch.setFixedSize(14, 14)
        swatch.setStyleSheet(f"background-color: {self._colour(label)}; border-radius: 3px;")
        name = QWidget()
        row = QHBoxLayout(name)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(swatch)
        row.addWidget(QLabel(f"Label {label}"))
        self._rows.addRow(name, box)
        self._row_of[label] = name
        self.rows[label] = box
        self._table[label] = box.value()
        box.valueChanged.connect(self._on_value)

    def _colour(self, label: int) -> str:
        colour = self._layer.get_color(label)
        if colour is None:
            return "transparent"
        red, green, blue = (round(255 * float(part)) for part in colour[:3])
        return f"rgb({red}, {green}, {blue})"

    @guarded
    def _on_value(self) -> None:
        self._made = None
        self._table = {label: box.value() for label, box in self.rows.items()}
        self.changed.emit()

    def release(self) -> None:
        """Stop following the viewer."""
        self._timer.stop()
        for event in self._events():
            event.disconnect(self.refill)
        self._follow(None)
