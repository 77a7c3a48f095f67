"""Crops, the overlap rule, and pairs of images made from crops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_cellenhance.core.crops import Background, CropSet, ObjectCrop
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.normalize import Normalizer
from napari_cellenhance.core.placed_crops import Change, OverlapRule, Part, place
from napari_cellenhance.core.synthetic_pairs import (
    PRESETS,
    Scaling,
    SceneMaker,
    SceneSettings,
    fill_null,
    preset,
    scaling_of,
    whites_of,
)

SMALL = SceneSettings(size_px=64, n_target=(2, 4), n_unwanted=(2, 4), outside=0.2)
EIGHT_BITS = Scaling(kind="fixed", low=0.0, high=255.0)


def _crop(
    value: float, side: int = 12, source: str = "a", track: int | None = None, frame: int = 0, n: int = 0
) -> ObjectCrop:
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    mask = np.hypot(y, x) < side / 2
    pixels = np.where(mask, value + 10 * np.cos(y), 0).astype(np.float32)
    pixels = pixels if n == 0 else np.repeat(pixels[..., None], n, 2)
    return ObjectCrop(pixels=pixels, mask=mask, source=source, box=(0, 0, side, side), track=track, frame=frame)


def _background(seed: int = 0, side: int = 80, level: float = 20.0) -> Background:
    rng = np.random.default_rng(seed)
    mask = np.zeros((side, side), bool)
    mask[10:30, 10:40] = True
    pixels = np.where(mask, 0, level + rng.random((side, side)) * 10).astype(np.float32)
    return Background(pixels=pixels, mask=mask, source=f"ground {seed}")


def _set(**more: object) -> CropSet:
    known = {"target": (_crop(150), _crop(100)), "unwanted": (_crop(80, 20), _crop(60, 16)), "backgrounds": ()}
    return CropSet(**(known | more))  # type: ignore[arg-type]


# --- pairs -----------------------------------------------------------------------------------


def test_t_s3_only_the_wanted_layer_is_shared() -> None:
    maker = SceneMaker(_set(backgrounds=(_background(),)), SMALL, EIGHT_BITS)
    correlations = []
    for seed in range(20):
        pair = maker.draw(np.random.default_rng(seed))
        np.testing.assert_array_equal(pair.first.target, pair.second.target)
        assert pair.first.image.shape == (1, 64, 64) and pair.first.labels.max() >= 1
        assert not np.array_equal(pair.first.background, pair.second.background)
        correlations.append(np.corrcoef(pair.first.unwanted.ravel(), pair.second.unwanted.ravel())[0, 1])
        whole = pair.first.target + pair.first.unwanted + pair.first.background
        np.testing.assert_allclose(pair.first.image, np.clip(whole, 0, 1), atol=1e-6)
    assert np.mean(correlations) < 0.5 and max(correlations) < 1


def test_t_s3_without_anything_else_both_images_are_equal() -> None:
    for crops, settings in ((_set(unwanted=()), SMALL), (_set(), replace(SMALL, n_unwanted=(0, 0)))):
        pair = SceneMaker(crops, settings, EIGHT_BITS).draw(np.random.default_rng(1))
        np.testing.assert_array_equal(pair.first.image, pair.second.image)
        assert pair.first.image.max() > 0


def test_objects_that_find_no_place_are_left_out() -> None:
    settings = replace(SMALL, size_px=32, n_target=(12, 12), n_unwanted=(0, 0), max_overlap=0.0, outside=0.0)
    maker = SceneMaker(CropSet(target=(_crop(150),)), settings, EIGHT_BITS)
    pair = maker.draw(np.random.default_rng(0))
    laid = set(np.unique(pair.first.labels)) - {0}
    assert 1 <= len(laid) < 12 and laid < set(range(1, 13))
    np.testing.assert_array_equal(pair.first.target, pair.second.target)


def test_nothing_is_turned_where_directions_tell_the_kinds_apart() -> None:
    ramp = np.tile(np.linspace(20, 60, 80, dtype=np.float32), (80, 1))
    ground = Background(pixels=ramp, mask=np.zeros((80, 80), bool), source="a")
    bar = np.zeros((5, 15), np.float32)
    bar[1:4, 1:14] = 120
    crop = ObjectCrop(pixels=bar, mask=bar > 0, source="a", box=(0, 0, 5, 15))
    settings = replace(
        SMALL, n_target=(1, 1), n_unwanted=(0, 0), outside=0.0, zoom=(1.0, 1.0), gain=(1.0, 1.0), is_turning=False
    )
    maker = SceneMaker(CropSet(target=(crop,), backgrounds=(ground,)), settings, EIGHT_BITS)
    for seed in range(6):
        scene = maker.draw(np.random.default_rng(seed)).first
        rows, columns = np.nonzero(scene.labels)
        assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (3, 13), "the bar lies as it was"
        free = scene.background[0]
        assert (np.diff(free, axis=1) > 0).all() and np.ptp(free, axis=0).max() < 1e-6, "and so does the ramp"


def test_the_same_generator_draws_the_same_pair() -> None:
    maker = SceneMaker(_set(backgrounds=(_background(),)), SMALL, EIGHT_BITS)
    first, again, other = (maker.draw(np.random.default_rng(seed)).second.image for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(("shift", "is_accepted"), [(4, False), (5, True), (6, True)])
def test_t_s4_objects_overlap_in_part_only(shift: int, is_accepted: bool) -> None:
    rule = OverlapRule((64, 64), 0.5)
    square = np.ones((10, 10), bool)
    rule.add(square, (20, 20))
    assert rule.accepts(square, (20, 20 + shift)) is is_accepted


def test_a_large_object_must_not_hide_a_small_one() -> None:
    rule = OverlapRule((64, 64), 0.5)
    rule.add(np.ones((4, 4), bool), (30, 30))
    large = np.ones((30, 30), bool)
    assert not rule.accepts(large, (20, 20)), "only 2 % of the large one is covered, but all of the small one"
    assert rule.copy().accepts(large, (32, 32)), "half of it"
    assert OverlapRule((64, 64), 1.0).accepts(large, (20, 20))


def test_large_objects_together_must_not_hide_a_small_one() -> None:
    rule, large = OverlapRule((96, 96), 0.5), np.ones((30, 30), bool)
    rule.add(large, (20, 5))
    rule.add(large, (20, 35))
    small = np.ones((10, 10), bool)
    assert not rule.accepts(small, (30, 30)), "half under either of them, so nothing of it is free"
    assert rule.accepts(small, (45, 30)), "half of it is"


def test_what_counts_is_objects_not_boxes() -> None:
    rule = OverlapRule((64, 64), 0.1)
    diagonal = np.eye(10, dtype=bool)
    rule.add(diagonal, (20, 20))
    assert rule.accepts(np.roll(diagonal, 5, 1), (20, 20)), "the boxes are the same, the objects do not touch"
    assert not rule.accepts(diagonal, (70, 0)), "nothing of it would be seen"


def test_a_copy_of_the_rule_learns_by_itself() -> None:
    rule, square = OverlapRule((32, 32), 0.0), np.ones((8, 8), bool)
    other = rule.copy()
    other.add(square, (4, 4))
    assert rule.accepts(square, (4, 4)) and not other.accepts(square, (4, 4))


def test_t_s5_gaps_of_a_background_get_one_constant() -> None:
    ground = _background()
    pixels = ground.pixels[None]
    values = set()
    for seed in range(5):
        filled = fill_null(pixels, ground.mask, (22.0, 28.0), np.random.default_rng(seed))
        (constant,) = np.unique(filled[:, ground.mask])
        assert 22 <= constant <= 28
        np.testing.assert_array_equal(filled[:, ~ground.mask], pixels[:, ~ground.mask])
        values.add(float(constant))
    assert len(values) == 5 and pixels[0, 12, 12] == 0, "drawn anew, and the original is as it was"


def test_t_s5_no_gap_is_left_in_a_pair() -> None:
    empty = CropSet(target=(_crop(150),), backgrounds=(_background(),))
    maker = SceneMaker(empty, replace(SMALL, n_target=(0, 0)), EIGHT_BITS)
    for seed in range(10):
        image = maker.draw(np.random.default_rng(seed)).first.image
        assert image.min() >= 19.9 / 255 and image.max() <= 30.1 / 255


def test_t_s7_logarithmic_pairs_are_sound() -> None:
    scaling = Scaling(kind="fixed_log", low=5.0, high=40_000.0)
    crops = CropSet(target=(_crop(20_000),), unwanted=(_crop(39_000),), backgrounds=(_background(level=50.0),))
    maker = SceneMaker(crops, replace(SMALL, gain=(0.05, 10.0)), scaling)
    for seed in range(10):
        pair = maker.draw(np.random.default_rng(seed))
        for layer in (pair.first.image, pair.second.image, pair.first.target, pair.first.unwanted):
            assert np.isfinite(layer).all() and layer.min() >= 0 and layer.max() <= 1
    normalizer = Normalizer("fixed_log", {"low": 5.0, "high": 40_000.0})
    values = np.array([5.0, 6.0, 300.0, 40_000.0])
    np.testing.assert_allclose(normalizer.denormalize(normalizer.normalize(values)), values, rtol=1e-5)
    assert normalizer.normalize(np.array([0.0, 5.0, 40_000.0])).tolist() == pytest.approx([0, 0, 1])


def test_layers_are_added_before_the_logarithm() -> None:
    scaling = Scaling(kind="fixed_log", low=1.0, high=1000.0)
    both = scaling.final(scaling.linear(np.array([100.0]), 0) + scaling.linear(np.array([300.0]), 0))
    assert float(both[0]) == pytest.approx((np.log(401) - np.log(2)) / (np.log(1001) - np.log(2)), abs=1e-5)


def test_an_image_taken_apart_has_three_layers() -> None:
    maker = SceneMaker(_set(backgrounds=(_background(),)), replace(SMALL, is_taken_apart=True), EIGHT_BITS)
    scene = maker.draw(np.random.default_rng(0)).first
    assert scene.layers.shape == (3, 64, 64)
    np.testing.assert_array_equal(scene.layers[1:2], scene.background)


def test_colours_are_multiplied_and_nothing_is_one() -> None:
    settings = replace(SMALL, is_product=True)
    crops = CropSet(target=(_crop(150, n=3),), unwanted=(_crop(80, n=3),))
    pair = SceneMaker(crops, settings, EIGHT_BITS).draw(np.random.default_rng(2))
    assert pair.first.image.shape == (3, 64, 64) and float(pair.first.background.min()) == 1
    np.testing.assert_allclose(pair.first.image, pair.first.target * pair.first.unwanted, atol=1e-6)
    assert float(pair.first.target[:, pair.first.labels == 0].max()) == pytest.approx(1, abs=1e-6)
    half = Change(gain=2.0, is_product=True).of(Part(np.full((1, 4, 4), 0.5, np.float32), np.ones((4, 4), bool)), 32)
    assert half.pixels[0, 2, 2] == pytest.approx(0.25), "the gain is an exponent"
    with pytest.raises(ParameterError, match="multiplied"):
        SceneMaker(crops, settings, Scaling(kind="fixed_log", low=1, high=255))


def test_the_same_cell_a_frame_later() -> None:
    series = (_crop(100, track=1, frame=0), _crop(200, track=1, frame=1))
    maker = SceneMaker(CropSet(target=series), replace(SMALL, follows_tracks=True), EIGHT_BITS)
    brighter = [
        float(pair.second.target.sum() - pair.first.target.sum())
        for pair in (maker.draw(np.random.default_rng(i)) for i in range(8))
    ]
    assert max(brighter) > 0 and min(brighter) >= 0, "the first frame is followed by the brighter second"


# --- changes of crops ------------------------------------------------------------------------


def test_a_crop_is_changed_as_asked_and_stays_in_range() -> None:
    mask = np.zeros((6, 10), bool)
    mask[1:5, 1:9] = True
    part = Part(np.where(mask, 0.5, 0.0).astype(np.float32)[None], mask)
    same = Change().of(part, 64)
    np.testing.assert_array_equal(same.pixels, part.pixels)
    brighter = Change(offset=0.1, gain=1.5).of(part, 64)
    assert np.unique(brighter.pixels).tolist() == pytest.approx([0, 0.6])
    assert Change(gain=9.0).of(part, 64).pixels.max() == 1
    turned = Change(degrees=90.0).of(part, 64)
    assert turned.mask.shape == (10, 6) and turned.mask.sum() == mask.sum()
    larger = Change(zoom=2.0).of(part, 64)
    assert larger.mask.shape == (12, 20) and larger.mask.sum() == pytest.approx(4 * mask.sum(), rel=0.15)
    askew = Change(degrees=45.0).of(part, 64)
    assert min(askew.mask.shape) > 10 and askew.pixels.sum() == pytest.approx(part.pixels.sum(), rel=0.05)
    assert not askew.pixels[:, 0, 0].any(), "beyond the crop there is nothing"
    assert Change(zoom=20.0).of(part, 32).mask.shape == (32, 32)
    flipped = Change(flips=(False, True)).of(
        Part(np.arange(6, dtype=np.float32)[None, None] / np.float32(6), mask[:1, :6] | True), 9
    )
    assert flipped.pixels[0, 0, 0] == pytest.approx(5 / 6)


def test_places_leave_the_stated_share_outside() -> None:
    rng = np.random.default_rng(0)
    corners = np.array([place((40, 40), (10, 20), 0.5, rng) for _ in range(400)])
    assert corners.min(axis=0).tolist() == [-5, -10] and corners.max(axis=0).tolist() == [35, 30]
    inside = np.array([place((40, 40), (10, 20), 0.0, rng) for _ in range(100)])
    assert inside.min() >= 0 and inside.max(axis=0)[1] <= 20


# --- settings and scaling --------------------------------------------------------------------


def test_presets_are_those_of_the_paper() -> None:
    co_culture, astrocytes, microglia = (preset(name) for name in ("co-culture", "astrocytes", "microglia"))
    assert co_culture.scene == SceneSettings(size_px=256, n_target=(3, 8), gain=(0.5, 1.5), zoom=(0.75, 1.3))
    assert (astrocytes.scene.max_overlap, astrocytes.scene.n_unwanted, astrocytes.scene.outside) == (0.5, (1, 3), 0.1)
    assert astrocytes.scaling is not None and astrocytes.scaling.low > astrocytes.scaling.high
    assert microglia.scaling is not None and microglia.scaling.is_log and microglia.scene.size_px == 512
    for one in (co_culture, astrocytes, microglia):
        assert one.learning_rate == pytest.approx(1e-5 * one.batch_size)
    assert (co_culture.n_steps, "dock" in PRESETS) == (32_640, True)
    with pytest.raises(ParameterError, match="no preset"):
        preset("neurons")


def test_scaling_is_chosen_from_the_crops() -> None:
    crops = _set(backgrounds=(_background(),))
    assert scaling_of(crops) == Scaling(kind="p99")
    assert whites_of(replace(crops, white={"a": 180.0}))["a"] == 180.0
    assert 20 < whites_of(crops)["ground 0"] <= 30
    with pytest.raises(ImageError, match="'a' have no positive grey values; choose a range"):
        whites_of(CropSet(target=(replace(_crop(100), pixels=-_crop(100).pixels),)))
    found = scaling_of(crops, kind="fixed_log")
    assert found.is_log and 0 <= found.low < found.high < 255
    whole = CropSet(target=(replace(_crop(150), pixels=np.rint(_crop(150).pixels)),))
    assert scaling_of(whole, is_complement=True) == Scaling(kind="fixed", low=255.0, high=0.0)
    assert scaling_of(whole, low=3, high=99) == Scaling(kind="fixed", low=3, high=99)


def test_the_complement_makes_dark_objects_bright() -> None:
    crops = CropSet(target=(_crop(40),), backgrounds=(_background(level=200.0),))
    maker = SceneMaker(crops, replace(SMALL, gain=(1.0, 1.0)), Scaling(kind="fixed", low=255.0, high=0.0))
    scene = maker.draw(np.random.default_rng(0)).first
    assert float(np.median(scene.target[0][scene.labels > 0])) > 0.02
    assert float(scene.background.max()) < 0.3


@pytest.mark.parametrize(
    "wrong",
    [
        {"size_px": 100}, {"n_target": (3, 2)}, {"gain": (0.0, 1.0)}, {"zoom": (2.0, 1.0)}, {"outside": 1.0},
        {"max_overlap": 1.5},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ParameterError):
        SceneSettings(**wrong)  # type: ignore[arg-type]


def test_scalings_out_of_range_are_refused() -> None:
    for wrong in ({"kind": "sqrt"}, {"low": 1.0}, {"kind": "fixed_log", "low": 9, "high": 3}):
        with pytest.raises(ParameterError):
            Scaling(**wrong)
    with pytest.raises(ParameterError, match="excludes"):
        scaling_of(_set(), kind="fixed_log", is_complement=True)
    with pytest.raises(ImageError, match="kind to keep"):
        SceneMaker(CropSet(unwanted=(_crop(1),)), SMALL, EIGHT_BITS)
    with pytest.raises(ImageError, match="neither"):
        scaling_of(CropSet(), kind="fixed")


# --- crops -----------------------------------------------------------------------------------


def test_crops_are_checked() -> None:
    good = _crop(100)
    with pytest.raises(ImageError, match="float32"):
        replace(good, pixels=good.pixels.astype(np.float64))
    with pytest.raises(ImageError, match="mask"):
        replace(good, mask=good.mask[1:])
    with pytest.raises(ImageError, match="no pixel of an object"):
        replace(good, mask=np.zeros_like(good.mask))
    with pytest.raises(ImageError, match="no numbers"):
        replace(good, pixels=good.pixels * np.float32(np.nan))
    with pytest.raises(ParameterError, match="box"):
        replace(good, box=(0, 0, 3, 3))
    with pytest.raises(ImageError, match="without an object"):
        replace(_background(), mask=np.ones((80, 80), bool))
    with pytest.raises(ImageError, match="different kinds"):
        CropSet(target=(good, _crop(100, n=3)))
    with pytest.raises(ParameterError, match="positive"):
        CropSet(target=(good,), white={"a": 0.0})


def test_c16_the_kinds_can_be_exchanged() -> None:
    crops = _set(white={"a": 99.0})
    swapped = crops.swapped()
    assert swapped.target == crops.unwanted and swapped.unwanted == crops.target and swapped.white == crops.white
    assert crops.of_sources({"b"}).target == () and crops.sources == ("a",)
