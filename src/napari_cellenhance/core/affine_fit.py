"""The scaling and shift that bring one image nearest to another, from pixels that come bit by bit."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["PairMoments"]


@dataclass(slots=True)
class PairMoments:
    """Means, variances and covariance of the pixels x and y of two images, added up over blocks.

    Examples
    --------
    >>> moments = PairMoments()
    >>> moments.add([0, 1], [1, 3])
    >>> moments.add([2, 3], [5, 7])
    >>> moments.n, moments.slope, moments.offset
    (4, 2.0, 1.0)
    """

    n: int = 0
    means: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    scatter: NDArray[np.float64] = field(default_factory=lambda: np.zeros((2, 2)))
    """Sums of products of the distances from the means."""

    def add(self, x: ArrayLike, y: ArrayLike) -> None:
        """Add pixels; both of one shape and finite."""
        pair = np.stack([np.ravel(x), np.ravel(y)]).astype(np.float64)
        if not pair.shape[1]:
            return
        # Moments about the mean, merged: sums of squares of grey values about 0 would lose their digits.
        n, means = pair.shape[1], pair.mean(axis=1)
        centred, step = pair - means[:, None], means - self.means
        total = self.n + n
        self.scatter = self.scatter + centred @ centred.T + np.outer(step, step) * (self.n * n / total)
        self.means = self.means + step * (n / total)
        self.n = total

    @property
    def slope(self) -> float:
        """α of α·x + β nearest to y by least squares; 0 for a constant x."""
        return float(self.scatter[0, 1] / self.scatter[0, 0]) if self.scatter[0, 0] > 0 else 0.0

    @property
    def offset(self) -> float:
        """β of α·x + β nearest to y by least squares."""
        return float(self.means[1] - self.slope * self.means[0])
