"""Denoised images → layers; the picture of a training; the preview in contrast of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.recipes.protocol import Region
from napari_cellenhance.widgets._layers import METADATA_KEY, PREVIEW_MARK, Choices, LayerView
from napari_cellenhance.widgets._preview import LivePreview
from napari_cellenhance.widgets._preview_request import PreviewAsk
from napari_cellenhance.widgets._results import NOT_QUANTITATIVE, LayerTuple, placed, quoted
from napari_cellenhance.widgets._teach_place import Window
from napari_cellenhance.workflows.denoise_layers import DenoisedLayer, shown_range
from napari_cellenhance.workflows.preview import PreviewResult

__all__ = ["DenoisePreview", "LearningImage", "denoised_layer", "done_sentence"]

CAUTION = "What the noise hides can only be guessed: check fine detail on the original image."


def denoised_layer(found: DenoisedLayer, view: LayerView, axes: str, channels: Any) -> LayerTuple:
    """Layer to add: in the grey values, the place and the colours of its source, the contrast from the result.

    Parameters
    ----------
    view, axes, channels
        Those that the request was built from.
    """
    choices = Choices(axes=axes, filter_id="", strength=0.0, channels=channels)
    geometry, put_back = placed(view, choices, found.result.axes)
    pixels = found.result.image if put_back is None else np.expand_dims(found.result.image, put_back)
    look = {
        "name": f"{view.name} denoised", "metadata": {METADATA_KEY: found.result.provenance}, "rgb": False,
        "colormap": view.colormap, "blending": view.blending, "interpolation2d": view.interpolation,
        "contrast_limits": found.limits,
    }  # fmt: skip
    return pixels, {**look, **geometry.as_kwargs()}, "image"


def done_sentence(found: list[DenoisedLayer], added: list[str], n_wanted: int) -> str:
    """Say what came out, and what to beware of."""
    if not added:
        return "Cancelled; nothing was added."
    start = "" if len(found) == n_wanted else f"Cancelled after {len(found)} of {n_wanted} images. "
    what = "New layer" if len(added) == 1 else "New layers"
    warnings = list(dict.fromkeys(warning for one in found for warning in one.result.warnings))
    return " ".join(
        [f"{start}{what}: {quoted(added)}, in the grey values of the original.", *warnings, CAUTION, NOT_QUANTITATIVE]
    )


class LearningImage:
    """An image layer over a window of a noisy image that a training replaces again and again. It is no input.

    Parameters
    ----------
    viewer : ViewerModel
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._layer: Any = None

    @property
    def layer(self) -> Any:
        """The layer; None while there is none, or when somebody removed it."""
        if self._layer is not None and self._layer not in self._viewer.layers:
            self._layer = None
        return self._layer

    def show(
        self, image: NDArray[Any], limits: tuple[float, float], window: Window, region: Region, above: Any
    ) -> None:
        """Show a picture of shape (Y, X) with these contrast limits, right above its image."""
        data, geometry = window.placed(np.asarray(image), region)
        if self.layer is not None and self._layer.ndim != data.ndim:
            self.remove()
        if self.layer is None:
            self._add(data, limits, geometry, window.view, above)
            return
        self._layer.data = data
        for name in ("scale", "translate"):
            if not np.array_equal(getattr(self._layer, name), getattr(geometry, name)):
                setattr(self._layer, name, getattr(geometry, name))
        self._layer.contrast_limits = limits

    def _add(self, data: NDArray[Any], limits: tuple[float, float], geometry: Any, view: LayerView, above: Any) -> None:
        layers = self._viewer.layers
        active = layers.selection.active
        self._layer = self._viewer.add_image(
            data, name=f"learning: {view.name}", metadata={PREVIEW_MARK: True}, rgb=False, contrast_limits=limits,
            colormap=view.colormap, blending=view.blending, **geometry.as_kwargs(),
        )  # fmt: skip
        if above in layers:
            layers.move(layers.index(self._layer), layers.index(above) + 1)
        layers.selection.active = active

    def remove(self) -> None:
        """Take it away."""
        if self.layer is not None:
            self._viewer.layers.remove(self._layer)
        self._layer = None


class DenoisePreview(LivePreview):
    """The live preview; its contrast follows what it shows, since noise took up most of the range before."""

    def _show(self, ask: PreviewAsk, result: PreviewResult) -> None:
        super()._show(ask, result)
        if self._layer is not None and not self._layer.rgb:
            self._layer.contrast_limits = shown_range(result.image)
