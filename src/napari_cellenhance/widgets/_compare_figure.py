"""Tab “Figure”: before, after and difference of the plane in view, for a paper or a talk."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from qtpy.QtWidgets import QCheckBox, QComboBox, QFileDialog, QFormLayout, QLabel, QWidget

from napari_cellenhance.io.comparison_figures import SUFFIXES
from napari_cellenhance.io.safe_write import safe_name
from napari_cellenhance.widgets._compare_look import DIFFERENCES
from napari_cellenhance.widgets._compare_numbers import pixel_of
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._layers import snapshot, view_region
from napari_cellenhance.widgets._measure_layers import Chosen, FrozenLayer
from napari_cellenhance.widgets._measure_tab import MeasureTab, TabJob
from napari_cellenhance.widgets._results import METADATA_KEY
from napari_cellenhance.workflows.comparison_figure import FiguredImage, FigureRequest, draw

__all__ = ["FigureTab"]

_COLOURS = 256
_KINDS = "PNG picture, 300 dpi (*.png);;PDF (*.pdf);;SVG (*.svg)"


class FigureTab(MeasureTab):
    """Export of a figure. The panel gives the layers themselves, for their colours and contrast limits."""

    title = "Figure"
    run_text = "Save figure…"
    run_tip = "Save before, after and difference as they are shown, with a scale bar and how they were made."

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._layers: list[Any] = []
        self._path = ""
        self.difference = QComboBox()
        for title, key, _ in DIFFERENCES:
            self.difference.addItem(title, key)
        self.difference.addItem("None", None)
        self.difference.setAccessibleName("Difference")
        self.difference.setToolTip("A panel with after − before: after the best scaling and shift, as stored, or none.")
        self.ground = QComboBox()
        self.ground.addItem("White, for papers", "white")
        self.ground.addItem("Black, for slides", "black")
        self.ground.setAccessibleName("Background")
        self.ground.setToolTip("Colour of the page.")
        self.part = QCheckBox("Only what is in view")
        self.part.setToolTip("Cut the figure to what the canvas shows; else the whole plane.")
        note = QLabel(
            "Contrast limits and colours are those of the layers. Under the images stand their limits and, in small "
            "print, how each was made; a JSON beside the figure holds all of it."
        )
        note.setWordWrap(True)
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        form.addRow("Difference", self.difference)
        form.addRow("Background", self.ground)
        form.addRow("", self.part)
        self.column.addLayout(form)
        self.column.addWidget(note)
        self.column.addStretch(1)

    def set_layers(self, layers: list[Any]) -> None:
        """The layers that are chosen, the one before first."""
        self._layers = layers

    def problem(self, chosen: Chosen) -> str:
        """An image after is needed."""
        return "" if chosen.enhanced else "Tick at least one image after to compare with."

    def ask(self) -> bool:
        """Ask for a file; False when nobody wants one."""
        name = f"{safe_name(str(self._layers[0].name))} before and after.png" if self._layers else "figure.png"
        path, kind = QFileDialog.getSaveFileName(self, "Save the figure", name, _KINDS)
        if path and not path.lower().endswith(SUFFIXES):
            path += next((ending for ending in SUFFIXES if ending in kind), SUFFIXES[0])
        self._path = path
        return bool(path)

    @guarded
    def save(self, path: str) -> None:
        """Write the figure to a file from outside."""
        self._path = path
        self.wanted.emit(self.job)

    def job(self, chosen: Chosen) -> TabJob:
        """Draw the plane in view."""
        before, *after = (
            self._figured(chosen, frozen, layer) for frozen, layer in zip(chosen.images, self._layers, strict=True)
        )
        request = FigureRequest(
            before=before, after=tuple(after), pixel_um=pixel_of(chosen.raw), window=self._window(chosen),
            difference=self.difference.currentData(), background=self.ground.currentData(),
        )  # fmt: skip
        return TabJob(f"Figure of {chosen.raw.name}", partial(_draw, request, self._path), self._show)

    def _figured(self, chosen: Chosen, frozen: FrozenLayer, layer: Any) -> FiguredImage:
        image = chosen.measured(frozen)
        here = type(image)(
            name=image.name, image=image.image, axes=image.axes, at=frozen.plane_at(frozen.axes(chosen.raw))
        )
        if frozen.is_rgb:
            return FiguredImage(image=here, record=layer.metadata.get(METADATA_KEY))
        low, high = (float(value) for value in layer.contrast_limits)
        shares = np.linspace(0, 1, _COLOURS) ** float(layer.gamma)
        return FiguredImage(
            image=here, limits=(low, high), colors=np.asarray(layer.colormap.map(shares)),
            record=layer.metadata.get(METADATA_KEY),
        )  # fmt: skip

    def _window(self, chosen: Chosen) -> tuple[slice, slice] | None:
        if not self.part.isChecked():
            return None
        region = view_region(snapshot(self._layers[0], self._viewer.dims), chosen.raw.axes().replace("S", ""))
        return slice(region.y0, region.y1), slice(region.x0, region.x1)

    def _show(self, files: Any) -> str:
        return f"Saved: {', '.join(file.name for file in files)} in {files[0].parent}."


def _draw(request: FigureRequest, path: str, *_: Any) -> Any:
    return draw(request, path)
