"""Objects of an image larger than memory: found block by block, joined across blocks, written as labels to OME-Zarr.

Three walks over each plane: pieces of objects in each block; which pieces are the same object, and its number; the
labels themselves. Like any large result it grows under another name beside a journal, and goes on after any end. Pieces
lie in ``<target>.pieces`` until the result is complete.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellenhance.core.errors import CellEnhanceError, ParameterError, WriteError
from napari_cellenhance.core.object_pieces import ObjectOptions
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.io.lazy_images import LazyImage
from napari_cellenhance.workflows._large_label_work import LabelRule, LabelUnit, Workbench, do_unit, pieces_of, work_on
from napari_cellenhance.workflows._large_target import lock_of, told, writing
from napari_cellenhance.workflows._planes import PlaneIndex
from napari_cellenhance.workflows._provenance import versions
from napari_cellenhance.workflows.cluster import Cluster
from napari_cellenhance.workflows.large_images import LargeResult, OnNote
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress

if TYPE_CHECKING:
    from napari_cellenhance.io.ome_zarr import OmeZarrVersion
    from napari_cellenhance.workflows._large_source import LargeSource

__all__ = ["LabelRule", "LargeLabelsRequest", "run"]

_BYTES_PER_PX = 160
"""Peak of finding objects, per pixel of a block with its context."""
_PROGRAM_MB = 550
_LARGEST_BLOCK_PX = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeLabelsRequest:
    """Number the objects of one image of any size.

    Parameters
    ----------
    source : path or LazyImage
        A finished OME-Zarr: an enhanced image, or classes.
    target : path
        Folder to make, with a name that ends in ``.zarr``.
    rule : LabelRule
        Which pixels belong to objects.
    objects : ObjectOptions
        How they become objects.
    memory_limit_mb : int
        For the whole program.
    chunk_px, version, overwrite, cluster
        As for :class:`~napari_cellenhance.workflows.large_images.LargeRequest`.
    """

    source: str | os.PathLike[str] | LazyImage
    target: str | os.PathLike[str]
    rule: LabelRule = field(default_factory=LabelRule)
    objects: ObjectOptions = field(default_factory=ObjectOptions)
    memory_limit_mb: int = 2000
    chunk_px: int = 512
    version: OmeZarrVersion = "0.5"
    overwrite: bool = False
    cluster: Cluster | None = None

    def __post_init__(self) -> None:
        if not Path(self.target).name.lower().endswith(".zarr"):
            raise ParameterError(
                f"labels of a large image cannot be written to {self.target}; expected a name ending in .ome.zarr"
            )
        if self.chunk_px < 16:
            raise ParameterError(f"chunks are {self.chunk_px} px wide; expected 16 or more")
        if self.cluster is not None and isinstance(self.source, LazyImage):
            raise ParameterError(
                "an image that is open here cannot be read by other processes; name its file, or work without a cluster"
            )

    @property
    def is_tiff(self) -> bool:
        """Never: labels go to an OME-Zarr."""
        return False

    @property
    def is_labels(self) -> bool:
        """Always."""
        return True

    @property
    def dtype(self) -> str:
        """Of the ids."""
        return "uint32"

    @property
    def title(self) -> str:
        """Name of the labels in their metadata."""
        return Path(self.target).name.removesuffix(Path(self.target).suffix).removesuffix(".ome")

    @property
    def block_px(self) -> int:
        """Side of a block, whole chunks, that keeps to the memory with its context."""
        side = int((max(50, self.memory_limit_mb - _PROGRAM_MB) * 10**6 / _BYTES_PER_PX) ** 0.5)
        side = min(_LARGEST_BLOCK_PX, side - 2 * self.objects.context_px)
        return max(1, side // self.chunk_px) * self.chunk_px


def run(
    request: LargeLabelsRequest,
    *,
    on_progress: OnProgress = no_progress,
    on_note: OnNote = lambda note: None,
    is_cancelled: IsCancelled = never_cancelled,
) -> LargeResult:
    """Number the objects, or go on with a run of the same request that did not come to its end.

    Raises
    ------
    ImageError, AxesError, ParameterError
        A source or a setting that does not fit.
    TargetExistsError
        The target is there, or an unfinished one from another source or other settings.
    WriteError
        Disk full, no permission; what is done stays, and the same request goes on.
    BusyError
        Another run is writing the same result.
    MissingExtraError, ClusterError
        As in :func:`napari_cellenhance.workflows.cluster.connect`, or workers that were lost for good.

    Notes
    -----
    Where nothing is cut, labels are those of the whole plane, number by number. Where touching objects are cut, so are
    all that a block sees from end to end: those up to 256 px, wherever they lie. What hangs together farther than that
    is cut by what each block sees, joined where blocks agree, and may differ from the whole plane.
    """
    from napari_cellenhance.io.run_lock import only_run

    target = Path(request.target)
    if not target.absolute().parent.is_dir():
        raise WriteError(f"there is no folder {target.parent}; make it first, or choose another one")
    source = request.source if isinstance(request.source, LazyImage) else os.path.abspath(request.source)
    bench = Workbench(
        source, os.path.abspath(target), request.rule, request.objects, request.block_px, request.chunk_px,
        uuid.uuid4().hex,
    )  # fmt: skip
    with only_run(lock_of(target), target):
        return _Labelling(request, bench, on_progress, on_note, is_cancelled).run()


class _Labelling:
    """One run."""

    def __init__(
        self,
        request: LargeLabelsRequest,
        bench: Workbench,
        on_progress: OnProgress,
        on_note: OnNote,
        is_cancelled: IsCancelled,
    ) -> None:
        self.request, self.bench = request, bench
        self.on_progress, self.on_note, self.is_cancelled = on_progress, on_note, is_cancelled
        self.source: LargeSource = bench.image
        self.record = _record_of(request)
        self.done: set[tuple[Any, ...]] = set()
        self.limits: dict[PlaneIndex, float] = {}
        self.counts: dict[PlaneIndex, tuple[int, int]] = {}
        self.n_resumed, self.n_total = 0, 0
        self._started = time.monotonic()

    def run(self) -> LargeResult:
        from napari_cellenhance.core.inference import Cancelled
        from napari_cellenhance.workflows._large_target import LargeTarget

        target = Path(self.request.target)
        try:
            opened = LargeTarget.open(self.request, self.source, self._header())
        except OSError as error:
            raise told(error, target, "nothing") from error
        if opened is None:
            self._clear()
            return LargeResult(target=target, is_complete=True, n_done=0, n_total=0)
        self.opened = opened
        is_complete = True
        with opened.journal:
            self._remember()
            self._tell_need()
            with writing(target, self._kept):
                self._open_pieces()
            try:
                self._all_planes()
            except Cancelled:
                is_complete = False
            if is_complete:
                with writing(target, self._kept):
                    opened.finish(self.request, self.source, self._provenance())
                self._clear()
        return LargeResult(
            target=target, is_complete=is_complete, n_done=len(self.done), n_total=self.n_total,
            n_resumed=self.n_resumed, warnings=self._sentences(),
        )  # fmt: skip

    # --- the walks ----------------------------------------------------------------------------

    def _all_planes(self) -> None:
        with _hands(self.request, self.bench, self.on_note, self.is_cancelled, self._guard) as hands:
            last = 0
            for index in np.ndindex(*self.source.shape[:3]):
                plane: PlaneIndex = (int(index[0]), int(index[1]), int(index[2]))
                last = self._label(plane, last, hands)
            for level in range(1, len(self.bench.labels.store.levels)):
                self._do(hands, self._units("level", level))

    def _label(self, plane: PlaneIndex, last: int, hands: _Hands) -> int:
        """Number the objects of a plane; the last number that was given."""
        labels = list(self._units("labels", 0, plane))
        if labels or plane not in self.counts:
            self._do(hands, self._units("pieces", 0, plane, self._limit(plane)))
            self._join(plane, last)
            self._do(hands, labels)
        return last + self.counts[plane][0]

    def _units(self, kind: Any, level: int, plane: PlaneIndex | None = None, limit: float = 0.0) -> Iterator[LabelUnit]:
        planes = [plane] if plane is not None else [(int(t), int(c), int(z)) for t, c, z in self._indices()]
        for index in planes:
            for region in self.bench.labels.regions(level):
                unit = LabelUnit(kind, level, index, (region,), limit)
                if _key(unit, region) not in self.done:
                    yield unit

    def _indices(self) -> Iterable[tuple[int, ...]]:
        return np.ndindex(*self.source.shape[:3])

    def _do(self, hands: _Hands, units: Iterable[LabelUnit]) -> None:
        for unit in hands(units):
            for region in unit.regions:
                key = _key(unit, region)
                with writing(Path(self.request.target), self._kept):
                    self.opened.journal.add({"done": key})
                self.done.add(key)
            self._say(unit)

    def _limit(self, plane: PlaneIndex) -> float:
        """Threshold of a plane, in its own values."""
        rule = self.request.rule
        if rule.method == "class":
            return rule.value
        if plane not in self.limits:
            top = float(np.iinfo(self.source.dtype).max) if self.source.dtype.kind in "iu" else 1.0
            limit = _otsu(self.source, plane, self._checkpoint) if rule.method == "otsu" else rule.value * top
            with writing(Path(self.request.target), self._kept):
                self.opened.journal.add({"plane": plane, "limit": limit})
            self.limits[plane] = limit
        return self.limits[plane]

    def _join(self, plane: PlaneIndex, last: int) -> None:
        from napari_cellenhance.core.object_pieces import Joiner

        joiner = Joiner((self.source.shape[-2], self.source.shape[-1]), self.request.objects)
        for region in self.bench.labels.regions(0):
            self._checkpoint()
            joiner.add(region, self.bench.read_pieces(plane, region))
        objects = joiner.objects()
        if last + objects.n > np.iinfo(np.uint32).max:
            raise ParameterError("there are more objects than 32 bits can number; label parts of the image")
        with writing(Path(self.request.target), self._kept):
            self.bench.keep_objects(plane, objects, last)
            if plane not in self.counts:
                self.opened.journal.add({"plane": plane, "objects": objects.n, "joined": objects.n_joined})
        self.counts[plane] = (objects.n, objects.n_joined)

    # --- what is known, and told --------------------------------------------------------------

    def _header(self) -> dict[str, Any]:
        request, source = self.request, self.source
        return {
            "run": {
                "source": str(self.bench.source) if not isinstance(self.bench.source, LazyImage) else "",
                "made": self.record.get("created_utc"), "pixels": source.sample(), "shape": source.pixels.shape,
                "rule": asdict(request.rule), "objects": asdict(request.objects), "chunk": request.chunk_px,
                "OME-Zarr": request.version, "strength": None, "program": versions()["napari-cellenhance"],
            },
            "block_px": request.block_px,
            "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        }  # fmt: skip

    def _remember(self) -> None:
        header = self.opened.journal.header
        for entry in self.opened.journal.entries:
            if "done" in entry:
                self.done.add(tuple(entry["done"]))
                continue
            t, c, z = entry["plane"]
            if "limit" in entry:
                self.limits[t, c, z] = float(entry["limit"])
            else:
                self.counts[t, c, z] = (int(entry["objects"]), int(entry["joined"]))
        # Blocks stay those of the run that began, whatever the memory is now.
        bench = self.bench
        self.bench = Workbench(
            bench.source, bench.target, bench.rule, bench.objects, int(header["block_px"]), bench.chunk_px, bench.run
        )
        self.n_resumed = len(self.done)
        n_planes = int(np.prod(self.source.shape[:3]))
        labels = self.bench.labels
        per_plane = [len(labels.regions(level)) for level in range(len(labels.store.levels))]
        self.n_total = n_planes * (per_plane[0] + sum(per_plane))

    def _open_pieces(self) -> None:
        from napari_cellenhance.io.ome_zarr import create_store

        folder = pieces_of(self.bench.target)
        if self.n_resumed and folder.exists():
            return
        self.done = {key for key in self.done if key[0] != "pieces"}  # somebody removed them: find them again
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        lengths = dict(zip("TCZYX", self.source.shape, strict=True))
        axes = self.source.axes_out
        create_store(
            folder / "keys", [[lengths[letter] for letter in axes]], axes, dtype=np.uint64,
            chunk_px=self.request.chunk_px, name="pieces",
        )  # fmt: skip

    def _clear(self) -> None:
        folder = pieces_of(self.bench.target)
        if folder.exists():
            shutil.rmtree(folder)

    def _tell_need(self) -> None:
        from napari_cellenhance.workflows._large_memory import size_text

        side = min(self.bench.block_px, max(self.source.shape[-2:])) + 2 * self.request.objects.context_px
        need = _PROGRAM_MB + side * side * _BYTES_PER_PX / 10**6
        n_px = int(np.prod(self.source.shape))
        free = shutil.disk_usage(Path(self.request.target).absolute().parent).free
        self.on_note(
            f"Labels need about {need:.0f} MB of memory (limit {self.request.memory_limit_mb} MB) and up to "
            f"{size_text(n_px * 12)} on the disk, most probably a tenth of that ({size_text(free)} are free)."
        )
        if self.n_resumed:
            self.on_note(
                f"Going on with a run that was not finished: {self.n_resumed} of {self.n_total} steps are done."
            )

    def _kept(self) -> str:
        return f"none of the {len(self.done)} finished steps"

    def _guard(self) -> Any:
        return writing(Path(self.request.target), self._kept)

    def _say(self, unit: LabelUnit) -> None:
        t, c, z = unit.index
        n_t, n_c, n_z = self.source.shape[:3]
        place = f"plane {(t * n_c + c) * n_z + z + 1} of {n_t * n_c * n_z}"
        what = {"pieces": f"Finding objects, {place}", "labels": f"Numbering, {place}"}
        new, left = len(self.done) - self.n_resumed, self.n_total - len(self.done)
        eta = (time.monotonic() - self._started) * left / new if new else None
        message = what.get(unit.kind, f"Pyramid, level {unit.level}")
        self.on_progress(Progress(n_done=len(self.done), n_total=self.n_total, message=message, eta_s=eta))

    def _checkpoint(self) -> None:
        from napari_cellenhance.core.inference import Cancelled

        if self.is_cancelled():
            raise Cancelled

    def _sentences(self) -> tuple[str, ...]:
        n_joined = sum(joined for _, joined in self.counts.values())
        if not (n_joined and self.request.objects.split_touching):
            return ()
        text = (
            f"{n_joined} objects belong to clusters that reach farther than a block sees: they were cut by what each "
            "block sees, and joined across its borders."
        )
        return (text,)

    def _provenance(self) -> dict[str, Any]:
        rule = self.request.rule
        limits = [{"t": t, "c": c, "z": z, "threshold": limit} for (t, c, z), limit in sorted(self.limits.items())]
        return {
            "software": "napari-cellenhance", "step": "label",
            "method": "class" if rule.method == "class" else "threshold", "rule": asdict(rule), "thresholds": limits,
            "objects": asdict(self.request.objects), "n_objects": sum(n for n, _ in self.counts.values()),
            "block_px": self.bench.block_px, "axes_out": self.source.axes_out,
            "source": {"name": Path(str(self.bench.source)).name, "shape": list(self.source.pixels.shape)},
            "earlier": self.record or None, "versions": versions(), "warnings": self._sentences(),
            "created_utc": self.opened.journal.header["created_utc"], "is_complete": True,
        }  # fmt: skip


def _record_of(request: LargeLabelsRequest) -> Mapping[str, Any]:
    from napari_cellenhance.io.ome_zarr import open_store

    opened = request.source if isinstance(request.source, LazyImage) else open_store(request.source)
    return opened.provenance or {}


def _key(unit: LabelUnit, region: Region) -> tuple[Any, ...]:
    return (unit.kind, unit.level, *unit.index, region.y0, region.x0)


def _otsu(source: LargeSource, plane: PlaneIndex, checkpoint: Callable[[], None]) -> float:
    """Otsu's threshold of a plane, from the same 256 bins as of a plane in memory, counted window by window."""
    from skimage.filters import threshold_otsu

    walk = source.blocks([plane], checkpoint)
    low = min(float(np.nan_to_num(part).min()) for part in walk())
    high = max(float(np.nan_to_num(part).max()) for part in walk())
    if low == high:
        return high
    edges = np.histogram_bin_edges(np.zeros(0), 256, (low, high))
    counts = np.zeros(256, np.int64)
    for part in walk():
        counts += np.histogram(np.nan_to_num(part).astype(np.float64), 256, (low, high))[0]
    return float(threshold_otsu(hist=(counts, (edges[:-1] + edges[1:]) / 2)))  # type: ignore[no-untyped-call]


# --- hands: this process, or workers ----------------------------------------------------------

_Hands = Callable[[Iterable[LabelUnit]], Iterator[LabelUnit]]
"""Do units in any order, and tell of each one that is done."""

_AHEAD = 2


class _HandsOf:
    """Gives the hands of a run; lets go of workers at the end of a ``with`` block."""

    def __init__(
        self, request: LargeLabelsRequest, bench: Workbench, on_note: OnNote, is_cancelled: IsCancelled, guard: Any
    ) -> None:
        self._request, self._bench, self._on_note = request, bench, on_note
        self._is_cancelled, self._guard = is_cancelled, guard
        self._connected: Any = None

    def __enter__(self) -> _Hands:
        from napari_cellenhance.workflows.cluster import connect

        if self._request.cluster is None:
            return self._here
        self._connected = connect(self._request.cluster, self._on_note, self._is_cancelled)
        self._crew = self._connected.__enter__()
        return self._by_crew

    def __exit__(self, *exception: object) -> None:
        if self._connected is not None:
            self._connected.__exit__(*exception)

    def _here(self, units: Iterable[LabelUnit]) -> Iterator[LabelUnit]:
        from napari_cellenhance.core.inference import Cancelled

        for unit in units:
            if self._is_cancelled():
                raise Cancelled
            with self._guard():
                do_unit(self._bench, unit, unit.regions)
            yield unit

    def _by_crew(self, units: Iterable[LabelUnit]) -> Iterator[LabelUnit]:
        from napari_cellenhance.core.inference import Cancelled

        left: deque[LabelUnit] = deque(units)
        pending: dict[LabelUnit, Any] = {}
        error: Exception | None = None
        while left or pending:
            if self._is_cancelled() or error is not None:
                left.clear()
            while left and len(pending) < _AHEAD * max(1, self._crew.n_threads):
                unit = left.popleft()
                pending[unit] = self._crew.submit(unit, work_on, self._bench, unit)
            news = self._crew.next() if pending else None
            if news is None:
                if self._is_cancelled() and not self._crew.n_workers:
                    break
                continue
            pending.pop(news.key, None)
            try:
                found = self._crew.result_of(news.future)
            except (CellEnhanceError, OSError) as trouble:
                found = trouble
            if found is None:
                yield news.key
            else:
                error = error or found
        if error is not None:
            if isinstance(error, OSError):
                raise told(error, Path(self._request.target), "nothing that is finished")
            raise error
        if self._is_cancelled():
            raise Cancelled


_hands = _HandsOf
