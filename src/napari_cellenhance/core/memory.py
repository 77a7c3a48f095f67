"""Keep freed memory inside the process, so that the next layer of a network need not ask the system for it.

glibc maps every large buffer anew and hands it back when it is freed. The pages of each feature map are then
zeroed by the kernel again and again, which costs up to half as much as the convolutions themselves. Two
thresholds of its ``mallopt`` end that. They hold for the whole process and cannot be taken back, hence they are
set by our own doors only (the terminal, the threads of the dock), never by importing the package or calling
its Python interface.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform

__all__ = ["KEEP_VARIABLE", "can_keep_memory", "give_back_memory", "is_keeping_memory", "keep_memory"]

KEEP_VARIABLE = "CELLENHANCE_KEEP_MEMORY"
"""Environment variable; ``0`` leaves the allocator alone."""

# Numbers of glibc's <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MAPPED_FROM_BYTES = 1 << 30
_TRIMMED_FROM_BYTES = 2**31 - 1


def can_keep_memory() -> bool:
    """Whether the process runs on glibc, whose allocator has the thresholds."""
    return platform.libc_ver()[0] == "glibc" and hasattr(_libc(), "mallopt")


def keep_memory() -> bool:
    """Keep freed buffers of up to 1 GiB for later ones; process-wide, once.

    Returns
    -------
    bool
        False where it is switched off (``CELLENHANCE_KEEP_MEMORY=0``) or the allocator is another one; nothing
        is changed then.
    """
    if os.environ.get(KEEP_VARIABLE, "").strip() == "0" or not can_keep_memory():
        return False
    return _set_thresholds()


def is_keeping_memory() -> bool:
    """Whether :func:`keep_memory` took effect in this process."""
    return _set_thresholds.cache_info().currsize > 0 and _set_thresholds()


def give_back_memory() -> None:
    """Hand what is kept but unused to the system; for the end of a run, a few milliseconds.

    Does nothing where nothing is kept.
    """
    if is_keeping_memory():
        _libc().malloc_trim(0)


@functools.cache
def _set_thresholds() -> bool:
    mallopt = _libc().mallopt
    # Both, or neither: setting one alone switches off glibc's own adaptation of the other.
    return bool(mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM_BYTES) and mallopt(_M_TRIM_THRESHOLD, _TRIMMED_FROM_BYTES))


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
