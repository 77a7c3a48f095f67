"""Average precision and SEG on examples worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.instances import Overlaps, match_instances, overlaps, seg, seg_terms


def _canvas(shape: tuple[int, int], *boxes: tuple[slice, slice]) -> NDArray[np.int64]:
    labels = np.zeros(shape, np.int64)
    for number, box in enumerate(boxes, start=1):
        labels[box] = number
    return labels


TRUTH = _canvas(
    (20, 40),
    np.s_[2:12, 2:12],
    np.s_[2:12, 14:24],
    np.s_[2:12, 26:36],
    np.s_[14:18, 2:6],
)
FOUND = _canvas(
    (20, 40),
    np.s_[2:12, 2:12],
    np.s_[2:12, 18:28],
    np.s_[5:11, 29:39],
    np.s_[14:18, 30:34],
)


def test_worked_example() -> None:
    # The second object found overwrites nothing of the third: its columns end at 27.
    shared = overlaps(TRUTH, FOUND)
    assert shared.iou[0, 0] == 1
    assert shared.iou[1, 1] == pytest.approx(60 / 140)
    assert shared.iou[2, 1] == pytest.approx(20 / 180)
    assert shared.iou[2, 2] == pytest.approx(42 / 118)
    matches = match_instances(shared)
    assert (matches.tp, matches.fp, matches.fn) == (1, 3, 3)
    assert matches.average_precision == pytest.approx(0.142857, abs=1e-6)
    assert matches.precision == matches.recall == matches.f1 == 0.25
    np.testing.assert_allclose(seg_terms(shared), [1, 60 / 140, 0, 0])
    assert seg(TRUTH, FOUND) == pytest.approx(0.357143, abs=1e-6)


def test_two_objects_in_one() -> None:
    truth = _canvas((14, 30), np.s_[2:12, 2:12], np.s_[2:12, 13:23])
    found = _canvas((14, 30), np.s_[2:12, 2:23])
    matches = match_instances(overlaps(truth, found))
    assert (matches.tp, matches.fp, matches.fn) == (0, 1, 2)
    assert matches.average_precision == 0
    assert seg(truth, found) == pytest.approx(0.476190, abs=1e-6)


def test_exactly_half_matches_but_does_not_count_for_seg() -> None:
    truth, found = _canvas((14, 14), np.s_[2:12, 2:12]), _canvas((14, 14), np.s_[2:12, 2:7])
    assert match_instances(overlaps(truth, found)).average_precision == 1
    more_than_half = float(np.nextafter(0.5, 1.0))
    assert match_instances(overlaps(truth, found), more_than_half).average_precision == 0
    assert seg(truth, found) == 0


def test_one_object_in_two_halves() -> None:
    truth = _canvas((14, 14), np.s_[2:12, 2:12])
    found = _canvas((14, 14), np.s_[2:12, 2:7], np.s_[2:12, 7:12])
    matches = match_instances(overlaps(truth, found))
    assert matches.average_precision == matches.precision == 0.5
    assert (matches.recall, matches.f1) == (1.0, pytest.approx(2 / 3))
    assert seg(truth, found) == 0


def test_nothing_wanted_or_nothing_found() -> None:
    empty, some = np.zeros((5, 5), int), _canvas((5, 5), np.s_[1:3, 1:3])
    nothing = match_instances(overlaps(empty, empty))
    assert nothing.average_precision == nothing.precision == nothing.recall == nothing.f1 == 1
    assert match_instances(overlaps(empty, some)).average_precision == 0
    assert match_instances(overlaps(some, empty)).average_precision == 0
    assert seg(some, empty) == 0
    assert math.isnan(seg(empty, some))


def test_ids_need_not_be_consecutive() -> None:
    shared, renamed = overlaps(TRUTH, FOUND), overlaps(TRUTH * 1000, FOUND * 7)
    np.testing.assert_array_equal(shared.shared, renamed.shared)


def test_the_pairs_are_as_many_as_possible() -> None:
    # The largest overlap first would pair 1 with 1 and leave one over.
    shared = Overlaps(np.array([[60, 55], [50, 0]]), np.array([80, 60]), np.array([70, 65]))
    assert match_instances(shared, 0.4).tp == 2


def test_small_objects_found_can_be_dropped() -> None:
    kept = overlaps(TRUTH, FOUND).without_small(50)
    assert kept.found_sizes.tolist() == [100, 100, 60]
    assert match_instances(kept).fp == 2


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ImageError, match="shape"):
        overlaps(np.zeros((2, 2), int), np.zeros((2, 3), int))
    with pytest.raises(ImageError, match="negative"):
        overlaps([-1, 0], [0, 0])
    with pytest.raises(ParameterError, match="least overlap"):
        match_instances(overlaps([1], [1]), 0.0)
