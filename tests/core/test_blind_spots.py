"""Blind spots of Noise2Void: how many, where, what replaces them, and what structures hide (T-V1, T-V2, T-V5)."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cellenhance.core.blind_spots import (
    BlindSpots,
    autocorrelation,
    blind,
    draw_spots,
    neighbour_offsets,
    structure_offsets,
    suggest_structure,
)
from napari_cellenhance.core.errors import ParameterError


@pytest.mark.parametrize("percent", [0.198, 0.784, 1.5])
def test_the_expected_share_of_pixels_is_exact(percent: float) -> None:
    """T-V1: within 3 % over 500 patches."""
    rng = np.random.default_rng(0)
    n = [len(draw_spots((64, 64), percent, rng)) for _ in range(500)]
    assert np.mean(n) == pytest.approx(4096 * percent / 100, rel=0.03)


def test_every_pixel_is_as_likely_as_any_other() -> None:
    rng = np.random.default_rng(1)
    counts = np.zeros((20, 20))
    for _ in range(4000):
        counts[tuple(draw_spots((20, 20), 4.0, rng).T)] += 1
    assert counts.mean() == pytest.approx(160, rel=0.03)
    edge = np.concatenate([counts[0], counts[-1], counts[:, 0], counts[:, -1]]).mean()
    assert edge == pytest.approx(counts[5:15, 5:15].mean(), rel=0.05)


def test_the_grid_of_boxes_is_not_always_the_same() -> None:
    """With a fixed grid of 5 px two pixels of one box would never be hidden together."""
    rng, together = np.random.default_rng(7), 0
    for _ in range(300):
        mask = np.zeros((20, 20), bool)
        mask[tuple(draw_spots((20, 20), 4.0, rng).T)] = True
        beside = mask[:, :-1] & mask[:, 1:]
        together += int(beside[:, np.arange(19) % 5 != 4].sum())
    assert together > 20


def test_spots_are_spread_evenly_and_distinct() -> None:
    """T-V1: one per box, so two spots are never in the same window of half a box."""
    rng = np.random.default_rng(2)
    for _ in range(50):
        spots = draw_spots((60, 60), 1.0, rng)  # boxes of 10 px
        assert len(np.unique(spots, axis=0)) == len(spots)
        inside = spots[((spots >= 10) & (spots < 50)).all(axis=1)]
        counts, _, _ = np.histogram2d(*inside.T, bins=[[10, 30, 50]] * 2)
        assert counts.min() >= 1 and counts.max() <= 9, "a 20 px square meets at most 3 × 3 boxes"


def test_spots_of_a_volume_and_of_a_tiny_patch() -> None:
    rng = np.random.default_rng(3)
    n = [len(draw_spots((16, 32, 32), 0.5, rng)) for _ in range(100)]
    assert np.mean(n) == pytest.approx(16 * 32 * 32 * 0.005, rel=0.03)
    for _ in range(50):
        spots = draw_spots((3, 3), 0.01, rng)
        assert len(spots) == 1 and (spots >= 0).all() and (spots < 3).all()


@pytest.mark.parametrize("shape", [(40, 50), (8, 20, 24)])
def test_a_replacement_comes_from_the_window_but_never_from_the_centre(shape: tuple[int, ...]) -> None:
    """T-V2, with all values distinct so that each tells where it is from."""
    rng = np.random.default_rng(4)
    patch = rng.permutation(np.arange(np.prod(shape), dtype=np.float32)).reshape(shape)
    where = {float(value): np.array(at) for at, value in np.ndenumerate(patch)}
    spots = BlindSpots(percent=3.0, radius_px=2, replace_by="uniform")
    seen = set()
    for _ in range(30):
        blinded, at = blind(patch, spots, rng)
        for place in at:
            source = where[float(blinded[tuple(place)])]
            offset = source - place
            assert np.abs(offset).max() <= 2 and np.abs(offset).any()
            seen.add(tuple(offset))
    assert len(seen) >= 0.9 * (5 ** len(shape) - 1), "all neighbours are drawn"


def test_the_centre_can_be_a_neighbour_as_in_the_first_release() -> None:
    patch = np.arange(25, dtype=np.float32).reshape(5, 5)
    spots = BlindSpots(radius_px=1, replace_by="uniform", has_centre=True)
    rng = np.random.default_rng(0)
    same = sum(float(blind(patch, spots, rng, at=np.array([[2, 2]]))[0][2, 2]) == 12 for _ in range(900))
    assert 60 < same < 140  # one in nine


def test_nothing_else_changes_and_the_patch_itself_never() -> None:
    rng = np.random.default_rng(5)
    patch = rng.random((32, 32)).astype(np.float32)
    before = patch.copy()
    blinded, at = blind(patch, BlindSpots(percent=2.0), rng)
    assert np.array_equal(patch, before)
    mask = np.zeros(patch.shape, bool)
    mask[tuple(at.T)] = True
    assert np.array_equal(blinded[~mask], patch[~mask]) and (blinded[mask] != patch[mask]).all()


def test_blind_spots_are_kept_by_place_not_by_value() -> None:
    """A constant patch: nothing changes, and still the spots are known."""
    blinded, at = blind(np.ones((32, 32), np.float32), BlindSpots(percent=1.0), np.random.default_rng(0))
    assert (blinded == 1).all() and len(at) > 3


@pytest.mark.parametrize(("structure", "reach"), [("none", 0), ("horizontal", 2), ("cross", 1), ("square", 1)])
def test_the_median_leaves_out_centre_and_structure(structure: str, reach: int) -> None:
    """T-V5: numpy's median of the window without them; windows end at the edge of the patch."""
    rng = np.random.default_rng(6)
    patch = rng.random((17, 19)).astype(np.float32)
    spots = BlindSpots(percent=2.0, radius_px=3, structure=structure, reach_px=reach)  # type: ignore[arg-type]
    hidden = {(0, 0), *map(tuple, structure_offsets(spots.structure, reach, 2).tolist())}
    for place in ([8, 9], [0, 0], [16, 3], [1, 18]):
        blinded, _ = blind(patch, spots, np.random.default_rng(0), at=np.array([place]))
        y, x = place
        values = [
            patch[y + dy, x + dx]
            for dy in range(-3, 4)
            for dx in range(-3, 4)
            if (dy, dx) not in hidden and 0 <= y + dy < 17 and 0 <= x + dx < 19
        ]
        assert blinded[y, x] == pytest.approx(np.median(values))


def test_a_structure_is_overwritten_with_values_of_the_patch_range() -> None:
    rng = np.random.default_rng(7)
    patch = rng.uniform(5.0, 6.0, (21, 21)).astype(np.float32)
    spots = BlindSpots(structure="horizontal", reach_px=3)
    blinded, _ = blind(patch, spots, rng, at=np.array([[10, 10], [0, 0]]))
    changed = {tuple(p) for p in np.argwhere(blinded != patch).tolist()}
    assert changed == {(10, x) for x in range(7, 14)} | {(0, x) for x in range(4)}
    assert blinded.min() >= patch.min() and blinded.max() <= patch.max()


def test_structures_of_a_volume_lie_in_the_plane() -> None:
    assert structure_offsets("vertical", 1, 3).tolist() == [[0, -1, 0], [0, 1, 0]]
    assert len(structure_offsets("square", 2, 2)) == 24 and len(structure_offsets("none", 0, 2)) == 0


def test_one_pixel_without_neighbours_becomes_the_mean() -> None:
    patch = np.array([[1.0, 3.0]], np.float32)
    spots = BlindSpots(radius_px=1, structure="horizontal", reach_px=1)
    blinded, _ = blind(patch, spots, np.random.default_rng(0), at=np.array([[0, 0]]))
    assert blinded[0, 0] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"percent": 0}, "0 % of the pixels"),
        ({"radius_px": 0}, "radius of 0 px"),
        ({"replace_by": "mean"}, "replace_by is 'mean'"),
        ({"has_centre": True}, "without the centre"),
        ({"structure": "star"}, "structure is 'star'"),
        ({"structure": "cross"}, "reaches 0 px"),
        ({"reach_px": 3}, "'none'"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        BlindSpots(**settings)  # type: ignore[arg-type]


def test_a_window_full_of_structure_is_refused() -> None:
    with pytest.raises(ParameterError, match="no neighbour is left"):
        neighbour_offsets(BlindSpots(radius_px=1, structure="square", reach_px=2), 2)


# --- structured noise -----------------------------------------------------------------------


def _image(kernel: np.ndarray | None, seed: int = 0) -> np.ndarray:
    """Smooth objects with noise that the kernel spreads to its neighbours."""
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    clean = ndimage.gaussian_filter(rng.random((128, 128)), 8.0)
    clean = (clean - clean.min()) / (clean.max() - clean.min())
    noise = rng.normal(0, 1, clean.shape)
    noise = noise if kernel is None else ndimage.convolve(noise, kernel)
    return clean + 0.3 * noise / noise.std()


def test_white_noise_has_no_structure() -> None:
    found = autocorrelation(_image(None))
    assert found.shape == (21, 21) and found[10, 10] == pytest.approx(1.0)
    assert abs(found[10, 11]) < 0.1 and abs(found[11, 10]) < 0.1
    assert suggest_structure(found) == ("none", 0)


def test_lines_and_squares_are_recognised() -> None:
    along = suggest_structure(autocorrelation(_image(np.ones((1, 3)))))
    down = suggest_structure(autocorrelation(_image(np.ones((4, 1)))))
    both = suggest_structure(autocorrelation(_image(np.ones((3, 3)))))
    assert along == ("horizontal", 2) and down == ("vertical", 3) and both == ("square", 2)


def test_a_constant_or_tiny_plane_correlates_with_nothing() -> None:
    assert not autocorrelation(np.ones((32, 32))).any()
    small = autocorrelation(np.random.default_rng(0).random((5, 7)))
    assert small.shape == (9, 9) and suggest_structure(small)[0] in (
        "none",
        "horizontal",
        "vertical",
        "cross",
        "square",
    )
