"""Cells of the evaluation of AEP → one row for each network, and text for a person."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from napari_cellenhance.core.degrade import AS_ACQUIRED
from napari_cellenhance.core.prefilters import NO_FILTER
from napari_cellenhance.workflows._evaluate_classes import mean_sd

__all__ = ["BASELINE", "TITLES", "Cell", "Gain", "gains", "markdown", "rows_of"]

BASELINE = "unet"

TITLES: Mapping[str, str] = {
    "unet": "U-Net",
    "light": "Network 2 alone",
    "aep": "AEP",
    "aep-fixed": "AEP + AWEL fixed",
    "aep-auto": "AEP + AWEL",
    "aep-logits": "AEP + AWEL, logits",
    "aep-softmax": "AEP + AWEL, softmax",
    "aep-argmax": "AEP + AWEL, argmax",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One training and its scores on the test part of its fold.

    Parameters
    ----------
    source, degradation, prefilter, variant : str
    fold, seed : int
        −1 for a network that was trained elsewhere and is scored on all images.
    result : dict
        See ``_evaluate_classes.score`` and ``_evaluate_aep_train.train_and_score``.
    """

    source: str
    degradation: str
    prefilter: str
    variant: str
    fold: int
    seed: int
    result: dict[str, Any] = field(default_factory=dict)

    def as_row(self) -> dict[str, Any]:
        """Flat, for a table of all cells."""
        about = {
            name: getattr(self, name) for name in ("source", "degradation", "prefilter", "variant", "fold", "seed")
        }
        return about | _flat(self.result) | {
            name: self.result.get(name, math.nan)
            for name in ("validation_iou", "best_step", "n_steps", "stopped", "training_seconds", "seconds")
        }  # fmt: skip


def _flat(result: Mapping[str, Any]) -> dict[str, float]:
    """Scores by name; every class has a column, though it may not occur."""
    found: dict[str, float] = {}
    for measure in ("iou", "dice"):
        found[f"mean_{measure}"] = float(result.get(f"mean_{measure}", math.nan))
        for name in ("background", "object", "border"):
            found[f"{measure}_{name}"] = float(result.get(measure, {}).get(name, math.nan))
    for measure in ("average_precision", "seg"):
        found[measure] = float(result.get(measure, math.nan))
    return found


def rows_of(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Mean and standard deviation of every score over folds and seeds, one row for each network and kind of image."""
    rows = []
    for key in dict.fromkeys((c.source, c.degradation, c.prefilter, c.variant) for c in cells):
        here = [_flat(c.result) for c in cells if (c.source, c.degradation, c.prefilter, c.variant) == key]
        row: dict[str, Any] = dict(zip(("source", "degradation", "prefilter", "variant"), key, strict=True))
        row["n"] = len(here)
        for name in here[0]:
            row[name], row[f"{name}_sd"] = mean_sd([scores[name] for scores in here])
        rows.append(row)
    return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """Mean IoU of a network less that of the U-Net on the same fold and seed.

    Parameters
    ----------
    source, degradation, variant : str
    mean, sd : float
        Over folds and seeds.
    n, n_better : int
        Pairs, and those where it is ahead.
    """

    source: str
    degradation: str
    variant: str
    mean: float
    sd: float
    n: int
    n_better: int


def gains(cells: Sequence[Cell]) -> list[Gain]:
    """Compare every network with the U-Net, pair by pair; those without a partner are left out."""
    plain = [cell for cell in cells if cell.prefilter == NO_FILTER]
    base = {_pair_key(c): c.result["mean_iou"] for c in plain if c.variant == BASELINE}
    found = []
    for source, degradation, variant in dict.fromkeys((c.source, c.degradation, c.variant) for c in plain):
        differences = [
            float(c.result["mean_iou"] - base[_pair_key(c)])
            for c in plain
            if (c.source, c.degradation, c.variant) == (source, degradation, variant) and _pair_key(c) in base
        ]
        if differences and variant != BASELINE:
            mean, sd = mean_sd(differences)
            n_better = sum(difference > 0 for difference in differences)
            found.append(
                Gain(source=source, degradation=degradation, variant=variant, mean=mean, sd=sd, n=len(differences),
                     n_better=n_better)
            )  # fmt: skip
    return found


def _pair_key(cell: Cell) -> tuple[Any, ...]:
    return cell.source, cell.degradation, cell.fold, cell.seed


def markdown(cells: Sequence[Cell]) -> str:
    """All tables as markdown, in per cent; the best of a line in bold."""
    rows = rows_of(cells)
    parts = []
    for source in dict.fromkeys(row["source"] for row in rows):
        here = [row for row in rows if row["source"] == source]
        parts.append(f"## {source}")
        plain = [row for row in here if row["prefilter"] == NO_FILTER]
        parts += [_class_table(plain, measure) for measure in ("iou", "dice")]
        parts += [_object_table(plain)] if any(not math.isnan(row["seg"]) for row in plain) else []
        parts += [_gain_table([gain for gain in gains(cells) if gain.source == source])]
        parts += [_prefilter_table(here)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _class_table(rows: Sequence[dict[str, Any]], measure: str) -> str:
    title = {"iou": "IoU", "dice": "DSC"}[measure]
    about = f"**{title}** in %, pooled over the test images; mean ± sd over folds and seeds."
    names = [("mean", f"mean_{measure}")]
    names += [
        (name, f"{measure}_{name}")
        for name in ("background", "object", "border")
        if any(not math.isnan(row[f"{measure}_{name}"]) for row in rows)
    ]
    return _table(about, rows, names)


def _object_table(rows: Sequence[dict[str, Any]]) -> str:
    about = (
        "**Objects** in %: connected parts of the class object after the border was cut. AP at an IoU of 0.5 from "
        "counts of all test images together; SEG as in the Cell Tracking Challenge."
    )
    return _table(about, rows, [("AP@0.5", "average_precision"), ("SEG", "seg")])


def _table(about: str, rows: Sequence[dict[str, Any]], measures: Sequence[tuple[str, str]]) -> str:
    """Degradation and measure down, networks across."""
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    if not variants:
        return ""
    head = f"| images | class or measure | n | {' | '.join(TITLES.get(v, v) for v in variants)} |"
    lines = [about, "", head, "|---|---|---:|" + "---:|" * len(variants)]
    for degradation in dict.fromkeys(row["degradation"] for row in rows):
        here = {row["variant"]: row for row in rows if row["degradation"] == degradation}
        n = min(row["n"] for row in here.values())
        for title, name in measures:
            cells = _bold([here.get(v) for v in variants], name)
            lines.append(f"| {degradation} | {title} | {n} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _bold(rows: Sequence[Mapping[str, Any] | None], name: str) -> list[str]:
    values = [math.nan if row is None else float(row[name]) for row in rows]
    known = [value for value in values if not math.isnan(value)]
    texts = [
        "–" if row is None or math.isnan(value) else _percent(value, float(row[f"{name}_sd"]))
        for row, value in zip(rows, values, strict=True)
    ]
    return [
        f"**{t}**" if known and v == max(known) and len(known) > 1 else t for t, v in zip(texts, values, strict=True)
    ]


def _percent(mean: float, sd: float, sign: str = "") -> str:
    text = f"{100 * mean:{sign}.2f}"
    return text if math.isnan(sd) else f"{text} ± {100 * sd:.2f}"


def _gain_table(found: Sequence[Gain]) -> str:
    if not found:
        return ""
    lines = [
        "**Less the U-Net** of the same fold and seed: difference of the mean IoU in points, mean ± sd.",
        "",
        "| images | network | difference | ahead |",
        "|---|---|---:|---:|",
    ]
    lines += [
        f"| {g.degradation} | {TITLES.get(g.variant, g.variant)} | {_percent(g.mean, g.sd, '+')} | "
        f"{g.n_better} of {g.n} |"
        for g in found
    ]
    return "\n".join(lines)


def _prefilter_table(rows: Sequence[dict[str, Any]]) -> str:
    """U-Net after each classical filter, beside AEP + AWEL without any."""
    is_shown: Callable[[dict[str, Any]], bool] = lambda row: row["degradation"] == AS_ACQUIRED  # noqa: E731
    filtered = [row for row in rows if is_shown(row) and row["variant"] == BASELINE]
    if all(row["prefilter"] == NO_FILTER for row in filtered):
        return ""
    learned = [row for row in rows if is_shown(row) and row["variant"] == "aep-auto" and row["prefilter"] == NO_FILTER]
    lines = [
        "**Classical pre-filters** before the U-Net, images as acquired: IoU and DSC of the mean in %.",
        "",
        "| filter | n | IoU | DSC |",
        "|---|---:|---:|---:|",
    ]
    shown = [(row["prefilter"], row) for row in filtered] + [(f"{TITLES['aep-auto']}, no filter", r) for r in learned]
    for title, row in shown:
        cells = (_percent(row[name], row[f"{name}_sd"]) for name in ("mean_iou", "mean_dice"))
        lines.append(f"| {title} | {row['n']} | {' | '.join(cells)} |")
    return "\n".join(lines)
