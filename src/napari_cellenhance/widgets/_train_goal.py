"""What to learn, from where to start, and how long: the settings of a training."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_cellenhance.widgets._forms import describe, new_form
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._labels_picker import LabelsPicker
from napari_cellenhance.widgets._status import alarm
from napari_cellenhance.workflows.train import TrainRequest
from napari_cellenhance.zoo.manifest import ModelCard

__all__ = ["Goal", "TrainGoal", "model_id_of", "perception_text"]

Teach = Literal["images", "labels", "both"]

_TEACH: tuple[tuple[str, Teach, str], ...] = (
    ("My painted objects", "labels", "Paint every object of an image, or of a corner, on a Labels layer. Fastest."),
    ("The images alone", "images", "Nothing has to be painted; objects are pushed towards the shapes of the masks."),
    ("Images and painted objects", "both", "Both at once: painted objects where there are some, the images elsewhere."),
)
WHY_PERCEPTION = (
    "To learn from images alone, pictures are compared by a “perceptual network”, whose weights are not part of this "
    "plugin. Choose its file (.safetensors): the distilled VGG-19 encoder (4 MB, recommended: the shipped mask shapes "
    "belong to it), or SqueezeNet 1.1; or install torchvision. Where to get them is in the documentation."
)
TORCHVISION = "torchvision"
_DEFAULT = TrainRequest(data="", out="")
N_TUNE, N_SCRATCH = 400, _DEFAULT.n_steps
RATE_TUNE, RATE_SCRATCH = 2e-4, _DEFAULT.learning_rate
EVERY_TUNE, EVERY_SCRATCH = 50, _DEFAULT.validate_every


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """All that the form says."""

    teach: Teach
    perception: str
    masks: Any
    """Labels layer of the mask bank, or None."""
    init_from: str | None
    strength: float | None
    title: str
    n_steps: int
    learning_rate: float
    validate_every: int
    batch_size: int
    crop_px: int
    seed: int


def model_id_of(title: str, taken: Collection[str] = ()) -> str:
    """Id of a model for files and commands; one of the project's own ids gets an ending.

    A title without a Latin letter or digit gets a number made from it, so that two such models do not meet.

    >>> model_id_of("Zellen – naïve (T1)"), model_id_of("NU-Net", {"nu-net"}), model_id_of("細胞")
    ('zellen-naive-t1', 'nu-net-own', 'model-7edf5f')
    """
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:48].strip("-")
    slug = slug or f"model-{hashlib.sha256(title.encode()).hexdigest()[:6]}"
    return f"{slug}-own" if slug in taken else slug


def perception_text(perception: str) -> str:
    """Say which perceptual network is chosen."""
    if not perception:
        return "None chosen"
    return "VGG-19 of torchvision" if perception == TORCHVISION else Path(perception).name


def has_torchvision() -> bool:
    """Whether torchvision is installed; does not import it."""
    return importlib.util.find_spec("torchvision") is not None


class TrainGoal(QWidget):
    """Settings of a training.

    Parameters
    ----------
    viewer : ViewerModel
    models : sequence of ModelCard
        NU-Nets that can be fine-tuned.
    perception : str
        Remembered choice: a path, "torchvision", or empty.
    """

    changed = Signal()
    perception_chosen = Signal(str)
    estimate_wanted = Signal()

    def __init__(
        self, viewer: Any, models: Sequence[ModelCard], perception: str = "", parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._perception = perception
        self._suggested = ""
        self._cards: dict[str, ModelCard] = {}
        self.teach = QComboBox()
        for row, (title, data, tip) in enumerate(_TEACH):
            self.teach.addItem(title, data)
            self.teach.setItemData(row, tip, 3)  # Qt.ItemDataRole.ToolTipRole
        describe(self.teach, "Learn from", "What the filter learns from.")
        self.masks = LabelsPicker(
            viewer,
            "Round blobs",
            "Mask shapes",
            "The morphology that objects are pushed to. Choose a Labels layer with other shapes, painted or opened, "
            "to define another one.",
        )
        self.perception = QLabel()
        self.perception.setWordWrap(True)
        self.choose_file = QPushButton("Choose file…")
        self.choose_file.setToolTip(
            "A .safetensors file: the distilled VGG-19 encoder (recommended), or SqueezeNet 1.1 as torchvision names "
            "its weights. The choice is remembered."
        )
        self.use_torchvision = QPushButton("Use torchvision")
        self.use_torchvision.setToolTip("Take the VGG-19 of torchvision; its weights are fetched once (550 MB).")
        self.use_torchvision.setVisible(has_torchvision())
        self.start = QComboBox()
        describe(self.start, "Start from", "A filter to tune to your images (minutes), or random weights (hours).")
        self.name = QLineEdit()
        describe(self.name, "Name", "Name of the new filter in all lists.")
        self.n_steps = QSpinBox()
        self.n_steps.setRange(1, 1_000_000)
        self.n_steps.setSingleStep(100)
        describe(self.n_steps, "Updates", "How often the network is corrected. You can stop earlier; the best is kept.")
        self.estimate = QPushButton("Estimate time")
        self.estimate.setToolTip("Measure a few updates with your images on this computer, and count up.")
        self.time = QLabel()
        self.time.setWordWrap(True)
        self._make_advanced()
        self._lay_out()
        self.set_models(models)
        self._connect()
        self._on_start()
        self._show_needs()

    def _make_advanced(self) -> None:
        self.learning_rate = QDoubleSpinBox()
        self.learning_rate.setDecimals(6)
        self.learning_rate.setRange(1e-6, 0.1)
        self.learning_rate.setSingleStep(1e-4)
        describe(self.learning_rate, "Learning rate", "Size of an update. Lower it if the curves jump or break.")
        self.validate_every = QSpinBox()
        self.validate_every.setRange(1, 100_000)
        self.validate_every.setSuffix(" updates")
        describe(
            self.validate_every, "Check every", "Updates between two checks on pixels kept aside; the best is kept."
        )
        self.batch_size = QSpinBox()
        self.batch_size.setRange(1, 64)
        self.batch_size.setValue(_DEFAULT.batch_size)
        describe(self.batch_size, "Crops per update", "More crops are steadier and slower.")
        self.crop_px = QSpinBox()
        self.crop_px.setRange(32, 512)
        self.crop_px.setSingleStep(16)
        self.crop_px.setValue(_DEFAULT.crop_px)
        self.crop_px.setSuffix(" px")
        describe(self.crop_px, "Crop side", "A multiple of 16. Larger crops are slower.")
        self.seed = QSpinBox()
        self.seed.setRange(0, 2**31 - 1)
        self.seed.setValue(_DEFAULT.seed)
        describe(self.seed, "Seed", "The same seed and settings give the same filter.")

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._form = new_form()
        self._form.addRow("Learn from", self.teach)
        self._network = QWidget()
        column = QVBoxLayout(self._network)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.perception)
        buttons = QHBoxLayout()
        buttons.addWidget(self.choose_file)
        buttons.addWidget(self.use_torchvision)
        buttons.addStretch(1)
        column.addLayout(buttons)
        self._form.addRow("Perceptual net", self._network)
        self.why = QLabel(WHY_PERCEPTION)
        self.why.setWordWrap(True)
        self._form.addRow(self.why)
        self._form.addRow("Mask shapes", self.masks)
        self._form.addRow("Start from", self.start)
        self._form.addRow("Name", self.name)
        self._form.addRow("Updates", self.n_steps)
        layout.addLayout(self._form)
        row = QHBoxLayout()
        row.addWidget(self.estimate)
        row.addWidget(self.time, 1)
        layout.addLayout(row)
        self.advanced = QGroupBox("More settings")
        self.advanced.setCheckable(True)
        self.advanced.setChecked(False)
        self.advanced.setToolTip("Finer settings; the values shown are used whether this is open or not.")
        inner = QWidget()
        form = new_form(inner)
        for title, box in (
            ("Learning rate", self.learning_rate),
            ("Check every", self.validate_every),
            ("Crops per update", self.batch_size),
            ("Crop side", self.crop_px),
            ("Seed", self.seed),
        ):
            form.addRow(title, box)
        QVBoxLayout(self.advanced).addWidget(inner)
        inner.setVisible(False)
        self.advanced.toggled.connect(inner.setVisible)
        layout.addWidget(self.advanced)

    def _connect(self) -> None:
        self.teach.currentIndexChanged.connect(self._on_teach)
        self.start.currentIndexChanged.connect(self._on_start)
        self.masks.picked.connect(self._tell)
        self.choose_file.clicked.connect(self._ask_for_file)
        self.use_torchvision.clicked.connect(self._take_torchvision)
        self.name.textChanged.connect(self._tell)
        self.estimate.clicked.connect(self._want_estimate)
        for box in (self.n_steps, self.learning_rate, self.validate_every, self.batch_size, self.crop_px, self.seed):
            box.valueChanged.connect(self._tell)

    # --- what it says -------------------------------------------------------------------

    def goal(self) -> Goal:
        """All that the form says."""
        card = self._cards.get(self.start.currentData() or "")
        is_fixed = card is not None and card.architecture.get("conditioning", "none") == "none"
        return Goal(
            teach=self.teach.currentData(),
            perception=self._perception or "none",
            masks=self.masks.layer() if self.teach.currentData() != "labels" else None,
            init_from=None if card is None else card.id,
            strength=card.strength.maximum if card is not None and is_fixed else None,
            title=self.name.text().strip(),
            n_steps=self.n_steps.value(),
            learning_rate=self.learning_rate.value(),
            validate_every=self.validate_every.value(),
            batch_size=self.batch_size.value(),
            crop_px=self.crop_px.value(),
            seed=self.seed.value(),
        )

    def problem(self, *, has_labels: bool) -> str:
        """Why these settings cannot be used; empty if they can.

        Parameters
        ----------
        has_labels : bool
            Whether a Labels layer is chosen for an image.
        """
        teach = self.teach.currentData()
        if teach != "images" and not has_labels:
            return "Choose a Labels layer under “Painted objects” (paint some first), or learn from the images alone."
        if teach != "labels" and not self._perception:
            return "Choose a perceptual network, or learn from painted objects, which needs none."
        if teach != "labels" and self._perception != TORCHVISION and not Path(self._perception).is_file():
            return f"The perceptual network {self._perception} is not there any more; choose its file again."
        if not self.name.text().strip():
            return "Give the new filter a name."
        if self.crop_px.value() % 16:
            return f"The crop side is {self.crop_px.value()} px; it must be a multiple of 16."
        return ""

    def suggest_name(self, layer_name: str) -> None:
        """Name the filter after the image, unless it was given another name."""
        if self.name.text() == self._suggested:
            self._suggested = f"NU-Net for {layer_name}" if layer_name else ""
            self.name.setText(self._suggested)

    def set_models(self, models: Sequence[ModelCard]) -> None:
        """List the models to start from; the chosen one stays."""
        is_scratch = self.start.count() > 0 and self.start.currentData() is None
        chosen = self.start.currentData()
        self._cards = {card.id: card for card in models}
        was_blocked = self.start.blockSignals(True)
        self.start.clear()
        for card in models:
            self.start.addItem(card.title, card.id)
        self.start.addItem("Random weights (from scratch)", None)
        index = self.start.count() - 1 if is_scratch else self.start.findData(chosen) if chosen else 0
        self.start.setCurrentIndex(max(0, index))
        self.start.blockSignals(was_blocked)

    def choose_perception(self, perception: str) -> None:
        """Take a perceptual network, and tell it so that it is remembered."""
        self._perception = perception
        self._show_needs()
        self.perception_chosen.emit(perception)
        self.changed.emit()

    def show_time(self, text: str) -> None:
        """Show the estimate beside its button."""
        self.time.setText(text)

    # --- slots --------------------------------------------------------------------------

    def show_error(self, message: str) -> None:
        """Show a sentence where the estimate stands."""
        self.time.setText(alarm(message))

    def _tell(self) -> None:
        self.changed.emit()

    def _want_estimate(self) -> None:
        self.estimate_wanted.emit()

    @guarded
    def _on_teach(self) -> None:
        self._show_needs()
        self.changed.emit()

    @guarded
    def _on_start(self) -> None:
        is_scratch = self.start.currentData() is None
        self.n_steps.setValue(N_SCRATCH if is_scratch else N_TUNE)
        self.learning_rate.setValue(RATE_SCRATCH if is_scratch else RATE_TUNE)
        self.validate_every.setValue(EVERY_SCRATCH if is_scratch else EVERY_TUNE)
        self.changed.emit()

    def _show_needs(self) -> None:
        """Show what the chosen way of learning needs, and nothing else."""
        teach = self.teach.currentData()
        needs_network = teach != "labels"
        self._form.setRowVisible(self._network, needs_network)
        self._form.setRowVisible(self.why, needs_network and not self._perception)
        self._form.setRowVisible(self.masks, needs_network)
        self.masks.set_first("My painted objects" if teach == "both" else "Round blobs")
        self.perception.setText(perception_text(self._perception))

    @guarded
    def _ask_for_file(self) -> None:
        folder = str(Path(self._perception).parent) if self._perception not in ("", TORCHVISION) else ""
        path, _ = QFileDialog.getOpenFileName(
            self,
            "Perceptual network: distilled VGG-19 encoder, or SqueezeNet 1.1",
            folder,
            "Weights (*.safetensors)",
        )
        if path:
            self.choose_perception(path)

    @guarded
    def _take_torchvision(self) -> None:
        self.choose_perception(TORCHVISION)

    def release(self) -> None:
        """Stop following the viewer."""
        self.masks.release()
