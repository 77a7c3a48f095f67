"""What the dock draws over images: outlines of the objects that were found, and boxes around chosen crops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from napari_cellenhance.core.crop_library import CropClass, CropLibrary, FoundObject
from napari_cellenhance.widgets._crop_layers import OVERLAY, box_corners, overlay_layer
from napari_cellenhance.widgets._geometry import geometry_of
from napari_cellenhance.widgets._layer_picker import image_layers
from napari_cellenhance.widgets._layers import Choices, LayerView
from napari_cellenhance.workflows.crop_finding import FoundCrops
from napari_cellenhance.workflows.crops import place_of

__all__ = ["CLASS_COLOURS", "ChosenBoxes", "Outlines", "colours_of", "layer_of_source"]

CLASS_COLOURS: Mapping[CropClass, str] = {"target": "#00b884", "unwanted": "#ff7a1a", "discarded": "#a0a0a0"}
"""Green, orange, grey: distinct for colour-blind people, on dark images too."""
_LINE_PX = 2
_EDGE_PX = 1.5
_MAX_BOXES = 200
_LEAST_SCREEN_PX = 60.0
"""A chosen crop is at least so large on screen."""


def colours_of(library: CropLibrary) -> dict[int | None, str]:
    """Colour of each number of the outlines."""
    colours: dict[int | None, str] = {None: "transparent", 0: "transparent"}
    for number, one in enumerate(library.objects, 1):
        colours[number] = CLASS_COLOURS[one.kind]
    return colours


class Outlines:
    """A Labels layer with the outline of every object, in the colour of its class. It follows another sorting.

    Parameters
    ----------
    viewer : ViewerModel
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self.layer: Any = None

    def show(self, found: FoundCrops, view: LayerView, choices: Choices) -> None:
        """Draw objects in place of earlier ones."""
        made = overlay_layer(found, view, choices)
        self.remove()
        if made is None or not found.collection.objects:
            return
        data, kwargs, _ = made
        active = self._viewer.layers.selection.active
        self.layer = self._viewer.add_labels(data, **kwargs, colormap=_colormap(found.collection))
        self.layer.contour = _LINE_PX
        self.layer.editable = False
        if active is not None:
            self._viewer.layers.selection.active = active

    def recolour(self, library: CropLibrary) -> None:
        """Show other classes of the same objects."""
        if self._is_there():
            self.layer.colormap = _colormap(library)

    def _is_there(self) -> bool:
        return self.layer is not None and self.layer in self._viewer.layers

    def remove(self) -> None:
        """Take the outlines away."""
        if self._is_there():
            self._viewer.layers.remove(self.layer)
        self.layer = None


def _colormap(library: CropLibrary) -> Any:
    from napari.utils.colormaps import DirectLabelColormap

    return DirectLabelColormap(color_dict=colours_of(library))


def layer_of_source(viewer: Any, source: str) -> Any:
    """Image layer that crops of a source come from; None where it is not open.

    A layer of a file has its name without the ending.
    """
    name, _ = place_of(source)
    layers = image_layers(viewer)
    by_name = next((layer for layer in layers if layer.name in (source, name)), None)
    return by_name or next((layer for layer in layers if layer.name == name.split(".")[0]), None)


class ChosenBoxes:
    """Boxes around the crops that are chosen in the library, and the camera on the first of them.

    Parameters
    ----------
    viewer : ViewerModel
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self.layer: Any = None

    def show(self, chosen: Sequence[FoundObject], axes: Mapping[str, str]) -> bool:
        """Draw boxes of the crops that come from the image of the first; says whether that is open.

        Parameters
        ----------
        chosen : sequence of FoundObject
        axes : mapping of str to str
            Axes of the layers that crops were added from, by name; guessed where a layer is not named.
        """
        self.remove()
        layer = layer_of_source(self._viewer, chosen[0].crop.source) if chosen else None
        letters = None if layer is None else _axes_of(layer, axes)
        if layer is None or letters is None:
            return False
        here = [one for one in chosen if place_of(one.crop.source)[0] == place_of(chosen[0].crop.source)[0]]
        dims = self._viewer.dims
        boxes = [box_corners(layer, letters, one.crop.box, (one.crop.frame, place_of(one.crop.source)[1]), dims)
                 for one in here[:_MAX_BOXES]]  # fmt: skip
        if not _is_inside(layer, boxes[0]):
            return False
        self._bring_to_sight(layer, axes)
        world = np.array([layer.data_to_world(corner) for corner in boxes[0]])
        self._go_to(world.mean(axis=0), float(np.ptp(world[:, -2:], axis=0).max()))
        active = self._viewer.layers.selection.active
        # In the pixels of the image: another step along an axis would change the sliders.
        self.layer = self._viewer.add_shapes(
            boxes, shape_type="polygon", name="chosen crops", face_color="transparent", edge_width=_EDGE_PX,
            edge_color=[CLASS_COLOURS[one.kind] for one in here[:_MAX_BOXES]], metadata={OVERLAY: "chosen"},
            **geometry_of(layer).as_kwargs(),
        )  # fmt: skip
        self.layer.editable = False
        if active is not None:
            self._viewer.layers.selection.active = active
        return True

    def _bring_to_sight(self, layer: Any, axes: Mapping[str, str]) -> None:
        """Of the images whose crops are in the library only this one is shown: the others may lie over it."""
        for other in image_layers(self._viewer):
            if other == layer:
                other.visible = True
            elif str(other.name) in axes:
                other.visible = False

    def _go_to(self, centre: Any, side: float) -> None:
        dims = self._viewer.dims
        first = dims.ndim - len(centre)
        for axis, place in enumerate(centre[:-2], start=first):
            if axis not in dims.displayed:
                dims.set_point(axis, float(place))
        if tuple(dims.displayed) == (dims.ndim - 2, dims.ndim - 1):
            camera = self._viewer.scene.camera
            camera.center = (0.0, float(centre[-2]), float(centre[-1]))
            camera.zoom = max(float(camera.zoom), _LEAST_SCREEN_PX / max(side, 1e-9))

    def remove(self) -> None:
        """Take the boxes away."""
        if self.layer is not None and self.layer in self._viewer.layers:
            self._viewer.layers.remove(self.layer)
        self.layer = None


def _axes_of(layer: Any, axes: Mapping[str, str]) -> str | None:
    from napari_cellenhance.core.axes import guess_axes

    data = layer.data[0] if layer.multiscale else layer.data
    known = axes.get(str(layer.name), "")
    if len(known) == len(data.shape):
        return known
    found = guess_axes(tuple(data.shape), is_rgb=bool(layer.rgb), labels=tuple(str(s) for s in layer.axis_labels))
    return found.axes or None


def _is_inside(layer: Any, corners: Any) -> bool:
    data = layer.data[0] if layer.multiscale else layer.data
    return bool(((corners > -1) & (corners < np.array(data.shape[: layer.ndim], float))).all())
