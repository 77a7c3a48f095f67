"""Tab “Profile”: grey values of several layers along a drawn line; it follows the line, the layers and the sliders."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QFormLayout, QHBoxLayout, QLabel, QPushButton, QSpinBox, QWidget

from napari_cellenhance.core.line_profiles import PROMINENCE, Normalization
from napari_cellenhance.widgets._fold import Fold
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._layer_checks import LayerChecks
from napari_cellenhance.widgets._measure_form import LayerCombo
from napari_cellenhance.widgets._measure_layers import Chosen, freeze
from napari_cellenhance.widgets._measure_line import ChosenLine, freeze_line
from napari_cellenhance.widgets._measure_tab import LiveTab, TabJob, number_text, unique_names
from napari_cellenhance.widgets._plot import Curve, LinePlot
from napari_cellenhance.widgets._plot_paint import PALETTE
from napari_cellenhance.widgets._table import ResultTable
from napari_cellenhance.workflows import profile_tables as tables
from napari_cellenhance.workflows.profiles import ProfileRequest, ProfileResult, measure_profiles

__all__ = ["ProfileTab", "peak_cells", "profile_curves", "summary_cells"]

_N_ROWS = 4
_TICKED_AT_FIRST = 4
_GREY: tuple[tuple[str, Normalization], ...] = (
    ("Grey values as stored", "none"),
    ("Each from 0 to 1", "range"),
    ("Each by percentiles 5 and 95", "percentiles"),
    ("Fitted to the reference", "fit"),
)
_IMAGE_EVENTS = ("set_data", "scale", "translate", "rotate", "shear", "affine", "units")
_LINE_EVENTS = (*_IMAGE_EVENTS[:-1], "data")
_Cells = tuple[list[tuple[str, str]], list[str], list[list[str]]]


def profile_curves(result: ProfileResult, how: Normalization) -> list[Curve]:
    """One curve for each image, and dots of its colour on its peaks, which have no name in the legend."""
    shown = result.shown(how)
    curves, dots = [], []
    for number, each in enumerate(result.profiles):
        colour = PALETTE[number % len(PALETTE)]
        curves.append(Curve(each.name, result.distance, shown[each.name], colour, "solid"))
        if each.peaks:
            places, values = tables.peak_dots(result, each, shown[each.name])
            dots.append(Curve("", np.asarray(places), np.asarray(values), colour, "points"))
    return [*curves, *dots]


def summary_cells(result: ProfileResult) -> _Cells:
    """Rows, columns and cells of the table of images: measures down, images across."""
    unit, fine = ("px", 2) if result.pixel_um is None else ("um", 3)
    measured = tables.comparison_rows(result)
    errors = [abs(row["mae"]) for row in measured if row["mae"] == row["mae"]]
    grey = 4 if errors and max(errors) < 1 else 2  # images of grey values from 0 to 1
    rows = [
        ("Peaks", "n_peaks", 0, "Peaks that rise as far as the least rise says."),
        (f"FWHM, {result.unit}", f"fwhm_{unit}", fine, "Median width of the peaks at half of their rise."),
    ]
    if result.reference:
        rows += [
            ("Peaks matched", "n_matched", 0, "Peaks that have a partner in the reference, at most its width away."),
            (f"Shift, {result.unit}", f"abs_shift_{unit}", fine, "Mean distance of peaks from their partners."),
            ("Width ratio", "width_ratio", 2, "Median of width over width of the partner: above 1 peaks are broader."),
            ("Correlation", "correlation", 3, "Pearson's correlation with the reference; 1 is equal but for scale."),
            ("MAE after fit", "mae", grey, "Mean absolute error after the best fit to the reference, in grey values."),
        ]  # fmt: skip
    cells = [[number_text(row[key], digits) for row in measured] for _, key, digits, _ in rows]
    return [(title, tip) for title, _, _, tip in rows], [row["image"] for row in measured], cells


def peak_cells(result: ProfileResult) -> _Cells:
    """Rows, columns and cells of the table of peaks: a row for each peak of each image."""
    unit, fine = ("px", 2) if result.pixel_um is None else ("um", 3)
    columns = [(f"Position, {result.unit}", f"position_{unit}", 2), ("Height", "height", 1),
               (f"FWHM, {result.unit}", f"fwhm_{unit}", fine)]  # fmt: skip
    if result.reference:
        columns += [(f"Shift, {result.unit}", f"shift_{unit}", fine), ("Width ratio", "width_ratio", 2)]
    peaks = tables.peak_rows(result)
    titles = [(f"{row['image']} {row['peak']}", f"Peak {row['peak']} of {row['image']}") for row in peaks]
    cells = [[number_text(row[key], digits) for _, key, digits in columns] for row in peaks]
    return titles, [title for title, _, _ in columns], cells


class ProfileTab(LiveTab):
    """Profiles along a line of a Shapes layer; it has pickers of its own.

    Signals: ``moved`` when the line or a layer changed; ``line_wanted`` when a line shall be drawn.
    """

    title = "Profile"
    run_text = "Read again"
    run_tip = "Grey values of several layers along a line. The plot follows the line and the layers by itself."
    no_layers = "Tick at least one image layer to read along a line; File ▸ Open Sample ▸ CellEnhance has some."
    has_own_layers = True

    moved = Signal()
    line_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._result: ProfileResult | None = None
        self._watched: list[tuple[Any, tuple[str, ...]]] = []
        self.images = LayerChecks("Images", "Tick the image layers to read along the line.", _N_ROWS)
        self.line = LayerCombo(
            "Line", "Shapes layer with the line: its selected line or path, else the last one, is read."
        )
        self.draw = QPushButton("Draw a line")
        self.draw.setToolTip("Take up the line tool, on a new Shapes layer if there is none; then drag over the image.")
        self.line_width = QSpinBox()
        self.line_width.setRange(1, 99)
        self.line_width.setSuffix(" px")
        self.line_width.setAccessibleName("Width")
        self.line_width.setToolTip(
            "Grey values are averaged across the line over this width, in pixels of the layer with the smallest ones: "
            "a wider line has less noise, but blurs what runs aslant to it."
        )
        self.grey = QComboBox()
        for title, how in _GREY:
            self.grey.addItem(title, how)
        self.grey.setAccessibleName("Grey axis")
        self.grey.setToolTip(
            "As stored; each profile from its darkest to its brightest value; from its percentile 5 to 95, which noise "
            "moves less; or scaled and shifted to lie as close to the reference as can be."
        )
        self.reference = LayerCombo(
            "Reference", "The clean image, if there is one: peaks and grey values are compared with it.", ("None",)
        )
        self.rise = QDoubleSpinBox()
        self.rise.setDecimals(0)
        self.rise.setRange(1, 100)
        self.rise.setValue(100 * PROMINENCE)
        self.rise.setSuffix(" %")
        self.rise.setAccessibleName("Least rise of a peak")
        self.rise.setToolTip(
            "How far a peak must rise above the valleys beside it, in % of the range of its profile. "
            "Raise it where noise makes peaks."
        )
        self.plot = LinePlot()
        self.plot.setAccessibleName("Grey values along the line")
        self.note = QLabel()
        self.note.setWordWrap(True)
        self.table = ResultTable("Peaks and agreement of every image")
        self.peaks = ResultTable("Peaks of every image")
        self.peaks_fold = Fold("Every peak", "Position, height and width of every peak.", self.peaks)
        self._lay_out()
        self._connect()
        self._redraw()

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        row = QHBoxLayout()
        row.addWidget(self.line, 1)
        row.addWidget(self.draw)
        form.addRow("Images", self.images)
        form.addRow("Line", row)
        form.addRow("Width", self.line_width)
        form.addRow("Reference", self.reference)
        form.addRow("Grey axis", self.grey)
        form.addRow("Least rise", self.rise)
        self.column.addLayout(form)
        self.column.addWidget(self.plot, 1)
        for part in (self.note, self.table, self.peaks_fold):
            self.column.addWidget(part)
        self.add_save_buttons(self.plot)
        self.note.setVisible(False)

    def _connect(self) -> None:
        self.images.itemChanged.connect(self._on_layers)
        for combo in (self.line, self.reference):
            combo.currentIndexChanged.connect(self._on_layers)
        for box in (self.line_width, self.rise):
            box.valueChanged.connect(self._tell)
        self.grey.currentIndexChanged.connect(self._on_grey)
        self.draw.clicked.connect(self._on_draw)

    # --- layers -------------------------------------------------------------------------

    def choose_images(self, layers: list[Any]) -> None:
        """Read these images, and compare them with the first one."""
        for layer in self.images.layers:
            self.images.tick(layer, layer in layers)
        if layers:
            self.reference.choose(layers[0])

    def fill_layers(self, images: list[Any], shapes: list[Any]) -> None:
        """List these layers; what was chosen and ticked stays. Of new ones, the first few that are shown are ticked."""
        free = _TICKED_AT_FIRST - len(self.images.ticked())
        fresh = [layer for layer in images if layer not in self.images.layers]
        shown = [layer for layer in fresh if layer.visible]  # maps of errors, say, are hidden at first
        wanted = (shown or ([] if self.images.ticked() else fresh))[: max(0, free)]
        self.images.fill(images, lambda layer: layer in wanted)
        self.reference.fill(images)
        self.line.fill(shapes, prefer=lambda layer: freeze_line(layer) is not None)
        self._on_layers()

    @guarded
    def _on_layers(self) -> None:
        """Listen to the layers that are read, and to no others."""
        self._unwatch()
        line = self.line.layer()
        self._watched = [(layer, _IMAGE_EVENTS) for layer in self._read_layers()]
        if line is not None:
            self._watched.append((line, _LINE_EVENTS))
            line.selected_data.events.items_changed.connect(self._on_moved)
        for layer, events in self._watched:
            for event in events:
                getattr(layer.events, event).connect(self._on_moved)
        self._tell()

    def _unwatch(self) -> None:
        for layer, events in self._watched:
            for event in events:
                getattr(layer.events, event).disconnect(self._on_moved)
            if events is _LINE_EVENTS:
                layer.selected_data.events.items_changed.disconnect(self._on_moved)
        self._watched = []

    def _read_layers(self) -> list[Any]:
        """Ticked layers, the lowest first, and the reference with them."""
        reference, ticked = self.reference.layer(), self.images.ticked()
        return [layer for layer in reversed(self.images.layers) if layer in ticked or layer is reference]

    def chosen(self, dims: Any) -> ChosenLine | None:
        """Freeze images and line; None without an image. Call it on the GUI thread."""
        layers, line = self._read_layers(), self.line.layer()
        if not layers:
            return None
        first, *others = (freeze(layer, dims) for layer in layers)
        return ChosenLine(
            raw=first,
            enhanced=tuple(others),
            line=None if line is None else freeze_line(line),
            point=tuple(float(p) for p in dims.point),
        )

    @guarded
    def _on_moved(self) -> None:
        self.moved.emit()

    def _tell(self) -> None:
        self.changed.emit()

    @guarded
    def _on_draw(self) -> None:
        self.line_wanted.emit()

    # --- reading ------------------------------------------------------------------------

    def problem(self, chosen: Chosen) -> str:
        """A fit needs a reference."""
        if self.grey.currentData() == "fit" and self.reference.layer() is None:
            return "“Fitted to the reference” needs a reference; choose one, or another grey axis."
        return ""

    def _request(self, chosen: ChosenLine) -> ProfileRequest:
        assert chosen.line is not None  # else there was a problem
        layers, reference = self._read_layers(), self.reference.layer()
        names = unique_names([layer.name for layer in chosen.images])
        return ProfileRequest(
            images=chosen.profiled(names),
            line=chosen.line.yx,
            width_px=self.line_width.value(),
            reference="" if reference is None else names[layers.index(reference)],
            um_per_unit=chosen.um_per_unit,
            prominence=self.rise.value() / 100,
        )

    def job(self, chosen: Chosen) -> TabJob:
        """Read with progress and Cancel."""
        assert isinstance(chosen, ChosenLine)  # from ``chosen`` above
        request = self._request(chosen)

        def work(on_progress: Any, is_cancelled: Any) -> ProfileResult:
            return measure_profiles(request, on_progress=on_progress, is_cancelled=is_cancelled)

        return TabJob("Line profile", work, self.show_result)

    def draw_live(self, chosen: Chosen) -> str:
        """Read in a thread of which only the newest answer matters."""
        assert isinstance(chosen, ChosenLine)  # from ``chosen`` above
        self.submit(partial(measure_profiles, self._request(chosen)))
        return ""

    def cannot_draw(self, problem: str) -> None:
        """Put the curves away: they would be taken for those of the line on show."""
        self.forget_live()
        self._result = None
        self.plot.set_empty_text(problem)
        self._redraw()

    def show_failure(self, sentence: str) -> None:
        """Say in place of the curves why there are none."""
        self.cannot_draw(sentence)

    def show_result(self, result: ProfileResult) -> str:
        """Show curves and tables."""
        if not result.is_complete:
            return "Cancelled; the earlier curves are kept."
        self._result = result
        self._redraw()
        return "Read."

    @guarded
    def _on_grey(self) -> None:
        if not (self.grey.currentData() == "fit" and self.reference.layer() is None):
            self._redraw()
        self._tell()

    @guarded
    def _redraw(self) -> None:
        result, how = self._result, self.grey.currentData()
        if result is not None and how == "fit" and not result.reference:
            return  # a new result is on its way
        self.plot.set_curves([] if result is None else profile_curves(result, how))
        notes = () if result is None else result.notes
        self.note.setText("\n".join(notes))
        self.note.setVisible(bool(notes))
        for table, cells in ((self.table, summary_cells), (self.peaks, peak_cells)):
            table.show_table(*(([], [], []) if result is None else cells(result)))
        self.peaks.setVisible(self.peaks_fold.button.isChecked())
        self.peaks_fold.setVisible(result is not None and any(each.peaks for each in result.profiles))
        if result is not None:
            self.plot.set_labels(f"distance, {result.unit}", tables.grey_label(how, result.reference))
        self.enable_saving()

    # --- saving -------------------------------------------------------------------------

    def rows_to_save(self) -> list[dict[str, Any]]:
        """Every place of the line."""
        return [] if self._result is None else tables.to_rows(self._result, self.grey.currentData())

    @guarded
    def save_csv(self, path: str) -> None:
        """Write the profiles, their record and the peaks."""
        if self._result is not None:
            path = path if path.lower().endswith(".csv") else f"{path}.csv"
            files = tables.save(self._result, path, self.grey.currentData())
            self.told.emit(f"Saved: {', '.join(file.name for file in files)} in {files[0].parent}.")

    def release(self) -> None:
        """Let the thread end, and stop listening to the layers."""
        super().release()
        self._unwatch()
