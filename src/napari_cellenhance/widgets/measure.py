"""The Measure dock: raw and enhanced layers by contrast, blobs, grey values, objects and line profiles; references."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QFrame, QGroupBox, QScrollArea, QSizePolicy, QTabWidget, QVBoxLayout, QWidget

from napari_cellenhance.widgets._dock_panel import DockPanel
from napari_cellenhance.widgets._docking import MEASURE
from napari_cellenhance.widgets._guard import error_sentence, guarded
from napari_cellenhance.widgets._layer_picker import image_layers
from napari_cellenhance.widgets._measure_compare import CompareTab
from napari_cellenhance.widgets._measure_detect import DetectTab
from napari_cellenhance.widgets._measure_form import MeasureForm, layers_of
from napari_cellenhance.widgets._measure_histogram import HistogramTab
from napari_cellenhance.widgets._measure_layers import Chosen, is_enhanced
from napari_cellenhance.widgets._measure_line import line_layer
from napari_cellenhance.widgets._measure_profile import ProfileTab
from napari_cellenhance.widgets._measure_reference import ReferenceTab
from napari_cellenhance.widgets._measure_segment import SegmentTab
from napari_cellenhance.widgets._measure_tab import LiveTab, MeasureTab, TabJob
from napari_cellenhance.widgets._results import LayerTuple
from napari_cellenhance.widgets._status import StatusFoot
from napari_cellenhance.widgets._worker import Job, LatestOnly, Outcome, start_job

if TYPE_CHECKING:
    import napari.components

__all__ = ["DOCK_TITLE", "MeasurePanel"]

DOCK_TITLE = "Measure"
_MIN_WIDTH_PX = 360
_LIVE_AFTER_MS = 120


class MeasurePanel(DockPanel):
    """Dock panel. It holds widgets and at most one job; no pixels.

    Parameters
    ----------
    viewer : ViewerModel
    """

    def __init__(self, viewer: napari.components.ViewerModel) -> None:
        super().__init__(viewer, MEASURE)
        self._job: Job | None = None
        self._said: dict[MeasureTab, str] = {}
        self.form = MeasureForm(viewer)
        self.compare, self.detect = CompareTab(), DetectTab()
        self.histogram, self.segment = HistogramTab(), SegmentTab()
        self.profile, self.reference = ProfileTab(), ReferenceTab()
        self.tabs = QTabWidget()
        self.foot = StatusFoot()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_LIVE_AFTER_MS)
        self.setMinimumWidth(_MIN_WIDTH_PX)
        self._lay_out()
        self._connect()
        self._on_refilled()
        self._on_tab()

    def _lay_out(self) -> None:
        self._box = QGroupBox("Layers")
        inside = QVBoxLayout(self._box)
        inside.setContentsMargins(8, 8, 8, 8)
        inside.addWidget(self.form)
        bar = self.tabs.tabBar()
        if bar is not None:  # in a narrow dock all tabs stay in sight, with shorter names
            bar.setElideMode(Qt.TextElideMode.ElideRight)
            bar.setUsesScrollButtons(False)
        for tab in self._tabs():
            self.tabs.addTab(tab, tab.title)
            self.tabs.setTabToolTip(self.tabs.indexOf(tab), tab.run_tip)
        settings = QWidget()
        column = QVBoxLayout(settings)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._box)
        column.addWidget(self.tabs, 1)
        scroll = QScrollArea()
        scroll.setWidget(settings)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addWidget(scroll, 1)
        layout.addWidget(self.foot)
        self.foot.device.setVisible(False)
        self.foot.cancel.setToolTip("Stop after the plane that is being worked on.")

    def _tabs(self) -> tuple[MeasureTab, ...]:
        return (self.compare, self.detect, self.histogram, self.segment, self.profile, self.reference)

    def _live_tabs(self) -> tuple[LiveTab, ...]:
        return (self.histogram, self.profile)

    def _connect(self) -> None:
        self.form.changed.connect(self._on_changed)
        self.form.refilled.connect(self._on_refilled)
        self.tabs.currentChanged.connect(self._on_tab)
        self.foot.run_clicked.connect(self.run)
        self.foot.cancel_clicked.connect(self._on_cancel)
        for tab in self._tabs():
            tab.wanted.connect(self._start)
            tab.layers_made.connect(self._add)
            tab.told.connect(self.foot.show_info)
            tab.failed.connect(self.show_error)
            tab.changed.connect(self._on_changed)
        self.profile.moved.connect(self._draw_soon)
        self.profile.line_wanted.connect(self._draw_line)
        self._timer.timeout.connect(self._draw_live)
        self._viewer.dims.events.current_step.connect(self._on_step)
        # When the whole window goes, only Qt knows; by then no method of this panel may be called.
        self.destroyed.connect(partial(_let_go, self._gone, [tab.live for tab in self._live_tabs()]))

    # --- what the panel says ------------------------------------------------------------

    def tab(self) -> MeasureTab:
        """The tab in front."""
        return self._tabs()[max(0, self.tabs.currentIndex())]

    def chosen(self) -> Chosen | None:
        """Layers that the tab in front measures, frozen; None without any."""
        return self.tab().chosen(self._viewer.dims) if self.tab().has_own_layers else self.form.chosen()

    def problem(self, chosen: Chosen | None) -> str:
        """Why Run is not possible; empty when it is."""
        if chosen is None:
            return self.tab().no_layers
        return chosen.problem() or self.tab().problem(chosen)

    # --- slots --------------------------------------------------------------------------

    @guarded
    def _on_refilled(self) -> None:
        points = layers_of(self._viewer, "Points")
        self.detect.fill_points([layer for layer in points if not is_enhanced(layer)])  # blobs are no annotation
        images = image_layers(self._viewer)
        self.reference.fill_layers(images, layers_of(self._viewer, "Labels"))
        self.profile.fill_layers(images, layers_of(self._viewer, "Shapes"))

    @guarded
    def _on_tab(self) -> None:
        for tab in self._tabs():  # only the tab in front asks for room: else all are as high as the highest
            is_front = tab is self.tab()
            policy = QSizePolicy.Policy.Preferred if is_front else QSizePolicy.Policy.Ignored
            tab.setSizePolicy(policy, policy)
        self._box.setVisible(not self.tab().has_own_layers)
        self.foot.run.setText(self.tab().run_text)
        self.foot.run.setToolTip(self.tab().run_tip)
        if self._job is None:
            self.foot.show_info(self._said.get(self.tab(), ""))
        self._on_changed()

    @guarded
    def _on_changed(self) -> None:
        if self._gone.is_set():
            return
        problem = self.problem(self.chosen())
        self.foot.run.setEnabled(not problem and self._job is None)
        if self._job is None:
            self.foot.show_hint(problem)
        self._timer.start()

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
    def run(self) -> None:
        """Do what the tab in front is for."""
        self._start(self.tab().job)

    @guarded
    def _start(self, make: Callable[[Chosen], TabJob]) -> None:
        chosen = self.chosen()
        problem = self.problem(chosen)
        if problem or chosen is None:
            self.foot.show_error(problem)
            return
        tab_job = make(chosen)
        ended = partial(self._on_ended, self.tab(), tab_job)
        self._job = start_job(tab_job.title, tab_job.work, on_progress=self.foot.show_progress, on_ended=ended)
        self.detect.set_busy(True)
        self.foot.run.setEnabled(False)
        self.foot.set_running(is_running=True)
        self.foot.show_info("")

    @guarded
    def _on_cancel(self) -> None:
        if self._job is not None:
            self._job.cancel()
            self.foot.set_cancelling()

    @guarded
    def _on_ended(self, tab: MeasureTab, tab_job: TabJob, outcome: Outcome) -> None:
        self._job = None
        if self._gone.is_set():
            return
        self.foot.set_running(is_running=False)
        self.detect.set_busy(False)
        self._on_changed()
        if outcome.error is not None:
            self.foot.show_error(error_sentence(outcome.error))
        elif outcome.value is not None:
            self._said[tab] = tab_job.show(outcome.value)
            self.foot.show_info(self._said[tab])

    @guarded
    def _add(self, layers: list[LayerTuple]) -> None:
        active = self._viewer.layers.selection.active
        for data, kwargs, kind in layers:
            getattr(self._viewer, f"add_{kind}")(data, **kwargs)
        if active is not None:
            self._viewer.layers.selection.active = active

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

    # --- showing ------------------------------------------------------------------------

    def show_error(self, message: str) -> None:
        """Show a sentence in the message area."""
        self.foot.show_error(message)

    # --- the end ------------------------------------------------------------------------

    def let_go(self) -> None:
        """Release the viewer and everything that listens to it."""
        self._timer.stop()
        for tab in self._tabs():
            tab.release()
        self._viewer.dims.events.current_step.disconnect(self._on_step)
        self.form.release()


def _let_go(gone: Event, lives: list[LatestOnly], *_: Any) -> None:
    gone.set()
    for live in lives:
        live.close()
