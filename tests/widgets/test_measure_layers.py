"""Layers → what is measured: geometry, axes, planes, annotated points; results → layers."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels, Points

from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.widgets._measure_layers import (
    Chosen,
    blob_layer,
    freeze,
    freeze_points,
    misfit,
    object_layer,
    outcome_layer,
)
from napari_cellenhance.workflows.detect import Detection
from napari_cellenhance.workflows.segment import Segmentation

SHAPE = (40, 50)


def frozen(viewer: ViewerModel, layer: Any) -> Any:
    viewer.add_layer(layer)
    return freeze(layer, viewer.dims)


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


def image(shape: tuple[int, ...] = SHAPE, **more: Any) -> Image:
    return Image(np.zeros(shape, np.float32), **more)


def test_layers_on_each_other_fit(viewer: ViewerModel) -> None:
    more: dict[str, Any] = {"scale": (0.3, 0.3), "translate": (5, 7), "rotate": 20}
    first, second = frozen(viewer, image(**more)), frozen(viewer, image(**more))
    assert misfit(first, second) == ""


def test_a_labels_plane_lies_on_a_stack(viewer: ViewerModel) -> None:
    stack = frozen(viewer, image((3, *SHAPE), scale=(4.0, 0.3, 0.3)))
    mask = frozen(viewer, Labels(np.zeros(SHAPE, int), scale=(0.3, 0.3)))
    assert misfit(stack, mask) == ""


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"shape": (40, 49)}, "is 40 × 49 px"),
        ({"scale": (1.0, 0.5)}, "pixels of 1 × 0.5"),
        ({"translate": (0.0, 3.0)}, "is shifted by 0 × 3"),
        ({"rotate": 90}, "rotation"),
    ],
)
def test_layers_beside_each_other_are_told_apart(viewer: ViewerModel, other: dict[str, Any], words: str) -> None:
    first, second = frozen(viewer, image(name="raw")), frozen(viewer, image(name="other", **other))
    sentence = misfit(first, second)
    assert words in sentence
    assert "“other”" in sentence and "“raw”" in sentence
    assert Chosen(raw=first, enhanced=(second,)).problem() == sentence
    assert Chosen(raw=first, mask=second).problem() == sentence


def test_axes_of_the_raw_image_hold_for_layers_of_its_shape(viewer: ViewerModel) -> None:
    raw = frozen(viewer, image((3, *SHAPE), axis_labels=("time", "y", "x")))
    labels = frozen(viewer, Labels(np.zeros((3, *SHAPE), int)))
    assert raw.axes() == "TYX"
    assert labels.axes(raw) == "TYX"
    colour = frozen(viewer, Image(np.zeros((*SHAPE, 3), np.uint8), rgb=True))
    assert colour.axes() == "YXS"
    assert frozen(viewer, image()).axes(colour) == "YX"


def test_only_the_plane_in_view(viewer: ViewerModel) -> None:
    raw = image((5, *SHAPE), axis_labels=("z", "y", "x"), scale=(2.0, 1.0, 1.0))
    viewer.add_layer(raw)
    viewer.dims.set_current_step(0, 3)
    here = freeze(raw, viewer.dims)
    assert Chosen(raw=here, only_plane=True).measured(here).at == (0, 0, 3)
    assert Chosen(raw=here).measured(here).at is None


def test_only_the_raw_image_is_inverted(viewer: ViewerModel) -> None:
    raw, after = frozen(viewer, image()), frozen(viewer, image())
    chosen = Chosen(raw=raw, enhanced=(after,), is_dark=True)
    assert [each.objects_are_dark for each in chosen.measured_images] == [True, False]


def test_labels_are_copied_and_images_are_not(viewer: ViewerModel) -> None:
    painted = Labels(np.zeros(SHAPE, int))
    raw = image()
    labels, pixels = frozen(viewer, painted), frozen(viewer, raw)
    painted.data[0, 0] = 7
    assert labels.data[0, 0] == 0
    assert pixels.data is raw.data


def test_lazy_and_multiscale_layers(viewer: ViewerModel) -> None:
    lazy = frozen(viewer, Image(da.zeros((6, 64, 64), chunks=(1, 64, 64))))
    assert isinstance(lazy.data, da.Array)
    pyramid = frozen(viewer, Image([np.zeros((64, 64)), np.zeros((32, 32))], multiscale=True))
    assert pyramid.shape == (64, 64)


def test_a_layer_of_unknown_shape_is_refused(viewer: ViewerModel) -> None:
    lazy = da.ones((10, 10), chunks=(5, 10))
    unknown = Image(np.zeros((10, 10)), name="filtered")
    viewer.add_layer(unknown)
    unknown._data = lazy[lazy[:, 0] > 0]  # what napari accepts at add time with a flood of warnings
    with pytest.raises(ImageError, match="compute_chunk_sizes"):
        freeze(unknown, viewer.dims)


# --- annotated points -----------------------------------------------------------------------


def test_points_are_carried_through_the_world(viewer: ViewerModel) -> None:
    raw = frozen(viewer, image(scale=(0.5, 0.5), translate=(10.0, 20.0)))
    points = Points(np.array([[12.0, 25.0]]))  # in the world
    assert Chosen(raw=raw).true_points(freeze_points(points)).points.tolist() == [[4.0, 10.0]]
    same = Points(np.array([[4.0, 10.0]]), scale=(0.5, 0.5), translate=(10.0, 20.0))
    np.testing.assert_allclose(Chosen(raw=raw).true_points(freeze_points(same)).points, [[4.0, 10.0]])


def test_rotated_layers_agree_with_napari(viewer: ViewerModel) -> None:
    layer = image(scale=(0.5, 0.7), translate=(3.0, -2.0), rotate=30)
    raw = frozen(viewer, layer)
    world = np.array([[7.0, 9.0], [1.0, 2.0]])
    found = Chosen(raw=raw).true_points(freeze_points(Points(world))).points
    np.testing.assert_allclose(found, [layer.world_to_data(point) for point in world], atol=1e-9)


def test_plane_points_on_a_stack_need_the_plane_in_view(viewer: ViewerModel) -> None:
    layer = image((5, *SHAPE), scale=(2.0, 1.0, 1.0), translate=(1.0, 0.0, 0.0))
    viewer.add_layer(layer)
    viewer.dims.set_current_step(0, 2)
    raw = freeze(layer, viewer.dims)
    points = freeze_points(Points(np.array([[4.0, 5.0]]), name="marks"))
    with pytest.raises(ImageError, match="“marks” does not say on which plane"):
        Chosen(raw=raw).true_points(points)
    assert Chosen(raw=raw, only_plane=True).true_points(points).points.tolist() == [[raw.index[0], 4.0, 5.0]]


def test_points_with_more_dimensions_lose_the_first(viewer: ViewerModel) -> None:
    raw = frozen(viewer, image())
    points = freeze_points(Points(np.array([[9.0, 4.0, 5.0]])))
    assert Chosen(raw=raw).true_points(points).points.tolist() == [[4.0, 5.0]]


def test_no_points_at_all(viewer: ViewerModel) -> None:
    raw = frozen(viewer, image())
    assert Chosen(raw=raw).true_points(freeze_points(Points(ndim=2))).points.shape == (0, 2)


# --- results --------------------------------------------------------------------------------


def detection(n: int = 2) -> Detection:
    return Detection(
        layer="raw", threshold=0.1, points=np.arange(2.0 * n).reshape(n, 2), radii_px=np.full(n, 4.0),
        responses=np.full(n, 0.5), is_true=np.arange(n) == 0, missed=np.full((min(n, 1), 2), 30.0),
    )  # fmt: skip


def test_blobs_lie_where_their_image_lies(viewer: ViewerModel) -> None:
    source = frozen(viewer, image(scale=(0.5, 0.5), translate=(10.0, 20.0), units=("um", "um")))
    data, kwargs, kind = blob_layer(detection(), source, {"measured": "x"})
    layer = getattr(viewer, f"add_{kind}")(data, **kwargs)
    assert layer.scale.tolist() == [0.5, 0.5] and layer.translate.tolist() == [10.0, 20.0]
    assert layer.size.tolist() == [8.0, 8.0]
    assert set(layer.features.columns) == {"response", "radius_px", "is_true"}
    assert layer.metadata["cellenhance"] == {"measured": "x"}


def test_outcomes_differ_in_colour_and_symbol(viewer: ViewerModel) -> None:
    source = frozen(viewer, image())
    data, kwargs, kind = outcome_layer(detection(), source, {}, 5.0)
    layer = getattr(viewer, f"add_{kind}")(data, **kwargs)
    assert list(layer.features["outcome"]) == ["true", "false", "missed"]
    assert len({str(symbol) for symbol in layer.symbol}) == 3
    assert len({tuple(colour) for colour in layer.border_color}) == 3


@pytest.mark.parametrize("make", [lambda f, s: blob_layer(f, s, {}), lambda f, s: outcome_layer(f, s, {}, 5.0)])
def test_no_blob_is_an_empty_layer(viewer: ViewerModel, make: Any) -> None:
    data, kwargs, kind = make(detection(0), frozen(viewer, image()))
    assert len(getattr(viewer, f"add_{kind}")(data, **kwargs).data) == 0


def test_objects_lie_where_their_image_lies(viewer: ViewerModel) -> None:
    source = frozen(viewer, image(scale=(0.5, 0.5)))
    found = Segmentation(layer="raw", labels=np.ones(SHAPE, np.uint32), n_objects=1)
    data, kwargs, kind = object_layer(found, source, {})
    layer = getattr(viewer, f"add_{kind}")(data, **kwargs)
    assert kind == "labels" and layer.scale.tolist() == [0.5, 0.5]
