"""The agreement of objects over the strengths, on pictures of which the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.suggestion import agreement, choose, object_precision

STRENGTHS = tuple(float(w) for w in range(1, 11))


def cells_at(strength: float, *, quiet_from: float, fused_from: float) -> NDArray[np.float32]:
    """Nine discs; specks of noise below one strength, all in one piece from another one on."""
    y, x = np.mgrid[:120, :120]
    image = np.zeros((120, 120), np.float32)
    for cy in (20, 60, 100):
        for cx in (20, 60, 100):
            image[np.hypot(y - cy, x - cx) <= 10] = 1.0
    rng = np.random.default_rng(int(strength * 10))
    if strength < quiet_from:
        for cy, cx in rng.integers(4, 116, (40, 2)):
            image[np.hypot(y - cy, x - cx) <= 4] = 1.0
    if strength >= fused_from:
        image[10:110, 10:110] = 1.0
    return image


def test_the_weakest_strength_without_noise_is_proposed() -> None:
    images = [cells_at(w, quiet_from=4, fused_from=9) for w in STRENGTHS]
    found = choose(images, STRENGTHS, 5.0)
    assert found.strength == 4.0
    assert len(found.scores) == len(STRENGTHS)
    assert found.scores[3] > max(found.scores[0], found.scores[-1])
    assert "strength 4" in found.reason and "9 there" in found.reason


def test_a_clean_image_needs_the_least() -> None:
    assert choose([cells_at(w, quiet_from=0, fused_from=99) for w in STRENGTHS], STRENGTHS, 5.0).strength == 1.0


def test_nothing_to_judge_keeps_the_default() -> None:
    assert choose([], STRENGTHS, 5.0).strength == 5.0
    empty = choose([np.zeros((30, 30), np.float32)] * 10, STRENGTHS, 5.0)
    assert (empty.strength, empty.scores) == (5.0, ()) and "No object" in empty.reason
    with pytest.raises(ParameterError, match="2 images came with 10 strengths"):
        choose([np.zeros((30, 30), np.float32)] * 2, STRENGTHS, 5.0)


def test_object_precision_is_that_of_the_data_science_bowl() -> None:
    first, second = np.zeros((2, 20, 40), int)
    first[2:8, 2:8], first[2:8, 12:18], first[12:18, 2:8] = 1, 2, 3
    second[2:8, 3:9], second[2:8, 16:22] = 1, 2  # IoU 5/7, and 2/10
    assert object_precision(first, second) == object_precision(second, first) == pytest.approx(1 / 4)
    assert object_precision(first, first) == 1.0
    assert object_precision(first, np.zeros_like(first)) == 0.0
    assert object_precision(np.zeros_like(first), np.zeros_like(first)) == 1.0
    np.testing.assert_allclose(agreement([first, first, second]), [(1 + 0.25) / 2, (1 + 0.25) / 2, 0.25])
