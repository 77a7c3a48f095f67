"""How well the objects of an enhanced image can be found, for every setting of the finder; and choosing a setting.

References
----------
.. [1] Lim et al., "NU-Net", 2023, Fig. 5 and 6: the detector's threshold is optimised for each condition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.core.instances import match_instances, overlaps, seg_terms
from napari_cellenhance.core.metrics import match_points
from napari_cellenhance.core.postprocess import blob_candidates, segment
from napari_cellenhance.core.scale_space import blob_sigmas, scale_space_maxima

__all__ = [
    "BLOB_THRESHOLDS",
    "SPLITS",
    "Split",
    "best_setting",
    "f1_at_one_scale",
    "f1_over_scales",
    "segmentation_scores",
]

BLOB_THRESHOLDS = (0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4, 0.5)
"""Thresholds a detector may take, as responses −σ²∇²G; a disc of height 1 answers with 0.74."""


@dataclass(frozen=True, slots=True)
class Split:
    """Settings of the watershed.

    Parameters
    ----------
    depth : float
        See ``core.postprocess.segment``; 0 leaves touching objects together.
    min_size : float
        Objects smaller than this share of a disc of the typical diameter are dropped.
    """

    depth: float
    min_size: float

    def min_size_px(self, diameter_px: float) -> float:
        """Smallest object that is kept, in pixels."""
        return self.min_size * np.pi * (diameter_px / 2) ** 2


SPLITS = tuple(Split(depth, size) for depth in (0.0, 0.1, 0.3) for size in (0.05, 0.2))
"""Settings the watershed may take: the same freedom for every filter."""


def f1_at_one_scale(
    image: NDArray[np.float32], wanted: NDArray[np.float64], diameter_px: float, thresholds: Sequence[float]
) -> NDArray[np.float64]:
    """F1 of blobs about as large as the objects are known to be, for each threshold.

    Parameters
    ----------
    image : ndarray of shape (Y, X), about [0, 1]
    wanted : ndarray of shape (N, 2)
        Centres of the objects, in pixels.
    diameter_px : float
        Typical diameter; half of it is the largest distance of a match.
    thresholds : sequence of float

    Returns
    -------
    ndarray of shape (n thresholds,)
    """
    points, responses = blob_candidates(image, diameter_px / 2)
    return _f1_by_threshold([points[responses >= t] for t in thresholds], wanted, diameter_px)


def f1_over_scales(
    image: NDArray[np.float32], wanted: NDArray[np.float64], diameter_px: float, thresholds: Sequence[float]
) -> NDArray[np.float64]:
    """F1 of blobs from half to one and a half times the typical size (the paper's detector, [1]_), for each threshold.

    As :func:`f1_at_one_scale`, with the maxima of ``skimage.feature.blob_log``.
    """
    found = scale_space_maxima(image, blob_sigmas(diameter_px), min(thresholds))
    return _f1_by_threshold([found.above(t) for t in thresholds], wanted, diameter_px)


def _f1_by_threshold(
    found: Sequence[NDArray[np.float64]], wanted: NDArray[np.float64], diameter_px: float
) -> NDArray[np.float64]:
    return np.array([match_points(points, wanted, diameter_px / 2).f1 for points in found])


def segmentation_scores(
    image: NDArray[np.float32], labels: NDArray[np.integer], diameter_px: float, splits: Sequence[Split]
) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    """Average precision at IoU 0.5 and the terms of SEG of Otsu's threshold and watershed, for each setting.

    Returns
    -------
    average_precision : ndarray of shape (n splits,)
    seg : list of ndarray of shape (n objects,)
        Their mean over all objects of all images is SEG.
    """
    by_depth = {depth: overlaps(labels, _objects(image, depth)) for depth in {split.depth for split in splits}}
    kept = [by_depth[split.depth].without_small(split.min_size_px(diameter_px)) for split in splits]
    return np.array([match_instances(k).average_precision for k in kept]), [seg_terms(k) for k in kept]


def _objects(image: NDArray[np.float32], depth: float) -> NDArray[np.uint32]:
    if depth == 0:
        return segment(image, split_touching=False, min_size_px=0)
    return segment(image, min_size_px=0, split_depth=depth)


# --- choosing a setting ------------------------------------------------------------------


def best_setting(scores: NDArray[np.float64]) -> int:
    """Column with the best mean over images; in the middle where several in a row are equally good.

    Parameters
    ----------
    scores : ndarray of shape (n images, n settings)

    Raises
    ------
    ImageError
        No image to choose on.
    """
    if not scores.size:
        raise ImageError("there is no image to choose a setting on; give labelled images to tune on")
    means = scores.mean(axis=0)
    is_best = means >= means.max() - 1e-12
    first = int(is_best.argmax())
    length = int((~is_best[first:]).argmax()) or len(is_best) - first
    return first + (length - 1) // 2
