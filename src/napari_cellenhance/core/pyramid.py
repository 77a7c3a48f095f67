"""Pyramids of resolutions: how large their levels are, and one level made from the one below it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError

__all__ = ["halve", "level_shapes"]


def level_shapes(shape: Sequence[int], smallest_px: int) -> tuple[tuple[int, ...], ...]:
    """Shapes of all levels: rows and columns halved until the longer one is ``smallest_px`` or less.

    Parameters
    ----------
    shape : sequence of int
        Of the full image, (…, Y, X); other dimensions stay as they are.
    smallest_px : int
        At least 1.

    Examples
    --------
    >>> level_shapes((3, 100, 65), 32)
    ((3, 100, 65), (3, 50, 33), (3, 25, 17))
    """
    if smallest_px < 1:
        raise ParameterError(f"the smallest level is {smallest_px} px; expected 1 or more")
    levels = [tuple(int(n) for n in shape)]
    while max(levels[-1][-2:]) > smallest_px:
        *others, height, width = levels[-1]
        levels.append((*others, -(-height // 2), -(-width // 2)))
    return tuple(levels)


def halve(image: NDArray[Any]) -> NDArray[Any]:
    """Mean of each 2 × 2 pixels; at an odd end, of those that are there.

    Parameters
    ----------
    image : ndarray of shape (Y, X)
        Integers are rounded; a pixel that is NaN makes the mean NaN.

    Returns
    -------
    ndarray of shape (⌈Y/2⌉, ⌈X/2⌉)
        Same dtype.

    Examples
    --------
    >>> halve(np.array([[0, 2, 7], [4, 6, 9]], np.uint8))
    array([[3, 8]], dtype=uint8)
    """
    height, width = image.shape
    padded = np.pad(image, ((0, height % 2), (0, width % 2)), mode="edge")
    wide = padded.astype(np.float64)
    mean = (wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2]) / 4
    return (np.rint(mean) if image.dtype.kind in "iu" else mean).astype(image.dtype)
