"""Result of a workflow → layers with the place and look of their source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_cellenhance.widgets._geometry import Geometry
from napari_cellenhance.widgets._layers import METADATA_KEY, PREVIEW_MARK, Choices, LayerView, offset_of, view_region
from napari_cellenhance.workflows.requests import NOT_QUANTITATIVE, EnhanceResult

__all__ = [
    "METADATA_KEY",
    "NOT_QUANTITATIVE",
    "LayerTuple",
    "count_objects",
    "placed",
    "preview_kwargs",
    "quoted",
    "result_layers",
    "result_sentence",
]

LayerTuple = tuple[Any, dict[str, Any], str]


def placed(view: LayerView, choices: Choices, axes_out: str) -> tuple[Geometry, int | None]:
    """Geometry of a result, and where a lost channel axis has to be put back (or None).

    napari lines layers up by their last dimensions. A channel axis that comes first may go;
    one in the middle stays with length 1, so that T and Z keep their sliders.
    """
    region = view_region(view, choices.axes) if choices.scope == "view" else None
    offset = [0.0] * view.ndim
    for axis, part in enumerate(offset_of(view, choices)[: view.ndim]):
        offset[axis] = float(part.start or 0)
    if region is not None:
        offset[choices.axes.index("Y")], offset[choices.axes.index("X")] = float(region.y0), float(region.x0)
    axis = choices.axes.find("C")
    is_lost = axis >= 0 and "C" not in axes_out
    if is_lost and axis > 0 and isinstance(choices.channels, tuple):
        offset[axis] = float(choices.channels[0])
    geometry = view.geometry.at(offset)
    if not is_lost:
        return geometry, None
    return (geometry.without(0), None) if axis == 0 else (geometry, axis)


def result_layers(result: EnhanceResult, view: LayerView, choices: Choices) -> list[LayerTuple]:
    """Layers to add, in drawing order: enhanced image, labels, points.

    Parameters
    ----------
    result : EnhanceResult
    view, choices
        Those that the request was built from.

    Returns
    -------
    list of (data, keyword arguments of ``viewer.add_…``, "image" | "labels" | "points")
    """
    geometry, put_back = placed(view, choices, result.axes)
    place = geometry.as_kwargs()
    partial = "" if result.is_complete else " (partial)"
    record = {
        **result.provenance,
        "is_complete": result.is_complete,
        "n_tiles_done": result.n_done,
        "n_tiles_total": result.n_total,
    }

    def dims(array: Any) -> Any:
        return array if put_back is None else np.expand_dims(array, put_back)

    is_rgb = "S" in result.axes
    look: dict[str, Any] = {"rgb": True} if is_rgb else {"rgb": False, "colormap": view.colormap}
    if not is_rgb:
        look["contrast_limits"] = view.contrast_limits if choices.strength == 0 else _limits(result)
    layers: list[LayerTuple] = [
        (
            dims(result.image),
            {
                "name": f"{view.name} enhanced{partial}",
                "metadata": {METADATA_KEY: record},
                "blending": view.blending,
                "interpolation2d": view.interpolation,
                **look,
                **place,
            },
            "image",
        )
    ]
    if result.labels is not None:
        layers.append(
            (
                dims(result.labels),
                {
                    "name": f"{view.name} segmented{partial}",
                    "metadata": {METADATA_KEY: record},
                    "opacity": 0.5,
                    **place,
                },
                "labels",
            )
        )
    if result.points is not None:
        points = np.asarray(result.points, dtype=float)
        points = points[:, : geometry.ndim] if put_back is None else np.insert(points, put_back, 0.0, axis=1)
        radii = np.full(len(points), 5.0) if result.point_radii_px is None else np.asarray(result.point_radii_px)
        layers.append(
            (
                points,
                {
                    "name": f"{view.name} blobs{partial}",
                    "metadata": {METADATA_KEY: record},
                    "size": 2.0 * radii if len(points) else 10.0,
                    "face_color": "transparent",
                    "border_color": "#ffb000",
                    "border_width": 0.1,
                    "symbol": "disc",
                    "ndim": geometry.ndim,
                    **place,
                },
                "points",
            )
        )
    return layers


def _limits(result: EnhanceResult) -> tuple[float, float]:
    """From 0 to 1; of a model that gives values of its own, from the smallest to the largest of some of them."""
    if result.provenance.get("method") != "BioImage.IO model":
        return 0.0, 1.0
    some = np.asarray(result.image).ravel()[:: max(1, result.image.size // 100_000)]
    low, high = float(np.nanmin(some)), float(np.nanmax(some))
    return (low, high) if low < high else (low, low + 1.0)


def count_objects(result: EnhanceResult) -> int:
    """Objects of the segmentation; reads every pixel, so call it in the worker."""
    return 0 if result.labels is None else int(np.max(result.labels, initial=0))


def quoted(names: Sequence[str]) -> str:
    """Names of layers in a sentence.

    >>> quoted(["a", "b"])
    '“a”, “b”'
    """
    return ", ".join(f"“{name}”" for name in names)


def result_sentence(result: EnhanceResult, added: list[str], n_objects: int = 0) -> str:
    """Say what came out, what was cut short, and what not to do with it."""
    names = quoted(added)
    if result.is_complete:
        text = f"Done: {names}."
    else:
        text = f"Cancelled after {result.n_done} of {result.n_total} tiles; {names} holds what was done, the rest is 0."
    if result.labels is not None:
        text += f" {_counted(n_objects, 'object')}."
    if result.points is not None:
        text += f" {_counted(len(result.points), 'blob')}."
    return " ".join([text, *result.warnings, NOT_QUANTITATIVE])


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def preview_kwargs(view: LayerView, axes: str, corner: tuple[int, int], level: int) -> dict[str, Any]:
    """Keyword arguments of the preview layer whose first pixel is ``corner`` (y, x) of ``level``."""
    coarse = view.geometry.coarser(view.factors[level])
    offset = [index / factor for index, factor in zip(view.index, view.factors[level], strict=True)]
    offset[axes.index("Y")], offset[axes.index("X")] = float(corner[0]), float(corner[1])
    return {
        "name": f"{view.name} preview",
        "metadata": {PREVIEW_MARK: True},
        "blending": view.blending,
        "colormap": view.colormap,
        "contrast_limits": (0.0, 1.0),
        "rgb": False,
        **coarse.at(offset).as_kwargs(),
    }
