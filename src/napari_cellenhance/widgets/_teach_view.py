"""What a training on strokes looks like: the score, the curves, and the weights of the branches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QFormLayout, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._plot import LinePlot
from napari_cellenhance.widgets._status import alarm
from napari_cellenhance.widgets._teach_bars import BarChart
from napari_cellenhance.widgets._teach_classes import ClassLook
from napari_cellenhance.widgets._teach_curves import best_score, loss_curves, score_curves
from napari_cellenhance.widgets._train_curves import marks_of

__all__ = ["TeachView"]

_NOT_YET = "The score comes with the first check on painted pixels."
_BROKEN = (
    "The loss is no longer a number; the best model so far was kept. Lower the learning rate under “More settings”."
)


class TeachView(QWidget):
    """Follows one training; forgets it when the next one starts."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.rows: list[Mapping[str, float]] = []
        self._looks: Mapping[int, ClassLook] = {}
        self._best_step = 0
        self.score = QLabel()
        self.score.setTextFormat(Qt.TextFormat.RichText)
        self.score.setAccessibleName("Score")
        self.score.setToolTip("Mean overlap (intersection over union) of all classes at the best check so far.")
        self.meaning = QLabel(_NOT_YET)
        self.meaning.setWordWrap(True)
        self.shown = QComboBox()
        self.shown.addItem("Loss: falls while it learns", "loss")
        self.shown.addItem("Score of each class: rises", "score")
        self.shown.setAccessibleName("Curves")
        self.shown.setToolTip("Loss of each update, smoothed; or the overlap of each class at each check.")
        self.plot = LinePlot()
        self.plot.set_empty_text("Curves appear here when a training runs.")
        self.plot.setAccessibleName("Curves of the training")
        self.warning = QLabel()
        self.warning.setWordWrap(True)
        self.warning.setTextFormat(Qt.TextFormat.RichText)
        self.bars_title = QLabel("What counts in the result: the image itself, and each learned filter")
        self.bars_title.setWordWrap(True)
        self.bars = BarChart(
            "Weights of the branches",
            "Weight of the segmentation from the image itself, and of those from the learned filters (AWEL).",
        )
        self._lay_out()
        self.shown.currentIndexChanged.connect(self._draw)
        self.start({})

    def _lay_out(self) -> None:
        head = QHBoxLayout()
        head.addWidget(self.score)
        head.addWidget(self.meaning, 1)
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        form.addRow("Curves", self.shown)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(head)
        layout.addLayout(form)
        layout.addWidget(self.plot, 1)
        for part in (self.warning, self.bars_title, self.bars):
            layout.addWidget(part)

    def show_error(self, message: str) -> None:
        """Show a sentence under the plot."""
        self.warning.setText(alarm(message))
        self.warning.setVisible(True)

    def start(self, looks: Mapping[int, ClassLook]) -> None:
        """Forget the training before."""
        self.rows, self._best_step, self._looks = [], 0, dict(looks)
        self._show_score("–")
        self.meaning.setText(_NOT_YET)
        self.warning.setVisible(False)
        self.show_weights({})
        self._draw()

    def add(self, rows: Sequence[Mapping[str, float]], best_step: int) -> None:
        """Let the curves grow."""
        if not rows:
            return
        self.rows += rows
        self._best_step = best_step
        score = best_score(self.rows, best_step)
        if score is not None:
            self._show_score(f"{score:.2f}")
            self.meaning.setText(f"Best score so far, at update {best_step} (overlap, IoU; 1 is perfect).")
        self._draw()

    def _show_score(self, text: str) -> None:
        # napari's theme sets the size of fonts, but not inside rich text.
        self.score.setText(f'<span style="font-size:24pt; font-weight:bold">{text}</span>')
        self.score.setAccessibleDescription(text)

    def show_weights(self, weights: Mapping[str, float]) -> None:
        """Show what each branch counts; nothing where there is one only."""
        self.bars.show_values(weights if len(weights) > 1 else {})
        for part in (self.bars_title, self.bars):
            part.setVisible(len(weights) > 1)

    def finish(self, score: float, meaning: str, *, is_broken: bool) -> None:
        """Say what the score of the model that was kept means."""
        if score == score:  # not NaN
            self._show_score(f"{score:.2f}")
            self.meaning.setText(meaning)
        if is_broken:
            self.show_error(_BROKEN)

    @guarded
    def _draw(self) -> None:
        if self.shown.currentData() == "loss":
            self.plot.set_labels("update", "loss")
            self.plot.set_curves(loss_curves(self.rows))
        else:
            self.plot.set_labels("update", "overlap (IoU)")
            self.plot.set_curves(score_curves(self.rows, self._looks))
        self.plot.set_marks(marks_of(self._best_step))
