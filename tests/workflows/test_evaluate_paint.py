"""From paint to a segmentation under a clock: same strokes for all, time that counts, nothing computed twice."""

from __future__ import annotations

import csv
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_cellenhance.core.errors import ImageError, MissingExtraError, ParameterError
from napari_cellenhance.core.painted import PaintedImage
from napari_cellenhance.core.strokes import simulate_strokes
from napari_cellenhance.workflows import _evaluate_paint_methods as methods
from napari_cellenhance.workflows import evaluate_paint
from napari_cellenhance.workflows._evaluate_paint_methods import METHODS, PaintTask, Seen
from napari_cellenhance.workflows._evaluate_paint_tables import PaintCell, markdown, rows_of
from napari_cellenhance.workflows.evaluate_paint import EvaluatePaintRequest, run
from napari_cellenhance.workflows.progress import Progress

TIMES = (0.05, 0.4)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four pictures of bright discs, as an index of multi-page files."""
    yy, xx = np.mgrid[:64, :64]
    rows = []
    with tifffile.TiffWriter(tmp_path / "i.tif") as images, tifffile.TiffWriter(tmp_path / "l.tif") as labels:
        for page in range(4):
            truth = np.zeros((64, 64), np.uint16)
            for k, (y, x) in enumerate(((16, 14), (18, 44), (46, 20), (44, 48)), start=1):
                truth[(yy - y - page) ** 2 + (xx - x) ** 2 <= 90] = k
            noise = np.random.default_rng(page).normal(0, 12, truth.shape)
            images.write(np.clip(40 + 140 * (truth > 0) + noise, 0, 255).astype(np.uint8))
            labels.write(truth)
            rows.append({"images": "i.tif", "labels": "l.tif", "page": page, "shape": [64, 64]})
    (tmp_path / "index.json").write_text(json.dumps(rows), encoding="utf-8")
    path = tmp_path / "data.json"
    path.write_text(json.dumps({"sources": [{"name": "discs", "index": "index.json"}]}), encoding="utf-8")
    return path


def _request(data: Path, out: Path, **more: Any) -> EvaluatePaintRequest:
    quick: dict[str, Any] = {
        "n_images": 1, "n_unseen": 2, "amounts": ("few",), "methods": ("forest",), "times_s": (0.001, 60.0),
        "crop_px": 32, "batch_size": 1, "device": "cpu", "precision": "float32", "length_px": 20.0,
    }  # fmt: skip
    return EvaluatePaintRequest(data=(data,), out=out, **(quick | more))


def _task(**more: Any) -> PaintTask:
    from napari_cellenhance.core.device import choose_device

    yy, xx = np.mgrid[:64, :64]
    classes = np.where((yy - 30) ** 2 + (xx - 30) ** 2 < 300, 2, 1).astype(np.int32)
    image = (0.2 + 0.5 * (classes == 2) + 0.001 * xx).astype(np.float32)
    about: dict[str, Any] = {
        "painted": PaintedImage(image, simulate_strokes(classes)), "values": (1, 2), "seed": 0, "crop_px": 32,
        "batch_size": 1, "learning_rate": 1e-3, "dropout": 0.5, "choice": choose_device("cpu", "float32"),
    }  # fmt: skip
    return PaintTask(**(about | more))


class _StepClock:
    """Time that goes on by a second at every look."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += 1.0
        return self.now


# --- learning under a clock ----------------------------------------------------------------


def test_what_is_seen_at_a_time_was_ready_by_then() -> None:
    seen: list[Seen] = []
    METHODS["unet"](_task(), TIMES, seen.append, lambda: False)
    assert [s.time_s for s in seen] == list(TIMES)
    for s in seen:
        assert (s.predict is None) == (s.n_updates == 0)
        assert math.isnan(s.ready_s) or s.ready_s <= s.time_s


def test_looking_is_off_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = _StepClock()
    monkeypatch.setattr(methods.time, "perf_counter", clock.perf_counter)
    seen: list[Seen] = []

    def look(what: Seen) -> None:
        seen.append(what)
        clock.now += 1000.0

    METHODS["unet"](_task(), (6.0, 12.0), look, lambda: False)
    assert [s.time_s for s in seen] == [6.0, 12.0]
    assert 0 < seen[0].n_updates < seen[1].n_updates - 2, "the thousand seconds did not count"
    assert seen[0].ready_s <= 6.0 < seen[1].ready_s <= 12.0


def test_snapshots_are_of_their_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_cellenhance.core.recipes.aep import AEPRecipe, AEPTraining
    from napari_cellenhance.core.recipes.aep_segmenter import AEPSegmenter
    from napari_cellenhance.core.training import FitSettings, fit
    from napari_cellenhance.workflows._evaluate_aep_train import build_variant

    task = _task(learning_rate=0.02)
    plane = task.painted.image

    def after(n_updates: int) -> np.ndarray:
        module = build_variant("unet", 2, task.seed)
        settings = AEPTraining(crop_px=32, batch_size=1, holdout_fraction=0.0, max_validation_windows=1)
        recipe = AEPRecipe(module, [task.painted], settings, values=(1, 2), seed=task.seed)
        loop = FitSettings(
            n_steps=n_updates, learning_rate=0.02, weight_decay=0.0, schedule="constant", n_warmup=1, keep="last",
        )  # fmt: skip
        fit(recipe, loop)
        return AEPSegmenter(module, (1, 2), task.choice).segment(plane).probabilities

    monkeypatch.setattr(methods, "_as_labels", lambda found: found.probabilities)
    monkeypatch.setattr(methods.time, "perf_counter", _StepClock().perf_counter)
    seen: list[tuple[int, np.ndarray]] = []
    METHODS["unet"](task, (4.0, 8.0), lambda what: seen.append((what.n_updates, what.predict(plane))), lambda: False)
    assert 0 < seen[0][0] < seen[1][0]
    for n_updates, found in seen:
        np.testing.assert_allclose(found, after(n_updates), atol=1e-5)
        assert np.abs(found - after(n_updates + 1)).max() > 1e-3


def test_a_network_from_scratch_shows_nothing_before_its_first_update_a_trained_one_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from napari_cellenhance.workflows._evaluate_aep_train import build_variant

    monkeypatch.setattr(methods.time, "perf_counter", _StepClock().perf_counter)
    start = build_variant("aep-auto", 2, 5)
    before = {name: tensor.clone() for name, tensor in start.state_dict().items()}
    for name, task, is_ready in (
        ("aep", _task(), False),
        ("aep-tuned", _task(start=start), True),
        ("aep-tuned", _task(start=build_variant("aep-auto", 3, 5)), False),
    ):
        seen: list[Seen] = []
        METHODS[name](task, (0.5,), seen.append, lambda: False)
        assert (seen[0].predict is not None) == is_ready and seen[0].n_updates == 0
    assert all(bool((before[name] == tensor).all()) for name, tensor in start.state_dict().items())


@pytest.mark.parametrize("name", ["aep", "aep-tuned", "unet"])
def test_networks_learn_with_the_dropout_of_the_task(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    from napari_cellenhance.core.models.bit_dropout import BitDropout
    from napari_cellenhance.workflows._evaluate_aep_train import build_variant

    found: set[float] = set()

    def note(module: Any, *args: Any, **more: Any) -> None:
        found.update(layer.p for layer in module.modules() if isinstance(layer, BitDropout))

    monkeypatch.setattr(methods, "_learn_network", note)
    for n_classes in (2, 3):
        task = _task(dropout=0.25, start=build_variant("aep-auto", n_classes, 5))
        METHODS[name](task, (0.5,), lambda what: None, lambda: False)
    assert found == {0.25}
    found.clear()
    METHODS[name](_task(dropout=None, start=build_variant("aep-auto", 2, 5)), (0.5,), lambda what: None, lambda: False)
    assert found == {0.5 if name == "aep-tuned" else 0.1}


def test_a_forest_is_seen_from_when_it_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    task, seen = _task(), []
    METHODS["forest"](task, (1e-6, 100.0, 200.0), seen.append, lambda: False)
    assert [s.predict is None for s in seen] == [True, False, False]
    assert seen[1].ready_s == seen[2].ready_s > 0
    labels = seen[1].predict(task.painted.image)
    is_painted = task.painted.labels > 0
    assert labels.dtype == np.int32 and (labels == task.painted.labels)[is_painted].mean() > 0.98


def test_instant_segmentation_learns_from_the_strokes_and_reading_weights_is_off_the_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = _StepClock()
    monkeypatch.setattr(methods.time, "perf_counter", clock.perf_counter)
    from napari_cellenhance.zoo import weights

    load = weights.load_model

    def load_slowly(card: Any) -> Any:
        clock.now += 1e6
        return load(card)

    monkeypatch.setattr(weights, "load_model", load_slowly)
    task, seen = _task(), []
    METHODS["instant"](task, (1e5,), seen.append, lambda: False)
    assert clock.now > 1e6 and 0 < seen[0].ready_s < 1e5
    labels = seen[0].predict(task.painted.image)
    is_painted = task.painted.labels > 0
    assert labels.shape == task.painted.image.shape
    assert (labels == task.painted.labels)[is_painted].mean() > 0.9


def test_without_scikit_learn_the_sentence_says_what_to_do(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(MissingExtraError, match=r"napari-cellenhance\[evaluate\]"):
        run(_request(data, tmp_path / "out", methods=("unet", "forest")))
    assert not list((tmp_path / "out" / "cells").iterdir()), "told before anything is trained"


# --- runs ----------------------------------------------------------------------------------


def test_all_methods_learn_from_the_same_strokes(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks: list[PaintTask] = []

    def learn(task: PaintTask, times_s: Any, on_seen: Any, is_cancelled: Any) -> None:
        tasks.append(task)
        for time_s in times_s:
            on_seen(Seen(time_s, 0.0, 1, lambda plane: np.ones(plane.shape, np.int32)))

    monkeypatch.setattr(evaluate_paint, "METHODS", {"aep": learn, "unet": learn})
    request = _request(
        data, tmp_path / "out", methods=("aep", "unet"), amounts=("few", "many"), n_images=2, seeds=(0, 1)
    )
    result = run(request)
    assert len(result.cells) == 2 * 2 * 2 * 2
    strokes = [task.painted.labels for task in tasks]
    assert all((a == b).all() for a, b in zip(strokes[::2], strokes[1::2], strict=True))
    assert len({array.tobytes() for array in strokes}) == 8, "another image, amount and seed: other strokes"
    assert (strokes[0] != 0).sum() < (strokes[2] != 0).sum()
    # Everything called background: the share of the objects is known.
    row = result.cells[0].times[0]
    assert row["unseen_iou"] == pytest.approx(row["painted_iou"], abs=0.05) and row["unseen_iou"] < 0.45


def test_painted_pixels_do_not_count_and_unseen_images_are_others(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planes: list[np.ndarray] = []

    def learn(task: PaintTask, times_s: Any, on_seen: Any, is_cancelled: Any) -> None:
        def predict(plane: np.ndarray) -> np.ndarray:
            planes.append(plane)
            right = np.where(plane > 0.5, 2, 1).astype(np.int32)
            if plane is not task.painted.image and planes[0].tobytes() != plane.tobytes():
                return right
            return np.where(task.painted.labels > 0, 3 - task.painted.labels, right).astype(np.int32)

        on_seen(Seen(times_s[0], 0.0, 1, predict))
        on_seen(Seen(times_s[1], 0.0, 1, predict))

    monkeypatch.setattr(evaluate_paint, "METHODS", {"unet": learn})
    cell = run(_request(data, tmp_path / "out", methods=("unet",), amounts=("many",))).cells[0]
    assert cell.times[0]["painted_iou"] > 0.95, "wrong on the paint itself, right everywhere else"
    assert cell.times[1]["unseen_iou"] > 0.95
    assert len({plane.tobytes() for plane in planes}) == 3 == len(planes), "the same result is scored once"


def test_a_forest_from_strokes_segments_unseen_images_and_is_found_again(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    request = _request(data, tmp_path / "out")
    told: list[Progress] = []
    first = run(request, on_progress=told.append)
    (cell,) = first.cells
    assert cell.times[1]["painted_iou"] > 0.85 and cell.times[1]["unseen_iou"] > 0.8
    assert math.isnan(cell.times[0]["painted_iou"]) and cell.n_threads >= 1
    assert told[-1].n_done == told[-1].n_total == 60
    again = run(request)
    assert again.n_found == 1 and again.cells[0].times[1] == cell.times[1]
    assert run(replace(request, width_px=6)).n_found == 0
    assert run(replace(request, amounts=("few", "some"))).n_found == 1


def test_files_say_what_was_found_and_what_was_left_out(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    out = tmp_path / "out"
    result = run(_request(data, out, methods=("aep-tuned", "forest")))
    assert [cell.method for cell in result.cells] == ["forest"]
    text = (out / "scores.md").read_text()
    assert "convpaint" in text and "not fine-tuned" in text and "random forest" in text and "60 s" in text
    with (out / "cells.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["time_s"] for row in rows] == ["0.001", "60.0"] and rows[0]["painted_iou"] == ""
    assert json.loads((out / "scores.json").read_text())["notes"] == result.notes
    assert (out / "curves.png").stat().st_size > 10_000


def test_networks_run_end_to_end_and_a_stop_keeps_what_is_done(data: Path, tmp_path: Path) -> None:
    from napari_cellenhance.workflows._evaluate_aep_train import build_variant

    request = _request(data, tmp_path / "out", methods=("unet", "aep", "aep-tuned"), times_s=TIMES, n_unseen=1)
    n_done = 0

    def count(progress: Progress) -> None:
        nonlocal n_done
        n_done += progress.message == "learned and scored"

    stopped = run(request, on_progress=count, is_cancelled=lambda: n_done >= 1)
    assert not stopped.is_complete and [cell.method for cell in stopped.cells] == ["unet"]
    start = build_variant("aep-auto", 2, 5)
    result = run(request, start=start)
    assert result.is_complete and result.n_found == 1
    assert [cell.method for cell in result.cells] == ["unet", "aep", "aep-tuned"]
    assert all(len(cell.times) == 2 for cell in result.cells)
    assert 0 <= result.cells[2].times[0]["unseen_iou"] <= 1
    assert run(request, start=build_variant("aep-auto", 2, 6)).n_found == 2, "another start is another cell"


# --- tables --------------------------------------------------------------------------------


def test_rows_are_means_over_images_and_seeds() -> None:
    def cell(method: str, seed: int, iou: float) -> PaintCell:
        ready = math.nan if math.isnan(iou) else 0.5
        row = {
            "time_s": 1.0,
            "ready_s": ready,
            "n_updates": 0.0,
            "predict_s": 0.1,
            "painted_iou": iou,
            "unseen_iou": iou,
        }
        return PaintCell(source="s", image="i", amount="few", method=method, seed=seed, times=[row])

    cells = [cell("unet", 0, 0.4), cell("unet", 1, 0.6), cell("forest", 0, 0.7), cell("forest", 1, math.nan)]
    rows = rows_of(cells)
    assert rows[0]["painted_iou"] == pytest.approx(0.5) and (rows[1]["n"], rows[1]["n_ready"]) == (2, 1)
    text = markdown(cells, ["one thing"])
    assert "**70.0**" in text and "50.0 ± 14.1" in text and "Note: one thing" in text


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"methods": ("oracle",)}, "oracle"),
        ({"amounts": ("plenty",)}, "plenty"),
        ({"times_s": (5.0, 1.0)}, "rising"),
        ({"times_s": ()}, "times"),
        ({"seeds": ()}, "seeds"),
        ({"n_images": 0}, "images"),
    ],
)
def test_wrong_settings_are_told(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        EvaluatePaintRequest(**settings)


def test_no_folder_and_no_images_are_told(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ParameterError, match="folder"):
        run(EvaluatePaintRequest(data=(data,)))
    monkeypatch.setattr(evaluate_paint, "_MIN_CLASS_PX", 10_000)
    with pytest.raises(ImageError, match="can be painted"):
        run(_request(data, tmp_path / "out", methods=("unet",)))
