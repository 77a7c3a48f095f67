"""What a recipe made of a layer → layers with its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_cellenhance.widgets._layers import METADATA_KEY, Choices, LayerView
from napari_cellenhance.widgets._results import LayerTuple, placed
from napari_cellenhance.workflows.batch_recipe import Recipe, kind_of
from napari_cellenhance.workflows.paint import display_range
from napari_cellenhance.workflows.recipe_run import RecipeResult

__all__ = ["RecipeLayers", "measured", "recipe_layers"]

_ENDINGS = {
    "enhance": "enhanced", "denoise": "denoised", "restore": "restored", "separate": "kept", "segment": "classes",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class RecipeLayers:
    """A result with the contrast of each of its images by name, which reading all pixels tells."""

    result: RecipeResult
    limits: dict[str, tuple[float, float]]


def measured(result: RecipeResult) -> RecipeLayers:
    """Read the pixels of a result; call it in the worker."""
    pictures = {"": result.image} | {name: pixels for name, (pixels, _) in result.beside.items()}
    return RecipeLayers(result, {name: display_range(pixels) for name, pixels in pictures.items()})


def recipe_layers(found: RecipeLayers, view: LayerView, axes: str, recipe: Recipe) -> list[LayerTuple]:
    """Layers to add, the lowest first: further pictures (hidden), the result, the objects.

    Parameters
    ----------
    view : LayerView
        Of the image that the recipe was done with.
    axes : str
        Of that image.
    """
    result, last = found.result, kind_of(recipe.steps[-1])
    choices = Choices(axes=axes, filter_id="", strength=0.0, channels=recipe.steps[0].channels)

    def layer(pixels: Any, letters: str, name: str, kind: str, **look: Any) -> LayerTuple:
        geometry, put_back = placed(view, choices, letters)
        data = pixels if put_back is None else np.expand_dims(pixels, put_back)
        kwargs = {"name": f"{view.name} {name}", "metadata": {METADATA_KEY: result.record}, **look}
        return data, {**kwargs, **geometry.as_kwargs()}, kind

    layers = [
        layer(pixels, letters, name, "image", contrast_limits=found.limits[name], rgb=False, visible=False)
        for name, (pixels, letters) in result.beside.items()
    ]
    if last == "segment":
        layers.append(layer(result.image, result.axes, _ENDINGS[last], "labels", visible=result.labels is None))
    else:
        is_rgb = "S" in result.axes
        look: dict[str, Any] = {"rgb": True} if is_rgb else {"rgb": False, "colormap": view.colormap}
        if not is_rgb:
            look["contrast_limits"] = (0.0, 1.0) if last == "enhance" else found.limits[""]
        layers.append(layer(result.image, result.axes, _ENDINGS[last], "image", blending=view.blending, **look))
    if result.labels is not None:
        objects = result.labels.astype(np.int32)
        layers.append(layer(objects, result.labels_axes, "objects", "labels", opacity=0.5))
    return layers
