"""Segment an image with a model that learned it from labels, with all that its networks make on the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.axes import from_canonical
from napari_cellenhance.core.errors import DeviceError, ParameterError
from napari_cellenhance.core.normalize import Normalizer, fit_normalizer, sanitize
from napari_cellenhance.core.tiling import Region, split
from napari_cellenhance.workflows._open_model import Kind, Loaded
from napari_cellenhance.workflows._planes import OpenedImage, PlaneIndex, all_planes, open_image, pooled_planes
from napari_cellenhance.workflows._provenance import Measured, describe_step, maker_of_card
from napari_cellenhance.workflows._segmenters import (
    OUTPUTS,
    Found,
    InstanceOptions,
    Output,
    Segmenter,
    is_of_objects,
    objects_in,
    outputs_of,
    segmenter_of,
    threshold_of,
)
from napari_cellenhance.workflows.input_guards import InputWatch
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress
from napari_cellenhance.workflows.requests import reading_of
from napari_cellenhance.zoo.cards import SEGMENTING, ModelCard

if TYPE_CHECKING:
    from napari_cellenhance.core.device import DeviceChoice

__all__ = [
    "OUTPUTS",
    "InstanceOptions",
    "ModelSegmentation",
    "OpenedSegmenter",
    "Output",
    "SegmentModelRequest",
    "apply",
    "card_of_segmenter",
    "is_of_objects",
    "list_segmenters",
    "load_segmenter",
    "open_segmenter",
    "outputs_of",
    "run",
]

_SEGMENTERS = Kind(recipes=SEGMENTING, name="segmenting model")

_TILE_PX = 512
_LEAST_TILE_PX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentModelRequest:
    """Segment one image of any axes. Holds no layer and no viewer.

    Parameters
    ----------
    image : array-like (numpy, dask, zarr)
        Read plane by plane, never written to.
    axes : str
        One letter per dimension of ``image`` out of ``TCZYX``, plus ``S`` for colours.
    model_id : str
        A segmenting model, see :func:`list_segmenters`.
    outputs : frozenset of str
        Out of ``OUTPUTS``; the classes are always there. What a model does not make is left out, with a warning.
    instances : InstanceOptions
        Used where "instances" is asked for.
    channels : "all", "grey" or tuple of int
        As for an enhancement.
    statistics : "plane" or "stack"
        Normalise every plane by itself, or the whole stack alike.
    region : Region or None
        Compute only this window of every plane.
    tile_px : int or None
        Side of a tile without its context.
    earlier : mapping or None
        Record of how the image itself was made; carried along, so that the chain of steps is known.
    """

    image: Any
    axes: str
    model_id: str = ""
    outputs: frozenset[str] = frozenset({"classes"})
    instances: InstanceOptions = field(default_factory=InstanceOptions)
    channels: Literal["all", "grey"] | tuple[int, ...] = "grey"
    statistics: Literal["plane", "stack"] = "plane"
    region: Region | None = None
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    tile_px: int | None = None
    source_name: str = "image"
    pixel_size_um: dict[str, float] = field(default_factory=dict)
    earlier: Mapping[str, Any] | None = None
    cache_folder: str = ""

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.outputs) - set(OUTPUTS)):
            raise ParameterError(f"there is no output {unknown[0]!r}; expected some of: {', '.join(OUTPUTS)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSegmentation:
    """What a segmenting model made of an image.

    Parameters
    ----------
    axes : str
        Axes of ``classes``; the request's, less C or S where they were averaged or one was chosen.
    classes : ndarray of int32
        Label values of the classes.
    instances : ndarray of uint32 or None
        Same shape; numbered along all planes.
    maps : dict of str to ndarray
        "probabilities" (float32, one per class), "translated" and "filters" (float32, one per learned filter),
        "branches" (int32, one per branch), "denoised" (float32, what the network looked at, in grey values of the
        image): one more axis, the first; then as ``classes``.
    names : dict of str to tuple of str
        Of the entries along that first axis.
    branch_weights : dict of str to float
        Weight of each branch in the ensemble.
    provenance : dict
        JSON-ready: model, SHA-256, its denoiser, classes, threshold, axes, normalisation, device, versions, source,
        and the earlier step where the image says how it was made.
    """

    axes: str
    classes: NDArray[np.int32]
    instances: NDArray[np.uint32] | None
    maps: dict[str, NDArray[Any]]
    names: dict[str, tuple[str, ...]]
    branch_weights: dict[str, float]
    provenance: dict[str, Any]
    is_complete: bool = True
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedSegmenter:
    """A segmenting model with its weights loaded on a device."""

    card: ModelCard
    segmenter: Segmenter
    choice: DeviceChoice


def list_segmenters() -> tuple[ModelCard, ...]:
    """Models that segment: those of the manifest, then the user's."""
    return _SEGMENTERS.all()


def card_of_segmenter(model_id: str) -> ModelCard:
    """Card of a segmenting model, by its id or by the path of a card; loads no weights.

    Raises
    ------
    ModelNotFoundError
        No segmenting model of that id.
    """
    return _SEGMENTERS.card_of(model_id)


def open_segmenter(
    model_id: str, device: str = "auto", precision: str = "auto", *, cache_folder: str = ""
) -> OpenedSegmenter:
    """Choose the device and load the weights.

    Parameters
    ----------
    model_id : str
        Id of a segmenting model, or the path of a card (``.json``) that a training left beside its weights.

    Raises
    ------
    ModelNotFoundError
        No segmenting model of that id; the message lists those there are.
    DownloadError, ChecksumError
        Its weights cannot be had.
    DeviceError, ParameterError
        Unknown device or precision.
    """
    found = load_segmenter(model_id, device, precision, cache_folder=cache_folder)
    segmenter = segmenter_of(found.card, found.module, found.choice)
    return OpenedSegmenter(card=found.card, segmenter=segmenter, choice=found.choice)


def load_segmenter(model_id: str, device: str = "auto", precision: str = "auto", *, cache_folder: str = "") -> Loaded:
    """The network of a segmenting model, and its device; parameters and errors as of :func:`open_segmenter`."""
    return _SEGMENTERS.load(model_id, device, precision, cache_folder)


def run(
    request: SegmentModelRequest,
    *,
    on_progress: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
) -> ModelSegmentation:
    """Load the model and segment one image.

    Raises
    ------
    ModelNotFoundError, DownloadError, ChecksumError
        No such model, or its weights cannot be had.
    AxesError, ImageError, ParameterError
        A request that does not fit the image.
    DeviceError
        Unknown device, or not enough memory even in small tiles.
    """
    on_progress(Progress(n_done=0, n_total=0, message=f"Loading {request.model_id}"))
    opened = open_segmenter(request.model_id, request.device, request.precision, cache_folder=request.cache_folder)
    return apply(request, opened, on_progress=on_progress, is_cancelled=is_cancelled)


def apply(
    request: SegmentModelRequest,
    opened: OpenedSegmenter,
    *,
    on_progress: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
) -> ModelSegmentation:
    """Segment one image with a model that is loaded already; see :func:`run`.

    A cancelled run returns what is done: planes that were not reached are 0.
    """
    return _Run(request, opened, on_progress, is_cancelled).segment()


class _Run:
    """One run: arrays to fill, and the planes to fill them from."""

    def __init__(
        self, request: SegmentModelRequest, opened: OpenedSegmenter, on_progress: OnProgress, is_cancelled: IsCancelled
    ) -> None:
        self.request, self.opened = request, opened
        self.on_progress, self.is_cancelled = on_progress, is_cancelled
        self.image: OpenedImage = open_image(reading_of(request))
        height, width = self.image.shape[-2:]
        self.window = request.region or Region(0, height, 0, width)
        self.tile_px = request.tile_px or _TILE_PX
        self.warnings: list[str] = [opened.choice.note] if opened.choice.is_fallback else []
        self.watch = InputWatch(opened.card)
        self.threshold = threshold_of(opened.card, request.instances)
        self.n_flat = 0
        self.n_tiles_done = 0
        self.normalizers: list[dict[str, Any]] = []
        shape = (*self.image.shape[:3], *self.window.shape)
        self.classes = np.zeros(shape, np.int32)
        known = outputs_of(opened.card)
        self.wanted = tuple(name for name in OUTPUTS if name in request.outputs and name in known)
        if missing := [name for name in OUTPUTS if name in request.outputs and name not in known]:
            self.warnings.append(f"The model “{opened.card.title}” makes no {' and no '.join(missing)}.")
        self.instances = np.zeros(shape, np.uint32) if "instances" in self.wanted else None
        self.maps: dict[str, NDArray[Any]] = {}
        self.branch_weights: dict[str, float] = {}

    def segment(self) -> ModelSegmentation:
        from napari_cellenhance.core.inference import Cancelled

        is_complete = True
        try:
            for index, normalizer in self._planes():
                self._checkpoint()
                self._segment_plane(index, normalizer)
        except Cancelled:
            is_complete = False
        return self._result(is_complete)

    def _planes(self) -> Iterator[tuple[PlaneIndex, Normalizer | None]]:
        """Every plane, with the normaliser of its stack where one is asked for."""
        pooled: dict[int, Normalizer] = {}
        for index in all_planes(self.image):
            if self.request.statistics == "stack" and index[1] not in pooled:
                planes = [self.image.read(at) for at in pooled_planes(self.image, index[1])]
                pooled[index[1]] = self._fit(planes)
            yield index, pooled.get(index[1])

    def _fit(self, planes: Any) -> Normalizer:
        card = self.opened.card.normalization
        normalizer = fit_normalizer(card.name, planes, **card.parameters)
        return fit_normalizer("minmax", planes) if normalizer.is_flat else normalizer

    def _segment_plane(self, index: PlaneIndex, pooled: Normalizer | None) -> None:
        raw = self.image.read(index)
        self.watch.see(raw)
        normalizer = pooled or self._fit(raw)
        t, c, z = index
        self.normalizers.append({"t": t, "c": c, "z": z, **normalizer.to_dict()})
        if normalizer.is_flat:
            self.n_flat += 1
            return
        filled, _ = sanitize(raw)
        plane = normalizer.normalize(filled).astype(np.float32)
        found = self._attempt(plane)
        self.classes[index] = found.labels
        for name in self.wanted:
            if name not in ("classes", "instances"):
                values = getattr(found, name)
                is_grey = name == "denoised"
                self._keep(name, index, normalizer.denormalize(values).astype(np.float32) if is_grey else values)
        if hasattr(found, "branch_names") and hasattr(found, "branch_weights"):
            self.branch_weights = dict(zip(found.branch_names, map(float, found.branch_weights), strict=True))
        if self.instances is not None:
            self._number(index, found)

    def _attempt(self, plane: NDArray[np.float32]) -> Found:
        """Segment; in smaller tiles where the memory runs out."""
        from napari_cellenhance.core.device import is_out_of_memory

        more: dict[str, Any] = {}
        if self.opened.card.recipe == "stardist":  # its objects depend on the threshold from the start
            more["threshold"] = self.threshold
        while True:
            try:
                return self.opened.segmenter.segment(
                    plane, region=self.window, tile_px=self.tile_px, on_tile=self._tell, checkpoint=self._checkpoint,
                    **more,
                )  # fmt: skip
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self.tile_px <= _LEAST_TILE_PX:
                    raise DeviceError(
                        f"not enough memory even in tiles of {self.tile_px} px; close other programs or layers, or "
                        "segment a smaller region"
                    ) from error
                self.tile_px = max(_LEAST_TILE_PX, self.tile_px // 2)
                self.warnings.append(f"Memory ran out; continued with tiles of {self.tile_px} px.")

    def _keep(self, name: str, index: PlaneIndex, values: NDArray[Any]) -> None:
        if name not in self.maps:
            self.maps[name] = np.zeros((len(values), *self.classes.shape), values.dtype)
        self.maps[name][(slice(None), *index)] = values

    def _number(self, index: PlaneIndex, found: Found) -> None:
        if self.instances is None:
            return
        ids = objects_in(found, self.opened.card, self.request.instances)
        last = int(self.instances.max(initial=0))
        self.instances[index] = np.where(ids > 0, ids + np.uint32(last), 0)

    def _tell(self, _: Region) -> None:
        self.n_tiles_done += 1
        per_plane = len(split(self.window.shape, self.tile_px, 0))
        n_total = per_plane * int(np.prod(self.image.shape[:3]))
        n_done = min(self.n_tiles_done, n_total)
        self.on_progress(Progress(n_done=n_done, n_total=n_total, message=f"Segmenting, tile {n_done} of {n_total}"))

    def _checkpoint(self) -> None:
        from napari_cellenhance.core.inference import Cancelled

        if self.is_cancelled():
            raise Cancelled

    def _result(self, is_complete: bool) -> ModelSegmentation:
        axes = self.image.axes
        warnings = [*self.warnings, *self.watch.sentences()]
        if self.n_flat:
            noun = "plane" if self.n_flat == 1 else "planes"
            warnings.append(f"{self.n_flat} {noun} of one single grey value: left without a class.")
        return ModelSegmentation(
            axes=axes,
            classes=from_canonical(self.classes, axes),
            instances=None if self.instances is None else from_canonical(self.instances, axes),
            maps={name: np.stack([from_canonical(one, axes) for one in each]) for name, each in self.maps.items()},
            names=self._names(),
            branch_weights=self.branch_weights,
            provenance=self._provenance(warnings) | {"is_complete": is_complete},
            is_complete=is_complete,
            warnings=tuple(warnings),
        )

    def _names(self) -> dict[str, tuple[str, ...]]:
        classes = tuple(one.name for one in self.opened.card.classes)
        n_filters = max(0, len(self.branch_weights) - 1)
        filters = tuple(_filter_name(self.opened.card, i) for i in range(n_filters))
        known = {
            "probabilities": classes, "translated": filters, "filters": filters, "branches": tuple(self.branch_weights),
            "denoised": ("denoised",),
        }  # fmt: skip
        return {name: names for name, names in known.items() if name in self.maps}

    def _provenance(self, warnings: list[str]) -> dict[str, Any]:
        request, card, choice = self.request, self.opened.card, self.opened.choice
        measured = Measured(
            axes_out=self.image.axes,
            normalization={
                "name": card.normalization.name, "settings": dict(card.normalization.parameters),
                "fitted": self.normalizers,
            },
            calibration={"threshold": self.threshold, "branch_weights": self.branch_weights},
            device=choice.device, precision=choice.precision, tile_px=self.tile_px,
        )  # fmt: skip
        return describe_step(
            "segment", request, maker_of_card(card), measured, warnings, input_check=self.watch.record(),
            classes=[one.model_dump() for one in card.classes], branch_weights=self.branch_weights,
            denoiser=card.training.get("denoiser") if "denoiser" in card.architecture else None,
            threshold=self.threshold, outputs=sorted(self.wanted),
            instances=asdict(request.instances) if "instances" in request.outputs else None,
        )  # fmt: skip


def _filter_name(card: ModelCard, index: int) -> str:
    """Number of a filter, and the classes that it shows best."""
    shown = [one.name for one in card.classes if one.filter == index]
    return f"filter {index + 1}" + (f" ({', '.join(shown)})" if shown else "")
