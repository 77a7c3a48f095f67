"""``cellenhance persistence``: how long each object lasts while the strength rises."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_cellenhance.cli.words import (
    Debug,
    Device,
    Precision,
    ProgressLine,
    Quiet,
    leave,
    parse_channels,
    parse_segment,
    stoppable,
)  # fmt: skip
from napari_cellenhance.workflows.requests import EnhanceRequest, SegmentOptions

__all__ = ["persistence"]

_ENHANCE = EnhanceRequest(image=None, axes="")
_SEGMENT = SegmentOptions()


def persistence(
    source: Annotated[Path, typer.Argument(metavar="IN", help="TIFF, OME-TIFF or PNG file.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Persistence map to write (.ome.tif).")],
    model: Annotated[str, typer.Option(help="Model or classical filter to sweep.")] = _ENHANCE.filter_id,
    weakest: Annotated[float | None, typer.Option(help="Begin of the sweep. [default: a tenth of the slider]")] = None,
    strongest: Annotated[float | None, typer.Option(help="End of the sweep. [default: end of the slider]")] = None,
    n_strengths: Annotated[int, typer.Option("--steps", min=2, help="Strengths of the sweep.")] = 16,
    axes: Annotated[str, typer.Option(help="Letters of TCZYX, S for colour. [default: as in the file]")] = "",
    channels: Annotated[str, typer.Option(help="all, grey, or numbers counted from 0, e.g. 0,2.")] = "all",
    dark: Annotated[bool, typer.Option("--dark/--bright", help="Objects are darker than the ground.")] = False,
    labels: Annotated[Path | None, typer.Option(help="Write the objects too; OME-TIFF of labels.")] = None,
    table: Annotated[Path | None, typer.Option(help="Write one row per object too; CSV.")] = None,
    threshold: Annotated[str, typer.Option(help="otsu, li, or a number from 0 to 1.")] = _SEGMENT.method,
    split: Annotated[bool, typer.Option(help="Split touching objects.")] = _SEGMENT.split_touching,
    min_size: Annotated[int, typer.Option(help="Smallest object, in pixels.")] = _SEGMENT.min_size_px,
    device: Device = _ENHANCE.device,
    precision: Precision = _ENHANCE.precision,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that are there already.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show how long each object lasts while the strength rises, to tell faint cells from noise."""
    from napari_cellenhance.workflows import persistence_files

    request = persistence_files.PersistenceFileRequest(
        source=source, target=target, labels=labels, table=table, overwrite=overwrite, weakest=weakest,
        strongest=strongest, n_strengths=n_strengths,
        settings=EnhanceRequest(
            image=None, axes=axes, filter_id=model, channels=parse_channels(channels), objects_are_dark=dark,
            segment=parse_segment(threshold, split, min_size), device=device, precision=precision,
        ),
    )  # fmt: skip
    with ProgressLine(quiet) as line, stoppable() as is_cancelled:
        result = persistence_files.run(request, on_progress=line.show, is_cancelled=is_cancelled)
    if result.is_complete and not quiet:
        typer.echo(result.sentence())
    leave(is_stopped=not result.is_complete)
