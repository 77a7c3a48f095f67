"""Plain segmentation networks, trained by the same recipe as AEP: what the enhancement is compared with."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.models.aep import (
    AEP,
    LIGHT_RADIUS_PX,
    AEPOutput,
    Ensemble,
    LightNetwork,
    check_batch,
    conv_block,
    pad_to_grid,
)
from napari_cellenhance.core.models.bit_dropout import BitDropout

__all__ = ["UNET_RADIUS_PX", "PlainNetwork", "PlainSegmenter", "SegmentationNetwork", "UNet"]

PlainNetwork = Literal["light", "unet"]

UNET_RADIUS_PX = 51
"""How far a pixel of :class:`UNet` sees."""


class UNet(nn.Module):
    """U-Net of three levels with batch norm ([1]_, with zero padding).

    Parameters
    ----------
    n_classes : int
    n_first : int
        Maps of the first level; they double at each level. 32 gives about as many parameters as AEP's two networks.
    dropout : float
        At the end of the contracting path, in training only.

    References
    ----------
    .. [1] Ronneberger, Fischer & Brox, "U-Net", MICCAI 2015, Fig. 1.
    """

    def __init__(self, n_classes: int, n_first: int = 32, dropout: float = 0.5) -> None:
        super().__init__()
        widths = [n_first * 2**level for level in range(4)]
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList([_double(1, widths[0]), *(_double(a, b) for a, b in pairs)])
        self.pool = nn.MaxPool2d(2)
        self.drop = BitDropout(dropout)
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in reversed(pairs))
        self.merge = nn.ModuleList(_double(2 * a, a) for a, _ in reversed(pairs))
        self.out = nn.Conv2d(widths[0], n_classes, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and last maps of a batch (N, 1, Y, X); Y and X multiples of 8."""
        skips = []
        for level, block in enumerate(self.down):
            x = block(self.pool(x) if level else x)
            skips.append(x)
        x = self.drop(x)
        for up, merge, skip in zip(self.up, self.merge, reversed(skips[:-1]), strict=True):
            x = merge(torch.cat([skip, up(x)], dim=1))
        return self.out(x), x


def _double(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(conv_block(n_in, n_out), conv_block(n_out, n_out))


class PlainSegmenter(nn.Module):
    """One network alone, with the interface of :class:`~napari_cellenhance.core.models.aep.AEP`.

    Parameters
    ----------
    n_classes : int
        2 or more.
    network : "light" or "unet"
        AEP's own Network 2, which isolates the effect of the enhancement; or a U-Net, as in the paper's tables.
    dropout : float
        In training only.
    """

    ensemble: Ensemble = "none"
    n_filters = 0
    branch_names = ("image",)

    def __init__(self, n_classes: int = 3, *, network: PlainNetwork = "light", dropout: float = 0.5) -> None:
        super().__init__()
        if n_classes < 2:
            raise ParameterError(f"{n_classes} classes; a segmentation needs 2 or more, background included")
        if network not in get_args(PlainNetwork):
            raise ParameterError(f"network is {network!r}; expected one of {get_args(PlainNetwork)}")
        self.n_classes = n_classes
        self.network: PlainNetwork = network
        self.dropout = dropout
        self.only = LightNetwork(n_classes, dropout=dropout) if network == "light" else UNet(n_classes, dropout=dropout)

    @property
    def architecture(self) -> dict[str, Any]:
        """Description for a model card."""
        return {
            "name": "plain-segmenter",
            "n_classes": self.n_classes,
            "network": self.network,
            "dropout": self.dropout,
        }

    @property
    def radius_px(self) -> int:
        """How far a pixel of the result sees."""
        return LIGHT_RADIUS_PX if self.network == "light" else UNET_RADIUS_PX

    def branch_weights(self) -> Tensor:
        """Weight of the only branch, shape (1,)."""
        return torch.ones(1)

    def to_channels_last(self) -> PlainSegmenter:
        """Lay the convolutions out for speed (in place)."""
        self.only.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self

    def forward(self, x: Tensor) -> AEPOutput:
        """Segment images of shape (N, 1, Y, X) in [0, 1]; there are no filters and no translated images."""
        check_batch(x)
        size = x.shape[-2:]
        x, (top, left) = pad_to_grid(x)
        logits = self.only(x)[0].float()
        none = x[:, :0].float()
        result = AEPOutput(none, none, logits[:, None], logits)
        return result.window(slice(top, top + size[0]), slice(left, left + size[1]))


SegmentationNetwork = AEP | PlainSegmenter
"""What the recipe trains and the segmenter runs."""
