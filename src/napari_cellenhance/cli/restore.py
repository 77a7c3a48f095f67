"""``cellenhance restore``: images by a restoration that was learned."""

from __future__ import annotations

from typing import Annotated

import typer

from napari_cellenhance.cli import large
from napari_cellenhance.cli.options import (
    AxesInFile,
    Blocks,
    Channels,
    Chunk,
    MemoryLimit,
    OmeZarr,
    Overwrite,
    PixelType,
    Report,
    Sources,
    Statistics,
    Target,
    Tile,
)
from napari_cellenhance.cli.words import (
    Debug,
    Device,
    Precision,
    ProgressLine,
    Quiet,
    leave,
    parse_channels,
    remind,
    stoppable,
    tell_outcome,
)
from napari_cellenhance.cli.workers import Scheduler, Workers, cluster_of
from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.workflows.requests import MEMORY_LIMIT_MB
from napari_cellenhance.workflows.restore import RestoreRequest

__all__ = ["restore"]

_RESTORE = RestoreRequest(image=None, axes="")


def restore(
    sources: Sources,
    target: Target,
    model: Annotated[str, typer.Option(help="Restoration model; see 'cellenhance models list'.")],
    axes: AxesInFile = "",
    channels: Channels = "all",
    statistics: Statistics = _RESTORE.statistics,
    repeats: Annotated[
        int, typer.Option(min=1, max=3, help="Apply again to the result: sharper, but noise may become structure.")
    ] = _RESTORE.repeats,
    uncertainty: Annotated[bool, typer.Option(help="Write the uncertainty of every pixel beside the image.")] = True,
    device: Device = _RESTORE.device,
    precision: Precision = _RESTORE.precision,
    tile: Tile = None,
    dtype: PixelType = "float32",
    memory_limit: MemoryLimit = MEMORY_LIMIT_MB,
    chunk: Chunk = None,
    ome_zarr: OmeZarr = "0.5",
    blocks: Blocks = False,
    scheduler: Scheduler = "",
    workers: Workers = 0,
    report: Report = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Restore an image file, or all images of a folder, with an uncertainty for every pixel."""
    from napari_cellenhance.workflows import restore_files
    from napari_cellenhance.workflows._file_loop import FileOutcome

    settings = RestoreRequest(
        image=None, axes=axes, model_id=model, channels=parse_channels(channels), statistics=statistics,
        repeats=repeats, device=device, precision=precision, tile_px=tile,
    )  # fmt: skip
    cluster = cluster_of(scheduler, workers)
    if blocks or cluster is not None or large.is_large(sources, target):
        if report is not None:
            raise ParameterError("a report cannot go with blocks or .ome.zarr; leave it out")
        large.grey_large(
            sources, target, settings, step="restore", n_times=repeats, has_uncertainty=uncertainty, dtype=dtype,
            memory_limit_mb=memory_limit, chunk_px=chunk, version=ome_zarr, overwrite=overwrite, quiet=quiet,
            cluster=cluster,
        )  # fmt: skip
        return
    request = restore_files.RestoreFilesRequest(
        source=tuple(sources), target=target, settings=settings, dtype=dtype, has_uncertainty=uncertainty,
        overwrite=overwrite,
    )  # fmt: skip
    line = ProgressLine(quiet)

    def tell(outcome: FileOutcome) -> None:
        line.clear()
        tell_outcome(outcome, quiet)

    with line, stoppable() as is_cancelled:
        result = restore_files.run(request, on_progress=line.show, on_outcome=tell, is_cancelled=is_cancelled)
    remind(result.outcomes, quiet)
    if report is not None:
        from napari_cellenhance.io.reports import write_json

        write_json(report, [outcome.to_dict() for outcome in result.outcomes])
    leave(is_stopped=not result.is_complete, is_failed=result.n_failed > 0)
