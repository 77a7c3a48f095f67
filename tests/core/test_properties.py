"""What holds for every image, plane, label and score, whatever its size or values: tried on many that are drawn."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_cellenhance.core.axes import check_axes, from_canonical, guess_axes, select_channels, to_canonical
from napari_cellenhance.core.errors import AxesError, ImageError
from napari_cellenhance.core.instances import match_instances, overlaps, seg
from napari_cellenhance.core.metrics import auroc, dice, iou, mae, match_points, psnr, scale_invariant_psnr
from napari_cellenhance.core.normalize import fit_normalizer, sanitize
from napari_cellenhance.core.painted import NOT_PAINTED, PaintedImage, to_targets
from napari_cellenhance.core.painted_crops import CropSampler, hold_out
from napari_cellenhance.core.tiling import merge, pad_to_multiple, split

few = settings(max_examples=50, deadline=None, derandomize=True, database=None)

NAMES = ("percentile", "meanstd", "unit8", "p99", "minmax")  # the logarithmic ones cut off what is dark: no inverse
ORDERS = ["".join(p) for n in range(2, 6) for p in itertools.permutations("TCZYX", n) if {"Y", "X"} <= set(p)]
SIDES = st.integers(1, 40)
PLANES = hnp.arrays(np.float32, st.tuples(SIDES, SIDES), elements=st.floats(-1e4, 1e4, width=32))
LABELS = hnp.arrays(np.int32, (9, 11), elements=st.integers(0, 4))
MASKS = hnp.arrays(np.bool_, (5, 7))


# --- axes ------------------------------------------------------------------------------------


@few
@given(st.sampled_from(ORDERS), st.data())
def test_any_order_of_axes_is_undone(axes: str, data: st.DataObject) -> None:
    shape = tuple(data.draw(st.integers(1, 4)) for _ in axes)
    image = np.arange(np.prod(shape)).reshape(shape)
    canonical = to_canonical(image, axes)
    assert canonical.ndim == 5 and canonical.size == image.size
    np.testing.assert_array_equal(from_canonical(canonical, axes), image)


@few
@given(st.sampled_from([axes for axes in ORDERS if "C" in axes]), st.data())
def test_chosen_channels_are_those_of_the_image(axes: str, data: st.DataObject) -> None:
    shape = tuple(data.draw(st.integers(1, 4)) for _ in axes)
    image = np.random.default_rng(0).random(shape)
    n = shape[axes.index("C")]
    chosen = tuple(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=n, unique=True)))
    picked, left = select_channels(to_canonical(image, axes), axes, chosen)
    back = from_canonical(picked, left)
    wanted = np.take(image, chosen, axis=axes.index("C"))
    np.testing.assert_array_equal(back.reshape(wanted.shape), wanted)


@few
@given(st.text(max_size=7), st.lists(st.integers(0, 9), max_size=7))
def test_axes_are_accepted_or_refused_in_words(axes: str, shape: list[int]) -> None:
    try:
        found = check_axes(axes, shape)
    except AxesError:
        pass
    else:
        assert len(found) == len(shape) and {"Y", "X"} <= set(found)
    assert guess_axes(shape).note or guess_axes(shape).axes


# --- tiles -----------------------------------------------------------------------------------


@few
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 120), st.integers(0, 50), st.integers(1, 9))
def test_tiles_cover_every_pixel_once_with_the_asked_context(
    h: int, w: int, tile: int, halo: int, multiple: int
) -> None:
    seen = np.zeros((h, w), int)
    for one in split((h, w), tile, halo, multiple):
        seen[one.core.slices] += 1
        assert one.core.y0 - one.outer.y0 >= min(halo, one.core.y0)
        assert one.core.x0 - one.outer.x0 >= min(halo, one.core.x0)
        assert one.outer.y1 - one.core.y1 >= min(halo, h - one.core.y1)
        assert one.outer.x1 - one.core.x1 >= min(halo, w - one.core.x1)
        assert (one.outer.y0 >= 0) and (one.outer.y1 <= h) and (one.outer.x0 >= 0) and (one.outer.x1 <= w)
    assert (seen == 1).all()


@few
@given(PLANES, st.integers(1, 50), st.integers(0, 20), st.integers(1, 9))
def test_tiles_put_together_again_are_the_plane(plane: np.ndarray, tile: int, halo: int, multiple: int) -> None:
    tiles = split(plane.shape, tile, halo, multiple)
    back = merge(((one, plane[one.outer.slices]) for one in tiles), plane.shape, np.float32)
    np.testing.assert_array_equal(back, plane)


@few
@given(PLANES, st.integers(1, 64))
def test_padding_is_undone_at_any_size(plane: np.ndarray, multiple: int) -> None:
    padded, crop = pad_to_multiple(plane, multiple)
    assert all(n % multiple == 0 for n in padded.shape)
    np.testing.assert_array_equal(padded[crop], plane)
    assert set(np.unique(padded)) <= set(np.unique(plane))


# --- normalisation ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@few
@given(plane=PLANES)
def test_a_normaliser_keeps_the_order_and_is_undone(name: str, plane: np.ndarray) -> None:
    before = plane.copy()
    normaliser = fit_normalizer(name, plane)
    found = normaliser.normalize(plane)
    np.testing.assert_array_equal(plane, before)
    assert found.dtype == np.float32 and np.isfinite(found).all()
    order = np.argsort(plane, axis=None, kind="stable")
    steps = np.diff(found.ravel()[order].astype(np.float64))
    assert (steps >= -1e-6 * max(1.0, float(np.abs(found).max()))).all()
    wide, asked = found.astype(np.float64), plane.astype(np.float64)  # a float32 has no room for spans and tolerances
    if np.ptp(wide) > 0:  # of a flat result nothing can be told
        span = max(float(np.ptp(asked)), float(np.abs(asked).max()))
        is_kept = np.abs(wide) < np.finfo(np.float32).max  # beyond it was cut off
        np.testing.assert_allclose(normaliser.denormalize(found)[is_kept], asked[is_kept], atol=1e-4 * span)


@pytest.mark.parametrize("values", [[3.0, -1.0, 1.1754944e-38, *[0.0] * 120], [1e-45, 0.0]])
def test_ranges_of_tiny_numbers_are_normalised_without_a_warning(values: list[float]) -> None:
    plane = np.float32([values])
    normaliser = fit_normalizer("percentile", plane)
    found = normaliser.normalize(plane)
    assert np.isfinite(found).all() and found[0, 0] == found.max()
    is_kept = np.abs(found) < np.finfo(np.float32).max
    back = normaliser.denormalize(found)[is_kept]
    np.testing.assert_allclose(back, plane.astype(np.float64)[is_kept], atol=1e-6 * float(np.abs(plane).max()))


@pytest.mark.parametrize("name", NAMES)
@few
@given(value=st.floats(-1e30, 1e30), side=st.integers(1, 5))
def test_a_constant_image_stays_finite(name: str, value: float, side: int) -> None:
    plane = np.full((side, side), value)
    found = fit_normalizer(name, plane).normalize(plane)
    assert np.isfinite(found).all() and np.ptp(found) == 0


@few
@given(
    hnp.arrays(np.float64, st.tuples(SIDES, SIDES), elements=st.sampled_from([0, 1, 2.5, -3, np.nan, np.inf, -np.inf]))
)
def test_what_is_no_number_is_counted_and_filled(plane: np.ndarray) -> None:
    is_number = np.isfinite(plane)
    if not is_number.any():
        with pytest.raises(ImageError):
            sanitize(plane)
        return
    filled, n_filled = sanitize(plane)
    assert n_filled == (~is_number).sum() and np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[is_number], plane[is_number])
    low, high = plane[is_number].min(), plane[is_number].max()
    assert low <= filled.min() and filled.max() <= high


# --- scores ----------------------------------------------------------------------------------


@few
@given(MASKS, MASKS)
def test_overlaps_of_masks_are_symmetric_and_bounded(a: np.ndarray, b: np.ndarray) -> None:
    assert iou(a, b) == iou(b, a) and dice(a, b) == dice(b, a)
    assert 0 <= iou(a, b) <= dice(a, b) <= 1
    assert iou(a, a) == dice(a, a) == 1


@few
@given(LABELS, LABELS, st.permutations([1, 2, 3, 4]))
def test_scores_of_objects_do_not_depend_on_their_numbers(a: np.ndarray, b: np.ndarray, order: list[int]) -> None:
    renumbered = np.array([0, *(10 * n for n in order)])[b]
    here, there = match_instances(overlaps(a, b)), match_instances(overlaps(a, renumbered))
    assert here == there
    back = match_instances(overlaps(b, a))
    assert (here.tp, here.fp, here.fn) == (back.tp, back.fn, back.fp)
    assert 0 <= here.average_precision <= here.f1 <= 1
    assert match_instances(overlaps(a, a), min_iou=1.0).average_precision == 1
    if a.any():
        assert seg(a, b) == pytest.approx(seg(a, renumbered)) and 0 <= seg(a, b) <= seg(a, a) == 1


@few
@given(
    hnp.arrays(np.float64, st.tuples(st.integers(0, 8), st.just(2)), elements=st.floats(0, 20)),
    hnp.arrays(np.float64, st.tuples(st.integers(0, 8), st.just(2)), elements=st.floats(0, 20)),
    st.floats(0, 9),
)
def test_matched_points_are_symmetric_and_bounded(a: np.ndarray, b: np.ndarray, radius: float) -> None:
    here, back = match_points(a, b, radius), match_points(b, a, radius)
    assert (here.tp, here.fp, here.fn) == (back.tp, back.fn, back.fp)
    assert here.tp + here.fp == len(a) and here.tp + here.fn == len(b) and here.tp >= 0
    assert match_points(a, a, radius).tp == len(a)
    assert match_points(a, b[::-1], radius) == here


@few
@given(
    hnp.arrays(np.float64, (4, 6), elements=st.floats(0, 255)),
    hnp.arrays(np.float64, (4, 6), elements=st.floats(0, 255)),
)
def test_errors_of_images_are_symmetric_and_zero_for_the_same(a: np.ndarray, b: np.ndarray) -> None:
    assert mae(a, b) == mae(b, a) >= 0 and mae(a, a) == 0
    assert psnr(a, b, 255) == pytest.approx(psnr(b, a, 255)) and psnr(a, a, 255) == np.inf
    if np.ptp(a) > 1e-3:
        here, there = scale_invariant_psnr(a, b, 255), scale_invariant_psnr(3 * a + 7, b, 255)
        assert min(here, there) > 150 or here == pytest.approx(
            there, rel=1e-3, abs=1e-3
        )  # beyond, only rounding is left


@few
@given(hnp.arrays(np.float64, (4, 6), elements=st.floats(0, 255)), hnp.arrays(np.bool_, (4, 6)))
def test_auroc_is_a_probability_that_turns_with_the_contrast(image: np.ndarray, mask: np.ndarray) -> None:
    if mask.all() or not mask.any():
        with pytest.raises(ImageError):
            auroc(image, mask)
        return
    assert 0 <= auroc(image, mask) <= 1
    assert auroc(image, mask) + auroc(-image, mask) == pytest.approx(1)
    assert auroc(mask.astype(float), mask) == 1


# --- paint -----------------------------------------------------------------------------------


@few
@given(
    hnp.arrays(
        np.int32, st.tuples(st.integers(1, 30), st.integers(1, 30)), elements=st.sampled_from([0, 0, 0, 1, 2, 7])
    )
)
def test_what_is_not_painted_is_never_a_target_and_no_paint_is_lost(labels: np.ndarray) -> None:
    values = [int(v) for v in np.unique(labels) if v != NOT_PAINTED]
    if len(values) < 2:
        return
    targets = to_targets(labels, values)
    assert ((targets >= 0) == (labels != NOT_PAINTED)).all()
    for number, value in enumerate(values):
        np.testing.assert_array_equal(targets == number, labels == value)


@few
@given(st.integers(2, 40), st.integers(2, 40), st.integers(0, 999), st.integers(4, 24), st.booleans())
def test_patches_hold_the_paint_of_their_place_and_none_besides(
    h: int, w: int, seed: int, side: int, even: bool
) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array([0, 1, 2], np.int32), (h, w), p=rng.dirichlet([9, 1, 0.1]))
    image = (labels / 10 + np.linspace(0, 0.01, w)).astype(np.float32)
    painted = PaintedImage(image, labels, "drawn")
    if not labels.any():
        with pytest.raises(ImageError):
            CropSampler([painted], side, is_balanced=even)
        return
    sampler = CropSampler([painted], side, is_balanced=even)
    for _ in range(5):
        pixels, paint = sampler.draw(rng)
        assert pixels.shape == paint.shape == (side, side) and paint.any()
        is_paint = paint != NOT_PAINTED
        np.testing.assert_allclose(pixels[is_paint], paint[is_paint] / 10, atol=0.011)  # the paint of these very pixels
        assert is_paint.sum() <= (labels != NOT_PAINTED).sum()


@few
@given(st.integers(0, 999), st.floats(0.05, 0.5))
def test_paint_kept_aside_is_never_learned_from(seed: int, fraction: float) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array([0, 1, 2], np.int32), (48, 48), p=[0.8, 0.1, 0.1])
    painted = PaintedImage(rng.random(labels.shape, np.float32), labels, "drawn")
    held = hold_out([painted], fraction=fraction, gap_px=4, rng=rng)
    (learned,) = held.train
    assert learned.labels.any() and ((learned.labels == 0) | (learned.labels == labels)).all()
    if held.how != "none":
        for one in held.validation:
            assert one.labels.any() and ((one.labels == 0) | (one.labels == labels)).all()
            assert not ((one.labels != 0) & (learned.labels != 0)).any()
