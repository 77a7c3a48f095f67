"""Does a graphics card compute what the CPU computes? A small picture through a small network, on both."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

__all__ = ["SelfTest", "self_test"]

_LARGEST_FLOAT32 = 0.02
_LARGEST_BFLOAT16 = 0.06
"""Results lie in 0…1. TF32 keeps 10 bits of mantissa and bfloat16 keeps 7: loose bounds, they only have to catch
wrong numbers."""
_SIDE_PX = 64


@dataclass(frozen=True, slots=True)
class SelfTest:
    """Outcome of a comparison with the CPU.

    Parameters
    ----------
    is_right : bool
    max_difference : float
        Largest of all pixels, of results in 0…1.
    reason : str
        What was wrong; empty if nothing was.
    """

    is_right: bool
    max_difference: float
    reason: str = ""


def self_test(device: str, *, has_bfloat16: bool = False) -> SelfTest:
    """Compute a built-in tile on a device, and compare it with the CPU.

    Convolutions in 2-D and 3-D, normalisation, pooling, upsampling and the logistic function: what the networks of this
    program are made of.

    Parameters
    ----------
    device : str
        As torch names it.
    has_bfloat16 : bool
        Test that precision as well; the networks use it there.
    """
    expected = _compute("cpu", torch.float32)
    largest = 0.0
    wanted = [(torch.float32, _LARGEST_FLOAT32)] + [(torch.bfloat16, _LARGEST_BFLOAT16)] * has_bfloat16
    for dtype, limit in wanted:
        word = str(dtype).removeprefix("torch.")
        try:
            found = _compute(device, dtype)
        except (RuntimeError, AssertionError) as error:
            first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
            return SelfTest(False, float("inf"), f"a built-in tile in {word} failed: {first_line}")
        if not bool(torch.isfinite(found).all()):
            return SelfTest(False, float("inf"), f"a built-in tile in {word} came out with pixels that are no numbers")
        gap = float((found - expected).abs().max())
        largest = max(largest, gap)
        if gap > limit:
            return SelfTest(
                False, gap, f"a built-in tile in {word} differs from the CPU by {gap:.2g} (up to {limit:g} is rounding)"
            )
    return SelfTest(True, largest)


def _compute(device: str, dtype: torch.dtype) -> torch.Tensor:
    """Small network on a small picture; float32 on the CPU, in 0…1."""
    y, x = torch.meshgrid(torch.arange(_SIDE_PX), torch.arange(_SIDE_PX), indexing="ij")
    picture = torch.exp(-((y - 20.0) ** 2 + (x - 30.0) ** 2) / 60) + 0.5 * torch.exp(
        -((y - 44.0) ** 2 + (x - 16.0) ** 2) / 20
    )
    with torch.inference_mode():
        plane = picture[None, None].to(device, dtype)
        wide = F.relu(_normed(F.conv2d(plane, _weight(16, 1, 3, 3).to(device, dtype), padding=1)))
        deep = F.relu(F.conv2d(F.max_pool2d(wide, 2), _weight(32, 16, 3, 3).to(device, dtype), padding=1))
        up = F.interpolate(deep, scale_factor=2, mode="bilinear", align_corners=False)
        both = F.leaky_relu(F.conv2d(torch.cat([wide, up], 1), _weight(8, 48, 3, 3).to(device, dtype), padding=1))
        volume = F.conv3d(both[:, None], _weight(1, 1, 3, 3, 3).to(device, dtype), padding=1)[:, 0]
        last = F.conv2d(volume, _weight(1, 8, 1, 1).to(device, dtype))
        return torch.sigmoid(last).float().cpu()


def _normed(values: torch.Tensor) -> torch.Tensor:
    return F.instance_norm(values)


def _weight(*shape: int) -> torch.Tensor:
    """Weights that look random and are always the same; their sum of squares per output is 2."""
    n = int(torch.tensor(shape).prod())
    values = torch.sin(torch.arange(n, dtype=torch.float64) * 12.9898) * 43758.5453
    values = (values - values.floor() - 0.5).float().reshape(shape)
    fan_in = n // shape[0]
    scale: float = (24.0 / fan_in) ** 0.5
    return values * scale
