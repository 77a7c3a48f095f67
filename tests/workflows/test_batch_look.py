"""A batch looked at before it runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.io.images import write
from napari_cellenhance.workflows.batch import BatchRequest, Machine, run
from napari_cellenhance.workflows.batch_look import command_for, look, recipe_of
from napari_cellenhance.workflows.batch_recipe import Recipe, write_recipe
from napari_cellenhance.workflows.requests import EnhanceRequest, SegmentOptions

RECIPE = Recipe(steps=(EnhanceRequest(image=None, axes="", filter_id="gamma"),))


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    folder = tmp_path / "plate"
    (folder / "sub").mkdir(parents=True)
    for name, shape in (("a", (20, 30)), ("b", (500, 400)), ("sub/c", (10, 10))):
        write(folder / f"{name}.tif", np.zeros(shape, np.uint16), "YX", dtype="keep")
    (folder / "broken.tif").write_bytes(b"x" * 10**6)
    return folder


def test_files_are_counted_and_the_memory_is_that_of_the_largest_that_opens(plate: Path) -> None:
    found = look(plate)
    assert found.names == ("a.tif", "b.tif", "broken.tif") and found.largest == "b.tif"
    assert found.images_mb == pytest.approx(450 + 4 * 500 * 400 * (2 + 4) / 1e6)
    measured = look(plate, plate / "out", replace(RECIPE, labels=SegmentOptions()), is_recursive=True)
    assert measured.names[-1] == "sub/c.tif" and not (plate / "out").exists()
    assert measured.images_mb == pytest.approx(450 + 4 * 500 * 400 * (2 + 8) / 1e6)
    assert look(plate / "broken.tif").need(Machine()) == ""


def test_results_are_no_sources_and_a_wrong_folder_is_told(plate: Path) -> None:
    run(BatchRequest(source=plate / "a.tif", target=plate / "out", recipe=RECIPE))
    assert look(plate, plate / "out", is_recursive=True).names == ("a.tif", "b.tif", "broken.tif", "sub/c.tif")
    with pytest.raises(ParameterError, match="holds the images themselves"):
        look(plate, plate)
    with pytest.raises(ParameterError, match="there is no file or folder"):
        look(plate / "nothing")


def test_a_recipe_comes_from_json_or_from_a_result(plate: Path) -> None:
    run(BatchRequest(source=plate / "a.tif", target=plate / "out", recipe=RECIPE))
    assert recipe_of(write_recipe(plate / "r.json", RECIPE)) == RECIPE
    (step,) = recipe_of(plate / "out" / "a.ome.tif").steps
    assert isinstance(step, EnhanceRequest) and step.filter_id == "gamma"


def test_the_command_says_what_differs_from_the_defaults() -> None:
    machine = Machine(device="cpu", precision="float32", memory_limit_mb=500)
    recipe = replace(RECIPE, labels=SegmentOptions(), measure=True)
    request = BatchRequest(
        source="a/*.tif", target="out", recipe=recipe, tables="parquet", overwrite=True, machine=machine
    )
    assert command_for(request, "r.json") == (
        "cellenhance batch 'a/*.tif' out --recipe r.json --tables parquet --overwrite --device cpu "
        "--precision float32 --memory 500"
    )
