"""Objects of every way land in the right class, and what is left out says why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_cellenhance.core.crop_cutting import BORDER, TOO_LARGE, TOO_SMALL, complement, grey_plane, local_mask
from napari_cellenhance.core.crop_extraction import (
    GROUND,
    MIXED,
    NO_CLASS,
    NO_POINT,
    OFF_MIDDLE,
    TOO_SHORT,
    from_boxes,
    from_labels,
    from_painted,
    from_points,
    from_segmentation,
)
from napari_cellenhance.core.crop_options import (
    BoxOptions,
    CutOptions,
    GroundOptions,
    KeepOptions,
    PointOptions,
    SegmentOptions,
)
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.focus import FocusOptions

SHAPE = (120, 160)
CENTRES = ((30, 30), (30, 80), (80, 40), (80, 100))
ONLY_FOUND = GroundOptions(window_px=0, margin_px=0)
ALL_KEPT = CutOptions(keep=KeepOptions(min_area_px=0, drop_border=False), ground=ONLY_FOUND)


def disc(centre: tuple[int, int], radius: float, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.asarray(np.hypot(y - centre[0], x - centre[1]) <= radius)


def scene(radius: float = 10, ground: float = 20.0, height: float = 150.0) -> tuple[np.ndarray, np.ndarray]:
    """An image of four discs with soft edges on noise, and their labels 10, 20, 30, 40."""
    labels = np.zeros(SHAPE, np.int32)
    for i, centre in enumerate(CENTRES, 1):
        labels[disc(centre, radius)] = 10 * i
    image = ground + height * gaussian_filter((labels > 0) * 1.0, 1) + np.random.default_rng(0).normal(0, 2, SHAPE)
    return image.clip(0, 255).astype(np.uint8), labels


# --- labels -----------------------------------------------------------------------------------


def test_every_label_becomes_a_crop_in_its_own_grey_values() -> None:
    image, labels = scene()
    library = from_labels(image, labels, source="a.tif", frame=3)
    assert library.counts() == {"target": 4, "unwanted": 0, "discarded": 0}
    crop = library.objects[0].crop
    y0, x0, y1, x1 = crop.box
    assert (y0, x0, y1, x1) == (20, 20, 41, 41) and crop.frame == 3 and crop.source == "a.tif" and crop.track is None
    inside = labels[y0:y1, x0:x1] == 10
    assert np.array_equal(crop.mask, inside)
    assert np.array_equal(crop.pixels, np.where(inside, image[y0:y1, x0:x1], 0))
    assert library.white == {"a.tif": np.percentile(image, 99)}


def test_the_caller_keeps_their_image() -> None:
    image, labels = scene()
    before = image.astype(np.float32)
    given = before.copy()
    from_labels(given, labels, source="a")
    assert np.array_equal(given, before)


def test_classes_by_number_and_as_a_layer() -> None:
    image, labels = scene()
    by_number = from_labels(image, labels, source="a", classes={10: 1, 20: 2, 30: 2}, target=[2])
    assert [one.kind for one in by_number.objects] == ["unwanted", "target", "target", "discarded"]
    assert by_number.objects[3].reason == NO_CLASS
    painted = np.zeros(SHAPE, np.int32)
    painted[labels == 10] = 1
    painted[30, 30] = 2  # a slip of the brush: most pixels decide
    painted[80, 35:45] = 2
    as_layer = from_labels(image, labels, source="a", classes=painted, target=[2])
    assert [one.kind for one in as_layer.objects] == ["unwanted", "discarded", "target", "discarded"]
    with pytest.raises(ParameterError, match="none of them is the target"):
        from_labels(image, labels, source="a", classes=painted)


def test_numbers_follow_cells_through_time() -> None:
    image, labels = scene()
    tracks = [one.crop.track for one in from_labels(image, labels, source="a", is_tracked=True).objects]
    assert tracks == [10, 20, 30, 40]


def test_size_and_border_are_told() -> None:
    image, labels = scene()
    labels[0:9, 150:158] = 7  # at the edge
    labels[60, 60:63] = 8  # 3 px
    labels[60:119, 120:155] = 9
    keep = KeepOptions(min_area_px=20, max_area_px=1000)
    library = from_labels(image, labels, source="a", options=CutOptions(keep=keep))
    reasons = {one.crop.box[:2]: one.reason for one in library.of("discarded")}
    assert reasons == {(0, 150): BORDER, (60, 60): TOO_SMALL, (60, 120): TOO_LARGE}
    assert library.counts()["target"] == 4


def test_the_background_has_no_object_and_no_rim() -> None:
    image, labels = scene()
    (ground,) = from_labels(image, labels, source="a").backgrounds
    assert ground.mask[labels > 0].all() and not ground.pixels[ground.mask].any()
    assert ground.mask[30, 42] and not ground.mask[30, 43]  # a margin of 2 px around a disc of 10 px
    assert np.array_equal(ground.pixels[~ground.mask], image[~ground.mask])


def test_where_not_all_is_labelled_bright_things_are_no_background() -> None:
    image, labels = scene()
    labels[labels == 40] = 0
    (trusting,) = from_labels(image, labels, source="a").backgrounds
    (careful,) = from_labels(
        image, labels, source="a", is_complete=False, options=CutOptions(ground=GroundOptions(offset=20))
    ).backgrounds
    there = disc(CENTRES[3], 10)
    assert not trusting.mask[there].any() and careful.mask[there].all()
    assert careful.mask.mean() < 0.2


def test_colours_stay_colours() -> None:
    image, labels = scene()
    rgb = np.stack([image, image // 2, image // 4], axis=-1)
    library = from_labels(rgb, labels, source="a")
    crop = library.objects[0].crop
    assert crop.pixels.shape == (21, 21, 3) and not crop.pixels[~crop.mask].any()
    assert library.backgrounds[0].pixels.shape == (*SHAPE, 3)


def test_an_image_full_of_objects_has_no_background() -> None:
    library = from_labels(np.ones((9, 9)), np.ones((9, 9), int), source="a", options=ALL_KEPT)
    assert not library.backgrounds and "Nothing of a is background" in library.notes[0]


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        (np.zeros((3, 3), int), "expected the same plane"),
        (np.zeros(SHAPE), "expected whole numbers"),
        (np.full(SHAPE, -1), "negative"),
    ],
)
def test_labels_that_do_not_fit(labels: np.ndarray, match: str) -> None:
    with pytest.raises(ImageError, match=match):
        from_labels(scene()[0], labels, source="a")


# --- paint ------------------------------------------------------------------------------------


def test_painted_classes_become_objects() -> None:
    image, labels = scene()
    painted = np.zeros(SHAPE, np.int32)
    painted[labels == 10] = painted[labels == 20] = 2
    painted[labels == 30] = 3
    painted[100:110, :] = 1
    library = from_painted(image, painted, source="a", target=[2])
    assert [(one.kind, one.crop.box[:2]) for one in library.objects] == [
        ("target", (20, 20)), ("target", (20, 70)), ("unwanted", (70, 30)),
    ]  # fmt: skip
    swapped = from_painted(image, painted, source="a", target=[3])
    assert swapped.counts() == {"target": 1, "unwanted": 2, "discarded": 0}


def test_what_is_painted_as_background_is_background() -> None:
    image, labels = scene()
    painted = np.zeros(SHAPE, np.int32)
    painted[labels == 10] = 2
    painted[70:91, 90:111] = 1  # the fourth disc: dirt on the glass
    options = CutOptions(ground=GroundOptions(offset=20))
    (ground,) = from_painted(image, painted, source="a", target=[2], options=options).backgrounds
    assert not ground.mask[disc(CENTRES[3], 10)].any() and ground.mask[disc(CENTRES[2], 10)].all()


def test_paint_without_a_class() -> None:
    image, _ = scene()
    assert "Nothing is painted" in from_painted(image, np.zeros(SHAPE, int), source="a", target=[2]).notes[0]
    with pytest.raises(ParameterError, match="1 is background"):
        from_painted(image, np.ones(SHAPE, int), source="a", target=[1])


# --- thresholds -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["otsu", "log_otsu", "local"])
def test_a_threshold_finds_the_discs(method: Any) -> None:
    image, labels = scene()
    how = SegmentOptions(method=method, window_px=61, offset=20)
    library = from_segmentation(image, how, source="a", options=CutOptions(focus=FocusOptions()))
    assert library.counts()["target"] == 4
    for one in library.objects:
        y0, x0, y1, x1 = one.crop.box
        middle = np.array([(y0 + y1 - 1) / 2, (x0 + x1 - 1) / 2])
        assert np.abs(np.array(CENTRES) - middle).max(axis=1).min() <= 1
        assert 0.75 < one.crop.area_px / (labels == 10).sum() < 1.5 and one.score > 0
    as_unwanted = from_segmentation(image, how, source="a", as_class="unwanted")
    assert as_unwanted.counts() == {"target": 0, "unwanted": 4, "discarded": 0}


def test_the_logarithm_finds_dim_objects_beside_bright_ones() -> None:
    image = 10.0 + 4000 * disc(CENTRES[0], 10) + 150 * disc(CENTRES[1], 10)
    by = {
        method: len(from_segmentation(image, SegmentOptions(method=method), source="a").of("target"))
        for method in ("otsu", "log_otsu")
    }
    assert by == {"otsu": 1, "log_otsu": 2}


def test_a_blurred_object_scores_less_than_a_sharp_one() -> None:
    image = 20 + gaussian_filter(150.0 * disc(CENTRES[0], 10), 5) + gaussian_filter(150.0 * disc(CENTRES[3], 10), 0.7)
    labels = disc(CENTRES[0], 10) + 2 * disc(CENTRES[3], 10).astype(int)
    blurred, sharp = from_labels(image, labels, source="a", options=CutOptions(focus=FocusOptions())).objects
    assert sharp.score > 3 * blurred.score
    assert np.isnan(from_labels(image, labels, source="a").objects[0].score)


def test_holes_are_filled_and_specks_are_noise() -> None:
    image = 200 * (disc(CENTRES[0], 12) & ~disc(CENTRES[0], 4)).astype(np.uint8)
    image[100, 100] = 255
    how = SegmentOptions(sigma_px=0, n_openings=0)
    (one,) = from_segmentation(image, how, source="a").objects
    assert one.crop.area_px == disc(CENTRES[0], 12).sum()
    open_ = SegmentOptions(sigma_px=0, n_openings=0, is_filled=False)
    assert from_segmentation(image, open_, source="a").objects[0].crop.area_px < one.crop.area_px


def test_local_threshold_follows_a_slope() -> None:
    slope = np.tile(np.linspace(0, 200, 160, dtype=np.float32), (120, 1))
    image = slope + 50 * disc((60, 30), 6).astype(np.float32)
    mask = local_mask(image, 41, 10)
    assert mask[60, 30] and not mask[60, 130]
    assert not local_mask(np.full((9, 9), 5.0, np.float32), 3, 1).any()


# --- points -----------------------------------------------------------------------------------


def test_points_give_classes_and_mixed_regions_are_left_out() -> None:
    image, _ = scene()
    image[disc((30, 55), 14)] = 170  # joins the first two discs
    image[0:20, 140:160] = 170  # cut by the edge
    points = {"cell": [(30, 30), (80, 40), (5, 150)], "debris": [(30, 80), (110, 5)]}
    library = from_points(image, points, source="a", target="cell")
    fates = {one.crop.box[0]: (one.kind, one.reason) for one in library.objects}
    assert ("discarded", MIXED) in fates.values() and ("discarded", BORDER) in fates.values()
    assert ("discarded", NO_POINT) in fates.values()
    assert library.counts()["target"] == 1 and library.counts()["unwanted"] == 0
    assert library.notes == ("1 of 5 points of a lie on no object that was found.",)
    other = from_points(image, {"debris": [(80, 40)], "cell": [(80, 100)]}, source="a", target="cell")
    assert [one.kind for one in other.objects if one.kind != "discarded"] == ["unwanted", "target"]


def test_small_objects_survive_a_gentler_opening() -> None:
    image, _ = scene(radius=4)
    points = {"cell": CENTRES}
    harsh = from_points(image, points, source="a", target="cell")
    gentle = from_points(image, points, PointOptions(sigma_px=1, n_openings=1), source="a", target="cell")
    assert len(harsh.of("target")) < 4 and len(gentle.of("target")) == 4
    as_it_is = from_points(
        image, points, PointOptions(sigma_px=0, n_openings=0, n_dilations=0), source="a", target="cell"
    )
    wider = from_points(image, points, PointOptions(sigma_px=0, n_openings=0), source="a", target="cell")
    areas = [sum(int(one.crop.mask.sum()) for one in found.of("target")) for found in (as_it_is, wider)]
    assert len(as_it_is.of("target")) == 4 and 0 < areas[0] < areas[1], "neither blurred nor widened"


def test_points_off_the_image_and_of_no_class() -> None:
    image, _ = scene()
    off = from_points(image, {"cell": [(-5, 3), (500, 2), (30, 30)]}, source="a", target="cell")
    assert off.counts()["target"] == 1 and "2 of 3" in off.notes[0]
    assert from_points(image, {"cell": []}, source="a", target="cell").counts()["target"] == 0
    with pytest.raises(ParameterError, match="no points of the class 'cell'"):
        from_points(image, {"debris": [(1, 1)]}, source="a", target="cell")
    with pytest.raises(ImageError, match="row and column"):
        from_points(image, {"cell": [(1, 1, 1)]}, source="a", target="cell")


# --- boxes ------------------------------------------------------------------------------------

NO_SQUARES = BoxOptions(n_squares=0)


def boxes_of(image: np.ndarray, boxes: Any, how: BoxOptions = NO_SQUARES, **more: Any) -> Any:
    return from_boxes(image, boxes, how, source="a", rng=np.random.default_rng(1), **more)


def test_a_box_gives_its_object() -> None:
    image, labels = scene()
    library = boxes_of(image, [(15, 15, 46, 46)], unwanted_boxes=[(65, 25, 96, 56)])
    assert [one.kind for one in library.objects] == ["target", "unwanted"]
    crop = library.objects[0].crop
    inside = np.zeros(SHAPE, bool)
    inside[crop.box[0] : crop.box[2], crop.box[1] : crop.box[3]] = crop.mask
    assert (inside & (labels == 10)).sum() / (inside | (labels == 10)).sum() > 0.9


def test_shapes_of_a_layer_are_boxes() -> None:
    image, _ = scene()
    corners = np.array([[(14.5, 14.5), (14.5, 45.5), (45.5, 45.5), (45.5, 14.5)]])
    by_numbers, by_corners = (boxes_of(image, given).objects[0].crop for given in ([(15, 15, 46, 46)], corners))
    assert by_numbers.box == by_corners.box and np.array_equal(by_numbers.pixels, by_corners.pixels)


def test_objects_off_the_middle_or_too_short_are_left_out() -> None:
    image, _ = scene()
    library = boxes_of(image, [(0, 0, 41, 41), (30, 30, 115, 115)], BoxOptions(n_squares=0, max_offset=0.2))
    assert [one.reason for one in library.objects if one.kind == "discarded"][:1] == [OFF_MIDDLE]
    tiny = 20 + 180 * gaussian_filter(disc((60, 80), 8) * 1.0, 1)
    (short,) = boxes_of(tiny, [(10, 30, 110, 130)]).objects
    assert (short.kind, short.reason) == ("discarded", TOO_SHORT)


def test_uneven_light_is_no_object() -> None:
    slope = np.tile(np.linspace(20, 200, 160), (120, 1)) + np.random.default_rng(0).normal(0, 1, SHAPE)
    (bright_side,) = boxes_of(slope, [(20, 20, 80, 100)]).objects
    assert (bright_side.kind, bright_side.reason) == ("discarded", GROUND)
    slope[disc((50, 42), 15)] += 120  # an object on the dark side
    assert [one.kind for one in boxes_of(slope, [(20, 20, 80, 100)]).objects] == ["target"]
    diagonal = np.full(SHAPE, 20.0)
    for i in range(60):
        diagonal[20 + i, 20 + i : 26 + i] = 200  # a worm from corner to corner
    assert boxes_of(gaussian_filter(diagonal, 1), [(20, 20, 80, 86)]).counts()["target"] == 1


def test_squares_outside_the_boxes_are_unwanted() -> None:
    image, labels = scene()
    how = BoxOptions(n_squares=15, min_square_px=40, max_square_px=60)
    keep = CutOptions(keep=KeepOptions(min_area_px=100))
    library = boxes_of(image, [(15, 15, 46, 46)], how, options=keep)
    assert len(library.of("unwanted")) >= 3
    for one in library.of("unwanted"):
        y0, x0, y1, x1 = one.crop.box
        place = labels[y0:y1, x0:x1]
        assert not (one.crop.mask & (place == 10)).any()
    again = boxes_of(image, [(15, 15, 46, 46)], how, options=keep)
    assert [one.crop.box for one in again.objects] == [one.crop.box for one in library.objects]


def test_dark_objects_keep_their_grey_values() -> None:
    dark = 255 - scene()[0]
    of_dark = CutOptions(is_dark=True)
    for library in (
        boxes_of(dark, [(15, 15, 46, 46)], options=of_dark),
        from_points(
            dark, {"cell": CENTRES[:1]}, PointOptions(n_openings=1), source="a", target="cell", options=of_dark
        ),
        from_segmentation(dark, source="a", options=of_dark),
    ):
        crop = library.of("target")[0].crop
        assert 80 < np.median(crop.pixels[crop.mask]) < 160
        assert library.white["a"] == np.percentile(dark, 99)
        (ground,) = library.backgrounds
        assert ground.pixels[~ground.mask].mean() == pytest.approx(235, abs=3)
    assert not from_segmentation(dark, source="a").of("target")


def test_a_box_without_anything_is_told() -> None:
    library = boxes_of(np.full(SHAPE, 7, np.uint8), [(5, 5, 40, 40), (200, 200, 300, 300)])
    assert not library.objects and library.notes == ("1 of 1 boxes of a hold nothing brighter than the rest.",)
    assert not boxes_of(scene()[0], []).objects
    faint = boxes_of(scene(ground=100, height=20)[0], [(15, 15, 46, 46)], BoxOptions(n_squares=0, threshold_factor=1.5))
    assert not faint.objects and "hold nothing brighter" in faint.notes[0]
    with pytest.raises(ImageError, match="y0, x0, y1, x1"):
        boxes_of(scene()[0], [(1, 2, 3)])


# --- images and settings ----------------------------------------------------------------------


def test_complements_and_grey_values() -> None:
    assert complement(np.array([[10, 250]], np.uint8)).tolist() == [[245, 5]]
    assert complement(np.array([[100, 4000]], np.uint16)).tolist() == [[3900, 0]]
    assert complement(np.array([[0.25]]), top=1).tolist() == [[0.75]]
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[..., 1], rgba[..., 3] = 100, 255
    assert grey_plane(rgba) == pytest.approx(71.54, abs=0.01)
    assert grey_plane(np.ones((2, 2, 2)) * [2, 4]).tolist() == [[3, 3], [3, 3]]


@pytest.mark.parametrize(
    "bad", [np.zeros((2, 2, 2, 2)), np.zeros((0, 3)), np.zeros((3, 3), complex), np.full((3, 3), np.nan)]
)
def test_images_that_cannot_be_cut(bad: np.ndarray) -> None:
    with pytest.raises(ImageError):
        grey_plane(bad)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (KeepOptions, {"min_area_px": -1}), (KeepOptions, {"min_area_px": 9, "max_area_px": 8}),
        (GroundOptions, {"window_px": 10}), (GroundOptions, {"margin_px": -1}), (GroundOptions, {"offset": np.inf}),
        (SegmentOptions, {"method": "li"}), (SegmentOptions, {"sigma_px": -1}), (SegmentOptions, {"window_px": 4}),
        (PointOptions, {"sigma_px": -1}), (PointOptions, {"opening_px": 4}),
        (BoxOptions, {"n_squares": -1}), (BoxOptions, {"threshold_factor": 0}), (BoxOptions, {"min_length": 2}),
        (BoxOptions, {"min_square_px": 300}),
    ],
)  # fmt: skip
def test_settings_out_of_range(kind: Any, wrong: Any) -> None:
    with pytest.raises(ParameterError):
        kind(**wrong)
