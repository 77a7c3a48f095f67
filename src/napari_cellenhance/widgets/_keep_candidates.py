"""Objects that were found but that nobody annotated: to click through, and to add to the annotations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.widgets._forms import new_form
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._keep_objects import Followed
from napari_cellenhance.widgets._labels_picker import labels_array
from napari_cellenhance.widgets._layers import METADATA_KEY, is_preview
from napari_cellenhance.widgets._status import alarm
from napari_cellenhance.widgets._viewer_combo import ViewerCombo
from napari_cellenhance.workflows.separate_layers import Candidate, candidates, pixels_of

__all__ = ["KeepCandidates"]

_N_ROWS, _MAX_ROWS = 7, 2000
_NEW_LAYER = "A new Points layer"
_NO_OBJECTS = "Take an image apart with “Objects (Labels)” checked; its objects are listed here."


class KeepCandidates(QWidget):
    """A table; the object of its current row is in the middle of the canvas.

    Parameters
    ----------
    viewer : ViewerModel
    followed : callable
        Gives the results there are.
    """

    listed = Signal()

    def __init__(self, viewer: Any, followed: Callable[[], list[Followed]], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._followed = followed
        self._dismissed: set[tuple[int, Candidate]] = set()
        self.found: list[Candidate] = []
        self.objects = ViewerCombo(
            viewer, self._object_layers, name="Objects", tip="Labels that this dock made; their objects are listed."
        )
        self.annotations = ViewerCombo(
            viewer, self._annotation_layers, name="Annotations", first=_NEW_LAYER,
            tip="Points or Labels that somebody set by hand. An object with a point, or of which more than a tenth is "
            "painted, is known.",
        )  # fmt: skip
        self.search = QPushButton("List objects nobody annotated")
        self.search.setToolTip("Compare the objects with the annotations as they are now.")
        self.note = QLabel(_NO_OBJECTS)
        self.note.setWordWrap(True)
        self.table = QTableWidget()
        self.table.setAccessibleName("Objects nobody annotated")
        self.table.setToolTip("Click a row to see the object in the middle of the canvas.")
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        header = QHeaderView(Qt.Orientation.Horizontal)
        header.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        self._header = header
        self.table.setHorizontalHeader(header)
        self.buttons: dict[str, QPushButton] = {}
        buttons = (
            ("previous", "◀ Previous", "Go to the object before."), ("next", "Next ▶", "Go to the object after."),
            ("right", "Is right", "Add it to the annotations: a point, or its pixels with a new number."),
            ("wrong", "Is wrong", "Take it out of this list; the annotations stay as they are."),
        )  # fmt: skip
        rows = (QHBoxLayout(), QHBoxLayout())
        for i, (name, title, tip) in enumerate(buttons):
            self.buttons[name] = QPushButton(title)
            self.buttons[name].setToolTip(tip)
            rows[i // 2].addWidget(self.buttons[name])
        form = new_form()
        form.addRow("Objects", self.objects)
        form.addRow("Annotations", self.annotations)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        for part in (self.search, self.note, self.table):
            layout.addWidget(part)
        for row in rows:
            layout.addLayout(row)
        self.search.clicked.connect(self.list_them)
        self.objects.picked.connect(self._on_layer)
        self.annotations.picked.connect(self._on_layer)
        self.table.currentCellChanged.connect(self._on_row)
        self.table.cellClicked.connect(self._on_row)
        self.buttons["next"].clicked.connect(self._on_next)
        self.buttons["previous"].clicked.connect(self._on_previous)
        self.buttons["right"].clicked.connect(self._on_right)
        self.buttons["wrong"].clicked.connect(self._on_wrong)
        self._show_table()

    # --- layers -------------------------------------------------------------------------

    def _object_layers(self, viewer: Any) -> list[Any]:
        known = [one.labels for one in self._followed() if one.labels is not None]
        return [layer for layer in reversed(list(viewer.layers)) if any(layer is one for one in known)]

    def _annotation_layers(self, viewer: Any) -> list[Any]:
        from napari.layers import Labels, Points

        return [
            layer
            for layer in reversed(list(viewer.layers))
            if isinstance(layer, Labels | Points) and METADATA_KEY not in layer.metadata and not is_preview(layer)
        ]

    def one(self) -> Followed | None:
        """The chosen result."""
        layer = self.objects.layer()
        return next((one for one in self._followed() if one.labels is layer), None) if layer is not None else None

    @guarded
    def refresh(self) -> None:
        """Objects were found, or found anew: what was listed may not be there any more."""
        self.objects.refill()
        self._dismissed.clear()
        self._forget()

    @guarded
    def _on_layer(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self.found = []
        has_objects = self.one() is not None
        self.search.setEnabled(has_objects)
        self.note.setText("" if has_objects else _NO_OBJECTS)
        self._show_table()

    # --- the list -----------------------------------------------------------------------

    @guarded
    def list_them(self) -> None:
        """Compare objects and annotations, and go to the first that is new."""
        one = self.one()
        if one is None:
            self.show_error(_NO_OBJECTS)
            return
        layer, labels = self.annotations.layer(), one.objects.labels
        known: dict[str, Any] = {}
        if layer is not None and _is_points(layer):
            known["points"] = self._points_on(layer, one)
        elif layer is not None:
            painted = np.asarray(labels_array(layer))
            if painted.size != labels.size or painted.shape[-2:] != labels.shape[-2:]:
                raise ImageError(
                    f"“{layer.name}” has the shape {painted.shape}, the objects {labels.shape}; choose annotations of "
                    "the same image"
                )
            known["annotated"] = painted.reshape(labels.shape)
        there = candidates(labels, one.place.axes, **known)
        self.found = [each for each in there if (id(one.labels), each) not in self._dismissed]
        n, n_all = len(self.found), len(one.objects.boxes)
        cut = f" The table shows the first {_MAX_ROWS}." if n > _MAX_ROWS else ""
        noun = "object" if n_all == 1 else "objects"
        self.note.setText(f"{n} of {n_all} {noun} nobody annotated.{cut}" if n else "Every object is annotated.")
        self._show_table()
        if self.found:
            self.table.setCurrentCell(0, 0)

    def _points_on(self, layer: Any, one: Followed) -> Any:
        """Points in pixels of the objects, without the axis that was put in for the sliders."""
        world = [layer.data_to_world(point) for point in layer.data]
        n = one.labels.ndim
        padded = [np.concatenate([np.zeros(max(0, n - len(point))), point]) for point in world]
        pixels = np.array([one.labels.world_to_data(point) for point in padded], float).reshape(-1, n)
        if one.place.put_back is not None:
            pixels = np.delete(pixels, one.place.put_back, axis=1)
        return pixels[:, -min(layer.ndim, pixels.shape[1]) :]

    def _columns(self, axes: str) -> list[tuple[str, Callable[[Candidate], int]]]:
        columns: list[tuple[str, Callable[[Candidate], int]]] = []
        if "T" in axes:
            columns.append(("Frame", lambda each: each.t))
        if "Z" in axes:
            columns.append(("Plane", lambda each: each.z))
        return [*columns, ("Label", lambda each: each.label), ("Area, px", lambda each: each.area_px)]

    def _show_table(self) -> None:
        one = self.one()
        columns = self._columns("" if one is None else one.place.axes)
        was_blocked = self.table.blockSignals(True)
        self.table.clear()
        self.table.setRowCount(min(_MAX_ROWS, len(self.found)))
        self.table.setColumnCount(len(columns))
        for column, (title, value) in enumerate(columns):
            self.table.setHorizontalHeaderItem(column, QTableWidgetItem(title))
            for row, each in enumerate(self.found[:_MAX_ROWS]):
                self.table.setItem(row, column, QTableWidgetItem(str(value(each))))
        self.table.blockSignals(was_blocked)
        self.table.setVisible(bool(self.found))
        line = self.table.rowHeight(0) if self.found else 0
        n_rows = min(_N_ROWS, len(self.found))
        self.table.setFixedHeight(n_rows * line + self._header.sizeHint().height() + 2 * self.table.frameWidth() + 2)
        for button in self.buttons.values():
            button.setVisible(bool(self.found))
        self.listed.emit()

    # --- one after the other ------------------------------------------------------------

    def current(self) -> Candidate | None:
        """The object of the current row."""
        row = self.table.currentRow()
        return self.found[row] if 0 <= row < len(self.found) else None

    @guarded
    def _on_row(self, row: int) -> None:
        if 0 <= row < len(self.found):
            self._go_to(self.found[row])

    def _go_to(self, candidate: Candidate) -> None:
        one = self.one()
        if one is None or one.labels not in self._viewer.layers:
            return
        world = np.asarray(one.labels.data_to_world(self._position(candidate, one)), float)
        n_more = self._viewer.dims.ndim - len(world)
        for axis, value in enumerate(world):
            self._viewer.dims.set_point(n_more + axis, float(value))
        camera = self._viewer.scene.camera
        shown = [axis - n_more for axis in self._viewer.dims.displayed]
        center = list(camera.center)
        for i, axis in enumerate(shown[-2:], start=len(center) - 2):
            if axis >= 0:
                center[i] = float(world[axis])
        camera.center = tuple(center)

    def _position(self, candidate: Candidate, one: Followed) -> tuple[int, ...]:
        place = list(candidate.position(one.place.axes))
        if one.place.put_back is not None:
            place.insert(one.place.put_back, 0)
        return tuple(place)

    def _move(self, by: int) -> None:
        if self.found:
            row = max(0, self.table.currentRow()) + by
            self.table.setCurrentCell(row % self.table.rowCount(), 0)

    @guarded
    def _on_next(self) -> None:
        self._move(1)

    @guarded
    def _on_previous(self) -> None:
        self._move(-1)

    @guarded
    def _on_right(self) -> None:
        candidate, one = self.current(), self.one()
        if candidate is None or one is None:
            return
        layer = self.annotations.layer()
        if layer is None:
            layer = self._new_points(one)
        if _is_points(layer):
            world = one.labels.data_to_world(self._position(candidate, one))
            layer.add(np.asarray(layer.world_to_data(world), float)[-layer.ndim :])
        else:
            self._paint(layer, candidate, one)
        self._take_out(candidate)

    def _new_points(self, one: Followed) -> Any:
        name = str(one.labels.name)
        layer = self._viewer.add_points(
            np.empty((0, one.labels.ndim)), name=f"{name}, annotated", size=8, **one.place.kwargs
        )
        was_blocked = self.annotations.blockSignals(True)  # what is listed stays listed
        self.annotations.choose(layer)
        self.annotations.blockSignals(was_blocked)
        return layer

    def _paint(self, layer: Any, candidate: Candidate, one: Followed) -> None:
        pixels = list(pixels_of(one.objects.labels, one.place.axes, candidate))
        if one.place.put_back is not None:
            pixels.insert(one.place.put_back, np.zeros_like(pixels[0]))
        layer.data_setitem(tuple(pixels[-layer.ndim :]), int(np.max(labels_array(layer))) + 1)

    @guarded
    def _on_wrong(self) -> None:
        candidate, one = self.current(), self.one()
        if candidate is not None and one is not None:
            self._dismissed.add((id(one.labels), candidate))
            self._take_out(candidate)

    def _take_out(self, candidate: Candidate) -> None:
        row = self.found.index(candidate)
        self.found.remove(candidate)
        left = len(self.found)
        self.note.setText(f"{left} left." if left else "That was the last one.")
        self._show_table()
        if self.found:
            self.table.setCurrentCell(min(row, self.table.rowCount() - 1), 0)

    def show_error(self, message: str) -> None:
        """Show a sentence over the table."""
        self.note.setText(alarm(message))

    def release(self) -> None:
        """Stop following the viewer."""
        self.objects.release()
        self.annotations.release()


def _is_points(layer: Any) -> bool:
    from napari.layers import Points

    return isinstance(layer, Points)
