"""The sorted focus scores of all objects, with two thresholds that can be dragged."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QPointF, QRectF, Qt, Signal
from qtpy.QtGui import QFontMetricsF, QMouseEvent
from qtpy.QtWidgets import QDoubleSpinBox, QGridLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_cellenhance.core.crop_library import CropClass
from napari_cellenhance.core.focus import FocusThresholds, propose_thresholds
from napari_cellenhance.widgets._crop_overlay import CLASS_COLOURS
from napari_cellenhance.widgets._forms import describe
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._plot import Curve, LinePlot, Mark
from napari_cellenhance.widgets._plot_paint import frame_of, scales_of

__all__ = ["FocusPlot", "FocusSort", "score_curves"]

_REACH_PX = 8.0
_STEPS = 200


def score_curves(scores: NDArray[np.float64], thresholds: FocusThresholds) -> list[Curve]:
    """Rising scores as the number of objects up to them, in the colour of their class.

    Parameters
    ----------
    scores : ndarray of shape (N,), rising
    thresholds : FocusThresholds
    """
    rank = np.arange(1, len(scores) + 1, dtype=np.float64)
    is_sharp = scores >= thresholds.high
    is_blurred = (scores <= thresholds.low) & ~is_sharp
    parts: tuple[tuple[str, CropClass, NDArray[np.bool_]], ...] = (
        ("blurred, not wanted", "unwanted", is_blurred),
        ("between", "discarded", ~is_blurred & ~is_sharp),
        ("sharp, wanted", "target", is_sharp),
    )
    curves = []
    for title, kind, chosen in parts:
        if chosen.any():
            name = f"{title}: {int(chosen.sum())}"
            curves.append(Curve(name, scores[chosen], rank[chosen], CLASS_COLOURS[kind], "points"))
    return curves


class FocusPlot(LinePlot):
    """A plot whose marks can be dragged. ``dragged`` comes with the number of the mark and its place."""

    dragged = Signal(int, float)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._held: int | None = None
        self.setAccessibleName("Focus scores of all objects")
        self.set_labels("focus score", "objects up to it")
        self.set_empty_text("Find objects, and their scores are shown here.")

    def _frame(self) -> QRectF:
        return frame_of(self.content, self._area(), QFontMetricsF(self.font(), self))

    def place_of_mark(self, number: int) -> QPointF:
        """Where on the widget the middle of a mark is."""
        scales = scales_of(self.content)
        assert scales is not None  # marks are shown with curves only
        frame, x = self._frame(), self.content.marks[number].x
        return QPointF(frame.left() + float(scales[0].share(x)) * frame.width(), frame.center().y())

    def _nearest(self, place: QPointF) -> int | None:
        if scales_of(self.content) is None or not self._frame().adjusted(-_REACH_PX, 0, _REACH_PX, 0).contains(place):
            return None
        shifts = [place.x() - self.place_of_mark(i).x() for i in range(len(self.content.marks))]
        if not shifts or min(map(abs, shifts)) > _REACH_PX:
            return None
        # Of lines that lie on each other the one that can move to this side.
        return min(range(len(shifts)), key=lambda i: (round(abs(shifts[i])), -i if shifts[i] >= 0 else i))

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Take hold of a line."""
        if event is not None and event.button() == Qt.MouseButton.LeftButton:
            self._held = self._nearest(event.position())

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:
        """Let it go."""
        self._held = None

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Move the line that is held; else show the values under the mouse."""
        scales = scales_of(self.content)
        if event is None or scales is None:
            return
        if self._held is None:
            is_near = self._nearest(event.position()) is not None
            self.setCursor(Qt.CursorShape.SplitHCursor if is_near else Qt.CursorShape.ArrowCursor)
            super().mouseMoveEvent(event)
            return
        frame = self._frame()
        share = min(1.0, max(0.0, (event.position().x() - frame.left()) / frame.width()))
        self.dragged.emit(self._held, scales[0].low + share * (scales[0].high - scales[0].low))


class FocusSort(QWidget):
    """Plot and two boxes for the same thresholds. ``moved`` comes with new ``FocusThresholds``."""

    moved = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._scores = np.zeros(0)
        self._thresholds: FocusThresholds | None = None
        self.is_by_hand = False
        self.plot = FocusPlot()
        self.plot.setToolTip("Drag the two lines: objects left of both are not wanted, right of both they are.")
        self.low, self.high = QDoubleSpinBox(), QDoubleSpinBox()
        describe(self.low, "Blurred up to", "Objects with this score or less are not wanted.")
        describe(self.high, "Sharp from", "Objects with this score or more are wanted.")
        self.propose = QPushButton("Propose")
        self.propose.setToolTip("Take the two thresholds that the scores themselves suggest.")
        rows = QGridLayout()
        for row, (title, box) in enumerate((("Blurred up to", self.low), ("Sharp from", self.high))):
            box.setButtonSymbols(QDoubleSpinBox.ButtonSymbols.NoButtons)  # the line in the plot is the handle
            rows.addWidget(QLabel(title), row, 0)
            rows.addWidget(box, row, 1)
        rows.addWidget(self.propose, 0, 2)
        rows.setColumnStretch(1, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.plot)
        layout.addLayout(rows)
        self.plot.dragged.connect(self._on_dragged)
        self.low.valueChanged.connect(self._on_low)
        self.high.valueChanged.connect(self._on_high)
        self.propose.clicked.connect(self._on_propose)

    @property
    def thresholds(self) -> FocusThresholds | None:
        """What is shown; None without scores."""
        return self._thresholds

    def show_scores(self, scores: NDArray[np.float64], thresholds: FocusThresholds | None) -> None:
        """Show rising scores of other objects, or none."""
        self._scores = scores
        digits = 4
        if len(scores):  # four that count
            digits = int(np.clip(3 - np.floor(np.log10(max(float(scores[-1]), 1e-6))), 1, 8))
        for box in (self.low, self.high):
            was_blocked = box.blockSignals(True)
            box.setDecimals(digits)
            box.setRange(0.0, float(scores[-1]) * 2 + 1 if len(scores) else 1.0)
            box.setSingleStep(max(10.0**-digits, float(scores[-1]) / _STEPS if len(scores) else 0.01))
            box.blockSignals(was_blocked)
        self._show(thresholds)

    def clear(self) -> None:
        """Show that there are no scores; proposals count again."""
        self.is_by_hand = False
        self.show_scores(np.zeros(0), None)

    def _show(self, thresholds: FocusThresholds | None) -> None:
        self._thresholds = thresholds
        for box in (self.low, self.high, self.propose):
            box.setEnabled(thresholds is not None)
        if thresholds is None:
            self.plot.set_marks([])
            self.plot.set_curves([])
            return
        for box, value in ((self.low, thresholds.low), (self.high, thresholds.high)):
            was_blocked = box.blockSignals(True)
            box.setValue(value)
            box.blockSignals(was_blocked)
        self.plot.set_curves(score_curves(self._scores, thresholds))
        self.plot.set_marks(
            [Mark(thresholds.low, "blurred ≤", CLASS_COLOURS["unwanted"]),
             Mark(thresholds.high, "sharp ≥", CLASS_COLOURS["target"])]
        )  # fmt: skip

    def set_thresholds(self, low: float, high: float) -> None:
        """Take thresholds as a person would."""
        if self._thresholds is not None:
            self.is_by_hand = True
            self._show(FocusThresholds(low, max(low, high)))
            self.moved.emit(self._thresholds)

    def show_error(self, message: str) -> None:
        """Show a sentence where the curve would be."""
        self.plot.set_curves([])
        self.plot.set_empty_text(message)

    @guarded
    def _on_dragged(self, number: int, place: float) -> None:
        if self._thresholds is not None:
            low, high = self._thresholds
            if number == 0:
                self.set_thresholds(min(place, high), high)
            else:
                self.set_thresholds(low, max(place, low))

    @guarded
    def _on_low(self, value: float) -> None:
        if self._thresholds is not None:
            self.set_thresholds(value, max(value, self._thresholds.high))

    @guarded
    def _on_high(self, value: float) -> None:
        if self._thresholds is not None:
            self.set_thresholds(min(value, self._thresholds.low), value)

    @guarded
    def _on_propose(self) -> None:
        self.set_thresholds(*propose_thresholds(self._scores))
        self.is_by_hand = False
