"""Small parts of the dock “Teach it your cells”: bars, curves, tables, places, names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor

from napari_cellenhance.core.tiling import Region
from napari_cellenhance.widgets import _teach_classes
from napari_cellenhance.widgets._layers import snapshot
from napari_cellenhance.widgets._teach_bars import BarChart
from napari_cellenhance.widgets._teach_classes import ClassLook, ClassTable, looks_of, paint_problem
from napari_cellenhance.widgets._teach_curves import best_score, loss_curves, score_curves
from napari_cellenhance.widgets._teach_place import AnswerLayer, Window, class_colormap, paint_place, paintable_layers
from napari_cellenhance.widgets._teach_settings import TeachSettings
from napari_cellenhance.widgets._teach_view import TeachView

ROWS = [{"step": i + 1.0, "total": 4.0 - 0.02 * i, "first": 1.0} for i in range(20)]


# --- classes ------------------------------------------------------------------------------------


def test_missing_paint_is_named_as_the_class_is() -> None:
    assert "Only “axons”" in paint_problem({3: 90}, {3: "axons"})
    assert "“axons” are too small (3 px)" in paint_problem({1: 90, 3: 3}, {3: "axons"})
    assert paint_problem({1: 90, 3: 40}, {}) == ""


def test_what_a_layer_remembers_is_read_with_care() -> None:
    stored = {
        "2": ("cells", "#ff0000"),
        "x": ("a", "#ff0000"),
        "3": "broken",
        "4": ("b", "red"),
        "-1": ("c", "#000000"),
    }
    assert looks_of(stored) == {2: ClassLook("cells", "#ff0000")}
    assert looks_of(None) == {} and looks_of([1, 2]) == {}


def test_the_table_renames_recolours_and_grows(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    table = ClassTable()
    qtbot.addWidget(table)
    with qtbot.waitSignal(table.changed):
        table.table.item(1, 2).setText("  mitotic \n cells ")
    assert table.names == {1: "background", 2: "mitotic cells"}
    table.table.item(1, 2).setText(" ")
    assert table.names[2] == "cells"
    monkeypatch.setattr(_teach_classes.QColorDialog, "getColor", lambda *_: QColor("#123456"))
    table.table.cellDoubleClicked.emit(1, 1)
    assert table.colors[2] == "#123456"
    monkeypatch.setattr(_teach_classes.QColorDialog, "getColor", lambda *_: QColor())
    table.table.cellDoubleClicked.emit(1, 1)
    assert table.colors[2] == "#123456", "the dialog was left without choosing"
    with qtbot.waitSignal(table.chosen) as chosen:
        table.add.click()
    assert chosen.args == [3] and table.table.rowCount() == 3
    with qtbot.waitSignal(table.chosen) as chosen:
        qtbot.mouseClick(
            table.table.viewport(),
            Qt.MouseButton.LeftButton,
            pos=table.table.visualItemRect(table.table.item(0, 0)).center(),
        )
    assert chosen.args == [1]


# --- settings -----------------------------------------------------------------------------------


def test_time_or_updates(qtbot: Any) -> None:
    settings = TeachSettings(())
    qtbot.addWidget(settings)
    seconds = [(g.n_steps, g.time_limit_s) for g in _goals(settings)]
    assert seconds == [(0, 60.0), (0, 300.0), (0, 1200.0), (settings.n_steps.value(), 0.0)]
    settings.network.setCurrentIndex(settings.network.findData("unet"))
    assert not settings.ensemble.isEnabled() and settings.goal().network == "unet"


def _goals(settings: TeachSettings) -> Any:
    for index in range(settings.time.count()):
        settings.time.setCurrentIndex(index)
        yield settings.goal()


# --- pictures -----------------------------------------------------------------------------------


def test_bars_point_to_both_sides_of_zero(qtbot: Any) -> None:
    bars = BarChart("Weights", "tip")
    qtbot.addWidget(bars)
    bars.show_values({"image": 0.5, "filter 1": -0.5, "filter 2": float("nan")})
    assert bars.values == {"image": 0.5, "filter 1": -0.5} and "filter 1: -0.50" in bars.accessibleDescription()
    bars.resize(300, bars.sizeHint().height())
    pixels = bars.grab().toImage()
    blue = QColor("#0072b2")

    def columns(row: int) -> list[int]:
        y = int((row + 0.5) * pixels.height() / 2)
        return [x for x in range(pixels.width()) if QColor(pixels.pixel(x, y)) == blue]

    right, left = columns(0), columns(1)
    assert right and left and max(left) <= min(right) + 1 and abs(len(left) - len(right)) <= 2
    assert BarChart("none", "").grab().width() > 0


def test_curves_of_losses_and_scores() -> None:
    rows: list[dict[str, float]] = [dict(row) for row in ROWS]
    assert [curve.name for curve in loss_curves(rows)] == ["All together", "Image"] and score_curves(rows, {}) == []
    rows[9] |= {"val_loss": 2.0, "val_mean_iou": 0.5, "val_iou_2": 0.4, "val_iou_1": 0.6}
    assert loss_curves(rows)[-1].style == "points"
    curves = score_curves(rows, {2: ClassLook("axons", "#ff0000")})
    assert [(c.name, list(c.x), list(c.y)) for c in curves] == [
        ("Mean", [10.0], [0.5]), ("background", [10.0], [0.6]), ("axons", [10.0], [0.4]),
    ]  # fmt: skip
    assert curves[2].colour == "#ff0000"
    assert best_score(rows, 10) == 0.5 and best_score(rows, 0) is None


def test_the_view_forgets_the_training_before(qtbot: Any) -> None:
    view = TeachView()
    qtbot.addWidget(view)
    view.add([*ROWS, {"step": 21.0, "val_mean_iou": 0.5}], 21)
    view.finish(0.5, "It is so.", is_broken=True)
    view.show_weights({"image": 1.0, "filter 1": 0.5})
    assert ">0.50<" in view.score.text() and view.meaning.text() == "It is so." and not view.warning.isHidden()
    view.finish(float("nan"), "never shown", is_broken=False)
    assert view.meaning.text() == "It is so."
    view.start({})
    assert ">–<" in view.score.text() and view.warning.isHidden() and view.bars.isHidden() and not view.rows
    view.show_weights({"network": 1.0})
    assert view.bars.isHidden(), "one branch has no weights to compare"


# --- places -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axes", "shape", "paint"),
    [
        ("YX", (20, 30), (20, 30)),
        ("XY", (30, 20), (30, 20)),
        ("CYX", (2, 20, 30), (20, 30)),
        ("ZCYX", (4, 2, 20, 30), (4, 2, 20, 30)),
        ("TZYX", (2, 4, 20, 30), (2, 4, 20, 30)),
    ],
)
def test_answers_lie_where_the_paint_lies(axes: str, shape: tuple[int, ...], paint: tuple[int, ...]) -> None:
    viewer = ViewerModel()
    n = len(shape)
    image = viewer.add_image(np.zeros(shape), scale=np.arange(1, n + 1), translate=np.arange(n), rotate=10)
    viewer.dims.set_current_step(0, 1)
    window = Window(view=snapshot(image, viewer.dims), axes=axes, channels="grey")
    found, geometry = paint_place(window.view, axes)
    assert found == paint
    painted = viewer.add_labels(np.zeros(paint, np.uint8), **geometry.as_kwargs())
    region = Region(3, 8, 10, 17)
    labels = np.arange(35).reshape(5, 7)
    data, place = window.placed(labels, region)
    answer = viewer.add_labels(data, **place.as_kwargs())
    assert data.ndim == len(paint) and data.size == 35
    index = [0] * len(paint)
    letters = axes[1:] if axes[0] == "C" else axes
    for letter, at in zip(axes, window.view.index, strict=True):
        if letter in letters:
            index[letters.index(letter)] = at
    index[letters.index("Y")], index[letters.index("X")] = 3 + 2, 10 + 4
    world = painted.data_to_world(index)
    assert answer.get_value(world, world=True) == labels[2, 4]


def test_an_answer_layer_is_replaced_and_never_an_input() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((20, 30)), name="cells")
    painted = viewer.add_labels(np.zeros((20, 30), np.uint8), name="paint")
    window = Window(view=snapshot(image, viewer.dims), axes="YX", channels="grey")
    answer = AnswerLayer(viewer, "instant")
    colors = {1: "#0072b2", 2: "#e69f00"}
    answer.show(np.ones((4, 5), np.int32), window, Region(0, 4, 0, 5), colors, image)
    first = answer.layer
    answer.show(np.full((6, 7), 2, np.int32), window, Region(2, 8, 3, 10), colors, image)
    assert answer.layer is first and first.data.shape == (6, 7) and np.array_equal(first.translate, (2, 3))
    assert [layer.name for layer in viewer.layers] == ["cells", "instant: cells", "paint"]
    assert first.get_color(1)[3] < 0.4 < first.get_color(2)[3], "background is faint"
    assert paintable_layers(viewer) == [painted]
    image.name = "renamed"
    window = Window(view=snapshot(image, viewer.dims), axes="YX", channels="grey")
    viewer.layers.remove(first)
    assert answer.layer is None, "somebody took it away"
    answer.show(np.ones((4, 5), np.int32), window, Region(0, 4, 0, 5), colors, image)
    assert answer.layer is not first and answer.layer.name == "instant: renamed"
    answer.remove()
    answer.remove()
    assert len(viewer.layers) == 2


def test_unknown_labels_are_seen_and_unpainted_ones_are_not() -> None:
    layer = ViewerModel().add_labels(np.zeros((3, 3), np.uint8), colormap=class_colormap({1: "#ff0000"}))
    assert np.allclose(layer.get_color(1), (1, 0, 0, 1)) and layer.get_color(7)[3] == 1
    assert layer.get_color(0) is None or layer.get_color(0)[3] == 0
