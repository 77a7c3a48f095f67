"""The course of any training: what is asked of the loop, how long it takes, what is shown and kept while it runs."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import numpy as np

from napari_cellenhance.core.errors import ParameterError, TrainingError
from napari_cellenhance.core.recipes.protocol import Region
from napari_cellenhance.workflows._settings_file import CHECKPOINT, remember
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress
from napari_cellenhance.workflows.train_progress import Report, TrainResult

if TYPE_CHECKING:
    from napari_cellenhance.core.training import FitSettings, FitState, TrainableRecipe
    from napari_cellenhance.zoo.cards import ModelCard

__all__ = [
    "LOOP_FIELDS",
    "Glimpse",
    "Look",
    "LoopRequest",
    "OnGlimpse",
    "Showing",
    "ViewedWindow",
    "Watch",
    "checkpoint_of",
    "fit_settings",
    "pace",
    "run_course",
    "run_loop",
    "threads",
    "timed",
]

GLIMPSE_EVERY_S = 4.0
_GLIMPSE_SHARE = 0.2
"""Largest share of the time that showing the state of things may take."""
_N_MEASURED = 3
_LEAST_STEPS = 8
_N_VALIDATIONS = 8

LOOP_FIELDS = (
    "init_from", "n_steps", "batch_size", "learning_rate", "validate_every", "patience", "average", "keep", "seed",
    "precision", "recipe_options",
)  # fmt: skip
"""Fields of every request that a folder keeps beside its checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopRequest:
    """What every training is told, whatever the method.

    Parameters
    ----------
    out : path
        Folder for the weights, the card, the curves and the checkpoint; made if missing.
    model_id : str
        Of the model that is made; begins the names of its files.
    init_from : str, optional
        Id of a model to start from. Default: random weights.
    n_steps : int
        Updates; 0 derives them from ``time_limit_s``.
    time_limit_s : float
        Used where ``n_steps`` is 0: as many updates as fit, measured on the first ones.
    stop_after : int
        End at this update of the ``n_steps`` that the learning rate is scheduled for; 0 runs them all.
    learning_rate : float
        Of Adam; 0 leaves it to the method.
    n_threads : int
        Threads to compute with; 0 takes what torch takes.
    install : bool
        Also store the model in the user's models folder, so that every list of models shows it.
    recipe_options : dict
        Further fields of the settings of the recipe.
    """

    out: str | os.PathLike[str]
    model_id: str = "custom"
    init_from: str | None = None
    n_steps: int = 600
    time_limit_s: float = 0.0
    stop_after: int = 0
    batch_size: int = 4
    learning_rate: float = 0.0
    validate_every: int = 50
    patience: int = 0
    average: float = 0.0
    keep: Literal["best", "last"] = "best"
    seed: int = 0
    device: str = "cpu"
    precision: str = "auto"
    n_threads: int = 0
    resume: bool = False
    install: bool = True
    recipe_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.n_threads < 0:
            raise ParameterError(f"{self.n_threads} threads were asked for; expected 0 (as torch likes) or more")
        if not 0 <= self.learning_rate < 1:
            raise ParameterError(f"learning rate is {self.learning_rate}; expected 0 (automatic) or a small number")
        if self.n_steps < 0 or self.time_limit_s < 0 or (self.n_steps == 0 and self.time_limit_s == 0):
            raise ParameterError(
                f"{self.n_steps} updates in {self.time_limit_s:g} s; give a number of updates, or 0 and a time"
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ViewedWindow:
    """What somebody looks at while a training runs.

    Parameters
    ----------
    plane : ndarray of shape (Y, X)
        In its own dtype; normalised here as in training.
    region : Region
        Window of the plane; the rest is its context.
    key : object
        Handed back with the glimpse, so that it finds its place.
    """

    plane: Any
    region: Region
    key: Any = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Glimpse:
    """The window as the network makes it now: a ``Segmentation``, or a restored image in grey values."""

    shown: Any
    window: ViewedWindow
    step: int


OnGlimpse = Callable[[Glimpse], None]
Look = Callable[[], ViewedWindow | None]


class Setup(Protocol):
    """A training that is ready to begin."""

    @property
    def request(self) -> LoopRequest:
        """With the number of updates that the time limit allows."""
        ...

    @property
    def recipe(self) -> TrainableRecipe:
        """What is trained."""
        ...

    @property
    def fit_settings(self) -> FitSettings:
        """How."""
        ...

    @property
    def identity(self) -> str:
        """JSON of all that must not change between a run and its resumption."""
        ...

    def show(self, window: ViewedWindow) -> Any:
        """The window as the network makes it now."""
        ...


def checkpoint_of(out: str | os.PathLike[str]) -> Path:
    """Checkpoint of a training whose folder is ``out``; it may not be there."""
    return Path(out) / CHECKPOINT


@contextmanager
def threads(n_threads: int) -> Iterator[None]:
    """Let torch compute with this many threads; 0 leaves it as it is."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(n_threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fit_settings(request: LoopRequest, learning_rate: float, **more: Any) -> FitSettings:
    """Settings of the loop; ``learning_rate`` is used where the request leaves it open."""
    from napari_cellenhance.core.training import FitSettings

    return FitSettings(
        n_steps=request.n_steps, learning_rate=request.learning_rate or learning_rate,
        validate_every=request.validate_every, patience=request.patience, average=request.average, keep=request.keep,
        seed=request.seed, n_warmup=min(50, max(1, request.n_steps // 10)), **more,
    )  # fmt: skip


AnyRequest = TypeVar("AnyRequest", bound=LoopRequest)


def timed(request: AnyRequest, recipe: TrainableRecipe) -> AnyRequest:
    """As many updates as fit into the time limit, measured on a copy that is thrown away."""
    step_s, validation_s = pace(recipe)
    for_updates = request.time_limit_s - _N_VALIDATIONS * validation_s - (_N_MEASURED + 1) * step_s
    n_steps = max(_LEAST_STEPS, int(for_updates / step_s))
    return replace(request, n_steps=n_steps, validate_every=max(1, n_steps // _N_VALIDATIONS))


def pace(recipe: TrainableRecipe) -> tuple[float, float]:
    """Seconds of one update and of one validation; the network is left as it was."""
    kept = copy.deepcopy(recipe.module.state_dict())
    recipe.module.train()
    times = []
    for i in range(_N_MEASURED + 1):
        begun = time.monotonic()
        loss = recipe.loss(np.random.default_rng([0, i]), i)
        loss["total"].backward()  # type: ignore[no-untyped-call]
        times.append(time.monotonic() - begun)
    recipe.module.zero_grad(set_to_none=True)
    begun = time.monotonic()
    recipe.validate()
    validation_s = time.monotonic() - begun
    recipe.module.load_state_dict(kept)
    return float(np.median(times[1:])), validation_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Who is told of a training, and who may end it; as in the ``run`` of every training."""

    on_progress: OnProgress
    is_cancelled: IsCancelled
    is_discarded: IsCancelled
    look: Look
    on_glimpse: OnGlimpse


AnySetup = TypeVar("AnySetup", bound=Setup)
AnyResult = TypeVar("AnyResult", bound=TrainResult)


def run_course(
    request: AnyRequest,
    watch: Watch,
    remembered: tuple[str, ...],
    result_type: type[AnyResult],
    *,
    prepare: Callable[[AnyRequest], AnySetup],
    publish: Callable[[AnySetup, FitState, str], tuple[ModelCard, Mapping[str, Any]]],
    known: Callable[[AnySetup, FitState], Mapping[str, Any]] = lambda setup, ended: {},
) -> AnyResult:
    """The whole course of a training: prepare, train, and publish unless it was discarded.

    Parameters
    ----------
    remembered : tuple of str
        As for :func:`run_loop`.
    result_type : type
        Of what comes back.
    prepare, publish : callable
        What the method does before the first and after the last update; ``publish`` also gives fields of the result.
    known : callable
        Fields of the result that are known of a discarded training, too.
    """
    from napari_cellenhance.core.memory import keep_memory

    keep_memory()
    out = Path(request.out)
    with threads(request.n_threads):
        watch.on_progress(Progress(n_done=0, n_total=request.n_steps, message="Reading the images"))
        setup = prepare(request)
        ended, stopped = run_loop(
            setup, remembered, on_progress=watch.on_progress,
            is_ended=lambda: watch.is_cancelled() or watch.is_discarded(), look=watch.look, on_glimpse=watch.on_glimpse,
        )  # fmt: skip
        fields: dict[str, Any] = {
            "model_id": request.model_id, "weights": None, "card": None, "history": out / "history.csv",
            "stopped": "discarded", "best_step": ended.best_step, "best_total": ended.best_total,
        } | dict(known(setup, ended))  # fmt: skip
        if not watch.is_discarded():
            card, more = publish(setup, ended, stopped)
            fields |= {"weights": out / card.file.name, "card": out / f"{card.id}.json", "stopped": stopped, **more}
    return result_type(**fields)


def run_loop(
    setup: Setup,
    remembered: tuple[str, ...],
    *,
    on_progress: OnProgress,
    is_ended: IsCancelled,
    look: Look,
    on_glimpse: OnGlimpse,
) -> tuple[FitState, str]:
    """Train, with checkpoint, history and glimpses; the module ends with the weights that are kept.

    Parameters
    ----------
    remembered : tuple of str
        Fields of the request that the folder keeps beside the checkpoint.

    Returns
    -------
    state : FitState
    stopped : str
        As in ``core.training.FitResult``.

    Raises
    ------
    ParameterError
        A checkpoint of other settings or other data.
    TrainingError
        The loss is not a number before anything was learned.
    """
    from napari_cellenhance.core.training import FitState, fit
    from napari_cellenhance.workflows._checkpoint import read_checkpoint, write_checkpoint, write_history

    request = setup.request
    out = Path(request.out)
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = checkpoint_of(out)
    state = read_checkpoint(checkpoint, setup.identity)[0] if request.resume else FitState()
    remember(request.out, request, remembered)
    report = Report(setup.fit_settings.n_steps, on_progress, state)
    showing = Showing(setup, look, on_glimpse)
    showing.show(state.step)

    def on_step(state: FitState, row: dict[str, float]) -> None:
        report.step(state, row)
        showing.show(state.step)

    def on_checkpoint(state: FitState) -> None:
        write_checkpoint(checkpoint, state, setup.identity, {})
        write_history(out, state)

    result = fit(
        setup.recipe, setup.fit_settings, state=state, on_step=on_step, on_checkpoint=on_checkpoint,
        is_cancelled=lambda: is_ended() or 0 < request.stop_after <= state.step,
    )  # fmt: skip
    if not result.state.best:
        raise TrainingError(
            "the loss became something that is no number before the first validation, so there is no model to keep; "
            "use a tenth of the learning rate, and look for broken images"
        )
    return result.state, result.stopped


class Showing:
    """Shows what somebody looks at, now and then, as the network makes it."""

    def __init__(self, setup: Setup, look: Look, on_glimpse: OnGlimpse) -> None:
        self._setup = setup
        self._look = look
        self._on_glimpse = on_glimpse
        self._next = 0.0

    def show(self, step: int) -> None:
        """Show the window if it is time to; leaves the network in the mode it was in."""
        if time.monotonic() < self._next:
            return
        window = self._look()
        if window is None:
            return
        begun = time.monotonic()
        self._on_glimpse(Glimpse(shown=self._setup.show(window), window=window, step=step))
        took = time.monotonic() - begun
        self._next = time.monotonic() + max(GLIMPSE_EVERY_S, took / _GLIMPSE_SHARE)
