"""Where to learn and where to score: crops that hold paint, and a part of the paint kept aside.

What is kept aside is a separate image or a block of the plane, never a random subset of pixels: neighbouring pixels
are nearly equal, so a score on them says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.painted import MIN_CLASS_PX, NOT_PAINTED, PaintedImage, count_painted, painted_values
from napari_cellenhance.core.tiling import Region

__all__ = ["CropSampler", "HasPaint", "HeldOut", "hold_out", "validation_block"]

MIN_IMAGES_TO_SPLIT = 5
"""Fewer painted images are each split into two areas instead of being kept aside as a whole."""

_N_TICKS = 8
_MIN_BLOCK_PX = 6
_MIN_TRAINING_SHARE = 0.5
_MAX_INDEXED_PX = 200_000
_N_TRIES = 20


class HasPaint(Protocol):
    """A plane and the classes that are painted on it, both (Y, X)."""

    @property
    def image(self) -> NDArray[np.float32]:
        """Grey values."""
        ...

    @property
    def labels(self) -> NDArray[np.int32]:
        """0 not painted, 1 and above classes."""
        ...


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Paint to learn from and paint to score on.

    Parameters
    ----------
    train, validation : tuple of PaintedImage
    how : "images", "blocks" or "none"
        Whole images or blocks were kept aside. With "none" there is too little paint: all of it is learned, and the
        scores are those of the training paint.
    """

    train: tuple[PaintedImage, ...]
    validation: tuple[PaintedImage, ...]
    how: Literal["images", "blocks", "none"]


def hold_out(
    images: Sequence[PaintedImage], *, fraction: float = 0.2, gap_px: int = 16, rng: np.random.Generator
) -> HeldOut:
    """Keep some of the paint aside for validation.

    Parameters
    ----------
    images : sequence of PaintedImage
        Images without paint are left out.
    fraction : float
        Wanted share of the paint, or of the images where there are ``MIN_IMAGES_TO_SPLIT`` or more; 0 keeps none.
    gap_px : int
        Paint this close to a block is not used at all.
    rng : numpy.random.Generator
        Chooses the images.

    Raises
    ------
    ParameterError
        A fraction outside 0…0.5, or a negative gap.
    ImageError
        Too little paint, see :func:`~napari_cellenhance.core.painted.painted_values`.
    """
    if not 0 <= fraction <= 0.5 or gap_px < 0:
        raise ParameterError(f"fraction is {fraction}, gap {gap_px} px; expected 0 to 0.5, and 0 px or more")
    usable = tuple(painted for painted in images if painted.labels.any())
    values = painted_values(usable)
    split = None
    if fraction > 0 and len(usable) >= MIN_IMAGES_TO_SPLIT:
        split = _whole_images(usable, values, max(1, round(fraction * len(usable))), rng)
    if fraction > 0 and split is None:
        split = _blocks(usable, fraction, gap_px)
    return split or HeldOut(usable, usable, "none")


def validation_block(labels: NDArray[np.int32], *, fraction: float = 0.2, gap_px: int = 16) -> Region | None:
    """Rectangle that holds about a share of each class, while enough of each stays outside.

    Parameters
    ----------
    labels : ndarray of int32, shape (Y, X)
        Painted labels.
    fraction : float
        Wanted share of each class's pixels.
    gap_px : int
        Pixels this close to the rectangle count as lost.

    Returns
    -------
    Region or None
        None where no rectangle on an 8×8 grid leaves at least ``MIN_CLASS_PX`` pixels and half of each class outside
        and takes some of each class inside, or where fewer than two classes are painted.

    Notes
    -----
    The least largest deviation of a class's share from ``fraction``, plus the mean share lost in the gap.
    """
    values = np.unique(labels[labels != NOT_PAINTED])
    boxes = _candidates(labels.shape[0], labels.shape[1])
    if len(values) < 2 or not len(boxes):
        return None
    deviation, lost = np.zeros(len(boxes)), np.zeros(len(boxes))
    is_valid = np.ones(len(boxes), np.bool_)
    for value in values:
        sums = _integral(labels == value)
        total = int(sums[-1, -1])
        inside, near = _count(sums, boxes, 0), _count(sums, boxes, gap_px)
        left = total - near
        is_valid &= (inside >= _MIN_BLOCK_PX) & (left >= max(MIN_CLASS_PX, _MIN_TRAINING_SHARE * total))
        deviation = np.maximum(deviation, np.abs(inside / total - fraction))
        lost += (near - inside) / total / len(values)
    if not is_valid.any():
        return None
    best = int(np.argmin(np.where(is_valid, deviation + lost, np.inf)))
    y0, y1, x0, x1 = (int(v) for v in boxes[best])
    return Region(y0, y1, x0, x1)


class CropSampler:
    """Random square windows of painted images, each with paint inside.

    Parameters
    ----------
    images : sequence of PaintedImage, or of others that have paint
        Planes smaller than a crop are padded: grey values by reflection, labels as not painted.
    crop_px : int
        Side of a crop.
    is_balanced : bool
        Draw a class first, then an image that has it, then one of its pixels, so that a short stroke is seen as
        often as a long one. Otherwise an image first, then any painted pixel.

    Raises
    ------
    ImageError
        No image is painted.
    """

    def __init__(self, images: Sequence[HasPaint], crop_px: int, *, is_balanced: bool) -> None:
        if not any(painted.labels.any() for painted in images):
            raise ImageError("no image is painted; crops are cut where there is paint")
        self.crop_px, self.is_balanced = crop_px, is_balanced
        self._planes: list[tuple[NDArray[np.float32], NDArray[np.int32]]] = []
        self._pixels: list[dict[int, NDArray[np.int64]]] = []
        self._shares: list[NDArray[np.float64]] = []
        for painted in images:
            if not painted.labels.any():
                continue
            image, labels = _at_least(painted, crop_px)
            self._planes.append((image, labels))
            self._index(labels)
        self._classes = sorted({value for pixels in self._pixels for value in pixels})

    def draw(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Draw an image window of shape (crop_px, crop_px) and its painted labels; views, not copies."""
        if self.is_balanced:
            value = self._classes[int(rng.integers(len(self._classes)))]
            having = [i for i, pixels in enumerate(self._pixels) if value in pixels]
            which = having[int(rng.integers(len(having)))]
        else:
            which = int(rng.integers(len(self._planes)))
            value = list(self._pixels[which])[int(rng.choice(len(self._shares[which]), p=self._shares[which]))]
        image, labels = self._planes[which]
        pixels = self._pixels[which][value]
        y, x = divmod(int(pixels[int(rng.integers(len(pixels)))]), labels.shape[1])
        rows, columns = (self._around(at, size, rng) for at, size in zip((y, x), labels.shape, strict=True))
        return image[rows, columns], labels[rows, columns]

    def _index(self, labels: NDArray[np.int32]) -> None:
        """Remember where each class is; of very many pixels every n-th."""
        pixels, counts = {}, []
        for value in np.unique(labels[labels != NOT_PAINTED]):
            flat = np.flatnonzero(labels == value)
            pixels[int(value)] = flat[:: -(-len(flat) // _MAX_INDEXED_PX)]
            counts.append(len(flat))
        self._pixels.append(pixels)
        self._shares.append(np.asarray(counts) / sum(counts))

    def _around(self, at: int, size: int, rng: np.random.Generator) -> slice:
        first, last = max(0, at - self.crop_px + 1), min(at, size - self.crop_px)
        start = int(rng.integers(first, last + 1))
        return slice(start, start + self.crop_px)


def _whole_images(
    images: tuple[PaintedImage, ...], values: tuple[int, ...], n_kept: int, rng: np.random.Generator
) -> HeldOut | None:
    """Split by image so that both sides have every class; None where chance does not find such a split."""

    def has_all(side: tuple[PaintedImage, ...]) -> bool:
        return bool((count_painted(side, values) >= MIN_CLASS_PX).all())

    for _ in range(_N_TRIES):
        order = rng.permutation(len(images))
        kept = tuple(images[i] for i in sorted(order[:n_kept]))
        rest = tuple(images[i] for i in sorted(order[n_kept:]))
        if has_all(kept) and has_all(rest):
            return HeldOut(rest, kept, "images")
    return None


def _blocks(images: tuple[PaintedImage, ...], fraction: float, gap_px: int) -> HeldOut | None:
    train, validation = [], []
    for painted in images:
        for gap in dict.fromkeys((gap_px, gap_px // 4)):
            block = validation_block(painted.labels, fraction=fraction, gap_px=gap)
            if block is not None:
                break
        if block is None:
            train.append(painted)
            continue
        kept = np.zeros_like(painted.labels)
        kept[block.slices] = painted.labels[block.slices]
        rest = painted.labels.copy()
        rest[block.grown(gap, rest.shape).slices] = NOT_PAINTED
        train.append(painted.with_labels(rest))
        validation.append(painted.with_labels(kept))
    return HeldOut(tuple(train), tuple(validation), "blocks") if validation else None


def _candidates(height: int, width: int) -> NDArray[np.int64]:
    """All rectangles on an 8×8 grid but the whole plane, as rows y0, y1, x0, x1."""
    spans = []
    for size in (height, width):
        ticks = np.unique(np.linspace(0, size, _N_TICKS + 1).round().astype(np.int64))
        spans.append(np.array([(a, b) for i, a in enumerate(ticks) for b in ticks[i + 1 :]], np.int64).reshape(-1, 2))
    rows, columns = spans
    boxes = np.concatenate([np.repeat(rows, len(columns), axis=0), np.tile(columns, (len(rows), 1))], axis=1)
    is_whole = (boxes[:, 1] - boxes[:, 0] == height) & (boxes[:, 3] - boxes[:, 2] == width)
    return np.asarray(boxes[~is_whole], np.int64)


def _integral(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    sums = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)
    sums[1:, 1:] = mask.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    return sums


def _count(sums: NDArray[np.int64], boxes: NDArray[np.int64], grown_px: int) -> NDArray[np.int64]:
    """True pixels in each box after it was grown on all sides."""
    height, width = sums.shape[0] - 1, sums.shape[1] - 1
    y0, y1 = (boxes[:, 0] - grown_px).clip(0), (boxes[:, 1] + grown_px).clip(None, height)
    x0, x1 = (boxes[:, 2] - grown_px).clip(0), (boxes[:, 3] + grown_px).clip(None, width)
    counts: NDArray[np.int64] = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
    return counts


def _at_least(painted: HasPaint, side: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Image and labels with both sides at least ``side`` px."""
    image, labels = painted.image, painted.labels
    for axis in (0, 1):
        size = image.shape[axis]
        missing = max(0, side - size)
        widths = [(0, 0), (0, 0)]
        widths[axis] = (missing // 2, missing - missing // 2)
        image = np.pad(image, widths, mode="reflect" if size > missing - missing // 2 else "edge")
        labels = np.pad(labels, widths)
    return image, labels
