"""What a worker of a cluster does for a large image: measure planes, make blocks, write them, tell of each.

The filter is loaded once in each process, and the plane in hand is kept for the tasks that follow. A process works on
one task at a time, however many threads it has: filters and planes are not shared.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from napari_cellenhance.core.errors import CellEnhanceError, ClusterError
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.workflows import catalog
from napari_cellenhance.workflows._engine import Engine
from napari_cellenhance.workflows._large_blocks import STACK, BlockStore, PlaneMaker
from napari_cellenhance.workflows._large_memory import EngineFacts, filter_memory_mb, plane_limit_bytes
from napari_cellenhance.workflows._large_source import LargeSource, Measured, PlaneStore
from napari_cellenhance.workflows._large_target import journal_of, partial_of, told
from napari_cellenhance.workflows._planes import PlaneIndex
from napari_cellenhance.workflows.cluster import device_here, is_stopped, refuse_other_software, software, tell
from napari_cellenhance.workflows.large_images import LargeRequest
from napari_cellenhance.workflows.strength_maps import strength_of

__all__ = ["Job", "hopeless_as_told", "make_blocks", "measure", "open_filter", "probe"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker must know of a run.

    Parameters
    ----------
    run_id : str
    request : LargeRequest
        With absolute paths.
    weights : str
        SHA-256 of the filter's weights, or its version.
    software : dict
        Versions that the worker must have too.
    block_px : int
        Side of a block.
    """

    run_id: str
    request: LargeRequest
    weights: str
    software: dict[str, str]
    block_px: int


def probe(job: Job) -> EngineFacts | CellEnhanceError:
    """Open the filter: which device it has here, and which tiles."""
    return _at_work(job, lambda bench: EngineFacts.of(bench.engine_or_fail()).as_kind())


def measure(job: Job, key: PlaneIndex) -> dict[str, Any] | CellEnhanceError | None:
    """Statistics of a plane, or of the planes that stand for a stack; None after a cancel."""
    from napari_cellenhance.core.inference import Cancelled

    def work(bench: _Bench) -> dict[str, Any] | None:
        planes = bench.maker.pooled(key[1]) if key[0] == STACK else [key]
        try:
            return bench.source.measure(bench.maker.spec, planes, bench.checkpoint).to_dict()
        except Cancelled:
            return None

    return _at_work(job, work)


def make_blocks(
    job: Job, level: int, index: PlaneIndex, regions: Sequence[Region], measured: dict[str, Any] | None
) -> dict[str, Any] | CellEnhanceError:
    """Make blocks of a plane and write them; those that the journal knows are left alone.

    Returns
    -------
    dict
        ``done``, keys of the blocks that are on the disk now; ``warnings``; ``place``, the device; ``error``, why the
        others are not, or None.
    """
    return _at_work(job, lambda bench: _make_blocks(bench, level, index, regions, measured))


def _make_blocks(
    bench: _Bench, level: int, index: PlaneIndex, regions: Sequence[Region], measured: dict[str, Any] | None
) -> dict[str, Any]:
    from napari_cellenhance.core.inference import Cancelled

    target = bench.job.request.target
    wanted: dict[tuple[int, ...], Region] = {(level, *index, one.y0, one.x0): one for one in regions}
    done = _known(journal_of(target), list(wanted))
    error: CellEnhanceError | None = None
    try:
        for key, region in wanted.items():
            if key in done:
                continue
            bench.checkpoint()
            make = bench.plane(index, measured) if level == 0 else functools.partial(bench.blocks.halved, level, index)
            image = make(region)
            with hopeless_as_told(Path(target)):
                bench.blocks.keep(level, index, region, image)
            done.append(key)
            tell(bench.job.run_id, key="block", done=list(key))
    except Cancelled:
        pass
    except CellEnhanceError as found:
        error = found
    engine = bench.engine
    return {
        "done": [list(key) for key in done],
        "warnings": [] if engine is None else list(engine.warnings),
        "place": "" if engine is None or level else engine.opened.choice.device.partition(":")[0],
        "error": error,
    }


@contextmanager
def hopeless_as_told(target: Path) -> Iterator[None]:
    """A disk that is full, or cannot be written, will be so the next time too; other trouble may pass."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise told(error, target, "nothing that is finished") from error
        raise


@functools.lru_cache(maxsize=1)
def open_filter(
    filter_id: str, weights: str, device: str, precision: str, memory_mb: int, cache_folder: str
) -> catalog.OpenedFilter:
    """Load a filter, once in a process.

    Raises
    ------
    ClusterError
        Its weights here are others.
    ModelNotFoundError, DownloadError, ChecksumError, DeviceError
        As in :func:`napari_cellenhance.workflows.catalog.open_enhancer`.
    """
    spec = catalog.describe(filter_id)
    if (spec.sha256 or spec.version) != weights:
        raise ClusterError(f"{filter_id} has other weights on a worker than here; copy the model to all machines")
    return catalog.open_enhancer(filter_id, device, precision, memory_limit_mb=memory_mb, cache_folder=cache_folder)


# --- the bench --------------------------------------------------------------------------------


@dataclass
class _Bench:
    """What a process keeps of a run from task to task."""

    job: Job
    source: LargeSource
    maker: PlaneMaker
    engine: Engine | None
    room: ExitStack
    _blocks: BlockStore | None = None
    _stack: tuple[int, Any] | None = None
    _plane: tuple[PlaneIndex, Callable[[Region], Any]] | None = None
    _of_stack: ExitStack = field(default_factory=ExitStack)
    _of_plane: ExitStack = field(default_factory=ExitStack)

    @classmethod
    def open(cls, job: Job) -> _Bench:
        from distributed import get_worker

        from napari_cellenhance.io.lazy_images import open_lazily

        request, room = job.request, ExitStack()
        if not Path(str(request.source)).exists():
            raise ClusterError(
                f"a worker ({get_worker().address}) does not see {request.source}; put images and results into a "
                "folder that all machines share under the same path"
            )
        try:
            image = room.enter_context(open_lazily(str(request.source)))
            source = LargeSource(image, request.settings)
            settings = dataclasses.replace(request.settings, image=source.pixels, axes=source.axes)
            spec = catalog.describe(settings.filter_id)
            engine = None
            if strength_of(settings, spec) != 0.0:
                engine = Engine(
                    open_filter(
                        settings.filter_id, job.weights, device_here(settings.device), settings.precision,
                        filter_memory_mb(source, settings), settings.cache_folder,
                    ),
                    settings.tile_px,
                )  # fmt: skip
            planes = PlaneStore(Path(get_worker().local_directory), plane_limit_bytes(settings))
            maker = PlaneMaker(
                settings, spec, source, engine, planes, job.block_px, lambda: _checkpoint(job.run_id), nullcontext
            )
        except BaseException:
            room.close()
            raise
        return cls(job, source, maker, engine, room)

    @property
    def blocks(self) -> BlockStore:
        """The result."""
        from napari_cellenhance.io.ome_zarr import reopen_store

        if self._blocks is None:
            request = self.job.request
            store = reopen_store(partial_of(request.target))
            self._blocks = BlockStore(
                store,
                self.source.axes_out,
                self.job.block_px,
                request.chunk_px,
                request.dtype,
                is_exact=request.is_labels,
            )
        return self._blocks

    def engine_or_fail(self) -> Engine:
        assert self.engine is not None  # a probe is for filters that are computed
        return self.engine

    def checkpoint(self) -> None:
        _checkpoint(self.job.run_id)

    def plane(self, index: PlaneIndex, stored: dict[str, Any] | None) -> Callable[[Region], Any]:
        """What makes blocks of a plane: the one that is open, or another one in its place."""
        if self._plane is not None and self._plane[0] == index:
            return self._plane[1]
        self._plane = None
        self._of_plane.close()
        measured = None if stored is None else Measured.from_dict(stored)
        calibration = None
        if measured is not None and self.job.request.settings.statistics == "stack":
            calibration = self._calibration(index[1], measured)
        make = self._of_plane.enter_context(self.maker.plane(index, measured, calibration))
        self._plane = (index, make)
        return make

    def _calibration(self, channel: int, measured: Measured) -> Any:
        if self._stack is None or self._stack[0] != channel:
            self._stack = None
            self._of_stack.close()
            self._stack = (channel, self._of_stack.enter_context(self.maker.stack(channel, measured)))
        return self._stack[1]

    def close(self) -> None:
        self._of_plane.close()
        self._of_stack.close()
        self.room.close()


_AT_WORK = threading.Lock()
_kept: list[_Bench] = []
"""The bench of the last run, or nothing."""


def _at_work(job: Job, work: Callable[[_Bench], T]) -> T | CellEnhanceError:
    """Do a task on the bench of its run; errors that every try would meet are returned, others raised."""
    with _AT_WORK:
        try:
            refuse_other_software(job.software, software(), "a worker")
            return work(_bench_of(job))
        except CellEnhanceError as error:
            return error


def _bench_of(job: Job) -> _Bench:
    if _kept and _kept[0].job != job:
        _kept.pop().close()
    if not _kept:
        _kept.append(_Bench.open(job))
    return _kept[0]


def _checkpoint(run_id: str) -> None:
    from napari_cellenhance.core.inference import Cancelled

    if is_stopped(run_id):
        raise Cancelled


def _known(journal: Path, keys: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Keys that a journal notes as done; a worker that died may have made them."""
    try:
        lines = journal.read_bytes()
    except OSError:
        return []
    return [key for key in keys if b'{"done":[' + b",".join(b"%d" % n for n in key) + b"]}\n" in lines]
