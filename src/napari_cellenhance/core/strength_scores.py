"""Whether a slider means what it says: contrast rises with the strength, pictures become more binary, without jumps.

References
----------
.. [1] Lim et al., "NU-Net", 2023, Fig. 3 (the strength w as a slider).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.metrics import contrast_ratio

__all__ = ["StrengthCurve", "greyness", "rank_correlation", "strength_curve"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StrengthCurve:
    """One image over the strengths of a slider.

    Parameters
    ----------
    strengths, contrast, greyness : tuple of float
        Strength; contrast ratio (empty without a mask); mean 4·y·(1 − y), 0 for a picture of black and white.
    steps : tuple of float
        Mean absolute difference of neighbouring pictures, one fewer.
    """

    strengths: tuple[float, ...]
    contrast: tuple[float, ...]
    greyness: tuple[float, ...]
    steps: tuple[float, ...]

    @property
    def contrast_correlation(self) -> float:
        """Spearman's correlation of contrast and strength; 1 where contrast always rises, NaN without a mask."""
        if not self.contrast:
            return float("nan")
        return rank_correlation(self.strengths, self.contrast)

    @property
    def binary_correlation(self) -> float:
        """Spearman's correlation of binariness (less grey) and strength; 1 where pictures always become more binary."""
        return -rank_correlation(self.strengths, self.greyness)

    @property
    def largest_step(self) -> float:
        """Largest mean difference of neighbouring pictures: small where the slider is smooth."""
        return max(self.steps, default=0.0)


def greyness(image: NDArray[np.floating]) -> float:
    """Mean of 4·y·(1 − y): 0 for a picture of zeros and ones, 1 for one of 0.5 throughout.

    >>> greyness(np.array([0.0, 0.5, 1.0, 1.0]))
    0.25
    """
    y = np.clip(np.asarray(image, np.float64), 0.0, 1.0)
    return float((4 * y * (1 - y)).mean())


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's rank correlation; ties share their mean rank, NaN where one of the two never changes.

    >>> rank_correlation([1, 2, 3], [10, 40, 90])
    1.0
    """
    from scipy.stats import rankdata

    if len(first) != len(second):
        raise ParameterError(f"got {len(first)} and {len(second)} values; expected as many of each")
    a, b = rankdata(first) - (len(first) + 1) / 2, rankdata(second) - (len(second) + 1) / 2
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale > 0 else float("nan")


def strength_curve(
    strengths: Sequence[float], pictures: Sequence[NDArray[np.float32]], mask: NDArray[np.bool_] | None
) -> StrengthCurve:
    """Measure the pictures of one image over the strengths.

    Parameters
    ----------
    strengths : sequence of float
        Rising.
    pictures : sequence of ndarray of shape (Y, X)
        In [0, 1], one for each strength.
    mask : ndarray of bool, shape (Y, X), or None
        Objects.

    Raises
    ------
    ImageError
        Not one picture for each strength.
    """
    if len(strengths) != len(pictures) or not pictures:
        raise ImageError(f"got {len(pictures)} pictures for {len(strengths)} strengths; expected one for each")
    has_contrast = mask is not None and mask.any() and not mask.all()
    return StrengthCurve(
        strengths=tuple(float(s) for s in strengths),
        contrast=tuple(contrast_ratio(p, mask).value for p in pictures) if has_contrast and mask is not None else (),
        greyness=tuple(greyness(p) for p in pictures),
        steps=tuple(float(np.abs(b.astype(np.float64) - a).mean()) for a, b in pairwise(pictures)),
    )
