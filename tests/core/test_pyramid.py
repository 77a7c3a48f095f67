"""Levels of a pyramid."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.pyramid import halve, level_shapes


def test_a_small_image_has_one_level() -> None:
    assert level_shapes((5, 30, 20), 32) == ((5, 30, 20),)


def test_sides_halve_and_round_up_until_small() -> None:
    assert level_shapes((1, 65), 16) == ((1, 65), (1, 33), (1, 17), (1, 9))
    with pytest.raises(ParameterError, match="smallest level"):
        level_shapes((4, 4), 0)


def test_halves_in_blocks_are_halves_of_the_whole(rng: np.random.Generator) -> None:
    image = rng.normal(size=(33, 21)).astype(np.float32)
    whole = halve(image)
    assert whole.shape == (17, 11)
    assert whole.dtype == np.float32
    np.testing.assert_array_equal(np.vstack([halve(image[:16]), halve(image[16:])]), whole)
    assert whole[0, 0] == pytest.approx(image[:2, :2].mean())
    assert whole[-1, -1] == image[-1, -1]


def test_integers_are_rounded_and_nan_stays() -> None:
    np.testing.assert_array_equal(halve(np.array([[65535, 65534], [65535, 65535]], np.uint16)), [[65535]])
    assert np.isnan(halve(np.array([[np.nan, 1.0], [1.0, 1.0]], np.float32))).all()
