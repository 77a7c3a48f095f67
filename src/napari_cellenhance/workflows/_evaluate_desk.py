"""Render on one thread, score on others, and choose settings in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

import numpy as np

from napari_cellenhance.core.histograms import Histogram, bin_edges, counted
from napari_cellenhance.io.labelled import LabelledImage
from napari_cellenhance.workflows._evaluate_filters import Bench, FilterJob, Plane
from napari_cellenhance.workflows._evaluate_scores import (
    ImageScore,
    Row,
    Settings,
    Sweep,
    choose_settings,
    score,
    summarise,
    sweep,
)
from napari_cellenhance.workflows.evaluate import AS_ACQUIRED, SEGMENTED
from napari_cellenhance.workflows.progress import OnProgress, Progress

__all__ = ["Count", "Desk", "Scored"]

T = TypeVar("T")

_EDGES = bin_edges(0.0, 1.0, is_integer=False, n_bins=64)


@dataclass(frozen=True, slots=True)
class Scored:
    """One filter on the images of one source at one quality; the histogram is of images as acquired."""

    scores: list[ImageScore]
    row: Row
    histogram: Histogram | None


class Count:
    """Counts pictures and says how long the rest will take."""

    def __init__(self, on_progress: OnProgress, n_total: int) -> None:
        self._on_progress, self.n_total, self.n_done = on_progress, n_total, 0
        self._started = time.monotonic()

    def add(self, n: int, message: str) -> None:
        """Count ``n`` pictures more."""
        self.n_done += n
        eta = (time.monotonic() - self._started) / self.n_done * (self.n_total - self.n_done) if self.n_done else None
        self._on_progress(Progress(n_done=self.n_done, n_total=self.n_total, message=message, eta_s=eta))


class Desk:
    """Renders on the calling thread and scores on those of the pool.

    Parameters
    ----------
    bench : Bench
    pool : ThreadPoolExecutor
    count : Count
    checkpoint : callable
        Called before each image; raises to stop.
    """

    def __init__(self, bench: Bench, pool: ThreadPoolExecutor, count: Count, checkpoint: Callable[[], None]) -> None:
        self._bench, self._pool, self._count, self._checkpoint = bench, pool, count, checkpoint

    def scored(
        self, jobs: Sequence[FilterJob], quality: str, test: Sequence[LabelledImage], tune: Sequence[LabelledImage]
    ) -> list[Scored]:
        """Score all filters; settings come from ``tune`` or, where it is empty, from the other images of ``test``."""
        tuned_on = _where(test, tune)
        results = []
        for _, group in groupby(jobs, key=lambda job: job.filter_id):
            same = list(group)
            chosen = self._chosen(same, quality, test, tune)
            for found in self._tested(same, quality, test, chosen):
                scores = [score for score, _ in found]
                counts = [histogram.counts for _, histogram in found if histogram is not None]
                histogram = Histogram(_EDGES, np.sum(counts, axis=0)) if counts else None
                results.append(Scored(scores, summarise(scores, tuned_on), histogram))
        return results

    def swept(self, filter_id: str, image: LabelledImage, strengths: Sequence[float]) -> list[Plane]:
        """One image at many strengths."""
        self._checkpoint()
        pictures = self._bench.apply(image.image, filter_id, strengths)
        self._count.add(len(strengths), f"{filter_id}, all strengths")
        return pictures

    def _chosen(
        self, jobs: Sequence[FilterJob], quality: str, test: Sequence[LabelledImage], tune: Sequence[LabelledImage]
    ) -> list[list[Settings]]:
        """Settings for each job and test image; never from the image itself, unless there is no other."""

        def measured(output: Plane, image: LabelledImage, job_index: int, image_index: int) -> Sweep:
            return sweep(output, image, with_labels=quality in SEGMENTED)

        sweeps = self._each(jobs, quality, tune or test, measured)
        if tune:
            return [[choose_settings(s)] * len(test) for s in sweeps]
        return [[choose_settings(s, without=i) for i in range(len(test))] for s in sweeps]

    def _tested(
        self,
        jobs: Sequence[FilterJob],
        quality: str,
        test: Sequence[LabelledImage],
        chosen: Sequence[Sequence[Settings]],
    ) -> list[list[tuple[ImageScore, Histogram | None]]]:
        is_plain = quality == AS_ACQUIRED

        def one(
            output: Plane, image: LabelledImage, job_index: int, image_index: int
        ) -> tuple[ImageScore, Histogram | None]:
            settings = chosen[job_index][image_index]
            scores = score(
                output, image, quality, jobs[job_index], settings,
                with_contrast=is_plain, with_labels=quality in SEGMENTED,
            )  # fmt: skip
            return scores, counted([output], _EDGES) if is_plain else None

        return self._each(jobs, quality, test, one)

    def _each(
        self,
        jobs: Sequence[FilterJob],
        quality: str,
        images: Sequence[LabelledImage],
        work: Callable[[Plane, LabelledImage, int, int], T],
    ) -> list[list[T]]:
        """Enhance every image by the jobs of one filter and do ``work`` on each output; results by job, then image."""
        waiting: list[list[Future[T]]] = [[] for _ in jobs]
        try:
            for i, image in enumerate(images):
                self._checkpoint()
                strengths = [job.strength_for(image.diameter_px) for job in jobs]
                outputs = self._bench.apply(image.image, jobs[0].filter_id, strengths)
                for j, output in enumerate(outputs):
                    waiting[j].append(self._pool.submit(work, output, image, j, i))
                self._count.add(len(jobs), f"{jobs[0].filter_id}, {image.source}, {quality}")
            return [[future.result() for future in futures] for futures in waiting]
        finally:
            for futures in waiting:
                for future in futures:
                    future.cancel()


def _where(test: Sequence[LabelledImage], tune: Sequence[LabelledImage]) -> str:
    """On what settings are chosen, in words."""
    if all(image.points is None for image in test):
        return "nothing to choose"
    if tune:
        return f"{len(tune)} other image{'' if len(tune) == 1 else 's'}"
    return "the other images of the set" if len(test) > 1 else "the same image"
