"""The dock “Teach it your cells” with real strokes on the bundled sample: paint, see, train, segment."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QAbstractSpinBox, QComboBox, QLineEdit, QListWidget, QPushButton, QTableWidget

from napari_cellenhance import _sample_data
from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.core.painted import painted_values
from napari_cellenhance.widgets import _settings, _teach_segment, _worker
from napari_cellenhance.widgets import teach as dock
from napari_cellenhance.widgets._layers import PREVIEW_MARK
from napari_cellenhance.widgets.teach import TeachPanel
from napari_cellenhance.workflows import train_aep
from napari_cellenhance.workflows.instant import InstantAnswer
from napari_cellenhance.workflows.live_paint import LivePaint
from napari_cellenhance.workflows.own_models import is_own
from napari_cellenhance.workflows.segment_model import list_segmenters
from napari_cellenhance.workflows.train_aep import AEPRequest, AEPResult, checkpoint_of
from napari_cellenhance.workflows.train_progress import TrainProgress
from napari_cellenhance.zoo.cards import ModelCard
from napari_cellenhance.zoo.folders import sha256_of, user_models_dir

MakePanel = Callable[..., Any]
PATIENCE_MS = 300_000
"""For real trainings on a busy machine."""


CROP = (slice(180, 308), slice(420, 548))
"""A piece of the bundled sample with several nuclei."""
BLUE = (0, 0x72 / 255, 0xB2 / 255)
STROKES = {1: [(6, 100), (6, 118)], 2: [(64, 60), (64, 70)]}


def stroke(layer: Any, value: int, *points: tuple[int, ...]) -> None:
    """Paint along a line, as a mouse that is dragged."""
    first, last = np.asarray(points[0], float), np.asarray(points[-1], float)
    for share in np.linspace(0, 1, 12):
        layer.paint(tuple(int(v) for v in np.round(first + share * (last - first))), value)


def own_segmenters() -> tuple[ModelCard, ...]:
    return tuple(card for card in list_segmenters() if is_own(card))


class FakeSession:
    """An instant session whose answer is a threshold between what was painted as 1 and as the highest class."""

    def __init__(self) -> None:
        self.n_updates = self.n_predictions = 0
        self.regions: list[Any] = []
        self.go_on = threading.Event()
        self.go_on.set()
        self._threshold = 0.5
        self._values: tuple[int, ...] = ()

    def update(self, images: Any, shown: Any, *, checkpoint: Any = None) -> InstantAnswer:
        self.go_on.wait(10)
        self.n_updates += 1
        self._values = painted_values(images)
        means = [
            np.mean([im.image[im.labels == v].mean() for im in images if (im.labels == v).any()]) for v in self._values
        ]
        self._threshold = float(means[0] + means[-1]) / 2
        index, region = shown
        return self._answer(images[index].image, region, index)

    def prepare(self, plane: Any, region: Any, *, checkpoint: Any = None) -> int:
        return 1

    def predict(self, plane: Any, region: Any = None, *, checkpoint: Any = None) -> InstantAnswer:
        self.n_predictions += 1
        return self._answer(plane, region, 0)

    def _answer(self, plane: Any, region: Any, index: int) -> InstantAnswer:
        self.regions.append(region)
        window = plane[region.y0 : region.y1, region.x0 : region.x1]
        is_high = window > self._threshold
        sure = np.where(is_high, 0.95, 0.6).astype(np.float32)
        return InstantAnswer(
            index=index, region=region, labels=np.where(is_high, self._values[-1], 1).astype(np.int32),
            probabilities=np.stack([1 - sure, sure]), values=self._values, new_values=(), seconds={"total": 0.1},
            n_tiles_computed=0,
        )  # fmt: skip

    def forget(self) -> None:
        self.n_updates = self.n_predictions = 0


class FakeTeaching:
    """Stands in for ``workflows.train_aep.run``: tells rows, looks, waits, fails, and can be stopped."""

    def __init__(self) -> None:
        self.requests: list[AEPRequest] = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.told = threading.Event()
        self.error: Exception | None = None
        self.ended_by = ""
        self.held_out = "blocks"

    def __call__(self, request: AEPRequest, *, on_progress: Any, is_cancelled: Any, is_discarded: Any, **_: Any) -> Any:
        self.requests.append(request)
        for step in range(1, 21):
            row = {"step": float(step), "total": 3.0 / step, "first": 1.0 / step, "ensemble": 1.0 / step}
            if step % 5 == 0:
                row |= {"val_mean_iou": step / 25, "val_loss": 1.0 / step, "val_iou_1": 0.9, "val_iou_2": step / 30}
            on_progress(TrainProgress(n_done=step, n_total=20, rows=(row,), best_step=step - step % 5, eta_s=3.0))
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
        return AEPResult(
            model_id=request.model_id, weights=made, card=made, history=Path(request.out) / "history.csv",
            stopped=self.ended_by, best_step=20, best_total=0.5, values=(1, 2), mean_iou=0.8,
            held_out=self.held_out, weights_of_branches={"image": 0.5, "filter 1": 0.3, "filter 2": -0.1},
        )  # fmt: skip


def nuclei() -> np.ndarray[Any, Any]:
    ((pixels, _, _),) = _sample_data.nuclei()
    return np.asarray(pixels)[CROP]


def on_screen(layer: Any, y: tuple[int, int] = (0, 127), x: tuple[int, int] = (0, 127)) -> None:
    """Say which window of a layer is seen, as a canvas does."""
    low, high = np.zeros(layer.ndim, int), np.zeros(layer.ndim, int)
    low[-2:], high[-2:] = (y[0], x[0]), (y[1], x[1])
    layer.corner_pixels = np.array([low, high])


@pytest.fixture
def viewer() -> ViewerModel:
    viewer = ViewerModel()
    viewer.add_image(nuclei(), name="nuclei", scale=(0.5, 0.25), translate=(3, 4), units=("um", "um"))
    on_screen(viewer.layers["nuclei"])
    return viewer


@pytest.fixture
def session() -> FakeSession:
    return FakeSession()


@pytest.fixture
def make_panel(monkeypatch: pytest.MonkeyPatch, session: FakeSession, keep_panel: Any) -> MakePanel:
    for module in (dock, _teach_segment):
        monkeypatch.setattr(module, "read_settings", lambda: _settings.PluginSettings(device="cpu"))
    monkeypatch.setattr(dock, "LivePaint", lambda _: LivePaint(session))

    def make(viewer: Any) -> TeachPanel:
        panel: TeachPanel = keep_panel(TeachPanel(viewer))
        return panel

    return make


@pytest.fixture
def panel(make_panel: MakePanel, viewer: ViewerModel, qtbot: Any) -> Any:
    """The dock with strokes of two classes."""
    panel = make_panel(viewer)
    paint_all(panel, qtbot)
    return panel


@pytest.fixture
def fake_teaching(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTeaching]:
    run = FakeTeaching()
    monkeypatch.setattr(train_aep, "run", run)
    yield run
    run.go_on.set()


def paint_all(panel: Any, qtbot: Any) -> Any:
    form = panel.images.current_form()
    form.new.click()
    layer = form.labels.layer()
    for value, ends in STROKES.items():
        stroke(layer, value, *ends)
    qtbot.waitUntil(panel.foot.run.isEnabled, timeout=10000)
    return layer


def paint_of(panel: Any) -> Any:
    return panel.images.current_form().labels.layer()


def text_of(panel: Any) -> str:
    return str(panel.foot.message.text())


def finish(qtbot: Any, panel: Any, timeout: int = PATIENCE_MS) -> None:
    qtbot.waitUntil(lambda: panel._job is None, timeout=timeout)


def make_small(panel: Any, n_steps: int = 2) -> None:
    """Some updates on one small crop each."""
    panel.settings.time.setCurrentIndex(panel.settings.time.count() - 1)
    panel.settings.n_steps.setValue(n_steps)
    panel.settings.batch_size.setValue(1)
    panel.settings.crop_px.setValue(64)


# --- painting ---------------------------------------------------------------------------------


def test_a_new_paint_layer_fits_and_hands_over_the_brush(make_panel: MakePanel, viewer: ViewerModel) -> None:
    panel = make_panel(viewer)
    assert "New paint layer" in text_of(panel) and not panel.foot.run.isEnabled()
    panel.images.current_form().new.click()
    layer, image = paint_of(panel), viewer.layers["nuclei"]
    assert layer.data.shape == (128, 128) and not layer.data.any()
    assert np.array_equal(layer.extent.world, image.extent.world)
    assert [str(unit) for unit in layer.units] == ["micrometer", "micrometer"]
    assert str(layer.mode) == "paint" and layer.selected_label == 2 and 3 <= layer.brush_size <= 15
    assert viewer.layers.selection.active == layer


def test_what_is_missing_is_said_until_there_is_enough_paint(
    make_panel: MakePanel, viewer: ViewerModel, qtbot: Any
) -> None:
    panel = make_panel(viewer)
    panel.images.current_form().new.click()
    layer = paint_of(panel)
    qtbot.waitUntil(lambda: "Nothing is painted yet" in text_of(panel), timeout=10000)
    stroke(layer, 1, *STROKES[1])
    qtbot.waitUntil(lambda: "Only “background” is painted" in text_of(panel), timeout=10000)
    layer.data_setitem(np.nonzero(np.eye(128)[:5]), 2)
    qtbot.waitUntil(lambda: "“cells” are too small (5 px)" in text_of(panel), timeout=10000)
    assert not panel.foot.run.isEnabled()
    stroke(layer, 2, *STROKES[2])
    qtbot.waitUntil(panel.foot.run.isEnabled, timeout=10000)
    assert not text_of(panel)
    layer.data = np.zeros((128, 128), np.uint16)
    qtbot.waitUntil(lambda: "Nothing is painted yet" in text_of(panel), timeout=10000)


@pytest.mark.parametrize("kind", ["constant", "shape", "none", "unchecked"])
def test_images_that_cannot_be_learned_from_say_why(make_panel: MakePanel, qtbot: Any, kind: str) -> None:
    viewer = ViewerModel()
    if kind != "none":
        viewer.add_image(np.full((64, 64), 7.0) if kind == "constant" else nuclei(), name="odd", contrast_limits=(0, 9))
    panel = make_panel(viewer)
    said = {
        "constant": "one single grey value",
        "shape": "have shape (30, 40)",
        "none": "Open an image",
        "unchecked": "Check at least one image layer",
    }[kind]
    if kind == "constant":
        panel.images.current_form().new.click()
        stroke(paint_of(panel), 1, (5, 5), (5, 30))
        stroke(paint_of(panel), 2, (25, 5), (25, 30))
    if kind == "shape":
        painted = np.ones((30, 40), np.uint8)
        painted[:9] = 2
        panel.images.current_form().labels.choose(viewer.add_labels(painted))
    if kind == "unchecked":
        panel.images.check(viewer.layers["odd"], is_checked=False)
    qtbot.waitUntil(lambda: said in text_of(panel), timeout=10000)
    assert not panel.foot.run.isEnabled()


def test_the_table_counts_paint_and_chooses_the_brush(panel: Any, viewer: ViewerModel, qtbot: Any) -> None:
    layer = paint_of(panel)
    expected = {value: int((layer.data == value).sum()) for value in (1, 2)}
    qtbot.waitUntil(lambda: dict(panel._paint.counts) == expected, timeout=10000)
    assert panel.classes.table.item(0, 3).text() == f"{expected[1]} px"
    viewer.layers.selection.active = viewer.layers["nuclei"]
    panel.classes.table.cellClicked.emit(0, 2)
    assert layer.selected_label == 1 and viewer.layers.selection.active == layer and str(layer.mode) == "paint"
    layer.selected_label = 2
    assert panel.classes.current() == 2, "and the other way round"
    panel.classes.add.click()
    assert layer.selected_label == 3 and panel.classes.looks[3].name == "class 3"
    stroke(layer, 5, (120, 10), (120, 30))
    qtbot.waitUntil(lambda: 5 in panel.classes.looks, timeout=10000)


def test_names_and_colours_reach_layer_and_request(panel: Any, make_panel: MakePanel, viewer: ViewerModel) -> None:
    panel.classes.table.item(1, 2).setText("mitoses")
    panel.classes.set_look(2, replace(panel.classes.looks[2], color="#ff0000"))
    layer = paint_of(panel)
    assert np.allclose(layer.get_color(2), (1, 0, 0, 1)) and np.allclose(
        layer.get_color(1)[:3], (0, 0x72 / 255, 0xB2 / 255)
    )
    request = panel.request()
    assert request.class_names == {1: "background", 2: "mitoses"} and request.class_colors[2] == "#ff0000"
    again = make_panel(viewer)
    assert paint_of(again) == layer, "a dock that is opened again finds the paint"
    assert again.classes.looks[2].name == "mitoses" and again.classes.colors[2] == "#ff0000"


def test_objects_are_learned_as_one_class_and_can_be_converted(panel: Any, viewer: ViewerModel, qtbot: Any) -> None:
    layer, form = paint_of(panel), panel.images.current_form()
    stroke(layer, 9, (120, 10), (120, 30))
    form.are_objects.setChecked(True)
    qtbot.waitUntil(lambda: panel._paint is not None and set(panel._paint.counts) == {1, 2}, timeout=10000)
    assert panel.request().data[0].painted_as == "instances"
    assert not np.allclose(layer.get_color(2), layer.get_color(9)), "objects keep colours of their own"
    before = layer.data.copy()
    form.convert.click()
    qtbot.waitUntil(lambda: paint_of(panel) != layer, timeout=10000)
    assert np.array_equal(layer.data, before) and not form.are_objects.isChecked()
    assert set(np.unique(paint_of(panel).data)) == {0, 1, 2}
    assert np.array_equal(paint_of(panel).data == 2, before > 1)


def test_a_colour_image_is_looked_at_in_grey_and_says_so(make_panel: MakePanel, qtbot: Any) -> None:
    viewer = ViewerModel()
    viewer.add_image(np.repeat(nuclei()[..., np.newaxis], 3, axis=-1), name="stained", rgb=True)
    panel = make_panel(viewer)
    assert "A colour image" in panel.images.current_form().note.text()
    assert paint_all(panel, qtbot).data.shape == (128, 128)
    assert panel.request().data[0].channels == "grey"
    channels = panel.images.current_form().image.channels
    channels.setCurrentIndex(channels.findText("Green only"))
    assert panel.request().data[0].channels == (1,)
    assert panel.segment.channels() == (1,), "and the image is segmented by the same channel"


@pytest.mark.parametrize(("axes", "shape"), [("ZYX", (3, 128, 128)), ("CYX", (128, 128)), ("ZCYX", (3, 2, 128, 128))])
def test_paint_layers_of_stacks_and_channels(
    make_panel: MakePanel, qtbot: Any, axes: str, shape: tuple[int, ...]
) -> None:
    full = {"ZYX": (3, 128, 128), "CYX": (2, 128, 128), "ZCYX": (3, 2, 128, 128)}[axes]
    viewer = ViewerModel()
    names = {"Z": "z", "C": "channel", "Y": "y", "X": "x"}
    pixels = np.broadcast_to(nuclei(), full).copy()
    viewer.add_image(pixels, name="stack", axis_labels=tuple(names[a] for a in axes))
    panel = make_panel(viewer)
    panel.images.current_form().new.click()
    layer = paint_of(panel)
    assert layer.data.shape == shape
    rest = (1,) * (len(shape) - 2)
    for value, ends in STROKES.items():
        stroke(layer, value, *((*rest, *end) for end in ends))
    qtbot.waitUntil(panel.foot.run.isEnabled, timeout=10000)
    (found,) = panel.request().data
    assert found.axes == axes and found.channels == "grey"


# --- the instant answer -----------------------------------------------------------------------


def test_live_answers_each_stroke_in_place(panel: Any, viewer: ViewerModel, qtbot: Any, session: FakeSession) -> None:
    panel.live.switch.setChecked(True)
    qtbot.waitUntil(lambda: panel.live.answer.layer is not None, timeout=10000)
    answer, layer = panel.live.answer.layer, paint_of(panel)
    assert answer.name == "instant: nuclei" and answer.opacity < 0.6 and answer.metadata[PREVIEW_MARK]
    assert np.array_equal(answer.extent.world, layer.extent.world) and set(np.unique(answer.data)) == {1, 2}
    assert list(viewer.layers).index(answer) < list(viewer.layers).index(layer), "the paint stays on top"
    assert viewer.layers.selection.active == layer and str(layer.mode) == "paint", "and the brush in hand"
    assert panel.live.badge.text().endswith(" s")
    n = session.n_updates
    with qtbot.waitSignal(panel.live.answered, timeout=10000):
        stroke(layer, 3, (120, 10), (120, 30))
    assert session.n_updates > n and 3 in panel.live.answer.layer.data
    n = session.n_updates
    with qtbot.waitSignal(panel.live.answered, timeout=10000):
        layer.undo()
    assert session.n_updates > n, "undo changes the paint, too"
    assert len([one for one in viewer.layers if one.name.startswith("instant")]) == 1
    panel.live.switch.setChecked(False)
    assert panel.live.answer.layer is None and not [x for x in viewer.layers if x.name.startswith("instant")]


def test_live_follows_the_camera_without_learning_anew(
    panel: Any, viewer: ViewerModel, qtbot: Any, session: FakeSession
) -> None:
    panel.live.switch.setChecked(True)
    qtbot.waitUntil(lambda: panel.live.answer.layer is not None, timeout=10000)
    n = session.n_updates
    on_screen(viewer.layers["nuclei"], (32, 63), (16, 79))
    with qtbot.waitSignal(panel.live.answered, timeout=10000):
        viewer.scene.camera.zoom *= 2
    answer = panel.live.answer.layer
    assert answer.data.shape == (32, 64) and np.allclose(answer.translate, (3 + 32 * 0.5, 4 + 16 * 0.25))
    assert session.n_updates == n and session.n_predictions
    on_screen(viewer.layers["nuclei"], (127, 127), (127, 127))
    viewer.scene.camera.zoom *= 2
    qtbot.waitUntil(lambda: "off the screen" in panel.live.hint.text(), timeout=10000)
    assert panel.live.answer.layer is None


def test_live_says_what_paint_is_missing(make_panel: MakePanel, viewer: ViewerModel, qtbot: Any) -> None:
    panel = make_panel(viewer)
    panel.live.switch.setChecked(True)
    qtbot.waitUntil(lambda: "New paint layer" in panel.live.hint.text(), timeout=10000)
    panel.images.current_form().new.click()
    stroke(paint_of(panel), 2, *STROKES[2])
    qtbot.waitUntil(lambda: "only label 2 is painted" in panel.live.hint.text().lower(), timeout=10000)
    stroke(paint_of(panel), 1, *STROKES[1])
    qtbot.waitUntil(lambda: panel.live.answer.layer is not None, timeout=10000)
    assert panel.live.hint.isHidden()


def test_live_on_a_stack_follows_the_slider(make_panel: MakePanel, qtbot: Any, session: FakeSession) -> None:
    viewer = ViewerModel()
    viewer.add_image(np.stack([nuclei(), nuclei()[::-1], nuclei()[:, ::-1]]), name="stack", axis_labels=("z", "y", "x"))
    on_screen(viewer.layers["stack"])
    viewer.dims.set_current_step(0, 1)
    panel = make_panel(viewer)
    panel.images.current_form().new.click()
    for value, ends in STROKES.items():
        stroke(paint_of(panel), value, *((0, *end) for end in ends))
    panel.live.switch.setChecked(True)
    qtbot.waitUntil(lambda: panel.live.answer.layer is not None, timeout=10000)
    first = panel.live.answer.layer.data
    assert first.shape == (1, 128, 128) and panel.live.answer.layer.translate[0] == 1
    with qtbot.waitSignal(panel.live.answered, timeout=10000):
        viewer.dims.set_current_step(0, 2)
    assert panel.live.answer.layer.translate[0] == 2 and session.n_predictions
    assert np.array_equal(panel.live.answer.layer.data[0], first[0, ::-1, ::-1])


def test_an_answer_for_an_image_that_went_is_dropped(
    panel: Any, viewer: ViewerModel, qtbot: Any, session: FakeSession
) -> None:
    session.go_on.clear()
    panel.live.switch.setChecked(True)
    qtbot.waitUntil(lambda: bool(panel.live._asked), timeout=10000)
    viewer.layers.remove("nuclei")
    session.go_on.set()
    qtbot.waitUntil(lambda: not panel.live._asked, timeout=10000)
    assert panel.live.answer.layer is None and "unexpected" not in text_of(panel)


def test_in_a_real_window_by_the_door_of_the_manifest(
    make_napari_viewer: Any, qtbot: Any, session: FakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dock, "LivePaint", lambda _: LivePaint(session))
    viewer = make_napari_viewer(show=True)
    viewer.add_image(nuclei(), name="nuclei")
    docked, panel = viewer.window.add_plugin_dock_widget("napari-cellenhance", "Teach it your cells")
    layer = paint_all(panel, qtbot)
    assert panel.minimumSizeHint().width() <= 380 and str(layer.mode) == "paint"
    panel.live.switch.setChecked(True)
    qtbot.waitUntil(lambda: panel.live.answer.layer is not None, timeout=20000)
    assert [one.name for one in viewer.layers] == ["nuclei", "instant: nuclei", "paint: nuclei"]
    assert (
        str(viewer.layers["paint: nuclei"].mode) == "paint" and viewer.layers.selection.active.name == "paint: nuclei"
    )
    before = session.regions[-1]
    with qtbot.waitSignal(panel.live.answered, timeout=20000):
        viewer.scene.camera.zoom *= 4
    assert session.regions[-1].shape[0] < before.shape[0], "only what is seen"
    for page in range(panel.tabs.count()):
        area = panel.tabs.widget(page)
        assert area.widget().minimumSizeHint().width() <= area.viewport().width(), "nothing is cut off"
    viewer.window.remove_dock_widget(docked)
    qtbot.waitUntil(lambda: [one.name for one in viewer.layers] == ["nuclei", "paint: nuclei"], timeout=10000)


# --- a training -------------------------------------------------------------------------------


def test_a_request_says_what_the_dock_says(panel: Any, viewer: ViewerModel) -> None:
    request: AEPRequest = panel.request()
    assert request.model_id == "aep-for-nuclei" and request.init_from == "aep-nuclei" and request.network == "aep"
    assert (request.n_steps, request.time_limit_s) == (0, 60.0) and request.n_threads >= 1
    (layer,) = request.data
    assert layer.axes == "YX" and layer.name == "nuclei"
    paint_of(panel).data[:] = 0
    assert layer.labels.any(), "painting goes on without harm"
    make_small(panel, 40)
    for combo, data in ((panel.settings.ensemble, "none"), (panel.settings.source, "softmax")):
        combo.setCurrentIndex(combo.findData(data))
    request = panel.request()
    assert (request.n_steps, request.crop_px, request.validate_every) == (40, 64, 5)
    assert (request.ensemble, request.source, request.dropout) == ("none", "softmax", None)
    panel.settings.dropout.setValue(0.0)
    assert panel.request().dropout == 0.0
    panel.settings.filters_per_class.setValue(2)
    assert "more than one filter" in text_of(panel) and not panel.foot.run.isEnabled()
    panel.settings.filters_per_class.setValue(1)
    panel.settings.crop_px.setValue(65)
    assert "multiple of 8" in text_of(panel)
    panel.settings.crop_px.setValue(64)
    panel.settings.name.setText(" ")
    assert "a name" in text_of(panel)


def test_score_curves_and_weights_are_shown(panel: Any, qtbot: Any, fake_teaching: FakeTeaching) -> None:
    fake_teaching.go_on.clear()
    panel.train()
    qtbot.waitUntil(lambda: len(panel.view.rows) == 20, timeout=10000)
    assert panel.tabs.currentIndex() == 2 and panel.stop.isEnabled() and not panel.foot.run.isEnabled()
    assert ">0.80<" in panel.view.score.text() and "Best score so far" in panel.view.meaning.text()
    assert [c.name for c in panel.view.plot.content.curves] == [
        "All together",
        "Image",
        "Ensemble",
        "On paint kept aside",
    ]
    panel.view.shown.setCurrentIndex(1)
    assert [c.name for c in panel.view.plot.content.curves] == ["Mean", "background", "cells"]
    assert "20 of 20" in panel.foot.progress.text()
    fake_teaching.go_on.set()
    finish(qtbot, panel)
    assert "Scored on paint that was kept aside" in panel.view.meaning.text()
    assert panel.view.bars.values == {"image": 0.5, "filter 1": 0.3, "filter 2": -0.1}
    fake_teaching.held_out = "none"
    panel.train()
    finish(qtbot, panel)
    assert "Too little paint" in panel.view.meaning.text()


def test_stop_keeps_cancel_discards_and_an_error_is_a_sentence(
    panel: Any, qtbot: Any, fake_teaching: FakeTeaching
) -> None:
    fake_teaching.go_on.clear()
    panel.train()
    qtbot.waitUntil(fake_teaching.told.is_set, timeout=10000)
    panel.stop.click()
    finish(qtbot, panel)
    assert fake_teaching.ended_by == "cancelled" and "Stopped" in text_of(panel)
    panel.train()
    panel.foot.cancel.click()
    finish(qtbot, panel)
    assert fake_teaching.ended_by == "discarded" and "no model was added" in text_of(panel)
    fake_teaching.go_on.set()
    fake_teaching.error = ImageError("the labels do not fit")
    panel.train()
    finish(qtbot, panel)
    assert "The labels do not fit" in text_of(panel) and panel.foot.run.isEnabled()


def test_closing_the_dock_ends_the_training_at_its_checkpoint_and_leaves_the_paint(
    panel: Any, viewer: ViewerModel, qtbot: Any, fake_teaching: FakeTeaching
) -> None:
    fake_teaching.go_on.clear()
    panel.train()
    qtbot.waitUntil(fake_teaching.told.is_set, timeout=10000)
    painted = paint_of(panel)
    panel.close()
    qtbot.waitUntil(lambda: fake_teaching.ended_by == "discarded", timeout=10000)
    assert painted in viewer.layers and painted.data.any()


def test_the_instant_answer_is_learned_from_where_it_is_sure(
    panel: Any, qtbot: Any, fake_teaching: FakeTeaching
) -> None:
    panel.settings.learns_from_answer.setChecked(True)
    painted = paint_of(panel).data.copy()
    panel.train()
    finish(qtbot, panel)
    (layer,) = fake_teaching.requests[0].data
    assert np.array_equal(layer.labels[painted > 0], painted[painted > 0]), "strokes stay as they are"
    assert (layer.labels == 2).sum() > (painted == 2).sum() and (layer.labels == 0).any()
    assert np.array_equal(layer.image, nuclei())
    assert "pixels of the instant answer" in panel.view.meaning.text()


def test_everything_has_a_name_and_a_tooltip(panel: Any) -> None:
    kinds = (QAbstractSpinBox, QComboBox, QLineEdit, QListWidget, QPushButton, QTableWidget)
    for widget in [w for kind in kinds for w in panel.findChildren(kind)]:
        if widget.objectName() == "qt_spinbox_lineedit":
            continue
        assert widget.toolTip(), widget
        assert isinstance(widget, QPushButton) or widget.accessibleName(), widget


# --- for real ---------------------------------------------------------------------------------


def test_paint_train_see_segment(panel: Any, viewer: ViewerModel, qtbot: Any) -> None:
    make_small(panel, 3)
    panel.settings.name.setText("Mine")
    painted = paint_of(panel)
    panel.train()
    qtbot.waitUntil(lambda: panel.learning.layer is not None, timeout=PATIENCE_MS)
    learning = panel.learning.layer
    assert learning.name == "learning: nuclei" and np.array_equal(learning.extent.world, painted.extent.world)
    stroke(painted, 2, (110, 110), (120, 110))  # painting goes on
    finish(qtbot, panel)
    assert "“Mine” is ready" in text_of(panel), text_of(panel)
    assert [row["step"] for row in panel.view.rows] == [1, 2, 3] and len(panel.view.bars.values) == 3
    assert learning.name == "learned: Mine"
    assert panel.settings.start.currentText() == "Train more: Mine" and panel.request().init_from == "mine"
    assert not panel.settings.replaces.isHidden() and not panel.resume.isEnabled()
    for box in panel.segment.boxes.values():
        box.setChecked(True)
    assert panel.segment.card().title == "Mine" and panel.segment.object_class.currentData() == 2
    panel.segment.min_size.setValue(0)
    before = list(viewer.layers)
    panel.segment.run()
    finish(qtbot, panel.segment)
    assert panel.learning.layer is None
    made = {layer.name: layer for layer in viewer.layers if layer not in before}
    assert {"nuclei classes", "nuclei objects", "nuclei probability: background", "nuclei probability: cells"} < set(
        made
    )
    enhanced = [layer for name, layer in made.items() if "enhanced: filter" in name]
    assert len(enhanced) == 2 and len([name for name in made if "segmented from" in name]) == 3
    for layer in made.values():
        assert np.array_equal(layer.extent.world, viewer.layers["nuclei"].extent.world)
        assert layer.metadata["cellenhance"]["model"] == "mine"
        json.dumps(layer.metadata["cellenhance"])
    for layer in enhanced:
        low, high = layer.contrast_limits
        assert layer.data.min() <= low < high <= layer.data.max()
    classes = made["nuclei classes"]
    assert np.allclose(classes.get_color(1)[:3], BLUE) and set(np.unique(classes.data)) <= {1, 2}
    n = len(viewer.layers)
    panel.segment.run()
    finish(qtbot, panel.segment)
    assert len(viewer.layers) == n + len(made), "earlier results stay"


def test_cancel_leaves_the_old_model_and_resume_goes_on_with_the_same_paint(
    panel: Any, make_panel: MakePanel, viewer: ViewerModel, qtbot: Any
) -> None:
    make_small(panel, 2)
    panel.settings.name.setText("Mine")
    panel.train()
    finish(qtbot, panel)
    (card,) = own_segmenters()
    old = card.file.sha256
    make_small(panel, 6)
    panel.train()
    qtbot.waitUntil(lambda: len(panel.view.rows) >= 1, timeout=PATIENCE_MS)
    panel.foot.cancel.click()
    finish(qtbot, panel)
    (card,) = own_segmenters()
    assert card.file.sha256 == old == sha256_of(user_models_dir() / card.file.name)
    assert panel.learning.layer is None and panel.resume.isEnabled()
    stroke(paint_of(panel), 2, (110, 110), (120, 110))
    panel.resume.click()
    finish(qtbot, panel)
    assert "“Mine” is ready" in text_of(panel), text_of(panel)
    assert [row["step"] for row in panel.view.rows] == [1, 2, 3, 4, 5, 6]
    (card,) = own_segmenters()
    assert card.file.sha256 != old and card.training["init_from"] == "mine"


def test_a_dock_that_was_closed_is_opened_again_and_resumes(
    panel: Any, make_panel: MakePanel, viewer: ViewerModel, qtbot: Any
) -> None:
    make_small(panel, 4)
    panel.train()
    qtbot.waitUntil(lambda: len(panel.view.rows) >= 1, timeout=PATIENCE_MS)
    panel.close()
    qtbot.waitUntil(lambda: not _worker.is_busy(), timeout=PATIENCE_MS)
    assert not own_segmenters() and checkpoint_of(panel._last.request.out).is_file()
    again = make_panel(viewer)
    qtbot.waitUntil(again.resume.isEnabled, timeout=10000)
    again.resume.click()
    finish(qtbot, again)
    assert "is ready" in text_of(again), text_of(again)
    assert [row["step"] for row in again.view.rows] == [1, 2, 3, 4] and own_segmenters()


@pytest.mark.parametrize("step", [0, 2])
def test_a_loss_that_breaks_never_replaces_a_model_by_a_bad_one(
    panel: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    from napari_cellenhance.core.recipes.aep import AEPRecipe

    make_small(panel, 2)
    panel.train()
    finish(qtbot, panel)
    (card,) = own_segmenters()
    honest = AEPRecipe.loss

    def breaks(self: Any, rng: Any, at: int) -> Any:
        losses = honest(self, rng, at)
        return {**losses, "total": losses["total"] * (float("nan") if at >= step else 1.0)}

    monkeypatch.setattr(AEPRecipe, "loss", breaks)
    make_small(panel, 8)
    panel.train()
    finish(qtbot, panel)
    (now,) = own_segmenters()
    assert "unexpected" not in text_of(panel)
    if step == 0:
        assert "not a number" in text_of(panel) and now.file.sha256 == card.file.sha256
    else:
        assert "the loss broke" in text_of(panel) and not panel.view.warning.isHidden()
        assert now.training["stopped"] == "diverged"


def test_layers_that_are_deleted_during_a_training_do_not_end_it(panel: Any, viewer: ViewerModel, qtbot: Any) -> None:
    make_small(panel, 4)
    panel.train()
    qtbot.waitUntil(lambda: len(panel.view.rows) >= 1, timeout=PATIENCE_MS)
    viewer.layers.clear()
    finish(qtbot, panel)
    assert "is ready" in text_of(panel) and own_segmenters()
    assert panel.learning.layer is None and not viewer.layers


def test_a_stack_is_taught_and_segmented_plane_by_plane(make_panel: MakePanel, qtbot: Any) -> None:
    viewer = ViewerModel()
    viewer.add_image(np.stack([nuclei(), nuclei()[::-1]]), name="stack", axis_labels=("z", "y", "x"), scale=(2, 1, 1))
    on_screen(viewer.layers["stack"])
    panel = make_panel(viewer)
    panel.images.current_form().new.click()
    for value, ends in STROKES.items():
        stroke(paint_of(panel), value, *((0, *end) for end in ends))
    qtbot.waitUntil(panel.foot.run.isEnabled, timeout=10000)
    make_small(panel, 1)
    panel.train()
    finish(qtbot, panel)
    panel.segment.run()
    finish(qtbot, panel.segment)
    assert viewer.layers["stack classes"].data.shape == (2, 128, 128)
    assert viewer.layers["stack classes"].data.all(axis=(1, 2)).all()
    assert np.allclose(viewer.layers["stack classes"].scale, (2, 1, 1))


def test_a_segmentation_that_is_cancelled_or_fails_adds_nothing(
    panel: Any, viewer: ViewerModel, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_cellenhance.core.recipes.aep_segmenter import AEPSegmenter

    make_small(panel, 1)
    panel.train()
    finish(qtbot, panel)
    n = len(viewer.layers)
    panel.segment.run()
    panel.segment.foot.cancel.click()
    finish(qtbot, panel.segment)
    assert len(viewer.layers) == n and "Cancelled; nothing was added" in panel.segment.foot.message.text()

    def fails(*_: Any, **__: Any) -> Any:
        raise ImageError("the image is torn")

    monkeypatch.setattr(AEPSegmenter, "segment", fails)
    panel.segment.run()
    finish(qtbot, panel.segment)
    assert len(viewer.layers) == n and "The image is torn" in panel.segment.foot.message.text()


def test_own_models_are_renamed_exported_and_deleted(
    panel: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    from napari_cellenhance.widgets import _teach_models as menu

    make_small(panel, 1)
    panel.train()
    finish(qtbot, panel)
    part = panel.segment
    monkeypatch.setattr(menu.QInputDialog, "getText", lambda *_, **__: ("Better name", True))
    part.menu.ask_title()
    assert part.model.currentText() == "Better name" and "is now “Better name”" in part.foot.message.text()
    assert "Train more: Better name" in panel.settings.start.currentText()
    monkeypatch.setattr(menu.QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path))
    part.menu.ask_folder()
    assert len(list(tmp_path.glob("*.safetensors"))) == 1 and "Exported" in part.foot.message.text()
    answer = menu.QMessageBox.StandardButton
    monkeypatch.setattr(menu.QMessageBox, "question", lambda *_: answer.No)
    part.menu.ask_delete()
    assert own_segmenters()
    monkeypatch.setattr(menu.QMessageBox, "question", lambda *_: answer.Yes)
    part.menu.ask_delete()
    assert not own_segmenters() and part.model.count() == len(list_segmenters()) == 2
    assert panel.settings.start.count() == 1 + len(list_segmenters())
