"""Where a result goes: into memory, or block by block into an OME-Zarr on the disk."""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QLabel, QLineEdit, QPushButton, QVBoxLayout, QWidget

from napari_cellenhance.widgets._forms import describe, new_form
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._layers import Choices, LayerView, offset_of

__all__ = ["DiskChoice", "default_folder", "disk_problem", "is_lazy", "offers_disk", "result_mb"]

_WAYS = (("In memory", "memory"), ("On disk (OME-Zarr)", "disk"))
_FOLDER = "cellenhance-results"


def is_lazy(view: LayerView) -> bool:
    """Whether the pixels of a layer lie elsewhere than in memory, or in several resolutions."""
    data = view.levels[0]
    return len(view.levels) > 1 or not isinstance(data, np.ndarray) or isinstance(data, np.memmap)


def result_mb(view: LayerView, choices: Choices) -> float:
    """Size of the enhanced scope in memory, in MB."""
    n = math.prod(
        len(range(length)[part]) for part, length in zip(offset_of(view, choices), view.shape, strict=True)
    )  # fmt: skip
    return n * 4 / 1e6


def offers_disk(view: LayerView | None, choices: Choices | None, large_from_mb: int) -> bool:
    """Whether a result may go to the disk: of lazy layers and of large ones, but not of a window."""
    if view is None or choices is None or choices.scope == "view" or len(choices.axes) != len(view.shape):
        return False
    return is_lazy(view) or result_mb(view, choices) > large_from_mb


def needs_memory(choices: Choices) -> bool:
    """Whether something is asked for that needs the whole image at once."""
    is_li = choices.segment is not None and choices.segment.method == "li"
    return is_li or choices.blobs is not None or choices.strength_map is not None


def disk_problem(choices: Choices) -> str:
    """Why these choices cannot go to the disk; empty when they can."""
    if needs_memory(choices):
        return (
            "Blobs, Li's threshold and strengths by region need the whole image in memory: choose Result ▸ In memory, "
            "or do without them here."
        )
    return ""


def default_folder(layer: Any) -> Path:
    """Folder for results beside the file of a layer; in the temporary folder where there is none to write beside."""
    source = getattr(getattr(layer, "source", None), "path", None)
    if source and "://" not in str(source):
        parent = Path(str(source)).absolute().parent
        if parent.is_dir() and os.access(parent, os.W_OK):
            return parent / _FOLDER
    return Path(tempfile.gettempdir()) / _FOLDER


class DiskChoice(QWidget):
    """Memory or disk, and the folder; shown where the disk is offered. What the user chose stays for that layer."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._is_by_hand = False
        self._default = Path(tempfile.gettempdir()) / _FOLDER
        self.way = QComboBox()
        for title, data in _WAYS:
            self.way.addItem(title, data)
        describe(
            self.way, "Result",
            "On disk: the image is read and written block by block, never as a whole, and the result opens while it "
            "is written. In memory: as a layer that is lost when napari closes.",
        )  # fmt: skip
        self.folder = QLineEdit()
        describe(self.folder, "Folder", "")
        self.choose = QPushButton("…")
        self.choose.setAccessibleName("Choose the folder")
        self.choose.setToolTip("Choose the folder that the OME-Zarr is written to.")
        self.choose.setMaximumWidth(40)
        self.note = QLabel()
        self.note.setWordWrap(True)
        row = QHBoxLayout()
        row.addWidget(self.folder, 1)
        row.addWidget(self.choose)
        self._form = new_form()
        self._form.addRow("Result", self.way)
        self._form.addRow("Folder", row)
        self._row = row
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(self._form)
        layout.addWidget(self.note)
        self.way.activated.connect(self._on_way)
        self.choose.clicked.connect(self._on_choose)
        self.folder.textEdited.connect(self._tell)
        self.setVisible(False)
        self.show_layer(None)

    @property
    def is_on_disk(self) -> bool:
        """Whether the disk is offered and chosen."""
        return not self.isHidden() and self.way.currentData() == "disk"

    @property
    def place(self) -> Path:
        """The folder."""
        text = self.folder.text().strip()
        return Path(text).expanduser() if text else self._default

    def show_layer(self, layer: Any) -> None:
        """Another layer: its folder, and no choice by hand yet."""
        self._is_by_hand = False
        self._default = default_folder(layer)
        self.folder.setPlaceholderText(str(self._default))
        self.folder.setToolTip(f"Folder that the OME-Zarr is written to; empty takes {self._default}.")

    def show_choices(self, view: LayerView | None, choices: Choices | None, large_from_mb: int) -> None:
        """Offer the disk, or not, and say how much it will take."""
        is_offered = offers_disk(view, choices, large_from_mb)
        self.setVisible(is_offered)
        if not is_offered or view is None or choices is None:
            return
        size_mb = result_mb(view, choices)
        if not self._is_by_hand:
            fits = size_mb <= large_from_mb and needs_memory(choices)
            self.way.setCurrentIndex(self.way.findData("memory" if fits else "disk"))
        is_disk = self.way.currentData() == "disk"
        self._form.setRowVisible(self._row, is_disk)
        size = f"{size_mb / 1000:.1f} GB" if size_mb >= 1000 else f"{max(1, round(size_mb))} MB"
        much = f"up to {size}, read and written block by block" if is_disk else f"{size} for the result alone"
        self.note.setText(f"{much[0].upper()}{much[1:]}.")

    def show_error(self, message: str) -> None:
        """Show the reason in place of the size."""
        self.note.setText(message)

    def _on_way(self) -> None:
        self._is_by_hand = True
        self.changed.emit()

    @guarded
    def _on_choose(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder for the OME-Zarr", str(self.place))
        if folder:
            self.folder.setText(folder)
            self.changed.emit()

    def _tell(self) -> None:
        self.changed.emit()
