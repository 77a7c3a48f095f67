"""Pure functions beside the widgets: slider sums, texts, groups, guards, preferences."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.core.recipes.protocol import FilterInfo, StrengthInfo
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.widgets._filter_picker import grouped
from napari_cellenhance.widgets._forms import describe
from napari_cellenhance.widgets._guard import error_sentence, guarded
from napari_cellenhance.widgets._image_form import axes_problem, has_stack
from napari_cellenhance.widgets._persistence import told_in_strengths
from napari_cellenhance.widgets._preview_request import PreviewStatus, badge_text, cap_region
from napari_cellenhance.widgets._settings import PluginSettings, settings_from
from napari_cellenhance.widgets._status import StatusFoot, alarm, progress_text
from napari_cellenhance.widgets._strength import decimals_for, end_labels, to_ticks, to_value
from napari_cellenhance.widgets.enhance import device_line
from napari_cellenhance.workflows.progress import Progress

STRENGTH = StrengthInfo(label="Strength", help="more", default=8.0, maximum=10.0)


def test_slider_ends_are_exact_and_the_way_between_is_continuous() -> None:
    info = StrengthInfo(label="Sigma", help="", default=3, minimum=0.5, maximum=20)
    assert to_value(0, info) == 0
    assert to_value(1000, info) == 20
    values = [to_value(ticks, info) for ticks in range(1001)]
    assert np.all(np.diff(values) >= 0)
    assert not [value for value in values if 0 < value < 0.5]
    for value in (0, 0.5, 3.0, 20):
        assert to_value(to_ticks(value, info), info) == pytest.approx(value, abs=0.0101)


def test_a_strength_above_zero_never_sits_on_the_end_that_says_unchanged() -> None:
    assert to_ticks(1e-9, STRENGTH) == 1
    assert to_ticks(0, STRENGTH) == 0


def test_slider_texts() -> None:
    assert end_labels(STRENGTH) == ("0 = unchanged", "10")
    info = StrengthInfo(label="Sigma", help="", default=2, minimum=1, maximum=9, unit="px")
    assert end_labels(info) == ("0 = unchanged", "9 px")
    assert [decimals_for(step) for step in (1.0, 0.1, 0.01, 0.0)] == [2, 2, 3, 2]


def test_filters_are_grouped_in_order() -> None:
    def info(name: str, group: Any) -> FilterInfo:
        return FilterInfo(id=name, title=name, group=group, summary="", strength=STRENGTH)

    groups = grouped([info("a", "NU-Net"), info("b", "Classical"), info("c", "NU-Net")])
    assert [(name, [i.id for i in members]) for name, members in groups] == [
        ("NU-Net", ["a", "c"]),
        ("Classical", ["b"]),
    ]


def test_badge() -> None:
    assert badge_text(PreviewStatus(state="off")) == ""
    assert badge_text(PreviewStatus(state="paused", latency_ms=3)) == "PAUSED"
    assert badge_text(PreviewStatus(state="working")) == "LIVE …"
    assert badge_text(PreviewStatus(state="live", latency_ms=17.6)) == "LIVE 18 ms"
    assert badge_text(PreviewStatus(state="live", latency_ms=27460.0)) == "LIVE 27 s"
    assert "approximate" in badge_text(PreviewStatus(state="live", latency_ms=18, is_approximate=True))


@pytest.mark.parametrize("region", [Region(0, 5000, 0, 4000), Region(10, 11, 5, 9_000_000), Region(0, 3, 0, 3)])
def test_cap_keeps_inside_and_below(region: Region) -> None:
    capped = cap_region(region, 10_000)
    assert capped.shape[0] * capped.shape[1] <= 10_000
    assert region.y0 <= capped.y0 < capped.y1 <= region.y1
    assert region.x0 <= capped.x0 < capped.x1 <= region.x1


def test_progress_line() -> None:
    assert progress_text(Progress(n_done=0, n_total=0, message="Loading")) == "Loading"
    assert progress_text(Progress(n_done=2, n_total=9, message="Plane 2", eta_s=75)) == "Plane 2 · 1 min 15 s left"
    assert progress_text(Progress(n_done=2, n_total=9, message="Segmenting")) == "Segmenting · 2 of 9"
    assert progress_text(Progress(n_done=9, n_total=9, eta_s=0)) == "9 of 9"


def test_device_line() -> None:
    assert device_line({"device": "cpu", "precision": "bfloat16"}) == "Ran on CPU, bfloat16."
    assert device_line({"device": None}) == ""


def test_alarm_shows_markup_as_text() -> None:
    assert "&lt;b&gt;" in alarm("<b>")


def test_axes_problem_is_a_sentence_or_nothing() -> None:
    assert axes_problem("YX", (5, 6)) == ""
    assert "2" in axes_problem("ZYX", (5, 6))
    assert axes_problem("YY", (5, 6))
    assert axes_problem("Q?", (5, 6))


def test_has_stack() -> None:
    assert has_stack("TYX", (3, 5, 6))
    assert not has_stack("TYX", (1, 5, 6))
    assert not has_stack("CYX", (3, 5, 6))
    assert not has_stack("YX", (3, 5, 6))


def test_errors_become_sentences() -> None:
    assert error_sentence(ImageError("the image is empty")) == "The image is empty"
    assert error_sentence(ImageError("nuclei.tif is empty")) == "nuclei.tif is empty", "a file keeps its own letters"
    assert "memory" in error_sentence(MemoryError())
    assert "pip install torch" in error_sentence(ModuleNotFoundError("No module named 'torch'", name="torch"))
    assert "KeyError" in error_sentence(KeyError("x"))


def test_guard_catches_logs_and_drops_surplus_arguments(caplog: pytest.LogCaptureFixture) -> None:
    class Panel:
        said = ""
        got: tuple[Any, ...] = ()

        def show_error(self, message: str) -> None:
            self.said = message

        @guarded
        def fine(self, a: int) -> None:
            self.got = (a,)

        @guarded
        def bad(self) -> None:
            raise RuntimeError("CUDA out of memory")

    panel = Panel()
    panel.fine(1, "surplus")
    assert panel.got == (1,)
    with caplog.at_level(logging.ERROR):
        panel.bad(True)
    assert "CUDA out of memory" in panel.said
    assert "Traceback" in caplog.text


def test_guard_outlives_its_window() -> None:
    class Gone:
        def show_error(self, message: str) -> None:
            raise RuntimeError("wrapped C/C++ object of type QLabel has been deleted")

        @guarded
        def slot(self) -> None:
            raise KeyError("layer")

    Gone().slot()


def test_settings_take_defaults_for_nonsense() -> None:
    assert settings_from(object()) == PluginSettings()
    odd = SimpleNamespace(device="abacus", memory_limit_mb=1, cache_folder=None, preview_delay_ms=-5)
    assert settings_from(odd) == PluginSettings(memory_limit_mb=200, preview_delay_ms=0)
    good = SimpleNamespace(device="cpu", memory_limit_mb=900, cache_folder="/x", preview_delay_ms=90)
    assert settings_from(good) == PluginSettings(
        device="cpu", memory_limit_mb=900, cache_folder="/x", preview_delay_ms=90
    )


def test_a_sweep_says_what_it_does_on_each_plane() -> None:
    told: list[Progress] = []
    tell = told_in_strengths(told.append, 16)
    for progress in (
        Progress(n_done=0, n_total=0, message="Loading NU-Net"),
        Progress(n_done=0, n_total=1, message="Plane 1 of 1"),
        Progress(n_done=1, n_total=3, message="Plane 2 of 3"),
        Progress(n_done=20, n_total=48, message="Plane 2 of 3, strength 5 of 16"),
        Progress(n_done=3, n_total=3, message="Done"),
    ):
        tell(progress)
    assert [progress_text(progress) for progress in told] == [
        "Loading NU-Net",
        "Following the objects through 16 strengths",
        "Plane 2 of 3, through 16 strengths",
        "Plane 2 of 3, strength 5 of 16",
        "Done · 3 of 3",
    ]
    assert [progress.n_total for progress in told] == [0, 0, 3, 48, 3]


def test_a_bar_of_which_nothing_is_done_moves_by_itself(qtbot: Any) -> None:
    foot = StatusFoot()
    qtbot.addWidget(foot)
    foot.show_progress(Progress(n_done=0, n_total=1, message="Plane 1 of 1"))
    assert (foot.bar.minimum(), foot.bar.maximum()) == (0, 0)
    foot.show_progress(Progress(n_done=1, n_total=4))
    assert (foot.bar.value(), foot.bar.maximum()) == (1, 4)


def test_only_the_sentence_that_was_told_is_taken_back(qtbot: Any) -> None:
    foot = StatusFoot()
    qtbot.addWidget(foot)
    foot.show_info("Because of <3 px.")
    foot.take_back("Because of <3 px.")
    assert foot.message.text() == ""
    foot.show_info("Done.")
    foot.take_back("Because of <3 px.")
    assert foot.message.text() == "Done."


def test_a_choice_that_is_cut_is_told_by_the_tip_and_the_open_list_has_room_for_all(
    qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qtpy.QtCore import QEvent, QPoint, Qt
    from qtpy.QtGui import QHelpEvent
    from qtpy.QtWidgets import QApplication, QComboBox, QToolTip

    told: list[str] = []
    monkeypatch.setattr(QToolTip, "showText", lambda place, text, widget: told.append(text))
    combo = QComboBox()
    describe(combo, "Model", "What denoises.")
    qtbot.addWidget(combo)
    title = "Nuclei of the zebrafish, third attempt, with borders"
    combo.addItems([title, "Short"])
    combo.resize(140, 30)
    combo.show()

    event = QHelpEvent(QEvent.Type.ToolTip, QPoint(5, 5), combo.mapToGlobal(QPoint(5, 5)))
    QApplication.sendEvent(combo, event)
    assert told == [f"{title}\nWhat denoises."]
    combo.setCurrentIndex(1)
    [guard] = [child for child in combo.children() if type(child).__name__ == "_WholeChoice"]
    assert not guard.eventFilter(combo, event) and len(told) == 1, "the tip alone, which Qt shows itself"
    qtbot.keyClick(combo, Qt.Key.Key_Up)
    view = combo.view()
    assert view is not None and view.minimumWidth() >= combo.fontMetrics().horizontalAdvance(title)
