"""StarDist's training recipe: crops with objects → network → loss; and the threshold that suits a trained network.

References
----------
.. [1] Schmidt et al., MICCAI 2018 (StarDist): crops of 256², batch 4, Adam 3e-4, 100 steps an epoch.
.. [2] Buchholz et al., ECCV workshops 2020: crops of 64², batch 128, Adam 4e-4; the threshold by validation AP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_cellenhance.core.augment import dihedral
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.instances import Overlaps, match_instances, overlaps
from napari_cellenhance.core.losses.stardist import star_loss
from napari_cellenhance.core.models.stardist import StarDist, StarOutput
from napari_cellenhance.core.recipes.stardist_segmenter import StarDistSegmenter
from napari_cellenhance.core.star_shapes import IGNORED, star_targets
from napari_cellenhance.core.tiling import Region, split

__all__ = [
    "THRESHOLDS",
    "InstanceImage",
    "SplitInstances",
    "StarDistRecipe",
    "StarDistTraining",
    "ThresholdSearch",
    "best_threshold",
    "split_instances",
]

THRESHOLDS: tuple[float, ...] = tuple(round(0.10 + 0.05 * i, 2) for i in range(19))
"""0.10, 0.15 … 1.00; nothing is more probable than 1, so the last one finds no object."""
MIN_IMAGES_TO_SPLIT = 5
"""Fewer images are each cut into a part to learn from and a strip to score on."""

_MIN_CROP_PX = 32
_GAINS, _OFFSETS = (0.6, 2.0), (-0.2, 0.2)


@dataclass(frozen=True, slots=True)
class InstanceImage:
    """An image and its objects.

    Parameters
    ----------
    image : ndarray of float32, shape (Y, X)
        Normalised to about [0, 1].
    labels : ndarray of int, shape (Y, X)
        0 is ground, positive ids are objects, -1 is not labelled.
    name : str

    Raises
    ------
    ImageError
        Shapes that differ, no plane, no pixels, values that are no numbers, or labels below -1.
    """

    image: NDArray[np.float32]
    labels: NDArray[np.int32]
    name: str = "image"

    def __post_init__(self) -> None:
        image, labels = np.asarray(self.image), np.asarray(self.labels)
        if image.ndim != 2 or image.size == 0 or image.shape != labels.shape:
            raise ImageError(
                f"{self.name}: the image has shape {image.shape}, its labels {labels.shape}; expected the same (Y, X)"
            )
        if labels.dtype.kind not in "iub" or int(labels.min()) < IGNORED:
            raise ImageError(
                f"{self.name}: labels are {labels.dtype} from {labels.min()} on; expected whole numbers from -1 on"
            )
        if not np.isfinite(image).all():
            raise ImageError(f"{self.name} has pixels that are no numbers (NaN or infinite); replace them first")
        object.__setattr__(self, "image", image.astype(np.float32, copy=False))
        object.__setattr__(self, "labels", labels.astype(np.int32, copy=False))

    @property
    def has_objects(self) -> bool:
        """Some pixel belongs to an object."""
        return bool((self.labels > 0).any())

    def window(self, region: Region) -> InstanceImage:
        """A part of it."""
        return InstanceImage(self.image[region.slices], self.labels[region.slices], self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class StarDistTraining:
    """Settings of the recipe; those of the loop are ``core.training.FitSettings``.

    Parameters
    ----------
    crop_px, batch_size : int
        Side of a crop, in pixels (at least 32 and a multiple of the network's ``grid_px``), and crops per update.
    object_fraction : float
        Share of crops that are put around a pixel of an object; the others around any labelled pixel.
    has_symmetries : bool
        Turn and flip crops, eight ways.
    intensity_fraction : float
        Share of crops whose values are multiplied by U(0.6, 2) and shifted by U(-0.2, 0.2).
    holdout_fraction : float
        Share of the images, or of each where there are few, that is kept aside where no validation is given; 0: none.
    max_validation_windows : int
        Windows of a crop's size that are scored at each validation; of more, every n-th.
    distance_weight, ground_weight, is_normalised
        See ``core.losses.stardist.star_loss``.
    """

    crop_px: int = 256
    batch_size: int = 4
    object_fraction: float = 0.9
    has_symmetries: bool = True
    intensity_fraction: float = 0.5
    holdout_fraction: float = 0.15
    max_validation_windows: int = 32
    distance_weight: float = 0.2
    ground_weight: float = 1e-4
    is_normalised: bool = True

    def __post_init__(self) -> None:
        if self.crop_px < _MIN_CROP_PX:
            raise ParameterError(f"crop is {self.crop_px} px; expected {_MIN_CROP_PX} px or more")
        if self.batch_size < 1 or self.max_validation_windows < 1:
            raise ParameterError(
                f"batch {self.batch_size}, {self.max_validation_windows} validation windows; expected 1 or more each"
            )
        if not (0 <= self.object_fraction <= 1 and 0 <= self.intensity_fraction <= 1):
            raise ParameterError(
                f"object_fraction is {self.object_fraction}, intensity_fraction {self.intensity_fraction}; "
                "expected 0 to 1 each"
            )
        if not 0 <= self.holdout_fraction <= 0.5:
            raise ParameterError(f"holdout_fraction is {self.holdout_fraction}; expected 0 to 0.5")
        if not (0 <= self.distance_weight < float("inf") and 0 <= self.ground_weight < float("inf")):
            raise ParameterError(
                f"weights are {self.distance_weight} and {self.ground_weight}; expected 0 or more, and finite"
            )


@dataclass(frozen=True, slots=True)
class SplitInstances:
    """Images to learn from and images to score on.

    Parameters
    ----------
    train, validation : tuple of InstanceImage
    how : "given", "images", "strips" or "none"
        Validation was given, or whole images or strips were kept aside. With "none" there are too few objects: all
        are learned, and the scores are those of the training images.
    """

    train: tuple[InstanceImage, ...]
    validation: tuple[InstanceImage, ...]
    how: Literal["given", "images", "strips", "none"]


def split_instances(images: Sequence[InstanceImage], *, fraction: float, seed: int = 0) -> SplitInstances:
    """Keep images aside for validation, or, of fewer than ``MIN_IMAGES_TO_SPLIT``, a strip at the end of each.

    Parameters
    ----------
    images : sequence of InstanceImage
        Those without a labelled pixel are left out.
    fraction : float
        Share of the images, or of the longer side of each; 0 keeps none.
    seed : int
        Chooses the images.

    Raises
    ------
    ImageError
        No object at all.
    """
    usable = tuple(image for image in images if (image.labels != IGNORED).any())
    if not any(image.has_objects for image in usable):
        raise ImageError("no object is labelled in any of the images; label some objects with ids from 1 on")
    train: tuple[InstanceImage, ...]
    validation: tuple[InstanceImage, ...]
    how: Literal["images", "strips"]
    if len(usable) >= MIN_IMAGES_TO_SPLIT:
        order = np.random.default_rng([seed, 1]).permutation(len(usable))
        n_kept = max(1, round(fraction * len(usable)))
        validation, train = (tuple(usable[i] for i in sorted(part)) for part in (order[:n_kept], order[n_kept:]))
        how = "images"
    else:
        halves = [_halves(image, fraction) for image in usable]
        train, validation, how = tuple(a for a, _ in halves), tuple(b for _, b in halves), "strips"
    if fraction and all(any(image.has_objects for image in part) for part in (train, validation)):
        return SplitInstances(train, validation, how)
    return SplitInstances(usable, usable, "none")


class StarDistRecipe:
    """Binds labelled images, network and loss behind ``core.training.TrainableRecipe``.

    Parameters
    ----------
    module : StarDist
        Trained in place, on the device where it is.
    images : sequence of InstanceImage
        One or several; images without a labelled pixel are left out.
    settings : StarDistTraining
    validation : sequence of InstanceImage
        Scored at each validation. Empty: a part of the images is kept aside, see :func:`split_instances`.
    seed : int
        Of the choice of images that are kept aside.
    use_bf16 : bool
        bf16 autocast; losses stay in float32.

    Raises
    ------
    ImageError
        No object is labelled, or nothing in the validation.
    ParameterError
        Crops that do not fit the network.

    Attributes
    ----------
    split : SplitInstances
        What is learned and what is scored.
    steps_per_epoch : int
        Updates that see about as many crops as the images have places for.
    """

    def __init__(
        self,
        module: StarDist,
        images: Sequence[InstanceImage],
        settings: StarDistTraining,
        *,
        validation: Sequence[InstanceImage] = (),
        seed: int = 0,
        use_bf16: bool = False,
    ) -> None:
        if settings.crop_px % module.grid_px:
            raise ParameterError(
                f"crop is {settings.crop_px} px; this network needs a multiple of {module.grid_px} px, "
                f"such as {-(-settings.crop_px // module.grid_px) * module.grid_px}"
            )
        self.network = module.to_channels_last()
        self.module: nn.Module = self.network
        self.settings, self.use_bf16 = settings, use_bf16
        self.split = split_instances(images, fraction=0.0 if validation else settings.holdout_fraction, seed=seed)
        if validation:
            self.split = SplitInstances(self.split.train, tuple(validation), "given")
        self._planes = [_at_least(image, settings.crop_px) for image in self.split.train]
        self._objects = [np.flatnonzero(plane.labels > 0) for plane in self._planes]
        self._with_objects = [i for i, pixels in enumerate(self._objects) if len(pixels)]
        self._known = [np.flatnonzero(plane.labels != IGNORED) for plane in self._planes]
        self._windows = _windows(self.split.validation, settings)
        side = settings.crop_px
        n_crops = sum(-(-p.image.shape[0] // side) * -(-p.image.shape[1] // side) for p in self._planes)
        self.steps_per_epoch = max(1, -(-n_crops // settings.batch_size))

    def loss(self, rng: np.random.Generator, step: int) -> dict[str, Tensor]:
        """One batch, drawn with ``rng``; the same one gives the same loss."""
        return self._loss([self._draw(rng) for _ in range(self.settings.batch_size)])

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mean losses per labelled pixel over all validation windows: ``total`` and its parts."""
        was_training = self.module.training
        self.module.eval()
        sums: dict[str, float] = {}
        n_known = 0
        for window in self._windows:
            n = int((window.labels != IGNORED).sum())
            for name, value in self._loss([window]).items():
                sums[name] = sums.get(name, 0.0) + float(value) * n
            n_known += n
        self.module.train(was_training)
        return {name: value / n_known for name, value in sums.items()}

    def _loss(self, crops: Sequence[InstanceImage]) -> dict[str, Tensor]:
        net, s = self.network, self.settings
        targets = [star_targets(crop.labels, net.n_rays, net.grid) for crop in crops]
        device = next(self.module.parameters()).device
        x = torch.from_numpy(np.stack([crop.image for crop in crops])[:, None])
        with torch.autocast(device.type, torch.bfloat16, enabled=self.use_bf16):
            output: StarOutput = self.module(x.to(device))
        return star_loss(
            output,
            torch.from_numpy(np.stack([t.distances for t in targets])).to(device),
            torch.from_numpy(np.stack([t.probabilities for t in targets])).to(device),
            torch.from_numpy(np.stack([t.mask for t in targets])).to(device),
            distance_weight=s.distance_weight,
            ground_weight=s.ground_weight,
            is_normalised=s.is_normalised,
        )

    def _draw(self, rng: np.random.Generator) -> InstanceImage:
        s = self.settings
        if rng.random() < s.object_fraction:
            which = self._with_objects[int(rng.integers(len(self._with_objects)))]
            pixels = self._objects[which]
        else:
            which = int(rng.integers(len(self._planes)))
            pixels = self._known[which]
        plane = self._planes[which]
        y, x = divmod(int(pixels[int(rng.integers(len(pixels)))]), plane.labels.shape[1])
        rows, columns = (_around(at, n, s.crop_px, rng) for at, n in zip((y, x), plane.labels.shape, strict=True))
        image, labels = plane.image[rows, columns], plane.labels[rows, columns]
        if s.has_symmetries:
            symmetry = int(rng.integers(8))
            image, labels = dihedral(image, symmetry), dihedral(labels, symmetry)
        if rng.random() < s.intensity_fraction:
            image = image * np.float32(rng.uniform(*_GAINS)) + np.float32(rng.uniform(*_OFFSETS))
        return InstanceImage(image, labels, plane.name)


@dataclass(frozen=True, slots=True)
class ThresholdSearch:
    """How well objects are found at each threshold of the probability.

    Parameters
    ----------
    threshold : float
        The best one; of equal ones the lowest, so that no object is lost without need.
    thresholds : tuple of float
        Those tried.
    scores : tuple of float
        Mean over the images of AP = TP / (TP + FP + FN) for each.
    """

    threshold: float
    thresholds: tuple[float, ...]
    scores: tuple[float, ...]


def best_threshold(
    segmenter: StarDistSegmenter,
    images: Sequence[InstanceImage],
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    min_iou: float = 0.5,
) -> ThresholdSearch:
    """Choose the threshold of the probability by the objects it finds; use images that were not learned.

    Parameters
    ----------
    segmenter : StarDistSegmenter
        Its own threshold has no part in this.
    images : sequence of InstanceImage
        Objects found that lie mostly where nothing is labelled do not count; others are cut to what is labelled.
    thresholds : sequence of float
        In any order.
    min_iou : float
        Least intersection over union of a match.

    Raises
    ------
    ImageError
        No image, or nothing labelled in any.
    ParameterError
        No threshold, or one outside 0 to 1.

    Notes
    -----
    Each image is run once, at the lowest threshold: suppression goes from the most probable star down, so what remains
    at a higher threshold is a part of that.
    """
    usable = [image for image in images if (image.labels != IGNORED).any()]
    if not usable:
        raise ImageError("a threshold cannot be chosen: no image has labels; give at least one labelled image")
    if not len(thresholds) or not all(0 <= t <= 1 for t in thresholds):
        raise ParameterError(f"thresholds are {tuple(thresholds)}; expected at least one, each 0 to 1")
    tried = tuple(sorted(set(thresholds)))
    totals = np.zeros(len(tried))
    for image in usable:
        found = segmenter.segment(image.image, threshold=tried[0])
        table, probabilities = _overlaps(image.labels, found.labels, found.stars.probabilities)
        for i, threshold in enumerate(tried):
            above = probabilities > threshold
            part = Overlaps(table.shared[:, above], table.truth_sizes, table.found_sizes[above])
            totals[i] += match_instances(part, min_iou).average_precision
    scores = totals / len(usable)
    best = int(np.flatnonzero(scores >= scores.max() - 1e-12)[0])
    return ThresholdSearch(tried[best], tried, tuple(float(score) for score in scores))


def _overlaps(
    truth: NDArray[np.int32], found: NDArray[np.uint32], probabilities: NDArray[np.float64]
) -> tuple[Overlaps, NDArray[np.float64]]:
    """Overlaps where something is labelled, and the probability of each object found there."""
    is_known = truth != IGNORED
    sizes = np.bincount(found.ravel(), minlength=len(probabilities) + 1)
    inside = np.bincount(found[is_known], minlength=len(probabilities) + 1)
    is_counted = 2 * inside >= sizes
    is_counted[0] = False
    seen = np.where(is_known & is_counted[found], found, 0).astype(np.int64)
    ids = np.unique(seen[seen > 0])
    return overlaps(np.where(is_known, truth, 0), seen), probabilities[ids - 1]


def _halves(image: InstanceImage, fraction: float) -> tuple[InstanceImage, InstanceImage]:
    """The part to learn from and the strip at the end of the longer axis."""
    height, width = image.image.shape
    kept = round(fraction * max(height, width))
    if not kept:
        return image, image
    if height >= width:
        first, second = Region(0, height - kept, 0, width), Region(height - kept, height, 0, width)
    else:
        first, second = Region(0, height, 0, width - kept), Region(0, height, width - kept, width)
    return image.window(first), image.window(second)


def _at_least(image: InstanceImage, side: int) -> InstanceImage:
    """Both sides at least ``side`` px: grey values by reflection, labels unknown."""
    pixels, labels = image.image, image.labels
    for axis in (0, 1):
        size = pixels.shape[axis]
        missing = max(0, side - size)
        widths = [(0, 0), (0, 0)]
        widths[axis] = (missing // 2, missing - missing // 2)
        pixels = np.pad(pixels, widths, mode="reflect" if size > missing - missing // 2 else "edge")
        labels = np.pad(labels, widths, constant_values=IGNORED)
    return InstanceImage(pixels, labels, image.name)


def _windows(images: Sequence[InstanceImage], settings: StarDistTraining) -> list[InstanceImage]:
    """Windows of the validation images in which something is labelled."""
    side = settings.crop_px
    found = []
    for image in images:
        for tile in split(image.image.shape, side, 0):
            window = image.window(tile.core)
            if (window.labels != IGNORED).any():
                found.append(window)
    if not found:
        raise ImageError("nothing is labelled in the validation images; label some, or leave them out")
    return [_at_least(window, side) for window in found[:: -(-len(found) // settings.max_validation_windows)]]


def _around(at: int, size: int, side: int, rng: np.random.Generator) -> slice:
    """A window of ``side`` px that holds the pixel ``at``."""
    start = int(rng.integers(max(0, at - side + 1), min(at, size - side) + 1))
    return slice(start, start + side)
