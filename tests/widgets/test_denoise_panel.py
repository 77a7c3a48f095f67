"""The dock “Denoise” with small noisy images: choose, look, train, watch, stop, resume, denoise, go on from there."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QAbstractSpinBox, QComboBox, QLineEdit, QListWidget, QPushButton

from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.widgets import _denoise_now, _denoise_run, _learning_dock, _model_now, _settings, _worker
from napari_cellenhance.widgets._layers import METADATA_KEY, PREVIEW_MARK, Choices, build_request, snapshot
from napari_cellenhance.widgets.denoise import DenoisePanel
from napari_cellenhance.workflows import denoise_layers, enhance, train_n2v
from napari_cellenhance.workflows.catalog import list_filters
from napari_cellenhance.workflows.denoise import DEFAULT_DENOISER, list_denoisers
from napari_cellenhance.workflows.train_n2v import Glimpse, N2VRequest, N2VResult, checkpoint_of
from napari_cellenhance.workflows.train_progress import TrainProgress
from napari_cellenhance.zoo.folders import sha256_of, user_models_dir

MakePanel = Callable[..., Any]
PATIENCE_MS = 120_000
SMALL = {"depth": 1, "width": 4, "batch_size": 2, "recipe_options": {"n_validation": 4}}


def noisy(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Bright stripes in camera noise."""
    clean = np.broadcast_to(np.where(np.arange(shape[-1]) % 16 < 8, 40.0, 120.0), shape)
    return np.random.default_rng(seed).poisson(clean).astype(np.uint16)


def on_screen(layer: Any, y: tuple[int, int], x: tuple[int, int]) -> None:
    """Say which window of a layer is seen, as a canvas does."""
    low, high = np.zeros(layer.ndim, int), np.zeros(layer.ndim, int)
    low[-2:], high[-2:] = (y[0], x[0]), (y[1], x[1])
    layer.corner_pixels = np.array([low, high])


def viewer_of(pixels: Any, name: str = "cells", **kwargs: Any) -> ViewerModel:
    viewer = ViewerModel()
    layer = viewer.add_image(pixels, name=name, **kwargs)
    on_screen(layer, (0, int(layer.data.shape[-2 - layer.rgb]) - 1), (0, int(layer.data.shape[-1 - layer.rgb]) - 1))
    return viewer


@pytest.fixture
def viewer() -> ViewerModel:
    return viewer_of(
        noisy(48, 64), scale=(0.5, 0.25), translate=(3, 4), units=("um", "um"), colormap="magma",
        contrast_limits=(0, 500),
    )  # fmt: skip


@pytest.fixture
def make_panel(monkeypatch: pytest.MonkeyPatch, keep_panel: Any) -> MakePanel:
    for module in (_learning_dock, _model_now, _denoise_now):
        monkeypatch.setattr(module, "read_settings", lambda: _settings.PluginSettings(device="cpu"))
    monkeypatch.setattr(_denoise_run, "N2VRequest", lambda **fields: N2VRequest(**{**fields, **SMALL}))

    def make(viewer: Any) -> DenoisePanel:
        panel: DenoisePanel = keep_panel(DenoisePanel(viewer))
        return panel

    return make


@pytest.fixture
def panel(make_panel: MakePanel, viewer: ViewerModel) -> Any:
    panel = make_panel(viewer)
    make_short(panel)
    return panel


class FakeTraining:
    """Stands in for ``workflows.train_n2v.run``: tells rows, looks, waits, fails, and can be stopped."""

    def __init__(self) -> None:
        self.requests: list[N2VRequest] = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.told = threading.Event()
        self.error: Exception | None = None
        self.ended_by = ""
        self.windows: list[Any] = []

    def __call__(
        self, request: N2VRequest, *, on_progress: Any, is_cancelled: Any, is_discarded: Any, look: Any, on_glimpse: Any
    ) -> Any:
        self.requests.append(request)
        for step in range(1, 21):
            row = {"step": float(step), "total": 2.0 / step}
            if step % 5 == 0:
                row["val_total"] = 1.0 / step
            on_progress(TrainProgress(n_done=step, n_total=20, rows=(row,), best_step=step - step % 5, eta_s=3.0))
        Path(request.out).mkdir(parents=True, exist_ok=True)
        checkpoint_of(request.out).touch()
        self.told.set()
        while True:
            if (window := look()) is not None:
                self.windows.append(window)
                region = (..., *window.region.slices)
                on_glimpse(Glimpse(shown=window.plane[region] + 1000, window=window, step=20))
            if self.go_on.wait(0.02) or is_discarded() or is_cancelled():
                break
        if self.error is not None:
            raise self.error
        self.ended_by = "discarded" if is_discarded() else "cancelled" if is_cancelled() else "finished"
        return N2VResult(
            model_id=request.model_id, weights=None, card=None, history=Path(request.out) / "history.csv",
            stopped="discarded" if self.ended_by == "discarded" else self.ended_by, best_step=20, best_total=0.05,
        )  # fmt: skip


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTraining]:
    run = FakeTraining()
    monkeypatch.setattr(train_n2v, "run", run)
    yield run
    run.go_on.set()


def make_short(panel: Any, n_steps: int = 2) -> None:
    settings = panel.settings
    settings.time.setCurrentIndex(settings.time.count() - 1)
    settings.n_steps.setValue(n_steps)
    settings.patch_px.setValue(16)


def text_of(panel: Any) -> str:
    return str(panel.foot.message.text())


def finish(qtbot: Any, panel: Any) -> None:
    qtbot.waitUntil(lambda: panel._job is None, timeout=PATIENCE_MS)


def train(qtbot: Any, panel: Any, name: str = "Mine") -> None:
    panel.settings.name.setText(name)
    panel.train()
    finish(qtbot, panel)


# --- what is said -------------------------------------------------------------------------------


def test_a_dock_without_any_model_says_what_to_do(panel: Any) -> None:
    assert panel.settings.sees.text() == "It learns from 1 plane of 48 × 64 px."
    assert "no shipped model fits" in panel.settings.begins.text()
    assert panel.foot.run.isEnabled() and not panel.stop.isEnabled() and not panel.resume.isEnabled()
    if not list_denoisers():
        assert "train one" in panel.now.foot.message.text() and not panel.now.foot.run.isEnabled()


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (None, "Open an image"),
        (noisy(8, 40), "8 × 40 px; a training needs 16 px"),
    ],
)
def test_images_that_cannot_be_learned_from_say_why(make_panel: MakePanel, pixels: Any, said: str) -> None:
    panel = make_panel(ViewerModel() if pixels is None else viewer_of(pixels))
    assert said in text_of(panel) and not panel.foot.run.isEnabled() and not panel.settings.sees.text()


def test_nothing_checked_and_no_name_are_said(panel: Any, viewer: ViewerModel) -> None:
    panel.settings.name.setText(" ")
    assert "a name" in text_of(panel)
    panel.images.check(viewer.layers["cells"], is_checked=False)
    assert "Check at least one image" in text_of(panel) and not panel.foot.run.isEnabled()


def test_a_constant_image_ends_in_a_sentence(make_panel: MakePanel, qtbot: Any) -> None:
    panel = make_panel(viewer_of(np.full((32, 32), 7, np.uint8), contrast_limits=(0, 9)))
    make_short(panel)
    panel.train()
    finish(qtbot, panel)
    assert "one single grey value" in text_of(panel) and panel.foot.run.isEnabled()
    assert not [card for card in list_denoisers() if card.file.url is None]


def test_a_colour_image_is_learned_from_in_grey_and_says_so(make_panel: MakePanel) -> None:
    panel = make_panel(viewer_of(np.repeat(noisy(32, 32)[..., np.newaxis] / 255, 3, axis=-1), rgb=True))
    form = panel.images.current_form()
    assert panel.request().data[0].channels == "grey" and panel.settings.is_joint.isHidden()
    channels = form.image.channels
    channels.setCurrentIndex(channels.findText("Green only"))
    assert panel.request().data[0].channels == (1,)
    assert all("Each colour" not in channels.itemText(i) for i in range(channels.count()))


def test_a_request_says_what_the_dock_says(make_panel: MakePanel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_denoise_run, "N2VRequest", N2VRequest)
    panel = make_panel(viewer_of(noisy(4, 2, 48, 64), axis_labels=("z", "channel", "y", "x")))
    request: N2VRequest = panel.request()
    assert (request.variant, request.n_dims, request.is_joint, request.structure) == ("n2v2", 2, False, "none")
    shipped = DEFAULT_DENOISER if DEFAULT_DENOISER in {card.id for card in list_denoisers()} else None
    assert (request.n_steps, request.time_limit_s, request.init_from) == (0, 300.0, shipped)
    assert request.model_id == "denoiser-for-cells" and request.data[0].axes == "ZCYX"
    panel.settings.time.setCurrentIndex(0)
    assert panel.request().time_limit_s == 60 and panel.request().recipe_options["n_validation"] < 192
    make_short(panel, 40)
    for combo, data in (
        (panel.settings.variant, "n2v"), (panel.settings.n_dims, 3), (panel.settings.is_joint, True),
        (panel.settings.structure, "square"),
    ):  # fmt: skip
        combo.setCurrentIndex(combo.findData(data))
    panel.settings.reach_px.setValue(6)
    request = panel.request()
    assert (request.variant, request.n_dims, request.is_joint, request.n_steps) == ("n2v", 3, True, 40)
    assert (request.structure, request.reach_px) == ("square", 6) and request.radius_px > 6
    assert panel.settings.sees.text() == "It learns from 1 volume of 4 × 48 × 64 px, 2 channels each."


def test_the_noise_is_plotted_and_its_structure_proposed(make_panel: MakePanel, qtbot: Any) -> None:
    rng = np.random.default_rng(0)
    lines = rng.normal(100, 10, (64, 64)) + np.repeat(rng.normal(0, 12, (64, 16)), 4, axis=1)
    panel = make_panel(viewer_of(lines.astype(np.float32)))
    panel.settings.look.click()
    qtbot.waitUntil(lambda: bool(panel.settings.noise_note.text()), timeout=10000)
    assert [curve.name for curve in panel.settings.noise_plot.content.curves] == ["Along rows (X)", "Along columns (Y)"]
    request = panel.request()
    assert request.structure == "horizontal" and request.reach_px >= 2


def test_the_time_is_measured_before_and_forgotten_when_settings_change(panel: Any, qtbot: Any) -> None:
    panel.settings.estimate.click()
    finish(qtbot, panel)
    assert "on this computer" in panel.settings.expected.text()
    panel.settings.time.setCurrentIndex(2)
    assert "about 20 min on this computer" in panel.settings.expected.text()
    panel.settings.patch_px.setValue(32)
    assert "measure again" in panel.settings.expected.text()


# --- a training ---------------------------------------------------------------------------------


def test_curves_and_picture_follow_the_training(
    panel: Any, viewer: ViewerModel, qtbot: Any, fake: FakeTraining
) -> None:
    fake.go_on.clear()
    on_screen(viewer.layers["cells"], (8, 31), (16, 47))
    panel.train()
    qtbot.waitUntil(lambda: panel.learning.layer is not None and len(panel.view.rows) == 20, timeout=10000)
    assert panel.tabs.currentIndex() == 2 and panel.stop.isEnabled() and not panel.foot.run.isEnabled()
    names = [curve.name for curve in panel.view.plot.content.curves]
    assert names == ["Each update", "Smoothed", "On pixels kept aside"]
    assert "Error 0.05 at the best check (update 20)" in panel.view.meaning.text()
    assert "20 of 20" in panel.foot.progress.text()
    learning = panel.learning.layer
    assert learning.name == "learning: cells" and learning.metadata[PREVIEW_MARK]
    assert np.array_equal(learning.data, viewer.layers["cells"].data[8:32, 16:48] + 1000.0)
    assert np.allclose(learning.translate, (3 + 8 * 0.5, 4 + 16 * 0.25)) and np.allclose(learning.scale, (0.5, 0.25))
    assert learning.contrast_limits[0] > 1000, "the contrast is that of what is shown"
    assert fake.windows[0].plane.shape == (1, 48, 64)
    on_screen(viewer.layers["cells"], (0, 15), (0, 15))
    qtbot.waitUntil(lambda: panel.learning.layer.data.shape == (16, 16), timeout=10000)
    fake.go_on.set()
    finish(qtbot, panel)
    assert panel.learning.layer is None and [layer.name for layer in viewer.layers] == ["cells"]


def test_the_picture_of_channels_and_volumes_is_that_on_screen(
    make_panel: MakePanel, qtbot: Any, fake: FakeTraining
) -> None:
    pixels = noisy(20, 2, 16, 24)
    viewer = viewer_of(pixels, axis_labels=("z", "channel", "y", "x"))
    viewer.dims.set_current_step(0, 12)
    viewer.dims.set_current_step(1, 1)
    panel = make_panel(viewer)
    make_short(panel)
    panel.settings.n_dims.setCurrentIndex(1)
    fake.go_on.clear()
    panel.train()
    qtbot.waitUntil(lambda: panel.learning.layer is not None, timeout=10000)
    assert np.array_equal(panel.learning.layer.data[0, 0], pixels[12, 1] + 1000.0)
    assert fake.windows[0].plane.shape == (2, 9, 16, 24), "planes around the one on screen"
    assert panel.learning.layer.translate[0] == 12 and panel.learning.layer.translate[1] == 1


def test_stop_keeps_discard_does_not_and_an_error_is_a_sentence(panel: Any, qtbot: Any, fake: FakeTraining) -> None:
    fake.go_on.clear()
    panel.train()
    qtbot.waitUntil(fake.told.is_set, timeout=10000)
    assert panel.foot.cancel.text() == "Discard"
    panel.stop.click()
    finish(qtbot, panel)
    assert fake.ended_by == "cancelled"
    panel.train()
    panel.foot.cancel.click()
    finish(qtbot, panel)
    assert fake.ended_by == "discarded" and "no model was added" in text_of(panel)
    assert panel.resume.isEnabled()
    fake.go_on.set()
    fake.error = ImageError("the channels do not fit")
    panel.train()
    finish(qtbot, panel)
    assert "The channels do not fit" in text_of(panel) and panel.foot.run.isEnabled()


def test_a_training_that_takes_far_longer_than_said_is_ended(panel: Any, qtbot: Any, fake: FakeTraining) -> None:
    panel.settings.time.setCurrentIndex(0)
    run = panel.new_run()
    assert not run._is_ended.__self__.is_late
    run._begun = -1e9
    assert run._is_ended() and run.is_late and not run.is_stopping
    make_short(panel)
    run = panel.new_run()
    run._begun = -1e9
    assert not run._is_ended(), "a number of updates is a number of updates"


def test_closing_the_dock_ends_the_training_at_its_checkpoint(panel: Any, qtbot: Any, fake: FakeTraining) -> None:
    fake.go_on.clear()
    panel.train()
    qtbot.waitUntil(fake.told.is_set, timeout=10000)
    panel.close()
    qtbot.waitUntil(lambda: fake.ended_by == "discarded", timeout=10000)


def test_a_layer_removed_meanwhile_harms_nothing(
    panel: Any, viewer: ViewerModel, qtbot: Any, fake: FakeTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.go_on.clear()
    panel.train()
    qtbot.waitUntil(lambda: panel.learning.layer is not None, timeout=10000)
    viewer.layers.remove("cells")
    qtbot.waitUntil(lambda: panel.learning.layer is None, timeout=10000)
    assert panel.stop.isEnabled() and panel.view.rows, "the training goes on"
    fake.go_on.set()
    finish(qtbot, panel)
    assert not list(viewer.layers) and "unexpected" not in text_of(panel)


# --- for real -----------------------------------------------------------------------------------


def test_train_see_denoise_and_go_on(panel: Any, viewer: ViewerModel, qtbot: Any) -> None:
    train(qtbot, panel)
    assert "“Mine” is ready" in text_of(panel) and "“cells denoised”" in text_of(panel), text_of(panel)
    result, source = viewer.layers["cells denoised"], viewer.layers["cells"]
    assert np.array_equal(result.extent.world, source.extent.world) and result.data.dtype == np.float32
    assert [str(unit) for unit in result.units] == ["micrometer", "micrometer"]
    assert result.colormap.name == "magma" and result.contrast_limits != [0, 500]
    assert result.contrast_limits[0] >= result.data.min() and result.contrast_limits[1] <= result.data.max()
    assert abs(float(result.data.mean()) - float(source.data.mean())) < 40, "in its own grey values"
    record = result.metadata[METADATA_KEY]
    assert record["step"] == "denoise" and record["model"] == "mine" and record["earlier"] is None
    json.dumps(record)
    assert viewer.layers.selection.active == source
    assert "mine" in {info.id for info in list_filters()}, "Enhance cells has it too"
    assert panel.now.card().title == "Mine" and not panel.resume.isEnabled()
    assert not panel.settings.duration.replaces.isHidden(), "the next one of this name would take its place"
    assert panel.settings.start.findData("mine") > 0
    before = sha256_of(next(user_models_dir().glob("mine*.safetensors")))
    # its result is an input again, and the chain is known
    panel.images.check(source, is_checked=False)
    panel.images.check(result)
    panel.now.run()
    finish(qtbot, panel.now)
    again = viewer.layers["cells denoised denoised"].metadata[METADATA_KEY]
    assert again["earlier"]["model"] == "mine" and again["source"]["name"] == "cells denoised"
    choices = Choices(axes="YX", filter_id="dog", strength=5.0)
    request = build_request(snapshot(result, viewer.dims), choices, _settings.PluginSettings())
    assert enhance.run(request).provenance["earlier"]["step"] == "denoise"
    assert sha256_of(next(user_models_dir().glob("mine*.safetensors"))) == before


def test_denoising_after_a_training_can_be_skipped(
    panel: Any, viewer: ViewerModel, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, begun = denoise_layers.denoise_layers, threading.Event()

    def slow(requests: Any, *, on_progress: Any, is_cancelled: Any) -> Any:
        begun.set()
        while not is_cancelled():
            threading.Event().wait(0.01)
        return right(requests, on_progress=on_progress, is_cancelled=is_cancelled)

    monkeypatch.setattr(denoise_layers, "denoise_layers", slow)
    panel.settings.name.setText("Mine")
    panel.train()
    qtbot.waitUntil(lambda: panel.stop.text() == "Skip denoising", timeout=PATIENCE_MS)
    assert panel.stop.isEnabled() and not panel.foot.cancel.isEnabled(), "the model is there, and stays"
    panel.stop.click()
    finish(qtbot, panel)
    assert "“Mine” is ready" in text_of(panel) and "nothing was added" in text_of(panel)
    assert [layer.name for layer in viewer.layers] == ["cells"] and panel.stop.text() == "Stop, keep best"
    assert panel.now.card().title == "Mine"


def test_a_model_from_the_list_can_be_the_start(panel: Any, qtbot: Any) -> None:
    train(qtbot, panel)
    panel.settings.name.setText("Second")
    panel.settings.start.setCurrentIndex(panel.settings.start.findData("mine"))
    assert panel.settings.begins.text() == "Starts from “Mine”." and panel.request().init_from == "mine"
    panel.train()
    finish(qtbot, panel)
    card = next(card for card in list_denoisers() if card.id == "second")
    assert card.training["init_from"] == "mine"


def test_the_general_model_is_the_start_where_it_fits(panel: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    train(qtbot, panel)
    monkeypatch.setattr(denoise_layers, "DEFAULT_DENOISER", "mine")
    panel.settings.name.setText("Second")
    assert "Starts from “Mine”" in panel.settings.begins.text() and panel.request().init_from == "mine"
    panel.settings.variant.setCurrentIndex(1)
    assert "no shipped model fits" in panel.settings.begins.text() and panel.request().init_from is None
    panel.settings.variant.setCurrentIndex(0)
    panel.settings.start.setCurrentIndex(1)
    assert panel.settings.begins.text() == "Starts from random weights." and panel.request().init_from is None


def test_resume_after_the_dock_was_closed(
    panel: Any, make_panel: MakePanel, viewer: ViewerModel, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_short(panel, 100_000)
    panel.settings.name.setText("Mine")
    panel.train()
    qtbot.waitUntil(lambda: len(panel.view.rows) >= 2, timeout=PATIENCE_MS)
    panel.close()
    qtbot.waitUntil(lambda: not _worker.is_busy(), timeout=PATIENCE_MS)
    assert not [card for card in list_denoisers() if card.id == "mine"]
    again = make_panel(viewer)
    make_short(again)
    again.settings.name.setText("Mine")
    assert again.resume.isEnabled()
    again.resume.click()
    qtbot.waitUntil(lambda: len(again.view.rows) > 2, timeout=PATIENCE_MS)
    assert again._run.request.n_steps == 100_000, "with the settings that it began with"
    again.stop.click()
    finish(qtbot, again)
    assert "Stopped: “Mine” is ready" in text_of(again) and "cells denoised" in viewer.layers
    assert again.view.rows[0]["step"] == 1, "the curves begin where they began"
    viewer.layers["cells"].data = noisy(48, 64, seed=9)
    again.settings.name.setText("Mine")
    other = make_panel(viewer)
    make_short(other)
    other.settings.name.setText("Mine")
    other.resume.click()
    finish(qtbot, other)
    assert "other" in text_of(other) or "another" in text_of(other), text_of(other)


def test_a_broken_training_leaves_the_good_model_alone(panel: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    train(qtbot, panel)
    (weights,) = user_models_dir().glob("mine*.safetensors")
    before = sha256_of(weights)
    from napari_cellenhance.core.recipes.n2v import N2VRecipe

    right = N2VRecipe.loss
    monkeypatch.setattr(
        N2VRecipe, "loss", lambda self, rng, step: {k: v * float("nan") for k, v in right(self, rng, step).items()}
    )
    panel.train()
    finish(qtbot, panel)
    assert "is not a number" in text_of(panel) and "unexpected" not in text_of(panel)
    assert sha256_of(weights) == before and panel.now.card().title == "Mine"


@pytest.mark.parametrize(
    ("shape", "labels", "channels"),
    [((3, 24, 32), ("z", "y", "x"), None), ((2, 24, 32), ("channel", "y", "x"), "Channel 1 only"),
     ((2, 2, 24, 32), ("t", "channel", "y", "x"), "Channel 1 only"), ((2, 24, 32), ("channel", "y", "x"), None)],
)  # fmt: skip
def test_stacks_and_channels_come_back_in_place(
    make_panel: MakePanel, qtbot: Any, shape: tuple[int, ...], labels: tuple[str, ...], channels: str | None
) -> None:
    viewer = viewer_of(noisy(*shape), axis_labels=labels)
    panel = make_panel(viewer)
    make_short(panel)
    if channels is not None:
        box = panel.images.current_form().image.channels
        box.setCurrentIndex(box.findText(channels))
    train(qtbot, panel)
    result, source = viewer.layers["cells denoised"], viewer.layers["cells"]
    if channels is None:
        assert result.data.shape == source.data.shape
        assert np.array_equal(result.extent.world, source.extent.world)
    else:
        assert result.data.shape[-2:] == (24, 32) and result.ndim == (2 if labels[0] == "channel" else 4)
        assert np.array_equal(result.extent.world[:, -2:], source.extent.world[:, -2:])


def test_denoise_now_can_be_cancelled_and_says_what_it_does(
    panel: Any, viewer: ViewerModel, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(qtbot, panel)
    names = [layer.name for layer in viewer.layers]
    right, begun = denoise_layers.denoise_layers, threading.Event()

    def slow(requests: Any, *, on_progress: Any, is_cancelled: Any) -> Any:
        begun.set()
        while not is_cancelled():
            begun.wait(0.01)
        return right(requests, on_progress=on_progress, is_cancelled=is_cancelled)

    monkeypatch.setattr(denoise_layers, "denoise_layers", slow)
    panel.now.run()
    qtbot.waitUntil(begun.is_set, timeout=10000)
    assert panel.now.foot.cancel.isEnabled() and not panel.now.foot.run.isEnabled()
    panel.now.foot.cancel.click()
    finish(qtbot, panel.now)
    assert "nothing was added" in panel.now.foot.message.text()
    assert [layer.name for layer in viewer.layers] == names
    monkeypatch.setattr(denoise_layers, "denoise_layers", right)
    seen: list[Any] = []
    monkeypatch.setattr(_denoise_now, "request_for", partial(_seen, seen, _denoise_now.request_for))
    panel.now.symmetries.setChecked(True)
    panel.now.run()
    viewer.layers.remove("cells")
    finish(qtbot, panel.now)
    assert "“cells” was removed meanwhile" in panel.now.foot.message.text() and seen[0].symmetries == 8


def _seen(seen: list[Any], call: Any, *args: Any) -> Any:
    seen.append(call(*args))
    return seen[-1]


def test_the_preview_follows_with_a_contrast_of_its_own(panel: Any, viewer: ViewerModel, qtbot: Any) -> None:
    train(qtbot, panel)
    panel.now.badge.switch.setChecked(True)
    qtbot.waitUntil(lambda: panel.now.preview.layer is not None, timeout=20000)
    shown = panel.now.preview.layer
    assert shown.name == "cells preview" and np.array_equal(shown.extent.world, viewer.layers["cells"].extent.world)
    assert tuple(shown.contrast_limits) != (0.0, 1.0)
    panel.now.run()
    finish(qtbot, panel.now)
    assert panel.now.preview.layer is None, "the result is seen"


def test_bad_pixels_are_filled_and_that_is_said(make_panel: MakePanel, qtbot: Any) -> None:
    pixels = noisy(32, 32).astype(np.float32)
    pixels[3, 4:7] = np.nan
    viewer = viewer_of(pixels)
    panel = make_panel(viewer)
    make_short(panel)
    train(qtbot, panel)
    assert "3 pixels were no numbers" in text_of(panel)
    assert np.isfinite(viewer.layers["cells denoised"].data).all()


# --- the window ---------------------------------------------------------------------------------


def test_everything_has_a_name_and_a_tooltip(panel: Any) -> None:
    kinds = (QAbstractSpinBox, QComboBox, QLineEdit, QListWidget, QPushButton)
    for widget in [w for kind in kinds for w in panel.findChildren(kind)]:
        if widget.objectName() == "qt_spinbox_lineedit":
            continue
        assert widget.toolTip(), widget
        assert isinstance(widget, QPushButton) or widget.accessibleName(), widget


def test_in_a_real_window_by_the_door_of_the_manifest(make_napari_viewer: Any, qtbot: Any) -> None:
    viewer = make_napari_viewer(show=True)
    viewer.add_image(noisy(40, 60), name="cells")
    docked, panel = viewer.window.add_plugin_dock_widget("napari-cellenhance", "Denoise")
    assert panel.minimumSizeHint().width() <= 380
    panel.settings.advanced.button.setChecked(True)
    for page in range(panel.tabs.count()):
        panel.tabs.setCurrentIndex(page)
        qtbot.wait(20)
        area = panel.tabs.widget(page)
        assert area.widget().minimumSizeHint().width() <= area.viewport().width(), "nothing is cut off"
    viewer.window.remove_dock_widget(docked)
    qtbot.waitUntil(lambda: panel._gone.is_set(), timeout=5000)
