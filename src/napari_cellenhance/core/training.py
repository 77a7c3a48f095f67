"""One training loop for every recipe: resumable, seeded, cancellable, never loses the best weights."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from napari_cellenhance.core.errors import ParameterError, TrainingError

__all__ = ["FitResult", "FitSettings", "FitState", "TrainableRecipe", "fit"]

log = logging.getLogger(__name__)


class TrainableRecipe(Protocol):
    """What the loop needs to know of a method."""

    module: nn.Module

    def loss(self, rng: np.random.Generator, step: int) -> dict[str, Tensor]:
        """Sample a batch with ``rng`` and return ``total`` (differentiable) and its parts; ``step`` counts from 0."""
        ...

    def validate(self) -> dict[str, float]:
        """Score the current weights; the smallest ``total`` is kept as best."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """Loop settings.

    Parameters
    ----------
    n_steps : int
        Updates in all.
    learning_rate : float
        Peak of AdamW; linear warm-up, then a half cosine down to 2 % of the peak ("cosine"), or constant, or halved
        after every ``plateau_patience`` validations in a row without a better total ("plateau", as in CARE,
        Noise2Void, VoidSeg and StarDist).
    validate_every, patience : int
        Steps between validations; validations without a better total until the loop stops early (0: never).
    average : float
        Decay of a running average of the weights, such as 0.998: the averaged weights are validated and kept, which
        evens out the noise of small batches. 0 keeps the weights themselves.
    keep : "best" or "last"
        Weights that the module ends with: those of the smallest validation total, or those of the last validation.
    seed : int
        Batch ``i`` is drawn from ``default_rng([seed, i])``, so a resumed run sees the same batches.
    """

    n_steps: int = 4000
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    schedule: str = "cosine"
    n_warmup: int = 50
    max_grad_norm: float = 5.0
    validate_every: int = 250
    patience: int = 0
    plateau_patience: int = 10
    average: float = 0.0
    keep: Literal["best", "last"] = "best"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n_steps < 1 or self.validate_every < 1:
            raise ParameterError(f"{self.n_steps} steps validated every {self.validate_every}; expected 1 or more each")
        if not 0 < self.learning_rate < 1:
            raise ParameterError(f"learning rate is {self.learning_rate}; expected between 0 and 1, usually 1e-3")
        if not 0 <= self.average < 1:
            raise ParameterError(f"average is {self.average}; expected 0 (off) or a decay below 1, such as 0.998")
        if self.keep not in ("best", "last"):
            raise ParameterError(f"keep is {self.keep!r}; expected 'best' or 'last'")
        if self.schedule not in ("cosine", "constant", "plateau"):
            raise ParameterError(f"schedule is {self.schedule!r}; expected 'cosine', 'constant' or 'plateau'")
        if self.plateau_patience < 1:
            raise ParameterError(f"plateau_patience is {self.plateau_patience}; expected 1 validation or more")

    def learning_rate_at(self, step: int, totals: Sequence[float] = ()) -> float:
        """Learning rate of update ``step`` (0-based), after validations with these totals."""
        warm = min(1.0, (step + 1) / max(1, self.n_warmup))
        if self.schedule == "constant":
            return self.learning_rate * warm
        if self.schedule == "plateau":
            return self.learning_rate * warm * 0.5 ** _n_plateaus(totals, self.plateau_patience)
        cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / self.n_steps)))
        return self.learning_rate * warm * (0.02 + 0.98 * cosine)


def _n_plateaus(totals: Sequence[float], patience: int) -> int:
    """How often ``patience`` validations in a row brought nothing better."""
    best, n_worse, found = math.inf, 0, 0
    for total in totals:
        n_worse = 0 if total < best else n_worse + 1
        best = min(best, total)
        if n_worse == patience:
            found, n_worse = found + 1, 0
    return found


@dataclass
class FitState:
    """Everything a resumed run needs, as plain tensors and JSON-ready values."""

    step: int = 0
    best_step: int = 0
    best_total: float = math.inf
    n_worse: int = 0
    elapsed_s: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    module: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    average: dict[str, Tensor] = field(default_factory=dict)
    first_moment: dict[str, Tensor] = field(default_factory=dict)
    second_moment: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class FitResult:
    """Outcome of :func:`fit`; the module holds the weights kept."""

    state: FitState
    stopped: str
    """"finished", "cancelled", "early" (no progress) or "diverged"."""


def _snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().clone().contiguous() for k, v in module.state_dict().items()}


def _follow(average: dict[str, Tensor], module: nn.Module, decay: float, step: int) -> None:
    """Move the running average towards the weights; faster at first, so that it forgets the start."""
    rate = 1.0 - min(decay, (1.0 + step) / (10.0 + step))
    for name, tensor in module.state_dict().items():
        if name not in average:
            average[name] = tensor.detach().clone()
        elif tensor.is_floating_point():
            average[name].lerp_(tensor.detach(), rate)
        else:
            average[name].copy_(tensor)


def _store(state: FitState, module: nn.Module, optimizer: torch.optim.AdamW) -> None:
    state.module = _snapshot(module)
    for name, parameter in module.named_parameters():
        moments = optimizer.state.get(parameter)
        if moments:
            state.first_moment[name] = moments["exp_avg"].detach().clone().contiguous()
            state.second_moment[name] = moments["exp_avg_sq"].detach().clone().contiguous()


def _restore(state: FitState, module: nn.Module, optimizer: torch.optim.AdamW) -> None:
    if not state.module:
        return
    module.load_state_dict(state.module)
    for name, parameter in module.named_parameters():
        if name in state.first_moment:
            optimizer.state[parameter] = {
                "step": torch.tensor(float(state.step)),
                "exp_avg": torch.empty_like(parameter).copy_(state.first_moment[name]),
                "exp_avg_sq": torch.empty_like(parameter).copy_(state.second_moment[name]),
            }


def fit(
    recipe: TrainableRecipe,
    settings: FitSettings,
    *,
    state: FitState | None = None,
    on_step: Callable[[FitState, dict[str, float]], None] = lambda state, row: None,
    on_checkpoint: Callable[[FitState], None] = lambda state: None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> FitResult:
    """Train ``recipe.module`` in place.

    Parameters
    ----------
    state : FitState, optional
        Continue from here; the batches that follow are those of an uninterrupted run.
    on_step : callable
        Called after every update with the state and the row of losses just added to its history.
    on_checkpoint : callable
        Called after every validation, and at the end, with a complete state.

    Returns
    -------
    FitResult
        Whatever ended the loop, the module holds the weights with the lowest validation total (or the last
        validated ones, if the settings say so).

    Raises
    ------
    TrainingError
        The very first loss is not finite: nothing was learned that could be kept.
    """
    state = state or FitState()
    module = recipe.module
    optimizer = torch.optim.AdamW(module.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    _restore(state, module, optimizer)
    started, before, stopped = time.monotonic(), state.elapsed_s, "finished"
    while state.step < settings.n_steps:
        if is_cancelled():
            stopped = "cancelled"
            break
        rate = settings.learning_rate_at(state.step, [row["val_total"] for row in state.history if "val_total" in row])
        for group in optimizer.param_groups:
            group["lr"] = rate
        module.train()
        losses = recipe.loss(np.random.default_rng([settings.seed, state.step]), state.step)
        row = {name: float(value.detach()) for name, value in losses.items()}
        if not math.isfinite(row["total"]):
            if state.step == 0:
                raise TrainingError(
                    "the first loss is not a number; check the images for NaN and lower the learning rate"
                )
            log.warning("loss became %s at step %d; the best weights so far are kept", row["total"], state.step)
            stopped = "diverged"
            break
        _update(module, losses["total"], optimizer, settings, state)
        state.step += 1
        state.elapsed_s = before + time.monotonic() - started
        row = {"step": float(state.step), "learning_rate": rate, **row}
        state.history.append(row)
        if state.step % settings.validate_every == 0 or state.step == settings.n_steps:
            _validate(recipe, state, row, settings)
            _store(state, module, optimizer)
            on_step(state, row)
            on_checkpoint(state)
            if settings.patience and state.n_worse >= settings.patience:
                stopped = "early"
                break
        else:
            on_step(state, row)
    if stopped == "cancelled":
        if not state.best:
            _validate(recipe, state, {}, settings)
        _store(state, module, optimizer)
        on_checkpoint(state)
    if state.best:
        module.load_state_dict(state.best)
    module.eval()
    return FitResult(state, stopped)


def _update(
    module: nn.Module, total: Tensor, optimizer: torch.optim.AdamW, settings: FitSettings, state: FitState
) -> None:
    """One step down the gradient, left out where that is not finite; then the running average follows."""
    optimizer.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(module.parameters(), settings.max_grad_norm)
    if bool(torch.isfinite(norm)):
        optimizer.step()
    else:
        log.warning("the gradient of update %d is not finite; the update is left out", state.step + 1)
    if settings.average:
        _follow(state.average, module, settings.average, state.step)


def _validate(recipe: TrainableRecipe, state: FitState, row: dict[str, float], settings: FitSettings) -> None:
    module = recipe.module.eval()
    own = _snapshot(module) if state.average else {}
    if state.average:
        module.load_state_dict(state.average)
    with torch.no_grad():
        scores = recipe.validate()
    row.update({f"val_{k}": v for k, v in scores.items()})
    is_better = scores["total"] < state.best_total
    state.n_worse = 0 if is_better else state.n_worse + 1
    if is_better or settings.keep == "last" or not state.best:
        state.best_total, state.best_step = scores["total"], state.step
        state.best = _snapshot(module)
    if own:
        module.load_state_dict(own)
