"""Measure files against references: a file or a folder each, paired by name."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_cellenhance.core.errors import CellEnhanceError, ParameterError
from napari_cellenhance.workflows._targets import SUFFIXES, find_sources
from napari_cellenhance.workflows.measure_pair_tables import describe, to_rows
from napari_cellenhance.workflows.measure_pairs import (
    Kind,
    PairOptions,
    PairRequest,
    PairScore,
    measure_hits,
    measure_pair,
    measure_points,
)
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress

__all__ = ["PairFilesRequest", "PairFilesResult", "pair_by_name", "run"]

_LOGGER = logging.getLogger(__name__)
_ENDINGS = ("_labels", "_masks", "_mask", "_classes", "_points", "_boxes", "_enhanced")
_WANTED: dict[Kind, tuple[str, ...]] = {
    "images": ("",),
    "objects": ("_labels", "_masks", "_mask", ""),
    "classes": ("_labels", "_masks", "_mask", ""),
    "points": ("_points", ""),
    "boxes": ("_labels", "_masks", "_mask", ""),
    "hits": ("_points", ""),
}
"""Endings of references, the best first: of images and labels in one folder, labels are meant for labels."""
_OF_RESULTS: dict[Kind, tuple[str, ...]] = {**_WANTED, "images": ("_enhanced", ""), "hits": _WANTED["objects"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFilesRequest:
    """Which files to measure against which.

    Parameters
    ----------
    results : tuple of path
        Files, folders or patterns; TIFF and PNG, or CSV for points.
    reference : path
        One file for all results (several results of one field), or a folder in which equal names belong together;
        ``_labels``, ``_mask``, ``_points`` and ``_enhanced`` at the end of a name do not count.
    options : PairOptions
    axes : str
        Of all images, such as ``ZYX``; empty: as in the files.
    """

    results: tuple[str | os.PathLike[str], ...]
    reference: str | os.PathLike[str]
    options: PairOptions = field(default_factory=PairOptions)
    axes: str = ""

    def __post_init__(self) -> None:
        if not self.results:
            raise ParameterError("there is nothing to measure; name at least one file or folder")


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFilesResult:
    """Scores of all files.

    Parameters
    ----------
    scores : tuple of PairScore
    rows : tuple of dict
        One for each score, then mean and sd and, for labels and points, everything pooled.
    failures : tuple of str
        One sentence for each file that could not be measured.
    notes : tuple of str
        What a reader of the numbers must know.
    record : dict
        What was measured, JSON-ready.
    is_complete : bool
        False when stopped before the last file.
    """

    scores: tuple[PairScore, ...]
    rows: tuple[dict[str, Any], ...]
    failures: tuple[str, ...]
    notes: tuple[str, ...]
    record: dict[str, Any]
    is_complete: bool = True


def run(
    request: PairFilesRequest, *, on_progress: OnProgress = no_progress, is_cancelled: IsCancelled = never_cancelled
) -> PairFilesResult:
    """Measure every result; one that cannot be measured is told, and the others are.

    Raises
    ------
    ParameterError
        No such files, or names that belong together in more than one way.
    """
    pairs, failures, notes = _pairs(request)
    scores: list[PairScore] = []
    is_complete = True
    for number, (result, reference) in enumerate(pairs):
        if is_cancelled():
            is_complete = False
            break

        def tell(progress: Progress, number: int = number, name: str = result.name) -> None:
            on_progress(dataclasses.replace(progress, n_done=number, n_total=len(pairs), message=f"Measuring {name}"))

        tell(Progress(n_done=0, n_total=1, message=""))
        try:
            score = _measure(result, reference, request, tell, is_cancelled)
        except (CellEnhanceError, OSError) as error:
            _LOGGER.debug("%s failed", result, exc_info=True)
            text = " ".join((str(error) or type(error).__name__).split())
            failures.append(text if result.name in text else f"{result}: {text}")
            continue
        if not score.is_complete:
            is_complete = False
            break
        scores.append(score)
    for score in scores:
        notes += [note for note in score.notes if note not in notes]
    if request.options.kind == "images" and request.options.data_range is None and scores:
        notes.append("The range of PSNR and SSIM is largest less smallest value of each reference; state another one "
                     "to compare with numbers from elsewhere.")  # fmt: skip
    record = {
        **describe(request.options),
        "pairs": [{"result": str(result), "reference": str(reference)} for result, reference in pairs],
        "axes": request.axes,
        "failures": failures,
        "notes": notes,
    }
    return PairFilesResult(
        scores=tuple(scores), rows=tuple(to_rows(scores, request.options)), failures=tuple(failures),
        notes=tuple(notes), record=record, is_complete=is_complete,
    )  # fmt: skip


def _measure(
    result: Path, reference: Path, request: PairFilesRequest, on_progress: OnProgress, is_cancelled: IsCancelled
) -> PairScore:
    if result.resolve() == reference.resolve():
        raise ParameterError(f"{result} would be compared with itself; name another reference")
    if request.options.kind == "points":
        from napari_cellenhance.io.points import read_points

        return measure_points(result.name, read_points(result), reference.name, read_points(reference), request.options)
    from napari_cellenhance.workflows.measure import read_measured

    if request.options.kind == "hits":
        from napari_cellenhance.io.points import read_points

        labels = read_measured(result, axes=request.axes)
        return measure_hits(labels, reference.name, read_points(reference), request.options)
    found, true = (read_measured(path, axes=request.axes) for path in (result, reference))
    if tuple(found.image.shape) == tuple(true.image.shape):
        found = dataclasses.replace(found, axes=true.axes)  # what a file does not tell was guessed: once is enough
    return measure_pair(
        PairRequest(result=found, reference=true, options=request.options),
        on_progress=on_progress,
        is_cancelled=is_cancelled,
    )


# --- which belong together ------------------------------------------------------------------


def _pairs(request: PairFilesRequest) -> tuple[list[tuple[Path, Path]], list[str], list[str]]:
    """Pairs, what has no partner, and what is worth knowing."""
    kind = request.options.kind
    results: list[Path] = []
    for asked in request.results:
        found = _files(asked, is_table=kind == "points")
        results += _by_key(found, _OF_RESULTS[kind]).values() if Path(asked).is_dir() else found
    results = list(dict.fromkeys(results))
    reference, has_points = Path(request.reference), kind in ("points", "hits")
    if not reference.is_dir():
        (one,) = _files(reference, is_table=has_points) if reference.exists() else _absent(reference)
        return [(result, one) for result in results], [], []
    return pair_by_name(results, _files(reference, is_table=has_points), kind, folder=reference)


def pair_by_name(
    results: Sequence[Path], references: Sequence[Path], kind: Kind, *, folder: Path
) -> tuple[list[tuple[Path, Path]], list[str], list[str]]:
    """Pair files whose names agree but for their endings.

    Parameters
    ----------
    results, references : sequence of Path
    kind : "images", "objects", "classes", "points", "boxes" or "hits"
        Of several references of one name, ``cells_labels.tif`` is meant for labels and ``cells.tif`` for images.
    folder : Path
        Of the references, for messages.

    Returns
    -------
    pairs : list of (Path, Path)
    failures : list of str
        A sentence for each result without a reference.
    notes : list of str
        A sentence on references without a result.

    Raises
    ------
    ParameterError
        Two references fit one result equally well, or nothing fits at all.
    """
    by_key = _by_key(references, _WANTED[kind])
    pairs = [(result, by_key[_key(result)]) for result in results if _key(result) in by_key]
    if not pairs:
        names = ", ".join(path.name for path in results[:3])
        raise ParameterError(
            f"nothing in {folder} belongs to {names}{' …' if len(results) > 3 else ''}; expected files of the same "
            f"names, such as {_key(results[0])}{_WANTED[kind][0]}{'.csv' if kind in ('points', 'hits') else '.tif'}"
        )
    failures = [
        f"{result} has no reference: {folder} holds no file of its name"
        for result in results
        if _key(result) not in by_key
    ]
    used = {_key(result) for result, _ in pairs}
    left = [path.name for key, path in by_key.items() if key not in used]
    notes = [f"Without a result, and not measured: {_listed(left)} in {folder}."] if left else []
    return pairs, failures, notes


def _by_key(paths: Sequence[Path], wanted: tuple[str, ...]) -> dict[str, Path]:
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        groups[_key(path)].append(path)
    chosen = {}
    for key, group in groups.items():
        ranks = [_rank(path, wanted) for path in group]
        best = [path for path, rank in zip(group, ranks, strict=True) if rank == min(ranks)]
        if len(best) > 1:
            raise ParameterError(
                f"{_listed([path.name for path in best])} in {best[0].parent} have the same name but for their ending; "
                "name the files themselves, or put one of them elsewhere"
            )
        chosen[key] = best[0]
    return chosen


def _rank(path: Path, wanted: tuple[str, ...]) -> int:
    ending = _split(path)[1]
    return wanted.index(ending) if ending in wanted else len(wanted)


def _key(path: Path) -> str:
    return _split(path)[0].casefold()


def _split(path: Path) -> tuple[str, str]:
    """Name without suffix, and the ending that says what kind of file it is."""
    stem = next((path.name[: -len(s)] for s in (*SUFFIXES, ".csv") if path.name.lower().endswith(s)), path.name)
    ending = next((e for e in _ENDINGS if stem.lower().endswith(e) and len(stem) > len(e)), "")
    return stem[: len(stem) - len(ending)], ending


def _files(asked: str | os.PathLike[str], *, is_table: bool) -> tuple[Path, ...]:
    if not is_table:
        return find_sources(asked)
    path = Path(asked)
    if not path.is_dir():
        return (path,) if path.exists() else _absent(path)
    found = tuple(sorted(p for p in path.iterdir() if p.suffix.lower() == ".csv" and not p.name.startswith(".")))
    if not found:
        raise ParameterError(f"the folder {path} holds no table of points; expected files ending in .csv")
    return found


def _absent(path: Path) -> tuple[Path, ...]:
    raise ParameterError(f"there is no file or folder {path}; check the spelling and the current folder")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
