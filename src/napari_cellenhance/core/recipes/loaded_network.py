"""What every loaded NU-Net has as a filter, whatever its norms: a card, a device and an amount of memory to keep to."""

from __future__ import annotations

import copy
from typing import Self

from napari_cellenhance.core.device import DeviceChoice
from napari_cellenhance.core.models.nunet_layers import HALO_PX
from napari_cellenhance.core.recipes.protocol import FilterInfo

__all__ = ["LoadedNetwork"]


class LoadedNetwork:
    """Base of the NU-Net filters.

    Parameters
    ----------
    info : FilterInfo
    choice : DeviceChoice
        Device and precision.
    bytes_per_px : int
        Estimated working memory of one pass, per pixel.
    memory_limit_mb : int
        Working memory to keep to.
    """

    halo_px = HALO_PX
    """Context that ``encode`` adds to a region."""

    def __init__(self, info: FilterInfo, choice: DeviceChoice, bytes_per_px: int, memory_limit_mb: int) -> None:
        self.info = info
        self.choice = choice
        self.bytes_per_px = bytes_per_px
        self.memory_limit = memory_limit_mb * 10**6

    def with_memory(self, memory_limit_mb: int) -> Self:
        """The same filter, its loaded network shared, kept to another amount of working memory."""
        other = copy.copy(self)
        other.memory_limit = memory_limit_mb * 10**6
        return other

    def _fits(self, shape: tuple[int, int]) -> bool:
        """Whether one pass over a plane of ``shape`` keeps to the limit."""
        return shape[0] * shape[1] * self.bytes_per_px <= self.memory_limit
