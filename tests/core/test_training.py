"""The loop: seeded, resumable, cancellable, and it never loses the best weights."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from napari_cellenhance.core.errors import ParameterError, TrainingError
from napari_cellenhance.core.training import FitSettings, FitState, fit


class _Line:
    """Fit y = 2x + 1 with a linear unit."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.module = nn.Linear(1, 1)
        self.break_at = -1

    def loss(self, rng: np.random.Generator, step: int) -> dict[str, Tensor]:
        x = torch.from_numpy(rng.normal(size=(16, 1)).astype(np.float32))
        total = (self.module(x) - (2 * x + 1)).square().mean()
        return {"total": total * float("nan") if step == self.break_at else total}

    def validate(self) -> dict[str, float]:
        x = torch.linspace(-1, 1, 9)[:, None]
        with torch.no_grad():
            return {"total": float((self.module(x) - (2 * x + 1)).square().mean())}


SETTINGS = FitSettings(n_steps=60, learning_rate=0.1, validate_every=10, n_warmup=1)


def test_it_learns_and_keeps_the_best() -> None:
    recipe = _Line()
    result = fit(recipe, SETTINGS)
    assert result.stopped == "finished"
    assert recipe.validate()["total"] == pytest.approx(result.state.best_total)
    assert result.state.best_total < 0.05
    assert len(result.state.history) == 60
    assert not recipe.module.training


def test_same_seed_same_weights() -> None:
    a, b = _Line(), _Line()
    fit(a, SETTINGS)
    fit(b, SETTINGS)
    assert torch.equal(a.module.weight, b.module.weight)


def test_a_resumed_run_equals_an_uninterrupted_one() -> None:
    whole = _Line()
    fit(whole, SETTINGS)
    first, saved = _Line(), []
    fit(first, SETTINGS, on_checkpoint=lambda s: saved.append(copy.deepcopy(s)), is_cancelled=lambda: bool(saved))
    assert saved[0].step == 10
    second = _Line()
    result = fit(second, SETTINGS, state=saved[0])
    assert result.state.step == 60
    torch.testing.assert_close(second.module.weight, whole.module.weight, rtol=0, atol=0)


def test_cancel_keeps_what_was_learned() -> None:
    recipe = _Line()
    start = recipe.validate()["total"]
    seen: list[int] = []
    result = fit(recipe, SETTINGS, on_step=lambda s, r: seen.append(s.step), is_cancelled=lambda: len(seen) >= 5)
    assert result.stopped == "cancelled" and result.state.step == 5
    assert recipe.validate()["total"] < start


def test_a_loss_that_is_not_a_number_stops_and_keeps_the_best() -> None:
    recipe = _Line()
    recipe.break_at = 25
    result = fit(recipe, SETTINGS)
    assert result.stopped == "diverged" and result.state.step == 25
    assert torch.isfinite(recipe.module.weight).all()
    assert recipe.validate()["total"] == pytest.approx(result.state.best_total)


def test_an_update_with_an_infinite_gradient_is_left_out() -> None:
    recipe = _Line()
    usual = recipe.loss

    def loss(rng: np.random.Generator, step: int) -> dict[str, Tensor]:
        losses = usual(rng, step)
        if step == 25:  # finite loss, gradient 0 · inf
            losses["total"] = losses["total"] + (recipe.module.weight * 0).abs().sqrt().sum()
        return losses

    recipe.loss = loss  # type: ignore[method-assign]
    result = fit(recipe, SETTINGS)
    assert result.stopped == "finished" and torch.isfinite(recipe.module.weight).all()
    assert result.state.best_total < 0.05


def test_the_running_average_evens_out_the_noise() -> None:
    def end(average: float) -> float:
        recipe = _Line()
        usual = recipe.loss

        def loss(rng: np.random.Generator, step: int) -> dict[str, Tensor]:
            wrong = float(rng.normal(0, 2))  # noisy targets
            return {
                "total": usual(rng, step)["total"] + wrong * (recipe.module.weight.sum() + recipe.module.bias.sum())
            }

        recipe.loss = loss  # type: ignore[method-assign]
        settings = FitSettings(
            n_steps=400, learning_rate=0.1, validate_every=400, n_warmup=1, schedule="constant", average=average
        )
        fit(recipe, settings)
        return recipe.validate()["total"]

    assert end(0.98) < 0.6 * end(0.0)


def test_an_averaged_run_resumes_as_it_would_have_gone_on() -> None:
    settings = FitSettings(n_steps=60, learning_rate=0.1, validate_every=10, n_warmup=1, average=0.9)
    whole, first, second = _Line(), _Line(), _Line()
    fit(whole, settings)
    saved: list[FitState] = []
    fit(first, settings, on_checkpoint=lambda s: saved.append(copy.deepcopy(s)), is_cancelled=lambda: bool(saved))
    fit(second, settings, state=saved[0])
    assert torch.equal(second.module.weight, whole.module.weight)


def test_the_last_weights_can_be_kept() -> None:
    recipe = _Line()
    totals = iter([1.0, 0.1, 0.5])
    recipe.validate = lambda: {"total": next(totals)}  # type: ignore[method-assign]
    result = fit(recipe, FitSettings(n_steps=30, validate_every=10, learning_rate=0.1, keep="last"))
    assert result.state.best_step == 30 and result.state.best_total == 0.5


def test_a_first_loss_that_is_not_a_number_is_an_error() -> None:
    recipe = _Line()
    recipe.break_at = 0
    with pytest.raises(TrainingError, match="first loss"):
        fit(recipe, SETTINGS)


def test_early_stop_after_patience() -> None:
    recipe = _Line()
    state = FitState(best_total=-1.0, best={k: v.clone() for k, v in recipe.module.state_dict().items()})
    result = fit(recipe, FitSettings(n_steps=100, validate_every=5, patience=3, learning_rate=0.01), state=state)
    assert result.stopped == "early" and result.state.step == 15


def test_settings_are_checked() -> None:
    with pytest.raises(ParameterError, match="steps"):
        FitSettings(n_steps=0)
    with pytest.raises(ParameterError, match="learning rate"):
        FitSettings(learning_rate=2.0)
    with pytest.raises(ParameterError, match="schedule"):
        FitSettings(schedule="other")


def test_learning_rate_warms_up_and_decays() -> None:
    s = FitSettings(n_steps=1000, learning_rate=1e-3, n_warmup=50)
    assert s.learning_rate_at(0) == pytest.approx(2e-5, rel=0.01)
    assert s.learning_rate_at(60) > 9e-4
    assert s.learning_rate_at(999) == pytest.approx(2e-5, rel=0.05)


def test_a_plateau_halves_the_learning_rate_also_after_a_break() -> None:
    class _Stuck(_Line):
        def validate(self) -> dict[str, float]:
            return {"total": 1.0}

    settings = FitSettings(
        n_steps=12, learning_rate=0.1, validate_every=1, n_warmup=1, schedule="plateau", plateau_patience=3
    )
    whole = fit(_Stuck(), settings).state
    rates = [row["learning_rate"] for row in whole.history]
    assert rates == pytest.approx([0.1] * 4 + [0.05] * 3 + [0.025] * 3 + [0.0125] * 2)
    saved: list[FitState] = []
    recipe = _Stuck()
    fit(recipe, settings, on_checkpoint=lambda s: saved.append(copy.deepcopy(s)), is_cancelled=lambda: len(saved) >= 5)
    again = fit(_Stuck(), settings, state=saved[4]).state
    assert [row["learning_rate"] for row in again.history] == rates
    assert settings.learning_rate_at(9, [3.0, 2.0, 1.0, 0.5, 0.4]) == 0.1, "progress keeps it"
    with pytest.raises(ParameterError, match="plateau_patience is 0"):
        FitSettings(plateau_patience=0)


def test_a_parameter_that_never_learned_does_not_stop_a_resumed_run() -> None:
    class WithSpare(_Line):
        def __init__(self) -> None:
            super().__init__()
            self.module.spare = nn.Parameter(torch.ones(3))  # no loss reaches it

    whole, first, second = WithSpare(), WithSpare(), WithSpare()
    fit(whole, SETTINGS)
    saved: list[FitState] = []
    fit(first, SETTINGS, on_checkpoint=lambda s: saved.append(copy.deepcopy(s)), is_cancelled=lambda: bool(saved))
    assert set(saved[0].first_moment) == {"weight", "bias"}
    fit(second, SETTINGS, state=saved[0])
    assert torch.equal(second.module.weight, whole.module.weight)
    assert torch.equal(second.module.get_parameter("spare"), torch.ones(3))
