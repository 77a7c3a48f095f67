"""Planes added up give what the whole gives, and the worked numbers of the measures."""

from __future__ import annotations

import math

import numpy as np
import pytest

from napari_cellenhance.core import metrics
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.instances import match_instances, overlaps, seg_terms
from napari_cellenhance.core.pooled_scores import ClassTally, ImageTally, ObjectTally, PointTally

RAMP = np.linspace(0, 1, 64 * 64).reshape(64, 64)


# --- grey values ----------------------------------------------------------------------------


def test_the_worked_numbers_of_restoration() -> None:
    tally = ImageTally(1.0)
    tally.add(RAMP, RAMP + 0.1)
    assert tally.psnr == pytest.approx(20.0, abs=1e-3)
    assert tally.mae == pytest.approx(0.1)
    assert tally.ssim == pytest.approx(0.95297, abs=1e-5)
    assert tally.affine_psnr == float("inf"), "a shift is fitted away"
    assert not tally.is_inverted


def test_planes_are_pooled(rng: np.random.Generator) -> None:
    truth = 1000 + 50 * rng.standard_normal((3, 20, 24))
    image = 0.3 * truth + 7 + rng.standard_normal(truth.shape) * np.array([1, 5, 20])[:, None, None]
    tally = ImageTally(400.0)
    for y, x in zip(truth, image, strict=True):
        tally.add(y, x)
    assert tally.psnr == pytest.approx(metrics.psnr(image, truth, 400.0))
    assert tally.affine_psnr == pytest.approx(metrics.scale_invariant_psnr(image, truth, 400.0))
    assert tally.mae == pytest.approx(metrics.mae(image, truth))
    assert tally.ssim == pytest.approx(np.mean([metrics.ssim(x, y, 400.0) for x, y in zip(image, truth, strict=True)]))
    assert (tally.n_planes, tally.n_pixels, tally.n_left_out) == (3, truth.size, 0)


def test_large_offsets_keep_their_digits(rng: np.random.Generator) -> None:
    truth = rng.standard_normal((16, 16))
    image = truth + 0.1 * rng.standard_normal(truth.shape)
    near, far = ImageTally(1.0), ImageTally(1.0)
    near.add(truth, image)
    far.add(truth + 1e7, image + 1e7)
    assert far.affine_psnr == pytest.approx(near.affine_psnr, abs=1e-4)


def test_pixels_that_are_no_numbers_are_left_out() -> None:
    image = RAMP + 0.1
    image[3, 4] = np.nan
    tally = ImageTally(1.0)
    tally.add(RAMP, image)
    assert tally.psnr == pytest.approx(20.0, abs=1e-3)
    assert (tally.n_left_out, tally.n_pixels, tally.n_without_ssim) == (1, RAMP.size - 1, 1)
    assert math.isnan(tally.ssim)


def test_nothing_is_told_without_pixels_and_no_fit_to_a_constant() -> None:
    tally = ImageTally(1.0)
    assert all(math.isnan(value) for value in (tally.psnr, tally.affine_psnr, tally.mae, tally.ssim))
    tally.add(np.full((8, 8), 3.0), RAMP[:8, :8])
    assert math.isnan(tally.affine_psnr) and tally.psnr < 0
    before = (tally.psnr, tally.mae, tally.n_pixels)
    tally.add(RAMP, np.full_like(RAMP, np.nan))
    assert (tally.psnr, tally.mae, tally.n_pixels) == before
    assert (tally.n_planes, tally.n_left_out) == (2, RAMP.size)


def test_an_image_upside_down_is_forgiven_and_told() -> None:
    tally = ImageTally(1.0)
    tally.add(RAMP, 1 - RAMP)
    assert tally.affine_psnr == float("inf") and tally.is_inverted


@pytest.mark.parametrize("data_range", [0.0, -1.0, math.nan, math.inf])
def test_ranges_that_make_no_sense_are_refused(data_range: float) -> None:
    with pytest.raises(ParameterError, match="data range"):
        ImageTally(data_range)


def test_different_shapes_are_refused() -> None:
    with pytest.raises(ImageError, match="expected the same"):
        ImageTally(1.0).add(RAMP, RAMP[:5])
    with pytest.raises(ImageError, match="expected the same"):
        ClassTally().add([0, 1], [[0, 1]])


# --- objects --------------------------------------------------------------------------------


def _squares() -> tuple[np.ndarray, np.ndarray]:
    """Two planes: one object in place and one that half fits, then one found in vain."""
    truth, found = np.zeros((2, 14, 26), int), np.zeros((2, 14, 26), int)
    truth[0, 2:12, 2:12], truth[0, 2:12, 14:24] = 1, 2
    found[0, 2:12, 2:12], found[0, 2:12, 12:19] = 1, 2
    found[1, 2:5, 2:5] = 9
    return truth, found


def test_objects_of_planes_are_pooled() -> None:
    truth, found = _squares()
    tally = ObjectTally((0.3, 0.5))
    for plane in zip(truth, found, strict=True):
        tally.add(*plane)
    counts = [match_instances(overlaps(t, f), 0.5) for t, f in zip(truth, found, strict=True)]
    assert tally.matches[0.5].tp == sum(each.tp for each in counts) == 1
    assert tally.matches[0.5].fp == sum(each.fp for each in counts) == 2
    assert (tally.n_true, tally.n_found) == (2, 3)
    assert tally.matches[0.3].average_precision > tally.matches[0.5].average_precision == pytest.approx(1 / 4)
    assert tally.seg == pytest.approx(seg_terms(overlaps(truth[0], found[0])).mean())
    assert tally.iou == pytest.approx(metrics.iou(truth, found))
    assert tally.dice == pytest.approx(metrics.dice(truth, found))


def test_merging_objects_equals_adding_all_planes() -> None:
    truth, found = _squares()
    parts, whole = [ObjectTally((0.5,)), ObjectTally((0.5,))], ObjectTally((0.5,))
    for part, plane in zip(parts, zip(truth, found, strict=True), strict=True):
        part.add(*plane)
        whole.add(*plane)
    parts[0].merge(parts[1])
    assert parts[0].matches == whole.matches
    assert (parts[0].seg, parts[0].iou, parts[0].n_planes) == (whole.seg, whole.iou, 2)


def test_nothing_wanted_and_nothing_found_is_perfect() -> None:
    tally = ObjectTally((0.5,))
    tally.add(np.zeros((4, 4), int), np.zeros((4, 4), int))
    assert tally.matches[0.5].average_precision == tally.iou == tally.dice == 1.0
    assert math.isnan(tally.seg)


# --- classes --------------------------------------------------------------------------------


def test_the_worked_numbers_of_classes() -> None:
    tally = ClassTally()
    tally.add([[0, 0, 1, 1], [0, 2, 2, 1]], [[0, 1, 1, 1], [0, 2, 0, 1]])
    np.testing.assert_array_equal(tally.confusion, [[2, 1, 0], [0, 3, 0], [1, 0, 1]])
    assert tally.iou == {0: 0.5, 1: 0.75, 2: 0.5}
    assert tally.mean_iou == pytest.approx(0.58333, abs=1e-5)
    assert list(tally.dice.values()) == pytest.approx([0.66667, 0.85714, 0.66667], abs=1e-5)
    assert tally.mean_dice == pytest.approx((2 * 0.66667 + 0.85714) / 3, abs=1e-5)


def test_classes_keep_their_numbers_and_are_pooled(rng: np.random.Generator) -> None:
    truth, found = rng.choice([1, 5, 255], (2, 2, 30))
    whole, parts = ClassTally(), [ClassTally(), ClassTally()]
    whole.add(truth, found)
    for part, t, f in zip(parts, truth, found, strict=True):
        part.add(t, f)
    parts[0].merge(parts[1])
    assert whole.classes == parts[0].classes == (1, 5, 255)
    assert parts[0].iou == whole.iou and parts[0].n_pixels == whole.n_pixels == 60


def test_ignored_pixels_count_for_nothing() -> None:
    tally = ClassTally(ignore=0)
    tally.add([0, 1, 2, 2], [1, 1, 2, 1])
    assert tally.iou == {1: 0.5, 2: 0.5} and tally.n_pixels == 3


def test_numbered_objects_are_no_classes() -> None:
    with pytest.raises(ImageError, match="compared as objects"):
        ClassTally().add(np.arange(200), np.arange(200))


# --- points ---------------------------------------------------------------------------------


def test_the_worked_numbers_of_points() -> None:
    tally = PointTally(3)
    tally.add([(1, 1), (10, 11), (20, 20)], [(0, 0), (10, 10), (10, 12), (30, 30)])
    assert (tally.matches.tp, tally.matches.fp, tally.matches.fn) == (2, 2, 1)
    assert tally.matches.f1 == pytest.approx(0.571429, abs=1e-6)


def test_points_match_within_their_plane_only() -> None:
    tally = PointTally(3)
    tally.add([(0, 5, 5), (1, 5, 5)], [(0, 5, 6), (0, 6, 5), (2, 5, 5)])
    assert (tally.matches.tp, tally.matches.fp, tally.matches.fn) == (1, 2, 1)
    assert tally.n_planes == 3
    tally.merge(PointTally(3, 1, metrics.PointMatches(1, 0, 0)))
    assert (tally.matches.tp, tally.n_planes) == (2, 4)


def test_no_points_at_all_is_perfect_and_dimensions_must_agree() -> None:
    tally = PointTally(3)
    tally.add(np.zeros((0, 2)), np.zeros((0, 2)))
    assert tally.matches.f1 == 1.0
    tally.add(np.zeros((0, 2)), [(1, 2, 3)])
    assert tally.matches.fp == 1
    with pytest.raises(ImageError, match="coordinates"):
        tally.add([(1, 1)], [(1, 1, 1)])
