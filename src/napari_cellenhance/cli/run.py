"""``cellenhance run``: do with an image, or with many, what was done with another one."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_cellenhance.cli.batch import run_batch
from napari_cellenhance.cli.options import AxesInFile, Overwrite
from napari_cellenhance.cli.words import Debug, Device, Precision, ProgressLine, Quiet, leave, stoppable
from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.workflows.requests import EnhanceRequest

if TYPE_CHECKING:
    from napari_cellenhance.workflows.batch_recipe import Recipe
    from napari_cellenhance.workflows.recipe_files import RecipeFileResult

__all__ = ["run"]

_ENHANCE = EnhanceRequest(image=None, axes="")


def run(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A .recipe.json, a result (.ome.tif, .ome.zarr), or JSON in quotes.")
    ],
    source: Annotated[str, typer.Argument(metavar="IN", help="Image file, folder, or pattern in quotes.")],
    target: Annotated[str, typer.Argument(metavar="OUT", help="File for one image, else a folder.")],
    check: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Compare the pixels with this earlier result of one image.")
    ] = None,
    axes: AxesInFile = "",
    any_weights: Annotated[
        bool, typer.Option("--any-weights", help="Go on where a model has other weights than the recipe names.")
    ] = False,
    overwrite: Overwrite = False,
    device: Device = _ENHANCE.device,
    precision: Precision = _ENHANCE.precision,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Repeat all steps of a recipe, or of a result, on an image or on many."""
    from napari_cellenhance.workflows.batch_recipe import check_weights
    from napari_cellenhance.workflows.recipe_files import RecipeFileRequest, run_file
    from napari_cellenhance.workflows.recipe_run import Machine

    wanted = _read(recipe)
    if not any_weights:
        check_weights(wanted)
    machine = Machine(device=device, precision=precision)
    if _is_many(source, target):
        if check is not None:
            raise ParameterError("--check compares one image; name a file for IN and for OUT")
        if axes:
            wanted = replace(wanted, steps=(replace(wanted.steps[0], axes=axes), *wanted.steps[1:]))
        run_batch(source, target, wanted, machine, overwrite=overwrite, quiet=quiet)
        return
    request = RecipeFileRequest(
        source=source, target=target, recipe=wanted, axes=axes, check=check, any_weights=any_weights,
        overwrite=overwrite, machine=machine,
    )  # fmt: skip
    with ProgressLine(quiet) as line, stoppable() as is_cancelled:
        result = run_file(request, on_progress=line.show, is_cancelled=is_cancelled)
    if result is None:
        leave(is_stopped=True)
    else:
        _tell(result, source, check, is_quiet=quiet)


def _read(text: str) -> Recipe:
    """Recipe out of JSON in the line itself, of a JSON file, or of a result."""
    from napari_cellenhance.io.json_ready import parse_json
    from napari_cellenhance.workflows.batch_recipe import from_result, read_recipe, recipe_of

    if text.lstrip().startswith("{"):
        try:
            return recipe_of(parse_json(text), "the recipe in the command")
        except ValueError as error:
            if isinstance(error, ParameterError):
                raise
            raise ParameterError(f"the recipe in the command is no JSON ({error}); copy it once more") from error
    return read_recipe(text) if text.lower().endswith((".json", ".txt")) else from_result(text)


def _is_many(source: str, target: str) -> bool:
    """Whether OUT is a folder: for several images, or because it is one already."""
    return not Path(source).is_file() or Path(target).is_dir() or target.endswith(("/", os.sep))


def _tell(result: RecipeFileResult, source: str, check: Path | None, *, is_quiet: bool) -> None:
    if not is_quiet:
        for warning in result.warnings:
            typer.echo(f"note: {warning}", err=True)
        typer.echo(", ".join(map(str, result.targets)))
    if check is None or result.comparison is None:
        return
    if result.is_same_input is not None:
        same = "is the very image" if result.is_same_input else "is another image than the one"
        typer.echo(f"{source} {same} that the recipe was made with (SHA-256 of the pixels)")
    typer.echo(result.comparison.sentence(str(check)))
    leave(is_failed=result.comparison.verdict == "different")
