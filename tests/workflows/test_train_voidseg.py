"""Training VoidSeg and StarDist from few labels, with a denoiser of the zoo; segmenting with what came out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_cellenhance.core.errors import ImageError, ModelNotFoundError, ParameterError
from napari_cellenhance.core.models.denoiser import DenoisingNetwork
from napari_cellenhance.core.models.voidseg import state_hash
from napari_cellenhance.core.recipes.protocol import Region
from napari_cellenhance.io.images import read, write
from napari_cellenhance.workflows import segment_files, segment_model
from napari_cellenhance.workflows._train_voidseg_setup import prepare
from napari_cellenhance.workflows.object_images import read_object_files, read_object_layers
from napari_cellenhance.workflows.painted_layers import PaintedLayer
from napari_cellenhance.workflows.python_teach import segment
from napari_cellenhance.workflows.segment_model import InstanceOptions, SegmentModelRequest
from napari_cellenhance.workflows.train_voidseg import Glimpse, ViewedWindow, VoidSegRequest, remembered, run
from napari_cellenhance.zoo.manifest import find_model
from napari_cellenhance.zoo.weights import load_model, load_state, save_user_model

NORMALIZATION = {"name": "percentile", "parameters": {"lo": 1.0, "hi": 99.0, "clip": False}}


def _card(module: Any, recipe: str, **more: Any) -> dict[str, Any]:
    return {
        "title": "Toy", "summary": "For tests.", "version": "1.0.0", "recipe": recipe, "license": "BSD-3-Clause",
        "architecture": module.architecture, "normalization": NORMALIZATION,
        "strength": {"minimum": 0.0, "default": 1.0, "maximum": 1.0}, **more,
    }  # fmt: skip


@pytest.fixture
def denoiser() -> str:
    """A denoiser with random weights among the user's models."""
    torch.manual_seed(7)
    module = DenoisingNetwork(depth=1, width=4)
    module.mean.fill_(0.3)
    module.std.fill_(0.25)
    return save_user_model(module.state_dict(), _card(module, "n2v", id="toy-n2v")).id


@pytest.fixture
def layer(cells: Any) -> PaintedLayer:
    return PaintedLayer(
        name="cells", image=cells.image, axes="YX", labels=cells.labels, painted_as="instances", is_complete=True
    )


@pytest.fixture
def request_(layer: PaintedLayer, tmp_path: Path) -> VoidSegRequest:
    return VoidSegRequest(
        data=(layer,), out=tmp_path / "out", model_id="mine", object_name="cell", n_steps=2, validate_every=2,
        batch_size=2, crop_px=32, depth=1, width=4, precision="float32",
    )  # fmt: skip


# --- images and labels ----------------------------------------------------------------------


def test_layers_with_objects_strokes_or_classes(cells: Any, layer: PaintedLayer) -> None:
    image = np.stack([cells.image] * 3)
    labels = np.zeros(image.shape, np.int32)
    labels[1] = cells.labels
    (one,) = read_object_layers((replace(layer, image=image, axes="ZYX", labels=labels),))
    assert one.name == "cells, plane t 0 z 1" and one.plane.dtype == np.float32
    assert one.plane.max() == cells.image.max(), "own grey values"
    assert set(np.unique(one.image(one.plane).objects)) == {*range(1, 8)}
    painted = replace(layer, labels=np.where(cells.labels > 0, cells.labels + 1, 0), is_complete=False)
    (few,) = read_object_layers((painted,))
    assert (few.image(few.plane).labels == 0).any() and not (few.image(few.plane).labels == 1).any()
    assert (few.image(few.plane, is_shell_background=True).labels == 3).any()
    classes = replace(layer, labels=np.where(cells.labels > 0, 2, 1), painted_as="classes")
    (whole,) = read_object_layers((classes,))
    assert len(np.unique(whole.image(whole.plane).objects)) == 1 + int(cells.labels.max())


def test_files_with_labels_and_masks(cells: Any, tmp_path: Path) -> None:
    write(tmp_path / "a.tif", cells.image, "YX", dtype="keep")
    write(tmp_path / "a_labels.tif", cells.labels.astype(np.uint16), "YX", dtype="keep")
    write(tmp_path / "b.tif", cells.image, "YX", dtype="keep")
    write(tmp_path / "b_mask.tif", (cells.labels > 0).astype(np.uint8), "YX", dtype="keep")
    by_labels, by_mask = read_object_files(tmp_path)
    assert (by_labels.image(by_labels.plane).labels == by_mask.image(by_mask.plane).labels).all()
    with pytest.raises(ImageError, match="no image has labels"):
        read_object_layers((PaintedLayer(name="a", image=cells.image, axes="YX", labels=cells.labels * 0),))


# --- schemes --------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["baseline", "sequential", "finetune", "finetune-sequential"])
def test_every_scheme_makes_a_model_in_one_file(request_: VoidSegRequest, denoiser: str, scheme: Any) -> None:
    """T-G3: the denoiser inside the model is the one of the zoo, to the last bit; id and hashes are on the card."""
    before = state_hash(load_model(find_model(denoiser)))
    result = run(replace(request_, scheme=scheme, denoiser="" if scheme == "baseline" else denoiser))
    card = find_model("mine")
    assert result.weights is not None and result.weights.is_file() and result.stopped == "finished"
    assert card.recipe == "voidseg" and [one.value for one in card.classes] == [1, 2, 3]
    assert card.classes[1].name == "cell"
    assert card.threshold == result.threshold and 0 <= result.average_precision <= 1
    assert card.training["scheme"] == scheme
    module: Any = load_model(card)
    if scheme.endswith("sequential"):
        assert state_hash(module.denoiser) == before
    else:
        assert module.denoiser is None
    if scheme == "baseline":
        assert card.training["denoiser"] is None
        assert card.normalization.parameters["lo"] == 0.1
    else:
        record: Any = card.training["denoiser"]
        assert record["id"] == denoiser and record["tensors_sha256"] == before
        assert record["sha256"] == find_model(denoiser).file.sha256
        assert card.normalization.parameters["lo"] == 1.0, "grey values as the denoiser knows them"
    assert state_hash(load_model(find_model(denoiser))) == before


def test_sequential_learns_from_denoised_images(request_: VoidSegRequest, denoiser: str) -> None:
    raw = prepare(replace(request_, scheme="finetune", denoiser=denoiser))
    restored = prepare(replace(request_, scheme="sequential", denoiser=denoiser))
    pixels: Any = restored.recipe
    assert not np.allclose(float(restored.network.mean), float(raw.network.mean))  # type: ignore[arg-type, union-attr]
    shown = np.concatenate([one.image.ravel() for one in pixels.held_out.train])
    assert float(restored.network.mean) == pytest.approx(float(shown.mean()), rel=1e-4)  # type: ignore[arg-type, union-attr]


def test_finetune_takes_the_body_of_the_denoiser(request_: VoidSegRequest, denoiser: str) -> None:
    """T-G3: and its shape, whatever depth was asked for."""
    setup = prepare(replace(request_, scheme="finetune", denoiser=denoiser, depth=3, has_denoise_output=True))
    source: Any = load_model(find_model(denoiser))
    network: Any = setup.network
    assert network.unet.settings.depth == 1 and network.unet.n_out == 4
    assert torch.equal(network.unet.body.down[0][0][0].weight, source.unet.body.down[0][0][0].weight)


@pytest.mark.parametrize("scheme", ["baseline", "sequential"])
def test_stardist_learns_by_the_same_schemes(request_: VoidSegRequest, denoiser: str, scheme: Any, cells: Any) -> None:
    request = replace(
        request_, network="stardist", scheme=scheme, denoiser="" if scheme == "baseline" else denoiser,
        recipe_options={"max_validation_windows": 4},
    )  # fmt: skip
    result = run(request)
    card = find_model("mine")
    assert card.recipe == "stardist" and card.threshold == result.threshold
    found = segment(cells.image, "mine", output="instances", instances=InstanceOptions(threshold=1.0))
    assert found.shape == cells.image.shape and found.max() == 0
    assert segment(cells.image, "mine", output="probabilities").shape == (2, *cells.image.shape)


def test_nested_subsets_of_the_images(request_: VoidSegRequest, cells: Any) -> None:
    """T-G5: fewer labels are a part of more labels."""
    layers = tuple(
        PaintedLayer(
            name=f"{i}", image=np.roll(cells.image, i, 1), axes="YX", labels=np.roll(cells.labels, i, 1),
            painted_as="instances", is_complete=True,
        )
        for i in range(7)
    )  # fmt: skip
    names = [{one.name for one in prepare(replace(request_, data=layers, n_labelled=n)).images} for n in (2, 4, 0)]
    assert [len(one) for one in names] == [2, 4, 7] and names[0] < names[1] < names[2]


def test_requests_that_cannot_be_met(request_: VoidSegRequest, denoiser: str) -> None:
    for wrong, match in (
        ({"scheme": "sequential"}, "needs one"),
        ({"denoiser": denoiser}, "takes none"),
        ({"scheme": "both"}, "scheme is"),
        ({"network": "stardist", "scheme": "finetune", "denoiser": denoiser}, "nothing can be taken over"),
        ({"init_from": "x"}, "starts from random weights"),
        ({"n_labelled": -1}, "labelled images"),
    ):
        with pytest.raises(ParameterError, match=match):
            replace(request_, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ModelNotFoundError):
        run(replace(request_, scheme="sequential", denoiser="nobody"))
    with pytest.raises(ParameterError, match="no denoiser"):
        run(replace(request_, scheme="sequential", denoiser="aep-nuclei"))
    with pytest.raises(ParameterError, match="unknown training option"):
        run(replace(request_, recipe_options={"colour": 1}))


# --- course ---------------------------------------------------------------------------------


def test_a_stopped_training_goes_on_to_the_same_weights(request_: VoidSegRequest, tmp_path: Path) -> None:
    request_ = replace(request_, n_steps=4)
    run(replace(request_, install=False))
    (whole,) = (tmp_path / "out").glob("mine-*.safetensors")
    part = replace(request_, out=tmp_path / "part", install=False)
    assert run(replace(part, stop_after=2)).stopped == "cancelled"
    run(remembered(part))
    (resumed,) = (tmp_path / "part").glob("mine-*.safetensors")
    first, second = load_state(whole), load_state(resumed)
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    with pytest.raises(ParameterError, match="other settings"):
        run(replace(part, resume=True, seed=5))


def test_discarded_and_watched(request_: VoidSegRequest, cells: Any) -> None:
    seen: list[Glimpse] = []
    window = ViewedWindow(plane=cells.image, region=Region(3, 30, 5, 60))
    result = run(request_, is_discarded=lambda: bool(seen), look=lambda: window, on_glimpse=seen.append)
    assert result.stopped == "discarded" and result.weights is None
    assert seen[0].shown.labels.shape == (27, 55)
    with pytest.raises(ModelNotFoundError):
        find_model("mine")


# --- segmenting -----------------------------------------------------------------------------


@pytest.fixture
def trained(request_: VoidSegRequest, denoiser: str) -> str:
    run(replace(request_, scheme="sequential", denoiser=denoiser))
    return "mine"


def test_segmenting_gives_objects_classes_and_the_denoised_image(trained: str, cells: Any) -> None:
    request = SegmentModelRequest(
        image=cells.image, axes="YX", model_id=trained, precision="float32",
        outputs=frozenset({"instances", "probabilities", "denoised", "filters"}),
        instances=InstanceOptions(min_size_px=0, threshold=0.3),
    )  # fmt: skip
    result = segment_model.run(request)
    assert result.instances is not None
    assert ((result.instances > 0) == (result.maps["probabilities"][1] > 0.3)).all()
    assert set(result.maps) == {"probabilities", "denoised"} and result.maps["denoised"].shape == (1, 96, 112)
    spread = result.maps["denoised"].max() - result.maps["denoised"].min()
    assert 10 < spread < 20_000, "in grey values of the image"
    assert result.warnings == ("The model “VoidSeg (own training)” makes no filters.",)
    assert result.names["probabilities"] == ("background", "cell", "border")
    said = result.provenance
    assert said["denoiser"]["id"] == "toy-n2v" and len(said["denoiser"]["sha256"]) == 64 and said["threshold"] == 0.3
    json.dumps(said, allow_nan=False)
    stored = segment_model.run(replace(request, instances=InstanceOptions()))
    assert stored.provenance["threshold"] == find_model(trained).threshold


def test_segmenters_are_no_filters_and_are_listed(trained: str) -> None:
    from napari_cellenhance.workflows.catalog import list_filters

    assert trained in {card.id for card in segment_model.list_segmenters()}
    assert trained not in {info.id for info in list_filters()}
    assert segment_model.outputs_of(find_model(trained)) == ("classes", "instances", "probabilities", "denoised")


def test_files_hold_the_objects_unless_classes_are_asked_for(trained: str, cells: Any, tmp_path: Path) -> None:
    write(tmp_path / "a.tif", cells.image, "YX", dtype="keep")
    settings = SegmentModelRequest(
        image=None, axes="", model_id=trained, outputs=frozenset({"classes", "denoised"}),
        instances=InstanceOptions(min_size_px=0, threshold=0.0),
    )  # fmt: skip
    request = segment_files.SegmentFilesRequest(
        source=tmp_path / "a.tif", target=tmp_path / "o.ome.tif", settings=settings
    )
    assert segment_files.run(request).n_failed == 0
    assert np.squeeze(read(tmp_path / "o.ome.tif").image).min() >= 1, "above a threshold of 0 all is one object"
    assert read(tmp_path / "o_denoised.ome.tif").image.dtype == np.float32
    segment_files.run(replace(request, target=tmp_path / "c.ome.tif", main="classes"))
    assert set(np.unique(read(tmp_path / "c.ome.tif").image)) <= {1, 2, 3}


def test_python_says_what_a_model_does_not_make(trained: str, cells: Any) -> None:
    assert segment(cells.image, trained, output="denoised").shape == (1, *cells.image.shape)
    with pytest.warns(UserWarning, match="makes no filters"), pytest.raises(ParameterError, match="makes no filters"):
        segment(cells.image, trained, output="filters")
