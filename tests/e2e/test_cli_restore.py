"""The terminal: pairs from clean files, train a restoration, list it, restore, enhance with it, and score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_cellenhance.cli import app
from napari_cellenhance.cli.words import WRONG_USAGE
from napari_cellenhance.io.images import read, read_provenance, write


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        image = np.kron(rng.random((6, 6)), np.ones((6, 6))) * 900
        write(tmp_path / "data" / f"{name}.tif", image.astype(np.uint16), "YX", dtype="keep")
    return tmp_path / "data"


def _run(*words: Any) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def _train(data: Path, out: Path, *more: Any) -> Any:
    return _run(
        "train", "care", data, "--out", out, "--id", "toy", "--steps", 2, "--validate-every", 2, "--batch-size", 2,
        "--patch", 16, "--width", 4, "--kernel", 3, "--precision", "float32", "--set", "n_validation=2", *more,
    )  # fmt: skip


def test_from_clean_files_to_a_scored_model(clean: Path, tmp_path: Path) -> None:
    done = _run("synthesize", clean, tmp_path / "pairs", "--pixel", "0.1", "--na", "0.9", "--photons", "10,20")
    assert done.exit_code == 0, done.output
    assert "2 clean image(s) → 6 pairs" in done.output
    log = json.loads((tmp_path / "pairs" / "synthesis.json").read_text())
    assert log["synthesis"]["optics"]["na"] == 0.9 and all(10 <= pair["photons"] <= 20 for pair in log["pairs"])
    done = _train(tmp_path / "pairs", tmp_path / "out", "--pairs")
    assert done.exit_code == 0, done.output
    assert "kept aside" in done.output and "σ is multiplied by" in done.output
    listed = {one["id"]: one for one in json.loads(_run("models", "list", "--json").output)}
    assert listed["toy"]["group"] == "Restoration"
    done = _run(
        "restore", tmp_path / "pairs" / "noisy", tmp_path / "better", "--model", "toy", "--device", "cpu",
        "--repeats", "2", "--report", tmp_path / "report.json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert len(report) == 6 and "applied 2 times" in report[0]["warnings"][0]
    first = Path(report[0]["targets"][0])
    made = read_provenance(first)
    assert made is not None and made["step"] == "restore" and made["earlier"]["step"] == "synthesize"
    assert read(first.with_name(first.name.replace(".ome.tif", "_uncertainty.ome.tif"))).image.shape == (36, 36)
    done = _run("enhance", clean / "a.tif", tmp_path / "half.ome.tif", "--model", "toy", "--strength", "0.5")
    assert done.exit_code == 0, done.output
    done = _run(
        "evaluate",
        "care",
        tmp_path / "pairs",
        "--out",
        tmp_path / "scores",
        "--methods",
        "noisy,toy",
        "--device",
        "cpu",
    )
    assert done.exit_code == 0, done.output
    assert "| poor image |" in done.output and "| toy |" in done.output
    assert (tmp_path / "scores" / "pictures.png").is_file()


def test_clean_images_alone_are_enough_to_train(clean: Path, tmp_path: Path) -> None:
    (tmp_path / "levels.json").write_text(json.dumps([{"name": "dim", "gain": [0.1, 0.2]}]))
    done = _train(
        clean,
        tmp_path / "out",
        "--psf",
        "none",
        "--levels",
        tmp_path / "levels.json",
        "--minimum",
        "0.5",
        "--no-install",
    )
    assert done.exit_code == 0, done.output
    drawn = json.loads((tmp_path / "out" / "exposures.json").read_text())
    assert [pair["level"] for pair in drawn["pairs"]] == ["dim", "dim"] and 0.1 <= drawn["pairs"][0]["gain"] <= 0.2
    assert drawn["synthesis"]["preparation"]["radius_px"] == 0.5


def test_a_search_prints_and_writes_its_table(clean: Path, tmp_path: Path) -> None:
    words = (
        "search", "care", clean, "--out", tmp_path / "search", "--psf", "none", "--grid", "patch_px=16,32", "--grid",
        "learning_rate=1e-3", "--steps", 2, "--set", "width=4", "--set", "kernel_px=3", "--set", "batch_size=2",
    )  # fmt: skip
    done = _run(*words)
    assert done.exit_code == 0, done.output
    assert "| patch_px | learning_rate | MAE |" in done.output
    assert len((tmp_path / "search" / "search.csv").read_text().splitlines()) == 3
    assert _run(*words[:-1], "patchpx=2").exit_code == WRONG_USAGE
    assert "expected a name and values" in _run(*words[:7], "--grid", "patch_px").output


def test_mistakes_are_one_line(clean: Path, tmp_path: Path) -> None:
    for words, text in (
        (("synthesize", clean, tmp_path / "p"), "state it in micrometres"),
        (("synthesize", clean, tmp_path / "p", "--psf", "gausian"), "expected gaussian, airy, none"),
        (("synthesize", clean, tmp_path / "p", "--photons", "many"), "expected two numbers"),
        (("restore", clean, tmp_path / "better", "--model", "nobody"), "no restoration model 'nobody'"),
    ):
        done = _run(*words)
        assert done.exit_code == WRONG_USAGE and text in done.output, done.output


def test_volumes_are_scored_as_volumes(tmp_path: Path) -> None:
    clean = np.random.default_rng(0).random((5, 24, 26)).astype(np.float32)
    for kind, image in (("noisy", clean + 0.1), ("clean", clean)):
        (tmp_path / "pairs" / kind).mkdir(parents=True)
        write(tmp_path / "pairs" / kind / "a.tif", image, "ZYX")
    asked = ("evaluate", "care", tmp_path / "pairs", "--methods", "noisy", "--out")
    for words, n_images in (((tmp_path / "planes",), 5), ((tmp_path / "volumes", "--3d"), 1)):
        done = _run(*asked, *words)
        assert done.exit_code == 0, done.output
        assert len(json.loads((words[0] / "scores.json").read_text(encoding="utf-8"))["rows"]) == n_images
