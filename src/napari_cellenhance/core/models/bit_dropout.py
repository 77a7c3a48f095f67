"""Dropout that draws one random bit per value instead of one random number.

On a CPU torch draws the random numbers of a dropout one after the other; in a network with many of them this takes
longer than the convolutions. One 64-bit number holds the decisions for 64 values at p = 0.5, for 8 at any other p.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_cellenhance.core.errors import ParameterError

__all__ = ["BitDropout", "random_bytes", "seed_dropout"]

MAX_P = 0.99


class BitDropout(nn.Module):
    """Set values to zero with probability ``p`` and scale the others up, in training only.

    Parameters
    ----------
    p : float
        From 0 (off) to 0.99. Rounded to 1/256; the others are scaled by what that makes.

    Notes
    -----
    Seeded by :func:`seed_dropout`; without it torch's own generator is used. Two layers that are seeded alike and see
    the same sequence of shapes drop the same values.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p <= MAX_P:
            raise ParameterError(f"dropout is {p}; expected a probability from 0 (off) to {MAX_P}")
        self.p = p
        self._n_dropped = round(256 * p)
        self._seed: int | None = None
        self._generator: torch.Generator | None = None

    def seed(self, seed: int) -> None:
        """Start a new sequence of decisions; the same seed gives the same sequence."""
        self._seed, self._generator = seed, None

    def forward(self, x: Tensor) -> Tensor:
        """Same shape, dtype and memory layout; ``x`` itself in eval mode. A new tensor in training."""
        if not self.training or self._n_dropped == 0:
            return x
        generator = self._generator_on(x.device)
        if x.device.type != "cpu":  # drawn by all threads at once there
            share = 1.0 - self._n_dropped / 256
            return x * torch.empty_like(x).bernoulli_(share, generator=generator).div_(share)
        if self._n_dropped == 128:
            return x * _twice_random_bits(x, generator)
        kept = random_bytes(x.numel(), generator) >= self._n_dropped
        return x * _laid_out_as(x, kept) * (256 / (256 - self._n_dropped))

    def extra_repr(self) -> str:
        """Probability, as torch prints layers."""
        return f"p={self.p}"

    def _generator_on(self, device: torch.device) -> torch.Generator | None:
        if self._seed is None:
            return None
        if self._generator is None or self._generator.device != device:
            self._generator = torch.Generator(device).manual_seed(self._seed)
        return self._generator

    def __getstate__(self) -> dict[str, Any]:
        """Copies start their sequence again: a generator cannot be copied in every torch."""
        return self.__dict__ | {"_generator": None}


def seed_dropout(module: nn.Module, seed: int) -> None:
    """Seed every :class:`BitDropout` in ``module``, each with its own sequence.

    Parameters
    ----------
    module : nn.Module
    seed : int
        0 or more.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, BitDropout)]
    seeds = np.random.SeedSequence(seed).generate_state(max(1, len(layers)), np.uint32)
    for layer, own in zip(layers, seeds, strict=False):
        layer.seed(int(own))


def random_bytes(n: int, generator: torch.Generator | None) -> Tensor:
    """Draw ``n`` uniform bytes out of ⌈n / 8⌉ 64-bit numbers; shape (n,), uint8."""
    words = torch.empty(-(-n // 8), dtype=torch.int64).random_(-(2**63), None, generator=generator)
    return words.view(torch.uint8)[:n]


def _twice_random_bits(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """0 or 2 at random for each value of ``x``: the kept values are doubled already.

    The eight bits of each byte go to eight far places, so that each of the eight passes runs over contiguous memory.
    """
    packed = random_bytes(-(-x.numel() // 8), generator)
    bits = torch.empty(8, packed.numel(), dtype=torch.uint8)
    for shift in range(8):
        torch.bitwise_right_shift(packed, shift, out=bits[shift])
    return _laid_out_as(x, bits.bitwise_and_(1).mul_(2).view(-1))


def _laid_out_as(x: Tensor, flat: Tensor) -> Tensor:
    """View the first values of ``flat`` with the shape of ``x``, in the order in which ``x`` lies in memory."""
    strides = torch.empty_like(x, device="meta").stride()
    return flat.as_strided(x.shape, strides)
