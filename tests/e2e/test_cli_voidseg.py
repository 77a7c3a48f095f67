"""The terminal: train VoidSeg behind a denoiser, segment with it, and evaluate its schemes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from napari_cellenhance.cli import app
from napari_cellenhance.cli.words import WRONG_USAGE
from napari_cellenhance.core.models.denoiser import DenoisingNetwork
from napari_cellenhance.io.images import read, write
from napari_cellenhance.zoo.weights import save_user_model


@pytest.fixture
def data(cells: Any, tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("a", "b"):
        write(folder / f"{name}.tif", cells.image, "YX", dtype="keep")
        write(folder / f"{name}_labels.tif", cells.labels.astype(np.uint16), "YX", dtype="keep")
    torch.manual_seed(7)
    module = DenoisingNetwork(depth=1, width=4)
    card = {
        "id": "toy-n2v", "title": "Toy", "summary": "For tests.", "version": "1.0.0", "recipe": "n2v",
        "architecture": module.architecture, "license": "BSD-3-Clause",
        "normalization": {"name": "percentile", "parameters": {"lo": 0.1, "hi": 99.9, "clip": False}},
        "strength": {"minimum": 0.0, "default": 1.0, "maximum": 1.0},
    }  # fmt: skip
    save_user_model(module.state_dict(), card)
    return folder


def _run(*words: Any) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def _train(data: Path, out: Path, *more: Any) -> Any:
    return _run(
        "train", "voidseg", data, "--out", out, "--id", "toy", "--object", "cell", "--steps", 1, "--validate-every", 1,
        "--batch-size", 2, "--crop", 32, "--depth", 1, "--width", 4, "--precision", "float32", *more,
    )  # fmt: skip


def test_train_and_segment(data: Path, tmp_path: Path) -> None:
    trained = _train(data, tmp_path / "out", "--scheme", "sequential", "--denoiser", "toy-n2v")
    assert trained.exit_code == 0, trained.output
    assert "at a threshold of" in trained.output and "best at update" in trained.output
    objects = tmp_path / "objects.ome.tif"
    made = _run(
        "segment", data / "a.tif", objects, "--model", "toy", "--threshold", 0.0, "--min-size", 0, "--grow", 1,
        "--also", "denoised", "--precision", "float32",
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    assert np.squeeze(read(objects).image).min() >= 1, "above a threshold of 0 everything is an object"
    assert (tmp_path / "objects_denoised.ome.tif").is_file()
    classes = tmp_path / "classes.ome.tif"
    assert _run("segment", data / "a.tif", classes, "--model", "toy", "--output", "classes").exit_code == 0
    assert set(np.unique(read(classes).image)) <= {1, 2, 3}


def test_wrong_words_are_named(data: Path, tmp_path: Path) -> None:
    for more, said in (
        (("--scheme", "sequential"), "needs one"),
        (("--scheme", "finetune", "--denoiser", "nobody"), "nobody"),
        (("--network", "stardist", "--scheme", "finetune", "--denoiser", "toy-n2v"), "another head"),
    ):
        refused = _train(data, tmp_path / "out", *more)
        assert refused.exit_code == WRONG_USAGE and said in refused.output


def test_evaluate_prints_a_table(data: Path, tmp_path: Path) -> None:
    sources = [{"name": name, "folder": "data"} for name in ("train", "test")]
    (tmp_path / "list.json").write_text(json.dumps({"sources": sources}), encoding="utf-8")
    # Patches of 128 px do not fit into these images, and that is said.
    words = ("evaluate", "voidseg", tmp_path / "list.json", "--out", tmp_path / "scores", "--labelled", "2")
    refused = _run(*words, "--noise", "20", "--seeds", "0")
    assert refused.exit_code == WRONG_USAGE and "only 0" in refused.output
    done = _run(
        *words, "--noise", "20", "--seeds", "0", "--methods", "baseline", "--patch", 32, "--crop", 32, "--steps", 1,
        "--depth", 1, "--width", 4, "--batch-size", 1,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "| U-Net |" in done.output and (tmp_path / "scores" / "scores.md").is_file()
    assert _run(*words, "--noise", "loud").exit_code == WRONG_USAGE
