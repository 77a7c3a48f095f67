"""Tab “Reference”: restored images against a clean one, labels found against true labels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QSizePolicy,
    QWidget,
)

from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._layer_checks import LayerChecks
from napari_cellenhance.widgets._measure_form import SCOPES, LayerCombo
from napari_cellenhance.widgets._measure_layers import Chosen, freeze, is_enhanced
from napari_cellenhance.widgets._measure_tab import MeasureTab, TabJob, unique_names
from napari_cellenhance.widgets._table import ResultTable
from napari_cellenhance.workflows.measure import describe_layers
from napari_cellenhance.workflows.measure_pair_tables import cell_text, describe, title_of, to_rows
from napari_cellenhance.workflows.measure_pairs import Kind, PairOptions, PairRequest, PairScore, measure_pair
from napari_cellenhance.workflows.progress import Progress

__all__ = ["ReferenceTab", "reference_cells"]

_NO_REFERENCE = "Open a clean image and restored ones, or true labels and labels that were found, to compare them here."
_DEFAULT = PairOptions()
_LIST_ROWS = 3
_KINDS: tuple[tuple[str, Kind], ...] = (("Single objects", "objects"), ("Classes", "classes"))
_TITLES = {"n_true": "True objects", "n_found": "Objects found", "data_range": "Grey range"}
_TIPS = {
    "psnr_db": "10·log10(range² / mean square error), in decibels: higher is closer; equal images have ∞.",
    "affine_psnr_db": "PSNR after scaling and shifting the grey values for the best fit: for results of another scale.",
    "ssim": "Structural similarity in windows of 7 × 7 px; 1 is equal.",
    "mae": "Mean absolute error, in grey values of the reference.",
    "data_range": "Grey values from black to white that PSNR and SSIM refer to: they depend on it.",
    "n_true": "Objects in the reference.",
    "n_found": "Objects in the result.",
    "ap": "True / (true + false + missed): the share of all objects, found or missed, that match with this overlap.",
    "precision": "Share of the objects found that are right.",
    "recall": "Share of the true objects that were found.",
    "f1": "Both in one: 2 true / (2 true + false + missed).",
    "seg": "Mean IoU of the true objects with what covers more than half of each; objects found in vain cost nothing.",
    "iou": "Pixels in both / pixels in either.",
    "dice": "2 × pixels in both / sum of the pixels.",
    "mean_iou": "IoU of the classes, averaged.",
    "mean_dice": "Dice coefficient of the classes, averaged.",
    "n_planes": "Planes that were added up.",
}


def reference_cells(rows: Sequence[dict[str, Any]]) -> tuple[list[tuple[str, str]], list[str], list[list[str]]]:
    """Rows, columns and cells of the table: measures down, layers across."""
    keys = [key for key in rows[0] if key not in ("image", "reference")] if rows else []
    if all(row["n_planes"] == 1 for row in rows):
        keys = keys[:-1]
    titles = [(_TITLES.get(key) or _plain(key), _TIPS.get(key) or _TIPS.get(key.partition("_")[0], "")) for key in keys]
    return titles, [row["image"] for row in rows], [[_text(key, row[key]) for row in rows] for key in keys]


def _plain(key: str) -> str:
    """Name of a row: there is one least overlap, so that only AP tells it.

    >>> _plain("ap_50"), _plain("recall_50"), _plain("iou_2"), _plain("affine_psnr_db")
    ('AP at 0.5', 'Recall', 'IoU of class 2', 'Affine PSNR (dB)')
    """
    word, title = key.partition("_")[0], title_of(key)
    if word == "ap":
        return title.replace(" ", " at ")
    if word in ("precision", "recall", "f1"):
        return word.capitalize()
    if word in ("iou", "dice") and key != word:
        return title.replace(" ", " of class ")
    return title[0].upper() + title[1:]


def _text(key: str, value: Any) -> str:
    return cell_text(key, value).replace("-", "−")


class ReferenceTab(MeasureTab):
    """Image layers against a clean one, or Labels layers against true labels; it has pickers of its own."""

    title = "Reference"
    no_layers = _NO_REFERENCE
    has_own_layers = True
    run_text = "Measure"
    run_tip = "Compare results with a clean image (PSNR, SSIM, MAE) or with true labels (AP, SEG, IoU, Dice)."

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._layers: list[Any] = []
        self._rows: list[dict[str, Any]] = []
        self._record: dict[str, Any] = {}
        self._measured: tuple[Any, Kind] | None = None
        self.reference = LayerCombo(
            "Reference",
            "What results should look like: a clean image, or a Labels layer that was drawn or checked by a person.",
        )
        self.results = LayerChecks(
            "Results",
            "Tick what to compare with the reference: images with an image, labels with labels.",
            _LIST_ROWS,
        )
        self.kind = QComboBox()
        for title, kind in _KINDS:
            self.kind.addItem(title, kind)
        self.kind.setAccessibleName("Labels are")
        self.kind.setToolTip("Whether each object has its own number, or all objects of a class have one.")
        self.ignore = QCheckBox("Leave out label 0")
        self.ignore.setToolTip(
            "Tick it where 0 in the reference means not painted; untick it where 0 is a class, such as ground."
        )
        self.overlap = _box(0.05, 1.0, _DEFAULT.min_iou[0], 2, "Least overlap")
        self.overlap.setSingleStep(0.05)
        self.overlap.setToolTip("Least IoU (pixels in both / pixels in either) at which two objects match.")
        self.range = _box(0.0, 1e9, 0.0, 4, "Grey range")
        self.range.setSpecialValueText("of the reference")
        self.range.setToolTip(
            "Grey values from black to white, which PSNR and SSIM depend on: largest less smallest value of the "
            "reference, or a number, such as 255 or 65535, to compare with numbers from elsewhere."
        )
        self.scope = QComboBox()
        for title, only_plane in SCOPES:
            self.scope.addItem(title, only_plane)
        self.scope.setAccessibleName("Measure on")
        self.scope.setToolTip("All planes of the stack, added up, or only the one that is shown.")
        self.table = ResultTable("Scores of every result")
        self._lay_out()
        self.reference.currentIndexChanged.connect(self._on_reference)
        self.results.itemChanged.connect(self._tell)
        self.kind.currentIndexChanged.connect(self._show_settings)
        for box in (self.overlap, self.range):
            box.valueChanged.connect(self._tell)
        self.scope.currentIndexChanged.connect(self._tell)
        self.ignore.toggled.connect(self._tell)
        self._show_settings()

    def _lay_out(self) -> None:
        self._form = QFormLayout()
        self._form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        self._form.addRow("Reference", self.reference)
        self._form.addRow("Results", self.results)
        self._form.addRow("Labels are", self.kind)
        self._form.addRow("", self.ignore)
        self._form.addRow("Least overlap", self.overlap)
        self._form.addRow("Grey range", self.range)
        self._form.addRow("Measure on", self.scope)
        self.column.addLayout(self._form)
        self.column.addWidget(self.table)
        self.add_save_buttons()
        self.column.addStretch(1)

    # --- layers -------------------------------------------------------------------------

    def fill_layers(self, images: list[Any], labels: list[Any]) -> None:
        """List these layers; what was chosen and ticked stays."""
        self._layers = [*labels, *images]
        by_hand = [layer for layer in labels if not is_enhanced(layer)] if len(labels) > 1 else []
        raw = [layer for layer in images if not is_enhanced(layer)]
        preferred = by_hand[-1:] or raw[-1:]
        self.reference.fill(self._layers, prefer=lambda layer: layer in preferred)
        self._on_reference()

    @guarded
    def _on_reference(self) -> None:
        """List the layers of the same kind as the reference."""
        reference = self.reference.layer()
        listed = [layer for layer in self._layers if type(layer) is type(reference) and layer is not reference]
        self.results.fill(listed, lambda layer: is_enhanced(layer) or len(listed) == 1, kept=self._layers)
        self._show_settings()

    def tick(self, layer: Any, is_ticked: bool = True) -> None:
        """Tick a result from outside."""
        self.results.tick(layer, is_ticked)

    def chosen(self, dims: Any) -> Chosen | None:
        """Freeze reference (as the first layer) and results; None without a reference. Call it on the GUI thread."""
        reference = self.reference.layer()
        if reference is None:
            return None
        return Chosen(
            raw=freeze(reference, dims),
            enhanced=tuple(freeze(layer, dims) for layer in self.results.ticked()),
            only_plane=bool(self.scope.currentData()) and self._has_stack(),
        )

    @property
    def _has_labels(self) -> bool:
        return hasattr(self.reference.layer(), "selected_label")

    def _has_stack(self) -> bool:
        layer = self.reference.layer()
        return layer is not None and any(n > 1 for n in layer.data.shape[: layer.ndim - 2])

    # --- settings -----------------------------------------------------------------------

    def options(self) -> PairOptions:
        """What the settings say."""
        return PairOptions(
            kind=self.kind.currentData() if self._has_labels else "images",
            data_range=self.range.value() or None,
            min_iou=(round(self.overlap.value(), 2),),
            ignore=0 if self.ignore.isChecked() else None,
        )

    @guarded
    def _show_settings(self) -> None:
        kind = self.options().kind
        for part, is_shown in (
            (self.kind, self._has_labels),
            (self.ignore, kind == "classes"),
            (self.overlap, kind == "objects"),
            (self.range, kind == "images"),
            (self.scope, self._has_stack()),
        ):
            self._form.setRowVisible(part, is_shown)
        if self._measured not in (None, (self.reference.layer(), kind)):
            self._forget()  # numbers of another reference, or of another kind, would be taken for these
        self._tell()

    def _forget(self) -> None:
        self._measured, self._rows = None, []
        self.table.clear_table()
        self.enable_saving()

    def _tell(self) -> None:
        self.changed.emit()

    # --- measuring ----------------------------------------------------------------------

    def problem(self, chosen: Chosen) -> str:
        """At least one result is needed."""
        if chosen.enhanced:
            return ""
        kind = "Labels" if self._has_labels else "image"
        if self.results.layers:
            return f"Tick at least one {kind} layer to compare with “{chosen.raw.name}”."
        return f"There is no other {kind} layer to compare with “{chosen.raw.name}”; open the result beside it."

    def job(self, chosen: Chosen) -> TabJob:
        """Compare all results with the reference."""
        options, reference = self.options(), chosen.measured(chosen.raw)
        results = [chosen.measured(layer) for layer in chosen.enhanced]

        def work(on_progress: Any, is_cancelled: Any) -> list[PairScore]:
            scores = []
            for number, result in enumerate(results):

                def tell(done: Progress, number: int = number) -> None:
                    at = number * done.n_total + done.n_done
                    on_progress(Progress(n_done=at, n_total=len(results) * done.n_total, message=done.message))

                request = PairRequest(result=result, reference=reference, options=options)
                scores.append(measure_pair(request, on_progress=tell, is_cancelled=is_cancelled))
                if not scores[-1].is_complete:
                    break
            return scores

        record = {**describe(options), **describe_layers(reference=reference, results=results)}
        return TabJob(
            f"Measure against {chosen.raw.name}", work, partial(self._show, self.reference.layer(), options, record)
        )

    def _show(self, layer: Any, options: PairOptions, record: dict[str, Any], scores: list[PairScore]) -> str:
        done = [score for score in scores if score.is_complete]
        if not done:
            return "Cancelled before a result was measured; the earlier table is kept."
        # Results of one reference are alternatives: a mean of them would say nothing.
        self._rows = to_rows(done, options)[: len(done)]
        notes = list(dict.fromkeys(note for score in done for note in score.notes))
        self._record, self._measured = {**record, "notes": notes}, (layer, options.kind)
        titles, names, cells = reference_cells(self._rows)
        self.table.show_table(titles, unique_names(names), cells)
        self.enable_saving()
        begin = f"Compared with “{done[0].reference}”." if len(done) == len(scores) else "Cancelled before the others."
        return " ".join([begin, *notes])

    def rows_to_save(self) -> list[dict[str, Any]]:
        """Scores of each result."""
        return self._rows

    def record_to_save(self) -> dict[str, Any]:
        """Layers, settings, notes."""
        return self._record


def _box(low: float, high: float, value: float, digits: int, name: str) -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setDecimals(digits)
    box.setRange(low, high)
    box.setValue(value)
    box.setAccessibleName(name)
    box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return box
