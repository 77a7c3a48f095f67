"""``cellenhance crops``: from files to a folder, and what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from typer.testing import CliRunner

from napari_cellenhance.cli import app
from napari_cellenhance.io.images import write

CENTRES = ((24, 24), (24, 64), (68, 24), (68, 64))


def call(*words: Any) -> Any:
    return CliRunner().invoke(app, ["crops", *(str(word) for word in words)])


def refused(result: Any, code: int) -> str:
    """The one line of an error."""
    assert result.exit_code == code, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.fixture
def study(tmp_path: Path) -> Path:
    y, x = np.mgrid[:96, :96]
    image, labels = np.full((96, 96), 20.0), np.zeros((96, 96), np.int32)
    for i, (cy, cx) in enumerate(CENTRES, 1):
        disc = np.hypot(y - cy, x - cx) <= 9
        image += gaussian_filter(150.0 * disc, 0.7 if i < 3 else 4)
        labels[disc] = i
    image += np.random.default_rng(0).normal(0, 1, image.shape)
    write(tmp_path / "cells.tif", image.astype(np.uint8), "YX", dtype="keep")
    write(tmp_path / "labels.tif", labels, "YX", dtype="keep")
    write(tmp_path / "classes.tif", np.where(labels == 1, 1, 2) * (labels > 0), "YX", dtype="keep")
    for name, at in (("cell", CENTRES[:2]), ("dirt", CENTRES[2:])):
        lines = "".join(f"{cy},{cx}\n" for cy, cx in at)
        (tmp_path / f"{name}.csv").write_text(f"y,x\n{lines}", encoding="utf-8")
    sides = "".join(f"{cy - 14},{cx - 14},{cy + 15},{cx + 15}\n" for cy, cx in CENTRES[:3])
    (tmp_path / "boxes.csv").write_text(f"y0,x0,y1,x1\n{sides}", encoding="utf-8")
    return tmp_path


def test_sharp_nuclei_are_kept(study: Path) -> None:
    done = call(study / "cells.tif", study / "crops", "--segment", "log-otsu", "--focus", "log", "--sigma", 2)
    assert done.exit_code == 0, done.output
    assert f"{study / 'crops'}: 2 to keep, 2 unwanted, 0 left out, 1 backgrounds" in done.stdout
    assert "focus scores" in done.stdout and "--low and --high move them" in done.stdout
    assert len(list((study / "crops" / "target").iterdir())) == 2 and (study / "crops" / "crops.png").is_file()


def test_every_other_way(study: Path) -> None:
    def counts(*words: Any) -> tuple[int, int]:
        done = call(study / "cells.tif", study / "crops", *words, "--json", "--overwrite", "--no-sheet")
        assert done.exit_code == 0, done.output
        told = json.loads(done.stdout)["in_folder"]
        return told["target"], told["unwanted"]

    assert counts("--labels", study / "labels.tif") == (4, 0)
    assert counts("--labels", study / "labels.tif", "--unwanted") == (0, 4)
    assert counts("--labels", study / "labels.tif", "--classes", study / "classes.tif", "--target", 2) == (3, 1)
    assert counts("--painted", study / "classes.tif", "--target", 2) == (3, 0)
    points = ("--points", f"cell={study / 'cell.csv'}", "--points", f"dirt={study / 'dirt.csv'}")
    assert counts(*points, "--set", "points_n_openings=1") == (2, 2)
    assert counts(*points, "--set", "points_n_openings=1", "--target", "dirt") == (2, 2)
    assert counts("--boxes", study / "boxes.csv", "--set", "boxes_n_squares=0") == (3, 0)


def test_crops_are_added(study: Path) -> None:
    assert call(study / "cells.tif", study / "crops", "--boxes", study / "boxes.csv", "-q", "--no-sheet").stdout == ""
    assert "holds crops already" in refused(call(study / "cells.tif", study / "crops", "--segment", "otsu"), 1)
    done = call(study / "cells.tif", study / "crops", "--points", f"cell={study / 'cell.csv'}", "--add", "--no-sheet")
    assert done.exit_code == 0, done.output


def test_wrong_usage(study: Path) -> None:
    image, out = study / "cells.tif", study / "crops"
    assert "nothing says where objects are" in refused(call(image, out), 2)
    assert "--labels and --segment say" in refused(call(image, out, "--labels", image, "--segment", "otsu"), 2)
    assert "CLASS=FILE" in refused(call(image, out, "--points", "cell.csv"), 2)
    assert "given twice" in refused(call(image, out, "--points", "a=b", "--points", "a=c"), 2)
    assert "belong to --focus" in refused(call(image, out, "--segment", "otsu", "--low", 1), 2)
    assert "--channel were given together" in refused(
        call(image, out, "--segment", "otsu", "--colour", "--channel", 0), 2
    )
    assert "ground_offset" in refused(call(image, out, "--segment", "otsu", "--set", "sky=1"), 2)
    assert not out.exists()
