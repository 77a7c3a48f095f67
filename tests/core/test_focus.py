"""Sharpness falls with blur; thresholds part two groups and can be moved back and forth."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, gaussian_laplace

from napari_cellenhance.core.crop_library import CropLibrary, FoundObject
from napari_cellenhance.core.crops import ObjectCrop
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.focus import (
    BETWEEN,
    FocusOptions,
    FocusThresholds,
    propose_thresholds,
    sharpness,
    sort_by_focus,
)

BLURS = (0.5, 2, 4, 8)
Y, X = np.mgrid[-32:32, -32:32]
DISC = (np.hypot(Y, X) <= 15).astype(np.float64)


def scores(image: np.ndarray, options: FocusOptions | None = None) -> list[float]:
    return [float(sharpness(gaussian_filter(image, blur), options)[DISC > 0].mean()) for blur in BLURS]


@pytest.mark.parametrize("options", [FocusOptions(), FocusOptions(sigma_px=2), FocusOptions(method="laplacian"),
                                     FocusOptions(method="laplacian", n_medians=3)])  # fmt: skip
def test_t_s6_the_score_falls_with_blur(options: FocusOptions) -> None:
    found = scores(200 * DISC, options)
    assert all(sharp > 1.3 * blurred for sharp, blurred in pairwise(found))


def test_t_s6_the_numbers_of_a_disc() -> None:
    # Measured once by hand for a disc of radius 15 in 64 × 64 px, linear, mean over the square.
    expected = (0.0176, 0.0082, 0.0044, 0.0021)
    for blur, value in zip(BLURS, expected, strict=True):
        image = gaussian_filter(DISC, blur)
        linear = sharpness(np.expm1(image)).mean()  # the logarithm undoes it
        assert linear == pytest.approx(np.abs(gaussian_laplace(image, 1)).mean(), rel=0.02)
        assert linear == pytest.approx(value, abs=1.5e-4)


def test_brightness_hardly_matters() -> None:
    assert scores(2000 * DISC + 1000) == pytest.approx(scores(8000 * DISC + 4000), rel=0.01)


def test_a_wider_gaussian_looks_past_noise() -> None:
    noise = 20 * np.random.default_rng(0).standard_normal((64, 64))
    blurred = gaussian_filter(100 * DISC, 4) + 100
    inside = DISC > 0

    def rise(sigma: float) -> float:
        options = FocusOptions(sigma_px=sigma)
        return float(sharpness(blurred + noise, options)[inside].mean() / sharpness(blurred, options)[inside].mean())

    assert rise(1) > 2 * rise(3)


def test_thresholds_lie_between_two_groups() -> None:
    rng = np.random.default_rng(0)
    blurred, sharp = 0.01 * np.exp(0.1 * rng.standard_normal(30)), 0.05 * np.exp(0.1 * rng.standard_normal(20))
    low, high = propose_thresholds(np.concatenate([sharp, blurred]))
    assert blurred.max() < low < high < sharp.min()


def test_thresholds_of_one_group_leave_out_its_middle() -> None:
    values = np.exp(np.random.default_rng(0).standard_normal(200))
    low, high = propose_thresholds(values)
    assert 0.1 < np.mean(values <= low) < 0.45 and 0.1 < np.mean(values >= high) < 0.45


def test_thresholds_of_equal_scores_and_of_none() -> None:
    assert propose_thresholds([0.3, 0.3, np.nan]) == (0.3, 0.3)
    with pytest.raises(ParameterError, match="find objects first"):
        propose_thresholds([np.nan])


def found(score: float, **more: Any) -> FoundObject:
    crop = ObjectCrop(pixels=np.ones((1, 1), np.float32), mask=np.ones((1, 1), bool), source="a", box=(0, 0, 1, 1))
    return FoundObject(crop=crop, score=score, **{"kind": "target", **more})


def test_objects_are_sorted_and_sorted_again() -> None:
    library = CropLibrary(
        objects=(
            found(0.1),
            found(0.5),
            found(0.9),
            found(np.nan),
            found(0.9, kind="discarded", reason="touches the border"),
        )
    )
    once = sort_by_focus(library, FocusThresholds(0.2, 0.8))
    assert [one.kind for one in once.objects] == ["unwanted", "discarded", "target", "target", "discarded"]
    assert once.objects[1].reason == BETWEEN and once.objects[4].reason == "touches the border"
    again = sort_by_focus(once, FocusThresholds(0.5, 0.5))
    assert [one.kind for one in again.objects] == ["unwanted", "target", "target", "target", "discarded"]
    assert again.objects[1].reason == ""
    with pytest.raises(ParameterError, match="above the high one"):
        sort_by_focus(library, FocusThresholds(0.8, 0.2))


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"method": "brenner"}, "log, laplacian"),
        ({"sigma_px": 0}, "more than 0"),
        ({"n_medians": -1}, "0 or more"),
        ({"low": float("nan")}, "expected a number"),
        ({"low": 2, "high": 1}, "exchange"),
    ],
)
def test_settings_out_of_range(wrong: Any, match: str) -> None:
    with pytest.raises(ParameterError, match=match):
        FocusOptions(**wrong)


def test_bad_images() -> None:
    with pytest.raises(ImageError, match="plane by plane"):
        sharpness(np.zeros((2, 3, 3)))
    with pytest.raises(ImageError, match="NaN"):
        sharpness(np.full((3, 3), np.nan))
