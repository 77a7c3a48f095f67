"""Suggested strength, strength by region, persistence map and import, from the terminal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

from napari_cellenhance.cli import app
from napari_cellenhance.core.models.nunet import NUNet
from napari_cellenhance.io.images import read_provenance, write


def invoke(*words: str | Path) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def cells(picture: NDArray[np.uint16], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NDArray[np.uint16]:
    monkeypatch.chdir(tmp_path)
    write("cells.tif", picture, "YX", dtype="keep")
    return picture


def test_strength_auto_is_written_into_the_recipe(cells: NDArray[np.uint16], nunet_id: str) -> None:
    invoke("enhance", "cells.tif", "auto.ome.tif", "--model", nunet_id, "--strength", "auto")
    recipe = read_provenance("auto.ome.tif")
    assert recipe is not None
    assert recipe["strength"] == recipe["strength_suggested"]["strength"]


def test_regions_have_their_own_strength(cells: NDArray[np.uint16]) -> None:
    labels = np.zeros(cells.shape, np.uint8)
    labels[:, :20] = 1
    write("regions.tif", labels, "YX", dtype="keep")
    common = ("enhance", "cells.tif")
    invoke(*common, "plain.ome.tif", "--model", "gaussian", "--strength", "2")
    invoke(*common, "strong.ome.tif", "--model", "gaussian", "--strength", "6")
    invoke(
        *common, "mixed.ome.tif", "--model", "gaussian", "--strength", "2", "--strength-map", "regions.tif",
        "--label-strength", "1=6", "--soft-edges", "0",
    )  # fmt: skip
    plain, strong, mixed = (tifffile.imread(f"{name}.ome.tif") for name in ("plain", "strong", "mixed"))
    np.testing.assert_allclose(mixed[:, :20], strong[:, :20], atol=1e-6)
    np.testing.assert_allclose(mixed[:, 20:], plain[:, 20:], atol=1e-6)
    recipe = read_provenance("mixed.ome.tif")
    assert recipe is not None and recipe["strength_map"]["name"] == "regions.tif"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--strength", "much"), "expected a number, or auto"),
        (("--strength-map", "cells.tif", "--label-strength", "one=2"), "expected LABEL=STRENGTH"),
        (("--label-strength", "1=2"), "came without a strength map"),
    ],
)
def test_wrong_words_are_wrong_usage(cells: NDArray[np.uint16], words: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(app, ["enhance", "cells.tif", "out.tif", "--model", "gaussian", *words])
    assert result.exit_code == 2
    assert said in result.output


def test_persistence_map_objects_and_table(cells: NDArray[np.uint16]) -> None:
    said = invoke(
        "persistence", "cells.tif", "map.ome.tif", "--model", "gaussian", "--steps", "4", "--labels",
        "objects.ome.tif", "--table", "objects.csv",
    )  # fmt: skip
    assert "lasting all the way" in said
    objects = tifffile.imread("objects.ome.tif")
    assert objects.max() > 0 and tifffile.imread("map.ome.tif")[objects > 0].min() > 0
    assert len(Path("objects.csv").read_text(encoding="utf-8").splitlines()) == objects.max() + 1


def test_the_authors_networks_become_a_filter(cells: NDArray[np.uint16], tmp_path: Path) -> None:
    torch.save({"state_dict": NUNet().state_dict()}, tmp_path / "nunet_sw80.model")
    assert "nunet-authors is ready" in invoke("models", "import", tmp_path / "nunet_sw80.model")
    assert "nunet-authors" in invoke("models", "list")
    result = CliRunner().invoke(app, ["models", "import", str(tmp_path / "cells.tif")])
    assert result.exit_code == 1 and "neither a tar nor a zip" in result.output
