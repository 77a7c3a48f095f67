"""A plane as NU-Net sees it: padded to multiples of 4, window by window.

The networks work on scale 0…255, the rest of the house on 0…1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_cellenhance.core.models.nunet_statistics import Source
from napari_cellenhance.core.tiling import Region, padded_index

__all__ = ["NETWORK_SCALE", "PaddedPlane", "inside"]

NETWORK_SCALE = 255.0
_GRID_PX, _MIN_SIDE_PX = 4, 16


@dataclass(frozen=True, slots=True)
class PaddedPlane:
    """A plane seen as padded by reflection to multiples of 4, without making the copy.

    Short sides (1 px, or less than the padding) repeat their edge.
    """

    plane: NDArray[np.float32]
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    top: int
    left: int

    @classmethod
    def of(cls, plane: NDArray[np.float32]) -> PaddedPlane:
        """See a plane of shape (Y, X) as padded."""
        rows, top = padded_index(plane.shape[0], _GRID_PX, _MIN_SIDE_PX)
        columns, left = padded_index(plane.shape[1], _GRID_PX, _MIN_SIDE_PX)
        return cls(plane, rows, columns, top, left)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width with the padding."""
        return len(self.rows), len(self.columns)

    def shift(self, region: Region) -> Region:
        """Window of the plane → the same window of the padded plane."""
        return Region(region.y0 + self.top, region.y1 + self.top, region.x0 + self.left, region.x1 + self.left)

    def read(self, window: Region) -> NDArray[np.float32]:
        """Copy of a window of the padded plane."""
        rows, columns = self.rows[window.y0 : window.y1], self.columns[window.x0 : window.x1]
        return _taken(_taken(self.plane, rows, 0), columns, 1).copy()

    def source(self, device: torch.device) -> Source:
        """Reader of windows for a network on ``device``."""

        def read(window: Region) -> Tensor:
            image = torch.from_numpy(self.read(window)).to(device).mul_(NETWORK_SCALE)
            # Spelled-out channels-last strides: with a single channel torch cannot tell them from the default ones.
            height, width = window.shape
            return image.as_strided((1, 1, height, width), (height * width, 1, width, 1))

        return read


def _taken(plane: NDArray[np.float32], index: NDArray[np.intp], axis: int) -> NDArray[np.float32]:
    """Rows or columns of a plane; a view where they follow each other, as all do but at its edges."""
    first, last = int(index[0]), int(index[-1])
    if last - first == len(index) - 1:  # neighbours differ by one at most: only a run of rising ones comes so far
        return plane[first : last + 1] if axis == 0 else plane[:, first : last + 1]
    return plane.take(index, axis=axis)


def inside(wanted: Region, outer: Region) -> tuple[slice, slice]:
    """Slices that cut ``wanted`` out of an array that covers ``outer``."""
    return (
        slice(wanted.y0 - outer.y0, wanted.y1 - outer.y0),
        slice(wanted.x0 - outer.x0, wanted.x1 - outer.x0),
    )
