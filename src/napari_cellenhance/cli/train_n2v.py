"""``cellenhance train n2v``: denoising learned from noisy images alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from napari_cellenhance.cli.options import (
    Average,
    Channels,
    DataRoot,
    Depth,
    FinerSettings,
    Install,
    KeepWeights,
    ModelId,
    Patch,
    PatchesPerUpdate,
    Patience,
    Resume,
    RunFolder,
    Seed,
    Steps,
    StopAfter,
    TimeLimit,
    Title,
    TrainDevice,
    ValidateEvery,
    Width,
)
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
from napari_cellenhance.workflows.denoise import DEFAULT_DENOISER
from napari_cellenhance.workflows.train_n2v import N2VRequest

__all__ = ["train_n2v"]

_TRAIN = N2VRequest(data="", out="")


def train_n2v(
    data: Annotated[Path, typer.Argument(help="Noisy image file, a folder of them, or a JSON list of sources.")],
    out: RunFolder,
    data_root: DataRoot = None,
    axes: Annotated[str, typer.Option(help="Letters of TCZYX, S for colour. [default: as in each file]")] = "",
    channels: Channels = "all",
    model_id: ModelId = _TRAIN.model_id,
    title: Title = _TRAIN.title,
    init_from: Annotated[
        str | None, typer.Option(help=f"Denoiser to start from, such as {DEFAULT_DENOISER}.")
    ] = _TRAIN.init_from,
    variant: Annotated[
        Literal["n2v", "n2v2"], typer.Option(help="N2V2 keeps checkerboards away; N2V is the first form.")
    ] = _TRAIN.variant,
    volumes: Annotated[bool, typer.Option("--3d", help="Learn from volumes (Z stacks) instead of planes.")] = False,
    joint: Annotated[
        bool, typer.Option("--joint", help="One network that looks at all channels; else one for each.")
    ] = _TRAIN.is_joint,
    has_classes: Annotated[
        bool, typer.Option("--with-classes", help="Keep outputs for a segmentation that goes on from it (VoidSeg).")
    ] = _TRAIN.has_classes,
    statistics: Annotated[
        Literal["stored", "image"], typer.Option(help="Grey values of the training images, or of each image itself.")
    ] = _TRAIN.statistics,
    structure: Annotated[
        Literal["none", "horizontal", "vertical", "cross", "square"],
        typer.Option(help="Noise that neighbours share (structN2V)."),
    ] = _TRAIN.structure,
    reach: Annotated[int, typer.Option(min=0, help="How far it reaches to either side, in pixels.")] = _TRAIN.reach_px,
    percent: Annotated[float, typer.Option(help="Share of blind spots among all pixels, in percent.")] = _TRAIN.percent,
    radius: Annotated[int, typer.Option(min=1, help="Of the window that replacements come from, in pixels.")] = (
        _TRAIN.radius_px
    ),
    depth: Depth = _TRAIN.depth,
    width: Width = _TRAIN.width,
    kernel: Annotated[int, typer.Option(min=1, help="Side of a convolution kernel, odd.")] = _TRAIN.kernel_px,
    patch: Patch = _TRAIN.patch_px,
    steps: Steps = _TRAIN.n_steps,
    time: TimeLimit = (_TRAIN.time_limit_s),
    batch_size: PatchesPerUpdate = _TRAIN.batch_size,
    learning_rate: Annotated[float, typer.Option(help="Of Adam; 0: 1e-3.")] = _TRAIN.learning_rate,
    schedule: Annotated[
        Literal["cosine", "constant", "plateau"], typer.Option(help="Of the learning rate.")
    ] = _TRAIN.schedule,
    validate_every: ValidateEvery = _TRAIN.validate_every,
    patience: Patience = (_TRAIN.patience),
    average: Average = (_TRAIN.average),
    keep: KeepWeights = _TRAIN.keep,
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
    """Train a denoiser on noisy images alone; Ctrl-C stops and keeps the best weights so far."""
    from napari_cellenhance.workflows.train_n2v import run

    request = N2VRequest(
        data=data, out=out, data_root=data_root, axes=axes, channels=parse_channels(channels), model_id=model_id,
        title=title, init_from=init_from, variant=variant, n_dims=3 if volumes else 2, is_joint=joint,
        has_classes=has_classes, statistics=statistics, structure=structure, reach_px=reach, percent=percent,
        radius_px=radius, depth=depth, width=width, kernel_px=kernel, patch_px=patch, n_steps=steps,
        time_limit_s=time, batch_size=batch_size, learning_rate=learning_rate, schedule=schedule,
        validate_every=validate_every, patience=patience, average=average, keep=keep, seed=seed, device=device,
        precision=precision, stop_after=stop_after, resume=resume, install=install,
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
        typer.echo(
            f"squared error at blind spots that were kept aside: {result.best_total:.4f} of the variance, at update "
            f"{result.best_step}; {result.stopped}"
        )
    leave(is_stopped=is_stopped)
