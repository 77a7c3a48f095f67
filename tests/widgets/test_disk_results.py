"""Results of lazy layers: written block by block, shown while they are written, never a whole image in memory."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from napari.components import ViewerModel
from numpy.typing import NDArray

from napari_cellenhance.io.lazy_images import LazyPixels
from napari_cellenhance.io.ome_zarr import open_store
from napari_cellenhance.widgets import _disk_run, _worker
from napari_cellenhance.widgets import enhance as dock
from napari_cellenhance.widgets._disk_choice import default_folder
from napari_cellenhance.widgets._disk_run import DiskPlan, disk_request, order_in_layer, run_on_disk
from napari_cellenhance.widgets._layers import Choices, snapshot
from napari_cellenhance.widgets._settings import PluginSettings
from napari_cellenhance.workflows import _large_source, _provenance, enhance, large_images
from napari_cellenhance.workflows._large_blocks import BlockStore
from napari_cellenhance.workflows.large_images import partial_of
from napari_cellenhance.workflows.requests import EnhanceRequest, SegmentOptions

SIDE = 64
PLACE = {"scale": (2.0, 0.5, 0.25), "translate": (0.0, 10.0, 20.0), "units": ("um", "um", "um")}


class Counting:
    """An array that knows how much of it was read at one time; the source of a dask array."""

    def __init__(self, pixels: NDArray[Any]) -> None:
        self.pixels = pixels
        self.shape, self.dtype, self.ndim = pixels.shape, pixels.dtype, pixels.ndim
        self.largest = 0
        self.n_read = 0
        self._lock = threading.Lock()

    def __getitem__(self, index: Any) -> NDArray[Any]:
        found: NDArray[Any] = self.pixels[index]
        with self._lock:
            self.largest = max(self.largest, found.size)
            self.n_read += found.size
        return found


def watch_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pixels of every window that the run takes out of the source."""
    read: list[int] = []
    real = LazyPixels.__getitem__

    def reading(pixels: LazyPixels, index: Any) -> Any:
        found = real(pixels, index)
        if isinstance(pixels._stored, da.Array):  # not the result
            read.append(found.size)
        return found

    monkeypatch.setattr(LazyPixels, "__getitem__", reading)
    return read


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Blocks of 64 px, so that small arrays have many."""
    real = large_images.LargeRequest

    def smaller(**fields: Any) -> Any:
        return real(**fields | {"chunk_px": SIDE, "settings": replace(fields["settings"], tile_px=SIDE)})

    monkeypatch.setattr(_disk_run, "LargeRequest", smaller)
    monkeypatch.setattr(_large_source, "READ_PX", SIDE)
    monkeypatch.setattr(_provenance, "_PIECE_BYTES", 2 * SIDE * 250)
    monkeypatch.setattr(_disk_run, "_REFRESH_EVERY_S", 0.0)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))


@pytest.fixture
def volume(rng: np.random.Generator) -> NDArray[np.uint16]:
    return rng.normal(500, 60, (2, 200, 250)).astype(np.uint16)


@pytest.fixture
def counting(volume: NDArray[np.uint16]) -> Counting:
    return Counting(volume)


@pytest.fixture
def lazy(counting: Counting) -> Any:
    return da.from_array(counting, chunks=(1, SIDE, SIDE), name=False)  # type: ignore[no-untyped-call]


class Gate:
    """Lets a run come as far as is asked, block by block."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.allowed = threading.Semaphore(0)
        self.is_open = threading.Event()
        self.n = 0
        real = BlockStore.keep

        def keep(store: Any, *rest: Any) -> None:
            while not self.is_open.is_set() and not self.allowed.acquire(timeout=0.01):
                pass
            real(store, *rest)
            self.n += 1

        monkeypatch.setattr(BlockStore, "keep", keep)

    def let(self, n: int) -> None:
        self.allowed.release(n)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(monkeypatch)
    yield gate
    gate.is_open.set()


def in_memory(volume: NDArray[Any], axes: str = "ZYX", **settings: Any) -> NDArray[Any]:
    asked = EnhanceRequest(image=volume, axes=axes, filter_id="gaussian", tile_px=SIDE, **settings)
    return np.asarray(enhance.run(asked).image)


def finish(qtbot: Any, panel: Any) -> None:
    qtbot.waitUntil(lambda: panel._job is None, timeout=60000)


def stop(qtbot: Any, panel: Any, gate: Gate) -> None:
    panel.foot.cancel.click()
    gate.let(1)  # the block in hand
    finish(qtbot, panel)


def text_of(panel: Any) -> str:
    return str(panel.foot.message.text())


# --- a real window --------------------------------------------------------------------------------


def test_a_lazy_layer_is_written_block_by_block_and_shown_meanwhile(
    make_napari_viewer: Any, qtbot: Any, lazy: Any, counting: Counting, volume: NDArray[np.uint16], gate: Gate,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    viewer = make_napari_viewer(show=True)
    viewer.add_image(lazy, name="big", contrast_limits=(0, 1000), colormap="green", **PLACE)
    _, panel = viewer.window.add_plugin_dock_widget("napari-cellenhance", "Enhance cells")
    panel.filters.choose("gaussian")
    panel.disk.folder.setText(str(tmp_path / "results"))
    assert panel.disk.is_on_disk
    counting.largest, read = 0, watch_reads(monkeypatch)
    panel.run()
    gate.let(2)
    qtbot.waitUntil(lambda: len(viewer.layers) == 2 and gate.n >= 2, timeout=60000)
    layer = viewer.layers["big enhanced (partial)"]
    expected = in_memory(volume)
    assert layer.multiscale and [level.shape for level in layer.data] == [(2, 200, 250), (2, 100, 125), (2, 50, 63)]
    np.testing.assert_array_equal(layer.scale, PLACE["scale"])
    np.testing.assert_array_equal(layer.translate, PLACE["translate"])
    assert layer.colormap.name == "green" and tuple(layer.contrast_limits) == (0.0, 1.0)
    np.testing.assert_array_equal(np.asarray(layer.data[0])[0, :64, :128], expected[0, :64, :128])
    assert not np.asarray(layer.data[0])[:, 64:].any()
    shown = layer._data_view.copy()
    assert viewer.layers.selection.active.name == "big" and "MB of memory" in text_of(panel)

    gate.let(3)  # what is on the screen grows by itself
    qtbot.waitUntil(lambda: gate.n >= 5 and np.count_nonzero(layer._data_view) > np.count_nonzero(shown), timeout=60000)
    stop(qtbot, panel, gate)
    assert "Press Go on" in text_of(panel) and panel.foot.run.text() == "Go on"
    n_before = gate.n
    partial = partial_of(tmp_path / "results" / "big_enhanced.ome.zarr")
    assert partial.is_dir() and layer in viewer.layers

    gate.is_open.set()
    panel.foot.run.click()
    finish(qtbot, panel)
    assert "Done: “big enhanced”" in text_of(panel) and panel.foot.run.text() == "Run"
    assert len(viewer.layers) == 2 and viewer.layers[1] == layer and layer.name == "big enhanced"
    assert gate.n == 2 * (16 + 1 + 1) and n_before >= 5  # no block was written twice
    np.testing.assert_array_equal(np.asarray(layer.data[0]), expected)
    assert not partial.exists()
    record = layer.metadata["cellenhance"]
    assert record["filter"] == "gaussian" and record["is_complete"] and Path(record["stored_in"]).is_dir()
    assert counting.largest <= SIDE * SIDE and 0 < max(read) < 200 * 250  # neither all of it, nor a plane
    panel.shut_down()


# --- a panel without a window ---------------------------------------------------------------------


@pytest.fixture
def panel_on(make_panel: Callable[[Any], Any], tmp_path: Path) -> Callable[..., Any]:
    def make(data: Any, **kwargs: Any) -> Any:
        viewer = ViewerModel()
        viewer.add_image(data, **{"name": "big", "contrast_limits": (0, 1000)} | kwargs)
        panel = make_panel(viewer)
        panel.filters.choose("gaussian")
        panel.disk.folder.setText(str(tmp_path / "results"))
        panel._on_changed()
        return panel

    return make


def test_a_plain_layer_is_not_offered_the_disk_until_it_is_large(
    panel_on: Any, volume: NDArray[Any], qtbot: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    panel = panel_on(volume)
    assert panel.disk.isHidden() and not panel.disk.is_on_disk
    panel.run()
    finish(qtbot, panel)
    result = panel.viewer.layers["big enhanced"]
    assert isinstance(result.data, np.ndarray) and not (tmp_path / "results").exists()
    small = replace(PluginSettings(), large_from_mb=0)
    monkeypatch.setattr(dock, "read_settings", lambda: small)
    panel._on_changed()
    assert not panel.disk.isHidden() and panel.disk.is_on_disk and "1 MB" in panel.disk.note.text()
    panel.scope.setCurrentIndex(panel.scope.findData("view"))
    assert panel.disk.isHidden() and not panel.disk.is_on_disk


def test_memory_can_be_chosen_for_a_lazy_layer_and_stays_chosen(panel_on: Any, lazy: Any, qtbot: Any) -> None:
    panel = panel_on(lazy)
    panel.disk.way.setCurrentIndex(panel.disk.way.findData("memory"))
    panel.disk.way.activated.emit(0)
    panel.strength.set_value(2.0)
    assert not panel.disk.is_on_disk and not panel.disk.folder.isVisibleTo(panel.disk)
    panel.run()
    finish(qtbot, panel)
    assert isinstance(panel.viewer.layers["big enhanced"].data, np.ndarray)


@pytest.mark.parametrize("what", ["blobs", "li"])
def test_blobs_and_the_threshold_of_li_need_memory(panel_on: Any, lazy: Any, what: str) -> None:
    panel = panel_on(lazy)
    if what == "blobs":
        panel.outputs.wants_points.setChecked(True)
    else:
        panel.outputs.method.setCurrentIndex(panel.outputs.method.findData("li"))
        panel.outputs.wants_labels.setChecked(True)
    assert not panel.disk.is_on_disk and panel.foot.run.isEnabled()  # it fits, so memory is taken
    panel.disk.way.setCurrentIndex(panel.disk.way.findData("disk"))
    panel.disk.way.activated.emit(1)
    assert panel.disk.is_on_disk and not panel.foot.run.isEnabled()
    assert "choose Result ▸ In memory" in text_of(panel)


def test_objects_go_to_the_disk_too_and_a_stopped_run_goes_on(
    panel_on: Any, lazy: Any, volume: NDArray[Any], qtbot: Any, gate: Gate
) -> None:
    panel = panel_on(lazy, **PLACE)
    panel.outputs.wants_labels.setChecked(True)
    panel.outputs.min_size.setValue(4)
    assert panel.disk.is_on_disk
    panel.run()
    gate.let(36)  # all of the image with its pyramid, and some of the objects
    qtbot.waitUntil(lambda: gate.n >= 36, timeout=60000)
    stop(qtbot, panel, gate)
    assert "Press Go on" in text_of(panel) and panel.foot.run.text() == "Go on"
    gate.is_open.set()
    panel.run()
    finish(qtbot, panel)
    expected = enhance.run(
        EnhanceRequest(
            image=volume, axes="ZYX", filter_id="gaussian", tile_px=SIDE, segment=SegmentOptions(min_size_px=4)
        )
    )  # fmt: skip
    image, labels = (panel.viewer.layers[name] for name in ("big enhanced", "big segmented"))
    assert labels.multiscale and not isinstance(labels.data[0], np.ndarray)
    np.testing.assert_array_equal(np.asarray(labels.data[0]), expected.labels)
    np.testing.assert_array_equal(np.asarray(image.data[0]), expected.image)
    np.testing.assert_array_equal(labels.scale, image.scale)
    assert f"{expected.labels.max()} objects, read from" in text_of(panel)
    folder = Path(str(labels.metadata["cellenhance"]["stored_in"])).parent
    assert {path.name for path in folder.iterdir()} >= {"big_enhanced.ome.zarr", "big_enhanced_labels.ome.zarr"}


def test_a_slice_of_it_goes_to_its_place(panel_on: Any, lazy: Any, volume: NDArray[Any], qtbot: Any) -> None:
    panel = panel_on(lazy, **PLACE)
    panel.viewer.dims.set_point(0, 2.0)
    panel.scope.setCurrentIndex(panel.scope.findData("slice"))
    panel.run()
    finish(qtbot, panel)
    layer = panel.viewer.layers["big enhanced"]
    np.testing.assert_array_equal(np.asarray(layer.data[0]), in_memory(volume[1:]))
    np.testing.assert_array_equal(layer.translate, (2.0, 10.0, 20.0))


def test_other_settings_take_another_name_and_a_failure_can_go_on(
    panel_on: Any, lazy: Any, qtbot: Any, gate: Gate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    panel = panel_on(lazy)
    gate.let(1)
    panel.run()
    qtbot.waitUntil(lambda: gate.n == 1 and len(panel.viewer.layers) == 2, timeout=60000)
    stop(qtbot, panel, gate)
    panel.strength.set_value(3.0)
    assert panel.foot.run.text() == "Run"
    gate.is_open.set()
    with monkeypatch.context() as broken:
        broken.setattr(BlockStore, "halved", lambda *_: 1 / 0)
        panel.run()
        finish(qtbot, panel)
    assert "ZeroDivisionError" in text_of(panel) and panel.foot.run.text() == "Go on"
    panel.run()
    finish(qtbot, panel)
    names = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert names == ["big_enhanced-2.ome.zarr", "big_enhanced.ome.zarr.journal", "big_enhanced.ome.zarr.partial"]
    assert [layer.name for layer in panel.viewer.layers] == ["big", "big enhanced (partial)", "big enhanced"]


def test_another_window_goes_on_with_what_was_left(
    panel_on: Any, lazy: Any, volume: NDArray[Any], qtbot: Any, gate: Gate
) -> None:
    first = panel_on(lazy)
    gate.let(3)
    first.run()
    qtbot.waitUntil(lambda: gate.n == 3, timeout=60000)
    first.shut_down()
    gate.let(1)
    qtbot.waitUntil(lambda: not _worker.is_busy(), timeout=60000)
    gate.is_open.set()
    second = panel_on(lazy)
    second.run()
    finish(qtbot, second)
    np.testing.assert_array_equal(np.asarray(second.viewer.layers["big enhanced"].data[0]), in_memory(volume))
    assert gate.n == 36


def test_a_layer_that_was_removed_comes_back_when_it_is_done(panel_on: Any, lazy: Any, qtbot: Any, gate: Gate) -> None:
    panel = panel_on(lazy)
    gate.let(1)
    panel.run()
    qtbot.waitUntil(lambda: len(panel.viewer.layers) == 2 and gate.n == 1, timeout=60000)
    panel.viewer.layers.remove("big enhanced (partial)")
    gate.is_open.set()
    finish(qtbot, panel)
    assert [layer.name for layer in panel.viewer.layers] == ["big", "big enhanced"]


# --- parts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axes", "shape", "channels"),
    [
        ("YXS", (80, 90, 3), "all"),
        ("YXS", (80, 90, 3), "grey"),
        ("ZCYX", (2, 2, 70, 80), (1,)),
        ("ZTYX", (2, 3, 70, 80), "all"),
    ],
)
def test_dimensions_come_back_in_the_order_of_the_layer(
    axes: str, shape: Any, channels: Any, tmp_path: Path, rng: np.random.Generator
) -> None:
    pixels = rng.integers(0, 255, shape, np.uint8)
    viewer = ViewerModel()
    layer = viewer.add_image(da.from_array(pixels), rgb="S" in axes)  # type: ignore[no-untyped-call]
    choices = Choices(axes=axes, filter_id="gaussian", strength=2.0, channels=channels)
    plan = DiskPlan(
        view=snapshot(layer, viewer.dims), choices=choices, settings=PluginSettings(), folder=tmp_path / "new" / "deep"
    )
    result = run_on_disk(plan, lambda at, note: None, lambda progress: None, lambda: False)
    data, kwargs, _ = _disk_run._layer_of(replace(plan, target=result.target), is_complete=True)
    expected = in_memory(pixels, axes, strength=2.0, channels=channels)
    shown = np.asarray(data[0] if isinstance(data, list) else data)
    np.testing.assert_array_equal(np.squeeze(shown), np.squeeze(expected))
    added = viewer.add_image(data, **kwargs)
    assert added.ndim == layer.ndim and added.rgb == (axes == "YXS" and channels == "all")


def test_a_zarr_array_is_not_read_when_it_is_cut(tmp_path: Path, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 255, (3, 70, 80), np.uint8)
    stored = zarr.create_array(str(tmp_path / "a.zarr"), data=pixels, chunks=(1, 64, 64))
    viewer = ViewerModel()
    view = snapshot(viewer.add_image(stored), viewer.dims)
    choices = Choices(axes="ZYX", filter_id="gaussian", strength=2.0, scope="slice")
    plan = DiskPlan(view=view, choices=choices, settings=PluginSettings(), folder=tmp_path)
    source: Any = disk_request(plan, tmp_path / "out.ome.zarr").source
    assert isinstance(source.levels[0]._stored, da.Array) and source.levels[0].shape == (1, 70, 80)
    np.testing.assert_array_equal(source.levels[0][:, 0:9, 0:9], pixels[1:2, :9, :9])


def test_order_of_colours_beside_a_single_channel() -> None:
    assert order_in_layer("CYXS", "CYX", None) == ("CYXS", (None, 1, 2, 0))


def test_results_lie_beside_the_file_of_the_layer(tmp_path: Path) -> None:
    class Layer:
        def __init__(self, path: str | None) -> None:
            self.source = type("Source", (), {"path": path})

    assert default_folder(Layer(str(tmp_path / "a.tif"))) == tmp_path / "cellenhance-results"
    temporary = tmp_path / "temporary" / "cellenhance-results"
    for path in (None, "https://somewhere/a.zarr", str(tmp_path / "gone" / "a.tif")):
        assert default_folder(Layer(path)) == temporary


def test_a_folder_that_cannot_be_made_is_told(panel_on: Any, lazy: Any, qtbot: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    panel = panel_on(lazy)
    panel.disk.folder.setText(str(tmp_path / "file" / "below"))
    panel.run()
    finish(qtbot, panel)
    assert "cannot be made" in text_of(panel) and len(panel.viewer.layers) == 1


def test_the_written_image_has_pixel_sizes_and_says_how_it_was_made(
    panel_on: Any, lazy: Any, qtbot: Any, tmp_path: Path
) -> None:
    panel = panel_on(lazy, axis_labels=("z", "y", "x"), **PLACE)
    panel.run()
    finish(qtbot, panel)
    made = open_store(tmp_path / "results" / "big_enhanced.ome.zarr")
    assert made.pixel_size_um == {"Z": 2.0, "Y": 0.5, "X": 0.25}
    assert made.provenance is not None and made.provenance["filter"] == "gaussian"
