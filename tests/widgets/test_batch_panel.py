"""The Batch dock on small images: counted, run, stopped, gone on with, opened, and the same at the terminal."""

from __future__ import annotations

import csv
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QFileDialog,
    QLineEdit,
    QSlider,
    QTabBar,
)
from typer.testing import CliRunner

from napari_cellenhance.cli import app
from napari_cellenhance.io.images import read, write
from napari_cellenhance.widgets import _batch_images, _worker
from napari_cellenhance.widgets import batch as dock
from napari_cellenhance.widgets._batch_objects import ObjectsWindow, read_rows
from napari_cellenhance.widgets._batch_open import file_layer
from napari_cellenhance.widgets._batch_pages import ended_sentence
from napari_cellenhance.widgets._batch_recipe import dtypes_for, with_objects
from napari_cellenhance.widgets._batch_table import FileRow, state_text, tally_text
from napari_cellenhance.widgets._settings import PluginSettings
from napari_cellenhance.workflows import _batch_files, batch
from napari_cellenhance.workflows.batch import BatchResult, FileNews
from napari_cellenhance.workflows.batch_recipe import Recipe, read_recipe, step_for_model, write_recipe
from napari_cellenhance.workflows.requests import EnhanceRequest, SegmentOptions

NAMES = ("a", "b", "c", "d")


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    """Four images with two bright squares each; the third one is broken."""
    folder = tmp_path / "plate 1"
    folder.mkdir()
    for seed, name in enumerate(NAMES):
        image = np.random.default_rng(seed).integers(0, 20, (40, 50), dtype=np.uint8)
        image[5:15, 5:15] += 200
        image[22:34, 28:44] += 150
        write(folder / f"{name}.tif", image, "YX", dtype="keep", pixel_size_um={"Y": 0.5, "X": 0.5})
    (folder / "c.tif").write_bytes((folder / "c.tif").read_bytes()[:900])
    return folder


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, keep_panel: Any) -> Callable[..., Any]:
    monkeypatch.setattr(_batch_images, "_LOOK_AFTER_MS", 0)

    def make_panel(viewer: Any = None) -> Any:
        panel: Any = keep_panel(dock.BatchPanel(viewer or ViewerModel()))
        return panel

    return make_panel


@pytest.fixture
def panel(make: Callable[..., Any], plate: Path, tmp_path: Path, qtbot: Any) -> Any:
    """Ready to run: gamma, objects, a table."""
    panel = make()
    panel.recipe.filters.choose("gamma")
    panel.recipe.outputs.wants_labels.setChecked(True)
    panel.recipe.measure.setChecked(True)
    panel.target.line.setText(str(tmp_path / "out"))
    panel.images.source.line.setText(str(plate))
    qtbot.waitUntil(panel.foot.run.isEnabled, timeout=30000)
    return panel


def finish(qtbot: Any, panel: Any) -> None:
    qtbot.waitUntil(lambda: panel._job is None, timeout=60000)


def text_of(panel: Any) -> str:
    return str(panel.foot.message.text())


def stages(panel: Any) -> list[str]:
    return [row.stage for row in panel.files.table.model.rows]


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- before a run ---------------------------------------------------------------------------------


def test_what_is_missing_is_said_one_after_the_other(
    make: Callable[..., Any], plate: Path, tmp_path: Path, qtbot: Any
) -> None:
    panel = make()
    assert not panel.foot.run.isEnabled() and "Choose images" in text_of(panel)
    panel.images.source.line.setText(str(tmp_path / "nothing"))
    qtbot.waitUntil(lambda: "there is no file or folder" in panel.images.note.text().lower(), timeout=30000)
    panel.images.source.line.setText(str(plate / "*.tif"))
    qtbot.waitUntil(lambda: panel.images.note.text() == "4 images: a.tif, b.tif, c.tif, …", timeout=30000)
    assert "Choose a folder for the results" in text_of(panel) and not panel.foot.run.isEnabled()
    assert stages(panel) == ["waiting"] * 4 and "Needs about 0." in panel.need.text()
    panel.target.line.setText(str(plate))
    qtbot.waitUntil(lambda: "holds the images themselves" in panel.images.note.text(), timeout=30000)
    panel.target.line.setText(str(tmp_path / "out"))
    qtbot.waitUntil(panel.foot.run.isEnabled, timeout=30000)
    assert text_of(panel) == "" and not (tmp_path / "out").exists()
    panel.run()
    finish(qtbot, panel)
    assert panel._result.n_done == 3


def test_sub_folders_are_counted_when_wished(panel: Any, plate: Path, qtbot: Any) -> None:
    (plate / "sub").mkdir()
    shutil.copy(plate / "a.tif", plate / "sub" / "e.tif")
    panel.images.recursive.setChecked(True)
    qtbot.waitUntil(lambda: panel.images.found is not None, timeout=30000)
    assert panel.images.found.names[-1] == "sub/e.tif" and panel.request().is_recursive


def test_folders_are_chosen_with_buttons(panel: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path / "other"))
    panel.target.button.click()
    assert panel.request().target == str(tmp_path / "other")
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: "")
    panel.target.button.click()
    assert panel.target.text == str(tmp_path / "other")


# --- the recipe -----------------------------------------------------------------------------------


def test_a_filter_with_its_strength_and_what_follows(panel: Any) -> None:
    form = panel.recipe
    form.strength.set_value(2.5)
    form.dark.setChecked(True)
    form.dtype.setCurrentIndex(form.dtype.findData("uint16"))
    form.dtype.activated.emit(1)
    form.outputs.min_size.setValue(7)
    recipe = panel.request().recipe
    (step,) = recipe.steps
    assert (step.filter_id, step.strength, step.objects_are_dark) == ("gamma", 2.5, True)
    assert recipe.labels == SegmentOptions(min_size_px=7) and recipe.measure and recipe.dtype == "uint16"
    assert "gamma, strength 2.5 → label objects (otsu) → measure" in form.words.text()
    form.outputs.wants_labels.setChecked(False)
    assert not form.measure.isEnabled() and not panel.request().recipe.measure


def test_a_denoiser_has_no_strength(panel: Any) -> None:
    form = panel.recipe
    form.filters.choose("n2v2-fluorescence")
    assert form.strength.isHidden() and form.dark.isHidden()
    assert [form.dtype.itemData(i) for i in range(form.dtype.count())] == ["float32", "same"]
    assert "denoise with n2v2-fluorescence" in form.words.text()


def test_a_layer_that_tells_how_it_was_made_is_repeated(make: Callable[..., Any]) -> None:
    viewer = ViewerModel()
    pixels = np.zeros((8, 9), np.float32)
    viewer.add_image(pixels, name="raw")
    record = {"filter": "gamma", "strength": 3.0, "segment": {"method": "li"}}
    viewer.add_image(pixels, name="made", metadata={"cellenhance": record})
    panel = make(viewer)
    form = panel.recipe
    assert form.way.currentData() == "layer" and form.layers.currentText() == "made"
    assert form.recipe().steps[0].strength == 3.0 and form.recipe().labels.method == "li"
    assert form.outputs.isHidden() and form.measure.isEnabled()
    form.layers.setCurrentIndex(0)
    assert "choose a layer that this program made" in form.words.text().lower() and not form.save.isEnabled()
    bad = {"filter": "gamma", "strength_map": {"x": 1}}
    viewer.add_image(pixels, name="by region", metadata={"cellenhance": bad})
    form.layers.setCurrentIndex(form.layers.findText("by region"))
    assert "strengths by region" in form.words.text()


def test_a_recipe_comes_from_a_file_and_goes_to_one(
    panel: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qtbot: Any
) -> None:
    form, path = panel.recipe, tmp_path / "mine.json"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
    wanted = form.recipe()
    form.save.click()
    assert read_recipe(path) == wanted
    form.outputs.wants_labels.setChecked(False)
    form.way.setCurrentIndex(form.way.findData("file"))
    assert "choose a recipe" in form.words.text().lower()
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))
    form.choose.click()
    assert form.recipe() == wanted and form.file_as_it_is == str(path)
    form.file.setText(str(tmp_path / "gone.json"))
    assert not form.save.isEnabled() and "gone.json" in form.words.text() and not panel.foot.run.isEnabled()


@pytest.mark.parametrize(
    ("model", "dtypes"),
    [("gamma", ("float32", "uint16", "uint8")), ("n2v2-fluorescence", ("float32", "same"))],
)
def test_pixel_types_follow_the_last_step(model: str, dtypes: tuple[str, ...]) -> None:
    assert dtypes_for(Recipe(steps=(step_for_model(model),))) == dtypes


def test_objects_are_added_only_where_there_are_none() -> None:
    plain = Recipe(steps=(EnhanceRequest(image=None, axes="", filter_id="gamma"),))
    found = Recipe(steps=plain.steps, labels=SegmentOptions(method="li"))
    assert with_objects(plain, None, measures=True) == plain
    assert with_objects(found, SegmentOptions(), measures=True).labels == found.labels


# --- running --------------------------------------------------------------------------------------


def test_a_broken_file_is_told_and_the_others_are_done(panel: Any, qtbot: Any, tmp_path: Path) -> None:
    seen: list[str] = []
    panel.files.table.model.dataChanged.connect(lambda *_: seen.extend(map(state_text, panel.files.table.model.rows)))
    panel.run()
    assert panel.tabs.currentWidget() is panel.files and not panel.foot.run.isEnabled()
    finish(qtbot, panel)
    assert stages(panel) == ["done", "done", "failed", "done"] and "running" in seen and "writing" in seen
    assert panel.files.table.tally.text() == "3 done, 1 broken"
    assert "3 of 4 files done, 1 broken." in text_of(panel) and "batch_report.json" in text_of(panel)
    rows = panel.files.table.model.rows
    assert [row.outcome.n_objects for row in rows] == [2, 2, None, 2]
    panel.files.table.view.selectRow(2)
    assert "c.tif is cut off" in panel.files.table.sentence.text() and not panel.files.open.isEnabled()
    panel.files.table.broken_only.setChecked(True)
    assert panel.files.table.view.model().rowCount() == 1
    panel.files.table.broken_only.setChecked(False)
    assert "batch_objects.csv" in files_in(tmp_path / "out") and panel.files.objects.isEnabled()

    panel.run()  # again: what is done is skipped
    finish(qtbot, panel)
    assert stages(panel) == ["skipped", "skipped", "failed", "skipped"]
    assert "3 done before, 1 broken" in text_of(panel)


def test_stop_ends_after_the_file_in_hand_and_go_on_does_the_rest(
    panel: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = _batch_files.write_file
    is_first = [True]

    def writing(*rest: Any) -> Any:
        if is_first[0]:
            is_first[0] = False
            panel._job.cancel()
        return real(*rest)

    monkeypatch.setattr(batch, "write_file", writing)
    panel.run()
    finish(qtbot, panel)
    n_done = stages(panel).count("done")
    assert 1 <= n_done <= 2 and "waiting" in stages(panel)
    assert "Stopped:" in text_of(panel) and "Go on does the rest" in text_of(panel)
    assert panel.foot.run.text() == "Go on"
    panel.recipe.strength.set_value(9.0)
    qtbot.waitUntil(panel.foot.run.isEnabled, timeout=30000)
    assert panel.foot.run.text() == "Run"
    panel.recipe.strength.set_value(panel._request.recipe.steps[0].strength)
    qtbot.waitUntil(panel.foot.run.isEnabled, timeout=30000)
    assert panel.foot.run.text() == "Go on"
    panel.foot.run.click()
    finish(qtbot, panel)
    assert stages(panel).count("skipped") == n_done and stages(panel).count("done") == 3 - n_done
    assert panel.foot.run.text() == "Run"


def test_progress_of_the_file_and_of_all_is_shown(panel: Any) -> None:
    panel.files.begin(("a.tif", "b.tif"))
    panel.files.take(FileNews(index=1, name="b.tif", stage="computing", share=0.42))
    assert panel.files.bar.value() == 42 and panel.files.now.text() == "This file: b.tif"
    assert panel.files.table.model.data(panel.files.table.model.index(1, 1)) == "running, 42 %"
    panel.files.end(has_table=False)
    assert panel.files.bar.isHidden() and panel.files.now.isHidden()


def test_what_stops_everything_is_an_error(panel: Any, qtbot: Any, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    panel.run()
    finish(qtbot, panel)
    assert "is a file" in text_of(panel) and panel.foot.run.isEnabled()


def test_one_run_at_a_time_and_none_after_the_dock_is_closed(panel: Any, make: Callable[..., Any], qtbot: Any) -> None:
    job = _worker.start_job("other", lambda *_: None, on_progress=lambda _: None, on_ended=lambda _: None)
    held = _worker._lanes["run"]
    qtbot.waitUntil(lambda: not held.locked(), timeout=30000)
    held.acquire()
    panel.run()
    held.release()
    assert "already running" in text_of(panel) and panel._job is None and job is not None
    panel.run()
    panel.shut_down()
    qtbot.waitUntil(lambda: not _worker.is_busy(), timeout=60000)
    assert panel._result is None or panel._job is None


# --- what comes of it -----------------------------------------------------------------------------


def test_the_command_gives_the_same_files(panel: Any, qtbot: Any, tmp_path: Path) -> None:
    panel.command.copy.click()
    clipboard = QApplication.clipboard()
    assert clipboard is not None
    words = shlex.split(clipboard.text())
    assert words[:2] == ["cellenhance", "batch"] and Path(words[words.index("--recipe") + 1]).is_file()
    panel.run()
    finish(qtbot, panel)
    shutil.move(tmp_path / "out", tmp_path / "by dock")
    (tmp_path / "out").mkdir()
    shutil.copy(tmp_path / "by dock" / "batch_recipe.json", tmp_path / "out")
    told = CliRunner().invoke(app, words[1:])
    assert told.exit_code == 1, told.output  # one file is broken
    names = files_in(tmp_path / "out")
    assert names == files_in(tmp_path / "by dock") and len([n for n in names if n.endswith(".ome.tif")]) == 6
    for name in names:
        mine, theirs = tmp_path / "by dock" / name, tmp_path / "out" / name
        if name.endswith(".tif"):
            np.testing.assert_array_equal(read(mine).image, read(theirs).image)
        elif name.endswith("objects.csv"):
            assert mine.read_bytes() == theirs.read_bytes()
    assert (tmp_path / "out" / "batch_recipe.json").read_text() == (tmp_path / "by dock/batch_recipe.json").read_text()


def test_a_recipe_file_as_it_is_is_named_in_the_command(panel: Any, tmp_path: Path, qtbot: Any) -> None:
    path = write_recipe(tmp_path / "r.json", panel.request().recipe)
    panel.recipe.way.setCurrentIndex(panel.recipe.way.findData("file"))
    panel.recipe.file.setText(str(path))
    qtbot.waitUntil(panel.foot.run.isEnabled, timeout=30000)
    assert shlex.split(panel.command.text)[-2:] == ["--recipe", str(path)]


def test_results_open_with_their_source(panel: Any, qtbot: Any, plate: Path) -> None:
    panel.run()
    finish(qtbot, panel)
    panel.files.table.view.selectRow(1)
    panel.files.open.click()
    qtbot.waitUntil(lambda: "Opened" in text_of(panel), timeout=30000)
    source, result, labels = panel.viewer.layers
    assert [layer.name for layer in panel.viewer.layers] == ["b.tif", "b (result)", "b_labels (result)"]
    np.testing.assert_array_equal(source.data, read(plate / "b.tif").image)
    assert labels.data.max() == 2 and type(labels).__name__ == "Labels"
    for layer in (source, result, labels):
        np.testing.assert_array_equal(layer.scale, (0.5, 0.5))
        assert str(layer.units[0]) == "micrometer" and layer.axis_labels == ("y", "x")
    assert result.metadata["cellenhance"]["filter"] == "gamma"
    panel.files.table.view.clearSelection()
    assert [outcome.name for outcome in panel.files.finished()] == ["a.tif"]


def test_large_files_stay_on_the_disk(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).integers(0, 255, (3, 40, 50), dtype=np.uint8)
    path = write(tmp_path / "v.ome.tif", volume, "ZYX", dtype="keep", pixel_size_um={"Z": 2.0})
    data, kwargs, kind = file_layer(path, "v", 0.001)
    assert isinstance(data, da.Array) and data.chunksize == (1, 40, 50) and kind == "image"
    np.testing.assert_array_equal(np.asarray(data), volume)
    assert kwargs["scale"][0] == 2.0 and kwargs["units"][0] == "um"
    colours = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    data, kwargs, _ = file_layer(write(tmp_path / "c.ome.tif", colours, "YXS", dtype="keep"), "c", 0.001)
    assert kwargs["rgb"] and data.chunksize == (40, 50, 3)
    assert isinstance(file_layer(path, "v", 100)[0], np.ndarray)


def test_a_file_that_is_gone_is_told(panel: Any, qtbot: Any, tmp_path: Path) -> None:
    panel.run()
    finish(qtbot, panel)
    (tmp_path / "out" / "a.ome.tif").unlink()
    panel.files.open.click()
    qtbot.waitUntil(lambda: "a.ome.tif" in text_of(panel), timeout=30000)
    assert len(panel.viewer.layers) == 0 and panel.files.open.isEnabled()


def test_the_table_of_objects_opens(panel: Any, qtbot: Any, tmp_path: Path) -> None:
    panel.run()
    finish(qtbot, panel)
    panel.files.objects.click()
    window = panel.files.window_of_objects
    model = window.view.model()
    with open(tmp_path / "out" / "batch_objects.csv", newline="") as stream:
        columns, *rows = list(csv.reader(stream))
    assert model.rowCount() == len(rows) == 6
    assert [model.headerData(n, Qt.Orientation.Horizontal) for n in range(model.columnCount())] == columns
    assert "6 rows." in window.note.text()
    window.close()


def test_a_long_table_is_shown_in_part(tmp_path: Path, qtbot: Any) -> None:
    path = tmp_path / "t.csv"
    path.write_text("file,area\n" + "".join(f"a.tif,{n}.123456789\n" for n in range(7)))
    assert read_rows(path, 3) == (["file", "area"], [["a.tif", f"{n}.123456789"] for n in range(3)], 7)
    window = ObjectsWindow(path)
    qtbot.addWidget(window)
    model: Any = window.view.model()
    assert model.data(model.index(1, 1)) == "1.12346"


def test_a_parquet_table_opens(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    from napari_cellenhance.io.tables import write_parquet

    rows: list[dict[str, Any]] = [{"file": "a", "area": 1.5}, {"file": "b", "area": None}]
    path = tmp_path / "t.parquet"
    write_parquet(path, rows, columns=("file", "area"))
    assert read_rows(path, 1) == (["file", "area"], [["a", "1.5"]], 2)


# --- words, keys, looks ---------------------------------------------------------------------------


def test_how_it_ended_in_words() -> None:
    given_up = ended_sentence(BatchResult(outcomes=(), n_files=3, is_complete=False, stopped_by="The disk is full."))
    assert given_up == "Given up: The disk is full. 0 of 3 files done, 3 not begun."
    assert tally_text([FileRow("a", "skipped"), FileRow("b", "writing")]) == "1 done before, 1 writing"


def test_ten_thousand_files_are_no_burden(panel: Any) -> None:
    panel.files.begin([f"{n}.tif" for n in range(10_000)])
    panel.files.take(FileNews(index=9_999, name="9999.tif", stage="computing"))
    assert panel.files.table.tally.text() == "1 running, 9999 waiting"


def test_every_control_has_a_tooltip_a_name_and_the_keyboard(panel: Any) -> None:
    kinds = (QAbstractButton, QAbstractSpinBox, QComboBox, QLineEdit, QSlider)
    controls = [w for kind in kinds for w in panel.findChildren(kind) if not w.objectName().startswith("qt_")]
    assert len(controls) > 20
    for control in controls:
        if isinstance(control.parent(), QAbstractSpinBox | QComboBox) or control.parent() is None:
            continue
        if type(control).__name__ == "QAbstractButton" or isinstance(control.parent(), QTabBar):  # parts of Qt's own
            continue
        assert control.toolTip(), control
        assert control.accessibleName() or getattr(control, "text", str)(), control
        assert control.focusPolicy() & Qt.FocusPolicy.TabFocus or "ToolButton" in type(control).__name__, control


def test_nothing_is_clipped_at_the_smallest_width(panel: Any, qtbot: Any) -> None:
    panel.resize(panel.minimumSizeHint().width(), 700)
    panel.show()
    for page in range(2):
        panel.tabs.setCurrentIndex(page)
        qtbot.wait(20)
        for control in panel.findChildren(QAbstractButton):
            if control.isVisible() and control.text():
                assert control.width() >= control.minimumSizeHint().width(), control.text()
    area = panel.tabs.widget(0)
    assert area.widget().minimumSizeHint().width() <= area.viewport().width()


def test_the_dock_opens_from_the_menu(make_napari_viewer: Any, qtbot: Any) -> None:
    viewer = make_napari_viewer()
    _, panel = viewer.window.add_plugin_dock_widget("napari-cellenhance", dock.DOCK_TITLE)
    assert isinstance(panel, dock.BatchPanel) and panel.viewer is not None
    assert panel.device.currentData() == PluginSettings().device
    panel.shut_down()
