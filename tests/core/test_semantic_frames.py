"""Pairs of frames, and the check of what they can teach."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.frame_pairs import (
    FramePairs,
    check_background,
    foreground,
    suggest_polarity,
    temporal_median,
)


def _movie(n: int = 24, speed: int = 12, depth: float = -40.0, noise: float = 2.0, size: int = 96) -> np.ndarray:
    """A square of 10 px that wanders over an uneven scene."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    scene = 120 + 20 * np.sin(y / 17) + 15 * np.cos(x / 11)
    frames = np.repeat(scene[None], n, 0) + rng.normal(0, noise, (n, size, size))
    for t in range(n):
        at = (t * speed) % (size - 10)
        frames[t, at : at + 10, (3 * t) % 80 : (3 * t) % 80 + 10] += depth
    return frames.astype(np.float32)


def test_a_good_movie_passes_and_its_median_is_the_scene() -> None:
    movie = _movie()
    check = check_background(movie)
    assert check.warnings == () and check.polarity == "dark" and check.noise == pytest.approx(2.0, rel=0.1)
    assert check.share_covered == pytest.approx(100 / 96**2, rel=0.2)
    assert check.share_unclean == 0 and check.share_staying < 0.1 and check.advised_lag == 1
    clean = _movie(depth=0, noise=0)[0]
    assert float(np.abs(check.median - clean).max()) < 3
    np.testing.assert_array_equal(temporal_median(movie), np.median(movie, axis=0))


def test_an_object_that_stays_for_most_of_the_time_is_told() -> None:
    movie = _movie()
    movie[:18, 60:80, 60:80] -= 40
    check = check_background(movie, polarity="dark")
    assert check.share_unclean == pytest.approx(400 / 96**2, rel=0.2)
    assert any("half of the frames" in sentence for sentence in check.warnings)
    assert check.coverage[70, 70] == pytest.approx(0.75, abs=0.05)
    assert any("Say which" in sentence for sentence in check_background(movie).warnings), "its median misleads"
    movie[18:, 60:80, 60:80] -= 40
    assert check_background(movie).share_unclean == 0, "what never moves is the scene: a stated limit"


def test_slow_objects_need_a_longer_lag() -> None:
    check = check_background(_movie(n=40, speed=1))
    assert check.share_staying > 0.5 and check.advised_lag > 1
    assert any(f"lag of {check.advised_lag}" in sentence for sentence in check.warnings)
    assert check_background(_movie(n=40, speed=1), lag=check.advised_lag).share_staying <= 0.5


def test_polarity_is_told_from_the_movie() -> None:
    assert suggest_polarity(_movie(depth=-40)) == "dark" and suggest_polarity(_movie(depth=40)) == "bright"
    both = _movie(depth=40)
    both[:, ::-1] += _movie(depth=-40, noise=0) - _movie(depth=0, noise=0)
    assert suggest_polarity(both) == "both"
    assert check_background(both).share_covered > check_background(both, polarity="dark").share_covered


def test_a_movie_where_nothing_moves() -> None:
    check = check_background(_movie(depth=0))
    assert check.share_covered < 1e-3 and check.share_unclean == 0
    still = np.repeat(_movie(depth=0, noise=0)[:1], 4, 0)
    assert any("Nothing seems to move" in one for one in check_background(still).warnings)
    assert any("4 frames" in one for one in check_background(still).warnings)


def test_a_flickering_lamp_is_no_object() -> None:
    movie = _movie(depth=0) + np.linspace(0, 30, 24, dtype=np.float32)[:, None, None]
    assert check_background(movie).share_covered < 1e-3


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(ImageError, match="3 frames"):
        check_background(_movie(n=2))
    with pytest.raises(ParameterError, match="lag"):
        check_background(_movie(n=6), lag=6)
    with pytest.raises(ParameterError, match="polarity"):
        check_background(_movie(n=6), polarity="grey")  # type: ignore[arg-type]


def test_the_foreground_follows_the_polarity() -> None:
    image, ground = np.array([1.0, 3.0]), np.array([2.0, 2.0])
    assert foreground(image, ground, "dark").tolist() == [1, -1]
    assert foreground(image, ground, "bright").tolist() == [-1, 1]
    assert foreground(image, ground, "both").tolist() == [1, 1]


def test_pairs_show_one_place_a_lag_apart() -> None:
    t, y, x = np.mgrid[:6, :40, :70]
    movie = (t * 1e4 + y * 1e2 + x).astype(np.float32)[:, None]
    pairs = FramePairs([movie], lag=2, patch_px=64)
    assert pairs.patch_px == 32
    before = movie.copy()
    orders, flips = set(), set()
    for seed in range(40):
        first, second = pairs.draw(np.random.default_rng(seed))
        assert first.shape == second.shape == (1, 32, 32)
        step = np.unique(second - first)
        assert step.tolist() in ([20000.0], [-20000.0]), "the same place, turned alike"
        orders.add(float(step[0]))
        flips.add((first[0, 1, 0] > first[0, 0, 0], first[0, 0, 1] > first[0, 0, 0]))
    assert len(orders) == 2 and len(flips) == 4
    np.testing.assert_array_equal(movie, before)


def test_movies_too_short_or_small_are_refused() -> None:
    with pytest.raises(ImageError, match="no two frames 3 apart"):
        FramePairs([np.zeros((3, 1, 64, 64), np.float32)], 3, 32)
    with pytest.raises(ImageError, match="needs 32 px"):
        FramePairs([np.zeros((3, 1, 64, 20), np.float32)], 1, 32)
    with pytest.raises(ImageError, match="no movie"):
        FramePairs([], 1, 32)
