"""Several NU-Nets, each trained for one strength, as one model; their outputs are blended in between."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.models.nunet import NUNet, knot_weights

__all__ = ["BlendedNUNet"]


class BlendedNUNet(nn.Module):
    """One fixed-strength :class:`NUNet` per knot.

    Parameters
    ----------
    knots : tuple of float
        Increasing strengths, one for each network; at least one.
    output : "clip" or "sigmoid"
        Of every network.

    Raises
    ------
    ParameterError
        No knots, or not increasing.
    """

    def __init__(self, *, knots: tuple[float, ...], output: Literal["clip", "sigmoid"] = "clip") -> None:
        super().__init__()
        if not knots or any(a >= b for a, b in pairwise(knots)):
            raise ParameterError(f"knots are {knots}; expected at least one strength, increasing")
        self.knots = tuple(float(knot) for knot in knots)
        self.networks = nn.ModuleList([NUNet(output=output) for _ in self.knots])

    def forward(self, x: Tensor, strengths: Tensor) -> Tensor:
        """Map (N, 1, H, W) to (N, 1, H, W) in 0…255, one strength per sample.

        At a knot the output is that of its network; between two knots it is linear in the strength, hence
        monotone in every pixel; outside it stays at the outer knot.
        """
        outputs = [network(x).clamp(0.0, 255.0) for network in self.networks]
        mix = x.new_tensor([knot_weights(float(w), self.knots) for w in strengths])
        blended: Tensor = sum(mix[:, i, None, None, None] * output for i, output in enumerate(outputs))
        return blended
