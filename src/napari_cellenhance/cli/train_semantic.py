"""``cellenhance train semantic``: a filter that keeps one kind of object, or removes what moves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from napari_cellenhance.cli.words import (
    Debug,
    Precision,
    ProgressLine,
    Quiet,
    leave,
    parse_channels,
    parse_settings,
    stoppable,
)
from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.synthetic_pairs import PRESETS
from napari_cellenhance.workflows.train_semantic import SemanticRequest, of_preset

__all__ = ["train_semantic"]

_TRAIN = SemanticRequest(data="", out="")


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
