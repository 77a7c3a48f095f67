"""Architecture description of a model card → network. Names are looked up here, never imported from a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from napari_cellenhance.core.errors import ManifestError, ParameterError
from napari_cellenhance.core.models.aep import AEP
from napari_cellenhance.core.models.csb_unet import CSBUNet
from napari_cellenhance.core.models.denoised_stardist import DenoisedStarDist
from napari_cellenhance.core.models.denoiser import DenoisingNetwork
from napari_cellenhance.core.models.nunet import NUNet
from napari_cellenhance.core.models.nunet_blend import BlendedNUNet
from napari_cellenhance.core.models.segmentation_baseline import PlainSegmenter
from napari_cellenhance.core.models.semantic_unet import SemanticUNet
from napari_cellenhance.core.models.stardist import StarDist
from napari_cellenhance.core.models.voidseg import VoidSegNetwork

__all__ = ["build"]


def _nunet(settings: dict[str, Any]) -> nn.Module:
    settings["knots"] = tuple(settings.get("knots", ()))
    return NUNet(**settings)


def _nunet_blend(settings: dict[str, Any]) -> nn.Module:
    settings["knots"] = tuple(settings.get("knots", ()))
    return BlendedNUNet(**settings)


def _aep(settings: dict[str, Any]) -> nn.Module:
    return AEP(**settings)


def _plain_segmenter(settings: dict[str, Any]) -> nn.Module:
    return PlainSegmenter(**settings)


def _csb_unet(settings: dict[str, Any]) -> nn.Module:
    return CSBUNet(**settings)


def _denoiser(settings: dict[str, Any]) -> nn.Module:
    return DenoisingNetwork(**settings)


def _stardist(settings: dict[str, Any]) -> nn.Module:
    return StarDist(**settings)


def _voidseg(settings: dict[str, Any]) -> nn.Module:
    return VoidSegNetwork(**settings)


def _denoised_stardist(settings: dict[str, Any]) -> nn.Module:
    return DenoisedStarDist(**settings)


def _semantic_unet(settings: dict[str, Any]) -> nn.Module:
    return SemanticUNet(**settings)


_BUILDERS = {
    "nunet": _nunet, "nunet-blend": _nunet_blend, "aep": _aep, "plain-segmenter": _plain_segmenter,
    "csb-unet": _csb_unet, "denoiser": _denoiser, "stardist": _stardist, "voidseg": _voidseg,
    "denoised-stardist": _denoised_stardist, "semantic-unet": _semantic_unet,
}  # fmt: skip


def build(architecture: Mapping[str, Any]) -> nn.Module:
    """Build an untrained network in eval mode.

    Parameters
    ----------
    architecture : mapping
        ``{"name": "nunet", …}``; the other entries are the arguments of the network.

    Raises
    ------
    ManifestError
        Unknown name or arguments: the card is of a newer version, or damaged.
    """
    settings = dict(architecture)
    name = settings.pop("name", None)
    if name not in _BUILDERS:
        raise ManifestError(
            f"the model card asks for the architecture {name!r}; this version knows {sorted(_BUILDERS)}. "
            "Update napari-cellenhance, or choose another model."
        )
    try:
        return _BUILDERS[name](settings).eval()
    except (TypeError, ParameterError) as error:
        raise ManifestError(f"the model card describes {name!r} in a way this version cannot build: {error}") from error
