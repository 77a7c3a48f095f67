"""What every training leaves on disk while it runs: a checkpoint to resume from, and its history."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_cellenhance.core.errors import ParameterError

if TYPE_CHECKING:
    from napari_cellenhance.core.training import FitState

__all__ = ["read_checkpoint", "write_checkpoint", "write_history"]

_SCALARS = ("step", "best_step", "best_total", "n_worse", "elapsed_s", "history")
"""Fields of a state that are no tensors."""


def write_checkpoint(path: Path, state: FitState, identity: str, extra: Mapping[str, float]) -> None:
    """Store a complete state, so that a resumed run ends with the same weights.

    Parameters
    ----------
    identity : str
        What must not change between a run and its resumption.
    extra : mapping of str to float
        What else the method has to remember.
    """
    from napari_cellenhance.zoo.weights import save_state

    groups = {
        "module": state.module, "best": state.best, "first": state.first_moment, "second": state.second_moment,
        "average": state.average,
    }  # fmt: skip
    tensors = {f"{group}/{name}": tensor for group, part in groups.items() for name, tensor in part.items()}
    scalars = {
        "step": state.step, "best_step": state.best_step, "best_total": state.best_total, "n_worse": state.n_worse,
        "elapsed_s": state.elapsed_s, "history": state.history, **extra,
    }  # fmt: skip
    save_state(path, tensors, metadata={"identity": identity, "state": scalars})


def read_checkpoint(path: Path, identity: str) -> tuple[FitState, dict[str, float]]:
    """State and extra values of a checkpoint; a fresh state and nothing where there is none.

    Raises
    ------
    ParameterError
        The checkpoint is of other settings or images.
    """
    from napari_cellenhance.core.training import FitState
    from napari_cellenhance.zoo.weights import load_state, read_metadata

    if not path.exists():
        return FitState(), {}
    metadata = read_metadata(path)
    if metadata.get("identity") != identity:
        raise ParameterError(
            f"{path} belongs to a training with other settings; choose another folder, or start anew without resume"
        )
    scalars = dict(metadata["state"])
    extra = {name: float(scalars.pop(name)) for name in [*scalars] if name not in _SCALARS}
    parts: dict[str, dict[str, Any]] = {"module": {}, "best": {}, "first": {}, "second": {}, "average": {}}
    for key, tensor in load_state(path).items():
        group, name = key.split("/", 1)
        parts[group][name] = tensor
    state = FitState(
        **scalars,
        module=parts["module"],
        best=parts["best"],
        first_moment=parts["first"],
        second_moment=parts["second"],
        average=parts["average"],
    )
    return state, extra


def write_history(out: Path, state: FitState) -> None:
    """Write ``history.csv`` and ``history.png``."""
    from napari_cellenhance.io.curves import loss_curves_png
    from napari_cellenhance.io.safe_write import atomic_path

    columns = sorted(
        {key for row in state.history for key in row}, key=lambda k: (k != "step", k.startswith("val_"), k)
    )
    with atomic_path(out / "history.csv") as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(state.history)
    loss_curves_png(out / "history.png", state.history)
