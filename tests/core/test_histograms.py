"""Bins, counts and cumulative shares."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.histograms import bin_edges, counted, value_range


def test_every_pixel_is_counted_once(rng: np.random.Generator) -> None:
    image = rng.integers(0, 4096, (60, 70)).astype(np.uint16)
    histogram = counted([image], bin_edges(*value_range([image]), is_integer=True))
    assert histogram.n_pixels == image.size
    assert histogram.shares.sum() == pytest.approx(1.0)
    assert histogram.cumulative[-1] == pytest.approx(1.0)
    assert (np.diff(histogram.cumulative) >= 0).all()


def test_planes_add_up(rng: np.random.Generator) -> None:
    planes = rng.random((3, 20, 30)).astype(np.float32)
    edges = bin_edges(0.0, 1.0, is_integer=False, n_bins=16)
    together = counted(planes, edges)
    assert together.counts.tolist() == sum(counted([plane], edges).counts for plane in planes).tolist()


@pytest.mark.parametrize("high", [255, 300, 4095, 65535])
def test_bins_of_whole_numbers_hold_equally_many(high: int) -> None:
    """A ramp with every grey value once is flat: no comb."""
    edges = bin_edges(0, high, is_integer=True)
    assert len(edges) - 1 <= 256
    counts = counted([np.arange(high + 1)], edges).counts
    assert len(set(counts[:-1])) == 1
    assert counts[-1] <= counts[0]


def test_cumulative_share_at_a_known_value() -> None:
    histogram = counted([np.array([0, 0, 1, 3])], bin_edges(0, 3, is_integer=True))
    assert histogram.counts.tolist() == [2, 1, 0, 1]
    assert histogram.cumulative.tolist() == [0.5, 0.75, 0.75, 1.0]
    assert histogram.positions.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_what_is_no_number_is_left_out() -> None:
    values = np.array([np.nan, 0.0, 1.0, np.inf])
    assert value_range([values]) == (0.0, 1.0)
    assert counted([values], bin_edges(0.0, 1.0, is_integer=False)).n_pixels == 2
    with pytest.raises(ImageError, match="no numbers"):
        value_range([np.array([np.nan])])


@pytest.mark.parametrize("value", [0.0, 5.0, -2.5])
def test_a_constant_image_has_bins(value: float) -> None:
    edges = bin_edges(value, value, is_integer=False)
    assert counted([np.full(7, value)], edges).n_pixels == 7


def test_nothing_counted_has_shares_of_zero() -> None:
    histogram = counted([], np.array([0.0, 1.0]))
    assert histogram.shares.tolist() == [0.0]
    assert histogram.cumulative.tolist() == [0.0]


@pytest.mark.parametrize(("low", "high", "n"), [(0, 1, 0), (2, 1, 5), (0, np.nan, 5)])
def test_bad_bins_are_refused(low: float, high: float, n: int) -> None:
    with pytest.raises(ParameterError, match="bins"):
        bin_edges(low, high, is_integer=False, n_bins=n)
