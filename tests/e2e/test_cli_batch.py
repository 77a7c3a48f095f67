"""The terminal: a plate by a recipe, by options, as a result was made; once more; and what is said."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_cellenhance.cli import app
from napari_cellenhance.cli.words import FAILED, WRONG_USAGE
from napari_cellenhance.io.images import read, read_provenance, write


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    for number, name in enumerate(("a", "sub/b")):
        path = tmp_path / "plate" / f"{name}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.full((32, 36), 10 + number, np.uint8)
        image[5:15, 6:20] = 200
        write(path, image, "YX", dtype="keep")
    return tmp_path / "plate"


def _run(*words: Any) -> Any:
    return CliRunner().invoke(app, ["batch", *map(str, words)])


def test_a_recipe_is_written_used_and_used_again(plate: Path, tmp_path: Path) -> None:
    recipe, out = tmp_path / "recipe.json", tmp_path / "out"
    done = _run("--write-recipe", recipe, "--filter", "gamma", "--strength", "1.5", "--measure", "--min-size", 5)
    assert done.exit_code == 0, done.output
    assert "enhance with gamma, strength 1.5 → label objects (otsu) → measure" in done.output
    assert json.loads(recipe.read_text())["steps"] == [{"step": "enhance", "filter_id": "gamma", "strength": 1.5}]
    done = _run(plate, out, "--recipe", recipe, "--recursive")
    assert done.exit_code == 0, done.output
    assert "2 of 2 files done" in done.output
    record = read_provenance(out / "sub" / "b.ome.tif")
    assert record is not None and record["strength"] == 1.5
    with (out / "batch_objects.csv").open(newline="", encoding="utf-8") as stream:
        assert [(row["file"], row["area_px"]) for row in csv.DictReader(stream)] == [
            ("a.tif", "140.0"), ("sub/b.tif", "140.0"),
        ]  # fmt: skip
    done = _run(plate, out, "--recipe", recipe, "--recursive")
    assert done.exit_code == 0 and "0 of 2 files done, 2 finished before" in done.output
    # As a result was made: the same pixels.
    done = _run(plate, tmp_path / "like", "--like", out / "a.ome.tif")
    assert done.exit_code == 0 and "1 of 1 files done" in done.output
    np.testing.assert_array_equal(read(tmp_path / "like" / "a.ome.tif").image, read(out / "a.ome.tif").image)


def test_a_broken_file_gives_1(plate: Path, tmp_path: Path) -> None:
    (plate / "broken.tif").write_bytes(b"II*\0")
    done = _run(plate, tmp_path / "out", "--filter", "gamma", "-q")
    assert done.exit_code == FAILED and "broken.tif" in done.output
    assert (tmp_path / "out" / "a.ome.tif").is_file()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "IN and OUT are missing"),
        (("IN", "OUT", "--filter", "nobody"), "nobody"),
        (("IN", "OUT", "--filter", "gamma", "--recipe", "r.json"), "choose one of the three"),
        (("IN", "OUT", "--recipe", "r.json"), "r.json"),
        (("IN", "OUT", "--model", "n2v2-fluorescence", "--strength", "3"), "are for filters"),
        (("IN", "OUT", "--model", "n2v2-fluorescence", "--dtype", "uint8"), "does not go with"),
        (("lost", "OUT", "--filter", "gamma"), "no file or folder"),
        (("IN", "IN", "--filter", "gamma"), "holds the images themselves"),
    ],
)
def test_wrong_usage_gives_2_and_one_line(
    plate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"IN": str(plate), "OUT": str(tmp_path / "out")}
    done = _run(*(places.get(word, word) for word in words))
    assert done.exit_code == WRONG_USAGE, done.output
    assert sentence in done.output and done.output.startswith("error: ")
    assert not (tmp_path / "out").exists()
