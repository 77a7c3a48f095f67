"""Segment images before and after enhancement in the same way, and score the objects against labels.

References
----------
.. [1] Caicedo et al., Nat. Methods 16, 2019: precision at an overlap of 0.5.
.. [2] Maška et al., Bioinformatics 30, 2014: SEG.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.axes import from_canonical
from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.workflows._measured import MeasuredImage, OpenedLayer, check_alike, numbered, open_layer
from napari_cellenhance.workflows.measure import describe_layers
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress
from napari_cellenhance.workflows.requests import SegmentOptions

__all__ = ["SegmentRequest", "SegmentResult", "Segmentation", "segment_layers", "to_rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRequest:
    """Which images to segment, how, and what the objects are compared with.

    Parameters
    ----------
    images : tuple of MeasuredImage
        Of the same planes. Every image is brought to [0, 1] first.
    options : SegmentOptions
        The same for all images; the threshold is found for every plane.
    truth : MeasuredImage or None
        Labels drawn or checked by a person.
    """

    images: tuple[MeasuredImage, ...]
    options: SegmentOptions = field(default_factory=SegmentOptions)
    truth: MeasuredImage | None = None

    def __post_init__(self) -> None:
        if not self.images:
            raise ParameterError("there is no image to segment; choose at least one")


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmentation:
    """Objects of one image.

    Parameters
    ----------
    layer : str
    labels : ndarray of uint32
        Along the axes of the image (without colours); a plane that was not measured is 0. Ids are unique.
    n_objects : int
    average_precision : float
        TP / (TP + FP + FN) at an overlap of at least 0.5, counts of all planes added up ([1]_); NaN without truth.
    seg : float
        Mean overlap over all true objects of all planes ([2]_); NaN without truth.
    """

    layer: str
    labels: NDArray[np.uint32]
    n_objects: int
    average_precision: float = float("nan")
    seg: float = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentResult:
    """Objects of all images, and what was measured (JSON-ready)."""

    segmentations: tuple[Segmentation, ...]
    record: dict[str, Any]
    is_complete: bool = True


def segment_layers(
    request: SegmentRequest, *, on_progress: OnProgress = no_progress, is_cancelled: IsCancelled = never_cancelled
) -> SegmentResult:
    """Threshold, split and number the objects of every image, plane by plane.

    Raises
    ------
    AxesError, ImageError
        Layers that do not fit each other.
    """
    layers = [open_layer(image) for image in request.images]
    truth = None if request.truth is None else open_layer(request.truth)
    check_alike(layers[0], [*layers[1:], *([] if truth is None else [truth])])
    n_planes = len(layers[0].planes)
    done: list[Segmentation] = []
    for position, layer in enumerate(layers):
        scores = _Scores()
        labels = np.zeros((*layer.pixels.shape[:3], *layer.plane_shape), np.uint32)
        n_so_far = 0
        for number, name in numbered(layer):
            if is_cancelled():
                return SegmentResult(segmentations=tuple(done), record=_record(request), is_complete=False)
            where = f"“{layer.name}” {name}".rstrip()
            at = position * n_planes + number
            on_progress(Progress(n_done=at, n_total=n_planes * len(layers), message=f"Segmenting {where}"))
            found = _segmented(layer, number, request.options)
            if truth is not None:
                scores.add(truth.ids(number), found)
            labels[layer.planes[number]] = np.where(found > 0, found + np.uint32(n_so_far), 0)
            n_so_far += int(found.max(initial=0))
        done.append(
            Segmentation(
                layer=layer.name, labels=from_canonical(labels, layer.axes), n_objects=n_so_far,
                average_precision=scores.average_precision, seg=scores.seg,
            )
        )  # fmt: skip
    return SegmentResult(segmentations=tuple(done), record=_record(request))


def _segmented(layer: OpenedLayer, number: int, options: SegmentOptions) -> NDArray[np.uint32]:
    from napari_cellenhance.core.postprocess import segment

    return segment(layer.unit(number), options.method, options.threshold, options.split_touching, options.min_size_px)


class _Scores:
    """Counts over planes; NaN until a plane was added."""

    def __init__(self) -> None:
        self._counts = np.zeros(3, np.int64)
        self._terms: list[NDArray[np.float64]] = []

    def add(self, truth: NDArray[Any], found: NDArray[np.uint32]) -> None:
        from napari_cellenhance.core.instances import match_instances, overlaps, seg_terms

        shared = overlaps(truth, found)
        matches = match_instances(shared)
        self._counts += (matches.tp, matches.fp, matches.fn)
        self._terms.append(seg_terms(shared))

    @property
    def average_precision(self) -> float:
        from napari_cellenhance.core.instances import InstanceMatches

        if not self._terms:
            return float("nan")
        return InstanceMatches(*(int(n) for n in self._counts)).average_precision

    @property
    def seg(self) -> float:
        terms = np.concatenate(self._terms) if self._terms else np.zeros(0)
        return float(terms.mean()) if terms.size else float("nan")


def _record(request: SegmentRequest) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "measured": "objects by threshold and watershed against labels",
        **describe_layers(images=request.images, labels=request.truth),
        "segment": asdict(request.options),
        "overlap": 0.5,
    }


def to_rows(segmentations: Sequence[Segmentation]) -> list[dict[str, Any]]:
    """Scores of each image, for the table and the CSV."""
    return [
        {"layer": each.layer, "n_objects": each.n_objects, "ap_50": each.average_precision, "seg": each.seg}
        for each in segmentations
    ]
