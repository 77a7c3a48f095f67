"""StarDist on planes of any size: tile by tile with the context it needs, then one star per object."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from napari_cellenhance.core.device import DeviceChoice
from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.core.models.stardist import StarDist
from napari_cellenhance.core.recipes.protocol import Checkpoint
from napari_cellenhance.core.star_nms import (
    MAX_OVERLAP,
    Engine,
    candidates,
    check_threshold,
    chosen_engine,
    suppress,
    without_border,
)
from napari_cellenhance.core.star_shapes import Stars, render
from napari_cellenhance.core.tiling import Region, split

__all__ = ["StarDistSegmenter", "StarMaps", "StarSegmentation"]

TILE_PX = 512
THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class StarMaps:
    """What the network gives for a plane, at every ``grid``-th pixel from the first one on.

    Parameters
    ----------
    probabilities : ndarray of float32, shape (Y / grid, X / grid)
    distances : ndarray of float32, shape (n_rays, Y / grid, X / grid)
        In pixels; any sign.
    """

    probabilities: NDArray[np.float32]
    distances: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class StarSegmentation:
    """Objects of a plane.

    Parameters
    ----------
    labels : ndarray of uint32, shape (Y, X)
        0 is ground; objects are 1…n without gaps, the most probable first.
    probabilities : ndarray of float32, shape (Y, X)
        Each sample of the network repeated ``grid`` times along both axes.
    stars : Stars
        Star i is object i + 1; ``stars.polygons`` are the outlines.
    engine : "numpy" or "stardist"
        Which non-maximum suppression was used.
    """

    labels: NDArray[np.uint32]
    probabilities: NDArray[np.float32]
    stars: Stars
    engine: Literal["numpy", "stardist"]


class StarDistSegmenter:
    """A trained network, ready for planes of any size.

    Parameters
    ----------
    module : StarDist
        Copied, so that its training can go on.
    choice : DeviceChoice
        Device and precision.
    threshold : float
        Samples above this probability are candidates for objects.
    max_overlap : float
        Two stars that share more than this part of the smaller one's area are the same object.
    border : int
        Outermost samples that are no candidates; the published code leaves out 2, 0 finds cells at the edge too.
    engine : "auto", "numpy" or "stardist"
        See ``core.star_nms.suppress``.

    Raises
    ------
    ParameterError
        A setting outside its range.
    MissingExtraError
        The engine "stardist" is asked for and not installed.
    """

    def __init__(
        self,
        module: StarDist,
        choice: DeviceChoice,
        *,
        threshold: float = THRESHOLD,
        max_overlap: float = MAX_OVERLAP,
        border: int = 0,
        engine: Engine = "auto",
    ) -> None:
        check_threshold(threshold)
        self.choice, self.threshold, self.max_overlap, self.border = choice, threshold, max_overlap, border
        self.engine = chosen_engine(engine)
        self._net = copy.deepcopy(module).eval().to(choice.torch_device).to_channels_last()

    @property
    def grid(self) -> int:
        """Pixels from one sample to the next."""
        return self._net.grid

    @property
    def halo_px(self) -> int:
        """Context that each tile reads around itself, in pixels."""
        return -(-self._net.radius_px // self._net.grid_px) * self._net.grid_px

    def maps(
        self, plane: NDArray[np.float32], *, tile_px: int = TILE_PX, checkpoint: Checkpoint = lambda: None
    ) -> StarMaps:
        """Probabilities and distances of a whole plane; see :meth:`segment` for the parameters and errors."""
        n_y, n_x = (-(-side // self.grid) for side in _checked(plane).shape)
        probabilities = np.zeros((n_y, n_x), np.float32)
        distances = np.zeros((self._net.n_rays, n_y, n_x), np.float32)
        for at, tile in self._tiles(plane, tile_px, checkpoint):
            probabilities[at.slices] = tile.probabilities
            distances[(slice(None), *at.slices)] = tile.distances
        return StarMaps(probabilities, distances)

    def segment(
        self,
        plane: NDArray[np.float32],
        *,
        threshold: float | None = None,
        tile_px: int = TILE_PX,
        on_tile: Callable[[Region], None] = lambda region: None,
        checkpoint: Checkpoint = lambda: None,
    ) -> StarSegmentation:
        """Segment a plane.

        Parameters
        ----------
        plane : ndarray of shape (Y, X)
            Normalised as in training. Not modified.
        threshold : float or None
            Instead of the segmenter's own.
        tile_px : int
            Side of a tile without its context; the result does not depend on it, but for rounding.
        on_tile : callable
            Called after each tile with its window of the plane.
        checkpoint : callable
            Called before each tile and while candidates are compared; raises to stop.

        Raises
        ------
        ImageError
            Not a plane, no pixels, or values that are no numbers.
        ParameterError
            A threshold or tile out of range, or a network that gives no numbers.
        """
        shape = (int(_checked(plane).shape[0]), int(plane.shape[1]))
        probabilities = np.zeros(shape, np.float32)
        found = []
        for at, tile in self._tiles(plane, tile_px, checkpoint):
            g = self.grid
            window = Region(at.y0 * g, min(at.y1 * g, shape[0]), at.x0 * g, min(at.x1 * g, shape[1]))
            repeated = tile.probabilities.repeat(g, axis=0).repeat(g, axis=1)
            probabilities[window.slices] = repeated[: window.shape[0], : window.shape[1]]
            found.append(
                candidates(
                    tile.probabilities,
                    tile.distances,
                    threshold=self.threshold if threshold is None else threshold,
                    grid=g,
                    origin=(window.y0, window.x0),
                )
            )
            on_tile(window)
        stars = without_border(_joined(found), shape, self.border, self.grid)
        left = suppress(stars, max_overlap=self.max_overlap, engine=self.engine, checkpoint=checkpoint)
        labels, visible = _drawn(left.stars, shape)
        return StarSegmentation(labels, probabilities, visible, left.engine)

    def _tiles(
        self, plane: NDArray[np.float32], tile_px: int, checkpoint: Checkpoint
    ) -> Iterator[tuple[Region, StarMaps]]:
        """Predictions tile by tile, each with its window in samples."""
        net, grid = self._net, self.grid
        padded = _padded(plane, net.grid_px)
        n_y, n_x = (-(-int(side) // grid) for side in plane.shape)
        for tile in split(padded.shape, tile_px, self.halo_px, net.grid_px):
            checkpoint()
            x = torch.from_numpy(np.ascontiguousarray(padded[tile.outer.slices]))[None, None]
            device = self.choice.torch_device
            use_bf16 = self.choice.precision == "bfloat16"
            with (
                torch.inference_mode(),
                torch.autocast(torch.device(device).type, torch.bfloat16, enabled=use_bf16),
            ):
                output = net(x.to(device))
            core = tile.core
            at = Region(core.y0 // grid, min(core.y1 // grid, n_y), core.x0 // grid, min(core.x1 // grid, n_x))
            y0, x0 = at.y0 - tile.outer.y0 // grid, at.x0 - tile.outer.x0 // grid
            rows, columns = slice(y0, y0 + at.shape[0]), slice(x0, x0 + at.shape[1])
            yield (
                at,
                StarMaps(
                    output.logits[0, 0, rows, columns].sigmoid().cpu().numpy(),
                    output.distances[0, :, rows, columns].cpu().numpy(),
                ),
            )


def _checked(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    if plane.ndim != 2 or plane.size == 0:
        raise ImageError(f"an image of shape {plane.shape} cannot be segmented; expected one plane (Y, X)")
    if not np.isfinite(plane).all():
        raise ImageError("the image has pixels that are no numbers (NaN or infinite); replace them first")
    return plane


def _padded(plane: NDArray[np.float32], multiple: int) -> NDArray[np.float32]:
    """Float32 copy, padded below and on the right only, so that samples stay on their pixels.

    By reflection, or by repeating the edge where a side is not longer than the pad.
    """
    padded = plane.astype(np.float32)
    for axis, size in enumerate(plane.shape):
        missing = -size % multiple
        widths = [(0, 0), (0, 0)]
        widths[axis] = (0, missing)
        padded = np.pad(padded, widths, mode="reflect" if size > missing else "edge")
    return padded


def _joined(parts: list[Stars]) -> Stars:
    return Stars(
        np.concatenate([part.centres for part in parts]),
        np.concatenate([part.distances for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
    )


def _drawn(stars: Stars, shape: tuple[int, int]) -> tuple[NDArray[np.uint32], Stars]:
    """Labels without gaps, and the stars that have pixels."""
    labels = render(stars, shape)
    is_visible = np.bincount(labels.ravel(), minlength=len(stars) + 1)[1:] > 0
    number = np.zeros(len(stars) + 1, np.uint32)
    number[1:] = np.cumsum(is_visible) * is_visible
    return number[labels], stars.take(is_visible)
