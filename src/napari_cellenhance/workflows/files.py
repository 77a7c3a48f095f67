"""Enhance files: read, the same enhancement as everywhere, write. The filter is loaded once."""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.workflows._file_loop import (
    FileOutcome,
    FilesResult,
    OnOutcome,
    make_folders,
    no_outcome,
    refuse_hopeless,
    run_each,
)  # fmt: skip
from napari_cellenhance.workflows._file_results import channel_names
from napari_cellenhance.workflows._record_files import write_record_beside
from napari_cellenhance.workflows._targets import Targets, plan
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress
from napari_cellenhance.workflows.requests import (
    BlobOptions,
    EnhanceRequest,
    EnhanceResult,
    SegmentOptions,
    StrengthMap,
)
from napari_cellenhance.workflows.strength_maps import strength_of

if TYPE_CHECKING:
    from napari_cellenhance.io.images import ImageFile
    from napari_cellenhance.workflows.catalog import OpenedFilter

__all__ = ["FileOutcome", "FilesRequest", "FilesResult", "run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesRequest:
    """Enhance one file, all images of a folder, or all that match a pattern.

    Parameters
    ----------
    source : path or tuple of paths
        TIFF, OME-TIFF or PNG file, a folder of such files, or a pattern such as ``plate1/*.tif``.
    target : path
        File for a single source (its ending chooses the format), else a folder, made if missing.
    settings : EnhanceRequest
        How to enhance. Its ``image`` and ``source_name`` are replaced by each file's; ``axes`` too
        where it is empty.
    dtype : "float32", "uint8" or "uint16", optional
        Pixel type of the results; None takes float32 for TIFF and uint8 for PNG, which knows no floats.
    labels, points : path, optional
        Write the segmentation (OME-TIFF) and the blobs (CSV, pixel coordinates) as well; file or folder
        as ``target``.
    strength_map : path, optional
        Image of strengths, or of labels if ``label_strengths`` is given; of a folder, the image of the same name.
    label_strengths : mapping of int to float, optional
        Label → strength.
    strength_edge_px : int
        Width over which regions fade into each other, in pixels.
    overwrite : bool
        Replace results that are there already. The originals are never replaced.
    suggest_contrast : bool
        Look whether the objects of each image are dark after all, and add a note where ``settings`` seem wrong.
    """

    source: str | os.PathLike[str] | tuple[str | os.PathLike[str], ...]
    target: str | os.PathLike[str]
    settings: EnhanceRequest
    dtype: Literal["float32", "uint8", "uint16"] | None = None
    labels: str | os.PathLike[str] | None = None
    points: str | os.PathLike[str] | None = None
    strength_map: str | os.PathLike[str] | None = None
    label_strengths: Mapping[int, float] | None = None
    strength_edge_px: int = 0
    overwrite: bool = False
    suggest_contrast: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in (None, "float32", "uint8", "uint16"):
            raise ParameterError(f"pixel type is {self.dtype!r}; expected float32, uint8 or uint16")
        if self.label_strengths is not None and self.strength_map is None:
            raise ParameterError("strengths of labels came without a strength map; name the image of the labels too")


def run(
    request: FilesRequest,
    *,
    on_progress: OnProgress = no_progress,
    on_outcome: OnOutcome = no_outcome,
    is_cancelled: IsCancelled = never_cancelled,
) -> FilesResult:
    """Enhance every file; one that fails is recorded, and the next one starts.

    Parameters
    ----------
    request : FilesRequest
    on_progress : callable
        Called while a file is worked on; the message begins with the file's name.
    on_outcome : callable
        Called after each file.
    is_cancelled : callable
        A cancelled file leaves nothing behind; earlier results stay.

    Returns
    -------
    FilesResult

    Raises
    ------
    ParameterError
        No such file or folder, or no image in it; results that would replace originals or each other.
    WriteError
        The folder of the results is missing or cannot be made.
    ModelNotFoundError, DownloadError, ChecksumError, DeviceError
        As in :func:`napari_cellenhance.workflows.enhance.run`; nothing was begun.
    """
    planned = plan(request.source, request.target, labels=request.labels, points=request.points)
    settings = _complete(request)
    make_folders((request.target, request.labels, request.points), planned)
    opened = _open(settings, request.strength_map is not None, on_progress) if _has_work(request, planned) else None

    def enhance_one(targets: Targets, report: OnProgress) -> tuple[str, ...] | None:
        return _enhance_file(request, settings, targets, opened, report, is_cancelled)

    return run_each(planned, enhance_one, on_progress=on_progress, on_outcome=on_outcome, is_cancelled=is_cancelled)


def _complete(request: FilesRequest) -> EnhanceRequest:
    """Ask for labels and points where a file for them is asked."""
    settings = request.settings
    if request.labels is not None and settings.segment is None:
        settings = dataclasses.replace(settings, segment=SegmentOptions())
    if request.points is not None and settings.blobs is None:
        settings = dataclasses.replace(settings, blobs=BlobOptions())
    return settings


def _has_work(request: FilesRequest, plan: Sequence[Targets]) -> bool:
    return request.overwrite or any(not path.exists() for targets in plan for path in targets.all)


def _open(settings: EnhanceRequest, has_map: bool, on_progress: OnProgress) -> OpenedFilter | None:
    """Load the filter; strength 0 needs none, but the id must exist all the same."""
    from napari_cellenhance.workflows import catalog

    spec = catalog.describe(settings.filter_id)
    if settings.strength != "auto":
        strength = strength_of(settings, spec)
        if strength == 0 and settings.strength_map is None and not has_map:
            return None
    on_progress(Progress(n_done=0, n_total=0, message=f"Loading {spec.info.title}"))
    return catalog.open_enhancer(
        settings.filter_id, settings.device, settings.precision, memory_limit_mb=settings.memory_limit_mb
    )


def _enhance_file(
    request: FilesRequest,
    settings: EnhanceRequest,
    targets: Targets,
    opened: OpenedFilter | None,
    on_progress: OnProgress,
    is_cancelled: IsCancelled,
) -> tuple[str, ...] | None:
    """Warnings of the run, or None after a cancel."""
    from napari_cellenhance.io.images import read
    from napari_cellenhance.workflows import enhance

    refuse_hopeless(targets, request.overwrite)
    file = read(targets.source)
    job = dataclasses.replace(
        settings, image=file.image, axes=settings.axes or file.axes, source_name=targets.source.name,
        pixel_size_um=file.pixel_size_um, earlier=file.provenance,
    )  # fmt: skip
    if request.strength_map is not None:
        job = dataclasses.replace(job, strength_map=_read_map(request, targets.source))
    _refuse_stack_as_png(targets, job)
    if opened is None:
        result = enhance.run(job, on_progress=on_progress, is_cancelled=is_cancelled)
    else:
        result = enhance.apply(job, opened, on_progress=on_progress, is_cancelled=is_cancelled)
    if not result.is_complete:
        return None
    _write(request, targets, file, result)
    return file.notes + result.warnings + (_contrast_note(job) if request.suggest_contrast else ())


def _read_map(request: FilesRequest, source: Path) -> StrengthMap:
    from napari_cellenhance.io.images import read

    assert request.strength_map is not None
    path = Path(request.strength_map)
    if path.is_dir():
        same = sorted(other for other in path.iterdir() if other.stem.split(".")[0] == source.stem.split(".")[0])
        if len(same) != 1:
            raise ParameterError(
                f"the folder {path} holds {len(same)} strength maps for {source.name}; expected one file of that name"
            )
        path = same[0]
    return StrengthMap(
        values=read(path).image, label_strengths=request.label_strengths, edge_px=request.strength_edge_px,
        name=path.name,
    )  # fmt: skip


def _contrast_note(job: EnhanceRequest) -> tuple[str, ...]:
    """One sentence if the middle plane looks as if the objects had the other contrast; else none."""
    from napari_cellenhance.core.normalize import suggest_dark_objects
    from napari_cellenhance.workflows import _planes

    image = _planes.open_image(job)
    n_t, _, n_z = image.shape[:3]
    is_dark, reason = suggest_dark_objects(image.read((n_t // 2, 0, n_z // 2)))
    if not is_dark or job.objects_are_dark:
        return ()
    return (f"{reason} If they are, enhance them as dark objects (in the terminal: --dark).",)


def _refuse_stack_as_png(targets: Targets, job: EnhanceRequest) -> None:
    from napari_cellenhance.workflows import _planes

    image = _planes.open_image(job)
    n_t, n_c, n_z = image.shape[:3]
    n_planes = n_t * n_z * (1 if "S" in image.axes else n_c)
    for path in targets.all:
        if path.suffix.lower() == ".png" and n_planes > 1:
            raise ImageError(f"PNG holds one plane, the image has {n_planes}; choose a name ending in .ome.tif")


def _write(request: FilesRequest, targets: Targets, file: ImageFile, result: EnhanceResult) -> None:
    """The image comes last: where it is, the rest is complete."""
    from napari_cellenhance.io.images import write

    sizes = {axis: size for axis, size in file.pixel_size_um.items() if axis in result.axes}
    names = channel_names(file, request.settings.channels, result.axes)
    if targets.labels is not None:
        write(
            targets.labels, result.labels, result.axes, pixel_size_um=sizes, channel_names=names,
            provenance=result.provenance, dtype="keep", overwrite=request.overwrite,
        )  # fmt: skip
    if targets.points is not None:
        _write_points(targets.points, result, request.overwrite)
    write_record_beside(targets.image, result.provenance)
    is_png = targets.image.suffix.lower() == ".png"
    write(
        targets.image, result.image, result.axes, pixel_size_um=sizes, channel_names=names,
        # "keep" leaves float32 as it is, and the untouched pixels of strength 0 in their own type.
        provenance=result.provenance, dtype=request.dtype or ("float32" if is_png else "keep"),
        overwrite=request.overwrite,
    )  # fmt: skip


def _write_points(path: Path, result: EnhanceResult, overwrite: bool) -> None:
    """Write ``index, axis-0, axis-1, …, radius_px``: the layout of points that napari opens."""
    from napari_cellenhance.io.safe_write import atomic_path

    assert result.points is not None
    assert result.point_radii_px is not None
    header = ["index", *(f"axis-{axis}" for axis in range(len(result.axes))), "radius_px"]
    with (
        atomic_path(path, overwrite=overwrite) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(header)
        for index, (point, radius) in enumerate(zip(result.points, result.point_radii_px, strict=True)):
            writer.writerow([index, *(float(value) for value in point), float(radius)])
