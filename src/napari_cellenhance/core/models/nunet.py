"""NU-Net: the residual image-to-image network of Lim et al. (2023).

Published, and with two departures that can be switched on one by one: norms with frozen statistics instead of
instance norms, and parameters that depend on the strength.

References
----------
.. [1] Lim et al., "NU-Net: a self-supervised smart filter for enhancing blobs in
   bioimages", BioImage Computing workshop at ICCV 2023, Sec. 2 (network), Eq. 3 (``w``).
.. [2] Babaeizadeh & Ghiasi, "Adjustable real-time style transfer", 2019: parameters of
   the norms are a function of the loss weight, sampled at random in training.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.models.reflect_pad import reflect_pad

__all__ = [
    "ConvNorm",
    "KnotAffine",
    "NUNet",
    "ResidualBlock",
    "StrengthHead",
    "UpConvNorm",
    "fold_nearest",
    "knot_weights",
]

NORM_EPS = 1e-5
NORM_MOMENTUM = 0.02
"""How fast the statistics of a frozen norm follow the batches while it is trained."""

NormKind = Literal["instance", "frozen"]
Conditioning = Literal["none", "head", "decoder"]


def _norm(kind: NormKind, n: int, *, affine: bool = True) -> nn.InstanceNorm2d | nn.BatchNorm2d:
    if kind == "instance":
        return nn.InstanceNorm2d(n, eps=NORM_EPS, affine=affine)
    return nn.BatchNorm2d(n, eps=NORM_EPS, affine=affine, momentum=NORM_MOMENTUM)


class ConvNorm(nn.Module):
    """Reflection padding, convolution with bias, affine norm; no activation."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int = 1, *, norm: NormKind = "instance") -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, kernel, stride)
        self.norm = _norm(norm, n_out)
        self.pad = kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, n_in, H, W)`` to ``(N, n_out, ⌈H/stride⌉, ⌈W/stride⌉)``."""
        raw = self.convolve(x)
        if isinstance(self.norm, nn.InstanceNorm2d):
            return _instance_norm(raw, self.norm)
        normalised: Tensor = self.norm(raw)
        return normalised

    def convolve(self, x: Tensor) -> Tensor:
        """Pad and convolve only: what the norm's statistics are measured on."""
        out: Tensor = self.conv(reflect_pad(x, self.pad))
        return out


class UpConvNorm(ConvNorm):
    """Nearest ×2 up-sampling before :class:`ConvNorm`."""

    def __init__(self, n_in: int, n_out: int, *, norm: NormKind = "instance") -> None:
        super().__init__(n_in, n_out, kernel=3, norm=norm)

    def convolve(self, x: Tensor) -> Tensor:
        """Up-sample, pad and convolve; in training by one transposed convolution, which is equal and cheaper."""
        if self.training:
            edged = F.pad(x, (1,) * 4, mode="replicate")
            return F.conv_transpose2d(edged, fold_nearest(self.conv.weight), self.conv.bias, stride=2, padding=3)
        return super().convolve(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def fold_nearest(weight: Tensor) -> Tensor:
    """3×3 weights (out, in, 3, 3) after nearest ×2 → 4×4 transposed weights (in, out, 4, 4).

    Along one axis an even output sees w0·x[i−1] + (w1+w2)·x[i], an odd one
    (w0+w1)·x[i] + w2·x[i+1].
    """
    for axis in (2, 3):
        w0, w1, w2 = weight.unbind(axis)
        weight = torch.stack([w2, w1 + w2, w0 + w1, w0], dim=axis)
    return weight.transpose(0, 1)


class ResidualBlock(nn.Module):
    """conv3-norm-ReLU-conv3-norm plus the input, no activation after the sum."""

    def __init__(self, n_channels: int, *, norm: NormKind = "instance") -> None:
        super().__init__()
        self.first = ConvNorm(n_channels, n_channels, 3, norm=norm)
        self.second = ConvNorm(n_channels, n_channels, 3, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape in and out."""
        out: Tensor = self.second(F.relu(self.first(x)))
        return x + out


@dataclass(frozen=True, slots=True)
class _Bracket:
    low: int
    high: int
    t: float


def knot_weights(strength: float, knots: tuple[float, ...]) -> list[float]:
    """Piecewise-linear weights of each knot: ≥ 0, sum 1, clamped outside (METHODS T-W1).

    >>> knot_weights(2.5, (0.0, 5.0, 10.0))
    [0.5, 0.5, 0.0]
    """
    bracket = _bracket(strength, knots)
    weights = [0.0] * len(knots)
    weights[bracket.low] += 1.0 - bracket.t
    weights[bracket.high] += bracket.t
    return weights


def _bracket(strength: float, knots: tuple[float, ...]) -> _Bracket:
    if strength <= knots[0]:
        return _Bracket(0, 0, 0.0)
    for i, (low, high) in enumerate(pairwise(knots)):
        if strength <= high:
            return _Bracket(i, i + 1, (strength - low) / (high - low))
    return _Bracket(len(knots) - 1, len(knots) - 1, 0.0)


class KnotAffine(nn.Module):
    """Scale and shift per channel, piecewise linear in ``w``: the affine of a norm that depends on the strength."""

    def __init__(self, n_channels: int, knots: tuple[float, ...]) -> None:
        super().__init__()
        self.knots = knots
        self.gamma = nn.Parameter(torch.ones(len(knots), n_channels))
        self.beta = nn.Parameter(torch.zeros(len(knots), n_channels))

    def at(self, strength: float) -> tuple[Tensor, Tensor]:
        """γ and β, each of shape (C,), at one strength."""
        mix = self.gamma.new_tensor(knot_weights(strength, self.knots))
        return mix @ self.gamma, mix @ self.beta

    def forward(self, normalised: Tensor, strengths: Tensor) -> Tensor:
        """Scale and shift a map of shape (N, C, H, W) by one strength per sample."""
        mix = normalised.new_tensor([knot_weights(float(w), self.knots) for w in strengths])
        gamma, beta = mix @ self.gamma.to(mix.dtype), mix @ self.beta.to(mix.dtype)
        return normalised * gamma[:, :, None, None] + beta[:, :, None, None]


class StrengthHead(nn.Module):
    """The part of a strength-conditioned NU-Net that depends on ``w``.

    Holds, per knot, the affine of norm #10 (γ, β of 32 channels) and the output
    convolution #11; in between they are linear in ``w``. Everything before it, and thus
    every instance-norm statistic, is independent of ``w``.
    """

    def __init__(self, n_in: int, kernel: int, knots: tuple[float, ...]) -> None:
        super().__init__()
        self.knots = knots
        self.pad = kernel // 2
        template = nn.Conv2d(n_in, 1, kernel)
        assert template.bias is not None
        self.gamma = nn.Parameter(torch.ones(len(knots), n_in))
        self.beta = nn.Parameter(torch.zeros(len(knots), n_in))
        # Every knot starts from the same convolution: at first the strength changes nothing.
        self.weight = nn.Parameter(template.weight.detach().repeat(len(knots), 1, 1, 1))
        self.bias = nn.Parameter(template.bias.detach().repeat(len(knots)))

    def at(self, strength: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """γ (32,), β (32,), weight (1, 32, k, k), bias (1,) at one strength."""
        mix = self.gamma.new_tensor(knot_weights(strength, self.knots))
        return (
            mix @ self.gamma,
            mix @ self.beta,
            torch.tensordot(mix, self.weight, dims=1).unsqueeze(0),
            (mix @ self.bias).reshape(1),
        )

    def forward(self, normalised: Tensor, strengths: Tensor) -> Tensor:
        """Render one strength per sample.

        Parameters
        ----------
        normalised : Tensor of shape (N, 32, H, W)
            Un-modulated output of instance norm #10.
        strengths : Tensor of shape (N,)
        """
        n = normalised.shape[0]
        mix = normalised.new_tensor([knot_weights(float(w), self.knots) for w in strengths])
        gamma, beta = mix @ self.gamma.to(mix.dtype), mix @ self.beta.to(mix.dtype)
        x = F.relu(normalised * gamma[:, :, None, None] + beta[:, :, None, None])
        # One convolution with all knots as output channels, then a per-sample mix: linear, hence equal
        # to mixing the filters, and one kernel call for the batch.
        every = F.conv2d(reflect_pad(x, self.pad), self.weight.to(x.dtype), self.bias.to(x.dtype))
        return (every * mix[:n, :, None, None]).sum(dim=1, keepdim=True)


class NUNet(nn.Module):
    """NU-Net of [1]_, Sec. 2: 3 encoder convolutions, 5 residual blocks, 3 decoder convolutions.

    Parameters
    ----------
    conditioning : "none", "head" or "decoder"
        "none" is the published network, 1 668 865 parameters. "head" makes norm #10 and
        convolution #11 piecewise linear in the strength (see :class:`StrengthHead`); "decoder" norm #9 too, which
        asks for frozen statistics: those of norm #10 would depend on the strength.
    knots : tuple of float
        Increasing strengths of a conditioned network; at least two.
    output : "clip" or "sigmoid"
        "clip" is the published linear output, clipped to 0…255 at inference. "sigmoid" is
        255·sigmoid(linear / 64): bounded in training too, which removes the adversarial
        optimum of a linear output (bright stripes that match the Gram matrices).
    norm : "instance" or "frozen"
        "instance" is published: mean and variance of the very image that is filtered. "frozen" are batch norms:
        statistics of the training data, constants at inference. Then a pixel depends on its neighbourhood alone, tiles
        need no calibration, stacks do not flicker, and an empty plane is not stretched; in turn the grey values have to
        be normalised beforehand.

    Raises
    ------
    ParameterError
        Unknown conditioning, output or norm, a combination that is none, or knots that are missing or not increasing.
    """

    n_first, n_second, n_trunk, n_blocks, kernel_ends = 32, 64, 128, 5, 9

    def __init__(
        self,
        *,
        conditioning: Conditioning = "none",
        knots: tuple[float, ...] = (),
        output: Literal["clip", "sigmoid"] = "clip",
        norm: NormKind = "instance",
    ) -> None:
        super().__init__()
        if conditioning not in ("none", "head", "decoder"):
            raise ParameterError(f"conditioning is {conditioning!r}; expected 'none', 'head' or 'decoder'")
        if norm not in ("instance", "frozen"):
            raise ParameterError(f"norm is {norm!r}; expected 'instance' or 'frozen'")
        if conditioning == "decoder" and norm != "frozen":
            raise ParameterError(f"conditioning 'decoder' asks for norm 'frozen', not {norm!r}")
        if output not in ("clip", "sigmoid"):
            raise ParameterError(f"output is {output!r}; expected 'clip' or 'sigmoid'")
        if conditioning != "none" and (len(knots) < 2 or any(a >= b for a, b in pairwise(knots))):
            raise ParameterError(f"knots are {knots}; expected at least two increasing strengths")
        if conditioning == "none" and knots:
            raise ParameterError(f"knots {knots} were given to a network without conditioning; drop them")
        self.conditioning = conditioning
        self.output = output
        self.norm = norm
        self.knots = tuple(float(k) for k in knots)
        a, b, c = self.n_first, self.n_second, self.n_trunk
        first = ConvNorm(1, a, self.kernel_ends, norm=norm)
        self.enc = nn.ModuleList([first, ConvNorm(a, b, 3, 2, norm=norm), ConvNorm(b, c, 3, 2, norm=norm)])
        self.trunk = nn.ModuleList([ResidualBlock(c, norm=norm) for _ in range(self.n_blocks)])
        self.up1 = UpConvNorm(c, b, norm=norm)
        self.up2 = UpConvNorm(b, a, norm=norm)
        self.head: nn.Conv2d | StrengthHead
        self.early: KnotAffine | None = None
        if conditioning == "none":
            self.head = nn.Conv2d(a, 1, self.kernel_ends)
        else:
            # γ and β of norm #10 live in the head, once per knot; those of norm #9 in ``early``.
            self.up2.norm = _norm(norm, a, affine=False)
            self.head = StrengthHead(a, self.kernel_ends, self.knots)
        if conditioning == "decoder":
            self.up1.norm = _norm(norm, b, affine=False)
            self.early = KnotAffine(b, self.knots)

    def features(self, x: Tensor) -> Tensor:
        """Everything that does not depend on the strength.

        Parameters
        ----------
        x : Tensor of shape (N, 1, H, W)
            Nominal range 0…255, bright objects; H and W multiples of 4, at least 16.

        Returns
        -------
        Tensor of shape (N, 32, H, W)
            Output of norm #10: un-modulated for a conditioned network, with the affine applied otherwise. Of a
            conditioned decoder: un-modulated output of norm #9, shape (N, 64, H/2, W/2).
        """
        for layer in self.enc:
            x = F.relu(layer(x))
        for block in self.trunk:
            x = block(x)
        x = self.up1(x)
        if self.early is not None:
            return x
        out: Tensor = self.up2(F.relu(x))
        return out

    def render(self, features: Tensor, strengths: Tensor | None = None) -> Tensor:
        """Turn :meth:`features` into images of shape (N, 1, H, W), scale 0…255, linear output unclipped."""
        if isinstance(self.head, StrengthHead):
            if strengths is None:
                raise ParameterError("this network is conditioned on the strength; give one strength per sample")
            if self.early is not None:
                features = self.up2(F.relu(self.early(features, strengths)))
            linear = self.head(features, strengths)
        else:
            linear = self.head(reflect_pad(F.relu(features), self.kernel_ends // 2))
        return self.bound(linear)

    def bound(self, linear: Tensor) -> Tensor:
        """Output activation: identity, or 255·sigmoid(linear / 64)."""
        return linear if self.output == "clip" else 255.0 * torch.sigmoid(linear / 64.0)

    def forward(self, x: Tensor, strengths: Tensor | None = None) -> Tensor:
        """Map (N, 1, H, W) to (N, 1, H, W); ``strengths`` of shape (N,) for a conditioned network."""
        return self.render(self.features(x), strengths)


def _instance_norm(x: Tensor, norm: nn.InstanceNorm2d) -> Tensor:
    """Instance norm through the batch-norm kernel, one sample at a time: several times faster on CPU in NHWC."""
    samples = [F.batch_norm(s, None, None, norm.weight, norm.bias, True, 0.0, norm.eps) for s in torch.split(x, 1)]
    return samples[0] if len(samples) == 1 else torch.cat(samples)
