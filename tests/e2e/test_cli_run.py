"""The terminal: a recipe or a result repeated on one image and on many, compared, and refused with a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_cellenhance.cli import app
from napari_cellenhance.cli.words import FAILED, WRONG_USAGE
from napari_cellenhance.io.images import read, read_provenance, write
from napari_cellenhance.workflows.recipe_files import compare_pixels

RECIPE: dict[str, Any] = {
    "cellenhance_recipe": 1,
    "steps": [
        {"step": "enhance", "filter_id": "gamma", "strength": 1.5},
        {"step": "enhance", "filter_id": "gaussian", "strength": 1.0},
    ],
    "labels": {"method": "otsu", "threshold": 0.5, "split_touching": False, "min_size_px": 4},
}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    image = np.full((32, 36), 10, np.uint8)
    image[5:15, 6:20] = 200
    write("cells.ome.tif", image, "YX", dtype="keep")
    Path("plate").mkdir()
    for name in ("a", "b"):
        write(f"plate/{name}.tif", image, "YX", dtype="keep")
    Path("r.json").write_text(json.dumps(RECIPE))


def _run(*words: Any) -> Any:
    return CliRunner().invoke(app, ["run", *map(str, words)])


def test_a_result_is_its_own_recipe_and_the_pixels_are_compared() -> None:
    done = _run("r.json", "cells.ome.tif", "one.ome.tif")
    assert done.exit_code == 0, done.output
    assert done.output.split() == ["one_labels.ome.tif,", "one.recipe.json,", "one.ome.tif"]
    for recipe in ("one.ome.tif", "one.recipe.json", "one_labels.ome.tif"):
        done = _run(recipe, "cells.ome.tif", "two.ome.tif", "--check", "one.ome.tif", "--overwrite")
        assert done.exit_code == 0, done.output
        assert "is the very image that the recipe was made with" in done.output
        assert "the image has the same pixels as one.ome.tif (largest difference 0)" in done.output
    done = _run("one.ome.tif", "cells.ome.tif", "two.ome.tif", "--check", "one_labels.ome.tif", "--overwrite")
    assert "the labels have the same pixels" in done.output and done.exit_code == 0
    record = read_provenance("two.ome.tif")
    assert record is not None and record["earlier"]["filter"] == "gamma" and record["segment"]["min_size_px"] == 4
    # Another image gives other pixels, and it is said which.
    write("other.tif", read("cells.ome.tif").image.T[:32, :36].copy(), "YX", dtype="keep")
    changed = read("cells.ome.tif").image.copy()
    changed[20, 20] = 255
    write("changed.tif", changed, "YX", dtype="keep")
    done = _run("one.ome.tif", "changed.tif", "three.ome.tif", "--check", "one.ome.tif")
    assert done.exit_code == FAILED
    assert "is another image" in done.output and "the image differs from one.ome.tif" in done.output
    done = _run("one.ome.tif", "other.tif", "four.ome.tif", "--check", "one.ome.tif")
    assert done.exit_code == FAILED and "another shape" in done.output


def test_rounding_is_told_from_a_difference() -> None:
    _run("r.json", "cells.ome.tif", "one.ome.tif")
    file = read("one.ome.tif")
    write("near.ome.tif", file.image + np.float32(1e-6), "YX", dtype="keep", provenance=file.provenance)
    done = _run("r.json", "cells.ome.tif", "two.ome.tif", "--check", "near.ome.tif")
    assert done.exit_code == 0 and "but for rounding (largest difference" in done.output


def test_another_precision_is_named_where_pixels_differ() -> None:
    Path("net.json").write_text(
        json.dumps(RECIPE | {"steps": [{"step": "denoise", "model_id": "n2v2-fluorescence"}], "labels": None})
    )
    _run("net.json", "cells.ome.tif", "one.ome.tif", "--device", "cpu", "--precision", "float32")
    again = ("one.ome.tif", "cells.ome.tif", "two.ome.tif", "--check", "one.ome.tif", "--overwrite", "--device", "cpu")
    done = _run(*again, "--precision", "bfloat16")
    assert done.exit_code == FAILED, done.output
    assert "it was computed in another way; once more with --precision float32\n" in done.output
    done = _run(*again, "--precision", "float32")
    assert done.exit_code == 0 and "the same pixels" in done.output and "once more" not in done.output


@pytest.mark.parametrize("source", ["plate", "plate/*.tif"])
def test_many_images_go_through_a_batch(source: str) -> None:
    done = _run("r.json", source, "out")
    assert done.exit_code == 0 and "2 of 2 files done" in done.output, done.output
    one = _run("r.json", "plate/a.tif", "one.ome.tif")
    assert one.exit_code == 0
    np.testing.assert_array_equal(read("out/a.ome.tif").image, read("one.ome.tif").image)
    np.testing.assert_array_equal(read("out/a_labels.ome.tif").image, read("one_labels.ome.tif").image)
    done = _run("out/a.ome.tif", "cells.ome.tif", "again.ome.tif", "--check", "out/a_labels.ome.tif")
    assert done.exit_code == 0 and "the labels have the same pixels" in done.output


def _with(**step: Any) -> str:
    return json.dumps(RECIPE | {"steps": [RECIPE["steps"][0] | step], "labels": None})


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        (json.dumps(RECIPE | {"cellenhance_recipe": 9}), "is of version 9, this program knows 1; update it"),
        (_with(step="dance"), "expected one of enhance, denoise"),
        ('{"software": "napari-cellenhance", "step": "dance"}', "'dance', which this program does not know"),
        (_with(filter_id="lost", sha256="ab" * 32), "needs 'lost' (weights with SHA-256 abababababab…), which is not"),
        (_with(filter_id="nunet-guided", sha256="ab" * 32), "was made with other weights of 'nunet-guided'"),
        ('{"cellenhance_recipe": 1, "steps": [', "is no JSON"),
        ("cells.ome.tif", "does not say how it was made"),
        ("lost.json", "lost.json"),
    ],
)
def test_what_cannot_be_repeated_is_one_sentence(recipe: str, sentence: str) -> None:
    done = _run(recipe, "cells.ome.tif", "out.ome.tif")
    assert done.exit_code == WRONG_USAGE, done.output
    assert done.output.startswith("error: ") and sentence in done.output
    assert not Path("out.ome.tif").exists()


def test_any_weights_are_allowed_where_that_is_said() -> None:
    recipe = _with(filter_id="nunet-guided", strength=4.0, sha256="ab" * 32)
    done = _run(recipe, "cells.ome.tif", "out.ome.tif", "--any-weights", "--precision", "float32")
    assert done.exit_code == 0, done.output
    record = read_provenance("out.ome.tif")
    assert record is not None and record["precision"] == "float32" and not record["sha256"].startswith("ab")


def test_results_that_are_there_stay_and_folders_are_not_compared() -> None:
    _run("r.json", "cells.ome.tif", "one.ome.tif")
    done = _run("r.json", "cells.ome.tif", "one.ome.tif")
    assert done.exit_code == FAILED and "exists already" in done.output
    done = _run("r.json", "plate", "out", "--check", "one.ome.tif")
    assert done.exit_code == WRONG_USAGE and "compares one image" in done.output


def test_pixels_are_compared_by_their_largest_difference_and_how_many_differ() -> None:
    before = np.array([[0.0, 1.0], [np.nan, 2.0]], np.float32)
    same = compare_pixels(before, before.copy())
    assert (same.verdict, same.max_difference, same.differing) == ("same", 0.0, 0.0)
    after = before + np.array([[0, 0.5], [0, 0]], np.float32)
    other = compare_pixels(before, after)
    assert (other.verdict, other.max_difference, other.differing) == ("different", 0.5, 0.25)
    assert "25 % of pixels" in other.sentence("a.tif")
    assert compare_pixels(before, before * np.float32(1 + 1e-6)).verdict == "rounding"
    assert compare_pixels(before, before[:1]).verdict == "different"
    assert compare_pixels(before, np.nan_to_num(before)).max_difference == np.inf
