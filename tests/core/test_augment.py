"""Augmentation keeps its promises (METHODS T-N9)."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cellenhance.core.augment import MIN_RANGE, augment_contrast, degrade, dihedral, dim


def test_contrast_keeps_a_range_of_sixteen_grey_values() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        image = (rng.uniform(0, 0.9) + rng.uniform(0.08, 0.1) * rng.random((8, 8))).astype(np.float32)
        out = augment_contrast(image, rng)
        assert out.dtype == np.float32
        assert out.min() >= 0.0 and out.max() <= 1.0
        assert out.max() - out.min() >= MIN_RANGE or out is image


def test_a_flat_image_comes_back_as_it_is() -> None:
    flat = np.full((4, 4), 0.5, np.float32)
    assert augment_contrast(flat, np.random.default_rng(0)) is flat


def test_contrast_is_monotone_and_not_affine() -> None:
    ramp = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    out = augment_contrast(ramp, np.random.default_rng(1)).ravel()
    assert (np.diff(out) >= -1e-7).all()
    line = np.polyval(np.polyfit(ramp.ravel(), out, 1), ramp.ravel())
    assert np.abs(line - out).max() > 0.01


def test_dihedral_gives_eight_different_images() -> None:
    image = np.arange(9, dtype=np.float32).reshape(3, 3)
    assert len({dihedral(image, i).tobytes() for i in range(8)}) == 8


@pytest.mark.parametrize("seed", range(8))
def test_degrade_is_seeded_finite_and_leaves_the_input(seed: int) -> None:
    image = np.random.default_rng(9).random((32, 48)).astype(np.float32)
    before = image.copy()
    a = degrade(image, np.random.default_rng(seed))
    b = degrade(image, np.random.default_rng(seed))
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(image, before)
    assert a.shape == image.shape and np.isfinite(a).all()


def test_degrade_adds_noise_on_average() -> None:
    image = np.full((32, 32), 0.5, np.float32)
    spreads = [float(degrade(image, np.random.default_rng(s)).std()) for s in range(40)]
    assert np.mean([s > 0.01 for s in spreads]) > 0.5


def test_dim_shows_a_crop_at_a_fraction_of_its_range_on_a_pedestal() -> None:
    image = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    spans = []
    for seed in range(200):
        out = dim(image, np.random.default_rng(seed))
        assert out.dtype == np.float32
        assert out.min() >= 0.0 and out.max() <= 1.0 + 1e-6
        spans.append(float(out.max() - out.min()))
        np.testing.assert_allclose((out - out.min()) / spans[-1], image, atol=1e-5)
    assert min(spans) < 0.2 and max(spans) > 0.9
