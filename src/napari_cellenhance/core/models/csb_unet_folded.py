"""A trained U-Net rewritten for inference: the same result with no norms and fewer, cheaper convolutions.

- Batch norms are folded into the weights.
- Nearest ×2 followed by a 3×3 convolution is one 4×4 transposed convolution of stride 2, and the skip is convolved by
  itself: nothing is enlarged or joined.
- bfloat16 where it is asked for; the 1×1 heads compute in float32, so that grey values do not come in steps.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_cellenhance.core.models.csb_unet import CSBUNet, as_scale

__all__ = ["FoldedConv", "FoldedUNet", "FoldedUpConv"]


class FoldedConv(nn.Module):
    """Convolution with folded norm."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.n_dims = weight.ndim - 2
        self.padding = weight.shape[-1] // 2
        layout = torch.channels_last if self.n_dims == 2 else torch.channels_last_3d
        self.register_buffer("weight", weight.to(dtype).contiguous(memory_format=layout))
        self.register_buffer("bias", bias.to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, …) → the same size."""
        run: Any = F.conv2d if self.n_dims == 2 else F.conv3d
        return run(x, self.weight, self.bias, padding=self.padding)  # type: ignore[no-any-return]


class FoldedUpConv(nn.Module):
    """Nearest ×2 and 3×3 convolution of (enlarged, skip), as one transposed convolution and one plain one."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, n_up: int, dtype: torch.dtype) -> None:
        super().__init__()
        up = weight[:, :n_up]
        for axis in (2, 3):
            w0, w1, w2 = up.unbind(axis)
            up = torch.stack([w2, w1 + w2, w0 + w1, w0], dim=axis)
        self.register_buffer("weight", up.transpose(0, 1).to(dtype).contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", bias.to(dtype))
        has_skip = weight.shape[1] > n_up
        self.of_skip = FoldedConv(weight[:, n_up:], torch.zeros_like(bias), dtype) if has_skip else None

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        """(N, C, Y, X) and what joins it at twice the size → twice the size."""
        y = F.conv_transpose2d(x, self.weight, self.bias, stride=2, padding=1)
        return y if self.of_skip is None or skip is None else y.add_(self.of_skip(skip))


class FoldedUNet(nn.Module):
    """Inference of a :class:`CSBUNet`.

    Parameters
    ----------
    net : CSBUNet
        Trained; not modified.
    dtype : torch.dtype
        float32 or bfloat16, of the maps.
    """

    def __init__(self, net: CSBUNet, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        s, body = net.settings, net.body
        self.settings, self.n_out, self.is_residual, self.dtype = s, net.n_out, net.is_residual, dtype
        self.is_rewritten = s.n_dims == 2 and s.kernel_px == 3
        self.down = nn.ModuleList(
            nn.ModuleList(FoldedConv(*_fold(one), dtype) for one in pair) for pair in _pairs(body.down)
        )
        self.middle = nn.ModuleList(FoldedConv(*_fold(one), dtype) for one in body.middle)
        self.pool = body.pool
        self.up_first, self.up_second = nn.ModuleList(), nn.ModuleList()
        for index, (first, second) in enumerate(_pairs(body.up)):
            weight, bias = _fold(first)
            n = s.depth - 1 - index
            n_up = s.width * 2**n
            is_up = self.is_rewritten
            self.up_first.append(FoldedUpConv(weight, bias, n_up, dtype) if is_up else FoldedConv(weight, bias, dtype))
            self.up_second.append(FoldedConv(*_fold(second), dtype))
        heads = (net.head,) if net.scale_head is None else (net.head, net.scale_head)
        self.heads = nn.ModuleList(FoldedConv(*_weights(head), torch.float32) for head in heads)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """As :meth:`CSBUNet.forward`; float32 in and out."""
        layout = torch.channels_last if self.settings.n_dims == 2 else torch.channels_last_3d
        maps = self._maps(x.to(self.dtype, memory_format=layout)).float()
        result = self.heads[0](maps)
        if self.is_residual:
            result = result + x[:, :1]
        return result if len(self.heads) == 1 else torch.cat([result, as_scale(self.heads[1](maps))], dim=1)

    def _maps(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for level in self.down:
            for conv in level:  # type: ignore[attr-defined]
                x = conv(x).relu_()
            skips.append(x)
            x = self.pool(x)
        for conv in self.middle:
            x = conv(x).relu_()
        for first, second in zip(self.up_first, self.up_second, strict=True):
            skip = skips.pop()
            wanted = skip if skips or self.settings.top_skip else None
            if self.is_rewritten:
                x = first(x, wanted)
            else:
                x = F.interpolate(x, scale_factor=2, mode="nearest")
                x = first(x if wanted is None else torch.cat([x, wanted], dim=1))
            x = second(x.relu_()).relu_()
        return x


def _pairs(levels: Any) -> list[tuple[Any, Any]]:
    """The two blocks of each level."""
    return [(level[0], level[1]) for level in levels]


def _weights(head: Any) -> tuple[Tensor, Tensor]:
    return head.weight.detach().clone(), head.bias.detach().clone()


def _fold(block: Any) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with the norm behind it, where there is one."""
    conv = block[0]
    weight, bias = conv.weight.detach().double(), conv.bias.detach().double()
    norm = block[1]
    if isinstance(norm, (nn.BatchNorm2d, nn.BatchNorm3d)):
        assert norm.running_mean is not None and norm.running_var is not None
        factor = norm.weight.detach().double() / torch.sqrt(norm.running_var.double() + norm.eps)
        weight = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
        bias = (bias - norm.running_mean.double()) * factor + norm.bias.detach().double()
    return weight.float(), bias.float()
