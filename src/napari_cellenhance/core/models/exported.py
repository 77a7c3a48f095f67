"""Our networks as one function of a plane, ready to be written as TorchScript for other programs."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.models.aep import AEP
from napari_cellenhance.core.models.aep import GRID_PX as AEP_GRID_PX
from napari_cellenhance.core.models.csb_unet import CSBUNet
from napari_cellenhance.core.models.denoiser import DenoisingNetwork
from napari_cellenhance.core.models.nunet import ConvNorm, NUNet, StrengthHead, knot_weights
from napari_cellenhance.core.models.nunet_blend import BlendedNUNet
from napari_cellenhance.core.models.reflect_pad import reflect_pad
from napari_cellenhance.core.models.semantic_unet import GRID_PX as SEMANTIC_GRID_PX
from napari_cellenhance.core.models.semantic_unet import RADIUS_PX as SEMANTIC_RADIUS_PX
from napari_cellenhance.core.models.semantic_unet import SemanticUNet
from napari_cellenhance.core.models.voidseg import VoidSegNetwork

__all__ = ["PlaneFunction", "by_99th_percentile", "plane_function"]

_NUNET_SCALE, _NUNET_GRID_PX, _NUNET_RADIUS_PX = 255.0, 4, 96
"""Sides of a NU-Net's input are multiples of the grid; a pixel of a frozen one sees less far than the radius."""


@dataclass(frozen=True, slots=True)
class PlaneFunction:
    """What is exported.

    Parameters
    ----------
    module : Module
        Normalised planes (1, 1, Y, X) → (1, C, Y, X).
    grid_px, halo_px : int
        Sides of the input are multiples of the grid; context that a tile needs. 0 where a pixel depends on all others.
    channels : tuple of str
        Names of the output's channels.
    """

    module: nn.Module
    grid_px: int
    halo_px: int
    channels: tuple[str, ...]

    @property
    def least_px(self) -> int:
        """Smallest side that is offered: with less there would be little but padding."""
        return -(-max(64, 2 * self.halo_px + 1) // self.grid_px) * self.grid_px

    def run(self, plane: NDArray[np.float32]) -> NDArray[np.float32]:
        """Channels (C, Y, X) of a normalised plane with sides on the grid."""
        with torch.inference_mode():
            found: NDArray[np.float32] = self.module(torch.from_numpy(plane)[None, None])[0].float().numpy()
        return found

    def torchscript(self) -> bytes:
        """The function as a TorchScript file that takes planes of any size on the grid."""
        example = torch.rand(1, 1, self.least_px, self.least_px, generator=torch.Generator().manual_seed(0))
        buffer = io.BytesIO()
        with warnings.catch_warnings(), torch.no_grad():
            # Sizes are checked in Python on the way, which the trace rightly leaves out; and torch plans a successor.
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(self.module, example, check_trace=False)  # type: ignore[no-untyped-call]
            torch.jit.save(traced, buffer)
        return buffer.getvalue()


class _Function(nn.Module):
    """A network and what comes before and after it."""

    def __init__(self, network: nn.Module, call: Callable[[Any, Tensor], Tensor], prepare: Any = None) -> None:
        super().__init__()
        self.network, self._call, self._prepare = network, call, prepare

    def forward(self, x: Tensor) -> Tensor:
        """Normalised planes (1, 1, Y, X) → (1, C, Y, X)."""
        return self._call(self.network, x if self._prepare is None else self._prepare(x))


def _by_99th_percentile(x: Tensor) -> Tensor:
    flat = x.flatten(1)
    position = 0.99 * float(flat.shape[1] - 1)
    below = int(position)
    share = position - float(below)
    white = flat.kthvalue(below + 1, dim=1)[0].double()
    if share > 0.0:
        white = white * (1.0 - share) + flat.kthvalue(below + 2, dim=1)[0].double() * share
    white = white.reshape(-1, 1, 1, 1)
    scaled = (x.double() / white).float()
    return torch.where(white > 0.0, scaled, torch.zeros_like(scaled))


def _on_grid(x: Tensor, grid_px: int) -> Tensor:
    bottom, right = (grid_px - x.shape[2] % grid_px) % grid_px, (grid_px - x.shape[3] % grid_px) % grid_px
    return F.pad(x, [0, right, 0, bottom], mode="reflect")


# Compiled into an export, not traced, so that ranks and sides are those of the plane at hand.
by_99th_percentile: Callable[[Tensor], Tensor] = torch.jit.script_if_tracing(_by_99th_percentile)  # type: ignore[no-untyped-call]
"""Planes (N, C, Y, X) by the 99th percentile of each; zeros where it is not above 0, as our own normaliser gives."""
_pad_to_grid: Callable[[Tensor, int], Tensor] = torch.jit.script_if_tracing(_on_grid)  # type: ignore[no-untyped-call]


class _AnySize(nn.Module):
    """Scaled by the whole plane, then padded for a network, whose result is cropped back."""

    def __init__(self, function: nn.Module, grid_px: int) -> None:
        super().__init__()
        self.function, self.grid_px = function, grid_px

    def forward(self, x: Tensor) -> Tensor:
        """Planes (N, 1, Y, X) in their own grey values → (N, C, Y, X)."""
        out: Tensor = self.function(_pad_to_grid(by_99th_percentile(x), self.grid_px))
        return out[..., : x.shape[2], : x.shape[3]]


def plane_function(
    module: nn.Module, *, strength: float = 1.0, classes: Mapping[int, str] | None = None, before: Any = None
) -> PlaneFunction:
    """Function of a trained network; the network is not copied.

    Parameters
    ----------
    module : Module
    strength : float
        Of a NU-Net: where its slider stands. Of others: the share of the result, which is left to who uses it.
    classes : mapping of int to str, optional
        Names of the classes of a segmenting network, by increasing value.
    before : callable, optional
        Applied to the input first: scalings that have no name in packages. With :func:`by_99th_percentile` a pixel
        depends on all others; so planes are padded after it, in the function, which then takes sides off the grid too.

    Raises
    ------
    ParameterError
        A network of volumes or of several channels, or one whose result is no image.
    """
    names = tuple((classes or {}).values())
    is_by_plane = before is by_99th_percentile
    before = None if is_by_plane else before
    match module:
        case NUNet() | BlendedNUNet():
            is_local = isinstance(module, NUNet) and module.norm == "frozen"
            fixed = _FixedNUNet(module, strength) if isinstance(module, NUNet) else _FixedBlend(module, strength)
            halo = _NUNET_RADIUS_PX if is_local else 0
            made = PlaneFunction(_Function(fixed, _as_it_is, before), _NUNET_GRID_PX, halo, ("enhanced",))
        case DenoisingNetwork():
            _check(module.n_dims, module.n_channels)
            call = _denoised_by_image if module.statistics == "image" else _denoised
            halo = 0 if module.statistics == "image" else module.radius_px
            made = PlaneFunction(_Function(module, call, before), module.grid_px, halo, ("denoised",))
        case CSBUNet():
            settings = module.settings
            _check(settings.n_dims, settings.n_in)
            names = ("restored", "scale") if module.is_probabilistic else ("restored",)
            made = PlaneFunction(_Function(module, _as_it_is, before), settings.grid_px, settings.radius_px, names)
        case SemanticUNet():
            _check(2, module.n_in)
            names = ("wanted", *(f"layer {i + 2}" for i in range(module.n_out - 1)))
            made = PlaneFunction(_Function(module, _as_it_is, before), SEMANTIC_GRID_PX, SEMANTIC_RADIUS_PX, names)
        case AEP():
            made = PlaneFunction(_Function(module, _aep, before), AEP_GRID_PX, module.radius_px, names)
        case VoidSegNetwork():
            has_statistics = module.denoiser is not None and module.denoiser.statistics == "image"
            extra = 0 if module.denoiser is None else module.denoiser.radius_px
            halo = 0 if has_statistics else module.unet.settings.radius_px + extra
            grid = max(module.unet.settings.grid_px, 1 if module.denoiser is None else module.denoiser.grid_px)
            made = PlaneFunction(_Function(module, _voidseg, before), grid, halo, names)
        case _:
            raise ParameterError(
                "this kind of model gives stars or other things that are no image; it cannot be exported as a package"
            )
    made.module.eval()
    if is_by_plane:
        return PlaneFunction(_AnySize(made.module, made.grid_px).eval(), 1, 0, made.channels)
    return made


def _check(n_dims: int, n_channels: int) -> None:
    if n_dims != 2 or n_channels != 1:
        raise ParameterError(
            f"the model takes {n_channels} channel(s) of {n_dims} dimensions; only models of single planes of one "
            "channel can be exported as a package"
        )


class _InstanceNorm(nn.Module):
    """As the network's own norm, written so that a trace holds for batches of any size."""

    def __init__(self, norm: nn.InstanceNorm2d) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        """Each sample and channel by its own mean and variance."""
        return F.instance_norm(x, None, None, self.weight, self.bias, use_input_stats=True, eps=self.eps)


class _FixedNUNet(nn.Module):
    """A NU-Net with its slider at one place: parameters that depend on the strength become constants."""

    def __init__(self, network: NUNet, strength: float) -> None:
        super().__init__()
        own = copy.deepcopy(network)
        for layer in [module for module in own.modules() if isinstance(module, ConvNorm)]:
            if isinstance(layer.norm, nn.InstanceNorm2d):
                layer.norm = _InstanceNorm(layer.norm)  # type: ignore[assignment]
        self.own = own
        self.is_conditioned = isinstance(own.head, StrengthHead)
        if isinstance(own.head, StrengthHead):
            for name, part in zip(("gamma", "beta", "weight", "bias"), own.head.at(strength), strict=True):
                self.register_buffer(name, part.detach())
        if own.early is not None:
            for name, part in zip(("early_gamma", "early_beta"), own.early.at(strength), strict=True):
                self.register_buffer(name, part.detach()[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 1, Y, X) to the same in [0, 1]."""
        features = self.own.features(x * _NUNET_SCALE)
        if not self.is_conditioned:
            return (self.own.render(features) / _NUNET_SCALE).clamp(0.0, 1.0)
        own: Any = self
        if self.own.early is not None:
            features = self.own.up2(F.relu(features * own.early_gamma + own.early_beta))
        shaped = F.relu(features * own.gamma[:, None, None] + own.beta[:, None, None])
        linear = F.conv2d(reflect_pad(shaped, self.own.kernel_ends // 2), own.weight, own.bias)
        return (self.own.bound(linear) / _NUNET_SCALE).clamp(0.0, 1.0)


class _FixedBlend(nn.Module):
    """Of several networks the one or two that a strength lies between."""

    def __init__(self, network: BlendedNUNet, strength: float) -> None:
        super().__init__()
        every = zip(network.networks, knot_weights(strength, network.knots), strict=True)
        used = [(_FixedNUNet(one, strength), weight) for one, weight in every if weight and isinstance(one, NUNet)]
        self.networks = nn.ModuleList([one for one, _ in used])
        self.weights = [weight for _, weight in used]

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 1, Y, X) to the same in [0, 1]."""
        blended: Tensor = sum(w * one(x) for w, one in zip(self.weights, self.networks, strict=True))
        return blended


def _as_it_is(network: Any, x: Tensor) -> Tensor:
    out: Tensor = network(x)
    return out


def _denoised(network: DenoisingNetwork, x: Tensor) -> Tensor:
    out: Tensor = network((x - network.mean) / network.std) * network.std + network.mean
    return out


def _denoised_by_image(network: DenoisingNetwork, x: Tensor) -> Tensor:
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    std = (x - mean).square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    out: Tensor = network((x - mean) / std) * std + mean
    return out


def _aep(network: AEP, x: Tensor) -> Tensor:
    out: Tensor = network(x.clamp(0.0, 1.0)).logits.softmax(dim=1)
    return out


def _voidseg(network: VoidSegNetwork, x: Tensor) -> Tensor:
    if network.denoiser is not None:
        is_own = network.denoiser.statistics == "image"
        x = _denoised_by_image(network.denoiser, x) if is_own else _denoised(network.denoiser, x)
    out: Tensor = network((x - network.mean) / network.std).softmax(dim=1)
    return out
