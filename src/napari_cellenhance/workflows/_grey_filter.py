"""A model whose results are grey values of the image, as a filter of large images: denoised, restored, separated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.recipes.protocol import Checkpoint, FilterInfo
from napari_cellenhance.core.tiling import Region

if TYPE_CHECKING:
    from napari_cellenhance.core.device import DeviceChoice
    from napari_cellenhance.core.normalize import Normalizer
    from napari_cellenhance.workflows._open_model import Kind, Loaded
    from napari_cellenhance.workflows.catalog import FilterSpec
    from napari_cellenhance.zoo.cards import ModelCard

__all__ = ["GreyEnhancer", "GreyFilter", "GreyStep", "describe_grey", "is_grey"]

GreyStep = Literal["denoise", "restore", "separate"]

_PREFIX = "grey"


@dataclass(frozen=True, slots=True, kw_only=True)
class GreyFilter:
    """What a model is asked for.

    Parameters
    ----------
    step : "denoise", "restore" or "separate"
    model_id : str
        Id, or the path of a card.
    n_times : int
        Symmetries of a denoiser (1 or 8), applications of a restoration (1 to 3).
    shows : "image" or "uncertainty"
        The second of restorations.
    """

    step: GreyStep
    model_id: str
    n_times: int = 1
    shows: Literal["image", "uncertainty"] = "image"

    @property
    def filter_id(self) -> str:
        """The same as a word.

        >>> GreyFilter(step="denoise", model_id="n2v2-fluorescence", n_times=8).filter_id
        'grey|denoise|image|8|n2v2-fluorescence'
        """
        return f"{_PREFIX}|{self.step}|{self.shows}|{self.n_times}|{self.model_id}"

    @classmethod
    def of(cls, filter_id: str) -> GreyFilter:
        """Inverse of :attr:`filter_id`."""
        _, step, shows, n_times, model_id = filter_id.split("|", 4)
        return cls(
            step=cast("GreyStep", step), model_id=model_id, n_times=int(n_times),
            shows="uncertainty" if shows == "uncertainty" else "image",
        )  # fmt: skip

    def card(self) -> ModelCard:
        """Card of the model.

        Raises
        ------
        ModelNotFoundError
            None of that id and kind.
        """
        return self._kind().card_of(self.model_id)

    def load(self, device: str, precision: str, cache_folder: str) -> Loaded:
        """Network and device.

        Raises
        ------
        ModelNotFoundError, DownloadError, ChecksumError, DeviceError, ParameterError
            As for the same step in memory.
        """
        return self._kind().load(self.model_id, device, precision, cache_folder)

    def _kind(self) -> Kind:
        from napari_cellenhance.workflows import denoise, restore, separate

        return {"denoise": denoise.DENOISERS, "restore": restore.RESTORERS, "separate": separate.SEPARATORS}[self.step]

    def keeps_even(self, statistics: str) -> bool:
        """Whether a plane of one single grey value is left as it is, as in memory."""
        return self.step != "denoise" or statistics == "plane"

    def in_grey(self, image: NDArray[np.float32], normalizer: Normalizer) -> NDArray[np.float32]:
        """Bring what a network returned to the grey values of the image."""
        if self.shows == "image":
            return normalizer.denormalize(image).astype(np.float32)
        low, high = normalizer.denormalize(np.array([0.0, 1.0]))
        return image * np.float32(high - low)

    def untouched(self, raw: NDArray[Any]) -> NDArray[np.float32]:
        """What stands for a region where nothing is computed."""
        return raw.astype(np.float32) if self.shows == "image" else np.zeros(raw.shape, np.float32)

    def record(self) -> dict[str, Any]:
        """What the record of this step has of its own, so that it can be repeated with other images."""
        from napari_cellenhance.workflows.restore import scale_factor_of

        match self.step:
            case "denoise":
                return {"symmetries": self.n_times}
            case "restore":
                shows = {} if self.shows == "image" else {"shows": "scale of the Laplace distribution of every pixel"}
                return {"repeats": self.n_times, "scale_factor": scale_factor_of(self.card()), **shows}
            case _:
                return {"learned_from": "crops", "objects": None, "shows": "target"}


def is_grey(filter_id: str) -> bool:
    """Whether a filter keeps grey values."""
    return filter_id.startswith(f"{_PREFIX}|")


def describe_grey(filter_id: str) -> FilterSpec:
    """Look a model up.

    Raises
    ------
    ModelNotFoundError
        No model of that id that does this step.
    ParameterError
        A model that needs more than one plane of one channel at a time, or does not know what it is asked for.
    """
    from napari_cellenhance.workflows.catalog import is_filter, spec_without_strength
    from napari_cellenhance.workflows.separate import is_of_movies

    asked = GreyFilter.of(filter_id)
    card = asked.card()
    if not is_filter(card):
        raise ParameterError(
            f"{card.id} takes volumes, or several channels together, which is not done block by block; use files that "
            "fit into memory (TIFF to TIFF), or a model of single planes"
        )
    if asked.step == "separate" and is_of_movies(card):
        raise ParameterError(
            f"{card.id} shows what moves, which is not done block by block; use files that fit into memory (TIFF to "
            "TIFF)"
        )
    if asked.shows == "uncertainty" and not card.architecture.get("is_probabilistic"):
        raise ParameterError(f"{card.id} knows no uncertainty; leave it out")
    return spec_without_strength(filter_id, card, "Denoising")


class GreyEnhancer:
    """A network behind the contract of every filter; its values are those of the normalised plane, in no limits.

    Parameters
    ----------
    module : network of a denoiser, a restoration, or a semantic filter
        Of single planes and one channel.
    card : ModelCard
    info : FilterInfo
        Of the filter, see :func:`describe_grey`.
    choice : DeviceChoice
    """

    is_bounded = False

    def __init__(self, module: Any, card: ModelCard, info: FilterInfo, choice: DeviceChoice) -> None:
        from napari_cellenhance.core.recipes import denoiser, restorer, separator
        from napari_cellenhance.workflows.restore import scale_factor_of

        self.info, self._asked = info, GreyFilter.of(info.id)
        self._network: Any
        match self._asked.step:
            case "denoise":
                self._network = denoiser.Denoiser(module, choice)
                self.bytes_per_px = denoiser.DenoiseEnhancer.bytes_per_px
            case "restore":
                self._network = restorer.Restorer(module, choice, scale_factor_of(card))
                self.bytes_per_px = restorer.RestoreEnhancer.bytes_per_px
            case _:
                self._network = separator.Separator(module, choice)
                self.bytes_per_px = separator.SeparateEnhancer.bytes_per_px

    @property
    def halo_px(self) -> int:
        """Context that ``encode`` adds to a region."""
        n_times = self._asked.n_times if self._asked.step == "restore" else 1
        return int(self._network.halo_px) * n_times

    def calibrate(self, planes: Sequence[NDArray[np.float32]], checkpoint: Checkpoint) -> Any:
        """What brings the planes to the range of a denoiser; the others have nothing to measure."""
        return self._network.moments_of([plane[None] for plane in planes]) if self._asked.step == "denoise" else None

    def encode(self, plane: NDArray[np.float32], region: Region, calibration: Any) -> NDArray[np.float32]:
        """Compute a region, with the context it needs."""
        asked = self._asked
        found: Any
        if asked.step == "denoise":
            found = self._network.denoise(
                plane[None], moments=calibration, region=region, n_symmetries=asked.n_times
            )[0]  # fmt: skip
        elif asked.step == "restore":
            both = self._network.restore(plane, region=region, n_times=asked.n_times)
            found = both.mean if asked.shows == "image" else both.scale
        else:
            found = self._network.separate(plane[None], region=region)[0]
        return cast("NDArray[np.float32]", found)

    def decode(self, features: NDArray[np.float32], strength: float) -> NDArray[np.float32]:
        """What was computed."""
        return features

    def calibrate_and_encode(self, plane: NDArray[np.float32], checkpoint: Checkpoint) -> None:
        """None: planes are tiled like any other."""
        return
