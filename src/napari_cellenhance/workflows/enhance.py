"""Enhance an image: the one workflow behind the dock, the terminal and Python."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.axes import from_canonical
from napari_cellenhance.core.normalize import Normalizer
from napari_cellenhance.core.tiling import Region, Tile, split
from napari_cellenhance.workflows import _planes, catalog
from napari_cellenhance.workflows._engine import Engine
from napari_cellenhance.workflows._outputs import Blobs, find_blobs, find_labels
from napari_cellenhance.workflows._planes import OpenedImage, PlaneIndex, PreparedPlane
from napari_cellenhance.workflows._provenance import describe_run
from napari_cellenhance.workflows.catalog import FilterSpec, OpenedFilter
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress
from napari_cellenhance.workflows.requests import EnhanceRequest, EnhanceResult

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
    if _strength(request, spec) == 0.0:
        return _Run(request, spec, image, None, on_progress, is_cancelled).identity()
    on_progress(Progress(n_done=0, n_total=0, message=f"Loading {spec.info.title}"))
    opened = catalog.open_enhancer(
        request.filter_id, request.device, request.precision, memory_limit_mb=request.memory_limit_mb
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
    job = _Run(request, opened.spec, image, opened, on_progress, is_cancelled)
    return job.identity() if _strength(request, opened.spec) == 0.0 else job.enhance()


def _strength(request: EnhanceRequest, spec: FilterSpec) -> float:
    info = spec.info.strength
    if request.strength is None:
        return info.default
    # 0 is the identity for every filter, also where the slider begins above it.
    return 0.0 if request.strength == 0 else info.clamp(request.strength)


@dataclass
class _Run:
    """One run: the image, the filter, and what has been found out on the way."""

    request: EnhanceRequest
    spec: FilterSpec
    image: OpenedImage
    opened: OpenedFilter | None
    on_progress: OnProgress
    is_cancelled: IsCancelled
    normalizers: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    n_flat: int = 0
    n_bad: int = 0
    n_pooled: int = 0

    def __post_init__(self) -> None:
        self.strength = _strength(self.request, self.spec)
        height, width = self.image.shape[-2:]
        self.window = self.request.region or Region(0, height, 0, width)
        self.n_planes = int(np.prod(self.image.shape[:3]))
        self.planes_done = self.tiles_done = 0
        self.started = time.monotonic()

    # --- the walk -----------------------------------------------------------------------

    def enhance(self) -> EnhanceResult:
        from napari_cellenhance.core.inference import Cancelled

        assert self.opened is not None
        self.engine = Engine(self.opened, self.request.tile_px)
        out = np.zeros((*self.image.shape[:3], *self.window.shape), np.float32)
        labels: NDArray[np.uint32] | None = None
        blobs: Blobs | None = None
        is_complete = True
        try:
            if self.request.statistics == "stack":
                for channel in range(self.image.shape[1]):
                    self._enhance_stack(channel, out)
            else:
                for index in _planes.all_planes(self.image):
                    self._enhance_plane(index, out[index])
            labels, blobs = self._find_objects(out)
        except Cancelled:
            is_complete = False
        return self._result(from_canonical(out, self.image.axes), labels, blobs, is_complete)

    def identity(self) -> EnhanceResult:
        """Strength 0: a copy of the chosen pixels; objects are sought in the normalised ones."""
        from napari_cellenhance.core.axes import from_canonical

        pixels = np.asarray(self.image.pixels[(..., *self.window.slices)]).copy()
        labels: NDArray[np.uint32] | None = None
        blobs: Blobs | None = None
        if self.request.segment is not None or self.request.blobs is not None:
            shown = np.zeros(pixels.shape, np.float32)
            for index in _planes.all_planes(self.image):
                raw = self.image.read(index)
                base = _planes.prepare(raw, self._fit(index, raw), self.request.objects_are_dark).base
                shown[index] = np.clip(base[self.window.slices], 0.0, 1.0)
            labels, blobs = self._find_objects(shown)
        self.planes_done = self.n_planes
        return self._result(from_canonical(pixels, self.image.axes), labels, blobs, True)

    def _enhance_plane(self, index: PlaneIndex, out: NDArray[np.float32]) -> None:
        self._checkpoint()
        raw = self.image.read(index)
        normalizer = self._fit(index, raw)
        if normalizer.is_flat:
            self.n_flat += 1
            return self._plane_done()
        plane = _planes.prepare(raw, normalizer, self.request.objects_are_dark)
        self.engine.attempt(lambda opened, tile_px: self._render_plane(plane, None, out, opened, tile_px))
        self._restore(plane, out)
        return self._plane_done()

    def _enhance_stack(self, channel: int, out: NDArray[np.float32]) -> None:
        pooled = _planes.pooled_planes(self.image, channel)
        self._say(f"Measuring the stack ({len(pooled)} planes)")
        self.n_pooled = len(pooled)
        raws = [self.image.read(index) for index in pooled]
        normalizer = self._fit((-1, channel, -1), raws)
        indices = [index for index in _planes.all_planes(self.image) if index[1] == channel]
        if normalizer.is_flat:
            self.n_flat += len(indices)
            for _ in indices:
                self._plane_done()
            return
        bases = [_planes.prepare(raw, normalizer, self.request.objects_are_dark).base for raw in raws]
        del raws
        calibration = self.engine.attempt(lambda opened, tile_px: opened.enhancer.calibrate(bases, self._checkpoint))
        del bases
        for index in indices:
            self._checkpoint()
            plane = _planes.prepare(self.image.read(index), normalizer, self.request.objects_are_dark)
            target = out[index]
            self.engine.attempt(
                lambda opened, tile_px, plane=plane, target=target: self._render_plane(  # type: ignore[misc]
                    plane, calibration, target, opened, tile_px
                )
            )
            self._restore(plane, target)
            self._plane_done()

    def _render_plane(
        self, plane: PreparedPlane, calibration: Any, out: NDArray[np.float32], opened: OpenedFilter, tile_px: int
    ) -> None:
        from napari_cellenhance.core.inference import Rendering, enhance_plane, render

        rendering = Rendering(self.strength, self.spec.identity_below)
        is_whole = self.window.shape == plane.base.shape
        self.tiles_done = 0
        if calibration is None and is_whole and tile_px >= max(plane.base.shape):
            both = opened.enhancer.calibrate_and_encode(plane.base, self._checkpoint)
            if both is not None:
                out[...] = render(opened.enhancer, both[1], plane.base, rendering)
                return
        if calibration is None:
            self._say("Measuring the plane")
            calibration = opened.enhancer.calibrate([plane.base], self._checkpoint)
        enhance_plane(
            opened.enhancer,
            plane.base,
            calibration,
            rendering,
            region=self.window,
            tile_px=tile_px,
            out=out,
            on_tile=self._tile_done,
            checkpoint=self._checkpoint,
        )

    def _restore(self, plane: PreparedPlane, out: NDArray[np.float32]) -> None:
        """Pixels that were no numbers stay NaN."""
        if plane.bad is not None:
            self.n_bad += plane.n_bad
            out[plane.bad[self.window.slices]] = np.nan

    def _fit(self, index: PlaneIndex, pixels: NDArray[Any] | Sequence[NDArray[Any]]) -> Normalizer:
        normalizer = _planes.fit(self.spec, pixels)
        self.normalizers.append({"t": index[0], "c": index[1], "z": index[2], **normalizer.to_dict()})
        return normalizer

    def _find_objects(self, image: NDArray[np.float32]) -> tuple[NDArray[np.uint32] | None, Blobs | None]:
        labels = blobs = None
        if self.request.segment is not None:
            self._say("Segmenting")
            labels = find_labels(image, self.image.axes, self.request.segment, self._checkpoint)
        if self.request.blobs is not None:
            self._say("Looking for blobs")
            blobs = find_blobs(image, self.image.axes, self.request.blobs, self._checkpoint)
        return labels, blobs

    # --- progress -----------------------------------------------------------------------

    def _checkpoint(self) -> None:
        from napari_cellenhance.core.inference import Cancelled

        if self.is_cancelled():
            raise Cancelled

    @property
    def tiles_per_plane(self) -> int:
        return 1 if self.opened is None else len(split(self.window.shape, self.engine.tile_px, 0))

    def _tile_done(self, tile: Tile) -> None:
        self.tiles_done += 1
        if self.tiles_done < self.tiles_per_plane:
            self._say(f"Plane {self.planes_done + 1} of {self.n_planes}, tile {self.tiles_done}")

    def _plane_done(self) -> None:
        self.planes_done += 1
        self.tiles_done = 0
        self._say(f"Plane {self.planes_done} of {self.n_planes}")

    def _say(self, message: str) -> None:
        per_plane = self.tiles_per_plane
        done, total = self.planes_done * per_plane + self.tiles_done, self.n_planes * per_plane
        elapsed = time.monotonic() - self.started
        eta = elapsed * (total - done) / done if done else None
        self.on_progress(Progress(n_done=done, n_total=total, message=message, eta_s=eta))

    # --- the result ---------------------------------------------------------------------

    def _result(
        self, image: NDArray[Any], labels: NDArray[np.uint32] | None, blobs: Blobs | None, is_complete: bool
    ) -> EnhanceResult:
        warnings = self._sentences()
        per_plane = self.tiles_per_plane
        provenance = describe_run(
            self.request,
            self.spec,
            strength=self.strength,
            axes_out=self.image.axes,
            normalizers=self.normalizers,
            engine=self._engine_facts(),
            warnings=warnings,
        )
        return EnhanceResult(
            image=image,
            axes=self.image.axes,
            provenance=provenance | {"is_complete": is_complete},
            labels=labels,
            points=None if blobs is None else blobs.points,
            point_radii_px=None if blobs is None else blobs.radii_px,
            is_complete=is_complete,
            n_done=self.planes_done * per_plane + self.tiles_done,
            n_total=self.n_planes * per_plane,
            warnings=warnings,
        )

    def _engine_facts(self) -> dict[str, Any]:
        if self.opened is None or self.strength == 0.0:
            return {"device": None, "precision": None, "tile_px": None, "halo_px": None}
        opened = self.engine.opened
        return {
            "device": opened.choice.device,
            "precision": opened.choice.precision,
            "tile_px": self.engine.tile_px,
            "halo_px": getattr(opened.enhancer, "halo_px", None),
            "n_planes_pooled": self.n_pooled if self.request.statistics == "stack" else 1,
        }

    def _sentences(self) -> tuple[str, ...]:
        found = list(self.engine.warnings) if hasattr(self, "engine") else []
        if self.n_flat:
            found.append(f"{_count(self.n_flat, 'plane')} of one single grey value: returned as zeros.")
        if self.n_bad:
            found.append(f"{_count(self.n_bad, 'pixel')} without a finite number: kept as NaN in the result.")
        n_stack = self.image.shape[0] * self.image.shape[2]
        if 0 < self.n_pooled < n_stack:
            found.append(f"The stack is large: measured on {self.n_pooled} of its {n_stack} planes, evenly spaced.")
        return tuple(found)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
