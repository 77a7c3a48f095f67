"""Images taken apart → layers: what is kept, all else, objects, boxes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from napari_cellenhance.widgets._layers import METADATA_KEY, Choices, LayerView
from napari_cellenhance.widgets._results import NOT_QUANTITATIVE, LayerTuple, placed, quoted
from napari_cellenhance.workflows.separate_layers import FoundObjects, SeparatedLayer, box_corners

__all__ = ["BOXES", "LABELS", "MAX_BOXES", "OUTPUTS", "Place", "boxes_data", "kept_layers", "kept_sentence",
           "labels_data", "objects_record"]  # fmt: skip

TARGET, REMAINDER, GROUND, UNWANTED, LABELS, BOXES = OUTPUTS = (
    "target", "remainder", "background", "unwanted", "labels", "boxes",
)  # fmt: skip
"""Layers that can be made."""
NAMES = {
    False: {TARGET: "kept", REMAINDER: "everything else", GROUND: "ground", UNWANTED: "unwanted"},
    True: {TARGET: "what moves", REMAINDER: "background"},
}
"""Endings of the names of layers; of what crops taught, and of what movies taught."""
_HIDDEN = (REMAINDER, GROUND, UNWANTED)
_BOX_COLOR = "#f0e442"
MAX_BOXES = 2000
"""More boxes make a Shapes layer too slow."""


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where the layers of objects lie: geometry for the viewer, axes, and where an axis of length 1 was put in."""

    kwargs: dict[str, Any]
    axes: str
    put_back: int | None


def labels_data(found: FoundObjects, place: Place) -> Any:
    """Pixels of the Labels layer."""
    return found.labels if place.put_back is None else np.expand_dims(found.labels, place.put_back)


def boxes_data(found: FoundObjects, place: Place) -> list[Any]:
    """Rectangles of the Shapes layer; none where there are too many."""
    return box_corners(found.boxes, place.axes, place.put_back) if len(found.boxes) <= MAX_BOXES else []


def objects_record(found: FoundObjects, provenance: dict[str, Any]) -> dict[str, Any]:
    """Record of the layers of objects: as of the image, with the settings that found them."""
    return {**provenance, "objects": asdict(found.options), "n_objects": len(found.boxes)}


def kept_layers(
    found: SeparatedLayer,
    objects: FoundObjects | None,
    view: LayerView,
    axes: str,
    channels: Any,
    wanted: Collection[str],
) -> tuple[list[tuple[str, LayerTuple]], Place]:
    """Layers to add, the lowest first, each with the output it is; and where those of objects lie.

    Parameters
    ----------
    view, axes, channels
        Those that the request was built from.
    wanted : collection of str
        Out of :data:`OUTPUTS`.
    """
    result = found.result
    choices = Choices(axes=axes, filter_id="", strength=0.0, channels=channels)
    geometry, put_back = placed(view, choices, result.axes)
    of_objects, objects_back = placed(view, choices, result.labels_axes)
    place = Place(of_objects.as_kwargs(), result.labels_axes, objects_back)
    names = NAMES[found.is_movie]
    layers: list[tuple[str, LayerTuple]] = []
    pictures = found.pictures()
    # In the grey values of the image, and shown alike, they compare: what little was removed looks like little.
    as_the_image = (REMAINDER,) if found.is_movie else (TARGET, REMAINDER)
    for output in (GROUND, UNWANTED, REMAINDER, TARGET):
        if output not in wanted or output not in pictures:
            continue
        colours = found.colours(pictures[output])
        pixels = pictures[output] if colours is None else colours
        look: dict[str, Any] = {"rgb": True}
        if colours is None:
            limits = view.contrast_limits if output in as_the_image else found.limits[output]
            look = {"rgb": False, "colormap": view.colormap, "contrast_limits": limits}
        record = {**result.provenance, "layer": names[output]}
        kwargs = {
            "name": f"{view.name} {names[output]}", "metadata": {METADATA_KEY: record}, "blending": view.blending,
            "interpolation2d": view.interpolation, "visible": output not in _HIDDEN, **look, **geometry.as_kwargs(),
        }  # fmt: skip
        data = pixels if put_back is None else np.expand_dims(pixels, put_back)
        layers.append((output, (data, kwargs, "image")))
    if objects is None:
        return layers, place
    record = objects_record(objects, result.provenance)
    if LABELS in wanted:
        kwargs = {"name": f"{view.name} objects", "metadata": {METADATA_KEY: record}, "opacity": 0.5, **place.kwargs}
        layers.append((LABELS, (labels_data(objects, place), kwargs, "labels")))
    if BOXES in wanted:
        kwargs = {
            "name": f"{view.name} boxes", "metadata": {METADATA_KEY: record}, "ndim": of_objects.ndim,
            "shape_type": "rectangle", "face_color": "transparent", "edge_color": _BOX_COLOR, "edge_width": 1.5,
            **place.kwargs,
        }  # fmt: skip
        layers.append((BOXES, (boxes_data(objects, place), kwargs, "shapes")))
    return layers, place


def kept_sentence(found: list[SeparatedLayer], added: list[str], n_wanted: int) -> str:
    """Say what came out, and what to beware of."""
    if not added:
        return "Cancelled; nothing was added."
    start = "" if len(found) == n_wanted else f"Cancelled after {len(found)} of {n_wanted} images. "
    what = "New layer" if len(added) == 1 else "New layers"
    warnings = list(dict.fromkeys(warning for one in found for warning in one.result.warnings))
    return " ".join(
        [f"{start}{what}: {quoted(added)}, in the grey values of the original.", *warnings, NOT_QUANTITATIVE]
    )
