"""The network of a denoiser: one U-Net per channel, or one for all of them, and the grey values it was trained on."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.models.csb_unet import CSBUNet

__all__ = ["DenoisingNetwork", "Statistics", "Variant", "variant_settings"]

Statistics = Literal["stored", "image"]
Variant = Literal["n2v", "n2v2"]


def variant_settings(variant: Variant) -> dict[str, Any]:
    """What the two networks differ in: N2V2 has blurred pools and no skip at full resolution.

    Raises
    ------
    ParameterError
        Another name.
    """
    if variant not in get_args(Variant):
        raise ParameterError(f"variant is {variant!r}; expected 'n2v' or 'n2v2'")
    return {"pool": "max", "top_skip": True} if variant == "n2v" else {"pool": "blur", "top_skip": False}


class DenoisingNetwork(nn.Module):
    """Restores images of one or several channels.

    Parameters
    ----------
    n_channels : int
    is_joint : bool
        One U-Net looks at all channels together; else each channel has one of its own, which learns from nothing else.
    has_classes : bool
        Three more outputs, unused here, for the classes of a segmentation that goes on from these weights (VoidSeg's
        network of four outputs).
    statistics : "stored" or "image"
        Whether :attr:`mean` and :attr:`std` bring grey values to the range of the network, or those that each image
        has itself.
    **unet
        Of :class:`~napari_cellenhance.core.models.csb_unet.BodySettings`.

    Attributes
    ----------
    mean, std : Tensor of shape (n_channels,)
        Of the training images, per channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, *, n_channels: int = 1, is_joint: bool = False, has_classes: bool = False,
        statistics: Statistics = "stored", **unet: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        if n_channels < 1 or statistics not in get_args(Statistics):
            raise ParameterError(
                f"{n_channels} channels, statistics {statistics!r}; expected 1 or more, 'stored' or 'image'"
            )
        if is_joint and has_classes:
            raise ParameterError("a network of all channels together has no outputs for classes; choose one of both")
        self.n_channels, self.is_joint, self.has_classes = n_channels, is_joint, has_classes
        self.statistics: Statistics = statistics
        n_in = n_channels if is_joint else 1
        n_out = n_channels if is_joint else 4 if has_classes else 1
        self.nets = nn.ModuleList(CSBUNet(n_in=n_in, n_out=n_out, **unet) for _ in range(1 if is_joint else n_channels))
        self.register_buffer("mean", torch.zeros(n_channels))
        self.register_buffer("std", torch.ones(n_channels))

    @property
    def unet(self) -> CSBUNet:
        """The first U-Net; all have the same shape."""
        first = self.nets[0]
        assert isinstance(first, CSBUNet)
        return first

    @property
    def architecture(self) -> dict[str, Any]:
        """Description for a model card."""
        unet = {k: v for k, v in self.unet.architecture.items() if k in _OF_THE_UNET}
        return {
            "name": "denoiser", "n_channels": self.n_channels, "is_joint": self.is_joint,
            "has_classes": self.has_classes, "statistics": self.statistics, **unet,
        }  # fmt: skip

    @property
    def n_dims(self) -> int:
        """2 for planes, 3 for volumes."""
        return self.unet.settings.n_dims

    @property
    def grid_px(self) -> int:
        """Sides of an input are multiples of this."""
        return self.unet.settings.grid_px

    @property
    def radius_px(self) -> int:
        """How far a pixel of the result sees."""
        return self.unet.settings.radius_px

    def forward(self, x: Tensor) -> Tensor:
        """Restore a batch (N, C, [Z,] Y, X) of standardised grey values: (x − mean) / std."""
        if self.is_joint:
            return self.unet.forward(x)
        parts = [net(x[:, c : c + 1])[:, :1] for c, net in enumerate(self.nets)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def to_channels_last(self) -> DenoisingNetwork:
        """Lay the convolutions out for speed (in place)."""
        for net in self.nets:
            assert isinstance(net, CSBUNet)
            net.to_channels_last()
        return self


_OF_THE_UNET = ("depth", "width", "kernel_px", "n_dims", "has_norm", "top_skip", "pool")
