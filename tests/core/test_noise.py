"""Noise has the mean and the variance that its numbers say."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.noise import poisson_gaussian


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
