"""Which images a batch takes: a folder, a pattern, or a list."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QCheckBox, QFileDialog, QHBoxLayout, QLabel, QLineEdit, QPushButton, QVBoxLayout, QWidget

from napari_cellenhance.widgets._forms import describe
from napari_cellenhance.widgets._guard import error_sentence, guarded
from napari_cellenhance.widgets._status import alarm
from napari_cellenhance.widgets._worker import LatestOnly, Outcome
from napari_cellenhance.workflows.batch_look import BatchLook, look
from napari_cellenhance.workflows.batch_recipe import Recipe

__all__ = ["BatchImages", "FolderLine"]

_LOOK_AFTER_MS = 300


class FolderLine(QWidget):
    """A line for a path, and a button that asks for a folder."""

    changed = Signal()

    def __init__(self, name: str, tip: str, hint: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._name = name
        self.line = QLineEdit()
        self.line.setPlaceholderText(hint)
        describe(self.line, name, tip)
        self.button = QPushButton("Folder…")
        self.button.setAccessibleName(f"Choose: {name}")
        self.button.setToolTip(f"Choose a folder. {name}.")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.line, 1)
        row.addWidget(self.button)
        self.line.textChanged.connect(self._tell)
        self.button.clicked.connect(self._on_button)

    @property
    def text(self) -> str:
        """What was typed, ``~`` resolved."""
        text = self.line.text().strip()
        return str(Path(text).expanduser()) if text.startswith("~") else text

    def show_error(self, message: str) -> None:
        """Show the reason in place of the tooltip."""
        self.line.setToolTip(message)

    @guarded
    def _on_button(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, self._name, self.text)
        if folder:
            self.line.setText(folder)

    def _tell(self) -> None:
        self.changed.emit()


class BatchImages(QWidget):
    """Where the images are; they are counted in a thread, a moment after something changed.

    ``looked`` comes with a ``BatchLook``, or None where there are no images or the reason is shown.
    """

    changed = Signal()
    looked = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._found: BatchLook | None = None
        self._ticket = 0
        self._target, self._recipe = "", cast("Recipe | None", None)
        self.thread_of_looks = LatestOnly()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_LOOK_AFTER_MS)
        self.source = FolderLine(
            "Images",
            "A folder, a pattern such as plate1/*_w1.tif (** for sub-folders), or a text file with one path on each "
            "line. Images are only read.",
            "Folder, or a pattern: plate1/*.tif",
        )
        self.recursive = QCheckBox("Sub-folders too")
        self.recursive.setToolTip("Also the images of sub-folders; the results lie in sub-folders of the same names.")
        self.note = QLabel()
        self.note.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for part in (self.source, self.recursive, self.note):
            layout.addWidget(part)
        self.source.changed.connect(self._on_changed)
        self.recursive.toggled.connect(self._on_changed)
        self._timer.timeout.connect(self._look)
        self.thread_of_looks.delivered.connect(self._on_delivered)
        self._show("Choose the folder of the images.")

    @property
    def found(self) -> BatchLook | None:
        """What was found; None while it is looked for, and where there is nothing."""
        return self._found

    @property
    def is_looking(self) -> bool:
        """Whether the answer is still to come."""
        return bool(self.source.text) and (self._timer.isActive() or self._ticket != 0)

    def look_again(self, target: str, recipe: Recipe | None) -> None:
        """The folder of the results or the recipe is another one: count again, where that makes a difference."""
        if (target, recipe) != (self._target, self._recipe):
            self._target, self._recipe = target, recipe
            self._on_changed()

    def show_error(self, message: str) -> None:
        """Show a sentence under the line."""
        self._show(message, is_alarm=True)

    def release(self) -> None:
        """Let the thread end."""
        self._timer.stop()
        self.thread_of_looks.close()

    def _on_changed(self) -> None:
        self._found, self._ticket = None, 0
        self._timer.start()
        self.changed.emit()

    @guarded
    def _look(self) -> None:
        source = self.source.text
        if not source:
            self._show("Choose the folder of the images.")
            self.looked.emit(None)
            return
        self._show("Looking…")
        target, recipe, is_recursive = self._target or None, self._recipe, self.recursive.isChecked()
        self._ticket = self.thread_of_looks.submit(lambda: look(source, target, recipe, is_recursive=is_recursive))

    @guarded
    def _on_delivered(self, ticket: int, outcome: Outcome) -> None:
        if ticket != self._ticket:
            return
        self._ticket = 0
        if outcome.error is not None:
            self.show_error(error_sentence(outcome.error))
        else:
            self._found = outcome.value
            self._show(outcome.value.found())
        self.looked.emit(self._found)

    def _show(self, text: str, *, is_alarm: bool = False) -> None:
        self.note.setText(alarm(text) if is_alarm else text)
