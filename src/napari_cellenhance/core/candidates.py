"""Objects that were predicted but not annotated: what to look at next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError

__all__ = ["Candidate", "Order", "unannotated"]

Order = Literal["response", "area", "place"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A predicted object without an annotation.

    Parameters
    ----------
    label : int
        Its number in the predicted labels.
    centroid : tuple of float
        Row and column, in pixels.
    area_px : int
    response : float
        Mean of the filtered image on it; NaN without one.
    """

    label: int
    centroid: tuple[float, float]
    area_px: int
    response: float


def unannotated(
    predicted: NDArray[np.integer[Any]],
    annotated: ArrayLike,
    image: NDArray[Any] | None = None,
    *,
    max_overlap: float = 0.1,
    order: Order = "response",
) -> tuple[Candidate, ...]:
    """List predicted objects that nobody annotated.

    Parameters
    ----------
    predicted : ndarray of int, shape (Y, X)
        0 is ground.
    annotated : array-like
        Labels of the same shape (everything above 0 is annotated), or points of shape (N, 2): row and column in
        pixels, where one point on an object annotates it.
    image : ndarray of shape (Y, X), optional
        Output of the filter.
    max_overlap : float
        With labels: an object counts as annotated where a larger share of it is, 0…1.
    order : "response", "area" or "place"
        The brightest first (without an image: the largest), the largest first, or line by line.

    Returns
    -------
    tuple of Candidate

    Raises
    ------
    ImageError
        Shapes that do not fit.
    ParameterError
        An unknown order, or an overlap outside 0…1.

    References
    ----------
    .. [1] Javer & Rittscher 2019, arXiv 1909.00691: cells that the experts had not marked.

    Examples
    --------
    >>> unannotated(np.array([[1, 1, 0, 4]]), [(0, 1)])
    (Candidate(label=4, centroid=(0.0, 3.0), area_px=1, response=nan),)
    """
    from scipy.ndimage import center_of_mass, mean

    if order not in get_args(Order):
        raise ParameterError(f"the order is {order!r}; expected one of {', '.join(get_args(Order))}")
    if not 0 <= max_overlap <= 1:
        raise ParameterError(f"the largest overlap is {max_overlap}; expected 0…1")
    ids = np.asarray(predicted)
    if ids.ndim != 2 or (image is not None and np.shape(image) != ids.shape):
        shape = "none" if image is None else np.shape(image)
        raise ImageError(f"predicted labels have shape {ids.shape}, the filtered image {shape}; expected one plane")
    numbers, dense, areas = np.unique(ids, return_inverse=True, return_counts=True)
    dense = dense.reshape(ids.shape)
    is_open = (numbers > 0) & (_annotated_share(dense, areas, np.asarray(annotated)) <= max_overlap)
    places = np.flatnonzero(is_open)
    centres = np.array(center_of_mass(np.ones(ids.shape), dense, places)).reshape(-1, 2)
    responses = np.full(len(places), np.nan) if image is None else np.asarray(mean(image, dense, places)).reshape(-1)
    found = [
        Candidate(label=int(numbers[i]), centroid=(float(y), float(x)), area_px=int(areas[i]), response=float(value))
        for i, (y, x), value in zip(places, centres, responses, strict=True)
    ]
    return tuple(sorted(found, key=lambda one: _rank(one, order, image is not None)))


def _annotated_share(
    dense: NDArray[np.int64], areas: NDArray[np.int64], annotated: NDArray[Any]
) -> NDArray[np.float64]:
    """Share of every object that is annotated; 1 for one point on it."""
    if annotated.shape == dense.shape and annotated.dtype.kind in "bui":
        return np.bincount(dense.ravel(), weights=(annotated > 0).ravel(), minlength=len(areas)) / areas
    points = annotated.reshape(-1, 2) if not annotated.size else annotated
    if points.ndim != 2 or points.shape[1] != 2 or points.dtype.kind not in "fiu" or not np.isfinite(points).all():
        raise ImageError(
            f"annotations have shape {annotated.shape}; expected labels of shape {dense.shape}, or points (N, 2)"
        )
    at = np.rint(points).astype(np.int64)
    at = at[((at >= 0) & (at < dense.shape)).all(axis=1)]
    share = np.zeros(len(areas))
    share[dense[tuple(at.T)]] = 1.0
    return share


def _rank(one: Candidate, order: Order, has_image: bool) -> tuple[float, float, int]:
    if order == "place":
        return (*one.centroid, one.label)
    value = one.response if order == "response" and has_image else float(one.area_px)
    return (-value, 0.0, one.label)
