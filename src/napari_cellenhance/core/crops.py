"""Crops of objects and images without objects, that synthetic images are put together from.

References
----------
.. [1] Javer & Rittscher, "Semantic filtering through deep source separation on microscopy images", arXiv 1909.00691,
   2019, section 3: images are sums of a wanted layer, an unwanted layer and a background.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError

__all__ = ["Background", "CropSet", "ObjectCrop"]

Pixels = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ObjectCrop:
    """One object, cut out of an image.

    Parameters
    ----------
    pixels : ndarray of shape (Y, X) or (Y, X, C), float32
        In the image's own grey values, finite. Outside the object they count for nothing; by custom they are 0.
    mask : ndarray of shape (Y, X), bool
        True on the object.
    source : str
        The image it comes from: all crops of one image learn, or all of them validate.
    box : tuple of int
        Where it was: y0, x0, y1, x1, half open, in pixels of the image.
    track : int or None
        Number of the cell in a time series; crops of one source and track show the same cell.
    frame : int
        Time point.

    Raises
    ------
    ImageError
        Pixels of another type, a mask of another shape, no pixel of the object, or values that are no numbers.
    ParameterError
        A box of another size than the crop.
    """

    pixels: Pixels
    mask: NDArray[np.bool_]
    source: str
    box: tuple[int, int, int, int]
    track: int | None = None
    frame: int = 0

    def __post_init__(self) -> None:
        _check(self.pixels, self.mask, f"the crop of {self.source!r} at {self.box}")
        if not self.mask.any():
            raise ImageError(f"the crop of {self.source!r} at {self.box} has no pixel of an object; leave it out")
        y0, x0, y1, x1 = self.box
        if (y1 - y0, x1 - x0) != self.mask.shape:
            raise ParameterError(f"the box {self.box} of {self.source!r} does not fit a crop of {self.mask.shape} px")

    @property
    def area_px(self) -> int:
        """Pixels of the object."""
        return int(self.mask.sum())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Background:
    """An image whose objects were taken out.

    Parameters
    ----------
    pixels : ndarray of shape (Y, X) or (Y, X, C), float32
        In the image's own grey values, finite. Where objects were they count for nothing; by custom they are 0.
    mask : ndarray of shape (Y, X), bool
        True where objects were.
    source : str

    Raises
    ------
    ImageError
        Pixels of another type, a mask of another shape, nothing but objects, or values that are no numbers.
    """

    pixels: Pixels
    mask: NDArray[np.bool_]
    source: str

    def __post_init__(self) -> None:
        _check(self.pixels, self.mask, f"the background of {self.source!r}")
        if self.mask.all():
            raise ImageError(f"the background of {self.source!r} has no pixel without an object; leave it out")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CropSet:
    """What a semantic filter learns from.

    Parameters
    ----------
    target : tuple of ObjectCrop
        The kind to keep.
    unwanted : tuple of ObjectCrop
        Every other kind; may be empty.
    backgrounds : tuple of Background
        May be empty: the ground is then 0.
    white : mapping of str to float
        For each source the 99th percentile of its grey values, as a whole. A source that is not named here gets an
        estimate from its crops and its background.

    Raises
    ------
    ImageError
        Grey values and colours, or different numbers of channels, side by side.
    ParameterError
        A percentile that is not a positive number.

    Examples
    --------
    >>> import numpy as np
    >>> disc = ObjectCrop(pixels=np.ones((4, 4), np.float32), mask=np.ones((4, 4), bool), source="a", box=(0, 0, 4, 4))
    >>> crops = CropSet(target=(disc,))
    >>> crops.n_channels, crops.swapped().unwanted == (disc,)
    (1, True)
    """

    target: tuple[ObjectCrop, ...] = ()
    unwanted: tuple[ObjectCrop, ...] = ()
    backgrounds: tuple[Background, ...] = ()
    white: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shapes = {one.shape[2:] for one in self._images}
        if len(shapes) > 1:
            kinds = sorted("grey" if not shape else f"{shape[0]} channels" for shape in shapes)
            raise ImageError(f"crops of different kinds ({', '.join(kinds)}) cannot be used together; choose one kind")
        bad = [name for name, value in self.white.items() if not (np.isfinite(value) and value > 0)]
        if bad:
            raise ParameterError(
                f"the 99th percentile of {bad[0]!r} is {self.white[bad[0]]}; expected a positive number"
            )

    @property
    def _images(self) -> list[Pixels]:
        return [one.pixels for one in (*self.target, *self.unwanted)] + [one.pixels for one in self.backgrounds]

    @property
    def is_colour(self) -> bool:
        """Pixels have an axis of channels."""
        return bool(self._images) and self._images[0].ndim == 3

    @property
    def n_channels(self) -> int:
        """1 for grey values."""
        return int(self._images[0].shape[2]) if self.is_colour else 1

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the images, in alphabetical order."""
        of_crops = {one.source for one in (*self.target, *self.unwanted)}
        return tuple(sorted(of_crops | {one.source for one in self.backgrounds}))

    def swapped(self) -> CropSet:
        """The other kind becomes the one to keep."""
        return CropSet(target=self.unwanted, unwanted=self.target, backgrounds=self.backgrounds, white=self.white)

    def of_sources(self, sources: set[str]) -> CropSet:
        """Only what comes from these images."""
        return CropSet(
            target=tuple(one for one in self.target if one.source in sources),
            unwanted=tuple(one for one in self.unwanted if one.source in sources),
            backgrounds=tuple(one for one in self.backgrounds if one.source in sources),
            white={name: value for name, value in self.white.items() if name in sources},
        )


def _check(pixels: NDArray[Any], mask: NDArray[Any], what: str) -> None:
    if pixels.dtype != np.float32 or pixels.ndim not in (2, 3):
        raise ImageError(
            f"{what} has pixels of type {pixels.dtype} and shape {pixels.shape}; expected float32 of shape (Y, X) or "
            "(Y, X, C)"
        )
    if mask.dtype != np.bool_ or mask.shape != pixels.shape[:2] or 0 in pixels.shape:
        raise ImageError(
            f"{what} has a mask of type {mask.dtype} and shape {mask.shape}; expected bool of shape {pixels.shape[:2]}"
        )
    if not np.isfinite(pixels).all():
        raise ImageError(f"{what} has values that are no numbers; replace them first")
