"""The training dock on a ViewerModel: forms, curves, stop, cancel, resume, and the new filter in every list."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QAbstractSpinBox, QComboBox, QLineEdit, QListWidget, QPushButton

from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.widgets import _settings, _worker
from napari_cellenhance.widgets import train as dock
from napari_cellenhance.widgets._train_goal import TORCHVISION
from napari_cellenhance.widgets._training_run import folder_of
from napari_cellenhance.widgets.train import TrainPanel
from napari_cellenhance.workflows import train
from napari_cellenhance.workflows.requests import DEFAULT_FILTER
from napari_cellenhance.workflows.train import TrainProgress, TrainRequest, TrainResult, checkpoint_of

MakePanel = Callable[..., Any]
PATIENCE_MS = 300_000
"""For real trainings on a busy machine."""


class FakeTrain:
    """Stands in for ``workflows.train.run``: tells rows and pictures, waits, fails, and can be stopped."""

    def __init__(self) -> None:
        self.requests: list[TrainRequest] = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.told = threading.Event()
        self.error: Exception | None = None
        self.style = np.linspace(1.0, 0.2, 80)
        self.ended_by = ""
        self.picture_after_s = 0.0

    def __call__(
        self, request: TrainRequest, *, on_progress: Any, is_cancelled: Any, is_discarded: Any, on_picture: Any
    ) -> TrainResult:
        self.requests.append(request)
        picture = np.random.default_rng(0).random((24, 32)).astype(np.float32)
        on_picture(picture, picture)
        content = 1.0 - 0.5 * np.sin(np.linspace(0, np.pi, len(self.style)))
        for i, style in enumerate(self.style):
            row = {"step": i + 1.0, "total": float(style + content[i]), "style": float(style), "content": content[i]}
            if (i + 1) % 20 == 0:
                row["val_total"] = row["total"]
            on_progress(
                TrainProgress(n_done=i + 1, n_total=request.n_steps, rows=(row,), best_step=20 if i >= 19 else 0)
            )
        time.sleep(self.picture_after_s)
        on_picture(picture, 1 - picture)
        Path(request.out).mkdir(parents=True, exist_ok=True)
        checkpoint_of(request.out).touch()
        self.told.set()
        while not self.go_on.wait(0.01):
            if is_discarded() or is_cancelled():
                break
        if self.error is not None:
            raise self.error
        self.ended_by = "discarded" if is_discarded() else "cancelled" if is_cancelled() else "finished"
        made = None if self.ended_by == "discarded" else Path(request.out) / "card.json"
        return TrainResult(
            model_id=request.model_id, weights=made, card=made, history=Path(request.out) / "history.csv",
            stopped=self.ended_by, best_step=20, best_total=0.5,
        )  # fmt: skip


@pytest.fixture
def fake_train(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTrain]:
    run = FakeTrain()
    monkeypatch.setattr(train, "run", run)
    yield run
    run.go_on.set()


@pytest.fixture
def viewer(cells: Any) -> ViewerModel:
    viewer = ViewerModel()
    viewer.add_image(cells.image, name="cells")
    viewer.add_labels(cells.labels, name="painted")
    return viewer


@pytest.fixture
def make_panel(monkeypatch: pytest.MonkeyPatch, keep_panel: Any) -> MakePanel:
    monkeypatch.setattr(dock, "read_settings", _settings.PluginSettings)
    monkeypatch.setattr(dock, "write_setting", lambda name, value: True)

    def make(viewer: Any) -> TrainPanel:
        panel: TrainPanel = keep_panel(TrainPanel(viewer))
        return panel

    return make


@pytest.fixture
def panel(make_panel: MakePanel, viewer: ViewerModel, qtbot: Any) -> Any:
    """A panel that could start at once: an image with painted objects."""
    panel = make_panel(viewer)
    panel.images.forms()[0].labels.choose(viewer.layers["painted"])
    qtbot.waitUntil(lambda: panel.foot.run.isEnabled(), timeout=20000)
    return panel


def text_of(panel: Any) -> str:
    return str(panel.foot.message.text())


def finish(qtbot: Any, panel: Any, timeout: int = 10000) -> None:
    qtbot.waitUntil(lambda: panel._job is None, timeout=timeout)


# --- the forms ------------------------------------------------------------------------------


def test_without_an_image_it_says_what_to_do(make_panel: MakePanel) -> None:
    panel = make_panel(ViewerModel())
    assert not panel.foot.run.isEnabled() and "Open an image" in text_of(panel)
    panel.train()
    assert panel._job is None


def test_the_diameter_is_suggested_then_measured_and_a_typed_one_wins(
    make_panel: MakePanel, viewer: ViewerModel, cells: Any, qtbot: Any
) -> None:
    panel = make_panel(viewer)
    form = panel.images.forms()[0]
    true = 2 * float(np.median(cells.radii_px))
    qtbot.waitUntil(lambda: form.diameter.value() > 0, timeout=20000)
    assert form.diameter.value() == pytest.approx(true, rel=0.4) and "Suggested" in form.note.text()
    form.labels.choose(viewer.layers["painted"])
    qtbot.waitUntil(lambda: "painted" in form.note.text(), timeout=20000)
    assert form.diameter.value() == pytest.approx(true, rel=0.1)
    form.diameter.setValue(33.0)
    form.labels.choose(None)
    qtbot.wait(300)
    assert form.diameter.value() == 33.0
    form.again.click()
    qtbot.waitUntil(lambda: form.diameter.value() != 33.0, timeout=20000)


def test_every_way_of_learning_asks_for_what_it_needs(panel: Any, tmp_path: Path) -> None:
    def learn_from(data: str) -> str:
        panel.goal.teach.setCurrentIndex(panel.goal.teach.findData(data))
        return text_of(panel)

    assert learn_from("labels") == "" and panel.foot.run.isEnabled() and panel.goal.why.isHidden()
    assert "perceptual network" in learn_from("images") and not panel.goal.why.isHidden()
    for text in (panel.goal.why.text(), panel.goal.choose_file.toolTip()):
        assert "SqueezeNet 1.1" in text and "recommended" in text and "distilled VGG-19" in text
    network = tmp_path / "squeezenet1_1.safetensors"
    network.touch()
    panel.goal.choose_perception(str(network))
    assert text_of(panel) == "" and panel.goal.why.isHidden() and "squeezenet1_1" in panel.goal.perception.text()
    network.unlink()
    assert "not there any more" in learn_from("both")
    panel.images.forms()[0].labels.choose(None)
    assert "Painted objects" in learn_from("labels")


def test_little_painted_on_the_whole_plane_is_said_in_sight(panel: Any, viewer: ViewerModel, qtbot: Any) -> None:
    form = panel.images.forms()[0]
    line = form.unpainted
    qtbot.waitUntil(lambda: "Only 6 objects are painted" in line.text() and not line.isHidden(), timeout=20000)
    assert "taught as ground" in line.text() and "the box around what is painted" in line.text()
    form.cover.setCurrentIndex(form.cover.findData("box"))
    assert line.isHidden() and not line.text()
    form.cover.setCurrentIndex(form.cover.findData("plane"))
    assert not line.isHidden()
    panel.goal.teach.setCurrentIndex(panel.goal.teach.findData("images"))
    assert line.isHidden(), "the objects only give the diameter"
    panel.goal.teach.setCurrentIndex(panel.goal.teach.findData("labels"))
    assert not line.isHidden()
    many = np.arange(96 * 112).reshape(96, 112) // 100
    viewer.layers["painted"].data_setitem(np.nonzero(many), many[many > 0])
    qtbot.waitUntil(line.isHidden, timeout=20000)
    viewer.layers["painted"].data = np.zeros((96, 112), int)
    qtbot.waitUntil(lambda: "Nothing is painted" in line.text() and not line.isHidden(), timeout=20000)
    form.labels.choose(None)
    assert line.isHidden()


def test_the_perceptual_network_is_remembered(make_panel: MakePanel, viewer: ViewerModel, monkeypatch: Any) -> None:
    kept: dict[str, Any] = {}
    monkeypatch.setattr(dock, "write_setting", kept.__setitem__)
    make_panel(viewer).goal.choose_perception(TORCHVISION)
    assert kept == {"perception": TORCHVISION}
    monkeypatch.setattr(dock, "read_settings", lambda: _settings.PluginSettings(**kept))
    assert "torchvision" in make_panel(viewer).goal.perception.text()


def test_a_request_says_what_the_panel_says(panel: Any, viewer: ViewerModel, cells: Any) -> None:
    request = panel.request()
    assert request.teach == "labels" and request.perception == "none" and request.init_from == DEFAULT_FILTER
    assert request.model_id == "nu-net-for-cells" and request.out == folder_of("nu-net-for-cells")
    layer = request.data[0]
    assert layer.axes == "YX" and np.array_equal(layer.labels, cells.labels)
    viewer.layers["painted"].data[:] = 0
    assert layer.labels.any(), "painting goes on without harm"
    panel.goal.choose_perception(TORCHVISION)
    panel.goal.teach.setCurrentIndex(panel.goal.teach.findData("images"))
    panel.goal.masks.choose(viewer.layers["painted"])
    panel.goal.start.setCurrentIndex(panel.goal.start.count() - 1)
    request = panel.request()
    assert request.data[0].labels is None and request.masks[0].shape == cells.labels.shape
    assert request.init_from is None and request.n_steps == TrainRequest(data="", out="").n_steps


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (np.full((40, 50), np.nan, np.float32), "The image contains no numbers"),
        (np.full((40, 50), 7, np.uint8), "No object size could be suggested; please type it"),
        (np.ones((1, 1), np.uint8), "No object size could be suggested; please type it"),
        (np.zeros((1, 1, 2, 1, 2, 16, 16), np.uint8), "7 dimensions"),
    ],
    ids=["nan", "flat", "one pixel", "seven dimensions"],
)
def test_an_image_that_cannot_be_judged_says_why_and_nobody_waits_for_ever(
    make_panel: MakePanel, qtbot: Any, pixels: Any, said: str
) -> None:
    viewer = ViewerModel()
    viewer.add_image(pixels, name="odd", contrast_limits=(0, 1), rgb=False)
    panel = make_panel(viewer)
    qtbot.waitUntil(lambda: said in text_of(panel), timeout=20000)
    assert "wait a moment" not in text_of(panel) and not panel.foot.run.isEnabled()
    if said.startswith("No object"):
        panel.images.forms()[0].diameter.setValue(12.0)
        assert "diameter" not in text_of(panel)


@pytest.mark.parametrize("kind", ["rgb", "stack", "bool", "some nan"])
def test_usual_images_of_all_kinds_can_be_trained_on(
    make_panel: MakePanel, cells: Any, qtbot: Any, fake_train: FakeTrain, kind: str
) -> None:
    pixels, labels = np.asarray(cells.image, np.float32), cells.labels
    if kind == "rgb":
        pixels = np.repeat((255 * pixels / pixels.max()).astype(np.uint8)[..., np.newaxis], 3, axis=-1)
    elif kind == "stack":
        pixels, labels = np.stack([pixels] * 3), np.stack([labels] * 3)
    elif kind == "bool":
        pixels = labels > 0
    else:
        pixels = pixels.copy()
        pixels[:20, :20] = np.nan
    viewer = ViewerModel()
    viewer.add_image(pixels, name="odd", rgb=kind == "rgb")
    viewer.add_labels(labels, name="painted")
    viewer.dims.ndisplay = 3 if kind == "stack" else 2
    panel = make_panel(viewer)
    panel.images.forms()[0].labels.choose(viewer.layers["painted"])
    qtbot.waitUntil(lambda: panel.foot.run.isEnabled(), timeout=20000)
    panel.train()
    finish(qtbot, panel)
    assert "is in the list of filters" in text_of(panel) and "unexpected" not in text_of(panel)


def test_several_layers_keep_their_own_settings(panel: Any, viewer: ViewerModel, cells: Any, qtbot: Any) -> None:
    viewer.add_image(cells.image.max() - cells.image, name="stained")
    panel.images.check(viewer.layers["stained"])
    qtbot.waitUntil(lambda: panel.foot.run.isEnabled(), timeout=20000)
    stained, bright = panel.request().data
    assert (stained.name, bright.name) == ("stained", "cells")
    assert stained.objects_are_dark and not bright.objects_are_dark
    assert stained.labels is None and bright.labels is not None
    viewer.layers.remove("stained")
    assert [layer.name for layer in panel.request().data] == ["cells"]


def test_the_name_follows_the_image_until_it_is_given(panel: Any, viewer: ViewerModel, cells: Any) -> None:
    viewer.layers["cells"].name = "HeLa"
    panel.goal.n_steps.setValue(7)
    assert panel.goal.name.text() == "NU-Net for HeLa"
    for given in ("", "Mine"):
        panel.goal.name.setText(given)
        panel.goal.n_steps.setValue(8 + len(given))
        assert panel.goal.name.text() == given
        assert panel.foot.run.isEnabled() == bool(given)


def test_renaming_and_removing_layers_is_followed(panel: Any, viewer: ViewerModel) -> None:
    viewer.layers["cells"].name = "renamed"
    assert panel.images.list.item(0).text() == "renamed" and panel.images.forms()
    viewer.layers.remove("renamed")
    assert not panel.foot.run.isEnabled() and "Open an image" in text_of(panel)


def test_everything_has_a_name_and_a_tooltip(panel: Any) -> None:
    kinds = (QAbstractSpinBox, QComboBox, QLineEdit, QListWidget, QPushButton)
    for widget in [w for kind in kinds for w in panel.findChildren(kind)]:
        if widget.objectName() == "qt_spinbox_lineedit":
            continue
        assert widget.toolTip(), widget
        assert isinstance(widget, QPushButton) or widget.accessibleName(), widget


# --- a training -----------------------------------------------------------------------------


def test_curves_grow_with_the_best_check_marked_and_pictures_shown(
    panel: Any, qtbot: Any, fake_train: FakeTrain
) -> None:
    fake_train.go_on.clear()
    fake_train.picture_after_s = 0.5  # when no report is left to carry it
    panel.train()
    qtbot.waitUntil(lambda: len(panel.view.rows) == 80, timeout=10000)
    assert panel.tabs.currentIndex() == 1 and not panel.foot.run.isEnabled() and panel.stop.isEnabled()
    plot = panel.view.plot.content
    assert [curve.name for curve in plot.curves] == ["Total", "Content", "Morphology"]
    assert all(len(curve.x) == 80 for curve in plot.curves)
    assert [(mark.x, mark.text) for mark in plot.marks] == [(20.0, "best")]
    panel.view.shown.setCurrentIndex(panel.view.shown.findData("total"))
    raw, smoothed, checked = panel.view.plot.content.curves
    assert raw.style == "points" and len(checked.x) == 4 and np.ptp(smoothed.y) < np.ptp(raw.y)
    assert panel.view.warnings.isHidden()
    qtbot.waitUntil(lambda: panel.view.pair.caption == "After update 80", timeout=5000)
    fake_train.go_on.set()
    finish(qtbot, panel)
    assert "is in the list of filters" in text_of(panel) and not panel.try_now.isHidden()


def test_a_morphological_loss_that_rises_is_told_live(panel: Any, qtbot: Any, fake_train: FakeTrain) -> None:
    fake_train.style = np.linspace(0.5, 1.0, 80)
    fake_train.go_on.clear()
    panel.train()
    qtbot.waitUntil(lambda: not panel.view.warnings.isHidden(), timeout=10000)
    assert "morphological loss rises" in panel.view.warnings.text()
    panel.goal.start.setCurrentIndex(panel.goal.start.count() - 1)
    fake_train.go_on.set()
    finish(qtbot, panel)


def test_stop_keeps_the_best(panel: Any, qtbot: Any, fake_train: FakeTrain) -> None:
    fake_train.go_on.clear()
    panel.train()
    qtbot.waitUntil(fake_train.told.is_set, timeout=10000)
    panel.stop.click()
    finish(qtbot, panel)
    assert fake_train.ended_by == "cancelled" and "Stopped" in text_of(panel) and "update 20" in text_of(panel)


def test_cancel_adds_nothing_and_resume_goes_on_with_the_same_arrays(
    panel: Any, viewer: ViewerModel, qtbot: Any, fake_train: FakeTrain
) -> None:
    assert not panel.resume.isEnabled()
    fake_train.go_on.clear()
    panel.train()
    qtbot.waitUntil(fake_train.told.is_set, timeout=10000)
    panel.foot.cancel.click()
    finish(qtbot, panel)
    assert fake_train.ended_by == "discarded" and panel.try_now.isHidden() and "no filter was added" in text_of(panel)
    viewer.layers["painted"].data[:5] = 9
    fake_train.go_on.set()
    panel.resume.click()
    finish(qtbot, panel)
    first, second = fake_train.requests
    assert second.resume and second.data is first.data


def test_an_error_becomes_a_sentence_and_the_panel_lives_on(panel: Any, qtbot: Any, fake_train: FakeTrain) -> None:
    fake_train.error = ImageError("the labels do not fit")
    panel.train()
    finish(qtbot, panel)
    assert "The labels do not fit" in text_of(panel) and panel.foot.run.isEnabled()


def test_closing_the_dock_ends_the_training_at_its_checkpoint(panel: Any, qtbot: Any, fake_train: FakeTrain) -> None:
    fake_train.go_on.clear()
    panel.train()
    qtbot.waitUntil(fake_train.told.is_set, timeout=10000)
    panel.close()
    qtbot.waitUntil(lambda: fake_train.ended_by == "discarded", timeout=10000)


def test_one_training_at_a_time_and_enhancing_goes_on(
    panel: Any, make_panel: MakePanel, viewer: ViewerModel, qtbot: Any, fake_train: FakeTrain
) -> None:
    other = make_panel(viewer)
    other.images.forms()[0].labels.choose(viewer.layers["painted"])
    qtbot.waitUntil(lambda: other.foot.run.isEnabled(), timeout=20000)
    fake_train.go_on.clear()
    panel.train()
    other.train()
    assert "already running" in text_of(other)
    assert _worker.is_busy("training") and not _worker.is_busy("run")
    fake_train.go_on.set()
    finish(qtbot, panel)


# --- for real -------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """One crop is enough for a check."""

    def build(*args: Any) -> TrainRequest:
        return replace(honest(*args), precision="float32", n_threads=1, recipe_options={"n_validation": 1})

    honest = dock.build_train_request
    monkeypatch.setattr(dock, "build_train_request", build)


def make_small(panel: Any, n_steps: int = 2) -> None:
    panel.goal.n_steps.setValue(n_steps)
    panel.goal.validate_every.setValue(1)
    panel.goal.batch_size.setValue(1)
    panel.goal.crop_px.setValue(32)


@pytest.mark.usefixtures("small")
def test_a_real_training_ends_in_the_enhance_dock(panel: Any, viewer: ViewerModel, qtbot: Any, session: Any) -> None:
    from napari_cellenhance.widgets.enhance import EnhancePanel

    enhance = EnhancePanel(viewer, session)
    qtbot.addWidget(enhance)
    chosen = enhance.filters.info()
    make_small(panel)
    panel.goal.name.setText("Mine")
    panel.train()
    finish(qtbot, panel, timeout=PATIENCE_MS)
    assert "“Mine” is in the list" in text_of(panel)
    texts = [enhance.filters.itemText(i).strip() for i in range(enhance.filters.count())]
    assert "Mine" in texts and enhance.filters.info() == chosen, "listed, and nothing chosen for the user"
    enhance.filters.choose("mine")
    assert enhance.filters.info().title == "Mine"
    assert panel.goal.start.findData("mine") >= 0, "and can be tuned further"
    enhance.shut_down()


@pytest.mark.usefixtures("small")
def test_a_cancelled_training_is_resumed_after_a_restart(
    panel: Any, make_panel: MakePanel, viewer: ViewerModel, qtbot: Any
) -> None:
    make_small(panel, n_steps=3)
    panel.goal.learning_rate.setValue(3e-4)
    panel.train()
    qtbot.waitUntil(lambda: len(panel.view.rows) >= 1, timeout=PATIENCE_MS)
    panel.foot.cancel.click()
    finish(qtbot, panel, timeout=PATIENCE_MS)
    again = make_panel(viewer)
    again.images.forms()[0].labels.choose(viewer.layers["painted"])
    qtbot.waitUntil(lambda: again.resume.isEnabled(), timeout=20000)
    again.resume.click()
    finish(qtbot, again, timeout=PATIENCE_MS)
    assert "is in the list of filters" in text_of(again), text_of(again)
    assert [row["step"] for row in again.view.rows] == [1, 2, 3]


@pytest.mark.usefixtures("small")
def test_the_time_is_estimated_and_counts_updates(panel: Any, qtbot: Any) -> None:
    make_small(panel)
    panel.goal.estimate.click()
    finish(qtbot, panel, timeout=PATIENCE_MS)
    assert "about" in panel.goal.time.text() and "per update" in panel.goal.time.text()
    _, measured = panel._measured
    panel.goal.n_steps.setValue(100_000)
    assert measured.total_s(100_000, 1) > 1000 * measured.step_s and "h" in panel.goal.time.text()
    panel.goal.batch_size.setValue(2)
    assert "measure again" in panel.goal.time.text()
