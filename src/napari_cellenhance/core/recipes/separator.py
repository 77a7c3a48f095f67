"""A trained semantic filter on planes of any size; and as a filter among others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from napari_cellenhance.core.device import DeviceChoice
from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.core.models.semantic_unet import GRID_PX, RADIUS_PX, FastSemanticUNet, SemanticUNet
from napari_cellenhance.core.recipes.protocol import Checkpoint, FilterInfo
from napari_cellenhance.core.recipes.tiled import BeforeAfter, TileGrid, padded
from napari_cellenhance.core.tiling import Region

__all__ = ["SEPARATOR_TILE_PX", "SeparateEnhancer", "Separator"]

SEPARATOR_TILE_PX: Final = 1024
"""Side of a tile without its context of 160 px: large, because the network is light and sees far."""
_BYTES_PER_PX = 500
"""Generous estimate of one pass in float32, per pixel of a tile with its context."""


class Separator:
    """A trained network, ready for planes of any size.

    Parameters
    ----------
    module : SemanticUNet
        Not modified.
    choice : DeviceChoice
        Device and precision.
    """

    def __init__(self, module: SemanticUNet, choice: DeviceChoice) -> None:
        self.choice, self.n_in, self.n_out = choice, module.n_in, module.n_out
        self._grid = TileGrid(2, RADIUS_PX, GRID_PX)
        self.halo_px = self._grid.halo_px
        self._net = FastSemanticUNet(module, choice.dtype).to(choice.torch_device)

    def separate(
        self,
        image: NDArray[np.float32],
        *,
        region: Region | None = None,
        tile_px: int = SEPARATOR_TILE_PX,
        on_tile: Callable[[], None] = lambda: None,
        checkpoint: Checkpoint = lambda: None,
    ) -> NDArray[np.float32]:
        """Layers of a plane, or of a window of it with the rest as its context.

        Parameters
        ----------
        image : ndarray of shape (C, Y, X), float32
            Scaled as in training; not modified.
        region : Region or None
            Window of the plane; None for all of it.
        tile_px : int
            Side of a tile without its context; the result does not depend on it, but for rounding.
        on_tile : callable
            Called after each tile.
        checkpoint : callable
            Called before each tile; raises to stop.

        Returns
        -------
        ndarray of float32, shape (``n_out``, Y, X)
            Not limited to any range.

        Raises
        ------
        ImageError
            Other channels or dimensions, no pixels, or values that are no numbers.
        """
        if image.ndim != 3 or image.shape[0] != self.n_in or 0 in image.shape:
            raise ImageError(
                f"an image of shape {image.shape} does not fit the model; expected a plane of {self.n_in} channel(s)"
            )
        return self._grid.run(
            image, self._apply, self.n_out, region=region, tile_px=tile_px, on_tile=on_tile, checkpoint=checkpoint
        )

    def n_tiles(self, shape: Sequence[int], tile_px: int = SEPARATOR_TILE_PX, region: Region | None = None) -> int:
        """Tiles of a plane with sides ``shape``, or of a window of it."""
        return self._grid.n_tiles(shape, tile_px, region=region)

    def _apply(self, part: NDArray[np.float32]) -> NDArray[np.float32]:
        whole, crop = padded(part, GRID_PX)
        with torch.inference_mode():
            y = self._net(torch.from_numpy(whole)[None].to(self.choice.torch_device))
        found: NDArray[np.float32] = y[0].float().cpu().numpy()
        return found[crop]


class SeparateEnhancer:
    """A semantic filter of grey planes behind the contract of every filter; the strength blends it with the image.

    Parameters
    ----------
    module : SemanticUNet
        Of one channel; of several layers the first, the wanted one, is shown.
    info : FilterInfo
    choice : DeviceChoice

    Raises
    ------
    ImageError
        A network of several channels.
    """

    bytes_per_px = _BYTES_PER_PX

    def __init__(self, module: SemanticUNet, info: FilterInfo, choice: DeviceChoice) -> None:
        if module.n_in != 1:
            raise ImageError("only a network of grey planes can be used as a filter; separate colours instead")
        self.info, self.choice = info, choice
        self._separator = Separator(module, choice)

    @property
    def halo_px(self) -> int:
        """Context that ``encode`` adds to a region."""
        return self._separator.halo_px

    def calibrate(self, planes: Sequence[NDArray[np.float32]], checkpoint: Checkpoint) -> None:
        """Nothing to measure: the normaliser brings planes to the range of the network."""

    def encode(self, plane: NDArray[np.float32], region: Region, calibration: Any) -> BeforeAfter:
        """Filter a region, with the context it needs."""
        return BeforeAfter(plane[region.slices].copy(), self._separator.separate(plane[None], region=region)[0])

    def decode(self, features: BeforeAfter, strength: float) -> NDArray[np.float32]:
        """Blend; strengths above 1 count as 1."""
        return features.blended(strength)

    def calibrate_and_encode(self, plane: NDArray[np.float32], checkpoint: Checkpoint) -> tuple[Any, Any] | None:
        """None: planes are tiled like any other."""
        return None
