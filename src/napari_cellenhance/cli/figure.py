"""``cellenhance figure``: images before and after for a paper."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from napari_cellenhance.cli.options import AxesInFiles, OverwriteFiles, PixelSize, PlaneOfStacks
from napari_cellenhance.cli.profile import parse_plane
from napari_cellenhance.cli.words import Debug, ProgressLine, Quiet, leave, stoppable
from napari_cellenhance.core.errors import ParameterError, TargetExistsError

if TYPE_CHECKING:
    from napari_cellenhance.workflows.comparison_figure import FigureRequest

__all__ = ["figure"]


def figure(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="BEFORE AFTER… OUT", help="Images (TIFF, PNG), and the figure: .png, .pdf or .svg."),
    ],
    difference: Annotated[
        Literal["fitted", "plain", "none"],
        typer.Option(help="Draw after − before: after the best scaling and shift, as stored, or not at all."),
    ] = "fitted",
    background: Annotated[Literal["white", "black"], typer.Option(help="Of the figure.")] = "white",
    pixel_size: PixelSize = None,
    plane: PlaneOfStacks = "",
    axes: AxesInFiles = "",
    csv: Annotated[
        Path | None, typer.Option(help="Write contrast, SNR, FRC and more of each image as CSV, and a JSON beside it.")
    ] = None,
    mask: Annotated[Path | None, typer.Option(help="For --csv: labels of the objects.")] = None,
    reference: Annotated[Path | None, typer.Option(help="For --csv: clean image, for PSNR, SSIM and MAE.")] = None,
    overwrite: OverwriteFiles = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Draw images before and after beside each other: scale bar, grey values, and how each was made.

    What a picture says of its making is read from the files that this program wrote.
    """
    from napari_cellenhance.workflows.comparison_figure import FigureRequest, draw, read_figured

    if len(files) < 3:
        raise ParameterError(f"{len(files)} file(s) were named; expected BEFORE, one or more AFTER, and OUT")
    if csv is None and (mask is not None or reference is not None):
        raise ParameterError("--mask and --reference are for the numbers; say with --csv where to write them")
    at = parse_plane(plane)
    opened, sizes = zip(*(read_figured(path, axes=axes, plane=at) for path in files[:-1]), strict=True)
    pixel_um = (pixel_size, pixel_size) if pixel_size else next(filter(None, sizes), None)
    request = FigureRequest(
        before=opened[0], after=opened[1:], pixel_um=pixel_um, background=background,
        difference=None if difference == "none" else difference,
    )  # fmt: skip
    if csv is not None and csv.exists() and not overwrite:
        raise TargetExistsError(f"{csv} exists already; choose another name, or give --overwrite")
    written = draw(request, files[-1], overwrite=overwrite)
    if csv is not None:
        written += _write_numbers(request, csv, mask, reference, axes=axes, overwrite=overwrite, quiet=quiet)
    if not quiet:
        for path in written:
            typer.echo(str(path))


def _write_numbers(
    request: FigureRequest, csv: Path, mask: Path | None, reference: Path | None, *, axes: str, overwrite: bool,
    quiet: bool,
) -> tuple[Path, ...]:  # fmt: skip
    from napari_cellenhance.io.json_ready import json_ready
    from napari_cellenhance.io.tables import write_table
    from napari_cellenhance.workflows.compare_numbers import NumbersRequest, measure_numbers
    from napari_cellenhance.workflows.comparison_figure import read_figured

    def image(path: Path | None) -> Any:
        plane = request.before.image.at
        return None if path is None else read_figured(path, axes=axes, plane=plane)[0].image

    asked = NumbersRequest(
        before=request.before.image, after=tuple(each.image for each in request.after), pixel_um=request.pixel_um,
        labels=image(mask), reference=image(reference),
    )  # fmt: skip
    with ProgressLine(quiet) as line, stoppable() as is_cancelled:
        result = measure_numbers(asked, on_progress=line.show, is_cancelled=is_cancelled)
    if not result.is_complete:
        leave(is_stopped=True)
    for note in () if quiet else result.notes:
        typer.echo(f"note: {note}", err=True)
    return write_table(csv, result.rows, json_ready(result.record), overwrite=overwrite)
