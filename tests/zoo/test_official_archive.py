"""The authors' archive, in the layout that is known of it, written here; and what else may come in its place."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from napari_cellenhance.core.errors import ManifestError, ModelExistsError, WeightsError
from napari_cellenhance.core.models.nunet import NUNet
from napari_cellenhance.zoo import official_archive
from napari_cellenhance.zoo.import_official import LICENSE, import_archive, map_state
from napari_cellenhance.zoo.manifest import find_model, load_manifest
from napari_cellenhance.zoo.official_archive import families, read_archive
from napari_cellenhance.zoo.weights import load_model, save_user_model

Files = dict[str, bytes]


def network(seed: int) -> NUNet:
    torch.manual_seed(seed)
    net = NUNet().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
        net.head.weight.mul_(100.0)  # outputs that span the grey scale, as trained ones do
    return net


def foreign_state(net: NUNet, *, norms_last: bool = False) -> dict[str, Tensor]:
    """The same weights under other names, with running statistics, as a checkpoint of someone else has them."""
    convs: dict[str, Tensor] = {}
    norms: dict[str, Tensor] = {}
    mixed: dict[str, Tensor] = {}
    for name, tensor in net.state_dict().items():
        is_norm = ".norm." in name
        new = f"module.{'in' if is_norm else 'c'}_{len(norms if is_norm else convs) // 2}.{name.rpartition('.')[2]}"
        (norms if is_norm else convs)[new] = mixed[new] = tensor
        if is_norm and name.endswith("bias"):
            stem = new.rpartition(".")[0]
            mixed[f"{stem}.running_mean"] = norms[f"{stem}.running_mean"] = torch.zeros_like(tensor)
            mixed[f"{stem}.num_batches_tracked"] = torch.tensor(7)
            norms.pop(f"{stem}.running_mean")
    return convs | norms if norms_last else mixed


def checkpoint(net: NUNet, **more: Any) -> bytes:
    stream = io.BytesIO()
    torch.save({"epoch": 20, "state_dict": foreign_state(net), **more}, stream)
    return stream.getvalue()


@pytest.fixture(scope="module")
def files() -> Files:
    config = b"# slider\nmodel: models/nunet_last.model\n"
    return {
        "nunet/config/bio/filter_slider/sw80.yml": config,
        "nunet/config/bio/train.yml": b"lr: 0.001\n",
        "nunet/models/nunet_sw50.model": checkpoint(network(1)),
        "nunet/models/nunet_last.model": checkpoint(network(2)),
        "nunet/README": b"hello",
    }


def write_zip(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def write_tar(path: Path, files: Files, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_archive_becomes_one_model_with_a_slider(kind: str, files: Files, tmp_path: Path) -> None:
    path = tmp_path / f"nunet_models.{kind}"
    write_zip(path, files) if kind == "zip" else write_tar(path, files, "w:gz" if kind == "tar.gz" else "w")
    (card,) = import_archive(path)
    assert find_model(card.id) == card
    assert card.strength.knots == (5.0, 8.0)  # the second one is told by the slider's configuration
    assert card.strength.default == 8.0
    assert card.strength.identity_below == 5.0
    assert card.license == LICENSE
    assert card.training["imported_from"] == path.name
    module = load_model(card)
    x = 255 * torch.rand(1, 1, 32, 32)
    with torch.inference_mode():
        low, high = (network(seed)(x).clamp(0, 255) for seed in (1, 2))
        found = [module(x, torch.tensor([w])) for w in (0.0, 5.0, 6.5, 8.0, 10.0)]
    for image, wanted in zip(found, (low, low, 0.5 * low + 0.5 * high, high, high), strict=True):
        torch.testing.assert_close(image, wanted)
    assert (high - low).abs().max() > 1


def test_one_model_file_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "nunet_sw65.model"
    path.write_bytes(checkpoint(network(3)))
    (card,) = import_archive(path, model_id="mine")
    (card,) = import_archive(path, model_id="mine")  # it may come again
    assert card.architecture["name"] == "nunet"
    assert card.strength.knots == (6.5,)
    x = 255 * torch.rand(1, 1, 24, 24)
    with torch.inference_mode():
        torch.testing.assert_close(load_model(card)(x), network(3)(x))


def test_a_model_that_was_trained_here_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "nunet_sw65.model"
    path.write_bytes(checkpoint(network(3)))
    (card,) = import_archive(path, model_id="mine")
    mine = save_user_model(load_model(card).state_dict(), card.model_copy(update={"training": {"seed": 1}}))
    with pytest.raises(ModelExistsError, match="'mine' already"):
        import_archive(path, model_id="mine")
    assert find_model("mine") == mine


@pytest.mark.parametrize("norms_last", [False, True])
def test_layers_are_told_by_order_and_shape_not_by_name(norms_last: bool) -> None:
    net = network(4)
    mapped = map_state(foreign_state(net, norms_last=norms_last), "test")
    assert mapped.keys() == net.state_dict().keys()
    assert all(torch.equal(mapped[name], tensor) for name, tensor in net.state_dict().items())


def test_folders_make_models_of_their_own(tmp_path: Path) -> None:
    small = checkpoint(network(1))
    path = write_zip(tmp_path / "a.zip", {"m/Blobs/x_sw50.model": small, "m/Rods/x_sw50.model": small})
    assert [card.id for card in import_archive(path)] == ["nunet-authors-blobs", "nunet-authors-rods"]
    same = write_zip(tmp_path / "b.zip", {"m/sw50/best.model": small, "m/sw100/best.model": small})
    (family,) = families(read_archive(same)).values()
    assert [c.strength for c in family] == [5.0, 10.0]


@pytest.mark.parametrize("name", ["../evil_sw50.model", "/etc/evil_sw50.model", "C:\\evil_sw50.model", "a\\..\\b.yml"])
@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_names_that_lead_out_of_the_archive_are_refused(
    write: Callable[[Path, Files], Path], name: str, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match="leads out of the archive"):
        read_archive(write(tmp_path / "evil", {name: b"x"}))
    assert [p.name for p in tmp_path.iterdir()] == ["evil"]


def test_links_are_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
            link = tarfile.TarInfo("x_sw50.model")
            link.type, link.linkname = kind, "/etc/hostname"
            archive.addfile(link)
    with pytest.raises(WeightsError, match=r"no \.model file"):
        read_archive(path)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        entry = zipfile.ZipInfo("x_sw50.model")
        entry.external_attr = 0o120777 << 16
        zipped.writestr(entry, "/etc/hostname")
    with pytest.raises(WeightsError, match=r"no \.model file"):
        read_archive(tmp_path / "a.zip")


def test_bombs_do_not_go_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(official_archive, "MAX_CHECKPOINT_BYTES", 100_000)
    path = write_zip(tmp_path / "a.zip", {"x_sw50.model": bytes(200_000)})
    assert path.stat().st_size < 2_000
    with pytest.raises(WeightsError, match="larger than"):
        read_archive(path)
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(300_000))
    with pytest.raises(WeightsError, match="unpacks to"):
        official_archive.check_is_small(inner.getvalue(), "x", 100_000)


def test_a_lying_header_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(official_archive, "MAX_CHECKPOINT_BYTES", 1_000)
    with pytest.raises(WeightsError, match="larger than"):
        official_archive._read(io.BytesIO(bytes(5_000)), 10, 1_000, "x")
    monkeypatch.setattr(official_archive, "MAX_CHECKPOINTS", 2)
    with pytest.raises(WeightsError, match="more than 2 checkpoints"):
        read_archive(write_zip(tmp_path / "a.zip", {f"x_sw{i}.model": b"x" for i in (50, 60, 70)}))


class _Evil:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("ran"),))


def test_code_in_a_checkpoint_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for data in (checkpoint(network(1), config=_Evil()), pickle.dumps(_Evil(), protocol=2)):
        path = write_zip(tmp_path / "a.zip", {"x_sw50.model": data})
        with pytest.raises(WeightsError, match="cannot be read as plain weights"):
            import_archive(path)
    assert not Path("ran").exists()
    assert load_manifest().problems == ()


def test_wrong_files_are_told_and_leave_nothing(tmp_path: Path, files: Files) -> None:
    whole = write_tar(tmp_path / "whole.tar.gz", files, "w:gz").read_bytes()
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(whole[: len(whole) // 2])
    text = tmp_path / "text.tar"
    text.write_text("no archive")
    with pytest.raises(WeightsError, match="cut off"):
        import_archive(cut)
    with pytest.raises(WeightsError, match="neither a tar nor a zip"):
        import_archive(text)
    with pytest.raises(FileNotFoundError):
        import_archive(tmp_path / "nowhere.tar")
    with pytest.raises(WeightsError, match=r"no \.model file"):
        import_archive(write_zip(tmp_path / "no.zip", {"README": b"x"}))
    with pytest.raises(WeightsError, match=r"strength of x\.model is not told"):
        import_archive(write_zip(tmp_path / "unnamed.zip", {"x.model": b"x"}))
    with pytest.raises(WeightsError, match="both for the strength 5"):
        import_archive(write_zip(tmp_path / "two.zip", {"a_sw50.model": b"x", "b_sw50.model": b"x"}))
    with pytest.raises(WeightsError, match="strength 95"):
        import_archive(write_zip(tmp_path / "far.zip", {"a_sw950.model": b"x"}))
    with pytest.raises(ManifestError, match="belongs to a model of the project"):
        import_archive(write_tar(tmp_path / "good.tar", files), model_id="nunet")
    assert not any(card.id.startswith("nunet-authors") for card in load_manifest().models)


def test_networks_that_are_none_of_nunet_are_told(tmp_path: Path) -> None:
    state = foreign_state(network(1))
    short = dict(list(state.items())[:-2])
    with pytest.raises(WeightsError, match="15 convolutions; expected the 16"):
        map_state(short, "x")
    no_bias = {name: t for name, t in state.items() if name != "module.c_3.bias"}
    with pytest.raises(WeightsError, match=r"no 'module\.c_3\.bias'"):
        map_state(no_bias, "x")
    with pytest.raises(WeightsError, match="has the shape"):
        map_state(state | {"module.c_3.weight": torch.zeros(2, 2, 3, 3)}, "x")
    stream = io.BytesIO()
    torch.save({"epoch": 3}, stream)
    with pytest.raises(WeightsError, match="no 'state_dict'"):
        import_archive(write_zip(tmp_path / "a.zip", {"x_sw50.model": stream.getvalue()}))
