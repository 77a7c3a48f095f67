"""A line on a Shapes layer and the images under it: frozen on the GUI thread, brought to one world. No widgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import AxesError, ImageError, ParameterError
from napari_cellenhance.widgets._geometry import geometry_of
from napari_cellenhance.widgets._layers import pixel_sizes
from napari_cellenhance.widgets._measure_layers import Chosen, FrozenLayer, matrix_of, unreadable
from napari_cellenhance.workflows._measured import MeasuredImage
from napari_cellenhance.workflows.profiles import ProfiledImage

__all__ = ["LINE_NAME", "ChosenLine", "FrozenLine", "freeze_line", "line_layer"]

LINE_NAME = "line profile"
_COLOUR = "#f0e442"
_KINDS = ("line", "path")
_SAME = 1e-6
_THINNEST = 300
"""A line is at least this fraction of the image wide, so that it can be seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenLine:
    """A line at one moment; ``world`` of shape (P, ndim), one row for each point."""

    layer: str
    world: NDArray[np.float64]

    @property
    def yx(self) -> tuple[tuple[float, float], ...]:
        """Points (y, x) in the world."""
        return tuple((float(y), float(x)) for y, x in self.world[:, -2:])


def freeze_line(layer: Any) -> FrozenLine | None:
    """The selected line or path of a Shapes layer, else the last one; None without any."""
    lines = [i for i, kind in enumerate(layer.shape_type) if kind in _KINDS]
    if not lines:
        return None
    selected = [i for i in layer.selected_data if i in lines]
    points = np.asarray(layer.data[max(selected or lines)], np.float64)
    world = np.array([layer.data_to_world(point) for point in points], np.float64)
    return FrozenLine(layer=str(layer.name), world=world)


def line_layer(image: Any, width_px: int) -> dict[str, Any]:
    """Keyword arguments of an empty Shapes layer whose pixels are those of an image, for ``viewer.add_shapes``.

    It has two dimensions, so that its line is seen on every plane of a stack.
    """
    kwargs: dict[str, Any] = {
        "name": LINE_NAME, "ndim": 2, "edge_color": _COLOUR, "face_color": "transparent", "edge_width": width_px,
    }  # fmt: skip
    if image is None:
        return kwargs
    geometry = geometry_of(image)
    longest = max(int(n) for n in image.data.shape[: geometry.ndim][-2:]) if not image.multiscale else 0
    place = {"scale": geometry.scale[-2:], "translate": geometry.translate[-2:], "units": geometry.units[-2:]}
    return kwargs | place | {"edge_width": max(width_px, longest / _THINNEST)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenLine(Chosen):
    """Images, in ``raw`` and ``enhanced`` without a meaning of the order, and the line over them.

    Parameters
    ----------
    line : FrozenLine or None
    point : tuple of float
        Where the sliders of the viewer are, in the world.
    """

    line: FrozenLine | None = None
    point: tuple[float, ...] = ()

    def problem(self) -> str:
        """Why no profile can be read; empty when one can. The images need not have one size or place."""
        if self.line is None:
            return "There is no line yet: press “Draw a line” and drag it over the image."
        for layer in self.images:
            if problem := unreadable(layer) or _not_on_show(layer):
                return problem
        ends = np.ptp(self.line.world[:, :-2], axis=0)
        if (ends > _SAME).any():
            return f"The line on “{self.line.layer}” runs across planes; draw it within the plane on show."
        units = {layer.geometry.units[-1]: layer.name for layer in self.images if _um(layer) is not None}
        if len(units) > 1:
            (unit, first), (other_unit, other) = list(units.items())[:2]
            return f"“{first}” is measured in {unit}, “{other}” in {other_unit}; give both layers one unit."
        return ""

    @property
    def um_per_unit(self) -> float | None:
        """Micrometres of one unit of the world; None where no layer tells."""
        return next((um for layer in self.images if (um := _um(layer)) is not None), None)

    def profiled(self, names: Sequence[str]) -> tuple[ProfiledImage, ...]:
        """Images with their planes on show, and where these lie."""
        return tuple(self._profiled(layer, name) for layer, name in zip(self.images, names, strict=True))

    def _profiled(self, layer: FrozenLayer, name: str) -> ProfiledImage:
        n = layer.geometry.ndim
        inverse = np.linalg.inv(matrix_of(layer.geometry))
        sliders = np.asarray(self.point, np.float64)[-n:][:-2]
        to_px = np.column_stack([inverse[n - 2 : n, n - 2 : n], inverse[n - 2 : n, : n - 2] @ sliders])
        to_px[:, 2] += inverse[n - 2 : n, n]
        axes = layer.axes()
        measured = MeasuredImage(name=name, image=layer.data, axes=axes, at=layer.plane_at(axes))
        return ProfiledImage(image=measured, to_px=to_px)


def _um(layer: FrozenLayer) -> float | None:
    return pixel_sizes([1.0], layer.geometry.units[-1:], "X").get("X")


def _not_on_show(layer: FrozenLayer) -> str:
    try:
        axes = layer.axes().replace("S", "")
    except (AxesError, ImageError, ParameterError) as error:
        return str(error)
    if set(axes[-2:]) == {"Y", "X"}:
        return ""
    return (
        f"“{layer.name}” has axes {axes}: its last two are not rows and columns, so that the plane on show cannot be "
        "told. Name its axes in the layer, or reorder it."
    )
