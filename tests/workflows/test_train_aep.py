"""Training AEP from painted labels: planes and paint, time limit, stop, resume, warm start, and what is published."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_cellenhance.core.errors import ImageError, ParameterError, TrainingError
from napari_cellenhance.core.recipes.aep import AEPRecipe
from napari_cellenhance.core.recipes.protocol import Region
from napari_cellenhance.workflows.painted_files import read_painted_files
from napari_cellenhance.workflows.painted_layers import PaintedLayer, digest_of, normalised, read_painted
from napari_cellenhance.workflows.train_aep import (
    DROPOUT,
    AEPRequest,
    Glimpse,
    ViewedWindow,
    remembered,
    run,
)
from napari_cellenhance.workflows.train_progress import TrainProgress
from napari_cellenhance.zoo.manifest import find_model, list_models, read_user_card
from napari_cellenhance.zoo.weights import load_state


@pytest.fixture
def painted(cells: Any) -> np.ndarray:
    """Strokes: 1 beside the cells, 2 on them, 0 elsewhere."""
    labels = np.zeros(cells.labels.shape, np.int32)
    labels[::6][cells.labels[::6] == 0] = 1
    labels[::3][cells.labels[::3] > 0] = 2
    return labels


@pytest.fixture
def layer(cells: Any, painted: np.ndarray) -> PaintedLayer:
    return PaintedLayer(name="cells", image=cells.image, axes="YX", labels=painted)


@pytest.fixture
def request_(layer: PaintedLayer, tmp_path: Path) -> AEPRequest:
    return AEPRequest(
        data=(layer,), out=tmp_path / "out", model_id="mine", n_steps=4, validate_every=2, batch_size=2, crop_px=32,
        precision="float32", class_names={2: "cell"}, class_colors={2: "#ff0000"},
    )  # fmt: skip


# --- layers → planes ------------------------------------------------------------------------


def test_only_planes_with_paint_are_taken_and_brought_to_unit_range(cells: Any, painted: np.ndarray) -> None:
    image = np.stack([cells.image, cells.image[::-1], cells.image])
    labels = np.zeros(image.shape, np.int32)
    labels[1] = painted[::-1]
    found = read_painted((PaintedLayer(name="a", image=image, axes="ZYX", labels=labels),))
    assert len(found) == 1 and found[0].name == "a, plane t 0 z 1"
    assert np.array_equal(found[0].labels, labels[1])
    assert found[0].image.min() == 0 and found[0].image.max() == 1
    assert np.array_equal(found[0].image, normalised(image[1]))


def test_painted_labels_are_copied(layer: PaintedLayer) -> None:
    found = read_painted((layer,))
    before = digest_of(found)
    layer.labels[:] = 0
    assert digest_of(found) == before


def test_objects_become_classes(cells: Any) -> None:
    objects = np.where(cells.labels > 0, cells.labels + 1, 0)
    objects[:3] = 1
    one = PaintedLayer(name="a", image=cells.image, axes="YX", labels=objects, painted_as="instances")
    (found,) = read_painted((one,))
    assert set(np.unique(found.labels)) == {0, 1, 2}
    assert np.array_equal(found.labels == 2, cells.labels > 0)


def test_colours_are_made_grey_and_one_channel_is_chosen(cells: Any, painted: np.ndarray) -> None:
    colour = np.repeat(cells.image[..., None] // 16, 3, axis=-1).astype(np.uint8)
    (found,) = read_painted((PaintedLayer(name="a", image=colour, axes="YXS", labels=painted),))
    assert found.image.shape == painted.shape
    two = np.stack([np.zeros_like(cells.image), cells.image])
    (second,) = read_painted((PaintedLayer(name="a", image=two, axes="CYX", labels=painted, channels=(1,)),))
    assert np.array_equal(second.image, normalised(cells.image))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda labels: np.zeros_like(labels), "nothing is painted yet"),
        (lambda labels: np.where(labels == 2, 2, 0), "only label 2 is painted"),
        (lambda labels: labels[:-1], "have shape"),
        (lambda labels: np.where(np.arange(labels.size).reshape(labels.shape) < 500, labels, 0), "painted pixels"),
    ],
)
def test_what_is_wrong_with_the_paint_is_said(layer: PaintedLayer, change: Callable[[Any], Any], sentence: str) -> None:
    labels = change(layer.labels)
    if sentence == "painted pixels":
        labels = np.zeros_like(layer.labels)
        labels[0, :50], labels[50, :3] = 1, 2
    with pytest.raises(ImageError, match=sentence):
        read_painted((replace(layer, labels=labels),))


def test_a_constant_plane_is_refused(layer: PaintedLayer) -> None:
    with pytest.raises(ImageError, match="is constant"):
        read_painted((replace(layer, image=np.ones_like(layer.image)),))


def test_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(ParameterError, match="no image was given"):
        read_painted(())


# --- files → planes -------------------------------------------------------------------------


def test_files_with_masks_objects_and_repeats(cells: Any, tmp_path: Path) -> None:
    np.savez(
        tmp_path / "a.npz", images=np.stack([cells.image] * 2), objects=np.stack([cells.labels] * 2),
        masks=np.stack([cells.labels > 0] * 2).astype(np.uint8),
    )  # fmt: skip
    spec = {
        "sources": [
            {"name": "objects", "npz": "a.npz", "key": "images", "labels": "objects", "has_border": True, "repeat": 3},
            {"name": "masks", "npz": "a.npz", "key": "images", "masks": "masks"},
        ]
    }
    (tmp_path / "data.json").write_text(json.dumps(spec))
    images, repeats = read_painted_files(tmp_path / "data.json")
    assert repeats == [3, 3, 1, 1]
    assert set(np.unique(images[0].labels)) == {1, 2, 3} and set(np.unique(images[2].labels)) == {1, 2}
    spec["sources"][0]["repeat"] = 0
    (tmp_path / "data.json").write_text(json.dumps(spec))
    with pytest.raises(ParameterError, match="repeat is 0"):
        read_painted_files(tmp_path / "data.json")


# --- a training -----------------------------------------------------------------------------


def test_a_training_leaves_a_model_that_is_listed(request_: AEPRequest) -> None:
    told: list[TrainProgress] = []
    result = run(request_, on_progress=lambda p: told.append(p) if isinstance(p, TrainProgress) else None)
    assert result.stopped == "finished" and result.values == (1, 2)
    assert 0 <= result.mean_iou <= 1 and result.held_out in ("blocks", "none")
    assert list(result.weights_of_branches) == ["image", "filter 1", "filter 2"]
    assert [row["step"] for p in told for row in p.rows] == [1, 2, 3, 4]
    assert result.card is not None
    card = read_user_card(result.card)
    assert [(one.value, one.name, one.color) for one in card.classes] == [(1, "background", ""), (2, "cell", "#ff0000")]
    assert {one.filter for one in card.classes} <= {0, 1}
    assert card.scores["mean_iou"] == pytest.approx(result.mean_iou)
    assert card.scores["weights_of_branches"] == pytest.approx(dict(result.weights_of_branches))
    assert card.normalization.parameters["hi"] == 99.9
    assert find_model("mine").recipe == "aep"
    assert result.history.read_text().startswith("step,")


def test_the_same_seed_gives_the_same_weights(request_: AEPRequest, tmp_path: Path) -> None:
    first = run(request_)
    second = run(replace(request_, out=tmp_path / "again", model_id="again"))
    assert first.weights is not None and second.weights is not None
    a, b = load_state(first.weights), load_state(second.weights)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_resumed_training_ends_like_one_in_one_go(request_: AEPRequest, tmp_path: Path) -> None:
    whole = run(replace(request_, dropout=0.3))
    half = replace(request_, out=tmp_path / "half", model_id="half")
    assert run(replace(half, stop_after=2, dropout=0.3)).stopped == "cancelled"
    resumed = run(remembered(replace(half, n_steps=77)))
    assert resumed.best_total == pytest.approx(whole.best_total)
    assert whole.weights is not None and resumed.weights is not None
    a, b = load_state(whole.weights), load_state(resumed.weights)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_other_paint_cannot_be_resumed(request_: AEPRequest, layer: PaintedLayer) -> None:
    run(replace(request_, stop_after=2))
    more = layer.labels.copy()
    more[1, :20] = 1
    with pytest.raises(ParameterError, match="other settings"):
        run(replace(remembered(request_), data=(replace(layer, labels=more),)))


def test_a_warm_start_keeps_what_fits(request_: AEPRequest, layer: PaintedLayer, tmp_path: Path) -> None:
    first = run(request_)
    assert first.weights is not None
    parent = load_state(first.weights)
    more = replace(request_, out=tmp_path / "more", model_id="more", init_from="mine", n_steps=1, learning_rate=1e-9)
    child = run(more)
    assert child.weights is not None
    state = load_state(child.weights)
    assert torch.allclose(state["first.c3.0.weight"], parent["first.c3.0.weight"], atol=1e-3)
    assert read_user_card(child.card or "").training["init_from"] == "mine"
    third = layer.labels.copy()
    third[40:50, :40] = 3
    three = run(replace(more, data=(replace(layer, labels=third),), model_id="three", out=tmp_path / "three"))
    assert three.values == (1, 2, 3)


def test_a_model_is_tuned_more_gently_than_random_weights(request_: AEPRequest, tmp_path: Path) -> None:
    first = run(replace(request_, n_steps=1))
    more = run(replace(request_, n_steps=1, out=tmp_path / "more", model_id="more", init_from="mine"))
    own = run(replace(request_, n_steps=1, out=tmp_path / "own", model_id="own", init_from="mine", learning_rate=0.01))
    rates = [read_user_card(result.card or "").training["fit"] for result in (first, more, own)]
    assert [fit["learning_rate"] for fit in rates if isinstance(fit, dict)] == [1e-3, 1e-4, 0.01]
    with pytest.raises(ParameterError, match="learning rate is 2"):
        replace(request_, learning_rate=2.0)


@pytest.mark.parametrize("network", ["aep", "light", "unet"])
def test_dropout_is_that_of_the_request_also_on_top_of_a_model_that_had_another(
    request_: AEPRequest, tmp_path: Path, network: Any
) -> None:
    from napari_cellenhance.core.models.bit_dropout import BitDropout
    from napari_cellenhance.workflows._train_aep_setup import prepare

    def probabilities(request: AEPRequest) -> set[float]:
        return {layer.p for layer in prepare(request).module.modules() if isinstance(layer, BitDropout)}

    request = replace(request_, network=network)
    assert probabilities(request) == {DROPOUT} == {0.1}
    run(replace(request, n_steps=1, dropout=0.5))
    more = replace(request, out=tmp_path / "more", model_id="more", init_from="mine", dropout=0.25)
    assert probabilities(more) == {0.25}
    assert probabilities(replace(more, dropout=None)) == {0.5}, "as the model that it starts from"
    with pytest.raises(ParameterError, match=r"dropout is 1\.5"):
        prepare(replace(request, dropout=1.5))


def test_a_filter_that_does_not_segment_is_no_start(request_: AEPRequest) -> None:
    with pytest.raises(ParameterError, match="does not segment"):
        run(replace(request_, init_from="nunet"))


def test_a_discarded_run_and_a_broken_one_leave_the_last_good_model(
    request_: AEPRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(request_)
    before = find_model("mine")
    discarded = run(replace(request_, seed=5), is_discarded=lambda: True)
    assert discarded.stopped == "discarded" and discarded.weights is None and discarded.card is None
    assert find_model("mine") == before
    loss = AEPRecipe.loss

    def broken(self: AEPRecipe, rng: np.random.Generator, step: int) -> dict[str, torch.Tensor]:
        return {name: value * float("nan") for name, value in loss(self, rng, step).items()}

    monkeypatch.setattr(AEPRecipe, "loss", broken)
    with pytest.raises(TrainingError, match="not a number"):
        run(replace(request_, seed=6))
    assert find_model("mine") == before


def test_a_cancel_keeps_the_best_so_far(request_: AEPRequest) -> None:
    n_told = 0

    def count(progress: Any) -> None:
        nonlocal n_told
        n_told += isinstance(progress, TrainProgress)

    result = run(replace(request_, n_steps=50), on_progress=count, is_cancelled=lambda: n_told >= 3)
    assert result.stopped == "cancelled" and result.best_step == 2 and n_told == 3
    assert find_model("mine").training["stopped"] == "cancelled"


def test_a_time_limit_becomes_a_number_of_updates(request_: AEPRequest) -> None:
    result = run(replace(request_, n_steps=0, time_limit_s=0.5), is_discarded=lambda: True)
    assert result.stopped == "discarded"
    settings = json.loads((Path(request_.out) / "settings.json").read_text())
    assert settings["n_steps"] >= 8
    with pytest.raises(ParameterError, match="give a number of updates"):
        replace(request_, n_steps=0, time_limit_s=0)


def test_what_is_looked_at_is_segmented_on_the_way(
    request_: AEPRequest, layer: PaintedLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_cellenhance.workflows._train_loop.GLIMPSE_EVERY_S", 3600.0)
    shown: list[Glimpse] = []
    window = ViewedWindow(plane=layer.image, region=Region(10, 50, 20, 70), key="here")
    run(request_, look=lambda: window, on_glimpse=shown.append)
    assert shown and shown[0].step == 0 and shown[0].window.key == "here"
    assert shown[0].shown.labels.shape == (40, 50)
    assert set(np.unique(shown[0].shown.labels)) <= {1, 2}
    assert len(shown) == 1, "not again before its time"


def test_a_plain_network_is_a_model_too_but_no_filter(request_: AEPRequest) -> None:
    from napari_cellenhance.workflows.catalog import list_filters

    result = run(replace(request_, network="unet"))
    assert list(result.weights_of_branches) == ["image"]
    assert "mine" in {card.id for card in list_models()}
    assert "mine" not in {info.id for info in list_filters()}


def test_settings_out_of_range_are_refused(request_: AEPRequest) -> None:
    with pytest.raises(ParameterError, match="unknown training option"):
        run(replace(request_, recipe_options={"nothing": 1}))
    with pytest.raises(ParameterError, match="network is 'resnet'"):
        replace(request_, network="resnet")  # type: ignore[arg-type]


def test_repeated_sources_count_as_often(request_: AEPRequest, cells: Any, tmp_path: Path) -> None:
    from napari_cellenhance.workflows._train_aep_setup import prepare

    np.savez(tmp_path / "a.npz", images=cells.image[None], objects=cells.labels[None])
    source = {"name": "objects", "npz": "a.npz", "key": "images", "labels": "objects"}
    (tmp_path / "data.json").write_text(json.dumps({"sources": [source | {"repeat": 3}, source | {"name": "again"}]}))
    setup = prepare(replace(request_, data=tmp_path / "data.json", recipe_options={"holdout_fraction": 0.0}))
    assert len(setup.images) == 2
    assert [one.name for one in setup.recipe.held_out.train] == ["objects, plane 0"] * 3 + ["again, plane 0"]
