"""Take an image of any axes apart with a trained semantic filter: what is wanted, all else, objects and their boxes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.axes import from_canonical
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.normalize import Normalizer, fit_normalizer
from napari_cellenhance.core.postprocess import CleanOptions, clean_labels, label_boxes
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.workflows._open_model import Kind
from napari_cellenhance.workflows._tiled_run import TiledRun, Unit, record_of
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress
from napari_cellenhance.workflows.requests import reading_of
from napari_cellenhance.zoo.cards import ModelCard

if TYPE_CHECKING:
    from napari_cellenhance.core.device import DeviceChoice
    from napari_cellenhance.core.frame_pairs import Polarity
    from napari_cellenhance.core.recipes.separator import Separator

__all__ = [
    "MOVING", "SEPARATORS", "Box", "OpenedSeparator", "SeparateRequest", "SeparateResult", "apply", "boxes_of",
    "card_of", "is_of_movies", "list_separators", "normalizer_for", "objects_of", "open_separator", "run",
]  # fmt: skip

SEPARATORS = Kind(
    recipes=("semantic",), name="semantic filter", advice="train one with 'cellenhance train semantic'"
)  # fmt: skip
MOVING = CleanOptions(method="manual", threshold_value=10 / 255, n_openings=0, split_touching=False, min_size_px=250)
"""Objects that move: 10 of 255 grey values from the background, 250 px or more, as published for worms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparateRequest:
    """Take one image of any axes apart. Holds no layer and no viewer.

    Parameters
    ----------
    image : array-like (numpy, dask, zarr)
        Read plane by plane, never written to.
    axes : str
        One letter per dimension of ``image`` out of ``TCZYX``, plus ``S`` for colours.
    model_id : str
        A semantic filter, see :func:`list_separators`, or the path of a card.
    channels : "all", "grey" or tuple of int
        Each by itself, but for models of several channels, which take them together. A single channel or grey for
        objects.
    statistics : "plane" or "stack"
        Of models that scale by P99: of every plane by itself, or of the whole stack (no flicker).
    has_objects : bool
        Find labels and boxes of objects.
    objects : CleanOptions, optional
        How; thresholds are in the range of the network. Default: Otsu, opening, filling, watershed, 300 px; for what
        moves :data:`MOVING`.
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
    channels: Literal["all", "grey"] | tuple[int, ...] = "all"
    statistics: Literal["plane", "stack"] = "stack"
    has_objects: bool = False
    objects: CleanOptions | None = None
    region: Region | None = None
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    tile_px: int | None = None
    source_name: str = "image"
    pixel_size_um: dict[str, float] = field(default_factory=dict)
    earlier: Mapping[str, Any] | None = None
    cache_folder: str = ""

    def __post_init__(self) -> None:
        if self.statistics not in ("plane", "stack"):
            raise ParameterError(f"statistics is {self.statistics!r}; expected 'plane' or 'stack'")


@dataclass(frozen=True, slots=True)
class Box:
    """Around one object: time point, plane, label, and the window [y0, y1) × [x0, x1) in px of the whole plane."""

    t: int
    z: int
    label: int
    y0: int
    x0: int
    y1: int
    x1: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparateResult:
    """An image taken apart; all layers are float32 in the grey values of the input, not clipped.

    Parameters
    ----------
    target : ndarray
        What is wanted (with an even ground). Of a model of movies: what moves, as a difference from the background:
        background − image where objects are dark, image − background where they are bright.
    remainder : ndarray
        All else: image − target; where the model turns dark into bright, ground + (image − target). Of a model of
        movies: the background, the scene without what moves.
    unwanted, background : ndarray or None
        Of models that take images apart, and of models of movies (background only).
    labels : ndarray of uint32 or None
        Objects of the target, numbered anew in each plane.
    boxes : tuple of Box
    wanted : ndarray of float32 or None
        What the objects were found in: the target in the range of the network, with the axes of the labels. Objects can
        be found again by :func:`objects_of`, without the network. None where no objects were asked for.
    axes : str
        Of the layers: the request's, less C or S where they were averaged or one was chosen.
    labels_axes : str
        Of the labels: without channels.
    provenance : dict
        JSON-ready.
    """

    target: NDArray[np.float32]
    remainder: NDArray[np.float32]
    unwanted: NDArray[np.float32] | None
    background: NDArray[np.float32] | None
    labels: NDArray[np.uint32] | None
    boxes: tuple[Box, ...]
    axes: str
    labels_axes: str
    provenance: dict[str, Any]
    wanted: NDArray[np.float32] | None = None
    is_complete: bool = True
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedSeparator:
    """A semantic filter with its weights loaded on a device."""

    card: ModelCard
    separator: Separator
    choice: DeviceChoice


def list_separators() -> tuple[ModelCard, ...]:
    """Models that keep one kind of object, or what moves: those of the manifest, then the user's."""
    return SEPARATORS.all()


def is_of_movies(card: ModelCard) -> bool:
    """Whether the model shows scenes without what moves."""
    return card.training.get("learned_from") == "movies"


def open_separator(
    model_id: str, device: str = "auto", precision: str = "auto", *, cache_folder: str = ""
) -> OpenedSeparator:
    """Choose the device and load the weights.

    Parameters
    ----------
    model_id : str
        Id of a semantic filter, or the path of a card (``.json``) that a training left beside its weights.

    Raises
    ------
    ModelNotFoundError
        No semantic filter of that id; the message lists those there are.
    DownloadError, ChecksumError
        Its weights cannot be had.
    DeviceError, ParameterError
        Unknown device or precision.
    """
    from napari_cellenhance.core.recipes.separator import Separator

    found = SEPARATORS.load(model_id, device, precision, cache_folder)
    return OpenedSeparator(card=found.card, separator=Separator(found.module, found.choice), choice=found.choice)


def card_of(model_id: str) -> ModelCard:
    """Card of a semantic filter by its id, or from a file ending in ``.json``; loads no weights.

    Raises
    ------
    ModelNotFoundError
        No semantic filter of that id, or a card of another method.
    ManifestError
        A file that is no card.
    """
    return SEPARATORS.card_of(model_id)


def run(
    request: SeparateRequest,
    *,
    on_progress: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
) -> SeparateResult:
    """Load the model and take one image apart.

    Raises
    ------
    ModelNotFoundError, DownloadError, ChecksumError
        No such model, or its weights cannot be had.
    AxesError, ImageError, ParameterError
        A request that does not fit the image, or an image that does not fit the model.
    DeviceError
        Unknown device, or not enough memory even in small tiles.
    """
    on_progress(Progress(n_done=0, n_total=0, message=f"Loading {request.model_id}"))
    opened = open_separator(request.model_id, request.device, request.precision, cache_folder=request.cache_folder)
    return apply(request, opened, on_progress=on_progress, is_cancelled=is_cancelled)


def apply(
    request: SeparateRequest,
    opened: OpenedSeparator,
    *,
    on_progress: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
) -> SeparateResult:
    """Take one image apart with a model that is loaded already; see :func:`run`."""
    return _Run(request, opened, on_progress, is_cancelled).separate()


def objects_of(plane: NDArray[np.floating], card: ModelCard, options: CleanOptions | None = None) -> NDArray[np.uint32]:
    """Label the objects of a target plane, scaled as the network sees it."""
    return clean_labels(plane, options or (MOVING if is_of_movies(card) else CleanOptions()))


def boxes_of(labels: NDArray[np.integer[Any]], t: int = 0, z: int = 0, corner: tuple[int, int] = (0, 0)) -> list[Box]:
    """Boxes of the objects 1, 2, … of a plane, whose first pixel lies at ``corner`` of the whole plane."""
    top, left = corner
    found = []
    for number, corners in zip(range(1, int(labels.max(initial=0)) + 1), label_boxes(labels), strict=True):
        (y0, x0), (y1, x1) = corners[0] + 0.5, corners[2] + 0.5
        found.append(Box(t, z, number, int(y0) + top, int(x0) + left, int(y1) + top, int(x1) + left))
    return found


def normalizer_for(name: str, settings: Mapping[str, float | bool], pixels: Any) -> Normalizer:
    """Normaliser of a card on an image, or on several pooled; where its P99 is 0, of the whole range of grey values."""
    found = fit_normalizer(name, pixels, **settings)
    return fit_normalizer("minmax", pixels) if found.is_flat else found


class _Run(TiledRun):
    verb = "Separating"
    advice = "choose a smaller region"

    def __init__(
        self, request: SeparateRequest, opened: OpenedSeparator, on_progress: OnProgress, is_cancelled: IsCancelled
    ) -> None:
        from napari_cellenhance.core.recipes.separator import SEPARATOR_TILE_PX

        super().__init__(
            reading_of(request), opened.choice, request.tile_px or SEPARATOR_TILE_PX, on_progress, is_cancelled
        )
        self.request, self.opened, self.card = request, opened, opened.card
        self.warn_if_repeated(opened.card, request.earlier)
        self.look_at_input(opened.card)
        self.n_in = opened.separator.n_in
        n_t, n_c, n_z = self.image.shape[:3]
        if self.n_in > 1 and n_c != self.n_in:
            raise ImageError(
                f"the model {self.card.id!r} takes {self.n_in} channels together, and the image has {n_c}; choose "
                "as many"
            )
        if request.has_objects and n_c != self.n_in:
            raise ParameterError("objects are found in one channel; choose one, or grey")
        self.is_movie = is_of_movies(self.card)
        is_apart = opened.separator.n_out == 3 * self.n_in
        shape = (*self.image.shape[:3], *self.window.shape)
        self.target, self.remainder = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self.unwanted = np.zeros(shape, np.float32) if is_apart else None
        self.background = np.zeros(shape, np.float32) if is_apart else None
        of_objects = (n_t, 1, n_z, *self.window.shape)
        self.labels = np.zeros(of_objects, np.uint32) if request.has_objects else None
        self.wanted = np.zeros(of_objects, np.float32) if request.has_objects else None
        self.boxes: list[Box] = []
        self.normalizers: dict[str, dict[str, Any]] = {}
        self._pooled: dict[int, Normalizer] = {}

    def separate(self) -> SeparateResult:
        units = list(self.units(are_together=self.n_in > 1, are_volumes=False))
        is_complete = self.do_each(units, lambda unit: self._separate_unit(unit, len(units)))
        warnings = self.notes()
        options = self.request.objects or (MOVING if self.is_movie else CleanOptions())
        record = record_of(
            self, self.request, self.card, "separate", self.normalizers, warnings,
            {"polarity": self.card.training.get("polarity")},
            learned_from="movies" if self.is_movie else "crops",
            objects=None if self.labels is None else asdict(options), is_complete=is_complete,
        )  # fmt: skip
        axes = self.image.axes
        labels_axes = axes.replace("C", "").replace("S", "")

        def back(layer: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
            return None if layer is None else from_canonical(layer, axes)

        background = self.remainder if self.is_movie else self.background
        return SeparateResult(
            target=from_canonical(self.target, axes), remainder=from_canonical(self.remainder, axes),
            unwanted=back(self.unwanted), background=back(background),
            labels=None if self.labels is None else from_canonical(self.labels, labels_axes), boxes=tuple(self.boxes),
            wanted=None if self.wanted is None else from_canonical(self.wanted, labels_axes),
            axes=axes, labels_axes=labels_axes, provenance=record, is_complete=is_complete, warnings=tuple(warnings),
        )  # fmt: skip

    def _separate_unit(self, unit: Unit, n_units: int) -> None:
        raw = self.read(unit)[:, 0]
        z = unit.planes.start
        at = (unit.t, slice(unit.channels[0], unit.channels[-1] + 1), z)
        shown = raw[(slice(None), *self.window.slices)]
        normalizer = self._normalizer(unit, raw)
        if normalizer.is_flat or float(raw.min()) == float(raw.max()):
            self.n_flat += 1
            (self.remainder if self.is_movie else self.target)[at] = shown
            if not self.is_movie:
                self.remainder[at] = self._ground(normalizer)
            return
        scaled = normalizer.normalize(raw)
        layers = self._attempt(scaled, n_units)
        found = layers[: self.n_in]
        grey = normalizer.denormalize(found)
        if self.is_movie:
            from napari_cellenhance.core.frame_pairs import foreground

            self.remainder[at] = grey
            self.target[at] = foreground(shown, grey, self._polarity)
            wanted = foreground(scaled[(slice(None), *self.window.slices)], found, self._polarity_seen(normalizer))
        else:
            self.target[at] = grey
            ground = self._ground(normalizer)
            self.remainder[at] = ground + (shown - grey)
            wanted = found
        for name, layer in (("background", self.background), ("unwanted", self.unwanted)):
            if layer is not None:
                start = self.n_in * (1 if name == "background" else 2)
                layer[at] = normalizer.denormalize(layers[start : start + self.n_in])
        if self.labels is not None:
            self._find_objects(unit, wanted.mean(axis=0))

    def _find_objects(self, unit: Unit, plane: NDArray[np.float32]) -> None:
        assert self.labels is not None and self.wanted is not None
        z = unit.planes.start
        labels = objects_of(plane, self.card, self.request.objects)
        self.labels[unit.t, 0, z], self.wanted[unit.t, 0, z] = labels, plane
        self.boxes += boxes_of(labels, unit.t, z, (self.window.y0, self.window.x0))

    @property
    def _polarity(self) -> Polarity:
        """Of what moves, in grey values."""
        known = self.card.training.get("polarity")
        return known if known in ("dark", "bright") else "both"  # type: ignore[return-value]

    def _polarity_seen(self, normalizer: Normalizer) -> Polarity:
        """The same in the range of the network, which may be turned over."""
        flipped: dict[Polarity, Polarity] = {"dark": "bright", "bright": "dark", "both": "both"}
        return flipped[self._polarity] if self._is_turned(normalizer) else self._polarity

    def _ground(self, normalizer: Normalizer) -> float:
        """Grey value of nothing where dark is turned into bright: else an image is target + remainder as it stands."""
        return float(normalizer.denormalize(np.zeros(1))[0]) if self._is_turned(normalizer) else 0.0

    def _is_turned(self, normalizer: Normalizer) -> bool:
        return normalizer.name == "fixed" and normalizer.parameters["low"] > normalizer.parameters["high"]

    def _normalizer(self, unit: Unit, raw: NDArray[Any]) -> Normalizer:
        """A range for all images, or of the plane, or of the whole stack of its channel."""
        channel = unit.channels[0]
        if self.request.statistics == "plane":
            found = self._measured([raw])
            self.normalizers[f"t{unit.t} c{channel} z{unit.planes.start}"] = found.to_dict()
            return found
        if channel not in self._pooled:
            planes = [plane for each in unit.channels for plane in self.pooled(each)]
            self._pooled[channel] = self._measured(planes)
            self.normalizers[f"c{channel}"] = self._pooled[channel].to_dict()
        return self._pooled[channel]

    def _measured(self, planes: list[NDArray[Any]]) -> Normalizer:
        card = self.card.normalization
        return normalizer_for(card.name, card.parameters, planes)

    def _attempt(self, scaled: NDArray[np.float32], n_units: int) -> NDArray[np.float32]:
        separator = self.opened.separator
        n_total = n_units * separator.n_tiles(scaled.shape[1:], self.tile_px, self.request.region)

        def attempt(tile_px: int) -> NDArray[np.float32]:
            return separator.separate(
                scaled, region=self.request.region, tile_px=tile_px, on_tile=lambda: self.tell(n_total),
                checkpoint=self.checkpoint,
            )  # fmt: skip

        return self.in_tiles(attempt)
