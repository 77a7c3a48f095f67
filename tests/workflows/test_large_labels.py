"""Objects of images larger than memory: those of the whole plane, whoever finds them, and on again after any end."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_cellenhance.core import object_pieces
from napari_cellenhance.core.errors import ParameterError, TargetExistsError, WriteError
from napari_cellenhance.core.object_pieces import ObjectOptions
from napari_cellenhance.core.postprocess import label_mask, segment
from napari_cellenhance.io.ome_zarr import ZarrImage, create_store, open_store
from napari_cellenhance.workflows import large_images, large_labels, segment_model
from napari_cellenhance.workflows._large_label_work import pieces_of
from napari_cellenhance.workflows._segment_filter import SegmentFilter
from napari_cellenhance.workflows.large_images import LargeRequest, journal_of, partial_of
from napari_cellenhance.workflows.large_labels import LabelRule, LargeLabelsRequest
from napari_cellenhance.workflows.progress import Progress
from napari_cellenhance.workflows.requests import EnhanceRequest

SIDE = 64


@pytest.fixture
def image() -> NDArray[np.float32]:
    """Two planes of blobs, an enhanced image in [0, 1]."""
    noise = np.random.default_rng(5).normal(size=(2, 200, 170))
    smooth = np.stack([gaussian_filter(plane, 4) for plane in noise])
    return np.clip((smooth - smooth.min()) / np.ptp(smooth), 0, 1).astype(np.float32)


@pytest.fixture
def source(tmp_path: Path, image: NDArray[np.float32]) -> Path:
    return as_zarr(tmp_path / "enhanced.ome.zarr", image, "ZYX")


def as_zarr(folder: Path, image: NDArray[Any], axes: str) -> Path:
    store = create_store(
        folder, [image.shape], axes, dtype=image.dtype, chunk_px=SIDE, name="e", pixel_size_um={"Y": 0.5, "X": 0.5}
    )
    store.levels[0][...] = image
    store.finish({"created_utc": "2026-01-01T00:00:00+00:00"})
    return folder


def asked(source: Path, target: Path, **settings: Any) -> LargeLabelsRequest:
    return LargeLabelsRequest(source=source, target=target, **{"chunk_px": SIDE, "memory_limit_mb": 0, **settings})


def in_memory(image: NDArray[np.float32], method: Any = "otsu", value: float = 0.5, **how: Any) -> NDArray[np.uint32]:
    labels, last = np.zeros(image.shape, np.uint32), 0
    for z, plane in enumerate(image):
        found = segment(plane, method, value, **how)
        labels[z] = np.where(found > 0, found + np.uint32(last), 0)
        last += int(found.max(initial=0))
    return labels


def whole(folder: Path) -> NDArray[Any]:
    pixels = open_store(folder).levels[0]
    return pixels[(slice(None),) * pixels.ndim]


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*")) if path.is_file() and path.parent != folder
    }  # fmt: skip


def stop_after(n: int) -> tuple[Callable[[Progress], None], Callable[[], bool]]:
    done = [0]

    def watch(progress: Progress) -> None:
        done[0] = progress.n_done

    return watch, lambda: done[0] >= n


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize(("method", "value"), [("otsu", 0.5), ("manual", 0.6)])
def test_labels_are_those_of_the_plane_in_memory(
    source: Path, tmp_path: Path, image: NDArray[np.float32], split: bool, method: Any, value: float
) -> None:
    notes: list[str] = []
    options = ObjectOptions(split_touching=split, min_size_px=20)
    request = asked(source, tmp_path / "l.ome.zarr", rule=LabelRule(method=method, value=value), objects=options)
    assert request.block_px == SIDE  # 12 blocks in each plane
    result = large_labels.run(request, on_note=notes.append)
    expected = in_memory(image, method, value, split_touching=split, min_size_px=20)
    np.testing.assert_array_equal(whole(tmp_path / "l.ome.zarr"), expected)
    assert result.is_complete and result.n_done == result.n_total and "MB of memory (limit 0 MB)" in notes[0]
    made = open_store(tmp_path / "l.ome.zarr")
    assert made.pixel_size_um == {"Y": 0.5, "X": 0.5} and made.levels[0].dtype == np.uint32
    assert made.provenance is not None and made.provenance["n_objects"] == expected.max()
    np.testing.assert_array_equal(made.levels[1][:, :, :], expected[:, ::2, ::2])  # ids, no means of them
    assert zarr.open_group(tmp_path / "l.ome.zarr").attrs["ome"]["image-label"] == {"version": "0.5"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["enhanced.ome.zarr", "l.ome.zarr"]


def test_whole_numbers_stand_for_0_to_1(tmp_path: Path, image: NDArray[np.float32]) -> None:
    eight = np.rint(image * 255).astype(np.uint8)
    source = as_zarr(tmp_path / "e.zarr", eight, "ZYX")
    large_labels.run(asked(source, tmp_path / "l.zarr", rule=LabelRule(method="manual", value=0.6)))
    np.testing.assert_array_equal(whole(tmp_path / "l.zarr"), in_memory(eight, "manual", 0.6 * 255))


def test_pixels_that_are_no_numbers_are_ground(tmp_path: Path, image: NDArray[np.float32]) -> None:
    holed = image.copy()
    holed[0, 60:70, 60:70] = np.nan
    source = as_zarr(tmp_path / "e.zarr", holed, "ZYX")
    large_labels.run(asked(source, tmp_path / "l.zarr"))
    np.testing.assert_array_equal(whole(tmp_path / "l.zarr"), in_memory(np.nan_to_num(holed)))


def test_a_stopped_run_goes_on_and_ends_the_same(source: Path, tmp_path: Path) -> None:
    request = asked(source, tmp_path / "l.ome.zarr")
    for n in (5, 17, 30):  # among pieces, among labels, in the second plane
        watch, is_enough = stop_after(n)
        stopped = large_labels.run(request, on_progress=watch, is_cancelled=is_enough)
        assert (stopped.is_complete, stopped.n_done) == (False, n)
        assert partial_of(request.target).exists() and not Path(request.target).exists()
    notes: list[str] = []
    assert large_labels.run(request, on_note=notes.append).n_resumed == 30
    assert "30 of" in notes[1]
    large_labels.run(asked(source, tmp_path / "at_once.ome.zarr"))
    assert files_of(tmp_path / "l.ome.zarr") == files_of(tmp_path / "at_once.ome.zarr")
    with pytest.raises(TargetExistsError, match="exists already"):
        large_labels.run(request)


KILLED = """
import os, signal, sys
from napari_cellenhance.io import run_journal
from napari_cellenhance.workflows import large_labels

add, n = run_journal.RunJournal.add, 0

def add_until_killed(self, entry):
    global n
    n += "done" in entry
    if n == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    add(self, entry)

run_journal.RunJournal.add = add_until_killed
large_labels.run(large_labels.LargeLabelsRequest(
    source=sys.argv[1], target=sys.argv[2], chunk_px=64, memory_limit_mb=0))
"""


def test_a_killed_run_goes_on_and_ends_bit_by_bit_the_same(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "l.ome.zarr"
    ended = subprocess.run([sys.executable, "-c", KILLED, source, target, "20"], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert pieces_of(target).exists() and journal_of(target).exists()
    assert large_labels.run(asked(source, target)).n_resumed == 19
    large_labels.run(asked(source, tmp_path / "at_once.ome.zarr"))
    assert files_of(target) == files_of(tmp_path / "at_once.ome.zarr")


def test_another_rule_does_not_go_on(source: Path, tmp_path: Path) -> None:
    watch, is_enough = stop_after(3)
    target = tmp_path / "l.ome.zarr"
    large_labels.run(asked(source, target), on_progress=watch, is_cancelled=is_enough)
    other = {"rule": LabelRule(method="manual")}
    with pytest.raises(TargetExistsError, match="other: rule"):
        large_labels.run(asked(source, target, **other))
    assert large_labels.run(asked(source, target, overwrite=True, **other)).is_complete


def test_a_full_disk_is_told_and_nothing_is_lost(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, n_written = ZarrImage.write, [0]

    def full(self: ZarrImage, level: int, corner: Any, block: NDArray[Any]) -> None:
        n_written[0] += 1
        if n_written[0] == 15:
            raise OSError(28, "No space left on device")
        write(self, level, corner, block)

    with monkeypatch.context() as patch:
        patch.setattr(ZarrImage, "write", full)
        with pytest.raises(WriteError, match=r"disk is full; free some space.*none of the 14 finished steps is lost"):
            large_labels.run(asked(source, tmp_path / "l.ome.zarr"))
    assert large_labels.run(asked(source, tmp_path / "l.ome.zarr")).n_resumed == 14


def test_clusters_that_reach_far_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_pieces, "CONTEXT_PX", 8)
    monkeypatch.setattr(large_labels, "_LARGEST_BLOCK_PX", SIDE)
    bar = np.zeros((100, 170), np.float32)
    bar[60:70] = 1
    source = as_zarr(tmp_path / "bar.zarr", bar, "YX")
    result = large_labels.run(asked(source, tmp_path / "l.ome.zarr", rule=LabelRule(method="manual")))
    assert "1 objects belong to clusters that reach farther" in result.warnings[0]
    np.testing.assert_array_equal(whole(tmp_path / "l.ome.zarr"), bar)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"target": "labels.tif"}, "name ending in .ome.zarr"),
        ({"chunk_px": 4}, "16 or more"),
        ({"rule": ("li", 0.5)}, "Li's method needs all"),
        ({"rule": ("manual", float("nan"))}, "finite"),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, settings: dict[str, Any], match: str) -> None:
    def make(rule: Any = ("otsu", 0.5), **more: Any) -> LargeLabelsRequest:
        chosen = LabelRule(method=rule[0], value=rule[1])
        return LargeLabelsRequest(**{"source": "a.zarr", "target": "l.zarr", "rule": chosen, **more})

    with pytest.raises(ParameterError, match=match):
        make(**settings)


# --- models that segment -------------------------------------------------------------------------


def classes_of(source: Path, target: Path, **how: Any) -> None:
    filter_id = SegmentFilter(model_id="aep-nuclei", **how).filter_id
    settings = EnhanceRequest(
        image=None, axes="", filter_id=filter_id, channels="grey", tile_px=SIDE, device="cpu", precision="float32"
    )
    large_images.run(LargeRequest(source=source, target=target, settings=settings, dtype="uint8", chunk_px=SIDE))


def test_classes_and_objects_of_a_model_are_those_in_memory(tmp_path: Path, cells: Any) -> None:
    picture = np.asarray(cells.image)[:200, :170]
    source = as_zarr(tmp_path / "raw.zarr", picture, "YX")
    classes_of(source, tmp_path / "classes.ome.zarr")
    request = segment_model.SegmentModelRequest(
        image=picture, axes="YX", model_id="aep-nuclei", outputs=frozenset({"classes", "instances"}), device="cpu",
        precision="float32",
    )  # fmt: skip
    expected = segment_model.run(request)
    found = whole(tmp_path / "classes.ome.zarr")
    assert found.dtype == np.uint8 and expected.instances is not None
    assert (found != expected.classes).mean() < 1e-3  # rounding, where two classes are as probable
    rule = LabelRule(method="class", value=2)
    options = ObjectOptions(fills_holes=True)
    large_labels.run(asked(tmp_path / "classes.ome.zarr", tmp_path / "l.zarr", rule=rule, objects=options))
    np.testing.assert_array_equal(whole(tmp_path / "l.zarr"), label_mask(found == 2))
    assert expected.instances.max() > 0
    record = open_store(tmp_path / "classes.ome.zarr").provenance
    assert record is not None and (record["step"], record["model"]) == ("segment", "aep-nuclei")
    classes_of(source, tmp_path / "mask.zarr", object_value=2, threshold=0.5)
    assert set(np.unique(whole(tmp_path / "mask.zarr"))) == {0, 1}
