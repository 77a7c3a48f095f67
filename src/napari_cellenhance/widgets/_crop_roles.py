"""A table of things and what each of them stands for: values of a Labels layer, Points or Shapes layers."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QGridLayout, QLabel, QSizePolicy, QWidget

from napari_cellenhance.widgets._forms import describe

__all__ = ["NOT_USED", "RoleTable", "Thing"]

NOT_USED = ""
Thing = tuple[Hashable, str]
"""What is told apart, and its name."""


class RoleTable(QWidget):
    """One row for each thing, with a box for its role. ``changed`` comes when a role is chosen.

    Parameters
    ----------
    roles : sequence of (str, str)
        Title and key of each role.
    tip : str
    """

    changed = Signal()

    def __init__(self, roles: Sequence[tuple[str, str]], tip: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._roles = tuple(roles)
        self._tip = tip
        self._boxes: dict[Hashable, QComboBox] = {}
        self._chosen: dict[Hashable, str] = {}
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setColumnStretch(1, 1)

    def fill(self, things: Sequence[Thing], proposals: Mapping[Any, str]) -> None:
        """Show these things; a role that somebody has chosen stays, others are proposed."""
        while (item := self._grid.takeAt(0)) is not None:
            if (widget := item.widget()) is not None:
                widget.hide()
                widget.deleteLater()
        self._boxes = {}
        self._chosen = {key: role for key, role in self._chosen.items() if key in dict(things)}
        for row, (key, name) in enumerate(things):
            label, box = QLabel(name), QComboBox()
            label.setToolTip(name)
            label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
            for title, role in self._roles:
                box.addItem(title, role)
            describe(box, f"Class of {name}", self._tip)
            box.setCurrentIndex(max(0, box.findData(self._chosen.get(key, proposals.get(key, NOT_USED)))))
            box.activated.connect(self._on_activated)
            self._grid.addWidget(label, row, 0)
            self._grid.addWidget(box, row, 1)
            self._boxes[key] = box
        self._grid.setColumnStretch(0, 1)

    def roles(self) -> dict[Any, Any]:
        """Role of each thing that is used."""
        return {key: box.currentData() for key, box in self._boxes.items() if box.currentData() != NOT_USED}

    def choose(self, key: Hashable, role: str) -> None:
        """Choose a role, as a person would."""
        self._boxes[key].setCurrentIndex(self._boxes[key].findData(role))
        self._on_activated()

    def _on_activated(self) -> None:
        self._chosen |= {key: box.currentData() for key, box in self._boxes.items()}
        self.changed.emit()
