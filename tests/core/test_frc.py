"""Fourier ring correlation: images whose finest detail is known."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.core.frc import one_image, two_images
from napari_cellenhance.core.metrics import snr

WINDOW_RINGS = 3
"""A Hann window carries strong structure two rings further; one more is chance."""


def band_limited(rng: np.random.Generator, cutoff: float, shape: tuple[int, int] = (256, 256)) -> np.ndarray:
    """White up to ``cutoff`` cycles per pixel, nothing beyond; standard deviation 1."""
    spectrum = np.fft.fft2(rng.normal(size=shape))
    spectrum[np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])) > cutoff] = 0
    plane = np.fft.ifft2(spectrum).real
    return np.asarray(plane / plane.std())


@pytest.mark.parametrize("cutoff", [0.08, 0.15, 0.3])
@pytest.mark.parametrize("shape", [(256, 256), (200, 301)])
def test_two_noisy_images_have_the_band_limit_of_what_they_show(cutoff: float, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    truth = band_limited(rng, cutoff, shape)
    first, second = (truth + rng.normal(0, 1.5, shape) for _ in range(2))
    found = two_images(first, second)
    assert found.cutoff == pytest.approx(cutoff, abs=WINDOW_RINGS / min(shape)) and not found.is_at_limit
    assert found.correlation[found.frequencies < 0.8 * cutoff].mean() > 0.5


@pytest.mark.parametrize("cutoff", [0.06, 0.1, 0.18])
def test_one_noisy_image_has_the_band_limit_of_what_it_shows(cutoff: float) -> None:
    rng = np.random.default_rng(2)
    noisy = band_limited(rng, cutoff) + rng.normal(0, 1.5, (256, 256))
    found = one_image(noisy)
    assert found.cutoff == pytest.approx(cutoff, abs=WINDOW_RINGS / 256) and not found.is_at_limit


def test_one_image_agrees_with_two() -> None:
    rng = np.random.default_rng(3)
    truth = band_limited(rng, 0.12)
    first, second = (truth + rng.normal(0, 1.5, truth.shape) for _ in range(2))
    assert one_image(first).resolution_px == pytest.approx(two_images(first, second).resolution_px, rel=0.06)


def test_the_shift_between_the_halves_costs_nothing() -> None:
    truth = band_limited(np.random.default_rng(4), 0.2)
    found = one_image(truth)
    assert found.correlation[found.frequencies < 0.17].min() > 0.99


def test_noise_alone_has_no_resolution_and_a_fine_image_is_at_the_limit() -> None:
    rng = np.random.default_rng(5)
    noise = two_images(rng.normal(size=(128, 128)), rng.normal(size=(128, 128)))
    assert np.isnan(noise.resolution_px) or noise.resolution_px > 20
    fine = rng.normal(size=(128, 128))
    assert two_images(fine, fine).is_at_limit and two_images(fine, fine).resolution_px == 2.0


def test_more_noise_means_less_resolution() -> None:
    rng = np.random.default_rng(6)
    blurred = np.fft.fft2(rng.normal(size=(256, 256)))
    blurred *= np.exp(-((np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256)) / 0.08) ** 2))
    plane = np.fft.ifft2(blurred).real
    plane /= plane.std()
    little, much = (one_image(plane + rng.normal(0, sd, plane.shape)).resolution_px for sd in (0.1, 1.0))
    assert much > 1.2 * little


@pytest.mark.parametrize(
    ("plane", "words"),
    [
        (np.zeros((64, 64)), "constant"),
        (np.ones((20, 20)), "64 px"),
        (np.full((64, 64), np.nan), "NaN"),
        (np.zeros((3, 64, 64)), "plane"),
    ],
)
def test_what_has_no_rings_is_refused(plane: np.ndarray, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        one_image(plane)


def test_two_images_of_other_fields_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ImageError, match="same field"):
        two_images(rng.random((64, 64)), rng.random((64, 65)))


def test_snr_is_signal_over_the_spread_of_the_ground() -> None:
    assert snr([[1, 3], [10, 12]], [[False, False], [True, True]]) == 9.0
    assert snr([1, 1, 5], [False, False, True]) == np.inf
    assert snr([1, 1, 1], [False, False, True]) == 0.0
