"""Denoise files: read, denoise, write. The model is loaded once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from napari_cellenhance.workflows import denoise
from napari_cellenhance.workflows._file_loop import (
    FilesResult,
    OnOutcome,
    make_folders,
    no_outcome,
    refuse_hopeless,
    run_each,
)
from napari_cellenhance.workflows._file_results import check_dtype, job_for, write_result
from napari_cellenhance.workflows._record_files import write_record_beside
from napari_cellenhance.workflows._targets import Targets, plan
from napari_cellenhance.workflows.denoise import DenoiseRequest, OpenedDenoiser
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress

__all__ = ["DenoiseFilesRequest", "run"]


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
        check_dtype(self.dtype)


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
    from napari_cellenhance.io.images import read

    refuse_hopeless(targets, request.overwrite)
    file = read(targets.source)
    job = job_for(request.settings, file, targets.source)
    result = denoise.apply(job, opened, on_progress=on_progress, is_cancelled=is_cancelled)
    if not result.is_complete:
        return None
    write_record_beside(targets.image, result.provenance)
    write_result(
        targets.image, result.image, result.axes, file, result.provenance, overwrite=request.overwrite,
        dtype=request.dtype,
    )  # fmt: skip
    return file.notes + result.warnings
