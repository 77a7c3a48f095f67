"""Training a restoration from files and arrays, what it leaves, and restoring arrays and files with it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_cellenhance.core.errors import ImageError, ModelNotFoundError, ParameterError
from napari_cellenhance.core.microscope import Optics
from napari_cellenhance.core.recipes.protocol import Region
from napari_cellenhance.io.images import read, read_provenance, write
from napari_cellenhance.workflows import restore, restore_files, train_care
from napari_cellenhance.workflows._train_care_setup import aside
from napari_cellenhance.workflows.catalog import describe, list_filters, open_enhancer
from napari_cellenhance.workflows.noisy_images import NoisyLayer
from napari_cellenhance.workflows.restore import RestoreRequest, open_restorer
from napari_cellenhance.workflows.restore_files import RestoreFilesRequest
from napari_cellenhance.workflows.restore_layers import calibration_sentence
from napari_cellenhance.workflows.synthesize import Synthesis
from napari_cellenhance.workflows.train_care import CareRequest, PairedLayers
from napari_cellenhance.zoo.manifest import read_user_card

NO_BLUR = Synthesis(optics=Optics(kind="none"))


def _image(seed: int, *shape: int) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    image = gaussian_filter(np.random.default_rng(seed).random(shape), (0,) * (len(shape) - 2) + (2, 2))
    return (1000 * (image - image.min()) / np.ptp(image) + 100).astype(np.uint16)


@pytest.fixture
def request_(tmp_path: Path) -> CareRequest:
    layers = tuple(NoisyLayer(name=f"image {i}", image=_image(i, 32, 36), axes="YX") for i in range(3))
    return CareRequest(
        data=layers, out=tmp_path / "out", synthesis=NO_BLUR, model_id="mine", n_steps=4, batch_size=2, patch_px=16,
        width=4, kernel_px=3, validate_every=2, precision="float32", recipe_options={"n_validation": 3},
    )  # fmt: skip


@pytest.fixture
def model(request_: CareRequest) -> str:
    return train_care.run(request_).model_id


# --- training --------------------------------------------------------------------------------


def test_clean_images_make_a_model_with_card_curves_and_log(request_: CareRequest) -> None:
    seen: list[str] = []
    result = train_care.run(request_, on_progress=lambda progress: seen.append(progress.message))
    assert result.stopped == "finished" and result.card is not None and result.exposures is not None
    card = read_user_card(result.card)
    assert card.recipe == "care" and card.axes == "YX"
    assert card.normalization.parameters == {"lo": 2.0, "hi": 99.8, "clip": False}
    training = json.loads(json.dumps(card.training))
    assert len(training["kept_aside"]) == 1 and training["synthesis"]["optics"]["kind"] == "none"
    assert training["calibration"]["factor"] == restore.scale_factor_of(card) > 0
    assert card.scores["within_half"] == pytest.approx(0.5, abs=0.01), "calibrated on images that were kept aside"
    assert result.scores["mae"] > 0 and result.scores["n_px"] == 3 * 32 * 36
    log = json.loads(result.exposures.read_text())
    assert (Path(request_.out) / "preview.png").is_file()
    assert len(log["pairs"]) == 9 and log["pairs"][0]["level"] == "mild"
    header = result.history.read_text().splitlines()[0].split(",")
    assert {"learning_rate", "total", "mae", "mse", "val_total", "val_mae", "val_within_half"} <= set(header)
    assert (Path(request_.out) / "history.png").is_file() and "Measuring" in seen[-1]


def test_the_model_is_a_filter_of_its_own_group(model: str) -> None:
    assert model in {info.id for info in list_filters()} and describe(model).info.group == "Restoration"
    assert open_enhancer(model, "cpu", "float32").info.id == model
    assert [card.id for card in restore.list_restorers() if not card.bundled] == [model]


def test_a_resumed_training_equals_an_uninterrupted_one(request_: CareRequest, tmp_path: Path) -> None:
    whole = train_care.run(replace(request_, out=tmp_path / "whole", install=False))
    first = replace(request_, stop_after=2, install=False)
    train_care.run(first)
    again = train_care.remembered(CareRequest(data=request_.data, out=request_.out, model_id="mine", install=False))
    assert again.synthesis == NO_BLUR and again.resume and again.kernel_px == 3
    resumed = train_care.run(replace(again, precision="float32"))
    assert resumed.best_total == pytest.approx(whole.best_total, abs=1e-6)
    with pytest.raises(ParameterError):
        train_care.run(replace(again, synthesis=Synthesis(optics=Optics(pixel_um=0.1))))


def test_images_to_measure_on_are_mixed_and_always_the_same() -> None:
    images = [(np.full((10, 10), i, np.float32), np.full((10, 10), i, np.float32)) for i in range(30)]
    setup: Any = SimpleNamespace(recipe=SimpleNamespace(normalised_aside=images))
    chosen = [[int(poor[0, 0]) for poor, _ in aside(setup, 600)] for _ in range(2)]
    assert chosen[0] == chosen[1] and len(set(chosen[0])) == 6
    assert max(chosen[0]) >= 15, "exposures of one sample are neighbours: the first six would show two samples"


def test_real_pairs_and_plain_errors(request_: CareRequest) -> None:
    good = [_image(i, 32, 36) for i in range(2)]
    pairs = tuple(
        PairedLayers(
            poor=NoisyLayer(name=f"p{i}", image=image // 2, axes="YX"),
            clean=NoisyLayer(name=f"c{i}", image=image, axes="YX"),
        )
        for i, image in enumerate(good)
    )
    result = train_care.run(replace(request_, data=pairs, loss="mae"))
    assert result.exposures is None and "factor" not in result.scores and result.card is not None
    assert read_user_card(result.card).training["calibration"] is None
    opened = open_restorer("mine", "cpu", "float32")
    found = restore.apply(RestoreRequest(image=good[0], axes="YX"), opened)
    assert found.uncertainty is None and found.image.shape == (32, 36)


def test_clean_images_are_brought_to_the_grey_values_of_the_poor_ones_unless_told(request_: CareRequest) -> None:
    images = [_image(i, 32, 36) for i in range(4)]
    gains = (0.5, 0.1, 2.0, -1.0)
    pairs = tuple(
        PairedLayers(
            poor=NoisyLayer(name=f"p{i}", image=(5000 + gain * image).astype(np.float32), axes="YX"),
            clean=NoisyLayer(name=f"c{i}", image=image, axes="YX"),
        )
        for i, (image, gain) in enumerate(zip(images, gains, strict=True))
    )
    result = train_care.run(replace(request_, data=pairs))
    assert result.card is not None and result.left_out == ("p3",)
    card = read_user_card(result.card)
    recipe = card.training["recipe"]
    assert isinstance(recipe, dict) and recipe["clean_scale"] == "poor" and list(card.training["left_out"]) == ["p3"]  # type: ignore[call-overload]
    assert "The pair “p3” was left out" in calibration_sentence(card)
    assert train_care.remembered(replace(request_, clean_scale="own")).clean_scale == "poor", "as the training began"
    own = train_care.run(replace(request_, data=pairs, clean_scale="own", model_id="own"))
    assert (
        own.left_out == () and own.card is not None and "left out" not in calibration_sentence(read_user_card(own.card))
    )
    with pytest.raises(ParameterError, match=r"clean_scale cannot be set as a further option.*--clean-scale"):
        train_care.run(replace(request_, recipe_options={"clean_scale": "own"}))


def test_a_single_clean_image_is_enough(request_: CareRequest) -> None:
    assert isinstance(request_.data, tuple)
    result = train_care.run(replace(request_, data=request_.data[:1]))  # type: ignore[arg-type]
    assert result.card is not None and read_user_card(result.card).training["is_split_in_space"] is True


def test_it_goes_on_from_a_model_of_the_same_shape(request_: CareRequest, model: str) -> None:
    assert train_care.run(replace(request_, init_from=model, model_id="other")).card is not None
    with pytest.raises(ParameterError, match="differs from that of 'mine'"):
        train_care.run(replace(request_, init_from=model, width=5))
    with pytest.raises(ParameterError, match="does not restore"):
        train_care.run(replace(request_, init_from="n2v2-fluorescence"))


def test_settings_that_make_no_sense_are_refused(request_: CareRequest) -> None:
    for wrong in ({"recipe_options": {"magic": 1}}, {"threshold": 2.0}, {"validation_fraction": 0.0}, {"patch_px": 0}):
        with pytest.raises(ParameterError):
            train_care.run(replace(request_, **wrong))  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="expected 2"):
        replace(request_, n_dims=4)


def test_discarding_publishes_nothing(request_: CareRequest) -> None:
    result = train_care.run(request_, is_discarded=lambda: True)
    assert result.card is None and "mine" not in {card.id for card in restore.list_restorers()}


def test_glimpses_show_the_window_restored_in_grey_values(request_: CareRequest) -> None:
    plane = _image(9, 1, 32, 36)
    seen: list[train_care.Glimpse] = []
    window = train_care.ViewedWindow(plane=plane, region=Region(4, 20, 2, 30))
    train_care.run(request_, look=lambda: window, on_glimpse=seen.append)
    assert seen and seen[0].shown.shape == (1, 16, 28) and 50 < float(seen[0].shown.mean()) < 1200


def test_volumes(request_: CareRequest) -> None:
    layers = tuple(NoisyLayer(name=f"v{i}", image=_image(i, 8, 20, 16), axes="ZYX") for i in range(2))
    options = {"n_validation": 2, "patch_depth": 8}
    train_care.run(replace(request_, data=layers, n_dims=3, kernel_px=0, n_steps=1, recipe_options=options))
    opened = open_restorer("mine", "cpu", "float32")
    assert opened.card.axes == "ZYX" and opened.card.architecture["kernel_px"] == 3
    found = restore.apply(RestoreRequest(image=_image(5, 9, 18, 17), axes="ZYX"), opened)
    assert found.image.shape == (9, 18, 17) and found.uncertainty is not None
    with pytest.raises(ImageError, match="no Z axis"):
        restore.apply(RestoreRequest(image=_image(5, 18, 17), axes="YX"), opened)


# --- restoring -------------------------------------------------------------------------------


def test_grey_values_and_uncertainty_scale_with_the_image(model: str) -> None:
    opened = open_restorer(model, "cpu", "float32")
    image = _image(4, 40, 44).astype(np.float32)
    first = restore.apply(RestoreRequest(image=image, axes="YX"), opened)
    second = restore.apply(RestoreRequest(image=3 * image + 500, axes="YX"), opened)
    assert first.uncertainty is not None and second.uncertainty is not None
    assert np.allclose(second.image, 3 * first.image + 500, atol=0.5)
    assert np.allclose(second.uncertainty, 3 * first.uncertainty, rtol=1e-3), "scaled, without the offset (T-C5)"
    low, high = np.percentile(image.astype(float), (2, 99.8))
    restorer = opened.restorer
    direct = restorer.restore(((image - low) / (high - low)).astype(np.float32))
    assert direct.scale is not None
    assert np.allclose(first.uncertainty, direct.scale * (high - low), rtol=1e-3)


def test_any_axes_and_statistics(model: str) -> None:
    opened = open_restorer(model, "cpu", "float32")
    stack = np.stack([_image(i, 24, 28) * (1 + i) for i in range(3)])
    whole = restore.apply(RestoreRequest(image=stack, axes="ZYX"), opened)
    each = restore.apply(RestoreRequest(image=stack, axes="ZYX", statistics="plane"), opened)
    alone = restore.apply(RestoreRequest(image=stack[2], axes="YX"), opened)
    assert whole.image.shape == stack.shape and whole.axes == "ZYX"
    assert np.allclose(each.image[2], alone.image, atol=0.1) and not np.allclose(whole.image[2], alone.image, atol=0.1)
    assert set(whole.provenance["normalization"]["fitted"]) == {"c0"}
    region = restore.apply(RestoreRequest(image=stack, axes="ZYX", region=Region(2, 9, 3, 20)), opened)
    assert np.allclose(region.image, whole.image[:, 2:9, 3:20], atol=0.05)
    colours = np.stack([stack[0], stack[1], stack[2]], axis=-1)
    assert restore.apply(RestoreRequest(image=colours, axes="YXS", channels="grey"), opened).image.shape == (24, 28)


def test_repeats_are_warned_of_and_recorded(model: str) -> None:
    opened = open_restorer(model, "cpu", "float32")
    image = _image(4, 40, 44)
    once = restore.apply(RestoreRequest(image=image, axes="YX"), opened)
    twice = restore.apply(RestoreRequest(image=image, axes="YX", repeats=2, tile_px=16), opened)
    assert not once.warnings and "applied 2 times" in twice.warnings[0]
    assert twice.provenance["repeats"] == 2 and twice.provenance["step"] == "restore"
    assert not np.allclose(once.image, twice.image, atol=0.1)
    with pytest.raises(ParameterError, match="expected 1 to 3"):
        RestoreRequest(image=image, axes="YX", repeats=4)


def test_flat_planes_and_cancel(model: str) -> None:
    opened = open_restorer(model, "cpu", "float32")
    stack = np.stack([_image(0, 24, 28), np.full((24, 28), 7, np.uint16)])
    found = restore.apply(RestoreRequest(image=stack, axes="ZYX"), opened)
    assert np.all(found.image[1] == 7) and found.uncertainty is not None and np.all(found.uncertainty[1] == 0)
    assert "one single grey value" in found.warnings[0]
    asked = iter([False, False, True, True, True])
    part = restore.apply(RestoreRequest(image=stack, axes="ZYX"), opened, is_cancelled=lambda: next(asked))
    assert not part.is_complete and part.provenance["is_complete"] is False


def test_files_get_an_image_and_its_uncertainty(model: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        write(tmp_path / "in" / f"{name}.tif", _image(1, 24, 28), "YX", dtype="keep", pixel_size_um={"X": 0.2})
    settings = RestoreRequest(image=None, axes="", model_id=model, device="cpu", precision="float32")
    request = RestoreFilesRequest(source=tmp_path / "in", target=tmp_path / "clean", settings=settings, dtype="same")
    result = restore_files.run(request)
    assert result.n_failed == 0
    assert sorted(path.name for path in (tmp_path / "clean").iterdir()) == [
        "a.ome.tif", "a.recipe.json", "a_uncertainty.ome.tif", "b.ome.tif", "b.recipe.json", "b_uncertainty.ome.tif",
    ]  # fmt: skip
    image, sigma = read(tmp_path / "clean" / "a.ome.tif"), read(tmp_path / "clean" / "a_uncertainty.ome.tif")
    assert image.image.dtype == np.uint16 and sigma.image.dtype == np.float32 and sigma.image.min() > 0
    assert sigma.pixel_size_um["X"] == pytest.approx(0.2)
    record = read_provenance(tmp_path / "clean" / "a_uncertainty.ome.tif")
    assert record is not None and "scale" in record["shows"] and record["model"] == model
    again = restore_files.run(request)
    assert again.n_failed == 2 and "exists already" in again.outcomes[0].error
    plain = replace(request, target=tmp_path / "plain", has_uncertainty=False)
    restore_files.run(plain)
    assert len(list((tmp_path / "plain").glob("*.tif"))) == 2


def test_models_that_do_not_restore_are_refused(model: str, request_: CareRequest) -> None:
    with pytest.raises(ModelNotFoundError, match=r"there is: .*mine"):
        open_restorer("n2v2-fluorescence")
    opened = open_restorer(str(Path(request_.out) / "mine.json"), "cpu", "float32")
    assert opened.card.id == model and opened.restorer.scale_factor == restore.scale_factor_of(opened.card)
