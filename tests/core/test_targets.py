"""Targets of the pixel losses: from the crop alone, and from labels."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cellenhance.core.targets import contact_line, from_image, from_labels


def _two_discs(touching: bool) -> tuple[np.ndarray, np.ndarray]:
    yy, xx = np.mgrid[:64, :64]
    labels = np.zeros((64, 64), np.uint16)
    labels[(yy - 32) ** 2 + (xx - 20) ** 2 < 100] = 1
    labels[(yy - 32) ** 2 + (xx - (38 if touching else 46)) ** 2 < 100] = 2
    image = 0.1 + 0.8 * (labels == 1) + 0.1 * (labels == 2) + 0.0 * yy
    return image.astype(np.float32), labels


def test_the_crop_itself_is_the_mildest_and_a_steeper_one_the_strongest() -> None:
    image, labels = _two_discs(touching=False)
    mildest, strongest = from_image(image)
    np.testing.assert_array_equal(mildest, image)
    assert strongest[labels == 1].min() > 0.95 and strongest[labels == 0].max() < 0.05


def test_what_is_not_two_classes_is_not_made_binary() -> None:
    noise = np.random.default_rng(0).normal(0.5, 0.1, (64, 64)).clip(0, 1).astype(np.float32)
    flat = np.full((16, 16), 0.5, np.float32)
    for image in (noise, flat):
        np.testing.assert_array_equal(from_image(image)[1], image)


def test_weak_objects_come_out_as_well_as_strong_ones() -> None:
    image, labels = _two_discs(touching=False)
    for target in from_labels(image, labels):
        assert target.dtype == np.float32 and target.min() >= 0 and target.max() <= 1
        assert target[labels == 2].mean() == pytest.approx(target[labels == 1].mean(), abs=0.05)
        assert target[labels > 0].min() > target[labels == 0].max()
    assert not from_labels(image, labels)[1][labels == 0].any()


def test_texture_is_in_the_mild_target_and_a_dome_in_the_strong_one() -> None:
    image, labels = _two_discs(touching=False)
    image[30:34, 18:22] = 0.5
    mildest, strongest = from_labels(image, labels)
    assert mildest[32, 20] < mildest[38, 20]
    assert strongest[32, 20] == pytest.approx(1.0, abs=0.03) and strongest[32, 11] < 0.8


def test_objects_that_touch_are_parted_by_a_dark_line() -> None:
    image, labels = _two_discs(touching=True)
    line = contact_line(labels)
    assert line.sum() > 4 and (labels[line] > 0).all()
    assert not contact_line(_two_discs(touching=False)[1]).any()
    for target in from_labels(image, labels):
        assert not target[line].any()


def test_bare_ground_is_black() -> None:
    noise = np.random.default_rng(0).random((32, 32)).astype(np.float32)
    mildest, strongest = from_labels(noise, np.zeros((32, 32), np.uint16))
    assert not mildest.any() and not strongest.any()


def test_an_object_cut_by_the_border_keeps_its_height() -> None:
    labels = np.zeros((32, 32), np.uint16)
    labels[:10, 8:24] = 1
    strongest = from_labels(np.ones((32, 32), np.float32), labels)[1]
    assert strongest[0, 16] > strongest[9, 16]
