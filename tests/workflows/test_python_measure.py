"""The public call for measuring."""

from __future__ import annotations

import numpy as np
import pytest

import napari_cellenhance
from napari_cellenhance.core.errors import ImageError

RAW = np.array([[10, 10, 10, 50], [10, 10, 50, 50]])
AFTER = np.array([[1, 1, 0, 200], [0, 0, 210, 220]])


def test_the_worked_example() -> None:
    raw, after = napari_cellenhance.compare_images(RAW, AFTER, mask=RAW == 50)
    assert (raw["layer"], raw["contrast_ratio"]) == ("raw", 5.0)
    assert (after["layer"], after["gain"], after["fold"]) == ("enhanced", pytest.approx(520), pytest.approx(105))


def test_several_versions_keep_their_names_and_order() -> None:
    rows = napari_cellenhance.compare_images(RAW.tolist(), {"b": AFTER, "a": RAW * 2}, mask=RAW == 50)
    assert [row["layer"] for row in rows] == ["raw", "b", "a"]
    assert rows[2]["fold"] == 1.0


def test_a_stack_with_one_mask_has_means_and_warns() -> None:
    with pytest.warns(UserWarning, match="single plane"):
        rows = napari_cellenhance.compare_images(np.stack([RAW] * 3), np.stack([AFTER] * 3), mask=RAW == 50, axes="TYX")
    assert [row["plane"] for row in rows if row["layer"] == "raw"] == ["T 0", "T 1", "T 2", "mean", "sd"]


def test_an_automatic_mask_is_a_warning() -> None:
    with pytest.warns(UserWarning, match="No mask was chosen"):
        assert napari_cellenhance.compare_images(RAW, AFTER)[0]["mask"] == "automatic (Otsu)"


def test_sizes_must_agree() -> None:
    with pytest.raises(ImageError, match="same planes"):
        napari_cellenhance.compare_images(RAW, AFTER[:1], mask=RAW == 50)
