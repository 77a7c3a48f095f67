"""``cellenhance check``: whether a result is true to its image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_cellenhance.cli.profile import parse_plane
from napari_cellenhance.cli.words import (
    Debug,
    Device,
    Json,
    Precision,
    ProgressLine,
    Quiet,
    leave,
    print_json,
    stoppable,
)
from napari_cellenhance.core.errors import ParameterError

if TYPE_CHECKING:
    from napari_cellenhance.workflows.guards import CheckResult

__all__ = ["check"]


def check(
    image: Annotated[Path, typer.Argument(metavar="INPUT", help="The image before: TIFF, OME-TIFF or PNG.")],
    result: Annotated[
        Path | None, typer.Argument(metavar="[RESULT]", help="What was made of it; default: what --model makes.")
    ] = None,
    model: Annotated[str, typer.Option(help="Model or filter. [default: as the result tells]")] = "",
    reruns: Annotated[
        bool, typer.Option("--reruns/--no-reruns", help="Run the model again on turned copies and on halves.")
    ] = True,
    gain: Annotated[float | None, typer.Option(help="Of the camera, in grey values per photon.", min=0.0)] = None,
    offset: Annotated[float, typer.Option(help="Grey value of the camera without light.")] = 0.0,
    dark: Annotated[bool, typer.Option("--dark", help="Objects are dark in the input.")] = False,
    maps: Annotated[Path | None, typer.Option(help="Folder for the maps, as TIFF.")] = None,
    plane: Annotated[str, typer.Option(help="T,C,Z of the plane of stacks, from 0. [default: the middle]")] = "",
    axes: Annotated[str, typer.Option(help="Of both images, such as ZYX. [default: as in the files]")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace maps that are there already.")] = False,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Check whether a result is true to its image: structure in the difference, objects in one only, and more.

    One line for each guard: Fine, Look or Doubt, and why. With a model (named, or known from the record in the
    result) its input is compared with the images of its training, and it is run again on turned copies and on halves.
    """
    from napari_cellenhance.io.json_ready import json_ready
    from napari_cellenhance.workflows._batch_steps import Machine
    from napari_cellenhance.workflows.comparison_figure import read_figured
    from napari_cellenhance.workflows.guards import CheckRequest, to_text
    from napari_cellenhance.workflows.guards import check as run

    if result is None and not model:
        raise ParameterError("name a RESULT to check, or with --model what makes one")
    at = parse_plane(plane)
    before = read_figured(image, axes=axes, plane=at)[0].image
    after = None if result is None else read_figured(result, axes=axes, plane=at)[0]
    request = CheckRequest(
        image=replace(before, objects_are_dark=dark), result=None if after is None else after.image,
        record=None if after is None else after.record, model_id=model, runs_model=reruns, gain=gain or None,
        offset=offset, machine=Machine(device=device, precision=precision),
    )  # fmt: skip
    with ProgressLine(quiet) as line, stoppable() as is_cancelled:
        found = run(request, on_progress=line.show, is_cancelled=is_cancelled)
    written = [] if maps is None else _write_maps(maps, found, overwrite)
    if as_json:
        print_json(json_ready(found.record))
    else:
        typer.echo(to_text(found))
    for path in () if quiet or as_json else written:
        typer.echo(str(path))
    if not found.is_complete:
        leave(is_stopped=True)


def _write_maps(folder: Path, found: CheckResult, overwrite: bool) -> list[Path]:
    from napari_cellenhance.io.images import write
    from napari_cellenhance.io.safe_write import safe_name

    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for one in found.maps:
        path = folder / f"{safe_name(one.name)}.ome.tif"
        record: dict[str, Any] = found.record | {"shows": one.name, "meaning": one.meaning}
        write(path, one.pixels, "YX", provenance=record, dtype="keep", overwrite=overwrite)
        written.append(path)
    return written
