"""The network of VoidSeg: a U-Net for three classes, and before it, where the scheme says so, a frozen denoiser.

References
----------
.. [1] Prakash et al., "Leveraging self-supervised denoising for image segmentation" (VoidSeg), ISBI 2020.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.models.csb_unet import CSBUNet, transfer_body
from napari_cellenhance.core.models.denoiser import DenoisingNetwork

__all__ = ["N_CLASSES", "VoidSegNetwork", "checked_denoiser", "start_from", "state_hash"]

N_CLASSES = 3


class VoidSegNetwork(nn.Module):
    """Segments planes into ground, inside and border.

    Parameters
    ----------
    has_denoise_output : bool
        Four outputs, [restored image, ground, inside, border], as in the paper's text: the same network denoises and
        segments. Otherwise three, as in its notebooks.
    denoiser : mapping or None
        Settings of a :class:`~napari_cellenhance.core.models.denoiser.DenoisingNetwork` of one channel whose result
        is what the U-Net looks at; its weights are part of this network's, and never trained.
    **unet
        Of :class:`~napari_cellenhance.core.models.csb_unet.BodySettings`.

    Attributes
    ----------
    mean, std : Tensor of shape ()
        Of the images that the U-Net was trained on; denoised ones where there is a denoiser.

    Raises
    ------
    ParameterError
        Settings out of range.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, *, has_denoise_output: bool = False, denoiser: Mapping[str, Any] | None = None, **unet: Any
    ) -> None:
        super().__init__()
        self.has_denoise_output = has_denoise_output
        self.unet = CSBUNet(n_out=N_CLASSES + has_denoise_output, **unet)
        settings = None if denoiser is None else {k: v for k, v in denoiser.items() if k != "name"}
        self.denoiser = None if settings is None else checked_denoiser(DenoisingNetwork(**settings))
        if self.unet.settings.n_in != 1 or self.unet.settings.n_dims != 2:
            raise ParameterError("the network segments planes of one channel; expected n_in 1 and n_dims 2")
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))

    @property
    def architecture(self) -> dict[str, Any]:
        """Description for a model card."""
        unet = {k: v for k, v in self.unet.architecture.items() if k in _OF_THE_UNET}
        denoiser = None if self.denoiser is None else self.denoiser.architecture
        return {"name": "voidseg", "has_denoise_output": self.has_denoise_output, "denoiser": denoiser, **unet}

    def classes_of(self, outputs: Tensor) -> Tensor:
        """Logits of the three classes among the outputs of the U-Net, (N, 3, Y, X)."""
        return outputs[:, -N_CLASSES:]

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 3, Y, X) of standardised planes (N, 1, Y, X) that were denoised before, where they have to be."""
        return self.classes_of(self.unet(x))


_OF_THE_UNET = ("depth", "width", "kernel_px", "has_norm", "top_skip", "pool")


def checked_denoiser(denoiser: DenoisingNetwork) -> DenoisingNetwork:
    """Return the denoiser itself, in eval mode and without gradients.

    Raises
    ------
    ParameterError
        It is none of single planes of one channel.
    """
    if denoiser.n_channels != 1 or denoiser.n_dims != 2:
        raise ParameterError(
            f"the denoiser is for {denoiser.n_channels} channel(s) of {denoiser.n_dims} dimensions; a segmentation "
            "needs one for planes of a single channel"
        )
    return denoiser.eval().requires_grad_(False)


def start_from(network: VoidSegNetwork, denoiser: DenoisingNetwork) -> None:
    """Take over the denoiser's weights but for the last 1×1 convolution ([1]_: "finetune").

    Running statistics of the norms come along and go on adapting. Where the network has an output that denoises, that
    row of the head is taken over too, so that it still denoises.

    Raises
    ------
    ParameterError
        The bodies differ.
    """
    source = checked_denoiser(copy.deepcopy(denoiser)).unet
    transfer_body(network.unet, source.state_dict())
    if network.has_denoise_output:
        own, given = network.unet.head, source.head
        with torch.no_grad():
            own.weight[:1].copy_(given.weight[:1])
            own.get_parameter("bias")[:1].copy_(given.get_parameter("bias")[:1])


def state_hash(module: nn.Module) -> str:
    """SHA-256 of names, shapes and float32 values of all tensors, wherever they lie: whether weights are the same."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        kept = tensor.detach().to("cpu", torch.float32 if tensor.is_floating_point() else tensor.dtype)
        digest.update(f"{name}{tuple(kept.shape)}".encode())
        digest.update(kept.contiguous().numpy().tobytes())
    return digest.hexdigest()
