"""How large the objects of an image are: measured from labels, or suggested from the grey values.

References
----------
.. [1] Lindeberg, "Feature detection with automatic scale selection", IJCV 1998: the scale-normalised Laplacian of a
   disc of radius r is strongest at σ = r/√2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError

__all__ = ["MAX_DIAMETER_PX", "MIN_DIAMETER_PX", "median_diameter", "suggest_diameter"]

MIN_DIAMETER_PX, MAX_DIAMETER_PX = 5.0, 120.0
_N_SCALES = 16
_STRONG = 0.35


def median_diameter(labels: NDArray[np.integer]) -> float | None:
    """Median diameter of the discs with the areas of the instances, in px; None without any.

    Parameters
    ----------
    labels : ndarray of int, shape (Y, X)
        0 is ground; ids may be large and sparse.

    >>> labels = np.zeros((20, 20), np.int32); labels[2:8, 2:8] = 7
    >>> round(median_diameter(labels), 2)
    6.77
    """
    ids, areas = np.unique(np.asarray(labels), return_counts=True)
    areas = areas[ids > 0]
    return float(np.median(2.0 * np.sqrt(areas / np.pi))) if areas.size else None


def suggest_diameter(plane: NDArray[np.generic], *, objects_are_dark: bool = False) -> float:
    """Diameter at which blobs of the image respond most, in px: the scale of its strongest blobs ([1]_).

    Parameters
    ----------
    plane : ndarray of shape (Y, X)
        At full resolution; a window of 512 px is enough and quick. Finite.

    Returns
    -------
    float
        Between 5 and 120 px.

    Raises
    ------
    ImageError
        The plane is flat or smaller than 16 px: nothing to measure.

    Notes
    -----
    Median, over the maxima in space and scale of −σ²∇²G∗I with at least 35 % of the strongest response, of 2√2·σ.
    """
    from scipy.ndimage import gaussian_laplace, maximum_filter

    image = np.asarray(plane, np.float64)
    if image.ndim != 2 or min(image.shape) < 16 or image.max() <= image.min():
        raise ImageError(
            f"no object size can be suggested from a plane of shape {image.shape} that is small or flat; "
            "type the diameter, or measure it from a Labels layer"
        )
    low, high = np.percentile(image, [0.1, 99.9])
    image = np.clip((image - low) / max(high - low, 1e-12), 0.0, 1.0)
    if objects_are_dark:
        image = 1.0 - image
    largest = min(MAX_DIAMETER_PX, 0.7 * min(image.shape))
    diameters = np.geomspace(MIN_DIAMETER_PX, max(largest, 2 * MIN_DIAMETER_PX), _N_SCALES)
    sigmas = diameters / np.sqrt(8.0)
    stack = np.stack([-(s**2) * gaussian_laplace(image, s, mode="reflect") for s in sigmas])
    is_peak = (stack == maximum_filter(stack, size=(3, 5, 5))) & (stack > _STRONG * stack.max())
    is_peak[[0, -1]] = False  # a maximum at the end of the range is none
    if not is_peak.any():
        return float(diameters[int(np.argmax(stack.max(axis=(1, 2))))])
    at = np.nonzero(is_peak)[0]
    return float(
        np.median([_refined(stack, diameters, i, y, x) for i, y, x in zip(at, *np.nonzero(is_peak)[1:], strict=True)])
    )


def _refined(stack: NDArray[np.float64], diameters: NDArray[np.float64], i: int, y: int, x: int) -> float:
    """Top of the parabola through three neighbouring scales."""
    a, b, c = stack[i - 1 : i + 2, y, x]
    bend = a - 2 * b + c
    shift = 0.5 * (a - c) / bend if bend < 0 else 0.0
    return float(diameters[i] * (diameters[i + 1] / diameters[i]) ** float(np.clip(shift, -1, 1)))
