"""Rows of a training → curves for the plot. No Qt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from napari_cellenhance.core.learning_curves import smooth
from napari_cellenhance.widgets._plot_scale import Curve, Mark

__all__ = ["ALL", "LOSSES", "curves_of", "losses_in", "marks_of"]

ALL = "all"
LOSSES: Mapping[str, tuple[str, str]] = {
    "total": ("Total", "#0072b2"),
    "content": ("Content", "#e69f00"),
    "style": ("Morphology", "#009e73"),
    "paired": ("Painted objects", "#cc79a7"),
}
"""Name on the screen and colour of each loss."""
_CHECK = "#d55e00"
_FAINT = "#50"
_N_START = 10
_LEAST_SHARE = 0.5


def losses_in(rows: Sequence[Mapping[str, float]]) -> list[str]:
    """Losses that most updates have, in the order of :data:`LOSSES`."""
    return [name for name in LOSSES if sum(name in row for row in rows) > _LEAST_SHARE * len(rows)]


def curves_of(rows: Sequence[Mapping[str, float]], shown: str) -> list[Curve]:
    """Curves of one loss (raw, smoothed, checks), or the smoothed ones of all, each over its start.

    Parameters
    ----------
    rows : sequence of mapping
        One per update.
    shown : str
        A key of :data:`LOSSES`, or "all".
    """
    if shown == ALL:
        found = [_smoothed_over_start(rows, name) for name in losses_in(rows)]
        return [curve for curve in found if curve is not None]
    title, colour = LOSSES[shown]
    steps, values = _column(rows, shown)
    if not steps.size:
        return []
    curves = [
        Curve(f"{title}, each update", steps, values, f"{_FAINT}{colour[1:]}", "points"),
        Curve(f"{title}, smoothed", steps, smooth(values.tolist()), colour),
    ]
    checked, scores = _column(rows, f"val_{shown}")
    if checked.size:
        curves.append(Curve("On pixels kept aside", checked, scores, _CHECK, "points"))
    return curves


def marks_of(best_step: int) -> list[Mark]:
    """Mark of the best check; none before the first."""
    return [Mark(float(best_step), "best")] if best_step > 0 else []


def _column(rows: Sequence[Mapping[str, float]], name: str) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(row["step"], row[name]) for row in rows if name in row and "step" in row]
    both = np.asarray(pairs, np.float64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _smoothed_over_start(rows: Sequence[Mapping[str, float]], name: str) -> Curve | None:
    steps, values = _column(rows, name)
    start = float(np.mean(np.abs(values[:_N_START]))) if values.size else 0.0
    if not start > 0:
        return None
    title, colour = LOSSES[name]
    return Curve(title, steps, smooth((values / start).tolist()), colour)
