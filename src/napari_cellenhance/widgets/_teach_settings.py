"""From where to start, how long to learn, and the finer settings of a training on strokes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QLabel,
    QLineEdit,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_cellenhance.widgets._fold import Fold
from napari_cellenhance.widgets._forms import describe, new_form
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.workflows.train_aep import AEPRequest
from napari_cellenhance.zoo.cards import ModelCard

__all__ = ["TeachGoal", "TeachSettings"]

_TIMES: tuple[tuple[str, float], ...] = (("1 minute", 60.0), ("5 minutes", 300.0), ("20 minutes", 1200.0))
_BY_UPDATES = "A number of updates"
_ENSEMBLES = (("Learned (AWEL)", "auto"), ("Equal weights", "fixed"), ("Last filter alone", "none"))
_SOURCES = (
    ("Last feature maps", "penultimate"), ("Scores of the classes", "logits"), ("Probabilities", "softmax"),
    ("Chosen class", "argmax"),
)  # fmt: skip
_TRANSLATIONS = (("Published code", "code"), ("Formula of the paper", "paper"))
_NETWORKS = (("AEP", "aep"), ("Light network alone", "light"), ("U-Net alone", "unet"))
_MAX_FILTERS = 5
_DROPOUT_STEP = 0.1
_DEFAULT = AEPRequest(data="", out="")
CROP_PX = 128
"""Smaller than the recipe's own: on a processor an update is four times faster, and strokes are short."""
SCRATCH = "From scratch"


@dataclass(frozen=True, slots=True, kw_only=True)
class TeachGoal:
    """All that the form says; the names are those of ``AEPRequest``."""

    init_from: str | None
    title: str
    n_steps: int
    time_limit_s: float
    learns_from_answer: bool
    network: Any
    ensemble: Any
    source: Any
    translation: Any
    filters_per_class: int
    dropout: float | None
    crop_px: int
    batch_size: int
    learning_rate: float
    seed: int


class TeachSettings(QWidget):
    """Settings of a training.

    Parameters
    ----------
    models : sequence of ModelCard
        Segmenting models to start from.
    """

    changed = Signal()

    def __init__(self, models: Sequence[ModelCard], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._suggested = ""
        self._made = ""
        self._titles: dict[str, str] = {}
        self.start = QComboBox()
        describe(
            self.start, "Start from", "Random weights, or a model that knows something similar: it needs less time."
        )
        self.time = QComboBox()
        for title, seconds in _TIMES:
            self.time.addItem(title, seconds)
        self.time.addItem(_BY_UPDATES, 0.0)
        describe(self.time, "Time", "How long to learn; you can stop earlier, and train more later.")
        self.n_steps = QSpinBox()
        self.n_steps.setRange(1, 1_000_000)
        self.n_steps.setSingleStep(100)
        self.n_steps.setValue(_DEFAULT.n_steps)
        describe(self.n_steps, "Updates", "How often the network is corrected.")
        self.name = QLineEdit()
        describe(self.name, "Name", "Name of the new model in all lists.")
        self.replaces = QLabel("Replaces your model of this name when the training ends well.")
        self.replaces.setWordWrap(True)
        self.learns_from_answer = QCheckBox("Learn from the instant answer, too")
        self.learns_from_answer.setToolTip(
            "Pixels that the instant answer is sure about (90 %) are taken as if you had painted them. "
            "It helps with few strokes, and harms where the instant answer is wrong."
        )
        self._make_advanced()
        self._lay_out()
        self.set_models(models)
        self.start.setCurrentIndex(min(1, self.start.count() - 1))  # what knows nuclei learns other cells faster too
        self._connect()
        self._on_kind()

    def _make_advanced(self) -> None:
        self.network = _choice(_NETWORKS, "Network", "AEP learns filters that show your cells, and segments with them.")
        self.ensemble = _choice(_ENSEMBLES, "Ensemble", "How the segmentations of image and filters are put together.")
        self.source = _choice(_SOURCES, "Filters from", "What of the first network becomes the filters.")
        self.translation = _choice(_TRANSLATIONS, "Enhancement", "Formula by which a filter changes the image.")
        self.filters_per_class = QSpinBox()
        self.filters_per_class.setRange(0, _MAX_FILTERS)
        self.filters_per_class.setValue(_DEFAULT.filters_per_class)
        describe(self.filters_per_class, "Filters per class", "One is best in the paper; more are slower.")
        self.dropout = QDoubleSpinBox()
        self.dropout.setRange(-_DROPOUT_STEP, 0.9)
        self.dropout.setSpecialValueText("automatic")
        self.dropout.setSingleStep(_DROPOUT_STEP)
        self.dropout.setValue(-_DROPOUT_STEP)
        describe(
            self.dropout, "Dropout",
            "Share of values hidden while learning. Automatic: 0.1, or as the model to start from. The paper: 0.5.",
        )  # fmt: skip
        self.crop_px = QSpinBox()
        self.crop_px.setRange(32, 512)
        self.crop_px.setSingleStep(32)
        self.crop_px.setSuffix(" px")
        self.crop_px.setValue(CROP_PX)
        describe(self.crop_px, "Crop side", "A multiple of 8. Larger crops see more around a cell, and are slower.")
        self.batch_size = QSpinBox()
        self.batch_size.setRange(1, 64)
        self.batch_size.setValue(_DEFAULT.batch_size)
        describe(self.batch_size, "Crops per update", "More crops are steadier and slower.")
        self.learning_rate = QDoubleSpinBox()
        self.learning_rate.setDecimals(6)
        self.learning_rate.setRange(0.0, 0.1)
        self.learning_rate.setSpecialValueText("automatic")
        self.learning_rate.setSingleStep(1e-4)
        self.learning_rate.setValue(_DEFAULT.learning_rate)
        describe(
            self.learning_rate, "Learning rate", "Size of an update; smaller from a model. Lower it if the curves jump."
        )
        self.seed = QSpinBox()
        self.seed.setRange(0, 2**31 - 1)
        describe(self.seed, "Seed", "The same seed and number of updates give the same model.")

    def _lay_out(self) -> None:
        self._form = new_form()
        for title, part in (
            ("Start from", self.start), ("Time", self.time), ("Updates", self.n_steps), ("Name", self.name),
        ):  # fmt: skip
            self._form.addRow(title, part)
        advanced = QWidget()
        finer = new_form(advanced)
        finer.setContentsMargins(12, 0, 0, 0)
        rows: tuple[tuple[str, QWidget], ...] = (
            ("Network", self.network), ("Ensemble", self.ensemble), ("Filters from", self.source),
            ("Enhancement", self.translation), ("Filters per class", self.filters_per_class),
            ("Dropout", self.dropout),
            ("Crop side", self.crop_px), ("Crops per update", self.batch_size),
            ("Learning rate", self.learning_rate), ("Seed", self.seed),
        )  # fmt: skip
        for title, box in rows:
            finer.addRow(title, box)
        self.advanced = Fold("More settings", "Finer settings; the values shown are used either way.", advanced)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(self._form)
        layout.addWidget(self.replaces)
        layout.addWidget(self.learns_from_answer)
        layout.addWidget(self.advanced)

    def _connect(self) -> None:
        self.name.textChanged.connect(self._tell)
        self.learns_from_answer.toggled.connect(self._tell)
        for combo in (self.start, self.time, self.network, self.ensemble, self.source, self.translation):
            combo.currentIndexChanged.connect(self._on_kind)
        for box in (
            self.n_steps, self.filters_per_class, self.dropout, self.crop_px, self.batch_size, self.learning_rate,
            self.seed,
        ):  # fmt: skip
            box.valueChanged.connect(self._tell)

    # --- what it says -------------------------------------------------------------------

    def goal(self) -> TeachGoal:
        """All that the form says."""
        seconds = float(self.time.currentData())
        return TeachGoal(
            init_from=self.start.currentData(),
            title=self.name.text().strip(),
            n_steps=0 if seconds else self.n_steps.value(),
            time_limit_s=seconds,
            learns_from_answer=self.learns_from_answer.isChecked() and self.learns_from_answer.isEnabled(),
            network=self.network.currentData(),
            ensemble=self.ensemble.currentData(),
            source=self.source.currentData(),
            translation=self.translation.currentData(),
            filters_per_class=self.filters_per_class.value(),
            dropout=None if self.dropout.value() < 0 else self.dropout.value(),
            crop_px=self.crop_px.value(),
            batch_size=self.batch_size.value(),
            learning_rate=self.learning_rate.value(),
            seed=self.seed.value(),
        )

    def problem(self) -> str:
        """Why these settings cannot be used; empty if they can."""
        if not self.name.text().strip():
            return "Give the new model a name."
        if self.crop_px.value() % 8:
            return f"The crop side is {self.crop_px.value()} px; it must be a multiple of 8."
        if self.source.currentData() != "penultimate" and self.filters_per_class.value() > 1:
            return "Only the last feature maps give more than one filter per class."
        return ""

    def suggest_name(self, layer_name: str) -> None:
        """Name the model after the image, unless it was given another name."""
        if self.name.text() == self._suggested:
            self._suggested = f"AEP for {layer_name}" if layer_name else ""
            self.name.setText(self._suggested)

    def set_models(self, models: Sequence[ModelCard], made: str = "") -> None:
        """List the models to start from.

        Parameters
        ----------
        models : sequence of ModelCard
            Those of other methods than AEP are left out.
        made : str
            The model that this dock has just trained: it is offered, and chosen, for training more.
        """
        chosen = made or self.start.currentData()
        self._made = made or self._made
        models = [card for card in models if card.recipe == "aep"]
        self._titles = {card.id: card.title for card in models}
        was_blocked = self.start.blockSignals(True)
        self.start.clear()
        self.start.addItem(SCRATCH, None)
        for card in sorted(models, key=lambda card: card.id != self._made):
            self.start.addItem(f"Train more: {card.title}" if card.id == self._made else card.title, card.id)
        self.start.setCurrentIndex(max(0, self.start.findData(chosen)) if chosen else 0)
        self.start.blockSignals(was_blocked)
        self._tell()

    def show_replaced(self, *, is_replaced: bool) -> None:
        """Say whether a model has that name already."""
        self.replaces.setVisible(is_replaced)

    # --- slots --------------------------------------------------------------------------

    def show_error(self, message: str) -> None:
        """Show a sentence under the name."""
        self.replaces.setText(message)
        self.replaces.setVisible(True)

    def _tell(self) -> None:
        self.changed.emit()

    @guarded
    def _on_kind(self) -> None:
        self._form.setRowVisible(self.n_steps, not self.time.currentData())
        is_aep = self.network.currentData() == "aep"
        for part in (self.ensemble, self.source, self.translation, self.filters_per_class):
            part.setEnabled(is_aep)
        self.changed.emit()


def _choice(entries: Sequence[tuple[str, str]], name: str, tip: str) -> QComboBox:
    combo = QComboBox()
    for title, data in entries:
        combo.addItem(title, data)
    describe(combo, name, tip)
    return combo
