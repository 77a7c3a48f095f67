"""How a denoiser is trained: how long, from where to start, and the finer settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_cellenhance.widgets._fold import Fold
from napari_cellenhance.widgets._forms import describe, new_form
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._plot import Curve, LinePlot
from napari_cellenhance.widgets._status import alarm
from napari_cellenhance.workflows.denoise_layers import NoiseLook
from napari_cellenhance.workflows.train_estimate import TrainEstimate, duration_text
from napari_cellenhance.workflows.train_n2v import N2VRequest
from napari_cellenhance.zoo.cards import ModelCard

__all__ = ["AUTOMATIC", "DenoiseGoal", "DenoiseSettings", "time_text"]

_TIMES: tuple[tuple[str, float], ...] = (
    ("Quick: 1 minute", 60.0), ("Normal: 5 minutes", 300.0), ("Thorough: 20 minutes", 1200.0),
)  # fmt: skip
_BY_UPDATES = "A number of updates"
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
_N_VALIDATIONS = 8


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


def time_text(measured: TrainEstimate, n_steps: int, time_limit_s: float) -> str:
    """Say how long a training takes on this computer.

    >>> measured = TrainEstimate(step_s=0.25, validation_s=1.0, n_dry_run=0)
    >>> time_text(measured, 1000, 0.0)
    'about 4 min on this computer (0.25 s per update)'
    >>> time_text(measured, 0, 60.0)
    'about 60 s on this computer: some 208 updates of 0.25 s'
    """
    if time_limit_s:
        n_fitting = max(1, int((time_limit_s - _N_VALIDATIONS * measured.validation_s) / measured.step_s))
        return (
            f"about {duration_text(time_limit_s)} on this computer: some {n_fitting} updates of {measured.step_s:.2g} s"
        )
    total = duration_text(measured.total_s(n_steps, max(1, min(100, n_steps // _N_VALIDATIONS))))
    return f"about {total} on this computer ({measured.step_s:.2g} s per update)"


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
        self._suggested = ""
        self._general: ModelCard | None = None
        self.time = QComboBox()
        for title, seconds in _TIMES:
            self.time.addItem(title, seconds)
        self.time.addItem(_BY_UPDATES, 0.0)
        self.time.setCurrentIndex(1)
        describe(self.time, "Time", "How long to learn. You can stop earlier and keep the best so far.")
        self.n_steps = _spin(1, 1_000_000, _DEFAULT.n_steps, "Updates", "How often the network is corrected.")
        self.n_steps.setSingleStep(100)
        self.name = QLineEdit()
        describe(self.name, "Name", "Name of the new model in all lists.")
        self.estimate = QPushButton("Estimate time")
        self.estimate.setToolTip("Measure a few updates with your images on this computer, and count up.")
        self.expected = QLabel()
        self.expected.setWordWrap(True)
        self.sees = QLabel()
        self.sees.setWordWrap(True)
        self.begins = QLabel()
        self.begins.setWordWrap(True)
        self.replaces = QLabel("Replaces your model of this name when the training ends well.")
        self.replaces.setWordWrap(True)
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
        self.reach_px = _spin(1, _MAX_REACH_PX, 3, "Reach", "How far the shared noise reaches to either side.", " px")
        self.look = QPushButton("Look at the noise of the image")
        self.look.setToolTip("Measure on the plane on screen how alike the noise of neighbours is, and propose.")
        self.noise_plot = LinePlot()
        self.noise_plot.set_labels("shift (px)", "correlation")
        self.noise_plot.setAccessibleName("Autocorrelation of the noise")
        self.noise_plot.setVisible(False)
        self.noise_note = QLabel()
        self.noise_note.setWordWrap(True)
        self.noise_note.setVisible(False)
        self.patch_px = _spin(16, 256, _DEFAULT.patch_px, "Patch side", "Larger patches are slower.", " px")
        self.patch_px.setSingleStep(16)
        self.learning_rate = QDoubleSpinBox()
        self.learning_rate.setDecimals(6)
        self.learning_rate.setRange(0.0, 0.1)
        self.learning_rate.setSingleStep(1e-4)
        self.learning_rate.setSpecialValueText("automatic")
        describe(self.learning_rate, "Learning rate", "Size of an update. Lower it if the curve jumps or breaks.")
        self.seed = _spin(0, 2**31 - 1, 0, "Seed", "The same seed and number of updates give the same model.")

    def _lay_out(self) -> None:
        self._form = new_form()
        for title, part in (("Time", self.time), ("Updates", self.n_steps), ("Name", self.name)):
            self._form.addRow(title, part)
        expected = QHBoxLayout()
        expected.addWidget(self.estimate)
        expected.addWidget(self.expected, 1)
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
        layout.addLayout(self._form)
        layout.addWidget(self.replaces)
        layout.addWidget(self.begins)
        layout.addLayout(expected)
        layout.addWidget(self.advanced)

    def _connect(self) -> None:
        self.name.textChanged.connect(self._tell)
        for combo in (self.start, self.time, self.variant, self.n_dims, self.is_joint, self.structure):
            combo.currentIndexChanged.connect(self._on_kind)
        for box in (self.n_steps, self.reach_px, self.patch_px, self.learning_rate, self.seed):
            box.valueChanged.connect(self._tell)
        self.look.clicked.connect(self._want_noise)
        self.estimate.clicked.connect(self._want_estimate)

    # --- what it says -------------------------------------------------------------------

    def goal(self) -> DenoiseGoal:
        """All that the form says."""
        seconds = float(self.time.currentData())
        structure = self.structure.currentData()
        reach_px = 0 if structure == "none" else self.reach_px.value()
        start = self.start.currentData()
        general = None if self._general is None else self._general.id
        return DenoiseGoal(
            init_from=general if start == AUTOMATIC else None if start == _SCRATCH else start,
            title=self.name.text().strip(),
            n_steps=0 if seconds else self.n_steps.value(),
            time_limit_s=seconds,
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
        return "" if self.name.text().strip() else "Give the new model a name."

    def suggest_name(self, layer_name: str) -> None:
        """Name the model after the image, unless it was given another name."""
        if self.name.text() == self._suggested:
            self._suggested = f"Denoiser for {layer_name}" if layer_name else ""
            self.name.setText(self._suggested)

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

    def show_replaced(self, *, is_replaced: bool) -> None:
        """Say whether a model has that name already."""
        self.replaces.setVisible(is_replaced)

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
        self._form.setRowVisible(self.n_steps, not self.time.currentData())
        self._finer.setRowVisible(self.reach_px, self.structure.currentData() != "none")
        self.changed.emit()


def _choice(entries: Sequence[tuple[str, Any]], name: str, tip: str) -> QComboBox:
    combo = QComboBox()
    for title, data in entries:
        combo.addItem(title, data)
    describe(combo, name, tip)
    return combo


def _spin(low: int, high: int, value: int, name: str, tip: str, suffix: str = "") -> QSpinBox:
    box = QSpinBox()
    box.setRange(low, high)
    box.setValue(value)
    box.setSuffix(suffix)
    describe(box, name, tip)
    return box
