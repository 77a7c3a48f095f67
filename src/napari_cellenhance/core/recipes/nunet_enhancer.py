"""NU-Net as a filter: calibrate on the whole plane, then apply to any window of it.

References
----------
.. [1] Lim et al., "NU-Net: a self-supervised smart filter for enhancing blobs in
   bioimages", BioImage Computing workshop at ICCV 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_cellenhance.core.device import DeviceChoice
from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.core.memory import give_back_memory
from napari_cellenhance.core.models.nunet import NUNet
from napari_cellenhance.core.models.nunet_fast import FastNUNet
from napari_cellenhance.core.models.nunet_layers import LAST, Plan
from napari_cellenhance.core.models.nunet_statistics import NormStatistics, Pooled, Source, measure_in_bands
from napari_cellenhance.core.recipes.loaded_network import LoadedNetwork
from napari_cellenhance.core.recipes.padded_plane import NETWORK_SCALE, PaddedPlane, inside
from napari_cellenhance.core.recipes.protocol import Checkpoint, FilterInfo
from napari_cellenhance.core.tiling import Region

__all__ = ["NUNetCalibration", "NUNetEnhancer", "NUNetFeatures"]

_BYTES_PER_PX = {torch.float32: 420, torch.bfloat16: 340}
"""Peak of one pass over a plane, per pixel: full-size maps of 32 channels, the first in float32, and their paddings."""


@dataclass(frozen=True, slots=True)
class NUNetCalibration:
    """Frozen statistics of the 15 instance norms, and how many planes they were pooled over."""

    statistics: NormStatistics
    n_planes: int


@dataclass(frozen=True, slots=True)
class NUNetFeatures:
    """Raw output of convolution #10 on a window, with all that rendering it needs."""

    raw: Tensor
    mean: Tensor
    var: Tensor
    plan: Plan
    crop: tuple[slice, slice]
    """Asked region inside ``plan.region``."""


class NUNetEnhancer(LoadedNetwork):
    """A loaded NU-Net, conditioned on the strength or not.

    Parameters
    ----------
    module : NUNet
        Trained network; copied, not modified.
    info : FilterInfo
    choice : DeviceChoice
        Device and precision.
    memory_limit_mb : int
        A plane that needs more in one pass is calibrated in bands of rows.
    """

    def __init__(self, module: NUNet, info: FilterInfo, choice: DeviceChoice, *, memory_limit_mb: int = 2000) -> None:
        super().__init__(info, choice, _BYTES_PER_PX[choice.dtype], memory_limit_mb)
        self._net = FastNUNet(module, choice.torch_device, choice.dtype)

    def calibrate(self, planes: Sequence[NDArray[np.float32]], checkpoint: Checkpoint) -> NUNetCalibration:
        """Exact statistics over all pixels of all planes, as the run treats them."""
        if not planes:
            raise ImageError("there is no plane to calibrate on; expected at least one")
        padded = [PaddedPlane.of(plane) for plane in planes]
        if len(padded) == 1 and self._fits(padded[0].shape):
            return self._one_pass(padded[0], checkpoint)[0]
        statistics = measure_in_bands(
            self._net,
            [(plane.source(self._net.device), plane.shape) for plane in padded],
            checkpoint,
            memory_limit=self.memory_limit,
        )
        give_back_memory()  # the stored trunk: the tiles that follow would come on top of it
        return NUNetCalibration(statistics, len(planes))

    def calibrate_and_encode(
        self, plane: NDArray[np.float32], checkpoint: Checkpoint
    ) -> tuple[NUNetCalibration, NUNetFeatures] | None:
        """Both in one pass over the plane; None where that exceeds the memory limit."""
        padded = PaddedPlane.of(plane)
        return self._one_pass(padded, checkpoint) if self._fits(padded.shape) else None

    def encode(self, plane: NDArray[np.float32], region: Region, calibration: NUNetCalibration) -> NUNetFeatures:
        """Features of a region, equal to the same crop of the whole plane's features."""
        padded = PaddedPlane.of(plane)
        found = calibration.statistics.to(self._net.device)
        wanted = padded.shift(region)
        plan = self._net.plan(wanted, padded.shape)
        with torch.inference_mode():
            raw = self._raw(padded.source(self._net.device), plan, found)
        return NUNetFeatures(raw, found.means[LAST], found.variances[LAST], plan, inside(wanted, plan.region))

    def decode(self, features: NUNetFeatures, strength: float) -> NDArray[np.float32]:
        """Image of the region in [0, 1]; an unconditioned network ignores ``strength``."""
        f = features
        with torch.inference_mode():
            image = self._net.render(f.raw, f.mean, f.var, f.plan, strength)
            scaled: NDArray[np.float32] = (image / NETWORK_SCALE).cpu().numpy()[f.crop]
        return scaled

    def _one_pass(self, padded: PaddedPlane, checkpoint: Checkpoint) -> tuple[NUNetCalibration, NUNetFeatures]:
        whole = Region(0, padded.shape[0], 0, padded.shape[1])
        plan = self._net.plan(whole, padded.shape)
        with torch.inference_mode():
            raw, statistics = self._measure(padded.source(self._net.device), plan, checkpoint)
        wanted = padded.shift(Region.whole(padded.plane))
        features = NUNetFeatures(
            raw, statistics.means[LAST], statistics.variances[LAST], plan, inside(wanted, plan.region)
        )
        return NUNetCalibration(statistics, 1), features

    def _raw(self, source: Source, plan: Plan, statistics: NormStatistics) -> Tensor:
        """Raw output of convolution #10 on the plan's last window, with given statistics."""

        def normalise(index: int, x: Tensor) -> Tensor:
            return self._net.normalise(index, x, statistics.means[index], statistics.variances[index])

        return self._net.raw_features(source(plan.source), plan, normalise)

    def _measure(self, source: Source, plan: Plan, checkpoint: Checkpoint) -> tuple[Tensor, NormStatistics]:
        """Raw output of convolution #10 on the whole plane, and the statistics of all norms there."""
        found: list[tuple[Tensor, Tensor]] = []

        def measure(x: Tensor) -> tuple[Tensor, Tensor]:
            checkpoint()
            pooled = Pooled()
            pooled.add(x)
            found.append(pooled.result(self._net.device))
            return found[-1]

        raw = self._net.raw_features(
            source(plan.source), plan, lambda index, x: self._net.normalise(index, x, *measure(x))
        )
        measure(raw)
        return raw, NormStatistics(tuple(m for m, _ in found), tuple(v for _, v in found))
