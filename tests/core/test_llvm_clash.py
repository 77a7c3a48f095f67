"""Triton stays out where Mesa's LLVM is loaded, and nowhere else."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from napari_cellenhance.core import llvm_clash
from napari_cellenhance.core.llvm_clash import avoid_llvm_clash


@pytest.fixture
def maps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A process with Triton installed, not loaded, and Mesa's software renderer at work."""
    monkeypatch.delitem(sys.modules, "triton", raising=False)
    real = importlib.util.find_spec
    spec = importlib.machinery.ModuleSpec("triton", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec if name == "triton" else real(name))
    path = tmp_path / "maps"
    path.write_text("7f00-7f01 r-xp 0 08:01 99  /usr/lib/x86_64-linux-gnu/libLLVM-15.so.1\n", encoding="utf-8")
    monkeypatch.setattr(llvm_clash, "MAPS", path)
    yield path
    sys.modules.pop("triton", None)


def test_triton_is_kept_out_beside_mesa(maps: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert avoid_llvm_clash() and avoid_llvm_clash()
    assert caplog.text.count("Triton is not loaded") == 1
    with pytest.raises(ImportError):  # as if it were not installed
        importlib.import_module("triton")


def test_nothing_changes_without_mesa(maps: Path) -> None:
    maps.write_text("7f00-7f01 r-xp 0 08:01 99  /usr/lib/libGLX_nvidia.so.0\n", encoding="utf-8")
    assert not avoid_llvm_clash() and "triton" not in sys.modules


def test_nothing_changes_where_triton_is_loaded_or_absent(maps: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", sys)
    assert not avoid_llvm_clash() and sys.modules["triton"] is sys
    monkeypatch.delitem(sys.modules, "triton")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not avoid_llvm_clash() and "triton" not in sys.modules


def test_nothing_changes_on_other_systems(maps: Path) -> None:
    maps.unlink()
    assert not avoid_llvm_clash() and "triton" not in sys.modules
