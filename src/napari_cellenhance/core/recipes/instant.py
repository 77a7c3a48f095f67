"""From strokes to a segmentation at once: a linear classifier on what a pretrained network sees.

The features of an image do not depend on what is painted on it. They are computed once, tile by tile; a new stroke
pays only for fitting a few hundred weights and for applying them.

References
----------
.. [1] Berg et al., "ilastik: interactive machine learning for (bio)image analysis", Nat. Methods 16, 2019: the same
   idea with hand-made features and a random forest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax
from torch import Tensor

from napari_cellenhance.core.device import DeviceChoice
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.models.nunet import NUNet
from napari_cellenhance.core.models.nunet_features import (
    GRID_PX,
    FeatureMap,
    NUNetFeatures,
    group_sizes,
    linear_logits,
    n_channels,
    sample_features,
)
from napari_cellenhance.core.painted import (
    IGNORED,
    PaintedImage,
    balanced_weights,
    check_values,
    painted_values,
    to_targets,
)
from napari_cellenhance.core.recipes.padded_plane import PaddedPlane
from napari_cellenhance.core.recipes.protocol import Checkpoint
from napari_cellenhance.core.tiling import Region

__all__ = [
    "TILE_PX", "InstantFeatures", "InstantLearner", "InstantPrediction", "InstantSettings", "LinearHead", "Lookup",
    "TileFeatures", "check_region", "predict",
]  # fmt: skip

TILE_PX = 512

_FILTER_GAIN = 3.0
"""Weight of the hand-made filters against the network's maps: the larger, the less they are held back."""

_N_UNPAINTED = 2000
"""Pixels without paint that take part in measuring the spread of the features."""

_MIN_SPREAD = 1e-3
"""Least spread of a feature, over the largest one of its map: a feature that is almost constant is not blown up."""

_MIN_KEPT = 50
"""A class keeps this many of its pixels, if it has them, however rare it is."""

_MAX_STEPS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class InstantSettings:
    """How strokes become a classifier.

    Parameters
    ----------
    l2 : float
        Penalty on the squared weights of the standardised features; larger is smoother and safer with few strokes.
    is_balanced : bool
        Give every class the same say. Otherwise a class counts as much as it is painted, which is what thin classes
        such as borders need to stay thin.
    max_px : int
        Painted pixels to learn from; of more a random part, each class in proportion.
    seed : int
        Of that choice.

    Raises
    ------
    ParameterError
        A penalty that is not positive, or fewer than 100 pixels.
    """

    l2: float = 0.02
    is_balanced: bool = False
    max_px: int = 8000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.l2 < float("inf"):
            raise ParameterError(f"the penalty l2 is {self.l2}; expected a number above 0")
        if self.max_px < 100:
            raise ParameterError(f"{self.max_px} pixels are too few to learn from; expected at least 100")


@dataclass(frozen=True, slots=True)
class TileFeatures:
    """Features of a tile, ready to be sampled or classified.

    Parameters
    ----------
    region : Region
        Of the plane.
    maps : tuple of FeatureMap
        On the window of the padded plane that holds ``region``.
    origin : tuple of int
        Row and column of the plane's first pixel in the padded plane.
    """

    region: Region
    maps: tuple[FeatureMap, ...]
    origin: tuple[int, int]

    @property
    def n_bytes(self) -> int:
        """Memory of the maps."""
        return sum(each.n_bytes for each in self.maps)

    def at(self, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Tensor:
        """Features of pixels of the plane that lie in ``region``: (n, K), float32, on the CPU."""
        device = self.maps[0].values.device
        y, x = (torch.from_numpy(np.asarray(each, np.int64)).to(device) for each in (rows, columns))
        with torch.inference_mode():
            return sample_features(self.maps, y + self.origin[0], x + self.origin[1]).cpu()

    def logits(self, head: LinearHead, region: Region) -> Tensor:
        """Classify a window of the plane inside ``region``: (C, h, w), float32, on the device of the maps."""
        device, (top, left) = self.maps[0].values.device, self.origin
        wanted = Region(region.y0 + top, region.y1 + top, region.x0 + left, region.x1 + left)
        outer = _on_grid(wanted)
        weight, bias = (torch.from_numpy(each).to(device) for each in (head.weight, head.bias))
        with torch.inference_mode():
            found = linear_logits(self.maps, weight, bias, outer)
            return found[:, *wanted.inside(outer).slices]


Lookup = Callable[[int, Region], TileFeatures]
"""Number of an image, and one of the tiles of its plane → the features of that tile."""


class InstantFeatures:
    """A pretrained network as a source of features, tile by tile.

    Parameters
    ----------
    module : NUNet
        Trained network with ``norm="frozen"``; copied, not modified.
    choice : DeviceChoice
        Device and precision.
    tile_px : int
        Largest side of a tile.

    Raises
    ------
    ParameterError
        A network with instance norms, or a tile below 16 px.
    """

    def __init__(self, module: NUNet, choice: DeviceChoice, *, tile_px: int = TILE_PX) -> None:
        if module.norm != "frozen":
            raise ParameterError("features need a network with frozen norms; choose another model")
        if tile_px < 4 * GRID_PX:
            raise ParameterError(f"tiles of {tile_px} px are too small; expected at least {4 * GRID_PX} px")
        self.choice, self.tile_px = choice, tile_px
        self._net = NUNetFeatures(module, choice.torch_device, choice.dtype)

    def tiles(self, shape: tuple[int, int]) -> list[Region]:
        """Windows of about equal size that cover a plane of ``shape`` once, row by row."""
        # A plane of ones costs nothing and knows how real ones are padded.
        padded = PaddedPlane.of(np.broadcast_to(np.float32(0), shape))
        rows = _spans(shape[0], padded.shape[0], padded.top, self.tile_px)
        columns = _spans(shape[1], padded.shape[1], padded.left, self.tile_px)
        return [Region(y0, y1, x0, x1) for y0, y1 in rows for x0, x1 in columns]

    def compute(self, plane: NDArray[np.float32], tile: Region) -> TileFeatures:
        """Features of a tile with its true context.

        Parameters
        ----------
        plane : ndarray of float32, shape (Y, X)
            Normalised to [0, 1]; not modified.
        tile : Region
            Not empty, inside the plane.
        """
        padded = PaddedPlane.of(plane)
        window = _on_grid(padded.shift(tile))
        maps = self._net.extract(padded.source(self._net.device), window, padded.shape)
        return TileFeatures(tile, maps, (padded.top, padded.left))

    def lookup(self, planes: Sequence[NDArray[np.float32]]) -> Lookup:
        """Compute the tiles of ``planes`` whenever they are asked for, keeping none."""
        return lambda index, tile: self.compute(planes[index], tile)


@dataclass(frozen=True, slots=True)
class LinearHead:
    """A linear classifier of pixels.

    Parameters
    ----------
    weight : ndarray of float32, shape (C, K)
        For the features as they are, not standardised.
    bias : ndarray of float32, shape (C,)
    values : tuple of int
        Label value of each class, increasing.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    values: tuple[int, ...]

    def __post_init__(self) -> None:
        check_values(self.values)
        shape = (len(self.values), n_channels())
        if self.weight.shape != shape or self.bias.shape != shape[:1]:
            raise ParameterError(
                f"weights are of shape {self.weight.shape} and {self.bias.shape}; expected {shape} and {shape[:1]}"
            )


@dataclass(frozen=True, slots=True)
class InstantPrediction:
    """A classified region.

    Parameters
    ----------
    labels : ndarray of int32, shape (Y, X)
        Label value of the most probable class; of equal ones the first.
    probabilities : ndarray of float32, shape (C, Y, X)
        Sum to 1.
    values : tuple of int
        Label value of each class.
    """

    labels: NDArray[np.int32]
    probabilities: NDArray[np.float32]
    values: tuple[int, ...]


class InstantLearner:
    """Multinomial logistic regression on the features of painted pixels.

    Parameters
    ----------
    features : InstantFeatures
    settings : InstantSettings
    """

    def __init__(self, features: InstantFeatures, settings: InstantSettings | None = None) -> None:
        self.features = features
        self.settings = InstantSettings() if settings is None else settings

    def fit(
        self,
        images: Sequence[PaintedImage],
        *,
        lookup: Lookup | None = None,
        previous: LinearHead | None = None,
        checkpoint: Checkpoint = lambda: None,
    ) -> LinearHead:
        """Learn from the paint of all images together.

        Parameters
        ----------
        images : sequence of PaintedImage
            Those without paint add nothing.
        lookup : callable or None
            Source of the features; None computes them. Only tiles that hold paint are asked for.
        previous : LinearHead or None
            Where the search starts. The result is the same up to the tolerance of the search, and sooner there.
        checkpoint : callable
            Called before each tile and before the fit; raises to stop.

        Raises
        ------
        ImageError
            Too little paint, see :func:`~napari_cellenhance.core.painted.painted_values`.
        """
        values = painted_values(images)
        x, targets, others = self._gather(images, values, lookup, checkpoint)
        checkpoint()
        scaling = _Scaling.of(torch.cat([x, others]))
        counts = np.bincount(targets, minlength=len(values))
        classes = balanced_weights(counts) if self.settings.is_balanced else np.ones(len(values), np.float32)
        start = scaling.to_scaled(*_start(previous, values))
        fitted = _search(scaling.apply(x), targets, classes, start, self.settings.l2)
        weight, bias = scaling.from_scaled(*fitted)
        return LinearHead(weight.numpy(), bias.numpy(), values)

    def predict(
        self,
        head: LinearHead,
        plane: NDArray[np.float32],
        region: Region | None = None,
        *,
        checkpoint: Checkpoint = lambda: None,
    ) -> InstantPrediction:
        """Classify a plane or a window of it, computing the features anew; see :func:`predict`."""
        _check_plane(plane)
        plane = np.asarray(plane, np.float32).clip(0.0, 1.0)
        lookup = self.features.lookup([plane])
        return predict(
            head, plane.shape[:2], self.features.tiles(plane.shape[:2]), lambda tile: lookup(0, tile),
            region=region, checkpoint=checkpoint,
        )  # fmt: skip

    def _gather(
        self, images: Sequence[PaintedImage], values: tuple[int, ...], lookup: Lookup | None, checkpoint: Checkpoint
    ) -> tuple[Tensor, NDArray[np.int64], Tensor]:
        """Features and classes of the painted pixels; features of pixels that are not painted."""
        rng = np.random.default_rng(self.settings.seed)
        look = self.features.lookup([each.image for each in images]) if lookup is None else lookup
        targets = [to_targets(each.labels, values) for each in images]
        chosen = _choose(targets, self.settings.max_px, rng)
        tiles = [(i, tile) for i, mask in enumerate(chosen) for tile in _painted_tiles(self.features, mask)]
        n_others = -(-_N_UNPAINTED // len(tiles))
        x, y, others = [], [], []
        for i, tile in tiles:
            checkpoint()
            found = look(i, tile)
            rows, columns = np.nonzero(chosen[i][tile.slices])
            x.append(found.at(rows + tile.y0, columns + tile.x0))
            y.append(targets[i][tile.slices][rows, columns])
            flat = np.flatnonzero(targets[i][tile.slices] == IGNORED)
            if len(flat):
                rows, columns = np.divmod(rng.choice(flat, min(n_others, len(flat)), replace=False), tile.shape[1])
                others.append(found.at(rows + tile.y0, columns + tile.x0))
        return torch.cat(x), np.concatenate(y), torch.cat([*others, x[0][:0]])


def predict(
    head: LinearHead,
    shape: tuple[int, int],
    tiles: Sequence[Region],
    lookup: Callable[[Region], TileFeatures],
    *,
    region: Region | None = None,
    checkpoint: Checkpoint = lambda: None,
) -> InstantPrediction:
    """Classify a plane or a window of it.

    Parameters
    ----------
    head : LinearHead
    shape : tuple of int
        Of the plane.
    tiles : sequence of Region
        Its tiles, see :meth:`InstantFeatures.tiles`; the result does not depend on them, but for rounding.
    lookup : callable
        Tile → its features. Only tiles that the region touches are asked for.
    region : Region or None
        Window to classify; None for the whole plane.
    checkpoint : callable
        Called before each tile; raises to stop.

    Raises
    ------
    ParameterError
        A region that is empty or not inside the plane.
    """
    region = Region(0, shape[0], 0, shape[1]) if region is None else region
    check_region(region, shape)
    values = np.asarray(head.values, np.int32)
    labels = np.zeros(region.shape, np.int32)
    probabilities = np.zeros((len(values), *region.shape), np.float32)
    for tile in tiles:
        at = _common(tile, region)
        if at is None:
            continue
        checkpoint()
        logits = lookup(tile).logits(head, at)
        window = at.inside(region).slices
        labels[window] = values[logits.argmax(dim=0).cpu().numpy()]
        probabilities[:, *window] = torch.softmax(logits, dim=0).cpu().numpy()
    return InstantPrediction(labels, probabilities, head.values)


def check_region(region: Region, shape: tuple[int, ...]) -> None:
    """Make sure that a region lies in a plane.

    Raises
    ------
    ParameterError
        A region that is empty or not inside the plane.
    """
    if not (0 <= region.y0 < region.y1 <= shape[0] and 0 <= region.x0 < region.x1 <= shape[1]):
        raise ParameterError(f"{region} is no window of a plane of shape {tuple(shape)}")


@dataclass(frozen=True, slots=True)
class _Scaling:
    """Features brought to zero mean and a spread that says how freely each may be used."""

    mean: Tensor
    factor: Tensor

    @classmethod
    def of(cls, x: Tensor) -> _Scaling:
        mean, spread = x.mean(dim=0), x.std(dim=0, correction=0)
        factors = []
        for number, part in enumerate(torch.split(spread, list(group_sizes()))):
            least = _MIN_SPREAD * max(float(part.max()), _MIN_SPREAD)
            # Every map has the same say, however many features it has.
            gain = (_FILTER_GAIN if number == 0 else 1.0) / len(part) ** 0.5
            factors.append(gain / part.clamp(min=least))
        return cls(mean, torch.cat(factors))

    def apply(self, x: Tensor) -> Tensor:
        return (x - self.mean) * self.factor

    def to_scaled(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Weights for features as they are → the same classifier for scaled ones."""
        return weight / self.factor, bias + weight @ self.mean

    def from_scaled(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        plain = weight * self.factor
        return plain, bias - plain @ self.mean


def _search(
    x: Tensor, targets: NDArray[np.int64], classes: NDArray[np.float32], start: tuple[Tensor, Tensor], l2: float
) -> tuple[Tensor, Tensor]:
    """Minimise the mean cross entropy plus ``l2`` times the squared weights, which has one minimum.

    By SciPy's L-BFGS: the first optimiser of torch that a process makes imports its compiler, for seconds.
    """
    features, n_classes = x.numpy(), len(classes)
    wanted = np.eye(n_classes, dtype=np.float32)[targets]
    share = (classes[targets] / classes[targets].sum())[:, None]

    def loss_and_gradient(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        packed = flat.reshape(n_classes, -1).astype(np.float32)
        weight, bias = packed[:, :-1], packed[:, -1]
        logs = log_softmax(features @ weight.T + bias, axis=1)
        wrong = (np.exp(logs) - wanted) * share
        gradient = np.column_stack([wrong.T @ features + 2 * l2 * weight, wrong.sum(axis=0)])
        loss = l2 * np.square(weight, dtype=np.float64).sum() - (logs * wanted * share).sum(dtype=np.float64)
        return float(loss), gradient.astype(np.float64).ravel()

    first = torch.cat([start[0], start[1][:, None]], dim=1).double().numpy()
    found = minimize(
        loss_and_gradient, first.ravel(), jac=True, method="L-BFGS-B",
        options={"maxiter": _MAX_STEPS, "maxcor": 20, "ftol": 1e-7, "gtol": 1e-5},
    )  # fmt: skip
    packed = torch.from_numpy(found.x.reshape(n_classes, -1)).float()
    return packed[:, :-1], packed[:, -1]


def _start(previous: LinearHead | None, values: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Weights of the classes that were known before, zeros for the new ones."""
    weight, bias = torch.zeros(len(values), n_channels()), torch.zeros(len(values))
    if previous is not None:
        for row, value in enumerate(values):
            if value in previous.values:
                old = previous.values.index(value)
                weight[row] = torch.from_numpy(previous.weight[old])
                bias[row] = float(previous.bias[old])
    return weight, bias


def _choose(targets: Sequence[NDArray[np.int64]], max_px: int, rng: np.random.Generator) -> list[NDArray[np.bool_]]:
    """Masks of the painted pixels to learn from, about ``max_px`` in all, each class in proportion."""
    masks = [each != IGNORED for each in targets]
    total = sum(int(np.count_nonzero(mask)) for mask in masks)
    if total <= max_px:
        return masks
    classes = np.concatenate([each[mask] for each, mask in zip(targets, masks, strict=True)])
    kept = np.zeros(total, np.bool_)
    for number in np.unique(classes):
        where = np.flatnonzero(classes == number)
        n = max(min(len(where), _MIN_KEPT), round(len(where) * max_px / total))
        kept[rng.choice(where, n, replace=False)] = True
    ends = np.cumsum([np.count_nonzero(mask) for mask in masks])
    for mask, part in zip(masks, np.split(kept, ends[:-1]), strict=True):
        mask[mask] = part
    return masks


def _painted_tiles(features: InstantFeatures, mask: NDArray[np.bool_]) -> Iterator[Region]:
    if mask.any():
        height, width = mask.shape
        yield from (tile for tile in features.tiles((height, width)) if mask[tile.slices].any())


def _spans(size: int, padded_size: int, before: int, tile_px: int) -> list[tuple[int, int]]:
    """Pieces of a side, cut on the grid of the padded plane."""
    n_cells = padded_size // GRID_PX
    n = -(-n_cells // max(1, tile_px // GRID_PX))
    cuts = [round(i * n_cells / n) * GRID_PX - before for i in range(n + 1)]
    spans = [(max(0, a), min(size, b)) for a, b in pairwise(cuts)]
    return [(a, b) for a, b in spans if a < b]


def _on_grid(window: Region) -> Region:
    g = GRID_PX
    return Region(window.y0 // g * g, -(-window.y1 // g) * g, window.x0 // g * g, -(-window.x1 // g) * g)


def _common(first: Region, second: Region) -> Region | None:
    """Window that both regions cover, if there is one."""
    y0, y1 = max(first.y0, second.y0), min(first.y1, second.y1)
    x0, x1 = max(first.x0, second.x0), min(first.x1, second.x1)
    return Region(y0, y1, x0, x1) if y0 < y1 and x0 < x1 else None


def _check_plane(plane: NDArray[np.float32]) -> None:
    if plane.ndim != 2 or plane.size == 0:
        raise ImageError(f"an image of shape {plane.shape} cannot be segmented; expected one plane (Y, X)")
    if not np.isfinite(plane).all():
        raise ImageError("the image has pixels that are no numbers (NaN or infinite); replace them first")
