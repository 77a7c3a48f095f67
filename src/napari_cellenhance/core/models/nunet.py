"""NU-Net: the residual image-to-image network of Lim et al. (2023).

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

__all__ = ["ConvNorm", "NUNet", "ResidualBlock", "StrengthHead", "UpConvNorm", "knot_weights"]

NORM_EPS = 1e-5


class ConvNorm(nn.Module):
    """Reflection padding, convolution with bias, affine instance norm; no activation."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, kernel, stride)
        self.norm = nn.InstanceNorm2d(n_out, eps=NORM_EPS, affine=True)
        self.pad = kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, n_in, H, W)`` to ``(N, n_out, ⌈H/stride⌉, ⌈W/stride⌉)``."""
        return _instance_norm(self.convolve(x), self.norm)

    def convolve(self, x: Tensor) -> Tensor:
        """Pad and convolve only: what the norm's statistics are measured on."""
        out: Tensor = self.conv(F.pad(x, (self.pad,) * 4, mode="reflect"))
        return out


class UpConvNorm(ConvNorm):
    """Nearest ×2 up-sampling before :class:`ConvNorm`."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(n_in, n_out, kernel=3)

    def convolve(self, x: Tensor) -> Tensor:
        """Up-sample, pad and convolve."""
        return super().convolve(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class ResidualBlock(nn.Module):
    """conv3-IN-ReLU-conv3-IN plus the input, no activation after the sum."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.first = ConvNorm(n_channels, n_channels, 3)
        self.second = ConvNorm(n_channels, n_channels, 3)

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
        every = F.conv2d(F.pad(x, (self.pad,) * 4, mode="reflect"), self.weight.to(x.dtype), self.bias.to(x.dtype))
        return (every * mix[:n, :, None, None]).sum(dim=1, keepdim=True)


class NUNet(nn.Module):
    """NU-Net of [1]_, Sec. 2: 3 encoder convolutions, 5 residual blocks, 3 decoder convolutions.

    Parameters
    ----------
    conditioning : "none" or "head"
        "none" is the published network, 1 668 865 parameters. "head" makes norm #10 and
        convolution #11 piecewise linear in the strength (see :class:`StrengthHead`).
    knots : tuple of float
        Increasing strengths of a conditioned network; at least two.
    output : "clip" or "sigmoid"
        "clip" is the published linear output, clipped to 0…255 at inference. "sigmoid" is
        255·sigmoid(linear / 64): bounded in training too, which removes the adversarial
        optimum of a linear output (bright stripes that match the Gram matrices).

    Raises
    ------
    ParameterError
        Unknown conditioning or output, or knots that are missing or not increasing.
    """

    n_first, n_second, n_trunk, n_blocks, kernel_ends = 32, 64, 128, 5, 9

    def __init__(
        self,
        *,
        conditioning: Literal["none", "head"] = "none",
        knots: tuple[float, ...] = (),
        output: Literal["clip", "sigmoid"] = "clip",
    ) -> None:
        super().__init__()
        if conditioning not in ("none", "head"):
            raise ParameterError(f"conditioning is {conditioning!r}; expected 'none' or 'head'")
        if output not in ("clip", "sigmoid"):
            raise ParameterError(f"output is {output!r}; expected 'clip' or 'sigmoid'")
        if conditioning == "head" and (len(knots) < 2 or any(a >= b for a, b in pairwise(knots))):
            raise ParameterError(f"knots are {knots}; expected at least two increasing strengths")
        if conditioning == "none" and knots:
            raise ParameterError(f"knots {knots} were given to a network without conditioning; drop them")
        self.conditioning = conditioning
        self.output = output
        self.knots = tuple(float(k) for k in knots)
        a, b, c = self.n_first, self.n_second, self.n_trunk
        self.enc = nn.ModuleList([ConvNorm(1, a, self.kernel_ends), ConvNorm(a, b, 3, 2), ConvNorm(b, c, 3, 2)])
        self.trunk = nn.ModuleList([ResidualBlock(c) for _ in range(self.n_blocks)])
        self.up1 = UpConvNorm(c, b)
        self.up2 = UpConvNorm(b, a)
        self.head: nn.Conv2d | StrengthHead
        if conditioning == "none":
            self.head = nn.Conv2d(a, 1, self.kernel_ends)
        else:
            # γ and β of norm #10 live in the head, once per knot.
            self.up2.norm = nn.InstanceNorm2d(a, eps=NORM_EPS, affine=False)
            self.head = StrengthHead(a, self.kernel_ends, self.knots)

    def features(self, x: Tensor) -> Tensor:
        """Everything that does not depend on the strength.

        Parameters
        ----------
        x : Tensor of shape (N, 1, H, W)
            Nominal range 0…255, bright objects; H and W multiples of 4, at least 16.

        Returns
        -------
        Tensor of shape (N, 32, H, W)
            Output of norm #10: un-modulated for a conditioned network, with the affine applied otherwise.
        """
        for layer in self.enc:
            x = F.relu(layer(x))
        for block in self.trunk:
            x = block(x)
        x = F.relu(self.up1(x))
        out: Tensor = self.up2(x)
        return out

    def render(self, features: Tensor, strengths: Tensor | None = None) -> Tensor:
        """Turn :meth:`features` into images of shape (N, 1, H, W), scale 0…255, linear output unclipped."""
        if isinstance(self.head, StrengthHead):
            if strengths is None:
                raise ParameterError("this network is conditioned on the strength; give one strength per sample")
            linear = self.head(features, strengths)
        else:
            linear = self.head(F.pad(F.relu(features), (self.kernel_ends // 2,) * 4, mode="reflect"))
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
