"""Tab “Detect”: blobs in every image, scored against annotated points; the threshold swept for each."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QFormLayout, QHBoxLayout, QPushButton, QSizePolicy, QWidget

from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._measure_form import LayerCombo
from napari_cellenhance.widgets._measure_layers import Chosen, blob_layer, freeze_points, outcome_layer
from napari_cellenhance.widgets._measure_tab import MeasureTab, TabJob, number_text, unique_names
from napari_cellenhance.widgets._plot import Curve, LinePlot, Mark
from napari_cellenhance.widgets._plot_paint import PALETTE
from napari_cellenhance.widgets._table import ResultTable
from napari_cellenhance.workflows.detect import (
    DEFAULT_THRESHOLD,
    DetectRequest,
    DetectResult,
    SweepResult,
    detect,
    find_candidates,
    sweep,
    to_rows,
)
from napari_cellenhance.workflows.diameter import measure_diameter, suggest_diameter

__all__ = ["DetectTab"]

_NONE, _CENTRES = "None", "Centres of the mask's objects"
_ROWS = (
    ("F1", "f1", 3, "Harmonic mean of precision and recall."),
    ("Precision", "precision", 3, "Share of the blobs that are annotated."),
    ("Recall", "recall", 3, "Share of the annotated points that were found."),
    ("Threshold", "threshold", 3, "Least response of a blob."),
    ("Blobs", "n_blobs", 0, "Blobs found."),
    ("True", "true_positives", 0, "Blobs matched to an annotated point."),
    ("False", "false_positives", 0, "Blobs without an annotated point."),
    ("Missed", "false_negatives", 0, "Annotated points without a blob."),
)
_MIN_BOX_PX = 90


class DetectTab(MeasureTab):
    """Blobs of about one size; F1 where there are annotated points."""

    title = "Detect"
    run_text = "Detect blobs"
    run_tip = "Find blobs in every image with this threshold; each gets a Points layer."

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._points_layer: Any = None
        self._result: DetectResult | None = None
        self._swept: tuple[SweepResult, Chosen] | None = None
        self.diameter = _box(1.0, 2000.0, 15.0, 1.0, 1, " px", "Diameter", "Typical diameter of an object, in pixels.")
        self.measure = QPushButton("Measure")
        self.measure.setToolTip("From the objects of the mask; without a mask as the raw image suggests.")
        self.truth = LayerCombo(
            "Annotated points",
            "Where the objects really are: a Points layer that a person made or checked, or the mask's objects. "
            "Points that this plugin found are not listed: they would be compared with themselves.",
            (_NONE, _CENTRES),
        )
        self.reach = _box(
            0.0, 2000.0, 0.0, 0.5, 1, " px", "Match within",
            "Largest distance between a blob and an annotated point that counts as found.",
        )  # fmt: skip
        self.reach.setSpecialValueText("half the diameter")
        self.threshold = _box(
            0.01, 10.0, DEFAULT_THRESHOLD, 0.01, 3, "", "Threshold",
            "Least response of a blob (Laplacian of Gaussian of the image in 0…1); lower finds more.",
        )  # fmt: skip
        self.wants_outcome = QCheckBox("Show true, false and missed points")
        self.wants_outcome.setToolTip(
            "A Points layer more for each image: true ones green discs, false ones orange crosses, "
            "missed ones blue diamonds."
        )
        self.sweep_button = QPushButton("Sweep thresholds")
        self.sweep_button.setToolTip("Try all thresholds on every image, each for itself, and plot F1 over them.")
        self.best_button = QPushButton("Use best thresholds")
        self.best_button.setToolTip("Make Points layers with the best threshold of each image.")
        self.plot = LinePlot()
        self.plot.setAccessibleName("F1 over the threshold")
        self.plot.set_labels("threshold", "F1")
        self.plot.set_empty_text("Choose annotated points, then sweep the thresholds.")
        self.table = ResultTable("Blobs of every image")
        self._lay_out()
        for box in (self.diameter, self.reach, self.threshold):
            box.valueChanged.connect(self._on_changed)
        self.truth.currentIndexChanged.connect(self._on_changed)
        self.measure.clicked.connect(self._want_diameter)
        self.sweep_button.clicked.connect(self._want_sweep)
        self.best_button.clicked.connect(self._want_best)
        self.best_button.setEnabled(False)
        self._on_changed()

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        diameter = QHBoxLayout()
        diameter.addWidget(self.diameter, 1)
        diameter.addWidget(self.measure)
        form.addRow("Diameter", diameter)
        form.addRow("Threshold", self.threshold)
        form.addRow("True points", self.truth)
        form.addRow("Match within", self.reach)
        buttons = QHBoxLayout()
        buttons.addWidget(self.sweep_button)
        buttons.addWidget(self.best_button)
        self.column.addLayout(form)
        self.column.addWidget(self.wants_outcome)
        self.column.addLayout(buttons)
        self.column.addWidget(self.plot, 1)
        self.column.addWidget(self.table)
        self.add_save_buttons(self.plot)

    # --- layers -------------------------------------------------------------------------

    def fill_points(self, layers: list[Any]) -> None:
        """List these Points layers."""
        self.truth.fill(layers)

    def set_busy(self, is_busy: bool) -> None:
        """Grey the buttons that would start a second job."""
        self._is_busy = is_busy
        self._on_changed()

    _is_busy = False

    @guarded
    def _on_changed(self) -> None:
        has_truth = self._has_truth
        self.sweep_button.setEnabled(has_truth and not self._is_busy)
        self.measure.setEnabled(not self._is_busy)
        self.best_button.setEnabled(self._swept is not None and not self._is_busy)
        self.reach.setEnabled(has_truth)
        self.wants_outcome.setEnabled(has_truth)
        self.changed.emit()

    @property
    def _has_truth(self) -> bool:
        return self.truth.layer() is not None or self.truth.currentText() == _CENTRES

    def problem(self, chosen: Chosen) -> str:
        """Centres need a mask."""
        if self.truth.layer() is None and self.truth.currentText() == _CENTRES and chosen.mask is None:
            return "“Centres of the mask's objects” needs a Labels layer: choose one as Mask."
        return ""

    # --- jobs ---------------------------------------------------------------------------

    def _request(self, chosen: Chosen) -> DetectRequest:
        layer = self.truth.layer()
        truth: Any = None
        if layer is not None:
            truth = chosen.true_points(freeze_points(layer))
        elif self.truth.currentText() == _CENTRES:
            truth = chosen.measured_mask
        return DetectRequest(
            images=chosen.measured_images,
            diameter_px=self.diameter.value(),
            truth=truth,
            match_radius_px=self.reach.value() or None,
        )

    def job(self, chosen: Chosen) -> TabJob:
        """Detect with the threshold that is typed."""
        request, threshold = self._request(chosen), self.threshold.value()

        def work(on_progress: Any, is_cancelled: Any) -> DetectResult:
            candidates = find_candidates(request, on_progress=on_progress, is_cancelled=is_cancelled)
            return detect(candidates, threshold)

        return TabJob(f"Detect blobs in {chosen.raw.name}", work, partial(self._show_blobs, chosen))

    @guarded
    def _want_sweep(self) -> None:
        self.wanted.emit(self.sweep_job)

    def sweep_job(self, chosen: Chosen) -> TabJob:
        """Sweep the thresholds of all images."""
        request = self._request(chosen)

        def work(on_progress: Any, is_cancelled: Any) -> SweepResult:
            return sweep(request, on_progress=on_progress, is_cancelled=is_cancelled)

        return TabJob(f"Sweep thresholds on {chosen.raw.name}", work, partial(self._show_sweep, chosen))

    @guarded
    def _want_best(self) -> None:
        self.wanted.emit(self.best_job)

    def best_job(self, chosen: Chosen) -> TabJob:
        """Apply the best thresholds of the last sweep, to the images that were swept."""
        if self._swept is None:
            return self.sweep_job(chosen)
        swept, then = self._swept

        def work(on_progress: Any, is_cancelled: Any) -> DetectResult:
            return detect(swept.candidates, swept.best_thresholds)

        return TabJob(f"Detect blobs in {then.raw.name}", work, partial(self._show_blobs, then))

    @guarded
    def _want_diameter(self) -> None:
        self.wanted.emit(self.diameter_job)

    def diameter_job(self, chosen: Chosen) -> TabJob:
        """Measure the diameter in the mask, else let the raw image suggest one."""
        mask, raw = chosen.measured_mask, chosen.measured(chosen.raw)

        def work(on_progress: Any, is_cancelled: Any) -> float:
            return suggest_diameter(raw) if mask is None else measure_diameter(mask)

        source = "as the raw image suggests" if mask is None else f"median of “{mask.name}”"

        def show(value: float) -> str:
            self.diameter.setValue(value)
            return f"Diameter {value:.1f} px ({source})."

        return TabJob("Measure the diameter", work, show)

    # --- results ------------------------------------------------------------------------

    def _show_blobs(self, chosen: Chosen, result: DetectResult) -> str:
        self._result = result
        layers = []
        for found, source in zip(result.detections, chosen.images, strict=False):
            has_outcome = self.wants_outcome.isChecked() and found.is_true is not None
            data, kwargs, kind = blob_layer(found, source, result.record)
            layers.append((data, {**kwargs, "visible": not has_outcome}, kind))  # one ring per blob is enough
            if has_outcome:
                layers.append(outcome_layer(found, source, result.record, self.diameter.value() / 2))
        self._show_table()
        self.layers_made.emit(layers)
        counts = ", ".join(f"{len(found.points)} in “{found.layer}”" for found in result.detections)
        if not counts:
            return "Cancelled before an image was done; no layer was added."
        is_cut = len(result.detections) < len(chosen.images)
        return " ".join(
            [f"Blobs: {counts}.", *(["Cancelled before the other images."] if is_cut else []), *result.notes]
        )

    def _show_sweep(self, chosen: Chosen, result: SweepResult) -> str:
        if not result.sweeps or not result.is_complete:
            return "Cancelled; the earlier curves are kept."
        self._swept = (result, chosen)
        names = unique_names([each.layer for each in result.sweeps])
        self.plot.set_curves(
            [Curve(name, each.thresholds, each.f1) for name, each in zip(names, result.sweeps, strict=True)]
        )
        self.plot.set_marks(
            [
                Mark(each.best_threshold, f"best {number_text(each.best_f1, 2)}", PALETTE[i % len(PALETTE)])
                for i, each in enumerate(result.sweeps)
            ]
        )
        self._result = detect(result.candidates, result.best_thresholds)
        self._show_table()
        best = "; ".join(
            f"“{name}” F1 {each.best_f1:.3f} at {each.best_threshold:.3f}"
            for name, each in zip(names, result.sweeps, strict=True)
        )
        return " ".join([f"Best: {best}. “Use best thresholds” makes Points layers.", *result.candidates.notes])

    def _show_table(self) -> None:
        rows = [] if self._result is None else to_rows(self._result.detections)
        shown = [row for row in _ROWS if any(_is_told(entry[row[1]]) for entry in rows)]
        self.table.show_table(
            [(title, tip) for title, _, _, tip in shown],
            unique_names([row["layer"] for row in rows]),
            [[number_text(row[key], digits) for row in rows] for _, key, digits, _ in shown],
        )
        self._on_changed()
        self.enable_saving()

    def rows_to_save(self) -> list[dict[str, Any]]:
        """Scores of each image."""
        return [] if self._result is None else to_rows(self._result.detections)

    def record_to_save(self) -> Mapping[str, Any]:
        """Layers, points, diameter, thresholds; the curves of the sweep where there was one."""
        record = {} if self._result is None else dict(self._result.record)
        if self._swept is not None:
            record["sweep"] = [
                {"layer": each.layer, "thresholds": each.thresholds.tolist(), "f1": each.f1.tolist()}
                for each in self._swept[0].sweeps
            ]
        return record


def _is_told(value: Any) -> bool:
    return value is not None and value == value  # NaN is not equal to itself


def _box(
    low: float, high: float, value: float, step: float, digits: int, unit: str, name: str, tip: str
) -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setDecimals(digits)
    box.setRange(low, high)
    box.setSingleStep(step)
    box.setValue(value)
    box.setSuffix(unit)
    box.setMinimumWidth(_MIN_BOX_PX)
    box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    box.setAccessibleName(name)
    box.setToolTip(tip)
    return box
