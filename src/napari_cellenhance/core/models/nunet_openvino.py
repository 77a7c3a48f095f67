"""NU-Net with instance norms, up to convolution #10, as OpenVINO graphs for CPUs; the optional extra ``openvino``.

Two graphs of the same layers, compiled when first used and good for any height and width:

* *frozen*: scale and shift of every norm are inputs, so that one compiled graph serves each
  plane, tile and preview;
* *measuring*: the whole plane at once; mean and variance of every norm are outputs.

In float32 only: with its bf16 hint OpenVINO also rounds the parameters of the norms and the
sums of the residual blocks, each graph in its own places, and tiles would differ from the
whole plane by 2/255.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_cellenhance.core.models.nunet import NORM_EPS
from napari_cellenhance.core.models.nunet_fast import FastNUNet
from napari_cellenhance.core.models.nunet_layers import LAST, N_NORMS
from napari_cellenhance.core.models.nunet_statistics import NormStatistics
from napari_cellenhance.core.models.openvino_runner import (
    Maps,
    OpenVINORunner,
    channels_last,
    compile_graph,
    convolve,
    copy_of,
    never,
    per_channel,
)

__all__ = ["MARGIN_PX", "OpenVINOTrunk"]

MARGIN_PX = 52
"""Context of a pixel of convolution #10: radius 50 (4+1+2+40+2+1), rounded up to the stride of 4."""

_Norm = Callable[[int, Any], Any]


class OpenVINOTrunk:
    """The layers of a :class:`FastNUNet` up to convolution #10, run by OpenVINO.

    May be called from several threads; the calls wait for each other.

    Parameters
    ----------
    network : FastNUNet
        On the CPU, in float32.
    """

    def __init__(self, network: FastNUNet) -> None:
        self._net = network
        self._requests: dict[bool, Any] = {}
        self._runner = OpenVINORunner()

    def raw_features(self, image: Tensor, statistics: NormStatistics, keep: tuple[slice, slice]) -> Tensor:
        """Raw output of convolution #10 with given statistics of norms 0…13.

        Parameters
        ----------
        image : Tensor of shape (1, 1, h, w)
            float32, scale 0…255; h and w multiples of 4, at least 16.
        statistics : NormStatistics
        keep : tuple of slice
            Rows and columns to return.

        Returns
        -------
        Tensor of shape (1, 32, rows, columns)
            float32, channels last.
        """
        affine: list[Maps] = []
        for layer, mean, var in zip(self._net.layers[:LAST], statistics.means, statistics.variances, strict=False):
            scale = layer.gamma * torch.rsqrt(var + NORM_EPS)
            affine += [scale.reshape(1, -1, 1, 1).numpy(), (layer.beta - mean * scale).reshape(1, -1, 1, 1).numpy()]
        with self._runner.lock:
            return copy_of(self._run(False, [image.numpy(), *affine], never), keep)

    def measure(self, image: Tensor, checkpoint: Callable[[], None]) -> tuple[Tensor, NormStatistics]:
        """Raw output of convolution #10 on a whole plane, and the statistics of all norms there.

        Parameters
        ----------
        image : Tensor of shape (1, 1, H, W)
            float32, scale 0…255; H and W multiples of 4, at least 16.
        checkpoint : callable
            Called while the graph runs; may raise to stop it.
        """
        with self._runner.lock:
            request = self._run(True, [image.numpy()], checkpoint)
            found = [torch.from_numpy(request.get_output_tensor(i).data.copy()) for i in range(1, 2 * N_NORMS + 1)]
            everything = slice(None), slice(None)
            return copy_of(request, everything), NormStatistics(tuple(found[0::2]), tuple(found[1::2]))

    def _run(self, is_measuring: bool, inputs: Sequence[Maps], checkpoint: Callable[[], None]) -> Any:
        request = self._runner.apart(self._prepared, is_measuring)
        self._runner.run(request, inputs, checkpoint)
        return request

    def _prepared(self, is_measuring: bool) -> Any:
        if is_measuring not in self._requests:
            self._requests[is_measuring] = _compile(self._net, is_measuring)
        other = self._requests.get(not is_measuring)
        if other is not None:
            # Each graph keeps the maps of its last run; one of them at a time stays within the memory limit.
            other.get_compiled_model().release_memory()
        return self._requests[is_measuring]


def _compile(network: FastNUNet, is_measuring: bool) -> Any:
    return compile_graph(_measuring_graph(network) if is_measuring else _frozen_graph(network), "f32")


def _frozen_graph(network: FastNUNet) -> Any:
    import openvino
    from openvino import opset13 as ops

    image = ops.parameter([1, 1, -1, -1], np.float32, name="image")
    inputs = [image]

    def normalise(index: int, x: Any) -> Any:
        n = len(network.layers[index].gamma)
        scale = ops.parameter([1, n, 1, 1], np.float32, name=f"scale{index}")
        shift = ops.parameter([1, n, 1, 1], np.float32, name=f"shift{index}")
        inputs.extend((scale, shift))
        return ops.add(ops.multiply(x, scale), shift)

    return openvino.Model([channels_last(_raw(network, image, normalise))], inputs, "nunet_frozen")


def _measuring_graph(network: FastNUNet) -> Any:
    import openvino
    from openvino import opset13 as ops

    image = ops.parameter([1, 1, -1, -1], np.float32, name="image")
    sides = ops.constant(np.array([2, 3], np.int64))
    ones = ops.constant(np.array([0, 2, 3], np.int64))
    found: list[Any] = []

    def measure(x: Any) -> tuple[Any, Any]:
        mean = ops.reduce_mean(x, sides, keep_dims=True)
        centred = ops.subtract(x, mean)
        var = ops.reduce_mean(ops.multiply(centred, centred), sides, keep_dims=True)
        found.extend((ops.squeeze(mean, ones), ops.squeeze(var, ones)))
        return centred, var

    def normalise(index: int, x: Any) -> Any:
        layer = network.layers[index]
        centred, var = measure(x)
        spread = ops.sqrt(ops.add(var, _number(NORM_EPS)))
        scale = ops.divide(per_channel(layer.gamma), spread)
        return ops.add(ops.multiply(centred, scale), per_channel(layer.beta))

    raw = _raw(network, image, normalise)
    measure(raw)
    return openvino.Model([channels_last(raw), *found], [image], "nunet_measuring")


def _raw(network: FastNUNet, image: Any, normalise: _Norm) -> Any:
    from openvino import opset13 as ops

    def layer(index: int, x: Any) -> Any:
        return normalise(index, convolve(network.layers[index], x))

    x = image
    for index in range(3):
        x = ops.relu(layer(index, x))
    for first in range(3, 13, 2):
        x = ops.add(x, layer(first + 1, ops.relu(layer(first, x))))
    return convolve(network.layers[LAST], ops.relu(layer(13, x)))


def _number(value: float) -> Any:
    from openvino import opset13 as ops

    return ops.constant(np.array(value, np.float32))
