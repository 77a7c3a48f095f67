"""The live preview: one layer over the visible window that follows slider, camera and slices.

Everything heavy happens in the thread of :class:`LatestOnly`; the main thread only takes
snapshots and hands over finished arrays.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_cellenhance.core.errors import AxesError, CellEnhanceError, ParameterError
from napari_cellenhance.widgets._guard import error_sentence, guarded
from napari_cellenhance.widgets._layers import Choices, snapshot
from napari_cellenhance.widgets._preview_request import PreviewAsk, PreviewStatus, build_preview, is_same
from napari_cellenhance.widgets._results import preview_kwargs
from napari_cellenhance.widgets._settings import PluginSettings
from napari_cellenhance.widgets._worker import LatestOnly, Outcome
from napari_cellenhance.workflows.preview import PreviewResult, PreviewSession

__all__ = ["LivePreview"]

_FAR_ABOVE_1 = 4.0
Source = Callable[[], tuple[Any, Choices, PluginSettings] | None]


class LivePreview(QObject):
    """Controller of the preview of one panel.

    Parameters
    ----------
    viewer : ViewerModel
    source : callable
        Gives the chosen layer, the choices and the preferences; None when there is nothing
        to preview. It may raise ``CellEnhanceError`` with a sentence for the user.
    session : PreviewSession, optional
        Replaced in tests.
    """

    status_changed = Signal(object)
    device_known = Signal(str)

    def __init__(self, viewer: Any, source: Source, session: PreviewSession | None = None) -> None:
        super().__init__()
        self._viewer = viewer
        self._source = source
        self._session = session if session is not None else PreviewSession()
        self._is_on = False
        self._is_held = False
        self._generation = 0
        self._epoch = 0
        self._followed: Any = None
        self._layer: Any = None
        self._shown: PreviewAsk | None = None
        self._asked: dict[int, tuple[PreviewAsk, float, int]] = {}
        self._newest: PreviewAsk | None = None
        self._last_wish = 0.0
        self._preparing: int | None = None
        self._latency_ms: float | None = None
        self._mailbox, self._background = LatestOnly(), LatestOnly()
        self._mailbox.delivered.connect(self._on_delivered)
        self._background.delivered.connect(self._on_calibrated)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._send)

    # --- switches -----------------------------------------------------------------------

    @property
    def is_on(self) -> bool:
        """Whether the user switched it on."""
        return self._is_on

    @property
    def layer(self) -> Any:
        """The preview layer, or None."""
        return self._layer

    @guarded
    def prepare(self) -> None:
        """Let the session import, in the background and once, what the first preview would wait for.

        What cannot be imported is no concern of anybody before the preview is asked for, which says it then.
        """
        if self._preparing is None:
            self._preparing = self._background.submit(self._session.prepare)

    def set_on(self, is_on: bool) -> None:
        """Switch on or off; off removes the preview layer."""
        if is_on == self._is_on:
            return
        self._is_on = is_on
        for event in self._viewer_events():
            event.connect(self.refresh) if is_on else event.disconnect(self.refresh)
        removed = self._viewer.layers.events.removed
        removed.connect(self._on_removed) if is_on else removed.disconnect(self._on_removed)
        if is_on:
            self.refresh()
        else:
            self._stop()

    def hold(self, is_held: bool) -> None:
        """Let a run have the processor; the preview goes on afterwards."""
        self._is_held = is_held
        self._epoch += 1
        self._newest = None
        if self._is_on:
            if is_held:
                self._mailbox.drop()
                self._say("paused", hint="The preview waits for the run.")
            else:
                self.refresh()

    def close(self) -> None:
        """Switch off for good and free the memory."""
        self.set_on(False)
        self._mailbox.close()
        self._background.close()
        self._session.clear()

    def abandon(self) -> None:
        """Stop without touching the viewer or anything of Qt, which may be gone already."""
        self._is_on = False
        self._mailbox.close()
        self._background.close()

    @property
    def session(self) -> PreviewSession:
        """Caches of this preview; what they hold costs nothing again."""
        return self._session

    def ask_now(self) -> PreviewAsk | None:
        """Request for what is in view, whether the preview is on or not; None without a layer.

        Raises
        ------
        CellEnhanceError
            Nothing of the layer's Y–X plane is in view; a sentence.
        """
        return self._ask()

    def lay_over(self, layer: Any) -> None:
        """Put the preview right above ``layer``, so that the next slider move is seen."""
        if self._layer is not None and layer in self._viewer.layers:
            layers = self._viewer.layers
            layers.move(layers.index(self._layer), layers.index(layer) + 1)

    def show_error(self, message: str) -> None:
        """Show a sentence in the hint line."""
        self._say("paused", hint=message)

    # --- asking -------------------------------------------------------------------------

    @guarded
    def refresh(self) -> None:
        """Wish for an update; wishes within the delay are answered together."""
        if not self._is_on:
            return
        self._last_wish = time.monotonic()
        if not self._timer.isActive():
            source = self._source_settings()
            self._timer.start(source.preview_delay_ms)

    @guarded
    def _send(self) -> None:
        if not self._is_on or self._is_held:
            return
        # The canvas updates the visible window when it draws, which may be after the event.
        delay_s = self._timer.interval() / 1000
        if time.monotonic() - self._last_wish < 0.9 * delay_s:
            self._timer.start()
        try:
            ask = self._ask()
        except (AxesError, ParameterError) as reason:
            self._hide()
            self._say("paused", hint=str(reason))
            return
        if ask is None:
            self._hide()
            self._say("paused", hint="Choose an image layer to see the preview.")
            return
        if is_same(self._newest, ask):
            return
        self._newest = ask
        ticket = self._mailbox.submit(partial(self._session.update, ask.request, is_cancelled=self._is_unwanted))
        self._asked[ticket] = (ask, time.monotonic(), self._epoch)
        if self._shown is None:
            self._say("working")

    def _ask(self) -> PreviewAsk | None:
        source = self._source()
        self._follow(None if source is None else source[0])
        if source is None:
            return None
        layer, choices, settings = source
        view = snapshot(layer, self._viewer.dims)
        return build_preview(view, choices, settings, self._generation)

    def _source_settings(self) -> PluginSettings:
        try:
            source = self._source()
        except CellEnhanceError:
            source = None
        return PluginSettings() if source is None else source[2]

    def _is_unwanted(self) -> bool:
        return not self._is_on or self._is_held

    def _follow(self, layer: Any) -> None:
        """Watch the data of the chosen layer, and count its versions."""
        if layer is self._followed or (layer is not None and self._followed is not None and layer == self._followed):
            return
        if self._followed is not None:
            self._followed.events.data.disconnect(self._on_data)
        self._followed = layer
        self._generation += 1
        self._epoch += 1
        self._hide()
        if layer is not None:
            layer.events.data.connect(self._on_data)

    @guarded
    def _on_data(self) -> None:
        self._generation += 1
        self._epoch += 1
        self._newest = None
        self.refresh()

    # --- answering ----------------------------------------------------------------------

    @guarded
    def _on_delivered(self, ticket: int, outcome: Outcome) -> None:
        ask, asked_at, epoch = self._asked.pop(ticket, (None, 0.0, -1))
        for old in [t for t in self._asked if t < ticket]:
            del self._asked[old]
        if ask is None or epoch != self._epoch or not self._is_on:
            return
        if outcome.error is not None:
            self._newest = None
            self._hide()
            self._say("paused", hint=error_sentence(outcome.error))
            return
        result: PreviewResult = outcome.value
        self._show(ask, result)
        self._latency_ms = 1000 * (time.monotonic() - asked_at)
        self.device_known.emit(result.device_note)
        self._say("live", is_approximate=result.is_approximate or ask.level > 0, hint=_hint(ask, result))
        if result.is_approximate:
            measure = partial(self._session.calibrate, ask.request, is_cancelled=self._is_unwanted)
            self._background.submit(measure)

    @guarded
    def _on_calibrated(self, ticket: int, outcome: Outcome) -> None:
        if ticket == self._preparing:
            return
        if outcome.error is None and self._is_on:
            self._newest = None
            self.refresh()

    def _show(self, ask: PreviewAsk, result: PreviewResult) -> None:
        is_rgb = result.image.ndim == 3
        kwargs = preview_kwargs(ask.view, ask.axes, (result.region.y0, result.region.x0), ask.level)
        image = _as_layer_dims(result.image, ask)
        if self._layer is not None and (bool(self._layer.rgb) != is_rgb or self._layer.ndim != ask.view.ndim):
            self._hide()
        if self._layer is None:
            active = self._viewer.layers.selection.active
            if is_rgb:
                kwargs = {k: v for k, v in kwargs.items() if k not in ("colormap", "contrast_limits")} | {"rgb": True}
            elif kwargs["contrast_limits"] == (0.0, 1.0) and float(np.nanmax(image, initial=0.0)) > _FAR_ABOVE_1:
                # A model that gives values of its own; ours keep to 0…1, or a little more.
                kwargs["contrast_limits"] = (float(np.nanmin(image)), float(np.nanmax(image)))
            self._layer = self._viewer.add_image(image, **kwargs)
            if active is not None:
                self._viewer.layers.selection.active = active
        else:
            self._layer.data = image
            for name in ("scale", "translate"):
                if not np.array_equal(getattr(self._layer, name), kwargs[name]):
                    setattr(self._layer, name, kwargs[name])
            if self._layer.name != kwargs["name"]:
                self._layer.name = kwargs["name"]
        self._shown = ask

    def _hide(self) -> None:
        """Take the preview layer away."""
        layer, self._layer = self._layer, None
        self._shown = self._newest = None
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    @guarded
    def _on_removed(self, event: Any) -> None:
        if self._layer is not None and self._layer not in self._viewer.layers:
            self._layer = self._shown = None
            self.set_on(False)

    def _stop(self) -> None:
        self._timer.stop()
        self._mailbox.drop()
        self._background.drop()
        self._asked.clear()
        self._follow(None)
        self._hide()
        self._latency_ms = None
        self._say("off")

    def _say(self, state: str, *, hint: str = "", is_approximate: bool = False) -> None:
        latency = self._latency_ms if state == "live" else None
        self.status_changed.emit(
            PreviewStatus(state=state, hint=hint, latency_ms=latency, is_approximate=is_approximate)
        )

    def _viewer_events(self) -> tuple[Any, ...]:
        camera, dims = self._viewer.scene.camera.events, self._viewer.dims.events
        return (camera.zoom, camera.center, camera.angles, dims.current_step, dims.ndisplay, dims.order)


def _as_layer_dims(image: np.ndarray[Any, Any], ask: PreviewAsk) -> np.ndarray[Any, Any]:
    """Give a window of shape (h, w) or (h, w, S) the dimensions of its layer, of length 1."""
    axes = ask.axes.replace("S", "")
    shape = [1] * ask.view.ndim
    plane = image if axes.index("Y") < axes.index("X") else np.swapaxes(image, 0, 1)
    first, second = sorted((axes.index("Y"), axes.index("X")))
    shape[first], shape[second] = plane.shape[:2]
    return plane.reshape(*shape, *plane.shape[2:])


def _hint(ask: PreviewAsk, result: PreviewResult) -> str:
    parts: list[str] = []
    if result.is_identity:
        parts.append("Strength 0 returns the input unchanged.")
    if result.is_approximate:
        parts.append("Measured on the view only; the whole plane is being measured.")
    if ask.level > 0:
        parts.append("Coarse pyramid level; zoom in to see what the run gives.")
    if ask.is_capped:
        parts.append("The middle of the view; zoom in to see less at full detail.")
    return " ".join(parts)
