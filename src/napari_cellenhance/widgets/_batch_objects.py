"""The joined table of objects in a window of its own, and for the program that opens tables on this computer."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QDialog, QHBoxLayout, QLabel, QPushButton, QTableView, QVBoxLayout, QWidget

__all__ = ["ObjectsWindow", "read_rows"]

_MOST_ROWS = 5000


def read_rows(path: Path, n_most: int = _MOST_ROWS) -> tuple[list[str], list[list[str]], int]:
    """Columns and first rows of a CSV or Parquet table, and how many rows there are in all.

    Raises
    ------
    OSError
        It cannot be read.
    """
    if path.suffix == ".parquet":
        from pyarrow import parquet

        file = parquet.ParquetFile(path)
        batch = next(file.iter_batches(batch_size=n_most), None)
        rows = (
            [] if batch is None else [["" if v is None else str(v) for v in row.values()] for row in batch.to_pylist()]
        )
        return [str(name) for name in file.schema_arrow.names], rows, int(file.metadata.num_rows)
    with open(path, newline="", encoding="utf-8") as stream:
        reader = csv.reader(stream)
        columns = next(reader, [])
        rows = list(itertools.islice(reader, n_most))
        return columns, rows, len(rows) + sum(1 for _ in reader)


def _short(text: str) -> str:
    """Six digits of a number are enough to look at.

    >>> [_short(text) for text in ("259.83750000000003", "12", "a.b.tif", "")]
    ['259.838', '12', 'a.b.tif', '']
    """
    try:
        return f"{float(text):.6g}" if "." in text else text
    except ValueError:
        return text


class _Rows(QAbstractTableModel):
    def __init__(self, columns: list[str], rows: list[list[str]], parent: Any = None) -> None:
        super().__init__(parent)
        self._columns, self._rows = columns, rows

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802
        return 0 if parent is not None and parent.isValid() else len(self._rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802
        return len(self._columns)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if role == Qt.ItemDataRole.DisplayRole:
            return _short(self._rows[index.row()][index.column()])
        return None

    def headerData(self, section: int, orientation: Any, role: int = Qt.ItemDataRole.DisplayRole) -> Any:  # noqa: N802
        if role != Qt.ItemDataRole.DisplayRole:
            return None
        return self._columns[section] if orientation == Qt.Orientation.Horizontal else section + 1


class ObjectsWindow(QDialog):
    """Shows the first rows of a table.

    Parameters
    ----------
    path : Path

    Raises
    ------
    OSError
        It cannot be read.
    """

    def __init__(self, path: Path, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.path = path
        columns, rows, n_rows = read_rows(path)
        self.setWindowTitle(f"Objects: {path.parent.name}/{path.name}")
        self.view = QTableView()
        self.view.setAccessibleName("Objects")
        self.view.setToolTip(
            "One row for each object (in a stack: on each plane). Lengths in px and µm, see the titles."
        )
        self.view.setModel(_Rows(columns, rows, self))
        self.view.resizeColumnsToContents()
        more = f"; the first {len(rows)} are shown" if n_rows > len(rows) else ""
        self.note = QLabel(f"{n_rows} rows{more}. Measure brightness in raw_…, not in result_….")
        self.note.setWordWrap(True)
        self.outside = QPushButton("Open in another program")
        self.outside.setToolTip("Open the file with the program that this computer has for tables.")
        self.outside.clicked.connect(self._on_outside)
        row = QHBoxLayout()
        row.addWidget(self.note, 1)
        row.addWidget(self.outside)
        layout = QVBoxLayout(self)
        layout.addWidget(self.view, 1)
        layout.addLayout(row)
        self.resize(820, 480)

    def _on_outside(self) -> None:
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.path)))
