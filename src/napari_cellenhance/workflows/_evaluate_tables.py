"""Tables and verdicts of an evaluation, as the NU-Net paper prints them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from napari_cellenhance.core.strength_scores import StrengthCurve
from napari_cellenhance.workflows._evaluate_filters import RAW
from napari_cellenhance.workflows._evaluate_scores import Row

__all__ = [
    "GATED",
    "MEASURES",
    "Finding",
    "Overall",
    "SliderVerdict",
    "findings",
    "gate",
    "markdown",
    "overall_contrast",
    "slider_verdict",
]

MEASURES: Mapping[str, str] = MappingProxyType(
    {
        "auroc": "AUROC",
        "otsu_iou": "Otsu IoU",
        "average_precision": "AP at IoU 0.5",
        "seg": "SEG",
        "blob_f1": "blob F1, one scale known",
        "blob_f1_scales": "blob F1, scale range",
    }
)
"""Field of a row → name; the larger the better."""

GATED = ("otsu_iou", "average_precision", "blob_f1", "blob_f1_scales")
"""Measures in which a model must not be worse than the raw image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overall:
    """Contrast of one filter as in Table 2 of the paper: means over images, then mean and deviation over data sets."""

    label: str
    n_sources: int
    contrast_ratio: float
    contrast_sd: float
    gain: float
    gain_sd: float
    fold: float
    fold_sd: float
    michelson: float
    auroc: float
    n_floored: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One model against raw and against the best classical filter, in one measure, on one source and quality."""

    source: str
    quality: str
    measure: str
    label: str
    value: float
    raw: float
    best_classical: str
    classical: float

    @property
    def is_below_raw(self) -> bool:
        """Worse than no filter at all."""
        return self.value < self.raw

    @property
    def is_ahead(self) -> bool:
        """Better than raw and than every classical filter."""
        return self.value > max(self.raw, self.classical)


def overall_contrast(rows: Sequence[Row]) -> list[Overall]:
    """Average the rows that have a contrast ratio over sources, for each filter."""
    known = [row for row in rows if not math.isnan(row.contrast_ratio)]

    def of(label: str) -> Overall:
        same = [row for row in known if row.label == label]

        def pair(name: str) -> tuple[float, float]:
            values = np.array([getattr(row, name) for row in same])
            return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else math.nan

        ratio, gain, fold = pair("contrast_ratio"), pair("gain"), pair("fold")
        return Overall(
            label=label, n_sources=len(same), contrast_ratio=ratio[0], contrast_sd=ratio[1], gain=gain[0],
            gain_sd=gain[1], fold=fold[0], fold_sd=fold[1], michelson=pair("michelson")[0], auroc=pair("auroc")[0],
            n_floored=sum(row.n_floored for row in same),
        )  # fmt: skip

    return [of(label) for label in dict.fromkeys(row.label for row in known)]


def findings(rows: Sequence[Row], learned: Sequence[str]) -> list[Finding]:
    """Compare every model with raw and the classical filters, wherever a score is known."""
    found = []
    for source, quality in dict.fromkeys((row.source, row.quality) for row in rows):
        here = [row for row in rows if (row.source, row.quality) == (source, quality)]
        for measure in MEASURES:
            values = {row.label: float(getattr(row, measure)) for row in here}
            if math.isnan(values.get(RAW, math.nan)):
                continue
            classical = {r.label: values[r.label] for r in here if r.label != RAW and r.filter_id not in learned}
            best = max(classical, key=lambda label: classical[label], default="")
            found += [
                Finding(
                    source=source, quality=quality, measure=measure, label=row.label, value=values[row.label],
                    raw=values[RAW], best_classical=best, classical=classical.get(best, -math.inf),
                )
                for row in here
                if row.filter_id in learned
            ]  # fmt: skip
    return found


def gate(found: Sequence[Finding]) -> list[str]:
    """One sentence for each score of a model that is below the raw image's."""
    return [
        f"{f.label} is below raw on {f.source}, {f.quality}, in {MEASURES[f.measure]}: "
        f"{f.value:.3f} against {f.raw:.3f}"
        for f in found
        if f.measure in GATED and f.is_below_raw
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class SliderVerdict:
    """How well a slider means what it says, over images.

    Parameters
    ----------
    n_images : int
    contrast_correlation, binary_correlation : float
        Median Spearman correlation of contrast, and of binariness, with the strength.
    contrast_rises, becomes_binary : float
        Share of the images where it is 0.9 or more.
    largest_step : float
        Largest mean difference of two neighbouring pictures, of all images.
    """

    n_images: int
    contrast_correlation: float
    contrast_rises: float
    binary_correlation: float
    becomes_binary: float
    largest_step: float


_CLEARLY_RISING = 0.9


def slider_verdict(curves: Sequence[StrengthCurve]) -> SliderVerdict:
    """Sum up the curves of one model."""

    def pair(values: list[float]) -> tuple[float, float]:
        known = np.array([v for v in values if not math.isnan(v)])
        if not known.size:
            return math.nan, math.nan
        return float(np.median(known)), float((known >= _CLEARLY_RISING).mean())

    contrast = pair([curve.contrast_correlation for curve in curves])
    binary = pair([curve.binary_correlation for curve in curves])
    return SliderVerdict(
        n_images=len(curves),
        contrast_correlation=contrast[0],
        contrast_rises=contrast[1],
        binary_correlation=binary[0],
        becomes_binary=binary[1],
        largest_step=max((curve.largest_step for curve in curves), default=math.nan),
    )


def markdown(
    rows: Sequence[Row], learned: Sequence[str], strengths: Mapping[str, Sequence[StrengthCurve]] | None = None
) -> str:
    """All tables as markdown; the best of a line in bold."""
    parts = [_contrast_table(rows)] if any(not math.isnan(row.contrast_ratio) for row in rows) else []
    parts += [_measure_table(rows, name) for name in MEASURES if any(not math.isnan(getattr(r, name)) for r in rows)]
    if strengths:
        parts.append(_slider_table(strengths))
    verdict = _verdict_table(findings(rows, learned))
    return "\n\n".join([*parts, *([verdict] if verdict else [])])


def _slider_table(strengths: Mapping[str, Sequence[StrengthCurve]]) -> str:
    first = next((curves[0] for curves in strengths.values() if curves), None)
    n = 0 if first is None else len(first.strengths)
    about = (
        f"**Strength** from 0 to the end of the slider in {n} steps: Spearman's correlation with the strength "
        f"(median; share of the images at {_CLEARLY_RISING} or more), and the largest mean difference of two "
        "neighbouring pictures."
    )
    head = "| model | images | contrast | rises | binariness | rises | largest step |\n|---|" + "---:|" * 6
    lines = [about, "", head]
    for label, curves in strengths.items():
        v = slider_verdict(curves)
        lines.append(
            f"| {label} | {v.n_images} | {_number(v.contrast_correlation)} | {_percent(v.contrast_rises)} | "
            f"{_number(v.binary_correlation)} | {_percent(v.becomes_binary)} | {_number(v.largest_step)} |"
        )
    return "\n".join(lines)


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.0f} %"


_ABOUT_CONTRAST = (
    "**Contrast ratio**, object over ground: mean ± sd over data sets, each a mean over its images "
    "(Table 2 of the paper). It rewards hallucination; never read it alone."
)


def _contrast_table(rows: Sequence[Row]) -> str:
    head = (
        "| filter | contrast ratio | gain | fold | Michelson | AUROC | at the floor | data sets |\n|---|" + "---:|" * 7
    )
    lines = [
        f"| {o.label} | {_pm(o.contrast_ratio, o.contrast_sd)} | {_pm(o.gain, o.gain_sd)} | "
        f"{_pm(o.fold, o.fold_sd, 2)} | {_number(o.michelson)} | {_number(o.auroc)} | {o.n_floored} | {o.n_sources} |"
        for o in overall_contrast(rows)
    ]
    labels = _labels(rows)
    by_source = [f"| data set | n | {' | '.join(labels)} |\n|---|---:|{'---:|' * len(labels)}"]
    for source, here in _by_source(rows):
        cells = {row.label: f"{_pm(row.contrast_ratio, row.contrast_sd)} (×{row.fold:.1f})" for row in here}
        by_source.append(f"| {source} | {here[0].n_images} | {' | '.join(cells.get(label, '–') for label in labels)} |")
    text = "The same by data set: mean ± sd over images (× mean fold)."
    return "\n".join([_ABOUT_CONTRAST, "", head, *lines, "", text, "", *by_source])


def _by_source(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    known = [row for row in rows if not math.isnan(row.contrast_ratio)]
    return [(s, [row for row in known if row.source == s]) for s in dict.fromkeys(row.source for row in known)]


def _measure_table(rows: Sequence[Row], name: str) -> str:
    labels = _labels(rows)
    lines = []
    for source, quality in dict.fromkeys((row.source, row.quality) for row in rows):
        here = {row.label: row for row in rows if (row.source, row.quality) == (source, quality)}
        values = {label: float(getattr(here[label], name)) if label in here else math.nan for label in labels}
        known = [v for v in values.values() if not math.isnan(v)]
        if known:
            n = next(iter(here.values())).n_images
            cells = [_bold(values[label], max(known)) for label in labels]
            lines.append(f"| {source}, {quality} | {n} | {' | '.join(cells)} |")
    head = f"| images | n | {' | '.join(labels)} |\n|---|---:|{'---:|' * len(labels)}"
    return "\n".join([f"**{MEASURES[name]}**", "", head, *lines])


def _verdict_table(found: Sequence[Finding]) -> str:
    if not found:
        return ""
    head = "| images | measure | best model | | raw | best classical filter | | ahead of all |\n"
    head += "|---|---|---|---:|---:|---|---:|---|"
    lines = []
    for source, quality, measure in dict.fromkeys((f.source, f.quality, f.measure) for f in found):
        best = max(
            (f for f in found if (f.source, f.quality, f.measure) == (source, quality, measure)), key=lambda f: f.value
        )
        answer = "yes" if best.is_ahead else "below raw" if best.is_below_raw else "no"
        lines.append(
            f"| {source}, {quality} | {MEASURES[measure]} | {best.label} | {best.value:.3f} | {best.raw:.3f} | "
            f"{best.best_classical or '–'} | {_number(best.classical)} | {answer} |"
        )
    return "\n".join(
        ["**Is a model ahead of raw and of every classical filter?** Its best strength here.", "", head, *lines]
    )


def _labels(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.label for row in rows))


def _bold(value: float, best: float) -> str:
    text = _number(value)
    return f"**{text}**" if not math.isnan(value) and f"{value:.3f}" == f"{best:.3f}" else text


def _number(value: float) -> str:
    return "–" if not math.isfinite(value) else f"{value:.3f}"


def _pm(mean: float, sd: float, digits: int = 1) -> str:
    return f"{mean:.{digits}f}" if math.isnan(sd) else f"{mean:.{digits}f} ± {sd:.{digits}f}"
