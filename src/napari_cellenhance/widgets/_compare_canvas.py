"""Where a layer is drawn: its nodes on the canvas of the window, and a wipe between two of them.

napari has no public way to cut a flat image without copying its pixels (its clipping planes are for volumes), so the
nodes that it draws with are asked for here, and nowhere else. Without a window there are none, and nothing is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Literal

import numpy as np

from napari_cellenhance.widgets._docking import bare

__all__ = ["Edge", "Wipe", "has_canvas", "show_node"]

Edge = Literal["vertical", "horizontal"]
_GRIP_PX = 8.0
_LINE_COLOUR = (1.0, 0.69, 0.0, 1.0)
_ABOVE_ALL = 1_000_000


def _canvas(viewer: Any) -> Any:
    window = getattr(bare(viewer), "window", None)
    return getattr(getattr(bare(window), "_qt_viewer", None), "canvas", None)


def has_canvas(viewer: Any) -> bool:
    """Whether layers are drawn in a window that can be reached."""
    return hasattr(_canvas(viewer), "layer_to_visual")


def _node(viewer: Any, layer: Any) -> Any:
    canvas = _canvas(viewer)
    drawn = None if canvas is None else canvas.layer_to_visual.get(bare(layer))
    return None if drawn is None else drawn.node


def _parts(viewer: Any, layer: Any) -> list[Any]:
    """What a layer is drawn with; of an image that is too large for one texture, several nodes."""
    node = _node(viewer, layer)
    return [] if node is None else list(getattr(node, "adopted_children", None) or [node])


def show_node(viewer: Any, layer: Any, is_shown: bool) -> bool:
    """Show or hide what is drawn of a layer without telling the layer, which would read its pixels again.

    Returns
    -------
    bool
        False where there is no canvas: nothing was done.
    """
    node = _node(viewer, layer)
    if node is None:
        return False
    node.visible = is_shown
    return True


class Wipe:
    """A line over the canvas: on one side the layer before, on the other the layer after.

    Only what the graphics card draws is cut; layers and their pixels are not touched.

    Parameters
    ----------
    viewer : Viewer
    before, after : layers
    edge : "vertical" or "horizontal"
    share : float
        Where the line lies within both layers, from 0 to 1.
    on_moved : callable
        Called with the new share when the line was dragged.
    """

    def __init__(
        self, viewer: Any, before: Any, after: Any, edge: Edge, share: float, on_moved: Callable[[float], None]
    ) -> None:
        self._viewer, self._layers = viewer, (before, after)
        self._edge, self._on_moved = edge, on_moved
        self._filters: list[tuple[Any, Any, bool]] = []
        """Node, filter, and whether it belongs to the layer before."""
        self._line: Any = None
        self.position = 0.0
        for layer in self._layers:
            # Last: by then the canvas has the node that it draws the new pixels with.
            layer.events.set_data.connect(self._attach_again, position="last")
        viewer.mouse_drag_callbacks.append(self._drag)
        self.move_to_share(share)

    # --- where it is --------------------------------------------------------------------

    @property
    def axis(self) -> int:
        """The dimension that the line moves along."""
        return int(self._viewer.dims.displayed[-1 if self._edge == "vertical" else -2])

    def extent(self) -> tuple[float, float]:
        """First and last place of the line, in the world: where the layers begin and end."""
        ends = []
        for layer in self._layers:
            axis = self.axis - (self._viewer.dims.ndim - layer.ndim)
            ends.append(np.asarray(layer.extent.world)[:, axis])
        return float(np.min(ends)), float(np.max(ends))

    @property
    def share(self) -> float:
        """Place of the line within the layers, from 0 to 1."""
        low, high = self.extent()
        return float(np.clip((self.position - low) / max(high - low, 1e-12), 0.0, 1.0))

    def move_to_share(self, share: float) -> None:
        """Move the line to a share of the way from the first to the last pixel."""
        low, high = self.extent()
        self.move_to(low + share * (high - low))

    def move_to(self, position: float) -> None:
        """Move the line to a place in the world."""
        low, high = self.extent()
        self.position = float(np.clip(position, low, high))
        self._draw()

    # --- drawing ------------------------------------------------------------------------

    def _draw(self) -> None:
        if not self._filters:
            self._attach()
        for _, clipper, is_before in self._filters:
            clipper.clipping_planes = self._plane(is_before=is_before)
        if self._line is not None:
            self._line.set_data(pos=self.position)
        for node, _, _ in self._filters:
            node.update()

    def _plane(self, *, is_before: bool) -> Any:
        column = 0 if self._edge == "vertical" else 1  # the canvas counts x first
        place, normal = np.zeros(3, np.float32), np.zeros(3, np.float32)
        place[column], normal[column] = self.position, -1.0 if is_before else 1.0
        return np.stack([place, normal])[np.newaxis]

    def _attach(self) -> None:
        from vispy.scene.visuals import InfiniteLine
        from vispy.visuals.filters.clipping_planes import PlanesClipper

        canvas = _canvas(self._viewer)
        if canvas is None:
            return
        for number, layer in enumerate(self._layers):
            for part in _parts(self._viewer, layer):
                clipper = PlanesClipper(coord_system="scene")
                part.attach(clipper)
                self._filters.append((part, clipper, number == 0))
        if self._line is None:
            is_vertical = self._edge == "vertical"
            self._line = InfiniteLine(pos=self.position, color=_LINE_COLOUR, line_width=2, vertical=is_vertical)
            self._line.set_gl_state("translucent", depth_test=False)
            self._line.order = _ABOVE_ALL
            self._line.parent = canvas.view.scene

    def _detach(self) -> None:
        for node, clipper, _ in self._filters:
            node.detach(clipper)
            node.update()
        self._filters = []

    def _attach_again(self) -> None:
        nodes = [part for layer in self._layers for part in _parts(self._viewer, layer)]
        if nodes != [node for node, _, _ in self._filters]:
            self._detach()
            self._draw()

    # --- dragging -----------------------------------------------------------------------

    def _drag(self, viewer: Any, event: Any) -> Generator[None, None, None]:
        grip = _GRIP_PX / max(float(viewer.scene.camera.zoom), 1e-9)
        if abs(event.position[self.axis] - self.position) > grip:
            return
        camera = viewer.scene.camera
        could_pan, camera.mouse_pan = camera.mouse_pan, False
        try:
            yield
            while event.type == "mouse_move":
                self.move_to(event.position[self.axis])
                self._on_moved(self.share)
                event.handled = True
                yield
            self.move_to(event.position[self.axis])  # where it is let go: moves in between may be left out
            self._on_moved(self.share)
        finally:
            camera.mouse_pan = could_pan

    def close(self) -> None:
        """Take the line away and show both layers as they are."""
        for layer in self._layers:
            layer.events.set_data.disconnect(self._attach_again)
        if self._drag in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._drag)
        self._detach()
        if self._line is not None:
            self._line.parent = None
            self._line = None
