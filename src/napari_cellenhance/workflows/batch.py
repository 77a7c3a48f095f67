"""A whole plate over night: one recipe for thousands of files, read, computed and written side by side.

While one file is computed the next one is read and the one before is written, each in a thread of its own, and never
more than one waits for the next stage: memory does not grow with the number of files. Outcomes come in the order of
the files.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar

from napari_cellenhance.core.errors import ParameterError, WriteError
from napari_cellenhance.io.run_lock import only_run
from napari_cellenhance.workflows._batch_files import (
    Loaded,
    TableKind,
    read_file,
    refuse_strangers,
    write_file,
)
from napari_cellenhance.workflows._batch_journal import LOCK, Finished, Journal
from napari_cellenhance.workflows._batch_outcomes import Clock, done, failed, is_hopeless, size_of, skipped, text_of
from napari_cellenhance.workflows._batch_plan import Task, plan_tasks
from napari_cellenhance.workflows._batch_report import OBJECTS, REPORT, BatchOutcome, write_report
from napari_cellenhance.workflows._batch_steps import Machine, Made, OpenedRecipe, beside_of, open_recipe
from napari_cellenhance.workflows.batch_recipe import Recipe, fingerprint, write_recipe
from napari_cellenhance.workflows.cluster import Cluster
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress

__all__ = ["BatchOutcome", "BatchRequest", "BatchResult", "Cluster", "FileNews", "Machine", "no_news", "run"]

Stage = Literal["waiting", "computing", "writing", "done", "skipped", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRequest:
    """Apply a recipe to many files.

    Parameters
    ----------
    source : path
        A folder, a pattern such as ``plate1/*.tif``, a text file that lists images, or one image.
    target : path
        Folder for the results, made if missing.
    recipe : Recipe
    is_recursive : bool
        Images of sub-folders too; results lie in sub-folders of the same names.
    tables : "csv" or "parquet"
        Of the objects, where the recipe measures.
    overwrite : bool
        Do everything anew, and replace what lies in the way. Else files that are finished are skipped, and results that
        no batch wrote are left alone. The originals are never replaced.
    machine : Machine
        Device, precision and memory.
    cluster : Cluster or None
        Whose workers do the files; None does them here.
    """

    source: str | os.PathLike[str]
    target: str | os.PathLike[str]
    recipe: Recipe
    is_recursive: bool = False
    tables: TableKind = "csv"
    overwrite: bool = False
    machine: Machine = field(default_factory=Machine)
    cluster: Cluster | None = None

    def __post_init__(self) -> None:
        if self.tables not in ("csv", "parquet"):
            raise ParameterError(f"tables are {self.tables!r}; expected csv or parquet")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """What became of a batch.

    Parameters
    ----------
    outcomes : tuple of BatchOutcome
        One per file that was begun or skipped, in order.
    n_files : int
        Of the batch, those included that were not begun.
    is_complete : bool
        False after a cancel, or where going on made no sense.
    stopped_by : str
        The reason for the latter (the disk is full), else empty.
    report, objects : Path or None
        Report (JSON; a CSV is beside it), and the joined table of objects.
    """

    outcomes: tuple[BatchOutcome, ...]
    n_files: int
    is_complete: bool = True
    stopped_by: str = ""
    report: Path | None = None
    objects: Path | None = None

    @property
    def n_failed(self) -> int:
        """Files without a result."""
        return sum(outcome.state == "failed" for outcome in self.outcomes)

    @property
    def n_skipped(self) -> int:
        """Files that were finished before."""
        return sum(outcome.state == "skipped" for outcome in self.outcomes)

    @property
    def n_doubted(self) -> int:
        """Results that the guards doubt."""
        return sum(outcome.check == "doubt" for outcome in self.outcomes)

    @property
    def n_done(self) -> int:
        """Files that were finished now."""
        return sum(outcome.state == "done" for outcome in self.outcomes)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileNews:
    """Where one file is: its place in the batch, its stage, and how much of it is computed (0…1)."""

    index: int
    name: str
    stage: Stage
    share: float = 0.0
    outcome: BatchOutcome | None = None


Found = TypeVar("Found")
OnNews = Callable[[FileNews], None]
OnOutcome = Callable[[BatchOutcome], None]


def no_news(news: FileNews) -> None:
    """Ignore it."""


def _no_outcome(outcome: BatchOutcome) -> None:
    """Ignore the outcome."""


def run(
    request: BatchRequest,
    *,
    on_progress: OnProgress = no_progress,
    on_outcome: OnOutcome = _no_outcome,
    on_news: OnNews = no_news,
    is_cancelled: IsCancelled = never_cancelled,
) -> BatchResult:
    """Apply the recipe to every file; one that fails is recorded, and the next one starts.

    Parameters
    ----------
    request : BatchRequest
    on_progress : callable
        Files finished of all files, the file in hand, and the time that is left.
    on_outcome : callable
        Called after each file, in their order, from the thread of the caller.
    on_news : callable
        Called when a file comes to another stage, and while it is computed.
    is_cancelled : callable
        Asked between files: the file in hand is finished and written.

    Raises
    ------
    ParameterError
        No images; results that would replace originals or each other.
    WriteError
        The folder of the results cannot be made or written.
    ModelNotFoundError, DownloadError, ChecksumError, DeviceError
        A model of the recipe cannot be had; nothing was begun.
    BusyError
        Another batch is writing to the same folder.
    MissingExtraError
        Parquet without pyarrow, or a cluster without dask.distributed.
    ClusterError
        No scheduler, workers with other versions, or all of them lost; what is finished stays.
    """
    recipe, out = request.recipe, Path(request.target)
    if recipe.measure and request.tables == "parquet":
        from napari_cellenhance.io.tables import check_parquet

        check_parquet()
    tasks = plan_tasks(
        request.source, out, is_recursive=request.is_recursive, has_labels=recipe.finds_objects,
        beside=beside_of(recipe), table_ending=f".{request.tables}" if recipe.measure else "",
    )  # fmt: skip
    made_by = fingerprint(recipe)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"the folder {out} cannot be made ({error.strerror}); choose another one") from error
    started = datetime.now(UTC)
    with only_run(out / LOCK, out), Journal(out) as journal:
        write_recipe(out / "batch_recipe.json", recipe)
        if request.cluster is None:
            batch = _Batch(request, tasks, journal, made_by, on_progress, on_outcome, on_news)
            batch.run(is_cancelled)
            outcomes, stopped_by = batch.outcomes, batch.stopped_by
        else:
            from napari_cellenhance.workflows._batch_cluster import run_on_cluster

            outcomes, stopped_by = run_on_cluster(
                request.cluster, request, tasks, journal, made_by, on_progress, on_outcome, on_news, is_cancelled
            )
    objects = _join(out, request, tasks, outcomes)
    report = write_report(
        out / REPORT, outcomes, recipe, n_files=len(tasks), started=started, stopped_by=stopped_by,
    )  # fmt: skip
    return BatchResult(
        outcomes=tuple(outcomes), n_files=len(tasks), is_complete=len(outcomes) == len(tasks), stopped_by=stopped_by,
        report=report, objects=objects,
    )  # fmt: skip


def _join(out: Path, request: BatchRequest, tasks: Sequence[Task], outcomes: Sequence[BatchOutcome]) -> Path | None:
    """One table of all objects, of files that were finished before too; None where nothing is measured."""
    from napari_cellenhance.io.tables import join_tables

    found = [
        task.table for task, outcome in zip(tasks, outcomes, strict=False)
        if task.table is not None and task.table in outcome.targets
    ]  # fmt: skip
    return join_tables(out / f"{OBJECTS}.{request.tables}", found) if found else None


@dataclass(frozen=True, slots=True)
class _Pending:
    """A file that is computed: its results are being written, or its outcome is known already."""

    task: Task
    started: float
    after: Future[tuple[tuple[Path, ...], Finished]] | BatchOutcome


class _Batch:
    """One run: what is read ahead, what is in hand, what is still being written. Callbacks come from its own thread."""

    def __init__(
        self,
        request: BatchRequest,
        tasks: Sequence[Task],
        journal: Journal,
        made_by: str,
        on_progress: OnProgress,
        on_outcome: OnOutcome,
        on_news: OnNews,
    ) -> None:
        self._request, self._tasks, self._journal, self._made_by = request, tasks, journal, made_by
        self._on_progress, self._on_outcome, self._on_news = on_progress, on_outcome, on_news
        self._opened: OpenedRecipe | None = None
        self._clock = Clock([size_of(task.source) for task in tasks])
        self._share = 0.0  # of the file in hand
        self.outcomes: list[BatchOutcome] = []
        self.stopped_by = ""

    def run(self, is_cancelled: IsCancelled) -> None:
        """Do every file, in order, until there is none left or somebody asks to stop."""
        todo = iter(self._tasks)
        with (
            ThreadPoolExecutor(1, "cellenhance-write") as writing,
            ThreadPoolExecutor(1, "cellenhance-read") as reading,
        ):
            ahead: deque[tuple[Task, Future[Loaded | Finished]]] = deque()
            behind: deque[_Pending] = deque()

            def read_next() -> None:
                if (task := next(todo, None)) is not None:
                    ahead.append((task, reading.submit(self._read, task)))

            read_next()
            while ahead and not is_cancelled() and not self.stopped_by:
                task, future = ahead.popleft()
                read_next()
                behind.append(self._take(task, future, writing))
                while len(behind) > 1:
                    self._settle(behind.popleft())
            for _, future in ahead:
                future.cancel()
            while behind:
                self._settle(behind.popleft())

    def _read(self, task: Task) -> Loaded | Finished:
        """In the reading thread: the image, or that it need not be done again."""
        if not self._request.overwrite:
            finished = self._journal.finished(task, self._made_by)
            if finished is not None:
                return finished
        refuse_strangers(task, (), self._journal, self._request.overwrite)
        return read_file(task)

    def _take(self, task: Task, future: Future[Loaded | Finished], writing: ThreadPoolExecutor) -> _Pending:
        """In the thread of the caller: compute, then hand over to the writing thread."""
        started = time.monotonic()
        self._tell(task, "computing", "Reading")
        loaded = _attempt(future.result)
        if isinstance(loaded, Exception):
            self._clock.skip(task.index)
            return _Pending(task, started, self._failed(task, loaded, started))
        if isinstance(loaded, Finished):
            self._clock.skip(task.index)
            return _Pending(task, started, skipped(task, loaded))
        opened = self._open()  # what it raises concerns all files
        started = time.monotonic()
        made = _attempt(lambda: opened.apply(loaded.file, task.source, lambda progress: self._on_tile(task, progress)))
        self._clock.done(task.index)
        self._share = 0.0
        if isinstance(made, Exception):
            return _Pending(task, started, self._failed(task, made, started))
        self._tell(task, "writing", "Writing")
        return _Pending(task, started, writing.submit(self._write, task, loaded, made, opened))

    def _open(self) -> OpenedRecipe:
        if self._opened is None:
            self._opened = open_recipe(self._request.recipe, self._request.machine, self._on_progress)
            self._clock.start()
        return self._opened

    def _write(self, task: Task, loaded: Loaded, made: Made, opened: OpenedRecipe) -> tuple[tuple[Path, ...], Finished]:
        return write_file(task, loaded, made, opened, self._journal, self._made_by, self._request.overwrite)

    def _settle(self, pending: _Pending) -> None:
        """Wait until a file is written, and tell what became of it."""
        task, outcome = pending.task, pending.after
        if isinstance(outcome, Future):
            written = _attempt(outcome.result)
            if isinstance(written, Exception):
                outcome = self._failed(task, written, pending.started)
            else:
                targets, finished = written
                outcome = done(task, targets, finished, time.monotonic() - pending.started)
        self.outcomes.append(outcome)
        self._on_outcome(outcome)
        self._on_news(FileNews(index=task.index, name=task.name, stage=outcome.state, share=1.0, outcome=outcome))
        self._on_progress(Progress(
            n_done=len(self.outcomes), n_total=len(self._tasks), message=task.name, eta_s=self._clock.left_s()
        ))  # fmt: skip

    def _failed(self, task: Task, error: Exception, started: float) -> BatchOutcome:
        if is_hopeless(error):
            self.stopped_by = text_of(error)  # it would be the same with every further file
        return failed(task, error, time.monotonic() - started)

    def _on_tile(self, task: Task, progress: Progress) -> None:
        if progress.n_total:
            self._share = min(1.0, progress.n_done / progress.n_total)
        self._tell(task, "computing", progress.message)

    def _tell(self, task: Task, stage: Stage, message: str) -> None:
        """Where the file in hand is, and how long all the others will take."""
        share, n_files = self._share, len(self._tasks)
        self._on_news(FileNews(index=task.index, name=task.name, stage=stage, share=share))
        text = f"{task.name} ({task.index + 1} of {n_files}): {message}"
        eta_s = self._clock.left_s(task.index, share)
        self._on_progress(Progress(n_done=len(self.outcomes), n_total=n_files, message=text, eta_s=eta_s))


def _attempt(work: Callable[[], Found]) -> Found | Exception:
    """Do something for one file; whatever goes wrong with it must not end the night."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - it becomes the outcome of this file
        return error
