"""Fakes for the panel: a session and a workflow that need no network."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from napari_cellenhance.widgets import _worker
from napari_cellenhance.workflows.preview import PreviewRequest, PreviewResult
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress
from napari_cellenhance.workflows.requests import EnhanceRequest, EnhanceResult

PANELS_END_MS = 30_000


class FakeSession:
    """Answers with a constant picture whose value is the strength divided by ten."""

    def __init__(self) -> None:
        self.requests: list[PreviewRequest] = []
        self.n_calibrated = 0
        self.n_prepared = 0
        self.can_prepare = threading.Event()
        self.can_prepare.set()
        self.delay_s = 0.0
        self.is_approximate = False
        self.error: Exception | None = None
        self.thread: threading.Thread | None = None

    def update(self, preview: PreviewRequest, *, is_cancelled: IsCancelled) -> PreviewResult:
        self.requests.append(preview)
        self.thread = threading.current_thread()
        time.sleep(self.delay_s)
        if self.error is not None:
            raise self.error
        region = preview.enhance.region
        assert region is not None
        strength = float(preview.enhance.strength or 0.0)
        return PreviewResult(
            image=np.full(region.shape, strength / 10, np.float32),
            region=region,
            strength=strength,
            latency_s=0.001,
            is_approximate=self.is_approximate,
            is_identity=strength == 0,
            device_note="running on CPU, float32",
        )

    def prepare(self) -> None:
        self.n_prepared += 1
        self.can_prepare.wait(PANELS_END_MS / 1000)
        if self.error is not None:
            raise self.error

    def calibrate(self, preview: PreviewRequest, *, is_cancelled: IsCancelled) -> None:
        self.n_calibrated += 1
        self.is_approximate = False

    def clear(self) -> None:
        self.requests.clear()


class FakeRun:
    """Stands in for ``workflows.enhance.run``; can wait, fail, and be cancelled."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.go_on.set()
        self.started = threading.Event()
        self.requests: list[EnhanceRequest] = []
        self.error: BaseException | None = None
        self.n_total = 4

    def __call__(self, request: EnhanceRequest, *, on_progress: OnProgress, is_cancelled: IsCancelled) -> EnhanceResult:
        self.requests.append(request)
        on_progress(Progress(n_done=1, n_total=self.n_total, message="Plane 1"))
        self.started.set()
        while not self.go_on.wait(0.01):
            if is_cancelled():
                return self.result(request, n_done=1)
        if self.error is not None:
            raise self.error
        on_progress(Progress(n_done=self.n_total, n_total=self.n_total, message="Plane 4"))
        return self.result(request, n_done=self.n_total)

    def result(self, request: EnhanceRequest, n_done: int) -> EnhanceResult:
        shape = tuple(request.image.shape)
        axes = request.axes
        if request.region is not None:
            sizes = dict(zip("YX", request.region.shape, strict=True))
            shape = tuple(sizes.get(letter, n) for letter, n in zip(axes, shape, strict=True))
        image = np.full(shape, 0.5, np.float32)
        wants = request.segment is not None
        return EnhanceResult(
            image=image,
            axes=axes,
            provenance={
                "filter": request.filter_id,
                "strength": request.strength,
                "device": "cpu",
                "precision": "float32",
            },
            labels=np.ones(shape, np.uint32) if wants else None,
            points=None if request.blobs is None else np.zeros((2, image.ndim)),
            point_radii_px=None if request.blobs is None else np.full(2, 4.0),
            is_complete=n_done == self.n_total,
            n_done=n_done,
            n_total=self.n_total,
        )


@pytest.fixture
def session() -> FakeSession:
    return FakeSession()


@pytest.fixture
def fake_run(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRun]:
    from napari_cellenhance.workflows import enhance

    run = FakeRun()
    monkeypatch.setattr(enhance, "run", run)
    yield run
    run.go_on.set()


@pytest.fixture
def keep_panel(qtbot: Any) -> Iterator[Callable[[Any], Any]]:
    """Look after a panel, and take it down afterwards as closing its dock does."""
    panels: list[Any] = []

    def keep(panel: Any) -> Any:
        qtbot.addWidget(panel)
        panels.append(panel)
        return panel

    yield keep
    for panel in panels:
        panel.shut_down()
    qtbot.waitUntil(lambda: not _worker.is_busy(), timeout=PANELS_END_MS)


@pytest.fixture
def make_panel(session: FakeSession, keep_panel: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Make panels of the Enhance dock."""
    from napari_cellenhance.widgets.enhance import EnhancePanel

    return lambda viewer: keep_panel(EnhancePanel(viewer, session))
