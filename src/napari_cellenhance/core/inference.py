"""Run a filter over one plane: split, encode, decode, merge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.recipes.protocol import Checkpoint, Enhancer
from napari_cellenhance.core.strength import Shares
from napari_cellenhance.core.tiling import Region, Tile, split

__all__ = ["Cancelled", "PlaneResult", "Rendering", "enhance_plane", "render"]


class Cancelled(Exception):  # noqa: N818 - a request that was granted, not an error
    """Raised by a checkpoint when the user asked to stop."""


@dataclass(frozen=True, slots=True)
class Rendering:
    """What the slider says.

    Parameters
    ----------
    strength : float
        0 gives the normalised plane itself.
    identity_below : float
        Strengths below it fade from the unfiltered plane to the filter at this strength,
        so that the slider reaches the identity without a jump.
    shares_of : callable or None
        Where the strength differs from place to place: region of the plane → strengths and their
        weights there; ``strength`` is not used then.
    """

    strength: float
    identity_below: float = 0.0
    shares_of: Callable[[Region], Shares] | None = None

    @property
    def share(self) -> float:
        """Share of the filtered image, from 0 (identity) to 1."""
        if self.strength == 0:
            return 0.0
        return min(1.0, self.strength / self.identity_below) if self.identity_below > 0 else 1.0


@dataclass(frozen=True, slots=True)
class PlaneResult:
    """An enhanced plane and the number of tiles it was made of."""

    image: NDArray[np.float32]
    n_tiles: int


def render(
    enhancer: Enhancer,
    features: Any,
    base: NDArray[np.float32],
    rendering: Rendering,
    region: Region | None = None,
) -> NDArray[np.float32]:
    """Decode features at a strength, or at several; the one place that knows how weak strengths fade.

    Parameters
    ----------
    enhancer : Enhancer
    features : object
        What ``enhancer.encode`` returned for the region.
    base : ndarray of shape (Y, X)
        The normalised plane on the same region.
    rendering : Rendering
    region : Region or None
        Where in the plane that is; needed for a strength that differs from place to place. None
        stands for the whole plane.

    Returns
    -------
    ndarray of shape (Y, X)
        float32 in [0, 1]; of a filter whose ``is_bounded`` is False, in its own range.
    """
    if rendering.shares_of is None:
        return _render_one(enhancer, features, base, rendering)
    image = np.zeros(base.shape, np.float32)
    for strength, weight in rendering.shares_of(Region.whole(base) if region is None else region):
        part = _render_one(enhancer, features, base, Rendering(strength, rendering.identity_below))
        image += weight * part
    return _bounded(enhancer, image)


def _bounded(enhancer: Enhancer, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Clip to [0, 1], but for filters that say that their values are their own."""
    return np.clip(image, 0.0, 1.0) if getattr(enhancer, "is_bounded", True) else image


def _render_one(
    enhancer: Enhancer, features: Any, base: NDArray[np.float32], rendering: Rendering
) -> NDArray[np.float32]:
    if rendering.share == 0.0:
        return _bounded(enhancer, base)
    filtered = enhancer.decode(features, max(rendering.strength, rendering.identity_below))
    if rendering.share < 1.0:
        filtered = (1.0 - rendering.share) * _bounded(enhancer, base) + rendering.share * filtered
    return _bounded(enhancer, filtered).astype(np.float32, copy=False)


def enhance_plane(
    enhancer: Enhancer,
    plane: NDArray[np.float32],
    calibration: Any,
    rendering: Rendering,
    *,
    region: Region | None = None,
    tile_px: int,
    out: NDArray[np.float32] | None = None,
    on_tile: Callable[[Tile], None] = lambda tile: None,
    checkpoint: Checkpoint = lambda: None,
) -> PlaneResult:
    """Enhance a plane tile by tile with frozen statistics.

    Parameters
    ----------
    enhancer : Enhancer
    plane : ndarray of shape (Y, X)
        float32, normalised.
    calibration : object
        From ``enhancer.calibrate``.
    rendering : Rendering
    region : Region or None
        Window to compute; None for the whole plane.
    tile_px : int
        Side of a tile; a filter adds the context it needs by itself.
    out : ndarray of shape ``region.shape`` or None
        Filled tile by tile, so that a cancelled run keeps what is done.
    on_tile : callable
        Called after each tile.
    checkpoint : callable
        Called before each tile; raises :class:`Cancelled` to stop.
    """
    window = Region.whole(plane) if region is None else region
    image = np.zeros(window.shape, np.float32) if out is None else out
    tiles = split(window.shape, tile_px, 0)
    for tile in tiles:
        checkpoint()
        core = tile.core
        inside = Region(core.y0 + window.y0, core.y1 + window.y0, core.x0 + window.x0, core.x1 + window.x0)
        features = enhancer.encode(plane, inside, calibration)
        image[core.slices] = render(enhancer, features, plane[inside.slices], rendering, inside)
        on_tile(tile)
    return PlaneResult(image, len(tiles))
