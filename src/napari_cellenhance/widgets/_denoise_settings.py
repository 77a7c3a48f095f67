"""How a denoiser is trained: how long, from where to start, and the finer settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_cellenhance.widgets._fold import Fold
from napari_cellenhance.widgets._forms import describe, new_form
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._plot import Curve, LinePlot
from napari_cellenhance.widgets._status import alarm
from napari_cellenhance.widgets._training_time import TrainingTime, count_box, rate_box
from napari_cellenhance.workflows.denoise_layers import NoiseLook
from napari_cellenhance.workflows.train_n2v import N2VRequest
from napari_cellenhance.zoo.cards import ModelCard

__all__ = ["AUTOMATIC", "DenoiseGoal", "DenoiseSettings"]

_VARIANTS = (("N2V2 (no checkerboards)", "n2v2"), ("N2V (Noise2Void)", "n2v"))
_DIMS = (("Planes (2-D)", 2), ("Volumes (3-D, slow)", 3))
_CHANNELS = (("Each by itself", False), ("All together", True))
_STRUCTURES = (
    ("None: pixel by pixel", "none"), ("Horizontal lines", "horizontal"), ("Vertical lines", "vertical"),
    ("Lines both ways", "cross"), ("Spots", "square"),
)  # fmt: skip
_DEFAULT = N2VRequest(data="", out="")
AUTOMATIC = "auto"
_SCRATCH = "scratch"
_MAX_REACH_PX = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class DenoiseGoal:
    """All that the form says; the names are those of ``N2VRequest``."""

    init_from: str | None
    title: str
    n_steps: int
    time_limit_s: float
    variant: Any
    n_dims: Any
    is_joint: bool
    structure: Any
    reach_px: int
    radius_px: int
    patch_px: int
    learning_rate: float
    seed: int


class DenoiseSettings(QWidget):
    """Settings of a training.

    Parameters
    ----------
    models : sequence of ModelCard
        Denoisers to start from.
    """

    changed = Signal()
    noise_wanted = Signal()
    estimate_wanted = Signal()

    def __init__(self, models: Sequence[ModelCard], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._general: ModelCard | None = None
        self.duration = TrainingTime(_DEFAULT.n_steps)
        self.time, self.n_steps, self.name = self.duration.time, self.duration.n_steps, self.duration.name
        self.estimate, self.expected, self.begins = self.duration.estimate, self.duration.expected, self.duration.begins
        self.sees = QLabel()
        self.sees.setWordWrap(True)
        self._make_advanced()
        self._lay_out()
        self.set_models(models)
        self._connect()
        self._on_kind()

    def _make_advanced(self) -> None:
        self.start = QComboBox()
        describe(self.start, "Start from", "A denoiser that knows similar images needs less time.")
        self.variant = _choice(_VARIANTS, "Method", "N2V2 avoids the checkerboards that N2V leaves in flat places.")
        self.n_dims = _choice(_DIMS, "Learn from", "Volumes use the planes above and below, and take much longer.")
        self.is_joint = _choice(_CHANNELS, "Channels", "Each by itself is safe; all together can use what they share.")
        self.structure = _choice(
            _STRUCTURES, "Shared noise", "Noise that neighbouring pixels have in common, such as lines of a scanner."
        )
        self.reach_px = count_box(
            1, _MAX_REACH_PX, 3, "Reach", "How far the shared noise reaches to either side.", " px"
        )
        self.look = QPushButton("Look at the noise of the image")
        self.look.setToolTip("Measure on the plane on screen how alike the noise of neighbours is, and propose.")
        self.noise_plot = LinePlot()
        self.noise_plot.set_labels("shift (px)", "correlation")
        self.noise_plot.setAccessibleName("Autocorrelation of the noise")
        self.noise_plot.setVisible(False)
        self.noise_note = QLabel()
        self.noise_note.setWordWrap(True)
        self.noise_note.setVisible(False)
        self.patch_px = count_box(16, 256, _DEFAULT.patch_px, "Patch side", "Larger patches are slower.", " px")
        self.patch_px.setSingleStep(16)
        self.learning_rate = rate_box()
        self.seed = count_box(0, 2**31 - 1, 0, "Seed", "The same seed and number of updates give the same model.")

    def _lay_out(self) -> None:
        advanced = QWidget()
        self._finer = new_form(advanced)
        self._finer.setContentsMargins(12, 0, 0, 0)
        rows: tuple[tuple[str, QWidget], ...] = (
            ("Start from", self.start), ("Method", self.variant), ("Learn from", self.n_dims),
            ("Channels", self.is_joint), ("Shared noise", self.structure), ("Reach", self.reach_px),
        )  # fmt: skip
        for title, box in rows:
            self._finer.addRow(title, box)
        for wide in (self.look, self.noise_plot, self.noise_note):
            self._finer.addRow(wide)
        self._finer.addRow("Patch side", self.patch_px)
        self._finer.addRow("Learning rate", self.learning_rate)
        self._finer.addRow("Seed", self.seed)
        self.advanced = Fold("More settings", "Finer settings; the values shown are used either way.", advanced)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.sees)
        layout.addWidget(self.duration)
        layout.addWidget(self.advanced)

    def _connect(self) -> None:
        self.duration.changed.connect(self._tell)
        for combo in (self.start, self.variant, self.n_dims, self.is_joint, self.structure):
            combo.currentIndexChanged.connect(self._on_kind)
        for box in (self.reach_px, self.patch_px, self.learning_rate, self.seed):
            box.valueChanged.connect(self._tell)
        self.look.clicked.connect(self._want_noise)
        self.duration.estimate_wanted.connect(self._want_estimate)

    # --- what it says -------------------------------------------------------------------

    def goal(self) -> DenoiseGoal:
        """All that the form says."""
        structure = self.structure.currentData()
        reach_px = 0 if structure == "none" else self.reach_px.value()
        start = self.start.currentData()
        general = None if self._general is None else self._general.id
        return DenoiseGoal(
            init_from=general if start == AUTOMATIC else None if start == _SCRATCH else start,
            title=self.duration.title,
            n_steps=self.duration.steps,
            time_limit_s=self.duration.time_limit_s,
            variant=self.variant.currentData(),
            n_dims=self.n_dims.currentData(),
            is_joint=bool(self.is_joint.currentData()),
            structure=structure,
            reach_px=reach_px,
            radius_px=max(_DEFAULT.radius_px, reach_px + 2),
            patch_px=self.patch_px.value(),
            learning_rate=self.learning_rate.value(),
            seed=self.seed.value(),
        )

    def problem(self) -> str:
        """Why these settings cannot be used; empty if they can."""
        return self.duration.problem()

    def suggest_name(self, layer_name: str) -> None:
        """Name the model after the image, unless it was given another name."""
        self.duration.suggest_name(f"Denoiser for {layer_name}" if layer_name else "")

    def set_models(self, models: Sequence[ModelCard]) -> None:
        """List the models to start from; the chosen one stays."""
        chosen = self.start.currentData() or AUTOMATIC
        was_blocked = self.start.blockSignals(True)
        self.start.clear()
        self.start.addItem("What fits best", AUTOMATIC)
        self.start.addItem("Random weights", _SCRATCH)
        for card in models:
            self.start.addItem(card.title, card.id)
        self.start.setCurrentIndex(max(0, self.start.findData(chosen)))
        self.start.blockSignals(was_blocked)
        self._tell()

    # --- what is shown to it ------------------------------------------------------------

    def show_general(self, general: ModelCard | None) -> None:
        """Say from where a training starts; ``general`` is the shipped model where it fits."""
        self._general = general
        start = self.start.currentData()
        if start not in (AUTOMATIC, _SCRATCH):
            self.begins.setText(f"Starts from “{self.start.currentText()}”.")
        elif start == AUTOMATIC and general is not None:
            self.begins.setText(f"Starts from “{general.title}”, which knows similar noise.")
        elif start == AUTOMATIC:
            self.begins.setText("Starts from random weights: no shipped model fits these settings.")
        else:
            self.begins.setText("Starts from random weights.")

    def show_channels(self, n_channels: int) -> None:
        """Ask about channels only where there are several."""
        self._finer.setRowVisible(self.is_joint, n_channels > 1)

    def show_noise(self, look: NoiseLook) -> None:
        """Plot the autocorrelation, and take over what is proposed."""
        self.noise_plot.set_curves(
            [
                Curve("Along rows (X)", look.shifts_px, look.along_rows, "#0072b2"),
                Curve("Along columns (Y)", look.shifts_px, look.along_columns, "#d55e00"),
            ]
        )
        self.noise_plot.setVisible(True)
        self.noise_note.setText(look.sentence)
        self.noise_note.setVisible(True)
        if look.reach_px:
            self.reach_px.setValue(look.reach_px)
        self.structure.setCurrentIndex(self.structure.findData(look.structure))

    def show_error(self, message: str) -> None:
        """Show a sentence under the plot of the noise."""
        self.noise_note.setText(alarm(message))
        self.noise_note.setVisible(True)

    # --- slots --------------------------------------------------------------------------

    def _tell(self) -> None:
        self.changed.emit()

    def _want_noise(self) -> None:
        self.noise_wanted.emit()

    def _want_estimate(self) -> None:
        self.estimate_wanted.emit()

    @guarded
    def _on_kind(self) -> None:
        self._finer.setRowVisible(self.reach_px, self.structure.currentData() != "none")
        self.changed.emit()


def _choice(entries: Sequence[tuple[str, Any]], name: str, tip: str) -> QComboBox:
    combo = QComboBox()
    for title, data in entries:
        combo.addItem(title, data)
    describe(combo, name, tip)
    return combo
