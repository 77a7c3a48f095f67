"""Loss of a restoration that knows its own uncertainty: a Laplace distribution for every pixel.

References
----------
.. [1] Weigert et al., Nat. Methods 15, 2018 (CARE), Suppl. Notes: probabilistic regression.
.. [2] Seitzer et al., ICLR 2022: likelihood weighted by a power of the predicted scale (there of a Gaussian).
"""

from __future__ import annotations

import math

from torch import Tensor

__all__ = ["laplace_nll"]

_LN2 = math.log(2.0)


def laplace_nll(mean: Tensor, scale: Tensor, target: Tensor, scale_power: float = 0.0) -> Tensor:
    """Negative log-likelihood |μ − y| / σ + ln σ + ln 2, mean over all pixels.

    Parameters
    ----------
    mean, scale, target : Tensor
        Of one shape; the scale is positive.
    scale_power : float
        β: every pixel counts σ^β times, σ taken for a constant [2]_. 0: the likelihood, whose pull on μ is
        sign(μ − y) / σ, so that the dark ground, of which the network is sure, counts most. 1: the pull on μ is that of
        the absolute error. The best μ and σ of a pixel are the same for any β.

    Returns
    -------
    Tensor
        A scalar; with β = 0 smallest at σ = |μ − y|, and negative where the scale is small.
    """
    each = (mean - target).abs() / scale + scale.log() + _LN2
    if scale_power:
        each = each * scale.detach() ** scale_power
    return each.mean()
