"""Halves carry noise of their own and one specimen; objects of one half only are found; turned copies come back."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.half_inputs import (
    checkerboard_halves,
    compare_halves,
    noise_halves,
    photon_halves,
    spread,
    symmetries,
)
from napari_cellenhance.core.noise_model import NoiseModel


def _correlation(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_fields_of_a_checkerboard_share_no_noise() -> None:
    noise = np.random.default_rng(0).normal(size=(128, 128))
    even, odd = checkerboard_halves(noise)
    assert abs(_correlation(even, odd)) < 0.03
    ramp = np.add.outer(np.arange(16.0), 2 * np.arange(16.0))
    for half in checkerboard_halves(ramp):
        assert half[1:-1, 1:-1] == pytest.approx(ramp[1:-1, 1:-1])
    with pytest.raises(ImageError, match="no halves"):
        checkerboard_halves(np.zeros(4))


def test_photons_are_dealt_out_to_two_independent_images() -> None:
    rng = np.random.default_rng(0)
    image = 100 + 4.0 * rng.poisson(25.0, (256, 256))
    first, second = photon_halves(image, 4.0, 100.0, rng)
    assert first + second == pytest.approx(2 * image)
    assert first.mean() == pytest.approx(200, rel=0.01) and abs(_correlation(first, second)) < 0.02
    assert first.var() == pytest.approx(2 * image.var(), rel=0.05)
    with pytest.raises(ParameterError, match="more than 0"):
        photon_halves(image, 0.0, 0.0, rng)


def test_added_and_taken_noise_make_two_independent_images() -> None:
    rng = np.random.default_rng(0)
    image = 50 + rng.normal(0, 3, (256, 256))
    first, second = noise_halves(image, NoiseModel(0.0, 9.0, 0.0, 100.0), rng)
    assert abs(_correlation(first, second)) < 0.02 and (first + second) / 2 == pytest.approx(image, abs=1e-3)
    assert first.std() == pytest.approx(3 * 2**0.5, rel=0.03)


def test_an_object_in_one_half_only_stands_alone() -> None:
    y, x = np.mgrid[:64, :64]
    both, alone = np.hypot(y - 20, x - 20) < 8, np.hypot(y - 44, x - 44) < 6
    same = compare_halves(both.astype(float), both.astype(float), 1.0)
    assert (same.n_objects, same.n_alone, same.doubtful) == (2, 0, 0.0) and not same.flags.any()
    found = compare_halves(both.astype(float), (both | alone).astype(float), 1.0)
    assert (found.n_objects, found.n_alone) == (3, 1) and found.flags[44, 44] == 2 and found.flags[20, 20] == 0
    faint = compare_halves(both + 0.2 * alone, both * 1.0, 1.0)
    assert faint.n_alone == 0 and faint.flags[44, 44] == 3 and faint.doubtful == pytest.approx(alone.mean())
    with pytest.raises(ImageError, match="expected the same"):
        compare_halves(np.zeros((4, 4)), np.zeros((4, 5)), 1.0)


def test_eight_different_copies_come_back_as_the_plane() -> None:
    plane = np.arange(12.0).reshape(3, 4)
    copies = list(symmetries(plane))
    assert len({copy.tobytes() + bytes(copy.shape) for copy, _ in copies}) == 8
    assert all((back(copy) == plane).all() for copy, back in copies)


def test_spread_is_the_standard_deviation_of_each_pixel() -> None:
    assert spread([np.array([0.0, 1.0]), np.array([2.0, 1.0])]) == pytest.approx([2**0.5, 0.0])
    with pytest.raises(ParameterError, match="two or more"):
        spread([np.zeros(3)])
