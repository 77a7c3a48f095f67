"""Balanced sampling at matched object size (requirement A13)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.core.sources import (
    ImageSource,
    round_blobs,
    sample_crop,
    sample_labelled_crop,
    sample_masks,
    split_sources,
    stretch,
    with_labels,
)


def _discs(radius: int, n: int = 4, side: int = 160) -> ImageSource:
    yy, xx = np.mgrid[:side, :side]
    labels = np.zeros((side, side), np.uint16)
    for i, (y, x) in enumerate(((40, 40), (40, 110), (110, 40), (110, 110)), start=1):
        labels[(yy - y) ** 2 + (xx - x) ** 2 <= radius**2] = i
    images = [(labels > 0).astype(np.float32)] * n
    return ImageSource(f"r{radius}", images, [2.0 * radius] * n, [labels] * n)


def test_sources_are_drawn_by_weight_not_by_size() -> None:
    bright = ImageSource(
        "bright", [np.tile(np.float32([0.9, 1.0, 0.4, 1.0]), (32, 8))] * 50, [24.0] * 50, [None] * 50, 1.0
    )
    dark = ImageSource("dark", [np.tile(np.float32([0.0, 0.2, 0.0, 0.2]), (32, 8))], [24.0], [None], 1.0)
    rng = np.random.default_rng(0)
    means = [sample_crop([bright, dark], 32, rng, diameters=(24, 24)).image.mean() for _ in range(200)]
    share = np.mean(np.array(means) < 0.5)
    assert 0.35 < share < 0.65
    rare = ImageSource("dark", dark.images, dark.diameters_px, dark.labels, 0.1)
    means = [sample_crop([bright, rare], 32, rng, diameters=(24, 24)).image.mean() for _ in range(200)]
    assert np.mean(np.array(means) < 0.5) < 0.25


def test_objects_are_brought_to_the_asked_diameter() -> None:
    rng = np.random.default_rng(1)
    crops = [sample_labelled_crop([_discs(24)], 96, rng, diameters=(16, 16)) for _ in range(30)]
    areas = []
    from scipy.ndimage import label

    for pair in crops:
        assert pair is not None
        assert pair.labels is not None
        found, n = label(pair.labels > 0)
        inner = [i for i in range(1, n + 1) if not (found == i)[[0, -1]].any() and not (found == i)[:, [0, -1]].any()]
        areas += [(found == i).sum() for i in inner]
    assert np.median(2 * np.sqrt(np.array(areas) / np.pi)) == pytest.approx(16, rel=0.1)


def test_masks_are_binary_and_never_nearly_empty() -> None:
    masks = sample_masks([_discs(12)], 20, 64, np.random.default_rng(2), diameters=(12, 30))
    assert masks.shape == (20, 64, 64) and masks.dtype == np.uint8
    assert set(np.unique(masks)) == {0, 255}
    assert ((masks > 0).mean(axis=(1, 2)) >= 0.02).all()


def test_masks_need_labels() -> None:
    plain = ImageSource("x", [np.zeros((32, 32), np.float32)], [10.0], [None])
    with pytest.raises(ImageError, match="needs masks"):
        sample_masks([plain], 2, 32, np.random.default_rng(0), diameters=(10, 10))
    assert sample_labelled_crop([plain], 32, np.random.default_rng(0), diameters=(10, 10)) is None


def test_image_and_labels_are_cut_and_turned_alike() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        crop = sample_crop([_discs(16)], 64, rng, diameters=(12, 30))
        assert crop.labels is not None and crop.labels.shape == crop.image.shape
        agree = (crop.image >= 0.5) == (crop.labels > 0)
        assert agree.mean() > 0.97


def test_bare_ground_is_drawn_only_when_asked_for() -> None:
    rng = np.random.default_rng(4)
    image = np.zeros((400, 400), np.float32)
    image[:40, :40] = np.random.default_rng(0).random((40, 40))
    source = ImageSource("x", [image], [20.0], [(image > 0.5).astype(np.uint8)])
    ranges = [np.ptp(sample_crop([source], 32, rng, diameters=(20, 20), min_range=0).image) for _ in range(20)]
    assert sum(r == 0 for r in ranges) > 10
    alike = np.full((64, 64), 0.5, np.float32)
    flat = ImageSource("flat", [alike], [20.0], [None])
    assert (sample_crop([flat], 32, rng, diameters=(20, 20)).image == 0.5).all(), "where all is alike, it is taken so"
    mixed = ImageSource("mixed", [alike, np.tile(np.float32([0.2, 0.8]), (64, 32))], [20.0] * 2, [None] * 2)
    assert all(np.ptp(sample_crop([mixed], 32, rng, diameters=(20, 20)).image) > 0.5 for _ in range(20))
    plain = ImageSource("y", [image], [20.0], [None])
    assert with_labels([plain]) == [] and len(with_labels([plain, source])) == 1


def test_split_is_by_image_and_keeps_single_images_for_training() -> None:
    train, valid = split_sources([_discs(10, n=10), _discs(12, n=1)], 0.2, np.random.default_rng(0))
    assert [len(s.images) for s in train] == [8, 1]
    assert [len(s.images) for s in valid] == [2]


def test_stretch_inverts_and_survives_flat() -> None:
    plane = np.arange(10_000, dtype=np.uint16).reshape(100, 100)
    up, down = stretch(plane), stretch(plane, objects_are_dark=True)
    assert up.min() == 0 and up.max() == 1
    np.testing.assert_allclose(up + down, 1.0, atol=1e-6)
    assert not stretch(np.full((5, 5), 7)).any()


def test_an_empty_source_is_refused() -> None:
    with pytest.raises(ImageError, match="holds no image"):
        ImageSource("x", [], [], [])


def test_drawn_blobs_are_round_apart_and_of_all_densities() -> None:
    source = round_blobs(np.random.default_rng(0), n_images=4, side_px=256)
    covered = [float((labels > 0).mean()) for labels in source.labels if labels is not None]
    assert covered == sorted(covered) and covered[0] < 0.06 and covered[-1] > 0.4
    areas = np.bincount(np.asarray(source.labels[0]).ravel())[1:]
    assert 8**2 * np.pi * 0.8 < np.median(areas) < 16**2 * np.pi
    masks = sample_masks([source], 8, 64, np.random.default_rng(1), diameters=(10, 20))
    assert (masks > 0).mean(axis=(1, 2)).min() > 0.02


def test_drawing_blobs_ends_where_no_place_is_left() -> None:
    class InTheMiddle:
        """Finds but one place, and so no other blob."""

        def uniform(self, low: float, high: float, size: int | None = None) -> Any:
            middle = (low + high) / 2
            return middle if size is None else np.full(size, middle)

    source = round_blobs(InTheMiddle(), n_images=2, side_px=128)  # type: ignore[arg-type]
    assert [int(labels.max()) for labels in source.labels if labels is not None] == [1, 1]
