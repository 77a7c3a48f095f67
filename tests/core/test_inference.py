"""Split, encode, decode, merge: with a filter that is easy to predict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_cellenhance.core.inference import Cancelled, Rendering, enhance_plane, render
from napari_cellenhance.core.recipes.protocol import Enhancer, FilterInfo, StrengthInfo
from napari_cellenhance.core.tiling import Region


class Doubling:
    """Returns ``strength · x``: no context, no statistics."""

    info = FilterInfo(
        id="doubling",
        title="",
        group="Classical",
        summary="",
        strength=StrengthInfo(label="", help="", default=1, maximum=10),
    )

    def __init__(self) -> None:
        self.regions: list[Region] = []

    def calibrate(self, planes: Sequence[NDArray[np.float32]], checkpoint: Callable[[], None]) -> None:
        return None

    def encode(self, plane: NDArray[np.float32], region: Region, calibration: Any) -> NDArray[np.float32]:
        self.regions.append(region)
        return plane[region.slices]

    def decode(self, features: NDArray[np.float32], strength: float) -> NDArray[np.float32]:
        return features * np.float32(strength)

    def calibrate_and_encode(self, plane: NDArray[np.float32], checkpoint: Callable[[], None]) -> None:
        return None


def plane(shape: tuple[int, int] = (50, 70)) -> NDArray[np.float32]:
    return np.random.default_rng(0).random(shape, dtype=np.float32) / 2


def test_double_is_an_enhancer() -> None:
    assert isinstance(Doubling(), Enhancer)


@pytest.mark.parametrize("tile_px", [1, 7, 16, 50, 64, 1000])
def test_tiles_put_together_are_the_plane(tile_px: int) -> None:
    image = plane((20, 33))
    result = enhance_plane(Doubling(), image, None, Rendering(2.0), tile_px=tile_px)
    np.testing.assert_array_equal(result.image, 2 * image)


def test_region_is_the_crop_of_the_whole() -> None:
    image, window = plane(), Region(11, 40, 5, 66)
    filter_ = Doubling()
    result = enhance_plane(filter_, image, None, Rendering(2.0), region=window, tile_px=16)
    np.testing.assert_array_equal(result.image, 2 * image[window.slices])
    assert result.n_tiles == len(filter_.regions) == 2 * 4
    assert min(r.y0 for r in filter_.regions) == 11


def test_every_tile_is_announced_and_the_output_is_filled_in_place() -> None:
    image, out, done = plane((32, 32)), np.zeros((32, 32), np.float32), []
    result = enhance_plane(Doubling(), image, None, Rendering(1.0), tile_px=16, out=out, on_tile=done.append)
    assert result.image is out
    assert len(done) == result.n_tiles == 4


def test_cancel_keeps_the_finished_tiles() -> None:
    image, out = plane((32, 32)), np.zeros((32, 32), np.float32)
    left = iter([None, None])

    def checkpoint() -> None:
        if next(left, "stop") == "stop":
            raise Cancelled

    with pytest.raises(Cancelled):
        enhance_plane(Doubling(), image, None, Rendering(1.0), tile_px=16, out=out, checkpoint=checkpoint)
    np.testing.assert_array_equal(out[:16], image[:16])
    assert not out[16:].any()


def test_weak_strengths_fade_to_the_clipped_plane() -> None:
    base = np.array([[-0.5, 0.25, 2.0]], np.float32)
    features = np.array([[0.1, 0.2, 0.1]], np.float32)
    at_four = render(Doubling(), features, base, Rendering(4.0, identity_below=4.0))
    np.testing.assert_allclose(at_four, [[0.4, 0.8, 0.4]], rtol=1e-6)
    half = render(Doubling(), features, base, Rendering(2.0, identity_below=4.0))
    np.testing.assert_allclose(half, np.add(at_four, [[0.0, 0.25, 1.0]]) / 2, rtol=1e-6)
    nearly_none = render(Doubling(), features, base, Rendering(1e-6, identity_below=4.0))
    np.testing.assert_allclose(nearly_none, [[0.0, 0.25, 1.0]], atol=1e-5)


def test_output_is_float32_within_zero_and_one() -> None:
    found = render(Doubling(), np.array([[-1.0, 0.5, 9.0]]), np.zeros((1, 3), np.float32), Rendering(1.0))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[0.0, 0.5, 1.0]])


def test_input_is_not_written_to() -> None:
    image = plane()
    image.setflags(write=False)
    enhance_plane(Doubling(), image, None, Rendering(0.5, identity_below=1.0), tile_px=16)
