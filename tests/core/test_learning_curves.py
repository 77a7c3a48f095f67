"""What the curves of a training are judged by; each finding appears when it should, and only then."""

from __future__ import annotations

import math

import numpy as np
import pytest

from napari_cellenhance.core.learning_curves import judge, smooth

Rows = list[dict[str, float]]


def rows(n: int = 300, *, style: str = "falls", content: str = "dips") -> Rows:
    """A training with noise of a tenth of the loss."""
    rng = np.random.default_rng(0)
    t = np.linspace(0, 1, n)
    shapes = {
        "falls": np.exp(-3 * t), "flat": np.ones(n), "rises": 1 + t,
        "dips": 1 - 0.6 * np.exp(-(((t - 0.3) / 0.2) ** 2)),
        "doubles": 1 + 3 * t - 0.5 * np.exp(-(((t - 0.1) / 0.1) ** 2)),
    }  # fmt: skip
    noise = rng.normal(1, 0.1, (2, n))
    values = {"style": shapes[style] * noise[0], "content": shapes[content] * noise[1]}
    return [
        {"step": i + 1.0, "total": float(values["style"][i] + values["content"][i])}
        | {k: float(v[i]) for k, v in values.items()}
        for i in range(n)
    ]


def kinds(history: Rows, **settings: bool) -> list[str]:
    return [finding.kind for finding in judge(history, **settings)]


def test_smoothing_follows_a_step_slowly_and_without_bias() -> None:
    values = [1.0] * 50 + [2.0] * 50
    out = smooth(values, decay=0.9)
    assert np.allclose(out[:50], 1.0)
    assert 1.0 < out[52] < 1.5 and out[-1] > 1.98


def test_a_good_training_is_left_alone() -> None:
    assert kinds(rows()) == []


def test_nothing_is_judged_too_early() -> None:
    assert kinds(rows(59, style="flat", content="flat")) == []
    assert kinds(rows(60, style="flat", content="flat")) != []


@pytest.mark.parametrize("style", ["flat", "rises"])
def test_the_morphological_loss_must_fall(style: str) -> None:
    assert kinds(rows(style=style)) == ["morphology"]
    assert "does not fall" in judge(rows(style=style))[0].sentence


def test_fine_tuning_may_keep_the_morphological_loss_but_not_raise_it() -> None:
    assert kinds(rows(style="flat", content="flat"), is_fine_tuning=True) == []
    assert kinds(rows(style="rises", content="flat"), is_fine_tuning=True) == ["morphology"]


def test_the_content_loss_must_dip_and_may_not_run_away() -> None:
    assert kinds(rows(content="flat")) == ["content"]
    assert kinds(rows(content="doubles")) == ["content"]
    assert "doubled" in judge(rows(content="doubles"))[0].sentence


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_told_at_once(value: float) -> None:
    assert kinds([{"step": 1.0, "total": value}]) == ["not finite"]
    assert kinds(rows(), is_diverged=True) == ["not finite"]


def test_overfitting_is_a_validation_loss_that_rises_while_the_training_loss_falls() -> None:
    history = rows(content="falls")
    for i, value in zip(range(49, 300, 50), (1.0, 0.5, 0.4, 0.6, 0.7, 0.8), strict=True):
        history[i]["val_total"] = value
    found = judge(history)
    assert [f.kind for f in found] == ["overfit"] and "update 150" in found[0].sentence
    history[-1]["val_total"] = 0.405
    assert kinds(history) == [], "within the noise of the best"


def test_losses_that_were_not_computed_are_not_judged() -> None:
    paired = [{"step": i + 1.0, "total": 1.0 / (i + 1), "paired": 1.0 / (i + 1)} for i in range(100)]
    assert kinds(paired) == []
