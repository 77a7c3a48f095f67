"""The strength of a run: a number, a number that the image asks for, or a map over the image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.axes import to_canonical
from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.recipes.protocol import StrengthInfo
from napari_cellenhance.core.strength import Shares, quantize, shares, step_of, strengths_of_labels
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.workflows._planes import OpenedImage, PlaneIndex
from napari_cellenhance.workflows._provenance import hash_image
from napari_cellenhance.workflows.catalog import FilterSpec
from napari_cellenhance.workflows.requests import EnhanceRequest, StrengthMap

__all__ = ["OpenedMap", "cut_map", "describe_map", "map_axes", "open_map", "shrink_map", "strength_of"]


def strength_of(request: EnhanceRequest, spec: FilterSpec) -> float:
    """Number of the slider: the filter's default, or clamped to its range; 0 stays 0.

    Raises
    ------
    ParameterError
        No finite number; "auto" must have been replaced before. Dark objects, and a filter that takes grey values as
        they are: it could not be told what is turned round.
    """
    if request.objects_are_dark and spec.card is not None and spec.card.recipe == "bioimageio":
        raise ParameterError(
            f"“{spec.info.title}” takes grey values as they are; switch “objects are dark” off, or invert the image "
            "first"
        )
    info = spec.info.strength
    if request.strength is None:
        return info.default
    if isinstance(request.strength, str):
        raise ParameterError(f"the strength is {request.strength!r}; expected a number, auto, or none for the default")
    # 0 is the identity for every filter, also where the slider begins above it.
    return 0.0 if request.strength == 0 else info.clamp(request.strength)


def map_axes(shape: Sequence[int], image_shape: Sequence[int], axes: str) -> str:
    """Axes of a strength map, told by its shape.

    Parameters
    ----------
    shape : sequence of int
        Of the map.
    image_shape : sequence of int
        Of the image.
    axes : str
        Of the image.

    Returns
    -------
    str
        Those of the image, or fewer: without colours, without channels, or the last few of these.

    Raises
    ------
    ParameterError
        The map does not fit.

    Examples
    --------
    >>> map_axes((5, 6), (3, 2, 5, 6), "ZCYX"), map_axes((3, 5, 6), (3, 2, 5, 6), "ZCYX")
    ('YX', 'ZYX')
    """
    sizes = dict(zip(axes, (int(n) for n in image_shape), strict=True))
    full = axes.replace("S", "")
    bare = full.replace("C", "")
    for candidate in dict.fromkeys(whole[start:] for whole in (full, bare) for start in range(len(whole) - 1)):
        if {"Y", "X"} <= set(candidate) and [sizes[axis] for axis in candidate] == [int(n) for n in shape]:
            return candidate
    plane = f"{sizes['Y']}×{sizes['X']}" if axes.index("Y") < axes.index("X") else f"{sizes['X']}×{sizes['Y']}"
    raise ParameterError(
        f"the strength map has the shape {'×'.join(map(str, shape))}, the image {'×'.join(map(str, image_shape))} "
        f"({axes}); expected one plane of {plane} px, or the shape of the image. Make the map from this image"
    )


def cut_map(
    asked: StrengthMap | None, image_shape: Sequence[int], axes: str, offset: Sequence[slice]
) -> StrengthMap | None:
    """The part of a map that lies over a part of its image.

    Parameters
    ----------
    offset : sequence of slice
        Part of the image, one for each of its axes.
    """
    if asked is None:
        return None
    part = dict(zip(axes, offset, strict=False))
    letters = map_axes(np.shape(asked.values), image_shape, axes)
    return replace(asked, values=asked.values[tuple(part[letter] for letter in letters)])


def shrink_map(
    asked: StrengthMap | None, image_shape: Sequence[int], level_shape: Sequence[int], axes: str
) -> StrengthMap | None:
    """A map for a coarser level of its image: the nearest pixels, never a mixture of labels."""
    if asked is None or tuple(image_shape) == tuple(level_shape):
        return asked
    sizes = dict(zip(axes, level_shape, strict=True))
    values = asked.values
    for axis, letter in enumerate(map_axes(np.shape(values), image_shape, axes)):
        n, n_wanted = int(values.shape[axis]), int(sizes[letter])
        nearest = ((np.arange(n_wanted) + 0.5) * n / n_wanted).astype(int)
        values = values[(slice(None),) * axis + (nearest,)]
    y = axes.index("Y")
    return replace(asked, values=values, edge_px=asked.edge_px * level_shape[y] // image_shape[y])


@dataclass(frozen=True, slots=True)
class OpenedMap:
    """A strength map laid over a canonical image; read window by window."""

    pixels: Any
    """(T or 1, C or 1, Z or 1, Y, X)"""
    asked: StrengthMap
    info: StrengthInfo
    elsewhere: float
    is_pooled: bool
    """Channels of the image were averaged to one: the map's are, too, by their maximum."""

    def shares_at(self, index: PlaneIndex) -> Callable[[Region], Shares]:
        """Weights of each strength on a window of one plane, for ``core.inference.Rendering``."""
        t, c, z = (i if n > 1 else 0 for i, n in zip(index, self.pixels.shape[:3], strict=True))
        channel = slice(None) if self.is_pooled else slice(c, c + 1)
        height, width = (int(n) for n in self.pixels.shape[-2:])
        margin = self.asked.edge_px // 2

        def on(region: Region) -> Shares:
            outer = Region(
                max(0, region.y0 - margin), min(height, region.y1 + margin),
                max(0, region.x0 - margin), min(width, region.x1 + margin),
            )  # fmt: skip
            y, x = region.y0 - outer.y0, region.x0 - outer.x0
            inside = (slice(y, y + region.shape[0]), slice(x, x + region.shape[1]))
            window = np.asarray(self.pixels[(t, channel, z, *outer.slices)])
            return shares(self._strengths(window), inside, self.asked.edge_px)

        return on

    def _strengths(self, window: NDArray[Any]) -> NDArray[np.float32]:
        plane = window.max(axis=0) if len(window) > 1 else window[0]
        low, high = self.info.minimum, self.info.maximum
        if self.asked.label_strengths is None:
            return quantize(plane, self.elsewhere, minimum=low, maximum=high)
        return strengths_of_labels(plane, self.asked.label_strengths, self.elsewhere, minimum=low, maximum=high)


def open_map(request: EnhanceRequest, spec: FilterSpec, image: OpenedImage, elsewhere: float) -> OpenedMap | None:
    """Lay the map of a request over its image; None where it has none.

    Raises
    ------
    ParameterError
        A map whose shape does not fit, or that holds no real numbers.
    """
    asked = request.strength_map
    if asked is None:
        return None
    values = asked.values if hasattr(asked.values, "shape") else np.asarray(asked.values)
    if np.dtype(values.dtype).kind not in "buif":
        raise ParameterError(f"the strength map is of type {values.dtype}; expected numbers")
    axes = map_axes(values.shape, np.shape(request.image), request.axes.upper())
    pixels = to_canonical(values, axes)
    is_pooled = pixels.shape[1] > 1 and request.channels == "grey"
    if pixels.shape[1] > 1 and isinstance(request.channels, tuple):
        pixels = pixels[:, list(request.channels)]
    return OpenedMap(pixels, asked, spec.info.strength, elsewhere, is_pooled)


def describe_map(asked: StrengthMap | None, info: StrengthInfo) -> dict[str, Any] | None:
    """JSON-ready entry of the recipe; None without a map."""
    if asked is None:
        return None
    labels = asked.label_strengths
    return {
        "name": asked.name,
        "shape": [int(n) for n in np.shape(asked.values)],
        "sha256": hash_image(asked.values),
        "label_strengths": None if labels is None else {str(label): float(w) for label, w in sorted(labels.items())},
        "step": step_of(info.maximum) if labels is None else None,
        "edge_px": asked.edge_px,
    }
