"""How a restoration is taught: from what, how it is made poor, and for how long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QComboBox, QVBoxLayout, QWidget

from napari_cellenhance.widgets._fold import Fold
from napari_cellenhance.widgets._forms import describe, new_form
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._restore_data import RestoreData
from napari_cellenhance.widgets._restore_levels import LevelsForm
from napari_cellenhance.widgets._restore_look import LevelsLook
from napari_cellenhance.widgets._restore_microscope import MicroscopeForm
from napari_cellenhance.widgets._training_time import TrainingTime, count_box, rate_box
from napari_cellenhance.workflows.synthesize import Synthesis
from napari_cellenhance.workflows.train_care import CareRequest
from napari_cellenhance.zoo.cards import ModelCard

__all__ = ["RestoreGoal", "RestoreSettings"]

_DIMS = (("Planes (2-D)", 2), ("Volumes (3-D, slow)", 3))
_DEFAULT = CareRequest(data="", out="")
_SCRATCH = "Random weights"
_LOOK_AFTER_MS = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreGoal:
    """All that the form says of the training; the names are those of ``CareRequest``."""

    init_from: str | None
    clean_scale: Any
    title: str
    n_steps: int
    time_limit_s: float
    n_dims: Any
    patch_px: int
    learning_rate: float
    seed: int


class RestoreSettings(QWidget):
    """Settings of a training.

    Parameters
    ----------
    viewer : ViewerModel
    models : sequence of ModelCard
        Restorations to start from.
    """

    changed = Signal()
    estimate_wanted = Signal()

    def __init__(self, viewer: Any, models: Sequence[ModelCard], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._number = 0
        self.data = RestoreData(viewer)
        self.microscope = MicroscopeForm(viewer)
        self.levels = LevelsForm()
        self.look = LevelsLook()
        self.duration = TrainingTime(_DEFAULT.n_steps)
        self.time, self.n_steps, self.name = self.duration.time, self.duration.n_steps, self.duration.name
        self.expected, self.estimate = self.duration.expected, self.duration.estimate
        self.start = QComboBox()
        describe(self.start, "Start from", "A restoration of similar images needs less time.")
        self.n_dims = QComboBox()
        for title, n_dims in _DIMS:
            self.n_dims.addItem(title, n_dims)
        describe(self.n_dims, "Network", "Volumes use the planes above and below, and take much longer.")
        self.patch_px = count_box(16, 256, _DEFAULT.patch_px, "Patch side", "Larger patches are slower.", " px")
        self.patch_px.setSingleStep(16)
        self.learning_rate = rate_box()
        self.seed = count_box(0, 2**31 - 1, 0, "Seed", "The same seed and number of updates give the same model.")
        # Values that are dragged come in hundreds: the picture follows when they rest for a moment.
        self._clock = QTimer(self)
        self._clock.setSingleShot(True)
        self._clock.setInterval(_LOOK_AFTER_MS)
        self._lay_out()
        self.set_models(models)
        self._connect()
        self._on_source()

    def _lay_out(self) -> None:
        advanced = QWidget()
        finer = new_form(advanced)
        finer.setContentsMargins(12, 0, 0, 0)
        rows: tuple[tuple[str, QWidget], ...] = (
            ("Start from", self.start), ("Network", self.n_dims), ("Patch side", self.patch_px),
            ("Learning rate", self.learning_rate), ("Seed", self.seed),
        )  # fmt: skip
        for title, part in rows:
            finer.addRow(title, part)
        tip = "How the clean images are made poor; the pictures above follow."
        self.optics_fold = Fold("Microscope and clean target", tip, self.microscope)
        self.levels_fold = Fold("Levels: photons, noise, exposure", tip, self.levels)
        self.advanced = Fold("More settings", "Finer settings; the values shown are used either way.", advanced)
        self._made_poor = QWidget()
        poor = QVBoxLayout(self._made_poor)
        poor.setContentsMargins(0, 0, 0, 0)
        for part in (self.look, self.optics_fold, self.levels_fold):
            poor.addWidget(part)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for part in (self.data, self._made_poor, self.duration, self.advanced):
            layout.addWidget(part)
        self.duration.begins.setVisible(False)

    def _connect(self) -> None:
        self.data.changed.connect(self._on_source)
        self.n_dims.currentIndexChanged.connect(self._on_source)
        for part in (self.microscope, self.levels):
            part.changed.connect(self._on_value)
        self.seed.valueChanged.connect(self._on_value)
        self.look.another_wanted.connect(self._on_another)
        self._clock.timeout.connect(self.refresh_look)
        self.duration.changed.connect(self._tell)
        self.duration.estimate_wanted.connect(self._want_estimate)
        self.start.currentIndexChanged.connect(self._tell)
        for box in (self.patch_px, self.learning_rate):
            box.valueChanged.connect(self._tell)

    # --- what it says -------------------------------------------------------------------

    def goal(self) -> RestoreGoal:
        """All that the form says of the training."""
        return RestoreGoal(
            init_from=self.start.currentData(),
            clean_scale=self.data.scale,
            title=self.duration.title,
            n_steps=self.duration.steps,
            time_limit_s=self.duration.time_limit_s,
            n_dims=self.n_dims.currentData(),
            patch_px=self.patch_px.value(),
            learning_rate=self.learning_rate.value(),
            seed=self.seed.value(),
        )

    def synthesis(self) -> Synthesis:
        """How clean images are made poor."""
        return self.microscope.synthesis(self.levels.levels())

    def problem(self) -> str:
        """Why these settings cannot be used; empty if they can."""
        n_dims = self.n_dims.currentData()
        if problem := self.data.problem(n_dims):
            return problem
        if self.data.is_made_poor and (problem := self.microscope.problem(self.synthesis(), n_dims)):
            return problem
        return self.duration.problem()

    def set_models(self, models: Sequence[ModelCard]) -> None:
        """List the models to start from; the chosen one stays."""
        chosen = self.start.currentData()
        was_blocked = self.start.blockSignals(True)
        self.start.clear()
        self.start.addItem(_SCRATCH, None)
        for card in models:
            self.start.addItem(card.title, card.id)
        self.start.setCurrentIndex(max(0, self.start.findData(chosen)) if chosen else 0)
        self.start.blockSignals(was_blocked)
        self._tell()

    # --- slots --------------------------------------------------------------------------

    def _tell(self) -> None:
        self.changed.emit()

    def _want_estimate(self) -> None:
        self.estimate_wanted.emit()

    def show_error(self, message: str) -> None:
        """Show a sentence above the pictures."""
        self.data.show_error(message)

    @guarded
    def _on_source(self) -> None:
        """Other images: their pixels may have another size."""
        n_dims = self.n_dims.currentData()
        self._made_poor.setVisible(self.data.is_made_poor)
        self.microscope.show_source(self.data.pixel_sizes(), n_dims, is_files=self.data.is_files)
        self.data.say(len(self.levels.levels()), n_dims, self.data.problem(n_dims))
        name = self.data.name()
        self.duration.suggest_name(f"Restore {name}" if name else "")
        self._on_value()

    @guarded
    def _on_value(self) -> None:
        self._clock.start()
        self.changed.emit()

    @guarded
    def _on_another(self) -> None:
        self._number += 1
        self.refresh_look()

    @guarded
    def refresh_look(self) -> None:
        """Make the pictures with what the form says now."""
        if not self.data.is_made_poor:
            self.look.ask(None)
            return
        n_dims, synthesis = self.n_dims.currentData(), self.synthesis()
        ask = self.data.bench_ask(synthesis, n_dims, self.seed.value(), self._number)
        why = "" if ask is None else self.microscope.problem(synthesis, n_dims)
        self.look.ask(None if why else ask, why)

    def close_down(self) -> None:
        """End the thread, and let go of the viewer."""
        self._clock.stop()
        self.look.close_down()
        self.data.release()
        self.microscope.release()
