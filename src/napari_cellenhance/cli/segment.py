"""``cellenhance segment``: objects or classes by a model that learned them."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from napari_cellenhance.cli import large
from napari_cellenhance.cli.options import AxesInFile, Overwrite, Report, Sources, Tile
from napari_cellenhance.cli.words import (
    Debug,
    Device,
    Precision,
    ProgressLine,
    Quiet,
    leave,
    parse_channels,
    stoppable,
    tell_outcome,
)  # fmt: skip
from napari_cellenhance.cli.workers import Scheduler, Workers, cluster_of
from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.workflows.segment_model import InstanceOptions, SegmentModelRequest

__all__ = ["segment"]

_SEGMENT = SegmentModelRequest(image=None, axes="")
_INSTANCES = InstanceOptions()


def segment(
    sources: Sources,
    target: Annotated[
        str, typer.Argument(metavar="OUT", help="File of the result (.ome.tif), or a folder, made if missing.")
    ],
    model: Annotated[str, typer.Option(help="Segmenting model; see 'cellenhance models list'.")] = "aep-nuclei",
    output: Annotated[
        Literal["auto", "classes", "instances"],
        typer.Option(help="What OUT is; auto: the objects of models that find objects, else the classes."),
    ] = "auto",
    instances: Annotated[
        str | None, typer.Option(help="Number the objects too; OME-TIFF of labels, or a folder.")
    ] = None,
    method: Annotated[
        Literal["auto", "components", "watershed"],
        typer.Option(help="Objects: what hangs together, or also cut at its necks; auto: as suits the model."),
    ] = _INSTANCES.method,
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Probability of an object. [default: as the training chose it]"),
    ] = None,
    grow: Annotated[int, typer.Option(min=0, help="VoidSeg: grow objects into borders, in pixels.")] = (
        _INSTANCES.grow_px
    ),
    object_class: Annotated[int, typer.Option(min=1, help="Class of the objects.")] = _INSTANCES.object_value,
    min_size: Annotated[int, typer.Option(min=0, help="Smallest object, in pixels.")] = _INSTANCES.min_size_px,
    also: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MAP", help="Write probabilities, translated, filters, branches or denoised too. Repeatable."
        ),
    ] = None,
    axes: AxesInFile = "",
    channels: Annotated[str, typer.Option(help="grey, or numbers counted from 0, e.g. 0.")] = "grey",
    statistics: Annotated[
        Literal["plane", "stack"], typer.Option(help="Normalise each plane, or the whole stack alike.")
    ] = _SEGMENT.statistics,
    device: Device = _SEGMENT.device,
    precision: Precision = _SEGMENT.precision,
    tile: Tile = None,
    memory_limit: Annotated[
        int, typer.Option(min=100, metavar="MB", help="For .ome.zarr: memory of the whole program to keep to.")
    ] = 2000,
    chunk: Annotated[int | None, typer.Option(help="For .ome.zarr: side of a chunk, in pixels. [default: 512]")] = None,
    scheduler: Scheduler = "",
    workers: Workers = 0,
    report: Report = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Segment an image file, or all images of a folder, with a model that learned it."""
    from napari_cellenhance.workflows import segment_files
    from napari_cellenhance.workflows._file_loop import FileOutcome

    maps = tuple(also or ())
    if unknown := sorted(set(maps) - set(segment_files.MAPS)):
        raise ParameterError(f"--also is {unknown[0]!r}; expected some of: {', '.join(segment_files.MAPS)}")
    settings = SegmentModelRequest(
        image=None, axes=axes, model_id=model, outputs=frozenset({"classes", *maps}),
        instances=InstanceOptions(
            method=method, min_size_px=min_size, object_value=object_class, threshold=threshold, grow_px=grow
        ),
        channels=parse_channels(channels), statistics=statistics, device=device, precision=precision, tile_px=tile,
    )  # fmt: skip
    cluster = cluster_of(scheduler, workers)
    if cluster is not None or large.is_large(sources, target):
        if maps or report is not None:
            raise ParameterError("maps (--also) and a report cannot go with .ome.zarr; leave them out")
        large.segment_large(
            sources, target, settings, output=output, instances=instances, memory_limit_mb=memory_limit,
            chunk_px=chunk, overwrite=overwrite, quiet=quiet, cluster=cluster,
        )  # fmt: skip
        return
    request = segment_files.SegmentFilesRequest(
        source=tuple(sources), target=target, settings=settings, main=output, instances=instances, overwrite=overwrite
    )
    line = ProgressLine(quiet)

    def tell(outcome: FileOutcome) -> None:
        line.clear()
        tell_outcome(outcome, quiet)

    with line, stoppable() as is_cancelled:
        result = segment_files.run(request, on_progress=line.show, on_outcome=tell, is_cancelled=is_cancelled)
    if report is not None:
        from napari_cellenhance.io.reports import write_json

        write_json(report, [outcome.to_dict() for outcome in result.outcomes])
    leave(is_stopped=not result.is_complete, is_failed=result.n_failed > 0)
