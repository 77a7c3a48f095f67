"""Objects found block by block are those of the whole plane."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_cellenhance.core import object_pieces
from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.object_pieces import Joiner, ObjectOptions, Objects, find_pieces
from napari_cellenhance.core.postprocess import label_mask, segment
from napari_cellenhance.core.three_classes import objects_of
from napari_cellenhance.core.tiling import split


def blobs(shape: tuple[int, int], sigma: float, share: float, seed: int = 0) -> NDArray[np.bool_]:
    smooth = gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma)
    mask: NDArray[np.bool_] = smooth > np.quantile(smooth, 1 - share)
    mask[np.random.default_rng(seed + 1).random(shape) < 0.01] = False  # small holes
    return mask


def by_blocks(mask: NDArray[np.bool_], options: ObjectOptions, side: int) -> tuple[NDArray[np.uint32], Objects]:
    shape = (mask.shape[0], mask.shape[1])
    joiner, pieces = Joiner(shape, options), []
    for tile in split(shape, side, 0):
        window = tile.core.grown(options.context_px, shape)
        found = find_pieces(mask[window.slices], window, tile.core, shape, options)
        joiner.add(tile.core, found)
        pieces.append((tile.core, found.keys))
    objects = joiner.objects()
    labels = np.zeros(shape, np.uint32)
    for core, keys in pieces:
        labels[core.slices] = objects.number(keys)
    return labels, objects


@pytest.mark.parametrize("side", [16, 37, 300])
@pytest.mark.parametrize("context", [8, 256])
@pytest.mark.parametrize("share", [0.1, 0.35, 0.7])
def test_what_hangs_together_is_numbered_as_on_the_whole_plane(
    monkeypatch: pytest.MonkeyPatch, side: int, context: int, share: float
) -> None:
    """To the last number, also where objects are larger than any window sees."""
    monkeypatch.setattr(object_pieces, "CONTEXT_PX", context)
    mask = blobs((150, 131), 2.5, share)
    options = ObjectOptions(split_touching=False, min_size_px=9, fills_holes=True)
    np.testing.assert_array_equal(by_blocks(mask, options, side)[0], label_mask(mask, False, 9))
    plain = ObjectOptions(split_touching=False, min_size_px=0)
    np.testing.assert_array_equal(by_blocks(mask, plain, side)[0], segment(mask, "manual", 0.5, False, 0))
    edges = ObjectOptions(split_touching=False, min_size_px=5, has_diagonals=False)
    likely = np.stack([~mask, mask, np.zeros_like(mask)]).astype(np.float32)
    np.testing.assert_array_equal(by_blocks(mask, edges, side)[0], objects_of(likely, 0.5, min_size_px=5))


@pytest.mark.parametrize("side", [16, 50])
@pytest.mark.parametrize("fills_holes", [True, False])
def test_objects_that_a_window_sees_from_end_to_end_are_cut_as_on_the_whole_plane(
    monkeypatch: pytest.MonkeyPatch, side: int, fills_holes: bool
) -> None:
    monkeypatch.setattr(object_pieces, "CONTEXT_PX", 80)
    mask = blobs((200, 170), 3.0, 0.25)
    options = ObjectOptions(min_size_px=9, fills_holes=fills_holes)
    found, objects = by_blocks(mask, options, side)
    expected = label_mask(mask, True, 9) if fills_holes else segment(mask, "manual", 0.5, True, 9)
    assert expected.max() > segment(mask, "manual", 0.5, False, 9).max()  # something was cut
    np.testing.assert_array_equal(found, expected)
    assert objects.n_joined == 0


def test_larger_ones_are_cut_by_what_the_window_sees_and_joined_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain of discs across many blocks: all of them are found, none is cut by a border."""
    monkeypatch.setattr(object_pieces, "CONTEXT_PX", 24)
    y, x = np.mgrid[:64, :400]
    centres = range(15, 400, 23)
    mask = np.any([(y - 32) ** 2 + (x - c) ** 2 <= 144 for c in centres], axis=0)
    expected = segment(mask, "manual", 0.5, True, 9)
    found, objects = by_blocks(mask, ObjectOptions(min_size_px=9), 50)
    assert found.max() == expected.max() == len(centres)
    same = [np.bincount(found[expected == i]).argmax() for i in range(1, expected.max() + 1)]
    assert same == list(range(1, len(centres) + 1))
    assert (found != expected).mean() < 0.002 and objects.n_joined > 0


@pytest.mark.parametrize("is_turned", [False, True])
def test_one_that_only_the_middle_block_sees_as_a_whole_is_one(
    monkeypatch: pytest.MonkeyPatch, is_turned: bool
) -> None:
    monkeypatch.setattr(object_pieces, "CONTEXT_PX", 24)
    mask = np.zeros((160, 40), np.bool_)
    mask[30:111, 10:30] = True
    found, objects = by_blocks(mask.T if is_turned else mask, ObjectOptions(), 50)
    assert (objects.n, objects.n_joined) == (1, 1)
    np.testing.assert_array_equal(found > 0, mask.T if is_turned else mask)


def test_nothing_at_all() -> None:
    labels, objects = by_blocks(np.zeros((40, 30), np.bool_), ObjectOptions(), 16)
    assert not labels.any() and objects.n == 0
    assert Joiner((4, 4), ObjectOptions()).objects().number(np.ones((2, 2), np.uint64)).tolist() == [[0, 0], [0, 0]]


def test_ids_go_on_after_those_of_other_planes() -> None:
    _, objects = by_blocks(np.ones((20, 20), np.bool_), ObjectOptions(), 7)
    assert objects.number(objects.keys[:1], 41).tolist() == [42]


@pytest.mark.parametrize("settings", [{"min_size_px": -1}, {"has_diagonals": False}])
def test_options_that_cannot_be(settings: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match="expected"):
        ObjectOptions(**settings)
