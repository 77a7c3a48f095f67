"""A journal of finished pieces of work, so that a run that was killed goes on where it stopped.

The first line says which run it is; each further line is one fact, on the disk before anyone
relies on it. A line that was cut off by a crash does not end with a newline, and is dropped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.io.json_ready import json_ready, parse_json
from napari_cellenhance.io.safe_write import atomic_path

__all__ = ["RunJournal"]


class RunJournal:
    """Use :meth:`begin` or :meth:`resume`; closes at the end of a ``with`` block.

    Parameters
    ----------
    path : Path
    header : dict
    entries : list of dict
        What was written so far.
    """

    def __init__(self, path: Path, header: dict[str, Any], entries: list[dict[str, Any]]) -> None:
        self.path, self.header, self.entries = path, header, entries
        self._stream = open(path, "ab")  # noqa: SIM115 - closed by close()

    @classmethod
    def begin(cls, path: str | os.PathLike[str], header: Mapping[str, Any]) -> Self:
        """Start a new journal, in place of one that is there.

        Raises
        ------
        WriteError
            It cannot be written.
        """
        ready = json_ready(header)
        with atomic_path(path) as temporary:
            temporary.write_bytes(_line(ready))
        return cls(Path(path), ready, [])

    @classmethod
    def resume(cls, path: str | os.PathLike[str]) -> Self:
        """Open a journal and cut off what a crash left of its last line.

        Raises
        ------
        ImageError
            It is damaged.
        """
        source = Path(path)
        whole = source.read_bytes()
        end = whole.rfind(b"\n") + 1
        try:
            header, *entries = [parse_json(line) for line in whole[:end].splitlines()]
        except ValueError as error:
            raise ImageError(f"{source} is damaged ({error}); delete it, and the run begins anew") from error
        if not all(isinstance(line, dict) for line in (header, *entries)):
            raise ImageError(f"{source} is damaged (a line is no object); delete it, and the run begins anew")
        if end < len(whole):
            os.truncate(source, end)
        return cls(source, header, entries)

    def add(self, entry: Mapping[str, Any]) -> None:
        """Write a fact; it is on the disk when this returns.

        Raises
        ------
        OSError
            Disk full, say; the line is taken back.
        """
        end = self._stream.seek(0, os.SEEK_END)
        ready = json_ready(entry)
        try:
            self._stream.write(_line(ready))
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError:
            self._stream.truncate(end)
            raise
        self.entries.append(ready)

    def close(self) -> None:
        """Close the file; it stays."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _line(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"
