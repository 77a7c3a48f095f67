"""What a training that shows a picture looks like: a plot, what it means, and where the picture is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_cellenhance.core.learning_curves import smooth
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._plot import Curve, LinePlot
from napari_cellenhance.widgets._status import alarm
from napari_cellenhance.widgets._train_curves import marks_of

__all__ = ["NOT_YET", "Rows", "TrainingView", "column", "with_checks", "without_start"]

Rows = Sequence[Mapping[str, float]]
_EACH, _FAINT, _CHECK = "#0072b2", "#500072b2", "#d55e00"
_DECAY = 0.9
_N_ALL, _MOST_LEFT_OUT = 60, 100
_NO_CURVE = "Curves appear here when a training runs."
_SOON = "The curve begins with the first updates."
NOT_YET = "The first check on pixels kept aside comes soon."
_WHERE = "The layer “learning: …” shows what is on screen as the model makes it now; of a large view, the middle."
_BROKEN = "The error is no longer a number; the best so far was kept. Lower the learning rate under “More settings”."


def without_start(rows: Rows) -> Rows:
    """Rows less the first tenth of a longer training: its errors are so large that the rest would look flat."""
    return rows[min(_MOST_LEFT_OUT, len(rows) // 10) :] if len(rows) > _N_ALL else rows


def column(rows: Rows, name: str) -> tuple[Any, Any]:
    """Updates that have a value, and the values."""
    pairs = [(row["step"], row[name]) for row in rows if name in row and "step" in row]
    both = np.asarray(pairs, np.float64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def with_checks(rows: Rows, name: str) -> list[Curve]:
    """One value of each update, smoothed too, and at each check."""
    rows = without_start(rows)
    steps, values = column(rows, name)
    if not steps.size:
        return []
    curves = [
        Curve("Each update", steps, values, _FAINT, "points"),
        Curve("Smoothed", steps, smooth(values.tolist(), _DECAY), _EACH),
    ]
    checked, scores = column(rows, f"val_{name}")
    return [*curves, Curve("On pixels kept aside", checked, scores, _CHECK, "points")] if checked.size else curves


class TrainingView(QWidget):
    """Follows one training; forgets it when the next one starts."""

    y_label = "error"

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.rows: list[Mapping[str, float]] = []
        self._best_step = 0
        self.plot = LinePlot()
        self.plot.set_labels("update", self.y_label)
        self.plot.set_empty_text(_NO_CURVE)
        self.plot.setAccessibleName("Curves of the training")
        self.meaning = QLabel()
        self.meaning.setWordWrap(True)
        self.where = QLabel(_WHERE)
        self.where.setWordWrap(True)
        self.where.setVisible(False)
        self.warning = QLabel()
        self.warning.setWordWrap(True)
        self.warning.setTextFormat(Qt.TextFormat.RichText)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.plot, 1)
        for part in (self.meaning, self.where, self.warning):
            layout.addWidget(part)
        self.warning.setVisible(False)

    # --- for the docks ------------------------------------------------------------------

    def curves(self) -> list[Curve]:
        """What is plotted."""
        raise NotImplementedError

    def says(self, best_step: int) -> str:
        """What the curves mean."""
        raise NotImplementedError

    # --- following ----------------------------------------------------------------------

    def show_error(self, message: str) -> None:
        """Show a sentence under the plot."""
        self.warning.setText(alarm(message))
        self.warning.setVisible(True)

    def start(self) -> None:
        """Forget the training before."""
        self.rows, self._best_step = [], 0
        self.warning.setVisible(False)
        self.where.setVisible(True)
        self.plot.set_empty_text(_SOON)
        self.draw()

    def add(self, rows: Rows, best_step: int) -> None:
        """Let the curves grow."""
        if rows:
            self.rows += rows
            self._best_step = best_step
            self.draw()

    def finish(self, *, is_broken: bool) -> None:
        """Say how it went where it went badly."""
        self.where.setVisible(False)
        if is_broken:
            self.show_error(_BROKEN)

    @guarded
    def draw(self) -> None:
        """Draw again."""
        self.plot.set_curves(self.curves())
        self.plot.set_marks(marks_of(self._best_step))
        self.meaning.setText(self.says(self._best_step) if self.rows else "")
