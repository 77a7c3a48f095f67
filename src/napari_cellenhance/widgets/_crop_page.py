"""The page “Library”: thumbnails of each class that can be moved, counts, and what is known of the chosen crop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QSplitter,
    QVBoxLayout,
    QWidget,
)

from napari_cellenhance.core.crop_library import CLASSES, CropClass, FoundObject
from napari_cellenhance.widgets._crop_grid import CropGrid, Thumbnails, crop_sentence
from napari_cellenhance.widgets._crop_overlay import CLASS_COLOURS
from napari_cellenhance.widgets._crop_shelf import CropShelf
from napari_cellenhance.widgets._forms import describe
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._status import alarm
from napari_cellenhance.workflows.crop_finding import CLASS_WORDS, advice, left_out

__all__ = ["LibraryPage", "state_sentence"]

_ORDERS = (("Sharpest first", "score"), ("Largest first", "area"), ("By image", "place"))
_TITLES = {"target": "Wanted", "unwanted": "Not wanted", "discarded": "Thrown out"}
_BUTTONS: tuple[tuple[CropClass, str, str], ...] = (
    ("target", "Wanted", "W"), ("unwanted", "Not wanted", "N"), ("discarded", "Throw out", "Del"),
)  # fmt: skip


def state_sentence(shelf: CropShelf) -> str:
    """Say where the library lies and whether that is up to date."""
    if not shelf.collection.objects:
        return "Nothing in it yet." if shelf.folder is None else f"{shelf.folder} holds no crop."
    place = "" if shelf.folder is None else f" in {shelf.folder}"
    if shelf.is_saved:
        return f"Saved{place}."
    return f"Not saved yet: the latest changes are not{place}." if place else "Not saved yet."


def in_order(objects: Sequence[FoundObject], kind: CropClass, order: str) -> list[int]:
    """Positions of the objects of a class, in the order to be shown.

    Parameters
    ----------
    order : "score", "area" or "place"
        Objects without a score come last.
    """
    chosen = [number for number, one in enumerate(objects) if one.kind == kind]
    if order == "score":
        return sorted(chosen, key=lambda i: -objects[i].score if np.isfinite(objects[i].score) else np.inf)
    if order == "area":
        return sorted(chosen, key=lambda i: -objects[i].crop.area_px)
    return sorted(chosen, key=lambda i: (objects[i].crop.source, objects[i].crop.frame, objects[i].crop.box))


class LibraryPage(QWidget):
    """Shows a shelf.

    Signals: ``looked_at`` with the selected ``FoundObject``; ``open_wanted``, ``save_wanted``, ``save_as_wanted``,
    ``sheet_wanted``, ``clear_wanted``; ``told`` with a sentence.

    Parameters
    ----------
    shelf : CropShelf
    """

    looked_at = Signal(object)
    open_wanted = Signal()
    save_wanted = Signal()
    save_as_wanted = Signal()
    sheet_wanted = Signal()
    clear_wanted = Signal()
    told = Signal(str)

    def __init__(self, shelf: CropShelf, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._shelf = shelf
        self.thumbnails = Thumbnails()
        self.state, self.advice, self.about = QLabel(), QLabel(), QLabel()
        for label in (self.state, self.advice, self.about):
            label.setWordWrap(True)
            label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.about.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.order = QComboBox()
        for title, key in _ORDERS:
            self.order.addItem(title, key)
        describe(self.order, "Order", "In which order crops are shown.")
        self.grids: dict[CropClass, CropGrid] = {kind: CropGrid(kind, self.thumbnails) for kind in CLASSES}
        self.titles: dict[CropClass, QLabel] = {kind: QLabel() for kind in CLASSES}
        self.reasons = QLabel()
        self.reasons.setWordWrap(True)
        self._make_buttons()
        self._lay_out()
        for grid in self.grids.values():
            grid.chosen.connect(self._on_chosen)
            grid.moved.connect(self.move_crops)
            grid.undo_wanted.connect(self.undo_last)
        self.order.currentIndexChanged.connect(self.refill)
        shelf.replaced.connect(self._on_replaced)
        shelf.changed.connect(self.refill)
        self.refill()

    def _make_buttons(self) -> None:
        self.open, self.save = QPushButton("Open…"), QPushButton("Save")
        self.save_as, self.sheet, self.clear = QPushButton("Save as…"), QPushButton("Sheet…"), QPushButton("New")
        self.open.setToolTip("Open a folder of crops, to look through it and to edit it.")
        self.save.setToolTip("Write the library into its folder again.")
        self.save_as.setToolTip("Write the library as a new folder of TIFF files with a table.")
        self.sheet.setToolTip("Save a picture of what is in each class (PNG).")
        self.clear.setToolTip("Begin an empty library.")
        for button, signal in ((self.open, self.open_wanted), (self.save, self.save_wanted),
                               (self.save_as, self.save_as_wanted), (self.sheet, self.sheet_wanted),
                               (self.clear, self.clear_wanted)):  # fmt: skip
            button.clicked.connect(signal)
        self.to: dict[CropClass, QPushButton] = {}
        for kind, title, key in _BUTTONS:
            button = QPushButton(title)
            button.setToolTip(f"Move the selected crops there (key {key}).")
            button.setProperty("kind", kind)
            button.clicked.connect(self._on_to)
            self.to[kind] = button
        self.undo = QPushButton("Undo")
        self.undo.setToolTip("Take the last change back (Ctrl+Z in the thumbnails).")
        self.undo.clicked.connect(self.undo_last)

    def _lay_out(self) -> None:
        files, moves = QGridLayout(), QHBoxLayout()
        for i, button in enumerate((self.open, self.save, self.save_as, self.sheet, self.clear)):
            files.addWidget(button, i // 3, i % 3)
        for button in (*self.to.values(), self.undo):
            moves.addWidget(button, 1)
        splitter = QSplitter(Qt.Orientation.Vertical)
        splitter.setChildrenCollapsible(False)
        for kind, grid in self.grids.items():
            part = QWidget()
            column = QVBoxLayout(part)
            column.setContentsMargins(0, 0, 0, 0)
            column.setSpacing(2)
            column.addWidget(self.titles[kind])
            if kind == "discarded":
                column.addWidget(self.reasons)
            column.addWidget(grid, 1)
            splitter.addWidget(part)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addLayout(files)
        layout.addWidget(self.state)
        layout.addWidget(self.advice)
        row = QHBoxLayout()
        row.addWidget(QLabel("Order"))
        row.addWidget(self.order, 1)
        layout.addLayout(row)
        layout.addWidget(splitter, 1)
        layout.addWidget(self.about)
        layout.addLayout(moves)

    def show_error(self, message: str) -> None:
        """Show a sentence that must be seen."""
        self.about.setText(alarm(message))

    # --- what it shows ------------------------------------------------------------------

    @guarded
    def _on_replaced(self) -> None:
        self.thumbnails.replace(self._shelf.collection)

    @guarded
    def refill(self) -> None:
        """Show the library as it is now."""
        library = self._shelf.collection
        for kind, grid in self.grids.items():
            grid.show_crops(library.objects, in_order(library.objects, kind, self.order.currentData()))
            self.titles[kind].setText(
                f'<b style="color:{CLASS_COLOURS[kind]}">{_TITLES[kind]}</b> · {len(grid.numbers)}'
            )
        why = left_out(library)
        self.reasons.setText(why)
        self.reasons.setVisible(bool(why))
        state = state_sentence(self._shelf)
        self.state.setText(state if self._shelf.is_saved else alarm(state))
        hint = advice(library)
        self.advice.setText(hint)
        self.advice.setVisible(bool(hint))
        has_objects = bool(library.objects)
        for button in (self.save_as, self.sheet):
            button.setEnabled(has_objects)
        self.save.setEnabled(has_objects and not self._shelf.is_saved)
        self.clear.setEnabled(has_objects)
        self.undo.setEnabled(self._shelf.can_undo)
        self._on_chosen(self.selected())

    def selected(self) -> list[int]:
        """Numbers of the crops that are selected, of one class."""
        return next((numbers for grid in self.grids.values() if (numbers := grid.selected())), [])

    # --- slots --------------------------------------------------------------------------

    @guarded
    def _on_chosen(self, numbers: list[int]) -> None:
        sender: Any = self.sender()
        if numbers and isinstance(sender, CropGrid):
            for grid in self.grids.values():
                if grid is not sender and grid.selected():
                    grid.clearSelection()
        numbers = numbers or self.selected()
        objects = [self._shelf.collection.objects[number] for number in numbers]
        if len(objects) == 1:
            self.about.setText(crop_sentence(objects[0]))
        elif objects:
            self.about.setText(f"{len(objects)} crops are selected.")
        else:
            self.about.setText("Click a crop: what is known of it, and its place in the image. Drag it to move it.")
        for kind, button in self.to.items():
            button.setEnabled(any(one.kind != kind for one in objects))
        self.looked_at.emit(objects)

    @guarded
    def _on_to(self) -> None:
        sender: Any = self.sender()
        self.move_crops(self.selected(), sender.property("kind"))

    @guarded
    def move_crops(self, numbers: list[int], kind: CropClass) -> None:
        """Put crops into a class."""
        n_moved = self._shelf.move(list(numbers), kind) if numbers else 0
        if n_moved:
            self.told.emit(f"{n_moved} {'crop is' if n_moved == 1 else 'crops are'} {CLASS_WORDS[kind]} now.")

    @guarded
    def undo_last(self) -> None:
        """Take the last change back."""
        self._shelf.undo()
