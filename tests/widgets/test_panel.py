"""The Enhance dock on a ViewerModel: no window, a fake workflow, every fault that users find."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QComboBox, QLineEdit, QSlider

from napari_cellenhance.core.errors import ImageError

MakePanel = Callable[[Any], Any]


def text_of(panel: Any) -> str:
    return str(panel.foot.message.text())


def finish(qtbot: Any, panel: Any) -> None:
    qtbot.waitUntil(lambda: panel._job is None, timeout=5000)


@pytest.fixture
def viewer() -> ViewerModel:
    viewer = ViewerModel()
    rng = np.random.default_rng(0)
    viewer.add_image(rng.random((64, 80)).astype(np.float32), name="cells", scale=(0.5, 0.5), units=("um", "um"))
    return viewer


def test_no_layer_disables_run_and_says_what_to_do(make_panel: MakePanel) -> None:
    panel = make_panel(ViewerModel())
    assert not panel.foot.run.isEnabled()
    assert "Open an image" in text_of(panel)
    panel.run()
    assert panel._job is None


def test_panel_fills_from_the_layer(make_panel: MakePanel, viewer: ViewerModel) -> None:
    panel = make_panel(viewer)
    assert panel.layers.currentText() == "cells"
    assert panel.image.axes_text == "YX"
    assert panel.foot.run.isEnabled()
    assert panel.strength.value == panel.filters.info().strength.default


def test_filters_are_grouped_and_headers_cannot_be_chosen(make_panel: MakePanel, viewer: ViewerModel) -> None:
    picker = make_panel(viewer).filters
    texts = [picker.itemText(i) for i in range(picker.count())]
    assert "Classical" in texts
    header = texts.index("Classical")
    assert not picker.model().item(header).isEnabled()
    picker.choose("gaussian")
    assert picker.info().id == "gaussian"


def test_strength_follows_the_card_of_the_filter(make_panel: MakePanel, viewer: ViewerModel) -> None:
    panel = make_panel(viewer)
    panel.filters.choose("gaussian")
    info = panel.filters.info().strength
    assert panel.strength.number.maximum() == info.maximum
    assert info.label in panel.strength.label.text()
    assert panel.strength.slider.toolTip() == info.help
    panel.strength.slider.setValue(0)
    assert panel.choices().strength == 0
    panel.strength.number.setValue(info.minimum)
    assert panel.choices().strength == info.minimum
    panel.strength.number.setValue(info.maximum)
    assert panel.strength.slider.value() == panel.strength.slider.maximum()


def test_wrong_axes_are_red_and_block_the_run(make_panel: MakePanel, viewer: ViewerModel) -> None:
    panel = make_panel(viewer)
    panel.image.axes.setText("ZYX")
    assert "color:" in panel.image.axes_note.text()
    assert not panel.image.axes_note.isHidden()
    assert not panel.foot.run.isEnabled()
    panel.image.axes.setText("yx")
    assert panel.foot.run.isEnabled()
    assert panel.choices().axes == "YX"


def test_colour_images_default_to_grey(make_panel: MakePanel) -> None:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((20, 30, 3), np.uint8), rgb=True)
    panel = make_panel(viewer)
    assert panel.choices().axes == "YXS"
    assert panel.choices().channels == "grey"
    panel.image.channels.setCurrentIndex(1)
    assert panel.choices().channels == "all"
    panel.outputs.wants_labels.setChecked(True)
    assert not panel.foot.run.isEnabled()
    assert "Grey" in text_of(panel)


def test_statistics_are_offered_for_stacks_only(make_panel: MakePanel, viewer: ViewerModel) -> None:
    panel = make_panel(viewer)
    assert panel.statistics.isHidden()
    viewer.add_image(np.zeros((5, 20, 30)), name="stack", axis_labels=("z", "y", "x"))
    panel.layers.choose(viewer.layers["stack"])
    assert not panel.statistics.isHidden()


def test_dark_objects_are_suggested_with_a_reason_and_the_user_wins(
    make_panel: MakePanel, viewer: ViewerModel, qtbot: Any
) -> None:
    yy, xx = np.mgrid[:128, :128]
    stained = np.full((128, 128), 200.0)
    for y, x in [(30, 30), (30, 90), (90, 30), (90, 90)]:
        stained[(yy - y) ** 2 + (xx - x) ** 2 < 100] = 60
    stained += np.random.default_rng(0).normal(0, 3, stained.shape)
    panel = make_panel(viewer)
    viewer.add_image(stained.astype(np.uint8), name="tissue")
    panel.layers.choose(viewer.layers["tissue"])
    qtbot.waitUntil(lambda: bool(panel.image.dark_note.text()), timeout=5000)
    assert panel.image.dark.isChecked()
    panel.image.dark.click()
    assert not panel.image.dark.isChecked()
    panel._suggest()
    qtbot.wait(200)
    assert not panel.image.dark.isChecked()


def test_run_adds_a_layer_in_place_with_its_recipe(
    make_panel: MakePanel, viewer: ViewerModel, fake_run: Any, qtbot: Any
) -> None:
    panel = make_panel(viewer)
    panel.outputs.wants_labels.setChecked(True)
    panel.outputs.wants_points.setChecked(True)
    panel.foot.run.click()
    finish(qtbot, panel)
    assert [layer.name for layer in viewer.layers] == ["cells", "cells enhanced", "cells segmented", "cells blobs"]
    layer = viewer.layers["cells enhanced"]
    np.testing.assert_allclose(layer.scale, (0.5, 0.5))
    assert layer.metadata["cellenhance"]["filter"] == panel.filters.info().id
    assert "not quantitative" in text_of(panel)
    assert panel.foot.device.text() == "Ran on CPU, float32."
    assert panel.layers.currentText() == "cells"
    assert panel.foot.run.isEnabled()
    request = fake_run.requests[0]
    assert request.pixel_size_um == {"Y": 0.5, "X": 0.5}
    assert request.segment is not None


def test_view_scope_asks_only_for_the_window(
    make_panel: MakePanel, viewer: ViewerModel, fake_run: Any, qtbot: Any
) -> None:
    viewer.layers["cells"].corner_pixels = np.array([[10, 20], [39, 59]])
    panel = make_panel(viewer)
    panel.scope.setCurrentIndex(panel.scope.findData("view"))
    panel.run()
    finish(qtbot, panel)
    assert viewer.layers["cells enhanced"].data.shape == (30, 40)
    np.testing.assert_allclose(viewer.layers["cells enhanced"].translate, (5, 10))


def test_progress_and_cancel_keep_what_is_done(
    make_panel: MakePanel, viewer: ViewerModel, fake_run: Any, qtbot: Any
) -> None:
    fake_run.go_on.clear()
    panel = make_panel(viewer)
    panel.run()
    assert not panel.foot.run.isEnabled()
    assert panel.foot.cancel.isEnabled()
    qtbot.waitUntil(lambda: panel.foot.progress.text() == "Plane 1", timeout=5000)
    assert (panel.foot.bar.value(), panel.foot.bar.maximum()) == (1, 4)
    panel.foot.cancel.click()
    assert panel.foot.cancel.text() == "Cancelling…"
    finish(qtbot, panel)
    assert viewer.layers[-1].name == "cells enhanced (partial)"
    assert viewer.layers[-1].metadata["cellenhance"]["is_complete"] is False
    assert "Cancelled after 1 of 4 tiles" in text_of(panel)
    assert panel.foot.run.isEnabled()
    assert not panel.foot.cancel.isEnabled()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "RuntimeError"),
        (NotImplementedError("no such op"), "NotImplementedError"),
        (ImageError("the image has no finite pixel; choose another layer"), "no finite pixel"),
        (MemoryError(), "memory"),
    ],
)
def test_errors_are_sentences_and_the_next_run_works(
    make_panel: MakePanel, viewer: ViewerModel, fake_run: Any, qtbot: Any, error: Exception, said: str
) -> None:
    panel = make_panel(viewer)
    fake_run.error = error
    panel.run()
    finish(qtbot, panel)
    assert said in text_of(panel)
    assert len(viewer.layers) == 1
    fake_run.error = None
    panel.run()
    finish(qtbot, panel)
    assert viewer.layers[-1].name == "cells enhanced"


def test_two_docks_run_one_at_a_time(make_panel: MakePanel, viewer: ViewerModel, fake_run: Any, qtbot: Any) -> None:
    fake_run.go_on.clear()
    first, second = make_panel(viewer), make_panel(viewer)
    first.run()
    second.run()
    assert "already running" in text_of(second)
    fake_run.go_on.set()
    finish(qtbot, first)
    assert len(fake_run.requests) == 1
    second.run()
    finish(qtbot, second)
    assert len(fake_run.requests) == 2


def test_run_twice_in_one_dock_is_harmless(
    make_panel: MakePanel, viewer: ViewerModel, fake_run: Any, qtbot: Any
) -> None:
    fake_run.go_on.clear()
    panel = make_panel(viewer)
    panel.run()
    panel.run()
    fake_run.go_on.set()
    finish(qtbot, panel)
    qtbot.wait(50)
    assert len(fake_run.requests) == 1
    assert len(viewer.layers) == 2


def test_layer_removed_renamed_and_moved_during_the_run(
    make_panel: MakePanel, viewer: ViewerModel, fake_run: Any, qtbot: Any
) -> None:
    fake_run.go_on.clear()
    panel = make_panel(viewer)
    panel.run()
    viewer.layers["cells"].name = "other"
    viewer.add_image(np.zeros((5, 5)), name="new")
    viewer.layers.move(0, 2)
    viewer.layers.remove("other")
    fake_run.go_on.set()
    finish(qtbot, panel)
    assert "cells enhanced" in viewer.layers
    assert "Done" in text_of(panel)


def test_all_layers_cleared_during_the_run(
    make_panel: MakePanel, viewer: ViewerModel, fake_run: Any, qtbot: Any
) -> None:
    fake_run.go_on.clear()
    panel = make_panel(viewer)
    panel.run()
    viewer.layers.clear()
    fake_run.go_on.set()
    finish(qtbot, panel)
    assert [layer.name for layer in viewer.layers] == ["cells enhanced"]


def test_closing_the_panel_during_the_run_stops_it_and_adds_nothing(
    make_panel: MakePanel, viewer: ViewerModel, fake_run: Any, qtbot: Any
) -> None:
    fake_run.go_on.clear()
    panel = make_panel(viewer)
    panel.run()
    fake_run.started.wait(5)
    panel.close()
    finish(qtbot, panel)
    assert [layer.name for layer in viewer.layers] == ["cells"]
    viewer.layers["cells"].name = "still fine"
    viewer.add_image(np.zeros((5, 5)))


def test_data_replaced_during_the_run_is_said(
    make_panel: MakePanel, viewer: ViewerModel, fake_run: Any, qtbot: Any
) -> None:
    fake_run.go_on.clear()
    panel = make_panel(viewer)
    before = viewer.layers["cells"].data
    panel.run()
    viewer.layers["cells"].data = np.zeros((64, 80), np.float32)
    fake_run.go_on.set()
    finish(qtbot, panel)
    assert fake_run.requests[0].image is before
    assert "changed while" in text_of(panel)


def test_combo_follows_the_layer_list(make_panel: MakePanel, viewer: ViewerModel) -> None:
    panel = make_panel(viewer)
    viewer.layers["cells"].name = "renamed"
    assert panel.layers.currentText() == "renamed"
    viewer.add_labels(np.zeros((5, 5), int))
    assert panel.layers.count() == 1
    viewer.layers.clear()
    assert panel.layers.layer() is None
    assert not panel.foot.run.isEnabled()


@pytest.mark.parametrize("dtype", [bool, np.uint16, np.int64, np.float16, np.float64])
def test_odd_images_do_not_disturb_the_panel(make_panel: MakePanel, qtbot: Any, dtype: Any) -> None:
    viewer = ViewerModel()
    panel = make_panel(viewer)
    for shape in [(1, 1), (3, 5), (1, 64), (2, 1, 3, 16, 16)]:
        viewer.add_image(np.ones(shape, dtype), rgb=False)
        panel.layers.choose(viewer.layers[-1])
        assert len(panel.image.axes_text) == len(shape)
    qtbot.wait(100)
    assert "unexpected" not in text_of(panel)


def test_all_nan_image_does_not_disturb_the_panel(make_panel: MakePanel, qtbot: Any) -> None:
    viewer = ViewerModel()
    viewer.add_image(np.full((32, 32), np.nan), contrast_limits=(0, 1))
    panel = make_panel(viewer)
    qtbot.wait(200)
    assert "unexpected" not in text_of(panel)
    assert not panel.image.dark.isChecked()


def test_seven_dimensions_are_refused_in_words(make_panel: MakePanel) -> None:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((1, 1, 2, 1, 2, 16, 16)))
    panel = make_panel(viewer)
    assert not panel.foot.run.isEnabled()
    assert text_of(panel)


def test_every_control_has_a_tooltip_and_a_name(make_panel: MakePanel, viewer: ViewerModel) -> None:
    panel = make_panel(viewer)
    for kind in (QComboBox, QLineEdit, QSlider, QAbstractSpinBox, QAbstractButton):
        for control in panel.findChildren(kind):
            if control.objectName().startswith("qt_") or isinstance(control.parent(), QAbstractSpinBox):
                continue
            assert control.toolTip(), control
            if not isinstance(control, QAbstractButton):
                assert control.accessibleName(), control
    assert panel.minimumSizeHint().width() >= 280


def test_nothing_is_clipped_at_the_smallest_width(make_panel: MakePanel, viewer: ViewerModel, qtbot: Any) -> None:
    panel = make_panel(viewer)
    viewer.add_image(np.zeros((3, 20, 30)), name="channels", axis_labels=("channel", "y", "x"))
    panel.layers.choose(viewer.layers["channels"])
    panel.outputs.wants_labels.setChecked(True)
    panel.outputs.wants_points.setChecked(True)
    panel.resize(panel.minimumSizeHint().width(), 900)
    with qtbot.waitExposed(panel):
        panel.show()
    content = panel.settings_area.widget()
    assert content.minimumSizeHint().width() <= panel.settings_area.viewport().width()
    panel.hide()


def test_view_scope_without_a_view_says_why(
    make_panel: MakePanel, viewer: ViewerModel, fake_run: Any, qtbot: Any
) -> None:
    panel = make_panel(viewer)
    panel.scope.setCurrentIndex(panel.scope.findData("view"))
    viewer.layers["cells"].corner_pixels = np.array([[999, 999], [999, 999]])
    panel.run()
    finish(qtbot, panel)
    assert "off the screen" in text_of(panel)
    assert len(viewer.layers) == 1
