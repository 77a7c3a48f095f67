"""Layers, or any arrays, as images to train on: planes, contrast, object sizes, and a strip kept for validation."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.axes import check_axes, select_channels, to_canonical
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.normalize import sanitize
from napari_cellenhance.core.object_size import median_diameter, suggest_diameter

if TYPE_CHECKING:
    from napari_cellenhance.core.sources import ImageSource

__all__ = ["LabelledLayer", "TrainLayer", "digest_of", "fitting_labels", "read_layer", "read_masks", "split_layers"]

MAX_PIXELS = 96_000_000
"""Of one layer, over all planes: 384 MB as float32. Of larger ones planes are taken at equal steps."""
_LEAST_STRIP_PX = 48
_SIXTH = 6

Labels = NDArray[np.integer]
Plane = NDArray[np.float32]


class LabelledLayer(Protocol):
    """An image with labels, as the dataclasses here and in ``painted_layers`` describe it."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    @property
    def image(self) -> Any:
        """Array of any order of axes."""
        ...

    @property
    def labels(self) -> Any:
        """Array of whole numbers."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainLayer:
    """An image to train on, and what is known of it.

    Parameters
    ----------
    name : str
        For the record on the model card.
    image : array-like
        Any order of axes; lazy arrays are read plane by plane. Never written to.
    axes : str
        One letter per dimension out of ``TCZYX`` and ``S``.
    channels : "all", "grey" or tuple of int
        What is trained on; with "all" each channel is an image of its own.
    objects_are_dark : bool
        The contrast is inverted first.
    object_diameter_px : float, optional
        Typical diameter of an object, in pixels. Default: measured from ``labels``, else suggested from the image.
    labels : array-like of int, optional
        Painted objects, 0 is ground: shape of ``image`` with or without its C and S axes, or of one plane where
        there is but one. Planes without any label count as not labelled.
    labels_cover : "plane" or "box"
        Whether all objects of a labelled plane are painted, or only those inside the box around what is painted.
        Unpainted pixels are taught as ground.
    """

    name: str
    image: Any
    axes: str
    channels: Literal["all", "grey"] | tuple[int, ...] = "grey"
    objects_are_dark: bool = False
    object_diameter_px: float | None = None
    labels: Any = None
    labels_cover: Literal["plane", "box"] = "plane"

    def __post_init__(self) -> None:
        size = self.object_diameter_px
        if size is not None and not (math.isfinite(size) and size > 0):
            raise ParameterError(f"object diameter of “{self.name}” is {size} px; expected more than 0")
        if self.labels_cover not in ("plane", "box"):
            raise ParameterError(f"labels_cover is {self.labels_cover!r}; expected 'plane' or 'box'")


def read_layer(layer: TrainLayer, *, wants_unlabelled: bool = True) -> ImageSource:
    """Planes of a layer, stretched to [0, 1], with bright objects.

    Parameters
    ----------
    wants_unlabelled : bool
        False drops what is not labelled: nothing can be learned there from labels.

    Raises
    ------
    AxesError
        Axes that do not fit the shape.
    ImageError
        Labels of another shape; nothing but flat planes; no label where labels are asked for.
    """
    from napari_cellenhance.core.sources import ImageSource, stretch

    axes = check_axes(layer.axes, np.shape(layer.image))
    labels = None if layer.labels is None else fitting_labels(layer, axes)
    images: list[Plane] = []
    found: list[Labels | None] = []
    for plane, ids in _planes(layer, axes, labels):
        grey, _ = sanitize(plane)
        image = stretch(grey, objects_are_dark=layer.objects_are_dark)
        if not image.any():
            continue  # a flat plane teaches nothing
        if ids is not None and layer.labels_cover == "box":
            box = _box(ids, image.shape)
            images.append(np.ascontiguousarray(image[box]))
            found.append(np.ascontiguousarray(ids[box]))
            ids = None
        if ids is not None or wants_unlabelled:
            images.append(image)
            found.append(ids)
    if not images:
        wanted = "plane with contrast" if wants_unlabelled else "labelled plane"
        raise ImageError(f"“{layer.name}” holds no {wanted}; choose another layer, or paint objects on a Labels layer")
    diameters = _diameters(layer, images, found)
    return ImageSource(layer.name, images, diameters, found)


def fitting_labels(layer: LabelledLayer, axes: str) -> Any:
    """Labels as (T, Z, Y, X), lazy where they were; the layer's may have its C and S axes or not.

    Raises
    ------
    ImageError
        Labels of another shape than the image.
    """
    shape = tuple(int(n) for n in np.shape(layer.image))
    spatial = "".join(letter for letter in axes if letter not in "CS")
    without_colour = axes.replace("S", "")
    sizes = dict(zip(axes, shape, strict=True))
    given = tuple(int(n) for n in np.shape(layer.labels))
    labels = layer.labels
    if "C" in axes and given == tuple(sizes[a] for a in without_colour):
        labels = np.asarray(labels).max(axis=without_colour.index("C"))  # painted on any channel
    elif given == (sizes["Y"], sizes["X"]) and all(sizes[a] == 1 for a in spatial if a not in "YX"):
        labels = np.asarray(labels).reshape([sizes[a] for a in spatial])
    elif given != tuple(sizes[a] for a in spatial):
        expected = " × ".join(str(sizes[a]) for a in spatial)
        raise ImageError(
            f"the labels for “{layer.name}” have shape {given}; expected {expected} pixels ({spatial}), one label for "
            "each pixel of the image"
        )
    return to_canonical(labels, spatial)[:, 0]


def _planes(layer: TrainLayer, axes: str, labels: Any) -> Iterator[tuple[NDArray[Any], Labels | None]]:
    """Planes to keep, at equal steps where there are too many; labelled ones first."""
    canonical = to_canonical(layer.image, axes)
    chosen, _ = select_channels(canonical, axes, layer.channels)
    n_t, n_c, n_z, n_y, n_x = (int(n) for n in chosen.shape)
    places = [(t, z) for t in range(n_t) for z in range(n_z)]
    labelled = {p: ids for p in places if labels is not None and (ids := np.asarray(labels[p])).any()}
    n_kept = max(1, MAX_PIXELS // (n_y * n_x * n_c))
    first = _spread(list(labelled), n_kept)
    rest = _spread([p for p in places if p not in labelled], n_kept - len(first))
    for t, z in sorted(first + rest):
        for c in range(n_c):
            painted = labelled.get((t, z))
            yield np.asarray(chosen[t, c, z]), None if painted is None else painted.astype(np.int64)


def _spread(places: list[tuple[int, int]], n: int) -> list[tuple[int, int]]:
    if n <= 0 or not places:
        return []
    return [places[i] for i in sorted(set(np.linspace(0, len(places) - 1, min(n, len(places))).round().astype(int)))]


def _box(ids: Labels, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Box around all that is painted, with a margin of half an object."""
    margin = round(0.5 * (median_diameter(ids) or 0.0))
    edges = []
    for axis, n in enumerate(shape):
        where = np.nonzero(ids.any(axis=1 - axis))[0]
        edges.append(slice(max(0, int(where[0]) - margin), min(n, int(where[-1]) + 1 + margin)))
    return edges[0], edges[1]


def _diameters(layer: TrainLayer, images: Sequence[Plane], labels: Sequence[Labels | None]) -> list[float]:
    if layer.object_diameter_px is not None:
        return [float(layer.object_diameter_px)] * len(images)
    own = [None if ids is None else median_diameter(ids) for ids in labels]
    known = [d for d in own if d is not None]
    fallback = float(np.median(known)) if known else suggest_diameter(_middle(images[len(images) // 2]))
    return [fallback if d is None else d for d in own]


def _middle(plane: Plane, side: int = 512) -> Plane:
    y, x = (max(0, (n - side) // 2) for n in plane.shape)
    return plane[y : y + side, x : x + side]


def read_masks(masks: Sequence[Any]) -> ImageSource:
    """Label images as a source of mask shapes; whatever their dimensions, planes are the last two.

    Raises
    ------
    ImageError
        Nothing is painted.
    """
    from napari_cellenhance.core.sources import ImageSource

    labels: list[Labels] = []
    for array in masks:
        ids = np.asarray(array)
        if ids.ndim < 2 or ids.dtype.kind not in "iub":
            raise ImageError(
                f"a mask image has shape {ids.shape} and type {ids.dtype}; expected whole numbers (…, Y, X)"
            )
        planes = ids.astype(np.int64).reshape(-1, *ids.shape[-2:])
        labels.extend(plane for plane in planes if plane.any())
    if not labels:
        raise ImageError("nothing is painted in the mask bank; paint some objects, or choose another Labels layer")
    sizes = [median_diameter(ids) or 1.0 for ids in labels]
    return ImageSource("mask bank", [np.zeros(ids.shape, np.float32) for ids in labels], sizes, [*labels])


def split_layers(
    sources: Sequence[ImageSource], fraction: float, rng: np.random.Generator
) -> tuple[list[ImageSource], list[ImageSource]]:
    """Split by image into training and validation; of a source of fewer than four images, a strip of one is kept.

    The strip is the first or last sixth of the longer side of the largest (labelled) image, never trained on.
    """
    from napari_cellenhance.core.sources import split_sources

    train: list[ImageSource] = []
    valid: list[ImageSource] = []
    for source in sources:
        if len(source.images) >= 4:
            own_train, own_valid = split_sources([source], fraction, rng)
            train += own_train
            valid += own_valid
            continue
        has_labels = any(ids is not None for ids in source.labels)
        sizes = [
            0 if has_labels and ids is None else im.size for im, ids in zip(source.images, source.labels, strict=True)
        ]
        largest = int(np.argmax(sizes))
        cut = _strip(source.images[largest], source.labels[largest])
        if cut is None or fraction <= 0:
            train.append(source)
            continue
        keep, strip = cut
        train.append(_with_part(source, largest, keep))
        valid.append(_with_part(source.subset([largest]), 0, strip))
    return train, valid


Window = tuple[slice, slice]


def _strip(image: Plane, labels: Labels | None) -> tuple[Window, Window] | None:
    """What remains, and the strip: that end of the longer side whose labelled share is closest to the whole's."""
    axis = int(np.argmax(image.shape))
    n = image.shape[axis]
    width = n // _SIXTH
    if width < _LEAST_STRIP_PX:
        return None

    def window(start: int, stop: int) -> Window:
        along, whole = slice(start, stop), slice(None)
        return (along, whole) if axis == 0 else (whole, along)

    ends = [(window(0, n - width), window(n - width, n)), (window(width, n), window(0, width))]
    if labels is None:
        return ends[0]
    painted = labels > 0
    return min(ends, key=lambda end: abs(float(painted[end[1]].mean()) - float(painted.mean())))


def _with_part(source: ImageSource, index: int, window: Window) -> ImageSource:
    from napari_cellenhance.core.sources import ImageSource

    images, labels = list(source.images), list(source.labels)
    images[index] = np.ascontiguousarray(images[index][window])
    ids = labels[index]
    labels[index] = None if ids is None else np.ascontiguousarray(ids[window])
    return ImageSource(source.name, images, list(source.diameters_px), labels, source.weight)


def digest_of(sources: Sequence[ImageSource]) -> str:
    """SHA-256 over all pixels, labels and diameters: whether a resumed training sees the same images."""
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.name.encode())
        for image, labels, diameter in zip(source.images, source.labels, source.diameters_px, strict=True):
            digest.update(f"{image.shape}{diameter:.6g}".encode())
            digest.update(np.ascontiguousarray(image).data)
            if labels is not None:
                digest.update(np.ascontiguousarray(labels, np.int64).data)
    return digest.hexdigest()
