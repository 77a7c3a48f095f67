"""Exact instance-norm statistics of NU-Net over whole planes, in bounded memory.

Norm by norm: each needs the statistics of the earlier ones, so a plane that is too large
for one pass is walked through once per norm, in bands of rows. Cheap maps (encoder and
decoder) are computed again from what lies before them; only the trunk, at a quarter of
the resolution, is stored: two maps of 128 channels, 48 bytes per pixel of the plane in
bf16, where the sums of the residual blocks stay in float32. Planes of a stack are pooled
as if they were one large plane.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_cellenhance.core.models.nunet_fast import FastNUNet
from napari_cellenhance.core.models.nunet_layers import LAST, N_NORMS, map_shape
from napari_cellenhance.core.tiling import Region

__all__ = ["NormStatistics", "Pooled", "measure_in_bands", "trunk_bytes"]

_CHUNK_PX = 1 << 14
_CUDA_CHUNK_PX = 1 << 22
"""Pixels summed in float32 before they are pooled in float64: longer float32 sums drift."""

_BAND_PX = 1 << 19
"""Pixels of the plane per band."""

_TRUNK_CHANNELS = 128

Source = Callable[[Region], Tensor]
"""Window of the padded plane → float32 tensor (1, 1, h, w), scale 0…255, on the network's device."""


@dataclass(frozen=True, slots=True)
class NormStatistics:
    """Mean and (biased) variance per channel of each of the 15 norms, float32 on one device."""

    means: tuple[Tensor, ...]
    variances: tuple[Tensor, ...]

    def to(self, device: torch.device) -> NormStatistics:
        """Copy on another device; itself where it already is there."""
        return NormStatistics(
            tuple(mean.to(device) for mean in self.means), tuple(var.to(device) for var in self.variances)
        )


@dataclass(slots=True)
class Pooled:
    """Mean and variance per channel, gathered piece by piece in float64 (Chan et al., 1979).

    On a CUDA device they stay there: nobody waits for them, and the pieces are large.
    """

    n: int = 0
    mean: Any = 0.0
    m2: Any = 0.0

    def add(self, x: Tensor) -> None:
        """Take in all pixels of a map of shape (1, C, H, W)."""
        is_on_cuda = x.device.type == "cuda"
        for chunk in torch.split(x, _chunk_rows(x.shape[3], _CUDA_CHUNK_PX if is_on_cuda else _CHUNK_PX), dim=2):
            mean, var = _moments(chunk)
            n = chunk.shape[2] * chunk.shape[3]
            if is_on_cuda:
                self._merge(n, mean.double(), var.double())
            else:  # into numpy: for so few numbers its calls cost a fraction of torch's
                self._merge(n, mean.cpu().numpy(), var.cpu().numpy().astype(np.float64))

    def _merge(self, n: int, mean: Any, var: Any) -> None:
        total = self.n + n
        delta = mean - self.mean
        self.m2 = self.m2 + var * n + delta**2 * (self.n * n / total)
        self.mean = self.mean + delta * (n / total)
        self.n = total

    def result(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Mean and biased variance, float32 of shape (C,)."""
        if isinstance(self.mean, Tensor):
            return self.mean.float().to(device), (self.m2 / self.n).float().to(device)
        mean, var = self.mean.astype(np.float32), (self.m2 / self.n).astype(np.float32)
        return torch.from_numpy(mean).to(device), torch.from_numpy(var).to(device)


def _chunk_rows(width: int, n_px: int) -> int:
    return max(1, n_px // width)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    if x.device.type != "cpu":
        var, mean = torch.var_mean(x.float(), dim=(0, 2, 3), correction=0)
        return mean, var
    scratch = torch.zeros(x.shape[1])
    # The statistics half of the batch-norm kernel: one threaded read, no float32 copy of a bf16 map.
    mean, var = torch.ops.aten.batch_norm_update_stats(x, scratch, scratch.clone(), 0.0)
    return mean, var


def trunk_bytes(shape: tuple[int, int], dtype: torch.dtype) -> int:
    """Bytes stored for one plane of ``shape`` while its trunk is measured."""
    return _TRUNK_CHANNELS * (shape[0] // 4) * (shape[1] // 4) * (torch.float32.itemsize + dtype.itemsize)


@dataclass(slots=True)
class _Plane:
    source: Source
    shape: tuple[int, int]
    x: Tensor
    """Input of the current residual block, float32."""
    y: Tensor
    """Raw output of its current convolution."""


def measure_in_bands(
    network: FastNUNet,
    sources: Sequence[tuple[Source, tuple[int, int]]],
    checkpoint: Callable[[], None],
    *,
    memory_limit: int,
    band_px: int = _BAND_PX,
) -> NormStatistics:
    """Measure all norms over all pixels of all planes pooled.

    Parameters
    ----------
    network : FastNUNet
    sources : sequence of (source, shape)
        Reader and padded shape of each plane.
    checkpoint : callable
        Called before each band; may raise to stop.
    memory_limit : int
        Bytes; beyond it the stored trunk lives in temporary files that the system pages.
    band_px : int
        Pixels of the plane per band.
    """
    in_memory = sum(trunk_bytes(shape, network.dtype) for _, shape in sources) <= memory_limit
    with torch.inference_mode():
        planes = [
            _Plane(source, shape, _store(shape, torch.float32, in_memory), _store(shape, network.dtype, in_memory))
            for source, shape in sources
        ]
        return _Bands(network, planes, checkpoint, band_px).measure()


class _Bands:
    """The walk through the planes; holds the statistics found so far."""

    def __init__(
        self, network: FastNUNet, planes: Sequence[_Plane], checkpoint: Callable[[], None], band_px: int
    ) -> None:
        self._net, self._planes, self._checkpoint, self._band_px = network, planes, checkpoint, band_px
        self._found: list[tuple[Tensor, Tensor]] = []

    def measure(self) -> NormStatistics:
        for index in range(3):
            self._encoder(index)
        self._to_trunk_input()
        for first in range(3, 13, 2):
            self._block_first(first)
            self._block_second(first + 1)
            self._add_residual(first + 1)
        self._decoder(13)
        self._decoder(LAST)
        assert len(self._found) == N_NORMS
        return NormStatistics(tuple(m for m, _ in self._found), tuple(v for _, v in self._found))

    def _encoder(self, index: int) -> None:
        pooled = Pooled()
        for plane in self._planes:
            for band in self._rows(plane, index):
                raw = self._encode(plane, index, band)
                pooled.add(raw)
                if index == 2:
                    _write(plane.y, band, raw)
        self._found.append(pooled.result(self._net.device))

    def _encode(self, plane: _Plane, index: int, want: Region) -> Tensor:
        shape = map_shape(plane.shape, index - 1)
        need = self._net.layers[index].need(want, shape)
        if index == 0:
            return self._net.convolve(0, plane.source(need), want, shape)
        x = self._normalise(index - 1, self._encode(plane, index - 1, need)).relu_()
        return self._net.convolve(index, x, want, shape)

    def _to_trunk_input(self) -> None:
        for plane in self._planes:
            for band in self._rows(plane, 2):
                _write(plane.x, band, self._normalise(2, self._copy(plane.y, band)).relu_())

    def _block_first(self, index: int) -> None:
        pooled = Pooled()
        layer = self._net.layers[index]
        for plane in self._planes:
            shape = map_shape(plane.shape, 2)
            for band in self._rows(plane, 2):
                raw = self._net.convolve(index, self._read(plane.x, layer.need(band, shape)), band, shape)
                pooled.add(raw)
                _write(plane.y, band, raw)
        self._found.append(pooled.result(self._net.device))

    def _block_second(self, index: int) -> None:
        # Overwrites the map it reads, band by band: the row above a band is kept aside.
        pooled = Pooled()
        layer = self._net.layers[index]
        for plane in self._planes:
            shape = map_shape(plane.shape, 2)
            above: Tensor | None = None
            for band in self._rows(plane, 2):
                need = layer.need(band, shape)
                x = self._copy(plane.y, Region(band.y0, need.y1, need.x0, need.x1))
                last_row = x[:, :, band.y1 - band.y0 - 1 : band.y1 - band.y0].clone()
                if above is not None:
                    x = torch.cat([above, x], dim=2).contiguous(memory_format=torch.channels_last)
                above = last_row
                raw = self._net.convolve(index, self._normalise(index - 1, x).relu_(), band, shape)
                pooled.add(raw)
                _write(plane.y, band, raw)
        self._found.append(pooled.result(self._net.device))

    def _add_residual(self, index: int) -> None:
        for plane in self._planes:
            for band in self._rows(plane, 2):
                second = self._normalise(index, self._copy(plane.y, band))
                _write(plane.x, band, self._read(plane.x, band).add_(second))

    def _decoder(self, index: int) -> None:
        pooled = Pooled()
        for plane in self._planes:
            for band in self._rows(plane, index):
                pooled.add(self._decode(plane, index, band))
        self._found.append(pooled.result(self._net.device))

    def _decode(self, plane: _Plane, index: int, want: Region) -> Tensor:
        layer, shape = self._net.layers[index], map_shape(plane.shape, index - 1)
        need = layer.need(want, shape)
        if index == 13:
            return self._net.convolve(index, self._read(plane.x, need), want, shape)
        even = Region(need.y0 // 2 * 2, -(-need.y1 // 2) * 2, need.x0, need.x1)
        x = self._normalise(13, self._decode(plane, 13, even)).relu_()
        x = x[:, :, need.y0 - even.y0 : need.y1 - even.y0]
        return self._net.convolve(index, x, want, shape)

    def _normalise(self, index: int, x: Tensor) -> Tensor:
        """Written over ``x``: a copy of what is stored, or a map that nobody reads again."""
        return self._net.normalise(index, x, *self._found[index])

    def _read(self, store: Tensor, window: Region) -> Tensor:
        part = store[:, :, window.y0 : window.y1, window.x0 : window.x1]
        return part.to(self._net.device)

    def _copy(self, store: Tensor, window: Region) -> Tensor:
        return self._read(store, window).clone(memory_format=torch.channels_last)

    def _rows(self, plane: _Plane, index: int) -> Iterator[Region]:
        height, width = map_shape(plane.shape, index)
        # Whole chunks, so that sums are taken in the same order however a plane is cut; multiples of four,
        # as the up-sampling asks for even rows and a band must hold what its end reflects.
        unit = 4 * _chunk_rows(width, _CHUNK_PX)
        rows = max(unit, self._band_px // plane.shape[1] * height // plane.shape[0] // unit * unit)
        for y0 in range(0, height, rows):
            self._checkpoint()
            yield Region(y0, min(y0 + rows, height), 0, width)


def _write(store: Tensor, band: Region, value: Tensor) -> None:
    store[:, :, band.y0 : band.y1] = value


def _store(shape: tuple[int, int], dtype: torch.dtype, in_memory: bool) -> Tensor:
    """Empty trunk map (1, 128, H/4, W/4), channels last, on the CPU: in memory or in a deleted file."""
    size = (1, shape[0] // 4, shape[1] // 4, _TRUNK_CHANNELS)
    if in_memory:
        return torch.empty(size, dtype=dtype).permute(0, 3, 1, 2)
    with tempfile.TemporaryFile(prefix="cellenhance-") as file:
        # The mapping keeps the nameless file alive; it vanishes with the tensor.
        words = np.memmap(file, dtype=np.int16, mode="w+", shape=(*size[:3], size[3] * dtype.itemsize // 2))
    return torch.from_numpy(words).view(dtype).permute(0, 3, 1, 2)
