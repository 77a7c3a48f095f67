"""How long a training will take: a few updates measured on the real images, then counted up."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_cellenhance.workflows._train_setup import prepare
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress

if TYPE_CHECKING:
    from napari_cellenhance.workflows.train import TrainRequest

__all__ = ["TrainEstimate", "duration_text", "estimate"]

_N_WARM_UP = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainEstimate:
    """Measured pace of a training on this computer.

    Parameters
    ----------
    step_s, validation_s : float
        One update, and one validation, in s.
    n_dry_run : int
        Updates of the dry run that balances the losses first.
    """

    step_s: float
    validation_s: float
    n_dry_run: int

    def total_s(self, n_steps: int, validate_every: int) -> float:
        """Time of a whole training, in s.

        >>> TrainEstimate(step_s=0.5, validation_s=2.0, n_dry_run=20).total_s(1000, 250)
        518.0
        """
        n_validations = -(-n_steps // validate_every)
        return (n_steps + self.n_dry_run) * self.step_s + n_validations * self.validation_s


def estimate(
    request: TrainRequest,
    *,
    n_steps: int = 3,
    on_progress: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
) -> TrainEstimate | None:
    """Measure some updates and one validation with the images and settings of ``request``; nothing is stored.

    Parameters
    ----------
    n_steps : int
        Updates measured, after one that only warms up; their median counts.

    Returns
    -------
    TrainEstimate or None
        None where it was cancelled.

    Raises
    ------
    As :func:`napari_cellenhance.workflows.train.run`.
    """
    import torch

    n_threads = torch.get_num_threads()
    torch.set_num_threads(request.n_threads or n_threads)
    try:
        return _measure(request, n_steps, on_progress, is_cancelled)
    finally:
        torch.set_num_threads(n_threads)


def _measure(
    request: TrainRequest, n_steps: int, on_progress: OnProgress, is_cancelled: IsCancelled
) -> TrainEstimate | None:
    import torch

    n_all = _N_WARM_UP + n_steps + 1

    def tell(n_done: int, message: str) -> None:
        on_progress(Progress(n_done=n_done, n_total=n_all, message=message))

    tell(0, "Reading the images")
    setup = prepare(request)
    recipe = setup.recipe
    optimizer = torch.optim.AdamW(recipe.module.parameters(), lr=1e-6)
    took = []
    for i in range(_N_WARM_UP + n_steps):
        if is_cancelled():
            return None
        tell(i, "Measuring")
        started = time.perf_counter()
        losses = recipe.loss(np.random.default_rng([request.seed, 3, i]), i)
        optimizer.zero_grad(set_to_none=True)
        losses["total"].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        took.append(time.perf_counter() - started)
    if is_cancelled():
        return None
    started = time.perf_counter()
    recipe.validate()
    validation_s = time.perf_counter() - started
    tell(n_all, "Measured")
    needs_dry_run = setup.parent_factor is None and setup.settings.self_supervised > 0
    return TrainEstimate(
        step_s=float(np.median(took[_N_WARM_UP:])), validation_s=validation_s,
        n_dry_run=setup.settings.n_dry_run if needs_dry_run else 0,
    )  # fmt: skip


def duration_text(seconds: float) -> str:
    """Write a duration as one says it, without false precision.

    >>> [duration_text(s) for s in (3, 44, 100, 1500, 3600, 9000)]
    ['3 s', '44 s', '2 min', '25 min', '1 h', '2 h 30 min']
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    minutes = 5 * round(minutes / 5)
    hours, rest = divmod(minutes, 60)
    return f"{hours} h" if rest == 0 else f"{hours} h {rest} min"
