"""Score filters on labelled images as the NU-Net paper does: contrast, detection, segmentation, strength.

Contrast alone rewards hallucination, so each row also says how well objects are found. Every finder has the same
freedom for every filter: its settings are chosen on other images than those that are scored.

References
----------
.. [1] Lim et al., "NU-Net", 2023, Table 2 (contrast ratio), Fig. 4 (histograms), Fig. 5 and 6 (blob detection).
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress

if TYPE_CHECKING:
    from napari_cellenhance.core.histograms import Histogram
    from napari_cellenhance.core.strength_scores import StrengthCurve
    from napari_cellenhance.io.labelled import LabelledImage
    from napari_cellenhance.workflows._evaluate_desk import Desk
    from napari_cellenhance.workflows._evaluate_scores import ImageScore, Row

__all__ = [
    "AS_ACQUIRED",
    "DEFAULT_FILTERS",
    "NOISE",
    "SEGMENTED",
    "EvaluateRequest",
    "Evaluation",
    "as_quick",
    "read_images",
    "run",
    "save",
    "to_markdown",
    "with_noise",
    "worse_than_raw",
]

AS_ACQUIRED = "as acquired"
NOISE: Mapping[str, tuple[float, float]] = {
    "low noise": (10.0, 0.2),
    "medium noise": (5.0, 0.4),
    "high noise": (3.0, 0.8),
}
"""Photons at the brightest 0.1 % of an image, and read noise as a share of its range. Chosen on training images
alone, where the blob F1 of raw (one scale known; scale range) falls from 0.88; 0.85 to 0.84; 0.76 at low, to
0.70; 0.56 at medium, and to about 0.5; 0.4 at high noise (8 fluorescence images)."""

SEGMENTED = (AS_ACQUIRED, "medium noise")
"""Where the segmentation workflow is scored as well; it takes the longest."""

DEFAULT_FILTERS: tuple[tuple[str, float | None], ...] = (
    ("log-lut", 255.0),
    ("gaussian", 2.0),
    ("median", 2.0),
    ("dog", None),
    ("nunet", 2.5),
    ("nunet", 5.0),
    ("nunet-guided", 2.5),
    ("nunet-guided", 5.0),
    ("nunet-guided", 7.5),
    ("nunet-guided", 10.0),
    ("nunet", 10.0),
)
"""The classical filters of the paper's Table 2, and NU-Net at several strengths; None: σ follows the object size."""

_TUNE_MEGAPIXELS = 3.0
_QUICK_IMAGES, _QUICK_MEGAPIXELS = 6, 1.5
_N_THREADS = 2
_STRENGTH_STEPS = 21


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateRequest:
    """Which filters to score, on what.

    Parameters
    ----------
    data : sequence of path
        JSON lists of labelled, held-out images, or folders; see ``io.labelled``.
    tune : sequence of path
        Where settings are chosen: sources of the same names. For a source without one they are chosen on
        its other images (leave one out).
    data_root : path, optional
        What the paths in JSON files are relative to.
    filters : sequence of (filter id, strength or None)
        None matches a DoG or LoG to the size of the objects. Raw is always scored.
    noise : sequence of str
        Names in :data:`NOISE`; the images as acquired are always scored.
    max_images, max_tune_images : int
        Of each source, drawn by the seed; 0 takes all.
    max_megapixels : float
        Of the images to score, for each source; 0 is no limit.
    n_strength_images : int
        Images of the test set that every model sees at 21 strengths from 0 to the end of its slider.
    seed : int
        Of the choice of images and of the noise.
    objects_are_dark, object_diameter_px
        For a folder.
    device, precision : str
        For the models.
    """

    data: tuple[str | os.PathLike[str], ...] = ()
    tune: tuple[str | os.PathLike[str], ...] = ()
    data_root: str | os.PathLike[str] | None = None
    filters: tuple[tuple[str, float | None], ...] = DEFAULT_FILTERS
    noise: tuple[str, ...] = tuple(NOISE)
    max_images: int = 24
    max_tune_images: int = 12
    max_megapixels: float = 0.0
    n_strength_images: int = 20
    seed: int = 0
    objects_are_dark: bool = False
    object_diameter_px: float | None = None
    device: str = "auto"
    precision: str = "auto"

    def __post_init__(self) -> None:
        unknown = sorted(set(self.noise) - set(NOISE))
        if unknown:
            raise ParameterError(f"there is no noise called {', '.join(unknown)}; expected some of {', '.join(NOISE)}")
        if min(self.max_images, self.max_tune_images) < 0:
            raise ParameterError("the number of images is negative; expected 0 (all) or more")


@dataclass(slots=True, kw_only=True)
class Evaluation:
    """What was found.

    Parameters
    ----------
    rows : list of Row
        One for each source, quality and filter; raw comes first.
    images : list of ImageScore
        The same image by image.
    learned : tuple of str
        Ids of the filters that are models.
    strengths : dict of str to list of StrengthCurve
        Model → one curve for each image, over the whole slider.
    histograms : dict of str to dict of str to Histogram
        Source → filter → grey values of the images as acquired.
    is_complete : bool
        False after a stop; finished rows are kept.
    seconds : float
    """

    rows: list[Row] = field(default_factory=list)
    images: list[ImageScore] = field(default_factory=list)
    learned: tuple[str, ...] = ()
    strengths: dict[str, list[StrengthCurve]] = field(default_factory=dict)
    histograms: dict[str, dict[str, Histogram]] = field(default_factory=dict)
    is_complete: bool = True
    seconds: float = 0.0


def read_images(request: EvaluateRequest) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """Read the images to score, and those to choose settings on.

    Raises
    ------
    ImageError
        No image with a truth.
    """
    from napari_cellenhance.io.labelled import Selection, read_labelled

    def read(paths: Sequence[str | os.PathLike[str]], selection: Selection) -> list[LabelledImage]:
        return [
            image
            for path in paths
            for image in read_labelled(
                path,
                data_root=request.data_root,
                selection=selection,
                objects_are_dark=request.objects_are_dark,
                object_diameter_px=request.object_diameter_px,
            )
        ]

    limit = request.max_megapixels
    test = read(request.data, Selection(max_images=request.max_images, max_megapixels=limit, seed=request.seed))
    if not test:
        raise ImageError("there is nothing to score; name a JSON list of labelled images or a folder")
    limit = min(limit or _TUNE_MEGAPIXELS, _TUNE_MEGAPIXELS)
    selection = Selection(max_images=request.max_tune_images, max_megapixels=limit, seed=request.seed)
    return test, read(request.tune, selection)


def with_noise(image: LabelledImage, quality: str, seed: int) -> LabelledImage:
    """The image as acquired, or stretched and with the noise of that name; seeded by the image's own name."""
    if quality == AS_ACQUIRED:
        return image
    from napari_cellenhance.core.noise import poisson_gaussian
    from napari_cellenhance.workflows._evaluate_filters import stretched

    photons, sigma = NOISE[quality]
    level = list(NOISE).index(quality)
    rng = np.random.default_rng([seed, level, zlib.crc32(f"{image.source}/{image.name}".encode())])
    return replace(image, image=poisson_gaussian(stretched(image.image, (0.1, 99.9)), photons, sigma, rng))


def run(
    request: EvaluateRequest, *, on_progress: OnProgress = no_progress, is_cancelled: IsCancelled = never_cancelled
) -> Evaluation:
    """Score each filter on each source and quality.

    Raises
    ------
    ImageError
        No labelled image.
    ModelNotFoundError
        No filter of that id.
    """
    from napari_cellenhance.core.inference import Cancelled
    from napari_cellenhance.workflows._evaluate_desk import Count, Desk
    from napari_cellenhance.workflows._evaluate_filters import RAW, Bench, FilterJob

    def checkpoint() -> None:
        if is_cancelled():
            raise Cancelled

    started = time.monotonic()
    bench = Bench(request.device, request.precision, checkpoint)
    jobs = [FilterJob(filter_id=RAW), *(FilterJob(filter_id=name, strength=s) for name, s in request.filters)]
    learned = tuple(dict.fromkeys(job.filter_id for job in jobs if bench.is_learned(job.filter_id)))
    result = Evaluation(learned=learned)
    test, tune = read_images(request)
    tune = [image for image in tune if image.source in {t.source for t in test}]
    qualities = (AS_ACQUIRED, *request.noise)
    # Every image is seen once to be scored; those to choose on, which may be the same, once more.
    helped = {image.source for image in tune}
    n_seen = len(test) + len(tune) + sum(image.source not in helped for image in test)
    swept = _some_of(test, request.n_strength_images, request.seed) if learned else []
    count = Count(on_progress, n_seen * len(qualities) * len(jobs) + len(swept) * len(learned) * _STRENGTH_STEPS)
    try:
        with ThreadPoolExecutor(_N_THREADS) as pool:
            desk = Desk(bench, pool, count, checkpoint)
            for source, group in groupby(test, key=lambda t: t.source):
                tested, tuned = list(group), [t for t in tune if t.source == source]
                for quality in qualities:
                    noisy = [with_noise(t, quality, request.seed) for t in tested]
                    others = [with_noise(t, quality, request.seed) for t in tuned]
                    for scored in desk.scored(jobs, quality, noisy, others):
                        result.images += scored.scores
                        result.rows.append(scored.row)
                        if scored.histogram is not None:
                            result.histograms.setdefault(source, {})[scored.row.label] = scored.histogram
            for filter_id in learned:
                result.strengths[filter_id] = _swept(desk, filter_id, swept)
    except Cancelled:
        result.is_complete = False
    result.seconds = time.monotonic() - started
    on_progress(Progress(n_done=count.n_done, n_total=count.n_total, message="scored"))
    return result


def _some_of(images: Sequence[LabelledImage], n: int, seed: int) -> list[LabelledImage]:
    order = np.random.default_rng(seed).permutation(len(images))[:n]
    return [images[i] for i in sorted(order)]


def _swept(desk: Desk, filter_id: str, images: Sequence[LabelledImage]) -> list[StrengthCurve]:
    """Every image at evenly spaced strengths of the whole slider."""
    from napari_cellenhance.core.strength_scores import strength_curve
    from napari_cellenhance.workflows.catalog import describe

    strengths = np.linspace(0.0, describe(filter_id).info.strength.maximum, _STRENGTH_STEPS).tolist()
    return [strength_curve(strengths, desk.swept(filter_id, image, strengths), image.mask) for image in images]


def as_quick(request: EvaluateRequest) -> EvaluateRequest:
    """The same with few images and one level of noise, for a first look."""
    return replace(
        request,
        max_images=min(request.max_images or _QUICK_IMAGES, _QUICK_IMAGES),
        max_tune_images=min(request.max_tune_images or _QUICK_IMAGES, _QUICK_IMAGES),
        max_megapixels=_QUICK_MEGAPIXELS,
        n_strength_images=min(request.n_strength_images, _QUICK_IMAGES),
        noise=tuple(name for name in request.noise if name in SEGMENTED),
    )


def to_markdown(result: Evaluation) -> str:
    """Every table, and the verdict."""
    from napari_cellenhance.workflows._evaluate_tables import markdown

    return markdown(result.rows, result.learned, result.strengths)


def worse_than_raw(result: Evaluation) -> list[str]:
    """A sentence for each score of a model that is below the raw image's: Otsu IoU, AP or blob F1."""
    from napari_cellenhance.workflows._evaluate_tables import findings, gate

    return gate(findings(result.rows, result.learned))


def save(result: Evaluation, request: EvaluateRequest, folder: str | os.PathLike[str]) -> list[Path]:
    """Write ``scores.json``, ``scores.csv``, ``images.csv``, ``scores.md`` and figures, each whole or not at all.

    Parameters
    ----------
    folder : path
        Made if missing.

    Raises
    ------
    WriteError
        The folder or a file in it cannot be written.
    """
    from napari_cellenhance.workflows._evaluate_files import write_all

    return write_all(result, request, Path(folder))
