"""Reflection padding that keeps precision and layout, with its gradient.

Torch's own turns to float32 under autocast on a CPU, and its gradient goes through a dense copy: together a third of an
update.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["reflect_pad"]


def reflect_pad(x: Tensor, by: int) -> Tensor:
    """Pad a map of shape (N, C, H, W) by reflection on all sides, the edge not repeated.

    Parameters
    ----------
    x : Tensor of shape (N, C, H, W)
    by : int
        Rows and columns on each side, less than H and W.

    Returns
    -------
    Tensor of shape (N, C, H + 2·by, W + 2·by)
    """
    if not (torch.is_grad_enabled() and x.requires_grad):
        return _padded(x, by)
    out: Tensor = _ReflectPad.apply(x, by)  # type: ignore[no-untyped-call]
    return out


class _ReflectPad(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, by: int) -> Tensor:
        ctx.by = by
        return _padded(x, by)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Each padded row and column goes back to the one it repeats: first the rows, then the columns."""
        by, (padded,) = ctx.by, gradients
        rows = padded[:, :, by:-by].clone(memory_format=torch.channels_last)
        rows[:, :, 1 : by + 1] += padded[:, :, :by].flip(2)
        rows[:, :, -by - 1 : -1] += padded[:, :, -by:].flip(2)
        out = rows[..., by:-by].contiguous(memory_format=torch.channels_last)
        out[..., 1 : by + 1] += rows[..., :by].flip(3)
        out[..., -by - 1 : -1] += rows[..., -by:].flip(3)
        return out, None


def _padded(x: Tensor, by: int) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return F.pad(x, (by,) * 4, mode="reflect")
