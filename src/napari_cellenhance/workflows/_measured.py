"""Images, masks and points that are measured together: opened plane by plane, and checked to be of one size."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.axes import SAMPLES
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.normalize import percentiles
from napari_cellenhance.workflows._planes import OpenedImage, PlaneIndex, all_planes, open_image
from napari_cellenhance.workflows.requests import EnhanceRequest

__all__ = [
    "MeasuredImage",
    "OpenedLayer",
    "TruePoints",
    "check_alike",
    "numbered",
    "open_layer",
    "placed",
    "plane_name",
    "points_by_plane",
]

_STRETCH = (0.1, 99.9)
_SAMPLED_PX = 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredImage:
    """An image, or a mask, to be measured. Holds no layer and no viewer.

    Parameters
    ----------
    name : str
        As it shall stand in the table.
    image : array-like (numpy, dask, zarr)
        Read plane by plane, never written to. Colours are taken as their luminance.
    axes : str
        One letter per dimension out of ``TCZYX``, plus ``S`` for colour samples.
    objects_are_dark : bool
        Invert it first, within its own range of grey values.
    at : (t, c, z) or None
        Measure this plane only; a dimension of length 1, or that the image does not have, is passed over.
    """

    name: str
    image: Any
    axes: str
    objects_are_dark: bool = False
    at: PlaneIndex | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TruePoints:
    """Annotated points.

    Parameters
    ----------
    name : str
    points : ndarray of shape (N, ndim)
        Pixel coordinates in the first image that is measured; its axes without ``S``.
    """

    name: str
    points: NDArray[np.float64]


@dataclass(frozen=True)
class OpenedLayer:
    """A measured image, open: its planes can be read one by one."""

    name: str
    axes: str
    """Without S."""
    pixels: OpenedImage
    planes: tuple[PlaneIndex, ...]
    objects_are_dark: bool
    lead: tuple[int, ...] = field(default=())
    """Lengths of T, C and Z that are measured, without those of length 1."""

    @property
    def plane_shape(self) -> tuple[int, int]:
        """(Y, X)."""
        return self.pixels.shape[-2], self.pixels.shape[-1]

    @property
    def is_integer(self) -> bool:
        """Whether grey values are whole numbers."""
        is_mixed = self.pixels.axes != self.axes  # the luminance of colours is none
        return bool(np.dtype(self.pixels.pixels.dtype).kind in "bui") and not is_mixed

    def read(self, number: int) -> NDArray[Any]:
        """Plane ``number`` of those that are measured, in its own values; bright objects."""
        stored = self.stored(number)
        if not self.objects_are_dark:
            return stored
        low, high = self.extent
        return np.asarray(low + high - stored.astype(np.float64))

    def stored(self, number: int) -> NDArray[Any]:
        """Plane ``number`` as it is stored (bool as 0 and 1); a single plane stands for all."""
        plane = self.pixels.read(self.planes[number if len(self.planes) > 1 else 0])
        return plane.astype(np.uint8) if plane.dtype.kind == "b" else plane

    def ids(self, number: int) -> NDArray[np.int64]:
        """Plane ``number`` of labels.

        Raises
        ------
        ImageError
            Values that are no whole numbers.
        """
        labels = self.stored(number)
        if labels.dtype.kind not in "bui":
            raise ImageError(f"“{self.name}” holds {labels.dtype} values; expected labels, which are whole numbers")
        return np.asarray(labels, np.int64)

    def unit(self, number: int) -> NDArray[np.float32]:
        """Plane ``number`` in [0, 1] with bright objects, finite: what detectors and thresholds work on.

        Real numbers that lie within [0, 1] already (enhanced images) are taken as they are; all others
        are stretched from percentile 0.1 to 99.9 of the whole layer.
        """
        low, high = self.stretched_from
        plane = np.nan_to_num(self.stored(number).astype(np.float64), nan=low, posinf=high, neginf=low)
        shares = np.clip((plane - low) / max(high - low, 1e-300), 0.0, 1.0).astype(np.float32)
        return np.asarray(1.0 - shares if self.objects_are_dark else shares, np.float32)

    @functools.cached_property
    def extent(self) -> tuple[float, float]:
        """Smallest and largest value of the planes that are measured.

        Raises
        ------
        ImageError
            Not a single finite value.
        """
        from napari_cellenhance.core.histograms import value_range

        return value_range(self.stored(i) for i in range(len(self.planes)))

    @functools.cached_property
    def stretched_from(self) -> tuple[float, float]:
        """Grey values that :meth:`unit` turns into 0 and 1."""
        low, high = self.extent
        if np.dtype(self.pixels.pixels.dtype).kind == "f" and low >= 0.0 and high <= 1.0:
            return 0.0, 1.0
        step = (
            max(1, int(np.ceil(len(self.planes) * self.plane_shape[0] * self.plane_shape[1] / _SAMPLED_PX))) | 1
        )  # odd: no column by column
        values = np.concatenate([self.stored(i).ravel()[::step] for i in range(len(self.planes))])
        values = values[np.isfinite(values)]
        p_low, p_high = percentiles(values, _STRETCH) if values.size else (low, high)
        # A few bright spots on even ground: percentiles leave them out, the whole range does not.
        return (p_low, p_high) if p_high > p_low else (low, high if high > low else low + 1.0)


def open_layer(layer: MeasuredImage) -> OpenedLayer:
    """Check the axes of an image and list its planes; reads no pixel.

    Raises
    ------
    AxesError, ImageError
        Axes that do not fit, no pixels, complex numbers.
    ParameterError
        A plane outside the image.
    """
    letters = str(layer.axes).strip().upper()
    request = EnhanceRequest(image=layer.image, axes=letters, channels="grey" if SAMPLES in letters else "all")
    opened = open_image(request)
    if layer.at is None:
        planes = tuple(all_planes(opened))
        lengths = opened.shape[:3]
    else:
        at = tuple(0 if n == 1 else int(i) for i, n in zip(layer.at, opened.shape[:3], strict=True))
        if not all(0 <= i < n for i, n in zip(at, opened.shape[:3], strict=True)):
            raise ParameterError(
                f"plane {plane_name(layer.at)} was asked of “{layer.name}”, which has {_sizes(opened.shape[:3])}"
            )
        planes, lengths = ((at[0], at[1], at[2]),), (1, 1, 1)
    return OpenedLayer(
        name=layer.name,
        axes=letters.replace(SAMPLES, ""),
        pixels=opened,
        planes=planes,
        objects_are_dark=layer.objects_are_dark,
        lead=tuple(n for n in lengths if n > 1),
    )


def _sizes(lengths: Sequence[int]) -> str:
    return ", ".join(f"{letter} {n}" for letter, n in zip("TCZ", lengths, strict=True))


def plane_name(index: PlaneIndex, lengths: Sequence[int] = (2, 2, 2)) -> str:
    """Name a plane by the dimensions that have more than one.

    >>> plane_name((3, 0, 7), (10, 1, 12))
    'T 3 Z 7'
    """
    return " ".join(f"{letter} {i}" for letter, i, n in zip("TCZ", index, lengths, strict=True) if n > 1)


def check_alike(first: OpenedLayer, others: Sequence[OpenedLayer], *, may_be_single: bool = False) -> None:
    """Refuse images that are not of one size.

    Parameters
    ----------
    first : OpenedLayer
    others : sequence of OpenedLayer
    may_be_single : bool
        A single plane may stand for all planes of ``first`` (a mask for a film of one field).

    Raises
    ------
    ImageError
    """
    for other in others:
        is_single = may_be_single and len(other.planes) == 1
        if other.plane_shape == first.plane_shape and (is_single or other.lead == first.lead):
            continue
        raise ImageError(
            f"“{other.name}” has {_described(other)}, “{first.name}” {_described(first)}; layers that are measured "
            "together must show the same planes. Choose layers of one image, or only the plane in view"
        )


def _described(layer: OpenedLayer) -> str:
    n = len(layer.planes)
    height, width = layer.plane_shape
    return f"{n} plane{'' if n == 1 else 's'} of {height} × {width} px"


def points_by_plane(truth: TruePoints, layer: OpenedLayer) -> tuple[list[NDArray[np.float64]], int]:
    """Sort annotated points into the planes of an image.

    Returns
    -------
    list of ndarray of shape (N, 2)
        Row and column of the points of each plane that is measured.
    int
        Points that lie on none of them, or outside the plane.

    Raises
    ------
    ImageError
        Points with another number of coordinates than the image has dimensions.
    """
    axes = layer.axes
    points = np.asarray(truth.points, np.float64)
    points = points if points.size else np.zeros((0, len(axes)))
    if points.ndim != 2 or points.shape[1] != len(axes):
        raise ImageError(
            f"the points “{truth.name}” have {points.shape[-1]} coordinates, “{layer.name}” has {len(axes)} dimensions "
            f"({axes}); measure the plane in view, or give the points all coordinates"
        )
    height, width = layer.plane_shape
    y, x = points[:, axes.index("Y")], points[:, axes.index("X")]
    is_inside = (y > -0.5) & (y < height - 0.5) & (x > -0.5) & (x < width - 0.5)
    found: list[NDArray[np.float64]] = []
    for index in layer.planes:
        is_here = is_inside.copy()
        for letter, wanted in zip("TCZ", index, strict=True):
            if letter in axes:
                is_here &= np.rint(points[:, axes.index(letter)]) == wanted
        found.append(np.column_stack([y[is_here], x[is_here]]))
    return found, len(points) - sum(map(len, found))


def placed(points: Sequence[NDArray[np.float64]], layer: OpenedLayer) -> NDArray[np.float64]:
    """Row and column on each plane → coordinates along all axes of the image."""
    rows = [np.zeros((0, len(layer.axes)))]
    for here, index in zip(points, layer.planes, strict=True):
        columns = dict(zip("TCZ", index, strict=True))
        full = np.empty((len(here), len(layer.axes)))
        for column, letter in enumerate(layer.axes):
            full[:, column] = here[:, "YX".index(letter)] if letter in "YX" else columns[letter]
        rows.append(full)
    return np.concatenate(rows)


def numbered(layer: OpenedLayer) -> Iterator[tuple[int, str]]:
    """Number and name of every plane that is measured."""
    yield from zip(
        itertools.count(), (plane_name(index, layer.pixels.shape[:3]) for index in layer.planes), strict=False
    )
