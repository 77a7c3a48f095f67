"""Where paint and answers lie: layers that fit an image, for its whole or for a window of the plane on screen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.axes import check_axes
from napari_cellenhance.core.painted import BACKGROUND
from napari_cellenhance.core.recipes.protocol import Region
from napari_cellenhance.widgets._geometry import Geometry
from napari_cellenhance.widgets._layers import PREVIEW_MARK, LayerView, is_preview, view_region

__all__ = ["PAINT_MARK", "AnswerLayer", "Window", "brush_px", "class_colormap", "paint_place", "paintable_layers"]

PAINT_MARK = "cellenhance_paint"
"""Key in the metadata of a paint layer: names and colours of its classes."""
_UNKNOWN = "#b0b0b0"
_FAINT = "38"


def paintable_layers(viewer: Any) -> list[Any]:
    """Labels layers that can hold paint, the topmost first; what this plugin shows for a while is none of them."""
    from napari.layers import Labels

    return [layer for layer in reversed(list(viewer.layers)) if isinstance(layer, Labels) and not is_preview(layer)]


def paint_place(view: LayerView, axes: str) -> tuple[tuple[int, ...], Geometry]:
    """Shape and place of a paint layer: one label per pixel, for all channels together.

    A channel axis that comes first is left out. In the middle it stays, so that T and Z keep their sliders; then paint
    on any channel counts.
    """
    letters = check_axes(axes, view.shape).replace("S", "")
    shape = view.shape[: view.ndim]
    return (shape[1:], view.geometry.without(0)) if letters[0] == "C" else (shape, view.geometry)


def brush_px(shape: tuple[int, ...]) -> int:
    """Brush for an image: a hundredth of its shorter side, 3 to 15 px.

    >>> brush_px((520, 696)), brush_px((64, 64)), brush_px((3, 4000, 5000))
    (5, 3, 15)
    """
    return max(3, min(15, round(min(shape[-2:]) / 100)))


def class_colormap(colors: Mapping[int, str]) -> Any:
    """Colormap of a Labels layer: not painted is transparent, a value without a colour grey."""
    from napari.utils.colormaps import DirectLabelColormap

    known: dict[int | None, str] = {None: _UNKNOWN, 0: "transparent"}
    known |= dict(colors.items())
    return DirectLabelColormap(color_dict=known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What is on screen of an image, frozen.

    Parameters
    ----------
    view : LayerView
    axes : str
    channels : "grey" or tuple of one int
    """

    view: LayerView
    axes: str
    channels: Any

    @property
    def region(self) -> Region:
        """Visible part of the plane.

        Raises
        ------
        ParameterError
            Nothing of a Y–X plane is on screen.
        """
        return view_region(self.view, self.axes)

    @property
    def plane(self) -> tuple[int, int]:
        """Frame and slice on screen."""
        where = dict(zip(self.axes, self.view.index, strict=False))
        return where.get("T", 0), where.get("Z", 0)

    def placed(self, labels: NDArray[Any], region: Region) -> tuple[NDArray[Any], Geometry]:
        """Labels of a region, shape (Y, X), with the dimensions and the place of a paint layer."""
        letters = self.axes.replace("S", "")
        y, x = letters.index("Y"), letters.index("X")
        offset = [float(i) for i in self.view.index]
        offset[y], offset[x] = float(region.y0), float(region.x0)
        plane = labels if y < x else labels.T
        shape = [1] * len(letters)
        first, second = sorted((y, x))
        shape[first], shape[second] = plane.shape
        geometry = self.view.geometry.at(offset)
        if letters[0] == "C":
            return plane.reshape(shape[1:]), geometry.without(0)
        return plane.reshape(shape), geometry


class AnswerLayer:
    """A half-transparent Labels layer over a window of an image, replaced again and again. It is no input.

    Parameters
    ----------
    viewer : ViewerModel
    title : str
        Before the name of the image: "instant".
    """

    def __init__(self, viewer: Any, title: str) -> None:
        self._viewer = viewer
        self._title = title
        self._layer: Any = None

    @property
    def layer(self) -> Any:
        """The layer; None while there is none, or when somebody removed it."""
        if self._layer is not None and self._layer not in self._viewer.layers:
            self._layer = None
        return self._layer

    def show(self, labels: NDArray[Any], window: Window, region: Region, colors: Mapping[int, str], above: Any) -> None:
        """Show labels of shape (Y, X).

        Parameters
        ----------
        window, region
            What they were made from.
        above : Image
            Layer to lie right above, so that the paint stays on top.
        """
        data, geometry = window.placed(np.asarray(labels), region)
        if self.layer is not None and (self._layer.ndim != data.ndim or self._layer.data.dtype != data.dtype):
            self.remove()
        if self.layer is None:
            self._add(data, geometry, window.view.name, above)
        else:
            self._layer.data = data
            for name in ("scale", "translate"):
                if not np.array_equal(getattr(self._layer, name), getattr(geometry, name)):
                    setattr(self._layer, name, getattr(geometry, name))
            if not str(self._layer.name).startswith(f"{self._title}: {window.view.name}"):
                self._layer.name = f"{self._title}: {window.view.name}"
        self.recolour(colors)

    def _add(self, data: NDArray[Any], geometry: Geometry, name: str, above: Any) -> None:
        layers = self._viewer.layers
        active = layers.selection.active
        self._layer = self._viewer.add_labels(
            data, name=f"{self._title}: {name}", opacity=0.4, metadata={PREVIEW_MARK: True}, **geometry.as_kwargs()
        )
        if above in layers:
            layers.move(layers.index(self._layer), layers.index(above) + 1)
        layers.selection.active = active

    def recolour(self, colors: Mapping[int, str]) -> None:
        """Show the classes in these colours; background faintly, so that the image is seen."""
        if self.layer is not None and self._layer.metadata.get(PAINT_MARK) != dict(colors):
            self._layer.metadata[PAINT_MARK] = dict(colors)
            faint = {value: f"{color}{_FAINT}" if value == BACKGROUND else color for value, color in colors.items()}
            self._layer.colormap = class_colormap(faint)

    def rename(self, title: str) -> None:
        """Say what became of it."""
        if self.layer is not None:
            self._layer.name = title

    def remove(self) -> None:
        """Take it away."""
        if self.layer is not None:
            self._viewer.layers.remove(self._layer)
        self._layer = None
