"""AEP as a segmenter of planes: tile by tile with the context it needs, every by-product included."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from napari_cellenhance.core.device import DeviceChoice
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.models.aep import AEP, GRID_PX, AEPOutput
from napari_cellenhance.core.models.segmentation_baseline import SegmentationNetwork
from napari_cellenhance.core.painted import check_values
from napari_cellenhance.core.recipes.protocol import Checkpoint
from napari_cellenhance.core.tiling import Region, padded_index

__all__ = ["AEPSegmenter", "GridPlane", "Segmentation", "aligned_tiles", "run_filters", "run_window"]

TILE_PX = 512


@dataclass(frozen=True, slots=True)
class Segmentation:
    """A segmented region with everything the networks made on the way.

    Parameters
    ----------
    labels : ndarray of int32, shape (Y, X)
        Label value of the most probable class; of equal ones the first.
    probabilities : ndarray of float32, shape (C, Y, X)
        Sum to 1.
    filters : ndarray of float32, shape (F, Y, X)
        0 or more, no upper limit.
    translated : ndarray of float32, shape (F, Y, X)
        The enhanced images; in [0.5, 1) or [0.5, 2), so displays need their own contrast limits.
    branches : ndarray of int32, shape (F + 1, Y, X)
        Labels of each branch alone.
    branch_names : tuple of str
        "image", "filter 1", …
    branch_weights : ndarray of float64, shape (F + 1,)
        Weight of each branch in the ensemble; may be negative.
    values : tuple of int
        Label value of each class.
    """

    labels: NDArray[np.int32]
    probabilities: NDArray[np.float32]
    filters: NDArray[np.float32]
    translated: NDArray[np.float32]
    branches: NDArray[np.int32]
    branch_names: tuple[str, ...]
    branch_weights: NDArray[np.float64]
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GridPlane:
    """A plane seen as padded by reflection to multiples of 8 and clipped to [0, 1]; only windows are copied.

    Parameters
    ----------
    plane : ndarray of float32, shape (Y, X)
    rows, columns : ndarray of int
        Row and column of the plane that each one of the padded plane is.
    origin : tuple of int
        Row and column of the plane's first pixel.
    """

    plane: NDArray[np.float32]
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    origin: tuple[int, int]

    @classmethod
    def of(cls, plane: NDArray[np.float32]) -> GridPlane:
        """See a plane of shape (Y, X), in [0, 1], as padded.

        Raises
        ------
        ImageError
            Not a plane, or no pixels.
        """
        if plane.ndim != 2 or plane.size == 0:
            raise ImageError(f"an image of shape {plane.shape} cannot be segmented; expected one plane (Y, X)")
        rows, top = padded_index(plane.shape[0], GRID_PX)
        columns, left = padded_index(plane.shape[1], GRID_PX)
        return cls(plane, rows, columns, (top, left))

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width with the padding."""
        return len(self.rows), len(self.columns)

    def __getitem__(self, window: tuple[slice, slice]) -> NDArray[np.float32]:
        """Copy of a window of the padded plane, as of an array.

        Raises
        ------
        ImageError
            Values that are no numbers.
        """
        rows, columns = self.rows[window[0]], self.columns[window[1]]
        pixels = self.plane[rows[:, None], columns[None, :]].astype(np.float32, copy=False)
        if not np.isfinite(pixels).all():
            raise ImageError("the image has pixels that are no numbers (NaN or infinite); replace them first")
        return pixels.clip(0.0, 1.0)

    def shift(self, region: Region) -> Region:
        """Window of the plane → the same window of the padded plane."""
        dy, dx = self.origin
        return Region(region.y0 + dy, region.y1 + dy, region.x0 + dx, region.x1 + dx)

    def shift_back(self, region: Region) -> Region:
        """Inverse of :meth:`shift`."""
        dy, dx = self.origin
        return Region(region.y0 - dy, region.y1 - dy, region.x0 - dx, region.x1 - dx)


def aligned_tiles(region: Region, tile_px: int) -> Iterator[Region]:
    """Windows on the 8-px grid that cover ``region``, which is grown to that grid; row by row.

    Parameters
    ----------
    region : Region
        Of a padded plane.
    tile_px : int
        Side of a window, rounded up to a multiple of 8.

    Raises
    ------
    ParameterError
        ``tile_px`` below 1.
    """
    if tile_px < 1:
        raise ParameterError(f"tiles of {tile_px} px are not possible; expected at least 1 px")
    side = _up_to_grid(tile_px)
    y_end, x_end = _up_to_grid(region.y1), _up_to_grid(region.x1)
    for y0 in range(region.y0 // GRID_PX * GRID_PX, y_end, side):
        for x0 in range(region.x0 // GRID_PX * GRID_PX, x_end, side):
            yield Region(y0, min(y0 + side, y_end), x0, min(x0 + side, x_end))


def run_window(
    module: SegmentationNetwork, pixels: NDArray[np.float32] | GridPlane, window: Region, *, use_bf16: bool = False
) -> AEPOutput:
    """Run a network in eval mode on one window of a padded plane, with all the context that the window sees.

    Parameters
    ----------
    module : SegmentationNetwork
    pixels : GridPlane, or ndarray of float32 of shape (Y, X)
        Padded plane, sides multiples of 8.
    window : Region
        On the 8-px grid.
    use_bf16 : bool
        bf16 autocast.

    Returns
    -------
    AEPOutput
        Of the window, batch of one; equal to the same window of a run on the whole plane, but for rounding.

    Notes
    -----
    The context is 88 px for AEP, not 48: the filters see 43 px, and Network 2 sees 43 px of filters.
    """
    outer = window.grown(_up_to_grid(module.radius_px), pixels.shape)
    device = next(module.parameters()).device
    x = torch.from_numpy(np.ascontiguousarray(pixels[outer.slices]))[None, None].to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=use_bf16):
        output: AEPOutput = module(x)
    return output.window(*window.inside(outer).slices)


def run_filters(
    module: AEP, pixels: NDArray[np.float32] | GridPlane, window: Region, *, use_bf16: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run Network 1 alone, in eval mode, on one window of a padded plane, with the context that its filters need.

    Parameters
    ----------
    module : AEP
    pixels : GridPlane, or ndarray of float32 of shape (Y, X)
        Padded plane, sides multiples of 8.
    window : Region
        Any window.
    use_bf16 : bool
        bf16 autocast.

    Returns
    -------
    x : Tensor of shape (1, 1, Y, X)
        The window itself.
    filters : Tensor of shape (1, F, Y, X)
    """
    grid = Region(
        window.y0 // GRID_PX * GRID_PX, _up_to_grid(window.y1), window.x0 // GRID_PX * GRID_PX, _up_to_grid(window.x1)
    )
    outer = grid.grown(_up_to_grid(module.filters_radius_px), pixels.shape)
    device = next(module.parameters()).device
    x = torch.from_numpy(np.ascontiguousarray(pixels[outer.slices]))[None, None].to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=use_bf16):
        filters = module.filters_of(x)
    inside = (..., *window.inside(outer).slices)
    return x[inside], filters[inside]


class AEPSegmenter:
    """A trained network, ready for planes of any size.

    Parameters
    ----------
    module : AEP or PlainSegmenter
        Copied, so that its training can go on.
    values : sequence of int
        Label value of each class, increasing, such as (1, 2, 3).
    choice : DeviceChoice
        Device and precision.

    Raises
    ------
    ParameterError
        Values that do not fit the network.
    """

    def __init__(self, module: SegmentationNetwork, values: Sequence[int], choice: DeviceChoice) -> None:
        self.values = check_values(values)
        if len(self.values) != module.n_classes:
            raise ParameterError(
                f"{len(self.values)} label values were given for a network of {module.n_classes} classes"
            )
        self.choice = choice
        self._net = copy.deepcopy(module).eval().to(choice.torch_device).to_channels_last()

    @property
    def halo_px(self) -> int:
        """Context that each tile reads around itself, in pixels."""
        return _up_to_grid(self._net.radius_px)

    def segment(
        self,
        plane: NDArray[np.float32],
        *,
        region: Region | None = None,
        tile_px: int = TILE_PX,
        on_tile: Callable[[Region], None] = lambda region: None,
        checkpoint: Checkpoint = lambda: None,
    ) -> Segmentation:
        """Segment a plane, or a window of it with the rest as its context.

        Parameters
        ----------
        plane : ndarray of shape (Y, X)
            Normalised as in training; clipped to [0, 1]. Not modified.
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
            A region that is empty or not inside the plane.
        """
        padded = GridPlane.of(plane)
        region = Region.whole(plane) if region is None else region
        if not (0 <= region.y0 < region.y1 <= plane.shape[0] and 0 <= region.x0 < region.x1 <= plane.shape[1]):
            raise ParameterError(f"{region} is no window of a plane of shape {plane.shape}")
        result = self._empty(region.shape)
        for tile in aligned_tiles(padded.shift(region), tile_px):
            checkpoint()
            with torch.inference_mode():
                output = run_window(self._net, padded, tile, use_bf16=self.choice.precision == "bfloat16")
            at = _common(padded.shift_back(tile), region)
            self._write(output.window(*padded.shift(at).inside(tile).slices), result, at.inside(region))
            on_tile(at)
        return result

    def _empty(self, shape: tuple[int, int]) -> Segmentation:
        n = self._net.n_filters
        weights = self._net.branch_weights().double().cpu().numpy().copy()
        return Segmentation(
            labels=np.zeros(shape, np.int32),
            probabilities=np.zeros((len(self.values), *shape), np.float32),
            filters=np.zeros((n, *shape), np.float32),
            translated=np.zeros((n, *shape), np.float32),
            branches=np.zeros((n + 1, *shape), np.int32),
            branch_names=self._net.branch_names,
            branch_weights=weights,
            values=self.values,
        )

    def _write(self, output: AEPOutput, result: Segmentation, at: Region) -> None:
        """Fill in the window ``at`` of the result."""
        values = np.asarray(self.values, np.int32)
        window = (slice(None), *at.slices)
        result.labels[at.slices] = values[output.logits[0].argmax(dim=0).cpu().numpy()]
        result.probabilities[window] = output.probabilities[0].cpu().numpy()
        result.filters[window] = output.filters[0].float().cpu().numpy()
        result.translated[window] = output.translated[0].float().cpu().numpy()
        result.branches[window] = values[output.branches[0].argmax(dim=1).cpu().numpy()]


def _up_to_grid(size: int) -> int:
    return -(-size // GRID_PX) * GRID_PX


def _common(first: Region, second: Region) -> Region:
    """Window that both regions cover."""
    return Region(
        max(first.y0, second.y0), min(first.y1, second.y1), max(first.x0, second.x0), min(first.x1, second.x1)
    )
