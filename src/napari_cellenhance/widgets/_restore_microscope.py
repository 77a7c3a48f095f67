"""The microscope on paper: how it blurs, and how clean images are prepared before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_cellenhance.core.errors import CellEnhanceError
from napari_cellenhance.core.microscope import Level, Optics, Preparation
from napari_cellenhance.widgets._forms import describe, new_form
from napari_cellenhance.widgets._guard import error_sentence, guarded
from napari_cellenhance.widgets._layer_picker import image_layers
from napari_cellenhance.widgets._training_run import folder_of
from napari_cellenhance.widgets._viewer_combo import ViewerCombo
from napari_cellenhance.workflows.care_layers import optics_problem, store_point
from napari_cellenhance.workflows.synthesize import Synthesis

__all__ = ["MicroscopeForm", "number_box"]

FILE, LAYER = "file", "layer"
_KINDS = (
    ("Gaussian", "gaussian"), ("Airy disk", "airy"), ("No blur", "none"), ("Image of a point (file)", FILE),
    ("Image of a point (layer)", LAYER),
)  # fmt: skip
_DEFAULT = Optics()
_NM = 1000.0
_POINTS = "measured-points"
_POINT_TIP = "Image of a bead, cropped to it, with the pixels of the clean images."


def number_box(
    low: float, high: float, value: float, decimals: int, name: str, tip: str, suffix: str = "", step: float = 0.1
) -> QDoubleSpinBox:
    """Make a box for a number."""
    box = QDoubleSpinBox()
    box.setDecimals(decimals)
    box.setRange(low, high)
    box.setSingleStep(step)
    box.setValue(value)
    box.setSuffix(suffix)
    describe(box, name, tip)
    return box


class MicroscopeForm(QWidget):
    """Blur and clean target.

    Parameters
    ----------
    viewer : ViewerModel
    """

    changed = Signal()

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._known: dict[str, float] = {}
        self._can_ask_files = False
        self._is_stack = False
        self._stored: tuple[Any, Path | None, str] = (None, None, "")
        self.kind = QComboBox()
        for title, data in _KINDS:
            self.kind.addItem(title, data)
        describe(self.kind, "Blur", "Point spread function: what the objective makes of a point.")
        self.na = number_box(0.05, 1.7, _DEFAULT.na, 2, "NA", "Numerical aperture; it is written on the objective.")
        self.wavelength = number_box(
            200.0, 2000.0, _NM * _DEFAULT.wavelength_um, 0, "Wavelength", "Of the light that is seen, in nanometres.",
            " nm", 10.0,
        )  # fmt: skip
        self.pixel = number_box(
            0.0, 100.0, 0.0, 4, "Pixel size",
            "Side of a pixel in the sample, in micrometres. Taken from the scale of the layer where it has a unit.",
            " µm", 0.01,
        )  # fmt: skip
        self.step = number_box(0.0, 1000.0, 0.0, 3, "Z step", "Distance of planes, in micrometres.", " µm")
        self.index = number_box(
            1.0, 2.0, _DEFAULT.refractive_index, 3, "Refractive index",
            "Of the immersion: air 1, water 1.33, glycerol 1.47, oil 1.515.", "", 0.01,
        )  # fmt: skip
        self.file = QLineEdit()
        describe(self.file, "Point file", _POINT_TIP)
        self.choose = QPushButton("Choose…")
        self.choose.setToolTip("Choose the image of a point.")
        self._place = QWidget()
        row = QHBoxLayout(self._place)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.file, 1)
        row.addWidget(self.choose)
        self.point = ViewerCombo(
            viewer, image_layers, name="Point layer", tip=_POINT_TIP, first="choose…",
        )  # fmt: skip
        self.radius = number_box(
            0.0, 10.0, 0.0, 1, "Minimum filter",
            "Radius of a minimum filter that removes bright specks from the clean image; it makes structures thinner.",
            " px", 0.5,
        )  # fmt: skip
        self.radius.setSpecialValueText("off")
        self.opening = QCheckBox("Give structures their width back (opening)")
        self.opening.setToolTip("A maximum filter of the same radius after the minimum filter.")
        self._lay_out()
        self._connect()
        self._on_kind()

    def _lay_out(self) -> None:
        self._form = new_form()
        rows: tuple[tuple[str, QWidget], ...] = (
            ("Blur", self.kind), ("NA", self.na), ("Wavelength", self.wavelength), ("Pixel size", self.pixel),
            ("Z step", self.step), ("Refractive index", self.index), ("File", self._place), ("Layer", self.point),
            ("Minimum filter", self.radius),
        )  # fmt: skip
        for title, part in rows:
            self._form.addRow(title, part)
        self._form.addRow(self.opening)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(self._form)

    def _connect(self) -> None:
        self.kind.currentIndexChanged.connect(self._on_kind)
        for box in (self.na, self.wavelength, self.pixel, self.step, self.index):
            box.valueChanged.connect(self._tell)
        self.radius.valueChanged.connect(self._on_radius)
        self.opening.toggled.connect(self._tell)
        self.file.textChanged.connect(self._tell)
        self.choose.clicked.connect(self._ask_file)
        self.point.picked.connect(self._tell)

    # --- what it says -------------------------------------------------------------------

    def synthesis(self, levels: tuple[Level, ...]) -> Synthesis:
        """All that the form says, with these levels."""
        kind = self.kind.currentData()
        is_measured = kind in (FILE, LAYER)
        optics = Optics(
            kind="none" if is_measured else kind, na=self.na.value(), wavelength_um=self.wavelength.value() / _NM,
            pixel_um=self.pixel.value(), step_um=self.step.value(), refractive_index=self.index.value(),
        )  # fmt: skip
        preparation = Preparation(
            radius_px=self.radius.value(), is_opening=self.radius.value() > 0 and self.opening.isChecked()
        )
        return Synthesis(optics=optics, psf_file=self._point_file(), preparation=preparation, levels=levels)

    def problem(self, synthesis: Synthesis, n_dims: Any) -> str:
        """Why images cannot be blurred like that; empty if they can."""
        kind = self.kind.currentData()
        if kind == FILE and not self.file.text().strip():
            return "Choose the image of a point under “Microscope”, or another blur."
        if kind == LAYER and self.point.layer() is None:
            return "Choose the layer that shows a point under “Microscope”, or another blur."
        if kind == LAYER and self._stored[2]:
            return self._stored[2]
        return optics_problem(synthesis, n_dims, can_ask_files=self._can_ask_files)

    def _point_file(self) -> Path | None:
        kind = self.kind.currentData()
        if kind == FILE and self.file.text().strip():
            return Path(self.file.text().strip())
        layer = self.point.layer() if kind == LAYER else None
        if layer is None:
            return None
        data = layer.data[0] if layer.multiscale else layer.data
        if self._stored[0] is not data:
            try:
                self._stored = data, store_point(np.asarray(data), folder_of(_POINTS)), ""
            except CellEnhanceError as error:
                self._stored = data, None, error_sentence(error)
        return self._stored[1]

    # --- what is shown to it ------------------------------------------------------------

    def show_source(self, sizes: dict[str, float], n_dims: Any, *, is_files: bool) -> None:
        """Take over the size of the pixels where it was not stated by hand."""
        self._can_ask_files, self._is_stack = is_files, n_dims == 3
        for box in (self.pixel, self.step):
            box.setSpecialValueText("as in the files" if is_files else "not known")
        for axis, box in (("X", self.pixel), ("Z", self.step)):
            before, now = self._known.get(axis, 0.0), sizes.get(axis, 0.0)
            if abs(box.value() - before) < 1e-9 or not box.value():
                was_blocked = box.blockSignals(True)
                box.setValue(now)
                box.blockSignals(was_blocked)
                self._known[axis] = box.value()
        self._show_rows()

    def _show_rows(self) -> None:
        kind = self.kind.currentData()
        is_computed = kind in ("gaussian", "airy")
        for part in (self.na, self.wavelength, self.pixel):
            self._form.setRowVisible(part, is_computed)
        for part in (self.step, self.index):
            self._form.setRowVisible(part, is_computed and self._is_stack)
        self._form.setRowVisible(self._place, kind == FILE)
        self._form.setRowVisible(self.point, kind == LAYER)

    # --- slots --------------------------------------------------------------------------

    def _tell(self) -> None:
        self.changed.emit()

    def show_error(self, message: str) -> None:
        """Show the reason in place of a tooltip."""
        self.kind.setToolTip(message)

    @guarded
    def _on_kind(self) -> None:
        self._show_rows()
        self._on_radius()

    @guarded
    def _on_radius(self) -> None:
        self.opening.setVisible(self.radius.value() > 0)
        self.changed.emit()

    @guarded
    def _ask_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Image of a point", "", "Images (*.tif *.tiff *.png)")
        if path:
            self.file.setText(path)

    def release(self) -> None:
        """Stop following the viewer."""
        self.point.release()
