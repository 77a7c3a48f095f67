"""Detect blobs before and after enhancement, and score them against annotated points.

References
----------
.. [1] Lim et al., "NU-Net", 2023, Fig. 5 and Table 3: blobs by the Laplacian of Gaussian, the threshold optimised
   for every condition, F1 of a one-to-one matching.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.workflows._measured import (
    MeasuredImage,
    OpenedLayer,
    TruePoints,
    check_alike,
    numbered,
    open_layer,
    placed,
    points_by_plane,
)
from napari_cellenhance.workflows.measure import describe_layers
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress

__all__ = [
    "Candidates",
    "DetectRequest",
    "DetectResult",
    "Detection",
    "Sweep",
    "SweepResult",
    "TruePoints",
    "best_rows",
    "detect",
    "find_candidates",
    "sweep",
    "to_rows",
]

DEFAULT_THRESHOLD = 0.1
_N_THRESHOLDS = 80
_LEAST_RESPONSE = 0.01  # of core.postprocess.blob_candidates


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectRequest:
    """Where to look for blobs of which size, and what they are compared with.

    Parameters
    ----------
    images : tuple of MeasuredImage
        Of the same planes; each gets blobs of its own.
    diameter_px : float
        Typical diameter of an object, in pixels. Radii from about 0.75 to 1.3 times the typical one are found.
    truth : TruePoints, MeasuredImage or None
        Annotated points (in pixels of the first image), or labels whose centres are the points.
    match_radius_px : float or None
        Largest distance of a match; None: half the diameter.
    """

    images: tuple[MeasuredImage, ...]
    diameter_px: float
    truth: TruePoints | MeasuredImage | None = None
    match_radius_px: float | None = None

    def __post_init__(self) -> None:
        if not self.images:
            raise ParameterError("there is no image to look at; choose at least one")
        if not (np.isfinite(self.diameter_px) and 1.0 <= self.diameter_px <= 2000.0):
            raise ParameterError(f"the diameter is {self.diameter_px} px; expected 1 to 2000")
        if self.match_radius_px is not None and not (np.isfinite(self.match_radius_px) and self.match_radius_px > 0):
            raise ParameterError(f"the largest distance of a match is {self.match_radius_px} px; expected more than 0")

    @property
    def reach_px(self) -> float:
        """Largest distance of a match, in pixels."""
        return self.diameter_px / 2 if self.match_radius_px is None else self.match_radius_px


@dataclass(frozen=True)
class _ImageCandidates:
    layer: OpenedLayer
    points: list[NDArray[np.float64]]
    responses: list[NDArray[np.float64]]
    radii: list[NDArray[np.float64]]


@dataclass(frozen=True)
class Candidates:
    """All blobs of the images with their responses: a threshold can be chosen afterwards, at no cost.

    Parameters
    ----------
    request : DetectRequest
    images : list
        One entry per image.
    truth : list of ndarray of shape (N, 2), or None
        Annotated points of every plane.
    notes : tuple of str
    is_complete : bool
        False when stopped before the last image.
    """

    request: DetectRequest
    images: list[_ImageCandidates]
    truth: list[NDArray[np.float64]] | None
    notes: tuple[str, ...] = ()
    is_complete: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """Blobs of one image.

    Parameters
    ----------
    layer : str
    threshold : float
        Least response: of the scale-normalised Laplacian of Gaussian of the image in [0, 1].
    points : ndarray of shape (N, ndim)
        Pixel coordinates along the axes of the image (without colours).
    radii_px, responses : ndarray of shape (N,)
    is_true : ndarray of bool, shape (N,), or None
        Matched to an annotated point; None without annotated points.
    missed : ndarray of shape (M, ndim)
        Annotated points that no blob was matched to.
    f1, precision, recall : float
        NaN without annotated points.
    """

    layer: str
    threshold: float
    points: NDArray[np.float64]
    radii_px: NDArray[np.float64]
    responses: NDArray[np.float64]
    is_true: NDArray[np.bool_] | None
    missed: NDArray[np.float64]
    f1: float = float("nan")
    precision: float = float("nan")
    recall: float = float("nan")

    @property
    def counts(self) -> tuple[int, int, int]:
        """True positives, false positives, false negatives; zeros without annotated points."""
        if self.is_true is None:
            return 0, 0, 0
        tp = int(self.is_true.sum())
        return tp, len(self.points) - tp, len(self.missed)


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectResult:
    """Blobs of all images, what to know about them, and what was measured (JSON-ready)."""

    detections: tuple[Detection, ...]
    notes: tuple[str, ...]
    record: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """F1, precision and recall of one image over the threshold; the best F1 and its threshold."""

    layer: str
    thresholds: NDArray[np.float64]
    f1: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    best_threshold: float
    best_f1: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepResult:
    """One sweep per image, and the candidates, so that a threshold can be applied at once."""

    sweeps: tuple[Sweep, ...]
    candidates: Candidates
    is_complete: bool = True

    @property
    def best_thresholds(self) -> dict[str, float]:
        """Best threshold by the position of the image, as text: names of layers may occur twice."""
        return {str(i): each.best_threshold for i, each in enumerate(self.sweeps)}


def find_candidates(
    request: DetectRequest, *, on_progress: OnProgress = no_progress, is_cancelled: IsCancelled = never_cancelled
) -> Candidates:
    """Find every blob of about the asked size, however faint, plane by plane.

    Raises
    ------
    AxesError, ImageError
        Images, labels or points that do not fit each other.
    """
    layers = [open_layer(image) for image in request.images]
    check_alike(layers[0], layers[1:])
    truth, notes = _truth(request, layers[0])
    n_planes = len(layers[0].planes)
    found: list[_ImageCandidates] = []
    for position, layer in enumerate(layers):
        entry = _ImageCandidates(layer, [], [], [])
        for number, name in numbered(layer):
            if is_cancelled():
                return Candidates(request, found, truth, notes, is_complete=False)
            where = f"“{layer.name}” {name}".rstrip()
            done = position * n_planes + number
            on_progress(Progress(n_done=done, n_total=n_planes * len(layers), message=f"Looking for blobs in {where}"))
            _add_plane(entry, layer.unit(number), request.diameter_px / 2)
        found.append(entry)
    return Candidates(request, found, truth, notes)


def _add_plane(entry: _ImageCandidates, plane: NDArray[np.float32], radius_px: float) -> None:
    from napari_cellenhance.core.detection import blob_radii
    from napari_cellenhance.core.postprocess import blob_candidates

    points, responses = blob_candidates(plane, radius_px)
    order = np.argsort(-responses, kind="stable")
    entry.points.append(points[order])
    entry.responses.append(responses[order])
    entry.radii.append(blob_radii(plane, points[order], radius_px))


def _truth(request: DetectRequest, layer: OpenedLayer) -> tuple[list[NDArray[np.float64]] | None, tuple[str, ...]]:
    """Annotated points by plane, and what to know about them."""
    if request.truth is None:
        return None, ()
    if isinstance(request.truth, TruePoints):
        points, n_outside = points_by_plane(request.truth, layer)
        if n_outside:
            return points, (f"{n_outside} annotated points lie on other planes or outside, and do not count.",)
        return points, ()
    from napari_cellenhance.core.postprocess import centroids

    labels = open_layer(request.truth)
    check_alike(layer, [labels])
    return [centroids(labels.ids(i)) for i in range(len(layer.planes))], ()


def detect(candidates: Candidates, thresholds: Mapping[str, float] | float = DEFAULT_THRESHOLD) -> DetectResult:
    """Keep the blobs whose response reaches the threshold, and score them.

    Parameters
    ----------
    candidates : Candidates
        From :func:`find_candidates`.
    thresholds : float, or mapping from str
        One for all images, or one for each by its position ("0", "1", …), as
        :attr:`SweepResult.best_thresholds` says it.
    """
    detections = []
    for position, entry in enumerate(candidates.images):
        threshold = thresholds[str(position)] if isinstance(thresholds, Mapping) else float(thresholds)
        detections.append(_detected(entry, candidates.truth, threshold, candidates.request.reach_px))
    request = candidates.request
    truth = request.truth
    record = {
        "measured": "blobs by the Laplacian of Gaussian against annotated points",
        **describe_layers(images=request.images, labels=truth if isinstance(truth, MeasuredImage) else None),
        "points": {"name": truth.name, "n": len(truth.points)} if isinstance(truth, TruePoints) else None,
        "diameter_px": request.diameter_px,
        "match_radius_px": request.reach_px,
        "thresholds": [found.threshold for found in detections],
        "notes": list(candidates.notes),
    }
    return DetectResult(detections=tuple(detections), notes=candidates.notes, record=record)


def _detected(
    entry: _ImageCandidates, truth: list[NDArray[np.float64]] | None, threshold: float, reach_px: float
) -> Detection:
    from napari_cellenhance.core.detection import pair_points
    from napari_cellenhance.core.metrics import PointMatches

    kept = [response >= threshold for response in entry.responses]
    points = [here[is_kept] for here, is_kept in zip(entry.points, kept, strict=True)]
    chosen: dict[str, Any] = {
        "layer": entry.layer.name,
        "threshold": threshold,
        "points": placed(points, entry.layer),
        "radii_px": np.concatenate([radii[k] for radii, k in zip(entry.radii, kept, strict=True)]),
        "responses": np.concatenate([response[k] for response, k in zip(entry.responses, kept, strict=True)]),
    }
    if truth is None:
        return Detection(**chosen, is_true=None, missed=np.zeros((0, len(entry.layer.axes))))
    partners = [pair_points(here, wanted, reach_px) for here, wanted in zip(points, truth, strict=True)]
    missed = [np.delete(wanted, partner[partner >= 0], axis=0) for wanted, partner in zip(truth, partners, strict=True)]
    is_true = np.concatenate(partners) >= 0
    tp, n_missed = int(is_true.sum()), sum(map(len, missed))
    score = PointMatches(tp, len(is_true) - tp, n_missed)
    return Detection(
        **chosen, is_true=is_true, missed=placed(missed, entry.layer),
        f1=score.f1, precision=score.precision, recall=score.recall,
    )  # fmt: skip


def sweep(
    request: DetectRequest, *, on_progress: OnProgress = no_progress, is_cancelled: IsCancelled = never_cancelled
) -> SweepResult:
    """Try all thresholds on every image, each for itself ([1]_): raw and enhanced images get the same freedom.

    Raises
    ------
    ParameterError
        No annotated points.
    AxesError, ImageError
        As :func:`find_candidates`.
    """
    from napari_cellenhance.core.detection import sweep_thresholds

    if request.truth is None:
        raise ParameterError("a sweep needs annotated points to compare with; choose a Points or a Labels layer")
    candidates = find_candidates(request, on_progress=on_progress, is_cancelled=is_cancelled)
    truth = candidates.truth
    if truth is None or not sum(map(len, truth)):
        raise ImageError("there is no annotated point on the planes that are measured; annotate some first")
    sweeps: list[Sweep] = []
    for entry in candidates.images:
        if is_cancelled():
            return SweepResult(sweeps=tuple(sweeps), candidates=candidates, is_complete=False)
        on_progress(Progress(n_done=0, n_total=0, message=f"Trying thresholds on “{entry.layer.name}”"))
        strongest = max((float(part.max(initial=0.0)) for part in entry.responses), default=0.0)
        levels = np.linspace(_LEAST_RESPONSE, max(strongest, 2 * _LEAST_RESPONSE), _N_THRESHOLDS)
        curve = sweep_thresholds(entry.points, entry.responses, truth, request.reach_px, levels)
        sweeps.append(
            Sweep(
                layer=entry.layer.name, thresholds=curve.thresholds, f1=curve.f1, precision=curve.precision,
                recall=curve.recall, best_threshold=curve.best_threshold, best_f1=curve.best_f1,
            )
        )  # fmt: skip
    return SweepResult(sweeps=tuple(sweeps), candidates=candidates, is_complete=candidates.is_complete)


def to_rows(detections: Sequence[Detection]) -> list[dict[str, Any]]:
    """Scores of each image, for the table and the CSV."""
    rows = []
    for found in detections:
        tp, fp, fn = found.counts
        is_scored = found.is_true is not None
        rows.append(
            {
                "layer": found.layer,
                "threshold": found.threshold,
                "n_blobs": len(found.points),
                "f1": found.f1,
                "precision": found.precision,
                "recall": found.recall,
                "true_positives": tp if is_scored else None,
                "false_positives": fp if is_scored else None,
                "false_negatives": fn if is_scored else None,
            }
        )
    return rows


def best_rows(result: SweepResult) -> list[dict[str, Any]]:
    """Scores of each image at its own best threshold."""
    return to_rows(detect(result.candidates, result.best_thresholds).detections) if result.sweeps else []
