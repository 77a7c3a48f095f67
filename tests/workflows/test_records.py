"""Every way to a result leaves a record of the same shape, in memory and on the disk; the same method twice is told."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
from typer.testing import CliRunner

import napari_cellenhance as python
from napari_cellenhance.cli import app
from napari_cellenhance.core.crops import Background, CropSet, ObjectCrop
from napari_cellenhance.core.synthetic_pairs import SceneSettings
from napari_cellenhance.io.images import write
from napari_cellenhance.workflows import denoise, enhance, restore, segment_model, separate, train_semantic
from napari_cellenhance.workflows._provenance import hash_image
from napari_cellenhance.workflows.batch_recipe import record_in
from napari_cellenhance.workflows.denoise import DenoiseRequest
from napari_cellenhance.workflows.requests import NOT_QUANTITATIVE, EnhanceRequest
from napari_cellenhance.workflows.restore import RestoreRequest
from napari_cellenhance.workflows.segment_model import SegmentModelRequest
from napari_cellenhance.workflows.separate import SeparateRequest
from napari_cellenhance.workflows.train_semantic import SemanticRequest

EARLIER = {"software": "napari-cellenhance", "step": "denoise", "model": "older", "method": "Noise2Void"}
FIELDS = {
    "software", "step", "method", "model", "title", "version", "sha256", "reference", "strength", "axes", "axes_out",
    "channels", "statistics", "region", "normalization", "calibration", "device", "precision", "tile_px", "halo_px",
    "seeds", "source", "earlier", "applied_before", "versions", "warnings", "statement", "created_utc", "is_complete",
}  # fmt: skip
MODELS = {
    "enhance": "nunet-guided", "classical": "gamma", "denoise": "n2v2-fluorescence", "restore": "care-nuclei",
    "segment": "aep-nuclei", "separate": "mine",
}  # fmt: skip


def _image() -> np.ndarray:
    rng = np.random.default_rng(0)
    image = 300 + rng.normal(0, 20, (36, 44))
    image[8:20, 10:22] += 800
    return image.clip(0, 65535).astype(np.uint16)


@pytest.fixture
def separator(tmp_path: Path) -> str:
    """A semantic filter that learned next to nothing."""
    rng = np.random.default_rng(0)
    mask = np.hypot(*np.mgrid[-5:6, -5:6]) <= 5
    pixels = np.where(mask, 60 + rng.random(mask.shape) * 120, 0).astype(np.float32)
    crops = tuple(ObjectCrop(pixels=pixels, mask=mask, source=n, box=(0, 0, 11, 11)) for n in ("a.tif", "b.tif"))
    ground, nothing = np.full((40, 40), 12, np.float32), np.zeros((40, 40), bool)
    grounds = tuple(Background(pixels=ground, mask=nothing, source=n) for n in ("a.tif", "b.tif"))
    request = SemanticRequest(
        data=CropSet(target=crops, unwanted=crops, backgrounds=grounds), out=tmp_path / "model", model_id="mine",
        scene=SceneSettings(size_px=32, n_target=(1, 2), n_unwanted=(1, 2)), n_steps=2, batch_size=1, width=3,
        validate_every=2, n_validation=2, precision="float32", seed=5,
    )  # fmt: skip
    return str(train_semantic.run(request).model_id)


def _check(record: Any, kind: str, image: np.ndarray, *, has_earlier: bool = True, is_sampled: bool = False) -> None:
    assert record is not None
    record = json.loads(json.dumps(record))  # it is ready for JSON
    assert record.keys() >= FIELDS, sorted(FIELDS - set(record))
    is_learned = kind != "classical"
    assert record["step"] == ("enhance" if kind == "classical" else kind)
    assert record["model"] == MODELS[kind] and record["title"] and record["method"] and record["version"]
    assert bool(re.fullmatch("[0-9a-f]{64}", record["sha256"])) is is_learned
    assert (record["strength"] is not None) is (kind in ("enhance", "classical"))
    assert (record["axes"], record["axes_out"]) == ("YX", "YX")
    assert record["normalization"]["name"] and record["normalization"]["fitted"] and record["calibration"]
    assert record["device"] == "cpu" and record["precision"] in ("float32", "bfloat16")
    assert record["tile_px"] > 0 and set(record["seeds"]) == {"run", "training"}
    source = record["source"]
    assert (source["shape"], source["dtype"]) == ([36, 44], "uint16")
    assert re.fullmatch("[0-9a-f]{64}", source["sha256"])
    assert source["sha256_of"] == ("a sample" if is_sampled else "all pixels")
    assert is_sampled or source["sha256"] == hash_image(image)
    assert record["versions"].keys() >= {"napari-cellenhance", "torch", "numpy", "python"}
    assert record["statement"] == NOT_QUANTITATIVE and "not quantitative" in record["statement"]
    assert record["is_complete"] is True
    assert (record["earlier"] == EARLIER) if has_earlier else (record["earlier"] is None)
    assert record["applied_before"] == int(has_earlier and record["method"] == "Noise2Void")
    assert any("applied to this image once before" in text for text in record["warnings"]) is (
        record["applied_before"] == 1
    )


# --- the workflows behind the docks ------------------------------------------------------------

COMMON: dict[str, Any] = {"axes": "YX", "earlier": EARLIER}
WORKFLOWS: dict[str, Callable[[Any], Any]] = {
    "enhance": lambda i: enhance.run(EnhanceRequest(image=i, filter_id="nunet-guided", **COMMON)),
    "classical": lambda i: enhance.run(EnhanceRequest(image=i, filter_id="gamma", **COMMON)),
    "denoise": lambda i: denoise.run(DenoiseRequest(image=i, **COMMON)),
    "restore": lambda i: restore.run(RestoreRequest(image=i, model_id="care-nuclei", **COMMON)),
    "segment": lambda i: segment_model.run(SegmentModelRequest(image=i, model_id="aep-nuclei", **COMMON)),
    "separate": lambda i: separate.run(SeparateRequest(image=i, model_id="mine", **COMMON)),
}
PYTHON: dict[str, Callable[[Any], Any]] = {
    "enhance": lambda i: python.enhance(i, earlier=EARLIER, with_record=True)[-1],
    "classical": lambda i: python.enhance(i, model="gamma", earlier=EARLIER, with_record=True)[-1],
    "denoise": lambda i: python.denoise(i, earlier=EARLIER, with_record=True)[-1],
    "restore": lambda i: python.restore(i, "care-nuclei", earlier=EARLIER, with_record=True)[-1],
    "segment": lambda i: python.segment(i, earlier=EARLIER, with_record=True)[-1],
    "separate": lambda i: python.separate(i, "mine", earlier=EARLIER, with_record=True)[-1],
}


def _train_if_needed(kind: str, request: pytest.FixtureRequest) -> None:
    if kind == "separate":
        request.getfixturevalue("separator")


@pytest.mark.parametrize("kind", WORKFLOWS)
def test_records_of_the_docks(kind: str, request: pytest.FixtureRequest) -> None:
    _train_if_needed(kind, request)
    _check(WORKFLOWS[kind](_image()).provenance, kind, _image())


@pytest.mark.parametrize("kind", PYTHON)
def test_records_of_python_calls(kind: str, request: pytest.FixtureRequest) -> None:
    _train_if_needed(kind, request)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _check(PYTHON[kind](_image()), kind, _image())


COMMANDS: dict[str, tuple[str, ...]] = {
    "enhance": ("enhance", "IN", "OUT"),
    "classical": ("enhance", "IN", "OUT", "--model", "gamma"),
    "denoise": ("denoise", "IN", "OUT"),
    "restore": ("restore", "IN", "OUT", "--model", "care-nuclei"),
    "segment": ("segment", "IN", "OUT", "--model", "aep-nuclei"),
    "separate": ("separate", "IN", "OUT", "--model", "mine"),
}


@pytest.mark.parametrize("kind", COMMANDS)
def test_records_of_commands_lie_in_the_file_and_beside_it(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    _train_if_needed(kind, request)
    source, target = tmp_path / "in.ome.tif", tmp_path / "out.ome.tif"
    write(source, _image(), "YX", dtype="keep", provenance=EARLIER)
    places = {"IN": str(source), "OUT": str(target)}
    done = CliRunner().invoke(app, [places.get(word, word) for word in COMMANDS[kind]])
    assert done.exit_code == 0, done.output
    record = record_in(target)
    _check(record, kind, _image())
    beside = json.loads((tmp_path / "out.recipe.json").read_text(encoding="utf-8"))
    record.pop("shows", None)  # which of several layers the file holds
    assert beside["record"] == record and beside["cellenhance_recipe"] == 1
    assert ("was applied to this image once before" in done.output) is (kind == "denoise")


@pytest.mark.parametrize("way", ["large", "batch", "run"])
def test_records_of_large_images_batches_and_recipes(way: str, tmp_path: Path) -> None:
    source = tmp_path / "in.ome.tif"
    write(source, _image(), "YX", dtype="keep")
    words = {
        "large": ("enhance", str(source), str(tmp_path / "out.ome.zarr"), "--model", "gamma"),
        "batch": ("batch", str(source), str(tmp_path / "out"), "--filter", "gamma"),
        "run": (
            "run", '{"cellenhance_recipe": 1, "steps": [{"step": "enhance", "filter_id": "gamma"}]}', str(source),
            str(tmp_path / "out.ome.tif"),
        ),
    }  # fmt: skip
    done = CliRunner().invoke(app, list(words[way]))
    assert done.exit_code == 0, done.output
    assert way == "batch" or (tmp_path / "out.recipe.json").is_file()
    found = {"large": "out.ome.zarr", "batch": "out/in.ome.tif", "run": "out.ome.tif"}
    _check(record_in(tmp_path / found[way]), "classical", _image(), has_earlier=False, is_sampled=way == "large")


# --- the same method twice ---------------------------------------------------------------------


def test_python_warns_of_the_same_method_twice_and_counts() -> None:
    image, record = python.denoise(_image(), with_record=True)
    with pytest.warns(UserWarning, match="Noise2Void was applied to this image once before"):
        image, record = python.denoise(image, earlier=record, with_record=True)
    with pytest.warns(UserWarning, match="2 times before"):
        _, record = python.denoise(image, earlier=record, with_record=True)
    assert record["applied_before"] == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # another method may follow
        python.enhance(image, model="gamma", earlier=record)


def test_a_filter_made_of_a_denoiser_is_the_same_method() -> None:
    request = EnhanceRequest(image=_image(), filter_id="n2v2-fluorescence", **COMMON)
    assert any("Noise2Void was applied" in text for text in enhance.run(request).warnings)
    assert enhance.run(replace(request, strength=0)).warnings == ()  # nothing is computed


def test_lazy_and_large_arrays_have_a_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_cellenhance.workflows import _provenance

    image = np.arange(4 * 30 * 40, dtype=np.uint16).reshape(4, 30, 40)
    lazy = dask.array.from_array(image, chunks=(1, 16, 16))  # type: ignore[no-untyped-call]
    whole = hash_image(image)
    assert hash_image(lazy) == whole == hash_image(image.astype(">u2"))
    monkeypatch.setattr(_provenance, "_PIECE_BYTES", 1000)
    assert hash_image(lazy) == whole == hash_image(image)
    monkeypatch.setattr(_provenance, "_ALL_BYTES", 1000)
    monkeypatch.setattr(_provenance, "_SAMPLE_PX", 8)
    sample = hash_image(lazy)
    assert sample is not None and sample != whole and hash_image(image) == whole
    other = image.copy()
    other[2, 15, 20] += 1
    assert hash_image(dask.array.from_array(other)) != sample  # type: ignore[no-untyped-call]
