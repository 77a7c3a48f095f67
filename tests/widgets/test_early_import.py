"""torch is imported while the user is still choosing, and nobody notices."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_cellenhance.widgets import enhance

MakePanel = Callable[[Any], Any]


@pytest.fixture
def viewer() -> ViewerModel:
    viewer = ViewerModel()
    layer = viewer.add_image(np.random.default_rng(0).random((200, 300)), name="cells")
    layer.corner_pixels = np.array([[0, 0], [199, 299]])
    return viewer


@pytest.fixture
def slow(session: Any) -> Iterator[Any]:
    """A session whose import lasts until the test lets it go on."""
    session.can_prepare.clear()
    yield session
    session.can_prepare.set()


def n_threads() -> int:
    return sum(thread.name == "cellenhance-preview" for thread in threading.enumerate())


def shown(panel: Any, session: Any, qtbot: Any) -> Any:
    panel.show()
    qtbot.waitUntil(lambda: session.n_prepared == 1, timeout=5000)
    return panel


def test_it_begins_once_the_dock_is_drawn(make_panel: MakePanel, viewer: ViewerModel, session: Any, qtbot: Any) -> None:
    panel = make_panel(viewer)
    qtbot.wait(3 * enhance._PREPARE_AFTER_MS)
    assert session.n_prepared == 0, "a dock that nobody sees imports nothing"
    with qtbot.waitExposed(panel):
        panel.show()
    assert session.n_prepared == 0, "first the dock is drawn"
    qtbot.waitUntil(lambda: session.n_prepared == 1, timeout=5000)
    assert not session.requests


def test_it_happens_once(make_panel: MakePanel, viewer: ViewerModel, session: Any, qtbot: Any) -> None:
    panel = shown(make_panel(viewer), session, qtbot)
    panel.hide()
    panel.show()
    qtbot.wait(3 * enhance._PREPARE_AFTER_MS)
    assert session.n_prepared == 1


def test_a_dock_that_is_closed_at_once_imports_nothing(
    make_panel: MakePanel, viewer: ViewerModel, session: Any, qtbot: Any
) -> None:
    panel = make_panel(viewer)
    panel.show()
    panel.close()
    panel.show()  # as Qt may while the window is taken apart
    qtbot.wait(3 * enhance._PREPARE_AFTER_MS)
    assert session.n_prepared == 0
    panel.hide()


def test_the_preview_does_not_wait_where_it_needs_no_torch(
    make_panel: MakePanel, viewer: ViewerModel, slow: Any, qtbot: Any
) -> None:
    panel = shown(make_panel(viewer), slow, qtbot)
    panel.badge.switch.setChecked(True)
    qtbot.waitUntil(lambda: "cells preview" in viewer.layers, timeout=5000)
    n = len(slow.requests)
    slow.can_prepare.set()
    qtbot.waitUntil(lambda: n_threads() <= 1, timeout=5000)
    assert len(slow.requests) == n, "its end is no reason to look again"


def test_closing_meanwhile_is_safe(make_panel: MakePanel, viewer: ViewerModel, slow: Any, qtbot: Any) -> None:
    panel = shown(make_panel(viewer), slow, qtbot)
    panel.close()
    assert n_threads() >= 1
    slow.can_prepare.set()
    qtbot.waitUntil(lambda: n_threads() == 0, timeout=5000)
    assert list(viewer.layers) == [viewer.layers["cells"]]


def test_what_cannot_be_imported_is_told_when_it_is_needed(
    make_panel: MakePanel, viewer: ViewerModel, session: Any, qtbot: Any
) -> None:
    session.error = ModuleNotFoundError("No module named 'torch'", name="torch")
    panel = shown(make_panel(viewer), session, qtbot)
    qtbot.waitUntil(lambda: n_threads() == 0, timeout=5000)
    assert not panel.badge.hint.text()
    assert "PyTorch" not in panel.foot.message.text()
    panel.badge.switch.setChecked(True)
    qtbot.waitUntil(lambda: panel.badge.hint.text().startswith("The filters need PyTorch"), timeout=5000)
