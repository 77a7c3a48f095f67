"""Features of a pretrained network: the same in tiles as in whole planes, coarse maps sampled as they are enlarged."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from napari_cellenhance.core.models.nunet import NUNet
from napari_cellenhance.core.models.nunet_features import (
    FILTER_SCALES_PX,
    FeatureMap,
    NUNetFeatures,
    dense_features,
    group_sizes,
    linear_logits,
    n_channels,
    sample_features,
)
from napari_cellenhance.core.recipes.padded_plane import PaddedPlane
from napari_cellenhance.core.tiling import Region

KINDS = {
    "unconditioned": {"output": "sigmoid"},
    "head": {"conditioning": "head", "knots": (0.0, 10.0), "output": "sigmoid"},
    "decoder": {"conditioning": "decoder", "knots": (0.0, 10.0), "output": "sigmoid"},
}


def network(kind: str = "decoder") -> NUNet:
    """Seeded network with the statistics of a noisy picture, so that every map varies."""
    torch.manual_seed(3)
    net = NUNet(norm="frozen", **KINDS[kind])  # type: ignore[arg-type]
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.5
    images = torch.from_numpy(plane(64, 64, seed=9))[None, None] * 255
    net.train()
    with torch.no_grad():
        for _ in range(10):
            net(images, torch.tensor([5.0]) if net.knots else None)
    return net.eval()


def plane(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def features(
    image: NDArray[np.float32], region: Region | None = None, dtype: torch.dtype = torch.float32, kind: str = "decoder"
) -> tuple[FeatureMap, ...]:
    net = NUNetFeatures(network(kind), "cpu", dtype)
    padded = PaddedPlane.of(image)
    window = Region(0, padded.shape[0], 0, padded.shape[1]) if region is None else region
    return net.extract(padded.source(net.device), window, padded.shape)


def dense(maps: tuple[FeatureMap, ...], region: Region) -> NDArray[np.float32]:
    return dense_features(maps, region).numpy()


@pytest.mark.parametrize("window", [Region(0, 48, 0, 64), Region(44, 92, 60, 104), Region(80, 128, 40, 144)])
def test_a_window_has_the_features_of_the_plane(window: Region) -> None:
    image = plane(128, 144)
    expected = dense(features(image), Region(0, 128, 0, 144))[:, *window.slices]
    found = dense(features(image, window), window)
    assert found.shape == (n_channels(), *window.shape)
    np.testing.assert_allclose(found, expected, atol=5e-4)
    assert expected[:13].std(axis=(1, 2)).min() > 5e-3 and expected[13:].std(axis=(1, 2)).min() > 0.1


def test_a_pixel_beyond_the_context_changes_nothing() -> None:
    image, other = plane(64, 208), plane(64, 208)
    other[:, 120:] = plane(64, 88, seed=1)
    window = Region(0, 64, 0, 60)
    np.testing.assert_array_equal(dense(features(image, window), window), dense(features(other, window), window))


@pytest.mark.parametrize("kind", KINDS)
def test_the_map_is_the_first_of_the_decoder(kind: str) -> None:
    image = plane(32, 40)
    net = network(kind)
    x = torch.from_numpy(image)[None, None] * 255
    with torch.inference_mode():
        for layer in net.enc:
            x = torch.relu(layer(x))
        x = net.up1(net.trunk[4](net.trunk[3](net.trunk[2](net.trunk[1](net.trunk[0](x))))))
        expected = torch.relu(x if net.early is None else net.early(x, torch.tensor([5.0])))[0]
    found = features(image, kind=kind)[1]
    assert found.scale == 2 and found.values.shape == (16, 20, 64)
    np.testing.assert_allclose(found.values.permute(2, 0, 1).numpy(), expected.numpy(), atol=1e-3)


def test_filters_are_those_of_scipy() -> None:
    image = ndimage.gaussian_filter(plane(64, 64), 1)
    found = features(image)[0].values.permute(2, 0, 1).float().numpy()[:, 12:-12, 12:-12]
    assert len(found) == group_sizes()[0]
    np.testing.assert_allclose(found[0], image[12:-12, 12:-12], atol=1e-3)
    for number, sigma in enumerate(FILTER_SCALES_PX):

        def of(*order: int, sigma: float = sigma) -> NDArray[np.float32]:
            return ndimage.gaussian_filter(image, sigma, order=order, truncate=5)[12:-12, 12:-12]

        smooth, gradient, high, low = found[1 + 4 * number : 5 + 4 * number]
        np.testing.assert_allclose(smooth, of(0, 0), atol=3e-3)
        np.testing.assert_allclose(gradient, sigma * np.hypot(of(1, 0), of(0, 1)), atol=0.02 * gradient.max() + 2e-3)
        np.testing.assert_allclose(high + low, sigma**2 * (of(2, 0) + of(0, 2)), atol=0.03 * np.ptp(high + low) + 2e-3)
        assert (high >= low).all()


def test_sampling_equals_enlarging() -> None:
    image = plane(61, 83)
    padded = PaddedPlane.of(image).shape
    window = Region(8, padded[0], 12, padded[1])
    maps = features(image, window)
    rows, columns = (
        np.random.default_rng(2).integers(low, high, 300) for low, high in ((8, padded[0]), (12, padded[1]))
    )
    found = sample_features(maps, torch.from_numpy(rows), torch.from_numpy(columns)).numpy()
    np.testing.assert_allclose(found.T, dense(maps, window)[:, rows - 8, columns - 12], atol=1e-4)
    assert any(each.scale > 1 for each in maps)


@pytest.mark.parametrize("window", [Region(8, 64, 12, 84), Region(16, 40, 20, 84), Region(8, 12, 40, 44)])
def test_classifying_coarse_maps_equals_classifying_pixels(window: Region) -> None:
    image = plane(61, 83)
    maps = features(image, Region(8, 64, 12, 84))
    generator = torch.Generator().manual_seed(4)
    weight, bias = torch.randn(3, n_channels(), generator=generator), torch.randn(3, generator=generator)
    found = linear_logits(maps, weight, bias, window)
    rows, columns = (each.ravel() for each in torch.meshgrid(
        torch.arange(window.y0, window.y1), torch.arange(window.x0, window.x1), indexing="ij"
    ))  # fmt: skip
    expected = (sample_features(maps, rows, columns) @ weight.T + bias).T.reshape(found.shape)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (17, 16), (18, 131)])
def test_tiny_planes_have_finite_features(shape: tuple[int, int]) -> None:
    image = plane(*shape)
    padded = PaddedPlane.of(image).shape
    found = dense(features(image), Region(0, padded[0], 0, padded[1]))
    assert found.shape == (n_channels(), *padded) and np.isfinite(found).all()


def test_bf16_halves_the_memory_and_stays_close() -> None:
    image = plane(96, 96)
    region = Region(0, 96, 0, 96)
    exact, rounded = features(image), features(image, dtype=torch.bfloat16)
    for one, other in zip(exact[1:], rounded[1:], strict=True):
        assert other.n_bytes * 2 == one.n_bytes
    a, b = dense(exact, region), dense(rounded, region)
    spread = a.std(axis=(1, 2))
    error = np.abs(a - b).mean(axis=(1, 2))
    assert error.max() > 0 and (error <= 0.05 * spread.max()).all()


def test_maps_do_not_hold_the_context_in_memory() -> None:
    for each in features(plane(128, 128), Region(48, 80, 48, 80)):
        assert each.values.untyped_storage().nbytes() == each.n_bytes


def test_instance_norms_are_refused() -> None:
    with pytest.raises(ValueError, match="frozen norms"):
        NUNetFeatures(NUNet(), "cpu", torch.float32)
