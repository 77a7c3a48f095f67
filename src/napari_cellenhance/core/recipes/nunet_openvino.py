"""NU-Net as a filter whose heavy part runs in OpenVINO, on the CPU; the optional extra ``openvino``."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_cellenhance.core.device import DeviceChoice
from napari_cellenhance.core.models.nunet import NUNet
from napari_cellenhance.core.models.nunet_frozen import CUT, FrozenNUNet
from napari_cellenhance.core.models.nunet_frozen_openvino import MARGIN_PX as FROZEN_MARGIN_PX
from napari_cellenhance.core.models.nunet_frozen_openvino import FrozenOpenVINOTrunk
from napari_cellenhance.core.models.nunet_layers import LAST, Plan
from napari_cellenhance.core.models.nunet_openvino import MARGIN_PX, OpenVINOTrunk
from napari_cellenhance.core.models.nunet_statistics import NormStatistics, Source
from napari_cellenhance.core.recipes.nunet_enhancer import NUNetEnhancer
from napari_cellenhance.core.recipes.nunet_frozen import FrozenEnhancer
from napari_cellenhance.core.recipes.padded_plane import PaddedPlane, inside
from napari_cellenhance.core.recipes.protocol import Checkpoint, FilterInfo
from napari_cellenhance.core.tiling import Region

__all__ = ["FrozenOpenVINOEnhancer", "OpenVINOEnhancer"]

_BYTES_PER_PX = 720
"""Peak of one pass, per pixel: OpenVINO keeps more maps at a time than torch does."""


class OpenVINOEnhancer(NUNetEnhancer):
    """Same steps and same pixels as :class:`NUNetEnhancer`, up to rounding.

    Everything up to convolution #10 runs in OpenVINO; the output convolution, which is all that
    a slider move pays, and the statistics of planes beyond the memory limit stay with torch.

    Parameters
    ----------
    module : NUNet
        Trained network; copied, not modified.
    info : FilterInfo
    choice : DeviceChoice
        Of the device ``openvino``.
    memory_limit_mb : int
        A plane that needs more in one pass is calibrated in bands of rows.
    """

    def __init__(self, module: NUNet, info: FilterInfo, choice: DeviceChoice, *, memory_limit_mb: int = 2000) -> None:
        super().__init__(module, info, choice, memory_limit_mb=memory_limit_mb)
        self.bytes_per_px = _BYTES_PER_PX
        self._trunk = OpenVINOTrunk(self._net)

    def _raw(self, source: Source, plan: Plan, statistics: NormStatistics) -> Tensor:
        wanted = plan.windows[LAST]
        outer = _grown(wanted, plan.shape, MARGIN_PX)
        return self._trunk.raw_features(source(outer), statistics, inside(wanted, outer))

    def _measure(self, source: Source, plan: Plan, checkpoint: Checkpoint) -> tuple[Tensor, NormStatistics]:
        return self._trunk.measure(source(plan.source), checkpoint)


class FrozenOpenVINOEnhancer(FrozenEnhancer):
    """Same steps and same pixels as :class:`FrozenEnhancer`, up to rounding: convolutions #1 to #9 run in OpenVINO.

    Parameters
    ----------
    module : NUNet
        Trained network with ``norm="frozen"``; copied, not modified.
    info : FilterInfo
    choice : DeviceChoice
        Of the device ``openvino``.
    memory_limit_mb : int
        Working memory; a plane that needs more is left to tiles.
    """

    def __init__(self, module: NUNet, info: FilterInfo, choice: DeviceChoice, *, memory_limit_mb: int = 2000) -> None:
        super().__init__(module, info, choice, memory_limit_mb=memory_limit_mb)
        self.bytes_per_px = _BYTES_PER_PX
        self._trunk = FrozenOpenVINOTrunk(FrozenNUNet(module, "cpu", torch.float32), choice.dtype)

    def _features(self, padded: PaddedPlane, plan: Plan) -> Tensor:
        half = plan.windows[CUT]
        whole = Region(2 * half.y0, 2 * half.y1, 2 * half.x0, 2 * half.x1)
        outer = _grown(whole, plan.shape, FROZEN_MARGIN_PX)
        read = Region(outer.y0 // 2, outer.y1 // 2, outer.x0 // 2, outer.x1 // 2)
        return self._trunk.features(padded.source(self._net.device)(outer), inside(half, read))


def _grown(window: Region, shape: tuple[int, int], margin: int) -> Region:
    """Add the margin, on the 4-px grid of the strides, where the plane goes on."""
    return Region(
        max(0, (window.y0 - margin) // 4 * 4),
        min(shape[0], -(-(window.y1 + margin) // 4) * 4),
        max(0, (window.x0 - margin) // 4 * 4),
        min(shape[1], -(-(window.x1 + margin) // 4) * 4),
    )
