"""Scores of results against references, added up plane by plane, so that a stack or a data set has one number.

References
----------
.. [1] Weigert et al., Nat. Methods 15, 2018 (CARE): PSNR after the scaling and shift of least squared error.
.. [2] Maška et al., Bioinformatics 30, 2014 (Cell Tracking Challenge): SEG over all objects of a data set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_cellenhance.core.affine_fit import PairMoments
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.instances import InstanceMatches, match_instances, overlaps, seg_terms
from napari_cellenhance.core.metrics import (
    PointMatches,
    class_dice,
    class_iou,
    confusion_matrix,
    match_points,
    ssim,
)

__all__ = ["MAX_CLASSES", "ClassTally", "ImageTally", "ObjectTally", "PointTally"]

MAX_CLASSES = 32
"""Labels with more different numbers are single objects, not classes."""

_SSIM_WINDOW = 7
_ROUNDING = 1e-12
"""Share of the variance below which what a fit leaves over is rounding."""


@dataclass(slots=True)
class ImageTally:
    """Grey values of an image against a clean reference.

    Parameters
    ----------
    data_range : float
        R of PSNR and SSIM, in grey values of the reference; more than 0.

    Raises
    ------
    ParameterError
        A range that is not positive.

    Notes
    -----
    Errors are pooled over the pixels of all planes, and one scaling and shift is fitted to all planes; SSIM is the
    mean over the planes. Pixels that are not finite in either image are left out, and planes with such pixels, or
    smaller than the 7×7 window, have no SSIM.

    Examples
    --------
    >>> import numpy as np
    >>> ramp = np.linspace(0, 1, 64 * 64).reshape(64, 64)
    >>> tally = ImageTally(1.0)
    >>> tally.add(ramp, ramp + 0.1)
    >>> round(tally.psnr, 3), round(tally.mae, 3), round(tally.ssim, 5), tally.affine_psnr
    (20.0, 0.1, 0.95297, inf)
    """

    data_range: float
    n_planes: int = 0
    n_left_out: int = 0
    """Pixels that are no numbers."""
    _absolute: float = 0.0
    _squared: float = 0.0
    _moments: PairMoments = field(default_factory=PairMoments)
    _ssim: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not (np.isfinite(self.data_range) and self.data_range > 0):
            raise ParameterError(f"data range is {self.data_range}; expected more than 0")

    def add(self, truth: ArrayLike, image: ArrayLike) -> None:
        """Add a plane.

        Parameters
        ----------
        truth, image : array-like of shape (Y, X)

        Raises
        ------
        ImageError
            Shapes that differ.
        """
        y, x = np.asarray(truth, np.float64), np.asarray(image, np.float64)
        if x.shape != y.shape:
            raise ImageError(f"the image has shape {x.shape}, its reference {y.shape}; expected the same")
        is_good = np.isfinite(x) & np.isfinite(y)
        n_good = int(is_good.sum())
        self.n_planes += 1
        self.n_left_out += is_good.size - n_good
        if n_good == is_good.size and min(x.shape) >= _SSIM_WINDOW:
            self._ssim.append(ssim(x, y, self.data_range))
        if n_good:
            error = x[is_good] - y[is_good]
            self._absolute += float(np.abs(error).sum())
            self._squared += float((error**2).sum())
            self._moments.add(x[is_good], y[is_good])

    @property
    def n_pixels(self) -> int:
        """Pixels that were compared."""
        return self._moments.n

    @property
    def mae(self) -> float:
        """Mean absolute error, in grey values; NaN without pixels."""
        return self._absolute / self.n_pixels if self.n_pixels else float("nan")

    @property
    def psnr(self) -> float:
        """10·log10(R² / MSE) in dB; infinite for equal images, NaN without pixels."""
        return self._decibels(self._squared)

    @property
    def affine_psnr(self) -> float:
        """PSNR of α·image + β with α, β of least squared error ([1]_): for results of unknown scale.

        NaN where the reference is constant, since then any image fits. Infinite where nothing but rounding is left.
        An inverted image is forgiven too (α below 0).
        """
        xx, xy, yy = self._moments.scatter[[0, 0, 1], [0, 1, 1]]
        if not yy > 0:
            return float("nan")
        rest = float(yy - (xy**2 / xx if xx > 0 else 0.0))
        return self._decibels(rest if rest > _ROUNDING * yy else 0.0)

    @property
    def is_inverted(self) -> bool:
        """Whether the fit of :attr:`affine_psnr` turns the image upside down."""
        return self._moments.slope < 0

    @property
    def ssim(self) -> float:
        """Mean over the planes that have one; NaN without any."""
        return float(np.mean(self._ssim)) if self._ssim else float("nan")

    @property
    def n_without_ssim(self) -> int:
        """Planes for which there is no SSIM."""
        return self.n_planes - len(self._ssim)

    def _decibels(self, squared: float) -> float:
        if not self.n_pixels:
            return float("nan")
        return 10.0 * float(np.log10(self.data_range**2 * self.n_pixels / squared)) if squared > 0 else float("inf")


@dataclass(slots=True)
class ObjectTally:
    """Labelled objects found against labelled objects wanted.

    Parameters
    ----------
    min_iou : tuple of float
        Least overlaps of a match, each above 0 and at most 1.

    Notes
    -----
    Objects are matched within each plane; counts of matches, overlaps of all objects (SEG, [2]_) and pixels are
    added up.

    Examples
    --------
    >>> tally = ObjectTally((0.5,))
    >>> tally.add([1, 1, 0, 2], [1, 1, 0, 0])
    >>> tally.matches[0.5].average_precision, tally.seg, round(tally.iou, 3)
    (0.5, 0.5, 0.667)
    """

    min_iou: tuple[float, ...]
    n_planes: int = 0
    n_true: int = 0
    n_found: int = 0
    _counts: dict[float, NDArray[np.int64]] = field(default_factory=dict)
    _terms: list[float] = field(default_factory=list)
    _pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, 2), np.int64))

    def __post_init__(self) -> None:
        self._counts = {threshold: np.zeros(3, np.int64) for threshold in self.min_iou}

    def add(self, truth: ArrayLike, found: ArrayLike) -> None:
        """Add a plane of labels; 0 is ground.

        Raises
        ------
        ImageError
            Shapes that differ, or negative ids.
        ParameterError
            A threshold outside its range.
        """
        shared = overlaps(truth, found)
        self.n_planes += 1
        self.n_true += len(shared.truth_sizes)
        self.n_found += len(shared.found_sizes)
        for threshold, counts in self._counts.items():
            matches = match_instances(shared, threshold)
            counts += (matches.tp, matches.fp, matches.fn)
        self._terms += seg_terms(shared).tolist()
        self._pixels = self._pixels + confusion_matrix(np.asarray(truth) > 0, np.asarray(found) > 0, 2)

    def merge(self, other: Self) -> None:
        """Add what another tally with the same thresholds counted."""
        self.n_planes, self.n_true = self.n_planes + other.n_planes, self.n_true + other.n_true
        self.n_found += other.n_found
        for threshold, counts in other._counts.items():
            self._counts[threshold] = self._counts[threshold] + counts
        self._terms += other._terms
        self._pixels = self._pixels + other._pixels

    @property
    def matches(self) -> dict[float, InstanceMatches]:
        """Counts of matches for each least overlap."""
        return {threshold: InstanceMatches(*(int(n) for n in counts)) for threshold, counts in self._counts.items()}

    @property
    def seg(self) -> float:
        """Mean of :func:`napari_cellenhance.core.instances.seg_terms` over all objects; NaN without any."""
        return float(np.mean(self._terms)) if self._terms else float("nan")

    @property
    def iou(self) -> float:
        """Overlap of all objects together with all that was found; 1 where both are empty."""
        value = float(class_iou(self._pixels)[1])
        return 1.0 if np.isnan(value) else value

    @property
    def dice(self) -> float:
        """The same as Dice coefficient."""
        value = float(class_dice(self._pixels)[1])
        return 1.0 if np.isnan(value) else value


@dataclass(slots=True)
class ClassTally:
    """Pixels by true and predicted class.

    Parameters
    ----------
    ignore : int or None
        Pixels with this true label count for nothing (not labelled).

    Examples
    --------
    >>> tally = ClassTally()
    >>> tally.add([[0, 0, 1, 1], [0, 2, 2, 1]], [[0, 1, 1, 1], [0, 2, 0, 1]])
    >>> tally.iou, round(tally.mean_iou, 5)
    ({0: 0.5, 1: 0.75, 2: 0.5}, 0.58333)
    """

    ignore: int | None = None
    n_planes: int = 0
    _pixels: Counter[tuple[int, int]] = field(default_factory=Counter)

    def add(self, truth: ArrayLike, found: ArrayLike) -> None:
        """Add a plane of classes.

        Raises
        ------
        ImageError
            Shapes that differ, or more than :data:`MAX_CLASSES` different labels.
        """
        a, b = np.asarray(truth), np.asarray(found)
        if a.shape != b.shape:
            raise ImageError(f"the classes wanted have shape {a.shape}, those found {b.shape}; expected the same")
        if self.ignore is not None:
            is_counted = a != self.ignore
            a, b = a[is_counted], b[is_counted]
        values = np.union1d(a, b)
        if len(values) > MAX_CLASSES:
            raise ImageError(
                f"the labels hold {len(values)} different numbers; expected at most {MAX_CLASSES} classes. "
                "Labels in which each object has its own number are compared as objects"
            )
        self.n_planes += 1
        counts = confusion_matrix(np.searchsorted(values, a), np.searchsorted(values, b), len(values))
        for row, column in zip(*np.nonzero(counts), strict=True):
            self._pixels[int(values[row]), int(values[column])] += int(counts[row, column])

    def merge(self, other: Self) -> None:
        """Add what another tally counted."""
        self.n_planes += other.n_planes
        self._pixels.update(other._pixels)

    @property
    def classes(self) -> tuple[int, ...]:
        """Labels that occur in truth or result, rising."""
        return tuple(sorted({label for pair in self._pixels for label in pair}))

    @property
    def n_pixels(self) -> int:
        """Pixels counted."""
        return self._pixels.total()

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Pixels by true (rows) and predicted class (columns), in the order of :attr:`classes`."""
        place = {label: i for i, label in enumerate(self.classes)}
        table = np.zeros((len(place), len(place)), np.int64)
        for (true, found), n in self._pixels.items():
            table[place[true], place[found]] = n
        return table

    @property
    def iou(self) -> dict[int, float]:
        """Intersection over union of each class."""
        return dict(zip(self.classes, class_iou(self.confusion).tolist(), strict=True))

    @property
    def dice(self) -> dict[int, float]:
        """Dice coefficient of each class."""
        return dict(zip(self.classes, class_dice(self.confusion).tolist(), strict=True))

    @property
    def mean_iou(self) -> float:
        """Mean over the classes that occur; NaN without pixels."""
        return _mean(self.iou.values())

    @property
    def mean_dice(self) -> float:
        """The same of the Dice coefficient."""
        return _mean(self.dice.values())


@dataclass(slots=True)
class PointTally:
    """Points found against points wanted.

    Parameters
    ----------
    radius_px : float
        Pairs farther apart are no match.

    Examples
    --------
    >>> tally = PointTally(3)
    >>> tally.add([[1, 1], [10, 11], [20, 20]], [[0, 0], [10, 10], [10, 12], [30, 30]])
    >>> round(tally.matches.f1, 6)
    0.571429
    """

    radius_px: float
    n_planes: int = 0
    matches: PointMatches = field(default_factory=lambda: PointMatches(0, 0, 0))

    def add(self, wanted: ArrayLike, found: ArrayLike) -> None:
        """Add all points of an image; those of a stack are matched within the planes that their coordinates name.

        Parameters
        ----------
        wanted, found : array-like of shape (N, ndim)
            Row and column come last, in pixels; coordinates before them are rounded to a plane.

        Raises
        ------
        ImageError
            Points of different dimensions.
        ParameterError
            A radius below 0.
        """
        g, p = (np.asarray(points, np.float64) for points in (wanted, found))
        g, p = (a if a.size else np.zeros((0, max(g.shape[-1], p.shape[-1], 2))) for a in (g, p))
        if g.ndim != 2 or p.ndim != 2 or g.shape[1] != p.shape[1]:
            raise ImageError(
                f"points wanted have {g.shape[-1]} coordinates, points found {p.shape[-1]}; expected as many"
            )
        planes = np.unique(np.rint(np.concatenate([g, p])[:, :-2]), axis=0)
        self.n_planes += max(1, len(planes))
        for plane in planes:
            found_here, wanted_here = (points[(np.rint(points[:, :-2]) == plane).all(axis=1), -2:] for points in (p, g))
            self._count(match_points(found_here, wanted_here, self.radius_px))

    def merge(self, other: Self) -> None:
        """Add what another tally counted."""
        self.n_planes += other.n_planes
        self._count(other.matches)

    def _count(self, more: PointMatches) -> None:
        so_far = self.matches
        self.matches = PointMatches(so_far.tp + more.tp, so_far.fp + more.fp, so_far.fn + more.fn)


def _mean(values: Iterable[float]) -> float:
    told = [value for value in values if not np.isnan(value)]
    return float(np.mean(told)) if told else float("nan")
