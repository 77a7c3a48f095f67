"""Points in labels, boxes on boxes, and two conditions, by numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.localisation import (
    BoxTally,
    HitTally,
    box_iou,
    boxes_of,
    compare,
    match_boxes,
    match_points_in_labels,
    z_factor,
)
from napari_cellenhance.core.metrics import PointMatches
from napari_cellenhance.core.postprocess import label_boxes


def worked_example() -> tuple[np.ndarray, np.ndarray]:
    """Four objects wanted and four found on 20 × 40 px, as in METHODS of this project, example A."""
    truth, found = np.zeros((20, 40), int), np.zeros((20, 40), int)
    for i, x in enumerate((2, 14, 26), 1):
        truth[2:12, x : x + 10] = i
    truth[14:18, 2:6] = 4
    found[2:12, 2:12], found[2:12, 18:28], found[5:11, 29:39], found[14:18, 30:34] = 1, 2, 3, 4
    return truth, found


# --- points -----------------------------------------------------------------------------------


def test_a_label_counts_once() -> None:
    _, found = worked_example()
    points = [(5, 5), (6, 6), (5, 20), (0, 0), (19, 39)]
    # Labels 1 and 2 are hit, 3 and 4 are not; the second point on 1 and the two on the ground are missed.
    matches = match_points_in_labels(found, points)
    assert matches == PointMatches(tp=2, fp=2, fn=3)
    assert (matches.precision, matches.recall) == (0.5, 0.4) and round(matches.f1, 4) == 0.4444


def test_points_are_rounded_to_their_pixel() -> None:
    labels = np.zeros((4, 4), np.uint16)
    labels[1, 1] = 9
    assert match_points_in_labels(labels, [(1.49, 0.51)]).tp == 1
    assert match_points_in_labels(labels, [(1.51, 1.0)]).tp == 0
    assert match_points_in_labels(labels, [(-1, 1), (4, 1)]) == PointMatches(0, 1, 2)


def test_nothing_wanted_and_nothing_found() -> None:
    nothing = match_points_in_labels(np.zeros((3, 3), int), [])
    assert nothing == PointMatches(0, 0, 0) and nothing.f1 == 1


def test_hits_of_several_planes_add_up() -> None:
    labels = np.array([[1, 0, 2]])
    tally, other = HitTally(), HitTally()
    tally.add([(0, 0)], labels)
    other.add([(0, 1), (0, 2)], labels)
    tally.merge(other)
    assert tally.matches == PointMatches(2, 2, 1) and tally.n_planes == 2


@pytest.mark.parametrize(
    ("labels", "points"),
    [(np.zeros((2, 2)), []), (np.zeros((2, 2, 2), int), []), (np.zeros((2, 2), int), [(1, 1, 1)]),
     (np.zeros((2, 2), int), [(np.nan, 1)])],
)  # fmt: skip
def test_points_and_labels_that_do_not_fit(labels: np.ndarray, points: Any) -> None:
    with pytest.raises(ImageError, match="expected"):
        match_points_in_labels(labels, points)


# --- boxes ------------------------------------------------------------------------------------


def test_overlaps_of_the_worked_example() -> None:
    truth, found = worked_example()
    wanted, boxes = boxes_of(label_boxes(truth)), boxes_of(label_boxes(found))
    iou = box_iou(wanted, boxes)
    assert iou[0, 0] == 1 and iou[1, 1] == pytest.approx(60 / 140) and iou[2, 1] == pytest.approx(20 / 180)
    assert iou[2, 2] == pytest.approx(42 / 118) and iou[3].max() == 0
    assert match_boxes(boxes, wanted) == PointMatches(1, 3, 3)
    assert match_boxes(boxes, wanted, 0.4) == PointMatches(2, 2, 2)
    assert match_boxes(boxes, wanted, 0.3) == PointMatches(3, 1, 1)


def test_half_is_not_more_than_half() -> None:
    whole, half = [(0, 0, 10, 10)], [(0, 0, 10, 5)]
    assert box_iou(whole, half)[0, 0] == 0.5
    assert match_boxes(half, whole).tp == 0 and match_boxes(half, whole, 0.49).tp == 1


def test_as_many_pairs_as_possible() -> None:
    # Each takes the best for itself: only one pair. Together: two.
    found = [(0, 0, 10, 10), (0, 6, 10, 16)]
    wanted = [(0, 1, 10, 11), (0, -4, 10, 6)]
    assert match_boxes(found, wanted, 0.3).tp == 2


def test_boxes_and_pixels_add_up() -> None:
    truth, found = worked_example()
    tally, other = BoxTally(), BoxTally()
    tally.add(truth, found)
    assert tally.matches == PointMatches(1, 3, 3)
    assert tally.iou == pytest.approx((100 + 60 + 20 + 42) / (316 + 276 - 222))
    other.add(truth, truth)
    tally.merge(other)
    assert tally.matches == PointMatches(5, 3, 3) and tally.n_planes == 2
    assert tally.iou == pytest.approx((222 + 316) / (370 + 316))
    assert BoxTally().iou == 1


@pytest.mark.parametrize("boxes", [[(1, 2, 3)], [(0, 0, 0, 5)], [(0, 0, np.nan, 5)]])
def test_boxes_that_are_none(boxes: Any) -> None:
    with pytest.raises(ImageError):
        box_iou(boxes, [])
    with pytest.raises(ImageError):
        BoxTally().add(np.zeros((2, 2), int), np.zeros((2, 3), int))


def test_no_boxes_and_a_threshold_out_of_range() -> None:
    assert match_boxes([], [(0, 0, 1, 1)]) == PointMatches(0, 0, 1)
    assert match_boxes([], []).f1 == 1
    with pytest.raises(ParameterError, match="less than 1"):
        match_boxes([], [], 1.0)


# --- conditions -------------------------------------------------------------------------------


def test_the_z_factor_by_hand() -> None:
    # Means 10 and 30, deviations 1 and 2: 1 − 3·3/20.
    assert z_factor([9, 10, 11], [28, 30, 32]) == pytest.approx(0.55)
    assert z_factor([28, 30, 32], [9, 10, 11]) == pytest.approx(0.55)
    assert z_factor([1, 3], [2, 2]) == float("-inf")


def test_p_values_say_which() -> None:
    first, second = [1, 2, 3, 4, 5], [6, 7, 8, 9, 10]
    result = compare(first, second)
    # All of the ranks apart: 2 of the C(10, 5) = 252 orders are as extreme.
    assert result.mann_whitney_p == pytest.approx(2 / 252)
    # t = −5 with 8 degrees of freedom.
    assert result.welch_p == pytest.approx(0.0010528, rel=1e-3)
    assert result.n == (5, 5) and result.mean == (3, 8) and result.sd == pytest.approx((1.5811, 1.5811), abs=1e-4)
    assert result.z_factor == pytest.approx(1 - 3 * 2 * np.sqrt(2.5) / 5)
    assert compare(second, first).mann_whitney_p == result.mann_whitney_p


def test_conditions_that_do_not_differ_or_vary() -> None:
    same = compare([1, 2, 3], [1, 2, 3])
    assert same.mann_whitney_p == 1 and same.welch_p == 1
    assert np.isnan(compare([1, 1], [2, 2]).welch_p)


def test_too_few_values() -> None:
    with pytest.raises(ParameterError, match="at least two"):
        compare([1], [2, 3])
    with pytest.raises(ParameterError, match="no numbers"):
        z_factor([1, np.nan], [2, 3])
