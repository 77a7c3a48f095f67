"""A linear classifier from strokes: what is painted decides, how the plane is cut does not."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_cellenhance.core.device import DeviceChoice
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.inference import Cancelled
from napari_cellenhance.core.models.nunet import NUNet
from napari_cellenhance.core.models.nunet_features import n_channels
from napari_cellenhance.core.painted import PaintedImage
from napari_cellenhance.core.recipes.instant import (
    InstantFeatures,
    InstantLearner,
    InstantPrediction,
    InstantSettings,
    LinearHead,
    TileFeatures,
    predict,
)
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.zoo.manifest import find_model
from napari_cellenhance.zoo.weights import load_model

CPU = DeviceChoice(device="cpu", precision="float32", note="")


@functools.cache
def source(tile_px: int) -> InstantFeatures:
    module = load_model(find_model("nunet"))
    assert isinstance(module, NUNet)
    return InstantFeatures(module, CPU, tile_px=tile_px)


def learner(tile_px: int = 512, settings: InstantSettings | None = None) -> InstantLearner:
    return InstantLearner(source(tile_px), settings)


def discs(shape: tuple[int, int] = (90, 118), seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Bright discs on a dark ground with noise; their truth with 1 and 2."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    inside = np.zeros(shape, bool)
    for cy in range(15, shape[0], 28):
        for cx in range(15, shape[1], 28):
            inside |= np.hypot(y - cy, x - cx) < 8
    image = 0.2 + 0.5 * inside + rng.normal(0, 0.05, shape)
    return image.clip(0, 1).astype(np.float32), np.where(inside, 2, 1).astype(np.int32)


def strokes(truth: NDArray[np.int32]) -> NDArray[np.int32]:
    """One disc and some ground beside it."""
    labels = np.zeros_like(truth)
    labels[13:18, 9:40] = truth[13:18, 9:40]
    return labels


def painted(seed: int = 0) -> PaintedImage:
    image, truth = discs(seed=seed)
    return PaintedImage(image, strokes(truth))


def agreement(found: InstantPrediction, truth: NDArray[np.int32]) -> float:
    return float((found.labels == truth).mean())


def test_two_strokes_segment_the_whole_image_and_another_one() -> None:
    one = learner()
    head = one.fit([painted()])
    for seed in (0, 5):
        image, truth = discs(seed=seed)
        found = one.predict(head, image)
        assert found.labels.dtype == np.int32 and found.probabilities.dtype == np.float32
        assert agreement(found, truth) > 0.97
        np.testing.assert_allclose(found.probabilities.sum(axis=0), 1, atol=1e-5)
        np.testing.assert_array_equal(found.labels, np.array(head.values)[found.probabilities.argmax(axis=0)])


def test_what_is_not_painted_counts_as_nothing() -> None:
    # Most discs and most of the ground are not painted; were they background, no other disc would be found.
    one = learner()
    image, truth = discs()
    labels = np.zeros_like(truth)
    labels[10:20, 10:20] = truth[10:20, 10:20]
    labels[28:31, :] = 1
    found = one.predict(one.fit([PaintedImage(image, labels)]), image)
    assert found.values == (1, 2)
    assert (found.labels[truth == 2] == 2).mean() > 0.95


def test_label_values_are_kept_and_a_new_class_appears() -> None:
    one = learner()
    image, truth = discs()
    labels = np.where(strokes(truth) == 2, 7, strokes(truth)).astype(np.int32)
    first = one.fit([PaintedImage(image, labels)])
    assert first.values == (1, 7)
    image[60:80, 60:100] = 1.0
    labels[64:68, 64:96] = 4
    second = one.fit([PaintedImage(image, labels)], previous=first)
    assert second.values == (1, 4, 7)
    found = one.predict(second, image)
    assert (found.labels[66:74, 68:92] == 4).mean() > 0.95 and found.probabilities.shape == (3, *image.shape)
    assert set(np.unique(found.labels)) == {1, 4, 7}


def test_several_images_are_learned_together() -> None:
    one = learner()
    image, truth = discs()
    ground, disc = np.where(strokes(truth) == 1, 1, 0), np.where(strokes(truth) == 2, 2, 0)
    head = one.fit([PaintedImage(image, ground), PaintedImage(image.copy(), disc), PaintedImage(image, ground * 0)])
    assert agreement(one.predict(head, image), truth) > 0.97


@pytest.mark.parametrize("tile_px", [16, 40, 64])
def test_tiles_change_nothing(tile_px: int) -> None:
    whole, cut = learner(), learner(tile_px)
    image, _ = discs()
    head = whole.fit([painted()])
    expected, found = whole.predict(head, image), cut.predict(head, image)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=2e-3)
    window = Region(17, 71, 3, 118)
    part = cut.predict(head, image, window)
    np.testing.assert_allclose(part.probabilities, expected.probabilities[:, 17:71, 3:118], atol=2e-3)
    assert part.labels.shape == window.shape


@pytest.mark.parametrize("shape", [(1, 1), (5, 700), (90, 118), (513, 30), (1030, 520)])
def test_tiles_cover_the_plane_once(shape: tuple[int, int]) -> None:
    for tile_px in (16, 100, 512):
        covered = np.zeros(shape, int)
        for tile in learner(tile_px).features.tiles(shape):
            assert max(tile.shape) <= tile_px
            covered[tile.slices] += 1
        assert (covered == 1).all()


@pytest.mark.parametrize("shape", [(5, 9), (1, 40), (18, 131), (61, 83)])
def test_planes_of_any_size(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    truth = np.ones(shape, np.int32)
    truth[:, shape[1] // 2 :] = 2
    image = (0.25 * truth + rng.normal(0, 0.02, shape)).clip(0, 1).astype(np.float32)
    one = learner()
    assert agreement(one.predict(one.fit([PaintedImage(image, truth)]), image), truth) > 0.8


def test_equal_requests_have_equal_answers() -> None:
    heads = [learner(settings=InstantSettings(max_px=100, seed=3)).fit([painted()]) for _ in range(2)]
    np.testing.assert_array_equal(heads[0].weight, heads[1].weight)
    other = learner(settings=InstantSettings(max_px=100, seed=4)).fit([painted()])
    assert not np.array_equal(other.weight, heads[0].weight)


def test_the_previous_classifier_is_a_start_not_an_influence() -> None:
    one = learner()
    image, truth = discs()
    misled = one.fit([PaintedImage(image, np.where(strokes(truth) > 0, 3 - strokes(truth), 0))])
    cold, warm = one.fit([painted()]), one.fit([painted()], previous=misled)
    a, b = one.predict(cold, image), one.predict(warm, image)
    np.testing.assert_allclose(a.probabilities, b.probabilities, atol=0.03)


def test_much_paint_is_thinned_and_rare_classes_are_kept() -> None:
    image, truth = discs((200, 200))
    labels = np.where(truth == 1, 1, 0)
    labels[12:16, 12:16] = 2
    seen: list[int] = []

    class Counting(TileFeatures):
        def at(self, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> torch.Tensor:
            seen.append(len(rows))
            return super().at(rows, columns)

    one = learner(settings=InstantSettings(max_px=1000, is_balanced=True))
    planes = [PaintedImage(image, labels)]
    plain = one.features.lookup([planes[0].image])

    def look(index: int, tile: Region) -> TileFeatures:
        found = plain(index, tile)
        return Counting(found.region, found.maps, found.origin)

    head = one.fit(planes, lookup=look)
    assert 1000 <= seen[0] <= 1060
    assert (one.predict(head, image).labels[truth == 2] == 2).mean() > 0.9


def test_balanced_classes_give_a_rarely_painted_class_more_pixels() -> None:
    image = np.random.default_rng(0).random((64, 64), dtype=np.float32)
    labels = np.ones(image.shape, np.int32)
    labels[np.random.default_rng(1).random(image.shape) < 0.1] = 2  # grey values say nothing: only the share counts
    shares = []
    for is_balanced in (False, True):
        one = learner(settings=InstantSettings(is_balanced=is_balanced))
        shares.append((one.predict(one.fit([PaintedImage(image, labels)]), image).labels == 2).mean())
    assert shares[0] < 0.05 and 0.3 < shares[1] < 0.7


def test_only_tiles_with_paint_are_asked_for() -> None:
    one = learner(32)
    asked: list[Region] = []
    image = painted()
    plain = one.features.lookup([image.image])

    def look(index: int, tile: Region) -> TileFeatures:
        asked.append(tile)
        return plain(index, tile)

    one.fit([image], lookup=look)
    expected = [tile for tile in one.features.tiles(image.image.shape) if image.labels[tile.slices].any()]
    assert asked == expected and len(expected) < len(one.features.tiles(image.image.shape))


@pytest.mark.parametrize(
    ("values", "message"), [((), "nothing is painted yet"), ((2,), "only label 2 is painted; paint at least two")]
)
def test_too_few_classes_are_told(values: tuple[int, ...], message: str) -> None:
    image, truth = discs()
    labels = np.where(np.isin(truth, values), truth, 0)
    with pytest.raises(ImageError, match=message):
        learner().fit([PaintedImage(image, labels)])


def test_stopping_between_tiles() -> None:
    calls: list[None] = []

    def stop() -> None:
        calls.append(None)
        if len(calls) > 1:
            raise Cancelled

    one = learner(32)
    with pytest.raises(Cancelled):
        one.fit([painted()], checkpoint=stop)
    head = one.fit([painted()])
    calls.clear()
    with pytest.raises(Cancelled):
        one.predict(head, painted().image, checkpoint=stop)


def test_wrong_requests_are_told() -> None:
    one = learner()
    image, _ = discs()
    head = one.fit([painted()])
    with pytest.raises(ParameterError, match="no window of a plane"):
        one.predict(head, image, Region(0, 91, 0, 10))
    with pytest.raises(ParameterError, match="no window of a plane"):
        predict(head, (5, 5), [], lambda tile: None, region=Region(2, 2, 0, 5))  # type: ignore[arg-type,return-value]
    with pytest.raises(ImageError, match="expected one plane"):
        one.predict(head, image[None])
    with pytest.raises(ImageError, match="no numbers"):
        one.predict(head, np.full((20, 20), np.nan, np.float32))
    with pytest.raises(ParameterError, match="expected at least two"):
        dataclasses.replace(head, values=(1,))
    with pytest.raises(ParameterError, match="weights are of shape"):
        LinearHead(np.zeros((2, 3), np.float32), np.zeros(2, np.float32), (1, 2))
    assert head.weight.shape == (2, n_channels())


def test_wrong_settings_are_told() -> None:
    with pytest.raises(ParameterError, match="l2 is 0"):
        InstantSettings(l2=0)
    with pytest.raises(ParameterError, match="too few"):
        InstantSettings(max_px=10)
    with pytest.raises(ParameterError, match="frozen norms"):
        InstantFeatures(NUNet(), CPU)
    with pytest.raises(ParameterError, match="too small"):
        InstantFeatures(NUNet(norm="frozen"), CPU, tile_px=8)


def test_nothing_that_is_handed_in_changes() -> None:
    one = learner()
    image, _ = discs()
    kept, work = image.copy(), painted()
    labels = work.labels.copy()
    head = one.fit([work])
    one.predict(head, image)
    np.testing.assert_array_equal(image, kept)
    np.testing.assert_array_equal(work.labels, labels)
