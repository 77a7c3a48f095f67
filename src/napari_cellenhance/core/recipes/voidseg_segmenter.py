"""VoidSeg on planes of any size: denoised where the scheme says so, then segmented, in tiles that do not show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from napari_cellenhance.core.device import DeviceChoice
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.models.csb_unet import CSBUNet
from napari_cellenhance.core.models.csb_unet_folded import FoldedUNet
from napari_cellenhance.core.models.denoiser import DenoisingNetwork
from napari_cellenhance.core.models.voidseg import N_CLASSES, VoidSegNetwork
from napari_cellenhance.core.recipes.denoiser import Denoiser
from napari_cellenhance.core.recipes.protocol import Checkpoint
from napari_cellenhance.core.three_classes import VALUES
from napari_cellenhance.core.tiling import Region, split

__all__ = ["PlaneDenoiser", "ThreeClasses", "VoidSegmenter", "probabilities_of"]

TILE_PX = 512


@dataclass(frozen=True, slots=True)
class ThreeClasses:
    """A segmented region.

    Parameters
    ----------
    labels : ndarray of int32, shape (Y, X)
        1 ground, 2 inside, 3 border: the most probable one, of equal ones the first.
    probabilities : ndarray of float32, shape (3, Y, X)
        Sum to 1.
    denoised : ndarray of float32, shape (1, Y, X), or (0, Y, X)
        What the network looked at; empty where there is no denoiser.
    values : tuple of int
    """

    labels: NDArray[np.int32]
    probabilities: NDArray[np.float32]
    denoised: NDArray[np.float32]
    values: tuple[int, ...] = VALUES


class PlaneDenoiser:
    """A frozen denoiser of planes that are normalised as in its training.

    Parameters
    ----------
    module : DenoisingNetwork
        Not modified.
    choice : DeviceChoice
    """

    def __init__(self, module: DenoisingNetwork, choice: DeviceChoice) -> None:
        self._denoiser = Denoiser(module, choice)
        self.halo_px, self.grid_px = self._denoiser.halo_px, self._denoiser.grid_px

    def __call__(
        self, plane: NDArray[np.float32], *, region: Region | None = None, checkpoint: Checkpoint = lambda: None
    ) -> NDArray[np.float32]:
        """Denoise a plane (Y, X), or a window of it with the rest as its context."""
        given = np.asarray(plane, np.float32)[None]
        return np.asarray(self._denoiser.denoise(given, region=region, checkpoint=checkpoint)[0], np.float32)


def probabilities_of(
    run: Callable[[torch.Tensor], torch.Tensor],
    plane: NDArray[np.float32],
    region: Region,
    *,
    grid_px: int,
    radius_px: int,
    tile_px: int = TILE_PX,
    device: str = "cpu",
    on_tile: Callable[[Region], None] = lambda region: None,
    checkpoint: Checkpoint = lambda: None,
) -> NDArray[np.float32]:
    """Softmax of what a network without instance norms finds in a window, tile by tile.

    Parameters
    ----------
    run : callable
        Standardised planes (1, 1, Y, X), sides multiples of ``grid_px`` → logits (1, C ≥ 3, Y, X), the classes last.
    plane : ndarray of float32, shape (Y, X)
        Standardised.
    region : Region
        Window of the plane.
    grid_px, radius_px : int
        Of the network.

    Returns
    -------
    ndarray of float32, shape (3, Y, X)
        Of the window.
    """
    result = np.empty((N_CLASSES, *region.shape), np.float32)
    halo_px = -(-radius_px // grid_px) * grid_px
    for core in _cores(region, tile_px, grid_px):
        checkpoint()
        outer = core.grown(halo_px, plane.shape)
        outer = Region(outer.y0 // grid_px * grid_px, outer.y1, outer.x0 // grid_px * grid_px, outer.x1)
        part = plane[outer.slices]
        widths = [(0, -size % grid_px) for size in part.shape]
        is_long = all(size > more for size, (_, more) in zip(part.shape, widths, strict=True))
        padded = np.ascontiguousarray(np.pad(part, widths, mode="reflect" if is_long else "edge"))
        with torch.inference_mode():
            logits = run(torch.from_numpy(padded)[None, None].to(device))[:, -N_CLASSES:]
            found = logits.float().softmax(dim=1)[0].cpu().numpy()
        result[(slice(None), *core.inside(region).slices)] = found[(slice(None), *core.inside(outer).slices)]
        on_tile(core)
    return result


def _cores(region: Region, tile_px: int, grid_px: int) -> Iterator[Region]:
    """Windows that cover the region; they begin on the grid of the plane, or where the region does."""
    y0, x0 = region.y0 // grid_px * grid_px, region.x0 // grid_px * grid_px
    for tile in split((region.y1 - y0, region.x1 - x0), tile_px, 0, grid_px):
        core = tile.core
        yield Region(max(region.y0, core.y0 + y0), core.y1 + y0, max(region.x0, core.x0 + x0), core.x1 + x0)


class VoidSegmenter:
    """A trained network, ready for planes of any size.

    Parameters
    ----------
    module : VoidSegNetwork
        Not modified: its training can go on.
    choice : DeviceChoice
        Device and precision.
    """

    values = VALUES

    def __init__(self, module: VoidSegNetwork, choice: DeviceChoice) -> None:
        self.choice = choice
        self.denoiser = None if module.denoiser is None else PlaneDenoiser(module.denoiser, choice)
        self._mean, self._std = float(module.mean), float(module.std)
        settings = module.unet.settings
        self._grid_px, self._radius_px = settings.grid_px, settings.radius_px
        self._net = _folded(module.unet, choice)

    @property
    def halo_px(self) -> int:
        """Context that each tile reads around itself, in pixels; twice as much where planes are denoised first."""
        own = -(-self._radius_px // self._grid_px) * self._grid_px
        return own + (0 if self.denoiser is None else self.denoiser.halo_px)

    def prepare(
        self, plane: NDArray[np.float32], *, region: Region | None = None, checkpoint: Checkpoint = lambda: None
    ) -> NDArray[np.float32]:
        """What the U-Net looks at, before it is standardised: the plane, denoised where there is a denoiser.

        Only ``region`` and the context it needs are filled in.
        """
        prepared = np.array(plane, np.float32)
        if self.denoiser is None:
            return prepared
        window = (region or Region.whole(plane)).grown(self._radius_px + self._grid_px, plane.shape)
        prepared[window.slices] = self.denoiser(plane, region=window, checkpoint=checkpoint)
        return prepared

    def probabilities(
        self,
        prepared: NDArray[np.float32],
        *,
        region: Region | None = None,
        tile_px: int = TILE_PX,
        on_tile: Callable[[Region], None] = lambda region: None,
        checkpoint: Checkpoint = lambda: None,
    ) -> NDArray[np.float32]:
        """Probabilities (3, Y, X) of a window of a plane that :meth:`prepare` made."""
        standardised = (prepared - np.float32(self._mean)) / np.float32(self._std)
        return probabilities_of(
            self._net, standardised, region or Region.whole(prepared), grid_px=self._grid_px,
            radius_px=self._radius_px, tile_px=tile_px, device=self.choice.torch_device, on_tile=on_tile,
            checkpoint=checkpoint,
        )  # fmt: skip

    def segment(
        self,
        plane: NDArray[np.float32],
        *,
        region: Region | None = None,
        tile_px: int = TILE_PX,
        on_tile: Callable[[Region], None] = lambda region: None,
        checkpoint: Checkpoint = lambda: None,
    ) -> ThreeClasses:
        """Segment a plane, or a window of it with the rest as its context.

        Parameters
        ----------
        plane : ndarray of shape (Y, X)
            Normalised as in training. Not modified.
        region : Region or None
            Window to compute; None for the whole plane.
        tile_px : int
            Side of a tile without its context; the result does not depend on it, but for rounding.
        on_tile : callable
            Called after each tile with its window of the plane.
        checkpoint : callable
            Called before each tile; raises to stop.

        Raises
        ------
        ImageError
            Not a plane, no pixels, or values that are no numbers.
        ParameterError
            A region that is empty or not inside the plane, or a tile below 1 px.
        """
        if plane.ndim != 2 or plane.size == 0:
            raise ImageError(f"an image of shape {plane.shape} cannot be segmented; expected one plane (Y, X)")
        window = region or Region.whole(plane)
        if not (0 <= window.y0 < window.y1 <= plane.shape[0] and 0 <= window.x0 < window.x1 <= plane.shape[1]):
            raise ParameterError(f"{window} is no window of a plane of shape {plane.shape}")
        seen = self._seen(window, plane.shape)
        plane, window = plane[seen.slices], window.inside(seen)  # never a copy of more than is looked at
        if not np.isfinite(plane).all():
            raise ImageError("the image has pixels that are no numbers (NaN or infinite); replace them first")

        def tell(core: Region) -> None:
            on_tile(Region(core.y0 + seen.y0, core.y1 + seen.y0, core.x0 + seen.x0, core.x1 + seen.x0))

        prepared = self.prepare(plane, region=window, checkpoint=checkpoint)
        found = self.probabilities(prepared, region=window, tile_px=tile_px, on_tile=tell, checkpoint=checkpoint)
        denoised = prepared[window.slices][None] if self.denoiser is not None else np.zeros((0, *window.shape))
        return ThreeClasses(
            labels=(found.argmax(axis=0) + 1).astype(np.int32),
            probabilities=found,
            denoised=np.array(denoised, np.float32),
        )

    def _seen(self, window: Region, shape: tuple[int, ...]) -> Region:
        """A window with all that its pixels depend on; begins on the grid of both networks."""
        grid = max(self._grid_px, 1 if self.denoiser is None else self.denoiser.grid_px)  # powers of 2
        outer = window.grown(self.halo_px + 2 * grid, shape)
        return Region(outer.y0 // grid * grid, outer.y1, outer.x0 // grid * grid, outer.x1)


def _folded(unet: CSBUNet, choice: DeviceChoice) -> FoldedUNet:
    return FoldedUNet(unet, choice.dtype).to(choice.torch_device)
