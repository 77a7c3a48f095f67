"""The strength slider of a filter, with a number beside it."""

from __future__ import annotations

import math

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QDoubleSpinBox, QHBoxLayout, QLabel, QSlider, QVBoxLayout, QWidget

from napari_cellenhance.core.recipes.protocol import StrengthInfo

__all__ = ["StrengthSlider", "decimals_for", "end_labels", "snap", "to_ticks", "to_value"]

_TICKS = 1000


def snap(value: float, info: StrengthInfo) -> float:
    """Nearest strength the slider offers: 0 (unchanged), or the range of the filter.

    >>> info = StrengthInfo(label="Sigma", help="", default=3, minimum=0.5, maximum=20)
    >>> [snap(value, info) for value in (-1, 0.2, 0.3, 7, 99)]
    [0.0, 0.0, 0.5, 7.0, 20.0]
    """
    return 0.0 if value < info.minimum / 2 or value <= 0 else info.clamp(value)


def to_ticks(value: float, info: StrengthInfo) -> int:
    """Position of the slider for a strength; every strength but 0 is off the left end."""
    if value <= 0 or info.maximum <= 0:
        return 0
    return max(1, round(value / info.maximum * _TICKS))


def to_value(ticks: int, info: StrengthInfo) -> float:
    """Strength at a position of the slider; both ends are exact, and the left one is 0."""
    if ticks >= _TICKS:
        return info.maximum
    return snap(ticks / _TICKS * info.maximum, info)


def decimals_for(step: float) -> int:
    """Digits after the point that show a step, and a finer slider move, without noise."""
    return min(4, max(2, math.ceil(-math.log10(step)) + 1)) if step > 0 else 2


def end_labels(info: StrengthInfo) -> tuple[str, str]:
    """Texts under the two ends of the slider."""
    return "0 = unchanged", f"{info.maximum:g}{' ' + info.unit if info.unit else ''}"


class StrengthSlider(QWidget):
    """Continuous slider and number of one filter; range, label and help come from its card."""

    changed = Signal(float)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._info = StrengthInfo(label="Strength", help="", default=0.0, maximum=1.0)
        self._value = 0.0
        self.label = QLabel("Strength")
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, _TICKS)
        self.slider.setPageStep(_TICKS // 10)
        self.number = QDoubleSpinBox()
        self.number.setKeyboardTracking(False)
        self._low, self._high = QLabel(), QLabel()
        self._high.setAlignment(Qt.AlignmentFlag.AlignRight)
        row = QHBoxLayout()
        row.addWidget(self.slider, 1)
        row.addWidget(self.number)
        ends = QHBoxLayout()
        ends.addWidget(self._low)
        ends.addStretch(1)
        ends.addWidget(self._high)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.label)
        layout.addLayout(row)
        layout.addLayout(ends)
        self.slider.valueChanged.connect(self._on_slider)
        self.number.valueChanged.connect(self._on_number)

    @property
    def value(self) -> float:
        """Strength now; exactly 0 at the left end, for every filter."""
        return self._value

    def set_info(self, info: StrengthInfo) -> None:
        """Take over range, unit and help of a filter, and go to its default."""
        self._info = info
        unit = f" ({info.unit})" if info.unit else ""
        self.label.setText(f"{info.label}{unit}")
        for part in (self.label, self.slider, self.number):
            part.setToolTip(info.help)
            part.setAccessibleName(info.label)
        low, high = end_labels(info)
        self._low.setText(low)
        self._high.setText(high)
        was_blocked = self.number.blockSignals(True)
        self.number.setDecimals(decimals_for(info.step))
        self.number.setRange(0.0, info.maximum)
        self.number.setSingleStep(info.step)
        self.number.blockSignals(was_blocked)
        self.set_value(info.default)

    def set_value(self, value: float) -> None:
        """Go to a strength; outside values stop at the end of the slider."""
        self._take(snap(value, self._info))

    def _on_slider(self, ticks: int) -> None:
        self._take(to_value(ticks, self._info))

    def _on_number(self, value: float) -> None:
        self._take(snap(value, self._info))

    def _take(self, value: float) -> None:
        is_new = value != self._value
        self._value = value
        blocked = self.slider.blockSignals(True), self.number.blockSignals(True)
        self.slider.setValue(to_ticks(value, self._info))
        self.number.setValue(value)
        self.slider.blockSignals(blocked[0])
        self.number.blockSignals(blocked[1])
        if is_new:
            self.changed.emit(value)
