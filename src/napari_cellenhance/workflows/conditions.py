"""Two conditions compared by a column of their tables, such as the number of cells in each well."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from napari_cellenhance.core.localisation import Comparison, compare
from napari_cellenhance.workflows.measure_pair_tables import MEAN, POOLED, SD

__all__ = ["ConditionsRequest", "ConditionsResult", "run", "to_text"]

_SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionsRequest:
    """Which tables to compare, and by which column."""

    first: str | os.PathLike[str]
    second: str | os.PathLike[str]
    column: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionsResult:
    """How two conditions differ.

    Parameters
    ----------
    comparison : Comparison
    rows : tuple of dict
        One for each condition, with what says how they differ in both.
    record : dict
        The same and where it comes from, JSON-ready.
    notes : tuple of str
        What a reader of the numbers must know.
    """

    comparison: Comparison
    rows: tuple[dict[str, Any], ...]
    record: dict[str, Any]
    notes: tuple[str, ...]


def run(request: ConditionsRequest) -> ConditionsResult:
    """Compare the values of two tables.

    Raises
    ------
    ParameterError
        No such column, or fewer than two values of a condition.
    ImageError
        No table, or a cell that is no number.
    OSError
        It cannot be opened.
    """
    from napari_cellenhance.io.tables import read_column

    paths = (Path(request.first), Path(request.second))
    values, notes = [], []
    for path in paths:
        found, empty = read_column(path, request.column, leave_out=(MEAN, SD, POOLED))
        values.append(found)
        if empty:
            notes.append(f"{len(empty)} lines of {path.name} have no {request.column} and were left out.")
    comparison = compare(*values)
    shared = {
        "z_factor": comparison.z_factor,
        "p_mann_whitney": comparison.mann_whitney_p,
        "p_welch": comparison.welch_p,
    }
    rows = tuple(
        {"condition": path.stem, "column": request.column, "n": n, "mean": mean, "sd": sd, **shared}
        for path, n, mean, sd in zip(paths, comparison.n, comparison.mean, comparison.sd, strict=True)
    )
    least = 2 / math.comb(sum(comparison.n), comparison.n[0])
    if least > _SIGNIFICANT:
        notes.append(
            f"With {comparison.n[0]} and {comparison.n[1]} values p of Mann-Whitney cannot fall below {least:.2g}."
        )
    record = {
        "measured": "two conditions",
        "tables": [str(path) for path in paths],
        "column": request.column,
        **asdict(comparison),
        "tests": "two-sided; Mann-Whitney U, and Welch's t-test for unequal variances",
        "notes": notes,
    }
    return ConditionsResult(comparison=comparison, rows=rows, record=record, notes=tuple(notes))


def to_text(result: ConditionsResult) -> str:
    """A few lines for a terminal."""
    lines = [f"{row['condition']}: {row['mean']:.4g} ± {row['sd']:.2g} (n {row['n']})" for row in result.rows]
    found = result.comparison
    lines.append(
        f"Z-factor {found.z_factor:.3g}, p {found.mann_whitney_p:.2g} (Mann-Whitney), {found.welch_p:.2g} (Welch t)"
    )
    return "\n".join(lines)
