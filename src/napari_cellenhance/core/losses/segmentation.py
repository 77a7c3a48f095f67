"""Cross entropy on painted pixels, and the joint loss of AEP + AWEL.

References
----------
.. [1] Kato & Hotta, Sci. Rep., 2024 (AEP + AWEL): the joint loss, CE of Network 1, of the ensemble and of every
   translated image.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.models.aep import AEPOutput
from napari_cellenhance.core.painted import IGNORED

__all__ = ["joint_loss", "painted_cross_entropy"]


def painted_cross_entropy(logits: Tensor, target: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Mean cross entropy over the painted pixels of a batch.

    Parameters
    ----------
    logits : Tensor of shape (N, C, Y, X)
    target : Tensor of int64, shape (N, Y, X)
        Class 0…C−1, or ``IGNORED`` where nothing is painted: such a pixel has exactly zero gradient.
    class_weights : Tensor of shape (C,), optional
        Factor of each class. The sum is still divided by the number of painted pixels, not by their weight.

    Returns
    -------
    Tensor of shape ()
        0, with zero gradients, where nothing at all is painted.

    Raises
    ------
    ParameterError
        Shapes that do not fit.

    Notes
    -----
    (1/n) Σ_p k_{y_p} CE_p over n painted pixels. For dense labels without weights it is the mean over pixels and
    batch of the public code; the paper writes plain sums.
    """
    expected = (logits.shape[0], *logits.shape[2:])
    if logits.ndim != 4 or tuple(target.shape) != expected:
        raise ParameterError(f"targets have shape {tuple(target.shape)} for logits of shape {tuple(logits.shape)}")
    if class_weights is not None and class_weights.shape != logits.shape[1:2]:
        raise ParameterError(f"{class_weights.numel()} class weights were given for {logits.shape[1]} classes")
    total = F.cross_entropy(logits.float(), target, class_weights, ignore_index=IGNORED, reduction="sum")
    return total / (target != IGNORED).sum().clamp_min(1)


def joint_loss(
    output: AEPOutput, target: Tensor, *, class_weights: Tensor | None = None, has_ensemble: bool = True
) -> dict[str, Tensor]:
    """Loss of both networks and the ensemble, for end-to-end training ([1]_).

    Parameters
    ----------
    output : AEPOutput
    target : Tensor of int64, shape (N, Y, X)
        As for :func:`painted_cross_entropy`.
    class_weights : Tensor of shape (C,), optional
    has_ensemble : bool
        False where the result is one of the branches, which has its own term already.

    Returns
    -------
    dict of str to Tensor of shape ()
        ``total`` = ``first`` + ``ensemble`` + ``translated``: CE(o₁) + CE(z) + Σ_c CE(o₂c). The last two are left
        out where there is no ensemble or no filter.
    """
    branches = output.branches.unbind(dim=1)
    parts = {"first": painted_cross_entropy(branches[0], target, class_weights)}
    if has_ensemble:
        parts["ensemble"] = painted_cross_entropy(output.logits, target, class_weights)
    if len(branches) > 1:
        terms = [painted_cross_entropy(branch, target, class_weights) for branch in branches[1:]]
        parts["translated"] = sum(terms[1:], terms[0])
    values = list(parts.values())
    return {"total": sum(values[1:], values[0]), **parts}
