"""Classical filters: the published formulas, and windows that equal the whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_cellenhance.core.errors import ImageError, ModelNotFoundError, ParameterError
from napari_cellenhance.core.recipes import classical_responses as responses
from napari_cellenhance.core.recipes.classical import CLASSICAL, make_classical
from napari_cellenhance.core.recipes.protocol import Enhancer
from napari_cellenhance.core.tiling import Region, split

Plane = NDArray[np.float32]
IDS = [info.id for info in CLASSICAL]
SMOOTHING = ("gaussian", "median", "bilateral")
CURVES = ("percentile-stretch", "log-lut", "gamma")
DERIVATIVES = ("dog", "log", "sobel", "frangi")


def nothing() -> None:
    """Nobody asked to stop."""


@pytest.fixture(scope="module")
def plane() -> Plane:
    """Blobs, a line and noise on a plane larger than most halos; normalised."""
    rng = np.random.default_rng(11)
    image = 0.15 * rng.random((70, 93))
    y, x = np.mgrid[:70, :93]
    for cy, cx, r in ((15, 20, 6), (40, 70, 9), (60, 30, 4)):
        image += 0.6 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * (r / 1.5) ** 2))
    image[30:32, 5:50] += 0.5
    return np.clip(image, 0, 1).astype(np.float32)


def enhance(enhancer: Enhancer, image: Plane, strength: float, region: Region | None = None) -> Plane:
    calibration = enhancer.calibrate([image], nothing)
    return enhancer.decode(enhancer.encode(image, region or Region.whole(image), calibration), strength)


def disc(radius: float, side: int = 101) -> Plane:
    y, x = np.mgrid[:side, :side] - side // 2
    return (y**2 + x**2 <= radius**2).astype(np.float32)


# --- the contract -----------------------------------------------------------------------


def test_every_filter_of_the_papers_is_there_with_a_card_that_explains_itself() -> None:
    assert [*CURVES, *SMOOTHING, *DERIVATIVES] == IDS
    for info in CLASSICAL:
        assert info.group == "Classical"
        assert info.title
        assert info.summary.endswith(".")
        assert info.strength.label
        assert len(info.strength.help) > 20
        assert 0 < info.strength.default <= info.strength.maximum
        assert isinstance(make_classical(info.id), Enhancer)
        assert make_classical(info.id).info is info
    assert {info.strength.unit for info in CLASSICAL if info.id in SMOOTHING + DERIVATIVES} == {"px"}


def test_an_unknown_filter_is_refused_with_the_list() -> None:
    with pytest.raises(ModelNotFoundError, match="gaussian, "):
        make_classical("no-such-filter")


@pytest.mark.parametrize("filter_id", IDS)
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_output_is_float32_in_zero_one_and_the_input_is_untouched(filter_id: str, share: float, plane: Plane) -> None:
    before = plane.copy()
    enhancer = make_classical(filter_id)
    result = enhance(enhancer, plane, share * enhancer.info.strength.maximum)
    assert result.dtype == np.float32
    assert result.shape == plane.shape
    assert result.min() >= 0.0
    assert result.max() <= 1.0
    assert result.std() > 0.0
    assert not np.shares_memory(result, plane)
    np.testing.assert_array_equal(plane, before)


@pytest.mark.parametrize("filter_id", IDS)
@pytest.mark.parametrize("share", [0.15, 1.0])
@pytest.mark.parametrize("tile_px", [17, 40])
def test_tiles_equal_the_whole(filter_id: str, share: float, tile_px: int, plane: Plane) -> None:
    enhancer = make_classical(filter_id)
    strength = share * enhancer.info.strength.maximum
    calibration = enhancer.calibrate([plane], nothing)
    whole = enhancer.decode(enhancer.encode(plane, Region.whole(plane), calibration), strength)
    tiled = np.zeros_like(plane)
    for tile in split(plane.shape, tile_px, 0):
        tiled[tile.core.slices] = enhancer.decode(enhancer.encode(plane, tile.core, calibration), strength)
    np.testing.assert_allclose(tiled, whole, atol=1e-6)


@pytest.mark.parametrize("filter_id", IDS)
@pytest.mark.parametrize("region", [Region(0, 1, 0, 1), Region(10, 33, 60, 93), Region(69, 70, 0, 93)])
def test_a_region_is_a_crop_of_the_whole(filter_id: str, region: Region, plane: Plane) -> None:
    enhancer = make_classical(filter_id)
    strength = enhancer.info.strength.default
    whole = enhance(enhancer, plane, strength)
    np.testing.assert_allclose(enhance(enhancer, plane, strength, region), whole[region.slices], atol=1e-6)


@pytest.mark.parametrize("filter_id", IDS)
def test_on_a_plane_larger_than_every_halo_a_window_still_equals_the_whole(filter_id: str) -> None:
    image = np.random.default_rng(2).random((40, 420), np.float32)
    enhancer = make_classical(filter_id)
    strength = enhancer.info.strength.maximum
    window = Region(5, 30, 190, 220)
    assert enhancer.encode(image, window, enhancer.calibrate([image], nothing)).window.shape[1] < 420
    whole = enhance(enhancer, image, strength)
    np.testing.assert_allclose(enhance(enhancer, image, strength, window), whole[window.slices], atol=1e-6)


@pytest.mark.parametrize("filter_id", IDS)
def test_one_pass_equals_two(filter_id: str, plane: Plane) -> None:
    enhancer = make_classical(filter_id)
    both = enhancer.calibrate_and_encode(plane, nothing)
    assert both is not None
    strength = enhancer.info.strength.default
    np.testing.assert_array_equal(enhancer.decode(both[1], strength), enhance(enhancer, plane, strength))


@pytest.mark.parametrize("filter_id", IDS)
def test_a_strength_gives_the_same_pixels_whatever_was_asked_before(filter_id: str, plane: Plane) -> None:
    enhancer = make_classical(filter_id)
    features = enhancer.encode(plane, Region(3, 50, 4, 60), enhancer.calibrate([plane], nothing))
    info = enhancer.info.strength
    first = enhancer.decode(features, info.default)
    enhancer.decode(features, info.maximum)
    np.testing.assert_array_equal(enhancer.decode(features, info.default), first)


@pytest.mark.parametrize("filter_id", CURVES + SMOOTHING)
def test_a_vanishing_strength_approaches_the_input(filter_id: str, plane: Plane) -> None:
    enhancer = make_classical(filter_id)
    assert enhancer.info.strength.minimum == 0
    result = enhance(enhancer, plane, 1e-4 * enhancer.info.strength.maximum)
    np.testing.assert_allclose(result, plane, atol=0.03)
    weaker = enhance(enhancer, plane, 1e-6 * enhancer.info.strength.maximum)
    assert np.abs(weaker - plane).max() <= np.abs(result - plane).max() + 1e-6
    np.testing.assert_allclose(weaker, plane, atol=1e-3)


@pytest.mark.parametrize("filter_id", IDS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (1, 40), (40, 1), (17, 31)])
def test_small_planes_keep_their_shape(filter_id: str, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).random(shape, np.float32)
    enhancer = make_classical(filter_id)
    result = enhance(enhancer, image, enhancer.info.strength.maximum)
    assert result.shape == shape
    assert np.isfinite(result).all()


@pytest.mark.parametrize("filter_id", DERIVATIVES)
@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_flat_plane_is_not_blown_up_to_full_contrast(filter_id: str, value: float) -> None:
    image = np.full((30, 30), value, np.float32)
    enhancer = make_classical(filter_id)
    assert not enhance(enhancer, image, enhancer.info.strength.default).any()


@pytest.mark.parametrize("filter_id", IDS)
def test_layouts_and_read_only_planes_are_no_obstacle(filter_id: str, plane: Plane) -> None:
    enhancer = make_classical(filter_id)
    strength = enhancer.info.strength.default
    expected = enhance(enhancer, plane, strength)
    turned = np.ascontiguousarray(plane[::-1, ::-1])[::-1, ::-1]
    turned.flags.writeable = False
    np.testing.assert_allclose(enhance(enhancer, turned, strength), expected, atol=1e-6)


@pytest.mark.parametrize("filter_id", IDS)
def test_strengths_are_clamped_and_zero_is_refused(filter_id: str, plane: Plane) -> None:
    enhancer = make_classical(filter_id)
    info = enhancer.info.strength
    small = np.ascontiguousarray(plane[:20, :20])
    np.testing.assert_array_equal(enhance(enhancer, small, 9 * info.maximum), enhance(enhancer, small, info.maximum))
    if info.minimum == 0:
        with pytest.raises(ParameterError, match="strength 0 is the input itself"):
            enhance(enhancer, small, 0.0)
    with pytest.raises(ParameterError, match="strength is nan"):
        enhance(enhancer, small, float("nan"))


@pytest.mark.parametrize("planes", [[], [np.zeros((0, 4), np.float32)], [np.zeros((2, 3, 4), np.float32)]])
def test_calibration_without_a_plane_is_refused(planes: list[Any]) -> None:
    with pytest.raises(ImageError, match="at least one plane"):
        make_classical("dog").calibrate(planes, nothing)


@pytest.mark.parametrize("filter_id", [*DERIVATIVES, "percentile-stretch"])
def test_planes_calibrated_together_share_their_scale(filter_id: str, plane: Plane) -> None:
    dim = (0.25 * plane).astype(np.float32)
    enhancer = make_classical(filter_id)
    calibration = enhancer.calibrate([plane, dim], nothing)
    strength = enhancer.info.strength.default
    bright_result, dim_result = (
        enhancer.decode(enhancer.encode(p, Region.whole(p), calibration), strength) for p in (plane, dim)
    )
    assert bright_result.max() == pytest.approx(1.0)
    assert dim_result.max() < 0.5
    assert enhance(enhancer, dim, strength).max() == pytest.approx(1.0)


def test_calibration_lets_itself_be_stopped(plane: Plane) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    for filter_id in IDS:
        with pytest.raises(KeyboardInterrupt):
            make_classical(filter_id).calibrate([plane], stop)


def test_features_of_a_small_window_do_not_keep_the_plane_alive(plane: Plane) -> None:
    enhancer = make_classical("median")
    features = enhancer.encode(plane, Region(20, 30, 20, 30), enhancer.calibrate([plane], nothing))
    assert not np.shares_memory(features.window, plane)
    assert features.window.shape == (20, 20)


# --- the formulas -----------------------------------------------------------------------


def scaled(response: NDArray[Any]) -> NDArray[Any]:
    return np.clip(response / response.max(), 0, 1)


def test_dog_equals_that_of_scikit_image(plane: Plane) -> None:
    from skimage.filters import difference_of_gaussians

    expected = difference_of_gaussians(plane, 3.0, 1.6 * 3.0)
    np.testing.assert_array_equal(responses.difference_of_gaussians(plane, 3.0), expected)
    np.testing.assert_allclose(enhance(make_classical("dog"), plane, 3.0), scaled(expected), atol=1e-6)


def test_log_of_a_disc_peaks_at_its_radius_over_root_two_with_two_over_e() -> None:
    image = disc(12, 121)
    sigmas = np.arange(7.0, 10.0, 0.05)
    at_centre = np.array([responses.laplacian_of_gaussian(image, float(sigma))[60, 60] for sigma in sigmas])
    assert sigmas[at_centre.argmax()] == pytest.approx(12 / np.sqrt(2), rel=0.03)
    assert at_centre.max() == pytest.approx(2 / np.e, abs=0.002)


def test_log_answers_brightest_at_the_centre_of_a_bright_disc_and_not_to_a_dark_one() -> None:
    result = enhance(make_classical("log"), disc(10), 10 / np.sqrt(2))
    assert np.unravel_index(result.argmax(), result.shape) == (50, 50)
    assert result.max() == 1.0
    assert enhance(make_classical("log"), 1 - disc(10), 10 / np.sqrt(2))[50, 50] == 0.0


def test_gaussian_is_that_of_scipy(plane: Plane) -> None:
    np.testing.assert_array_equal(
        enhance(make_classical("gaussian"), plane, 2.5), gaussian_filter(plane, 2.5, mode="nearest")
    )


@pytest.mark.parametrize(("radius", "side"), [(1, 3), (4, 9)])
def test_median_over_a_square(radius: int, side: int, plane: Plane) -> None:
    result = enhance(make_classical("median"), plane, radius)
    assert result[33, 41] == np.median(plane[33 - radius : 34 + radius, 41 - radius : 42 + radius])
    assert (2 * radius + 1) == side


def test_median_removes_a_single_odd_pixel_and_keeps_an_edge() -> None:
    image = np.zeros((20, 20), np.float32)
    image[:, 10:] = 0.5
    expected = image.copy()
    image[5, 5] = 1.0
    np.testing.assert_array_equal(enhance(make_classical("median"), image, 1), expected)


def test_bilateral_equals_its_definition_pixel_by_pixel() -> None:
    image = np.random.default_rng(8).random((12, 14)).astype(np.float32)
    sigma, radius = 1.2, responses.reach(1.2, responses.BILATERAL_SPAN)
    padded = np.pad(image.astype(np.float64), radius, mode="edge")
    dy, dx = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    expected = np.empty(image.shape)
    for y, x in np.ndindex(*image.shape):
        window = padded[y : y + 2 * radius + 1, x : x + 2 * radius + 1]
        weight = np.exp(-(dy**2 + dx**2) / (2 * sigma**2)) * (dy**2 + dx**2 <= radius**2)
        weight *= np.exp(-((window - image[y, x]) ** 2) / (2 * responses.BILATERAL_SIGMA_VALUE**2))
        expected[y, x] = (weight * window).sum() / weight.sum()
    np.testing.assert_allclose(enhance(make_classical("bilateral"), image, sigma), expected, atol=1e-5)


def test_bilateral_smooths_noise_but_not_an_edge_unlike_the_gaussian() -> None:
    rng = np.random.default_rng(0)
    step = np.repeat([0.2, 0.9], 30)[None].repeat(40, 0)
    noisy = (step + 0.03 * rng.standard_normal(step.shape)).astype(np.float32)
    bilateral = enhance(make_classical("bilateral"), noisy, 2.0)
    gaussian = enhance(make_classical("gaussian"), noisy, 2.0)
    assert bilateral[5:-5, 5:25].std() < 0.4 * noisy[5:-5, 5:25].std()
    assert np.abs(bilateral - step)[:, 28:32].mean() < 0.1 * np.abs(gaussian - step)[:, 28:32].mean()


def test_sobel_is_proportional_to_that_of_scikit_image(plane: Plane) -> None:
    from skimage.filters import sobel

    expected = sobel(gaussian_filter(plane, 1.5, mode="nearest"))[1:-1, 1:-1]
    result = enhance(make_classical("sobel"), plane, 1.5)[1:-1, 1:-1]
    np.testing.assert_allclose(result / result.mean(), expected / expected.mean(), atol=1e-4)


def test_frangi_answers_to_a_bright_line_and_not_to_a_blob_or_a_dark_line() -> None:
    y, x = np.mgrid[:80, :120]
    image = 0.5 + 0.5 * np.exp(-((y - 20) ** 2) / 8) + 0.5 * np.exp(-((y - 55) ** 2 + (x - 30) ** 2) / 8)
    image -= 0.5 * np.exp(-((y - 55) ** 2) / 8) * (x > 60)
    result = enhance(make_classical("frangi"), image.astype(np.float32), 2.0)
    assert result[20, 10:110].min() > 0.9
    assert result[55, 30] < 0.2
    assert result[55, 80:110].max() < 0.05


def test_frangi_agrees_with_scikit_image_at_one_scale(plane: Plane) -> None:
    from skimage.filters import frangi

    expected = scaled(frangi(plane, sigmas=[2.0], black_ridges=False, mode="nearest"))
    result = enhance(make_classical("frangi"), plane, 2.0)
    assert np.corrcoef(result.ravel(), expected.ravel())[0, 1] > 0.97


def test_the_stretch_brings_the_percentiles_to_black_and_white(plane: Plane) -> None:
    low, high = np.percentile(plane, (2, 99.8))
    result = enhance(make_classical("percentile-stretch"), plane, 1.0)
    np.testing.assert_allclose(result, np.clip((plane - low) / (high - low), 0, 1), atol=1e-5)
    half = enhance(make_classical("percentile-stretch"), plane, 0.5)
    middle = np.clip((plane - low / 2) / ((1 + high) / 2 - low / 2), 0, 1)
    np.testing.assert_allclose(half, middle, atol=1e-5)


@pytest.mark.parametrize(
    ("filter_id", "strength", "curve"),
    [
        ("log-lut", 255.0, lambda x: np.log(1 + 255 * x) / np.log(256)),
        ("gamma", 1.0, lambda x: x**2),
        ("gamma", 0.5, lambda x: x**1.5),
    ],
)
def test_curves(filter_id: str, strength: float, curve: Callable[[Any], Any], plane: Plane) -> None:
    result = enhance(make_classical(filter_id), plane, strength)
    np.testing.assert_allclose(result, curve(plane.astype(np.float64)), atol=1e-5)
    assert (np.diff(result.ravel()[plane.ravel().argsort()]) >= -1e-6).all()


@pytest.mark.parametrize("filter_id", CURVES)
def test_curves_bear_values_outside_the_range(filter_id: str) -> None:
    image = np.array([[-3.0, -1.0, 0.0, 0.5, 1.0, 7.0]], np.float32)
    result = enhance(make_classical(filter_id), image, make_classical(filter_id).info.strength.default)
    assert np.isfinite(result).all()
    assert (np.diff(result[0]) >= 0).all()
