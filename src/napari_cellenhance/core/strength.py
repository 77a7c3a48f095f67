"""Strengths that differ from place to place: painted regions, or a map of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError

__all__ = ["N_STEPS", "Shares", "quantize", "shares", "step_of", "strengths_of_labels"]

N_STEPS = 40
"""A map of numbers is rounded to this many steps over the slider: 0.25 for a slider from 0 to 10."""

Shares = list[tuple[float, NDArray[np.float32]]]
"""Strengths that occur in a window, and the weight of each at every pixel; weights sum to 1."""


def step_of(maximum: float) -> float:
    """Step to which a map of numbers is rounded.

    >>> step_of(10.0)
    0.25
    """
    return maximum / N_STEPS


def quantize(
    values: NDArray[Any], elsewhere: float, *, minimum: float = 0.0, maximum: float = 10.0
) -> NDArray[np.float32]:
    """Round a map of strengths to the steps that are computed.

    Parameters
    ----------
    values : ndarray of any shape
        Strengths from 0 to ``maximum``; NaN stands for ``elsewhere``.
    elsewhere : float
        Strength where the map says nothing; taken as it is.
    minimum : float
        Least strength of the filter; weaker ones become ``minimum``, exact zeros stay the identity.
    maximum : float
        Largest strength of the filter; ``N_STEPS`` steps lead there.

    Returns
    -------
    ndarray of float32, same shape

    Raises
    ------
    ParameterError
        Values outside 0…``maximum``, or infinite.

    Examples
    --------
    >>> quantize(np.array([0.0, 2.6, np.nan, 9.9]), 5.1).tolist()
    [0.0, 2.5, 5.099999904632568, 10.0]
    """
    given = np.asarray(values, np.float64)
    told = given[~np.isnan(given)]
    if told.size and not (told.min() >= 0.0 and told.max() <= maximum):
        raise ParameterError(
            f"the strength map holds values from {told.min():g} to {told.max():g}; expected strengths from 0 to "
            f"{maximum:g}, NaN where the slider shall count. For a map of numbered regions give each number a strength"
        )
    step = step_of(maximum)
    rounded = np.round(given / step) * step
    rounded = np.where(rounded > 0, np.maximum(rounded, minimum), rounded)
    result: NDArray[np.float32] = np.where(np.isnan(given), elsewhere, rounded).astype(np.float32)
    return result


def strengths_of_labels(
    labels: NDArray[Any], table: Mapping[int, float], elsewhere: float, *, minimum: float = 0.0, maximum: float = 10.0
) -> NDArray[np.float32]:
    """Turn painted regions into strengths.

    Parameters
    ----------
    labels : ndarray of int, any shape
    table : mapping of int to float
        Strength of each label; clamped to the range of the filter, 0 is the identity.
    elsewhere : float
        Strength of labels that are not in the table, and of the unpainted ground (0).

    Returns
    -------
    ndarray of float32, same shape

    Raises
    ------
    ParameterError
        Labels that are no whole numbers, or a strength that is no number.

    Examples
    --------
    >>> strengths_of_labels(np.array([0, 1, 7]), {1: 8.0}, 5.0).tolist()
    [5.0, 8.0, 5.0]
    """
    if labels.dtype.kind not in "bui":
        raise ParameterError(
            f"the regions are of type {labels.dtype}; expected whole numbers (labels). Leave the strengths of the "
            "labels out if the map holds strengths itself"
        )
    result = np.full(labels.shape, elsewhere, np.float32)
    for label, strength in table.items():
        if not np.isfinite(strength):
            raise ParameterError(f"label {label} has the strength {strength}; expected a number up to {maximum:g}")
        if label != 0:
            result[labels == label] = 0.0 if strength <= 0 else min(max(strength, minimum), maximum)
    return result


def shares(strengths: NDArray[np.float32], inside: tuple[slice, slice], edge_px: int = 0) -> Shares:
    """How much each strength counts at each pixel of a window.

    Parameters
    ----------
    strengths : ndarray of shape (Y, X)
        The window with at least ``edge_px`` // 2 pixels around it, except at the border of the plane.
    inside : (slice, slice)
        The window itself.
    edge_px : int
        Width over which neighbouring regions fade into each other, in pixels; 0 cuts sharply.

    Returns
    -------
    list of (float, ndarray of float32)
        Ascending strengths; weights of the shape of the window.

    Notes
    -----
    Fading is a box of ``2·(edge_px // 2) + 1`` px over the weights: of finite reach, so that a tile and the
    whole plane agree.
    """
    if edge_px < 0:
        raise ParameterError(f"soft edges are {edge_px} px wide; expected 0 or more")
    size = 2 * (edge_px // 2) + 1
    found: Shares = []
    for strength in np.unique(strengths):
        weight = (strengths == strength).astype(np.float32)
        if size > 1:
            from scipy.ndimage import uniform_filter

            weight = np.clip(uniform_filter(weight, size, mode="nearest"), 0.0, 1.0)
        weight = np.ascontiguousarray(weight[inside])
        if weight.max(initial=0.0) > 1e-6:
            found.append((float(strength), weight))
    if size > 1:
        total = np.sum([weight for _, weight in found], axis=0)
        found = [(strength, weight / total) for strength, weight in found]
    return found
