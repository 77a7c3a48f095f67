"""Layer and viewer → request, without pixels and without a window."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel

from napari_cellenhance.core.errors import AxesError, ImageError, ParameterError
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.widgets._layers import (
    Choices,
    LayerView,
    axes_of,
    build_request,
    channel_choices,
    pause_reason,
    pixel_sizes,
    snapshot,
    view_region,
)
from napari_cellenhance.widgets._settings import PluginSettings

SETTINGS = PluginSettings(memory_limit_mb=500, cache_folder="/models")


def choices(**changes: Any) -> Choices:
    base = Choices(axes="YX", filter_id="gaussian", strength=2.0)
    return replace(base, **changes)


def view_of(data: Any, **kwargs: Any) -> tuple[LayerView, ViewerModel]:
    viewer = ViewerModel()
    layer = viewer.add_image(data, **kwargs)
    return snapshot(layer, viewer.dims), viewer


def test_axes_come_from_the_labels_of_the_layer() -> None:
    view, _ = view_of(np.zeros((3, 4, 20, 30)), axis_labels=("time", "channel", "y", "x"))
    assert axes_of(view)[0] == "TCYX"


def test_axes_of_a_colour_image_end_in_samples() -> None:
    view, _ = view_of(np.zeros((20, 30, 3), np.uint8), rgb=True)
    assert view.ndim == 2
    assert axes_of(view)[0] == "YXS"


def test_unlabelled_stack_gets_a_guess_with_a_sentence() -> None:
    view, _ = view_of(np.zeros((7, 20, 30)))
    axes, note = axes_of(view)
    assert axes[-2:] == "YX"
    assert len(axes) == 3
    assert note


def test_whole_layer_is_not_sliced_and_not_copied() -> None:
    data = np.zeros((7, 20, 30))
    view, _ = view_of(data)
    request = build_request(view, choices(axes="ZYX"), SETTINGS)
    assert request.image is data
    assert request.region is None
    assert request.memory_limit_mb == 500
    assert request.cache_folder == "/models"


def test_current_slice_keeps_its_dimension() -> None:
    data = np.arange(7 * 20 * 30.0).reshape(7, 20, 30)
    viewer = ViewerModel()
    layer = viewer.add_image(data, scale=(3, 1, 1), translate=(10, 0, 0))
    viewer.dims.set_point(0, 10 + 3 * 5)
    view = snapshot(layer, viewer.dims)
    assert view.index[0] == 5
    request = build_request(view, choices(axes="ZYX", scope="slice"), SETTINGS)
    np.testing.assert_array_equal(request.image, data[5:6])


def test_slice_takes_the_channel_on_screen_only_if_channels_are_enhanced_one_by_one() -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((3, 20, 30)))
    viewer.dims.set_current_step(0, 2)
    view = snapshot(layer, viewer.dims)
    one = build_request(view, choices(axes="CYX", scope="slice"), SETTINGS)
    assert one.image.shape == (1, 20, 30)
    grey = build_request(view, choices(axes="CYX", scope="slice", channels="grey"), SETTINGS)
    assert grey.image.shape == (3, 20, 30)


def test_lazy_layers_stay_lazy() -> None:
    touched: list[int] = []

    def touch(block: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        touched.append(1)
        return block

    lazy = da.zeros((4, 64, 64), chunks=(1, 64, 64)).map_blocks(touch, meta=np.zeros((0, 0, 0)))
    viewer = ViewerModel()
    layer = viewer.add_image(lazy, contrast_limits=(0, 1))
    touched.clear()
    view = snapshot(layer, viewer.dims)
    for scope in ("layer", "slice", "view"):
        assert isinstance(build_request(view, choices(axes="ZYX", scope=scope), SETTINGS).image, da.Array)
    assert not touched


def test_unknown_dask_shape_is_refused_with_advice() -> None:
    class Layer:
        name = "odd"
        multiscale = False
        data = type("Lazy", (), {"shape": (float("nan"), 30)})()

    with pytest.raises(ImageError, match="compute_chunk_sizes"):
        snapshot(Layer(), None)


def test_view_scope_asks_for_the_visible_window() -> None:
    view, _ = view_of(np.zeros((200, 300)))
    view = replace(view, window=((20, 120), (-5, 80)))
    request = build_request(view, choices(scope="view"), SETTINGS)
    assert request.region == Region(20, 120, 0, 80)
    assert request.image.shape == (200, 300)


def test_window_of_a_pyramid_level_is_translated_to_full_resolution() -> None:
    viewer = ViewerModel()
    layer = viewer.add_image([np.zeros((400, 400)), np.zeros((200, 200))], multiscale=True)
    view = replace(snapshot(layer, viewer.dims), level=1, window=((10, 60), (20, 70)))
    assert view.shape == (400, 400)
    assert view_region(view, "YX") == Region(20, 120, 40, 140)
    assert view_region(view, "YX", level=1) == Region(10, 60, 20, 70)


def test_three_dimensional_view_pauses() -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((7, 20, 30)))
    viewer.dims.ndisplay = 3
    reason = pause_reason(snapshot(layer, viewer.dims), "ZYX")
    assert reason is not None
    assert "3-D" in reason


def test_another_plane_than_y_x_pauses() -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((7, 20, 30)))
    viewer.dims.order = (1, 0, 2)
    reason = pause_reason(snapshot(layer, viewer.dims), "ZYX")
    assert reason is not None
    assert "Y–X" in reason


@pytest.mark.parametrize("window", [((999, 1000), (1999, 2000)), ((-50, 0), (0, 30)), ((200, 260), (0, 30))])
def test_off_screen_pauses(window: tuple[tuple[int, int], tuple[int, int]]) -> None:
    view, _ = view_of(np.zeros((200, 300)))
    view = replace(view, window=window)
    reason = pause_reason(view, "YX")
    assert reason is not None
    assert "off the screen" in reason
    with pytest.raises(ParameterError, match="off the screen"):
        build_request(view, choices(scope="view"), SETTINGS)


def test_tiny_images_are_not_off_screen() -> None:
    view, _ = view_of(np.zeros((1, 3)))
    assert pause_reason(view, "YX") is None


def test_axes_that_do_not_fit_are_refused() -> None:
    view, _ = view_of(np.zeros((20, 30)))
    with pytest.raises(AxesError):
        build_request(view, choices(axes="ZYX"), SETTINGS)


def test_layer_with_fewer_dimensions_than_the_viewer() -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((200, 300)))
    viewer.add_image(np.zeros((5, 200, 300)))
    view = snapshot(layer, viewer.dims)
    assert view.displayed == (0, 1)
    assert pause_reason(view, "YX") is None


def test_channel_choices() -> None:
    assert channel_choices("YX", (5, 6)) == []
    assert channel_choices("CYX", (1, 5, 6)) == []
    assert channel_choices("YXS", (5, 6, 4))[0] == ("Grey (luminance)", "grey")
    assert [value for _, value in channel_choices("YXS", (5, 6, 4))] == ["grey", "all", (0,), (1,), (2,)]
    assert [value for _, value in channel_choices("CYX", (2, 5, 6))] == ["all", "grey", (0,), (1,)]
    assert channel_choices("ZYX", (5, 6)) == []


def test_pixel_sizes_in_micrometres_and_seconds() -> None:
    sizes = pixel_sizes([30.0, -500.0, 0.25, 0.25], ["second", "nanometer", "micrometer", "pixel"], "TZYX")
    assert sizes == {"T": 30.0, "Z": 0.5, "Y": 0.25}
