"""Measures of an enhanced image: contrast, overlap with a mask, points found, distance to a truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError

__all__ = [
    "ContrastRatio",
    "PointMatches",
    "auroc",
    "class_dice",
    "class_iou",
    "confusion_matrix",
    "contrast_ratio",
    "dice",
    "f1",
    "gain_and_fold",
    "iou",
    "mae",
    "match_points",
    "michelson",
    "otsu_iou",
    "psnr",
    "scale_invariant_psnr",
    "snr",
    "ssim",
]

_FLOOR_SHARE = 1e-3


# --- contrast ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ContrastRatio:
    """Mean of the objects over mean of the ground.

    Parameters
    ----------
    value : float
    hit_floor : bool
        The ground was darker than the floor; the value says "at least", not "how much".
    """

    value: float
    hit_floor: bool


def contrast_ratio(image: ArrayLike, mask: ArrayLike, data_range: float | None = None) -> ContrastRatio:
    """Contrast ratio mean(foreground) / mean(background).

    Parameters
    ----------
    image : array-like
        Not negative.
    mask : array-like of bool, same shape
        True on objects; neither empty nor full.
    data_range : float or None
        The denominator is floored at 1/1000 of it, since the ground of an enhanced image
        reaches 0. None: the largest value of the image, less the smallest.

    Returns
    -------
    ContrastRatio
        1, floor hit, for an image that is 0 everywhere.

    Raises
    ------
    ImageError
        Negative or non-finite values, or a mask that does not fit.

    Notes
    -----
    Blind to quality: one bright pixel per object is enough for a high ratio. Report it
    together with :func:`michelson` or :func:`auroc`.

    Examples
    --------
    >>> mask = [[False, False, False, True], [False, False, True, True]]
    >>> contrast_ratio([[10, 10, 10, 50], [10, 10, 50, 50]], mask)
    ContrastRatio(value=5.0, hit_floor=False)
    """
    foreground, background, extent = _split_by_mask(image, mask)
    if min(foreground.min(), background.min()) < 0:
        raise ImageError("the contrast ratio needs values of 0 or more; shift or normalise the image first")
    floor = _FLOOR_SHARE * (extent if data_range is None else float(data_range))
    ground = float(background.mean())
    hit_floor = ground < floor or ground == 0.0
    denominator = max(ground, floor)
    return ContrastRatio(float(foreground.mean()) / denominator if denominator > 0 else 1.0, hit_floor)


def gain_and_fold(before: ContrastRatio, after: ContrastRatio) -> tuple[float, float]:
    """Gain (difference) and fold (quotient) of two contrast ratios.

    >>> gain_and_fold(ContrastRatio(5.0, False), ContrastRatio(525.0, False))
    (520.0, 105.0)
    """
    return after.value - before.value, after.value / before.value if before.value else float("inf")


def michelson(image: ArrayLike, mask: ArrayLike) -> float:
    """Michelson contrast (fg − bg) / (fg + bg) of the means, in [−1, 1] for values of 0 or more.

    Bounded, so it does not explode where the ground reaches 0. An image of zeros gives 0.

    Raises
    ------
    ImageError
        As :func:`contrast_ratio`.
    """
    foreground, background, _ = _split_by_mask(image, mask)
    if min(foreground.min(), background.min()) < 0:
        raise ImageError("the Michelson contrast needs values of 0 or more; shift or normalise the image first")
    fg, bg = float(foreground.mean()), float(background.mean())
    return (fg - bg) / (fg + bg) if fg + bg > 0 else 0.0


def auroc(image: ArrayLike, mask: ArrayLike) -> float:
    """Probability that a pixel of the objects is brighter than one of the ground; ties count half.

    Area under the receiver operating characteristic, as the rank statistic of Mann and Whitney.

    Raises
    ------
    ImageError
        Non-finite values, or a mask that does not fit, is empty, or full.

    Examples
    --------
    >>> auroc([1, 2, 3, 4], [False, True, False, True])
    0.75
    """
    from scipy.stats import rankdata

    foreground, background, _ = _split_by_mask(image, mask)
    ranks = rankdata(np.concatenate([foreground, background]))
    n_fg, n_bg = foreground.size, background.size
    excess = float(ranks[:n_fg].sum()) - n_fg * (n_fg + 1) / 2
    return excess / (float(n_fg) * n_bg)


def snr(image: ArrayLike, mask: ArrayLike) -> float:
    """Signal-to-noise ratio: (mean of the objects − mean of the ground) / standard deviation of the ground.

    The ground's own structure counts as noise. Infinite for a ground without any variation, where the objects are not
    as dark as it; 0 where there is no difference at all.

    Raises
    ------
    ImageError
        Non-finite values, or a mask that does not fit, is empty, or full.

    Examples
    --------
    >>> snr([1, 3, 10, 12], [False, False, True, True])
    9.0
    """
    foreground, background, _ = _split_by_mask(image, mask)
    signal, noise = float(foreground.mean() - background.mean()), float(background.std())
    if noise > 0:
        return signal / noise
    return float(np.copysign(np.inf, signal)) if signal else 0.0


def _split_by_mask(image: ArrayLike, mask: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Pixels of the objects, pixels of the ground, and the range of values."""
    pixels, inside = np.asarray(image, np.float64), np.asarray(mask).astype(bool)
    if pixels.shape != inside.shape:
        raise ImageError(f"the image has shape {pixels.shape}, the mask {inside.shape}; expected the same")
    if inside.all() or not inside.any():
        raise ImageError("the mask marks no pixel or every pixel; expected objects and ground")
    if not np.isfinite(pixels).all():
        raise ImageError("the image contains NaN or infinite values; fill them first")
    return pixels[inside], pixels[~inside], float(pixels.max() - pixels.min())


# --- masks ------------------------------------------------------------------------------


def iou(first: ArrayLike, second: ArrayLike) -> float:
    """Intersection over union of two masks (Jaccard index); 1 where both are empty.

    >>> iou([True, True, False], [False, True, True])
    0.3333333333333333
    """
    a, b = _masks(first, second)
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0


def dice(first: ArrayLike, second: ArrayLike) -> float:
    """Dice coefficient 2|A∩B| / (|A|+|B|) of two masks; 1 where both are empty.

    >>> dice([True, True, False], [False, True, True])
    0.5
    """
    a, b = _masks(first, second)
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0


def _masks(first: ArrayLike, second: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    a, b = np.asarray(first).astype(bool), np.asarray(second).astype(bool)
    if a.shape != b.shape:
        raise ImageError(f"the masks have shapes {a.shape} and {b.shape}; expected the same")
    return a, b


def confusion_matrix(truth: ArrayLike, prediction: ArrayLike, n_classes: int | None = None) -> NDArray[np.int64]:
    """Count pixels by true class (rows) and predicted class (columns); add them up over images.

    Parameters
    ----------
    truth, prediction : array-like of int, same shape
        Classes 0, 1, 2, …
    n_classes : int or None
        None: the largest class plus one.

    Raises
    ------
    ImageError
        Shapes that differ.
    ParameterError
        A class below 0, or not below ``n_classes``.
    """
    a, b = np.asarray(truth).astype(np.int64).ravel(), np.asarray(prediction).astype(np.int64).ravel()
    if np.shape(truth) != np.shape(prediction):
        raise ImageError(f"truth has shape {np.shape(truth)}, prediction {np.shape(prediction)}; expected the same")
    largest = int(max(a.max(initial=-1), b.max(initial=-1)))
    n = largest + 1 if n_classes is None else n_classes
    if largest >= n or min(a.min(initial=0), b.min(initial=0)) < 0:
        raise ParameterError(f"classes go from {min(a.min(), b.min())} to {largest}; expected 0 to {n - 1}")
    return np.bincount(a * n + b, minlength=n * n).reshape(n, n)


def class_iou(confusion: ArrayLike) -> NDArray[np.float64]:
    """IoU of each class, M_cc / (row_c + column_c − M_cc); NaN for a class that never occurs."""
    hits, total = _hits_and_total(confusion)
    return _ratio(hits, total - hits)


def class_dice(confusion: ArrayLike) -> NDArray[np.float64]:
    """Dice of each class, 2 M_cc / (row_c + column_c); NaN for a class that never occurs."""
    hits, total = _hits_and_total(confusion)
    return _ratio(2 * hits, total)


def _hits_and_total(confusion: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    counts = np.asarray(confusion, np.float64)
    return np.diag(counts).copy(), counts.sum(axis=0) + counts.sum(axis=1)


def _ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    result = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=result, where=denominator > 0)
    return result


def otsu_iou(image: ArrayLike, mask: ArrayLike) -> float:
    """IoU of the mask with the image above its Otsu threshold: how well it segments by itself.

    Raises
    ------
    ImageError
        Shapes that differ, or values that are not finite.
    """
    from skimage.filters import threshold_otsu

    pixels = np.asarray(image, np.float64)
    if not np.isfinite(pixels).all():
        raise ImageError("the image contains NaN or infinite values; fill them first")
    return iou(pixels > threshold_otsu(pixels), mask)  # type: ignore[no-untyped-call]


# --- points -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PointMatches:
    """Counts of a one-to-one matching of points found with points wanted."""

    tp: int
    fp: int
    fn: int

    @property
    def precision(self) -> float:
        """Share of the points found that are right; 1 where none were found and none wanted."""
        found = self.tp + self.fp
        return self.tp / found if found else float(self.fn == 0)

    @property
    def recall(self) -> float:
        """Share of the points wanted that were found; 1 where none were wanted and none found."""
        wanted = self.tp + self.fn
        return self.tp / wanted if wanted else float(self.fp == 0)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return f1(self.tp, self.fp, self.fn)


def f1(tp: int, fp: int, fn: int) -> float:
    """F1 = 2 TP / (2 TP + FP + FN); 1 where there is nothing to find and nothing found.

    >>> round(f1(2, 2, 1), 6)
    0.571429
    """
    total = 2 * tp + fp + fn
    return 2 * tp / total if total else 1.0


def match_points(found: ArrayLike, wanted: ArrayLike, radius: float) -> PointMatches:
    """Match points one to one: as many pairs as possible, then as close as possible.

    Parameters
    ----------
    found, wanted : array-like of shape (N, ndim)
        Coordinates in pixels.
    radius : float
        Pairs farther apart are no match; in pixels.

    Raises
    ------
    ParameterError
        A negative or non-finite radius, or points of different dimensions.

    Notes
    -----
    Optimal assignment (Kuhn-Munkres), since taking the nearest pair first can lose one. It is
    solved group by group of points within reach of each other, so many points are no problem.

    Examples
    --------
    >>> match_points([[0, 0], [0, 3]], [[0, 2], [0, -2]], radius=2.5)
    PointMatches(tp=2, fp=0, fn=0)
    """
    if not (np.isfinite(radius) and radius >= 0):
        raise ParameterError(f"radius is {radius} px; expected 0 or more")
    p, g = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    if p.size == 0 or g.size == 0:
        return PointMatches(0, len(p), len(g))
    if p.ndim != 2 or g.ndim != 2 or p.shape[1] != g.shape[1]:
        raise ParameterError(f"points have shapes {p.shape} and {g.shape}; expected (N, ndim) with the same ndim")
    tp = _n_matched(p, g, float(radius))
    return PointMatches(tp, len(p) - tp, len(g) - tp)


def _n_matched(p: NDArray[np.float64], g: NDArray[np.float64], radius: float) -> int:
    from scipy.optimize import linear_sum_assignment
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import KDTree

    near = KDTree(p).query_ball_point(g, radius)
    rows = np.repeat(np.arange(len(g)), [len(hits) for hits in near])
    columns = np.array([hit for hits in near for hit in hits], np.int64)
    if not columns.size:
        return 0
    n = len(g) + len(p)
    graph = coo_array((np.ones(columns.size), (rows, columns + len(g))), shape=(n, n))
    _, group = connected_components(graph, directed=False)
    order = np.argsort(group[rows], kind="stable")
    cuts = np.flatnonzero(np.diff(group[rows][order])) + 1
    matched = 0
    for pairs in np.split(order, cuts):
        g_ids, i = np.unique(rows[pairs], return_inverse=True)
        p_ids, j = np.unique(columns[pairs], return_inverse=True)
        # A pair is worth 1 less at most 1/2 over all pairs together: more pairs always win.
        distance = np.linalg.norm(g[rows[pairs]] - p[columns[pairs]], axis=1)
        worth = np.zeros((len(g_ids), len(p_ids)))
        worth[i, j] = 1.0 - distance / (max(radius, 1e-12) * 2 * min(len(g_ids), len(p_ids)))
        chosen = linear_sum_assignment(worth, maximize=True)
        matched += int((worth[chosen] > 0).sum())
    return matched


# --- restoration ------------------------------------------------------------------------


def mae(image: ArrayLike, truth: ArrayLike) -> float:
    """Mean absolute error."""
    x, y = _pair(image, truth)
    return float(np.abs(x - y).mean())


def psnr(image: ArrayLike, truth: ArrayLike, data_range: float) -> float:
    """Peak signal-to-noise ratio 10·log10(R² / MSE), in dB; infinite for equal images.

    Parameters
    ----------
    image, truth : array-like, same shape
    data_range : float
        R, stated explicitly: it decides the number.

    Raises
    ------
    ImageError
        Shapes that differ, or no pixels.
    ParameterError
        A range that is not positive.
    """
    x, y = _pair(image, truth)
    if not data_range > 0:
        raise ParameterError(f"data range is {data_range}; expected more than 0")
    mse = float(((x - y) ** 2).mean())
    return 10.0 * float(np.log10(data_range**2 / mse)) if mse > 0 else float("inf")


def scale_invariant_psnr(image: ArrayLike, truth: ArrayLike, data_range: float) -> float:
    """PSNR of α·image + β with α, β of least squared error: for results of unknown scale."""
    x, y = _pair(image, truth)
    centred = x - x.mean()
    variance = float((centred**2).mean())
    slope = float((centred * (y - y.mean())).mean()) / variance if variance > 0 else 0.0
    return psnr(slope * centred + y.mean(), y, data_range)


def ssim(image: ArrayLike, truth: ArrayLike, data_range: float) -> float:
    """Structural similarity (uniform 7×7 window), at most 1.

    Raises
    ------
    ImageError
        Shapes that differ, or a side shorter than the window.
    """
    from skimage.metrics import structural_similarity

    x, y = _pair(image, truth)
    if min(x.shape) < 7:
        raise ImageError(f"an image of shape {x.shape} is smaller than the 7×7 window of SSIM")
    return float(structural_similarity(x, y, data_range=data_range, win_size=7))  # type: ignore[no-untyped-call]


def _pair(image: ArrayLike, truth: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = np.asarray(image, np.float64), np.asarray(truth, np.float64)
    if x.shape != y.shape or x.size == 0:
        raise ImageError(f"the images have shapes {x.shape} and {y.shape}; expected the same, with pixels")
    return x, y
