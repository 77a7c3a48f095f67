"""Rows of a training on strokes → curves for the plot. No Qt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.learning_curves import smooth
from napari_cellenhance.widgets._plot_scale import Curve
from napari_cellenhance.widgets._teach_classes import ClassLook, default_look

__all__ = ["LOSSES", "best_score", "loss_curves", "score_curves"]

LOSSES: Mapping[str, tuple[str, str]] = {
    "total": ("All together", "#0072b2"),
    "first": ("Image", "#e69f00"),
    "translated": ("Filters", "#009e73"),
    "ensemble": ("Ensemble", "#cc79a7"),
}
"""Name on the screen and colour of each loss."""
_CHECK = "#d55e00"
Rows = Sequence[Mapping[str, float]]


def loss_curves(rows: Rows) -> list[Curve]:
    """Each loss, smoothed, and the loss on paint kept aside."""
    curves = []
    for name, (title, colour) in LOSSES.items():
        steps, values = _column(rows, name)
        if steps.size:
            curves.append(Curve(title, steps, smooth(values.tolist()), colour))
    steps, values = _column(rows, "val_loss")
    if steps.size:
        curves.append(Curve("On paint kept aside", steps, values, _CHECK, "points"))
    return curves


def score_curves(rows: Rows, looks: Mapping[int, ClassLook]) -> list[Curve]:
    """Overlap (IoU) at each check: the mean, and each class in its colour."""
    curves = []
    for name in sorted({key for row in rows for key in row if key.startswith("val_iou_")}):
        value = int(name.removeprefix("val_iou_"))
        look = looks.get(value, default_look(value))
        curves.append(Curve(look.name, *_column(rows, name), look.color))
    steps, values = _column(rows, "val_mean_iou")
    return [Curve("Mean", steps, values), *curves] if steps.size else []


def best_score(rows: Rows, best_step: int) -> float | None:
    """Mean overlap of the best check so far; None before the first."""
    found = [row["val_mean_iou"] for row in rows if row.get("step") == best_step and "val_mean_iou" in row]
    return found[-1] if found and np.isfinite(found[-1]) else None


def _column(rows: Rows, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    pairs = [(row["step"], row[name]) for row in rows if name in row and "step" in row]
    both = np.asarray(pairs, np.float64).reshape(-1, 2)
    return both[:, 0], both[:, 1]
