"""How long a training takes and what its model is called: the part of a form that docks with a training share."""

from __future__ import annotations

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

from napari_cellenhance.widgets._forms import describe, new_form
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.workflows.train_estimate import TrainEstimate, duration_text

__all__ = ["TrainingTime", "count_box", "rate_box", "time_text"]

_TIMES: tuple[tuple[str, float], ...] = (
    ("Quick: 1 minute", 60.0), ("Normal: 5 minutes", 300.0), ("Thorough: 20 minutes", 1200.0),
)  # fmt: skip
_BY_UPDATES = "A number of updates"
_N_VALIDATIONS = 8


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


class TrainingTime(QWidget):
    """Time, or number of updates; name; and a measured estimate.

    Parameters
    ----------
    n_steps : int
        Updates to begin with.
    """

    changed = Signal()
    estimate_wanted = Signal()

    def __init__(self, n_steps: int, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._suggested = ""
        self.time = QComboBox()
        for title, seconds in _TIMES:
            self.time.addItem(title, seconds)
        self.time.addItem(_BY_UPDATES, 0.0)
        self.time.setCurrentIndex(1)
        describe(self.time, "Time", "How long to learn. You can stop earlier and keep the best so far.")
        self.n_steps = count_box(1, 1_000_000, n_steps, "Updates", "How often the network is corrected.")
        self.n_steps.setSingleStep(100)
        self.name = QLineEdit()
        describe(self.name, "Name", "Name of the new model in all lists.")
        self.estimate = QPushButton("Estimate time")
        self.estimate.setToolTip("Measure a few updates with your images on this computer, and count up.")
        self.expected = QLabel()
        self.begins = QLabel()
        self.replaces = QLabel("Replaces your model of this name when the training ends well.")
        for note in (self.expected, self.begins, self.replaces):
            note.setWordWrap(True)
        self._form = new_form()
        for title, part in (("Time", self.time), ("Updates", self.n_steps), ("Name", self.name)):
            self._form.addRow(title, part)
        expected = QHBoxLayout()
        expected.addWidget(self.estimate)
        expected.addWidget(self.expected, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(self._form)
        layout.addWidget(self.replaces)
        layout.addWidget(self.begins)
        layout.addLayout(expected)
        self.name.textChanged.connect(self._tell)
        self.n_steps.valueChanged.connect(self._tell)
        self.time.currentIndexChanged.connect(self._on_time)
        self.estimate.clicked.connect(self._want_estimate)
        self._on_time()

    @property
    def title(self) -> str:
        """Name of the model."""
        return str(self.name.text()).strip()

    @property
    def time_limit_s(self) -> float:
        """Time to learn; 0 where a number of updates counts."""
        return float(self.time.currentData())

    @property
    def steps(self) -> int:
        """Number of updates; 0 where the time counts."""
        return 0 if self.time_limit_s else self.n_steps.value()

    def problem(self) -> str:
        """Why this cannot be used; empty if it can."""
        return "" if self.title else "Give the new model a name."

    def suggest_name(self, name: str) -> None:
        """Name the model, unless it was given another name."""
        if self.name.text() == self._suggested:
            self._suggested = name
            self.name.setText(name)

    def show_replaced(self, *, is_replaced: bool) -> None:
        """Say whether a model has that name already."""
        self.replaces.setVisible(is_replaced)

    def _tell(self) -> None:
        self.changed.emit()

    def _want_estimate(self) -> None:
        self.estimate_wanted.emit()

    def show_error(self, message: str) -> None:
        """Show a sentence beside the button."""
        self.expected.setText(message)

    @guarded
    def _on_time(self) -> None:
        self._form.setRowVisible(self.n_steps, not self.time.currentData())
        self.changed.emit()


def count_box(low: int, high: int, value: int, name: str, tip: str, suffix: str = "") -> QSpinBox:
    """Make a box for a whole number."""
    box = QSpinBox()
    box.setRange(low, high)
    box.setValue(value)
    box.setSuffix(suffix)
    describe(box, name, tip)
    return box


def rate_box() -> QDoubleSpinBox:
    """Make a box for the learning rate; 0 is automatic."""
    box = QDoubleSpinBox()
    box.setDecimals(6)
    box.setRange(0.0, 0.1)
    box.setSingleStep(1e-4)
    box.setSpecialValueText("automatic")
    describe(box, "Learning rate", "Size of an update. Lower it if the curve jumps or breaks.")
    return box
