"""Blobs against annotated points: pairs, thresholds, sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_cellenhance.core.detection import blob_radii, pair_points, sweep_thresholds
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.metrics import match_points

FOUND = np.array([[0, 0], [10, 10], [10, 12], [30, 30]], float)
WANTED = np.array([[1, 1], [10, 11], [20, 20]], float)


def test_pairs_of_the_worked_example() -> None:
    partner = pair_points(FOUND, WANTED, 3.0)
    assert partner[0] == 0
    assert sorted(partner[1:3]) == [-1, 1]
    assert partner[3] == -1


def test_taking_the_nearest_first_would_lose_a_pair() -> None:
    assert pair_points([[0, 0], [0, 3]], [[0, 2], [0, -2]], 2.5).tolist() == [1, 0]


def test_of_equally_many_pairs_the_closest_are_taken() -> None:
    assert pair_points([[0, 0], [0, 1]], [[0, 0.9]], 5.0).tolist() == [-1, 0]


@pytest.mark.parametrize(("found", "wanted"), [([], [[1, 1]]), ([[1, 1]], []), ([], [])])
def test_nothing_to_pair(found: list[list[float]], wanted: list[list[float]]) -> None:
    assert pair_points(np.reshape(found, (-1, 2)), np.reshape(wanted, (-1, 2)), 3.0).tolist() == [-1] * len(found)


def test_a_pair_at_the_radius_itself_counts() -> None:
    assert pair_points([[0, 0]], [[0, 3]], 3.0).tolist() == [0]
    assert pair_points([[0, 0]], [[0, 3]], 2.999).tolist() == [-1]
    assert pair_points([[0, 0]], [[0, 0]], 0.0).tolist() == [0]


def test_bad_radius_is_refused() -> None:
    with pytest.raises(ParameterError, match="radius"):
        pair_points(FOUND, WANTED, -1.0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 25), st.integers(0, 25), st.floats(0.0, 6.0))
def test_pairs_agree_with_the_counts_of_the_measure(seed: int, n: int, m: int, radius: float) -> None:
    rng = np.random.default_rng(seed)
    found, wanted = rng.random((n, 2)) * 20, rng.random((m, 2)) * 20
    partner = pair_points(found, wanted, radius)
    is_pair = partner >= 0
    assert int(is_pair.sum()) == match_points(found, wanted, radius).tp
    assert len(set(partner[is_pair])) == is_pair.sum()
    assert (np.linalg.norm(found[is_pair] - wanted[partner[is_pair]], axis=1) <= radius + 1e-9).all()


# --- sweep --------------------------------------------------------------------------------


def test_sweep_finds_the_threshold_between_objects_and_noise() -> None:
    rng = np.random.default_rng(1)
    wanted = [rng.random((12, 2)) * 100 for _ in range(2)]
    points = [np.concatenate([truth + 0.3, rng.random((20, 2)) * 100 + 500]) for truth in wanted]
    responses = [np.concatenate([np.full(12, 0.5), np.full(20, 0.1)]) for _ in wanted]
    curve = sweep_thresholds(points, responses, wanted, 2.0, np.linspace(0.0, 0.6, 61))
    assert curve.f1[0] == pytest.approx(2 * 24 / (2 * 24 + 40))
    assert curve.best_f1 == 1.0
    assert curve.best_threshold == pytest.approx(0.3, abs=0.011)  # the middle of 0.11…0.5
    assert curve.f1[-1] == curve.recall[-1] == 0.0
    assert curve.recall[0] == 1.0


def test_counts_of_planes_are_added_up_before_the_score() -> None:
    """A plane with one object must not weigh as much as one with nine."""
    nine, one = np.arange(18.0).reshape(9, 2) * 10, np.array([[0.0, 0.0]])
    curve = sweep_thresholds([nine, one + 50], [np.ones(9), np.ones(1)], [nine, one], 1.0, [0.5])
    assert curve.f1.tolist() == [pytest.approx(2 * 9 / (2 * 9 + 1 + 1))]


def test_a_sweep_over_shared_counts_equals_single_scores() -> None:
    rng = np.random.default_rng(2)
    points, responses, wanted = rng.random((50, 2)) * 30, rng.random(50), rng.random((20, 2)) * 30
    levels = np.linspace(0, 1, 23)
    curve = sweep_thresholds([points], [responses], [wanted], 2.0, levels[::-1])
    assert curve.thresholds.tolist() == levels.tolist()
    singles = [match_points(points[responses >= level], wanted, 2.0) for level in levels]
    assert curve.f1.tolist() == [single.f1 for single in singles]
    assert curve.precision.tolist() == [single.precision for single in singles]


def test_sweep_says_what_is_missing() -> None:
    with pytest.raises(ParameterError, match="no threshold"):
        sweep_thresholds([], [], [], 1.0, [])
    with pytest.raises(ParameterError, match="same number"):
        sweep_thresholds([FOUND], [np.ones(4)], [], 1.0, [0.1])


# --- sizes --------------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [5.0, 8.0])
def test_radius_of_a_disc_is_found_near_the_guess(radius: float) -> None:
    y, x = np.mgrid[:80, :80]
    disc = (np.hypot(y - 40, x - 40) <= radius).astype(np.float32)
    for guess in (0.8 * radius, 1.2 * radius):
        (found,) = blob_radii(disc, np.array([[40.0, 40.0]]), guess)
        assert found == pytest.approx(radius, rel=0.15)


def test_radii_of_nothing_and_of_what_is_no_plane() -> None:
    assert blob_radii(np.zeros((9, 9), np.float32), np.zeros((0, 2)), 3.0).shape == (0,)
    with pytest.raises(ImageError, match="plane by plane"):
        blob_radii(np.zeros((2, 9, 9), np.float32), np.zeros((1, 2)), 3.0)
    with pytest.raises(ParameterError, match="more than 0"):
        blob_radii(np.zeros((9, 9), np.float32), np.zeros((1, 2)), 0.0)
