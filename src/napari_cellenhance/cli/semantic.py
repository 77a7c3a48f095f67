"""``cellenhance train semantic``, ``evaluate semantic``, ``separate``: keep one kind of object, or what stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from napari_cellenhance.cli import large
from napari_cellenhance.cli.options import (
    AxesInFile,
    Blocks,
    Channels,
    Chunk,
    DataRoot,
    MemoryLimit,
    OmeZarr,
    Overwrite,
    PixelType,
    Report,
    ResultFolder,
    Sources,
    StepsOfEach,
    Target,
    TrainDevice,
    ValidateEvery,
)
from napari_cellenhance.cli.words import (
    Debug,
    Device,
    Precision,
    ProgressLine,
    Quiet,
    leave,
    parse_channels,
    parse_settings,
    parse_whole,
    parse_words,
    remind,
    stoppable,
    tell_outcome,
)
from napari_cellenhance.cli.workers import Scheduler, Workers, cluster_of
from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.postprocess import CleanOptions, Method
from napari_cellenhance.core.synthetic_pairs import PRESETS
from napari_cellenhance.workflows.evaluate_semantic import EvaluateSemanticRequest
from napari_cellenhance.workflows.requests import MEMORY_LIMIT_MB
from napari_cellenhance.workflows.separate import MOVING, SeparateRequest
from napari_cellenhance.workflows.train_semantic import SemanticRequest, of_preset

__all__ = ["evaluate_semantic", "separate", "train_semantic"]

# The one declaration of each default is in the requests; an empty one hands them over.
_TRAIN = SemanticRequest(data="", out="")
_SEPARATE = SeparateRequest(image=None, axes="")
_OBJECTS = CleanOptions()
_EVALUATE = EvaluateSemanticRequest()


def train_semantic(
    data: Annotated[Path | None, typer.Argument(metavar="[CROPS]", help="Folder of crops.", show_default=False)] = None,
    *,
    out: Annotated[Path, typer.Option(help="Folder for weights, card, curves and a picture; made if missing.")],
    movie: Annotated[
        Path | None, typer.Option(help="Instead of crops: a movie, a folder of movies, or a pattern in quotes.")
    ] = None,
    lag: Annotated[int, typer.Option(min=1, help="Of a movie: frames between the two of a pair.")] = _TRAIN.lag,
    polarity: Annotated[
        Literal["auto", "dark", "bright", "both"], typer.Option(help="Of what moves in a movie.")
    ] = _TRAIN.polarity,
    axes: Annotated[str, typer.Option(help="Of movies: letters of TCZYX, S for colour. [default: as in each file]")] = (
        _TRAIN.axes
    ),
    channels: Annotated[str, typer.Option(help="Of movies: all (together), grey, or numbers from 0, e.g. 0,2.")] = (
        "grey"
    ),
    swap: Annotated[bool, typer.Option("--swap", help="Keep what the crops call unwanted.")] = _TRAIN.is_swapped,
    preset: Annotated[
        str, typer.Option(help=f"Settings that belong together, updates included: {', '.join(PRESETS)}.")
    ] = _TRAIN.preset,
    scaling: Annotated[
        Literal["auto", "p99", "fixed", "log"],
        typer.Option(help="Grey values to the network: by P99 of each image, a range for all, or its logarithm."),
    ] = _TRAIN.scaling,
    low: Annotated[float | None, typer.Option(help="Grey value that becomes 0. [default: measured]")] = None,
    high: Annotated[float | None, typer.Option(help="Grey value that becomes 1. [default: measured]")] = None,
    complement: Annotated[
        bool, typer.Option("--complement", help="Dark objects on a bright ground, as in bright field.")
    ] = _TRAIN.is_complement,
    apart: Annotated[
        bool, typer.Option("--apart", help="Learn background and unwanted objects as layers of their own, too.")
    ] = False,
    colour: Annotated[
        bool, typer.Option("--colour", help="Crops are colours of transmitted light: multiply layers.")
    ] = False,
    model_id: Annotated[str, typer.Option("--id", help="Name of the model in files and commands.")] = _TRAIN.model_id,
    title: Annotated[str, typer.Option(help="Name of the model as people read it.")] = _TRAIN.title,
    init_from: Annotated[str | None, typer.Option(help="Semantic filter to start from.")] = _TRAIN.init_from,
    loss: Annotated[
        Literal["l1", "smooth_l1", "smooth_l1_beta1"],
        typer.Option(help="l1 and smooth_l1 learn the median of what may be, smooth_l1_beta1 the mean."),
    ] = _TRAIN.loss,
    width: Annotated[int, typer.Option(min=1, help="Maps of the network; 48 as published.")] = _TRAIN.width,
    patch: Annotated[int, typer.Option(min=32, help="Of a movie: side of a patch, in pixels.")] = _TRAIN.patch_px,
    aside: Annotated[float, typer.Option(help="Share of the images that is kept aside.")] = _TRAIN.validation_fraction,
    steps: Annotated[
        int | None, typer.Option(min=0, help="Updates; 0 takes as many as fit into --time. [default: of the preset]")
    ] = None,
    time: Annotated[float, typer.Option(min=0, help="With --steps 0: seconds the training may take.")] = (
        _TRAIN.time_limit_s
    ),
    batch_size: Annotated[int | None, typer.Option(min=1, help="Pairs per update. [default: of the preset]")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of Adam. [default: of the preset]")] = None,
    schedule: Annotated[
        Literal["plateau", "cosine", "constant"], typer.Option(help="Of the learning rate.")
    ] = _TRAIN.schedule,
    validate_every: Annotated[int, typer.Option(min=1, help="Updates between validations.")] = _TRAIN.validate_every,
    patience: Annotated[int, typer.Option(min=0, help="Stop after so many validations without gain; 0: never.")] = (
        _TRAIN.patience
    ),
    average: Annotated[float, typer.Option(help="Decay of the running average of the weights; 0: none.")] = (
        _TRAIN.average
    ),
    keep: Annotated[Literal["best", "last"], typer.Option(help="Weights to keep, by validation.")] = _TRAIN.keep,
    seed: Annotated[int, typer.Option(min=0, help="Of all random numbers.")] = _TRAIN.seed,
    device: Annotated[str, typer.Option(help="Where to train: cpu, cuda or auto.")] = _TRAIN.device,
    precision: Precision = "auto",
    stop_after: Annotated[int, typer.Option(min=0, help="End early, at this update of the schedule; 0: never.")] = (
        _TRAIN.stop_after
    ),
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in the folder.")] = _TRAIN.resume,
    install: Annotated[bool, typer.Option(help="List the model with the others when it is done.")] = _TRAIN.install,
    more: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting of synthetic images.")
    ] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a filter that keeps one kind of object, from crops; or one that removes what moves, from a movie."""
    from napari_cellenhance.workflows.train_semantic import run

    if (data is None) == (movie is None):
        raise ParameterError("give either a folder of crops, or --movie with a file")
    options = parse_settings(more or [])
    options |= {"is_taken_apart": True} if apart else {}
    options |= {"is_product": True} if colour else {}
    asked = {"n_steps": steps, "batch_size": batch_size, "learning_rate": learning_rate}
    request = of_preset(
        preset, data=movie if data is None else data, out=out, is_movie=movie is not None, axes=axes,
        channels=parse_channels(channels), lag=lag, polarity=polarity, is_swapped=swap, scaling=scaling, low=low,
        high=high, is_complement=complement, model_id=model_id, title=title, init_from=init_from, loss=loss,
        width=width, patch_px=patch, validation_fraction=aside, time_limit_s=time, schedule=schedule,
        validate_every=validate_every, patience=patience, average=average, keep=keep, seed=seed, device=device,
        precision=precision, stop_after=stop_after, resume=resume, install=install, recipe_options=options,
        **{name: value for name, value in asked.items() if value is not None},
    )  # fmt: skip
    with ProgressLine(quiet) as line, stoppable() as is_cancelled:
        result = run(request, on_progress=line.show, is_cancelled=is_cancelled)
        is_stopped = is_cancelled()
    if not quiet:
        for sentence in result.warnings:
            typer.echo(f"note:    {sentence}")
        typer.echo(f"model:   {result.model_id}{'' if install else ' (not installed)'}")
        typer.echo(f"weights: {result.weights}")
        typer.echo(f"card:    {result.card}")
        typer.echo(f"curves:  {result.history}")
        told = ", ".join(f"{name} {value:.3f}" for name, value in result.scores.items() if not name.startswith("of_"))
        typer.echo(f"on images that were kept aside: {told}; best at update {result.best_step}; {result.stopped}")
    leave(is_stopped=is_stopped)


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
