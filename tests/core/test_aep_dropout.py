"""Dropout by random bits: the right share, unbiased, few random numbers, seeded."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.models.bit_dropout import BitDropout, random_bytes, seed_dropout

X = torch.ones(4, 32, 40, 24)


def _layer(p: float = 0.5, seed: int | None = 0) -> BitDropout:
    layer = BitDropout(p).train()
    if seed is not None:
        layer.seed(seed)
    return layer


@pytest.mark.parametrize("p", [0.5, 0.25, 0.8])
def test_it_drops_the_asked_share_and_keeps_the_mean(p: float) -> None:
    out = _layer(p)(X)
    n = X.numel()
    assert float((out == 0).float().mean()) == pytest.approx(p, abs=4 * (p * (1 - p) / n) ** 0.5 + 1 / 512)
    kept = out[out != 0]
    assert kept.unique().numel() == 1
    assert float(kept[0]) == pytest.approx(1 / (1 - p), rel=0.01)
    assert float(out.mean()) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("p", [0.5, 0.25])
def test_other_devices_draw_by_themselves_the_same_share(
    p: float, elsewhere: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    torch.manual_seed(4)
    out = _layer(p, seed=None)(elsewhere(X)).as_subclass(torch.Tensor)
    assert float((out == 0).float().mean()) == pytest.approx(p, abs=4 * (p * (1 - p) / X.numel()) ** 0.5)
    torch.testing.assert_close(out[out != 0].unique(), torch.tensor([1 / (1 - p)]))
    assert repr(_layer(p)) == f"BitDropout(p={p})"


def test_values_are_dropped_independently() -> None:
    kept = (_layer()(X.reshape(-1)) != 0).float() - 0.5
    for distance in (1, 7, 8, 24, 64, X.numel() // 8, X.numel() // 8 + 1):
        assert abs(float((kept[:-distance] * kept[distance:]).mean())) < 0.25 * 5 / X.numel() ** 0.5


def test_one_random_bit_per_value() -> None:
    """The generator has moved on by ⌈n / 64⌉ numbers, not by n."""
    torch.manual_seed(5)
    _layer(seed=None)(X)
    after = torch.get_rng_state()
    torch.manual_seed(5)
    torch.empty(X.numel() // 64, dtype=torch.int64).random_(-(2**63), None)
    assert torch.equal(torch.get_rng_state(), after)


def test_all_bits_of_the_random_numbers_are_random() -> None:
    drawn = random_bytes(80_003, torch.Generator().manual_seed(0))
    assert drawn.shape == (80_003,) and drawn.dtype == torch.uint8
    for shift in range(8):
        for place in range(8):
            assert float((drawn[place::8] >> shift & 1).float().mean()) == pytest.approx(0.5, abs=0.03)


def test_eval_mode_and_p_zero_hand_the_input_through() -> None:
    assert _layer().eval()(X) is X
    assert _layer(0.0)(X) is X


def test_the_gradient_passes_where_the_value_did() -> None:
    x = torch.rand(2, 8, 8, 8, requires_grad=True)
    out = _layer()(x)
    out.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.where(out == 0, 0.0, 2.0))


@pytest.mark.parametrize("p", [0.5, 0.3])
def test_layout_and_dtype_stay(p: float) -> None:
    x = torch.rand(2, 5, 6, 7).to(memory_format=torch.channels_last).bfloat16()
    before = x.clone()
    out = _layer(p)(x)
    assert out.dtype == torch.bfloat16 and out.stride() == x.stride()
    assert torch.equal(x, before)
    assert 0 < int((out == 0).sum()) < x.numel()


def test_a_view_with_holes_works_too() -> None:
    out = _layer()(torch.ones(4, 16, 32)[:, ::2, 3:])
    assert out.shape == (4, 8, 29) and set(out.unique().tolist()) == {0.0, 2.0}


def test_seeds_repeat_and_layers_differ() -> None:
    module = nn.ModuleList([BitDropout(), BitDropout()]).train()
    seed_dropout(module, 3)
    first, other, second = module[0](X), module[1](X), module[0](X)
    assert not torch.equal(first, other) and not torch.equal(first, second)
    seed_dropout(module, 3)
    assert torch.equal(module[0](X), first) and torch.equal(module[0](X), second)
    seed_dropout(module, 4)
    assert not torch.equal(module[0](X), first)


def test_a_seeded_layer_can_be_copied_and_has_no_state() -> None:
    layer = _layer()
    layer(X)
    assert torch.equal(copy.deepcopy(layer)(X), _layer()(X))
    assert not layer.state_dict()


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_the_probability_is_checked(p: float) -> None:
    with pytest.raises(ParameterError, match="dropout"):
        BitDropout(p)
