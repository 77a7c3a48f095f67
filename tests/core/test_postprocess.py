"""Thresholds, labels and blobs on shapes whose answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.metrics import iou, match_points
from napari_cellenhance.core.postprocess import (
    CleanOptions,
    blob_candidates,
    centroids,
    clean_labels,
    detect_blobs,
    ellipse,
    gaussian_derivative,
    label_boxes,
    label_mask,
    laplacian_of_gaussian,
    segment,
    threshold,
)


def discs(centres: list[tuple[float, float]], radius: float, shape: tuple[int, int] = (80, 100)) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = np.zeros(shape, np.float32)
    for cy, cx in centres:
        image[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = 1
    return image


# --- threshold --------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["otsu", "li"])
def test_automatic_thresholds_lie_between_ground_and_objects(method: Any) -> None:
    rng = np.random.default_rng(0)
    image = 0.2 + 0.6 * discs([(40, 50)], 20) + 0.03 * rng.standard_normal((80, 100))
    assert 0.25 < threshold(image, method) < 0.75


def test_li_is_gentler_to_dim_objects_than_otsu() -> None:
    image = 0.05 * np.random.default_rng(0).random((80, 100)) + 0.3 * discs([(20, 20)], 9) + discs([(50, 70)], 9)
    assert threshold(image, "li") < threshold(image, "otsu")


def test_a_manual_threshold_is_the_value_itself() -> None:
    assert threshold(np.zeros((3, 3)), "manual", 0.25) == 0.25
    with pytest.raises(ParameterError, match="finite"):
        threshold(np.zeros((3, 3)), "manual", np.nan)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ParameterError, match="otsu, li or manual"):
        threshold(np.zeros((3, 3)), "yen")  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["otsu", "li"])
def test_pixels_that_are_no_numbers_are_passed_over(method: Any) -> None:
    image = 0.1 * np.random.default_rng(0).random((80, 100)) + discs([(40, 50)], 20)
    expected = threshold(image[1:], method)
    image[0] = np.nan
    assert threshold(image, method) == pytest.approx(expected)
    assert threshold(np.full((4, 4), np.nan), method) == 0.0


# --- labels -----------------------------------------------------------------------------


def test_objects_apart_are_numbered_in_reading_order() -> None:
    image = discs([(15, 70), (20, 20), (60, 50)], 8)
    labels = segment(image)
    assert labels.dtype == np.uint32
    assert [labels[15, 70], labels[20, 20], labels[60, 50]] == [1, 2, 3]
    np.testing.assert_array_equal(labels > 0, image > 0)


@pytest.mark.parametrize("radius", [5, 8, 12, 18])
def test_touching_discs_are_cut_apart_at_any_size(radius: int) -> None:
    distance = 1.6 * radius
    image = discs([(40, 50 - distance / 2), (40, 50 + distance / 2)], radius)
    assert segment(image, split_touching=False).max() == 1
    labels = segment(image, split_touching=True)
    assert labels.max() == 2
    left, right = labels == labels[40, int(50 - radius)], labels == labels[40, int(50 + radius)]
    assert abs(int(left.sum()) - int(right.sum())) < 0.1 * left.sum()
    np.testing.assert_array_equal(labels > 0, image > 0)


@pytest.mark.parametrize("seed", range(4))
def test_a_lone_object_with_a_rough_outline_is_not_cut(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:80, :100]
    angle = np.arctan2(y - 40, x - 50)
    rough = 1 + 0.03 * sum(np.cos(k * angle + rng.uniform(0, 6)) for k in (3, 5, 8))
    image = (((y - 40) / 16) ** 2 + ((x - 50) / 26) ** 2 < rough**2).astype(float)
    assert segment(image).max() == 1


def test_objects_at_the_border_are_split_too() -> None:
    image = discs([(0, 20), (0, 36)], 10, (40, 60))
    assert segment(image).max() == 2


def test_small_objects_are_dropped_and_the_rest_renumbered() -> None:
    image = discs([(10, 10)], 2) + discs([(40, 50)], 10)
    assert segment(image, min_size_px=30).max() == 1
    assert segment(image, min_size_px=0).max() == 2
    assert not segment(image, min_size_px=10_000).any()
    with pytest.raises(ParameterError, match="0 or more"):
        segment(image, min_size_px=-1)


def test_only_values_above_a_manual_threshold_count() -> None:
    image = np.array([[0.2, 0.5, 0.500001]])
    np.testing.assert_array_equal(segment(image, "manual", 0.5, False, 0), [[0, 0, 1]])


@pytest.mark.parametrize("is_split", [True, False])
@pytest.mark.parametrize("value", [0.0, 0.5, np.nan])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (0, 4), (30, 30)])
def test_a_plane_without_contrast_has_no_objects(shape: tuple[int, int], value: float, is_split: bool) -> None:
    labels = segment(np.full(shape, value), split_touching=is_split)
    assert labels.shape == shape
    assert not labels.any()


def test_a_plane_all_above_the_threshold_is_one_object() -> None:
    np.testing.assert_array_equal(segment(np.ones((12, 9)), "manual", 0.5, True, 0), np.ones((12, 9)))


def test_volumes_are_split_in_three_dimensions() -> None:
    z, y, x = np.mgrid[:30, :30, :50]
    balls = [(z - 15) ** 2 + (y - 15) ** 2 + (x - c) ** 2 <= 100 for c in (17, 33)]
    image = np.logical_or(*balls)
    labels = segment(image.astype(float))
    assert labels.max() == 2
    assert iou(labels == labels[15, 15, 12], balls[0]) > 0.9


def test_integer_and_boolean_images_are_segmented_and_not_written_to() -> None:
    for dtype in (bool, np.uint8, ">u2"):
        image = (discs([(20, 20), (50, 60)], 8) * 200).astype(dtype)
        before = image.copy()
        assert segment(image).max() == 2
        np.testing.assert_array_equal(image, before)


# --- derivatives ------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.5, 0.8, 2.0, 7.5, 20.0])
def test_derivatives_of_a_constant_are_zero_and_of_a_slope_its_steepness(sigma: float) -> None:
    constant = np.ones((60, 200), np.float32)
    slope = np.broadcast_to(0.01 * np.arange(200, dtype=np.float32), (60, 200))
    for order in ((1, 0), (0, 1), (1, 1), (2, 0), (0, 2)):
        np.testing.assert_allclose(sigma**2 * gaussian_derivative(constant, sigma, order), 0, atol=1e-6)
    np.testing.assert_allclose(gaussian_derivative(constant, sigma, (0, 0)), 1, atol=1e-6)
    if sigma >= 0.8:
        np.testing.assert_allclose(gaussian_derivative(slope, sigma, (0, 1))[:, 90:110], 0.01, rtol=0.01)
    np.testing.assert_allclose(gaussian_derivative(slope, sigma, (0, 2))[:, 90:110], 0, atol=1e-6)


def test_derivatives_agree_with_scipy_but_for_its_answer_to_a_constant() -> None:
    from scipy.ndimage import gaussian_laplace

    plane = np.random.default_rng(0).random((50, 60), np.float32)
    plane -= plane.mean()
    theirs = -9 * gaussian_laplace(plane, 3.0, mode="nearest")
    np.testing.assert_allclose(laplacian_of_gaussian(plane, 3.0), theirs, atol=2e-3)


# --- blobs ------------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [4, 6, 9, 14])
def test_discs_are_found_with_their_radius(radius: int) -> None:
    centres = [(22, 25), (22, 75), (58, 40)]
    points, radii = detect_blobs(discs(centres, radius), 3, 20, 0.3)
    assert match_points(points, centres, 1.5).f1 == 1.0
    np.testing.assert_allclose(radii, radius, rtol=0.12)


def test_discs_of_different_sizes_are_told_apart() -> None:
    image = discs([(20, 20)], 4) + discs([(45, 65)], 14)
    points, radii = detect_blobs(image, 3, 20, 0.3)
    order = np.argsort(radii)
    np.testing.assert_allclose(points[order], [(20, 20), (45, 65)], atol=1)
    np.testing.assert_allclose(radii[order], (4, 14), rtol=0.15)


def test_blobs_come_strongest_first_and_above_the_threshold_only() -> None:
    image = 0.4 * discs([(20, 20)], 6) + discs([(50, 60)], 6)
    points, _ = detect_blobs(image, 4, 9, 0.1)
    np.testing.assert_allclose(points, [(50, 60), (20, 20)], atol=1)
    assert len(detect_blobs(image, 4, 9, 0.4)[0]) == 1
    assert len(detect_blobs(image, 4, 9, 0.8)[0]) == 0


def test_touching_discs_are_two_blobs_and_noise_does_not_double_them() -> None:
    rng = np.random.default_rng(0)
    image = discs([(40, 42), (40, 58)], 8) + 0.1 * rng.standard_normal((80, 100)).astype(np.float32)
    points, _ = detect_blobs(image, 4, 14, 0.3)
    assert match_points(points, [(40, 42), (40, 58)], 2).f1 == 1.0


def test_one_radius_is_enough() -> None:
    points, radii = detect_blobs(discs([(30, 30)], 6), 6, 6, 0.3)
    np.testing.assert_allclose(points, [(30, 30)], atol=1)
    np.testing.assert_allclose(radii, [6])


@pytest.mark.parametrize("image", [np.zeros((20, 20)), np.ones((20, 20)), np.ones((1, 1)), np.zeros((0, 5))])
def test_a_plane_without_contrast_has_no_blobs(image: np.ndarray) -> None:
    points, radii = detect_blobs(image, 3, 9, 0.0)
    assert points.shape == (0, 2)
    assert radii.shape == (0,)


@pytest.mark.parametrize(
    ("low", "high", "least"), [(0, 5, 0.1), (6, 5, 0.1), (3, np.inf, 0.1), (np.nan, 5, 0.1), (3, 5, np.nan)]
)
def test_blob_settings_that_make_no_sense_are_refused(low: float, high: float, least: float) -> None:
    with pytest.raises(ParameterError, match="expected"):
        detect_blobs(np.zeros((9, 9)), low, high, least)


def test_blobs_are_sought_in_planes_only() -> None:
    with pytest.raises(ImageError, match="plane by plane"):
        detect_blobs(np.zeros((3, 9, 9)), 3, 5, 0.1)


def test_blobs_agree_with_scikit_image(cells: Any) -> None:
    from skimage.feature import blob_log

    image = cells.image.astype(np.float64)
    low, high = np.percentile(image, (0.1, 99.9))
    image = np.clip((image - low) / (high - low), 0, 1)
    ours, _ = detect_blobs(image, 5, 12, 0.2)
    theirs = blob_log(image, 5 / 2**0.5, 12 / 2**0.5, num_sigma=8, log_scale=True, threshold=0.2)[:, :2]
    assert match_points(ours, cells.centres, 3).f1 >= match_points(theirs, cells.centres, 3).f1
    assert match_points(ours, cells.centres, 3).recall == 1.0


def test_candidates_of_a_known_radius_carry_their_response() -> None:
    yy, xx = np.mgrid[:80, :80]
    plane = np.zeros((80, 80), np.float32)
    for (y, x), height in (((20, 20), 1.0), ((55, 60), 0.4)):
        plane[(yy - y) ** 2 + (xx - x) ** 2 <= 36] = height
    points, responses = blob_candidates(plane, 6.0)
    order = np.argsort(-responses)[:2]
    np.testing.assert_allclose(points[order], [[20, 20], [55, 60]], atol=1)
    np.testing.assert_allclose(responses[order], [2 / np.e, 0.4 * 2 / np.e], rtol=0.08)


def test_centroids_follow_the_ids() -> None:
    labels = np.zeros((10, 12), np.uint16)
    labels[0:3, 0:3], labels[6:9, 5:10] = 7, 2
    np.testing.assert_allclose(centroids(labels), [[7, 7], [1, 1]])
    assert centroids(np.zeros((4, 4), np.uint16)).shape == (0, 2)


def test_a_small_hole_is_no_neck_and_is_filled() -> None:
    y, x = np.mgrid[:60, :90]
    disc = (y - 30) ** 2 + (x - 30) ** 2 < 20**2
    pierced = disc.copy()
    pierced[30, 30] = pierced[22, 30] = pierced[38, 31] = False
    ids = label_mask(pierced)
    assert ids.max() == 1 and np.array_equal(ids > 0, disc)
    ring = disc & ~((y - 30) ** 2 + (x - 30) ** 2 < 10**2)
    assert not label_mask(ring, split_touching=False)[30, 30], "a large hole stays"
    two = disc | ((y - 30) ** 2 + (x - 58) ** 2 < 14**2)
    assert label_mask(two).max() == 2 and label_mask(two, split_touching=False).max() == 1
    assert not label_mask(disc, min_size_px=10**4).any()


# --- objects of a semantic filter ------------------------------------------------------------


def test_a_filtered_plane_is_opened_filled_cut_and_sifted() -> None:
    image = discs([(40, 25), (40, 52)], 15)  # discs that touch
    image[38:43, 22:28] = 0  # a hole
    image[5:25, 80] = 1  # a thread that the opening takes
    image[60:70, 80:90] = 1  # 100 px, less than 300
    labels = clean_labels(image)
    assert labels.dtype == np.uint32 and labels.max() == 2
    assert labels[40, 25] == 1 and labels[40, 52] == 2
    assert labels[40, 15] == labels[35, 25] and labels[40, 60] == labels[30, 52]
    assert not labels[5:25, 80].any() and not labels[60:70, 80:90].any()
    assert clean_labels(image, CleanOptions(min_size_px=50)).max() == 3
    assert clean_labels(image, CleanOptions(split_touching=False)).max() == 1


def test_an_oblong_object_with_a_shallow_waist_stays_whole_unless_every_maximum_counts() -> None:
    y, x = np.mgrid[:80, :100]
    waisted = np.abs(y - 40) <= 12 - np.where(np.abs(x - 50) < 4, 1, 0)
    image = (waisted & (np.abs(x - 50) < 30)).astype(np.float32)
    assert clean_labels(image).max() == 1
    assert clean_labels(image, CleanOptions(neck_depth=0)).max() == 2
    assert clean_labels(discs([(40, 25), (40, 52)], 15), CleanOptions(neck_depth=0.6)).max() == 1
    with pytest.raises(ParameterError, match="depth of necks is 1"):
        CleanOptions(neck_depth=1)


def test_two_ends_of_one_height_are_one_object_where_the_waist_is_shallow() -> None:
    y, x = np.mgrid[:80, :100]
    end = (np.abs(x - 50) < 30).astype(np.float32)
    shallow = end * (np.abs(y - 40) <= 12 - np.where(np.abs(x - 50) < 4, 1, 0))
    assert segment(shallow, "manual").max() == 1
    deep = end * (np.abs(y - 40) <= 12 - np.where(np.abs(x - 50) < 4, 5, 0))
    assert segment(deep, "manual").max() == 2
    assert segment(deep, "manual", split_depth=0.6).max() == 1


def test_a_bump_on_a_tapering_end_is_no_object_of_its_own() -> None:
    y, x = np.mgrid[:60, :110]
    half_width = np.interp(x[0], [5, 45, 74, 82, 90, 97, 105], [20, 20, 10, 11.6, 11.6, 9, 4])
    image = ((np.abs(y - 30) <= half_width) & (x >= 5) & (x <= 105)).astype(np.float32)
    assert segment(image, "manual").max() == 1
    assert segment(image, "manual", split_depth=0.01).max() == 2, "there is a bump"


def test_the_hole_stays_open_where_it_is_the_ground() -> None:
    image = discs([(40, 50)], 20) - discs([(40, 50)], 8)
    image[40, 50:] = 0  # a cut to the outside
    image[38:43, 50:] = 0
    assert clean_labels(image, CleanOptions(split_touching=False, n_openings=0))[40, 50] == 0


def test_the_edge_of_the_image_erodes_nothing() -> None:
    image = np.zeros((40, 40), np.float32)
    image[:, :20] = 1
    assert (clean_labels(image) > 0).sum() == 40 * 20


def test_the_threshold_is_lowered_by_its_factor() -> None:
    image = discs([(40, 25)], 14) + np.float32(0.45) * discs([(40, 75)], 14)
    of_half = CleanOptions(method="manual", threshold_value=0.5)
    assert clean_labels(image, of_half).max() == 1
    assert clean_labels(image, CleanOptions(method="manual", threshold_value=0.5, threshold_factor=0.8)).max() == 2


def test_a_closing_joins_what_boxes_should_hold_together() -> None:
    image = np.zeros((60, 80), np.float32)
    image[20:40, 20:40] = image[20:40, 43:63] = 1
    plain = CleanOptions(split_touching=False)
    assert clean_labels(image, plain).max() == 2
    closed = clean_labels(image, CleanOptions(split_touching=False, closing_px=5))
    assert closed.max() == 1
    assert label_boxes(closed).tolist() == [[[19.5, 19.5], [19.5, 62.5], [39.5, 62.5], [39.5, 19.5]]]


def test_nothing_and_pixels_that_are_no_numbers_are_ground() -> None:
    assert not clean_labels(np.zeros((30, 30))).any()
    assert clean_labels(np.zeros((0, 5))).shape == (0, 5)
    image = discs([(40, 50)], 20)
    image[:, 90:] = np.nan
    labels = clean_labels(image)
    assert labels.max() == 1 and not labels[:, 90:].any()


@pytest.mark.parametrize(
    "wrong",
    [{"threshold_factor": 0}, {"n_openings": -1}, {"closing_px": 4}, {"window_px": 10}, {"min_size_px": -1}],
)
def test_options_out_of_range_are_refused(wrong: Any) -> None:
    with pytest.raises(ParameterError, match="expected"):
        CleanOptions(**wrong)


def test_only_planes_are_labelled_and_boxed() -> None:
    with pytest.raises(ImageError, match="plane by plane"):
        clean_labels(np.zeros((2, 5, 5)))
    with pytest.raises(ImageError, match="plane by plane"):
        label_boxes(np.zeros((2, 5, 5), int))


def test_the_ellipse_of_eleven_is_a_disc() -> None:
    # √(25 − dy²) for dy = 5, 4, 3, 2: 0, 3, 4, 4.58, rounded.
    assert ellipse(11).sum(axis=1).tolist() == [1, 7, 9, 11, 11, 11, 11, 11, 9, 7, 1]


def test_boxes_of_no_object_and_of_ids_with_gaps() -> None:
    assert label_boxes(np.zeros((4, 4), np.uint32)).shape == (0, 4, 2)
    labels = np.zeros((6, 6), np.uint32)
    labels[4, 4], labels[0:2, 0:3] = 7, 90
    assert label_boxes(labels)[:, 0].tolist() == [[3.5, 3.5], [-0.5, -0.5]]
