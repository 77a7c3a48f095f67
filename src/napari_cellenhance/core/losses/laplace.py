"""Loss of a restoration that knows its own uncertainty: a Laplace distribution for every pixel.

References
----------
.. [1] Weigert et al., Nat. Methods 15, 2018 (CARE), Suppl. Notes: probabilistic regression.
"""

from __future__ import annotations

import math

from torch import Tensor

__all__ = ["laplace_nll"]

_LN2 = math.log(2.0)


def laplace_nll(mean: Tensor, scale: Tensor, target: Tensor) -> Tensor:
    """Negative log-likelihood |μ − y| / σ + ln σ + ln 2, mean over all pixels.

    Parameters
    ----------
    mean, scale, target : Tensor
        Of one shape; the scale is positive.

    Returns
    -------
    Tensor
        A scalar; smallest at σ = |μ − y|, and negative where the scale is small.
    """
    return ((mean - target).abs() / scale + scale.log() + _LN2).mean()
