"""What is known of one training image: axes, channels, contrast, painted objects, object diameter."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_cellenhance.core.object_size import MAX_DIAMETER_PX
from napari_cellenhance.widgets._guard import error_sentence, guarded
from napari_cellenhance.widgets._image_form import ImageForm
from napari_cellenhance.widgets._labels_picker import LabelsPicker, labels_array, paint_events
from napari_cellenhance.widgets._layers import LayerView, snapshot
from napari_cellenhance.widgets._status import alarm
from napari_cellenhance.widgets._train_guess import Painted, guess_image, measure_painted, unpainted_warning
from napari_cellenhance.widgets._worker import LatestOnly, Outcome
from napari_cellenhance.workflows.train_layers import TrainLayer

__all__ = ["TrainLayerForm"]

_COUNT_AFTER_MS = 300
_COVER = (("the whole plane", "plane"), ("the box around what is painted", "box"))


class TrainLayerForm(QWidget):
    """Form of one image layer. Guesses come by themselves and can be corrected; no pixel is kept.

    Parameters
    ----------
    viewer : ViewerModel
    layer : Image
        Only read.
    """

    changed = Signal()

    def __init__(self, viewer: Any, layer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.layer = layer
        self._guesses = LatestOnly()
        self._asked = 0
        self._is_typed = False
        self._why_unknown = ""
        self._counts = LatestOnly()
        self._counted = 0
        self._painted: Painted | None = None
        self._followed: Any = None
        self._is_taught = True
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_COUNT_AFTER_MS)
        self.image = ImageForm()
        self.labels = LabelsPicker(
            viewer,
            "None",
            "Painted objects",
            "A Labels layer with the objects of this image, one number for each. It gives the object size, "
            "and teaches the filter where “Learn from” says so.",
        )
        self.cover = QComboBox()
        for title, data in _COVER:
            self.cover.addItem(title, data)
        self.cover.setAccessibleName("Where all objects are painted")
        self.cover.setToolTip(
            "Pixels without a label are taught as ground. If you painted only a corner of the image, "
            "choose the box; inside it every object must be painted."
        )
        self.cover.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.cover.setMinimumContentsLength(10)
        self.unpainted = QLabel()
        self.unpainted.setWordWrap(True)
        self.diameter = QDoubleSpinBox()
        self.diameter.setRange(0.0, 10 * MAX_DIAMETER_PX)
        self.diameter.setDecimals(1)
        self.diameter.setSuffix(" px")
        self.diameter.setSpecialValueText("unknown")
        self.diameter.setAccessibleName("Object diameter")
        self.diameter.setToolTip("Typical diameter of an object, in pixels. Training brings all objects to one size.")
        self.again = QPushButton("Guess")
        self.again.setToolTip("Measure the diameter on the painted objects, or suggest it from the image, once more.")
        self.note = QLabel()
        self.note.setWordWrap(True)
        self._lay_out()
        self._connect()
        self.image.show_view(self.view())

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.image)
        self._form = QFormLayout()
        self._form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        self._form.addRow("Painted objects", self.labels)
        self._form.addRow("All painted in", self.cover)
        self._form.addRow(self.unpainted)
        size = QHBoxLayout()
        size.addWidget(self.diameter, 1)
        size.addWidget(self.again)
        self._form.addRow("Object diameter", size)
        layout.addLayout(self._form)
        layout.addWidget(self.note)
        self._form.setRowVisible(self.cover, False)
        self._form.setRowVisible(self.unpainted, False)
        self.note.setVisible(False)

    def _connect(self) -> None:
        self.image.changed.connect(self._tell)
        self.image.suggestion_wanted.connect(self.guess)
        self.image.dark.clicked.connect(self.guess)
        self.labels.picked.connect(self._on_labels)
        self.cover.currentIndexChanged.connect(self._on_cover)
        self.diameter.valueChanged.connect(self._on_typed)
        self.again.clicked.connect(self._on_again)
        self._guesses.delivered.connect(self._on_guessed)
        self._counts.delivered.connect(self._on_counted)
        self._timer.timeout.connect(self._count)

    def view(self) -> LayerView:
        """The layer as it is now."""
        return snapshot(self.layer, self._viewer.dims)

    def problem(self) -> str:
        """Why this layer cannot be trained on; empty if it can."""
        if problem := self.image.problem():
            return problem
        if self.diameter.value() > 0:
            return ""
        if self._why_unknown:
            return f"The object diameter of “{self.layer.name}” is not known. {self._why_unknown}"
        return f"The object diameter of “{self.layer.name}” is not known yet: wait a moment, or type it."

    def train_layer(self, *, with_labels: bool) -> TrainLayer:
        """What the form says; labels are copied, so that painting can go on.

        Parameters
        ----------
        with_labels : bool
            False leaves the painted objects out; they have given the diameter already.
        """
        view, painted = self.view(), self.labels.layer()
        uses_labels = with_labels and painted is not None
        return TrainLayer(
            name=view.name,
            image=view.levels[0],
            axes=self.image.axes_text,
            channels=self.image.chosen_channels,
            objects_are_dark=self.image.dark.isChecked(),
            object_diameter_px=float(self.diameter.value()),
            labels=np.array(labels_array(painted)) if uses_labels else None,
            labels_cover=self.cover.currentData(),
        )

    # --- slots --------------------------------------------------------------------------

    def show_error(self, message: str) -> None:
        """Show a sentence under the diameter."""
        self.note.setText(alarm(message))
        self.note.setVisible(True)

    def _tell(self) -> None:
        self.changed.emit()

    @guarded
    def guess(self) -> None:
        """Ask for suggestions; they come when a thread has looked."""
        if self.image.problem():
            return
        painted = self.labels.layer()
        labels = None if painted is None else labels_array(painted)
        name = "" if painted is None else str(painted.name)
        said = self.image.dark.isChecked() if self.image.is_dark_chosen_by_hand else None
        work = partial(guess_image, self.view(), self.image.axes_text, said, labels, name)
        self._why_unknown = ""
        self._asked = self._guesses.submit(work)

    @guarded
    def _on_guessed(self, ticket: int, outcome: Outcome) -> None:
        if ticket != self._asked:
            return  # overtaken
        if outcome.error is not None:
            self._why_unknown = error_sentence(outcome.error)
            self._tell()
            return
        found = outcome.value
        self._why_unknown = "" if found.diameter_px is not None else found.reason
        self.image.show_suggestion(found.dark)
        if not self._is_typed and found.diameter_px is not None:
            was_blocked = self.diameter.blockSignals(True)
            self.diameter.setValue(found.diameter_px)
            self.diameter.blockSignals(was_blocked)
        if not self._is_typed:
            self.note.setText(found.reason)
            self.note.setVisible(True)
        self._tell()

    @guarded
    def _on_typed(self) -> None:
        self._is_typed = True
        self.note.setVisible(False)
        self._tell()

    @guarded
    def _on_again(self) -> None:
        self._is_typed = False
        self.guess()

    @guarded
    def _on_labels(self) -> None:
        layer = self.labels.layer()
        self._form.setRowVisible(self.cover, layer is not None)
        self._follow(layer)
        self._painted = None
        self._warn()
        self._count()
        self.guess()
        self._tell()

    # --- how much is painted --------------------------------------------------------------

    def set_taught(self, is_taught: bool) -> None:
        """Say whether the painted objects teach the filter, or only give the object size."""
        self._is_taught = is_taught
        self._warn()

    def _follow(self, layer: Any) -> None:
        for event in self._paint_events():
            event.disconnect(self._on_painted)
        self._followed = layer
        for event in self._paint_events():
            event.connect(self._on_painted)

    def _paint_events(self) -> tuple[Any, ...]:
        return paint_events(self._followed)

    @guarded
    def _on_painted(self) -> None:
        if not self._timer.isActive():
            self._timer.start()

    @guarded
    def _count(self) -> None:
        if self._followed is not None:
            self._counted = self._counts.submit(partial(measure_painted, labels_array(self._followed)))

    @guarded
    def _on_counted(self, ticket: int, outcome: Outcome) -> None:
        if ticket == self._counted and outcome.error is None and self._followed is not None:
            self._painted = outcome.value
            self._warn()

    @guarded
    def _on_cover(self) -> None:
        self._warn()
        self._tell()

    def _warn(self) -> None:
        """Say visibly what is taught where nothing is painted."""
        warning = ""
        if self._is_taught and self._painted is not None and self._followed is not None:
            warning = unpainted_warning(self._painted, is_plane=self.cover.currentData() == "plane")
        self.unpainted.setText(alarm(warning) if warning else "")
        self._form.setRowVisible(self.unpainted, bool(warning))

    def close_down(self) -> None:
        """Let the threads end, and let go of the viewer."""
        self._timer.stop()
        self._guesses.close()
        self._counts.close()
        self._follow(None)
        self.labels.release()
