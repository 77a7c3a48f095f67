"""The U-Net of CARE, Noise2Void, VoidSeg and StarDist: one body in 2-D or 3-D, with heads of any number of channels.

References
----------
.. [1] Weigert et al., Nat. Methods 15, 2018 (CARE): the network.
.. [2] Krull et al., CVPR 2019 (Noise2Void): with batch norm, depth 2, 32 maps.
.. [3] Höck et al., ECCV workshops 2022 (N2V2): blurred pooling, no skip at full resolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_cellenhance.core.errors import ParameterError

__all__ = ["BlurPool", "Body", "BodySettings", "CSBUNet", "as_scale", "transfer_body"]

_EPS = 1e-3
"""Of the batch norms, as in Keras."""
_MOMENTUM = 0.05
"""Of the running statistics. Keras has 0.01, which needs some 400 updates to arrive; trainings here may be shorter."""
_LEAST_SCALE = 1e-3
"""Smallest scale of the Laplace distribution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BodySettings:
    """Shape of the body.

    Parameters
    ----------
    n_in : int
        Channels of the input.
    depth : int
        Times that the resolution is halved.
    width : int
        Maps at full resolution; twice as many at each level below.
    kernel_px : int
        Side of a convolution kernel, odd.
    n_dims : 2 or 3
    has_norm : bool
        Batch norm after each convolution.
    top_skip : bool
        Join the maps of full resolution on the way up (N2V2 does not).
    pool : "max" or "blur"
        "blur" low-passes the maxima before every second one is taken (N2V2), which keeps checkerboards away.
    """

    n_in: int = 1
    depth: int = 2
    width: int = 32
    kernel_px: int = 3
    n_dims: Literal[2, 3] = 2
    has_norm: bool = True
    top_skip: bool = True
    pool: Literal["max", "blur"] = "max"

    def __post_init__(self) -> None:
        if min(self.n_in, self.depth, self.width) < 1:
            raise ParameterError(
                f"{self.n_in} channels, depth {self.depth}, {self.width} maps; expected 1 or more of each"
            )
        if self.kernel_px < 1 or self.kernel_px % 2 == 0:
            raise ParameterError(f"the kernel is {self.kernel_px} px wide; expected an odd number")
        if self.n_dims not in (2, 3) or self.pool not in ("max", "blur"):
            raise ParameterError(f"{self.n_dims} dimensions, pool {self.pool!r}; expected 2 or 3, 'max' or 'blur'")

    @property
    def grid_px(self) -> int:
        """Sides of an input are multiples of this."""
        return int(2**self.depth)

    @property
    def radius_px(self) -> int:
        """How far a pixel of the result sees: r·(6·2^d − 4) + 2^d − 1, and 2·(2^d − 1) more where pools blur."""
        blur = 2 * (self.grid_px - 1) if self.pool == "blur" else 0
        return (self.kernel_px // 2) * (6 * self.grid_px - 4) + self.grid_px - 1 + blur


class BlurPool(nn.Module):
    """Maxima of 2×2 neighbours at stride 1, low-passed by [1 2 1]/4 along each axis, every second one taken.

    The kernel is fixed; the edge is repeated.
    """

    kernel: Tensor

    def __init__(self, n_dims: int) -> None:
        super().__init__()
        line = torch.tensor([0.25, 0.5, 0.25])
        kernel = line
        for _ in range(n_dims - 1):
            kernel = kernel[..., None] * line
        self.n_dims = n_dims
        self.register_buffer("kernel", kernel[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, …) → the same at half the size."""
        n_channels = x.shape[1]
        pad_max, pad_blur = (0, 1) * self.n_dims, (1, 1) * self.n_dims
        kernel = self.kernel.to(x.dtype).expand(n_channels, *self.kernel.shape[1:])
        if self.n_dims == 2:
            x = F.max_pool2d(F.pad(x, pad_max, mode="replicate"), 2, stride=1)
            return F.conv2d(F.pad(x, pad_blur, mode="replicate"), kernel, stride=2, groups=n_channels)
        x = F.max_pool3d(F.pad(x, pad_max, mode="replicate"), 2, stride=1)
        return F.conv3d(F.pad(x, pad_blur, mode="replicate"), kernel, stride=2, groups=n_channels)


def _conv(n_dims: int, n_in: int, n_out: int, kernel_px: int) -> nn.Conv2d | nn.Conv3d:
    kind = nn.Conv2d if n_dims == 2 else nn.Conv3d
    conv = kind(n_in, n_out, kernel_px, padding=kernel_px // 2)
    nn.init.xavier_uniform_(conv.weight)
    nn.init.zeros_(conv.get_parameter("bias"))
    return conv


def _block(s: BodySettings, n_in: int, n_out: int) -> nn.Sequential:
    """Convolution, norm where there is one, ReLU."""
    layers: list[nn.Module] = [_conv(s.n_dims, n_in, n_out, s.kernel_px)]
    if s.has_norm:
        kind = nn.BatchNorm2d if s.n_dims == 2 else nn.BatchNorm3d
        layers.append(kind(n_out, eps=_EPS, momentum=_MOMENTUM))
    return nn.Sequential(*layers, nn.ReLU(inplace=True))


class Body(nn.Module):
    """Encoder and decoder: image → ``width`` maps of the same size.

    Level n < d: two blocks of f·2^n maps, kept as skip, then pooled. Middle: f·2^d, then f·2^(d−1) maps. Up: nearest
    ×2, joined with the skip, f·2^n, then f·2^max(0, n−1) maps.
    """

    def __init__(self, settings: BodySettings) -> None:
        super().__init__()
        s, f = settings, settings.width
        self.settings = settings
        widths = [f * 2**level for level in range(s.depth + 1)]
        self.down = nn.ModuleList(
            nn.Sequential(_block(s, widths[n - 1] if n else s.n_in, widths[n]), _block(s, widths[n], widths[n]))
            for n in range(s.depth)
        )
        kind = nn.MaxPool2d if s.n_dims == 2 else nn.MaxPool3d
        self.pool: nn.Module = BlurPool(s.n_dims) if s.pool == "blur" else kind(2)
        self.middle = nn.Sequential(
            _block(s, widths[s.depth - 1], widths[s.depth]), _block(s, widths[s.depth], widths[s.depth - 1])
        )
        self.up = nn.ModuleList(
            nn.Sequential(
                _block(s, widths[n] * (2 if n or s.top_skip else 1), widths[n]),
                _block(s, widths[n], widths[max(0, n - 1)]),
            )
            for n in reversed(range(s.depth))
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, ``n_in``, [Z,] Y, X), sides multiples of ``grid_px`` → (N, ``width``, …)."""
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = self.pool(x)
        x = self.middle(x)
        for n, block in zip(reversed(range(self.settings.depth)), self.up, strict=True):
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = block(torch.cat([x, skips[n]], dim=1) if n or self.settings.top_skip else x)
        return x


class CSBUNet(nn.Module):
    """Body and a 1×1 head.

    Parameters
    ----------
    n_out : int
        Channels of the result: 1 restores an image, 3 are the classes of VoidSeg, 4 are both.
    is_residual : bool
        Add the input (its first channel) to the result.
    is_probabilistic : bool
        A second head gives the scale of a Laplace distribution for each channel: softplus + 1e-3.
    **body
        Of :class:`BodySettings`.

    Raises
    ------
    ParameterError
        Settings out of range.
    """

    def __init__(
        self, *, n_out: int = 1, is_residual: bool = False, is_probabilistic: bool = False, **body: Any
    ) -> None:
        super().__init__()
        if n_out < 1:
            raise ParameterError(f"{n_out} channels were asked for; expected 1 or more")
        self.settings = BodySettings(**body)
        self.n_out, self.is_residual, self.is_probabilistic = n_out, is_residual, is_probabilistic
        self.body = Body(self.settings)
        self.head = _conv(self.settings.n_dims, self.settings.width, n_out, 1)
        self.scale_head = _conv(self.settings.n_dims, self.settings.width, n_out, 1) if is_probabilistic else None

    @property
    def architecture(self) -> dict[str, Any]:
        """Description for a model card."""
        s = self.settings
        return {
            "name": "csb-unet", "n_out": self.n_out, "is_residual": self.is_residual,
            "is_probabilistic": self.is_probabilistic, "n_in": s.n_in, "depth": s.depth, "width": s.width,
            "kernel_px": s.kernel_px, "n_dims": s.n_dims, "has_norm": s.has_norm, "top_skip": s.top_skip,
            "pool": s.pool,
        }  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Channels of the head for a batch (N, ``n_in``, [Z,] Y, X); with two heads, mean then scale along axis 1.

        Raises
        ------
        ParameterError
            Another number of axes, or sides that are no multiples of 2^depth.
        """
        self._check(x)
        maps: Tensor = self.body(x)
        result: Tensor = self.head(maps)
        if self.is_residual:
            result = result + x[:, :1]
        if self.scale_head is None:
            return result
        return torch.cat([result, as_scale(self.scale_head(maps))], dim=1)

    def _check(self, x: Tensor) -> None:
        s = self.settings
        if x.ndim != s.n_dims + 2 or x.shape[1] != s.n_in or any(side % s.grid_px for side in x.shape[2:]):
            raise ParameterError(
                f"the network was given {tuple(x.shape)}; expected (images, {s.n_in}, and {s.n_dims} sides that are "
                f"multiples of {s.grid_px})"
            )

    def to_channels_last(self) -> CSBUNet:
        """Lay the convolutions out for speed (in place)."""
        layout = torch.channels_last if self.settings.n_dims == 2 else torch.channels_last_3d
        self.to(memory_format=layout)  # type: ignore[call-overload]
        return self


def as_scale(x: Tensor) -> Tensor:
    """Output of the second head → scale of a Laplace distribution, positive."""
    return F.softplus(x) + _LEAST_SCALE


def transfer_body(network: CSBUNet, source: Mapping[str, Tensor]) -> None:
    """Take over every tensor of another network's body, running statistics included; heads stay as they are.

    Parameters
    ----------
    source : mapping of str to Tensor
        State dict of a :class:`CSBUNet` with the same body.

    Raises
    ------
    ParameterError
        The bodies differ.
    """
    body = {name.removeprefix("body."): tensor for name, tensor in source.items() if name.startswith("body.")}
    own = network.body.state_dict()
    differing = sorted(
        name for name in {*own, *body} if name not in own or name not in body or own[name].shape != body[name].shape
    )
    if differing:
        raise ParameterError(
            f"the two networks differ in {len(differing)} tensors of their bodies (first: {differing[0]}); "
            "train both with the same depth, width and pooling"
        )
    network.body.load_state_dict(body)
