"""A graphics card that is none."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch


class _Elsewhere(torch.Tensor):
    device = torch.device("cuda")  # type: ignore[assignment]


@pytest.fixture
def elsewhere() -> Callable[[torch.Tensor], torch.Tensor]:
    """Make a tensor say that it lies on a graphics card; its numbers are computed here."""
    return lambda tensor: tensor.as_subclass(_Elsewhere)
