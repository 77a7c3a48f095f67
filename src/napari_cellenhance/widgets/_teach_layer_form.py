"""One image to learn from, and the layer that holds the paint for it."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QFormLayout, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_cellenhance.widgets._fold import Fold
from napari_cellenhance.widgets._guard import error_sentence, guarded
from napari_cellenhance.widgets._image_form import ImageForm
from napari_cellenhance.widgets._labels_picker import labels_array, paint_events
from napari_cellenhance.widgets._layers import LayerView, snapshot
from napari_cellenhance.widgets._status import alarm
from napari_cellenhance.widgets._teach_classes import ClassLook, looks_of
from napari_cellenhance.widgets._teach_place import (
    PAINT_MARK,
    Window,
    brush_px,
    class_colormap,
    paint_place,
    paintable_layers,
)
from napari_cellenhance.widgets._viewer_combo import ViewerCombo
from napari_cellenhance.widgets._worker import LatestOnly, Outcome
from napari_cellenhance.workflows.paint import to_classes
from napari_cellenhance.workflows.painted_layers import PaintedLayer

__all__ = ["TeachLayerForm"]

_FIRST_LABEL = 2
RGB_NOTE = "A colour image: its grey is looked at. Choose one colour under “Channels” if that shows the cells better."


class TeachLayerForm(QWidget):
    """Form of one image layer and its paint layer.

    ``painted`` comes with every change of the paint, also in the middle of a stroke; ``stroked`` when one is finished.

    Parameters
    ----------
    viewer : ViewerModel
    layer : Image
        Only read.
    """

    changed = Signal()
    painted = Signal()
    stroked = Signal()
    brush_chosen = Signal(int)

    def __init__(self, viewer: Any, layer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.layer = layer
        self._followed: Any = None
        self._colors: dict[int, str] = {}
        self._asked = 0
        self._conversions = LatestOnly()
        self.image = ImageForm(wants_one_plane=True)
        self.labels = ViewerCombo(
            viewer,
            paintable_layers,
            name="Paint layer",
            tip="The Labels layer with your strokes on this image: 1 is background, 2 and above are classes.",
            first="None yet",
        )
        self.labels.setMinimumContentsLength(6)
        self.new = QPushButton("New paint layer")
        self.new.setToolTip("Add an empty Labels layer over this image, with the brush in hand.")
        self.note = QLabel()
        self.note.setWordWrap(True)
        self.are_objects = QCheckBox("Painted as objects")
        self.are_objects.setToolTip(
            "Tick it if each object has a number of its own (from 2) instead of its class: they all become class 2."
        )
        self.has_border = QCheckBox("Learn their borders as class 3")
        self.has_border.setToolTip("Background that touches an object, and the line between two objects.")
        self.convert = QPushButton("Convert to classes")
        self.convert.setToolTip("Add a new paint layer with the classes of these objects; the old layer stays.")
        self._lay_out()
        self._connect()
        self.image.show_view(self.view())
        self._pick_earlier()
        self._show_options()

    def _lay_out(self) -> None:
        more = QWidget()
        column = QVBoxLayout(more)
        column.setContentsMargins(12, 0, 0, 0)
        for part in (self.are_objects, self.has_border, self.convert):
            column.addWidget(part)
        self.more = Fold("Painted objects", "For labels in which each object has a number of its own.", more)
        picker = QHBoxLayout()
        picker.addWidget(self.labels, 1)
        picker.addWidget(self.new)
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        form.addRow("Paint", picker)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.image)
        layout.addLayout(form)
        layout.addWidget(self.note)
        layout.addWidget(self.more)
        self._say(RGB_NOTE if self.layer.rgb else "")

    def _connect(self) -> None:
        self.image.changed.connect(self._tell)
        self.labels.picked.connect(self._on_labels)
        self.new.clicked.connect(self.add_paint_layer)
        self.are_objects.toggled.connect(self._on_objects)
        self.has_border.toggled.connect(self._tell)
        self.convert.clicked.connect(self.convert_objects)
        self._conversions.delivered.connect(self._on_converted)

    # --- what it says -------------------------------------------------------------------

    def view(self) -> LayerView:
        """The image as it is now."""
        return snapshot(self.layer, self._viewer.dims)

    def seen(self) -> Window:
        """What is on screen of the image now."""
        return Window(view=self.view(), axes=self.image.axes_text, channels=self.channels())

    def channels(self) -> Any:
        """Channel for the request; grey where there is nothing to choose."""
        chosen = self.image.chosen_channels
        return "grey" if chosen == "all" else chosen

    def problem(self) -> str:
        """Why this layer cannot be learned from; empty if it can, or if only the paint will tell."""
        if problem := self.image.problem():
            return problem
        if self.labels.layer() is None:
            return f"Press “New paint layer” to paint on “{self.layer.name}”, or choose a layer that you painted."
        return ""

    def choice(self) -> tuple[Any, ...]:
        """All that is chosen, to compare with what was chosen before."""
        kind = self.are_objects.isChecked(), self.has_border.isChecked()
        return id(self.layer), id(self._followed), self.image.axes_text, self.channels(), kind

    def painted_layer(self) -> PaintedLayer:
        """What the form says; labels are not copied.

        Raises
        ------
        CellEnhanceError
            The size of the image is not known.
        """
        view = self.view()
        return PaintedLayer(
            name=view.name,
            image=view.levels[0],
            axes=self.image.axes_text,
            labels=labels_array(self.labels.layer()),
            channels=self.channels(),
            painted_as="instances" if self.are_objects.isChecked() else "classes",
            has_border=self.has_border.isChecked(),
        )

    def looks(self) -> dict[int, ClassLook]:
        """Names and colours of classes that the paint layer remembers."""
        layer = self.labels.layer()
        return {} if layer is None else looks_of(layer.metadata.get(PAINT_MARK))

    # --- paint layers -------------------------------------------------------------------

    @guarded
    def add_paint_layer(self) -> None:
        """Add an empty Labels layer that fits, and hand over the brush."""
        if problem := self.image.problem():
            self._say_problem(problem)
            return
        shape, _ = paint_place(self.view(), self.image.axes_text)
        self._add(np.zeros(shape, np.uint16), f"paint: {self.layer.name}")
        self.take_brush(_FIRST_LABEL)

    def _add(self, pixels: Any, name: str) -> None:
        _, geometry = paint_place(self.view(), self.image.axes_text)
        layer = self._viewer.add_labels(
            pixels, name=name, opacity=0.8, metadata={PAINT_MARK: {}}, **geometry.as_kwargs()
        )
        self.labels.choose(layer)

    def set_label(self, value: int) -> None:
        """Let the next stroke on this image be of that class."""
        if self.labels.layer() is not None:
            self.labels.layer().selected_label = value

    def take_brush(self, value: int) -> None:
        """Select the paint layer and a label, with the brush in hand."""
        layer = self.labels.layer()
        if layer is None:
            return
        if not layer.visible:
            layer.visible = True  # this takes the brush away, so it comes first
        self._viewer.layers.selection.active = layer
        layer.selected_label = value
        if str(layer.mode) not in ("paint", "fill", "polygon"):
            layer.mode = "paint"
            layer.brush_size = brush_px(tuple(int(n) for n in labels_array(layer).shape))

    def dress(self, looks: dict[int, ClassLook]) -> None:
        """Give the paint layer the colours of the classes, and let it remember them; objects keep their own."""
        layer = self.labels.layer()
        colors = {value: look.color for value, look in looks.items()}
        if layer is None or self.are_objects.isChecked():
            return
        stored = {str(value): (look.name, look.color) for value, look in looks.items()}
        is_same = layer.metadata.get(PAINT_MARK) == stored
        if not is_same or colors != self._colors:
            layer.metadata[PAINT_MARK] = stored
            self._colors = colors
            layer.colormap = class_colormap(colors)

    def _pick_earlier(self) -> None:
        """Choose the topmost layer that was painted for this image before."""
        if self.image.problem():
            return
        shape, _ = paint_place(self.view(), self.image.axes_text)
        for layer in paintable_layers(self._viewer):
            fits = tuple(int(n) for n in labels_array(layer).shape) == shape
            if PAINT_MARK in layer.metadata and fits and str(layer.name).startswith(f"paint: {self.layer.name}"):
                self.labels.choose(layer)
                return

    @guarded
    def convert_objects(self) -> None:
        """Ask for the classes of the painted objects."""
        layer = self.labels.layer()
        if layer is not None:
            self.convert.setEnabled(False)
            ids = np.array(labels_array(layer))
            self._asked = self._conversions.submit(partial(to_classes, ids, has_border=self.has_border.isChecked()))

    @guarded
    def _on_converted(self, ticket: int, outcome: Outcome) -> None:
        if ticket != self._asked:
            return
        self.convert.setEnabled(True)
        if outcome.error is not None:
            self._say_problem(error_sentence(outcome.error))
            return
        self.are_objects.setChecked(False)
        self._add(outcome.value, f"paint: {self.layer.name} (from objects)")
        self.take_brush(_FIRST_LABEL)

    # --- slots --------------------------------------------------------------------------

    def show_error(self, message: str) -> None:
        """Show a sentence under the paint layer."""
        self._say_problem(message)

    def _say_problem(self, text: str) -> None:
        self.note.setText(alarm(text))
        self.note.setVisible(True)

    def _say(self, text: str) -> None:
        self.note.setText(text)
        self.note.setVisible(bool(text))

    def _tell(self) -> None:
        self.changed.emit()

    @guarded
    def _on_labels(self) -> None:
        self._follow(self.labels.layer())
        self._colors = {}
        self._show_options()
        self.changed.emit()

    @guarded
    def _on_objects(self) -> None:
        self._colors = {}
        layer = self.labels.layer()
        if layer is not None and self.are_objects.isChecked():
            from napari.utils.colormaps import label_colormap

            layer.colormap = label_colormap()
        self._show_options()
        self.changed.emit()

    def _show_options(self) -> None:
        has_paint, are_objects = self.labels.layer() is not None, self.are_objects.isChecked()
        self.more.setVisible(has_paint)
        self.has_border.setEnabled(are_objects)
        self.convert.setEnabled(are_objects and has_paint)

    def _follow(self, layer: Any) -> None:
        for event, slot in self._paint_slots():
            event.disconnect(slot)
        self._followed = layer
        for event, slot in self._paint_slots():
            event.connect(slot)

    def _paint_slots(self) -> list[tuple[Any, Any]]:
        layer = self._followed
        if layer is None:
            return []
        # Undo tells by set_data alone, which also comes with every slice: whoever listens must compare.
        finished = [layer.events.data, layer.events.paint, layer.events.set_data]
        return [
            *((event, self._on_painted) for event in (*paint_events(layer), layer.events.set_data)),
            *((event, self._on_stroked) for event in finished),
            (layer.events.selected_label, self._on_brush),
        ]

    @guarded
    def _on_painted(self) -> None:
        self.painted.emit()

    @guarded
    def _on_stroked(self) -> None:
        self.stroked.emit()

    @guarded
    def _on_brush(self) -> None:
        if self._followed is not None:
            self.brush_chosen.emit(int(self._followed.selected_label))

    def close_down(self) -> None:
        """Let the threads end, and let go of the viewer."""
        self._conversions.close()
        self._follow(None)
        self.labels.release()
