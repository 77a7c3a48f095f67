"""How synthetic images are put together from crops: intervals that every image is drawn from."""

from __future__ import annotations

from functools import partial
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QHBoxLayout, QLabel, QWidget

from napari_cellenhance.core.synthetic_pairs import SceneSettings
from napari_cellenhance.widgets._forms import new_form
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._restore_microscope import number_box
from napari_cellenhance.widgets._training_time import count_box

__all__ = ["ScenesForm"]

_INTERVALS: dict[str, tuple[str, str, float, float, int, float]] = {
    "n_target": ("Wanted", "Objects of the kind to keep in one image.", 0, 50, 0, 1),
    "n_unwanted": ("Unwanted", "Objects of the other kind in one image.", 0, 50, 0, 1),
    "gain": ("Brightness", "Every object is made brighter or dimmer by a factor.", 0.01, 100, 2, 0.1),
    "zoom": ("Size", "Every object is enlarged or reduced by a factor.", 0.1, 10, 2, 0.05),
}
"""Title, tip, smallest, largest, decimals, step."""


class ScenesForm(QWidget):
    """Settings of synthetic images."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._is_filling = False
        self.image_px = count_box(
            32, 1024, 128, "Side of an image", "Several objects must fit in. Larger is slower.", " px"
        )
        self.image_px.setSingleStep(32)
        self.boxes: dict[str, tuple[QDoubleSpinBox, QDoubleSpinBox]] = {}
        self.as_many = QCheckBox("As many unwanted as wanted")
        self.as_many.setToolTip("Instead of a number of their own.")
        form = new_form(self)
        form.setContentsMargins(8, 0, 0, 0)
        form.addRow("Image side", self.image_px)
        for name, (title, tip, low, high, decimals, step) in _INTERVALS.items():
            pair = tuple(
                number_box(low, high, low, decimals, f"{title}, {end}", f"{tip} Any value from – to.", "", step)
                for end in ("from", "to")
            )
            self.boxes[name] = (pair[0], pair[1])
            row = QHBoxLayout()
            row.addWidget(pair[0], 1)
            row.addWidget(QLabel("–"))
            row.addWidget(pair[1], 1)
            form.addRow(title, row)
            for i, box in enumerate(pair):
                box.setMinimumWidth(60)
                box.valueChanged.connect(partial(self._on_value, name, i))
            if name == "n_target":
                form.addRow(self.as_many)
        self.outside = number_box(0, 95, 50, 0, "Outside ≤", "Of the sides of an object, beyond the edge.", " %", 5)
        self.overlap = number_box(
            0,
            100,
            90,
            0,
            "Covered ≤",
            "Share of an object that others may cover; 90 % and less is sound.",
            " %",
            5,
        )
        self.turning = QCheckBox("Turn and flip")
        self.turning.setToolTip("Objects and grounds look alike from all sides.")
        self.tracks = QCheckBox("Follow tracks")
        self.tracks.setToolTip("Image 2 shows the same cell at its next time point, where crops know their track.")
        form.addRow("Outside ≤", self.outside)
        form.addRow("Covered ≤", self.overlap)
        form.addRow(self.turning)
        form.addRow(self.tracks)
        self.image_px.editingFinished.connect(self._on_size)
        self.image_px.valueChanged.connect(self._tell)
        for box in (self.outside, self.overlap):
            box.valueChanged.connect(self._tell)
        for switch in (self.as_many, self.turning, self.tracks):
            switch.toggled.connect(self._tell)
        self.fill(SceneSettings())

    def fill(self, scene: SceneSettings) -> None:
        """Show other settings; tells of it once."""
        self._is_filling = True
        self.image_px.setValue(scene.size_px)
        self.as_many.setChecked(scene.n_unwanted is None)
        for name, boxes in self.boxes.items():
            for box, value in zip(boxes, getattr(scene, name) or scene.n_target, strict=True):
                box.setValue(value)
        self.outside.setValue(100 * scene.outside)
        self.overlap.setValue(100 * scene.max_overlap)
        self.turning.setChecked(scene.is_turning)
        self.tracks.setChecked(scene.follows_tracks)
        self._is_filling = False
        self._tell()

    def scene(self, *, is_product: bool, is_taken_apart: bool) -> SceneSettings:
        """What the form says."""
        ends: dict[str, Any] = {name: tuple(box.value() for box in boxes) for name, boxes in self.boxes.items()}
        n_target, n_unwanted = (
            (int(ends[name][0]), int(ends[name][1])) for name in ("n_target", "n_unwanted")
        )  # fmt: skip
        return SceneSettings(
            size_px=max(32, self.image_px.value() // 32 * 32), n_target=n_target,
            n_unwanted=None if self.as_many.isChecked() else n_unwanted, gain=ends["gain"], zoom=ends["zoom"],
            outside=self.outside.value() / 100, max_overlap=self.overlap.value() / 100,
            is_turning=self.turning.isChecked(), is_product=is_product, is_taken_apart=is_taken_apart,
            follows_tracks=self.tracks.isChecked(),
        )  # fmt: skip

    def show_error(self, message: str) -> None:
        """Show the reason in place of a tooltip."""
        self.image_px.setToolTip(message)

    @guarded
    def _on_size(self) -> None:
        self.image_px.setValue(max(32, round(self.image_px.value() / 32) * 32))

    @guarded
    def _on_value(self, name: str, end: int) -> None:
        boxes = self.boxes[name]
        if not self._is_filling and boxes[0].value() > boxes[1].value():  # the other end comes along
            was_blocked = boxes[1 - end].blockSignals(True)
            boxes[1 - end].setValue(boxes[end].value())
            boxes[1 - end].blockSignals(was_blocked)
        self._tell()

    def _tell(self) -> None:
        for box in self.boxes["n_unwanted"]:
            box.setEnabled(not self.as_many.isChecked())
        if not self._is_filling:
            self.changed.emit()
