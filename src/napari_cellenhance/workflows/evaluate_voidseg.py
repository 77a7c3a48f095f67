"""Score the schemes of VoidSeg as its paper does: noise of several strengths, few labels and more, several seeds.

Every training is kept as soon as it is done; a run that was stopped goes on where it was.

References
----------
.. [1] Prakash et al., "Leveraging self-supervised denoising for image segmentation" (VoidSeg), ISBI 2020: AP and SEG of
   four schemes at noise of σ 10, 20 and 40, by nested subsets of labelled patches of 128².
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.workflows._evaluate_cells import CellStore
from napari_cellenhance.workflows._evaluate_voidseg_picture import write_picture
from napari_cellenhance.workflows._evaluate_voidseg_tables import TITLES, Cell, markdown, rows_of, write_tables
from napari_cellenhance.workflows._evaluate_voidseg_train import (
    METHODS,
    Images,
    Level,
    identity_of,
    open_level,
    read_images,
    restore,
    train_and_score,
)
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress

__all__ = ["EvaluateVoidSegRequest", "VoidSegEvaluation", "run", "to_markdown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateVoidSegRequest:
    """Which schemes to train, on what, and how.

    Parameters
    ----------
    data : path
        JSON list with a source to learn from and one to test, both with label images; see ``io.labelled``.
    out : path
        Folder of the results, made if missing. Results that are there and were made with the same settings are not made
        again.
    data_root : path, optional
        What the paths in the JSON are relative to.
    test_source : str
        Name of the source to test on; all others are learned from.
    max_train, max_test : int
        Images taken of each, drawn by ``split_seed``; 0 takes all.
    patch_px : int
        Side of the patches that the training images are cut into; each is labelled or not.
    sigmas : tuple of float
        Standard deviations of the noise, in grey values of 0…255; added without clipping.
    n_labelled : tuple of int
        Labelled patches to learn from; beside them 15 for each 85, at least 4, are labelled for validation.
    methods : tuple of str
        Out of "baseline", "sequential", "finetune", "finetune-sequential", "stardist", "stardist-sequential".
    seeds : tuple of int
        Each draws other patches and other weights.
    split_seed : int
        Of images, noise and denoisers.
    normalization : "paper" or "image"
        "paper": U-Nets standardise all images by the same mean and standard deviation, StarDist sees each image between
        its own percentiles 1 and 99.8. "image": both see it so; denoised images after the denoiser.
    n_steps, learning_rate, schedule, batch_size, crop_px, validate_every
        Of each training.
    patience : int
        Validations without a smaller loss until a training ends early; 0: never.
    denoiser_steps : int
        Updates of the denoiser, one for each noise, on all noisy images, those to test on as well: it sees no label.
    depth, width : int
        Of all U-Nets.
    """

    data: str | os.PathLike[str] = ""
    out: str | os.PathLike[str] = ""
    data_root: str | os.PathLike[str] | None = None
    test_source: str = "test"
    max_train: int = 100
    max_test: int = 40
    patch_px: int = 128
    sigmas: tuple[float, ...] = (10.0, 20.0, 40.0)
    n_labelled: tuple[int, ...] = (8, 32, 128)
    methods: tuple[str, ...] = tuple(TITLES)
    seeds: tuple[int, ...] = (0, 1, 2)
    split_seed: int = 0
    normalization: Literal["paper", "image"] = "paper"
    n_steps: int = 200
    learning_rate: float = 1e-3
    schedule: Literal["plateau", "cosine", "constant"] = "plateau"
    denoiser_steps: int = 600
    depth: int = 3
    width: int = 32
    crop_px: int = 96
    batch_size: int = 8
    validate_every: int = 20
    patience: int = 5
    device: str = "auto"
    precision: str = "auto"

    def __post_init__(self) -> None:
        unknown = sorted(set(self.methods) - set(METHODS))
        if unknown:
            raise ParameterError(
                f"there is no method called {', '.join(unknown)}; expected some of {', '.join(METHODS)}"
            )
        if self.normalization not in ("paper", "image"):
            raise ParameterError(f"normalization is {self.normalization!r}; expected 'paper' or 'image'")
        if not self.seeds or min(self.seeds) < 0 or self.split_seed < 0:
            raise ParameterError(f"seeds are {self.seeds} and {self.split_seed}; expected at least one, 0 or more each")
        if not self.n_labelled or min(self.n_labelled) < 1 or not self.sigmas or min(self.sigmas) < 0:
            raise ParameterError(
                f"{self.n_labelled} labelled patches at noise of {self.sigmas}; expected 1 patch or more, and 0 or more"
            )
        if min(self.n_steps, self.denoiser_steps, self.validate_every, self.patch_px) < 1:
            raise ParameterError("updates or the side of a patch are 0 or negative; expected 1 or more each")
        if min(self.max_train, self.max_test) < 0 or self.crop_px > self.patch_px:
            raise ParameterError(
                f"{self.max_train} and {self.max_test} images, crops of {self.crop_px} px of patches of "
                f"{self.patch_px} px; expected 0 (all) or more, and crops that fit"
            )


@dataclass(slots=True, kw_only=True)
class VoidSegEvaluation:
    """What was found.

    Parameters
    ----------
    cells : list of Cell
        One for each training.
    denoisers : list of dict
        One for each noise: PSNR of the test images before and after.
    n_found : int
        Trainings that an earlier run had made.
    is_complete : bool
        False after a stop; finished trainings are kept.
    seconds : float
    """

    cells: list[Cell] = field(default_factory=list)
    denoisers: list[dict[str, Any]] = field(default_factory=list)
    n_found: int = 0
    is_complete: bool = True
    seconds: float = 0.0

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Mean and standard error of each score, by noise, labels and method."""
        return rows_of(self.cells)


def run(
    request: EvaluateVoidSegRequest,
    *,
    on_progress: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
) -> VoidSegEvaluation:
    """Train and score everything; tables in ``request.out`` are renewed after each, ``objects.png`` at the end.

    Raises
    ------
    ImageError
        No image with labels to learn from, or none to test on.
    ParameterError
        No folder for the results, or too few patches.
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
    on_progress(Progress(n_done=0, n_total=0, message="Reading the images"))
    images = read_images(request)
    cells = list(_cells(request))
    result, count = VoidSegEvaluation(), _Count(on_progress, len(cells))
    level: Level | None = None
    for cell in cells:
        identity = identity_of(request, images, cell, choice)
        found = store.find(identity)
        result.n_found += found is not None
        if found is None and not is_cancelled():
            level = level if level is not None and level.sigma == cell.sigma else _level(images, cell, request)
            needs_denoiser = any(METHODS[cell.method][1:])
            if needs_denoiser and level.denoiser is None:
                made = restore(
                    level, images, request, choice, is_cancelled=is_cancelled,
                    on_step=lambda step, sigma=cell.sigma: count.tell(f"denoiser of σ {sigma:g}, update {step}"),  # type: ignore[misc]
                )  # fmt: skip
                result.denoisers += [] if made is None else [made]
            if not needs_denoiser or level.denoiser is not None:
                title = f"σ {cell.sigma:g}, {cell.n_labelled} patches, {TITLES[cell.method]}, seed {cell.seed}"
                trained = train_and_score(
                    request, images, level, cell, choice, is_cancelled=is_cancelled,
                    on_step=lambda step, title=title: count.tell(f"{title}, update {step}"),  # type: ignore[misc]
                )  # fmt: skip
                if trained is not None:
                    found = trained[0]
                    store.keep(identity, *trained)
        if found is None:
            result.is_complete = False
            break
        count.cell_done()
        result.cells.append(replace(cell, result=found))
        result.seconds = time.monotonic() - started
        write_tables(result, request)
    if result.cells:
        write_tables(result, request)
        write_picture(
            request, images, [(one, store.example(identity_of(request, images, one, choice))) for one in cells]
        )
    return result


def _level(images: Images, cell: Cell, request: EvaluateVoidSegRequest) -> Level:
    return open_level(images, cell.sigma, request.split_seed)


def _cells(request: EvaluateVoidSegRequest) -> Iterator[Cell]:
    """Cells noise by noise and seed by seed, so that early results can be compared."""
    for sigma in request.sigmas:
        for seed in request.seeds:
            for n in sorted(set(request.n_labelled)):
                for method in dict.fromkeys(request.methods):
                    yield Cell(sigma=sigma, n_labelled=n, method=method, seed=seed)


class _Count:
    """Counts trainings; what an earlier run had made takes no time."""

    def __init__(self, on_progress: OnProgress, n_total: int) -> None:
        self._on_progress, self._n_total, self._n_done = on_progress, n_total, 0

    def tell(self, message: str) -> None:
        """Tell what is under way."""
        self._on_progress(Progress(n_done=self._n_done, n_total=self._n_total, message=message))

    def cell_done(self) -> None:
        """Tell that a training is done, or was found."""
        self._n_done += 1
        self.tell("trained and scored")


def to_markdown(result: VoidSegEvaluation) -> str:
    """AP and SEG by noise, labels and method."""
    return markdown(result.cells)
