"""``cellenhance evaluate semantic``: on crops put together to images whose parts are known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_cellenhance.cli.options import DataRoot, ResultFolder, StepsOfEach, TrainDevice, ValidateEvery
from napari_cellenhance.cli.words import (
    Debug,
    Precision,
    ProgressLine,
    Quiet,
    leave,
    parse_whole,
    parse_words,
    stoppable,
)
from napari_cellenhance.workflows.evaluate_semantic import EvaluateSemanticRequest

__all__ = ["evaluate_semantic"]

_EVALUATE = EvaluateSemanticRequest()


def evaluate_semantic(
    data: Annotated[Path, typer.Argument(help="JSON list of objects, channels and scenes.")],
    out: ResultFolder,
    data_root: DataRoot = None,
    parts: Annotated[str, typer.Option(help=f"Out of {', '.join(_EVALUATE.parts)}; between commas.")] = ",".join(
        _EVALUATE.parts
    ),
    methods: Annotated[str, typer.Option(help=f"Out of {', '.join(_EVALUATE.methods)}; between commas.")] = ",".join(
        _EVALUATE.methods
    ),
    movie: Annotated[
        list[Path] | None, typer.Option(help="A real movie to look at; again for more. It gets no scores.")
    ] = None,
    axes: Annotated[
        str, typer.Option(help="Of real movies: letters of TCZYX, S for colour. [default: as in each file]")
    ] = (_EVALUATE.movie_axes),
    crops: Annotated[str, typer.Option(help="Crops of each kind, several for a curve: 5,10,25,50,100.")] = ",".join(
        map(str, _EVALUATE.crops)
    ),
    seeds: Annotated[str, typer.Option(help="Each draws other crops and weights: 0,1,2.")] = ",".join(
        map(str, _EVALUATE.seeds)
    ),
    max_images: Annotated[int, typer.Option(min=0, help="Labelled images read of each source; 0: all.")] = (
        _EVALUATE.max_images
    ),
    scene: Annotated[int, typer.Option(min=32, help="Side of images to test on, in pixels.")] = _EVALUATE.scene_px,
    patch: Annotated[int, typer.Option(min=32, help="Side of images to learn from, a multiple of 32.")] = (
        _EVALUATE.patch_px
    ),
    tests: Annotated[int, typer.Option(min=1, help="Images to test on, of each degree of overlap.")] = (
        _EVALUATE.n_test
    ),
    frames: Annotated[int, typer.Option(min=3, help="Frames of a movie.")] = _EVALUATE.n_frames,
    lag: Annotated[int, typer.Option(min=1, help="Frames between the two of a pair.")] = _EVALUATE.lag,
    steps: StepsOfEach = _EVALUATE.n_steps,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per update.")] = _EVALUATE.batch_size,
    learning_rate: Annotated[float, typer.Option(help="Of Adam.")] = _EVALUATE.learning_rate,
    width: Annotated[int, typer.Option(min=1, help="Maps of the filter; 48 as published, less is faster.")] = (
        _EVALUATE.width
    ),
    validate_every: ValidateEvery = (_EVALUATE.validate_every),
    device: TrainDevice = _EVALUATE.device,
    precision: Precision = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Score the semantic filter where the truth is exact, beside other ways; Ctrl-C keeps what is done."""
    from napari_cellenhance.workflows.evaluate_semantic import run, to_markdown

    request = EvaluateSemanticRequest(
        data=data, out=out, data_root=data_root, parts=parse_words(parts), methods=parse_words(methods),
        movies=tuple(movie or ()), movie_axes=axes, crops=parse_whole(crops, "--crops"),
        seeds=parse_whole(seeds, "--seeds"), max_images=max_images, scene_px=scene, patch_px=patch,
        n_test=tests, n_frames=frames, lag=lag, n_steps=steps,
        batch_size=batch_size, learning_rate=learning_rate, width=width, validate_every=validate_every, device=device,
        precision=precision,
    )  # fmt: skip
    with ProgressLine(quiet) as line, stoppable() as is_cancelled:
        result = run(request, on_progress=line.show, is_cancelled=is_cancelled)
    if not quiet and result.rows:
        typer.echo(to_markdown(result))
    leave(is_stopped=not result.is_complete)
