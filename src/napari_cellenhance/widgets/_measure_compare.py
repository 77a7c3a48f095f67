"""Tab “Compare”: contrast before and after, as a table."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from qtpy.QtWidgets import QComboBox, QFormLayout, QLabel, QWidget

from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._measure_layers import Chosen
from napari_cellenhance.widgets._measure_tab import MeasureTab, TabJob, number_text, with_sd
from napari_cellenhance.widgets._table import ResultTable
from napari_cellenhance.workflows.measure import CompareRequest, CompareResult, CompareRow, compare, to_rows

__all__ = ["CompareTab", "compare_cells"]

_MEAN = "Mean ± sd over planes"
_VALUES = (("As stored", "stored"), ("Stretched to 0…1", "stretched"))
_ROWS = (
    ("Contrast ratio", "contrast_ratio", 2, "Mean grey value of the objects over that of the ground."),
    ("Gain", "gain", 2, "Contrast ratio after minus before."),
    ("Fold", "fold", 2, "Contrast ratio after over before."),
    ("Michelson", "michelson", 3, "(objects − ground) / (objects + ground), from −1 to 1: does not explode at 0."),
    ("AUROC", "auroc", 3, "Probability that a pixel of an object is brighter than one of the ground; 0.5 is chance."),
    ("Otsu IoU", "otsu_iou", 3, "Overlap of the mask with what lies above Otsu's threshold: 1 is perfect."),
    ("SNR", "snr", 2, "(mean of the objects − mean of the ground) / standard deviation of the ground."),
)

_BLACK_GROUND_TIP = (
    "Whether the ground is black, or nearly so (below 1/1000 of the range of grey values); of several planes, on how "
    "many. Dividing by next to nothing would make the contrast ratio endless: there 1/1000 of the range was taken "
    "instead, and “≥” means “at least”. Compare by Michelson or AUROC then."
)


def compare_cells(result: CompareResult, plane: str | None) -> tuple[list[tuple[str, str]], list[str], list[list[str]]]:
    """Rows, columns and cells of the table.

    Parameters
    ----------
    result : CompareResult
    plane : str or None
        Name of a plane; None shows mean ± sd over the planes.
    """
    is_mean = plane is None and any(row.plane == "mean" for row in result.summary)
    source = result.summary if is_mean else result.rows
    means = [row for row in source if row.plane == ("mean" if is_mean else (plane or row.plane))]
    sds: list[CompareRow | None] = [row for row in source if row.plane == "sd"] if is_mean else [None] * len(means)
    cells = []
    for _, measure, digits, _ in _ROWS:
        line = []
        for mean, sd in zip(means, sds, strict=True):
            text = _cell(mean, sd, measure, digits)
            line.append(
                f"≥ {text}" if measure in ("contrast_ratio", "gain", "fold") and _is_at_least(mean, text) else text
            )
        cells.append(line)
    rows = [(title, tip) for title, _, _, tip in _ROWS]
    rows.append(("Black ground", _BLACK_GROUND_TIP))
    cells.append([_black_text(mean) for mean in means])
    return rows, [mean.layer for mean in means], cells


def _cell(mean: CompareRow, sd: CompareRow | None, measure: str, digits: int) -> str:
    value = float(getattr(mean, measure))
    return number_text(value, digits) if sd is None else with_sd(value, float(getattr(sd, measure)), digits)


def _is_at_least(row: CompareRow, text: str) -> bool:
    return row.hit_floor > 0 and text != "–"


def _black_text(row: CompareRow) -> str:
    if row.n_planes == 1:
        return "yes" if row.hit_floor else "no"
    return f"{row.hit_floor} of {row.n_planes}"


class CompareTab(MeasureTab):
    """Contrast ratio, gain, fold, Michelson, AUROC and Otsu IoU of every image."""

    title = "Compare"
    run_text = "Compare"
    run_tip = "Measure the contrast of objects against ground in every image."

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._result: CompareResult | None = None
        self.values = QComboBox()
        for title, key in _VALUES:
            self.values.addItem(title, key)
        self.values.setAccessibleName("Grey values")
        self.values.setToolTip(
            "As stored: a camera's offset lowers the contrast ratio of the raw image. "
            "Stretched: every image that is not within 0…1 is stretched from percentile 0.1 to 99.9 first."
        )
        self.plane = QComboBox()
        self.plane.setAccessibleName("Show")
        self.plane.setToolTip("Mean and standard deviation over the planes, or one plane.")
        self.mask_line = QLabel()
        self.mask_line.setWordWrap(True)
        self.table = ResultTable("Contrast of every image")
        self._form = QFormLayout()
        self._form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        self._form.addRow("Grey values", self.values)
        self._form.addRow("Show", self.plane)
        self.column.addLayout(self._form)
        self.column.addWidget(self.mask_line)
        self.column.addWidget(self.table)
        self.add_save_buttons()
        self.column.addStretch(1)
        self._form.setRowVisible(self.plane, False)
        self.mask_line.setVisible(False)
        self.values.currentIndexChanged.connect(self._tell)
        self.plane.currentIndexChanged.connect(self._refresh)

    def problem(self, chosen: Chosen) -> str:
        """An enhanced image is needed."""
        return "" if chosen.enhanced else "Tick at least one enhanced image to compare the raw image with."

    def job(self, chosen: Chosen) -> TabJob:
        """Compare all images."""
        request = CompareRequest(
            raw=chosen.measured(chosen.raw),
            enhanced=tuple(chosen.measured(layer) for layer in chosen.enhanced),
            mask=chosen.measured_mask,
            values=self.values.currentData(),
        )

        def work(on_progress: Any, is_cancelled: Any) -> CompareResult:
            return compare(request, on_progress=on_progress, is_cancelled=is_cancelled)

        return TabJob(f"Compare {chosen.raw.name}", work, partial(self.show_result))

    def show_result(self, result: CompareResult) -> str:
        """Fill the table; returns the notes."""
        self._result = result
        planes = list(dict.fromkeys(row.plane for row in result.rows if row.plane))
        was_blocked = self.plane.blockSignals(True)
        self.plane.clear()
        if planes:
            self.plane.addItem(_MEAN, None)
        for name in planes:
            self.plane.addItem(name, name)
        self.plane.blockSignals(was_blocked)
        self._form.setRowVisible(self.plane, len(planes) > 1)
        source = "made automatically from the raw image" if result.is_mask_automatic else result.record["mask_source"]
        self.mask_line.setText(f"Mask: {source}")
        self.mask_line.setVisible(True)
        self._refresh()
        begin = "Done." if result.is_complete else "Cancelled: the table holds the planes that were done."
        if result.is_complete and not any(np.isfinite(row.michelson) or np.isfinite(row.auroc) for row in result.rows):
            begin = "Nothing could be measured: choose another image, or another mask."
        return " ".join([begin, *result.notes])

    @guarded
    def _refresh(self) -> None:
        if self._result is not None and self._result.rows:
            self.table.show_table(*compare_cells(self._result, self.plane.currentData()))
        else:
            self.table.clear_table()
        self.enable_saving()

    def _tell(self) -> None:
        self.changed.emit()

    def rows_to_save(self) -> list[dict[str, Any]]:
        """Every plane, then means and standard deviations."""
        return [] if self._result is None else to_rows(self._result)

    def record_to_save(self) -> dict[str, Any]:
        """Layers, mask, notes."""
        return {} if self._result is None else self._result.record
