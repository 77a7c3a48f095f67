"""What of a large run is done: blocks and measurements, kept in the journal, counted for progress and the record."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_cellenhance.core.tiling import Region
from napari_cellenhance.workflows._large_blocks import STACK, BlockStore
from napari_cellenhance.workflows._large_source import LargeSource, Measured
from napari_cellenhance.workflows._large_target import LargeTarget, writing
from napari_cellenhance.workflows._planes import PlaneIndex
from napari_cellenhance.workflows.progress import OnProgress, Progress

if TYPE_CHECKING:
    from napari_cellenhance.workflows.large_images import LargeRequest

__all__ = ["Ledger", "Missing"]

Missing = dict[PlaneIndex, list[Region]]


class Ledger:
    """One run: what is done. Only its own process writes to it.

    Parameters
    ----------
    request : LargeRequest
    source : LargeSource
    target : LargeTarget
    on_progress : callable
    """

    def __init__(
        self, request: LargeRequest, source: LargeSource, target: LargeTarget, on_progress: OnProgress
    ) -> None:
        self.target, self._on_progress = target, on_progress
        self.n_t, self.n_c, self.n_z = source.shape[:3]
        header = target.journal.header
        self.blocks = BlockStore(
            target.store, source.axes_out, int(header["block_px"]), request.chunk_px, request.dtype,
            is_exact=request.is_labels,
        )  # fmt: skip
        self.done: set[tuple[int, ...]] = set()
        self.measured: dict[PlaneIndex, Measured] = {}
        for entry in target.journal.entries:
            if "done" in entry:
                self.done.add(tuple(entry["done"]))
            else:
                t, c, z = entry["plane"]
                self.measured[t, c, z] = Measured.from_dict(entry)
        self.n_resumed = len(self.done)
        n_planes = self.n_t * self.n_c * self.n_z
        self.n_levels = len(target.store.levels)
        self.n_total = n_planes * sum(len(self.blocks.regions(level)) for level in range(self.n_levels))
        self.warnings: list[str] = []
        if header["memory_limit_mb"] != request.settings.memory_limit_mb:
            self.warnings.append("Continued with another memory limit: the last bits of the values may differ.")
        self._started = time.monotonic()

    def planes_of(self, channel: int) -> Iterator[PlaneIndex]:
        """All planes of a channel."""
        for t in range(self.n_t):
            for z in range(self.n_z):
                yield (t, channel, z)

    def missing(self, level: int, channel: int) -> Missing:
        """Blocks that are not there yet, by plane; planes that are complete are left out."""
        found = {}
        for index in self.planes_of(channel):
            regions = [one for one in self.blocks.regions(level) if (level, *index, one.y0, one.x0) not in self.done]
            if regions:
                found[index] = regions
        return found

    def add_measured(self, key: PlaneIndex, measured: Measured) -> None:
        """Keep what was measured of a plane, or of a stack.

        Raises
        ------
        WriteError
        """
        with self.writing():
            self.target.journal.add({"plane": key, **measured.to_dict()})
        self.measured[key] = measured

    def add_done(self, level: int, index: PlaneIndex, y0: int, x0: int) -> None:
        """Note that a block is on the disk; a second time it does nothing.

        Raises
        ------
        WriteError
        """
        key = (level, *index, y0, x0)
        if key in self.done:
            return
        with self.writing():
            self.target.journal.add({"done": key})
        self.done.add(key)
        self.say(f"Plane {self.name(index)}" if level == 0 else f"Pyramid, level {level}")

    def writing(self) -> AbstractContextManager[None]:
        """Translate what goes wrong while something is written."""
        return writing(Path(self.target.path), lambda: f"none of the {len(self.done)} finished blocks")

    def name(self, index: PlaneIndex) -> str:
        """Place of a plane among all, for people."""
        t, c, z = index
        if t == STACK:
            return "the stack"
        return f"{(c * self.n_t + t) * self.n_z + z + 1} of {self.n_t * self.n_c * self.n_z}"

    def say(self, message: str) -> None:
        """Report how far it is, and how long it will take."""
        new = len(self.done) - self.n_resumed
        left = self.n_total - len(self.done)
        eta = (time.monotonic() - self._started) * left / new if new else None
        self._on_progress(Progress(n_done=len(self.done), n_total=self.n_total, message=message, eta_s=eta))

    def sentences(self) -> tuple[str, ...]:
        """Warnings, each once."""
        found = list(dict.fromkeys(self.warnings))
        n_flat = sum(measured.normalizer.is_flat for measured in self.measured.values())
        n_bad = sum(measured.n_bad for measured in self.measured.values())
        if n_flat:
            found.append(f"{n_flat} planes or stacks of one single grey value: returned as zeros.")
        if n_bad:
            found.append(f"{n_bad} pixels without a finite number: NaN in the result.")
        return tuple(found)

    def normalizers(self) -> list[dict[str, Any]]:
        """For the record of the result."""
        return [
            {"t": t, "c": c, "z": z, **measured.normalizer.to_dict()}
            for (t, c, z), measured in sorted(self.measured.items())
        ]
