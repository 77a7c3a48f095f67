"""A library of crops from layers, or any arrays: labels, paint, a threshold, points or boxes say where objects are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.axes import SAMPLES, check_axes, select_channels, to_canonical
from napari_cellenhance.core.crop_extraction import (
    from_boxes,
    from_labels,
    from_painted,
    from_points,
    from_segmentation,
)
from napari_cellenhance.core.crop_library import CropLibrary, FoundObject, merge
from napari_cellenhance.core.crop_options import BoxOptions, CutOptions, PointOptions, SegmentOptions
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.focus import BETWEEN, FocusThresholds, propose_thresholds, sort_by_focus
from napari_cellenhance.core.normalize import sanitize
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress
from napari_cellenhance.workflows.train_layers import fitting_labels

__all__ = ["CropLayer", "CropOptions", "CropRequest", "CropResult", "Way", "place_of", "resorted", "run"]

_SIZES_DIFFER = 3.0
_DEPTH = ", z "

Way = Literal["labels", "painted", "segment", "points", "boxes"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CropLayer:
    """An image, and what says where its objects are. Holds no layer and no viewer.

    Parameters
    ----------
    name : str
        Of the image: crops of one name learn, or validate, together.
    image : array-like
        Any order of axes; lazy arrays are read plane by plane. Never written to.
    axes : str
        One letter per dimension out of ``TCZYX`` and ``S``.
    channels : "grey", "colour" or tuple of one int
        Which channel is cut out; "grey" makes one of colours (luminance) or of channels (mean), "colour" keeps all.
    labels : array-like of int, optional
        Shape of ``image`` with or without its C and S axes. Objects with a number each, or paint.
    classes : array-like of int, optional
        As ``labels``: the class painted on each object.
    points : mapping of str to ndarray of shape (N, ndim)
        Name of a class → coordinates along the axes of the image, with or without C; S has none.
    boxes, unwanted_boxes : ndarray of shape (N, K, ndim) or None
        Corners of shapes, in such coordinates.
    at : (int, int) or None
        Only the plane at this time point and depth; None: all planes.
    """

    name: str
    image: Any
    axes: str
    channels: Literal["grey", "colour"] | tuple[int, ...] = "grey"
    labels: Any = None
    classes: Any = None
    points: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    boxes: NDArray[np.float64] | None = None
    unwanted_boxes: NDArray[np.float64] | None = None
    at: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.channels, str) and len(self.channels) != 1:
            raise ParameterError(f"{len(self.channels)} channels of “{self.name}” were chosen; choose one, or grey")
        if isinstance(self.channels, str) and self.channels not in ("grey", "colour"):
            raise ParameterError(f"channels are {self.channels!r}; expected grey, colour, or one number")


@dataclass(frozen=True, slots=True, kw_only=True)
class CropOptions:
    """How objects are found and sorted.

    Parameters
    ----------
    way : "labels", "painted", "segment", "points" or "boxes"
    target : tuple of str
        Classes to keep: numbers of ``labels`` with classes or of paint, one name of points. Empty where there is one
        kind of object.
    is_unwanted : bool
        With ``segment``, or with labels that have no class: all objects are unwanted instead.
    is_complete : bool
        With ``labels``: every object has one.
    is_tracked : bool
        With ``labels`` of a movie: a number stands for the same cell in all frames.
    cut : CutOptions
        Sizes, background, and the focus score. With a score, objects of one kind are sorted by it.
    segment, points, boxes
        Of their ways.
    seed : int
        Of the random squares of ``boxes``.

    Raises
    ------
    ParameterError
        Settings that exclude each other.
    """

    way: Way = "labels"
    target: tuple[str, ...] = ()
    is_unwanted: bool = False
    is_complete: bool = True
    is_tracked: bool = False
    cut: CutOptions = field(default_factory=CutOptions)
    segment: SegmentOptions = field(default_factory=SegmentOptions)
    points: PointOptions = field(default_factory=PointOptions)
    boxes: BoxOptions = field(default_factory=BoxOptions)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.way not in get_args(Way):
            raise ParameterError(f"the way to find objects is {self.way!r}; expected one of {', '.join(get_args(Way))}")
        if self.way == "painted" and not self.target:
            raise ParameterError("no painted class was named as the one to keep; name at least one, such as 2")
        if self.way == "points" and len(self.target) != 1:
            raise ParameterError(f"{len(self.target)} classes of points are to be kept; expected one")
        if self.way in ("labels", "painted") and not all(text.isdecimal() for text in self.target):
            raise ParameterError(
                f"classes to keep are {', '.join(self.target)}; expected whole numbers, as in the labels"
            )
        if self.way in ("segment", "boxes") and self.target:
            raise ParameterError(f"a class to keep was named, but objects found by {self.way} have none; leave it out")
        if self.cut.focus is not None and not self.is_one_kind:
            raise ParameterError(
                "sharp and blurred objects are told apart where nothing else gives them a class: by a threshold, or by "
                "labels without classes"
            )
        if self.is_unwanted and (not self.is_one_kind or self.cut.focus is not None):
            raise ParameterError("all objects are unwanted, but they get classes otherwise; choose one of both")

    @property
    def is_one_kind(self) -> bool:
        """Nothing gives objects a class."""
        return self.way == "segment" or (self.way == "labels" and not self.target)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CropRequest:
    """Layers to cut, and how."""

    layers: tuple[CropLayer, ...]
    options: CropOptions = field(default_factory=CropOptions)

    def __post_init__(self) -> None:
        if not self.layers:
            raise ParameterError("no image was given to cut objects out of; choose at least one layer")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CropResult:
    """What was found.

    Parameters
    ----------
    collection : CropLibrary
    thresholds : FocusThresholds or None
        Of the focus score, as given or proposed.
    record : dict
        How it was made, JSON-ready.
    is_complete : bool
        False when stopped before the last plane.
    """

    collection: CropLibrary
    thresholds: FocusThresholds | None
    record: dict[str, Any]
    is_complete: bool = True

    @property
    def score_curve(self) -> NDArray[np.float64]:
        """Focus scores that decide, rising."""
        scores = np.array([one.score for one in self.collection.objects if _is_scored(one)], np.float64)
        return np.sort(scores)


def run(
    request: CropRequest, *, on_progress: OnProgress = no_progress, is_cancelled: IsCancelled = never_cancelled
) -> CropResult:
    """Cut objects out of every plane.

    Raises
    ------
    AxesError
        Axes that do not fit the shape.
    ImageError
        Labels, points or boxes that do not fit the image.
    ParameterError
        A layer without what the way needs.
    """
    options = request.options
    libraries: list[CropLibrary] = []
    is_complete = True
    for number, layer in enumerate(request.layers):
        for library in _libraries_of(layer, options):
            libraries.append(library)
            on_progress(Progress(n_done=number, n_total=len(request.layers), message=f"Cutting “{layer.name}”"))
            if is_cancelled():
                is_complete = False
                break
        if not is_complete:
            break
    library, thresholds = _sorted(merge(libraries), options)
    record = {
        "made": "crops of objects",
        "images": [layer.name for layer in request.layers],
        "options": asdict(options),
        "focus_thresholds": thresholds._asdict() if thresholds else None,
        "counts": dict(library.counts()),
        "discarded_because": library.discarded_because(),
    }
    return CropResult(collection=library, thresholds=thresholds, record=record, is_complete=is_complete)


def resorted(result: CropResult, thresholds: FocusThresholds) -> CropResult:
    """The same objects with other thresholds of the focus score; nothing is cut again.

    Raises
    ------
    ParameterError
        A low threshold above the high one, or objects that were not scored.
    """
    if result.thresholds is None:
        raise ParameterError("these objects have no focus score; find them again with one")
    library = sort_by_focus(result.collection, thresholds)
    record = result.record | {
        "focus_thresholds": thresholds._asdict(),
        "counts": dict(library.counts()),
        "discarded_because": library.discarded_because(),
    }
    return replace(result, collection=library, thresholds=thresholds, record=record)


def _is_scored(one: FoundObject) -> bool:
    return bool(np.isfinite(one.score)) and (one.kind != "discarded" or one.reason == BETWEEN)


def _sorted(library: CropLibrary, options: CropOptions) -> tuple[CropLibrary, FocusThresholds | None]:
    focus = options.cut.focus
    scores = [one.score for one in library.objects if _is_scored(one)]
    if focus is None or not scores:
        return library, None
    low, high = focus.low, focus.high
    if low is None or high is None:
        proposed = propose_thresholds(scores)
        # One that was given moves the other, so that they do not cross.
        low = min(proposed.low, np.inf if high is None else high) if low is None else low
        high = max(proposed.high, low) if high is None else high
    thresholds = FocusThresholds(float(low), float(high))
    library = replace(library, notes=(*library.notes, *_size_notes(library)))
    return sort_by_focus(library, thresholds), thresholds


def _size_notes(library: CropLibrary) -> list[str]:
    """The score of a large object is lower: images of another magnification would be sorted by it."""
    areas: dict[str, list[int]] = {}
    for one in library.objects:
        if _is_scored(one):
            areas.setdefault(one.crop.source, []).append(one.crop.area_px)
    medians = sorted((float(np.median(found)), source) for source, found in areas.items())
    if len(medians) < 2 or medians[-1][0] < _SIZES_DIFFER * medians[0][0]:
        return []
    (small, of_small), (large, of_large) = medians[0], medians[-1]
    note = (
        f"Objects of {of_large} are {large / small:.1f} times as large as those of {of_small}. Large objects have "
        "lower focus scores: sort images of one magnification at a time, and add them up."
    )
    return [note]


def place_of(source: str) -> tuple[str, int]:
    """Name of the layer, and depth, that a source of :func:`run` stands for.

    >>> place_of("cells, z 4"), place_of("cells")
    (('cells', 4), ('cells', 0))
    """
    name, found, depth = source.rpartition(_DEPTH)
    return (name, int(depth)) if found and depth.isdecimal() else (source, 0)


# --- planes -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Plane:
    """One plane of a layer, and its labels."""

    image: NDArray[Any]
    name: str
    t: int
    z: int
    labels: NDArray[Any] | None
    classes: NDArray[Any] | None


@dataclass(frozen=True, slots=True)
class _Labelled:
    """What :func:`fitting_labels` looks at."""

    name: str
    image: Any
    labels: Any


def _libraries_of(layer: CropLayer, options: CropOptions) -> Iterator[CropLibrary]:
    axes = check_axes(layer.axes, np.shape(layer.image))
    _check_given(layer, options)
    labels, classes = (
        None if given is None else fitting_labels(_Labelled(layer.name, layer.image, given), axes)
        for given in (layer.labels, layer.classes)
    )
    canonical = to_canonical(layer.image, axes)
    chosen, _ = select_channels(canonical, axes, "all" if layer.channels == "colour" else layer.channels)
    n_t, _, n_z = (int(n) for n in chosen.shape[:3])
    for t in range(n_t):
        for z in range(n_z):
            if layer.at not in (None, (t, z)):
                continue
            pixels, _ = sanitize(np.asarray(chosen[t, :, z]))
            plane = _Plane(
                pixels[0] if pixels.shape[0] == 1 else np.moveaxis(pixels, 0, -1),
                layer.name if n_z == 1 else f"{layer.name}{_DEPTH}{z}",
                t,
                z,
                None if labels is None else np.asarray(labels[t, z]),
                None if classes is None else np.asarray(classes[t, z]),
            )
            yield _cut_plane(plane, layer, options, axes)


def _check_given(layer: CropLayer, options: CropOptions) -> None:
    missing = {
        "labels": layer.labels is None, "painted": layer.labels is None, "segment": False,
        "points": not layer.points, "boxes": layer.boxes is None and layer.unwanted_boxes is None,
    }  # fmt: skip
    if missing[options.way]:
        what = "labels" if options.way == "painted" else options.way
        raise ParameterError(f"“{layer.name}” has no {what}, by which objects should be found; choose a layer of them")
    if options.way == "labels" and (layer.classes is None) != (not options.target):
        raise ParameterError(
            f"“{layer.name}” has {'no' if layer.classes is None else 'painted'} classes of objects, and the classes to "
            f"keep are {', '.join(options.target) or 'not named'}; give both, or neither"
        )


def _cut_plane(plane: _Plane, layer: CropLayer, options: CropOptions, axes: str) -> CropLibrary:
    image = plane.image
    common: dict[str, Any] = {"source": plane.name, "frame": plane.t, "options": options.cut}
    if options.way == "painted":
        return from_painted(image, _given(plane.labels), target=_numbers(options), **common)
    if options.way == "labels":
        library = from_labels(
            image, _given(plane.labels), target=_numbers(options), classes=plane.classes,
            is_complete=options.is_complete, is_tracked=options.is_tracked, **common,
        )  # fmt: skip
        if not options.is_unwanted:
            return library
        return library.moved([i for i, one in enumerate(library.objects) if one.kind == "target"], "unwanted")
    if options.way == "segment":
        return from_segmentation(
            image, options.segment, as_class="unwanted" if options.is_unwanted else "target", **common
        )
    if options.way == "points":
        here = {name: _on_plane(points, plane, layer, axes) for name, points in layer.points.items()}
        return from_points(image, here, options.points, target=options.target[0], **common)
    boxes, unwanted = (
        np.zeros((0, 4)) if given is None else _on_plane(given, plane, layer, axes)
        for given in (layer.boxes, layer.unwanted_boxes)
    )
    rng = np.random.default_rng([options.seed, plane.t, plane.z])
    return from_boxes(image, boxes, options.boxes, rng=rng, unwanted_boxes=unwanted, **common)


def _given(labels: NDArray[Any] | None) -> NDArray[Any]:
    assert labels is not None  # _check_given has looked
    return labels


def _numbers(options: CropOptions) -> tuple[int, ...]:
    return tuple(int(text) for text in options.target)


def _on_plane(coordinates: NDArray[np.float64], plane: _Plane, layer: CropLayer, axes: str) -> NDArray[np.float64]:
    """Row and column of points (N, ndim), or of corners (N, K, ndim), that lie on a plane."""
    given = np.asarray(coordinates, np.float64)
    if not given.size:
        return np.zeros((0, 2))
    sizes = dict(zip(axes, np.shape(layer.image), strict=True))
    full = axes.replace(SAMPLES, "")
    words = [full, full.replace("C", ""), "".join(a for a in full.replace("C", "") if a in "YX" or sizes[a] > 1)]
    letters = next((word for word in words if len(word) == given.shape[-1]), None)
    if letters is None:
        raise ImageError(
            f"points or boxes of “{layer.name}” have {given.shape[-1]} coordinates, its axes are {axes}; expected one "
            "for each axis but C and S"
        )
    is_here = np.ones(len(given), np.bool_)
    for letter, at in (("T", plane.t), ("Z", plane.z)):
        if letter in letters:
            first = given[..., letters.index(letter)].reshape(len(given), -1)[:, 0]
            is_here &= np.rint(first) == at
    return np.asarray(given[is_here][..., [letters.index("Y"), letters.index("X")]], np.float64)
