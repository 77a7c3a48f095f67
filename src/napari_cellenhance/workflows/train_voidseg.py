"""Train a segmentation from few labels, with the help of a denoiser (VoidSeg): images with objects in, a model out."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.workflows._settings_file import recall
from napari_cellenhance.workflows._train_loop import (
    LOOP_FIELDS,
    Glimpse,
    Look,
    LoopRequest,
    OnGlimpse,
    ViewedWindow,
    Watch,
    checkpoint_of,
    run_course,
)
from napari_cellenhance.workflows.painted_layers import PaintedLayer
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, never_cancelled, no_progress
from napari_cellenhance.workflows.train_progress import TrainResult

if TYPE_CHECKING:
    from napari_cellenhance.core.training import FitState
    from napari_cellenhance.zoo.cards import ModelCard

__all__ = [
    "SCHEMES",
    "Glimpse",
    "PaintedLayer",
    "Scheme",
    "ViewedWindow",
    "VoidSegRequest",
    "VoidSegResult",
    "checkpoint_of",
    "remembered",
    "run",
]

Scheme = Literal["baseline", "sequential", "finetune", "finetune-sequential"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
LEARNING_RATE = 4e-4

_REMEMBERED = (
    *LOOP_FIELDS, "network", "scheme", "denoiser", "has_denoise_output", "depth", "width", "crop_px", "n_labelled",
    "is_shell_background", "schedule",
)  # fmt: skip
"""Fields that a folder keeps beside its checkpoint: all that matter but the images and the labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VoidSegRequest(LoopRequest):
    """One training of VoidSeg, or of StarDist in its place.

    Parameters
    ----------
    data : path, or tuple of PaintedLayer
        JSON list of labelled sources, a folder of images with label images beside them, or images in memory.
    data_root : path, optional
        What the paths in the JSON are relative to; default: its folder.
    object_name : str
        What the objects are, for people.
    network : "unet" or "stardist"
        Three classes, or stars.
    scheme : str
        "baseline" looks at the image; "sequential" at what a frozen denoiser makes of it; "finetune" starts from the
        denoiser's weights; "finetune-sequential" does both. StarDist knows the first two.
    denoiser : str
        Id of the denoiser; none for the baseline.
    has_denoise_output : bool
        Four outputs instead of three, see ``core.models.voidseg.VoidSegNetwork``.
    depth, width : int
        Of the U-Net; where it starts from a denoiser, that one's are taken.
    crop_px : int
        Side of a crop.
    n_labelled : int
        Learn from so many of the images only, drawn by the seed: the subsets of rising numbers are nested. 0: all.
    is_shell_background : bool
        Of painted objects: what is not painted but touches one counts as background.
    learning_rate : float
        0: ``LEARNING_RATE``.
    schedule : "plateau", "cosine" or "constant"
        Of the learning rate.
    recipe_options : dict
        Further fields of ``core.recipes.voidseg.VoidSegTraining``, or of ``core.recipes.stardist.StarDistTraining``.
    """

    data: str | os.PathLike[str] | tuple[PaintedLayer, ...]
    data_root: str | os.PathLike[str] | None = None
    model_id: str = "voidseg-custom"
    title: str = "VoidSeg (own training)"
    object_name: str = "object"
    network: Literal["unet", "stardist"] = "unet"
    scheme: Scheme = "baseline"
    denoiser: str = ""
    has_denoise_output: bool = False
    depth: int = 3
    width: int = 32
    crop_px: int = 128
    n_labelled: int = 0
    is_shell_background: bool = False
    schedule: Literal["plateau", "cosine", "constant"] = "plateau"
    n_steps: int = 600
    batch_size: int = 8
    validate_every: int = 25

    def __post_init__(self) -> None:
        LoopRequest.__post_init__(self)
        if self.network not in ("unet", "stardist"):
            raise ParameterError(f"network is {self.network!r}; expected 'unet' or 'stardist'")
        if self.scheme not in SCHEMES:
            raise ParameterError(f"scheme is {self.scheme!r}; expected one of {', '.join(SCHEMES)}")
        if self.network == "stardist" and (self.scheme.startswith("finetune") or self.has_denoise_output):
            raise ParameterError(
                "StarDist has another head than a denoiser, so nothing can be taken over; use the scheme baseline or "
                "sequential"
            )
        if bool(self.denoiser) != (self.scheme != "baseline"):
            raise ParameterError(
                f"the scheme is {self.scheme!r} and the denoiser {self.denoiser!r}; the baseline takes none, and every "
                "other scheme needs one, which “cellenhance train n2v” makes"
            )
        if self.init_from is not None:
            raise ParameterError("VoidSeg starts from random weights, or from a denoiser with the scheme finetune")
        if self.n_labelled < 0:
            raise ParameterError(f"{self.n_labelled} labelled images were asked for; expected 0 (all) or more")

    @property
    def is_sequential(self) -> bool:
        """The network looks at denoised images."""
        return self.scheme.endswith("sequential")


@dataclass(frozen=True, slots=True, kw_only=True)
class VoidSegResult(TrainResult):
    """Where everything is, how the training ended, and how good the model is.

    Parameters
    ----------
    threshold : float
        Probability above which there is an object; NaN where the training was discarded.
    average_precision : float
        Mean AP at that threshold on what was kept aside.
    held_out : str
        "images", "blocks" or "strips" of them, or "none": then there were too few labels to keep some aside.
    """

    threshold: float
    average_precision: float
    held_out: str


def remembered(request: VoidSegRequest) -> VoidSegRequest:
    """Request that goes on from the checkpoint of its folder, with the settings that were used there.

    Raises
    ------
    ParameterError
        The folder keeps no settings that can be read.
    """
    return replace(request, **recall(request.out, _REMEMBERED), resume=True)


def run(
    request: VoidSegRequest,
    *,
    on_progress: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
    is_discarded: IsCancelled = never_cancelled,
    look: Look = lambda: None,
    on_glimpse: OnGlimpse = lambda glimpse: None,
) -> VoidSegResult:
    """Train, choose the threshold, and leave weights, card, ``history.csv`` and ``history.png`` in ``request.out``.

    A cancel keeps the best weights so far. Nothing half-written stays; an earlier good model of the same name is
    replaced only by a finished validation, never by a run that failed, was discarded, or learned nothing.

    Parameters
    ----------
    on_progress : callable
        Called after every update with a ``TrainProgress``.
    is_discarded : callable
        Asked after every update; when true the training ends and publishes nothing. Its checkpoint stays.
    look : callable
        Asked between updates, every few seconds: the window to show, or None.
    on_glimpse : callable
        Called with that window, segmented.

    Raises
    ------
    ImageError, AxesError
        No labels, too few of them, labels of another shape, a constant image; a source that cannot be read.
    ModelNotFoundError
        No such denoiser.
    ParameterError
        Settings out of range, a model that is no denoiser, a checkpoint of other settings or images.
    TrainingError
        The loss is not a number before anything was learned, or the denoiser changed, which it must not.
    """
    from napari_cellenhance.workflows._train_voidseg_record import publish
    from napari_cellenhance.workflows._train_voidseg_setup import VoidSegSetup, prepare

    def known(setup: VoidSegSetup, ended: FitState) -> dict[str, Any]:
        return {"threshold": float("nan"), "average_precision": float("nan"), "held_out": setup.held_out}

    def publish_it(setup: VoidSegSetup, ended: FitState, stopped: str) -> tuple[ModelCard, dict[str, Any]]:
        search = setup.find_threshold()
        found = {"threshold": search.threshold, "average_precision": max(search.scores)}
        return publish(setup, ended, stopped, search), found

    watch = Watch(
        on_progress=on_progress, is_cancelled=is_cancelled, is_discarded=is_discarded, look=look, on_glimpse=on_glimpse
    )  # fmt: skip
    return run_course(request, watch, _REMEMBERED, VoidSegResult, prepare=prepare, publish=publish_it, known=known)
