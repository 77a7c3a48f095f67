"""What a training tells while it runs, and what it leaves; the same for every method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_cellenhance.workflows.progress import OnProgress, Progress

if TYPE_CHECKING:
    from napari_cellenhance.core.training import FitState

__all__ = ["Report", "TrainProgress", "TrainResult"]

_PARTS = {
    "content": "content", "style": "morphology", "paired": "labels",
    "first": "image", "translated": "filters", "ensemble": "ensemble",
}  # fmt: skip
"""Terms of the losses → how a line of progress calls them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainProgress(Progress):
    """Progress of a training, with the new rows of its history.

    Parameters
    ----------
    rows : tuple of mapping
        Losses of the updates since the last report; the first report of a resumed training has all earlier ones.
    best_step : int
        Update of the best validation so far; 0 before the first.
    """

    rows: tuple[Mapping[str, float], ...] = ()
    best_step: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """Where everything is, and how the training ended.

    Parameters
    ----------
    weights, card : Path or None
        None where the training was discarded; its checkpoint stays.
    stopped : str
        "finished", "cancelled" (stopped; the best is kept), "early" (no progress), "diverged" or "discarded".
    """

    model_id: str
    weights: Path | None
    card: Path | None
    history: Path
    stopped: str
    best_step: int
    best_total: float


class Report:
    """Turns the state after an update into progress.

    Parameters
    ----------
    n_steps : int
        Updates in all.
    on_progress : callable
    state : FitState
        Where the training begins.
    """

    def __init__(self, n_steps: int, on_progress: OnProgress, state: FitState) -> None:
        self._n_steps = n_steps
        self._on_progress = on_progress
        self._n_told = 0
        self._before = (state.step, state.elapsed_s)

    def step(self, state: FitState, row: dict[str, float]) -> None:
        """Tell the rows that were not told yet, copied: the loop still adds to its own."""
        n_here, took = state.step - self._before[0], state.elapsed_s - self._before[1]
        parts = ", ".join(f"{name} {row[key]:.4f}" for key, name in _PARTS.items() if key in row)
        shown = f" ({parts})" if parts else ""
        rows = tuple(dict(row) for row in state.history[self._n_told :])
        self._n_told = len(state.history)
        self._on_progress(
            TrainProgress(
                n_done=state.step, n_total=self._n_steps, message=f"loss {row['total']:.4f}{shown}",
                eta_s=(self._n_steps - state.step) * took / max(1, n_here), rows=rows, best_step=state.best_step,
            )
        )  # fmt: skip
