"""Objects from an enhanced image: a threshold and labels, or blobs as points."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError

__all__ = [
    "GAUSSIAN_SPAN",
    "SPLIT_DEPTH",
    "CleanOptions",
    "Method",
    "blob_candidates",
    "centroids",
    "clean_labels",
    "detect_blobs",
    "disc_overlap",
    "ellipse",
    "gaussian_derivative",
    "label_boxes",
    "label_mask",
    "laplacian_of_gaussian",
    "segment",
    "split_at_necks",
    "threshold",
]

Method = Literal["otsu", "li", "manual"]

GAUSSIAN_SPAN = 4.0
"""Gaussians and their derivatives are cut off at this many σ."""
SPLIT_DEPTH = 0.1
"""A neck must be this share narrower than the object for the object to be cut there; of 0.05…0.4 the
value with the fewest nuclei of BBBC038 that are cut or merged (174 instead of 414 uncut, of 1540)."""
_FLAT_PX = 1e-4
"""Smaller differences of float32 distances are rounding."""
_SCALE_STEP = 1.15
_MAX_OVERLAP = 0.5


def threshold(image: NDArray[Any], method: Method, value: float = 0.5) -> float:
    """Find the grey value above which a pixel belongs to an object.

    Parameters
    ----------
    image : ndarray of any shape
        Non-finite pixels are passed over.
    method : "otsu", "li" or "manual"
        Otsu 1979 (largest variance between the classes), Li & Tam 1998 (least cross entropy;
        gentler to dim objects), or ``value``.
    value : float
        Used by ``manual`` only.

    Returns
    -------
    float
        The largest value for an image of one value: nothing lies above it.

    Raises
    ------
    ParameterError
        Unknown method, or a manual value that is no number.
    """
    if method == "manual":
        if not np.isfinite(value):
            raise ParameterError(f"threshold is {value}; expected a finite number")
        return float(value)
    if method not in ("otsu", "li"):
        raise ParameterError(f"threshold method is {method!r}; expected otsu, li or manual")
    from skimage.filters import threshold_li, threshold_otsu

    pixels = np.asarray(image, np.float64)
    pixels = pixels[np.isfinite(pixels)]
    if pixels.size == 0 or pixels.min() == pixels.max():
        return float(pixels.max(initial=0.0))
    find = threshold_otsu if method == "otsu" else threshold_li
    return float(find(pixels))


def label_mask(mask: NDArray[np.bool_], split_touching: bool = True, min_size_px: int = 30) -> NDArray[np.uint32]:
    """Number the objects of a mask.

    Parameters
    ----------
    mask : ndarray of bool, shape (Y, X) or (Z, Y, X)
    split_touching : bool
        Cut touching objects at their necks, as :func:`segment` does.
    min_size_px : int
        Smaller objects are dropped, and smaller holes filled: a hole of one pixel would look like a neck.

    Returns
    -------
    ndarray of uint32, same shape
        0 is ground; objects are 1, 2, 3, …

    Raises
    ------
    ParameterError
        A negative size.
    """
    from scipy.ndimage import label

    is_object = np.asarray(mask, np.bool_)
    holes, n_holes = label(~is_object)
    sizes = np.bincount(holes.ravel(), minlength=n_holes + 1)
    is_small = sizes < min_size_px
    is_small[0] = False
    return segment((is_object | is_small[holes]).astype(np.float32), "manual", 0.5, split_touching, min_size_px)


def segment(
    image: NDArray[Any],
    method: Method = "otsu",
    threshold_value: float = 0.5,
    split_touching: bool = True,
    min_size_px: int = 30,
    split_depth: float = SPLIT_DEPTH,
) -> NDArray[np.uint32]:
    """Label the objects of an enhanced plane.

    Parameters
    ----------
    image : ndarray of shape (Y, X) or (Z, Y, X)
        Objects bright; non-finite pixels are ground.
    method : "otsu", "li" or "manual"
    threshold_value : float
        Used by ``manual`` only.
    split_touching : bool
        Cut touching objects at their necks, by a watershed of the distance to the ground.
    min_size_px : int
        Smaller objects are dropped; pixels (voxels).
    split_depth : float
        Objects are cut where a neck is narrower than they are by this share, above 0 and below 1.

    Returns
    -------
    ndarray of uint32, same shape
        0 is ground; objects are 1, 2, 3, … in reading order of their first pixel.

    Raises
    ------
    ParameterError
        Settings out of their range.
    """
    if min_size_px < 0:
        raise ParameterError(f"minimum size is {min_size_px} px; expected 0 or more")
    if not 0 < split_depth < 1:
        raise ParameterError(f"split depth is {split_depth}; expected more than 0 and less than 1")
    from scipy.ndimage import generate_binary_structure, label

    pixels = np.asarray(image)
    if pixels.size == 0:
        return np.zeros(pixels.shape, np.uint32)
    with np.errstate(invalid="ignore"):
        mask = np.isfinite(pixels) & (pixels > threshold(pixels, method, threshold_value))
    touching = generate_binary_structure(mask.ndim, mask.ndim)
    labels, _ = label(mask, structure=touching)
    if split_touching and mask.any():
        labels = split_at_necks(mask, labels, split_depth)
    return _numbered(labels, min_size_px)


def split_at_necks(mask: NDArray[np.bool_], labels: NDArray[Any], split_depth: float = SPLIT_DEPTH) -> NDArray[Any]:
    """Cut each object between the maxima of its distance map that stand out by a share of its width.

    Parameters
    ----------
    mask : ndarray of bool, shape (Y, X) or (Z, Y, X)
    labels : ndarray of int, same shape
        What hangs together in the mask, numbered; each is cut for itself, whatever lies around it.
    split_depth : float
        See :func:`segment`.

    Returns
    -------
    ndarray of int, same shape
        0 is ground.
    """
    from scipy.ndimage import distance_transform_edt, find_objects, maximum
    from skimage.segmentation import watershed

    # A border of ground: objects cut off by the edge of the image are as wide as they look.
    distance = distance_transform_edt(np.pad(mask, 1))[(slice(1, -1),) * mask.ndim]
    seeds = _peaks(distance, labels, split_depth)
    ids = np.arange(1, int(labels.max()) + 1)
    one_seed = np.concatenate([[0], maximum(seeds, labels, ids)]).astype(seeds.dtype)
    result: NDArray[Any] = one_seed[labels]
    # One object after the other: which of two equal ways the flood takes would else depend on all other objects.
    n_seeds = np.bincount(np.unique(np.stack([labels[seeds > 0], seeds[seeds > 0]]), axis=1)[0], minlength=len(ids) + 1)
    places = find_objects(labels)
    for number in np.flatnonzero(n_seeds > 1):
        place = places[number - 1]
        is_object = labels[place] == number
        cut = watershed(-distance[place], np.where(is_object, seeds[place], 0), mask=is_object)  # type: ignore[no-untyped-call]
        result[place] = np.where(is_object, cut, result[place])
    return result


def _peaks(distance: NDArray[Any], labels: NDArray[Any], split_depth: float) -> NDArray[Any]:
    """Number the tops of a distance map that stand out by a share of their object's half width, 0.5 px at least."""
    from scipy.ndimage import generate_binary_structure, label, maximum
    from skimage.morphology import reconstruction

    heights = distance.astype(np.float32)
    n = int(labels.max())
    half_width = np.zeros(n + 1, np.float32)
    half_width[1:] = maximum(heights, labels, np.arange(1, n + 1))
    depth = np.maximum(split_depth * half_width, 0.5)[labels]
    depth[labels == 0] = 0
    # h-maxima: what is left of the peaks after filling up all that is shallower than `depth`. Maxima of one height,
    # with a shallower saddle between them, share what is left and are one; a bump on a slope is not deep enough.
    filled = reconstruction(np.maximum(heights - depth, 0), heights, method="dilation")  # type: ignore[no-untyped-call]
    left = heights - filled
    around = generate_binary_structure(labels.ndim, labels.ndim)
    found, n_left = label((labels > 0) & (left > _FLAT_PX), structure=around)
    seeds: NDArray[Any] = found
    is_top = np.zeros(n_left + 1, np.bool_)
    is_top[seeds[left > 0.999 * depth]] = True
    seeds[~is_top[seeds]] = 0
    return seeds


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanOptions:
    """How the intensity image that a semantic filter returns becomes objects.

    Parameters
    ----------
    method : "otsu", "li" or "manual"
    threshold_value : float
        Used by ``manual`` only.
    threshold_factor : float
        The threshold is multiplied by it; 0.8…0.9 keeps dim rims.
    n_openings : int
        Erosions, and then as many dilations, by the 3×3 ellipse; 0 is none.
    closing_px : int
        Side of the ellipse that closes gaps after the opening, odd; 0 is none.
    split_touching : bool
        Cut touching objects between the local maxima of the distance to the ground.
    window_px : int
        Side of the ellipse in which a maximum must be the largest, odd.
    neck_depth : float
        Objects are cut only where a neck is narrower than they are by this share, below 1; 0 cuts between all
        maxima, as published, and so halves many an oblong object.
    min_size_px : int
        Smaller objects are dropped; pixels.

    Raises
    ------
    ParameterError
        A setting out of its range.

    References
    ----------
    .. [1] Javer & Rittscher 2019, arXiv 1909.00691: the values given here for the co-culture; for boxes around
       astrocytes a closing by 5×5 instead of the watershed.
    """

    method: Method = "otsu"
    threshold_value: float = 0.5
    threshold_factor: float = 1.0
    n_openings: int = 3
    closing_px: int = 0
    split_touching: bool = True
    window_px: int = 11
    neck_depth: float = SPLIT_DEPTH
    min_size_px: int = 300

    def __post_init__(self) -> None:
        if not (np.isfinite(self.threshold_factor) and self.threshold_factor > 0):
            raise ParameterError(f"threshold factor is {self.threshold_factor}; expected more than 0")
        if self.n_openings < 0 or self.min_size_px < 0:
            raise ParameterError(
                f"{self.n_openings} openings and a minimum size of {self.min_size_px} px; expected 0 or more"
            )
        if self.closing_px and (self.closing_px < 0 or self.closing_px % 2 == 0):
            raise ParameterError(f"the closing is {self.closing_px} px wide; expected an odd number, or 0 for none")
        if self.window_px < 3 or self.window_px % 2 == 0:
            raise ParameterError(f"the window of maxima is {self.window_px} px; expected an odd number from 3")
        if not 0 <= self.neck_depth < 1:
            raise ParameterError(f"the depth of necks is {self.neck_depth}; expected 0 or more, and less than 1")


def clean_labels(plane: NDArray[Any], options: CleanOptions | None = None) -> NDArray[np.uint32]:
    """Label the objects of a filtered plane: threshold, open, fill, cut by a watershed, drop what is small ([1]_).

    Parameters
    ----------
    plane : ndarray of shape (Y, X)
        Objects bright; non-finite pixels are ground.
    options : CleanOptions, optional

    Returns
    -------
    ndarray of uint32, shape (Y, X)
        0 is ground; objects are 1, 2, 3, … in reading order of their first pixel.

    Raises
    ------
    ImageError
        Not a plane.

    Notes
    -----
    The edge of the image neither erodes objects nor counts as ground for the distance. Holes open to the edge stay.

    References
    ----------
    .. [1] Javer & Rittscher 2019, arXiv 1909.00691, post-processing.
    """
    from scipy.ndimage import binary_dilation, binary_erosion, binary_fill_holes, generate_binary_structure, label

    chosen = options or CleanOptions()
    pixels = np.asarray(plane)
    if pixels.ndim != 2:
        raise ImageError(f"objects are labelled plane by plane; got an image of shape {pixels.shape}")
    if not pixels.size:
        return np.zeros(pixels.shape, np.uint32)
    limit = chosen.threshold_factor * threshold(pixels, chosen.method, chosen.threshold_value)
    with np.errstate(invalid="ignore"):
        mask = np.isfinite(pixels) & (pixels > limit)
    if chosen.n_openings:
        mask = binary_erosion(mask, ellipse(3), chosen.n_openings, border_value=1)
        mask = binary_dilation(mask, ellipse(3), chosen.n_openings)
    if chosen.closing_px:
        around = ellipse(chosen.closing_px)
        mask = binary_erosion(binary_dilation(mask, around), around, border_value=1)
    mask = binary_fill_holes(mask)
    labels, _ = label(mask, structure=generate_binary_structure(2, 2))
    if chosen.split_touching and mask.any():
        labels = _cut_between_maxima(mask, labels, chosen.window_px, chosen.neck_depth)
    return _numbered(labels, chosen.min_size_px)


def _cut_between_maxima(
    mask: NDArray[np.bool_], labels: NDArray[Any], window_px: int, neck_depth: float
) -> NDArray[Any]:
    from scipy.ndimage import distance_transform_edt, grey_dilation, label
    from skimage.segmentation import watershed

    if mask.all():
        return labels
    distance = distance_transform_edt(mask)
    largest = grey_dilation(distance, footprint=ellipse(window_px), mode="nearest")
    # Maxima that touch are one plateau, and so one object.
    seeds, _ = label(mask & (distance == largest), structure=np.ones((3, 3)))
    if neck_depth:
        # Maxima on one top are one object, too; tops that are no maxima of their window are none.
        seeds = np.where(seeds > 0, _peaks(distance, labels, neck_depth), 0)
    result: NDArray[Any] = watershed(-distance, seeds, mask=mask)  # type: ignore[no-untyped-call]
    return result


def ellipse(side_px: int) -> NDArray[np.bool_]:
    """Structuring element of an odd side: a disc drawn row by row, as morphology libraries do.

    >>> ellipse(3).astype(int).tolist()
    [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    """
    radius = side_px // 2
    offsets = np.arange(-radius, radius + 1)
    half_widths = np.rint(np.sqrt(radius**2 - offsets**2))
    return np.asarray(np.abs(offsets)[None, :] <= half_widths[:, None], np.bool_)


def label_boxes(labels: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Bounding box of every object, as the corners of a rectangle in a Shapes layer.

    Parameters
    ----------
    labels : ndarray of int, shape (Y, X)
        0 is ground.

    Returns
    -------
    ndarray of shape (N, 4, 2)
        In the order of the ids; row and column of the corners, clockwise from the upper left one, in pixels. Sides
        run along the outer edges of the pixels, half a pixel beyond their centres.

    Raises
    ------
    ImageError
        Not a plane.

    Examples
    --------
    >>> label_boxes(np.array([[0, 5, 5]])).tolist()
    [[[-0.5, 0.5], [-0.5, 2.5], [0.5, 2.5], [0.5, 0.5]]]
    """
    from scipy.ndimage import find_objects

    ids = np.asarray(labels)
    if ids.ndim != 2:
        raise ImageError(f"boxes are drawn plane by plane; got labels of shape {ids.shape}")
    _, dense = np.unique(np.concatenate([[0], ids.ravel()]), return_inverse=True)
    places = [place for place in find_objects(dense[1:].reshape(ids.shape)) if place is not None]
    corners = [
        [(rows.start, columns.start), (rows.start, columns.stop), (rows.stop, columns.stop), (rows.stop, columns.start)]
        for rows, columns in places
    ]
    return np.array(corners, np.float64).reshape(-1, 4, 2) - 0.5


def _numbered(labels: NDArray[Any], min_size_px: int) -> NDArray[np.uint32]:
    """Drop small objects and number the rest 1, 2, 3, … in reading order."""
    ids, first, sizes = np.unique(labels, return_index=True, return_counts=True)
    is_kept = (ids > 0) & (sizes >= min_size_px)
    kept = ids[is_kept][np.argsort(first[is_kept])]
    new_id = np.zeros(int(ids.max()) + 1, np.uint32)
    new_id[kept] = np.arange(1, len(kept) + 1, dtype=np.uint32)
    numbered: NDArray[np.uint32] = new_id[labels]
    return numbered


def detect_blobs(
    plane: NDArray[Any], min_radius_px: float, max_radius_px: float, threshold: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Find bright blobs and their sizes by the Laplacian-of-Gaussian scale space.

    Parameters
    ----------
    plane : ndarray of shape (Y, X)
        Enhanced, about [0, 1].
    min_radius_px, max_radius_px : float
        Radii to look for, in pixels.
    threshold : float
        Least response −σ²∇²G; a disc of height 1 answers with 2/e ≈ 0.74.

    Returns
    -------
    points : ndarray of shape (N, 2)
        Row and column, in pixels; strongest first.
    radii : ndarray of shape (N,)
        √2·σ of the strongest response, in pixels.

    Raises
    ------
    ImageError
        Not a plane.
    ParameterError
        Radii that are not 0 < smallest ≤ largest, or a threshold that is no number.

    Notes
    -----
    Lindeberg 1998. Maxima over space and scale; of two blobs that overlap by more than half of
    the smaller one, the weaker is dropped.
    """
    if not (np.isfinite(max_radius_px) and 0 < min_radius_px <= max_radius_px):
        raise ParameterError(f"blob radii are {min_radius_px}…{max_radius_px} px; expected 0 < smallest ≤ largest")
    if not np.isfinite(threshold):
        raise ParameterError(f"blob threshold is {threshold}; expected a finite number")
    pixels = np.asarray(plane, np.float32)
    if pixels.ndim != 2:
        raise ImageError(f"blobs are sought plane by plane; got an image of shape {pixels.shape}")
    if pixels.size == 0:
        return np.zeros((0, 2)), np.zeros(0)
    found = _scale_space_maxima(np.nan_to_num(pixels), _sigmas(min_radius_px, max_radius_px), threshold)
    found = found[np.argsort(-found[:, 3], kind="stable")]
    kept = found[_without_overlap(found[:, :2], found[:, 2])]
    return kept[:, :2], kept[:, 2]


def blob_candidates(plane: NDArray[np.float32], radius_px: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Blobs of about one known radius, each with its response, so that a threshold can be swept afterwards.

    Parameters
    ----------
    plane : ndarray of shape (Y, X)
    radius_px : float
        Three scales around ``radius_px`` / √2 are searched, for radii from 0.75 to 1.3 of it.

    Returns
    -------
    points : ndarray of shape (N, 2)
    responses : ndarray of shape (N,)
        Of the scale-normalised Laplacian of Gaussian, at least 0.01.
    """
    from skimage.feature import peak_local_max

    pixels = np.asarray(plane, np.float32)
    sigmas = [radius_px / np.sqrt(2.0) * factor for factor in (0.75, 1.0, 1.3)]
    response = np.max([laplacian_of_gaussian(pixels, sigma) for sigma in sigmas], axis=0)
    distance = max(1, int(radius_px * 0.6))
    peaks = peak_local_max(response, distance, threshold_abs=0.01, exclude_border=False)  # type: ignore[no-untyped-call]
    return peaks.astype(np.float64), response[tuple(peaks.T)].astype(np.float64)


def centroids(labels: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Centre of mass of every instance, shape (N, labels.ndim), in the order of the ids; 0 is background."""
    from scipy.ndimage import center_of_mass

    ids = np.unique(labels)
    ids = ids[ids > 0]
    return np.asarray(center_of_mass(labels > 0, labels, ids), dtype=np.float64).reshape(-1, labels.ndim)


def laplacian_of_gaussian(plane: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Scale-normalised Laplacian of Gaussian −σ²∇²G_σ; bright spots become positive.

    A bright disc of radius r and height 1 answers strongest at σ = r/√2, with 2/e at its centre
    (Lindeberg 1998).

    Parameters
    ----------
    plane : ndarray of shape (Y, X)
        Its edge is repeated outside.
    sigma : float
        In pixels.
    """
    curvature = gaussian_derivative(plane, sigma, (2, 0)) + gaussian_derivative(plane, sigma, (0, 2))
    return np.float32(-sigma * sigma) * curvature


def gaussian_derivative(plane: NDArray[np.float32], sigma: float, order: tuple[int, int]) -> NDArray[np.float32]:
    """Derivative of a plane smoothed by a Gaussian.

    Parameters
    ----------
    plane : ndarray of shape (Y, X)
        Its edge is repeated outside.
    sigma : float
        In pixels.
    order : tuple of int
        Of the derivative along Y and X: 0, 1 or 2.

    Notes
    -----
    Unlike in ``scipy.ndimage.gaussian_filter`` the second derivative of a constant is 0: there the
    sampled and cut-off kernel does not sum to 0, and a flat bright plane answers with 0.2 % of its
    height for a wide kernel, and with a quarter of it at σ = 0.5.
    """
    from scipy.ndimage import correlate1d

    result = np.asarray(plane, np.float32)
    for axis in (0, 1):
        result = correlate1d(result, _derivative_kernel(sigma, order[axis]), axis=axis, mode="nearest")
    return result


def _derivative_kernel(sigma: float, order: int) -> NDArray[np.float64]:
    radius = int(GAUSSIAN_SPAN * sigma + 0.5)
    x = np.arange(-radius, radius + 1, dtype=np.float64)
    gaussian = np.exp(-0.5 * (x / sigma) ** 2)
    gaussian /= gaussian.sum()
    if order == 0:
        return gaussian
    if order == 1:
        return x / sigma**2 * gaussian
    second = (x**2 / sigma**4 - 1 / sigma**2) * gaussian
    balanced: NDArray[np.float64] = second - second.sum() * gaussian
    return balanced


def _sigmas(min_radius_px: float, max_radius_px: float) -> NDArray[np.float64]:
    n = 1 + int(np.ceil(np.log(max_radius_px / min_radius_px) / np.log(_SCALE_STEP) - 1e-9))
    sigmas: NDArray[np.float64] = np.geomspace(min_radius_px, max_radius_px, n) / np.sqrt(2.0)
    return sigmas


def _scale_space_maxima(pixels: NDArray[np.float32], sigmas: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    """Rows (y, x, radius, response) of the maxima among 26 neighbours; three scales in memory."""
    from scipy.ndimage import maximum_filter

    nothing = np.full(pixels.shape, -np.inf, np.float32)
    rows = [np.zeros((0, 4))]
    here, here_max, before_max = nothing, nothing, nothing
    for previous, sigma in pairwise([np.nan, *sigmas, np.nan]):
        if np.isnan(sigma):
            after = after_max = nothing
        else:
            after = laplacian_of_gaussian(pixels, float(sigma))
            after_max = maximum_filter(after, size=3, mode="nearest")
        if not np.isnan(previous):
            is_peak = (here == here_max) & (here >= before_max) & (here >= after_max)
            # At a response of nothing but rounding every pixel would be a blob.
            is_peak &= here >= max(least, 1e-6)
            y, x = np.nonzero(is_peak)
            radius = np.full(len(y), previous * np.sqrt(2.0))
            rows.append(np.column_stack([y, x, radius, here[is_peak]]).astype(np.float64))
        before_max, here, here_max = here_max, after, after_max
    return np.concatenate(rows)


def _without_overlap(points: NDArray[np.float64], radii: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which blobs stay; the order of the points is their priority."""
    from scipy.spatial import KDTree

    is_kept = np.ones(len(points), bool)
    if len(points) < 2:
        return is_kept
    neighbours = KDTree(points).query_ball_point(points, 2 * radii.max())
    for i, near in enumerate(neighbours):
        if not is_kept[i]:
            continue
        later = np.array([j for j in near if j > i and is_kept[j]], np.int64)
        distance = np.linalg.norm(points[later] - points[i], axis=1)
        is_kept[later[disc_overlap(distance, radii[i], radii[later]) > _MAX_OVERLAP]] = False
    return is_kept


def disc_overlap(
    distance: NDArray[np.float64], first: float | NDArray[np.float64], second: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Area common to two discs, as a share of the smaller one.

    Parameters
    ----------
    distance : ndarray of shape (N,)
        Between the centres.
    first, second : float or ndarray of shape (N,)
        Radii.

    >>> disc_overlap(np.array([0.0, 3.0]), 1.0, np.array([2.0, 2.0])).tolist()
    [1.0, 0.0]
    """
    small, large = np.minimum(first, second), np.maximum(first, second)
    d = np.clip(distance, large - small + 1e-12, large + small)
    at_small = np.arccos(np.clip((d**2 + small**2 - large**2) / (2 * d * small), -1, 1))
    at_large = np.arccos(np.clip((d**2 + large**2 - small**2) / (2 * d * large), -1, 1))
    product = (small + large - d) * (d + small - large) * (d - small + large) * (d + small + large)
    kite = 0.5 * np.sqrt(np.clip(product, 0, None))
    area = small**2 * at_small + large**2 * at_large - kite
    inside = distance <= large - small
    return np.where(inside, 1.0, area / (np.pi * small**2))
