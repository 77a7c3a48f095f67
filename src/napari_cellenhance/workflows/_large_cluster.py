"""The blocks of a large image, made by the workers of a cluster; the journal is written by this process alone.

A worker gets some blocks of one plane at a time, and tells of each one when its chunks are on the disk. Where a
worker dies, its blocks go to another one, which looks into the journal first: what is there is not made again.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

from napari_cellenhance.core.errors import CellEnhanceError, ClusterError
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.workflows import _large_worker, catalog
from napari_cellenhance.workflows._large_blocks import STACK
from napari_cellenhance.workflows._large_ledger import Ledger
from napari_cellenhance.workflows._large_memory import EngineFacts
from napari_cellenhance.workflows._large_source import Measured
from napari_cellenhance.workflows._large_worker import Job
from napari_cellenhance.workflows._planes import PlaneIndex
from napari_cellenhance.workflows.cluster import Crew, News, software
from napari_cellenhance.workflows.large_images import LargeRequest
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress

__all__ = ["ClusterWork"]

_TASKS_PER_THREAD = 4
"""Pieces that the work is cut into for each thread at least, so that all of them end at about the same time."""
_AHEAD = 2
"""Tasks per thread that are handed out at a time."""

_Unit = tuple[str, PlaneIndex, int, tuple[Region, ...]]
"""What to do ("measure", "blocks"), with which plane (or stack), on which level, and which blocks."""


class ClusterWork:
    """Hands out what is missing, and notes what is done.

    Parameters
    ----------
    crew : Crew
    request : LargeRequest
    spec : FilterSpec
    is_cancelled : callable
    """

    def __init__(self, crew: Crew, request: LargeRequest, spec: catalog.FilterSpec, is_cancelled: IsCancelled) -> None:
        self._crew, self._is_cancelled = crew, is_cancelled
        here = dataclasses.replace(
            request, source=os.path.abspath(str(request.source)), target=os.path.abspath(request.target), cluster=None
        )
        self._job = Job(crew.run_id, here, spec.sha256 or spec.version, software(), block_px=0)
        self.facts: EngineFacts | None = None
        self._is_stopping = False
        self._error: Exception | None = None
        self._pending: dict[Any, Any] = {}
        self._units: deque[_Unit] = deque()
        self._places: Counter[str] = Counter()

    def probe(self, on_progress: OnProgress) -> EngineFacts:
        """Open the filter on a worker: its device, and the size of tiles there.

        Raises
        ------
        ClusterError
            A worker does not see the source, or has other weights or versions.
        ModelNotFoundError, DownloadError, ChecksumError, DeviceError
            It cannot open the filter.
        """
        on_progress(Progress(n_done=0, n_total=0, message="Loading the filter on a worker"))
        self._crew.submit("probe", _large_worker.probe, self._job)
        while (news := self._crew.next()) is None:
            pass
        self.facts = _unwrapped(self._crew.result_of(news.future))
        return self.facts

    def run(self, ledger: Ledger) -> bool:
        """Full image first, then the pyramid level by level; False where it was cancelled.

        Raises
        ------
        CellEnhanceError, OSError
            What stopped it; all blocks that were finished are noted.
        """
        self._job = dataclasses.replace(self._job, block_px=ledger.blocks.block_px)
        for level in range(ledger.n_levels):
            self._units = deque(self._first_units(ledger, level))
            self._drain(ledger)
            if self._error is not None:
                raise self._error
            if self._is_stopping:
                return False
        self._sum_up(ledger)
        return True

    # --- what there is to do ------------------------------------------------------------------

    def _first_units(self, ledger: Ledger, level: int) -> Iterator[_Unit]:
        is_stack = self._job.request.settings.statistics == "stack"
        for channel in range(ledger.n_c):
            missing = ledger.missing(level, channel)
            if level or self.facts is None:
                yield from self._block_units(ledger, level, missing)
            elif is_stack and missing:
                yield ("measure", (STACK, channel, STACK), 0, ())
            else:
                for index in missing:
                    yield ("measure", index, 0, ())

    def _block_units(self, ledger: Ledger, level: int, missing: dict[PlaneIndex, list[Region]]) -> Iterator[_Unit]:
        """Blocks of one plane each: all of them where there are many planes, some where there are few."""
        n_planes = max(1, ledger.n_t * ledger.n_c * ledger.n_z)
        n_parts = max(1, math.ceil(_TASKS_PER_THREAD * max(1, self._crew.n_threads) / n_planes))
        for index, regions in missing.items():
            side = max(1, math.ceil(len(regions) / n_parts))
            for start in range(0, len(regions), side):
                yield ("blocks", index, level, tuple(regions[start : start + side]))

    def _after_measuring(self, ledger: Ledger, key: PlaneIndex) -> list[_Unit]:
        missing = ledger.missing(0, key[1])
        chosen = missing if key[0] == STACK else {key: missing[key]}
        return list(self._block_units(ledger, 0, chosen))

    # --- handing out, taking back -------------------------------------------------------------

    def _drain(self, ledger: Ledger) -> None:
        while self._units or self._pending:
            if self._is_cancelled():
                self._stop()
            while self._units and len(self._pending) < _AHEAD * max(1, self._crew.n_threads):
                self._hand_out(ledger, self._units.popleft())
            news = self._crew.next()
            if news is None:
                if self._is_stopping and not self._crew.n_workers:
                    self._pending.clear()  # nobody is left to end them
                continue
            try:
                self._take(ledger, news)
            except Exception as error:  # noqa: BLE001 - raised when all tasks have ended
                self._give_up(error)

    def _hand_out(self, ledger: Ledger, unit: _Unit) -> None:
        what, index, level, regions = unit
        if what == "measure" and index in ledger.measured:
            self._units.extendleft(reversed(self._after_measuring(ledger, index)))
            return
        if what == "measure":
            work: Any = _large_worker.measure
            given: tuple[Any, ...] = (self._job, index)
        else:
            work = _large_worker.make_blocks
            given = (self._job, level, index, regions, self._measured_of(ledger, index))
        self._pending[unit] = self._crew.submit(unit, work, *given)

    def _measured_of(self, ledger: Ledger, index: PlaneIndex) -> dict[str, Any] | None:
        found = ledger.measured.get(index) or ledger.measured.get((STACK, index[1], STACK))
        return None if found is None else found.to_dict()

    def _take(self, ledger: Ledger, news: News) -> None:
        if news.event is not None:
            self._note(ledger, news.event["done"])
            return
        unit = news.key
        self._pending.pop(unit, None)
        if news.future.status == "cancelled" and self._is_stopping:
            return
        told = _unwrapped(self._crew.result_of(news.future))
        what, index, _, _ = unit
        if what == "measure":
            if told is not None:
                ledger.add_measured(index, Measured.from_dict(told))
                if not self._is_stopping:
                    self._units.extendleft(reversed(self._after_measuring(ledger, index)))
            return
        for key in told["done"]:
            self._note(ledger, key)
        if told["error"] is not None:
            self._give_up(told["error"])
        ledger.warnings += [text for text in told["warnings"] if text not in ledger.warnings]
        if told["place"]:
            self._places[told["place"]] += len(told["done"])

    def _note(self, ledger: Ledger, key: list[int]) -> None:
        level, t, c, z, y0, x0 = key
        ledger.add_done(level, (t, c, z), y0, x0)

    def _give_up(self, error: Exception) -> None:
        if self._error is None and isinstance(error, OSError) and not isinstance(error, CellEnhanceError):
            self._error = ClusterError(
                f"a worker failed again and again ({error}); mend that, and run the same again: it goes on"
            )
        self._error = self._error or error
        self._stop()

    def _stop(self) -> None:
        """Nothing more is begun; what is in hand ends at its next tile, and tells what it has done."""
        if self._is_stopping:
            return
        self._is_stopping = True
        self._units.clear()
        self._crew.stop()

    def _sum_up(self, ledger: Ledger) -> None:
        if len(self._places) > 1:
            parts = ", ".join(f"{n} on {place}" for place, n in sorted(self._places.items()))
            ledger.warnings.append(f"Blocks were made on different devices ({parts}): the last bits may differ.")


def _unwrapped(told: Any) -> Any:
    """What a task returned, or the error that would be the same on any worker."""
    if isinstance(told, CellEnhanceError):
        raise told
    return told
