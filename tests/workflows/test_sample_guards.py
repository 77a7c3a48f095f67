"""Guards on windows of large results, and on each file of a batch: in the record, the report, and the warnings."""

from __future__ import annotations

import dataclasses
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_cellenhance.core.tiling import Region
from napari_cellenhance.io.images import read, read_provenance, write
from napari_cellenhance.io.lazy_images import open_lazily
from napari_cellenhance.workflows import _batch_steps, batch, large_images
from napari_cellenhance.workflows._batch_checks import checked
from napari_cellenhance.workflows._batch_report import REPORT
from napari_cellenhance.workflows._batch_steps import Made
from napari_cellenhance.workflows.batch import BatchRequest
from napari_cellenhance.workflows.batch_recipe import Recipe, step_for_model
from napari_cellenhance.workflows.large_images import LargeRequest
from napari_cellenhance.workflows.requests import EnhanceRequest
from napari_cellenhance.workflows.sample_guards import N_WINDOWS, SampleGuards, places
from napari_cellenhance.workflows.segment_model import SegmentModelRequest

SIDE = 256


def _clean(n_removed: int = 0, seed: int = 0) -> NDArray[np.float64]:
    y, x = np.mgrid[:SIDE, :SIDE]
    centres = [(32 + 64 * i, 32 + 64 * j) for i in range(4) for j in range(4)]
    field = np.zeros((SIDE, SIDE), bool)
    for cy, cx in centres[n_removed:]:
        field |= np.hypot(y - cy - seed, x - cx) < 9
    return 50 + 200 * gaussian_filter(field.astype(float), 1.0)


def _noisy(seed: int = 0) -> NDArray[np.uint16]:
    return np.random.default_rng(seed).poisson(_clean()).astype(np.uint16)


# --- windows ---------------------------------------------------------------------------------------


def test_windows_are_few_lie_inside_and_are_spread() -> None:
    assert places((1, 1, 1, 300, 400)) == [(0, 0, 0, Region(0, 300, 0, 400))]
    assert len(places((2, 1, 3, 512, 512))) == 6, "every plane of a short stack"
    wide = places((1, 1, 1, 40_000, 30_000))
    assert N_WINDOWS - 2 <= len(wide) <= N_WINDOWS and len({one[3] for one in wide}) == len(wide)
    assert all(window.y1 <= 40_000 and window.x1 <= 30_000 and window.shape == (512, 512) for *_, window in wide)
    quarters = {(window.y0 // 20_000, window.x0 // 15_000) for *_, window in wide}
    assert len(quarters) == 4
    long = places((100, 2, 1, 600, 600))
    assert len({one[:3] for one in long}) == N_WINDOWS and {one[1] for one in long} == {0, 1}


# --- what they say ----------------------------------------------------------------------------------


def test_a_true_result_is_fine_and_what_is_missing_is_told_with_its_place() -> None:
    guards = SampleGuards(keeps_grey=True)
    guards.see(_noisy(), _clean(), (0, 0, 0, 0, 0))
    assert guards.record()["level"] == "fine" and guards.sentences() == []
    guards.see(_noisy(1), _clean(2), (0, 0, 7, 0, 512))
    assert guards.record()["level"] == "doubt"
    residual, objects = guards.findings()
    assert residual.guard == "residual" and residual.numbers["places"] == [[0, 0, 7, 0, 512]]
    assert residual.sentence.startswith(
        "In 1 of 2 regions that were looked at, the difference between image and result"
    )
    assert "2 clear objects of the image are not in the result" in objects.sentence
    assert json.loads(json.dumps(guards.record()))["n_windows"] == 2


def test_only_objects_are_judged_where_the_contrast_is_changed_on_purpose() -> None:
    white = (_clean() > 150).astype(np.float32)
    guards = SampleGuards(keeps_grey=False)
    guards.see(_noisy(), white, (0, 0, 0, 0, 0))
    assert guards.record()["level"] == "fine"
    dark = (_noisy().max() - _noisy()).astype(np.uint16)
    inverted = SampleGuards(keeps_grey=False, objects_are_dark=True)
    inverted.see(dark, white, (0, 0, 0, 0, 0))
    assert inverted.record()["level"] == "fine"
    wrong = SampleGuards(keeps_grey=False)
    wrong.see(dark, white, (0, 0, 0, 0, 0))
    assert wrong.record()["level"] == "doubt"


def test_what_is_flat_or_tiny_is_not_judged() -> None:
    guards = SampleGuards(keeps_grey=True)
    guards.see(np.zeros((SIDE, SIDE)), _clean(), (0, 0, 0, 0, 0))
    guards.see(_noisy()[:40], _clean()[:40], (0, 0, 0, 0, 0))
    assert guards.record() == {"n_windows": 0, "window_px": 256, "level": "", "findings": []}


# --- large images -----------------------------------------------------------------------------------


def _large(folder: Path, image: NDArray[Any], axes: str, model: str = "n2v2-fluorescence") -> dict[str, Any]:
    write(folder / "in.tif", image, axes, dtype="keep", overwrite=True)
    settings = EnhanceRequest(image=None, axes="", filter_id=model, precision="float32")
    result = large_images.run(
        LargeRequest(source=folder / "in.tif", target=folder / "out.ome.zarr", settings=settings, overwrite=True)
    )
    assert result.is_complete
    with open_lazily(folder / "out.ome.zarr") as opened:
        record = opened.provenance
    assert record is not None
    assert list(result.warnings) == record["warnings"]
    return record


def test_a_large_result_is_checked_on_a_sample_and_its_record_says_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    empty = rng.normal(100, 5, (SIDE, SIDE)).clip(0).astype(np.uint16)
    record = _large(tmp_path, np.stack([_noisy(0), empty, _noisy(1)]), "ZYX")
    assert record["input_check"]["n_planes_seen"] == 3
    assert "1 of 3 regions that were looked at hold nothing but noise" in " ".join(record["warnings"])
    assert record["result_check"]["n_windows"] == 3 and record["result_check"]["level"] in ("fine", "look", "doubt")
    classical = _large(tmp_path, _noisy(), "YX", "gaussian")
    assert "result_check" not in classical and "input_check" not in classical


def test_a_large_result_that_lost_objects_is_doubted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_cellenhance.workflows._large_blocks import PlaneMaker

    def forget(self: Any, engine: Any, index: Any, base: Any, measured: Any, calibration: Any, region: Region) -> Any:
        return _clean(3)[region.slices].astype(np.float32)

    monkeypatch.setattr(PlaneMaker, "_render", forget)
    record = _large(tmp_path, _noisy(), "YX")
    assert record["result_check"]["level"] == "doubt"
    assert any("3 clear objects of the image are not in the result" in sentence for sentence in record["warnings"])


def test_looking_at_a_large_image_takes_little_memory(tmp_path: Path) -> None:
    """Windows are read one by one: 16 of 0.5 MB each, however large the image."""
    side = 6000
    store = zarr.create_array(tmp_path / "big.zarr", shape=(side, side), chunks=(512, 512), dtype="u2", overwrite=True)
    store[:] = np.random.default_rng(0).integers(90, 110, (side, side), dtype=np.uint16)
    tracemalloc.start()
    guards = SampleGuards(keeps_grey=True)
    for t, c, z, window in places((1, 1, 1, side, side), n_windows=6):
        pixels = np.asarray(store[window.slices])
        guards.see(pixels, pixels, (t, c, z, window.y0, window.x0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert guards.record()["n_windows"] == 6 and peak < 30e6


# --- batches ----------------------------------------------------------------------------------------


def _made(pixels: NDArray[Any]) -> Made:
    return Made(pixels=pixels, axes="YX", record={"warnings": ["before"]}, warnings=("before",))


def test_each_file_of_a_batch_is_judged_by_its_recipe(tmp_path: Path) -> None:
    write(tmp_path / "in.tif", _noisy(), "YX", dtype="keep")
    file = read(tmp_path / "in.tif")
    denoise, gauss = step_for_model("n2v2-fluorescence"), step_for_model("gaussian")
    found = checked(Recipe(steps=(denoise,)), file, _made(_clean(2)))
    assert found.record["result_check"]["level"] == "doubt"
    assert {one["guard"] for one in found.record["result_check"]["findings"]} == {"residual", "objects"}
    assert found.record["warnings"] == list(found.warnings) and found.warnings[0] == "before"
    both = checked(Recipe(steps=(denoise, gauss)), file, _made(_clean(2)))
    assert {one["guard"] for one in both.record["result_check"]["findings"]} == {"objects"}
    unjudged = _made(_clean(2))
    assert checked(Recipe(steps=(gauss,)), file, unjudged) is unjudged
    assert (
        checked(Recipe(steps=(SegmentModelRequest(image=None, axes="", model_id="aep-nuclei"),)), file, unjudged)
        is unjudged
    )


def test_the_report_of_a_batch_tells_what_is_doubted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    for n in range(2):
        write(tmp_path / "in" / f"{n}.tif", _noisy(n), "YX", dtype="keep")
    honest = _batch_steps.denoise.apply

    def forget(request: Any, *args: Any, **more: Any) -> Any:
        result = honest(request, *args, **more)
        lost = _clean(2 if request.source_name.startswith("1") else 0).astype(np.float32)
        return dataclasses.replace(result, image=lost)

    monkeypatch.setattr(_batch_steps.denoise, "apply", forget)
    recipe = Recipe(steps=(step_for_model("n2v2-fluorescence"),))
    request = BatchRequest(source=tmp_path / "in", target=tmp_path / "out", recipe=recipe)
    result = batch.run(request)
    assert [one.check for one in result.outcomes] == ["fine", "doubt"]
    report = json.loads((tmp_path / "out" / REPORT).read_text(encoding="utf-8"))
    assert report["doubted"] == 1 and [one["check"] for one in report["files"]] == ["fine", "doubt"]
    table = (tmp_path / "out" / REPORT).with_suffix(".csv").read_text(encoding="utf-8").splitlines()
    assert ",check," in table[0] and ",doubt," in table[2]
    written = read_provenance(result.outcomes[1].targets[-1])
    assert written is not None and written["result_check"]["level"] == "doubt"
    assert [one.check for one in batch.run(request).outcomes] == ["fine", "doubt"], "the journal remembers"
