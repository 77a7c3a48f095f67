"""Histogram and cumulative distribution of images before and after enhancement.

References
----------
.. [1] Lim et al., "NU-Net", 2023, Fig. 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.histograms import Histogram, bin_edges, counted, value_range
from napari_cellenhance.workflows._measured import MeasuredImage, OpenedLayer, check_alike, open_layer
from napari_cellenhance.workflows.measure import describe_layers
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress

__all__ = ["HistogramCurve", "HistogramRequest", "HistogramResult", "count", "to_rows"]

Where = Literal["all", "objects", "ground", "both"]
_PARTS: dict[str, tuple[str, ...]] = {
    "all": ("all",),
    "objects": ("objects",),
    "ground": ("ground",),
    "both": ("objects", "ground"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramRequest:
    """Whose grey values to count, and where.

    Parameters
    ----------
    images : tuple of MeasuredImage
    where : "all", "objects", "ground" or "both"
        All pixels, those inside the mask, those outside, or both apart from each other.
    mask : MeasuredImage or None
        Above 0 on objects; needed unless all pixels are counted. A single plane stands for all planes.
    n_bins : int
    """

    images: tuple[MeasuredImage, ...]
    where: Where = "all"
    mask: MeasuredImage | None = None
    n_bins: int = 256

    def __post_init__(self) -> None:
        if not self.images:
            raise ParameterError("there is no image to count; choose at least one")
        if self.where not in _PARTS:
            raise ParameterError(f"where is {self.where!r}; expected one of {', '.join(_PARTS)}")
        if self.where != "all" and self.mask is None:
            raise ParameterError("objects and ground need a mask; choose a Labels layer, or count all pixels")
        if not 2 <= self.n_bins <= 65536:
            raise ParameterError(f"{self.n_bins} bins; expected 2 to 65536")


@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramCurve:
    """Histogram of one image; ``where`` is "all", "objects" or "ground"."""

    layer: str
    where: str
    histogram: Histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramResult:
    """Histograms in the order of the images, and what was counted (JSON-ready)."""

    curves: tuple[HistogramCurve, ...]
    record: dict[str, Any]
    is_complete: bool = True


def count(
    request: HistogramRequest, *, on_progress: OnProgress = no_progress, is_cancelled: IsCancelled = never_cancelled
) -> HistogramResult:
    """Count the grey values of every image; both parts of one image share their bins.

    Raises
    ------
    AxesError, ImageError
        Layers that do not fit each other, or an image without any number.
    """
    layers = [open_layer(image) for image in request.images]
    mask = None if request.mask is None or request.where == "all" else open_layer(request.mask)
    if mask is not None:
        for layer in layers:
            check_alike(layer, [mask], may_be_single=True)
    curves: list[HistogramCurve] = []
    is_complete = True
    for number, layer in enumerate(layers):
        if is_cancelled():
            is_complete = False
            break
        on_progress(Progress(n_done=number, n_total=len(layers), message=f"Counting “{layer.name}”"))
        low, high = value_range(layer.read(i) for i in range(len(layer.planes)))
        edges = bin_edges(low, high, is_integer=layer.is_integer, n_bins=request.n_bins)
        curves.extend(
            HistogramCurve(layer=layer.name, where=part, histogram=counted(_values(layer, mask, part), edges))
            for part in _PARTS[request.where]
        )
    on_progress(Progress(n_done=len(layers), n_total=len(layers), message="Counted"))
    record = {
        "measured": "histogram of grey values",
        **describe_layers(images=request.images, mask=request.mask),
        "where": request.where,
    }
    return HistogramResult(curves=tuple(curves), record=record, is_complete=is_complete)


def _values(layer: OpenedLayer, mask: OpenedLayer | None, part: str) -> Iterator[NDArray[Any]]:
    """Pixels of one part of an image, plane by plane."""
    for number in range(len(layer.planes)):
        plane = layer.read(number)
        if mask is None:
            yield plane
        else:
            is_object = mask.stored(number) > 0
            yield plane[is_object if part == "objects" else ~is_object]


def to_rows(result: HistogramResult) -> list[dict[str, Any]]:
    """Rows of the CSV, one per bin."""
    rows = []
    for curve in result.curves:
        histogram = curve.histogram
        columns = zip(
            histogram.edges[:-1], histogram.edges[1:], histogram.counts, histogram.shares, histogram.cumulative,
            strict=True,
        )  # fmt: skip
        for low, high, n, share, cumulative in columns:
            rows.append(
                {
                    "layer": curve.layer,
                    "pixels": curve.where,
                    "from": float(low),
                    "to": float(high),
                    "count": int(n),
                    "share": float(share),
                    "cumulative_share": float(cumulative),
                }
            )
    return rows
