"""Cutting objects out of one plane, what is left as its background, and the grey values both are found by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.crop_library import CropClass, CropLibrary, FoundObject
from napari_cellenhance.core.crop_options import CutOptions, GroundOptions, KeepOptions
from napari_cellenhance.core.crops import Background, ObjectCrop
from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.core.focus import sharpness

__all__ = [
    "ANY_NEIGHBOUR",
    "BORDER",
    "TOO_LARGE",
    "TOO_SMALL",
    "Fate",
    "Scene",
    "complement",
    "grey_plane",
    "local_mask",
    "number_parts",
    "to_levels",
]  # fmt: skip

TOO_SMALL, TOO_LARGE, BORDER = "too small", "too large", "touches the border"
ANY_NEIGHBOUR = np.ones((3, 3), np.bool_)
"""Pixels that share an edge or a corner touch."""

_SPECK_PX = 5
"""Fewer connected pixels are noise: not cut out, not even as discarded."""
_LEVELS = 255.0
_LUMINANCE = np.array([0.2125, 0.7154, 0.0721], np.float32)  # Rec. 709
_WHITE_PERCENTILE = 99.0

Mask = NDArray[np.bool_]


# --- grey values ------------------------------------------------------------------------------


def complement(image: NDArray[Any], top: float | None = None) -> NDArray[np.float32]:
    """Bright-field images as grey values in which what absorbs light is bright: top − grey.

    Parameters
    ----------
    image : ndarray of shape (Y, X) or (Y, X, C)
    top : float, optional
        The white of the images; None: 255 for 8 bit, else the largest value of the image.

    Returns
    -------
    ndarray of float32, shape (Y, X)
        0 or more.

    >>> complement(np.array([[255, 55]], np.uint8)).tolist()
    [[0.0, 200.0]]
    """
    pixels = np.asarray(image)
    grey = grey_plane(pixels)
    white = top if top is not None else _LEVELS if pixels.dtype == np.uint8 else float(grey.max(initial=0.0))
    return np.asarray(np.clip(np.float32(white) - grey, 0, None), np.float32)


def grey_plane(image: NDArray[Any]) -> NDArray[np.float32]:
    """Luminance of three or four colour channels (alpha is dropped), the mean of any other number.

    Raises
    ------
    ImageError
        Neither (Y, X) nor (Y, X, C), empty, or values that are no numbers.
    """
    pixels = np.asarray(image)
    if pixels.ndim not in (2, 3) or 0 in pixels.shape or pixels.dtype.kind not in "fiub":
        raise ImageError(
            f"the image has shape {pixels.shape} and type {pixels.dtype}; expected a plane (Y, X) or (Y, X, C)"
        )
    values = pixels.astype(np.float32)
    if not np.isfinite(values).all():
        raise ImageError("the image contains NaN or infinite values; fill them first")
    if values.ndim == 2:
        return values
    return np.asarray(values[..., :3] @ _LUMINANCE if values.shape[2] in (3, 4) else values.mean(axis=2), np.float32)


def local_mask(plane: NDArray[np.float32], window_px: int, offset: float, *, is_log: bool = False) -> NDArray[np.bool_]:
    """Pixels that are brighter than the mean of their surroundings by some levels of 255.

    Parameters
    ----------
    plane : ndarray of shape (Y, X)
        Stretched to 0…255 first.
    window_px : int
        Side of the surroundings; beyond the edge the last pixel is repeated.
    offset : float
    is_log : bool
        Stretch ln(x + 1) instead.
    """
    from scipy.ndimage import uniform_filter

    levels = to_levels(np.log1p(np.clip(plane, 0, None)) if is_log else plane)
    mean = uniform_filter(levels.astype(np.float64), window_px, mode="nearest")
    return np.asarray(levels > mean + offset, np.bool_)


def to_levels(plane: NDArray[Any]) -> NDArray[np.float32]:
    """Stretch to 0…255; a constant plane becomes 0."""
    low, high = float(plane.min()), float(plane.max())
    if not high > low:
        return np.zeros(plane.shape, np.float32)
    return np.asarray((plane - low) * (_LEVELS / (high - low)), np.float32)


def number_parts(mask: Mask) -> tuple[NDArray[np.int64], int]:
    """Number connected pixels 1, 2, 3, …; specks of fewer than five pixels are left out.

    Returns
    -------
    parts : ndarray of int64
        0 is ground.
    n_parts : int
    """
    from scipy.ndimage import label

    parts, _ = label(mask, structure=ANY_NEIGHBOUR)
    sizes = np.bincount(parts.ravel())
    is_kept = sizes >= _SPECK_PX
    is_kept[0] = False
    number = np.cumsum(is_kept) * is_kept
    return number[parts].astype(np.int64), int(is_kept.sum())


# --- cutting ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of an object, unless its size or place speak against it."""

    kind: CropClass
    reason: str = ""
    track: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A plane that objects are cut out of.

    Parameters
    ----------
    image : ndarray of shape (Y, X) or (Y, X, C)
    plane : ndarray of float32, shape (Y, X)
        Grey values that objects are looked for in: its own, or their complement.
    source : str
    frame : int
    keep : KeepOptions
    sharpness : ndarray of float32, shape (Y, X), or None
        Whose mean is the score of an object.
    """

    image: NDArray[Any]
    plane: NDArray[np.float32]
    source: str
    frame: int
    keep: KeepOptions
    sharpness: NDArray[np.float32] | None

    @classmethod
    def of(cls, image: NDArray[Any], source: str, frame: int, options: CutOptions) -> Scene:
        """Look at an image.

        Raises
        ------
        ImageError
            No plane, or values that are no numbers.
        """
        plane = complement(image) if options.is_dark else grey_plane(image)
        edges = None if options.focus is None else sharpness(plane, options.focus)
        return cls(np.asarray(image), plane, source, frame, options.keep, edges)

    def cut(self, part: Mask, y0: int, x0: int, fate: Fate) -> FoundObject:
        """One object: its pixels in a box whose upper left corner is at (y0, x0)."""
        y1, x1 = y0 + part.shape[0], x0 + part.shape[1]
        place = np.s_[y0:y1, x0:x1]
        pixels = self.image[place].astype(np.float32)
        pixels[~part] = 0
        height, width = self.plane.shape
        reason = _why_not(int(part.sum()), y0 == 0 or x0 == 0 or y1 == height or x1 == width, self.keep)
        crop = ObjectCrop(
            pixels=pixels, mask=part, source=self.source, box=(y0, x0, y1, x1), track=fate.track, frame=self.frame
        )
        return FoundObject(
            crop=crop,
            kind="discarded" if reason else fate.kind,
            reason=reason or fate.reason,
            score=float("nan") if self.sharpness is None else float(self.sharpness[place][part].mean()),
        )

    def cut_all(self, numbers: NDArray[np.int64], fates: Mapping[int, Fate]) -> list[FoundObject]:
        """Every numbered object, each by its fate; 0 is ground."""
        from scipy.ndimage import find_objects

        return [
            self.cut(np.asarray(numbers[place] == number, np.bool_), place[0].start, place[1].start, fates[number])
            for number, place in enumerate(find_objects(numbers), 1)
            if place is not None
        ]

    def gathered(
        self,
        found: Sequence[FoundObject],
        objects: Mask,
        ground: GroundOptions,
        *,
        is_ground: Mask | None = None,
        notes: Sequence[str] = (),
    ) -> CropLibrary:
        """Objects together with the background.

        Parameters
        ----------
        found : sequence of FoundObject
        objects : ndarray of bool, shape (Y, X)
            Where objects are, kept or not.
        ground : GroundOptions
        is_ground : ndarray of bool, optional
            Where there is background for sure.
        notes : sequence of str
        """
        background = self._background(objects, ground, is_ground)
        told = [] if background else [f"Nothing of {self.source} is background: it is all objects, or their margin."]
        grey = grey_plane(self.image)
        white = float(np.percentile(grey, _WHITE_PERCENTILE))
        white = white if white > 0 else float(grey.max())
        return CropLibrary(
            objects=tuple(found),
            backgrounds=(background,) if background else (),
            white={self.source: white} if white > 0 else {},
            notes=(*notes, *told),
        )

    def _background(self, objects: Mask, ground: GroundOptions, is_ground: Mask | None) -> Background | None:
        from scipy.ndimage import binary_dilation

        mask = objects
        if ground.window_px:
            mask = mask | local_mask(self.plane, ground.window_px, ground.offset, is_log=ground.is_log)
        if ground.margin_px:
            mask = binary_dilation(mask, ANY_NEIGHBOUR, ground.margin_px)
        if is_ground is not None:
            mask = mask & ~is_ground
        if mask.all():
            return None
        pixels = self.image.astype(np.float32)
        pixels[mask] = 0
        return Background(pixels=pixels, mask=np.asarray(mask, np.bool_), source=self.source)


def _why_not(area_px: int, is_at_border: bool, keep: KeepOptions) -> str:
    if area_px < keep.min_area_px:
        return TOO_SMALL
    if keep.max_area_px and area_px > keep.max_area_px:
        return TOO_LARGE
    return BORDER if keep.drop_border and is_at_border else ""
