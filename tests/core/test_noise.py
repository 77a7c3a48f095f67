"""Noise has the mean and the variance that its numbers say."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.noise import (
    NO_NOISE,
    CameraNoise,
    NoiseRange,
    estimate_sigma,
    gaussian,
    poisson_gaussian,
)


def test_mean_and_variance() -> None:
    image = np.full((400, 400), 0.5, np.float32)
    noisy = poisson_gaussian(image, 20.0, 0.1, np.random.default_rng(0)).astype(np.float64)
    assert noisy.mean() == pytest.approx(0.5, abs=0.002)
    assert noisy.var() == pytest.approx(0.5 / 20 + 0.01, rel=0.02)


def test_the_same_seed_gives_the_same_noise_and_the_input_stays() -> None:
    image = np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)
    before = image.copy()
    first = poisson_gaussian(image, 5.0, 0.0, np.random.default_rng(1))
    np.testing.assert_array_equal(first, poisson_gaussian(image, 5.0, 0.0, np.random.default_rng(1)))
    np.testing.assert_array_equal(image, before)
    assert first.dtype == np.float32
    assert first[0, 0] == 0


@pytest.mark.parametrize(("photons", "sigma"), [(0, 0.1), (-1, 0.1), (float("nan"), 0.1), (5, -0.1)])
def test_settings_out_of_range(photons: float, sigma: float) -> None:
    with pytest.raises(ParameterError, match="photons"):
        poisson_gaussian(np.zeros((2, 2)), photons, sigma, np.random.default_rng(0))


def test_negative_pixels_have_no_photons() -> None:
    with pytest.raises(ImageError, match="0 or more"):
        poisson_gaussian(np.array([[-0.1, 0.0]]), 5.0, 0.0, np.random.default_rng(0))


def test_gaussian_noise_is_added_in_grey_values_and_not_clipped() -> None:
    image = np.full((300, 300), 10, np.uint8)
    noisy = gaussian(image, 20.0, np.random.default_rng(0))
    assert noisy.std() == pytest.approx(20.0, rel=0.02) and noisy.mean() == pytest.approx(10.0, abs=0.3)
    assert noisy.min() < 0 and noisy.dtype == np.float32
    with pytest.raises(ParameterError, match="-1"):
        gaussian(image, -1.0, np.random.default_rng(0))


def test_the_spread_with_noise_is_known_before_it_is_added() -> None:
    rng = np.random.default_rng(1)
    image = rng.random((300, 300)).astype(np.float32)
    for noise in (CameraNoise(10.0, 0.0), CameraNoise(float("inf"), 0.2), CameraNoise(20.0, 0.1), NO_NOISE):
        noisy = noise.add(image, rng)
        expected = noise.std_with(np.float32(image.mean())[None], np.float32(image.std())[None])
        assert noisy.std() == pytest.approx(float(expected[0]), rel=0.02)
    assert NO_NOISE.add(image, rng) is image


def test_noise_is_drawn_from_its_range_and_for_its_share() -> None:
    rng = np.random.default_rng(2)
    drawn = [NoiseRange(photons=(5.0, 50.0), read_sigma=(0.1, 0.2), share=0.5).draw(rng) for _ in range(2000)]
    noisy = [one for one in drawn if one != NO_NOISE]
    assert len(noisy) / len(drawn) == pytest.approx(0.5, abs=0.05)
    shot = [one.photons for one in noisy if np.isfinite(one.photons)]
    assert (
        5.0 <= min(shot) < 6.5 and 40.0 < max(shot) <= 50.0 and len(shot) / len(noisy) == pytest.approx(0.75, abs=0.05)
    )
    read = [one.read_sigma for one in noisy if one.read_sigma]
    assert min(read) >= 0.1 and max(read) <= 0.2 and len(read) / len(noisy) == pytest.approx(0.75, abs=0.05)
    for wrong in ({"photons": (0.0, 1.0)}, {"read_sigma": (0.2, 0.1)}, {"share": 2.0}):
        with pytest.raises(ParameterError):
            NoiseRange(**wrong)  # type: ignore[arg-type]


def test_noise_is_told_from_structure() -> None:
    rng = np.random.default_rng(3)
    ramp = np.add.outer(np.arange(200.0), np.arange(200.0))
    assert estimate_sigma(ramp) == pytest.approx(0.0, abs=1e-9)
    assert estimate_sigma(ramp + rng.normal(0, 7.0, ramp.shape)) == pytest.approx(7.0, rel=0.02)
    with pytest.raises(ImageError, match="3 px or more"):
        estimate_sigma(np.zeros((2, 9)))
