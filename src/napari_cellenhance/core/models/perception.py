"""Frozen perceptual networks whose features the NU-Net losses compare.

References
----------
.. [1] Lim et al., "NU-Net", 2023, Sec. 2: VGG-19 taps relu2_2, relu3_4, relu4_4, relu5_4.
.. [2] Wang et al., "Collaborative distillation for ultra-resolution universal style
   transfer", CVPR 2020: VGG-19 distilled to a quarter of its channels, up to relu5_1.
.. [3] Iandola et al., "SqueezeNet", 2016, version 1.1: 3×3 stride 2, then eight fire modules.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_cellenhance.core.errors import ParameterError

__all__ = [
    "Perception",
    "PerceptionSpec",
    "SqueezePerception",
    "distilled_vgg19",
    "perception_from_state",
    "random_vgg",
    "squeezenet",
    "vgg19",
]

_PLAN = [
    "11",
    "12",
    "P",
    "21",
    "22",
    "P",
    "31",
    "32",
    "33",
    "34",
    "P",
    "41",
    "42",
    "43",
    "44",
    "P",
    "51",
    "52",
    "53",
    "54",
]


@dataclass(frozen=True, slots=True)
class PerceptionSpec:
    """Which layers are tapped, and how the convolutions pad.

    Parameters
    ----------
    id : str
        Names the network in checkpoints and style banks; Gram matrices of two ids never mix.
    taps : tuple of str
        Layers whose rectified output is returned, e.g. ``("22", "34", "44", "51")``.
    padding : "reflect" or "zeros"
        Of the distilled network, and of torchvision's.
    """

    id: str
    taps: tuple[str, ...]
    padding: Literal["zeros", "reflect"]


class Perception(nn.Module):
    """VGG-like stack of 3×3 convolutions, frozen, with 2×2 max-pooling.

    The grey input and the colour pre-processing of the original (repeat to RGB, then an
    affine map) are folded into the first convolution; with reflection padding that is exact.
    """

    def __init__(self, spec: PerceptionSpec, convolutions: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.spec = spec
        last = _PLAN.index(spec.taps[-1])
        self.plan = tuple(_PLAN[: last + 1])
        self.convs = nn.ModuleDict()
        for name in self.plan:
            if name == "P":
                continue
            weight, bias = convolutions[name]
            conv = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1, padding_mode=spec.padding, bias=True)
            conv.weight.data.copy_(weight)
            assert conv.bias is not None
            conv.bias.data.copy_(bias)
            self.convs[name] = conv
        self.requires_grad_(False).eval()

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features at each tap.

        Parameters
        ----------
        image : Tensor of shape (N, 1, H, W)
            Grey values 0…255.

        Returns
        -------
        list of Tensor
            One per tap, shape (N, C, H/2^k, W/2^k).
        """
        x, features = image / 255.0, []
        for name in self.plan:
            if name == "P":
                x = F.max_pool2d(x, 2)
                continue
            x = F.relu(self.convs[name](x))
            if name in self.spec.taps:
                features.append(x)
        return features


_SQUEEZE_POOLS = (2, 5, 8)
_SQUEEZE_FIRES = (3, 4, 6, 7, 9, 10, 11, 12)


class SqueezePerception(Perception):
    """SqueezeNet 1.1 up to its last fire module, frozen; the taps lie before its pools and at the end ([3]_).

    Features of 64, 128, 256 and 512 channels at 1/2, 1/4, 1/8 and 1/16 of the resolution.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        nn.Module.__init__(self)
        self.spec = PerceptionSpec("squeezenet1.1", ("2", "5", "8", "12"), "zeros")
        self.convs = nn.ModuleDict()
        for name in _squeeze_layers():
            weight, bias = state[f"features.{name}.weight"].float(), state[f"features.{name}.bias"].float()
            if name == "0":
                # Unpadded, so that folding the colours into it is exact.
                mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
                weight, bias = _fold_grey_input(weight, bias, torch.diag(1 / std), -mean / std)
            stride, size = (2 if name == "0" else 1), weight.shape[2]
            padding = 1 if name.endswith("expand3x3") else 0
            conv = nn.Conv2d(weight.shape[1], weight.shape[0], size, stride, padding)
            conv.weight.data.copy_(weight)
            assert conv.bias is not None
            conv.bias.data.copy_(bias)
            self.convs[name.replace(".", "_")] = conv
        self.requires_grad_(False).eval()

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features at each tap, as of :class:`Perception`."""
        x, features = F.relu(self.convs["0"](image / 255.0)), []
        for i in range(2, 13):
            if i in _SQUEEZE_POOLS:
                features.append(x)
                x = F.max_pool2d(x, 3, 2, ceil_mode=True)
            else:
                x = F.relu(self.convs[f"{i}_squeeze"](x))
                expanded = [self.convs[f"{i}_expand{size}"](x) for size in ("1x1", "3x3")]
                x = F.relu(torch.cat(expanded, dim=1))
        return [*features, x]


def _squeeze_layers() -> list[str]:
    parts = ("squeeze", "expand1x1", "expand3x3")
    return ["0", *(f"{fire}.{part}" for fire in _SQUEEZE_FIRES for part in parts)]


def squeezenet(state: Mapping[str, Tensor]) -> Perception:
    """SqueezeNet 1.1 from a torchvision state dict (``features.0.weight``, ``features.3.squeeze.weight`` …).

    Raises
    ------
    ParameterError
        Keys are missing: another network, or a damaged file.
    """
    missing = [name for name in _squeeze_layers() if f"features.{name}.weight" not in state]
    if missing:
        raise ParameterError(
            f"the perceptual network lacks the layers {missing}; expected torchvision's SqueezeNet 1.1"
        )
    return SqueezePerception(state)


def perception_from_state(state: Mapping[str, Tensor]) -> Perception:
    """Whichever of the known networks the keys belong to: SqueezeNet 1.1, VGG-19 or the distilled VGG-19.

    Raises
    ------
    ParameterError
        None of them.
    """
    if "features.3.squeeze.weight" in state:
        return squeezenet(state)
    if "features.0.weight" in state:
        return vgg19(state)
    if "conv0.weight" in state:
        return distilled_vgg19(state)
    raise ParameterError(
        f"the perceptual network has the layers {sorted(state)[:3]} …; expected SqueezeNet 1.1 or VGG-19 as "
        "torchvision names them, or the distilled VGG-19 encoder"
    )


def _fold_grey_input(weight: Tensor, bias: Tensor, colour_weight: Tensor, colour_bias: Tensor) -> tuple[Tensor, Tensor]:
    """Fold ``rgb = colour_weight·(g, g, g) + colour_bias`` into a convolution on grey ``g``."""
    gain = colour_weight.sum(dim=1)
    grey = torch.einsum("ochw,c->ohw", weight, gain).unsqueeze(1)
    return grey, bias + torch.einsum("ochw,c->o", weight, colour_bias)


def distilled_vgg19(state: Mapping[str, Tensor]) -> Perception:
    """Quarter-width VGG-19 of [2]_ from its state dict (keys ``conv0.weight``, ``conv11.weight`` …).

    Raises
    ------
    ParameterError
        Keys are missing: another network, or a damaged file.
    """
    spec = PerceptionSpec("distilled-vgg19-16x", ("22", "34", "44", "51"), "reflect")
    names = [n for n in _PLAN[: _PLAN.index("51") + 1] if n != "P"]
    missing = [n for n in ("0", *names) if f"conv{n}.weight" not in state]
    if missing:
        raise ParameterError(
            f"the perceptual network lacks the layers {missing}; expected the distilled VGG-19 encoder with "
            "conv0 and conv11 … conv51"
        )
    convolutions = {n: (state[f"conv{n}.weight"].float(), state[f"conv{n}.bias"].float()) for n in names}
    colour = state["conv0.weight"].float()[:, :, 0, 0]
    convolutions["11"] = _fold_grey_input(*convolutions["11"], colour, state["conv0.bias"].float())
    return Perception(spec, convolutions)


def vgg19(state: Mapping[str, Tensor]) -> Perception:
    """Full VGG-19 from a torchvision state dict (``features.N.weight``), taps of [1]_.

    torchvision pads with zeros *after* the colour normalisation, so folding the colours into the
    first layer shifts its bias at the 1-px border only.
    """
    spec = PerceptionSpec("torchvision-vgg19", ("22", "34", "44", "54"), "zeros")
    convolutions, index = {}, 0
    for name in _PLAN:
        if name != "P":
            key = f"features.{index}"
            if f"{key}.weight" not in state:
                raise ParameterError(f"the perceptual network lacks {key}.weight; expected torchvision's VGG-19")
            convolutions[name] = (state[f"{key}.weight"].float(), state[f"{key}.bias"].float())
            index += 1
        index += 1
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    convolutions["11"] = _fold_grey_input(*convolutions["11"], torch.diag(1 / std), -mean / std)
    return Perception(spec, convolutions)


def random_vgg(seed: int, widths: tuple[int, ...] = (8, 16, 32, 64, 64)) -> Perception:
    """Untrained VGG-like network (He-normal, zero bias): a test double, never for shipped weights."""
    generator = torch.Generator().manual_seed(seed)
    convolutions, n_in = {}, 1
    for name in _PLAN[: _PLAN.index("51") + 1]:
        if name == "P":
            continue
        n_out = widths[int(name[0]) - 1]
        weight = torch.randn(n_out, n_in, 3, 3, generator=generator) * math.sqrt(2.0 / (9 * n_in))
        convolutions[name] = (weight, torch.zeros(n_out))
        n_in = n_out
    return Perception(PerceptionSpec(f"random-vgg-{seed}", ("22", "34", "44", "51"), "reflect"), convolutions)
