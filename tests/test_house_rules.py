"""The arrows of the house point down, and opening a door costs no torch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "napari_cellenhance"

LIGHT = ("napari_cellenhance", "cli", "zoo.manifest", "workflows.requests", "workflows.catalog", "_sample_data")
HEADLESS_ROOMS = ("core", "zoo", "io", "workflows")
WINDOWS = ("napari", "qtpy", "magicgui", "superqt", "PyQt5", "PyQt6", "PySide2", "PySide6")

# Imports one module after the other and names the first that drags in what it must not.
_PROBE = """
import importlib, sys, warnings
warnings.simplefilter("ignore")
forbidden, modules = sys.argv[1].split(","), sys.argv[2].split(",")
for module in modules:
    importlib.import_module(module)
    found = [name for name in forbidden if name in sys.modules]
    if found:
        sys.exit(f"{module} imports {', '.join(found)}")
print(len(modules), "modules")
"""


def _modules_of(room: str) -> list[str]:
    """All modules in a folder of the package, by their files."""
    parts = [path.relative_to(SOURCE.parent).with_suffix("").parts for path in sorted((SOURCE / room).rglob("*.py"))]
    return [".".join(p[:-1] if p[-1] == "__init__" else p) for p in parts]


def _full(name: str) -> str:
    return name if name == "napari_cellenhance" else f"napari_cellenhance.{name}"


def _run(*command: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"QT_QPA_PLATFORM": "offscreen"} | environment
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False)


def _imports(modules: list[str], forbidden: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    return _run(sys.executable, "-c", _PROBE, ",".join(forbidden), ",".join(modules))


def _lint(cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    return _run(str(program), "--no-cache", cwd=cwd, **environment)


def test_doors_open_without_torch() -> None:
    done = _imports([*map(_full, LIGHT), *_modules_of("widgets")], ("torch",))
    assert done.returncode == 0, done.stderr


def test_docks_open_without_what_only_large_images_need() -> None:
    """They take longer than the rest of a dock together, and come with the first result on the disk."""
    done = _imports(_modules_of("widgets"), ("dask.array", "zarr", "tifffile", "matplotlib", "skimage", "scipy.sparse"))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("room", HEADLESS_ROOMS)
def test_headless_rooms_know_no_window(room: str) -> None:
    modules = _modules_of(room)
    assert len(modules) > 3
    done = _imports(modules, WINDOWS)
    assert done.returncode == 0, done.stderr


def test_terminal_knows_no_window() -> None:
    done = _imports(["napari_cellenhance", "napari_cellenhance.cli"], WINDOWS)
    assert done.returncode == 0, done.stderr


def test_the_probe_sees_a_sinner() -> None:
    done = _imports(["napari_cellenhance.zoo.weights"], ("torch",))
    assert done.returncode != 0
    assert "napari_cellenhance.zoo.weights imports torch" in done.stderr


def test_arrows_point_down() -> None:
    done = _lint()
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("core/axes.py", "import napari_cellenhance.io.images", "floors"),
        ("io/images.py", "import napari_cellenhance.zoo.cache", "floors"),
        ("zoo/folders.py", "import qtpy", "only the widgets know napari and Qt"),
        ("core/metrics.py", "import requests", "the core touches no network"),
        ("core/axes.py", "import napari_cellenhance.core.metrics", "nets stand on arrays"),
        ("core/tiling.py", "import torch", "the arrays know no torch"),
    ],
)
def test_a_climbing_arrow_is_caught(file: str, line: str, contract: str, tmp_path: Path) -> None:
    """Sabotage a copy of the house, inside a function where only import-linter looks."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    copy = tmp_path / "src" / "napari_cellenhance"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__", "bundled", "samples"))
    with (copy / file).open("a", encoding="utf-8") as stream:
        stream.write(f"\n\ndef sabotage() -> None:\n    {line}\n")

    done = _lint(tmp_path, PYTHONPATH=str(copy.parent))

    assert done.returncode == 1, done.stdout + done.stderr
    broken = [row for row in done.stdout.splitlines() if row.rstrip().endswith("BROKEN")]
    assert any(contract in row for row in broken), done.stdout
