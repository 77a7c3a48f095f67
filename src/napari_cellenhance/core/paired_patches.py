"""Where patches of a pair of images lie that show something, and how the grey values of a pair are brought together.

References
----------
.. [1] Weigert et al., Nat. Methods 15, 2018 (CARE): background rejection, percentiles drawn for each patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.normalize import percentiles

__all__ = ["DRAWN_HIGH", "DRAWN_LOW", "PatchPlaces", "PercentileCurve"]

DRAWN_LOW, DRAWN_HIGH = (1.0, 3.0), (99.5, 99.9)
"""Intervals that the two percentiles of a patch are drawn from, in percent."""
_PERCENTILE = 99.9
_N_KNOTS = 9


class PatchPlaces:
    """Places of patches whose middle lies near something bright.

    A place is eligible where the largest value in a window of half a patch exceeds ``threshold`` times the percentile
    99.9 of the image [1]_.

    Parameters
    ----------
    image : ndarray of shape ([Z,] Y, X)
        The clean image, its ground about 0.
    sides : sequence of int
        Of a patch; at most those of the image.
    threshold : float
        0 takes any place.

    Raises
    ------
    ImageError
        A patch larger than the image.
    ParameterError
        A threshold that is not within 0 and 1.
    """

    def __init__(self, image: NDArray[np.float32], sides: Sequence[int], threshold: float = 0.4) -> None:
        if len(sides) != image.ndim or any(side > n or side < 1 for side, n in zip(sides, image.shape, strict=True)):
            raise ImageError(f"a patch of {tuple(sides)} px does not fit into an image of {image.shape} px")
        if not 0 <= threshold < 1:
            raise ParameterError(f"the threshold of patches is {threshold}; expected 0 (any patch) to below 1")
        self._sides = tuple(sides)
        self._n_starts = tuple(n - side + 1 for n, side in zip(image.shape, sides, strict=True))
        self._eligible = self._find(image, threshold) if threshold > 0 else None

    @property
    def n_eligible(self) -> int:
        """Number of places to choose from."""
        return int(np.prod(self._n_starts)) if self._eligible is None else len(self._eligible)

    def draw(self, rng: np.random.Generator) -> tuple[slice, ...]:
        """One of them, as an index for the image."""
        if self._eligible is None:
            starts = [int(rng.integers(n)) for n in self._n_starts]
        else:
            chosen = int(self._eligible[int(rng.integers(len(self._eligible)))])
            starts = [int(i) for i in np.unravel_index(chosen, self._n_starts)]
        return tuple(slice(start, start + side) for start, side in zip(starts, self._sides, strict=True))

    def _find(self, image: NDArray[np.float32], threshold: float) -> NDArray[np.int32] | None:
        """Flat indices of eligible starts; None where nothing is bright enough, so that any place will do."""
        from scipy.ndimage import maximum_filter

        limit = threshold * percentiles(image, (_PERCENTILE,))[0]
        brightest = maximum_filter(image, size=[max(1, side // 2) for side in self._sides], mode="reflect")
        middles = tuple(slice(side // 2, side // 2 + n) for side, n in zip(self._sides, self._n_starts, strict=True))
        found = np.flatnonzero(brightest[middles] > limit).astype(np.int32)
        return found if len(found) else None


@dataclass(frozen=True, slots=True)
class PercentileCurve:
    """Percentiles of a whole image, ready for any pair of ranks within :data:`DRAWN_LOW` and :data:`DRAWN_HIGH`.

    Parameters
    ----------
    low, high : ndarray of shape (9,)
        Grey values at evenly spaced ranks of the two intervals; between them they are interpolated.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @classmethod
    def of(cls, image: NDArray[np.float32]) -> PercentileCurve:
        """Measure an image of any shape."""
        ranks = [np.linspace(*interval, _N_KNOTS) for interval in (DRAWN_LOW, DRAWN_HIGH)]
        found = np.array(percentiles(image, [float(rank) for rank in np.concatenate(ranks)]))
        return cls(found[:_N_KNOTS], found[_N_KNOTS:])

    def at(self, low: float, high: float) -> tuple[float, float]:
        """Grey values at two ranks, in percent."""
        return (
            float(np.interp(low, np.linspace(*DRAWN_LOW, _N_KNOTS), self.low)),
            float(np.interp(high, np.linspace(*DRAWN_HIGH, _N_KNOTS), self.high)),
        )
