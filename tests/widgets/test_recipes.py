"""Recipes of layers: copied Python and commands make the same pixels as each dock; shown, applied, refused."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QApplication, QFileDialog, QInputDialog
from typer.testing import CliRunner

from napari_cellenhance.cli import app
from napari_cellenhance.core.crops import Background, CropSet, ObjectCrop
from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.synthetic_pairs import SceneSettings
from napari_cellenhance.io.images import read, write
from napari_cellenhance.widgets import _recipe_actions as actions
from napari_cellenhance.widgets import _worker
from napari_cellenhance.widgets._layers import METADATA_KEY
from napari_cellenhance.widgets._recipe_dialog import RecipeDialog
from napari_cellenhance.workflows import enhance, train_semantic
from napari_cellenhance.workflows.batch_recipe import read_recipe, title_of
from napari_cellenhance.workflows.requests import EnhanceRequest
from napari_cellenhance.workflows.train_semantic import SemanticRequest

PATIENCE_MS = 120_000


@pytest.fixture
def viewer() -> ViewerModel:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:48, :56]
    image = 300 + rng.normal(0, 20, (48, 56))
    for cy, cx in ((12, 14), (30, 40)):
        image += 900 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 30)
    viewer = ViewerModel()
    viewer.add_image(image.clip(0, 65535).astype(np.uint16), name="cells", scale=(0.3, 0.3), units=("um", "um"))
    return viewer


def _separator(folder: Path) -> str:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-5:6, -5:6]
    masks = {"target": np.hypot(y, x) <= 5, "unwanted": np.abs(x) <= 1}

    def crops(mask: Any) -> tuple[ObjectCrop, ...]:
        pixels = np.where(mask, 60 + rng.random(mask.shape) * 120, 0).astype(np.float32)
        return tuple(ObjectCrop(pixels=pixels, mask=mask, source=n, box=(0, 0, 11, 11)) for n in ("a.tif", "b.tif"))

    ground = np.full((40, 40), 12, np.float32)
    nothing = np.zeros((40, 40), bool)
    data = CropSet(
        target=crops(masks["target"]),
        unwanted=crops(masks["unwanted"]),
        backgrounds=tuple(Background(pixels=ground, mask=nothing, source=n) for n in ("a.tif", "b.tif")),
    )
    scene = SceneSettings(size_px=32, n_target=(1, 2), n_unwanted=(1, 2))
    request = SemanticRequest(
        data=data, out=folder / "out", model_id="mine", scene=scene, n_steps=2, batch_size=1, width=3,
        validate_every=2, n_validation=2, precision="float32",
    )  # fmt: skip
    return str(train_semantic.run(request).model_id)


def _enhanced(viewer: ViewerModel, filter_id: str) -> Any:
    from napari_cellenhance.widgets.enhance import EnhancePanel

    panel = EnhancePanel(viewer)
    panel.filters.choose(filter_id)
    panel.outputs.wants_labels.setChecked(True)
    return panel, panel


def _denoised(viewer: ViewerModel) -> Any:
    from napari_cellenhance.widgets.denoise import DenoisePanel

    panel = DenoisePanel(viewer)
    return panel, panel.now


def _restored(viewer: ViewerModel) -> Any:
    from napari_cellenhance.widgets.restore import RestorePanel

    panel = RestorePanel(viewer)
    return panel, panel.now


def _kept(viewer: ViewerModel) -> Any:
    from napari_cellenhance.widgets.keep import KeepPanel

    panel = KeepPanel(viewer)
    return panel, panel.now


def _segmented(viewer: ViewerModel) -> Any:
    """What was made before is segmented."""
    from napari_cellenhance.widgets.teach import TeachPanel

    panel = TeachPanel(viewer)
    panel.segment.picker.choose(viewer.layers["cells enhanced"])
    return panel, panel.segment


DOCKS: dict[str, tuple[tuple[Callable[..., Any], ...], str]] = {
    "NU-Net": ((lambda v: _enhanced(v, "nunet-guided"),), "cells enhanced"),
    "classical": ((lambda v: _enhanced(v, "dog"),), "cells segmented"),
    "denoise": ((_denoised,), "cells denoised"),
    "restore": ((_restored,), "cells restored"),
    "separate": ((_kept,), "cells kept"),
    "segment after enhance": ((lambda v: _enhanced(v, "gamma"), _segmented), "cells enhanced objects"),
}


@pytest.fixture
def in_docks(qtbot: Any, viewer: ViewerModel) -> Iterator[Callable[..., Any]]:
    """Run one dock after the other; gives the part with the button of the last one."""
    panels: list[Any] = []

    def run(docks: tuple[Callable[..., Any], ...]) -> Any:
        part: Any = None
        for dock in docks:
            panel, part = dock(viewer)
            qtbot.addWidget(panel)
            panels.append(panel)
            part.run()
            qtbot.waitUntil(lambda part=part: part._job is None, timeout=PATIENCE_MS)
        return part

    yield run
    for panel in panels:
        panel.shut_down()
    qtbot.waitUntil(lambda: not _worker.is_busy(), timeout=PATIENCE_MS)


def _clipboard() -> str:
    clipboard = QApplication.clipboard()
    assert clipboard is not None
    return str(clipboard.text())


@pytest.mark.parametrize("name", DOCKS)
def test_copied_python_and_command_give_the_pixels_of_the_dock(
    name: str, viewer: ViewerModel, in_docks: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docks, layer_name = DOCKS[name]
    if name == "separate":
        _separator(tmp_path)
    foot = in_docks(docks).foot
    assert not foot.recipe.isHidden(), foot.message.text()
    made = viewer.layers[layer_name]
    viewer.layers.selection.active = made
    monkeypatch.chdir(tmp_path)
    write("cells.ome.tif", viewer.layers["cells"].data, "YX", dtype="keep")
    is_labels = made.data.dtype.kind in "iu"

    foot.recipe._copy_python()
    assert "Copied: Python" in foot.message.text()
    names: dict[str, Any] = {}
    exec(_clipboard(), names)
    again = names["result"].labels if is_labels else names["result"].image
    np.testing.assert_array_equal(again, made.data)
    assert names["result"].record["sha256"] == made.metadata[METADATA_KEY]["sha256"]

    foot.recipe._copy_command()
    words = shlex.split(_clipboard())
    assert words[:2] == ["cellenhance", "run"]
    done = CliRunner().invoke(app, words[1:])
    assert done.exit_code == 0, done.output
    path = "cells_result_labels.ome.tif" if is_labels else "cells_result.ome.tif"
    np.testing.assert_array_equal(read(path).image, made.data)
    assert title_of(read_recipe("cells_result.recipe.json").steps[0]) in _clipboard()


def _made(viewer: ViewerModel) -> Any:
    """A layer of two steps, made without a dock."""
    image, earlier = viewer.layers["cells"].data, None
    for filter_id in ("gamma", "dog"):
        request = EnhanceRequest(
            image=image, axes="YX", filter_id=filter_id, source_name="cells", earlier=earlier
        )  # fmt: skip
        result = enhance.run(request)
        image, earlier = result.image, result.provenance
    return viewer.add_image(image, name="made", metadata={METADATA_KEY: earlier})


def test_the_chain_is_done_with_another_layer(qtbot: Any, viewer: ViewerModel, monkeypatch: pytest.MonkeyPatch) -> None:
    made = _made(viewer)
    other = viewer.add_image(viewer.layers["cells"].data[::-1].copy(), name="other", scale=(0.5, 0.5))
    told: list[str] = []
    failed: list[str] = []
    monkeypatch.setattr(QInputDialog, "getItem", lambda *_: ("other", True))
    job = actions.apply_recipe(viewer, made, told.append, failed.append)
    assert job is not None
    qtbot.waitUntil(lambda: len(told) + len(failed) > 1, timeout=PATIENCE_MS)
    assert not failed and "Done as “made” was made: “other enhanced”." in told[-1]
    new = viewer.layers["other enhanced"]
    assert tuple(new.scale) == tuple(other.scale)
    record = new.metadata[METADATA_KEY]
    assert (record["filter"], record["earlier"]["filter"]) == ("dog", "gamma")
    from napari_cellenhance import run_recipe

    np.testing.assert_array_equal(new.data, run_recipe(other.data, made.metadata[METADATA_KEY], axes="YX").image)
    viewer.layers.remove(other)
    viewer.layers.remove(viewer.layers["cells"])
    viewer.layers.remove(new)
    with pytest.raises(ParameterError, match="no other image"):
        actions.apply_recipe(viewer, made, told.append, failed.append)


def test_the_recipe_is_told_in_words_and_saved(
    qtbot: Any, viewer: ViewerModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialog = RecipeDialog("made", actions.record_of(_made(viewer)))
    qtbot.addWidget(dialog)
    assert dialog.windowTitle() == "How “made” was made: enhance → enhance"
    text = dialog.page.toPlainText()
    assert text.index("Enhanced with Gamma") < text.index("Enhanced with Difference of Gaussians")
    assert text.index("Enhanced with Difference of Gaussians") < text.index("Details of step 1")
    assert "“cells”, 48 × 56 (YX), uint16" in text and "not quantitative" in text
    path = tmp_path / "mine.recipe.json"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
    dialog._save()
    assert "Saved" in dialog.message.text()
    assert [title_of(step) for step in read_recipe(path).steps] == ["gamma", "dog"]
    assert json.loads(path.read_text(encoding="utf-8"))["record"]["filter"] == "dog"
    dialog._copy_python()
    assert "run_recipe" in _clipboard()
    dialog._record = {"software": "napari-cellenhance", "step": "dance"}
    dialog._copy_command()
    assert "does not know" in dialog.message.text()


def test_layers_of_others_have_no_recipe(viewer: ViewerModel) -> None:
    with pytest.raises(ParameterError, match="“cells” was not made by CellEnhance"):
        actions.copy_python(viewer.layers["cells"])
    assert actions.made_layers(viewer) == []
