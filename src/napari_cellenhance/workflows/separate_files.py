"""Take files apart with a semantic filter: read, separate, write the layers that were asked for. Loaded once."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.workflows import separate
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
from napari_cellenhance.workflows.separate import Box, OpenedSeparator, SeparateRequest, SeparateResult

if TYPE_CHECKING:
    from napari_cellenhance.io.images import ImageFile

__all__ = ["LAYERS", "SeparateFilesRequest", "run"]

Layer = Literal["remainder", "background", "unwanted", "labels"]
LAYERS: tuple[Layer, ...] = ("remainder", "background", "unwanted", "labels")


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparateFilesRequest:
    """Take one file apart, all images of a folder, or all that match a pattern.

    Parameters
    ----------
    source : path or tuple of paths
        TIFF, OME-TIFF or PNG file, a folder of such files, or a pattern such as ``plate1/*.tif``.
    target : path
        File for the wanted layer (of a model of movies: what moves) of a single source, else a folder, made if missing.
        Other layers go beside it, as ``<name>_remainder.ome.tif`` and so on.
    settings : SeparateRequest
        How. Its ``image``, ``axes`` (where empty) and ``source_name`` are replaced by each file's.
    layers : frozenset of str
        Out of "remainder", "background", "unwanted", "labels": what else is written. A layer that the model does not
        know is left out.
    has_boxes : bool
        Write ``<name>_boxes.csv``: time point, plane, label, y0, x0, y1, x1 in pixels.
    dtype : "float32" or "same"
        "same" rounds layers to the pixel type of the file and cuts off what that cannot hold.
    overwrite : bool
        Replace results that are there already. The originals are never replaced.
    """

    source: str | os.PathLike[str] | tuple[str | os.PathLike[str], ...]
    target: str | os.PathLike[str]
    settings: SeparateRequest
    layers: frozenset[Layer] = frozenset()
    has_boxes: bool = False
    dtype: Literal["float32", "same"] = "float32"
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_dtype(self.dtype)
        unknown = sorted(self.layers - set(LAYERS))
        if unknown:
            raise ParameterError(f"there is no layer {unknown[0]!r}; expected some of {', '.join(LAYERS)}")


def run(
    request: SeparateFilesRequest,
    *,
    on_progress: OnProgress = no_progress,
    on_outcome: OnOutcome = no_outcome,
    is_cancelled: IsCancelled = never_cancelled,
) -> FilesResult:
    """Take every file apart; one that fails is recorded, and the next one starts.

    Raises
    ------
    ParameterError
        No such file or folder, or no image in it; results that would replace originals or each other.
    WriteError
        The folder of the results is missing or cannot be made.
    ModelNotFoundError, DownloadError, ChecksumError, DeviceError
        As in :func:`napari_cellenhance.workflows.separate.run`; nothing was begun.
    """
    planned = plan(request.source, request.target)
    make_folders((request.target,), planned)
    taken = {path.resolve() for targets in planned for path in (targets.source, targets.image)}
    for path in (beside for targets in planned for beside in _beside(request, targets).values()):
        if path.resolve() in taken:
            raise ParameterError(f"a layer would replace {path}; choose another name or folder")
    settings = request.settings
    if request.has_boxes or "labels" in request.layers:
        settings = replace(settings, has_objects=True)
    on_progress(Progress(n_done=0, n_total=0, message=f"Loading {settings.model_id}"))
    opened = separate.open_separator(
        settings.model_id, settings.device, settings.precision, cache_folder=settings.cache_folder
    )

    def separate_one(targets: Targets, report: OnProgress) -> tuple[str, ...] | None:
        return _separate_file(request, settings, targets, opened, report, is_cancelled)

    return run_each(planned, separate_one, on_progress=on_progress, on_outcome=on_outcome, is_cancelled=is_cancelled)


def _beside(request: SeparateFilesRequest, targets: Targets) -> dict[str, Path]:
    """Files beside the wanted layer."""
    found: dict[str, Path] = {name: path_beside(targets.image, name) for name in LAYERS if name in request.layers}
    if request.has_boxes:
        image = path_beside(targets.image, "boxes")
        found["boxes"] = image.with_name(image.name.removesuffix(".ome.tif") + ".csv")
    return found


def _separate_file(
    request: SeparateFilesRequest,
    settings: SeparateRequest,
    targets: Targets,
    opened: OpenedSeparator,
    on_progress: OnProgress,
    is_cancelled: IsCancelled,
) -> tuple[str, ...] | None:
    from napari_cellenhance.io.images import read

    beside = _beside(request, targets)
    for path in beside.values():
        refuse_hopeless(replace(targets, image=path), request.overwrite)
    refuse_hopeless(targets, request.overwrite)
    file = read(targets.source)
    job = job_for(settings, file, targets.source)
    result = separate.apply(job, opened, on_progress=on_progress, is_cancelled=is_cancelled)
    if not result.is_complete:
        return None
    for name, path in beside.items():
        if name == "boxes":
            _write_boxes(path, result, request.overwrite)
        else:
            _write_layer(path, name, file, result, request)
    write_record_beside(targets.image, result.provenance)
    # The wanted layer comes last: where it is, the rest is complete.
    _write_layer(targets.image, "target", file, result, request)
    return file.notes + result.warnings


def _write_layer(path: Path, name: str, file: ImageFile, result: SeparateResult, request: SeparateFilesRequest) -> None:
    """Write one layer; nothing where the model does not know it."""
    layer = getattr(result, name)
    if layer is None:
        return
    is_labels = name == "labels"
    write_result(
        path, layer, result.labels_axes if is_labels else result.axes, file, result.provenance | {"shows": name},
        overwrite=request.overwrite, dtype="float32" if is_labels else request.dtype,
    )  # fmt: skip


def _write_boxes(path: Path, result: SeparateResult, overwrite: bool) -> None:
    """Write a table of boxes; of none, its first line."""
    from napari_cellenhance.io.tables import write_table

    rows, columns = [asdict(box) for box in result.boxes], [one.name for one in fields(Box)]
    write_table(path, rows, result.provenance | {"shows": "boxes"}, columns=columns, overwrite=overwrite)
