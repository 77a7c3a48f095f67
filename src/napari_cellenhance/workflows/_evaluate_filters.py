"""Open filters once and apply each at several strengths, in the form that is scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.normalize import percentiles
from napari_cellenhance.workflows import _planes
from napari_cellenhance.workflows.catalog import OpenedFilter, describe, open_enhancer

__all__ = ["RAW", "Bench", "FilterJob", "for_contrast", "stretched"]

Plane = NDArray[np.float32]

RAW = "raw"
_STRETCHED = {"gaussian", "median", "bilateral"}
"""Denoisers keep the range of the image; as in the paper they are stretched from P2 to P99.8."""
_STRETCH_PERCENT = (2.0, 99.8)
_RAW_PERCENT = (0.1, 99.9)
_SIZE_FACTOR = {"dog": 0.6 / 2, "log": 0.5 / np.sqrt(2.0)}
"""σ for objects of a diameter; see the cards of the filters."""
_LOG_GAIN = 255.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterJob:
    """A filter at a strength.

    Parameters
    ----------
    filter_id : str
    strength : float or None
        None matches a DoG or LoG to the diameter of the objects of each image.

    Raises
    ------
    ParameterError
        No strength for a filter that has no size to match.
    """

    filter_id: str
    strength: float | None = 0.0

    def __post_init__(self) -> None:
        if self.strength is None and self.filter_id not in _SIZE_FACTOR:
            raise ParameterError(
                f"{self.filter_id} cannot be matched to the size of the objects; expected a strength, "
                f"or one of {', '.join(_SIZE_FACTOR)}"
            )

    @property
    def label(self) -> str:
        """Name in the tables."""
        if self.filter_id == RAW:
            return RAW
        return f"{self.filter_id} {'size' if self.strength is None else format(self.strength, 'g')}"

    def strength_for(self, diameter_px: float) -> float:
        """Strength on an image whose objects have this diameter."""
        return _SIZE_FACTOR[self.filter_id] * diameter_px if self.strength is None else self.strength


class Bench:
    """The filters of an evaluation, opened when first needed.

    Parameters
    ----------
    device, precision : str
        As in ``core.device.choose_device``.
    checkpoint : callable
        Called between small units of work; raises to stop.
    """

    def __init__(self, device: str, precision: str, checkpoint: Callable[[], None]) -> None:
        self._device, self._precision, self._checkpoint = device, precision, checkpoint
        self._opened: dict[str, OpenedFilter] = {}

    def opened(self, filter_id: str) -> OpenedFilter:
        """The filter, with its weights loaded."""
        if filter_id not in self._opened:
            describe(filter_id)
            self._opened[filter_id] = open_enhancer(filter_id, device=self._device, precision=self._precision)
        return self._opened[filter_id]

    def is_learned(self, filter_id: str) -> bool:
        """Whether it is a model, not a classical filter."""
        return filter_id != RAW and describe(filter_id).card is not None

    def apply(self, image: Plane, filter_id: str, strengths: Sequence[float]) -> list[Plane]:
        """Enhance one plane at several strengths; what does not depend on the strength is computed once.

        Parameters
        ----------
        image : ndarray of shape (Y, X)
            Bright objects.
        strengths : sequence of float

        Returns
        -------
        list of ndarray of shape (Y, X)
            float32 in [0, 1].
        """
        if filter_id == RAW:
            return [stretched(image, _RAW_PERCENT)] * len(strengths)
        opened = self.opened(filter_id)
        normalizer = _planes.fit(opened.spec, image)
        if normalizer.is_flat:
            return [np.zeros(image.shape, np.float32)] * len(strengths)
        base = _planes.prepare(image, normalizer, objects_are_dark=False).base
        outputs = self._rendered(opened, base, strengths)
        return [stretched(output, _STRETCH_PERCENT) for output in outputs] if filter_id in _STRETCHED else outputs

    def _rendered(self, opened: OpenedFilter, base: Plane, strengths: Sequence[float]) -> list[Plane]:
        from napari_cellenhance.core.inference import Rendering, enhance_plane, render
        from napari_cellenhance.workflows._engine import tile_side

        renderings = [Rendering(float(strength), opened.spec.identity_below) for strength in strengths]
        both: tuple[Any, Any] | None = opened.enhancer.calibrate_and_encode(base, self._checkpoint)
        if both is not None:
            return [render(opened.enhancer, both[1], base, rendering) for rendering in renderings]
        calibration = opened.enhancer.calibrate([base], self._checkpoint)
        tile_px = tile_side(opened.memory_limit_mb, opened.bytes_per_px)
        return [
            enhance_plane(
                opened.enhancer, base, calibration, rendering, tile_px=tile_px, checkpoint=self._checkpoint
            ).image
            for rendering in renderings
        ]


def for_contrast(image: Plane, output: Plane, filter_id: str) -> Plane:
    """The picture whose contrast ratio is taken: grey values as stored for raw and the logarithm, as in the paper.

    Parameters
    ----------
    image : ndarray of shape (Y, X)
        Grey values in [0, 1], not stretched.
    output : ndarray of shape (Y, X)
        What the filter returned.
    """
    if filter_id == RAW:
        return image
    if filter_id == "log-lut":
        curve: Plane = (np.log1p(_LOG_GAIN * np.clip(image, 0.0, None)) / np.log1p(_LOG_GAIN)).astype(np.float32)
        return curve
    return output


def stretched(plane: Plane, percent: tuple[float, float]) -> Plane:
    """Percentiles to 0 and 1, clipped; a flat plane gives zeros."""
    low, high = percentiles(plane, percent)
    if high <= low:
        return np.zeros(plane.shape, np.float32)
    result: Plane = np.clip((plane - np.float32(low)) / np.float32(high - low), 0.0, 1.0).astype(np.float32)
    return result
