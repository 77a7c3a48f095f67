"""Classical filters before a network, as a table: what a learned enhancement is compared with.

Kernels of 3 and 9 px, as published. All of them take and give values in [0, 1], so that a network sees each as an image
like any other.

References
----------
.. [1] Kato & Hotta, Sci. Rep., 2024 (AEP + AWEL): the table of pre-filters; their settings other than the kernel are
   not told.
.. [2] Frangi et al., MICCAI 1998.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.degrade import blurred, kernel_sigma
from napari_cellenhance.core.errors import ImageError, ParameterError

__all__ = ["NO_FILTER", "PREFILTERS", "prefiltered"]

Plane = NDArray[np.float64]

NO_FILTER = "none"

BILATERAL_SIGMA_VALUE = 0.1
"""Grey values apart by more than about this do not mix."""

_TOLERANCE = 1e-3


def _unchanged(plane: Plane) -> Plane:
    return plane


def _median(plane: Plane, kernel_px: int) -> Plane:
    from scipy.ndimage import median_filter

    return np.asarray(median_filter(plane, size=kernel_px, mode="nearest"), np.float64)


def _bilateral(plane: Plane, kernel_px: int) -> Plane:
    from skimage.restoration import denoise_bilateral

    # skimage: float64 → float64
    return np.asarray(
        denoise_bilateral(
            plane,
            win_size=kernel_px,
            sigma_color=BILATERAL_SIGMA_VALUE,
            sigma_spatial=kernel_sigma(kernel_px),
            mode="edge",
        ),
        np.float64,
    )


def _sobel(plane: Plane, kernel_px: int) -> Plane:
    from scipy.ndimage import correlate1d

    smooth, slope = _sobel_kernels(kernel_px)
    squares = np.zeros_like(plane)
    for axis in (0, 1):
        rise = correlate1d(plane, slope, axis=axis, mode="nearest")
        squares += correlate1d(rise, smooth, axis=1 - axis, mode="nearest") ** 2
    return np.asarray(np.sqrt(squares / 2), np.float64)


def _sobel_kernels(kernel_px: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Smoothing and slope along one axis; a step from 0 to 1 has a slope of at most 1.

    As OpenCV makes them: [1, 1] convolved with itself k − 1 times, and k − 2 times and then with [−1, 1].
    """
    smooth = np.ones(1)
    for _ in range(kernel_px - 2):
        smooth = np.convolve(smooth, [1.0, 1.0])
    slope = np.convolve(smooth, [-1.0, 1.0])
    smooth = np.convolve(smooth, [1.0, 1.0])
    return smooth / smooth.sum(), slope / slope[slope > 0].sum()


def _frangi(plane: Plane) -> Plane:
    from skimage.filters import frangi

    response = np.asarray(frangi(plane, mode="nearest"), np.float64)  # type: ignore[no-untyped-call]
    top = float(response.max())
    return response / top if top > 0 else response


PREFILTERS: Mapping[str, Callable[[Plane], Plane]] = {
    NO_FILTER: _unchanged,
    "median 3": partial(_median, kernel_px=3),
    "median 9": partial(_median, kernel_px=9),
    "gaussian 3": partial(blurred, kernel_px=3),
    "gaussian 9": partial(blurred, kernel_px=9),
    "bilateral 3": partial(_bilateral, kernel_px=3),
    "bilateral 9": partial(_bilateral, kernel_px=9),
    "sobel 3": partial(_sobel, kernel_px=3),
    "sobel 9": partial(_sobel, kernel_px=9),
    "frangi": _frangi,
}
"""Name → filter, in the order of the published table; the number is the side of the kernel in pixels."""


def prefiltered(image: NDArray[Any], name: str) -> NDArray[np.float32]:
    """Filter a plane as classical pre-processing of a segmentation network.

    Parameters
    ----------
    image : ndarray of shape (Y, X)
        In [0, 1]. Not modified.
    name : str
        One of :data:`PREFILTERS`.

    Returns
    -------
    ndarray of float32, shape (Y, X)
        In [0, 1].

    Raises
    ------
    ImageError
        No plane, values outside [0, 1] or no numbers.
    ParameterError
        No filter of that name.

    Notes
    -----
    Gaussian: σ follows from the kernel, 0.8 px for 3 and 1.7 px for 9 (see ``core.degrade.kernel_sigma``). Bilateral:
    the same σ in space, 0.1 in grey values, within the kernel. Sobel: length of the gradient over √2, with the 3×3
    kernels of ``skimage.filters.sobel``; 9×9 ones are made of binomial coefficients as in OpenCV, which smooths by
    (1 + x)⁸ along an edge and by (1 + x)⁷(x − 1) across it. Frangi ([2]_): ``skimage.filters.frangi`` with its own
    settings (dark ridges, scales of 1, 3, … 9 px), over its largest value in the image.
    """
    if name not in PREFILTERS:
        raise ParameterError(f"there is no pre-filter called {name!r}; expected one of {', '.join(PREFILTERS)}")
    if image.ndim != 2 or image.size == 0:
        raise ImageError(f"an image of shape {image.shape} cannot be filtered; expected one plane (Y, X)")
    plane = np.array(image, np.float64)
    if not (plane.min() >= -_TOLERANCE and plane.max() <= 1 + _TOLERANCE):
        raise ImageError("the image has values outside 0…1, or none that are numbers; normalise it to 0…1 first")
    return np.clip(PREFILTERS[name](plane), 0.0, 1.0).astype(np.float32)
