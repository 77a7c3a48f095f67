"""Restore an image of any axes with a trained CARE network: restored grey values, and how sure it is of each."""

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
    from napari_cellenhance.core.recipes.restorer import Restored, Restorer

__all__ = [
    "MAX_REPEATS",
    "RESTORERS",
    "OpenedRestorer",
    "RestoreRequest",
    "RestoreResult",
    "apply",
    "list_restorers",
    "open_restorer",
    "run",
    "scale_factor_of",
]

MAX_REPEATS = 3
RESTORERS = Kind(
    recipes=("care",), name="restoration model", advice="train one with 'cellenhance train care'"
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreRequest:
    """Restore one image of any axes. Holds no layer and no viewer.

    Parameters
    ----------
    image : array-like (numpy, dask, zarr)
        Read plane by plane (volume by volume where the model is of volumes), never written to.
    axes : str
        One letter per dimension of ``image`` out of ``TCZYX``, plus ``S`` for colours.
    model_id : str
        A restoration model, see :func:`list_restorers`, or the path of a card.
    channels : "all", "grey" or tuple of int
        Each is restored by itself.
    statistics : "plane" or "stack"
        Percentiles of every plane by itself, or of the whole stack (no flicker).
    repeats : 1, 2 or 3
        Apply the network again to what it made: sharper, but noise may be taken for structure.
    region : Region or None
        Compute only this window of every plane.
    tile_px : int or None
        Side of a tile without its context.
    earlier : mapping or None
        Record of how the image itself was made; carried along, so that the chain of steps is known.
    """

    image: Any
    axes: str
    model_id: str = ""
    channels: Literal["all", "grey"] | tuple[int, ...] = "all"
    statistics: Literal["plane", "stack"] = "stack"
    repeats: int = 1
    region: Region | None = None
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    tile_px: int | None = None
    source_name: str = "image"
    pixel_size_um: dict[str, float] = field(default_factory=dict)
    earlier: Mapping[str, Any] | None = None
    cache_folder: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.repeats <= MAX_REPEATS:
            raise ParameterError(f"{self.repeats} applications were asked for; expected 1 to {MAX_REPEATS}")
        if self.statistics not in ("plane", "stack"):
            raise ParameterError(f"statistics is {self.statistics!r}; expected 'plane' or 'stack'")


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreResult:
    """A restored image.

    Parameters
    ----------
    image : ndarray of float32
        Median of the distribution of every pixel, in the grey values of the input, not clipped. After a cancel, planes
        that were not reached are 0.
    uncertainty : ndarray of float32 or None
        Scale σ of the Laplace distribution of every pixel, calibrated, in grey values: the error is below σ·ln 2 for
        half of the pixels. None for a model without likelihood. 0 where a plane has one single grey value.
    axes : str
        The request's, less C or S where they were averaged or one was chosen.
    provenance : dict
        JSON-ready.
    """

    image: NDArray[np.float32]
    uncertainty: NDArray[np.float32] | None
    axes: str
    provenance: dict[str, Any]
    is_complete: bool = True
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedRestorer:
    """A restoration model with its weights loaded on a device."""

    card: ModelCard
    restorer: Restorer
    choice: DeviceChoice


def list_restorers() -> tuple[ModelCard, ...]:
    """Models that restore: those of the manifest, then the user's."""
    return RESTORERS.all()


def scale_factor_of(card: ModelCard) -> float:
    """What the training found the scale to be multiplied by; 1 where it found nothing."""
    calibration = card.training.get("calibration")
    factor = calibration.get("factor") if isinstance(calibration, dict) else None
    return float(factor) if isinstance(factor, (int, float)) and factor > 0 else 1.0


def open_restorer(
    model_id: str, device: str = "auto", precision: str = "auto", *, cache_folder: str = ""
) -> OpenedRestorer:
    """Choose the device and load the weights.

    Parameters
    ----------
    model_id : str
        Id of a restoration model, or the path of a card (``.json``) that a training left beside its weights.

    Raises
    ------
    ModelNotFoundError
        No restoration model of that id; the message lists those there are.
    DownloadError, ChecksumError
        Its weights cannot be had.
    DeviceError, ParameterError
        Unknown device or precision.
    """
    from napari_cellenhance.core.recipes.restorer import Restorer

    found = RESTORERS.load(model_id, device, precision, cache_folder)
    restorer = Restorer(found.module, found.choice, scale_factor_of(found.card))
    return OpenedRestorer(card=found.card, restorer=restorer, choice=found.choice)


def run(
    request: RestoreRequest,
    *,
    on_progress: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
) -> RestoreResult:
    """Load the model and restore one image.

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
    opened = open_restorer(request.model_id, request.device, request.precision, cache_folder=request.cache_folder)
    return apply(request, opened, on_progress=on_progress, is_cancelled=is_cancelled)


def apply(
    request: RestoreRequest,
    opened: OpenedRestorer,
    *,
    on_progress: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
) -> RestoreResult:
    """Restore one image with a model that is loaded already; see :func:`run`."""
    return _Run(request, opened, on_progress, is_cancelled).restore()


class _Run(TiledRun):
    verb = "Restoring"
    advice = "restore a smaller region"

    def __init__(
        self, request: RestoreRequest, opened: OpenedRestorer, on_progress: OnProgress, is_cancelled: IsCancelled
    ) -> None:
        super().__init__(reading_of(request), opened.choice, request.tile_px, on_progress, is_cancelled)
        self.request, self.opened = request, opened
        restorer = opened.restorer
        if restorer.n_dims == 3 and self.image.shape[2] < 2:
            raise ImageError(f"the model {opened.card.id!r} restores volumes, and the image has no Z axis")
        self.warn_if_repeated(opened.card, request.earlier)
        self.look_at_input(opened.card)
        if request.repeats > 1:
            self.warnings.append(
                f"The network was applied {request.repeats} times: sharper, but noise of dark areas may have become "
                "structure that is not there; the uncertainty is that of the last time alone."
            )
        shape = (*self.image.shape[:3], *self.window.shape)
        self.mean = np.zeros(shape, np.float32)
        self.scale = np.zeros(shape, np.float32) if restorer.is_probabilistic else None
        self.normalizers: dict[str, dict[str, Any]] = {}
        self._pooled: dict[int, Normalizer] = {}

    def restore(self) -> RestoreResult:
        units = list(self.units(are_together=False, are_volumes=self.opened.restorer.n_dims == 3))
        is_complete = self.do_each(units, lambda unit: self._restore_unit(unit, len(units)))
        warnings = self.notes()
        factor = self.opened.restorer.scale_factor
        record = record_of(
            self, self.request, self.opened.card, "restore", self.normalizers, warnings, {"scale_factor": factor},
            repeats=self.request.repeats, scale_factor=factor, is_complete=is_complete,
        )  # fmt: skip
        axes = self.image.axes
        return RestoreResult(
            image=from_canonical(self.mean, axes),
            uncertainty=None if self.scale is None else from_canonical(self.scale, axes), axes=axes, provenance=record,
            is_complete=is_complete, warnings=tuple(warnings),
        )  # fmt: skip

    def _restore_unit(self, unit: Unit, n_units: int) -> None:
        raw = self.read(unit)[0]
        (channel,) = unit.channels
        normalizer = self._normalizer(unit, raw)
        at = (unit.t, channel, unit.planes)
        if normalizer.is_flat or float(raw.min()) == float(raw.max()):
            self.n_flat += 1
            self.mean[at] = raw[(slice(None), *self.window.slices)]
            return
        scaled = normalizer.normalize(raw)
        is_volume = self.opened.restorer.n_dims == 3
        found = self._attempt(scaled if is_volume else scaled[0], n_units)
        self.mean[at] = normalizer.denormalize(found.mean)
        if self.scale is not None and found.scale is not None:
            self.scale[at] = found.scale * _range_of(normalizer)

    def _normalizer(self, unit: Unit, raw: NDArray[Any]) -> Normalizer:
        """Of the plane or volume, or of the whole stack of its channel."""
        (channel,) = unit.channels
        if self.request.statistics == "plane":
            found = self._measured([raw])
            self.normalizers[f"t{unit.t} c{channel} z{unit.planes.start}"] = found.to_dict()
            return found
        if channel not in self._pooled:
            self._pooled[channel] = self._measured(self.pooled(channel))
            self.normalizers[f"c{channel}"] = self._pooled[channel].to_dict()
        return self._pooled[channel]

    def _measured(self, planes: list[NDArray[Any]]) -> Normalizer:
        card = self.opened.card.normalization
        normalizer = fit_normalizer(card.name, planes, **card.parameters)
        return fit_normalizer("minmax", planes) if normalizer.is_flat else normalizer

    def _attempt(self, scaled: NDArray[np.float32], n_units: int) -> Restored:
        restorer, repeats = self.opened.restorer, self.request.repeats
        n_total = n_units * restorer.n_tiles(scaled.shape, repeats, self.tile_px, self.request.region)

        def attempt(tile_px: int) -> Restored:
            return restorer.restore(
                scaled, region=self.request.region, n_times=repeats, tile_px=tile_px,
                on_tile=lambda: self.tell(n_total), checkpoint=self.checkpoint,
            )  # fmt: skip

        return self.in_tiles(attempt)


def _range_of(normalizer: Normalizer) -> np.float32:
    """Grey values between what becomes 0 and what becomes 1."""
    low, high = normalizer.denormalize(np.array([0.0, 1.0]))
    return np.float32(high - low)
