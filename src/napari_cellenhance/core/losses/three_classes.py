"""The loss of VoidSeg: cross entropy of three classes, of which the border counts more.

References
----------
.. [1] Prakash et al., "Leveraging self-supervised denoising for image segmentation" (VoidSeg), ISBI 2020.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.painted import IGNORED

__all__ = ["CLASS_WEIGHTS", "DividedBy", "three_class_loss"]

CLASS_WEIGHTS = (1.0, 1.0, 5.0)
"""Of ground, inside, border ([1]_)."""

DividedBy = Literal["painted", "all"]


def three_class_loss(
    logits: Tensor,
    target: Tensor,
    class_weights: tuple[float, ...] = CLASS_WEIGHTS,
    *,
    divide_by: DividedBy = "painted",
) -> Tensor:
    """(1 / M) Σ_p u_p · k_{y_p} · CE_p, where u is 1 on painted pixels and 0 elsewhere.

    Parameters
    ----------
    logits : Tensor of shape (N, 3, Y, X)
    target : Tensor of int64, shape (N, Y, X)
        Class 0…2, or ``IGNORED`` where nothing is painted: such a pixel has exactly zero gradient.
    class_weights : tuple of 3 float
        k.
    divide_by : "painted" or "all"
        M: painted pixels, so that a step is as long with little paint as with much; or all pixels, as in the public
        code. Never the sum of the weights.

    Returns
    -------
    Tensor of shape ()
        0, with zero gradients, where nothing at all is painted.

    Raises
    ------
    ParameterError
        Shapes or weights that do not fit, or another divisor.
    """
    expected = (logits.shape[0], *logits.shape[2:])
    if logits.ndim != 4 or tuple(target.shape) != expected:
        raise ParameterError(f"targets have shape {tuple(target.shape)} for logits of shape {tuple(logits.shape)}")
    if len(class_weights) != logits.shape[1]:
        raise ParameterError(f"{len(class_weights)} class weights were given for {logits.shape[1]} classes")
    if divide_by not in get_args(DividedBy):
        raise ParameterError(f"divide_by is {divide_by!r}; expected 'painted' or 'all'")
    weights = torch.tensor(class_weights, dtype=torch.float32, device=logits.device)
    total = F.cross_entropy(logits.float(), target, weights, ignore_index=IGNORED, reduction="sum")
    n = (target != IGNORED).sum().clamp_min(1) if divide_by == "painted" else target.numel()
    return total / n
