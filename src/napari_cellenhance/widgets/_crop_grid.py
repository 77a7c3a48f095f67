"""Thumbnails of one class; a picture is made when it comes into sight, so that thousands of crops cost nothing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from qtpy.QtCore import QAbstractListModel, QByteArray, QMimeData, QModelIndex, QSize, Qt, Signal
from qtpy.QtGui import QDragEnterEvent, QDragMoveEvent, QDropEvent, QKeyEvent, QKeySequence, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QListView, QWidget

from napari_cellenhance.core.crop_library import CropClass, CropLibrary, FoundObject
from napari_cellenhance.io.crop_sheets import common_side_px, square_of, white_of_sources
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._train_view import grey_image
from napari_cellenhance.workflows.crop_finding import CLASS_WORDS

__all__ = ["CropGrid", "Thumbnails", "caption", "crop_sentence", "numbers_of"]

MIME = "application/x-cellenhance-crops"
ICON_PX = 56
_MAX_PICTURES = 3000
_KEYS: Mapping[Any, CropClass] = {
    Qt.Key.Key_W: "target", Qt.Key.Key_N: "unwanted", Qt.Key.Key_Delete: "discarded", Qt.Key.Key_Backspace: "discarded",
}  # fmt: skip


def caption(one: FoundObject) -> str:
    """Short text below a thumbnail: the focus score, else the size."""
    return f"{one.score:.3g}" if np.isfinite(one.score) else f"{one.crop.area_px} px"


def crop_sentence(one: FoundObject) -> str:
    """Say where a crop comes from, how large and sharp it is, and why it was thrown out.

    Returns
    -------
    str
        As "cells · rows 12–40, columns 55–83 · 423 px · score 0.034 · thrown out: too small".
    """
    crop = one.crop
    y0, x0, y1, x1 = crop.box
    parts = [crop.source]
    if crop.frame:
        parts.append(f"time {crop.frame}")
    parts += [f"rows {y0}–{y1 - 1}, columns {x0}–{x1 - 1}", f"{crop.area_px} px"]
    if np.isfinite(one.score):
        parts.append(f"score {one.score:.3g}")
    if crop.track is not None:
        parts.append(f"cell {crop.track}")
    parts.append(CLASS_WORDS[one.kind] + (f": {one.reason}" if one.reason else ""))
    return " · ".join(parts)


class Thumbnails:
    """Pictures of crops, those of one image on one scale; the ones that were asked for lately are kept."""

    def __init__(self) -> None:
        self._pictures: OrderedDict[int, tuple[FoundObject, QPixmap]] = OrderedDict()
        self._white: dict[str, float] = {}
        self._side = 2

    def replace(self, library: CropLibrary) -> None:
        """Show another library: sizes and brightness refer to it."""
        self._pictures.clear()
        self._white = white_of_sources(library)
        self._side = common_side_px(library)

    @property
    def n_made(self) -> int:
        """Pictures that are kept."""
        return len(self._pictures)

    def of(self, one: FoundObject) -> QPixmap:
        """Picture of a crop on black, as large as its neighbours' pictures."""
        key = id(one.crop)
        if key in self._pictures:
            self._pictures.move_to_end(key)
            return self._pictures[key][1]
        image = grey_image(square_of(one, self._side) / np.float32(self._white[one.crop.source]))
        mode = Qt.TransformationMode.SmoothTransformation
        picture = QPixmap.fromImage(image).scaled(ICON_PX, ICON_PX, Qt.AspectRatioMode.KeepAspectRatio, mode)
        self._pictures[key] = (one, picture)
        if len(self._pictures) > _MAX_PICTURES:
            self._pictures.popitem(last=False)
        return picture


class _Crops(QAbstractListModel):
    """Objects of one class."""

    def __init__(self, thumbnails: Thumbnails, parent: Any = None) -> None:
        super().__init__(parent)
        self._thumbnails = thumbnails
        self.objects: tuple[FoundObject, ...] = ()
        self.numbers: list[int] = []

    def show(self, objects: tuple[FoundObject, ...], numbers: Sequence[int]) -> None:
        self.beginResetModel()
        self.objects, self.numbers = objects, list(numbers)
        self.endResetModel()

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802
        return 0 if parent is not None and parent.isValid() else len(self.numbers)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if not (index.isValid() and index.row() < len(self.numbers)):
            return None
        one = self.objects[self.numbers[index.row()]]
        if role == Qt.ItemDataRole.DecorationRole:
            return self._thumbnails.of(one)
        if role == Qt.ItemDataRole.DisplayRole:
            return caption(one)
        if role in (Qt.ItemDataRole.ToolTipRole, Qt.ItemDataRole.AccessibleTextRole):
            return crop_sentence(one)
        return None

    def flags(self, index: QModelIndex) -> Any:
        kept = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable | Qt.ItemFlag.ItemIsDragEnabled
        return kept if index.isValid() else Qt.ItemFlag.ItemIsDropEnabled

    def supportedDragActions(self) -> Any:  # noqa: N802
        return Qt.DropAction.CopyAction  # the shelf moves them, not Qt

    def mimeTypes(self) -> list[str]:  # noqa: N802
        return [MIME]

    def mimeData(self, indexes: Any) -> QMimeData:  # noqa: N802
        data = QMimeData()
        numbers = sorted({self.numbers[index.row()] for index in indexes})
        data.setData(MIME, QByteArray(np.array(numbers, np.int64).tobytes()))
        return data


def numbers_of(data: QMimeData | None) -> list[int]:
    """Numbers of the crops that are dragged; empty for anything else."""
    if data is None or not data.hasFormat(MIME):
        return []
    return [int(number) for number in np.frombuffer(bytes(data.data(MIME).data()), np.int64)]


class CropGrid(QListView):
    """Thumbnails of one class, side by side.

    Signals: ``chosen`` with the numbers that are selected; ``moved`` with numbers and a class, when crops are dropped
    here or a key sends the selected ones elsewhere; ``undo_wanted``.
    """

    chosen = Signal(object)
    moved = Signal(object, str)
    undo_wanted = Signal()

    def __init__(self, kind: CropClass, thumbnails: Thumbnails, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.kind: CropClass = kind
        self._crops = _Crops(thumbnails, self)
        self.setModel(self._crops)
        self.setViewMode(QListView.ViewMode.IconMode)
        self.setResizeMode(QListView.ResizeMode.Adjust)
        self.setMovement(QListView.Movement.Static)
        self.setUniformItemSizes(True)
        self.setLayoutMode(QListView.LayoutMode.Batched)
        self.setIconSize(QSize(ICON_PX, ICON_PX))
        self.setGridSize(QSize(ICON_PX + 8, ICON_PX + self.fontMetrics().height() + 8))
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setDragEnabled(True)
        self.setAcceptDrops(True)
        self.setDragDropMode(QAbstractItemView.DragDropMode.DragDrop)
        self.setAccessibleName(f"Crops that are {CLASS_WORDS[kind]}")
        self.setToolTip(
            "Drag crops to another class, or press W (wanted), N (not wanted) or Del (throw out); Ctrl+Z takes it back."
        )
        selection = self.selectionModel()
        assert selection is not None  # there is a model
        selection.selectionChanged.connect(self._on_selection)

    def show_error(self, message: str) -> None:
        """Show it as the tip: the panel has the place for sentences."""
        self.setToolTip(message)

    # --- what it shows ------------------------------------------------------------------

    @property
    def numbers(self) -> list[int]:
        """Positions in the library, in the order shown."""
        return list(self._crops.numbers)

    def show_crops(self, objects: tuple[FoundObject, ...], numbers: Sequence[int]) -> None:
        """Show these objects; after a move by keyboard the next crop is selected, so that one can go on."""
        row = self.currentIndex().row()
        self._crops.show(objects, numbers)
        if self.hasFocus() and row >= 0 and numbers:
            self.setCurrentIndex(self._crops.index(min(row, len(numbers) - 1)))

    def selected(self) -> list[int]:
        """Numbers of the selected crops."""
        return sorted(self._crops.numbers[index.row()] for index in self.selectedIndexes())

    def select(self, numbers: Sequence[int]) -> None:
        """Select crops, as a click does."""
        self.clearSelection()
        selection = self.selectionModel()
        assert selection is not None
        for number in numbers:
            index = self._crops.index(self._crops.numbers.index(number))
            selection.select(index, selection.SelectionFlag.Select)

    @guarded
    def _on_selection(self) -> None:
        self.chosen.emit(self.selected())

    # --- moving -------------------------------------------------------------------------

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Send the selected crops elsewhere."""
        if event is None:
            return
        kind = _KEYS.get(Qt.Key(event.key()))
        if event.matches(QKeySequence.StandardKey.Undo):
            self.undo_wanted.emit()
        elif kind is not None and not event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            self.moved.emit(self.selected(), kind)
        else:
            super().keyPressEvent(event)

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:
        """Take crops only."""
        self._take_crops(event)

    def dragMoveEvent(self, event: QDragMoveEvent | None) -> None:
        """Take crops only."""
        self._take_crops(event)

    def _take_crops(self, event: Any) -> None:
        if event is not None:
            if numbers_of(event.mimeData()) and event.source() is not self:
                event.acceptProposedAction()
            else:
                event.ignore()

    def dropEvent(self, event: QDropEvent | None) -> None:
        """Bring crops to this class."""
        numbers = [] if event is None else numbers_of(event.mimeData())
        if event is not None and numbers and event.source() is not self:
            event.acceptProposedAction()
            self.moved.emit(numbers, self.kind)
