"""``cellenhance train voidseg``: segmentation from few labels, with denoising."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from napari_cellenhance.cli.options import (
    Average,
    CropsPerUpdate,
    DataRoot,
    FinerSettings,
    Install,
    LearningRate,
    ModelId,
    Patience,
    Resume,
    RunFolder,
    Schedule,
    Seed,
    Steps,
    StopAfter,
    TimeLimit,
    Title,
    TrainDevice,
    ValidateEvery,
)
from napari_cellenhance.cli.words import Debug, Precision, ProgressLine, Quiet, leave, parse_settings, stoppable
from napari_cellenhance.workflows.train_voidseg import VoidSegRequest, VoidSegResult

__all__ = ["train_voidseg"]

_TRAIN = VoidSegRequest(data="", out="")


def train_voidseg(
    data: Annotated[
        Path, typer.Argument(help="JSON list of labelled sources, or a folder of images with label images beside them.")
    ],
    out: RunFolder,
    data_root: DataRoot = None,
    model_id: ModelId = _TRAIN.model_id,
    title: Title = _TRAIN.title,
    object_name: Annotated[str, typer.Option("--object", help="What the objects are, such as nucleus.")] = (
        _TRAIN.object_name
    ),
    network: Annotated[
        Literal["unet", "stardist"], typer.Option(help="Three classes of a U-Net, or StarDist.")
    ] = _TRAIN.network,
    scheme: Annotated[
        Literal["baseline", "sequential", "finetune", "finetune-sequential"],
        typer.Option(help="Look at the image or at the denoised one; start at random or from the denoiser."),
    ] = _TRAIN.scheme,
    denoiser: Annotated[
        str, typer.Option(metavar="MODEL", help="Denoiser of every scheme but the baseline; see 'train n2v'.")
    ] = _TRAIN.denoiser,
    joint: Annotated[
        bool, typer.Option("--joint", help="Four outputs: the denoised image beside the classes.")
    ] = _TRAIN.has_denoise_output,
    labelled: Annotated[int, typer.Option(min=0, help="Learn from so many of the images only; 0: all.")] = (
        _TRAIN.n_labelled
    ),
    depth: Annotated[int, typer.Option(min=1, help="How often the U-Net halves the resolution.")] = _TRAIN.depth,
    width: Annotated[int, typer.Option(min=1, help="Maps of the U-Net at full resolution.")] = _TRAIN.width,
    steps: Steps = _TRAIN.n_steps,
    time: TimeLimit = (_TRAIN.time_limit_s),
    batch_size: CropsPerUpdate = _TRAIN.batch_size,
    crop: Annotated[int, typer.Option(min=16, help="Side of a crop, in pixels.")] = _TRAIN.crop_px,
    learning_rate: LearningRate = _TRAIN.learning_rate,
    schedule: Schedule = _TRAIN.schedule,
    validate_every: ValidateEvery = _TRAIN.validate_every,
    patience: Patience = (_TRAIN.patience),
    average: Average = (_TRAIN.average),
    seed: Seed = _TRAIN.seed,
    device: TrainDevice = _TRAIN.device,
    precision: Precision = "auto",
    stop_after: StopAfter = (_TRAIN.stop_after),
    resume: Resume = _TRAIN.resume,
    install: Install = _TRAIN.install,
    more: FinerSettings = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train VoidSeg or StarDist on few labelled objects; Ctrl-C stops and keeps the best weights so far."""
    from napari_cellenhance.workflows.train_voidseg import run

    request = VoidSegRequest(
        data=data, out=out, data_root=data_root, model_id=model_id, title=title, object_name=object_name,
        network=network, scheme=scheme, denoiser=denoiser, has_denoise_output=joint, n_labelled=labelled, depth=depth,
        width=width, n_steps=steps, time_limit_s=time, batch_size=batch_size, crop_px=crop,
        learning_rate=learning_rate, schedule=schedule, validate_every=validate_every, patience=patience,
        average=average, seed=seed, device=device, precision=precision, stop_after=stop_after, resume=resume,
        install=install, recipe_options=parse_settings(more or []),
    )  # fmt: skip
    with ProgressLine(quiet) as line, stoppable() as is_cancelled:
        result = run(request, on_progress=line.show, is_cancelled=is_cancelled)
        is_stopped = is_cancelled()
    if not quiet:
        for sentence in _told(result, install):
            typer.echo(sentence)
    leave(is_stopped=is_stopped)


def _told(result: VoidSegResult, is_installed: bool) -> tuple[str, ...]:
    kept = "on what it learned from: too little to keep some aside"
    if result.held_out != "none":
        kept = f"on {result.held_out} that were kept aside"
    score = f"AP {result.average_precision:.3f} at a threshold of {result.threshold:.2f} {kept}"
    return (
        f"model:   {result.model_id}{'' if is_installed else ' (not installed)'}",
        f"weights: {result.weights}",
        f"card:    {result.card}",
        f"curves:  {result.history}",
        f"{score}; best at update {result.best_step}; {result.stopped}",
    )
