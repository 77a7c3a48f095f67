"""The terminal: train a denoiser on noisy files, list it, denoise, enhance with it, and score denoisers."""

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
def noisy(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        write(tmp_path / "data" / f"{name}.tif", rng.normal(200, 20, (40, 44)).astype(np.uint16), "YX", dtype="keep")
    return tmp_path / "data"


def _run(*words: Any) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def _train(data: Path, out: Path, *more: Any) -> Any:
    return _run(
        "train", "n2v", data, "--out", out, "--id", "toy", "--steps", 3, "--validate-every", 3, "--batch-size", 2,
        "--patch", 16, "--width", 4, "--precision", "float32", "--set", "n_validation=2", *more,
    )  # fmt: skip


def test_train_list_denoise_and_enhance(noisy: Path, tmp_path: Path) -> None:
    done = _train(noisy, tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "blind spots" in done.output and "finished" in done.output
    listed = {one["id"]: one for one in json.loads(_run("models", "list", "--json").output)}
    assert listed["toy"]["group"] == "Denoising"
    done = _run(
        "denoise", noisy, tmp_path / "clean", "--model", "toy", "--dtype", "same", "--device", "cpu",
        "--report", tmp_path / "report.json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "report.json").read_text())
    first = Path(report[0]["targets"][0])
    assert read(first).image.dtype == np.uint16 and read(first).image.shape == (40, 44)
    made = read_provenance(first)
    assert made is not None and made["step"] == "denoise" and made["model"] == "toy"
    done = _run("enhance", noisy / "a.tif", tmp_path / "half.ome.tif", "--model", "toy", "--strength", "0.5")
    assert done.exit_code == 0, done.output


def test_mistakes_are_one_line(noisy: Path, tmp_path: Path) -> None:
    done = _run("denoise", noisy, tmp_path / "clean", "--model", "nobody")
    assert done.exit_code == WRONG_USAGE and "no denoiser 'nobody'" in done.output
    done = _train(noisy, tmp_path / "out", "--structure", "cross")
    assert done.exit_code == WRONG_USAGE and "reaches 0 px" in done.output
    done = _train(noisy, tmp_path / "out", "--3d")
    assert done.exit_code != 0 and "no Z axis" in done.output


def test_denoisers_are_scored_on_pairs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clean = np.kron(rng.random((5, 5)), np.ones((8, 8))) * 200
    for kind, image in (("clean", clean), ("noisy", clean + rng.normal(0, 40, clean.shape))):
        (tmp_path / kind).mkdir()
        write(tmp_path / kind / "a.tif", image.astype(np.float32), "YX")
    done = _run(
        "evaluate", "n2v", tmp_path, "--out", tmp_path / "out", "--methods", "noisy,gaussian,n2v2", "--steps", 2,
        "--batch-size", 2, "--patch", 16, "--precision", "float32",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "| N2V2, trained on these images |" in done.output
    assert (tmp_path / "out" / "pictures.png").is_file()
