"""What a training of a denoiser looks like: its error, each update and on pixels kept aside."""

from __future__ import annotations

import numpy as np

from napari_cellenhance.widgets._plot import Curve
from napari_cellenhance.widgets._training_view import NOT_YET, Rows, TrainingView, with_checks

__all__ = ["DenoiseView", "error_curves", "meaning_of"]


def error_curves(rows: Rows) -> list[Curve]:
    """Error of each update, smoothed too, and at each check."""
    return with_checks(rows, "total")


def meaning_of(rows: Rows, best_step: int) -> str:
    """Say what the best check means.

    >>> meaning_of([{"step": 50.0, "val_total": 0.324}], 50)[:42]
    'Error 0.324 at the best check (update 50).'
    """
    found = [row["val_total"] for row in rows if row.get("step") == best_step and "val_total" in row]
    if not found or not np.isfinite(found[-1]):
        return NOT_YET
    return (
        f"Error {found[-1]:.3g} at the best check (update {best_step}). It never reaches 0, since noise cannot be "
        "foreseen; when the curve is flat, the model has learned what it can."
    )


class DenoiseView(TrainingView):
    """Follows one training."""

    y_label = "error / variance"

    def curves(self) -> list[Curve]:
        """The error."""
        return error_curves(self.rows)

    def says(self, best_step: int) -> str:
        """What it means."""
        return meaning_of(self.rows, best_step)
