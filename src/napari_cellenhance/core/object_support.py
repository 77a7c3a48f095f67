"""Are the objects of a result in its image, and those of the image in the result? For filters that change contrast."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.doubt import contrast_of
from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.core.noise_model import NoiseModel, estimate_noise

__all__ = ["SupportCheck", "check_support"]

FloatArray = NDArray[np.float64]

_MIN_OBJECT_PX = 20
_GAP_PX, _RING_PX = 2.0, 7.0
"""The ground of an object lies between these distances from it."""
_MIN_T = 3.0
"""Standard errors by which an object must be brighter than its ground in the image to count as shown by it."""
_LOST_SHARE = 0.05
"""Share of the contrast of the result below which an object of the image is not in it."""
_STRONG_T, _STRONG_SHARE = 6.0, 0.25
_SMOOTH_PX = 1.5


@dataclass(frozen=True, slots=True)
class SupportCheck:
    """Objects that only one of two images shows.

    Parameters
    ----------
    flags : ndarray of uint8, shape (Y, X)
        1 on objects of the image that the result lacks, 2 on objects of the result that the image does not show.
    n_objects : int
        Of the result.
    n_lost, n_unsupported : int
    """

    flags: NDArray[np.uint8]
    n_objects: int
    n_lost: int
    n_unsupported: int

    @property
    def is_flagged(self) -> bool:
        """Whether any object is in one of the two only."""
        return self.n_lost + self.n_unsupported > 0


def check_support(
    image: NDArray[np.generic], result: NDArray[np.generic], *, noise: NoiseModel | None = None
) -> SupportCheck:
    """Compare each object with the ground around it, in both images.

    Parameters
    ----------
    image, result : ndarray of shape (Y, X)
        Finite, sides of 32 px or more, objects bright in both.
    noise : NoiseModel, optional
        Of the image; default: estimated from it.

    Raises
    ------
    ImageError
        Shapes that differ, or a plane that is too small.

    Notes
    -----
    Objects are connected pixels above Otsu's threshold, of 20 px or more. One of the result is not supported where the
    image is there brighter than in the ring around by less than 3 standard errors: of the mean over so many pixels with
    the noise of the image. For an object that is not there the chance to pass is 0.1 %, where the noise is normal and
    independent; the chance that a faint real one is called unsupported depends on its signal. One of the image
    (smoothed with σ 1.5 px) is lost where the image shows it by 6 standard errors and a quarter of its contrast, and
    the result by less than 5 % of its own.
    """
    from scipy.ndimage import gaussian_filter

    y, x = np.asarray(image, np.float64), np.asarray(result, np.float64)
    if x.shape != y.shape:
        raise ImageError(f"the image has the shape {y.shape} and its result {x.shape}; expected the same")
    noise = noise or estimate_noise(np.asarray(image))
    flags = np.zeros(y.shape, np.uint8)
    labels, rings, n_objects = _objects(x)
    difference, error = _against_ring(y, labels, rings, n_objects, noise)
    unsupported = 1 + np.flatnonzero(difference < _MIN_T * error)
    flags[np.isin(labels, unsupported)] = 2
    labels, rings, n = _objects(gaussian_filter(y, _SMOOTH_PX))
    difference, error = _against_ring(y, labels, rings, n, noise)
    shown, _ = _against_ring(x, labels, rings, n, noise)
    is_strong = (difference > _STRONG_T * error) & (difference > _STRONG_SHARE * float(contrast_of(_f32(y)).max()))
    lost = 1 + np.flatnonzero(is_strong & (shown < _LOST_SHARE * float(contrast_of(_f32(x)).max())))
    flags[np.isin(labels, lost)] = 1
    return SupportCheck(flags=flags, n_objects=n_objects, n_lost=len(lost), n_unsupported=len(unsupported))


def _f32(values: FloatArray) -> NDArray[np.float32]:
    return values.astype(np.float32)


def _objects(image: FloatArray) -> tuple[NDArray[np.intp], NDArray[np.intp], int]:
    """Labels of the objects, labels of the rings around them, and how many there are."""
    from scipy.ndimage import distance_transform_edt, label
    from skimage.filters import threshold_otsu

    if image.min() == image.max():
        nothing = np.zeros(image.shape, np.intp)
        return nothing, nothing, 0
    labels, n = label(image > threshold_otsu(image))  # type: ignore[no-untyped-call]
    areas = np.bincount(labels.ravel(), minlength=n + 1)
    order = np.zeros(n + 1, np.intp)
    large = [number for number in range(1, n + 1) if areas[number] >= _MIN_OBJECT_PX]
    order[large] = np.arange(1, len(large) + 1)
    is_object = labels > 0
    labels = order[labels]
    if not large:
        return labels, np.zeros_like(labels), 0
    # Small specks are no ground either; the nearest large object owns a pixel of the ring.
    distance, nearest = distance_transform_edt(labels == 0, return_indices=True)
    is_ring = (distance > _GAP_PX) & (distance <= _RING_PX) & ~is_object
    return labels, np.where(is_ring, labels[tuple(nearest)], 0), len(large)


def _against_ring(
    image: FloatArray, labels: NDArray[np.intp], rings: NDArray[np.intp], n: int, noise: NoiseModel
) -> tuple[FloatArray, FloatArray]:
    """How much brighter each object is than its ring, and the standard error of that; no ring: infinitely."""

    def means(places: NDArray[np.intp], values: FloatArray) -> tuple[FloatArray, FloatArray]:
        count = np.bincount(places.ravel(), minlength=n + 1)[1:].astype(np.float64)
        total = np.bincount(places.ravel(), values.ravel(), minlength=n + 1)[1:]
        return np.divide(total, count, out=np.zeros(n), where=count > 0), count

    inside, n_inside = means(labels, image)
    around, n_around = means(rings, image)
    error = np.sqrt(noise.variance(inside) / np.maximum(n_inside, 1) + noise.variance(around) / np.maximum(n_around, 1))
    return np.where(n_around > 0, inside - around, np.inf), error
