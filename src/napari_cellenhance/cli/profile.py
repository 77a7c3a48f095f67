"""``cellenhance profile``: grey values of several images along a line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from napari_cellenhance.cli.words import Debug, Json, ProgressLine, Quiet, leave, print_json, stoppable
from napari_cellenhance.core.errors import ParameterError, TargetExistsError
from napari_cellenhance.core.line_profiles import PROMINENCE, Normalization

__all__ = ["parse_line", "parse_plane", "profile"]


def parse_line(text: str) -> tuple[tuple[float, float], ...]:
    """Read points ``y0,x0,y1,x1,…``.

    >>> parse_line("5,0, 5,20.5")
    ((5.0, 0.0), (5.0, 20.5))
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) < 4 or len(numbers) % 2:
        raise ParameterError(f"the line is {text!r}; expected y0,x0,y1,x1 and further points of a path, as numbers")
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def parse_plane(text: str) -> tuple[int, int, int] | None:
    """Read ``T,C,Z``; None for nothing.

    >>> parse_plane("0,0,5"), parse_plane("")
    ((0, 0, 5), None)
    """
    if not text:
        return None
    try:
        t, c, z = (int(part) for part in text.split(","))
    except ValueError:
        raise ParameterError(f"the plane is {text!r}; expected T,C,Z from 0, such as 0,0,5") from None
    return t, c, z


def profile(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE…", help="TIFF, OME-TIFF or PNG; first pixels meet.")],
    line: Annotated[str, typer.Option(help="y0,x0,y1,x1 in px of the first image; more points make a path.")],
    width: Annotated[int, typer.Option(help="Average across the line over so many px.")] = 1,
    reference: Annotated[
        Path | None, typer.Option(help="Clean image that the others are compared with; one of them, or another one.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the profiles as CSV, a JSON beside it, and NAME_peaks.csv.")
    ] = None,
    figure: Annotated[Path | None, typer.Option(help="Draw the profiles as PNG.")] = None,
    grey: Annotated[
        Normalization,
        typer.Option(help="none; range: each 0 to 1; percentiles: 5 and 95 as 0 and 1; fit: to the reference."),
    ] = "none",
    um: Annotated[
        bool, typer.Option("--um/--px", help="The line is in µm, from the centre of the first pixel.")
    ] = False,
    prominence: Annotated[
        float, typer.Option(help="Least rise of a peak above its valleys, as a share of the range of its profile.")
    ] = PROMINENCE,
    plane: Annotated[str, typer.Option(help="T,C,Z of the plane of stacks, from 0.")] = "",
    axes: Annotated[str, typer.Option(help="Of all images, such as ZYX. [default: as in the files]")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there already.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Read grey values of images along one line: peaks, widths, and how they compare with a reference.

    Pixel sizes come from the files, so that images of different pixel size line up.
    """
    from napari_cellenhance.io.json_ready import json_ready
    from napari_cellenhance.workflows import profile_tables as tables
    from napari_cellenhance.workflows.profiles import ProfileRequest, measure_profiles, read_profiled

    points, at = parse_line(line), parse_plane(plane)
    paths = list(dict.fromkeys(images))
    truth = None
    if reference is not None:
        truth = next((i for i, path in enumerate(paths) if _is_same(path, reference)), len(paths))
        paths = paths if truth < len(paths) else [*paths, reference]
    opened, um_per_unit, notes = read_profiled(paths, axes=axes, plane=at)
    if um and um_per_unit is None:
        raise ParameterError("the line is in µm, but no file tells its pixel size; give the line in px")
    steps = (1.0, 1.0) if um else tuple(1 / np.diag(opened[0].to_px))
    request = ProfileRequest(
        images=opened,
        line=tuple((y * float(steps[0]), x * float(steps[1])) for y, x in points),
        width_px=width,
        reference="" if truth is None else opened[truth].name,
        um_per_unit=um_per_unit,
        prominence=prominence,
    )
    with ProgressLine(quiet) as shown, stoppable() as is_cancelled:
        result = measure_profiles(request, on_progress=shown.show, is_cancelled=is_cancelled)
    if not result.is_complete:
        leave(is_stopped=True)
    for target in (out, figure):
        if target is not None and target.exists() and not overwrite:
            raise TargetExistsError(f"{target} exists already; choose another name, or give --overwrite")
    if out is not None:
        tables.save(result, out, grey, overwrite=overwrite)
    if figure is not None:
        tables.save_figure(result, figure, grey, overwrite=overwrite)
    notes = (*notes, *result.notes)
    if as_json:
        rows = {"images": tables.comparison_rows(result), "peaks": tables.peak_rows(result), "notes": notes}
        print_json(json_ready(rows))
    else:
        typer.echo(tables.to_markdown(result))
        for note in () if quiet else notes:
            typer.echo(f"note: {note}", err=True)


def _is_same(path: Path, other: Path) -> bool:
    return os.path.abspath(path) == os.path.abspath(other)
