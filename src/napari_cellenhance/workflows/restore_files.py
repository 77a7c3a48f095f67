"""Restore files: read, restore, write the image and its uncertainty. The model is loaded once."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.workflows import restore
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
from napari_cellenhance.workflows._targets import Targets, path_beside, plan
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress
from napari_cellenhance.workflows.restore import OpenedRestorer, RestoreRequest

__all__ = ["RestoreFilesRequest", "run", "uncertainty_path"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreFilesRequest:
    """Restore one file, all images of a folder, or all that match a pattern.

    Parameters
    ----------
    source : path or tuple of paths
        TIFF, OME-TIFF or PNG file, a folder of such files, or a pattern such as ``plate1/*.tif``.
    target : path
        File for the result of a single source, else a folder, made if missing. The uncertainty goes beside it, as
        ``<name>_uncertainty.ome.tif``, always float32.
    settings : RestoreRequest
        How to restore. Its ``image``, ``axes`` (where empty) and ``source_name`` are replaced by each file's.
    dtype : "float32" or "same"
        "same" rounds the image to the pixel type of the file and cuts off what that cannot hold.
    has_uncertainty : bool
        Write it, where the model knows it.
    overwrite : bool
        Replace results that are there already. The originals are never replaced.
    """

    source: str | os.PathLike[str] | tuple[str | os.PathLike[str], ...]
    target: str | os.PathLike[str]
    settings: RestoreRequest
    dtype: Literal["float32", "same"] = "float32"
    has_uncertainty: bool = True
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_dtype(self.dtype)


def uncertainty_path(image: Path) -> Path:
    """File of the uncertainty beside that of the image."""
    return path_beside(image, "uncertainty")


def run(
    request: RestoreFilesRequest,
    *,
    on_progress: OnProgress = no_progress,
    on_outcome: OnOutcome = no_outcome,
    is_cancelled: IsCancelled = never_cancelled,
) -> FilesResult:
    """Restore every file; one that fails is recorded, and the next one starts.

    Raises
    ------
    ParameterError
        No such file or folder, or no image in it; results that would replace originals or each other.
    WriteError
        The folder of the results is missing or cannot be made.
    ModelNotFoundError, DownloadError, ChecksumError, DeviceError
        As in :func:`napari_cellenhance.workflows.restore.run`; nothing was begun.
    """
    planned = plan(request.source, request.target)
    make_folders((request.target,), planned)
    settings = request.settings
    on_progress(Progress(n_done=0, n_total=0, message=f"Loading {settings.model_id}"))
    opened = restore.open_restorer(
        settings.model_id, settings.device, settings.precision, cache_folder=settings.cache_folder
    )
    if request.has_uncertainty and opened.restorer.is_probabilistic:
        _refuse_clashes(planned)

    def restore_one(targets: Targets, report: OnProgress) -> tuple[str, ...] | None:
        return _restore_file(request, targets, opened, report, is_cancelled)

    return run_each(planned, restore_one, on_progress=on_progress, on_outcome=on_outcome, is_cancelled=is_cancelled)


def _refuse_clashes(planned: tuple[Targets, ...]) -> None:
    taken = {path.resolve() for targets in planned for path in (targets.source, targets.image)}
    for targets in planned:
        path = uncertainty_path(targets.image)
        if path.resolve() in taken:
            raise ParameterError(
                f"the uncertainty would replace {path}; choose another name or folder, or leave it out"
            )


def _restore_file(
    request: RestoreFilesRequest,
    targets: Targets,
    opened: OpenedRestorer,
    on_progress: OnProgress,
    is_cancelled: IsCancelled,
) -> tuple[str, ...] | None:
    from napari_cellenhance.io.images import read

    beside = uncertainty_path(targets.image)
    has_uncertainty = request.has_uncertainty and opened.restorer.is_probabilistic
    refuse_hopeless(targets, request.overwrite)
    if has_uncertainty:
        refuse_hopeless(replace(targets, image=beside), request.overwrite)
    file = read(targets.source)
    job = job_for(request.settings, file, targets.source)
    result = restore.apply(job, opened, on_progress=on_progress, is_cancelled=is_cancelled)
    if not result.is_complete:
        return None
    if has_uncertainty and result.uncertainty is not None:
        record = result.provenance | {"shows": "scale of the Laplace distribution of every pixel"}
        write_result(beside, result.uncertainty, result.axes, file, record, overwrite=request.overwrite)
    write_record_beside(targets.image, result.provenance)
    # The image comes last: where it is, the rest is complete.
    write_result(
        targets.image, result.image, result.axes, file, result.provenance, overwrite=request.overwrite,
        dtype=request.dtype,
    )  # fmt: skip
    return file.notes + result.warnings
