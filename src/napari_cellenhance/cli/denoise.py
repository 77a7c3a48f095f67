"""``cellenhance denoise``: an image file, or all images of a folder, without the noise."""

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
from napari_cellenhance.workflows.denoise import DenoiseRequest
from napari_cellenhance.workflows.requests import MEMORY_LIMIT_MB

__all__ = ["denoise"]

_DENOISE = DenoiseRequest(image=None, axes="")


def denoise(
    sources: Sources,
    target: Target,
    model: Annotated[str, typer.Option(help="Denoiser; see 'cellenhance models list'.")] = _DENOISE.model_id,
    axes: AxesInFile = "",
    channels: Channels = "all",
    statistics: Statistics = _DENOISE.statistics,
    average: Annotated[
        bool, typer.Option("--average", help="Mean over eight turned and flipped versions: slower, a little better.")
    ] = False,
    device: Device = _DENOISE.device,
    precision: Precision = _DENOISE.precision,
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
    """Denoise an image file, or all images of a folder; grey values keep their meaning."""
    from napari_cellenhance.workflows import denoise_files
    from napari_cellenhance.workflows._file_loop import FileOutcome

    settings = DenoiseRequest(
        image=None, axes=axes, model_id=model, channels=parse_channels(channels), statistics=statistics,
        symmetries=8 if average else 1, device=device, precision=precision, tile_px=tile,
    )  # fmt: skip
    cluster = cluster_of(scheduler, workers)
    if blocks or cluster is not None or large.is_large(sources, target):
        if report is not None:
            raise ParameterError("a report cannot go with blocks or .ome.zarr; leave it out")
        large.grey_large(
            sources, target, settings, step="denoise", n_times=settings.symmetries, dtype=dtype,
            memory_limit_mb=memory_limit, chunk_px=chunk, version=ome_zarr, overwrite=overwrite, quiet=quiet,
            cluster=cluster,
        )  # fmt: skip
        return
    request = denoise_files.DenoiseFilesRequest(
        source=tuple(sources), target=target, settings=settings, dtype=dtype, overwrite=overwrite
    )
    line = ProgressLine(quiet)

    def tell(outcome: FileOutcome) -> None:
        line.clear()
        tell_outcome(outcome, quiet)

    with line, stoppable() as is_cancelled:
        result = denoise_files.run(request, on_progress=line.show, on_outcome=tell, is_cancelled=is_cancelled)
    remind(result.outcomes, quiet)
    if report is not None:
        from napari_cellenhance.io.reports import write_json

        write_json(report, [outcome.to_dict() for outcome in result.outcomes])
    leave(is_stopped=not result.is_complete, is_failed=result.n_failed > 0)
