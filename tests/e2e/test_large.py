"""Images larger than memory at the terminal."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from typer.testing import CliRunner

from napari_cellenhance.cli import app
from napari_cellenhance.core.errors import ClusterError
from napari_cellenhance.io.images import read, write
from napari_cellenhance.io.ome_zarr import ZarrImage, open_store
from napari_cellenhance.workflows import _batch_cluster, enhance
from napari_cellenhance.workflows import cluster as cluster_module
from napari_cellenhance.workflows.cluster import Cluster
from napari_cellenhance.workflows.requests import EnhanceRequest


def call(*words: Any) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def source(folder: Path, picture: NDArray[np.uint16]) -> Path:
    return write(folder / "cells.ome.tif", picture, "YX", pixel_size_um={"Y": 0.5, "X": 0.5}, dtype="keep")


def test_tiff_to_zarr_to_zarr(source: Path, folder: Path, picture: NDArray[np.uint16]) -> None:
    first, second = folder / "a.ome.zarr", folder / "b.ome.zarr"
    ended = call("enhance", source, first, "--model", "gamma", "--memory-limit", 700, "--chunk", 32)
    assert (ended.exit_code, ended.stdout.strip()) == (0, str(first)), ended.output
    assert "(limit 700 MB)" in ended.stderr
    expected = enhance.run(EnhanceRequest(image=picture, axes="YX", filter_id="gamma")).image
    np.testing.assert_allclose(open_store(first).levels[0][:, :], expected, atol=1e-6)
    ended = call("enhance", first, second, "--model", "gaussian", "--ome-zarr", "0.4", "--dtype", "uint8", "-q")
    assert (ended.exit_code, ended.output) == (0, "")
    made = open_store(second)
    assert (made.levels[0].dtype, made.pixel_size_um) == (np.uint8, {"Y": 0.5, "X": 0.5})
    assert made.provenance is not None and made.provenance["earlier"]["filter"] == "gamma"


def test_an_image_inside_a_plate(source: Path, folder: Path) -> None:
    call("enhance", source, folder / "a.ome.zarr", "--model", "gamma", "-q")
    inside = folder / "plate.ome.zarr" / "A" / "1" / "0"
    shutil.copytree(folder / "a.ome.zarr", inside)
    ended = call("enhance", inside, folder / "b.ome.zarr", "--model", "gamma", "-q")
    assert (ended.exit_code, ended.output) == (0, "")
    ended = call("enhance", inside, folder / "b.png", "--model", "gamma")
    assert ended.exit_code == 2 and "ending in .ome.zarr" in ended.stderr


def test_tiff_to_tiled_tiff(source: Path, folder: Path, picture: NDArray[np.uint16]) -> None:
    ended = call("enhance", source, folder / "b.ome.tif", "--model", "gamma", "--blocks", "-q")
    assert (ended.exit_code, ended.output) == (0, "")
    with tifffile.TiffFile(folder / "b.ome.tif") as tif:
        assert tif.pages.first.is_tiled
    expected = enhance.run(EnhanceRequest(image=picture, axes="YX", filter_id="gamma")).image
    np.testing.assert_array_equal(read(folder / "b.ome.tif").image, expected)
    assert not [path.name for path in folder.iterdir() if path.suffix in (".partial", ".journal", ".lock", ".part")]


@pytest.mark.parametrize("words", [("enhance", "cells.ome.tif", "a.zarr"), ("batch", ".", "out")])
def test_workers_are_handed_on(source: Path, folder: Path, words: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Cluster] = []

    def connect(cluster: Cluster, *rest: Any) -> Any:
        seen.append(cluster)
        raise ClusterError("nobody is there")

    monkeypatch.setattr(cluster_module, "connect", connect)
    monkeypatch.setattr(_batch_cluster, "connect", connect)
    monkeypatch.chdir(folder)
    ended = call(*words, "--model", "gamma", "--scheduler", "tcp://a:1")
    assert ended.exit_code == 1 and "nobody is there" in ended.stderr
    call(*words, "--model", "gamma", "--workers", 3)
    assert seen == [Cluster(scheduler="tcp://a:1"), Cluster(n_workers=3)]
    ended = call(*words, "--model", "gamma", "--workers", 3, "--scheduler", "tcp://a:1")
    assert ended.exit_code == 2 and "expected one of the two" in ended.stderr


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(
    source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: ZarrImage, level: int, corner: Any, block: Any) -> None:
        raise OSError(28, "No space left on device")

    words = ("enhance", source, folder / "a.ome.zarr", "--model", "gamma", "--tile", 32, "--chunk", 32)
    with monkeypatch.context() as patch:
        patch.setattr(ZarrImage, "write", full)
        ended = call(*words, "-q")
    assert ended.exit_code == 1
    (line,) = ended.stderr.splitlines()
    assert "the disk is full; free some space, and run the same again" in line
    assert call(*words, "-q").exit_code == 0


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("cells.ome.zarr", "out.png"), "expected a name ending in .ome.zarr"),
        (("a.zarr", "b.zarr", "out.zarr"), "one image at a time"),
        (("a.tif", "out.zarr", "--labels", "l.tif"), "whole image in memory"),
        (("a.tif", "out.zarr", "--report", "r.json"), "leave them out"),
        (("missing.zarr", "out.zarr"), "missing.zarr"),
        (("", "out.tif", "--blocks"), "use 'cellenhance batch' for many"),
    ],
)
def test_what_cannot_be_is_one_line(folder: Path, words: tuple[str, ...], match: str) -> None:
    ended = call("enhance", *(word if word.startswith("--") else folder / word for word in words))
    assert ended.exit_code == 2, ended.output
    (line,) = ended.stderr.splitlines()
    assert match in line
