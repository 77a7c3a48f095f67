"""Labels and points from an enhanced image, plane by plane."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.axes import from_canonical
from napari_cellenhance.core.postprocess import detect_blobs, segment
from napari_cellenhance.workflows.requests import BlobOptions, SegmentOptions

__all__ = ["Blobs", "find_blobs", "find_labels"]


@dataclass(frozen=True, slots=True)
class Blobs:
    """Centres (N, ndim), in pixels, axes order of the image, and radii (N,)."""

    points: NDArray[np.float64]
    radii_px: NDArray[np.float64]


def find_labels(
    image: NDArray[np.float32], axes_out: str, options: SegmentOptions, checkpoint: Callable[[], None]
) -> NDArray[np.uint32]:
    """Segment every plane of a canonical image; ids are unique over the whole result.

    Parameters
    ----------
    image : ndarray of shape (T, C, Z, Y, X)
        Enhanced, in [0, 1].
    axes_out : str
        Axes of the labels returned.
    """
    labels = np.zeros(image.shape, np.uint32)
    n_so_far = 0
    for index in np.ndindex(*image.shape[:3]):
        checkpoint()
        found = segment(
            np.nan_to_num(image[index]),
            options.method,
            options.threshold,
            options.split_touching,
            options.min_size_px,
        )
        labels[index] = np.where(found > 0, found + np.uint32(n_so_far), 0)
        n_so_far += int(found.max(initial=0))
    result: NDArray[np.uint32] = from_canonical(labels, axes_out)
    return result


def find_blobs(
    image: NDArray[np.float32], axes_out: str, options: BlobOptions, checkpoint: Callable[[], None]
) -> Blobs:
    """Detect blobs in every plane of a canonical image.

    Parameters
    ----------
    image : ndarray of shape (T, C, Z, Y, X)
        Enhanced, in [0, 1].
    axes_out : str
        Axes that the coordinates follow; ``S`` takes the place of ``C``.
    """
    points, radii = [np.zeros((0, len(axes_out)))], [np.zeros(0)]
    for index in np.ndindex(*image.shape[:3]):
        checkpoint()
        centres, sizes = detect_blobs(
            np.nan_to_num(image[index]), options.min_radius_px, options.max_radius_px, options.threshold
        )
        columns = dict(zip("TCZ", index, strict=True)) | {"S": index[1]}
        placed = np.empty((len(centres), len(axes_out)))
        for column, axis in enumerate(axes_out):
            placed[:, column] = centres[:, "YX".index(axis)] if axis in "YX" else columns[axis]
        points.append(placed)
        radii.append(np.asarray(sizes, np.float64))
    return Blobs(np.concatenate(points), np.concatenate(radii))
