"""A window that tells in words how a layer was made."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QApplication,
    QDialog,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from napari_cellenhance.io.images import safe_name
from napari_cellenhance.widgets._alarm import alarm
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.workflows.recipe_text import as_command, as_python, in_words, save_record, title_of_result

__all__ = ["RecipeDialog", "recipe_html"]


def recipe_html(record: Mapping[str, Any]) -> str:
    """A record as a page: one sentence per step with what was warned of, then the details of each."""
    steps = in_words(record)
    parts = ["<ol>"]
    for step in steps:
        warned = "".join(f"<br>{alarm(warning)}" for warning in step.warnings)
        parts.append(f"<li><b>{html.escape(step.sentence)}</b>{warned}</li>")
    parts.append("</ol>")
    if statement := record.get("statement"):
        parts.append(f"<p>{html.escape(str(statement))}</p>")
    for number, step in enumerate(steps, start=1):
        rows = "".join(
            f'<tr><td style="padding-right: 14px"><i>{html.escape(name)}</i></td><td>{html.escape(value)}</td></tr>'
            for name, value in step.details
        )
        parts.append(f"<h4>Details of step {number}</h4><table>{rows}</table>" if rows else "")
    return "".join(parts)


class RecipeDialog(QDialog):
    """How a layer was made, to read, copy and save.

    Parameters
    ----------
    name : str
        Of the layer.
    record : mapping
        ``metadata['cellenhance']`` of it.
    """

    def __init__(self, name: str, record: Mapping[str, Any], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._name, self._record = name, record
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle(f"How “{name}” was made: {title_of_result(record)}")
        self.page = QTextBrowser()
        self.page.setHtml(recipe_html(record))
        self.message = QLabel()
        self.message.setWordWrap(True)
        self.python = QPushButton("Copy as Python")
        self.command = QPushButton("Copy as command")
        self.save = QPushButton("Save recipe…")
        self.close_button = QPushButton("Close")
        self.python.setToolTip("A program that makes the same pixels from the first image.")
        self.command.setToolTip("A line for the terminal that makes the same pixels from the first image.")
        self.save.setToolTip("A JSON file for “cellenhance run”, “cellenhance batch --recipe”, and for your records.")
        row = QHBoxLayout()
        for button in (self.python, self.command, self.save):
            button.setAutoDefault(False)
            row.addWidget(button)
        row.addStretch(1)
        row.addWidget(self.close_button)
        layout = QVBoxLayout(self)
        layout.addWidget(self.page, 1)
        layout.addWidget(self.message)
        layout.addLayout(row)
        self.resize(720, 560)
        self.python.clicked.connect(self._copy_python)
        self.command.clicked.connect(self._copy_command)
        self.save.clicked.connect(self._save)
        self.close_button.clicked.connect(self._on_close)

    def show_error(self, message: str) -> None:
        """Show a sentence to the user."""
        self.message.setText(alarm(message))

    @guarded
    def _copy_python(self) -> None:
        self._copy(as_python(self._record), "Copied as Python. Put the path of your file in.")

    @guarded
    def _copy_command(self) -> None:
        self._copy(as_command(self._record), "Copied as a command. Put the path of your file in.")

    def _copy(self, text: str, said: str) -> None:
        clipboard = QApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(text)
        self.message.setText(html.escape(said))

    @guarded
    def _save(self) -> None:
        start = f"{safe_name(self._name)}.recipe.json"
        path, _ = QFileDialog.getSaveFileName(self, "Save recipe", start, "Recipe (*.json)")
        if path:
            self.message.setText(html.escape(f"Saved: {save_record(path, self._record)}"))

    @guarded
    def _on_close(self) -> None:
        self.close()
