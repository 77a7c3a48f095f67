"""Cells of the evaluation of painting → means over images and seeds, text and curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.io.panel_figures import Curve, curves_png
from napari_cellenhance.io.reports import write_json
from napari_cellenhance.io.safe_write import atomic_path
from napari_cellenhance.io.tables import write_table
from napari_cellenhance.workflows._evaluate_cells import made_folder
from napari_cellenhance.workflows._evaluate_classes import mean_sd
from napari_cellenhance.workflows._evaluate_paint_methods import TITLES

if TYPE_CHECKING:
    from napari_cellenhance.workflows.evaluate_paint import EvaluatePaintRequest, PaintEvaluation

__all__ = ["PLACES", "PaintCell", "markdown", "rows_of", "write_all"]

PLACES: Mapping[str, str] = {"painted": "the painted image", "unseen": "unseen images"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PaintCell:
    """One method that learned from one painted image.

    Parameters
    ----------
    source, image, amount, method : str
    seed : int
        Of the strokes, the weights and the crops.
    times : list of dict
        For each time: ``time_s``, ``ready_s``, ``n_updates``, ``predict_s`` (seconds to segment the painted image),
        ``painted_iou`` (mean IoU on the pixels of the painted image without paint) and ``unseen_iou``.
    load : float
        Programs that wanted a processor while it learned, on average over a minute; NaN where that is not known.
    n_threads : int
        Of torch.
    """

    source: str
    image: str
    amount: str
    method: str
    seed: int
    times: list[dict[str, float]] = field(default_factory=list)
    load: float = math.nan
    n_threads: int = 0

    def as_rows(self) -> list[dict[str, Any]]:
        """Flat, one row for each time."""
        names = ("source", "image", "amount", "method", "seed", "load", "n_threads")
        about = {name: getattr(self, name) for name in names}
        return [about | row for row in self.times]


def rows_of(cells: Sequence[PaintCell]) -> list[dict[str, Any]]:
    """Mean and sd over images and seeds, one row for each source, amount, method and time."""
    flat = [row for cell in cells for row in cell.as_rows()]
    keys = ("source", "amount", "method", "time_s")
    rows = []
    for key in dict.fromkeys(tuple(row[name] for name in keys) for row in flat):
        here = [row for row in flat if tuple(row[name] for name in keys) == key]
        found: dict[str, Any] = dict(zip(keys, key, strict=True))
        found["n"] = len(here)
        found["n_ready"] = sum(not math.isnan(row["ready_s"]) for row in here)
        for name in ("painted_iou", "unseen_iou", "ready_s", "n_updates", "predict_s"):
            found[name], found[f"{name}_sd"] = mean_sd([float(row[name]) for row in here])
        rows.append(found)
    return rows


def markdown(cells: Sequence[PaintCell], notes: Sequence[str]) -> str:
    """One table for each source and place: amount and method down, times across; the best of a time in bold."""
    rows = rows_of(cells)
    parts = [f"Note: {note}" for note in notes]
    for source in dict.fromkeys(row["source"] for row in rows):
        here = [row for row in rows if row["source"] == source]
        parts.append(f"## {source}")
        parts += [_table(here, place) for place in PLACES]
    return "\n\n".join(parts) + "\n"


def _table(rows: Sequence[dict[str, Any]], place: str) -> str:
    about = (
        f"**Mean IoU** in % on {PLACES[place]} by seconds of training; mean ± sd over images and seeds. "
        "–: nothing to see yet."
    )
    times = sorted({row["time_s"] for row in rows})
    head = f"| paint | method | n | {' | '.join(f'{t:g} s' for t in times)} |"
    lines = [about, "", head, "|---|---|---:|" + "---:|" * len(times)]
    for amount in dict.fromkeys(row["amount"] for row in rows):
        here = [row for row in rows if row["amount"] == amount]
        best = {t: _best(row[f"{place}_iou"] for row in here if row["time_s"] == t) for t in times}
        for method in dict.fromkeys(row["method"] for row in here):
            by_time = {row["time_s"]: row for row in here if row["method"] == method}
            cells = [_cell(by_time.get(t), f"{place}_iou", best[t]) for t in times]
            n = max(row["n"] for row in by_time.values())
            lines.append(f"| {amount} | {TITLES.get(method, method)} | {n} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _best(values: Any) -> float:
    return max((value for value in values if not math.isnan(value)), default=math.nan)


def _cell(row: Mapping[str, Any] | None, name: str, best: float) -> str:
    if row is None or math.isnan(row[name]):
        return "–"
    sd = "" if math.isnan(row[f"{name}_sd"]) else f" ± {100 * row[f'{name}_sd']:.1f}"
    text = f"{100 * row[name]:.1f}{sd}"
    return f"**{text}**" if row[name] == best else text


def write_all(result: PaintEvaluation, request: EvaluatePaintRequest, *, has_figure: bool = True) -> list[Path]:
    """Write ``scores.json``, ``scores.csv``, ``cells.csv``, ``scores.md`` and ``curves.png``."""
    from napari_cellenhance import __version__

    if not result.cells:
        raise ParameterError("nothing was scored, so there is nothing to write")
    folder, rows = made_folder(Path(request.out)), rows_of(result.cells)
    record = {
        "version": __version__,
        "is_complete": result.is_complete,
        "seconds": round(result.seconds, 1),
        "notes": result.notes,
        "request": asdict(request),
        "rows": rows,
        "cells": [asdict(cell) for cell in result.cells],
    }
    written = [write_json(folder / "scores.json", record)]
    written += write_table(folder / "scores.csv", rows)
    written += write_table(folder / "cells.csv", [row for cell in result.cells for row in cell.as_rows()])
    text = folder / "scores.md"
    with atomic_path(text) as temporary:
        temporary.write_text(markdown(result.cells, result.notes), encoding="utf-8")
    written.append(text)
    if has_figure:
        written.append(folder / "curves.png")
        curves_png(written[-1], _panels(rows), x_label="seconds of training", y_label="mean IoU")
    return written


def _panels(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, dict[str, Curve]]]:
    """Source and place down, amounts of paint across."""
    panels: dict[str, dict[str, dict[str, Curve]]] = {}
    for source in dict.fromkeys(row["source"] for row in rows):
        for place, title in PLACES.items():
            here = [row for row in rows if row["source"] == source]
            panels[f"{source}, {title}"] = {
                f"{amount} strokes": _curves([row for row in here if row["amount"] == amount], f"{place}_iou")
                for amount in dict.fromkeys(row["amount"] for row in here)
            }
    return panels


def _curves(rows: Sequence[dict[str, Any]], name: str) -> dict[str, Curve]:
    curves = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        here = [row for row in rows if row["method"] == method]
        sd = [0.0 if math.isnan(row[f"{name}_sd"]) else float(row[f"{name}_sd"]) for row in here]
        curves[TITLES.get(method, method)] = Curve([row["time_s"] for row in here], [row[name] for row in here], sd)
    return curves
