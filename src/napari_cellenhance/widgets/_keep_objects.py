"""How objects are found in what was kept: boxes whose values labels and boxes in the viewer follow at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QSlider, QVBoxLayout, QWidget

from napari_cellenhance.core.postprocess import CleanOptions
from napari_cellenhance.widgets._forms import new_form
from napari_cellenhance.widgets._guard import error_sentence, guarded
from napari_cellenhance.widgets._keep_results import MAX_BOXES, Place, boxes_data, labels_data, objects_record
from napari_cellenhance.widgets._layers import METADATA_KEY
from napari_cellenhance.widgets._status import alarm
from napari_cellenhance.widgets._training_time import count_box
from napari_cellenhance.widgets._worker import LatestOnly, Outcome
from napari_cellenhance.workflows.separate import MOVING
from napari_cellenhance.workflows.separate_layers import FoundObjects, SeparatedLayer

__all__ = ["Followed", "KeepObjects", "ObjectsForm"]

_GREY = 255
_LARGEST_FACTOR, _LARGEST_STEP = 300, 128
_TIPS = {
    False: "The threshold of Otsu is multiplied by this; less keeps dim rims and dim objects.",
    True: "How far a pixel must be from the background, in 255ths of the range; 10 was published for worms.",
}


@dataclass(frozen=True, slots=True, eq=False)
class Followed:
    """A result, its objects as they are now, and their layers; those that are not wanted are None."""

    found: SeparatedLayer
    objects: FoundObjects
    place: Place
    labels: Any
    boxes: Any


class ObjectsForm(QWidget):
    """Settings for one kind of result.

    Parameters
    ----------
    is_movie : bool
        Of what moves: a distance from the background instead of the threshold of Otsu.
    """

    changed = Signal()

    def __init__(self, *, is_movie: bool, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._is_movie = is_movie
        start = MOVING if is_movie else CleanOptions()
        self.threshold = QSlider(Qt.Orientation.Horizontal)
        self.threshold.setRange(1, _LARGEST_STEP if is_movie else _LARGEST_FACTOR)
        self.threshold.setValue(round(_GREY * start.threshold_value) if is_movie else 100)
        self.threshold.setAccessibleName("Threshold")
        self.threshold.setToolTip(_TIPS[is_movie])
        self.value = QLabel()
        self.openings = count_box(0, 20, start.n_openings, "Opening", "Thin bridges and specks go; 0 leaves them.")
        self.closing = count_box(1, 31, max(1, start.closing_px), "Closing", "Gaps up to this wide close.", " px")
        self.closing.setSingleStep(2)
        self.closing.setSpecialValueText("none")
        self.split = QCheckBox("Cut touching objects (watershed)")
        self.split.setToolTip("Between the maxima of the distance to the ground.")
        self.split.setChecked(start.split_touching)
        self.maxima_px = count_box(3, 101, start.window_px, "Maxima apart", "Wider: fewer cuts.", " px")
        self.maxima_px.setSingleStep(2)
        tip = "Objects are cut where they are this much narrower. 0 cuts between all maxima, and halves oblong objects."
        self.neck = count_box(0, 90, round(100 * start.neck_depth), "Neck", tip, " %")
        tip = "Smaller objects are dropped. Holes in objects are filled."
        self.min_size = count_box(0, 1_000_000, start.min_size_px, "At least", tip, " px")
        self.min_size.setSingleStep(10)
        row = QHBoxLayout()
        row.addWidget(self.threshold, 1)
        row.addWidget(self.value)
        form = new_form(self)
        form.setContentsMargins(16, 0, 0, 0)
        form.addRow("Away from it" if is_movie else "× Otsu", row)
        form.addRow("Opening", self.openings)
        form.addRow("Closing", self.closing)
        form.addRow(self.split)
        form.addRow("Maxima apart", self.maxima_px)
        form.addRow("Neck narrower by", self.neck)
        form.addRow("At least", self.min_size)
        self.threshold.valueChanged.connect(self._on_value)
        for box in (self.openings, self.closing, self.maxima_px, self.neck, self.min_size):
            box.valueChanged.connect(self._on_value)
        self.split.toggled.connect(self._on_value)
        self._show()

    def options(self) -> CleanOptions:
        """What the form says."""
        value = self.threshold.value()
        of_threshold: dict[str, Any] = {"threshold_factor": value / 100}
        if self._is_movie:
            of_threshold = {"method": "manual", "threshold_value": value / _GREY}
        closing = _odd(self.closing.value())
        return CleanOptions(
            n_openings=self.openings.value(), closing_px=closing if closing > 1 else 0,
            split_touching=self.split.isChecked(), window_px=_odd(self.maxima_px.value()),
            neck_depth=self.neck.value() / 100, min_size_px=self.min_size.value(), **of_threshold,
        )  # fmt: skip

    def _show(self) -> None:
        value = self.threshold.value()
        self.value.setText(f"{value}/255" if self._is_movie else f"{value / 100:.2f}")
        for box in (self.maxima_px, self.neck):
            box.setEnabled(self.split.isChecked())

    def _on_value(self, _value: int = 0) -> None:
        self._show()
        self.changed.emit()


def _odd(value: int) -> int:
    return value if value % 2 else value + 1


class KeepObjects(QWidget):
    """Forms of both kinds, of which one is shown, and the layers that follow them.

    Parameters
    ----------
    viewer : ViewerModel
    """

    updated = Signal()

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._asked: list[Followed] = []
        self._ticket = 0
        self._work = LatestOnly()
        self.followed: list[Followed] = []
        self.forms = {is_movie: ObjectsForm(is_movie=is_movie) for is_movie in (False, True)}
        self.note = QLabel()
        self.note.setWordWrap(True)
        self.note.setVisible(False)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for is_movie, form in self.forms.items():
            layout.addWidget(form)
            form.changed.connect(partial(self._on_changed, is_movie))
        layout.addWidget(self.note)
        self._work.delivered.connect(self._on_found)
        self.show_kind(is_movie=False)

    def show_kind(self, *, is_movie: bool) -> None:
        """Show the form for one kind of model."""
        for kind, form in self.forms.items():
            form.setVisible(kind == is_movie)

    def options(self, *, is_movie: bool) -> CleanOptions:
        """What the form for one kind says."""
        return self.forms[is_movie].options()

    def follow(self, one: Followed) -> None:
        """Let the layers of a result follow."""
        self.followed.append(one)
        self._say()
        self.updated.emit()
        if one.objects.options != self.options(is_movie=one.found.is_movie):  # moved while it was computed
            self._on_changed(one.found.is_movie)

    def _still_there(self, one: Followed) -> bool:
        return any(layer is not None and layer in self._viewer.layers for layer in (one.labels, one.boxes))

    @guarded
    def _on_changed(self, is_movie: bool) -> None:
        self.followed = [one for one in self.followed if self._still_there(one)]
        asked = [one for one in self.followed if one.found.is_movie == is_movie]
        if asked:
            self._asked = asked
            found = [one.found for one in asked]
            self._ticket = self._work.submit(partial(_find, found, self.options(is_movie=is_movie)))

    @guarded
    def _on_found(self, ticket: int, outcome: Outcome) -> None:
        if ticket != self._ticket:
            return
        if outcome.error is not None:
            self.show_error(error_sentence(outcome.error))
            return
        for old, objects in zip(self._asked, outcome.value, strict=True):
            if old in self.followed:
                self.followed[self.followed.index(old)] = self._update(old, objects)
        self._say()
        self.updated.emit()

    def _update(self, old: Followed, objects: FoundObjects) -> Followed:
        new = Followed(old.found, objects, old.place, old.labels, old.boxes)
        record = objects_record(objects, old.found.result.provenance)
        if new.labels is not None and new.labels in self._viewer.layers:
            new.labels.data = labels_data(objects, new.place)
            new.labels.metadata[METADATA_KEY] = record
        if new.boxes is not None and new.boxes in self._viewer.layers:
            replace_boxes(new.boxes, boxes_data(objects, new.place))
            new.boxes.metadata[METADATA_KEY] = record
        return new

    def _say(self) -> None:
        counts = [len(one.objects.boxes) for one in self.followed]
        words = f"{counts[-1]} object{'' if counts[-1] == 1 else 's'}." if counts else ""
        if counts and max(counts) > MAX_BOXES and any(one.boxes is not None for one in self.followed):
            words += f" More than {MAX_BOXES} boxes are not drawn; raise the threshold or the least size."
        self.note.setText(words)
        self.note.setVisible(bool(words))

    def show_error(self, message: str) -> None:
        """Show a sentence under the form."""
        self.note.setText(alarm(message))
        self.note.setVisible(True)

    def close_down(self) -> None:
        """End the thread, and forget what is held."""
        self._work.close()
        self.followed = []

    def abandon(self) -> None:
        """End the thread without touching anything of Qt."""
        self._work.close()


def replace_boxes(layer: Any, rectangles: list[Any]) -> None:
    """Show other rectangles in a Shapes layer, with its colours."""
    color, width = layer.current_edge_color, layer.current_edge_width
    layer.data = []
    if rectangles:
        layer.add_rectangles(rectangles, face_color="transparent", edge_color=color, edge_width=width)


def _find(found: list[SeparatedLayer], options: CleanOptions) -> list[FoundObjects]:
    objects = [one.find(options) for one in found]
    return [one for one in objects if one is not None]
