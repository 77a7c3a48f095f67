"""The worked numbers of the measures, and the cases in which a plausible wrong one differs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from napari_cellenhance.core import metrics
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.metrics import ContrastRatio, PointMatches

BEFORE = np.array([[10, 10, 10, 50], [10, 10, 50, 50]])
AFTER = np.array([[1, 1, 0, 200], [0, 0, 210, 220]])
MASK = BEFORE == 50


# --- contrast ---------------------------------------------------------------------------


def test_contrast_ratio_gain_and_fold() -> None:
    before, after = metrics.contrast_ratio(BEFORE, MASK), metrics.contrast_ratio(AFTER, MASK)
    assert before == ContrastRatio(5.0, False)
    assert after.value == pytest.approx(525.0)
    assert metrics.gain_and_fold(before, after) == (pytest.approx(520.0), pytest.approx(105.0))


def test_contrast_ratio_is_floored_at_a_thousandth_of_the_range_and_says_so() -> None:
    image = np.where(MASK, 1.0, 0.0)
    assert metrics.contrast_ratio(image, MASK) == ContrastRatio(pytest.approx(1000.0), True)
    assert metrics.contrast_ratio(image, MASK, data_range=10) == ContrastRatio(pytest.approx(100.0), True)


def test_contrast_ratio_of_an_image_of_zeros_is_one() -> None:
    assert metrics.contrast_ratio(np.zeros((2, 4)), MASK) == ContrastRatio(1.0, True)


def test_fold_over_a_ratio_of_zero_is_infinite() -> None:
    assert metrics.gain_and_fold(ContrastRatio(0.0, False), ContrastRatio(2.0, False)) == (2.0, float("inf"))


def test_michelson_is_bounded() -> None:
    assert metrics.michelson(BEFORE, MASK) == pytest.approx(40 / 60)
    assert metrics.michelson(MASK.astype(float), MASK) == 1.0
    assert metrics.michelson(~MASK, MASK) == -1.0
    assert metrics.michelson(np.zeros((2, 4)), MASK) == 0.0


def test_auroc_counts_pairs_and_ties_half() -> None:
    rng = np.random.default_rng(3)
    image, mask = rng.integers(0, 6, 40), rng.random(40) < 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a in image[mask] for b in image[~mask]]
    assert metrics.auroc(image, mask) == pytest.approx(np.mean(pairs))
    assert metrics.auroc(BEFORE, MASK) == 1.0
    assert metrics.auroc(-BEFORE, MASK) == 0.0


@pytest.mark.parametrize("measure", [metrics.contrast_ratio, metrics.michelson, metrics.auroc])
@pytest.mark.parametrize("mask", [np.zeros((2, 4), bool), np.ones((2, 4), bool), np.ones((3, 4), bool)])
def test_masks_that_do_not_fit_are_refused(measure: object, mask: np.ndarray) -> None:
    with pytest.raises(ImageError, match="mask"):
        measure(BEFORE, mask)  # type: ignore[operator]


@pytest.mark.parametrize("measure", [metrics.contrast_ratio, metrics.michelson])
def test_ratios_refuse_negative_values(measure: object) -> None:
    with pytest.raises(ImageError, match="0 or more"):
        measure(BEFORE - 20, MASK)  # type: ignore[operator]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused(value: float) -> None:
    image = BEFORE.astype(float)
    image[0, 0] = value
    for measure in (metrics.contrast_ratio, metrics.michelson, metrics.auroc, metrics.otsu_iou):
        with pytest.raises(ImageError, match="NaN or infinite"):
            measure(image, MASK)


# --- masks ------------------------------------------------------------------------------


def test_iou_and_dice_by_class() -> None:
    confusion = metrics.confusion_matrix([[0, 0, 1, 1], [0, 2, 2, 1]], [[0, 1, 1, 1], [0, 2, 0, 1]])
    np.testing.assert_array_equal(confusion, [[2, 1, 0], [0, 3, 0], [1, 0, 1]])
    iou = metrics.class_iou(confusion)
    np.testing.assert_allclose(iou, [0.5, 0.75, 0.5])
    assert np.nanmean(iou) == pytest.approx(0.58333, abs=1e-5)
    np.testing.assert_allclose(metrics.class_dice(confusion), [0.66667, 0.85714, 0.66667], atol=1e-5)
    np.testing.assert_allclose(metrics.class_dice(confusion), 2 * iou / (1 + iou))


def test_a_class_that_never_occurs_is_left_out_of_the_mean() -> None:
    confusion = metrics.confusion_matrix([0, 2], [0, 2], n_classes=4)
    np.testing.assert_array_equal(metrics.class_iou(confusion), [1, np.nan, 1, np.nan])
    np.testing.assert_array_equal(metrics.class_dice(confusion), [1, np.nan, 1, np.nan])


def test_confusion_matrices_add_up_over_images() -> None:
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 3, (2, 20)), rng.integers(0, 3, (2, 20))
    parts = [metrics.confusion_matrix(t, p, 3) for t, p in zip(truth, prediction, strict=True)]
    np.testing.assert_array_equal(sum(parts), metrics.confusion_matrix(truth, prediction, 3))


@pytest.mark.parametrize(("truth", "n"), [([0, -1], None), ([0, 3], 3)])
def test_classes_out_of_range_are_refused(truth: list[int], n: int | None) -> None:
    with pytest.raises(ParameterError, match="classes go from"):
        metrics.confusion_matrix(truth, [0, 0], n)


def test_confusion_of_different_shapes_is_refused() -> None:
    with pytest.raises(ImageError, match="expected the same"):
        metrics.confusion_matrix([0, 1], [[0, 1]])


def test_iou_and_dice_of_masks() -> None:
    a, b = np.zeros((10, 21), bool), np.zeros((10, 21), bool)
    a[:, :10] = True
    b[:, :] = True
    assert metrics.iou(a, b) == pytest.approx(100 / 210)
    assert metrics.dice(a, b) == pytest.approx(200 / 310)
    assert metrics.iou(~b, ~b) == metrics.dice(~b, ~b) == 1.0
    assert metrics.iou(a, ~b) == metrics.dice(a, ~b) == 0.0
    with pytest.raises(ImageError, match="expected the same"):
        metrics.iou(a, b.T)


def test_otsu_iou_judges_the_image_by_its_own_threshold() -> None:
    rng = np.random.default_rng(1)
    mask = np.zeros((40, 40), bool)
    mask[10:20, 10:30] = True
    good = mask + 0.05 * rng.random((40, 40))
    assert metrics.otsu_iou(good, mask) == 1.0
    assert metrics.otsu_iou(rng.random((40, 40)), mask) < 0.2
    assert metrics.otsu_iou(np.ones((40, 40)), mask) == 0.0


# --- points -----------------------------------------------------------------------------


def test_point_matching_worked_example() -> None:
    found, wanted = [(0, 0), (10, 10), (10, 12), (30, 30)], [(1, 1), (10, 11), (20, 20)]
    matches = metrics.match_points(found, wanted, 3)
    assert matches == PointMatches(tp=2, fp=2, fn=1)
    assert matches.precision == 0.5
    assert matches.recall == pytest.approx(0.6667, abs=1e-4)
    assert matches.f1 == pytest.approx(0.571429, abs=1e-6)


def test_point_matching_is_not_greedy() -> None:
    assert metrics.match_points([(0, 0), (0, 3)], [(0, 2), (0, -2)], 2.5) == PointMatches(2, 0, 0)


def test_point_matching_with_nothing_on_one_side() -> None:
    nothing = np.zeros((0, 2))
    assert metrics.match_points(nothing, nothing, 1).f1 == 1.0
    assert metrics.match_points(nothing, nothing, 1).precision == 1.0
    assert metrics.match_points([(1, 1)], nothing, 1) == PointMatches(0, 1, 0)
    assert metrics.match_points(nothing, [(1, 1), (2, 2)], 1) == PointMatches(0, 0, 2)
    assert metrics.match_points(nothing, [(1, 1)], 1).recall == 0.0
    assert metrics.match_points(nothing, [(1, 1)], 1).f1 == 0.0


def test_points_at_the_radius_match_and_beyond_it_do_not() -> None:
    assert metrics.match_points([(0, 0)], [(3, 4)], 5).tp == 1
    assert metrics.match_points([(0, 0)], [(3, 4)], 4.999).tp == 0
    assert metrics.match_points([(2, 2)], [(2, 2)], 0).tp == 1


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 14), st.integers(1, 14), st.floats(0.5, 6))
def test_grouped_matching_finds_as_many_pairs_as_one_large_assignment(seed: int, n: int, m: int, radius: float) -> None:
    rng = np.random.default_rng(seed)
    found, wanted = rng.integers(0, 12, (n, 2)), rng.integers(0, 12, (m, 2))
    is_near = np.linalg.norm(found[:, None] - wanted[None], axis=-1) <= radius
    rows, columns = linear_sum_assignment(is_near, maximize=True)
    assert metrics.match_points(found, wanted, radius).tp == is_near[rows, columns].sum()


@pytest.mark.parametrize("radius", [-1.0, np.nan, np.inf])
def test_radii_that_make_no_sense_are_refused(radius: float) -> None:
    with pytest.raises(ParameterError, match="radius"):
        metrics.match_points([(0, 0)], [(0, 0)], radius)


def test_points_of_different_dimensions_are_refused() -> None:
    with pytest.raises(ParameterError, match="same ndim"):
        metrics.match_points([(0, 0)], [(0, 0, 0)], 1)


# --- restoration ------------------------------------------------------------------------

RAMP = np.linspace(0, 1, 64 * 64).reshape(64, 64)


def test_psnr_mae_and_ssim_of_a_shifted_ramp() -> None:
    assert metrics.psnr(RAMP + 0.1, RAMP, 1.0) == pytest.approx(20.0, abs=1e-3)
    assert metrics.mae(RAMP + 0.1, RAMP) == pytest.approx(0.1)
    assert metrics.ssim(RAMP + 0.1, RAMP, 1.0) == pytest.approx(0.95297, abs=1e-5)


def test_psnr_states_its_range() -> None:
    assert metrics.psnr(RAMP + 0.1, RAMP, 10.0) == pytest.approx(40.0, abs=1e-3)
    assert metrics.psnr(RAMP, RAMP, 1.0) == float("inf")
    with pytest.raises(ParameterError, match="more than 0"):
        metrics.psnr(RAMP, RAMP, 0.0)


def test_scale_invariant_psnr_forgives_gain_and_offset_only() -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(RAMP.shape)
    plain = metrics.scale_invariant_psnr(RAMP + noise, RAMP, 1.0)
    assert metrics.scale_invariant_psnr(40 * (RAMP + noise) - 7, RAMP, 1.0) == pytest.approx(plain)
    assert plain < 25
    flat = np.full_like(RAMP, 3.0)
    assert metrics.scale_invariant_psnr(flat, RAMP, 1.0) == pytest.approx(metrics.psnr(RAMP * 0 + RAMP.mean(), RAMP, 1))


def test_images_that_cannot_be_compared_are_refused() -> None:
    for measure in (lambda: metrics.mae(RAMP, RAMP[:5]), lambda: metrics.mae([], [])):
        with pytest.raises(ImageError, match="expected the same"):
            measure()
    with pytest.raises(ImageError, match="7×7"):
        metrics.ssim(RAMP[:5], RAMP[:5], 1.0)
