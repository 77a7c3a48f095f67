"""``cellenhance objects``: a table of the objects of labels, however large."""

from __future__ import annotations

from typing import Annotated

import typer

from napari_cellenhance.cli.options import Overwrite
from napari_cellenhance.cli.words import Debug, ProgressLine, Quiet, leave, stoppable
from napari_cellenhance.core.errors import ParameterError

__all__ = ["objects"]


def objects(
    labels: Annotated[str, typer.Argument(metavar="LABELS", help="OME-Zarr or TIFF of labels, of any size.")],
    target: Annotated[str, typer.Argument(metavar="OUT", help="Table to write (.csv, .parquet).")],
    image: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="Measure grey values of this image too; can be given again."),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Measure the objects of labels, however large the image is."""
    from napari_cellenhance.workflows import large_tables

    images = {}
    for word in image or ():
        name, _, path = word.partition("=")
        if not (name and path):
            raise ParameterError(f"--image is {word!r}; expected NAME=FILE, for example raw=sheet.ome.zarr")
        images[name] = path
    request = large_tables.LargeTableRequest(labels=labels, images=images, target=target, overwrite=overwrite)
    with ProgressLine(quiet) as line, stoppable() as is_cancelled:
        result = large_tables.run(request, on_progress=line.show, is_cancelled=is_cancelled)
    if not quiet:
        for warning in result.warnings:
            typer.echo(f"note: {warning}", err=True)
        if result.is_complete:
            typer.echo(f"{result.n_objects} objects: {result.target}")
    leave(is_stopped=not result.is_complete)
