"""The upper part of the page “Find”: which image, what says where its objects are, and which of them are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QLabel, QVBoxLayout, QWidget

from napari_cellenhance.core.crop_options import CutOptions, KeepOptions
from napari_cellenhance.core.errors import CellEnhanceError
from napari_cellenhance.core.focus import FocusOptions, FocusThresholds
from napari_cellenhance.widgets._crop_layers import PlacedOn
from napari_cellenhance.widgets._crop_ways import (
    BoxesWay,
    LabelsWay,
    PaintWay,
    PointsWay,
    SegmentWay,
    WayPage,
    number_box,
)
from napari_cellenhance.widgets._fold import Fold
from napari_cellenhance.widgets._forms import boxed, describe, new_form
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._image_form import DarkSuggestion, ImageForm, has_stack
from napari_cellenhance.widgets._layer_picker import image_layers
from napari_cellenhance.widgets._layers import Choices, LayerView, snapshot
from napari_cellenhance.widgets._measure_form import SCOPES
from napari_cellenhance.widgets._viewer_combo import ViewerCombo
from napari_cellenhance.workflows.crops import CropLayer, CropOptions, CropRequest

__all__ = ["Asked", "CropForm"]

_WAYS = (
    ("Grey values (threshold)", "segment"), ("Labels, a number for each object", "labels"),
    ("Labels, painted classes", "painted"), ("Points on objects", "points"), ("Boxes around objects", "boxes"),
)  # fmt: skip
_SORTS = (("Sorted by sharpness", "focus"), ("All wanted", "target"), ("All not wanted", "unwanted"))
_NO_IMAGE = "Open an image (File ▸ Open Sample ▸ CellEnhance has some), then find objects in it."
_FOCUS = FocusOptions()


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What to find, and what is needed to draw it over its image."""

    request: CropRequest
    view: LayerView
    choices: Choices

    @property
    def n_pixels(self) -> float:
        """Pixels to look at."""
        (layer,) = self.request.layers
        n = 1.0
        for letter, length in zip(layer.axes, self.view.shape, strict=True):
            n *= 1 if layer.at is not None and letter in "TZ" else length
        return n


class CropForm(QWidget):
    """Image, source of the objects, limits. ``changed`` comes with every choice, ``image_changed`` with another image.

    Parameters
    ----------
    viewer : ViewerModel
    """

    changed = Signal()
    image_changed = Signal()

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._view: LayerView | None = None
        self._problem = ""
        self._is_dark_by_hand = False
        self.image = ViewerCombo(
            viewer, image_layers, name="Image", tip="The image whose objects become crops. It is only read."
        )
        active = viewer.layers.selection.active
        if active is not None:
            self.image.choose(active)
        self.about = ImageForm(wants_one_plane=True)
        self.colours = QCheckBox("Keep the colours")
        self.colours.setToolTip("Crops in colour, for a filter of colour images; objects are found in grey.")
        self.dark = QCheckBox("Objects are dark")
        self.dark.setToolTip(
            "Tick it when objects are darker than the ground (bright field). Crops keep the grey values of the image; "
            "the training takes their complement."
        )
        self.dark_note = QLabel()
        self.dark_note.setWordWrap(True)
        self.dark_note.setVisible(False)
        self.scope = QComboBox()
        for title, only_plane in SCOPES:
            self.scope.addItem(title, only_plane)
        describe(self.scope, "Find in", "All planes of the stack, or only the one that is shown.")
        self.way = QComboBox()
        for title, key in _WAYS:
            self.way.addItem(title, key)
        describe(self.way, "Objects from", "What says where objects are, and of which class.")
        self.segment, self.labels, self.paint = SegmentWay(), LabelsWay(viewer), PaintWay(viewer)
        self.points, self.boxes = PointsWay(viewer), BoxesWay(viewer)
        self._pages: dict[str, Any] = {
            "segment": self.segment, "labels": self.labels, "painted": self.paint, "points": self.points,
            "boxes": self.boxes,
        }  # fmt: skip
        self._make_limits()
        self._lay_out()
        self._connect()
        self._on_image()
        self._on_way()

    def _make_limits(self) -> None:
        keep = KeepOptions()
        self.sort = QComboBox()
        for title, key in _SORTS:
            self.sort.addItem(title, key)
        describe(
            self.sort, "Their class",
            "Sharp objects are wanted and blurred ones are not, by a score with two thresholds; or all are of one "
            "class.",
        )  # fmt: skip
        self.min_area = number_box(
            0, 10_000_000, keep.min_area_px, "Least area", "Smaller objects are left out.", " px"
        )
        self.max_area = number_box(
            0, 10_000_000, keep.max_area_px, "Largest area", "Larger objects are left out.", " px", none="no limit"
        )
        self.border = QCheckBox("Leave out what the edge cuts")
        self.border.setChecked(keep.drop_border)
        self.border.setToolTip("Objects that touch the edge of the image are not whole.")
        self.method = QComboBox()
        for title, method in (("Laplacian of Gaussian", "log"), ("3×3 Laplacian", "laplacian")):
            self.method.addItem(title, method)
        describe(self.method, "Sharpness by", "What the score of an object is the mean of.")
        self.medians = number_box(
            0, 16, _FOCUS.n_medians, "Medians before", "5×5 medians before the score, against noise.", none="none"
        )

    def _lay_out(self) -> None:
        image = new_form()
        image.addRow("Image", self.image)
        image.addRow(self.about)
        image.addRow(self.colours)
        image.addRow(self.dark)
        image.addRow(self.dark_note)
        image.addRow("Find in", self.scope)
        self._image_rows = image
        where = QWidget()
        column = QVBoxLayout(where)
        column.setContentsMargins(0, 0, 0, 0)
        rows = new_form()
        rows.addRow("Objects from", self.way)
        column.addLayout(rows)
        for page in self._pages.values():
            column.addWidget(page)
        limits = new_form()
        limits.addRow("Their class", self.sort)
        limits.addRow("Least area", self.min_area)
        limits.addRow("Largest area", self.max_area)
        limits.addRow(self.border)
        self._limit_rows = limits
        column.addLayout(limits)
        score = QWidget()
        inner = new_form(score)
        inner.addRow("Sharpness by", self.method)
        inner.addRow("Medians before", self.medians)
        self.score_fold = Fold("How sharpness is measured", "For noisy images.", score)
        column.addWidget(self.score_fold)
        top = QWidget()
        top.setLayout(image)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(boxed("Image", top))
        layout.addWidget(boxed("Objects", where))

    def _connect(self) -> None:
        self.image.picked.connect(self._on_image)
        self.way.currentIndexChanged.connect(self._on_way)
        self.dark.clicked.connect(self._on_dark_clicked)
        for combo in (self.scope, self.sort, self.method):
            combo.currentIndexChanged.connect(self._tell)
        for box in (self.dark, self.colours, self.border):
            box.toggled.connect(self._tell)
        for number in (self.min_area, self.max_area, self.medians):
            number.valueChanged.connect(self._tell)
        self.about.changed.connect(self._tell)
        for page in self._pages.values():
            page.changed.connect(self._tell)

    # --- what it says -------------------------------------------------------------------

    @property
    def page(self) -> WayPage:
        """Page of the chosen way."""
        page: WayPage = self._pages[self.way.currentData()]
        return page

    @property
    def is_one_kind(self) -> bool:
        """Nothing but the box below gives objects a class."""
        return self.way.currentData() in ("segment", "labels")

    @property
    def is_sorted(self) -> bool:
        """Objects are sorted by their sharpness."""
        return self.is_one_kind and self.sort.currentData() == "focus"

    @property
    def only_plane(self) -> bool:
        """Only the plane in view is looked at."""
        return bool(self.scope.currentData()) and self._has_stack()

    def problem(self) -> str:
        """Why objects cannot be found; empty when they can."""
        if self._view is None:
            return self._problem or _NO_IMAGE
        if problem := self.about.problem() or self.page.problem():
            return problem
        if 0 < self.max_area.value() < self.min_area.value():
            return "The largest area is below the least one: raise it, or set it to “no limit” (0)."
        return ""

    def asked(self, thresholds: FocusThresholds | None = None) -> Asked:
        """Freeze what the form says. Call it on the GUI thread, without a problem.

        Parameters
        ----------
        thresholds : FocusThresholds, optional
            Instead of proposed ones.

        Raises
        ------
        CellEnhanceError
            Labels, points or boxes that do not belong to the image.
        """
        layer, dims = self.image.layer(), self._viewer.dims
        view = snapshot(layer, dims)
        axes = self.about.axes_text
        on = PlacedOn.of(layer, dims, only_plane=self.only_plane)
        position = dict(zip(axes, view.index, strict=False))
        has_colours = self.colours.isChecked() and view.is_rgb
        chosen = self.about.chosen_channels
        crop_layer = CropLayer(
            name=view.name, image=view.levels[0], axes=axes,
            channels="colour" if has_colours else "grey" if chosen == "all" else chosen,
            at=(position.get("T", 0), position.get("Z", 0)) if self.only_plane else None,
            **self.page.fields(on, dims),
        )  # fmt: skip
        choices = Choices(
            axes=axes, filter_id="", strength=0.0, channels="grey" if chosen == "all" else chosen,
            scope="slice" if self.only_plane else "layer",
        )  # fmt: skip
        return Asked(CropRequest(layers=(crop_layer,), options=self._options(thresholds)), view, choices)

    def _options(self, thresholds: FocusThresholds | None) -> CropOptions:
        low, high = thresholds or (None, None)
        focus = FocusOptions(method=self.method.currentData(), n_medians=self.medians.value(), low=low, high=high)
        keep = KeepOptions(
            min_area_px=self.min_area.value(), max_area_px=self.max_area.value(), drop_border=self.border.isChecked()
        )
        return CropOptions(
            is_unwanted=self.is_one_kind and self.sort.currentData() == "unwanted",
            cut=CutOptions(keep=keep, focus=focus if self.is_sorted else None, is_dark=self.dark.isChecked()),
            **self.page.options(),
        )

    def view(self) -> LayerView | None:
        """The chosen image, frozen; None without one that can be read."""
        return self._view

    def _has_stack(self) -> bool:
        return self._view is not None and has_stack(self.about.axes_text, self._view.shape)

    # --- slots --------------------------------------------------------------------------

    def show_error(self, message: str) -> None:
        """Remember why the image cannot be used."""
        self._problem = message

    @guarded
    def _on_image(self) -> None:
        layer = self.image.layer()
        self._view, self._problem, self._is_dark_by_hand = None, "", False
        if layer is not None:
            try:
                self._view = snapshot(layer, self._viewer.dims)
            except CellEnhanceError as error:
                self._problem = str(error)
        self.about.show_view(self._view)
        self.about.setVisible(self._view is not None and (self._view.ndim > 2 or self._view.is_rgb))
        self.dark_note.setVisible(False)
        self.image_changed.emit()
        self._tell()

    @guarded
    def _on_way(self) -> None:
        for key, page in self._pages.items():
            page.setVisible(key == self.way.currentData())
        self._tell()

    @guarded
    def _on_dark_clicked(self) -> None:
        self._is_dark_by_hand = True

    def show_dark(self, suggestion: DarkSuggestion) -> None:
        """Tick “dark” unless somebody has said so already; say why."""
        self.dark_note.setText(suggestion.reason)
        self.dark_note.setVisible(bool(suggestion.reason) and suggestion.is_dark)
        if not self._is_dark_by_hand:
            self.dark.setChecked(suggestion.is_dark)

    @guarded
    def _tell(self) -> None:
        is_rgb = self._view is not None and self._view.is_rgb
        self._image_rows.setRowVisible(self.colours, is_rgb)
        self._image_rows.setRowVisible(self.scope, self._has_stack())
        self._limit_rows.setRowVisible(self.sort, self.is_one_kind)
        self.border.setVisible(self.way.currentData() != "boxes")
        self.score_fold.setVisible(self.is_sorted)
        self.changed.emit()

    def release(self) -> None:
        """Let go of the viewer."""
        self.image.release()
        for page in self._pages.values():
            page.release()
