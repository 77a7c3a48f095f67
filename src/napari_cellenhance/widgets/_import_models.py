"""Import models from a file that the user downloaded."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_cellenhance.widgets._guard import guarded

__all__ = ["ImportBox", "imported_sentence"]

_WORDS = (
    "The authors of NU-Net publish trained networks as an archive (nunet_models.tar). Download it, then choose the "
    "file here: its networks become one filter in the list."
)


def imported_sentence(cards: tuple[Any, ...]) -> str:
    """Say what came of an import."""
    names = ", ".join(f"“{card.info.title}” ({card.info.id})" for card in cards)
    return f"Imported {names}; now in the list of filters."


class ImportBox(QWidget):
    """What it is for, and a button."""

    chosen = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        words = QLabel(_WORDS)
        words.setWordWrap(True)
        self.button = QPushButton("Import models…")
        self.button.setToolTip("Choose the archive as it was downloaded; it is only read, nothing in it is run.")
        self.note = QLabel()
        self.note.setWordWrap(True)
        self.note.setVisible(False)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(16, 0, 0, 4)
        layout.addWidget(words)
        layout.addWidget(self.button)
        layout.addWidget(self.note)
        self.button.clicked.connect(self._on_clicked)

    def show_error(self, message: str) -> None:
        """Show a sentence under the button."""
        self.note.setText(message)
        self.note.setVisible(True)

    @guarded
    def _on_clicked(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "Archive of trained NU-Nets", "", "Archives (*.tar *.tar.gz *.tgz *.tar.xz *.zip *.model)"
        )
        if path:
            self.chosen.emit(path)
