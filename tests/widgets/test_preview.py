"""The live preview on a ViewerModel with a fake session."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_cellenhance.core.errors import ImageError

MakePanel = Callable[[Any], Any]


@pytest.fixture
def viewer() -> ViewerModel:
    viewer = ViewerModel()
    layer = viewer.add_image(np.random.default_rng(0).random((6, 200, 300)), name="cells", scale=(2, 0.5, 0.5))
    layer.corner_pixels = np.array([[0, 0, 0], [0, 199, 299]])
    viewer.dims.set_current_step(0, 2)
    return viewer


@pytest.fixture
def live(make_panel: MakePanel, viewer: ViewerModel, qtbot: Any) -> Any:
    panel = make_panel(viewer)
    panel.image.axes.setText("ZYX")
    panel.badge.switch.setChecked(True)
    qtbot.waitUntil(lambda: panel.preview.layer is not None, timeout=5000)
    return panel


def preview_layer(viewer: ViewerModel) -> Any:
    return viewer.layers["cells preview"]


def settle(qtbot: Any, session: Any) -> None:
    """Wait until no new request comes for a while."""
    n = -1
    while n != len(session.requests):
        n = len(session.requests)
        qtbot.wait(250)


def test_preview_covers_the_view_at_the_slice(live: Any, viewer: ViewerModel, session: Any) -> None:
    layer = preview_layer(viewer)
    assert layer.data.shape == (1, 200, 300)
    np.testing.assert_allclose(layer.data_to_world((0, 0, 0)), viewer.layers["cells"].data_to_world((2, 0, 0)))
    assert session.requests[-1].position == {"Z": 2}
    assert session.thread is not threading.main_thread()


def test_badge_shows_live_and_milliseconds(live: Any) -> None:
    assert live.badge.badge.text().startswith("LIVE ")
    assert live.badge.badge.text().endswith(" ms")
    assert live.foot.device.text() == "Running on CPU, float32"


def test_last_slider_value_wins(live: Any, viewer: ViewerModel, session: Any, qtbot: Any) -> None:
    settle(qtbot, session)
    n_before = len(session.requests)
    session.delay_s = 0.05
    maximum = live.filters.info().strength.maximum
    for value in np.linspace(0, maximum, 100):
        live.strength.set_value(float(value))
    qtbot.waitUntil(lambda: session.requests[-1].enhance.strength == maximum, timeout=5000)
    settle(qtbot, session)
    np.testing.assert_allclose(preview_layer(viewer).data, maximum / 10)
    assert len(session.requests) - n_before < 10


def test_slice_pan_and_zoom_update(live: Any, viewer: ViewerModel, session: Any, qtbot: Any) -> None:
    viewer.dims.set_current_step(0, 4)
    qtbot.waitUntil(lambda: session.requests[-1].position == {"Z": 4}, timeout=5000)
    viewer.layers["cells"].corner_pixels = np.array([[0, 50, 60], [0, 99, 159]])
    viewer.scene.camera.zoom = 3
    qtbot.waitUntil(lambda: preview_layer(viewer).data.shape == (1, 50, 100), timeout=5000)
    np.testing.assert_allclose(
        preview_layer(viewer).data_to_world((0, 0, 0)), viewer.layers["cells"].data_to_world((4, 50, 60))
    )


def test_nothing_new_is_not_computed_again(live: Any, viewer: ViewerModel, session: Any, qtbot: Any) -> None:
    settle(qtbot, session)
    n = len(session.requests)
    for _ in range(5):
        viewer.scene.camera.events.zoom()
        qtbot.wait(80)
    assert len(session.requests) == n


def test_other_layers_and_the_selection_are_left_alone(live: Any, viewer: ViewerModel) -> None:
    assert viewer.layers.selection.active == viewer.layers["cells"]
    assert [live.layers.itemText(i) for i in range(live.layers.count())] == ["cells"]


def test_switching_off_removes_the_layer(live: Any, viewer: ViewerModel) -> None:
    live.badge.switch.setChecked(False)
    assert [layer.name for layer in viewer.layers] == ["cells"]
    assert live.badge.badge.text() == ""


def test_closing_the_panel_removes_the_layer(live: Any, viewer: ViewerModel) -> None:
    live.close()
    assert [layer.name for layer in viewer.layers] == ["cells"]


def test_user_deletes_the_preview(live: Any, viewer: ViewerModel, qtbot: Any) -> None:
    viewer.layers.remove("cells preview")
    assert not live.badge.switch.isChecked()
    viewer.dims.set_current_step(0, 1)
    qtbot.wait(150)
    assert [layer.name for layer in viewer.layers] == ["cells"]


def test_user_deletes_the_source(live: Any, viewer: ViewerModel, qtbot: Any) -> None:
    viewer.layers.remove("cells")
    qtbot.waitUntil(lambda: len(viewer.layers) == 0, timeout=5000)
    assert live.badge.badge.text() == "PAUSED"
    assert "image layer" in live.badge.hint.text()


def test_clear_everything_while_live(live: Any, viewer: ViewerModel, qtbot: Any) -> None:
    viewer.layers.clear()
    qtbot.wait(150)
    assert len(viewer.layers) == 0


def test_renaming_the_source_renames_the_preview(live: Any, viewer: ViewerModel, qtbot: Any) -> None:
    viewer.layers["cells"].name = "other"
    live.strength.set_value(live.filters.info().strength.maximum)
    qtbot.waitUntil(lambda: "other preview" in viewer.layers, timeout=5000)


def test_three_d_pauses_with_a_hint_and_comes_back(live: Any, viewer: ViewerModel, qtbot: Any) -> None:
    viewer.dims.ndisplay = 3
    qtbot.waitUntil(lambda: live.badge.badge.text() == "PAUSED", timeout=5000)
    assert "3-D" in live.badge.hint.text()
    assert len(viewer.layers) == 1
    viewer.dims.ndisplay = 2
    viewer.layers["cells"].corner_pixels = np.array([[0, 0, 0], [0, 199, 299]])
    qtbot.waitUntil(lambda: live.badge.badge.text().startswith("LIVE"), timeout=5000)


def test_off_screen_pauses(live: Any, viewer: ViewerModel, qtbot: Any) -> None:
    viewer.layers["cells"].corner_pixels = np.array([[0, 199, 299], [0, 199, 299]])
    viewer.scene.camera.center = (0, 900, 900)
    qtbot.waitUntil(lambda: "off the screen" in live.badge.hint.text(), timeout=5000)


def test_an_error_is_a_sentence_and_the_next_change_tries_again(
    live: Any, viewer: ViewerModel, session: Any, qtbot: Any
) -> None:
    session.error = RuntimeError("mkldnn: out of memory")
    live.strength.set_value(1.0)
    qtbot.waitUntil(lambda: "out of memory" in live.badge.hint.text(), timeout=5000)
    session.error = ImageError("the plane holds no numbers")
    live.strength.set_value(2.0)
    qtbot.waitUntil(lambda: live.badge.hint.text() == "The plane holds no numbers", timeout=5000)
    session.error = None
    live.strength.set_value(1.5)
    qtbot.waitUntil(lambda: "cells preview" in viewer.layers, timeout=5000)


def test_new_data_is_seen(live: Any, viewer: ViewerModel, session: Any, qtbot: Any) -> None:
    settle(qtbot, session)
    key = session.requests[-1].source_key
    viewer.layers["cells"].data = np.zeros((6, 200, 300))
    qtbot.waitUntil(lambda: session.requests[-1].source_key != key, timeout=5000)


def test_approximate_is_marked_then_measured(live: Any, session: Any, qtbot: Any) -> None:
    session.is_approximate = True
    session.delay_s = 0.02
    live.strength.set_value(1.0)
    qtbot.waitUntil(lambda: session.n_calibrated >= 1, timeout=5000)
    qtbot.waitUntil(lambda: "approximate" not in live.badge.badge.text(), timeout=5000)


def test_preview_waits_for_the_run_and_goes_on(
    live: Any, viewer: ViewerModel, session: Any, fake_run: Any, qtbot: Any
) -> None:
    fake_run.go_on.clear()
    live.run()
    assert "waits for the run" in live.badge.hint.text()
    settle(qtbot, session)
    n = len(session.requests)
    live.strength.set_value(1.0)
    qtbot.wait(150)
    assert len(session.requests) == n
    fake_run.go_on.set()
    qtbot.waitUntil(lambda: len(session.requests) > n, timeout=5000)
    names = [layer.name for layer in viewer.layers]
    assert names == ["cells", "cells enhanced", "cells preview"]


def test_the_main_thread_is_never_held_while_the_session_works(live: Any, session: Any, qtbot: Any) -> None:
    session.delay_s = 0.3
    worst = 0.0
    for value in np.linspace(0.5, 1.5, 12):
        start = time.perf_counter()
        live.strength.set_value(float(value))
        worst = max(worst, time.perf_counter() - start)
        qtbot.wait(40)
    assert worst < 0.05


def test_wrong_axes_pause(live: Any, qtbot: Any) -> None:
    live.image.axes.setText("YX")
    qtbot.waitUntil(lambda: live.badge.badge.text() == "PAUSED", timeout=5000)
    assert live.badge.hint.text()


def test_large_windows_are_previewed_in_their_middle(make_panel: MakePanel, session: Any, qtbot: Any) -> None:
    viewer = ViewerModel()
    viewer.add_image(np.broadcast_to(np.uint8(3), (4000, 4000)), name="big", contrast_limits=(0, 9))
    viewer.layers["big"].corner_pixels = np.array([[0, 0], [3999, 3999]])
    panel = make_panel(viewer)
    panel.badge.switch.setChecked(True)
    qtbot.waitUntil(lambda: panel.preview.layer is not None, timeout=5000)
    assert viewer.layers["big preview"].data.size <= 1 << 20
    assert "middle of the view" in panel.badge.hint.text()


def test_abandoned_preview_leaves_the_viewer_alone(live: Any, viewer: ViewerModel, session: Any, qtbot: Any) -> None:
    settle(qtbot, session)
    n = len(session.requests)
    live.preview.abandon()
    viewer.dims.set_current_step(0, 1)
    live.strength.set_value(1.0)
    qtbot.wait(150)
    assert len(session.requests) == n
    assert "cells preview" in viewer.layers
