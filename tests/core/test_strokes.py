"""Simulated strokes: inside their class, connected, in every class, fewer among the more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, label

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.strokes import AMOUNTS, StrokeStyle, simulate_strokes

SLOW = settings(deadline=None, max_examples=25)


def _classes(seed: int, n_classes: int, grain: float, unknown: bool = False) -> np.ndarray:
    """Patches of any shape; thin ones and single pixels among them."""
    rng = np.random.default_rng(seed)
    fields = np.stack([gaussian_filter(rng.normal(size=(48, 60)), grain) for _ in range(n_classes + unknown)])
    found = fields.argmax(axis=0) + (0 if unknown else 1)
    return found.astype(np.int32)


def _scene() -> np.ndarray:
    classes = np.ones((128, 160), np.int32)
    classes[20:60, 20:60] = 2
    classes[80:110, 90:150] = 2
    classes[:, 78:80] = 3
    return classes


@SLOW
@given(
    seed=st.integers(0, 999), n_classes=st.integers(1, 4), grain=st.sampled_from([0.0, 1.0, 4.0]),
    width=st.integers(1, 6), unknown=st.booleans(),
)  # fmt: skip
def test_strokes_never_leave_their_class_and_every_class_has_paint(
    seed: int, n_classes: int, grain: float, width: int, unknown: bool
) -> None:
    classes = _classes(seed, n_classes, grain, unknown)
    before = classes.copy()
    painted = simulate_strokes(classes, "few", seed=seed, style=StrokeStyle(width_px=width, length_px=15))
    assert painted.dtype == np.int32 and painted.shape == classes.shape
    assert (painted[painted != 0] == classes[painted != 0]).all()
    assert set(np.unique(painted)) - {0} == set(np.unique(classes)) - {0}
    assert (classes == before).all()


@settings(deadline=None, max_examples=6)
@given(seed=st.integers(0, 999), grain=st.sampled_from([1.0, 4.0]))
def test_fewer_strokes_are_among_the_more(seed: int, grain: float) -> None:
    classes = _classes(seed, 3, grain)
    few, some, many = (simulate_strokes(classes, name, seed=seed) for name in ("few", "some", "many"))
    assert (some[few != 0] == few[few != 0]).all()
    assert (many[some != 0] == some[some != 0]).all()


def test_the_amounts_grow() -> None:
    areas = [int((simulate_strokes(_scene(), name) == 1).sum()) for name in AMOUNTS]
    assert areas[0] * 2 < areas[1] < areas[2] / 2


@SLOW
@given(seed=st.integers(0, 9999))
def test_one_stroke_is_connected(seed: int) -> None:
    painted = simulate_strokes(_classes(seed, 3, 3.0), 1, seed=seed)
    for value in np.unique(painted)[1:]:
        assert label(painted == value, np.ones((3, 3)))[1] == 1


def test_a_wide_brush_does_not_reach_over_a_gap() -> None:
    stripes = np.where(np.arange(90) % 3 == 0, 2, 1)[None].repeat(90, axis=0).astype(np.int32)
    for seed in range(5):
        painted = simulate_strokes(stripes, 1, seed=seed, style=StrokeStyle(width_px=6))
        assert len(np.unique(np.nonzero(painted == 2)[1])) == 1


def test_a_stroke_is_as_wide_and_long_as_asked_where_there_is_room() -> None:
    style = StrokeStyle(width_px=5, length_px=40)
    areas = [int(simulate_strokes(np.ones((200, 200), np.int32), 1, seed=s, style=style).sum()) for s in range(30)]
    assert min(areas) > 5 * 40 * 0.45 and max(areas) < 5 * 40 * 2.0
    assert np.mean(areas) == pytest.approx(5 * 40, rel=0.3)
    thin = simulate_strokes(np.ones((200, 200), np.int32), 1, style=StrokeStyle(width_px=1))
    assert 15 < int(thin.sum()) < 70


def test_a_stroke_stays_away_from_edges() -> None:
    from scipy.ndimage import distance_transform_edt

    classes = _scene()
    is_edge = distance_transform_edt(classes == 2) == 1
    style = StrokeStyle(width_px=4, length_px=20)
    strokes = np.stack([simulate_strokes(classes, 1, seed=seed, style=style) == 2 for seed in range(30)])
    assert is_edge[strokes.any(axis=0)].any(), "it is no law"
    assert np.mean([is_edge[stroke].mean() for stroke in strokes]) < 0.5 * is_edge[classes == 2].mean()


def test_a_thin_line_is_followed() -> None:
    line = np.where(np.arange(100) == 50, 2, 1)[None].repeat(100, axis=0).astype(np.int32)
    painted = simulate_strokes(line, 1, style=StrokeStyle(width_px=4, length_px=40))
    assert int((painted == 2).sum()) >= 18


def test_strokes_spread_over_the_objects() -> None:
    classes = _scene()
    objects, n = label(classes == 2)
    for seed in range(5):
        painted = simulate_strokes(classes, "some", seed=seed)
        assert len(np.unique(objects[painted == 2])) == n


def test_the_seed_decides() -> None:
    first, same, other = (simulate_strokes(_scene(), seed=seed) for seed in (3, 3, 4))
    assert (first == same).all() and (first != other).any()


def test_single_pixels_are_painted() -> None:
    classes = np.array([[1, 2], [3, 0]], np.int32)
    assert (simulate_strokes(classes, "few") == classes).all()


@pytest.mark.parametrize(
    "classes", [np.zeros((4, 4), int), np.full((4, 4), -1), np.ones((4, 4)), np.ones((2, 4, 4), int)]
)
def test_what_is_no_segmentation_is_refused(classes: np.ndarray) -> None:
    with pytest.raises(ImageError):
        simulate_strokes(classes)


def test_an_unknown_amount_is_refused() -> None:
    for amount in ("plenty", 0):
        with pytest.raises(ParameterError, match="amount"):
            simulate_strokes(_scene(), amount)
    with pytest.raises(ParameterError, match="wide"):
        StrokeStyle(width_px=0)
