"""What became of every file of a batch, as JSON for programs and as CSV for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from napari_cellenhance.workflows._file_loop import FileOutcome
from napari_cellenhance.workflows._provenance import versions
from napari_cellenhance.workflows.batch_recipe import Recipe

__all__ = ["OBJECTS", "REPORT", "BatchOutcome", "write_report"]

REPORT = "batch_report.json"
OBJECTS = "batch_objects"
_COLUMNS = ("file", "state", "n_objects", "seconds", "check", "error", "warnings", "results")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOutcome(FileOutcome):
    """What became of one file of a batch.

    Parameters
    ----------
    name : str
        Path below the common folder of the images.
    state : "done", "skipped" or "failed"
        "skipped": it was finished by an earlier run.
    n_objects : int or None
        Rows of its table of objects count planes; this counts objects. None where nothing was measured.
    check : str
        What the guards say of the result: fine, look or doubt; empty where nothing was judged.
    """

    name: str
    state: Literal["done", "skipped", "failed"]
    n_objects: int | None = None
    check: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        # Not super(): a dataclass with slots is another class than the one that the compiler saw.
        return {
            "name": self.name, "state": self.state, "n_objects": self.n_objects, "check": self.check,
            **FileOutcome.to_dict(self),
        }  # fmt: skip


def write_report(
    path: Path,
    outcomes: Sequence[BatchOutcome],
    recipe: Recipe,
    *,
    n_files: int,
    started: datetime,
    stopped_by: str = "",
) -> Path:
    """Write the report, and beside it a table with one row per file.

    Raises
    ------
    WriteError
        As for :func:`napari_cellenhance.io.safe_write.atomic_path`.
    """
    from napari_cellenhance.io.reports import write_json
    from napari_cellenhance.io.tables import write_table

    n_of = {state: sum(one.state == state for one in outcomes) for state in ("done", "skipped", "failed")}
    record = {
        "software": "napari-cellenhance", "recipe": recipe.to_dict(), "n_files": n_files, **n_of,
        "doubted": sum(one.check == "doubt" for one in outcomes),
        "not_begun": n_files - len(outcomes), "stopped_by": stopped_by,
        "started_utc": started.isoformat(timespec="seconds"),
        "ended_utc": datetime.now(UTC).isoformat(timespec="seconds"), "versions": versions(),
        "files": [one.to_dict() for one in outcomes],
    }  # fmt: skip
    write_table(path.with_suffix(".csv"), [_row(one) for one in outcomes], columns=_COLUMNS)
    return write_json(path, record)


def _row(outcome: BatchOutcome) -> dict[str, Any]:
    return {
        "file": outcome.name, "state": outcome.state, "n_objects": outcome.n_objects,
        "seconds": round(outcome.seconds, 3), "check": outcome.check, "error": outcome.error,
        "warnings": " ".join(outcome.warnings), "results": " ".join(str(path) for path in outcome.targets),
    }  # fmt: skip
