"""Results sit exactly where their source does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_cellenhance.widgets._geometry import geometry_of


def twisted(viewer: ViewerModel) -> Any:
    """Layer with everything a microscope and a registration can do to it."""
    return viewer.add_image(
        np.zeros((4, 30, 40)),
        scale=(2, -0.5, 0.5),
        translate=(1, 2, 3),
        rotate=np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]]),
        shear=[0.0, 0.0, 0.2],
        affine=np.array([[1, 0, 0, 5], [0, 1, 0.1, 6], [0, 0, 1, 7], [0, 0, 0, 1.0]]),
        units=("um", "um", "um"),
        axis_labels=("z", "y", "x"),
    )


def test_copied_geometry_gives_the_same_world_coordinates_units_and_labels() -> None:
    viewer = ViewerModel()
    source = twisted(viewer)
    copy = viewer.add_image(np.zeros((4, 30, 40)), **geometry_of(source).as_kwargs())
    for point in [(0, 0, 0), (3, 29, 39), (1, 2, 3)]:
        np.testing.assert_allclose(copy.data_to_world(point), source.data_to_world(point))
    assert copy.units == source.units
    assert copy.axis_labels == source.axis_labels


def test_a_crop_sits_on_the_pixels_it_was_cut_from() -> None:
    viewer = ViewerModel()
    source = twisted(viewer)
    crop = viewer.add_image(np.zeros((1, 10, 10)), **geometry_of(source).at((2, 5, 7)).as_kwargs())
    np.testing.assert_allclose(crop.data_to_world((0, 2, 3)), source.data_to_world((2, 7, 10)))


def test_without_drops_one_dimension_and_keeps_the_others() -> None:
    viewer = ViewerModel()
    source = twisted(viewer)
    flat = viewer.add_image(np.zeros((30, 40)), **geometry_of(source).without(0).as_kwargs())
    np.testing.assert_allclose(flat.data_to_world((7, 10)), source.data_to_world((0, 7, 10))[1:])
    assert flat.axis_labels == ("y", "x")


@pytest.mark.parametrize("shape", [(30, 40), (2, 3, 30, 40)])
def test_plain_layers_of_any_dimension(shape: tuple[int, ...]) -> None:
    viewer = ViewerModel()
    source = viewer.add_image(np.zeros(shape))
    geometry = geometry_of(source)
    assert geometry.ndim == len(shape)
    copy = viewer.add_image(np.zeros(shape), **geometry.as_kwargs())
    np.testing.assert_allclose(copy.affine.affine_matrix, source.affine.affine_matrix)
    np.testing.assert_allclose(copy.scale, source.scale)


def test_coarser_levels_have_larger_pixels() -> None:
    viewer = ViewerModel()
    geometry = geometry_of(viewer.add_image(np.zeros((8, 8)), scale=(0.5, 0.25)))
    np.testing.assert_allclose(geometry.coarser((2, 4)).scale, (1, 1))
