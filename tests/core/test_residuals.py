"""Noise leaves no structure; what a filter removes, adds or invents does. The noise of an image by its grey value."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.noise_model import NoiseModel, estimate_noise
from napari_cellenhance.core.residuals import FALSE_ALARMS, check_residual, fit_result

SIDE = 96


def _cells() -> NDArray[np.float64]:
    y, x = np.mgrid[:SIDE, :SIDE]
    field = np.zeros((SIDE, SIDE))
    for cy, cx in ((20, 24), (24, 70), (66, 30), (70, 74)):
        field = np.maximum(field, np.hypot(y - cy, x - cx) < 9)
    return 50.0 + 200.0 * gaussian_filter(field, 1.0)


def _without(place: tuple[int, int]) -> NDArray[np.float64]:
    clean = _cells()
    clean[place[0] - 14 : place[0] + 14, place[1] - 14 : place[1] + 14] = 50.0
    return clean


@pytest.fixture(scope="module")
def noisy() -> NDArray[np.float32]:
    return np.random.default_rng(0).poisson(_cells()).astype(np.float32)


def test_noise_alone_is_not_flagged_but_for_one_image_in_a_hundred() -> None:
    found = [
        check_residual(np.random.default_rng(n).poisson(_cells()).astype(np.float32), _cells(), seed=n)
        for n in range(12)
    ]
    assert not any(one.is_flagged for one in found)
    assert sum(one.p < FALSE_ALARMS for one in found) <= 2
    assert np.median([one.variance_ratio for one in found]) == pytest.approx(1.0, abs=0.15)
    assert np.abs([one.autocorrelation for one in found]).max() < 0.05


def test_an_object_that_was_removed_is_found_where_it_was(noisy: NDArray[np.float32]) -> None:
    found = check_residual(noisy, _without((66, 30)))
    assert found.p < 1e-6 and found.count("removed") == 1 and found.count("added") == 0
    (region,) = (one for one in found.regions if one.kind == "removed")
    assert np.hypot(region.y - 66, region.x - 30) < 3 and found.flags[66, 30] == 1


def test_an_object_that_was_added_is_found_where_it_is(noisy: NDArray[np.float32]) -> None:
    y, x = np.mgrid[:SIDE, :SIDE]
    made_up = _cells() + 100.0 * (np.hypot(y - 48, x - 48) < 7)
    found = check_residual(noisy, made_up)
    assert found.count("added") >= 1 and found.count("removed") == 0 and found.flags[48, 48] == 2


def test_an_invented_texture_is_found_and_its_mean_need_not_differ(noisy: NDArray[np.float32]) -> None:
    texture = gaussian_filter(np.random.default_rng(1).normal(size=(SIDE, SIDE)), 0.8)
    inside = _cells() > 150
    made_up = _cells() + 50.0 * inside * texture / texture.std()
    assert check_residual(noisy, made_up).count("texture") >= 1
    assert check_residual(noisy, _cells()).count("texture") == 0


def test_small_differences_are_told_by_p_but_not_flagged() -> None:
    image = _cells() + np.random.default_rng(3).normal(0, 0.5, (SIDE, SIDE))
    y, x = np.mgrid[:SIDE, :SIDE]
    found = check_residual(image.astype(np.float32), _cells() + 4.0 * (np.hypot(y - 48, x - 48) < 7))
    assert found.p < 1e-6 and not found.is_flagged  # 2 % of the contrast


def test_contrast_may_change_where_a_rising_curve_is_fitted(noisy: NDArray[np.float32]) -> None:
    steeper = (_cells() / 250.0) ** 3
    assert check_residual(noisy, steeper, fit="monotone").count("removed") == 0
    fitted = fit_result(_cells(), steeper, "monotone")
    assert np.abs(fitted - _cells()).max() < 5
    assert np.abs(fit_result(_cells(), steeper, "affine") - _cells()).max() > 20


def test_a_blurred_result_correlates_with_the_fine_structure_of_its_residual() -> None:
    image = _cells() + np.random.default_rng(5).normal(0, 1.0, (SIDE, SIDE))
    sharp, blurred = check_residual(image, _cells()), check_residual(image, gaussian_filter(_cells(), 2.0))
    assert blurred.correlation > sharp.correlation + 0.3 and blurred.autocorrelation > 0.3


def test_what_cannot_be_compared_is_refused(noisy: NDArray[np.float32]) -> None:
    with pytest.raises(ImageError, match=r"\(96, 96\).*\(40, 96\)"):
        check_residual(noisy, _cells()[:40])
    with pytest.raises(ImageError, match="32 px"):
        estimate_noise(noisy[:20])
    with pytest.raises(ParameterError, match="affine or monotone"):
        fit_result(_cells(), _cells(), "cubic")  # type: ignore[arg-type]


@pytest.mark.parametrize(("gain", "read"), [(2.0, 3.0), (0.0, 8.0)])
def test_gain_and_read_noise_are_estimated_from_one_image(gain: float, read: float) -> None:
    rng = np.random.default_rng(0)
    signal = np.linspace(50, 550, 256)[None, :] * np.ones((256, 1))
    shot = gain * rng.poisson(signal / gain) if gain else signal
    model = estimate_noise(shot + rng.normal(0, read, signal.shape))
    expected = NoiseModel(gain, gain * 50 + read**2, 50, 550).variance(np.array([60.0, 300.0, 540.0]))
    assert model.variance(np.array([60.0, 300.0, 540.0])) == pytest.approx(expected, rel=0.15)


def test_an_image_without_noise_has_that_of_its_rounding() -> None:
    assert estimate_noise(np.full((64, 64), 7, np.uint8)).sigma == pytest.approx(np.sqrt(1 / 12))
