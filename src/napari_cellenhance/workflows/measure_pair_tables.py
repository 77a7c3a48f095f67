"""Tables of results measured against references: rows, a table to print, CSV."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_cellenhance.workflows.measure_pairs import PairOptions, PairScore

__all__ = ["MEAN", "POOLED", "SD", "cell_text", "describe", "title_of", "to_markdown", "to_rows", "write_csv"]

NAN = float("nan")
MEAN, SD, POOLED = "mean", "sd", "all together"


def to_rows(scores: Sequence[PairScore], options: PairOptions) -> list[dict[str, Any]]:
    """One row for each result; of several, then their mean, standard deviation, and all counts together.

    Parameters
    ----------
    scores : sequence of PairScore
        All of one kind.
    options : PairOptions

    Returns
    -------
    list of dict
        All with the same keys. ``image`` is the name, ``"mean"``, ``"sd"`` or, for labels and points, ``"all
        together"``: objects, pixels or points of all results pooled, so that a large image counts more. NaN: cannot
        be told.
    """
    classes = sorted({label for score in scores for label in getattr(score.tally, "classes", ())})
    rows = [_row(score.name, score.reference, score.tally, classes) for score in scores]
    if len(scores) < 2:
        return rows
    measured = list(rows)
    rows += [_over(measured, MEAN, np.mean), _over(measured, SD, _sd)]
    if options.kind != "images":
        pooled: Any = copy.deepcopy(scores[0].tally)
        for score in scores[1:]:
            pooled.merge(score.tally)
        rows.append(_row(POOLED, "", pooled, classes))
    return rows


def _row(name: str, reference: str, tally: Any, classes: Sequence[int]) -> dict[str, Any]:
    from napari_cellenhance.core.localisation import BoxTally
    from napari_cellenhance.core.pooled_scores import ClassTally, ImageTally, ObjectTally

    row: dict[str, Any] = {"image": name, "reference": reference}
    if isinstance(tally, ImageTally):
        row |= {"psnr_db": tally.psnr, "affine_psnr_db": tally.affine_psnr, "ssim": tally.ssim, "mae": tally.mae}
        row |= {"data_range": tally.data_range}
    elif isinstance(tally, ObjectTally):
        row |= {"n_true": tally.n_true, "n_found": tally.n_found}
        for threshold, matches in tally.matches.items():
            at = f"{100 * threshold:g}"
            row |= {f"ap_{at}": matches.average_precision, f"precision_{at}": matches.precision}
            row |= {f"recall_{at}": matches.recall, f"f1_{at}": matches.f1}
        row |= {"seg": tally.seg, "iou": tally.iou, "dice": tally.dice}
    elif isinstance(tally, ClassTally):
        row |= {"mean_iou": tally.mean_iou, "mean_dice": tally.mean_dice}
        ious, dices = tally.iou, tally.dice
        row |= {f"iou_{label}": ious.get(label, NAN) for label in classes}
        row |= {f"dice_{label}": dices.get(label, NAN) for label in classes}
    else:
        matches = tally.matches
        row |= {"n_true": matches.tp + matches.fn, "n_found": matches.tp + matches.fp}
        row |= {"precision": matches.precision, "recall": matches.recall, "f1": matches.f1}
        if isinstance(tally, BoxTally):
            row |= {"iou": tally.iou}
    return row | {"n_planes": tally.n_planes}


def _over(
    rows: Sequence[Mapping[str, Any]], name: str, measure: Callable[[NDArray[np.float64]], Any]
) -> dict[str, Any]:
    """Mean or sd of every column over the results for which it can be told."""
    row: dict[str, Any] = {"image": name, "reference": ""}
    for key in list(rows[0])[2:]:
        values = np.array([each[key] for each in rows], np.float64)
        told = values[~np.isnan(values)]
        row[key] = float(measure(told)) if told.size else NAN
    return row


def _sd(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) if values.size > 1 and np.isfinite(values).all() else NAN


_TITLES = {
    "image": "image", "psnr_db": "PSNR (dB)", "affine_psnr_db": "affine PSNR (dB)", "ssim": "SSIM", "mae": "MAE",
    "data_range": "range", "n_true": "true", "n_found": "found", "seg": "SEG", "iou": "IoU", "dice": "Dice",
    "mean_iou": "mean IoU", "mean_dice": "mean Dice", "precision": "precision", "recall": "recall", "f1": "F1",
    "n_planes": "planes",
}  # fmt: skip
_WORDS = {"ap": "AP", "precision": "P", "recall": "R", "f1": "F1", "iou": "IoU", "dice": "Dice"}
_DIGITS = {"psnr_db": 2, "affine_psnr_db": 2, "ssim": 4}


def title_of(key: str) -> str:
    """Name of a column as people read it.

    >>> title_of("ap_50"), title_of("iou_2"), title_of("psnr_db")
    ('AP 0.5', 'IoU 2', 'PSNR (dB)')
    """
    if key in _TITLES:
        return _TITLES[key]
    word, _, number = key.partition("_")
    return f"{_WORDS[word]} {number if word in ('iou', 'dice') else f'{float(number) / 100:g}'}"


def to_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a table for a terminal or a report; columns that say nothing new are left out."""
    keys = [key for key in rows[0] if key != "reference"]
    if all(row["n_planes"] == 1 for row in rows if row["image"] not in (MEAN, SD, POOLED)):
        keys.remove("n_planes")
    lines = [f"| {' | '.join(map(title_of, keys))} |", f"|---|{'---:|' * (len(keys) - 1)}"]
    lines += [
        f"| {row['image']} | {' | '.join(cell_text(key, row[key], row['image']) for key in keys[1:])} |" for row in rows
    ]
    return "\n".join(lines)


def cell_text(key: str, value: Any, name: str = "") -> str:
    """Write a number of a column; a dash where it cannot be told, or where a mean would say nothing.

    >>> cell_text("psnr_db", 20.0), cell_text("f1", float("nan")), cell_text("n_true", 4.5, "mean")
    ('20.00', '–', '4.5')
    """
    if np.isnan(value) or (key in ("data_range", "n_planes") and name in (MEAN, SD)):
        return "–"
    if np.isinf(value):
        return "∞"
    if isinstance(value, int):
        return str(value)
    if key in ("mae", "data_range"):
        return f"{value:.4g}"
    return f"{value:.{1 if key.startswith('n_') else _DIGITS.get(key, 3)}f}"


def describe(options: PairOptions) -> dict[str, Any]:
    """How it was measured, JSON-ready: only what matters for the kind."""
    asked = {
        "images": ("data_range",),
        "objects": ("min_iou",),
        "classes": ("ignore",),
        "points": ("match_within_px",),
        "boxes": ("min_iou",),
        "hits": (),
    }[options.kind]
    told = {key: value for key, value in asdict(options).items() if key in asked}
    return {"software": "napari-cellenhance", "measured": f"{options.kind} against a reference", **told}


def write_csv(
    rows: Sequence[Mapping[str, Any]],
    record: Mapping[str, Any],
    path: str | os.PathLike[str],
    *,
    overwrite: bool = True,
) -> tuple[Path, ...]:
    """Write the table as CSV, and what was measured as JSON beside it.

    Raises
    ------
    WriteError
        It cannot be written; existing files are unchanged.
    """
    from napari_cellenhance.io.tables import write_table

    return write_table(path, rows, record, overwrite=overwrite)
