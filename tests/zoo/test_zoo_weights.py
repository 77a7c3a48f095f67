"""safetensors in and out: nothing unpickled, nothing half written, everything checked."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from napari_cellenhance.core.errors import ChecksumError, ManifestError, WeightsError, WriteError
from napari_cellenhance.core.models.build import build
from napari_cellenhance.zoo import folders, manifest, weights
from napari_cellenhance.zoo.cards import FileEntry, ModelCard
from napari_cellenhance.zoo.manifest import find_model, load_manifest
from napari_cellenhance.zoo.weights import load_model, load_state, read_metadata, save_state, save_user_model


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    torch.manual_seed(3)
    return build({"name": "nunet", "conditioning": "head", "knots": [0.0, 5.0, 10.0]})


def small_state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"a.weight": torch.randn(3, 4, generator=generator), "n": torch.arange(5)}


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def test_float32_round_trip_is_exact(tmp_path: Path) -> None:
    path = save_state(tmp_path / "w.safetensors", small_state(), metadata={"step": 7, "name": "1.0", "h": {"a": [1]}})
    assert same(load_state(path), small_state())
    assert read_metadata(path) == {"step": 7, "name": "1.0", "h": {"a": [1]}}


def test_half_is_half_the_size_and_loads_as_float32(tmp_path: Path) -> None:
    state = {"w": torch.linspace(-3, 3, 10_000)}
    whole = save_state(tmp_path / "whole.safetensors", state)
    half = save_state(tmp_path / "half.safetensors", state, half=True)
    assert half.stat().st_size < 0.52 * whole.stat().st_size
    loaded = load_state(half)["w"]
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded, state["w"].half().float())
    # Half precision has 11 significant bits.
    assert float((loaded - state["w"]).abs().max()) <= 3 * 2.0**-11


def test_bfloat16_and_float64_load_as_float32(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file({"b": torch.ones(2, dtype=torch.bfloat16), "d": torch.ones(2).double()}, path)
    assert {tensor.dtype for tensor in load_state(path).values()} == {torch.float32}


def test_strided_and_shared_tensors_can_be_saved_and_are_unchanged(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    path = save_state(tmp_path / "w.safetensors", {"t": base.T, "view": base[1:], "all": base})
    loaded = load_state(path)
    assert torch.equal(loaded["t"], base.T)
    assert torch.equal(loaded["view"], base[1:])
    assert torch.equal(base, torch.arange(12.0).reshape(3, 4))


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({}, "no weights"),
        ({"w": torch.tensor([1.0, float("nan")])}, "'w' hold NaN"),
        ({"w": torch.tensor([float("inf")])}, "'w' hold NaN or infinity"),
        ({"w": torch.tensor([1e6])}, "exceed 65504"),
    ],
)
def test_unfit_weights_are_refused_and_the_old_file_stays(
    tmp_path: Path, state: dict[str, torch.Tensor], words: str
) -> None:
    path = save_state(tmp_path / "w.safetensors", small_state())
    with pytest.raises(WeightsError, match=words):
        save_state(path, state, half=True)
    assert same(load_state(path), small_state())


def test_only_safetensors_is_written(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"\.safetensors only"):
        save_state(tmp_path / "w.pt", small_state())


def test_a_failing_write_keeps_the_old_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_state(tmp_path / "w.safetensors", small_state())

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(folders.os, "fsync", fail)
        with pytest.raises(WriteError, match=r"No space left on device.*nothing was changed"):
            save_state(path, {"other": torch.ones(2)})
    assert same(load_state(path), small_state())
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


class Bomb:
    """Writes a file when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.write_text, (self.target, "executed"))


def test_a_pickle_is_never_executed(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    for name in ("evil.pt", "evil.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps({"w": Bomb(trace)}))
        with pytest.raises(WeightsError, match="never opened, since they can run code"):
            load_state(tmp_path / name)
    torch.save({"w": torch.ones(2)}, tmp_path / "torch.pt")
    with pytest.raises(WeightsError):
        load_state(tmp_path / "torch.pt")
    assert not trace.exists()
    # The bomb is a real one.
    pickle.loads((tmp_path / "evil.pt").read_bytes())
    assert trace.read_text() == "executed"


def malformed(good: bytes) -> dict[str, bytes]:
    n_header = int.from_bytes(good[:8], "little")
    return {
        "empty": b"",
        "seven bytes": good[:7],
        "cut header": good[: n_header // 2],
        "cut data": good[:-3],
        "extra tail": good + b"x",
        "html": b"<!doctype html><title>404</title>" * 20,
        "garbage": bytes(range(256)) * 4,
        "zeros": bytes(4096),
        "huge header": (2**62).to_bytes(8, "little") + good[8:],
        "header is a list": (4).to_bytes(8, "little") + b"[1] ",
        "bad json": good[:8] + b"}" + good[9:],
        "bad utf-8": good[:12] + b"\xff\xfe" + good[14:],
    }


@pytest.mark.parametrize("kind", malformed(b"0" * 100))
def test_malformed_files_give_one_sentence(tmp_path: Path, kind: str) -> None:
    good = save_state(tmp_path / "good.safetensors", small_state()).read_bytes()
    path = tmp_path / "bad.safetensors"
    path.write_bytes(malformed(good)[kind])
    with pytest.raises(WeightsError, match="is not a whole safetensors file") as caught:
        load_state(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("kind", ["empty", "cut header", "html", "huge header", "header is a list", "bad json"])
def test_metadata_of_malformed_files(tmp_path: Path, kind: str) -> None:
    good = save_state(tmp_path / "good.safetensors", small_state()).read_bytes()
    path = tmp_path / "bad.safetensors"
    path.write_bytes(malformed(good)[kind])
    with pytest.raises(WeightsError):
        read_metadata(path)


def test_metadata_of_other_programs_is_plain_text(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file({"w": torch.ones(1)}, path, metadata={"format": "pt"})
    assert read_metadata(path) == {"format": "pt"}
    safetensors.torch.save_file({"w": torch.ones(1)}, path)
    assert read_metadata(path) == {}


def test_nan_in_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file({"w": torch.tensor([float("nan")])}, path)
    with pytest.raises(WeightsError, match="NaN or infinite weights"):
        load_state(path)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_state(tmp_path / "none.safetensors")


def test_user_model_walk(net: torch.nn.Module, card_fields: dict[str, Any]) -> None:
    card = save_user_model(net.state_dict(), card_fields, half=True)
    assert find_model("tiny-net") == card
    assert card.file.url is None
    assert not card.bundled
    loaded = load_model(card)
    assert not loaded.training
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, net.state_dict()[name].half().float())


def test_training_again_replaces_the_model(net: torch.nn.Module, card_fields: dict[str, Any]) -> None:
    first = save_user_model(net.state_dict(), card_fields)
    changed = {name: tensor * 2 for name, tensor in net.state_dict().items()}
    second = save_user_model(changed, first.model_copy(update={"version": "1.0.1"}))
    assert second.file.name != first.file.name
    assert {path.name for path in folders.user_models_dir().iterdir()} == {"tiny-net.json", second.file.name}
    assert find_model("tiny-net").version == "1.0.1"
    load_model(find_model("tiny-net"))


@pytest.mark.parametrize("n_good_writes", [0, 1])
def test_a_crash_while_saving_keeps_the_earlier_model(
    net: torch.nn.Module, card_fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch, n_good_writes: int
) -> None:
    first = save_user_model(net.state_dict(), card_fields)
    real, calls = weights.replace_bytes, []

    def fail_late(path: Path, data: bytes) -> None:
        calls.append(path)
        if len(calls) > n_good_writes:
            raise OSError(28, "No space left on device")
        real(path, data)

    monkeypatch.setattr(weights, "replace_bytes", fail_late)
    with pytest.raises(WriteError):
        save_user_model({n: t * 2 for n, t in net.state_dict().items()}, card_fields)
    assert find_model("tiny-net") == first
    load_model(first)


def test_a_tampered_user_model_is_refused(net: torch.nn.Module, card_fields: dict[str, Any]) -> None:
    card = save_user_model(net.state_dict(), card_fields)
    path = folders.user_models_dir() / card.file.name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    load_state(path)  # safetensors itself does not notice
    with pytest.raises(ChecksumError, match="has changed since it was saved"):
        load_model(card)


def test_save_user_model_refuses_what_could_not_be_loaded(net: torch.nn.Module, card_fields: dict[str, Any]) -> None:
    state = net.state_dict()
    some = dict(list(state.items())[:-1])
    with pytest.raises(WeightsError, match="do not fit the architecture"):
        save_user_model(some, card_fields)
    with pytest.raises(ManifestError, match="not complete: version"):
        save_user_model(state, {**card_fields, "version": "x"})
    with pytest.raises(ManifestError, match="this version knows"):
        save_user_model(state, {**card_fields, "architecture": {"name": "os.system"}})
    with pytest.raises(WeightsError, match="the training diverged"):
        save_user_model({n: t * float("nan") for n, t in state.items()}, card_fields)
    folder = folders.user_models_dir()
    assert not folder.exists() or list(folder.iterdir()) == []


def test_a_user_cannot_take_the_id_of_the_project(
    net: torch.nn.Module, card_fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = tmp_path / "weights_manifest.json"
    own.write_text('{"schema_version": 1}')
    manifest.write_entry(own, ModelCard.model_validate(card_fields))
    monkeypatch.setattr(manifest, "manifest_path", lambda: own)
    assert [card.id for card in load_manifest().models] == ["tiny-net"]
    with pytest.raises(ManifestError, match="belongs to a model of the project"):
        save_user_model(net.state_dict(), card_fields)


def test_a_models_folder_that_cannot_be_made(net: torch.nn.Module, card_fields: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("I am a file")
    with pytest.raises(WriteError, match="cannot be made"):
        save_user_model(net.state_dict(), card_fields, folder=tmp_path / "taken" / "models")


def test_weights_of_another_network_are_refused(
    net: torch.nn.Module, card_fields: dict[str, Any], tiny_zoo: Any
) -> None:
    path = save_state(tiny_zoo.cache.parent / "tiny.safetensors", small_state())
    tiny_zoo.cache.mkdir()
    path.rename(tiny_zoo.cache / path.name)
    entry = FileEntry.of(tiny_zoo.cache / path.name, url="good/tiny.safetensors")
    card = ModelCard.model_validate({**card_fields, "file": entry})
    with pytest.raises(WeightsError, match=r"do not fit the architecture 'nunet' of the model 'tiny-net'.*Missing key"):
        load_model(card)
    newer = card.model_copy(update={"architecture": {"name": "nunet", "colour": "blue"}})
    with pytest.raises(ManifestError, match="cannot build"):
        load_model(newer)


def test_statistics_of_frozen_norms_keep_32_bits(tmp_path: Path) -> None:
    path = tmp_path / "frozen.safetensors"
    large = torch.tensor([1e6, 3.0])  # more than 16 bits hold
    save_state(path, {"norm.running_var": large, "conv.weight": torch.ones(2)}, half=True)
    state = load_state(path)
    torch.testing.assert_close(state["norm.running_var"], large, rtol=0, atol=0)
