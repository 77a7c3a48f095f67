"""NU-Net for inference: the same function in fewer milliseconds, on any window of a plane.

For networks with instance norms; those with frozen ones are in ``nunet_frozen``. The rewrites of
``nunet_layers`` are exact in real arithmetic, and so is this: with its statistics given, an instance
norm is a batch norm in inference mode.

In bf16 three places keep float32, because they make most of its error and little of the
work: the encoder (its convolutions, and its maps up to the last one), the sums of the residual
blocks, and all norm parameters.

A window equals the same crop of the whole plane, given equal statistics.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_cellenhance.core.models.nunet import NORM_EPS, ConvNorm, NUNet, StrengthHead, UpConvNorm
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

__all__ = ["FastNUNet", "NormedLayer"]

_N_EXACT_WEIGHTS, _N_EXACT_MAPS = 3, 2
"""First convolutions, and raw maps, that stay float32 in bf16: a tenth of the error for a twentieth of the time."""

Normalise = Callable[[int, Tensor], Tensor]
"""``(norm index, raw convolution output) → normalised`` map, affine included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NormedLayer(Layer):
    """A convolution, and the affine of the instance norm that follows it (float32)."""

    gamma: Tensor
    beta: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rendering:
    """Norm #10 and the output convolution, at one strength."""

    gamma: Tensor
    beta: Tensor
    output: OutputOnBlocks


class FastNUNet:
    """Frozen copy of a :class:`NUNet`, with weights rewritten for one device and precision.

    Parameters
    ----------
    module : NUNet
        Trained network; not modified.
    device : str
        Torch device.
    dtype : torch.dtype
        float32 or bfloat16; norms and statistics keep float32 parameters.
    """

    def __init__(self, module: NUNet, device: str, dtype: torch.dtype) -> None:
        self.device, self.dtype = torch.device(device), dtype
        with torch.no_grad():
            self.layers = tuple(
                self._layer(conv_norm, torch.float32 if index < _N_EXACT_WEIGHTS else dtype)
                for index, conv_norm in enumerate(in_order(module))
            )
            if dtype != torch.float32:
                self.layers = _centred(self.layers, FastNUNet(module, device, torch.float32))
            self.is_conditioned = isinstance(module.head, StrengthHead)
            self._head = _copy_of(module.head)
        self._output = module.output
        self._rendering: tuple[float | None, _Rendering] | None = None

    def _layer(self, source: ConvNorm, dtype: torch.dtype) -> NormedLayer:
        is_up = isinstance(source, UpConvNorm)
        conv, norm = source.conv, source.norm
        weight = fold_nearest(conv.weight) if is_up else conv.weight
        n_out = conv.out_channels
        bias = conv.bias if conv.bias is not None else weight.new_zeros(n_out)
        gamma = norm.weight if norm.affine else weight.new_ones(n_out)
        beta = norm.bias if norm.affine else weight.new_zeros(n_out)
        return NormedLayer(
            weight=self._weight(weight, dtype),
            bias=bias.detach().clone().to(self.device, dtype),
            gamma=gamma.detach().clone().to(self.device, torch.float32),
            beta=beta.detach().clone().to(self.device, torch.float32),
            radius=source.pad,
            stride=int(conv.stride[0]),
            is_up=is_up,
        )

    def _weight(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        return weight.detach().clone().to(self.device, dtype).contiguous(memory_format=torch.channels_last)

    def plan(self, region: Region, shape: tuple[int, int]) -> Plan:
        """Windows to compute; see ``nunet_layers.make_plan``."""
        return make_plan(self.layers, region, shape)

    def raw_features(self, image: Tensor, plan: Plan, normalise: Normalise) -> Tensor:
        """Raw output of convolution #10 on ``plan.windows[LAST]``, its norm not yet applied.

        Parameters
        ----------
        image : Tensor of shape (1, 1, h, w)
            float32, ``plan.source`` of the padded plane, scale 0…255.
        normalise : callable
            Called for norms 0…13 in order; the last one belongs to :meth:`render`.
        """
        x = image
        for index in range(3):
            x = normalise(index, self._planned(index, x, plan)).relu_()
        x = x.float()  # sums of the residual blocks
        for first in range(3, 13, 2):
            inner = normalise(first, self._planned(first, x, plan)).relu_()
            second = normalise(first + 1, self._planned(first + 1, inner, plan))
            x = crop(x, plan.windows[first - 1], plan.windows[first + 1]).add_(second)
        window = self.layers[13].need(plan.windows[13], plan.map_shape(12))
        x = crop(x, plan.windows[12], window)
        x = normalise(13, self._planned(13, x, plan)).relu_()
        window = self.layers[LAST].need(plan.windows[LAST], plan.map_shape(13))
        return self._planned(LAST, crop(x, plan.windows[13], window), plan)

    def convolve(self, index: int, x: Tensor, want: Region, shape: tuple[int, int]) -> Tensor:
        """Raw output of convolution ``index`` on ``want``, channels last; float32 or the network's precision.

        Parameters
        ----------
        x : Tensor
            Exactly ``layers[index].need(want, shape)`` of its input map.
        shape : tuple of int
            Full size of that input map.
        """
        layer = self.layers[index]
        out = layer.convolve(x.to(layer.weight.dtype), want, shape)
        dtype = torch.float32 if index < _N_EXACT_MAPS else self.dtype
        return out.to(dtype).contiguous(memory_format=torch.channels_last)

    def _planned(self, index: int, x: Tensor, plan: Plan) -> Tensor:
        return self.convolve(index, x, plan.windows[index], plan.map_shape(index - 1))

    def normalise(self, index: int, x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        """Instance norm ``index`` with given statistics (float32, of shape (C,)), written over ``x``."""
        layer = self.layers[index]
        return _batch_norm_(x, mean, var, layer.gamma, layer.beta)

    def render(self, raw: Tensor, mean: Tensor, var: Tensor, plan: Plan, strength: float | None) -> Tensor:
        """Norm #10 and output convolution #11: all that a slider move has to pay.

        Returns
        -------
        Tensor of shape (H, W), float32
            ``plan.region``, bounded to 0…255.
        """
        head = self._rendering_at(strength)
        x = F.batch_norm(raw, mean, var, head.gamma, head.beta, training=False, momentum=0.0, eps=NORM_EPS).relu_()
        return head.output.render(x, plan)

    def _rendering_at(self, strength: float | None) -> _Rendering:
        """What a strength changes; that of the last one is kept, for the next tile or plane."""
        kept = self._rendering
        if kept is None or kept[0] != strength:
            gamma, beta, weight, bias = self._head_at(strength)
            output = OutputOnBlocks.of(
                weight, bias, is_clipped=self._output == "clip", device=self.device, dtype=self.dtype
            )
            kept = (strength, _Rendering(gamma=gamma, beta=beta, output=output))
            self._rendering = kept
        return kept[1]

    def _head_at(self, strength: float | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        last = self.layers[LAST]
        if isinstance(self._head, StrengthHead):
            gamma, beta, weight, bias = self._head.at(0.0 if strength is None else strength)
            return gamma.to(self.device), beta.to(self.device), weight, bias.to(self.device)
        assert self._head.bias is not None
        return last.gamma, last.beta, self._head.weight, self._head.bias.to(self.device)


def _batch_norm_(x: Tensor, mean: Tensor, var: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Write the norm over its input: no second map is allocated."""
    if x.device.type != "cpu":
        return F.batch_norm(x, mean, var, gamma, beta, training=False, momentum=0.0, eps=NORM_EPS)
    unused = gamma.new_empty(0), gamma.new_empty(0)
    torch.ops.aten.native_batch_norm.out(
        x, gamma, beta, mean, var, False, 0.0, NORM_EPS, out=x, save_mean=unused[0], save_invstd=unused[1]
    )
    return x


def _centred(layers: tuple[NormedLayer, ...], reference: FastNUNet) -> tuple[NormedLayer, ...]:
    """Shift the biases so that raw outputs lie around 0, where rounding to bf16 is finest.

    The norm after each convolution takes any constant out again: in real arithmetic this
    changes nothing. The shift is measured once on a made-up picture of blobs.
    """
    means: list[Tensor] = []

    def measure(index: int, x: Tensor) -> Tensor:
        var, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
        means.append(mean)
        return reference.normalise(index, x, mean, var)

    axis = torch.arange(96, device=reference.device, dtype=torch.float32)
    waves = torch.sin(axis / 5.0)[:, None] * torch.sin(axis / 6.0)[None, :]
    image = (40.0 + axis / 4.0 + 150.0 * waves.clamp(min=0.0) ** 2).reshape(1, 1, 96, 96)
    with torch.inference_mode():
        plan = reference.plan(Region(0, 96, 0, 96), (96, 96))
        measure(LAST, reference.raw_features(image, plan, measure))
        return tuple(
            replace(layer, bias=(layer.bias.float() - mean).to(layer.bias.dtype))
            for layer, mean in zip(layers, means, strict=True)
        )


def _copy_of(head: nn.Conv2d | StrengthHead) -> nn.Conv2d | StrengthHead:
    # Kept in float32 on the CPU: a few thousand numbers, mixed per strength.
    return copy.deepcopy(head).float().cpu().requires_grad_(False)
