"""The only place where threads are started.

Two kinds: :func:`start_job` for one long run (napari knows it and asks before closing),
and :class:`LatestOnly` for the preview (many short calls of which only the newest counts).
Neither raises out of its thread: superqt swallows a ``RuntimeError`` (every torch error is
one), so the error travels inside an :class:`Outcome`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from qtpy.QtCore import QObject, Signal

from napari_cellenhance.core.errors import CellEnhanceError
from napari_cellenhance.core.llvm_clash import avoid_llvm_clash
from napari_cellenhance.core.memory import give_back_memory, keep_memory
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress

__all__ = ["BusyError", "Job", "LatestOnly", "Outcome", "is_busy", "start_job"]

_LOGGER = logging.getLogger(__name__)
# All docks of all viewers share one thread pool and one processor: one run at a time. A training is no reason to
# wait with enhancing for an hour, so it has a lane of its own.
_lanes = {"run": threading.Lock(), "training": threading.Lock()}
Lane = Literal["run", "training"]
_BUSY = {
    "run": "An enhancement is already running. Wait for it, or press Cancel, then run again.",
    "training": "A training is already running. Wait for it, or press Stop or Cancel there, then train again.",
}
_PROGRESS_EVERY_S = 0.05
_LINGER_S = 2.0


class BusyError(CellEnhanceError):
    """A second run was asked for while one is under way."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a thread brought back: a value or an error, never both."""

    value: Any = None
    error: Exception | None = None


class _Work:
    """The call made in the thread; its ``repr`` is what napari shows when asked to close."""

    def __init__(self, title: str, call: Callable[[], None]) -> None:
        self.title = title
        self._call: Callable[[], None] | None = call
        self.__name__ = title

    def __call__(self) -> None:
        if self._call is not None:
            self._call()

    def __repr__(self) -> str:
        return f"“{self.title}”"

    def let_go(self) -> None:
        """Forget the call: napari keeps every worker in its list of tasks until its window closes.

        Each run would keep its image, its result and its panel in memory for as long.
        """
        self._call = None


class Job(QObject):
    """One run in a thread.

    Signals, all on the main thread: ``progressed`` with a ``Progress``, ``ended`` once, with
    an ``Outcome`` (empty when napari stopped the run because its window closes).
    """

    progressed = Signal(object)
    ended = Signal(object)

    def __init__(self, title: str, work: Callable[[OnProgress, IsCancelled], Any], lane: Lane = "run") -> None:
        super().__init__()
        self.title = title
        self._lane = lane
        self._work = work
        self._cancel = threading.Event()
        self._outcome = Outcome()
        self._worker: Any = None
        self._call = _Work(title, self._run)
        self._last_report = 0.0
        self._bar: Any = None
        self._has_ended = False

    @property
    def is_cancelling(self) -> bool:
        """Whether somebody asked to stop."""
        return self._cancel.is_set()

    def cancel(self) -> None:
        """Ask to stop; the run ends within one tile and hands over what is done."""
        self._cancel.set()

    def is_cancelled(self) -> bool:
        """Asked by the workflow between tiles; also true when napari quits the worker."""
        return self._cancel.is_set() or (self._worker is not None and bool(self._worker.abort_requested))

    def start(self) -> None:
        """Create the worker and start it in one go (a pending one would block napari's closing)."""
        from napari.qt.threading import create_worker
        from napari.utils import progress

        self.progressed.connect(self._show_in_activity_dock)
        worker = create_worker(self._call, _start_thread=False)
        worker.finished.connect(self._end)
        self._bar = progress(total=0, desc=self.title)
        self._worker = worker
        worker.start()

    def _run(self) -> None:
        keep_memory()
        avoid_llvm_clash()
        try:
            self._outcome = Outcome(value=self._work(self._report, self.is_cancelled))
        except Exception as error:  # the Outcome carries it to the panel
            _LOGGER.exception("%s failed", self.title)
            self._outcome = Outcome(error=error)
        finally:
            give_back_memory()
            _lanes[self._lane].release()

    def _report(self, progress: Progress) -> None:
        now = time.monotonic()
        is_last = progress.n_done >= progress.n_total
        if is_last or now - self._last_report >= _PROGRESS_EVERY_S:
            self._last_report = now
            try:
                self.progressed.emit(progress)
            except RuntimeError:  # Python is going down, and Qt's half of this job is gone already
                self._cancel.set()

    def _show_in_activity_dock(self, progress: Progress) -> None:
        if self._bar is None or progress.n_total <= 0:
            return
        if self._bar.total != progress.n_total:
            self._bar.reset(total=progress.n_total)
        self._bar.update(max(0, progress.n_done - self._bar.n))

    def _end(self) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        self._call.let_go()
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()
        self.ended.emit(self._outcome)


def is_busy(lane: Lane | None = None) -> bool:
    """Whether a run of this plugin is under way, in whatever window; of one lane, or any."""
    return any(lock.locked() for name, lock in _lanes.items() if lane in (None, name))


def start_job(
    title: str,
    work: Callable[[OnProgress, IsCancelled], Any],
    *,
    on_progress: Callable[[Progress], None],
    on_ended: Callable[[Outcome], None],
    lane: Lane = "run",
) -> Job:
    """Run ``work(on_progress, is_cancelled)`` in a thread.

    Parameters
    ----------
    title : str
        What napari shows in the activity dock, and when asked to close.
    work : callable
        Called in the thread; whatever it returns or raises comes back in the Outcome.
    on_progress, on_ended : callable
        Called on the main thread: often with a ``Progress``, and once with the ``Outcome``.
    lane : "run" or "training"
        Of each there is one at a time.

    Raises
    ------
    BusyError
        Another run of this lane is under way, here or in another window.
    """
    if not _lanes[lane].acquire(blocking=False):
        raise BusyError(_BUSY[lane])
    job = Job(title, work, lane)
    job.progressed.connect(on_progress)
    job.ended.connect(on_ended)
    try:
        job.start()
    except BaseException:
        _lanes[lane].release()
        raise
    return job


class LatestOnly(QObject):
    """A thread that works on the newest request and forgets the ones that were overtaken.

    ``delivered`` comes on the main thread with ``(ticket, Outcome)``.
    """

    delivered = Signal(int, object)

    def __init__(self) -> None:
        super().__init__()
        self._condition = threading.Condition()
        self._pending: tuple[int, Callable[[], Any]] | None = None
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._ticket = 0

    def submit(self, work: Callable[[], Any]) -> int:
        """Replace the waiting request; returns its ticket (tickets grow)."""
        with self._condition:
            self._ticket += 1
            if self._is_closed:
                return self._ticket
            self._pending = (self._ticket, work)
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="cellenhance-preview")
                self._thread.start()
            self._condition.notify()
            return self._ticket

    def drop(self) -> None:
        """Forget the waiting request; the one under way ends by itself."""
        with self._condition:
            self._pending = None

    def close(self) -> None:
        """Forget everything and let the thread end. Does not wait for it."""
        with self._condition:
            self._is_closed = True
            self._pending = None
            self._condition.notify()

    def _next(self) -> tuple[int, Callable[[], Any]] | None:
        with self._condition:
            if self._pending is None and not self._is_closed:
                self._condition.wait(_LINGER_S)
            request, self._pending = self._pending, None
            if request is None:
                self._thread = None
            return request

    def _loop(self) -> None:
        from napari_cellenhance.core.inference import Cancelled

        keep_memory()
        avoid_llvm_clash()
        while (request := self._next()) is not None:
            ticket, work = request
            try:
                outcome = Outcome(value=work())
            except (
                Cancelled
            ) as wish:  # of ours, because a run began or the preview was switched off: no error for the log
                outcome = Outcome(error=wish)
            except Exception as error:  # the Outcome carries it to the panel
                _LOGGER.exception("work in the background failed")
                outcome = Outcome(error=error)
            with self._condition:
                if self._is_closed:
                    continue
            self.delivered.emit(ticket, outcome)
