"""The tab “Profile” on a ViewerModel: real reading, no window."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from numpy.typing import NDArray
from qtpy.QtWidgets import QApplication

from napari_cellenhance.widgets import _worker
from napari_cellenhance.widgets._measure_line import LINE_NAME, freeze_line
from napari_cellenhance.widgets._measure_profile import ProfileTab, summary_cells
from napari_cellenhance.widgets.measure import MeasurePanel

Found = dict[str, NDArray[np.float64]]


def stripes(*centres: float, sigma: float = 1.5, pixel: float = 1.0, n: int = 80) -> NDArray[np.float64]:
    x = pixel * np.arange(n)
    row = sum(np.exp(-((x - c) ** 2) / (2 * sigma**2)) for c in centres)
    return np.asarray(100 * np.tile(row, (40, 1)))


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    """What the first reading imports can take longer than a test may wait, on a busy computer."""
    import scipy.ndimage
    import scipy.signal  # noqa: F401


@pytest.fixture
def viewer() -> ViewerModel:
    """A clean image, and a blurred one of half the pixels that begins elsewhere."""
    viewer = ViewerModel()
    viewer.add_image(stripes(10, 25, pixel=0.5), name="clean", scale=(0.5, 0.5), units=("um", "um"))
    blurred = 0.5 * stripes(11, 26, sigma=2.25, n=40)[:, 4:] + 9
    viewer.add_image(blurred, name="blurred", translate=(0, 4), units=("um", "um"))
    return viewer


@pytest.fixture
def panel(qtbot: Any, viewer: ViewerModel) -> Iterator[MeasurePanel]:
    panel = MeasurePanel(viewer)
    qtbot.addWidget(panel)
    panel.tabs.setCurrentWidget(panel.profile)
    yield panel
    panel.shut_down()
    qtbot.waitUntil(lambda: not _worker.is_busy(), timeout=20_000)


def add_line(viewer: ViewerModel, *points: Any, kind: str = "line") -> Any:
    return viewer.add_shapes([np.array(points, float)], shape_type=kind, name="mine")


def curves_of(tab: ProfileTab) -> Found:
    return {curve.name: np.asarray(curve.y) for curve in tab.plot.content.curves if curve.name}


def wait_drawn(qtbot: Any, tab: ProfileTab, is_there: Any = bool) -> Found:
    qtbot.waitUntil(lambda: bool(is_there(curves_of(tab))), timeout=30_000)
    return curves_of(tab)


def text_of(panel: MeasurePanel) -> str:
    return str(panel.foot.message.text())


def test_without_a_line_it_says_what_to_do_and_the_button_brings_one(
    panel: MeasurePanel, viewer: ViewerModel, qtbot: Any
) -> None:
    qtbot.waitUntil(lambda: "no line yet" in panel.profile.plot.content.empty_text, timeout=5000)
    assert "Draw a line" in text_of(panel) and not panel.foot.run.isEnabled()
    panel.profile.draw.click()
    layer = viewer.layers[LINE_NAME]
    assert layer.mode == "add_line" and viewer.layers.selection.active is layer and layer.ndim == 2
    assert layer.scale.tolist() == [0.5, 0.5] and str(layer.units[0]) == "micrometer"
    assert panel.profile.line.layer() is layer
    layer.add_lines(np.array([[10, 0], [10, 70.0]]))  # in pixels of the layer, which are those of the image
    curves = wait_drawn(qtbot, panel.profile)
    assert list(curves) == ["clean", "blurred"] and len(curves["clean"]) == 71
    assert panel.profile.plot.content.x_label == "distance, µm"
    panel.profile.draw.click()
    assert len([each for each in viewer.layers if each.name.startswith(LINE_NAME)]) == 1, "the same layer again"


def test_layers_of_other_pixels_and_places_are_compared(panel: MeasurePanel, viewer: ViewerModel, qtbot: Any) -> None:
    tab = panel.profile
    add_line(viewer, (5, 0), (5, 39))
    tab.reference.choose(viewer.layers["clean"])
    wait_drawn(qtbot, tab, lambda curves: tab.table.rowCount() == 7)
    texts = tab.table.texts()
    assert texts[0] == ["2", "2"] and texts[2] == ["–", "2"]
    assert float(texts[3][1]) == pytest.approx(1.0, abs=0.05), "µm"
    assert float(texts[4][1]) == pytest.approx(1.5, rel=0.05)
    assert tab.note.text() == "“blurred” has values on 91 % of the line." and not tab.note.isHidden()
    tab.peaks_fold.button.setChecked(True)
    assert float(tab.peaks.texts()[0][0]) == pytest.approx(10, abs=0.05)
    assert tab.peaks.verticalHeaderItem(2).text() == "blurred 1"
    dots = [curve for curve in tab.plot.content.curves if not curve.name]
    assert [len(curve.y) for curve in dots] == [2, 2]
    tab.grey.setCurrentIndex(tab.grey.findData("fit"))
    assert "fitted to “clean”" in tab.plot.content.y_label
    assert np.nanmax(curves_of(tab)["blurred"]) > 70
    tab.grey.setCurrentIndex(tab.grey.findData("range"))
    assert [np.nanmax(each) for each in curves_of(tab).values()] == [1, 1]


def test_the_plot_follows_line_width_layers_and_choices(panel: MeasurePanel, viewer: ViewerModel, qtbot: Any) -> None:
    tab = panel.profile
    line = add_line(viewer, (5, 0), (5, 20))
    assert len(wait_drawn(qtbot, tab)["clean"]) == 41
    line._data_view.edit(0, np.array([(5, 0), (5, 10.0)]))  # as dragging an end does
    line.refresh()
    wait_drawn(qtbot, tab, lambda curves: len(curves["clean"]) == 21)
    line.add_paths(np.array([(5, 0), (5, 30), (15, 30.0)]))
    wait_drawn(qtbot, tab, lambda curves: len(curves["clean"]) == 81)
    line.selected_data = {0}
    wait_drawn(qtbot, tab, lambda curves: len(curves["clean"]) == 21)
    viewer.layers["clean"].data = 2 * viewer.layers["clean"].data
    wait_drawn(qtbot, tab, lambda curves: np.nanmax(curves["clean"]) == pytest.approx(200, abs=1))
    viewer.layers["clean"].translate = (0, -10)
    wait_drawn(qtbot, tab, lambda curves: curves["clean"][0] == pytest.approx(200, abs=1))
    tab.images.tick(viewer.layers["blurred"], False)
    wait_drawn(qtbot, tab, lambda curves: list(curves) == ["clean"])
    line.data = []
    qtbot.waitUntil(lambda: not tab.plot.content.curves, timeout=5000)
    assert "no line yet" in text_of(panel) and not tab.csv_button.isEnabled()


def test_hidden_layers_are_not_ticked_at_first_and_small_grey_values_have_digits(
    panel: MeasurePanel, viewer: ViewerModel, qtbot: Any
) -> None:
    tab = panel.profile
    clean, blurred = viewer.layers["clean"], viewer.layers["blurred"]
    viewer.add_image(np.asarray(blurred.data), name="uncertainty", visible=False, translate=(0, 4), units=("um", "um"))
    assert [str(layer.name) for layer in tab.images.ticked()] == ["blurred", "clean"]
    for layer in (clean, blurred):
        layer.data = layer.data / 1000
    tab.reference.choose(clean)
    tab.line.choose(add_line(viewer, (5, 6), (5, 33)))
    wait_drawn(qtbot, tab, lambda curves: {"clean", "blurred"} <= set(curves))
    assert tab._result is not None
    titles, names, cells = summary_cells(tab._result)
    row = [title for title, _ in titles].index("MAE after fit")
    assert len(cells[row][names.index("blurred")].split(".")[1]) == 4


def test_the_plane_on_show_is_read(qtbot: Any) -> None:
    import dask.array as da

    viewer = ViewerModel()
    stack = np.stack([np.full((20, 30), 10.0 * z) for z in range(5)])
    viewer.add_image(da.from_array(stack, chunks=(1, 20, 30)), name="z", contrast_limits=(0, 50), scale=(2, 1, 1))
    panel = MeasurePanel(viewer)
    qtbot.addWidget(panel)
    panel.tabs.setCurrentWidget(panel.profile)
    line = add_line(viewer, (0, 5, 0), (0, 5, 20))
    viewer.dims.set_point(0, 6)
    wait_drawn(qtbot, panel.profile, lambda curves: curves and set(curves["z"]) == {30.0})
    viewer.dims.set_point(0, 2)
    wait_drawn(qtbot, panel.profile, lambda curves: set(curves["z"]) == {10.0})
    assert panel.profile.plot.content.x_label == "distance, px"
    line.data = [np.array([(0, 5, 0), (4, 5, 20.0)])]
    qtbot.waitUntil(lambda: "runs across planes" in text_of(panel), timeout=5000)
    panel.shut_down()


def test_problems_are_sentences(panel: MeasurePanel, viewer: ViewerModel, qtbot: Any) -> None:
    tab = panel.profile
    line = add_line(viewer, (500, 500), (600, 600))
    qtbot.waitUntil(lambda: "outside of “clean”, “blurred”" in tab.plot.content.empty_text, timeout=5000)
    line.data = [np.array([(5, 0), (5, 20.0)])]
    wait_drawn(qtbot, tab)
    tab.grey.setCurrentIndex(tab.grey.findData("fit"))
    assert "needs a reference" in text_of(panel)
    tab.grey.setCurrentIndex(0)
    viewer.layers["blurred"].units = ("nm", "nm")
    qtbot.waitUntil(lambda: "give both layers one unit" in text_of(panel), timeout=5000)
    viewer.layers["blurred"].units = ("um", "um")
    line.data = [np.array([(5, 0), (5, 0.0)])]
    qtbot.waitUntil(lambda: "no length" in tab.plot.content.empty_text, timeout=5000)
    for layer in ("clean", "blurred"):
        tab.images.tick(viewer.layers[layer], False)
    assert "Tick at least one image layer" in text_of(panel)


def test_run_reads_and_tables_are_saved(panel: MeasurePanel, viewer: ViewerModel, qtbot: Any, tmp_path: Path) -> None:
    tab = panel.profile
    add_line(viewer, (5, 0), (5, 39))
    wait_drawn(qtbot, tab)
    panel.run()
    qtbot.waitUntil(lambda: panel._job is None, timeout=30_000)
    assert "Read." in text_of(panel)
    tab.save_csv(str(tmp_path / "line"))
    with open(tmp_path / "line.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 79 and float(rows[20]["clean"]) == pytest.approx(100, abs=0.1)
    assert (tmp_path / "line_peaks.csv").is_file() and (tmp_path / "line.csv.json").is_file()
    tab.save_png(str(tmp_path / "line.png"))
    assert (tmp_path / "line.png").stat().st_size > 1000
    tab.copy_button.click()
    clipboard = QApplication.clipboard()
    assert clipboard is not None and clipboard.text().startswith("distance_px\tdistance_um\tclean\tblurred")


def test_of_other_shapes_no_line_is_taken(viewer: ViewerModel) -> None:
    layer = viewer.add_shapes([np.array([(0, 0), (5, 5)])], shape_type="rectangle", ndim=2)
    assert freeze_line(layer) is None
    layer.add_lines(np.array([(1, 1), (2, 2.0)]))
    layer.add_rectangles(np.array([(0, 0), (5, 5)]))
    found = freeze_line(layer)
    assert found is not None and found.yx == ((1, 1), (2, 2))


def test_a_closed_dock_listens_no_more(panel: MeasurePanel, viewer: ViewerModel, qtbot: Any) -> None:
    line = add_line(viewer, (5, 0), (5, 20))
    wait_drawn(qtbot, panel.profile)
    panel.shut_down()
    before = curves_of(panel.profile)
    line.data = [np.array([(5, 0), (5, 10.0)])]
    viewer.layers["clean"].translate = (0, -10)
    qtbot.wait(300)
    assert len(curves_of(panel.profile)["clean"]) == len(before["clean"])
