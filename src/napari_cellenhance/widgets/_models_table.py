"""A table of all models with a search and two filters."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_cellenhance.widgets._forms import describe
from napari_cellenhance.workflows.model_shelf import METHODS, PLACES, Row

__all__ = ["ModelTable"]

_COLUMNS = ("Model", "Method", "Where", "Score", "MB", "Licence")
_LARGEST_COLUMN_PX = 140
_ALL_METHODS, _EVERYWHERE = "All methods", "Everywhere"


class ModelTable(QWidget):
    """Rows of models; ``picked`` comes with the chosen row, or None."""

    picked = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._rows: tuple[Row, ...] = ()
        self.search = QLineEdit()
        self.search.setPlaceholderText("Search title, method, licence…")
        self.search.setClearButtonEnabled(True)
        describe(self.search, "Search", "Words that title, name, method, summary or licence must contain.")
        self.method, self.place = QComboBox(), QComboBox()
        self.method.addItems([_ALL_METHODS, *METHODS.values()])
        self.place.addItems([_EVERYWHERE, *PLACES])
        describe(self.method, "Method", "Only models of one method.")
        describe(self.place, "Where", "Where the weights are: in the plugin, downloaded, your own, or not here yet.")
        self.table = QTableWidget(0, len(_COLUMNS))
        self.table.setAccessibleName("Models")
        self.table.setHorizontalHeaderLabels(list(_COLUMNS))
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.table.setSortingEnabled(True)
        self.table.setMinimumHeight(150)
        side, header = self.table.verticalHeader(), self.table.horizontalHeader()
        if side is not None and header is not None:
            side.setVisible(False)
            header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
            header.setMaximumSectionSize(_LARGEST_COLUMN_PX)
            header.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        self.count = QLabel()
        filters = QHBoxLayout()
        filters.addWidget(self.method)
        filters.addWidget(self.place)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.search)
        layout.addLayout(filters)
        layout.addWidget(self.table, 1)
        layout.addWidget(self.count)
        self.search.textChanged.connect(self._refill)
        self.method.currentIndexChanged.connect(self._refill)
        self.place.currentIndexChanged.connect(self._refill)
        self.table.itemSelectionChanged.connect(self._on_selected)

    def show_rows(self, rows: Sequence[Row]) -> None:
        """List these models; the chosen one stays chosen."""
        self._rows = tuple(rows)
        self._refill()

    def row(self) -> Row | None:
        """The chosen model."""
        item = self.table.item(self.table.currentRow(), 0) if self.table.selectedItems() else None
        wanted = None if item is None else item.data(Qt.ItemDataRole.UserRole)
        return next((row for row in self._rows if row.card.id == wanted), None)

    def choose(self, model_id: str) -> None:
        """Choose a model, if it is listed."""
        for number in range(self.table.rowCount()):
            item = self.table.item(number, 0)
            if item is not None and item.data(Qt.ItemDataRole.UserRole) == model_id:
                self.table.selectRow(number)

    def shown_ids(self) -> list[str]:
        """Ids of the listed models, from top to bottom."""
        items = [self.table.item(number, 0) for number in range(self.table.rowCount())]
        return [str(item.data(Qt.ItemDataRole.UserRole)) for item in items if item is not None]

    def _wanted(self) -> list[Row]:
        method, place = self.method.currentText(), self.place.currentText()
        return [
            row for row in self._rows
            if method in (_ALL_METHODS, row.method) and place in (_EVERYWHERE, row.place)
            and row.matches(self.search.text())
        ]  # fmt: skip

    def _refill(self) -> None:
        chosen, wanted = self.row(), self._wanted()
        was_blocked = self.table.blockSignals(True)
        self.table.setSortingEnabled(False)
        self.table.setRowCount(len(wanted))
        for number, row in enumerate(wanted):
            for column, item in enumerate(_items(row)):
                self.table.setItem(number, column, item)
        self.table.setSortingEnabled(True)
        self.table.resizeColumnsToContents()
        self.table.clearSelection()
        if chosen is not None:
            self.choose(chosen.card.id)
        elif wanted:
            self.table.selectRow(0)
        self.table.blockSignals(was_blocked)
        self.count.setText(f"{len(wanted)} of {len(self._rows)} models")
        self._on_selected()

    def _on_selected(self) -> None:
        self.picked.emit(self.row())


def _items(row: Row) -> list[QTableWidgetItem]:
    card = row.card
    title = QTableWidgetItem(card.title)
    title.setData(Qt.ItemDataRole.UserRole, card.id)
    size = QTableWidgetItem()
    size.setData(Qt.ItemDataRole.DisplayRole, round(row.size_mb, 1))  # a number, so that it sorts as one
    texts = (row.method, row.place, row.score, None, card.license)
    items = [title, *(size if text is None else QTableWidgetItem(text) for text in texts)]
    for item in items:
        item.setToolTip(f"{card.title} ({card.id})\n{card.summary}")
    return items
