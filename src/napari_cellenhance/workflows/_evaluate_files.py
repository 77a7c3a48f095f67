"""Write an evaluation: records, tables and text."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_cellenhance.core.errors import WriteError
from napari_cellenhance.io.reports import write_json
from napari_cellenhance.io.safe_write import atomic_path
from napari_cellenhance.io.tables import write_table
from napari_cellenhance.workflows._evaluate_scores import as_dict
from napari_cellenhance.workflows._evaluate_tables import findings, gate, markdown, overall_contrast

if TYPE_CHECKING:
    from napari_cellenhance.workflows.evaluate import EvaluateRequest, Evaluation

__all__ = ["record_of", "write_all"]


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
        temporary.write_text(markdown(result.rows, result.learned) + "\n", encoding="utf-8")
    return [*written, text]
