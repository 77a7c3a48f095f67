"""Models at the terminal: packages of the BioImage Model Zoo out and in, and back again."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from napari_cellenhance import export_bioimageio, import_bioimageio
from napari_cellenhance.cli import app
from napari_cellenhance.core.models.denoiser import DenoisingNetwork
from napari_cellenhance.io.images import read, write
from napari_cellenhance.zoo.bioimageio_import import TrustError
from napari_cellenhance.zoo.weights import save_user_model


@pytest.fixture
def own(tmp_path: Path) -> str:
    network = DenoisingNetwork(statistics="image", depth=1, width=4)
    card: dict[str, Any] = {
        "id": "mine", "title": "My denoiser", "version": "1.0", "license": "CC0-1.0", "summary": "Of my cells.",
        "recipe": "n2v", "architecture": network.architecture, "normalization": {"name": "percentile"},
        "strength": {"default": 1.0, "maximum": 1.0},
    }  # fmt: skip
    return save_user_model(network.state_dict(), card).id


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def test_a_package_goes_out_comes_in_and_enhances(own: str, tmp_path: Path) -> None:
    done = run("models", "export", own, tmp_path, "--bioimageio")
    path = tmp_path / "mine.bioimageio.zip"
    assert done.exit_code == 0 and done.output.strip() == str(path)
    foreign = tmp_path / "foreign.zip"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(foreign, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name == "bioimageio.yaml":
                data = yaml.safe_dump({k: v for k, v in yaml.safe_load(data).items() if k != "config"}).encode()
            target.writestr(name, data)
    refused = run("models", "import", foreign, "--id", "theirs")
    assert refused.exit_code != 0
    assert "can read and write files" in refused.output and "--trust-torchscript" in refused.output
    taken = run("models", "import", foreign, "--id", "theirs", "--trust-torchscript", "--json")
    assert taken.exit_code == 0 and json.loads(taken.output)[0]["id"] == "theirs"
    assert "theirs" in run("models", "list").output
    raw = np.random.default_rng(0).integers(100, 900, (70, 64), dtype=np.uint16)
    write(tmp_path / "in.tif", raw, "YX", dtype="keep", pixel_size_um={})
    for model in (own, "theirs"):
        found = run(
            "enhance", tmp_path / "in.tif", tmp_path / f"{model}.tif", "--model", model, "--precision", "float32"
        )
        assert found.exit_code == 0, found.output
    theirs = np.asarray(read(tmp_path / "theirs.tif").image, np.float32)
    assert theirs.shape == raw.shape and np.isfinite(theirs).all()


def test_an_exported_model_comes_back(own: str, tmp_path: Path) -> None:
    assert run("models", "export", own, tmp_path).exit_code == 0
    assert run("models", "delete", own).exit_code == 0
    assert "mine is ready: My denoiser" in run("models", "import", tmp_path / "mine.json").output
    assert run("models", "import", tmp_path / "mine.json").exit_code != 0, "there is one of that name"
    assert "again is ready" in run("models", "import", tmp_path / "mine.json", "--id", "again").output


def test_a_package_goes_to_a_folder_that_is_not_there_yet(own: str, tmp_path: Path) -> None:
    done = run("models", "export", own, f"{tmp_path / 'folder'}/", "--bioimageio")
    assert done.exit_code == 0, done.output
    (path,) = (tmp_path / "folder").iterdir()
    assert path.name == "mine.bioimageio.zip" and zipfile.is_zipfile(path)


def test_the_public_calls(own: str, tmp_path: Path) -> None:
    path = export_bioimageio(own, tmp_path / "out.zip", authors=("A. Biologist",))
    assert import_bioimageio(path, model_id="copy") == "copy"
    with zipfile.ZipFile(path) as archive:
        told = yaml.safe_load(archive.read("bioimageio.yaml"))
    assert told["authors"] == [{"name": "A. Biologist"}]
    del told["config"]
    bare = tmp_path / "bare.zip"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(bare, "w") as target:
        target.writestr("bioimageio.yaml", yaml.safe_dump(told))
        target.writestr("weights.torchscript", source.read("weights.torchscript"))
    with pytest.raises(TrustError):
        import_bioimageio(bare)
