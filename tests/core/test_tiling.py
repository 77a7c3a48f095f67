"""Tiles cover a plane exactly once, whatever its size; padding is undone by its crop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.tiling import Region, Tile, merge, pad_to_multiple, padded_index, split

sides = st.integers(1, 70)


@settings(max_examples=60, deadline=None)
@given(sides, sides, st.integers(1, 90), st.integers(0, 40), st.sampled_from([1, 2, 4, 8]))
def test_cores_cover_every_pixel_exactly_once(height: int, width: int, tile_px: int, halo: int, multiple: int) -> None:
    counts = np.zeros((height, width), int)
    for tile in split((height, width), tile_px, halo, multiple):
        counts[tile.core.slices] += 1
    assert (counts == 1).all()


@settings(max_examples=60, deadline=None)
@given(sides, sides, st.integers(1, 90), st.integers(0, 40), st.sampled_from([1, 4]))
def test_outer_windows_hold_core_and_halo_on_the_grid(
    height: int, width: int, tile_px: int, halo: int, multiple: int
) -> None:
    for tile in split((height, width), tile_px, halo, multiple):
        outer, core = tile.outer, tile.core
        assert outer.y0 <= max(0, core.y0 - halo)
        assert outer.x0 <= max(0, core.x0 - halo)
        assert outer.y1 >= min(height, core.y1 + halo)
        assert outer.x1 >= min(width, core.x1 + halo)
        assert 0 <= outer.y0 < outer.y1 <= height
        assert 0 <= outer.x0 < outer.x1 <= width
        assert {n % multiple for n in (outer.y0, outer.x0, core.y0, core.x0)} == {0}


@settings(max_examples=30, deadline=None)
@given(sides, sides, st.integers(1, 90), st.integers(0, 40))
def test_merging_what_was_split_gives_the_plane_back(height: int, width: int, tile_px: int, halo: int) -> None:
    plane = np.arange(height * width, dtype=np.float32).reshape(height, width)
    tiles = split(plane.shape, tile_px, halo)
    merged = merge(((tile, plane[tile.outer.slices]) for tile in tiles), (height, width), np.float32)
    np.testing.assert_array_equal(merged, plane)


def test_tile_larger_than_the_plane_is_clamped_to_it() -> None:
    whole = Region(0, 3, 0, 5)
    assert split((3, 5), tile_px=4096, halo_px=500) == [Tile(core=whole, outer=whole)]


def test_a_plane_of_more_than_2_to_the_31_pixels_is_split_without_being_touched() -> None:
    side = 1 << 17
    plane = np.broadcast_to(np.float32(0), (side, side))
    tiles = split(plane.shape, 1 << 14, 96)
    assert len(tiles) == 64
    assert sum(tile.core.shape[0] * tile.core.shape[1] for tile in tiles) == side * side
    assert tiles[-1].core == Region(side - (1 << 14), side, side - (1 << 14), side)


def test_an_empty_plane_has_no_tiles() -> None:
    assert split((0, 7), 4, 1) == []


@pytest.mark.parametrize(("tile_px", "halo_px", "multiple"), [(0, 0, 1), (-4, 0, 1), (8, -1, 1), (8, 0, 0)])
def test_impossible_tiles_are_refused(tile_px: int, halo_px: int, multiple: int) -> None:
    with pytest.raises(ParameterError, match="expected a tile"):
        split((16, 16), tile_px, halo_px, multiple)


def test_a_piece_of_another_shape_is_not_merged() -> None:
    tile = split((4, 4), 4, 0)[0]
    with pytest.raises(ParameterError, match="expected that of its tile"):
        merge([(tile, np.zeros((3, 4), np.float32))], (4, 4), np.float32)


@settings(max_examples=80, deadline=None)
@given(sides, sides, st.sampled_from([1, 2, 4, 8, 32]))
def test_padding_reaches_the_multiple_and_its_crop_undoes_it(height: int, width: int, multiple: int) -> None:
    plane = np.random.default_rng(0).random((height, width))
    before = plane.copy()
    padded, crop = pad_to_multiple(plane, multiple)
    assert [n % multiple for n in padded.shape] == [0, 0]
    assert padded.shape[0] - height < multiple
    np.testing.assert_array_equal(padded[crop], plane)
    padded += 1
    np.testing.assert_array_equal(plane, before)


def test_padding_reflects_with_the_extra_pixel_at_the_end() -> None:
    padded, crop = pad_to_multiple(np.arange(5.0)[None].repeat(8, 0), 8)
    np.testing.assert_array_equal(padded[0], [1, 0, 1, 2, 3, 4, 3, 2])
    assert crop == (slice(0, 8), slice(1, 6))


def test_a_side_too_short_to_reflect_repeats_its_edge() -> None:
    padded, _ = pad_to_multiple(np.array([[3.0, 5.0]]), 8)
    np.testing.assert_array_equal(padded, np.tile([3, 3, 3, 3, 5, 5, 5, 5], (8, 1)))


def test_leading_dimensions_are_not_padded() -> None:
    padded, crop = pad_to_multiple(np.ones((3, 5, 6)), 4)
    assert padded.shape == (3, 8, 8)
    assert padded[(..., *crop)].shape == (3, 5, 6)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (5,)])
def test_planes_without_pixels_are_not_padded(shape: tuple[int, ...]) -> None:
    with pytest.raises(ParameterError, match="cannot be padded"):
        pad_to_multiple(np.zeros(shape), 4)


def test_padding_to_a_multiple_below_one_is_refused() -> None:
    with pytest.raises(ParameterError, match="1 or more"):
        pad_to_multiple(np.zeros((4, 4)), 0)


def test_a_region_knows_its_shape_and_its_place() -> None:
    region = Region(2, 5, 10, 20)
    assert region.shape == (3, 10)
    assert Region.whole(np.zeros((7, 9))) == Region(0, 7, 0, 9)
    outer = region.grown(4, (6, 100))
    assert outer == Region(0, 6, 6, 24)
    plane = np.arange(600).reshape(6, 100)
    np.testing.assert_array_equal(plane[outer.slices][region.inside(outer).slices], plane[region.slices])


@pytest.mark.parametrize("size", [1, 2, 5, 8, 13])
def test_an_index_pads_like_a_copy(size: int) -> None:
    line = np.arange(size, dtype=np.float32)[None]
    index, before = padded_index(size, 8)
    expected, (_, columns) = pad_to_multiple(np.repeat(line, 8, axis=0), 8)
    np.testing.assert_array_equal(line[0][index], expected[0])
    assert before == columns.start
