"""Images larger than memory: by region in, chunk by chunk out, and on again after any end."""

from __future__ import annotations

import errno
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray

from napari_cellenhance.core.errors import (
    AxesError,
    BusyError,
    ImageError,
    ParameterError,
    TargetExistsError,
    WriteError,
)
from napari_cellenhance.core.recipes.classical import ClassicalEnhancer
from napari_cellenhance.io import images, tiled_tiff
from napari_cellenhance.io.lazy_images import LazyImage, LazyPixels
from napari_cellenhance.io.ome_zarr import ZarrImage, create_store, open_store
from napari_cellenhance.workflows import _large_source, _large_target, catalog, enhance, large_images
from napari_cellenhance.workflows._large_target import LargeTarget, lock_of
from napari_cellenhance.workflows.catalog import OpenedFilter
from napari_cellenhance.workflows.large_images import LargeRequest, LargeResult, journal_of, partial_of
from napari_cellenhance.workflows.progress import Progress
from napari_cellenhance.workflows.requests import BlobOptions, EnhanceRequest, StrengthMap

SIZES = {"Y": 0.5, "X": 0.25}


@pytest.fixture
def image(rng: np.random.Generator) -> NDArray[np.uint16]:
    return rng.normal(500, 60, (2, 150, 170)).astype(np.uint16)


@pytest.fixture
def source(tmp_path: Path, image: NDArray[np.uint16]) -> Path:
    return as_zarr(tmp_path / "cells.ome.zarr", image, "CYX", pixel_size_um=SIZES, channel_names=("DNA", "Actin"))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out.ome.zarr"


def as_zarr(folder: Path, image: NDArray[Any], axes: str, **settings: Any) -> Path:
    store = create_store(folder, [image.shape], axes, dtype=image.dtype, chunk_px=64, name="cells", **settings)
    store.levels[0][...] = image
    store.finish({})
    return folder


def ask(**settings: Any) -> EnhanceRequest:
    return EnhanceRequest(image=None, axes="", **{"filter_id": "gaussian", "tile_px": 64, **settings})


def request(source: Path, target: Path, **settings: Any) -> LargeRequest:
    return LargeRequest(source=source, target=target, **{"settings": ask(), "chunk_px": 64, **settings})


def whole(folder: Path) -> NDArray[Any]:
    pixels = open_store(folder).levels[0]
    return pixels[(slice(None),) * pixels.ndim]


def files_of(folder: Path) -> dict[str, Any]:
    """All files of a store with what they hold; when it was made is left out."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            found[name] = path.read_bytes()
            if name == "zarr.json":
                found[name] = json.loads(found[name])
                found[name]["attributes"]["cellenhance"]["provenance"].pop("created_utc")
                found[name]["attributes"]["ome"]["multiscales"][0].pop("name")
    return found


def stop_after(n: int) -> tuple[Callable[[Progress], None], Callable[[], bool]]:
    done = [0]

    def watch(progress: Progress) -> None:
        done[0] = progress.n_done

    return watch, lambda: done[0] >= n


# --- the same pixels as everywhere ---------------------------------------------------------------


def test_the_result_is_that_of_an_image_in_memory(source: Path, target: Path, image: NDArray[np.uint16]) -> None:
    notes: list[str] = []
    seen: list[Progress] = []
    result = large_images.run(request(source, target), on_note=notes.append, on_progress=seen.append)
    assert (result.is_complete, result.n_done, result.n_total) == (True, 22, 22)
    expected = enhance.run(EnhanceRequest(image=image, axes="CYX", filter_id="gaussian", tile_px=64)).image
    np.testing.assert_array_equal(whole(target), expected)
    made = open_store(target)
    assert (made.axes, made.pixel_size_um, made.channel_names) == ("CYX", SIZES, ("DNA", "Actin"))
    assert made.provenance is not None and made.provenance["filter"] == "gaussian"
    assert [level.shape for level in made.levels] == [(2, 150, 170), (2, 75, 85), (2, 38, 43)]
    assert made.levels[2][0, 0, 0] == pytest.approx(expected[0, :4, :4].mean(), rel=1e-6)
    assert "MB of memory (limit 2000 MB)" in notes[0]
    assert seen[-1].n_done == 22 and seen[-1].eta_s == 0
    assert not partial_of(target).exists() and not journal_of(target).exists()


def test_an_image_that_is_open_already_gives_the_same_and_a_stopped_run_goes_on(
    source: Path, target: Path, image: NDArray[np.uint16], tmp_path: Path
) -> None:
    """As a window holds it: pixels without a file, here in rows of 50."""
    pixels = da.from_array(image, chunks=(1, 50, 170))
    opened = LazyImage(
        levels=(LazyPixels(pixels),), axes="CYX", pixel_size_um=SIZES, channel_names=("DNA", "Actin"),
        identity={"n": 1}, provenance={},
    )  # fmt: skip
    asked = LargeRequest(source=opened, target=target, settings=ask(source_name="cells.ome.zarr"), chunk_px=64)
    watch, is_enough = stop_after(7)
    assert not large_images.run(asked, on_progress=watch, is_cancelled=is_enough).is_complete
    assert large_images.run(asked).n_resumed == 7
    from_file = tmp_path / "from file.ome.zarr"
    large_images.run(request(source, from_file))
    assert files_of(target) == files_of(from_file)


@pytest.mark.parametrize("statistics", ["plane", "stack"])
@pytest.mark.parametrize("filter_id", ["log", "percentile-stretch"])
def test_filters_with_statistics(tmp_path: Path, target: Path, statistics: Any, filter_id: str) -> None:
    rng = np.random.default_rng(1)
    volume = rng.normal(0, 1, (3, 70, 90)).astype(np.float32) * np.array([1, 2, 3], np.float32)[:, None, None]
    source = as_zarr(tmp_path / "v.zarr", volume, "ZYX")
    settings = ask(filter_id=filter_id, statistics=statistics)
    large_images.run(request(source, target, settings=settings))
    expected = enhance.run(
        EnhanceRequest(image=volume, axes="ZYX", filter_id=filter_id, tile_px=64, statistics=statistics)
    ).image
    np.testing.assert_array_equal(whole(target), expected)


def test_a_network(tmp_path: Path, target: Path, cells: Any) -> None:
    source = as_zarr(tmp_path / "n.zarr", cells.image, "YX")
    large_images.run(request(source, target, settings=ask(filter_id="nunet", device="cpu", precision="float32")))
    expected = enhance.run(
        EnhanceRequest(image=cells.image, axes="YX", filter_id="nunet", device="cpu", precision="float32")
    ).image
    np.testing.assert_allclose(whole(target), expected, atol=1 / 255)


@pytest.mark.parametrize("channels", ["grey", (2,), (1, 0)])
def test_colours_and_chosen_channels(tmp_path: Path, target: Path, channels: Any) -> None:
    colour = np.random.default_rng(2).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    source = tmp_path / "rgb.tif"
    tifffile.imwrite(source, colour, photometric="rgb", compression="zlib", tile=(16, 16))
    large_images.run(request(source, target, settings=ask(channels=channels)))
    expected = enhance.run(
        EnhanceRequest(image=colour, axes="YXS", filter_id="gaussian", channels=channels, tile_px=64)
    )
    found = whole(target)
    np.testing.assert_array_equal(found, np.moveaxis(expected.image, -1, 0) if found.ndim == 3 else expected.image)


def test_strength_0_copies_the_pixels(source: Path, target: Path, image: NDArray[np.uint16]) -> None:
    large_images.run(request(source, target, settings=ask(strength=0.0)))
    np.testing.assert_array_equal(whole(target), image)
    assert whole(target).dtype == np.uint16


def test_pixels_that_are_no_numbers_and_flat_planes(tmp_path: Path, target: Path) -> None:
    image = np.random.default_rng(3).normal(size=(2, 80, 70)).astype(np.float32)
    image[0, 3, 4], image[0, 70, 66], image[1] = np.nan, np.inf, 5.0
    source = as_zarr(tmp_path / "bad.zarr", image, "ZYX")
    result = large_images.run(request(source, target))
    expected = enhance.run(EnhanceRequest(image=image, axes="ZYX", filter_id="gaussian", tile_px=64))
    np.testing.assert_array_equal(whole(target), expected.image)
    assert any("2 pixels" in text for text in result.warnings) and any("1 planes" in text for text in result.warnings)


def test_integers_on_request(source: Path, target: Path) -> None:
    large_images.run(request(source, target, dtype="uint8", version="0.4"))
    found = whole(target)
    large_images.run(request(source, target, overwrite=True))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.rint(whole(target).astype(np.float64) * 255))


# --- one tiled file ------------------------------------------------------------------------------


def test_a_tiled_tiff_is_the_same_image(
    source: Path, target: Path, tmp_path: Path, image: NDArray[np.uint16], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "out.ome.tif"
    sizes: list[int] = []
    read_zarr = ZarrImage.read

    def watched(self: ZarrImage, level: int, place: Any) -> NDArray[Any]:
        sizes.append(read_zarr(self, level, place).size)
        return read_zarr(self, level, place)

    monkeypatch.setattr(tiled_tiff, "_TILE_PX", 64)
    monkeypatch.setattr(ZarrImage, "read", watched)
    large_images.run(request(source, file))
    assert max(sizes[-10:]) <= 64 * 64  # no plane is held to be written
    monkeypatch.undo()
    large_images.run(request(source, target))
    read = images.read(file)
    np.testing.assert_array_equal(read.image, whole(target))
    assert (read.axes, read.pixel_size_um, read.channel_names) == ("CYX", SIZES, ("DNA", "Actin"))
    assert read.provenance is not None and read.provenance["filter"] == "gaussian"
    with tifffile.TiffFile(file) as tif:
        assert not tif.is_bigtiff and tif.pages.first.tile == (64, 64)
        levels = tif.series[0].levels
        for level, expected in zip(levels, open_store(target).levels, strict=True):
            np.testing.assert_array_equal(level.asarray(), expected[:, :, :])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.ome.zarr", "out.ome.tif", "out.ome.zarr"]


def test_from_4_gigabytes_on_it_is_a_bigtiff(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiled_tiff, "BIGTIFF_FROM_BYTES", 2 * 150 * 170 * 4)
    large_images.run(request(source, tmp_path / "out.ome.tif"))
    with tifffile.TiffFile(tmp_path / "out.ome.tif") as tif:
        assert tif.is_bigtiff


@pytest.mark.parametrize("where", ["while it is written", "before the store is cleared"])
def test_a_tiff_that_was_cut_off_is_made_of_the_blocks_that_are_there(
    source: Path, tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "out.ome.tif"

    def killed(*given: Any, **more: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if where == "while it is written":
            patch.setattr(tiled_tiff, "_is_whole", killed)
        else:
            patch.setattr(_large_target, "_clear", killed)
        with pytest.raises(KeyboardInterrupt):
            large_images.run(request(source, file))
    assert file.exists() is (where != "while it is written")
    if not file.exists():
        (tmp_path / ".out.ome.tif.part").write_bytes(b"II*")  # as a kill leaves it
    monkeypatch.setattr(ClassicalEnhancer, "encode", killed)  # nothing is computed again
    result = large_images.run(request(source, file))
    assert result.is_complete
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.ome.zarr", "out.ome.tif"]


# --- bounded memory ------------------------------------------------------------------------------


def test_a_plane_is_never_read_or_held_as_a_whole(
    source: Path, target: Path, image: NDArray[np.uint16], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    read = LazyPixels.__getitem__

    def watched(self: LazyPixels, index: Any) -> NDArray[Any]:
        found = read(self, index)
        sizes.append(found.size)
        return found

    monkeypatch.setattr(LazyPixels, "__getitem__", watched)
    monkeypatch.setattr(_large_source, "READ_PX", 64)
    large_images.run(request(source, target, settings=ask(memory_limit_mb=0)))
    assert max(sizes) == 64 * 64
    monkeypatch.undo()
    expected = enhance.run(EnhanceRequest(image=image, axes="CYX", filter_id="gaussian", tile_px=64)).image
    np.testing.assert_array_equal(whole(target), expected)


def test_planes_in_a_file_are_planes_like_others(tmp_path: Path) -> None:
    store = _large_source.PlaneStore(tmp_path, 0)
    with store.planes((30, 40), 2) as planes:
        assert [plane.shape for plane in planes] == [(30, 40)] * 2
        planes[1][...] = 7
        store.let_go()
        assert planes[1].min() == 7 and planes[0].max() == 0
        assert list(tmp_path.iterdir()) == []  # without a name: gone however the program ends


def test_short_of_memory_tiles_become_smaller_and_finished_blocks_stay(
    source: Path, target: Path, image: NDArray[np.uint16], monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, sides = ClassicalEnhancer.encode, []

    def short(self: ClassicalEnhancer, plane: Any, region: Any, calibration: Any) -> Any:
        sides.append(max(region.shape))
        if len(sides) > 3 and max(region.shape) > 32:
            raise MemoryError
        return encode(self, plane, region, calibration)

    monkeypatch.setattr(ClassicalEnhancer, "encode", short)
    result = large_images.run(request(source, target))
    assert sides[:4] == [64, 64, 64, 64] and max(sides[4:]) == 32
    assert result.is_complete and any("tiles of 32 px" in text for text in result.warnings)
    monkeypatch.undo()
    expected = enhance.run(EnhanceRequest(image=image, axes="CYX", filter_id="gaussian", tile_px=64)).image
    np.testing.assert_allclose(whole(target), expected, atol=1e-6)


def test_graphics_memory_that_never_suffices_falls_back_to_the_cpu(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that pretends to be a GPU, and is always short of memory."""
    encode, opening = ClassicalEnhancer.encode, catalog.open_enhancer
    places: list[str] = []

    def pretending(*given: Any, **more: Any) -> Any:
        opened = opening(*given, **more)
        return replace(opened, choice=replace(opened.choice, device="cuda"))

    def on_cpu(self: OpenedFilter, reason: str) -> OpenedFilter:
        places.append(reason)
        return replace(self, choice=replace(self.choice, device="cpu", note=reason))

    def short(self: ClassicalEnhancer, plane: Any, region: Any, calibration: Any) -> Any:
        if not places:
            raise RuntimeError("CUDA out of memory")
        return encode(self, plane, region, calibration)

    monkeypatch.setattr(catalog, "open_enhancer", pretending)
    monkeypatch.setattr(OpenedFilter, "on_cpu", on_cpu)
    monkeypatch.setattr(ClassicalEnhancer, "encode", short)
    result = large_images.run(request(source, target))
    assert result.is_complete and len(places) == 1
    halved = [text for text in result.warnings if "tiles of" in text]
    assert len(halved) >= 1 and any("graphics memory ran out" in text for text in result.warnings)


def test_two_runs_do_not_write_the_same_result(source: Path, target: Path) -> None:
    seen: list[str] = []

    def again(progress: Progress) -> None:
        if progress.n_done == 3 and not seen:
            with pytest.raises(BusyError, match=r"another run \(process \d+ on ") as caught:
                large_images.run(request(source, target))
            seen.append(str(caught.value))

    large_images.run(request(source, target), on_progress=again)
    assert seen and not lock_of(target).exists()


# --- going on ------------------------------------------------------------------------------------


@pytest.mark.parametrize("statistics", ["plane", "stack"])
def test_a_stopped_run_goes_on_and_ends_the_same(source: Path, target: Path, tmp_path: Path, statistics: Any) -> None:
    asked = request(source, target, settings=ask(filter_id="log", statistics=statistics))
    watch, is_cancelled = stop_after(8)
    stopped = large_images.run(asked, on_progress=watch, is_cancelled=is_cancelled)
    assert (stopped.is_complete, stopped.n_done) == (False, 8)
    assert not target.exists()
    with pytest.raises(ImageError, match="not finished"):
        open_store(partial_of(target))
    notes: list[str] = []
    ended = large_images.run(asked, on_note=notes.append)
    assert (ended.is_complete, ended.n_resumed) == (True, 8)
    assert "8 of 22 blocks" in notes[1]
    large_images.run(request(source, tmp_path / "at_once.ome.zarr", settings=asked.settings))
    assert files_of(target) == files_of(tmp_path / "at_once.ome.zarr")


KILLED = """
import os, signal, sys
from napari_cellenhance.io import run_journal
from napari_cellenhance.workflows import large_images
from napari_cellenhance.workflows.requests import EnhanceRequest

add, n = run_journal.RunJournal.add, 0

def add_until_killed(self, entry):
    global n
    n += "done" in entry
    if n == int(sys.argv[3]):
        self._stream.write(b'{"done":[0,')  # half a line, as a crash may leave it
        self._stream.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    add(self, entry)

run_journal.RunJournal.add = add_until_killed
large_images.run(large_images.LargeRequest(
    source=sys.argv[1], target=sys.argv[2], chunk_px=64,
    settings=EnhanceRequest(image=None, axes="", filter_id="gaussian", tile_px=64),
))
"""


def test_a_killed_run_goes_on_and_ends_bit_by_bit_the_same(source: Path, target: Path, tmp_path: Path) -> None:
    for n in (6, 15):  # in the full image, and, the second time, in the pyramid
        ended = subprocess.run([sys.executable, "-c", KILLED, source, target, str(n)], capture_output=True, check=False)
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert partial_of(target).exists() and not target.exists()
    result = large_images.run(request(source, target))
    assert (result.is_complete, result.n_resumed) == (True, 19)
    large_images.run(request(source, tmp_path / "at_once.ome.zarr"))
    assert files_of(target) == files_of(tmp_path / "at_once.ome.zarr")


def test_a_full_disk_is_told_and_nothing_is_lost(
    source: Path, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, n_written = ZarrImage.write, [0]

    def full(self: ZarrImage, level: int, corner: Any, block: NDArray[Any]) -> None:
        n_written[0] += 1
        if n_written[0] == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, level, corner, block)

    monkeypatch.setattr(ZarrImage, "write", full)
    with pytest.raises(WriteError, match=r"disk is full; free some space.*none of the 4 finished blocks is lost"):
        large_images.run(request(source, target))
    assert not target.exists()
    assert large_images.run(request(source, target)).n_resumed == 4
    large_images.run(request(source, tmp_path / "at_once.ome.zarr"))
    assert files_of(target) == files_of(tmp_path / "at_once.ome.zarr")


def test_no_room_for_a_plane_is_told(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, n_bytes: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_large_source, "_reserve", full)
    with pytest.raises(WriteError, match="disk is full"):
        large_images.run(request(source, target, settings=ask(memory_limit_mb=0)))


def test_killed_between_the_name_and_the_end(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(self: Path, missing_ok: bool = False) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        # The first one clears the way for a new journal; only the last one is met here.
        patch.setattr(LargeTarget, "open", _open_then(LargeTarget.open, patch, killed))
        with pytest.raises(KeyboardInterrupt):
            large_images.run(request(source, target))
    assert target.exists() and journal_of(target).exists()
    assert large_images.run(request(source, target)) == LargeResult(
        target=target, is_complete=True, n_done=0, n_total=0
    )
    assert not journal_of(target).exists()


def test_a_journal_alone_does_not_make_an_older_result_the_new_one(source: Path, target: Path) -> None:
    large_images.run(request(source, target))
    provenance = open_store(target).provenance
    assert provenance is not None
    ZarrImage(target, zarr.open_group(target), ()).finish(provenance | {"created_utc": "2020-01-01T00:00:00+00:00"})
    watch, is_cancelled = stop_after(3)
    asked = request(source, target, settings=ask(strength=4.0), overwrite=True)
    large_images.run(asked, on_progress=watch, is_cancelled=is_cancelled)
    shutil.rmtree(partial_of(target))
    assert large_images.run(asked).n_total == 22
    made = open_store(target).provenance
    assert made is not None and made["strength"] == 4.0


def _open_then(open_target: Any, patch: pytest.MonkeyPatch, then: Any) -> Any:
    unlink = Path.__dict__["unlink"]

    def opened(*given: Any) -> Any:
        patch.undo()
        found = open_target(*given)
        patch.setattr(Path, "unlink", then)
        return found

    assert unlink is then
    return opened


# --- whose result is it --------------------------------------------------------------------------


def test_another_run_does_not_go_on(source: Path, target: Path, image: NDArray[np.uint16]) -> None:
    watch, is_cancelled = stop_after(3)
    large_images.run(request(source, target), on_progress=watch, is_cancelled=is_cancelled)
    with pytest.raises(TargetExistsError, match=r"other: strength"):
        large_images.run(request(source, target, settings=ask(strength=5.0)))
    changed = create_store(source.with_name("x.zarr"), [image.shape], "CYX", dtype="uint16", chunk_px=64, name="x")
    changed.finish({})
    with pytest.raises(TargetExistsError, match=r"source name.*pixels"):
        large_images.run(request(source.with_name("x.zarr"), target))
    result = large_images.run(request(source, target, settings=ask(strength=5.0), overwrite=True))
    assert (result.is_complete, result.n_resumed) == (True, 0)


def test_a_finished_result_is_replaced_only_on_request(source: Path, target: Path) -> None:
    large_images.run(request(source, target))
    before = whole(target)
    with pytest.raises(TargetExistsError, match="exists already"):
        large_images.run(request(source, target, settings=ask(strength=4.0)))
    large_images.run(request(source, target, settings=ask(strength=4.0), overwrite=True))
    assert not np.array_equal(whole(target), before)
    assert sorted(path.name for path in target.parent.iterdir()) == ["cells.ome.zarr", "out.ome.zarr"]


def test_another_memory_limit_goes_on_with_a_warning(source: Path, target: Path) -> None:
    watch, is_cancelled = stop_after(3)
    large_images.run(request(source, target), on_progress=watch, is_cancelled=is_cancelled)
    result = large_images.run(request(source, target, settings=ask(memory_limit_mb=500)))
    assert result.n_resumed == 3
    assert any("another memory limit" in text for text in result.warnings)


# --- what cannot be ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"target": "out.png"}, "ending in .ome.zarr or .ome.tif"),
        ({"chunk_px": 4}, "16 or more"),
        ({"dtype": "int8"}, "expected float32"),
        ({"settings": ask(strength="auto")}, "give a number"),
        ({"settings": ask(blobs=BlobOptions())}, "whole image in memory"),
        ({"settings": ask(strength_map=StrengthMap(values=np.ones((2, 2))))}, "whole image in memory"),
    ],
)
def test_what_a_large_image_cannot_have_is_said(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ParameterError, match=match):
        LargeRequest(**{"source": "a.zarr", "target": "b.zarr", "settings": ask(), **settings})


def test_places_that_do_not_fit_are_said(tmp_path: Path, source: Path) -> None:
    with pytest.raises(WriteError, match="there is no folder"):
        large_images.run(request(source, tmp_path / "no" / "out.zarr"))
    with pytest.raises(ParameterError, match="replace the original"):
        large_images.run(request(source, source))
    with pytest.raises(AxesError, match="name 2 dimensions"):
        large_images.run(request(source, tmp_path / "out.zarr", settings=EnhanceRequest(image=None, axes="YX")))
    assert not partial_of(tmp_path / "out.zarr").exists()
