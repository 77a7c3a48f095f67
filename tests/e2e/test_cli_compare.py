"""``cellenhance figure`` and ``cellenhance resolution``."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from napari_cellenhance.cli import app
from napari_cellenhance.io.images import write


def call(*words: Any) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def refused(result: Any, code: int) -> str:
    assert result.exit_code == code, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return str(line)


@pytest.fixture
def files(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A noisy image, an enhanced one with its recipe, and labels."""
    yy, xx = np.indices((80, 96))
    labels = (((yy % 32 - 16) ** 2 + (xx % 32 - 16) ** 2) <= 49).astype(np.uint16)
    size = {"Y": 0.25, "X": 0.25}
    write(tmp_path / "raw.ome.tif", (100 + 300 * labels + rng.normal(0, 30, labels.shape)).astype(np.float32), "YX",
          pixel_size_um=size)  # fmt: skip
    recipe = {"software": "napari-cellenhance", "title": "NU-Net", "version": "1.2", "strength": 8.0}
    write(tmp_path / "better.ome.tif", labels.astype(np.float32), "YX", pixel_size_um=size, provenance=recipe)
    tifffile.imwrite(tmp_path / "labels.tif", labels)
    return tmp_path


def test_a_figure_with_its_numbers(files: Path) -> None:
    out, table = files / "figure.svg", files / "numbers.csv"
    words = ("figure", files / "raw.ome.tif", files / "better.ome.tif", out)
    done = call(*words, "--csv", table, "--mask", files / "labels.tif")
    assert done.exit_code == 0, done.output
    assert [Path(line).name for line in done.stdout.splitlines()] == [
        "figure.svg", "figure.svg.json", "numbers.csv", "numbers.csv.json",
    ]  # fmt: skip
    text = out.read_text(encoding="utf-8")
    assert "NU-Net 1.2, strength 8" in text and "5 µm" in text and text.count("<image") == 3
    with open(table, encoding="utf-8", newline="") as stream:
        before, after = csv.DictReader(stream)
    assert float(before["snr"]) == pytest.approx(10, rel=0.1) and float(before["frc_um"]) > 0
    assert json.loads((files / "numbers.csv.json").read_text(encoding="utf-8"))["mask"] == "labels.tif"
    assert after["image"] == "better.ome.tif" and float(after["auroc"]) == 1
    assert "exists already" in refused(call(*words), 1)
    assert call(*words, "--overwrite", "--difference", "none", "--background", "black", "-q").exit_code == 0
    assert out.read_text(encoding="utf-8").count("<image") == 2


def test_a_figure_says_what_it_needs(files: Path) -> None:
    raw, better = files / "raw.ome.tif", files / "better.ome.tif"
    assert "expected BEFORE" in refused(call("figure", raw, files / "out.png"), 2)
    assert "--csv" in refused(call("figure", raw, better, files / "o.png", "--mask", raw), 2)
    assert "expected a name ending in" in refused(call("figure", raw, better, files / "o.jpg"), 2)


def test_the_resolution_of_files(files: Path) -> None:
    raw, table = files / "raw.ome.tif", files / "frc.csv"
    done = call("resolution", raw, "--csv", table)
    assert done.exit_code == 0 and " px = " in done.stdout and "µm" in done.stdout
    assert "neighbouring pixels" in done.stderr
    with open(table, encoding="utf-8", newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert float(row["frc_um"]) == pytest.approx(0.25 * float(row["frc_px"]))
    assert (files / "frc_curves.csv").is_file() and (files / "frc.csv.json").is_file()
    assert "exists already" in refused(call("resolution", raw, "--csv", table), 1)
    pair = call("resolution", raw, raw, "--pair", "--json")
    rows = json.loads(pair.stdout)["rows"]
    assert rows[0]["images"] == 2 and rows[0]["frc_px"] == 2.0 and rows[0]["at_limit"]
    assert "≤ 2 px" in call("resolution", raw, raw, "--pair").stdout
    assert "expected two" in refused(call("resolution", raw, "--pair"), 2)
