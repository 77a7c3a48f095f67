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
from napari_cellenhance.core.postprocess import label_mask
from napari_cellenhance.io.images import read, write
from napari_cellenhance.io.ome_zarr import ZarrImage, open_store
from napari_cellenhance.workflows import _batch_cluster, enhance
from napari_cellenhance.workflows import cluster as cluster_module
from napari_cellenhance.workflows.cluster import Cluster
from napari_cellenhance.workflows.requests import EnhanceRequest, SegmentOptions


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


def test_objects_of_a_large_image_and_their_table(source: Path, folder: Path, picture: NDArray[np.uint16]) -> None:
    image, labels = folder / "a.ome.zarr", folder / "l.ome.zarr"
    words = ("enhance", source, image, "--model", "gaussian", "--labels", labels, "--min-size", 4)
    ended = call(*words)
    assert (ended.exit_code, ended.stdout.strip()) == (0, f"{image}, {labels}"), ended.output
    options = SegmentOptions(min_size_px=4)
    expected = enhance.run(EnhanceRequest(image=picture, axes="YX", filter_id="gaussian", segment=options)).labels
    assert expected is not None and expected.max() > 0
    np.testing.assert_array_equal(open_store(labels).levels[0][:, :], expected)
    ended = call("objects", labels, folder / "o.csv", "--image", f"raw={source}")
    assert (ended.exit_code, ended.stdout.split(" ")[0]) == (0, str(expected.max())), ended.output
    rows = (folder / "o.csv").read_text().splitlines()
    assert len(rows) == expected.max() + 1 and "raw_mean" in rows[0]
    ended = call("objects", labels, folder / "p.csv", "--image", "raw")
    assert ended.exit_code == 2 and "expected NAME=FILE" in ended.stderr
    # Only the labels are missing: the image stays as it is.
    shutil.rmtree(labels)
    before = (image / "zarr.json").stat().st_mtime_ns
    ended = call(*words)
    assert ended.exit_code == 0 and "is there already, made in the same way" in ended.stderr
    assert (image / "zarr.json").stat().st_mtime_ns == before and labels.exists()
    shutil.rmtree(labels)
    ended = call(*words, "--strength", 5)
    assert ended.exit_code == 1 and "exists already" in ended.stderr


def test_a_large_image_is_segmented_by_a_model(source: Path, folder: Path) -> None:
    classes, objects = folder / "c.ome.zarr", folder / "o.ome.zarr"
    words = ("--model", "aep-nuclei", "--device", "cpu", "--precision", "float32", "-q")
    ended = call("segment", source, classes, "--instances", objects, *words)
    assert (ended.exit_code, ended.output) == (0, "")
    found = open_store(classes).levels[0][:, :]
    np.testing.assert_array_equal(open_store(objects).levels[0][:, :], label_mask(found == 2))
    ended = call("segment", source, folder / "i.ome.zarr", "--output", "instances", "--threshold", 0.6, *words)
    assert (ended.exit_code, ended.output) == (0, "")
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]  # what lay between is gone
    for more, match in (
        (("--also", "filters"), "leave them out"),
        (("--grow", 2, "--output", "instances"), "do not grow"),
    ):
        ended = call("segment", source, folder / "x.ome.zarr", *words, *more)
        assert ended.exit_code == 2 and match in ended.stderr


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
        (("a.tif", "out.zarr", "--labels", "l.tif"), "labels of a large image cannot be written to"),
        (("a.tif", "out.zarr", "--labels", "l.zarr", "--threshold=li"), "Li's method needs all pixels"),
        (("a.tif", "out.tif", "--blocks", "--labels", "l.zarr"), "is a TIFF: name an OME-Zarr"),
        (("a.tif", "out.zarr", "--points", "p.csv"), "whole image in memory"),
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


def test_grey_values_of_a_large_image_are_kept(source: Path, folder: Path) -> None:
    """What denoises, restores and separates files does so block by block, with the same pixels."""
    how = ("--device", "cpu", "--precision", "float32", "-q")
    large = folder / "a.ome.zarr"
    call("enhance", source, large, "--model", "gaussian", "--strength", 0, "-q")
    for command, name, more in (
        ("denoise", "d", ()),
        ("restore", "r", ("--model", "care-nuclei")),
        ("separate", "s", ("--model", "keep-nuclei")),
    ):
        for given, ending in ((source, ".ome.tif"), (large, ".ome.zarr")):
            ended = call(command, given, folder / f"{name}{ending}", *more, *how)
            assert (ended.exit_code, ended.output) == (0, ""), ended.output
        expected = read(folder / f"{name}.ome.tif").image
        found = open_store(folder / f"{name}.ome.zarr").levels[0][:, :]
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.ptp(expected))
    np.testing.assert_allclose(
        open_store(folder / "r_uncertainty.ome.zarr").levels[0][:, :], read(folder / "r_uncertainty.ome.tif").image,
        rtol=1e-4,
    )  # fmt: skip
    # Only the uncertainty is missing: the image stays as it is; both are there: nothing is replaced.
    shutil.rmtree(folder / "r_uncertainty.ome.zarr")
    words = ("restore", large, folder / "r.ome.zarr", "--model", "care-nuclei", *how[:-1])
    ended = call(*words)
    assert ended.exit_code == 0 and "is there already, made in the same way" in ended.stderr
    assert "by a second pass through the network; --no-uncertainty" in ended.stderr
    assert (folder / "r_uncertainty.ome.zarr").exists() and not (folder / "r_uncertainty.recipe.json").exists()
    assert call(*words).exit_code == 1
    ended = call("restore", large, folder / "n.ome.zarr", "--model", "care-nuclei", "--no-uncertainty", *how)
    assert ended.exit_code == 0 and not (folder / "n_uncertainty.ome.zarr").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("separate", "a.zarr", "b.zarr", "--model", "keep-nuclei", "--labels"), "only what is wanted is written"),
        (("denoise", "a.zarr", "b.zarr", "--report", "r.json"), "a report cannot go with blocks"),
        (("restore", "a.tif", "b.tif", "--model", "care-nuclei", "--blocks", "--report", "r.json"), "a report cannot"),
        (("denoise", "cells.ome.tif", "cells.ome.tif", "--blocks"), "would replace the original"),
    ],
)
def test_what_grey_values_of_large_images_cannot_have_is_said(
    source: Path, folder: Path, words: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    ended = call(*words)
    assert ended.exit_code == 2 and told in ended.stderr, ended.output


def test_options_of_denoising_reach_the_request(source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_cellenhance.workflows import large_images

    seen: list[large_images.LargeRequest] = []

    def run(request: large_images.LargeRequest, **rest: Any) -> Any:
        seen.append(request)
        raise ClusterError("enough")

    monkeypatch.setattr(large_images, "run", run)
    words = ("--memory-limit", 700, "--chunk", 32, "--ome-zarr", "0.4", "--workers", 3, "--overwrite", "--tile", 64)
    call("denoise", source, folder / "b.ome.zarr", "--average", "--dtype", "same", "--statistics", "plane", *words)
    (asked,) = seen
    settings = asked.settings
    assert (asked.chunk_px, asked.version, asked.overwrite, asked.dtype) == (32, "0.4", True, "same")
    assert asked.cluster == Cluster(n_workers=3)
    assert (settings.memory_limit_mb, settings.tile_px, settings.statistics) == (700, 64, "plane")
    assert settings.filter_id == "grey|denoise|image|8|n2v2-fluorescence"
