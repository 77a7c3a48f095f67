"""Where a result sits in the world: the spatial metadata of a layer, as plain arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Geometry", "geometry_of"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Spatial metadata of a layer with ``n`` dimensions (a colour axis is not one of them).

    Parameters
    ----------
    scale, translate : ndarray of shape (n,)
        In the unit of each axis per pixel, and in that unit.
    rotate : ndarray of shape (n, n)
        Rotation matrix.
    shear : ndarray of shape (n * (n - 1) / 2,)
        Upper triangle of the shear matrix, row by row, as napari keeps it.
    affine : ndarray of shape (n + 1, n + 1)
        Homogeneous matrix applied last.
    units, axis_labels : tuple of str
    """

    scale: FloatArray
    translate: FloatArray
    rotate: FloatArray
    shear: FloatArray
    affine: FloatArray
    units: tuple[str, ...]
    axis_labels: tuple[str, ...]

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.scale)

    @property
    def linear(self) -> FloatArray:
        """Matrix that takes a step in pixels to a step in the layer's physical space."""
        shear = np.eye(self.ndim)
        shear[np.triu_indices(self.ndim, k=1)] = self.shear
        return np.asarray(self.rotate @ shear @ np.diag(self.scale))

    def at(self, offset_px: Sequence[float]) -> Geometry:
        """Geometry of a crop whose first pixel is ``offset_px`` of this layer."""
        return self._replace(translate=self.translate + self.linear @ np.asarray(offset_px, dtype=float))

    def coarser(self, factors: Sequence[float]) -> Geometry:
        """Geometry of a pyramid level whose pixels are ``factors`` times larger.

        napari puts the first pixel centre of every level at the same place.
        """
        return self._replace(scale=self.scale * np.asarray(factors, dtype=float))

    def without(self, axis: int) -> Geometry:
        """Geometry of the layer after dimension ``axis`` is gone."""
        keep = [i for i in range(self.ndim) if i != axis]
        shear = np.eye(self.ndim)
        shear[np.triu_indices(self.ndim, k=1)] = self.shear
        inner = np.ix_(keep, keep)
        homogeneous = [*keep, self.ndim]
        return Geometry(
            scale=self.scale[keep],
            translate=self.translate[keep],
            rotate=self.rotate[inner],
            shear=shear[inner][np.triu_indices(len(keep), k=1)],
            affine=self.affine[np.ix_(homogeneous, homogeneous)],
            units=tuple(self.units[i] for i in keep),
            axis_labels=tuple(self.axis_labels[i] for i in keep),
        )

    def as_kwargs(self) -> dict[str, Any]:
        """Keyword arguments of ``viewer.add_*``."""
        kwargs: dict[str, Any] = {
            "scale": self.scale,
            "translate": self.translate,
            "rotate": self.rotate,
            "affine": self.affine,
            "units": self.units,
            "axis_labels": self.axis_labels,
        }
        if self.ndim > 1:
            kwargs["shear"] = self.shear
        return kwargs

    def _replace(self, **changes: Any) -> Geometry:
        fields: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        return Geometry(**{**fields, **changes})


def geometry_of(layer: Any) -> Geometry:
    """Copy the spatial metadata of a napari layer."""
    return Geometry(
        scale=np.array(layer.scale, dtype=float),
        translate=np.array(layer.translate, dtype=float),
        rotate=np.array(layer.rotate, dtype=float),
        shear=np.array(layer.shear, dtype=float).ravel(),
        affine=np.array(layer.affine.affine_matrix, dtype=float),
        units=tuple(str(unit) for unit in layer.units),
        axis_labels=tuple(str(label) for label in layer.axis_labels),
    )
