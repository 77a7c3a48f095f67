"""A small bar chart: one bar for each name, to the left where a value is negative."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from qtpy.QtCore import QEvent, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPalette
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_cellenhance.widgets._plot_paint import PALETTE

__all__ = ["BarChart"]

_GAP = 6.0


class BarChart(QWidget):
    """Shows numbers by name; follows the theme. As high as it has bars.

    Parameters
    ----------
    name, tip : str
    """

    def __init__(self, name: str, tip: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._values: dict[str, float] = {}
        self.setAccessibleName(name)
        self.setToolTip(tip)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    @property
    def values(self) -> dict[str, float]:
        """What is shown."""
        return dict(self._values)

    def show_values(self, values: Mapping[str, float]) -> None:
        """Show these numbers; ones that are no numbers are left out."""
        self._values = {name: float(value) for name, value in values.items() if np.isfinite(value)}
        self.setAccessibleDescription("; ".join(f"{name}: {value:.2f}" for name, value in self._values.items()))
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        """One line of text for each bar."""
        return QSize(200, int(len(self._values) * self._line() + 2))

    def minimumSizeHint(self) -> QSize:
        """As high as wanted."""
        return QSize(120, self.sizeHint().height())

    def _line(self) -> float:
        return self.fontMetrics().height() + 4.0

    def changeEvent(self, event: QEvent | None) -> None:
        """Draw again when the theme changes."""
        super().changeEvent(event)
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the bars in the colours of the theme."""
        if not self._values:
            return
        painter = QPainter(self)
        metrics, line = self.fontMetrics(), self._line()
        text = self.palette().color(QPalette.ColorRole.WindowText)
        numbers = {name: f"{value:.2f}" for name, value in self._values.items()}
        left = min(self.width() / 2, max(metrics.horizontalAdvance(name) for name in self._values) + 2 * _GAP)
        right = self.width() - max(metrics.horizontalAdvance(number) for number in numbers.values()) - _GAP
        low, high = min(0.0, *self._values.values()), max(0.0, *self._values.values())
        per_unit = max(1.0, right - left) / max(high - low, 1e-9)
        zero = left - low * per_unit
        for row, (name, value) in enumerate(self._values.items()):
            top = row * line
            painter.setPen(text)
            shown = metrics.elidedText(name, Qt.TextElideMode.ElideMiddle, int(left - _GAP))
            painter.drawText(QRectF(0, top, left, line), Qt.AlignmentFlag.AlignVCenter, shown)
            box = QRectF(right + _GAP, top, self.width() - right - _GAP, line)
            painter.drawText(box, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight, numbers[name])
            bar = QRectF(min(zero, zero + value * per_unit), top + 3, abs(value) * per_unit, line - 6)
            painter.fillRect(bar, QColor(PALETTE[0]))
        painter.drawLine(int(zero), 0, int(zero), int(len(self._values) * line))
        painter.end()
