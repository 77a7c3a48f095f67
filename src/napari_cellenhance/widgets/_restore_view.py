"""What a training of a restoration looks like: error beside that of the poor images, loss, learning rate."""

from __future__ import annotations

import numpy as np
from qtpy.QtWidgets import QComboBox, QVBoxLayout, QWidget

from napari_cellenhance.widgets._forms import describe, new_form
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._plot import Curve
from napari_cellenhance.widgets._training_view import NOT_YET, Rows, TrainingView, column, with_checks

__all__ = ["RestoreView", "care_curves", "care_meaning"]

ERROR, LOSS, RATE = "mae", "total", "learning_rate"
_SHOWN = (
    ("Error (MAE)", ERROR, "mean absolute error"), ("Loss (likelihood)", LOSS, "loss"),
    ("Learning rate", RATE, "learning rate"),
)  # fmt: skip
_INPUT, _RATE = "#808080", "#0072b2"


def care_curves(rows: Rows, shown: str) -> list[Curve]:
    """Curves of one value; the error of the poor images beside that of the network.

    Parameters
    ----------
    shown : "mae", "total" or "learning_rate"
    """
    if shown == RATE:
        steps, values = column(rows, RATE)
        return [Curve("Learning rate", steps, values, _RATE)] if steps.size else []
    curves = with_checks(rows, shown)
    steps, values = column(rows, "val_mae_of_input")
    if shown == ERROR and steps.size:
        curves.append(Curve("Poor images themselves", steps, values, _INPUT))
    return curves


def care_meaning(rows: Rows, best_step: int) -> str:
    """Say what the best check means.

    >>> rows = [{"step": 50.0, "val_mae": 0.03, "val_mae_of_input": 0.06, "val_total": -2.0}]
    >>> care_meaning(rows, 50)[:72]
    'Error 0.03 at the best check (update 50): 50 % of that of the poor image'
    """
    row = next((row for row in rows if row.get("step") == best_step and "val_mae" in row), None)
    if row is None or not np.isfinite(row["val_mae"]):
        return NOT_YET
    before = row.get("val_mae_of_input", 0.0)
    beside = f": {100 * row['val_mae'] / before:.0f} % of that of the poor images ({before:.3g})" if before > 0 else ""
    return (
        f"Error {row['val_mae']:.3g} at the best check (update {best_step}){beside}. 1 is the contrast of an image. "
        "Measured on images that are kept aside."
    )


class RestoreView(TrainingView):
    """Follows one training."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.shown = QComboBox()
        for title, name, _ in _SHOWN:
            self.shown.addItem(title, name)
        describe(self.shown, "Curve", "What is plotted; all of it is in history.csv, too.")
        form = new_form()
        form.addRow("Curve", self.shown)
        layout = self.layout()
        assert isinstance(layout, QVBoxLayout)
        layout.insertLayout(0, form)
        self.shown.currentIndexChanged.connect(self._on_shown)
        self._on_shown()

    @guarded
    def _on_shown(self) -> None:
        self.plot.set_labels("update", _SHOWN[self.shown.currentIndex()][2])
        self.draw()

    def curves(self) -> list[Curve]:
        """What is chosen."""
        return care_curves(self.rows, str(self.shown.currentData()))

    def says(self, best_step: int) -> str:
        """What it means."""
        return care_meaning(self.rows, best_step)
