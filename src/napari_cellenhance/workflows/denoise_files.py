"""Denoise files: read, denoise, write. The model is loaded once."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.workflows import denoise
from napari_cellenhance.workflows._file_loop import (
    FilesResult,
    OnOutcome,
    make_folders,
    no_outcome,
    refuse_hopeless,
    run_each,
)
from napari_cellenhance.workflows._targets import Targets, plan
from napari_cellenhance.workflows.denoise import DenoiseRequest, OpenedDenoiser
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress

__all__ = ["DenoiseFilesRequest", "as_dtype", "run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DenoiseFilesRequest:
    """Denoise one file, all images of a folder, or all that match a pattern.

    Parameters
    ----------
    source : path or tuple of paths
        TIFF, OME-TIFF or PNG file, a folder of such files, or a pattern such as ``plate1/*.tif``.
    target : path
        File for the result of a single source, else a folder, made if missing.
    settings : DenoiseRequest
        How to denoise. Its ``image``, ``axes`` (where empty) and ``source_name`` are replaced by each file's.
    dtype : "float32" or "same"
        "same" rounds to the pixel type of the file and cuts off what that cannot hold.
    overwrite : bool
        Replace results that are there already. The originals are never replaced.
    """

    source: str | os.PathLike[str] | tuple[str | os.PathLike[str], ...]
    target: str | os.PathLike[str]
    settings: DenoiseRequest
    dtype: Literal["float32", "same"] = "float32"
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "same"):
            raise ParameterError(f"pixel type is {self.dtype!r}; expected 'float32' or 'same'")


def run(
    request: DenoiseFilesRequest,
    *,
    on_progress: OnProgress = no_progress,
    on_outcome: OnOutcome = no_outcome,
    is_cancelled: IsCancelled = never_cancelled,
) -> FilesResult:
    """Denoise every file; one that fails is recorded, and the next one starts.

    Raises
    ------
    ParameterError
        No such file or folder, or no image in it; results that would replace originals or each other.
    WriteError
        The folder of the results is missing or cannot be made.
    ModelNotFoundError, DownloadError, ChecksumError, DeviceError
        As in :func:`napari_cellenhance.workflows.denoise.run`; nothing was begun.
    """
    planned = plan(request.source, request.target)
    make_folders((request.target,), planned)
    settings = request.settings
    on_progress(Progress(n_done=0, n_total=0, message=f"Loading {settings.model_id}"))
    opened = denoise.open_denoiser(
        settings.model_id, settings.device, settings.precision, cache_folder=settings.cache_folder
    )

    def denoise_one(targets: Targets, report: OnProgress) -> tuple[str, ...] | None:
        return _denoise_file(request, targets, opened, report, is_cancelled)

    return run_each(planned, denoise_one, on_progress=on_progress, on_outcome=on_outcome, is_cancelled=is_cancelled)


def _denoise_file(
    request: DenoiseFilesRequest,
    targets: Targets,
    opened: OpenedDenoiser,
    on_progress: OnProgress,
    is_cancelled: IsCancelled,
) -> tuple[str, ...] | None:
    from napari_cellenhance.io.images import read, write

    refuse_hopeless(targets, request.overwrite)
    file = read(targets.source)
    settings = request.settings
    job = replace(
        settings, image=file.image, axes=settings.axes or file.axes, source_name=targets.source.name,
        pixel_size_um=file.pixel_size_um, earlier=file.provenance,
    )  # fmt: skip
    result = denoise.apply(job, opened, on_progress=on_progress, is_cancelled=is_cancelled)
    if not result.is_complete:
        return None
    image = as_dtype(result.image, file.image.dtype) if request.dtype == "same" else result.image
    sizes = {axis: size for axis, size in file.pixel_size_um.items() if axis in result.axes}
    write(
        targets.image, image, result.axes, pixel_size_um=sizes, provenance=result.provenance, dtype="keep",
        overwrite=request.overwrite,
    )  # fmt: skip
    return file.notes + result.warnings


def as_dtype(image: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Round to whole numbers and cut off what the type cannot hold; real types and booleans become float32."""
    if dtype.kind not in "ui":
        return image
    limits = np.iinfo(dtype)
    # The largest float below the limit, where the limit itself is none.
    high = limits.max if float(limits.max) == limits.max else np.nextafter(np.float64(limits.max), 0.0)
    return np.clip(np.rint(image.astype(np.float64)), limits.min, high).astype(dtype)
