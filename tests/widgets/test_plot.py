"""The plot of the docks: numbers of its axes, what it draws, what it says, its PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from qtpy.QtCore import QRectF
from qtpy.QtGui import QColor, QFontMetricsF

from napari_cellenhance.core.errors import ParameterError, WriteError
from napari_cellenhance.widgets._plot import Curve, LinePlot, Mark, described, readout
from napari_cellenhance.widgets._plot_paint import PALETTE, colour_of, frame_of, legend_rows
from napari_cellenhance.widgets._plot_scale import Scale, outline, scale_of, thinned, tick_texts, ticks

STEPS = Curve("raw", np.array([0.0, 1.0, 2.0]), np.array([5.0, 7.0]), style="steps")
LINE = Curve("after", np.array([0.0, 1.0, 2.0]), np.array([1.0, np.nan, 100.0]))


@pytest.fixture
def plot(qtbot: Any) -> LinePlot:
    plot = LinePlot()
    qtbot.addWidget(plot)
    plot.resize(320, 240)
    return plot


def pixels(plot: LinePlot, tmp_path: Path) -> np.ndarray:
    with Image.open(plot.to_png(tmp_path / "plot.png")) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def n_like(picture: np.ndarray, colour: str) -> int:
    """Pixels of about this colour."""
    wanted = np.array(QColor(colour).getRgb()[:3])
    return int((np.abs(picture - wanted).max(axis=-1) < 30).sum())


# --- numbers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "n", "expected"),
    [
        (0.0, 1.0, 5, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-3.0, 12.0, 3, [0.0, 5.0, 10.0]),
        (0.0, 65535.0, 4, [0.0, 20000.0, 40000.0, 60000.0]),
        (0.0, 3e-7, 3, [0.0, 1e-7, 2e-7, 3e-7]),
    ],
)
def test_ticks_are_round_and_inside(low: float, high: float, n: int, expected: list[float]) -> None:
    assert ticks(Scale(low, high), n) == pytest.approx(expected, abs=1e-12 * high)


def test_many_powers_of_ten_are_thinned() -> None:
    assert ticks(Scale(1e-6, 1e6, is_log=True), 4) == pytest.approx([1e-6, 1e-3, 1.0, 1e3, 1e6])


def test_tick_texts() -> None:
    assert tick_texts([0.0, 0.25, 20000.0, 1e-5, 1e7]) == ["0", "0.25", "20 000", "1e-5", "1e7"]


def test_scale_passes_over_what_is_no_number_and_begins_at_zero_for_counts() -> None:
    assert scale_of([np.array([np.nan, 2.0, np.inf, 8.0])]) == Scale(2.0, 8.0)
    assert scale_of([np.array([2.0, 8.0])], has_zero=True) == Scale(0.0, 8.0)
    assert scale_of([np.array([-2.0, 8.0])], has_zero=True) == Scale(-2.0, 8.0)
    assert scale_of([np.array([np.nan])]) is None
    assert scale_of([]) is None


@pytest.mark.parametrize("value", [0.0, 7.0, -3.0, 1e-12, 1e12])
def test_a_single_value_has_a_scale_of_some_width(value: float) -> None:
    for has_zero in (False, True):
        scale = scale_of([np.array([value, value])], has_zero=has_zero)
        assert scale is not None and scale.low < scale.high
        assert 0 <= float(scale.share(value)) <= 1


def test_log_scale_goes_by_powers_of_ten_and_drops_zero() -> None:
    scale = scale_of([np.array([0.0, 3.0, 800.0])], is_log=True)
    assert scale == Scale(1.0, 1000.0, is_log=True)
    assert scale.share([1.0, 10.0, 1000.0]).tolist() == pytest.approx([0.0, 1 / 3, 1.0])
    assert np.isnan(scale.share([0.0, -1.0])).all()
    assert scale_of([np.array([0.0, -1.0])], is_log=True) is None


def test_steps_have_corners() -> None:
    x, y = outline(STEPS)
    assert x.tolist() == [0, 1, 1, 2]
    assert y.tolist() == [5, 5, 7, 7]
    x, y = outline(Curve("", np.array([0, 1]), np.array([5, 7]), style="steps"))
    assert x.tolist() == [0, 1, 1]
    assert y.tolist() == [5, 5, 7]


def test_thinning_keeps_every_peak_and_the_ends() -> None:
    x = np.arange(100_000.0)
    y = np.zeros_like(x)
    y[12_345], y[77_777], y[50_000:50_400] = 9.0, -4.0, np.nan
    few_x, few_y = thinned(x, y, 200)
    assert len(few_x) <= 800
    assert few_x[0] == 0 and few_x[-1] == x[-1]
    assert few_y[few_x == 12_345] == 9.0
    assert few_y[few_x == 77_777] == -4.0
    assert (np.diff(few_x) > 0).all()
    assert thinned(x[:100], y[:100], 200)[0] is not None and len(thinned(x[:100], y[:100], 200)[0]) == 100


@pytest.mark.parametrize(
    ("x", "y", "style"),
    [(3, 2, "line"), (2, 3, "steps"), (4, 2, "steps"), (2, 2, "dotted")],
)
def test_curves_that_do_not_fit_are_refused(x: int, y: int, style: Any) -> None:
    with pytest.raises(ParameterError, match=r"curve"):
        Curve("c", np.zeros(x), np.zeros(y), style=style)


# --- what it draws ------------------------------------------------------------------------


def test_curves_appear_in_their_colours(plot: LinePlot, tmp_path: Path) -> None:
    empty = pixels(plot, tmp_path)
    plot.set_curves([STEPS, Curve("red", np.arange(3), np.arange(3), colour="#ff0000")])
    picture = pixels(plot, tmp_path)
    assert n_like(empty, PALETTE[0]) == n_like(empty, "#ff0000") == 0
    assert n_like(picture, PALETTE[0]) > 300
    assert n_like(picture, "#ff0000") > 300


def test_a_steep_curve_is_where_its_numbers_are(plot: LinePlot, tmp_path: Path) -> None:
    """0 left, 1 right: the drawn line rises from the lower left to the upper right corner of the frame."""
    plot.set_curves([Curve("", np.array([0.0, 1.0]), np.array([0.0, 1.0]), colour="#ff0000")])
    picture = pixels(plot, tmp_path)
    area = QRectF(4, 4, 792, 492)
    frame = frame_of(plot.content, area, QFontMetricsF(plot.font(), plot))
    red = np.argwhere(np.abs(picture - [255, 0, 0]).max(axis=-1) < 30) / 2.0
    red = red[red[:, 0] > frame.top() - 2]
    assert red[:, 1].min() == pytest.approx(frame.left(), abs=3)
    assert red[:, 1].max() == pytest.approx(frame.right(), abs=3)
    at_left = red[red[:, 1] < frame.left() + 2, 0].mean()
    at_right = red[red[:, 1] > frame.right() - 2, 0].mean()
    assert at_left == pytest.approx(frame.bottom(), abs=3)
    assert at_right == pytest.approx(frame.top(), abs=3)


def test_a_value_that_is_no_number_leaves_a_gap(plot: LinePlot, tmp_path: Path) -> None:
    y = np.ones(101)
    whole = Curve("", np.arange(101), y.copy(), colour="#ff0000")
    y[20:80] = np.nan
    plot.set_curves([whole])
    n_whole = n_like(pixels(plot, tmp_path), "#ff0000")
    plot.set_curves([Curve("", np.arange(101), y, colour="#ff0000")])
    n_with_gap = n_like(pixels(plot, tmp_path), "#ff0000")
    assert 0.3 * n_whole < n_with_gap < 0.6 * n_whole


def test_logarithmic_y_changes_the_picture_and_survives_zeros(plot: LinePlot, tmp_path: Path) -> None:
    plot.set_curves([Curve("", np.arange(4), np.array([0.0, 1.0, 10.0, 1000.0]), colour="#ff0000", style="points")])
    linear = pixels(plot, tmp_path)
    plot.set_log_y(True)
    logarithmic = pixels(plot, tmp_path)
    assert n_like(logarithmic, "#ff0000") < n_like(linear, "#ff0000")  # the point at 0 is gone
    assert n_like(logarithmic, "#ff0000") > 0


def test_marks_within_the_curves_are_drawn(plot: LinePlot, tmp_path: Path) -> None:
    plot.set_curves([STEPS])
    without = pixels(plot, tmp_path)
    plot.set_marks([Mark(99.0, "far away")])
    assert (pixels(plot, tmp_path) == without).all()
    plot.set_marks([Mark(0.5, "best")])
    assert (pixels(plot, tmp_path) != without).any()


def test_an_empty_plot_says_what_to_do(plot: LinePlot, tmp_path: Path) -> None:
    plot.set_empty_text("Press Compare.")
    with_text = pixels(plot, tmp_path)
    assert (with_text < 128).any()
    assert plot.accessibleDescription() == "Press Compare."
    plot.set_curves([Curve("", np.zeros(0), np.zeros(0))])
    assert plot.accessibleDescription() == "Press Compare."
    plot.grab()


def test_long_names_are_cut_in_the_middle_and_wrap(plot: LinePlot) -> None:
    metrics = QFontMetricsF(plot.font(), plot)
    long = Curve("a very long name of an image layer that no dock could show " * 3, STEPS.x, STEPS.y, style="steps")
    plot.set_curves([STEPS, long, LINE])
    rows = legend_rows(plot.content, 260.0, metrics)
    assert [index for row in rows for index, _ in row] == [0, 1, 2]
    for row in rows:
        assert sum(metrics.horizontalAdvance(name) for _, name in row) < 260
    assert "…" in rows[1][0][1]


def test_colours_of_a_palette_repeat_and_bad_names_fall_back() -> None:
    assert colour_of(len(PALETTE), STEPS) == QColor(PALETTE[0])
    assert colour_of(1, Curve("", np.zeros(1), np.zeros(1), colour="no such colour")) == QColor(PALETTE[1])


def test_it_is_drawn_on_screen_at_any_size(plot: LinePlot) -> None:
    plot.set_curves([STEPS, LINE])
    plot.set_labels("grey value", "pixels")
    for size in ((320, 240), (60, 40), (1, 1)):
        plot.resize(*size)
        assert not plot.grab().isNull()


def test_the_ground_follows_the_palette(plot: LinePlot) -> None:
    plot.setStyleSheet("background-color: #112233; color: #ddeeff;")
    plot.ensurePolished()
    plot.set_curves([STEPS])
    picture = plot.grab().toImage()
    assert picture.pixelColor(1, picture.height() - 2) == QColor("#112233")


# --- what it says -------------------------------------------------------------------------


def test_it_can_be_heard(plot: LinePlot) -> None:
    plot.set_curves([STEPS, LINE])
    plot.set_labels("grey value", "pixels")
    plot.set_marks([Mark(1.0, "best")])
    said = plot.accessibleDescription()
    assert said == described(plot.content)
    for part in (
        "pixels over grey value",
        "raw: 2 values from 5 to 7",
        "after: 3 values from 1 to 100",
        "mark at 1 best",
    ):
        assert part in said


def test_values_under_the_mouse(plot: LinePlot) -> None:
    plot.set_curves([STEPS, LINE])
    plot.set_labels("grey value", "pixels")
    assert readout(plot.content, 1.4).splitlines() == ["grey value: 1.4", "raw: 7", "after: nan"]
    assert readout(plot.content, -5.0).splitlines()[1:] == ["raw: 5", "after: 1"]


# --- files --------------------------------------------------------------------------------


def test_png_has_the_asked_size_and_replaces_a_file(plot: LinePlot, tmp_path: Path) -> None:
    target = tmp_path / "figure.png"
    target.write_text("earlier")
    plot.set_curves([STEPS])
    assert plot.to_png(target, size_px=(640, 480)) == target
    with Image.open(target) as picture:
        assert picture.size == (640, 480)
    assert [path.name for path in tmp_path.iterdir()] == ["figure.png"]


def test_png_into_a_missing_folder_is_one_sentence(plot: LinePlot, tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="could not be written"):
        plot.to_png(tmp_path / "nowhere" / "figure.png")
