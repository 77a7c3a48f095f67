"""StarDist behind a frozen denoiser, as one model ("StarDist sequential" of VoidSeg)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from napari_cellenhance.core.models.denoiser import DenoisingNetwork
from napari_cellenhance.core.models.stardist import StarDist, StarOutput
from napari_cellenhance.core.models.voidseg import checked_denoiser

__all__ = ["DenoisedStarDist"]


class DenoisedStarDist(nn.Module):
    """StarDist, and where the scheme says so the denoiser whose result it looks at.

    Parameters
    ----------
    denoiser : mapping or None
        Settings of a :class:`~napari_cellenhance.core.models.denoiser.DenoisingNetwork` of one channel.
    **stardist
        Of :class:`~napari_cellenhance.core.models.stardist.StarDist`.

    Raises
    ------
    ParameterError
        Settings out of range.
    """

    def __init__(self, *, denoiser: Mapping[str, Any] | None = None, **stardist: Any) -> None:
        super().__init__()
        self.stardist = StarDist(**stardist)
        settings = None if denoiser is None else {k: v for k, v in denoiser.items() if k != "name"}
        self.denoiser = None if settings is None else checked_denoiser(DenoisingNetwork(**settings))

    @property
    def architecture(self) -> dict[str, Any]:
        """Description for a model card."""
        denoiser = None if self.denoiser is None else self.denoiser.architecture
        return self.stardist.architecture | {"name": "denoised-stardist", "denoiser": denoiser}

    def forward(self, x: Tensor) -> StarOutput:
        """Predict for planes (N, 1, Y, X) that were denoised before, where they have to be."""
        found: StarOutput = self.stardist(x)
        return found
