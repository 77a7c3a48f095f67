"""Losses of NU-Net: content on features, morphology on Gram matrices.

References
----------
.. [1] Lim et al., "NU-Net", 2023, Eq. 1 (content), Eq. 2 (morphological), Eq. 3 (total).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.models.perception import Perception

__all__ = ["StyleBank", "build_style_bank", "content_loss", "gram_matrix", "morphological_loss"]


def gram_matrix(features: Tensor) -> Tensor:
    """Gram matrix G = F Fᵀ / (C·H·W), per sample.

    Parameters
    ----------
    features : Tensor of shape (N, C, H, W)

    Returns
    -------
    Tensor of shape (N, C, C), float32
        Symmetric, positive semi-definite, invariant to a permutation of the pixels.
    """
    n, c, h, w = features.shape
    flat = features.float().reshape(n, c, h * w)
    return flat @ flat.transpose(1, 2) / (c * h * w)


def content_loss(reference: Tensor, output: Tensor, *, relative: bool = False) -> Tensor:
    """Mean squared difference of features, per sample ([1]_ Eq. 1).

    Parameters
    ----------
    reference, output : Tensor of shape (N, C, H, W)
    relative : bool
        Divide by the mean square of the reference features. Unlike the published loss this
        gives every image and tap the same weight, whatever its contrast.

    Returns
    -------
    Tensor of shape (N,)
    """
    difference = (reference.float() - output.float()).square().mean(dim=(1, 2, 3))
    if not relative:
        return difference
    return difference / reference.float().square().mean(dim=(1, 2, 3)).clamp_min(1e-8)


@dataclass(frozen=True)
class StyleBank:
    """Mean Gram matrices of a bank of blob masks.

    Parameters
    ----------
    grams : tuple of Tensor
        One per tap, shape (K, C, C): K groups of masks, e.g. by covered area. K = 1 is the
        mean over the whole bank, whose gradient equals that of comparing with every mask:
        mean_s‖G_s − G‖² = ‖Ḡ − G‖² + Var_s(G_s), and the last term is constant.
    perception_id : str
        Network the matrices were computed with.
    """

    grams: tuple[Tensor, ...]
    perception_id: str

    def __post_init__(self) -> None:
        counts = {g.shape[0] for g in self.grams}
        if len(counts) != 1:
            raise ParameterError(f"the style bank has {sorted(counts)} groups at its taps; expected one number")

    @property
    def n_groups(self) -> int:
        """Number K of groups of masks."""
        return int(self.grams[0].shape[0])

    def to_tensors(self) -> dict[str, Tensor]:
        """State for a safetensors file: ``gram_0`` … one per tap."""
        return {f"gram_{i}": g.contiguous() for i, g in enumerate(self.grams)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], perception_id: str) -> StyleBank:
        """Inverse of :meth:`to_tensors`."""
        names = sorted((k for k in tensors if k.startswith("gram_")), key=lambda k: int(k.split("_")[1]))
        if not names:
            raise ParameterError("the style bank holds no Gram matrices (gram_0 …); build it again from masks")
        return cls(tuple(tensors[k].float() for k in names), perception_id)


@torch.no_grad()
def build_style_bank(perception: Perception, masks: Tensor, groups: Sequence[int] | None = None) -> StyleBank:
    """Mean Gram matrices of binary masks, per group.

    Parameters
    ----------
    masks : Tensor of shape (M, 1, H, W)
        0 or 255; M ≥ 1.
    groups : sequence of int, length M, optional
        Group 0…K−1 of each mask; None puts all in one, the published loss.
    """
    if masks.ndim != 4 or masks.shape[0] == 0:
        raise ParameterError(f"masks have shape {tuple(masks.shape)}; expected (M, 1, H, W) with M ≥ 1")
    labels = torch.zeros(masks.shape[0], dtype=torch.long) if groups is None else torch.as_tensor(list(groups))
    n_groups = int(labels.max()) + 1
    sums: list[Tensor] | None = None
    for mask, group in zip(masks, labels, strict=True):
        grams = [gram_matrix(f)[0] for f in perception(mask[None].float())]
        if sums is None:
            sums = [g.new_zeros(n_groups, *g.shape) for g in grams]
        for total, gram in zip(sums, grams, strict=True):
            total[group] += gram
    assert sums is not None
    counts = torch.bincount(labels, minlength=n_groups).clamp_min(1)
    return StyleBank(tuple(s / counts[:, None, None] for s in sums), perception.spec.id)


def morphological_loss(features: Sequence[Tensor], bank: StyleBank, *, relative: bool = False) -> Tensor:
    """Distance of Gram matrices to the bank, per sample ([1]_ Eq. 2 in its mean-Gram form).

    Parameters
    ----------
    features : sequence of Tensor
        Features of the output at each tap, shapes (N, C_l, H_l, W_l).
    bank : StyleBank
        With more than one group, each sample is compared with the nearest group only: an image
        with few objects is not pushed to the mean covered area of the bank.
    relative : bool
        Divide each tap by ‖Ḡ‖² averaged over groups, and the sum by the number of taps, so that no tap
        dominates; otherwise by C², as published.

    Returns
    -------
    Tensor of shape (N,)
    """
    if len(features) != len(bank.grams):
        raise ParameterError(f"{len(features)} taps were given to a style bank of {len(bank.grams)}")
    total: Tensor | None = None
    for feature, target in zip(features, bank.grams, strict=True):
        gram = gram_matrix(feature)
        distance = (gram[:, None] - target.to(gram)[None]).square().sum(dim=(2, 3))
        if relative:
            distance = distance / (target.to(gram).square().sum(dim=(1, 2)).mean() * len(features))
        else:
            distance = distance / gram.shape[1] ** 2
        total = distance if total is None else total + distance
    assert total is not None
    return total.min(dim=1).values
