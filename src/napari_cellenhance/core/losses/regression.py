"""Losses of a regression on pairs, and what each of them learns where the pairs disagree.

A network that sees the same input with many targets learns the *median* of them with the absolute error, and the *mean*
with the squared one. Where an object covers a pixel in one frame of five, the median is the pixel without the object,
the mean is a ghost of it.

The trap: ``SmoothL1`` is quadratic below β. With β = 1 and images in [0, 1] no residual is larger, so that it is half
the squared error and learns the mean, whatever its name says. With β = 0.01 it learns the median, smoothly.

References
----------
.. [1] Javer & Rittscher, arXiv 1909.00691, 2019: argues with the absolute error; every script of it uses β = 1.
.. [2] Lehtinen et al., "Noise2Noise", ICML 2018, section 2: which loss learns which statistic.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor

from napari_cellenhance.core.errors import ParameterError

__all__ = ["SMOOTH_BETA", "RegressionLoss", "regression_loss"]

RegressionLoss = Literal["l1", "smooth_l1", "smooth_l1_beta1"]
SMOOTH_BETA = 0.01


def regression_loss(name: RegressionLoss, found: Tensor, target: Tensor) -> Tensor:
    """Mean loss over all pixels.

    Parameters
    ----------
    name : "l1", "smooth_l1" or "smooth_l1_beta1"
        Absolute error (median); the same, quadratic below 0.01 (median); quadratic below 1, as in the published scripts
        (mean, for images in [0, 1]).
    found, target : Tensor
        Of one shape.

    Raises
    ------
    ParameterError
        Unknown loss.
    """
    match name:
        case "l1":
            return F.l1_loss(found, target)
        case "smooth_l1":
            return F.smooth_l1_loss(found, target, beta=SMOOTH_BETA)
        case "smooth_l1_beta1":
            return F.smooth_l1_loss(found, target, beta=1.0)
    raise ParameterError(f"there is no loss {name!r}; expected one of {', '.join(get_args(RegressionLoss))}")
