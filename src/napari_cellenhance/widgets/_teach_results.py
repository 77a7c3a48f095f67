"""Result of a segmenting model → layers with the place of their image and the colours of the classes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.widgets._layers import Choices, LayerView
from napari_cellenhance.widgets._results import METADATA_KEY, LayerTuple, placed
from napari_cellenhance.widgets._teach_classes import default_look
from napari_cellenhance.widgets._teach_place import class_colormap
from napari_cellenhance.workflows.paint import display_range
from napari_cellenhance.workflows.segment_model import ModelSegmentation
from napari_cellenhance.zoo.cards import ModelCard

__all__ = ["Segmented", "class_colors", "layers_of", "measured", "result_sentence"]

_TITLES = {"probabilities": "probability", "translated": "enhanced", "filters": "filter", "branches": "segmented from"}
_BY_NAME = ("filters", "denoised")
"""Kinds whose entries have a name that says what they are."""
_N_NAMED = 4
_IMAGES = ("filters", "probabilities", "translated", "denoised")


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmented:
    """A result with what reading all its pixels tells, made in the worker.

    Parameters
    ----------
    ranges : dict of str to list of (float, float)
        Contrast limits of the images of each kind.
    n_objects : int or None
        None where objects were not asked for.
    """

    result: ModelSegmentation
    ranges: dict[str, list[tuple[float, float]]]
    n_objects: int | None


def measured(result: ModelSegmentation) -> Segmented:
    """Read the pixels of a result; call it in the worker."""
    ranges = {
        name: [(0.0, 1.0) if name == "probabilities" else display_range(one) for one in result.maps[name]]
        for name in _IMAGES
        if name in result.maps
    }
    n_objects = None if result.instances is None else int(np.max(result.instances, initial=0))
    return Segmented(result=result, ranges=ranges, n_objects=n_objects)


def class_colors(card: ModelCard) -> dict[int, str]:
    """Colour of each class of a model; one that has none gets the usual one."""
    return {one.value: one.color or default_look(one.value).color for one in card.classes}


def layers_of(
    segmented: Segmented,
    view: LayerView,
    axes: str,
    channels: Any,
    colors: Mapping[int, str],
    wanted: Collection[str],
) -> list[LayerTuple]:
    """Layers to add, in drawing order: images first, the objects or classes last and on top.

    Parameters
    ----------
    view, axes, channels
        Those that the request was built from.
    wanted : collection of str
        Out of the outputs of the workflow; classes are always computed, and left out here where nobody asked.
    """
    result = segmented.result
    choices = Choices(axes=axes, filter_id="", strength=0.0, channels=channels)
    geometry, put_back = placed(view, choices, result.axes)
    common = {"metadata": {METADATA_KEY: result.provenance}, **geometry.as_kwargs()}

    def dims(array: NDArray[Any]) -> NDArray[Any]:
        return array if put_back is None else np.expand_dims(array, put_back)

    def labels(array: NDArray[Any], name: str, **look: Any) -> LayerTuple:
        return dims(array), {"name": f"{view.name} {name}", "opacity": 0.5, **look, **common}, "labels"

    has_labels = "classes" in wanted or result.instances is not None
    layers = _images(segmented, view.name, dims, common, is_all=not has_labels)
    colormap = class_colormap(colors)
    for array, name in zip(result.maps.get("branches", ()), result.names.get("branches", ()), strict=True):
        layers.append(labels(array, f"{_TITLES['branches']} {name}", visible=False, colormap=colormap))
    if "classes" in wanted:
        layers.append(labels(result.classes, "classes", colormap=colormap, visible=result.instances is None))
    if result.instances is not None:
        layers.append(labels(result.instances.astype(np.int32), "objects"))
    return layers


def _images(segmented: Segmented, name: str, dims: Any, common: dict[str, Any], *, is_all: bool) -> list[LayerTuple]:
    """Images of each kind; they cover the image that was segmented, so they are switched off unless they are all."""
    layers: list[LayerTuple] = []
    for kind in _IMAGES:
        result = segmented.result
        for i, array in enumerate(result.maps.get(kind, ())):
            title = result.names[kind][i]
            title = title if kind in _BY_NAME else f"{_TITLES[kind]}: {title}"
            look = {
                "name": f"{name} {title}", "contrast_limits": segmented.ranges[kind][i], "rgb": False,
                "colormap": "magma" if kind == "probabilities" else "gray", "visible": is_all,
            }  # fmt: skip
            layers.append((dims(array), {**look, **common}, "image"))
    return layers


def result_sentence(segmented: Segmented, added: list[str]) -> str:
    """Say what came out, and how to see it."""
    shown = added[:_N_NAMED] + [f"{len(added) - _N_NAMED} more"] * (len(added) > _N_NAMED)
    parts = [f"Done: {', '.join(shown)}."]
    if segmented.n_objects is not None:
        parts.append(f"{segmented.n_objects} object{'' if segmented.n_objects == 1 else 's'}.")
    if len(added) > 1:
        parts.append("Click the eyes in the layer list to see one or the other.")
    if any("enhanced: " in name for name in added):
        parts.append("Enhanced images show where objects are; measure brightness on the original image.")
    return " ".join([*parts, *segmented.result.warnings])
