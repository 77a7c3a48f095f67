"""The grid search over settings of a restoration."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.microscope import Optics
from napari_cellenhance.io.images import write
from napari_cellenhance.workflows import search_care, train_care
from napari_cellenhance.workflows.search_care import SearchCareRequest, to_markdown
from napari_cellenhance.workflows.synthesize import Synthesis
from napari_cellenhance.workflows.train_care import CareRequest
from napari_cellenhance.zoo.manifest import list_models


@pytest.fixture
def base(tmp_path: Path) -> CareRequest:
    folder = tmp_path / "clean"
    folder.mkdir()
    for i in range(3):
        image = gaussian_filter(np.random.default_rng(i).random((32, 36)), 2)
        write(folder / f"{i}.tif", (1000 * image).astype(np.float32), "YX")
    return CareRequest(
        data=folder, out=tmp_path / "search", synthesis=Synthesis(optics=Optics(kind="none")), n_steps=3, batch_size=2,
        width=4, kernel_px=3, validate_every=3, precision="float32", recipe_options={"n_validation": 3},
    )  # fmt: skip


def test_every_combination_is_trained_once_and_the_smallest_error_wins(
    base: CareRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = SearchCareRequest(base=base, grid={"patch_px": (16, 24), "learning_rate": (1e-3, 2e-2)})
    found = search_care.run(request)
    settings = [(row["patch_px"], row["learning_rate"]) for row in found.rows]
    assert settings == [(16, 1e-3), (16, 2e-2), (24, 1e-3), (24, 2e-2)]
    assert len({row["mae_of_input"] for row in found.rows}) == 1, "all are measured on the same images"
    assert len({row["mae"] for row in found.rows}) == 4
    assert found.best is not None and found.best["mae"] == min(row["mae"] for row in found.rows)
    assert not [card for card in list_models() if card.id == "searched"], "none is installed"
    assert found.table is not None
    with found.table.open(newline="") as stream:
        assert [row["folder"] for row in csv.DictReader(stream)] == [row["folder"] for row in found.rows]
    first_line = to_markdown(found).splitlines()[2]
    assert first_line.startswith(f"| **{found.best['patch_px']}** | **{found.best['learning_rate']}**")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(train_care, "run", refuse)
    assert search_care.run(request).rows == found.rows
    with pytest.raises(AssertionError, match="trained again"):
        search_care.run(replace(request, base=replace(base, n_steps=4)))


def test_a_failure_is_a_row_but_bad_images_end_the_search(base: CareRequest, tmp_path: Path) -> None:
    grid = {"learning_rate": (1e-3,), "init_from": (None, "nobody")}
    found = search_care.run(SearchCareRequest(base=base, grid=grid))
    assert [bool(row["problem"]) for row in found.rows] == [False, True] and "nobody" in found.rows[1]["problem"]
    assert "nobody" in to_markdown(found).splitlines()[-1]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="no TIFF"):
        search_care.run(SearchCareRequest(base=replace(base, data=tmp_path / "empty")))


def test_a_cancelled_training_leaves_no_row(base: CareRequest) -> None:
    ticks = iter(range(10_000))
    request = SearchCareRequest(base=base, grid={"patch_px": (16, 24)})
    found = search_care.run(request, is_cancelled=lambda: next(ticks) > 6)
    assert not found.is_complete and len(found.rows) < 2
    assert len(search_care.run(request).rows) == 2


def test_settings_that_do_not_exist_are_named_before_anything_runs(base: CareRequest) -> None:
    with pytest.raises(ParameterError, match=r"patchpx cannot be searched; expected some of: .*patch_px"):
        SearchCareRequest(base=base, grid={"patchpx": (1,)})
    with pytest.raises(ParameterError, match="nothing to search"):
        SearchCareRequest(base=base, grid={"patch_px": ()})
    with pytest.raises(ParameterError, match="learning rate is 2"):
        SearchCareRequest(base=base, grid={"learning_rate": (1e-3, 2)})
