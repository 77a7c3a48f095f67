"""A button with a menu for the user's own models: rename, delete, export."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QInputDialog, QMenu, QMessageBox, QToolButton, QWidget

from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._worker import is_busy
from napari_cellenhance.workflows import own_models
from napari_cellenhance.zoo.cards import ModelCard

__all__ = ["ModelMenu"]


class ModelMenu(QToolButton):
    """What can be done with the chosen model.

    ``changed`` comes after a model was renamed or deleted, ``told`` and ``failed`` with a sentence about what was done,
    or could not be.
    """

    changed = Signal()
    told = Signal(str)
    failed = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._card: ModelCard | None = None
        self.setText("Manage   ")  # napari draws the arrow over the end
        self.setToolTip("Rename, delete or export this model; only your own models can be.")
        self.setAccessibleName("Manage the model")
        self.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(self)
        for title, slot in (("Rename…", self.ask_title), ("Delete…", self.ask_delete), ("Export…", self.ask_folder)):
            action: Any = menu.addAction(title)
            action.triggered.connect(slot)
        self.setMenu(menu)
        self.set_card(None)

    def set_card(self, card: ModelCard | None) -> None:
        """Say which model is chosen."""
        self._card = card
        self.setEnabled(card is not None)

    def show_error(self, message: str) -> None:
        """Hand a sentence on to who shows it."""
        self.failed.emit(message)

    @guarded
    def ask_title(self) -> None:
        """Ask for another name, and give it."""
        card = self._card
        if card is None:
            return
        title, is_wanted = QInputDialog.getText(self, "Rename the model", "New name:", text=card.title)
        if is_wanted:
            changed = own_models.rename(card.id, title)
            self.changed.emit()
            self.told.emit(f"“{card.title}” is now “{changed.title}”.")

    @guarded
    def ask_delete(self) -> None:
        """Ask whether to delete it, and do so."""
        card = self._card
        if card is None:
            return
        if is_busy("training"):
            self.failed.emit("A training is running, and may need this model. Delete it when the training has ended.")
            return
        question = f"Delete “{card.title}”, with all that its training left? This cannot be undone."
        if QMessageBox.question(self, "Delete the model", question) == QMessageBox.StandardButton.Yes:
            own_models.delete(card.id)
            self.changed.emit()
            self.told.emit(f"“{card.title}” was deleted.")

    @guarded
    def ask_folder(self) -> None:
        """Ask for a folder, and copy weights and card there."""
        card = self._card
        if card is None:
            return
        folder = QFileDialog.getExistingDirectory(self, f"Folder for the files of “{card.title}”")
        if folder:
            weights, written = own_models.export(card.id, folder)
            self.told.emit(f"Exported: {weights.name} and {written.name} are in {weights.parent}.")
