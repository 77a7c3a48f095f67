"""What every filter makes of one small piece of an image, one after another."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import CellEnhanceError
from napari_cellenhance.core.recipes.protocol import FilterInfo
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.workflows import catalog, enhance, model_shelf
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress
from napari_cellenhance.workflows.requests import EnhanceRequest

__all__ = ["MAX_SIDE_PX", "Trial", "middle", "suitable", "try_all", "try_view"]

MAX_SIDE_PX = 256
"""Side of the piece: large enough to show cells, small enough for a second or two on a CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What one filter made of the piece.

    Parameters
    ----------
    info : FilterInfo or None
        None for the piece as it is.
    image : ndarray of uint8, shape (Y, X), or None
        Ready to be shown; None where the filter cannot work on this image.
    reason : str
        Why not.
    """

    info: FilterInfo | None
    image: NDArray[np.uint8] | None
    reason: str = ""


def suitable(cache_folder: str = "") -> tuple[FilterInfo, ...]:
    """Models that are filters of single planes and whose weights are on this computer."""
    rows, _ = model_shelf.list_rows(cache_folder)
    here = {row.card.id for row in rows if row.place != "not here yet"}
    return tuple(info for info in catalog.list_filters() if info.id in here)


def middle(region: Region, side_px: int = MAX_SIDE_PX) -> Region:
    """The middle of a window, at most ``side_px`` wide and high.

    >>> middle(Region(0, 1000, 0, 100), 200)
    Region(y0=400, y1=600, x0=0, x1=100)
    """
    (y0, y1), (x0, x1) = ((region.y0, region.y1), (region.x0, region.x1))
    height, width = min(side_px, y1 - y0), min(side_px, x1 - x0)
    top, left = y0 + (y1 - y0 - height) // 2, x0 + (x1 - x0 - width) // 2
    return Region(top, top + height, left, left + width)


def try_all(
    request: EnhanceRequest,
    filters: Sequence[FilterInfo],
    on_trial: Callable[[Trial], None],
    *,
    on_progress: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
) -> int:
    """Run every filter at its default strength on the region of a request; its plane gives the statistics.

    A filter that cannot work on the image is told with its reason, and the next one goes on.

    Parameters
    ----------
    request : EnhanceRequest
        Of one plane and one channel; its filter and strength are not used.
    filters : sequence of FilterInfo
    on_trial : callable
        Called after each, and first with the piece as it is.

    Returns
    -------
    int
        How many filters were tried before the end or a cancel.
    """
    plain = dataclasses.replace(request, strength=0.0, segment=None, blobs=None, strength_map=None)
    first = enhance.run(dataclasses.replace(plain, filter_id=filters[0].id if filters else request.filter_id))
    on_trial(Trial(info=None, image=_shown(first.image)))
    for n_done, info in enumerate(filters):
        if is_cancelled():
            return n_done
        on_progress(Progress(n_done=n_done, n_total=len(filters), message=f"Trying {info.title}"))
        try:
            wanted = dataclasses.replace(plain, filter_id=info.id, strength=None)
            result = enhance.run(wanted, is_cancelled=is_cancelled)
        except CellEnhanceError as error:
            on_trial(Trial(info=info, image=None, reason=str(error)))
            continue
        if not result.is_complete:
            return n_done
        on_trial(Trial(info=info, image=_shown(result.image)))
    on_progress(Progress(n_done=len(filters), n_total=len(filters), message="All tried"))
    return len(filters)


def try_view(
    request: EnhanceRequest,
    filters: Sequence[FilterInfo],
    on_trial: Callable[[Trial], None],
    *,
    on_progress: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
) -> int:
    """As :func:`try_all`, on the middle of the request's region."""
    region = None if request.region is None else middle(request.region)
    smaller = dataclasses.replace(request, region=region)
    return try_all(smaller, filters, on_trial, on_progress=on_progress, is_cancelled=is_cancelled)


def _shown(image: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Grey values of a picture: from 0 to 1 as they are, others between their percentiles 0.5 and 99.8."""
    plane = np.asarray(image, np.float32)
    plane = plane.reshape(-1, *plane.shape[-2:])[0]
    low, high = (float(v) for v in np.nanpercentile(plane, (0.5, 99.8)))
    if low >= 0.0 and high <= 1.0 and np.issubdtype(image.dtype, np.floating):
        low, high = 0.0, 1.0
    scaled = (plane - low) / max(high - low, 1e-12)
    return np.asarray(np.nan_to_num(np.clip(scaled, 0.0, 1.0) * 255.0), np.uint8)
