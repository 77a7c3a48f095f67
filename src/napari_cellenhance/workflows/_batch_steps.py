"""The steps of a recipe with their models loaded: a picture in, a picture out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from napari_cellenhance.workflows import catalog, denoise, enhance, restore, segment_model, separate
from napari_cellenhance.workflows._file_results import channel_names, job_for
from napari_cellenhance.workflows._measured import MeasuredImage
from napari_cellenhance.workflows.batch_recipe import Recipe, Step, title_of
from napari_cellenhance.workflows.denoise import DenoiseRequest
from napari_cellenhance.workflows.progress import OnProgress, Progress
from napari_cellenhance.workflows.requests import EnhanceRequest
from napari_cellenhance.workflows.restore import RestoreRequest
from napari_cellenhance.workflows.segment import SegmentRequest, segment_layers
from napari_cellenhance.workflows.segment_model import SegmentModelRequest

if TYPE_CHECKING:
    from napari_cellenhance.io.images import ImageFile

__all__ = ["Machine", "Made", "OpenedRecipe", "beside_of", "open_recipe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where is computed; no part of a recipe."""

    device: str = "auto"
    precision: str = "auto"
    memory_limit_mb: int = 2000
    cache_folder: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a recipe made of one file.

    Parameters
    ----------
    pixels : ndarray
        Along ``axes``.
    beside : dict of str to (ndarray, axes)
        Further pictures by name.
    labels : ndarray of whole numbers, or None
        Along ``labels_axes``.
    """

    pixels: NDArray[Any]
    axes: str
    record: dict[str, Any]
    channel_names: tuple[str, ...] = ()
    beside: dict[str, tuple[NDArray[Any], str]] = field(default_factory=dict)
    labels: NDArray[Any] | None = None
    labels_axes: str = ""
    warnings: tuple[str, ...] = ()


Apply = Callable[["ImageFile", Path, OnProgress], Made]


@dataclass(frozen=True, slots=True)
class OpenedRecipe:
    """A recipe with all models loaded."""

    recipe: Recipe
    steps: tuple[Apply, ...]
    names: tuple[str, ...]
    """Of pictures that are written beside the result."""

    @property
    def is_of_grey_values(self) -> bool:
        """Whether the result is an image, not classes."""
        return not isinstance(self.recipe.steps[-1], SegmentModelRequest)

    def apply(self, file: ImageFile, source: Path, on_progress: OnProgress) -> Made:
        """Do all steps with one picture, and find its objects.

        Raises
        ------
        CellEnhanceError
            The picture does not fit the recipe, or cannot be computed.
        """
        picture, warnings = file, file.notes
        for number, apply in enumerate(self.steps):
            made = apply(picture, source, _as_part(on_progress, number, len(self.steps)))
            warnings += made.warnings
            picture = replace(
                picture, image=made.pixels, axes=made.axes, provenance=made.record, channel_names=made.channel_names
            )
        made = replace(made, warnings=warnings)
        return made if self.recipe.labels is None else _with_labels(made, self.recipe, on_progress)


def _as_part(on_progress: OnProgress, number: int, n_steps: int) -> OnProgress:
    """Progress of one step as that of all."""

    def report(progress: Progress) -> None:
        n = progress.n_total
        on_progress(replace(progress, n_done=progress.n_done + number * n, n_total=n_steps * n))

    return report


def _with_labels(made: Made, recipe: Recipe, on_progress: OnProgress) -> Made:
    assert recipe.labels is not None
    on_progress(Progress(n_done=0, n_total=0, message="Labelling objects"))
    picture = MeasuredImage(name="result", image=made.pixels, axes=made.axes)
    (found,) = segment_layers(SegmentRequest(images=(picture,), options=recipe.labels)).segmentations
    record = made.record | {"segment": asdict(recipe.labels)}
    return replace(made, labels=found.labels, labels_axes=made.axes.replace("S", ""), record=record)


def beside_of(recipe: Recipe) -> tuple[str, ...]:
    """Pictures that may be written beside the result; whether a restoration has an uncertainty, its model knows."""
    match recipe.steps[-1]:
        case RestoreRequest():
            return ("uncertainty",)
        case separate.SeparateRequest():
            return ("remainder",)
    return ()


def open_recipe(recipe: Recipe, machine: Machine, on_progress: OnProgress) -> OpenedRecipe:
    """Load the models of all steps.

    Raises
    ------
    ModelNotFoundError, DownloadError, ChecksumError, DeviceError
        One cannot be had, or cannot run here.
    """
    steps = []
    for step in recipe.steps:
        on_progress(Progress(n_done=0, n_total=0, message=f"Loading {title_of(step)}"))
        steps.append(_open(step, machine))
    return OpenedRecipe(recipe, tuple(steps), beside_of(recipe))


def _open(step: Step, machine: Machine) -> Apply:
    where = (machine.device, machine.precision)
    match step:
        case EnhanceRequest():
            filter_ = catalog.open_enhancer(
                step.filter_id, *where, memory_limit_mb=machine.memory_limit_mb, cache_folder=machine.cache_folder
            )
            return _enhancing(step, filter_)
        case DenoiseRequest():
            denoiser = denoise.open_denoiser(step.model_id, *where, cache_folder=machine.cache_folder)
            return _denoising(step, denoiser)
        case RestoreRequest():
            restorer = restore.open_restorer(step.model_id, *where, cache_folder=machine.cache_folder)
            return _restoring(step, restorer)
        case SegmentModelRequest():
            segmenter = segment_model.open_segmenter(step.model_id, *where, cache_folder=machine.cache_folder)
            return _segmenting(step, segmenter)
    separator = separate.open_separator(step.model_id, *where, cache_folder=machine.cache_folder)
    return _separating(step, separator)


def _enhancing(step: EnhanceRequest, opened: Any) -> Apply:
    def apply(file: ImageFile, source: Path, on_progress: OnProgress) -> Made:
        result = enhance.apply(job_for(step, file, source), opened, on_progress=on_progress)
        names = channel_names(file, step.channels, result.axes)
        return Made(
            pixels=result.image, axes=result.axes, record=result.provenance, channel_names=names,
            warnings=result.warnings,
        )  # fmt: skip

    return apply


def _denoising(step: DenoiseRequest, opened: Any) -> Apply:
    def apply(file: ImageFile, source: Path, on_progress: OnProgress) -> Made:
        result = denoise.apply(job_for(step, file, source), opened, on_progress=on_progress)
        names = channel_names(file, step.channels, result.axes)
        return Made(
            pixels=result.image, axes=result.axes, record=result.provenance, channel_names=names,
            warnings=result.warnings,
        )  # fmt: skip

    return apply


def _restoring(step: RestoreRequest, opened: Any) -> Apply:
    def apply(file: ImageFile, source: Path, on_progress: OnProgress) -> Made:
        result = restore.apply(job_for(step, file, source), opened, on_progress=on_progress)
        beside = {} if result.uncertainty is None else {"uncertainty": (result.uncertainty, result.axes)}
        names = channel_names(file, step.channels, result.axes)
        return Made(
            pixels=result.image, axes=result.axes, record=result.provenance, channel_names=names, beside=beside,
            warnings=result.warnings,
        )  # fmt: skip

    return apply


def _separating(step: separate.SeparateRequest, opened: Any) -> Apply:
    def apply(file: ImageFile, source: Path, on_progress: OnProgress) -> Made:
        result = separate.apply(job_for(step, file, source), opened, on_progress=on_progress)
        return Made(
            pixels=result.target, axes=result.axes, record=result.provenance,
            channel_names=channel_names(file, step.channels, result.axes),
            beside={"remainder": (result.remainder, result.axes)}, labels=result.labels,
            labels_axes=result.labels_axes, warnings=result.warnings,
        )  # fmt: skip

    return apply


def _segmenting(step: SegmentModelRequest, opened: Any) -> Apply:
    def apply(file: ImageFile, source: Path, on_progress: OnProgress) -> Made:
        result = segment_model.apply(job_for(step, file, source), opened, on_progress=on_progress)
        return Made(
            pixels=result.classes, axes=result.axes, record=result.provenance, labels=result.instances,
            labels_axes=result.axes, warnings=result.warnings,
        )  # fmt: skip

    return apply
