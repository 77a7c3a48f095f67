"""``cellenhance batch``: one recipe for a whole plate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from napari_cellenhance.cli.words import (
    Debug,
    Device,
    Precision,
    ProgressLine,
    Quiet,
    complain,
    leave,
    parse_channels,
    parse_segment,
    parse_strength,
    stoppable,
    tell_outcome,
)
from napari_cellenhance.cli.workers import Scheduler, Workers, cluster_of
from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.workflows.requests import EnhanceRequest, SegmentOptions

if TYPE_CHECKING:
    from napari_cellenhance.workflows.batch import BatchOutcome, BatchResult, Machine
    from napari_cellenhance.workflows.batch_recipe import Recipe, Step
    from napari_cellenhance.workflows.cluster import Cluster

__all__ = ["batch"]

# The one declaration of each default is in the requests; an empty one hands them over.
_ENHANCE = EnhanceRequest(image=None, axes="")
_SEGMENT = SegmentOptions()


def batch(
    source: Annotated[
        str, typer.Argument(metavar="IN", help="A folder, a pattern in quotes, or a .txt that lists images.")
    ] = "",
    target: Annotated[str, typer.Argument(metavar="OUT", help="Folder for the results, made if missing.")] = "",
    recipe: Annotated[Path | None, typer.Option(help="JSON file that says what is done with each image.")] = None,
    like: Annotated[Path | None, typer.Option(help="Do it as this result (an image file) was made.")] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "--filter", help="Filter or model; what it is for is done. Again: a further step."),
    ] = None,
    strength: Annotated[str | None, typer.Option(help="Of a filter: how strongly, or auto.")] = None,
    dark: Annotated[bool, typer.Option("--dark", help="Of a filter: objects are darker than the ground.")] = False,
    channels: Annotated[str | None, typer.Option(help="all, grey, or numbers counted from 0, e.g. 0,2.")] = None,
    axes: Annotated[str, typer.Option(help="Letters of TCZYX, S for colour. [default: as in each file]")] = "",
    statistics: Annotated[
        Literal["plane", "stack"] | None, typer.Option(help="Normalise each plane, or the whole stack alike.")
    ] = None,
    labels: Annotated[bool, typer.Option("--labels", help="Number the objects; labels beside each result.")] = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure the objects; a table beside each result.")
    ] = False,
    threshold: Annotated[str, typer.Option(help="Of objects: otsu, li, or a number from 0 to 1.")] = _SEGMENT.method,
    split: Annotated[bool, typer.Option(help="Split touching objects.")] = _SEGMENT.split_touching,
    min_size: Annotated[int, typer.Option(help="Smallest object, in pixels.")] = _SEGMENT.min_size_px,
    dtype: Annotated[
        Literal["float32", "same", "uint8", "uint16"] | None,
        typer.Option(help="Pixel type; same: as the file (grey values), uint8 and uint16: of enhanced images."),
    ] = None,
    write_recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what the options say as a recipe, and end.")
    ] = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Sub-folders too; they are kept.")] = False,
    tables: Annotated[Literal["csv", "parquet"], typer.Option(help="Kind of the tables of objects.")] = "csv",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Do everything anew, and replace results.")] = False,
    device: Device = _ENHANCE.device,
    precision: Precision = _ENHANCE.precision,
    memory: Annotated[
        int, typer.Option(min=200, help="Working memory of one plane, in MB.")
    ] = _ENHANCE.memory_limit_mb,
    scheduler: Scheduler = "",
    workers: Workers = 0,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Apply one recipe to many images; a second run does only what is missing or has changed."""
    from napari_cellenhance.workflows.batch import Machine
    from napari_cellenhance.workflows.batch_recipe import from_result, read_recipe, sentence
    from napari_cellenhance.workflows.batch_recipe import write_recipe as write

    if sum(way is not None for way in (recipe, like, model)) > 1:
        raise ParameterError("the recipe comes from a file, from a result, or from --model; choose one of the three")
    if recipe is not None:
        wanted = read_recipe(recipe)
    elif like is not None:
        wanted = from_result(like)
    else:
        wanted = _from_models(model or [_ENHANCE.filter_id])
    if any(given is not None for given in (strength, channels, statistics)) or dark or axes:
        first = _changed(wanted.steps[0], strength, dark, channels, axes, statistics)
        wanted = replace(wanted, steps=(first, *wanted.steps[1:]))
    wanted = _with_objects(wanted, labels, measure, parse_segment(threshold, split, min_size))
    wanted = wanted if dtype is None else replace(wanted, dtype=dtype)
    if write_recipe is not None:
        typer.echo(f"{write(write_recipe, wanted, overwrite=overwrite)}: {sentence(wanted)}")
        return
    if not (source and target):
        raise ParameterError("IN and OUT are missing; say which images, and the folder for the results")
    machine = Machine(device=device, precision=precision, memory_limit_mb=memory)
    run_batch(
        source, target, wanted, machine, is_recursive=recursive, tables=tables, overwrite=overwrite, quiet=quiet,
        cluster=cluster_of(scheduler, workers),
    )  # fmt: skip


def run_batch(
    source: str,
    target: str,
    recipe: Recipe,
    machine: Machine,
    *,
    is_recursive: bool = False,
    tables: Literal["csv", "parquet"] = "csv",
    overwrite: bool = False,
    quiet: bool = False,
    cluster: Cluster | None = None,
) -> None:
    """Do a recipe with many files, tell what became of each, and end the program with the exit code."""
    from napari_cellenhance.workflows.batch import BatchRequest, run
    from napari_cellenhance.workflows.batch_recipe import sentence

    request = BatchRequest(
        source=source, target=target, recipe=recipe, is_recursive=is_recursive, tables=tables, overwrite=overwrite,
        machine=machine, cluster=cluster,
    )  # fmt: skip
    line = ProgressLine(quiet)

    def tell(outcome: BatchOutcome) -> None:
        line.clear()
        if outcome.state != "skipped":
            tell_outcome(outcome, quiet)

    with line, stoppable() as is_cancelled:
        result = run(request, on_progress=line.show, on_outcome=tell, is_cancelled=is_cancelled)
    _tell_result(result, sentence(recipe), quiet)
    leave(
        is_stopped=not result.is_complete and not result.stopped_by,
        is_failed=result.n_failed > 0 or bool(result.stopped_by),
    )


def _from_models(ids: list[str]) -> Recipe:
    from napari_cellenhance.workflows.batch_recipe import Recipe, step_for_model

    return Recipe(steps=tuple(step_for_model(model_id) for model_id in ids))


def _changed(
    step: Step,
    strength: str | None,
    dark: bool,
    channels: str | None,
    axes: str,
    statistics: Literal["plane", "stack"] | None,
) -> Step:
    """The first step with what was said of it."""
    if channels is not None:
        step = replace(step, channels=parse_channels(channels))
    if statistics is not None:
        step = replace(step, statistics=statistics)
    if axes:
        step = replace(step, axes=axes)
    if strength is None and not dark:
        return step
    if not isinstance(step, EnhanceRequest):
        raise ParameterError("--strength and --dark are for filters, and the first step is a model of another kind")
    return replace(
        step, strength=step.strength if strength is None else parse_strength(strength),
        objects_are_dark=dark or step.objects_are_dark,
    )  # fmt: skip


def _with_objects(wanted: Recipe, labels: bool, measure: bool, options: SegmentOptions) -> Recipe:
    """The recipe with labels and a table where they were asked for; a step that finds objects needs no threshold."""
    if (labels or measure) and not wanted.finds_objects:
        wanted = replace(wanted, labels=options)
    return replace(wanted, measure=True) if measure else wanted


def _tell_result(result: BatchResult, recipe: str, is_quiet: bool) -> None:
    if result.stopped_by:
        complain(f"given up: {result.stopped_by}")
    if is_quiet:
        return
    left = result.n_files - len(result.outcomes)
    parts = [f"{result.n_done} of {result.n_files} files done"]
    parts += [f"{n} {what}" for n, what in ((result.n_skipped, "finished before"), (result.n_failed, "failed")) if n]
    parts += [f"{result.n_doubted} doubtful"] if result.n_doubted else []
    typer.echo(", ".join([*parts, f"{left} not begun"] if left else parts))
    for name, told in (("recipe", recipe), ("report", result.report), ("objects", result.objects)):
        if told is not None:
            typer.echo(f"{name}: {told}")
