"""Persistence map of a file: read, sweep, write the map, the objects and their table."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any

from napari_cellenhance.core.errors import ParameterError, TargetExistsError
from napari_cellenhance.workflows.persistence import PersistenceRequest, PersistenceResult
from napari_cellenhance.workflows.persistence import run as sweep
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, never_cancelled, no_progress
from napari_cellenhance.workflows.requests import EnhanceRequest

__all__ = ["PersistenceFileRequest", "run", "table_rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PersistenceFileRequest:
    """What to read, sweep and write.

    Parameters
    ----------
    source, target : path
        Image to read; map to write.
    settings : EnhanceRequest
        As in ``PersistenceRequest``; its image, and axes where empty, come from the file.
    labels, table : path, optional
        OME-TIFF of the objects, CSV with one row per object.
    weakest, strongest, n_strengths
        As in ``PersistenceRequest``.
    overwrite : bool
        Replace results that are there already.
    """

    source: str | os.PathLike[str]
    target: str | os.PathLike[str]
    settings: EnhanceRequest
    labels: str | os.PathLike[str] | None = None
    table: str | os.PathLike[str] | None = None
    weakest: float | None = None
    strongest: float | None = None
    n_strengths: int = 16
    overwrite: bool = False


def run(
    request: PersistenceFileRequest,
    *,
    on_progress: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
) -> PersistenceResult:
    """Sweep the image of a file; after a cancel nothing is written.

    Raises
    ------
    TargetExistsError
        A result is there already; nothing was begun.
    ParameterError
        The result would replace the image.
    CellEnhanceError, OSError
        As in ``workflows.enhance.run`` and ``io.images``.
    """
    from napari_cellenhance.io.images import read, write
    from napari_cellenhance.io.tables import write_table

    for path in (request.target, request.labels, request.table):
        if path is None or not os.path.exists(path):
            continue
        if os.path.samefile(path, request.source):
            raise ParameterError(f"{os.fspath(path)} is the image itself; choose another name for the result")
        if not request.overwrite:
            raise TargetExistsError(f"{os.fspath(path)} exists already; choose another name, or allow overwriting")
    file = read(request.source)
    job = dataclasses.replace(
        request.settings, image=file.image, axes=request.settings.axes or file.axes,
        source_name=os.path.basename(request.source), pixel_size_um=file.pixel_size_um, earlier=file.provenance,
    )  # fmt: skip
    result = sweep(
        PersistenceRequest(
            enhance=job, weakest=request.weakest, strongest=request.strongest, n_strengths=request.n_strengths
        ),
        on_progress=on_progress, is_cancelled=is_cancelled,
    )  # fmt: skip
    if not result.is_complete:
        return result
    sizes = {axis: size for axis, size in file.pixel_size_um.items() if axis in result.axes}
    if request.table is not None and result.n_objects:
        write_table(request.table, table_rows(result), result.provenance, overwrite=request.overwrite)
    for path, pixels in ((request.labels, result.labels), (request.target, result.image)):
        if path is not None:
            write(
                path, pixels, result.axes, pixel_size_um=sizes, provenance=result.provenance, dtype="keep",
                overwrite=request.overwrite,
            )  # fmt: skip
    return result


def table_rows(result: PersistenceResult) -> list[dict[str, Any]]:
    """One mapping per object, for ``io.tables.write_table``."""
    names = list(result.table)
    return [
        dict(zip(names, values, strict=True))
        for values in zip(*(result.table[name].tolist() for name in names), strict=True)
    ]
