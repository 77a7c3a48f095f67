"""A table of results: measures down, layers across; to the clipboard and to a CSV file."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QScrollBar,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QWidget,
)

__all__ = ["ResultTable"]

_LARGEST_COLUMN_PX = 150


class ResultTable(QTableWidget):
    """Read-only table that is as high as its rows; long names of layers are cut, and shown in full as tooltips."""

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName(name)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ContiguousSelection)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self._header, self._bar = QHeaderView(Qt.Orientation.Horizontal), QScrollBar(Qt.Orientation.Horizontal)
        self.setHorizontalHeader(self._header)
        self.setHorizontalScrollBar(self._bar)
        header = self._header
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignCenter)
        header.setMaximumSectionSize(_LARGEST_COLUMN_PX)
        header.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        self.clear_table()

    def clear_table(self) -> None:
        """Show nothing."""
        self.show_table([], [], [])

    def show_table(
        self,
        rows: Sequence[tuple[str, str]],
        columns: Sequence[str],
        cells: Sequence[Sequence[str]],
    ) -> None:
        """Fill the table.

        Parameters
        ----------
        rows : sequence of (name, tooltip)
        columns : sequence of str
            Names of layers.
        cells : sequence of sequences of str
            One sequence for each row.
        """
        self.clear()
        self.setRowCount(len(rows))
        self.setColumnCount(len(columns))
        for column, title in enumerate(columns):
            item = QTableWidgetItem(title)
            item.setToolTip(title)
            self.setHorizontalHeaderItem(column, item)
        for row, (title, tip) in enumerate(rows):
            item = QTableWidgetItem(title)
            item.setToolTip(tip)
            self.setVerticalHeaderItem(row, item)
            for column, text in enumerate(cells[row]):
                cell = QTableWidgetItem(text)
                cell.setToolTip(tip)
                cell.setTextAlignment(Qt.AlignmentFlag.AlignCenter)
                self.setItem(row, column, cell)
        self.resizeColumnsToContents()
        self.setVisible(bool(rows))
        self._fit_height()

    def texts(self) -> list[list[str]]:
        """What the cells say."""
        found = []
        for row in range(self.rowCount()):
            items = [self.item(row, column) for column in range(self.columnCount())]
            found.append(["" if item is None else str(item.text()) for item in items])
        return found

    def _fit_height(self) -> None:
        rows = sum(self.rowHeight(row) for row in range(self.rowCount()))
        bar = self._bar.sizeHint().height()
        self.setFixedHeight(rows + self._header.sizeHint().height() + bar + 2 * self.frameWidth())
