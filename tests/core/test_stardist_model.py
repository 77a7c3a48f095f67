"""The network and the loss of StarDist (METHODS §7.1, T-D1, T-D5)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from napari_cellenhance.core.errors import ManifestError, ParameterError
from napari_cellenhance.core.losses.stardist import star_loss
from napari_cellenhance.core.models.build import build
from napari_cellenhance.core.models.stardist import StarDist, StarOutput


def _n_parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def _small(grid: int = 1, depth: int = 1, has_norm: bool = False) -> StarDist:
    torch.manual_seed(0)
    return StarDist(n_rays=8, grid=grid, depth=depth, width=4, n_features=6, has_norm=has_norm)


def _n_buffers(net: nn.Module) -> int:
    return sum(b.numel() for name, b in net.named_buffers() if "running" in name)


# --- network ---------------------------------------------------------------------------------


def test_parameters_are_those_of_the_published_network() -> None:
    assert _n_parameters(StarDist()) == 1_406_689 and _n_buffers(StarDist()) == 0


def test_parameters_are_those_of_the_network_with_grid_2_and_batch_norm() -> None:
    net = StarDist(grid=2, depth=4, has_norm=True)
    assert _n_parameters(net) == 5_560_161 and _n_buffers(net) == 4_928


@pytest.mark.parametrize(("grid", "depth"), [(1, 1), (1, 2), (2, 1), (2, 2), (4, 1)])
def test_one_prediction_for_every_grid_pixel(grid: int, depth: int) -> None:
    net = _small(grid, depth).eval()
    assert net.grid_px == grid * 2**depth
    sides = (2 * net.grid_px, 3 * net.grid_px)
    output = net(torch.rand(2, 1, *sides))
    assert output.logits.shape == (2, 1, sides[0] // grid, sides[1] // grid)
    assert output.distances.shape == (2, 8, sides[0] // grid, sides[1] // grid)
    with pytest.raises(ParameterError, match=f"multiples of {net.grid_px}"):
        net(torch.rand(1, 1, sides[0] + 1, sides[1]))
    with pytest.raises(ParameterError, match="expected"):
        net(torch.rand(1, 2, *sides))


@pytest.mark.parametrize(("grid", "depth"), [(1, 1), (1, 2), (2, 1), (4, 1)])
def test_a_prediction_sees_no_further_than_the_radius(grid: int, depth: int) -> None:
    net = _small(grid, depth).eval()
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.fill_(1.0 / layer.weight[0].numel())
                layer.bias.fill_(0.0)
    side = -(-(2 * net.radius_px + 2) // net.grid_px + 2) * net.grid_px
    worst = 0
    for shift in range(net.grid_px // grid):
        x = torch.rand(1, 1, side, side, requires_grad=True)
        at = side // 2 // grid + shift
        net(x).distances[0, 0, at, at].backward()
        rows = x.grad[0, 0].abs().sum(dim=1).nonzero()[:, 0]
        worst = max(worst, at * grid - int(rows[0]), int(rows[-1]) - at * grid)
    assert net.radius_px - net.grid_px < worst <= net.radius_px
    assert StarDist().radius_px == 52


@pytest.mark.parametrize(
    "net", [StarDist(), StarDist(n_rays=16, grid=2, depth=2, width=8, n_features=12, has_norm=True)]
)
def test_the_description_builds_the_same_network(net: StarDist) -> None:
    assert net.architecture["name"] == "stardist"
    copy = build(net.architecture)
    assert isinstance(copy, StarDist) and copy.architecture == net.architecture and not copy.training
    copy.load_state_dict(net.state_dict())
    x = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        assert torch.allclose(copy(x).distances, net.eval().to_channels_last()(x).distances, atol=1e-5)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ParameterError, match="grid is 3 px"):
        StarDist(grid=3)
    with pytest.raises(ParameterError, match="2 rays"):
        StarDist(n_rays=2)
    with pytest.raises(ManifestError, match="stardist"):
        build({"name": "stardist", "n_rays": 1})


def test_heads_are_float32_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        output = _small()(torch.rand(1, 1, 8, 8))
    assert output.logits.dtype == output.distances.dtype == torch.float32


# --- loss -------------------------------------------------------------------------------------


def _batch(seed: int = 0) -> tuple[StarOutput, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    output = StarOutput(
        torch.randn(2, 1, 5, 6, generator=generator).requires_grad_(),
        (3 * torch.randn(2, 8, 5, 6, generator=generator)).requires_grad_(),
    )
    distances = 4 * torch.rand(2, 8, 5, 6, generator=generator)
    probabilities = torch.rand(2, 5, 6, generator=generator) * (torch.rand(2, 5, 6, generator=generator) > 0.4)
    mask = torch.rand(2, 5, 6, generator=generator) > 0.3
    return output, distances, probabilities, mask


def test_the_loss_is_the_published_one() -> None:
    output, wanted, p, _ = _batch()
    losses = star_loss(output, wanted, p, torch.ones_like(p, dtype=torch.bool))
    q = torch.sigmoid(output.logits[:, 0])
    entropy = -(p * q.log() + (1 - p) * (1 - q).log()).mean()
    error = (p[:, None] * (output.distances - wanted).abs()).mean() / p.mean()
    ground = ((1 - p)[:, None] * output.distances.abs()).mean()
    assert losses["probability"].item() == pytest.approx(entropy.item(), rel=1e-5)
    assert losses["distance"].item() == pytest.approx(error.item(), rel=1e-5)
    assert losses["ground"].item() == pytest.approx(ground.item(), rel=1e-5)
    assert losses["total"].item() == pytest.approx((entropy + 0.2 * (error + 1e-4 * ground)).item(), rel=1e-5)
    old = star_loss(output, wanted, p, torch.ones_like(p, dtype=torch.bool), is_normalised=False)
    assert old["distance"].item() == pytest.approx((error * p.mean()).item(), rel=1e-5)


def test_unknown_pixels_have_no_part_in_loss_or_gradient() -> None:
    output, wanted, p, mask = _batch()
    losses = star_loss(output, wanted, p, mask)
    losses["total"].backward()
    for tensor in output:
        gradient = tensor.grad.movedim(1, -1)
        assert not gradient[~mask].any() and gradient[mask].any(dim=-1).all()
    other = StarOutput(
        torch.where(mask[:, None], output.logits, 50.0), torch.where(mask[:, None], output.distances, 1e3)
    )
    assert star_loss(other, wanted, p, mask)["total"].item() == pytest.approx(losses["total"].item(), rel=1e-6)
    # Divided by what is known: the same pixels weigh the same in a larger unknown surrounding.
    larger = [F.pad(t, (0, 30, 0, 30)) for t in (output.logits, output.distances, wanted, p, mask)]
    padded = star_loss(StarOutput(larger[0], larger[1]), larger[2], larger[3], larger[4])
    assert padded["total"].item() == pytest.approx(losses["total"].item(), rel=1e-5)


def test_nothing_known_and_no_object_give_finite_losses() -> None:
    output, wanted, p, _ = _batch()
    nothing = star_loss(output, wanted, p, torch.zeros_like(p, dtype=torch.bool))
    nothing["total"].backward()
    assert nothing["total"].item() == 0 and not output.distances.grad.any()
    empty = star_loss(output, wanted, torch.zeros_like(p), torch.ones_like(p, dtype=torch.bool))
    assert empty["distance"].item() == 0 and np.isfinite(empty["total"].item()) and empty["ground"].item() > 0


def test_the_right_answer_costs_next_to_nothing() -> None:
    _, wanted, _, mask = _batch()
    p = (torch.rand(2, 5, 6, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    wanted = wanted * p[:, None]
    right = StarOutput((40 * p - 20)[:, None], wanted)
    assert star_loss(right, wanted, p, mask)["total"].item() < 1e-6


def test_targets_that_do_not_fit_are_refused() -> None:
    output, wanted, p, mask = _batch()
    with pytest.raises(ParameterError, match="same rays and pixels"):
        star_loss(output, wanted[:, :4], p, mask)
    with pytest.raises(ParameterError, match="mask"):
        star_loss(output, wanted, p, mask[:1])
