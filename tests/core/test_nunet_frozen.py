"""NU-Net with frozen norms: a pixel depends on its neighbourhood alone, whichever way it is computed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from napari_cellenhance.core.device import DeviceChoice, Precision
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.models import nunet_layers
from napari_cellenhance.core.models.nunet import NUNet
from napari_cellenhance.core.models.nunet_frozen import FrozenNUNet
from napari_cellenhance.core.models.nunet_layers import HALO_PX
from napari_cellenhance.core.recipes.nunet_frozen import FrozenEnhancer
from napari_cellenhance.core.recipes.nunet_open import open_nunet
from napari_cellenhance.core.recipes.protocol import Enhancer, FilterInfo, StrengthInfo
from napari_cellenhance.core.tiling import Region

STEP = 1.0 / 255.0
INFO = FilterInfo(
    id="nunet", title="", group="NU-Net", summary="", strength=StrengthInfo(label="", help="", default=8, maximum=10)
)
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
KNOTS = (0.0, 5.0, 10.0)
NETWORKS = {
    "unconditioned": {"output": "sigmoid"},
    "head": {"conditioning": "head", "knots": KNOTS, "output": "sigmoid"},
    "decoder": {"conditioning": "decoder", "knots": KNOTS, "output": "sigmoid"},
}
CLIPPED = {"clipped": {"output": "clip"}}


def network(kind: str) -> NUNet:
    """Seeded network with statistics of pictures of blobs, and an output over much of the grey scale."""
    torch.manual_seed(3)
    net = NUNet(norm="frozen", **(NETWORKS | CLIPPED)[kind])  # type: ignore[arg-type]
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.5
    strengths = torch.tensor([1.0, 9.0]) if net.knots else None
    images = torch.from_numpy(np.stack([cells((64, 64), seed) for seed in (1, 2)]))[:, None] * 255
    net.train()
    with torch.no_grad():
        for _ in range(12):
            net(images, strengths)
        net.eval()
        for parameter in net.parameters():
            if parameter.dim() < 4:
                parameter += 0.1 * torch.randn_like(parameter)
        if net.knots:
            net.head.weight *= 20.0 * torch.tensor([0.5, 1.0, 1.6]).reshape(3, 1, 1, 1)
            if net.early is not None:
                net.early.gamma *= torch.tensor([[0.8], [1.0], [1.3]])
        else:
            net.head.weight *= 20.0 if net.output == "sigmoid" else 80.0
    return net


def cells(shape: tuple[int, int], seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = 0.1 + 0.1 * x / shape[1] + rng.normal(0, 0.02, shape)
    for _ in range(max(3, shape[0] * shape[1] // 900)):
        cy, cx, r = rng.uniform(0, shape[0]), rng.uniform(0, shape[1]), rng.uniform(3, 9)
        image += rng.uniform(0.1, 0.7) * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * r**2))
    return np.clip(image, 0, 1).astype(np.float32)


def choice(precision: Precision, device: str = "cpu") -> DeviceChoice:
    return DeviceChoice(device=device, precision=precision, note="")


def enhancer(kind: str, precision: Precision = "float32", **options: int) -> FrozenEnhancer:
    return FrozenEnhancer(network(kind), INFO, choice(precision), **options)


def definition(kind: str, plane: NDArray[np.float32], strength: float) -> NDArray[np.float32]:
    """The network as it is written down, on a plane padded by reflection and cropped back."""
    (top, bottom), (left, right) = [((-n % 4) // 2, -n % 4 - (-n % 4) // 2) for n in plane.shape]
    padded = np.pad(plane, ((top, bottom), (left, right)), mode="reflect")
    net = network(kind)
    with torch.inference_mode():
        strengths = torch.tensor([strength]) if net.knots else None
        out = net(torch.from_numpy(padded)[None, None] * 255, strengths).clamp(0, 255)[0, 0].numpy() / 255
    return np.asarray(out[top : top + plane.shape[0], left : left + plane.shape[1]])


def whole(filter_: FrozenEnhancer, plane: NDArray[np.float32], strength: float = 6.5) -> NDArray[np.float32]:
    both = filter_.calibrate_and_encode(plane, go_on)
    assert both is not None
    return filter_.decode(both[1], strength)


def go_on() -> None:
    pass


def test_is_an_enhancer() -> None:
    assert isinstance(enhancer("decoder"), Enhancer)


@pytest.mark.parametrize("kind", NETWORKS | CLIPPED)
@pytest.mark.parametrize("shape", [(120, 96), (61, 83), (18, 131)])
def test_equals_the_definition(kind: str, shape: tuple[int, int]) -> None:
    plane = cells(shape)
    expected = definition(kind, plane, 6.5)
    assert expected.std() > 0.02
    np.testing.assert_allclose(whole(enhancer(kind), plane), expected, atol=0.02 * STEP)


@pytest.mark.parametrize("kind", NETWORKS)
def test_bf16_stays_close(kind: str) -> None:
    # Random weights amplify more than trained ones, whose bound of 2/255 is tested with the shipped models.
    plane = cells((160, 160))
    error = np.abs(whole(enhancer(kind, "bfloat16"), plane) - definition(kind, plane, 6.5))
    assert 0 < error.mean() <= 0.6 * STEP
    assert error.max() <= 5 * STEP


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_tiles_equal_the_whole_plane_also_at_the_borders(kind: str, precision: Precision) -> None:
    filter_, plane = enhancer(kind, precision), cells((190, 221))
    expected = whole(filter_, plane)
    for y in range(0, 190, 53):
        for x in range(0, 221, 67):
            tile = Region(y, min(190, y + 53), x, min(221, x + 67))
            found = filter_.decode(filter_.encode(plane, tile, None), 6.5)
            np.testing.assert_allclose(
                found, expected[tile.slices], atol=(0.01 if precision == "float32" else 1) * STEP
            )


def test_pixels_beyond_the_context_have_no_say() -> None:
    # With instance norms this fails: the bright half changes the statistics of all.
    filter_, plane = enhancer("decoder"), cells((200, 260))
    other = plane.copy()
    other[:, 200:] = 1.0
    first, second = whole(filter_, plane), whole(filter_, other)
    assert np.abs(first - second)[:, 200:].max() > 10 * STEP
    np.testing.assert_allclose(first[:, : 200 - HALO_PX], second[:, : 200 - HALO_PX], atol=0.01 * STEP)


def test_strength_acts_in_the_decoder() -> None:
    filter_, plane = enhancer("decoder"), cells((80, 80))
    both = filter_.calibrate_and_encode(plane, go_on)
    assert both is not None
    for strength in (0.0, 3.3, 10.0):
        np.testing.assert_allclose(
            filter_.decode(both[1], strength), definition("decoder", plane, strength), atol=0.02 * STEP
        )


def test_what_a_strength_changes_is_kept_until_another_one_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    filter_, plane = enhancer("decoder"), cells((32, 40))
    features = filter_.encode(plane, Region.whole(plane), None)
    made = []
    original = nunet_layers.space_to_depth
    monkeypatch.setattr(nunet_layers, "space_to_depth", lambda weight: made.append(1) or original(weight))
    mild, again = filter_.decode(features, 3.0), filter_.decode(features, 3.0)
    assert len(made) == 1
    np.testing.assert_array_equal(mild, again)
    strong = filter_.decode(features, 9.0)
    assert len(made) == 2 and np.abs(strong - mild).max() > 0
    np.testing.assert_array_equal(filter_.decode(features, 3.0), mild)


def test_a_plane_beyond_the_memory_limit_is_left_to_tiles() -> None:
    filter_ = enhancer("decoder", memory_limit_mb=1)
    assert filter_.calibrate_and_encode(cells((120, 120)), go_on) is None
    assert filter_.with_memory(2000).calibrate_and_encode(cells((120, 120)), go_on) is not None


def test_calibration_measures_nothing_but_asks_for_a_plane() -> None:
    filter_ = enhancer("decoder")
    assert filter_.calibrate([cells((20, 20))], go_on) is None
    with pytest.raises(ImageError, match="at least one"):
        filter_.calibrate([], go_on)


def test_the_callers_plane_is_left_alone() -> None:
    plane = cells((64, 64))
    before = plane.copy()
    whole(enhancer("decoder"), plane)
    np.testing.assert_array_equal(plane, before)


def test_each_kind_of_norm_finds_its_filter() -> None:
    frozen = open_nunet(network("decoder"), info=INFO, choice=choice("float32"))
    assert isinstance(frozen, FrozenEnhancer)
    assert not isinstance(open_nunet(NUNet(), info=INFO, choice=choice("float32")), FrozenEnhancer)
    with pytest.raises(ValueError, match="frozen norms"):
        FrozenNUNet(NUNet(), "cpu", torch.float32)


def test_a_conditioned_decoder_asks_for_frozen_norms() -> None:
    with pytest.raises(ParameterError, match="asks for norm 'frozen'"):
        NUNet(conditioning="decoder", knots=KNOTS)


def test_parameter_counts() -> None:
    def count(net: nn.Module) -> int:
        return sum(p.numel() for p in net.parameters())

    assert count(NUNet(norm="frozen")) == 1_668_865  # scale and shift as of the published norms
    five = (2.5, 4.375, 6.25, 8.125, 10.0)
    early = 5 * 2 * 64 - 2 * 64  # norm #9: one pair for each knot instead of one
    head = count(NUNet(conditioning="head", knots=five))
    assert count(NUNet(norm="frozen", conditioning="decoder", knots=five)) == head + early


@pytest.mark.parametrize("precision", PRECISIONS)
def test_openvino_computes_the_same(precision: Precision) -> None:
    pytest.importorskip("openvino")
    plane = cells((150, 133))
    expected = definition("decoder", plane, 6.5)
    filter_ = open_nunet(network("decoder"), info=INFO, choice=choice(precision, "openvino"))
    assert isinstance(filter_, FrozenEnhancer)
    atol = (0.1 if precision == "float32" else 5.0) * STEP
    np.testing.assert_allclose(whole(filter_, plane), expected, atol=atol)
    tile = Region(31, 120, 40, 133)
    found = filter_.decode(filter_.encode(plane, tile, None), 6.5)
    np.testing.assert_allclose(found, expected[tile.slices], atol=atol)
