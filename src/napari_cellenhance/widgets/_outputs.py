"""What to make besides the enhanced image: objects as Labels, blobs as Points."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_cellenhance.workflows.requests import BlobOptions, SegmentOptions

__all__ = ["OutputChoice"]

_BOX_MIN_PX = 90  # the numbers of 1 000 000 px would make the dock too wide
_METHODS = (("Otsu", "otsu"), ("Li", "li"), ("Manual", "manual"))


def _number(value: float, low: float, high: float, step: float, unit: str, tip: str, name: str) -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setRange(low, high)
    box.setSingleStep(step)
    box.setDecimals(2)
    box.setValue(value)
    box.setSuffix(unit)
    box.setMinimumWidth(_BOX_MIN_PX)
    box.setToolTip(tip)
    box.setAccessibleName(name)
    return box


class OutputChoice(QWidget):
    """Two optional outputs with their settings; closed until asked for."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.wants_labels = QCheckBox("Segment objects (Labels)")
        self.wants_labels.setToolTip(
            "Also make a Labels layer: threshold on the enhanced image, then one number per object."
        )
        self.wants_points = QCheckBox("Find blobs (Points)")
        self.wants_points.setToolTip(
            "Also make a Points layer: one point per round object, by the Laplacian of Gaussian over sizes."
        )
        self._labels_form, self._points_form = self._make_labels_form(), self._make_points_form()
        for box, form in ((self.wants_labels, self._labels_form), (self.wants_points, self._points_form)):
            layout.addWidget(box)
            layout.addWidget(form)
            form.setVisible(False)
            box.toggled.connect(form.setVisible)
            box.toggled.connect(self._tell)
        self.method.currentIndexChanged.connect(self._on_method)
        self.smallest.valueChanged.connect(self._keep_order)
        self._on_method()

    def _make_labels_form(self) -> QWidget:
        default = SegmentOptions()
        self.method = QComboBox()
        for title, key in _METHODS:
            self.method.addItem(title, key)
        self.method.setCurrentIndex([key for _, key in _METHODS].index(default.method))
        self.method.setToolTip(
            "How the threshold is found: Otsu (two classes), Li (dim objects), or a number of yours."
        )
        self.method.setAccessibleName("Threshold method")
        self.threshold = _number(
            default.threshold,
            0.0,
            1.0,
            0.05,
            "",
            "Threshold on the enhanced image, from 0 to 1; used with Manual.",
            "Threshold",
        )
        self.split_touching = QCheckBox("Split touching objects")
        self.split_touching.setChecked(default.split_touching)
        self.split_touching.setToolTip("Cut clumps at their waist (watershed on the distance to the border).")
        self.min_size = QSpinBox()
        self.min_size.setRange(0, 1_000_000)
        self.min_size.setValue(default.min_size_px)
        self.min_size.setSuffix(" px")
        self.min_size.setMinimumWidth(_BOX_MIN_PX)
        self.min_size.setToolTip("Objects with fewer pixels are dropped.")
        self.min_size.setAccessibleName("Minimum size")
        return _form(
            ("Threshold by", self.method),
            ("Threshold", self.threshold),
            ("", self.split_touching),
            ("Minimum size", self.min_size),
        )

    def _make_points_form(self) -> QWidget:
        default = BlobOptions()
        self.smallest = _number(
            default.min_radius_px, 0.5, 500.0, 0.5, " px", "Radius of the smallest object to find.", "Smallest radius"
        )
        self.largest = _number(
            default.max_radius_px, 0.5, 500.0, 0.5, " px", "Radius of the largest object to find.", "Largest radius"
        )
        self.contrast = _number(
            default.threshold, 0.0, 1.0, 0.01, "", "Fainter blobs are dropped; lower finds more.", "Blob contrast"
        )
        return _form(("Smallest radius", self.smallest), ("Largest radius", self.largest), ("Contrast", self.contrast))

    def segment(self) -> SegmentOptions | None:
        """Settings of the segmentation, or None."""
        if not self.wants_labels.isChecked():
            return None
        return SegmentOptions(
            method=self.method.currentData(),
            threshold=self.threshold.value(),
            split_touching=self.split_touching.isChecked(),
            min_size_px=self.min_size.value(),
        )

    def blobs(self) -> BlobOptions | None:
        """Settings of the blob finder, or None."""
        if not self.wants_points.isChecked():
            return None
        return BlobOptions(
            min_radius_px=self.smallest.value(), max_radius_px=self.largest.value(), threshold=self.contrast.value()
        )

    def _on_method(self) -> None:
        self.threshold.setEnabled(self.method.currentData() == "manual")

    def _keep_order(self, smallest: float) -> None:
        self.largest.setMinimum(smallest)

    def _tell(self) -> None:
        self.changed.emit()


def _form(*rows: tuple[str, QWidget]) -> QWidget:
    widget = QWidget()
    form = QFormLayout(widget)
    form.setContentsMargins(16, 0, 0, 4)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
    for label, field in rows:
        field.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        if label:
            form.addRow(label, field)
        else:
            form.addRow(field)
    return widget
