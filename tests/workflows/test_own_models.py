"""Models of the user: renamed, deleted, exported; those of the project are left alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from napari_cellenhance.core.errors import ModelNotFoundError, ParameterError, WriteError
from napari_cellenhance.workflows import own_models
from napari_cellenhance.zoo.folders import user_models_dir
from napari_cellenhance.zoo.manifest import ModelCard, find_model, list_models, read_user_card
from napari_cellenhance.zoo.weights import load_model, save_user_model


@pytest.fixture
def mine() -> ModelCard:
    shipped = next(card for card in list_models() if card.bundled)
    fields = shipped.model_dump() | {"id": "mine", "title": "Mine"}
    return save_user_model(load_model(shipped).state_dict(), fields, half=True)


def test_a_model_gets_another_title_and_nothing_else(mine: ModelCard) -> None:
    own_models.rename("mine", "  Better \n name ")
    assert find_model("mine") == mine.model_copy(update={"title": "Better name"})
    with pytest.raises(ParameterError, match="needs a name"):
        own_models.rename("mine", " ")


def test_a_deleted_model_leaves_nothing(mine: ModelCard) -> None:
    training = user_models_dir() / "trainings" / "mine"
    training.mkdir(parents=True)
    (training / "checkpoint.safetensors").touch()
    other = user_models_dir() / "trainings" / "other"
    other.mkdir()
    own_models.delete("mine")
    assert not (user_models_dir() / mine.file.name).exists() and not training.exists() and other.exists()
    with pytest.raises(ModelNotFoundError):
        find_model("mine")


def test_an_export_can_be_used_elsewhere(mine: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    weights, card = own_models.export("mine", folder)
    assert read_user_card(card) == mine and weights.parent == folder
    assert own_models.export("mine", folder) == (weights, card), "twice is no harm"
    card.write_text(json.dumps({"something": "else"}))
    with pytest.raises(ParameterError, match="something else"):
        own_models.export("mine", folder)
    assert json.loads(card.read_text()) == {"something": "else"}
    card.unlink()
    own_models.export("mine", folder)
    monkeypatch.setenv("CELLENHANCE_MODELS", str(folder))
    load_model(find_model("mine"))


def test_an_export_that_cannot_be_written_says_so(
    mine: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(own_models, "replace_bytes", full)
    with pytest.raises(WriteError, match="No space left"):
        own_models.export("mine", tmp_path)
    with pytest.raises(ParameterError, match="is no folder"):
        own_models.export("mine", tmp_path / "missing")
    with pytest.raises(WriteError, match="No space left"):
        own_models.rename("mine", "Other")
    assert find_model("mine").title == "Mine"


def test_models_of_the_project_are_left_alone(tmp_path: Path) -> None:
    shipped = next(card for card in list_models() if card.bundled)
    with pytest.raises(ParameterError, match="cannot be renamed"):
        own_models.rename(shipped.id, "Mine")
    with pytest.raises(ParameterError, match="cannot be deleted"):
        own_models.delete(shipped.id)
    with pytest.raises(ParameterError, match="cannot be exported"):
        own_models.export(shipped.id, tmp_path)
    with pytest.raises(ModelNotFoundError):
        own_models.delete("nothing")
    assert shipped in list_models()
