"""The joint loss, and that pixels without paint have no say (METHODS T-A6, 0.7)."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.losses.segmentation import joint_loss, painted_cross_entropy
from napari_cellenhance.core.models.aep import AEP, AEPOutput
from napari_cellenhance.core.painted import IGNORED

N, C, H, W = 2, 3, 6, 5


def _logits(seed: int = 0, n_branches: int = 0) -> Tensor:
    shape = (N, n_branches, C, H, W) if n_branches else (N, C, H, W)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def _target(share: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(9)
    classes = torch.randint(0, C, (N, H, W), generator=generator)
    return torch.where(torch.rand(N, H, W, generator=generator) < share, classes, IGNORED)


def _output(n_filters: int) -> AEPOutput:
    none = torch.zeros(N, n_filters, H, W)
    return AEPOutput(none, none, _logits(1, n_filters + 1), _logits(2))


def _by_hand(logits: Tensor, target: Tensor, weights: tuple[float, ...] = (1, 1, 1)) -> float:
    total, n = 0.0, 0
    for i in range(N):
        for y in range(H):
            for x in range(W):
                c = int(target[i, y, x])
                if c != IGNORED:
                    scores = [math.exp(v) for v in logits[i, :, y, x].tolist()]
                    total -= weights[c] * math.log(scores[c] / sum(scores))
                    n += 1
    return total / n


def test_dense_labels_give_the_mean_over_pixels_and_batch() -> None:
    logits, target = _logits(), _target()
    mean = torch.nn.functional.cross_entropy(logits, target)
    torch.testing.assert_close(painted_cross_entropy(logits, target), mean)
    assert mean.item() == pytest.approx(_by_hand(logits, target), rel=1e-5)


def test_strokes_are_averaged_over_their_own_pixels() -> None:
    logits, target = _logits(), _target(0.3)
    assert 0 < int((target != IGNORED).sum()) < target.numel() // 2
    assert painted_cross_entropy(logits, target).item() == pytest.approx(_by_hand(logits, target), rel=1e-5)


def test_pixels_without_paint_have_zero_gradient() -> None:
    logits, target = _logits(), _target(0.3)
    painted_cross_entropy(logits, target).backward()
    assert logits.grad is not None
    is_painted = (target != IGNORED)[:, None].expand_as(logits)
    assert not logits.grad[~is_painted].any()
    assert logits.grad[is_painted].abs().min() > 0


def test_nothing_painted_is_zero_and_never_not_a_number() -> None:
    logits = _logits()
    loss = painted_cross_entropy(logits, torch.full((N, H, W), IGNORED))
    loss.backward()
    assert loss.item() == 0.0 and logits.grad is not None and not logits.grad.any()


def test_class_weights_scale_their_class_and_not_the_count() -> None:
    logits, target, weights = _logits(), _target(0.5), (1.0, 1.0, 5.0)
    weighted = painted_cross_entropy(logits, target, torch.tensor(weights))
    assert weighted.item() == pytest.approx(_by_hand(logits, target, weights), rel=1e-5)
    doubled = painted_cross_entropy(logits, target, 2 * torch.tensor(weights))
    torch.testing.assert_close(doubled, 2 * weighted)


def test_bf16_logits_are_scored_in_float32() -> None:
    assert painted_cross_entropy(_logits().bfloat16(), _target()).dtype == torch.float32


def test_the_joint_loss_is_the_sum_over_all_branches() -> None:
    output, target = _output(3), _target(0.6)
    losses = joint_loss(output, target)
    each = [painted_cross_entropy(output.branches[:, i], target) for i in range(4)]
    torch.testing.assert_close(losses["first"], each[0])
    torch.testing.assert_close(losses["ensemble"], painted_cross_entropy(output.logits, target))
    torch.testing.assert_close(losses["translated"], each[1] + each[2] + each[3])
    torch.testing.assert_close(losses["total"], losses["first"] + losses["ensemble"] + losses["translated"])


def test_without_filters_it_is_network_1_and_the_ensemble() -> None:
    """T-A6."""
    output, target = _output(0), _target()
    losses = joint_loss(output, target)
    expected = painted_cross_entropy(output.branches[:, 0], target) + painted_cross_entropy(output.logits, target)
    torch.testing.assert_close(losses["total"], expected)
    assert set(losses) == {"total", "first", "ensemble"}


def test_without_an_ensemble_no_branch_counts_twice() -> None:
    output, target = _output(2), _target()
    losses = joint_loss(output, target, has_ensemble=False)
    assert set(losses) == {"total", "first", "translated"}
    torch.testing.assert_close(losses["total"], losses["first"] + losses["translated"])


def test_weights_reach_every_term() -> None:
    output, target, weights = _output(2), _target(), torch.tensor([2.0, 2.0, 2.0])
    plain, doubled = joint_loss(output, target), joint_loss(output, target, class_weights=weights)
    for name, value in plain.items():
        torch.testing.assert_close(doubled[name], 2 * value)


def test_one_loss_trains_both_networks_and_the_ensemble() -> None:
    torch.manual_seed(0)
    net = AEP(2).train()
    target = torch.randint(0, 2, (2, 32, 32), generator=torch.Generator().manual_seed(0))
    joint_loss(net(torch.rand(2, 1, 32, 32)), target)["total"].backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    assert float(net.awel.conv.weight.grad.abs().max()) > 0


def test_the_common_bias_cancels() -> None:
    output, target = _output(1), _target()
    shifted = AEPOutput(output.filters, output.translated, output.branches, output.logits + 3.0)
    torch.testing.assert_close(joint_loss(shifted, target)["total"], joint_loss(output, target)["total"])


def test_shapes_are_checked() -> None:
    with pytest.raises(ParameterError, match="targets"):
        painted_cross_entropy(_logits(), _target()[:, 1:])
    with pytest.raises(ParameterError, match="targets"):
        painted_cross_entropy(_logits()[0], _target())
    with pytest.raises(ParameterError, match="class weights"):
        painted_cross_entropy(_logits(), _target(), torch.ones(2))
