"""What a training of a semantic filter looks like: error, how well objects come out, how much of them is left."""

from __future__ import annotations

import numpy as np
from qtpy.QtWidgets import QComboBox, QVBoxLayout, QWidget

from napari_cellenhance.widgets._forms import describe, new_form
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._plot import Curve
from napari_cellenhance.widgets._training_view import NOT_YET, Rows, TrainingView, column, with_checks

__all__ = ["KeepView", "keep_curves", "keep_meaning"]

LOSS, RATE = "total", "learning_rate"
_SHOWN = {
    False: (
        ("Error", LOSS, "mean absolute error"), ("Correlation with the kept objects", "correlation", "correlation"),
        ("PSNR of the kept objects", "psnr_db", "PSNR, dB"), ("F1 of the objects", "f1", "F1"),
        ("Left of unwanted objects", "leak", "share of their brightness"), ("Learning rate", RATE, "learning rate"),
    ),
    True: (
        ("Error", LOSS, "mean absolute error"), ("Left of what moves", "ghost", "share of its depth"),
        ("Error of the scene", "scene_error", "share of the range"), ("Learning rate", RATE, "learning rate"),
    ),
}  # fmt: skip
_SCORE, _RATE = "#d55e00", "#0072b2"


def keep_curves(rows: Rows, shown: str) -> list[Curve]:
    """Curves of one value."""
    if shown == LOSS:
        return with_checks(rows, LOSS)
    name, color, title = (RATE, _RATE, "Learning rate") if shown == RATE else (f"val_{shown}", _SCORE, "Kept aside")
    steps, values = column(rows, name)
    return [Curve(title, steps, values, color)] if steps.size else []


def keep_meaning(rows: Rows, best_step: int) -> str:
    """Say what the best check means.

    >>> keep_meaning([{"step": 50.0, "val_total": 0.03, "val_ghost": 0.12, "val_scene_error": 0.01}], 50)[:62]
    'Best check (update 50): 12 % of what moves is left, the scene '
    """
    row = next((row for row in rows if row.get("step") == best_step and "val_total" in row), None)
    if row is None or not np.isfinite(row["val_total"]):
        return NOT_YET
    start = f"Best check (update {best_step}): "
    if "val_ghost" in row:
        return (
            f"{start}{100 * row['val_ghost']:.0f} % of what moves is left, the scene is off by "
            f"{100 * row['val_scene_error']:.1f} % of the range. Measured on frames that are kept aside."
        )
    parts = [f"error {row['val_total']:.3g}"]
    known = (
        ("val_correlation", "correlation {:.2f}", 1.0), ("val_psnr_db", "PSNR {:.1f} dB", 1.0),
        ("val_f1", "F1 {:.2f}", 1.0), ("val_leak", "{:.0f} % of unwanted objects left", 100.0),
    )  # fmt: skip
    parts += [text.format(factor * row[name]) for name, text, factor in known if name in row]
    return f"{start}{', '.join(parts)}. Measured on images made of crops that are kept aside."


class KeepView(TrainingView):
    """Follows one training."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._is_movie = False
        self.shown = QComboBox()
        describe(self.shown, "Curve", "What is plotted; all of it is in history.csv, too.")
        form = new_form()
        form.addRow("Curve", self.shown)
        layout = self.layout()
        assert isinstance(layout, QVBoxLayout)
        layout.insertLayout(0, form)
        self.show_kind(is_movie=False)
        self.shown.currentIndexChanged.connect(self._on_shown)

    def show_kind(self, *, is_movie: bool) -> None:
        """List the curves there are for crops, or for movies."""
        self._is_movie = is_movie
        was_blocked = self.shown.blockSignals(True)
        self.shown.clear()
        for title, name, _ in _SHOWN[is_movie]:
            self.shown.addItem(title, name)
        self.shown.blockSignals(was_blocked)
        self._on_shown()

    @guarded
    def _on_shown(self) -> None:
        self.plot.set_labels("update", _SHOWN[self._is_movie][self.shown.currentIndex()][2])
        self.draw()

    def curves(self) -> list[Curve]:
        """What is chosen."""
        return keep_curves(self.rows, str(self.shown.currentData()))

    def says(self, best_step: int) -> str:
        """What it means."""
        return keep_meaning(self.rows, best_step)
