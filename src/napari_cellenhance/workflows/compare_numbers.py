"""All numbers on images before and after, in one table: contrast, SNR, resolution, errors, objects."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.workflows._measured import MeasuredImage, TruePoints
from napari_cellenhance.workflows.measure import CompareRequest, compare, describe_layers
from napari_cellenhance.workflows.measure_pair_tables import to_rows as pair_rows
from napari_cellenhance.workflows.measure_pairs import PairOptions, PairRequest, measure_hits, measure_pair
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, never_cancelled, no_progress
from napari_cellenhance.workflows.requests import SegmentOptions
from napari_cellenhance.workflows.resolution import FILTERED_NOTE, ResolutionRequest
from napari_cellenhance.workflows.resolution import measure as measure_resolution

__all__ = ["COLUMNS", "DEFINITIONS", "NumbersRequest", "NumbersResult", "measure_numbers", "to_markdown"]

NAN = float("nan")
COLUMNS: dict[str, tuple[str, int]] = {
    "contrast_ratio": ("Contrast ratio", 2),
    "michelson": ("Michelson", 3),
    "auroc": ("AUROC", 3),
    "otsu_iou": ("Otsu IoU", 3),
    "snr": ("SNR", 2),
    "frc_px": ("FRC resolution, px", 2),
    "frc_um": ("FRC resolution, µm", 3),
    "psnr_db": ("PSNR, dB", 2),
    "affine_psnr_db": ("Affine PSNR, dB", 2),
    "ssim": ("SSIM", 4),
    "mae": ("MAE", 4),
    "n_found": ("Objects found", 0),
    "ap_50": ("AP at IoU 0.5", 3),
    "f1_50": ("F1 at IoU 0.5", 3),
    "seg": ("SEG", 3),
    "points_f1": ("F1 of points", 3),
}
"""Key → name and digits."""
DEFINITIONS = {
    "contrast_ratio": "Mean of the objects over mean of the ground; “≥” where the ground is all but black.",
    "michelson": "(objects − ground) / (objects + ground), from −1 to 1: does not explode at 0.",
    "auroc": "Probability that a pixel of an object is brighter than one of the ground; 0.5 is chance.",
    "otsu_iou": "Overlap of the mask with what lies above Otsu's threshold: 1 is perfect.",
    "snr": "(mean of the objects − mean of the ground) / standard deviation of the ground.",
    "frc_px": "Finest period that two halves of the image share (Fourier ring correlation, 1/7), in pixels; “≤” where "
    "the image is as fine as can be told.",
    "frc_um": "The same in micrometres.",
    "psnr_db": "Against the reference, grey values as stored.",
    "affine_psnr_db": "Against the reference, after the best scaling and shift.",
    "ssim": "Structural similarity with the reference, 7 × 7 px windows.",
    "mae": "Mean absolute error against the reference.",
    "n_found": "Objects above Otsu's threshold of the image, touching ones split.",
    "ap_50": "Of the objects found against the labels: TP / (TP + FP + FN) at an overlap of 0.5.",
    "f1_50": "Of the objects found against the labels: 2 TP / (2 TP + FP + FN) at an overlap of 0.5.",
    "seg": "Mean overlap of the labelled objects with what was found (Cell Tracking Challenge).",
    "points_f1": "Of the annotated points with the objects found: a point inside an object finds it.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NumbersRequest:
    """Images, and what is known about them.

    Parameters
    ----------
    before : MeasuredImage
    after : tuple of MeasuredImage
        Of the same planes.
    pixel_um : (float, float) or None
        Height and width of a pixel of all of them.
    labels : MeasuredImage or None
        Objects, drawn or checked by a person: mask of the contrast, and truth of what is found. None: Otsu's threshold
        of ``before`` is the mask.
    reference : MeasuredImage or None
        Clean image.
    points : TruePoints or None
        One in each object.
    segment : SegmentOptions
        How objects are found where there are labels or points.
    """

    before: MeasuredImage
    after: tuple[MeasuredImage, ...]
    pixel_um: tuple[float, float] | None = None
    labels: MeasuredImage | None = None
    reference: MeasuredImage | None = None
    points: TruePoints | None = None
    segment: SegmentOptions = field(default_factory=SegmentOptions)

    def __post_init__(self) -> None:
        if not self.after:
            raise ParameterError("there is nothing to compare with; choose at least one image after")


@dataclass(frozen=True, slots=True, kw_only=True)
class NumbersResult:
    """The table.

    Parameters
    ----------
    rows : tuple of dict
        One for each image, the one before first: ``image``, the columns of :data:`COLUMNS` (mean over the planes, of
        the resolution the median; NaN where not asked for or not to be told), ``ground_is_black`` and
        ``frc_at_limit`` (numbers of planes), and ``n_planes``.
    notes : tuple of str
    record : dict
        JSON-ready.
    is_complete : bool
        False when cancelled; then there are no rows.
    """

    rows: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]
    record: dict[str, Any]
    is_complete: bool = True


class _Stopped(Exception):  # noqa: N818 - it is no error
    """Somebody pressed Cancel."""


def measure_numbers(
    request: NumbersRequest, *, on_progress: OnProgress = no_progress, is_cancelled: IsCancelled = never_cancelled
) -> NumbersResult:
    """Measure whatever can be measured with what is there; what cannot is told.

    Raises
    ------
    AxesError, ImageError
        Images, labels or a reference that do not fit each other.
    """
    images = (request.before, *request.after)
    rows = [{"image": image.name, **dict.fromkeys(COLUMNS, NAN)} for image in images]
    notes: list[str] = []
    try:
        _add_contrast(request, rows, notes, on_progress, is_cancelled)
        _add_resolution(request, rows, notes, on_progress, is_cancelled)
        if request.reference is not None:
            _add_errors(request, rows, notes, on_progress, is_cancelled)
        if request.labels is not None or request.points is not None:
            _add_objects(request, rows, notes, on_progress, is_cancelled)
    except _Stopped:
        return NumbersResult(rows=(), notes=(), record=_record(request, []), is_complete=False)
    notes = list(dict.fromkeys(notes))
    return NumbersResult(rows=tuple(rows), notes=tuple(notes), record=_record(request, notes))


def _add_contrast(
    request: NumbersRequest, rows: list[dict[str, Any]], notes: list[str], tell: OnProgress, stop: IsCancelled
) -> None:
    asked = CompareRequest(raw=request.before, enhanced=request.after, mask=request.labels)
    found = compare(asked, on_progress=tell, is_cancelled=stop)
    if not found.is_complete:
        raise _Stopped
    means = [row for row in found.summary if row.plane != "sd"]
    for row, mean in zip(rows, means, strict=True):
        row |= {key: getattr(mean, key) for key in ("contrast_ratio", "michelson", "auroc", "otsu_iou", "snr")}
        row |= {"ground_is_black": mean.hit_floor, "frc_at_limit": 0, "n_planes": mean.n_planes}
    notes += found.notes


def _add_resolution(
    request: NumbersRequest, rows: list[dict[str, Any]], notes: list[str], tell: OnProgress, stop: IsCancelled
) -> None:
    for row, image in zip(rows, (request.before, *request.after), strict=True):
        try:
            asked = ResolutionRequest(image=image, pixel_um=request.pixel_um)
            found = measure_resolution(asked, on_progress=tell, is_cancelled=stop)
        except ImageError as error:  # all other numbers can be told all the same
            text = str(error)
            notes.append(f"No resolution: {text[:1].lower()}{text[1:]}.")
            continue
        if not found.is_complete:
            raise _Stopped
        row |= {"frc_px": found.resolution_px, "frc_um": found.resolution_um, "frc_at_limit": found.n_at_limit}
    if any(row["frc_px"] == row["frc_px"] for row in rows):
        notes.append(FILTERED_NOTE)


def _add_errors(
    request: NumbersRequest, rows: list[dict[str, Any]], notes: list[str], tell: OnProgress, stop: IsCancelled
) -> None:
    assert request.reference is not None
    for row, image in zip(rows, (request.before, *request.after), strict=True):
        asked = PairRequest(result=image, reference=request.reference)
        row |= _pair(asked, notes, tell, stop)


def _add_objects(
    request: NumbersRequest, rows: list[dict[str, Any]], notes: list[str], tell: OnProgress, stop: IsCancelled
) -> None:
    from napari_cellenhance.workflows.segment import SegmentRequest, segment_layers

    images = (request.before, *request.after)
    found = segment_layers(SegmentRequest(images=images, options=request.segment), on_progress=tell, is_cancelled=stop)
    if not found.is_complete:
        raise _Stopped
    for row, image, objects in zip(rows, images, found.segmentations, strict=True):
        result = MeasuredImage(
            name=image.name, image=objects.labels, axes=image.axes.upper().replace("S", ""), at=image.at
        )
        row["n_found"] = objects.n_objects
        if request.labels is not None:
            asked = PairRequest(result=result, reference=request.labels, options=PairOptions(kind="objects"))
            row |= _pair(asked, notes, tell, stop)
        if request.points is not None:
            points, options = request.points, PairOptions(kind="hits")
            hits = pair_rows([measure_hits(result, points.name, points.points, options)], options)[0]
            row["points_f1"] = hits["f1"]


def _pair(asked: PairRequest, notes: list[str], tell: OnProgress, stop: IsCancelled) -> dict[str, Any]:
    score = measure_pair(asked, on_progress=tell, is_cancelled=stop)
    if not score.is_complete:
        raise _Stopped
    notes += score.notes
    return {key: value for key, value in pair_rows([score], asked.options)[0].items() if key in COLUMNS}


def _record(request: NumbersRequest, notes: list[str]) -> dict[str, Any]:
    finds_objects = request.labels is not None or request.points is not None
    return {
        "measured": "images before and after",
        **describe_layers(
            before=request.before, after=request.after, labels=request.labels, reference=request.reference
        ),
        "points": None if request.points is None else request.points.name,
        "mask": "automatic (Otsu threshold of the image before)" if request.labels is None else request.labels.name,
        "pixel_um": None if request.pixel_um is None else list(request.pixel_um),
        "segment": asdict(request.segment) if finds_objects else None,
        "definitions": DEFINITIONS,
        "notes": notes,
    }


def to_markdown(result: NumbersResult) -> str:
    """The columns of which anything could be told, as a table for a terminal or a report."""
    shown = [key for key in COLUMNS if any(row[key] == row[key] for row in result.rows)]
    lines = [f"| image | {' | '.join(COLUMNS[key][0] for key in shown)} |", f"|---|{'---:|' * len(shown)}"]
    for row in result.rows:
        cells = [f"{row[key]:.{COLUMNS[key][1]}f}" if row[key] == row[key] else "–" for key in shown]
        lines.append(f"| {row['image']} | {' | '.join(cells)} |")
    return "\n".join(lines)
