"""Door to door: the real window, the real dock, real filters on the bundled images."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from napari_cellenhance.widgets import _worker
from napari_cellenhance.widgets._commands import DOCK_TITLE, enhance_selected, segment_selected
from napari_cellenhance.widgets._settings import PLUGIN
from napari_cellenhance.workflows.catalog import list_filters

PATIENCE_MS = 240_000
"""Only ends what would hang; a busy machine may take long to import torch."""


@pytest.fixture(autouse=True)
def _no_run_left_over(qtbot: Any) -> Iterator[None]:
    yield
    qtbot.waitUntil(lambda: not _worker.is_busy(), timeout=PATIENCE_MS)
    qtbot.waitUntil(
        lambda: not any(t.name == "cellenhance-preview" for t in threading.enumerate()), timeout=PATIENCE_MS
    )


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., Any]) -> Any:
    return make_napari_viewer(show=True)


def open_dock(viewer: Any) -> Any:
    _, panel = viewer.window.add_plugin_dock_widget(PLUGIN, DOCK_TITLE)
    return panel


def run_to_the_end(panel: Any, qtbot: Any) -> None:
    panel.run()
    qtbot.waitUntil(lambda: panel._job is None, timeout=PATIENCE_MS)


def first_network() -> str | None:
    """Id of the first network of the manifest, if it ships with the package."""
    from napari_cellenhance.zoo.manifest import list_models

    return next((card.id for card in list_models() if card.bundled), None)


def test_sample_dock_run_and_save(viewer: Any, qtbot: Any, tmp_path: Any) -> None:
    (source,) = viewer.open_sample(PLUGIN, "nuclei")
    panel = open_dock(viewer)
    assert panel.layers.layer() == source
    panel.filters.choose("gaussian")
    panel.outputs.wants_labels.setChecked(True)
    panel.outputs.wants_points.setChecked(True)
    run_to_the_end(panel, qtbot)
    names = [layer.name for layer in viewer.layers]
    assert names == ["nuclei", "nuclei enhanced", "nuclei segmented", "nuclei blobs"]
    enhanced = viewer.layers["nuclei enhanced"]
    assert enhanced.data.dtype == np.float32
    assert 0 <= enhanced.data.min() < enhanced.data.max() <= 1
    assert int(viewer.layers["nuclei segmented"].data.max()) > 20
    assert enhanced.metadata["cellenhance"]["filter"] == "gaussian"
    (written,) = enhanced.save(str(tmp_path / "out.ome.tif"), plugin=PLUGIN)
    from napari_cellenhance.io.images import read

    file = read(written)
    np.testing.assert_array_equal(file.image, enhanced.data)
    assert file.axes == "YX"
    assert (file.provenance or {})["filter"] == "gaussian"


def test_strength_zero_returns_the_input_bit_for_bit(viewer: Any, qtbot: Any) -> None:
    (source,) = viewer.open_sample(PLUGIN, "nuclei")
    panel = open_dock(viewer)
    panel.strength.set_value(0)
    run_to_the_end(panel, qtbot)
    result = viewer.layers["nuclei enhanced"].data
    assert result.dtype == source.data.dtype
    np.testing.assert_array_equal(result, source.data)


def test_preview_equals_the_run(viewer: Any, qtbot: Any) -> None:
    viewer.open_sample(PLUGIN, "nuclei")
    panel = open_dock(viewer)
    network = first_network()
    panel.filters.choose(network or "dog")
    viewer.reset_view()
    qtbot.wait(200)
    panel.badge.switch.setChecked(True)
    qtbot.waitUntil(lambda: panel.preview.layer is not None, timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: panel.badge.badge.text().endswith(" ms"), timeout=PATIENCE_MS)
    panel.strength.set_value(0.7 * panel.filters.info().strength.maximum)
    strength = panel.strength.value
    qtbot.waitUntil(lambda: panel.preview._shown.request.enhance.strength == strength, timeout=PATIENCE_MS)
    shown = np.array(panel.preview.layer.data)
    corner = np.round(panel.preview.layer.translate).astype(int)
    run_to_the_end(panel, qtbot)
    whole = viewer.layers["nuclei enhanced"].data
    window = whole[corner[0] : corner[0] + shown.shape[0], corner[1] : corner[1] + shown.shape[1]]
    assert np.abs(window - shown).max() <= 1 / 255


def test_sliding_and_panning_never_hold_the_window(viewer: Any, qtbot: Any) -> None:
    viewer.open_sample(PLUGIN, "nuclei")
    panel = open_dock(viewer)
    panel.filters.choose(first_network() or "gaussian")
    panel.badge.switch.setChecked(True)
    qtbot.waitUntil(lambda: panel.preview.layer is not None, timeout=PATIENCE_MS)
    spent: list[float] = []
    maximum = panel.filters.info().strength.maximum
    for value in np.linspace(0.2, 1, 20):
        start = time.perf_counter()
        panel.strength.set_value(float(value) * maximum)
        panel.preview._send()
        spent.append(time.perf_counter() - start)
        qtbot.wait(15)
    viewer.scene.camera.zoom *= 1.5
    qtbot.wait(300)
    viewer.scene.camera.center = tuple(np.array(viewer.scene.camera.center) + 20)
    qtbot.wait(300)
    # One call may be hit by the scheduler of a busy machine; nine in ten may not.
    assert float(np.quantile(spent, 0.9)) < 0.05
    assert panel.badge.badge.text().startswith("LIVE")


def test_zooming_in_shrinks_the_preview_to_the_view(viewer: Any, qtbot: Any) -> None:
    (source,) = viewer.open_sample(PLUGIN, "nuclei")
    panel = open_dock(viewer)
    panel.filters.choose("gaussian")
    panel.badge.switch.setChecked(True)
    qtbot.waitUntil(lambda: panel.preview.layer is not None, timeout=PATIENCE_MS)
    viewer.scene.camera.zoom *= 4
    qtbot.waitUntil(lambda: panel.preview.layer.data.size < source.data.size / 4, timeout=PATIENCE_MS)
    low, high = source.corner_pixels
    np.testing.assert_allclose(panel.preview.layer.translate, low, atol=1)
    np.testing.assert_allclose(panel.preview.layer.data.shape, high - low + 1, atol=2)


def test_three_d_and_off_screen_pause_with_a_hint(viewer: Any, qtbot: Any) -> None:
    viewer.open_sample(PLUGIN, "ht29")
    panel = open_dock(viewer)
    panel.filters.choose("gaussian")
    panel.badge.switch.setChecked(True)
    qtbot.waitUntil(lambda: panel.preview.layer is not None, timeout=PATIENCE_MS)
    viewer.dims.ndisplay = 3
    qtbot.waitUntil(lambda: "3-D" in panel.badge.hint.text(), timeout=PATIENCE_MS)
    viewer.dims.ndisplay = 2
    qtbot.waitUntil(lambda: panel.preview.layer is not None, timeout=PATIENCE_MS)
    viewer.scene.camera.center = (0, 9000, 9000)
    qtbot.waitUntil(lambda: "off the screen" in panel.badge.hint.text(), timeout=PATIENCE_MS)
    viewer.reset_view()
    qtbot.waitUntil(lambda: panel.preview.layer is not None, timeout=PATIENCE_MS)


def test_histology_is_found_dark_and_becomes_bright_objects(viewer: Any, qtbot: Any) -> None:
    viewer.open_sample(PLUGIN, "histology")
    panel = open_dock(viewer)
    qtbot.waitUntil(lambda: bool(panel.image.dark_note.text()), timeout=PATIENCE_MS)
    assert panel.image.dark.isChecked()
    panel.filters.choose("gaussian")
    run_to_the_end(panel, qtbot)
    layer = viewer.layers["histology enhanced"]
    assert not layer.rgb
    grey = np.asarray(viewer.layers["histology"].data).mean(axis=-1)
    assert np.corrcoef(grey.ravel(), layer.data.ravel())[0, 1] < -0.5


def test_channel_and_slice_choices_of_a_stack(viewer: Any, qtbot: Any) -> None:
    (source,) = viewer.open_sample(PLUGIN, "ht29")
    panel = open_dock(viewer)
    assert panel.choices().axes == "CYX"
    panel.filters.choose("gaussian")
    viewer.dims.set_current_step(0, 2)
    panel.scope.setCurrentIndex(panel.scope.findData("slice"))
    run_to_the_end(panel, qtbot)
    layer = viewer.layers["HT29 cells enhanced"]
    assert layer.data.shape == (1, 384, 384)
    assert layer.translate[0] == 2
    assert layer.axis_labels == source.axis_labels


def test_closing_the_dock_while_live_and_running(viewer: Any, qtbot: Any) -> None:
    viewer.open_sample(PLUGIN, "nuclei")
    dock, panel = viewer.window.add_plugin_dock_widget(PLUGIN, DOCK_TITLE)
    panel.filters.choose("median")
    panel.badge.switch.setChecked(True)
    qtbot.waitUntil(lambda: panel.preview.layer is not None, timeout=PATIENCE_MS)
    panel.run()
    dock.destroyOnClose()
    qtbot.waitUntil(lambda: not _worker.is_busy(), timeout=PATIENCE_MS)
    qtbot.wait(100)
    assert [layer.name for layer in viewer.layers] == ["nuclei"]
    viewer.layers["nuclei"].name = "fine"
    again = open_dock(viewer)
    assert again is not panel
    assert again.layers.currentText() == "fine"


def test_closing_the_viewer_while_live_and_running(make_napari_viewer: Callable[..., Any], qtbot: Any) -> None:
    viewer = make_napari_viewer(show=True)
    viewer.add_image(np.random.default_rng(0).random((40, 256, 256)).astype(np.float32), axis_labels=("z", "y", "x"))
    panel = open_dock(viewer)
    panel.filters.choose("median")
    panel.badge.switch.setChecked(True)
    qtbot.waitUntil(lambda: panel.preview.layer is not None, timeout=PATIENCE_MS)
    panel.run()
    job = panel._job
    qtbot.wait(100)
    viewer.close()
    qtbot.waitUntil(lambda: not _worker.is_busy(), timeout=PATIENCE_MS)
    assert job.is_cancelled()
    qtbot.wait(200)


def test_source_deleted_while_running(viewer: Any, qtbot: Any) -> None:
    viewer.open_sample(PLUGIN, "nuclei")
    panel = open_dock(viewer)
    panel.filters.choose("gaussian")
    panel.run()
    viewer.layers.clear()
    qtbot.waitUntil(lambda: panel._job is None, timeout=PATIENCE_MS)
    assert [layer.name for layer in viewer.layers] == ["nuclei enhanced"]
    assert not [k for k in ("unexpected", "Error") if k in panel.foot.message.text()]


def test_progress_shows_in_the_activity_dock(viewer: Any, qtbot: Any) -> None:
    from napari.utils import progress

    viewer.add_image(np.random.default_rng(0).random((30, 200, 200)).astype(np.float32), axis_labels=("z", "y", "x"))
    panel = open_dock(viewer)
    panel.filters.choose("median")
    panel.run()
    qtbot.waitUntil(lambda: any("Enhance" in str(bar.desc) for bar in progress._all_instances), timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: panel.foot.bar.maximum() == 30 and panel.foot.bar.value() > 0, timeout=PATIENCE_MS)
    panel.foot.cancel.click()
    qtbot.waitUntil(lambda: panel._job is None, timeout=PATIENCE_MS)
    record = viewer.layers[-1].metadata["cellenhance"]
    assert 0 < record["n_tiles_done"] < record["n_tiles_total"] == 30
    assert not any("Enhance" in str(bar.desc) for bar in progress._all_instances)
    assert viewer.layers[-1].name.endswith("(partial)")


@pytest.mark.parametrize(("command", "n_layers"), [(enhance_selected, 2), (segment_selected, 3)])
def test_menu_commands(viewer: Any, qtbot: Any, command: Callable[[], None], n_layers: int) -> None:
    viewer.open_sample(PLUGIN, "nuclei")
    open_dock(viewer).filters.choose("gaussian")
    command()
    qtbot.waitUntil(lambda: len(viewer.layers) == n_layers, timeout=PATIENCE_MS)


def test_menu_command_without_an_image_says_so(viewer: Any) -> None:
    enhance_selected()
    assert len(viewer.layers) == 0


def test_menus_and_palette_hold_our_commands(viewer: Any) -> None:
    from napari._app_model import get_app_model

    app = get_app_model()
    for menu, submenu, n in [
        ("filter", "filter_menu", 9),
        ("segment", "segment_menu", 3),
        ("measure", "measure_menu", 2),
    ]:
        labels = [getattr(item, "submenu", "") for item in app.menus.get_menu(f"napari/layers/{menu}")]
        assert f"{PLUGIN}.{submenu}" in labels
        items = app.menus.get_menu(f"{PLUGIN}.{submenu}")
        titles = [item.command.title for item in items if hasattr(item, "command")]
        assert len(titles) == n, "docks and commands, to enhance, denoise, restore, collect crops, compare, …"
    assert f"{PLUGIN}.segment_selected" in app.commands


def test_multiscale_and_lazy_layers(viewer: Any, qtbot: Any) -> None:
    da = pytest.importorskip("dask.array")
    base = da.random.default_rng(0).random((512, 512), chunks=128).astype("float32")
    viewer.add_image([base, base[::2, ::2]], multiscale=True, contrast_limits=(0, 1), name="pyramid")
    panel = open_dock(viewer)
    panel.filters.choose("gaussian")
    panel.badge.switch.setChecked(True)
    qtbot.waitUntil(lambda: panel.preview.layer is not None, timeout=PATIENCE_MS)
    panel.badge.switch.setChecked(False)
    run_to_the_end(panel, qtbot)
    assert viewer.layers["pyramid enhanced"].data.shape == (512, 512)


@pytest.mark.parametrize("asked", ["0", "1"])
def test_the_matrix_decides_how_a_window_slices(
    asked: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    from napari.settings import get_settings

    monkeypatch.setenv("NAPARI_ASYNC", asked)
    request.getfixturevalue("make_napari_viewer")()
    assert get_settings().experimental.async_ is (asked == "1")


def test_asynchronous_slicing(viewer: Any, qtbot: Any) -> None:
    from napari.settings import get_settings

    experimental = get_settings().experimental
    experimental.async_ = True
    try:
        viewer.open_sample(PLUGIN, "ht29")
        panel = open_dock(viewer)
        panel.filters.choose("gaussian")
        panel.badge.switch.setChecked(True)
        qtbot.waitUntil(lambda: panel.preview.layer is not None, timeout=PATIENCE_MS)
        viewer.dims.set_current_step(0, 2)
        qtbot.waitUntil(lambda: panel.preview.layer.translate[0] == 2, timeout=PATIENCE_MS)
        run_to_the_end(panel, qtbot)
        assert viewer.layers["HT29 cells enhanced"].data.shape == (3, 384, 384)
        panel.badge.switch.setChecked(False)
    finally:
        experimental.async_ = False


def test_preferences_are_read(plugin_settings: Any, npe2pm: Any) -> None:
    from pathlib import Path

    from napari.settings import get_plugin_settings
    from npe2 import PluginManifest

    import napari_cellenhance
    from napari_cellenhance.widgets._settings import read_settings

    assert read_settings().preview_delay_ms == 60
    manifest = PluginManifest.from_file(Path(napari_cellenhance.__file__).parent / "napari.yaml")
    with npe2pm.tmp_plugin(manifest=manifest):
        get_plugin_settings(PLUGIN).general.preview_delay_ms = 200
        assert read_settings().preview_delay_ms == 200


def test_every_filter_of_the_catalog_can_be_chosen(viewer: Any) -> None:
    panel = open_dock(viewer)
    for info in list_filters():
        panel.filters.choose(info.id)
        assert panel.filters.info().id == info.id
        assert panel.strength.value == pytest.approx(info.strength.default)


def test_measure_dock_in_the_window(viewer: Any, qtbot: Any) -> None:
    """Through napari's own door, where the plugin gets a proxy of the viewer: run, add layers, follow, close."""
    from napari_cellenhance.widgets.measure import DOCK_TITLE as MEASURE

    (source,) = viewer.open_sample(PLUGIN, "nuclei")
    panel = open_dock(viewer)
    panel.filters.choose("gaussian")
    run_to_the_end(panel, qtbot)
    dock, measure = viewer.window.add_plugin_dock_widget(PLUGIN, MEASURE)
    assert [layer.name for layer in measure.form.ticked()] == ["nuclei enhanced"]
    run_to_the_end(measure, qtbot)
    assert measure.compare.table.columnCount() == 2
    measure.tabs.setCurrentWidget(measure.segment)
    run_to_the_end(measure, qtbot)
    objects = viewer.layers["nuclei objects"]
    np.testing.assert_allclose(objects.scale, source.scale)
    assert int(objects.data.max()) > 20
    measure.tabs.setCurrentWidget(measure.histogram)
    qtbot.waitUntil(lambda: len(measure.histogram.plot.content.curves) == 2, timeout=PATIENCE_MS)
    viewer.window.remove_dock_widget(dock)
    viewer.layers.remove("nuclei enhanced")


def docks_of_ours(viewer: Any) -> dict[str, Any]:
    """Docks of this plugin by the object name of their panel; fails where a panel is there twice."""
    from qtpy.QtWidgets import QDockWidget, QWidget

    from napari_cellenhance.widgets._docking import PANELS

    found: dict[str, Any] = {}
    for dock in viewer.window._qt_window.findChildren(QDockWidget):
        for name in PANELS:
            if dock.findChild(QWidget, name) is not None:
                assert name not in found, f"{name} is open twice"
                found[name] = dock
    return found


def is_in_front(dock: Any) -> bool:
    return bool(dock.isVisible() and not dock.visibleRegion().isEmpty())


def test_a_dock_that_is_asked_for_comes_to_the_front(viewer: Any, qtbot: Any) -> None:
    """From the menu, where napari switches docks on and off, and from a command, which must not open a second one."""
    from napari._app_model import get_app_model
    from qtpy.QtWidgets import QWidget

    from napari_cellenhance.widgets._docking import ENHANCE, MEASURE, TRAIN

    viewer.open_sample(PLUGIN, "nuclei")

    def ask(command: str, name: str) -> None:
        get_app_model().commands.execute_command(f"{PLUGIN}.{command}").result()
        qtbot.wait(200)  # let the layout settle
        qtbot.waitUntil(lambda: is_in_front(docks_of_ours(viewer)[name]), timeout=PATIENCE_MS)

    window = viewer.window._qt_window
    for n_others, (command, name) in enumerate((("enhance", ENHANCE), ("measure", MEASURE), ("train", TRAIN))):
        ask(command, name)
        dock = docks_of_ours(viewer)[name]
        qtbot.waitUntil(
            lambda dock=dock, n=n_others: is_in_front(dock) and len(window.tabifiedDockWidgets(dock)) == n,
            timeout=PATIENCE_MS,
        )
    qtbot.wait(200)
    ask("measure", MEASURE)  # behind as a tab: to the front
    docks_of_ours(viewer)[MEASURE].hide()
    ask("measure", MEASURE)  # closed: back in front
    panel = docks_of_ours(viewer)[ENHANCE].findChild(QWidget, ENHANCE)
    panel.filters.choose("gaussian")
    viewer.layers.selection.active = viewer.layers["nuclei"]
    enhance_selected()
    qtbot.waitUntil(lambda: is_in_front(docks_of_ours(viewer)[ENHANCE]), timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: "nuclei enhanced" in viewer.layers, timeout=PATIENCE_MS)


@pytest.mark.parametrize("title", ["Measure", "Train a filter (NU-Net)"])
def test_closing_a_dock_while_it_works_ends_the_work(viewer: Any, qtbot: Any, title: str) -> None:
    stack = np.random.default_rng(0).integers(0, 255, (40, 256, 256), dtype=np.uint8)
    viewer.add_image(stack, name="stack", axis_labels=("z", "y", "x"))
    viewer.add_image(stack / np.float32(255), name="after", metadata={"cellenhance": {}})
    painted = np.zeros(stack.shape, np.int32)
    painted[:, 20:40, 20:40] = 1
    viewer.add_labels(painted, name="painted")
    dock, panel = viewer.window.add_plugin_dock_widget(PLUGIN, title)
    if title == "Measure":
        panel.run()
    else:
        panel.images.check(viewer.layers["stack"])
        panel.images.forms()[0].labels.choose(viewer.layers["painted"])
        qtbot.waitUntil(lambda: panel.foot.run.isEnabled(), timeout=PATIENCE_MS)
        panel.train()
    job, names = panel._job, [layer.name for layer in viewer.layers]
    assert job is not None
    dock.destroyOnClose()
    qtbot.waitUntil(lambda: not _worker.is_busy(), timeout=PATIENCE_MS)
    qtbot.wait(100)
    assert job.is_cancelled() and [layer.name for layer in viewer.layers] == names
    viewer.layers["stack"].name = "still fine"
    viewer.layers.remove("after")
    viewer.dims.set_current_step(0, 3)
