"""The result of a large run: where it grows, whose it is, how it gets its name, and why it could not be written."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_cellenhance.core.errors import CellEnhanceError, ImageError, TargetExistsError, WriteError
from napari_cellenhance.core.pyramid import level_shapes
from napari_cellenhance.workflows._large_source import LargeSource

if TYPE_CHECKING:
    from napari_cellenhance.io.ome_zarr import OmeZarrVersion, ZarrImage
    from napari_cellenhance.io.run_journal import RunJournal

__all__ = ["LargeTarget", "Wanted", "journal_of", "lock_of", "partial_of", "stored_dtype", "told", "writing"]


class Wanted(Protocol):
    """What any request for a large result says of it."""

    @property
    def target(self) -> str | os.PathLike[str]: ...
    @property
    def dtype(self) -> str | None: ...
    @property
    def chunk_px(self) -> int: ...
    @property
    def version(self) -> OmeZarrVersion: ...
    @property
    def overwrite(self) -> bool: ...
    @property
    def title(self) -> str: ...
    @property
    def is_tiff(self) -> bool: ...
    @property
    def is_labels(self) -> bool: ...


def partial_of(target: str | os.PathLike[str]) -> Path:
    """Folder in which an unfinished result grows."""
    return Path(f"{os.fspath(target).rstrip('/')}.partial")


def journal_of(target: str | os.PathLike[str]) -> Path:
    """File that says what of an unfinished result is done."""
    return Path(f"{os.fspath(target).rstrip('/')}.journal")


def lock_of(target: str | os.PathLike[str]) -> Path:
    """File that is locked while a run writes the result."""
    return Path(f"{os.fspath(target).rstrip('/')}.lock")


def told(error: OSError, target: Path, done: str) -> OSError:
    """What a person can do about it; the run goes on from there."""
    if isinstance(error, CellEnhanceError):
        return error
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        reason = "the disk is full; free some space"
    else:
        reason = f"{error.strerror or error}; mend that"
    return WriteError(f"{target} could not be written: {reason}, and run the same again: it goes on, {done} is lost.")


@contextmanager
def writing(target: Path, done: Callable[[], str]) -> Iterator[None]:
    """Translate what goes wrong while something is written.

    Raises
    ------
    WriteError
    """
    try:
        yield
    except OSError as error:
        raise told(error, target, done()) from error


def stored_dtype(dtype: str | None, source: LargeSource, *, is_computed: bool) -> np.dtype[Any]:
    """Pixel type of the full image in the store; "same" is that of the source where it holds whole numbers."""
    if dtype == "same":
        return source.dtype if source.dtype.kind in "ui" else np.dtype(np.float32)
    return np.dtype(dtype or ("float32" if is_computed else source.dtype))


@dataclass(frozen=True, slots=True)
class LargeTarget:
    """The unfinished store and its journal."""

    path: Path
    store: ZarrImage
    journal: RunJournal

    @classmethod
    def open(cls, request: Wanted, source: LargeSource, header: dict[str, Any]) -> LargeTarget | None:
        """Begin, or go on; None where all that was missing is the end: the result had its name already.

        Raises
        ------
        TargetExistsError
            The target is there, or an unfinished one of another run.
        OSError
            Disk full, no permission.
        """
        from napari_cellenhance.io.json_ready import json_ready
        from napari_cellenhance.io.ome_zarr import create_store, reopen_store
        from napari_cellenhance.io.run_journal import RunJournal

        target, partial, path = Path(request.target), partial_of(request.target), journal_of(request.target)
        if path.exists():
            journal = RunJournal.resume(path)
            differing = _differing(journal.header.get("run", {}), json_ready(header["run"]))
            if not differing and _is_made_by(target, journal.header):
                journal.close()
                _clear(partial, path)
                return None
            if not differing and partial.exists():
                return cls(target, reopen_store(partial), journal)
            journal.close()
            if differing and not request.overwrite:
                raise TargetExistsError(
                    f"{partial} is an unfinished result of another run (other: {', '.join(differing)}); "
                    "repeat that run, choose another name, or allow overwriting"
                )
        if target.exists() and not request.overwrite:
            raise TargetExistsError(f"{target} exists already; choose another name, or allow overwriting")
        # Journal last: without it, what is there of a store counts for nothing.
        path.unlink(missing_ok=True)
        if partial.exists():
            shutil.rmtree(partial)
        lengths = dict(zip("TCZYX", source.shape, strict=True))
        store = create_store(
            partial,
            level_shapes([lengths[letter] for letter in source.axes_out], request.chunk_px),
            source.axes_out,
            dtype=stored_dtype(request.dtype, source, is_computed=bool(header["run"]["strength"])),
            chunk_px=request.chunk_px,
            name=request.title,
            pixel_size_um=source.pixel_size_um,
            channel_names=source.channel_names,
            version=request.version,
            is_labels=request.is_labels,
        )
        return cls(target, store, RunJournal.begin(path, header))

    def finish(self, request: Wanted, source: LargeSource, provenance: dict[str, Any]) -> None:
        """Say how it was made, and give it its name in one step.

        Raises
        ------
        OSError
            Disk full, no permission.
        """
        partial, target = partial_of(self.path), self.path
        if request.is_tiff:
            from napari_cellenhance.io.tiled_tiff import write_tiled

            write_tiled(
                target, self.store, source.axes_out, name=request.title, pixel_size_um=source.pixel_size_um,
                channel_names=source.channel_names, provenance=provenance, overwrite=request.overwrite,
            )  # fmt: skip
            _clear(partial, journal_of(target))
            return
        self.store.finish(provenance)
        before = target.with_name(f".{target.name}.before")
        if before.exists():
            shutil.rmtree(before)
        if target.exists():
            os.replace(target, before)
        os.replace(partial, target)
        journal_of(target).unlink()
        if before.exists():
            _remove(before)


def _clear(partial: Path, journal: Path) -> None:
    # Pixels first: a journal without them still tells that the result is complete.
    if partial.exists():
        shutil.rmtree(partial)
    journal.unlink()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _is_made_by(target: Path, header: dict[str, Any]) -> bool:
    """Whether the finished result at ``target`` is the one that a journal speaks of."""
    from napari_cellenhance.io.images import read_provenance
    from napari_cellenhance.io.ome_zarr import open_store

    provenance = None
    with suppress(ImageError, OSError):
        provenance = read_provenance(target) if target.is_file() else open_store(target).provenance
    return provenance is not None and provenance.get("created_utc") == header["created_utc"]


def _differing(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [key for key in now if before.get(key) != now[key]]
