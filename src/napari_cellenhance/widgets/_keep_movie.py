"""Teaching from movies: which, how far apart the frames of a pair are, and whether that can work."""

from __future__ import annotations

from functools import partial
from typing import Any

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QComboBox, QVBoxLayout, QWidget

from napari_cellenhance.widgets._checked_layers import CheckedLayers
from napari_cellenhance.widgets._forms import describe, new_form
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._keep_layer_form import KeepLayerForm
from napari_cellenhance.widgets._keep_look import MovieScene
from napari_cellenhance.widgets._training_time import count_box
from napari_cellenhance.workflows.noisy_images import NoisyLayer
from napari_cellenhance.workflows.semantic_data import movie_problem
from napari_cellenhance.workflows.train_semantic import SemanticRequest

__all__ = ["KeepMovie"]

_POLARITIES = (
    ("As the movie tells", "auto"), ("Dark", "dark"), ("Bright", "bright"), ("Dark and bright", "both"),
)  # fmt: skip
_LOOK_AFTER_MS = 150


class KeepMovie(QWidget):
    """The part of the page that teaches from movies.

    Parameters
    ----------
    viewer : ViewerModel
    """

    changed = Signal()

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.movies = CheckedLayers(
            viewer, partial(KeepLayerForm, viewer), name="Movies to learn from", purpose="learn from"
        )
        self.movies.list.setToolTip("Check movies of scenes that stand still but for what moves. They are only read.")
        self.lag = count_box(
            1, 1000, 1, "Lag", "Frames between the two of a pair: objects must have moved on.", " frames"
        )
        self.polarity = QComboBox()
        for title, data in _POLARITIES:
            self.polarity.addItem(title, data)
        describe(self.polarity, "What moves is", "Darker or brighter than the scene.")
        self.look = MovieScene()
        self._clock = QTimer(self)
        self._clock.setSingleShot(True)
        self._clock.setInterval(_LOOK_AFTER_MS)
        form = new_form()
        form.addRow("Lag", self.lag)
        form.addRow("What moves is", self.polarity)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.movies)
        layout.addLayout(form)
        layout.addWidget(self.look)
        self.movies.changed.connect(self._on_value)
        self.lag.valueChanged.connect(self._on_value)
        self.polarity.currentIndexChanged.connect(self._on_value)
        self._clock.timeout.connect(self.refresh)

    # --- what it says -------------------------------------------------------------------

    def layers(self) -> tuple[NoisyLayer, ...]:
        """The movies."""
        return tuple(form.noisy_layer() for form in self.movies.forms())

    def problem(self) -> str:
        """Why there is nothing to learn from; empty if there is."""
        return self.movies.problem() or movie_problem(self.layers(), self.lag.value())

    def fields(self) -> dict[str, Any]:
        """Fields of the request."""
        return {"data": self.layers(), "lag": self.lag.value(), "polarity": self.polarity.currentData()}

    def name(self) -> str:
        """What to name a model after."""
        forms = self.movies.forms()
        return f"Background of {forms[0].layer.name}" if forms else ""

    # --- slots --------------------------------------------------------------------------

    def show_error(self, message: str) -> None:
        """Show a sentence in place of the pictures."""
        self.look.show_error(message)

    @guarded
    def _on_value(self) -> None:
        self._clock.start()
        self.changed.emit()

    @guarded
    def refresh(self) -> None:
        """Look at the movies with what the form says now; only where that is on screen."""
        is_asked = self.isVisible() and not self.problem()
        self.look.ask(SemanticRequest(out="", **self.fields()) if is_asked else None)

    def release(self) -> None:
        """End the thread, and stop following the viewer."""
        self._clock.stop()
        self.look.close_down()
        self.movies.release()
