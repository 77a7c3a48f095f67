"""The U-Net of the semantic filter: image → one layer of it, by regression; and the same network, fast and light.

References
----------
.. [1] Javer & Rittscher, arXiv 1909.00691, 2019: Xavier initialisation, linear output.
.. [2] Lehtinen et al., "Noise2Noise", ICML 2018, appendix: the architecture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.models.csb_unet_folded import FoldedConv, FoldedUpConv

__all__ = ["GRID_PX", "RADIUS_PX", "FastSemanticUNet", "SemanticUNet"]

DEPTH: Final = 5
GRID_PX: Final = 2**DEPTH
"""Sides of an input are multiples of this."""
RADIUS_PX: Final = 158
"""How far a pixel of the result sees: 127 px by the convolutions, 2⁵ − 1 by the pools."""
_SLOPE: Final = 0.1
_STRIP_ROWS: Final = 64
_FULL_HALO: Final = 4
"""Rows that the three convolutions at full resolution see at most, rounded up to the grid of one pool."""


@dataclass(frozen=True, slots=True)
class _Widths:
    """Maps at each place; ``width`` is 48 in the paper."""

    width: int

    @property
    def decoder(self) -> int:
        return 2 * self.width

    @property
    def top(self) -> tuple[int, int]:
        """At full resolution on the way up: 64 and 32 of 48."""
        return max(1, 4 * self.width // 3), max(1, 2 * self.width // 3)


def _conv(n_in: int, n_out: int) -> nn.Conv2d:
    conv = nn.Conv2d(n_in, n_out, 3, padding=1)
    nn.init.xavier_normal_(conv.weight)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv


class SemanticUNet(nn.Module):
    """Five times halved, joined with what was pooled on the way up, and with the image itself at the end.

    Every convolution is 3×3, padded by zeros, followed by a leaky ReLU of slope 0.1; no norm. The last one is linear:
    its values are not limited, and may be negative.

    Parameters
    ----------
    n_in, n_out : int
        Channels of the image and of the result: 1 → 1; 1 → 3 to take an image apart; 3 → 3 for colours.
    width : int
        Maps of the encoder; 48 as published, with 988 609 parameters for 1 → 1.

    Raises
    ------
    ParameterError
        Fewer than 1 of anything.
    """

    def __init__(self, *, n_in: int = 1, n_out: int = 1, width: int = 48) -> None:
        super().__init__()
        if min(n_in, n_out, width) < 1:
            raise ParameterError(f"{n_in} channels in, {n_out} out, {width} maps; expected 1 or more of each")
        self.n_in, self.n_out, self.width = n_in, n_out, width
        maps = _Widths(width)
        first, second = maps.top
        self.entry = _conv(n_in, width)
        self.down = nn.ModuleList(_conv(width, width) for _ in range(DEPTH))
        self.middle = _conv(width, width)
        inner = [(width + width if i == 0 else maps.decoder + width, maps.decoder) for i in range(DEPTH - 1)]
        self.up = nn.ModuleList(
            nn.ModuleList([_conv(n_join, n_maps), _conv(n_maps, n_maps)]) for n_join, n_maps in inner
        )
        self.top = nn.ModuleList([_conv(maps.decoder + n_in, first), _conv(first, second)])
        self.head = _conv(second, n_out)

    @property
    def architecture(self) -> dict[str, Any]:
        """Description for a model card."""
        return {"name": "semantic-unet", "n_in": self.n_in, "n_out": self.n_out, "width": self.width}

    def forward(self, x: Tensor) -> Tensor:
        """(N, ``n_in``, Y, X), sides multiples of 32 → (N, ``n_out``, Y, X).

        Raises
        ------
        ParameterError
            Another number of axes or channels, or other sides.
        """
        check_input(x, self.n_in)
        pooled: list[Tensor] = []
        y = _active(self.entry(x))
        for conv in self.down:
            y = F.max_pool2d(_active(conv(y)), 2)
            pooled.append(y)
        y = _active(self.middle(y))
        for level, pair in enumerate(self.up):
            y = torch.cat([_enlarged(y), pooled[DEPTH - 2 - level]], dim=1)
            for conv in pair:  # type: ignore[attr-defined]
                y = _active(conv(y))
        y = torch.cat([_enlarged(y), x], dim=1)
        for conv in self.top:
            y = _active(conv(y))
        result: Tensor = self.head(y)
        return result

    def to_channels_last(self) -> SemanticUNet:
        """Lay the convolutions out for speed (in place)."""
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self


def check_input(x: Tensor, n_in: int) -> None:
    """``ParameterError`` where a batch does not fit the network."""
    if x.ndim != 4 or x.shape[1] != n_in or any(side % GRID_PX for side in x.shape[2:]):
        raise ParameterError(
            f"the network was given {tuple(x.shape)}; expected (images, {n_in}, and two sides that are multiples of "
            f"{GRID_PX})"
        )


def _active(x: Tensor) -> Tensor:
    return F.leaky_relu(x, _SLOPE, inplace=True)


def _enlarged(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


class FastSemanticUNet(nn.Module):
    """Inference of a :class:`SemanticUNet`: the same values with less memory and fewer operations.

    - What is done at full resolution is done in strips of rows, each with the rows it sees, so that no map of the whole
      plane exists at that size: some 300 bytes per pixel instead of about 1000.
    - Enlarging and the convolution behind it are one transposed convolution; nothing is joined.
    - bfloat16 where it is asked for; the last convolution computes in float32.

    Parameters
    ----------
    net : SemanticUNet
        Trained; not modified.
    dtype : torch.dtype
        float32 or bfloat16, of the maps.
    """

    def __init__(self, net: SemanticUNet, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.n_in, self.n_out, self.dtype = net.n_in, net.n_out, dtype
        self.entry = _frozen(net.entry, dtype)
        self.down = nn.ModuleList(_frozen(conv, dtype) for conv in net.down)
        self.middle = _frozen(net.middle, dtype)
        self.up_first, self.up_second = nn.ModuleList(), nn.ModuleList()
        for level, pair in enumerate(net.up):
            n_up = net.width if level == 0 else 2 * net.width
            self.up_first.append(_frozen_up(pair[0], n_up, dtype))  # type: ignore[index]
            self.up_second.append(_frozen(pair[1], dtype))  # type: ignore[index]
        self.top_first = _frozen_up(net.top[0], 2 * net.width, dtype)
        self.top_second = _frozen(net.top[1], dtype)
        self.head = _frozen(net.head, torch.float32)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """As :meth:`SemanticUNet.forward`; float32 in and out."""
        check_input(x, self.n_in)
        given = x.to(self.dtype, memory_format=torch.channels_last)
        pooled = [_in_strips(self._enter, x.shape[2] // 2, 2, [(given, 2)])]
        for conv in self.down[1:]:
            pooled.append(F.max_pool2d(_active(conv(pooled[-1])), 2))
        y = _active(self.middle(pooled.pop()))
        for first, second in zip(self.up_first, self.up_second, strict=True):
            y = _active(second(_active(first(y, pooled.pop()))))
        return _in_strips(self._leave, x.shape[2], _FULL_HALO, [(y, 0.5), (given, 1)])

    def _enter(self, x: Tensor) -> Tensor:
        return F.max_pool2d(_active(self.down[0](_active(self.entry(x)))), 2)

    def _leave(self, y: Tensor, x: Tensor) -> Tensor:
        maps: Tensor = _active(self.top_second(_active(self.top_first(y, x))))
        result: Tensor = self.head(maps.float())
        return result


def _in_strips(work: Callable[..., Tensor], n_rows: int, halo: int, inputs: list[tuple[Tensor, float]]) -> Tensor:
    """Compute a result of ``n_rows`` rows strip by strip.

    Parameters
    ----------
    halo : int
        Rows of the result that a strip is computed with, and that are cut off again; even.
    inputs : list of (Tensor, float)
        Each with its rows per row of the result.
    """
    result: Tensor | None = None
    for low, high in _strips(n_rows):
        start, stop = max(0, low - halo), min(n_rows, high + halo)
        parts = [tensor[:, :, int(start * per) : int(stop * per)] for tensor, per in inputs]
        found = work(*parts)[:, :, low - start : high - start]
        if result is None:
            shape = (found.shape[0], found.shape[1], n_rows, found.shape[3])
            result = torch.empty(shape, dtype=found.dtype, device=found.device, memory_format=torch.channels_last)
        result[:, :, low:high] = found
    assert result is not None
    return result


def _strips(n_rows: int) -> Iterator[tuple[int, int]]:
    for low in range(0, n_rows, _STRIP_ROWS):
        yield low, min(n_rows, low + _STRIP_ROWS)


def _weights(conv: Any) -> tuple[Tensor, Tensor]:
    return conv.weight.detach().float(), conv.bias.detach().float()


def _frozen(conv: Any, dtype: torch.dtype) -> FoldedConv:
    return FoldedConv(*_weights(conv), dtype)


def _frozen_up(conv: Any, n_up: int, dtype: torch.dtype) -> FoldedUpConv:
    return FoldedUpConv(*_weights(conv), n_up, dtype)
