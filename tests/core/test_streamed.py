"""Statistics block by block are those of the whole image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.normalize import fit_normalizer, percentiles
from napari_cellenhance.core.streamed import Blocks, Counted, fit_streamed

DTYPES = ["bool", "u1", "i1", "<u2", ">u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", ">f4", "f8"]


def in_rows(image: NDArray[Any], n_rows: int = 3) -> Blocks:
    def walk() -> Iterator[NDArray[Any]]:
        for start in range(0, len(image), n_rows):
            yield image[start : start + n_rows]

    return walk


def values(dtype: str, rng: np.random.Generator) -> NDArray[Any]:
    wide = rng.normal(0, 1e4 if np.dtype(dtype).itemsize > 1 else 40, (11, 13))
    wide[0, :4] = wide[5, :4]  # values that occur more than once
    kind = np.dtype(dtype).kind
    return np.abs(wide).astype(dtype) if kind in "ub" else wide.astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["percentile", "minmax", "p99", "log", "unit8", "fixed"])
def test_normalisers_are_those_of_the_whole_image(dtype: str, name: str, rng: np.random.Generator) -> None:
    image = values(dtype, rng)
    assert fit_streamed(name, Counted(in_rows(image))) == fit_normalizer(name, image)


@pytest.mark.parametrize("dtype", ["u2", "f4", "f8"])
def test_mean_and_spread_agree(dtype: str, rng: np.random.Generator) -> None:
    image = values(dtype, rng)
    found, whole = fit_streamed("meanstd", Counted(in_rows(image))), fit_normalizer("meanstd", image)
    for key, value in whole.parameters.items():
        assert found.parameters[key] == pytest.approx(value, rel=1e-12)


def test_a_flat_image_and_a_single_pixel_are_flat() -> None:
    for image in (np.full((4, 4), 7, np.float32), np.full((1, 1), 7, np.uint16)):
        counted = Counted(in_rows(image))
        assert counted.mean_and_std() == (7.0, 0.0)
        assert fit_streamed("percentile", counted).is_flat


def test_what_is_no_number_is_left_out_and_counted(rng: np.random.Generator) -> None:
    image = rng.normal(size=(8, 9)).astype(np.float32)
    image[1, 2], image[3, 4], image[5, 6] = np.nan, np.inf, -np.inf
    counted = Counted(in_rows(image))
    assert (counted.n, counted.n_bad) == (69, 3)
    assert counted.percentiles((50.0,)) == percentiles(image[np.isfinite(image)], (50.0,))


def test_huge_and_tiny_values_do_not_overflow() -> None:
    for scale in (1e300, 1e-200):
        image = np.array([[1.0, 2.0, 3.0]]) * scale
        assert Counted(in_rows(image)).mean_and_std() == pytest.approx((2 * scale, np.sqrt(2 / 3) * scale), rel=1e-12)


def test_nothing_to_count_is_said() -> None:
    with pytest.raises(ImageError, match="no numbers"):
        Counted(in_rows(np.full((3, 3), np.nan)))
    with pytest.raises(ImageError, match="real numbers"):
        Counted(in_rows(np.zeros((3, 3), complex)))
    with pytest.raises(ParameterError, match="no normaliser"):
        fit_streamed("nothing", Counted(in_rows(np.zeros((3, 3)))))
