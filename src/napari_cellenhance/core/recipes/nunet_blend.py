"""Fixed-strength NU-Nets behind one slider: all are computed once, a slider move only blends them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.models.nunet import NUNet, knot_weights
from napari_cellenhance.core.models.nunet_blend import BlendedNUNet
from napari_cellenhance.core.recipes.nunet_open import AnyNUNetEnhancer
from napari_cellenhance.core.recipes.protocol import Checkpoint, FilterInfo
from napari_cellenhance.core.tiling import Region

__all__ = ["BlendedEnhancer"]

Calibrations = tuple[Any, ...]


class BlendedEnhancer:
    """A :class:`BlendedNUNet` as a filter.

    Parameters
    ----------
    module : BlendedNUNet
        Trained networks; copied, not modified.
    info : FilterInfo
    make : callable
        Network → its filter; decides device and precision.

    Notes
    -----
    Features are the outputs at the knots: encoding costs one pass of every network, decoding a weighted sum.
    """

    def __init__(self, module: BlendedNUNet, info: FilterInfo, make: Callable[[NUNet], AnyNUNetEnhancer]) -> None:
        self.info = info
        self.knots = module.knots
        self._parts = [make(network) for network in module.networks if isinstance(network, NUNet)]

    @property
    def halo_px(self) -> int:
        """Context that :meth:`encode` adds to a region."""
        return self._parts[0].halo_px

    @property
    def bytes_per_px(self) -> int:
        """Estimated working memory per pixel of a tile, in bytes; one network is at work at a time."""
        return self._parts[0].bytes_per_px + 4 * len(self._parts)

    def with_memory(self, memory_limit_mb: int) -> Self:
        """The same filter kept to another amount of working memory."""
        other = copy.copy(self)
        other._parts = [part.with_memory(memory_limit_mb) for part in self._parts]
        return other

    def calibrate(self, planes: Sequence[NDArray[np.float32]], checkpoint: Checkpoint) -> Calibrations:
        """Exact statistics of every network over all pixels of all planes."""
        return tuple(part.calibrate(planes, checkpoint) for part in self._parts)

    def calibrate_and_encode(
        self, plane: NDArray[np.float32], checkpoint: Checkpoint
    ) -> tuple[Calibrations, NDArray[np.float32]] | None:
        """Both in one pass of every network; None where that exceeds the memory limit."""
        calibrations: list[Any] = []
        outputs: list[NDArray[np.float32]] = []
        for part in self._parts:
            both = part.calibrate_and_encode(plane, checkpoint)
            if both is None:
                return None
            calibrations.append(both[0])
            outputs.append(_output(part, both[1]))
        return tuple(calibrations), np.stack(outputs)

    def encode(self, plane: NDArray[np.float32], region: Region, calibration: Calibrations) -> NDArray[np.float32]:
        """Outputs at the knots on a region, shape (K, h, w)."""
        return np.stack(
            [
                _output(part, part.encode(plane, region, known))
                for part, known in zip(self._parts, calibration, strict=True)
            ]
        )

    def decode(self, features: NDArray[np.float32], strength: float) -> NDArray[np.float32]:
        """Blend of the two knots around ``strength``; the outer knot beyond them."""
        image = np.zeros(features.shape[1:], np.float32)
        for weight, output in zip(knot_weights(strength, self.knots), features, strict=True):
            if weight:
                image += np.float32(weight) * output
        return image


def _output(part: AnyNUNetEnhancer, features: Any) -> NDArray[np.float32]:
    # A network without conditioning takes no notice of the strength.
    return np.clip(part.decode(features, 0.0), 0.0, 1.0)
