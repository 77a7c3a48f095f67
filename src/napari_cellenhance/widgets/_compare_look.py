"""Tab “Look”: wipe, blink, side by side, linked contrast, and the difference as a layer."""

from __future__ import annotations

from functools import partial
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QSlider,
    QWidget,
)

from napari_cellenhance.widgets._compare_view import BLINK_KEY
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._measure_layers import Chosen
from napari_cellenhance.widgets._measure_tab import MeasureTab, TabJob
from napari_cellenhance.widgets._results import METADATA_KEY, quoted
from napari_cellenhance.workflows.difference import Difference, DifferenceRequest, subtract

__all__ = ["BLINK", "DIFFERENCES", "OFF", "SIDE", "WIPE", "LookTab"]

OFF, WIPE, BLINK, SIDE = "off", "wipe", "blink", "side"
_WAYS = (
    (OFF, "Off", "The viewer as it was before."),
    (WIPE, "Wipe", "A line over the image: before on one side, after on the other. Drag it on the canvas."),
    (BLINK, "Blink", f"Before and after in turn at the same place; the key {BLINK_KEY.upper()} steps by hand."),
    (SIDE, "Side by side", "Before and after beside each other; zoom, place and sliders are shared."),
)
_LINKS = (
    ("Off", None, "Contrast limits stay as they are."),
    (
        "Each by the same share",
        "share",
        "For images of different scale: each keeps its limits, and they move alike.",
    ),
    (
        "The same grey values",
        "same",
        "For images in the same grey values (denoised, restored): equal limits.",
    ),
)
DIFFERENCES = (
    ("After the best fit", "fitted", "α × after + β − before, with the scaling and shift of least squared difference."),
    ("As stored", "plain", "after − before; for images in the same grey values."),
)
SLIDER_STEPS = 1000


class LookTab(MeasureTab):
    """Ways to look. It never touches the viewer: the panel does, when ``look_changed`` comes.

    Signals: ``look_changed`` when another way, layer or setting is wanted; ``wipe_moved`` with a share from 0 to 1;
    ``rate_changed``; ``plot_wanted`` with "histogram" or "profile".
    """

    title = "Look"
    run_text = "Add the difference"
    run_tip = "Add after − before as a layer, green where the image after is brighter, purple where it is darker."
    no_layers = "Open an image (File ▸ Open Sample ▸ CellEnhance has some) and enhance it, then compare here."

    look_changed = Signal()
    wipe_moved = Signal(float)
    rate_changed = Signal(int)
    plot_wanted = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.ways: dict[str, QPushButton] = {}
        group = QButtonGroup(self)
        row = QHBoxLayout()
        for key, text, tip in _WAYS:
            button = QPushButton(text)
            button.setCheckable(True)
            button.setToolTip(tip)
            button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            group.addButton(button)
            row.addWidget(button)
            self.ways[key] = button
        self.ways[OFF].setChecked(True)
        self.which = QComboBox()
        self.which.setAccessibleName("After the line")
        self.which.setToolTip("Which of the layers after is shown beyond the line.")
        self.edge = _combo(
            (("Vertical", "vertical", "Before on the left."), ("Horizontal", "horizontal", "Before above.")), "Line"
        )
        self.place = QSlider(Qt.Orientation.Horizontal)
        self.place.setRange(0, SLIDER_STEPS)
        self.place.setValue(SLIDER_STEPS // 2)
        self.place.setAccessibleName("Place of the line")
        self.place.setToolTip("Place of the line; it can be dragged on the canvas too.")
        self.rate = QDoubleSpinBox()
        self.rate.setRange(0.0, 10.0)
        self.rate.setSingleStep(0.5)
        self.rate.setValue(1.5)
        self.rate.setDecimals(1)
        self.rate.setSuffix(" images / s")
        self.rate.setSpecialValueText(f"by hand ({BLINK_KEY.upper()})")
        self.rate.setAccessibleName("Rate")
        self.rate.setToolTip(f"Images in a second; 0 leaves it to the key {BLINK_KEY.upper()} (click the image first).")
        self.shown = QLabel()
        self.shown.setWordWrap(True)
        self.link = _combo(_LINKS, "Linked contrast")
        self.how = _combo(DIFFERENCES, "Difference")
        self._form = QFormLayout()
        self._form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        for title, part in (
            ("After the line", self.which), ("Line", self.edge), ("Place", self.place), ("Rate", self.rate),
            ("Shown", self.shown), ("Linked contrast", self.link), ("Difference", self.how),
        ):  # fmt: skip
            self._form.addRow(title, part)
        plots = QHBoxLayout()
        self.histogram, self.profile = QPushButton("Histogram, CDF…"), QPushButton("Line profiles…")
        self.histogram.setToolTip("Grey values of these layers, as they are and added up, in the Measure dock.")
        self.profile.setToolTip("Grey values of these layers along a line that you draw, in the Measure dock.")
        for button, tab in ((self.histogram, "histogram"), (self.profile, "profile")):
            button.clicked.connect(partial(self._want_plot, tab))
            plots.addWidget(button)
        self.column.addLayout(row)
        self.column.addLayout(self._form)
        self.column.addLayout(plots)
        self.column.addStretch(1)
        for button in self.ways.values():
            button.toggled.connect(self._on_toggled)
        for combo in (self.which, self.edge, self.link):
            combo.currentIndexChanged.connect(self._on_setting)
        self.place.valueChanged.connect(self._on_place)
        self.rate.valueChanged.connect(self._on_rate)
        self._show_settings()

    # --- what it says -------------------------------------------------------------------

    @property
    def way(self) -> str:
        """How to look: off, wipe, blink or side."""
        return next(key for key, button in self.ways.items() if button.isChecked())

    def look(self, way: str) -> None:
        """Choose a way from outside."""
        self.ways[way].setChecked(True)

    @property
    def interval_ms(self) -> int:
        """Time that each image is shown; 0: by hand."""
        return round(1000 / self.rate.value()) if self.rate.value() > 0 else 0

    def fill_after(self, names: list[str]) -> None:
        """List the layers that can be shown beyond the line."""
        if names == [self.which.itemText(row) for row in range(self.which.count())]:
            return
        was_blocked = self.which.blockSignals(True)
        row = max(0, self.which.currentIndex())
        self.which.clear()
        self.which.addItems(names)
        self.which.setCurrentIndex(min(row, len(names) - 1))
        self.which.blockSignals(was_blocked)
        self._show_settings()

    def set_share(self, share: float) -> None:
        """Follow the line on the canvas."""
        was_blocked = self.place.blockSignals(True)
        self.place.setValue(round(share * SLIDER_STEPS))
        self.place.blockSignals(was_blocked)

    # --- slots --------------------------------------------------------------------------

    @guarded
    def _on_toggled(self, is_checked: bool) -> None:
        if is_checked:
            self._show_settings()
            self.look_changed.emit()

    @guarded
    def _on_setting(self) -> None:
        self.look_changed.emit()

    @guarded
    def _on_place(self, value: int) -> None:
        self.wipe_moved.emit(value / SLIDER_STEPS)

    @guarded
    def _on_rate(self) -> None:
        self.rate_changed.emit(self.interval_ms)

    @guarded
    def _want_plot(self, tab: str) -> None:
        self.plot_wanted.emit(tab)

    @guarded
    def _show_settings(self) -> None:
        way = self.way
        for part, is_shown in (
            (self.which, way == WIPE and self.which.count() > 1),
            (self.edge, way == WIPE),
            (self.place, way == WIPE),
            (self.rate, way == BLINK),
            (self.shown, way == BLINK),
        ):
            self._form.setRowVisible(part, is_shown)

    # --- the difference -----------------------------------------------------------------

    def problem(self, chosen: Chosen) -> str:
        """An image after is needed."""
        return "" if chosen.enhanced else "Tick at least one image after to compare with."

    def job(self, chosen: Chosen) -> TabJob:
        """Subtract the layer before from each after it."""
        how = self.how.currentData()
        before = chosen.measured(chosen.raw)
        requests = [
            (layer, DifferenceRequest(before=before, after=chosen.measured(layer), how=how))
            for layer in chosen.enhanced
        ]

        def work(on_progress: Any, is_cancelled: Any) -> list[tuple[Any, Difference]]:
            done = []
            for layer, request in requests:
                found = subtract(request, on_progress=on_progress, is_cancelled=is_cancelled)
                if found is None:
                    break
                done.append((layer, found))
            return done

        return TabJob(f"Difference from {chosen.raw.name}", work, partial(self._show, chosen))

    def _show(self, chosen: Chosen, done: list[tuple[Any, Difference]]) -> str:
        if not done:
            return "Cancelled; nothing was added."
        layers = []
        for layer, found in done:
            look = {
                "name": f"{layer.name} − {chosen.raw.name}", "metadata": {METADATA_KEY: found.record},
                "colormap": "PiYG", "contrast_limits": (-found.limit, found.limit), "blending": "translucent",
                "rgb": False, **chosen.raw.geometry.as_kwargs(),
            }  # fmt: skip
            layers.append((found.image, look, "image"))
        self.layers_made.emit(layers)
        stated = "; ".join(found.formula for _, found in done)
        return f"Added {quoted([look['name'] for _, look, _ in layers])}: {stated}."


def _combo(entries: tuple[tuple[str, Any, str], ...], name: str) -> QComboBox:
    combo = QComboBox()
    for row, (title, data, tip) in enumerate(entries):
        combo.addItem(title, data)
        combo.setItemData(row, tip, Qt.ItemDataRole.ToolTipRole)
    combo.setAccessibleName(name)
    combo.setToolTip("\n".join(f"{title}: {tip}" for title, _, tip in entries))
    combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return combo
