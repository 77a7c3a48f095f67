"""A batch: what is read, computed and written when; what is skipped, done anew, left whole; what is measured."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ModelNotFoundError, ParameterError, WriteError
from napari_cellenhance.io import images
from napari_cellenhance.io.images import read, read_provenance, write
from napari_cellenhance.workflows import _batch_files, _file_results, batch, catalog, enhance, restore, separate
from napari_cellenhance.workflows._batch_plan import plan_tasks
from napari_cellenhance.workflows.batch import BatchRequest, BatchResult
from napari_cellenhance.workflows.batch_recipe import Recipe
from napari_cellenhance.workflows.denoise import DenoiseRequest
from napari_cellenhance.workflows.progress import Progress
from napari_cellenhance.workflows.requests import EnhanceRequest, SegmentOptions
from napari_cellenhance.workflows.restore import RestoreRequest, RestoreResult
from napari_cellenhance.workflows.separate import SeparateRequest, SeparateResult

GAMMA = EnhanceRequest(image=None, axes="", filter_id="gamma")
RECIPE = Recipe(steps=(GAMMA,))
NAMES = ("a", "b", "c", "d")


def picture(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, (16, 20), dtype=np.uint8)


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    folder = tmp_path / "plate 1 ü"
    folder.mkdir()
    for seed, name in enumerate(NAMES):
        write(folder / f"{name}.tif", picture(seed), "YX", dtype="keep")
    return folder


def run(source: Any, target: Path, recipe: Recipe = RECIPE, **more: Any) -> BatchResult:
    wanted = {name: more.pop(name) for name in ("is_recursive", "overwrite", "tables") if name in more}
    return batch.run(BatchRequest(source=source, target=target, recipe=recipe, **wanted), **more)


def states(result: BatchResult) -> dict[str, str]:
    return {outcome.name: outcome.state for outcome in result.outcomes}


def no_parts(folder: Path) -> bool:
    return not [path for path in folder.rglob("*") if ".part" in path.name]


# --- the pipeline -----------------------------------------------------------------------------


def test_pixels_are_those_of_the_plain_workflow_and_the_model_is_loaded_once(
    plate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    original = catalog.open_enhancer

    def opening(*rest: Any, **more: Any) -> Any:
        opened.append(rest)
        return original(*rest, **more)

    monkeypatch.setattr(catalog, "open_enhancer", opening)
    result = run(plate, tmp_path / "deep" / "out")
    assert result.is_complete and result.n_done == 4 and len(opened) == 1
    for seed, name in enumerate(NAMES):
        expected = enhance.run(EnhanceRequest(image=picture(seed), axes="YX", filter_id="gamma")).image
        np.testing.assert_array_equal(read(tmp_path / "deep" / "out" / f"{name}.ome.tif").image, expected)


def test_the_next_file_is_read_while_one_is_computed_and_never_more_than_one_waits(
    plate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Computing waits until the next file was read; without overlap that would never be."""
    has_read = {f"{name}.tif": threading.Event() for name in NAMES}
    n_read_when_computed: list[int] = []
    real_read, real_apply, real_write = images.read, enhance.apply, _file_results.write_result
    writers, readers = set(), set()

    def reading(path: Any) -> Any:
        found = real_read(path)
        readers.add(threading.current_thread())
        has_read[Path(path).name].set()
        return found

    def applying(job: Any, *rest: Any, **more: Any) -> Any:
        assert threading.current_thread() is threading.main_thread()
        later = NAMES[NAMES.index(job.source_name[0]) + 1 :][:1]
        assert all(has_read[f"{name}.tif"].wait(10) for name in later)
        n_read_when_computed.append(sum(event.is_set() for event in has_read.values()))
        return real_apply(job, *rest, **more)

    def writing(*rest: Any, **more: Any) -> None:
        writers.add(threading.current_thread())
        real_write(*rest, **more)

    monkeypatch.setattr(images, "read", reading)
    monkeypatch.setattr(enhance, "apply", applying)
    monkeypatch.setattr(_batch_files, "write_result", writing)
    told: list[str] = []
    result = run(plate, tmp_path / "out", on_outcome=lambda outcome: told.append(outcome.name))
    assert told == [f"{name}.tif" for name in NAMES] == list(states(result))
    assert n_read_when_computed == [2, 3, 4, 4]
    assert len(readers) == len(writers) == 1 and readers != writers


def test_progress_counts_files_and_tells_the_time_that_is_left(plate: Path, tmp_path: Path) -> None:
    told: list[Progress] = []
    stages: dict[int, list[str]] = {}
    run(
        plate, tmp_path / "out", on_progress=told.append,
        on_news=lambda news: stages.setdefault(news.index, []).append(news.stage),
    )  # fmt: skip
    counts = [progress.n_done for progress in told if progress.n_total]
    assert counts == sorted(counts) and counts[-1] == 4
    assert {progress.n_total for progress in told} <= {0, 4}
    assert any("b.tif (2 of 4)" in progress.message for progress in told)
    assert any(progress.eta_s for progress in told) and told[-1].eta_s == 0
    for index in range(4):
        assert list(dict.fromkeys(stages[index])) == ["computing", "writing", "done"]


def test_steps_follow_each_other_and_the_record_tells_of_both(plate: Path, tmp_path: Path) -> None:
    dog = EnhanceRequest(image=None, axes="", filter_id="dog")
    run(plate, tmp_path / "out", Recipe(steps=(GAMMA, dog), dtype="uint8"))
    record = read_provenance(tmp_path / "out" / "a.ome.tif")
    assert record is not None and record["filter"] == "dog" and record["earlier"]["filter"] == "gamma"
    first = enhance.run(EnhanceRequest(image=picture(0), axes="YX", filter_id="gamma")).image
    second = enhance.run(EnhanceRequest(image=first, axes="YX", filter_id="dog")).image
    found = read(tmp_path / "out" / "a.ome.tif").image
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.rint(second.astype(np.float64) * 255))


def test_further_pictures_of_restoring_and_separating_are_written_beside(
    plate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With models that pretend: they hand over arithmetic on the image."""
    monkeypatch.setattr(batch, "fingerprint", lambda recipe: "pretended")
    monkeypatch.setattr(restore, "open_restorer", lambda *a, **k: None)
    monkeypatch.setattr(separate, "open_separator", lambda *a, **k: None)

    def restoring(job: RestoreRequest, *rest: Any, **more: Any) -> RestoreResult:
        grey = job.image.astype(np.float32)
        return RestoreResult(image=grey + 1, uncertainty=grey / 2, axes="YX", provenance={"step": "restore"})

    def separating(job: SeparateRequest, *rest: Any, **more: Any) -> SeparateResult:
        grey = job.image.astype(np.float32)
        return SeparateResult(
            target=grey / 4, remainder=grey * 0.75, unwanted=None, background=None, boxes=(), axes="YX",
            labels=(job.image > 128).astype(np.uint32), labels_axes="YX", provenance={"step": "separate"},
        )  # fmt: skip

    monkeypatch.setattr(restore, "apply", restoring)
    monkeypatch.setattr(separate, "apply", separating)
    restored = RestoreRequest(image=None, axes="", model_id="m")
    run(plate / "a.tif", tmp_path / "r", Recipe(steps=(restored,), dtype="same"))
    image = picture(0)
    np.testing.assert_array_equal(read(tmp_path / "r" / "a_uncertainty.ome.tif").image, image.astype(np.float32) / 2)
    found = read(tmp_path / "r" / "a.ome.tif").image
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.minimum(image.astype(int) + 1, 255))
    separated = SeparateRequest(image=None, axes="", model_id="m", has_objects=True)
    run(plate / "a.tif", tmp_path / "s", Recipe(steps=(separated,), measure=True))
    np.testing.assert_array_equal(read(tmp_path / "s" / "a_remainder.ome.tif").image, image.astype(np.float32) * 0.75)
    np.testing.assert_array_equal(read(tmp_path / "s" / "a_labels.ome.tif").image, image > 128)
    with (tmp_path / "s" / "a_objects.csv").open(newline="", encoding="utf-8") as stream:
        (row,) = csv.DictReader(stream)
    assert float(row["raw_mean"]) == pytest.approx(image[image > 128].mean())


# --- which files, and where to -----------------------------------------------------------------


def test_sub_folders_patterns_and_lists(plate: Path, tmp_path: Path) -> None:
    (plate / "sub").mkdir()
    write(plate / "sub" / "a.tif", picture(9), "YX", dtype="keep")
    out = tmp_path / "out"
    flat = ["a.tif", "b.tif", "c.tif", "d.tif"]
    assert [task.name for task in plan_tasks(plate, out)] == flat
    deep = plan_tasks(plate, out, is_recursive=True)
    assert [task.name for task in deep] == [*flat, "sub/a.tif"]
    assert deep[-1].image == out / "sub" / "a.ome.tif"
    assert [task.name for task in plan_tasks(f"{plate}/**/a*.tif", out)] == ["a.tif", "sub/a.tif"]
    listed = plate / "list.txt"
    listed.write_text("# mine\nd.tif\n\nsub/a.tif\nlost.tif\n", encoding="utf-8")
    assert sorted(task.name for task in plan_tasks(listed, out)) == ["d.tif", "lost.tif", "sub/a.tif"]
    assert states(run(listed, out)) == {"d.tif": "done", "lost.tif": "failed", "sub/a.tif": "done"}


def test_results_within_the_folder_are_no_sources(plate: Path) -> None:
    assert run(plate, plate / "out", is_recursive=True).n_done == 4
    assert list(states(run(plate, plate / "out", is_recursive=True)).values()) == ["skipped"] * 4
    with pytest.raises(ParameterError, match="holds the images themselves"):
        run(plate, plate)


def test_further_results_take_no_other_place(plate: Path, tmp_path: Path) -> None:
    write(plate / "a_remainder.tif", picture(5), "YX", dtype="keep")
    assert len(plan_tasks(plate, tmp_path / "out")) == 5
    with pytest.raises(ParameterError, match="same name"):
        plan_tasks(plate, tmp_path / "out", beside=("remainder",))


# --- what goes wrong ----------------------------------------------------------------------------


def test_a_broken_file_is_recorded_and_skipped(plate: Path, tmp_path: Path) -> None:
    (plate / "b.tif").write_bytes((plate / "b.tif").read_bytes()[:150])
    out = tmp_path / "out"
    result = run(plate, out)
    assert states(result) == {"a.tif": "done", "b.tif": "failed", "c.tif": "done", "d.tif": "done"}
    assert result.n_failed == 1 and result.is_complete and not (out / "b.ome.tif").exists() and no_parts(out)
    report = json.loads((out / "batch_report.json").read_text(encoding="utf-8"))
    assert (report["done"], report["failed"], report["not_begun"]) == (3, 1, 0)
    assert "b.tif" in report["files"][1]["error"]
    with (out / "batch_report.csv").open(newline="", encoding="utf-8") as stream:
        assert [row["state"] for row in csv.DictReader(stream)] == ["done", "failed", "done", "done"]


def test_an_error_nobody_thought_of_concerns_one_file(
    plate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = enhance.apply

    def applying(job: Any, *rest: Any, **more: Any) -> Any:
        if job.source_name == "c.tif":
            raise RuntimeError("a tensor was in a bad mood")
        return real(job, *rest, **more)

    monkeypatch.setattr(enhance, "apply", applying)
    result = run(plate, tmp_path / "out")
    assert states(result)["c.tif"] == "failed" and result.n_done == 3
    assert result.outcomes[2].error == "RuntimeError: a tensor was in a bad mood"


def test_a_full_disk_ends_the_batch_at_once(plate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*rest: Any, **more: Any) -> None:
        raise WriteError("a.ome.tif could not be written: the disk is full") from OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(_batch_files, "write_result", full)
    result = run(plate, tmp_path / "out")
    assert "disk is full" in result.stopped_by and not result.is_complete
    assert 1 <= len(result.outcomes) < 4


def test_a_missing_model_is_told_before_anything_is_begun(plate: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="nobody"):
        run(plate, tmp_path / "out", Recipe(steps=(DenoiseRequest(image=None, axes="", model_id="nobody"),)))
    assert not (tmp_path / "out").exists()


def test_strange_files_are_left_alone(plate: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.ome.tif").write_text("precious")
    result = run(plate, out)
    assert states(result)["a.tif"] == "failed" and "no batch made it of this image" in result.outcomes[0].error
    assert (out / "a.ome.tif").read_text() == "precious"
    assert run(plate, out, overwrite=True).n_done == 4
    # The same name on another plate is another image.
    other = tmp_path / "plate2"
    other.mkdir()
    write(other / "a.tif", picture(7), "YX", dtype="keep")
    assert states(run(other, out)) == {"a.tif": "failed"} and run(plate, out).n_skipped == 4


# --- again ----------------------------------------------------------------------------------------


def test_a_second_run_skips_what_is_finished_and_loads_no_model(
    plate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    run(plate, out)
    monkeypatch.setattr(catalog, "open_enhancer", lambda *a, **k: pytest.fail("loaded in vain"))
    again = run(plate, out)
    assert again.n_skipped == 4 and again.is_complete
    assert again.outcomes[0].targets == (out / "a.ome.tif",)
    os.utime(plate / "a.tif", ns=(1, 1))  # another time, the same contents
    assert run(plate, out).n_skipped == 4


@pytest.mark.parametrize("change", ["contents", "recipe", "gone", "cut", "overwrite"])
def test_what_changed_is_done_anew(plate: Path, tmp_path: Path, change: str) -> None:
    out = tmp_path / "out"
    run(plate, out)
    recipe, more = RECIPE, {}
    if change == "contents":
        write(plate / "b.tif", picture(99), "YX", dtype="keep", overwrite=True)
    elif change == "recipe":
        recipe = Recipe(steps=(EnhanceRequest(image=None, axes="", filter_id="gamma", strength=1.5),))
    elif change == "gone":
        (out / "b.ome.tif").unlink()
    elif change == "cut":
        (out / "b.ome.tif").write_bytes((out / "b.ome.tif").read_bytes()[:-40])
    else:
        more = {"overwrite": True}
    again = run(plate, out, recipe, **more)
    assert again.n_failed == 0
    assert states(again)["b.tif"] == "done"
    assert again.n_done == (4 if change in ("recipe", "overwrite") else 1)
    fresh = tmp_path / "fresh"
    run(plate, fresh, recipe)
    np.testing.assert_array_equal(read(out / "b.ome.tif").image, read(fresh / "b.ome.tif").image)


def test_cancel_finishes_the_file_in_hand(plate: Path, tmp_path: Path) -> None:
    is_stopped = threading.Event()
    out = tmp_path / "out"
    result = run(
        plate, out, is_cancelled=is_stopped.is_set,
        on_news=lambda news: is_stopped.set() if news.index == 1 and news.stage == "computing" else None,
    )  # fmt: skip
    assert states(result) == {"a.tif": "done", "b.tif": "done"} and not result.is_complete
    assert sorted(path.name for path in out.glob("*.ome.tif")) == ["a.ome.tif", "b.ome.tif"]
    assert json.loads((out / "batch_report.json").read_text(encoding="utf-8"))["not_begun"] == 2
    assert run(plate, out).n_skipped == 2


_SLOW = """
import sys, time
from napari_cellenhance.io import safe_write
from napari_cellenhance.workflows import batch
from napari_cellenhance.workflows.batch_recipe import read_recipe
replace = safe_write.os.replace
def slow(a, b):
    if str(b).endswith("b.ome.tif"):
        print("now", flush=True)
        time.sleep(60)
    replace(a, b)
safe_write.os.replace = slow
batch.run(batch.BatchRequest(source=sys.argv[1], target=sys.argv[2], recipe=read_recipe(sys.argv[3])))
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_kill_leaves_whole_files_only_and_the_next_run_goes_on(plate: Path, tmp_path: Path) -> None:
    from napari_cellenhance.workflows.batch_recipe import write_recipe

    out = tmp_path / "out"
    labelled = Recipe(steps=(GAMMA,), labels=SegmentOptions(min_size_px=1), measure=True)
    recipe = write_recipe(tmp_path / "recipe.json", labelled)
    command = [sys.executable, "-c", _SLOW, str(plate), str(out), str(recipe)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "now\n"
        process.send_signal(signal.SIGKILL)
    # The labels and the table of b are there, its image is not: it counts for nothing.
    assert (out / "b_labels.ome.tif").exists() and not (out / "b.ome.tif").exists() and not no_parts(out)
    for path in out.glob("[!.]*.tif"):
        read(path)
    again = run(plate, out, labelled)
    assert states(again) == {"a.tif": "skipped", "b.tif": "done", "c.tif": "done", "d.tif": "done"}
    assert no_parts(out), "what the killed run left is swept away"
    fresh = tmp_path / "fresh"
    run(plate, fresh, labelled)
    for name in NAMES:
        np.testing.assert_array_equal(read(out / f"{name}.ome.tif").image, read(fresh / f"{name}.ome.tif").image)
    assert (out / "batch_objects.csv").read_bytes() == (fresh / "batch_objects.csv").read_bytes()


def test_a_journal_that_was_cut_off_counts_up_to_there(plate: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(plate, out)
    journal = out / "batch_journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-30])
    assert states(run(plate, out)) == dict.fromkeys(("a.tif", "b.tif", "c.tif"), "skipped") | {"d.tif": "done"}
    assert run(plate, out).n_skipped == 4


# --- objects -------------------------------------------------------------------------------------


def test_objects_are_measured_as_by_hand(tmp_path: Path) -> None:
    """Two rectangles of 6 × 4 and 8 × 5 px, grey values 100 and 200 with one brighter pixel."""
    (tmp_path / "in").mkdir()
    image = np.full((32, 40), 10, np.uint16)
    image[4:10, 6:10] = 100
    image[20:28, 30:35] = 200
    image[20, 30] = 240
    write(tmp_path / "in" / "a.tif", image, "YX", dtype="keep", pixel_size_um={"Y": 0.5, "X": 0.25})
    write(tmp_path / "in" / "b.tif", image[::-1], "YX", dtype="keep")
    options = SegmentOptions(method="manual", threshold=0.2, split_touching=False, min_size_px=5)
    linear = EnhanceRequest(image=None, axes="", filter_id="gamma", strength=0.0)
    run(tmp_path / "in", tmp_path / "out", Recipe(steps=(linear,), labels=options, measure=True))
    with (tmp_path / "out" / "a_objects.csv").open(newline="", encoding="utf-8") as stream:
        first, second = list(csv.DictReader(stream))
    expected = {
        "area_px": 24, "area_um2": 24 * 0.125, "centroid_y_px": 6.5, "centroid_x_px": 7.5, "centroid_y_um": 3.25,
        "centroid_x_um": 1.875, "bbox_y0": 4, "bbox_x1": 10, "equivalent_diameter_px": 2 * np.sqrt(24 / np.pi),
        "solidity": 1, "raw_mean": 100, "raw_sd": 0, "raw_sum": 2400, "raw_min": 100, "raw_max": 100,
    }  # fmt: skip
    assert {name: float(first[name]) for name in expected} == pytest.approx(expected)
    bright = {
        "area_px": 40,
        "raw_mean": 201,
        "raw_max": 240,
        "raw_sum": 8040,
        "raw_sd": np.sqrt(39 * 1 + 39**2) / 40**0.5,
    }
    assert {name: float(second[name]) for name in bright} == pytest.approx(bright)
    assert first["file"] == "a.tif" and first["label"] == "1"
    with (tmp_path / "out" / "batch_objects.csv").open(newline="", encoding="utf-8") as stream:
        joined = list(csv.DictReader(stream))
    assert [row["file"] for row in joined] == ["a.tif", "a.tif", "b.tif", "b.tif"]
    assert joined[0] == first and joined[2]["area_um2"] == "", "b tells no pixel size"


def test_without_objects_there_is_a_table_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, value in (("a", 0), ("b", 0)):
        write(tmp_path / "in" / f"{name}.tif", np.full((16, 16), value, np.uint8), "YX", dtype="keep")
    recipe = Recipe(steps=(GAMMA,), labels=SegmentOptions(), measure=True)
    result = run(tmp_path / "in", tmp_path / "out", recipe)
    assert [outcome.n_objects for outcome in result.outcomes] == [0, 0] and result.n_failed == 0
    assert (tmp_path / "out" / "batch_objects.csv").read_text(encoding="utf-8").startswith("file,t,c,z,label,area_px")


def test_tables_as_parquet(plate: Path, tmp_path: Path) -> None:
    from pyarrow import parquet

    write(plate / "e.tif", np.zeros((16, 20), np.uint8), "YX", dtype="keep")  # no objects
    recipe = Recipe(steps=(GAMMA,), labels=SegmentOptions(min_size_px=1), measure=True)
    text, binary = run(plate, tmp_path / "csv", recipe), run(plate, tmp_path / "pq", recipe, tables="parquet")
    assert text.objects is not None and binary.objects is not None and binary.n_failed == 0
    rows = parquet.read_table(binary.objects).to_pylist()
    with text.objects.open(newline="", encoding="utf-8") as stream:
        expected = list(csv.DictReader(stream))
    assert [row["area_px"] for row in rows] == [float(row["area_px"]) for row in expected]
    assert {row["file"] for row in rows} == {row["file"] for row in expected}
