"""NU-Net up to convolution #10 as OpenVINO graphs, for CPUs; the optional extra ``openvino``.

Two graphs of the same layers, compiled when first used and good for any height and width:

* *frozen*: scale and shift of every norm are inputs, so that one compiled graph serves each
  plane, tile and preview;
* *measuring*: the whole plane at once; mean and variance of every norm are outputs.

Every map is padded by reflection on all sides. In a window this is wrong where the plane goes
on, hence a window is computed with a margin that is cut off afterwards.

In float32 only: with its bf16 hint OpenVINO also rounds the parameters of the norms and the
sums of the residual blocks, each graph in its own places, and tiles would differ from the
whole plane by 2/255.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_cellenhance.core.models.nunet import NORM_EPS
from napari_cellenhance.core.models.nunet_fast import LAST, N_NORMS, FastNUNet, Layer
from napari_cellenhance.core.models.nunet_statistics import NormStatistics

__all__ = ["MARGIN_PX", "OpenVINOTrunk"]

MARGIN_PX = 52
"""Context of a pixel of convolution #10: radius 50 (4+1+2+40+2+1), rounded up to the stride of 4."""

_POLL_MS = 20
"""Between two looks whether the user has cancelled."""

_Norm = Callable[[int, Any], Any]
_Maps = NDArray[np.float32]


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
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="openvino")

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
        affine: list[_Maps] = []
        for layer, mean, var in zip(self._net.layers[:LAST], statistics.means, statistics.variances, strict=False):
            scale = layer.gamma * torch.rsqrt(var + NORM_EPS)
            affine += [scale.reshape(1, -1, 1, 1).numpy(), (layer.beta - mean * scale).reshape(1, -1, 1, 1).numpy()]
        with self._lock:
            return _copy_of(self._run(False, [image.numpy(), *affine], _never), keep)

    def measure(self, image: Tensor, checkpoint: Callable[[], None]) -> tuple[Tensor, NormStatistics]:
        """Raw output of convolution #10 on a whole plane, and the statistics of all norms there.

        Parameters
        ----------
        image : Tensor of shape (1, 1, H, W)
            float32, scale 0…255; H and W multiples of 4, at least 16.
        checkpoint : callable
            Called while the graph runs; may raise to stop it.
        """
        with self._lock:
            request = self._run(True, [image.numpy()], checkpoint)
            found = [torch.from_numpy(request.get_output_tensor(i).data.copy()) for i in range(1, 2 * N_NORMS + 1)]
            everything = slice(None), slice(None)
            return _copy_of(request, everything), NormStatistics(tuple(found[0::2]), tuple(found[1::2]))

    def _run(self, is_measuring: bool, inputs: Sequence[_Maps], checkpoint: Callable[[], None]) -> Any:
        request = self._apart(self._prepared, is_measuring)
        checkpoint()
        self._apart(request.start_async, dict(enumerate(inputs)), None, True)
        try:
            while not self._apart(request.wait_for, _POLL_MS):
                checkpoint()
        except BaseException:
            self._apart(_stop, request)
            raise
        return request

    def _apart(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call OpenVINO on a thread of its own.

        Its CPU plugin gives the calling thread an alternate signal stack and frees it later (seen in 2026.4 by
        reading ``sigaltstack``): on the main thread the next Ctrl-C would end the process.
        """
        return self._thread.submit(function, *arguments).result()

    def _prepared(self, is_measuring: bool) -> Any:
        if is_measuring not in self._requests:
            self._requests[is_measuring] = _compile(self._net, is_measuring)
        other = self._requests.get(not is_measuring)
        if other is not None:
            # Each graph keeps the maps of its last run; one of them at a time stays within the memory limit.
            other.get_compiled_model().release_memory()
        return self._requests[is_measuring]


def _copy_of(request: Any, keep: tuple[slice, slice]) -> Tensor:
    # The request's memory is written to again by its next run.
    raw = torch.from_numpy(request.get_output_tensor(0).data).permute(0, 3, 1, 2)
    return raw[:, :, keep[0], keep[1]].clone(memory_format=torch.channels_last)


def _stop(request: Any) -> None:
    request.cancel()
    try:
        request.wait()
    except RuntimeError:
        # That is how a cancelled run ends.
        return


def _never() -> None:
    """Checkpoint of a run that nobody cancels."""


def _compile(network: FastNUNet, is_measuring: bool) -> Any:
    import openvino

    model = _measuring_graph(network) if is_measuring else _frozen_graph(network)
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32",
    }
    return openvino.Core().compile_model(model, "CPU", settings).create_infer_request()


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

    return openvino.Model([_last(_raw(network, image, normalise))], inputs, "nunet_frozen")


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
        scale = ops.divide(_per_channel(layer.gamma), spread)
        return ops.add(ops.multiply(centred, scale), _per_channel(layer.beta))

    raw = _raw(network, image, normalise)
    measure(raw)
    return openvino.Model([_last(raw), *found], [image], "nunet_measuring")


def _raw(network: FastNUNet, image: Any, normalise: _Norm) -> Any:
    from openvino import opset13 as ops

    def layer(index: int, x: Any) -> Any:
        return normalise(index, _convolve(network.layers[index], x))

    x = image
    for index in range(3):
        x = ops.relu(layer(index, x))
    for first in range(3, 13, 2):
        x = ops.add(x, layer(first + 1, ops.relu(layer(first, x))))
    return _convolve(network.layers[LAST], ops.relu(layer(13, x)))


def _convolve(layer: Layer, x: Any) -> Any:
    from openvino import opset13 as ops

    weight = ops.constant(np.ascontiguousarray(layer.weight.numpy()))
    if layer.is_up:
        padded = _padded(x, 1, "edge")
        out = ops.convolution_backprop_data(padded, weight, [2, 2], pads_begin=[3, 3], pads_end=[3, 3])
    else:
        padded = _padded(x, layer.radius, "reflect")
        out = ops.convolution(padded, weight, [layer.stride] * 2, [0, 0], [0, 0], [1, 1])
    return ops.add(out, _per_channel(layer.bias))


def _padded(x: Any, by: int, mode: str) -> Any:
    from openvino import opset13 as ops

    pads = ops.constant(np.array([0, 0, by, by], np.int64))
    return ops.pad(x, pads, pads, mode)


def _per_channel(values: Tensor) -> Any:
    from openvino import opset13 as ops

    return ops.constant(np.ascontiguousarray(values.reshape(1, -1, 1, 1).numpy()))


def _number(value: float) -> Any:
    from openvino import opset13 as ops

    return ops.constant(np.array(value, np.float32))


def _last(x: Any) -> Any:
    """Channels last, as the layers compute and torch's render reads them: no copy on either side."""
    from openvino import opset13 as ops

    return ops.transpose(x, ops.constant(np.array([0, 2, 3, 1], np.int64)))
