"""Blind spots of Noise2Void: which pixels are hidden from the network, and what stands in their place.

References
----------
.. [1] Krull et al., CVPR 2019 (Noise2Void): stratified blind spots, replaced by a neighbour drawn at random.
.. [2] Höck et al., ECCV workshops 2022 (N2V2): replaced by the median of the neighbours.
.. [3] Broaddus et al., ISBI 2020 (structN2V): a pattern around each blind spot is hidden as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError

__all__ = [
    "STRUCTURES",
    "BlindSpots",
    "Structure",
    "autocorrelation",
    "blind",
    "draw_spots",
    "neighbour_offsets",
    "structure_offsets",
    "suggest_structure",
]

Structure = Literal["none", "horizontal", "vertical", "cross", "square"]
STRUCTURES: tuple[Structure, ...] = ("none", "horizontal", "vertical", "cross", "square")
_LEAST_CORRELATION = 0.1
"""Correlation of neighbouring noise from which on a structure is worth hiding."""
_MAX_REACH_PX = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class BlindSpots:
    """How pixels are hidden.

    Parameters
    ----------
    percent : float
        Expected share of blind spots among all pixels, in percent: 0.198 in the paper on natural images, 0.784 in
        VoidSeg, 1.5 in the settings of the first release. More spots are more targets per update.
    radius_px : int
        Neighbours are the pixels of the window of side 2r + 1.
    replace_by : "uniform" or "median"
        A neighbour drawn at random, or the median of all of them (N2V2).
    has_centre : bool
        Whether the pixel counts as its own neighbour, as in the first release; with "uniform" only.
    structure : "none", "horizontal", "vertical", "cross" or "square"
        Pixels that share the noise of a blind spot, hidden with it (structN2V).
    reach_px : int
        How far the structure reaches from the blind spot to either side.
    """

    percent: float = 2.0
    radius_px: int = 5
    replace_by: Literal["uniform", "median"] = "median"
    has_centre: bool = False
    structure: Structure = "none"
    reach_px: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.percent <= 50:
            raise ParameterError(f"{self.percent} % of the pixels are to be hidden; expected more than 0, at most 50")
        if self.radius_px < 1:
            raise ParameterError(f"the neighbourhood has a radius of {self.radius_px} px; expected 1 or more")
        if self.replace_by not in ("uniform", "median"):
            raise ParameterError(f"replace_by is {self.replace_by!r}; expected 'uniform' or 'median'")
        if self.has_centre and self.replace_by == "median":
            raise ParameterError("the median is taken without the centre; leave has_centre off, or draw neighbours")
        if self.structure not in STRUCTURES:
            raise ParameterError(f"structure is {self.structure!r}; expected one of {', '.join(STRUCTURES)}")
        if (self.structure == "none") != (self.reach_px == 0) or self.reach_px < 0:
            raise ParameterError(
                f"a structure {self.structure!r} that reaches {self.reach_px} px; expected 1 or more, or 'none' and 0"
            )


def draw_spots(shape: Sequence[int], percent: float, rng: np.random.Generator) -> NDArray[np.intp]:
    """One pixel at random in each box of a grid over a patch, so that blind spots are spread evenly.

    Parameters
    ----------
    shape : sequence of int
        Sides of the patch, 2 or 3 of them.
    percent : float
        Expected share of the pixels; the side of a box is (100/percent)^(1/dimensions), not rounded.

    Returns
    -------
    ndarray of shape (n, dimensions), int
        Distinct pixels inside the patch; n varies, and is at least 1.
    """
    n_dims = len(shape)
    side = max(1.0, (100.0 / percent) ** (1.0 / n_dims))
    # The grid starts at random, so that no two pixels always share a box and are never hidden together.
    start = rng.random(n_dims) * side
    counts = [int(np.ceil((size + begin) / side)) for size, begin in zip(shape, start, strict=True)]
    boxes = np.stack(np.meshgrid(*(np.arange(n) for n in counts), indexing="ij"), axis=-1).reshape(-1, n_dims)
    spots = np.floor((boxes + rng.random(boxes.shape)) * side - start).astype(np.intp)
    inside = ((spots >= 0) & (spots < np.asarray(shape))).all(axis=1)
    if not inside.any():
        return np.array([[rng.integers(size) for size in shape]], np.intp)
    # Boxes of less than a pixel, or edges that fall inside one, can name a pixel twice.
    return np.unique(spots[inside], axis=0)


def structure_offsets(structure: Structure, reach_px: int, n_dims: int) -> NDArray[np.intp]:
    """Pixels of a structure without its centre, relative to it: shape (n, dimensions); in 3-D they lie in the plane."""
    line = [k for k in range(-reach_px, reach_px + 1) if k]
    found: list[tuple[int, int]] = []
    if structure in ("horizontal", "cross"):
        found += [(0, k) for k in line]
    if structure in ("vertical", "cross"):
        found += [(k, 0) for k in line]
    if structure == "square":
        found = [(y, x) for y in range(-reach_px, reach_px + 1) for x in range(-reach_px, reach_px + 1) if y or x]
    return np.array([(0,) * (n_dims - 2) + pair for pair in found], np.intp).reshape(-1, n_dims)


def neighbour_offsets(spots: BlindSpots, n_dims: int) -> NDArray[np.intp]:
    """Where a replacement comes from, relative to the blind spot: the window less the centre and the structure."""
    axis = np.arange(-spots.radius_px, spots.radius_px + 1)
    window = np.stack(np.meshgrid(*[axis] * n_dims, indexing="ij"), axis=-1).reshape(-1, n_dims)
    hidden = structure_offsets(spots.structure, spots.reach_px, n_dims)
    if not spots.has_centre:
        hidden = np.concatenate([hidden, np.zeros((1, n_dims), np.intp)])
    is_hidden = (window[:, None, :] == hidden[None, :, :]).all(axis=2).any(axis=1)
    left: NDArray[np.intp] = window[~is_hidden]
    if not len(left):
        raise ParameterError(
            f"the structure reaches {spots.reach_px} px and the window {spots.radius_px} px, so no neighbour is left; "
            "use a larger window"
        )
    return left


def blind(
    patch: NDArray[np.float32], spots: BlindSpots, rng: np.random.Generator, *, at: NDArray[np.intp] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Hide pixels of a patch.

    Parameters
    ----------
    patch : ndarray of 2 or 3 axes, float32
    spots : BlindSpots
    at : ndarray of shape (n, axes), int, optional
        Pixels to hide. Default: drawn by :func:`draw_spots`.

    Returns
    -------
    blinded : ndarray of float32
        Copy with replaced pixels; every replacement is read from ``patch`` itself. Windows end at its edges.
    at : ndarray of shape (n, axes)
        The blind spots: the only pixels that a loss may look at, whatever their values.
    """
    where = draw_spots(patch.shape, spots.percent, rng) if at is None else at
    size = np.asarray(patch.shape)
    offsets = neighbour_offsets(spots, patch.ndim)
    places = where[:, None, :] + offsets[None, :, :]
    is_inside: NDArray[np.bool_] = np.asarray(((places >= 0) & (places < size)).all(axis=2))
    lonely: NDArray[np.bool_] = np.logical_not(np.asarray(is_inside.any(axis=1)))
    places = np.clip(places, 0, size - 1)
    neighbours = patch[tuple(np.moveaxis(places, 2, 0))]
    blinded = patch.copy()
    hidden = where[:, None, :] + structure_offsets(spots.structure, spots.reach_px, patch.ndim)[None, :, :]
    hidden = hidden.reshape(-1, patch.ndim)
    hidden = hidden[((hidden >= 0) & (hidden < size)).all(axis=1)]
    if len(hidden):
        low, high = float(patch.min()), float(patch.max())
        blinded[tuple(hidden.T)] = rng.uniform(low, high, len(hidden)).astype(np.float32)
    if spots.replace_by == "median":
        new = _median(neighbours, is_inside | lonely[:, None])
    else:
        chosen = np.argmax(rng.random(is_inside.shape) * is_inside, axis=1)
        new = neighbours[np.arange(len(where)), chosen]
    new[lonely] = patch.mean()
    blinded[tuple(where.T)] = new
    return blinded, where


def _median(values: NDArray[np.float32], is_inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Median of each row over its pixels inside; a plain one where the whole window is."""
    whole = is_inside.all(axis=1)
    result = np.empty(len(values), np.float32)
    if whole.any():
        result[whole] = np.median(values[whole], axis=1)
    if not whole.all():
        result[~whole] = np.nanmedian(np.where(is_inside[~whole], values[~whole], np.float32(np.nan)), axis=1)
    return result


def autocorrelation(plane: NDArray[np.floating], reach_px: int = 10) -> NDArray[np.float64]:
    """Autocorrelation of the noise of a plane.

    Parameters
    ----------
    plane : ndarray of shape (Y, X)
    reach_px : int
        Largest shift.

    Returns
    -------
    ndarray of shape (2·reach + 1, 2·reach + 1), float64
        1 at the centre; entry (reach + dy, reach + dx) belongs to the shift (dy, dx).

    Notes
    -----
    What is smooth is taken away first: the plane is replaced by its difference to the mean of the four diagonal
    neighbours three pixels away, restricted to the half of the pixels where that difference varies least, where
    edges of objects have little part.
    """
    from scipy import ndimage

    image = np.asarray(plane, np.float64)
    around = (
        np.roll(image, (3, 3), (0, 1)) + np.roll(image, (3, -3), (0, 1))
        + np.roll(image, (-3, 3), (0, 1)) + np.roll(image, (-3, -3), (0, 1))
    ) / 4.0  # fmt: skip
    rest = (image - ndimage.gaussian_filter(image, 2.0)) if min(image.shape) < 16 else image - around
    energy = ndimage.uniform_filter(rest**2, 9)
    weight = (energy <= np.median(energy)).astype(np.float64)
    rest = (rest - np.average(rest, weights=weight)) * weight
    height, width = rest.shape
    reach = min(reach_px, height - 1, width - 1)
    shape = (2 * height, 2 * width)
    power = np.abs(np.fft.rfft2(rest, shape)) ** 2
    count = np.abs(np.fft.rfft2(weight, shape)) ** 2
    total, pairs = np.fft.irfft2(power, shape), np.fft.irfft2(count, shape)
    mean = np.fft.fftshift(total / np.maximum(pairs, 1.0))
    centre = mean[height, width]
    window = mean[height - reach : height + reach + 1, width - reach : width + reach + 1]
    return window / centre if centre > 0 else np.zeros_like(window)


def suggest_structure(correlation: NDArray[np.float64]) -> tuple[Structure, int]:
    """Structure and reach that cover the correlation of neighbouring noise.

    Parameters
    ----------
    correlation : ndarray
        Of :func:`autocorrelation`.

    Returns
    -------
    structure : str
        "none" where neighbours correlate by less than 0.1.
    reach_px : int
    """
    middle = correlation.shape[0] // 2
    along = _reach(correlation[middle, middle + 1 :])
    down = _reach(correlation[middle + 1 :, middle])
    if not along and not down:
        return "none", 0
    if along and down:
        diagonal = correlation[middle + 1, middle + 1] >= _LEAST_CORRELATION
        return ("square" if diagonal else "cross"), max(along, down)
    return ("horizontal", along) if along else ("vertical", down)


def _reach(line: NDArray[np.float64]) -> int:
    """Number of neighbours in a row that correlate."""
    below = np.flatnonzero(line[:_MAX_REACH_PX] < _LEAST_CORRELATION)
    return int(below[0]) if len(below) else min(_MAX_REACH_PX, len(line))
