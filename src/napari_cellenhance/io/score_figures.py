"""Figures of measurements as PNG files: grey values, detection under noise, strength, line profiles."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.histograms import Histogram
from napari_cellenhance.core.strength_scores import StrengthCurve
from napari_cellenhance.io.safe_write import atomic_path

__all__ = ["histograms_png", "lines_png", "profiles_png", "strengths_png"]

_DPI = 110


@contextmanager
def _figure(path: str | os.PathLike[str], n_rows: int, n_columns: int, *, overwrite: bool = True) -> Iterator[Any]:
    """Axes of a figure, as a table; it is written when the block ends well."""
    # The object interface leaves the state of pyplot, which napari or a notebook may use, alone.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * n_columns, 3.0 * n_rows), layout="constrained")
    FigureCanvasAgg(figure)
    yield figure.subplots(n_rows, n_columns, squeeze=False)
    with atomic_path(path, overwrite=overwrite) as temporary:
        figure.savefig(temporary, format="png", dpi=_DPI)


def histograms_png(path: str | os.PathLike[str], histograms: Mapping[str, Mapping[str, Histogram]]) -> None:
    """Draw histogram (left, logarithmic) and cumulative distribution (right) as Fig. 4 of the NU-Net paper.

    Parameters
    ----------
    path : path
    histograms : mapping
        Data set → filter → histogram; one row of the figure for each data set.
    """
    with _figure(path, len(histograms), 2) as axes:
        for (left, right), (source, here) in zip(axes, histograms.items(), strict=True):
            for i, (label, histogram) in enumerate(here.items()):
                look = {"color": "black", "lw": 2.0} if i == 0 else {"color": f"C{(i - 1) % 10}", "lw": 1.2}
                left.stairs(np.maximum(histogram.shares, 1e-7), histogram.edges, label=label, **look)
                right.plot(histogram.edges[1:], histogram.cumulative, label=label, **look)
            left.set_yscale("log")
            left.set_title(source)
            left.set_ylabel("share of pixels")
            right.set_ylabel("cumulative share")
            right.set_ylim(0, 1.02)
            for axis in (left, right):
                axis.set_xlabel("grey value")
                axis.set_xlim(0, 1)
        axes[0][1].legend(fontsize=7)


def lines_png(
    path: str | os.PathLike[str],
    lines: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]],
    ticks: Sequence[str],
) -> None:
    """Draw one value for each tick, as lines.

    Parameters
    ----------
    path : path
    lines : mapping
        Data set (a row) → measure (a column) → filter → values, one for each tick; NaN is left out.
    ticks : sequence of str
    """
    n_columns = max(len(row) for row in lines.values())
    with _figure(path, len(lines), n_columns) as axes:
        for row, (source, measures) in zip(axes, lines.items(), strict=True):
            for axis, (measure, here) in zip(row, measures.items(), strict=False):
                for i, (label, values) in enumerate(here.items()):
                    look = {"color": "black", "lw": 2.0} if i == 0 else {"color": f"C{(i - 1) % 10}", "lw": 1.2}
                    axis.plot(range(len(ticks)), values, "o-", ms=3, label=label, **look)
                axis.set_xticks(range(len(ticks)), ticks, fontsize=8)
                axis.set_ylim(0, 1.02)
                axis.set_title(source, fontsize=9)
                axis.set_ylabel(measure)
        axes[0][0].legend(fontsize=7)


def strengths_png(path: str | os.PathLike[str], curves: Mapping[str, Sequence[StrengthCurve]]) -> None:
    """Draw contrast, greyness and step size over the strength: images thin, their median thick.

    Parameters
    ----------
    path : path
    curves : mapping
        Model → one curve for each image.
    """
    with _figure(path, len(curves), 3) as axes:
        for row, (label, here) in zip(axes, curves.items(), strict=True):
            with_contrast = [c for c in here if c.contrast]
            panels = (
                ("contrast ratio", with_contrast, [c.contrast for c in with_contrast], 0),
                ("grey, mean 4y(1−y)", here, [c.greyness for c in here], 0),
                ("step to the next picture", here, [c.steps for c in here], 1),
            )
            for axis, (name, shown, values, skip) in zip(row, panels, strict=True):
                for curve, line in zip(shown, values, strict=True):
                    axis.plot(curve.strengths[skip:], line, color="C0", lw=0.6, alpha=0.4)
                if shown:
                    axis.plot(shown[0].strengths[skip:], np.median(np.array(values), axis=0), color="black", lw=2)
                axis.set_xlabel("strength")
                axis.set_ylabel(name)
                axis.set_title(label, fontsize=9)
            row[0].set_yscale("log")


def profiles_png(
    path: str | os.PathLike[str],
    distances: Sequence[float] | NDArray[Any],
    profiles: Mapping[str, Sequence[float] | NDArray[Any]],
    dots: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x_label: str,
    y_label: str,
    reference: str = "",
    overwrite: bool = True,
) -> None:
    """Draw grey values along a line.

    Parameters
    ----------
    path : path
    distances : sequence of length N
    profiles : mapping
        Name → N values; NaN leaves a gap.
    dots : mapping
        Name → distances and values of its peaks.
    x_label, y_label : str
    reference : str
        Name of the profile that is drawn black and thick, below the others.
    overwrite : bool
        Allow replacing an existing file.
    """
    with _figure(path, 1, 1, overwrite=overwrite) as axes:
        axis = axes[0][0]
        axis.figure.set_size_inches(7.0, 3.6)
        colours = iter(f"C{i % 10}" for i in range(len(profiles)))
        for name, values in profiles.items():
            look = (
                {"color": "black", "lw": 2.2, "zorder": 1} if name == reference else {"color": next(colours), "lw": 1.3}
            )
            axis.plot(distances, values, label=name, **look)
            axis.plot(*dots.get(name, ((), ())), "o", ms=4, color=look["color"], zorder=3)
        axis.set_xlabel(x_label)
        axis.set_ylabel(y_label)
        axis.margins(x=0)
        axis.legend(fontsize=8)
