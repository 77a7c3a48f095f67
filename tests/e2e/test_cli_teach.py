"""The terminal: train AEP on labelled files, list the model, segment and enhance with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_cellenhance.cli import app
from napari_cellenhance.cli.words import WRONG_USAGE
from napari_cellenhance.io.images import read, write
from napari_cellenhance.zoo.manifest import read_user_card


@pytest.fixture
def data(cells: Any, tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("a", "b"):
        write(folder / f"{name}.tif", cells.image, "YX", dtype="keep")
        write(folder / f"{name}_labels.tif", cells.labels.astype(np.uint16), "YX", dtype="keep")
    return folder


def _run(*words: Any) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def _train(data: Path, out: Path, *more: Any) -> Any:
    return _run(
        "train", "aep", data, "--out", out, "--id", "toy", "--class", "2=cell", "--steps", 4, "--validate-every", 2,
        "--batch-size", 2, "--crop", 32, "--precision", "float32", *more,
    )  # fmt: skip


def test_train_list_segment_and_enhance(data: Path, tmp_path: Path) -> None:
    done = _train(data, tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "mean IoU" in done.output and "weights of the ensemble: image" in done.output
    listed = _run("models", "list", "--json")
    assert "toy" in {one["id"] for one in json.loads(listed.output)}
    image = data / "a.tif"
    done = _run(
        "segment", image, tmp_path / "classes.ome.tif", "--model", "toy", "--instances", tmp_path / "objects.ome.tif",
        "--also", "translated", "--device", "cpu", "--report", tmp_path / "report.json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert set(np.unique(read(tmp_path / "classes.ome.tif").image)) <= {1, 2}
    assert read(tmp_path / "classes_translated.ome.tif").axes == "CYX"
    assert (tmp_path / "objects.ome.tif").is_file()
    assert json.loads((tmp_path / "report.json").read_text())[0]["error"] == ""
    done = _run("enhance", image, tmp_path / "enhanced.tif", "--model", "toy", "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert read(tmp_path / "enhanced.tif").image.shape == read(image).image.shape


def test_a_training_can_be_resumed_and_replaces_its_model(data: Path, tmp_path: Path) -> None:
    assert _train(data, tmp_path / "out", "--stop-after", 2).exit_code == 0
    done = _train(data, tmp_path / "out", "--resume")
    assert done.exit_code == 0 and "finished" in done.output
    assert (tmp_path / "out" / "history.csv").read_text().count("\n") == 5


def test_dropout_reaches_the_network_and_both_evaluations(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_cellenhance.core.errors import ParameterError
    from napari_cellenhance.workflows import evaluate_aep, evaluate_paint

    assert _train(data, tmp_path / "out", "--dropout", 0.25).exit_code == 0
    assert read_user_card(tmp_path / "out" / "toy.json").architecture["dropout"] == 0.25
    asked: list[float | None] = []

    def note(request: Any, **more: Any) -> None:
        asked.append(request.dropout)
        raise ParameterError("enough")

    for workflow, name in ((evaluate_aep, "aep"), (evaluate_paint, "paint")):
        monkeypatch.setattr(workflow, "run", note)
        for more in ([], ["--dropout", 0.25]):
            _run("evaluate", name, data, "--out", tmp_path / name, *more)
    assert asked == [0.5, 0.25, None, 0.25]


def test_a_model_is_renamed_exported_and_deleted(data: Path, tmp_path: Path) -> None:
    assert _train(data, tmp_path / "out", "--network", "unet").exit_code == 0
    assert json.loads(_run("models", "show", "toy", "--json").output)["recipe"] == "aep"
    assert "Cells" in _run("models", "rename", "toy", "Cells").output
    listed = {one["id"]: one["title"] for one in json.loads(_run("models", "list", "--json").output)}
    assert listed["toy"] == "Cells", "a model that only segments is listed too"
    (tmp_path / "copy").mkdir()
    paths = _run("models", "export", "toy", tmp_path / "copy").output.split()
    assert len(paths) == 2 and all(Path(path).is_file() for path in paths)
    assert _run("models", "delete", "toy").exit_code == 0
    assert "toy" not in _run("models", "list", "--json").output
    refused = _run("models", "delete", "nunet")
    assert refused.exit_code == WRONG_USAGE and "belongs to the plugin" in refused.output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["segment", "IN", "OUT", "--model", "nunet"], "there is no segmenting model 'nunet'"),
        (["segment", "IN", "OUT", "--also", "depth"], "--also is 'depth'"),
        (["train", "aep", "IN", "--out", "OUT", "--class", "cell"], "--class is 'cell'"),
        (["train", "aep", "IN", "--out", "OUT", "--steps", "0"], "give a number of updates"),
    ],
)
def test_wrong_words_are_one_line(data: Path, tmp_path: Path, words: list[str], sentence: str) -> None:
    places = {"IN": str(data), "OUT": str(tmp_path / "out")}
    done = _run(*[places.get(word, word) for word in words])
    assert done.exit_code == WRONG_USAGE
    assert sentence in done.output and "Traceback" not in done.output
