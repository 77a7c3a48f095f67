"""Teaching from crops: the folder, which kind to keep, how synthetic pairs are made, and how they look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import QTimer, Signal
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_cellenhance.core.errors import CellEnhanceError
from napari_cellenhance.core.synthetic_pairs import PRESETS
from napari_cellenhance.widgets._docking import CROPS, open_panel
from napari_cellenhance.widgets._fold import Fold
from napari_cellenhance.widgets._forms import describe, new_form
from napari_cellenhance.widgets._guard import error_sentence, guarded
from napari_cellenhance.widgets._keep_look import PairLook
from napari_cellenhance.widgets._keep_scenes import ScenesForm
from napari_cellenhance.widgets._restore_microscope import number_box
from napari_cellenhance.widgets._settings import PLUGIN
from napari_cellenhance.widgets._status import alarm
from napari_cellenhance.workflows.semantic_data import SheetAsk, count_crops, crops_problem, crops_warning
from napari_cellenhance.workflows.train_semantic import SemanticRequest

__all__ = ["KeepCrops", "library_dock"]

_KEEP = (("“target”", False), ("“unwanted”", True))
_PRESET_TITLES = {
    "dock": "Quick first model", "co-culture": "Co-culture (cells of two kinds)",
    "astrocytes": "Astrocytes (bright field)", "microglia": "Microglia (high range)",
}  # fmt: skip
_SCALES = (
    ("As suits the crops", "auto"), ("Each image by its 99th percentile", "p99"), ("A range of grey values", "fixed"),
    ("Logarithm within a range", "log"),
)  # fmt: skip
_LOOK_AFTER_MS = 120


def library_dock() -> tuple[str, str] | None:
    """Object name and title of the dock that makes folders of crops; None where it is not part of the plugin."""
    from npe2 import PluginManager

    manifest = PluginManager.instance().get_manifest(PLUGIN)
    for widget in manifest.contributions.widgets or ():
        command = next((c for c in manifest.contributions.commands or () if c.id == widget.command), None)
        if command is not None and ".crop_library:" in str(command.python_name):
            return CROPS, str(widget.display_name)
    return None


class KeepCrops(QWidget):
    """The part of the page that teaches from crops.

    Parameters
    ----------
    viewer : Viewer
    """

    changed = Signal()
    preset_chosen = Signal(str)

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._number = 0
        self.folder = QLineEdit()
        describe(self.folder, "Folder of crops", "Small pictures of objects, one TIFF each, in folders by class.")
        self.choose = QPushButton("Choose…")
        self.choose.setToolTip("Choose the folder of crops.")
        self.sort_button = QPushButton("Make or sort crops…")
        self.sort_button.setToolTip("Open the dock “Crop library”: cut crops out of images, look at them, sort them.")
        self.note = QLabel()
        self.note.setWordWrap(True)
        self.keep = QComboBox()
        for title, is_swapped in _KEEP:
            self.keep.addItem(title, is_swapped)
        describe(self.keep, "Keep", "The class that stays; the other one is removed. Teach two filters to have both.")
        self.preset = QComboBox()
        for name in PRESETS:
            self.preset.addItem(_PRESET_TITLES.get(name, name), name)
        describe(self.preset, "Preset", "Settings of the paper, or those for a first model in minutes.")
        self.dark = QCheckBox("Objects are dark on a bright ground")
        self.dark.setToolTip("Bright field: images are turned over (complement).")
        self.colour = QCheckBox("Colours of transmitted light")
        self.colour.setToolTip("Stained sections: colours go through together, and layers are multiplied.")
        self.apart = QCheckBox("Three outputs: also ground, unwanted")
        self.apart.setToolTip("The network also learns the ground and the unwanted objects, as layers of their own.")
        self.scale = QComboBox()
        for title, data in _SCALES:
            self.scale.addItem(title, data)
        describe(self.scale, "Grey values", "How grey values become the range of the network, now and in use.")
        self.low, self.high = (
            number_box(0, 1e6, 0, 1, f"Range, {end}", "Grey value; both 0: as the preset or the crops say.", "", 10.0)
            for end in ("from", "to")
        )
        self.look = PairLook()
        self.scenes = ScenesForm()
        tip = "How synthetic images are put together; the pairs above follow."
        self.fold = Fold("Ranges of the synthetic images", tip, self.scenes)
        self._clock = QTimer(self)
        self._clock.setSingleShot(True)
        self._clock.setInterval(_LOOK_AFTER_MS)
        self._lay_out()
        self._connect()
        self._on_scale()

    def _lay_out(self) -> None:
        place, ends = QHBoxLayout(), QWidget()
        place.addWidget(self.folder, 1)
        place.addWidget(self.choose)
        both = QHBoxLayout(ends)
        both.setContentsMargins(0, 0, 0, 0)
        both.addWidget(self.low, 1)
        both.addWidget(QLabel("–"))
        both.addWidget(self.high, 1)
        self._ends = ends
        first = new_form()
        first.addRow("Folder", place)
        self.form = new_form()
        self.form.addRow("Keep", self.keep)
        self.form.addRow("Preset", self.preset)
        self.form.addRow("Grey values", self.scale)
        self.form.addRow("Range", ends)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(first)
        layout.addWidget(self.note)
        layout.addWidget(self.sort_button)
        layout.addLayout(self.form)
        for part in (self.dark, self.colour, self.apart, self.look, self.fold):
            layout.addWidget(part)

    def _connect(self) -> None:
        self.folder.textChanged.connect(self._on_folder)
        self.choose.clicked.connect(self._ask_folder)
        self.sort_button.clicked.connect(self._open_library)
        self.keep.currentIndexChanged.connect(self._on_folder)
        self.preset.currentIndexChanged.connect(self._on_preset)
        self.scale.currentIndexChanged.connect(self._on_scale)
        for box in (self.low, self.high):
            box.valueChanged.connect(self._on_value)
        for switch in (self.dark, self.colour, self.apart):
            switch.toggled.connect(self._on_value)
        self.scenes.changed.connect(self._on_value)
        self.look.another_wanted.connect(self._on_another)
        self._clock.timeout.connect(self.refresh)

    # --- what it says -------------------------------------------------------------------

    @property
    def place(self) -> str:
        """The folder."""
        return str(self.folder.text()).strip()

    @property
    def is_swapped(self) -> bool:
        """Whether what crops call unwanted is kept."""
        return bool(self.keep.currentData())

    def problem(self) -> str:
        """Why there is nothing to learn from; empty if there is."""
        if problem := crops_problem(self.place, is_swapped=self.is_swapped):
            return problem
        is_ranged = self.scale.currentData() in ("fixed", "log")
        if is_ranged and self.high.value() > 0 and self.high.value() <= self.low.value():
            return "The range of grey values ends before it begins; enter it from dark to bright."
        if self.dark.isChecked() and self.scale.currentData() in ("p99", "log"):
            return "Dark objects need a range of grey values: choose “As suits the crops” or “A range of grey values”."
        if self.colour.isChecked() and self.scale.currentData() == "log":
            return "Colours that are multiplied need no logarithm; choose another scale of grey values."
        return ""

    def fields(self) -> dict[str, Any]:
        """Fields of the request."""
        kind, low, high = self.scale.currentData(), self.low.value(), self.high.value()
        has_range = kind in ("fixed", "log") and high > 0
        return {
            "data": Path(self.place),
            "is_swapped": self.is_swapped,
            "preset": self.preset.currentData(),
            "scene": self.scenes.scene(is_product=self.colour.isChecked(), is_taken_apart=self.apart.isChecked()),
            "scaling": kind,
            "low": low if has_range else None,
            "high": high if has_range else None,
            "is_complement": self.dark.isChecked(),
        }

    def name(self) -> str:
        """What to name a model after."""
        if not self.place:
            return ""
        kept = Path(self.place).name
        return f"Keep the others of {kept}" if self.is_swapped else f"Keep {kept}"

    # --- slots --------------------------------------------------------------------------

    def showEvent(self, event: QShowEvent | None) -> None:
        """Look at the folder again: crops may have been sorted meanwhile."""
        super().showEvent(event)
        self._on_folder()

    def show_error(self, message: str) -> None:
        """Show a sentence under the folder."""
        self.note.setText(alarm(message))
        self.note.setVisible(True)

    @guarded
    def _ask_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder of crops", self.place)
        if folder:
            self.folder.setText(folder)

    @guarded
    def _open_library(self) -> None:
        known = library_dock()
        if known is not None and hasattr(self._viewer, "window"):
            open_panel(self._viewer, *known)

    @guarded
    def _on_folder(self) -> None:
        counts = count_crops(self.place)
        self.sort_button.setVisible(hasattr(self._viewer, "window") and library_dock() is not None)
        text = ""
        if counts is not None:
            warning = crops_warning(counts, is_swapped=self.is_swapped)
            text = f"{counts.sentence} {alarm(warning)}" if warning else counts.sentence
            for row, n in enumerate((counts.target, counts.unwanted)):
                self.keep.setItemText(row, f"{_KEEP[row][0]} ({n} crops)")
        self.note.setText(text)
        self.note.setVisible(bool(text))
        self._on_value()

    @guarded
    def _on_preset(self) -> None:
        name = self.preset.currentData()
        chosen = PRESETS[name]
        self.scenes.fill(chosen.scene)
        self.scale.setCurrentIndex(0)
        self.dark.setChecked(False)
        self.preset_chosen.emit(name)
        self._on_value()

    @guarded
    def _on_scale(self) -> None:
        self.form.setRowVisible(self._ends, self.scale.currentData() in ("fixed", "log"))
        self._on_value()

    @guarded
    def _on_value(self) -> None:
        self._clock.start()
        self.changed.emit()

    @guarded
    def _on_another(self) -> None:
        self._number += 1
        self.refresh()

    @guarded
    def refresh(self) -> None:
        """Draw pairs with what the form says now."""
        if self.problem():
            self.look.ask(None)
            return
        try:
            request = SemanticRequest(out="", **self.fields())
        except CellEnhanceError as error:
            self.look.show_error(error_sentence(error))
            return
        self.look.ask(SheetAsk(request=request, number=self._number))

    def close_down(self) -> None:
        """End the thread."""
        self._clock.stop()
        self.look.close_down()
