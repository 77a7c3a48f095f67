"""Tables of numbers: CSV with a record of how they came about, and text for the clipboard."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from napari_cellenhance.core.errors import ImageError, MissingExtraError, ParameterError
from napari_cellenhance.io.reports import write_json
from napari_cellenhance.io.safe_write import atomic_path

__all__ = ["check_parquet", "join_tables", "read_column", "table_stream", "table_text", "write_parquet", "write_table"]

Row = Mapping[str, Any]


def write_table(
    path: str | os.PathLike[str],
    rows: Sequence[Row],
    record: Mapping[str, Any] | None = None,
    *,
    columns: Sequence[str] = (),
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
    columns : sequence of str
        The keys, where a table without rows makes sense: then the first line is all there is.
    overwrite : bool
        Allow replacing existing files.

    Returns
    -------
    tuple of Path
        The files written: the table, and the record.

    Raises
    ------
    ParameterError
        No rows (nor columns), or rows with different keys.
    TargetExistsError, WriteError
        As for :func:`napari_cellenhance.io.safe_write.atomic_path`.
    """
    target = Path(path)
    text = _delimited(rows, ",", "\r\n", columns)
    written: list[Path] = []
    if record is not None:
        # Before the table: where there is a table there is its record.
        written.append(write_json(target.with_name(f"{target.name}.json"), record, overwrite=overwrite))
    with atomic_path(target, overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
    return (target, *written)


def read_column(
    path: str | os.PathLike[str], column: str, *, leave_out: Sequence[str] = ()
) -> tuple[list[float], list[str]]:
    """Read the numbers of one column of a CSV table.

    Parameters
    ----------
    path : path
    column : str
        Its name in the first line.
    leave_out : sequence of str
        Lines whose first cell is one of these are no data (mean, sd).

    Returns
    -------
    values : list of float
        Empty cells are passed over.
    names : list of str
        First cell of the lines that were passed over for that.

    Raises
    ------
    ParameterError
        No such column.
    ImageError
        No table, or a cell that is no number.
    OSError
        It cannot be opened.
    """
    source = Path(path)
    try:
        with source.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns, rows = list(reader.fieldnames or ()), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ImageError(f"{source} is no table ({error}); expected CSV") from error
    if column not in columns:
        raise ParameterError(f"{source} has no column {column!r}; there are {', '.join(columns) or 'none'}")
    values, empty = [], []
    for row in rows:
        name = row[columns[0]] or ""
        if name in leave_out:
            continue
        cell = (row[column] or "").strip()
        if not cell:
            empty.append(name)
            continue
        try:
            values.append(float(cell))
        except ValueError as error:
            raise ImageError(f"{source} holds {cell!r} in the column {column}; expected numbers") from error
    return values, empty


def table_text(rows: Sequence[Row]) -> str:
    r"""Rows as text between tabs, which spreadsheets paste into cells.

    >>> table_text([{"layer": "raw", "fold": 1.0}, {"layer": "enhanced", "fold": float("nan")}])
    'layer\tfold\nraw\t1.0\nenhanced\t\n'
    """
    return _delimited(rows, "\t", "\n")


def write_parquet(
    path: str | os.PathLike[str], rows: Sequence[Row], *, columns: Sequence[str], overwrite: bool = True
) -> Path:
    """Write rows as Parquet; the file appears whole or not at all.

    Parameters
    ----------
    path : path
        Its folder must exist.
    rows : sequence of mapping
        All with the keys ``columns``.
    columns : sequence of str
        Names, in order.

    Raises
    ------
    MissingExtraError
        pyarrow is not installed.
    TargetExistsError, WriteError
        As for :func:`napari_cellenhance.io.safe_write.atomic_path`.
    """
    arrow, parquet = _pyarrow()
    table = arrow.table({name: [row[name] for row in rows] for name in columns})
    target = Path(path)
    with atomic_path(target, overwrite=overwrite) as temporary:
        parquet.write_table(table, temporary)
    return target


@contextmanager
def table_stream(
    path: str | os.PathLike[str], columns: Sequence[str], *, overwrite: bool = True
) -> Iterator[Callable[[Sequence[Row]], None]]:
    """Give a function that adds rows to a table; the file is there as a whole when the block ends well.

    Parameters
    ----------
    path : path
        ``.csv``, or ``.parquet``; its folder must exist.
    columns : sequence of str
        Keys of all rows.

    Raises
    ------
    MissingExtraError
        Parquet without pyarrow.
    TargetExistsError, WriteError
        As for :func:`napari_cellenhance.io.safe_write.atomic_path`.
    """
    target, names = Path(path), list(columns)
    if target.suffix == ".parquet":
        kept: list[Row] = []
        check_parquet()
        yield kept.extend
        write_parquet(target, kept, columns=names, overwrite=overwrite)
        return
    with (
        atomic_path(target, overwrite=overwrite) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as out,
    ):
        writer = csv.writer(out, lineterminator="\r\n")
        writer.writerow(names)
        yield lambda rows: writer.writerows([[_cell(row[name]) for name in names] for row in rows])


def join_tables(path: str | os.PathLike[str], tables: Sequence[Path]) -> Path:
    """Join tables of one kind, CSV or Parquet, below each other; one at a time is in memory.

    Columns that a table does not have are empty there; their order is that in which they first occur.

    Parameters
    ----------
    path : path
        Ends as the tables do. Replaced if it is there.
    tables : sequence of Path
        At least one.

    Raises
    ------
    ImageError
        One of them is no table.
    MissingExtraError
        Parquet without pyarrow.
    OSError
        One of them cannot be opened.
    WriteError
        As for :func:`napari_cellenhance.io.safe_write.atomic_path`.
    """
    target = Path(path)
    join = _join_parquet if target.suffix == ".parquet" else _join_csv
    with atomic_path(target) as temporary:
        join(temporary, tables)
    return target


def _join_csv(target: Path, tables: Sequence[Path]) -> None:
    try:
        names: dict[str, None] = {}
        for table in tables:
            with table.open(newline="", encoding="utf-8-sig") as stream:
                names |= dict.fromkeys(next(csv.reader(stream), []))
        with target.open("w", newline="", encoding="utf-8") as out:
            writer = csv.DictWriter(out, list(names), restval="", lineterminator="\r\n")
            writer.writeheader()
            for table in tables:
                with table.open(newline="", encoding="utf-8-sig") as stream:
                    writer.writerows(csv.DictReader(stream))
    except (UnicodeDecodeError, csv.Error, ValueError) as error:
        raise ImageError(f"the tables could not be joined ({error}); run again with --overwrite") from error


def _join_parquet(target: Path, tables: Sequence[Path]) -> None:
    arrow, parquet = _pyarrow()
    try:
        schemas = [parquet.read_schema(table) for table in tables]
        # A table without rows knows no types; those of the others count.
        schema = arrow.unify_schemas(schemas, promote_options="permissive")
        with parquet.ParquetWriter(target, schema) as writer:
            for table in tables:
                here = parquet.read_table(table)
                columns = [
                    here[one.name].cast(one.type) if one.name in here.column_names else arrow.nulls(len(here), one.type)
                    for one in schema
                ]
                writer.write_table(arrow.table(columns, schema=schema))
    except arrow.ArrowException as error:
        raise ImageError(f"the tables could not be joined ({error}); run again with --overwrite") from error


def check_parquet() -> None:
    """Find out before hours of work that Parquet cannot be written.

    Raises
    ------
    MissingExtraError
        pyarrow is not installed.
    """
    _pyarrow()


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError(
            "Parquet needs pyarrow, which is not installed; pip install pyarrow, or choose CSV"
        ) from error
    return pa, parquet


def _delimited(rows: Sequence[Row], delimiter: str, end: str, columns: Sequence[str] = ()) -> str:
    if not rows and not columns:
        raise ParameterError("there are no rows to write; measure something first")
    names = list(columns or rows[0])
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
