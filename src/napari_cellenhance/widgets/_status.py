"""The foot of the panel: device, Run and Cancel, progress, and full sentences."""

from __future__ import annotations

import html

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_cellenhance.widgets._alarm import ALARM, alarm
from napari_cellenhance.widgets._recipe_button import RecipeButton
from napari_cellenhance.workflows.progress import Progress

__all__ = ["ALARM", "StatusFoot", "alarm", "progress_text"]


def progress_text(progress: Progress) -> str:
    """Say where a run is: message, count, remaining time."""
    parts = [progress.message] if progress.message else []
    if progress.is_bytes:
        parts.append(f"{progress.n_done / 1e6:.1f} of {progress.n_total / 1e6:.1f} MB")
    elif progress.n_total and "Plane" not in progress.message:
        parts.append(f"{progress.n_done} of {progress.n_total}")
    if progress.eta_s is not None and progress.n_done < progress.n_total:
        seconds = max(0, round(progress.eta_s))
        parts.append(f"{seconds // 60} min {seconds % 60} s left" if seconds >= 60 else f"{seconds} s left")
    return " · ".join(parts)


class StatusFoot(QWidget):
    """Run strip that stays in sight while the settings scroll."""

    run_clicked = Signal()
    cancel_clicked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._is_hint = False
        self.cancel_word = "Cancel"
        self.offers_recipe = True
        """Whether runs make layers that can be made again; measuring does not."""
        self.device = QLabel()
        self.device.setWordWrap(True)
        self.device.setToolTip("Where the filter runs. Change it under Device, or in Preferences ▸ CellEnhance.")
        self.run = QPushButton("Run")
        self.run.setToolTip("Enhance the chosen scope; the results are new layers.")
        self.cancel = QPushButton("Cancel")
        self.cancel.setToolTip("Stop after the tile that is being worked on; what is done is kept.")
        self.cancel.setEnabled(False)
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setAccessibleName("Progress")
        self.bar.setToolTip("Progress of the run.")
        self.bar.setRange(0, 1)
        self.progress = QLabel()
        self.message = QLabel()
        self.message.setTextFormat(Qt.TextFormat.RichText)
        self.message.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.message.setToolTip("Messages of the last run; select to copy.")
        for label in (self.progress, self.message):
            label.setWordWrap(True)
            label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.recipe = RecipeButton(self)
        self.recipe.told.connect(self.add_info)
        self.recipe.failed.connect(self.show_error)
        buttons = QHBoxLayout()
        buttons.addWidget(self.run, 2)
        buttons.addWidget(self.cancel, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.device)
        layout.addLayout(buttons)
        for part in (self.bar, self.progress, self.message):
            layout.addWidget(part)
        layout.addWidget(self.recipe, 0, Qt.AlignmentFlag.AlignLeft)
        self.run.clicked.connect(self._on_run)
        self.cancel.clicked.connect(self._on_cancel)
        self.set_running(is_running=False)

    def _on_run(self) -> None:
        self.run_clicked.emit()

    def _on_cancel(self) -> None:
        self.cancel_clicked.emit()

    def set_running(self, *, is_running: bool) -> None:
        """Show or put away what belongs to a run."""
        self.cancel.setEnabled(is_running)
        self.cancel.setText(self.cancel_word)
        self.bar.setVisible(is_running)
        self.progress.setVisible(is_running)
        if is_running:
            self.recipe.begin()
            self.bar.setRange(0, 0)
            self.progress.setText("Starting…")

    def set_cancelling(self) -> None:
        """Say that the run ends after the present tile."""
        self.cancel.setEnabled(False)
        self.cancel.setText("Cancelling…")

    def show_progress(self, progress: Progress) -> None:
        """Move the bar and its line; a bar of which nothing is done yet moves by itself, lest it look stuck."""
        self.bar.setRange(0, max(0, progress.n_total) if progress.n_done > 0 else 0)
        self.bar.setValue(progress.n_done)
        self.progress.setText(progress_text(progress))

    def show_info(self, text: str) -> None:
        """Show plain sentences."""
        self._is_hint = False
        self.message.setText(html.escape(text))
        if self.offers_recipe:
            self.recipe.look()

    def add_info(self, text: str) -> None:
        """Add a sentence to what is shown."""
        self.message.setText(f"{self.message.text()} {html.escape(text)}")

    def take_back(self, text: str) -> None:
        """Take sentences of :meth:`show_info` away, unless others have come since."""
        if self.message.text() == html.escape(text):
            self.message.setText("")

    def show_error(self, text: str) -> None:
        """Show a sentence that must be seen."""
        self._is_hint = False
        self.message.setText(alarm(text))

    def show_hint(self, text: str) -> None:
        """Say why Run is greyed; goes away by itself, and never hides the news of a run for nothing."""
        if text:
            self.message.setText(html.escape(text))
            self._is_hint = True
        elif self._is_hint:
            self.message.setText("")
            self._is_hint = False
