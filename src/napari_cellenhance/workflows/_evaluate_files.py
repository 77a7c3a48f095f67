"""Write an evaluation: records, tables and text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_cellenhance.core.errors import WriteError
from napari_cellenhance.io.reports import write_json
from napari_cellenhance.io.safe_write import atomic_path
from napari_cellenhance.io.tables import write_table
from napari_cellenhance.workflows._evaluate_scores import Row, as_dict
from napari_cellenhance.workflows._evaluate_tables import (
    MEASURES,
    findings,
    gate,
    markdown,
    overall_contrast,
    slider_verdict,
)

if TYPE_CHECKING:
    from napari_cellenhance.workflows.evaluate import EvaluateRequest, Evaluation

__all__ = ["record_of", "write_all"]

_DRAWN = ("blob_f1", "blob_f1_scales", "auroc")


def record_of(result: Evaluation, request: EvaluateRequest) -> dict[str, Any]:
    """Everything about an evaluation, ready for JSON; scores that do not exist become null."""
    from napari_cellenhance import __version__

    found = findings(result.rows, result.learned)
    return {
        "version": __version__,
        "is_complete": result.is_complete,
        "seconds": round(result.seconds, 1),
        "request": asdict(request),
        "rows": [as_dict(row) for row in result.rows],
        "contrast": [asdict(row) for row in overall_contrast(result.rows)],
        "verdict": [asdict(f) | {"is_ahead": f.is_ahead, "is_below_raw": f.is_below_raw} for f in found],
        "worse_than_raw": gate(found),
        "strengths": {
            label: asdict(slider_verdict(curves)) | {"images": [asdict(curve) for curve in curves]}
            for label, curves in result.strengths.items()
        },
    }


def write_all(result: Evaluation, request: EvaluateRequest, folder: Path) -> list[Path]:
    """Write all files of an evaluation into a folder, which is made if missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"the folder {folder} could not be made ({error}); choose another one") from error
    written = [write_json(folder / "scores.json", record_of(result, request))]
    written += write_table(folder / "scores.csv", [as_dict(row) for row in result.rows])
    written += write_table(folder / "images.csv", [as_dict(score) for score in result.images])
    text = folder / "scores.md"
    with atomic_path(text) as temporary:
        temporary.write_text(markdown(result.rows, result.learned, result.strengths) + "\n", encoding="utf-8")
    return [*written, text, *_figures(result, folder)]


def _figures(result: Evaluation, folder: Path) -> list[Path]:
    from napari_cellenhance.io.score_figures import histograms_png, lines_png, strengths_png

    written = []
    if result.histograms:
        written.append(folder / "grey-values.png")
        histograms_png(written[-1], result.histograms)
    if any(result.strengths.values()):
        written.append(folder / "strengths.png")
        strengths_png(written[-1], {label: curves for label, curves in result.strengths.items() if curves})
    qualities = tuple(dict.fromkeys(row.quality for row in result.rows))
    lines = _lines(result.rows, qualities)
    if lines:
        written.append(folder / "detection.png")
        lines_png(written[-1], lines, qualities)
    return written


def _lines(rows: Sequence[Row], qualities: Sequence[str]) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Source → measure → filter → one score for each quality; sources without blobs are left out."""
    known = {(row.source, row.label, row.quality): row for row in rows}
    lines: dict[str, dict[str, dict[str, list[float]]]] = {}
    for source in dict.fromkeys(row.source for row in rows if not math.isnan(row.blob_f1)):
        labels = dict.fromkeys(row.label for row in rows if row.source == source)
        lines[source] = {
            MEASURES[name]: {
                label: [float(getattr(known.get((source, label, q)), name, math.nan)) for q in qualities]
                for label in labels
            }
            for name in _DRAWN
        }
    return lines
