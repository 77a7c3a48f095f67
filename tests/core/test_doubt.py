"""Where a restored image should not be trusted."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cellenhance.core.doubt import DEFAULT_SHARE, contrast_of, doubt_labels, likely_error, score_doubt
from napari_cellenhance.core.errors import ParameterError


def test_half_of_laplacian_errors_are_below_the_likely_error() -> None:
    errors = np.abs(np.random.default_rng(0).laplace(0.0, 7.0, 100_000))
    assert float((errors < likely_error(np.float32([7.0]))).mean()) == pytest.approx(0.5, abs=0.01)


def test_channels_have_contrasts_of_their_own() -> None:
    image = np.stack([np.linspace(0, 10, 1000).reshape(20, 50), np.linspace(0, 1000, 1000).reshape(20, 50)])
    contrast = contrast_of(image, 0)
    assert contrast.shape == (2, 1, 1) and contrast[1, 0, 0] == pytest.approx(100 * contrast[0, 0, 0], rel=1e-4)
    assert contrast_of(image).shape == (1, 1, 1)
    assert contrast_of(np.full((4, 4), 3.0)).item() == 1.0, "one single grey value has no contrast to compare with"
    spike = np.zeros((100, 100))
    spike[0, 0] = 9.0
    assert contrast_of(spike).item() == 9.0, "the percentiles see nothing of it"


def test_what_exceeds_the_share_is_doubted_and_less_with_a_larger_share() -> None:
    scale = np.random.default_rng(1).random((2, 16, 16)).astype(np.float32) * 40
    contrast = np.float32([100.0, 200.0]).reshape(2, 1, 1)
    labels = doubt_labels(scale, contrast, 0.1)
    assert labels.dtype == np.uint8
    assert np.array_equal(labels == 1, scale * np.log(2) > contrast / 10), "each channel by its own contrast"
    shares = [int(doubt_labels(scale, contrast, share).sum()) for share in (0.0, DEFAULT_SHARE, 0.1, 0.5)]
    assert shares == sorted(shares, reverse=True) and shares[0] == labels.size and shares[-1] == 0
    with pytest.raises(ParameterError, match="share of the contrast"):
        doubt_labels(scale, contrast, -0.1)


def test_doubt_is_scored_by_what_is_wrong_and_adds_up_over_images() -> None:
    rng = np.random.default_rng(2)
    scale = rng.uniform(1, 60, (2, 200, 300)).astype(np.float32)
    error = rng.laplace(0.0, scale)
    contrast = np.float32([100.0, 300.0]).reshape(2, 1, 1)
    shares = (0.05, 0.1, 0.2)
    whole = score_doubt(error, scale, contrast, shares)
    parts = [score_doubt(error[i], scale[i], contrast[i], shares) for i in range(2)]
    for one, first, second, share in zip(whole, *parts, shares, strict=True):
        both = first + second
        is_doubted, is_wrong = scale * np.log(2) > share * contrast, np.abs(error) > share * contrast
        assert (one.n_px, one.n_doubted, one.n_wrong) == (120_000, is_doubted.sum(), is_wrong.sum())
        assert (both.n_px, both.n_doubted, both.n_both) == (one.n_px, one.n_doubted, one.n_both)
        assert one.precision == pytest.approx(is_wrong[is_doubted].mean()) and one.precision > 0.5
        assert one.recall == pytest.approx(is_doubted[is_wrong].mean())
        assert one.wrong_trusted == pytest.approx(is_wrong[~is_doubted].mean()) and one.wrong_trusted < 0.5
        assert both.error_doubted == pytest.approx(np.abs(error / contrast)[is_doubted].mean(), rel=1e-5)
        assert both.error_trusted == pytest.approx(np.abs(error / contrast)[~is_doubted].mean(), rel=1e-5)
        assert one.doubted == is_doubted.mean() and one.wrong == is_wrong.mean()
    with pytest.raises(ParameterError, match="cannot be added"):
        whole[0] + whole[1]
    nothing = score_doubt(np.zeros(3), np.zeros(3, np.float32), np.float32([1.0]), (0.1,))[0]
    assert nothing.doubted == 0 and np.isnan(nothing.precision) and nothing.error_trusted == 0
