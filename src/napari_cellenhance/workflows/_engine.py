"""An opened filter that survives a shortage of memory: smaller tiles first, then the CPU."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any, TypeVar

from napari_cellenhance.core.errors import DeviceError
from napari_cellenhance.workflows.catalog import OpenedFilter

__all__ = ["Engine", "tile_side"]

_LOGGER = logging.getLogger(__name__)
_N_SHRINKS = 3
_MIN_TILE_PX = 32
_MAX_TILE_PX = 1536
"""Larger tiles save little (their halo is 15 % of this one's work) and hold more at a time than a run may take."""
_CONTEXT_PX = 56

T = TypeVar("T")


def tile_side(memory_limit_mb: int, bytes_per_px: int, context_px: int = _CONTEXT_PX) -> int:
    """Side of the largest square tile that keeps to the limit with its context; in pixels.

    >>> tile_side(500, 520), tile_side(500, 520, 88)
    (864, 800)
    """
    side = math.isqrt(memory_limit_mb * 10**6 // bytes_per_px) - 2 * context_px
    return min(_MAX_TILE_PX, max(_MIN_TILE_PX, side // 16 * 16))


class Engine:
    """Current filter and tile side of one run; both may shrink while it runs.

    Parameters
    ----------
    opened : OpenedFilter
    tile_px : int or None
        Asked tile side; None derives it from the memory limit.
    """

    def __init__(self, opened: OpenedFilter, tile_px: int | None) -> None:
        self.opened = opened
        self._asked_tile_px = tile_px
        self.tile_px = self._first_tile()
        self._n_shrinks = 0
        self.warnings: list[str] = [opened.choice.note] if opened.choice.is_fallback else []

    def _first_tile(self) -> int:
        context = max(_CONTEXT_PX, getattr(self.opened.enhancer, "halo_px", None) or 0)
        derived = tile_side(self.opened.memory_limit_mb, self.opened.bytes_per_px, context)
        return derived if self._asked_tile_px is None else max(1, self._asked_tile_px)

    def facts(self) -> dict[str, Any]:
        """Device, precision and tiles, for the provenance."""
        choice = self.opened.choice
        return {
            "device": choice.device,
            "precision": choice.precision,
            "tile_px": self.tile_px,
            "halo_px": getattr(self.opened.enhancer, "halo_px", None),
        }

    def attempt(self, work: Callable[[OpenedFilter, int], T]) -> T:
        """Do ``work(opened, tile_px)``, again in smaller tiles where the memory runs out.

        Raises
        ------
        DeviceError
            Not enough memory even in small tiles on the CPU.
        """
        from napari_cellenhance.core.device import is_out_of_memory

        while True:
            try:
                return work(self.opened, self.tile_px)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._shrink(error)

    def _shrink(self, error: Exception) -> None:
        _LOGGER.warning("out of memory at tiles of %d px on %s: %s", self.tile_px, self.opened.choice.device, error)
        is_on_cpu = self.opened.choice.torch_device == "cpu"
        _release(self.opened.choice.device)
        if self._n_shrinks < _N_SHRINKS and self.tile_px > _MIN_TILE_PX:
            self._n_shrinks += 1
            self.tile_px = max(_MIN_TILE_PX, self.tile_px // 2)
            self.opened = self.opened.with_memory(max(1, self.opened.memory_limit_mb // 4))
            self.warnings.append(f"Memory ran out; continued with tiles of {self.tile_px} px.")
        elif not is_on_cpu:
            self._n_shrinks = 0
            self.opened = self.opened.on_cpu("the graphics memory ran out even in small tiles")
            self.tile_px = self._first_tile()
            self.warnings.append(f"The graphics memory ran out even in small tiles; {self.opened.choice.note}.")
        else:
            raise DeviceError(
                f"not enough memory even in tiles of {self.tile_px} px; close other programs or layers, "
                "or enhance a smaller region"
            ) from error


def _release(device: str) -> None:
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()
