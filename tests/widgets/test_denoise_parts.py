"""Small parts of the dock “Denoise”: sentences, curves, layers."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_cellenhance.core.tiling import Region
from napari_cellenhance.widgets._denoise_now import request_for
from napari_cellenhance.widgets._denoise_results import LearningImage, denoised_layer, done_sentence
from napari_cellenhance.widgets._denoise_view import DenoiseView, error_curves, meaning_of
from napari_cellenhance.widgets._layers import METADATA_KEY, Choices, LayerView, build_request, snapshot
from napari_cellenhance.widgets._learning_run import ended_sentence
from napari_cellenhance.widgets._settings import PluginSettings
from napari_cellenhance.widgets._teach_place import Window
from napari_cellenhance.widgets._teach_segment import SegmentPart
from napari_cellenhance.widgets._training_run import TrainingRun, ended_how
from napari_cellenhance.widgets._training_time import time_text
from napari_cellenhance.workflows.denoise import DenoiseResult
from napari_cellenhance.workflows.denoise_layers import DenoisedLayer, shown_range
from napari_cellenhance.workflows.progress import Progress
from napari_cellenhance.workflows.train_estimate import TrainEstimate
from napari_cellenhance.workflows.train_n2v import N2VResult
from napari_cellenhance.workflows.train_progress import Report, TrainProgress

ROWS = [{"step": 1.0, "total": 2.0}, {"step": 2.0, "total": 1.0, "val_total": 0.5}, {"step": 3.0, "total": 0.9}]


def found(image: Any, axes: str, **changes: Any) -> DenoisedLayer:
    result = DenoiseResult(image=np.asarray(image, np.float32), axes=axes, provenance={"step": "denoise"}, **changes)
    return DenoisedLayer(result=result, limits=(1.0, 9.0))


def ended(stopped: str) -> N2VResult:
    return N2VResult(
        model_id="m", weights=None, card=None, history=Path("h.csv"), stopped=stopped, best_step=7, best_total=0.5
    )


def test_curves_and_their_meaning() -> None:
    each, smoothed, checked = error_curves(ROWS)
    assert list(each.y) == [2.0, 1.0, 0.9] and len(smoothed.y) == 3 and list(checked.x) == [2.0]
    assert len(error_curves(ROWS[:1])) == 2 and error_curves([]) == []
    many = [{"step": float(i), "total": 100.0 / i} for i in range(1, 201)]
    assert error_curves(many)[0].x[0] == 21, "the steep beginning would hide the rest"
    assert error_curves([{**row, "step": row["step"] + 5000} for row in many * 20])[0].x[0] == 5101
    assert meaning_of(ROWS, 2).startswith("Error 0.5 at the best check (update 2)")
    assert "comes soon" in meaning_of(ROWS, 0) and "comes soon" in meaning_of([{"step": 2.0, "val_total": np.nan}], 2)


def test_the_view_forgets_the_training_before(qtbot: Any) -> None:
    view = DenoiseView()
    qtbot.addWidget(view)
    view.start()
    view.add(ROWS, 2)
    assert not view.where.isHidden() and view.plot.content.marks[0].x == 2
    view.finish(is_broken=True)
    assert "no longer a number" in view.warning.text() and view.where.isHidden()
    view.start()
    assert not view.rows and view.warning.isHidden() and not view.plot.content.curves and not view.meaning.text()


def test_sentences_at_the_end() -> None:
    assert ended_sentence(ended("finished"), "Mine").startswith("Done: “Mine” is ready (best at update 7)")
    assert ended_sentence(ended("cancelled"), "Mine").startswith("Stopped: ")
    assert ended_sentence(ended("cancelled"), "Mine", is_late=True).startswith("The time is up: ")
    assert "the loss broke" in ended_sentence(ended("diverged"), "Mine")
    assert "no model was added or changed" in ended_sentence(ended("discarded"), "Mine")
    assert ended_how("early").startswith("Ended early") and ended_how("odd") == "Ended"
    one = found(np.zeros((2, 2)), "YX", warnings=("Careful.",))
    assert done_sentence([one, one], ["a", "b"], 3).startswith("Cancelled after 2 of 3 images. New layers: “a”, “b”")
    assert done_sentence([one, one], ["a", "b"], 2).count("Careful.") == 1
    assert "nothing was added" in done_sentence([], [], 1)


def test_the_time_is_said_as_one_says_it() -> None:
    pace = TrainEstimate(step_s=0.25, validation_s=1.0, n_dry_run=0)
    assert time_text(pace, 1000, 0.0) == "about 4 min on this computer (0.25 s per update)"
    assert "about 5 min" in time_text(pace, 0, 300.0) and "1168 updates" in time_text(pace, 0, 300.0)


def test_a_loss_without_parts_has_no_empty_brackets() -> None:
    class State:
        step, elapsed_s, best_step = 1, 1.0, 0
        history = ({"total": 0.5},)

    told: list[Progress] = []
    report = Report(2, told.append, State())  # type: ignore[arg-type]
    report.step(State(), {"total": 0.5})  # type: ignore[arg-type]
    report.step(State(), {"total": 0.5, "content": 0.25})  # type: ignore[arg-type]
    assert [progress.message for progress in told] == ["loss 0.5000", "loss 0.5000 (content 0.2500)"]


def view_of(pixels: Any, **kwargs: Any) -> tuple[LayerView, ViewerModel]:
    viewer = ViewerModel()
    layer = viewer.add_image(pixels, name="cells", **kwargs)
    return snapshot(layer, viewer.dims), viewer


@pytest.mark.parametrize(
    ("shape", "labels", "axes", "channels", "axes_out", "expected"),
    [
        ((3, 8, 9), ("z", "y", "x"), "ZYX", "all", "ZYX", (3, 8, 9)),
        ((2, 8, 9), ("c", "y", "x"), "CYX", (1,), "YX", (8, 9)),
        ((4, 2, 8, 9), ("t", "c", "y", "x"), "TCYX", (1,), "TYX", (4, 1, 8, 9)),
    ],
)
def test_results_have_the_place_and_colours_of_their_source(
    shape: tuple[int, ...], labels: tuple[str, ...], axes: str, channels: Any, axes_out: str, expected: tuple[int, ...]
) -> None:
    scale = tuple(0.5 + i for i in range(len(shape)))
    view, viewer = view_of(np.zeros(shape), axis_labels=labels, scale=scale, colormap="green", contrast_limits=(0, 5))
    sides = [n for n, letter in zip(shape, axes, strict=True) if letter in axes_out]
    data, kwargs, kind = denoised_layer(found(np.ones(sides), axes_out), view, axes, channels)
    layer = getattr(viewer, f"add_{kind}")(data, **kwargs)
    assert layer.data.shape == expected and layer.name == "cells denoised" and layer.colormap.name == "green"
    assert tuple(layer.contrast_limits) == (1.0, 9.0) and layer.metadata[METADATA_KEY] == {"step": "denoise"}
    assert np.allclose(layer.scale[-2:], scale[-2:]) and layer.ndim == len(expected)


def test_the_record_of_a_layer_is_carried_into_every_request(qtbot: Any) -> None:
    view, viewer = view_of(np.zeros((8, 9)), metadata={METADATA_KEY: {"step": "denoise"}}, contrast_limits=(0, 1))
    settings = PluginSettings()
    assert request_for(view, "YX", "all", "m", settings).earlier == {"step": "denoise"}
    assert build_request(view, Choices(axes="YX", filter_id="dog", strength=1.0), settings).earlier == view.made
    segmenting = SegmentPart(viewer, lambda _: None)
    qtbot.addWidget(segmenting)
    assert segmenting.request(view).earlier == {"step": "denoise"}
    segmenting.close_down()
    for metadata in ({}, {METADATA_KEY: None}, {METADATA_KEY: "odd"}):
        other, _ = view_of(np.zeros((8, 9)), metadata=metadata, contrast_limits=(0, 1))
        assert other.made is None


def test_the_range_of_a_large_image_is_that_of_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_cellenhance.workflows import denoise_layers

    image = np.linspace(0, 1, 10_001, dtype=np.float32).reshape(1, 10_001)
    assert np.allclose(shown_range(image), (0.005, 0.995), atol=1e-3)
    monkeypatch.setattr(denoise_layers, "_SHOWN_PX", 100)
    assert np.allclose(shown_range(image), (0.005, 0.995), atol=2e-2)
    low, high = shown_range(np.full((4, 4), 3.0))
    assert low < high


def test_the_picture_of_a_training_is_one_layer_that_comes_and_goes() -> None:
    view, viewer = view_of(np.zeros((20, 30)), contrast_limits=(0, 1))
    source, learning = viewer.layers[0], LearningImage(viewer)
    top = viewer.add_image(np.zeros((4, 4)), name="top", contrast_limits=(0, 1))
    window = Window(view=view, axes="YX", channels="all")
    learning.show(np.ones((4, 5)), (0.0, 2.0), window, Region(2, 6, 3, 8), source)
    layer = learning.layer
    assert [one.name for one in viewer.layers] == ["cells", "learning: cells", "top"]
    assert viewer.layers.selection.active == top and tuple(layer.translate) == (2, 3)
    learning.show(np.ones((6, 6)), (0.0, 3.0), window, Region(1, 7, 1, 7), source)
    assert learning.layer is layer and layer.data.shape == (6, 6) and tuple(layer.contrast_limits) == (0.0, 3.0)
    viewer.layers.remove(layer)
    assert learning.layer is None
    learning.show(np.ones((6, 6)), (0.0, 3.0), window, Region(1, 7, 1, 7), source)
    learning.remove()
    learning.remove()
    assert [one.name for one in viewer.layers] == ["cells", "top"]


def test_a_run_hands_over_each_picture_once_and_ends_with_its_dock() -> None:
    class Nothing(TrainingRun[Any, str]):
        def resumed(self) -> Nothing:
            return self

        def __call__(self, on_progress: Any, is_cancelled: Any) -> None:
            return None

    gone = threading.Event()
    run = Nothing("request", gone)
    run.keep_seen("first")
    run.keep_seen("second")
    assert run.take_seen() == "second" and run.take_seen() is None
    run.look_at("window")
    assert run.looked_at() == "window"
    told: list[Progress] = []
    run.told(told.append)(TrainProgress(n_done=1, n_total=2, rows=({"step": 1.0},), best_step=1))
    assert len(told) == 1 and run.news.take()[0] == [{"step": 1.0}]
    is_discarded = run.is_discarded_by(lambda: False)
    assert not is_discarded()
    gone.set()
    assert is_discarded()
    run.stop()
    assert run.is_stopping
