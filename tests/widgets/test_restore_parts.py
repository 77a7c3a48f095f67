"""Small parts of the dock “Restore like these”: sentences, curves, layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_cellenhance.widgets._layers import METADATA_KEY, snapshot
from napari_cellenhance.widgets._restore_doubt import DoubtSlider
from napari_cellenhance.widgets._restore_levels import LevelsForm
from napari_cellenhance.widgets._restore_look import PictureGrid
from napari_cellenhance.widgets._restore_now import request_for
from napari_cellenhance.widgets._restore_results import OUTPUTS, restored_layers, restored_sentence
from napari_cellenhance.widgets._restore_view import care_curves, care_meaning
from napari_cellenhance.widgets._settings import PluginSettings
from napari_cellenhance.widgets._training_view import NOT_YET
from napari_cellenhance.workflows.restore import RestoreResult
from napari_cellenhance.workflows.restore_layers import DEFAULT_SHARE, RestoredLayer

ROWS = [
    {"step": 1.0, "total": 0.2, "mae": 0.1, "learning_rate": 1e-4},
    {"step": 2.0, "total": -0.5, "mae": 0.05, "learning_rate": 4e-4, "val_total": -0.4, "val_mae": 0.06,
     "val_mae_of_input": 0.12},
]  # fmt: skip


def restored(axes: str, shape: tuple[int, ...], *, is_sure: bool = False, warnings: tuple[str, ...] = ()) -> Any:
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    result = RestoreResult(
        image=image, uncertainty=None if is_sure else image / 2, axes=axes, provenance={"step": "restore"},
        warnings=warnings,
    )  # fmt: skip
    one = RestoredLayer(
        result=result, limits=(0.1, 0.9), contrast=np.ones((1,) * len(shape), np.float32), scale_limit=0.4,
        residual=image - 0.5, residual_limit=0.45,
    )  # fmt: skip
    return replace(one, first_doubt=one.doubt(0.2))


def test_curves_show_error_loss_and_learning_rate() -> None:
    names = [curve.name for curve in care_curves(ROWS, "mae")]
    assert names == ["Each update", "Smoothed", "On pixels kept aside", "Poor images themselves"]
    assert list(care_curves(ROWS, "mae")[3].y) == [0.12] and list(care_curves(ROWS, "mae")[2].y) == [0.06]
    assert [list(curve.y) for curve in care_curves(ROWS, "total")][2] == [-0.4]
    (rate,) = care_curves(ROWS, "learning_rate")
    assert list(rate.y) == [1e-4, 4e-4]
    assert all(care_curves([], shown) == [] for shown in ("mae", "total", "learning_rate"))
    assert care_meaning(ROWS, 2).startswith("Error 0.06 at the best check (update 2): 50 % of that of the poor images")
    assert care_meaning(ROWS, 1) == NOT_YET and care_meaning([{**ROWS[1], "val_mae": np.nan}], 2) == NOT_YET


@pytest.mark.parametrize(
    ("shape", "labels", "axes", "channels", "axes_out", "expected"),
    [
        ((3, 8, 9), ("z", "y", "x"), "ZYX", "all", "ZYX", (3, 8, 9)),
        ((2, 8, 9), ("c", "y", "x"), "CYX", (1,), "YX", (8, 9)),
        ((4, 2, 8, 9), ("t", "c", "y", "x"), "TCYX", (1,), "TYX", (4, 1, 8, 9)),
    ],
)
def test_layers_lie_over_their_source(
    shape: tuple[int, ...], labels: tuple[str, ...], axes: str, channels: Any, axes_out: str, expected: tuple[int, ...]
) -> None:
    viewer = ViewerModel()
    scale = tuple(0.5 + i for i in range(len(shape)))
    source = viewer.add_image(np.zeros(shape, np.uint8), name="cells", scale=scale, axis_labels=labels)
    inner = tuple(n for letter, n in zip(axes, shape, strict=True) if letter in axes_out)
    found = restored(axes_out, inner)
    layers = restored_layers(found, snapshot(source, viewer.dims), axes, channels, OUTPUTS)
    assert [kwargs["name"] for _, kwargs, _ in layers] == [
        "cells restored", "cells residual", "cells uncertainty", "cells do not trust",
    ]  # fmt: skip
    for data, kwargs, kind in layers:
        layer = getattr(viewer, f"add_{kind}")(data, **kwargs)
        assert layer.data.shape == expected and np.allclose(layer.scale, scale[-layer.ndim :])
        assert layer.metadata[METADATA_KEY]["step"] == "restore"
    uncertainty, labels_layer = viewer.layers["cells uncertainty"], viewer.layers["cells do not trust"]
    assert uncertainty.blending == "additive" and tuple(uncertainty.contrast_limits) == (0.0, 0.4)
    record = labels_layer.metadata[METADATA_KEY]
    assert record["share_of_contrast"] == 0.2 and record["share_of_pixels"] == pytest.approx(labels_layer.data.mean())


def test_a_model_without_uncertainty_makes_no_layers_of_it_and_says_so() -> None:
    viewer = ViewerModel()
    source = viewer.add_image(np.zeros((8, 9)), name="cells")
    found = restored("YX", (8, 9), is_sure=True, warnings=("Careful.",))
    layers = restored_layers(found, snapshot(source, viewer.dims), "YX", "all", ("restored", "uncertainty", "doubt"))
    assert [kwargs["name"] for _, kwargs, _ in layers] == ["cells restored"]
    said = restored_sentence([found, found], ["a", "b"], 3)
    assert said.startswith("Cancelled after 2 of 3 images. New layers: “a”, “b”.") and said.count("Careful.") == 1
    assert "no uncertainty" in said and "check fine detail" in said
    assert restored_sentence([], [], 1) == "Cancelled; nothing was added."


def test_a_request_knows_pixel_size_and_the_earlier_step() -> None:
    viewer = ViewerModel()
    record = {"step": "denoise"}
    layer = viewer.add_image(
        np.zeros((8, 9)), name="cells", scale=(0.5, 0.25), units=("um", "um"), metadata={METADATA_KEY: record}
    )
    request = request_for(snapshot(layer, viewer.dims), "YX", "all", "mine", PluginSettings(device="cpu"), 2)
    assert request.pixel_size_um == {"Y": 0.5, "X": 0.25} and request.earlier == record and request.repeats == 2


def test_labels_follow_the_slider_and_removed_ones_are_forgotten(qtbot: Any) -> None:
    viewer = ViewerModel()
    found = restored("YX", (8, 9))
    assert found.first_doubt is not None and found.result.uncertainty is not None
    slider = DoubtSlider(viewer)
    qtbot.addWidget(slider)
    kept, gone = (viewer.add_labels(found.first_doubt.labels, metadata={METADATA_KEY: {}}) for _ in range(2))
    error = found.result.uncertainty * np.log(2)
    for layer in (kept, gone):
        slider.follow(layer, found)
    qtbot.waitUntil(lambda: np.array_equal(kept.data == 1, error > 0.2), timeout=10000)
    viewer.layers.remove(gone)
    slider.slider.setValue(250)
    qtbot.waitUntil(lambda: np.array_equal(kept.data == 1, error > 0.25), timeout=10000)
    assert 0 < kept.data.mean() < 1 and np.array_equal(gone.data == 1, error > 0.2)
    assert kept.metadata[METADATA_KEY]["share_of_contrast"] == 0.25 and slider.value.text() == "25.0 %"
    assert f"{100 * kept.data.mean():.1f} % of the pixels" in slider.note.text()
    slider.close_down()


def test_doubt_begins_where_it_tells_most_until_somebody_moves_the_slider(qtbot: Any) -> None:
    viewer = ViewerModel()
    slider = DoubtSlider(viewer)
    qtbot.addWidget(slider)
    assert slider.chosen_share is None and slider.share == DEFAULT_SHARE
    unsure = replace(restored("YX", (8, 9)), usually_doubted=0.98)
    sure = replace(unsure, first_doubt=unsure.doubt(DEFAULT_SHARE), usually_doubted=0.04)
    for found in (unsure, sure):  # the larger of both
        assert found.first_doubt is not None
        slider.follow(viewer.add_labels(found.first_doubt.labels, metadata={METADATA_KEY: {}}), found)
        assert slider.share == 0.2 and slider.chosen_share is None
    qtbot.waitUntil(lambda: "At the usual 3% it would be 98% of them" in slider.note.text(), timeout=10000)
    viewer.layers.remove(viewer.layers[0])
    slider.follow(viewer.add_labels(sure.first_doubt.labels, metadata={METADATA_KEY: {}}), sure)
    assert slider.share == DEFAULT_SHARE
    qtbot.waitUntil(lambda: "of the pixels" in slider.note.text(), timeout=10000)
    assert "usual" not in slider.note.text()
    slider.slider.setValue(70)
    assert slider.chosen_share == 0.07
    slider.follow(viewer.add_labels(unsure.first_doubt.labels, metadata={METADATA_KEY: {}}), unsure)
    assert slider.share == 0.07, "what was set stays"
    slider.close_down()


def test_intervals_stay_in_order(qtbot: Any) -> None:
    form = LevelsForm()
    qtbot.addWidget(form)
    low, high = form.boxes["sigma"]
    high.setValue(0.01)
    assert form.levels()[0].sigma == (0.01, 0.01) and low.value() == pytest.approx(0.01)
    form.level.setCurrentIndex(1)
    assert low.value() == pytest.approx(0.04), "each level has its own"
    low.setValue(0.5)
    assert form.levels()[1].sigma == (0.5, 0.5) and form.levels()[0].sigma == (0.01, 0.01)


def test_pictures_lie_in_rows(qtbot: Any) -> None:
    grid = PictureGrid()
    qtbot.addWidget(grid)
    assert grid.heightForWidth(300) == 0 and grid.sizeHint().height() == 0
    picture = np.linspace(0, 1, 200, dtype=np.float32).reshape(10, 20)
    grid.show_rows([[("Clean", (), picture)], [("Mild", ("9 photons",), picture), ("Strong", ("3 photons",), picture)]])
    line = grid.fontMetrics().height()
    assert grid.heightForWidth(312) == 2 * 50 + 3 * line + 2 * 6, "two rows half as high as wide, with their lines"
    assert grid.accessibleDescription() == "Clean; Mild 9 photons; Strong 3 photons"
