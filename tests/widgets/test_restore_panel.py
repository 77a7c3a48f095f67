"""The dock “Restore like these” with small images: teach from clean images or pairs, watch, restore, doubt."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QAbstractSpinBox, QCheckBox, QComboBox, QLineEdit, QListWidget, QPushButton, QSlider
from scipy.ndimage import gaussian_filter

from napari_cellenhance.core.doubt import DEFAULT_SHARE
from napari_cellenhance.core.microscope import LEVELS
from napari_cellenhance.io.images import write
from napari_cellenhance.widgets import _learning_dock, _model_now, _restore_now, _restore_run, _settings
from napari_cellenhance.widgets._layers import METADATA_KEY, PREVIEW_MARK
from napari_cellenhance.widgets.restore import RestorePanel
from napari_cellenhance.workflows.catalog import list_filters
from napari_cellenhance.workflows.restore import list_restorers
from napari_cellenhance.workflows.train_care import CareRequest

MakePanel = Callable[..., Any]
PATIENCE_MS = 120_000
SMALL = {"width": 4, "kernel_px": 3, "batch_size": 2}


def image(*shape: int, seed: int = 0) -> Any:
    smooth = gaussian_filter(np.random.default_rng(seed).random(shape), (0,) * (len(shape) - 2) + (2, 2))
    return (1000 * (smooth - smooth.min()) / np.ptp(smooth) + 100).astype(np.uint16)


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
    place: dict[str, Any] = {"scale": (0.2, 0.2), "units": ("um", "um")}
    add(viewer, image(48, 56), "clean", **place)
    add(viewer, image(40, 44, seed=1) // 3, "poor", translate=(3, 4), colormap="magma", **place)
    return viewer


@pytest.fixture
def make_panel(monkeypatch: pytest.MonkeyPatch, keep_panel: Any) -> MakePanel:
    for module in (_learning_dock, _model_now, _restore_now):
        monkeypatch.setattr(module, "read_settings", lambda: _settings.PluginSettings(device="cpu"))
    options = {"recipe_options": {"n_validation": 3}}
    monkeypatch.setattr(_restore_run, "CareRequest", lambda **fields: CareRequest(**{**fields, **SMALL, **options}))

    def make(viewer: Any) -> RestorePanel:
        panel: RestorePanel = keep_panel(RestorePanel(viewer))
        panel.settings.time.setCurrentIndex(panel.settings.time.count() - 1)
        panel.settings.n_steps.setValue(2)
        panel.settings.patch_px.setValue(16)
        return panel

    return make


@pytest.fixture
def panel(make_panel: MakePanel, viewer: ViewerModel) -> Any:
    panel = make_panel(viewer)
    panel.settings.data.clean.check(viewer.layers["clean"])
    return panel


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
    make_panel: MakePanel, viewer: ViewerModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("_restore_now", "restore"):
        monkeypatch.setattr(f"napari_cellenhance.widgets.{module}.list_restorers", lambda: ())
    panel = make_panel(viewer)
    panel.settings.data.clean.check(viewer.layers["clean"])
    assert "Teach one under “2 Teach”" in panel.now.foot.message.text() and not panel.now.foot.run.isEnabled()
    assert panel.settings.data.note.text() == "1 clean image → 3 pairs."
    assert [form.layer.name for form in panel.images.forms()] == ["poor"]
    assert panel.foot.run.isEnabled() and panel.settings.name.text() == "Restore clean"


def test_images_that_cannot_be_used_say_why(make_panel: MakePanel) -> None:
    viewer = ViewerModel()
    panel = make_panel(viewer)
    assert "Open an image" in text_of(panel) and "Open an image" in panel.now.foot.message.text()
    colours = add(viewer, np.zeros((32, 32, 3), np.uint8), "stained", rgb=True)
    panel.settings.data.clean.check(colours)
    panel.images.check(colours)
    assert "“stained” is a colour image (RGB)" in text_of(panel) and "Split RGB" in text_of(panel)
    assert "“stained” is a colour image (RGB)" in panel.now.foot.message.text()
    viewer.layers.clear()
    small = add(viewer, image(8, 40), "small")
    assert "Check at least one image" in text_of(panel)
    panel.settings.data.clean.check(small)
    assert "8 × 40 px; a training needs 16 px" in text_of(panel) and not panel.foot.run.isEnabled()


def test_a_blur_without_the_size_of_pixels_is_refused(make_panel: MakePanel, qtbot: Any) -> None:
    viewer = ViewerModel()
    layer = add(viewer, image(32, 32), "clean")
    panel = make_panel(viewer)
    panel.settings.data.clean.check(layer)
    assert "size of the pixels is not known" in text_of(panel) and not panel.foot.run.isEnabled()
    qtbot.waitUntil(lambda: "size of the pixels" in panel.settings.look.note.text(), timeout=10000)
    panel.settings.microscope.pixel.setValue(0.1)
    assert panel.foot.run.isEnabled() and panel.request().synthesis.optics.pixel_um == 0.1
    panel.settings.microscope.pixel.setValue(0.0)
    choose(panel.settings.microscope.kind, "none")
    assert panel.foot.run.isEnabled() and panel.request().synthesis.optics.kind == "none"
    panel.settings.name.setText(" ")
    assert "a name" in text_of(panel)


def test_layers_of_different_pixels_do_not_teach_together(panel: Any, viewer: ViewerModel) -> None:
    other = add(viewer, image(48, 56, seed=3), "finer", scale=(0.1, 0.1), units=("um", "um"))
    panel.settings.data.clean.check(other)
    assert "differ in size (0.1 and 0.2 µm)" in text_of(panel)


def test_a_constant_image_ends_in_a_sentence(make_panel: MakePanel, qtbot: Any) -> None:
    viewer = ViewerModel()
    layer = add(viewer, np.full((32, 32), 7, np.uint8), "flat", contrast_limits=(0, 9))
    panel = make_panel(viewer)
    panel.settings.data.clean.check(layer)
    choose(panel.settings.microscope.kind, "none")
    qtbot.waitUntil(lambda: "one single grey value" in panel.settings.look.note.text(), timeout=20000)
    panel.train()
    finish(qtbot, panel)
    assert "one single grey value" in text_of(panel) and panel.foot.run.isEnabled()


def test_a_request_says_what_the_dock_says(panel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_restore_run, "CareRequest", CareRequest)
    settings = panel.settings
    request: CareRequest = panel.request()
    optics = request.synthesis.optics
    assert (optics.kind, optics.na, optics.wavelength_um) == ("gaussian", 1.2, pytest.approx(0.543))
    assert optics.pixel_um == pytest.approx(0.2), "from the scale of the layer"
    assert request.synthesis.levels == LEVELS and request.model_id == "restore-clean"
    assert (request.n_dims, request.n_steps, request.patch_px, request.is_paired) == (2, 2, 16, False)
    choose(settings.microscope.kind, "airy")
    settings.microscope.na.setValue(0.8)
    settings.microscope.wavelength.setValue(610)
    settings.microscope.radius.setValue(1.5)
    settings.microscope.opening.setChecked(True)
    settings.levels.level.setCurrentIndex(2)
    settings.levels.boxes["photons"][0].setValue(500)
    settings.levels.boxes["blur"][1].setValue(2.0)
    settings.seed.setValue(7)
    settings.time.setCurrentIndex(0)
    request = panel.request()
    optics, strong = request.synthesis.optics, request.synthesis.levels[2]
    assert (optics.kind, optics.na, optics.wavelength_um) == ("airy", 0.8, pytest.approx(0.61))
    assert request.synthesis.preparation.radius_px == 1.5 and request.synthesis.preparation.is_opening
    assert strong.photons == (500, 500) and strong.blur == (0.0, 2.0), "the other end comes along"
    assert (request.seed, request.n_steps, request.time_limit_s) == (7, 0, 60.0)
    assert request.recipe_options["n_validation"] < 64
    settings.levels.reset.click()
    assert panel.request().synthesis.levels == LEVELS
    choose(settings.n_dims, 3)
    assert "no Z axis" in text_of(panel)


def test_a_measured_point_can_be_a_layer_or_a_file(panel: Any, viewer: ViewerModel, tmp_path: Path) -> None:
    point = np.zeros((9, 9), np.float32)
    point[4, 4], point[4, 5] = 9.0, 3.0
    microscope = panel.settings.microscope
    choose(microscope.kind, "layer")
    assert "Choose the layer that shows a point" in text_of(panel)
    bead = add(viewer, point, "bead")
    microscope.point.choose(bead)
    stored = panel.request().synthesis.psf_file
    assert stored is not None and Path(stored).is_file() and panel.foot.run.isEnabled()
    microscope.point.choose(add(viewer, image(300, 300), "too large"))
    assert "crop it to the point" in text_of(panel)
    choose(microscope.kind, "file")
    assert "Choose the image of a point" in text_of(panel)
    write(tmp_path / "bead.tif", point, "YX")
    microscope.file.setText(str(tmp_path / "bead.tif"))
    assert panel.foot.run.isEnabled() and panel.request().synthesis.psf_file == tmp_path / "bead.tif"


# --- the live preview ---------------------------------------------------------------------------


def test_one_patch_follows_the_sliders(panel: Any, qtbot: Any) -> None:
    look, settings = panel.settings.look, panel.settings
    qtbot.waitUntil(lambda: look.view is not None, timeout=20000)
    first = look.view
    assert look.grid.titles == ["Image", "Clean target", "Mild", "Medium", "Strong"]
    assert look.grid.heightForWidth(330) > 200 and "photons" in look.grid.accessibleDescription()
    settings.levels.boxes["gain"][1].setValue(0.6)
    qtbot.waitUntil(lambda: look.view is not first, timeout=20000)
    second = look.view
    assert np.array_equal(second.clean, first.clean) and second.poor[0][1].gain == pytest.approx(0.6)
    settings.microscope.radius.setValue(2.0)
    qtbot.waitUntil(lambda: look.view is not second, timeout=20000)
    assert np.array_equal(look.view.raw, first.raw) and look.view.clean.mean() < first.clean.mean()
    third = look.view
    look.another.click()
    qtbot.waitUntil(lambda: look.view is not third, timeout=20000)
    assert look.view.poor[0][1].seed != third.poor[0][1].seed
    assert not look.grid.grab().toImage().isNull()
    panel.settings.data.clean.check(panel.settings.data.clean.forms()[0].layer, is_checked=False)
    qtbot.waitUntil(lambda: look.view is None, timeout=20000)
    assert "Check a clean layer" in look.note.text() and not look.another.isEnabled()


# --- teaching and restoring ---------------------------------------------------------------------


def test_teach_restore_and_doubt(panel: Any, viewer: ViewerModel, qtbot: Any) -> None:
    train(qtbot, panel)
    said = text_of(panel)
    assert "“Mine” is ready" in said and "On images kept aside" in said and "“poor restored”" in said, said
    source, restored = viewer.layers["poor"], viewer.layers["poor restored"]
    assert [layer.name for layer in viewer.layers if layer.name.startswith("clean")] == ["clean"]
    for name in ("restored", "uncertainty", "do not trust"):
        layer = viewer.layers[f"poor {name}"]
        assert layer.data.shape == source.data.shape and np.array_equal(layer.extent.world, source.extent.world)
        json.dumps(layer.metadata[METADATA_KEY])
    assert restored.metadata[METADATA_KEY]["model"] == "mine" and restored.colormap.name == "magma"
    assert "mine" in {info.id for info in list_filters()} and panel.now.card().title == "Mine"
    assert "On images kept aside" in panel.now.about.text() and not panel.settings.duration.replaces.isHidden()
    assert panel.settings.start.findData("mine") > 0 and "poor residual" not in viewer.layers
    names = [curve.name for curve in panel.view.plot.content.curves]
    assert names == ["Each update", "Smoothed", "On pixels kept aside", "Poor images themselves"]
    assert "of that of the poor images" in panel.view.meaning.text()
    choose(panel.view.shown, "learning_rate")
    assert [curve.name for curve in panel.view.plot.content.curves] == ["Learning rate"]

    labels, scale = viewer.layers["poor do not trust"], viewer.layers["poor uncertainty"].data
    # After two updates it is unsure everywhere: a quarter is marked to begin with, not all.
    assert panel.now.doubt.share > DEFAULT_SHARE and 0 < labels.data.mean() <= 0.25, panel.now.doubt.note.text()
    slider = panel.now.doubt.slider
    record = METADATA_KEY
    slider.setValue(0)
    qtbot.waitUntil(lambda: labels.metadata[record]["share_of_contrast"] == 0, timeout=10000)
    assert labels.data.all() and "100.0 % of the pixels" in panel.now.doubt.note.text()
    slider.setValue(50)
    qtbot.waitUntil(lambda: labels.metadata[record]["share_of_contrast"] == pytest.approx(0.05), timeout=10000)
    contrast = float(np.subtract(*np.percentile(restored.data, (99.8, 2.0))))
    assert float((labels.data == (scale * np.log(2) > 0.05 * contrast)).mean()) > 0.99

    panel.now.boxes["residual"].setChecked(True)
    for name in ("uncertainty", "doubt"):
        panel.now.boxes[name].setChecked(False)
    assert panel.now.doubt.isHidden()
    panel.now.repeats.setValue(2)
    assert not panel.now.repeats_note.isHidden() and "not there" in panel.now.repeats_note.text()
    before = len(viewer.layers)
    panel.now.run()
    finish(qtbot, panel.now)
    assert len(viewer.layers) == before + len(panel.now.wanted())
    residual = viewer.layers["poor residual"]
    low, high = residual.contrast_limits
    assert low == -high and residual.colormap.name == "PiYG"
    assert np.allclose(residual.data, source.data - viewer.layers["poor restored [1]"].data, atol=1e-2)
    assert "applied 2 times" in panel.now.foot.message.text()
    for box in panel.now.boxes.values():
        box.setChecked(False)
    assert "at least one of the new layers" in panel.now.foot.message.text()


@pytest.mark.parametrize(
    ("shape", "labels", "channels", "is_lazy"),
    [((2, 3, 24, 28), ("t", "z", "y", "x"), None, True), ((2, 24, 28), ("channel", "y", "x"), None, False),
     ((2, 2, 24, 28), ("t", "channel", "y", "x"), "Channel 1 only", False)],
)  # fmt: skip
def test_stacks_and_channels_come_back_in_place(
    panel: Any, viewer: ViewerModel, qtbot: Any, shape: tuple[int, ...], labels: tuple[str, ...], channels: Any,
    is_lazy: bool,
) -> None:  # fmt: skip
    pixels = image(*shape, seed=4)
    chunks = (1,) * (len(shape) - 2) + shape[-2:]
    layer = add(viewer, da.from_array(pixels, chunks=chunks) if is_lazy else pixels, "stack", axis_labels=labels)
    panel.images.check(viewer.layers["poor"], is_checked=False)
    panel.images.check(layer)
    if channels is not None:
        box = panel.images.current_form().image.channels
        box.setCurrentIndex(box.findText(channels))
    panel.now.boxes["residual"].setChecked(True)
    train(qtbot, panel)
    for name in ("restored", "uncertainty", "residual", "do not trust"):
        result = viewer.layers[f"stack {name}"]
        if channels is None:
            assert result.data.shape == shape and np.array_equal(result.extent.world, layer.extent.world)
        else:
            assert result.data.shape == (2, 1, 24, 28) and result.translate[1] == 1
    panel.now.doubt.slider.setValue(0)
    qtbot.waitUntil(lambda: bool(viewer.layers["stack do not trust"].data.all()), timeout=10000)


def test_pairs_of_layers_teach(panel: Any, viewer: ViewerModel, qtbot: Any) -> None:
    data = panel.settings.data
    choose(data.source, "pairs")
    assert "Choose a poor and a clean layer" in text_of(panel) and panel.settings._made_poor.isHidden()
    row = data.pairs.rows[0]
    row.poor.choose(viewer.layers["poor"])
    row.clean.choose(viewer.layers["clean"])
    assert "“poor” is 40 × 44 (YX), “clean” 48 × 56 (YX)" in text_of(panel)
    row.clean.choose(viewer.layers["poor"])
    assert "choose two different layers" in text_of(panel)
    first, second = (add(viewer, image(40, 44, seed=seed), f"good {seed}") for seed in (1, 2))
    row.clean.choose(first)
    data.pairs.add.click()
    assert "Choose a poor and a clean layer" in text_of(panel)
    more = data.pairs.rows[1]
    more.poor.choose(viewer.layers["poor"])
    more.clean.choose(add(viewer, np.zeros((40, 44, 3), np.uint8), "stained", rgb=True))
    assert "colour image" in text_of(panel)
    more.clean.choose(second)
    assert data.note.text() == "2 pairs of planes." and panel.request().is_paired
    assert panel.request().clean_scale == "poor" and not data._scale.isHidden()
    choose(data.clean_scale, "own")
    assert panel.request().clean_scale == "own"
    choose(data.source, "layers")
    assert panel.request().clean_scale == "poor" and data._scale.isHidden(), "only real pairs have a choice"
    choose(data.source, "pairs")
    more.remove.click()
    assert len(data.pairs.rows) == 1 and row.remove.isHidden() and data.note.text() == "1 pair of planes."
    train(qtbot, panel)
    assert "“Mine” is ready" in text_of(panel) and "poor restored" in viewer.layers


def test_folders_teach(panel: Any, viewer: ViewerModel, qtbot: Any, tmp_path: Path) -> None:
    data, settings = panel.settings.data, panel.settings
    choose(data.source, "folder")
    assert "Choose a folder" in text_of(panel)
    data.folder.setText(str(tmp_path))
    assert "holds no image" in text_of(panel)
    size = {"Y": 0.1, "X": 0.1}
    for i in range(2):
        write(tmp_path / f"{i}.ome.tif", image(40, 44, seed=i), "YX", pixel_size_um=size, dtype="keep")
    data.folder.setText(f"{tmp_path}/")
    assert data.note.text().startswith("2 clean images → 6 pairs.") and panel.foot.run.isEnabled()
    assert panel.settings.name.text() == f"Restore {tmp_path.name}"
    qtbot.waitUntil(lambda: settings.look.view is not None, timeout=20000)
    train(qtbot, panel)
    assert "“Mine” is ready" in text_of(panel)
    (card,) = [card for card in list_restorers() if card.id == "mine"]
    assert card.training["synthesis"]["optics"]["pixel_um"] == pytest.approx(0.1), "as in the files"
    choose(data.source, "pair folder")
    assert "no folder “noisy”" in text_of(panel)
    for kind, pixels in (("noisy", 1300 - image(40, 44, seed=1)), ("clean", image(40, 44, seed=1))):
        (tmp_path / kind).mkdir()
        write(tmp_path / kind / "a.tif", pixels, "YX", dtype="keep")
    data.folder.setText(str(tmp_path))
    panel.train()
    finish(qtbot, panel)
    assert "1 of 1 pairs, such as “a.tif”, the images have nothing in common" in text_of(panel)
    for kind, share in (("noisy", 0.5), ("clean", 1.0)):
        write(tmp_path / kind / "a.tif", share * image(40, 44, seed=1), "YX", dtype="float32", overwrite=True)
    data.folder.setText(str(tmp_path))
    train(qtbot, panel, "Paired")
    assert "“Paired” is ready" in text_of(panel)


def test_without_poor_images_the_model_is_offered(panel: Any, viewer: ViewerModel, qtbot: Any) -> None:
    panel.images.check(viewer.layers["poor"], is_checked=False)
    panel.images.check(viewer.layers["clean"])
    train(qtbot, panel)
    assert "“Mine” is ready" in text_of(panel) and "Check the poor images" in text_of(panel)
    assert len(viewer.layers) == 2, "what is learned from is not restored by itself"


def test_the_picture_follows_and_stop_discard_and_resume_do_what_they_say(
    panel: Any, make_panel: MakePanel, viewer: ViewerModel, qtbot: Any
) -> None:
    panel.settings.n_steps.setValue(100_000)
    panel.settings.name.setText("Mine")
    panel.train()
    qtbot.waitUntil(lambda: panel.learning.layer is not None and len(panel.view.rows) >= 2, timeout=PATIENCE_MS)
    learning = panel.learning.layer
    assert panel.tabs.currentIndex() == 2 and learning.metadata[PREVIEW_MARK] and learning.name == "learning: poor"
    assert np.array_equal(learning.extent.world, viewer.layers["poor"].extent.world)
    panel.foot.cancel.click()
    finish(qtbot, panel)
    assert "no model was added" in text_of(panel) and panel.learning.layer is None
    assert not [card for card in list_restorers() if card.id == "mine"]
    again = make_panel(viewer)
    again.settings.data.clean.check(viewer.layers["clean"])
    again.settings.name.setText("Mine")
    assert again.resume.isEnabled()
    again.resume.click()
    qtbot.waitUntil(lambda: len(again.view.rows) > 2, timeout=PATIENCE_MS)
    assert again._run.request.n_steps == 100_000, "with the settings that it began with"
    again.stop.click()
    finish(qtbot, again)
    assert "Stopped: “Mine” is ready" in text_of(again) and "poor restored" in viewer.layers
    assert again.view.rows[0]["step"] == 1, "the curves begin where they began"


def test_the_time_is_measured_before(panel: Any, qtbot: Any) -> None:
    panel.settings.estimate.click()
    finish(qtbot, panel)
    assert "on this computer" in panel.settings.expected.text()
    panel.settings.patch_px.setValue(32)
    assert "measure again" in panel.settings.expected.text()


def test_a_source_that_went_is_said(panel: Any, viewer: ViewerModel, qtbot: Any) -> None:
    train(qtbot, panel)
    panel.now.run()
    viewer.layers.remove("poor")
    finish(qtbot, panel.now)
    assert "“poor” was removed meanwhile; nothing was added" in panel.now.foot.message.text()


# --- the window ---------------------------------------------------------------------------------


def test_everything_has_a_name_and_a_tooltip(panel: Any) -> None:
    kinds = (QAbstractSpinBox, QCheckBox, QComboBox, QLineEdit, QListWidget, QPushButton, QSlider)
    for widget in [w for kind in kinds for w in panel.findChildren(kind)]:
        if widget.objectName() == "qt_spinbox_lineedit":
            continue
        assert widget.toolTip(), widget
        assert isinstance(widget, QPushButton | QCheckBox) or widget.accessibleName(), widget


def test_in_a_real_window_by_the_door_of_the_manifest(make_napari_viewer: Any, qtbot: Any) -> None:
    viewer = make_napari_viewer(show=True)
    viewer.add_image(image(40, 60), name="cells", scale=(0.2, 0.2), units=("um", "um"))
    docked, panel = viewer.window.add_plugin_dock_widget("napari-cellenhance", "Restore like these")
    assert panel.minimumSizeHint().width() <= 380
    settings = panel.settings
    settings.data.clean.check(viewer.layers["cells"])
    qtbot.waitUntil(lambda: settings.look.view is not None, timeout=20000)
    for fold in (settings.advanced, settings.optics_fold, settings.levels_fold):
        fold.button.setChecked(True)
    kinds = [settings.data.source.itemData(i) for i in range(settings.data.source.count())]
    for page, kind in [(page, kind) for page in range(panel.tabs.count()) for kind in kinds]:
        choose(settings.data.source, kind)
        panel.tabs.setCurrentIndex(page)
        qtbot.wait(20)
        area = panel.tabs.widget(page)
        assert area.widget().minimumSizeHint().width() <= area.viewport().width(), "nothing is cut off"
    viewer.window.remove_dock_widget(docked)
    qtbot.waitUntil(lambda: panel._gone.is_set(), timeout=5000)
