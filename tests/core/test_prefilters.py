"""The table of classical pre-filters: each does what its name says, in [0, 1]."""

from __future__ import annotations

import numpy as np
import pytest
from skimage import filters

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.prefilters import PREFILTERS, prefiltered


def _noisy_step(rng: np.random.Generator) -> np.ndarray:
    image = np.full((48, 48), 0.25)
    image[:, 24:] = 0.75
    return (image + rng.normal(0, 0.03, image.shape)).clip(0, 1).astype(np.float32)


def test_the_table_is_that_of_the_paper() -> None:
    assert list(PREFILTERS) == [
        "none", "median 3", "median 9", "gaussian 3", "gaussian 9", "bilateral 3", "bilateral 9", "sobel 3", "sobel 9",
        "frangi",
    ]  # fmt: skip


@pytest.mark.parametrize("name", PREFILTERS)
def test_values_stay_in_the_unit_range_and_the_input_is_left_alone(name: str, rng: np.random.Generator) -> None:
    image = rng.random((40, 56)).astype(np.float32)
    before = image.copy()
    found = prefiltered(image, name)
    assert found.shape == image.shape and found.dtype == np.float32
    assert found.min() >= 0 and found.max() <= 1 and np.isfinite(found).all()
    assert (image == before).all()
    assert (found != image).any() == (name != "none")


@pytest.mark.parametrize("kind", ["median", "gaussian", "bilateral"])
def test_smoothing_takes_noise_and_the_larger_kernel_more(kind: str, rng: np.random.Generator) -> None:
    image = _noisy_step(rng)
    flat = np.s_[10:38, 4:14]
    noise = [float(prefiltered(image, name)[flat].std()) for name in ("none", f"{kind} 3", f"{kind} 9")]
    assert noise[0] > 1.5 * noise[1] > 2 * noise[2]


def test_median_and_bilateral_keep_an_edge_that_a_gaussian_blurs(rng: np.random.Generator) -> None:
    image = _noisy_step(rng)

    def rise(name: str) -> float:
        profile = prefiltered(image, name)[8:40].mean(axis=0)
        return float(profile[24] - profile[23])

    assert rise("median 9") > 0.4 and rise("bilateral 9") > 0.4
    assert rise("gaussian 9") < 0.2


def test_kernels_end_where_they_say() -> None:
    point = np.zeros((31, 31))
    point[15, 15] = 1.0
    for name, radius in (("gaussian 3", 1), ("gaussian 9", 4), ("sobel 3", 1), ("sobel 9", 4)):
        ys, _ = np.nonzero(prefiltered(point, name) > 1e-9)
        assert (ys.min(), ys.max()) == (15 - radius, 15 + radius), name


def test_sobel_3_is_that_of_skimage(rng: np.random.Generator) -> None:
    image = rng.random((30, 30))
    np.testing.assert_allclose(prefiltered(image, "sobel 3")[2:-2, 2:-2], filters.sobel(image)[2:-2, 2:-2], atol=1e-6)


@pytest.mark.parametrize("name", ["sobel 3", "sobel 9"])
def test_sobel_of_a_full_step_is_the_same_in_both_directions_and_within_range(name: str) -> None:
    step = np.zeros((40, 40))
    step[:, 20:] = 1.0
    found = prefiltered(step, name)
    np.testing.assert_allclose(found, prefiltered(step.T, name).T, atol=1e-7)
    assert found.max() == pytest.approx(1 / np.sqrt(2) if name == "sobel 3" else found.max(), abs=1e-6)
    assert found[20, 19:21].min() == found.max() and found[20, 5] == 0


def test_sobel_9_ignores_noise_that_sobel_3_takes_for_edges(rng: np.random.Generator) -> None:
    image = _noisy_step(rng)
    shares = []
    for name in ("sobel 3", "sobel 9"):
        found = prefiltered(image, name)
        shares.append(float(found[:, 4:14].mean() / found[:, 23:25].mean()))
    assert shares[1] < 0.5 * shares[0]


def test_frangi_answers_to_dark_ridges() -> None:
    yy, xx = np.mgrid[:64, :64]
    image = 1.0 - 0.8 * np.exp(-((xx - 32.0) ** 2) / 8.0) + 0.0 * yy
    found = prefiltered(image, "frangi")
    assert found.max() == pytest.approx(1.0)
    assert found[32, 32] > 0.9 and found[32, 8] < 0.05


def test_a_flat_image_gives_no_frangi() -> None:
    assert prefiltered(np.full((20, 20), 0.5), "frangi").max() == 0


def test_what_cannot_be_filtered_is_refused() -> None:
    with pytest.raises(ParameterError, match="median 5"):
        prefiltered(np.zeros((8, 8)), "median 5")
    with pytest.raises(ImageError, match="plane"):
        prefiltered(np.zeros((2, 8, 8)), "median 3")
    with pytest.raises(ImageError, match="normalise"):
        prefiltered(np.full((8, 8), 200.0), "median 3")
