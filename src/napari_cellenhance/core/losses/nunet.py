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
        One per tap, shape (K, C, C): K groups of masks of similar covered area. K = 1 is the
        mean over the whole bank, whose gradient equals that of comparing with every mask:
        mean_s‖G_s − G‖² = ‖Ḡ − G‖² + Var_s(G_s), and the last term is constant.
    coverages : tuple of float
        Mean covered fraction of the masks of each group, increasing, in 0…1.
    perception_id : str
        Network the matrices were computed with.
    """

    grams: tuple[Tensor, ...]
    coverages: tuple[float, ...]
    perception_id: str

    def __post_init__(self) -> None:
        counts = {g.shape[0] for g in self.grams} | {len(self.coverages)}
        if len(counts) != 1:
            raise ParameterError(f"the style bank has {sorted(counts)} groups at its taps; expected one number")

    def nearest_groups(self, coverages: Sequence[float]) -> Tensor:
        """Index of the group of closest covered fraction, shape (N,)."""
        distance = torch.tensor(list(coverages))[:, None] - torch.tensor(self.coverages)[None]
        return distance.abs().argmin(dim=1)

    def to(self, device: torch.device) -> StyleBank:
        """The bank on another device; ``self`` where it already is there."""
        grams = tuple(gram.to(device) for gram in self.grams)
        is_there = all(a is b for a, b in zip(grams, self.grams, strict=True))
        return self if is_there else StyleBank(grams, self.coverages, self.perception_id)

    @property
    def n_groups(self) -> int:
        """Number K of groups of masks."""
        return int(self.grams[0].shape[0])

    def to_tensors(self) -> dict[str, Tensor]:
        """State for a safetensors file: ``gram_0`` … one per tap, and ``coverages``."""
        grams = {f"gram_{i}": g.contiguous() for i, g in enumerate(self.grams)}
        return {**grams, "coverages": torch.tensor(self.coverages)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], perception_id: str) -> StyleBank:
        """Inverse of :meth:`to_tensors`."""
        names = sorted((k for k in tensors if k.startswith("gram_")), key=lambda k: int(k.split("_")[1]))
        if not names or "coverages" not in tensors:
            raise ParameterError("the style bank holds no Gram matrices (gram_0 …); build it again from masks")
        coverages = tuple(float(c) for c in tensors["coverages"])
        return cls(tuple(tensors[k].float() for k in names), coverages, perception_id)


@torch.no_grad()
def build_style_bank(perception: Perception, masks: Tensor, n_groups: int = 1) -> StyleBank:
    """Mean Gram matrices of binary masks, per group of similar covered fraction.

    Parameters
    ----------
    masks : Tensor of shape (M, 1, H, W)
        0 or 255; M ≥ n_groups.
    n_groups : int
        Groups of equal size, by covered fraction; 1 is the published loss.
    """
    if masks.ndim != 4 or not 1 <= n_groups <= masks.shape[0]:
        raise ParameterError(
            f"masks have shape {tuple(masks.shape)} for {n_groups} groups; expected (M, 1, H, W) with M ≥ groups ≥ 1"
        )
    coverage = (masks > 0).float().mean(dim=(1, 2, 3))
    means: list[list[Tensor]] = []
    coverages = []
    for members in coverage.argsort().tensor_split(n_groups):
        sums: list[Tensor] | None = None
        for mask in masks[members]:
            grams = [gram_matrix(f)[0] for f in perception(mask[None].float())]
            sums = grams if sums is None else [s + g for s, g in zip(sums, grams, strict=True)]
        assert sums is not None
        means.append([s / len(members) for s in sums])
        coverages.append(float(coverage[members].mean()))
    grams_by_tap = tuple(torch.stack(tap) for tap in zip(*means, strict=True))
    return StyleBank(grams_by_tap, tuple(coverages), perception.spec.id)


def morphological_loss(
    features: Sequence[Tensor], bank: StyleBank, *, groups: Tensor | None = None, relative: bool = False
) -> Tensor:
    """Distance of Gram matrices to the bank, per sample ([1]_ Eq. 2 in its mean-Gram form).

    Parameters
    ----------
    features : sequence of Tensor
        Features of the output at each tap, shapes (N, C_l, H_l, W_l).
    groups : Tensor of int, shape (N,), optional
        Group of the bank that each sample is compared with; needed when the bank has several. Comparing
        like with like keeps a sparse image sparse; the free choice of the nearest group instead
        collapses to black images.
    relative : bool
        Divide each tap by ‖Ḡ‖² of the group, and the sum by the number of taps, so that no tap
        dominates; otherwise by C², as published.

    Returns
    -------
    Tensor of shape (N,)
    """
    if len(features) != len(bank.grams):
        raise ParameterError(f"{len(features)} taps were given to a style bank of {len(bank.grams)}")
    if groups is None:
        if bank.n_groups != 1:
            raise ParameterError(f"the style bank has {bank.n_groups} groups; give the group of each sample")
        groups = torch.zeros(features[0].shape[0], dtype=torch.long, device=features[0].device)
    total = torch.zeros(features[0].shape[0], device=features[0].device)
    for feature, targets in zip(features, bank.grams, strict=True):
        gram, target = gram_matrix(feature), targets[groups]
        distance = (gram - target).square().sum(dim=(1, 2))
        if relative:
            distance = distance / (target.square().sum(dim=(1, 2)) * len(features))
        else:
            distance = distance / gram.shape[1] ** 2
        total = total + distance
    return total
