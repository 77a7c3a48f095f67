"""Everything a training of AEP needs before its first update: painted planes, network, settings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.workflows._train_loop import ViewedWindow, fit_settings, timed
from napari_cellenhance.workflows.painted_layers import digest_of, normalised, read_painted

if TYPE_CHECKING:
    from napari_cellenhance.core.device import DeviceChoice
    from napari_cellenhance.core.models.segmentation_baseline import SegmentationNetwork
    from napari_cellenhance.core.painted import PaintedImage
    from napari_cellenhance.core.recipes.aep import AEPRecipe
    from napari_cellenhance.core.recipes.aep_segmenter import Segmentation
    from napari_cellenhance.core.training import FitSettings
    from napari_cellenhance.workflows.train_aep import AEPRequest

__all__ = ["AEPSetup", "prepare"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AEPSetup:
    """A training that is ready to begin.

    Parameters
    ----------
    request : AEPRequest
        With the number of updates that the time limit allows.
    kept_layers : tuple of str
        Layers that no weights could be taken over for; empty where it starts from random weights.
    identity : str
        JSON of all that must not change between a run and its resumption.
    """

    request: AEPRequest
    images: list[PaintedImage]
    module: SegmentationNetwork
    recipe: AEPRecipe
    fit_settings: FitSettings
    choice: DeviceChoice
    kept_layers: tuple[str, ...]
    identity: str

    def show(self, window: ViewedWindow) -> Segmentation:
        """Segment a window of a raw plane with the network as it is now; the network itself is not touched."""
        from napari_cellenhance.core.recipes.aep_segmenter import AEPSegmenter

        segmenter = AEPSegmenter(self.module, self.recipe.values, self.choice)
        return segmenter.segment(normalised(window.plane), region=window.region)

    def weights_of_branches(self) -> dict[str, float]:
        """Weight of each branch in the ensemble."""
        weights = self.module.branch_weights().double().cpu().tolist()
        return dict(zip(self.module.branch_names, weights, strict=True))


def prepare(request: AEPRequest) -> AEPSetup:
    """Read images and paint, open or make the network, and measure the pace if time is what counts.

    Raises
    ------
    ImageError, AxesError
        No paint, too little of it, or images that cannot be read.
    ParameterError
        Settings out of range.
    ModelNotFoundError
        No such model to start from.
    """
    from napari_cellenhance.core.painted import painted_values
    from napari_cellenhance.core.recipes.aep import AEPRecipe
    from napari_cellenhance.workflows.device_check import choose_checked_device
    from napari_cellenhance.workflows.train_aep import FINE_TUNING_RATE, FROM_SCRATCH_RATE

    choice = choose_checked_device(request.device, request.precision)
    images, weights = _images(request)
    values = painted_values(images)
    module, kept = _network(request, values)
    settings = _recipe_settings(request)
    repeated = [image for image, n in zip(images, weights, strict=True) for _ in range(n)]
    module.to(choice.torch_device)
    recipe = AEPRecipe(
        module, repeated, settings, values=values, seed=request.seed, use_bf16=choice.precision == "bfloat16"
    )  # fmt: skip
    if request.n_steps == 0:
        request = timed(request, recipe)
    rate = FROM_SCRATCH_RATE if request.init_from is None else FINE_TUNING_RATE
    settings_of_loop = fit_settings(request, rate)
    identity = {
        "images": digest_of(images), "weights": weights, "network": module.architecture,
        "init_from": request.init_from, "recipe": asdict(settings), "fit": asdict(settings_of_loop),
    }  # fmt: skip
    return AEPSetup(
        request=request, images=images, module=module, recipe=recipe, fit_settings=settings_of_loop, choice=choice,
        kept_layers=kept, identity=json.dumps(identity, sort_keys=True),
    )  # fmt: skip


def _images(request: AEPRequest) -> tuple[list[PaintedImage], list[int]]:
    """Painted planes, and how often each counts."""
    if isinstance(request.data, tuple):
        images = read_painted(request.data)
        return images, [1] * len(images)
    from napari_cellenhance.workflows.painted_files import read_painted_files

    return read_painted_files(request.data, data_root=request.data_root)


def _network(request: AEPRequest, values: Sequence[int]) -> tuple[SegmentationNetwork, tuple[str, ...]]:
    import torch

    from napari_cellenhance.core.models.aep import AEP, warm_start
    from napari_cellenhance.core.models.segmentation_baseline import PlainSegmenter
    from napari_cellenhance.workflows.train_aep import dropout_of
    from napari_cellenhance.zoo.manifest import find_model
    from napari_cellenhance.zoo.weights import load_model

    source = None
    if request.init_from is not None:
        card = find_model(request.init_from)
        if card.recipe != "aep":
            raise ParameterError(f"the model {card.id!r} does not segment; choose one that AEP was trained for")
        source = cast("SegmentationNetwork", load_model(card))
    dropout = dropout_of(request.dropout, source)
    torch.manual_seed(request.seed)
    module: SegmentationNetwork
    if request.network == "aep":
        module = AEP(
            len(values), filters_per_class=request.filters_per_class, source=request.source,
            translation=request.translation, ensemble=request.ensemble, dropout=dropout,
        )  # fmt: skip
    else:
        module = PlainSegmenter(len(values), network=request.network, dropout=dropout)
    return module, () if source is None else warm_start(module, source.state_dict())


def _recipe_settings(request: AEPRequest) -> Any:
    from napari_cellenhance.core.recipes.aep import AEPTraining

    try:
        return AEPTraining(crop_px=request.crop_px, batch_size=request.batch_size, **request.recipe_options)
    except TypeError as error:
        raise ParameterError(f"unknown training option: {error}") from error
