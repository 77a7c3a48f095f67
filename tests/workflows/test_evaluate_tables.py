"""Tables say what was measured; the gate names every score below raw."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest

from napari_cellenhance.core.strength_scores import StrengthCurve
from napari_cellenhance.workflows._evaluate_scores import Row
from napari_cellenhance.workflows._evaluate_tables import findings, gate, markdown, overall_contrast, slider_verdict


def _row(label: str, source: str = "a", quality: str = "as acquired", **values: float) -> Row:
    texts = {"source": source, "quality": quality, "filter_id": label.split()[0], "label": label, "tuned_on": "x"}
    counts = {"n_images": 4, "n_floored": 1}
    numbers = {f.name: math.nan for f in fields(Row) if f.name not in texts and f.name not in counts}
    return Row(**(texts | counts | numbers | values))  # type: ignore[arg-type]


ROWS = [
    _row("raw", otsu_iou=0.6, blob_f1=0.8, contrast_ratio=2.0, gain=0.0, fold=1.0),
    _row("dog 3", otsu_iou=0.5, blob_f1=0.9, contrast_ratio=20.0, gain=18.0, fold=10.0),
    _row("nunet 5", otsu_iou=0.7, blob_f1=0.85, contrast_ratio=30.0, gain=28.0, fold=15.0),
    _row("nunet 10", otsu_iou=0.55, blob_f1=0.7, contrast_ratio=40.0, gain=38.0, fold=20.0),
]


def test_the_gate_names_each_score_below_raw() -> None:
    sentences = gate(findings(ROWS, ("nunet",)))
    assert len(sentences) == 2
    assert all("nunet 10 is below raw on a, as acquired" in sentence for sentence in sentences)
    assert "Otsu IoU: 0.550 against 0.600" in sentences[0]
    assert gate(findings(ROWS[:3], ("nunet",))) == []
    assert gate(findings(ROWS[:2], ("nunet",))) == []


def test_ahead_means_ahead_of_raw_and_of_every_classical_filter() -> None:
    found = {(f.label, f.measure): f for f in findings(ROWS, ("nunet",))}
    assert found["nunet 5", "otsu_iou"].is_ahead
    assert found["nunet 5", "otsu_iou"].best_classical == "dog 3"
    assert not found["nunet 5", "blob_f1"].is_ahead and not found["nunet 5", "blob_f1"].is_below_raw
    assert ("nunet 5", "seg") not in found, "a score that does not exist is no verdict"


def test_contrast_is_averaged_over_data_sets() -> None:
    second = [replace(row, source="b", contrast_ratio=row.contrast_ratio + 4, fold=1.0) for row in ROWS]
    noisy = [replace(row, quality="low noise", contrast_ratio=math.nan) for row in ROWS]
    overall = {o.label: o for o in overall_contrast([*ROWS, *second, *noisy])}
    assert overall["dog 3"].contrast_ratio == pytest.approx(22.0)
    assert overall["dog 3"].contrast_sd == pytest.approx(math.sqrt(8.0))
    assert overall["dog 3"].fold == pytest.approx(5.5)
    assert overall["raw"].n_sources == 2 and overall["raw"].n_floored == 2


def test_the_text_has_the_best_in_bold_and_a_verdict() -> None:
    text = markdown(ROWS, ("nunet",))
    assert "| a, as acquired | 4 | 0.600 | 0.500 | **0.700** | 0.550 |" in text
    assert "| a, as acquired | Otsu IoU | nunet 5 | 0.700 | 0.600 | dog 3 | 0.500 | yes |" in text
    assert "| a, as acquired | blob F1, one scale known | nunet 5 | 0.850 | 0.800 | dog 3 | 0.900 | no |" in text
    assert "SEG" not in text
    assert "**Is a model" not in markdown(ROWS[:2], ())
    for table in text.split("\n\n"):
        lines = [line for line in table.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1


def test_a_slider_is_judged_by_the_share_of_images_on_which_it_rises() -> None:
    good = StrengthCurve(strengths=(0, 1, 2), contrast=(1, 2, 3), greyness=(0.6, 0.4, 0.2), steps=(0.1, 0.2))
    bad = StrengthCurve(strengths=(0, 1, 2), contrast=(3, 1, 2), greyness=(0.2, 0.4, 0.6), steps=(0.3, 0.1))
    bare = StrengthCurve(strengths=(0, 1, 2), contrast=(), greyness=(0.6, 0.4, 0.2), steps=(0.1, 0.1))
    verdict = slider_verdict([good, good, bad, bare])
    assert verdict.n_images == 4
    assert verdict.contrast_rises == pytest.approx(2 / 3)
    assert verdict.becomes_binary == pytest.approx(3 / 4)
    assert verdict.largest_step == 0.3
    assert math.isnan(slider_verdict([bare]).contrast_rises)
    text = markdown(ROWS, ("nunet",), {"nunet": [good]})
    assert "| nunet | 1 | 1.000 | 100 % | 1.000 | 100 % | 0.200 |" in text
