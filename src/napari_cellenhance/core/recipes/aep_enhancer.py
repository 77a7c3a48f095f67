"""AEP as a filter: the image as one of its learned filters translates it, from none to all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from napari_cellenhance.core.device import DeviceChoice
from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.models.aep import AEP, translate
from napari_cellenhance.core.recipes.aep_segmenter import GridPlane, run_filters
from napari_cellenhance.core.recipes.protocol import Checkpoint, FilterInfo
from napari_cellenhance.core.tiling import Region

__all__ = ["AEPEnhancer", "AEPFeatures"]

_BYTES_PER_PX = 700
"""Peak of Network 1 on a window, per pixel of the window with its context."""


@dataclass(frozen=True, slots=True)
class AEPFeatures:
    """A region before and after the learned filter, both float32 in [0, 1]."""

    before: NDArray[np.float32]
    after: NDArray[np.float32]


class AEPEnhancer:
    """A trained AEP behind the contract of every filter.

    Parameters
    ----------
    module : AEP
        With at least one filter; copied.
    info : FilterInfo
    choice : DeviceChoice
        Device and precision.
    filter_index : int
        Which of the learned filters translates the image, counted from 0.

    Raises
    ------
    ParameterError
        No such filter.

    Notes
    -----
    The translated image is stretched from the range of its formula, [0.5, 1) or [0.5, 2), to [0, 1). The strength s
    blends: (1 − s)·x + s·x̂.
    """

    bytes_per_px = _BYTES_PER_PX

    def __init__(self, module: AEP, info: FilterInfo, choice: DeviceChoice, *, filter_index: int = 0) -> None:
        if not 0 <= filter_index < module.n_filters:
            raise ParameterError(f"filter {filter_index} was asked for; the model has {module.n_filters}, from 0")
        self.info, self.choice, self.filter_index = info, choice, filter_index
        self._net = _copy(module, choice)

    @property
    def halo_px(self) -> int:
        """Context that ``encode`` adds to a region: what Network 1 sees."""
        return self._net.filters_radius_px

    def calibrate(self, planes: Sequence[NDArray[np.float32]], checkpoint: Checkpoint) -> None:
        """Nothing to measure: the norms are frozen after training."""
        return

    def encode(self, plane: NDArray[np.float32], region: Region, calibration: None) -> AEPFeatures:
        """Translate a region, with the context it needs."""
        padded = GridPlane.of(plane)
        inside = padded.shift(region)
        use_bf16 = self.choice.precision == "bfloat16"
        with torch.inference_mode():
            x, filters = run_filters(self._net, padded, inside, use_bf16=use_bf16)
            one = filters[:, self.filter_index : self.filter_index + 1].float()
            translated = translate(x, one, self._net.translation)[0, 0].cpu().numpy()
        span = 0.5 if self._net.translation == "code" else 1.5
        return AEPFeatures(padded[inside.slices], ((translated - 0.5) / span).clip(0.0, 1.0))

    def decode(self, features: AEPFeatures, strength: float) -> NDArray[np.float32]:
        """Blend; strengths above 1 count as 1."""
        share = np.float32(min(1.0, max(0.0, strength)))
        return np.asarray((1 - share) * features.before + share * features.after, np.float32)

    def calibrate_and_encode(
        self, plane: NDArray[np.float32], checkpoint: Checkpoint
    ) -> tuple[None, AEPFeatures] | None:
        """None: planes are tiled like any other."""
        return None


def _copy(module: AEP, choice: DeviceChoice) -> AEP:
    import copy

    return copy.deepcopy(module).eval().to(choice.torch_device).to_channels_last()
