"""What is finished: a file that grows by one line per result, so that a run that was killed goes on where it ended."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from napari_cellenhance.core.errors import WriteError
from napari_cellenhance.io.json_ready import parse_json
from napari_cellenhance.io.safe_write import sweep
from napari_cellenhance.workflows._batch_plan import Task

__all__ = ["LOCK", "NAME", "Finished", "Journal", "Stamp"]

NAME = "batch_journal.jsonl"
LOCK = "batch.lock"
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells whether a file has changed."""

    size: int
    mtime_ns: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """Read the file once.

        Raises
        ------
        OSError
            It cannot be opened.
        """
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            about = os.fstat(stream.fileno())
            while block := stream.read(_BLOCK):
                digest.update(block)
        return cls(about.st_size, about.st_mtime_ns, digest.hexdigest())

    def still_holds(self, path: Path) -> bool:
        """Whether the file is the same: size and time are, or size and contents."""
        try:
            about = path.stat()
            if about.st_size != self.size:
                return False
            return about.st_mtime_ns == self.mtime_ns or Stamp.of(path).sha256 == self.sha256
        except OSError:
            return False


@dataclass(frozen=True, slots=True)
class Finished:
    """A file that is done: what it was, by which recipe, and its results with their sizes."""

    stamp: Stamp
    recipe: str
    sizes: dict[str, int]
    n_objects: int | None = None
    warnings: tuple[str, ...] = ()
    check: str = ""
    """Word of the guards: fine, look or doubt; empty where nothing was judged."""


class Journal:
    """Lines of JSON in the folder of the results; a last line that was cut off counts for nothing.

    Parameters
    ----------
    folder : Path
        Of the results.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / NAME
        self._stream: IO[bytes] | None = None
        self._finished: dict[str, Finished] = {}
        self._source_of: dict[str, str] = {}
        self._begun: dict[str, list[str]] = {}
        self._read()

    def _read(self) -> None:
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                entry = parse_json(line)
                name = str(entry["name"])
                if entry["state"] == "begun":
                    self._begun[name] = [str(result) for result in entry["results"]]
                    self._source_of |= dict.fromkeys(self._begun[name], str(entry["path"]))
                    self._finished.pop(name, None)
                else:
                    sizes = {str(result): int(size) for result, size in entry["sizes"].items()}
                    self._finished[name] = Finished(
                        Stamp(**entry["source"]), str(entry["recipe"]), sizes, entry["n_objects"],
                        tuple(map(str, entry["warnings"])), str(entry.get("check", "")),
                    )  # fmt: skip
                    self._begun.pop(name, None)
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
                continue  # cut off when the run was killed

    def __enter__(self) -> Self:
        # Begun and never finished: the run was killed, and left a half-written file under a name of its own.
        for name in {name for names in self._begun.values() for name in names}:
            self._sweep_beside(name)
        try:
            self._stream = self._path.open("ab")
        except OSError as error:
            raise WriteError(
                f"the folder {self._folder} cannot be written ({error.strerror}); choose another"
            ) from error
        if self._stream.tell():
            self._stream.write(b"\n")  # ends a line that was cut off
        return self

    def _sweep_beside(self, name: str) -> None:
        root = self._folder.resolve()
        with suppress(OSError, ValueError):  # a name that no file system takes
            folder = (root / name).parent.resolve()
            if folder.is_relative_to(root):  # a journal cannot have files swept that lie elsewhere
                sweep(folder)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._stream.close()

    def finished(self, task: Task, recipe: str) -> Finished | None:
        """What is known of a file that need not be done again; None where it must.

        It must be the same file, by the same recipe, with all results there in the size they were written.
        """
        known = self._finished.get(task.name)
        if known is None or known.recipe != recipe or not known.stamp.still_holds(task.source):
            return None
        if self._name(task.image) not in known.sizes:
            return None
        for name, size in known.sizes.items():
            path = self._folder / name
            if not path.is_file() or path.stat().st_size != size:
                return None
        return known

    def is_of(self, path: Path, source: Path) -> bool:
        """Whether a batch wrote, or began to write, a result of the same image; it may be replaced."""
        return self._source_of.get(self._name(path)) == str(source.resolve())

    def begin(self, task: Task, results: Iterable[Path]) -> None:
        """Note what will be written."""
        names, source = [self._name(path) for path in results], str(task.source.resolve())
        self._source_of |= dict.fromkeys(names, source)
        self._add({"name": task.name, "state": "begun", "path": source, "results": names})

    def finish(self, task: Task, finished: Finished) -> None:
        """Note that all of it is there."""
        stamp = finished.stamp
        self._add({
            "name": task.name, "state": "done", "recipe": finished.recipe, "sizes": finished.sizes,
            "source": {"size": stamp.size, "mtime_ns": stamp.mtime_ns, "sha256": stamp.sha256},
            "n_objects": finished.n_objects, "warnings": list(finished.warnings), "check": finished.check,
        })  # fmt: skip

    def _name(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()

    def _add(self, entry: dict[str, Any]) -> None:
        assert self._stream is not None
        try:
            self._stream.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise WriteError(f"{self._path} could not be written ({error.strerror}); free some space") from error
