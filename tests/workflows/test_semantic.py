"""Training a semantic filter on crops and movies, what it leaves, and taking arrays, files and movies apart with it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_cellenhance
from napari_cellenhance.core.crops import Background, CropSet, ObjectCrop
from napari_cellenhance.core.errors import AxesError, ImageError, ModelNotFoundError, ParameterError
from napari_cellenhance.core.postprocess import CleanOptions
from napari_cellenhance.core.recipes.protocol import Region
from napari_cellenhance.core.synthetic_pairs import PRESETS, SceneSettings
from napari_cellenhance.io.crop_folders import write_crops
from napari_cellenhance.io.images import read, read_provenance, write
from napari_cellenhance.workflows import separate, separate_files, train_semantic
from napari_cellenhance.workflows.catalog import describe, list_filters, open_enhancer
from napari_cellenhance.workflows.noisy_images import NoisyLayer
from napari_cellenhance.workflows.separate import SeparateRequest, open_separator
from napari_cellenhance.workflows.separate_files import SeparateFilesRequest
from napari_cellenhance.workflows.train_semantic import SemanticRequest, of_preset
from napari_cellenhance.zoo.manifest import read_user_card

SCENE = SceneSettings(size_px=32, n_target=(1, 2), n_unwanted=(1, 2))


def _crops(n_channels: int = 0) -> CropSet:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-5:6, -5:6]
    disc, bar, nothing = np.hypot(y, x) <= 5, np.abs(x) <= 1, np.zeros((40, 40), bool)

    def crop(mask: np.ndarray, source: str) -> ObjectCrop:
        pixels = np.where(mask, np.rint(60 + rng.random(mask.shape) * 120), 0).astype(np.float32)
        pixels = np.repeat(pixels[..., None], n_channels, 2) if n_channels else pixels
        return ObjectCrop(pixels=pixels, mask=mask, source=source, box=(0, 0, 11, 11))

    names = ["a.tif", "b.tif", "c.tif"]
    grounds = [np.rint(10 + rng.random((40, 40)) * 5).astype(np.float32) for _ in names]
    grounds = [np.repeat(one[..., None], n_channels, 2) for one in grounds] if n_channels else grounds
    return CropSet(
        target=tuple(crop(disc, name) for name in names for _ in range(2)),
        unwanted=tuple(crop(bar, name) for name in names for _ in range(2)),
        backgrounds=tuple(Background(pixels=g, mask=nothing, source=n) for g, n in zip(grounds, names, strict=True)),
    )


def _movie(n: int = 8, height: int = 40, width: int = 48) -> np.ndarray:
    rng = np.random.default_rng(1)
    frames = 180 + rng.normal(0, 2, (n, height, width))
    for t in range(n):
        y, x = rng.integers(0, 30, 2)
        frames[t, y : y + 8, x : x + 8] -= 90
    return frames.clip(0, 255).astype(np.uint8)


def _image(*shape: int) -> np.ndarray:
    return (np.random.default_rng(2).random(shape) * 200).astype(np.uint8)


@pytest.fixture
def request_(tmp_path: Path) -> SemanticRequest:
    return SemanticRequest(
        data=_crops(), out=tmp_path / "out", model_id="mine", scene=SCENE, n_steps=4, batch_size=2, width=3,
        validate_every=2, n_validation=3, precision="float32",
    )  # fmt: skip


@pytest.fixture
def movie_request(request_: SemanticRequest) -> SemanticRequest:
    return replace(request_, data=(NoisyLayer(name="worm", image=_movie(), axes="TYX"),), patch_px=32)


@pytest.fixture
def model(request_: SemanticRequest) -> str:
    return train_semantic.run(request_).model_id


@pytest.fixture
def movie_model(movie_request: SemanticRequest) -> str:
    return train_semantic.run(movie_request).model_id


# --- training --------------------------------------------------------------------------------


def test_crops_make_a_model_with_card_curves_and_picture(request_: SemanticRequest) -> None:
    result = train_semantic.run(request_)
    assert result.stopped == "finished" and result.card is not None and result.weights is not None
    card = read_user_card(result.card)
    assert card.recipe == "semantic" and card.normalization.name == "p99" and card.axes == "YX"
    training: Any = card.training
    assert training["learned_from"] == "crops" and training["outputs"] == ["target"]
    assert len(training["kept_aside"]) == 1 and training["data"]["n_target"] == 6
    assert {"correlation", "psnr_db", "leak", "f1", "of_input_f1"} <= set(result.scores) <= set(card.scores)
    header = result.history.read_text().splitlines()[0].split(",")
    assert {"total", "val_total", "val_correlation", "val_f1"} <= set(header)
    assert (Path(request_.out) / "pairs.png").stat().st_size > 1000


def test_a_folder_of_crops_gives_the_same_model(request_: SemanticRequest, tmp_path: Path) -> None:
    crops = _crops()
    write_crops(tmp_path / "crops", crops)
    of_folder = train_semantic.run(replace(request_, data=tmp_path / "crops", out=tmp_path / "other"))
    assert of_folder.best_total == pytest.approx(train_semantic.run(request_).best_total, rel=1e-3)


def test_c16_exchanged_kinds_make_another_model(request_: SemanticRequest, model: str, tmp_path: Path) -> None:
    result = train_semantic.run(replace(request_, is_swapped=True, model_id="other", out=tmp_path / "swapped"))
    assert result.card is not None and read_user_card(result.card).training["data"]["is_swapped"] is True  # type: ignore[index,call-overload]
    image = _image(32, 32)
    first, second = (separate.run(SeparateRequest(image=image, axes="YX", model_id=m)).target for m in (model, "other"))
    assert not np.allclose(first, second)


def test_the_model_is_a_filter_of_its_own_group(model: str) -> None:
    assert model in {info.id for info in list_filters()} and describe(model).info.group == "Keep only…"
    assert open_enhancer(model, "cpu", "float32").info.id == model
    assert [card.id for card in separate.list_separators() if not card.bundled] == [model]


def test_a_resumed_training_equals_an_uninterrupted_one(request_: SemanticRequest, tmp_path: Path) -> None:
    whole = train_semantic.run(replace(request_, out=tmp_path / "whole", install=False))
    train_semantic.run(replace(request_, stop_after=2, install=False))
    again = train_semantic.remembered(SemanticRequest(data=request_.data, out=request_.out, model_id="mine"))
    assert again.scene == SCENE and again.resume and again.width == 3
    resumed = train_semantic.run(replace(again, precision="float32", install=False))
    assert resumed.best_total == pytest.approx(whole.best_total, abs=1e-6)
    with pytest.raises(ParameterError):
        train_semantic.run(replace(again, is_swapped=True))


def test_presets_bring_their_length(tmp_path: Path) -> None:
    request = of_preset("co-culture", data="", out=tmp_path)
    assert (request.n_steps, request.batch_size, request.learning_rate) == (32_640, 32, 3.2e-4)
    assert of_preset("microglia", data="", out=tmp_path, n_steps=7).n_steps == 7
    assert SemanticRequest(data="", out=tmp_path).n_steps == PRESETS["dock"].n_steps
    with pytest.raises(ParameterError, match="no preset"):
        SemanticRequest(data="", out=tmp_path, preset="neurons")


@pytest.mark.parametrize(
    ("more", "name", "parameters"),
    [
        ({"scaling": "log"}, "fixed_log", {"low": 1.0, "high": 255.0}),
        ({"is_complement": True}, "fixed", {"low": 255.0, "high": 0.0}),
        ({"scaling": "fixed", "high": 200.0}, "fixed", {"low": 0.0, "high": 200.0}),
        ({"preset": "microglia"}, "fixed_log", {"low": 5.0, "high": 40_000.0}),
        ({"preset": "astrocytes"}, "fixed", {"low": 255.0, "high": 0.0}),
    ],
)
def test_scales_are_stored_on_the_card(
    request_: SemanticRequest, more: dict[str, Any], name: str, parameters: dict[str, float]
) -> None:
    card = train_semantic.run(replace(request_, n_steps=1, **more)).card
    assert card is not None
    stored = read_user_card(card).normalization
    assert (stored.name, stored.parameters) == (name, parameters)
    image = _image(40, 40)
    result = separate.run(SeparateRequest(image=image, axes="YX", model_id="mine"))
    turned = 255.0 if "low" in parameters and parameters["low"] > parameters["high"] else 0.0
    np.testing.assert_allclose(result.target + result.remainder - turned, image, atol=0.02)


def test_movies_make_a_model_of_the_scene(movie_request: SemanticRequest) -> None:
    result = train_semantic.run(movie_request)
    assert result.card is not None and set(result.scores) == {"ghost", "scene_error"}
    card = read_user_card(result.card)
    training: Any = card.training
    assert training["learned_from"] == "movies" and training["polarity"] == "dark"
    assert card.normalization.parameters == {"low": 0.0, "high": 255.0}
    assert training["data"]["worm"]["share_covered"] > 0 and training["is_split_inside"] is True
    assert (Path(movie_request.out) / "median.png").stat().st_size > 1000
    ((name, check),) = train_semantic.check_movie(movie_request)
    assert name == "worm" and check.median.shape == (40, 48)


def test_a_movie_that_is_not_clean_is_told(movie_request: SemanticRequest) -> None:
    movie = _movie()
    movie[:6, 10:20, 10:20] = 60
    layer = NoisyLayer(name="worm", image=movie, axes="TYX")
    result = train_semantic.run(replace(movie_request, data=(layer,), polarity="dark", n_steps=1))
    assert any("half of the frames" in sentence for sentence in result.warnings)


def test_settings_that_make_no_sense_are_refused(request_: SemanticRequest, movie_request: SemanticRequest) -> None:
    for wrong in (
        {"recipe_options": {"magic": 1}}, {"validation_fraction": 0.0}, {"scaling": "p99", "is_complement": True},
        {"low": 300.0, "high": 200.0}, {"is_movie": True},
    ):  # fmt: skip
        with pytest.raises((ParameterError, ImageError)):
            train_semantic.run(replace(request_, **wrong))
    with pytest.raises(ImageError, match="time point"):
        train_semantic.run(replace(movie_request, data=(NoisyLayer(name="still", image=_image(40, 40), axes="YX"),)))
    refused: tuple[dict[str, Any], ...] = ({"scaling": "sqrt"}, {"lag": 0}, {"polarity": "grey"})
    for more in refused:
        with pytest.raises(ParameterError):
            replace(request_, **more)


def test_it_goes_on_from_a_model_of_the_same_shape(request_: SemanticRequest, model: str) -> None:
    assert train_semantic.run(replace(request_, init_from=model, model_id="other", n_steps=1)).card is not None
    with pytest.raises(ParameterError, match="differs from that of 'mine'"):
        train_semantic.run(replace(request_, init_from=model, width=4))
    with pytest.raises(ParameterError, match="no semantic filter"):
        train_semantic.run(replace(request_, init_from="n2v2-fluorescence"))


def test_discarding_publishes_nothing_and_glimpses_show_the_window(request_: SemanticRequest) -> None:
    seen: list[train_semantic.Glimpse] = []
    window = train_semantic.ViewedWindow(plane=_image(1, 40, 44), region=Region(4, 20, 2, 30))
    result = train_semantic.run(request_, is_discarded=lambda: True, look=lambda: window, on_glimpse=seen.append)
    assert result.card is None and all(card.bundled for card in separate.list_separators())
    assert seen and seen[0].shown.shape == (1, 16, 28)
    assert train_semantic.estimate(request_).step_s > 0


# --- taking apart ----------------------------------------------------------------------------


def test_an_image_is_target_plus_remainder(model: str) -> None:
    image = _image(3, 2, 41, 37)
    before = image.copy()
    request = SeparateRequest(image=image, axes="TCYX", model_id=model, precision="float32")
    result = separate.run(request)
    assert result.axes == "TCYX" and result.target.shape == image.shape and result.labels is None
    np.testing.assert_allclose(result.target + result.remainder, image, atol=1e-4)
    np.testing.assert_array_equal(image, before)
    assert result.provenance["step"] == "separate" and result.provenance["model"] == "mine"
    part = separate.run(replace(request, region=Region(3, 30, 5, 30)))
    np.testing.assert_allclose(part.target, result.target[..., 3:30, 5:30], atol=1e-3)
    by_plane = separate.run(replace(request, statistics="plane"))
    assert not np.allclose(by_plane.target, result.target, atol=1e-3)


def test_layers_taken_apart(request_: SemanticRequest) -> None:
    train_semantic.run(replace(request_, recipe_options={"is_taken_apart": True}))
    result = separate.run(SeparateRequest(image=_image(40, 40), axes="YX", model_id="mine"))
    assert result.unwanted is not None and result.background is not None
    assert not np.allclose(result.unwanted, result.background)


def test_colours_go_through_together(request_: SemanticRequest) -> None:
    train_semantic.run(replace(request_, data=_crops(n_channels=3), recipe_options={"is_product": True}))
    image = _image(34, 40, 3)
    result = separate.run(SeparateRequest(image=image, axes="YXS", model_id="mine"))
    assert result.target.shape == image.shape
    with pytest.raises(ImageError, match="3 channels together"):
        separate.run(SeparateRequest(image=image, axes="YXS", model_id="mine", channels="grey"))
    assert "mine" not in {info.id for info in list_filters()}, "the Enhance dock filters grey planes"


def test_what_moves_is_found_by_its_polarity(movie_model: str) -> None:
    movie = _movie()
    opened = open_separator(movie_model, "cpu", "float32")
    request = SeparateRequest(
        image=movie, axes="TYX", has_objects=True, objects=replace(separate.MOVING, min_size_px=0)
    )
    result = separate.apply(request, opened)
    np.testing.assert_array_equal(result.remainder, result.background)
    np.testing.assert_allclose(result.target, result.remainder - movie, atol=1e-3)
    assert result.labels is not None and result.labels.shape == movie.shape
    np.testing.assert_array_equal(result.labels > 0, result.target > 10)


def test_objects_and_their_boxes(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_separator(model, "cpu", "float32")
    monkeypatch.setattr(opened.separator, "separate", lambda image, region=None, **_: image[(..., *region.slices)])
    image = np.zeros((2, 64, 64), np.uint8)
    image[0, 10:30, 12:40] = image[1, 40:60, 5:30] = 200
    request = SeparateRequest(
        image=image, axes="ZYX", has_objects=True, region=Region(5, 64, 3, 64),
        objects=CleanOptions(n_openings=1, min_size_px=100),
    )  # fmt: skip
    result = separate.apply(request, opened)
    assert result.labels_axes == "ZYX" and result.labels is not None and result.labels.max() == 1
    assert [(box.z, box.y0, box.x0, box.y1, box.x1) for box in result.boxes] == [
        (0, 10, 12, 30, 40),
        (1, 40, 5, 60, 30),
    ]
    with pytest.raises(ParameterError, match="one channel"):
        separate.apply(replace(request, axes="CYX"), opened)


def test_unknown_models_are_refused(model: str, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="there is: keep-nuclei, mine"):
        open_separator("n2v2-fluorescence")
    with pytest.raises(ParameterError, match="statistics"):
        SeparateRequest(image=None, axes="", statistics="tile")  # type: ignore[arg-type]


def test_a_cancelled_run_says_so(model: str) -> None:
    result = separate.run(SeparateRequest(image=_image(40, 40), axes="YX", model_id=model), is_cancelled=lambda: True)
    assert not result.is_complete


# --- files and the terminal ------------------------------------------------------------------


def test_files_get_their_layers_beside(model: str, tmp_path: Path) -> None:
    write(tmp_path / "in.ome.tif", _image(2, 40, 44), "ZYX", pixel_size_um={"Y": 0.5, "X": 0.5}, dtype="keep")
    request = SeparateFilesRequest(
        source=tmp_path / "in.ome.tif", target=tmp_path / "out.ome.tif",
        settings=SeparateRequest(image=None, axes="", model_id=model),
        layers=frozenset({"remainder", "labels", "unwanted"}), has_boxes=True, dtype="same",
    )  # fmt: skip
    assert separate_files.run(request).n_failed == 0
    names = {path.name for path in tmp_path.glob("out*")} - {"out"}
    assert {"out.ome.tif", "out_remainder.ome.tif", "out_labels.ome.tif", "out_boxes.csv"} <= names
    assert "out_unwanted.ome.tif" not in names, "this model does not know them"
    file = read(tmp_path / "out.ome.tif")
    assert file.image.dtype == np.uint8 and file.axes == "ZYX" and file.pixel_size_um["X"] == 0.5
    assert read_provenance(tmp_path / "out_labels.ome.tif")["shows"] == "labels"  # type: ignore[index]
    assert (tmp_path / "out_boxes.csv").read_text().startswith("t,z,label,y0,x0,y1,x1")
    again = separate_files.run(request)
    assert again.n_failed == 1, "results are not replaced unasked"
    with pytest.raises(ParameterError, match="no layer 'magic'"):
        replace(request, layers=frozenset({"magic"}))  # type: ignore[arg-type]


def test_the_terminal_trains_and_separates(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from napari_cellenhance.cli import app

    write_crops(tmp_path / "crops", _crops())
    write(tmp_path / "movie.tif", _movie(), "TYX", dtype="keep")
    quick = ["--steps", "2", "--batch-size", "1", "--width", "3", "--validate-every", "1"]
    runner = CliRunner()
    train = ["train", "semantic", *quick]
    of_crops = [str(tmp_path / "crops"), "--out", str(tmp_path / "a"), "--id", "a", "--set", "size_px=32"]
    made = runner.invoke(app, [*train, *of_crops])
    assert made.exit_code == 0, made.output
    assert "correlation" in made.output
    of_movie = ["--movie", str(tmp_path / "movie.tif"), "--lag", "2", "--out", str(tmp_path / "b"), "--id", "b"]
    moving = runner.invoke(app, [*train, *of_movie])
    assert moving.exit_code == 0 and "ghost" in moving.output
    target = tmp_path / "what_moves.ome.tif"
    files = [str(tmp_path / "movie.tif"), str(target), "--model", "b"]
    found = runner.invoke(app, ["separate", *files, "--background", "--labels", "--boxes", "--min-size", "9"])
    assert found.exit_code == 0, found.output
    assert read(target).image.shape == read(tmp_path / "what_moves_background.ome.tif").image.shape == (8, 40, 48)
    record = read_provenance(target)
    assert record is not None and json.loads(json.dumps(record))["objects"]["min_size_px"] == 9
    assert record["objects"]["method"] == "manual", "the rest is what suits what moves"
    neither = runner.invoke(app, ["train", "semantic", "--out", str(tmp_path / "c")])
    assert neither.exit_code != 0


def test_python_trains_the_same_models_on_crops_and_on_movies(
    request_: SemanticRequest, movie_request: SemanticRequest, tmp_path: Path
) -> None:
    same = {"n_steps": 4, "batch_size": 2, "width": 3, "validate_every": 2, "n_validation": 3, "precision": "float32"}
    asked: list[tuple[SemanticRequest, Any, dict[str, Any]]] = [
        (request_, _crops(), {"scene": SCENE}),
        (movie_request, _movie(), {"axes": "TYX", "patch_px": 32, "scene": SCENE}),
    ]
    for i, (request, data, settings) in enumerate(asked):
        known = train_semantic.run(replace(request, out=tmp_path / f"a{i}", model_id=f"workflow-{i}")).model_id
        python = napari_cellenhance.train_semantic(data, tmp_path / f"b{i}", model_id=f"python-{i}", **settings, **same)
        by_workflow, by_python = (
            napari_cellenhance.separate(_movie()[0], name, axes="YX")[0] for name in (known, python)
        )
        assert np.array_equal(by_workflow, by_python)
    with pytest.raises(AxesError):
        napari_cellenhance.train_semantic(_movie(), tmp_path / "c", axes="YX", **same)


def test_the_requests_need_no_torch() -> None:
    code = (
        "import sys; import napari_cellenhance.workflows.train_semantic, napari_cellenhance.workflows.separate; "
        "import napari_cellenhance.cli.separate, napari_cellenhance.cli.train_semantic; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
