"""Fixed-strength networks behind one slider."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_cellenhance.core.device import DeviceChoice
from napari_cellenhance.core.errors import ManifestError, ParameterError
from napari_cellenhance.core.models.build import build
from napari_cellenhance.core.models.nunet_blend import BlendedNUNet
from napari_cellenhance.core.recipes.nunet_blend import BlendedEnhancer
from napari_cellenhance.core.recipes.nunet_enhancer import NUNetEnhancer
from napari_cellenhance.core.recipes.protocol import Enhancer, FilterInfo, StrengthInfo
from napari_cellenhance.core.tiling import Region

INFO = FilterInfo(
    id="b", title="b", group="NU-Net", summary="",
    strength=StrengthInfo(label="Strength", help="", default=8.0, maximum=10.0),
)  # fmt: skip
CPU = DeviceChoice(device="cpu", precision="float32", note="")


@pytest.fixture(scope="module")
def module() -> BlendedNUNet:
    torch.manual_seed(0)
    net = BlendedNUNet(knots=(5.0, 8.0)).eval()
    with torch.no_grad():
        for network in net.networks:
            network.head.weight.mul_(100.0)  # type: ignore[union-attr]
    return net


@pytest.fixture(scope="module")
def enhancer(module: BlendedNUNet) -> BlendedEnhancer:
    return BlendedEnhancer(module, INFO, lambda network: NUNetEnhancer(network, INFO, CPU))


@pytest.fixture
def plane(rng: np.random.Generator) -> np.ndarray:
    return rng.random((48, 56)).astype(np.float32)


def test_blend_is_exact_at_knots_linear_between_and_clamped(
    module: BlendedNUNet, enhancer: BlendedEnhancer, plane: np.ndarray
) -> None:
    assert isinstance(enhancer, Enhancer)
    both = enhancer.calibrate_and_encode(plane, lambda: None)
    assert both is not None
    low, half, high = (enhancer.decode(both[1], w) for w in (5.0, 6.5, 8.0))
    np.testing.assert_allclose(half, (low + high) / 2, atol=1e-6)
    np.testing.assert_array_equal(enhancer.decode(both[1], 1.0), low)
    np.testing.assert_array_equal(enhancer.decode(both[1], 10.0), high)
    assert np.abs(high - low).max() > 0.1
    with torch.inference_mode():
        wanted = module(torch.from_numpy(plane * 255)[None, None], torch.tensor([6.5]))[0, 0].numpy() / 255
    np.testing.assert_allclose(half, wanted, atol=1e-3)


def test_a_region_equals_the_crop_of_the_plane(enhancer: BlendedEnhancer, plane: np.ndarray) -> None:
    both = enhancer.calibrate_and_encode(plane, lambda: None)
    assert both is not None
    region = Region(9, 33, 12, 50)
    part = enhancer.decode(enhancer.encode(plane, region, enhancer.calibrate([plane], lambda: None)), 6.0)
    np.testing.assert_allclose(part, enhancer.decode(both[1], 6.0)[region.slices], atol=1e-3)


def test_less_memory_is_handed_to_every_network(enhancer: BlendedEnhancer, plane: np.ndarray) -> None:
    small = enhancer.with_memory(0)
    assert small.calibrate_and_encode(plane, lambda: None) is None
    assert enhancer.calibrate_and_encode(plane, lambda: None) is not None


def test_knots_must_rise() -> None:
    for knots in ((), (5.0, 5.0), (8.0, 5.0)):
        with pytest.raises(ParameterError, match="increasing"):
            BlendedNUNet(knots=knots)
    with pytest.raises(ManifestError, match="cannot build"):
        build({"name": "nunet-blend", "knots": []})
    assert isinstance(build({"name": "nunet-blend", "knots": [5, 8]}), BlendedNUNet)
