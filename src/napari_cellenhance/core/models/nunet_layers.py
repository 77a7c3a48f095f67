"""The layers of NU-Net on windows of a plane: what each output window is made from, and exact rewrites of the weights.

* nearest ×2 followed by a 3×3 convolution is a 4×4 transposed convolution of stride 2;
  the reflection padding of the up-sampled map is edge replication of the small one;
* the 9×9 output convolution is a stride-4 convolution to 16 maps and a pixel shuffle;
* in 16 bits the 9×9 input convolution is one of 3×3 on blocks of 4×4 pixels, whose 16·32 maps are
  shuffled back: matrix units want many input channels, and an image has one;
* in float32 the wide 3×3 convolutions take the fast algorithm of ``winograd``.

A window is computed with true context: layers shrink towards it (receptive field 54 px),
and reflection happens only where the plane really ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_cellenhance.core.models.nunet import ConvNorm, NUNet, fold_nearest
from napari_cellenhance.core.models.winograd import pays, transform_weight, winograd_convolve
from napari_cellenhance.core.tiling import Region

__all__ = [
    "HALO_PX", "HEAD_RADIUS", "LAST", "N_NORMS", "Layer", "OutputOnBlocks", "Plan", "crop", "fold_nearest", "in_order",
    "make_plan", "map_shape", "output_padding", "space_to_depth",
]  # fmt: skip

N_NORMS = 15
LAST = N_NORMS - 1
HALO_PX = 56
"""Context that determines a pixel: radius 54 (4+1+2+40+2+1+4), rounded up to the stride of 4."""

_LEVELS = (0, 1, *[2] * 11, 1, 0)
"""Scale of each normalised map: a map of level l has 1/2^l of the plane's side."""

HEAD_RADIUS = 4

_CLIP_CENTRE = 127.5


@dataclass(frozen=True, slots=True)
class Layer:
    """One convolution of the network on a window of a plane."""

    weight: Tensor
    bias: Tensor
    radius: int
    stride: int
    is_up: bool
    transformed: Tensor | None = field(init=False, default=None)
    """Weights for the fast algorithm of ``winograd``, where that pays."""
    blocked: tuple[Tensor, Tensor] | None = field(init=False, default=None)
    """Weight and bias on blocks of 4×4 pixels, for a grey input in 16 bits."""

    def __post_init__(self) -> None:
        if self.is_up:
            return
        if pays(self.weight, self.stride):
            object.__setattr__(self, "transformed", transform_weight(self.weight))
        elif self.weight.shape[1:] == (1, 9, 9) and self.stride == 1 and self.weight.dtype != torch.float32:
            object.__setattr__(self, "blocked", (_on_blocks(self.weight), self.bias.repeat(16)))

    def need(self, want: Region, shape: tuple[int, int]) -> Region:
        """Window of the input map (of ``shape``) that the output window ``want`` is made from."""
        if self.is_up:
            return _clip(Region(want.y0 // 2 - 1, want.y1 // 2 + 1, want.x0 // 2 - 1, want.x1 // 2 + 1), shape)
        s, r = self.stride, self.radius
        return _clip(
            Region(want.y0 * s - r, (want.y1 - 1) * s + r + 1, want.x0 * s - r, (want.x1 - 1) * s + r + 1), shape
        )

    def convolve(self, x: Tensor, want: Region, shape: tuple[int, int]) -> Tensor:
        """Raw output on ``want`` from ``x``, which covers exactly ``need(want, shape)``."""
        if self.is_up:
            pads = (want.x0 == 0, want.x1 == 2 * shape[1], want.y0 == 0, want.y1 == 2 * shape[0])
            x = F.pad(x, tuple(int(p) for p in pads), mode="replicate")
            return F.conv_transpose2d(x, self.weight, self.bias, stride=2, padding=3)
        s, r = self.stride, self.radius
        pad = (
            max(0, r - want.x0 * s),
            max(0, (want.x1 - 1) * s + r + 1 - shape[1]),
            max(0, r - want.y0 * s),
            max(0, (want.y1 - 1) * s + r + 1 - shape[0]),
        )
        if any(pad):
            x = F.pad(x, pad, mode="reflect")
        if self.transformed is not None:
            return winograd_convolve(x, self.transformed, self.bias)
        if self.blocked is not None:
            return _convolve_blocks(x, *self.blocked)
        return F.conv2d(x, self.weight, self.bias, stride=s)


@dataclass(frozen=True, slots=True)
class Plan:
    """Windows of every map that one output region needs.

    Parameters
    ----------
    region : Region
        The asked region grown to the 4-px grid of the (padded) plane.
    source : Region
        Window of the input plane.
    windows : tuple of Region
        Window of each of the 15 normalised maps, in pixels of that map.
    shape : tuple of int
        Of the padded plane; multiples of 4.
    """

    region: Region
    source: Region
    windows: tuple[Region, ...]
    shape: tuple[int, int]

    def map_shape(self, index: int) -> tuple[int, int]:
        """Full size of map ``index``; -1 is the input plane."""
        return map_shape(self.shape, index)


def map_shape(shape: tuple[int, int], index: int) -> tuple[int, int]:
    """Size of normalised map ``index`` of a plane of ``shape``; -1 is the plane."""
    level = 0 if index < 0 else _LEVELS[index]
    return shape[0] >> level, shape[1] >> level


def make_plan(layers: Sequence[Layer], region: Region, shape: tuple[int, int]) -> Plan:
    """Windows to compute, from the output back to the input.

    Parameters
    ----------
    layers : sequence of Layer
        All 15.
    region : Region
        Of the padded plane; grown to the 4-px grid.
    shape : tuple of int
        Of the padded plane; multiples of 4.
    """
    aligned = Region(region.y0 // 4 * 4, -(-region.y1 // 4) * 4, region.x0 // 4 * 4, -(-region.x1 // 4) * 4)
    windows: dict[int, Region] = {LAST: _grow(aligned, HEAD_RADIUS, shape)}
    windows[13] = _even(layers[LAST].need(windows[LAST], map_shape(shape, 13)))
    current = layers[13].need(windows[13], map_shape(shape, 12))
    for second in range(12, 2, -2):
        windows[second] = current
        windows[second - 1] = layers[second].need(current, map_shape(shape, 2))
        current = layers[second - 1].need(windows[second - 1], map_shape(shape, 2))
    windows[2] = current
    windows[1] = layers[2].need(windows[2], map_shape(shape, 1))
    windows[0] = layers[1].need(windows[1], shape)
    source = layers[0].need(windows[0], shape)
    return Plan(aligned, source, tuple(windows[i] for i in range(N_NORMS)), shape)


def output_padding(region: Region, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """What the output convolution of a region has to pad where the plane ends: left, right, top, bottom."""
    r, (height, width) = HEAD_RADIUS, shape
    return (
        max(0, r - region.x0),
        max(0, region.x1 + r - width),
        max(0, r - region.y0),
        max(0, region.y1 + r - height),
    )


def in_order(module: NUNet) -> list[ConvNorm]:
    """The 15 convolutions with a norm, as the image passes them."""
    layers: list[nn.Module] = [*module.enc]
    for block in module.trunk:
        layers += [*block.children()]
    layers += [module.up1, module.up2]
    found = [layer for layer in layers if isinstance(layer, ConvNorm)]
    assert len(found) == N_NORMS
    return found


@dataclass(frozen=True, slots=True)
class OutputOnBlocks:
    """The output convolution on blocks of 4×4 pixels, at one strength.

    Parameters
    ----------
    weight : Tensor of shape (16, C, 12, 12)
    bias : Tensor of shape (16,)
    is_clipped : bool
        As the network's output is bounded: clipped, else a logistic function.
    """

    weight: Tensor
    bias: Tensor
    is_clipped: bool

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor, *, is_clipped: bool, device: torch.device, dtype: torch.dtype) -> Self:
        """Rewrite a convolution (1, C, 9, 9) for a device and a precision."""
        # The output is centred before it is rounded to 16 bits: half the step, a quarter of the error.
        shift = (bias - (_CLIP_CENTRE if is_clipped else 0.0)).repeat(16).to(device, dtype)
        kernel = space_to_depth(weight).detach().to(device, dtype).contiguous(memory_format=torch.channels_last)
        return cls(kernel, shift, is_clipped)

    def render(self, x: Tensor, plan: Plan) -> Tensor:
        """Maps on the last window of the plan → ``plan.region``, (H, W), float32, bounded to 0…255."""
        pad = output_padding(plan.region, plan.shape)
        if any(pad):
            x = F.pad(x, pad, mode="reflect")
        linear = F.pixel_shuffle(F.conv2d(x, self.weight, self.bias, stride=4), 4)[0, 0].float()
        if self.is_clipped:
            return (linear + _CLIP_CENTRE).clamp_(0.0, 255.0)
        return torch.sigmoid_(linear.div_(64.0)).mul_(255.0)


def space_to_depth(weight: Tensor) -> Tensor:
    """Weights (1, C, 9, 9) → (16, C, 12, 12): sixteen shifted copies, one per pixel of a 4×4 block."""
    return torch.cat([_shifted(weight, dy, dx) for dy in range(4) for dx in range(4)])


def _shifted(weight: Tensor, dy: int, dx: int) -> Tensor:
    """9×9 weights in a field of 12×12, moved down and to the right."""
    return F.pad(weight, (dx, 3 - dx, dy, 3 - dy))


def _on_blocks(weight: Tensor) -> Tensor:
    """Weights (C, 1, 9, 9) → (16·C, 16, 3, 3): C maps for each pixel of a 4×4 block, from 3×3 blocks of 16 pixels."""
    shifted = torch.stack([_shifted(weight, dy, dx) for dy in range(4) for dx in range(4)])
    flat = shifted.reshape(-1, 3, 4, 3, 4).permute(0, 2, 4, 1, 3).reshape(-1, 16, 3, 3)
    return flat.contiguous(memory_format=torch.channels_last)


def _convolve_blocks(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Padded grey image (1, 1, h + 8, w + 8) → (1, C, h, w), channels last."""
    height, width = x.shape[2] - 8, x.shape[3] - 8
    rows, columns = -(-height // 4), -(-width // 4)
    x = F.pad(x, (0, 4 * columns - width, 0, 4 * rows - height))
    blocks = x.reshape(rows + 2, 4, columns + 2, 4).permute(1, 3, 0, 2).reshape(1, 16, rows + 2, columns + 2)
    out = F.conv2d(blocks.contiguous(memory_format=torch.channels_last), weight, bias)
    return _from_blocks(out, 4)[:, :, :height, :width]


def _from_blocks(x: Tensor, side: int) -> Tensor:
    """Maps of (1, side²·C, h, w), C for each pixel of a block, → (1, C, side·h, side·w); channels last in and out."""
    rows, columns, n = x.shape[2], x.shape[3], x.shape[1] // side**2
    blocks = x.permute(0, 2, 3, 1).reshape(rows, columns, side, side, n).transpose(1, 2)
    return blocks.reshape(1, side * rows, side * columns, n).permute(0, 3, 1, 2)


def _clip(region: Region, shape: tuple[int, int]) -> Region:
    return Region(max(0, region.y0), min(shape[0], region.y1), max(0, region.x0), min(shape[1], region.x1))


def _grow(region: Region, by: int, shape: tuple[int, int]) -> Region:
    return _clip(Region(region.y0 - by, region.y1 + by, region.x0 - by, region.x1 + by), shape)


def _even(region: Region) -> Region:
    return Region(region.y0 // 2 * 2, -(-region.y1 // 2) * 2, region.x0 // 2 * 2, -(-region.x1 // 2) * 2)


def crop(x: Tensor, have: Region, want: Region) -> Tensor:
    """Window ``want`` of a map that covers ``have``."""
    if have == want:
        return x
    return x[..., want.y0 - have.y0 : want.y1 - have.y0, want.x0 - have.x0 : want.x1 - have.x0]
