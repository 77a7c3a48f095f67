"""Images larger than memory in their own grey values: denoised, restored, separated, as they are in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ModelNotFoundError, ParameterError, TargetExistsError
from napari_cellenhance.core.models.denoiser import DenoisingNetwork, variant_settings
from napari_cellenhance.io.ome_zarr import create_store, open_store
from napari_cellenhance.workflows import catalog, denoise, large_images, large_objects, restore, separate
from napari_cellenhance.workflows.batch_recipe import from_result
from napari_cellenhance.workflows.denoise import DenoiseRequest
from napari_cellenhance.workflows.large_grey import grey_request, is_there, uncertainty_of
from napari_cellenhance.workflows.restore import RestoreRequest
from napari_cellenhance.workflows.separate import SeparateRequest

HOW: dict[str, Any] = {"device": "cpu", "precision": "float32"}
Stack = Callable[..., NDArray[np.uint16]]


def as_zarr(folder: Path, image: NDArray[Any], axes: str) -> str:
    store = create_store(folder, [image.shape], axes, dtype=image.dtype, chunk_px=64, name="cells")
    store.levels[0][...] = image
    store.finish({})
    return str(folder)


def whole(folder: Any) -> NDArray[Any]:
    pixels = open_store(folder).levels[0]
    return np.asarray(pixels[(slice(None),) * pixels.ndim])


def near(found: NDArray[Any], expected: NDArray[Any]) -> None:
    """Equal to 1e-4 of the range of grey values."""
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.ptp(expected))


def blocks(request: large_images.LargeRequest) -> large_images.LargeRequest:
    """Small blocks and tiles, and planes in a file."""
    return replace(request, settings=replace(request.settings, tile_px=64, memory_limit_mb=0), chunk_px=64)


def flat_plane(image: NDArray[np.uint16]) -> NDArray[np.uint16]:
    image[1] = 700
    return image


@pytest.mark.parametrize("statistics", ["plane", "stack"])
@pytest.mark.parametrize("symmetries", [1, 8])
def test_denoised_block_by_block(tmp_path: Path, stack: Stack, statistics: Any, symmetries: Any) -> None:
    image = flat_plane(stack(3, 100, 120))
    asked = DenoiseRequest(image=image, axes="ZYX", statistics=statistics, symmetries=symmetries, **HOW)
    source = as_zarr(tmp_path / "n.zarr", image, "ZYX")
    request = grey_request(source, str(tmp_path / "d.zarr"), replace(asked, axes=""), "denoise", n_times=symmetries)
    assert large_images.run(blocks(request)).is_complete
    near(whole(tmp_path / "d.zarr"), denoise.run(asked).image)
    (step,) = from_result(tmp_path / "d.zarr").steps
    assert isinstance(step, DenoiseRequest)
    assert (step.model_id, step.statistics, step.symmetries) == (asked.model_id, statistics, symmetries)


@pytest.mark.parametrize(("statistics", "repeats"), [("plane", 1), ("stack", 1), ("stack", 2)])
def test_restored_block_by_block_with_the_uncertainty(
    tmp_path: Path, stack: Stack, statistics: Any, repeats: int
) -> None:
    image = flat_plane(stack(3, 100, 120))
    asked = RestoreRequest(
        image=image, axes="ZYX", model_id="care-nuclei", statistics=statistics, repeats=repeats, **HOW
    )
    source, target = as_zarr(tmp_path / "n.zarr", image, "ZYX"), tmp_path / "r.ome.zarr"
    request = blocks(grey_request(source, str(target), replace(asked, axes=""), "restore", n_times=repeats))
    beside = uncertainty_of(request)
    assert beside is not None and beside.target == tmp_path / "r_uncertainty.ome.zarr"
    for one in (request, beside):
        assert large_images.run(one).is_complete
    expected = restore.run(asked)
    assert expected.uncertainty is not None
    near(whole(target), expected.image)
    near(whole(beside.target), expected.uncertainty)
    (step,) = from_result(target).steps
    assert isinstance(step, RestoreRequest) and step.repeats == repeats
    record = open_store(beside.target).provenance
    assert record is not None and record["shows"].startswith("scale of the Laplace")
    assert "n_windows" in record["result_check"] and not record["result_check"]["n_windows"]  # no image to compare


def test_separated_block_by_block(tmp_path: Path, stack: Stack) -> None:
    image = flat_plane(stack(2, 100, 120))
    asked = SeparateRequest(image=image, axes="ZYX", model_id="keep-nuclei", **HOW)
    source = as_zarr(tmp_path / "n.zarr", image, "ZYX")
    large_images.run(blocks(grey_request(source, str(tmp_path / "k.zarr"), replace(asked, axes=""), "separate")))
    near(whole(tmp_path / "k.zarr"), separate.run(asked).target)
    assert isinstance(from_result(tmp_path / "k.zarr").steps[0], SeparateRequest)


def test_the_pixel_type_of_the_source(tmp_path: Path, stack: Stack) -> None:
    image = stack(100, 120).astype(np.int16)
    asked = DenoiseRequest(image=image, axes="YX", **HOW)
    source = as_zarr(tmp_path / "n.zarr", image, "YX")
    request = grey_request(source, str(tmp_path / "d.ome.tif"), asked, "denoise", dtype="same")
    large_images.run(request)
    from napari_cellenhance.io.images import read

    found = read(tmp_path / "d.ome.tif").image
    assert found.dtype == np.int16
    assert np.abs(found - denoise.run(asked).image).max() <= 0.51
    floats = as_zarr(tmp_path / "f.zarr", image.astype(np.float64), "YX")
    large_images.run(grey_request(floats, str(tmp_path / "e.zarr"), asked, "denoise", dtype="same"))
    assert whole(tmp_path / "e.zarr").dtype == np.float32
    with pytest.raises(ParameterError, match="expected float32 or same"):
        replace(request, dtype="uint8")
    with pytest.raises(ParameterError, match="expected float32, uint8 or uint16"):
        replace(request, settings=replace(request.settings, filter_id="gaussian"))


def test_an_even_image_stays_as_it_is(tmp_path: Path) -> None:
    image = np.full((70, 80), 300, np.uint16)
    source = as_zarr(tmp_path / "n.zarr", image, "YX")
    asked = RestoreRequest(image=None, axes="", model_id="care-nuclei", **HOW)
    request = grey_request(source, str(tmp_path / "r.zarr"), asked, "restore")
    beside = uncertainty_of(request)
    assert beside is not None
    for one in (request, beside):
        large_images.run(one)
    assert (whole(tmp_path / "r.zarr") == 300).all() and not whole(beside.target).any()


def test_a_stopped_run_goes_on_and_ends_the_same(tmp_path: Path, stack: Stack) -> None:
    source = as_zarr(tmp_path / "n.zarr", stack(100, 120), "YX")
    asked = RestoreRequest(image=None, axes="", model_id="care-nuclei", **HOW)
    request = blocks(grey_request(source, str(tmp_path / "r.zarr"), asked, "restore"))
    seen: list[int] = []
    stopped = large_images.run(
        request, on_progress=lambda progress: seen.append(progress.n_done), is_cancelled=lambda: max(seen) >= 4
    )
    assert not stopped.is_complete and stopped.n_done >= 4
    with pytest.raises(TargetExistsError, match="other: filter"):
        large_images.run(blocks(grey_request(source, str(tmp_path / "r.zarr"), asked, "restore", n_times=2)))
    ended = large_images.run(request)
    assert ended.is_complete and ended.n_resumed == stopped.n_done
    large_images.run(replace(request, target=tmp_path / "one.zarr"))
    np.testing.assert_array_equal(whole(tmp_path / "r.zarr"), whole(tmp_path / "one.zarr"))


def test_what_is_made_already_is_known(tmp_path: Path, stack: Stack) -> None:
    source = as_zarr(tmp_path / "n.zarr", stack(70, 80), "YX")
    asked = RestoreRequest(image=None, axes="", model_id="care-nuclei", **HOW)
    request = grey_request(source, str(tmp_path / "r.zarr"), asked, "restore")
    beside = uncertainty_of(request)
    assert beside is not None and not is_there(request, beside)
    large_images.run(request)
    assert is_there(request, beside)
    assert not large_objects.is_made(grey_request(source, str(tmp_path / "r.zarr"), asked, "restore", n_times=2))
    large_images.run(beside)
    with pytest.raises(TargetExistsError, match="r_uncertainty"):
        is_there(request, beside)
    assert not is_there(replace(request, overwrite=True), replace(beside, overwrite=True))


def model_of(**changes: Any) -> str:
    """A denoiser with random weights and stored statistics, among the user's models."""
    from napari_cellenhance.zoo.weights import save_user_model

    n_channels = changes.pop("n_channels", 1)
    torch.manual_seed(0)
    settings = {"depth": 1, "width": 4, **variant_settings("n2v2")}
    net = DenoisingNetwork(n_channels=n_channels, statistics="stored", **settings)
    with torch.no_grad():
        net.mean.fill_(0.3)
        net.std.fill_(0.2)
    card = {
        "id": "own", "title": "Own", "summary": "Random weights.", "version": "1.0", "recipe": "n2v",
        "architecture": {"name": "denoiser", "n_channels": n_channels, "statistics": "stored", **settings},
        "normalization": {"name": "percentile", "parameters": {"lo": 0.1, "hi": 99.9, "clip": False}},
        "strength": {"default": 1.0, "maximum": 1.0, "knots": [1.0]}, "license": "CC0-1.0", "citation": "Nobody 2026",
        "axes": "YX", **changes,
    }  # fmt: skip
    return save_user_model(net.state_dict(), card).id


def test_stored_statistics_are_those_of_each_plane_as_in_memory(tmp_path: Path, stack: Stack) -> None:
    image = stack(2, 70, 80)
    asked = DenoiseRequest(image=image, axes="ZYX", model_id=model_of(), **HOW)
    source = as_zarr(tmp_path / "n.zarr", image, "ZYX")
    large_images.run(grey_request(source, str(tmp_path / "d.zarr"), replace(asked, axes=""), "denoise"))
    near(whole(tmp_path / "d.zarr"), denoise.run(asked).image)


def test_models_that_need_more_than_a_plane_are_refused() -> None:
    asked = DenoiseRequest(image=None, axes="", model_id=model_of(n_channels=2))
    with pytest.raises(ParameterError, match="several channels together, which is not done block by block"):
        grey_request("a.zarr", "b.zarr", asked, "denoise")
    with pytest.raises(ModelNotFoundError, match="no restoration model 'n2v2-fluorescence'"):
        grey_request("a.zarr", "b.zarr", replace(asked, model_id="n2v2-fluorescence"), "restore")
    with pytest.raises(ParameterError, match="knows no uncertainty"):
        catalog.describe("grey|denoise|uncertainty|1|n2v2-fluorescence")
