"""StarDist in 2-D: the U-Net of CARE with two heads, the probability of an object and the distances to its border.

References
----------
.. [1] Schmidt et al., MICCAI 2018 (StarDist): depth 3, no batch norm, 32 rays.
.. [2] Buchholz et al., ECCV workshops 2020 (VoidSeg's group): depth 4, batch norm, grid 2.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.models.csb_unet import Body, BodySettings
from napari_cellenhance.core.star_shapes import N_RAYS

__all__ = ["GRIDS", "StarDist", "StarOutput"]

GRIDS = (1, 2, 4)
"""Pixels from one prediction to the next."""


class StarOutput(NamedTuple):
    """What the heads give for a batch, in float32.

    Parameters
    ----------
    logits : Tensor of shape (N, 1, Y / grid, X / grid)
        Probability before the sigmoid.
    distances : Tensor of shape (N, n_rays, Y / grid, X / grid)
        In pixels of the input; any sign.
    """

    logits: Tensor
    distances: Tensor


class StarDist(nn.Module):
    """Image → probability and distances at every ``grid``-th pixel.

    Parameters
    ----------
    n_rays : int
        3 or more.
    grid : 1, 2 or 4
        Each halving is two 3×3 convolutions and a max-pool before the U-Net.
    depth, width : int
        Of the U-Net: times that the resolution is halved, maps at full resolution.
    has_norm : bool
        Batch norm in the U-Net; nowhere else.
    n_features : int
        Maps of the 3×3 convolution that both heads share.

    Raises
    ------
    ParameterError
        A setting outside its range.
    """

    def __init__(
        self,
        *,
        n_rays: int = N_RAYS,
        grid: int = 1,
        depth: int = 3,
        width: int = 32,
        has_norm: bool = False,
        n_features: int = 128,
    ) -> None:
        super().__init__()
        if n_rays < 3 or n_features < 1:
            raise ParameterError(f"{n_rays} rays, {n_features} features; expected 3 or more, and 1 or more")
        if grid not in GRIDS:
            raise ParameterError(f"the grid is {grid} px; expected one of {GRIDS}")
        self.n_rays, self.grid, self.n_features = n_rays, grid, n_features
        n_halvings = grid.bit_length() - 1
        self.settings = BodySettings(n_in=width if n_halvings else 1, depth=depth, width=width, has_norm=has_norm)
        self.before = nn.Sequential(*(_halving(width if i else 1, width) for i in range(n_halvings)))
        self.body = Body(self.settings)
        self.features = nn.Sequential(_conv(width, n_features, 3), nn.ReLU(inplace=True))
        self.probability = _conv(n_features, 1, 1)
        self.distances = _conv(n_features, n_rays, 1)

    @property
    def architecture(self) -> dict[str, Any]:
        """Description for a model card; ``StarDist(**description without "name")`` is this network."""
        s = self.settings
        return {
            "name": "stardist",
            "n_rays": self.n_rays,
            "grid": self.grid,
            "depth": s.depth,
            "width": s.width,
            "has_norm": s.has_norm,
            "n_features": self.n_features,
        }

    @property
    def grid_px(self) -> int:
        """Sides of an input are multiples of this."""
        return self.grid * self.settings.grid_px

    @property
    def radius_px(self) -> int:
        """How far a prediction sees, in pixels of the input."""
        radius = self.settings.radius_px + 1
        for _ in range(self.grid.bit_length() - 1):
            radius = 2 * radius + 1 + 2
        return radius

    def forward(self, x: Tensor) -> StarOutput:
        """Predict for images (N, 1, Y, X).

        Raises
        ------
        ParameterError
            More than one channel, or sides that are no multiples of ``grid_px``.
        """
        if x.ndim != 4 or x.shape[1] != 1 or 0 in x.shape or any(side % self.grid_px for side in x.shape[2:]):
            raise ParameterError(
                f"the network was given {tuple(x.shape)}; expected (images, 1, and two sides that are multiples of "
                f"{self.grid_px})"
            )
        features = self.features(self.body(self.before(x)))
        return StarOutput(self.probability(features).float(), self.distances(features).float())

    def to_channels_last(self) -> StarDist:
        """Lay the convolutions out for speed (in place)."""
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self


def _conv(n_in: int, n_out: int, kernel_px: int) -> nn.Conv2d:
    conv = nn.Conv2d(n_in, n_out, kernel_px, padding=kernel_px // 2)
    nn.init.xavier_uniform_(conv.weight)
    nn.init.zeros_(conv.get_parameter("bias"))
    return conv


def _halving(n_in: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        _conv(n_in, width, 3),
        nn.ReLU(inplace=True),
        _conv(width, width, 3),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    )
