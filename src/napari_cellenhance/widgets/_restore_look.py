"""One patch of a clean image, as it is, as a target, and made poor at every level; it follows the sliders."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QRectF, QSize, Qt, Signal
from qtpy.QtGui import QImage, QPainter, QPaintEvent, QPalette
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_cellenhance.widgets._guard import error_sentence, guarded
from napari_cellenhance.widgets._status import alarm
from napari_cellenhance.widgets._train_view import grey_image
from napari_cellenhance.widgets._worker import LatestOnly, Outcome
from napari_cellenhance.workflows.care_layers import Bench, BenchAsk, BenchView, exposure_lines

__all__ = ["LevelsLook", "PictureGrid"]

_GAP = 6
_N_COLUMNS = 3
_SOON = "The pictures come in a moment."
_NOTHING = "Check a clean layer to see a patch of it made poor."


Picture = tuple[str, tuple[str, ...], NDArray[np.float32]]
"""Title above, lines below, and float32 in [0, 1]."""


class PictureGrid(QWidget):
    """Rows of grey pictures of one shape, each with a title above and lines below it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._rows: list[list[tuple[str, tuple[str, ...], QImage]]] = []
        policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        self.setAccessibleName("A patch, clean and made poor")
        self.setToolTip("All pictures show the same place: the image, the target to learn, and what is made of it.")

    @property
    def titles(self) -> list[str]:
        """Titles of the pictures."""
        return [title for row in self._rows for title, _, _ in row]

    def show_rows(self, rows: Sequence[Sequence[Picture]]) -> None:
        """Show pictures, at most three in a row."""
        self._rows = [[(title, lines, grey_image(picture)) for title, lines, picture in row] for row in rows]
        told = [f"{title} {', '.join(lines)}".strip() for row in self._rows for title, lines, _ in row]
        self.setAccessibleDescription("; ".join(told))
        self.updateGeometry()
        self.update()

    def hasHeightForWidth(self) -> bool:  # noqa: N802
        """Say that the height follows from the width."""
        return True

    def _side(self) -> float:
        return (self.width() - (_N_COLUMNS - 1) * _GAP) / _N_COLUMNS

    def _heights(self, side: float) -> list[tuple[float, float]]:
        """Of the pictures of each row, and of the row."""
        line = self.fontMetrics().height()
        found = []
        for row in self._rows:
            image = row[0][2]
            height = side * image.height() / max(1, image.width())
            found.append((height, height + (1 + max(len(lines) for _, lines, _ in row)) * line + _GAP))
        return found

    def heightForWidth(self, width: int) -> int:  # noqa: N802
        """Height of all rows."""
        return int(sum(row for _, row in self._heights((width - (_N_COLUMNS - 1) * _GAP) / _N_COLUMNS)))

    def sizeHint(self) -> QSize:
        """As wide as the dock usually is."""
        return QSize(300, self.heightForWidth(300))

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw all pictures with their texts."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.setPen(self.palette().color(QPalette.ColorRole.WindowText))
        line, side, top = self.fontMetrics().height(), self._side(), 0.0
        for row, (height, whole) in zip(self._rows, self._heights(side), strict=True):
            for column, (title, lines, image) in enumerate(row):
                left = column * (side + _GAP)
                painter.drawImage(QRectF(left, top + line, side, height), image)
                below = [top + line + height + i * line for i in range(len(lines))]
                for text, y in zip((title, *lines), (top, *below), strict=True):
                    cut = self.fontMetrics().elidedText(text, Qt.TextElideMode.ElideRight, int(side))
                    painter.drawText(QRectF(left, y, side, line), Qt.AlignmentFlag.AlignLeft, cut)
            top += whole
        painter.end()


class LevelsLook(QWidget):
    """The pictures, made in a thread of their own."""

    another_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._bench = Bench()
        self._ticket = 0
        self._work = LatestOnly()
        self.view: BenchView | None = None
        self.grid = PictureGrid()
        self.another = QPushButton("Another patch")
        self.another.setToolTip("Another place, with other values drawn from the intervals.")
        self.note = QLabel(_NOTHING)
        self.note.setWordWrap(True)
        row = QHBoxLayout()
        row.addWidget(self.another)
        row.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.grid)
        layout.addWidget(self.note)
        layout.addLayout(row)
        self.another.clicked.connect(self._want_another)
        self._work.delivered.connect(self._on_made)
        self.ask(None)

    @guarded
    def ask(self, ask: BenchAsk | None, why: str = "") -> None:
        """Look at something else, or at nothing, with the reason."""
        self.another.setEnabled(ask is not None)
        if ask is None:
            self._work.drop()
            self._ticket = -1
            self._show(None, why or _NOTHING)
        else:
            self._ticket = self._work.submit(partial(self._bench.look, ask))
            if self.view is None:
                self._show(None, _SOON)

    @guarded
    def _on_made(self, ticket: int, outcome: Outcome) -> None:
        if ticket != self._ticket:
            return
        if outcome.error is not None:
            self._show(None, alarm(error_sentence(outcome.error)))
        else:
            self._show(outcome.value, "")

    def _show(self, view: BenchView | None, note: str) -> None:
        self.view = view
        self.grid.setVisible(view is not None)
        self.note.setVisible(bool(note))
        self.note.setText(note)
        if view is not None:
            first: list[Picture] = [("Image", (), view.raw / view.white), ("Clean target", (), view.clean / view.white)]
            poor = [
                (drawn.level.capitalize(), exposure_lines(drawn), pixels / view.white) for pixels, drawn in view.poor
            ]
            self.grid.show_rows([first, *(poor[i : i + _N_COLUMNS] for i in range(0, len(poor), _N_COLUMNS))])

    def show_error(self, message: str) -> None:
        """Show a sentence in place of the pictures."""
        self._show(None, alarm(message))

    def _want_another(self) -> None:
        self.another_wanted.emit()

    def close_down(self) -> None:
        """End the thread."""
        self._work.close()

    def abandon(self) -> None:
        """End the thread without touching anything of Qt."""
        self._work.close()
