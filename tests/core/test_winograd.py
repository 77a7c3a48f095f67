"""The fast 3×3 convolution gives the numbers of the direct one, and is used where it is faster."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from napari_cellenhance.core.models.winograd import pays, transform_weight, winograd_convolve


@pytest.mark.parametrize("shape", [(34, 34), (3, 3), (7, 21), (40, 5), (75, 66)])
def test_equals_the_direct_convolution(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 16, *shape).to(memory_format=torch.channels_last)
    weight, bias = torch.randn(24, 16, 3, 3) / 12, torch.randn(24)
    expected = F.conv2d(x.double(), weight.double(), bias.double())
    found = winograd_convolve(x, transform_weight(weight), bias)
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) < 2e-4 * float(expected.std())


def test_leaves_its_input_alone() -> None:
    x = torch.randn(1, 16, 12, 12)
    before = x.clone()
    winograd_convolve(x, transform_weight(torch.randn(16, 16, 3, 3)), torch.zeros(16))
    torch.testing.assert_close(x, before, rtol=0, atol=0)


def test_pays_only_for_wide_3x3_in_float32_on_a_cpu() -> None:
    assert pays(torch.zeros(128, 128, 3, 3), 1)
    assert not pays(torch.zeros(128, 128, 3, 3), 2)
    assert not pays(torch.zeros(128, 128, 5, 5), 1)
    assert not pays(torch.zeros(128, 32, 3, 3), 1)
    assert not pays(torch.zeros(128, 128, 3, 3, dtype=torch.bfloat16), 1)
    assert not pays(torch.zeros(128, 128, 3, 3, device="meta"), 1)
