"""NU-Net as a filter whose heavy part runs in OpenVINO, on the CPU; the optional extra ``openvino``."""

from __future__ import annotations

from torch import Tensor

from napari_cellenhance.core.device import DeviceChoice
from napari_cellenhance.core.models.nunet import NUNet
from napari_cellenhance.core.models.nunet_fast import LAST, Plan
from napari_cellenhance.core.models.nunet_openvino import MARGIN_PX, OpenVINOTrunk
from napari_cellenhance.core.models.nunet_statistics import NormStatistics, Source
from napari_cellenhance.core.recipes.nunet_enhancer import NUNetEnhancer, inside
from napari_cellenhance.core.recipes.protocol import Checkpoint, FilterInfo
from napari_cellenhance.core.tiling import Region

__all__ = ["OpenVINOEnhancer"]

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
        self._trunk = OpenVINOTrunk(self._net)

    @property
    def bytes_per_px(self) -> int:
        """Estimated working memory per pixel of a tile, in bytes."""
        return _BYTES_PER_PX

    def _raw(self, source: Source, plan: Plan, statistics: NormStatistics) -> Tensor:
        wanted = plan.windows[LAST]
        outer = _grown(wanted, plan.shape)
        return self._trunk.raw_features(source(outer), statistics, inside(wanted, outer))

    def _measure(self, source: Source, plan: Plan, checkpoint: Checkpoint) -> tuple[Tensor, NormStatistics]:
        return self._trunk.measure(source(plan.source), checkpoint)


def _grown(window: Region, shape: tuple[int, int]) -> Region:
    """Add the margin, on the 4-px grid of the strides, where the plane goes on."""
    return Region(
        max(0, (window.y0 - MARGIN_PX) // 4 * 4),
        min(shape[0], -(-(window.y1 + MARGIN_PX) // 4) * 4),
        max(0, (window.x0 - MARGIN_PX) // 4 * 4),
        min(shape[1], -(-(window.x1 + MARGIN_PX) // 4) * 4),
    )
