"""Calibrate, then apply: every way to the same plane gives the same pixels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_cellenhance.core.device import DeviceChoice, Precision
from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.core.models import nunet_layers, nunet_statistics
from napari_cellenhance.core.models.nunet import NUNet
from napari_cellenhance.core.models.nunet_fast import FastNUNet
from napari_cellenhance.core.models.nunet_layers import HALO_PX
from napari_cellenhance.core.models.nunet_statistics import Pooled
from napari_cellenhance.core.recipes.nunet_enhancer import NUNetEnhancer
from napari_cellenhance.core.recipes.protocol import Enhancer, FilterInfo, StrengthInfo
from napari_cellenhance.core.tiling import Region

STEP = 1.0 / 255.0
INFO = FilterInfo(
    id="nunet", title="", group="NU-Net", summary="", strength=StrengthInfo(label="", help="", default=8, maximum=10)
)
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
NETWORKS = {
    "published": {},
    "conditioned": {"conditioning": "head", "knots": (0.0, 5.0, 10.0), "output": "sigmoid"},
}


def network(kind: str) -> NUNet:
    """Seeded network whose output spans much of the grey scale, as a trained one does."""
    torch.manual_seed(3)
    net = NUNet(**NETWORKS[kind]).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() < 4:
                parameter += 0.1 * torch.randn_like(parameter)
        if kind == "conditioned":
            net.head.weight *= 40.0 * torch.tensor([0.5, 1.0, 1.6]).reshape(3, 1, 1, 1)
        else:
            net.head.weight *= 60.0
            net.head.bias += 100.0
    return net


def enhancer(kind: str, precision: Precision = "float32", memory_limit_mb: int = 2000) -> NUNetEnhancer:
    choice = DeviceChoice(device="cpu", precision=precision, note="")
    return NUNetEnhancer(network(kind), INFO, choice, memory_limit_mb=memory_limit_mb)


def cells(shape: tuple[int, int], seed: int = 0) -> NDArray[np.float32]:
    """Blobs of several sizes on an uneven ground with noise, about [0, 1]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = 0.1 + 0.1 * x / shape[1] + rng.normal(0, 0.02, shape)
    for _ in range(max(3, shape[0] * shape[1] // 900)):
        cy, cx, r = rng.uniform(0, shape[0]), rng.uniform(0, shape[1]), rng.uniform(3, 9)
        image += rng.uniform(0.1, 0.7) * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * r**2))
    return np.clip(image, 0, 1).astype(np.float32)


def definition(kind: str, plane: NDArray[np.float32], strength: float) -> NDArray[np.float32]:
    """The network as it is written down, on a plane padded by reflection and cropped back."""
    (top, bottom), (left, right) = [((-n % 4) // 2, -n % 4 - (-n % 4) // 2) for n in plane.shape]
    padded = np.pad(plane, ((top, bottom), (left, right)), mode="reflect")
    net = network(kind)
    with torch.inference_mode():
        strengths = torch.tensor([strength]) if kind == "conditioned" else None
        out = net(torch.from_numpy(padded)[None, None] * 255, strengths).clamp(0, 255)[0, 0].numpy() / 255
    return np.asarray(out[top : top + plane.shape[0], left : left + plane.shape[1]])


def in_tiles(
    filter_: NUNetEnhancer, plane: NDArray[np.float32], calibration: object, sizes: tuple[int, int] = (53, 67)
) -> NDArray[np.float32]:
    out = np.full_like(plane, np.nan)
    height, width = plane.shape
    for y in range(0, height, sizes[0]):
        for x in range(0, width, sizes[1]):
            tile = Region(y, min(height, y + sizes[0]), x, min(width, x + sizes[1]))
            out[tile.slices] = filter_.decode(filter_.encode(plane, tile, calibration), 6.5)  # type: ignore[arg-type]
    return out


def go_on() -> None:
    pass


@pytest.fixture
def small_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bands of a few rows also on small test planes."""
    monkeypatch.setattr(nunet_statistics, "_CHUNK_PX", 300)
    bands = nunet_statistics.measure_in_bands
    monkeypatch.setattr(
        "napari_cellenhance.core.recipes.nunet_enhancer.measure_in_bands",
        lambda *args, **kwargs: bands(*args, **kwargs, band_px=5000),
    )


def test_is_an_enhancer() -> None:
    assert isinstance(enhancer("published"), Enhancer)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("shape", [(120, 96), (61, 83), (18, 131)])
def test_one_pass_equals_the_definition(kind: str, shape: tuple[int, int]) -> None:
    filter_, plane = enhancer(kind), cells(shape)
    both = filter_.calibrate_and_encode(plane, go_on)
    assert both is not None
    expected = definition(kind, plane, 6.5)
    assert expected.std() > 0.03
    np.testing.assert_allclose(filter_.decode(both[1], 6.5), expected, atol=0.02 * STEP)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_tiles_equal_the_whole_plane_also_at_the_borders(kind: str, precision: Precision) -> None:
    filter_, plane = enhancer(kind, precision), cells((190, 221))
    both = filter_.calibrate_and_encode(plane, go_on)
    assert both is not None
    whole = filter_.decode(both[1], 6.5)
    difference = np.abs(in_tiles(filter_, plane, both[0]) - whole)
    # Matrix units sum windows of other sizes in another order: bf16 may round one step further then.
    assert difference.max() <= (0.01 if precision == "float32" else 1.25) * STEP


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.usefixtures("small_bands")
def test_bands_of_rows_measure_what_one_pass_measures(precision: Precision) -> None:
    plane = cells((190, 221))
    at_once, in_bands = enhancer("conditioned", precision), enhancer("conditioned", precision, memory_limit_mb=0)
    assert in_bands.calibrate_and_encode(plane, go_on) is None
    expected = at_once.calibrate([plane], go_on).statistics
    found = in_bands.calibrate([plane], go_on).statistics
    # Sums are taken in the same order: equal to the last bit, also in bf16.
    for a, b in zip((*found.means, *found.variances), (*expected.means, *expected.variances), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.usefixtures("small_bands")
def test_calibrated_in_bands_and_applied_in_tiles_equals_the_definition(kind: str) -> None:
    filter_, plane = enhancer(kind, memory_limit_mb=0), cells((131, 150))
    found = in_tiles(filter_, plane, filter_.calibrate([plane], go_on))
    np.testing.assert_allclose(found, definition(kind, plane, 6.5), atol=0.02 * STEP)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("shape", [(160, 160), (93, 130)])
def test_bf16_stays_close_to_fp32(kind: str, shape: tuple[int, int]) -> None:
    # Random weights amplify rounding more than trained ones: the bound is relative to the picture's contrast.
    plane = cells(shape)
    filter_ = enhancer(kind, "bfloat16")
    found = filter_.calibrate_and_encode(plane, go_on)
    assert found is not None
    expected = definition(kind, plane, 6.5)
    difference = filter_.decode(found[1], 6.5) - expected
    assert difference.std() < 0.05 * expected.std()
    assert difference.std() > 0  # bf16 was really used


def test_the_encoder_stays_in_float32_in_bf16() -> None:
    net = FastNUNet(network("published"), "cpu", torch.bfloat16)
    half, whole = torch.bfloat16, torch.float32
    assert [layer.weight.dtype for layer in net.layers] == [whole] * 3 + [half] * 12
    seen: list[torch.dtype] = []

    def normalise(_: int, x: torch.Tensor) -> torch.Tensor:
        seen.append(x.dtype)
        return x

    image = torch.rand(1, 1, 32, 32) * 255
    seen.append(net.raw_features(image, net.plan(Region(0, 32, 0, 32), (32, 32)), normalise).dtype)
    assert seen == [whole] * 2 + [half] * 13


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_norm_is_written_over_its_map(dtype: torch.dtype, elsewhere: Callable[[torch.Tensor], torch.Tensor]) -> None:
    net = FastNUNet(network("published"), "cpu", dtype)
    x = torch.randn(1, 128, 6, 5).to(dtype).contiguous(memory_format=torch.channels_last)
    mean, var, layer = torch.randn(128), torch.rand(128) + 0.5, net.layers[4]
    affine = [v.reshape(1, -1, 1, 1) for v in (mean, var, layer.gamma, layer.beta)]
    expected = (x.float() - affine[0]) / (affine[1] + 1e-5).sqrt() * affine[2] + affine[3]
    with torch.inference_mode():
        on_a_card = net.normalise(4, elsewhere(x), mean, var).as_subclass(torch.Tensor)
        found = net.normalise(4, x, mean, var)
    assert found.data_ptr() == x.data_ptr() != on_a_card.data_ptr()
    torch.testing.assert_close(on_a_card, found)
    torch.testing.assert_close(found.float(), expected, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-2)


def test_pooled_statistics_are_those_of_all_planes_together() -> None:
    # The first norm sees convolutions of the input only: pooling is checked against plain sums.
    filter_, planes = enhancer("published"), [cells((40, 60), seed) * (1 + seed) for seed in range(3)]
    pooled = filter_.calibrate(planes, go_on)
    assert pooled.n_planes == 3
    net = network("published")
    with torch.inference_mode():
        maps = [net.enc[0].convolve(torch.from_numpy(plane)[None, None] * 255) for plane in planes]
        pixels = torch.cat([m.permute(1, 0, 2, 3).reshape(32, -1) for m in maps], dim=1).double()
    torch.testing.assert_close(pooled.statistics.means[0].double(), pixels.mean(1), rtol=1e-4, atol=1e-3)
    variances = pooled.statistics.variances[0].double()
    torch.testing.assert_close(variances, pixels.var(1, correction=0), rtol=1e-4, atol=1e-3)


def test_equal_planes_pooled_have_the_statistics_of_one() -> None:
    filter_, plane = enhancer("conditioned"), cells((64, 72))
    one, three = filter_.calibrate([plane], go_on), filter_.calibrate([plane] * 3, go_on)
    for a, b in zip(one.statistics.means, three.statistics.means, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_pooled_moments_stay_close_to_double_precision() -> None:
    x = torch.full((1, 2, 256, 256), 1000.0) + torch.randn(1, 2, 256, 256, generator=torch.manual_seed(0))
    pooled = Pooled()
    for part in x.contiguous(memory_format=torch.channels_last).split(100, dim=2):
        pooled.add(part)
    mean, var = pooled.result(torch.device("cpu"))
    torch.testing.assert_close(mean.double(), x.double().mean((0, 2, 3)), rtol=5e-6, atol=0)
    torch.testing.assert_close(var.double(), x.double().var((0, 2, 3), correction=0), rtol=1e-3, atol=0)


def test_moments_that_stay_on_their_device_are_the_same(elsewhere: Callable[[torch.Tensor], torch.Tensor]) -> None:
    x = 50.0 + torch.randn(1, 3, 40, 24, generator=torch.manual_seed(0))
    in_numpy, in_torch = Pooled(), Pooled()
    for part in x.contiguous(memory_format=torch.channels_last).split(16, dim=2):
        in_numpy.add(part)
        in_torch.add(elsewhere(part))
    assert isinstance(in_torch.mean, torch.Tensor) and isinstance(in_numpy.mean, np.ndarray)
    for a, b in zip(in_numpy.result(torch.device("cpu")), in_torch.result(torch.device("cpu")), strict=True):
        assert a.dtype == b.dtype == torch.float32
        torch.testing.assert_close(a, b.as_subclass(torch.Tensor))


def test_what_a_strength_changes_is_kept_until_another_one_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    filter_, plane = enhancer("conditioned"), cells((32, 40))
    _, features = filter_.calibrate_and_encode(plane, go_on) or pytest.fail("the plane does not fit")
    made = []
    original = nunet_layers.space_to_depth
    monkeypatch.setattr(nunet_layers, "space_to_depth", lambda weight: made.append(1) or original(weight))
    mild, again = filter_.decode(features, 3.0), filter_.decode(features, 3.0)
    assert len(made) == 1
    np.testing.assert_array_equal(mild, again)
    strong = filter_.decode(features, 9.0)
    assert len(made) == 2 and np.abs(strong - mild).max() > 0
    np.testing.assert_array_equal(filter_.decode(features, 3.0), mild)


@pytest.mark.usefixtures("small_bands")
def test_trunk_beyond_the_memory_limit_goes_through_a_file() -> None:
    plane = cells((80, 100))
    stored = nunet_statistics._store((80, 100), torch.bfloat16, in_memory=False)
    assert stored.shape == (1, 128, 20, 25)
    assert stored.is_contiguous(memory_format=torch.channels_last)
    in_file = enhancer("published", memory_limit_mb=0).calibrate([plane, plane], go_on)
    in_memory = enhancer("published").calibrate([plane, plane], go_on)
    for a, b in zip(in_file.statistics.variances, in_memory.statistics.variances, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_slider_move_changes_the_picture_from_the_same_features() -> None:
    filter_, plane = enhancer("conditioned"), cells((64, 72))
    both = filter_.calibrate_and_encode(plane, go_on)
    assert both is not None
    weak, strong = filter_.decode(both[1], 1.0), filter_.decode(both[1], 9.0)
    assert np.abs(weak - strong).max() > 5 * STEP
    np.testing.assert_allclose(strong, definition("conditioned", plane, 9.0), atol=0.02 * STEP)
    np.testing.assert_array_equal(weak, filter_.decode(both[1], 1.0))


def test_unconditioned_network_ignores_the_strength() -> None:
    filter_, plane = enhancer("published"), cells((40, 40))
    features = filter_.encode(plane, Region.whole(plane), filter_.calibrate([plane], go_on))
    np.testing.assert_array_equal(filter_.decode(features, 1.0), filter_.decode(features, 9.0))


def test_input_is_not_written_to_and_may_be_read_only() -> None:
    filter_, plane = enhancer("published"), cells((50, 41))
    copy = plane.copy()
    plane.setflags(write=False)
    both = filter_.calibrate_and_encode(plane, go_on)
    assert both is not None
    filter_.decode(both[1], 5.0)
    np.testing.assert_array_equal(plane, copy)


def test_values_outside_the_halo_do_not_matter() -> None:
    filter_, plane = enhancer("published"), cells((40, 240))
    calibration = filter_.calibrate([plane], go_on)
    window = Region(0, 40, 0, 60)
    changed = plane.copy()
    changed[:, 60 + HALO_PX :] = 1.0
    np.testing.assert_array_equal(
        filter_.decode(filter_.encode(changed, window, calibration), 5.0),
        filter_.decode(filter_.encode(plane, window, calibration), 5.0),
    )


class Stopped(Exception):  # noqa: N818 - not an error
    """Raised by the checkpoint of a test."""


@pytest.mark.parametrize("memory_limit_mb", [0, 2000])
def test_checkpoint_stops_within_the_calibration(memory_limit_mb: int) -> None:
    filter_ = enhancer("published", memory_limit_mb=memory_limit_mb)
    with pytest.raises(Stopped):
        filter_.calibrate([cells((60, 60))], stop_after(5))


def stop_after(n: int) -> Callable[[], None]:
    left = iter(range(n))

    def checkpoint() -> None:
        if next(left, None) is None:
            raise Stopped

    return checkpoint


def test_nothing_to_calibrate_on_is_refused() -> None:
    with pytest.raises(ImageError):
        enhancer("published").calibrate([], go_on)


def test_module_is_not_modified() -> None:
    net = network("conditioned")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    filter_ = NUNetEnhancer(net, INFO, DeviceChoice(device="cpu", precision="bfloat16", note=""))
    both = filter_.calibrate_and_encode(cells((32, 32)), go_on)
    assert both is not None
    filter_.decode(both[1], 3.0)
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
        assert value.requires_grad is False or value.is_leaf
