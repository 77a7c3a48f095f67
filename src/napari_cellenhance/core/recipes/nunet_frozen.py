"""NU-Net with frozen statistics as a filter: nothing to calibrate, every window at once.

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
from napari_cellenhance.core.models.nunet import NUNet
from napari_cellenhance.core.models.nunet_frozen import FrozenNUNet
from napari_cellenhance.core.models.nunet_layers import Plan
from napari_cellenhance.core.recipes.loaded_network import LoadedNetwork
from napari_cellenhance.core.recipes.padded_plane import NETWORK_SCALE, PaddedPlane, inside
from napari_cellenhance.core.recipes.protocol import Checkpoint, FilterInfo
from napari_cellenhance.core.tiling import Region

__all__ = ["FrozenEnhancer", "FrozenFeatures"]

_BYTES_PER_PX = {torch.float32: 520, torch.bfloat16: 280, torch.float16: 280}
"""Peak of one pass, per pixel: the first map of 32 channels at full size, its padding and the one that follows."""


@dataclass(frozen=True, slots=True)
class FrozenFeatures:
    """Output of convolution #9 on a window, with all that rendering it needs."""

    maps: Tensor
    plan: Plan
    crop: tuple[slice, slice]
    """Asked region inside ``plan.region``."""


class FrozenEnhancer(LoadedNetwork):
    """A loaded NU-Net whose norms hold the statistics of its training.

    Parameters
    ----------
    module : NUNet
        Trained network with ``norm="frozen"``; copied, not modified.
    info : FilterInfo
    choice : DeviceChoice
        Device and precision.
    memory_limit_mb : int
        Working memory; a plane that needs more is left to tiles.
    """

    def __init__(self, module: NUNet, info: FilterInfo, choice: DeviceChoice, *, memory_limit_mb: int = 2000) -> None:
        super().__init__(info, choice, _BYTES_PER_PX[choice.dtype], memory_limit_mb)
        self._net = FrozenNUNet(module, choice.torch_device, choice.dtype)

    def calibrate(self, planes: Sequence[NDArray[np.float32]], checkpoint: Checkpoint) -> None:
        """Nothing to do: the statistics are part of the network."""
        if not planes:
            raise ImageError("there is no plane to calibrate on; expected at least one")
        checkpoint()

    def calibrate_and_encode(
        self, plane: NDArray[np.float32], checkpoint: Checkpoint
    ) -> tuple[None, FrozenFeatures] | None:
        """Features of the whole plane; None where that exceeds the memory limit."""
        if not self._fits(PaddedPlane.of(plane).shape):
            return None
        checkpoint()
        return None, self.encode(plane, Region.whole(plane), None)

    def encode(self, plane: NDArray[np.float32], region: Region, calibration: None) -> FrozenFeatures:
        """Features of a region, equal to the same crop of the whole plane's features."""
        padded = PaddedPlane.of(plane)
        wanted = padded.shift(region)
        plan = self._net.plan(wanted, padded.shape)
        with torch.inference_mode():
            maps = self._features(padded, plan)
        return FrozenFeatures(maps, plan, inside(wanted, plan.region))

    def decode(self, features: FrozenFeatures, strength: float) -> NDArray[np.float32]:
        """Image of the region in [0, 1]; an unconditioned network ignores ``strength``."""
        f = features
        with torch.inference_mode():
            image = self._net.render(f.maps, f.plan, strength)
            scaled: NDArray[np.float32] = image.div_(NETWORK_SCALE).cpu().numpy()[f.crop]
        return scaled

    def _features(self, padded: PaddedPlane, plan: Plan) -> Tensor:
        return self._net.features(padded.source(self._net.device)(plan.source), plan)
