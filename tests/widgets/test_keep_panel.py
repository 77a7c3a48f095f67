"""The dock “Keep only…” with small images: teach from crops or a movie, watch, take apart, find objects live."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QLineEdit,
    QListWidget,
    QPushButton,
    QSlider,
    QTableWidget,
)

from napari_cellenhance.core.crops import Background, CropSet, ObjectCrop
from napari_cellenhance.io.crop_folders import write_crops
from napari_cellenhance.widgets import _keep_now, _keep_run, _learning_dock, _model_now, _settings, keep
from napari_cellenhance.widgets._layers import METADATA_KEY, PREVIEW_MARK
from napari_cellenhance.widgets.keep import KeepPanel
from napari_cellenhance.workflows.catalog import list_filters
from napari_cellenhance.workflows.separate import list_separators
from napari_cellenhance.workflows.train_semantic import SemanticRequest

MakePanel = Callable[..., Any]
PATIENCE_MS = 120_000
SMALL = {"width": 3, "batch_size": 1, "n_validation": 2, "validate_every": 2, "precision": "float32"}


def crop_set(n_channels: int = 0, *, has_unwanted: bool = True) -> CropSet:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-5:6, -5:6]
    disc, bar, nothing = np.hypot(y, x) <= 5, np.abs(x) <= 1, np.zeros((40, 40), bool)

    def crop(mask: Any, source: str) -> ObjectCrop:
        pixels = np.where(mask, np.rint(60 + rng.random(mask.shape) * 120), 0).astype(np.float32)
        pixels = np.repeat(pixels[..., None], n_channels, 2) if n_channels else pixels
        return ObjectCrop(pixels=pixels, mask=mask, source=source, box=(0, 0, 11, 11))

    names = ["a.tif", "b.tif"]
    ground = np.rint(10 + rng.random((40, 40)) * 5).astype(np.float32)
    ground = np.repeat(ground[..., None], n_channels, 2) if n_channels else ground
    return CropSet(
        target=tuple(crop(disc, name) for name in names for _ in range(2)),
        unwanted=tuple(crop(bar, name) for name in names) if has_unwanted else (),
        backgrounds=tuple(Background(pixels=ground, mask=nothing, source=name) for name in names),
    )


def movie(n: int = 8, height: int = 40, width: int = 48) -> Any:
    rng = np.random.default_rng(1)
    frames = 180 + rng.normal(0, 2, (n, height, width))
    for t in range(n):
        y, x = rng.integers(0, 30, 2)
        frames[t, y : y + 8, x : x + 8] -= 90
    return frames.clip(0, 255).astype(np.uint8)


def blobs(*shape: int) -> Any:
    """Bright squares of 8 px, the same in each plane."""
    image = np.full(shape, 20, np.uint8)
    for y, x in ((4, 4), (4, 24), (24, 10)):
        image[..., y : y + 8, x : x + 8] = 180
    return image


def on_screen(layer: Any) -> None:
    """Say that all of a layer is seen, as a canvas does."""
    high = np.zeros(layer.ndim, int)
    high[-2:] = np.array(layer.data.shape[-2:]) - 1
    layer.corner_pixels = np.array([np.zeros(layer.ndim, int), high])


def add(viewer: ViewerModel, pixels: Any, name: str, **kwargs: Any) -> Any:
    layer = viewer.add_image(pixels, name=name, **kwargs)
    if not layer.rgb:
        on_screen(layer)
    return layer


@pytest.fixture
def viewer() -> ViewerModel:
    viewer = ViewerModel()
    add(viewer, blobs(40, 48), "cells", scale=(0.2, 0.2), units=("um", "um"), translate=(3, 4), colormap="magma")
    return viewer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_crops(tmp_path / "discs", crop_set())


@pytest.fixture
def make_panel(monkeypatch: pytest.MonkeyPatch, keep_panel: Any) -> MakePanel:
    for module in (_learning_dock, _model_now, _keep_now):
        monkeypatch.setattr(module, "read_settings", lambda: _settings.PluginSettings(device="cpu"))
    monkeypatch.setattr(_keep_run, "SemanticRequest", lambda **fields: SemanticRequest(**{**fields, **SMALL}))

    def make(viewer: Any, folder: Path | None = None) -> KeepPanel:
        panel: KeepPanel = keep_panel(KeepPanel(viewer))
        settings = panel.settings
        settings.time.setCurrentIndex(settings.time.count() - 1)
        settings.n_steps.setValue(2)
        settings.patch_px.setValue(32)
        settings.crops.scenes.image_px.setValue(32)
        if folder is not None:
            settings.crops.folder.setText(str(folder))
        return panel

    return make


@pytest.fixture
def panel(make_panel: MakePanel, viewer: ViewerModel, folder: Path) -> Any:
    return make_panel(viewer, folder)


def choose(combo: QComboBox, data: Any) -> None:
    combo.setCurrentIndex(combo.findData(data))


def text_of(panel: Any) -> str:
    return str(panel.foot.message.text())


def finish(qtbot: Any, part: Any) -> None:
    qtbot.waitUntil(lambda: part._job is None, timeout=PATIENCE_MS)


def train(qtbot: Any, panel: Any, name: str = "Mine") -> None:
    panel.settings.name.setText(name)
    panel.train()
    finish(qtbot, panel)


# --- what is said -------------------------------------------------------------------------------


def test_a_dock_without_any_model_says_what_to_do(
    make_panel: MakePanel, viewer: ViewerModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (keep, _keep_now):
        monkeypatch.setattr(module, "list_separators", tuple)
    panel = make_panel(viewer, folder)
    assert "Teach one under “2 Teach”" in panel.now.foot.message.text() and not panel.now.foot.run.isEnabled()
    assert "4 crops “target”, 2 “unwanted”, 2 backgrounds" in panel.settings.crops.note.text()
    assert panel.foot.run.isEnabled() and panel.settings.name.text() == "Keep discs"
    assert panel.settings.crops.keep.itemText(1) == "“unwanted” (2 crops)"


def test_folders_that_cannot_teach_say_why(panel: Any, tmp_path: Path) -> None:
    crops = panel.settings.crops
    crops.folder.setText("")
    assert "Choose a folder of crops" in text_of(panel) and not panel.foot.run.isEnabled()
    crops.folder.setText(str(tmp_path / "none"))
    assert "There is no folder" in text_of(panel)
    (tmp_path / "empty").mkdir()
    crops.folder.setText(str(tmp_path / "empty"))
    assert "is no folder of crops" in text_of(panel) and "Crop library" in text_of(panel)
    for name in ("target", "unwanted"):
        (tmp_path / "empty" / name).mkdir()
    crops.folder.setText(f"{tmp_path / 'empty'} ")
    crops.folder.setText(str(tmp_path / "empty"))
    assert "There are no crops" in text_of(panel)
    one_kind = write_crops(tmp_path / "one", crop_set(has_unwanted=False))
    crops.folder.setText(str(one_kind))
    assert "crops of one kind only" in crops.note.text() and panel.foot.run.isEnabled()
    crops.keep.setCurrentIndex(1)
    assert "no crops of the kind to keep (“unwanted”)" in text_of(panel)
    crops.keep.setCurrentIndex(0)
    crops.dark.setChecked(True)
    choose(crops.scale, "p99")
    assert "Dark objects need a range" in text_of(panel)
    choose(crops.scale, "fixed")
    assert panel.foot.run.isEnabled()
    crops.low.setValue(50)
    crops.high.setValue(20)
    assert "ends before it begins" in text_of(panel)
    crops.high.setValue(200)
    panel.settings.name.setText(" ")
    assert "a name" in text_of(panel)


def test_movies_that_cannot_teach_say_why(make_panel: MakePanel, qtbot: Any) -> None:
    viewer = ViewerModel()
    panel = make_panel(viewer)
    choose(panel.settings.way, "movie")
    assert "Open an image" in text_of(panel) and "Open an image" in panel.now.foot.message.text()
    plane = add(viewer, blobs(40, 48), "plane")
    movies = panel.settings.movie.movies
    movies.check(plane)
    assert "“plane” has no time axis (its axes are YX)" in text_of(panel)
    movies.check(plane, is_checked=False)
    short = add(viewer, movie(2), "short", axis_labels=("t", "y", "x"))
    movies.check(short)
    assert "“short” has 2 frames; a movie of 3" in text_of(panel)
    movies.check(short, is_checked=False)
    good = add(viewer, movie(8), "worms", axis_labels=("t", "y", "x"))
    movies.check(good)
    panel.settings.movie.lag.setValue(4)
    assert "A lag of 4 is too long for the 8 frames of “worms”; choose 3 or less" in text_of(panel)
    panel.settings.movie.lag.setValue(3)
    assert panel.foot.run.isEnabled() and panel.settings.name.text() == "Background of worms"
    flat = add(viewer, np.full((8, 40, 48), 7, np.uint8), "flat", axis_labels=("t", "y", "x"), contrast_limits=(0, 9))
    movies.check(good, is_checked=False)
    movies.check(flat)
    panel.train()
    finish(qtbot, panel)
    assert "one single grey value" in text_of(panel) and panel.foot.run.isEnabled()


def test_a_request_says_what_the_dock_says(panel: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_keep_run, "SemanticRequest", SemanticRequest)
    settings, crops = panel.settings, panel.settings.crops
    choose(crops.preset, "microglia")
    request: SemanticRequest = panel.request()
    assert request.data == folder and request.preset == "microglia" and not request.is_swapped
    scene = request.scene
    assert scene is not None and (scene.size_px, scene.n_unwanted, scene.gain) == (512, (3, 6), (0.05, 10.0))
    assert request.batch_size == 12 and request.n_steps == 853_333 and request.model_id == "keep-discs"
    choose(crops.preset, "dock")
    crops.keep.setCurrentIndex(1)
    crops.apart.setChecked(True)
    crops.scenes.boxes["n_target"][0].setValue(9)
    crops.scenes.as_many.setChecked(False)
    crops.scenes.overlap.setValue(40)
    choose(crops.scale, "log")
    crops.low.setValue(5)
    crops.high.setValue(900)
    settings.seed.setValue(7)
    settings.time.setCurrentIndex(0)
    request = panel.request()
    scene = request.scene
    assert scene is not None and scene.is_taken_apart and scene.n_target == (9, 9), "the other end comes along"
    assert scene.max_overlap == pytest.approx(0.4) and request.is_swapped
    assert settings.name.text() == "Keep the others of discs"
    assert (request.scaling, request.low, request.high) == ("log", 5.0, 900.0)
    assert (request.seed, request.n_steps, request.time_limit_s, request.n_validation) == (7, 0, 60.0, 8)


# --- before a training --------------------------------------------------------------------------


def test_synthetic_pairs_follow_the_form(panel: Any, qtbot: Any) -> None:
    crops = panel.settings.crops
    look = crops.look
    qtbot.waitUntil(lambda: look.made is not None, timeout=20000)
    first = look.made
    assert look.grid.titles[:3] == ["Image 1", "Image 2", "In both: wanted"] and len(first.rows) == 3
    image, other, wanted = first.rows[0]
    assert image.shape == (32, 32) and wanted.max() > 0.2 and not np.array_equal(image, other)
    look.another.click()
    qtbot.waitUntil(lambda: look.made is not first, timeout=20000)
    second = look.made
    crops.keep.setCurrentIndex(1)
    qtbot.waitUntil(lambda: look.made is not second, timeout=20000)
    crops.scenes.image_px.setValue(64)
    qtbot.waitUntil(lambda: look.made.rows[0][0].shape == (64, 64), timeout=20000)
    assert not look.grid.grab().toImage().isNull()
    crops.folder.setText("")
    qtbot.waitUntil(lambda: look.made is None, timeout=20000)
    assert look.another.isHidden()


def test_crops_that_were_moved_are_seen(panel: Any, folder: Path, qtbot: Any) -> None:
    crops = panel.settings.crops
    panel.show()
    qtbot.waitUntil(lambda: crops.look.made is not None, timeout=20000)
    before = crops.look.made
    moved = sorted((folder / "target").iterdir())[0]
    moved.rename(folder / "unwanted" / moved.name)
    panel.tabs.setCurrentIndex(1)
    assert "3 crops “target”, 3 “unwanted”" in crops.note.text()
    qtbot.waitUntil(lambda: crops.look.made is not before, timeout=20000)


def test_the_scene_of_a_movie_is_judged_before(make_panel: MakePanel, qtbot: Any) -> None:
    viewer = ViewerModel()
    still = movie(10)
    still[:7, 2:14, 2:14] = 60
    add(viewer, movie(10), "good", axis_labels=("t", "y", "x"))
    add(viewer, still, "still", axis_labels=("t", "y", "x"))
    panel = make_panel(viewer)
    panel.show()
    panel.tabs.setCurrentIndex(1)
    choose(panel.settings.way, "movie")
    part = panel.settings.movie
    for layer in viewer.layers:
        part.movies.check(layer, is_checked=layer.name == "good")
    qtbot.waitUntil(lambda: part.look.grid.titles[:1] == ["Median of good"], timeout=20000)
    assert "The median is clean" in part.look.note.text() and "dark" in part.look.note.text()
    assert part.look.grid.titles == ["Median of good", "Covered"]
    for layer in viewer.layers:
        part.movies.check(layer, is_checked=layer.name == "still")
    choose(part.polarity, "dark")
    qtbot.waitUntil(lambda: "will take it for the scene" in part.look.note.text(), timeout=20000)
    assert "The median is clean" not in part.look.note.text()


# --- teaching and taking apart ------------------------------------------------------------------


def test_teach_from_crops_take_apart_and_find_objects_live(panel: Any, viewer: ViewerModel, qtbot: Any) -> None:
    panel.now.boxes["boxes"].setChecked(True)
    train(qtbot, panel)
    said = text_of(panel)
    assert "“Mine” is ready" in said and "On synthetic images of crops kept aside" in said and "“cells kept”" in said
    source, kept, rest = (viewer.layers[name] for name in ("cells", "cells kept", "cells everything else"))
    for name in ("kept", "everything else", "objects", "boxes"):
        layer = viewer.layers[f"cells {name}"]
        json.dumps(layer.metadata[METADATA_KEY])
        assert layer.metadata[METADATA_KEY]["model"] == "mine"
        assert np.allclose(layer.scale, source.scale) and np.allclose(layer.translate, source.translate)
    assert np.allclose(kept.data + rest.data, source.data, atol=1e-3) and kept.colormap.name == "magma"
    assert list(kept.contrast_limits) == list(source.contrast_limits) == list(rest.contrast_limits)
    assert not rest.visible and "mine" in {info.id for info in list_filters()} and panel.now.card().title == "Mine"
    assert panel.settings.start.findData("mine") > 0 and not panel.settings.duration.replaces.isHidden()
    names = [curve.name for curve in panel.view.plot.content.curves]
    assert names == ["Each update", "Smoothed", "On pixels kept aside"]
    assert "correlation" in panel.view.meaning.text()
    for name in ("correlation", "psnr_db", "f1", "leak", "learning_rate"):
        choose(panel.view.shown, name)
        assert len(panel.view.plot.content.curves) == 1, name

    form, objects = panel.now.objects.forms[False], viewer.layers["cells objects"]
    boxes = viewer.layers["cells boxes"]
    form.split.setChecked(False)
    form.openings.setValue(0)
    form.min_size.setValue(1)
    form.threshold.setValue(60)

    def is_there() -> bool:
        settings = objects.metadata[METADATA_KEY]["objects"]
        return settings["threshold_factor"] == 0.6 and settings["min_size_px"] == 1

    qtbot.waitUntil(is_there, timeout=20000)
    n = int(objects.data.max())
    assert n > 0 and len(boxes.data) == n and objects.metadata[METADATA_KEY]["n_objects"] == n
    assert f"{n} object" in panel.now.objects.note.text() and boxes.data[0].shape == (4, 2)
    form.min_size.setValue(1_000_000)
    qtbot.waitUntil(lambda: not objects.data.any(), timeout=20000)
    assert len(boxes.data) == 0
    viewer.layers.remove(objects)
    viewer.layers.remove(boxes)
    form.min_size.setValue(2)
    assert panel.now.objects.followed == []


def test_a_movie_is_taken_apart_by_what_it_taught(make_panel: MakePanel, qtbot: Any) -> None:
    viewer = ViewerModel()
    frames = movie(8)
    add(viewer, frames, "worms", axis_labels=("t", "y", "x"))
    add(viewer, blobs(40, 48), "other")
    panel = make_panel(viewer)
    choose(panel.settings.way, "movie")
    panel.settings.movie.movies.check(viewer.layers["other"], is_checked=False)
    panel.settings.movie.movies.check(viewer.layers["worms"])
    panel.settings.movie.lag.setValue(2)
    choose(panel.settings.movie.polarity, "both")
    train(qtbot, panel)
    said = text_of(panel)
    assert "On frames kept aside" in said and "“worms what moves”" in said, said
    moving, scene, objects = (viewer.layers[f"worms {name}"] for name in ("what moves", "background", "objects"))
    source = viewer.layers["worms"]
    assert list(scene.contrast_limits) == list(source.contrast_limits) != list(moving.contrast_limits)
    assert moving.data.shape == scene.data.shape == objects.data.shape == frames.shape
    assert np.allclose(np.abs(scene.data - frames), moving.data, atol=1e-3), "both polarities: the distance"
    assert "other what moves" not in viewer.layers and panel.now.boxes["target"].text() == "What moves"
    assert panel.now.objects.forms[False].isHidden() and panel.now.boxes["unwanted"].isHidden()
    assert [panel.view.shown.itemData(i) for i in range(4)] == ["total", "ghost", "scene_error", "learning_rate"]
    form = panel.now.objects.forms[True]
    form.min_size.setValue(0)
    form.threshold.setValue(1)

    def is_there() -> bool:
        return abs(objects.metadata[METADATA_KEY]["objects"]["threshold_value"] - 1 / 255) < 1e-9

    qtbot.waitUntil(is_there, timeout=20000)
    assert objects.data.any()


@pytest.mark.parametrize(
    ("shape", "labels", "channels", "is_lazy"),
    [((2, 2, 40, 48), ("t", "z", "y", "x"), None, True), ((2, 40, 48), ("channel", "y", "x"), None, False),
     ((2, 2, 40, 48), ("t", "channel", "y", "x"), "Channel 1 only", False)],
)  # fmt: skip
def test_stacks_and_channels_come_back_in_place(
    make_panel: MakePanel, qtbot: Any, folder: Path, shape: tuple[int, ...], labels: tuple[str, ...], channels: Any,
    is_lazy: bool,
) -> None:  # fmt: skip
    viewer = ViewerModel()
    data = da.from_array(blobs(*shape), chunks=(1,) * (len(shape) - 2) + shape[-2:]) if is_lazy else blobs(*shape)
    source = add(viewer, data, "stack", axis_labels=labels, scale=tuple(1.0 + i for i in range(len(shape))))
    panel = make_panel(viewer, folder)
    form = panel.images.current_form()
    if channels is not None:
        form.image.channels.setCurrentText(channels)
    has_all = channels is None and "channel" in labels
    for name in ("labels", "boxes"):
        panel.now.boxes[name].setChecked(not has_all)
    train(qtbot, panel)
    kept = viewer.layers["stack kept"]
    assert kept.ndim == source.ndim
    if has_all:
        assert kept.data.shape == shape
        panel.now.boxes["labels"].setChecked(True)
        assert "Objects are found in one channel" in panel.now.foot.message.text()
        return
    objects, boxes = viewer.layers["stack objects"], viewer.layers["stack boxes"]
    assert objects.data.shape == kept.data.shape and boxes.ndim == source.ndim
    for layer in (kept, objects, boxes):
        assert np.allclose(layer.scale, source.scale)
    settings = panel.now.objects.forms[False]
    settings.openings.setValue(0)
    settings.min_size.setValue(1)
    qtbot.waitUntil(lambda: objects.metadata[METADATA_KEY]["objects"]["min_size_px"] == 1, timeout=20000)
    assert len(boxes.data) == objects.metadata[METADATA_KEY]["n_objects"] > 0
    assert objects.data.shape == kept.data.shape


def test_colours_come_back_as_colours(make_panel: MakePanel, qtbot: Any, tmp_path: Path) -> None:
    viewer = ViewerModel()
    colours = np.repeat(blobs(40, 48)[..., None], 3, 2)
    add(viewer, colours, "stained", rgb=True)
    panel = make_panel(viewer, write_crops(tmp_path / "colours", crop_set(3)))
    panel.settings.crops.colour.setChecked(True)
    panel.settings.crops.apart.setChecked(True)
    for name in ("background", "unwanted"):
        panel.now.boxes[name].setChecked(True)
    train(qtbot, panel)
    for name in ("kept", "everything else"):
        layer = viewer.layers[f"stained {name}"]
        assert layer.rgb and layer.data.shape == colours.shape and layer.data.dtype == np.uint8
    assert viewer.layers["stained objects"].data.shape == colours.shape[:2]
    assert not panel.now.boxes["unwanted"].isHidden()
    panel.now.run()
    finish(qtbot, panel.now)
    assert "stained unwanted" in viewer.layers and "stained ground" in viewer.layers
    plane = add(viewer, blobs(40, 48), "grey")
    panel.images.check(plane)
    assert "was taught with 3 channels, and “grey” gives 1" in panel.now.foot.message.text()


# --- objects that nobody annotated ----------------------------------------------------------------


@pytest.fixture
def found(panel: Any, viewer: ViewerModel, qtbot: Any) -> Any:
    """Three objects of the image itself, as if a filter had kept them all."""
    train(qtbot, panel)
    one = panel.now.objects.followed[0]
    one.found.result.wanted[...] = np.asarray(viewer.layers["cells"].data) / 255
    form = panel.now.objects.forms[False]
    form.openings.setValue(0)
    form.min_size.setValue(30)
    objects = viewer.layers["cells objects"]
    qtbot.waitUntil(lambda: len(np.unique(objects.data)) == 4, timeout=20000)
    return panel.now.candidates


def test_objects_nobody_annotated_are_gone_through(found: Any, viewer: ViewerModel) -> None:
    points = viewer.add_points([[7.0, 7.0]], name="seen", scale=(0.2, 0.2), translate=(3, 4), units=("um", "um"))
    found.annotations.choose(points)
    found.search.click()
    assert "2 of 3 objects nobody annotated" in found.note.text() and found.table.rowCount() == 2
    assert not any(button.isHidden() for button in found.buttons.values())
    first = found.current()
    assert first.area_px == 64
    center = np.array(viewer.scene.camera.center[-2:])
    assert np.allclose(center, [3 + 0.2 * first.y, 4 + 0.2 * first.x])
    found.buttons["next"].click()
    second = found.current()
    assert second is not first
    found.buttons["previous"].click()
    assert found.current() is first
    found.buttons["right"].click()
    assert len(points.data) == 2 and np.allclose(points.data[1], [first.y, first.x])
    assert "1 left" in found.note.text() and found.current() == second
    found.buttons["wrong"].click()
    assert "the last one" in found.note.text() and len(points.data) == 2 and found.table.isHidden()
    found.search.click()
    assert "Every object is annotated" in found.note.text(), "what was dismissed stays away"


def test_annotations_can_be_labels_or_new_points(found: Any, viewer: ViewerModel) -> None:
    painted = np.zeros((40, 48), np.uint8)
    painted[4:12, 4:8] = 5
    labels = viewer.add_labels(painted, name="truth")
    found.annotations.choose(labels)
    found.search.click()
    assert "2 of 3" in found.note.text()
    one = found.current()
    found.buttons["right"].click()
    assert np.count_nonzero(labels.data == 6) == 64 and labels.data[one.y, one.x] == 6
    found.annotations.setCurrentIndex(0)
    assert found.table.isHidden(), "another choice, another list"
    found.search.click()
    assert "3 of 3" in found.note.text()
    found.buttons["right"].click()
    made = viewer.layers["cells objects, annotated"]
    assert len(made.data) == 1 and found.table.rowCount() == 2 and found.annotations.layer() is made
    wrong = viewer.add_labels(np.ones((9, 9), np.uint8), name="elsewhere")
    found.annotations.choose(wrong)
    found.search.click()
    assert "choose annotations of the same image" in found.note.text()


# --- stop, discard, resume, picture -------------------------------------------------------------


def test_stop_keeps_the_best_discard_keeps_nothing_resume_goes_on(panel: Any, viewer: ViewerModel, qtbot: Any) -> None:
    panel.settings.n_steps.setValue(100_000)
    panel.settings.name.setText("Long")
    panel.train()
    assert panel.tabs.currentIndex() == 2 and not panel.foot.run.isEnabled()
    qtbot.waitUntil(lambda: len(panel.view.rows) > 3, timeout=PATIENCE_MS)
    panel.foot.cancel.click()
    finish(qtbot, panel)
    assert "Discarded" in text_of(panel) and "long" not in {card.id for card in list_separators()}
    assert panel.resume.isEnabled()
    n_done = panel.view.rows[-1]["step"]
    panel.resume.click()
    qtbot.waitUntil(lambda: bool(panel.view.rows) and panel.view.rows[-1]["step"] > n_done, timeout=PATIENCE_MS)
    assert panel.view.rows[0]["step"] == 1, "the curves begin where they began"
    panel.stop.click()
    finish(qtbot, panel)
    assert "Stopped: “Long” is ready" in text_of(panel) and "cells kept" in viewer.layers


def test_what_is_on_screen_is_shown_while_it_learns(
    panel: Any, viewer: ViewerModel, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_cellenhance.workflows import _train_loop

    monkeypatch.setattr(_train_loop, "GLIMPSE_EVERY_S", 0.0)
    panel.settings.n_steps.setValue(100_000)
    panel.train()
    qtbot.waitUntil(lambda: panel.learning.layer is not None, timeout=PATIENCE_MS)
    shown = panel.learning.layer
    assert shown.name == "learning: cells" and shown.data.shape == (40, 48) and shown.metadata[PREVIEW_MARK]
    assert list(shown.contrast_limits) == list(viewer.layers["cells"].contrast_limits)
    panel.foot.cancel.click()
    finish(qtbot, panel)
    assert panel.learning.layer is None and "learning: cells" not in viewer.layers


def test_the_time_is_measured_before(panel: Any, qtbot: Any) -> None:
    panel.settings.estimate.click()
    finish(qtbot, panel)
    assert "on this computer" in panel.settings.expected.text()
    panel.settings.batch.setValue(3)
    assert "measure again" in panel.settings.expected.text()


def test_separating_can_be_cancelled_and_a_source_that_went_is_said(
    panel: Any, viewer: ViewerModel, qtbot: Any
) -> None:
    train(qtbot, panel)
    n = len(viewer.layers)
    panel.now.run()
    panel.now.foot.cancel.click()
    finish(qtbot, panel.now)
    assert "Cancelled; nothing was added" in panel.now.foot.message.text() and len(viewer.layers) == n
    panel.now.run()
    viewer.layers.remove("cells")
    finish(qtbot, panel.now)
    assert "“cells” was removed meanwhile; nothing was added" in panel.now.foot.message.text()


# --- the window ---------------------------------------------------------------------------------


def test_everything_has_a_name_and_a_tooltip(panel: Any) -> None:
    kinds = (QAbstractSpinBox, QCheckBox, QComboBox, QLineEdit, QListWidget, QPushButton, QSlider, QTableWidget)
    for widget in [w for kind in kinds for w in panel.findChildren(kind)]:
        if widget.objectName() == "qt_spinbox_lineedit":
            continue
        assert widget.toolTip(), widget
        assert isinstance(widget, QPushButton | QCheckBox) or widget.accessibleName(), widget


def test_in_a_real_window_by_the_door_of_the_manifest(make_napari_viewer: Any, qtbot: Any, folder: Path) -> None:
    viewer = make_napari_viewer(show=True)
    viewer.add_image(movie(8), name="worms", axis_labels=("t", "y", "x"))
    docked, panel = viewer.window.add_plugin_dock_widget("napari-cellenhance", "Keep only…")
    assert panel.minimumSizeHint().width() <= 380
    settings = panel.settings
    settings.crops.folder.setText(str(folder))
    qtbot.waitUntil(lambda: settings.crops.look.made is not None, timeout=20000)
    for fold in (settings.advanced, settings.crops.fold, panel.now.objects_fold, panel.now.candidates_fold):
        fold.button.setChecked(True)
    choose(settings.crops.scale, "log")
    ways = [settings.way.itemData(i) for i in range(settings.way.count())]
    for page, way in [(page, way) for page in range(panel.tabs.count()) for way in ways]:
        choose(settings.way, way)
        panel.tabs.setCurrentIndex(page)
        qtbot.wait(20)
        area = panel.tabs.widget(page)
        assert area.widget().minimumSizeHint().width() <= area.viewport().width(), "nothing is cut off"
    viewer.window.remove_dock_widget(docked)
    qtbot.waitUntil(lambda: panel._gone.is_set(), timeout=5000)
