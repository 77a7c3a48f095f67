"""Results → layers: place, look, names, honesty."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_cellenhance.widgets._layers import Choices, snapshot
from napari_cellenhance.widgets._results import count_objects, preview_kwargs, result_layers, result_sentence
from napari_cellenhance.workflows.requests import EnhanceResult


def choices(**changes: Any) -> Choices:
    return replace(Choices(axes="YX", filter_id="nunet", strength=8.0), **changes)


def add_all(viewer: ViewerModel, tuples: list[tuple[Any, dict[str, Any], str]]) -> list[Any]:
    return [getattr(viewer, f"add_{kind}")(data, **kwargs) for data, kwargs, kind in tuples]


def result(image: np.ndarray[Any, Any], axes: str, **changes: Any) -> EnhanceResult:
    return EnhanceResult(image=image, axes=axes, provenance={"filter": "nunet"}, n_done=1, n_total=1, **changes)


def test_everything_of_the_source_is_kept() -> None:
    viewer = ViewerModel()
    source = viewer.add_image(
        np.zeros((20, 30)),
        name="cells",
        scale=(0.5, 0.25),
        translate=(1, 2),
        units=("um", "um"),
        axis_labels=("y", "x"),
        colormap="magenta",
        blending="additive",
    )
    view = snapshot(source, viewer.dims)
    (layer,) = add_all(viewer, result_layers(result(np.zeros((20, 30), np.float32), "YX"), view, choices()))
    assert layer.name == "cells enhanced"
    np.testing.assert_allclose(layer.scale, source.scale)
    np.testing.assert_allclose(layer.translate, source.translate)
    assert layer.units == source.units
    assert layer.axis_labels == ("y", "x")
    assert layer.colormap.name == "magenta"
    assert layer.blending == "additive"
    assert layer.metadata["cellenhance"]["filter"] == "nunet"
    assert layer.metadata["cellenhance"]["is_complete"] is True
    assert tuple(layer.contrast_limits) == (0, 1)


def test_labels_and_points_come_in_the_same_place() -> None:
    viewer = ViewerModel()
    source = viewer.add_image(np.zeros((20, 30)), scale=(2, 2), translate=(5, 5))
    view = snapshot(source, viewer.dims)
    made = result(
        np.zeros((20, 30), np.float32),
        "YX",
        labels=np.ones((20, 30), np.uint32),
        points=np.array([[3.0, 4.0]]),
        point_radii_px=np.array([6.0]),
    )
    layers = add_all(viewer, result_layers(made, view, choices()))
    assert [layer.name for layer in layers] == ["Image enhanced", "Image segmented", "Image blobs"]
    for layer in layers:
        np.testing.assert_allclose(layer.data_to_world((3, 4)), source.data_to_world((3, 4)))
    assert layers[2].size[0] == 12.0
    assert count_objects(made) == 1
    assert "2 objects. 1 blob." in result_sentence(made, ["Image enhanced"], 2)


def test_no_blobs_is_an_empty_layer() -> None:
    viewer = ViewerModel()
    view = snapshot(viewer.add_image(np.zeros((4, 20, 30))), viewer.dims)
    made = result(np.zeros((4, 20, 30), np.float32), "ZYX", points=np.zeros((0, 3)), point_radii_px=np.zeros(0))
    layers = add_all(viewer, result_layers(made, view, choices(axes="ZYX")))
    assert layers[1].ndim == 3
    assert len(layers[1].data) == 0


def test_slice_result_shows_at_its_slice() -> None:
    viewer = ViewerModel()
    source = viewer.add_image(np.zeros((7, 20, 30)), scale=(3, 1, 1))
    viewer.dims.set_current_step(0, 4)
    view = snapshot(source, viewer.dims)
    made = result(np.zeros((1, 20, 30), np.float32), "ZYX")
    (layer,) = add_all(viewer, result_layers(made, view, choices(axes="ZYX", scope="slice")))
    np.testing.assert_allclose(layer.data_to_world((0, 1, 2)), source.data_to_world((4, 1, 2)))


def test_window_result_shows_at_its_window() -> None:
    viewer = ViewerModel()
    source = viewer.add_image(np.zeros((200, 300)), scale=(0.5, 0.5))
    view = replace(snapshot(source, viewer.dims), window=((20, 120), (30, 80)))
    made = result(np.zeros((100, 50), np.float32), "YX")
    (layer,) = add_all(viewer, result_layers(made, view, choices(scope="view")))
    np.testing.assert_allclose(layer.data_to_world((0, 0)), source.data_to_world((20, 30)))


def test_a_leading_channel_axis_goes_and_a_middle_one_stays_with_length_one() -> None:
    viewer = ViewerModel()
    source = viewer.add_image(np.zeros((3, 20, 30)))
    view = snapshot(source, viewer.dims)
    made = result(np.zeros((20, 30), np.float32), "YX")
    (flat,) = add_all(viewer, result_layers(made, view, choices(axes="CYX", channels=(1,))))
    assert flat.ndim == 2

    viewer = ViewerModel()
    source = viewer.add_image(np.zeros((5, 3, 20, 30)))
    view = snapshot(source, viewer.dims)
    made = result(np.zeros((5, 20, 30), np.float32), "TYX", points=np.array([[2.0, 3.0, 4.0]]))
    image, points = add_all(viewer, result_layers(made, view, choices(axes="TCYX", channels=(2,))))
    assert image.data.shape == (5, 1, 20, 30)
    np.testing.assert_allclose(image.data_to_world((2, 0, 3, 4)), source.data_to_world((2, 2, 3, 4)))
    np.testing.assert_allclose(points.data_to_world(points.data[0]), source.data_to_world((2, 2, 3, 4)))


def test_colour_results_are_colour_layers() -> None:
    viewer = ViewerModel()
    view = snapshot(viewer.add_image(np.zeros((20, 30, 3), np.uint8), rgb=True), viewer.dims)
    (layer,) = add_all(
        viewer, result_layers(result(np.zeros((20, 30, 3), np.float32), "YXS"), view, choices(axes="YXS"))
    )
    assert layer.rgb
    (grey,) = add_all(
        viewer,
        result_layers(result(np.zeros((20, 30), np.float32), "YX"), view, choices(axes="YXS", channels="grey")),
    )
    assert not grey.rgb
    assert grey.ndim == 2


def test_strength_zero_keeps_the_contrast_of_the_source() -> None:
    viewer = ViewerModel()
    source = viewer.add_image(np.zeros((20, 30), np.uint8), contrast_limits=(3, 99))
    view = snapshot(source, viewer.dims)
    (layer,) = add_all(viewer, result_layers(result(np.zeros((20, 30), np.uint8), "YX"), view, choices(strength=0.0)))
    assert tuple(layer.contrast_limits) == (3, 99)


def test_a_cancelled_run_says_so_everywhere() -> None:
    viewer = ViewerModel()
    view = snapshot(viewer.add_image(np.zeros((20, 30)), name="cells"), viewer.dims)
    made = replace(result(np.zeros((20, 30), np.float32), "YX"), is_complete=False, n_done=3, n_total=9)
    (layer,) = add_all(viewer, result_layers(made, view, choices()))
    assert layer.name == "cells enhanced (partial)"
    assert layer.metadata["cellenhance"]["is_complete"] is False
    assert layer.metadata["cellenhance"]["n_tiles_done"] == 3
    sentence = result_sentence(made, [layer.name])
    assert "Cancelled after 3 of 9 tiles" in sentence


def test_every_report_says_that_intensities_are_not_quantitative() -> None:
    sentence = result_sentence(result(np.zeros((2, 2), np.float32), "YX", warnings=("A flat plane.",)), ["a"])
    assert "not quantitative" in sentence
    assert "A flat plane." in sentence


@pytest.mark.parametrize("level", [0, 1])
def test_preview_sits_on_its_window_at_every_level(level: int) -> None:
    viewer = ViewerModel()
    source = viewer.add_image(
        [np.zeros((4, 400, 400)), np.zeros((4, 200, 200))], multiscale=True, scale=(3, 0.5, 0.5), translate=(1, 1, 1)
    )
    viewer.dims.set_current_step(0, 2)
    view = snapshot(source, viewer.dims)
    kwargs = preview_kwargs(view, "ZYX", (10, 20), level)
    layer = viewer.add_image(np.zeros((1, 50, 60)), **kwargs)
    factor = 2**level
    np.testing.assert_allclose(
        layer.data_to_world((0, 5, 5)), source.data_to_world((2, (10 + 5) * factor, (20 + 5) * factor))
    )
