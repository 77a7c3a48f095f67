"""OpenVINO graphs of NU-Net's layers, and running one without blocking the caller's signals.

Every map is padded by reflection on all sides. In a window this is wrong where the plane goes
on, hence a window is computed with a margin that is cut off afterwards.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_cellenhance.core.models.nunet_layers import Layer

__all__ = ["Maps", "OpenVINORunner", "channels_last", "compile_graph", "convolve", "copy_of", "never", "per_channel"]

Maps = NDArray[np.float32]

_POLL_MS = 20
"""Between two looks whether the user has cancelled."""


class OpenVINORunner:
    """Runs compiled graphs on a thread of its own. ``lock`` is held by whoever reads what a run left behind."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="openvino")

    def run(self, request: Any, inputs: Sequence[Maps], checkpoint: Callable[[], None]) -> None:
        """Fill the outputs of ``request``; ``checkpoint`` is called meanwhile and may raise to stop."""
        checkpoint()
        self.apart(request.start_async, dict(enumerate(inputs)), None, True)
        try:
            while not self.apart(request.wait_for, _POLL_MS):
                checkpoint()
        except BaseException:
            self.apart(_stop, request)
            raise

    def apart(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call OpenVINO on the thread.

        Its CPU plugin gives the calling thread an alternate signal stack and frees it later (seen in 2026.4 by
        reading ``sigaltstack``): on the main thread the next Ctrl-C would end the process.
        """
        return self._thread.submit(function, *arguments).result()


def compile_graph(model: Any, precision: Literal["f32", "bf16"]) -> Any:
    """Infer request of a graph, compiled for the CPU with as many threads as torch has."""
    import openvino

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": precision,
    }
    return openvino.Core().compile_model(model, "CPU", settings).create_infer_request()


def copy_of(request: Any, keep: tuple[slice, slice]) -> Tensor:
    """First output as (1, C, rows, columns), channels last: its memory is written to again by the next run."""
    raw = torch.from_numpy(request.get_output_tensor(0).data).permute(0, 3, 1, 2)
    return raw[:, :, keep[0], keep[1]].clone(memory_format=torch.channels_last)


def _stop(request: Any) -> None:
    request.cancel()
    try:
        request.wait()
    except RuntimeError:
        # That is how a cancelled run ends.
        return


def never() -> None:
    """Checkpoint of a run that nobody cancels."""


def convolve(layer: Layer, x: Any) -> Any:
    """Node of a layer on a whole map."""
    from openvino import opset13 as ops

    weight = ops.constant(np.ascontiguousarray(layer.weight.numpy()))
    if layer.is_up:
        padded = _padded(x, 1, "edge")
        out = ops.convolution_backprop_data(padded, weight, [2, 2], pads_begin=[3, 3], pads_end=[3, 3])
    else:
        padded = _padded(x, layer.radius, "reflect")
        out = ops.convolution(padded, weight, [layer.stride] * 2, [0, 0], [0, 0], [1, 1])
    return ops.add(out, per_channel(layer.bias))


def _padded(x: Any, by: int, mode: str) -> Any:
    from openvino import opset13 as ops

    pads = ops.constant(np.array([0, 0, by, by], np.int64))
    return ops.pad(x, pads, pads, mode)


def per_channel(values: Tensor) -> Any:
    """Constant of shape (1, C, 1, 1)."""
    from openvino import opset13 as ops

    return ops.constant(np.ascontiguousarray(values.reshape(1, -1, 1, 1).numpy()))


def channels_last(x: Any) -> Any:
    """Channels last, as the layers compute and torch's render reads them: no copy on either side."""
    from openvino import opset13 as ops

    return ops.transpose(x, ops.constant(np.array([0, 2, 3, 1], np.int64)))
