"""One run at a time for one result: a lock that the system lets go of when the program ends, however it ends."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from napari_cellenhance.core.errors import BusyError, WriteError
from napari_cellenhance.io.json_ready import load_json

__all__ = ["only_run"]

_LOGGER = logging.getLogger(__name__)
_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


@contextmanager
def only_run(path: str | os.PathLike[str], result: str | os.PathLike[str]) -> Iterator[None]:
    """Hold a lock until the block ends; the file is gone then.

    A file that a program left which was killed is no lock: the system, not the file, knows who lives.
    On a disk that knows no locks, nothing is refused.

    Parameters
    ----------
    path : path
        File of the lock; its folder must exist.
    result : path
        What it guards, for messages.

    Raises
    ------
    BusyError
        Another run holds it; the message says which.
    WriteError
        The file cannot be made.
    """
    file = Path(path)
    try:
        descriptor = _open_locked(file, result)
    except BusyError:
        raise
    except OSError as error:
        raise WriteError(f"{file} could not be written ({error.strerror or error}); choose another folder") from error
    try:
        owner = {
            "process": os.getpid(), "computer": socket.gethostname(),
            "since_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        }  # fmt: skip
        os.truncate(descriptor, 0)
        os.write(descriptor, json.dumps(owner).encode())
        yield
    finally:
        _let_go(descriptor, file)


def _let_go(descriptor: int, file: Path) -> None:
    try:
        if os.name == "posix":
            os.unlink(file)  # still locked: nobody can take the file that goes for a lock
    except FileNotFoundError:
        pass  # somebody removed it by hand
    finally:
        os.close(descriptor)
        if os.name != "posix":  # an open file cannot be removed there
            with suppress(OSError):
                os.unlink(file)


def _open_locked(file: Path, result: str | os.PathLike[str]) -> int:
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor)
        except OSError as error:
            os.close(descriptor)
            if error.errno in _TAKEN:
                raise BusyError(
                    f"{os.fspath(result)} is being written by another run ({_owner(file)}); wait until it ends, "
                    "or choose another name"
                ) from error
            raise
        # The one before may have removed the file between our opening and locking it.
        if _is_same(descriptor, file):
            return descriptor
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    try:
        if os.name == "posix":
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            # Beyond the text, which others must be able to read.
            os.lseek(descriptor, 1 << 20, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
            os.lseek(descriptor, 0, os.SEEK_SET)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise
        _LOGGER.warning("this disk knows no locks: two runs on the same result would not notice each other")


def _is_same(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False


def _owner(file: Path) -> str:
    try:
        owner = load_json(file)
        return f"process {owner['process']} on {owner['computer']}, since {owner['since_utc']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "which does not say who it is"
