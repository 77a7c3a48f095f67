"""The network of the semantic filter and its losses."""

from __future__ import annotations

import pytest
import torch

from napari_cellenhance.core.errors import ManifestError, ParameterError
from napari_cellenhance.core.losses.regression import regression_loss
from napari_cellenhance.core.models.build import build
from napari_cellenhance.core.models.semantic_unet import GRID_PX, RADIUS_PX, FastSemanticUNet, SemanticUNet


def _count(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_t_s1_published_parameter_counts() -> None:
    assert _count(SemanticUNet()) == 988_609
    assert _count(SemanticUNet(n_out=3)) == 989_187
    assert _count(SemanticUNet(n_in=3, n_out=3)) == 991_203


@pytest.mark.parametrize(("loss", "expected"), [("l1", 0.8), ("smooth_l1", 0.798), ("smooth_l1_beta1", 0.66)])
def test_t_s2_the_loss_decides_between_median_and_mean(loss: str, expected: float) -> None:
    targets = torch.tensor([0.8, 0.8, 0.8, 0.1, 0.8])
    constants = torch.linspace(0, 1, 1001)
    totals = [float(regression_loss(loss, c.expand(5), targets)) for c in constants]  # type: ignore[arg-type]
    assert float(constants[int(torch.tensor(totals).argmin())]) == pytest.approx(expected, abs=0.002)


def test_losses_are_zero_at_the_target_and_unknown_ones_are_refused() -> None:
    x = torch.rand(2, 1, 4, 4)
    assert all(float(regression_loss(name, x, x)) == 0 for name in ("l1", "smooth_l1", "smooth_l1_beta1"))
    with pytest.raises(ParameterError, match="no loss 'l2'"):
        regression_loss("l2", x, x)  # type: ignore[arg-type]


def test_no_pixel_sees_farther_than_the_stated_radius() -> None:
    torch.manual_seed(0)
    net = SemanticUNet(width=2).double()
    for parameter in net.parameters():
        torch.nn.init.uniform_(parameter, 0.1, 1.0)
    side, farthest = 12 * GRID_PX, 0
    for at in (side // 2 - 1, side // 2, side // 2 + 15, side // 2 + 16):
        # A maximum hands the gradient to one of four pixels, so that little less than the radius may be seen.
        x = torch.rand(1, 1, side, GRID_PX, dtype=torch.float64, requires_grad=True)
        net(x)[0, 0, at, 3].backward()
        assert x.grad is not None
        rows = x.grad[0, 0].abs().sum(1).nonzero()
        farthest = max(farthest, int((rows - at).abs().max()))
    assert farthest <= RADIUS_PX
    assert farthest >= RADIUS_PX - 31, "the context is not larger than it has to be"


@pytest.mark.parametrize("shape", [(1, 1, 64, 96), (2, 3, 160, 32)])
def test_fast_inference_gives_the_same_values(shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    net = SemanticUNet(n_in=shape[1], n_out=2, width=6).eval()
    x = torch.rand(shape)
    with torch.inference_mode():
        expected, found = net(x), FastSemanticUNet(net)(x)
        rough = FastSemanticUNet(net, torch.bfloat16)(x)
    assert found.dtype == rough.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert float((rough - expected).abs().mean()) < 0.05 * float(expected.std()) + 0.01


def test_t_s8_the_output_is_not_limited() -> None:
    torch.manual_seed(0)
    net = SemanticUNet(width=3)
    torch.nn.init.constant_(net.head.bias, -2.0)  # type: ignore[arg-type]
    with torch.inference_mode():
        assert float(net(torch.rand(1, 1, 32, 32)).max()) < 0
        torch.nn.init.constant_(net.head.bias, 3.0)  # type: ignore[arg-type]
        assert float(net(torch.rand(1, 1, 32, 32)).min()) > 1


def test_bad_input_is_refused_in_words() -> None:
    net = SemanticUNet(width=2)
    for wrong in (torch.rand(1, 1, 48, 32), torch.rand(1, 2, 32, 32), torch.rand(1, 32, 32)):
        with pytest.raises(ParameterError, match="multiples of 32"):
            net(wrong)
        with pytest.raises(ParameterError, match="multiples of 32"):
            FastSemanticUNet(net)(wrong)
    with pytest.raises(ParameterError, match="1 or more"):
        SemanticUNet(width=0)


def test_cards_build_it() -> None:
    net = SemanticUNet(n_in=3, n_out=3, width=4)
    assert _count(build(net.architecture)) == _count(net)
    with pytest.raises(ManifestError):
        build({"name": "semantic-unet", "depth": 3})
