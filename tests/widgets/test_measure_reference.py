"""The tab “Reference” of the Measure dock on a ViewerModel: real work on small images, no window."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_cellenhance.core import metrics
from napari_cellenhance.widgets import _measure_reference
from napari_cellenhance.widgets.measure import MeasurePanel
from napari_cellenhance.workflows import measure_pair_tables

MakePanel = Callable[[Any], MeasurePanel]
OURS: dict[str, Any] = {"metadata": {"cellenhance": {}}}


def text_of(panel: MeasurePanel) -> str:
    return str(panel.foot.message.text())


@pytest.fixture
def make_panel(keep_panel: Any) -> MakePanel:
    def make(viewer: Any) -> MeasurePanel:
        panel: MeasurePanel = keep_panel(MeasurePanel(viewer))
        panel.tabs.setCurrentWidget(panel.reference)
        return panel

    return make


@pytest.fixture
def viewer(cells: Any, rng: np.random.Generator) -> ViewerModel:
    """A clean image, a noisy one and a restored one."""
    viewer = ViewerModel()
    viewer.add_image(cells.image, name="clean")
    noisy = cells.image + rng.normal(0, 200, cells.image.shape)
    viewer.add_image(noisy, name="noisy")
    viewer.add_image(0.5 * (noisy + cells.image), name="restored", **OURS)
    return viewer


@pytest.fixture
def labelled(cells: Any) -> ViewerModel:
    """Objects labelled by hand, and the same without one of them."""
    viewer = ViewerModel()
    viewer.add_image(cells.image, name="cells")
    viewer.add_labels(cells.labels, name="by hand")
    viewer.add_labels(np.where(cells.labels == 2, 0, cells.labels), name="found", **OURS)
    return viewer


def run(panel: MeasurePanel, qtbot: Any) -> None:
    panel.run()
    qtbot.waitUntil(lambda: panel._job is None, timeout=30_000)


def cells_of(panel: MeasurePanel, title: str) -> list[str]:
    table = panel.reference.table
    titles = [table.verticalHeaderItem(row).text() for row in range(table.rowCount())]
    return table.texts()[titles.index(title)]


def names(panel: MeasurePanel) -> list[str]:
    return [panel.reference.results.item(row).text() for row in range(panel.reference.results.count())]


def is_row_shown(panel: MeasurePanel, part: Any) -> bool:
    return bool(panel.reference._form.isRowVisible(part))


def test_the_tab_has_pickers_of_its_own(make_panel: MakePanel, viewer: ViewerModel) -> None:
    panel = make_panel(viewer)
    assert panel._box.isHidden()
    panel.tabs.setCurrentWidget(panel.compare)
    assert not panel._box.isHidden()


def test_images_find_their_roles(make_panel: MakePanel, viewer: ViewerModel) -> None:
    panel = make_panel(viewer)
    assert panel.reference.reference.layer().name == "clean"
    assert names(panel) == ["restored", "noisy"]
    assert [layer.name for layer in panel.reference.results.ticked()] == ["restored"]
    assert is_row_shown(panel, panel.reference.range) and not is_row_shown(panel, panel.reference.overlap)
    assert panel.foot.run.isEnabled() and panel.foot.run.text() == "Measure"


def test_a_new_measure_needs_no_tip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its column and title stand in ``measure_pair_tables``; nothing else has to know it."""
    monkeypatch.setitem(measure_pair_tables._TITLES, "nrmse", "NRMSE")
    titles, columns, cells = _measure_reference.reference_cells(
        [{"image": "a", "reference": "b", "ssim": 0.5, "nrmse": 0.25, "n_planes": 1}]
    )
    assert titles == [("SSIM", _measure_reference._TIPS["ssim"]), ("NRMSE", "")]
    assert columns == ["a"] and cells == [["0.5000"], ["0.250"]]


def test_images_are_compared(
    make_panel: MakePanel, viewer: ViewerModel, qtbot: Any, tmp_path: Path, cells: Any
) -> None:
    panel = make_panel(viewer)
    panel.reference.tick(viewer.layers["noisy"])
    run(panel, qtbot)
    truth, extent = cells.image, float(np.ptp(cells.image))
    for column, name in enumerate(("restored", "noisy")):
        image = viewer.layers[name].data
        assert cells_of(panel, "PSNR (dB)")[column] == f"{metrics.psnr(image, truth, extent):.2f}"
        assert (
            cells_of(panel, "Affine PSNR (dB)")[column] == f"{metrics.scale_invariant_psnr(image, truth, extent):.2f}"
        )
        assert cells_of(panel, "SSIM")[column] == f"{metrics.ssim(image, truth, extent):.4f}"
        assert cells_of(panel, "MAE")[column] == f"{metrics.mae(image, truth):.4g}"
    assert cells_of(panel, "Grey range") == [f"{extent:.4g}"] * 2
    assert text_of(panel) == "Compared with “clean”."
    panel.reference.save_csv(str(tmp_path / "scores"))
    assert len((tmp_path / "scores.csv").read_text(encoding="utf-8").splitlines()) == 3
    record = json.loads((tmp_path / "scores.csv.json").read_text(encoding="utf-8"))
    assert record["reference"]["name"] == "clean" and record["data_range"] is None
    panel.reference.range.setValue(10 * extent)
    run(panel, qtbot)
    assert cells_of(panel, "PSNR (dB)")[1] == f"{metrics.psnr(viewer.layers['noisy'].data, truth, 10 * extent):.2f}"


def test_labels_are_compared_as_objects(make_panel: MakePanel, labelled: ViewerModel, qtbot: Any) -> None:
    panel = make_panel(labelled)
    assert panel.reference.reference.layer().name == "by hand" and names(panel) == ["found"]
    assert not is_row_shown(panel, panel.reference.range) and is_row_shown(panel, panel.reference.overlap)
    run(panel, qtbot)
    assert cells_of(panel, "True objects") == ["6"] and cells_of(panel, "Objects found") == ["5"]
    assert cells_of(panel, "AP at 0.5") == cells_of(panel, "Recall") == cells_of(panel, "SEG") == [f"{5 / 6:.3f}"]
    assert cells_of(panel, "Precision") == ["1.000"] and cells_of(panel, "F1") == [f"{10 / 11:.3f}"]
    truth, found = (labelled.layers[name].data > 0 for name in ("by hand", "found"))
    assert cells_of(panel, "IoU") == [f"{metrics.iou(found, truth):.3f}"]
    assert cells_of(panel, "Dice") == [f"{metrics.dice(found, truth):.3f}"]


def test_labels_are_compared_as_classes(make_panel: MakePanel, labelled: ViewerModel, qtbot: Any) -> None:
    panel = make_panel(labelled)
    run(panel, qtbot)
    panel.reference.kind.setCurrentIndex(1)
    assert panel.reference.table.rowCount() == 0, "scores of objects are not taken for scores of classes"
    assert not panel.reference.csv_button.isEnabled()
    run(panel, qtbot)
    assert cells_of(panel, "IoU of class 1") == ["1.000"] and cells_of(panel, "IoU of class 2") == ["0.000"]
    panel.reference.ignore.setChecked(True)
    run(panel, qtbot)
    titles = [panel.reference.table.verticalHeaderItem(i).text() for i in range(panel.reference.table.rowCount())]
    assert titles[:2] == ["Mean IoU", "Mean Dice"] and cells_of(panel, "Dice of class 1") == ["1.000"]


def test_choosing_another_reference_changes_the_list_and_clears_the_table(
    make_panel: MakePanel, labelled: ViewerModel, qtbot: Any
) -> None:
    labelled.add_image(labelled.layers["cells"].data * 0.5, name="other")
    panel = make_panel(labelled)
    run(panel, qtbot)
    panel.reference.reference.choose(labelled.layers["cells"])
    assert names(panel) == ["other"] and panel.reference.table.rowCount() == 0
    assert is_row_shown(panel, panel.reference.range)
    run(panel, qtbot)
    assert "scales differ" not in text_of(panel) and cells_of(panel, "Affine PSNR (dB)")[0] == "∞"


def test_what_is_missing_is_said(make_panel: MakePanel, viewer: ViewerModel) -> None:
    panel = make_panel(ViewerModel())
    assert "Open a clean image and restored ones" in text_of(panel) and not panel.foot.run.isEnabled()
    panel = make_panel(viewer)
    panel.reference.tick(viewer.layers["restored"], False)
    assert text_of(panel) == "Tick at least one image layer to compare with “clean”."
    viewer.layers.remove("restored")
    viewer.layers.remove("noisy")
    assert "There is no other image layer" in text_of(panel)


def test_layers_of_another_size_block_the_run(make_panel: MakePanel, viewer: ViewerModel) -> None:
    viewer.add_image(np.zeros((20, 20)), name="small", **OURS)
    panel = make_panel(viewer)
    assert "“small” is 20 × 20 px" in text_of(panel) and not panel.foot.run.isEnabled()


def test_a_stack_or_the_plane_in_view(make_panel: MakePanel, cells: Any, qtbot: Any) -> None:
    viewer = ViewerModel()
    stack = np.stack([cells.labels, cells.labels])
    viewer.add_labels(stack, name="by hand")
    stack = stack.copy()
    stack[1] = 0
    viewer.add_labels(stack, name="found", **OURS)
    panel = make_panel(viewer)
    run(panel, qtbot)
    assert cells_of(panel, "Recall") == ["0.500"] and cells_of(panel, "Planes") == ["2"]
    assert "plane by plane" in text_of(panel)
    panel.reference.scope.setCurrentIndex(1)
    viewer.dims.set_current_step(0, 0)
    run(panel, qtbot)
    assert cells_of(panel, "Recall") == ["1.000"]


def test_what_cannot_be_measured_is_an_error_in_words(make_panel: MakePanel, viewer: ViewerModel, qtbot: Any) -> None:
    viewer.layers["clean"].data = np.full((96, 112), 7)
    panel = make_panel(viewer)
    run(panel, qtbot)
    assert "“clean” is constant" in text_of(panel)
    assert panel.reference.table.rowCount() == 0
