"""Train one network of the evaluation of AEP and score it on the images that it has not seen."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.degrade import DEGRADATIONS, degraded
from napari_cellenhance.core.folds import Fold
from napari_cellenhance.core.painted import PaintedImage
from napari_cellenhance.core.prefilters import prefiltered
from napari_cellenhance.workflows._evaluate_aep_tables import Cell
from napari_cellenhance.workflows._evaluate_classes import ClassImage, score

if TYPE_CHECKING:
    from napari_cellenhance.core.device import DeviceChoice
    from napari_cellenhance.core.models.segmentation_baseline import SegmentationNetwork
    from napari_cellenhance.workflows.evaluate_aep import EvaluateAEPRequest

__all__ = ["VARIANTS", "Plan", "Trained", "build_variant", "identity_of", "seen_image", "train_and_score"]

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "unet": {"network": "unet"},
    "light": {"network": "light"},
    "aep": {"ensemble": "none"},
    "aep-fixed": {"ensemble": "fixed"},
    "aep-auto": {"ensemble": "auto"},
    "aep-logits": {"ensemble": "auto", "source": "logits"},
    "aep-softmax": {"ensemble": "auto", "source": "softmax"},
    "aep-argmax": {"ensemble": "auto", "source": "argmax"},
}
"""Name → settings of ``PlainSegmenter`` (those with a ``network``) or ``AEP``."""


_VERSION = 1
"""Of the method; a change makes stored results void."""
_KEYS = ("source", "degradation", "prefilter", "variant", "fold", "seed")
_DECIDING = (
    "n_folds", "split_seed", "n_steps", "batch_size", "crop_px", "learning_rate", "schedule", "dropout",
    "validate_every", "is_augmented", "min_object_px",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """One source: its images, who is trained and tested on which, the label values of the classes, its digest."""

    source: str
    images: list[ClassImage]
    folds: tuple[Fold, ...]
    values: tuple[int, ...]
    sha256: str


@dataclass(frozen=True, slots=True)
class Trained:
    """Scores of a training, JSON-ready, and arrays of its first test image."""

    result: dict[str, Any]
    example: dict[str, NDArray[Any]]


def build_variant(name: str, n_classes: int, seed: int, dropout: float = 0.5) -> SegmentationNetwork:
    """Network of that variant with weights drawn by ``seed``; torch's own generator is left as it was."""
    import torch

    from napari_cellenhance.core.models.aep import AEP
    from napari_cellenhance.core.models.segmentation_baseline import PlainSegmenter

    kind = PlainSegmenter if "network" in VARIANTS[name] else AEP
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module: SegmentationNetwork = kind(n_classes, dropout=dropout, **VARIANTS[name])
    return module


def seen_image(image: ClassImage, degradation: str, prefilter: str, seed: int) -> NDArray[np.float32]:
    """The image as a network sees it; its noise is seeded by its own name."""
    level = list(DEGRADATIONS).index(degradation)
    rng = np.random.default_rng([seed, level, zlib.crc32(image.name.encode())])
    return prefiltered(degraded(image.image, degradation, rng), prefilter)


def identity_of(request: EvaluateAEPRequest, plan: Plan, cell: Cell, choice: DeviceChoice) -> dict[str, Any]:
    """Everything that decides a result, but for the kind of processor."""
    return {
        "version": _VERSION,
        "data": plan.sha256,
        "values": plan.values,
        "precision": choice.precision,
        **{name: getattr(cell, name) for name in _KEYS},
        **{name: getattr(request, name) for name in _DECIDING},
    }


def train_and_score(
    request: EvaluateAEPRequest,
    plan: Plan,
    cell: Cell,
    choice: DeviceChoice,
    *,
    on_step: Callable[[int], None] = lambda step: None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Trained | None:
    """Train on a fold's images, keep the weights of the best validation IoU, score on its test images.

    Parameters
    ----------
    request : EvaluateAEPRequest
    plan : Plan
    cell : Cell
        Which network, on which fold, and what it sees; its result is not looked at.
    choice : DeviceChoice
    on_step : callable
        Called with the number of updates made.
    is_cancelled : callable

    Returns
    -------
    Trained or None
        None after a cancel.
    """
    from napari_cellenhance.core.recipes.aep import AEPRecipe
    from napari_cellenhance.core.recipes.aep_segmenter import AEPSegmenter
    from napari_cellenhance.core.training import fit

    fold, images = plan.folds[cell.fold], plan.images
    planes = [seen_image(image, cell.degradation, cell.prefilter, request.split_seed) for image in images]

    def painted(indices: Sequence[int]) -> list[PaintedImage]:
        return [PaintedImage(planes[i], images[i].classes, images[i].name) for i in indices]

    started = time.monotonic()
    module = build_variant(cell.variant, len(plan.values), cell.seed, request.dropout).to(choice.torch_device)
    recipe = AEPRecipe(
        module,
        painted(fold.train),
        _training(request),
        validation=painted(fold.validation),
        values=plan.values,
        seed=cell.seed,
        use_bf16=choice.precision == "bfloat16",
    )
    settings = _loop(request, cell.seed)
    fitted = fit(recipe, settings, on_step=lambda state, row: on_step(state.step), is_cancelled=is_cancelled)
    if fitted.stopped == "cancelled":
        return None
    segmenter = AEPSegmenter(module, plan.values, choice)
    scores = score(
        lambda plane: segmenter.segment(plane).labels,
        [planes[i] for i in fold.test],
        [images[i] for i in fold.test],
        plan.values,
        min_object_px=request.min_object_px,
    )
    about = {
        "validation_iou": round(1.0 - fitted.state.best_total, 5),
        "best_step": fitted.state.best_step,
        "n_steps": fitted.state.step,
        "stopped": fitted.stopped,
        "branch_weights": module.branch_weights().tolist(),
        "training_seconds": fitted.state.elapsed_s,
        "seconds": time.monotonic() - started,
        "n_images": [len(fold.train), len(fold.validation), len(fold.test)],
    }
    return Trained(scores | about, _example_of(segmenter.segment, planes[fold.test[0]]))


def _example_of(segment: Callable[[NDArray[np.float32]], Any], plane: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """Segmentation and translated images of one plane, small enough to be kept."""
    found = segment(plane)
    return {"labels": found.labels.astype(np.uint8), "translated": found.translated.astype(np.float16)}


def _training(request: EvaluateAEPRequest) -> Any:
    from napari_cellenhance.core.recipes.aep import AEPTraining

    return AEPTraining(
        crop_px=request.crop_px,
        batch_size=request.batch_size,
        crops="uniform",
        has_symmetries=request.is_augmented,
        contrast_fraction=0.5 if request.is_augmented else 0.0,
        keep_by="iou",
    )


def _loop(request: EvaluateAEPRequest, seed: int) -> Any:
    from napari_cellenhance.core.training import FitSettings

    return FitSettings(
        n_steps=request.n_steps,
        learning_rate=request.learning_rate,
        weight_decay=0.0,
        schedule=request.schedule,
        n_warmup=1,
        validate_every=min(request.validate_every, request.n_steps),
        seed=seed,
    )
