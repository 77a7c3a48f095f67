"""How a semantic filter is taught: from crops or a movie, and for how long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QVBoxLayout, QWidget

from napari_cellenhance.core.synthetic_pairs import PRESETS
from napari_cellenhance.widgets._fold import Fold
from napari_cellenhance.widgets._forms import describe, new_form
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._keep_crops import KeepCrops
from napari_cellenhance.widgets._keep_movie import KeepMovie
from napari_cellenhance.widgets._training_time import TrainingTime, count_box, rate_box
from napari_cellenhance.workflows.train_semantic import SemanticRequest
from napari_cellenhance.zoo.cards import ModelCard

__all__ = ["KeepGoal", "KeepSettings"]

CROPS, MOVIE = "crops", "movie"
_WAYS = (("Crops: one kind of object", CROPS), ("A movie: what moves", MOVIE))
_DEFAULT = SemanticRequest(data="", out="")
_SCRATCH = "Random weights"
_LOSSES = (
    ("Absolute error (published text)", "l1"),
    ("Smooth, β = 0.01", "smooth_l1"),
    ("Smooth, β = 1: the mean", "smooth_l1_beta1"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepGoal:
    """All that the form says of the training; the names are those of ``SemanticRequest``."""

    init_from: str | None
    title: str
    n_steps: int
    time_limit_s: float
    batch_size: int
    patch_px: int
    loss: Any
    learning_rate: float
    seed: int


class KeepSettings(QWidget):
    """Settings of a training.

    Parameters
    ----------
    viewer : ViewerModel
    models : sequence of ModelCard
        Filters to start from.
    """

    changed = Signal()
    estimate_wanted = Signal()

    def __init__(self, viewer: Any, models: Sequence[ModelCard], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.way = QComboBox()
        for title, data in _WAYS:
            self.way.addItem(title, data)
        describe(self.way, "Learn from", "Crops teach which objects to keep; a movie teaches what stands still.")
        self.crops = KeepCrops(viewer)
        self.movie = KeepMovie(viewer)
        self.duration = TrainingTime(_DEFAULT.n_steps)
        self.time, self.n_steps, self.name = self.duration.time, self.duration.n_steps, self.duration.name
        self.expected, self.estimate = self.duration.expected, self.duration.estimate
        self.start = QComboBox()
        describe(self.start, "Start from", "A filter of similar images needs less time.")
        self.batch = count_box(1, 256, _DEFAULT.batch_size, "Batch", "Pairs per update; more are slower and steadier.")
        self.patch_px = count_box(32, 1024, _DEFAULT.patch_px, "Patch side", "Of movies; larger is slower.", " px")
        self.patch_px.setSingleStep(32)
        self.loss = QComboBox()
        for title, data in _LOSSES:
            self.loss.addItem(title, data)
        describe(self.loss, "Error", "What may be there or not: its median (absolute error), or its mean.")
        self.learning_rate = rate_box()
        self.seed = count_box(0, 2**31 - 1, 0, "Seed", "The same seed and number of updates give the same model.")
        self._lay_out()
        self.set_models(models)
        self._connect()
        self._on_way()

    def _lay_out(self) -> None:
        advanced = QWidget()
        self._finer = new_form(advanced)
        self._finer.setContentsMargins(12, 0, 0, 0)
        rows: tuple[tuple[str, QWidget], ...] = (
            ("Start from", self.start), ("Batch", self.batch), ("Patch side", self.patch_px), ("Error", self.loss),
            ("Learning rate", self.learning_rate), ("Seed", self.seed),
        )  # fmt: skip
        for title, part in rows:
            self._finer.addRow(title, part)
        self.advanced = Fold("More settings", "Finer settings; the values shown are used either way.", advanced)
        form = new_form()
        form.addRow("Learn from", self.way)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        for part in (self.crops, self.movie, self.duration, self.advanced):
            layout.addWidget(part)
        self.duration.begins.setVisible(False)

    def _connect(self) -> None:
        self.way.currentIndexChanged.connect(self._on_way)
        self.crops.changed.connect(self._on_data)
        self.movie.changed.connect(self._on_data)
        self.crops.preset_chosen.connect(self._on_preset)
        self.duration.changed.connect(self._tell)
        self.duration.estimate_wanted.connect(self._want_estimate)
        for choice in (self.start, self.loss):
            choice.currentIndexChanged.connect(self._tell)
        for box in (self.batch, self.patch_px, self.learning_rate, self.seed):
            box.valueChanged.connect(self._tell)

    # --- what it says -------------------------------------------------------------------

    @property
    def is_movie(self) -> bool:
        """Whether a movie teaches."""
        return bool(self.way.currentData() == MOVIE)

    @property
    def part(self) -> Any:
        """The part that says what is learned from."""
        return self.movie if self.is_movie else self.crops

    def goal(self) -> KeepGoal:
        """All that the form says of the training."""
        return KeepGoal(
            init_from=self.start.currentData(),
            title=self.duration.title,
            n_steps=self.duration.steps,
            time_limit_s=self.duration.time_limit_s,
            batch_size=self.batch.value(),
            patch_px=max(32, self.patch_px.value() // 32 * 32),
            loss=self.loss.currentData(),
            learning_rate=self.learning_rate.value(),
            seed=self.seed.value(),
        )

    def problem(self) -> str:
        """Why these settings cannot be used; empty if they can."""
        return str(self.part.problem()) or self.duration.problem()

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
        """Show a sentence in the part that is on screen."""
        self.part.show_error(message)

    @guarded
    def _on_way(self) -> None:
        self.crops.setVisible(not self.is_movie)
        self.movie.setVisible(self.is_movie)
        self._finer.setRowVisible(self.patch_px, self.is_movie)
        self.part.refresh()
        self._on_data()

    @guarded
    def _on_data(self) -> None:
        self.duration.suggest_name(self.part.name())
        self.changed.emit()

    @guarded
    def _on_preset(self, name: str) -> None:
        self.batch.setValue(PRESETS[name].batch_size)
        self.n_steps.setValue(PRESETS[name].n_steps)

    def close_down(self) -> None:
        """End the threads, and let go of the viewer."""
        self.crops.close_down()
        self.movie.release()

    def abandon(self) -> None:
        """End the threads without touching anything of Qt."""
        for part in (self.crops, self.movie):
            part.look.close_down()
