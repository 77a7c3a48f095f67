"""Suggest, strength by region, persistence map and import in the dock, on a ViewerModel."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_cellenhance.core.recipes.protocol import StrengthInfo
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.widgets import _advisor
from napari_cellenhance.widgets._layers import Choices, build_request, snapshot
from napari_cellenhance.widgets._preview_request import build_preview
from napari_cellenhance.widgets._settings import PluginSettings
from napari_cellenhance.widgets._strength import StrengthSlider
from napari_cellenhance.widgets._strength_regions import MAX_ROWS, StrengthRegions
from napari_cellenhance.workflows.requests import StrengthMap, StrengthSuggestion

MakePanel = Callable[[Any], Any]
INFO = StrengthInfo(label="Strength", help="How strongly.", default=5.0, maximum=10.0)
FOUND = StrengthSuggestion(strength=3.0, reason="Because.", strengths=(1.0, 3.0), scores=(0.2, 0.9))


@pytest.fixture
def viewer() -> ViewerModel:
    viewer = ViewerModel()
    y, x = np.mgrid[:64, :80]
    image = np.zeros((64, 80), np.float32)
    for cy, cx, radius in ((20, 20, 12), (40, 60, 4)):
        image[np.hypot(y - cy, x - cx) <= radius] = 1.0
    viewer.add_image((200 * image).astype(np.uint8), name="cells", scale=(0.5, 0.5))
    return viewer


def labels_of(viewer: Any, **changes: Any) -> Any:
    painted = np.zeros((64, 80), np.uint8)
    painted[:, :20], painted[:, 60:] = 2, 5
    return viewer.add_labels(painted, name="regions", **changes)


# --- the slider ------------------------------------------------------------------------


def test_a_suggestion_is_marked_and_kept_while_the_slider_stands_there(qtbot: Any) -> None:
    slider = StrengthSlider()
    qtbot.addWidget(slider)
    slider.set_info(INFO)
    assert slider.slider.mark is None
    slider.show_suggestion(FOUND)
    assert slider.value == 3.0 and slider.suggestion == FOUND
    assert slider.slider.mark == 300
    assert "Suggested: 3. Because." in slider.slider.toolTip()
    slider.set_value(7.0)
    assert slider.suggestion is None and slider.slider.mark == 300
    slider.set_value(3.0)
    assert slider.suggestion == FOUND
    slider.set_info(INFO)
    assert slider.slider.mark is None and slider.suggestion is None and slider.slider.toolTip() == INFO.help


def test_the_mark_is_painted_where_the_knob_would_be(qtbot: Any) -> None:
    slider = StrengthSlider()
    qtbot.addWidget(slider)
    slider.resize(400, 60)
    slider.set_info(INFO)
    bare = slider.slider.grab().toImage()
    slider.slider.set_mark(500)
    assert slider.slider.mark_x() == pytest.approx(slider.slider.width() / 2, abs=1)
    assert slider.slider.grab().toImage() != bare
    slider.slider.set_mark(None)
    assert slider.slider.grab().toImage() == bare


# --- the button ------------------------------------------------------------------------


def test_suggest_moves_the_slider_and_the_recipe_says_so(
    make_panel: MakePanel, viewer: ViewerModel, qtbot: Any, monkeypatch: pytest.MonkeyPatch, fake_run: Any
) -> None:
    asked: list[Any] = []

    def answer(session: Any, preview: Any, *, is_cancelled: Any) -> StrengthSuggestion:
        asked.append((session, preview))
        return FOUND

    monkeypatch.setattr(_advisor, "suggest_on_view", answer)
    panel = make_panel(viewer)
    panel.strength.suggest.click()
    assert panel.strength.suggest.text() == "Looking…" and not panel.strength.suggest.isEnabled()
    qtbot.waitUntil(lambda: panel.strength.value == 3.0, timeout=5000)
    assert panel.strength.suggest.text() == "Suggest" and panel.strength.suggest.isEnabled()
    assert asked[0][0] is panel.preview.session
    assert "Because." in panel.foot.message.text()
    panel.run()
    qtbot.waitUntil(lambda: panel._job is None, timeout=5000)
    assert fake_run.requests[0].suggestion == FOUND
    panel.strength.set_value(4.0)
    assert panel.choices().suggestion is None
    assert "Done" in panel.foot.message.text(), "what came after the suggestion stays"
    viewer.add_image(np.zeros((32, 32), np.uint8), name="other")
    panel.layers.choose(viewer.layers["other"])
    assert panel.strength.slider.mark is None


def test_the_reason_goes_when_the_strength_is_another_one(
    make_panel: MakePanel, viewer: ViewerModel, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_advisor, "suggest_on_view", lambda *_, **__: FOUND)
    panel = make_panel(viewer)

    def suggest() -> None:
        panel.strength.suggest.click()
        qtbot.waitUntil(lambda: panel.foot.message.text() == "Because.", timeout=5000)

    suggest()
    panel.strength.slider.setValue(700)
    assert panel.foot.message.text() == ""
    assert panel.strength.slider.mark == 300, "the mark stays, and its tooltip says why"
    suggest()
    viewer.add_image(np.zeros((32, 32), np.uint8), name="other")
    panel.layers.choose(viewer.layers["other"])
    assert panel.foot.message.text() == ""


def test_suggest_says_what_is_wrong(
    make_panel: MakePanel, viewer: ViewerModel, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> StrengthSuggestion:
        raise MemoryError

    monkeypatch.setattr(_advisor, "suggest_on_view", fail)
    panel = make_panel(viewer)
    panel.strength.suggest.click()
    qtbot.waitUntil(lambda: "not enough memory" in panel.foot.message.text(), timeout=5000)
    assert panel.strength.suggest.isEnabled()
    empty = make_panel(ViewerModel())
    empty.strength.suggest.click()
    assert "Choose an image layer first" in empty.foot.message.text()
    assert empty.strength.suggest.isEnabled()


def test_only_networks_have_the_button(make_panel: MakePanel, viewer: ViewerModel) -> None:
    panel = make_panel(viewer)
    assert not panel.strength.suggest.isHidden()
    panel.filters.choose("gaussian")
    assert panel.strength.suggest.isHidden()


# --- regions ---------------------------------------------------------------------------


@pytest.fixture
def regions(qtbot: Any, viewer: ViewerModel) -> StrengthRegions:
    widget = StrengthRegions(viewer)
    qtbot.addWidget(widget)
    widget.set_strength(INFO, 5.0)
    return widget


def test_labels_get_strengths_and_the_map_is_the_same_until_something_changes(
    regions: StrengthRegions, viewer: ViewerModel
) -> None:
    assert regions.strength_map() is None
    layer = labels_of(viewer)
    regions.choose(layer)
    assert list(regions.rows) == [2, 5]
    given = regions.strength_map()
    assert given is not None and given.label_strengths == {2: 5.0, 5: 5.0}
    assert regions.strength_map() is given
    regions.rows[5].setValue(9.5)
    regions.edges.setValue(4)
    changed = regions.strength_map()
    assert changed is not None and changed.label_strengths == {2: 5.0, 5: 9.5} and changed.edge_px == 4
    regions.choose(None)
    assert regions.strength_map() is None and not regions.rows


def test_painting_is_followed_and_frozen(regions: StrengthRegions, viewer: ViewerModel, qtbot: Any) -> None:
    layer = labels_of(viewer)
    regions.choose(layer)
    regions.rows[2].setValue(1.0)
    before = regions.strength_map()
    with qtbot.waitSignal(regions.changed, timeout=3000):
        layer.data_setitem((np.array([30, 31]), np.array([40, 40])), 7)
    after = regions.strength_map()
    assert before is not None and after is not None
    assert list(regions.rows) == [2, 5, 7] and regions.rows[2].value() == 1.0
    assert before.values[30, 40] == 0 and after.values[30, 40] == 7
    with qtbot.waitSignal(regions.changed, timeout=3000):
        layer.data = np.zeros((64, 80), np.uint8)
    assert not regions.rows and "Nothing is painted yet" in regions.note.text()
    viewer.layers.remove(layer)
    assert regions.strength_map() is None


def test_images_of_strengths_and_many_labels(regions: StrengthRegions, viewer: ViewerModel) -> None:
    layer = viewer.add_image(np.full((64, 80), 4.0, np.float32), name="strengths")
    regions.choose(layer)
    given = regions.strength_map()
    assert given is not None and given.label_strengths is None and "from 0 to 10" in regions.note.text()
    many = viewer.add_labels(np.arange(64 * 80).reshape(64, 80) % 50, name="many")
    regions.choose(many)
    assert len(regions.rows) == MAX_ROWS and "49 labels" in regions.note.text()


def test_only_layers_that_can_hold_strengths_are_listed(regions: StrengthRegions, viewer: ViewerModel) -> None:
    labels_of(viewer)
    viewer.add_image(np.zeros((8, 8, 3), np.float32), rgb=True, name="colours")
    texts = [regions.layer_combo.itemText(i) for i in range(regions.layer_combo.count())]
    assert texts[1:] == ["regions"]


def choices(**changes: Any) -> Choices:
    return Choices(**({"axes": "ZYX", "filter_id": "nunet", "strength": 5.0} | changes))


def test_maps_are_cut_with_the_scope_and_shrunk_with_the_level() -> None:
    viewer = ViewerModel()
    image = np.zeros((3, 40, 60), np.uint8)
    layer = viewer.add_image([image, image[:, ::2, ::2]], multiscale=True)
    view = snapshot(layer, viewer.dims)
    labels = np.zeros((3, 40, 60), np.uint8)
    labels[1, 10:, 30:] = 4
    given = StrengthMap(values=labels, label_strengths={4: 9.0}, edge_px=8)
    whole = build_request(view, choices(strength_map=given), PluginSettings())
    assert whole.strength_map is given
    sliced = build_request(view, choices(strength_map=given, scope="slice"), PluginSettings())
    assert sliced.strength_map is not None and sliced.strength_map.values.shape == sliced.image.shape == (1, 40, 60)
    flat = StrengthMap(values=labels[1], label_strengths={4: 9.0})
    sliced = build_request(view, choices(strength_map=flat, scope="slice"), PluginSettings())
    assert sliced.strength_map is not None and sliced.strength_map.values.shape == (40, 60)
    coarse = type(view)(
        **{name: getattr(view, name) for name in view.__slots__} | {"level": 1, "window": ((0, 3), (0, 20), (0, 30))}
    )
    preview = build_preview(coarse, choices(strength_map=given), PluginSettings(), "key").request.enhance
    assert preview.strength_map is not None and preview.strength_map.edge_px == 4
    np.testing.assert_array_equal(preview.strength_map.values, labels[:, 1::2, 1::2])
    assert preview.region == Region(0, 20, 0, 30)


def test_the_panel_hands_the_map_on(
    make_panel: MakePanel, viewer: ViewerModel, session: Any, qtbot: Any, fake_run: Any
) -> None:
    layer = labels_of(viewer)
    panel = make_panel(viewer)
    panel.badge.switch.setChecked(True)
    qtbot.waitUntil(lambda: len(session.requests) > 0, timeout=5000)
    panel.regions.choose(layer)
    panel.regions.rows[2].setValue(9.0)
    given = panel.regions.strength_map()
    qtbot.waitUntil(lambda: session.requests[-1].enhance.strength_map is given, timeout=5000)
    panel.run()
    qtbot.waitUntil(lambda: panel._job is None, timeout=5000)
    assert fake_run.requests[0].strength_map is given


# --- persistence and import ------------------------------------------------------------


def test_a_persistence_map_becomes_layers_and_a_table(
    make_panel: MakePanel, viewer: ViewerModel, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import napari_cellenhance.core.inference  # noqa: F401 - the first import of torch may take its time

    panel = make_panel(viewer)
    panel.filters.choose("gaussian")
    panel.persistence.n_strengths.setValue(5)
    assert not panel.persistence.save.isEnabled()
    told: list[tuple[str, int, int]] = []
    honest = panel.foot.show_progress

    def note(progress: Any) -> None:
        honest(progress)
        told.append((panel.foot.progress.text(), panel.foot.bar.minimum(), panel.foot.bar.maximum()))

    monkeypatch.setattr(panel.foot, "show_progress", note)
    panel.persistence.make.click()
    assert not panel.persistence.make.isEnabled()
    qtbot.waitUntil(lambda: panel._job is None, timeout=120000)
    assert ("Following the objects through 5 strengths", 0, 0) in told, "a bar that moves by itself"
    assert not [text for text, _, _ in told if "Plane" in text]
    image = viewer.layers["cells persistence"]
    assert image.blending == "translucent_no_depth"  # added to a bright layer, all colours would be white
    objects = viewer.layers["cells objects by persistence"]
    assert image.scale.tolist() == objects.scale.tolist() == [0.5, 0.5]
    assert image.contrast_limits == [0.0, 1.0] and 0 < image.data.max() <= 1.0
    assert image.metadata["cellenhance"]["filter"] == "gaussian"
    assert objects.features["index"].tolist() == list(range(1, objects.data.max() + 1))
    assert {"persistence", "born_at", "lost_at", "area_px"} <= set(objects.features.columns)
    assert "lasting all the way" in panel.foot.message.text()
    assert viewer.layers.selection.active == viewer.layers["cells"]
    panel.persistence.write(str(tmp_path / "t.csv"))
    with open(tmp_path / "t.csv", newline="", encoding="utf-8") as stream:
        assert len(list(csv.DictReader(stream))) == objects.data.max()
    assert "t.csv" in panel.persistence.note.text()


def test_an_archive_becomes_a_filter_and_a_wrong_file_a_sentence(
    make_panel: MakePanel, viewer: ViewerModel, qtbot: Any, tmp_path: Path
) -> None:
    import torch

    from napari_cellenhance.core.models.nunet import NUNet

    torch.save({"state_dict": NUNet().state_dict()}, tmp_path / "nunet_sw80.model")
    panel = make_panel(viewer)
    before = panel.filters.count()
    panel.import_models(str(tmp_path / "nunet_sw80.model"))
    qtbot.waitUntil(lambda: panel._job is None, timeout=120000)
    assert panel.filters.count() == before + 1
    assert panel.filters.info().id == "nunet-authors" and panel.strength.value == 8.0
    assert "now in the list" in panel.foot.message.text()
    (tmp_path / "a.tar").write_text("no archive")
    panel.import_models(str(tmp_path / "a.tar"))
    qtbot.waitUntil(lambda: panel._job is None, timeout=120000)
    assert "neither a tar nor a zip" in panel.foot.message.text()
