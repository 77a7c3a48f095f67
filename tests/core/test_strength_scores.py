"""A slider that rises is told from one that does not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.strength_scores import greyness, rank_correlation, strength_curve

YY, XX = np.mgrid[:40, :40]
MASK = (YY - 20) ** 2 + (XX - 20) ** 2 < 100
SOFT = (0.3 + 0.4 * MASK).astype(np.float32)
HARD = MASK.astype(np.float32)


def _blend(share: float) -> np.ndarray:
    return ((1 - share) * SOFT + share * HARD).astype(np.float32)


def test_a_good_slider_rises_and_is_smooth() -> None:
    strengths = [0.0, 1.0, 2.0, 3.0, 4.0]
    curve = strength_curve(strengths, [_blend(s / 4.5) for s in strengths], MASK)
    assert curve.contrast_correlation == pytest.approx(1.0)
    assert curve.binary_correlation == pytest.approx(1.0)
    assert curve.largest_step == pytest.approx(0.3 / 4.5, rel=1e-3)
    assert len(curve.steps) == 4


def test_a_slider_that_falls_or_jumps_is_caught() -> None:
    strengths = [0.0, 1.0, 2.0, 3.0]
    falling = strength_curve(strengths, [_blend(1 - s / 4) for s in strengths], MASK)
    assert falling.contrast_correlation < 0 and falling.binary_correlation < 0
    jump = strength_curve(strengths, [SOFT, SOFT, HARD, HARD], MASK)
    assert jump.largest_step == pytest.approx(0.3, abs=1e-3)


def test_without_a_mask_there_is_no_contrast() -> None:
    curve = strength_curve([0.0, 1.0], [SOFT, HARD], None)
    assert curve.contrast == ()
    assert math.isnan(curve.contrast_correlation)
    assert curve.binary_correlation == pytest.approx(1.0)


def test_rank_correlation_is_spearmans_ties_included() -> None:
    a, b = [1.0, 2.0, 2.0, 5.0, 4.0, 9.0], [0.1, 0.7, 0.3, 0.3, 0.2, 5.0]
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert math.isnan(rank_correlation([1, 2, 3], [7, 7, 7]))
    with pytest.raises(ParameterError, match="as many"):
        rank_correlation([1.0], [1.0, 2.0])


def test_black_and_white_is_binary() -> None:
    assert greyness(HARD) == 0
    assert greyness(np.full((4, 4), 0.5)) == 1
    with pytest.raises(ImageError, match="one for each"):
        strength_curve([0.0, 1.0], [SOFT], None)
