"""Score the semantic filter where the truth is known exactly: objects of two kinds, two channels, objects that move.

Every training is kept as soon as it is done; a run that was stopped goes on where it was.

References
----------
.. [1] Javer & Rittscher, arXiv 1909.00691, 2019: F1 of objects, boxes and whole-image IoU of worms.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.workflows._evaluate_cells import CellStore
from napari_cellenhance.workflows._evaluate_semantic_data import (
    Channels,
    Kinds,
    Spec,
    Stage,
    digest_of,
    read_channels,
    read_kinds,
    read_spec,
    read_stage,
)
from napari_cellenhance.workflows._evaluate_semantic_methods import METHODS, Lesson, open_way
from napari_cellenhance.workflows._evaluate_semantic_mixtures import (
    lesson_of_channels,
    lesson_of_kinds,
    score_mixtures,
    tests_of_channels,
    tests_of_kinds,
)
from napari_cellenhance.workflows._evaluate_semantic_movies import (
    MOVIE_METHODS,
    make_movies,
    of_file,
    scene_finder,
    score_movies,
)
from napari_cellenhance.workflows._evaluate_semantic_scenes import Mixture
from napari_cellenhance.workflows._evaluate_semantic_tables import Cell, markdown, rows_of, write_pictures, write_tables
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress

if TYPE_CHECKING:
    from napari_cellenhance.core.device import DeviceChoice

__all__ = ["METHODS", "PARTS", "EvaluateSemanticRequest", "SemanticEvaluation", "run", "to_markdown"]

PARTS = ("mixtures", "channels", "movies")
_VERSION = 1
"""Of the method; a change makes stored results void."""
_DECIDING = (
    "scene_px", "patch_px", "n_learn", "n_tune", "n_test", "n_train_movies", "n_test_movies", "n_frames", "lag",
    "max_images", "split_seed", "n_steps", "batch_size", "learning_rate", "width", "validate_every",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateSemanticRequest:
    """What to score, and how long to train for it.

    Parameters
    ----------
    data : path
        JSON list of objects, channels and scenes: ``training/semantic-evaluate.json``.
    out : path
        Folder of the results, made if missing. Results that are there and were made with the same settings are not made
        again.
    data_root : path, optional
        What the paths in the JSON are relative to.
    parts : tuple of str
        Out of "mixtures", "channels", "movies".
    methods : tuple of str
        Out of ``METHODS``; of movies the temporal median and two semantic filters are always compared.
    movies : tuple of path
        Real movies, to look at only: their truth is not known.
    movie_axes : str
        Letters of TCZYX, S for colour, of all of them; empty: as in each file.
    crops : tuple of int
        Crops of each kind to learn from; several make a curve.
    seeds : tuple of int
        Each draws other crops and other weights.
    split_seed : int
        Of images, of the images to test on, and of movies.
    max_images : int
        Labelled images read of each source; 0: all.
    scene_px, patch_px : int
        Side of images to test on, and of images to learn from (a multiple of 32).
    n_learn, n_tune, n_test : int
        Images that the U-Net and the dictionaries learn from; images to choose settings on, and to test on, of each
        degree of overlap.
    n_train_movies, n_test_movies, n_frames, lag : int
    n_steps, batch_size, learning_rate, width, validate_every
        Of every training; the U-Net has two thirds of the width.
    """

    data: str | os.PathLike[str] = ""
    out: str | os.PathLike[str] = ""
    data_root: str | os.PathLike[str] | None = None
    parts: tuple[str, ...] = PARTS
    methods: tuple[str, ...] = tuple(METHODS)
    movies: tuple[str | os.PathLike[str], ...] = ()
    movie_axes: str = ""
    crops: tuple[int, ...] = (100,)
    seeds: tuple[int, ...] = (0, 1)
    split_seed: int = 0
    max_images: int = 24
    scene_px: int = 128
    patch_px: int = 64
    n_learn: int = 64
    n_tune: int = 4
    n_test: int = 12
    n_train_movies: int = 16
    n_test_movies: int = 8
    n_frames: int = 7
    lag: int = 1
    n_steps: int = 250
    batch_size: int = 8
    learning_rate: float = 1e-3
    width: int = 48
    validate_every: int = 50
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    def __post_init__(self) -> None:
        for name, given, known in (("methods", self.methods, tuple(METHODS)), ("parts", self.parts, PARTS)):
            unknown = sorted(set(given) - set(known))
            if unknown:
                raise ParameterError(f"there are no {name} called {', '.join(unknown)}; expected some of {known}")
        if not self.methods or not (self.parts or self.movies):
            raise ParameterError("there is nothing to do; choose a method, and a part or a movie")
        if not self.seeds or min(self.seeds) < 0 or self.split_seed < 0:
            raise ParameterError(f"seeds are {self.seeds} and {self.split_seed}; expected at least one, 0 or more each")
        if not self.crops or min(self.crops) < 2:
            raise ParameterError(f"crops are {self.crops}; expected numbers from 2: one teaches, another one checks")
        if self.patch_px < 32 or self.patch_px % 32 or self.scene_px < self.patch_px:
            raise ParameterError(
                f"images of {self.patch_px} px to learn from and of {self.scene_px} px to test on; expected a multiple "
                "of 32, and images to test on that are not smaller"
            )
        counts = (
            self.n_learn, self.n_tune, self.n_test, self.n_train_movies, self.n_test_movies, self.n_steps,
            self.batch_size, self.width, self.validate_every, self.lag,
        )  # fmt: skip
        if min(counts) < 1 or self.max_images < 0 or self.n_frames < max(3, 1 + self.lag):
            raise ParameterError(
                f"counts are {counts}, {self.n_frames} frames; expected 1 or more each, 3 frames and more than the lag"
            )


@dataclass(slots=True, kw_only=True)
class SemanticEvaluation:
    """What was found.

    Parameters
    ----------
    cells : list of Cell
        One for each training.
    n_found : int
        Cells that an earlier run had made.
    is_complete : bool
        False after a stop; finished cells are kept.
    seconds : float
    """

    cells: list[Cell] = field(default_factory=list)
    n_found: int = 0
    is_complete: bool = True
    seconds: float = 0.0

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Scores of every cell, by degree of overlap."""
        return rows_of(self.cells)


Work = Callable[[Callable[[int], None], IsCancelled], Cell | None]
"""What is called after every update, and what asks whether to stop → the filled cell."""


@dataclass(frozen=True, slots=True)
class _Job:
    """A cell that is to be filled: what decides it, and the work; which is None after a cancel."""

    cell: Cell
    data: str
    work: Work


def run(
    request: EvaluateSemanticRequest,
    *,
    on_progress: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
) -> SemanticEvaluation:
    """Train and score everything; tables in ``request.out`` are renewed after each training, pictures at the end.

    Raises
    ------
    ImageError
        Data that cannot be read, or that hold no objects of the sizes asked for.
    ParameterError
        No folder for the results.
    TrainingError
        A first loss that is not finite.
    WriteError
        The folder or a file in it cannot be written.
    """
    from napari_cellenhance.workflows.device_check import choose_checked_device

    if not os.fspath(request.out):
        raise ParameterError("there is no folder for the results; name one")
    started = time.monotonic()
    choice, store = choose_checked_device(request.device, request.precision), CellStore(Path(request.out) / "cells")
    on_progress(Progress(n_done=0, n_total=0, message="Reading the images"))
    jobs, result = list(_jobs(request, choice)), SemanticEvaluation()
    for number, job in enumerate(jobs):
        title = f"{job.cell.task}, {job.cell.method}, {job.cell.n_crops} crops, seed {job.cell.seed}"

        def tell(step: int, number: int = number, title: str = title) -> None:
            on_progress(Progress(n_done=number, n_total=len(jobs), message=f"{title}, update {step}"))

        identity = _identity(request, job, choice.precision)
        stored, cell = store.find(identity), None
        if stored is not None:
            result.n_found += 1
            cell = replace(job.cell, result=stored, example=store.example(identity))
        elif not is_cancelled():
            tell(0)
            begun = time.monotonic()
            cell = job.work(tell, is_cancelled)
            if cell is not None:
                cell = replace(cell, result=cell.result | {"seconds": time.monotonic() - begun})
                store.keep(identity, cell.result, cell.example)
        if cell is None:
            result.is_complete = False
            break
        result.cells.append(cell)
        result.seconds = time.monotonic() - started
        if stored is None:
            write_tables(result, request)
    if result.cells:
        write_tables(result, request)
        write_pictures(result, request)
    return result


def _identity(request: EvaluateSemanticRequest, job: _Job, precision: str) -> dict[str, Any]:
    """Everything that decides a result, but for the kind of processor."""
    cell = job.cell
    return {
        "version": _VERSION, "data": job.data, "precision": precision, "part": cell.part, "task": cell.task,
        "method": cell.method, "n_crops": cell.n_crops, "seed": cell.seed,
        **{name: getattr(request, name) for name in _DECIDING},
    }  # fmt: skip


def _jobs(request: EvaluateSemanticRequest, choice: DeviceChoice) -> Iterator[_Job]:
    """Seed by seed, so that early results can be compared; images are put together when they are needed."""
    spec = read_spec(request.data) if request.parts else Spec()
    root = Path(request.data).parent if request.data_root is None else Path(request.data_root)
    groups: list[Callable[[int], Iterator[_Job]]] = []
    if "mixtures" in request.parts:
        for mixture in spec.mixtures:
            kinds = read_kinds(mixture, root, request.max_images, request.split_seed)
            groups.append(_of_kinds(request, kinds, choice))
    if "channels" in request.parts:
        groups += [_of_channels(request, read_channels(one, root), choice) for one in spec.channels]
    if "movies" in request.parts:
        for movie in spec.movies:
            groups.append(_of_movies(request, read_stage(movie, root, request.max_images, request.split_seed)))
    for seed in request.seeds:
        for group in groups:
            yield from group(seed)
    for path in request.movies:
        yield _of_file(request, Path(path))


def _of_kinds(request: EvaluateSemanticRequest, kinds: Kinds, choice: DeviceChoice) -> Callable[[int], Iterator[_Job]]:
    data = digest_of(kinds.train, kinds.test, kinds.spec)
    mixtures = cache(lambda: tests_of_kinds(kinds, request))
    lessons = cache(lambda n, seed: lesson_of_kinds(kinds, request, n, seed))

    def jobs(seed: int) -> Iterator[_Job]:
        for n in sorted(set(request.crops)):
            for method in dict.fromkeys(request.methods):
                cell = Cell(part="mixtures", task=kinds.spec.name, method=method, n_crops=n, seed=seed)
                yield _Job(cell, data, _mixed(request, cell, partial(lessons, n, seed), mixtures, choice))

    return jobs


def _of_channels(
    request: EvaluateSemanticRequest, channels: Channels, choice: DeviceChoice
) -> Callable[[int], Iterator[_Job]]:
    data = digest_of(channels.train, channels.test, channels.spec)
    mixtures = cache(lambda: tests_of_channels(channels, request))
    lesson = cache(lambda: lesson_of_channels(channels, request))

    def jobs(seed: int) -> Iterator[_Job]:
        for method in dict.fromkeys(request.methods):
            cell = Cell(part="channels", task=channels.spec.name, method=method, n_crops=0, seed=seed)
            yield _Job(cell, data, _mixed(request, cell, lesson, mixtures, choice))

    return jobs


def _mixed(
    request: EvaluateSemanticRequest, cell: Cell, lesson: Callable[[], Lesson], mixtures: Callable[[], list[Mixture]],
    choice: DeviceChoice,
) -> Work:  # fmt: skip
    def work(on_step: Callable[[int], None], is_cancelled: IsCancelled) -> Cell | None:
        way = open_way(cell.method, lesson(), request, cell.seed, choice, on_step=on_step, is_cancelled=is_cancelled)
        if way is None:
            return None
        rows, example = score_mixtures(way, mixtures())
        return replace(cell, result={"rows": rows, "setting": way.setting}, example=example)

    return work


def _of_movies(request: EvaluateSemanticRequest, stage: Stage) -> Callable[[int], Iterator[_Job]]:
    data = digest_of(stage.train, stage.test, stage.spec)
    movies = cache(lambda: make_movies(stage, request))

    def work(cell: Cell, on_step: Callable[[int], None], is_cancelled: IsCancelled) -> Cell | None:
        train, test = movies()
        find = scene_finder(cell.method, train, test, request, cell.seed, on_step=on_step, is_cancelled=is_cancelled)
        if find is None:
            return None
        scores, setting, example = score_movies(find, train, test)
        return replace(cell, result={"rows": [{"level": "", **scores}], "setting": setting}, example=example)

    def jobs(seed: int) -> Iterator[_Job]:
        for method in MOVIE_METHODS:
            cell = Cell(part="movies", task=stage.spec.name, method=method, n_crops=0, seed=seed)
            yield _Job(cell, data, partial(work, cell))

    return jobs


def _of_file(request: EvaluateSemanticRequest, path: Path) -> _Job:
    from napari_cellenhance.zoo.folders import sha256_of

    cell = Cell(part="files", task=path.name, method="semantic", n_crops=0, seed=request.seeds[0])

    def work(on_step: Callable[[int], None], is_cancelled: IsCancelled) -> Cell | None:
        example = of_file(os.fspath(path), request, on_step=on_step, is_cancelled=is_cancelled)
        return None if example is None else replace(cell, result={"rows": []}, example=example)

    return _Job(cell, sha256_of(path), work)


def to_markdown(result: SemanticEvaluation) -> str:
    """A table for each data set."""
    return markdown(result.cells)
