"""Score filters on labelled images, for detection and segmentation beside contrast.

Contrast ratio alone rewards hallucination, so every row also has the Otsu IoU and the blob F1.

References
----------
.. [1] Lim et al., "NU-Net", 2023, Table 2 (contrast ratio) and Table 3 (blob detection F1).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.core.sources import stretch
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress

__all__ = ["EvaluateRequest", "HeldOutImage", "Row", "read_test_images", "run", "to_markdown", "to_rows"]

Plane = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateRequest:
    """Which filters to score, on what.

    Parameters
    ----------
    data : path
        JSON list of sources with labels (held-out images).
    filters : sequence of (filter id, strength)
    n_images : int
        Images per source, evenly spaced; 0 takes all.
    is_degraded : bool
        Score on poor versions of the images as well (shot noise, read noise, haze, blur; seeded).
    """

    data: str | os.PathLike[str]
    data_root: str | os.PathLike[str] | None = None
    filters: tuple[tuple[str, float], ...] = ()
    n_images: int = 12
    is_degraded: bool = True
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Means over the images of one source, for one filter.

    ``contrast_ratio`` and ``auroc`` measure object against ground (mask), ``otsu_iou`` is in 0…1, ``blob_f1`` compares
    Laplacian-of-Gaussian detections with label centroids at the detector threshold that suits the filter best on
    this source (as in [1]_), ``n_images`` is the count.
    """

    source: str
    quality: str
    filter_id: str
    strength: float
    n_images: int
    contrast_ratio: float
    auroc: float
    otsu_iou: float
    blob_f1: float


@dataclass(frozen=True, slots=True)
class HeldOutImage:
    """One held-out image: float32 in [0, 1], bright objects; instance labels; object diameter in px."""

    source: str
    quality: str
    image: Plane
    labels: NDArray[np.integer]
    diameter_px: float


def read_test_images(request: EvaluateRequest) -> list[HeldOutImage]:
    """Held-out images as they are, and degraded versions of the same."""
    from napari_cellenhance.core.augment import degrade
    from napari_cellenhance.io.datasets import read_sources

    images = []
    for number, source in enumerate(read_sources(request.data, data_root=request.data_root)):
        count = len(source.images)
        n_wanted = count if request.n_images == 0 else min(request.n_images, count)
        for i in np.unique(np.linspace(0, count - 1, n_wanted).astype(int)):
            labels = source.labels[i]
            if labels is None or not labels.any():
                continue
            entry = (labels, source.diameters_px[i])
            images.append(HeldOutImage(source.name, "as acquired", source.images[i], *entry))
            if request.is_degraded:
                poor = degrade(source.images[i], np.random.default_rng([request.seed, number, int(i)]))
                images.append(HeldOutImage(source.name, "degraded", poor, *entry))
    if not images:
        raise ImageError(f"{request.data} holds no image with labels; scores need masks")
    return images


def run(
    request: EvaluateRequest, *, on_progress: OnProgress = no_progress, is_cancelled: IsCancelled = never_cancelled
) -> list[Row]:
    """Score each filter on each source and quality; ``raw`` comes first."""
    images = read_test_images(request)
    rows: list[Row] = []
    jobs: tuple[tuple[str, float], ...] = (("raw", 0.0), *request.filters)
    for done, (filter_id, strength) in enumerate(jobs):
        if is_cancelled():
            break
        on_progress(Progress(n_done=done, n_total=len(jobs), message=f"{filter_id} {strength:g}"))
        apply = _opened(filter_id, strength)
        outputs = [apply(t.image) for t in images]
        groups = dict.fromkeys((t.source, t.quality) for t in images)
        for source, quality in groups:
            chosen = [i for i, t in enumerate(images) if (t.source, t.quality) == (source, quality)]
            rows.append(_score(filter_id, strength, [images[i] for i in chosen], [outputs[i] for i in chosen]))
    on_progress(Progress(n_done=len(jobs), n_total=len(jobs), message="scored"))
    return rows


def _opened(filter_id: str, strength: float) -> Callable[[Plane], Plane]:
    if filter_id == "raw":
        return stretch
    from napari_cellenhance.workflows import enhance
    from napari_cellenhance.workflows.catalog import open_enhancer
    from napari_cellenhance.workflows.requests import EnhanceRequest

    enhancer = open_enhancer(filter_id)

    def apply(plane: Plane) -> Plane:
        request = EnhanceRequest(image=plane, axes="YX", filter_id=filter_id, strength=strength)
        return np.asarray(enhance.apply(request, enhancer).image, dtype=np.float32)

    return apply


def _score(filter_id: str, strength: float, images: Sequence[HeldOutImage], outputs: Sequence[Plane]) -> Row:
    from napari_cellenhance.core import metrics

    masks = [t.labels > 0 for t in images]
    return Row(
        source=images[0].source,
        quality=images[0].quality,
        filter_id=filter_id,
        strength=strength,
        n_images=len(images),
        contrast_ratio=float(
            np.mean([metrics.contrast_ratio(np.clip(o, 0, 1), m).value for o, m in zip(outputs, masks, strict=True)])
        ),
        auroc=float(np.mean([metrics.auroc(o, m) for o, m in zip(outputs, masks, strict=True)])),
        otsu_iou=float(np.mean([metrics.otsu_iou(o, m) for o, m in zip(outputs, masks, strict=True)])),
        blob_f1=_best_blob_f1(images, outputs),
    )


def _best_blob_f1(images: Sequence[HeldOutImage], outputs: Sequence[Plane]) -> float:
    """Mean F1 at the detector threshold that is best for this set: the same freedom for every filter."""
    from napari_cellenhance.core import metrics
    from napari_cellenhance.core.postprocess import blob_candidates, centroids

    thresholds = (0.03, 0.06, 0.1, 0.15, 0.2, 0.3)
    scores = np.zeros((len(images), len(thresholds)))
    for i, (test, output) in enumerate(zip(images, outputs, strict=True)):
        radius = test.diameter_px / 2.0
        truth = centroids(test.labels)
        points, responses = blob_candidates(output, radius)
        for j, threshold in enumerate(thresholds):
            found = points[responses >= threshold]
            scores[i, j] = metrics.match_points(found, truth, radius).f1
    return float(scores.mean(axis=0).max())


def to_markdown(rows: Sequence[Row]) -> str:
    """Table with one line per row."""
    columns = ("source", "images", "filter", "strength", "contrast ratio", "AUROC", "Otsu IoU", "blob F1", "n")
    head = f"| {' | '.join(columns)} |\n|---|---|---|{'---:|' * 6}"
    lines = [
        f"| {r.source} | {r.quality} | {r.filter_id} | {r.strength:g} | {r.contrast_ratio:.1f} | {r.auroc:.3f} | "
        f"{r.otsu_iou:.3f} | {r.blob_f1:.3f} | {r.n_images} |"
        for r in rows
    ]
    return "\n".join([head, *lines])


def to_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """JSON-ready."""
    from dataclasses import asdict

    return [asdict(r) for r in rows]
