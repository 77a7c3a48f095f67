"""What an enhanced training crop should look like at the two ends of the strength.

A pair of images (mildest, strongest); in between the target is their linear blend. One pair is made from
the crop alone (self-supervised), the other one from instance labels (paired).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["contact_line", "from_image", "from_labels"]

Plane = NDArray[np.float32]

MIN_SEPARATION = 0.72
"""Least between-class share of the variance (Otsu's η) of objects on a ground; Gaussian noise has 2/π = 0.64."""
SOFTNESS = 0.12
GROUND_LEFT = 0.25
RIM = 0.55
DARKEST_OBJECT = 0.4


def from_image(crop: Plane) -> tuple[Plane, Plane]:
    """The crop itself, and the crop with its contrast steepened around its own Otsu threshold.

    Parameters
    ----------
    crop : ndarray of shape (Y, X), float32 in [0, 1]
        Undegraded; bright objects.

    Returns
    -------
    mildest, strongest : ndarray of shape (Y, X), float32 in [0, 1]
        Where the grey values fall into no two classes, ``strongest`` is ``crop`` too: nothing is
        made binary that is not.
    """
    from scipy.ndimage import gaussian_filter
    from skimage.filters import threshold_otsu

    smooth = gaussian_filter(crop, 1.0)
    variance = float(smooth.var())
    if variance <= 1e-8:
        return crop, crop
    threshold = float(threshold_otsu(smooth))  # type: ignore[no-untyped-call]
    share = float((smooth > threshold).mean())
    between = share * (1 - share) * float(smooth[smooth > threshold].mean() - smooth[smooth <= threshold].mean()) ** 2
    if between / variance < MIN_SEPARATION:
        return crop, crop
    steep = 1.0 / (1.0 + np.exp(-(crop - threshold) / (SOFTNESS * 0.5)))
    return crop, steep.astype(np.float32)


def from_labels(crop: Plane, labels: NDArray[np.integer]) -> tuple[Plane, Plane]:
    """Objects with their texture on a dim ground, and objects as domes on black.

    Parameters
    ----------
    crop : ndarray of shape (Y, X), float32 in [0, 1]
        Undegraded; bright objects.
    labels : ndarray of int, shape (Y, X)
        Instances; 0 is ground.

    Returns
    -------
    mildest, strongest : ndarray of shape (Y, X), float32 in [0, 1]
        In the mildest image each object's own grey values are spread over 0.4…1, so that weak objects come out
        as well as strong ones, and the ground keeps a quarter of its brightness (none in a crop without
        objects). In the strongest one an object rises from 0.55 at its rim to 1 in the middle. Lines of contact
        between objects are dark in both.
    """
    from scipy.ndimage import distance_transform_edt

    objects = labels > 0
    line = contact_line(labels)
    inside = objects & ~line
    depth = distance_transform_edt(_padded(inside))[1:-1, 1:-1]
    ids = labels.astype(np.int64).ravel()
    n = int(ids.max()) + 1
    deepest = np.zeros(n)
    np.maximum.at(deepest, ids, depth.ravel())
    relative = depth / np.maximum(deepest[labels], 1.0)
    dome = RIM + (1.0 - RIM) * np.sqrt(np.clip(relative, 0.0, 1.0))
    low = np.full(n, np.inf)
    high = np.full(n, -np.inf)
    np.minimum.at(low, ids, crop.ravel())
    np.maximum.at(high, ids, crop.ravel())
    span = np.maximum(np.where(np.isfinite(high - low), high - low, 1.0), 1e-3)
    own = (crop - low[labels]) / span[labels]
    texture = DARKEST_OBJECT + (1.0 - DARKEST_OBJECT) * own
    ground = GROUND_LEFT * crop if objects.any() else np.zeros_like(crop)  # bare ground is only noise
    mildest = np.where(inside, texture, np.where(line, 0.0, ground))
    strongest = np.where(inside, dome, 0.0)
    return mildest.astype(np.float32), strongest.astype(np.float32)


def contact_line(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Object pixels whose 3×3 neighbourhood holds another object as well: two pixels wide."""
    from scipy.ndimage import maximum_filter, minimum_filter

    ids = labels.astype(np.int64)
    largest = maximum_filter(ids, size=3, mode="nearest")
    without_ground = np.where(ids > 0, ids, ids.max() + 1)
    smallest = minimum_filter(without_ground, size=3, mode="nearest")
    line: NDArray[np.bool_] = (ids > 0) & (smallest < largest)
    return line


def _padded(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """One more pixel all around, as the edge is: an object cut by the crop's border is not shallower for it."""
    return np.pad(mask, 1, mode="edge")
