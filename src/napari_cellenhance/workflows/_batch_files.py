"""One file of a batch: read it, write all that was made of it, measure its objects."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_cellenhance.core.errors import TargetExistsError
from napari_cellenhance.workflows._batch_checks import checked, level_of
from napari_cellenhance.workflows._batch_journal import Finished, Journal, Stamp
from napari_cellenhance.workflows._batch_plan import Task
from napari_cellenhance.workflows._batch_steps import Made, OpenedRecipe
from napari_cellenhance.workflows._file_results import write_result
from napari_cellenhance.workflows._measured import MeasuredImage
from napari_cellenhance.workflows.object_tables import measure_objects

if TYPE_CHECKING:
    from napari_cellenhance.io.images import ImageFile

__all__ = [
    "Loaded",
    "TableKind",
    "Written",
    "read_file",
    "refuse_strangers",
    "results_of",
    "targets_of",
    "write_file",
    "write_results",
]

TableKind = Literal["csv", "parquet"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A file in memory, and what tells whether it changes."""

    file: ImageFile
    stamp: Stamp


def read_file(task: Task) -> Loaded:
    """Read the image of a task.

    Raises
    ------
    ImageError, OSError
        It cannot be read.
    """
    from napari_cellenhance.io.images import read

    return Loaded(read(task.source), Stamp.of(task.source))


def results_of(task: Task, names: tuple[str, ...]) -> tuple[Path, ...]:
    """All files that a task may write, the image last."""
    first = [*(task.beside(name) for name in names), task.labels, task.table]
    return (*(path for path in first if path is not None), task.image)


def refuse_strangers(task: Task, names: tuple[str, ...], journal: Journal, overwrite: bool) -> None:
    """Refuse to replace files that no batch made of the same image.

    Raises
    ------
    TargetExistsError
        One is there already.
    """
    for path in results_of(task, names):
        if path.exists() and not overwrite and not journal.is_of(path, task.source):
            raise TargetExistsError(
                f"{path} exists already, and no batch made it of this image; choose another folder, or overwrite"
            )


@dataclass(frozen=True, slots=True)
class Written:
    """What was written of one file: names below the folder of the results, with their sizes; and its objects."""

    sizes: dict[str, int]
    n_objects: int | None


def write_file(
    task: Task, loaded: Loaded, made: Made, opened: OpenedRecipe, journal: Journal, fingerprint: str, overwrite: bool
) -> tuple[tuple[Path, ...], Finished]:
    """Write everything that was made of a file, then note that it is finished.

    Raises
    ------
    WriteError
        As ``io.images.write``; files that are there already are whole, and the next run replaces them.
    """
    refuse_strangers(task, opened.names, journal, overwrite)
    journal.begin(task, results_of(task, opened.names))
    made = checked(opened.recipe, loaded.file, made)
    written = write_results(task, loaded, made, opened)
    finished = Finished(
        loaded.stamp, fingerprint, written.sizes, written.n_objects, made.warnings, check=level_of(made)
    )  # fmt: skip
    journal.finish(task, finished)
    return targets_of(task, written.sizes), finished


def targets_of(task: Task, names: Iterable[str]) -> tuple[Path, ...]:
    """Files by their names below the folder of the results."""
    return tuple(task.folder / name for name in names)


def write_results(task: Task, loaded: Loaded, made: Made, opened: OpenedRecipe) -> Written:
    """Write everything that was made of a file; the journal is the caller's.

    Raises
    ------
    WriteError
        As for :func:`write_file`.
    """
    task.image.parent.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for name in opened.names:
        if name in made.beside:
            pixels, axes = made.beside[name]
            record = made.record | {"shows": name}
            write_result(task.beside(name), pixels, axes, loaded.file, record, overwrite=True)
            written.append(task.beside(name))
    if task.labels is not None and made.labels is not None:
        write_result(task.labels, made.labels, made.labels_axes, loaded.file, made.record, overwrite=True)
        written.append(task.labels)
    n_objects = None
    if task.table is not None and made.labels is not None:
        n_objects = _write_objects(task, task.table, loaded.file, made, opened)
        written.append(task.table)
    # The image comes last: where it is, the rest is complete.
    write_result(
        task.image, made.pixels, made.axes, loaded.file, made.record, overwrite=True, dtype=opened.recipe.dtype,
        channel_names=made.channel_names,
    )  # fmt: skip
    written.append(task.image)
    return Written({path.relative_to(task.folder).as_posix(): path.stat().st_size for path in written}, n_objects)


def _write_objects(task: Task, path: Path, file: ImageFile, made: Made, opened: OpenedRecipe) -> int:
    """Table of the objects of one file; their number."""
    from napari_cellenhance.io.tables import write_parquet, write_table

    assert made.labels is not None
    first = opened.recipe.steps[0]
    images = [MeasuredImage(name="raw", image=file.image, axes=first.axes or file.axes)]
    if opened.is_of_grey_values:
        images.append(MeasuredImage(name="result", image=made.pixels, axes=made.axes))
    labels = MeasuredImage(name="labels", image=made.labels, axes=made.labels_axes)
    columns, rows = measure_objects(labels, images, file.pixel_size_um)
    named: list[dict[str, Any]] = [{"file": task.name, **row} for row in rows]
    if path.suffix == ".parquet":
        write_parquet(path, named, columns=("file", *columns))
    else:
        write_table(path, named, columns=("file", *columns))
    return len({(row["t"], row["c"], row["label"]) for row in rows})
