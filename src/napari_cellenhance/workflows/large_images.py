"""Enhance an image larger than memory: read by region, written chunk by chunk, resumed after a crash.

The result grows under the name ``<target>.partial``, beside a journal of finished blocks; it gets its
own name when it is complete. A run that was stopped, killed or ran out of disk goes on at the first
missing block, with the same pixels as a run that was never interrupted. The blocks are made in this
process, or by the workers of a cluster.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_cellenhance.core.errors import ParameterError, WriteError
from napari_cellenhance.core.normalize import sanitize
from napari_cellenhance.workflows import catalog
from napari_cellenhance.workflows._grey_filter import GreyFilter, is_grey
from napari_cellenhance.workflows._large_target import journal_of, lock_of, partial_of, told
from napari_cellenhance.workflows._provenance import describe_run, versions
from napari_cellenhance.workflows._segment_filter import SegmentFilter, is_segmenting
from napari_cellenhance.workflows.cluster import Cluster
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress
from napari_cellenhance.workflows.requests import EnhanceRequest
from napari_cellenhance.workflows.strength_maps import strength_of

if TYPE_CHECKING:
    from napari_cellenhance.io.lazy_images import LazyImage
    from napari_cellenhance.io.ome_zarr import OmeZarrVersion
    from napari_cellenhance.workflows._large_ledger import Ledger
    from napari_cellenhance.workflows._large_memory import EngineFacts
    from napari_cellenhance.workflows._large_source import LargeSource

__all__ = ["DEFAULT_CHUNK_PX", "LargeRequest", "LargeResult", "OnNote", "journal_of", "partial_of", "run"]

OnNote = Callable[[str], None]

DEFAULT_CHUNK_PX = 512
_TIFF = (".tif", ".tiff")


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeRequest:
    """Enhance one OME-Zarr or TIFF into an OME-Zarr, or a tiled OME-TIFF.

    Parameters
    ----------
    source : path or LazyImage
        OME-Zarr folder (0.4, 0.5), TIFF file, or what was opened already; the name of that is ``settings.source_name``.
    target : path
        Folder to make, with a name that ends in ``.zarr``; or a file that ends in ``.tif`` or ``.tiff``, which is made
        of an OME-Zarr in the end.
    settings : EnhanceRequest
        How to enhance; ``axes`` only where the file is wrong or silent. ``memory_limit_mb`` holds for the whole run.
    dtype : "float32", "uint8", "uint16" or "same", optional
        Pixel type; None takes float32. "same", that of the source, rounded, is for results in grey values, which know
        no other but float32.
    chunk_px : int
        Rows and columns of a chunk, in pixels.
    version : "0.4" or "0.5"
        Of OME-Zarr.
    overwrite : bool
        Replace a result, or an unfinished one that does not fit this request.
    cluster : Cluster or None
        Whose workers make the blocks, each with the whole ``memory_limit_mb``; None makes them here.
    """

    source: str | os.PathLike[str] | LazyImage
    target: str | os.PathLike[str]
    settings: EnhanceRequest
    dtype: Literal["float32", "uint8", "uint16", "same"] | None = None
    chunk_px: int = DEFAULT_CHUNK_PX
    version: OmeZarrVersion = "0.5"
    overwrite: bool = False
    cluster: Cluster | None = None

    def __post_init__(self) -> None:
        if not (self.is_tiff or Path(self.target).name.lower().endswith(".zarr")):
            raise ParameterError(
                f"{self.target} cannot be written block by block; expected a name ending in .ome.zarr or .ome.tif"
            )
        if self.chunk_px < 16:
            raise ParameterError(f"chunks are {self.chunk_px} px wide; expected 16 or more")
        allowed = ("float32", "same") if self.is_grey else ("float32", "uint8", "uint16")
        if self.dtype is not None and self.dtype not in allowed:
            raise ParameterError(f"pixel type is {self.dtype!r}; expected {', '.join(allowed[:-1])} or {allowed[-1]}")
        asked = self.settings
        if asked.segment is not None or asked.blobs is not None or asked.strength_map is not None:
            raise ParameterError(
                "blobs and strength maps need the whole image in memory; enhance without them, or make them from a "
                "smaller copy of the image. Objects are labelled in a step of their own"
            )
        if self.is_labels and self.dtype != "uint8":
            raise ParameterError(f"classes are stored as uint8; {self.dtype or 'float32'} was asked for")
        if asked.region is not None:
            raise ParameterError("a region of a large image cannot be chosen yet; enhance all of it")
        if asked.strength == "auto":
            raise ParameterError("the strength of a large image is not chosen by itself; give a number")

    @property
    def is_tiff(self) -> bool:
        """Whether the result is one file."""
        return Path(self.target).suffix.lower() in _TIFF

    @property
    def is_labels(self) -> bool:
        """Whether the pixels are classes, which are neither scaled nor averaged."""
        return is_segmenting(self.settings.filter_id)

    @property
    def is_grey(self) -> bool:
        """Whether the pixels are grey values of the image: denoised, restored, separated."""
        return is_grey(self.settings.filter_id)

    @property
    def title(self) -> str:
        """Name of the image in its metadata."""
        return Path(self.target).name.removesuffix(Path(self.target).suffix).removesuffix(".ome")


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeResult:
    """What became of the run.

    Parameters
    ----------
    target : Path
        The result; after a cancel, where it will be.
    is_complete : bool
        False after a cancel; the same request goes on.
    n_done, n_total : int
        Blocks, those of the pyramid included.
    n_resumed : int
        Blocks that an earlier run had done.
    warnings : tuple of str
    """

    target: Path
    is_complete: bool
    n_done: int
    n_total: int
    n_resumed: int = 0
    warnings: tuple[str, ...] = ()


def run(
    request: LargeRequest,
    *,
    on_progress: OnProgress = no_progress,
    on_note: OnNote = lambda note: None,
    is_cancelled: IsCancelled = never_cancelled,
) -> LargeResult:
    """Enhance, or go on with a run of the same request that did not come to its end.

    Parameters
    ----------
    request : LargeRequest
    on_progress : callable
        Called after each block.
    on_note : callable
        Gets a sentence before the work begins: memory and disk that it will need, and what is resumed.
    is_cancelled : callable
        Asked before each tile; blocks that are done stay.

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
    ModelNotFoundError, DownloadError, ChecksumError, DeviceError
        As in :func:`napari_cellenhance.workflows.enhance.run`.
    MissingExtraError, ClusterError
        As in :func:`napari_cellenhance.workflows.cluster.connect`, or workers that were lost for good.
    """
    from napari_cellenhance.io.run_lock import only_run
    from napari_cellenhance.workflows._large_source import LargeSource

    target, path = Path(request.target), _path_of(request)
    if path is not None and target.resolve() == path.resolve():
        raise ParameterError(f"the result would replace the original {request.source}; choose another name")
    if not target.absolute().parent.is_dir():
        raise WriteError(f"there is no folder {target.parent}; make it first, or choose another one")
    spec = catalog.describe(request.settings.filter_id)
    with only_run(lock_of(target), target), _opened(request) as image:
        source = LargeSource(image, request.settings)
        settings = dataclasses.replace(
            request.settings, image=source.pixels, axes=source.axes,
            source_name=request.settings.source_name if path is None else path.name,
            pixel_size_um=image.pixel_size_um, earlier=image.provenance,
        )  # fmt: skip
        job = _Job(request, settings, spec, source, image.identity, on_progress, on_note, is_cancelled)
        return job.here() if request.cluster is None else job.on_cluster(request.cluster)


def _path_of(request: LargeRequest) -> Path | None:
    """Where the source lies; None for one that was opened already."""
    from napari_cellenhance.io.lazy_images import LazyImage

    return None if isinstance(request.source, LazyImage) else Path(request.source)


@contextmanager
def _opened(request: LargeRequest) -> Iterator[LazyImage]:
    from napari_cellenhance.io.lazy_images import LazyImage, open_lazily

    if isinstance(request.source, LazyImage):
        yield request.source
    else:
        with open_lazily(request.source) as image:
            yield image


@dataclass(frozen=True, slots=True)
class _OnlyShape:
    """Stands for pixels that nobody may read as a whole."""

    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Job:
    """A request and its source, opened."""

    request: LargeRequest
    settings: EnhanceRequest
    spec: catalog.FilterSpec
    source: LargeSource
    identity: dict[str, Any]
    on_progress: OnProgress
    on_note: OnNote
    is_cancelled: IsCancelled

    def here(self) -> LargeResult:
        """Make the blocks in this process."""
        from napari_cellenhance.workflows._large_blocks import PlaneMaker
        from napari_cellenhance.workflows._large_local import LocalWork
        from napari_cellenhance.workflows._large_memory import (
            EngineFacts,
            filter_memory_mb,
            open_engine,
            plane_limit_bytes,
        )
        from napari_cellenhance.workflows._large_source import PlaneStore

        engine = None
        if self._is_computed:
            self.on_progress(Progress(n_done=0, n_total=0, message=f"Loading {self.spec.info.title}"))
            engine = open_engine(self.settings, filter_memory_mb(self.source, self.settings))
        facts = None if engine is None else EngineFacts.of(engine)

        def work(ledger: Ledger) -> bool:
            planes = PlaneStore(Path(self.request.target).absolute().parent, plane_limit_bytes(self.settings))
            maker = PlaneMaker(
                self.settings, self.spec, self.source, engine, planes, ledger.blocks.block_px, self._checkpoint,
                ledger.writing,
            )  # fmt: skip
            is_done = LocalWork(ledger, maker, self._checkpoint).run()
            if engine is not None:
                ledger.warnings = [*engine.warnings, *ledger.warnings]
            return is_done

        return self._run(facts, work, lambda: None if engine is None else EngineFacts.of(engine))

    def on_cluster(self, cluster: Cluster) -> LargeResult:
        """Let workers make the blocks."""
        from napari_cellenhance.workflows._large_cluster import ClusterWork
        from napari_cellenhance.workflows.cluster import connect

        if _path_of(self.request) is None:
            raise ParameterError(
                "an image that is open here cannot be read by other processes; name its file, or work without a cluster"
            )
        with connect(cluster, self.on_note, self.is_cancelled) as crew:
            if self.is_cancelled():
                return LargeResult(target=Path(self.request.target), is_complete=False, n_done=0, n_total=0)
            work = ClusterWork(crew, self.request, self.spec, self.is_cancelled)
            facts = work.probe(self.on_progress) if self._is_computed else None
            return self._run(facts, work.run, lambda: work.facts, n_processes=crew.n_workers)

    @property
    def _is_computed(self) -> bool:
        return strength_of(self.settings, self.spec) != 0.0

    def _run(
        self,
        facts: EngineFacts | None,
        work: Callable[[Ledger], bool],
        facts_after: Callable[[], EngineFacts | None],
        n_processes: int = 1,
    ) -> LargeResult:
        from napari_cellenhance.workflows._large_ledger import Ledger
        from napari_cellenhance.workflows._large_memory import need_sentence
        from napari_cellenhance.workflows._large_target import LargeTarget

        target = Path(self.request.target)
        try:
            opened = LargeTarget.open(self.request, self.source, self._header(facts))
        except OSError as error:
            raise told(error, target, "nothing") from error
        if opened is None:
            return LargeResult(target=target, is_complete=True, n_done=0, n_total=0)
        with opened.journal:
            self.on_note(need_sentence(self.request, self.source, facts, n_processes))
            ledger = Ledger(self.request, self.source, opened, self.on_progress)
            if ledger.n_resumed:
                self.on_note(
                    f"Going on with a run that was not finished: {ledger.n_resumed} of {ledger.n_total} blocks are "
                    "done."
                )
            is_complete = work(ledger)
            if is_complete:
                looked = self._checked(ledger)
                with ledger.writing():
                    opened.finish(self.request, self.source, self._provenance(ledger, facts_after()) | looked)
        return LargeResult(
            target=target, is_complete=is_complete, n_done=len(ledger.done), n_total=ledger.n_total,
            n_resumed=ledger.n_resumed, warnings=ledger.sentences(),
        )  # fmt: skip

    def _checked(self, ledger: Ledger) -> dict[str, Any]:
        """What the guards say of a sample of the image and of the result; for the record."""
        from napari_cellenhance.workflows.input_guards import InputWatch
        from napari_cellenhance.workflows.sample_guards import (
            N_WINDOWS,
            SampleGuards,
            keeps_grey,
            places,
            removes_objects,
        )

        card, is_dark = self.spec.card, self.settings.objects_are_dark
        if card is None or not self._is_computed:
            return {}
        ledger.say("Checking the result")
        watch = InputWatch(card, objects_are_dark=is_dark, max_looks=N_WINDOWS, max_traits=N_WINDOWS, noun="region")
        guards = SampleGuards(keeps_grey=keeps_grey(card), objects_are_dark=is_dark)
        has_counterpart = not (self.request.is_labels or removes_objects(card) or self._is_uncertainty)
        for t, c, z, window in places(self.source.shape):
            before = sanitize(self.source.read((t, c, z), window))[0]
            watch.see(before)
            if has_counterpart:
                guards.see(before, ledger.blocks.read(0, (t, c, z), window), (t, c, z, window.y0, window.x0))
        ledger.warnings += [*watch.sentences(), *guards.sentences()]
        return {"input_check": watch.record(), "result_check": guards.record()}

    def _header(self, facts: EngineFacts | None) -> dict[str, Any]:
        """First line of the journal: what may not differ when a run goes on, and how it was cut into blocks."""
        request, settings, source, spec = self.request, self.settings, self.source, self.spec
        chunk = request.chunk_px
        format_of = {"OME-TIFF": "tiled"} if request.is_tiff else {"OME-Zarr": request.version}
        return {
            "run": {
                "source name": settings.source_name, "source": self.identity, "pixels": source.sample(),
                "shape": source.pixels.shape, "pixel type of the source": str(source.pixels.dtype), "axes": source.axes,
                "filter": spec.info.id, "filter version": spec.version, "weights": spec.sha256,
                "strength": strength_of(settings, spec), "dark objects": settings.objects_are_dark,
                "channels": settings.channels, "statistics": settings.statistics,
                "device": None if facts is None else facts.device,
                "precision": None if facts is None else facts.precision,
                "pixel type": request.dtype, "chunk": chunk, **format_of,
                "program": versions()["napari-cellenhance"],
            },
            "block_px": chunk if facts is None else max(chunk, facts.tile_px // chunk * chunk),
            "memory_limit_mb": settings.memory_limit_mb,
            "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        }  # fmt: skip

    def _provenance(self, ledger: Ledger, facts: EngineFacts | None) -> dict[str, Any]:
        pixels = self.source.pixels
        record = describe_run(
            dataclasses.replace(self.settings, image=_OnlyShape(pixels.shape)), self.spec,
            strength=strength_of(self.settings, self.spec), axes_out=self.source.axes_out,
            normalizers=ledger.normalizers(),
            engine={} if facts is None else facts.to_dict() | {"block_px": ledger.blocks.block_px},
            warnings=ledger.sentences(), step=self._step,
        )  # fmt: skip
        if self.request.is_grey:
            grey = GreyFilter.of(self.spec.info.id)
            del record["filter"]
            record |= grey.record() | {"large": dataclasses.asdict(grey), "strength": None}
        if self.request.is_labels:
            # What any segmentation tells, so that it can be repeated with other images.
            del record["filter"]
            asked = dataclasses.asdict(SegmentFilter.of(self.spec.info.id))
            record |= {"large": asked, "outputs": ["classes"], "strength": None}
        header = ledger.target.journal.header
        record["source"] |= {
            "dtype": str(pixels.dtype), "sha256": header["run"]["pixels"], "sha256_of": "a sample"
        }  # fmt: skip
        return record | {"created_utc": header["created_utc"], "is_complete": True}

    @property
    def _is_uncertainty(self) -> bool:
        return self.request.is_grey and GreyFilter.of(self.spec.info.id).shows == "uncertainty"

    @property
    def _step(self) -> str:
        """What is done, as records name it."""
        if self.request.is_grey:
            return GreyFilter.of(self.spec.info.id).step
        return "segment" if self.request.is_labels else "enhance"

    def _checkpoint(self) -> None:
        from napari_cellenhance.core.inference import Cancelled

        if self.is_cancelled():
            raise Cancelled
