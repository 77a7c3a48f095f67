"""``cellenhance profile``: the table, JSON, CSV, figure, exit codes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_cellenhance.cli import app
from napari_cellenhance.io.images import write


def call(*words: Any) -> Any:
    return CliRunner().invoke(app, ["profile", *(str(word) for word in words)])


def refused(result: Any, code: int) -> str:
    assert result.exit_code == code, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return str(line)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A clean image, and one that is blurred, moved by 1 µm and has half the pixels."""
    x = 0.5 * np.arange(120)
    for name, centre, sigma, step in (("clean", 30, 3.0, 1), ("blurred", 31, 4.5, 2)):
        plane = np.tile(100 * np.exp(-((x - centre) ** 2) / (2 * sigma**2)), (40, 1))[::step, ::step]
        size = {"Y": 0.5 * step, "X": 0.5 * step}
        write(tmp_path / f"{name}.tif", plane.astype(np.float32), "YX", pixel_size_um=size)
    return tmp_path


def test_profiles_against_a_reference(study: Path) -> None:
    table, figure = study / "line.csv", study / "line.png"
    words = (study / "blurred.tif", "--line", "5,0,5,58", "--width", 3, "--reference", study / "clean.tif")
    done = call(*words, "--out", table, "--figure", figure, "--grey", "fit")
    assert done.exit_code == 0, done.output
    assert "| image | peaks | FWHM (µm) | matched | shift (µm) |" in done.stdout
    assert "| blurred.tif | 1 | 10.6 | 1 | 1 | 1.50 |" in done.stdout and "| clean.tif | 1 | 7.07 |" in done.stdout
    with open(table, encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert float(rows[-1]["distance_um"]) == 58 and len(rows) == 117
    assert list(rows[0])[2:4] == ["blurred.tif", "clean.tif"] and len(rows[0]) == 6
    record = json.loads((study / "line.csv.json").read_text(encoding="utf-8"))
    assert record["width_px"] == 3 and record["line_yx"] == [[5, 0], [5, 58]] and record["reference"] == "clean.tif"
    assert (study / "line_peaks.csv").is_file() and figure.stat().st_size > 1000
    assert "exists already" in refused(call(*words, "--out", table), 1)
    assert call(*words, "--out", table, "--figure", figure, "--overwrite", "-q").exit_code == 0


def test_px_of_the_first_image_and_um_are_the_same_line(study: Path) -> None:
    both = (study / "clean.tif", study / "blurred.tif", "--json", "--reference", study / "blurred.tif")
    px, um = (json.loads(call(*both, "--line", *words).stdout) for words in (["8,0,8,118"], ["4,0,4,59", "--um"]))
    assert px == um and [row["n_peaks"] for row in px["images"]] == [1, 1]
    assert px["peaks"][0]["shift_um"] == pytest.approx(-1, abs=0.02)


def test_a_plane_of_a_stack_and_a_path(tmp_path: Path) -> None:
    stack = np.stack([np.add.outer(10.0 * np.arange(20), np.arange(20.0)) + 1000 * z for z in range(3)])
    write(tmp_path / "z.tif", stack.astype(np.float32), "ZYX")
    words = (tmp_path / "z.tif", "--line", "1,1,1,3,3,3", "--out", tmp_path / "z.csv")
    assert "3 planes" in refused(call(*words), 2)
    assert call(*words, "--plane", "0,0,2").exit_code == 0
    with open(tmp_path / "z.csv", encoding="utf-8", newline="") as stream:
        assert [float(row["z.tif"]) for row in csv.DictReader(stream)] == [2011, 2012, 2013, 2023, 2033]
    assert "no file tells its pixel size" in refused(call(*words, "--um"), 2)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--line", "1,2,3"), "expected y0,x0,y1,x1"),
        (("--line", "a,b,c,d"), "expected y0,x0,y1,x1"),
        (("--line", "1,1,1,1"), "no length"),
        (("--line", "1,1,1,9", "--grey", "fit"), "needs one"),
        (("--line", "1,1,1,9", "--plane", "3"), "expected T,C,Z"),
        (("--line", "1,1,1,9", "--prominence", "0"), "prominence"),
        (("--line", "1,1,1,9", "--out", "profile.txt"), ".csv"),
    ],
)
def test_wrong_usage_is_one_line(study: Path, words: tuple[str, ...], told: str) -> None:
    extra = ("--out", study / "x.csv") if "--out" not in words else ()
    assert told in refused(call(study / "clean.tif", *words, *extra), 2)
    assert not (study / "x.csv").exists()


def test_a_line_outside_of_the_image_fails(study: Path) -> None:
    assert "outside of “clean.tif”" in refused(call(study / "clean.tif", "--line", "500,1,500,9"), 1)
