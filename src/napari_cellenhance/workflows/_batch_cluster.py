"""A batch on the workers of a cluster: one of them reads, computes and writes a file; the journal is written here.

Where a worker dies, its file goes to another one. Files that were finished before are found here, and never sent.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_cellenhance.core.errors import CellEnhanceError, ClusterError, ImageError, TargetExistsError
from napari_cellenhance.io.safe_write import sweep
from napari_cellenhance.workflows._batch_checks import checked, level_of
from napari_cellenhance.workflows._batch_files import (
    Written,
    read_file,
    refuse_strangers,
    results_of,
    targets_of,
    write_results,
)
from napari_cellenhance.workflows._batch_journal import Finished, Journal, Stamp
from napari_cellenhance.workflows._batch_outcomes import Clock, done, failed, is_hopeless, size_of, skipped, text_of
from napari_cellenhance.workflows._batch_plan import Task
from napari_cellenhance.workflows._batch_report import BatchOutcome
from napari_cellenhance.workflows._batch_steps import Machine, OpenedRecipe, beside_of, open_recipe
from napari_cellenhance.workflows.batch_recipe import Recipe, fingerprint
from napari_cellenhance.workflows.cluster import (
    Cluster,
    Crew,
    News,
    connect,
    device_here,
    refuse_other_software,
    software,
)
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, no_progress

if TYPE_CHECKING:
    from napari_cellenhance.workflows.batch import BatchRequest, OnNews, OnOutcome, Stage

__all__ = ["Failed", "Job", "Made", "NoRecipe", "do_file", "open_once", "run_on_cluster"]

_AHEAD = 2
"""Files per thread that are handed out at a time: one in hand, one to come."""


def run_on_cluster(
    cluster: Cluster,
    request: BatchRequest,
    tasks: Sequence[Task],
    journal: Journal,
    made_by: str,
    on_progress: OnProgress,
    on_outcome: OnOutcome,
    on_news: OnNews,
    is_cancelled: IsCancelled,
) -> tuple[list[BatchOutcome], str]:
    """Do every file; outcomes come in the order of the files, from the thread of the caller.

    Returns
    -------
    list of BatchOutcome
    str
        Why going on made no sense; empty where it did.

    Raises
    ------
    MissingExtraError, ClusterError
        As for :func:`napari_cellenhance.workflows.cluster.connect`, or workers that are lost for good.
    ModelNotFoundError, DownloadError, ChecksumError, DeviceError
        A worker cannot open the recipe.
    """

    def note(text: str) -> None:
        on_progress(Progress(n_done=0, n_total=0, message=text))

    with connect(cluster, note, is_cancelled) as crew:
        batch = _ClusterBatch(crew, request, tasks, journal, made_by, on_progress, on_outcome, on_news)
        batch.run(is_cancelled)
        # All that was handed out has ended: what lies there half-written was left by workers that died.
        for folder in {task.image.parent for task in tasks if task.image.parent.is_dir()}:
            sweep(folder)
        return batch.outcomes, batch.stopped_by


class _ClusterBatch:
    """One run: what is handed out, and outcomes that wait for those before them."""

    def __init__(
        self,
        crew: Crew,
        request: BatchRequest,
        tasks: Sequence[Task],
        journal: Journal,
        made_by: str,
        on_progress: OnProgress,
        on_outcome: OnOutcome,
        on_news: OnNews,
    ) -> None:
        self._crew, self._request, self._tasks, self._journal, self._made_by = crew, request, tasks, journal, made_by
        self._on_progress, self._on_outcome, self._on_news = on_progress, on_outcome, on_news
        self._job = Job(request.recipe, request.machine, made_by, software())
        self._names = beside_of(request.recipe)
        self._clock = Clock([size_of(task.source) for task in tasks])
        self._pending: dict[int, float] = {}
        self._waiting: dict[int, BatchOutcome] = {}
        self._error: Exception | None = None
        self.outcomes: list[BatchOutcome] = []
        self.stopped_by = ""

    def run(self, is_cancelled: IsCancelled) -> None:
        """Do every file, until there is none left or somebody asks to stop; files in hand are finished."""
        self._clock.start()
        todo = iter(self._tasks)
        is_over = False
        while not is_over or self._pending:
            is_over = is_over or is_cancelled() or bool(self.stopped_by) or self._error is not None
            while not is_over and len(self._pending) < _AHEAD * max(1, self._crew.n_threads):
                task = next(todo, None)
                if task is None:
                    is_over = True
                else:
                    self._begin(task)
            news = self._crew.next() if self._pending else None
            if news is None and is_cancelled() and not self._crew.n_workers:
                self._pending.clear()  # nobody is left to end them
            if news is not None and news.future is not None:
                self._take(self._tasks[news.key], news)
        if self._error is not None:
            raise self._error

    def _begin(self, task: Task) -> None:
        try:
            finished = None if self._request.overwrite else self._journal.finished(task, self._made_by)
            if finished is not None:
                self._clock.skip(task.index)
                self._end(task, skipped(task, finished))
                return
            refuse_strangers(task, self._names, self._journal, self._request.overwrite)
            self._journal.begin(task, results_of(task, self._names))
        except (TargetExistsError, ImageError) as error:
            self._clock.skip(task.index)
            self._end(task, failed(task, error, 0.0))
            return
        self._pending[task.index] = time.monotonic()
        self._tell(task, "computing")
        self._crew.submit(task.index, do_file, self._job, _with_absolute_paths(task))

    def _take(self, task: Task, news: News) -> None:
        seconds = time.monotonic() - self._pending.pop(task.index)
        self._clock.done(task.index)
        try:
            told = self._crew.result_of(news.future)
            if isinstance(told, NoRecipe):
                self._error = self._error or told.error
                return
            if isinstance(told, Failed):
                self.stopped_by = self.stopped_by or (text_of(told.error) if told.is_hopeless else "")
                outcome = failed(task, told.error, told.seconds)
            else:
                written = told.written
                finished = Finished(
                    told.stamp, self._made_by, written.sizes, written.n_objects, told.warnings, told.check
                )
                self._journal.finish(task, finished)
                outcome = done(task, targets_of(task, written.sizes), finished, told.seconds)
        except ClusterError as error:
            if self._crew.client.status != "running":
                raise
            outcome = failed(task, error, seconds)  # workers died over this file; others may be all right
        except Exception as error:  # noqa: BLE001 - it becomes the outcome of this file
            outcome = failed(task, error, seconds)
            self.stopped_by = self.stopped_by or (text_of(error) if is_hopeless(error) else "")
        self._end(task, outcome)

    def _end(self, task: Task, outcome: BatchOutcome) -> None:
        """Hand an outcome on as soon as all before it are known."""
        self._waiting[task.index] = outcome
        while (ready := self._waiting.pop(len(self.outcomes), None)) is not None:
            index = len(self.outcomes)
            self.outcomes.append(ready)
            self._on_outcome(ready)
            self._on_news(
                news_of(self._tasks[index], ready.state, outcome=ready),
            )
        self._report(task.name)

    def _tell(self, task: Task, stage: Stage) -> None:
        self._on_news(news_of(task, stage))
        self._report(task.name)

    def _report(self, message: str) -> None:
        n_done = len(self.outcomes) + len(self._waiting)
        self._on_progress(
            Progress(n_done=n_done, n_total=len(self._tasks), message=message, eta_s=self._clock.left_s())
        )


def news_of(task: Task, stage: Stage, outcome: BatchOutcome | None = None) -> Any:
    """Where a file is."""
    from napari_cellenhance.workflows.batch import FileNews

    share = 0.0 if outcome is None else 1.0
    return FileNews(index=task.index, name=task.name, stage=stage, share=share, outcome=outcome)


def _with_absolute_paths(task: Task) -> Task:
    """The same for processes that are at home in another folder."""
    found = {one.name: getattr(task, one.name) for one in dataclasses.fields(task)}
    paths: dict[str, Any] = {
        name: Path(os.path.abspath(path)) for name, path in found.items() if isinstance(path, Path)
    }
    return dataclasses.replace(task, **paths)


# --- on a worker ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker must know of a batch."""

    recipe: Recipe
    machine: Machine
    made_by: str
    software: dict[str, str]


@dataclass(frozen=True, slots=True)
class Made:
    """What became of a file; the seconds are those of the worker, without waiting for its turn."""

    written: Written
    stamp: Stamp
    warnings: tuple[str, ...]
    check: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a file has no result."""

    error: Exception
    is_hopeless: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class NoRecipe:
    """Why no file can have one here."""

    error: Exception


_COMPUTING = threading.Lock()
"""A process computes one file at a time, however many threads it has; others read and write meanwhile."""


def do_file(job: Job, task: Task) -> Made | Failed | NoRecipe:
    """Read, compute and write one file; what goes wrong with it is returned."""
    try:
        refuse_other_software(job.software, software(), "a worker")
        with _COMPUTING:
            opened = _opened(job)
    except Exception as error:  # noqa: BLE001 - it ends the batch, with its reason
        return NoRecipe(error)
    started = time.monotonic()
    try:
        if not task.folder.is_dir():
            raise ClusterError(
                f"a worker does not see the folder {task.folder}; put images and results into folders that all "
                "machines share under the same path"
            )
        loaded = read_file(task)
        with _COMPUTING:
            made = opened.apply(loaded.file, task.source, no_progress)
        made = checked(opened.recipe, loaded.file, made)
        written = write_results(task, loaded, made, opened)
        return Made(written, loaded.stamp, made.warnings, level_of(made), time.monotonic() - started)
    except Exception as error:
        if isinstance(error, OSError) and not isinstance(error, CellEnhanceError):
            raise  # may pass: it is tried again
        return Failed(error, is_hopeless(error), time.monotonic() - started)


def _opened(job: Job) -> OpenedRecipe:
    machine = dataclasses.replace(job.machine, device=device_here(job.machine.device))
    return open_once(_ByName(job.made_by, job.recipe), machine)


@dataclass(frozen=True, slots=True)
class _ByName:
    """A recipe that is told from others by all that decides about its pixels."""

    made_by: str
    recipe: Recipe = dataclasses.field(compare=False)


@functools.lru_cache(maxsize=1)
def open_once(named: _ByName, machine: Machine) -> OpenedRecipe:
    """Load the models of a recipe, once in a process.

    Raises
    ------
    ClusterError
        The same recipe means other weights here.
    ModelNotFoundError, DownloadError, ChecksumError, DeviceError
        A model cannot be had, or cannot run here.
    """
    if fingerprint(named.recipe) != named.made_by:
        raise ClusterError("a model has other weights on a worker than here; copy it to all machines")
    return open_recipe(named.recipe, machine, no_progress)
