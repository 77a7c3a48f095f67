"""A result checked against its image, the model run again; inputs looked at while a network runs; the doors."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom
from typer.testing import CliRunner

from napari_cellenhance import check as python_check
from napari_cellenhance.cli import app
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.input_traits import ranges_of, traits_of
from napari_cellenhance.io.images import read, write
from napari_cellenhance.workflows import _rerun, denoise, enhance
from napari_cellenhance.workflows._measured import MeasuredImage
from napari_cellenhance.workflows.denoise import DenoiseRequest
from napari_cellenhance.workflows.guards import CheckRequest, CheckResult, check, to_text, worst
from napari_cellenhance.workflows.input_guards import InputWatch
from napari_cellenhance.workflows.requests import NOT_QUANTITATIVE, EnhanceRequest
from napari_cellenhance.zoo.manifest import find_model, list_models

SIDE = 96
PLACES = ((20, 24), (24, 70), (66, 30), (70, 74))


def _clean(places: tuple[tuple[int, int], ...] = PLACES) -> NDArray[np.float64]:
    y, x = np.mgrid[:SIDE, :SIDE]
    field = np.any([np.hypot(y - cy, x - cx) < 9 for cy, cx in places], axis=0)
    return 50.0 + 200.0 * gaussian_filter(field.astype(float), 1.0)


@pytest.fixture
def noisy() -> NDArray[np.uint16]:
    return np.random.default_rng(0).poisson(_clean()).astype(np.uint16)


def _request(image: NDArray[Any], result: NDArray[Any] | None = None, **more: Any) -> CheckRequest:
    after = None if result is None else MeasuredImage(name="after", image=result, axes="YX")
    return CheckRequest(image=MeasuredImage(name="before", image=image, axes="YX"), result=after, **more)


def _levels(found: CheckResult) -> dict[str, str]:
    return {one.guard: one.level for one in found.findings}


def _map(found: CheckResult, name: str) -> NDArray[Any]:
    return next(one.pixels for one in found.maps if one.name == name)


# --- a result alone -------------------------------------------------------------------------------


def test_a_true_result_is_fine_and_says_what_it_is_not_for(noisy: NDArray[np.uint16]) -> None:
    found = check(_request(noisy, _clean()))
    assert _levels(found) == {"residual": "fine", "objects": "fine"} and worst(found.findings) == "fine"
    assert to_text(found).splitlines()[0].startswith("Fine") and to_text(found).endswith(NOT_QUANTITATIVE)
    assert json.loads(json.dumps(found.record))["level"] == "fine"


def test_an_object_removed_and_one_added_are_doubted_and_mapped(noisy: NDArray[np.uint16]) -> None:
    removed = check(_request(noisy, _clean(PLACES[1:])))
    assert _levels(removed) == {"residual": "doubt", "objects": "doubt"}
    assert "less light" in to_text(removed) and "1 clear object of the image is not in the result" in to_text(removed)
    assert _map(removed, "structure in the residual")[20, 24] == 1 == _map(removed, "objects in one only")[20, 24]
    added = check(_request(noisy, _clean((*PLACES, (46, 46)))))
    assert _levels(added) == {"residual": "doubt", "objects": "doubt"} and "1 more light" in to_text(added)
    assert _map(added, "objects in one only")[46, 46] == 2
    assert _map(added, "residual")[46, 46] < -100 < _map(removed, "residual")[46, 46]


def test_a_filter_that_changes_contrast_is_judged_by_its_objects(noisy: NDArray[np.uint16]) -> None:
    white = (_clean() > 150).astype(np.float32)
    record = {"step": "enhance", "method": "NU-Net", "model": "gone", "filter": "gone"}
    after = MeasuredImage(name="after", image=white, axes="YX")
    before = MeasuredImage(name="before", image=noisy, axes="YX")
    request = CheckRequest(image=before, result=after, record=record | {"filter_id": "gamma"}, runs_model=False)
    assert _levels(check(request))["objects"] == "fine" and "residual" not in _levels(check(request))


def test_dark_objects_are_compared_as_the_filter_saw_them(noisy: NDArray[np.uint16]) -> None:
    dark = (noisy.max() - noisy).astype(np.uint16)
    assert _levels(check(_request(dark, _clean(), record={"objects_are_dark": True})))["objects"] == "fine"
    assert _levels(check(_request(dark, _clean())))["objects"] == "doubt"


def test_the_plane_asked_for_is_checked_else_the_middle_one(noisy: NDArray[np.uint16]) -> None:
    stack, result = np.stack([noisy] * 3), np.stack([_clean(), _clean(PLACES[1:]), _clean()])

    def of(at: tuple[int, int, int] | None) -> CheckResult:
        before, after = (
            MeasuredImage(name=name, image=image, axes="ZYX", at=at)
            for name, image in (("before", stack), ("after", result))
        )
        return check(CheckRequest(image=before, result=after))

    assert worst(of(None).findings) == "doubt" and of(None).plane == (0, 0, 1)
    assert worst(of((0, 0, 2)).findings) == "fine"


def test_the_share_that_guards_were_measured_with_is_the_default(noisy: NDArray[np.uint16]) -> None:
    assert _request(noisy, _clean()).share == 0.1


def test_what_cannot_be_checked_is_said(noisy: NDArray[np.uint16]) -> None:
    with pytest.raises(ParameterError, match="nothing to check"):
        _request(noisy)
    with pytest.raises(ParameterError, match="classes and labels"):
        check(_request(noisy, _clean(), record={"step": "segment", "model": "aep-nuclei"}))
    with pytest.raises(ImageError, match="one single grey value"):
        check(_request(np.zeros((SIDE, SIDE)), _clean()))
    with pytest.raises(ImageError, match="same planes"):
        check(_request(noisy, _clean()[:50]))
    with pytest.raises(ParameterError, match="share of the contrast"):
        _request(noisy, _clean(), share=0.0)


# --- with a model -----------------------------------------------------------------------------------


def test_a_steady_filter_agrees_with_itself_on_turned_copies_and_halves(noisy: NDArray[np.uint16]) -> None:
    found = check(_request(noisy, model_id="gaussian"))
    assert _levels(found) == {"objects": "fine", "spread": "fine", "halves": "fine"}
    assert [one.name for one in found.maps][-3:] == [
        "spread", "difference, two halves of the pixels", "difference, two images with more noise",
    ]  # fmt: skip
    assert float(_map(found, "spread").max()) < 1e-3
    dealt = check(_request(noisy, model_id="gaussian", gain=1.0))
    assert "Two halves of the photons" in to_text(dealt)


def test_a_network_of_random_weights_disagrees_with_itself(noisy: NDArray[np.uint16], seeded_model: str) -> None:
    levels = _levels(check(_request(noisy, model_id=seeded_model)))
    assert levels["spread"] != "fine"


def test_turned_copies_are_judged_more_strictly_where_grey_values_are_kept(noisy: NDArray[np.uint16]) -> None:
    rng, contrast = np.random.default_rng(0), 200.0
    results = [(contrast * rng.normal(0, 0.03, (64, 64))).astype(np.float32) for _ in range(8)]
    keeping, _ = _rerun._of_spread(results, contrast, 0.1, _rerun._KEEPING)
    changing, picture = _rerun._of_spread(results, contrast, 0.1, _rerun._CHANGING)
    assert (
        keeping.level == "doubt"
        and keeping.numbers["limit"] == 0.02
        and "more than 2 % of the contrast" in (keeping.sentence)
    )
    assert changing.level == "fine" and changing.numbers["limit"] == 0.05 and picture[3] == 0.1
    found = check(_request(noisy[:64, :64], model_id="n2v2-fluorescence"))
    assert next(one for one in found.findings if one.guard == "spread").numbers["limit"] == 0.02


def test_a_record_tells_the_model_and_a_cancel_keeps_what_was_found(noisy: NDArray[np.uint16]) -> None:
    result = enhance.run(EnhanceRequest(image=noisy, axes="YX", filter_id="gaussian", strength=1.0))
    n_asked = iter(range(1000))
    found = check(_request(noisy, result.image, record=result.provenance), is_cancelled=lambda: next(n_asked) > 5)
    assert not found.is_complete and "objects" in _levels(found) and "halves" not in _levels(found)
    assert found.record["model"] == "gaussian"


def test_a_restoration_brings_its_own_uncertainty(noisy: NDArray[np.uint16]) -> None:
    found = check(_request(noisy[:64, :64], model_id="care-nuclei"))
    assert {"uncertainty", "residual", "spread", "halves"} <= set(_levels(found))


# --- the input ----------------------------------------------------------------------------------------


def test_shipped_models_know_what_their_images_were_like() -> None:
    wanted = {"nunet", "nunet-guided", "aep-nuclei", "aep-membrane", "n2v2-fluorescence", "care-nuclei"}
    cards = {card.id: card for card in list_models()}
    assert all({"size_px", "noise", "slope", "skew", "ground"} <= set(cards[name].input_ranges) for name in wanted)
    assert all(low <= high for name in wanted for low, high in cards[name].input_ranges.values())


def _watch(*planes: NDArray[Any], **more: Any) -> InputWatch:
    ranges = ranges_of([traits_of(np.random.default_rng(n).poisson(_clean())) for n in range(5)])
    watch = InputWatch(find_model("n2v2-fluorescence").model_copy(update={"input_ranges": ranges}), **more)
    for plane in planes:
        watch.see(plane)
    return watch


def test_an_image_like_the_training_raises_nothing(noisy: NDArray[np.uint16]) -> None:
    assert _watch(noisy).findings() == () and _watch(noisy).record()["n_planes_seen"] == 1
    assert _watch(noisy.max() - noisy, objects_are_dark=True).findings() == ()


def test_noise_cut_off_light_and_unlike_images_are_told(noisy: NDArray[np.uint16]) -> None:
    rng = np.random.default_rng(0)
    empty = rng.normal(100, 5, (SIDE, SIDE))
    assert [one.guard for one in _watch(empty).findings()] == ["empty"]
    assert "2 of 3 planes" in _watch(empty, noisy, rng.normal(9, 2, (SIDE, SIDE))).sentences()[0]
    cut = _watch(np.minimum(noisy, 180)).findings()
    assert {one.guard: one.level for one in cut}["saturation"] == "look" and "cut off" in cut[0].sentence
    (strange,) = _watch(noisy.max() - noisy).findings()
    assert strange.guard == "input" and "are the objects dark?" in strange.sentence
    assert "n2v2-fluorescence learned from" in strange.sentence


def test_objects_of_another_size_than_the_model_knows_are_told(noisy: NDArray[np.uint16]) -> None:
    card = find_model("nunet").model_copy(update={"input_ranges": {"noise": (0.0001, 1.0)}})

    def of(factor: float, noise: float = 0.0) -> InputWatch:
        watch, rng = InputWatch(card), np.random.default_rng(0)
        plane = zoom(np.tile(_clean(), (2, 2)), factor, order=1)
        watch.see(plane + rng.normal(0, max(noise, 0.5), plane.shape))
        return watch

    assert of(1.0).findings() == () and 14 < of(1.0).record()["object_diameter_px"] < 24  # they are 18 px across
    (large,) = of(4.0).findings()
    assert large.guard == "size" and "larger" in large.sentence and "10 to 44 px): shrink the image" in large.sentence
    (small,) = of(0.34).findings()
    assert small.guard == "size" and "smaller" in small.sentence
    assert of(4.0, noise=60.0).record()["object_diameter_px"] is None, "blobs of noise are no objects"
    assert _watch(noisy).record()["object_diameter_px"] is None, "a denoiser knows no diameter"


def test_a_run_tells_and_records_what_its_input_is_like() -> None:
    empty = np.random.default_rng(0).normal(100, 5, (SIDE, SIDE)).astype(np.float32)
    result = denoise.run(DenoiseRequest(image=empty, axes="YX"))
    assert any("nothing but noise" in sentence for sentence in result.warnings)
    assert result.provenance["input_check"]["findings"][0]["guard"] == "empty"
    assert any("nothing but noise" in sentence for sentence in result.provenance["warnings"])
    classical = enhance.run(EnhanceRequest(image=empty, axes="YX", filter_id="gaussian"))
    assert classical.warnings == () and "input_check" not in classical.provenance


def test_looking_at_the_input_takes_little_of_a_run(noisy: NDArray[np.uint16]) -> None:
    plane = np.tile(noisy, (5, 5))[:448, :448]
    begin = time.process_time()
    result = denoise.run(DenoiseRequest(image=plane, axes="YX"))
    whole = time.process_time() - begin
    begin = time.process_time()
    _watch(plane).findings()
    assert result.is_complete and time.process_time() - begin < 0.6 * whole


# --- doors ----------------------------------------------------------------------------------------------


def test_python_and_the_terminal_say_the_same(noisy: NDArray[np.uint16], tmp_path: Path) -> None:
    result = _clean(PLACES[1:]).astype(np.float32)
    write(tmp_path / "in.tif", noisy, "YX")
    write(tmp_path / "out.tif", result, "YX")
    found = python_check(noisy, result)
    line = CliRunner().invoke(
        app, ["check", str(tmp_path / "in.tif"), str(tmp_path / "out.tif"), "--maps", str(tmp_path / "maps")]
    )
    assert line.exit_code == 0 and to_text(found) in line.output
    kept = read(tmp_path / "maps" / "objects in one only.ome.tif")
    assert (np.asarray(kept.image) == _map(found, "objects in one only")).all()
    assert kept.provenance is not None and kept.provenance["shows"] == "objects in one only"
    told = CliRunner().invoke(app, ["check", str(tmp_path / "in.tif"), str(tmp_path / "out.tif"), "--json"])
    assert json.loads(told.output)["level"] == "doubt"


def test_the_terminal_needs_a_result_or_a_model(noisy: NDArray[np.uint16], tmp_path: Path) -> None:
    write(tmp_path / "in.tif", noisy, "YX")
    answer = CliRunner().invoke(app, ["check", str(tmp_path / "in.tif")])
    assert answer.exit_code == 2 and "--model" in answer.output
    answer = CliRunner().invoke(app, ["check", str(tmp_path / "in.tif"), "--model", "gaussian", "-q"])
    assert answer.exit_code == 0 and "Turned and flipped" in answer.output


@pytest.mark.parametrize(("command", "more"), [("enhance", ["--model", "gaussian"]), ("denoise", [])])
def test_commands_say_once_that_results_are_not_quantitative(command: str, more: list[str], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.tif", "b.tif"):
        write(tmp_path / "in" / name, np.random.default_rng(0).poisson(_clean()[:48, :48]).astype(np.uint16), "YX")
    words = [command, str(tmp_path / "in"), str(tmp_path / "out"), *more]
    answer = CliRunner().invoke(app, words)
    assert answer.exit_code == 0 and answer.output.count(NOT_QUANTITATIVE) == 1
    assert NOT_QUANTITATIVE not in CliRunner().invoke(app, [*words, "--overwrite", "--quiet"]).output
