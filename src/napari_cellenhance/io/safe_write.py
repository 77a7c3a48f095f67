"""Write a file so that it is there as a whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from napari_cellenhance.core.errors import TargetExistsError, WriteError

__all__ = ["atomic_path", "safe_name", "sweep"]

_FORBIDDEN = re.compile('[<>:"/\\\\|?*\x00-\x1f\x7f\ud800-\udfff]')
_WINDOWS_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_NAME_LIMIT_BYTES = 160
_TEMPORARY = re.compile(r"\.[0-9a-f]{12}\.part(\.\w+)?")


@contextmanager
def atomic_path(target: str | os.PathLike[str], *, overwrite: bool = True, name: str = "") -> Iterator[Path]:
    """Give a temporary path in the same folder; move it over ``target`` when the block ends well.

    Parameters
    ----------
    target : str or path-like
        Its folder must exist. A symbolic link is followed, not replaced.
    overwrite : bool
        False: refuse if there is something at ``target`` already.
    name : str
        Of the temporary file, where nobody else can write the same target now: what a run that was killed left under it
        is replaced. Empty for a name of its own.

    Yields
    ------
    Path
        An empty place with the same suffix as ``target``; the block must create a file there.

    Raises
    ------
    TargetExistsError
        ``target`` exists and ``overwrite`` is False.
    WriteError
        An OSError in the block or while moving: disk full, no permission, name too long, no
        such folder. Whatever goes wrong, a file that was at ``target`` is unchanged, and the
        temporary file is gone.
    """
    asked = Path(target)
    try:
        real = asked.resolve()
        _refuse_existing(real, asked, overwrite)
    except WriteError:
        raise
    except OSError as error:
        raise _write_error(error, asked) from error
    temporary = real.with_name(name or f".{uuid.uuid4().hex[:12]}.part{real.suffix}")
    try:
        yield temporary
        _flush(temporary)
        _refuse_existing(real, asked, overwrite)
        os.replace(temporary, real)
        _flush_folder(real.parent)
    except WriteError:
        raise
    except OSError as error:
        raise _write_error(error, asked) from error
    finally:
        # Not there after a success; where it cannot be removed, the first error is the one to tell.
        with suppress(OSError):
            temporary.unlink()


def sweep(folder: str | os.PathLike[str]) -> int:
    """Remove what a program that was killed inside :func:`atomic_path` left in a folder; the number of files.

    Only where nobody else is writing there: what it removes could be under way.
    """
    n_removed = 0
    for path in Path(folder).glob(".*.part*"):
        if _TEMPORARY.fullmatch(path.name):
            with suppress(OSError):
                path.unlink()
                n_removed += 1
    return n_removed


def safe_name(name: str) -> str:
    r"""Turn a layer name into a file name that every system accepts (without suffix).

    Characters that Windows, macOS or Linux forbid become ``_``, names of Windows devices
    get a leading ``_``, and long names are cut to 160 bytes of UTF-8.

    >>> safe_name("cells 3/4: GFP?")
    'cells 3_4_ GFP_'
    >>> safe_name("")
    'image'
    """
    cleaned = _FORBIDDEN.sub("_", name).strip().rstrip(". ").lstrip(".")
    cleaned = cleaned.encode("utf-8", "replace")[:_NAME_LIMIT_BYTES].decode("utf-8", "ignore").rstrip(". ")
    if not cleaned:
        return "image"
    return f"_{cleaned}" if _WINDOWS_DEVICES.fullmatch(cleaned) else cleaned


def _refuse_existing(real: Path, asked: Path, overwrite: bool) -> None:
    if real.is_dir():
        raise WriteError(f"{asked} is a folder; expected the name of a file")
    if not overwrite and real.exists():
        raise TargetExistsError(f"{asked} exists already; choose another name or allow overwriting")


def _write_error(error: OSError, target: Path) -> WriteError:
    reasons = {
        errno.ENOSPC: "the disk is full; free some space, or choose another folder",
        errno.EDQUOT: "your disk quota is used up; free some space, or choose another folder",
        errno.EACCES: "no permission to write there; choose another folder",
        errno.EPERM: "no permission to write there; choose another folder",
        errno.EROFS: "that disk is read-only; choose another folder",
        errno.ENAMETOOLONG: "the path is too long for this system; choose a shorter name or folder",
        errno.ENOENT: f"the folder {target.parent} does not exist (or the path is too long); make it first",
        errno.ENOTDIR: f"{target.parent} is not a folder",
    }
    reason = reasons.get(error.errno or 0, str(error))
    return WriteError(f"{target} could not be written: {reason}. Nothing was changed.")


def _flush(path: Path) -> None:
    with open(path, "rb+") as stream:
        os.fsync(stream.fileno())


def _flush_folder(folder: Path) -> None:
    # Windows cannot open folders; there the rename itself is durable enough.
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
