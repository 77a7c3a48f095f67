"""What a training looks like while it runs: curves, warnings, and the own image before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QRectF, QSize, Qt
from qtpy.QtGui import QImage, QPainter, QPaintEvent, QPalette
from qtpy.QtWidgets import QComboBox, QFormLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_cellenhance.core.learning_curves import judge
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._plot import LinePlot
from napari_cellenhance.widgets._status import alarm
from napari_cellenhance.widgets._train_curves import ALL, LOSSES, curves_of, losses_in, marks_of

__all__ = ["BeforeAfter", "TrainView", "grey_image"]

_GAP = 6


class BeforeAfter(QWidget):
    """A window of a training image, and the same window filtered, side by side."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._pictures: list[tuple[str, QImage]] = []
        policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        self.setAccessibleName("Before and after")
        self.setToolTip("A piece of your image, and what the filter makes of it now, at medium strength.")

    def show_pair(self, before: NDArray[np.float32], after: NDArray[np.float32], caption: str) -> None:
        """Show two pictures of one shape, float32 in [0, 1]."""
        self._pictures = [("Before", grey_image(before)), (caption, grey_image(after))]
        self.setAccessibleDescription(f"Before, and {caption.lower()}")
        self.updateGeometry()
        self.update()

    @property
    def caption(self) -> str:
        """Caption of the filtered picture; empty before the first."""
        return self._pictures[1][0] if self._pictures else ""

    def hasHeightForWidth(self) -> bool:  # noqa: N802
        """Say that the height follows from the width."""
        return True

    def heightForWidth(self, width: int) -> int:  # noqa: N802
        """Height of the pictures and their captions."""
        if not self._pictures:
            return 0
        image = self._pictures[0][1]
        return int((width - _GAP) / 2 * image.height() / max(1, image.width())) + self.fontMetrics().height() + 4

    def sizeHint(self) -> QSize:
        """As wide as the dock usually is."""
        return QSize(300, self.heightForWidth(300))

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw both pictures with their captions."""
        if not self._pictures:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.setPen(self.palette().color(QPalette.ColorRole.WindowText))
        line = self.fontMetrics().height()
        side = (self.width() - _GAP) / 2
        for column, (caption, image) in enumerate(self._pictures):
            left = column * (side + _GAP)
            scale = min(side / image.width(), max(1.0, self.height() - line - 4) / image.height())
            painter.drawImage(QRectF(left, line + 4, scale * image.width(), scale * image.height()), image)
            text = self.fontMetrics().elidedText(caption, Qt.TextElideMode.ElideRight, int(side))
            painter.drawText(QRectF(left, 0, side, line), Qt.AlignmentFlag.AlignLeft, text)
        painter.end()


def grey_image(picture: NDArray[np.float32]) -> QImage:
    """Make a picture in [0, 1] one of Qt."""
    grey = np.ascontiguousarray((np.clip(np.nan_to_num(picture), 0.0, 1.0) * 255.0).round().astype(np.uint8))
    height, width = grey.shape
    return QImage(grey.tobytes(), width, height, width, QImage.Format.Format_Grayscale8).copy()


class TrainView(QWidget):
    """Curves that grow, warnings in words, and the own image before and after."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.rows: list[Mapping[str, float]] = []
        self._best_step = 0
        self._is_tuning = False
        self.shown = QComboBox()
        self.shown.setAccessibleName("Curves")
        self.shown.setToolTip("All losses, smoothed and each divided by its start; or one loss with every update.")
        self.plot = LinePlot()
        self.plot.set_empty_text("Curves appear here when a training runs.")
        self.plot.setAccessibleName("Losses")
        self.warnings = QLabel()
        self.warnings.setWordWrap(True)
        self.warnings.setTextFormat(Qt.TextFormat.RichText)
        self.warnings.setVisible(False)
        self.pair = BeforeAfter()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        form.addRow("Curves", self.shown)
        layout.addLayout(form)
        layout.addWidget(self.plot, 1)
        layout.addWidget(self.warnings)
        layout.addWidget(self.pair)
        self.shown.currentIndexChanged.connect(self._draw)
        self._offer([])

    def show_error(self, message: str) -> None:
        """Show a sentence under the plot."""
        self.warnings.setText(alarm(message))
        self.warnings.setVisible(True)

    def start(self, *, is_tuning: bool) -> None:
        """Forget the training before; ``is_tuning`` where a trained network is the start."""
        self.rows, self._best_step, self._is_tuning = [], 0, is_tuning
        self._offer([])
        self._draw()
        self.warnings.setVisible(False)

    def add(self, rows: Sequence[Mapping[str, float]], best_step: int) -> None:
        """Let the curves grow."""
        if not rows:
            return
        self.rows += rows
        self._best_step = best_step
        self._offer(losses_in(self.rows))
        self._draw()
        self.judge()

    def add_picture(self, before: NDArray[np.float32], after: NDArray[np.float32], step: int) -> None:
        """Show the latest picture, made after update ``step``."""
        self.pair.show_pair(before, after, f"After update {step}" if step else "Filter at the start")

    def judge(self, *, is_diverged: bool = False) -> None:
        """Say what is wrong with the curves, if anything."""
        found = judge(self.rows, is_fine_tuning=self._is_tuning, is_diverged=is_diverged)
        self.warnings.setText("<br>".join(alarm(finding.sentence) for finding in found))
        self.warnings.setVisible(bool(found))

    def _offer(self, names: list[str]) -> None:
        wanted: list[tuple[str, str]] = [("All, smoothed, start = 1", ALL)]
        wanted += [(LOSSES[name][0], name) for name in names]
        if [self.shown.itemData(i) for i in range(self.shown.count())] == [data for _, data in wanted]:
            return
        chosen: Any = self.shown.currentData()
        was_blocked = self.shown.blockSignals(True)
        self.shown.clear()
        for title, data in wanted:
            self.shown.addItem(title, data)
        self.shown.setCurrentIndex(max(0, self.shown.findData(chosen)))
        self.shown.blockSignals(was_blocked)

    @guarded
    def _draw(self) -> None:
        shown = str(self.shown.currentData())
        self.plot.set_labels("update", "loss / start" if shown == ALL else "loss")
        self.plot.set_curves(curves_of(self.rows, shown))
        self.plot.set_marks(marks_of(self._best_step))
