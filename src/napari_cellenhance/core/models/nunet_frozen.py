"""NU-Net with frozen statistics for inference: no norm is left, and no plane has to be measured.

Each norm is a constant scale and shift, folded into the convolution before it. Together with the rewrites of
``nunet_layers`` that is exact in real arithmetic. A pixel of the output depends on its 54 px of context and on nothing
else, so that tiles, previews and whole planes agree by construction.

The network is cut where the strength comes in: before the affine of norm #9, at half the resolution.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_cellenhance.core.models.nunet import NUNet, StrengthHead, UpConvNorm
from napari_cellenhance.core.models.nunet_layers import (
    LAST,
    Layer,
    OutputOnBlocks,
    Plan,
    crop,
    fold_nearest,
    in_order,
    make_plan,
)
from napari_cellenhance.core.tiling import Region

__all__ = ["CUT", "FrozenNUNet"]

CUT = 13
"""Index of the last convolution that does not depend on the strength: #9 of the paper."""

_NO_EPS = 1e-12
"""Added to a variance of 1 it vanishes; some versions of torch refuse 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rendering:
    """Norm #9, convolution #10 and the output convolution, at one strength."""

    early: tuple[Tensor, Tensor] | None
    last: Layer
    output: OutputOnBlocks


class FrozenNUNet:
    """Copy of a :class:`NUNet` with frozen norms, its weights rewritten for one device and precision.

    Parameters
    ----------
    module : NUNet
        Trained network with ``norm="frozen"``; not modified.
    device : str
        Torch device.
    dtype : torch.dtype
        float32, bfloat16 or float16.
    """

    def __init__(self, module: NUNet, device: str, dtype: torch.dtype) -> None:
        if module.norm != "frozen":
            raise ValueError("FrozenNUNet takes a network with frozen norms; FastNUNet takes the others")
        self.device, self.dtype = torch.device(device), dtype
        source = copy.deepcopy(module).float().cpu().eval().requires_grad_(False)
        *convolutions, last = in_order(source)
        self._early, self._head, self._output = source.early, source.head, source.output
        folded = [_fold(layer.conv, _batch_norm_of(layer.norm)) for layer in [*convolutions, last]]
        # The last one stays in float32: its norm's affine is folded in anew for each strength.
        self._last = folded[LAST]
        self.layers = tuple(
            Layer(
                weight=self._weight(fold_nearest(weight) if isinstance(layer, UpConvNorm) else weight),
                bias=bias.to(self.device, dtype),
                radius=layer.pad,
                stride=int(layer.conv.stride[0]),
                is_up=isinstance(layer, UpConvNorm),
            )
            for layer, (weight, bias) in zip([*convolutions, last], folded, strict=True)
        )
        self._rendering: tuple[float, _Rendering] | None = None

    def plan(self, region: Region, shape: tuple[int, int]) -> Plan:
        """Windows to compute; see ``nunet_layers.make_plan``."""
        return make_plan(self.layers, region, shape)

    def features(self, image: Tensor, plan: Plan) -> Tensor:
        """Everything that does not depend on the strength.

        Parameters
        ----------
        image : Tensor of shape (1, 1, h, w)
            float32, ``plan.source`` of the padded plane, scale 0…255.

        Returns
        -------
        Tensor of shape (1, 64, rows, columns)
            Output of convolution #9 on ``plan.windows[CUT]``, channels last, in the network's precision.
        """
        x = image.to(self.dtype)
        for index in range(3):
            x = self._planned(index, x, plan).relu_()
        for first in range(3, CUT, 2):
            inner = self._planned(first, x, plan).relu_()
            second = self._planned(first + 1, inner, plan)
            x = second.add_(crop(x, plan.windows[first - 1], plan.windows[first + 1]))
        need = self.layers[CUT].need(plan.windows[CUT], plan.map_shape(CUT - 1))
        return self._planned(CUT, crop(x, plan.windows[CUT - 1], need), plan)

    def _planned(self, index: int, x: Tensor, plan: Plan) -> Tensor:
        return self.layers[index].convolve(x, plan.windows[index], plan.map_shape(index - 1))

    def render(self, features: Tensor, plan: Plan, strength: float | None) -> Tensor:
        """Norm #9, convolution #10 and output convolution #11: all that a slider move has to pay.

        Returns
        -------
        Tensor of shape (H, W), float32
            ``plan.region``, bounded to 0…255.
        """
        head = self._rendering_at(0.0 if strength is None else strength)
        x = features.relu() if head.early is None else _scaled(features, *head.early).relu_()
        need = head.last.need(plan.windows[LAST], plan.map_shape(CUT))
        x = head.last.convolve(crop(x, plan.windows[CUT], need), plan.windows[LAST], plan.map_shape(CUT)).relu_()
        return head.output.render(x, plan)

    def _rendering_at(self, strength: float) -> _Rendering:
        """What a strength changes; that of the last one is kept, for the next tile or plane."""
        kept = self._rendering
        if kept is None or kept[0] != strength:
            early = None
            if self._early is not None:
                gamma, beta = self._early.at(strength)
                early = gamma.to(self.device), beta.to(self.device)
            last, weight, bias = self._last_at(strength)
            output = OutputOnBlocks.of(
                weight, bias, is_clipped=self._output == "clip", device=self.device, dtype=self.dtype
            )
            kept = (strength, _Rendering(early=early, last=last, output=output))
            self._rendering = kept
        return kept[1]

    def _last_at(self, strength: float) -> tuple[Layer, Tensor, Tensor]:
        """Convolution #10 with its affine folded in; weight and bias of the output convolution."""
        weight, bias = self._last
        if isinstance(self._head, StrengthHead):
            gamma, beta, out_weight, out_bias = self._head.at(strength)
            weight, bias = weight * gamma[:, None, None, None], bias * gamma + beta
        else:
            assert self._head.bias is not None
            out_weight, out_bias = self._head.weight, self._head.bias
        plain = self.layers[LAST]
        layer = Layer(
            self._weight(fold_nearest(weight)), bias.to(self.device, self.dtype), plain.radius, plain.stride, True
        )
        return layer, out_weight, out_bias

    def _weight(self, weight: Tensor) -> Tensor:
        return weight.detach().to(self.device, self.dtype).contiguous(memory_format=torch.channels_last)


def _batch_norm_of(norm: nn.Module) -> nn.BatchNorm2d:
    assert isinstance(norm, nn.BatchNorm2d)
    return norm


def _scaled(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """γ·x + β per channel, by the batch-norm kernel: the only one that is vectorised for bf16, channels last."""
    zero, one = torch.zeros_like(gamma), torch.ones_like(gamma)
    return F.batch_norm(x, zero, one, gamma, beta, training=False, momentum=0.0, eps=_NO_EPS)


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with the norm behind it."""
    assert norm.running_mean is not None and norm.running_var is not None and conv.bias is not None
    scale = torch.rsqrt(norm.running_var + norm.eps)
    shift = -norm.running_mean * scale
    if norm.affine:
        scale, shift = scale * norm.weight, shift * norm.weight + norm.bias
    return conv.weight * scale[:, None, None, None], conv.bias * scale + shift
