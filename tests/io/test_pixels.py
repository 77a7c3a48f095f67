"""One stated rule for every pixel type."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.io.pixels import convert

INTEGERS = [f"{sign}int{bits}" for sign in ("u", "") for bits in (8, 16, 32, 64)]
ALL = ["bool", *INTEGERS, "float16", "float32", "float64", "longdouble"]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("target", ["float32", "uint8", "uint16", "keep"])
def test_every_real_type_is_stored_in_a_type_that_tiff_knows(name: str, target: Any) -> None:
    image = np.array([[0, 1], [1, 0]], dtype=name)
    before = image.copy()
    stored, rule = convert(image, target)
    assert stored.dtype.name in {"uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64"}
    assert stored.dtype.name == target or target == "keep"
    assert stored.shape == image.shape
    assert rule
    np.testing.assert_array_equal(image, before)
    scale = np.iinfo(target).max if target.startswith("uint") and image.dtype.kind in "bf" else 1
    np.testing.assert_array_equal(stored, np.array([[0, 1], [1, 0]]) * scale)


@pytest.mark.parametrize(("dtype", "top"), [("uint8", 255), ("uint16", 65535)])
def test_zero_to_one_becomes_the_whole_range(dtype: Any, top: int) -> None:
    codes = np.arange(top + 1)
    for kind in (np.float32, np.float64):
        stored, _ = convert((codes / top).astype(kind), dtype)
        np.testing.assert_array_equal(stored, codes)
    # Between two codes the nearer one wins; outside the range the end does, without wrapping.
    values = np.array([0.4 / top, 0.6 / top, -0.1, 1.1, 70000.0, -np.inf, np.inf, np.nan])
    assert convert(values, dtype)[0].tolist() == [0, 1, 0, top, top, 0, top, 0]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (np.array([0, 255], np.int64), "uint8"),
        (np.array([0, 256], np.uint64), "uint16"),
        (np.array([0, 2**32 - 1], np.uint64), "uint32"),
        (np.array([-1, 127], np.int64), "int8"),
        (np.array([-1, 200], np.int64), "int16"),
        (np.array([-1, 40_000], np.int64), "int32"),
        (np.array([0, 2**53], np.uint64), "float64"),
    ],
)
def test_wide_integers_keep_their_values(image: np.ndarray, expected: str) -> None:
    stored, _ = convert(image, "keep")
    assert stored.dtype == expected
    assert stored.astype(object).tolist() == image.tolist()


@pytest.mark.parametrize(
    ("image", "dtype", "words"),
    [
        (np.array([2**63], np.uint64), "keep", "cannot hold them exactly"),
        (np.array([2**24 + 1], np.int64), "float32", "would round"),
        (np.array([-(2**24) - 1], np.int64), "float32", "would round"),
        (np.array([1e300]), "float32", "3.4e38"),
        (np.array([300], np.uint16), "uint8", "0 to 255 only"),
        (np.array([-1], np.int8), "uint16", "0 to 65535 only"),
        (np.array([1j]), "float32", "complex"),
        (np.array(["a"]), "keep", "expected real numbers"),
        (np.zeros((0, 4)), "keep", "empty"),
    ],
)
def test_what_would_lose_values_is_refused(image: np.ndarray, dtype: Any, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        convert(image, dtype)


def test_infinity_stays_infinity_in_float32() -> None:
    assert convert(np.array([np.inf, 1.0]))[0].tolist() == [np.inf, 1.0]


def test_unknown_type() -> None:
    with pytest.raises(ParameterError, match="float32, uint8, uint16, keep"):
        convert(np.zeros(2), "uint12")  # type: ignore[arg-type]


def test_layout_is_native_and_contiguous() -> None:
    stored, _ = convert(np.arange(12, dtype=">u2").reshape(3, 4).T, "keep")
    assert stored.flags.c_contiguous
    assert stored.dtype.isnative
    assert convert(np.array(3.0))[0].shape == ()
