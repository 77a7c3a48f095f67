"""What became of one file of a batch, in words; and how long the rest takes."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from napari_cellenhance.core.errors import CellEnhanceError, WriteError
from napari_cellenhance.workflows._batch_journal import Finished
from napari_cellenhance.workflows._batch_plan import Task
from napari_cellenhance.workflows._batch_report import BatchOutcome

__all__ = ["Clock", "done", "failed", "is_hopeless", "size_of", "skipped", "text_of"]

_LOGGER = logging.getLogger(__name__)
_HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def done(task: Task, targets: tuple[Path, ...], finished: Finished, seconds: float) -> BatchOutcome:
    """Of a file that was finished now."""
    return BatchOutcome(
        source=task.source, name=task.name, state="done", targets=targets, seconds=seconds,
        warnings=finished.warnings, n_objects=finished.n_objects, check=finished.check,
    )  # fmt: skip


def skipped(task: Task, finished: Finished) -> BatchOutcome:
    """Of a file that was finished before."""
    return BatchOutcome(
        source=task.source, name=task.name, state="skipped",
        targets=tuple(task.folder / name for name in finished.sizes), seconds=0.0, warnings=finished.warnings,
        n_objects=finished.n_objects, check=finished.check,
    )  # fmt: skip


def failed(task: Task, error: Exception, seconds: float) -> BatchOutcome:
    """Of a file without a result."""
    _LOGGER.debug("%s failed", task.source, exc_info=error)
    return BatchOutcome(
        source=task.source, name=task.name, state="failed", targets=(), seconds=seconds, error=text_of(error)
    )  # fmt: skip


def text_of(error: Exception) -> str:
    """One line; errors that are not meant for people with their name."""
    text = str(error) or type(error).__name__
    if not isinstance(error, (CellEnhanceError, OSError)):
        text = f"{type(error).__name__}: {text}"
    return " ".join(text.split())


def is_hopeless(error: Exception) -> bool:
    """Whether it would be the same with every further file: the disk is full, say."""
    cause = error.__cause__
    return isinstance(error, WriteError) and isinstance(cause, OSError) and cause.errno in _HOPELESS


def size_of(path: Path) -> int:
    """Bytes of a file; 0 for one that is not there, which its turn will show."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


class Clock:
    """How long the rest takes: time for each byte so far, times the bytes that are left.

    Parameters
    ----------
    sizes : sequence of int
        Of all files, in bytes.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = sizes
        self._left = float(sum(sizes))
        self._done = 0.0
        self._started: float | None = None

    def start(self) -> None:
        """The first file is about to be computed."""
        self._started = time.monotonic()

    def skip(self, index: int) -> None:
        """A file took no time."""
        self._left -= self._sizes[index]

    def done(self, index: int) -> None:
        """A file is computed."""
        self._left -= self._sizes[index]
        self._done += self._sizes[index]

    def left_s(self, index: int | None = None, share: float = 0.0) -> float | None:
        """Seconds that are left, while a share of one file is computed; None before anything is."""
        here = 0.0 if index is None else share * self._sizes[index]
        if self._started is None or self._done + here <= 0:
            return None
        return (time.monotonic() - self._started) / (self._done + here) * (self._left - here)
