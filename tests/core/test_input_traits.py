"""What kind of image it is, whether it is like others, whether it is empty or cut off."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_cellenhance.core.input_traits import (
    TRAITS,
    _illumination,
    _smoothing,
    is_empty,
    outside,
    ranges_of,
    ranges_over,
    saturated_share,
    traits_of,
)


def _cells(radius: float = 8.0, noise: float = 4.0, seed: int = 0, side: int = 160) -> NDArray[np.uint16]:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    field = np.zeros((side, side))
    for cy, cx in rng.uniform(0, side, (12, 2)):
        field = np.maximum(field, (np.hypot(y - cy, x - cx) < radius) * rng.uniform(0.6, 1))
    return (100 + 200 * gaussian_filter(field, 1) + rng.normal(0, noise, field.shape)).clip(0).astype(np.uint16)


RANGES = ranges_of([traits_of(_cells(seed=n)) for n in range(40)])


def test_ranges_hold_every_trait_and_further_images_lie_within() -> None:
    assert set(RANGES) == set(TRAITS)
    assert sum(bool(outside(traits_of(_cells(seed=n)), RANGES)) for n in range(100, 120)) <= 3


@pytest.mark.parametrize(
    ("image", "trait", "is_above"),
    [
        (_cells(radius=30), "size_px", True),
        (_cells(noise=60), "noise", True),
        (_cells().max() - _cells(), "skew", False),
        (_cells() // 40, "levels", False),
        (gaussian_filter(_cells().astype(np.float32), 3), "slope", False),
    ],
)
def test_an_unlike_image_is_told_by_what_is_unlike(image: NDArray[np.generic], trait: str, is_above: bool) -> None:
    found = {one.trait: one.is_above for one in outside(traits_of(image), RANGES)}
    assert found.get(trait) is is_above, found


def test_size_follows_the_objects_and_noise_the_noise() -> None:
    small, large = traits_of(_cells(radius=6)), traits_of(_cells(radius=12))
    assert large["size_px"] / small["size_px"] == pytest.approx(2, rel=0.35)
    assert traits_of(_cells(noise=10))["noise"] == pytest.approx(10 / 200, rel=0.25)
    noisy = traits_of(_cells(noise=40))  # noise is taken off before the size is told
    assert noisy["size_px"] == pytest.approx(traits_of(_cells())["size_px"], rel=0.35)


def test_more_grey_levels_and_unknown_traits_are_nothing_strange() -> None:
    fine = traits_of(_cells().astype(np.uint32) * 50)
    assert "levels" not in {one.trait for one in outside(fine, RANGES)}
    assert outside({"colour": 1.0}, RANGES) == []
    assert traits_of(np.zeros((100, 100))) == {} and traits_of(_cells()[:40]) == {}


def test_a_cubic_surface_is_found_and_waves_are_smoothed_as_pixels_are() -> None:
    from scipy.fft import dctn, idctn
    from scipy.ndimage import gaussian_filter

    y, x = np.linspace(-1, 1, 130)[:, None], np.linspace(-1, 1, 98)[None, :]
    surface = 3 + 2 * y - x + 0.5 * y * x + 4 * y**2 * x - x**3
    np.testing.assert_allclose(_illumination(surface), surface, atol=1e-9)
    image = np.random.default_rng(0).normal(size=(130, 98))
    for sigma in (1.5, 4.0, 24.0):
        found, expected = idctn(dctn(image) * _smoothing(image.shape, sigma)), gaussian_filter(image, sigma)
        assert np.abs(found - expected).max() < 2e-3 * expected.std()


def test_noise_is_empty_and_an_image_of_cells_is_not() -> None:
    rng = np.random.default_rng(0)
    light = 30 + 10 * np.sin(np.arange(160) / 60)[None, :] * np.ones((160, 1))
    assert sum(is_empty(rng.poisson(light)) for _ in range(20)) >= 17
    assert not any(is_empty(_cells(noise=60, seed=n)) for n in range(20))
    assert not is_empty(np.full((100, 100), 3)) and not is_empty(rng.normal(size=(40, 40)))


def test_light_that_is_cut_off_is_told_as_a_share() -> None:
    cells = _cells()
    assert saturated_share(cells) == 0.0
    cut = np.minimum(cells, 220)
    assert saturated_share(cut) == pytest.approx(float((cells >= 220).mean()))
    assert saturated_share(cells > 200) == 0.0 and saturated_share(np.minimum(cells, 100)) == 0.0  # no photographs


# --- from few images ----------------------------------------------------------------------------------


def test_few_images_tell_a_range_in_which_further_ones_lie() -> None:
    for n in (3, 8):
        ranges = ranges_over([_cells(16, seed=k) for k in range(n)])
        assert set(ranges) == set(TRAITS), "grey levels too: the images are of whole numbers"
        alarms = sum(bool(outside(traits_of(_cells(16, seed=k)), ranges)) for k in range(100, 120))
        assert alarms <= 2, (n, alarms)
        assert "noise" in {one.trait for one in outside(traits_of(_cells(16, noise=200)), ranges)}, n


def test_windows_of_a_single_image_are_trusted_less() -> None:
    alone = ranges_over([_cells(side=480)])
    three = ranges_over([_cells(side=480, seed=k) for k in range(3)])
    assert sum(bool(outside(traits_of(_cells(seed=k, side=480)), alone)) for k in range(100, 110)) <= 1
    assert np.mean([alone[t][1] - alone[t][0] > three[t][1] - three[t][0] for t in ("slope", "skew", "ground")]) > 0.5


def test_whole_numbers_count_levels_however_they_are_stored() -> None:
    images = [_cells(seed=k) for k in range(4)]
    stored = ranges_over([image.astype(np.float32) for image in images])
    assert stored == ranges_over(images) and "levels" in stored
    assert "levels" not in ranges_over([image / 1000 for image in images])


def test_many_images_are_looked_at_in_the_middle_of_sixty() -> None:
    planes = [_cells(seed=k % 3) for k in range(90)]
    seen = ranges_over(planes)
    assert seen["noise"][0] <= min(traits_of(plane)["noise"] for plane in planes[:3])
    before = [plane.copy() for plane in planes]
    assert all(np.array_equal(a, b) for a, b in zip(before, planes, strict=True))


def test_little_to_look_at_tells_nothing() -> None:
    assert ranges_over([]) == {} and ranges_over([np.zeros((200, 200))]) == {}
    assert ranges_over([_cells()[:50, :50]]) == {}
