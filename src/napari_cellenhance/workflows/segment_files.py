"""Segment files with a model that learned it: read, segment, write. The model is loaded once."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.workflows import segment_model
from napari_cellenhance.workflows._file_loop import (
    FilesResult,
    OnOutcome,
    make_folders,
    no_outcome,
    refuse_hopeless,
    run_each,
)  # fmt: skip
from napari_cellenhance.workflows._file_results import job_for, write_result
from napari_cellenhance.workflows._record_files import write_record_beside
from napari_cellenhance.workflows._targets import Targets, path_beside, plan
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress
from napari_cellenhance.workflows.segment_model import ModelSegmentation, OpenedSegmenter, SegmentModelRequest

if TYPE_CHECKING:
    from napari_cellenhance.io.images import ImageFile

__all__ = ["SegmentFilesRequest", "run"]

MAPS = ("probabilities", "translated", "filters", "branches", "denoised")


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentFilesRequest:
    """Segment one file, all images of a folder, or all that match a pattern.

    Parameters
    ----------
    source : path or tuple of paths
        TIFF, OME-TIFF or PNG file, a folder of such files, or a pattern such as ``plate1/*.tif``.
    target : path
        File for the main result of a single source, else a folder, made if missing.
    settings : SegmentModelRequest
        How to segment. Its ``image``, ``axes`` (where empty) and ``source_name`` are replaced by each file's; its
        ``outputs`` that are maps are written beside the main result, as ``<name>_probabilities.ome.tif`` and so on, the
        classes, filters or branches along their channels.
    main : "auto", "classes" or "instances"
        What goes to ``target``: the classes, or the numbered objects. "auto": objects where the model was trained to
        find objects (VoidSeg, StarDist), else classes.
    instances : path, optional
        Write the numbered objects as well; file or folder as ``target``.
    overwrite : bool
        Replace results that are there already. The originals are never replaced.
    """

    source: str | os.PathLike[str] | tuple[str | os.PathLike[str], ...]
    target: str | os.PathLike[str]
    settings: SegmentModelRequest
    main: Literal["auto", "classes", "instances"] = "auto"
    instances: str | os.PathLike[str] | None = None
    overwrite: bool = False


def run(
    request: SegmentFilesRequest,
    *,
    on_progress: OnProgress = no_progress,
    on_outcome: OnOutcome = no_outcome,
    is_cancelled: IsCancelled = never_cancelled,
) -> FilesResult:
    """Segment every file; one that fails is recorded, and the next one starts.

    Raises
    ------
    ParameterError
        No such file or folder, or no image in it; results that would replace originals or each other.
    WriteError
        The folder of the results is missing or cannot be made.
    ModelNotFoundError, DownloadError, ChecksumError, DeviceError
        As in :func:`napari_cellenhance.workflows.segment_model.run`; nothing was begun.
    """
    planned = plan(request.source, request.target, labels=request.instances)
    make_folders((request.target, request.instances), planned)
    settings = request.settings
    if request.instances is not None:
        settings = replace(settings, outputs=settings.outputs | {"instances"})
    on_progress(Progress(n_done=0, n_total=0, message=f"Loading {settings.model_id}"))
    opened = segment_model.open_segmenter(
        settings.model_id, settings.device, settings.precision, cache_folder=settings.cache_folder
    )
    if _has_objects(request, opened):
        settings = replace(settings, outputs=settings.outputs | {"instances"})

    def segment_one(targets: Targets, report: OnProgress) -> tuple[str, ...] | None:
        return _segment_file(request, settings, targets, opened, report, is_cancelled)

    return run_each(planned, segment_one, on_progress=on_progress, on_outcome=on_outcome, is_cancelled=is_cancelled)


def _has_objects(request: SegmentFilesRequest, opened: OpenedSegmenter) -> bool:
    """Whether the objects, not the classes, are the main result."""
    return request.main == "instances" or (request.main == "auto" and segment_model.is_of_objects(opened.card))


def _segment_file(
    request: SegmentFilesRequest,
    settings: SegmentModelRequest,
    targets: Targets,
    opened: OpenedSegmenter,
    on_progress: OnProgress,
    is_cancelled: IsCancelled,
) -> tuple[str, ...] | None:
    from napari_cellenhance.io.images import read

    known = segment_model.outputs_of(opened.card)
    maps: list[str] = [name for name in MAPS if name in settings.outputs and name in known]
    beside = {name: path_beside(targets.image, name) for name in maps}
    for path in beside.values():
        refuse_hopeless(replace(targets, image=path), request.overwrite)
    refuse_hopeless(targets, request.overwrite)
    file = read(targets.source)
    job = job_for(settings, file, targets.source)
    result = segment_model.apply(job, opened, on_progress=on_progress, is_cancelled=is_cancelled)
    if not result.is_complete:
        return None
    if maps and "C" in result.axes:
        raise ParameterError("maps of several channels cannot be written; choose one channel, or grey")
    main = result.instances if _has_objects(request, opened) else result.classes
    _write(request, targets, beside, file, result, main)
    return file.notes + result.warnings


def _write(
    request: SegmentFilesRequest,
    targets: Targets,
    beside: dict[str, Path],
    file: ImageFile,
    result: ModelSegmentation,
    main: Any,
) -> None:
    """The main result comes last: where it is, the rest is complete."""
    record, overwrite = result.provenance, request.overwrite
    for name, path in beside.items():
        names = result.names[name]
        write_result(
            path, result.maps[name], "C" + result.axes, file, record, overwrite=overwrite, channel_names=names
        )  # fmt: skip
    if targets.labels is not None and result.instances is not None:
        write_result(targets.labels, result.instances, result.axes, file, record, overwrite=overwrite)
    write_record_beside(targets.image, record)
    write_result(targets.image, main, result.axes, file, record, overwrite=overwrite)
