"""Line profiles as tables, text and figure."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError, TargetExistsError
from napari_cellenhance.core.line_profiles import Normalization, distances_um
from napari_cellenhance.workflows.profiles import ImageProfile, ProfileResult

__all__ = [
    "comparison_rows",
    "grey_label",
    "peak_dots",
    "peak_rows",
    "save",
    "save_figure",
    "to_markdown",
    "to_record",
    "to_rows",
]

FloatArray = NDArray[np.float64]
NAN = float("nan")
_GREY = {
    "none": "grey value",
    "range": "darkest 0 to brightest 1",
    "percentiles": "percentile 5 as 0, 95 as 1",
    "fit": "grey value, fitted to “{}”",
}


def grey_label(how: Normalization, reference: str = "") -> str:
    """Name of the grey axis.

    >>> grey_label("fit", "clean")
    'grey value, fitted to “clean”'
    """
    return _GREY[how].format(reference)


def to_rows(result: ProfileResult, how: Normalization = "none") -> list[dict[str, Any]]:
    """Rows of the CSV: distance in px and µm, then a column for each image; another one if it was normalised.

    Raises
    ------
    ParameterError
        An image with the name of another column.
    """
    um = distances_um(result.distance_px, result.pixel_um)
    columns: dict[str, Any] = {"distance_px": result.distance_px, "distance_um": um}
    added = {each.name: each.values for each in result.profiles}
    if how != "none":
        added |= {f"{name}, {grey_label(how, result.reference)}": here for name, here in result.shown(how).items()}
    if clash := next((name for name in added if name in columns), None):
        raise ParameterError(f"an image is called “{clash}” as a column of the table is; give it another name")
    columns |= added
    return [
        {name: float(value) for name, value in zip(columns, row, strict=True)}
        for row in zip(*columns.values(), strict=True)
    ]


def peak_rows(result: ProfileResult) -> list[dict[str, Any]]:
    """One row for each peak of each image, numbered from 1 along the line; µm are NaN where they are not known."""
    um = result.pixel_um if result.pixel_um is not None else NAN
    truth = next((each for each in result.profiles if each.name == result.reference), None)
    rows = []
    for each in result.profiles:
        for i, peak in enumerate(each.peaks):
            number = each.partners[i] if each.partners else None
            partner = None if number is None or truth is None else truth.peaks[number]
            shift = NAN if partner is None else peak.position_px - partner.position_px
            rows.append(
                {
                    "image": each.name,
                    "peak": i + 1,
                    "position_px": peak.position_px,
                    "position_um": peak.position_px * um,
                    "height": peak.height,
                    "prominence": peak.prominence,
                    "fwhm_px": peak.fwhm_px,
                    "fwhm_um": peak.fwhm_px * um,
                    "reference_peak": None if number is None else number + 1,
                    "shift_px": shift,
                    "shift_um": shift * um,
                    "width_ratio": NAN if partner is None else peak.fwhm_px / partner.fwhm_px,
                }
            )
    return rows


def comparison_rows(result: ProfileResult) -> list[dict[str, Any]]:
    """One row for each image: its peaks, their median width, and how it compares with the reference."""
    return [_comparison_row(each, result.pixel_um) for each in result.profiles]


def _comparison_row(each: ImageProfile, pixel_um: float | None) -> dict[str, Any]:
    um = NAN if pixel_um is None else pixel_um
    widths = [peak.fwhm_px for peak in each.peaks]
    width = float(np.median(widths)) if widths else NAN
    compared = each.comparison
    return {
        "image": each.name,
        "n_peaks": len(each.peaks),
        "fwhm_px": width,
        "fwhm_um": width * um,
        "n_matched": None if compared is None else compared.n_matched,
        "n_reference": None if compared is None else compared.n_reference,
        "shift_px": NAN if compared is None else compared.mean_shift_px,
        "abs_shift_px": NAN if compared is None else compared.mean_abs_shift_px,
        "abs_shift_um": NAN if compared is None else compared.mean_abs_shift_px * um,
        "width_ratio": NAN if compared is None else compared.width_ratio,
        "correlation": NAN if compared is None else compared.correlation,
        "mae": NAN if compared is None else compared.mae,
    }


def to_record(result: ProfileResult, how: Normalization = "none") -> dict[str, Any]:
    """What was measured, how images compare, and notes; JSON-ready but for NaN."""
    compared = {each.name: asdict(each.comparison) for each in result.profiles if each.comparison is not None}
    return {
        **result.record,
        "normalization": how,
        "pixel_um": result.pixel_um,
        "compared": compared,
        "notes": list(result.notes),
    }


def to_markdown(result: ProfileResult) -> str:
    """How the images compare, as a table for a terminal or a report."""
    unit = "px" if result.pixel_um is None else "um"
    columns = [("image", "image", ""), ("peaks", "n_peaks", "d"), (f"FWHM ({result.unit})", f"fwhm_{unit}", ".3g")]
    if result.reference:
        columns += [
            ("matched", "n_matched", "d"), (f"shift ({result.unit})", f"abs_shift_{unit}", ".3g"),
            ("width ratio", "width_ratio", ".2f"), ("correlation", "correlation", ".3f"), ("MAE", "mae", ".4g"),
        ]  # fmt: skip
    head = f"| {' | '.join(title for title, _, _ in columns)} |"
    rule = f"|---|{'---:|' * (len(columns) - 1)}"
    body = [f"| {' | '.join(_text(row[key], spec) for _, key, spec in columns)} |" for row in comparison_rows(result)]
    return "\n".join([head, rule, *body])


def _text(value: Any, spec: str) -> str:
    return "–" if value is None or (isinstance(value, float) and np.isnan(value)) else format(value, spec)


def save(
    result: ProfileResult, path: str | os.PathLike[str], how: Normalization = "none", *, overwrite: bool = True
) -> tuple[Path, ...]:
    """Write ``NAME.csv`` with the profiles, ``NAME.csv.json`` on what was measured, and ``NAME_peaks.csv`` if any.

    Raises
    ------
    ParameterError
        A path that does not end in ``.csv``.
    TargetExistsError, WriteError
        As for :func:`napari_cellenhance.io.safe_write.atomic_path`.
    """
    from napari_cellenhance.io.tables import write_table

    target = Path(path)
    if target.suffix.lower() != ".csv":
        raise ParameterError(f"the table shall be written to {target.name!r}; expected a name ending in .csv")
    rows, peaks = to_rows(result, how), peak_rows(result)
    beside = target.with_name(f"{target.stem}_peaks.csv")
    if peaks and beside.exists() and not overwrite:  # told before the first file is there
        raise TargetExistsError(f"{beside} exists already; choose another name or allow overwriting")
    files = write_table(target, rows, to_record(result, how), overwrite=overwrite)
    return (*files, *(write_table(beside, peaks, overwrite=overwrite) if peaks else ()))


def save_figure(
    result: ProfileResult, path: str | os.PathLike[str], how: Normalization = "none", *, overwrite: bool = True
) -> Path:
    """Draw the profiles as a PNG, the reference black, with a dot on each peak.

    Raises
    ------
    ParameterError
        A path that does not end in ``.png``.
    TargetExistsError, WriteError
        As for :func:`napari_cellenhance.io.safe_write.atomic_path`.
    """
    from napari_cellenhance.io.score_figures import profiles_png

    target = Path(path)
    if target.suffix.lower() != ".png":
        raise ParameterError(f"the figure shall be written to {target.name!r}; expected a name ending in .png")
    shown = result.shown(how)
    dots = {each.name: peak_dots(result, each, shown[each.name]) for each in result.profiles}
    profiles_png(
        target, result.distance, shown, dots, x_label=f"distance ({result.unit})",
        y_label=grey_label(how, result.reference), reference=result.reference, overwrite=overwrite,
    )  # fmt: skip
    return target


def peak_dots(result: ProfileResult, each: ImageProfile, shown: FloatArray) -> tuple[list[float], list[float]]:
    """Distances of the peaks of one profile, and what is shown of it at the sample nearest to each."""
    nearest = [int(np.argmin(np.abs(result.distance_px - peak.position_px))) for peak in each.peaks]
    return [peak.position_px * (result.pixel_um or 1.0) for peak in each.peaks], [float(shown[i]) for i in nearest]
