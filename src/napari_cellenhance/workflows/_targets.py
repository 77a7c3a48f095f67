"""Which files to read and where their results go; looks at the disk, writes nothing."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_cellenhance.core.errors import ParameterError

__all__ = ["SUFFIXES", "Targets", "find_sources", "path_beside", "plan", "plan_targets"]

SUFFIXES = (".ome.tiff", ".ome.tif", ".tiff", ".tif", ".png")
"""Endings of files that are picked up from a folder; longest first, so that ``.ome`` is not left on a stem."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """Where the results of one source go; None for what was not asked."""

    source: Path
    image: Path
    labels: Path | None = None
    points: Path | None = None

    @property
    def all(self) -> tuple[Path, ...]:
        """Every file that will be written."""
        return tuple(path for path in (self.image, self.labels, self.points) if path is not None)


def find_sources(source: str | os.PathLike[str], *, is_recursive: bool = False) -> tuple[Path, ...]:
    """Images meant by a file, a folder, or a pattern such as ``plate1/*.tif``.

    A folder gives the images directly in it, sorted by name, hidden ones left out; with ``is_recursive`` those of its
    sub-folders too. A name that exists is taken literally even if it holds ``*``, ``?`` or ``[``.

    Raises
    ------
    ParameterError
        There is no such file or folder, or no image in it.
    """
    path = Path(source)
    if path.is_dir():
        found = [p for p in (path.rglob("*") if is_recursive else path.iterdir()) if _is_image(p)]
        if not found:
            raise ParameterError(f"the folder {path} holds no image; expected files ending in {', '.join(SUFFIXES)}")
        return tuple(sorted(found))
    if path.exists():
        return (path,)
    if not glob.has_magic(os.fspath(path)):
        raise ParameterError(f"there is no file or folder {path}; check the spelling and the current folder")
    found = [p for p in map(Path, glob.glob(os.fspath(path), recursive=True)) if _is_image(p)]
    if not found:
        raise ParameterError(f"no image matches the pattern {path}; expected files ending in {', '.join(SUFFIXES)}")
    return tuple(sorted(found))


def plan(
    source: str | os.PathLike[str] | tuple[str | os.PathLike[str], ...],
    target: str | os.PathLike[str],
    *,
    labels: str | os.PathLike[str] | None = None,
    points: str | os.PathLike[str] | None = None,
) -> tuple[Targets, ...]:
    """Find the images meant by one or several names, each once, and name their results.

    Raises
    ------
    ParameterError
        As for :func:`find_sources` and :func:`plan_targets`.
    """
    asked = source if isinstance(source, tuple) else (source,)
    sources = tuple(dict.fromkeys(path for each in asked for path in find_sources(each)))
    is_folder = sources != tuple(map(Path, asked))  # a folder or a pattern, even if it holds one image
    return plan_targets(sources, target, labels=labels, points=points, is_folder=is_folder)


def plan_targets(
    sources: Sequence[Path],
    target: str | os.PathLike[str],
    *,
    labels: str | os.PathLike[str] | None = None,
    points: str | os.PathLike[str] | None = None,
    is_folder: bool = False,
) -> tuple[Targets, ...]:
    """Name the results of every source.

    Parameters
    ----------
    sources : sequence of Path
    target : path
        File for a single source; else, or where it is a folder already or ends in a slash, a folder
        that gets ``<name>.ome.tif`` for each source.
    labels, points : path, optional
        File or folder by the same rule (``<name>_labels.ome.tif``, ``<name>_points.csv``).
    is_folder : bool
        True takes the targets for folders even if there is one source (a folder or a pattern was given).

    Raises
    ------
    ParameterError
        A result would replace an original, two results have one name, a file name stands where a
        folder is needed, or an ending is of another format.
    """
    is_folder = is_folder or len(sources) > 1
    if is_folder and _stem(Path(target)) != Path(target).name and not Path(target).is_dir():
        raise ParameterError(f"{target} is the name of an image, but there may be several; expected a folder")
    stems = _stems(sources)
    image_files = _names(target, stems, ".ome.tif", is_folder)
    labels_files = _names(labels, stems, "_labels.ome.tif", is_folder)
    points_files = _names(points, stems, "_points.csv", is_folder)
    plan = tuple(
        Targets(source=source, image=image, labels=label_file, points=points_file)
        for source, image, label_file, points_file in zip(
            sources, _all_given(image_files), labels_files, points_files, strict=True
        )
    )
    for path in (path for targets in plan for path in (targets.image, targets.labels) if path is not None):
        if not path.name.lower().endswith(SUFFIXES):
            raise ParameterError(f"{path} cannot be written; expected a name ending in {', '.join(SUFFIXES)}")
    _refuse_clashes(plan)
    return plan


def path_beside(path: Path, name: str) -> Path:
    """File of a further result, beside that at ``path``: the same name with ``_name`` before its ending."""
    suffix = next((s for s in SUFFIXES if path.name.lower().endswith(s)), path.suffix)
    return path.with_name(f"{path.name[: len(path.name) - len(suffix)]}_{name}.ome.tif")


def _is_image(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".") and path.name.lower().endswith(SUFFIXES)


def _stem(path: Path) -> str:
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.name


def _stems(sources: Sequence[Path]) -> list[str]:
    """Names without suffix; with it where two sources would share one (``a.png`` and ``a.tif``)."""
    stems = [_stem(source) for source in sources]
    # Case-blind, as the file systems of Windows and macOS are.
    n_of = Counter(stem.casefold() for stem in stems)
    return [stem if n_of[stem.casefold()] == 1 else source.name for stem, source in zip(stems, sources, strict=True)]


def _names(
    target: str | os.PathLike[str] | None, stems: Sequence[str], ending: str, is_folder: bool
) -> list[Path | None]:
    if target is None:
        return [None] * len(stems)
    path = Path(target)
    if is_folder or path.is_dir() or os.fspath(target).endswith(("/", os.sep)):
        return [path / f"{stem}{ending}" for stem in stems]
    return [path]


def _all_given(paths: Sequence[Path | None]) -> list[Path]:
    return [path for path in paths if path is not None]


def _refuse_clashes(plan: Sequence[Targets]) -> None:
    sources = {targets.source.resolve(): targets.source for targets in plan}
    taken: set[Path] = set()
    for path in (path for targets in plan for path in targets.all):
        place = path.resolve()
        if place in sources:
            raise ParameterError(
                f"the result would replace the original {sources[place]}; choose another name or folder"
            )
        if place in taken:
            raise ParameterError(f"two results would have the same name {path}; choose different names or folders")
        taken.add(place)
