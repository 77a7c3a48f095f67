"""StarDist on planes that are denoised first, where its scheme says so; the result as that of other segmenters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.device import DeviceChoice
from napari_cellenhance.core.models.denoised_stardist import DenoisedStarDist
from napari_cellenhance.core.recipes.protocol import Checkpoint
from napari_cellenhance.core.recipes.stardist_segmenter import StarDistSegmenter
from napari_cellenhance.core.recipes.voidseg_segmenter import PlaneDenoiser
from napari_cellenhance.core.tiling import Region

__all__ = ["StarClasses", "StarPlanes"]

TILE_PX = 512


@dataclass(frozen=True, slots=True)
class StarClasses:
    """A segmented region.

    Parameters
    ----------
    labels : ndarray of int32, shape (Y, X)
        1 ground, 2 object.
    probabilities : ndarray of float32, shape (2, Y, X)
        Of ground and object; the latter is StarDist's own, high in the middle of an object and low at its edge.
    instances : ndarray of uint32, shape (Y, X)
        Objects 1…n; 0 is ground.
    denoised : ndarray of float32, shape (1, Y, X), or (0, Y, X)
        What the network looked at; empty where there is no denoiser.
    values : tuple of int
    """

    labels: NDArray[np.int32]
    probabilities: NDArray[np.float32]
    instances: NDArray[np.uint32]
    denoised: NDArray[np.float32]
    values: tuple[int, ...] = (1, 2)


class StarPlanes:
    """A trained network, ready for planes of any size.

    Parameters
    ----------
    module : DenoisedStarDist
        Not modified.
    choice : DeviceChoice
        Device and precision.
    threshold : float
        Of the probability, where none is given.
    """

    values = (1, 2)

    def __init__(self, module: DenoisedStarDist, choice: DeviceChoice, threshold: float = 0.5) -> None:
        self.choice, self.threshold = choice, threshold
        self.denoiser = None if module.denoiser is None else PlaneDenoiser(module.denoiser, choice)
        self._stars = StarDistSegmenter(module.stardist, choice, threshold=threshold)
        self._grid_px = module.stardist.grid_px

    @property
    def halo_px(self) -> int:
        """Context that each tile reads around itself, in pixels."""
        return self._stars.halo_px + (0 if self.denoiser is None else self.denoiser.halo_px)

    def prepare(self, plane: NDArray[np.float32], *, checkpoint: Checkpoint = lambda: None) -> NDArray[np.float32]:
        """What StarDist looks at: the plane, denoised where there is a denoiser."""
        given = np.asarray(plane, np.float32)
        return given if self.denoiser is None else self.denoiser(given, checkpoint=checkpoint)

    def segment(
        self,
        plane: NDArray[np.float32],
        *,
        region: Region | None = None,
        threshold: float | None = None,
        tile_px: int = TILE_PX,
        on_tile: Callable[[Region], None] = lambda region: None,
        checkpoint: Checkpoint = lambda: None,
    ) -> StarClasses:
        """Segment a plane, or a window of it; objects that reach beyond the window are cut at its edge.

        Parameters
        ----------
        plane : ndarray of shape (Y, X)
            Normalised as in training. Not modified.
        region : Region or None
            Window to keep; the plane is segmented as a whole, so that the objects do not depend on the window.
        threshold : float or None
            None: that of the segmenter.
        tile_px : int
            Side of a tile without its context.
        on_tile, checkpoint : callable
            As for :class:`~napari_cellenhance.core.recipes.stardist_segmenter.StarDistSegmenter`.

        Raises
        ------
        ImageError
            Not a plane, no pixels, or values that are no numbers.
        """
        prepared = self.prepare(plane, checkpoint=checkpoint)
        found = self._stars.segment(
            prepared, threshold=threshold, tile_px=tile_px, on_tile=on_tile, checkpoint=checkpoint
        )
        window = region or Region.whole(plane)
        instances, likely = found.labels[window.slices], found.probabilities[window.slices]
        denoised = np.zeros((0, *window.shape)) if self.denoiser is None else prepared[window.slices][None]
        return StarClasses(
            labels=np.where(instances > 0, 2, 1).astype(np.int32),
            probabilities=np.stack([1 - likely, likely]).astype(np.float32),
            instances=np.array(instances),
            denoised=np.array(denoised, np.float32),
        )
