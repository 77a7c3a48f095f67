"""``cellenhance separate``: one kind of object, or what moves, and what stays."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal, get_args

import typer

from napari_cellenhance.cli import large
from napari_cellenhance.cli.options import (
    AxesInFile,
    Blocks,
    Channels,
    Chunk,
    MemoryLimit,
    OmeZarr,
    Overwrite,
    PixelType,
    Report,
    Sources,
    Target,
)
from napari_cellenhance.cli.words import (
    Debug,
    Device,
    Precision,
    ProgressLine,
    Quiet,
    leave,
    parse_channels,
    remind,
    stoppable,
    tell_outcome,
)
from napari_cellenhance.cli.workers import Scheduler, Workers, cluster_of
from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.postprocess import CleanOptions, Method
from napari_cellenhance.workflows.requests import MEMORY_LIMIT_MB
from napari_cellenhance.workflows.separate import MOVING, SeparateRequest

__all__ = ["separate"]

_SEPARATE = SeparateRequest(image=None, axes="")
_OBJECTS = CleanOptions()


def separate(
    sources: Sources,
    target: Target,
    model: Annotated[str, typer.Option(help="Semantic filter; see 'cellenhance models list'.")],
    axes: AxesInFile = "",
    channels: Channels = "all",
    statistics: Annotated[
        Literal["plane", "stack"], typer.Option(help="Scale each plane, or the whole stack alike (no flicker).")
    ] = _SEPARATE.statistics,
    remainder: Annotated[bool, typer.Option("--remainder", help="Write all else beside it.")] = False,
    background: Annotated[
        bool, typer.Option("--background", help="Write the background, where the model knows it.")
    ] = False,
    unwanted: Annotated[
        bool, typer.Option("--unwanted", help="Write the unwanted objects, where the model knows them.")
    ] = False,
    labels: Annotated[bool, typer.Option("--labels", help="Write the objects as labels.")] = False,
    boxes: Annotated[bool, typer.Option("--boxes", help="Write their boxes as a table.")] = False,
    threshold: Annotated[
        str,
        typer.Option(
            help=f"Of objects: a method ({', '.join(get_args(Method)[:2])}) or a number in the range of the "
            "network. [default: otsu; of what moves 10/255]"
        ),
    ] = "",
    factor: Annotated[float, typer.Option(help="The threshold is multiplied by it.")] = _OBJECTS.threshold_factor,
    openings: Annotated[
        int | None, typer.Option(min=0, help="Erosions, then as many dilations. [default: 3; of what moves 0]")
    ] = None,
    split: Annotated[
        bool | None, typer.Option("--split/--no-split", help="Cut touching objects. [default: yes; what moves: no]")
    ] = None,
    neck: Annotated[
        float,
        typer.Option(
            min=0, max=0.99, help="Objects are cut where they are narrower by this share; 0: between all maxima."
        ),
    ] = _OBJECTS.neck_depth,
    min_size: Annotated[
        int | None, typer.Option(min=0, help="Least size of an object in pixels. [default: 300; of what moves 250]")
    ] = None,
    device: Device = _SEPARATE.device,
    precision: Precision = _SEPARATE.precision,
    tile: Annotated[int | None, typer.Option(min=32, help="Side of a tile, in pixels.")] = None,
    dtype: PixelType = "float32",
    memory_limit: MemoryLimit = MEMORY_LIMIT_MB,
    chunk: Chunk = None,
    ome_zarr: OmeZarr = "0.5",
    blocks: Blocks = False,
    scheduler: Scheduler = "",
    workers: Workers = 0,
    report: Report = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Take images apart: the wanted kind of object, or what moves, goes to OUT."""
    from napari_cellenhance.workflows import separate_files
    from napari_cellenhance.workflows._file_loop import FileOutcome
    from napari_cellenhance.workflows.separate_files import Layer

    asked = {"remainder": remainder, "background": background, "unwanted": unwanted, "labels": labels}
    layers: frozenset[Layer] = frozenset(name for name in separate_files.LAYERS if asked[name])
    settings = SeparateRequest(
        image=None, axes=axes, model_id=model, channels=parse_channels(channels), statistics=statistics,
        objects=_objects(model, threshold, factor, openings, split, neck, min_size), device=device, precision=precision,
        tile_px=tile,
    )  # fmt: skip
    cluster = cluster_of(scheduler, workers)
    if blocks or cluster is not None or large.is_large(sources, target):
        if report is not None:
            raise ParameterError("a report cannot go with blocks or .ome.zarr; leave it out")
        if layers or boxes:
            raise ParameterError(
                "of a large image only what is wanted is written; leave --remainder, --background, --unwanted, "
                "--labels and --boxes out"
            )
        large.grey_large(
            sources, target, settings, step="separate", dtype=dtype, memory_limit_mb=memory_limit,
            chunk_px=chunk, version=ome_zarr, overwrite=overwrite, quiet=quiet, cluster=cluster,
        )  # fmt: skip
        return
    request = separate_files.SeparateFilesRequest(
        source=tuple(sources), target=target, settings=settings, layers=layers, has_boxes=boxes, dtype=dtype,
        overwrite=overwrite,
    )  # fmt: skip
    line = ProgressLine(quiet)

    def tell(outcome: FileOutcome) -> None:
        line.clear()
        tell_outcome(outcome, quiet)

    with line, stoppable() as is_cancelled:
        result = separate_files.run(request, on_progress=line.show, on_outcome=tell, is_cancelled=is_cancelled)
    remind(result.outcomes, quiet)
    if report is not None:
        from napari_cellenhance.io.reports import write_json

        write_json(report, [outcome.to_dict() for outcome in result.outcomes])
    leave(is_stopped=not result.is_complete, is_failed=result.n_failed > 0)


def _objects(
    model: str,
    threshold: str,
    factor: float,
    openings: int | None,
    split: bool | None,
    neck: float,
    min_size: int | None,
) -> CleanOptions | None:
    """Settings for objects, changed from those that suit the model; None where nothing was asked."""
    from napari_cellenhance.workflows.separate import card_of, is_of_movies

    if (
        not threshold
        and (factor, neck) == (_OBJECTS.threshold_factor, _OBJECTS.neck_depth)
        and openings is split is min_size is None
    ):
        return None
    known = MOVING if is_of_movies(card_of(model)) else _OBJECTS
    if threshold in get_args(Method)[:2]:
        known = replace(known, method=threshold)  # type: ignore[arg-type]
    elif threshold:
        try:
            known = replace(known, method="manual", threshold_value=float(threshold))
        except ValueError:
            raise ParameterError(f"--threshold is {threshold!r}; expected otsu, li or a number") from None
    return replace(
        known, threshold_factor=factor, neck_depth=neck, n_openings=known.n_openings if openings is None else openings,
        split_touching=known.split_touching if split is None else split,
        min_size_px=known.min_size_px if min_size is None else min_size,
    )  # fmt: skip
