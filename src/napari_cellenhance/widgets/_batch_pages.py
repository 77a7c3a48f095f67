"""Parts of the Batch dock: the page of the files, the line for a terminal, and how a batch ended in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPlainTextEdit, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_cellenhance.widgets._batch_table import FilesTable
from napari_cellenhance.workflows.batch import BatchOutcome, BatchResult, FileNews

__all__ = ["CommandBox", "FilesPage", "ended_sentence"]

_COMMAND_LINES = 4


def ended_sentence(result: BatchResult) -> str:
    """Say how a batch ended, and what can be done next."""
    left = result.n_files - len(result.outcomes)
    counts = [f"{result.n_done} of {result.n_files} files done"]
    counts += [f"{n} {what}" for n, what in ((result.n_skipped, "done before"), (result.n_failed, "broken")) if n]
    counts += [f"{left} not begun"] if left else []
    told = ", ".join(counts) + "."
    if result.stopped_by:
        told = f"Given up: {result.stopped_by} {told}"
    elif left:
        told = f"Stopped: {told} Go on does the rest."
    if result.n_failed:
        told += " Choose a broken file to read why."
    if result.n_doubted:
        what = "1 result is doubtful" if result.n_doubted == 1 else f"{result.n_doubted} results are doubtful"
        told += f" {what}: choose it to read why, and look before you rely on it."
    return f"{told} Report: {result.report}." if result.report is not None else told


class CommandBox(QWidget):
    """The command, to be read and copied."""

    copy_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.line = QPlainTextEdit()
        self.line.setReadOnly(True)
        self.line.setAccessibleName("Command")
        self.line.setToolTip("Does the same batch in a terminal, with the same files as results.")
        self.line.setPlaceholderText("Choose images, a recipe and a folder for the results first.")
        self.line.setTabChangesFocus(True)
        self.line.setFixedHeight(self.line.fontMetrics().lineSpacing() * _COMMAND_LINES + 14)
        self.copy = QPushButton("Copy")
        self.copy.setToolTip("Copy the command; the recipe that it names is written if it is not there.")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(16, 0, 0, 4)
        layout.addWidget(self.line)
        layout.addWidget(self.copy, 0, Qt.AlignmentFlag.AlignLeft)
        self.copy.clicked.connect(self._on_copy)

    @property
    def text(self) -> str:
        """The command; empty where there is none yet."""
        return str(self.line.toPlainText())

    def show_command(self, text: str) -> None:
        """Show a command, or none."""
        if text != self.text:
            self.line.setPlainText(text)
        self.copy.setEnabled(bool(text))

    def _on_copy(self) -> None:
        self.copy_wanted.emit()


class FilesPage(QWidget):
    """The table of files, the progress of the file in hand, and what can be opened."""

    open_wanted = Signal()
    table_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.window_of_objects: Any = None
        self._has_table = False
        self.table = FilesTable()
        self.now = QLabel()
        self.now.setWordWrap(True)
        self.bar = QProgressBar()
        self.bar.setRange(0, 100)
        self.bar.setTextVisible(False)
        self.bar.setAccessibleName("Progress of the file")
        self.bar.setToolTip("Progress of the file in hand; that of the whole batch is below.")
        self.open = QPushButton("Open results")
        self.open.setToolTip(
            "Open the chosen files with their results as layers; large ones stay on the disk. None chosen: the first."
        )
        self.objects = QPushButton("Open table")
        self.objects.setToolTip("All objects of all files in one table.")
        row = QHBoxLayout()
        row.addWidget(self.open)
        row.addWidget(self.objects)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 6, 0, 0)
        layout.addWidget(self.table, 1)
        layout.addWidget(self.now)
        layout.addWidget(self.bar)
        layout.addLayout(row)
        self.open.clicked.connect(self._on_open)
        self.objects.clicked.connect(self._on_objects)
        self.table.chosen.connect(self.show_buttons)
        self._show_now(None)
        self.show_buttons()

    def begin(self, names: Sequence[str]) -> None:
        """A run starts."""
        self._has_table = False
        self.table.broken_only.setChecked(False)
        self.table.show_names(names)
        self.show_buttons()

    def take(self, news: FileNews) -> None:
        """A file is somewhere else."""
        self.table.take(news)
        self._show_now(news)
        self.show_buttons()

    def end(self, *, has_table: bool) -> None:
        """A run is over."""
        self._has_table = has_table
        self._show_now(None)
        self.show_buttons()

    def finished(self) -> list[BatchOutcome]:
        """Chosen files with results; the first one of all where none is chosen."""
        picked = self.table.picked()
        with_results = [row.outcome for row in picked or self.table.model.rows if row.outcome and row.outcome.targets]
        return with_results if picked else with_results[:1]

    def show_buttons(self) -> None:
        """Let only that be pressed which has something to open."""
        self.open.setEnabled(bool(self.finished()))
        self.objects.setEnabled(self._has_table)

    def _show_now(self, news: FileNews | None) -> None:
        is_on = news is not None and news.stage in ("computing", "writing")
        self.now.setVisible(is_on)
        self.bar.setVisible(is_on)
        if news is not None and is_on:
            self.now.setText(f"This file: {news.name}")
            self.bar.setValue(100 if news.stage == "writing" else int(100 * news.share))

    def _on_open(self) -> None:
        self.open_wanted.emit()

    def _on_objects(self) -> None:
        self.table_wanted.emit()
