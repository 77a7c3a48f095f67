"""Freed memory is kept where glibc allows it; each case in a process of its own, as the setting cannot be undone."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from napari_cellenhance.core import memory

glibc_only = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the thresholds are glibc's")

# Page faults of a large buffer that is written to and freed, after a first one.
_FAULTS = """
import ctypes, resource, sys
from napari_cellenhance.core import memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def use(n=50_000_000):
    p = libc.malloc(n)
    ctypes.memset(p, 1, n)
    libc.free(p)

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    use()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

kept = memory.keep_memory()
use()
first = faults()
memory.give_back_memory()
print(kept, memory.is_keeping_memory(), first > 5000, faults() > 5000)
"""


def run(**environment: str) -> list[str]:
    env = {key: value for key, value in os.environ.items() if key != memory.KEEP_VARIABLE} | environment
    done = subprocess.run([sys.executable, "-c", _FAULTS], env=env, capture_output=True, text=True, check=True)
    return done.stdout.split()


@glibc_only
def test_freed_buffers_cost_no_page_faults_until_they_are_given_back() -> None:
    assert run() == ["True", "True", "False", "True"]


@glibc_only
def test_switched_off_by_the_environment() -> None:
    assert run(CELLENHANCE_KEEP_MEMORY="0") == ["False", "False", "True", "True"]


def test_another_allocator_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(memory, "_set_thresholds", lambda: pytest.fail("thresholds were set"))
    assert not memory.can_keep_memory()
    assert not memory.keep_memory()


def test_importing_the_package_changes_no_allocator() -> None:
    program = (
        "import napari_cellenhance, napari_cellenhance.workflows.enhance\n"
        "from napari_cellenhance.core import memory\n"
        "print(memory.is_keeping_memory())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
