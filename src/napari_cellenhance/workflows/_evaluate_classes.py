"""Labelled images as classes, for the evaluations of segmentation networks, and how well classes are found."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.painted import from_instances

if TYPE_CHECKING:
    from napari_cellenhance.core.models.segmentation_baseline import SegmentationNetwork
    from napari_cellenhance.io.labelled import LabelledImage

__all__ = [
    "CLASS_NAMES",
    "ClassImage",
    "Segment",
    "digest",
    "found_objects",
    "mean_sd",
    "open_network",
    "read_class_images",
    "score",
]

CLASS_NAMES: Mapping[int, str] = {1: "background", 2: "object", 3: "border"}

_STRETCH = (0.1, 99.9)

Segment = Callable[[NDArray[np.float32]], NDArray[np.int32]]
"""Plane in [0, 1] → label value of each pixel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassImage:
    """A plane whose classes are known everywhere.

    Parameters
    ----------
    source, name : str
    group : str
        Images of one group, tiles of one plane, belong on the same side of a split.
    image : ndarray of shape (Y, X), float32
        In [0, 1].
    classes : ndarray of int32, shape (Y, X)
        1 background, 2 object, 3 border.
    instances : ndarray of int32, shape (Y, X), or None
        Each object its own number; None where only a mask is known.
    """

    source: str
    name: str
    group: str
    image: NDArray[np.float32]
    classes: NDArray[np.int32]
    instances: NDArray[np.int32] | None


def read_class_images(
    paths: Sequence[str | os.PathLike[str]],
    *,
    data_root: str | os.PathLike[str] | None = None,
    max_images: int = 0,
    seed: int = 0,
    tile_px: int = 0,
    has_border: bool = True,
    is_stretched: bool = True,
) -> dict[str, list[ClassImage]]:
    """Read labelled images by source.

    Parameters
    ----------
    paths : sequence of path
        JSON lists or folders, see ``io.labelled``.
    data_root : path, optional
        What the paths in a JSON list are relative to.
    max_images, seed : int
        At most so many of each source, drawn by the seed; 0 takes all.
    tile_px : int
        Planes with a mask are cut into tiles of this side that do not overlap, the rest at the ends is left out; 0
        keeps them whole. Planes with labelled objects are always whole.
    has_border : bool
        Make the borders of labelled objects a third class.
    is_stretched : bool
        Bring the percentiles 0.1 and 99.9 of each plane to 0 and 1; otherwise values as stored, over the largest
        possible one.

    Raises
    ------
    ImageError
        No image with labels or a mask.
    """
    from napari_cellenhance.io.labelled import Selection, read_labelled

    selection = Selection(max_images=max_images, seed=seed)
    found: dict[str, list[ClassImage]] = {}
    for path in paths:
        for labelled in read_labelled(path, data_root=data_root, selection=selection):
            whole = _classified(labelled, has_border, is_stretched)
            if whole is not None:
                pieces = _tiles(whole, tile_px) if tile_px and whole.instances is None else iter([whole])
                found.setdefault(whole.source, []).extend(pieces)
    if not found:
        raise ImageError("there is nothing to learn from; name a JSON list of images with labels or masks, or a folder")
    return found


def _classified(labelled: LabelledImage, has_border: bool, is_stretched: bool) -> ClassImage | None:
    """None where nothing but points is known, or the plane is flat."""
    from napari_cellenhance.workflows._evaluate_filters import stretched

    if labelled.mask is None:
        return None
    image = stretched(labelled.image, _STRETCH) if is_stretched else labelled.image.clip(0.0, 1.0)
    if image.min() == image.max():
        return None
    ids = labelled.mask.astype(np.int32) if labelled.labels is None else labelled.labels
    classes = from_instances(ids, is_complete=True, has_border=has_border and labelled.labels is not None)
    name = f"{labelled.source}/{labelled.name}"
    return ClassImage(
        source=labelled.source, name=name, group=name, image=image, classes=classes, instances=labelled.labels
    )


def _tiles(whole: ClassImage, side: int) -> Iterator[ClassImage]:
    height, width = whole.image.shape
    if min(height, width) < side:
        yield whole
        return
    for y in range(0, height - side + 1, side):
        for x in range(0, width - side + 1, side):
            window = slice(y, y + side), slice(x, x + side)
            image = whole.image[window].copy()
            if image.min() < image.max():
                name = f"{whole.name} at {y}, {x}"
                yield replace(whole, name=name, image=image, classes=whole.classes[window].copy())


def digest(images: Sequence[ClassImage]) -> str:
    """SHA-256 of the pixels and the classes, in order."""
    sha = hashlib.sha256()
    for image in images:
        for array in (image.image, image.classes, image.instances):
            if array is not None:
                sha.update(f"{array.dtype} {array.shape}".encode())
                sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()


def found_objects(labels: NDArray[np.int32], min_object_px: int) -> NDArray[np.int32]:
    """Number the connected parts of class 2 (by edges, not corners); smaller ones are dropped."""
    from scipy.ndimage import label

    parts = np.asarray(label(labels == 2)[0], np.int32)
    sizes = np.bincount(parts.ravel())
    parts[sizes[parts] < min_object_px] = 0
    return parts


def score(
    segment: Segment,
    planes: Sequence[NDArray[np.float32]],
    truth: Sequence[ClassImage],
    values: Sequence[int],
    *,
    min_object_px: int = 30,
    without: NDArray[np.bool_] | None = None,
) -> dict[str, Any]:
    """Overlap of the classes, and objects found, over all images together.

    Parameters
    ----------
    segment : callable
    planes : sequence of ndarray
        What is segmented, one for each image of ``truth``.
    truth : sequence of ClassImage
    values : sequence of int
        Label values of the classes.
    min_object_px : int
        Smaller objects found do not count.
    without : ndarray of bool, optional
        Pixels of every image that are not counted.

    Returns
    -------
    dict
        ``iou`` and ``dice``: class name → value, from one pooled confusion matrix; ``mean_iou``, ``mean_dice`` over the
        classes that occur; and, where objects are known, ``average_precision`` (TP / (TP + FP + FN) of all images
        together, at an IoU of 0.5) and ``seg`` (mean over all objects), else NaN.
    """
    from napari_cellenhance.core.instances import match_instances, overlaps, seg_terms
    from napari_cellenhance.core.metrics import class_dice, class_iou, confusion_matrix

    n = len(values)
    confusion, counts, terms = np.zeros((n, n), np.int64), np.zeros(3, np.int64), [np.zeros(0)]
    for plane, wanted in zip(planes, truth, strict=True):
        labels = segment(plane)
        counted = slice(None) if without is None else ~without
        true, found = (np.searchsorted(np.asarray(values), array[counted]) for array in (wanted.classes, labels))
        confusion += confusion_matrix(true, found, n)
        if wanted.instances is not None and without is None:
            shared = overlaps(wanted.instances, found_objects(labels, min_object_px))
            matches = match_instances(shared)
            counts += np.array([matches.tp, matches.fp, matches.fn])
            terms.append(seg_terms(shared))
    iou, dice = class_iou(confusion), class_dice(confusion)
    names = [CLASS_NAMES.get(value, f"class {value}") for value in values]
    seg = np.concatenate(terms)
    return {
        "iou": dict(zip(names, iou.tolist(), strict=True)),
        "dice": dict(zip(names, dice.tolist(), strict=True)),
        "mean_iou": float(np.nanmean(iou)),
        "mean_dice": float(np.nanmean(dice)),
        "average_precision": float(counts[0] / counts.sum()) if counts.sum() else math.nan,
        "seg": float(seg.mean()) if seg.size else math.nan,
    }


def mean_sd(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (n − 1) of what is not NaN; NaN where there are none, or one."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return math.nan, math.nan
    return float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else math.nan


def open_network(model_id: str) -> tuple[SegmentationNetwork, tuple[int, ...]]:
    """Network of a segmenting model, and the label value of each of its classes.

    Raises
    ------
    ModelNotFoundError
        No model of that id.
    ParameterError
        A model that filters and does not segment.
    """
    from napari_cellenhance.zoo.manifest import find_model
    from napari_cellenhance.zoo.weights import load_model

    card = find_model(model_id)
    if card.recipe != "aep":
        raise ParameterError(f"the model {card.id!r} does not segment; choose one that AEP was trained for")
    module: Any = load_model(card)
    return module, tuple(item.value for item in card.classes)
