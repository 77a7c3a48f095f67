"""NU-Net for inference: the same function in fewer milliseconds, on any window of a plane.

Three rewrites are exact in real arithmetic:

* nearest ×2 followed by a 3×3 convolution is a 4×4 transposed convolution of stride 2;
  the reflection padding of the up-sampled map is edge replication of the small one;
* the 9×9 output convolution is a stride-4 convolution to 16 maps and a pixel shuffle;
* with its statistics given, an instance norm is a batch norm in inference mode.

In bf16 three places keep float32, because they make most of its error and little of the
work: the encoder (its convolutions, and its maps up to the last one), the sums of the residual
blocks, and all norm parameters.

A window is computed with true context: layers shrink towards it (receptive field 54 px),
and reflection happens only where the plane really ends. Thus a window equals the same crop
of the whole plane, given equal statistics.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_cellenhance.core.models.nunet import NORM_EPS, ConvNorm, NUNet, StrengthHead, UpConvNorm
from napari_cellenhance.core.tiling import Region

__all__ = ["HALO_PX", "LAST", "N_NORMS", "FastNUNet", "Layer", "Plan"]

N_NORMS = 15
LAST = N_NORMS - 1
HALO_PX = 56
"""Context that determines a pixel: radius 54 (4+1+2+40+2+1+4), rounded up to the stride of 4."""

_LEVELS = (0, 1, *[2] * 11, 1, 0)
"""Scale of each normalised map: a map of level l has 1/2^l of the plane's side."""

_N_EXACT_WEIGHTS, _N_EXACT_MAPS = 3, 2
"""First convolutions, and raw maps, that stay float32 in bf16: a tenth of the error for a twentieth of the time."""

_HEAD_RADIUS = 4
_CLIP_CENTRE = 127.5

Normalise = Callable[[int, Tensor], Tensor]
"""``(norm index, raw convolution output) → normalised`` map, affine included."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One convolution of the network, without its norm, on a window of a plane."""

    weight: Tensor
    bias: Tensor
    gamma: Tensor
    beta: Tensor
    radius: int
    stride: int
    is_up: bool

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
                for index, conv_norm in enumerate(_in_order(module))
            )
            if dtype != torch.float32:
                self.layers = _centred(self.layers, FastNUNet(module, device, torch.float32))
            self.is_conditioned = isinstance(module.head, StrengthHead)
            self._head = _copy_of(module.head)
        self._output = module.output

    def _layer(self, source: ConvNorm, dtype: torch.dtype) -> Layer:
        is_up = isinstance(source, UpConvNorm)
        conv, norm = source.conv, source.norm
        weight = _fold_nearest(conv.weight) if is_up else conv.weight
        n_out = conv.out_channels
        bias = conv.bias if conv.bias is not None else weight.new_zeros(n_out)
        gamma = norm.weight if norm.affine else weight.new_ones(n_out)
        beta = norm.bias if norm.affine else weight.new_zeros(n_out)
        return Layer(
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
        """Windows to compute, from the output back to the input.

        Parameters
        ----------
        region : Region
            Of the padded plane; grown to the 4-px grid.
        shape : tuple of int
            Of the padded plane; multiples of 4.
        """
        aligned = Region(region.y0 // 4 * 4, -(-region.y1 // 4) * 4, region.x0 // 4 * 4, -(-region.x1 // 4) * 4)
        windows: dict[int, Region] = {LAST: _grow(aligned, _HEAD_RADIUS, shape)}
        windows[13] = _even(self.layers[LAST].need(windows[LAST], map_shape(shape, 13)))
        current = self.layers[13].need(windows[13], map_shape(shape, 12))
        for second in range(12, 2, -2):
            windows[second] = current
            windows[second - 1] = self.layers[second].need(current, map_shape(shape, 2))
            current = self.layers[second - 1].need(windows[second - 1], map_shape(shape, 2))
        windows[2] = current
        windows[1] = self.layers[2].need(windows[2], map_shape(shape, 1))
        windows[0] = self.layers[1].need(windows[1], shape)
        source = self.layers[0].need(windows[0], shape)
        return Plan(aligned, source, tuple(windows[i] for i in range(N_NORMS)), shape)

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
            x = _crop(x, plan.windows[first - 1], plan.windows[first + 1]).add_(second)
        window = self.layers[13].need(plan.windows[13], plan.map_shape(12))
        x = _crop(x, plan.windows[12], window)
        x = normalise(13, self._planned(13, x, plan)).relu_()
        window = self.layers[LAST].need(plan.windows[LAST], plan.map_shape(13))
        return self._planned(LAST, _crop(x, plan.windows[13], window), plan)

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
        gamma, beta, weight, bias = self._head_at(strength)
        x = F.batch_norm(raw, mean, var, gamma, beta, training=False, momentum=0.0, eps=NORM_EPS).relu_()
        region, (height, width) = plan.region, plan.shape
        r = _HEAD_RADIUS
        pad = (
            max(0, r - region.x0),
            max(0, region.x1 + r - width),
            max(0, r - region.y0),
            max(0, region.y1 + r - height),
        )
        if any(pad):
            x = F.pad(x, pad, mode="reflect")
        # The output is centred before it is rounded to bf16: half the step, a quarter of the error.
        centre = _CLIP_CENTRE if self._output == "clip" else 0.0
        kernel = self._weight(_space_to_depth(weight), self.dtype)
        blocks = F.conv2d(x, kernel, (bias - centre).repeat(16).to(self.dtype), stride=4)
        linear = F.pixel_shuffle(blocks, 4)[0, 0].float() + centre
        if self._output == "clip":
            return linear.clamp_(0.0, 255.0)
        return 255.0 * torch.sigmoid(linear / 64.0)

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


def _centred(layers: tuple[Layer, ...], reference: FastNUNet) -> tuple[Layer, ...]:
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


def _in_order(module: NUNet) -> list[ConvNorm]:
    layers: list[nn.Module] = [*module.enc]
    for block in module.trunk:
        layers += [*block.children()]
    layers += [module.up1, module.up2]
    found = [layer for layer in layers if isinstance(layer, ConvNorm)]
    assert len(found) == N_NORMS
    return found


def _copy_of(head: nn.Conv2d | StrengthHead) -> nn.Conv2d | StrengthHead:
    # Kept in float32 on the CPU: a few thousand numbers, mixed per strength.
    return copy.deepcopy(head).float().cpu().requires_grad_(False)


def _fold_nearest(weight: Tensor) -> Tensor:
    """3×3 weights (out, in, 3, 3) after nearest ×2 → 4×4 transposed weights (in, out, 4, 4).

    Along one axis an even output sees w0·x[i−1] + (w1+w2)·x[i], an odd one
    (w0+w1)·x[i] + w2·x[i+1].
    """
    for axis in (2, 3):
        w0, w1, w2 = weight.unbind(axis)
        weight = torch.stack([w2, w1 + w2, w0 + w1, w0], dim=axis)
    return weight.transpose(0, 1)


def _space_to_depth(weight: Tensor) -> Tensor:
    """Weights (1, C, 9, 9) → (16, C, 12, 12): sixteen shifted copies, one per pixel of a 4×4 block."""
    out = weight.new_zeros(16, weight.shape[1], 12, 12)
    for dy in range(4):
        for dx in range(4):
            out[4 * dy + dx, :, dy : dy + 9, dx : dx + 9] = weight[0]
    return out


def _clip(region: Region, shape: tuple[int, int]) -> Region:
    return Region(max(0, region.y0), min(shape[0], region.y1), max(0, region.x0), min(shape[1], region.x1))


def _grow(region: Region, by: int, shape: tuple[int, int]) -> Region:
    return _clip(Region(region.y0 - by, region.y1 + by, region.x0 - by, region.x1 + by), shape)


def _even(region: Region) -> Region:
    return Region(region.y0 // 2 * 2, -(-region.y1 // 2) * 2, region.x0 // 2 * 2, -(-region.x1 // 2) * 2)


def _crop(x: Tensor, have: Region, want: Region) -> Tensor:
    if have == want:
        return x
    return x[..., want.y0 - have.y0 : want.y1 - have.y0, want.x0 - have.x0 : want.x1 - have.x0]
