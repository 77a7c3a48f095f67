"""NU-Net with frozen norms, up to convolution #9, as one OpenVINO graph for CPUs; the optional extra ``openvino``.

Everything that depends on the strength stays with torch. Window and whole plane run through the same graph, without
statistics, so bf16 rounds alike in both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_cellenhance.core.models.nunet_frozen import CUT, FrozenNUNet
from napari_cellenhance.core.models.openvino_runner import (
    OpenVINORunner,
    channels_last,
    compile_graph,
    convolve,
    copy_of,
    never,
)

__all__ = ["MARGIN_PX", "FrozenOpenVINOTrunk"]

MARGIN_PX = 52
"""Context of a pixel of convolution #9: radius 49 (4+1+2+40+2), rounded up to the stride of 4."""


class FrozenOpenVINOTrunk:
    """The layers of a :class:`FrozenNUNet` up to convolution #9, run by OpenVINO.

    May be called from several threads; the calls wait for each other.

    Parameters
    ----------
    network : FrozenNUNet
        On the CPU, in float32.
    dtype : torch.dtype
        bfloat16 or float32: what OpenVINO may compute in, and what is returned.
    """

    def __init__(self, network: FrozenNUNet, dtype: torch.dtype) -> None:
        self._net, self._dtype = network, dtype
        self._runner = OpenVINORunner()
        self._request: Any = None

    def features(self, image: Tensor, keep: tuple[slice, slice]) -> Tensor:
        """Output of convolution #9.

        Parameters
        ----------
        image : Tensor of shape (1, 1, h, w)
            float32, scale 0…255; h and w multiples of 4, at least 16.
        keep : tuple of slice
            Rows and columns to return, at half the resolution.

        Returns
        -------
        Tensor of shape (1, 64, rows, columns)
            Channels last.
        """
        with self._runner.lock:
            if self._request is None:
                precision = "bf16" if self._dtype == torch.bfloat16 else "f32"
                self._request = self._runner.apart(compile_graph, _graph(self._net), precision)
            self._runner.run(self._request, [image.numpy()], never)
            return copy_of(self._request, keep).to(self._dtype)


def _graph(network: FrozenNUNet) -> Any:
    import openvino
    from openvino import opset13 as ops

    image = ops.parameter([1, 1, -1, -1], np.float32, name="image")
    x = image
    for index in range(3):
        x = ops.relu(convolve(network.layers[index], x))
    for first in range(3, CUT, 2):
        inner = ops.relu(convolve(network.layers[first], x))
        x = ops.add(x, convolve(network.layers[first + 1], inner))
    return openvino.Model([channels_last(convolve(network.layers[CUT], x))], [image], "nunet_frozen_norms")
