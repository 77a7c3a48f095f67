"""The doctor finds what is wrong, and says what to do."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_cellenhance.workflows import catalog, doctor
from napari_cellenhance.workflows.doctor import DoctorReport, Finding, examine_results


@pytest.fixture(autouse=True)
def _stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLENHANCE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CELLENHANCE_MODELS", str(tmp_path / "own"))


def named(findings: Any, name: str) -> Finding:
    (found,) = [finding for finding in findings if finding.name == name]
    return found


def test_a_healthy_computer() -> None:
    report = doctor.run(device="cpu")
    assert report.is_healthy, report.problems
    topics = list(dict.fromkeys(finding.topic for finding in report.findings))
    assert topics == ["Versions", "Devices", "Folders", "Models", "Window", "Self-test"]
    assert named(report.findings, "torch").value == importlib.metadata.version("torch")
    assert named(report.findings, "chosen").value.startswith("running on CPU")
    assert "GB free" in named(report.findings, "cache").value
    assert "tiled − untiled ≤ 0.00" in named(report.findings, "enhance").value
    assert named(report.findings, "write and read back").value == "identical"
    assert json.loads(json.dumps(report.to_dict()))["is_healthy"] is True


def test_every_problem_has_an_advice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("CELLENHANCE_CACHE", str(tmp_path / "file" / "cache"))
    report = doctor.run(device="cuda:7")
    assert not report.is_healthy
    assert {finding.name for finding in report.problems} == {"cache", "chosen"}
    assert all(finding.advice.endswith((".", "!")) for finding in report.problems)
    assert "CELLENHANCE_CACHE" in named(report.findings, "cache").advice
    assert "cuda:7 was asked" in named(report.findings, "chosen").advice


def test_an_unknown_device_is_a_problem() -> None:
    chosen = named(doctor._devices("abacus", "auto"), "chosen")
    assert chosen.is_problem
    assert "abacus" in chosen.advice


def test_a_missing_package_is_a_problem_but_napari_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    original = importlib.metadata.version

    def version(package: str) -> str:
        if package in ("tifffile", "napari", "napari-cellenhance"):
            raise importlib.metadata.PackageNotFoundError
        return original(package)

    monkeypatch.setattr(importlib.metadata, "version", version)
    findings = list(doctor._versions())
    assert [finding.name for finding in findings if finding.is_problem] == ["tifffile"]
    assert "pip install" in named(findings, "napari").advice
    assert "pip install -e" in named(findings, "napari-cellenhance").advice


@pytest.mark.parametrize(
    ("installed", "value", "advice"),
    [
        ((), "none", "Only needed for the window"),
        (("PySide6",), "PySide6", ""),
        (("PyQt6", "PyQt5"), "PyQt6, PyQt5", "can clash"),
    ],
)
def test_qt_is_looked_for_without_being_imported(
    monkeypatch: pytest.MonkeyPatch, installed: tuple[str, ...], value: str, advice: str
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name in installed else None)
    (found,) = doctor._window()
    assert found.value == value
    assert advice in found.advice
    assert bool(advice) == bool(found.advice)
    assert not found.is_problem


def test_little_space_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 1_000_000

    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: Usage)
    assert all(finding.is_problem and "space" in finding.advice for finding in doctor._folders())


def test_models_that_are_missing_damaged_or_fetchable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, card: Callable[..., Any]
) -> None:
    from napari_cellenhance.zoo import manifest

    monkeypatch.setattr(
        manifest, "load_manifest", lambda: manifest.Manifest(
            schema_version=1, base_url="", assets=(), problems=("own.json is damaged",),
            models=(card("shipped", bundled=True), card("remote", bundled=False), card("good", content=b"weights")),
        ),
    )  # fmt: skip
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "good.safetensors").write_bytes(b"weights")
    (tmp_path / "cache" / "remote.safetensors").write_bytes(b"cut")
    findings = list(doctor._models())
    assert named(findings, "shipped").is_problem
    assert "install" in named(findings, "shipped").advice
    assert not named(findings, "remote").is_problem
    assert "models fetch remote" in named(findings, "remote").advice
    assert "verified" in named(findings, "good").value
    assert not named(findings, "good").advice
    assert named(findings, "own model card 1").is_problem


@pytest.fixture
def card() -> Callable[..., Any]:
    import hashlib

    from napari_cellenhance.zoo.manifest import ModelCard

    def make(model_id: str, *, bundled: bool = False, content: bytes = b"absent") -> ModelCard:
        return ModelCard.model_validate({
            "id": model_id, "title": model_id, "summary": "", "version": "1.0", "recipe": "nunet",
            "architecture": {"name": "nunet"}, "normalization": {"name": "percentile"},
            "strength": {"default": 5, "maximum": 10}, "license": "CC0", "object_diameter_px": 20, "bundled": bundled,
            "file": {
                "name": f"{model_id}.safetensors", "url": f"{model_id}.safetensors", "size_bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
            },
        })  # fmt: skip

    return make


@pytest.mark.parametrize(
    ("value", "complaint"), [(np.nan, "no numbers"), (1.5, "not from 0 to 1"), (-0.1, "not from 0 to 1")]
)
def test_bad_results_are_told(value: float, complaint: str) -> None:
    good = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    bad = good.copy()
    bad[2, 2] = value
    assert examine_results(good, good) == ""
    assert complaint in examine_results(bad, good)
    assert complaint in examine_results(good, bad)


def test_seams_and_flat_results_are_told() -> None:
    good = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    seam = good.copy()
    seam[0, 0] += 0.01
    assert "differ by 0.0100" in examine_results(good, seam)
    assert "one single value" in examine_results(good * 0, good * 0)


def test_a_filter_that_fails_the_self_test_makes_the_report_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = catalog.open_enhancer("gamma")
    monkeypatch.setattr(doctor, "_filter_to_test", lambda: "gamma")
    monkeypatch.setattr(type(opened.enhancer), "decode", lambda self, features, strength: np.float32(np.nan))
    finding = named(doctor._self_test("cpu", "float32"), "enhance")
    assert finding.is_problem
    assert "--device cpu" in finding.advice


def test_no_problem_no_alarm() -> None:
    assert DoctorReport(findings=(Finding(topic="t", name="n", value="v", advice="by the way"),)).is_healthy


@pytest.mark.parametrize(
    ("is_keeping", "can_keep", "words"), [(True, True, "kept"), (False, True, "slower"), (False, False, "left to")]
)
def test_it_is_told_whether_freed_memory_is_kept(
    monkeypatch: pytest.MonkeyPatch, is_keeping: bool, can_keep: bool, words: str
) -> None:
    monkeypatch.setattr("napari_cellenhance.core.memory.is_keeping_memory", lambda: is_keeping)
    monkeypatch.setattr("napari_cellenhance.core.memory.can_keep_memory", lambda: can_keep)
    finding = doctor._memory()
    assert words in finding.value
    assert not finding.is_problem
