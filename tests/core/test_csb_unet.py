"""The U-Net of CARE, Noise2Void, VoidSeg and StarDist: size, reach, pooling, transfer, and its rewritten form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from napari_cellenhance.core.errors import ManifestError, ParameterError
from napari_cellenhance.core.models.build import build
from napari_cellenhance.core.models.csb_unet import BlurPool, BodySettings, CSBUNet, transfer_body
from napari_cellenhance.core.models.csb_unet_folded import FoldedUNet
from napari_cellenhance.core.models.denoiser import DenoisingNetwork, variant_settings

N2V2: dict[str, Any] = {"pool": "blur", "top_skip": False}
CARE: dict[str, Any] = {"kernel_px": 5, "has_norm": False, "is_probabilistic": True}


def _settled(net: CSBUNet, shape: tuple[int, ...]) -> CSBUNet:
    """With running statistics that differ from channel to channel."""
    torch.manual_seed(1)
    net.train()
    with torch.no_grad():
        for _ in range(3):
            net(2.0 * torch.randn(shape) + 0.5)
    return net.eval()


def test_parameters_of_care_are_those_of_the_paper() -> None:
    assert sum(p.numel() for p in CSBUNet(**CARE).parameters()) == 923_010


def test_maps_follow_the_plan_of_each_level() -> None:
    net = CSBUNet(depth=3, width=8)
    widths = [tuple(p.shape[:2]) for n, p in net.body.named_parameters() if n.endswith("0.weight")]
    assert widths == [
        (8, 1), (8, 8), (16, 8), (16, 16), (32, 16), (32, 32), (64, 32), (32, 64),
        (32, 64), (16, 32), (16, 32), (8, 16), (8, 16), (8, 8),
    ]  # fmt: skip
    without = CSBUNet(depth=1, width=8, top_skip=False)
    assert without.body.up[0][0][0].weight.shape[1] == 8


@pytest.mark.parametrize("settings", [{}, N2V2, {"depth": 3, "width": 8}, CARE | {"width": 8}])
def test_no_pixel_sees_farther_than_the_stated_radius(settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    net = CSBUNet(**settings).double().eval()
    radius, grid = net.settings.radius_px, net.settings.grid_px
    side = -(-(2 * radius + 2 * grid + 2) // grid) * grid
    seen = 0
    for offset in range(grid):
        x = torch.randn(1, 1, side, side, dtype=torch.double, requires_grad=True)
        centre = side // 2 + offset
        (gradient,) = torch.autograd.grad(net(x)[0, 0, centre, centre], x)
        seen = max(seen, int((gradient[0, 0].nonzero() - centre).abs().max()))
    assert seen <= radius
    assert seen >= radius - 3, "the halo is not larger than it has to be"


def test_blurred_pooling_halves_keeps_the_mean_and_does_not_learn() -> None:
    """T-V7."""
    for n_dims in (2, 3):
        pool = BlurPool(n_dims)
        assert float(pool.kernel.sum()) == pytest.approx(1.0)
        assert not list(pool.parameters())
        shape = (2, 3, *[8] * n_dims)
        assert pool(torch.rand(shape)).shape == (2, 3, *[4] * n_dims)
        assert torch.allclose(pool(torch.full(shape, 0.3)), torch.tensor(0.3))


def test_blurred_pooling_is_binomial_after_maxima_at_stride_one() -> None:
    x = torch.zeros(1, 1, 8, 8)
    x[0, 0, 4, 4] = 1.0  # its maxima fill rows and columns 3 and 4
    line = np.array([0, 0.25, 0.75, 0])
    assert torch.allclose(BlurPool(2)(x)[0, 0], torch.tensor(np.outer(line, line), dtype=torch.float32))


@pytest.mark.parametrize("settings", [{}, N2V2, {"depth": 3, "width": 8}, CARE | {"width": 8}, {"is_residual": True}])
@pytest.mark.parametrize("n_dims", [2, 3])
def test_the_rewritten_network_gives_the_same_numbers(settings: dict[str, Any], n_dims: int) -> None:
    shape = (2, 1, 32, 48) if n_dims == 2 else (1, 1, 8, 16, 24)
    net = _settled(CSBUNet(n_dims=n_dims, n_out=2, **{"width": 8, **settings}), shape)
    x = torch.randn(shape)
    with torch.inference_mode():
        expected, found = net(x), FoldedUNet(net)(x)
        rounded = FoldedUNet(net, torch.bfloat16)(x)
    assert torch.allclose(found, expected, atol=2e-6 * float(expected.abs().max() + 1))
    assert float((rounded - expected).abs().max()) < 0.05 * float(expected.std() + 0.1)


def test_the_second_head_is_a_positive_scale() -> None:
    net = CSBUNet(width=4, is_probabilistic=True).eval()
    torch.nn.init.constant_(net.scale_head.bias, -50.0)  # type: ignore[union-attr, arg-type]
    with torch.inference_mode():
        found = net(torch.zeros(1, 1, 8, 8))
    assert found.shape == (1, 2, 8, 8) and float(found[:, 1].min()) >= 1e-3


def test_transfer_takes_the_body_and_leaves_the_head() -> None:
    """T-G3: every tensor but the head, running statistics included."""
    source = _settled(CSBUNet(width=4), (2, 1, 16, 16))
    torch.manual_seed(9)
    net = CSBUNet(width=4, n_out=3)
    head = net.head.weight.detach().clone()
    transfer_body(net, source.state_dict())
    own, given = net.body.state_dict(), source.body.state_dict()
    assert own and all(torch.equal(own[name], given[name]) for name in given)
    assert any(name.endswith("running_mean") and tensor.any() for name, tensor in own.items())
    assert torch.equal(net.head.weight, head)
    with pytest.raises(ParameterError, match="bodies"):
        transfer_body(CSBUNet(width=8, n_out=3), source.state_dict())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"depth": 0}, "expected 1 or more"), ({"kernel_px": 4}, "odd"), ({"n_dims": 4}, "4 dimensions"),
        ({"pool": "mean"}, "pool 'mean'"),
    ],
)  # fmt: skip
def test_shapes_that_make_no_sense_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        BodySettings(**settings)


def test_an_input_off_the_grid_is_refused() -> None:
    with pytest.raises(ParameterError, match="multiples of 4"):
        CSBUNet(width=4)(torch.zeros(1, 1, 10, 8))
    with pytest.raises(ParameterError, match="0 channels"):
        CSBUNet(n_out=0)


def test_networks_are_rebuilt_from_their_cards() -> None:
    for net in (CSBUNet(width=4, n_out=3, **N2V2), DenoisingNetwork(n_channels=2, has_classes=True, width=4, n_dims=3)):
        again = build(net.architecture)
        assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in net.state_dict().items()}
        assert again.architecture == net.architecture
    with pytest.raises(ManifestError, match="cannot build"):
        build({"name": "denoiser", "depth": -1})


# --- several channels -----------------------------------------------------------------------


def test_channels_do_not_see_each_other_unless_they_are_joined() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 2, 8, 8)
    y = x.clone()
    y[:, 1] += 1.0
    for is_joint in (False, True):
        net = DenoisingNetwork(n_channels=2, is_joint=is_joint, width=4).eval()
        with torch.inference_mode():
            first, second = net(x), net(y)
        assert first.shape == x.shape
        assert torch.equal(first[:, 0], second[:, 0]) is not is_joint
        assert not torch.equal(first[:, 1], second[:, 1])


def test_outputs_for_classes_take_no_part_in_denoising() -> None:
    net = DenoisingNetwork(has_classes=True, width=4).eval()
    assert net.unet.n_out == 4 and net(torch.zeros(1, 1, 8, 8)).shape == (1, 1, 8, 8)
    with pytest.raises(ParameterError, match="classes"):
        DenoisingNetwork(n_channels=2, is_joint=True, has_classes=True)
    with pytest.raises(ParameterError, match="n2v3"):
        variant_settings("n2v3")  # type: ignore[arg-type]
