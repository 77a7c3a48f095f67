"""Everything a training of VoidSeg needs before its first update: images, denoiser, network, settings."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError, TrainingError
from napari_cellenhance.core.folds import nested_subsets
from napari_cellenhance.workflows._frozen_denoiser import FrozenDenoiser, open_denoiser
from napari_cellenhance.workflows._train_loop import ViewedWindow, fit_settings, timed
from napari_cellenhance.workflows.object_images import (
    RawObjects,
    brought,
    digest_of,
    read_object_files,
    read_object_layers,
)

if TYPE_CHECKING:
    from torch import nn

    from napari_cellenhance.core.device import DeviceChoice
    from napari_cellenhance.core.models.denoised_stardist import DenoisedStarDist
    from napari_cellenhance.core.models.denoiser import DenoisingNetwork
    from napari_cellenhance.core.models.voidseg import VoidSegNetwork
    from napari_cellenhance.core.recipes.stardist import InstanceImage, StarDistRecipe
    from napari_cellenhance.core.recipes.voidseg import VoidSegRecipe
    from napari_cellenhance.core.three_classes import ObjectImage
    from napari_cellenhance.core.training import FitSettings, TrainableRecipe
    from napari_cellenhance.workflows.train_voidseg import VoidSegRequest

__all__ = [
    "PERCENTILES",
    "Search",
    "VoidSegSetup",
    "as_instances",
    "denoised",
    "new_stardist",
    "new_unet",
    "prepare",
    "search_threshold",
]

PERCENTILES: Mapping[str, float | bool] = {"lo": 0.1, "hi": 99.9, "clip": False}
"""Grey values of a plane that become 0 and 1 where no denoiser has a say; nothing is cut off."""


class Search(Protocol):
    """What was tried to find the threshold."""

    @property
    def threshold(self) -> float:
        """The best one."""
        ...

    @property
    def thresholds(self) -> tuple[float, ...]:
        """All of them."""
        ...

    @property
    def scores(self) -> tuple[float, ...]:
        """Mean AP at each."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class VoidSegSetup:
    """A training that is ready to begin.

    Parameters
    ----------
    request : VoidSegRequest
        With the number of updates that the time limit allows.
    images : list of RawObjects
        Those that are learned from.
    n_given : int
        Labelled images that there were.
    network : VoidSegNetwork or DenoisedStarDist
        The whole model; the recipe trains a part of it.
    denoiser : FrozenDenoiser or None
    normalization : dict
        ``name`` and ``parameters`` of the normaliser of the input.
    identity : str
        JSON of all that must not change between a run and its resumption.
    """

    request: VoidSegRequest
    images: list[RawObjects]
    n_given: int
    network: VoidSegNetwork | DenoisedStarDist
    recipe: TrainableRecipe
    fit_settings: FitSettings
    choice: DeviceChoice
    denoiser: FrozenDenoiser | None
    normalization: dict[str, Any]
    identity: str

    @property
    def held_out(self) -> str:
        """How labels were kept aside."""
        recipe: Any = self.recipe
        return str(recipe.split.how if self.request.network == "stardist" else recipe.held_out.how)

    def show(self, window: ViewedWindow) -> Any:
        """Segment a window of a raw plane with the network as it is now; the network itself is not touched."""
        plane, _ = brought(window.plane, **_called(self.normalization))
        return self.segmenter().segment(plane, region=window.region)

    def segmenter(self) -> Any:
        """The network as it is now, for planes of any size."""
        from napari_cellenhance.core.models.voidseg import VoidSegNetwork
        from napari_cellenhance.core.recipes.denoised_stardist import StarPlanes
        from napari_cellenhance.core.recipes.voidseg_segmenter import VoidSegmenter

        if isinstance(self.network, VoidSegNetwork):
            return VoidSegmenter(self.network, self.choice)
        return StarPlanes(self.network, self.choice)

    def find_threshold(self) -> Search:
        """Threshold with the best AP on what was kept aside; and make sure that the denoiser is what it was.

        Raises
        ------
        TrainingError
            The denoiser was changed by the training.
        """
        from napari_cellenhance.core.models.voidseg import state_hash

        if self.denoiser is not None and self.network.denoiser is not None:
            after = {state_hash(self.network.denoiser), state_hash(self.denoiser.module)}
            if after != {self.denoiser.tensors_sha256}:
                raise TrainingError("the frozen denoiser was changed by the training; the model is not stored")
        return search_threshold(self.recipe, self.network, self.choice)


def search_threshold(recipe: Any, network: VoidSegNetwork | DenoisedStarDist, choice: DeviceChoice) -> Search:
    """Threshold with the best mean AP on what a recipe has kept aside."""
    from napari_cellenhance.core.models.voidseg import VoidSegNetwork
    from napari_cellenhance.core.recipes.stardist import best_threshold
    from napari_cellenhance.core.recipes.stardist_segmenter import StarDistSegmenter

    if isinstance(network, VoidSegNetwork):
        of_classes: Search = recipe.find_threshold()
        return of_classes
    return best_threshold(StarDistSegmenter(network.stardist, choice), recipe.split.validation)


def prepare(request: VoidSegRequest) -> VoidSegSetup:
    """Read images and labels, denoise them where they have to be, make the network, and measure the pace if needed.

    Raises
    ------
    ImageError, AxesError
        No labels, too few of them, or images that cannot be read.
    ParameterError
        Settings out of range, or a model that is no denoiser.
    ModelNotFoundError
        No such denoiser.
    """
    from napari_cellenhance.workflows.device_check import choose_checked_device
    from napari_cellenhance.workflows.train_voidseg import LEARNING_RATE

    choice = choose_checked_device(request.device, request.precision)
    given = _read(request)
    images = given
    if 0 < request.n_labelled < len(given):
        (chosen,) = nested_subsets(len(given), (request.n_labelled,), seed=request.seed)
        images = [given[i] for i in chosen]
    denoiser = open_denoiser(request.denoiser) if request.denoiser else None
    normalization: dict[str, Any] = {"name": "percentile", "parameters": dict(PERCENTILES)}
    if denoiser is not None:
        normalization = denoiser.normalization
    planes = [brought(one.plane, **_called(normalization))[0] for one in images]
    if request.is_sequential and denoiser is not None:
        planes = denoised(planes, denoiser.module, choice)
    objects = [
        one.image(plane, is_shell_background=request.is_shell_background)
        for one, plane in zip(images, planes, strict=True)
    ]
    network, recipe = _bind(request, objects, denoiser, choice)
    if request.n_steps == 0:
        request = timed(request, recipe)
    of_loop = fit_settings(request, LEARNING_RATE, schedule=request.schedule, weight_decay=0.0)
    settings: Any = recipe
    identity = {
        "images": digest_of(images), "network": network.architecture, "scheme": request.scheme,
        "denoiser": None if denoiser is None else denoiser.tensors_sha256, "recipe": asdict(settings.settings),
        "shell": request.is_shell_background, "fit": asdict(of_loop),
    }  # fmt: skip
    return VoidSegSetup(
        request=request, images=images, n_given=len(given), network=network, recipe=recipe, fit_settings=of_loop,
        choice=choice, denoiser=denoiser, normalization=normalization, identity=json.dumps(identity, sort_keys=True),
    )  # fmt: skip


def _read(request: VoidSegRequest) -> list[RawObjects]:
    if isinstance(request.data, tuple):
        return read_object_layers(request.data)
    return read_object_files(request.data, data_root=request.data_root)


def _called(normalization: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": normalization["name"], "parameters": dict(normalization["parameters"])}


def denoised(
    planes: list[NDArray[np.float32]], module: DenoisingNetwork, choice: DeviceChoice
) -> list[NDArray[np.float32]]:
    """Planes as the frozen denoiser restores them."""
    from napari_cellenhance.core.recipes.voidseg_segmenter import PlaneDenoiser

    denoise = PlaneDenoiser(module, choice)
    return [denoise(plane) for plane in planes]


def new_unet(
    *,
    seed: int,
    depth: int,
    width: int,
    has_denoise_output: bool = False,
    before: DenoisingNetwork | None = None,
    start: DenoisingNetwork | None = None,
) -> VoidSegNetwork:
    """A U-Net with weights drawn by ``seed``, behind a frozen copy of ``before`` and starting from ``start``.

    Where it starts from a denoiser its body is like that one's.
    """
    import torch

    from napari_cellenhance.core.models.voidseg import VoidSegNetwork, start_from

    body: dict[str, Any] = {"depth": depth, "width": width}
    if start is not None:
        s = start.unet.settings
        body = {
            "depth": s.depth, "width": s.width, "kernel_px": s.kernel_px, "has_norm": s.has_norm,
            "top_skip": s.top_skip, "pool": s.pool,
        }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = VoidSegNetwork(
            has_denoise_output=has_denoise_output, denoiser=None if before is None else before.architecture, **body
        )
    if start is not None:
        start_from(network, start)
    _freeze(network.denoiser, before)
    return network


def new_stardist(*, seed: int, depth: int, width: int, before: DenoisingNetwork | None = None) -> DenoisedStarDist:
    """A StarDist with weights drawn by ``seed``, behind a frozen copy of ``before``."""
    import torch

    from napari_cellenhance.core.models.denoised_stardist import DenoisedStarDist

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = DenoisedStarDist(
            denoiser=None if before is None else before.architecture, grid=2, depth=depth, width=width, has_norm=True
        )
    _freeze(network.denoiser, before)
    return network


def _freeze(own: nn.Module | None, given: nn.Module | None) -> None:
    if own is not None and given is not None:
        own.load_state_dict(copy.deepcopy(given.state_dict()))
        own.eval().requires_grad_(False)


def as_instances(image: ObjectImage) -> InstanceImage:
    """Painted objects in StarDist's numbers: 0 ground, objects from 1, -1 not labelled."""
    from napari_cellenhance.core.recipes.stardist import InstanceImage

    return InstanceImage(image.image, image.objects - 1, image.name)


def _bind(
    request: VoidSegRequest, objects: list[ObjectImage], denoiser: FrozenDenoiser | None, choice: DeviceChoice
) -> tuple[VoidSegNetwork | DenoisedStarDist, VoidSegRecipe | StarDistRecipe]:
    """Network and recipe."""
    from napari_cellenhance.core.recipes.stardist import StarDistRecipe, StarDistTraining
    from napari_cellenhance.core.recipes.voidseg import VoidSegRecipe, VoidSegTraining

    module = None if denoiser is None else denoiser.module
    before = module if request.is_sequential else None
    common: dict[str, Any] = {"crop_px": request.crop_px, "batch_size": request.batch_size}
    try:
        if request.network == "stardist":
            stars = StarDistTraining(**common, **request.recipe_options)
        else:
            classes = VoidSegTraining(**common, **request.recipe_options)
    except TypeError as error:
        raise ParameterError(f"unknown training option: {error}") from error
    if request.network == "stardist":
        star = new_stardist(seed=request.seed, depth=request.depth, width=request.width, before=before)
        star.to(choice.torch_device)
        recipe = StarDistRecipe(
            star.stardist, [as_instances(one) for one in objects], stars, seed=request.seed,
            use_bf16=choice.precision == "bfloat16",
        )  # fmt: skip
        return star, recipe
    unet = new_unet(
        seed=request.seed, depth=request.depth, width=request.width, has_denoise_output=request.has_denoise_output,
        before=before, start=module if request.scheme.startswith("finetune") else None,
    )  # fmt: skip
    unet.to(choice.torch_device)
    return unet, VoidSegRecipe(unet, objects, classes, choice=choice, seed=request.seed)
