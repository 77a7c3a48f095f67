"""Layers → what says where objects are, in pixels of the image; result → an overlay. No widgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.widgets._geometry import geometry_of
from napari_cellenhance.widgets._layers import METADATA_KEY, Choices, LayerView
from napari_cellenhance.widgets._measure_layers import Chosen, FrozenLayer, FrozenPoints, freeze, freeze_points, misfit
from napari_cellenhance.widgets._results import LayerTuple, placed
from napari_cellenhance.workflows.crop_finding import FoundCrops

__all__ = ["OVERLAY", "PlacedOn", "box_corners", "is_overlay", "overlay_layer"]

OVERLAY = "cellenhance_crops"
"""Key in the metadata of layers that the dock draws itself: they are no input."""


def is_overlay(layer: Any) -> bool:
    """Whether the dock drew this layer."""
    return OVERLAY in layer.metadata


@dataclass(frozen=True, slots=True)
class PlacedOn:
    """Carries labels, points and boxes to the pixels of an image layer.

    Parameters
    ----------
    image : FrozenLayer
    only_plane : bool
        The plane in view is meant, so that points of a plane belong to it.
    """

    image: FrozenLayer
    only_plane: bool

    @classmethod
    def of(cls, layer: Any, dims: Any, *, only_plane: bool) -> PlacedOn:
        """Freeze an image layer. Call it on the GUI thread."""
        return cls(freeze(layer, dims), only_plane)

    def labels(self, layer: Any, dims: Any) -> Any:
        """Copy a Labels layer.

        Raises
        ------
        ImageError
            It does not lie on the image, pixel by pixel.
        """
        frozen = freeze(layer, dims)
        if misfit(self.image, frozen):
            sizes = [" × ".join(str(n) for n in each.shape) for each in (frozen, self.image)]
            how = f"{sizes[0]} px on {sizes[1]} px" if sizes[0] != sizes[1] else "another place, scale or rotation"
            raise ImageError(
                f"“{frozen.name}” does not lie on “{self.image.name}” pixel by pixel ({how}); choose labels that were "
                "made on this image"
            )
        return frozen.data

    def points(self, layers: Sequence[Any]) -> NDArray[np.float64]:
        """Points of all these layers, (N, ndim) in pixels of the image.

        Raises
        ------
        ImageError
            Points that do not say on which plane they lie, or that all lie beside the image.
        """
        found = [self._carried(freeze_points(layer)) for layer in layers]
        points = np.concatenate(found) if found else np.zeros((0, self.image.geometry.ndim))
        self._check_inside(points, [str(layer.name) for layer in layers])
        return points

    def boxes(self, layers: Sequence[Any]) -> NDArray[np.float64]:
        """Two opposite corners of each shape of these layers, (N, 2, ndim) in pixels of the image.

        Raises
        ------
        ImageError
            As for :meth:`points`.
        """
        corners = []
        for layer in layers:
            geometry = geometry_of(layer)
            for shape in layer.data:
                given = np.asarray(shape, np.float64).reshape(-1, layer.ndim)
                carried = self._carried(FrozenPoints(name=str(layer.name), data=given, geometry=geometry))
                corners.append(np.stack([carried.min(axis=0), carried.max(axis=0)]))
        boxes = np.stack(corners) if corners else np.zeros((0, 2, self.image.geometry.ndim))
        self._check_inside(boxes.mean(axis=1), [str(layer.name) for layer in layers])
        return boxes

    def _carried(self, points: FrozenPoints) -> NDArray[np.float64]:
        return np.asarray(Chosen(raw=self.image, only_plane=self.only_plane).true_points(points).points, np.float64)

    def _check_inside(self, points: NDArray[np.float64], names: Sequence[str]) -> None:
        sides = np.array(self.image.shape[-2:])
        if len(points) and not ((points[:, -2:] > -1) & (points[:, -2:] < sides)).all(axis=1).any():
            listed = ", ".join(f"“{name}”" for name in names)
            raise ImageError(
                f"all of {listed} lies beside “{self.image.name}” ({sides[0]} × {sides[1]} px); choose a layer that "
                "was made on this image"
            )


def overlay_layer(found: FoundCrops, view: LayerView, choices: Choices) -> LayerTuple | None:
    """Outlines of the objects over their image; None where they are too many pixels.

    Parameters
    ----------
    view, choices
        Those that the objects were found with.
    """
    if found.numbers is None:
        return None
    geometry, put_back = placed(view, choices, found.axes)
    numbers = found.numbers if put_back is None else np.expand_dims(found.numbers, put_back)
    made = {OVERLAY: "outlines", METADATA_KEY: found.result.record}
    return numbers, {"name": f"{view.name} objects", "metadata": made, "opacity": 0.9, **geometry.as_kwargs()}, "labels"


def box_corners(
    layer: Any, axes: str, box: tuple[int, int, int, int], place: tuple[int, int], dims: Any
) -> NDArray[np.float64]:
    """Corners of a box in pixels of an image layer, (4, ndim), on its outer edges; on the channel in view.

    Parameters
    ----------
    layer : Image
    axes : str
        Of the layer.
    box : tuple of int
        y0, x0, y1, x1, half open.
    place : (int, int)
        Time point and depth.
    dims : Dims
        Of the viewer.
    """
    y0, x0, y1, x1 = (edge - 0.5 for edge in box)
    at = {"T": float(place[0]), "Z": float(place[1])}
    letters = axes.replace("S", "")
    in_view = dict(zip(letters, np.round(layer.world_to_data(dims.point))[-len(letters) :], strict=True))
    corners = ((y0, x0), (y0, x1), (y1, x1), (y1, x0))
    return np.array([[{**in_view, **at, "Y": y, "X": x}[letter] for letter in letters] for y, x in corners])
