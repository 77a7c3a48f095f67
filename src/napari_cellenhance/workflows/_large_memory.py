"""How the memory of a run over a large image is shared out, and the filter opened that keeps to its part."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellenhance.workflows import catalog
from napari_cellenhance.workflows._engine import Engine
from napari_cellenhance.workflows._large_source import READ_PX, LargeSource
from napari_cellenhance.workflows._large_target import stored_dtype
from napari_cellenhance.workflows.requests import EnhanceRequest

if TYPE_CHECKING:
    from napari_cellenhance.workflows.large_images import LargeRequest

__all__ = ["EngineFacts", "filter_memory_mb", "need_sentence", "open_engine", "plane_limit_bytes", "size_text"]

_PROGRAM_MB = 550
"""What the program itself takes: Python, numpy, torch, a loaded network."""
_MB = 10**6
_LEAST_MB = 50
"""For the filter, however small the limit is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """What a run must know of its filter, wherever that is opened."""

    device: str
    precision: str
    tile_px: int
    halo_px: int | None
    bytes_per_px: int
    note: str = ""

    @classmethod
    def of(cls, engine: Engine) -> EngineFacts:
        """Of a filter that is open here."""
        return cls(**engine.facts(), bytes_per_px=engine.opened.bytes_per_px, note=" ".join(engine.warnings))

    def as_kind(self) -> EngineFacts:
        """The same on any device of its kind: ``cuda:1`` becomes ``cuda``."""
        return dataclasses.replace(self, device=self.device.partition(":")[0])

    def to_dict(self) -> dict[str, Any]:
        """For the record of the result."""
        return {
            "device": self.device, "precision": self.precision, "tile_px": self.tile_px, "halo_px": self.halo_px
        }  # fmt: skip


def open_engine(settings: EnhanceRequest, memory_mb: int) -> Engine:
    """Load the filter, to keep to ``memory_mb``.

    Raises
    ------
    ModelNotFoundError, DownloadError, ChecksumError, DeviceError
        As in :func:`napari_cellenhance.workflows.catalog.open_enhancer`.
    """
    opened = catalog.open_enhancer(
        settings.filter_id, settings.device, settings.precision, memory_limit_mb=memory_mb,
        cache_folder=settings.cache_folder,
    )  # fmt: skip
    return Engine(opened, settings.tile_px)


def filter_memory_mb(source: LargeSource, settings: EnhanceRequest) -> int:
    """What the rest leaves of the memory for the filter."""
    return max(_LEAST_MB, int(settings.memory_limit_mb - _rest_mb(source, settings)))


def plane_limit_bytes(settings: EnhanceRequest) -> int:
    """Normalised planes up to this size stay in memory."""
    return int(settings.memory_limit_mb / 4 * _MB)


def _rest_mb(source: LargeSource, settings: EnhanceRequest) -> float:
    """Memory beside the filter's own: the program, a plane if it is kept, windows on their way."""
    plane_mb = source.plane_px * 4 / _MB
    windows_mb = min(source.plane_px, READ_PX**2) * (source.dtype.itemsize + 24) / _MB
    return float(_PROGRAM_MB + windows_mb + (plane_mb if plane_mb * _MB <= plane_limit_bytes(settings) else 0.0))


def need_sentence(request: LargeRequest, source: LargeSource, facts: EngineFacts | None, n_processes: int = 1) -> str:
    """How much memory and disk the run will take."""
    limit_mb = request.settings.memory_limit_mb
    need = _rest_mb(source, request.settings)
    if facts is not None:
        side = min(facts.tile_px, max(source.shape[-2:])) + 2 * (facts.halo_px or 0)
        need += side * side * facts.bytes_per_px / _MB
    item = stored_dtype(request.dtype, source, is_computed=facts is not None).itemsize
    disk = int(np.prod(source.shape)) * item * 4 // 3 * (2 if request.is_tiff else 1)
    free = shutil.disk_usage(Path(request.target).absolute().parent).free
    each = f" in each of {n_processes} processes" if n_processes > 1 else ""
    note = (
        f"Needs about {need:.0f} MB of memory{each} (limit {limit_mb} MB) and up to {size_text(disk)} on the disk "
        f"({size_text(free)} are free)."
    )
    if need > limit_mb:
        note += " That is more than the limit, with tiles as small as they can be."
    return note


def size_text(n_bytes: float) -> str:
    """Bytes for people.

    >>> size_text(1_234_567)
    '1.23 MB'
    """
    for unit in ("kB", "MB", "GB"):
        n_bytes /= 1000
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
    return f"{n_bytes / 1000:.3g} TB"
