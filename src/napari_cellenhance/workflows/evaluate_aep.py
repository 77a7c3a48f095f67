"""Score AEP + AWEL as its paper does: cross-validated beside a U-Net and classical filters, on good and poor images.

Every training is kept as soon as it is done; a run that was stopped goes on where it was.

References
----------
.. [1] Kato & Hotta, Sci. Rep., 2024 (AEP + AWEL): comparison by IoU and DSC over 3 or 5 folds, pre-filters, pseudo low
   quality.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_cellenhance.core.degrade import AS_ACQUIRED, DEGRADATIONS
from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.folds import k_folds
from napari_cellenhance.core.prefilters import NO_FILTER, PREFILTERS
from napari_cellenhance.workflows._evaluate_aep_files import write_picture, write_tables
from napari_cellenhance.workflows._evaluate_aep_tables import BASELINE, TITLES, Cell, markdown, rows_of
from napari_cellenhance.workflows._evaluate_aep_train import (
    VARIANTS,
    Plan,
    Trained,
    identity_of,
    seen_image,
    train_and_score,
)
from napari_cellenhance.workflows._evaluate_cells import CellStore
from napari_cellenhance.workflows._evaluate_classes import ClassImage, digest, open_network, read_class_images, score
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress

if TYPE_CHECKING:
    from napari_cellenhance.core.device import DeviceChoice
    from napari_cellenhance.core.models.segmentation_baseline import SegmentationNetwork

__all__ = [
    "AEPEvaluation",
    "EvaluateAEPRequest",
    "read_images",
    "run",
    "save",
    "score_model",
    "score_trained",
    "to_markdown",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateAEPRequest:
    """Which networks to train, on what, and how.

    Parameters
    ----------
    data : sequence of path
        JSON lists of labelled images, or folders; see ``io.labelled``. Sources are evaluated one by one.
    out : path
        Folder of the results, made if missing. Results that are there and were made with the same settings are not made
        again.
    data_root : path, optional
        What the paths in JSON files are relative to.
    max_images : int
        Of each source, drawn by ``split_seed``; 0 takes all.
    tile_px : int
        Planes with a mask are cut into tiles of this side; 0 keeps them whole. Tiles of a plane stay in one fold.
    has_border : bool
        Labelled objects make three classes: background, object, border.
    is_stretched : bool
        Bring the percentiles 0.1 and 99.9 of each plane to 0 and 1 before anything else.
    n_folds : int
    folds : sequence of int
        Those to compute, from 0; empty: all.
    seeds : sequence of int
        Each trains again with other weights and crops, on the same folds.
    split_seed : int
        Of the folds, of the choice of images and of the noise.
    degradations, variants : sequence of str
        See ``core.degrade.DEGRADATIONS``, and ``VARIANTS``: U-Net ("unet"), Network 2 alone ("light"), AEP without
        ensemble ("aep"), with equal weights ("aep-fixed"), with AWEL ("aep-auto"), or with other filters.
    prefilters : sequence of str
        Classical filters before a U-Net on images as acquired, see ``core.prefilters.PREFILTERS``.
    n_steps, batch_size, crop_px, learning_rate
        Of each training: updates, crops per update, side of a crop in pixels, Adam's rate.
    dropout : float
        Of the networks, in training only; the paper's is 0.5.
    schedule : "constant" or "cosine"
        Of the learning rate; the paper's is constant.
    validate_every : int
        Updates between validations.
    is_augmented : bool
        Turn, flip and change the contrast of crops; the paper does not.
    min_object_px : int
        Smaller objects found are dropped.
    device, precision : str
    """

    data: tuple[str | os.PathLike[str], ...] = ()
    out: str | os.PathLike[str] = ""
    data_root: str | os.PathLike[str] | None = None
    max_images: int = 0
    tile_px: int = 256
    has_border: bool = True
    is_stretched: bool = True
    n_folds: int = 3
    folds: tuple[int, ...] = ()
    seeds: tuple[int, ...] = (0,)
    split_seed: int = 0
    degradations: tuple[str, ...] = tuple(DEGRADATIONS)
    variants: tuple[str, ...] = ("unet", "aep", "aep-fixed", "aep-auto")
    prefilters: tuple[str, ...] = ()
    n_steps: int = 1000
    batch_size: int = 8
    crop_px: int = 256
    learning_rate: float = 1e-3
    dropout: float = 0.5
    schedule: Literal["constant", "cosine"] = "constant"
    validate_every: int = 100
    is_augmented: bool = False
    min_object_px: int = 30
    device: str = "auto"
    precision: str = "auto"

    def __post_init__(self) -> None:
        for what, names, known in (
            ("degradation", self.degradations, DEGRADATIONS),
            ("network", self.variants, VARIANTS),
            ("pre-filter", self.prefilters, PREFILTERS),
        ):
            unknown = sorted(set(names) - set(known))
            if unknown:
                raise ParameterError(
                    f"there is no {what} called {', '.join(unknown)}; expected some of {', '.join(known)}"
                )
        if any(not 0 <= fold < self.n_folds for fold in self.folds):
            raise ParameterError(
                f"folds are {self.folds} of {self.n_folds}; expected numbers from 0 to {self.n_folds - 1}"
            )
        if not self.seeds or min(self.seeds) < 0 or self.split_seed < 0:
            raise ParameterError(f"seeds are {self.seeds} and {self.split_seed}; expected at least one, 0 or more each")
        if min(self.n_steps, self.validate_every) < 1 or min(self.tile_px, self.max_images, self.min_object_px) < 0:
            raise ParameterError(
                "updates, images or sizes are negative or none; expected 1 update or more, 0 px or more"
            )


@dataclass(slots=True, kw_only=True)
class AEPEvaluation:
    """What was found.

    Parameters
    ----------
    cells : list of Cell
        One for each training.
    n_found : int
        Those that an earlier run had made.
    is_complete : bool
        False after a stop; finished trainings are kept.
    seconds : float
    """

    cells: list[Cell] = field(default_factory=list)
    n_found: int = 0
    is_complete: bool = True
    seconds: float = 0.0

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Mean and sd of each score, by source, degradation, pre-filter and network."""
        return rows_of(self.cells)


def read_images(request: EvaluateAEPRequest) -> dict[str, list[ClassImage]]:
    """Read the labelled images by source.

    Raises
    ------
    ImageError
        No image with labels or a mask.
    """
    return read_class_images(
        request.data,
        data_root=request.data_root,
        max_images=request.max_images,
        seed=request.split_seed,
        tile_px=request.tile_px,
        has_border=request.has_border,
        is_stretched=request.is_stretched,
    )


def run(
    request: EvaluateAEPRequest, *, on_progress: OnProgress = no_progress, is_cancelled: IsCancelled = never_cancelled
) -> AEPEvaluation:
    """Train and score every network on every fold; tables in ``request.out`` are renewed after each training.

    Raises
    ------
    ImageError
        No image with labels or a mask.
    ParameterError
        No folder for the results, or too few images for the folds.
    TrainingError
        A first loss that is not finite.
    WriteError
        The folder or a file in it cannot be written.
    """
    from napari_cellenhance.workflows.device_check import choose_checked_device

    if not os.fspath(request.out):
        raise ParameterError("there is no folder for the results; name one")
    started = time.monotonic()
    choice, store = choose_checked_device(request.device, request.precision), CellStore(Path(request.out) / "cells")
    plans = [_plan(request, source, images) for source, images in read_images(request).items()]
    todo = [(plan, cell) for plan in plans for cell in _cells(request, plan)]
    result, count = AEPEvaluation(), _Count(on_progress, len(todo) * request.n_steps, request.n_steps)
    for plan, cell in todo:
        identity = identity_of(request, plan, cell, choice)
        found = store.find(identity)
        result.n_found += found is not None
        if found is None and not is_cancelled():
            trained = _trained(request, plan, cell, choice, count, is_cancelled)
            if trained is not None:
                store.keep(identity, trained.result, trained.example if cell.fold == 0 else None)
                found = trained.result
        if found is None:
            result.is_complete = False
            break
        count.cell_done()
        result.cells.append(replace(cell, result=found))
        result.seconds = time.monotonic() - started
        write_tables(result, request)
    if result.cells:
        write_tables(result, request)
        for plan in plans:
            write_picture(result, request, plan, store, choice)
    return result


def _plan(request: EvaluateAEPRequest, source: str, images: list[ClassImage]) -> Plan:
    folds = k_folds(
        len(images), request.n_folds, groups=[image.group for image in images], seed=request.split_seed
    )  # fmt: skip
    values = (1, 2, 3) if request.has_border and images[0].instances is not None else (1, 2)
    return Plan(source, images, folds, values, digest(images))


def _cells(request: EvaluateAEPRequest, plan: Plan) -> Iterator[Cell]:
    """Cells of a source: seed by seed and fold by fold, so that early results can be compared."""
    for seed in request.seeds:
        for fold in request.folds or range(request.n_folds):
            seen = set()
            kinds = [(d, NO_FILTER, v) for d in request.degradations for v in request.variants]
            kinds += [(AS_ACQUIRED, prefilter, BASELINE) for prefilter in request.prefilters]
            for degradation, prefilter, variant in kinds:
                if (degradation, prefilter, variant) not in seen:
                    seen.add((degradation, prefilter, variant))
                    yield Cell(
                        source=plan.source, degradation=degradation, prefilter=prefilter, variant=variant, fold=fold,
                        seed=seed,
                    )  # fmt: skip


def _trained(
    request: EvaluateAEPRequest,
    plan: Plan,
    cell: Cell,
    choice: DeviceChoice,
    count: _Count,
    is_cancelled: IsCancelled,
) -> Trained | None:
    title = f"{cell.source}, {cell.degradation}, {TITLES.get(cell.variant, cell.variant)}"
    title += "" if cell.prefilter == NO_FILTER else f" after {cell.prefilter}"
    return train_and_score(
        request,
        plan,
        cell,
        choice,
        on_step=lambda step: count.step(step, f"{title}, fold {cell.fold + 1}, update {step}"),
        is_cancelled=is_cancelled,
    )


class _Count:
    """Counts updates; what an earlier run had made takes no time."""

    def __init__(self, on_progress: OnProgress, n_total: int, n_steps: int) -> None:
        self._on_progress, self._n_total, self._n_steps = on_progress, n_total, n_steps
        self._n_cells, self._n_made, self._started = 0, 0, time.monotonic()

    def step(self, step: int, message: str) -> None:
        """Tell that the training under way has made ``step`` updates."""
        self._n_made += 1
        done = self._n_cells * self._n_steps + step
        eta = (time.monotonic() - self._started) / self._n_made * (self._n_total - done)
        self._on_progress(Progress(n_done=done, n_total=self._n_total, message=message, eta_s=eta))

    def cell_done(self) -> None:
        """Tell that a training is done, or was found."""
        self._n_cells += 1
        done = self._n_cells * self._n_steps
        self._on_progress(Progress(n_done=done, n_total=self._n_total, message="trained and scored"))


def score_trained(
    module: SegmentationNetwork,
    values: Sequence[int],
    request: EvaluateAEPRequest,
    *,
    name: str = "trained",
    on_progress: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
) -> AEPEvaluation:
    """Score a network that is trained already, on all images of ``request.data`` at every degradation.

    Parameters
    ----------
    module : AEP or PlainSegmenter
    values : sequence of int
        Label value of each of its classes: (1, 2), or (1, 2, 3) with borders.
    request : EvaluateAEPRequest
        Says which data and degradations; what is about training is not used.
    name : str
        Of the network in tables.

    Raises
    ------
    ImageError
        No image with labels or a mask.
    ParameterError
        Values that do not fit the network.

    Notes
    -----
    A test only if these images were not used for its training, which is not known here.
    """
    from napari_cellenhance.core.recipes.aep_segmenter import AEPSegmenter
    from napari_cellenhance.workflows.device_check import choose_checked_device

    started, result = time.monotonic(), AEPEvaluation()
    segmenter = AEPSegmenter(module, values, choose_checked_device(request.device, request.precision))
    sources = read_images(request)
    n_total = len(sources) * len(request.degradations)
    for source, images in sources.items():
        for degradation in request.degradations:
            if is_cancelled():
                result.is_complete = False
                return result
            planes = [seen_image(image, degradation, NO_FILTER, request.split_seed) for image in images]
            found = score(
                lambda plane: segmenter.segment(plane).labels,
                planes,
                images,
                values,
                min_object_px=request.min_object_px,
            )
            cell = Cell(
                source=source,
                degradation=degradation,
                prefilter=NO_FILTER,
                variant=name,
                fold=-1,
                seed=-1,
                result=found,
            )
            result.cells.append(cell)
            on_progress(Progress(n_done=len(result.cells), n_total=n_total, message=f"{source}, {degradation}"))
    result.seconds = time.monotonic() - started
    return result


def score_model(
    model_id: str,
    request: EvaluateAEPRequest,
    *,
    on_progress: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
) -> AEPEvaluation:
    """Score a segmenting model of the shelf, see :func:`score_trained`.

    Raises
    ------
    ModelNotFoundError
        No model of that id.
    ImageError, ParameterError
        As for :func:`score_trained`; or a model that filters and does not segment.
    """
    module, values = open_network(model_id)
    return score_trained(module, values, request, name=model_id, on_progress=on_progress, is_cancelled=is_cancelled)


def to_markdown(result: AEPEvaluation) -> str:
    """Every table: IoU, DSC, objects, the difference to the U-Net, pre-filters."""
    return markdown(result.cells)


def save(result: AEPEvaluation, request: EvaluateAEPRequest) -> list[Path]:
    """Write ``scores.json``, ``scores.csv``, ``cells.csv`` and ``scores.md`` into ``request.out``, made if missing.

    Raises
    ------
    ParameterError
        Nothing was scored.
    WriteError
        The folder or a file in it cannot be written.
    """
    return write_tables(result, request)
