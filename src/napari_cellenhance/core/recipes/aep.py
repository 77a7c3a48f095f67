"""AEP's training recipe: crops with paint → both networks → joint loss; scored by the IoU of each class.

Dense labels and sparse strokes are the same thing here: what is not painted has no part in any loss or score.

References
----------
.. [1] Kato & Hotta, Sci. Rep., 2024 (AEP + AWEL): Adam 1e-3, batch 16, crops of 256², best validation IoU is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_cellenhance.core.augment import augment_contrast, dihedral
from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.losses.segmentation import joint_loss
from napari_cellenhance.core.metrics import class_iou, confusion_matrix
from napari_cellenhance.core.models.aep import GRID_PX, AEPOutput
from napari_cellenhance.core.models.bit_dropout import seed_dropout
from napari_cellenhance.core.models.segmentation_baseline import SegmentationNetwork
from napari_cellenhance.core.painted import (
    IGNORED,
    PaintedImage,
    balanced_weights,
    check_values,
    count_painted,
    painted_values,
    to_targets,
)
from napari_cellenhance.core.painted_crops import CropSampler, HeldOut, hold_out
from napari_cellenhance.core.recipes.aep_segmenter import GridPlane, aligned_tiles, run_window
from napari_cellenhance.core.tiling import Region

__all__ = ["AEPRecipe", "AEPTraining"]

DENSE_SHARE = 0.5
"""Images painted beyond this share count as densely labelled."""

_TIE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class AEPTraining:
    """Settings of the recipe; those of the loop are ``core.training.FitSettings``.

    The paper's are ``AEPTraining(has_symmetries=False, contrast_fraction=0, crops="uniform")`` with
    ``FitSettings(learning_rate=1e-3, weight_decay=0, schedule="constant", n_warmup=1)`` over 300 epochs.

    Parameters
    ----------
    crop_px, batch_size : int
        Side of a crop, in pixels (multiple of 8, at least 32), and crops per update.
    crops : "auto", "balanced" or "uniform"
        How a crop is chosen: around a pixel of a class drawn first, or around any painted pixel of an image. "auto":
        balanced where less than half of the pixels is painted.
    has_symmetries : bool
        Turn and flip crops, eight ways.
    contrast_fraction : float
        Share of crops whose contrast is changed at random (gamma, logarithm, sigmoid).
    class_weights : tuple of float
        Factor of each class in the loss; empty: all 1, as published.
    balance_classes : bool
        Weights from the painted pixels of each class instead, see ``core.painted.balanced_weights``.
    holdout_fraction : float
        Share of the paint, or of the images, that is kept aside for validation where none is given; 0: none.
    gap_px : int
        Paint this close to the part that is kept aside is not used.
    keep_by : "iou" or "loss"
        What the smallest validation total means: best mean IoU (the smaller loss decides among equals), or loss.
    max_validation_windows : int
        Windows of a crop's size that are scored at each validation; of more, every n-th.
    """

    crop_px: int = 256
    batch_size: int = 16
    crops: Literal["auto", "balanced", "uniform"] = "auto"
    has_symmetries: bool = True
    contrast_fraction: float = 0.5
    class_weights: tuple[float, ...] = ()
    balance_classes: bool = False
    holdout_fraction: float = 0.2
    gap_px: int = 16
    keep_by: Literal["iou", "loss"] = "iou"
    max_validation_windows: int = 64

    def __post_init__(self) -> None:
        if self.crop_px % GRID_PX or self.crop_px < 32:
            raise ParameterError(f"crop is {self.crop_px} px; expected a multiple of {GRID_PX}, at least 32")
        if self.batch_size < 1 or self.max_validation_windows < 1:
            raise ParameterError(
                f"batch {self.batch_size}, {self.max_validation_windows} validation windows; expected 1 or more each"
            )
        if self.crops not in ("auto", "balanced", "uniform"):
            raise ParameterError(f"crops is {self.crops!r}; expected 'auto', 'balanced' or 'uniform'")
        if self.keep_by not in ("iou", "loss"):
            raise ParameterError(f"keep_by is {self.keep_by!r}; expected 'iou' or 'loss'")
        if not 0 <= self.contrast_fraction <= 1:
            raise ParameterError(f"contrast_fraction is {self.contrast_fraction}; expected 0 to 1")
        if not 0 <= self.holdout_fraction <= 0.5 or self.gap_px < 0:
            raise ParameterError(
                f"holdout_fraction is {self.holdout_fraction}, gap_px {self.gap_px}; expected 0 to 0.5, and 0 or more"
            )
        if any(not 0 <= weight < float("inf") for weight in self.class_weights) or (
            self.class_weights and not any(self.class_weights)
        ):
            raise ParameterError(f"class_weights are {self.class_weights}; expected 0 or more, one of them positive")
        if self.class_weights and self.balance_classes:
            raise ParameterError("class_weights and balance_classes exclude each other; choose one")


@dataclass(frozen=True, slots=True)
class _Scored:
    """A window of a padded plane and the classes wanted there, (Y, X) with ``IGNORED``."""

    pixels: GridPlane
    window: Region
    target: NDArray[np.int64]


class AEPRecipe:
    """Binds painted images, network and loss behind ``core.training.TrainableRecipe``.

    Parameters
    ----------
    module : AEP or PlainSegmenter
        Trained in place, on the device where it is.
    images : sequence of PaintedImage
        One or several; images without paint are left out.
    settings : AEPTraining
    validation : sequence of PaintedImage
        Scored at each validation. Empty: a part of the paint is kept aside, see ``core.painted_crops.hold_out``.
    values : sequence of int or None
        Label value of each class; None: those that are painted. A model that goes on learning keeps its own, even if
        one of them is not painted this time.
    seed : int
        Of the choice of images that are kept aside.
    use_bf16 : bool
        bf16 autocast; losses stay in float32.

    Raises
    ------
    ImageError
        No paint, one class only, strokes too small, a label that the model does not know.
    ParameterError
        Classes or class weights that do not fit the network.

    Attributes
    ----------
    network, module : AEP or PlainSegmenter
        The same object, by its own type and as the loop knows it.
    values : tuple of int
        Label value of each class.
    held_out : HeldOut
        What is learned and what is scored.
    is_sparse : bool
        Less than half of the pixels is painted.
    steps_per_epoch : int
        Updates that see about as many crops as the images have places for.
    """

    def __init__(
        self,
        module: SegmentationNetwork,
        images: Sequence[PaintedImage],
        settings: AEPTraining,
        *,
        validation: Sequence[PaintedImage] = (),
        values: Sequence[int] | None = None,
        seed: int = 0,
        use_bf16: bool = False,
    ) -> None:
        self.network: SegmentationNetwork = module.to_channels_last()
        self.module: nn.Module = self.network
        self.settings, self.use_bf16 = settings, use_bf16
        painted = painted_values(images)
        self.values = check_values(painted if values is None else values)
        if len(self.values) != module.n_classes:
            raise ParameterError(
                f"the network has {module.n_classes} classes, the labels {len(self.values)}: {self.values}; "
                "build it for as many as are painted"
            )
        self.held_out = self._hold_out(images, validation, seed)
        train = self.held_out.train
        for image in (*train, *self.held_out.validation):
            to_targets(image.labels, self.values)  # a label that the model does not know
        self.is_sparse = float(np.mean([image.painted_share for image in train])) < DENSE_SHARE
        is_balanced = settings.crops == "balanced" or (settings.crops == "auto" and self.is_sparse)
        self._sampler = CropSampler(train, settings.crop_px, is_balanced=is_balanced)
        self._class_weights = self._weights_of(train)
        self._scored = self._windows(self.held_out.validation)
        self.steps_per_epoch = _n_steps(train, settings)

    def loss(self, rng: np.random.Generator, step: int) -> dict[str, Tensor]:
        """One batch; ``rng`` draws the crops and what is dropped, so the same one gives the same loss."""
        images, targets = self._sample(rng)
        seed_dropout(self.module, int(rng.integers(2**32)))
        device = self._device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.use_bf16):
            output: AEPOutput = self.module(images.to(device))
        return self._joint_loss(output, targets.to(device))

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """IoU of each class on the validation paint, pooled over all windows, and the mean loss per painted pixel.

        Returns
        -------
        dict of str to float
            ``iou_V`` for each label value V that is wanted or found, ``mean_iou``, ``loss``, and ``total``.
        """
        n, was_training = self.network.n_classes, self.module.training
        self.module.eval()
        confusion, loss, n_painted = np.zeros((n, n), np.int64), 0.0, 0
        for scored in self._scored:
            output = run_window(self.network, scored.pixels, scored.window, use_bf16=self.use_bf16)
            is_painted = scored.target != IGNORED
            found = output.logits[0].argmax(dim=0).cpu().numpy()
            confusion += confusion_matrix(scored.target[is_painted], found[is_painted], n)
            target = torch.from_numpy(scored.target)[None].to(self._device)
            loss += float(self._joint_loss(output, target)["total"]) * int(is_painted.sum())
            n_painted += int(is_painted.sum())
        self.module.train(was_training)
        iou = class_iou(confusion)
        loss /= max(1, n_painted)
        mean = float(np.nanmean(iou))
        scores = {f"iou_{value}": float(x) for value, x in zip(self.values, iou, strict=True) if np.isfinite(x)}
        by_iou = 1.0 - mean + _TIE * loss / (1.0 + loss)
        total = by_iou if self.settings.keep_by == "iou" and np.isfinite(loss) else loss
        return {"total": total, "loss": loss, "mean_iou": mean, **scores}

    @property
    def _device(self) -> torch.device:
        return next(self.module.parameters()).device

    def _joint_loss(self, output: AEPOutput, target: Tensor) -> dict[str, Tensor]:
        weights = self._class_weights
        return joint_loss(
            output,
            target,
            class_weights=None if weights is None else weights.to(target.device),
            has_ensemble=self.network.ensemble != "none",
        )

    def _hold_out(self, images: Sequence[PaintedImage], validation: Sequence[PaintedImage], seed: int) -> HeldOut:
        if validation:
            painted_values(validation)
            usable = tuple(image for image in images if image.labels.any())
            return HeldOut(usable, tuple(validation), "images")
        s = self.settings
        return hold_out(images, fraction=s.holdout_fraction, gap_px=s.gap_px, rng=np.random.default_rng([seed, 1]))

    def _weights_of(self, train: Sequence[PaintedImage]) -> Tensor | None:
        weights = self.settings.class_weights
        if self.settings.balance_classes:
            return torch.from_numpy(balanced_weights(count_painted(train, self.values)))
        if not weights:
            return None
        if len(weights) != self.network.n_classes:
            raise ParameterError(f"{len(weights)} class weights were given for {self.network.n_classes} classes")
        return torch.tensor(weights, dtype=torch.float32)

    def _sample(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Images (N, 1, Y, X) in [0, 1] and targets (N, Y, X)."""
        s = self.settings
        images, targets = [], []
        for _ in range(s.batch_size):
            image, labels = self._sampler.draw(rng)
            if s.has_symmetries:
                symmetry = int(rng.integers(8))
                image, labels = dihedral(image, symmetry), dihedral(labels, symmetry)
            if rng.random() < s.contrast_fraction:
                image = augment_contrast(image, rng)
            images.append(image)
            targets.append(to_targets(labels, self.values))
        return torch.from_numpy(np.stack(images)[:, None]), torch.from_numpy(np.stack(targets))

    def _windows(self, images: Sequence[PaintedImage]) -> list[_Scored]:
        """Windows of the validation images that hold paint."""
        found = []
        for image in images:
            padded = GridPlane.of(image.image)
            target = np.full(padded.shape, IGNORED, np.int64)
            target[padded.shift(Region.whole(image.image)).slices] = to_targets(image.labels, self.values)
            rows, columns = (
                np.flatnonzero((target != IGNORED).any(axis=1)),
                np.flatnonzero((target != IGNORED).any(axis=0)),
            )
            if not len(rows):
                continue
            box = Region(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
            for window in aligned_tiles(box, self.settings.crop_px):
                wanted = target[window.slices]
                if (wanted != IGNORED).any():
                    found.append(_Scored(padded, window, wanted.copy()))
        return found[:: -(-len(found) // self.settings.max_validation_windows)]


def _n_steps(images: Sequence[PaintedImage], settings: AEPTraining) -> int:
    """Updates that see about as many crops as the images have places for: one epoch."""
    side = settings.crop_px
    sizes = [(int(image.image.shape[0]), int(image.image.shape[1])) for image in images]
    n_crops = sum(-(-height // side) * -(-width // side) for height, width in sizes)
    return max(1, -(-n_crops // settings.batch_size))
