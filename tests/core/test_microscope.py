"""Poor exposures of clean images: point spread functions, noise, order of steps, levels, seeds (T-C6, T-C7)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
from scipy.ndimage import convolve, gaussian_filter, grey_opening, minimum_filter

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.microscope import (
    LEVELS,
    Level,
    Optics,
    Preparation,
    blurred_by,
    clean_target,
    expose,
    exposures,
    levels_from,
    measured_psf,
    point_spread,
)

NO_NOISE = Level(name="none", photons=(np.inf, np.inf), sigma=(0, 0), gain=(1, 1))


def _cells(*shape: int, seed: int = 0) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    image = gaussian_filter(np.random.default_rng(seed).random(shape), (0,) * (len(shape) - 2) + (2, 2))
    return ((image - image.min()) / np.ptp(image)).astype(np.float32)


# --- T-C6: the point spread function ---------------------------------------------------------


@pytest.mark.parametrize("kind", ["gaussian", "airy", "none"])
@pytest.mark.parametrize("n_dims", [2, 3])
def test_t_c6_point_spread_functions_sum_to_one_and_are_symmetric(
    kind: Literal["gaussian", "airy", "none"], n_dims: Literal[2, 3]
) -> None:
    psf = point_spread(Optics(kind=kind, na=0.8, wavelength_um=0.6, pixel_um=0.1, step_um=0.4), n_dims)
    assert psf.ndim == n_dims and psf.sum() == pytest.approx(1, abs=1e-12) and psf.min() >= 0
    assert psf.max() == psf[tuple(n // 2 for n in psf.shape)]
    for axis in range(n_dims):
        assert psf.shape[axis] % 2 == 1 and np.allclose(psf, np.flip(psf, axis), atol=1e-15)


def _half_width(profile: np.ndarray, step: float) -> float:
    middle = len(profile) // 2
    right = profile[middle:] / profile[middle]
    i = int(np.argmax(right < 0.5))
    return 2 * step * (i - 1 + (right[i - 1] - 0.5) / (right[i - 1] - right[i]))


def test_widths_are_those_of_the_objective() -> None:
    optics = Optics(kind="airy", na=1.2, wavelength_um=0.543, pixel_um=0.01)
    airy = point_spread(optics)
    middle = airy.shape[0] // 2
    assert _half_width(airy[middle], 0.01) == pytest.approx(0.2329, abs=5e-4)
    ring = 0.61 * 0.543 / 1.2
    line = airy[middle, middle:]
    assert 0.01 * int(np.argmin(line[:35])) == pytest.approx(ring, abs=0.006), "first dark ring"
    gauss = point_spread(replace(optics, kind="gaussian"))
    assert _half_width(gauss[gauss.shape[0] // 2], 0.01) == pytest.approx(2.3548 * 0.21 * 0.543 / 1.2, rel=1e-3)


def test_the_axial_pattern_has_its_first_zero_where_theory_puts_it() -> None:
    optics = Optics(kind="airy", na=0.5, wavelength_um=0.5, pixel_um=0.25, step_um=0.1, refractive_index=1.0)
    psf = point_spread(optics, 3)
    z, y, x = (n // 2 for n in psf.shape)
    axis = psf[z:, y, x] / psf[z, y, x]
    zero = 2 * 1.0 * 0.5 / 0.5**2
    at = round(zero / 0.1)
    assert axis[at] < 1e-6 and axis[at // 2] == pytest.approx(np.sinc(0.5) ** 2, rel=1e-3)
    assert np.allclose(psf[z] / psf[z].sum(), point_spread(optics, 2), atol=1e-6), "in focus it is the Airy disc"


def test_a_measured_point_is_freed_from_its_ground() -> None:
    bead = np.full((10, 11), 100.0)
    bead[4, 5], bead[4, 6] = 400, 200
    psf = measured_psf(bead)
    assert psf.shape == (9, 11) and psf[4, 5] == pytest.approx(0.75) and psf[4, 6] == pytest.approx(0.25)
    assert measured_psf(np.array([[7.0]])).tolist() == [[1.0]], "one pixel has no edge, and blurs nothing"
    for wrong in (np.ones((5, 5)), np.full((5, 5), np.nan), np.ones((3, 3, 3))):
        with pytest.raises(ImageError):
            measured_psf(wrong)


def test_lengths_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ParameterError, match="size of the pixels is not known"):
        point_spread(Optics())
    with pytest.raises(ParameterError, match="steps between planes"):
        point_spread(Optics(pixel_um=0.1), 3)
    with pytest.raises(ParameterError, match="check wavelength"):
        point_spread(Optics(pixel_um=0.0001))
    with pytest.raises(ParameterError, match="expected micrometres"):
        Optics(wavelength_um=520)


# --- T-C6: noise and the order of steps ------------------------------------------------------


@pytest.mark.parametrize("shape", [(40, 44), (9, 24, 20)])
def test_t_c6_without_noise_and_at_gain_one_it_is_the_convolution(shape: tuple[int, ...]) -> None:
    target = _cells(*shape)
    n_dims: Any = len(shape)
    psf = point_spread(Optics(na=0.9, pixel_um=0.1, step_um=0.5), n_dims)
    image, _ = expose(target, psf, NO_NOISE, (0,))
    assert np.allclose(image, convolve(target.astype(float), psf, mode="reflect"), atol=1e-5)


def test_t_c6_shot_noise_keeps_the_mean_and_has_the_variance_of_the_signal() -> None:
    level = replace(NO_NOISE, photons=(50, 50), saturation=float("inf"))
    image, _ = expose(np.full((600, 600), 0.5, np.float32), point_spread(Optics(kind="none")), level, (1,))
    assert image.mean() == pytest.approx(0.5, rel=0.002)
    assert image.var() == pytest.approx(0.5 / 50, rel=0.02)


def test_read_noise_is_scaled_by_the_gain_too_and_what_is_too_bright_saturates() -> None:
    flat, psf = np.full((500, 500), 0.5, np.float32), point_spread(Optics(kind="none"))
    level = replace(NO_NOISE, sigma=(0.1, 0.1), amplitude=(0.5, 0.5), gain=(0.4, 0.4))
    image, drawn = expose(flat, psf, level, (2,))
    assert image.mean() == pytest.approx(0.2, rel=0.01) and image.std() == pytest.approx(0.4 * 0.05, rel=0.02)
    assert (drawn.sigma, drawn.amplitude, drawn.gain) == (0.1, 0.5, 0.4)
    over, _ = expose(flat, psf, replace(NO_NOISE, gain=(3, 3)), (2,))
    assert over.max() == 1.0
    assert expose(flat, psf, replace(NO_NOISE, gain=(3, 3), saturation=float("inf")), (2,))[0].max() == 1.5


def test_extra_blur_is_drawn_in_pixels_and_leaves_the_noise_of_sharp_levels_as_it_was() -> None:
    target, psf = _cells(48, 48), point_spread(Optics(kind="none"))
    level = replace(NO_NOISE, blur=(1.5, 1.5))
    image, drawn = expose(target, psf, level, (0,))
    assert drawn.blur == 1.5 and drawn.to_dict()["blur"] == 1.5
    assert np.allclose(image, gaussian_filter(target, 1.5, mode="reflect"), atol=1e-6)
    sharp, noisy = (
        expose(target, psf, replace(LEVELS[0], blur=blur, saturation=float("inf")), (4,))[1]
        for blur in ((0.0, 0.0), (0.5, 2.0))
    )
    assert sharp.blur == 0 and 0.5 <= noisy.blur <= 2.0
    assert (sharp.photons, sharp.sigma, sharp.gain) == (noisy.photons, noisy.sigma, noisy.gain)
    with pytest.raises(ParameterError, match="blur"):
        replace(NO_NOISE, blur=(2.0, 1.0))


# --- T-C7: levels and seeds ------------------------------------------------------------------


def test_t_c7_three_levels_have_increasing_errors() -> None:
    psf = point_spread(Optics(pixel_um=0.1))
    errors = np.zeros(3)
    for i in range(12):
        target = clean_target(_cells(64, 64, seed=i), Preparation())
        for k, (image, drawn) in enumerate(exposures(target, psf, seed=5, index=i)):
            assert drawn.level == LEVELS[k].name
            errors[k] += float(((image - target) ** 2).mean())
    assert errors[0] < errors[1] < errors[2]


def test_t_c7_the_same_seed_draws_the_same_values_and_noise() -> None:
    target, psf = _cells(32, 32), point_spread(Optics(kind="none"))
    first, again = exposures(target, psf, seed=3, index=7), exposures(target, psf, seed=3, index=7)
    assert all(np.array_equal(a[0], b[0]) and a[1] == b[1] for a, b in zip(first, again, strict=True))
    alone, drawn = expose(target, psf, LEVELS[2], first[2][1].seed)
    assert np.array_equal(alone, first[2][0]) and drawn == first[2][1], "the log makes one exposure again"
    other = exposures(target, psf, seed=3, index=8)
    assert first[0][1].gain != other[0][1].gain and not np.array_equal(first[0][0], other[0][0])


def test_values_lie_within_their_intervals_and_are_logged() -> None:
    target, psf = _cells(8, 8), point_spread(Optics(kind="none"))
    for i in range(40):
        for (_, drawn), level in zip(exposures(target, psf, seed=0, index=i), LEVELS, strict=True):
            for name in ("photons", "sigma", "amplitude", "gain"):
                low, high = getattr(level, name)
                assert low <= getattr(drawn, name) <= high
    assert expose(target, psf, NO_NOISE, (0,))[1].to_dict()["photons"] is None
    products = [(lv.sigma[0] * lv.amplitude[0], lv.sigma[1] * lv.amplitude[1]) for lv in LEVELS]
    assert np.allclose(products, [(0.01, 0.04), (0.03, 0.08), (0.06, 0.12)])


def test_levels_are_read_from_json_and_mistakes_named() -> None:
    entries = [{"name": "a", "photons": [5, 10], "gain": 0.5}, {"name": "b", "photons": None, "saturation": None}]
    levels = levels_from(entries)
    assert levels[0].gain == (0.5, 0.5) and np.isinf(levels[1].photons[0]) and np.isinf(levels[1].saturation)
    twins, loud, inverse = [{"name": "a"}] * 2, [{"name": "a", "loudness": 2}], [{"name": "a", "gain": [2, 1]}]
    for wrong in (twins, loud, inverse, [], [3]):
        with pytest.raises(ParameterError):
            levels_from(wrong)


# --- the clean target ------------------------------------------------------------------------


def test_a_target_is_stretched_and_specks_are_eroded() -> None:
    image = 100 + 50 * _cells(40, 40)
    image[5, 5] = 190
    plain = clean_target(image, Preparation(lo=0, hi=100))
    assert plain.min() == 0 and plain.max() == 1
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)
    eroded = clean_target(image, Preparation(lo=0, hi=100, radius_px=0.5))
    assert np.array_equal(eroded, minimum_filter(plain, footprint=cross))
    square = clean_target(image, Preparation(lo=0, hi=100, radius_px=1))
    assert np.array_equal(square, minimum_filter(plain, size=3))
    opened = clean_target(image, Preparation(lo=0, hi=100, radius_px=1, is_opening=True))
    assert np.allclose(opened, grey_opening(plain, size=(3, 3), mode="reflect")) and opened[5, 5] < 0.7
    volume = np.stack([plain, plain[::-1]])
    assert np.array_equal(clean_target(volume, Preparation(lo=0, hi=100, radius_px=1))[0], square), "plane by plane"
    with pytest.raises(ImageError, match="one single grey value"):
        clean_target(np.ones((4, 4)), Preparation())


def test_the_image_is_reflected_at_its_edges_and_left_alone() -> None:
    image = _cells(20, 20)
    before = image.copy()
    assert np.allclose(blurred_by(np.ones((5, 6), np.float32), point_spread(Optics(pixel_um=0.05))), 1, atol=1e-6)
    expose(image, point_spread(Optics(pixel_um=0.1)), LEVELS[2], (0,))
    clean_target(image, Preparation(radius_px=2))
    assert np.array_equal(image, before)
    with pytest.raises(ParameterError, match="does not fit an image"):
        blurred_by(image, np.ones((2, 2)))
