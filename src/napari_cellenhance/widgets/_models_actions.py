"""Buttons under the card of a model: use it, download it, and a menu for the rest."""

from __future__ import annotations

from qtpy.QtGui import QAction
from qtpy.QtWidgets import QHBoxLayout, QMenu, QPushButton, QToolButton, QWidget

from napari_cellenhance.workflows.model_shelf import Row

__all__ = ["ModelActions"]

_MENU = {
    "rename": ("Give it another title; its id stays.", "Only your own models can be renamed."),
    "delete": ("Delete its weights and its card.", "Only your own models can be deleted."),
    "export": ("Copy weights and card to a folder.", "Only your own models can be exported like this."),
    "package": (
        "Write one file that other programs can run.",
        "Only models of single planes that are here; not StarDist, and none that came as a package.",
    ),
}
"""What an entry of the menu does, and why it may be greyed."""


class ModelActions(QWidget):
    """What can be done with the chosen model; each is a ``QAction`` of this widget."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.use = QAction("Use", self)
        self.use.setToolTip("Open the dock of this model's method, with the model chosen.")
        self.fetch = QAction("Download", self)
        self.fetch.setToolTip("Download the weights and verify them; goes on where an earlier download stopped.")
        self.rename, self.delete = QAction("Rename…", self), QAction("Delete…", self)
        self.export, self.package = QAction("Export…", self), QAction("Export for the BioImage Model Zoo…", self)
        self.folder, self.add = QAction("Open the folder of my models", self), QAction("Import…", self)
        self.add.setToolTip("From the authors' archive, a package of the BioImage Model Zoo, or an exported model.")
        self.more = QToolButton()
        self.more.setText("More   ")  # napari draws the arrow over the end
        self.more.setAccessibleName("More to do with models")
        self.more.setToolTip("Rename, delete, export; open the folder of your models.")
        self.more.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        for action in (self.rename, self.delete, self.export, self.package, self.folder):
            menu.addAction(action)
        self.more.setMenu(menu)
        self.buttons = {}
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for action in (self.use, self.fetch, self.add):
            button = QPushButton(action.text())
            button.setToolTip(action.toolTip())
            button.clicked.connect(action.trigger)
            self.buttons[action.text()] = (button, action)
            layout.addWidget(button, 1)
        layout.addWidget(self.more)
        self.show_row(None, is_free=True)

    def show_row(self, row: Row | None, *, is_free: bool) -> None:
        """Enable what can be done with a model; ``is_free`` is False while something runs."""
        is_here = row is not None and row.place != "not here yet"
        is_own = row is not None and row.card.file.url is None
        is_plane = row is not None and row.card.axes == "YX" and row.card.recipe not in ("stardist", "bioimageio")
        self.use.setEnabled(row is not None)
        self.fetch.setEnabled(row is not None and not is_here and not is_own and is_free)
        for action in (self.rename, self.delete):
            action.setEnabled(is_own and is_free)
        self.export.setEnabled(is_own and is_here)
        self.package.setEnabled(is_here and is_plane and is_free)
        self.add.setEnabled(is_free)
        for name, words in _MENU.items():
            action = getattr(self, name)
            busy = "" if is_free else "Something is running; wait for its end."
            action.setToolTip(words[0] if action.isEnabled() else busy or words[1])
        for button, action in self.buttons.values():
            button.setEnabled(action.isEnabled())
