"""The Measure dock: raw and enhanced layers by contrast, blobs, grey values, objects and line profiles; references."""

from __future__ import annotations

from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from napari_cellenhance.widgets._docking import MEASURE
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._layer_picker import image_layers
from napari_cellenhance.widgets._measure_compare import CompareTab
from napari_cellenhance.widgets._measure_detect import DetectTab
from napari_cellenhance.widgets._measure_form import MeasureForm, layers_of
from napari_cellenhance.widgets._measure_histogram import HistogramTab
from napari_cellenhance.widgets._measure_layers import is_enhanced
from napari_cellenhance.widgets._measure_line import line_layer
from napari_cellenhance.widgets._measure_profile import ProfileTab
from napari_cellenhance.widgets._measure_reference import ReferenceTab
from napari_cellenhance.widgets._measure_segment import SegmentTab
from napari_cellenhance.widgets._measure_tab import LiveTab
from napari_cellenhance.widgets._tab_dock import TabDock
from napari_cellenhance.widgets._worker import LatestOnly

if TYPE_CHECKING:
    import napari.components

__all__ = ["DOCK_TITLE", "MeasurePanel"]

DOCK_TITLE = "Measure"
_LIVE_AFTER_MS = 120


class MeasurePanel(TabDock):
    """Dock panel. It holds widgets and at most one job; no pixels.

    Parameters
    ----------
    viewer : ViewerModel
    """

    form: MeasureForm

    def __init__(self, viewer: napari.components.ViewerModel) -> None:
        self.compare, self.detect = CompareTab(), DetectTab()
        self.histogram, self.segment = HistogramTab(), SegmentTab()
        self.profile, self.reference = ProfileTab(), ReferenceTab()
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(_LIVE_AFTER_MS)
        tabs = (self.compare, self.detect, self.histogram, self.segment, self.profile, self.reference)
        super().__init__(viewer, MEASURE, MeasureForm(viewer), tabs)
        self._timer.setParent(self)
        self._connect()
        self._on_refilled()
        self._on_tab()

    def _live_tabs(self) -> tuple[LiveTab, ...]:
        return (self.histogram, self.profile)

    def _connect(self) -> None:
        self.form.refilled.connect(self._on_refilled)
        self.profile.moved.connect(self._draw_soon)
        self.profile.line_wanted.connect(self._draw_line)
        self._timer.timeout.connect(self._draw_live)
        self._viewer.dims.events.current_step.connect(self._on_step)
        # When the whole window goes, only Qt knows; by then no method of this panel may be called.
        self.destroyed.connect(partial(_let_go, self._gone, [tab.live for tab in self._live_tabs()]))

    # --- slots --------------------------------------------------------------------------

    @guarded
    def _on_refilled(self) -> None:
        points = layers_of(self._viewer, "Points")
        self.detect.fill_points([layer for layer in points if not is_enhanced(layer)])  # blobs are no annotation
        images = image_layers(self._viewer)
        self.reference.fill_layers(images, layers_of(self._viewer, "Labels"))
        self.profile.fill_layers(images, layers_of(self._viewer, "Shapes"))

    def after_change(self) -> None:
        """Draw again, a little later."""
        self._timer.start()

    def set_busy(self, is_busy: bool) -> None:
        """Grey the buttons of the tabs."""
        self.detect.set_busy(is_busy)

    @guarded
    def _on_step(self) -> None:
        if not self._gone.is_set() and (self.tab() is self.profile or bool(self.form.scope.currentData())):
            self._draw_soon()

    @guarded
    def _draw_soon(self) -> None:
        # Not put off by each further move: what is dragged is followed.
        if not self._gone.is_set() and self.tab().is_live and not self._timer.isActive():
            self._timer.start()

    @guarded
    def _draw_live(self) -> None:
        if self._gone.is_set() or self._job is not None or not self.tab().is_live:
            return
        chosen = self.chosen()
        problem = self.problem(chosen)
        self.foot.run.setEnabled(not problem)
        if problem or chosen is None:
            self.tab().cannot_draw(problem)
            self.foot.show_hint(problem)
        else:
            self.foot.show_hint(self.tab().draw_live(chosen))

    @guarded
    def _draw_line(self) -> None:
        layer = self.profile.line.layer()
        if layer is None:
            images = self.profile.images.ticked() or image_layers(self._viewer)
            layer = self._viewer.add_shapes(
                **line_layer(images[-1] if images else None, self.profile.line_width.value())
            )
            self.profile.line.choose(layer)
        layer.visible = True
        self._viewer.layers.selection.active = layer
        layer.mode = "add_line"
        self.foot.show_hint("Drag a line over the image. Take the path tool of the layer for a bent one.")

    # --- the end ------------------------------------------------------------------------

    def let_go(self) -> None:
        """Release the viewer and everything that listens to it."""
        self._timer.stop()
        for tab in self._all_tabs:
            tab.release()
        self._viewer.dims.events.current_step.disconnect(self._on_step)
        self.form.release()


def _let_go(gone: Event, lives: list[LatestOnly], *_: Any) -> None:
    gone.set()
    for live in lives:
        live.close()
