"""``cellenhance resolution``: by Fourier ring correlation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_cellenhance.cli.options import AxesInFiles, OverwriteFiles, PixelSize, PlaneOfStacks
from napari_cellenhance.cli.profile import parse_plane
from napari_cellenhance.cli.words import Debug, Json, ProgressLine, Quiet, leave, print_json, stoppable
from napari_cellenhance.core.errors import ParameterError, TargetExistsError

if TYPE_CHECKING:
    from napari_cellenhance.workflows.resolution import Resolution

__all__ = ["resolution"]


def resolution(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE…", help="TIFF, OME-TIFF or PNG.")],
    pair: Annotated[
        bool, typer.Option("--pair/--single", help="The two images show one field, each with noise of its own.")
    ] = False,
    pixel_size: PixelSize = None,
    plane: PlaneOfStacks = "",
    axes: AxesInFiles = "",
    csv: Annotated[Path | None, typer.Option(help="Write the table as CSV, a JSON beside it, and NAME_curves.csv.")] = (
        None
    ),
    overwrite: OverwriteFiles = False,
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
