"""Small parts of the training dock: curves, pictures, names, sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_cellenhance.core.recipes.classical import CLASSICAL
from napari_cellenhance.widgets._filter_picker import FilterPicker, refill_all
from napari_cellenhance.widgets._train_curves import curves_of, losses_in, marks_of
from napari_cellenhance.widgets._train_goal import TrainGoal, model_id_of
from napari_cellenhance.widgets._train_guess import Painted, measure_painted, unpainted_warning
from napari_cellenhance.widgets._train_run import ended_sentence, tunable
from napari_cellenhance.widgets._train_view import BeforeAfter
from napari_cellenhance.widgets._training_run import News, threads_beside_window
from napari_cellenhance.workflows.progress import Progress
from napari_cellenhance.workflows.train import TrainProgress, TrainResult
from napari_cellenhance.zoo.manifest import list_models

ROWS = [{"step": i + 1.0, "total": 4.0 - 0.02 * i, "style": 2.0} for i in range(100)]


def test_all_losses_begin_at_one() -> None:
    curves = curves_of(ROWS, "all")
    assert [c.name for c in curves] == ["Total", "Morphology"]
    assert all(c.y[0] == pytest.approx(1.0, abs=0.05) for c in curves) and curves[0].y[-1] < 0.8


def test_a_loss_that_most_updates_lack_is_not_offered() -> None:
    rows = [dict(row) for row in ROWS]
    rows[3]["paired"] = 0.5
    assert losses_in(rows) == ["total", "style"]
    assert losses_in([{"total": 1.0, "paired": 0.1}]) == ["total", "paired"]


def test_checks_are_points_of_their_own() -> None:
    rows = [dict(row) for row in ROWS]
    rows[49]["val_total"] = 3.3
    raw, smoothed, checked = curves_of(rows, "total")
    assert checked.x.tolist() == [50.0] and checked.y.tolist() == [3.3] and len(raw.x) == len(smoothed.x) == 100
    assert curves_of([], "total") == [] and curves_of([], "all") == []
    assert marks_of(0) == [] and marks_of(50)[0].x == 50


@pytest.mark.parametrize(
    ("title", "model_id"),
    [
        ("My nuclei", "my-nuclei"),
        ("T = 1 µm!", "t-1-m"),
        ("細胞", "model-7edf5f"),
        ("NU-Net", "nu-net"),
        ("nunet", "nunet-own"),
    ],
)
def test_names_become_ids_that_take_none_of_the_project(title: str, model_id: str) -> None:
    assert model_id_of(title, {"nunet"}) == model_id


def test_news_is_handed_over_once() -> None:
    news = News()
    news.add(Progress(n_done=0, n_total=9, message="Reading"))
    news.add(TrainProgress(n_done=1, n_total=9, rows=({"step": 1.0},), best_step=1))
    news.add_picture(np.zeros((2, 2), np.float32), np.ones((2, 2), np.float32))
    rows, picture, best = news.take()
    news.add(TrainProgress(n_done=2, n_total=9, rows=(), best_step=1))
    assert rows == [{"step": 1.0}] and best == 1
    assert picture is not None and picture[2] == 1, "the update it was made after, not the latest one"
    assert news.take() == ([], None, 1)


@pytest.mark.parametrize(("stopped", "word"), [("finished", "Done"), ("early", "Ended early"), ("diverged", "broke")])
def test_the_end_is_told(stopped: str, word: str) -> None:
    result = TrainResult(
        model_id="m", weights=Path("w"), card=Path("c"), history=Path("h"), stopped=stopped, best_step=7, best_total=1.0
    )
    assert word in ended_sentence(result, "Mine") and "update 7" in ended_sentence(result, "Mine")


def test_a_core_stays_free_where_there_are_some() -> None:
    assert [threads_beside_window(n) for n in (1, 2, 4)] == [1, 1, 3]


def test_before_and_after_are_drawn_side_by_side(qtbot: Any) -> None:
    pair = BeforeAfter()
    qtbot.addWidget(pair)
    assert pair.heightForWidth(300) == 0
    pair.show_pair(np.zeros((40, 40), np.float32), np.ones((40, 40), np.float32), "After update 3")
    pair.resize(300, pair.heightForWidth(300))
    image = pair.grab().toImage()
    y = pair.height() - 10
    ratio = image.devicePixelRatio()
    left, right = (image.pixelColor(int(x * ratio), int(y * ratio)).lightness() for x in (75, 225))
    assert left < 30 and right > 225
    assert pair.caption == "After update 3" and "update 3" in pair.accessibleDescription()


def test_every_open_list_of_filters_is_filled_again(qtbot: Any) -> None:
    picker = FilterPicker(CLASSICAL[:3])
    qtbot.addWidget(picker)
    picker.choose(CLASSICAL[1].id)
    told: list[Any] = []
    picker.picked.connect(told.append)
    assert refill_all(CLASSICAL) >= 1
    assert picker.info() == CLASSICAL[1] and told == []
    picker.refill(CLASSICAL[2:])
    assert picker.info() == CLASSICAL[2] and told == [CLASSICAL[2]], "the chosen one is gone, and that is told"
    picker.refill(())
    assert picker.info() is None


def test_random_weights_stay_chosen_when_a_new_filter_is_listed(qtbot: Any) -> None:
    from napari.components import ViewerModel

    goal = TrainGoal(ViewerModel(), tunable(list_models()))
    qtbot.addWidget(goal)
    assert goal.goal().init_from is not None
    goal.start.setCurrentIndex(goal.start.count() - 1)
    goal.set_models(tunable(list_models()))
    assert goal.goal().init_from is None
    goal.release()


def test_how_much_is_painted_counts_planes_with_paint_only() -> None:
    labels = np.zeros((3, 40, 50), int)
    assert measure_painted(labels) == Painted()
    labels[1, :20, :25] = 7
    assert measure_painted(labels) == Painted(n_objects=1.0, box_share=0.25)
    labels[2, 5, 5], labels[2, 34, 44], labels[2, 20, 20] = 1, 2, 3
    assert measure_painted(labels) == Painted(n_objects=2.0, box_share=(0.25 + 30 * 40 / 2000) / 2)


@pytest.mark.parametrize(
    ("n_objects", "box_share", "said"),
    [
        (0.0, 0.0, "Nothing is painted in this layer yet"),
        (1.0, 0.9, "Only 1 object is painted (every object needs a number"),
        (9.0, 0.9, "Only 9 objects are painted"),
        (40.0, 0.2, "in 20% of the plane only"),
        (10.0, 0.5, ""),
    ],
)
def test_few_objects_or_a_part_of_the_plane_are_warned_of(n_objects: float, box_share: float, said: str) -> None:
    painted = Painted(n_objects, box_share)
    warning = unpainted_warning(painted, is_plane=True)
    assert said in warning and bool(said) == bool(warning)
    assert bool(unpainted_warning(painted, is_plane=False)) == (n_objects == 0)


def test_every_dock_with_a_training_says_what_the_shared_part_asks_of_it() -> None:
    from napari_cellenhance.widgets._training_dock import TrainingDock
    from napari_cellenhance.widgets.denoise import DenoisePanel
    from napari_cellenhance.widgets.keep import KeepPanel
    from napari_cellenhance.widgets.restore import RestorePanel
    from napari_cellenhance.widgets.teach import TeachPanel
    from napari_cellenhance.widgets.train import TrainPanel

    def leaves(kind: type) -> set[type]:
        below = kind.__subclasses__()
        return {leaf for one in below for leaf in leaves(one)} if below else {kind}

    docks = (DenoisePanel, KeepPanel, RestorePanel, TeachPanel, TrainPanel)
    assert leaves(TrainingDock) == set(docks)
    for dock in docks:
        for name in ("problem", "new_run", "model_id"):
            assert getattr(dock, name) is not getattr(TrainingDock, name), (dock.__name__, name)
