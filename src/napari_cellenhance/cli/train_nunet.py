"""``cellenhance train nunet``: the network of the paper, on images of your own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from napari_cellenhance.cli.words import Debug, ProgressLine, Quiet, leave, parse_settings, stoppable
from napari_cellenhance.workflows.train import TrainRequest

__all__ = ["train_nunet"]

_TRAIN = TrainRequest(data="", out="")


def train_nunet(
    data: Annotated[Path, typer.Argument(help="JSON list of image sources, or a folder of images.")],
    out: Annotated[Path, typer.Option(help="Folder for weights, card and curves; made if missing.")],
    perception: Annotated[
        str,
        typer.Option(
            help="Perceptual network: squeezenet or torchvision (its VGG-19), both fetched by torchvision; a file of "
            "either, or of a distilled VGG-19 (.safetensors); random (tests); none learns from labels alone."
        ),
    ] = _TRAIN.perception,
    teach: Annotated[
        Literal["images", "labels", "both"],
        typer.Option(help="What to learn from: images alone, their labels, or both."),
    ] = _TRAIN.teach,
    masks: Annotated[
        Path | None,
        typer.Option(help="Folder of label images that show another morphology. [default: labels, or blobs]"),
    ] = None,
    data_root: Annotated[Path | None, typer.Option(help="What the paths in the JSON are relative to.")] = None,
    object_diameter: Annotated[float | None, typer.Option(help="For a folder: size of an object, in pixels.")] = None,
    dark: Annotated[bool, typer.Option("--dark/--bright", help="For a folder: objects are dark.")] = (
        _TRAIN.objects_are_dark
    ),
    model_id: Annotated[str, typer.Option("--id", help="Name of the model in files and commands.")] = _TRAIN.model_id,
    title: Annotated[str, typer.Option(help="Name of the model as people read it.")] = _TRAIN.title,
    init_from: Annotated[str | None, typer.Option(help="Model to fine-tune.")] = _TRAIN.init_from,
    norm: Annotated[
        Literal["frozen", "instance"],
        typer.Option(help="Norms of a new network: statistics of the training data, or (published) of each image."),
    ] = _TRAIN.norm,
    strength: Annotated[
        float | None, typer.Option(help="Train one fixed strength. [default: one network for all]")
    ] = _TRAIN.strength,
    style_groups: Annotated[int, typer.Option(min=1, help="Groups of mask shapes.")] = _TRAIN.style_groups,
    n_masks: Annotated[int, typer.Option(min=1, help="Masks in the style bank.")] = _TRAIN.n_masks,
    validation_fraction: Annotated[float, typer.Option(help="Share of images kept for validation.")] = (
        _TRAIN.validation_fraction
    ),
    steps: Annotated[int, typer.Option(min=1, help="Updates.")] = _TRAIN.n_steps,
    batch_size: Annotated[int, typer.Option(min=1, help="Crops per update.")] = _TRAIN.batch_size,
    crop: Annotated[int, typer.Option(min=1, help="Side of a crop, in pixels.")] = _TRAIN.crop_px,
    learning_rate: Annotated[float, typer.Option(help="Of Adam.")] = _TRAIN.learning_rate,
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
    precision: Annotated[Literal["auto", "float32", "bfloat16"], typer.Option(help="Arithmetic.")] = "auto",
    stop_after: Annotated[int, typer.Option(min=0, help="End early, at this update of the schedule; 0: never.")] = (
        _TRAIN.stop_after
    ),
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in the folder.")] = _TRAIN.resume,
    install: Annotated[bool, typer.Option(help="List the model with the others when it is done.")] = _TRAIN.install,
    more: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A finer setting.")] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a NU-Net; Ctrl-C stops and keeps the best weights so far."""
    from napari_cellenhance.workflows.train import run

    request = TrainRequest(
        data=data, out=out, perception=perception, teach=teach, masks=masks, data_root=data_root,
        object_diameter_px=object_diameter, objects_are_dark=dark, model_id=model_id, title=title,
        init_from=init_from, norm=norm, strength=strength, style_groups=style_groups, n_masks=n_masks,
        validation_fraction=validation_fraction, n_steps=steps, batch_size=batch_size, crop_px=crop,
        learning_rate=learning_rate, validate_every=validate_every, patience=patience, average=average, keep=keep,
        stop_after=stop_after, seed=seed, device=device, precision=precision, resume=resume, install=install,
        recipe_options=parse_settings(more or []),
    )  # fmt: skip
    with ProgressLine(quiet) as line, stoppable() as is_cancelled:
        result = run(request, on_progress=line.show, is_cancelled=is_cancelled)
        is_stopped = is_cancelled()
    if not quiet:
        typer.echo(f"model:   {result.model_id}{'' if install else ' (not installed)'}")
        typer.echo(f"weights: {result.weights}")
        typer.echo(f"card:    {result.card}")
        typer.echo(f"curves:  {result.history}")
        typer.echo(f"best at step {result.best_step} (validation loss {result.best_total:.4g}); {result.stopped}")
    leave(is_stopped=is_stopped)
