"""The strength slider of a filter, with a number beside it, and the strength that the image suggests."""

from __future__ import annotations

import math

from qtpy.QtCore import QPointF, Qt, Signal
from qtpy.QtGui import QPainter, QPaintEvent, QPolygonF
from qtpy.QtWidgets import (
    QDoubleSpinBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSlider,
    QStyle,
    QStyleOptionSlider,
    QVBoxLayout,
    QWidget,
)

from napari_cellenhance.core.recipes.protocol import StrengthInfo
from napari_cellenhance.workflows.requests import StrengthSuggestion

__all__ = ["MarkedSlider", "StrengthSlider", "decimals_for", "end_labels", "snap", "to_ticks", "to_value"]

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


class MarkedSlider(QSlider):
    """A horizontal slider on which one position can be marked by a small triangle above the groove."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(Qt.Orientation.Horizontal, parent)
        self.mark: int | None = None

    def set_mark(self, ticks: int | None) -> None:
        """Mark a position, or none."""
        self.mark = ticks
        self.update()

    def mark_x(self) -> float:
        """Where the mark is painted, in pixels from the left."""
        option = QStyleOptionSlider()
        self.initStyleOption(option)
        style = self.style()
        assert style is not None
        knob = style.subControlRect(
            QStyle.ComplexControl.CC_Slider, option, QStyle.SubControl.SC_SliderHandle, self
        ).width()
        span = self.width() - knob
        return knob / 2 + style.sliderPositionFromValue(self.minimum(), self.maximum(), self.mark or 0, span)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the slider, then the mark."""
        super().paintEvent(event)
        if self.mark is None:
            return
        x = self.mark_x()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(self.palette().text())
        painter.drawPolygon(QPolygonF([QPointF(x - 5, 0), QPointF(x + 5, 0), QPointF(x, 6)]))
        painter.end()


class StrengthSlider(QWidget):
    """Continuous slider and number of one filter; range, label and help come from its card."""

    changed = Signal(float)
    suggestion_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._info = StrengthInfo(label="Strength", help="", default=0.0, maximum=1.0)
        self._value = 0.0
        self.label = QLabel("Strength")
        self._suggestion: StrengthSuggestion | None = None
        self.slider = MarkedSlider()
        self.slider.setRange(0, _TICKS)
        self.slider.setPageStep(_TICKS // 10)
        self.number = QDoubleSpinBox()
        self.number.setKeyboardTracking(False)
        self._low, self._high = QLabel(), QLabel()
        self._high.setAlignment(Qt.AlignmentFlag.AlignRight)
        self.suggest = QPushButton("Suggest")
        self.suggest.setToolTip(
            "Look at the image in view, go to the weakest strength from which on the objects hardly change, and mark "
            "it on the slider."
        )
        row = QHBoxLayout()
        row.addWidget(self.slider, 1)
        row.addWidget(self.number)
        head = QHBoxLayout()
        head.addWidget(self.label)
        head.addStretch(1)
        head.addWidget(self.suggest)
        ends = QHBoxLayout()
        ends.addWidget(self._low)
        ends.addStretch(1)
        ends.addWidget(self._high)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(head)
        layout.addLayout(row)
        layout.addLayout(ends)
        self.slider.valueChanged.connect(self._on_slider)
        self.number.valueChanged.connect(self._on_number)
        self.suggest.clicked.connect(self._on_suggest)

    @property
    def value(self) -> float:
        """Strength now; exactly 0 at the left end, for every filter."""
        return self._value

    @property
    def suggestion(self) -> StrengthSuggestion | None:
        """What was suggested, as long as the slider stands there."""
        is_there = self._suggestion is not None and snap(self._suggestion.strength, self._info) == self._value
        return self._suggestion if is_there else None

    def show_suggestion(self, suggestion: StrengthSuggestion | None) -> None:
        """Go to a suggested strength and mark it; None takes the mark away."""
        self._suggestion = suggestion
        if suggestion is None:
            self.slider.set_mark(None)
            self.slider.setToolTip(self._info.help)
            return
        self.slider.set_mark(to_ticks(suggestion.strength, self._info))
        self.slider.setToolTip(f"{self._info.help}\n\n▾ Suggested: {suggestion.strength:g}. {suggestion.reason}")
        self.set_value(suggestion.strength)

    def set_searching(self, *, is_searching: bool) -> None:
        """Show that a suggestion is being looked for."""
        self.suggest.setEnabled(not is_searching)
        self.suggest.setText("Looking…" if is_searching else "Suggest")

    def _on_suggest(self) -> None:
        self.suggestion_wanted.emit()

    def set_info(self, info: StrengthInfo) -> None:
        """Take over range, unit and help of a filter, and go to its default."""
        self._info = info
        self.show_suggestion(None)
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
