"""The dock “Crop library” with small images: find in every way, drag thresholds, move crops, save, open again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QEvent, QMimeData, QPointF, Qt
from qtpy.QtGui import QDropEvent, QMouseEvent
from qtpy.QtWidgets import QAbstractSpinBox, QApplication, QCheckBox, QComboBox, QMessageBox, QPushButton
from scipy.ndimage import gaussian_filter

from napari_cellenhance.core.crop_library import CropClass
from napari_cellenhance.io.crop_folders import read_library
from napari_cellenhance.widgets import crop_library
from napari_cellenhance.widgets._crop_grid import MIME, numbers_of
from napari_cellenhance.widgets._crop_layers import OVERLAY
from napari_cellenhance.widgets._crop_overlay import CLASS_COLOURS
from napari_cellenhance.widgets.crop_library import CropPanel

MakePanel = Callable[[Any], CropPanel]
SHAPE = (96, 128)
CENTRES = ((24, 24), (24, 64), (24, 104), (68, 24), (68, 64), (68, 104))
BLUR_PX = (0.7, 0.7, 0.7, 4.0, 4.0, 4.0)
SHARP, BLURRED = CENTRES[:3], CENTRES[3:]
PATIENCE_MS = 20_000


def field(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three sharp discs above three blurred ones, and their labels."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    image, labels = np.full(SHAPE, 20.0), np.zeros(SHAPE, np.int32)
    for i, ((cy, cx), blur) in enumerate(zip(CENTRES, BLUR_PX, strict=True), 1):
        disc = np.hypot(y - cy, x - cx) <= 9
        image += gaussian_filter(150.0 * disc, blur)
        labels[disc] = i
    noise = np.random.default_rng(seed).normal(0, 1, SHAPE)
    return (image + noise).clip(0, 255).astype(np.uint8), labels


@pytest.fixture
def viewer() -> ViewerModel:
    viewer = ViewerModel()
    viewer.add_image(field()[0], name="cells", scale=(0.5, 0.5), translate=(10, 20), units=("um", "um"))
    return viewer


@pytest.fixture
def make_panel(keep_panel: Any) -> MakePanel:
    def make(viewer: Any) -> CropPanel:
        panel: CropPanel = keep_panel(CropPanel(viewer))
        return panel

    return make


@pytest.fixture
def panel(make_panel: MakePanel, viewer: ViewerModel) -> CropPanel:
    return make_panel(viewer)


def choose(combo: QComboBox, data: Any) -> None:
    combo.setCurrentIndex(combo.findData(data))


def text_of(panel: CropPanel) -> str:
    return str(panel.foot.message.text())


def finish(qtbot: Any, panel: CropPanel) -> None:
    qtbot.waitUntil(lambda: panel._job is None, timeout=PATIENCE_MS)


def find(qtbot: Any, panel: CropPanel) -> None:
    panel.run()
    finish(qtbot, panel)


def filled(qtbot: Any, panel: CropPanel) -> CropPanel:
    """Three wanted and three unwanted crops."""
    find(qtbot, panel)
    panel.add_found()
    assert counts(panel) == (3, 3, 0)
    return panel


def counts(panel: CropPanel) -> tuple[int, ...]:
    return tuple(panel.shelf.collection.counts().values())


def centres_of(panel: CropPanel, kind: CropClass) -> list[tuple[int, int]]:
    """Centres of the discs that a class holds."""
    boxes = [np.array(one.crop.box) for one in panel.shelf.collection.of(kind)]
    middles = [(box[:2] + box[2:]) / 2 for box in boxes]
    return sorted(min(CENTRES, key=lambda c: float(np.hypot(*(np.array(c) - middle)))) for middle in middles)


def grid(panel: CropPanel, kind: CropClass) -> Any:
    return panel.page.grids[kind]


# --- finding ------------------------------------------------------------------------------------


def test_sharp_and_blurred_objects_are_outlined(qtbot: Any, panel: CropPanel, viewer: ViewerModel) -> None:
    find(qtbot, panel)
    assert text_of(panel) == "Found: 3 wanted, 3 not wanted, 0 thrown out."
    outlines = panel.outlines.layer
    assert outlines in viewer.layers and outlines.contour > 0 and not outlines.editable
    assert outlines.scale.tolist() == [0.5, 0.5] and outlines.translate.tolist() == [10, 20]
    assert viewer.layers.selection.active is viewer.layers["cells"]
    colours = [outlines.colormap.map(int(outlines.data[centre])) for centre in (SHARP[0], BLURRED[0])]
    for colour, kind in zip(colours, ("target", "unwanted"), strict=True):
        expected = [int(CLASS_COLOURS[kind][i : i + 2], 16) / 255 for i in (1, 3, 5)]
        np.testing.assert_allclose(np.ravel(colour)[:3], expected, atol=0.01)
    names = [curve.name for curve in panel.sorting.plot.content.curves]
    assert names == ["blurred, not wanted: 3", "sharp, wanted: 3"]


def drag(plot: Any, number: int, shift_px: float) -> None:
    start = plot.place_of_mark(number)
    end = QPointF(start.x() + shift_px, start.y())
    left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
    for kind, place, button, buttons in (
        (QEvent.Type.MouseButtonPress, start, left, left),
        (QEvent.Type.MouseMove, end, none, left),
        (QEvent.Type.MouseButtonRelease, end, left, none),
    ):
        event = QMouseEvent(kind, place, plot.mapToGlobal(place), button, buttons, Qt.KeyboardModifier.NoModifier)
        QApplication.sendEvent(plot, event)


def test_thresholds_are_dragged_in_the_plot(qtbot: Any, panel: CropPanel) -> None:
    find(qtbot, panel)
    panel.sorting.plot.resize(320, 240)
    before, outlines = panel.sorting.thresholds, panel.outlines.layer
    drag(panel.sorting.plot, 1, 1000.0)  # the sharp line beyond the last object
    qtbot.waitUntil(lambda: panel.found.collection.counts()["target"] <= 1, timeout=PATIENCE_MS)
    assert panel.found.collection.counts()["discarded"] >= 2 and panel.found.collection.counts()["unwanted"] == 3
    assert panel.outlines.layer is outlines, "recoloured, not drawn again"
    assert "neither" in panel.found.collection.of("discarded")[0].reason
    assert panel.sorting.thresholds.low == before.low and panel.sorting.is_by_hand
    drag(panel.sorting.plot, 0, -1000.0)
    qtbot.waitUntil(lambda: panel.found.collection.counts()["unwanted"] <= 1, timeout=PATIENCE_MS)
    panel.sorting.propose.click()
    qtbot.waitUntil(lambda: panel.found.collection.counts()["target"] == 3, timeout=PATIENCE_MS)
    assert panel.sorting.thresholds == before and not panel.sorting.is_by_hand
    drag(panel.sorting.plot, 0, 1000.0)  # a line stops at the other one
    assert panel.sorting.thresholds.low == pytest.approx(before.high)


def test_thresholds_by_keyboard_and_added_as_they_are(qtbot: Any, panel: CropPanel) -> None:
    find(qtbot, panel)
    assert panel.found is not None
    scores = panel.found.result.score_curve
    panel.sorting.high.setValue(float(scores[-1] + scores[-2]) / 2)
    panel.add_found()  # before the timer of the overlay
    assert counts(panel) == (1, 3, 2)
    panel.page.refill()
    assert "neither sharp nor blurred: 2" in panel.page.reasons.text()


def test_settings_are_followed_at_once_on_small_images(qtbot: Any, panel: CropPanel) -> None:
    find(qtbot, panel)
    panel.form.min_area.setValue(300)  # the blurred discs are larger
    qtbot.waitUntil(lambda: panel.found.collection.counts()["discarded"] >= 3, timeout=PATIENCE_MS)
    panel.form.max_area.setValue(100)
    assert "largest area is below" in text_of(panel) and not panel.foot.run.isEnabled()


def test_large_images_are_found_again_on_request(qtbot: Any, panel: CropPanel, monkeypatch: pytest.MonkeyPatch) -> None:
    find(qtbot, panel)
    monkeypatch.setattr(crop_library, "_LIVE_PX", 10)
    panel.form.min_area.setValue(300)
    qtbot.waitUntil(lambda: "press “Find objects” again" in text_of(panel), timeout=PATIENCE_MS)
    assert panel.found.collection.counts()["discarded"] == 0


@pytest.mark.parametrize(("choice", "expected"), [("target", (6, 0, 0)), ("unwanted", (0, 6, 0))])
def test_all_of_one_class(qtbot: Any, panel: CropPanel, choice: str, expected: tuple[int, ...]) -> None:
    choose(panel.form.sort, choice)
    find(qtbot, panel)
    panel.add_found()
    assert counts(panel) == expected
    assert panel.page.advice.text().startswith("One class only" if expected[0] else "Nothing is wanted yet")


def test_labels_with_numbers(qtbot: Any, panel: CropPanel, viewer: ViewerModel) -> None:
    choose(panel.form.way, "labels")
    assert "Add a Labels layer" in text_of(panel) and not panel.foot.run.isEnabled()
    labels = viewer.add_labels(field()[1], name="ids", scale=(0.5, 0.5), translate=(10, 20), units=("um", "um"))
    find(qtbot, panel)
    assert "Found: 3 wanted, 3 not wanted" in text_of(panel)
    labels.translate = (0, 0)
    panel.run()
    assert "does not lie on “cells” pixel by pixel" in text_of(panel)


def test_painted_classes(qtbot: Any, panel: CropPanel, viewer: ViewerModel) -> None:
    paint = np.zeros(SHAPE, np.int32)
    layer = viewer.add_labels(paint, name="paint", scale=(0.5, 0.5), translate=(10, 20), units=("um", "um"))
    choose(panel.form.way, "painted")
    assert "Nothing is painted on “paint” yet" in text_of(panel)
    ids = field()[1]
    layer.data = np.where((ids == 1) | (ids == 2), 1, np.where(ids == 4, 2, 0))
    assert panel.form.paint.table.roles() == {1: "target", 2: "unwanted"}
    find(qtbot, panel)
    panel.add_found()
    assert counts(panel) == (2, 1, 0) and centres_of(panel, "target") == sorted(SHARP[:2])
    panel.form.paint.table.choose(1, "unwanted")
    panel.form.paint.table.choose(2, "target")
    find(qtbot, panel)
    panel.add_found()
    assert centres_of(panel, "target") == [BLURRED[0]]
    assert "3 of them were in the library before" in text_of(panel)
    layer.data = np.arange(SHAPE[0] * SHAPE[1]).reshape(SHAPE)
    assert "so each is an object rather than a class" in text_of(panel)


def test_points_of_each_class(qtbot: Any, panel: CropPanel, viewer: ViewerModel) -> None:
    choose(panel.form.way, "points")
    assert "Add a Points layer" in text_of(panel)
    world = lambda places: np.array(places) * 0.5 + (10, 20)  # noqa: E731
    viewer.add_points(world(SHARP), name="good")
    bad = viewer.add_points(np.array(BLURRED), name="bad", scale=(0.5, 0.5), translate=(10, 20))
    assert sorted(panel.form.points.table.roles().values()) == ["target", "unwanted"]
    find(qtbot, panel)
    panel.add_found()
    assert centres_of(panel, "target") == sorted(SHARP) and centres_of(panel, "unwanted") == sorted(BLURRED)
    bad.translate = (900, 900)
    panel.run()
    assert "lies beside “cells” (96 × 128 px)" in text_of(panel)


def test_boxes_of_each_class(qtbot: Any, panel: CropPanel, viewer: ViewerModel) -> None:
    def shapes(places: Any) -> list[np.ndarray]:
        return [np.array([(y - 13, x - 13), (y - 13, x + 13), (y + 13, x + 13), (y + 13, x - 13)]) for y, x in places]

    place: dict[str, Any] = {"scale": (0.5, 0.5), "translate": (10, 20)}
    viewer.add_shapes(shapes(SHARP), name="good", **place)
    viewer.add_shapes(shapes(BLURRED[:1]), name="bad", **place)
    choose(panel.form.way, "boxes")
    panel.form.boxes.squares.setValue(0)
    find(qtbot, panel)
    panel.add_found()
    assert centres_of(panel, "target") == sorted(SHARP) and centres_of(panel, "unwanted") == [BLURRED[0]]


def test_dark_objects_are_proposed(qtbot: Any, make_panel: MakePanel) -> None:
    viewer = ViewerModel()
    viewer.add_image(255 - field()[0], name="bright field")
    panel = make_panel(viewer)
    qtbot.waitUntil(panel.form.dark.isChecked, timeout=PATIENCE_MS)
    find(qtbot, panel)
    assert "3 wanted, 3 not wanted" in text_of(panel)


def test_colours_stay_when_asked(qtbot: Any, make_panel: MakePanel) -> None:
    viewer = ViewerModel()
    viewer.add_image(np.repeat(field()[0][..., None], 3, axis=2), name="colours", rgb=True)
    panel = make_panel(viewer)
    filled(qtbot, panel)
    assert panel.shelf.collection.objects[0].crop.pixels.ndim == 2
    panel.form.colours.setChecked(True)
    find(qtbot, panel)
    assert panel.found is not None and panel.found.collection.objects[0].crop.pixels.shape[2] == 3
    panel.add_found()
    assert "cannot be used together" in text_of(panel) and counts(panel) == (3, 3, 0)


def test_a_stack_or_the_plane_in_view(qtbot: Any, make_panel: MakePanel) -> None:
    viewer = ViewerModel()
    pixels = np.stack([field(i)[0] for i in range(3)])
    viewer.add_image(pixels, name="stack", axis_labels=("z", "y", "x"), scale=(2.0, 1.0, 1.0))
    panel = make_panel(viewer)
    choose(panel.form.scope, True)
    viewer.dims.set_current_step(0, 1)
    find(qtbot, panel)
    assert {one.crop.source for one in panel.found.collection.objects} == {"stack, z 1"}
    assert panel.outlines.layer.data.shape == (1, *SHAPE) and panel.outlines.layer.translate.tolist() == [2, 0, 0]
    choose(panel.form.scope, False)
    find(qtbot, panel)
    panel.add_found()
    assert sum(counts(panel)) == 18
    viewer.dims.set_current_step(0, 0)
    panel.tabs.setCurrentIndex(1)
    number = next(i for i, one in enumerate(panel.shelf.collection.objects) if one.crop.source == "stack, z 2")
    kind = panel.shelf.collection.objects[number].kind
    grid(panel, kind).select([number])
    assert viewer.dims.current_step[0] == 2


def test_nothing_to_find_is_said(qtbot: Any, make_panel: MakePanel) -> None:
    viewer = ViewerModel()
    panel = make_panel(viewer)
    assert "Open an image" in text_of(panel)
    viewer.add_image(np.full((32, 32), 5, np.uint8), name="flat")
    find(qtbot, panel)
    assert "All pixels of “flat” are equal" in text_of(panel) and not panel.add.isEnabled()
    assert panel.outlines.layer is None


# --- the library --------------------------------------------------------------------------------


def test_images_are_added_one_after_another(qtbot: Any, panel: CropPanel, viewer: ViewerModel) -> None:
    filled(qtbot, panel)
    assert panel.outlines.layer is None and "Choose the next image" in text_of(panel)
    panel.form.image.choose(viewer.add_image(field(1)[0], name="more"))
    assert not panel.add.isEnabled()
    find(qtbot, panel)
    panel.add_found()
    assert counts(panel) == (6, 6, 0) and panel.tabs.tabText(1) == "2 Library (12 *)"
    assert {one.source for one in panel.shelf.collection.backgrounds} == {"cells", "more"}


def drop(target: Any, data: QMimeData) -> None:
    left, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    target.dropEvent(QDropEvent(QPointF(5, 5), Qt.DropAction.CopyAction, data, left, none))


def test_crops_are_dragged_to_another_class_and_to_the_bin(qtbot: Any, panel: CropPanel) -> None:
    filled(qtbot, panel)
    wanted = grid(panel, "target")
    wanted.select(wanted.numbers[:2])
    moved = wanted.selected()
    data = wanted.model().mimeData(wanted.selectedIndexes())
    assert data.hasFormat(MIME) and numbers_of(data) == moved
    drop(grid(panel, "unwanted"), data)
    assert counts(panel) == (1, 5, 0) and set(moved) <= set(grid(panel, "unwanted").numbers)
    drop(grid(panel, "discarded"), data)
    assert counts(panel) == (1, 3, 2)
    assert panel.page.reasons.text() == "thrown out by hand: 2"
    assert "Thrown out" in panel.page.titles["discarded"].text() and "2" in panel.page.titles["discarded"].text()
    foreign = QMimeData()
    foreign.setText("no crop")
    drop(grid(panel, "target"), foreign)
    assert counts(panel) == (1, 3, 2)


def test_crops_are_moved_by_keys_and_buttons_and_taken_back(qtbot: Any, panel: CropPanel) -> None:
    filled(qtbot, panel)
    wanted = grid(panel, "target")
    wanted.select(wanted.numbers)
    qtbot.keyClick(wanted, Qt.Key.Key_Delete)
    assert counts(panel) == (0, 3, 3)
    bin_ = grid(panel, "discarded")
    bin_.select(bin_.numbers[:1])
    qtbot.keyClick(bin_, Qt.Key.Key_W)
    assert counts(panel) == (1, 3, 2)
    bin_.select(bin_.numbers[:1])
    assert panel.page.to["unwanted"].isEnabled() and not panel.page.to["discarded"].isEnabled()
    panel.page.to["unwanted"].click()
    assert counts(panel) == (1, 4, 1)
    qtbot.keyClick(bin_, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    panel.page.undo.click()
    panel.page.undo.click()
    assert counts(panel) == (3, 3, 0)
    panel.page.undo.click()
    assert counts(panel) == (0, 0, 0) and not panel.page.undo.isEnabled()


def test_a_click_shows_what_is_known_and_the_place(qtbot: Any, panel: CropPanel, viewer: ViewerModel) -> None:
    filled(qtbot, panel)
    panel.tabs.setCurrentIndex(1)
    wanted = grid(panel, "target")
    number = next(i for i in wanted.numbers if centres_of_one(panel, i) == SHARP[1])
    wanted.select([number])
    told = panel.page.about.text()
    assert told.startswith("cells · rows ") and " px · score " in told and told.endswith(" · wanted")
    y, x = viewer.scene.camera.center[-2:]
    np.testing.assert_allclose((y, x), np.array(SHARP[1]) * 0.5 + (10, 20), atol=0.5)
    (box,) = panel.boxes.layer.data
    assert OVERLAY in panel.boxes.layer.metadata and box[:, 0].min() < y < box[:, 0].max()
    other = grid(panel, "unwanted")
    other.select(other.numbers)
    assert wanted.selected() == [] and "3 crops are selected" in panel.page.about.text()
    assert len(panel.boxes.layer.data) == 3
    viewer.layers.remove(viewer.layers["cells"])
    wanted.select([number])
    assert "“cells” is not open" in text_of(panel) and panel.boxes.layer is None


def test_the_image_of_a_crop_is_brought_to_sight(qtbot: Any, panel: CropPanel, viewer: ViewerModel) -> None:
    filled(qtbot, panel)
    bystander = viewer.add_image(np.zeros(SHAPE), name="another channel")
    panel.form.image.choose(viewer.add_image(field(1)[0], name="more"))
    find(qtbot, panel)
    panel.add_found()
    viewer.layers["cells"].visible = False
    viewer.scene.camera.zoom = 0.5
    wanted = grid(panel, "target")
    wanted.select([next(i for i in wanted.numbers if panel.shelf.collection.objects[i].crop.source == "cells")])
    assert [viewer.layers[name].visible for name in ("cells", "more")] == [True, False]
    assert bystander.visible and viewer.scene.camera.zoom == pytest.approx(60 / (19 * 0.5), rel=0.2)
    viewer.scene.camera.zoom = 50.0
    wanted.select([next(i for i in wanted.numbers if panel.shelf.collection.objects[i].crop.source == "more")])
    assert viewer.scene.camera.zoom == 50.0, "never out"


def centres_of_one(panel: CropPanel, number: int) -> tuple[int, int]:
    y0, x0, y1, x1 = panel.shelf.collection.objects[number].crop.box
    return min(CENTRES, key=lambda c: abs(c[0] - (y0 + y1) / 2) + abs(c[1] - (x0 + x1) / 2))


def test_crops_are_shown_in_order(qtbot: Any, panel: CropPanel) -> None:
    filled(qtbot, panel)
    objects = panel.shelf.collection.objects
    shown = [objects[i].score for i in grid(panel, "target").numbers]
    assert shown == sorted(shown, reverse=True)
    choose(panel.page.order, "area")
    areas = [objects[i].crop.area_px for i in grid(panel, "unwanted").numbers]
    assert areas == sorted(areas, reverse=True)
    choose(panel.page.order, "place")
    assert [objects[i].crop.box for i in grid(panel, "target").numbers] == sorted(
        one.crop.box for one in objects if one.kind == "target"
    )


# --- saving and opening -------------------------------------------------------------------------


def test_save_open_edit_and_save_again(qtbot: Any, panel: CropPanel, make_panel: MakePanel, tmp_path: Path) -> None:
    filled(qtbot, panel)
    assert "Not saved yet" in panel.page.state.text()
    folder = tmp_path / "crops"
    panel.save_library(str(folder))
    finish(qtbot, panel)
    assert panel.shelf.is_saved and f"Saved in {folder}" in panel.page.state.text()
    assert (folder / "crops.png").is_file() and len(list((folder / "target").iterdir())) == 3
    other = make_panel(ViewerModel())
    other.open_library(str(folder))
    finish(qtbot, other)
    assert counts(other) == (3, 3, 0) and other.tabs.currentIndex() == 1 and other.shelf.is_saved
    other.page.move_crops([0], "discarded")
    assert "the latest changes are not" in other.page.state.text() and other.page.save.isEnabled()
    other.save()
    finish(qtbot, other)
    again = read_library(folder)
    assert tuple(again.counts().values()) == (2, 3, 1) and other.shelf.steps[0]["images"] == ["cells"]
    assert [one.reason for one in again.of("discarded")] == ["thrown out by hand"]


def test_nothing_of_others_is_overwritten(qtbot: Any, panel: CropPanel, tmp_path: Path) -> None:
    filled(qtbot, panel)
    folder = tmp_path / "crops"
    panel.save_library(str(folder))
    finish(qtbot, panel)
    next((folder / "target").iterdir()).rename(folder / "unwanted" / "by_hand.tif")
    panel.page.move_crops([0], "discarded")
    panel.save()
    assert "was changed by another program" in text_of(panel) and not panel.shelf.is_saved
    panel.save_library(str(folder))
    finish(qtbot, panel)
    assert "holds crops already" in text_of(panel) and (folder / "unwanted" / "by_hand.tif").exists()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_bytes(b"x")
    panel.save_library(str(tmp_path / "photos"))
    finish(qtbot, panel)
    assert "holds other things (holiday.jpg)" in text_of(panel) and not panel.shelf.is_saved
    panel.open_library(str(tmp_path / "photos"))
    finish(qtbot, panel)
    assert "is no library of crops" in text_of(panel) and sum(counts(panel)) == 6


def test_unsaved_changes_are_asked_for(
    qtbot: Any, panel: CropPanel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []
    answers = [QMessageBox.StandardButton.Cancel, QMessageBox.StandardButton.Discard]

    def question(*args: Any) -> Any:
        asked.append(args[2])
        return answers[len(asked) - 1]

    monkeypatch.setattr(crop_library.QMessageBox, "question", question)
    filled(qtbot, panel)
    panel.page.clear.click()
    assert "3 wanted, 3 not wanted, 0 thrown out" in asked[0] and sum(counts(panel)) == 6
    panel.page.clear.click()
    assert sum(counts(panel)) == 0 and panel.shelf.folder is None and "empty" in panel.page.advice.text()
    panel.page.clear.click()
    assert len(asked) == 2, "an empty library is not worth a question"


def test_a_closed_dock_loses_nothing(qtbot: Any, panel: CropPanel, make_panel: MakePanel, viewer: Any) -> None:
    filled(qtbot, panel)
    find(qtbot, panel)
    panel.shut_down()
    assert [layer.name for layer in viewer.layers] == ["cells"]
    again = make_panel(viewer)
    assert counts(again) == (3, 3, 0) and not again.shelf.is_saved and "is here again" in text_of(again)
    assert counts(make_panel(viewer)) == (0, 0, 0)


def test_a_contact_sheet(qtbot: Any, panel: CropPanel, tmp_path: Path) -> None:
    filled(qtbot, panel)
    panel.save_sheet(str(tmp_path / "sheet"))
    finish(qtbot, panel)
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


# --- the panel as a whole -----------------------------------------------------------------------


def test_everything_says_what_it_is_for(panel: CropPanel) -> None:
    kinds = (QPushButton, QCheckBox, QComboBox, QAbstractSpinBox)
    for widget in [found for kind in kinds for found in panel.findChildren(kind)]:
        if widget.objectName().startswith("qt_") or isinstance(widget.parent(), QComboBox):
            continue
        assert widget.toolTip(), widget
        assert isinstance(widget, QPushButton | QCheckBox) or widget.accessibleName(), widget


def test_in_a_real_window_by_the_door_of_the_manifest(make_napari_viewer: Any, qtbot: Any) -> None:
    viewer = make_napari_viewer(show=True)
    viewer.add_image(field()[0], name="cells")
    viewer.add_points(np.array(SHARP), name="good")
    docked, panel = viewer.window.add_plugin_dock_widget("napari-cellenhance", "Crop library")
    assert panel.minimumSizeHint().width() <= 380
    find(qtbot, panel)
    panel.form.score_fold.button.setChecked(True)
    for row in range(panel.form.way.count()):
        panel.form.way.setCurrentIndex(row)
        qtbot.wait(20)
        area = panel.tabs.widget(0)
        assert area.widget().minimumSizeHint().width() <= area.viewport().width(), "nothing is cut off"
    choose(panel.form.way, "segment")
    find(qtbot, panel)
    panel.add_found()
    panel.tabs.setCurrentIndex(1)
    qtbot.wait(50)
    assert panel.page.thumbnails.n_made == 6
    viewer.window.remove_dock_widget(docked)
    qtbot.waitUntil(lambda: panel._gone.is_set(), timeout=5000)
    panel.deleteLater()


def test_thousands_of_crops_are_drawn_when_they_are_seen(qtbot: Any, panel: CropPanel) -> None:
    from dataclasses import replace

    from napari_cellenhance.core.crop_library import CropLibrary

    filled(qtbot, panel)
    library = panel.shelf.collection
    many = [replace(one, crop=replace(one.crop)) for one in library.objects for _ in range(500)]
    panel.shelf.show_opened((Path("many"), CropLibrary(objects=tuple(many)), [], frozenset()))
    panel.resize(400, 700)
    panel.tabs.setCurrentIndex(1)
    panel.show()
    qtbot.waitUntil(lambda: panel.page.thumbnails.n_made > 0, timeout=PATIENCE_MS)
    assert panel.page.thumbnails.n_made < 200
    panel.hide()
