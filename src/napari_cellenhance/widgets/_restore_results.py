"""Restored images → layers: restored, uncertainty, residual, and where not to trust it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from napari_cellenhance.widgets._layers import METADATA_KEY, Choices, LayerView
from napari_cellenhance.widgets._results import NOT_QUANTITATIVE, LayerTuple, placed, quoted
from napari_cellenhance.workflows.restore_layers import Doubt, RestoredLayer

__all__ = ["DOUBT", "OUTPUTS", "doubt_record", "restored_layers", "restored_sentence"]

RESTORED, UNCERTAINTY, RESIDUAL, DOUBT = OUTPUTS = ("restored", "uncertainty", "residual", "doubt")
"""Layers that can be made."""
_DOUBT_COLOR = "#ff3b30"
CAUTION = "A network fills in what the image does not show: check fine detail on the original."


def restored_layers(
    found: RestoredLayer, view: LayerView, axes: str, channels: Any, wanted: Collection[str]
) -> list[LayerTuple]:
    """Layers to add, the lowest first, with the place of their source.

    Parameters
    ----------
    view, axes, channels
        Those that the request was built from.
    wanted : collection of str
        Out of :data:`OUTPUTS`. Without a likelihood there is neither uncertainty nor doubt.
    """
    result = found.result
    geometry, put_back = placed(view, Choices(axes=axes, filter_id="", strength=0.0, channels=channels), result.axes)
    place = geometry.as_kwargs()

    def layer(name: str, pixels: Any, record: dict[str, Any], kind: str = "image", **look: Any) -> LayerTuple:
        data = pixels if put_back is None else np.expand_dims(pixels, put_back)
        made = {METADATA_KEY: {**result.provenance, **record}}
        return data, {"name": f"{view.name} {name}", "metadata": made, **look, **place}, kind

    image: dict[str, Any] = {"rgb": False, "interpolation2d": view.interpolation}
    layers = []
    if RESTORED in wanted:
        limits: dict[str, Any] = {"colormap": view.colormap, "blending": view.blending, "contrast_limits": found.limits}
        layers.append(layer("restored", result.image, {}, **image, **limits))
    if RESIDUAL in wanted and found.residual is not None:
        ends = (-found.residual_limit, found.residual_limit)
        layers.append(
            layer("residual", found.residual, {"layer": "input less restored"}, **image, colormap="PiYG",
                  blending="translucent", contrast_limits=ends, visible=False)
        )  # fmt: skip
    if UNCERTAINTY in wanted and result.uncertainty is not None:
        layers.append(
            layer("uncertainty", result.uncertainty, {"layer": "scale of a Laplace distribution"}, **image,
                  colormap="inferno", blending="additive", contrast_limits=(0.0, found.scale_limit), visible=False)
        )  # fmt: skip
    if DOUBT in wanted and (doubt := found.first_doubt) is not None:
        layers.append(layer("do not trust", doubt.labels, doubt_record(doubt), "labels", opacity=0.6, **_doubt_look()))
    return layers


def doubt_record(doubt: Doubt) -> dict[str, Any]:
    """What the labels mean, for the record of their layer."""
    return {
        "layer": "1 where the likely error exceeds a share of the contrast", "share_of_contrast": doubt.share,
        "share_of_pixels": doubt.doubted,
    }  # fmt: skip


def _doubt_look() -> dict[str, Any]:
    from napari.utils.colormaps import DirectLabelColormap

    colors: dict[int | None, str] = {None: _DOUBT_COLOR, 0: "transparent", 1: _DOUBT_COLOR}
    return {"colormap": DirectLabelColormap(color_dict=colors)}


def restored_sentence(found: list[RestoredLayer], added: list[str], n_wanted: int) -> str:
    """Say what came out, and what to beware of."""
    if not added:
        return "Cancelled; nothing was added."
    start = "" if len(found) == n_wanted else f"Cancelled after {len(found)} of {n_wanted} images. "
    what = "New layer" if len(added) == 1 else "New layers"
    warnings = list(dict.fromkeys(warning for one in found for warning in one.result.warnings))
    if any(one.result.uncertainty is None for one in found):
        warnings.append("This model knows no uncertainty, so there is none to show.")
    return " ".join([f"{start}{what}: {quoted(added)}.", *warnings, CAUTION, NOT_QUANTITATIVE])
