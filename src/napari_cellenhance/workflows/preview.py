"""Live preview of the visible region: the same numbers as the run, at the speed of a slider.

What a slider move pays is kept apart from what it does not. Cached are, per plane, its
normaliser and its calibration, and per region the features of the filter; a new strength
only decodes them again. ``workflows.enhance.run`` uses the same normaliser, calibration
and windows, so that preview and result agree on every pixel.

A large plane that was not measured yet is answered at once from the statistics of the
visible region alone (``is_approximate``); the caller then runs
:meth:`PreviewSession.calibrate` in the background and updates again.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.normalize import Normalizer
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.workflows import _planes, catalog
from napari_cellenhance.workflows._planes import OpenedImage, PlaneIndex, PreparedPlane
from napari_cellenhance.workflows.catalog import OpenedFilter
from napari_cellenhance.workflows.progress import IsCancelled, never_cancelled
from napari_cellenhance.workflows.requests import EnhanceRequest
from napari_cellenhance.workflows.strength_maps import open_map, strength_of
from napari_cellenhance.zoo.folders import card_stamp

__all__ = ["APPROXIMATE_ABOVE_PX", "PreviewRequest", "PreviewResult", "PreviewSession"]

APPROXIMATE_ABOVE_PX = 1_500_000
"""Planes (or pooled stacks) above this many pixels are first answered approximately."""

_MARGIN_PX = 56
_N_PLANES, _N_CALIBRATIONS, _N_REGIONS, _N_FILTERS = 4, 16, 6, 3

V = TypeVar("V")


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewRequest:
    """What is on the screen, and how it shall be enhanced.

    Parameters
    ----------
    enhance : EnhanceRequest
        As for the run; ``region`` is the visible window, ``segment`` and ``blobs`` are ignored.
    position : dict of str to int
        Axis letter (``T``, ``C``, ``Z``) → index of the shown plane; axes left out are at 0.
        For a colour image all samples are shown.
    source_key : hashable
        Identity of the pixels, for instance (layer id, data version): a new key forgets
        what was measured.
    """

    enhance: EnhanceRequest
    position: dict[str, int] = field(default_factory=dict)
    source_key: Hashable = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewResult:
    """Enhanced window.

    Parameters
    ----------
    image : ndarray of shape (h, w), or (h, w, S) for a colour image
        float32 in [0, 1]. At strength 0 the normalised input, where the run returns the
        input itself.
    region : Region
        Window of the plane it covers.
    strength : float
    latency_s : float
        Time it took.
    is_approximate : bool
        Statistics come from the region alone; call ``PreviewSession.calibrate``.
    is_identity : bool
        Strength was 0.
    device_note : str
        "running on …".
    """

    image: NDArray[np.float32]
    region: Region
    strength: float
    latency_s: float
    is_approximate: bool
    is_identity: bool
    device_note: str


class PreviewSession:
    """Caches of one dock. Safe to use from several threads; one update computes at a time."""

    def __init__(self) -> None:
        self._filters: _Cache[OpenedFilter] = _Cache(_N_FILTERS)
        self._normalizers: _Cache[Normalizer] = _Cache(_N_CALIBRATIONS)
        self._planes: _Cache[PreparedPlane] = _Cache(_N_PLANES)
        self._calibrations: _Cache[Any] = _Cache(_N_CALIBRATIONS)
        self._features: _Cache[tuple[Any, NDArray[np.float32], bool]] = _Cache(_N_REGIONS)

    def prepare(self) -> None:
        """Import what opening a network needs, torch above all: seconds that the first update then does not take."""
        import napari_cellenhance.core.inference
        import napari_cellenhance.core.recipes.nunet_open
        import napari_cellenhance.workflows.device_check
        import napari_cellenhance.zoo.weights  # noqa: F401

    def update(self, preview: PreviewRequest, *, is_cancelled: IsCancelled = never_cancelled) -> PreviewResult:
        """Enhance the visible region.

        Raises
        ------
        core.inference.Cancelled
            ``is_cancelled`` said so.
        CellEnhanceError
            As in ``workflows.enhance.run``.
        """
        start = time.perf_counter()
        view = self._view(preview, is_cancelled)
        parts = [self._part(view, index) for index in view.indices]
        image = np.stack([part for part, _ in parts], axis=-1) if view.is_rgb else parts[0][0]
        return PreviewResult(
            image=image,
            region=view.region,
            strength=view.strength,
            latency_s=time.perf_counter() - start,
            is_approximate=any(is_approximate for _, is_approximate in parts),
            is_identity=view.is_identity,
            device_note=view.opened.choice.note,
        )

    def sweep(
        self, preview: PreviewRequest, strengths: Sequence[float], *, is_cancelled: IsCancelled = never_cancelled
    ) -> list[NDArray[np.float32]]:
        """The visible region at several strengths; of a colour image the first sample. Encodes at most once.

        Returns
        -------
        list of ndarray of shape (h, w)
            float32 in [0, 1]; empty where there is nothing but one grey value.
        """
        from napari_cellenhance.core.inference import Rendering, render

        view = self._view(preview, is_cancelled)
        features, base, _ = self._features_of(view, view.indices[0])
        images: list[NDArray[np.float32]] = []
        for strength in strengths if features is not None else ():
            view.checkpoint()
            images.append(
                render(view.opened.enhancer, features, base, Rendering(strength, view.opened.spec.identity_below))
            )
        return images

    def calibrate(self, preview: PreviewRequest, *, is_cancelled: IsCancelled = never_cancelled) -> None:
        """Measure the whole plane or stack exactly, so that the next update is exact too."""
        view = self._view(preview, is_cancelled)
        for index in view.indices:
            self._measure(view, index)

    def lend(self, request: EnhanceRequest, opened: OpenedFilter) -> None:
        """Use a filter that is loaded already for requests like this one."""
        self._filters.put(_filter_key(request), opened)

    def clear(self) -> None:
        """Forget everything; frees the memory."""
        for cache in (self._filters, self._normalizers, self._planes, self._calibrations, self._features):
            cache.clear()

    # --- one plane ----------------------------------------------------------------------

    def _view(self, preview: PreviewRequest, is_cancelled: IsCancelled) -> _View:
        request = preview.enhance
        opened = self._filters.get(
            _filter_key(request),
            lambda: catalog.open_enhancer(
                request.filter_id,
                request.device,
                request.precision,
                memory_limit_mb=request.memory_limit_mb,
                cache_folder=request.cache_folder,
            ),
        )
        image = _planes.open_image(request)
        return _View(preview, opened, image, _indices(image, request, preview.position), is_cancelled)

    def _part(self, view: _View, index: PlaneIndex) -> tuple[NDArray[np.float32], bool]:
        """Enhanced region of one plane, and whether it is approximate."""
        from napari_cellenhance.core.inference import Rendering, render

        view.checkpoint()
        if view.is_identity:
            base = self._plane(view, index).base[view.region.slices]
            if view.request.objects_are_dark:
                base = 1.0 - base
            return np.clip(base, 0.0, 1.0), False
        features, base, is_approximate = self._features_of(view, index)
        if features is None:
            return np.zeros(view.region.shape, np.float32), is_approximate
        shares_of = None if view.map is None else view.map.shares_at(index)
        rendering = Rendering(view.strength, view.opened.spec.identity_below, shares_of)
        return render(view.opened.enhancer, features, base, rendering, view.region), is_approximate

    def _features_of(self, view: _View, index: PlaneIndex) -> tuple[Any, NDArray[np.float32], bool]:
        is_measured = view.is_small or self._calibrations.has(view.statistics_key(index))
        key = (view.statistics_key(index), index, view.region, is_measured)
        make = self._exact_features if is_measured else self._approximate_features
        return self._features.get(key, lambda: make(view, index))

    def _exact_features(self, view: _View, index: PlaneIndex) -> tuple[Any, NDArray[np.float32], bool]:
        plane = self._plane(view, index)
        normalizer = self._normalizer(view, index)
        base = plane.base[view.region.slices]
        if normalizer.is_flat:
            return None, base, False
        enhancer = view.opened.enhancer
        key = view.statistics_key(index)
        if view.region == Region.whole(plane.base) and view.is_single_plane and not self._calibrations.has(key):
            both = enhancer.calibrate_and_encode(plane.base, view.checkpoint)
            if both is not None:
                self._calibrations.put(key, both[0])
                return both[1], base, False
        return enhancer.encode(plane.base, view.region, self._measure(view, index)), base, False

    def _approximate_features(self, view: _View, index: PlaneIndex) -> tuple[Any, NDArray[np.float32], bool]:
        normalizer = self._normalizers.get(
            ("approximate", index, view.normalizer_key(index)), lambda: self._fit_thinned(view, index)
        )
        outer, inside = _with_margin(view.region, view.image.shape[-2:])
        raw = view.image.read(index, outer.slices)
        plane = _planes.prepare(raw, normalizer, view.request.objects_are_dark)
        base = plane.base[inside.slices]
        if normalizer.is_flat:
            return None, base, True
        calibration = view.opened.enhancer.calibrate([plane.base], view.checkpoint)
        return view.opened.enhancer.encode(plane.base, inside, calibration), base, True

    def _measure(self, view: _View, index: PlaneIndex) -> Any:
        return self._calibrations.get(view.statistics_key(index), lambda: self._calibrate(view, index))

    def _calibrate(self, view: _View, index: PlaneIndex) -> Any:
        normalizer = self._normalizer(view, index)
        if normalizer.is_flat:
            return None
        if view.is_single_plane:
            bases = [self._plane(view, index).base]
        else:
            dark = view.request.objects_are_dark
            pooled = _planes.pooled_planes(view.image, index[1])
            bases = [_planes.prepare(view.image.read(i), normalizer, dark).base for i in pooled]
        return view.opened.enhancer.calibrate(bases, view.checkpoint)

    def _normalizer(self, view: _View, index: PlaneIndex) -> Normalizer:
        return self._normalizers.get(view.normalizer_key(index), lambda: self._fit(view, index))

    def _fit(self, view: _View, index: PlaneIndex) -> Normalizer:
        if view.is_single_plane:
            return _planes.fit(view.opened.spec, view.image.read(index))
        pooled = _planes.pooled_planes(view.image, index[1])
        return _planes.fit(view.opened.spec, [view.image.read(i) for i in pooled])

    def _fit_thinned(self, view: _View, index: PlaneIndex) -> Normalizer:
        height, width = view.image.shape[-2:]
        every = slice(None, None, max(1, int(np.sqrt(height * width / APPROXIMATE_ABOVE_PX))))
        return _planes.fit(view.opened.spec, view.image.read(index, (every, every)))

    def _plane(self, view: _View, index: PlaneIndex) -> PreparedPlane:
        def make() -> PreparedPlane:
            normalizer = self._normalizer(view, index)
            return _planes.prepare(view.image.read(index), normalizer, view.request.objects_are_dark)

        return self._planes.get((view.normalizer_key(index), index, view.request.objects_are_dark), make)


class _View:
    """A preview request with its image opened: what is shown, and the keys of what is cached."""

    def __init__(
        self,
        preview: PreviewRequest,
        opened: OpenedFilter,
        image: OpenedImage,
        indices: tuple[PlaneIndex, ...],
        is_cancelled: IsCancelled,
    ) -> None:
        self.request, self.opened, self.image, self.indices = preview.enhance, opened, image, indices
        self._source_key, self._is_cancelled = preview.source_key, is_cancelled
        n_t, _, n_z, height, width = image.shape
        self.region = self.request.region or Region(0, height, 0, width)
        self.is_rgb = "S" in image.axes
        self.is_single_plane = self.request.statistics == "plane" or n_t * n_z == 1
        n_pooled = 1 if self.is_single_plane else len(_planes.pooled_planes(image, 0))
        self.is_small = n_pooled * height * width <= APPROXIMATE_ABOVE_PX
        self.strength = strength_of(self.request, opened.spec)
        self.map = open_map(self.request, opened.spec, image, self.strength)
        self.is_identity = self.strength == 0.0 and self.map is None

    def checkpoint(self) -> None:
        """Raise ``Cancelled`` if nobody waits for this view any more."""
        from napari_cellenhance.core.inference import Cancelled

        if self._is_cancelled():
            raise Cancelled

    def normalizer_key(self, index: PlaneIndex) -> Hashable:
        """Key of the normaliser: data, channel choice, filter, and the plane or its channel."""
        where = index if self.is_single_plane else ("stack", index[1])
        spec = self.opened.spec
        return (self._source_key, self.request.axes, self.request.channels, spec.info.id, spec.sha256, where)

    def statistics_key(self, index: PlaneIndex) -> Hashable:
        """Key of the calibration: the normaliser's, the contrast, and the arithmetic."""
        choice = self.opened.choice
        return (self.normalizer_key(index), self.request.objects_are_dark, choice.device, choice.precision)


class _Cache(Generic[V]):
    """Least recently used values; computing happens outside the lock."""

    def __init__(self, size: int) -> None:
        self._size, self._values, self._lock = size, OrderedDict[Hashable, V](), threading.Lock()

    def has(self, key: Hashable) -> bool:
        with self._lock:
            return key in self._values

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        self.put(key, value)
        return value

    def put(self, key: Hashable, value: V) -> None:
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self._size:
                self._values.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._values.clear()


def _filter_key(request: EnhanceRequest) -> Hashable:
    stamp = card_stamp(request.filter_id)
    return (request.filter_id, stamp, request.device, request.precision, request.memory_limit_mb)


def _indices(image: OpenedImage, request: EnhanceRequest, position: dict[str, int]) -> tuple[PlaneIndex, ...]:
    n_t, n_c, n_z = image.shape[:3]
    t, z = _checked("T", position.get("T", 0), n_t), _checked("Z", position.get("Z", 0), n_z)
    if "S" in image.axes:
        return tuple((t, c, z) for c in range(n_c))
    shown = int(position.get("C", 0))
    if n_c == 1:
        return ((t, 0, z),)
    if isinstance(request.channels, tuple):
        # The shown channel may not be among the chosen ones: then the first of them is previewed.
        shown = request.channels.index(shown) if shown in request.channels else 0
    return ((t, _checked("C", shown, n_c), z),)


def _checked(axis: str, value: int, n: int) -> int:
    if not 0 <= value < n:
        raise ParameterError(f"position {value} along {axis} is outside the image; expected 0…{n - 1}")
    return int(value)


def _with_margin(region: Region, shape: tuple[int, ...]) -> tuple[Region, Region]:
    """Region grown by the context of a filter, and the region inside it."""
    outer = Region(
        max(0, region.y0 - _MARGIN_PX),
        min(shape[0], region.y1 + _MARGIN_PX),
        max(0, region.x0 - _MARGIN_PX),
        min(shape[1], region.x1 + _MARGIN_PX),
    )
    inside = Region(region.y0 - outer.y0, region.y1 - outer.y0, region.x0 - outer.x0, region.x1 - outer.x0)
    return outer, inside
