"""Strength by region: rounding, painted labels, soft edges."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.strength import quantize, shares, step_of, strengths_of_labels

WHOLE = (slice(None), slice(None))


def test_a_map_is_rounded_to_a_fortieth_of_the_slider(rng: np.random.Generator) -> None:
    values = rng.uniform(0, 10, (40, 50))
    rounded = quantize(values, 5.0)
    assert np.abs(rounded - values).max() <= 0.125
    assert np.allclose(rounded / step_of(10.0), np.round(rounded / step_of(10.0)))
    assert len(np.unique(rounded)) <= 41


def test_weak_strengths_are_raised_to_the_filters_least_but_zero_stays() -> None:
    assert quantize(np.array([0.0, 0.25, 0.5, 4.0]), 1.0, minimum=0.5).tolist() == [0.0, 0.5, 0.5, 4.0]


@pytest.mark.parametrize("wrong", [-0.1, 10.5, 255.0, np.inf])
def test_values_off_the_slider_are_refused(wrong: float) -> None:
    with pytest.raises(ParameterError, match="expected strengths from 0 to 10"):
        quantize(np.array([1.0, wrong]), 5.0)


def test_nothing_said_is_the_slider() -> None:
    assert quantize(np.full((2, 2), np.nan), 3.14).tolist() == np.full((2, 2), np.float32(3.14)).tolist()
    labels = np.array([[0, 1], [2, 3]])
    assert strengths_of_labels(labels, {1: 8.0, 2: 99.0, 0: 1.0}, 4.0).tolist() == [[4.0, 8.0], [10.0, 4.0]]
    assert strengths_of_labels(labels, {1: 0.0, 2: 0.2}, 4.0, minimum=0.5)[0, 1] == 0.0


def test_labels_are_whole_numbers() -> None:
    with pytest.raises(ParameterError, match="whole numbers"):
        strengths_of_labels(np.array([0.5]), {1: 8.0}, 4.0)
    with pytest.raises(ParameterError, match="label 1 has the strength nan"):
        strengths_of_labels(np.array([1]), {1: float("nan")}, 4.0)


@pytest.mark.parametrize("edge_px", [0, 4, 5])
def test_weights_sum_to_one_and_do_not_depend_on_the_window(edge_px: int, rng: np.random.Generator) -> None:
    strengths = rng.integers(0, 3, (9, 11)).repeat(6, 0).repeat(6, 1).astype(np.float32)
    whole = dict(shares(strengths, WHOLE, edge_px))
    np.testing.assert_allclose(np.sum(list(whole.values()), axis=0), 1.0, atol=1e-6)
    margin, window = edge_px // 2, (slice(13, 40), slice(20, 51))
    outer = strengths[13 - margin : 40 + margin, 20 - margin : 51 + margin]
    inside = (slice(margin, margin + 27), slice(margin, margin + 31))
    for strength, weight in shares(outer, inside, edge_px):
        np.testing.assert_allclose(weight, whole[strength][window], atol=1e-6)


def test_soft_edges_fade_over_their_width() -> None:
    strengths = np.zeros((20, 20), np.float32)
    strengths[:, 10:] = 8.0
    sharp, soft = dict(shares(strengths, WHOLE, 0))[8.0], dict(shares(strengths, WHOLE, 4))[8.0]
    assert set(np.unique(sharp)) == {0.0, 1.0}
    assert np.allclose(soft[5, 6:14], [0.0, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    with pytest.raises(ParameterError, match="0 or more"):
        shares(strengths, WHOLE, -1)


def test_a_strength_beside_the_window_is_none_of_it() -> None:
    strengths = np.zeros((8, 8), np.float32)
    strengths[:, 6:] = 8.0
    (only,) = shares(strengths, (slice(0, 8), slice(0, 4)), 2)
    assert only[0] == 0.0 and np.array_equal(only[1], np.ones((8, 4)))
