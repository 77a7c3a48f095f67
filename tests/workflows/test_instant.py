"""Paint and see: features are computed once, answers follow the paint."""

from __future__ import annotations

import functools
import threading

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_cellenhance.core.device import DeviceChoice
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.inference import Cancelled
from napari_cellenhance.core.models.nunet import NUNet
from napari_cellenhance.core.painted import PaintedImage
from napari_cellenhance.core.recipes.instant import InstantFeatures, TileFeatures
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.workflows.instant import InstantAnswer, InstantSession, confident_labels
from napari_cellenhance.zoo.manifest import find_model
from napari_cellenhance.zoo.weights import load_model

CPU = DeviceChoice(device="cpu", precision="float32", note="")
SHAPE = (60, 100)
WHOLE = Region(0, 60, 0, 100)


@functools.cache
def network() -> NUNet:
    module = load_model(find_model("nunet"))
    assert isinstance(module, NUNet)
    return module


class CountingFeatures(InstantFeatures):
    """Tells which tiles were computed."""

    def __init__(self, tile_px: int = 32) -> None:
        super().__init__(network(), CPU, tile_px=tile_px)
        self.computed: list[Region] = []

    def compute(self, plane: NDArray[np.float32], tile: Region) -> TileFeatures:
        self.computed.append(tile)
        return super().compute(plane, tile)


def picture(seed: int = 0) -> NDArray[np.float32]:
    """Dark on the left, bright on the right."""
    image = np.random.default_rng(seed).normal(0.25, 0.03, SHAPE)
    image[:, 50:] += 0.5
    return image.clip(0, 1).astype(np.float32)


def paint(*, n_columns: int = 6) -> NDArray[np.int32]:
    labels = np.zeros(SHAPE, np.int32)
    labels[4:8, 4 : 4 + n_columns] = 1
    labels[4:8, 90 : 90 + n_columns] = 2
    return labels


@pytest.fixture
def features() -> CountingFeatures:
    return CountingFeatures()


def test_the_bundled_network_answers_for_what_is_shown() -> None:
    session = InstantSession("cpu", "float32")
    answer = session.update([PaintedImage(picture(), paint())], (0, Region(10, 50, 20, 90)))
    assert answer.labels.shape == (40, 70) and answer.probabilities.shape == (2, 40, 70)
    expected = np.where(np.arange(20, 90) < 50, 1, 2)
    assert (answer.labels == expected).mean() > 0.97
    assert answer.values == (1, 2) and answer.n_tiles_computed == 1
    assert set(answer.seconds) == {"features", "fit", "predict", "total"}
    assert answer.seconds["features"] > 0 and min(answer.seconds.values()) >= 0
    assert sum(answer.seconds.values()) <= 2 * answer.seconds["total"] + 1e-6


def test_repainting_computes_no_features(features: CountingFeatures) -> None:
    session = InstantSession(features=features)
    first = session.update([PaintedImage(picture(), paint())], (0, WHOLE))
    n_tiles = len(features.computed)
    assert n_tiles == len(features.tiles(SHAPE)) == first.n_tiles_computed
    second = session.update([PaintedImage(picture(), paint(n_columns=9))], (0, WHOLE))
    assert len(features.computed) == n_tiles and second.n_tiles_computed == 0 and second.seconds["features"] == 0
    changed = picture()
    changed[0, 0] += 0.01
    session.update([PaintedImage(changed, paint())], (0, WHOLE))
    assert len(features.computed) == 2 * n_tiles


def test_only_what_is_painted_or_shown_is_computed(features: CountingFeatures) -> None:
    session = InstantSession(features=features)
    shown = Region(40, 44, 40, 44)
    session.update([PaintedImage(picture(), paint()), PaintedImage(picture(1), 0 * paint())], (1, shown))
    tiles = features.tiles(SHAPE)
    with_paint = [tile for tile in tiles if paint()[tile.slices].any()]
    in_sight = [tile for tile in tiles if tile.y0 <= 40 < tile.y1 and tile.x0 <= 40 < tile.x1]
    assert features.computed == with_paint + in_sight


def test_features_can_be_there_before_the_first_stroke(features: CountingFeatures) -> None:
    session = InstantSession(features=features)
    assert session.prepare(picture(), WHOLE) == len(features.tiles(SHAPE))
    assert session.prepare(picture(), WHOLE) == 0
    answer = session.update([PaintedImage(picture(), paint())], (0, WHOLE))
    assert answer.n_tiles_computed == 0


def test_the_cache_keeps_to_its_memory() -> None:
    features = CountingFeatures()
    one = features.compute(picture(), features.tiles(SHAPE)[0]).n_bytes
    session = InstantSession(features=features, cache_mb=max(1, 3 * one // 10**6))
    for seed in range(3):
        session.prepare(picture(seed), WHOLE)
        assert 0 < session.n_bytes <= max(1, 3 * one // 10**6) * 10**6
    features.computed.clear()
    last = features.tiles(SHAPE)[-1]
    session.prepare(picture(2), last)
    assert features.computed == []
    session.prepare(picture(0), last)
    assert features.computed == [last]


def test_without_memory_the_answer_is_the_same(features: CountingFeatures) -> None:
    answers = []
    for cache_mb in (0, 100):
        session = InstantSession(features=features, cache_mb=cache_mb)
        answers.append(session.update([PaintedImage(picture(), paint())], (0, WHOLE)))
    np.testing.assert_array_equal(answers[0].probabilities, answers[1].probabilities)


def test_new_classes_are_named(features: CountingFeatures) -> None:
    session = InstantSession(features=features)
    image, labels = picture(), paint()
    assert session.update([PaintedImage(image, labels)], (0, WHOLE)).new_values == (1, 2)
    assert session.update([PaintedImage(image, labels)], (0, WHOLE)).new_values == ()
    labels[30:36, 60:70] = 5
    answer = session.update([PaintedImage(image, labels)], (0, WHOLE))
    assert answer.new_values == (5,) and answer.values == (1, 2, 5)
    labels[labels == 5] = 0
    assert session.update([PaintedImage(image, labels)], (0, WHOLE)).values == (1, 2)


def test_a_class_is_new_until_it_was_answered(features: CountingFeatures) -> None:
    session = InstantSession(features=features)
    work = [PaintedImage(picture(), paint())]
    calls: list[None] = []

    def stop_after_the_fit() -> None:
        calls.append(None)
        if session.head is not None:
            raise Cancelled

    with pytest.raises(Cancelled):
        session.update(work, (0, WHOLE), checkpoint=stop_after_the_fit)
    assert session.update(work, (0, WHOLE)).new_values == (1, 2)


def test_a_stopped_update_keeps_what_it_computed(features: CountingFeatures) -> None:
    session = InstantSession(features=features)
    calls: list[None] = []

    def stop() -> None:
        calls.append(None)
        if len(calls) == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        session.update([PaintedImage(picture(), paint())], (0, WHOLE), checkpoint=stop)
    assert len(features.computed) == 1
    session.update([PaintedImage(picture(), paint())], (0, WHOLE))
    assert len(features.computed) == len(features.tiles(SHAPE))


def test_the_last_classifier_serves_other_planes(features: CountingFeatures) -> None:
    session = InstantSession(features=features)
    with pytest.raises(ParameterError, match="paint at least two classes first"):
        session.predict(picture(3))
    session.update([PaintedImage(picture(), paint())], (0, WHOLE))
    found = session.predict(picture(3))
    assert (found.labels[:, :40] == 1).mean() > 0.97 and (found.labels[:, 60:] == 2).mean() > 0.97
    session.forget()
    assert session.head is None and session.n_bytes == 0


def test_one_call_at_a_time(features: CountingFeatures) -> None:
    session = InstantSession(features=features)
    answers: list[InstantAnswer] = []

    def work() -> None:
        answers.append(session.update([PaintedImage(picture(), paint())], (0, WHOLE)))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 3 and len(features.computed) == len(features.tiles(SHAPE))
    for answer in answers:
        np.testing.assert_allclose(answer.probabilities, answers[0].probabilities, atol=0.03)


def test_wrong_requests_are_told(features: CountingFeatures) -> None:
    session = InstantSession(features=features)
    work = [PaintedImage(picture(), paint())]
    with pytest.raises(ParameterError, match="image 1 is shown"):
        session.update(work, (1, WHOLE))
    with pytest.raises(ParameterError, match="no window of a plane"):
        session.update(work, (0, Region(0, 61, 0, 100)))
    with pytest.raises(ImageError, match="only background"):
        session.update([PaintedImage(picture(), (paint() == 1).astype(np.int32))], (0, WHOLE))
    with pytest.raises(ParameterError, match="cache_mb is -1"):
        InstantSession(cache_mb=-1)
    assert features.computed == []


def _answer() -> InstantAnswer:
    high = np.array([[0.95, 0.6, 0.5]], np.float32)
    return InstantAnswer(
        index=0, region=Region(0, 1, 0, 3), labels=np.array([[1, 1, 4]], np.int32),
        probabilities=np.stack([high, 1 - high]), values=(1, 4), new_values=(), seconds={}, n_tiles_computed=0,
    )  # fmt: skip


def test_confident_pixels_become_paint() -> None:
    np.testing.assert_array_equal(confident_labels(_answer(), 0.9), [[1, 0, 0]])
    np.testing.assert_array_equal(confident_labels(_answer(), 0.5), [[1, 1, 4]])
    by_hand = confident_labels(_answer(), 0.9, painted=np.array([[4, 0, 1]]))
    np.testing.assert_array_equal(by_hand, [[4, 0, 1]])
    assert by_hand.dtype == np.int32


@pytest.mark.parametrize("threshold", [0.0, 1.1, float("nan")])
def test_thresholds_out_of_range_are_told(threshold: float) -> None:
    with pytest.raises(ParameterError, match="the threshold is"):
        confident_labels(_answer(), threshold)


def test_paint_of_another_shape_is_told() -> None:
    with pytest.raises(ParameterError, match="the paint has shape"):
        confident_labels(_answer(), painted=np.zeros((2, 2), np.int32))
