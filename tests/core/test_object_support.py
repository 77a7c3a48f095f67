"""Objects that only the image or only the result has; a filter may change the contrast as it likes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.core.object_support import check_support

PLACES = ((20, 24), (24, 70), (66, 30), (70, 74))


def _discs(places: tuple[tuple[int, int], ...], radius: float = 8) -> NDArray[np.bool_]:
    y, x = np.mgrid[:96, :96]
    return np.any([np.hypot(y - cy, x - cx) < radius for cy, cx in places], axis=0)


def _image(seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).poisson(20 + 30 * _discs(PLACES)).astype(np.float32)


def test_white_objects_on_black_are_supported_by_a_noisy_image() -> None:
    for seed in range(5):
        found = check_support(_image(seed), _discs(PLACES).astype(np.float32))
        assert (found.n_objects, found.n_lost, found.n_unsupported) == (4, 0, 0) and not found.is_flagged


def test_an_object_that_the_image_does_not_show_is_found() -> None:
    found = check_support(_image(), _discs((*PLACES, (46, 46))).astype(np.float32))
    assert (found.n_objects, found.n_lost, found.n_unsupported) == (5, 0, 1)
    assert found.flags[46, 46] == 2 and found.flags[20, 24] == 0


def test_an_object_that_the_result_lacks_is_found() -> None:
    found = check_support(_image(), _discs(PLACES[1:]).astype(np.float32))
    assert (found.n_objects, found.n_lost, found.n_unsupported) == (3, 1, 0) and found.flags[20, 24] == 1


def test_specks_are_no_objects_and_a_flat_result_has_lost_all() -> None:
    specks = _discs(PLACES).astype(np.float32)
    specks[48, 44:48] = 1
    assert check_support(_image(), specks).n_objects == 4
    flat = check_support(_image(), np.zeros((96, 96)))
    assert (flat.n_objects, flat.n_unsupported, flat.n_lost) == (0, 0, 4)
    only_specks = np.zeros((96, 96), np.float32)
    only_specks[48, 44:48] = 1
    found = check_support(_image(), only_specks)
    assert (found.n_objects, found.n_unsupported, found.n_lost) == (0, 0, 4)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ImageError, match="expected the same"):
        check_support(_image(), np.zeros((64, 96)))
