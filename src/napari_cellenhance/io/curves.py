"""Loss curves of a training as a figure: raw points and a smoothed line."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from napari_cellenhance.core.learning_curves import smooth
from napari_cellenhance.io.safe_write import atomic_path

__all__ = ["loss_curves_png"]


def loss_curves_png(path: str | os.PathLike[str], history: Sequence[Mapping[str, float]]) -> None:
    """Draw every loss of ``history`` over the step, validation on top.

    Parameters
    ----------
    history : sequence of mapping
        Rows with ``step``, the training losses, and ``val_…`` where a validation took place.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = sorted({k for row in history for k in row} - {"step", "learning_rate"})
    losses = [n for n in names if not n.startswith("val_")]
    scores = [n for n in names if n.startswith("val_") and n.removeprefix("val_") not in losses]
    panels = losses + (["scores"] if scores else [])
    figure = Figure(figsize=(3.2 * max(1, len(panels)), 3.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, max(1, len(panels)), squeeze=False)[0]
    for axis, name in zip(axes, panels, strict=False):  # before the first update there is an empty panel
        axis.set_title(name)
        axis.set_xlabel("update")
        if name == "scores":
            for score in scores:
                points = [(r["step"], r[score]) for r in history if score in r]
                axis.plot(*zip(*points, strict=True), "o-", ms=3, label=score.removeprefix("val_"))
            axis.legend(fontsize=7)
            continue
        rows = [r for r in history if name in r]  # a loss is missing where no crop of an update called for it
        steps, values = [r["step"] for r in rows], [r[name] for r in rows]
        axis.plot(steps, values, ".", ms=1, alpha=0.25, color="tab:blue")
        axis.plot(steps, smooth(values), color="tab:blue", label="training")
        checked = [(r["step"], r[f"val_{name}"]) for r in history if f"val_{name}" in r]
        if checked:
            axis.plot(*zip(*checked, strict=True), "o-", ms=3, color="tab:orange", label="validation")
        # The logarithm of a likelihood is negative where a network is sure of what it says.
        axis.set_yscale("log" if min([*values, *(value for _, value in checked)]) > 0 else "linear")
        axis.legend(fontsize=7)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
