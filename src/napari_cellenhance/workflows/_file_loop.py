"""The walk over many files: each is worked on by itself, and one that fails does not stop the others."""

from __future__ import annotations

import dataclasses
import logging
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_cellenhance.core.errors import CellEnhanceError, TargetExistsError, WriteError
from napari_cellenhance.workflows._targets import Targets
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress

__all__ = [
    "FileOutcome",
    "FilesResult",
    "OnOutcome",
    "make_folders",
    "no_outcome",
    "refuse_hopeless",
    "run_each",
]

_LOGGER = logging.getLogger(__name__)

OnOutcome = Callable[["FileOutcome"], None]
Work = Callable[[Targets, OnProgress], tuple[str, ...] | None]
"""Makes the results of one file: warnings, or None after a cancel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOutcome:
    """What became of one file: ``error`` is empty if all went well, else a sentence."""

    source: Path
    targets: tuple[Path, ...]
    """Files written; empty after an error."""
    seconds: float
    error: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def is_done(self) -> bool:
        """Whether the results are on disk."""
        return not self.error

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "source": str(self.source), "targets": [str(path) for path in self.targets],
            "seconds": round(self.seconds, 3), "error": self.error, "warnings": list(self.warnings),
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesResult:
    """One outcome per file that was begun; ``is_complete`` is False after a cancel."""

    outcomes: tuple[FileOutcome, ...]
    is_complete: bool = True

    @property
    def n_failed(self) -> int:
        """Number of files without a result."""
        return sum(not outcome.is_done for outcome in self.outcomes)


def no_outcome(outcome: FileOutcome) -> None:
    """Ignore the outcome."""


def run_each(
    plan: Sequence[Targets],
    work: Work,
    *,
    on_progress: OnProgress,
    on_outcome: OnOutcome,
    is_cancelled: IsCancelled,
) -> FilesResult:
    """Do ``work`` for every file; one that fails is recorded, and the next one starts."""
    outcomes: list[FileOutcome] = []
    for number, targets in enumerate(plan, start=1):
        if is_cancelled():
            return FilesResult(outcomes=tuple(outcomes), is_complete=False)
        report = _with_prefix(on_progress, targets.source, number, len(plan))
        started = time.monotonic()
        try:
            warnings = work(targets, report)
        except (CellEnhanceError, OSError) as error:
            _LOGGER.debug("%s failed", targets.source, exc_info=True)
            outcome = _failure(targets.source, error, time.monotonic() - started)
        else:
            if warnings is None:
                return FilesResult(outcomes=tuple(outcomes), is_complete=False)
            outcome = FileOutcome(
                source=targets.source, targets=targets.all, seconds=time.monotonic() - started, warnings=warnings
            )
        outcomes.append(outcome)
        on_outcome(outcome)
    return FilesResult(outcomes=tuple(outcomes))


def _with_prefix(on_progress: OnProgress, source: Path, number: int, n_files: int) -> OnProgress:
    prefix = source.name if n_files == 1 else f"{source.name} ({number} of {n_files})"

    def report(progress: Progress) -> None:
        on_progress(dataclasses.replace(progress, message=f"{prefix}: {progress.message}"))

    return report


def refuse_hopeless(targets: Targets, overwrite: bool) -> None:
    """Find out before minutes of computing that nothing could be written.

    Raises
    ------
    TargetExistsError
        A result is there already, and may not be replaced.
    WriteError
        A folder cannot be written.
    """
    for path in targets.all:
        if path.exists() and not overwrite:
            raise TargetExistsError(f"{path} exists already; choose another name or folder, or allow overwriting")
        try:
            # Asking for permission is not enough: a disk may be read-only, or full.
            with tempfile.TemporaryFile(dir=path.parent):
                pass
        except OSError as error:
            reason = error.strerror or error
            raise WriteError(f"the folder {path.parent} cannot be written ({reason}); choose another one") from error


def make_folders(asked: Sequence[str | os.PathLike[str] | None], plan: Sequence[Targets]) -> None:
    """Make the folders that were asked for by name.

    Raises
    ------
    WriteError
        One cannot be made, or a folder that was not named is missing.
    """
    # Only these: a misspelt folder of a single file should be noticed.
    named = {os.path.abspath(path) for path in asked if path is not None}
    for folder in {path.parent for targets in plan for path in targets.all}:
        if os.path.abspath(folder) in named:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise WriteError(
                    f"the folder {folder} cannot be made ({error.strerror}); choose another one"
                ) from error
        elif not folder.is_dir():
            raise WriteError(f"there is no folder {folder}; make it first, or choose another one")


def _failure(source: Path, error: Exception, seconds: float) -> FileOutcome:
    text = str(error) or type(error).__name__
    return FileOutcome(source=source, targets=(), seconds=seconds, error=" ".join(text.split()))
