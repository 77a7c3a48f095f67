"""Training images by source, and balanced random crops at matched object size.

References
----------
.. [1] Lim et al., "NU-Net", 2023, Sec. 3: the same number of samples from every source, whatever its size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.augment import dihedral
from napari_cellenhance.core.errors import ImageError

__all__ = [
    "Crop",
    "ImageSource",
    "resize",
    "round_blobs",
    "sample_crop",
    "sample_labelled_crop",
    "sample_masks",
    "split_sources",
    "stretch",
    "with_labels",
]


@dataclass(frozen=True, slots=True)
class ImageSource:
    """Images of one origin, and how large their objects are.

    Parameters
    ----------
    images : list of ndarray of shape (Y, X), float32 in [0, 1]
        Bright objects on a dark ground.
    diameters_px : list of float
        Typical object diameter of each image, in pixels.
    labels : list of (ndarray of int or None)
        Instance labels where known; used for the style bank, for scores and by the paired term, never by the
        self-supervised losses.
    weight : float
        How often this source is drawn, relative to the others; below 1 for a source of very few images.
    """

    name: str
    images: list[NDArray[np.float32]]
    diameters_px: list[float]
    labels: list[NDArray[np.integer] | None]
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.images:
            raise ImageError(f"the source {self.name!r} holds no image; check its path and filter")
        if not len(self.images) == len(self.diameters_px) == len(self.labels):
            raise ImageError(f"the source {self.name!r} has lists of different lengths")
        if not self.weight > 0:
            raise ImageError(f"the source {self.name!r} has weight {self.weight}; expected a positive number")

    def subset(self, indices: Sequence[int]) -> ImageSource:
        """Source with some of the images."""
        return ImageSource(
            self.name,
            [self.images[i] for i in indices],
            [self.diameters_px[i] for i in indices],
            [self.labels[i] for i in indices],
            self.weight,
        )


def stretch(plane: NDArray[np.generic], *, objects_are_dark: bool = False) -> NDArray[np.float32]:
    """Percentiles 0.1…99.9 to [0, 1], clipped; dark objects inverted. A flat plane gives zeros."""
    x = np.asarray(plane, dtype=np.float64)
    low, high = np.percentile(x, [0.1, 99.9])
    if high <= low:
        return np.zeros(x.shape, np.float32)
    x = np.clip((x - low) / (high - low), 0.0, 1.0)
    out: NDArray[np.float32] = (1.0 - x if objects_are_dark else x).astype(np.float32)
    return out


def split_sources(
    sources: Sequence[ImageSource], fraction: float, rng: np.random.Generator
) -> tuple[list[ImageSource], list[ImageSource]]:
    """Split by image into training and validation; a source of one image trains only."""
    train, valid = [], []
    for source in sources:
        order = rng.permutation(len(source.images))
        n_valid = min(max(1, round(fraction * len(order))), len(order) - 1)
        train.append(source.subset(list(order[n_valid:])))
        if n_valid:
            valid.append(source.subset(list(order[:n_valid])))
    return train, valid


def resize(image: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Linear, anti-aliased when shrinking; for training crops only, never for results."""
    from skimage.transform import resize as sk_resize

    is_smaller = shape[0] < image.shape[0]
    out = sk_resize(image, shape, order=1, mode="reflect", anti_aliasing=is_smaller)  # type: ignore[no-untyped-call]
    return np.asarray(out, dtype=np.float32)


def _draw(sources: Sequence[ImageSource], rng: np.random.Generator) -> ImageSource:
    weights = np.array([s.weight for s in sources])
    return sources[int(rng.choice(len(sources), p=weights / weights.sum()))]


def _window(shape: tuple[int, int], side: int, rng: np.random.Generator) -> tuple[slice, slice]:
    y = int(rng.integers(0, max(shape[0] - side, 0) + 1))
    x = int(rng.integers(0, max(shape[1] - side, 0) + 1))
    return slice(y, y + side), slice(x, x + side)


def _crop(
    image: NDArray[np.generic], diameter: float, target: float, crop_px: int, rng: np.random.Generator
) -> NDArray[np.generic]:
    """Window of ``image`` that becomes ``crop_px`` when objects are brought to ``target`` px; padded if too small."""
    side = max(16, round(crop_px * diameter / target))
    side = min(side, 2 * min(image.shape))
    missing = [max(0, side - n) for n in image.shape]
    if any(missing):
        image = np.pad(
            image, [(m // 2, m - m // 2) for m in missing], mode="reflect" if min(image.shape) > side // 2 else "edge"
        )
    return image[_window((image.shape[0], image.shape[1]), side, rng)]


@dataclass(frozen=True, slots=True)
class Crop:
    """A training crop and, where they are known, the instances in it.

    Parameters
    ----------
    image : ndarray of shape (side, side), float32 in [0, 1]
    labels : ndarray of int, shape (side, side), or None
    """

    image: NDArray[np.float32]
    labels: NDArray[np.integer] | None


def sample_crop(
    sources: Sequence[ImageSource],
    crop_px: int,
    rng: np.random.Generator,
    *,
    diameters: tuple[float, float],
    min_range: float = 0.1,
) -> Crop:
    """Draw a source, then an image, then a crop whose objects have a log-uniform diameter.

    Parameters
    ----------
    diameters : (float, float)
        Range of object diameters after resizing, in pixels; the style bank has the same.
    min_range : float
        Crops with less contrast are drawn again, up to 10 times; 0 takes the bare ground as well.
    """
    image: NDArray[np.float32] = np.zeros((crop_px, crop_px), np.float32)
    labels: NDArray[np.integer] | None = None
    for _ in range(10):
        source = _draw(sources, rng)
        index = int(rng.integers(len(source.images)))
        target = float(np.exp(rng.uniform(np.log(diameters[0]), np.log(diameters[1]))))
        image, labels = _cut(source, index, target, crop_px, rng)
        if image.max() - image.min() >= min_range:
            break
    symmetry = int(rng.integers(8))
    return Crop(
        np.ascontiguousarray(dihedral(image, symmetry)),
        None if labels is None else np.ascontiguousarray(dihedral(labels, symmetry)),
    )


def sample_labelled_crop(
    sources: Sequence[ImageSource], crop_px: int, rng: np.random.Generator, *, diameters: tuple[float, float]
) -> Crop | None:
    """Like :func:`sample_crop`, from labelled images only; None if no source has labels."""
    labelled = with_labels(sources)
    return sample_crop(labelled, crop_px, rng, diameters=diameters, min_range=0.0) if labelled else None


def with_labels(sources: Sequence[ImageSource]) -> list[ImageSource]:
    """The labelled images of each source that has any."""
    return [
        s.subset([i for i, lab in enumerate(s.labels) if lab is not None])
        for s in sources
        if any(lab is not None for lab in s.labels)
    ]


def _cut(
    source: ImageSource, index: int, target: float, crop_px: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.integer] | None]:
    """One window of an image, and the same window of its labels, both brought to ``crop_px``."""
    diameter, labels = source.diameters_px[index], source.labels[index]
    seed = int(rng.integers(2**31))
    window = _crop(source.images[index], diameter, target, crop_px, np.random.default_rng(seed))
    image = resize(window.astype(np.float32), (crop_px, crop_px))
    if labels is None:
        return image, None
    ids = _crop(labels, diameter, target, crop_px, np.random.default_rng(seed))
    rows = ((np.arange(crop_px) + 0.5) * ids.shape[0] / crop_px).astype(np.intp)
    return image, ids[rows[:, None], rows[None, :]]


def sample_masks(
    sources: Sequence[ImageSource],
    n_masks: int,
    crop_px: int,
    rng: np.random.Generator,
    *,
    diameters: tuple[float, float],
) -> NDArray[np.uint8]:
    """Binary masks for a style bank, drawn like the training crops.

    Returns
    -------
    ndarray of shape (n_masks, crop_px, crop_px), uint8, 0 or 255
        Touching instances are parted by one pixel, so that single blobs stay visible.
    """
    from skimage.segmentation import find_boundaries

    labelled = with_labels(sources)
    if not labelled:
        raise ImageError("no source has labels; a style bank needs masks (labels layers or label images)")
    masks = np.zeros((n_masks, crop_px, crop_px), np.uint8)
    i = n_tries = 0
    while i < n_masks:
        n_tries += 1
        source = labelled[n_tries % len(labelled)]
        index = int(rng.integers(len(source.images)))
        target = float(np.exp(rng.uniform(np.log(diameters[0]), np.log(diameters[1]))))
        labels = source.labels[index]
        assert labels is not None
        window = _crop(labels, source.diameters_px[index], target, crop_px, rng)
        ids = window.astype(np.int64)
        binary = (ids > 0) & ~find_boundaries(ids, mode="inner", background=0)  # type: ignore[no-untyped-call]
        small = resize(binary.astype(np.float32), (crop_px, crop_px)) >= 0.5
        if small.mean() < 0.02 and n_tries < 100 * n_masks:
            continue  # nearly empty windows carry no morphology
        masks[i] = dihedral(np.where(small, 255, 0).astype(np.uint8), int(rng.integers(8)))
        i += 1
    return masks


def round_blobs(rng: np.random.Generator, *, n_images: int = 16, side_px: int = 512) -> ImageSource:
    """Label images with blobs of all densities, to draw masks from where nobody outlined anything.

    Returns
    -------
    ImageSource
        Ellipses with half axes of 8 to 16 px that touch but never overlap, covering some 3 to 45 % of the images, which
        themselves are empty.
    """
    from skimage.draw import ellipse

    labels: list[NDArray[np.integer] | None] = []
    for wanted in np.linspace(0.03, 0.45, n_images) * side_px**2:
        ids = np.zeros((side_px, side_px), np.int32)
        n_covered = n = 0
        for _ in range(4000):
            if n_covered >= wanted:
                break
            (y, x), (a, b) = rng.uniform(0, side_px, 2), rng.uniform(8, 16, 2)
            turn = float(rng.uniform(-np.pi, np.pi))
            pixels = ellipse(y, x, a, b, shape=ids.shape, rotation=turn)  # type: ignore[no-untyped-call]
            if not ids[pixels].any():
                n += 1
                ids[pixels] = n
                n_covered += len(pixels[0])
        labels.append(ids)
    empty = np.zeros((side_px, side_px), np.float32)
    return ImageSource("round blobs", [empty] * n_images, [24.0] * n_images, labels)
