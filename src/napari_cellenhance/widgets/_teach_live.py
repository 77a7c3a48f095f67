"""The instant answer: a layer over what is on screen that follows the strokes, the camera and the slices."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_cellenhance.core.errors import CellEnhanceError
from napari_cellenhance.core.recipes.protocol import Region
from napari_cellenhance.widgets._guard import error_sentence, guarded
from napari_cellenhance.widgets._teach_place import AnswerLayer, Window
from napari_cellenhance.widgets._worker import LatestOnly, Outcome
from napari_cellenhance.workflows.live_paint import LiveAnswer, LivePaint, Shown
from napari_cellenhance.workflows.painted_layers import PaintedLayer

__all__ = ["LiveAsk", "TeachLive"]

_WAIT_MS = 150
_TIP = (
    "After every stroke, what is on screen is segmented at once by a quick method that learns from your strokes alone. "
    "It helps to see where more paint is needed; the training afterwards is better."
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LiveAsk:
    """What the dock wants to know.

    Parameters
    ----------
    layers : tuple of PaintedLayer
        Labels are not copied.
    shown : int
        Number of the layer on screen.
    window : Window
        What is seen of it.
    above : Image
        Layer to lay the answer on.
    colors : mapping of int to str
    """

    layers: tuple[PaintedLayer, ...]
    shown: int
    window: Window
    above: Any
    colors: Mapping[int, str]


class TeachLive(QWidget):
    """A check box, the time that the last answer took, and a hint; and the layer with the answer.

    Parameters
    ----------
    viewer : ViewerModel
    source : callable
        Gives what to ask; or a sentence on why there is nothing to ask.
    paint : LivePaint, optional
        Replaced in tests.
    """

    answered = Signal()

    def __init__(
        self,
        viewer: Any,
        source: Callable[[], LiveAsk | str],
        paint: LivePaint | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._source = source
        self._paint = LivePaint() if paint is None else paint
        self._mailbox = LatestOnly()
        self._asked: dict[int, LiveAsk] = {}
        self._is_following = False
        self._last_wish = 0.0
        self.answer = AnswerLayer(viewer, "instant")
        self.switch = QCheckBox("Live")
        self.switch.setToolTip(_TIP)
        self.badge = QLabel()
        self.badge.setToolTip("Time that the last answer took.")
        self.badge.setAccessibleName("State of the instant answer")
        self.hint = QLabel()
        self.hint.setWordWrap(True)
        self.hint.setVisible(False)
        row = QHBoxLayout()
        row.addWidget(self.switch)
        row.addStretch(1)
        row.addWidget(self.badge)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.hint)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_WAIT_MS)
        self._timer.timeout.connect(self._send)
        self._mailbox.delivered.connect(self._on_delivered)
        self.switch.toggled.connect(self._on_toggled)

    @property
    def is_on(self) -> bool:
        """Whether the box is ticked."""
        return bool(self.switch.isChecked())

    @property
    def paint(self) -> LivePaint:
        """What gives the answers; a training may ask it too."""
        return self._paint

    # --- asking -------------------------------------------------------------------------

    @guarded
    def wish(self) -> None:
        """Wish for an answer; wishes that follow each other quickly are answered together."""
        if self.is_on:
            self._last_wish = time.monotonic()
            if not self._timer.isActive():
                self._timer.start()

    @guarded
    def _send(self) -> None:
        if not self.is_on:
            return
        # The canvas updates the visible window when it draws, which may be after the event.
        if time.monotonic() - self._last_wish < 0.9 * _WAIT_MS / 1000:
            self._timer.start()
        try:
            ask = self._source()
            region = None if isinstance(ask, str) else ask.window.region
        except CellEnhanceError as reason:
            ask, region = error_sentence(reason), None
        if isinstance(ask, str) or region is None:
            self.answer.remove()
            self._say(hint=str(ask))
            return
        self._asked[self._mailbox.submit(partial(self._answer, ask, region))] = ask
        self._say("…" if not self.badge.text() else self.badge.text())

    def _answer(self, ask: LiveAsk, region: Region) -> LiveAnswer | str:
        """Answer, or say what paint is missing; called in the thread."""
        t, z = ask.window.plane
        try:
            return self._paint.answer(ask.layers, Shown(layer=ask.shown, t=t, z=z, region=region))
        except CellEnhanceError as reason:
            return error_sentence(reason)

    @guarded
    def _on_delivered(self, ticket: int, outcome: Outcome) -> None:
        ask = self._asked.pop(ticket, None)
        for old in [t for t in self._asked if t < ticket]:
            del self._asked[old]
        if ask is None or not self.is_on:
            return
        if outcome.error is not None or isinstance(outcome.value, str):
            self.answer.remove()
            self._say(hint=outcome.value if outcome.error is None else error_sentence(outcome.error))
            return
        found: LiveAnswer = outcome.value
        if ask.above in self._viewer.layers:
            self.answer.show(found.labels, ask.window, found.region, ask.colors, ask.above)
            self._say(f"{found.seconds:.1f} s")
            self.answered.emit()

    def _say(self, badge: str = "", hint: str = "") -> None:
        self.badge.setText(badge)
        self.hint.setText(hint)
        self.hint.setVisible(bool(hint))

    # --- switching ----------------------------------------------------------------------

    def show_error(self, message: str) -> None:
        """Show a sentence under the box."""
        self._say(hint=message)

    @guarded
    def _on_toggled(self) -> None:
        self._follow()
        if self.is_on:
            self.wish()
        else:
            self._stop()

    def _follow(self) -> None:
        """Follow the viewer while switched on."""
        if self._is_following == self.is_on:
            return
        self._is_following = self.is_on
        for event in self._viewer_events():
            event.connect(self.wish) if self._is_following else event.disconnect(self.wish)

    def _viewer_events(self) -> tuple[Any, ...]:
        camera, dims = self._viewer.scene.camera.events, self._viewer.dims.events
        return (camera.zoom, camera.center, camera.angles, dims.current_step, dims.ndisplay, dims.order)

    def _stop(self) -> None:
        self._timer.stop()
        self._mailbox.drop()
        self._asked.clear()
        self._mailbox.submit(self._paint.forget)  # it holds much memory, and may be busy
        self.answer.remove()
        self._say()

    def close_down(self) -> None:
        """Switch off for good, and let the thread end."""
        self.switch.setChecked(False)
        self._mailbox.close()
