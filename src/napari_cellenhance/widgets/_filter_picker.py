"""A combo box of filters, grouped."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QStandardItem, QStandardItemModel
from qtpy.QtWidgets import QApplication, QComboBox, QSizePolicy, QWidget

from napari_cellenhance.core.recipes.protocol import FilterInfo

__all__ = ["FilterPicker", "grouped", "refill_all"]


def grouped(filters: Sequence[FilterInfo]) -> list[tuple[str, list[FilterInfo]]]:
    """Filters under their group names, in order of appearance."""
    groups: dict[str, list[FilterInfo]] = {}
    for info in filters:
        groups.setdefault(info.group, []).append(info)
    return list(groups.items())


def refill_all(filters: Sequence[FilterInfo]) -> int:
    """Let every open list of filters show ``filters``, in whatever dock it is; returns how many there were."""
    app = QApplication.instance()
    pickers = [w for w in app.allWidgets() if isinstance(w, FilterPicker)] if isinstance(app, QApplication) else []
    for picker in pickers:
        picker.refill(filters)
    return len(pickers)


def filter_tooltip(info: FilterInfo) -> str:
    """Explain a filter: what it does, and where it comes from."""
    return f"{info.summary}\n\n{info.reference}" if info.reference else info.summary


class FilterPicker(QComboBox):
    """Choose a filter; selecting neither downloads nor computes anything."""

    picked = Signal(object)

    def __init__(self, filters: Sequence[FilterInfo], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._by_row: dict[int, FilterInfo] = {}
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        self.setAccessibleName("Filter")
        self._fill(filters)
        if self._by_row:
            self.setCurrentIndex(next(iter(self._by_row)))
        self._explain()
        self.currentIndexChanged.connect(self._on_changed)

    def _fill(self, filters: Sequence[FilterInfo]) -> None:
        self._by_row = {}
        model = QStandardItemModel(self)
        for group, members in grouped(filters):
            header = QStandardItem(group)
            header.setFlags(Qt.ItemFlag.NoItemFlags)
            font = header.font()
            font.setBold(True)
            header.setFont(font)
            model.appendRow(header)
            for info in members:
                item = QStandardItem(f"  {info.title}")
                item.setToolTip(filter_tooltip(info))
                self._by_row[model.rowCount()] = info
                model.appendRow(item)
        self.setModel(model)

    def refill(self, filters: Sequence[FilterInfo]) -> None:
        """List these filters; the chosen one stays chosen, and is told again only if its card changed."""
        chosen = self.info()
        was_blocked = self.blockSignals(True)
        self._fill(filters)
        known = {info.id: row for row, info in self._by_row.items()}
        first = next(iter(self._by_row), -1)
        self.setCurrentIndex(first if chosen is None else known.get(chosen.id, first))
        self.blockSignals(was_blocked)
        self._explain()
        if (info := self.info()) is not None and info != chosen:
            self.picked.emit(info)

    def info(self) -> FilterInfo | None:
        """The chosen filter; None when there is none at all."""
        return self._by_row.get(self.currentIndex())

    def choose(self, filter_id: str) -> None:
        """Choose a filter by id, if it is listed."""
        for row, info in self._by_row.items():
            if info.id == filter_id:
                self.setCurrentIndex(row)

    def _on_changed(self, _row: int) -> None:
        self._explain()
        if (info := self.info()) is not None:
            self.picked.emit(info)

    def _explain(self) -> None:
        info = self.info()
        self.setToolTip("No filter was found." if info is None else filter_tooltip(info))
