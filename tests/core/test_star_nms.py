"""One star per object (METHODS §7.1, T-D3)."""

from __future__ import annotations

import builtins
import importlib.util
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from napari_cellenhance.core import star_nms
from napari_cellenhance.core.errors import MissingExtraError, ParameterError
from napari_cellenhance.core.star_nms import candidates, chosen_engine, suppress, without_border
from napari_cellenhance.core.star_shapes import Stars, star_targets

HAS_STARDIST = importlib.util.find_spec("stardist") is not None
ENGINES = ("numpy", "stardist") if HAS_STARDIST else ("numpy",)
"""Where the package is not installed, the tests that compare with it hold the numpy engine against itself."""


@pytest.fixture(autouse=True)
def _forget_the_package() -> Iterator[None]:
    yield
    star_nms._has_stardist.cache_clear()


def _discs(*places: tuple[float, float, float, float], n_rays: int = 32) -> Stars:
    """Stars from (row, column, radius, probability)."""
    rows = np.array(places)
    return Stars.of(rows[:, :2], rows[:, 2, None].repeat(n_rays, axis=1), rows[:, 3])


def _shared(gap: float, radius: float) -> float:
    """Part of its area that a disc shares with another at this distance."""
    lens = 2 * radius**2 * np.arccos(gap / (2 * radius)) - gap / 2 * np.sqrt(4 * radius**2 - gap**2)
    return float(lens / (np.pi * radius**2))


def _crowd(seed: int, n: int = 150) -> Stars:
    rng = np.random.default_rng(seed)
    size = rng.choice([2.0, 5.0, 14.0], (n, 1))
    return Stars.of(
        rng.integers(0, 60, (n, 2)), size * rng.uniform(0.6, 1.1, (n, 32)), rng.choice(np.linspace(0.1, 1, 20), n)
    )


def _same(a: Stars, b: Stars) -> bool:
    return a.centres.shape == b.centres.shape and bool(
        (a.centres == b.centres).all()
        and (a.distances == b.distances).all()
        and (a.probabilities == b.probabilities).all()
    )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("radius", [1.0, 3.0, 10.0, 80.0])
def test_duplicates_become_one(engine: Any, radius: float) -> None:
    left = suppress(_discs(*[(50, 50, radius, 0.7)] * 4, (50, 50, radius, 0.9)), engine=engine).stars
    assert left.probabilities.tolist() == [0.9]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("radius", [4.0, 20.0])
def test_overlap_is_measured_by_the_smaller_area(engine: Any, radius: float) -> None:
    gap = np.interp(0.3, [_shared(g, 1.0) for g in np.linspace(1.99, 0.01, 200)], np.linspace(1.99, 0.01, 200)) * radius
    assert _shared(gap, radius) == pytest.approx(0.3, abs=0.01)
    two = _discs((50, 50, radius, 0.9), (50, 50 + gap, radius, 0.8))
    assert len(suppress(two, engine=engine).stars) == 2, "30 % shared survives at 40 %"
    assert len(suppress(two, max_overlap=0.2, engine=engine).stars) == 1
    nested = _discs((50, 50, radius, 0.9), (50, 50 + radius / 2, radius / 4, 0.8))
    assert len(suppress(nested, engine=engine).stars) == 1, "6 % of the union, all of the smaller one"
    other = _discs((50, 50, radius, 0.8), (50, 50 + radius / 2, radius / 4, 0.9))
    assert suppress(other, engine=engine).stars.distances[:, 0].tolist() == [radius / 4]


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_the_candidates_does_not_matter(seed: int) -> None:
    stars = _crowd(seed)
    left = suppress(stars, engine="numpy").stars
    assert 10 < len(left) < 140
    for i in range(3):
        order = np.random.default_rng(i).permutation(len(stars))
        assert _same(suppress(stars.take(order), engine="numpy").stars, left)
    assert (np.diff(left.probabilities) <= 0).all(), "the most probable first"


def test_equally_probable_stars_at_one_place_have_a_fixed_order() -> None:
    wide, narrow = np.full(32, 8.0), np.full(32, 7.0)
    both = Stars.of([[20, 20], [20, 20]], [wide, narrow], [0.5, 0.5])
    for order in ([0, 1], [1, 0]):
        assert suppress(both.take(np.array(order)), engine="numpy").stars.distances[:, 0].tolist() == [7.0]
    ties = _discs((22, 20, 6, 0.5), (20, 22, 6, 0.5), (20, 20, 6, 0.5))
    assert suppress(ties, engine="numpy").stars.centres.tolist() == [[20, 20]], "upper, then left"


def test_shortcuts_and_the_search_for_neighbours_change_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    stars = _crowd(7, n=60)
    left = suppress(stars, engine="numpy").stars
    ordered = stars.take(star_nms._order(stars))
    is_kept = np.ones(len(ordered), np.bool_)
    for i in range(len(ordered)):
        for j in range(i + 1, len(ordered)):
            if is_kept[i] and is_kept[j]:
                shared = star_nms._shared_areas(ordered, ordered.areas, i, np.array([j]))[0]
                is_kept[j] = shared <= 0.4 * min(ordered.areas[i], ordered.areas[j])
    assert _same(left, ordered.take(is_kept))
    monkeypatch.setattr(star_nms, "_MAX_TESTS", 1)
    assert _same(suppress(stars, engine="numpy").stars, left)


def test_what_remains_at_a_higher_threshold_is_a_part_of_what_remains_at_a_lower_one() -> None:
    stars = _crowd(3)
    left = suppress(stars, engine="numpy").stars
    above = suppress(stars.take(stars.probabilities > 0.5), engine="numpy").stars
    assert _same(above, left.take(left.probabilities > 0.5))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("grid", [1, 2])
def test_both_engines_keep_the_same_of_clear_objects(engine: Any, grid: int) -> None:
    """Runs against the package where it is installed; elsewhere against the known number of objects only."""
    labels = np.zeros((80, 100), int)
    yy, xx = np.mgrid[:80, :100]
    for i, (y, x) in enumerate([(15, 15), (15, 45), (18, 80), (50, 20), (52, 55), (55, 72), (79, 99)], start=1):
        labels[((yy - y) / 10) ** 2 + ((xx - x) / (6 + i % 3)) ** 2 <= 1] = i
    targets = star_targets(labels, grid=grid)
    found = candidates(targets.probabilities, targets.distances, threshold=0.3, grid=grid)
    result = suppress(found, engine=engine)
    assert result.engine == engine and len(result.stars) == 7
    assert _same(result.stars, suppress(found, engine="numpy").stars)


def test_no_candidate_and_a_single_one() -> None:
    none = candidates(np.zeros((5, 6)), np.ones((32, 5, 6)), threshold=0.0)
    assert len(none) == 0 and len(suppress(none, engine="numpy").stars) == 0
    one = _discs((3, 3, 2, 0.5))
    assert _same(suppress(one, engine="numpy").stars, one)


def test_candidates_are_above_the_threshold_and_on_the_grid() -> None:
    probabilities = np.array([[0.5, 0.6], [0.9, 0.1]])
    distances = np.arange(12.0).reshape(3, 2, 2) + 1
    found = candidates(probabilities, distances, threshold=0.5, grid=2, origin=(10, 20))
    assert found.centres.tolist() == [[10, 22], [12, 20]] and found.probabilities.tolist() == [0.6, 0.9]
    assert found.distances.tolist() == [[2.0, 6.0, 10.0], [3.0, 7.0, 11.0]]


def test_the_border_can_be_left_out() -> None:
    found = candidates(np.ones((5, 6)), np.ones((32, 5, 6)), threshold=0.5, grid=2)
    assert len(without_border(found, (10, 12), 0, 2)) == 30
    inner = without_border(found, (10, 12), 2, 2)
    assert inner.centres.tolist() == [[4, 4], [4, 6]]
    assert len(without_border(found, (9, 11), 2, 2)) == 2, "the last sample counts, not the last pixel"
    with pytest.raises(ParameterError, match="border"):
        without_border(found, (10, 12), -1)


def test_it_can_be_stopped() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        suppress(_crowd(0), engine="numpy", checkpoint=stop)


def test_without_the_package_numpy_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def no_stardist(name: str, *args: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "stardist":
            raise ImportError(name)
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", no_stardist)
    star_nms._has_stardist.cache_clear()
    assert chosen_engine() == "numpy" and suppress(_crowd(0)).engine == "numpy"
    with pytest.raises(MissingExtraError, match=r"napari-cellenhance\[stardist\]"):
        chosen_engine("stardist")


def test_with_the_package_its_code_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    from types import ModuleType

    seen: dict[str, Any] = {}

    def compiled(dist: np.ndarray, points: np.ndarray, scores: np.ndarray, thresh: float, verbose: int) -> np.ndarray:
        seen.update(scores=scores, thresh=thresh)
        return np.arange(len(dist)) == 0

    package, module = ModuleType("stardist"), ModuleType("stardist.nms")
    module.non_maximum_suppression_inds = compiled  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "stardist", package)
    monkeypatch.setitem(sys.modules, "stardist.nms", module)
    star_nms._has_stardist.cache_clear()
    result = suppress(_crowd(0), max_overlap=0.3)
    assert result.engine == "stardist" and len(result.stars) == 1
    assert seen["thresh"] == 0.3 and (np.diff(seen["scores"]) <= 0).all()


def test_settings_out_of_range_are_refused() -> None:
    stars = _discs((3, 3, 2, 0.5))
    with pytest.raises(ParameterError, match="largest overlap"):
        suppress(stars, max_overlap=1.5)
    with pytest.raises(ParameterError, match="engine"):
        suppress(stars, engine="fast")  # type: ignore[arg-type]
    ones = np.ones((32, 4, 5))
    with pytest.raises(ParameterError, match="threshold"):
        candidates(np.ones((4, 5)), ones, threshold=1.2)
    with pytest.raises(ParameterError, match="grid"):
        candidates(np.ones((4, 5)), ones, threshold=0.5, grid=0)
    with pytest.raises(ParameterError, match="shape"):
        candidates(np.ones((4, 4)), ones, threshold=0.5)
    with pytest.raises(ParameterError, match="NaN"):
        candidates(np.full((4, 5), np.nan), ones, threshold=0.5)
