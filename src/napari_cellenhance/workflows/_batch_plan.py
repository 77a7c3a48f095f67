"""Which files a batch is about, and where everything that is made of each will be."""

from __future__ import annotations

import glob
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.workflows._targets import find_sources, path_beside, plan_targets

__all__ = ["Task", "plan_tasks"]

_LIST = ".txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One file of a batch.

    Parameters
    ----------
    index : int
        Place in the batch, from 0.
    name : str
        Path below the common folder, with slashes; stands in tables and reports.
    folder : Path
        Of all results.
    source, image : Path
        The file, and its result.
    labels, table : Path or None
        Of its objects, where there are any.
    """

    index: int
    name: str
    folder: Path
    source: Path
    image: Path
    labels: Path | None = None
    table: Path | None = None

    def beside(self, name: str) -> Path:
        """File of a further result."""
        return path_beside(self.image, name)


def plan_tasks(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    is_recursive: bool = False,
    has_labels: bool = False,
    beside: Sequence[str] = (),
    table_ending: str = "",
) -> tuple[Task, ...]:
    """Find the files and name their results; sub-folders are kept below ``target``.

    Parameters
    ----------
    source : path
        An image, a folder, a pattern, or a text file (``.txt``) with one path on each line, relative to its folder;
        empty lines and those that begin with # are passed over. What it lists need not exist: that is found out when
        its turn comes.
    target : path
        A folder, other than that of the images. Images below it are results, and no sources.
    is_recursive : bool
        Take the images of sub-folders of a folder too.
    has_labels : bool
        Plan a file for labels.
    beside : sequence of str
        Names of further results, which must not take the place of others.
    table_ending : str
        Plan a table with this ending, e.g. ``.csv``.

    Raises
    ------
    ParameterError
        No images, or results that would replace originals or each other.
    """
    out = Path(target)
    if out.is_file():
        raise ParameterError(f"{out} is a file; a batch needs a folder for its results")
    root, sources = _sources(Path(source), is_recursive)
    if out.resolve() == root.resolve():
        raise ParameterError(f"{out} holds the images themselves; choose another folder for the results")
    sources = tuple(path for path in sources if not path.resolve().is_relative_to(out.resolve()))
    if not sources:
        raise ParameterError(f"all images of {source} lie in the folder of the results; choose another folder")
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for path in sources:
        by_folder[_below(path.parent, root)].append(path)
    tasks: list[Task] = []
    for folder in sorted(by_folder):
        here = out / folder
        for targets in plan_targets(by_folder[folder], here, labels=here if has_labels else None, is_folder=True):
            stem = targets.image.name.removesuffix(".ome.tif")
            tasks.append(
                Task(
                    index=len(tasks), name=(folder / targets.source.name).as_posix(), folder=out,
                    source=targets.source, image=targets.image, labels=targets.labels,
                    table=here / f"{stem}_objects{table_ending}" if table_ending else None,
                )
            )  # fmt: skip
    taken = {path for task in tasks for path in (task.image, task.labels)}
    for path in (task.beside(name) for task in tasks for name in beside):
        if path in taken:
            raise ParameterError(f"two results would have the same name {path}; rename an image, or make two batches")
    return tuple(tasks)


def _sources(source: Path, is_recursive: bool) -> tuple[Path, tuple[Path, ...]]:
    """Folder that all files lie below, and the files."""
    if source.is_file() and source.suffix.lower() == _LIST:
        listed = _listed(source)
        return _common_folder(listed), listed
    found = find_sources(source, is_recursive=is_recursive)
    if source.is_dir():
        return source, found
    if source.exists() or not glob.has_magic(os.fspath(source)):
        return source.parent, found
    n_fixed = next(n for n, part in enumerate(source.parts) if glob.has_magic(part))
    return Path(*source.parts[:n_fixed]), found


def _listed(source: Path) -> tuple[Path, ...]:
    try:
        lines = [line.strip() for line in source.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise ParameterError(f"{source} is no list of files ({error}); expected text, one path on each line") from error
    found = [source.parent / line for line in lines if line and not line.startswith("#")]
    if not found:
        raise ParameterError(f"{source} lists no file; expected one path on each line")
    return tuple(dict.fromkeys(found))


def _common_folder(paths: Sequence[Path]) -> Path:
    folders = {os.path.abspath(path.parent) for path in paths}
    try:
        return Path(os.path.commonpath(list(folders)))
    except ValueError as error:  # several drives of Windows
        raise ParameterError("the listed files lie on several drives; make one list for each") from error


def _below(folder: Path, root: Path) -> Path:
    return Path(os.path.relpath(os.path.abspath(folder), os.path.abspath(root)))
