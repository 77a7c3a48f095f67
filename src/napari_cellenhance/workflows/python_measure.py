"""The public Python call for measuring: arrays in, a table out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from napari_cellenhance.core.axes import guess_axes
from napari_cellenhance.core.errors import AxesError
from napari_cellenhance.workflows.measure import CompareRequest, MeasuredImage, compare, to_rows

__all__ = ["compare_images"]


def compare_images(
    raw: Any,
    enhanced: Any,
    mask: Any = None,
    *,
    axes: str | None = None,
    objects_are_dark: bool = False,
    values: Literal["stored", "stretched"] = "stored",
) -> list[dict[str, Any]]:
    """Measure enhanced images against the raw one; the same numbers as the dock and the command line give.

    Parameters
    ----------
    raw : array-like of shape (…, Y, X)
        numpy, dask or zarr; never written to.
    enhanced : array-like, or mapping from str to array-like
        One version, or several under their names; of the shape of ``raw``.
    mask : array-like, optional
        Above 0 on objects; of the shape of ``raw``, or one plane for all. Default: Otsu's threshold of the raw image,
        with a warning.
    axes : str, optional
        Of ``raw`` and of whatever has its shape, out of ``TCZYX``. Default: guessed.
    objects_are_dark : bool
        Invert the raw image first.
    values : "stored" or "stretched"
        See :class:`napari_cellenhance.workflows.measure.CompareRequest`.

    Returns
    -------
    list of dict
        One row for each image and plane, then mean and standard deviation over the planes: contrast ratio, gain,
        fold, Michelson contrast, AUROC, Otsu IoU, and whether the floor of the denominator was hit.

    Warns
    -----
    UserWarning
        What a reader of the numbers must know, such as an automatic mask.

    Raises
    ------
    AxesError, ImageError
        Images that do not fit each other, or a mask without objects or ground.

    Examples
    --------
    >>> import numpy as np
    >>> raw = np.array([[10, 10, 10, 50], [10, 10, 50, 50]])
    >>> row = compare_images(raw, 4 * (raw - 9), mask=raw > 20)[1]
    >>> row["contrast_ratio"], row["fold"]
    (41.0, 8.2)
    """
    named = dict(enhanced) if isinstance(enhanced, Mapping) else {"enhanced": enhanced}
    first = _array(raw)
    letters = axes or _guessed(first)

    def image(name: str, pixels: Any, is_dark: bool = False) -> MeasuredImage:
        array = _array(pixels)
        own = letters if array.shape == first.shape else _guessed(array)
        return MeasuredImage(name=name, image=array, axes=own, objects_are_dark=is_dark)

    result = compare(
        CompareRequest(
            raw=image("raw", raw, objects_are_dark),
            enhanced=tuple(image(name, pixels) for name, pixels in named.items()),
            mask=None if mask is None else image("mask", mask),
            values=values,
        )
    )
    for note in result.notes:
        warnings.warn(note, UserWarning, stacklevel=2)
    return to_rows(result)


def _array(pixels: Any) -> Any:
    return pixels if hasattr(pixels, "shape") else np.asarray(pixels)


def _guessed(pixels: Any) -> str:
    guess = guess_axes(tuple(pixels.shape))
    if not guess.axes:
        raise AxesError(guess.note)
    return guess.axes
