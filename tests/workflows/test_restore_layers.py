"""Layers restored with residual and doubt; what clean layers and folders give; one patch made poor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.core.microscope import LEVELS, Optics, Preparation, clean_target, exposures, point_spread
from napari_cellenhance.io.images import write
from napari_cellenhance.workflows import care_layers, restore_layers, train_care
from napari_cellenhance.workflows.care_layers import Bench, BenchAsk
from napari_cellenhance.workflows.care_pairs import PairedLayers
from napari_cellenhance.workflows.noisy_images import NoisyLayer
from napari_cellenhance.workflows.restore import RestoreRequest, list_restorers
from napari_cellenhance.workflows.restore_layers import DEFAULT_SHARE
from napari_cellenhance.workflows.synthesize import Synthesis
from napari_cellenhance.workflows.train_care import CareRequest

NO_BLUR = Synthesis(optics=Optics(kind="none"))
BLUR = Synthesis(optics=Optics(pixel_um=0.1))


def image(seed: int, *shape: int) -> Any:
    smooth = gaussian_filter(np.random.default_rng(seed).random(shape), (0,) * (len(shape) - 2) + (2, 2))
    return (1000 * (smooth - smooth.min()) / np.ptp(smooth) + 100).astype(np.uint16)


def layer(axes: str, *shape: int, name: str = "cells", seed: int = 0) -> NoisyLayer:
    return NoisyLayer(name=name, image=image(seed, *shape), axes=axes)


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A small restoration in the user's folder, trained for two updates."""
    request = CareRequest(
        data=(layer("YX", 32, 36),), out=tmp_path / "out", synthesis=NO_BLUR, model_id="mine", title="Mine", n_steps=2,
        batch_size=2, patch_px=16, width=4, kernel_px=3, validate_every=1, precision="float32",
        recipe_options={"n_validation": 3},
    )  # fmt: skip
    return train_care.run(request).model_id


# --- restoring ----------------------------------------------------------------------------------


def test_layers_come_with_residual_doubt_and_limits(model: str) -> None:
    pixels = image(5, 3, 2, 24, 28)
    lazy = RestoreRequest(image=da.from_array(pixels, chunks=(1, 2, 24, 28)), axes="TCYX", model_id=model, device="cpu")
    picked = replace(lazy, image=pixels, channels=(1,))
    both, one = restore_layers.restore_layers([lazy, picked], wants_residual=True, share=0.02)
    assert both.residual is not None and np.allclose(both.residual, pixels - both.result.image, atol=1e-2)
    assert one.result.axes == "TYX" and one.residual is not None
    assert np.allclose(one.residual, pixels[:, 1] - one.result.image, atol=1e-2)
    assert both.contrast.shape == (1, 2, 1, 1) and both.residual_limit > 0 and both.scale_limit > 0
    doubt = both.first_doubt
    assert doubt is not None and doubt.share == 0.02 and doubt.labels.shape == pixels.shape
    assert doubt.doubted == pytest.approx(float(doubt.labels.mean()))
    later = both.doubt(0.9)
    assert later is not None and later.doubted <= doubt.doubted
    assert restore_layers.restore_layers([replace(picked, image=pixels)])[0].residual is None


def test_a_cancel_keeps_what_is_finished_and_messages_name_the_image(model: str) -> None:
    request = RestoreRequest(image=image(1, 24, 24), axes="YX", model_id=model, source_name="first")
    told: list[str] = []
    found = restore_layers.restore_layers(
        [request, request], on_progress=lambda p: told.append(p.message), is_cancelled=lambda: len(told) > 1
    )
    assert len(found) == 1 and "“first”" in told[-1]
    assert restore_layers.restore_layers([]) == []


def test_calibration_and_misfits_are_said_in_words(model: str) -> None:
    card = next(card for card in list_restorers() if card.id == model)
    said = restore_layers.calibration_sentence(card)
    assert "On images kept aside 50%" in said.replace(" %", "%") or "50%" in said
    assert "of that of the poor images" in said
    silent = card.model_copy(update={"training": {}, "architecture": {**card.architecture, "is_probabilistic": False}})
    assert restore_layers.calibration_sentence(silent) == "This model gives no uncertainty."
    assert restore_layers.misfit(card, "x", "YX", (9, 9)) == ""
    volumes = card.model_copy(update={"axes": "ZYX"})
    assert "has no Z axis" in restore_layers.misfit(volumes, "x", "YX", (9, 9))
    assert restore_layers.misfit(volumes, "x", "ZYX", (4, 9, 9)) == ""


def test_some_of_a_poor_image_is_doubted_at_once_and_not_all_of_it() -> None:
    rng = np.random.default_rng(3)
    y, x = np.indices((96, 96))
    centres = rng.uniform(10, 86, (8, 2))
    clean = 0.02 + sum(np.clip(7 - np.hypot(y - cy, x - cx), 0, 1) * rng.uniform(0.4, 1) for cy, cx in centres)
    poor = (rng.poisson(20 * clean) / 20 + rng.normal(0, 0.08, clean.shape)).astype(np.float32)
    (found,) = restore_layers.restore_layers(
        [RestoreRequest(image=poor, axes="YX", model_id="care-nuclei", device="cpu", precision="float32")]
    )
    assert found.first_doubt is not None and found.first_doubt.share == DEFAULT_SHARE
    assert 0.01 < found.first_doubt.doubted < 0.4
    doubted = found.first_doubt.labels.astype(bool)
    error = np.abs(found.result.image - clean)
    assert error[doubted].mean() > 3 * error[~doubted].mean()


def test_a_network_that_is_unsure_everywhere_does_not_mark_everything(model: str) -> None:
    image = np.random.default_rng(0).random((40, 44)).astype(np.float32)
    request = RestoreRequest(image=image, axes="YX", model_id=model, device="cpu", precision="float32")
    (found,) = restore_layers.restore_layers([request])
    assert found.result.uncertainty is not None and found.first_doubt is not None
    usual = found.doubt(DEFAULT_SHARE)
    assert usual is not None and found.usually_doubted == pytest.approx(usual.doubted) and usual.doubted > 0.25
    assert found.first_doubt.share > DEFAULT_SHARE and 0.1 < found.first_doubt.doubted <= 0.25
    (asked,) = restore_layers.restore_layers([request], share=DEFAULT_SHARE)
    assert asked.first_doubt is not None and asked.first_doubt.share == DEFAULT_SHARE


# --- what is learned from -----------------------------------------------------------------------


def test_pairs_are_counted_in_a_sentence() -> None:
    assert care_layers.pairs_made([layer("YX", 32, 32)], 3) == "1 clean image → 3 pairs."
    stack = layer("ZCYX", 5, 2, 32, 32)
    assert care_layers.pairs_made([stack, layer("YX", 32, 32)], 3) == "11 clean images → 33 pairs."
    assert care_layers.pairs_made([stack], 3, 3) == "2 clean images → 6 pairs."
    pair = PairedLayers(poor=layer("ZYX", 4, 32, 32), clean=layer("ZYX", 4, 32, 32, seed=1))
    assert care_layers.real_pairs([pair], 2) == "4 pairs of planes."
    assert care_layers.real_pairs([pair], 3) == "1 pair of volumes."


def test_pairs_that_do_not_fit_are_named() -> None:
    good = layer("YX", 32, 32, name="good")
    same = PairedLayers(poor=good, clean=good)
    assert "choose two different layers" in care_layers.pairs_problem([same], 2)
    odd = PairedLayers(poor=layer("YX", 32, 40, name="poor"), clean=good)
    said = care_layers.pairs_problem([odd], 2)
    assert "“poor” is 32 × 40 (YX), “good” 32 × 32 (YX)" in said and "same place" in said
    small = PairedLayers(poor=layer("YX", 8, 8), clean=layer("YX", 8, 8, seed=1))
    assert "a training needs 16 px" in care_layers.pairs_problem([small], 2)
    fine = PairedLayers(poor=layer("YX", 32, 32, seed=3), clean=good)
    assert care_layers.pairs_problem([fine], 2) == ""
    assert "no Z axis" in care_layers.pairs_problem([fine], 3)


def test_folders_say_what_is_missing(tmp_path: Path) -> None:
    assert care_layers.folder_problem("") == "Choose a folder."
    assert "no file or folder" in care_layers.folder_problem(tmp_path / "nowhere")
    assert "holds no image" in care_layers.folder_problem(tmp_path)
    write(tmp_path / "a.tif", image(0, 32, 32), "YX", dtype="keep")
    assert care_layers.folder_problem(tmp_path) == ""
    assert care_layers.pairs_made_of_files(tmp_path, 3).startswith("1 clean image → 3 pairs.")
    assert "no folder “noisy”" in care_layers.pair_folder_problem(tmp_path)
    assert "There is no folder" in care_layers.pair_folder_problem(tmp_path / "nowhere")
    for kind in ("noisy", "clean"):
        (tmp_path / kind).mkdir()
        assert care_layers.pair_folder_problem(tmp_path)
        write(tmp_path / kind / "a.tif", image(0, 32, 32), "YX", dtype="keep")
    assert care_layers.pair_folder_problem(tmp_path) == ""
    write(tmp_path / "clean" / "b.tif", image(0, 32, 32), "YX", dtype="keep")
    assert "1 noisy and 2 clean" in care_layers.pair_folder_problem(tmp_path)


def test_a_blur_needs_the_size_of_the_pixels(tmp_path: Path) -> None:
    unknown = Synthesis()
    assert "size of the pixels is not known" in care_layers.optics_problem(unknown, 2, can_ask_files=False)
    assert care_layers.optics_problem(unknown, 2, can_ask_files=True) == ""
    assert care_layers.optics_problem(NO_BLUR, 2, can_ask_files=False) == ""
    assert care_layers.optics_problem(BLUR, 2, can_ask_files=False) == ""
    assert "distance of the planes" in care_layers.optics_problem(BLUR, 3, can_ask_files=False)
    wide = Synthesis(optics=Optics(pixel_um=0.0001))
    assert "the blur reaches over" in care_layers.optics_problem(wide, 2, can_ask_files=False).lower()
    missing = Synthesis(psf_file=tmp_path / "none.tif")
    assert care_layers.optics_problem(missing, 2, can_ask_files=False)


def test_a_point_is_kept_as_a_file_once(tmp_path: Path) -> None:
    point = np.zeros((9, 9), np.uint16)
    point[4, 4] = 900
    first, second = (care_layers.store_point(pixels, tmp_path / "points") for pixels in (point, point.copy()))
    assert first == second and len(list((tmp_path / "points").iterdir())) == 1
    measured = Synthesis(psf_file=first)
    assert care_layers.optics_problem(measured, 2, can_ask_files=False) == ""
    assert "2 dimensions" not in care_layers.optics_problem(measured, 2, can_ask_files=False)
    assert "expected 3 dimensions" in care_layers.optics_problem(measured, 3, can_ask_files=False)
    with pytest.raises(ImageError, match="crop it to the point"):
        care_layers.store_point(np.zeros((300, 300)), tmp_path)


# --- one patch made poor ------------------------------------------------------------------------


def test_a_patch_is_shown_clean_and_at_every_level() -> None:
    source, bench = layer("YX", 80, 90), Bench()
    view = bench.look(BenchAsk(source=source, synthesis=BLUR, patch_px=32))
    assert view.raw.shape == view.clean.shape == (32, 32) and np.array_equal(view.raw, view.clean)
    assert [drawn.level for _, drawn in view.poor] == ["mild", "medium", "strong"]
    assert all(poor.shape == (32, 32) for poor, _ in view.poor) and 0 < view.white <= 1
    fully = replace(BLUR, levels=tuple(replace(level, gain=(1.0, 1.0), photons=(99.0, 99.0)) for level in LEVELS))
    shown = Bench().look(BenchAsk(source=source, synthesis=fully, patch_px=32))
    errors = [float(np.abs(poor - shown.clean).mean()) for poor, _ in shown.poor]
    assert errors == sorted(errors)
    again = Bench().look(BenchAsk(source=source, synthesis=BLUR, patch_px=32))
    assert np.array_equal(again.poor[1][0], view.poor[1][0]), "the same seed draws the same"
    other = bench.look(BenchAsk(source=source, synthesis=BLUR, patch_px=32, number=1))
    assert not np.array_equal(other.clean, view.clean) and other.poor[0][1] != view.poor[0][1]
    blurred = replace(BLUR, levels=tuple(replace(level, blur=(2.0, 2.0)) for level in LEVELS))
    later = bench.look(BenchAsk(source=source, synthesis=blurred, patch_px=32))
    assert np.array_equal(later.clean, view.clean), "the place stays while values move"
    assert later.poor[0][1].blur == 2.0


def test_the_patch_is_blurred_as_the_whole_image_is() -> None:
    source = layer("YX", 80, 90)
    quiet = tuple(
        replace(level, photons=(np.inf, np.inf), sigma=(0.0, 0.0), gain=(1.0, 1.0), blur=(1.5, 1.5)) for level in LEVELS
    )
    synthesis = replace(BLUR, levels=quiet)
    view = Bench().look(BenchAsk(source=source, synthesis=synthesis, patch_px=32))
    target = clean_target(source.image, Preparation())
    (whole, _), *_ = exposures(target, point_spread(BLUR.optics), quiet)
    places = [
        (y, x) for y in range(49) for x in range(59) if np.array_equal(target[y : y + 32, x : x + 32], view.clean)
    ]
    y, x = places[0]
    assert np.allclose(view.poor[0][0], whole[y : y + 32, x : x + 32], atol=2e-3)


def test_the_clean_target_has_a_before_and_an_after() -> None:
    pixels = image(0, 64, 64)
    pixels[::7, ::9] = 5000
    synthesis = replace(NO_BLUR, preparation=Preparation(radius_px=1.0, is_opening=True))
    view = Bench().look(BenchAsk(source=NoisyLayer(name="a", image=pixels, axes="YX"), synthesis=synthesis))
    assert view.raw.max() == 1.0 and view.clean.max() < 0.5, "specks are gone from the target, not from the image"


def test_stacks_channels_volumes_and_files_can_be_looked_at(tmp_path: Path) -> None:
    stack = layer("ZCYX", 5, 2, 40, 44)
    planes = [
        Bench().look(BenchAsk(source=stack, synthesis=NO_BLUR, z=z, channel=c, patch_px=40)).raw
        for z, c in ((0, 0), (3, 0), (3, 1))
    ]
    assert not np.array_equal(planes[0], planes[1]) and not np.array_equal(planes[1], planes[2])
    deep = replace(BLUR, optics=replace(BLUR.optics, step_um=0.5))
    volume = Bench().look(BenchAsk(source=stack, synthesis=deep, z=4, n_dims=3, patch_px=32))
    assert volume.poor[0][0].shape == (32, 32)
    write(tmp_path / "a.ome.tif", image(2, 40, 40), "YX", pixel_size_um={"Y": 0.1, "X": 0.1}, dtype="keep")
    found = Bench().look(BenchAsk(source=tmp_path, synthesis=Synthesis(), patch_px=32))
    assert found.clean.shape == (32, 32), "the file tells the size of its pixels"
    flat = NoisyLayer(name="flat", image=np.full((40, 40), 7), axes="YX")
    with pytest.raises(ImageError, match="one single grey value"):
        Bench().look(BenchAsk(source=flat, synthesis=NO_BLUR))
