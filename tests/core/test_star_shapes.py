"""Stars from labels and labels from stars (METHODS §7.1, T-D2, T-D4)."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.instances import overlaps
from napari_cellenhance.core.star_nms import candidates, suppress
from napari_cellenhance.core.star_shapes import IGNORED, Stars, are_inside, render, star_targets, window_of


def _disc(shape: tuple[int, int], centre: tuple[float, float], radius: float) -> np.ndarray:
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    return (yy - centre[0]) ** 2 + (xx - centre[1]) ** 2 <= radius**2


def _nuclei() -> np.ndarray:
    """Nine ellipses in 96 × 128 px, two of them touching, one cut by the edge."""
    labels = np.zeros((96, 128), np.int32)
    yy, xx = np.mgrid[:96, :128]
    places = [(18, 20), (18, 50), (20, 90), (50, 15), (52, 48), (54, 63), (50, 100), (80, 30), (93, 80)]
    for i, (y, x) in enumerate(places, start=1):
        labels[((yy - y) / 11) ** 2 + ((xx - x) / (7 + i % 3)) ** 2 <= 1] = 10 * i
    return labels


def _brute(labels: np.ndarray, n_rays: int) -> np.ndarray:
    """Distances step by step, pixel by pixel, as they are defined."""
    result = np.zeros((n_rays, *labels.shape))
    height, width = labels.shape
    for y, x in zip(*np.nonzero(labels > 0), strict=True):
        for k in range(n_rays):
            s, c = np.sin(2 * np.pi * k / n_rays), np.cos(2 * np.pi * k / n_rays)
            t = 1
            while True:
                row, column = int(np.floor(y + t * s + 0.5)), int(np.floor(x + t * c + 0.5))
                is_inside = 0 <= row < height and 0 <= column < width
                if not is_inside or labels[row, column] != labels[y, x]:
                    break
                t += 1
            result[k, y, x] = t - 1 + 0.5 / max(abs(s), abs(c))
    return result


@pytest.mark.parametrize("radius", [4, 7.5, 12])
def test_distances_at_the_centre_of_a_disc_are_its_radius(radius: float) -> None:
    distances = star_targets(_disc((41, 45), (20, 22), radius).astype(int)).distances
    assert distances.shape == (32, 41, 45)
    assert np.abs(distances[:, 20, 22] - radius).max() <= 0.5**0.5 + 1e-5, "half a pixel, across"


def test_ray_0_points_right_and_ray_8_down() -> None:
    labels = np.zeros((20, 30), int)
    labels[4:15, 6:26] = 1
    at = star_targets(labels).distances[:, 6, 9]
    assert [float(at[k]) for k in (0, 8, 16, 24)] == [16.5, 8.5, 3.5, 2.5]
    polygon = Stars.of([[6, 9]], at[None]).polygons[0]
    assert np.allclose(polygon[:, 0], (6, 25.5)) and np.allclose(polygon[:, 8], (14.5, 9))


def test_skipped_steps_change_no_distance() -> None:
    labels = _nuclei()[36:66, 38:74]
    labels[16:19, 4:12] = IGNORED
    for n_rays in (16, 7):
        assert np.abs(star_targets(labels, n_rays).distances - _brute(labels, n_rays)).max() < 1e-5
    whole = np.full((13, 17), 3)
    assert np.abs(star_targets(whole, 9).distances - _brute(whole, 9)).max() < 1e-5, "an object that fills the image"


def test_probability_is_the_depth_over_the_object_s_own_maximum() -> None:
    labels = np.zeros((30, 40), int)
    labels[2:9, 3:10], labels[12:27, 15:30] = 4, 9
    probabilities = star_targets(labels).probabilities
    assert probabilities[5, 6] == probabilities[19, 22] == 1
    assert probabilities[2, 3] == pytest.approx(1 / 4) and probabilities[12, 20] == pytest.approx(1 / 8)
    assert (probabilities[labels == 0] == 0).all()


def test_touching_objects_end_each_other_s_rays() -> None:
    labels = np.zeros((20, 20), int)
    labels[5:15, 2:10], labels[5:15, 10:18] = 1, 2
    targets = star_targets(labels)
    assert targets.distances[0, 10, 9] == 0.5 and targets.distances[16, 10, 10] == 0.5
    assert targets.probabilities[10, 9] == targets.probabilities[10, 10] == pytest.approx(1 / 4)


def test_an_object_cut_by_the_edge_ends_there_and_is_most_probable_there() -> None:
    targets = star_targets(_disc((30, 30), (0, 15), 8).astype(int))
    assert targets.distances[24, 3, 15] == 3.5, "the ray to the top ends at the edge of the image"
    assert targets.probabilities[0, 15] == 1


def test_one_pixel_no_object_and_the_whole_image() -> None:
    labels = np.zeros((9, 12), int)
    empty = star_targets(labels)
    assert not empty.distances.any() and not empty.probabilities.any() and empty.mask.all()
    labels[4, 6] = 5
    one = star_targets(labels)
    assert one.probabilities[4, 6] == 1 and one.distances[:, 4, 6].max() <= 0.5 * 2**0.5 + 1e-6
    drawn = render(candidates(one.probabilities, one.distances, threshold=0.5), labels.shape)
    assert ((drawn > 0) == (labels > 0)).all()
    assert star_targets(np.ones((6, 7), int)).probabilities.max() == 1


def test_unknown_pixels_are_masked_and_stop_rays() -> None:
    labels = np.zeros((16, 16), int)
    labels[4:12, 4:12] = 1
    labels[:, 9:] = IGNORED
    targets = star_targets(labels)
    assert (targets.mask == (labels != IGNORED)).all()
    assert targets.distances[0, 6, 6] == 2.5
    assert not targets.distances[:, ~targets.mask].any() and not targets.probabilities[~targets.mask].any()
    nothing = star_targets(np.full((8, 8), IGNORED))
    assert not nothing.mask.any() and not nothing.probabilities.any()

    ignore = np.zeros(labels.shape, np.bool_)
    ignore[0] = True
    assert (star_targets(labels, ignore=ignore).mask == ((labels != IGNORED) & ~ignore)).all()


@pytest.mark.parametrize("shape", [(96, 128), (95, 127)])
def test_a_grid_takes_every_other_pixel_of_the_same_targets(shape: tuple[int, int]) -> None:
    labels = _nuclei()[: shape[0], : shape[1]]
    full, sampled = star_targets(labels), star_targets(labels, grid=2)
    assert (sampled.distances == full.distances[:, ::2, ::2]).all()
    assert (sampled.probabilities == full.probabilities[::2, ::2]).all()
    assert (sampled.mask == full.mask[::2, ::2]).all()


def test_many_pixels_are_traced_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = _nuclei()
    whole = star_targets(labels).distances
    monkeypatch.setattr("napari_cellenhance.core.star_shapes._CHUNK_PX", 100)
    assert (star_targets(labels).distances == whole).all()


@pytest.mark.parametrize("grid", [1, 2])
def test_ideal_targets_give_the_objects_back(grid: int) -> None:
    labels = _nuclei()
    targets = star_targets(labels, grid=grid)
    found = candidates(targets.probabilities, targets.distances, threshold=0.4, grid=grid)
    stars = suppress(found, engine="numpy").stars
    assert len(stars) == 9
    iou = overlaps(labels, render(stars, labels.shape).astype(np.int64)).iou.max(axis=1)
    assert iou.mean() > 0.95, iou


def test_the_most_probable_star_is_on_top_and_labels_follow_the_order_given() -> None:
    stars = Stars.of([[10, 8], [10, 14]], np.full((2, 32), 6.0), [0.6, 0.9])
    labels = render(stars, (20, 24))
    assert labels.dtype == np.uint32
    assert labels[10, 11] == 2 and labels[10, 4] == 1
    assert render(Stars.of([[10, 8], [10, 14]], np.full((2, 32), 6.0), [0.9, 0.6]), (20, 24))[10, 11] == 1
    assert render(Stars.of([[10, 8], [10, 14]], np.full((2, 32), 6.0)), (20, 24))[10, 11] == 1, "equal: the first"
    assert not render(Stars.of(np.zeros((0, 2)), np.zeros((0, 32))), (5, 6)).any()
    assert not render(Stars.of([[50, 50]], np.full((1, 32), 6.0)), (20, 24)).any(), "outside"


def test_a_star_need_not_be_convex() -> None:
    distances = np.where(np.arange(32) % 8 == 0, 10.0, 3.0)
    star = Stars.of([[12, 12]], distances[None])
    inside = are_inside(np.array([[12.0, 21.0], [21.0, 12.0], [12.0, 2.5], [17.0, 17.0], [12.0, 12.0]]), star)[0]
    assert inside.tolist() == [True, True, True, False, True]
    y, x, mask = window_of(star, (20, 20))
    assert (y, x) == (2, 2) and mask.shape == (18, 18) and mask.any(axis=1).all()


def test_area_is_that_of_the_polygon() -> None:
    assert Stars.of([[0, 0]], np.full((1, 4), 2.0)).areas[0] == pytest.approx(8.0)
    assert Stars.of([[0, 0]], np.full((1, 32), 10.0)).areas[0] == pytest.approx(np.pi * 100, rel=0.01)


def test_negative_rays_count_as_nearly_none() -> None:
    star = Stars.of([[3, 3]], [[-5.0, 2.0, 2.0, 2.0]])
    assert star.distances.min() > 0
    assert render(star, (7, 7))[3, 3] == 1


def test_labels_are_not_changed() -> None:
    labels = _nuclei()
    before = labels.copy()
    star_targets(labels, ignore=labels == 10)
    assert (labels == before).all()


@pytest.mark.parametrize(
    "labels", [np.zeros((3, 4, 5), int), np.zeros((0, 4), int), np.zeros((4, 4)), np.full((4, 4), -2)]
)
def test_what_is_no_plane_of_labels_is_refused(labels: np.ndarray) -> None:
    with pytest.raises(ImageError, match="expected"):
        star_targets(labels)


def test_settings_out_of_range_are_refused() -> None:
    labels = np.zeros((4, 4), int)
    with pytest.raises(ParameterError, match="2 rays"):
        star_targets(labels, 2)
    with pytest.raises(ParameterError, match="grid of 0 px"):
        star_targets(labels, grid=0)
    with pytest.raises(ImageError, match="mask"):
        star_targets(labels, ignore=np.zeros((4, 5), np.bool_))
    with pytest.raises(ParameterError, match="expected"):
        Stars.of([[1, 2]], [[1.0, 2.0]])
    with pytest.raises(ParameterError, match="NaN"):
        Stars.of([[1, 2]], [[1.0, np.nan, 2.0]])
