"""Where model files live on this computer, and the two things done to their bytes."""

from __future__ import annotations

import hashlib
import os
import uuid
from contextlib import suppress
from pathlib import Path

__all__ = [
    "CACHE_VARIABLE",
    "MODELS_VARIABLE",
    "bundled_dir",
    "cache_dir",
    "card_stamp",
    "replace_bytes",
    "sha256_of",
    "user_models_dir",
]

APP_NAME = "napari-cellenhance"
CACHE_VARIABLE = "CELLENHANCE_CACHE"
MODELS_VARIABLE = "CELLENHANCE_MODELS"


def bundled_dir() -> Path:
    """Folder of the weights that ship inside the package; read only."""
    return Path(__file__).resolve().parent / "bundled"


def cache_dir(preference: str | os.PathLike[str] | None = None) -> Path:
    """Folder for downloaded files; nothing is created.

    Parameters
    ----------
    preference : str, path-like, or None
        Folder from the user's settings; empty or None means "not set".

    Returns
    -------
    Path
        The environment variable ``CELLENHANCE_CACHE``, else ``preference``, else the
        cache folder that the operating system gives to applications.
    """
    chosen = os.environ.get(CACHE_VARIABLE, "").strip() or str(preference or "").strip()
    if chosen:
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path(APP_NAME, appauthor=False)


def user_models_dir() -> Path:
    """Folder of the models that the user trained; nothing is created.

    Returns
    -------
    Path
        The environment variable ``CELLENHANCE_MODELS``; else, where ``CELLENHANCE_CACHE`` is
        set, its sibling ``<cache>-models``; else the data folder of the operating system.
        Never inside the cache: emptying a cache must not delete a trained model.
    """
    chosen = os.environ.get(MODELS_VARIABLE, "").strip()
    if chosen:
        return Path(chosen).expanduser().absolute()
    if os.environ.get(CACHE_VARIABLE, "").strip():
        cache = cache_dir()
        return cache.with_name(f"{cache.name}-models")
    from platformdirs import user_data_path

    return user_data_path(APP_NAME, appauthor=False) / "models"


def card_stamp(model_id: str) -> int:
    """When the user's model of this id was last stored, in ns; 0 for any other filter. Costs one look at the disk.

    What a long-lived dock has loaded under an id is out of date when the stamp changes: the model was trained anew.
    """
    try:
        return (user_models_dir() / f"{model_id}.json").stat().st_mtime_ns
    except OSError:
        return 0


def sha256_of(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, 64 lower-case hexadecimal digits.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def replace_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` so that a reader meets the old file or the new one, never a part.

    Raises
    ------
    OSError
        Disk full, no permission…; a file that was at ``path`` is unchanged.
    """
    # A twin of io.safe_write for whole byte strings: the stores zoo and io must not import each other.
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        # Not there after a success; where it cannot be removed, the first error is the one to tell.
        with suppress(OSError):
            temporary.unlink()
