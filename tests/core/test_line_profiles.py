"""Profiles of planes whose every value is known."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.measure import profile_line

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.line_profiles import (
    compare,
    distances_um,
    find_peaks,
    fit_to,
    match_peaks,
    normalized,
    places_along,
    profile,
)

RAMP = np.add.outer(10.0 * np.arange(6), np.arange(8.0))
"""10 a row, 1 a column: bilinear interpolation of it is exact."""


def bumps(*at: float, sigma: float = 3.0, n: int = 101) -> np.ndarray:
    return np.asarray(sum(np.exp(-((np.arange(n) - x) ** 2) / (2 * sigma**2)) for x in at))


# --- reading --------------------------------------------------------------------------------


def test_a_straight_line_reads_what_lies_under_it() -> None:
    distances, values = profile(RAMP, [(2, 1), (2, 5)])
    assert distances.tolist() == [0, 1, 2, 3, 4] and values.tolist() == [21, 22, 23, 24, 25]
    distances, values = profile(RAMP, [(0, 0), (3, 4)])
    assert distances.tolist() == pytest.approx([0, 1, 2, 3, 4, 5])
    assert values.tolist() == pytest.approx([0, 6.8, 13.6, 20.4, 27.2, 34.0]), "0.6 rows and 0.8 columns a step"


def test_it_equals_skimage_inside(rng: np.random.Generator) -> None:
    plane = rng.random((40, 50))
    for width in (1, 2, 5):
        _, values = profile(plane, [(8, 9), (30, 41)], width)
        expected = profile_line(plane, (8, 9), (30, 41), linewidth=width, order=1, mode="reflect")
        assert values == pytest.approx(expected)


def test_width_is_averaged_across() -> None:
    plane = np.zeros((7, 9))
    plane[3] = 6.0
    assert profile(plane, [(3, 1), (3, 7)])[1].tolist() == [6.0] * 7
    assert profile(plane, [(3, 1), (3, 7)], 3)[1].tolist() == pytest.approx([2.0] * 7)
    assert profile(plane, [(3, 1), (3, 7)], 2)[1].tolist() == pytest.approx([3.0] * 7), "half a pixel to each side"


def test_a_path_reads_its_corners_once() -> None:
    distances, values = profile(RAMP, [(1, 1), (1, 3), (1, 3), (4, 3)])
    assert distances.tolist() == [0, 1, 2, 3, 4, 5]
    assert values.tolist() == [11, 12, 13, 23, 33, 43]


def test_outside_of_the_image_there_is_no_value() -> None:
    before = RAMP.copy()
    values = profile(RAMP, [(2, -2), (2, 9)])[1]
    assert np.isnan(values[:2]).all() and np.isnan(values[-2:]).all()
    assert values[2:-2].tolist() == [20, 21, 22, 23, 24, 25, 26, 27]
    assert profile(RAMP, [(-0.4, 0), (-0.4, 2)])[1].tolist() == [0, 1, 2], "still within the first row of pixels"
    assert profile(RAMP, [(0, 1), (0, 3)], 3)[1].tolist() == [6, 7, 8], "the mean of the two rows that are there"
    assert np.array_equal(RAMP, before)


def test_a_pixel_without_a_value_is_left_out_of_the_mean() -> None:
    plane = RAMP.copy()
    plane[2, 3] = np.nan
    values = profile(plane, [(2, 1), (2, 6)])[1]
    assert np.isnan(values[2]) and values[4:].tolist() == [25, 26]
    assert profile(plane, [(2, 3), (2, 6)], 3)[1][0] == pytest.approx(23), "rows 1 and 3"


def test_distances_in_um() -> None:
    assert distances_um(np.array([0.0, 3.0]), 0.25).tolist() == [0, 0.75]
    assert np.isnan(distances_um(np.array([0.0, 3.0]), None)).all()


@pytest.mark.parametrize(
    ("points", "width", "step", "words"),
    [
        ([(1, 1)], 1, 1, "no length"),
        ([(1, 1), (1, 1)], 1, 1, "no length"),
        ([(1, 1, 1), (2, 2, 2)], 1, 1, "row, column"),
        ([(1, np.nan), (2, 2)], 1, 1, "finite"),
        ([(1, 1), (2, 2)], 0, 1, "width"),
        ([(1, 1), (2, 2)], 2.5, 1, "width"),
        ([(1, 1), (2, 2)], 1, 0, "step"),
        ([(0, 0), (0, 1e12)], 1, 1, "too long"),
    ],
)
def test_lines_that_cannot_be_read_are_named(points: object, width: int, step: float, words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        places_along(points, width, step)  # type: ignore[arg-type]


def test_only_planes_of_real_numbers_are_read() -> None:
    for plane in (np.zeros((2, 3, 4)), np.zeros((3, 3), complex), np.zeros((0, 3))):
        with pytest.raises(ImageError, match="one plane"):
            profile(plane, [(0, 0), (1, 1)])


# --- making comparable ------------------------------------------------------------------------


def test_normalisations_are_what_they_are_called() -> None:
    values = np.array([10.0, np.nan, 20.0, 50.0])
    assert normalized(values, "none")[[0, 2, 3]].tolist() == [10, 20, 50]
    assert normalized(values, "range")[[0, 2, 3]].tolist() == [0, 0.25, 1]
    ramp = np.arange(101.0)
    assert normalized(ramp, "percentiles")[[5, 50, 95]] == pytest.approx([0, 0.5, 1])
    ramp[100] = 1e6
    assert normalized(ramp, "percentiles")[95] == pytest.approx(1), "one bright sample does not move it"
    assert normalized(np.full(4, 7.0), "range").tolist() == [0] * 4
    assert normalized(3 * ramp - 7, "fit", ramp) == pytest.approx(ramp)
    with pytest.raises(ParameterError, match="choose a reference"):
        normalized(ramp, "fit")
    with pytest.raises(ParameterError, match="expected one of"):
        normalized(ramp, "log")  # type: ignore[arg-type]


def test_a_fit_looks_only_where_both_have_values() -> None:
    reference = np.array([0.0, 1.0, 2.0, np.nan, 4.0])
    values = np.array([5.0, np.nan, 9.0, 11.0, 13.0])
    assert fit_to(values, reference)[[0, 2, 3, 4]] == pytest.approx([0, 2, 3, 4])
    assert np.isnan(fit_to(np.full(5, np.nan), reference)).all()
    assert fit_to(np.full(5, 3.0), reference) == pytest.approx(np.full(5, 7 / 4))


# --- peaks ------------------------------------------------------------------------------------


def test_peaks_of_bumps_are_where_they_were_put() -> None:
    first, second = find_peaks(np.arange(101.0), bumps(30, 70.3))
    assert first.position_px == pytest.approx(30, abs=1e-3) and second.position_px == pytest.approx(70.3, abs=0.02)
    assert first.fwhm_px == pytest.approx(2 * np.sqrt(2 * np.log(2)) * 3, rel=0.01)
    assert first.height == pytest.approx(1, abs=1e-3) and first.prominence == pytest.approx(1, abs=1e-3)


def test_small_rises_are_no_peaks_and_plateaus_have_a_middle() -> None:
    places = np.arange(9.0)
    values = np.array([0, 1, 0, 10, 10, 10, 10, 0, 0.0])
    (peak,) = find_peaks(places, values, 0.2)
    assert peak.position_px == 4.5 and peak.fwhm_px == 4
    assert len(find_peaks(places, values, 0.05)) == 2
    assert find_peaks(places, np.full(9, 2.0)) == () and find_peaks(places, np.full(9, np.nan)) == ()


def test_a_gap_parts_the_profile_and_an_end_is_no_peak() -> None:
    values = bumps(30, 70)
    values[:29] = np.nan  # the first bump begins at its top
    values[50] = np.nan
    values[30] = np.nan
    assert [round(peak.position_px) for peak in find_peaks(np.arange(101.0), values)] == [70]


def test_distances_are_those_of_the_samples() -> None:
    (peak,) = find_peaks(0.5 * np.arange(101), bumps(40))
    assert peak.position_px == pytest.approx(20) and peak.fwhm_px == pytest.approx(3.53, abs=0.02)


def test_prominence_is_a_share() -> None:
    for share in (0.0, -1.0, 1.5):
        with pytest.raises(ParameterError, match="prominence"):
            find_peaks(np.arange(3.0), np.zeros(3), share)
    with pytest.raises(ParameterError, match="expected one"):
        find_peaks(np.arange(4.0), np.zeros(3))


# --- against a reference ------------------------------------------------------------------------


def test_shift_width_correlation_and_error_against_a_reference() -> None:
    places = np.arange(101.0)
    truth = 100 * bumps(30, 70)
    moved = 5 + 2 * bumps(32, 72, sigma=4.5)
    found = compare(moved, find_peaks(places, moved), truth, find_peaks(places, truth))
    assert (found.n_matched, found.n_reference) == (2, 2)
    assert found.mean_shift_px == pytest.approx(2, abs=0.01) and found.mean_abs_shift_px == found.mean_shift_px
    assert found.width_ratio == pytest.approx(1.5, rel=0.01)
    assert found.correlation == pytest.approx(np.corrcoef(moved, truth)[0, 1])
    slope, offset = np.polyfit(moved, truth, 1)
    assert found.mae == pytest.approx(np.abs(slope * moved + offset - truth).mean())
    same = compare(2 * truth + 1, find_peaks(places, 2 * truth + 1), truth, find_peaks(places, truth))
    assert same.mae == pytest.approx(0, abs=1e-9) and same.correlation == pytest.approx(1)
    apart = 100 * bumps(28, 72)
    both_ways = compare(apart, find_peaks(places, apart), truth, find_peaks(places, truth))
    assert both_ways.mean_shift_px == pytest.approx(0, abs=0.01)
    assert both_ways.mean_abs_shift_px == pytest.approx(2, abs=0.01), "shifts to either side do not cancel"
    assert same.mean_abs_shift_px == pytest.approx(0, abs=1e-9) and same.width_ratio == pytest.approx(1)


def test_peaks_pair_one_to_one_and_only_when_near() -> None:
    places = np.arange(101.0)
    reference = find_peaks(places, bumps(20, 60))
    doubled = find_peaks(places, bumps(17, 23.5, 90, sigma=1.0))
    assert match_peaks(doubled, reference) == (0, None, None)
    assert match_peaks(find_peaks(places, bumps(24, sigma=1.0)), reference) == (0,)
    assert match_peaks((), reference) == ()


def test_what_cannot_be_compared_is_nan() -> None:
    flat, truth = np.full(101, 3.0), bumps(30)
    found = compare(flat, (), truth, find_peaks(np.arange(101.0), truth))
    assert found.n_matched == 0 and np.isnan([found.mean_shift_px, found.width_ratio, found.correlation]).all()
    nothing = compare(np.full(101, np.nan), (), truth, ())
    assert np.isnan([nothing.mae, nothing.correlation]).all()
    with pytest.raises(ParameterError, match="same places"):
        compare(flat[:5], (), truth, ())
