"""Reflection padding with a gradient of its own: the same numbers, in the precision and layout that came in."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from napari_cellenhance.core.models.nunet import UpConvNorm
from napari_cellenhance.core.models.reflect_pad import reflect_pad


@pytest.mark.parametrize(("by", "shape"), [(1, (2, 3, 5, 7)), (4, (1, 2, 9, 5)), (1, (1, 1, 2, 2))])
def test_values_and_gradient_equal_those_of_torch(by: int, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64).to(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(*shape[:2], shape[2] + 2 * by, shape[3] + 2 * by, dtype=torch.float64)
    expected = F.pad(x, (by,) * 4, mode="reflect")
    found = reflect_pad(x, by)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    (gradient,) = torch.autograd.grad((found * weight).sum(), x)
    torch.testing.assert_close(gradient, torch.autograd.grad((expected * weight).sum(), x)[0])
    assert gradient.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("needs_gradient", [True, False])
def test_keeps_bf16_under_autocast(needs_gradient: bool) -> None:
    x = torch.zeros(1, 4, 8, 8, dtype=torch.bfloat16, requires_grad=needs_gradient)
    with torch.autocast("cpu", torch.bfloat16):
        assert reflect_pad(x, 1).dtype == torch.bfloat16


def test_up_sampling_in_training_equals_its_definition() -> None:
    torch.manual_seed(0)
    layer, x = UpConvNorm(8, 4).double(), torch.randn(2, 8, 5, 7, dtype=torch.float64)
    in_training = layer.train().convolve(x)
    defined = layer.eval().convolve(x)
    torch.testing.assert_close(in_training, defined)
    gradients = [torch.autograd.grad(y.square().sum(), layer.conv.weight)[0] for y in (in_training, defined)]
    torch.testing.assert_close(*gradients)
