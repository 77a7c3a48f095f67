"""From a file entry to a verified file on disk: bundled copy, cache, or download.

A file is only ever used after its SHA-256 was checked, and a good file is never replaced
by a bad one: downloads go to a folder of their own and move in when they are proven good.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from napari_cellenhance.core.errors import ChecksumError, DownloadError
from napari_cellenhance.zoo._download import DownloadCancelled, fetch
from napari_cellenhance.zoo.cards import FileEntry
from napari_cellenhance.zoo.folders import (
    CACHE_VARIABLE,
    bundled_dir,
    cache_dir,
    sha256_of,
    user_models_dir,
)
from napari_cellenhance.zoo.manifest import BASE_URL_VARIABLE, load_manifest

__all__ = ["DownloadCancelled", "cache_dir", "find_local", "resolve", "sha256_of", "url_of", "user_models_dir"]

_log = logging.getLogger(__name__)
_INCOMING = "incoming-"
_ORPHAN_AGE_S = 24 * 3600.0


def resolve(
    entry: FileEntry,
    *,
    cache: Path | None = None,
    base_url: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    is_cancelled: Callable[[], bool] | None = None,
    allow_download: bool = True,
    timeout_s: float = 20.0,
) -> Path:
    """Path of a verified copy of ``entry``, downloading it if need be.

    Parameters
    ----------
    entry : FileEntry
        From a model or asset card.
    cache : Path or None
        Folder for downloads; None takes :func:`cache_dir`.
    base_url : str or None
        Address that a relative URL is appended to; None takes the manifest's
        (or the environment variable ``CELLENHANCE_BASE_URL``).
    on_progress : callable or None
        Called with (bytes so far, bytes in all), about ten times a second.
    is_cancelled : callable or None
        Polled with every piece of the download.
    allow_download : bool
        False: only what is on this computer.
    timeout_s : float
        Longest silence of the server, in s.

    Returns
    -------
    Path
        In the package, the user's models folder, or the cache.

    Raises
    ------
    ChecksumError
        What the server sent is not the file of the manifest, or the user's own weights changed.
    DownloadError
        No copy here and none could be fetched; the message names the folder to put it by hand.
    DownloadCancelled
        ``is_cancelled`` said so; nothing is left behind.
    """
    if entry.url is None:
        return _user_file(entry)
    local = find_local(entry, cache=cache)
    if local is not None:
        return local
    folder = cache or cache_dir()
    damage = _set_aside(folder / entry.name)
    by_hand = f"To install it by hand, put {entry.name} into {folder} and try again."
    if not allow_download:
        raise DownloadError(f"{damage}{entry.name} is not on this computer and downloading is switched off. {by_hand}")
    address = url_of(entry, base_url)
    if address is None:
        raise DownloadError(
            f"{damage}{entry.name} is not on this computer and no download address is set (environment "
            f"variable {BASE_URL_VARIABLE}). {by_hand}"
        )
    try:
        path = _download(entry, address, folder, on_progress, is_cancelled, timeout_s)
    except DownloadCancelled:
        raise
    except (DownloadError, ChecksumError) as error:
        raise type(error)(f"{damage}{error} {by_hand}") from error
    _damaged_name(path).unlink(missing_ok=True)
    return path


def find_local(entry: FileEntry, *, cache: Path | None = None) -> Path | None:
    """Path of a verified copy that is on this computer already, or None.

    Only reads: a damaged copy stays where it is (and is logged). For a file of the user's
    models folder, None means missing or changed.
    """
    if entry.url is None:
        folders = [user_models_dir()]
    else:
        folders = [bundled_dir(), cache or cache_dir()]
    for folder in folders:
        path = folder / entry.name
        if _is_good(path, entry):
            return path
        if path.is_file():
            _log.warning("%s differs from the manifest (SHA-256) and is not used.", path)
    return None


def url_of(entry: FileEntry, base_url: str | None = None) -> str | None:
    """Full address of an entry; None for a file of the user or while no base URL is set."""
    if entry.url is None or entry.url.startswith(("http://", "https://")):
        return entry.url
    base = base_url if base_url is not None else load_manifest().base_url
    return f"{base.rstrip('/')}/{entry.url}" if base else None


def _user_file(entry: FileEntry) -> Path:
    path = user_models_dir() / entry.name
    if not path.is_file():
        raise DownloadError(
            f"the weights {entry.name} are missing from {path.parent}; they were trained here and cannot be "
            "downloaded. Put the file back, or train the model again."
        )
    if not _is_good(path, entry):
        raise ChecksumError(
            f"{path} has changed since it was saved (its SHA-256 differs from its card) and is not used. "
            "Put the original file back, or train the model again."
        )
    return path


def _is_good(path: Path, entry: FileEntry) -> bool:
    try:
        return path.stat().st_size == entry.size_bytes and sha256_of(path) == entry.sha256
    except OSError:
        # Missing, unreadable, or below something that is no folder: in all cases not usable.
        return False


def _damaged_name(path: Path) -> Path:
    return path.with_name(f"{path.name}.damaged")


def _set_aside(path: Path) -> str:
    """Rename a damaged cached file and say so, in a sentence that ends in a space; '' if there is none."""
    if not path.is_file():
        return ""
    try:
        os.replace(path, _damaged_name(path))
    except OSError as error:
        return f"{path} is damaged (its SHA-256 differs from the manifest) and cannot be set aside ({error.strerror}). "
    return (
        f"{path.name} in {path.parent} was damaged or incomplete (its SHA-256 differs from the manifest) "
        f"and was set aside as {_damaged_name(path).name}. "
    )


def _download(
    entry: FileEntry,
    address: str,
    folder: Path,
    on_progress: Callable[[int, int], None] | None,
    is_cancelled: Callable[[], bool] | None,
    timeout_s: float,
) -> Path:
    target = folder / entry.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _clean_orphans(folder)
        incoming = Path(tempfile.mkdtemp(prefix=_INCOMING, dir=folder))
    except OSError as error:
        raise DownloadError(
            f"the cache folder {folder} cannot be written ({error.strerror or error}). Set the environment variable "
            f"{CACHE_VARIABLE}, or the cache folder in the preferences, to a folder of yours."
        ) from error
    try:
        fetched = fetch(entry, address, incoming, on_progress, is_cancelled, timeout_s)
        os.replace(fetched, target)
    except PermissionError as error:
        # Windows refuses to replace a file that another process has open; theirs may well be good.
        if not _is_good(target, entry):
            raise DownloadError(f"{target} cannot be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
    return target


def _clean_orphans(folder: Path) -> None:
    """Remove what killed downloads left; recent folders may belong to a running one."""
    for orphan in folder.glob(f"{_INCOMING}*"):
        if time.time() - orphan.stat().st_mtime > _ORPHAN_AGE_S:
            shutil.rmtree(orphan, ignore_errors=True)
