"""The classes: label, colour, name and paint of each; a click chooses the class that is painted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap, QShowEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QColorDialog,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_cellenhance.core.painted import MIN_CLASS_PX
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._plot_paint import PALETTE

__all__ = ["ClassLook", "ClassTable", "default_look", "looks_of", "paint_problem"]

EXPLAINED = "0 = not painted, 1 = background, 2, 3, … = your classes. Begin with a few strokes of each."
_LABEL, _COLOR, _NAME, _PAINTED = range(4)
_HEADERS = ("Label", "Colour", "Name", "Painted")
_TIPS = (
    "Number of the class in the Labels layer. Click to paint with it.",
    "Double-click to choose another colour.",
    "Double-click to rename the class.",
    "Painted pixels on all chosen images; a few hundred of each class are a good begin.",
)
_N_ROWS = 6
_HEX = re.compile(r"^#[0-9a-fA-F]{6}$")


@dataclass(frozen=True, slots=True)
class ClassLook:
    """Name and colour of a class."""

    name: str
    color: str


def default_look(value: int) -> ClassLook:
    """Name and colour of a class that has none yet.

    >>> default_look(1), default_look(3).name
    (ClassLook(name='background', color='#0072b2'), 'class 3')
    """
    names = {1: "background", 2: "cells"}
    return ClassLook(names.get(value, f"class {value}"), PALETTE[(value - 1) % len(PALETTE)])


def paint_problem(counts: Mapping[int, int], names: Mapping[int, str]) -> str:
    """Say what paint is missing; empty when there is enough to learn from.

    >>> paint_problem({1: 300, 2: 400}, {}), paint_problem({1: 300}, {1: "background"})
    ('', 'Only “background” is painted: paint some of another class too.')
    """
    painted = {value: number for value, number in sorted(counts.items()) if number}
    titles = {value: names.get(value, default_look(value).name) for value in painted}
    if not painted:
        return "Nothing is painted yet: paint some background with label 1 and some cells with label 2."
    if len(painted) == 1:
        return f"Only “{next(iter(titles.values()))}” is painted: paint some of another class too."
    for value, number in painted.items():
        if number < MIN_CLASS_PX:
            return f"The strokes of “{titles[value]}” are too small ({number} px): paint at least {MIN_CLASS_PX} px."
    return ""


class ClassTable(QWidget):
    """Table of the classes. Holds their names and colours, and no pixel."""

    changed = Signal()
    chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._looks = {value: default_look(value) for value in (1, 2)}
        self._counts: Mapping[int, int] = {}
        self.table = QTableWidget(0, len(_HEADERS))
        self.table.setAccessibleName("Classes")
        self.table.setToolTip("Click a class to paint with it; double-click its name or colour to change it.")
        self.table.setHorizontalHeaderLabels(list(_HEADERS))
        self.table.setIconSize(QSize(28, 14))
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.DoubleClicked)
        self.table.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._dress_headers()
        self.add = QPushButton("Add class")
        self.add.setToolTip("Add one more class, with the next free label.")
        self.text = QLabel(EXPLAINED)
        self.text.setWordWrap(True)
        row = QHBoxLayout()
        row.addWidget(self.add)
        row.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.text)
        layout.addWidget(self.table)
        layout.addLayout(row)
        self.add.clicked.connect(self.add_class)
        self.table.itemChanged.connect(self._on_edited)
        self.table.cellClicked.connect(self._on_clicked)
        self.table.cellDoubleClicked.connect(self._on_double_clicked)
        self._fill()

    def _dress_headers(self) -> None:
        header = QHeaderView(Qt.Orientation.Horizontal)
        self.table.setHorizontalHeader(header)
        for column, tip in enumerate(_TIPS):
            item = self.table.horizontalHeaderItem(column)
            if item is not None:
                item.setToolTip(tip)
            stretches = column == _NAME
            mode = QHeaderView.ResizeMode.Stretch if stretches else QHeaderView.ResizeMode.ResizeToContents
            header.setSectionResizeMode(column, mode)
        upright = QHeaderView(Qt.Orientation.Vertical)
        self.table.setVerticalHeader(upright)
        upright.setVisible(False)
        self._header = header

    # --- what it says -------------------------------------------------------------------

    @property
    def looks(self) -> dict[int, ClassLook]:
        """Name and colour of each class, by label."""
        return dict(self._looks)

    @property
    def names(self) -> dict[int, str]:
        """Name of each class."""
        return {value: look.name for value, look in self._looks.items()}

    @property
    def colors(self) -> dict[int, str]:
        """Colour of each class, ``#rrggbb``."""
        return {value: look.color for value, look in self._looks.items()}

    def current(self) -> int:
        """Label that is highlighted; 2 if none is."""
        row = self.table.currentRow()
        values = list(self._looks)
        return values[row] if 0 <= row < len(values) else 2

    # --- what it is told ----------------------------------------------------------------

    def take(self, looks: Mapping[int, ClassLook]) -> None:
        """Take over names and colours that were given earlier."""
        self._looks = dict(sorted({**self._looks, **looks}.items()))
        self._fill()

    def set_counts(self, counts: Mapping[int, int]) -> None:
        """Show the paint; labels that are new get a row."""
        self._counts = dict(counts)
        new = {value: default_look(value) for value in counts if value not in self._looks}
        if new:
            self.take(new)
            self.changed.emit()
            return
        for row, value in enumerate(self._looks):
            self._item(row, _PAINTED).setText(self._painted(value))

    def highlight(self, value: int) -> None:
        """Highlight the class that the viewer paints with."""
        if value in self._looks:
            row = list(self._looks).index(value)
            if row != self.table.currentRow():
                self.table.selectRow(row)

    # --- slots --------------------------------------------------------------------------

    def show_error(self, message: str) -> None:
        """Show a sentence in place of the explanation."""
        self.text.setText(message)

    @guarded
    def add_class(self) -> None:
        """Add a row with the next free label, and choose it."""
        value = max(self._looks) + 1
        self.take({value: default_look(value)})
        self.highlight(value)
        self.changed.emit()
        self.chosen.emit(value)

    @guarded
    def _on_clicked(self, row: int, _column: int) -> None:
        self.chosen.emit(list(self._looks)[row])

    @guarded
    def _on_double_clicked(self, row: int, column: int) -> None:
        if column != _COLOR:
            return
        value = list(self._looks)[row]
        color = QColorDialog.getColor(QColor(self._looks[value].color), self, f"Colour of “{self._looks[value].name}”")
        if color.isValid():
            self.set_look(value, replace(self._looks[value], color=color.name()))

    @guarded
    def _on_edited(self, item: QTableWidgetItem) -> None:
        if item.column() != _NAME:
            return
        value = list(self._looks)[item.row()]
        name = " ".join(item.text().split())
        self.set_look(value, replace(self._looks[value], name=name or default_look(value).name))

    def set_look(self, value: int, look: ClassLook) -> None:
        """Rename or recolour a class."""
        if self._looks.get(value) == look:
            return
        self._looks[value] = look
        self._fill()
        self.changed.emit()

    def showEvent(self, event: QShowEvent | None) -> None:
        """Fit the table once its rows have the height of the theme."""
        super().showEvent(event)
        self._fit_height()

    # --- drawing ------------------------------------------------------------------------

    def _painted(self, value: int) -> str:
        number = self._counts.get(value, 0)
        return f"{number:,} px".replace(",", "\u2009") if number else "–"

    def _item(self, row: int, column: int) -> QTableWidgetItem:
        item = self.table.item(row, column)
        assert item is not None  # every cell was filled
        return item

    def _fill(self) -> None:
        current = self.current()
        was_blocked = self.table.blockSignals(True)
        self.table.setRowCount(len(self._looks))
        for row, (value, look) in enumerate(self._looks.items()):
            cells = (str(value), "", look.name, self._painted(value))
            for column, text in enumerate(cells):
                self.table.setItem(row, column, _cell(text, column, look))
        self.table.setCurrentCell(list(self._looks).index(current) if current in self._looks else 0, _NAME)
        self.table.blockSignals(was_blocked)
        self._fit_height()

    def _fit_height(self) -> None:
        rows = min(_N_ROWS, self.table.rowCount())
        height = sum(self.table.rowHeight(row) for row in range(rows))
        self.table.setFixedHeight(height + self._header.sizeHint().height() + 2 * self.table.frameWidth() + 2)


def _cell(text: str, column: int, look: ClassLook) -> QTableWidgetItem:
    item = QTableWidgetItem(text)
    item.setToolTip(_TIPS[column])
    flags: Any = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
    item.setFlags(flags | Qt.ItemFlag.ItemIsEditable if column == _NAME else flags)
    if column == _COLOR:
        item.setIcon(_swatch(look.color))
        item.setData(Qt.ItemDataRole.AccessibleTextRole, look.color)
    if column in (_LABEL, _PAINTED):
        item.setTextAlignment(Qt.AlignmentFlag.AlignCenter)
    return item


def _swatch(color: str) -> QIcon:
    """A patch of a colour that looks the same in a selected row."""
    pixels = QPixmap(28, 14)
    pixels.fill(QColor(color))
    icon = QIcon()
    for mode in (QIcon.Mode.Normal, QIcon.Mode.Selected, QIcon.Mode.Active):
        icon.addPixmap(pixels, mode)
    return icon


def looks_of(stored: Any) -> dict[int, ClassLook]:
    """Names and colours out of the metadata of a paint layer; what cannot be read is left out."""
    found: dict[int, ClassLook] = {}
    for value, look in stored.items() if isinstance(stored, Mapping) else ():
        parts = list(look) if isinstance(look, Iterable) and not isinstance(look, str) else []
        if str(value).isdigit() and int(value) > 0 and len(parts) == 2 and _HEX.match(str(parts[1])):
            found[int(value)] = ClassLook(str(parts[0]), str(parts[1]))
    return found
