"""The Measure dock on a ViewerModel: real work on small images, no window."""

from __future__ import annotations

import csv
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QApplication, QComboBox

from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.widgets.measure import MeasurePanel

MakePanel = Callable[[Any], MeasurePanel]


def text_of(panel: MeasurePanel) -> str:
    return str(panel.foot.message.text())


@pytest.fixture
def make_panel(keep_panel: Any) -> MakePanel:
    def make(viewer: Any) -> MeasurePanel:
        panel: MeasurePanel = keep_panel(MeasurePanel(viewer))
        return panel

    return make


@pytest.fixture
def viewer(cells: Any, rng: np.random.Generator) -> ViewerModel:
    """Raw cells, an enhanced version, labels drawn by hand and annotated centres."""
    viewer = ViewerModel()
    place: dict[str, Any] = {"scale": (0.5, 0.5), "units": ("um", "um")}
    viewer.add_image((cells.image + rng.normal(0, 300, cells.image.shape)).clip(0), name="cells", **place)
    soft = np.clip((cells.image - 500.0) / 1000.0, 0, 1).astype(np.float32)
    viewer.add_image(soft, name="cells enhanced", metadata={"cellenhance": {"filter": "nunet"}}, **place)
    viewer.add_labels(cells.labels, name="by hand", **place)
    viewer.add_points(cells.centres * 0.5, name="centres")
    return viewer


def run(panel: MeasurePanel, qtbot: Any, start: Callable[[], None] | None = None) -> None:
    (start or panel.run)()
    qtbot.waitUntil(lambda: panel._job is None, timeout=30_000)


def cells_of(panel: MeasurePanel, title: str) -> list[str]:
    """Texts of one row of the table of the tab in front."""
    table = panel.tab().table  # type: ignore[attr-defined]
    titles = [table.verticalHeaderItem(row).text() for row in range(table.rowCount())]
    return table.texts()[titles.index(title)]


# --- choosing -------------------------------------------------------------------------------


def test_without_layers_it_says_what_to_do(make_panel: MakePanel) -> None:
    panel = make_panel(ViewerModel())
    assert not panel.foot.run.isEnabled()
    assert "Open an image" in text_of(panel)
    panel.run()
    assert panel._job is None


def test_layers_find_their_roles(make_panel: MakePanel, viewer: ViewerModel) -> None:
    panel = make_panel(viewer)
    assert panel.form.raw.layer().name == "cells"
    assert [layer.name for layer in panel.form.ticked()] == ["cells enhanced"]
    assert panel.form.masks.layer().name == "by hand"
    assert panel.form.mask_note.isHidden()
    assert panel.foot.run.isEnabled()
    assert panel.form.scope.isHidden(), "there is one plane only"


def test_the_automatic_mask_is_marked(make_panel: MakePanel, viewer: ViewerModel, qtbot: Any) -> None:
    panel = make_panel(viewer)
    panel.form.masks.setCurrentIndex(0)
    assert "Otsu" in panel.form.mask_note.text() and not panel.form.mask_note.isHidden()
    run(panel, qtbot)
    assert "No mask was chosen" in text_of(panel)
    assert "automatically" in panel.compare.mask_line.text()
    assert cells_of(panel, "Otsu IoU")[0] == "–"


def test_new_layers_join_and_choices_stay(make_panel: MakePanel, viewer: ViewerModel) -> None:
    panel = make_panel(viewer)
    panel.form.tick(viewer.layers["cells enhanced"], False)
    viewer.add_image(np.zeros((96, 112)), name="cells DoG", scale=(0.5, 0.5), metadata={"cellenhance": {}})
    assert [layer.name for layer in panel.form.ticked()] == ["cells DoG"]
    viewer.add_image(np.zeros((96, 112)), name="other", scale=(0.5, 0.5))
    assert panel.form.raw.layer().name == "cells"
    assert [layer.name for layer in panel.form.ticked()] == ["cells DoG"]
    viewer.layers["cells DoG"].name = "DoG 4"
    names = [panel.form.enhanced.item(i).text() for i in range(panel.form.enhanced.count())]
    assert "DoG 4" in names and "cells DoG" not in names
    viewer.layers.remove("by hand")
    assert panel.form.masks.layer() is None
    viewer.layers.clear()
    assert not panel.foot.run.isEnabled()


def test_automatic_by_hand_stays_when_labels_come(make_panel: MakePanel, viewer: ViewerModel) -> None:
    panel = make_panel(viewer)
    panel.form.masks.setCurrentIndex(0)
    panel.form.masks.activated.emit(0)
    viewer.add_labels(np.zeros((96, 112), int), name="more", scale=(0.5, 0.5))
    assert panel.form.masks.layer() is None


def test_a_result_of_ours_is_no_mask_by_itself(make_panel: MakePanel, viewer: ViewerModel) -> None:
    viewer.layers.remove("by hand")
    viewer.add_labels(np.ones((96, 112), int), name="segmented", metadata={"cellenhance": {}}, scale=(0.5, 0.5))
    assert make_panel(viewer).form.masks.layer() is None


def test_layers_beside_each_other_block_the_run(make_panel: MakePanel, viewer: ViewerModel) -> None:
    panel = make_panel(viewer)
    viewer.add_image(np.zeros((20, 20)), name="small", metadata={"cellenhance": {}})
    assert "“small” is 20 × 20 px" in text_of(panel)
    assert not panel.foot.run.isEnabled()
    panel.form.tick(viewer.layers["small"], False)
    assert panel.foot.run.isEnabled()


def test_nothing_ticked_is_said(make_panel: MakePanel, viewer: ViewerModel) -> None:
    panel = make_panel(viewer)
    panel.form.tick(viewer.layers["cells enhanced"], False)
    assert "Tick at least one" in text_of(panel)
    panel.tabs.setCurrentWidget(panel.detect)
    assert panel.foot.run.isEnabled(), "blobs can be found in the raw image alone"


# --- compare --------------------------------------------------------------------------------


def test_compare_fills_the_table(make_panel: MakePanel, viewer: ViewerModel, qtbot: Any) -> None:
    from napari_cellenhance.core.metrics import auroc, contrast_ratio

    panel = make_panel(viewer)
    run(panel, qtbot)
    raw, after = viewer.layers["cells"].data, viewer.layers["cells enhanced"].data
    mask = viewer.layers["by hand"].data > 0
    before_ratio, after_ratio = contrast_ratio(raw, mask).value, contrast_ratio(after, mask).value
    assert cells_of(panel, "Contrast ratio") == [f"{before_ratio:.2f}", f"{after_ratio:.2f}"]
    assert cells_of(panel, "Fold") == ["–", f"{after_ratio / before_ratio:.2f}"]
    assert cells_of(panel, "AUROC") == [f"{auroc(raw, mask):.3f}", f"{auroc(after, mask):.3f}"]
    assert panel.compare.mask_line.text() == "Mask: by hand"


def test_a_black_ground_is_said_in_plain_words(make_panel: MakePanel, viewer: ViewerModel, qtbot: Any) -> None:
    viewer.layers["cells enhanced"].data[viewer.layers["by hand"].data == 0] = 0.0
    panel = make_panel(viewer)
    run(panel, qtbot)
    table = panel.compare.table
    titles = [table.verticalHeaderItem(row).text() for row in range(table.rowCount())]
    assert "Black ground" in titles and not [title for title in titles if "loor" in title]
    assert cells_of(panel, "Black ground") == ["no", "yes"]
    assert cells_of(panel, "Contrast ratio")[1].startswith("≥ ")
    tip = table.verticalHeaderItem(titles.index("Black ground")).toolTip()
    assert "“at least”" in tip and "AUROC" in tip


def test_planes_can_be_looked_through(make_panel: MakePanel, cells: Any, qtbot: Any) -> None:
    viewer = ViewerModel()
    stack = np.stack([cells.image, cells.image + 500])
    viewer.add_image(stack, name="film", axis_labels=("t", "y", "x"))
    viewer.add_image(stack / 4000.0, name="film enhanced", metadata={"cellenhance": {}}, axis_labels=("t", "y", "x"))
    viewer.add_labels(np.stack([cells.labels] * 2), name="by hand")
    panel = make_panel(viewer)
    assert not panel.form.scope.isHidden()
    run(panel, qtbot)
    plane = panel.compare.plane
    assert [plane.itemText(i) for i in range(plane.count())] == ["Mean ± sd over planes", "T 0", "T 1"]
    assert "±" in cells_of(panel, "Contrast ratio")[0]
    plane.setCurrentIndex(2)
    one = cells_of(panel, "Contrast ratio")
    assert "±" not in one[0]
    panel.form.scope.setCurrentIndex(1)
    viewer.dims.set_current_step(0, 1)
    run(panel, qtbot)
    assert cells_of(panel, "Contrast ratio") == one


def test_the_table_can_be_copied_and_saved(
    make_panel: MakePanel, viewer: ViewerModel, qtbot: Any, tmp_path: Path
) -> None:
    panel = make_panel(viewer)
    assert not panel.compare.csv_button.isEnabled()
    run(panel, qtbot)
    panel.compare.copy_button.click()
    assert QApplication.clipboard().text().startswith("layer\tplane\tcontrast_ratio")
    panel.compare.save_csv(str(tmp_path / "contrast"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["contrast.csv", "contrast.csv.json"]
    with (tmp_path / "contrast.csv").open(newline="", encoding="utf-8") as stream:
        assert [row["layer"] for row in csv.DictReader(stream)] == ["cells", "cells enhanced"]
    panel.compare.save_csv(str(tmp_path / "nowhere" / "contrast.csv"))
    assert "could not be written" in text_of(panel)


# --- detect ---------------------------------------------------------------------------------


def open_detect(panel: MeasurePanel, viewer: ViewerModel) -> Any:
    panel.tabs.setCurrentWidget(panel.detect)
    panel.detect.truth.choose(viewer.layers["centres"])
    panel.detect.diameter.setValue(15)
    return panel.detect


def test_sweep_then_best_makes_points(make_panel: MakePanel, viewer: ViewerModel, qtbot: Any) -> None:
    panel = make_panel(viewer)
    tab = open_detect(panel, viewer)
    assert not tab.best_button.isEnabled()
    run(panel, qtbot, tab.sweep_button.click)
    assert [curve.name for curve in tab.plot.content.curves] == ["cells", "cells enhanced"]
    assert len(tab.plot.content.marks) == 2
    best = cells_of(panel, "F1")
    assert best[1] == "1.000"
    assert float(best[0]) <= 1.0
    assert len(viewer.layers) == 4, "a sweep adds no layer"
    tab.wants_outcome.setChecked(True)
    run(panel, qtbot, tab.best_button.click)
    added = [layer.name for layer in list(viewer.layers)[4:]]
    assert added == [
        "cells blobs", "cells true, false, missed", "cells enhanced blobs", "cells enhanced true, false, missed",
    ]  # fmt: skip
    blobs = viewer.layers["cells enhanced blobs"]
    assert len(blobs.data) == 6 and blobs.scale.tolist() == [0.5, 0.5]
    assert set(viewer.layers["cells enhanced true, false, missed"].features["outcome"]) == {"true"}
    assert panel.detect.truth.layer().name == "centres", "new layers do not take its place"


def test_points_that_the_plugin_found_are_no_annotation(make_panel: MakePanel, viewer: ViewerModel, qtbot: Any) -> None:
    panel = make_panel(viewer)
    tab = open_detect(panel, viewer)
    tab.wants_outcome.setChecked(True)
    run(panel, qtbot)
    assert "cells blobs" in viewer.layers and "cells true, false, missed" in viewer.layers
    viewer.add_points(np.zeros((1, 2)), name="by eye")
    listed = [tab.truth.itemText(row) for row in range(2, tab.truth.count())]
    assert listed == ["by eye", "centres"] and tab.truth.layer().name == "centres"


def test_detect_with_the_typed_threshold(make_panel: MakePanel, viewer: ViewerModel, qtbot: Any) -> None:
    panel = make_panel(viewer)
    tab = open_detect(panel, viewer)
    tab.truth.setCurrentIndex(0)
    assert not tab.sweep_button.isEnabled()
    tab.threshold.setValue(0.3)
    run(panel, qtbot)
    assert len(viewer.layers["cells enhanced blobs"].data) == 6
    assert (viewer.layers["cells enhanced blobs"].features["response"] >= 0.3).all()
    assert "Blobs: " in text_of(panel)


def test_centres_of_the_mask_are_a_truth(make_panel: MakePanel, viewer: ViewerModel, qtbot: Any) -> None:
    panel = make_panel(viewer)
    tab = open_detect(panel, viewer)
    tab.truth.setCurrentIndex(1)
    run(panel, qtbot, tab.sweep_button.click)
    assert cells_of(panel, "F1")[1] == "1.000"
    panel.form.masks.setCurrentIndex(0)
    assert "choose one as Mask" in text_of(panel)
    assert not panel.foot.run.isEnabled()


def test_the_diameter_is_measured(make_panel: MakePanel, viewer: ViewerModel, cells: Any, qtbot: Any) -> None:
    panel = make_panel(viewer)
    tab = open_detect(panel, viewer)
    run(panel, qtbot, tab.measure.click)
    assert tab.diameter.value() == pytest.approx(2 * np.median(cells.radii_px), rel=0.06)
    assert "median of “by hand”" in text_of(panel)
    panel.form.masks.setCurrentIndex(0)
    run(panel, qtbot, tab.measure.click)
    assert "raw image suggests" in text_of(panel)


def test_a_sweep_can_be_cancelled_and_keeps_the_earlier_curves(
    make_panel: MakePanel, viewer: ViewerModel, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_cellenhance.widgets import _measure_detect

    panel = make_panel(viewer)
    tab = open_detect(panel, viewer)
    run(panel, qtbot, tab.sweep_button.click)
    before = tab.plot.content.curves
    started, real = threading.Event(), _measure_detect.sweep

    def slow(request: Any, *, on_progress: Any, is_cancelled: Any) -> Any:
        started.set()
        while not is_cancelled():
            threading.Event().wait(0.01)
        return real(request, on_progress=on_progress, is_cancelled=is_cancelled)

    monkeypatch.setattr(_measure_detect, "sweep", slow)
    tab.sweep_button.click()
    qtbot.waitUntil(started.is_set, timeout=10_000)
    assert not panel.foot.run.isEnabled() and not tab.sweep_button.isEnabled()
    panel.foot.cancel.click()
    qtbot.waitUntil(lambda: panel._job is None, timeout=10_000)
    assert "Cancelled" in text_of(panel)
    assert tab.plot.content.curves is before
    assert tab.sweep_button.isEnabled()


# --- histogram ------------------------------------------------------------------------------


def test_the_histogram_draws_itself_and_follows(make_panel: MakePanel, viewer: ViewerModel, qtbot: Any) -> None:
    panel = make_panel(viewer)
    tab = panel.histogram
    panel.tabs.setCurrentWidget(tab)
    qtbot.waitUntil(lambda: len(tab.plot.content.curves) == 2, timeout=20_000)
    assert panel._job is None
    tab.where.setCurrentIndex(1)
    qtbot.waitUntil(lambda: len(tab.plot.content.curves) == 4, timeout=20_000)
    assert [curve.name for curve in tab.plot.content.curves][:2] == ["cells, objects", "cells, ground"]
    panel.form.tick(viewer.layers["cells enhanced"], False)
    qtbot.waitUntil(lambda: len(tab.plot.content.curves) == 2, timeout=20_000)


def test_switches_of_the_histogram_only_draw_again(
    make_panel: MakePanel, viewer: ViewerModel, qtbot: Any, tmp_path: Path
) -> None:
    panel = make_panel(viewer)
    tab = panel.histogram
    panel.tabs.setCurrentWidget(tab)
    run(panel, qtbot)
    assert tab.plot.content.is_log_y
    tab.is_log.setChecked(False)
    assert not tab.plot.content.is_log_y
    raw = tab.plot.content.curves[0]
    assert raw.x[0] == 0.0 and raw.x[-1] == 1.0
    assert raw.y.sum() == pytest.approx(100.0)
    tab.range.setCurrentIndex(1)
    assert tab.plot.content.curves[0].x[-1] > 1000
    tab.kind.setCurrentIndex(1)
    cumulative = tab.plot.content.curves[0]
    assert cumulative.y[0] == 0.0 and cumulative.y[-1] == pytest.approx(100.0)
    assert (np.diff(cumulative.y) >= 0).all()
    assert not tab.is_log.isEnabled()
    tab.save_png(str(tmp_path / "grey"))
    tab.save_csv(str(tmp_path / "grey.csv"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grey.csv", "grey.csv.json", "grey.png"]


def test_the_histogram_of_the_plane_in_view_follows_the_slider(make_panel: MakePanel, qtbot: Any) -> None:
    viewer = ViewerModel()
    stack = np.stack([np.full((20, 20), 1.0), np.full((20, 20), 9.0)])
    viewer.add_image(stack, name="film")
    panel = make_panel(viewer)
    tab = panel.histogram
    panel.form.scope.setCurrentIndex(1)
    tab.range.setCurrentIndex(1)
    panel.tabs.setCurrentWidget(tab)

    def middle() -> float:
        curves = tab.plot.content.curves
        return float(np.mean(curves[0].x)) if curves else -1.0

    viewer.dims.set_current_step(0, 0)
    qtbot.waitUntil(lambda: middle() == pytest.approx(1.0), timeout=20_000)
    viewer.dims.set_current_step(0, 1)
    qtbot.waitUntil(lambda: middle() == pytest.approx(9.0), timeout=20_000)


def test_a_large_stack_waits_for_draw(
    make_panel: MakePanel, viewer: ViewerModel, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_cellenhance.widgets import _measure_histogram

    monkeypatch.setattr(_measure_histogram, "LARGE_PX", 100)
    panel = make_panel(viewer)
    panel.tabs.setCurrentWidget(panel.histogram)
    qtbot.waitUntil(lambda: "press Draw" in text_of(panel), timeout=20_000)
    assert not panel.histogram.plot.content.curves
    run(panel, qtbot)
    assert len(panel.histogram.plot.content.curves) == 2


def test_parts_without_a_mask_are_explained(make_panel: MakePanel, viewer: ViewerModel) -> None:
    panel = make_panel(viewer)
    panel.tabs.setCurrentWidget(panel.histogram)
    panel.histogram.where.setCurrentIndex(1)
    panel.form.masks.setCurrentIndex(0)
    assert "choose one as Mask" in text_of(panel)


# --- segment --------------------------------------------------------------------------------


def test_segment_adds_labels_and_scores_them(make_panel: MakePanel, viewer: ViewerModel, qtbot: Any) -> None:
    panel = make_panel(viewer)
    panel.tabs.setCurrentWidget(panel.segment)
    run(panel, qtbot)
    objects = viewer.layers["cells enhanced objects"]
    assert objects.data.max() == 6 and objects.scale.tolist() == [0.5, 0.5]
    assert cells_of(panel, "AP at 0.5")[1] == "1.000"
    assert float(cells_of(panel, "SEG")[1]) > 0.7
    panel.form.masks.setCurrentIndex(0)
    run(panel, qtbot)
    assert panel.segment.table.rowCount() == 1
    assert "for AP and SEG" in text_of(panel)


# --- odd images -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rgb", "stack in 3-D", "bool", "some nan", "all nan", "flat"])
def test_images_of_all_kinds_are_measured_or_refused_in_words(
    make_panel: MakePanel, cells: Any, qtbot: Any, kind: str
) -> None:
    pixels, after, labels = np.asarray(cells.image, np.float32), cells.image / 4000.0, cells.labels
    if kind == "rgb":
        pixels = np.repeat((255 * pixels / pixels.max()).astype(np.uint8)[..., np.newaxis], 3, axis=-1)
    elif kind == "stack in 3-D":
        pixels, after, labels = (np.stack([each] * 2) for each in (pixels, after, labels))
    elif kind == "bool":
        pixels = labels > 0
    elif kind == "flat":
        pixels = np.full_like(pixels, 7.0)
    else:
        pixels = pixels.copy()
        pixels[: 20 if kind == "some nan" else None] = np.nan
    viewer = ViewerModel()
    viewer.add_image(pixels, name="odd", rgb=kind == "rgb", contrast_limits=None if kind == "rgb" else (0, 4000))
    viewer.add_image(after, name="after", metadata={"cellenhance": {}})
    viewer.add_labels(labels, name="by hand")
    viewer.add_shapes([np.array([(10, 2), (60, 100)])], shape_type="line")
    viewer.dims.ndisplay = 3 if "3-D" in kind else 2
    panel = make_panel(viewer)
    for tab in panel._all_tabs:
        panel.tabs.setCurrentWidget(tab)
        run(panel, qtbot)
        said = text_of(panel)
        assert said and "unexpected" not in said and "Traceback" not in said
        if kind == "all nan" and tab is panel.profile:
            assert said == "Read." and "does not touch “odd”" in tab.note.text()
        elif kind == "all nan":
            assert "The image contains no numbers" in said or said.startswith("Nothing could be measured"), said
        elif kind == "flat" and tab is panel.reference:
            assert "“odd” is constant" in said
        else:
            assert "color:" not in said, said


# --- life -----------------------------------------------------------------------------------


def test_an_error_of_the_work_is_a_sentence_and_the_next_run_works(
    make_panel: MakePanel, viewer: ViewerModel, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_cellenhance.widgets import _measure_compare

    panel = make_panel(viewer)
    real = _measure_compare.compare

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ImageError("the image contains no numbers; choose another layer")

    monkeypatch.setattr(_measure_compare, "compare", broken)
    run(panel, qtbot)
    assert "contains no numbers" in text_of(panel)
    monkeypatch.setattr(_measure_compare, "compare", real)
    run(panel, qtbot)
    assert panel.compare.table.rowCount() == 8


def test_a_layer_removed_while_it_is_measured_does_no_harm(
    make_panel: MakePanel, viewer: ViewerModel, qtbot: Any
) -> None:
    panel = make_panel(viewer)
    panel.run()
    viewer.layers.clear()
    qtbot.waitUntil(lambda: panel._job is None, timeout=20_000)
    assert panel.compare.table.rowCount() == 8


def test_the_message_of_a_tab_comes_back_with_it(make_panel: MakePanel, viewer: ViewerModel, qtbot: Any) -> None:
    panel = make_panel(viewer)
    run(panel, qtbot)
    panel.tabs.setCurrentWidget(panel.segment)
    assert "Done" not in text_of(panel)
    assert panel.foot.run.text() == "Segment"
    panel.tabs.setCurrentWidget(panel.compare)
    assert text_of(panel).startswith("Done.")


def test_closing_lets_go_of_the_viewer(make_panel: MakePanel, viewer: ViewerModel) -> None:
    panel = make_panel(viewer)
    panel.shut_down()
    panel.shut_down()
    viewer.add_image(np.zeros((5, 5)))
    viewer.layers["cells"].name = "renamed"
    viewer.dims.set_current_step(0, 0)
    assert panel.form.raw.currentText() == "cells"


def test_every_control_says_what_it_is(make_panel: MakePanel, viewer: ViewerModel) -> None:
    panel = make_panel(viewer)
    for kind in (QAbstractButton, QComboBox, QAbstractSpinBox):
        for control in panel.findChildren(kind):
            if control.objectName().startswith("qt_") or type(control).__name__ in (
                "QToolButton",
                "QTableCornerButton",
            ):
                continue
            if control.metaObject().className() == "QTableCornerButton":
                continue
            assert control.toolTip(), f"{type(control).__name__} “{getattr(control, 'text', str)()}” has no tooltip"
            if not isinstance(control, QAbstractButton):
                assert control.accessibleName(), control.toolTip()
