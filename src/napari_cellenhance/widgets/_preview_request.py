"""What the live preview asks for, and what its badge says. Pure functions."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

from napari_cellenhance.core.axes import check_axes
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.widgets._layers import Choices, LayerView, view_region
from napari_cellenhance.widgets._settings import PluginSettings
from napari_cellenhance.workflows.preview import PreviewRequest
from napari_cellenhance.workflows.requests import EnhanceRequest
from napari_cellenhance.workflows.strength_maps import shrink_map

__all__ = ["MAX_PREVIEW_PX", "PreviewAsk", "PreviewStatus", "badge_text", "build_preview", "cap_region", "is_same"]

MAX_PREVIEW_PX = 1 << 20
"""A larger window is previewed in its middle only; 1024² is what a CPU does in well under a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewAsk:
    """A preview request, and where its answer belongs.

    Parameters
    ----------
    request : PreviewRequest
    view : LayerView
    axes : str
    level : int
        Pyramid level that is previewed.
    is_capped : bool
        Only the middle of the window is shown.
    """

    request: PreviewRequest
    view: LayerView
    axes: str
    level: int
    is_capped: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewStatus:
    """State of the live preview for the badge and its hint line."""

    state: str
    """``off``, ``working``, ``live`` or ``paused``."""
    hint: str = ""
    latency_ms: float | None = None
    is_approximate: bool = False


def cap_region(region: Region, max_px: int = MAX_PREVIEW_PX) -> Region:
    """Middle of a region, of at most ``max_px`` pixels and the same proportions.

    >>> cap_region(Region(0, 100, 0, 100), 2500)
    Region(y0=25, y1=75, x0=25, x1=75)
    """
    height, width = region.shape
    if height * width <= max_px:
        return region
    ratio = (max_px / (height * width)) ** 0.5
    h = max(1, int(height * ratio))
    w = max(1, min(int(width * ratio), max_px // h))
    y0, x0 = region.y0 + (height - h) // 2, region.x0 + (width - w) // 2
    return Region(y0, y0 + h, x0, x0 + w)


def build_preview(view: LayerView, choices: Choices, settings: PluginSettings, source_key: Hashable) -> PreviewAsk:
    """Ask for the visible window, at the pyramid level on screen. Touches no pixel.

    Raises
    ------
    AxesError
        Axes that do not fit.
    ParameterError
        The view is 3-D, shows another plane, or the layer is off the screen; a sentence.
    """
    axes = check_axes(choices.axes, view.shape)
    whole = view_region(view, axes, level=view.level)
    region = cap_region(whole)
    position: dict[str, int] = {}
    for axis, letter in enumerate(axes):
        if letter in "TZ" or (letter == "C" and choices.channels == "all"):
            n = int(view.levels[view.level].shape[axis])
            position[letter] = min(n - 1, int(view.index[axis] / view.factors[view.level][axis]))
    request = EnhanceRequest(
        image=view.levels[view.level],
        axes=axes,
        filter_id=choices.filter_id,
        strength=choices.strength,
        strength_map=shrink_map(choices.strength_map, view.shape, view.levels[view.level].shape, axes),
        objects_are_dark=choices.objects_are_dark,
        channels=choices.channels,
        statistics=choices.statistics,
        region=region,
        device=choices.device,
        memory_limit_mb=settings.memory_limit_mb,
        cache_folder=settings.cache_folder,
        source_name=view.name,
    )
    return PreviewAsk(
        request=PreviewRequest(enhance=request, position=position, source_key=(source_key, view.level)),
        view=view,
        axes=axes,
        level=view.level,
        is_capped=region != whole,
    )


def is_same(a: PreviewAsk | None, b: PreviewAsk) -> bool:
    """Whether two requests would give the same picture at the same place."""
    if a is None:
        return False
    same_pixels = a.request.enhance.image is b.request.enhance.image
    plain = [replace(ask.request.enhance, image=None) for ask in (a, b)]
    return (
        same_pixels
        and plain[0] == plain[1]
        and (a.request.position, a.request.source_key, a.level) == (b.request.position, b.request.source_key, b.level)
    )


def badge_text(status: PreviewStatus) -> str:
    """Text of the badge: state and latency of the last update."""
    if status.state == "off":
        return ""
    if status.state == "paused":
        return "PAUSED"
    ms = status.latency_ms
    latency = "" if ms is None else f" {ms:.0f} ms" if ms < 9999.5 else f" {ms / 1000:.0f} s"
    about = " ≈ approximate" if status.is_approximate else ""
    return ("LIVE …" if status.state == "working" and not latency else f"LIVE{latency}") + about
