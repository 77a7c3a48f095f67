"""A trained denoiser on images of any size: tiles, volumes, channels, statistics, and as a filter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from napari_cellenhance.core.device import DeviceChoice
from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.core.inference import Cancelled, Rendering, enhance_plane
from napari_cellenhance.core.models.denoiser import DenoisingNetwork, Statistics
from napari_cellenhance.core.recipes import denoiser as denoiser_recipe
from napari_cellenhance.core.recipes.denoiser import DenoiseEnhancer, Denoiser, Moments
from napari_cellenhance.core.recipes.protocol import Enhancer, FilterInfo, StrengthInfo
from napari_cellenhance.core.tiling import Region

CPU = DeviceChoice(device="cpu", precision="float32", note="")


def _network(statistics: Statistics = "stored", **settings: Any) -> DenoisingNetwork:
    torch.manual_seed(2)
    net = DenoisingNetwork(width=4, statistics=statistics, **settings)
    net.train()
    with torch.no_grad():
        sides = (8, 16, 16)[-net.n_dims :]
        for _ in range(3):
            net(torch.randn(2, net.n_channels, *sides))
    net.mean += 0.4
    net.std *= 0.2
    return net.eval()


def _image(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.4, 0.2, shape).astype(np.float32)


@pytest.mark.parametrize("settings", [{}, {"pool": "blur", "top_skip": False}, {"n_channels": 2}])
def test_tiles_and_windows_equal_the_whole_plane(settings: dict[str, Any]) -> None:
    net = _network(**settings)
    denoiser, image = Denoiser(net, CPU), _image(net.n_channels, 93, 130)
    whole = denoiser.denoise(image)
    assert whole.shape == image.shape and whole.dtype == np.float32
    assert np.abs(denoiser.denoise(image, tile_px=32) - whole).max() < 1e-5
    region = Region(17, 60, 41, 119)
    assert np.abs(denoiser.denoise(image, region=region, tile_px=24) - whole[:, 17:60, 41:119]).max() < 1e-5


def test_volumes_are_tiled_along_z_too() -> None:
    denoiser, image = Denoiser(_network(n_dims=3), CPU), _image(1, 70, 24, 30)
    whole = denoiser.denoise(image, tile_planes=100)
    assert np.abs(denoiser.denoise(image, tile_planes=8, tile_px=16) - whole).max() < 1e-5
    assert denoiser.n_tiles((70, 24, 30), tile_px=16, tile_planes=8) > 1


def test_the_network_sees_standardised_values_and_the_result_is_in_those_of_the_image() -> None:
    net = _network()
    image = _image(1, 32, 32)
    with torch.inference_mode():
        expected = net(torch.from_numpy((image - 0.4) / 0.2)[None])[0].numpy() * 0.2 + 0.4
    assert np.allclose(Denoiser(net, CPU).denoise(image), expected, atol=1e-5)


def test_stored_statistics_are_the_same_for_every_image_those_of_the_image_are_not() -> None:
    image = _image(1, 32, 32)
    stored, own = Denoiser(_network(), CPU), Denoiser(_network("image"), CPU)
    assert stored.moments_of([image]) is stored.moments_of([2 * image])
    assert own.moments_of([image]).std == pytest.approx(image.std(), rel=1e-5)
    brighter = own.denoise(3 * image + 1)
    assert np.allclose(brighter, 3 * own.denoise(image) + 1, atol=1e-4), "contrast and offset do not matter"
    assert not np.allclose(stored.denoise(3 * image + 1), 3 * stored.denoise(image) + 1, atol=1e-2)


def test_moments_are_pooled_per_channel() -> None:
    images = [_image(2, 8, 9, seed=i) * (i + 1) for i in range(2)]
    found = Moments.of(images)
    for c in range(2):
        pixels = np.concatenate([image[c].ravel() for image in images])
        assert found.mean[c] == pytest.approx(pixels.mean(), rel=1e-5)
        assert found.std[c] == pytest.approx(pixels.std(), rel=1e-5)


@pytest.mark.parametrize("shape", [(1, 4000), (1, 50, 80), (1, 5, 20, 40)])
def test_moments_are_summed_over_large_pieces(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Not pixel by pixel, which took a second for 512² once; pixels in a row, a plane, a volume."""
    monkeypatch.setattr(denoiser_recipe, "_BAND_PX", 1000)
    image = np.random.default_rng(0).normal(5, 2, shape).astype(np.float32)
    pieces = list(denoiser_recipe._bands(image))
    assert len(pieces) <= 2 * image.size // 1000 and sum(piece.size for piece in pieces) == image.size
    found = Moments.of([image])
    assert found.mean[0] == pytest.approx(image.mean(), rel=1e-5) and found.std[0] == pytest.approx(
        image.std(), rel=1e-5
    )


def test_eight_symmetries_make_the_result_turn_with_the_image() -> None:
    denoiser, image = Denoiser(_network(), CPU), _image(1, 24, 24)
    turned = np.ascontiguousarray(np.rot90(image, axes=(1, 2)))
    averaged = denoiser.denoise(image, n_symmetries=8)
    assert np.allclose(denoiser.denoise(turned, n_symmetries=8), np.rot90(averaged, axes=(1, 2)), atol=1e-5)
    assert not np.allclose(denoiser.denoise(turned), np.rot90(denoiser.denoise(image), axes=(1, 2)), atol=1e-3)


def test_a_flat_image_comes_back_as_it_is() -> None:
    flat = np.full((1, 16, 16), 3.0, np.float32)
    assert np.array_equal(Denoiser(_network("image"), CPU).denoise(flat), flat)


@pytest.mark.parametrize("side", [1, 2, 3, 5])
def test_tiny_images_keep_their_size(side: int) -> None:
    found = Denoiser(_network(), CPU).denoise(_image(1, side, side + 1))
    assert found.shape == (1, side, side + 1) and np.isfinite(found).all()


def test_what_does_not_fit_is_refused() -> None:
    denoiser = Denoiser(_network(), CPU)
    with pytest.raises(ImageError, match="takes 1 channel"):
        denoiser.denoise(_image(2, 8, 8))
    with pytest.raises(ImageError, match="no numbers"):
        denoiser.denoise(np.full((1, 8, 8), np.inf, np.float32))


def test_it_can_be_stopped_between_tiles() -> None:
    done: list[int] = []

    def stop() -> None:
        if len(done) == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        Denoiser(_network(), CPU).denoise(
            _image(1, 64, 64), tile_px=16, on_tile=lambda: done.append(1), checkpoint=stop
        )
    assert len(done) == 2


def test_training_can_go_on_while_it_is_used() -> None:
    net = _network()
    denoiser, image = Denoiser(net, CPU), _image(1, 16, 16)
    before = denoiser.denoise(image)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1.0)
        net.mean += 1.0
    assert np.array_equal(denoiser.denoise(image), before)


# --- as a filter ----------------------------------------------------------------------------

INFO = FilterInfo(
    id="d", title="D", group="Denoising", summary="", strength=StrengthInfo(label="", help="", default=1.0, maximum=1.0)
)


def test_as_a_filter_it_blends_and_tiles_do_not_show() -> None:
    net = _network("image")
    enhancer, plane = DenoiseEnhancer(net, INFO, CPU), _image(1, 70, 90)[0].clip(0, 1)
    assert isinstance(enhancer, Enhancer)
    calibration = enhancer.calibrate([plane], lambda: None)
    full = Denoiser(net, CPU).denoise(plane[None])[0]
    for strength in (0.0, 0.4, 1.0, 2.0):
        found = enhance_plane(enhancer, plane, calibration, Rendering(strength), tile_px=32).image
        share = min(1.0, strength)
        assert np.allclose(found, np.clip((1 - share) * plane + share * full, 0, 1), atol=1e-5)


def test_only_single_planes_of_one_channel_make_a_filter() -> None:
    for settings in ({"n_channels": 2}, {"n_dims": 3}):
        with pytest.raises(ImageError, match="single planes"):
            DenoiseEnhancer(_network(**settings), INFO, CPU)  # type: ignore[arg-type]


def test_a_network_of_all_channels_together_looks_at_each_for_each() -> None:
    net = _network(n_channels=2, is_joint=True)
    denoiser, image = Denoiser(net, CPU), _image(2, 45, 50)
    whole = denoiser.denoise(image)
    with torch.inference_mode():
        padded = np.pad(image, ((0, 0), (0, -45 % net.grid_px), (0, -50 % net.grid_px)), mode="reflect")
        mean, std = (moment[:, None, None] for moment in (net.mean, net.std))
        expected = (net((torch.from_numpy(padded)[None] - mean) / std)[0] * std + mean)[:, :45, :50].numpy()
    np.testing.assert_allclose(whole[:, 8:-8, 8:-8], expected[:, 8:-8, 8:-8], atol=1e-5)
    changed = image.copy()
    changed[1] += 1
    assert np.abs(denoiser.denoise(changed)[0] - whole[0]).max() > 1e-4, "the first channel depends on the second"
    assert np.abs(denoiser.denoise(image, tile_px=16) - whole).max() < 1e-5
