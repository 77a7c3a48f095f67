"""What every filter offers, classical or learned: one contract for all doors.

A filter is *described* by a frozen :class:`FilterInfo` (no torch needed, so that
panels and ``--help`` open at once) and *run* by an :class:`Enhancer`.

The work on one plane is split in three so that the live preview and the full run
give the same pixels by construction:

``calibrate``
    statistics of the whole plane (or of several planes), strength-independent,
``encode``
    everything about a region that does not depend on the strength,
``decode``
    the rest; this is all that a slider move has to pay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.tiling import Region

__all__ = ["Checkpoint", "Enhancer", "FilterInfo", "Region", "StrengthInfo"]

Checkpoint = Callable[[], None]
"""Called between small units of work; raises ``core.inference.Cancelled`` to stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StrengthInfo:
    """The slider of a filter: the one declaration of its label, range and default.

    ``strength == 0`` returns the input unchanged, for every filter.
    """

    label: str
    help: str
    default: float
    maximum: float
    minimum: float = 0.0
    step: float = 0.1
    unit: str = ""
    knots: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 0.0 <= self.minimum <= self.default <= self.maximum:
            raise ParameterError(
                f"strength range {self.minimum}…{self.maximum} with default {self.default} is not "
                "ordered; expected 0 ≤ minimum ≤ default ≤ maximum"
            )

    def clamp(self, strength: float) -> float:
        """Nearest allowed strength; ``ParameterError`` for NaN or infinity."""
        if not np.isfinite(strength):
            raise ParameterError(f"strength is {strength}; expected a number from {self.minimum} to {self.maximum}")
        return float(min(max(strength, self.minimum), self.maximum))


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterInfo:
    """Card of a filter as the doors show it."""

    id: str
    title: str
    group: Literal["NU-Net", "AEP", "Denoising", "Restoration", "Keep only…", "BioImage.IO", "Classical"]
    summary: str
    strength: StrengthInfo
    reference: str = ""


@runtime_checkable
class Enhancer(Protocol):
    """A filter ready to run: weights loaded, device chosen.

    Planes handed in are float32 of shape (Y, X), already normalised to about [0, 1]
    (bright objects on a dark ground) by the stored normaliser; they are never written to.
    """

    info: FilterInfo

    def calibrate(self, planes: Sequence[NDArray[np.float32]], checkpoint: Checkpoint) -> Any:
        """Measure exact statistics over all pixels of ``planes`` pooled; opaque to callers.

        A filter without statistics returns None.
        """
        ...

    def encode(self, plane: NDArray[np.float32], region: Region, calibration: Any) -> Any:
        """Strength-independent features of ``region``, including the halo it needs."""
        ...

    def decode(self, features: Any, strength: float) -> NDArray[np.float32]:
        """Enhanced region, float32 in [0, 1], shape of the region that was encoded."""
        ...

    def calibrate_and_encode(self, plane: NDArray[np.float32], checkpoint: Checkpoint) -> tuple[Any, Any] | None:
        """Do both for one whole plane in a single pass, or None if it must be tiled.

        Results equal ``calibrate`` then ``encode`` on ``Region.whole(plane)`` to ≤ 1/255.
        """
        ...
