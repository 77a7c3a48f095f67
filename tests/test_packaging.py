"""What a user gets with pip: everything the package reads is in the wheel, and nothing drags in Qt."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest

import napari_cellenhance
from napari_cellenhance.zoo.folders import bundled_dir, sha256_of
from napari_cellenhance.zoo.manifest import load_manifest

ROOT = Path(__file__).parents[1]
PACKAGE = "napari_cellenhance"
BUNDLED_LIMIT_MB = 30
NETWORK_LIMIT_MB = 7


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel built from a copy without git, as from an archive."""
    tree = tmp_path_factory.mktemp("archive")
    for name in ("pyproject.toml", "LICENSE", "README.md", "weights_manifest.json"):
        shutil.copy(ROOT / name, tree)
    shutil.copytree(ROOT / "src", tree / "src", ignore=shutil.ignore_patterns("__pycache__", "_version.py"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SETUPTOOLS_SCM")}
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tree / "dist"), str(tree)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (tree / "dist").glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Any:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


def test_the_wheel_holds_all_that_the_package_reads(wheel: zipfile.ZipFile) -> None:
    held = set(wheel.namelist())
    source = ROOT / "src" / PACKAGE
    files = {path.relative_to(ROOT / "src").as_posix() for path in source.rglob("*") if path.is_file()}
    expected = {name for name in files if "__pycache__" not in name and "/." not in name}
    assert expected <= held
    assert {f"{PACKAGE}/napari.yaml", f"{PACKAGE}/py.typed", f"{PACKAGE}/_version.py"} <= held
    assert wheel.read(f"{PACKAGE}/zoo/weights_manifest.json") == (ROOT / "weights_manifest.json").read_bytes()


def test_bundled_models_are_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    manifest = load_manifest()
    bundled = {entry.file.name for entry in (*manifest.models, *manifest.assets) if getattr(entry, "bundled", False)}
    held = {Path(name).name for name in wheel.namelist() if name.startswith(f"{PACKAGE}/zoo/bundled/")}
    assert bundled <= held
    size = sum(item.file_size for item in wheel.infolist() if "/zoo/bundled/" in item.filename)
    assert size <= BUNDLED_LIMIT_MB * 1_000_000


def test_the_manifest_offers_five_trained_strengths() -> None:
    cards = [card for card in load_manifest().models if card.recipe == "nunet" and card.bundled]
    strengths = {strength for card in cards for strength in (card.strength.knots or (card.strength.default,))}
    assert len(strengths) >= 5
    for card in cards:
        assert sha256_of(bundled_dir() / card.file.name) == card.file.sha256
        assert card.license
        assert card.training


def test_every_bundled_network_is_a_small_file() -> None:
    cards = [card for card in load_manifest().models if card.bundled]
    assert cards
    for card in cards:
        assert (bundled_dir() / card.file.name).stat().st_size == card.file.size_bytes <= NETWORK_LIMIT_MB * 1_000_000


def test_nothing_foreign_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {re.sub(r"-.*", "", top) for top in tops} == {PACKAGE}


def test_a_tree_without_git_has_a_version(metadata: Any) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert metadata["Version"] == project["tool"]["hatch"]["version"]["fallback-version"]


def test_the_base_install_brings_no_qt_and_no_upper_bounds(metadata: Any) -> None:
    base = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    names = {re.split(r"[\s<>=!~;\[]", line)[0].lower() for line in base}
    assert {"napari", "torch", "numpy", "safetensors", "pooch"} <= names
    assert not names & {"pyqt5", "pyqt6", "pyside2", "pyside6"}
    assert not [line for line in base if line.lower().startswith("napari[")]
    assert not [line for line in base if "<" in line or "==" in line]
    assert {"all", "dev", "openvino"} <= set(metadata.get_all("Provides-Extra"))


def test_the_doors_are_declared(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt"))
    text = wheel.read(name).decode()
    assert "[napari.manifest]\nnapari-cellenhance = napari_cellenhance:napari.yaml" in text
    assert "cellenhance = napari_cellenhance.cli:main" in text


def test_the_package_knows_its_version() -> None:
    assert re.match(r"\d+\.\d+", napari_cellenhance.__version__)
