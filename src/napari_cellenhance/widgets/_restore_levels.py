"""The three levels: from which intervals photons, noise and exposure of a poor image are drawn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_cellenhance.core.microscope import LEVELS, Level
from napari_cellenhance.widgets._forms import describe, new_form
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._restore_microscope import number_box

__all__ = ["LevelsForm"]

_FIELDS: dict[str, tuple[str, str, float, float, int, float, str]] = {
    "photons": (
        "Photons", "At the brightest places; fewer photons, more shot noise. Drawn on a logarithmic scale.",
        1.0, 100_000.0, 0, 10.0, "",
    ),
    "sigma": ("Read noise", "Standard deviation, as a share of the brightest grey value.", 0.0, 1.0, 3, 0.01, ""),
    "amplitude": ("× amplitude", "The read noise is multiplied by this.", 0.0, 10.0, 2, 0.05, ""),
    "gain": ("Intensity", "Below 1 the image is under-, above 1 over-exposed.", 0.01, 10.0, 2, 0.1, ""),
    "blur": ("Extra blur", "Standard deviation of a Gaussian on top of the objective: out of focus.", 0.0, 20.0, 1, 0.5,
             " px"),
}  # fmt: skip
"""Title, tip, smallest, largest, decimals, step, unit."""


class LevelsForm(QWidget):
    """Intervals of one level at a time."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._levels = list(LEVELS)
        self.level = QComboBox()
        for level in LEVELS:
            self.level.addItem(level.name.capitalize(), level.name)
        describe(self.level, "Level", "Each clean image is made poor once at every level.")
        self.reset = QPushButton("Reset")
        self.reset.setToolTip("All levels as they were at the start.")
        self.boxes: dict[str, tuple[QDoubleSpinBox, QDoubleSpinBox]] = {}
        form = new_form()
        row = QHBoxLayout()
        row.addWidget(self.level, 1)
        row.addWidget(self.reset)
        form.addRow("Level", row)
        for field, (title, tip, low, high, decimals, step, unit) in _FIELDS.items():
            pair = tuple(
                number_box(low, high, low, decimals, f"{title}, {end}", f"{tip} Any value from – to.", unit, step)
                for end in ("from", "to")
            )
            self.boxes[field] = (pair[0], pair[1])
            both = QHBoxLayout()
            both.addWidget(pair[0], 1)
            both.addWidget(QLabel("–"))
            both.addWidget(pair[1], 1)
            form.addRow(title, both)
            for i, box in enumerate(pair):
                box.setMinimumWidth(70)
                box.valueChanged.connect(self._changes(field, i))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        self.level.currentIndexChanged.connect(self._show_level)
        self.reset.clicked.connect(self._on_reset)
        self._show_level()

    def levels(self) -> tuple[Level, ...]:
        """All levels."""
        return tuple(self._levels)

    def show_error(self, message: str) -> None:
        """Show the reason in place of a tooltip."""
        self.level.setToolTip(message)

    def _changes(self, field: str, end: int) -> Any:
        def change() -> None:
            self._on_value(field, end)

        return change

    @guarded
    def _on_value(self, field: str, end: int) -> None:
        boxes = self.boxes[field]
        low, high = (box.value() for box in boxes)
        if low > high:  # the other end comes along
            was_blocked = boxes[1 - end].blockSignals(True)
            boxes[1 - end].setValue(boxes[end].value())
            boxes[1 - end].blockSignals(was_blocked)
            low = high = boxes[end].value()
        row = self.level.currentIndex()
        changes: dict[str, Any] = {field: (low, high)}
        self._levels[row] = replace(self._levels[row], **changes)
        self.changed.emit()

    @guarded
    def _show_level(self) -> None:
        level = self._levels[self.level.currentIndex()]
        for field, boxes in self.boxes.items():
            for box, value in zip(boxes, getattr(level, field), strict=True):
                was_blocked = box.blockSignals(True)
                box.setValue(value)
                box.blockSignals(was_blocked)

    @guarded
    def _on_reset(self) -> None:
        self._levels = list(LEVELS)
        self._show_level()
        self.changed.emit()
