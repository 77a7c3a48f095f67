"""The Models dock with its real worker: filters, cards, download with cancel and resume, import, export, thumbnails."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QFileDialog, QInputDialog, QMessageBox

from napari_cellenhance.core.models.denoiser import DenoisingNetwork
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.widgets import _model_lists, _worker
from napari_cellenhance.widgets import models as dock
from napari_cellenhance.widgets._models_card import card_html
from napari_cellenhance.workflows import bioimageio, model_shelf, own_models, try_models
from napari_cellenhance.workflows.catalog import list_filters
from napari_cellenhance.zoo import _download, cache, manifest
from napari_cellenhance.zoo.folders import user_models_dir
from napari_cellenhance.zoo.manifest import find_model, list_models
from napari_cellenhance.zoo.weights import save_user_model

SMALL = {"depth": 1, "width": 4}


def own_model(model_id: str = "mine", **changes: Any) -> Any:
    network = DenoisingNetwork(statistics="image", **SMALL)
    card = {
        "id": model_id, "title": "My denoiser", "version": "1.0", "license": "CC0-1.0", "summary": "Of <my> cells.",
        "recipe": "n2v", "architecture": network.architecture, "normalization": {"name": "percentile"},
        "strength": {"default": 1.0, "maximum": 1.0}, "scores": {"mean_iou": 0.8}, "training": {"seed": 7},
    } | changes  # fmt: skip
    return save_user_model(network.state_dict(), card)


@pytest.fixture
def make(keep_panel: Any) -> Callable[..., Any]:
    def make_panel(viewer: Any = None) -> Any:
        panel: Any = keep_panel(dock.ModelsPanel(viewer or ViewerModel()))
        return panel

    return make_panel


def finish(qtbot: Any, panel: Any) -> str:
    qtbot.waitUntil(lambda: panel._job is None and not _worker.is_busy(), timeout=60_000)
    return str(panel.foot.message.text())


# --- the list -------------------------------------------------------------------------------


def test_all_models_are_listed_and_can_be_narrowed_down(make: Callable[..., Any]) -> None:
    own_model()
    panel = make()
    table = panel.models
    assert table.shown_ids() == [card.id for card in list_models()]
    table.place.setCurrentText("yours")
    assert table.shown_ids() == ["mine"]
    table.place.setCurrentText("comes along")
    assert table.shown_ids() == [card.id for card in list_models() if card.bundled]
    table.place.setCurrentIndex(0)
    table.method.setCurrentText("Noise2Void")
    assert set(table.shown_ids()) == {card.id for card in list_models() if card.recipe == "n2v"}
    table.search.setText("my denois cc0")
    assert table.shown_ids() == ["mine"] and table.count.text() == f"1 of {len(list_models())} models"
    table.search.setText("no such thing")
    assert table.row() is None and not panel.doors.use.isEnabled()


def test_the_table_sorts_sizes_as_numbers(make: Callable[..., Any]) -> None:
    own_model()
    panel = make()
    panel.models.table.sortItems(4, Qt.SortOrder.AscendingOrder)
    sizes = {card.id: round(card.file.size_bytes / 1e6, 1) for card in list_models()}
    assert [sizes[i] for i in panel.models.shown_ids()] == sorted(sizes.values())


def test_the_card_tells_what_is_known_and_shows_files_as_text(make: Callable[..., Any]) -> None:
    card = own_model(object_diameter_px=(5, 20))
    panel = make()
    panel.models.choose("mine")
    text = panel.card.toPlainText().replace("\u200b", "")
    for words in ("My denoiser", "Of <my> cells.", "5 to 20 px", "CC0-1.0", "seed", "mean iou", card.file.sha256):
        assert words in text
    row = next(row for row in model_shelf.list_rows()[0] if row.card.id == "mine")
    assert row.score == "IoU 0.8" and "&lt;my&gt;" in card_html(row)


def test_where_a_model_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    card = own_model()
    assert model_shelf.place_of(card.file) == "yours"
    (user_models_dir() / card.file.name).unlink()
    assert model_shelf.place_of(card.file) == "not here yet"
    ours = next(card for card in list_models() if card.bundled)
    monkeypatch.setattr(model_shelf, "bundled_dir", lambda: tmp_path / "nothing")
    assert model_shelf.place_of(ours.file) == "not here yet"
    cache.cache_dir().mkdir(parents=True)
    (cache.cache_dir() / ours.file.name).write_bytes(bytes(ours.file.size_bytes))
    assert model_shelf.place_of(ours.file) == "fetched"
    (cache.cache_dir() / ours.file.name).write_bytes(b"half")
    assert model_shelf.place_of(ours.file) == "not here yet"


# --- download -------------------------------------------------------------------------------


class Server(BaseHTTPRequestHandler):
    payload = np.random.default_rng(1).bytes(400_000)
    go_on = threading.Event()
    asked: list[str | None] = []  # noqa: RUF012 - one server at a time

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""

    def do_GET(self) -> None:
        wish = self.headers.get("Range")
        self.asked.append(wish)
        start = 0 if wish is None else int(wish[6:-1])
        self.send_response(200 if wish is None else 206)
        self.send_header("Content-Range", f"bytes {start}-{len(self.payload) - 1}/{len(self.payload)}")
        self.send_header("Content-Length", str(len(self.payload) - start))
        self.end_headers()
        if wish is None:
            self.wfile.write(self.payload[:200_000])
            self.go_on.wait(20)
            start = 200_000
        try:
            self.wfile.write(self.payload[start:])
        except OSError:
            return  # the client hung up, as it should


@pytest.fixture
def far_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A model of the project that has to be downloaded; its server waits in the middle of the first answer."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(_download, "_REPORT_EVERY_S", 0.0)
    monkeypatch.setattr(_worker, "_PROGRESS_EVERY_S", 0.0)
    Server.go_on.clear()
    Server.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    told = json.loads(manifest.manifest_path().read_text())
    model = next(one for one in told["models"] if one["recipe"] == "n2v") | {"id": "far", "bundled": False}
    url = f"http://127.0.0.1:{server.server_port}/far.safetensors"
    digest = hashlib.sha256(Server.payload).hexdigest()
    size = len(Server.payload)
    model["file"] = {"name": "far.safetensors", "url": url, "sha256": digest, "size_bytes": size}
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(told | {"models": [model]}))
    monkeypatch.setattr(manifest, "manifest_path", lambda: path)
    yield "far"
    Server.go_on.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_download_is_cancelled_and_goes_on(make: Callable[..., Any], qtbot: Any, far_away: str) -> None:
    panel = make()
    assert panel.models.shown_ids() == [far_away] and panel.models.row().place == "not here yet"
    assert panel.doors.fetch.isEnabled() and not panel.doors.package.isEnabled()
    panel.doors.fetch.trigger()
    qtbot.waitUntil(lambda: panel.foot.bar.value() >= 190_000, timeout=20_000)
    assert not panel.doors.fetch.isEnabled(), "one at a time"
    assert panel.foot.progress.text() == "Fetching far.safetensors · 0.2 of 0.4 MB"
    panel.foot.cancel.click()
    Server.go_on.set()
    assert "go on where it stopped" in finish(qtbot, panel)
    assert panel.models.row().place == "not here yet", "a part is never taken for the whole"
    panel.doors.fetch.trigger()
    assert "was verified" in finish(qtbot, panel)
    assert panel.models.row().place == "fetched" and not panel.doors.fetch.isEnabled()
    assert Server.asked[0] is None and str(Server.asked[1]).startswith("bytes=")


# --- own models -----------------------------------------------------------------------------


def test_rename_export_delete_and_import_again(
    make: Callable[..., Any], qtbot: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own_model()
    panel = make()
    panel.models.choose("nunet")
    assert not any(action.isEnabled() for action in (panel.doors.rename, panel.doors.delete, panel.doors.export))
    assert "Only your own models can be renamed" in panel.doors.rename.toolTip()
    assert panel.doors.more.menu().toolTipsVisible()
    panel.models.choose("mine")
    assert "another title" in panel.doors.rename.toolTip()
    monkeypatch.setattr(QInputDialog, "getText", lambda *a, **k: ("Better name", True))
    panel.doors.rename.trigger()
    assert find_model("mine").title == "Better name" and panel.models.row().card.title == "Better name"
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *a, **k: str(tmp_path))
    panel.doors.export.trigger()
    assert (tmp_path / "mine.json").is_file()
    monkeypatch.setattr(QMessageBox, "question", lambda *a, **k: QMessageBox.StandardButton.No)
    panel.doors.delete.trigger()
    assert "mine" in panel.models.shown_ids()
    monkeypatch.setattr(QMessageBox, "question", lambda *a, **k: QMessageBox.StandardButton.Yes)
    panel.doors.delete.trigger()
    assert "mine" not in panel.models.shown_ids() and "was deleted" in panel.foot.message.text()
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *a, **k: (str(tmp_path / "mine.json"), ""))
    panel.doors.add.trigger()
    assert "Imported “Better name” (mine)" in finish(qtbot, panel)
    assert panel.models.row().card.id == "mine"
    answers = [("", False), ("not an id!", True), ("mine-2", True)]
    asked: list[str] = []
    monkeypatch.setattr(
        QInputDialog, "getText", lambda *a, **k: (asked.append(f"{a[2]} {k['text']}"), answers.pop(0))[1]
    )
    for n_left, words in ((2, "Nothing was imported"), (1, "id"), (0, "Imported “Better name” (mine-2)")):
        panel.doors.add.trigger()
        qtbot.waitUntil(lambda n=n_left: len(answers) == n, timeout=20_000)
        assert words in finish(qtbot, panel)
    assert asked == ["There is a model “mine” already, which stays. Id of the new one, as commands name it: mine-2"] * 3
    assert {"mine", "mine-2"} <= set(panel.models.shown_ids()) and own_models.free_id("mine") == "mine-3"


def test_a_package_is_written_and_a_program_is_asked_about(
    make: Callable[..., Any], qtbot: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own_model()
    panel = make()
    panel.models.choose("mine")
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *a, **k: str(tmp_path))
    panel.doors.package.trigger()
    assert not panel.foot.cancel.isEnabled(), "it is written as a whole"
    assert "wait for its end" in panel.doors.package.toolTip()
    assert "can run it" in finish(qtbot, panel)
    path = tmp_path / bioimageio.package_name("mine")
    foreign = as_of_others(path)
    asked: list[str] = []
    answers = [QMessageBox.StandardButton.No, QMessageBox.StandardButton.Yes]
    monkeypatch.setattr(QMessageBox, "warning", lambda *a, **k: (asked.append(a[2]), answers.pop(0))[1])
    panel.import_file(str(foreign))
    assert "Nothing was imported" in finish(qtbot, panel)
    assert not any(card.recipe == "bioimageio" for card in list_models())
    panel.import_file(str(foreign))
    qtbot.waitUntil(lambda: not answers, timeout=20_000)
    assert "Imported “My denoiser”" in finish(qtbot, panel)
    assert all("can read and write files" in question for question in asked)
    assert find_model("my-denoiser").recipe == "bioimageio" and panel.models.row().method == "BioImage.IO"
    assert not panel.doors.package.isEnabled()


def as_of_others(path: Path) -> Path:
    import zipfile

    import yaml

    changed = path.with_name("foreign.zip")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(changed, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name == "bioimageio.yaml":
                told = yaml.safe_load(data)
                del told["config"]
                data = yaml.safe_dump(told).encode()
            target.writestr(name, data)
    return changed


def test_the_folder_of_my_models(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()))
    panel = make()
    panel.doors.folder.trigger()
    assert opened == [str(user_models_dir())] and user_models_dir().is_dir()


def test_a_damaged_card_is_told(make: Callable[..., Any]) -> None:
    user_models_dir().mkdir(parents=True)
    (user_models_dir() / "bad.json").write_text("{")
    assert "bad.json" in make().foot.message.text()


# --- other docks ----------------------------------------------------------------------------


def test_changes_show_in_the_other_docks_at_once(
    make: Callable[..., Any], make_panel: Callable[[Any], Any], qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_cellenhance.widgets.denoise import DenoisePanel

    own_model()
    viewer = ViewerModel()
    panel, enhance = make(viewer), make_panel(viewer)
    denoise = DenoisePanel(viewer)
    qtbot.addWidget(denoise)
    assert denoise.now.model.findData("mine") >= 0
    panel.models.choose("mine")
    monkeypatch.setattr(QMessageBox, "question", lambda *a, **k: QMessageBox.StandardButton.Yes)
    panel.doors.delete.trigger()
    assert denoise.now.model.findData("mine") < 0
    enhance.filters.choose("mine")
    assert enhance.filters.info().id != "mine"
    denoise.shut_down()


@pytest.mark.parametrize(
    ("recipe", "title"), [("nunet", "Enhance cells"), ("n2v", "Denoise"), ("care", "Restore like these")]
)
def test_use_opens_the_dock_of_the_method(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, recipe: str, title: str
) -> None:
    chosen: list[str] = []

    class Panel:
        filters = type("F", (), {"choose": staticmethod(chosen.append)})
        now = type("N", (), {"refill": staticmethod(chosen.append)})
        tabs = type("T", (), {"setCurrentIndex": staticmethod(lambda index: None)})

    opened: list[str] = []
    monkeypatch.setattr(_model_lists, "open_panel", lambda viewer, name, what: (opened.append(what), Panel())[1])
    panel = make()
    card = next(card for card in list_models() if card.recipe == recipe)
    panel.models.choose(card.id)
    panel.doors.use.trigger()
    assert opened == [title] and chosen == [card.id] and title in panel.foot.message.text()


# --- on my image ----------------------------------------------------------------------------


def seen(viewer: ViewerModel, data: Any, **settings: Any) -> Any:
    layer = viewer.add_image(data, **settings)
    layer.corner_pixels = np.array([[0] * layer.ndim, [n - 1 for n in layer.data.shape[: layer.ndim]]])
    return layer


@pytest.fixture
def two_filters(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Two tiny models instead of all that come along."""
    own_model("mine")
    own_model("other", title="Another one")
    ids = ("mine", "other")
    monkeypatch.setattr(try_models, "suitable", lambda _="": tuple(i for i in list_filters() if i.id in ids))
    return ids


def test_what_each_model_does_to_the_view(
    make: Callable[..., Any], qtbot: Any, two_filters: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = ViewerModel()
    seen(viewer, np.random.default_rng(0).integers(0, 255, (3, 60, 80), dtype=np.uint8))
    panel = make(viewer)
    panel.gallery.button.click()
    assert "2 models" in finish(qtbot, panel)
    assert panel.gallery.ids() == list(two_filters)
    pictures = panel.gallery.pictures
    assert pictures.item(0).text() == "Your image" and not pictures.item(0).icon().isNull()
    assert not pictures.item(1).icon().isNull()
    opened: list[str] = []
    monkeypatch.setattr(dock, "open_with", lambda viewer, card, layer: (opened.append(card.id), "Denoise")[1])
    pictures.itemClicked.emit(pictures.item(2))
    pictures.itemClicked.emit(pictures.item(0))
    assert opened == ["other"]
    assert len(viewer.layers) == 1, "the view is left as it is"


def test_a_trial_is_cancelled_between_models(
    make: Callable[..., Any], qtbot: Any, two_filters: tuple[str, ...]
) -> None:
    viewer = ViewerModel()
    seen(viewer, np.random.default_rng(0).random((60, 80)))
    panel = make(viewer)
    panel._tried.connect(lambda _: panel._job.cancel(), Qt.ConnectionType.DirectConnection)
    panel.try_all()
    assert "Cancelled after 0 of 2" in finish(qtbot, panel)
    assert panel.gallery.ids() == [] and panel.gallery.pictures.count() == 1


def test_without_an_image_it_asks_for_one(make: Callable[..., Any]) -> None:
    panel = make()
    panel.try_all()
    assert "Open an image first" in panel.foot.message.text() and panel._job is None


def test_a_model_that_cannot_work_on_the_image_says_why(qtbot: Any, make: Callable[..., Any]) -> None:
    panel = make()
    info = list_filters()[0]
    panel.gallery.add(try_models.Trial(info=info, image=None, reason="It takes volumes."))
    item = panel.gallery.pictures.item(0)
    assert "does not fit" in item.text() and item.toolTip() == "It takes volumes." and panel.gallery.ids() == []


def test_only_the_middle_is_computed() -> None:
    assert try_models.middle(Region(10, 1010, 0, 90)) == Region(382, 638, 0, 90)
