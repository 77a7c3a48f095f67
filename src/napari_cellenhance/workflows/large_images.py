"""Enhance an image larger than memory: read by region, written chunk by chunk, resumed after a crash.

The result grows under the name ``<target>.partial``, beside a journal of finished blocks; it gets its
own name when it is complete. A run that was stopped, killed or ran out of disk goes on at the first
missing block, with the same pixels as a run that was never interrupted.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import CellEnhanceError, ImageError, ParameterError, TargetExistsError, WriteError
from napari_cellenhance.core.pyramid import halve, level_shapes
from napari_cellenhance.core.tiling import Region, split
from napari_cellenhance.workflows import _planes, catalog
from napari_cellenhance.workflows._engine import Engine
from napari_cellenhance.workflows._planes import PlaneIndex
from napari_cellenhance.workflows._provenance import describe_run, versions
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress
from napari_cellenhance.workflows.requests import EnhanceRequest
from napari_cellenhance.workflows.strength_maps import strength_of

if TYPE_CHECKING:
    from napari_cellenhance.io.lazy_images import LazyImage
    from napari_cellenhance.io.ome_zarr import OmeZarrVersion, ZarrImage
    from napari_cellenhance.io.run_journal import RunJournal
    from napari_cellenhance.workflows._large_source import LargeSource, Measured, PlaneStore

__all__ = ["LargeRequest", "LargeResult", "OnNote", "journal_of", "partial_of", "run"]

OnNote = Callable[[str], None]

_PROGRAM_MB = 450
"""What the program itself takes: Python, numpy, torch, a loaded network."""
_MB = 10**6
_LEAST_MB = 50
"""For the filter, however small the limit is."""
_PYRAMID_PX = 1024
_STACK = -1
"""Stands for time and plane where a whole stack is meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeRequest:
    """Enhance one OME-Zarr or TIFF into an OME-Zarr.

    Parameters
    ----------
    source : path or LazyImage
        OME-Zarr folder (0.4, 0.5), TIFF file, or what was opened already; the name of that is ``settings.source_name``.
    target : path
        Folder to make, with a name that ends in ``.zarr``.
    settings : EnhanceRequest
        How to enhance; ``axes`` only where the file is wrong or silent. ``memory_limit_mb`` holds for the whole run.
    dtype : "float32", "uint8" or "uint16", optional
        Pixel type; None takes float32.
    chunk_px : int
        Rows and columns of a chunk, in pixels.
    version : "0.4" or "0.5"
        Of OME-Zarr.
    overwrite : bool
        Replace a result, or an unfinished one that does not fit this request.
    """

    source: str | os.PathLike[str] | LazyImage
    target: str | os.PathLike[str]
    settings: EnhanceRequest
    dtype: Literal["float32", "uint8", "uint16"] | None = None
    chunk_px: int = 512
    version: OmeZarrVersion = "0.5"
    overwrite: bool = False

    def __post_init__(self) -> None:
        if not Path(self.target).name.lower().endswith(".zarr"):
            raise ParameterError(f"{self.target} cannot be written block by block; expected a name ending in .ome.zarr")
        if self.chunk_px < 16:
            raise ParameterError(f"chunks are {self.chunk_px} px wide; expected 16 or more")
        if self.dtype not in (None, "float32", "uint8", "uint16"):
            raise ParameterError(f"pixel type is {self.dtype!r}; expected float32, uint8 or uint16")
        asked = self.settings
        if asked.segment is not None or asked.blobs is not None or asked.strength_map is not None:
            raise ParameterError(
                "objects and strength maps need the whole image in memory; enhance without them, or choose a target "
                "ending in .ome.tif"
            )
        if asked.region is not None:
            raise ParameterError("a region of a large image cannot be chosen yet; enhance all of it")
        if asked.strength == "auto":
            raise ParameterError("the strength of a large image is not chosen by itself; give a number")


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


def partial_of(target: str | os.PathLike[str]) -> Path:
    """Folder in which an unfinished result grows."""
    return Path(f"{os.fspath(target).rstrip('/')}.partial")


def journal_of(target: str | os.PathLike[str]) -> Path:
    """File that says what of an unfinished result is done."""
    return Path(f"{os.fspath(target).rstrip('/')}.journal")


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
    ModelNotFoundError, DownloadError, ChecksumError, DeviceError
        As in :func:`napari_cellenhance.workflows.enhance.run`.
    """
    from napari_cellenhance.workflows._large_source import LargeSource

    target, path = Path(request.target), _path_of(request)
    if path is not None and target.resolve() == path.resolve():
        raise ParameterError(f"the result would replace the original {request.source}; choose another name")
    if not target.absolute().parent.is_dir():
        raise WriteError(f"there is no folder {target.parent}; make it first, or choose another one")
    spec = catalog.describe(request.settings.filter_id)
    with _opened(request) as image:
        source = LargeSource(image, request.settings)
        settings = dataclasses.replace(
            request.settings, image=source.pixels, axes=source.axes,
            source_name=request.settings.source_name if path is None else path.name,
            pixel_size_um=image.pixel_size_um, earlier=image.provenance,
        )  # fmt: skip
        engine = _open_engine(settings, spec, source, on_progress)
        header = _header(request, source, settings, spec, engine, image.identity)
        try:
            opened = _Target.open(request, source, header)
        except OSError as error:
            raise _told(error, target, "nothing") from error
        if opened is None:
            return LargeResult(target=target, is_complete=True, n_done=0, n_total=0)
        with opened.journal:
            on_note(_need(request, source, engine))
            work = _LargeRun(request, settings, spec, source, engine, opened, on_progress, is_cancelled)
            if work.n_resumed:
                on_note(
                    f"Going on with a run that was not finished: {work.n_resumed} of {work.n_total} blocks are done."
                )
            is_complete = work.enhance()
        return work.result(is_complete)


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


def _open_engine(
    settings: EnhanceRequest, spec: catalog.FilterSpec, source: LargeSource, on_progress: OnProgress
) -> Engine | None:
    """Load the filter, to keep to what the rest leaves of the memory; None for strength 0."""
    if strength_of(settings, spec) == 0.0:
        return None
    on_progress(Progress(n_done=0, n_total=0, message=f"Loading {spec.info.title}"))
    left_mb = int(settings.memory_limit_mb - _rest_mb(source, settings))
    opened = catalog.open_enhancer(
        settings.filter_id, settings.device, settings.precision, memory_limit_mb=max(_LEAST_MB, left_mb),
        cache_folder=settings.cache_folder,
    )  # fmt: skip
    return Engine(opened, settings.tile_px)


def _rest_mb(source: LargeSource, settings: EnhanceRequest) -> float:
    """Memory beside the filter's own: the program, a plane if it is kept, windows on their way."""
    from napari_cellenhance.workflows._large_source import READ_PX

    plane_mb = source.plane_px * 4 / _MB
    windows_mb = min(source.plane_px, READ_PX**2) * (source.dtype.itemsize + 24) / _MB
    return float(_PROGRAM_MB + windows_mb + (plane_mb if plane_mb <= _plane_limit_mb(settings) else 0.0))


def _plane_limit_mb(settings: EnhanceRequest) -> float:
    """Normalised planes up to this size stay in memory."""
    return settings.memory_limit_mb / 4


def _header(
    request: LargeRequest,
    source: LargeSource,
    settings: EnhanceRequest,
    spec: catalog.FilterSpec,
    engine: Engine | None,
    identity: dict[str, Any],
) -> dict[str, Any]:
    """First line of the journal: what may not differ when a run goes on, and how it was cut into blocks."""
    chunk = request.chunk_px
    choice = None if engine is None else engine.opened.choice
    return {
        "run": {
            "source name": settings.source_name, "source": identity, "pixels": source.sample(),
            "shape": source.pixels.shape, "pixel type of the source": str(source.pixels.dtype), "axes": source.axes,
            "filter": spec.info.id, "filter version": spec.version, "weights": spec.sha256,
            "strength": strength_of(settings, spec), "dark objects": settings.objects_are_dark,
            "channels": settings.channels, "statistics": settings.statistics,
            "device": None if choice is None else choice.device,
            "precision": None if choice is None else choice.precision,
            "pixel type": request.dtype, "chunk": chunk, "OME-Zarr": request.version,
            "program": versions()["napari-cellenhance"],
        },
        "block_px": chunk if engine is None else max(chunk, engine.tile_px // chunk * chunk),
        "memory_limit_mb": settings.memory_limit_mb,
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip


def _need(request: LargeRequest, source: LargeSource, engine: Engine | None) -> str:
    """How much memory and disk the run will take."""
    limit_mb = request.settings.memory_limit_mb
    need = _rest_mb(source, request.settings)
    if engine is not None:
        side = min(engine.tile_px, max(source.shape[-2:])) + 2 * (getattr(engine.opened.enhancer, "halo_px", 0) or 0)
        need += side * side * engine.opened.bytes_per_px / _MB
    item = np.dtype(request.dtype or ("float32" if engine is not None else source.dtype)).itemsize
    disk = int(np.prod(source.shape)) * item * 4 // 3
    free = shutil.disk_usage(Path(request.target).absolute().parent).free
    note = (
        f"Needs about {need:.0f} MB of memory (limit {limit_mb} MB) and up to {_size(disk)} on the disk "
        f"({_size(free)} are free)."
    )
    if need > limit_mb:
        note += " That is more than the limit, with tiles as small as they can be."
    return note


def _size(n_bytes: float) -> str:
    for unit in ("kB", "MB", "GB"):
        n_bytes /= 1000
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
    return f"{n_bytes / 1000:.3g} TB"


def _told(error: OSError, target: Path, done: str) -> OSError:
    if isinstance(error, CellEnhanceError):
        return error
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        reason = "the disk is full; free some space"
    else:
        reason = f"{error.strerror or error}; mend that"
    return WriteError(f"{target} could not be written: {reason}, and run the same again: it goes on, {done} is lost.")


@dataclass(frozen=True, slots=True)
class _Target:
    """The unfinished store and its journal."""

    store: ZarrImage
    journal: RunJournal

    @classmethod
    def open(cls, request: LargeRequest, source: LargeSource, header: dict[str, Any]) -> _Target | None:
        """Begin, or go on; None where all that was missing is the end: the store had its name already."""
        from napari_cellenhance.io.json_ready import json_ready
        from napari_cellenhance.io.ome_zarr import create_store, reopen_store
        from napari_cellenhance.io.run_journal import RunJournal

        target, partial, path = Path(request.target), partial_of(request.target), journal_of(request.target)
        if path.exists():
            journal = RunJournal.resume(path)
            differing = _differing(journal.header.get("run", {}), json_ready(header["run"]))
            if not differing and not partial.exists() and _is_made_by(target, journal.header):
                journal.close()
                path.unlink()
                return None
            if not differing and partial.exists():
                return cls(reopen_store(partial), journal)
            journal.close()
            if differing and not request.overwrite:
                raise TargetExistsError(
                    f"{partial} is an unfinished result of another run (other: {', '.join(differing)}); "
                    "repeat that run, choose another name, or allow overwriting"
                )
        if target.exists() and not request.overwrite:
            raise TargetExistsError(f"{target} exists already; choose another name, or allow overwriting")
        # Journal last: without it, what is there of a store counts for nothing.
        path.unlink(missing_ok=True)
        if partial.exists():
            shutil.rmtree(partial)
        lengths = dict(zip("TCZYX", source.shape, strict=True))
        store = create_store(
            partial,
            level_shapes([lengths[letter] for letter in source.axes_out], request.chunk_px),
            source.axes_out,
            dtype=request.dtype or ("float32" if header["run"]["strength"] else source.dtype),
            chunk_px=request.chunk_px,
            name=target.name.removesuffix(".zarr").removesuffix(".ome"),
            pixel_size_um=source.pixel_size_um,
            channel_names=source.channel_names,
            version=request.version,
        )
        return cls(store, RunJournal.begin(path, header))


def _is_made_by(target: Path, header: dict[str, Any]) -> bool:
    """Whether the finished result at ``target`` is the one that a journal speaks of."""
    from napari_cellenhance.io.ome_zarr import open_store

    try:
        provenance = open_store(target).provenance
    except ImageError:
        return False
    return provenance is not None and provenance.get("created_utc") == header["created_utc"]


def _differing(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [key for key in now if before.get(key) != now[key]]


@dataclass
class _LargeRun:
    """One run: what is done, and the walk over what is not."""

    request: LargeRequest
    settings: EnhanceRequest
    spec: catalog.FilterSpec
    source: LargeSource
    engine: Engine | None
    target: _Target
    on_progress: OnProgress
    is_cancelled: IsCancelled
    measured: dict[PlaneIndex, Measured] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from napari_cellenhance.workflows._large_source import Measured, PlaneStore

        self.strength = strength_of(self.settings, self.spec)
        self.n_t, self.n_c, self.n_z = self.source.shape[:3]
        header = self.target.journal.header
        self.block_px = int(header["block_px"])
        chunk = self.request.chunk_px
        self.pyramid_px = max(chunk, _PYRAMID_PX // chunk * chunk)
        self.done: set[tuple[int, ...]] = set()
        for entry in self.target.journal.entries:
            if "done" in entry:
                self.done.add(tuple(entry["done"]))
            else:
                t, c, z = entry["plane"]
                self.measured[t, c, z] = Measured.from_dict(entry)
        self.n_resumed = len(self.done)
        shapes = [level.shape[-2:] for level in self.target.store.levels]
        n_planes = self.n_t * self.n_c * self.n_z
        self.n_total = n_planes * sum(len(split(shape, self._side(n), 0)) for n, shape in enumerate(shapes))
        self.warnings = [] if self.engine is None else self.engine.warnings
        if header["memory_limit_mb"] != self.settings.memory_limit_mb:
            self.warnings.append("Continued with another memory limit: the last bits of the values may differ.")
        parent = Path(self.request.target).absolute().parent
        self.planes: PlaneStore = PlaneStore(parent, int(_plane_limit_mb(self.settings) * _MB))
        self._started = time.monotonic()

    def enhance(self) -> bool:
        """Do what is missing; False where it was cancelled."""
        from napari_cellenhance.core.inference import Cancelled

        try:
            for channel in range(self.n_c):
                self._enhance_channel(channel)
            for level in range(1, len(self.target.store.levels)):
                self._fill_level(level)
        except Cancelled:
            return False
        with self._writing():
            self._finish()
        return True

    def result(self, is_complete: bool) -> LargeResult:
        """What became of it."""
        return LargeResult(
            target=Path(self.request.target), is_complete=is_complete, n_done=len(self.done), n_total=self.n_total,
            n_resumed=self.n_resumed, warnings=self._sentences(),
        )  # fmt: skip

    # --- full resolution ----------------------------------------------------------------------

    def _enhance_channel(self, channel: int) -> None:
        missing = {index: regions for index in self._planes_of(channel) if (regions := self._missing(0, index))}
        if not missing:
            return
        if self.engine is None:
            for index, regions in missing.items():
                for region in regions:
                    self._checkpoint()
                    self._keep(0, index, region, self.source.read(index, region))
        elif self.settings.statistics == "stack":
            self._enhance_stack(self.engine, channel, missing)
        else:
            for index, regions in missing.items():
                measured = self._measure(index, [index])
                self._enhance_plane(self.engine, index, regions, measured, None)

    def _enhance_stack(self, engine: Engine, channel: int, missing: dict[PlaneIndex, list[Region]]) -> None:
        image = _planes.OpenedImage(self.source, self.source.axes_out)
        pooled = _planes.pooled_planes(image, channel)
        measured = self._measure((_STACK, channel, _STACK), pooled)
        with ExitStack() as room:
            calibration = None
            if not measured.normalizer.is_flat:
                # Until the end: some filters look at them again while they render.
                bases = room.enter_context(self._room(len(pooled)))
                for index, base in zip(pooled, bases, strict=True):
                    self._fill(index, base, measured)
                calibration = engine.attempt(lambda opened, _: opened.enhancer.calibrate(bases, self._checkpoint))
            for index, regions in missing.items():
                self._enhance_plane(engine, index, regions, measured, calibration)

    def _enhance_plane(
        self, engine: Engine, index: PlaneIndex, regions: list[Region], measured: Measured, calibration: Any
    ) -> None:
        if measured.normalizer.is_flat:
            for region in regions:
                self._checkpoint()
                self._keep(0, index, region, np.zeros(region.shape, np.float32))
            return
        with self._room(1) as (base,):
            self._fill(index, base, measured)
            if calibration is None:
                calibration = engine.attempt(lambda opened, _: opened.enhancer.calibrate([base], self._checkpoint))
            for region in regions:
                image = self._render(engine, base, calibration, region)
                if measured.n_bad:
                    image[self.source.bad(index, region)] = np.nan
                self._keep(0, index, region, image)
                self.planes.let_go()

    def _fill(self, index: PlaneIndex, base: NDArray[np.float32], measured: Measured) -> None:
        from napari_cellenhance.workflows._large_source import READ_PX

        self._say(f"Reading plane {self._name(index)}")
        for tile in split(base.shape, READ_PX, 0):
            self._checkpoint()
            base[tile.core.slices] = self.source.base(index, tile.core, measured)
            self.planes.let_go()

    def _render(
        self, engine: Engine, base: NDArray[np.float32], calibration: Any, region: Region
    ) -> NDArray[np.float32]:
        from napari_cellenhance.core.inference import Rendering, enhance_plane

        rendering = Rendering(self.strength, self.spec.identity_below)
        return engine.attempt(
            lambda opened, tile_px: enhance_plane(
                opened.enhancer, base, calibration, rendering,
                region=region, tile_px=min(tile_px, self.block_px), checkpoint=self._checkpoint,
            ).image
        )  # fmt: skip

    def _measure(self, key: PlaneIndex, planes: list[PlaneIndex]) -> Measured:
        if key not in self.measured:
            self._say(f"Measuring plane {self._name(key)}" if key[0] != _STACK else "Measuring the stack")
            measured = self.source.measure(self.spec, planes, self._checkpoint)
            with self._writing():
                self.target.journal.add({"plane": key, **measured.to_dict()})
            self.measured[key] = measured
        return self.measured[key]

    # --- pyramid ------------------------------------------------------------------------------

    def _fill_level(self, level: int) -> None:
        height, width = self.target.store.levels[level - 1].shape[-2:]
        for channel in range(self.n_c):
            for index in self._planes_of(channel):
                for region in self._missing(level, index):
                    self._checkpoint()
                    below = Region(2 * region.y0, min(2 * region.y1, height), 2 * region.x0, min(2 * region.x1, width))
                    place = [slice(n, n + 1) for n in self._leading(index)]
                    pixels = self.target.store.read(level - 1, [*place, *below.slices])
                    self._keep(level, index, region, halve(pixels.reshape(below.shape)))

    # --- blocks -------------------------------------------------------------------------------

    def _side(self, level: int) -> int:
        return self.pyramid_px if level else self.block_px

    def _planes_of(self, channel: int) -> Iterator[PlaneIndex]:
        for t in range(self.n_t):
            for z in range(self.n_z):
                yield (t, channel, z)

    def _leading(self, index: PlaneIndex) -> list[int]:
        return [n for letter, n in zip("TCZ", index, strict=True) if letter in self.source.axes_out]

    def _missing(self, level: int, index: PlaneIndex) -> list[Region]:
        shape = self.target.store.levels[level].shape[-2:]
        regions = (tile.core for tile in split(shape, self._side(level), 0))
        return [region for region in regions if (level, *index, region.y0, region.x0) not in self.done]

    def _keep(self, level: int, index: PlaneIndex, region: Region, image: NDArray[Any]) -> None:
        """Write a block, then note that it is there."""
        from napari_cellenhance.io.pixels import convert

        if level == 0 and self.request.dtype is not None:
            image, _ = convert(image, self.request.dtype)
        leading = self._leading(index)
        key = (level, *index, region.y0, region.x0)
        with self._writing():
            self.target.store.write(
                level, [*leading, region.y0, region.x0], image.reshape(*[1] * len(leading), *image.shape)
            )
            self.target.journal.add({"done": key})
        self.done.add(key)
        self._say(f"Plane {self._name(index)}" if level == 0 else f"Pyramid, level {level}")

    def _finish(self) -> None:
        target = Path(self.request.target)
        self.target.store.finish(self._provenance())
        before = target.with_name(f".{target.name}.before")
        if before.exists():
            shutil.rmtree(before)
        if target.exists():
            os.replace(target, before)
        os.replace(partial_of(target), target)
        journal_of(target).unlink()
        if before.exists():
            shutil.rmtree(before)

    def _provenance(self) -> dict[str, Any]:
        told = describe_run(
            self.settings, self.spec, strength=self.strength, axes_out=self.source.axes_out,
            normalizers=[
                {"t": t, "c": c, "z": z, **measured.normalizer.to_dict()}
                for (t, c, z), measured in sorted(self.measured.items())
            ],
            engine={} if self.engine is None else self.engine.facts() | {"block_px": self.block_px},
            warnings=self._sentences(),
        )  # fmt: skip
        return told | {"created_utc": self.target.journal.header["created_utc"], "is_complete": True}

    def _sentences(self) -> tuple[str, ...]:
        found = list(self.warnings)
        n_flat = sum(measured.normalizer.is_flat for measured in self.measured.values())
        n_bad = sum(measured.n_bad for measured in self.measured.values())
        if n_flat:
            found.append(f"{n_flat} planes or stacks of one single grey value: returned as zeros.")
        if n_bad:
            found.append(f"{n_bad} pixels without a finite number: NaN in the result.")
        return tuple(found)

    # --- speaking, stopping, failing ----------------------------------------------------------

    def _name(self, index: PlaneIndex) -> str:
        t, c, z = index
        n_planes = self.n_t * self.n_c * self.n_z
        return f"{(c * self.n_t + t) * self.n_z + z + 1} of {n_planes}"

    def _say(self, message: str) -> None:
        new = len(self.done) - self.n_resumed
        left = self.n_total - len(self.done)
        eta = (time.monotonic() - self._started) * left / new if new else None
        self.on_progress(Progress(n_done=len(self.done), n_total=self.n_total, message=message, eta_s=eta))

    def _checkpoint(self) -> None:
        from napari_cellenhance.core.inference import Cancelled

        if self.is_cancelled():
            raise Cancelled

    @contextmanager
    def _room(self, n_planes: int) -> Iterator[list[NDArray[np.float32]]]:
        """Room for normalised planes."""
        with ExitStack() as stack:
            with self._writing():
                height, width = self.source.shape[-2:]
                planes = stack.enter_context(self.planes.planes((height, width), n_planes))
            yield planes

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _told(error, Path(self.request.target), f"none of the {len(self.done)} finished blocks") from error
