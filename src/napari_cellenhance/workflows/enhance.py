"""Enhance an image: the one workflow behind the dock, the terminal and Python."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.axes import from_canonical
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.normalize import Normalizer, sanitize
from napari_cellenhance.core.tiling import Region, split
from napari_cellenhance.workflows import _planes, catalog
from napari_cellenhance.workflows._engine import Engine
from napari_cellenhance.workflows._outputs import Blobs, find_blobs, find_labels
from napari_cellenhance.workflows._planes import OpenedImage, PlaneIndex, PreparedPlane
from napari_cellenhance.workflows._provenance import describe_run, maker_of_spec, repeated_notes
from napari_cellenhance.workflows._tally import Tally
from napari_cellenhance.workflows.catalog import FilterSpec, OpenedFilter
from napari_cellenhance.workflows.input_guards import InputWatch
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress
from napari_cellenhance.workflows.requests import EnhanceRequest, EnhanceResult
from napari_cellenhance.workflows.strength_maps import describe_map, open_map, strength_of

if TYPE_CHECKING:
    from napari_cellenhance.core.inference import Rendering
    from napari_cellenhance.core.recipes.imported import ImportedBlocks

__all__ = ["apply", "run"]


def run(
    request: EnhanceRequest,
    *,
    on_progress: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
) -> EnhanceResult:
    """Load the filter and enhance one image.

    Parameters
    ----------
    request : EnhanceRequest
    on_progress : callable
        Called after each tile.
    is_cancelled : callable
        Asked before each tile, and between the layers of a network; what is done is kept.

    Raises
    ------
    ModelNotFoundError, DownloadError, ChecksumError
        No such filter, or its weights cannot be had.
    AxesError, ImageError, ParameterError
        A request that does not fit the image.
    DeviceError
        Unknown device, or not enough memory even in small tiles.
    """
    spec = catalog.describe(request.filter_id)
    image = _planes.open_image(request)
    if _is_identity(request, spec):
        return _Run(request, spec, image, None, on_progress, is_cancelled).identity()
    on_progress(Progress(n_done=0, n_total=0, message=f"Loading {spec.info.title}"))
    opened = catalog.open_enhancer(
        request.filter_id,
        request.device,
        request.precision,
        memory_limit_mb=request.memory_limit_mb,
        cache_folder=request.cache_folder,
    )
    return apply(request, opened, on_progress=on_progress, is_cancelled=is_cancelled)


def apply(
    request: EnhanceRequest,
    opened: OpenedFilter,
    *,
    on_progress: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
) -> EnhanceResult:
    """Enhance one image with a filter that is loaded already; see :func:`run`.

    Parameters
    ----------
    opened : OpenedFilter
        From ``catalog.open_enhancer``; its device and memory limit hold, not the request's.
    """
    image = _planes.open_image(request)
    if request.strength == "auto":
        from napari_cellenhance.core.inference import Cancelled
        from napari_cellenhance.workflows.suggest import suggest

        try:
            suggestion = suggest(request, opened, is_cancelled=is_cancelled)
        except Cancelled:
            return _Run(dataclasses.replace(request, strength=None), opened.spec, image, None).nothing()
        request = dataclasses.replace(request, strength=suggestion.strength, suggestion=suggestion)
    if _is_identity(request, opened.spec):
        return _Run(request, opened.spec, image, None, on_progress, is_cancelled).identity()
    engine = Engine(opened, request.tile_px)
    if getattr(opened.enhancer, "takes_blocks", False):
        return _BlockRun(request, opened.spec, image, engine, on_progress, is_cancelled).enhance(engine)
    return _Run(request, opened.spec, image, engine, on_progress, is_cancelled).enhance(engine)


def _is_identity(request: EnhanceRequest, spec: FilterSpec) -> bool:
    return request.strength != "auto" and request.strength_map is None and strength_of(request, spec) == 0.0


@dataclass
class _Run:
    """One run: the image, the filter, and what was found out on the way."""

    request: EnhanceRequest
    spec: FilterSpec
    image: OpenedImage
    engine: Engine | None
    on_progress: OnProgress = no_progress
    is_cancelled: IsCancelled = never_cancelled
    normalizers: list[dict[str, Any]] = field(default_factory=list)
    n_flat: int = 0
    n_bad: int = 0
    n_pooled: int = 1

    def __post_init__(self) -> None:
        self.strength = strength_of(self.request, self.spec)
        self.map = open_map(self.request, self.spec, self.image, self.strength)
        height, width = self.image.shape[-2:]
        self.window = self.request.region or Region(0, height, 0, width)
        self.tally = Tally(self.on_progress, int(np.prod(self.image.shape[:3])))
        card = self.spec.card
        self.watch = None if card is None else InputWatch(card, objects_are_dark=self.request.objects_are_dark)

    def nothing(self) -> EnhanceResult:
        """What is there when it was cancelled before it began."""
        out = np.zeros((*self.image.shape[:3], *self.window.shape), np.float32)
        return self._result(out, _Objects(None, None), is_complete=False)

    def enhance(self, engine: Engine) -> EnhanceResult:
        """Normalise, calibrate, filter in tiles; then look for objects."""
        from napari_cellenhance.core.inference import Cancelled

        out = np.zeros((*self.image.shape[:3], *self.window.shape), np.float32)
        found = _Objects(None, None)
        is_complete = True
        try:
            if self.request.statistics == "stack":
                for channel in range(self.image.shape[1]):
                    self._enhance_stack(engine, channel, out)
            else:
                for index in _planes.all_planes(self.image):
                    self._enhance_plane(engine, index, out[index])
            found = self._find_objects(out)
        except Cancelled:
            is_complete = False
        return self._result(out, found, is_complete)

    def identity(self) -> EnhanceResult:
        """Strength 0: a copy of the chosen pixels; objects are sought in the normalised ones."""
        from napari_cellenhance.core.inference import Cancelled

        pixels = np.array(self.image.pixels[(..., *self.window.slices)])
        found = _Objects(None, None)
        is_complete = True
        try:
            if self.request.segment is not None or self.request.blobs is not None:
                found = self._find_objects(self._normalised())
        except Cancelled:
            is_complete = False
        self.tally.planes_done = self.tally.n_planes
        return self._result(pixels, found, is_complete)

    def _normalised(self) -> NDArray[np.float32]:
        shown = np.zeros((*self.image.shape[:3], *self.window.shape), np.float32)
        for index in _planes.all_planes(self.image):
            self._checkpoint()
            raw = self.image.read(index)
            plane = _planes.prepare(raw, self._fit(index, raw), self.request.objects_are_dark)
            shown[index] = np.clip(plane.base[self.window.slices], 0.0, 1.0)
        return shown

    def _enhance_plane(self, engine: Engine, index: PlaneIndex, out: NDArray[np.float32]) -> None:
        self._checkpoint()
        raw = self.image.read(index)
        normalizer = self._fit(index, raw)
        if normalizer.is_flat:
            self.n_flat += 1
        else:
            if self.watch is not None:
                self.watch.see(raw)
            plane = _planes.prepare(raw, normalizer, self.request.objects_are_dark)
            self._render(engine, index, plane, None, out)
        self.tally.plane_done()

    def _enhance_stack(self, engine: Engine, channel: int, out: NDArray[np.float32]) -> None:
        pooled = _planes.pooled_planes(self.image, channel)
        self.n_pooled = len(pooled)
        self.tally.say(f"Measuring {_count(len(pooled), 'plane')} together")
        indices = [index for index in _planes.all_planes(self.image) if index[1] == channel]
        raws = [self.image.read(index) for index in pooled]
        normalizer = self._fit((-1, channel, -1), raws)
        if normalizer.is_flat:
            self.n_flat += len(indices)
            self.tally.planes_done += len(indices)
            return
        if self.watch is not None:
            self.watch.see(raws[len(raws) // 2])
        bases = [_planes.prepare(raw, normalizer, self.request.objects_are_dark).base for raw in raws]
        del raws
        calibration = engine.attempt(lambda opened, _: opened.enhancer.calibrate(bases, self._checkpoint))
        bases = []  # a stack's worth of memory, not needed any more
        for index in indices:
            self._checkpoint()
            plane = _planes.prepare(self.image.read(index), normalizer, self.request.objects_are_dark)
            self._render(engine, index, plane, calibration, out[index])
            self.tally.plane_done()

    def _render(
        self, engine: Engine, index: PlaneIndex, plane: PreparedPlane, calibration: Any, out: NDArray[np.float32]
    ) -> None:
        from napari_cellenhance.core.inference import Rendering

        shares_of = None if self.map is None else self.map.shares_at(index)
        rendering = Rendering(self.strength, self.spec.identity_below, shares_of)
        engine.attempt(lambda opened, tile_px: self._render_tiles(opened, tile_px, plane, calibration, rendering, out))
        if plane.bad is not None:
            # Pixels that were no numbers stay none.
            self.n_bad += plane.n_bad
            out[plane.bad[self.window.slices]] = np.nan

    def _render_tiles(
        self,
        opened: OpenedFilter,
        tile_px: int,
        plane: PreparedPlane,
        calibration: Any,
        rendering: Rendering,
        out: NDArray[np.float32],
    ) -> None:
        from napari_cellenhance.core.inference import enhance_plane, render

        self.tally.begin_plane(len(split(self.window.shape, tile_px, 0)))
        if calibration is None and self.window.shape == plane.base.shape and self.tally.tiles_per_plane == 1:
            both = opened.enhancer.calibrate_and_encode(plane.base, self._checkpoint)
            if both is not None:
                out[...] = render(opened.enhancer, both[1], plane.base, rendering)
                return
        if calibration is None:
            calibration = opened.enhancer.calibrate([plane.base], self._checkpoint)
        enhance_plane(
            opened.enhancer,
            plane.base,
            calibration,
            rendering,
            region=self.window,
            tile_px=tile_px,
            out=out,
            on_tile=lambda _: self.tally.tile_done(),
            checkpoint=self._checkpoint,
        )

    def _fit(self, index: PlaneIndex, pixels: NDArray[Any] | Sequence[NDArray[Any]]) -> Normalizer:
        normalizer = _planes.fit(self.spec, pixels)
        where = {"c": index[1]} if index[0] < 0 else {"t": index[0], "c": index[1], "z": index[2]}
        self.normalizers.append({**where, **normalizer.to_dict()})
        return normalizer

    def _find_objects(self, image: NDArray[np.float32]) -> _Objects:
        labels = blobs = None
        if self.request.segment is not None:
            self.tally.say("Segmenting")
            labels = find_labels(image, self.image.axes, self.request.segment, self._checkpoint)
        if self.request.blobs is not None:
            self.tally.say("Looking for blobs")
            blobs = find_blobs(image, self.image.axes, self.request.blobs, self._checkpoint)
        return _Objects(labels, blobs)

    def _checkpoint(self) -> None:
        from napari_cellenhance.core.inference import Cancelled

        if self.is_cancelled():
            raise Cancelled

    def _result(self, image: NDArray[Any], found: _Objects, is_complete: bool) -> EnhanceResult:
        warnings = self._sentences()
        provenance = describe_run(
            self.request,
            self.spec,
            strength=self.strength,
            axes_out=self.image.axes,
            normalizers=self.normalizers,
            engine={} if self.engine is None else self._facts(self.engine),
            warnings=warnings,
            strength_map=describe_map(self.request.strength_map, self.spec.info.strength),
        )
        return EnhanceResult(
            image=from_canonical(image, self.image.axes),
            axes=self.image.axes,
            provenance=provenance | {"is_complete": is_complete},
            labels=found.labels,
            points=None if found.blobs is None else found.blobs.points,
            point_radii_px=None if found.blobs is None else found.blobs.radii_px,
            is_complete=is_complete,
            n_done=self.tally.n_done,
            n_total=self.tally.n_total,
            warnings=warnings,
        )

    def _facts(self, engine: Engine) -> dict[str, Any]:
        looked = {} if self.watch is None else {"input_check": self.watch.record()}
        return engine.facts() | {"n_planes_pooled": self.n_pooled} | looked

    def _sentences(self) -> tuple[str, ...]:
        found = [] if self.engine is None else list(self.engine.warnings)
        if self.engine is not None:
            found += repeated_notes(maker_of_spec(self.spec), self.request.earlier)
        if self.n_flat:
            found.append(f"{_count(self.n_flat, 'plane')} of one single grey value: returned as zeros.")
        if self.n_bad:
            found.append(f"{_count(self.n_bad, 'pixel')} without a finite number: NaN in the result.")
        n_stack = self.image.shape[0] * self.image.shape[2]
        if self.request.statistics == "stack" and self.engine is not None and self.n_pooled < n_stack:
            found.append(f"The stack is large: measured on {self.n_pooled} of its {n_stack} planes, evenly spaced.")
        if self.watch is not None and self.engine is not None:
            found += self.watch.sentences()
        return tuple(found)


class _BlockRun(_Run):
    """A run of an imported network that takes volumes, or several channels at once."""

    def enhance(self, engine: Engine) -> EnhanceResult:
        """Block by block: time points, and channels where each goes through by itself."""
        from napari_cellenhance.core.inference import Cancelled

        plan = self._blocks_of(engine.opened).plan
        n_t, n_c, n_z = self.image.shape[:3]
        self._check(plan.n_in, n_c, has_all=plan.channel is None)
        together = [tuple(range(n_c))] if plan.n_in > 1 else [(c,) for c in range(n_c)]
        n_out = 1 if plan.n_in > 1 and plan.channel is not None else n_c
        depths = [slice(0, n_z)] if plan.z is not None else [slice(z, z + 1) for z in range(n_z)]
        units = [(t, channels, part) for channels in together for t in range(n_t) for part in depths]
        self.tally = Tally(self.on_progress, len(units))
        out = np.zeros((n_t, n_out, n_z, *self.window.shape), np.float32)
        if n_out != n_c:
            self.image = dataclasses.replace(self.image, axes=self.image.axes.replace("C", "").replace("S", ""))
        found, is_complete = _Objects(None, None), True
        try:
            for t, channels, part in units:
                self._checkpoint()
                to = channels if n_out == n_c else (0,)
                out[t, to[0] : to[-1] + 1, part] = self._make(engine, t, channels, part)
                self.tally.plane_done()
            found = self._find_objects(out)
        except Cancelled:
            is_complete = False
        return self._result(out, found, is_complete)

    def _check(self, n_in: int, n_c: int, *, has_all: bool) -> None:
        title = self.spec.info.title
        if n_in > 1 and n_c != n_in:
            raise ImageError(
                f"“{title}” takes {n_in} channels at once, and {n_c} of this image {'is' if n_c == 1 else 'are'} "
                "chosen; set the channels to all, or choose an image that has as many"
            )
        if self.map is not None:
            raise ParameterError(f"“{title}” takes more than a plane at once, so its strength cannot differ by region")
        if self.strength < 1.0 and n_in > 1 and not has_all:
            raise ParameterError(
                f"“{title}” makes one channel of {n_in}, which cannot be blended with the image; set its share to 1"
            )

    def _make(self, engine: Engine, t: int, channels: Sequence[int], part: slice) -> NDArray[np.float32]:
        """What the network makes of one block, of shape (C, Z, h, w); pixels that were no numbers stay none."""
        raws = [np.stack([self.image.read((t, c, z)) for z in range(part.start, part.stop)]) for c in channels]
        raw = np.stack(raws)
        block, n_bad = sanitize(raw)
        if self.watch is not None:
            self.watch.see(block[0, block.shape[1] // 2])
        pixels = np.asarray(block, np.float32)

        def attempt(opened: OpenedFilter, _: int) -> NDArray[np.float32]:
            blocks = self._blocks_of(opened)
            self.tally.begin_plane(len(blocks.tiles(pixels.shape, self.window)))
            return blocks.run(pixels, self.window, self._checkpoint, self.tally.tile_done)

        found = engine.attempt(attempt)
        inside = (..., *self.window.slices)
        if self.strength < 1.0:
            found = np.asarray((1.0 - self.strength) * pixels[inside] + self.strength * found, np.float32)
        if n_bad:
            self.n_bad += n_bad
            bad = ~np.isfinite(raw[inside])
            found[bad if len(found) == len(bad) else bad.any(axis=0, keepdims=True)] = np.nan
        return found

    @staticmethod
    def _blocks_of(opened: OpenedFilter) -> ImportedBlocks:
        return cast("ImportedBlocks", opened.enhancer)


@dataclass(frozen=True, slots=True)
class _Objects:
    labels: NDArray[np.uint32] | None
    blobs: Blobs | None


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
