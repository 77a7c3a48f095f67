"""The published degradations: what they do to grey values, their range, their seed."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cellenhance.core.degrade import AS_ACQUIRED, DEGRADATIONS, blurred, degraded, kernel_sigma
from napari_cellenhance.core.errors import ImageError, ParameterError


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _grey(value: int = 128, side: int = 64) -> np.ndarray:
    return np.full((side, side), value, np.uint8)


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_type_and_range_stay_and_the_input_is_left_alone(name: str, rng: np.random.Generator) -> None:
    eight_bit = rng.integers(0, 256, (40, 50)).astype(np.uint8)
    before = eight_bit.copy()
    assert degraded(eight_bit, name, _rng()).dtype == np.uint8
    unit = (eight_bit / 255.0).astype(np.float64)
    found = degraded(unit, name, _rng())
    assert found.dtype == np.float32 and found.shape == unit.shape
    assert found.min() >= 0 and found.max() <= 1
    assert (eight_bit == before).all()


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_8_bit_and_unit_range_agree(name: str, rng: np.random.Generator) -> None:
    eight_bit = rng.integers(0, 256, (40, 50)).astype(np.uint8)
    found, unit = degraded(eight_bit, name, _rng()), degraded(eight_bit / 255.0, name, _rng())
    assert np.abs(found - unit * 255.0).max() <= 0.5 + 1e-3, "but for rounding"


def test_noise_has_a_standard_deviation_of_100_grey_values() -> None:
    noisy = degraded(_grey(side=400), "noise", _rng()).astype(float)
    # Of N(128, 100²) the part in 0…255 is known: 79.9 % of it, the rest lies on the ends.
    inside = (noisy > 0) & (noisy < 255)
    assert inside.mean() == pytest.approx(0.797, abs=0.01)
    assert (noisy == 0).mean() == pytest.approx(0.100, abs=0.01)


def test_noise_is_that_of_the_seed() -> None:
    first, same, other = (degraded(_grey(), "noise", _rng(seed)) for seed in (1, 1, 2))
    assert (first == same).all() and (first != other).any()


def test_contrast_takes_100_and_stops_at_0() -> None:
    image = np.array([[0, 99, 100, 101, 255]], np.uint8)
    assert degraded(image, "contrast", _rng()).tolist() == [[0, 0, 0, 1, 155]]


def test_blur_is_a_gaussian_of_five_by_five() -> None:
    point = np.zeros((15, 15))
    point[7, 7] = 1.0
    found = degraded(point, "blur", _rng())
    ys, xs = np.nonzero(found)
    assert (ys.min(), ys.max(), xs.min(), xs.max()) == (5, 9, 5, 9)
    line = np.exp(-(np.arange(-2, 3) ** 2) / (2 * 1.1**2))
    line /= line.sum()
    np.testing.assert_allclose(found[5:10, 5:10], np.outer(line, line), atol=1e-6)


def test_the_sigma_is_that_of_opencv() -> None:
    assert [round(kernel_sigma(k), 6) for k in (3, 5, 9)] == [0.8, 1.1, 1.7]
    with pytest.raises(ParameterError, match="odd"):
        kernel_sigma(4)


def test_blur_mirrors_the_edge_without_repeating_it() -> None:
    ramp = np.arange(6.0)[None].repeat(6, axis=0)
    padded = np.pad(ramp, 4, mode="reflect")
    np.testing.assert_allclose(blurred(ramp, 5), blurred(padded, 5)[4:-4, 4:-4])


def test_as_acquired_changes_nothing(rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (9, 9)).astype(np.uint8)
    found = degraded(image, AS_ACQUIRED, _rng())
    assert (found == image).all() and found is not image


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((4, 4), np.uint16), "8 bit"),
        (np.full((4, 4), 1.5), "outside"),
        (np.full((4, 4), np.nan), "numbers"),
        (np.zeros((2, 4, 4)), "plane"),
        (np.zeros((0, 4)), "plane"),
    ],
)
def test_other_images_are_refused(image: np.ndarray, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        degraded(image, "noise", _rng())


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ParameterError, match="fog"):
        degraded(_grey(), "fog", _rng())
