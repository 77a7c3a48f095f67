"""Layer and viewer → request; result → layers. Nobody below here holds a layer or the viewer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from napari_cellenhance.core.axes import check_axes, guess_axes
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.widgets._geometry import Geometry, geometry_of
from napari_cellenhance.widgets._settings import PluginSettings
from napari_cellenhance.workflows.requests import (
    BlobOptions,
    EnhanceRequest,
    SegmentOptions,
    StrengthMap,
    StrengthSuggestion,
)
from napari_cellenhance.workflows.strength_maps import cut_map

__all__ = [
    "METADATA_KEY",
    "Channels",
    "Choices",
    "LayerView",
    "Scope",
    "axes_of",
    "build_request",
    "channel_choices",
    "has_new_data",
    "is_preview",
    "offset_of",
    "pause_reason",
    "pixel_sizes",
    "snapshot",
    "view_region",
]

Scope = Literal["view", "slice", "layer"]
Channels = Literal["all", "grey"] | tuple[int, ...]

METADATA_KEY = "cellenhance"
"""Key in the metadata of a layer: how it was made."""
PREVIEW_MARK = "cellenhance_preview"
_MIN_WINDOW_PX = 4
_UNIT_UM = {"micrometer": 1.0, "um": 1.0, "µm": 1.0, "nanometer": 1e-3, "nm": 1e-3, "millimeter": 1e3, "mm": 1e3}
_UNIT_S = {"second": 1.0, "s": 1.0, "millisecond": 1e-3, "ms": 1e-3, "minute": 60.0, "min": 60.0, "hour": 3600.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerView:
    """An image layer and how the viewer looks at it, at one moment.

    Parameters
    ----------
    name : str
    levels : tuple of array-like
        Pixel data, full resolution first; lazy arrays stay lazy. A colour axis is last.
    factors : tuple of tuple of float
        How much larger a pixel of each level is, per dimension.
    level : int
        Level on screen.
    is_rgb : bool
    geometry : Geometry
    displayed : tuple of int
        Dimensions of the layer on screen; a negative one is not in the layer.
    index : tuple of int
        Current position of the sliders, in pixels of level 0.
    window : tuple of (int, int)
        Visible box per dimension, half-open, in pixels of ``level``.
    colormap, blending, interpolation, contrast_limits
        How the layer is drawn.
    made : mapping or None
        Record of how this plugin made the layer; None for any other layer.
    """

    name: str
    levels: tuple[Any, ...]
    factors: tuple[tuple[float, ...], ...]
    level: int
    is_rgb: bool
    geometry: Geometry
    displayed: tuple[int, ...]
    index: tuple[int, ...]
    window: tuple[tuple[int, int], ...]
    colormap: Any = "gray"
    blending: str = "translucent_no_depth"
    interpolation: str = "nearest"
    contrast_limits: tuple[float, float] = (0.0, 1.0)
    made: Mapping[str, Any] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape at full resolution, with the colour axis."""
        return tuple(int(n) for n in self.levels[0].shape)

    @property
    def ndim(self) -> int:
        """Dimensions of the layer, without the colour axis."""
        return self.geometry.ndim


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """Everything the panel says, apart from the layer."""

    axes: str
    filter_id: str
    strength: float
    objects_are_dark: bool = False
    channels: Channels = "all"
    scope: Scope = "layer"
    statistics: Literal["plane", "stack"] = "plane"
    device: str = "auto"
    segment: SegmentOptions | None = None
    blobs: BlobOptions | None = None
    strength_map: StrengthMap | None = None
    suggestion: StrengthSuggestion | None = None


def is_preview(layer: Any) -> bool:
    """Whether ``layer`` is the preview of this plugin, which is no input."""
    return bool(layer.metadata.get(PREVIEW_MARK, False))


def snapshot(layer: Any, dims: Any) -> LayerView:
    """Freeze an image layer and the viewer's ``dims``; touches no pixel.

    Raises
    ------
    ImageError
        The shape is not known yet (a dask array with unknown chunks).
    """
    levels = tuple(layer.data) if layer.multiscale else (layer.data,)
    if any(np.isnan(float(n)) for n in levels[0].shape):
        raise ImageError(
            f"the shape of “{layer.name}” is not known ({levels[0].shape}), because its dask chunks are unknown; "
            "call compute_chunk_sizes() on the array before adding it"
        )
    ndim = int(layer.ndim)
    skipped = int(dims.ndim) - ndim
    inside = np.round(layer.world_to_data(dims.point)).astype(int)[-ndim:]
    shape = levels[0].shape[:ndim]
    factors = np.asarray(layer.downsample_factors, dtype=float) if layer.multiscale else np.ones((1, ndim))
    low, high = np.asarray(layer.corner_pixels, dtype=int)
    level = int(layer.data_level) if layer.multiscale else 0
    return LayerView(
        name=str(layer.name),
        levels=levels,
        factors=tuple(tuple(float(f) for f in row) for row in factors),
        level=level,
        is_rgb=bool(layer.rgb),
        geometry=geometry_of(layer),
        displayed=tuple(int(d) - skipped for d in dims.displayed),
        index=tuple(int(min(max(i, 0), n - 1)) for i, n in zip(inside, shape, strict=True)),
        window=tuple((int(a), int(b) + 1) for a, b in zip(low, high, strict=True)),
        colormap="gray" if layer.rgb else layer.colormap,
        blending=str(getattr(layer.blending, "value", layer.blending)),
        interpolation=str(getattr(layer.interpolation2d, "value", layer.interpolation2d)),
        contrast_limits=(0.0, 1.0) if layer.rgb else (float(layer.contrast_limits[0]), float(layer.contrast_limits[1])),
        made=_record_of(layer),
    )


def _record_of(layer: Any) -> Mapping[str, Any] | None:
    record = layer.metadata.get(METADATA_KEY)
    return record if isinstance(record, Mapping) and record else None


def has_new_data(layer: Any, view: LayerView) -> bool:
    """Whether the arrays of ``layer`` were replaced since ``view`` was taken."""
    levels = tuple(layer.data) if layer.multiscale else (layer.data,)
    return len(levels) != len(view.levels) or any(a is not b for a, b in zip(levels, view.levels, strict=True))


def axes_of(view: LayerView) -> tuple[str, str]:
    """Guess the axes of a layer; returns the letters and a sentence on where they come from."""
    guess = guess_axes(view.shape, is_rgb=view.is_rgb, labels=view.geometry.axis_labels)
    return guess.axes, guess.note


def channel_choices(axes: str, shape: tuple[int, ...]) -> list[tuple[str, Channels]]:
    """What can be done with the channels: label for the user, value for the request.

    Empty where there is nothing to choose. The first entry is the default: grey for a colour
    image (three nearly equal colours need one answer), all for separate channels.
    """
    if len(axes) != len(shape):
        return []
    if "S" in axes:
        n_colours = min(3, shape[axes.index("S")])
        names = ("Red", "Green", "Blue")[:n_colours]
        singles: list[tuple[str, Channels]] = [(f"{name} only", (i,)) for i, name in enumerate(names)]
        return [("Grey (luminance)", "grey"), ("Each colour by itself", "all"), *singles]
    if "C" in axes and shape[axes.index("C")] > 1:
        n = shape[axes.index("C")]
        singles = [(f"Channel {i} only", (i,)) for i in range(n)]
        return [("Each channel by itself", "all"), ("Grey (mean of channels)", "grey"), *singles]
    return []


def view_region(view: LayerView, axes: str, *, level: int = 0) -> Region:
    """Visible window of the Y–X plane, in pixels of ``level``.

    Raises
    ------
    ParameterError
        The window is not a piece of a Y–X plane, or nothing of the layer is on screen.
    """
    reason = pause_reason(view, axes)
    if reason is not None:
        raise ParameterError(reason)
    y, x = axes.index("Y"), axes.index("X")
    edges: list[int] = []
    for axis in (y, x):
        ratio = view.factors[view.level][axis] / view.factors[level][axis]
        n = int(view.levels[level].shape[axis])
        low, high = view.window[axis]
        edges += [max(0, int(np.floor(low * ratio))), min(n, int(np.ceil(high * ratio)))]
    return Region(*edges)


def pause_reason(view: LayerView, axes: str) -> str | None:
    """Why the visible window cannot be worked on; None if it can."""
    if len(view.displayed) != 2:
        return "The view is in 3-D. Switch to 2-D (the cube button, bottom left) to work on what you see."
    y, x = axes.index("Y"), axes.index("X")
    if set(view.displayed) != {y, x}:
        return (
            f"The screen does not show the Y–X plane of “{view.name}”. Roll the dimensions back, "
            "or correct the axes, to work on what you see."
        )
    for axis in (y, x):
        low, high = view.window[axis]
        n = int(view.levels[view.level].shape[axis])
        visible = min(high, n) - max(low, 0)
        if visible < min(_MIN_WINDOW_PX, n):
            return f"“{view.name}” is off the screen. Pan back to it, or press Home."
    return None


def offset_of(view: LayerView, choices: Choices) -> tuple[slice, ...]:
    """Slices of full-resolution data that the scope asks for; dimensions are kept at length 1.

    The channel slider counts as a slider only if every channel is enhanced by itself: then the
    channel on screen is meant. A chosen channel or grey needs them all.
    """
    slices = [slice(None)] * len(view.shape)
    if choices.scope == "layer":
        return tuple(slices)
    for axis, letter in enumerate(choices.axes):
        if letter in "YXS" or (letter == "C" and choices.channels != "all"):
            continue
        slices[axis] = slice(view.index[axis], view.index[axis] + 1)
    return tuple(slices)


def pixel_sizes(scale: Sequence[float], units: Sequence[str], axes: str) -> dict[str, float]:
    """Pixel size by axis letter, in µm (``T`` in s); axes without a physical unit are left out.

    >>> pixel_sizes([2.0, 500.0, 1.0], ["second", "nanometer", "pixel"], "TYX")
    {'T': 2.0, 'Y': 0.5}
    """
    sizes: dict[str, float] = {}
    for letter, step, unit in zip(axes, scale, units, strict=False):
        known = _UNIT_S if letter == "T" else _UNIT_UM if letter in "ZYX" else {}
        if unit in known:
            sizes[letter] = abs(float(step)) * known[unit]
    return sizes


def build_request(view: LayerView, choices: Choices, settings: PluginSettings) -> EnhanceRequest:
    """Turn the panel into a request. Call it in the worker: slicing a zarr array reads it.

    Raises
    ------
    AxesError
        Axes that do not fit.
    ParameterError
        Scope "view" while the view shows no Y–X plane of the layer.
    """
    axes = check_axes(choices.axes, view.shape)
    data = view.levels[0]
    strength_map = choices.strength_map
    if choices.scope != "layer":
        strength_map = cut_map(strength_map, view.shape, axes, offset_of(view, choices))
        data = data[offset_of(view, choices)]
    return EnhanceRequest(
        image=data,
        axes=axes,
        filter_id=choices.filter_id,
        strength=choices.strength,
        strength_map=strength_map,
        suggestion=choices.suggestion,
        objects_are_dark=choices.objects_are_dark,
        channels=choices.channels,
        statistics=choices.statistics,
        region=view_region(view, axes) if choices.scope == "view" else None,
        device=choices.device,
        memory_limit_mb=settings.memory_limit_mb,
        cache_folder=settings.cache_folder,
        segment=choices.segment,
        blobs=choices.blobs,
        source_name=view.name,
        earlier=view.made,
        pixel_size_um=pixel_sizes([float(step) for step in view.geometry.scale], view.geometry.units, axes),
    )
