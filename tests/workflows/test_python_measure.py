"""The public call for measuring."""

from __future__ import annotations

import numpy as np
import pytest

import napari_cellenhance
from napari_cellenhance.core.errors import ImageError, ParameterError

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


# --- line profiles ------------------------------------------------------------------------------


def test_profiles_of_two_pixel_sizes_along_one_line() -> None:
    fine = np.tile(np.exp(-((0.5 * np.arange(80) - 20) ** 2) / 8), (20, 1))
    coarse = 3 * fine[::2, ::2]
    found = napari_cellenhance.line_profile(
        {"fine": fine, "coarse": coarse}, [(4, 0), (4, 39)], reference="fine", pixel_size_um={"fine": 0.5, "coarse": 1}
    )
    assert found["distance_um"][-1] == 39 and found["distance_px"][-1] == 78
    assert [round(peak["position_um"], 3) for peak in found["peaks"]] == [20, 20]
    assert found["images"][1]["n_matched"] == 1 and found["images"][1]["correlation"] > 0.99
    shifted = {"fine": fine, "coarse": coarse}
    with pytest.warns(UserWarning, match="“coarse” has values on"):
        moved = napari_cellenhance.line_profile(
            shifted, [(4, 0), (4, 39)], pixel_size_um={"fine": 0.5, "coarse": 1}, offset={"coarse": (0, 5)}
        )
    assert [round(peak["position_um"], 3) for peak in moved["peaks"]] == [20, 25]


def test_without_a_pixel_size_there_are_no_um_and_mistakes_are_named() -> None:
    ramp = np.add.outer(np.zeros(5), np.arange(9.0))
    found = napari_cellenhance.line_profile({"a": ramp}, [(1, 2), (1, 6)])
    assert found["values"]["a"].tolist() == [2, 3, 4, 5, 6] and np.isnan(found["distance_um"]).all()
    with pytest.raises(ParameterError, match="offset of b"):
        napari_cellenhance.line_profile({"a": ramp}, [(1, 2), (1, 6)], offset={"b": (0, 0)})
    with pytest.raises(ParameterError, match="no pixel size of a"):
        napari_cellenhance.line_profile({"a": ramp}, [(1, 2), (1, 6)], pixel_size_um={})
    with pytest.raises(ImageError, match="outside of “a”"):
        napari_cellenhance.line_profile({"a": ramp}, [(50, 2), (60, 6)])
