"""Scores of one enhanced image, the settings they need, and their summary over the images of a data set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core import metrics
from napari_cellenhance.core import object_scores as finders
from napari_cellenhance.core.object_scores import BLOB_THRESHOLDS, SPLITS, Split
from napari_cellenhance.io.labelled import LabelledImage
from napari_cellenhance.workflows._evaluate_filters import FilterJob, for_contrast

__all__ = ["ImageScore", "Row", "Settings", "Sweep", "as_dict", "choose_settings", "score", "summarise", "sweep"]

Plane = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a finder may be tuned by.

    Parameters
    ----------
    threshold_one_scale, threshold_scale_range : float
        Of the blob detectors, as responses −σ²∇²G.
    split : Split
        Of the watershed.
    """

    threshold_one_scale: float
    threshold_scale_range: float
    split: Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Scores of one image for every setting; an entry is None where the truth does not allow it."""

    one_scale: NDArray[np.float64] | None
    scale_range: NDArray[np.float64] | None
    precision: NDArray[np.float64] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageScore:
    """Scores of one filter on one image; NaN where the truth does not allow one.

    ``contrast_ratio``, ``gain`` and ``fold`` (against raw) are of images as acquired only; ``contrast_floored`` says
    that the ground was darker than the floor of the ratio.
    """

    source: str
    quality: str
    image: str
    filter_id: str
    label: str
    strength: float
    diameter_px: float
    contrast_ratio: float
    gain: float
    fold: float
    contrast_floored: bool
    michelson: float
    auroc: float
    otsu_iou: float
    average_precision: float
    blob_f1: float
    blob_f1_scales: float
    threshold: float
    threshold_scales: float
    split_depth: float
    min_size: float
    seg_terms: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Means over the images of one source, for one filter; NaN where the truth does not allow a score.

    Parameters
    ----------
    contrast_ratio, contrast_sd, gain, fold, fold_sd : float
        Object over ground, its standard deviation over images, difference and quotient to raw.
    n_floored : int
        Images whose ground was darker than the floor of the ratio.
    michelson, auroc, otsu_iou : float
        Of intensity against mask.
    average_precision, seg : float
        Otsu and watershed: mean AP at IoU 0.5; SEG over all objects.
    blob_f1, blob_f1_scales : float
        One scale known; from half to one and a half times the size. ``_sd``: over images.
    threshold, threshold_scales, split_depth, min_size : float
        Settings that were chosen; the median where each image has its own (leave one out).
    tuned_on : str
        Where they were chosen.
    """

    source: str
    quality: str
    filter_id: str
    label: str
    strength: float
    n_images: int
    contrast_ratio: float
    contrast_sd: float
    gain: float
    fold: float
    fold_sd: float
    n_floored: int
    michelson: float
    auroc: float
    otsu_iou: float
    average_precision: float
    seg: float
    blob_f1: float
    blob_f1_sd: float
    blob_f1_scales: float
    threshold: float
    threshold_scales: float
    split_depth: float
    min_size: float
    tuned_on: str


def sweep(output: Plane, truth: LabelledImage, *, with_labels: bool) -> Sweep:
    """Score every setting of the finders on one image; the watershed only ``with_labels``."""
    one = many = precision = None
    if truth.points is not None:
        one = finders.f1_at_one_scale(output, truth.points, truth.diameter_px, BLOB_THRESHOLDS)
        many = finders.f1_over_scales(output, truth.points, truth.diameter_px, BLOB_THRESHOLDS)
    if with_labels and truth.labels is not None:
        precision, _ = finders.segmentation_scores(output, truth.labels, truth.diameter_px, SPLITS)
    return Sweep(one_scale=one, scale_range=many, precision=precision)


def choose_settings(sweeps: Sequence[Sweep], *, without: int | None = None) -> Settings:
    """Settings with the best means over images; ``without`` leaves one image out."""
    used = [s for i, s in enumerate(sweeps) if i != without] if len(sweeps) > 1 else list(sweeps)

    def best(rows: list[NDArray[np.float64] | None]) -> int:
        known = [row for row in rows if row is not None]
        return finders.best_setting(np.array(known)) if known else 0

    return Settings(
        threshold_one_scale=BLOB_THRESHOLDS[best([s.one_scale for s in used])],
        threshold_scale_range=BLOB_THRESHOLDS[best([s.scale_range for s in used])],
        split=SPLITS[best([s.precision for s in used])],
    )


def score(
    output: Plane,
    truth: LabelledImage,
    quality: str,
    job: FilterJob,
    settings: Settings,
    *,
    with_contrast: bool,
    with_labels: bool,
) -> ImageScore:
    """Score one enhanced image at given settings.

    Parameters
    ----------
    output : ndarray of shape (Y, X)
        float32 in [0, 1].
    truth : LabelledImage
        ``truth.image`` is what the filter was given.
    with_contrast : bool
        Also take the contrast ratio.
    with_labels : bool
        Also segment, and compare with the labels.
    """
    nan = math.nan
    ratio, gain, fold, is_floored = nan, nan, nan, False
    michelson = auroc = otsu_iou = nan
    if truth.mask is not None and truth.mask.any() and not truth.mask.all():
        shown = for_contrast(truth.image, output, job.filter_id)
        if with_contrast:
            before, after = metrics.contrast_ratio(truth.image, truth.mask), metrics.contrast_ratio(shown, truth.mask)
            ratio, is_floored = after.value, after.hit_floor
            gain, fold = metrics.gain_and_fold(before, after)
            michelson = metrics.michelson(shown, truth.mask)
        auroc = metrics.auroc(output, truth.mask)
        otsu_iou = metrics.otsu_iou(output, truth.mask)
    one = many = precision = nan
    terms: tuple[float, ...] = ()
    if truth.points is not None:
        at_one, over_range = (settings.threshold_one_scale,), (settings.threshold_scale_range,)
        one = float(finders.f1_at_one_scale(output, truth.points, truth.diameter_px, at_one)[0])
        many = float(finders.f1_over_scales(output, truth.points, truth.diameter_px, over_range)[0])
    is_segmented = with_labels and truth.labels is not None
    if with_labels and truth.labels is not None:
        found = finders.segmentation_scores(output, truth.labels, truth.diameter_px, (settings.split,))
        precision, terms = float(found[0][0]), tuple(float(t) for t in found[1][0])
    return ImageScore(
        source=truth.source,
        quality=quality,
        image=truth.name,
        filter_id=job.filter_id,
        label=job.label,
        strength=job.strength_for(truth.diameter_px),
        diameter_px=truth.diameter_px,
        contrast_ratio=ratio,
        gain=gain,
        fold=fold,
        contrast_floored=is_floored,
        michelson=michelson,
        auroc=auroc,
        otsu_iou=otsu_iou,
        average_precision=precision,
        blob_f1=one,
        blob_f1_scales=many,
        threshold=settings.threshold_one_scale if truth.points is not None else nan,
        threshold_scales=settings.threshold_scale_range if truth.points is not None else nan,
        split_depth=settings.split.depth if is_segmented else nan,
        min_size=settings.split.min_size if is_segmented else nan,
        seg_terms=terms,
    )


def summarise(scores: Sequence[ImageScore], tuned_on: str) -> Row:
    """Means over the images of one source, at one quality, for one filter."""
    first = scores[0]

    def values(name: str) -> NDArray[np.float64]:
        known = np.array([getattr(s, name) for s in scores], np.float64)
        return known[~np.isnan(known)]

    def mean(name: str) -> float:
        return float(values(name).mean()) if values(name).size else math.nan

    def spread(name: str) -> float:
        return float(values(name).std(ddof=1)) if values(name).size > 1 else math.nan

    def middle(name: str) -> float:
        return float(np.median(values(name))) if values(name).size else math.nan

    terms = [t for s in scores for t in s.seg_terms]
    return Row(
        source=first.source,
        quality=first.quality,
        filter_id=first.filter_id,
        label=first.label,
        strength=middle("strength"),
        n_images=len(scores),
        contrast_ratio=mean("contrast_ratio"),
        contrast_sd=spread("contrast_ratio"),
        gain=mean("gain"),
        fold=mean("fold"),
        fold_sd=spread("fold"),
        n_floored=sum(s.contrast_floored for s in scores),
        michelson=mean("michelson"),
        auroc=mean("auroc"),
        otsu_iou=mean("otsu_iou"),
        average_precision=mean("average_precision"),
        seg=float(np.mean(terms)) if terms else math.nan,
        blob_f1=mean("blob_f1"),
        blob_f1_sd=spread("blob_f1"),
        blob_f1_scales=mean("blob_f1_scales"),
        threshold=middle("threshold"),
        threshold_scales=middle("threshold_scales"),
        split_depth=middle("split_depth"),
        min_size=middle("min_size"),
        tuned_on=tuned_on,
    )


def as_dict(item: ImageScore | Row) -> dict[str, object]:
    """One line of a table; the terms of SEG become their mean."""
    line = {field.name: getattr(item, field.name) for field in fields(item) if field.name != "seg_terms"}
    if isinstance(item, ImageScore):
        line["seg"] = float(np.mean(item.seg_terms)) if item.seg_terms else math.nan
    return line
