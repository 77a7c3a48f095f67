"""Normalisers keep their promises on every kind of pixel a file can hold."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.normalize import Normalizer, fit_normalizer, percentiles, sanitize, suggest_dark_objects

NAMES = ("percentile", "meanstd", "unit8", "p99", "log", "minmax")
MEASURING = tuple(name for name in NAMES if name != "unit8")


def plane(dtype: Any = np.float64) -> np.ndarray:
    return (np.random.default_rng(5).random((17, 31)) * 200).astype(dtype)


# --- the numbers ------------------------------------------------------------------------


def test_percentile_example() -> None:
    normalizer = fit_normalizer("percentile", np.arange(1001.0), lo=3, hi=99.8)
    assert (normalizer.parameters["p_low"], normalizer.parameters["p_high"]) == (30.0, 998.0)
    values = normalizer.normalize(np.array([0.0, 500.0, 1000.0]))
    np.testing.assert_allclose(values, [-0.030992, 0.485537, 1.002066], atol=1e-6)
    np.testing.assert_allclose(normalizer.denormalize(values), [0, 500, 1000], atol=1e-4)


def test_clip_keeps_to_zero_and_one() -> None:
    normalizer = fit_normalizer("percentile", plane(), lo=10, hi=90, clip=True)
    values = normalizer.normalize(plane())
    assert (values.min(), values.max()) == (0.0, 1.0)


def test_the_other_normalisers() -> None:
    x = np.array([1.0, 3.0, 7.0, 9.0])
    np.testing.assert_allclose(fit_normalizer("meanstd", x).normalize(x), (x - 5) / np.sqrt(10), rtol=1e-6)
    np.testing.assert_allclose(fit_normalizer("unit8", x).normalize(np.array([0, 51, 255])), [0, 0.2, 1], rtol=1e-6)
    np.testing.assert_allclose(fit_normalizer("minmax", x).normalize(x), (x - 1) / 8, rtol=1e-6)
    np.testing.assert_allclose(fit_normalizer("p99", x).normalize(x), x / np.percentile(x, 99), rtol=1e-6)
    logarithm = fit_normalizer("log", x)
    expected = (np.log(x + 1) - np.log(2)) / (np.log(10) - np.log(2))
    np.testing.assert_allclose(logarithm.normalize(x), expected, rtol=1e-6)
    assert logarithm.normalize(np.array([0.0, -5.0])).tolist() == [0, 0]


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float64, st.integers(1, 40), elements=st.floats(-1e6, 1e6)), st.floats(0, 100))
def test_percentiles_agree_with_numpy(values: np.ndarray, q: float) -> None:
    before = values.copy()
    assert percentiles(values, (q,))[0] == pytest.approx(np.percentile(values, q), rel=1e-9, abs=1e-6)
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize("name", NAMES)
def test_denormalising_undoes_normalising(name: str) -> None:
    normalizer = fit_normalizer(name, plane())
    np.testing.assert_allclose(normalizer.denormalize(normalizer.normalize(plane())), plane(), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_a_normaliser_survives_json(name: str) -> None:
    normalizer = fit_normalizer(name, plane())
    stored = json.loads(json.dumps(normalizer.to_dict()))
    assert Normalizer.from_dict(stored) == normalizer


def test_several_planes_are_pooled() -> None:
    planes = [np.zeros((4, 5)), np.full((7, 3), 10.0)]
    assert fit_normalizer("minmax", planes).parameters == {"low": 0.0, "high": 10.0}
    pooled = np.concatenate([image.ravel() for image in planes])
    assert fit_normalizer("meanstd", planes).parameters["mean"] == pytest.approx(pooled.mean())
    assert fit_normalizer("percentile", planes) == fit_normalizer("percentile", pooled)


def test_large_images_are_normalised_block_by_block_to_the_same_values() -> None:
    image = np.random.default_rng(0).random((3, 1200, 700), np.float32)
    normalizer = fit_normalizer("minmax", image)
    expected = (image.astype(np.float64) - image.min()) / (float(image.max()) - float(image.min()))
    np.testing.assert_allclose(normalizer.normalize(image), expected, atol=1e-6)


def test_a_single_value_is_normalised_too() -> None:
    value = fit_normalizer("minmax", np.array([0.0, 4.0])).normalize(np.array(1.0))
    assert value.shape == ()
    assert value == 0.25


# --- bad and odd pixels -----------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "image",
    [
        plane(bool),
        plane(np.uint8),
        plane(np.uint16),
        plane(np.uint64) * np.uint64(2**56),
        plane(np.int8),
        -plane(np.int64),
        plane(np.float16),
        plane(">u2"),
        plane(">f8"),
        plane().T[::-2, ::-1],
        np.asfortranarray(plane()),
        plane() * 1e300,
        plane() * 1e-33,
        plane() * 8e305 - 8e307,
        plane() * 1e-320,
        plane()[:1, :1],
        plane()[:3, :5],
        plane()[:1],
        np.broadcast_to(np.float32(7), (6, 5)),
        np.zeros((6, 5)),
        np.array([[-1.7e308, 1.7e308]]),
    ],
    ids=[
        "bool",
        "u8",
        "u16",
        "u64",
        "i8",
        "i64",
        "f16",
        ">u2",
        ">f8",
        "strides",
        "fortran",
        "1e300",
        "1e-33",
        "signed-huge",
        "denormal",
        "1x1",
        "3x5",
        "1xN",
        "constant",
        "zero",
        "extremes",
    ],
)
def test_every_kind_of_pixel_becomes_finite_float32_and_is_not_written_to(name: str, image: np.ndarray) -> None:
    before = image.copy()
    clean, n_bad = sanitize(image)
    normalizer = fit_normalizer(name, image)
    values = normalizer.normalize(clean)
    assert n_bad == 0
    assert values.dtype == np.float32
    assert values.shape == image.shape
    assert np.isfinite(values).all()
    assert np.isfinite(normalizer.denormalize(values)).all() or name == "unit8"
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("scale", [1e300, 1e-30, 1e-33])
def test_values_far_from_one_are_scaled_before_they_become_float32(scale: float) -> None:
    reference = fit_normalizer("percentile", plane(), lo=0.1, hi=99.9).normalize(plane())
    image = plane() * scale
    values = fit_normalizer("percentile", image, lo=0.1, hi=99.9).normalize(sanitize(image)[0])
    np.testing.assert_allclose(values, reference, atol=1e-6)


@pytest.mark.parametrize("name", MEASURING)
@pytest.mark.parametrize("value", [0.0, 7.0, 0.1])
def test_a_flat_image_becomes_zeros(name: str, value: float) -> None:
    image = np.full((9, 9), value)
    normalizer = fit_normalizer(name, image)
    assert normalizer.is_flat or (name == "p99" and value > 0)
    if normalizer.is_flat:
        assert not normalizer.normalize(image).any()
        np.testing.assert_allclose(normalizer.denormalize(np.zeros((2, 2))), value if name != "p99" else 0)


def test_one_bright_pixel_in_a_thousand_gives_no_range_but_no_nan_either() -> None:
    image = np.zeros((40, 50))
    image[3, 4] = 1000
    normalizer = fit_normalizer("percentile", image, lo=0.1, hi=99.9)
    assert normalizer.is_flat
    assert not normalizer.normalize(image).any()


@pytest.mark.parametrize("name", MEASURING)
def test_nan_and_infinities_do_not_take_part(name: str) -> None:
    good = plane()
    bad = good.copy()
    bad[0, :5] = [np.nan, np.inf, -np.inf, np.nan, np.inf]
    is_good = np.isfinite(bad)
    assert fit_normalizer(name, bad) == fit_normalizer(name, good[is_good])
    clean, n_bad = sanitize(bad)
    assert n_bad == 5
    np.testing.assert_array_equal(clean[~is_good], np.median(good[is_good]))
    np.testing.assert_array_equal(clean[is_good], good[is_good])
    assert np.isnan(bad[0, 0])


def test_nan_stays_nan_where_it_was_not_filled() -> None:
    values = fit_normalizer("minmax", np.array([0.0, 2.0])).normalize(np.array([1.0, np.nan]))
    np.testing.assert_array_equal(values, np.array([0.5, np.nan], np.float32))


def test_masked_pixels_do_not_take_part() -> None:
    image = np.ma.masked_greater(np.array([[1.0, 2.0, 3.0, 900.0]]), 100)
    assert fit_normalizer("minmax", image).parameters == {"low": 1.0, "high": 3.0}
    clean, n_bad = sanitize(image)
    assert n_bad == 1
    assert clean.tolist() == [[1, 2, 3, 2]]
    assert not isinstance(clean, np.ma.MaskedArray)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_image_without_numbers_is_refused(value: float) -> None:
    image = np.full((4, 4), value)
    for use in (sanitize, lambda x: fit_normalizer("percentile", x), suggest_dark_objects):
        with pytest.raises(ImageError, match="contains no numbers"):
            use(image)
    with pytest.raises(ImageError, match="contains no numbers"):
        sanitize(np.ma.masked_all((3, 3)))


@pytest.mark.parametrize("dtype", [complex, object, "datetime64[s]", "U3"])
def test_pixels_that_are_no_real_numbers_are_refused_by_name(dtype: Any) -> None:
    image = np.zeros((3, 3)).astype(int).astype(dtype)
    for use in (sanitize, lambda x: fit_normalizer("minmax", x)):
        with pytest.raises(ImageError, match=str(np.dtype(dtype)).replace("[", r"\[")[:6]):
            use(image)


def test_images_without_pixels_are_refused() -> None:
    for use in (sanitize, lambda x: fit_normalizer("minmax", x)):
        with pytest.raises(ImageError, match="no pixels"):
            use(np.zeros((0, 4)))


@pytest.mark.parametrize(
    ("dtype", "wide"),
    [(bool, "f4"), ("u1", "f4"), ("i2", "f4"), ("f2", "f4"), (">f4", "f4"), ("i4", "f8"), ("u8", "f8"), (">f8", "f8")],
)
def test_sanitised_pixels_are_native_floats_wide_enough_and_a_copy(dtype: Any, wide: str) -> None:
    image = plane(dtype)[::-1]
    clean, _ = sanitize(image)
    assert clean.dtype == np.dtype(wide)
    assert clean.dtype.isnative
    assert clean.flags.c_contiguous
    np.testing.assert_array_equal(clean, image.astype(wide))
    assert not np.shares_memory(clean, image)
    assert not np.shares_memory(sanitize(clean)[0], clean)


# --- settings ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "wrong", "sentence"),
    [
        ("zscore", {}, "no normaliser 'zscore'"),
        ("percentile", {"low": 3}, "no setting low"),
        ("meanstd", {"clip": True}, "no setting clip"),
        ("percentile", {"lo": 99, "hi": 1}, "0 ≤ lo < hi ≤ 100"),
        ("percentile", {"lo": -1}, "0 ≤ lo < hi ≤ 100"),
        ("percentile", {"hi": 101}, "0 ≤ lo < hi ≤ 100"),
    ],
)
def test_wrong_settings_are_refused(name: str, wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        fit_normalizer(name, plane(), **wrong)


@pytest.mark.parametrize(
    "stored",
    [
        {},
        {"name": "minmax"},
        {"name": "minmax", "parameters": None},
        {"name": "minmax", "parameters": {"low": 0}},
        {"name": "minmax", "parameters": {"low": 0, "high": "x"}},
        {"name": "minmax", "parameters": {"low": 0, "high": float("nan")}},
        {"name": "minmax", "parameters": {"low": 0, "high": 1, "more": 2}},
        {"name": "other", "parameters": {}},
    ],
)
def test_damaged_stored_normalisers_are_refused(stored: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match="normaliser"):
        Normalizer.from_dict(stored)


# --- dark objects -----------------------------------------------------------------------


def discs(rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:128, :160]
    image = np.zeros((128, 160))
    for cy, cx in rng.uniform(10, 118, (12, 2)):
        image[(y - cy) ** 2 + (x - cx) ** 2 < 49] = 1
    return image


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_dark_objects_are_told_from_bright_ones_under_noise_and_uneven_light(seed: int, dtype: Any) -> None:
    rng = np.random.default_rng(seed)
    light = 1 + 0.5 * np.linspace(-1, 1, 160)
    bright = 300 + 200 * (discs(rng) + light + 0.3 * rng.standard_normal((128, 160)))
    bright = np.clip(bright, 0, None)
    is_dark, reason = suggest_dark_objects(bright.astype(dtype))
    assert not is_dark
    assert "brighter" in reason
    is_dark, reason = suggest_dark_objects((bright.max() - bright).astype(dtype))
    assert is_dark
    assert "darker" in reason


def test_a_doubtful_suggestion_says_so() -> None:
    noise = np.random.default_rng(0).standard_normal((200, 200))
    assert "please check" in suggest_dark_objects(noise)[1]


@pytest.mark.parametrize(
    "image",
    [np.ones((20, 20)), np.arange(4.0).reshape(1, 4), np.ones((1, 1)), np.tile([0.0, 1.0, 0.0], (30, 11))],
    ids=["constant", "1x4", "1x1", "stripes finer than the smoothing"],
)
def test_a_plane_without_contrast_or_size_gets_no_suggestion(image: np.ndarray) -> None:
    assert suggest_dark_objects(image) == (False, "")
