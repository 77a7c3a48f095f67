"""AEP's networks: sizes, filters, translation, ensemble, what a pixel sees (METHODS T-A1 … T-A5, T-A7, T-A8)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.models.aep import (
    AEP,
    AWEL,
    LIGHT_RADIUS_PX,
    LightNetwork,
    pad_to_grid,
    translate,
    warm_start,
)
from napari_cellenhance.core.models.bit_dropout import BitDropout
from napari_cellenhance.core.models.segmentation_baseline import UNET_RADIUS_PX, PlainSegmenter, UNet


def _n_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _n_statistics(module: nn.Module) -> int:
    return sum(b.numel() for name, b in module.named_buffers() if "running" in name)


def _net(n_classes: int = 2, **settings: Any) -> AEP:
    """A network in eval mode with statistics as after some training."""
    torch.manual_seed(0)
    net = AEP(n_classes, **settings).eval()
    generator = torch.Generator().manual_seed(1)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.2, 0.2, generator=generator)
            layer.running_var.uniform_(0.2, 1.0, generator=generator)
    return net


def _image(*shape: int) -> Tensor:
    return torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(2))


# --- sizes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_classes", "n_maps", "n_parameters", "n_statistics"),
    [(2, 16, 853_826, 1536), (3, 16, 853_843, 1536), (3, 3, 851_893, 1510)],
)
def test_parameter_counts(n_classes: int, n_maps: int, n_parameters: int, n_statistics: int) -> None:
    """T-A1."""
    network = LightNetwork(n_classes, n_maps)
    assert _n_parameters(network) == n_parameters
    assert _n_statistics(network) == n_statistics


def test_the_whole_is_two_networks_and_a_weight_per_branch() -> None:
    assert _n_parameters(AEP(2, n_maps=16)) == 853_826 + 853_826 + 3 + 1
    assert _n_parameters(AEP(3)) == 851_893 + 853_843 + 4 + 1
    assert _n_parameters(AEP(3, ensemble="fixed")) == 851_893 + 853_843
    assert _n_parameters(PlainSegmenter(3)) == 853_843
    assert _n_parameters(PlainSegmenter(3, network="unet")) == pytest.approx(_n_parameters(AEP(3)), rel=0.15)


def test_dropout_follows_every_block_but_the_last() -> None:
    network = LightNetwork(2)
    order: list[str] = []
    for name, layer in network.named_modules():
        if isinstance(layer, (BitDropout, nn.Conv2d, nn.ConvTranspose2d)):
            layer.register_forward_hook(lambda module, inputs, output, name=name: order.append(name.split(".")[0]))
    network(_image(16, 16))
    blocks = ["c1", "c2", "c3", "c4", "c5", "c6", "c7", "d1", "c8", "d2", "c9", "d3", "c10", "out"]
    assert order == [name for block in blocks[:12] for name in (block, "drops")] + blocks[12:]


def test_skips_leave_before_dropout() -> None:
    torch.manual_seed(0)
    network = LightNetwork(2).train()
    seen: dict[str, Tensor] = {}
    network.c2.register_forward_hook(lambda module, inputs, output: seen.update(a=output))
    network.d3.register_forward_pre_hook(lambda module, inputs: seen.update(d3=inputs[0]))
    with torch.no_grad():
        network(_image(32, 32))
    assert torch.equal(seen["d3"][:, -64:], seen["a"])
    assert float((seen["d3"][:, :32] == 0).float().mean()) > 0.6  # ReLU and dropout


# --- filters and translation -----------------------------------------------------------------


@pytest.mark.parametrize(("how", "limit"), [("code", 1.0), ("paper", 2.0)])
def test_filters_and_translated_images_have_their_ranges(how: Any, limit: float) -> None:
    """T-A2."""
    with torch.no_grad():
        out = _net(3, translation=how)(_image(64, 48))
    assert out.filters.shape == out.translated.shape == (1, 3, 64, 48)
    assert float(out.filters.min()) >= 0 and float(out.filters.max()) > 0
    assert float(out.translated.min()) >= 0.5 and float(out.translated.max()) < limit


def test_both_formulae() -> None:
    x, f = torch.tensor([0.2, 0.8]).view(1, 1, 1, 2), torch.tensor([[-3.0, 1.0]]).view(1, 1, 1, 2)
    code = torch.tensor([0.2, 1.8]).sigmoid().view(1, 1, 1, 2)
    paper = torch.tensor([0.2 + 0.5, 0.8 + 0.7310586]).view(1, 1, 1, 2)
    torch.testing.assert_close(translate(x, f, "code"), code)
    torch.testing.assert_close(translate(x, f, "paper"), paper)


def test_without_a_filter_the_code_formula_squeezes_the_contrast() -> None:
    ends = translate(torch.tensor([0.0, 1.0]).view(1, 1, 1, 2), torch.zeros(1, 1, 1, 2), "code")
    torch.testing.assert_close(ends.flatten(), torch.tensor([0.5, 0.731059]))


def test_the_filters_are_the_first_penultimate_maps() -> None:
    net = _net(2, n_maps=16)
    x = _image(32, 32)
    assert torch.equal(net(x).filters, net.first(x)[1][:, :2])


def test_other_sources_of_filters() -> None:
    x = _image(32, 32)
    nets = {source: _net(3, source=source) for source in ("logits", "softmax", "argmax")}
    logits = nets["logits"].first(x)[0]
    assert torch.equal(nets["logits"](x).filters, logits.relu())
    torch.testing.assert_close(nets["softmax"](x).filters.sum(dim=1), torch.ones(1, 32, 32))
    torch.testing.assert_close(nets["softmax"](x).filters, logits.softmax(dim=1))
    hot = nets["argmax"](x).filters
    assert set(hot.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(hot.argmax(dim=1), logits.argmax(dim=1))
    assert all(net.first.out.in_channels == 16 for net in nets.values())


@pytest.mark.parametrize("times", [1, 2, 5])
def test_filters_are_a_multiple_of_the_classes(times: int) -> None:
    net = _net(2, filters_per_class=times)
    out = net(_image(16, 16))
    assert out.filters.shape[1] == 2 * times
    assert out.branches.shape == (1, 2 * times + 1, 2, 16, 16)
    assert net.branch_weights().shape == (2 * times + 1,) and len(net.branch_names) == 2 * times + 1


# --- branches and ensemble ---------------------------------------------------------------------


def test_branches_are_the_image_and_each_translated_image() -> None:
    net, x = _net(3), _image(32, 40)
    out = net(x)
    torch.testing.assert_close(out.branches[:, 0], net.first(x)[0])
    for i in range(3):
        torch.testing.assert_close(out.branches[:, i + 1], net.second(out.translated[:, i : i + 1])[0])


def test_awel_is_the_weighted_sum() -> None:
    """T-A3."""
    torch.manual_seed(3)
    awel, branches = AWEL(4), torch.randn(2, 4, 3, 5, 6)
    torch.testing.assert_close(awel(branches), branches.mean(dim=1))  # as it starts
    with torch.no_grad():
        awel.conv.weight.normal_()
        awel.conv.bias.fill_(0.7)
    a, b = awel.conv.weight.reshape(4), awel.conv.bias
    torch.testing.assert_close(awel(branches), torch.einsum("s,nscyx->ncyx", a, branches) + b, atol=1e-6, rtol=0)
    assert _n_parameters(awel) == 4 + 1
    torch.testing.assert_close(awel(3 * branches) - b, 3 * (awel(branches) - b), atol=1e-5, rtol=0)
    order = [2, 0, 1]
    torch.testing.assert_close(awel(branches[:, :, order]), awel(branches)[:, order])


def test_ensembles() -> None:
    x = _image(24, 24)
    out = _net(2, ensemble="none")(x)
    assert torch.equal(out.logits, out.branches[:, -1])
    out = _net(2, ensemble="fixed")(x)
    torch.testing.assert_close(out.logits, out.branches.sum(dim=1))
    net = _net(2)
    with torch.no_grad():
        net.awel.conv.weight.copy_(torch.tensor([0.5, -1.0, 2.0]).view(1, 3, 1, 1, 1))
    out = net(x)
    weights = torch.tensor([0.5, -1.0, 2.0])
    torch.testing.assert_close(out.logits, (weights.view(1, 3, 1, 1, 1) * out.branches).sum(dim=1))
    torch.testing.assert_close(out.probabilities.sum(dim=1), torch.ones(1, 24, 24))
    assert net.branch_weights().tolist() == [0.5, -1.0, 2.0]
    assert AEP(2, ensemble="fixed").branch_weights().tolist() == [1, 1, 1]
    assert AEP(2, ensemble="none").branch_weights().tolist() == [0, 0, 1]


@pytest.mark.parametrize("branch", [0, 1])
def test_the_result_teaches_network_1_by_both_ways(branch: int) -> None:
    """T-A4: through o₁ alone, and through the filters alone."""
    net = _net(2).train()
    with torch.no_grad():
        net.awel.conv.weight.zero_()
        net.awel.conv.weight[0, branch] = 1.0
    net(_image(32, 32)).logits.square().mean().backward()
    gradient = net.first.c1[0].weight.grad
    assert gradient is not None and float(gradient.abs().max()) > 0
    other = net.second.c1[0].weight.grad
    assert (other is not None and float(other.abs().max()) > 0) == (branch > 0)


def test_argmax_filters_carry_no_gradient() -> None:
    net = _net(2, source="argmax").train()
    net(_image(32, 32)).branches[:, 1:].square().mean().backward()
    gradient = net.first.c1[0].weight.grad
    assert gradient is None or not gradient.any()


def test_eval_mode_is_deterministic_and_training_is_not() -> None:
    """T-A5."""
    net, x = _net(2), _image(32, 32)
    assert torch.equal(net(x).logits, net(x).logits)
    net.train()
    assert not torch.equal(net(x).logits, net(x).logits)


def test_network_2_is_one_module() -> None:
    """T-A7."""
    net = _net(3)
    calls: list[int] = []
    net.second.register_forward_hook(lambda module, inputs, output: calls.append(id(module)))
    net(_image(16, 16))
    assert calls == [id(net.second)] * 3
    assert sum(isinstance(child, LightNetwork) for child in net.modules()) == 2


def test_each_translated_image_has_its_own_batch_statistics() -> None:
    net, x = _net(2, dropout=0.0).train(), _image(32, 32)
    out = net(x)
    torch.testing.assert_close(out.branches[:, 1], net.second(out.translated[:, :1])[0])


# --- sizes of images, what a pixel sees -----------------------------------------------------------


@pytest.mark.parametrize("shape", [(250, 333), (1, 9), (8, 8), (13, 3)])
def test_any_size_is_handled(shape: tuple[int, int]) -> None:
    """T-A8."""
    out = _net(2)(_image(*shape))
    assert out.filters.shape[2:] == out.translated.shape[2:] == out.branches.shape[3:] == out.logits.shape[2:] == shape
    assert torch.isfinite(out.logits).all()


def test_padding_is_by_reflection_and_even() -> None:
    x = torch.arange(12.0).view(1, 1, 1, 12).repeat(1, 1, 12, 1)
    padded, (top, left) = pad_to_grid(x)
    assert padded.shape == (1, 1, 16, 16) and (top, left) == (2, 2)
    assert padded[0, 0, 0].tolist() == [2, 1, *range(12), 10, 9]
    assert pad_to_grid(_image(13, 16))[0].shape[2:] == (16, 16) and pad_to_grid(_image(13, 16))[1] == (1, 0)


def test_a_padded_image_gives_what_the_grid_gives() -> None:
    net, x = _net(2), _image(30, 40)
    padded, (top, left) = pad_to_grid(x)
    whole = net(padded)
    torch.testing.assert_close(net(x).logits, whole.logits[..., top : top + 30, left : left + 40], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("network", "radius"), [(LightNetwork(2), LIGHT_RADIUS_PX), (UNet(2, n_first=8), UNET_RADIUS_PX)]
)
def test_how_far_a_pixel_sees(network: nn.Module, radius: int) -> None:
    torch.manual_seed(0)
    network.double().eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.bias.data.fill_(1.0)  # few dead units: every path carries a gradient
    x = torch.rand(1, 1, 128, 128, dtype=torch.float64, requires_grad=True)
    logits = network(x)[0]
    farthest = 0
    for at in range(60, 68):
        (gradient,) = torch.autograd.grad(logits[0, :, at, at].sum(), x, retain_graph=True)
        rows = torch.nonzero(gradient[0, 0].abs().sum(dim=1)).flatten()
        farthest = max(farthest, at - int(rows[0]), int(rows[-1]) - at)
    assert farthest == radius


def test_the_result_sees_through_both_networks() -> None:
    assert AEP(2).radius_px == 2 * LIGHT_RADIUS_PX
    assert AEP(2, filters_per_class=0).radius_px == LIGHT_RADIUS_PX
    assert PlainSegmenter(2).radius_px == LIGHT_RADIUS_PX
    assert PlainSegmenter(2, network="unet").radius_px == UNET_RADIUS_PX


# --- baseline, warm start, settings -----------------------------------------------------------------


@pytest.mark.parametrize("network", ["light", "unet"])
def test_the_baseline_has_the_same_interface(network: Any) -> None:
    net = PlainSegmenter(3, network=network).to_channels_last().eval()
    out = net(_image(21, 30))
    assert out.filters.shape == out.translated.shape == (1, 0, 21, 30)
    assert out.branches.shape == (1, 1, 3, 21, 30)
    assert torch.equal(out.logits, out.branches[:, 0])
    assert net.branch_weights().tolist() == [1.0] and net.branch_names == ("image",)


def test_channels_last_changes_the_layout_only() -> None:
    net, x = _net(2), _image(32, 32)
    before = net(x).logits
    net.to_channels_last()
    assert net.first.c3[0].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(net(x).logits, before, atol=1e-5, rtol=1e-5)


def test_autocast_ends_in_float32() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        out = _net(2)(_image(32, 32))
    assert out.logits.dtype == out.branches.dtype == out.filters.dtype == out.translated.dtype == torch.float32


def test_a_card_describes_the_network() -> None:
    for net in (_net(3, filters_per_class=2, source="penultimate", translation="paper"), PlainSegmenter(4)):
        settings = net.architecture
        assert settings.pop("name") in ("aep", "plain-segmenter")
        again = type(net)(**settings)
        assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in net.state_dict().items()}
        assert again.architecture == net.architecture


def test_a_warm_start_takes_what_fits() -> None:
    trained, fresh = _net(3), AEP(2)
    left = warm_start(fresh, trained.state_dict())
    assert torch.equal(fresh.first.c7[0].weight, trained.first.c7[0].weight)
    assert torch.equal(fresh.second.c1[1].running_mean, trained.second.c1[1].running_mean)
    assert torch.equal(fresh.first.out.weight, trained.first.out.weight[:2, :2]), "the first classes and filters"
    assert torch.equal(fresh.awel.conv.weight, trained.awel.conv.weight[:, :3])
    more = AEP(4)
    new = more.first.out.weight[3].clone()
    warm_start(more, trained.state_dict())
    assert torch.equal(more.first.out.weight[:3, :3], trained.first.out.weight)
    assert torch.equal(more.first.out.weight[3], new), "a class that the other network lacks is learned from nothing"
    assert set(left) >= {"first.out.weight", "first.c10.0.weight", "second.out.bias", "awel.conv.weight"}
    assert "second.c10.0.weight" not in left
    assert warm_start(AEP(3), trained.state_dict()) == ()
    with pytest.raises(ParameterError, match="fit none"):
        warm_start(fresh, PlainSegmenter(3).state_dict())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_classes": 1}, "classes"),
        ({"filters_per_class": 6}, "filters per class"),
        ({"filters_per_class": -1}, "filters per class"),
        ({"source": "other"}, "source"),
        ({"translation": "other"}, "translation"),
        ({"ensemble": "other"}, "ensemble"),
        ({"source": "softmax", "filters_per_class": 2}, "one per class"),
        ({"n_maps": 2}, "3 filters"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        AEP(**settings)


def test_baseline_settings_are_checked() -> None:
    with pytest.raises(ParameterError, match="classes"):
        PlainSegmenter(1)
    with pytest.raises(ParameterError, match="network"):
        PlainSegmenter(2, network="other")  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(1, 3, 16, 16), (16, 16), (1, 1, 0, 16)])
@pytest.mark.parametrize("net", [AEP(2), PlainSegmenter(2)])
def test_only_grey_batches_are_taken(shape: tuple[int, ...], net: nn.Module) -> None:
    with pytest.raises(ImageError, match="one channel"):
        net(torch.zeros(shape))


def test_a_warm_start_passes_over_what_the_network_lacks() -> None:
    trained, fresh, plain = _net(2), AEP(2), AEP(2)
    plain.load_state_dict(fresh.state_dict())
    state = {**trained.state_dict(), "a.layer.of.later": torch.ones(3)}
    state["awel.conv.bias"] = torch.ones(1, 1)  # of other dimensions
    assert warm_start(fresh, state) == ("awel.conv.bias",)
    assert torch.equal(fresh.awel.conv.get_parameter("bias"), plain.awel.conv.get_parameter("bias"))
    assert torch.equal(fresh.first.out.weight, trained.first.out.weight)
