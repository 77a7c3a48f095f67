"""Persistence map in the dock: the fold-out, and the layers that come of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLabel, QPushButton, QSpinBox, QVBoxLayout, QWidget

from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._layers import Choices, LayerView
from napari_cellenhance.widgets._results import METADATA_KEY, LayerTuple, placed
from napari_cellenhance.workflows.persistence import PersistenceResult
from napari_cellenhance.workflows.progress import OnProgress, Progress

__all__ = ["PersistenceBox", "persistence_layers", "told_in_strengths"]

_WORDS = (
    "Sweeps the strength and shows for every object how long it is found, from 0 to 1. Objects that last are real "
    "more often; those that appear only at high strength may be made up."
)


def told_in_strengths(on_progress: OnProgress, n_strengths: int) -> OnProgress:
    """Say what a sweep does on each plane; its length is not known before a first plane is done.

    >>> told = []
    >>> tell = told_in_strengths(told.append, 16)
    >>> tell(Progress(n_done=0, n_total=1, message="Plane 1 of 1"))
    >>> tell(Progress(n_done=1, n_total=3, message="Plane 2 of 3"))
    >>> [(each.n_total, each.message) for each in told]
    [(0, 'Following the objects through 16 strengths'), (3, 'Plane 2 of 3, through 16 strengths')]
    """

    def tell(progress: Progress) -> None:
        if progress.message.startswith("Plane ") and "strength" not in progress.message:
            if progress.n_total == 1:
                progress = Progress(
                    n_done=0, n_total=0, message=f"Following the objects through {n_strengths} strengths"
                )
            else:
                progress = replace(progress, message=f"{progress.message}, through {n_strengths} strengths")
        on_progress(progress)

    return tell


def persistence_layers(result: PersistenceResult, view: LayerView, choices: Choices) -> list[LayerTuple]:
    """Layers to add: the map, the objects with their table, and those that appear only later, if any."""
    geometry, put_back = placed(view, choices, result.axes)
    place = geometry.as_kwargs()
    partial = "" if result.is_complete else " (partial)"

    def dims(array: Any) -> Any:
        return array if put_back is None else np.expand_dims(array, put_back)

    metadata = {METADATA_KEY: result.provenance}
    features = {"index": result.table["label"], **{k: v for k, v in result.table.items() if k != "label"}}
    layers: list[LayerTuple] = [
        (
            dims(result.image),
            {
                "name": f"{view.name} persistence{partial}", "metadata": metadata, "colormap": "inferno",
                "contrast_limits": (0.0, 1.0), "blending": "translucent_no_depth", **place,
            },
            "image",
        ),
        (
            dims(result.labels),
            {
                "name": f"{view.name} objects by persistence{partial}", "metadata": metadata, "features": features,
                "visible": False, "opacity": 0.5, **place,
            },
            "labels",
        ),
    ]  # fmt: skip
    if result.n_late:
        layers.append(
            (
                dims(result.late),
                {"name": f"{view.name} only at high strength{partial}", "metadata": metadata, "features": features}
                | {"opacity": 0.6, **place},
                "labels",
            )
        )
    return layers


class PersistenceBox(QWidget):
    """What it is, how finely to sweep, and two buttons. Holds the last result for its table."""

    wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._result: PersistenceResult | None = None
        words = QLabel(_WORDS)
        words.setWordWrap(True)
        self.n_strengths = QSpinBox()
        self.n_strengths.setRange(4, 60)
        self.n_strengths.setValue(16)
        self.n_strengths.setSuffix(" strengths")
        self.n_strengths.setToolTip("How many strengths to try, evenly spaced up to the end of the slider.")
        self.n_strengths.setAccessibleName("Strengths of the sweep")
        self.make = QPushButton("Persistence map")
        self.make.setToolTip(
            "Sweep over the chosen scope; the results are new layers. Objects are cut out as set under Output."
        )
        self.save = QPushButton("Save table…")
        self.save.setToolTip("Write one row per object of the last map to a CSV file.")
        self.save.setEnabled(False)
        self.note = QLabel()
        self.note.setWordWrap(True)
        self.note.setVisible(False)
        buttons = QHBoxLayout()
        buttons.addWidget(self.make, 1)
        buttons.addWidget(self.save)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(16, 0, 0, 4)
        layout.addWidget(words)
        layout.addWidget(self.n_strengths)
        layout.addLayout(buttons)
        layout.addWidget(self.note)
        self.make.clicked.connect(self._on_make)
        self.save.clicked.connect(self._on_save)

    def _on_make(self) -> None:
        self.wanted.emit()

    def show_result(self, result: PersistenceResult) -> None:
        """Keep a result, so that its table can be saved."""
        self._result = result
        self.save.setEnabled(result.n_objects > 0)

    def show_error(self, message: str) -> None:
        """Show a sentence under the buttons."""
        self.note.setText(message)
        self.note.setVisible(True)

    @guarded
    def _on_save(self) -> None:
        if self._result is None:
            return
        path, _ = QFileDialog.getSaveFileName(self, "Save table of objects", "persistence.csv", "CSV (*.csv)")
        if path:
            self.write(path)

    def write(self, path: str) -> None:
        """Write the table of the last map."""
        from napari_cellenhance.io.tables import write_table
        from napari_cellenhance.workflows.persistence_files import table_rows

        if self._result is None:
            return
        written = write_table(path, table_rows(self._result), self._result.provenance)
        self.note.setText(f"Saved {', '.join(str(file) for file in written)}")
        self.note.setVisible(True)
