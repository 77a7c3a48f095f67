"""What docks with tabs share: one job at a time, its foot, results of each tab, layers to add."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from qtpy.QtWidgets import QGroupBox, QSizePolicy, QVBoxLayout, QWidget

from napari_cellenhance.widgets._dock_panel import DockPanel
from napari_cellenhance.widgets._forms import new_tabs, scrolled
from napari_cellenhance.widgets._guard import error_sentence, guarded
from napari_cellenhance.widgets._measure_layers import Chosen
from napari_cellenhance.widgets._measure_tab import MeasureTab, TabJob
from napari_cellenhance.widgets._results import LayerTuple
from napari_cellenhance.widgets._status import StatusFoot
from napari_cellenhance.widgets._worker import Job, Outcome, start_job

__all__ = ["TabDock"]


class TabDock(DockPanel):
    """A dock with a form for layers, tabs below it, and a foot whose Run does what the tab in front is for.

    Parameters
    ----------
    viewer : ViewerModel
    name : str
        Object name, one of ``_docking.PANELS``.
    form : QWidget
        Choice of layers, with ``chosen()`` and the signal ``changed``.
    tabs : sequence of MeasureTab
    """

    def __init__(self, viewer: Any, name: str, form: Any, tabs: Sequence[MeasureTab]) -> None:
        super().__init__(viewer, name)
        self._job: Job | None = None
        self._said: dict[MeasureTab, str] = {}
        self._all_tabs = tuple(tabs)
        self.form = form
        self.tabs = new_tabs()
        self.foot = StatusFoot()
        self._lay_out()
        self.form.changed.connect(self._on_changed)
        self.tabs.currentChanged.connect(self._on_tab)
        self.foot.run_clicked.connect(self.run)
        self.foot.cancel_clicked.connect(self._on_cancel)
        for tab in self._all_tabs:
            tab.wanted.connect(self._start)
            tab.layers_made.connect(self._add)
            tab.told.connect(self.foot.show_info)
            tab.failed.connect(self.show_error)
            tab.changed.connect(self._on_changed)

    def _lay_out(self) -> None:
        self._box = QGroupBox("Layers")
        inside = QVBoxLayout(self._box)
        inside.setContentsMargins(8, 8, 8, 8)
        inside.addWidget(self.form)
        for tab in self._all_tabs:
            self.tabs.addTab(tab, tab.title)
            self.tabs.setTabToolTip(self.tabs.indexOf(tab), tab.run_tip)
        settings = QWidget()
        column = QVBoxLayout(settings)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._box)
        column.addWidget(self.tabs, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addWidget(scrolled(settings), 1)
        layout.addWidget(self.foot)
        self.foot.device.setVisible(False)
        self.foot.offers_recipe = False
        self.foot.cancel.setToolTip("Stop after the plane that is being worked on.")

    # --- what the panel says ------------------------------------------------------------

    def tab(self) -> MeasureTab:
        """The tab in front."""
        return self._all_tabs[max(0, self.tabs.currentIndex())]

    def chosen(self) -> Chosen | None:
        """Layers that the tab in front works on, frozen; None without any."""
        chosen: Chosen | None = self.form.chosen()
        return self.tab().chosen(self._viewer.dims) if self.tab().has_own_layers else chosen

    def problem(self, chosen: Chosen | None) -> str:
        """Why Run is not possible; empty when it is."""
        if chosen is None:
            return self.tab().no_layers
        return chosen.problem() or self.tab().problem(chosen)

    # --- slots --------------------------------------------------------------------------

    @guarded
    def _on_tab(self) -> None:
        for tab in self._all_tabs:  # only the tab in front asks for room: else all are as high as the highest
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
        self.after_change()

    def after_change(self) -> None:
        """Follow a changed choice."""

    def set_busy(self, is_busy: bool) -> None:
        """Grey what must not be pressed during a job."""

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
        self.set_busy(True)
        self.foot.run.setEnabled(False)
        self.foot.set_running(is_running=True)
        self.foot.show_info("")

    @guarded
    def _on_ended(self, tab: MeasureTab, tab_job: TabJob, outcome: Outcome) -> None:
        self._job = None
        if self._gone.is_set():
            return
        self.foot.set_running(is_running=False)
        self.set_busy(False)
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

    # --- showing ------------------------------------------------------------------------

    def show_error(self, message: str) -> None:
        """Show a sentence in the message area."""
        self.foot.show_error(message)
