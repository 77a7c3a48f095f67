"""``cellenhance figure``: images before and after for a paper; ``cellenhance resolution``: FRC."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from napari_cellenhance.cli.profile import parse_plane
from napari_cellenhance.cli.words import Debug, Json, ProgressLine, Quiet, leave, print_json, stoppable
from napari_cellenhance.core.errors import ParameterError, TargetExistsError

if TYPE_CHECKING:
    from napari_cellenhance.workflows.comparison_figure import FigureRequest
    from napari_cellenhance.workflows.resolution import Resolution

__all__ = ["figure", "resolution"]

PixelSize = Annotated[
    float | None, typer.Option(help="Side of a pixel in µm, where the files do not tell it.", min=0.0)
]
Plane = Annotated[str, typer.Option(help="T,C,Z of the plane of stacks, from 0.")]
Axes = Annotated[str, typer.Option(help="Of all images, such as ZYX. [default: as in the files]")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that are there already.")]


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
    plane: Plane = "",
    axes: Axes = "",
    csv: Annotated[
        Path | None, typer.Option(help="Write contrast, SNR, FRC and more of each image as CSV, and a JSON beside it.")
    ] = None,
    mask: Annotated[Path | None, typer.Option(help="For --csv: labels of the objects.")] = None,
    reference: Annotated[Path | None, typer.Option(help="For --csv: clean image, for PSNR, SSIM and MAE.")] = None,
    overwrite: Overwrite = False,
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


def resolution(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE…", help="TIFF, OME-TIFF or PNG.")],
    pair: Annotated[
        bool, typer.Option("--pair/--single", help="The two images show one field, each with noise of its own.")
    ] = False,
    pixel_size: PixelSize = None,
    plane: Plane = "",
    axes: Axes = "",
    csv: Annotated[Path | None, typer.Option(help="Write the table as CSV, a JSON beside it, and NAME_curves.csv.")] = (
        None
    ),
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Tell the resolution by Fourier ring correlation (threshold 1/7), in px and µm.

    A single image is split in halves of every second pixel; that needs noise of its own in each pixel, which filtered
    images do not have. Two images of one field need no such care: --pair.
    """
    from napari_cellenhance.io.json_ready import json_ready
    from napari_cellenhance.io.tables import write_table
    from napari_cellenhance.workflows import resolution as frc
    from napari_cellenhance.workflows.comparison_figure import read_figured

    if pair and len(images) != 2:
        raise ParameterError(f"{len(images)} image(s) were named with --pair; expected two of one field")
    at = parse_plane(plane)
    opened = [read_figured(path, axes=axes, plane=at) for path in images]

    def pixel(known: tuple[float, float] | None) -> tuple[float, float] | None:
        return (pixel_size, pixel_size) if pixel_size else known

    requests = [frc.ResolutionRequest(image=each.image, pixel_um=pixel(known)) for each, known in opened]
    if pair:
        first, second = requests
        requests = [frc.ResolutionRequest(image=first.image, second=second.image, pixel_um=first.pixel_um)]
    curves = None if csv is None else csv.with_name(f"{csv.stem}_curves.csv")
    for target in (csv, curves):
        if target is not None and target.exists() and not overwrite:
            raise TargetExistsError(f"{target} exists already; choose another name, or give --overwrite")
    with ProgressLine(quiet) as line, stoppable() as is_cancelled:
        found = [frc.measure(request, on_progress=line.show, is_cancelled=is_cancelled) for request in requests]
    if not all(each.is_complete for each in found):
        leave(is_stopped=True)
    record = frc.record(requests)
    if csv is not None and curves is not None:
        write_table(csv, frc.to_rows(found), json_ready(record), overwrite=overwrite)
        write_table(curves, frc.curve_rows(found), overwrite=overwrite)
    if as_json:
        print_json(json_ready({"rows": frc.to_rows(found), "notes": record["notes"]}))
        return
    for each in found:
        typer.echo(_sentence(each))
    for note in () if quiet else record["notes"]:
        typer.echo(f"note: {note}", err=True)


def _sentence(found: Resolution) -> str:
    px = found.resolution_px
    if px != px:
        return f"{found.layer}: no structure that both halves share"
    mark = "≤ " if found.n_at_limit * 2 > len(found.curves) else ""
    um = "" if found.pixel_um is None else f" = {found.resolution_um:.3g} µm"
    planes = "" if len(found.curves) == 1 else f" (median of {len(found.curves)} planes)"
    return f"{found.layer}: {mark}{px:.3g} px{um}{planes}"
