"""Tab “Histogram”: grey values before and after, as they are and added up; it follows the viewer."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QSizePolicy, QWidget

from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._measure_layers import Chosen
from napari_cellenhance.widgets._measure_tab import LiveTab, TabJob
from napari_cellenhance.widgets._plot import Curve, LinePlot
from napari_cellenhance.widgets._plot_paint import PALETTE
from napari_cellenhance.workflows.histogram import HistogramRequest, HistogramResult, count, to_rows

__all__ = ["LARGE_PX", "HistogramTab", "histogram_curves"]

LARGE_PX = 1 << 26
"""Stacks of more pixels, over all images, are counted on request only."""
_KINDS = (("Histogram", False), ("Cumulative distribution", True))
_RANGES = (("Each image from 0 to 1", True), ("Grey values as stored", False))
_WHERE = (("All pixels", "all"), ("Objects and ground", "both"), ("Objects", "objects"), ("Ground", "ground"))


def histogram_curves(result: HistogramResult, *, is_cumulative: bool, is_relative: bool) -> list[Curve]:
    """Curves to draw, in % of the pixels counted; one colour per image, objects and ground told apart by the line.

    Parameters
    ----------
    result : HistogramResult
    is_cumulative : bool
        Share of the pixels up to a grey value.
    is_relative : bool
        Each image from its darkest to its brightest pixel; else its own grey values.
    """
    curves = []
    layers = list(dict.fromkeys(curve.layer for curve in result.curves))
    for each in result.curves:
        histogram = each.histogram
        x = histogram.positions if is_relative else histogram.edges
        y = histogram.cumulative if is_cumulative else histogram.shares
        name = each.layer if each.where == "all" else f"{each.layer}, {each.where}"
        colour = PALETTE[layers.index(each.layer) % len(PALETTE)]
        if is_cumulative:
            x, y = np.asarray(x), np.concatenate([[0.0], y])
        curves.append(Curve(name, x, 100.0 * y, colour, "line" if is_cumulative else "steps"))
    return curves


class HistogramTab(LiveTab):
    """Histogram or cumulative distribution of the raw and the enhanced images."""

    title = "Histogram"
    run_text = "Draw"
    run_tip = "Count the grey values again; planes and small stacks are drawn by themselves."

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._result: HistogramResult | None = None
        self.kind = _combo(_KINDS, "Curve", "How often each grey value occurs, or the share of pixels up to it.")
        self.range = _combo(
            _RANGES,
            "Grey axis",
            "Stretch every image from its darkest (0) to its brightest pixel (1), to compare shapes.",
        )
        self.where = _combo(_WHERE, "Pixels", "All pixels, or those inside and outside of the mask.")
        self.is_log = QCheckBox("Logarithmic")
        self.is_log.setChecked(True)  # most pixels are ground: on a linear axis nothing else can be seen
        self.is_log.setToolTip("Show powers of ten upwards, so that rare grey values can be seen.")
        self.plot = LinePlot()
        self.plot.setAccessibleName("Grey values of every image")
        self.plot.set_empty_text("Choose a raw image and tick an enhanced one.")
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        form.addRow("Curve", self.kind)
        form.addRow("Grey axis", self.range)
        form.addRow("Pixels", self.where)
        self.column.addLayout(form)
        self.column.addWidget(self.is_log)
        self.column.addWidget(self.plot, 1)
        self.add_save_buttons(self.plot, has_copy=False)
        for combo in (self.kind, self.range):
            combo.currentIndexChanged.connect(self._redraw)
        self.is_log.toggled.connect(self._redraw)
        self.where.currentIndexChanged.connect(self._tell)
        self._redraw()

    def problem(self, chosen: Chosen) -> str:
        """Objects need a mask."""
        if self.where.currentData() != "all" and chosen.mask is None:
            return "Objects and ground are told apart by a Labels layer: choose one as Mask, or “All pixels”."
        return ""

    def _request(self, chosen: Chosen) -> HistogramRequest:
        return HistogramRequest(
            images=chosen.measured_images, where=self.where.currentData(), mask=chosen.measured_mask
        )

    def job(self, chosen: Chosen) -> TabJob:
        """Count with progress and Cancel."""
        request = self._request(chosen)

        def work(on_progress: Any, is_cancelled: Any) -> HistogramResult:
            return count(request, on_progress=on_progress, is_cancelled=is_cancelled)

        return TabJob(f"Histogram of {chosen.raw.name}", work, self.show_result)

    def draw_live(self, chosen: Chosen) -> str:
        """Count in a thread of which only the newest answer matters; returns a hint for what is too large."""
        if not chosen.only_plane and sum(layer.n_pixels for layer in chosen.images) > LARGE_PX:
            return "This stack is large: press Draw to count it, or choose the plane in view."
        self.submit(partial(count, self._request(chosen)))
        return ""

    def show_result(self, result: HistogramResult) -> str:
        """Draw it."""
        if not result.is_complete:
            return "Cancelled; the earlier curves are kept."
        self._result = result
        self._redraw()
        self.enable_saving()
        return "Drawn."

    @guarded
    def _redraw(self) -> None:
        is_cumulative, is_relative = self.kind.currentData(), self.range.currentData()
        grey = "grey value, darkest 0 to brightest 1" if is_relative else "grey value"
        self.plot.set_labels(grey, "pixels up to it, %" if is_cumulative else "pixels per bin, %")
        self.is_log.setEnabled(not is_cumulative)
        self.plot.set_log_y(self.is_log.isChecked() and not is_cumulative)
        if self._result is not None:
            self.plot.set_curves(histogram_curves(self._result, is_cumulative=is_cumulative, is_relative=is_relative))

    def _tell(self) -> None:
        self.changed.emit()

    def rows_to_save(self) -> list[dict[str, Any]]:
        """Every bin of every image."""
        return [] if self._result is None else to_rows(self._result)

    def record_to_save(self) -> dict[str, Any]:
        """Layers and where pixels were counted."""
        return {} if self._result is None else self._result.record


def _combo(entries: tuple[tuple[str, Any], ...], name: str, tip: str) -> QComboBox:
    combo = QComboBox()
    for title, data in entries:
        combo.addItem(title, data)
    combo.setAccessibleName(name)
    combo.setToolTip(tip)
    combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    combo.setMinimumContentsLength(10)
    return combo
