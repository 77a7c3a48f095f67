"""What a dock with one job at a time shows of it: values, errors, nothing once it is closed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from napari.components import ViewerModel

from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.widgets import _worker
from napari_cellenhance.widgets._job_dock import JobDock
from napari_cellenhance.widgets._status import StatusFoot

PATIENCE_MS = 20_000


class Dock(JobDock):
    def __init__(self, viewer: Any) -> None:
        super().__init__(viewer, "test-dock")
        self.foot = StatusFoot(self)
        self.was_busy: list[bool] = []

    def _on_busy(self) -> None:
        self.was_busy.append(self._job is not None)


@pytest.fixture
def dock(keep_panel: Callable[[Any], Any]) -> Dock:
    panel: Dock = keep_panel(Dock(ViewerModel()))
    return panel


def wait(dock: Dock, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: dock._job is None and not _worker.is_busy(), timeout=PATIENCE_MS)


def test_a_value_is_shown_and_none_is_not(dock: Dock, qtbot: Any) -> None:
    shown: list[Any] = []
    for value in (0, None, "done"):
        dock._start("Work", lambda *_, value=value: value, shown.append)
        wait(dock, qtbot)
    assert shown == [0, "done"] and dock.was_busy == [True, False] * 3 and dock._job is None


def test_an_error_goes_into_the_foot_or_where_the_job_says(dock: Dock, qtbot: Any) -> None:
    def fails(*_: Any) -> None:
        raise ImageError("the image is empty; choose another one")

    shown: list[Any] = []
    dock._start("Work", fails, shown.append)
    wait(dock, qtbot)
    assert "The image is empty" in dock.foot.message.text()
    failed: list[BaseException] = []
    dock._start("Work", fails, shown.append, failed.append)
    wait(dock, qtbot)
    assert len(failed) == 1 and isinstance(failed[0], ImageError) and shown == []


def test_a_dock_that_is_closed_cancels_and_shows_nothing(dock: Dock, qtbot: Any) -> None:
    shown: list[Any] = []
    is_closed = threading.Event()
    seen: list[bool] = []

    def work(_on_progress: Any, is_cancelled: Callable[[], bool]) -> str:
        is_closed.wait(PATIENCE_MS / 1000)
        seen.append(is_cancelled())
        return "late"

    dock._start("Work", work, shown.append)
    dock.shut_down()
    is_closed.set()
    wait(dock, qtbot)
    assert seen == [True] and shown == [] and dock.was_busy == [True]
