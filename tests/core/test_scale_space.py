"""The open-threshold detector finds what scikit-image's finds."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.feature import blob_log

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.scale_space import _larger_ones, blob_sigmas, scale_space_maxima


def _discs(shape: tuple[int, int], seed: int, radii: tuple[float, float]) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    image = np.zeros(shape)
    for _ in range(25):
        y, x, r = rng.uniform(0, shape[0]), rng.uniform(0, shape[1]), rng.uniform(*radii)
        image[(yy - y) ** 2 + (xx - x) ** 2 <= r * r] = rng.uniform(0.4, 1)
    return (gaussian_filter(image, 1.0) + rng.normal(0, 0.05, shape)).astype(np.float32)


@pytest.mark.parametrize("threshold", [0.03, 0.1, 0.25])
@pytest.mark.parametrize("seed", range(4))
def test_the_same_points_as_scikit_image_at_every_threshold(threshold: float, seed: int) -> None:
    image = _discs((120, 140), seed, (4, 9))
    sigmas = blob_sigmas(13.0)
    ours = scale_space_maxima(image, sigmas, 0.01).above(threshold)
    theirs = blob_log(image, min_sigma=sigmas[0], max_sigma=sigmas[-1], num_sigma=len(sigmas), threshold=threshold)
    wanted, found = {tuple(row[:2]) for row in theirs}, {tuple(row) for row in ours}
    assert len(wanted) > 10
    # Chains of overlapping blobs are thinned there in the order of a hash; everywhere else there is no difference.
    assert len(wanted ^ found) <= 0.05 * len(wanted)


def test_large_blobs_are_found_in_a_coarser_image() -> None:
    yy, xx = np.mgrid[:300, :300]
    image = np.zeros((300, 300), np.float32)
    centres = np.array([[80, 90], [200, 210]])
    for y, x in centres:
        image[(yy - y) ** 2 + (xx - x) ** 2 <= 30**2] = 1
    sigmas = blob_sigmas(60.0)
    assert sigmas[0] > 2 * 3.0
    found = scale_space_maxima(image, sigmas, 0.1)
    points = found.above(0.4)
    assert len(points) == 2
    np.testing.assert_allclose(points[np.argsort(points[:, 0])], centres, atol=1.5)
    assert found.responses[0] == pytest.approx(2 / np.e, abs=0.02)
    assert found.sigmas[0] * np.sqrt(2) == pytest.approx(30, rel=0.15)


def test_scales_follow_the_diameter() -> None:
    sigmas = blob_sigmas(20.0)
    assert len(sigmas) == 5
    assert sigmas[2] * np.sqrt(2) == pytest.approx(10)
    assert sigmas[-1] == pytest.approx(3 * sigmas[0])


def test_nothing_on_a_flat_plane() -> None:
    assert scale_space_maxima(np.full((40, 40), 0.7), blob_sigmas(10.0), 0.01).above(0.01).shape == (0, 2)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ImageError, match="plane by plane"):
        scale_space_maxima(np.zeros((3, 8, 8)), blob_sigmas(4.0), 0.1)
    with pytest.raises(ParameterError, match="scales"):
        scale_space_maxima(np.zeros((8, 8)), np.array([2.0, 1.0]), 0.1)
    with pytest.raises(ParameterError, match="diameter"):
        blob_sigmas(0.0)


def test_a_blob_that_was_dropped_drops_no_other() -> None:
    radius_px = np.array([10.0, 9.0, 8.0])
    in_a_row = np.array([[0.0, 0.0], [0.0, 4.0], [0.0, 9.0]])  # each overlaps the next one by half; the ends do not
    assert _larger_ones(in_a_row, radius_px / np.sqrt(2)).tolist() == [True, False, True]
