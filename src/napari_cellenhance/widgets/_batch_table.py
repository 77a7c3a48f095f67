"""The files of a batch and where each of them is, in a table that stays quick with ten thousand rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QSortFilterProxyModel, Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QAbstractItemView, QCheckBox, QHeaderView, QLabel, QTableView, QVBoxLayout, QWidget

from napari_cellenhance.widgets._status import ALARM, alarm
from napari_cellenhance.workflows.batch import BatchOutcome, FileNews

__all__ = ["FileRow", "FilesModel", "FilesTable", "state_text", "tally_text"]

_COLUMNS = ("File", "State", "Objects", "Time (s)")
_TIPS = (
    "Path below the common folder.", "Waiting, running, done, done before, or broken.",
    "Numbered objects; empty where none were measured.", "Seconds from reading to writing.",
)  # fmt: skip
_WORDS = {
    "waiting": "waiting", "computing": "running", "writing": "writing", "done": "done", "skipped": "done before",
    "failed": "broken",
}  # fmt: skip
_STATE_WIDTH, _NUMBER_WIDTH = 96, 62


@dataclass
class FileRow:
    """One file: its stage, how much of it is computed (0…1), and what became of it."""

    name: str
    stage: str = "waiting"
    share: float = 0.0
    outcome: BatchOutcome | None = None


def state_text(row: FileRow) -> str:
    """State of a file in a word or two.

    >>> [state_text(FileRow("a", stage, 0.456)) for stage in ("waiting", "computing", "skipped", "failed")]
    ['waiting', 'running, 45 %', 'done before', 'broken']
    """
    word = _WORDS[row.stage]
    if row.outcome is not None and row.outcome.check == "doubt":
        word = f"{word}, doubtful"
    return f"{word}, {int(100 * row.share)} %" if row.stage == "computing" and row.share > 0 else word


def tally_text(rows: Sequence[FileRow]) -> str:
    """Say how many files are in which state.

    >>> tally_text([FileRow("a", "done"), FileRow("b", "failed"), FileRow("c")])
    '1 done, 1 broken, 1 waiting'
    """
    n_of = {word: sum(_WORDS[row.stage] == word for row in rows) for word in dict.fromkeys(_WORDS.values())}
    order = ("done", "done before", "broken", "running", "writing", "waiting")
    return ", ".join(f"{n_of[word]} {word}" for word in order if n_of[word])


class FilesModel(QAbstractTableModel):
    """Rows of the table; :meth:`take` moves a file to another state."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.rows: list[FileRow] = []

    def show_names(self, names: Sequence[str]) -> None:
        """All files wait."""
        self.beginResetModel()
        self.rows = [FileRow(name) for name in names]
        self.endResetModel()

    def take(self, news: FileNews) -> None:
        """A file is somewhere else; files that were not known are added."""
        while len(self.rows) <= news.index:
            self.beginInsertRows(QModelIndex(), len(self.rows), len(self.rows))
            self.rows.append(FileRow(news.name))
            self.endInsertRows()
        self.rows[news.index] = FileRow(news.name, news.stage, news.share, news.outcome)
        self.dataChanged.emit(self.index(news.index, 0), self.index(news.index, len(_COLUMNS) - 1))

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802
        """Number of files."""
        return 0 if parent is not None and parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802
        """Name, state, objects, time."""
        return len(_COLUMNS)

    def headerData(self, section: int, orientation: Any, role: int = Qt.ItemDataRole.DisplayRole) -> Any:  # noqa: N802
        """Titles of the columns, numbers of the rows."""
        if orientation == Qt.Orientation.Horizontal:
            told = _COLUMNS if role == Qt.ItemDataRole.DisplayRole else _TIPS
            return told[section] if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole) else None
        return section + 1 if role == Qt.ItemDataRole.DisplayRole else None

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Texts, tooltips with what went wrong, and a colour for broken files."""
        row, column = self.rows[index.row()], index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            return self._text(row, column)
        if role == Qt.ItemDataRole.ToolTipRole:
            return _told(row.name, row.outcome) or row.name
        if role == Qt.ItemDataRole.ForegroundRole and row.stage == "failed":
            return QColor(ALARM)
        if role == Qt.ItemDataRole.TextAlignmentRole and column > 1:
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None

    def _text(self, row: FileRow, column: int) -> str:
        if column < 2:
            return row.name if column == 0 else state_text(row)
        if row.outcome is None or (row.outcome.state != "done" and column == 3):
            return ""
        n_objects = row.outcome.n_objects
        return f"{row.outcome.seconds:.1f}" if column == 3 else "" if n_objects is None else str(n_objects)


class _BrokenOnly(QSortFilterProxyModel):
    """Lets through all rows, or the broken ones."""

    is_on = False

    def set_on(self, is_on: bool) -> None:
        """Show the broken files only, or all."""
        self.beginResetModel()
        self.is_on = is_on
        self.endResetModel()

    def filterAcceptsRow(self, row: int, parent: QModelIndex) -> bool:  # noqa: N802
        """Whether a row is shown."""
        model = self.sourceModel()
        assert isinstance(model, FilesModel)
        return not self.is_on or model.rows[row].stage == "failed"


class FilesTable(QWidget):
    """The table, what is wrong with the chosen file, and a box that leaves only the broken ones."""

    chosen = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.model = FilesModel(self)
        self._shown = _BrokenOnly(self)
        self._shown.setSourceModel(self.model)
        self._shown.setDynamicSortFilter(True)
        self.view = QTableView()
        self.view.setModel(self._shown)
        self.view.setAccessibleName("Files")
        self.view.setToolTip("Files of the batch. Choose some to open their results.")
        self.view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.view.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.view.setTabKeyNavigation(False)
        self.view.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.view.setWordWrap(False)
        self._size_columns()
        self.broken_only = QCheckBox("Broken files only")
        self.broken_only.setToolTip("Show the files that have no result, and nothing else.")
        self.tally = QLabel()
        self.sentence = QLabel()
        self.sentence.setTextFormat(Qt.TextFormat.RichText)
        self.sentence.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        for label in (self.tally, self.sentence):
            label.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for part, stretch in ((self.tally, 0), (self.view, 1), (self.sentence, 0), (self.broken_only, 0)):
            layout.addWidget(part, stretch)
        self.broken_only.toggled.connect(self._shown.set_on)
        selection = self.view.selectionModel()
        if selection is not None:
            selection.selectionChanged.connect(self._on_selected)

    def _size_columns(self) -> None:
        header, numbers = self.view.horizontalHeader(), self.view.verticalHeader()
        if header is not None:
            header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for column, width in ((1, _STATE_WIDTH), (2, _NUMBER_WIDTH), (3, _NUMBER_WIDTH)):
            self.view.setColumnWidth(column, width)
        if numbers is not None:
            numbers.setVisible(False)

    def show_names(self, names: Sequence[str]) -> None:
        """All files wait."""
        self.model.show_names(names)
        self._on_selected()
        self.show_tally()

    def take(self, news: FileNews) -> None:
        """A file is somewhere else."""
        before = self.model.rows[news.index].stage if news.index < len(self.model.rows) else ""
        self.model.take(news)
        if before != news.stage:
            self.show_tally()
            if news.stage == "computing" and not self.picked():
                self.view.scrollTo(self._shown.mapFromSource(self.model.index(news.index, 0)))
            self._on_selected()

    def show_tally(self) -> None:
        """Count the states, and give their column the width that it needs; it does not shrink again."""
        self.tally.setText(tally_text(self.model.rows))
        self.view.setColumnWidth(1, max(self.view.columnWidth(1), self.view.sizeHintForColumn(1)))

    def picked(self) -> list[FileRow]:
        """Chosen rows, in order."""
        selection = self.view.selectionModel()
        indexes = [] if selection is None else selection.selectedRows()
        return [self.model.rows[n] for n in sorted(self._shown.mapToSource(index).row() for index in indexes)]

    def _on_selected(self) -> None:
        broken = [row for row in self.picked() if _told(row.name, row.outcome)]
        self.sentence.setText("<br>".join(alarm(_told(row.name, row.outcome)) for row in broken[:3]))
        self.sentence.setVisible(bool(broken))
        self.chosen.emit()


def _told(name: str, outcome: BatchOutcome | None) -> str:
    """What is wrong with a file, or doubtful about its result, with its name; empty where nothing is."""
    told = "" if outcome is None else outcome.error
    if outcome is not None and outcome.check == "doubt":
        told = f"Doubtful. {' '.join(outcome.warnings)}"
    return told if not told or name in told else f"{name}: {told}"
