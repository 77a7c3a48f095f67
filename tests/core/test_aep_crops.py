"""Crops where there is paint, and paint kept aside in blocks or whole images (METHODS 0.7)."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.painted import MIN_CLASS_PX, PaintedImage, count_painted
from napari_cellenhance.core.painted_crops import CropSampler, hold_out, validation_block

SHAPE = (160, 200)


def _image(labels: np.ndarray) -> PaintedImage:
    y, x = np.mgrid[: labels.shape[0], : labels.shape[1]]
    return PaintedImage(((y * labels.shape[1] + x) / labels.size).astype(np.float32), labels)


def _strokes(seed: int = 0) -> np.ndarray:
    """Short strokes of three classes all over the plane."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(SHAPE, np.int32)
    for i in range(36):
        y, x = rng.integers(0, SHAPE[0] - 3), rng.integers(0, SHAPE[1] - 14)
        labels[y : y + 3, x : x + 14] = 1 + i % 3
    return labels


def _dense(shape: tuple[int, int] = SHAPE) -> np.ndarray:
    labels = np.ones(shape, np.int32)
    labels[::3] = 2
    return labels


# --- crops --------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_balanced", [True, False])
def test_every_crop_holds_paint_and_fits_its_image(is_balanced: bool) -> None:
    labels = np.zeros(SHAPE, np.int32)
    labels[0, :13], labels[-1, -14:], labels[70:74, 90:100] = 1, 2, 3  # in two corners, and in the middle
    painted = _image(labels)
    sampler = CropSampler([painted], 32, is_balanced=is_balanced)
    rng = np.random.default_rng(0)
    for _ in range(60):
        image, crop = sampler.draw(rng)
        assert image.shape == crop.shape == (32, 32) and crop.any()
        y, x = divmod(round(float(image[0, 0]) * labels.size), SHAPE[1])
        np.testing.assert_array_equal(crop, labels[y : y + 32, x : x + 32])


def test_a_balanced_draw_sees_a_short_stroke_as_often_as_a_long_one() -> None:
    labels = np.zeros(SHAPE, np.int32)
    labels[:120, :120], labels[150:153, 180:190] = 1, 2
    rng = np.random.default_rng(0)

    def share(is_balanced: bool) -> float:
        sampler = CropSampler([_image(labels)], 16, is_balanced=is_balanced)
        return float(np.mean([(sampler.draw(rng)[1] == 2).any() for _ in range(300)]))

    assert share(True) == pytest.approx(0.5, abs=0.1)
    assert share(False) < 0.05


def test_a_class_of_one_image_among_many_is_not_missed() -> None:
    rare = np.zeros(SHAPE, np.int32)
    rare[10:20, 10:20] = 2
    common = np.zeros(SHAPE, np.int32)
    common[10:20, 10:20] = 1
    sampler = CropSampler([_image(rare), *[_image(common)] * 19], 32, is_balanced=True)
    rng = np.random.default_rng(0)
    assert np.mean([(sampler.draw(rng)[1] == 2).any() for _ in range(200)]) == pytest.approx(0.5, abs=0.1)


def test_all_images_are_drawn_from_and_empty_ones_are_not() -> None:
    shades = [PaintedImage(np.where(_dense() > 1, shade, 0.0), _dense()) for shade in (0.25, 0.5, 1.0)]
    blank = PaintedImage(np.where(_dense() > 1, 0.75, 0.0), np.zeros(SHAPE, np.int32))
    sampler = CropSampler([*shades, blank], 32, is_balanced=False)
    rng = np.random.default_rng(0)
    assert {float(sampler.draw(rng)[0].max()) for _ in range(60)} == {0.25, 0.5, 1.0}


def test_a_small_image_is_padded_but_its_padding_is_not_painted() -> None:
    sampler = CropSampler([_image(_dense((20, 90)))], 64, is_balanced=False)
    image, labels = sampler.draw(np.random.default_rng(0))
    assert image.shape == labels.shape == (64, 64)
    assert (labels > 0).any(axis=1).sum() == 20
    assert image[:22].std() > 0 and not labels[:22].any()


def test_very_many_painted_pixels_are_indexed_in_part() -> None:
    labels = np.ones((700, 700), np.int32)
    labels[:5] = 2
    sampler = CropSampler([_image(labels)], 64, is_balanced=True)
    rng = np.random.default_rng(0)
    tops = [round(float(sampler.draw(rng)[0][0, 0]) * labels.size) // 700 for _ in range(300)]
    assert max(tops) > 600 and min(tops) < 10


def test_the_same_rng_draws_the_same_crops() -> None:
    sampler = CropSampler([_image(_strokes())], 32, is_balanced=True)
    for a, b in zip(sampler.draw(np.random.default_rng(4)), sampler.draw(np.random.default_rng(4)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_paint_no_crops() -> None:
    with pytest.raises(ImageError, match="no image is painted"):
        CropSampler([_image(np.zeros(SHAPE, np.int32))], 32, is_balanced=True)


# --- paint kept aside ------------------------------------------------------------------------------


def test_a_block_holds_about_the_asked_share_of_every_class() -> None:
    labels = _strokes()
    block = validation_block(labels, fraction=0.25, gap_px=4)
    assert block is not None
    for value in (1, 2, 3):
        share = (labels[block.slices] == value).sum() / (labels == value).sum()
        assert 0.1 < share < 0.4


def test_one_image_is_split_into_two_separate_areas() -> None:
    painted = _image(_strokes())
    split = hold_out([painted], fraction=0.2, gap_px=8, rng=np.random.default_rng(0))
    assert split.how == "blocks"
    (train,), (kept,) = split.train, split.validation
    assert not ((train.labels > 0) & (kept.labels > 0)).any()
    assert set(np.unique(train.labels)) == set(np.unique(kept.labels)) == {0, 1, 2, 3}
    for part in (train, kept):
        is_painted = part.labels > 0
        np.testing.assert_array_equal(part.labels[is_painted], painted.labels[is_painted])
        np.testing.assert_array_equal(part.image, painted.image)
    rows, columns = np.nonzero(kept.labels)
    near = np.zeros(SHAPE, np.bool_)
    near[max(0, rows.min() - 8) : rows.max() + 9, max(0, columns.min() - 8) : columns.max() + 9] = True
    assert not train.labels[near].any(), "a block of the plane, with a gap around it"
    assert (count_painted([train], (1, 2, 3)) >= MIN_CLASS_PX).all()


def test_the_split_does_not_depend_on_chance() -> None:
    first, second = (hold_out([_image(_strokes())], rng=np.random.default_rng(seed)) for seed in (0, 1))
    np.testing.assert_array_equal(first.validation[0].labels, second.validation[0].labels)


def test_many_images_are_kept_aside_as_a_whole() -> None:
    images = [_image(_strokes(seed)) for seed in range(10)]
    split = hold_out(images, fraction=0.2, rng=np.random.default_rng(0))
    assert split.how == "images" and len(split.validation) == 2 and len(split.train) == 8
    assert {id(x) for x in (*split.train, *split.validation)} == {id(x) for x in images}
    again = hold_out(images, fraction=0.2, rng=np.random.default_rng(0))
    assert [id(x) for x in again.validation] == [id(x) for x in split.validation]


def test_an_image_with_the_only_paint_of_a_class_is_never_kept_aside() -> None:
    images = [_image(np.where(_strokes(seed) == 3, 0, _strokes(seed))) for seed in range(5)]
    images.append(_image(_strokes(7)))
    for seed in range(5):
        split = hold_out(images, rng=np.random.default_rng(seed))
        assert (count_painted(split.train, (1, 2, 3)) >= MIN_CLASS_PX).all()
        assert (count_painted(split.validation, (1, 2, 3)) > 0).all()


def test_two_strokes_are_too_few_to_keep_any_aside() -> None:
    labels = np.zeros(SHAPE, np.int32)
    labels[10, 10:25], labels[100, 100:115] = 1, 2
    split = hold_out([_image(labels)], rng=np.random.default_rng(0))
    assert split.how == "none" and split.train == split.validation
    assert validation_block(labels) is None


def test_nothing_is_kept_aside_on_request_and_empty_images_are_left_out() -> None:
    images = [_image(_strokes()), _image(np.zeros(SHAPE, np.int32))]
    split = hold_out(images, fraction=0, rng=np.random.default_rng(0))
    assert split.how == "none" and len(split.train) == 1


def test_a_narrower_gap_is_tried_where_the_paint_is_dense_and_small() -> None:
    split = hold_out([_image(_dense((40, 40)))], gap_px=32, rng=np.random.default_rng(0))
    assert split.how == "blocks" and split.train[0].labels.any()


@pytest.mark.parametrize("labels", [np.zeros((8, 8), np.int32), np.ones((64, 64), np.int32), np.ones((1, 1), np.int32)])
def test_there_is_no_block_without_two_classes(labels: np.ndarray) -> None:
    assert validation_block(labels) is None


@pytest.mark.parametrize(("fraction", "gap_px"), [(-0.1, 0), (0.6, 0), (0.2, -1)])
def test_settings_are_checked(fraction: float, gap_px: int) -> None:
    with pytest.raises(ParameterError, match="fraction"):
        hold_out([_image(_strokes())], fraction=fraction, gap_px=gap_px, rng=np.random.default_rng(0))
