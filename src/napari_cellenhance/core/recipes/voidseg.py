"""VoidSeg's training recipe: crops with paint → three classes → weighted cross entropy; scored by loss and AP.

References
----------
.. [1] Prakash et al., "Leveraging self-supervised denoising for image segmentation" (VoidSeg), ISBI 2020: patches of
   128², batch 128, Adam 4e-4, halved on plateaus, the best validation loss is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_cellenhance.core.augment import dihedral
from napari_cellenhance.core.device import DeviceChoice
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.losses.three_classes import CLASS_WEIGHTS, DividedBy, three_class_loss
from napari_cellenhance.core.models.voidseg import N_CLASSES, VoidSegNetwork
from napari_cellenhance.core.painted import IGNORED, NOT_PAINTED, PaintedImage, to_targets
from napari_cellenhance.core.painted_crops import CropSampler, hold_out
from napari_cellenhance.core.recipes.voidseg_segmenter import VoidSegmenter
from napari_cellenhance.core.three_classes import (
    VALUES,
    ObjectImage,
    ThresholdSearch,
    average_precision,
    best_threshold,
    objects_of,
    unit_range,
)

__all__ = ["HeldObjects", "VoidSegRecipe", "VoidSegTraining", "hold_out_objects"]

DENSE_SHARE = 0.5
"""Images painted beyond this share count as densely labelled."""

_MIDDLE = 0.5
_LEAST = 1e-12
_TIE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class VoidSegTraining:
    """Settings of the recipe; those of the loop are ``core.training.FitSettings``.

    The paper's are ``VoidSegTraining(batch_size=128, divide_by="all")`` with
    ``FitSettings(learning_rate=4e-4, weight_decay=0, schedule="plateau", n_warmup=1)``, validated every 400 updates.

    Parameters
    ----------
    crop_px, batch_size : int
        Side of a crop, in pixels (a multiple of the network's grid), and crops per update.
    crops : "auto", "balanced" or "uniform"
        How a crop is chosen: around a pixel of a class drawn first, or around any painted pixel of an image. "auto":
        balanced where less than half of the pixels is painted.
    has_symmetries : bool
        Turn and flip crops, eight ways.
    class_weights : tuple of 3 float
        Factor of ground, inside and border in the loss.
    divide_by : "painted" or "all"
        See :func:`~napari_cellenhance.core.losses.three_classes.three_class_loss`.
    holdout_fraction : float
        Share of the paint, or of the images, that is kept aside for validation where none is given; 0: none.
    gap_px : int
        Paint this close to the part that is kept aside is not used.
    keep_by : "loss" or "ap"
        What the smallest validation total means: smallest loss, or best AP at a threshold of 0.5 (the smaller loss
        decides among equals).
    max_validation_px : int
        Pixels that are scored at each validation; of more images every n-th. Thresholds are tried on all.
    """

    crop_px: int = 128
    batch_size: int = 8
    crops: Literal["auto", "balanced", "uniform"] = "auto"
    has_symmetries: bool = True
    class_weights: tuple[float, float, float] = (CLASS_WEIGHTS[0], CLASS_WEIGHTS[1], CLASS_WEIGHTS[2])
    divide_by: DividedBy = "painted"
    holdout_fraction: float = 0.15
    gap_px: int = 16
    keep_by: Literal["loss", "ap"] = "loss"
    max_validation_px: int = 1_000_000

    def __post_init__(self) -> None:
        if min(self.crop_px, self.batch_size, self.max_validation_px) < 1:
            raise ParameterError(
                f"crops of {self.crop_px} px, batch {self.batch_size}, {self.max_validation_px} px to validate; "
                "expected 1 or more each"
            )
        if self.crops not in ("auto", "balanced", "uniform"):
            raise ParameterError(f"crops is {self.crops!r}; expected 'auto', 'balanced' or 'uniform'")
        if self.keep_by not in ("loss", "ap") or self.divide_by not in ("painted", "all"):
            raise ParameterError(
                f"keep_by is {self.keep_by!r}, divide_by {self.divide_by!r}; expected 'loss' or 'ap', and 'painted' or "
                "'all'"
            )
        if not 0 <= self.holdout_fraction <= 0.5 or self.gap_px < 0:
            raise ParameterError(
                f"holdout_fraction is {self.holdout_fraction}, gap_px {self.gap_px}; expected 0 to 0.5, and 0 or more"
            )
        weights = self.class_weights
        if len(weights) != N_CLASSES or any(not 0 <= w < float("inf") for w in weights) or not any(weights):
            raise ParameterError(f"class_weights are {weights}; expected three, 0 or more, one of them positive")


@dataclass(frozen=True, slots=True)
class HeldObjects:
    """Images to learn from and to score on; see :class:`~napari_cellenhance.core.painted_crops.HeldOut`."""

    train: tuple[ObjectImage, ...]
    validation: tuple[ObjectImage, ...]
    how: Literal["images", "blocks", "none"]


def hold_out_objects(
    images: Sequence[ObjectImage], *, fraction: float = 0.15, gap_px: int = 16, rng: np.random.Generator
) -> HeldObjects:
    """Keep images, or a block of the paint, aside; borders go with the objects and the ground that they lie between.

    Raises
    ------
    ImageError
        Too little paint, or only ground or only objects.
    ParameterError
        A fraction outside 0…0.5, or a negative gap.
    """
    plain = [
        PaintedImage(unit_range(one.image), one.plain, str(i)) for i, one in enumerate(images)
    ]  # the names say which is which
    split = hold_out(plain, fraction=fraction, gap_px=gap_px, rng=rng)

    def back(side: Sequence[PaintedImage]) -> tuple[ObjectImage, ...]:
        return tuple(images[int(one.name)].only(one.labels != NOT_PAINTED) for one in side)

    return HeldObjects(back(split.train), back(split.validation), split.how)


class VoidSegRecipe:
    """Binds images with painted objects, network and loss behind ``core.training.TrainableRecipe``.

    Only the U-Net is trained. A denoiser of the network has denoised the images already when they come here, see
    :class:`~napari_cellenhance.core.recipes.voidseg_segmenter.PlaneDenoiser`, and is never touched.

    Parameters
    ----------
    network : VoidSegNetwork
        Trained in place, on the device where it is; its mean and std are set to those of the images.
    images : sequence of ObjectImage
        One or several; what the U-Net is to look at. Images without paint are left out.
    settings : VoidSegTraining
    validation : sequence of ObjectImage
        Scored at each validation. Empty: a part of the paint is kept aside.
    choice : DeviceChoice
        Precision of crops and scores.
    seed : int
        Of the choice of what is kept aside.

    Raises
    ------
    ImageError
        No paint, only ground or only objects, or too little of one.
    ParameterError
        Crops that do not fit the grid of the network.

    Attributes
    ----------
    module : CSBUNet
        What the loop trains.
    held_out : HeldObjects
    is_sparse : bool
        Less than half of the pixels is painted.
    """

    def __init__(
        self,
        network: VoidSegNetwork,
        images: Sequence[ObjectImage],
        settings: VoidSegTraining,
        *,
        validation: Sequence[ObjectImage] = (),
        choice: DeviceChoice,
        seed: int = 0,
    ) -> None:
        grid_px = network.unet.settings.grid_px
        if settings.crop_px % grid_px:
            raise ParameterError(
                f"crops of {settings.crop_px} px; expected a multiple of {grid_px} px for this network"
            )
        usable = [image for image in images if image.objects.any()]
        if not usable:
            raise ImageError("no image has painted objects; paint background with label 1 and objects with 2, 3, …")
        self.network, self.settings, self.choice = network, settings, choice
        network.unet.to_channels_last()
        self.module: nn.Module = network.unet
        if validation:
            self.held_out = HeldObjects(tuple(usable), tuple(validation), "images")
        else:
            rng = np.random.default_rng([seed, 1])
            self.held_out = hold_out_objects(
                usable, fraction=settings.holdout_fraction, gap_px=settings.gap_px, rng=rng
            )
        _store_statistics(network, self.held_out.train)
        train = self.held_out.train
        n_painted = sum(int((one.objects != NOT_PAINTED).sum()) for one in train)
        share = n_painted / sum(one.objects.size for one in train)
        self.is_sparse = share < DENSE_SHARE
        is_balanced = settings.crops == "balanced" or (settings.crops == "auto" and self.is_sparse)
        self._sampler = CropSampler(train, settings.crop_px, is_balanced=is_balanced)
        total = sum(one.image.size for one in self.held_out.validation)
        self._scored = self.held_out.validation[:: max(1, -(-total // settings.max_validation_px))]

    def loss(self, rng: np.random.Generator, step: int) -> dict[str, Tensor]:
        """One batch; ``rng`` draws crops and symmetries, so the same one gives the same loss."""
        images, targets = self._sample(rng)
        device = next(self.module.parameters()).device
        x = ((images - self.network.mean.cpu()) / self.network.std.cpu()).to(device)
        x = x.to(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.choice.precision == "bfloat16"):
            outputs = self.module(x)
        logits = self.network.classes_of(outputs)
        s = self.settings
        return {"total": three_class_loss(logits, targets.to(device), s.class_weights, divide_by=s.divide_by)}

    def validate(self) -> dict[str, float]:
        """Weighted cross entropy per painted pixel, and AP at a threshold of 0.5, the mean over the images.

        Returns
        -------
        dict of str to float
            ``loss``, ``ap`` and ``total``.
        """
        weights = np.asarray(self.settings.class_weights)
        losses, n_painted, precisions = 0.0, 0, []
        for image, found in zip(self._scored, self._predicted(self._scored), strict=True):
            target = to_targets(image.labels, VALUES)
            is_painted = target != IGNORED
            wanted = target[is_painted]
            right = found[:, is_painted][wanted, np.arange(len(wanted))]
            losses -= float((weights[wanted] * np.log(np.maximum(right, _LEAST))).sum())
            n_painted += len(wanted)
            precisions.append(average_precision(objects_of(found, _MIDDLE), image.objects))
        loss, ap = losses / max(1, n_painted), float(np.mean(precisions))
        by_ap = 1.0 - ap + _TIE * loss / (1.0 + loss)
        return {"total": loss if self.settings.keep_by == "loss" else by_ap, "loss": loss, "ap": ap}

    def find_threshold(self) -> ThresholdSearch:
        """Threshold with the best mean AP on all that was kept aside, with the weights as they are now."""
        kept = self.held_out.validation
        return best_threshold(self._predicted(kept), [image.objects for image in kept])

    def _predicted(self, images: Sequence[ObjectImage]) -> list[NDArray[np.float32]]:
        was_training = self.module.training
        self.module.eval()
        segmenter = VoidSegmenter(self.network, self.choice)
        found = [segmenter.probabilities(image.image) for image in images]
        self.module.train(was_training)
        return found

    def _sample(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Images (N, 1, Y, X) and targets (N, Y, X)."""
        images, targets = [], []
        for _ in range(self.settings.batch_size):
            image, labels = self._sampler.draw(rng)
            if self.settings.has_symmetries:
                symmetry = int(rng.integers(8))
                image, labels = dihedral(image, symmetry), dihedral(labels, symmetry)
            images.append(image)
            targets.append(to_targets(labels, VALUES))
        return torch.from_numpy(np.stack(images)[:, None]), torch.from_numpy(np.stack(targets))


def _store_statistics(network: VoidSegNetwork, images: Sequence[ObjectImage]) -> None:
    """Mean and standard deviation over all pixels of the training images."""
    n = sum(one.image.size for one in images)
    mean = sum(float(one.image.sum(dtype=np.float64)) for one in images) / n
    squares = sum(float(np.square(one.image - mean, dtype=np.float64).sum()) for one in images) / n
    network.mean.fill_(mean)
    network.std.fill_(float(np.sqrt(squares)))
