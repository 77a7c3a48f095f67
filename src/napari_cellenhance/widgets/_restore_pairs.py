"""Pairs of layers that show the same place: which is the poor one, which the clean one."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QGridLayout, QHBoxLayout, QLabel, QPushButton, QToolButton, QVBoxLayout, QWidget

from napari_cellenhance.core.errors import CellEnhanceError
from napari_cellenhance.widgets._guard import error_sentence, guarded
from napari_cellenhance.widgets._layer_picker import image_layers
from napari_cellenhance.widgets._layers import axes_of, snapshot
from napari_cellenhance.widgets._restore_layer_form import rgb_problem
from napari_cellenhance.widgets._viewer_combo import ViewerCombo
from napari_cellenhance.workflows.care_pairs import PairedLayers
from napari_cellenhance.workflows.noisy_images import NoisyLayer

__all__ = ["PairList"]

_NONE = "choose…"


class PairRow(QWidget):
    """One pair.

    Parameters
    ----------
    viewer : ViewerModel
    """

    changed = Signal()
    removed = Signal(object)

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.poor = ViewerCombo(
            viewer, image_layers, name="Poor image", tip="The image as it should not be: dim, noisy, blurred.",
            first=_NONE,
        )  # fmt: skip
        self.clean = ViewerCombo(
            viewer, image_layers, name="Clean image", tip="The same place, as it should look.", first=_NONE
        )
        self.remove = QToolButton()
        self.remove.setText("✕")
        self.remove.setToolTip("Take this pair out of the list; the layers stay.")
        self.remove.setAccessibleName("Remove the pair")
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 4)
        grid.addWidget(QLabel("Poor"), 0, 0)
        grid.addWidget(self.poor, 0, 1)
        grid.addWidget(QLabel("Clean"), 1, 0)
        grid.addWidget(self.clean, 1, 1)
        grid.addWidget(self.remove, 0, 2, 2, 1)
        grid.setColumnStretch(1, 1)
        for combo in (self.poor, self.clean):
            combo.picked.connect(self._tell)
        self.remove.clicked.connect(self._remove)

    def layers(self) -> tuple[Any, Any]:
        """Poor and clean layer, or None."""
        return self.poor.layer(), self.clean.layer()

    def _tell(self) -> None:
        self.changed.emit()

    def _remove(self) -> None:
        self.removed.emit(self)

    def release(self) -> None:
        """Stop following the viewer."""
        self.poor.release()
        self.clean.release()


class PairList(QWidget):
    """One pair or more.

    Parameters
    ----------
    viewer : ViewerModel
    """

    changed = Signal()

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.rows: list[PairRow] = []
        self.add = QPushButton("Add a pair")
        self.add.setToolTip("Learn from one more pair of layers.")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._column = QVBoxLayout()
        layout.addLayout(self._column)
        row = QHBoxLayout()
        row.addWidget(self.add)
        row.addStretch(1)
        layout.addLayout(row)
        self.add.clicked.connect(self.add_row)
        self.add_row()

    @guarded
    def add_row(self) -> None:
        """Add an empty pair."""
        row = PairRow(self._viewer)
        row.changed.connect(self._tell)
        row.removed.connect(self.remove_row)
        self.rows.append(row)
        self._column.addWidget(row)
        self._on_rows()

    @guarded
    def remove_row(self, row: PairRow) -> None:
        """Take a pair away; the last one stays."""
        if row in self.rows and len(self.rows) > 1:
            self.rows.remove(row)
            row.release()
            self._column.removeWidget(row)
            row.setParent(None)
            row.deleteLater()
            self._on_rows()

    def _on_rows(self) -> None:
        for row in self.rows:
            row.remove.setVisible(len(self.rows) > 1)
        self.changed.emit()

    def _tell(self) -> None:
        self.changed.emit()

    def show_error(self, message: str) -> None:
        """Show a sentence in place of the tooltip."""
        self.add.setToolTip(message)

    def problem(self) -> str:
        """Why the layers cannot be used, as far as each tells by itself; empty if they can."""
        if not image_layers(self._viewer):
            return "Open a poor and a clean image of the same place to learn from."
        for row in self.rows:
            if None in (layers := row.layers()):
                return "Choose a poor and a clean layer for each pair."
            try:
                problems = [rgb_problem(layer) or self._axes(layer)[1] for layer in layers]
            except CellEnhanceError as error:
                return error_sentence(error)
            if problem := next(filter(None, problems), ""):
                return problem
        return ""

    def pairs(self) -> tuple[PairedLayers, ...]:
        """The pairs, with the axes that the layers tell or that were guessed."""
        return tuple(
            PairedLayers(poor=self._noisy(poor), clean=self._noisy(clean))
            for poor, clean in (row.layers() for row in self.rows)
        )

    def _axes(self, layer: Any) -> tuple[str, str]:
        """Axes, or why there are none."""
        axes, note = axes_of(snapshot(layer, self._viewer.dims))
        return axes, "" if axes else note

    def _noisy(self, layer: Any) -> NoisyLayer:
        view = snapshot(layer, self._viewer.dims)
        return NoisyLayer(name=view.name, image=view.levels[0], axes=axes_of(view)[0])

    def release(self) -> None:
        """Stop following the viewer."""
        for row in self.rows:
            row.release()
