"""Denoise an image of any axes with a trained denoiser: planes or volumes in, the same in their own grey values out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.axes import from_canonical
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.normalize import Normalizer, fit_normalizer
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.workflows._open_model import Kind
from napari_cellenhance.workflows._tiled_run import TiledRun, Unit, record_of
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress
from napari_cellenhance.workflows.requests import reading_of
from napari_cellenhance.zoo.cards import ModelCard

if TYPE_CHECKING:
    from napari_cellenhance.core.device import DeviceChoice
    from napari_cellenhance.core.recipes.denoiser import Denoiser, Moments

__all__ = [
    "DEFAULT_DENOISER",
    "DENOISERS",
    "DenoiseRequest",
    "DenoiseResult",
    "OpenedDenoiser",
    "apply",
    "list_denoisers",
    "open_denoiser",
    "run",
]

DEFAULT_DENOISER = "n2v2-fluorescence"
DENOISERS = Kind(recipes=("n2v",), name="denoiser")


@dataclass(frozen=True, slots=True, kw_only=True)
class DenoiseRequest:
    """Denoise one image of any axes. Holds no layer and no viewer.

    Parameters
    ----------
    image : array-like (numpy, dask, zarr)
        Read plane by plane (volume by volume where the model is of volumes), never written to.
    axes : str
        One letter per dimension of ``image`` out of ``TCZYX``, plus ``S`` for colours.
    model_id : str
        A denoiser, see :func:`list_denoisers`, or the path of a card.
    channels : "all", "grey" or tuple of int
        A model of several channels needs as many.
    statistics : "plane" or "stack"
        For a model that uses the grey values of each image: those of every plane by itself, or of the whole stack.
    symmetries : 1 or 8
        8: the mean over all turned and flipped versions; eight times slower, and a little better.
    region : Region or None
        Compute only this window of every plane.
    tile_px : int or None
        Side of a tile without its context.
    earlier : mapping or None
        Record of how the image itself was made; carried along, so that the chain of steps is known.
    """

    image: Any
    axes: str
    model_id: str = DEFAULT_DENOISER
    channels: Literal["all", "grey"] | tuple[int, ...] = "all"
    statistics: Literal["plane", "stack"] = "stack"
    symmetries: Literal[1, 8] = 1
    region: Region | None = None
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    tile_px: int | None = None
    source_name: str = "image"
    pixel_size_um: dict[str, float] = field(default_factory=dict)
    earlier: Mapping[str, Any] | None = None
    cache_folder: str = ""

    def __post_init__(self) -> None:
        if self.symmetries not in (1, 8):
            raise ParameterError(f"{self.symmetries} symmetries were asked for; expected 1 or 8")
        if self.statistics not in ("plane", "stack"):
            raise ParameterError(f"statistics is {self.statistics!r}; expected 'plane' or 'stack'")


@dataclass(frozen=True, slots=True, kw_only=True)
class DenoiseResult:
    """A denoised image.

    Parameters
    ----------
    image : ndarray of float32
        In the grey values of the input, not clipped: noise goes below 0 where it did. Pixels that were no numbers
        are filled. After a cancel, planes that were not reached are 0.
    axes : str
        The request's, less C or S where they were averaged or one was chosen.
    provenance : dict
        JSON-ready: model, SHA-256, axes, normalisation, device, versions, source, and the earlier step where the
        image says how it was made.
    """

    image: NDArray[np.float32]
    axes: str
    provenance: dict[str, Any]
    is_complete: bool = True
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedDenoiser:
    """A denoiser with its weights loaded on a device."""

    card: ModelCard
    denoiser: Denoiser
    choice: DeviceChoice


def list_denoisers() -> tuple[ModelCard, ...]:
    """Models that denoise: those of the manifest, then the user's."""
    return DENOISERS.all()


def open_denoiser(
    model_id: str, device: str = "auto", precision: str = "auto", *, cache_folder: str = ""
) -> OpenedDenoiser:
    """Choose the device and load the weights.

    Parameters
    ----------
    model_id : str
        Id of a denoiser, or the path of a card (``.json``) that a training left beside its weights.

    Raises
    ------
    ModelNotFoundError
        No denoiser of that id; the message lists those there are.
    DownloadError, ChecksumError
        Its weights cannot be had.
    DeviceError, ParameterError
        Unknown device or precision.
    """
    from napari_cellenhance.core.recipes.denoiser import Denoiser

    found = DENOISERS.load(model_id, device, precision, cache_folder)
    return OpenedDenoiser(card=found.card, denoiser=Denoiser(found.module, found.choice), choice=found.choice)


def run(
    request: DenoiseRequest,
    *,
    on_progress: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
) -> DenoiseResult:
    """Load the model and denoise one image.

    Raises
    ------
    ModelNotFoundError, DownloadError, ChecksumError
        No such model, or its weights cannot be had.
    AxesError, ImageError, ParameterError
        A request that does not fit the image, or an image that does not fit the model.
    DeviceError
        Unknown device, or not enough memory even in small tiles.
    """
    on_progress(Progress(n_done=0, n_total=0, message=f"Loading {request.model_id}"))
    opened = open_denoiser(request.model_id, request.device, request.precision, cache_folder=request.cache_folder)
    return apply(request, opened, on_progress=on_progress, is_cancelled=is_cancelled)


def apply(
    request: DenoiseRequest,
    opened: OpenedDenoiser,
    *,
    on_progress: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
) -> DenoiseResult:
    """Denoise one image with a model that is loaded already; see :func:`run`."""
    return _Run(request, opened, on_progress, is_cancelled).denoise()


class _Run(TiledRun):
    """One run: an array to fill, and the units to fill it from."""

    verb = "Denoising"
    advice = "denoise a smaller region"

    def __init__(
        self, request: DenoiseRequest, opened: OpenedDenoiser, on_progress: OnProgress, is_cancelled: IsCancelled
    ) -> None:
        super().__init__(reading_of(request), opened.choice, request.tile_px, on_progress, is_cancelled)
        self.request, self.opened = request, opened
        self._check_model()
        self.warn_if_repeated(opened.card, request.earlier)
        self.look_at_input(opened.card)
        self.moments: dict[str, dict[str, Any]] = {}
        self.result = np.zeros((*self.image.shape[:3], *self.window.shape), np.float32)
        self.normalizers: dict[str, dict[str, Any]] = {}
        self._pooled: dict[tuple[int, ...], tuple[list[Normalizer], Moments]] = {}

    def denoise(self) -> DenoiseResult:
        denoiser = self.opened.denoiser
        units = list(self.units(are_together=denoiser.n_channels > 1, are_volumes=denoiser.n_dims == 3))
        is_complete = self.do_each(units, lambda unit: self._denoise_unit(unit, len(units)))
        return self._result(is_complete)

    def _check_model(self) -> None:
        denoiser, (_, n_c, n_z, _, _) = self.opened.denoiser, self.image.shape
        if denoiser.n_channels > 1 and n_c != denoiser.n_channels:
            raise ImageError(
                f"the image has {n_c} channel(s), the model {self.opened.card.id!r} was trained for "
                f"{denoiser.n_channels}; choose as many channels, or another model"
            )
        if denoiser.n_dims == 3 and n_z < 2:
            raise ImageError(f"the model {self.opened.card.id!r} denoises volumes, and the image has no Z axis")

    def _denoise_unit(self, unit: Unit, n_units: int) -> None:
        raw = self.read(unit)
        normalizers, moments = self._statistics(unit, raw)
        scaled = np.stack([one.normalize(channel) for one, channel in zip(normalizers, raw, strict=True)])
        is_volume = self.opened.denoiser.n_dims == 3
        restored = self._attempt(scaled if is_volume else scaled[:, 0], moments, n_units)
        restored = restored if is_volume else restored[:, None]
        for i, (c, normalizer) in enumerate(zip(unit.channels, normalizers, strict=True)):
            if normalizer.is_flat or moments.std[i] <= 0:
                self.n_flat += 1
                self.result[unit.t, c, unit.planes] = raw[i][(slice(None), *self.window.slices)]
            else:
                self.result[unit.t, c, unit.planes] = normalizer.denormalize(restored[i])

    def _statistics(self, unit: Unit, raw: NDArray[Any]) -> tuple[list[Normalizer], Moments]:
        """Normaliser of each channel, and what brings it to the range of the network."""
        denoiser = self.opened.denoiser
        if self.request.statistics == "plane" or denoiser.statistics == "stored":
            return self._measured([[volume] for volume in raw], f"t{unit.t} c{unit.channels[0]} z{unit.planes.start}")
        if unit.channels not in self._pooled:
            stacks = [self.pooled(c) for c in unit.channels]
            self._pooled[unit.channels] = self._measured(stacks, f"c{unit.channels[0]}")
        return self._pooled[unit.channels]

    def _measured(self, channels: list[list[NDArray[Any]]], key: str) -> tuple[list[Normalizer], Moments]:
        from napari_cellenhance.core.recipes.denoiser import Moments

        card = self.opened.card.normalization
        found = []
        for planes in channels:
            normalizer = fit_normalizer(card.name, planes, **card.parameters)
            found.append(fit_normalizer("minmax", planes) if normalizer.is_flat else normalizer)
        scaled = [
            np.concatenate([normalizer.normalize(plane).ravel() for plane in planes])
            for normalizer, planes in zip(found, channels, strict=True)
        ]
        denoiser = self.opened.denoiser
        used = denoiser.moments_of([np.stack(scaled)]) if denoiser.statistics == "image" else denoiser.moments_of([])
        constant = [len(found) == 1 and float(part.min()) == float(part.max()) for part in scaled]
        moments = Moments(used.mean, np.where(constant, np.float32(0), used.std).astype(np.float32))
        self.normalizers.setdefault(key if card.name != "fixed" else "all", found[0].to_dict())
        self.moments.setdefault(
            key if denoiser.statistics == "image" else "all",
            {"mean": [float(one) for one in moments.mean], "std": [float(one) for one in moments.std]},
        )
        return found, moments

    def _attempt(self, scaled: NDArray[np.float32], moments: Moments, n_units: int) -> NDArray[np.float32]:
        """Denoise; in smaller tiles where the memory runs out."""
        denoiser = self.opened.denoiser
        n_total = n_units * denoiser.n_tiles(scaled.shape[1:], self.tile_px)

        def attempt(tile_px: int) -> NDArray[np.float32]:
            return denoiser.denoise(
                scaled, moments=moments, region=self.window, n_symmetries=self.request.symmetries, tile_px=tile_px,
                on_tile=lambda: self.tell(n_total), checkpoint=self.checkpoint,
            )  # fmt: skip

        return self.in_tiles(attempt)

    def _result(self, is_complete: bool) -> DenoiseResult:
        warnings = self.notes()
        return DenoiseResult(
            image=from_canonical(self.result, self.image.axes),
            axes=self.image.axes,
            provenance=self._provenance(warnings) | {"is_complete": is_complete},
            is_complete=is_complete,
            warnings=tuple(warnings),
        )

    def _provenance(self, warnings: list[str]) -> dict[str, Any]:
        request = self.request
        return record_of(
            self, request, self.opened.card, "denoise", self.normalizers, warnings,
            {"statistics": self.opened.denoiser.statistics, "moments": self.moments}, symmetries=request.symmetries,
        )  # fmt: skip
