"""Persistence map: how long each object lasts while the strength sweeps from weak to strong."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.axes import from_canonical
from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.persistence import ObjectTable, PlanePersistence, follow
from napari_cellenhance.core.postprocess import centroids, segment
from napari_cellenhance.core.tiling import Region, split
from napari_cellenhance.workflows import _planes, catalog
from napari_cellenhance.workflows._engine import Engine
from napari_cellenhance.workflows._planes import PlaneIndex, PreparedPlane
from napari_cellenhance.workflows._provenance import describe_run
from napari_cellenhance.workflows.catalog import OpenedFilter
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress
from napari_cellenhance.workflows.requests import EnhanceRequest, SegmentOptions

if TYPE_CHECKING:
    from napari_cellenhance.core.recipes.protocol import StrengthInfo

__all__ = ["PersistenceRequest", "PersistenceResult", "run", "sweep_strengths"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PersistenceRequest:
    """What to sweep over.

    Parameters
    ----------
    enhance : EnhanceRequest
        Image, filter and ``segment`` options (default: Otsu, split, 30 px). Its strength is not looked at, and
        brightness is measured plane by plane.
    weakest, strongest : float or None
        Ends of the sweep; None begins at a tenth of the slider and ends at its end.
    n_strengths : int
        Evenly spaced strengths, ends included; at least 2.
    """

    enhance: EnhanceRequest
    weakest: float | None = None
    strongest: float | None = None
    n_strengths: int = 16

    def __post_init__(self) -> None:
        if not 2 <= self.n_strengths <= 200:
            raise ParameterError(f"the sweep has {self.n_strengths} strengths; expected 2 to 200")


@dataclass(frozen=True, slots=True, kw_only=True)
class PersistenceResult:
    """What a sweep found. Empty planes after a cancel.

    Parameters
    ----------
    image : ndarray of float32
        Persistence at every pixel of an object, above 0 and at most 1; 0 on the ground.
    labels : ndarray of uint32, shape of ``image``
        Every object where it was found first, numbered over all planes.
    late : ndarray of uint32, shape of ``image``
        Of these only the objects that were not there at the weakest strength, under the same numbers.
    table : dict of str to ndarray
        One row per object: ``label``, its position (one column per axis, in pixels of the image), and the columns of
        ``core.persistence.ObjectTable``.
    axes : str
    strengths : tuple of float
    provenance : dict
    is_complete : bool
    """

    image: NDArray[np.float32]
    labels: NDArray[np.uint32]
    late: NDArray[np.uint32]
    table: dict[str, NDArray[Any]]
    axes: str
    strengths: tuple[float, ...]
    provenance: dict[str, Any]
    is_complete: bool = True

    @property
    def n_objects(self) -> int:
        """Number of objects."""
        return len(self.table["label"])

    @property
    def n_late(self) -> int:
        """Number of objects that appear only later in the sweep."""
        return int(self.table["is_late"].sum())

    @property
    def n_lasting(self) -> int:
        """Number of objects that are there from the weakest strength to the strongest."""
        return int((self.table["persistence"] >= 1.0).sum())

    def sentence(self) -> str:
        """What was found, for a person."""
        return (
            f"Objects between strength {self.strengths[0]:g} and {self.strengths[-1]:g}: {self.n_objects}; lasting all "
            f"the way: {self.n_lasting}; only at higher strength: {self.n_late}."
        )


def sweep_strengths(request: PersistenceRequest, info: StrengthInfo) -> tuple[float, ...]:
    """Strengths of the sweep, weakest first.

    Raises
    ------
    ParameterError
        Ends outside the slider or not in order.
    """
    low = max(info.minimum, info.maximum / 10) if request.weakest is None else request.weakest
    high = info.maximum if request.strongest is None else request.strongest
    if not max(info.minimum, 0.0) <= low < high <= info.maximum or low == 0:
        raise ParameterError(
            f"the sweep goes from {low:g} to {high:g}; expected to go up, within {info.minimum:g} to {info.maximum:g} "
            "and from more than 0"
        )
    return tuple(float(w) for w in np.linspace(low, high, request.n_strengths))


def run(
    request: PersistenceRequest,
    *,
    on_progress: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
) -> PersistenceResult:
    """Sweep the strength over every plane, find the objects at each, and follow them.

    Every plane is encoded once, in tiles; a strength costs a decoding and a segmentation.

    Raises
    ------
    ParameterError
        A sweep outside the slider.
    CellEnhanceError
        As in ``workflows.enhance.run``.
    """
    from napari_cellenhance.core.inference import Cancelled

    spec = catalog.describe(request.enhance.filter_id)
    strengths = sweep_strengths(request, spec.info.strength)
    image = _planes.open_image(request.enhance)
    on_progress(Progress(n_done=0, n_total=0, message=f"Loading {spec.info.title}"))
    ask = request.enhance
    opened = catalog.open_enhancer(
        ask.filter_id, ask.device, ask.precision, memory_limit_mb=ask.memory_limit_mb, cache_folder=ask.cache_folder
    )
    engine = Engine(opened, ask.tile_px)
    height, width = image.shape[-2:]
    sweep = _Sweep(ask, strengths, ask.region or Region(0, height, 0, width), is_cancelled)
    labels = np.zeros((*image.shape[:3], *sweep.window.shape), np.uint32)
    shown = np.zeros(labels.shape, np.float32)
    tables: list[ObjectTable] = []
    places: list[NDArray[np.float64]] = []
    indices = list(_planes.all_planes(image))
    is_complete = True
    try:
        for number, index in enumerate(indices):
            on_progress(Progress(n_done=number, n_total=len(indices), message=f"Plane {number + 1} of {len(indices)}"))
            found = sweep.follow_plane(engine, image.read(index))
            n_before = sum(len(table.label) for table in tables)
            labels[index] = np.where(found.labels > 0, found.labels + np.uint32(n_before), 0)
            shown[index] = found.image()
            tables.append(found.table)
            places.append(_places(found, index, sweep.window))
    except Cancelled:
        is_complete = False
    table = ObjectTable.joined(tables or [follow([np.zeros((1, 1), int)], [1.0]).table])
    columns = table.columns()
    late = np.where(np.concatenate([[False], table.is_late])[labels], labels, 0).astype(np.uint32)
    on_progress(Progress(n_done=len(indices), n_total=len(indices), message="Done"))
    return PersistenceResult(
        image=from_canonical(shown, image.axes),
        labels=from_canonical(labels, image.axes),
        late=from_canonical(late, image.axes),
        table={"label": columns.pop("label"), **_positions(places, image.axes), **columns},
        axes=image.axes,
        strengths=strengths,
        provenance=describe_run(
            dataclasses.replace(ask, statistics="plane", segment=sweep.options, strength_map=None, suggestion=None),
            spec,
            strength=strengths[-1],
            axes_out=image.axes,
            normalizers=[],
            engine=engine.facts(),
            warnings=tuple(engine.warnings),
            step="persistence",
        )
        | {"persistence_of_strengths": list(strengths), "is_complete": is_complete},
        is_complete=is_complete,
    )


class _Sweep:
    """One plane at all strengths."""

    def __init__(
        self, ask: EnhanceRequest, strengths: Sequence[float], window: Region, is_cancelled: IsCancelled
    ) -> None:
        self.strengths, self.window = strengths, window
        self.options = ask.segment or SegmentOptions()
        self._is_dark, self._is_cancelled = ask.objects_are_dark, is_cancelled

    def checkpoint(self) -> None:
        from napari_cellenhance.core.inference import Cancelled

        if self._is_cancelled():
            raise Cancelled

    def follow_plane(self, engine: Engine, raw: NDArray[Any]) -> PlanePersistence:
        normalizer = _planes.fit(engine.opened.spec, raw)
        if normalizer.is_flat:
            nothing = np.zeros(self.window.shape, np.uint32)
            return follow([nothing] * len(self.strengths), self.strengths)
        plane = _planes.prepare(raw, normalizer, self._is_dark)
        images = engine.attempt(lambda opened, tile_px: self._images(opened, tile_px, plane))
        return follow([self._segment(image, plane) for image in images], self.strengths)

    def _images(self, opened: OpenedFilter, tile_px: int, plane: PreparedPlane) -> NDArray[np.float16]:
        from napari_cellenhance.core.inference import Rendering, render

        # Half the memory of a plane per strength; 11 bits are more than a threshold needs.
        images = np.zeros((len(self.strengths), *self.window.shape), np.float16)
        calibration = opened.enhancer.calibrate([plane.base], self.checkpoint)
        for tile in split(self.window.shape, tile_px, 0):
            self.checkpoint()
            y, x = self.window.y0, self.window.x0
            inside = Region(tile.core.y0 + y, tile.core.y1 + y, tile.core.x0 + x, tile.core.x1 + x)
            features = opened.enhancer.encode(plane.base, inside, calibration)
            for image, strength in zip(images, self.strengths, strict=True):
                self.checkpoint()
                rendering = Rendering(strength, opened.spec.identity_below)
                image[tile.core.slices] = render(opened.enhancer, features, plane.base[inside.slices], rendering)
        return images

    def _segment(self, image: NDArray[np.float16], plane: PreparedPlane) -> NDArray[np.uint32]:
        self.checkpoint()
        pixels = image.astype(np.float32)
        if plane.bad is not None:
            pixels[plane.bad[self.window.slices]] = 0.0
        options = self.options
        return segment(pixels, options.method, options.threshold, options.split_touching, options.min_size_px)


def _places(found: PlanePersistence, index: PlaneIndex, window: Region) -> NDArray[np.float64]:
    """Rows (t, c, z, y, x): centre of each object, in pixels of the image; NaN for one that is hidden by others."""
    rows = np.full((len(found.table.label), 5), np.nan)
    rows[:, :3] = index
    seen = np.unique(found.labels)
    seen = seen[seen > 0].astype(np.intp)
    if len(seen):
        rows[seen - 1, 3:] = centroids(found.labels) + np.array([window.y0, window.x0])
    return rows


def _positions(places: Sequence[NDArray[np.float64]], axes: str) -> dict[str, NDArray[Any]]:
    rows = np.concatenate(places) if places else np.zeros((0, 5))
    column = dict(zip("TCZYX", range(5), strict=True)) | {"S": 1}
    return {axis.lower(): rows[:, column[axis]] for axis in axes}
