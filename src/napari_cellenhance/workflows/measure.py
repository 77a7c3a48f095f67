"""Compare images with their enhanced versions: contrast, separation of objects and ground, as a table.

References
----------
.. [1] Lim et al., "NU-Net", 2023, Table 2: contrast ratio, gain and fold.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.workflows._measured import MeasuredImage, OpenedLayer, check_alike, numbered, open_layer
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress

__all__ = [
    "CompareRequest",
    "CompareResult",
    "CompareRow",
    "MeasuredImage",
    "compare",
    "describe_layers",
    "read_measured",
    "to_markdown",
    "to_rows",
    "write_csv",
]

NAN = float("nan")
AUTOMATIC_MASK = "automatic (Otsu threshold of the raw image)"
_AUTOMATIC_NOTE = (
    "No mask was chosen: objects are what lies above Otsu's threshold of the raw image. That favours the raw image; "
    "for numbers to report, choose a Labels layer that was drawn or checked by a person."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareRequest:
    """A raw image, its enhanced versions, and where the objects are.

    Parameters
    ----------
    raw : MeasuredImage
    enhanced : tuple of MeasuredImage
        Of the same planes.
    mask : MeasuredImage or None
        Above 0 on objects; a single plane stands for all planes. None: Otsu's threshold of each raw plane, which the
        result says.
    values : "stored" or "stretched"
        Contrast from the grey values as they are stored, or after stretching every image that does not lie within
        0…1 from percentile 0.1 to 99.9. A camera's offset lowers the contrast ratio of stored values.
    """

    raw: MeasuredImage
    enhanced: tuple[MeasuredImage, ...]
    mask: MeasuredImage | None = None
    values: Literal["stored", "stretched"] = "stored"

    def __post_init__(self) -> None:
        if not self.enhanced:
            raise ParameterError("there is nothing to compare with; choose at least one enhanced image")
        if self.values not in ("stored", "stretched"):
            raise ParameterError(f"values are {self.values!r}; expected stored or stretched")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareRow:
    """Measures of one image on one plane, or their mean and standard deviation over planes.

    ``plane`` is empty for a single plane, else "T 3 Z 7", "mean" or "sd". ``gain`` and ``fold`` are the difference
    and the quotient of the contrast ratios after and before ([1]_); ``hit_floor`` counts planes whose ground was
    darker than a thousandth of the range, where the ratio says "at least". ``michelson`` lies in −1…1, ``auroc`` and
    ``otsu_iou`` in 0…1. ``snr`` is (mean of objects − mean of ground) / standard deviation of the ground. NaN: cannot
    be told.
    """

    layer: str
    plane: str
    contrast_ratio: float
    gain: float
    fold: float
    michelson: float
    auroc: float
    otsu_iou: float
    hit_floor: int
    n_planes: int = 1
    snr: float = NAN


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareResult:
    """Table of a comparison.

    Parameters
    ----------
    rows : tuple of CompareRow
        Plane by plane, the raw image first.
    summary : tuple of CompareRow
        Mean, then standard deviation, of each image over its planes; for a single plane the rows themselves.
    is_mask_automatic : bool
    notes : tuple of str
        What a reader of the numbers must know.
    record : dict
        What was measured, JSON-ready.
    is_complete : bool
        False when stopped before the last plane.
    """

    rows: tuple[CompareRow, ...]
    summary: tuple[CompareRow, ...]
    is_mask_automatic: bool
    notes: tuple[str, ...]
    record: dict[str, Any]
    is_complete: bool = True


def compare(
    request: CompareRequest, *, on_progress: OnProgress = no_progress, is_cancelled: IsCancelled = never_cancelled
) -> CompareResult:
    """Measure every image on every plane.

    Raises
    ------
    AxesError, ImageError
        Layers that do not fit each other, or no plane with both objects and ground.
    """
    raw = open_layer(request.raw)
    layers = [raw, *(open_layer(image) for image in request.enhanced)]
    check_alike(raw, layers[1:])
    mask = None if request.mask is None else open_layer(request.mask)
    if mask is not None:
        check_alike(raw, [mask], may_be_single=True)
    notes: list[str] = [] if mask is not None else [_AUTOMATIC_NOTE]
    if mask is not None and len(mask.planes) < len(raw.planes):
        notes.append(f"“{mask.name}” is a single plane; it was used for all {len(raw.planes)} planes.")
    rows: list[CompareRow] = []
    n_empty = n_bad = n_done = 0
    for number, name in numbered(raw):
        if is_cancelled():
            break
        on_progress(Progress(n_done=number, n_total=len(raw.planes), message=f"Comparing {name or 'the plane'}"))
        is_object = _objects(raw, mask, number)
        if not is_object.any() or is_object.all():
            n_empty += 1
        planes = [_values(layer, number, request.values) for layer in layers]
        # One set of pixels for all images: else they would be compared on different ones.
        is_good = np.logical_and.reduce([np.isfinite(plane) for plane in planes])
        n_bad += int((~is_good).sum())
        rows += _measure_plane(layers, planes, is_object, is_good, name, is_automatic=mask is None)
        n_done += 1
    if n_done and n_empty == n_done:
        where = "raw image by Otsu's threshold" if mask is None else f"mask “{mask.name}”"
        raise ImageError(f"the {where} marks no pixel or every pixel; expected objects and ground. Choose another mask")
    notes += _notes(rows, n_empty, n_bad)
    on_progress(Progress(n_done=n_done, n_total=len(raw.planes), message="Compared"))
    return CompareResult(
        rows=tuple(rows),
        summary=tuple(_summary(rows, [layer.name for layer in layers])),
        is_mask_automatic=mask is None,
        notes=tuple(notes),
        record={
            "measured": "contrast of objects against ground",
            **describe_layers(raw=request.raw, enhanced=request.enhanced, mask=request.mask),
            "mask_source": AUTOMATIC_MASK if mask is None else mask.name,
            "values": request.values,
            "notes": notes,
        },
        is_complete=n_done == len(raw.planes),
    )


def _objects(raw: OpenedLayer, mask: OpenedLayer | None, number: int) -> NDArray[np.bool_]:
    if mask is not None:
        return np.asarray(mask.stored(number) > 0)
    from napari_cellenhance.core.postprocess import threshold

    plane = raw.read(number)
    with np.errstate(invalid="ignore"):
        return np.asarray(plane > threshold(plane, "otsu"))


def _values(layer: OpenedLayer, number: int, values: str) -> NDArray[np.float64]:
    if values == "stored":
        return np.asarray(layer.read(number), np.float64)
    stretched = layer.unit(number).astype(np.float64)
    stretched[~np.isfinite(layer.stored(number))] = np.nan
    return stretched


def _measure_plane(
    layers: Sequence[OpenedLayer],
    planes: Sequence[NDArray[np.float64]],
    is_object: NDArray[np.bool_],
    is_good: NDArray[np.bool_],
    name: str,
    *,
    is_automatic: bool,
) -> list[CompareRow]:
    """Rows of one plane; the first is the raw image's, which gain and fold refer to."""
    from napari_cellenhance.core import metrics

    inside = is_object[is_good]
    can_be_told = bool(inside.any() and not inside.all())
    rows: list[CompareRow] = []
    before: metrics.ContrastRatio | None = None
    for position, (layer, plane) in enumerate(zip(layers, planes, strict=True)):
        values = plane[is_good]
        ratio, michelson, area, overlap, noise = None, NAN, NAN, NAN, NAN
        if can_be_told:
            noise = metrics.snr(values, inside)
            area = metrics.auroc(values, inside)
            if not (is_automatic and position == 0):  # the mask is its Otsu threshold: 1 by construction
                overlap = metrics.otsu_iou(values, inside)
            if values.min() >= 0:
                ratio, michelson = metrics.contrast_ratio(values, inside), metrics.michelson(values, inside)
        if position == 0:
            before = ratio
        gain, fold = metrics.gain_and_fold(before, ratio) if position and before and ratio else (NAN, NAN)
        rows.append(
            CompareRow(
                layer=layer.name, plane=name, contrast_ratio=NAN if ratio is None else ratio.value, gain=gain,
                fold=fold, michelson=michelson, auroc=area, otsu_iou=overlap,
                hit_floor=int(ratio is not None and ratio.hit_floor), snr=noise,
            )
        )  # fmt: skip
    return rows


_MEASURES = ("contrast_ratio", "gain", "fold", "michelson", "auroc", "otsu_iou", "snr")


def _summary(rows: Sequence[CompareRow], names: Sequence[str]) -> list[CompareRow]:
    n_layers = len(names)
    if len(rows) <= n_layers:
        return list(rows)
    result = []
    for position in range(n_layers):
        own = rows[position::n_layers]
        table = np.array([[getattr(row, measure) for measure in _MEASURES] for row in own])
        n_floor, n = sum(row.hit_floor for row in own), len(own)
        for label, values in (("mean", _over_planes(table, np.mean)), ("sd", _over_planes(table, _sd))):
            numbers = dict(zip(_MEASURES, values, strict=True))
            result.append(CompareRow(layer=names[position], plane=label, hit_floor=n_floor, n_planes=n, **numbers))
    return result


def _over_planes(table: NDArray[np.float64], measure: Callable[[NDArray[np.float64]], Any]) -> list[float]:
    """Mean or sd of every column over the planes on which it could be told."""
    columns = [column[np.isfinite(column)] for column in table.T]
    return [float(measure(column)) if column.size else NAN for column in columns]


def _sd(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) if values.size > 1 else NAN


def _notes(rows: Sequence[CompareRow], n_empty: int, n_bad: int) -> list[str]:
    notes = []
    if n_empty:
        notes.append(f"{_counted(n_empty, 'plane')} had no object or no ground in the mask and count for nothing.")
    if n_bad:
        notes.append(f"{_counted(n_bad, 'pixel')} that are no numbers in some layer were left out of all layers.")
    floored = sorted({row.layer for row in rows if row.hit_floor})
    if floored:
        names = ", ".join(f"“{name}”" for name in floored)
        notes.append(
            f"The ground of {names} is all but 0 (below 1/1000 of the range): the contrast ratio there says "
            "“at least”. Look at Michelson contrast and AUROC instead."
        )
    told = {row.layer for row in rows if np.isfinite(row.contrast_ratio)}
    negative = sorted({row.layer for row in rows if np.isfinite(row.auroc)} - told)
    if negative:
        names = ", ".join(f"“{name}”" for name in negative)
        notes.append(f"{names} has values below 0, for which there is no contrast ratio; choose stretched values.")
    return notes


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


# --- tables ---------------------------------------------------------------------------------


def describe_layers(**layers: MeasuredImage | Sequence[MeasuredImage] | None) -> dict[str, Any]:
    """Names, shapes and recipes of what was measured, JSON-ready, under the roles given."""

    def one(layer: MeasuredImage) -> dict[str, Any]:
        return {
            "name": layer.name,
            "shape": [int(n) for n in layer.image.shape],
            "dtype": str(layer.image.dtype),
            "axes": layer.axes,
            "objects_are_dark": layer.objects_are_dark,
            "plane_tcz": None if layer.at is None else list(layer.at),
        }

    described: dict[str, Any] = {"software": "napari-cellenhance"}
    for role, layer in layers.items():
        if layer is None:
            described[role] = None
        else:
            described[role] = one(layer) if isinstance(layer, MeasuredImage) else [one(each) for each in layer]
    return described


def to_rows(result: CompareResult) -> list[dict[str, Any]]:
    """Rows of the CSV: every plane, then means and standard deviations."""
    over_planes = [row for row in result.summary if row.plane in ("mean", "sd")]
    return [
        {
            "layer": row.layer,
            "plane": row.plane,
            **{measure: getattr(row, measure) for measure in _MEASURES},
            "ground_is_black": row.hit_floor,
            "n_planes": row.n_planes,
            "mask": "automatic (Otsu)" if result.is_mask_automatic else "given",
        }
        for row in (*result.rows, *over_planes)
    ]


def to_markdown(result: CompareResult) -> str:
    """Summary as a table for a terminal or a report."""
    lines = [
        "| image | plane | contrast ratio | gain | fold | Michelson | AUROC | Otsu IoU | SNR |",
        f"|---|---|{'---:|' * 7}",
    ]
    for row in result.summary:
        mark = "≥ " if row.hit_floor and row.plane != "sd" else ""
        cells = [
            f"{mark}{_number(row.contrast_ratio, 2)}", _number(row.gain, 2), _number(row.fold, 2),
            _number(row.michelson, 3), _number(row.auroc, 3), _number(row.otsu_iou, 3),
            _number(row.snr, 2),
        ]  # fmt: skip
        lines.append(f"| {row.layer} | {row.plane or '–'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "–"


def write_csv(result: CompareResult, path: str | os.PathLike[str], *, overwrite: bool = True) -> tuple[Path, ...]:
    """Write the table as CSV, and what was measured as JSON beside it.

    Raises
    ------
    WriteError
        It cannot be written; existing files are unchanged.
    """
    from napari_cellenhance.io.tables import write_table

    return write_table(path, to_rows(result), result.record, overwrite=overwrite)


def read_measured(path: str | os.PathLike[str], *, axes: str = "", objects_are_dark: bool = False) -> MeasuredImage:
    """Read an image or a mask from a file.

    Parameters
    ----------
    path : path
        TIFF, OME-TIFF or PNG.
    axes : str
        Empty: as in the file.
    objects_are_dark : bool

    Raises
    ------
    ImageError, OSError
        As for :func:`napari_cellenhance.io.images.read`.
    """
    from napari_cellenhance.io.images import read

    file = read(path)
    return MeasuredImage(
        name=Path(path).name, image=file.image, axes=axes or file.axes, objects_are_dark=objects_are_dark
    )
