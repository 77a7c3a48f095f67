"""Several processes: the same results as one, whoever dies on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_cellenhance.core.errors import ClusterError, MissingExtraError, ParameterError, WriteError
from napari_cellenhance.io.images import read, write
from napari_cellenhance.io.lazy_images import LazyImage
from napari_cellenhance.io.ome_zarr import create_store
from napari_cellenhance.workflows import _batch_cluster, _large_worker, batch, cluster, large_images, large_labels
from napari_cellenhance.workflows._batch_plan import plan_tasks
from napari_cellenhance.workflows.batch import BatchRequest
from napari_cellenhance.workflows.batch_recipe import Recipe
from napari_cellenhance.workflows.cluster import Cluster
from napari_cellenhance.workflows.large_images import LargeRequest, journal_of, partial_of
from napari_cellenhance.workflows.large_labels import LargeLabelsRequest
from napari_cellenhance.workflows.progress import Progress
from napari_cellenhance.workflows.requests import EnhanceRequest, SegmentOptions


@pytest.fixture(scope="module")
def workers() -> Iterator[Any]:
    """A client of two real processes; one that is killed is replaced."""
    import dask
    import distributed

    with (
        # A busy machine needs more than the 15 s after which a worker that ended is given up.
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1h"}),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            memory_limit=0,
            dashboard_address="127.0.0.1:0",
            silence_logs=50,
        ) as local,
        distributed.Client(local, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture
def crew(workers: Any) -> Cluster:
    workers.wait_for_workers(2, timeout=120)
    return Cluster(scheduler=workers.scheduler.address)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    image = np.random.default_rng(4).normal(500, 60, (3, 200, 170)).astype(np.uint16)
    store = create_store(tmp_path / "v.zarr", [image.shape], "ZYX", dtype=image.dtype, chunk_px=64, name="v")
    store.levels[0][...] = image
    store.finish({})
    return tmp_path / "v.zarr"


def large(source: Path, target: Path, crew: Cluster | None = None, **settings: Any) -> LargeRequest:
    asked = EnhanceRequest(image=None, axes="", **{"filter_id": "log", "tile_px": 64, "device": "cpu", **settings})
    return LargeRequest(source=source, target=target, settings=asked, chunk_px=64, cluster=crew)


def pixels_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*")) if path.is_file() and path.parent != folder
    }  # fmt: skip


def killing(workers: Any, after: int, then: Callable[[], None] = lambda: None) -> Callable[[Progress], None]:
    """Kill one of the workers as soon as so many pieces are done."""
    victims = [next(iter(workers.run(os.getpid).values()))]

    def watch(progress: Progress) -> None:
        if victims and progress.n_total and progress.n_done >= after:
            then()
            os.kill(victims.pop(), signal.SIGKILL)

    return watch


# --- large images --------------------------------------------------------------------------------


def test_a_worker_that_is_killed_loses_nothing(workers: Any, crew: Cluster, source: Path, tmp_path: Path) -> None:
    target, before = tmp_path / "out.ome.zarr", {}

    def look() -> None:
        for line in journal_of(target).read_text().splitlines()[1:]:
            level, _, _, z, y, x = json.loads(line).get("done", [1] * 6)
            if level == 0:
                path = Path("0", "c", str(z), str(y // 64), str(x // 64))
                before[path] = (partial_of(target) / path).stat().st_mtime_ns

    notes: list[str] = []
    result = large_images.run(large(source, target, crew), on_progress=killing(workers, 3, look), on_note=notes.append)
    assert result.is_complete and result.n_done == result.n_total and result.warnings == ()
    assert "2 workers" in notes[0] and "in each of 2 processes" in notes[1]
    # What was noted as done is not made again.
    assert before and {path: (target / path).stat().st_mtime_ns for path in before} == before
    large_images.run(large(source, tmp_path / "one.ome.zarr"))
    assert pixels_of(target) == pixels_of(tmp_path / "one.ome.zarr")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real disk of 300 kB that all processes see."""
    folder = tmp_path / "small"
    folder.mkdir()
    size = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(size, capture_output=True, check=False).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_fills_up_on_a_worker_is_told_and_nothing_is_lost(
    crew: Cluster, source: Path, small_disk: Path, tmp_path: Path
) -> None:
    target = small_disk / "out.ome.zarr"
    with pytest.raises(WriteError, match=r"the disk is full; free some space, and run the same again: it goes on"):
        large_images.run(large(source, target, crew))
    assert not target.exists()
    noted = [line for line in journal_of(target).read_text().splitlines() if line.startswith('{"done"')]
    assert noted
    with pytest.raises(WriteError, match="the disk is full"):  # still
        large_images.run(large(source, target, crew))
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    ended = large_images.run(large(source, target, crew))
    assert ended.is_complete and ended.n_resumed >= len(noted)
    large_images.run(large(source, tmp_path / "one.ome.zarr"))
    assert pixels_of(target) == pixels_of(tmp_path / "one.ome.zarr")


def labels_by(source: Path, target: Path, crew: Cluster | None = None) -> LargeLabelsRequest:
    return LargeLabelsRequest(source=source, target=target, chunk_px=64, memory_limit_mb=0, cluster=crew)


@pytest.fixture
def enhanced(source: Path, tmp_path: Path) -> Path:
    large_images.run(large(source, tmp_path / "enhanced.ome.zarr"))
    return tmp_path / "enhanced.ome.zarr"


def test_labels_lose_nothing_when_a_worker_is_killed(
    workers: Any, crew: Cluster, enhanced: Path, tmp_path: Path
) -> None:
    target, notes = tmp_path / "labels.ome.zarr", list[str]()
    result = large_labels.run(
        labels_by(enhanced, target, crew), on_progress=killing(workers, 5), on_note=notes.append
    )  # fmt: skip
    assert result.is_complete and result.n_done == result.n_total
    assert any("2 workers" in note for note in notes)
    large_labels.run(labels_by(enhanced, tmp_path / "one.ome.zarr"))
    assert pixels_of(target) == pixels_of(tmp_path / "one.ome.zarr")


def test_labels_go_on_elsewhere_after_a_full_disk_or_a_cancel(
    crew: Cluster, enhanced: Path, small_disk: Path, tmp_path: Path
) -> None:
    target, done = small_disk / "labels.ome.zarr", [0]

    def watch(progress: Progress) -> None:
        done[0] = progress.n_done

    subprocess.run(["mount", "-o", "remount,size=64k", str(small_disk)], check=True)
    with pytest.raises(WriteError, match=r"the disk is full; free some space, and run the same again: it goes on"):
        large_labels.run(labels_by(enhanced, target, crew))
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    stopped = large_labels.run(labels_by(enhanced, target, crew), on_progress=watch, is_cancelled=lambda: done[0] > 20)
    assert not stopped.is_complete
    assert large_labels.run(labels_by(enhanced, target)).is_complete
    large_labels.run(labels_by(enhanced, tmp_path / "one.ome.zarr"))
    assert pixels_of(target) == pixels_of(tmp_path / "one.ome.zarr")


def test_a_network_is_loaded_once_and_gives_the_same_bits(
    workers: Any, crew: Cluster, source: Path, tmp_path: Path
) -> None:
    settings = {"filter_id": "nunet", "precision": "float32", "statistics": "stack"}
    large_images.run(large(source, tmp_path / "a.zarr", crew, **settings))
    loads = workers.run(lambda: _large_worker.open_filter.cache_info()[1])
    assert max(loads.values()) <= 2  # of this filter, and the one before, for many blocks
    large_images.run(large(source, tmp_path / "one.zarr", **settings))
    assert pixels_of(tmp_path / "a.zarr") == pixels_of(tmp_path / "one.zarr")


def test_the_record_of_a_large_image_holds_what_the_guards_saw_as_without_a_cluster(
    crew: Cluster, source: Path, tmp_path: Path
) -> None:
    settings = {"filter_id": "n2v2-fluorescence", "precision": "float32"}
    records, warnings = [], []
    for name, crew_or_none in (("crew", crew), ("one", None)):
        result = large_images.run(large(source, tmp_path / f"{name}.ome.zarr", crew_or_none, **settings))
        told = json.loads((tmp_path / f"{name}.ome.zarr" / "zarr.json").read_text())
        records.append(told["attributes"]["cellenhance"]["provenance"])
        warnings.append(result.warnings)
    assert warnings[0] == warnings[1] and any("objects of the result are not shown" in words for words in warnings[0])
    assert records[0].pop("created_utc") and records[1].pop("created_utc")
    assert records[0] == records[1]
    assert records[0]["result_check"]["level"] == "doubt" and records[0]["input_check"]["findings"]


def test_a_cancelled_run_goes_on_elsewhere(crew: Cluster, source: Path, tmp_path: Path) -> None:
    target, done = tmp_path / "out.zarr", [0]

    def watch(progress: Progress) -> None:
        done[0] = progress.n_done

    stopped = large_images.run(large(source, target, crew), on_progress=watch, is_cancelled=lambda: done[0] >= 3)
    assert not stopped.is_complete and 3 <= stopped.n_done < stopped.n_total
    ended = large_images.run(large(source, target))
    assert ended.is_complete and ended.n_resumed == stopped.n_done
    large_images.run(large(source, tmp_path / "one.zarr"))
    assert pixels_of(target) == pixels_of(tmp_path / "one.zarr")


def test_copies_at_strength_0(crew: Cluster, source: Path, tmp_path: Path) -> None:
    large_images.run(large(source, tmp_path / "out.zarr", crew, strength=0.0))
    large_images.run(large(source, tmp_path / "one.zarr", strength=0.0))
    assert pixels_of(tmp_path / "out.zarr") == pixels_of(tmp_path / "one.zarr")


def test_pixels_without_a_file_cannot_be_shared(crew: Cluster, tmp_path: Path) -> None:
    image = LazyImage(levels=(np.ones((20, 20)),), axes="YX")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="name its file"):
        large_images.run(large(image, tmp_path / "out.zarr", crew))  # type: ignore[arg-type]


# --- a batch -------------------------------------------------------------------------------------


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    folder = tmp_path / "plate"
    folder.mkdir()
    for seed in range(8):
        image = np.random.default_rng(seed).integers(0, 255, (40, 50), dtype=np.uint8)
        write(folder / f"{seed}.tif", image, "YX", dtype="keep")
    (folder / "5.tif").write_bytes(b"II*\0")
    return folder


def test_a_batch_loses_nothing_when_a_worker_is_killed(
    workers: Any, crew: Cluster, plate: Path, tmp_path: Path
) -> None:
    recipe = Recipe(
        steps=(EnhanceRequest(image=None, axes="", filter_id="dog"),), labels=SegmentOptions(min_size_px=3),
        measure=True,
    )  # fmt: skip
    seen: list[str] = []
    result = batch.run(
        BatchRequest(source=plate, target=tmp_path / "out", recipe=recipe, cluster=crew),
        on_progress=killing(workers, 2), on_outcome=lambda outcome: seen.append(outcome.name),
    )  # fmt: skip
    assert seen == [f"{seed}.tif" for seed in range(8)]
    assert (result.n_done, result.n_failed, result.is_complete) == (7, 1, True)
    assert result.outcomes[5].state == "failed" and "5.tif" in result.outcomes[5].error
    here = batch.run(BatchRequest(source=plate, target=tmp_path / "one", recipe=recipe))
    for seed in (0, 3, 7):
        for ending in (".ome.tif", "_labels.ome.tif"):
            a, b = (read(tmp_path / name / f"{seed}{ending}").image for name in ("out", "one"))
            np.testing.assert_array_equal(a, b)
        name = f"{seed}_objects.csv"
        assert (tmp_path / "out" / name).read_text() == (tmp_path / "one" / name).read_text()
    assert result.objects is not None and here.objects is not None
    assert result.objects.read_text() == here.objects.read_text()
    assert max(workers.run(lambda: _batch_cluster.open_once.cache_info()[1]).values()) == 1
    again = batch.run(BatchRequest(source=plate, target=tmp_path / "out", recipe=recipe))
    assert (again.n_skipped, again.n_failed) == (7, 1)
    assert not [path for path in (tmp_path / "out").iterdir() if ".part" in path.name or ".lock" in path.name]


def test_the_guards_say_of_each_file_what_they_say_without_a_cluster(crew: Cluster, tmp_path: Path) -> None:
    plate = tmp_path / "plate"
    plate.mkdir()
    y, x = np.mgrid[:128, :128]
    cells = sum(np.exp(-((y - a) ** 2 + (x - b) ** 2) / 50) for a in range(20, 128, 40) for b in range(20, 128, 40))
    for seed in range(3):
        noise = np.random.default_rng(seed).normal(100, 3, y.shape)
        image = noise + 120 * cells * (seed > 0)  # nothing but noise in the first one
        write(plate / f"{seed}.tif", image.astype(np.uint8), "YX", dtype="keep")
    recipe = Recipe(
        steps=(EnhanceRequest(image=None, axes="", filter_id="n2v2-fluorescence", precision="float32", device="cpu"),)
    )
    there, here = (
        batch.run(BatchRequest(source=plate, target=tmp_path / name, recipe=recipe, cluster=crew_or_none))
        for name, crew_or_none in (("crew", crew), ("one", None))
    )
    assert [one.check for one in there.outcomes] == [one.check for one in here.outcomes] == ["doubt", "fine", "fine"]
    assert [one.warnings for one in there.outcomes] == [one.warnings for one in here.outcomes]
    tables = [(tmp_path / name / "batch_report.csv").read_text().splitlines() for name in ("crew", "one")]
    columns = [[line.split(",")[4] for line in lines] for lines in tables]
    assert columns[0] == columns[1] == ["check", "doubt", "fine", "fine"]
    for seed, level in enumerate(("doubt", "fine", "fine")):
        records = [read(tmp_path / name / f"{seed}.ome.tif").provenance for name in ("crew", "one")]
        assert all(record.pop("created_utc") for record in records)
        assert records[0] == records[1] and records[0]["result_check"]["level"] == level
        assert records[0]["model"] == "n2v2-fluorescence" and records[0]["input_check"]


def test_a_file_takes_the_seconds_of_its_worker_not_those_of_waiting(
    crew: Cluster, plate: Path, tmp_path: Path
) -> None:
    (plate / "5.tif").unlink()
    for path in plate.iterdir():  # large enough to take a moment
        write(path, np.random.default_rng(0).integers(0, 255, (500, 600), dtype=np.uint8), "YX", overwrite=True)
    recipe = Recipe(steps=(EnhanceRequest(image=None, axes="", filter_id="frangi"),))
    begun = time.monotonic()
    result = batch.run(BatchRequest(source=plate, target=tmp_path / "out", recipe=recipe, cluster=crew))
    elapsed = time.monotonic() - begun
    taken = [outcome.seconds for outcome in result.outcomes]
    assert result.n_done == 7 and min(taken) > 0
    assert sum(taken) <= 2 * elapsed, "two workers cannot work for longer than the clock ran"


def test_a_cancelled_batch_ends_files_in_hand(crew: Cluster, plate: Path, tmp_path: Path) -> None:
    recipe = Recipe(steps=(EnhanceRequest(image=None, axes="", filter_id="gamma"),))
    done = [0]

    def watch(progress: Progress) -> None:
        done[0] = progress.n_done

    request = BatchRequest(source=plate, target=tmp_path / "out", recipe=recipe, cluster=crew)
    result = batch.run(request, on_progress=watch, is_cancelled=lambda: done[0] >= 1)
    assert not result.is_complete and 1 <= result.n_done < 8
    assert all(outcome.targets[0].is_file() for outcome in result.outcomes)


def test_processes_of_our_own_do_not_hear_ctrl_c_and_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # what a user sets counts more
    with cluster.connect(Cluster(n_workers=1)) as crew:
        (pid,) = crew.client.run(os.getpid).values()
        os.kill(pid, signal.SIGINT)
        crew.submit("threads", os.getenv, "OMP_NUM_THREADS")
        while (news := crew.next()) is None:
            pass
        assert crew.result_of(news.future) == str(os.cpu_count())
        assert list(crew.client.run(os.getpid).values()) == [pid]


def test_a_worker_of_our_own_that_starts_slowly_again_is_waited_for() -> None:
    """dask gives it up after 15 s, which a busy machine may need; a test that waits so long would be slower still."""
    import dask

    with cluster.connect(Cluster(n_workers=1)) as crew:
        assert dask.utils.parse_timedelta(dask.config.get("distributed.deploy.lost-worker-timeout")) >= 600
        (pid,) = crew.client.run(os.getpid).values()
        os.kill(pid, signal.SIGKILL)
        crew.submit("again", os.getpid)
        while (news := crew.next()) is None:
            pass
        assert crew.result_of(news.future) != pid


# --- what cannot be ------------------------------------------------------------------------------


def test_distributed_that_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(MissingExtraError, match=r"napari-cellenhance\[cluster\]"),
        cluster.connect(Cluster(n_workers=1)),
    ):
        pass


def test_a_scheduler_that_is_not_there_is_said() -> None:
    nowhere = Cluster(scheduler="tcp://127.0.0.1:9", timeout_s=0.3)
    with pytest.raises(ClusterError, match=r"no scheduler answers at tcp://127\.0\.0\.1:9"), cluster.connect(nowhere):
        pass


def test_other_versions_are_refused(plate: Path, tmp_path: Path) -> None:
    ours = cluster.software()
    cluster.refuse_other_software(ours, dict(ours), "worker 1")
    with pytest.raises(ClusterError, match=r"worker 1 has other versions.*torch 1\.0, not "):
        cluster.refuse_other_software(ours, ours | {"torch": "1.0"}, "worker 1")
    recipe = Recipe(steps=(EnhanceRequest(image=None, axes="", filter_id="gamma"),))
    (task, *_) = plan_tasks(plate, tmp_path / "out")
    job = _batch_cluster.Job(recipe, batch.Machine(), "nothing", ours | {"numpy": "1.0"})
    told = _batch_cluster.do_file(job, task)
    assert isinstance(told, _batch_cluster.NoRecipe) and "numpy" in str(told.error)


def test_other_weights_are_refused(plate: Path, tmp_path: Path) -> None:
    recipe = Recipe(steps=(EnhanceRequest(image=None, axes="", filter_id="gamma"),))
    (task, *_) = plan_tasks(plate, tmp_path / "out")
    told = _batch_cluster.do_file(_batch_cluster.Job(recipe, batch.Machine(), "nothing", cluster.software()), task)
    assert isinstance(told, _batch_cluster.NoRecipe) and "other weights" in str(told.error)


@pytest.mark.parametrize("settings", [{}, {"scheduler": "tcp://a:1", "n_workers": 2}, {"n_workers": -1}])
def test_a_cluster_is_one_of_two(settings: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match="expected"):
        Cluster(**settings)


def test_gpus_are_shared_out_by_the_number_of_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    import distributed
    import torch

    assert [cluster.place_of(name) for name in (3, "SLURMCluster-12", "anna")] == [3, 12, 0]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(distributed, "get_worker", lambda: type("Worker", (), {"name": 3}))
    assert cluster.device_here("auto") == "cuda:1"
    assert cluster.device_here("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert cluster.device_here("auto") == "auto"
