"""A training from files to a model in the list, with a random-feature perceptual network."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import tifffile
import torch

from napari_cellenhance.core.errors import ModelNotFoundError, ParameterError
from napari_cellenhance.workflows._train_setup import KNOTS, prepare
from napari_cellenhance.workflows.progress import Progress
from napari_cellenhance.workflows.train import TrainProgress, TrainRequest, run
from napari_cellenhance.zoo.manifest import find_model, list_models, read_user_card
from napari_cellenhance.zoo.weights import load_model, load_state


@pytest.fixture
def request_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainRequest:
    monkeypatch.setenv("CELLENHANCE_MODELS", str(tmp_path / "models"))
    rng = np.random.default_rng(0)
    rows = []
    with tifffile.TiffWriter(tmp_path / "i.tif") as images, tifffile.TiffWriter(tmp_path / "l.tif") as labels:
        for page in range(3):
            lab = np.zeros((64, 64), np.uint16)
            for k in range(4):
                y, x = rng.integers(4, 50, 2)
                lab[y : y + 9, x : x + 9] = k + 1
            images.write(((lab > 0) * 150 + rng.integers(0, 60, lab.shape)).astype(np.uint8))
            labels.write(lab)
            rows.append({"images": "i.tif", "labels": "l.tif", "page": page, "shape": [64, 64]})
    (tmp_path / "index.json").write_text(json.dumps(rows), encoding="utf-8")
    (tmp_path / "data.json").write_text(
        json.dumps({"sources": [{"name": "s", "index": "index.json"}]}), encoding="utf-8"
    )
    return TrainRequest(
        data=tmp_path / "data.json", out=tmp_path / "out", perception="random", model_id="mine", n_steps=4,
        validate_every=2, batch_size=2, crop_px=32, n_masks=8, style_groups=2, precision="float32",
        recipe_options={"n_validation": 2, "n_dry_run": 1, "diameters_px": (8.0, 12.0)},
    )  # fmt: skip


def test_the_model_is_in_the_list_with_its_record(request_: TrainRequest) -> None:
    seen: list[Progress] = []
    result = run(request_, on_progress=seen.append)
    assert result.stopped == "finished" and [p.n_done for p in seen if isinstance(p, TrainProgress)] == [1, 2, 3, 4]
    assert seen[-1].eta_s is not None and "morphology" in seen[-1].message
    assert "mine" in [m.id for m in list_models()]
    card = read_user_card(result.card)
    assert card.strength.identity_below == KNOTS[0] and card.strength.knots[-1] == 10.0
    assert card.training["perception"] == "random-vgg-0" and card.training["steps_done"] == 4
    with open(result.history, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [r["step"] for r in rows] == ["1.0", "2.0", "3.0", "4.0"] and rows[1]["val_total"]
    assert (result.history.parent / "history.png").stat().st_size > 1000


def test_a_resumed_training_ends_with_the_same_weights(request_: TrainRequest, tmp_path: Path) -> None:
    whole = run(replace(request_, out=tmp_path / "whole"))
    seen: list[int] = []
    part = replace(request_, out=tmp_path / "part")
    stopped = run(
        part, on_progress=lambda p: seen.append(p.n_done), is_cancelled=lambda: len(seen) > 0 and seen[-1] >= 2
    )
    assert stopped.stopped == "cancelled"
    resumed = run(replace(part, resume=True))
    a, b = load_state(whole.weights), load_state(resumed.weights)
    assert all(torch.equal(a[k], b[k]) for k in a)
    with pytest.raises(ParameterError, match="other settings"):
        run(replace(part, resume=True, learning_rate=5e-4))


def test_without_masks_another_perceptual_network_gets_a_bank_of_its_own(
    request_: TrainRequest, tmp_path: Path
) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    tifffile.imwrite(folder / "a.tif", np.random.default_rng(0).integers(0, 99, (64, 64), dtype=np.uint8))
    request = replace(request_, data=folder, style_groups=4)
    bank = prepare(request).recipe.bank
    assert bank is not None and bank.perception_id == "random-vgg-0" and bank.n_groups == 4
    assert list(bank.coverages) == sorted(bank.coverages) and bank.coverages[-1] > 2 * bank.coverages[0] > 0


def test_a_shipped_model_can_be_tuned_to_own_images(request_: TrainRequest) -> None:
    result = run(replace(request_, init_from="nunet", n_steps=1, validate_every=1, learning_rate=1e-4))
    card = read_user_card(result.card)
    assert card.training["init_from"] == "nunet"
    parent = find_model("nunet")
    assert card.strength.knots == parent.strength.knots
    assert card.training["balance_factor"] == parent.training["balance_factor"], "the slider keeps its meaning"
    with pytest.raises(ParameterError, match="fixed strength"):
        run(replace(request_, init_from="nunet", strength=8.0))


def test_mistakes_are_named(request_: TrainRequest) -> None:
    with pytest.raises(ParameterError, match="unknown training option"):
        run(replace(request_, recipe_options={"colour": 1}))
    with pytest.raises(ParameterError, match="precision"):
        run(replace(request_, precision="int3"))


def test_torchvision_is_asked_for_when_missing(request_: TrainRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torchvision", None)
    for perception in ("torchvision", "squeezenet"):
        with pytest.raises(ModelNotFoundError, match="pip install torchvision"):
            run(replace(request_, perception=perception))


@pytest.mark.parametrize(("norm", "conditioning"), [("frozen", "decoder"), ("instance", "head")])
def test_the_norms_of_a_new_network_are_chosen_and_kept(
    request_: TrainRequest, norm: Literal["frozen", "instance"], conditioning: str
) -> None:
    result = run(replace(request_, norm=norm, n_steps=1, validate_every=1))
    card = read_user_card(result.card)
    assert (card.architecture["norm"], card.architecture["conditioning"]) == (norm, conditioning)
    assert card.training["recipe"]["norms_freeze_at"] == 0  # half of one update
    state = load_state(result.weights)
    assert any(name.endswith("running_var") for name in state) == (norm == "frozen")


def test_a_tuned_network_keeps_the_statistics_of_its_frozen_norms(request_: TrainRequest) -> None:
    result = run(replace(request_, init_from="nunet", n_steps=2, validate_every=2, average=0.0))
    parent, tuned = load_model(find_model("nunet")).state_dict(), load_state(result.weights)
    for name, value in parent.items():
        if name.endswith(("running_mean", "running_var")):
            torch.testing.assert_close(tuned[name], value, rtol=0, atol=0)
