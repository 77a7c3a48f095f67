"""Scoring in the terminal: tables, files, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from napari_cellenhance.cli import app
from napari_cellenhance.cli.words import FAILED, WRONG_USAGE
from napari_cellenhance.workflows import evaluate


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """Two noisy images with labels beside them."""
    folder = tmp_path / "cells"
    folder.mkdir()
    rng = np.random.default_rng(0)
    yy, xx = np.mgrid[:80, :80]
    for name in "ab":
        labels = np.zeros((80, 80), np.uint16)
        for number, (y, x) in enumerate(((20, 20), (20, 60), (60, 40)), start=1):
            labels[(yy - y) ** 2 + (xx - x) ** 2 <= 64] = number
        image = np.clip(60 + 60 * (labels > 0) + rng.normal(0, 25, labels.shape), 0, 255)
        tifffile.imwrite(folder / f"{name}.tif", image.astype(np.uint8))
        tifffile.imwrite(folder / f"{name}_labels.tif", labels)
    return folder


def _call(*words: Any) -> Any:
    return CliRunner().invoke(app, ["evaluate", "nunet", *(str(word) for word in words)])


def test_a_folder_is_scored_and_the_files_are_there(cells: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores"
    done = _call(cells, "--filter", "gaussian=2", "--filter", "dog=size", "--quick", "--out", out)
    assert done.exit_code == 0, done.output
    assert "**blob F1, one scale known**" in done.stdout and "dog size" in done.stdout
    record = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    assert {row["quality"] for row in record["rows"]} == {"as acquired", "medium noise"}
    assert {row["tuned_on"] for row in record["rows"]} == {"the other images of the set"}
    assert (out / "grey-values.png").is_file() and (out / "detection.png").is_file()


def test_the_gate_fails_in_a_sentence(cells: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = (cells, "--filter", "gaussian=2", "--no-noise", "--max-images", "1")
    monkeypatch.setattr(evaluate, "worse_than_raw", lambda result: ["nunet 10 is below raw"])
    assert _call(*words).exit_code == 0, "only --gate asks for it"
    stopped = _call(*words, "--gate")
    assert stopped.exit_code == FAILED
    assert stopped.stderr.splitlines() == ["error: nunet 10 is below raw"]
    monkeypatch.setattr(evaluate, "worse_than_raw", lambda result: [])
    assert _call(*words, "--gate").exit_code == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [(("--filter", "dog"), "expected ID=STRENGTH"), (("--filter", "gaussian=size"), "size of the objects")],
)
def test_wrong_words_are_refused(cells: Path, words: tuple[str, ...], sentence: str) -> None:
    refused = _call(cells, *words)
    assert refused.exit_code == WRONG_USAGE
    (line,) = refused.stderr.splitlines()
    assert sentence in line
