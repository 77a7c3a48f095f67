"""From paint to a segmentation: how good it is after how many seconds, by each way to learn.

Strokes are simulated in images whose classes are known; all methods get the same ones. The clock counts what a person
waits for, the training; looking at what was learned is off the clock.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.painted import NOT_PAINTED, PaintedImage
from napari_cellenhance.core.strokes import AMOUNTS, StrokeStyle, simulate_strokes
from napari_cellenhance.workflows._evaluate_cells import CellStore
from napari_cellenhance.workflows._evaluate_classes import ClassImage, digest, open_network, read_class_images, score
from napari_cellenhance.workflows._evaluate_paint_methods import (
    METHODS,
    TITLES,
    PaintTask,
    Seen,
    check_forest,
)
from napari_cellenhance.workflows._evaluate_paint_tables import PaintCell, markdown, rows_of, write_all
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress

if TYPE_CHECKING:
    from napari_cellenhance.core.device import DeviceChoice
    from napari_cellenhance.core.models.segmentation_baseline import SegmentationNetwork

__all__ = ["EvaluatePaintRequest", "PaintEvaluation", "open_start", "run", "save", "to_markdown"]

_VERSION = 1
"""Of the method; a change makes stored results void."""

_MIN_CLASS_PX = 100
"""Of each class in an image that is painted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatePaintRequest:
    """What is painted, and who learns from it.

    Parameters
    ----------
    data : sequence of path
        JSON lists of labelled images, or folders; see ``io.labelled``.
    out : path
        Folder of the results, made if missing. Results that are there and were made with the same settings are not made
        again.
    data_root : path, optional
        What the paths in JSON files are relative to.
    n_images : int
        Painted images of each source, one at a time, drawn by ``split_seed``.
    n_unseen : int
        Other images of the same source, for the scores on unseen images.
    has_border : bool
        Paint the borders of labelled objects as a third class.
    is_stretched : bool
        Bring the percentiles 0.1 and 99.9 of each plane to 0 and 1.
    amounts : sequence of str
        Of paint, see ``core.strokes.AMOUNTS``.
    width_px, length_px
        Of a stroke, in pixels.
    seeds : sequence of int
        Each paints and trains again.
    split_seed : int
        Of the choice of images.
    methods : sequence of str
        "instant"; AEP + AWEL from a trained network ("aep-tuned") or from scratch ("aep"); "unet"; "forest".
    times_s : sequence of float
        Seconds of training after which results are scored, rising.
    crop_px, batch_size, learning_rate, dropout
        Of the networks: side of a crop in pixels, crops per update, Adam's rate, probability while training (None: as
        ``AEPRequest``).
    device, precision : str
    """

    data: tuple[str | os.PathLike[str], ...] = ()
    out: str | os.PathLike[str] = ""
    data_root: str | os.PathLike[str] | None = None
    n_images: int = 3
    n_unseen: int = 4
    has_border: bool = False
    is_stretched: bool = True
    amounts: tuple[str, ...] = tuple(AMOUNTS)
    width_px: int = StrokeStyle().width_px
    length_px: float = StrokeStyle().length_px
    seeds: tuple[int, ...] = (0,)
    split_seed: int = 0
    methods: tuple[str, ...] = tuple(METHODS)
    times_s: tuple[float, ...] = (1.0, 5.0, 20.0, 60.0, 300.0)
    crop_px: int = 128
    batch_size: int = 4
    learning_rate: float = 1e-3
    dropout: float | None = None
    device: str = "auto"
    precision: str = "auto"

    def __post_init__(self) -> None:
        for what, names, known in (("method", self.methods, METHODS), ("amount of paint", self.amounts, AMOUNTS)):
            unknown = sorted(set(names) - set(known))
            if unknown:
                raise ParameterError(
                    f"there is no {what} called {', '.join(unknown)}; expected some of {', '.join(known)}"
                )
        if not self.times_s or min(self.times_s) <= 0 or list(self.times_s) != sorted(set(self.times_s)):
            raise ParameterError(f"times are {self.times_s} s; expected at least one, above 0 and rising")
        if not self.seeds or min(self.seeds) < 0 or self.split_seed < 0 or self.n_images < 1 or self.n_unseen < 0:
            raise ParameterError("seeds or numbers of images are negative or none; expected one of each or more")


@dataclass(slots=True, kw_only=True)
class PaintEvaluation:
    """What was found.

    Parameters
    ----------
    cells : list of PaintCell
    n_found : int
        Those that an earlier run had made.
    notes : list of str
        Sentences on what was left out.
    is_complete : bool
        False after a stop; finished cells are kept.
    seconds : float
    """

    cells: list[PaintCell] = field(default_factory=list)
    n_found: int = 0
    notes: list[str] = field(default_factory=list)
    is_complete: bool = True
    seconds: float = 0.0

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Mean and sd of the scores by source, amount, method and time."""
        return rows_of(self.cells)


@dataclass(frozen=True, slots=True)
class _Plan:
    """Images of a source to paint, those never seen in training, and the label values of the classes."""

    source: str
    painted: list[ClassImage]
    unseen: list[ClassImage]
    values: tuple[int, ...]


def run(
    request: EvaluatePaintRequest,
    *,
    start: SegmentationNetwork | None = None,
    on_progress: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
) -> PaintEvaluation:
    """Paint, learn and look; tables in ``request.out`` are renewed after each training.

    Parameters
    ----------
    request : EvaluatePaintRequest
    start : AEP, optional
        Trained network that "aep-tuned" goes on from; without one that method is left out.
    on_progress, is_cancelled : callable

    Raises
    ------
    ImageError
        No image with labels or a mask, or none that has enough of each class.
    MissingExtraError
        A method needs a package that is not installed.
    ParameterError
        No folder for the results.
    WriteError
        The folder or a file in it cannot be written.
    """
    from napari_cellenhance.workflows.device_check import choose_checked_device

    if not os.fspath(request.out):
        raise ParameterError("there is no folder for the results; name one")
    started = time.monotonic()
    choice, store = choose_checked_device(request.device, request.precision), CellStore(Path(request.out) / "cells")
    methods, notes = _usable(request, start)
    plans = [_plan(request, source, images) for source, images in _read(request).items()]
    todo = [(plan, image, cell) for plan in plans for image, cell in _cells(request, plan, methods)]
    result, count = PaintEvaluation(notes=notes), _Count(on_progress, len(todo), request.times_s[-1])
    start_sha256 = _digest_of(start)
    for plan, image, cell in todo:
        identity = _identity(request, plan, image, cell, choice, start_sha256 if cell.method == "aep-tuned" else "")
        found = store.find(identity)
        result.n_found += found is not None
        if found is None and not is_cancelled():
            times = _learned(request, plan, image, cell, choice, start, count, is_cancelled)
            if len(times) == len(request.times_s):
                found = {"times": times, "load": _load(), "n_threads": _n_threads()}
                store.keep(identity, found)
        if found is None:
            result.is_complete = False
            break
        count.cell_done()
        result.cells.append(replace(cell, **found))
        result.seconds = time.monotonic() - started
        write_all(result, request, has_figure=False)
    if result.cells:
        write_all(result, request)
    return result


def _usable(request: EvaluatePaintRequest, start: SegmentationNetwork | None) -> tuple[list[str], list[str]]:
    """Methods that can be run, and why others cannot."""
    methods = list(request.methods)
    notes = ["the way of convpaint is not compared: its features need torchvision and the weights of a VGG-16"]
    if "forest" in methods:
        check_forest()
    if "aep-tuned" in methods and start is None:
        methods.remove("aep-tuned")
        notes.append("AEP was not fine-tuned, since no trained network was given")
    return methods, notes


def _read(request: EvaluatePaintRequest) -> dict[str, list[ClassImage]]:
    return read_class_images(
        request.data, data_root=request.data_root, has_border=request.has_border, is_stretched=request.is_stretched
    )


def _plan(request: EvaluatePaintRequest, source: str, images: Sequence[ClassImage]) -> _Plan:
    values = (1, 2, 3) if request.has_border and images[0].instances is not None else (1, 2)
    order = [images[i] for i in np.random.default_rng(request.split_seed).permutation(len(images))]
    rich = [
        image for image in order if all(np.count_nonzero(image.classes == value) >= _MIN_CLASS_PX for value in values)
    ]
    if not rich:
        raise ImageError(f"no image of {source!r} has {_MIN_CLASS_PX} pixels of each class, so none can be painted")
    painted = rich[: request.n_images]
    names = {image.name for image in painted}
    unseen = [image for image in order if image.name not in names][: request.n_unseen]
    return _Plan(source, painted, unseen, values)


def _cells(
    request: EvaluatePaintRequest, plan: _Plan, methods: Sequence[str]
) -> Iterator[tuple[ClassImage, PaintCell]]:
    """Cells of a source: all methods on one painting, then the next, so that early results can be compared."""
    for seed in request.seeds:
        for image in plan.painted:
            for amount in request.amounts:
                for method in methods:
                    yield (
                        image,
                        PaintCell(source=plan.source, image=image.name, amount=amount, method=method, seed=seed),
                    )


def _identity(
    request: EvaluatePaintRequest,
    plan: _Plan,
    image: ClassImage,
    cell: PaintCell,
    choice: DeviceChoice,
    start_sha256: str,
) -> dict[str, Any]:
    """Everything that decides a result, but for the speed of the processor."""
    deciding = ("width_px", "length_px", "times_s", "crop_px", "batch_size", "learning_rate", "dropout")
    return {
        "version": _VERSION,
        "painted": digest([image]),
        "unseen": digest(plan.unseen),
        "values": plan.values,
        "precision": choice.precision,
        "start": start_sha256,
        **{name: getattr(cell, name) for name in ("source", "image", "amount", "method", "seed")},
        **{name: getattr(request, name) for name in deciding},
    }


def _digest_of(start: SegmentationNetwork | None) -> str:
    if start is None:
        return ""
    sha = hashlib.sha256(repr(sorted(start.architecture.items())).encode())
    for name, tensor in start.state_dict().items():
        sha.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()


def _learned(
    request: EvaluatePaintRequest,
    plan: _Plan,
    image: ClassImage,
    cell: PaintCell,
    choice: DeviceChoice,
    start: SegmentationNetwork | None,
    count: _Count,
    is_cancelled: IsCancelled,
) -> list[dict[str, float]]:
    """Paint one image, let one method learn, and score what is seen at each time; fewer times after a cancel."""
    style = StrokeStyle(width_px=request.width_px, length_px=request.length_px)
    strokes = simulate_strokes(image.classes, cell.amount, seed=cell.seed, style=style)
    task = PaintTask(
        painted=PaintedImage(image.image, strokes, image.name),
        values=plan.values,
        seed=cell.seed,
        crop_px=request.crop_px,
        batch_size=request.batch_size,
        learning_rate=request.learning_rate,
        dropout=request.dropout,
        choice=choice,
        start=start,
    )
    times: list[dict[str, float]] = []

    def look(seen: Seen) -> None:
        before = times[-1] if times else None
        is_same = before is not None and (before["ready_s"], before["n_updates"]) == (seen.ready_s, seen.n_updates)
        times.append(before | {"time_s": seen.time_s} if before and is_same else _scored(seen, task, plan, image))
        count.tell(seen.time_s, f"{cell.source}, {cell.amount} strokes, {TITLES[cell.method]}, {seen.time_s:g} s")

    METHODS[cell.method](task, request.times_s, look, is_cancelled)
    return times


def _scored(seen: Seen, task: PaintTask, plan: _Plan, image: ClassImage) -> dict[str, float]:
    """Scores of what is seen at a time; NaN where there is nothing."""
    row = {"time_s": seen.time_s, "ready_s": seen.ready_s, "n_updates": float(seen.n_updates)}
    if seen.predict is None:
        return row | {"predict_s": math.nan, "painted_iou": math.nan, "unseen_iou": math.nan}
    started = time.perf_counter()
    found = seen.predict(image.image)
    predict_s = time.perf_counter() - started
    is_painted = task.painted.labels != NOT_PAINTED
    painted = score(lambda plane: found, [image.image], [image], plan.values, without=is_painted)
    unseen = [other.image for other in plan.unseen]
    rest = score(seen.predict, unseen, plan.unseen, plan.values)["mean_iou"] if unseen else math.nan
    return row | {"predict_s": predict_s, "painted_iou": painted["mean_iou"], "unseen_iou": rest}


def _load() -> float:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else math.nan


def _n_threads() -> int:
    import torch

    return torch.get_num_threads()


class _Count:
    """Counts seconds of training."""

    def __init__(self, on_progress: OnProgress, n_cells: int, cell_s: float) -> None:
        self._on_progress, self._n_cells, self._cell_s, self._n_done = on_progress, n_cells, cell_s, 0

    def tell(self, time_s: float, message: str) -> None:
        """Tell how far the training under way is."""
        done, total = self._n_done * self._cell_s + time_s, self._n_cells * self._cell_s
        self._on_progress(Progress(n_done=int(done), n_total=max(1, int(total)), message=message, eta_s=total - done))

    def cell_done(self) -> None:
        """Tell that a training is done, or was found."""
        self._n_done += 1
        self.tell(0.0, "learned and scored")


def open_start(model_id: str) -> SegmentationNetwork:
    """Network of a segmenting model of the shelf, for ``start`` of :func:`run`.

    Raises
    ------
    ModelNotFoundError
        No model of that id.
    ParameterError
        A model that filters and does not segment.
    """
    return open_network(model_id)[0]


def to_markdown(result: PaintEvaluation) -> str:
    """Tables of the mean IoU over time, on painted and on unseen images, and what was left out."""
    return markdown(result.cells, result.notes)


def save(result: PaintEvaluation, request: EvaluatePaintRequest) -> list[Path]:
    """Write ``scores.json``, ``scores.csv``, ``cells.csv``, ``scores.md`` and ``curves.png`` into ``request.out``.

    Raises
    ------
    ParameterError
        Nothing was scored.
    WriteError
        The folder or a file in it cannot be written.
    """
    return write_all(result, request)
