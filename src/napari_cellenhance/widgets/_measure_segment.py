"""Tab “Segment”: the same threshold and watershed on every image, scored against the mask's objects."""

from __future__ import annotations

from functools import partial
from typing import Any

from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QSpinBox, QWidget

from napari_cellenhance.widgets._measure_layers import Chosen, object_layer
from napari_cellenhance.widgets._measure_tab import MeasureTab, TabJob, number_text, unique_names
from napari_cellenhance.widgets._table import ResultTable
from napari_cellenhance.workflows.requests import SegmentOptions
from napari_cellenhance.workflows.segment import SegmentRequest, SegmentResult, segment_layers, to_rows

__all__ = ["SegmentTab"]

_METHODS = (("Otsu", "otsu"), ("Li (dim objects)", "li"))
_ROWS = (
    ("Objects", "n_objects", 0, "Objects found."),
    ("AP at 0.5", "ap_50", 3, "True / (true + false + missed); true: IoU with a labelled object of 0.5 or more."),
    ("SEG", "seg", 3, "Mean IoU of the labelled objects with what covers them; objects found in vain cost nothing."),
)  # fmt: skip


class SegmentTab(MeasureTab):
    """Objects of every image; average precision and SEG where a mask with single objects is chosen."""

    title = "Segment"
    run_text = "Segment"
    run_tip = "Threshold every image and split touching objects; each gets a Labels layer."

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._result: SegmentResult | None = None
        default = SegmentOptions()
        self.method = QComboBox()
        for title, key in _METHODS:
            self.method.addItem(title, key)
        self.method.setAccessibleName("Threshold method")
        self.method.setToolTip("How the threshold of every plane is found; the same way for all images.")
        self.split = QCheckBox("Split touching objects")
        self.split.setChecked(default.split_touching)
        self.split.setToolTip("Cut clumps at their waist (watershed on the distance to the border).")
        self.min_size = QSpinBox()
        self.min_size.setRange(0, 1_000_000)
        self.min_size.setValue(default.min_size_px)
        self.min_size.setSuffix(" px")
        self.min_size.setAccessibleName("Minimum size")
        self.min_size.setToolTip("Objects with fewer pixels are dropped.")
        self.table = ResultTable("Objects of every image")
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        form.addRow("Threshold by", self.method)
        form.addRow("Minimum size", self.min_size)
        self.column.addLayout(form)
        self.column.addWidget(self.split)
        self.column.addWidget(self.table)
        self.add_save_buttons()
        self.column.addStretch(1)

    def job(self, chosen: Chosen) -> TabJob:
        """Segment all images."""
        request = SegmentRequest(
            images=chosen.measured_images,
            options=SegmentOptions(
                method=self.method.currentData(),
                split_touching=self.split.isChecked(),
                min_size_px=self.min_size.value(),
            ),
            truth=chosen.measured_mask,
        )

        def work(on_progress: Any, is_cancelled: Any) -> SegmentResult:
            return segment_layers(request, on_progress=on_progress, is_cancelled=is_cancelled)

        return TabJob(f"Segment {chosen.raw.name}", work, partial(self._show, chosen))

    def _show(self, chosen: Chosen, result: SegmentResult) -> str:
        if not result.segmentations:
            return "Cancelled before an image was done; no layer was added."
        self._result = result
        rows = to_rows(result.segmentations)
        shown = _ROWS if chosen.mask is not None else _ROWS[:1]
        self.table.show_table(
            [(title, tip) for title, _, _, tip in shown],
            unique_names([row["layer"] for row in rows]),
            [[number_text(row[key], digits) for row in rows] for _, key, digits, _ in shown],
        )
        self.enable_saving()
        pairs = zip(result.segmentations, chosen.images, strict=False)
        self.layers_made.emit([object_layer(found, source, result.record) for found, source in pairs])
        counts = ", ".join(f"{found.n_objects} in “{found.layer}”" for found in result.segmentations)
        cut = "" if result.is_complete else " Cancelled before the other images."
        hint = "" if chosen.mask is not None else " Choose a Labels layer as Mask for AP and SEG."
        return f"Objects: {counts}.{cut}{hint}"

    def rows_to_save(self) -> list[dict[str, Any]]:
        """Scores of each image."""
        return [] if self._result is None else to_rows(self._result.segmentations)

    def record_to_save(self) -> dict[str, Any]:
        """Layers and settings."""
        return {} if self._result is None else self._result.record
