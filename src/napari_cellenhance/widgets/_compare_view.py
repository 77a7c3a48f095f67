"""Ways to look at layers before and after, and the view as it was before, which comes back exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from qtpy.QtCore import QTimer

from napari_cellenhance.widgets._compare_canvas import show_node
from napari_cellenhance.widgets._docking import bare

__all__ = ["BLINK_KEY", "Blink", "ContrastLink", "SavedView", "SideBySide", "hide_others"]

Link = Literal["same", "share"]
BLINK_KEY = "b"
_ONE_ROW = 3


class SavedView:
    """Visibility and names of all layers, and the grid, at one moment.

    Parameters
    ----------
    viewer : ViewerModel
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._layers = [(layer, layer.visible, layer.name_overlay.visible) for layer in viewer.layers]
        grid = viewer.canvas.grid
        self._grid = {name: getattr(grid, name) for name in ("stride", "shape", "spacing", "enabled")}
        self._zoom = float(viewer.scene.camera.zoom)

    def restore(self) -> None:
        """Bring everything back; layers that are gone, or came since, are left alone."""
        present = list(self._viewer.layers)
        for layer, is_visible, has_name in self._layers:
            if layer in present:
                if layer.visible != is_visible:
                    layer.visible = is_visible
                layer.name_overlay.visible = has_name
                show_node(self._viewer, layer, is_visible)
        grid, was_grid = self._viewer.canvas.grid, self._viewer.canvas.grid.enabled
        for name, value in self._grid.items():
            if getattr(grid, name) != value:
                setattr(grid, name, value)
        if was_grid != self._grid["enabled"]:
            self._viewer.scene.camera.zoom = self._zoom


def hide_others(viewer: Any, shown: Sequence[Any], *, only_images: bool) -> None:
    """Show these layers and hide the others; with ``only_images``, points, labels and the like stay as they are."""
    from napari.layers import Image

    for layer in viewer.layers:
        if layer in shown:
            if not layer.visible:
                layer.visible = True
        elif layer.visible and (not only_images or isinstance(bare(layer), Image)):
            layer.visible = False


class SideBySide:
    """Layers in napari's grid, which shares camera and sliders; the layer before comes first where it can.

    Parameters
    ----------
    viewer : ViewerModel
    layers : sequence of layers
        The one before first.
    """

    def __init__(self, viewer: Any, layers: Sequence[Any]) -> None:
        hide_others(viewer, layers, only_images=False)
        order = [layer for layer in viewer.layers if layer in layers]
        grid = viewer.canvas.grid
        was_on = grid.enabled
        zoom = float(viewer.scene.camera.zoom)
        grid.stride = -1 if order and order[-1] == layers[0] else 1
        grid.shape = (1, len(layers)) if len(layers) <= _ONE_ROW else (-1, -1)
        grid.enabled = True
        for layer in layers:
            layer.name_overlay.visible = True
        if not was_on:  # a box is smaller than the canvas was
            viewer.scene.camera.zoom = zoom / max(grid.actual_shape(viewer.layers))


class Blink:
    """Layers shown in turn at the same place.

    Their pixels are read once: what is hidden is what the canvas draws, not the layer.

    Parameters
    ----------
    viewer : ViewerModel
    layers : sequence of layers
        Shown in this order.
    interval_ms : int
        Time that each is shown; 0: only by key.
    on_shown : callable
        Called with the layer that is shown.
    """

    def __init__(self, viewer: Any, layers: Sequence[Any], interval_ms: int, on_shown: Callable[[Any], None]) -> None:
        self._viewer, self._layers, self._on_shown = viewer, list(layers), on_shown
        self._number = 0
        hide_others(viewer, layers, only_images=True)
        self._keys = bare(viewer).keymap
        self._was_bound = {name: call for name, call in self._keys.items() if str(name).lower() == BLINK_KEY}
        bare(viewer).bind_key(BLINK_KEY, self._on_key, overwrite=True)
        for layer in self._layers:
            # Last: by then the canvas has shown whatever it has new pixels of.
            layer.events.set_data.connect(self._hide_again, position="last")
        self._timer = QTimer()
        self._timer.timeout.connect(self.step)
        self.set_interval(interval_ms)
        self._show()

    def set_interval(self, interval_ms: int) -> None:
        """Time that each layer is shown; 0 stops."""
        if interval_ms > 0:
            self._timer.start(interval_ms)
        else:
            self._timer.stop()

    @property
    def shown(self) -> Any:
        """The layer that is shown."""
        return self._layers[self._number]

    def _on_key(self, _: Any) -> None:
        self._timer.stop()  # who steps by hand wants to look
        self.step()

    def step(self) -> None:
        """Show the next layer."""
        self._number = (self._number + 1) % len(self._layers)
        self._show()

    def _show(self) -> None:
        for number, layer in enumerate(self._layers):
            is_shown = number == self._number
            if not show_node(self._viewer, layer, is_shown):
                layer.visible = is_shown
            layer.name_overlay.visible = is_shown
        self._on_shown(self.shown)

    def _hide_again(self) -> None:
        for number, layer in enumerate(self._layers):
            if number != self._number:
                show_node(self._viewer, layer, is_shown=False)

    def close(self) -> None:
        """Stop; :class:`SavedView` shows the layers again."""
        self._timer.stop()
        for layer in self._layers:
            layer.events.set_data.disconnect(self._hide_again)
        for name in [name for name in self._keys if str(name).lower() == BLINK_KEY]:
            del self._keys[name]
        self._keys.update(self._was_bound)


class ContrastLink:
    """Contrast limits and gamma of several layers change together; at the end they are as they were.

    Parameters
    ----------
    layers : sequence of layers
        The one before first; the others take its gamma, and with "same" its limits.
    how : "same" or "share"
        The same grey values; or each within its own: what moves one of them by a share of its limits moves the others
        by the same share of theirs, for layers of different scale.
    """

    def __init__(self, layers: Sequence[Any], how: Link) -> None:
        self._layers, self._how = list(layers), how
        self._is_passing_on = False
        self._saved = [
            (tuple(layer.contrast_limits_range), tuple(layer.contrast_limits), float(layer.gamma)) for layer in layers
        ]
        for layer in self._layers:
            layer.events.contrast_limits.connect(self._on_limits)
            layer.events.gamma.connect(self._on_gamma)
        if self._layers:
            self._pass_on(self._layers[0])

    def _on_limits(self, event: Any) -> None:
        self._pass_on(event.source)

    def _on_gamma(self, event: Any) -> None:
        self._pass_on(event.source)

    def _pass_on(self, source: Any) -> None:
        if self._is_passing_on:
            return
        number = next((i for i, layer in enumerate(self._layers) if bare(layer) is bare(source)), None)
        if number is None:
            return
        self._is_passing_on = True
        try:
            for other, layer in enumerate(self._layers):
                if other != number:
                    layer.contrast_limits = self._limits(number, other)
                    layer.gamma = float(self._layers[number].gamma)
        finally:
            self._is_passing_on = False

    def _limits(self, source: int, target: int) -> tuple[float, float]:
        low, high = (float(value) for value in self._layers[source].contrast_limits)
        if self._how == "same":
            return low, high
        (old_low, old_high), (own_low, own_high) = self._saved[source][1], self._saved[target][1]
        scale = (own_high - own_low) / ((old_high - old_low) or 1.0)
        return own_low + (low - old_low) * scale, own_low + (high - old_low) * scale

    def close(self) -> None:
        """Let go of the layers and give them their own contrast back."""
        for layer, (span, limits, gamma) in zip(self._layers, self._saved, strict=True):
            layer.events.contrast_limits.disconnect(self._on_limits)
            layer.events.gamma.disconnect(self._on_gamma)
            layer.contrast_limits = limits
            layer.contrast_limits_range = span
            layer.contrast_limits = limits
            layer.gamma = gamma
