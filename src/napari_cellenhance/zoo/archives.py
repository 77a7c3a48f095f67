"""Files in a zip or tar archive, looked at without unpacking anything to the disk.

Names that lead out of the archive are refused, links and devices passed over, and no member is read beyond a limit.
"""

from __future__ import annotations

import errno
import lzma
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from napari_cellenhance.core.errors import CellEnhanceError, WeightsError

__all__ = ["MAX_MEMBERS", "damage_told", "members", "read_limited"]

MAX_MEMBERS = 20_000
# What the readers of zip and tar raise where bytes are wrong. NotImplementedError: a compression that zipfile does not
# know, also where the byte that names it was changed.
_DAMAGED = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, struct.error,
    ValueError, OverflowError, OSError,
)  # fmt: skip


@contextmanager
def damage_told(name: str, advice: str = "download it again") -> Iterator[None]:
    """Say in a sentence that an archive is damaged, where reading it inside this block shows that.

    Raises
    ------
    WeightsError
        It is damaged.
    OSError
        It cannot be read for another reason, no permission say.
    """
    try:
        yield
    except CellEnhanceError:
        raise
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # EINVAL comes of places that lie outside of the file
        raise WeightsError(f"{name} is damaged or was cut off ({error}); {advice}") from error


def members(source: Path, what: str = "an archive of models") -> Iterator[tuple[str, int, IO[bytes]]]:
    """Name, stated size and open stream of every plain file.

    Parameters
    ----------
    what : str
        What the archive should be, for messages.

    Raises
    ------
    WeightsError
        Neither zip nor tar, locked by a password, a name that leads out of it, or too many files.
    OSError, zipfile.BadZipFile, tarfile.TarError
        It cannot be read, or is damaged.
    """
    if _starts_as_zip(source):
        yield from _zip_members(source, what)
    elif tarfile.is_tarfile(source):
        yield from _tar_members(source, what)
    else:
        raise WeightsError(f"{source.name} is neither a tar nor a zip archive; choose the file as it was downloaded")


def read_limited(stream: IO[bytes], size: int, limit: int, what: str, expected: str = "") -> bytes:
    """Bytes of a member; what its header says may be a lie, and never more than the limit is read.

    Raises
    ------
    WeightsError
        Larger than ``limit`` bytes.
    """
    data = stream.read(limit + 1) if size <= limit else b""
    if size > limit or len(data) > limit:
        raise WeightsError(f"{what} is larger than {limit // 10**6} MB{expected and f'; {expected}'}")
    return data


def _starts_as_zip(source: Path) -> bool:
    # zipfile.is_zipfile looks at the end of the file: a tar that ends with a checkpoint, which is a zip, deceives it.
    with open(source, "rb") as stream:
        return stream.read(2) == b"PK"


def _zip_members(source: Path, what: str) -> Iterator[tuple[str, int, IO[bytes]]]:
    with zipfile.ZipFile(source) as archive:
        for number, member in enumerate(archive.infolist()):
            _check_name(member.filename, number, source, what)
            mode = member.external_attr >> 16
            is_plain = stat.S_IFMT(mode) in (0, stat.S_IFREG)
            if member.is_dir() or not is_plain:
                continue
            if member.flag_bits & 1:
                raise WeightsError(f"{source.name} is locked by a password; unlock it first")
            with archive.open(member) as stream:
                yield member.filename, member.file_size, stream


def _tar_members(source: Path, what: str) -> Iterator[tuple[str, int, IO[bytes]]]:
    with tarfile.open(source) as archive:
        for number, member in enumerate(archive):
            _check_name(member.name, number, source, what)
            stream = archive.extractfile(member) if member.isreg() else None
            if stream is not None:
                yield member.name, member.size, stream


def _check_name(name: str, number: int, source: Path, what: str) -> None:
    if number >= MAX_MEMBERS:
        raise WeightsError(f"{source.name} holds more than {MAX_MEMBERS} files; this is not {what}")
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", name):
        raise WeightsError(f"{source.name} holds the name {name!r}, which leads out of the archive; do not trust it")
