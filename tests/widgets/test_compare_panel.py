"""The Compare dock: ways to look in a real window, and everything as it was afterwards; difference, numbers, figure."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractSpinBox, QApplication, QComboBox, QFileDialog, QPushButton

from napari_cellenhance.widgets.compare import ComparePanel

MakePanel = Callable[[Any], ComparePanel]
RECORD = {"cellenhance": {"title": "NU-Net", "strength": 8.0, "source": {"name": "cells"}}}


@pytest.fixture
def make_panel(keep_panel: Any) -> MakePanel:
    def make(viewer: Any) -> ComparePanel:
        panel: ComparePanel = keep_panel(ComparePanel(viewer))
        return panel

    return make


def fill(viewer: Any) -> Any:
    """Dark cells, a bright enhanced version that is hidden, another image and points on top."""
    place: dict[str, Any] = {"scale": (0.5, 0.5), "units": ("um", "um")}
    rng = np.random.default_rng(0)
    yy, xx = np.indices((96, 128))
    labels = (((yy % 32 - 16) ** 2 + (xx % 32 - 16) ** 2) <= 49).astype(np.int32)
    noisy = (100 + 300 * labels + rng.normal(0, 30, labels.shape)).clip(0).astype(np.uint16)
    viewer.add_image(noisy, name="cells", contrast_limits=(0, 60000), **place)
    viewer.add_image(labels.astype(np.float32), name="cells enhanced", metadata=RECORD, contrast_limits=(-2, 0),
                     gamma=0.8, visible=False, **place)  # fmt: skip
    viewer.add_image(np.full((96, 128), 0.5, np.float32), name="other", contrast_limits=(0, 1), **place)
    viewer.add_points([[10.0, 10.0]], name="marks", size=1)
    viewer.layers.selection.active = viewer.layers["cells enhanced"]
    return viewer


@pytest.fixture
def model() -> Any:
    return fill(ViewerModel())


@pytest.fixture
def window(make_napari_viewer: Any) -> Any:
    return fill(make_napari_viewer(show=True))


def state(viewer: Any) -> dict[str, Any]:
    """Everything that looking may change."""
    grid = viewer.canvas.grid
    return {
        "layers": [
            (
                layer.name, layer.visible, layer.name_overlay.visible, layer.opacity,
                getattr(layer, "contrast_limits", None), getattr(layer, "contrast_limits_range", None),
                getattr(layer, "gamma", None),
            )
            for layer in viewer.layers
        ],
        "grid": (grid.enabled, grid.stride, grid.shape, grid.spacing),
        "camera": (viewer.scene.camera.zoom, viewer.scene.camera.center, viewer.scene.camera.mouse_pan),
        "keys": dict(viewer.keymap),
        "mouse": list(viewer.mouse_drag_callbacks),
        "active": viewer.layers.selection.active,
    }  # fmt: skip


def settle(viewer: Any) -> None:
    """Until every layer shows its pixels, which napari may fetch in another thread (``NAPARI_ASYNC``)."""
    viewer._layer_slicer.wait_until_idle()
    QApplication.processEvents()


def picture(viewer: Any) -> np.ndarray:
    settle(viewer)
    return np.asarray(viewer.screenshot(canvas_only=True, flash=False))[..., :3].astype(int)


def columns(viewer: Any, x: float) -> int:
    """Column of the picture where world ``x`` is drawn."""
    width = picture(viewer).shape[1]
    return int(width / 2 + (x - viewer.scene.camera.center[-1]) * viewer.scene.camera.zoom)


def run(panel: ComparePanel, qtbot: Any, start: Callable[[], None] | None = None) -> str:
    (start or panel.run)()
    qtbot.waitUntil(lambda: panel._job is None, timeout=30_000)
    return str(panel.foot.message.text())


# --- choosing -------------------------------------------------------------------------------


def test_a_result_finds_its_source(make_panel: MakePanel, model: Any) -> None:
    panel = make_panel(model)
    assert [layer.name for layer in panel.form.layers()] == ["cells", "cells enhanced"]
    model.add_image(np.zeros((96, 128)), name="cells DoG", scale=(0.5, 0.5), metadata=RECORD)
    assert [layer.name for layer in panel.form.layers()] == ["cells", "cells enhanced", "cells DoG"]
    model.add_image(np.zeros((96, 128)), name="cells − x", metadata={"cellenhance": {"step": "difference"}})
    assert len(panel.form.layers()) == 3, "a difference is no image after"
    model.layers.clear()
    assert not panel.foot.run.isEnabled() and "Open an image" in panel.foot.message.text()


def test_every_control_has_a_name_and_a_tip(make_panel: MakePanel, model: Any) -> None:
    panel = make_panel(model)
    for kind in (QComboBox, QAbstractSpinBox, QPushButton):
        for part in panel.findChildren(kind):
            assert part.toolTip(), part
            assert isinstance(part, QPushButton) or part.accessibleName(), part


# --- ways to look ---------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["wipe", "blink", "side"])
@pytest.mark.parametrize("end", ["off", "closed", "other way"])
def test_the_view_comes_back_exactly(make_panel: MakePanel, window: Any, way: str, end: str) -> None:
    window.bind_key("b", lambda _: None)
    window.canvas.grid.stride = 2
    QApplication.processEvents()
    before, shown = state(window), picture(window)
    panel = make_panel(window)
    panel.look.look(way)
    QApplication.processEvents()
    assert state(window) != before and np.abs(picture(window) - shown).max() > 50
    if end == "off":
        panel.look.look("off")
    elif end == "closed":
        panel.shut_down()
    else:
        panel.look.look("side" if way == "blink" else "blink")
        panel.look.look("off")
    assert state(window) == before
    assert np.abs(picture(window) - shown).max() <= 2


def test_the_wipe_shows_before_on_one_side_and_after_on_the_other(make_panel: MakePanel, window: Any) -> None:
    pixels = window.layers["cells"].data
    panel = make_panel(window)
    panel.look.look("wipe")
    # The enhanced layer is white where its values exceed its limits, the raw one nearly black.
    for share in (500, 250, 750):
        panel.look.place.setValue(share)
        shown, edge = picture(window), columns(window, 64 * share / 1000)
        middle = slice(shown.shape[0] // 2 - 40, shown.shape[0] // 2 + 40)
        assert shown[middle, edge - 60 : edge - 8].mean() < 20, "before"
        assert shown[middle, edge + 8 : edge + 60].mean() > 150, "after"
    assert window.layers["cells"].data is pixels and len(window.layers) == 4, "nothing was copied"
    panel.look.edge.setCurrentIndex(1)
    shown = picture(window)
    middle = shown.shape[1] // 2
    top, bottom = shown[: shown.shape[0] // 2 - 10, middle - 20 : middle], shown[shown.shape[0] // 2 + 200 :]
    assert top.mean() < bottom[:, middle - 20 : middle].mean()


def test_the_line_can_be_dragged(make_panel: MakePanel, window: Any) -> None:
    panel = make_panel(window)
    panel.look.look("wipe")
    centre = window.scene.camera.center

    class Event:
        def __init__(self, kind: str, x: float) -> None:
            self.type, self.position, self.handled = kind, (20.0, x), False

    (drag,) = (call for call in window.mouse_drag_callbacks if "Wipe" in repr(call))
    line = panel._wipe
    assert line is not None
    event = Event("mouse_press", line.position)
    gesture = drag(window, event)
    next(gesture)
    assert not window.scene.camera.mouse_pan, "the picture stays while the line moves"
    event.type, event.position = "mouse_move", (20.0, 16.0)
    next(gesture)
    assert line.position == 16.0 and panel.look.place.value() == pytest.approx(250, abs=6)
    event.type = "mouse_release"
    event.position = (20.0, 15.0)
    assert list(gesture) == [] and window.scene.camera.mouse_pan
    assert line.position == 15.0
    assert list(drag(window, Event("mouse_press", 50.0))) == [], "elsewhere the picture moves as ever"
    assert window.scene.camera.center == centre


def test_the_mouse_drags_the_line_and_not_the_picture(make_panel: MakePanel, window: Any) -> None:
    panel = make_panel(window)
    panel.look.look("wipe")
    QApplication.processEvents()
    camera, canvas, line = window.scene.camera, window.window._qt_viewer.canvas.native, panel._wipe
    assert line is not None
    centre, middle, begin = camera.center, canvas.height() // 2, line.position
    start = round(canvas.width() / 2 + (line.position - centre[-1]) * camera.zoom)
    QTest.mouseMove(canvas, QPoint(start, middle))
    QTest.mousePress(canvas, Qt.MouseButton.LeftButton, pos=QPoint(start, middle))
    for x in (start - 10, start - 60):
        QTest.mouseMove(canvas, QPoint(x, middle))
        QTest.qWait(30)
    QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=QPoint(start - 60, middle))
    QApplication.processEvents()
    assert line.position == pytest.approx(begin - 60 / camera.zoom, abs=2.5 / camera.zoom)
    assert camera.center == centre and camera.mouse_pan


def test_the_wipe_follows_planes_and_other_images(make_panel: MakePanel, make_napari_viewer: Any) -> None:
    viewer = make_napari_viewer(show=True)
    stack = np.zeros((3, 64, 64), np.uint8)
    stack[1:] = 40
    viewer.add_image(stack, name="cells", contrast_limits=(0, 255))
    viewer.add_image(np.ones((3, 64, 64), np.float32), name="cells enhanced", metadata=RECORD, contrast_limits=(-1, 0))
    panel = make_panel(viewer)
    panel.look.look("wipe")
    for step in (0, 2):
        viewer.dims.current_step = (step, 0, 0)
        shown, edge = picture(viewer), columns(viewer, 31.5)
        row = shown.shape[0] // 2
        assert shown[row, edge - 20].mean() == pytest.approx(40 * (step > 0), abs=3)
        assert shown[row, edge + 20].mean() > 250
    viewer.layers["cells"].data = np.full((3, 64, 64), 0.25, np.float32)  # drawn with another kind of texture
    viewer.layers["cells"].contrast_limits = (0, 1)
    shown = picture(viewer)
    assert shown[row, edge - 20].mean() == pytest.approx(64, abs=3) and shown[row, edge + 20].mean() > 250
    viewer.dims.ndisplay = 3
    assert panel.look.way == "off" and "2-D" in panel.foot.message.text()
    viewer.dims.ndisplay = 2
    assert picture(viewer)[row, edge - 20].mean() > 250, "the layer on top is whole again"


def test_a_large_lazy_image_is_read_once(make_panel: MakePanel, make_napari_viewer: Any) -> None:
    viewer = make_napari_viewer(show=True)
    read: list[int] = []

    def watch(block: np.ndarray) -> np.ndarray:
        read.append(1)
        return block

    dark = np.full((1000, 20_000), 40, np.uint8)  # wider than one texture
    bright = da.from_array(dark + 200, chunks=(1000, 5000)).map_blocks(watch, dtype=np.uint8)
    viewer.add_image(dark, name="cells", contrast_limits=(0, 255))
    viewer.add_image(bright, name="cells enhanced", metadata=RECORD, contrast_limits=(0, 255))
    panel = make_panel(viewer)
    panel.look.rate.setValue(0.0)
    panel.look.look("wipe")
    picture(viewer)
    n_read = len(read)
    for share in (250, 700):
        panel.look.place.setValue(share)
        shown, edge = picture(viewer), columns(viewer, 20_000 * share / 1000)
        row = shown[shown.shape[0] // 2]
        assert row[20 : edge - 10].max() < 60 and row[edge + 10 : -20].min() > 220, "every tile is cut"
    panel.look.look("blink")
    for _ in range(4):
        panel._blink.step()  # type: ignore[union-attr]
        picture(viewer)
    assert len(read) == n_read


def test_blink_shows_one_at_a_time_without_reading_again(make_panel: MakePanel, window: Any, qtbot: Any) -> None:
    panel = make_panel(window)
    panel.look.rate.setValue(0.0)
    panel.look.look("blink")
    settle(window)
    read: list[str] = []
    for layer in window.layers:
        layer.events.set_data.connect(lambda event: read.append(event.source.name))
    names = []
    for _ in range(4):
        names.append((panel.look.shown.text(), picture(window).mean() > 60))
        QTest.keyClick(window.window._qt_viewer.canvas.native, Qt.Key.Key_B)
    assert names == [("cells", False), ("cells enhanced", True)] * 2
    assert not read, "the pixels of a layer are read once"
    panel.look.rate.setValue(10.0)
    shown = panel.look.shown.text()
    qtbot.waitUntil(lambda: panel.look.shown.text() != shown, timeout=5000)
    assert not window.layers["other"].visible and window.layers["marks"].visible


def test_blink_goes_on_showing_one_when_pixels_are_read_again(make_panel: MakePanel, window: Any) -> None:
    panel = make_panel(window)
    panel.look.rate.setValue(0.0)
    panel.look.look("blink")
    for name in ("cells enhanced", "cells"):
        window.layers[name].refresh()
    assert panel.look.shown.text() == "cells" and picture(window).mean() < 60
    blink = panel._blink  # still there when its end is looked at
    panel.look.look("off")
    window.layers["cells enhanced"].visible = True
    window.layers["other"].visible = False
    window.layers["cells enhanced"].refresh()
    assert blink is not None and picture(window).mean() > 60, "afterwards nothing is hidden any more"


def test_blink_works_without_a_window(make_panel: MakePanel, model: Any) -> None:
    panel = make_panel(model)
    panel.look.rate.setValue(0.0)
    panel.look.look("blink")
    assert [model.layers[name].visible for name in ("cells", "cells enhanced")] == [True, False]
    panel._blink.step()  # type: ignore[union-attr]
    assert [model.layers[name].visible for name in ("cells", "cells enhanced")] == [False, True]
    told = [model.layers[name].name_overlay.visible for name in ("cells", "cells enhanced")]
    assert told == [False, True], "the name of what is shown, and no other"
    panel.look.look("wipe")
    assert panel.look.way == "off" and "cannot be reached" in panel.foot.message.text()


@pytest.mark.parametrize("is_before_below", [True, False])
def test_side_by_side_has_the_one_before_on_the_left(make_panel: MakePanel, model: Any, is_before_below: bool) -> None:
    panel = make_panel(model)
    if not is_before_below:
        model.layers.move(0, 2)
    panel.look.look("side")
    places = {
        layer.name: model.canvas.grid.position(index, model.layers)
        for index, layer in enumerate(model.layers)
        if layer.visible
    }
    assert places == {"cells": (0, 0), "cells enhanced": (0, 1)}
    assert all(model.layers[name].name_overlay.visible for name in places)


def test_another_choice_is_followed_and_a_layer_that_goes_ends_it(make_panel: MakePanel, model: Any) -> None:
    panel = make_panel(model)
    before = state(model)
    panel.look.look("side")
    panel.form.after.tick(model.layers["other"])
    assert model.layers["other"].visible and model.canvas.grid.shape == (1, 3)
    panel.form.after.tick(model.layers["other"], False)
    assert not model.layers["other"].visible and model.canvas.grid.shape == (1, 2)
    model.layers.remove("cells enhanced")
    assert panel.look.way == "off" and not model.canvas.grid.enabled
    after = state(model)
    assert after["layers"] == [each for each in before["layers"] if each[0] != "cells enhanced"]


# --- contrast -------------------------------------------------------------------------------


def test_contrast_linked_by_share_and_given_back(make_panel: MakePanel, model: Any) -> None:
    raw, better = model.layers["cells"], model.layers["cells enhanced"]
    before = state(model)
    panel = make_panel(model)
    panel.look.link.setCurrentIndex(1)
    assert tuple(better.contrast_limits) == (-2, 0) and better.gamma == raw.gamma
    raw.contrast_limits = (30000, 60000)
    assert tuple(better.contrast_limits) == (-1, 0)
    better.contrast_limits = (-2, -1)
    better.gamma = 0.5
    assert tuple(raw.contrast_limits) == (0, 30000) and raw.gamma == 0.5
    panel.look.link.setCurrentIndex(0)
    assert state(model) == before
    raw.gamma = 2.0
    assert better.gamma == 0.8, "no longer linked"


def test_the_same_contrast_and_closing_gives_it_back(make_panel: MakePanel, model: Any) -> None:
    before = state(model)
    panel = make_panel(model)
    panel.look.link.setCurrentIndex(2)
    assert tuple(model.layers["cells enhanced"].contrast_limits) == (0, 60000)
    panel.shut_down()
    assert state(model) == before


# --- difference -----------------------------------------------------------------------------


def test_a_difference_is_added_where_its_source_lies(make_panel: MakePanel, model: Any, qtbot: Any) -> None:
    panel = make_panel(model)
    said = run(panel, qtbot)
    made = model.layers["cells enhanced − cells"]
    assert "× after" in said and made.colormap.name == "PiYG" and made.data.dtype == np.float32
    assert made.contrast_limits[0] == -made.contrast_limits[1] and tuple(made.scale) == (0.5, 0.5)
    assert abs(float(made.data.mean())) < 1, "the fit leaves no shift"
    assert made.metadata["cellenhance"]["how"] == "fitted"
    assert model.layers.selection.active.name == "cells enhanced"
    assert [layer.name for layer in panel.form.layers()] == ["cells", "cells enhanced"]
    panel.look.how.setCurrentIndex(1)
    assert "after − before" in run(panel, qtbot)


def test_a_difference_of_dask_is_lazy(make_panel: MakePanel, qtbot: Any) -> None:
    viewer = ViewerModel()
    rng = np.random.default_rng(0)
    viewer.add_image(da.from_array(rng.random((4, 32, 32)), chunks=(1, 32, 32)), name="cells")
    viewer.add_image(rng.random((4, 32, 32)), name="cells enhanced", metadata=RECORD)
    panel = make_panel(viewer)
    run(panel, qtbot)
    assert isinstance(viewer.layers["cells enhanced − cells"].data, da.Array)


# --- numbers and figure ---------------------------------------------------------------------


def test_numbers_fill_the_table_and_are_saved(make_panel: MakePanel, model: Any, qtbot: Any, tmp_path: Path) -> None:
    truth = (model.layers["cells enhanced"].data > 0).astype(int)
    model.add_labels(truth, name="by hand", scale=(0.5, 0.5))
    panel = make_panel(model)
    panel.tabs.setCurrentWidget(panel.numbers)
    panel.numbers.labels.choose(model.layers["by hand"])
    panel.numbers.reference.choose(model.layers["cells"])
    said = run(panel, qtbot)
    table = panel.numbers.table
    titles = [table.verticalHeaderItem(row).text() for row in range(table.rowCount())]
    assert {"Contrast ratio", "SNR", "FRC resolution, µm", "SSIM", "AP at IoU 0.5"} <= set(titles)
    assert table.texts()[titles.index("SNR")][1] == "∞" and "neighbouring pixels" in said
    assert "Fourier" in table.verticalHeaderItem(titles.index("FRC resolution, px")).toolTip()
    panel.numbers.save_csv(str(tmp_path / "numbers"))
    with open(tmp_path / "numbers.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["image"] for row in rows] == ["cells", "cells enhanced"] and float(rows[0]["frc_um"]) > 0
    assert json.loads((tmp_path / "numbers.csv.json").read_text(encoding="utf-8"))["mask"] == "by hand"


def test_a_figure_is_saved_as_it_is_shown(
    make_panel: MakePanel, model: Any, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.layers["cells"].contrast_limits = (50, 400)
    panel = make_panel(model)
    panel.tabs.setCurrentWidget(panel.figure)
    path = tmp_path / "figure"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), "SVG (*.svg)"))
    assert "Saved" in run(panel, qtbot)
    text = (tmp_path / "figure.svg").read_text(encoding="utf-8")
    assert "50 … 400" in text and "10 µm" in text and "NU-Net, strength 8" in text and text.count("<image") == 3
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: ("", ""))
    panel.run()
    assert panel._job is None, "nobody wanted a file"
    panel.figure.difference.setCurrentIndex(2)
    run(panel, qtbot, lambda: panel.figure.save(str(tmp_path / "two.svg")))
    assert (tmp_path / "two.svg").read_text(encoding="utf-8").count("<image") == 2


def test_plots_show_the_same_layers(window: Any, qtbot: Any) -> None:
    _, panel = window.window.add_plugin_dock_widget("napari-cellenhance", "Compare")
    panel.look.plot_wanted.emit("histogram")
    from napari_cellenhance.widgets._docking import MEASURE, open_panel

    measure = open_panel(window, MEASURE, "Measure")
    assert measure.tab() is measure.histogram
    assert measure.form.raw.layer().name == "cells"
    assert [layer.name for layer in measure.form.ticked()] == ["cells enhanced"]
    panel.look.plot_wanted.emit("profile")
    assert measure.tab() is measure.profile
    assert {layer.name for layer in measure.profile.images.ticked()} == {"cells", "cells enhanced"}
    measure.shut_down()
    panel.look.look("side")
    window.window.remove_dock_widget(panel)
    assert not window.canvas.grid.enabled, "closing the dock brings the view back"
