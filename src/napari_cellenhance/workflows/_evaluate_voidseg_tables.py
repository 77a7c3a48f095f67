"""Cells of the evaluation of VoidSeg → mean and standard error of each scheme, and text for a person."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.io.reports import write_json
from napari_cellenhance.io.safe_write import atomic_path
from napari_cellenhance.io.tables import write_table
from napari_cellenhance.workflows._evaluate_cells import made_folder

if TYPE_CHECKING:
    from napari_cellenhance.workflows.evaluate_voidseg import EvaluateVoidSegRequest, VoidSegEvaluation

__all__ = ["TITLES", "Cell", "markdown", "mean_se", "rows_of", "write_tables"]

TITLES: Mapping[str, str] = {
    "baseline": "U-Net",
    "sequential": "Sequential",
    "finetune": "Finetune",
    "finetune-sequential": "Finetune-Sequential",
    "stardist": "StarDist",
    "stardist-sequential": "StarDist-Sequential",
}
MEASURES = ("average_precision", "seg")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One training and its scores on the test images.

    Parameters
    ----------
    sigma : float
        Standard deviation of the noise, in grey values of 0…255.
    n_labelled : int
        Labelled patches.
    method : str
    seed : int
    result : dict
        See ``_evaluate_voidseg_train.train_and_score``.
    """

    sigma: float
    n_labelled: int
    method: str
    seed: int
    result: dict[str, Any] = field(default_factory=dict)

    def as_row(self) -> dict[str, Any]:
        """Flat, for a table of all cells."""
        return {"sigma": self.sigma, "n_labelled": self.n_labelled, "method": self.method, "seed": self.seed} | {
            name: self.result.get(name, math.nan)
            for name in (*MEASURES, "threshold", "validation_ap", "best_step", "n_steps", "seconds")
        }


def mean_se(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error, sd / √n; NaN where there are none, or one.

    >>> mean_se([1.0, 3.0])
    (2.0, 1.0)
    """
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return math.nan, math.nan
    error = float(np.std(known, ddof=1) / math.sqrt(len(known))) if len(known) > 1 else math.nan
    return float(np.mean(known)), error


def rows_of(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Mean and standard error of each score over the seeds, by noise, labels and method."""
    rows = []
    for key in dict.fromkeys((cell.sigma, cell.n_labelled, cell.method) for cell in cells):
        here = [cell for cell in cells if (cell.sigma, cell.n_labelled, cell.method) == key]
        row: dict[str, Any] = dict(zip(("sigma", "n_labelled", "method"), key, strict=True))
        row["n"] = len(here)
        for name in MEASURES:
            row[name], row[f"{name}_se"] = mean_se([float(cell.result.get(name, math.nan)) for cell in here])
        rows.append(row)
    return rows


def markdown(cells: Sequence[Cell]) -> str:
    """One table for each noise: AP / SEG, mean ± standard error; the best of a column in bold."""
    rows = rows_of(cells)
    parts = []
    for sigma in dict.fromkeys(row["sigma"] for row in rows):
        here = [row for row in rows if row["sigma"] == sigma]
        numbers = sorted({row["n_labelled"] for row in here})
        about = "AP / SEG on the test images by labelled patches, mean ± standard error over"
        lines = [
            f"**Noise of σ = {sigma:g}** (grey values of 0…255): {about} {max(row['n'] for row in here)} seed(s).",
            "",
            f"| method | {' | '.join(str(n) for n in numbers)} |",
            f"|---|{'---:|' * len(numbers)}",
        ]
        for method in dict.fromkeys(row["method"] for row in here):
            shown = [_shown(here, method, n) for n in numbers]
            lines.append(f"| {TITLES.get(method, method)} | {' | '.join(shown)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _shown(rows: Sequence[Mapping[str, Any]], method: str, n_labelled: int) -> str:
    column = [row for row in rows if row["n_labelled"] == n_labelled]
    own = next((row for row in column if row["method"] == method), None)
    if own is None:
        return "–"
    texts = []
    for name in MEASURES:
        mean, error = own[name], own[f"{name}_se"]
        if math.isnan(mean):
            texts.append("–")
            continue
        text = f"{mean:.3f}" if math.isnan(error) else f"{mean:.3f} ± {error:.3f}"
        is_best = len(column) > 1 and mean == max(row[name] for row in column if not math.isnan(row[name]))
        texts.append(f"**{text}**" if is_best else text)
    return " / ".join(texts)


def write_tables(result: VoidSegEvaluation, request: EvaluateVoidSegRequest) -> list[Path]:
    """Write ``scores.json``, ``scores.csv``, ``cells.csv`` and ``scores.md``.

    Raises
    ------
    ParameterError
        Nothing was scored.
    WriteError
        The folder or a file in it cannot be written.
    """
    from napari_cellenhance import __version__

    if not result.cells:
        raise ParameterError("nothing was scored, so there is nothing to write")
    folder = made_folder(Path(request.out))
    record = {
        "version": __version__,
        "is_complete": result.is_complete,
        "seconds": round(result.seconds, 1),
        "request": asdict(request),
        "rows": result.rows,
        "denoisers": result.denoisers,
        "cells": [asdict(cell) for cell in result.cells],
    }
    written = [write_json(folder / "scores.json", record)]
    written += write_table(folder / "scores.csv", result.rows)
    written += write_table(folder / "cells.csv", [cell.as_row() for cell in result.cells])
    text = folder / "scores.md"
    with atomic_path(text) as temporary:
        temporary.write_text(markdown(result.cells), encoding="utf-8")
    return [*written, text]
