"""A plane seen as padded, without a copy of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_cellenhance.core.recipes.padded_plane import PaddedPlane
from napari_cellenhance.core.tiling import Region


@pytest.mark.parametrize("shape", [(20, 24), (21, 23), (1, 30), (3, 3)])
def test_windows_are_those_of_the_padded_plane(shape: tuple[int, int]) -> None:
    plane = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    padded = PaddedPlane.of(plane)
    whole = plane[padded.rows][:, padded.columns]
    height, width = padded.shape
    assert whole.shape == (height, width) and height % 4 == width % 4 == 0
    for window in (Region(0, height, 0, width), Region(4, height, 0, width - 4), Region(5, 9, 6, 11)):
        np.testing.assert_array_equal(padded.read(window), whole[window.slices])


def test_a_window_is_a_copy() -> None:
    """The network's scale is multiplied into it."""
    plane = np.ones((16, 16), np.float32)
    padded = PaddedPlane.of(plane)
    scaled = padded.source(torch.device("cpu"))(Region(0, 16, 4, 12))
    assert scaled.shape == (1, 1, 16, 8) and float(scaled.max()) == 255.0
    assert plane.max() == 1.0 and not np.shares_memory(padded.read(Region(0, 16, 0, 16)), plane)
