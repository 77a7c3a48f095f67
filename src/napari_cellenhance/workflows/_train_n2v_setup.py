"""Everything a training of a denoiser needs before its first update: images, network, settings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.normalize import Normalizer, fit_normalizer
from napari_cellenhance.workflows._train_loop import ViewedWindow, fit_settings, timed
from napari_cellenhance.workflows.noisy_images import RawImage, digest_of, read_files, read_layers

if TYPE_CHECKING:
    from napari_cellenhance.core.device import DeviceChoice
    from napari_cellenhance.core.models.denoiser import DenoisingNetwork
    from napari_cellenhance.core.recipes.n2v import N2VRecipe, N2VTraining
    from napari_cellenhance.core.training import FitSettings
    from napari_cellenhance.workflows.train_n2v import N2VRequest

__all__ = ["PERCENTILES", "N2VSetup", "prepare"]

PERCENTILES: Mapping[str, float | bool] = {"lo": 0.1, "hi": 99.9, "clip": False}
"""Of a network for images of many kinds: grey values of each image that become 0 and 1; nothing is cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class N2VSetup:
    """A training that is ready to begin.

    Parameters
    ----------
    normalizer : Normalizer or None
        The same for all images; None where each has its own.
    identity : str
        JSON of all that must not change between a run and its resumption.
    """

    request: N2VRequest
    images: list[RawImage]
    normalizer: Normalizer | None
    module: DenoisingNetwork
    recipe: N2VRecipe
    fit_settings: FitSettings
    choice: DeviceChoice
    identity: str

    def show(self, window: ViewedWindow) -> NDArray[np.float32]:
        """Denoise a window of raw pixels (C, [Z,] Y, X) with the network as it is now; the network is not touched."""
        from napari_cellenhance.core.recipes.denoiser import Denoiser

        normalizer = self.normalizer or _of_each(window.plane)
        denoiser = Denoiser(self.module, self.choice)
        restored = denoiser.denoise(normalizer.normalize(window.plane), region=window.region)
        return normalizer.denormalize(restored).astype(np.float32)


def prepare(request: N2VRequest) -> N2VSetup:
    """Read the images, open or make the network, and measure the pace if time is what counts.

    Raises
    ------
    ImageError, AxesError
        Images that cannot be read or learned from.
    ParameterError
        Settings out of range.
    ModelNotFoundError
        No such model to start from.
    """
    from napari_cellenhance.core.recipes.n2v import N2VRecipe, NoisyImage
    from napari_cellenhance.workflows.device_check import choose_checked_device
    from napari_cellenhance.workflows.train_n2v import LEARNING_RATE

    choice = choose_checked_device(request.device, request.precision)
    images = _images(request)
    normalizer = _normalizer(request, images)
    scaled = [
        NoisyImage((normalizer or _of_each(one.pixels)).normalize(one.pixels), one.name, one.weight) for one in images
    ]
    module = _network(request, images[0].pixels.shape[0])
    settings = _recipe_settings(request)
    module.to(choice.torch_device)
    recipe = N2VRecipe(module, scaled, settings, seed=request.seed, use_bf16=choice.precision == "bfloat16")
    if request.n_steps == 0:
        request = timed(request, recipe)
    of_loop = fit_settings(request, LEARNING_RATE, schedule=request.schedule, weight_decay=0.0)
    identity = {
        "images": digest_of(images), "network": module.architecture, "init_from": request.init_from,
        "recipe": asdict(settings), "fit": asdict(of_loop),
    }  # fmt: skip
    return N2VSetup(
        request=request, images=images, normalizer=normalizer, module=module, recipe=recipe, fit_settings=of_loop,
        choice=choice, identity=json.dumps(identity, sort_keys=True),
    )  # fmt: skip


def _images(request: N2VRequest) -> list[RawImage]:
    if isinstance(request.data, tuple):
        return read_layers(request.data, request.n_dims)
    return read_files(
        request.data, data_root=request.data_root, axes=request.axes, channels=request.channels, n_dims=request.n_dims
    )


def _normalizer(request: N2VRequest, images: Sequence[RawImage]) -> Normalizer | None:
    """One for all images: their smallest and largest value become 0 and 1."""
    if request.statistics == "image":
        return None
    low = min(float(image.pixels.min()) for image in images)
    high = max(float(image.pixels.max()) for image in images)
    return Normalizer("fixed", {"low": low, "high": high})


def _of_each(pixels: NDArray[Any]) -> Normalizer:
    normalizer = fit_normalizer("percentile", pixels, **PERCENTILES)
    return fit_normalizer("minmax", pixels) if normalizer.is_flat else normalizer


def _network(request: N2VRequest, n_channels: int) -> DenoisingNetwork:
    import torch

    from napari_cellenhance.core.models.denoiser import DenoisingNetwork, variant_settings

    torch.manual_seed(request.seed)
    module = DenoisingNetwork(
        n_channels=n_channels, is_joint=request.is_joint, has_classes=request.has_classes,
        statistics=request.statistics, depth=request.depth, width=request.width, kernel_px=request.kernel_px,
        n_dims=request.n_dims, **variant_settings(request.variant),
    )  # fmt: skip
    if request.init_from is not None:
        _start_from(module, request.init_from)
    return module


def _start_from(module: DenoisingNetwork, model_id: str) -> None:
    """Take over the weights of a model; one of a single channel serves every channel."""
    from napari_cellenhance.core.models.denoiser import DenoisingNetwork
    from napari_cellenhance.zoo.manifest import find_model
    from napari_cellenhance.zoo.weights import load_model

    card = find_model(model_id)
    if card.recipe != "n2v":
        raise ParameterError(f"the model {card.id!r} is no denoiser; choose one, or start from random weights")
    source = load_model(card)
    assert isinstance(source, DenoisingNetwork)
    nets = list(source.nets) if len(source.nets) == len(module.nets) else [source.nets[0]] * len(module.nets)
    for net, other in zip(module.nets, nets, strict=True):
        wanted, given = net.state_dict(), other.state_dict()
        if {k: v.shape for k, v in wanted.items()} != {k: v.shape for k, v in given.items()}:
            raise ParameterError(
                f"the network to train differs from that of {card.id!r} ({_described(source)}); use the same depth, "
                "width, variant and dimensions, or start from random weights"
            )
        net.load_state_dict(given)


def _described(module: DenoisingNetwork) -> str:
    s = module.unet.settings
    kind = "n2v2" if s.pool == "blur" else "n2v"
    return f"{kind}, {s.n_dims}-D, depth {s.depth}, width {s.width}, kernel {s.kernel_px} px"


def _recipe_settings(request: N2VRequest) -> N2VTraining:
    from napari_cellenhance.core.blind_spots import BlindSpots
    from napari_cellenhance.core.noise import NoiseRange
    from napari_cellenhance.core.recipes.n2v import N2VTraining

    spots = BlindSpots(
        percent=request.percent, radius_px=request.radius_px,
        replace_by="median" if request.variant == "n2v2" else "uniform",
        structure=request.structure, reach_px=request.reach_px,
    )  # fmt: skip
    options = dict(request.recipe_options)
    noise = options.pop("noise", None)
    try:
        if noise is not None:
            fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in noise.items()}
            noise = NoiseRange(**fields)
        return N2VTraining(
            patch_px=request.patch_px, batch_size=request.batch_size, spots=spots, noise=noise, **options
        )
    except (TypeError, AttributeError) as error:
        raise ParameterError(f"unknown training option: {error}") from error
