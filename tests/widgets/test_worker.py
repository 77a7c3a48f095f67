"""Threads: nothing raises out of them, one run at a time, the newest preview wins."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from napari_cellenhance.core.inference import Cancelled
from napari_cellenhance.widgets import _worker
from napari_cellenhance.widgets._worker import BusyError, LatestOnly, Outcome, start_job
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress


class Listener:
    def __init__(self) -> None:
        self.progress: list[Progress] = []
        self.outcomes: list[Outcome] = []
        self.threads: list[threading.Thread] = []

    def on_progress(self, progress: Progress) -> None:
        self.progress.append(progress)
        self.threads.append(threading.current_thread())

    def on_ended(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.threads.append(threading.current_thread())


def start(listener: Listener, work: Callable[[OnProgress, IsCancelled], Any]) -> _worker.Job:
    return start_job("Enhance cells", work, on_progress=listener.on_progress, on_ended=listener.on_ended)


def test_value_and_progress_arrive_on_the_main_thread(qtbot: Any) -> None:
    listener = Listener()

    def work(on_progress: OnProgress, is_cancelled: IsCancelled) -> str:
        on_progress(Progress(n_done=1, n_total=2))
        on_progress(Progress(n_done=2, n_total=2))
        assert threading.current_thread() is not threading.main_thread()
        return "done"

    start(listener, work)
    qtbot.waitUntil(lambda: bool(listener.outcomes), timeout=5000)
    assert listener.outcomes == [Outcome(value="done")]
    assert listener.progress[-1].n_done == 2
    assert set(listener.threads) == {threading.main_thread()}
    assert not _worker.is_busy()


def test_triton_is_kept_out_before_any_work(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside Mesa's OpenGL the first optimiser would end the program: asked before a run and before a preview."""
    order: list[str] = []
    monkeypatch.setattr(_worker, "avoid_llvm_clash", lambda: order.append("asked"))
    listener = Listener()
    start(listener, lambda on_progress, is_cancelled: order.append("run"))
    qtbot.waitUntil(lambda: bool(listener.outcomes), timeout=5000)
    mailbox = LatestOnly()
    mailbox.submit(lambda: order.append("preview"))
    qtbot.waitUntil(lambda: "preview" in order, timeout=5000)
    mailbox.close()
    assert order == ["asked", "run", "asked", "preview"]


@pytest.mark.parametrize(
    "error",
    [RuntimeError("out of memory"), NotImplementedError("op"), MemoryError(), RecursionError(), ValueError("x")],
)
def test_every_error_arrives_as_an_outcome(qtbot: Any, error: Exception) -> None:
    listener = Listener()

    def work(on_progress: OnProgress, is_cancelled: IsCancelled) -> None:
        raise error

    start(listener, work)
    qtbot.waitUntil(lambda: bool(listener.outcomes), timeout=5000)
    assert listener.outcomes[0].error is error
    assert not _worker.is_busy()


def test_a_second_run_is_refused_in_words_and_the_first_goes_on(qtbot: Any) -> None:
    listener, go_on = Listener(), threading.Event()

    def work(on_progress: OnProgress, is_cancelled: IsCancelled) -> int:
        go_on.wait(5)
        return 1

    start(listener, work)
    with pytest.raises(BusyError, match="already running"):
        start(Listener(), work)
    go_on.set()
    qtbot.waitUntil(lambda: bool(listener.outcomes), timeout=5000)
    assert listener.outcomes[0].value == 1


def test_cancel_is_seen_by_the_work_and_its_result_still_comes(qtbot: Any) -> None:
    listener = Listener()

    def work(on_progress: OnProgress, is_cancelled: IsCancelled) -> str:
        while not is_cancelled():
            time.sleep(0.005)
        return "partial"

    job = start(listener, work)
    job.cancel()
    qtbot.waitUntil(lambda: bool(listener.outcomes), timeout=5000)
    assert listener.outcomes[0].value == "partial"


def test_progress_is_thinned_but_the_last_one_always_comes(qtbot: Any) -> None:
    listener = Listener()

    def work(on_progress: OnProgress, is_cancelled: IsCancelled) -> None:
        for i in range(5000):
            on_progress(Progress(n_done=i + 1, n_total=5000))

    start(listener, work)
    qtbot.waitUntil(lambda: bool(listener.outcomes), timeout=5000)
    assert len(listener.progress) < 500
    assert listener.progress[-1].n_done == 5000


def test_only_the_newest_request_is_worked_on(qtbot: Any) -> None:
    latest, go_on, done = LatestOnly(), threading.Event(), []
    latest.delivered.connect(lambda ticket, outcome: done.append((ticket, outcome.value)))
    latest.submit(lambda: go_on.wait(5) and "first")
    time.sleep(0.05)
    for i in range(100):
        last = latest.submit(lambda i=i: i)
    go_on.set()
    qtbot.waitUntil(lambda: len(done) == 2, timeout=5000)
    assert done[1] == (last, 99)
    latest.close()


def test_preview_errors_come_as_outcomes_and_the_thread_lives_on(qtbot: Any) -> None:
    latest, done = LatestOnly(), []
    latest.delivered.connect(lambda ticket, outcome: done.append(outcome))

    def fail() -> None:
        raise RuntimeError("shape")

    latest.submit(fail)
    qtbot.waitUntil(lambda: len(done) == 1, timeout=5000)
    assert isinstance(done[0].error, RuntimeError)
    latest.submit(lambda: 7)
    qtbot.waitUntil(lambda: len(done) == 2, timeout=5000)
    assert done[1].value == 7
    latest.close()


def test_a_cancelled_request_is_no_error_in_the_log(qtbot: Any, caplog: pytest.LogCaptureFixture) -> None:
    def work() -> None:
        raise Cancelled

    latest, done = LatestOnly(), []
    latest.delivered.connect(lambda ticket, outcome: done.append(outcome))
    latest.submit(work)
    qtbot.waitUntil(lambda: len(done) == 1, timeout=5000)
    assert isinstance(done[0].error, Cancelled)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    latest.close()


def test_closed_mailbox_says_nothing_more(qtbot: Any) -> None:
    latest, done = LatestOnly(), []
    latest.delivered.connect(lambda ticket, outcome: done.append(outcome))
    latest.submit(lambda: time.sleep(0.05))
    latest.close()
    latest.submit(lambda: 1)
    qtbot.wait(150)
    assert not done
    assert not [t for t in threading.enumerate() if t.name == "cellenhance-preview"]


def test_close_dialog_of_napari_gets_a_readable_name() -> None:
    assert repr(_worker._Work("Enhance cells", lambda: None)) == "“Enhance cells”"
