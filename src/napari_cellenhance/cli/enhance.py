"""``cellenhance enhance``: an image file, or all images of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from napari_cellenhance.cli import large
from napari_cellenhance.cli.options import Blocks, Chunk, OmeZarr
from napari_cellenhance.cli.words import (
    Debug,
    Device,
    Precision,
    ProgressLine,
    Quiet,
    leave,
    parse_channels,
    parse_segment,
    parse_strength,
    remind,
    stoppable,
    tell_outcome,
)  # fmt: skip
from napari_cellenhance.cli.workers import Scheduler, Workers, cluster_of
from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.workflows.requests import BlobOptions, EnhanceRequest, SegmentOptions

if TYPE_CHECKING:
    from napari_cellenhance.workflows._file_loop import FileOutcome

__all__ = ["enhance"]

_ENHANCE = EnhanceRequest(image=None, axes="")
_SEGMENT = SegmentOptions()
_BLOBS = BlobOptions()


def enhance(
    sources: Annotated[
        list[str], typer.Argument(metavar="IN", help="TIFF, PNG or OME-Zarr file(s), a folder, or a pattern in quotes.")
    ],
    target: Annotated[
        str,
        typer.Argument(metavar="OUT", help="File (.ome.tif, .tif, .png), a folder, or .ome.zarr for a large image."),
    ],
    model: Annotated[str, typer.Option(help="Model or classical filter; see 'cellenhance models list'.")] = (
        _ENHANCE.filter_id
    ),
    strength: Annotated[
        str | None,
        typer.Option(help="How strongly; 0 returns the input, auto asks the image. [default: that of the model]"),
    ] = None,
    strength_map: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Image of strengths by region, or of labels; a folder for many images."),
    ] = None,
    label_strength: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL=STRENGTH", help="The map holds labels; strength of one. Can be given again."),
    ] = None,
    soft_edges: Annotated[int, typer.Option(min=0, help="Width over which regions fade, in pixels.")] = 0,
    axes: Annotated[
        str, typer.Option(help="Letters of TCZYX, S for colour, e.g. ZYX. [default: as in the file]")
    ] = _ENHANCE.axes,
    channels: Annotated[str, typer.Option(help="all, grey, or numbers counted from 0, e.g. 0,2.")] = "all",
    dark: Annotated[
        bool | None, typer.Option("--dark/--bright", help="Objects are darker than the ground. [default: bright]")
    ] = None,
    statistics: Annotated[
        Literal["plane", "stack"], typer.Option(help="Normalise each plane, or the whole stack alike (no flicker).")
    ] = _ENHANCE.statistics,
    device: Device = _ENHANCE.device,
    precision: Precision = _ENHANCE.precision,
    tile: Annotated[
        int | None, typer.Option(min=1, help="Side of a tile, in pixels. [default: what fits the memory]")
    ] = _ENHANCE.tile_px,
    memory_limit: Annotated[
        int, typer.Option(min=100, metavar="MB", help="Memory to keep to; of the whole program for .ome.zarr.")
    ] = _ENHANCE.memory_limit_mb,
    chunk: Chunk = None,
    ome_zarr: OmeZarr = "0.5",
    blocks: Blocks = False,
    scheduler: Scheduler = "",
    workers: Workers = 0,
    dtype: Annotated[
        Literal["float32", "uint8", "uint16"] | None,
        typer.Option(help="Pixel type; integers hold 0…1 as 0…maximum. [default: float32, in PNG uint8]"),
    ] = None,
    labels: Annotated[str | None, typer.Option(help="Segment too; OME-TIFF of labels, a folder, or .ome.zarr.")] = None,
    points: Annotated[str | None, typer.Option(help="Find blobs too; CSV of pixel coordinates, or a folder.")] = None,
    threshold: Annotated[
        str, typer.Option(help="For the labels: otsu, li, or a number from 0 to 1.")
    ] = _SEGMENT.method,
    split: Annotated[bool, typer.Option(help="For the labels: split touching objects.")] = _SEGMENT.split_touching,
    min_size: Annotated[int, typer.Option(help="For the labels: smallest object, in pixels.")] = _SEGMENT.min_size_px,
    radius: Annotated[
        tuple[float, float], typer.Option(help="For the points: smallest and largest radius, in pixels.")
    ] = (_BLOBS.min_radius_px, _BLOBS.max_radius_px),
    report: Annotated[Path | None, typer.Option(help="Write what became of each file to this JSON file.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that are there already.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Enhance an image file, or all images of a folder."""
    from napari_cellenhance.workflows import files

    settings = EnhanceRequest(
        image=None, axes=axes, filter_id=model, strength=parse_strength(strength), channels=parse_channels(channels),
        objects_are_dark=_ENHANCE.objects_are_dark if dark is None else dark, statistics=statistics, device=device,
        precision=precision, tile_px=tile, memory_limit_mb=memory_limit,
        segment=parse_segment(threshold, split, min_size) if labels is not None else None,
        blobs=BlobOptions(min_radius_px=radius[0], max_radius_px=radius[1]) if points is not None else None,
    )  # fmt: skip
    cluster = cluster_of(scheduler, workers)
    if blocks or cluster is not None or large.is_large(sources, target):
        if strength_map is not None or report is not None:
            raise ParameterError("a strength map or a report cannot go with blocks or .ome.zarr; leave them out")
        large.enhance_large(
            sources, target, settings, dtype=dtype, chunk_px=chunk, version=ome_zarr, overwrite=overwrite, quiet=quiet,
            cluster=cluster, labels=labels,
        )  # fmt: skip
        return
    request = files.FilesRequest(
        source=tuple(sources), target=target, settings=settings, dtype=dtype, labels=labels, points=points,
        strength_map=strength_map, label_strengths=_parse_label_strengths(label_strength), strength_edge_px=soft_edges,
        overwrite=overwrite, suggest_contrast=dark is None,
    )  # fmt: skip
    line = ProgressLine(quiet)

    def tell(outcome: FileOutcome) -> None:
        line.clear()
        tell_outcome(outcome, quiet)

    with line, stoppable() as is_cancelled:
        result = files.run(request, on_progress=line.show, on_outcome=tell, is_cancelled=is_cancelled)
    remind(result.outcomes, quiet)
    if report is not None:
        from napari_cellenhance.io.reports import write_json

        write_json(report, [outcome.to_dict() for outcome in result.outcomes])
    if len(result.outcomes) > 1 and not quiet:
        typer.echo(f"{len(result.outcomes) - result.n_failed} of {len(result.outcomes)} files enhanced")
    leave(is_stopped=not result.is_complete, is_failed=result.n_failed > 0)


def _parse_label_strengths(words: list[str] | None) -> dict[int, float] | None:
    """Read ``LABEL=STRENGTH``.

    >>> _parse_label_strengths(["1=8", "2=0"])
    {1: 8.0, 2: 0.0}
    """
    if not words:
        return None
    table: dict[int, float] = {}
    for word in words:
        label, _, strength = word.partition("=")
        try:
            table[int(label)] = float(strength)
        except ValueError:
            raise ParameterError(f"--label-strength is {word!r}; expected LABEL=STRENGTH, for example 1=8") from None
    return table
