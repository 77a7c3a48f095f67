"""Train a NU-Net: images and a perceptual network (or labels) in, weights, card and curves out."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError, TrainingError
from napari_cellenhance.workflows._settings_file import CHECKPOINT, recall, remember
from napari_cellenhance.workflows._train_setup import TEACHING, prepare
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress
from napari_cellenhance.workflows.train_layers import TrainLayer
from napari_cellenhance.workflows.train_progress import Report, TrainProgress, TrainResult

if TYPE_CHECKING:
    from napari_cellenhance.core.training import FitState
    from napari_cellenhance.workflows._train_setup import Setup

__all__ = [
    "OnPicture",
    "TrainLayer",
    "TrainProgress",
    "TrainRequest",
    "TrainResult",
    "checkpoint_of",
    "remembered",
    "run",
]

_REMEMBERED = (
    "perception", "teach", "init_from", "norm", "strength", "style_groups", "n_masks", "validation_fraction", "n_steps",
    "batch_size", "crop_px", "learning_rate", "validate_every", "patience", "average", "keep", "seed",
    "precision", "recipe_options",
)  # fmt: skip
"""Fields that a folder keeps beside its checkpoint: all that matter but the images."""
PICTURE_PX = 192

OnPicture = Callable[[NDArray[np.float32], NDArray[np.float32]], None]
"""Takes a window of a training image before and after the filter as it is now, both (Y, X) in [0, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """One NU-Net training.

    Parameters
    ----------
    data : path, or tuple of TrainLayer
        JSON list of sources, a folder of images (then ``object_diameter_px`` and ``objects_are_dark`` describe
        them), or images in memory.
    data_root : path, optional
        What the paths in the JSON are relative to; default: its folder.
    out : path
        Folder for the weights, the card, the curves and the checkpoint; made if missing.
    perception : str
        ``squeezenet`` or ``torchvision`` for torchvision's SqueezeNet 1.1 or VGG-19, the path of a file of either or
        of a distilled VGG-19 encoder (safetensors), ``random`` for an untrained stand-in (tests only; the card says
        so), or ``none`` to learn from labels alone.
    teach : "images", "labels" or "both"
        What is learned from: images alone (self-supervised, needs a perceptual network), the painted labels of
        ``data`` alone (needs none), or both.
    masks : path, or tuple of ndarray, optional
        Another morphology: label images (a folder, or arrays of shape (…, Y, X)) for the style bank.
    init_from : str, optional
        Id of a model to fine-tune. Default: random weights.
    norm : "frozen" or "instance"
        Norms of a network that starts from random weights; "instance" is published. See ``core.models.nunet.NUNet``.
    strength : float, optional
        Train one fixed ``w`` with the published network; default: one network for all strengths (knots 2.5…10).
    style_groups : int
        Groups of the style bank built from ``masks``, else from the labels in ``data``; 1 is the published mean over
        all. Without either it holds round blobs: the shipped bank, or drawn ones where that is of another network.
    stop_after : int
        End at this update of the ``n_steps`` that the learning rate is scheduled for; 0 runs them all.
    average, keep
        See ``core.training.FitSettings``.
    resume : bool
        Continue from ``out/checkpoint.safetensors`` if it is there.
    """

    data: str | os.PathLike[str] | tuple[TrainLayer, ...]
    out: str | os.PathLike[str]
    perception: str = "none"
    teach: Literal["images", "labels", "both"] = "images"
    masks: str | os.PathLike[str] | tuple[NDArray[Any], ...] | None = None
    data_root: str | os.PathLike[str] | None = None
    object_diameter_px: float | None = None
    objects_are_dark: bool = False
    model_id: str = "nunet-custom"
    title: str = "NU-Net (own training)"
    init_from: str | None = None
    norm: Literal["frozen", "instance"] = "frozen"
    strength: float | None = None
    style_groups: int = 6
    n_masks: int = 300
    validation_fraction: float = 0.1
    n_steps: int = 4000
    batch_size: int = 4
    crop_px: int = 128
    learning_rate: float = 1e-3
    validate_every: int = 250
    patience: int = 0
    average: float = 0.998
    keep: Literal["best", "last"] = "best"
    stop_after: int = 0
    seed: int = 0
    device: str = "cpu"
    """``cpu``, ``cuda`` or ``auto``, as in ``core.device.choose_device``."""
    precision: str = "auto"
    n_threads: int = 0
    """Threads to compute with; 0 takes what torch takes. A window that shall stay lively leaves one core free."""
    resume: bool = False
    install: bool = True
    """Also store the model in the user's models folder, so that every list of models shows it."""
    recipe_options: dict[str, Any] = field(default_factory=dict)
    """Further fields of ``core.recipes.nunet.NUNetTraining``."""

    def __post_init__(self) -> None:
        if self.n_threads < 0:
            raise ParameterError(f"{self.n_threads} threads were asked for; expected 0 (as torch likes) or more")
        if self.teach not in TEACHING:
            raise ParameterError(f"teach is {self.teach!r}; expected one of: {', '.join(TEACHING)}")


def checkpoint_of(out: str | os.PathLike[str]) -> Path:
    """Checkpoint of a training whose folder is ``out``; it may not be there."""
    return Path(out) / CHECKPOINT


def remembered(request: TrainRequest) -> TrainRequest:
    """Request that goes on from the checkpoint of its folder, with the settings that were used there.

    Images, masks and names are those of ``request``; if the images differ, :func:`run` refuses.

    Raises
    ------
    ParameterError
        The folder keeps no settings that can be read.
    """
    return replace(request, **recall(request.out, _REMEMBERED), resume=True)


def run(
    request: TrainRequest,
    *,
    on_progress: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
    is_discarded: IsCancelled = never_cancelled,
    on_picture: OnPicture | None = None,
) -> TrainResult:
    """Train, and leave weights (``<id>-….safetensors``), card, ``history.csv`` and ``history.png`` in ``request.out``.

    A cancel keeps the best weights so far. Nothing half-written stays; an earlier good model of the same
    name is replaced only by a finished validation.

    Parameters
    ----------
    on_progress : callable
        Called after every update with a :class:`TrainProgress`.
    is_discarded : callable
        Asked after every update; when true the training ends and publishes nothing. Its checkpoint stays, so that
        ``resume`` can go on from there.
    on_picture : callable, optional
        Called before the first update and after every validation.

    Raises
    ------
    ImageError
        A source cannot be read, or holds nothing usable.
    ParameterError
        Settings out of range; a checkpoint of other settings.
    TrainingError
        The loss is not a number before anything was learned.
    """
    import torch

    n_threads = torch.get_num_threads()
    torch.set_num_threads(request.n_threads or n_threads)
    try:
        return _run(request, on_progress, is_cancelled, is_discarded, on_picture)
    finally:
        torch.set_num_threads(n_threads)


def _run(
    request: TrainRequest,
    on_progress: OnProgress,
    is_cancelled: IsCancelled,
    is_discarded: IsCancelled,
    on_picture: OnPicture | None,
) -> TrainResult:
    import torch

    from napari_cellenhance.core.recipes.nunet import balance
    from napari_cellenhance.core.training import FitState, fit
    from napari_cellenhance.workflows._checkpoint import read_checkpoint, write_checkpoint, write_history
    from napari_cellenhance.workflows._train_record import publish

    def is_ended() -> bool:
        return is_cancelled() or is_discarded()

    out = Path(request.out)
    on_progress(Progress(n_done=0, n_total=request.n_steps, message="Reading the images"))
    setup = prepare(request)
    recipe = setup.recipe
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = checkpoint_of(out)
    state, extra = read_checkpoint(checkpoint, setup.identity) if request.resume else (FitState(), {})
    factor = extra.get("balance_factor")
    known = factor if factor is not None else setup.parent_factor
    if known is None:
        on_progress(Progress(n_done=0, n_total=request.n_steps, message="Balancing the losses"))
        known = balance(recipe, setup.settings.n_dry_run, request.seed)
    recipe.balance_factor = known
    if factor is None:
        torch.manual_seed(request.seed)
    remember(request.out, request, _REMEMBERED)
    picture = None if on_picture is None else _Picture(setup, on_picture)
    if picture is not None:
        picture.show()
    report = Report(request.n_steps, on_progress, state)

    def on_checkpoint(state: FitState) -> None:
        write_checkpoint(checkpoint, state, setup.identity, {"balance_factor": recipe.balance_factor})
        write_history(out, state)
        if picture is not None:
            picture.show()

    result = fit(
        recipe, setup.fit_settings, state=state, on_step=report.step, on_checkpoint=on_checkpoint,
        is_cancelled=lambda: is_ended() or 0 < request.stop_after <= state.step,
    )  # fmt: skip
    ended, stopped = result.state, result.stopped
    if not ended.best:
        raise TrainingError(
            "the loss became something that is no number before the first validation, so there is no filter to keep; "
            "use a tenth of the learning rate, and look for broken images"
        )
    history = out / "history.csv"
    if is_discarded():
        return TrainResult(
            model_id=request.model_id, weights=None, card=None, history=history, stopped="discarded",
            best_step=ended.best_step, best_total=ended.best_total,
        )  # fmt: skip
    card = publish(request, setup, ended, stopped)
    return TrainResult(
        model_id=card.id, weights=out / card.file.name, card=out / f"{card.id}.json", history=history,
        stopped=stopped, best_step=ended.best_step, best_total=ended.best_total,
    )  # fmt: skip


class _Picture:
    """A window of a training image through the network as it is now."""

    def __init__(self, setup: Setup, on_picture: OnPicture) -> None:
        self._recipe = setup.recipe
        self._on_picture = on_picture
        self._before = _liveliest_window(setup.sources[0].images[0], PICTURE_PX)
        low, high = setup.settings.strengths
        self._strength = min(max(5.0, low), high)

    def show(self) -> None:
        """Run the network on the window; leaves it in the mode it was in."""
        import torch

        module = self._recipe.module
        was_training = module.training
        module.eval()
        with torch.no_grad():
            image = torch.from_numpy(self._before)[None, None] * 255.0
            strengths = None if module.conditioning == "none" else torch.tensor([self._strength])
            after = module(image, strengths)[0, 0].clamp(0.0, 255.0).numpy() / 255.0
        module.train(was_training)
        self._on_picture(self._before, after.astype(np.float32))


def _liveliest_window(image: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Window of at most ``side`` px, sides multiples of 4, with the largest spread of grey values."""
    height, width = (max(16, min(side, n) // 4 * 4) for n in image.shape)
    if min(image.shape) < 16:
        image = np.pad(image, [(0, max(0, 16 - n)) for n in image.shape], mode="edge")
    starts = [
        (y, x)
        for y in range(0, image.shape[0] - height + 1, max(1, height // 2))
        for x in range(0, image.shape[1] - width + 1, max(1, width // 2))
    ]
    y, x = max(starts, key=lambda at: float(image[at[0] : at[0] + height, at[1] : at[1] + width].std()))
    return np.ascontiguousarray(image[y : y + height, x : x + width])
