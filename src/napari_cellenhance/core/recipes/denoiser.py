"""A trained denoiser on planes and volumes of any size, in tiles that do not show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from napari_cellenhance.core.device import DeviceChoice
from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.core.models.csb_unet import CSBUNet
from napari_cellenhance.core.models.csb_unet_folded import FoldedUNet
from napari_cellenhance.core.models.denoiser import DenoisingNetwork
from napari_cellenhance.core.recipes.protocol import Checkpoint, FilterInfo
from napari_cellenhance.core.recipes.tiled import TILE_PLANES, TILE_PX, BeforeAfter, TileGrid, padded, window_of
from napari_cellenhance.core.tiling import Region

__all__ = ["DenoiseEnhancer", "Denoiser", "Moments"]

_BYTES_PER_PX = 900
"""Peak of one pass in float32, per pixel of a tile with its context."""
_BAND_PX = 1 << 18


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and standard deviation per channel, float32 of shape (C,)."""

    mean: NDArray[np.float32]
    std: NDArray[np.float32]

    @classmethod
    def of(cls, images: Sequence[NDArray[np.float32]]) -> Moments:
        """Of images (C, …), pooled."""
        mean, std = [], []
        for channel in zip(*images, strict=True):
            n = sum(part.size for part in channel)
            mu = sum(float(band.sum(dtype=np.float64)) for band in _bands(channel)) / n
            squares = sum(float(np.square(band - mu, dtype=np.float64).sum()) for band in _bands(channel)) / n
            mean.append(mu)
            std.append(np.sqrt(squares))
        return cls(np.array(mean, np.float32), np.array(std, np.float32))


def _bands(parts: Sequence[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """Rows of planes or volumes, or pixels in a row, some at a time: sums need no copy as large as a plane."""
    for part in parts:
        for plane in part.reshape(-1, *part.shape[-2:]):
            step = max(1, _BAND_PX // (plane.shape[-1] if plane.ndim > 1 else 1))
            yield from (plane[row : row + step] for row in range(0, len(plane), step))


class Denoiser:
    """A trained network, ready for images of any size.

    Parameters
    ----------
    module : DenoisingNetwork
        Not modified: its training can go on.
    choice : DeviceChoice
        Device and precision.
    """

    def __init__(self, module: DenoisingNetwork, choice: DeviceChoice) -> None:
        self.choice = choice
        self.n_channels, self.n_dims = module.n_channels, module.n_dims
        self.is_joint, self.statistics = module.is_joint, module.statistics
        self.grid_px = module.grid_px
        self._grid = TileGrid(module.n_dims, module.radius_px, module.grid_px)
        self.halo_px = self._grid.halo_px
        self._stored = Moments(module.mean.cpu().numpy().copy(), module.std.cpu().numpy().copy())
        self._nets: list[nn.Module] = [
            FoldedUNet(net, choice.dtype).to(choice.torch_device) for net in module.nets if isinstance(net, CSBUNet)
        ]

    def moments_of(self, images: Sequence[NDArray[np.float32]]) -> Moments:
        """What brings images (C, …) to the range of the network: stored, or measured on all of them pooled."""
        return self._stored if self.statistics == "stored" else Moments.of(images)

    def denoise(
        self,
        image: NDArray[np.float32],
        *,
        moments: Moments | None = None,
        region: Region | None = None,
        n_symmetries: int = 1,
        tile_px: int = TILE_PX,
        tile_planes: int = TILE_PLANES,
        on_tile: Callable[[], None] = lambda: None,
        checkpoint: Checkpoint = lambda: None,
    ) -> NDArray[np.float32]:
        """Restore an image, or a window of it with the rest as its context.

        Parameters
        ----------
        image : ndarray of shape (C, [Z,] Y, X)
            Normalised as in training; not modified.
        moments : Moments or None
            None: those of the network, or of this image.
        region : Region or None
            Window of the planes; None for all of them.
        n_symmetries : 1 or 8
            8: the mean over all turned and flipped versions of each tile.
        tile_px, tile_planes : int
            Sides of a tile without its context; the result does not depend on them, but for rounding.
        on_tile : callable
            Called after each tile.
        checkpoint : callable
            Called before each tile; raises to stop.

        Returns
        -------
        ndarray of float32, shape (C, [Z,] Y, X)
            In the units of ``image``. A channel of one single grey value comes back as it is.

        Raises
        ------
        ImageError
            Other channels or dimensions, no pixels, or values that are no numbers.
        """
        self._check(image)
        used = moments or self.moments_of([image])
        shape = (-1, *[1] * (image.ndim - 1))
        flat = used.std <= 0
        mean, std = used.mean.reshape(shape), np.where(flat, 1.0, used.std).astype(np.float32).reshape(shape)

        def restored(part: NDArray[np.float32]) -> NDArray[np.float32]:
            return self._restore((part - mean) / std, n_symmetries) * std + mean

        result = self._grid.run(
            image, restored, image.shape[0], region=region, tile_px=tile_px, tile_planes=tile_planes, on_tile=on_tile,
            checkpoint=checkpoint,
        )  # fmt: skip
        result[flat] = image[(slice(None), *window_of(image.shape[1:], region))][flat]
        return result

    def n_tiles(self, shape: Sequence[int], tile_px: int = TILE_PX, tile_planes: int = TILE_PLANES) -> int:
        """Tiles of an image with spatial sides ``shape``."""
        return self._grid.n_tiles(shape, tile_px, tile_planes)

    def _check(self, image: NDArray[np.float32]) -> None:
        if image.ndim != self.n_dims + 1 or image.shape[0] != self.n_channels or 0 in image.shape:
            raise ImageError(
                f"an image of shape {image.shape} cannot be denoised: the network takes {self.n_channels} channel(s) "
                f"of {self.n_dims} dimensions"
            )

    def _restore(self, part: NDArray[np.float32], n_symmetries: int) -> NDArray[np.float32]:
        """Run the network on a standardised tile (C, …)."""
        whole, crop = padded(part, self.grid_px)
        if n_symmetries == 1:
            return self._run(whole)[crop]
        total = np.zeros(whole.shape, np.float32)
        for k in range(8):
            turned = np.rot90(whole, k % 4, axes=(-2, -1))
            turned = turned[..., ::-1] if k >= 4 else turned
            restored = self._run(np.ascontiguousarray(turned))
            restored = restored[..., ::-1] if k >= 4 else restored
            total += np.rot90(restored, -(k % 4), axes=(-2, -1))
        return (total * np.float32(0.125))[crop]

    def _run(self, whole: NDArray[np.float32]) -> NDArray[np.float32]:
        x = torch.from_numpy(whole)[None].to(self.choice.torch_device)
        with torch.inference_mode():
            if self.is_joint:
                y = self._nets[0](x)
            else:
                y = torch.cat([net(x[:, c : c + 1])[:, :1] for c, net in enumerate(self._nets)], dim=1)
        found: NDArray[np.float32] = y[0].float().cpu().numpy()
        return found


class DenoiseEnhancer:
    """A denoiser of single planes behind the contract of every filter; the strength s blends: (1 − s)·x + s·f(x).

    Parameters
    ----------
    module : DenoisingNetwork
        Of one channel and two dimensions.
    info : FilterInfo
    choice : DeviceChoice
    """

    bytes_per_px = _BYTES_PER_PX

    def __init__(self, module: DenoisingNetwork, info: FilterInfo, choice: DeviceChoice) -> None:
        if module.n_dims != 2 or module.n_channels != 1:
            raise ImageError("only a denoiser of single planes and one channel can be used as a filter")
        self.info, self.choice = info, choice
        self._denoiser = Denoiser(module, choice)

    @property
    def halo_px(self) -> int:
        """Context that ``encode`` adds to a region."""
        return self._denoiser.halo_px

    def calibrate(self, planes: Sequence[NDArray[np.float32]], checkpoint: Checkpoint) -> Moments:
        """Mean and standard deviation that bring the planes to the range of the network."""
        return self._denoiser.moments_of([plane[None] for plane in planes])

    def encode(self, plane: NDArray[np.float32], region: Region, calibration: Moments) -> BeforeAfter:
        """Denoise a region, with the context it needs."""
        after = self._denoiser.denoise(plane[None], moments=calibration, region=region)[0]
        return BeforeAfter(plane[region.slices].copy(), after)

    def decode(self, features: BeforeAfter, strength: float) -> NDArray[np.float32]:
        """Blend; strengths above 1 count as 1."""
        return features.blended(strength)

    def calibrate_and_encode(self, plane: NDArray[np.float32], checkpoint: Checkpoint) -> tuple[Any, Any] | None:
        """None: planes are tiled like any other."""
        return None
