"""Tab “Numbers”: contrast, SNR, FRC resolution, errors against a reference, objects against labels or points."""

from __future__ import annotations

from functools import partial
from typing import Any

from qtpy.QtWidgets import QFormLayout, QWidget

from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._layers import pixel_sizes
from napari_cellenhance.widgets._measure_form import LayerCombo
from napari_cellenhance.widgets._measure_layers import Chosen, FrozenLayer, freeze, freeze_points, misfit
from napari_cellenhance.widgets._measure_tab import MeasureTab, TabJob, number_text, unique_names
from napari_cellenhance.widgets._table import ResultTable
from napari_cellenhance.workflows.compare_numbers import (
    COLUMNS,
    DEFINITIONS,
    NumbersRequest,
    NumbersResult,
    measure_numbers,
)

__all__ = ["NumbersTab", "number_cells", "pixel_of"]

_AT_LEAST, _AT_MOST = ("contrast_ratio",), ("frc_px", "frc_um")


def pixel_of(layer: FrozenLayer) -> tuple[float, float] | None:
    """Height and width of a pixel in µm; None where the layer has no physical unit."""
    sizes = pixel_sizes([float(step) for step in layer.geometry.scale[-2:]], layer.geometry.units[-2:], "YX")
    return (sizes["Y"], sizes["X"]) if len(sizes) == 2 else None


def number_cells(result: NumbersResult) -> tuple[list[tuple[str, str]], list[str], list[list[str]]]:
    """Rows, columns and cells of the table; rows of which nothing is known are left out."""
    shown = [key for key in COLUMNS if any(row[key] == row[key] for row in result.rows)]
    cells = []
    for key in shown:
        line = []
        for row in result.rows:
            text = number_text(row[key], COLUMNS[key][1])
            if key in _AT_LEAST and row["ground_is_black"] and text != "–":
                text = f"≥ {text}"
            if key in _AT_MOST and 2 * row["frc_at_limit"] > row["n_planes"] and text != "–":
                text = f"≤ {text}"
            line.append(text)
        cells.append(line)
    return [(COLUMNS[key][0], DEFINITIONS[key]) for key in shown], [str(row["image"]) for row in result.rows], cells


class NumbersTab(MeasureTab):
    """All numbers of the chosen layers in one table."""

    title = "Numbers"
    run_text = "Measure"
    run_tip = (
        "Contrast, SNR and resolution of every layer; errors and objects where there is something to compare with."
    )

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._result: NumbersResult | None = None
        self._dims: Any = None
        self.labels = LayerCombo(
            "Labels", "Objects drawn or checked by a person: they tell objects from ground, and what is to be found.",
            ("None: Otsu of the image before",),
        )  # fmt: skip
        self.reference = LayerCombo("Reference", "A clean image of the same field: PSNR, SSIM, MAE.", ("None",))
        self.points = LayerCombo("Points", "One point in each object: F1 of the points that were found.", ("None",))
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        for title, combo in (("Labels", self.labels), ("Reference", self.reference), ("Points", self.points)):
            form.addRow(title, combo)
            combo.currentIndexChanged.connect(self._tell)
        self.table = ResultTable("Numbers of every layer")
        self.column.addLayout(form)
        self.column.addWidget(self.table)
        self.add_save_buttons()
        self.column.addStretch(1)

    def fill_layers(self, images: list[Any], labels: list[Any], points: list[Any], dims: Any) -> None:
        """List the layers that there are."""
        self._dims = dims
        self.labels.fill(labels)
        self.reference.fill(images)
        self.points.fill(points)

    @guarded
    def _tell(self) -> None:
        self.changed.emit()

    def problem(self, chosen: Chosen) -> str:
        """An image after is needed, and what is compared with must lie on the others."""
        if not chosen.enhanced:
            return "Tick at least one image after to compare with."
        others = [layer for combo in (self.labels, self.reference) if (layer := combo.layer()) is not None]
        return next(filter(None, (misfit(chosen.raw, freeze(layer, self._dims)) for layer in others)), "")

    def job(self, chosen: Chosen) -> TabJob:
        """Measure everything that can be."""

        def image(layer: Any) -> Any:
            return None if layer is None else chosen.measured(freeze(layer, self._dims))

        points = self.points.layer()
        request = NumbersRequest(
            before=chosen.measured(chosen.raw), after=tuple(chosen.measured(layer) for layer in chosen.enhanced),
            pixel_um=pixel_of(chosen.raw), labels=image(self.labels.layer()), reference=image(self.reference.layer()),
            points=None if points is None else chosen.true_points(freeze_points(points)),
        )  # fmt: skip
        work = partial(_measure, request)
        return TabJob(f"Numbers of {chosen.raw.name}", work, self.show_result)

    def show_result(self, result: NumbersResult) -> str:
        """Fill the table; returns the notes."""
        if not result.is_complete:
            return "Cancelled; the earlier table is kept."
        self._result = result
        rows, names, cells = number_cells(result)
        self.table.show_table(rows, unique_names(names), cells)
        self.enable_saving()
        return " ".join(["Done.", *result.notes])

    def rows_to_save(self) -> list[dict[str, Any]]:
        """One row for each layer."""
        return [] if self._result is None else list(self._result.rows)

    def record_to_save(self) -> dict[str, Any]:
        """Layers, definitions, notes."""
        return {} if self._result is None else self._result.record


def _measure(request: NumbersRequest, on_progress: Any, is_cancelled: Any) -> NumbersResult:
    return measure_numbers(request, on_progress=on_progress, is_cancelled=is_cancelled)
