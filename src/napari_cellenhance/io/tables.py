"""Tables of numbers: CSV with a record of how they came about, and text for the clipboard."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.io.reports import write_json
from napari_cellenhance.io.safe_write import atomic_path

__all__ = ["table_text", "write_table"]

Row = Mapping[str, Any]


def write_table(
    path: str | os.PathLike[str],
    rows: Sequence[Row],
    record: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = True,
) -> tuple[Path, ...]:
    """Write rows as CSV (UTF-8, comma, decimal point), each file whole or not at all.

    Parameters
    ----------
    path : path
        Its folder must exist.
    rows : sequence of mapping
        All with the same keys, which become the first line. NaN and None become empty cells.
    record : mapping, optional
        What was measured and how; goes to a JSON file beside the table, ``<path>.json``.
    overwrite : bool
        Allow replacing existing files.

    Returns
    -------
    tuple of Path
        The files written: the table, and the record.

    Raises
    ------
    ParameterError
        No rows, or rows with different keys.
    TargetExistsError, WriteError
        As for :func:`napari_cellenhance.io.safe_write.atomic_path`.
    """
    target = Path(path)
    text = _delimited(rows, ",", "\r\n")
    written: list[Path] = []
    if record is not None:
        # Before the table: where there is a table there is its record.
        written.append(write_json(target.with_name(f"{target.name}.json"), record, overwrite=overwrite))
    with atomic_path(target, overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
    return (target, *written)


def table_text(rows: Sequence[Row]) -> str:
    r"""Rows as text between tabs, which spreadsheets paste into cells.

    >>> table_text([{"layer": "raw", "fold": 1.0}, {"layer": "enhanced", "fold": float("nan")}])
    'layer\tfold\nraw\t1.0\nenhanced\t\n'
    """
    return _delimited(rows, "\t", "\n")


def _delimited(rows: Sequence[Row], delimiter: str, end: str) -> str:
    if not rows:
        raise ParameterError("there are no rows to write; measure something first")
    names = list(rows[0])
    if any(list(row) != names for row in rows):
        raise ParameterError(f"rows have different columns; expected {', '.join(names)} in each")
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, lineterminator=end)
    writer.writerow(names)
    writer.writerows([[_cell(row[name]) for name in names] for row in rows])
    return stream.getvalue()


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str) and value[:1] in "=+-@" and value:
        return f"'{value}"  # a spreadsheet must not take a layer's name for a formula
    return value
