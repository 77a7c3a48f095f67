"""Everything a training of a restoration needs before its first update: pairs, network, settings."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.normalize import Normalizer, fit_normalizer
from napari_cellenhance.workflows._train_loop import ViewedWindow, fit_settings, timed
from napari_cellenhance.workflows.care_pairs import (
    LearningPair,
    PairedLayers,
    digest_of_pairs,
    read_pair_files,
    read_pair_layers,
    regrouped,
)
from napari_cellenhance.workflows.noisy_images import NoisyLayer
from napari_cellenhance.workflows.synthesize import SemiPair, expose_images, first_image, read_clean

if TYPE_CHECKING:
    from napari_cellenhance.core.device import DeviceChoice
    from napari_cellenhance.core.models.csb_unet import CSBUNet
    from napari_cellenhance.core.recipes.care import CareRecipe, CareTraining
    from napari_cellenhance.core.training import FitSettings
    from napari_cellenhance.workflows.train_care import CareRequest

__all__ = ["CareSetup", "prepare"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CareSetup:
    """A training that is ready to begin.

    Parameters
    ----------
    made : list of SemiPair
        Pairs of the first clean image, to show; empty for real pairs.
    exposures : list of dict
        What was drawn for every pair made from a clean image; empty for real pairs.
    identity : str
        JSON of all that must not change between a run and its resumption.
    """

    request: CareRequest
    pairs: list[LearningPair]
    made: list[SemiPair]
    exposures: list[dict[str, Any]]
    module: CSBUNet
    recipe: CareRecipe
    fit_settings: FitSettings
    choice: DeviceChoice
    identity: str

    def show(self, window: ViewedWindow) -> NDArray[np.float32]:
        """Restore a window of raw pixels (C, [Z,] Y, X) with the network as it is now; the network is not touched."""
        from napari_cellenhance.core.recipes.restorer import Restorer

        restorer = Restorer(self.module, self.choice)
        shown = []
        for channel in window.plane:
            normalizer = self._normalizer(channel)
            restored = restorer.restore(normalizer.normalize(channel), region=window.region).mean
            shown.append(normalizer.denormalize(restored))
        return np.stack(shown).astype(np.float32)

    def _normalizer(self, pixels: NDArray[Any]) -> Normalizer:
        found = fit_normalizer("percentile", pixels, lo=self.recipe.settings.lo, hi=self.recipe.settings.hi)
        return fit_normalizer("minmax", pixels) if found.is_flat else found


def prepare(request: CareRequest) -> CareSetup:
    """Read or make the pairs, open or make the network, and measure the pace if time is what counts.

    Raises
    ------
    ImageError, AxesError
        Images that cannot be read or learned from.
    ParameterError
        Settings out of range.
    ModelNotFoundError
        No such model to start from.
    """
    from napari_cellenhance.core.recipes.care import CarePair, CareRecipe
    from napari_cellenhance.workflows.device_check import choose_checked_device
    from napari_cellenhance.workflows.train_care import LEARNING_RATE

    choice = choose_checked_device(request.device, request.precision)
    settings = _recipe_settings(request)
    request, pairs, made, exposures = _pairs(request)
    module = _network(request)
    module.to(choice.torch_device)
    recipe = CareRecipe(
        module, [CarePair(one.poor, one.clean, one.group, one.name, one.weight) for one in pairs], settings,
        seed=request.seed, use_bf16=choice.precision == "bfloat16",
    )  # fmt: skip
    if request.n_steps == 0:
        request = timed(request, recipe)
    of_loop = fit_settings(request, LEARNING_RATE, schedule=request.schedule, weight_decay=0.0)
    identity = {
        "pairs": digest_of_pairs(pairs), "network": module.architecture, "init_from": request.init_from,
        "recipe": asdict(settings), "fit": asdict(of_loop),
    }  # fmt: skip
    return CareSetup(
        request=request, pairs=pairs, made=made, exposures=exposures, module=module, recipe=recipe,
        fit_settings=of_loop, choice=choice, identity=json.dumps(identity, sort_keys=True),
    )  # fmt: skip


def _pairs(request: CareRequest) -> tuple[CareRequest, list[LearningPair], list[SemiPair], list[dict[str, Any]]]:
    """The request with the size of pixels that was used, pairs, those of the first image, and what was drawn."""
    data, n_dims = request.data, request.n_dims
    if isinstance(data, tuple):
        paired = [one for one in data if isinstance(one, PairedLayers)]
        if paired and len(paired) == len(data):
            return request, read_pair_layers(paired, n_dims), [], []
        layers = tuple(one for one in data if isinstance(one, NoisyLayer))
        if paired:
            raise ParameterError("clean images and pairs cannot be mixed; choose one kind")
        clean_data: Any = layers
    elif request.is_paired:
        found = read_pair_files(
            data, data_root=request.data_root, axes=request.axes, channels=request.channels, n_dims=n_dims
        )
        return request, found, [], []
    else:
        clean_data = data
    images, synthesis = read_clean(
        clean_data, request.synthesis, data_root=request.data_root, axes=request.axes, channels=request.channels,
        n_dims=n_dims,
    )  # fmt: skip
    made = expose_images(images, synthesis, n_dims, request.seed)
    pairs = regrouped([LearningPair(one.name, one.group, one.poor, one.clean, one.weight) for one in made])
    log = [{"image": one.name} | one.exposure.to_dict() for one in made]
    return replace(request, synthesis=synthesis), pairs, first_image(made), log


def _network(request: CareRequest) -> CSBUNet:
    import torch

    from napari_cellenhance.core.models.csb_unet import CSBUNet

    torch.manual_seed(request.seed)
    module = CSBUNet(
        is_residual=True, is_probabilistic=request.loss == "laplace", depth=request.depth, width=request.width,
        kernel_px=request.kernel_px or (5 if request.n_dims == 2 else 3), n_dims=request.n_dims, has_norm=False,
    )  # fmt: skip
    if request.init_from is not None:
        _start_from(module, request.init_from)
    return module


def _start_from(module: CSBUNet, model_id: str) -> None:
    """Take over the weights of a model of the same shape."""
    from napari_cellenhance.core.models.csb_unet import CSBUNet
    from napari_cellenhance.zoo.manifest import find_model
    from napari_cellenhance.zoo.weights import load_model

    card = find_model(model_id)
    if card.recipe != "care":
        raise ParameterError(f"the model {card.id!r} does not restore; choose one that does, or start anew")
    source = load_model(card)
    assert isinstance(source, CSBUNet)
    if source.architecture != module.architecture:
        s = source.settings
        raise ParameterError(
            f"the network to train differs from that of {card.id!r} ({s.n_dims}-D, depth {s.depth}, width {s.width}, "
            f"kernel {s.kernel_px} px, {'with' if source.is_probabilistic else 'without'} likelihood); use the same, "
            "or start from random weights"
        )
    module.load_state_dict(source.state_dict())


def _recipe_settings(request: CareRequest) -> CareTraining:
    from napari_cellenhance.core.recipes.care import CareTraining

    own = {
        name: getattr(request, name)
        for name in (
            "loss", "patch_px", "n_patches", "batch_size", "threshold", "percentiles", "lo", "hi", "clean_scale",
            "validation_fraction",
        )
    }  # fmt: skip
    if twice := sorted(set(own) & set(request.recipe_options)):
        raise ParameterError(
            f"{', '.join(twice)} cannot be set as a further option; it is a setting of its own, such as "
            f"--{twice[0].replace('_', '-')} in the terminal and {twice[0]}=… in Python"
        )
    try:
        return CareTraining(**own, **request.recipe_options)
    except TypeError as error:
        raise ParameterError(f"unknown training option: {error}") from error


def aside(setup: CareSetup, max_px: int) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Validation images, poor and clean, normalised: as many whole ones as have ``max_px`` pixels together.

    They are taken in an order that is mixed, and always the same: neighbours show the same sample. The first is cut
    to a window where it alone is larger.

    Raises
    ------
    ImageError
        There is none.
    """
    found: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
    n_px = 0
    kept = setup.recipe.normalised_aside
    for i in np.random.default_rng(0).permutation(len(kept)):
        poor, clean = kept[int(i)]
        if found and n_px + clean.size > max_px:
            break
        window = _middle(clean.shape, max_px)
        found.append((np.ascontiguousarray(poor[window]), clean[window]))
        n_px += found[-1][1].size
    if not found:
        raise ImageError("no image was kept aside to measure on")
    return found


def _middle(shape: tuple[int, ...], max_px: int) -> tuple[slice, ...]:
    """All of a small image; of a large one a square in the middle of its planes."""
    n_planes = int(np.prod(shape[:-2], dtype=int))
    side = max(8, int(np.sqrt(max_px / n_planes)))
    whole = n_planes * shape[-2] * shape[-1] <= max_px
    starts = [0 if whole else max(0, (n - side) // 2) for n in shape[-2:]]
    spans = [slice(start, n if whole else start + min(n, side)) for start, n in zip(starts, shape[-2:], strict=True)]
    return (*(slice(0, n) for n in shape[:-2]), *spans)
