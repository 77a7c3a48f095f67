"""Everything a training needs before its first update: images, network, perceptual network, style bank, settings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellenhance.core.errors import ModelNotFoundError, ParameterError
from napari_cellenhance.workflows.train_layers import digest_of, read_layer, read_masks, split_layers

if TYPE_CHECKING:
    from napari_cellenhance.core.losses.nunet import StyleBank
    from napari_cellenhance.core.models.nunet import Conditioning, NUNet
    from napari_cellenhance.core.models.perception import Perception
    from napari_cellenhance.core.recipes.nunet import NUNetRecipe, NUNetTraining
    from napari_cellenhance.core.sources import ImageSource
    from napari_cellenhance.core.training import FitSettings
    from napari_cellenhance.workflows.train import TrainRequest

__all__ = ["KNOTS", "STYLE_BANK_ASSET", "TEACHING", "Setup", "prepare"]

KNOTS = (2.5, 4.375, 6.25, 8.125, 10.0)
STYLE_BANK_ASSET = "nunet-style-bank"
TEACHING: Mapping[str, Mapping[str, Any]] = {
    "images": {},
    "both": {"paired": 1.0},
    "labels": {"paired": 1.0, "self_supervised": 0.0},
}
"""Fields of ``core.recipes.nunet.NUNetTraining`` for each ``TrainRequest.teach``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A training that is ready to begin.

    Parameters
    ----------
    parent_factor : float or None
        Balance factor of the model that is fine-tuned; None where a dry run has to find it.
    identity : str
        JSON of all that must not change between a run and its resumption.
    """

    sources: list[ImageSource]
    module: NUNet
    recipe: NUNetRecipe
    settings: NUNetTraining
    fit_settings: FitSettings
    parent_factor: float | None
    identity: str


def prepare(request: TrainRequest) -> Setup:
    """Read the images, open or make the networks and the style bank.

    Raises
    ------
    ImageError, AxesError
        A source cannot be read, or holds nothing usable.
    ParameterError
        Settings out of range, or no perceptual network where one is needed.
    ModelNotFoundError
        No such model, or no perceptual network.
    """
    from napari_cellenhance.core.recipes.nunet import NUNetRecipe
    from napari_cellenhance.core.training import FitSettings
    from napari_cellenhance.workflows.device_check import choose_checked_device

    choice = choose_checked_device(request.device, request.precision)
    rng = np.random.default_rng(request.seed)
    sources, train, valid = _images(request, rng)
    module, parent_factor = _network(request)
    settings = _recipe_settings(request, module)
    perception = _open_perception(request) if settings.self_supervised > 0 else None
    bank = None if perception is None else _style_bank(request, settings, perception, train, rng)
    recipe = NUNetRecipe(
        module, perception, bank, train, valid, settings, seed=request.seed, use_bf16=choice.precision == "bfloat16",
        device=choice.torch_device,
    )  # fmt: skip
    fit_settings = FitSettings(
        n_steps=request.n_steps, learning_rate=request.learning_rate, validate_every=request.validate_every,
        patience=request.patience, average=request.average, keep=request.keep, seed=request.seed,
    )  # fmt: skip
    identity = json.dumps(_identity(request, sources, settings, fit_settings), sort_keys=True)
    return Setup(
        sources=sources, module=module, recipe=recipe, settings=settings, fit_settings=fit_settings,
        parent_factor=parent_factor, identity=identity,
    )  # fmt: skip


def _images(
    request: TrainRequest, rng: np.random.Generator
) -> tuple[list[ImageSource], list[ImageSource], list[ImageSource]]:
    """All sources, those to train on, and those to validate on."""
    from napari_cellenhance.core.sources import split_sources
    from napari_cellenhance.io.datasets import read_sources

    if isinstance(request.data, tuple):
        if not request.data:
            raise ParameterError("no image was given to train on; choose at least one layer")
        needs_labels = request.teach == "labels"
        layers = [layer for layer in request.data if layer.labels is not None or not needs_labels] or request.data
        sources = [read_layer(layer, wants_unlabelled=not needs_labels) for layer in layers]
        return sources, *split_layers(sources, request.validation_fraction, rng)
    sources = read_sources(
        request.data, data_root=request.data_root,
        object_diameter_px=request.object_diameter_px, objects_are_dark=request.objects_are_dark,
    )  # fmt: skip
    return sources, *split_sources(sources, request.validation_fraction, rng)


def _mask_sources(request: TrainRequest, train: Sequence[ImageSource]) -> list[ImageSource]:
    """Where the masks of the style bank come from; empty takes round blobs."""
    if isinstance(request.masks, tuple):
        return [read_masks(request.masks)]
    if request.masks is not None:
        from napari_cellenhance.io.datasets import read_label_folder

        return [read_masks(read_label_folder(request.masks))]
    return list(train) if any(label is not None for source in train for label in source.labels) else []


def _recipe_settings(request: TrainRequest, module: NUNet) -> NUNetTraining:
    from napari_cellenhance.core.recipes.nunet import NUNetTraining

    fixed = request.strength if request.strength is not None else KNOTS[-1]
    strengths = (module.knots[0], module.knots[-1]) if module.knots else (fixed, fixed)
    options = {**TEACHING[request.teach], **request.recipe_options}
    if request.init_from is not None:
        options.setdefault("n_anchored", 0)  # the network shows the objects already
        options.setdefault("norms_freeze_at", 0)  # and a few images would only disturb its statistics
    options.setdefault("norms_freeze_at", request.n_steps // 2)
    try:
        return NUNetTraining(crop_px=request.crop_px, batch_size=request.batch_size, strengths=strengths, **options)
    except TypeError as error:
        raise ParameterError(f"unknown training option: {error}") from error


def _open_perception(request: TrainRequest) -> Perception:
    from napari_cellenhance.core.models.perception import perception_from_state, random_vgg
    from napari_cellenhance.zoo.weights import load_state

    if request.perception in ("", "none"):
        raise ParameterError(
            "learning from images alone compares features, so it needs a perceptual network; choose its file (or "
            "torchvision), or learn from labels alone"
        )
    if request.perception == "random":
        return random_vgg(0)
    if request.perception in ("squeezenet", "torchvision"):
        return perception_from_state(_from_torchvision(request.perception))
    return perception_from_state(load_state(request.perception))


def _from_torchvision(name: str) -> dict[str, Any]:
    """Weights of SqueezeNet 1.1 or VGG-19, fetched by torchvision when they are first needed."""
    try:
        from torchvision import models
    except ImportError as error:
        raise ModelNotFoundError(
            "torchvision is not installed; run 'pip install torchvision', or give the file of SqueezeNet 1.1 or of a "
            "distilled VGG-19"
        ) from error
    if name == "squeezenet":
        return dict(models.squeezenet1_1(weights=models.SqueezeNet1_1_Weights.IMAGENET1K_V1).state_dict())
    return dict(models.vgg19(weights=models.VGG19_Weights.IMAGENET1K_V1).state_dict())


def _style_bank(
    request: TrainRequest,
    settings: NUNetTraining,
    perception: Perception,
    train: Sequence[ImageSource],
    rng: np.random.Generator,
) -> StyleBank:
    """Bank from the masks at hand; where there are none the shipped one, or drawn blobs for another network."""
    import torch

    from napari_cellenhance.core.losses.nunet import StyleBank, build_style_bank
    from napari_cellenhance.core.sources import round_blobs, sample_masks
    from napari_cellenhance.zoo.cache import resolve
    from napari_cellenhance.zoo.manifest import find_asset
    from napari_cellenhance.zoo.weights import load_state, read_metadata

    bank_sources = _mask_sources(request, train)
    if not bank_sources:
        path = resolve(find_asset(STYLE_BANK_ASSET).file)
        bank = StyleBank.from_tensors(load_state(path), read_metadata(path).get("perception", ""))
        if bank.perception_id == perception.spec.id:
            return bank
        bank_sources = [round_blobs(rng)]  # the shipped bank says nothing about features of another network
    masks = sample_masks(bank_sources, request.n_masks, settings.crop_px, rng, diameters=settings.diameters_px)
    return build_style_bank(perception, torch.from_numpy(masks)[:, None], request.style_groups)


def _network(request: TrainRequest) -> tuple[NUNet, float | None]:
    """Network to train, and the balance factor it was trained with before, if any."""
    import torch

    from napari_cellenhance.core.models.nunet import NUNet

    if request.init_from is not None:
        from napari_cellenhance.zoo.manifest import find_model
        from napari_cellenhance.zoo.weights import load_model

        card = find_model(request.init_from)
        module = load_model(card)
        if not isinstance(module, NUNet):
            raise ParameterError(f"the model {request.init_from!r} is not a NU-Net; choose one that is")
        if (module.conditioning == "none") != (request.strength is not None):
            raise ParameterError(
                f"the model {request.init_from!r} has conditioning {module.conditioning!r}, which does not fit "
                f"strength {request.strength}; give a fixed strength only for an unconditioned model"
            )
        return module, _balance_factor_of(card.training)
    torch.manual_seed(request.seed)
    if request.strength is not None:
        return NUNet(output="sigmoid", norm=request.norm), None
    conditioning: Conditioning = "decoder" if request.norm == "frozen" else "head"
    return NUNet(conditioning=conditioning, knots=KNOTS, output="sigmoid", norm=request.norm), None


def _balance_factor_of(training: Mapping[str, Any]) -> float | None:
    """λ per unit of the model's strength. A trained network has a small style loss: a dry run would overrate λ."""
    recipe = training.get("recipe")
    if isinstance(recipe, Mapping) and recipe.get("self_supervised") == 0:
        return None  # it never met a morphological loss
    factor, ratio = training.get("balance_factor"), training.get("loss_ratio_per_strength", 1.0)
    if isinstance(factor, (int, float)) and isinstance(ratio, (int, float)):
        return float(factor) * float(ratio)
    return None


def _identity(
    request: TrainRequest, sources: Sequence[ImageSource], settings: NUNetTraining, fit_settings: FitSettings
) -> dict[str, Any]:
    """What must not change between a run and its resumption."""
    is_in_memory = isinstance(request.data, tuple)
    known = {
        "data": digest_of(sources) if is_in_memory else str(request.data),
        "perception": Path(request.perception).name, "init_from": request.init_from,
        "norm": request.norm, "style_groups": request.style_groups, "n_masks": request.n_masks,
        "recipe": asdict(settings), "fit": asdict(fit_settings),
    }  # fmt: skip
    if isinstance(request.masks, tuple):
        known["masks"] = digest_of([read_masks(request.masks)])
    elif request.masks is not None:
        known["masks"] = str(request.masks)
    return known
