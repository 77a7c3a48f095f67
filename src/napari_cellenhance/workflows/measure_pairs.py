"""Measure a result against a reference: restored against clean images, labels against true labels, points.

References
----------
.. [1] Caicedo et al., Nat. Methods 16, 2019: average precision at a threshold of the overlap.
.. [2] Maška et al., Bioinformatics 30, 2014: SEG.
.. [3] Weigert et al., Nat. Methods 15, 2018: PSNR after the scaling and shift of least squared error.
.. [4] Javer & Rittscher 2019, arXiv 1909.00691: points inside predicted labels; boxes that overlap by more than half.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.axes import SAMPLES
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.workflows._measured import (
    MeasuredImage,
    OpenedLayer,
    TruePoints,
    numbered,
    open_layer,
    points_by_plane,
)
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress

if TYPE_CHECKING:
    from napari_cellenhance.core.localisation import BoxTally, HitTally
    from napari_cellenhance.core.pooled_scores import ClassTally, ImageTally, ObjectTally, PointTally

__all__ = [
    "Kind",
    "PairOptions",
    "PairRequest",
    "PairScore",
    "measure_hits",
    "measure_pair",
    "measure_points",
]

Kind = Literal["images", "objects", "classes", "points", "boxes", "hits"]
_SCALE_NOTE = (
    "PSNR, SSIM and MAE compare grey values as stored and say little where their scales differ; affine PSNR fits first."
)
_INVERTED = "“{}” is brighter where the reference is darker: the fit of the affine PSNR turns it upside down."


@dataclass(frozen=True, slots=True, kw_only=True)
class PairOptions:
    """What to compare, and how.

    Parameters
    ----------
    kind : "images", "objects", "classes", "points", "boxes" or "hits"
        Grey values (PSNR, affine PSNR, SSIM, MAE); labels with a number for each object (AP, precision, recall, F1,
        SEG, IoU, Dice); labels with a number for each class (IoU and Dice); points (precision, recall, F1); boxes
        around labelled objects (precision, recall, F1, and IoU of all pixels, [4]_); labels against points, of which
        one inside a label finds it (precision, recall, F1, [4]_).
    data_range : float or None
        Images: range of PSNR and SSIM in grey values, which decides the number. None: largest less smallest value of
        each reference.
    min_iou : tuple of float
        Objects: least overlaps of a match, above 0 and at most 1; equal is a match. Boxes: the first one, below 1,
        which a match must exceed.
    ignore : int or None
        Classes: pixels with this label in the reference count for nothing.
    match_within_px : float
        Points: pairs farther apart are no match.
    """

    kind: Kind = "images"
    data_range: float | None = None
    min_iou: tuple[float, ...] = (0.5,)
    ignore: int | None = None
    match_within_px: float = 5.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ParameterError(f"kind is {self.kind!r}; expected one of {', '.join(get_args(Kind))}")
        if self.data_range is not None and not (np.isfinite(self.data_range) and self.data_range > 0):
            raise ParameterError(f"the data range is {self.data_range}; expected more than 0")
        if not self.min_iou or not all(0 < threshold <= 1 for threshold in self.min_iou):
            asked = ", ".join(f"{threshold:g}" for threshold in self.min_iou) or "missing"
            raise ParameterError(f"the least overlap is {asked}; expected one or several, more than 0 and at most 1")
        if self.kind == "boxes" and self.min_iou[0] >= 1:
            raise ParameterError("boxes match where they overlap by more than asked; expected less than 1")
        if not (np.isfinite(self.match_within_px) and self.match_within_px >= 0):
            raise ParameterError(f"points match within {self.match_within_px} px; expected 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRequest:
    """A result, the reference it is compared with, and how; both of the same planes."""

    result: MeasuredImage
    reference: MeasuredImage
    options: PairOptions = field(default_factory=PairOptions)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairScore:
    """Scores of one result.

    Parameters
    ----------
    name, reference : str
        Of the result and of what it was compared with.
    tally : ImageTally, ObjectTally, ClassTally, PointTally, BoxTally or HitTally
        What was counted, all planes added up.
    notes : tuple of str
        What a reader of the numbers must know.
    is_complete : bool
        False when stopped before the last plane.
    """

    name: str
    reference: str
    tally: ImageTally | ObjectTally | ClassTally | PointTally | BoxTally | HitTally
    notes: tuple[str, ...] = ()
    is_complete: bool = True


def measure_pair(
    request: PairRequest, *, on_progress: OnProgress = no_progress, is_cancelled: IsCancelled = never_cancelled
) -> PairScore:
    """Compare a result with its reference, plane by plane; all planes are added up.

    Raises
    ------
    AxesError, ImageError
        Images of different size, labels that are no whole numbers, a constant reference without a stated range.
    ParameterError
        Points, which are no images: see :func:`measure_points`.
    """
    if request.options.kind in ("points", "hits"):
        raise ParameterError("points are compared by measure_points and measure_hits; expected images or labels")
    if request.options.kind != "images":
        _refuse_colours(request.result, request.reference)
    reference, result = open_layer(request.reference), open_layer(request.result)
    _refuse_misfit(reference, result)

    def planes() -> Iterator[int]:
        for number, name in numbered(reference):
            if is_cancelled():
                return
            total = len(reference.planes)
            on_progress(Progress(n_done=number, n_total=total, message=f"Measuring “{result.name}” {name}".rstrip()))
            yield number

    measure: Mapping[str, Callable[..., tuple[Any, list[str]]]]
    measure = {"images": _images, "objects": _objects, "classes": _classes, "boxes": _boxes}
    tally, notes = measure[request.options.kind](reference, result, request.options, planes())
    if tally.n_planes > 1:
        notes.append(_stack_note(request.options.kind))
    return PairScore(
        name=result.name, reference=reference.name, tally=tally, notes=tuple(notes),
        is_complete=tally.n_planes == len(reference.planes),
    )  # fmt: skip


def measure_points(
    name: str, found: NDArray[np.float64], reference: str, wanted: NDArray[np.float64], options: PairOptions
) -> PairScore:
    """Compare points found with points wanted, both of shape (N, ndim) in pixels, row and column last.

    Raises
    ------
    ImageError
        Points with different numbers of coordinates.
    """
    from napari_cellenhance.core.pooled_scores import PointTally

    tally = PointTally(options.match_within_px)
    try:
        tally.add(wanted, found)
    except ImageError as error:
        raise ImageError(f"“{name}” against “{reference}”: {error}") from error
    notes = [f"“{reference}” has no point: there is nothing to find."] if not len(wanted) else []
    if tally.n_planes > 1:
        notes.append(_stack_note("points"))
    return PairScore(name=name, reference=reference, tally=tally, notes=tuple(notes))


def measure_hits(result: MeasuredImage, reference: str, points: NDArray[np.float64], options: PairOptions) -> PairScore:
    """Count the labels that annotated points lie in, plane by plane ([4]_).

    Parameters
    ----------
    result : MeasuredImage
        Labels.
    reference : str
        Name of the points.
    points : ndarray of shape (N, ndim)
        Coordinates along the axes of the labels, in pixels.
    options : PairOptions

    Raises
    ------
    ImageError
        Labels that are no whole numbers, or points with other coordinates.
    """
    from napari_cellenhance.core.localisation import HitTally
    from napari_cellenhance.core.metrics import PointMatches

    _refuse_colours(result)
    layer, tally = open_layer(result), HitTally()
    by_plane, n_off = points_by_plane(TruePoints(name=reference, points=points), layer)
    for (number, _), here in zip(numbered(layer), by_plane, strict=True):
        tally.add(here, layer.ids(number))
    notes = [f"“{reference}” has no point: there is nothing to find."] if not len(points) else []
    if n_off:
        tally.matches = PointMatches(tally.matches.tp, tally.matches.fp, tally.matches.fn + n_off)
        notes.append(f"{n_off} points of “{reference}” lie outside “{layer.name}”; they count as missed.")
    if tally.n_planes > 1:
        notes.append(_stack_note(options.kind))
    return PairScore(name=layer.name, reference=reference, tally=tally, notes=tuple(notes))


def _stack_note(kind: Kind) -> str:
    how = {
        "images": "errors are pooled over all planes with one fit for the affine PSNR, and SSIM is the mean of them",
        "objects": "objects are matched within each plane, and counts of all planes are added up",
        "classes": "pixels of all planes are counted together",
        "points": "points are matched within each plane, and counts of all planes are added up",
        "boxes": "boxes are matched within each plane, and counts of all planes are added up",
        "hits": "points count for the labels of their plane, and counts of all planes are added up",
    }
    return f"Stacks were measured plane by plane: {how[kind]}."


def _refuse_misfit(reference: OpenedLayer, result: OpenedLayer) -> None:
    if result.plane_shape == reference.plane_shape and result.lead == reference.lead:
        return

    def size(layer: OpenedLayer) -> str:
        return " × ".join(str(n) for n in (*layer.lead, *layer.plane_shape))

    raise ImageError(
        f"“{result.name}” has the size {size(result)}, its reference “{reference.name}” {size(reference)}; expected "
        "the same, since they are compared pixel by pixel. Choose images of one field of view, neither cropped nor "
        "resized"
    )


def _refuse_colours(*labels: MeasuredImage) -> None:
    for each in labels:
        if SAMPLES in each.axes.upper():
            raise ImageError(
                f"“{each.name}” is a colour image; expected labels, which are one whole number for each pixel (0 is "
                "ground). Save the labels themselves, not a picture of them"
            )


# --- grey values ----------------------------------------------------------------------------


def _images(
    reference: OpenedLayer, result: OpenedLayer, options: PairOptions, planes: Iterator[int]
) -> tuple[ImageTally, list[str]]:
    from napari_cellenhance.core.pooled_scores import ImageTally

    low, high = reference.extent
    if options.data_range is None and not high > low:
        raise ImageError(
            f"the reference “{reference.name}” is constant (every pixel is {low:g}), so that it has no range for PSNR "
            "and SSIM; state the data range, or choose another reference"
        )
    tally = ImageTally(high - low if options.data_range is None else options.data_range)
    for number in planes:
        tally.add(reference.read(number), result.read(number))
    return tally, _image_notes(reference, result, tally)


def _image_notes(reference: OpenedLayer, result: OpenedLayer, tally: ImageTally) -> list[str]:
    notes = []
    if tally.n_planes and _is_other_scale(reference, result):
        notes += [f"“{result.name}” holds {_span(result)}, “{reference.name}” {_span(reference)}.", _SCALE_NOTE]
    if np.isnan(tally.affine_psnr) and tally.n_pixels:
        notes.append(f"“{reference.name}” is constant: any image can be fitted to it, so there is no affine PSNR.")
    elif tally.is_inverted:
        notes.append(_INVERTED.format(result.name))
    if tally.n_left_out:
        notes.append(
            f"{tally.n_left_out} pixel{'' if tally.n_left_out == 1 else 's'} that are no numbers in “{result.name}” or "
            "its reference were left out; their planes have no SSIM."
        )
    elif tally.n_without_ssim:
        notes.append(f"“{result.name}” is smaller than the 7 × 7 px window of SSIM, which is left out.")
    return notes


def _span(layer: OpenedLayer) -> str:
    low, high = layer.extent
    return f"{np.dtype(layer.pixels.pixels.dtype)} from {low:.4g} to {high:.5g}"


def _is_other_scale(reference: OpenedLayer, result: OpenedLayer) -> bool:
    """Whether the values do not even overlap, or spread over more than twice or less than half the range."""
    (low, high), (least, most) = reference.extent, result.extent
    if not high > low:
        return False
    return most < low or least > high or not 0.5 <= (most - least) / (high - low) <= 2.0


# --- labels -----------------------------------------------------------------------------------


def _objects(
    reference: OpenedLayer, result: OpenedLayer, options: PairOptions, planes: Iterator[int]
) -> tuple[ObjectTally, list[str]]:
    from napari_cellenhance.core.pooled_scores import ObjectTally

    tally = ObjectTally(options.min_iou)
    masks: set[str] = set()
    for number in planes:
        true, found = reference.ids(number), result.ids(number)
        _add(tally, true, found, reference, result)
        masks |= {layer.name for layer, ids in ((reference, true), (result, found)) if _is_mask(ids)}
    notes = [
        f"“{name}” has a single number in several separate places: it may be a mask, or classes; all of them count as "
        "one object. Number the objects, or compare as classes."
        for name in sorted(masks)
    ]
    if tally.n_planes and not tally.n_true:
        what = "and nothing was found: AP is 1" if not tally.n_found else f"but {tally.n_found} were found: AP is 0"
        notes.append(f"“{reference.name}” has no labelled object, {what}; SEG cannot be told.")
    return tally, notes


def _boxes(
    reference: OpenedLayer, result: OpenedLayer, options: PairOptions, planes: Iterator[int]
) -> tuple[BoxTally, list[str]]:
    from napari_cellenhance.core.localisation import BoxTally

    tally = BoxTally(options.min_iou[0])
    for number in planes:
        _add(tally, reference.ids(number), result.ids(number), reference, result)
    return tally, []


def _add(
    tally: ObjectTally | ClassTally | BoxTally,
    true: NDArray[np.int64],
    found: NDArray[np.int64],
    reference: OpenedLayer,
    result: OpenedLayer,
) -> None:
    """Add a plane; what is wrong with it is told with the names."""
    try:
        tally.add(true, found)
    except ImageError as error:
        raise ImageError(f"“{result.name}” against “{reference.name}”: {error}") from error


def _is_mask(ids: NDArray[np.int64]) -> bool:
    """Whether one number stands for several things that do not touch."""
    from scipy.ndimage import label

    numbers = np.unique(ids)
    if len(numbers[numbers > 0]) != 1:
        return False
    return int(label(ids > 0, structure=np.ones((3, 3)))[1]) > 1


def _classes(
    reference: OpenedLayer, result: OpenedLayer, options: PairOptions, planes: Iterator[int]
) -> tuple[ClassTally, list[str]]:
    from napari_cellenhance.core.pooled_scores import ClassTally

    tally = ClassTally(options.ignore)
    for number in planes:
        _add(tally, reference.ids(number), result.ids(number), reference, result)
    notes = []
    table = tally.confusion
    if 0 in tally.classes and table[0].any() and not table[:, 0].any():
        notes.append(
            f"“{reference.name}” has pixels with label 0, “{result.name}” has none: if 0 stands for not painted, leave "
            "it out."
        )
    if tally.n_planes and not tally.n_pixels:
        notes.append(f"“{reference.name}” holds nothing but the ignored label {options.ignore}; no score can be told.")
    return tally, notes
