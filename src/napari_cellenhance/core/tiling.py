"""Windows of a plane: cut it into tiles with a halo, put the cores back together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

__all__ = ["Region"]


@dataclass(frozen=True, slots=True)
class Region:
    """Half-open window ``[y0, y1) × [x0, x1)`` of a plane, in pixels of that plane."""

    y0: int
    y1: int
    x0: int
    x1: int

    @classmethod
    def whole(cls, plane: NDArray[Any]) -> Region:
        """Region covering all of a plane of shape (Y, X)."""
        return cls(0, int(plane.shape[0]), 0, int(plane.shape[1]))

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, in pixels."""
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index for a plane of shape (Y, X)."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)
