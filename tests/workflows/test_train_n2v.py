"""Training a denoiser: layers and files as noisy images, what is published, stop and resume, and using the result."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_cellenhance.core.errors import ImageError, ModelNotFoundError, ParameterError
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.io.images import read, write
from napari_cellenhance.workflows import denoise
from napari_cellenhance.workflows._file_results import as_dtype
from napari_cellenhance.workflows.catalog import describe, list_filters
from napari_cellenhance.workflows.denoise import DenoiseRequest
from napari_cellenhance.workflows.denoise_files import DenoiseFilesRequest
from napari_cellenhance.workflows.denoise_files import run as denoise_files
from napari_cellenhance.workflows.noisy_images import NoisyLayer, digest_of, read_files, read_layers
from napari_cellenhance.workflows.train_n2v import (
    Glimpse,
    N2VRequest,
    ViewedWindow,
    estimate,
    remembered,
    run,
)
from napari_cellenhance.workflows.train_progress import TrainProgress
from napari_cellenhance.zoo.manifest import find_model, list_models
from napari_cellenhance.zoo.weights import load_model, load_state


@pytest.fixture
def noisy() -> np.ndarray:
    return np.random.default_rng(0).normal(500, 60, (64, 72)).clip(0, 4095).astype(np.uint16)


@pytest.fixture
def request_(noisy: np.ndarray, tmp_path: Path) -> N2VRequest:
    return N2VRequest(
        data=(NoisyLayer(name="cells", image=noisy, axes="YX"),), out=tmp_path / "out", model_id="mine", n_steps=4,
        validate_every=2, batch_size=2, patch_px=32, width=4, precision="float32",
        recipe_options={"n_validation": 4},
    )  # fmt: skip


# --- images to learn from -------------------------------------------------------------------


def test_planes_volumes_and_channels_of_a_layer() -> None:
    stack = np.random.default_rng(0).random((2, 5, 3, 16, 18))  # T Z C Y X
    layer = NoisyLayer(name="a", image=stack, axes="TZCYX")
    planes = read_layers((layer,))
    assert len(planes) == 10 and planes[0].pixels.shape == (3, 16, 18) and planes[0].pixels.dtype == np.float32
    assert np.array_equal(planes[6].pixels, stack[1, 1].astype(np.float32))
    volumes = read_layers((layer,), 3)
    assert len(volumes) == 2 and volumes[1].pixels.shape == (3, 5, 16, 18)
    assert np.array_equal(volumes[1].pixels[2], stack[1, :, 2].astype(np.float32))
    one = read_layers((replace(layer, channels=(1,)),))
    assert np.array_equal(one[0].pixels[0], stack[0, 0, 1].astype(np.float32))


def test_planes_without_contrast_are_left_out_and_numbers_that_are_none_filled() -> None:
    stack = np.random.default_rng(0).random((3, 16, 16))
    stack[1] = 7.0
    stack[2, 0, 0] = np.nan
    found = read_layers((NoisyLayer(name="a", image=stack, axes="ZYX"),))
    assert [image.name for image in found] == ["a, plane 0", "a, plane 2"]
    assert np.isfinite(found[1].pixels).all()
    with pytest.raises(ImageError, match="“b” shows one single grey value"):
        read_layers((NoisyLayer(name="b", image=np.ones((8, 8)), axes="YX"),))


def test_of_a_long_movie_planes_are_taken_at_equal_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_cellenhance.workflows.noisy_images.MAX_PIXELS", 3 * 16 * 16)
    movie = np.random.default_rng(0).random((9, 16, 16))
    found = read_layers((NoisyLayer(name="m", image=movie, axes="TYX"),))
    assert [image.name for image in found] == ["m, plane 0", "m, plane 4", "m, plane 8"]


def test_lazy_layers_are_read_plane_by_plane() -> None:
    da = pytest.importorskip("dask.array")
    movie = np.random.default_rng(0).random((4, 16, 16))
    lazy = da.from_array(movie, chunks=(1, 16, 16))
    assert digest_of(read_layers((NoisyLayer(name="m", image=lazy, axes="TYX"),))) == digest_of(
        read_layers((NoisyLayer(name="m", image=movie, axes="TYX"),))
    )


def test_layers_that_do_not_belong_together_are_refused(noisy: np.ndarray) -> None:
    with pytest.raises(ImageError, match="“b” has 2 channels, “a” 1"):
        read_layers(
            (
                NoisyLayer(name="a", image=noisy, axes="YX"),
                NoisyLayer(name="b", image=np.eye(16)[None].repeat(2, 0), axes="CYX"),
            )
        )
    with pytest.raises(ImageError, match="no Z axis"):
        read_layers((NoisyLayer(name="a", image=noisy, axes="YX"),), 3)
    with pytest.raises(ParameterError, match="at least one layer"):
        read_layers(())


def test_files_folders_and_lists_of_sources(noisy: np.ndarray, tmp_path: Path) -> None:
    write(tmp_path / "a.tif", noisy, "YX", dtype="keep")
    write(tmp_path / "b.tif", noisy[::-1].copy(), "YX", dtype="keep")
    assert [image.name for image in read_files(tmp_path / "a.tif")] == ["a.tif"]
    assert [image.name for image in read_files(tmp_path)] == ["a.tif", "b.tif"]
    np.savez(tmp_path / "s.npz", images=np.stack([noisy, noisy]))
    entry = {"name": "s", "npz": "s.npz", "key": "images", "planes": [[0], [1]], "weight": 3}
    (tmp_path / "sources.json").write_text(json.dumps({"sources": [entry]}))
    found = read_files(tmp_path / "sources.json")
    assert [image.weight for image in found] == [3.0, 3.0]
    assert np.array_equal(found[0].pixels[0], noisy.astype(np.float32)), "grey values as they are"
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="no TIFF or PNG file"):
        read_files(tmp_path / "empty")


# --- training -------------------------------------------------------------------------------


def test_a_training_leaves_a_model_that_every_list_shows(request_: N2VRequest) -> None:
    seen: list[TrainProgress] = []
    result = run(request_, on_progress=lambda p: seen.append(p) if isinstance(p, TrainProgress) else None)
    assert result.stopped == "finished" and result.weights is not None and result.weights.is_file()
    assert [p.n_done for p in seen] == [1, 2, 3, 4]
    card = find_model("mine")
    assert card.recipe == "n2v" and card.axes == "YX"
    assert card.normalization.name == "fixed"
    low, high = card.normalization.parameters["low"], card.normalization.parameters["high"]
    assert isinstance(request_.data, tuple)
    pixels = request_.data[0].image
    assert (low, high) == (pixels.min(), pixels.max())
    assert card.scores["blind_spot_error"] == pytest.approx(result.best_total)
    assert card.training["data"] == [{"name": "cells", "n_images": 1, "n_px": pixels.size}]
    module: Any = load_model(card)
    assert float(module.mean) == pytest.approx((pixels.mean() - low) / (high - low), rel=1e-4)
    assert "mine" in {info.id for info in list_filters()} and describe("mine").info.group == "Denoising"
    assert (Path(request_.out) / "history.png").stat().st_size > 1000


def test_cancelling_keeps_the_best_discarding_publishes_nothing(request_: N2VRequest) -> None:
    n: list[int] = []
    kept = run(request_, on_progress=lambda p: n.append(p.n_done), is_cancelled=lambda: max(n, default=0) >= 2)
    assert kept.stopped == "cancelled" and kept.weights is not None
    gone = run(replace(request_, model_id="other"), is_discarded=lambda: True)
    assert gone.stopped == "discarded" and gone.weights is None
    assert "other" not in {card.id for card in list_models()}


def test_a_resumed_training_ends_with_the_same_weights(request_: N2VRequest, tmp_path: Path) -> None:
    whole = run(replace(request_, out=tmp_path / "whole", model_id="whole"))
    first = replace(request_, out=tmp_path / "parts", model_id="parts", stop_after=2)
    run(first)
    again = run(remembered(replace(first, stop_after=0, n_steps=1)))
    assert whole.weights is not None and again.weights is not None
    one, two = load_state(whole.weights), load_state(again.weights)
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
    with pytest.raises(ParameterError, match="other settings"):
        run(replace(first, resume=True, percent=1.0))


def test_a_training_can_start_from_a_model(request_: N2VRequest) -> None:
    run(request_)
    source: Any = load_model(find_model("mine"))
    start = replace(request_, init_from="mine", model_id="tuned", learning_rate=1e-12, average=0.0)
    run(start)
    tuned: Any = load_model(find_model("tuned"))
    assert torch.allclose(tuned.nets[0].head.weight, source.nets[0].head.weight, atol=1e-6)
    two = np.stack([request_.data[0].image] * 2)  # type: ignore[index, union-attr]
    run(replace(start, data=(NoisyLayer(name="2", image=two, axes="CYX"),), model_id="both"))
    both: Any = load_model(find_model("both"))
    assert len(both.nets) == 2
    assert torch.allclose(both.nets[1].head.weight, source.nets[0].head.weight, atol=1e-6)
    with pytest.raises(ParameterError, match="differs from that of 'mine'"):
        run(replace(start, width=8))
    with pytest.raises(ParameterError, match="no denoiser"):
        run(replace(start, init_from="aep-nuclei"))


def test_what_is_looked_at_is_denoised_on_the_way(
    request_: N2VRequest, noisy: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_cellenhance.workflows._train_loop.GLIMPSE_EVERY_S", 3600.0)
    shown: list[Glimpse] = []
    window = ViewedWindow(plane=noisy[None], region=Region(10, 50, 20, 70), key="here")
    run(request_, look=lambda: window, on_glimpse=shown.append)
    assert len(shown) == 1 and shown[0].window.key == "here"
    assert shown[0].shown.shape == (1, 40, 50)
    assert 0 < shown[0].shown.mean() < 4095, "in grey values"


def test_a_time_limit_becomes_a_number_of_updates_and_time_can_be_told_before(request_: N2VRequest) -> None:
    run(replace(request_, n_steps=0, time_limit_s=0.5), is_discarded=lambda: True)
    assert json.loads((Path(request_.out) / "settings.json").read_text())["n_steps"] >= 8
    found = estimate(request_)
    assert found.step_s > 0 and found.total_s(100, 50) > 100 * found.step_s
    with pytest.raises(ParameterError, match="give a number of updates"):
        replace(request_, n_steps=0, time_limit_s=0)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"variant": "n2v3"}, "variant is 'n2v3'"),
        ({"n_dims": 4}, "4 dimensions"),
        ({"structure": "x"}, "structure is"),
        ({"recipe_options": {"nothing": 1}}, "unknown training option"),
        ({"recipe_options": {"noise": {"loud": 1}}}, "unknown training option"),
    ],
)
def test_settings_out_of_range_are_refused(request_: N2VRequest, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        run(replace(request_, **settings))


def test_volumes_structured_noise_and_shared_outputs(request_: N2VRequest) -> None:
    volume = np.random.default_rng(1).normal(10, 2, (8, 32, 32)).astype(np.float32)
    layer = NoisyLayer(name="v", image=volume, axes="ZYX")
    run(replace(request_, data=(layer,), n_dims=3, structure="horizontal", reach_px=1, n_steps=2, model_id="vol"))
    card = find_model("vol")
    assert card.axes == "ZYX" and "vol" not in {info.id for info in list_filters()}, "no filter of planes"
    assert card.training["recipe"]["spots"]["structure"] == "horizontal"  # type: ignore[index, call-overload]
    done = denoise.run(DenoiseRequest(image=volume, axes="ZYX", model_id="vol", device="cpu"))
    assert done.image.shape == volume.shape and done.is_complete
    with pytest.raises(ImageError, match="no Z axis"):
        denoise.run(DenoiseRequest(image=volume[0], axes="YX", model_id="vol", device="cpu"))
    run(replace(request_, has_classes=True, n_steps=2, model_id="shared"))
    assert find_model("shared").architecture["has_classes"] is True


# --- using it -------------------------------------------------------------------------------


@pytest.fixture
def model(request_: N2VRequest) -> str:
    run(replace(request_, n_steps=30, validate_every=10, learning_rate=5e-3, average=0.5))
    return "mine"


def _denoise(image: Any, axes: str, **settings: Any) -> denoise.DenoiseResult:
    return denoise.run(
        DenoiseRequest(image=image, axes=axes, model_id="mine", device="cpu", precision="float32", **settings)
    )


def test_the_result_has_the_grey_values_axes_and_shape_of_the_image(model: str, noisy: np.ndarray) -> None:
    movie = np.stack([noisy, noisy[:, ::-1]])
    done = _denoise(movie, "TYX")
    assert done.image.shape == movie.shape and done.axes == "TYX" and done.image.dtype == np.float32
    assert done.image.mean() == pytest.approx(movie.mean(), rel=0.1)
    assert done.image.std() < 0.6 * movie.std(), "noise is gone"
    alone = _denoise(noisy, "YX")
    assert np.allclose(alone.image, done.image[0], atol=1e-3), "stored statistics: planes do not depend on each other"
    assert alone.provenance["step"] == "denoise" and alone.provenance["normalization"]["name"] == "fixed"
    assert alone.provenance["sha256"] == find_model("mine").file.sha256


def test_dock_of_filters_and_denoising_agree(model: str, noisy: np.ndarray) -> None:
    from napari_cellenhance.workflows.enhance import run as enhance
    from napari_cellenhance.workflows.requests import EnhanceRequest

    card = find_model(model)
    low, high = card.normalization.parameters["low"], card.normalization.parameters["high"]
    plain = _denoise(noisy, "YX").image
    found = enhance(EnhanceRequest(image=noisy, axes="YX", filter_id=model, device="cpu", precision="float32"))
    assert np.allclose(found.image, np.clip((plain - low) / (high - low), 0, 1), atol=1e-4)


def test_windows_symmetries_channels_and_lazy_images(model: str, noisy: np.ndarray) -> None:
    da = pytest.importorskip("dask.array")
    whole = _denoise(noisy, "YX").image
    part = _denoise(noisy, "YX", region=Region(8, 40, 10, 60)).image
    assert np.allclose(part, whole[8:40, 10:60], atol=0.05)
    assert not np.allclose(_denoise(noisy, "YX", symmetries=8).image, whole, atol=0.1)
    two = np.stack([noisy, noisy + 100])
    both = _denoise(da.from_array(two, chunks=(1, 64, 72)), "CYX")
    assert both.image.shape == two.shape and np.allclose(both.image[0], whole, atol=1e-3)
    assert _denoise(two, "CYX", channels=(1,)).axes == "YX"


def test_flat_planes_and_missing_numbers_are_told(model: str, noisy: np.ndarray) -> None:
    stack = np.stack([noisy.astype(np.float32), np.full(noisy.shape, 5.0, np.float32)])
    stack[0, 3, 4] = np.nan
    done = _denoise(stack, "ZYX")
    assert np.isfinite(done.image).all() and (done.image[1] == 5.0).all()
    assert any("1 pixels were no numbers" in text for text in done.warnings)
    assert any("one single grey value" in text for text in done.warnings)


def test_a_cancelled_run_returns_what_is_done(model: str, noisy: np.ndarray) -> None:
    n: list[int] = []
    movie = np.stack([noisy] * 3)
    done = denoise.run(
        DenoiseRequest(image=movie, axes="TYX", model_id=model, device="cpu"),
        on_progress=lambda p: n.append(p.n_done), is_cancelled=lambda: max(n, default=0) >= 1,
    )  # fmt: skip
    assert not done.is_complete and done.image[0].any() and not done.image[2].any()


def test_memory_that_runs_out_means_smaller_tiles(
    model: str, noisy: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_cellenhance.core.recipes.denoiser import Denoiser

    whole = _denoise(noisy, "YX").image
    real: Callable[..., Any] = Denoiser.denoise

    def short(self: Denoiser, image: np.ndarray, **settings: Any) -> Any:
        if settings["tile_px"] > 128:
            raise MemoryError("DefaultCPUAllocator: can't allocate memory")
        return real(self, image, **settings)

    monkeypatch.setattr(Denoiser, "denoise", short)
    done = _denoise(noisy, "YX")
    assert np.allclose(done.image, whole, atol=0.05)
    assert [text for text in done.warnings if "tiles of 128 px" in text]


def test_unknown_models_are_named(noisy: np.ndarray) -> None:
    with pytest.raises(ModelNotFoundError, match="no denoiser 'aep-nuclei'"):
        denoise.run(DenoiseRequest(image=noisy, axes="YX", model_id="aep-nuclei"))
    with pytest.raises(ParameterError, match="3 symmetries"):
        DenoiseRequest(image=noisy, axes="YX", symmetries=3)  # type: ignore[arg-type]


def test_files_are_denoised_in_their_own_type(model: str, noisy: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "a.tif", noisy, "YX", dtype="keep", pixel_size_um={"Y": 0.2, "X": 0.2})
    (tmp_path / "in" / "b.tif").write_bytes(b"not a picture")
    settings = DenoiseRequest(image=None, axes="", model_id=model, device="cpu", precision="float32")
    request = DenoiseFilesRequest(source=tmp_path / "in", target=tmp_path / "out", settings=settings, dtype="same")
    result = denoise_files(request)
    assert [outcome.is_done for outcome in result.outcomes] == [True, False]
    file = read(result.outcomes[0].targets[0])
    assert file.image.dtype == np.uint16 and file.pixel_size_um["Y"] == pytest.approx(0.2)
    assert np.abs(file.image - _denoise(noisy, "YX").image).max() <= 0.5
    with pytest.raises(ParameterError, match="'float32' or 'same'"):
        replace(request, dtype="int7")  # type: ignore[arg-type]


def test_rounding_cuts_off_what_a_type_cannot_hold() -> None:
    image = np.array([-3.0, 1.5, 254.6, 300.0], np.float32)
    assert as_dtype(image, np.dtype(np.uint8)).tolist() == [0, 2, 255, 255]
    assert as_dtype(image, np.dtype(np.float64)) is image
    assert as_dtype(np.array([1e12], np.float32), np.dtype(np.int32)).tolist() == [2**31 - 1]
