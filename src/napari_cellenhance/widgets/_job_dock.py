"""A dock that does one thing at a time in the worker, with a foot that says how it goes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from napari_cellenhance.widgets._dock_panel import DockPanel
from napari_cellenhance.widgets._guard import error_sentence, guarded
from napari_cellenhance.widgets._status import StatusFoot
from napari_cellenhance.widgets._worker import Outcome, start_job
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress

__all__ = ["JobDock"]


class JobDock(DockPanel):
    """Starting, cancelling and ending of the one job; what it is for, the dock itself knows.

    Attributes
    ----------
    foot : StatusFoot
        Set by the dock, which connects its Cancel to ``_on_cancel``.
    """

    foot: StatusFoot

    def _start(
        self,
        title: str,
        work: Callable[[OnProgress, IsCancelled], Any],
        show: Callable[[Any], None],
        fail: Callable[[BaseException], None] | None = None,
    ) -> None:
        """Begin ``work`` in the worker.

        What it returns goes to ``show`` in the window's thread, unless it is None; an error to ``fail``, or into the
        foot.
        """
        ended = partial(self._on_ended, show, fail or self._on_failed)
        self._job = start_job(title, work, on_progress=self.foot.show_progress, on_ended=ended)
        self._on_busy()
        self.foot.set_running(is_running=True)
        self.foot.show_info("")

    @guarded
    def _on_ended(self, show: Callable[[Any], None], fail: Callable[[BaseException], None], outcome: Outcome) -> None:
        self._job = None
        if self._gone.is_set():
            return
        self.foot.set_running(is_running=False)
        self._on_busy()
        if outcome.error is not None:
            fail(outcome.error)
        elif outcome.value is not None:
            show(outcome.value)

    def _on_busy(self) -> None:
        """Follow the beginning and the end of a job: which buttons may be pressed."""

    def _on_failed(self, error: BaseException) -> None:
        """Say why nothing came of it."""
        self.foot.show_error(error_sentence(error))
