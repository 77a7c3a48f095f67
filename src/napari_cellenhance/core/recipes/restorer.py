"""A trained CARE network on planes and volumes of any size: restored values, and how sure it is of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_cellenhance.core.device import DeviceChoice
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.models.csb_unet import CSBUNet
from napari_cellenhance.core.models.csb_unet_folded import FoldedUNet
from napari_cellenhance.core.recipes.protocol import Checkpoint, FilterInfo
from napari_cellenhance.core.recipes.tiled import TILE_PLANES, TILE_PX, BeforeAfter, TileGrid, padded
from napari_cellenhance.core.tiling import Region

__all__ = ["MAX_REPEATS", "RestoreEnhancer", "Restored", "Restorer"]

MAX_REPEATS = 3
_BYTES_PER_PX = 1200
"""Generous estimate of one pass in float32, per pixel of a tile with its context."""


@dataclass(frozen=True, slots=True)
class Restored:
    """Mean of the distribution of every pixel, and its scale σ (None where the network has none); both float32.

    Half of all errors are below σ·ln 2 where the scale is right.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32] | None


class Restorer:
    """A trained network, ready for images of any size.

    Parameters
    ----------
    module : CSBUNet
        Of one channel; not modified.
    choice : DeviceChoice
        Device and precision.
    scale_factor : float
        The scale is multiplied by it: what calibration found on images that were not learned from.
    """

    def __init__(self, module: CSBUNet, choice: DeviceChoice, scale_factor: float = 1.0) -> None:
        if module.settings.n_in != 1 or module.n_out != 1:
            raise ImageError("the network is of several channels; expected one that restores a single channel")
        self.choice, self.scale_factor = choice, scale_factor
        self.n_dims, self.is_probabilistic = module.settings.n_dims, module.is_probabilistic
        self._grid = TileGrid(module.settings.n_dims, module.settings.radius_px, module.settings.grid_px)
        self.halo_px = self._grid.halo_px
        self._net = FoldedUNet(module, choice.dtype).to(choice.torch_device)

    def restore(
        self,
        image: NDArray[np.float32],
        *,
        region: Region | None = None,
        n_times: int = 1,
        tile_px: int = TILE_PX,
        tile_planes: int = TILE_PLANES,
        on_tile: Callable[[], None] = lambda: None,
        checkpoint: Checkpoint = lambda: None,
    ) -> Restored:
        """Restore an image, or a window of it with the rest as its context.

        Parameters
        ----------
        image : ndarray of shape ([Z,] Y, X)
            Normalised as in training; not modified.
        region : Region or None
            Window of the planes; None for all of them.
        n_times : int, 1 to 3
            Apply the network again to its own mean; the scale is that of the last time.
        tile_px, tile_planes : int
            Sides of a tile without its context; the result does not depend on them, but for rounding.
        on_tile : callable
            Called after each tile.
        checkpoint : callable
            Called before each tile; raises to stop.

        Raises
        ------
        ImageError
            Other dimensions, no pixels, or values that are no numbers.
        ParameterError
            Another number of times.
        """
        self._check(image, n_times)
        given = image[None]
        for window in self._windows(image.shape, region, n_times):
            found = self._grid.run(
                given, self._apply, 2 if self.is_probabilistic else 1, region=window, tile_px=tile_px,
                tile_planes=tile_planes, on_tile=on_tile, checkpoint=checkpoint,
            )  # fmt: skip
            given = found[:1]
            if window is not None and window != region:
                # Around what is needed of it the mean is not known, and not looked at.
                given = np.zeros((1, *image.shape), np.float32)
                given[(..., *window.slices)] = found[:1]
        return Restored(found[0], found[1] * np.float32(self.scale_factor) if self.is_probabilistic else None)

    def n_tiles(
        self, shape: Sequence[int], n_times: int = 1, tile_px: int = TILE_PX, region: Region | None = None
    ) -> int:
        """Tiles of an image with spatial sides ``shape``, of all times together."""
        windows = self._windows(shape, region, n_times)
        return sum(self._grid.n_tiles(shape, tile_px, region=window) for window in windows)

    def _windows(self, shape: Sequence[int], region: Region | None, n_times: int) -> list[Region | None]:
        """What is computed each time: the last time the region, before that what the next time has to see."""
        if region is None:
            return [None] * n_times
        reach = self.halo_px + self._grid.grid_px  # contexts begin on the grid
        return [region.grown(reach * left, tuple(shape)) if left else region for left in reversed(range(n_times))]

    def _check(self, image: NDArray[np.float32], n_times: int) -> None:
        if image.ndim != self.n_dims or 0 in image.shape:
            raise ImageError(
                f"an image of shape {image.shape} cannot be restored: the network takes images of {self.n_dims} "
                "dimensions"
            )
        if not 1 <= n_times <= MAX_REPEATS:
            raise ParameterError(f"the network is to be applied {n_times} times; expected 1 to {MAX_REPEATS}")

    def _apply(self, part: NDArray[np.float32]) -> NDArray[np.float32]:
        whole, crop = padded(part, self._grid.grid_px)
        with torch.inference_mode():
            y = self._net(torch.from_numpy(whole)[None].to(self.choice.torch_device))
        found: NDArray[np.float32] = y[0].float().cpu().numpy()
        return found[crop]


class RestoreEnhancer:
    """A restoration of single planes behind the contract of every filter; the strength blends it with the image.

    Parameters
    ----------
    module : CSBUNet
        Of two dimensions and one channel.
    info : FilterInfo
    choice : DeviceChoice
    """

    bytes_per_px = _BYTES_PER_PX

    def __init__(self, module: CSBUNet, info: FilterInfo, choice: DeviceChoice) -> None:
        if module.settings.n_dims != 2:
            raise ImageError("only a network of single planes can be used as a filter; restore volumes instead")
        self.info, self.choice = info, choice
        self._restorer = Restorer(module, choice)

    @property
    def halo_px(self) -> int:
        """Context that ``encode`` adds to a region."""
        return self._restorer.halo_px

    def calibrate(self, planes: Sequence[NDArray[np.float32]], checkpoint: Checkpoint) -> None:
        """Nothing to measure: the normaliser brings planes to the range of the network."""

    def encode(self, plane: NDArray[np.float32], region: Region, calibration: Any) -> BeforeAfter:
        """Restore a region, with the context it needs."""
        return BeforeAfter(plane[region.slices].copy(), self._restorer.restore(plane, region=region).mean)

    def decode(self, features: BeforeAfter, strength: float) -> NDArray[np.float32]:
        """Blend; strengths above 1 count as 1."""
        return features.blended(strength)

    def calibrate_and_encode(self, plane: NDArray[np.float32], checkpoint: Checkpoint) -> tuple[Any, Any] | None:
        """None: planes are tiled like any other."""
        return None
