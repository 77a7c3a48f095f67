"""Pages of the form, one for each way to say where objects are."""

from __future__ import annotations

from typing import Any, Protocol

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QDoubleSpinBox, QLabel, QSpinBox, QWidget

from napari_cellenhance.core.crop_options import BoxOptions, PointOptions, SegmentOptions
from napari_cellenhance.widgets._crop_layers import PlacedOn, is_overlay
from napari_cellenhance.widgets._crop_roles import NOT_USED, RoleTable
from napari_cellenhance.widgets._forms import describe, new_form
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._labels_picker import labels_array, labels_layers, paint_events
from napari_cellenhance.widgets._measure_form import layers_of
from napari_cellenhance.widgets._viewer_combo import ViewerCombo
from napari_cellenhance.workflows.crop_finding import MAX_VALUES, as_paint, paint_target, values_of

__all__ = ["BoxesWay", "LabelsWay", "PaintWay", "PointsWay", "SegmentWay", "WayPage", "number_box"]

_METHODS = (("Otsu", "otsu"), ("Log-Otsu (dim beside bright)", "log_otsu"), ("Local threshold", "local"))
_TWO = (("Not used", NOT_USED), ("Wanted", "target"), ("Not wanted", "unwanted"))
_PAINT = (("Not used", NOT_USED), ("Background", "background"), ("Wanted", "target"), ("Not wanted", "unwanted"))


class WayPage(Protocol):
    """One way."""

    changed: Any

    def problem(self) -> str:
        """Why it cannot be used; empty when it can."""
        ...

    def fields(self, on: PlacedOn, dims: Any) -> dict[str, Any]:
        """What the way adds to a ``CropLayer``. Call it on the GUI thread."""
        ...

    def options(self) -> dict[str, Any]:
        """What the way adds to ``CropOptions``."""
        ...

    def release(self) -> None:
        """Let go of the viewer."""
        ...


def number_box(low: int, high: int, value: int, name: str, tip: str, suffix: str = "", none: str = "") -> QSpinBox:
    """Box for a whole number; ``none`` is what the lowest value is called."""
    box = QSpinBox()
    box.setRange(low, high)
    box.setValue(value)
    box.setSuffix(suffix)
    box.setSpecialValueText(none)
    describe(box, name, tip)
    return box


def _decimal_box(low: float, high: float, value: float, name: str, tip: str, suffix: str = "") -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setRange(low, high)
    box.setSingleStep(0.5)
    box.setDecimals(1)
    box.setValue(value)
    box.setSuffix(suffix)
    describe(box, name, tip)
    return box


class _Page(QWidget):
    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.form = new_form(self)

    def problem(self) -> str:
        """Nothing can be wrong."""
        return ""

    def fields(self, on: PlacedOn, dims: Any) -> dict[str, Any]:
        """Nothing but the image."""
        return {}

    def release(self) -> None:
        """Nothing to let go of."""

    def _tell(self) -> None:
        self.changed.emit()

    def add_note(self) -> QLabel:
        """A line for a remark, hidden while there is none."""
        note = QLabel()
        note.setWordWrap(True)
        note.setVisible(False)
        self.form.addRow(note)
        return note


def _show_note(note: QLabel, text: str) -> None:
    note.setText(text)
    note.setVisible(bool(text))


class SegmentWay(_Page):
    """Objects by their grey values."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        default = SegmentOptions()
        self.method = QComboBox()
        for title, key in _METHODS:
            self.method.addItem(title, key)
        describe(
            self.method, "Threshold",
            "Otsu: one threshold for the image. Log-Otsu: on the logarithm, for dim objects beside bright ones. Local: "
            "brighter than the surroundings, for uneven ground.",
        )  # fmt: skip
        self.sigma = _decimal_box(0.0, 20.0, default.sigma_px, "Smoothing", "σ of a Gaussian before.", " px")
        self.surroundings = number_box(
            3, 1001, default.window_px, "Surroundings",
            "Side of the square whose mean a pixel is compared with; several times as large as an object.", " px",
        )  # fmt: skip
        self.surroundings.setSingleStep(2)
        self.offset = _decimal_box(
            -50.0, 100.0, default.offset, "Above it by", "Of 255 levels between the darkest and the brightest pixel."
        )
        self.openings = number_box(
            0, 10, default.n_openings, "Openings", "Takes off thin bridges and specks; more take off more.", none="none"
        )
        self.holes = QCheckBox("Fill holes")
        self.holes.setChecked(default.is_filled)
        self.holes.setToolTip("Dark places inside of an object belong to it.")
        for title, box in (("Threshold", self.method), ("Smoothing σ", self.sigma), ("Surroundings", self.surroundings),
                           ("Above it by", self.offset), ("Openings", self.openings), ("", self.holes)):  # fmt: skip
            self.form.addRow(title, box)
        for box in (self.sigma, self.surroundings, self.offset, self.openings):
            box.valueChanged.connect(self._tell)
        self.holes.toggled.connect(self._tell)
        self.method.currentIndexChanged.connect(self._on_method)
        self._on_method()

    def _on_method(self) -> None:
        is_local = self.method.currentData() == "local"
        for box in (self.surroundings, self.offset):
            self.form.setRowVisible(box, is_local)
        self._tell()

    def options(self) -> dict[str, Any]:
        """Settings of the segmentation."""
        how = SegmentOptions(
            method=self.method.currentData(), sigma_px=self.sigma.value(), window_px=self.surroundings.value() | 1,
            offset=self.offset.value(), n_openings=self.openings.value(), is_filled=self.holes.isChecked(),
        )  # fmt: skip
        return {"way": "segment", "segment": how}


class LabelsWay(_Page):
    """Objects with a number each, from a Labels layer."""

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.picker = ViewerCombo(
            viewer, _usable_labels, name="Labels layer", tip="Labels layer in which every object has its own number."
        )
        self.complete = QCheckBox("Every object has a label")
        self.complete.setChecked(True)
        self.complete.setToolTip("Then all the rest is background; else what is bright is left out of it.")
        self.tracked = QCheckBox("Numbers follow cells through time")
        self.tracked.setToolTip("The same number in another frame is the same cell.")
        self.form.addRow("Labels", self.picker)
        self.form.addRow(self.complete)
        self.form.addRow(self.tracked)
        self.picker.picked.connect(self._tell)
        for box in (self.complete, self.tracked):
            box.toggled.connect(self._tell)

    def problem(self) -> str:
        """A Labels layer is needed."""
        return "" if self.picker.layer() is not None else "Add a Labels layer in which every object has its own number."

    def fields(self, on: PlacedOn, dims: Any) -> dict[str, Any]:
        """The labels."""
        return {"labels": on.labels(self.picker.layer(), dims)}

    def options(self) -> dict[str, Any]:
        """What the numbers mean."""
        return {"way": "labels", "is_complete": self.complete.isChecked(), "is_tracked": self.tracked.isChecked()}

    def release(self) -> None:
        """Let go of the viewer."""
        self.picker.release()


class PaintWay(_Page):
    """Objects painted in the colour of their class."""

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._followed: Any = None
        self._things: list[tuple[int, str]] = []
        self._n_values = 0
        self.picker = ViewerCombo(
            viewer, _usable_labels, name="Painted labels", tip="Labels layer in which a value stands for a class."
        )
        self.table = RoleTable(_PAINT, "What is painted in this value; connected pixels are one object.")
        self.form.addRow("Labels", self.picker)
        self.form.addRow(self.table)
        self.note = self.add_note()
        self.picker.picked.connect(self._on_picked)
        self.table.changed.connect(self._tell)
        self._on_picked()

    def show_error(self, message: str) -> None:
        """Show why the values could not be read."""
        _show_note(self.note, message)

    @guarded
    def _on_picked(self) -> None:
        for event in paint_events(self._followed):
            event.disconnect(self.look)
        self._followed = self.picker.layer()
        for event in paint_events(self._followed):
            event.connect(self.look)
        self.look()

    @guarded
    def look(self) -> None:
        """Read the values that are painted now."""
        layer = self.picker.layer()
        values = () if layer is None else values_of(labels_array(layer))
        self._n_values = len(values)
        shown = values if len(values) <= MAX_VALUES else ()
        if tuple(key for key, _ in self._things) != shown or not shown:
            self._things = [(value, f"Value {value}") for value in shown]
            roles = ("target", "unwanted") if len(shown) < 3 else ("background", "target")
            proposed = {value: roles[rank] if rank < len(roles) else "unwanted" for rank, value in enumerate(shown)}
            self.table.fill(self._things, proposed)
        _show_note(self.note, self.problem() if layer is not None else "")
        self._tell()

    def problem(self) -> str:
        """Paint with at least one class."""
        layer = self.picker.layer()
        if layer is None:
            return "Add a Labels layer and paint objects in it: one value for what is wanted, others for the rest."
        if self._n_values > MAX_VALUES:
            return (
                f"“{layer.name}” has more than {MAX_VALUES} values, so each is an object rather than a class: choose "
                "“Labels, a number for each object”."
            )
        if not self._n_values:
            return f"Nothing is painted on “{layer.name}” yet."
        if not {"target", "unwanted"} & set(self.table.roles().values()):
            return "Say for at least one painted value whether it is wanted or not."
        return ""

    def fields(self, on: PlacedOn, dims: Any) -> dict[str, Any]:
        """The paint, in the values that a library knows."""
        return {"labels": as_paint(on.labels(self.picker.layer(), dims), self.table.roles())}

    def options(self) -> dict[str, Any]:
        """What is wanted."""
        return {"way": "painted", "target": paint_target()}

    def release(self) -> None:
        """Let go of the viewer."""
        for event in paint_events(self._followed):
            event.disconnect(self.look)
        self.picker.release()


class _LayersWay(_Page):
    """Layers of one kind, each with a role."""

    kind = ""
    words = ""

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._named: list[Any] = []
        self.table = RoleTable(_TWO, f"What the {self.words} of this layer mark.")
        self.form.addRow(self.table)
        self.table.changed.connect(self._tell)
        for event in self._events():
            event.connect(self.refill)
        self.refill()

    def _events(self) -> tuple[Any, ...]:
        events = self._viewer.layers.events
        return (events.inserted, events.removed, events.reordered)

    def show_error(self, message: str) -> None:
        """Show it as the tip: the panel says what is missing."""
        self.table.setToolTip(message)

    @guarded
    def refill(self) -> None:
        """List the layers; the lowest is proposed as wanted, the others as not wanted."""
        for layer in self._named:
            layer.events.name.disconnect(self.refill)
        self._named = [layer for layer in layers_of(self._viewer, self.kind) if not is_overlay(layer)]
        for layer in self._named:
            layer.events.name.connect(self.refill)
        proposed = {layer: "target" if layer == self._named[-1] else "unwanted" for layer in self._named}
        self.table.fill([(layer, str(layer.name)) for layer in reversed(self._named)], proposed)
        self._tell()

    def layers_as(self, role: str) -> list[Any]:
        """Layers with this role."""
        roles = self.table.roles()
        return [layer for layer in self._named if roles.get(layer) == role]

    def problem(self) -> str:
        """At least one layer with a role, and something in it."""
        if not self._named:
            return f"Add a {self.kind} layer with {self.words} on the objects; one layer for each class."
        used = self.layers_as("target") + self.layers_as("unwanted")
        if not used:
            return f"Say for at least one {self.kind} layer whether it marks what is wanted or not."
        if not any(len(layer.data) for layer in used):
            return f"There are no {self.words} in these layers yet: add some."
        return ""

    def release(self) -> None:
        """Let go of the viewer."""
        for event in self._events():
            event.disconnect(self.refill)
        for layer in self._named:
            layer.events.name.disconnect(self.refill)
        self._named = []


class PointsWay(_LayersWay):
    """Points on objects; what is bright around a point is the object."""

    kind, words = "Points", "points"

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(viewer, parent)
        default = PointOptions()
        self.sigma = _decimal_box(0.0, 20.0, default.sigma_px, "Smoothing", "σ of a Gaussian before.", " px")
        self.openings = number_box(
            0, 10, default.n_openings, "Openings",
            "Parts objects that touch, and takes off small ones. Take 1, or none, for small objects.", none="none",
        )  # fmt: skip
        self.form.addRow("Smoothing σ", self.sigma)
        self.form.addRow("Openings", self.openings)
        for box in (self.sigma, self.openings):
            box.valueChanged.connect(self._tell)

    def fields(self, on: PlacedOn, dims: Any) -> dict[str, Any]:
        """Points of each class."""
        del dims
        return {"points": {role: on.points(self.layers_as(role)) for role in ("target", "unwanted")}}

    def options(self) -> dict[str, Any]:
        """How objects are found."""
        how = PointOptions(sigma_px=self.sigma.value(), n_openings=self.openings.value())
        return {"way": "points", "target": ("target",), "points": how}


class BoxesWay(_LayersWay):
    """Boxes around objects."""

    kind, words = "Shapes", "boxes"

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(viewer, parent)
        default = BoxOptions()
        self.factor = _decimal_box(
            0.1, 5.0, default.threshold_factor, "Times Otsu",
            "The threshold inside of a box: lower takes more of an object.",
        )  # fmt: skip
        self.factor.setSingleStep(0.1)
        self.squares = number_box(
            0, 500, default.n_squares, "Random squares",
            "What lies in squares outside of the boxes is not wanted; none: only boxes count.", none="none",
        )  # fmt: skip
        self.smallest = number_box(
            4, 2000, default.min_square_px, "Smallest square", "Side of a random square, at least.", " px"
        )
        self.largest = number_box(
            4, 2000, default.max_square_px, "Largest square", "Side of a random square, at most.", " px"
        )
        for title, box in (("Times Otsu", self.factor), ("Random squares", self.squares),
                           ("Their side, from", self.smallest), ("to", self.largest)):  # fmt: skip
            self.form.addRow(title, box)
            box.valueChanged.connect(self._on_number)
        self._on_number()

    def _on_number(self) -> None:
        for box in (self.smallest, self.largest):
            self.form.setRowVisible(box, self.squares.value() > 0)
        self.largest.setMinimum(self.smallest.value())
        self._tell()

    def fields(self, on: PlacedOn, dims: Any) -> dict[str, Any]:
        """Boxes of each class."""
        del dims
        return {"boxes": on.boxes(self.layers_as("target")), "unwanted_boxes": on.boxes(self.layers_as("unwanted"))}

    def options(self) -> dict[str, Any]:
        """How objects are found."""
        how = BoxOptions(
            threshold_factor=self.factor.value(), n_squares=self.squares.value(),
            min_square_px=self.smallest.value(), max_square_px=self.largest.value(),
        )  # fmt: skip
        return {"way": "boxes", "boxes": how}


def _usable_labels(viewer: Any) -> list[Any]:
    return [layer for layer in labels_layers(viewer) if not is_overlay(layer)]
